//! The gate of a partition: a lock that has nothing to do with the tables. In a member of a cluster whoever
//! enqueues events is in the gate from before it is checked whether the partition takes any until they
//! are in the queue, and so is who makes a partition hot, until that has been committed. Who closes a
//! partition, or fences it, waits for those who are in the gate, and nobody gets in until that has been
//! committed. So whoever is in the gate has been told, and nobody is missed.
//!
//! Workers are never in a gate, so those who wait for room in a queue may be.
#![expect(unsafe_code, reason = "uses PostgreSQL's locks")]

use super::owners::{check_may_enqueue, is_surely_single};
use crate::model::partition::{PARTITIONS, Partition};
use crate::pg::error::Error;
use crate::pg::session::xact::accept_invalidations;
use crate::pg::tables::names::look_up;
use crate::pg::tables::schema::Root;
use pgrx::pg_sys;

/// Those who share a gate.
const SHARED: pg_sys::LOCKMODE = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;

/// Who has it alone.
const ALONE: pg_sys::LOCKMODE = pg_sys::ShareRowExclusiveLock as pg_sys::LOCKMODE;

/// An object of the catalog of relations that is none: part 1 of the leaf of batches.
fn tag(partition: Partition) -> Result<pg_sys::LOCKTAG, Error> {
    let leaf = look_up(&Root::Batches.leaf(partition))?;
    Ok(pg_sys::LOCKTAG {
        // SAFETY: a constant of this process.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: pg_sys::RelationRelationId.to_u32(),
        locktag_field3: leaf.to_u32(),
        locktag_field4: 1,
        locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    })
}

/// Returns whether the lock was got; without `may_wait` it may not be.
fn lock(tag: &pg_sys::LOCKTAG, mode: pg_sys::LOCKMODE, may_wait: bool) -> bool {
    // SAFETY: a lock of the transaction.
    let result = unsafe { pg_sys::LockAcquire(tag, mode, false, !may_wait) };
    accept_invalidations();
    result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

/// Waits for all who are in the gate of a partition, and keeps others out until the transaction ends.
pub fn shut(partition: Partition) -> Result<(), Error> {
    lock(&tag(partition)?, ALONE, true);
    Ok(())
}

/// Goes into the gate of a partition until the transaction ends; `false` if it is shut.
pub fn try_enter(partition: Partition) -> Result<bool, Error> {
    Ok(lock(&tag(partition)?, SHARED, false))
}

/// The gates that a call is in which enqueues.
pub struct Gates(Vec<pg_sys::LOCKTAG>);

impl Gates {
    /// Goes into the gates of the partitions of streams, if all of them take events. A single server has
    /// none.
    pub fn enter(stream_ids: &[&[u8]]) -> Result<Self, Error> {
        let mut gates = Self(Vec::new());
        if is_surely_single()? {
            return Ok(gates);
        }
        let mut wanted = [false; PARTITIONS];
        for stream_id in stream_ids {
            wanted[Partition::of(stream_id).index()] = true;
        }
        for partition in Partition::all().filter(|partition| wanted[partition.index()]) {
            let tag = tag(partition)?;
            lock(&tag, SHARED, true);
            gates.0.push(tag);
            check_may_enqueue(partition)?;
        }
        Ok(gates)
    }
}

impl Drop for Gates {
    fn drop(&mut self) {
        // After an error of PostgreSQL the abort gives the locks back.
        if std::thread::panicking() {
            return;
        }
        for tag in &self.0 {
            // SAFETY: the lock that was taken.
            unsafe { pg_sys::LockRelease(tag, SHARED, false) };
        }
    }
}
