//! Shared memory about hot partitions: which streams may have a tail, and which streams are being
//! appended to. It says more than is true, never less, so most calls need not look into the tables.
#![expect(unsafe_code, reason = "lives in PostgreSQL's shared memory")]

use crate::model::memory::push;
use crate::model::partition::{PARTITIONS, Partition};
use crate::pg::error::Error;
use crate::pg::session::xact::{database_oid, ends_transaction};
use crate::pg::shared::memory::{Area, Lock, with_lock};
use crate::pg::tables::relation::sequence_oid;
use crate::pg::tables::schema::Sequence;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Streams of a partition share this many marks.
const MARKS: usize = 1 << 15;

/// Streams share this many counts of appends.
const COUNTS: usize = 1 << 16;

/// No batch comes this far: nothing is known.
const UNKNOWN: i64 = i64::MAX;

/// What is known of the batches of a partition.
#[repr(C, align(64))]
struct PartitionMarks {
    /// Streams may have events in batches up to this one, whatever their marks say: those that were
    /// written before the marks were kept. `UNKNOWN`: nobody keeps them.
    base: AtomicI64,
    /// Up to this batch everything is settled.
    settled: AtomicI64,
    /// The same for all snapshots.
    settled_for_all: AtomicI64,
    /// The last batch that was begun.
    last: AtomicI64,
    /// The transaction that writes batches, or has written the last ones.
    writer: AtomicU32,
}

#[repr(C, align(64))]
struct Shared {
    /// The store that the marks are of: database and incarnation; 0: of none.
    store: AtomicU64,
    partitions: [PartitionMarks; PARTITIONS],
    /// Transactions that append to streams, by hash.
    appending: [AtomicU32; COUNTS],
    /// By partition and hash: the newest batch that has an event of such a stream.
    newest: [[AtomicI64; MARKS]; PARTITIONS],
}

/// The area.
pub static AREA: Area = Area {
    name: c"allsource hot partitions",
    bytes: || size_of::<Shared>(),
    set_up: |start| {
        // SAFETY: zeroed memory of this size is a valid `Shared`: all are atomics.
        let shared = unsafe { &*start.cast::<Shared>() };
        for partition in &shared.partitions {
            partition.base.store(UNKNOWN, Ordering::Relaxed);
        }
    },
    start: AtomicPtr::new(std::ptr::null_mut()),
};

fn shared() -> Option<&'static Shared> {
    // SAFETY: the area is one, and outlives the process.
    AREA.start().ok().map(|start| unsafe { &*start.cast::<Shared>() })
}

/// The store of this database, given its incarnation, as the marks name it.
fn store_of(incarnation: u32) -> u64 {
    u64::from(database_oid()) << 32 | u64::from(incarnation)
}

/// What shared memory knows of a partition of this store.
#[derive(Clone, Copy)]
pub struct Marks {
    partition: Partition,
    of_partition: &'static PartitionMarks,
    newest: &'static [AtomicI64; MARKS],
}

impl Marks {
    /// `None` if nothing is known of this store.
    pub fn of(partition: Partition) -> Result<Option<Self>, Error> {
        let Some(shared) = shared() else { return Ok(None) };
        let store = store_of(sequence_oid(Sequence::Position)?.to_u32());
        let is_known = shared.store.load(Ordering::SeqCst) == store;
        Ok(is_known.then(|| Self::at(shared, partition)))
    }

    fn at(shared: &'static Shared, partition: Partition) -> Self {
        let index = partition.index();
        Self { partition, of_partition: &shared.partitions[index], newest: &shared.newest[index] }
    }

    /// The same, for who writes or settles the batches of this store, whose incarnation is given: from now
    /// on the marks are of it.
    pub fn claim(partition: Partition, incarnation: u32) -> Option<Self> {
        let shared = shared()?;
        let store = store_of(incarnation);
        with_lock(Lock::Workers, || {
            if shared.store.load(Ordering::SeqCst) == store {
                return;
            }
            shared.store.store(0, Ordering::SeqCst);
            for (marks, newest) in shared.partitions.iter().zip(&shared.newest) {
                marks.base.store(UNKNOWN, Ordering::SeqCst);
                for mark in [&marks.settled, &marks.settled_for_all, &marks.last] {
                    mark.store(0, Ordering::SeqCst);
                }
                marks.writer.store(0, Ordering::SeqCst);
                newest.iter().for_each(|mark| mark.store(0, Ordering::SeqCst));
            }
            shared.store.store(store, Ordering::SeqCst);
        });
        Some(Self::at(shared, partition))
    }

    /// The partition.
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// Whether a stream of this hash may have events in a batch after `settled`. `for_all`: in one that
    /// any snapshot shows, otherwise in one that is there now.
    pub fn may_have_tail(&self, key: u64, settled: i64, for_all: bool) -> bool {
        let marks = self.of_partition;
        // SeqCst: see `note_appending`.
        let newest = self.newest[key as usize % MARKS].load(Ordering::SeqCst);
        let base = marks.base.load(Ordering::SeqCst);
        let floor = if for_all { &marks.settled_for_all } else { &marks.settled };
        newest.max(base) > settled.max(floor.load(Ordering::SeqCst))
    }

    /// Whether marks are kept: whether [`Self::keep`] was called.
    pub fn are_kept(&self) -> bool {
        self.of_partition.base.load(Ordering::SeqCst) != UNKNOWN
    }

    /// The marks are kept from now on; `last` is the number of the last batch that there is or was.
    pub fn keep(&self, last: i64) {
        self.of_partition.last.fetch_max(last, Ordering::SeqCst);
        let _ = self.of_partition.base.compare_exchange(
            UNKNOWN,
            last,
            Ordering::SeqCst,
            Ordering::SeqCst,
        );
    }

    /// Nothing is known any more: somebody has put other rows into the table.
    pub fn reset(&self) {
        let marks = self.of_partition;
        marks.base.store(UNKNOWN, Ordering::SeqCst);
        marks.settled.store(0, Ordering::SeqCst);
        marks.settled_for_all.store(0, Ordering::SeqCst);
    }

    /// The number of the next batch.
    pub fn next_batch(&self) -> i64 {
        self.of_partition.last.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The number of the last batch that was begun.
    pub fn last_batch(&self) -> i64 {
        self.of_partition.last.load(Ordering::SeqCst)
    }

    /// This transaction is about to write batches.
    pub fn begin_writing(&self) {
        // SAFETY: called in a transaction that may write.
        let transaction = unsafe { pg_sys::GetTopTransactionId() };
        self.of_partition.writer.store(transaction.into_inner(), Ordering::SeqCst);
    }

    /// Marks a stream of this hash as having events in a batch. Returns whether they can be put there: no
    /// transaction is appending to such a stream.
    pub fn mark(&self, key: u64, batch_no: i64) -> bool {
        let is_free = || {
            shared().is_none_or(|shared| {
                shared.appending[key as usize % COUNTS].load(Ordering::SeqCst) == 0
            })
        };
        // Mostly it is, and otherwise there is no need for a mark.
        if !is_free() {
            return false;
        }
        self.newest[key as usize % MARKS].fetch_max(batch_no, Ordering::SeqCst);
        is_free()
    }

    /// Waits for the transaction that writes batches, if that is another one.
    pub fn wait_for_writer(&self) {
        let writer = self.of_partition.writer.load(Ordering::SeqCst);
        if writer == 0 {
            return;
        }
        let writer = pg_sys::TransactionId::from(writer);
        // SAFETY: looks at shared memory, and waits as for the lock of a row.
        unsafe {
            if writer != pg_sys::GetTopTransactionIdIfAny()
                && pg_sys::TransactionIdIsInProgress(writer)
            {
                let (relation, place) = (std::ptr::null_mut(), std::ptr::null_mut());
                pg_sys::XactLockTableWait(writer, relation, place, pg_sys::XLTW_Oper::XLTW_None);
            }
        }
    }

    /// Everything up to this batch is settled.
    pub fn set_settled(&self, batch_no: i64) {
        self.of_partition.settled.fetch_max(batch_no, Ordering::SeqCst);
    }

    /// The same for all snapshots.
    pub fn set_settled_for_all(&self, batch_no: i64) {
        self.of_partition.settled_for_all.fetch_max(batch_no, Ordering::SeqCst);
    }

    /// Up to which batch everything is settled.
    pub fn settled(&self) -> i64 {
        self.of_partition.settled.load(Ordering::SeqCst)
    }

    /// Up to which batch everything is settled for all snapshots.
    pub fn settled_for_all(&self) -> i64 {
        self.of_partition.settled_for_all.load(Ordering::SeqCst)
    }
}

thread_local! {
    static CALLBACK_SET: Cell<bool> = const { Cell::new(false) };
    /// The counts that this transaction has raised.
    static NOTED: RefCell<Vec<u16>> = const { RefCell::new(Vec::new()) };
    /// The same, a bit for each count.
    static IS_NOTED: RefCell<[u64; COUNTS / 64]> = const { RefCell::new([0; COUNTS / 64]) };
}

/// Notes that this transaction appends to a stream of this hash, until it ends. Called before the caller
/// looks for a tail of the stream.
pub fn note_appending(key: u64) -> Result<(), Error> {
    let Some(shared) = shared() else { return Ok(()) };
    let count = key as usize % COUNTS;
    let (word, bit) = (count / 64, 1 << (count % 64));
    if IS_NOTED.with_borrow(|noted| noted[word] & bit != 0) {
        return Ok(());
    }
    watch_transactions();
    NOTED.with_borrow_mut(|noted| push(noted, count as u16))?;
    IS_NOTED.with_borrow_mut(|noted| noted[word] |= bit);
    // SeqCst: either this transaction sees the worker's mark, or the worker sees that it is noted.
    shared.appending[count].fetch_add(1, Ordering::SeqCst);
    Ok(())
}

fn watch_transactions() {
    if !CALLBACK_SET.get() {
        // SAFETY: the callback and its registration live as long as the backend.
        unsafe { pg_sys::RegisterXactCallback(Some(transaction_event), std::ptr::null_mut()) }
        CALLBACK_SET.set(true);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn transaction_event(
    event: pg_sys::XactEvent::Type,
    _argument: *mut std::ffi::c_void,
) {
    let Some(shared) = shared().filter(|_| ends_transaction(event)) else { return };
    NOTED.with_borrow_mut(|noted| {
        for count in noted.drain(..).map(usize::from) {
            shared.appending[count].fetch_sub(1, Ordering::SeqCst);
            IS_NOTED.with_borrow_mut(|noted| noted[count / 64] &= !(1 << (count % 64)));
        }
        noted.shrink_to(64);
    });
}
