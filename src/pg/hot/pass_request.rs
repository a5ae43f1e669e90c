//! A pass that the settler asks the second settler to make, and what has become of it.

use crate::model::partition::Partition;
use crate::pg::session::xact::database_oid;
use crate::pg::shared::serving::Serving;
use crate::pg::shared::text::SharedText;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering};

/// Nothing is asked for.
const FREE: u32 = 0;
/// The settler has asked.
const ASKED: u32 = 1;
/// The second settler makes the pass.
const TAKEN: u32 = 2;
/// It has ended.
const DONE: u32 = 3;
/// It was not made, or not to its end.
const FAILED: u32 = 4;

/// The request, and the process that serves it. Zeroed memory is valid. Only the settler moves it on from
/// `FREE`, `DONE` and `FAILED`, and only the second settler from `TAKEN`; the other fields are written before
/// the state that shows them.
#[repr(C, align(64))]
pub struct PassRequest {
    state: AtomicU32,
    partition: AtomicI32,
    /// A copy of a database has stores of the same incarnation.
    database: AtomicU32,
    incarnation: AtomicU32,
    transaction: AtomicU32,
    up_to: AtomicI64,
    settled: AtomicI64,
    removed_events: AtomicU64,
    removed_bytes: AtomicU64,
    reason: SharedText,
    /// the second settler
    pub serving: Serving,
}

/// How a pass has ended.
#[derive(Clone, Debug)]
pub struct PassEnd {
    /// up to which batch it has settled
    pub up_to: i64,
    /// up to which batch nothing is left
    pub settled: i64,
    /// how many events were removed from the table
    pub removed_events: u64,
    /// and how many bytes of bodies
    pub removed_bytes: u64,
    /// the transaction that has removed them
    pub transaction: u32,
    /// why a stream was passed over
    pub reason: Option<String>,
}

impl PassRequest {
    /// Asks for a pass over a partition of the store of this incarnation. The request must be free.
    pub fn ask(&self, partition: Partition, incarnation: u32) {
        self.partition.store(partition.number(), Ordering::Relaxed);
        self.database.store(database_oid(), Ordering::Relaxed);
        self.incarnation.store(incarnation, Ordering::Relaxed);
        self.state.store(ASKED, Ordering::SeqCst);
        self.serving.wake();
    }

    /// Takes the request back, unless the second settler has begun.
    pub fn withdraw(&self) -> bool {
        self.state.compare_exchange(ASKED, FREE, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Whether the second settler is to begin with something.
    pub fn is_asked(&self) -> bool {
        self.state.load(Ordering::SeqCst) == ASKED
    }

    /// Whether the second settler makes a pass.
    pub fn is_taken(&self) -> bool {
        self.state.load(Ordering::SeqCst) == TAKEN
    }

    /// The partition that is asked about, until the settler knows what has become of it.
    pub fn partition(&self) -> Option<Partition> {
        if self.state.load(Ordering::SeqCst) == FREE {
            return None;
        }
        Partition::new(self.partition.load(Ordering::Relaxed))
    }

    /// What has become of it, and of which store, when that is known: `None` for the pass if it was not made
    /// to its end, and nothing for one in another database. The request is free then.
    pub fn result(&self) -> Option<(Partition, u32, Option<PassEnd>)> {
        let state = self.state.load(Ordering::SeqCst);
        if state != DONE && state != FAILED {
            return None;
        }
        let partition = self.partition();
        let incarnation = self.incarnation.load(Ordering::Relaxed);
        let is_here = self.is_of_this_database();
        let end = (state == DONE).then(|| PassEnd {
            up_to: self.up_to.load(Ordering::Relaxed),
            settled: self.settled.load(Ordering::Relaxed),
            removed_events: self.removed_events.load(Ordering::Relaxed),
            removed_bytes: self.removed_bytes.load(Ordering::Relaxed),
            transaction: self.transaction.load(Ordering::Relaxed),
            reason: self.reason.get(),
        });
        self.state.store(FREE, Ordering::SeqCst);
        Some((partition?, incarnation, end)).filter(|_| is_here)
    }

    /// Whether it is about this database: another one may have got the name of the one that is served.
    fn is_of_this_database(&self) -> bool {
        self.database.load(Ordering::Relaxed) == database_oid()
    }

    /// Takes the request, in the second settler: a partition, and the incarnation of its store.
    pub fn take(&self) -> Option<(Partition, u32)> {
        self.state.compare_exchange(ASKED, TAKEN, Ordering::SeqCst, Ordering::SeqCst).ok()?;
        if !self.is_of_this_database() {
            self.finish(None);
            return None;
        }
        let incarnation = self.incarnation.load(Ordering::Relaxed);
        self.partition().map(|partition| (partition, incarnation))
    }

    /// The pass that was taken has ended; `None`: not to its end.
    pub fn finish(&self, end: Option<PassEnd>) {
        let Some(end) = end else {
            self.state.store(FAILED, Ordering::SeqCst);
            return;
        };
        self.up_to.store(end.up_to, Ordering::Relaxed);
        self.settled.store(end.settled, Ordering::Relaxed);
        self.removed_events.store(end.removed_events, Ordering::Relaxed);
        self.removed_bytes.store(end.removed_bytes, Ordering::Relaxed);
        self.transaction.store(end.transaction, Ordering::Relaxed);
        self.reason.set(end.reason.as_deref().unwrap_or_default());
        self.state.store(DONE, Ordering::SeqCst);
    }

    /// The second settler ends. A pass that it has not ended has failed.
    pub fn leave(&self) {
        let _ = self.state.compare_exchange(TAKEN, FAILED, Ordering::SeqCst, Ordering::SeqCst);
        self.serving.leave();
    }
}
