//! The registry in shared memory: a counter for each database that has positions, and a slot for
//! each backend that has taken some and not yet ended its transaction.
#![expect(unsafe_code, reason = "lives in PostgreSQL's shared memory")]

use super::sequence::SequenceValue;
use crate::pg::error::Error;
use crate::pg::session::xact::database_oid;
use crate::pg::shared::memory::Area;
use crate::pg::tables::names::is_database;
use crate::positions::written::Written;
use crate::positions::{Counter, Slot, Store};
use pgrx::pg_sys;
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Databases of one server that can have positions at the same time.
pub const DATABASES_MAX: usize = 128;

/// The counter of one database. It is set up and reserved under the lock.
#[repr(C, align(64))]
pub struct DatabaseCounter {
    database: AtomicU32,
    /// OID of `position_seq`: another one means another incarnation of the extension.
    sequence: AtomicU32,
    /// what assigns positions
    pub positions: Counter,
    /// What the sequence held, durably, when it was last looked at under the lock. Numbers above it may have
    /// been given out if others have set it lower.
    pub reserved: AtomicU64,
    /// The end of the WAL record that the sequence was in then. Another one means that somebody has set
    /// the sequence, perhaps to the same value, and may have written to the tables before.
    pub sequence_lsn: AtomicU64,
    /// Nothing above it is safe as long as others write to the log without positions of this counter, as
    /// a restore does: they may have begun before the sequence was set. `ALL` once there were none.
    pub settled: AtomicU64,
    /// How often somebody else's value of the sequence was taken over.
    pub takeovers: AtomicU64,
    /// how far each partition has been written
    pub written: Written,
}

impl DatabaseCounter {
    /// Whether a sequence is as it was when it was last looked at under the lock.
    pub fn knows(&self, held: SequenceValue) -> bool {
        held.value == self.reserved.load(Ordering::Acquire)
            && held.lsn == self.sequence_lsn.load(Ordering::Acquire)
    }
}

/// Of `DatabaseCounter::settled`: all positions.
pub const ALL: u64 = u64::MAX;

/// What a backend has taken. A line of its own, so that writers do not disturb each other.
#[repr(C, align(64))]
pub struct BackendSlot {
    /// what it has taken, and of which store
    pub taken: Slot,
    /// when the transaction began
    pub since_us: AtomicI64,
}

/// What is in shared memory: the counters, and behind them the slots.
#[derive(Clone, Copy)]
pub struct Registry {
    /// one for each database that has positions
    pub counters: &'static [DatabaseCounter; DATABASES_MAX],
    /// one for each backend
    pub slots: &'static [BackendSlot],
}

const COUNTERS_BYTES: usize = size_of::<[DatabaseCounter; DATABASES_MAX]>();
const _: () = assert!(COUNTERS_BYTES.is_multiple_of(align_of::<BackendSlot>()));

/// The registry in shared memory.
pub static AREA: Area = Area {
    name: c"allsource positions",
    bytes: memory_bytes,
    // Zeroed memory is valid: all of it is atomics and integers.
    set_up: |_| {},
    start: AtomicPtr::new(std::ptr::null_mut()),
};

fn slots_len() -> usize {
    // SAFETY: set before the request hooks run.
    unsafe { pg_sys::MaxBackends as usize }
}

fn memory_bytes() -> usize {
    COUNTERS_BYTES + slots_len() * size_of::<BackendSlot>()
}

/// The registry, where the library was loaded at server start.
pub fn registry() -> Result<Registry, Error> {
    let start = AREA.start()?;
    // SAFETY: the area has `memory_bytes` bytes on a boundary of at least 64, was zeroed before any
    // backend started, and outlives the backend.
    unsafe {
        Ok(Registry {
            counters: &*start.cast(),
            slots: std::slice::from_raw_parts(start.add(COUNTERS_BYTES).cast(), slots_len()),
        })
    }
}

impl Registry {
    /// The slot of this backend.
    pub fn my_slot(&self) -> &'static BackendSlot {
        // SAFETY: a backend has a number from 1 to MaxBackends.
        let number = unsafe { pg_sys::MyBackendId };
        &self.slots[number as usize - 1]
    }
}

/// The store of this database whose sequence this is.
pub fn store_of(sequence: pg_sys::Oid) -> Store {
    Store::new(database_oid(), sequence.to_u32())
}

impl DatabaseCounter {
    /// Whether it is that of the store whose sequence this is, in this database.
    pub fn is_for(&self, sequence: pg_sys::Oid) -> bool {
        // Acquire: a backend that sees the sequence sees the rest.
        self.sequence.load(Ordering::Acquire) == sequence.to_u32()
            && self.database.load(Ordering::Relaxed) == database_oid()
    }
}

impl Registry {
    /// The index of the counter of a store, if it was set up since the server started. Under the lock
    /// the answer stays true.
    pub fn find(&self, sequence: pg_sys::Oid) -> Option<usize> {
        self.counters.iter().position(|counter| counter.is_for(sequence))
    }

    /// Sets a counter up for a store of this database, which has none. The lock must be held.
    pub fn set_up(
        &self,
        sequence: pg_sys::Oid,
        held: SequenceValue,
        next: u64,
    ) -> Result<usize, Error> {
        let place = |wanted: u32| {
            self.counters.iter().position(|c| c.database.load(Ordering::Relaxed) == wanted)
        };
        let is_free = |c: &DatabaseCounter| !is_database(c.database.load(Ordering::Relaxed));
        let database = database_oid();
        let index = place(database)
            .or_else(|| place(0))
            .or_else(|| self.counters.iter().position(is_free))
            .ok_or(Error::TooManyDatabases { databases_max: DATABASES_MAX })?;
        let counter = &self.counters[index];
        counter.reserved.store(held.value, Ordering::Relaxed);
        counter.sequence_lsn.store(held.lsn, Ordering::Relaxed);
        counter.settled.store(0, Ordering::Relaxed);
        counter.takeovers.fetch_add(1, Ordering::Relaxed);
        counter.positions.restart(next);
        counter.written.restart(next - 1);
        counter.database.store(database, Ordering::Relaxed);
        // Release: a backend that sees the sequence sees the rest.
        counter.sequence.store(sequence.to_u32(), Ordering::Release);
        Ok(index)
    }
}
