//! The row of `partition_owners` that a request of the coordinator is about.
//!
//! Each request is a transaction of its own. It waits at its commit as a writer does, also if there was
//! nothing to do: who gets an answer knows that what is answered is durable, on the synchronous standby too.

use super::owners::{MEMBER, OWNERS, group_of, ownership_of};
use crate::cluster::epoch::Epoch;
use crate::cluster::group::GroupId;
use crate::cluster::member::{Change, Stale};
use crate::cluster::ownership::Ownership;
use crate::model::error::StoreError;
use crate::model::partition::Partition;
use crate::pg::call::datum::text;
use crate::pg::call::rows::{int4, int8};
use crate::pg::error::{Error, Obstacle};
use crate::pg::session::xact::{check_writable, wait_at_commit};
use crate::pg::tables::names::lock_by_name;
use crate::pg::tables::query::{Access, execute_as_owner};
use pgrx::pg_sys;
use std::ffi::CStr;

const LOCK_ROW: &CStr = c"
    SELECT o.group_id, o.epoch, o.state, m.group_id, o.streams_above, o.is_closed
      FROM allsource.partition_owners o
     CROSS JOIN allsource.cluster_member m
     WHERE o.partition_id OPERATOR(pg_catalog.=) $1
       FOR UPDATE OF o";

const LOOK_AT_ROW: &CStr = c"
    SELECT o.group_id, o.epoch, o.state, m.group_id, o.streams_above, o.is_closed
      FROM allsource.partition_owners o
     CROSS JOIN allsource.cluster_member m
     WHERE o.partition_id OPERATOR(pg_catalog.=) $1";

// What belongs to a move is kept as long as it may go on from the source's side: until it has been released.
const WRITE_ROW: &CStr = c"
    UPDATE allsource.partition_owners AS o
       SET group_id = $2, epoch = $3, state = $4,
           is_closed = o.is_closed AND $4 OPERATOR(pg_catalog.=) 'fenced',
           streams_above = CASE WHEN $4 OPERATOR(pg_catalog.=) 'fenced' THEN o.streams_above END
     WHERE o.partition_id OPERATOR(pg_catalog.=) $1";

const NOTE_STREAMS: &CStr = c"
    UPDATE allsource.partition_owners AS o
       SET streams_above = $2
     WHERE o.partition_id OPERATOR(pg_catalog.=) $1";

const CLOSE: &CStr = c"
    UPDATE allsource.partition_owners AS o
       SET is_closed = true
     WHERE o.partition_id OPERATOR(pg_catalog.=) $1";

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
    /// streams that are created during the move have numbers above this one
    pub streams_above: Option<i64>,
    /// whether the partition takes no more enqueued events
    pub is_closed: bool,
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
    pub fn change(
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
            let streams_above = row.get(5).map(|value| value.value() as i64);
            let is_closed = row.get(6).is_some_and(|value| value.value() as u8 != 0);
            found = ownership_of(&row).zip(own).map(|(row, own)| Found {
                row,
                own,
                streams_above,
                is_closed,
            });
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

    /// Notes above which number the streams are that are created from now on. The row is locked.
    pub fn note_streams(self, above: i64) -> Result<(), Error> {
        let parameters =
            [(pg_sys::INT4OID, int4(self.partition.number())), (pg_sys::INT8OID, int8(above))];
        execute_as_owner(OWNERS, NOTE_STREAMS, &parameters, Access::Write, |_| Ok(()))
    }

    /// Notes that the partition takes no more enqueued events. The row is locked.
    pub fn note_closed(self) -> Result<(), Error> {
        let partition = (pg_sys::INT4OID, int4(self.partition.number()));
        execute_as_owner(OWNERS, CLOSE, &[partition], Access::Write, |_| Ok(()))
    }

    /// The error for a request that comes too late, or too early.
    pub fn stale(self, stale: Stale) -> Error {
        let (partition_id, epoch) = (self.partition.number(), self.epoch.number());
        Error::StaleRequest { partition_id, epoch, stale }
    }
}

/// A group by its number, which must be given.
pub fn group(argument: &'static str, number: Option<i32>) -> Result<GroupId, Error> {
    let number = number.ok_or(StoreError::NullArgument { argument })?;
    let range = "between 0 and 4095";
    let bad = StoreError::OutOfRange { argument, value: i64::from(number), range };
    Ok(GroupId::new(number).ok_or(bad)?)
}
