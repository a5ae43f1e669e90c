//! The registry in shared memory: a counter for each database that has positions, and a slot for
//! each backend that has taken some and not yet ended its transaction.
#![expect(unsafe_code, reason = "lives in PostgreSQL's shared memory")]

use super::sequence::SequenceValue;
use crate::pg::error::Error;
use crate::pg::session::xact::database_oid;
use crate::pg::shared::memory::Area;
use crate::pg::tables::names::is_database;
use crate::positions::written::Written;
use crate::positions::{Counter, Slot};
use pgrx::pg_sys;
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Databases of one server that can have positions at the same time.
pub const DATABASES_MAX: usize = 128;

/// The counter of one database. What is said of it is changed under the lock.
#[repr(C, align(64))]
pub struct DatabaseCounter {
    database: AtomicU32,
    /// OID of `position_seq`: another one means another incarnation of the extension.
    sequence: AtomicU32,
    /// what gives positions out
    pub positions: Counter,
    /// What the sequence held, durably, when it was last looked at under the lock.
    pub reserved: AtomicU64,
    /// The end of the WAL record that the sequence was in then: another one means that somebody has
    /// set it, be it to the same value, and may have written to the tables before.
    pub sequence_lsn: AtomicU64,
    /// how far each partition has been written
    pub written: Written,
}

/// What a backend has taken. A line of its own, so that writers do not disturb each other.
#[repr(C, align(64))]
pub struct BackendSlot {
    /// what it has taken
    pub taken: Slot,
    /// index of the counter
    pub counter: AtomicU32,
    /// when the transaction began
    pub since_us: AtomicI64,
}

/// The structure in shared memory, followed by `slots_len` slots.
#[repr(C)]
pub struct Registry {
    /// one for each database that has positions
    pub counters: [DatabaseCounter; DATABASES_MAX],
    slots_len: u32,
    slots: [BackendSlot; 0],
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
pub fn registry() -> Result<&'static Registry, Error> {
    let start = AREA.start()?;
    // SAFETY: set up before any backend starts; shared memory outlives the backend.
    Ok(unsafe { &*start.cast::<Registry>() })
}

impl Registry {
    /// The slots of all backends.
    pub fn slots(&self) -> &[BackendSlot] {
        // SAFETY: `slots_len` slots follow the structure, see `memory_bytes`.
        unsafe { std::slice::from_raw_parts(self.slots.as_ptr(), self.slots_len as usize) }
    }

    /// That of this backend.
    pub fn my_slot(&self) -> &BackendSlot {
        // SAFETY: a backend has a number from 1 to MaxBackends.
        let number = unsafe { pg_sys::MyBackendId };
        &self.slots()[number as usize - 1]
    }
}

impl DatabaseCounter {
    /// Whether it is that of the store whose sequence this is, in this database.
    pub fn is_for(&self, sequence: pg_sys::Oid) -> bool {
        // Acquire: whoever sees the sequence sees the rest.
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
        counter.positions.restart(next);
        counter.written.restart(next - 1);
        counter.database.store(database, Ordering::Relaxed);
        // Release: whoever sees the sequence sees the rest.
        counter.sequence.store(sequence.to_u32(), Ordering::Release);
        Ok(index)
    }
}
