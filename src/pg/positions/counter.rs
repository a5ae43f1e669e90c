//! Positions: the counter in shared memory, its durable reservation, and the registry of those who
//! have taken positions and not yet ended their transaction.
//!
//! Invariants:
//!
//! 1. *Never twice.* A position is used only when the sequence `position_seq` holds, durably, a
//!    number at least as high. After a restart the counter begins above that number.
//! 2. *Nothing below the safe position appears later.* A backend publishes a lower bound in its
//!    slot before it takes positions from the counter, and clears the slot when its transaction has
//!    ended, which PostgreSQL reports after the transaction has become visible. A reader loads the
//!    counter first and the slots afterwards: a position that is below the counter was taken after
//!    its bound had been published, so the reader sees the bound, or the transaction has ended.
//!
//! Databases of a server have counters of their own; a slot says whose positions it is about.
#![expect(unsafe_code, reason = "lives in PostgreSQL's shared memory")]

use crate::pg::error::{Error, Obstacle};
use crate::pg::session::xact::{in_recovery, now_us, transaction_start_us};
use crate::pg::shared::memory::{Area, Lock, with_lock};
use crate::pg::tables::names::is_database;
use crate::pg::tables::relation::sequence_oid;
use crate::pg::tables::rights::{as_user, relation_owner};
use crate::pg::tables::schema::Sequence;
use crate::positions::{Counter, Slot};
use pgrx::pg_sys;
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Databases of one server that can have positions at the same time.
const DATABASES_MAX: usize = 128;

/// How many positions are reserved ahead; what a restart skips at most.
const RESERVE_AHEAD: u64 = 65_536;

/// The counter of one database. What is said of it is changed under the lock.
#[repr(C, align(64))]
struct DatabaseCounter {
    database: AtomicU32,
    /// Number of `position_seq`: another one means another incarnation of the extension.
    sequence: AtomicU32,
    positions: Counter,
    /// The highest position that the sequence holds durably.
    reserved: AtomicU64,
}

/// What a backend has taken. A line of its own, so that writers do not disturb each other.
#[repr(C, align(64))]
struct BackendSlot {
    taken: Slot,
    /// Index of the counter.
    counter: AtomicU32,
    /// When the transaction began.
    since_us: AtomicI64,
}

/// The structure in shared memory, followed by `slots_len` slots.
#[repr(C)]
struct Registry {
    counters: [DatabaseCounter; DATABASES_MAX],
    slots_len: u32,
    slots: [BackendSlot; 0],
}

thread_local! {
    /// This backend's counter, and the sequence that it belongs to.
    static MY_COUNTER: Cell<Option<(usize, pg_sys::Oid)>> = const { Cell::new(None) };
    static CALLBACK_SET: Cell<bool> = const { Cell::new(false) };
    /// Whether the transaction holds locks of streams.
    static HOLDS_STREAMS: Cell<bool> = const { Cell::new(false) };
}

/// The registry in shared memory.
pub static AREA: Area = Area {
    name: c"allsource positions",
    bytes: memory_bytes,
    set_up,
    start: AtomicPtr::new(std::ptr::null_mut()),
};

fn slots_len() -> usize {
    // SAFETY: set before the request hooks run.
    unsafe { pg_sys::MaxBackends as usize }
}

fn memory_bytes() -> usize {
    size_of::<Registry>() + slots_len() * size_of::<BackendSlot>()
}

/// Zeroed memory is a valid registry but for the number of slots: all fields are atomics or
/// integers.
unsafe fn set_up(start: *mut u8) {
    // SAFETY: `start` has `memory_bytes` bytes, on a boundary of 64.
    unsafe { (*start.cast::<Registry>()).slots_len = slots_len() as u32 }
}

/// The registry, where the library was loaded at server start.
fn registry() -> Result<&'static Registry, Error> {
    let start = AREA.start()?;
    // SAFETY: set up before any backend starts; shared memory outlives the backend.
    Ok(unsafe { &*start.cast::<Registry>() })
}

impl Registry {
    fn slots(&self) -> &[BackendSlot] {
        // SAFETY: `slots_len` slots follow the structure, see `memory_bytes`.
        unsafe { std::slice::from_raw_parts(self.slots.as_ptr(), self.slots_len as usize) }
    }

    fn my_slot(&self) -> &BackendSlot {
        // SAFETY: a backend has a number from 1 to MaxBackends.
        let number = unsafe { pg_sys::MyBackendId };
        &self.slots()[number as usize - 1]
    }
}

/// The counter of this database, ready for use.
pub struct Positions {
    registry: &'static Registry,
    counter: usize,
    sequence: pg_sys::Oid,
}

impl Positions {
    /// Finds the counter; sets it up from the sequence when this is the first use since the server
    /// started.
    pub fn open() -> Result<Self, Error> {
        let registry = registry()?;
        let sequence = sequence_oid(Sequence::Position)?;
        let counter = match MY_COUNTER.get() {
            Some((counter, known)) if known == sequence && is_for(registry, counter, sequence) => {
                counter
            }
            _ => {
                let counter = set_up_counter(registry, sequence)?;
                MY_COUNTER.set(Some((counter, sequence)));
                counter
            }
        };
        Ok(Self { registry, counter, sequence })
    }

    fn counter(&self) -> &DatabaseCounter {
        &self.registry.counters[self.counter]
    }

    /// Takes `count` consecutive positions and returns the first. The caller has locked the rows of
    /// all streams concerned. They count as unsettled until the transaction ends.
    pub fn take(&self, count: u64) -> Result<u64, Error> {
        watch_transactions();
        let slot = self.registry.my_slot();
        let counter = self.counter();
        if !slot.taken.is_taken() {
            slot.counter.store(self.counter as u32, Ordering::Relaxed);
            slot.since_us.store(transaction_start_us(), Ordering::Relaxed);
        }
        let first = counter.positions.take(&slot.taken, count);
        let last = first + count - 1;
        if last > counter.reserved.load(Ordering::Acquire) {
            self.reserve(last)?;
        }
        Ok(first)
    }

    /// Makes sure that positions up to `needed` are reserved durably.
    fn reserve(&self, needed: u64) -> Result<(), Error> {
        let counter = self.counter();
        // SAFETY: the sequence's lock is taken first, so that nothing waits for a lock of a
        // relation while it holds the light-weight lock. An error on the way releases both.
        unsafe {
            pg_sys::LockRelationOid(self.sequence, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
            with_lock(Lock::Positions, || {
                if needed > counter.reserved.load(Ordering::Relaxed) {
                    let target = needed + RESERVE_AHEAD;
                    set_sequence(self.sequence, target as i64);
                    pg_sys::XLogFlush(pg_sys::XactLastRecEnd);
                    // Release: pairs with the Acquire in `take`.
                    counter.reserved.store(target, Ordering::Release);
                }
            });
        }
        Ok(())
    }

    /// The counter, with a lock that keeps `DROP EXTENSION` away until the transaction ends, so that
    /// what is found out about it is not left in the counter of a later incarnation.
    pub fn open_locked() -> Result<Self, Error> {
        loop {
            let positions = Self::open()?;
            // SAFETY: the lock's owner is the transaction.
            unsafe {
                pg_sys::LockRelationOid(
                    positions.sequence,
                    pg_sys::AccessShareLock as pg_sys::LOCKMODE,
                );
            }
            // Waiting for the lock may have brought news of a drop.
            if sequence_oid(Sequence::Position)? == positions.sequence {
                return Ok(positions);
            }
        }
    }

    /// How long the oldest transaction has been running of those that have taken positions.
    pub fn oldest(&self) -> Option<Duration> {
        let slots = self.my_slots().filter(|slot| slot.taken.bound().is_some());
        let oldest_us = slots.map(|slot| slot.since_us.load(Ordering::Relaxed)).min()?;
        Some(Duration::from_micros(now_us().saturating_sub(oldest_us).max(0) as u64))
    }

    /// The position that the next event will have.
    pub fn next(&self) -> u64 {
        self.counter().positions.next()
    }

    /// The safe position: no event at or below it can still appear. Take it *before* the snapshot
    /// to read with.
    pub fn safe(&self) -> u64 {
        let counter = self.counter();
        // A backend that failed to reserve leaves the counter above what is durable.
        let reserved = || counter.reserved.load(Ordering::Acquire);
        counter.positions.safe(self.my_slots().map(|slot| &slot.taken), reserved)
    }

    /// The slots of those who take from this counter.
    fn my_slots(&self) -> impl Iterator<Item = &BackendSlot> {
        let own = self.counter as u32;
        // A slot that is free, or was taken after the counter was loaded, may say another counter
        // than it did or will: then it does not matter.
        self.registry.slots().iter().filter(move |slot| {
            slot.taken.bound().is_some() && slot.counter.load(Ordering::Relaxed) == own
        })
    }
}

fn is_for(registry: &Registry, counter: usize, sequence: pg_sys::Oid) -> bool {
    let counter = &registry.counters[counter];
    // SAFETY: a constant of this backend.
    let database = unsafe { pg_sys::MyDatabaseId };
    counter.database.load(Ordering::Relaxed) == database.to_u32()
        && counter.sequence.load(Ordering::Acquire) == sequence.to_u32()
}

/// Finds or makes the counter of this database.
fn set_up_counter(registry: &Registry, sequence: pg_sys::Oid) -> Result<usize, Error> {
    // On a standby the sequence goes on under the counter, which would stay behind for good.
    if in_recovery() {
        return Err(Error::CannotExecute(Obstacle::Recovery));
    }
    // SAFETY: as in `reserve`; reading the sequence takes its lock before the light-weight lock.
    unsafe {
        pg_sys::LockRelationOid(sequence, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
        let database = pg_sys::MyDatabaseId.to_u32();
        with_lock(Lock::Positions, || {
            let place = |wanted: u32| {
                registry.counters.iter().position(|c| c.database.load(Ordering::Relaxed) == wanted)
            };
            let free = || {
                registry
                    .counters
                    .iter()
                    .position(|c| !is_database(c.database.load(Ordering::Relaxed)))
            };
            let index = place(database)
                .or_else(|| place(0))
                .or_else(free)
                .ok_or(Error::TooManyDatabases { databases_max: DATABASES_MAX })?;
            if !is_for(registry, index, sequence) {
                let reserved = sequence_value(sequence);
                let counter = &registry.counters[index];
                counter.reserved.store(reserved, Ordering::Relaxed);
                counter.positions.restart(reserved + 1);
                counter.database.store(database, Ordering::Relaxed);
                // Release: whoever sees the sequence sees the rest.
                counter.sequence.store(sequence.to_u32(), Ordering::Release);
            }
            Ok(index)
        })
    }
}

/// Runs `f` as the owner of the sequence: callers have no rights on it.
unsafe fn as_owner<T>(sequence: pg_sys::Oid, f: impl FnOnce() -> T) -> T {
    // SAFETY: an owner is a role that is there.
    unsafe { as_user(relation_owner(sequence), f) }
}

/// Sets the sequence, which is logged at once and does not depend on the transaction.
unsafe fn set_sequence(sequence: pg_sys::Oid, value: i64) {
    // SAFETY: calls setval(regclass, bigint) with what it declares.
    unsafe {
        as_owner(sequence, || {
            pgrx::direct_function_call_as_datum(
                pg_sys::setval_oid,
                &[Some(pg_sys::Datum::from(sequence)), Some(pg_sys::Datum::from(value))],
            )
        });
    }
}

/// The sequence's value; 0 where it was never set.
unsafe fn sequence_value(sequence: pg_sys::Oid) -> u64 {
    // SAFETY: calls pg_sequence_last_value(regclass) with what it declares.
    unsafe {
        as_owner(sequence, || {
            pgrx::direct_function_call_as_datum(
                pg_sys::pg_sequence_last_value,
                &[Some(pg_sys::Datum::from(sequence))],
            )
        })
        .map_or(0, |datum| datum.value() as u64)
    }
}

/// The next number for a stream.
pub fn next_stream_counter() -> Result<i64, Error> {
    unsafe extern "C-unwind" {
        fn nextval_internal(relid: pg_sys::Oid, check_permissions: bool) -> i64;
    }
    let sequence = sequence_oid(Sequence::StreamNo)?;
    // SAFETY: a function of PostgreSQL with this signature (commands/sequence.h).
    Ok(unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| nextval_internal(sequence, false)) })
}

/// Notes that this transaction holds the lock of a stream.
pub fn note_stream_lock() {
    HOLDS_STREAMS.set(true);
    watch_transactions();
}

/// Whether this transaction holds locks of streams.
pub fn holds_streams() -> bool {
    HOLDS_STREAMS.get()
}

/// Begins to listen for the ends of transactions, once per backend.
fn watch_transactions() {
    if CALLBACK_SET.replace(true) {
        return;
    }
    // SAFETY: the callback and its registration live as long as the backend.
    unsafe { pg_sys::RegisterXactCallback(Some(transaction_event), std::ptr::null_mut()) }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn transaction_event(
    event: pg_sys::XactEvent::Type,
    _argument: *mut std::ffi::c_void,
) {
    let ends = matches!(
        event,
        pg_sys::XactEvent::XACT_EVENT_COMMIT
            | pg_sys::XactEvent::XACT_EVENT_ABORT
            | pg_sys::XactEvent::XACT_EVENT_PREPARE
    );
    if ends {
        HOLDS_STREAMS.set(false);
    }
    let Ok(registry) = registry() else { return };
    let slot = registry.my_slot();
    if !slot.taken.is_taken() {
        return;
    }
    match event {
        // COMMIT is reported after the transaction has left the list of running ones.
        pg_sys::XactEvent::XACT_EVENT_COMMIT | pg_sys::XactEvent::XACT_EVENT_ABORT => {
            slot.taken.clear();
        }
        pg_sys::XactEvent::XACT_EVENT_PRE_PREPARE => {
            Error::PreparedTransaction.raise("PREPARE TRANSACTION")
        }
        _ => {}
    }
}
