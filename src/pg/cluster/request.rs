//! What a coordinator asks for that changes a row of `partition_owners`. What each request does to it, and
//! when it comes too late, is decided in [`member`](crate::cluster::member).

use super::copy::{empty, last_position};
use super::gate;
use super::link::{drop_publication, drop_subscription};
use super::owners::OWNERS;
use super::row::Request;
use crate::cluster::group::GroupId;
use crate::cluster::member;
use crate::pg::error::Error;
use crate::pg::hot::map;
use crate::pg::positions::counter::{Positions, raise_above};
use crate::pg::session::xact::check_writable;
use crate::pg::tables::names::lock_by_name;
use crate::pg::tables::query::{Access, execute_as_owner};
use crate::pg::tables::schema::Root;
use crate::pg::tables::waiting_events::has_waiting_events;
use pgrx::pg_sys;
use std::ffi::CStr;

// The lock of a vacuum conflicts with the fence's, and gives way when that has waited for so long.
const CANCEL_VACUUM_SOON: &CStr = c"
    SELECT pg_catalog.set_config('deadlock_timeout', '50ms', true)
      FROM pg_catalog.pg_roles r
     WHERE r.rolname OPERATOR(pg_catalog.=) CURRENT_USER
       AND r.rolsuper";

impl Request {
    /// The target begins to receive the partition. What is left of an earlier copy is emptied.
    pub fn receive(self, source: GroupId) -> Result<(), Error> {
        self.change(
            |found| member::receive(found.row, self.epoch, source),
            || empty(self.partition),
        )
    }

    /// The source ends writing: waits for those who write, and is in the way of nobody else. Refused while
    /// there is something to settle.
    pub fn fence(self) -> Result<(), Error> {
        check_writable()?;
        execute_as_owner(OWNERS, CANCEL_VACUUM_SOON, &[], Access::Write, |_| Ok(()))?;
        // In the order in which an append locks them.
        for root in [Root::Streams, Root::Log, Root::Ids, Root::Batches] {
            let lock = pg_sys::ShareRowExclusiveLock as pg_sys::LOCKMODE;
            lock_by_name(&root.leaf(self.partition), lock)?;
        }
        gate::shut(self.partition)?;
        self.change(|found| member::fence(found.row, self.epoch), || self.check_drained())
    }

    /// Refuses what is for a cold partition only.
    pub fn check_cold(self) -> Result<(), Error> {
        if !map::get(self.partition)?.may_have_batches() {
            return Ok(());
        }
        let (problem, hint) = ("is hot", "Call es_cool.");
        Err(Error::NotReady { partition_id: self.partition.number(), problem, hint })
    }

    fn check_drained(self) -> Result<(), Error> {
        self.check_cold()?;
        let partition_id = self.partition.number();
        if has_waiting_events(self.partition)? {
            let (problem, hint) = ("has waiting events", "See the table waiting_events.");
            return Err(Error::NotReady { partition_id, problem, hint });
        }
        Ok(())
    }

    /// The target raises its counter above what the source has given out.
    pub fn raise_counter(self, above: i64) -> Result<(), Error> {
        self.expect(
            |row| member::may_subscribe(row, self.epoch),
            || raise_above(above.max(0) as u64),
        )
    }

    /// The target owns the partition.
    pub fn give(self) -> Result<(), Error> {
        self.change(
            |found| member::give(found.row, self.epoch, found.own),
            || {
                // Nobody has noted that events were written which a subscription has brought.
                if let Some(last) = last_position(self.partition)? {
                    let last = last.max(0) as u64;
                    raise_above(last)?;
                    Positions::open()?.written().mark(self.partition, last);
                }
                Ok(())
            },
        )
    }

    /// The source knows that the target owns the partition.
    pub fn release(self, target: GroupId) -> Result<(), Error> {
        self.change(|found| member::release(found.row, self.epoch, target), || Ok(()))
    }

    /// The target does not become the owner by this move any more.
    pub fn refuse(self, source: GroupId) -> Result<(), Error> {
        self.change(|found| member::refuse(found.row, self.epoch, source), || Ok(()))
    }

    /// The source owns the partition again.
    pub fn take_back(self) -> Result<(), Error> {
        self.change(|found| member::take_back(found.row, self.epoch, found.own), || Ok(()))
    }

    /// The target drops the move's subscription, without asking the source.
    pub fn unsubscribe(self) -> Result<(), Error> {
        self.expect(
            |row| member::may_unsubscribe(row, self.epoch),
            || drop_subscription(self.partition, self.epoch),
        )
    }

    /// The source drops the move's publication and its slot.
    pub fn unpublish(self) -> Result<(), Error> {
        self.expect(
            |row| member::may_unpublish(row, self.epoch),
            || drop_publication(self.partition, self.epoch),
        )
    }

    /// Source or target empties its copy, which is not needed any more.
    pub fn empty(self) -> Result<(), Error> {
        self.expect(
            |row| {
                member::may_empty_source(row, self.epoch)
                    .or_else(|_| member::may_empty_target(row, self.epoch))
            },
            || empty(self.partition),
        )
    }
}
