//! A pass that the settler asks the second settler to make, and what has become of it.
#![expect(unsafe_code, reason = "names this process")]

use crate::model::partition::Partition;
use crate::pg::shared::latch;
use crate::pg::shared::memory::{Lock, with_lock};
use crate::pg::shared::text::SharedText;
use pgrx::pg_sys;
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
    incarnation: AtomicU32,
    transaction: AtomicU32,
    up_to: AtomicI64,
    settled: AtomicI64,
    removed_events: AtomicU64,
    removed_bytes: AtomicU64,
    reason: SharedText,
    pid: AtomicI32,
    /// Process number, plus 1.
    process: AtomicU32,
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
        self.incarnation.store(incarnation, Ordering::Relaxed);
        self.state.store(ASKED, Ordering::SeqCst);
        let process = self.process.load(Ordering::SeqCst);
        if process > 0 {
            latch::wake(process as usize - 1);
        }
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
    /// to its end. The request is free then.
    pub fn result(&self) -> Option<(Partition, u32, Option<PassEnd>)> {
        let state = self.state.load(Ordering::SeqCst);
        if state != DONE && state != FAILED {
            return None;
        }
        let partition = self.partition();
        let incarnation = self.incarnation.load(Ordering::Relaxed);
        let end = (state == DONE).then(|| PassEnd {
            up_to: self.up_to.load(Ordering::Relaxed),
            settled: self.settled.load(Ordering::Relaxed),
            removed_events: self.removed_events.load(Ordering::Relaxed),
            removed_bytes: self.removed_bytes.load(Ordering::Relaxed),
            transaction: self.transaction.load(Ordering::Relaxed),
            reason: self.reason.get(),
        });
        self.state.store(FREE, Ordering::SeqCst);
        Some((partition?, incarnation, end))
    }

    /// Takes the request, in the second settler: a partition, and the incarnation of its store.
    pub fn take(&self) -> Option<(Partition, u32)> {
        self.state.compare_exchange(ASKED, TAKEN, Ordering::SeqCst, Ordering::SeqCst).ok()?;
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

    /// Makes this process the second settler, unless there is one.
    pub fn claim(&self) -> bool {
        with_lock(Lock::Workers, || {
            let is_free = self.pid().is_none();
            if is_free {
                // SAFETY: set in every process that uses shared memory.
                let (process, pid) = unsafe { ((*pg_sys::MyProc).pgprocno, pg_sys::MyProcPid) };
                self.pid.store(pid, Ordering::SeqCst);
                self.process.store(process as u32 + 1, Ordering::SeqCst);
            }
            is_free
        })
    }

    /// The second settler ends. A pass that it has not ended has failed.
    pub fn leave(&self) {
        let _ = self.state.compare_exchange(TAKEN, FAILED, Ordering::SeqCst, Ordering::SeqCst);
        with_lock(Lock::Workers, || {
            self.process.store(0, Ordering::SeqCst);
            self.pid.store(0, Ordering::SeqCst);
        });
    }

    /// The second settler; `None` if there is none.
    pub fn pid(&self) -> Option<i32> {
        Some(self.pid.load(Ordering::SeqCst)).filter(|pid| *pid != 0)
    }
}
