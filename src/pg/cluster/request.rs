//! Requests of the coordinator that change a row of `partition_owners`. What each does to it, and when it
//! comes too late, is decided in [`member`](crate::cluster::member).
//!
//! Each is a transaction of its own. It waits at its commit as a writer does, also if there was nothing to
//! do: who gets an answer knows that what is answered is durable, on the synchronous standby too.

use super::copy::{empty, last_position};
use super::link::{drop_publication, drop_subscription};
use super::owners::{MEMBER, OWNERS, group_of, ownership_of};
use crate::cluster::epoch::Epoch;
use crate::cluster::group::GroupId;
use crate::cluster::member::{self, Change, Stale};
use crate::cluster::ownership::Ownership;
use crate::model::error::StoreError;
use crate::model::partition::Partition;
use crate::pg::call::datum::text;
use crate::pg::call::rows::{int4, int8};
use crate::pg::error::{Error, Obstacle};
use crate::pg::hot::map;
use crate::pg::positions::counter::{Positions, raise_above};
use crate::pg::session::xact::{check_writable, wait_at_commit};
use crate::pg::tables::names::lock_by_name;
use crate::pg::tables::query::{Access, execute_as_owner};
use crate::pg::tables::schema::Root;
use pgrx::pg_sys;
use std::ffi::CStr;

const LOCK_ROW: &CStr = c"
    SELECT o.group_id, o.epoch, o.state, m.group_id
      FROM allsource.partition_owners o
     CROSS JOIN allsource.cluster_member m
     WHERE o.partition_id OPERATOR(pg_catalog.=) $1
       FOR UPDATE OF o";

const LOOK_AT_ROW: &CStr = c"
    SELECT o.group_id, o.epoch, o.state, m.group_id
      FROM allsource.partition_owners o
     CROSS JOIN allsource.cluster_member m
     WHERE o.partition_id OPERATOR(pg_catalog.=) $1";

const WRITE_ROW: &CStr = c"
    UPDATE allsource.partition_owners AS o
       SET group_id = $2, epoch = $3, state = $4
     WHERE o.partition_id OPERATOR(pg_catalog.=) $1";

const WAITING: &CStr = c"
    SELECT 1
      FROM allsource.waiting_events w
     WHERE w.partition_id OPERATOR(pg_catalog.=) $1
     LIMIT 1";

// The lock of a vacuum conflicts with the fence's, and gives way when that has waited for so long.
const CANCEL_VACUUM_SOON: &CStr = c"
    SELECT pg_catalog.set_config('deadlock_timeout', '50ms', true)
      FROM pg_catalog.pg_roles r
     WHERE r.rolname OPERATOR(pg_catalog.=) CURRENT_USER
       AND r.rolsuper";

/// What a request is about: a partition, and a move by its epoch.
#[derive(Clone, Copy)]
pub struct Request {
    /// the partition
    pub partition: Partition,
    /// the epoch of the move
    pub epoch: Epoch,
}

/// The row that a request is about, and whose it is.
#[derive(Clone, Copy)]
pub struct Found {
    /// the row
    pub row: Ownership,
    /// the member's own group
    pub own: GroupId,
}

impl Request {
    /// Checks the numbers.
    pub fn new(partition: Partition, epoch: Option<i64>) -> Result<Self, Error> {
        let argument = "epoch";
        let value = epoch.ok_or(StoreError::NullArgument { argument })?;
        let epoch = Epoch::new(value).ok_or(StoreError::OutOfRange {
            argument,
            value,
            range: "positive",
        })?;
        Ok(Self { partition, epoch })
    }

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
        self.change(|found| member::fence(found.row, self.epoch), || self.check_drained())
    }

    fn check_drained(self) -> Result<(), Error> {
        let partition_id = self.partition.number();
        if map::get(self.partition)?.may_have_batches() {
            let (problem, hint) = ("is hot", "Call es_cool.");
            return Err(Error::NotReady { partition_id, problem, hint });
        }
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

    /// Locks the row; if it is as `expected`, does what is asked.
    pub fn expect(
        self,
        expected: impl FnOnce(Ownership) -> Result<(), Stale>,
        act: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        check_writable()?;
        let found = self.row(LOCK_ROW, Access::Write)?;
        expected(found.row).map_err(|stale| self.stale(stale))?;
        act()?;
        wait_at_commit();
        Ok(())
    }

    /// Locks the row; if it changes, does what is asked and changes it.
    fn change(
        self,
        decide: impl FnOnce(Found) -> Result<Change, Stale>,
        act: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        check_writable()?;
        let found = self.row(LOCK_ROW, Access::Write)?;
        if let Change::To(row) = decide(found).map_err(|stale| self.stale(stale))? {
            act()?;
            self.write(row)?;
        }
        wait_at_commit();
        Ok(())
    }

    /// The row as it is now, without a lock.
    pub fn look(self) -> Result<Found, Error> {
        self.row(LOOK_AT_ROW, Access::Write)
    }

    fn row(self, sql: &CStr, access: Access) -> Result<Found, Error> {
        let mut found = None;
        let partition = (pg_sys::INT4OID, int4(self.partition.number()));
        // Lock order: as the statement names them.
        lock_by_name(MEMBER, pg_sys::AccessShareLock as pg_sys::LOCKMODE)?;
        execute_as_owner(OWNERS, sql, &[partition], access, |row| {
            let own = group_of(&row, 4);
            found = ownership_of(&row).zip(own).map(|(row, own)| Found { row, own });
            Ok(())
        })?;
        found.ok_or(Error::CannotExecute(Obstacle::NotMember))
    }

    fn write(self, row: Ownership) -> Result<(), Error> {
        let parameters = [
            (pg_sys::INT4OID, int4(self.partition.number())),
            (pg_sys::INT4OID, int4(row.owner.number())),
            (pg_sys::INT8OID, int8(row.epoch.number())),
            (pg_sys::TEXTOID, Some(text(row.state.name().as_bytes()))),
        ];
        execute_as_owner(OWNERS, WRITE_ROW, &parameters, Access::Write, |_| Ok(()))
    }

    /// The error for a request that comes too late, or too early.
    pub fn stale(self, stale: Stale) -> Error {
        let (partition_id, epoch) = (self.partition.number(), self.epoch.number());
        Error::StaleRequest { partition_id, epoch, stale }
    }
}

/// Whether events of a partition could not be written when their turn came.
pub fn has_waiting_events(partition: Partition) -> Result<bool, Error> {
    let mut found = false;
    let parameters = [(pg_sys::INT4OID, int4(partition.number()))];
    execute_as_owner("waiting_events", WAITING, &parameters, Access::Write, |_| {
        found = true;
        Ok(())
    })?;
    Ok(found)
}

/// A group by its number, which must be given.
pub fn group(argument: &'static str, number: Option<i32>) -> Result<GroupId, Error> {
    let number = number.ok_or(StoreError::NullArgument { argument })?;
    let range = "between 0 and 4095";
    let bad = StoreError::OutOfRange { argument, value: i64::from(number), range };
    Ok(GroupId::new(number).ok_or(bad)?)
}
