//! Who owns the partitions, as `cluster_member` and `partition_owners` say: remembered until they change.
//!
//! A fence writes its row while it holds a lock of the partition's leaves that conflicts with those of all
//! writers. So who has such a lock has been told of every fence that was there before, and none comes as
//! long as it is held: [`check_may_write`] behind the lock and the fence cannot miss each other.

use crate::cluster::epoch::Epoch;
use crate::cluster::group::GroupId;
use crate::cluster::ownership::{Member, Ownership, Refusal, State, may_read, may_write};
use crate::model::partition::{PARTITIONS, Partition};
use crate::pg::call::datum::body;
use crate::pg::error::{Error, Obstacle};
use crate::pg::session::xact::{is_in_parallel_mode, with_snapshot_of_now, without_keeping_locks};
use crate::pg::settings;
use crate::pg::tables::query::{Access, Row, execute_as_owner};
use crate::pg::tables::relation::{has_blocks, is_free};
use crate::pg::tables::remembered::{Remembered, report_change};
use std::ffi::CStr;

/// The table with the row that makes a database a member.
pub const MEMBER: &str = "cluster_member";

/// The table with a row for each partition.
pub const OWNERS: &str = "partition_owners";

const ROWS: &CStr = c"
    SELECT m.group_id, NULL::pg_catalog.int8, NULL::pg_catalog.text, NULL::pg_catalog.int4, NULL::pg_catalog.bool
      FROM allsource.cluster_member m
     UNION ALL
    SELECT o.group_id, o.epoch, o.state, o.partition_id, o.is_closed
      FROM allsource.partition_owners o";

/// What the tables say.
#[derive(Clone, Copy)]
struct Owners {
    /// `None`: a single server, which owns all
    group: Option<GroupId>,
    of: [Option<Ownership>; PARTITIONS],
    /// partitions that take no more enqueued events
    closed: [bool; PARTITIONS],
}

impl Owners {
    const SINGLE: Self = Self { group: None, of: [None; PARTITIONS], closed: [false; PARTITIONS] };

    fn of(&self, partition: Partition) -> (Option<GroupId>, Option<Ownership>) {
        (self.group, self.of[partition.index()])
    }
}

thread_local! {
    static OWNERS_KNOWN: Remembered<Owners> = const { Remembered::new() };
}

/// Refuses to write a partition that this server does not own. To be called behind a lock of one of the
/// partition's leaves that conflicts with the fence's.
pub fn check_may_write(partition: Partition) -> Result<(), Error> {
    let (group, ownership) = look(|owners| owners.of(partition))?;
    let member = group.map(|group| Member { group, node_id: settings::node_id() });
    let partition_id = partition.number();
    may_write(member, ownership).map_err(|refusal| Error::NotOwned { partition_id, refusal })
}

/// Refuses to enqueue events for a partition that this server does not own, or that takes none because it
/// is about to be moved. To be called in the gate of the partition. Nothing is checked while somebody works
/// on the tables, for whom who enqueues does not wait; the workers check again.
pub fn check_may_enqueue(partition: Partition) -> Result<(), Error> {
    if !can_be_known()? {
        return Ok(());
    }
    check_may_write(partition)?;
    match look(|owners| owners.of[partition.index()].filter(|_| owners.closed[partition.index()]))?
    {
        None => Ok(()),
        Some(ownership) => {
            let fenced = Ownership { state: State::Fenced, ..ownership };
            let partition_id = partition.number();
            Err(Error::NotOwned { partition_id, refusal: Refusal::NotOwned(fenced) })
        }
    }
}

/// The same for who makes a partition hot.
pub fn may_heat(partition: Partition) -> Result<bool, Error> {
    match check_may_write(partition) {
        Ok(()) => Ok(!look(|owners| owners.closed[partition.index()])?),
        Err(Error::NotOwned { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether this server is known to be in no cluster.
pub fn is_surely_single() -> Result<bool, Error> {
    match OWNERS_KNOWN.with(|known| known.known(|owners| owners.group.is_none())) {
        Some(is_single) => Ok(is_single),
        None => Ok(can_be_known()? && look(|owners| owners.group)?.is_none()),
    }
}

fn can_be_known() -> Result<bool, Error> {
    let is_known = OWNERS_KNOWN.with(|known| known.known(|_| ()).is_some());
    Ok(is_known || is_free(MEMBER)? && is_free(OWNERS)?)
}

/// Refuses to read a partition of which others may have newer events.
pub fn check_may_read(partition: Partition) -> Result<(), Error> {
    look(|owners| owners.check_may_read(partition))?
}

impl Owners {
    fn check_may_read(&self, partition: Partition) -> Result<(), Error> {
        let (group, ownership) = self.of(partition);
        let partition_id = partition.number();
        let read = group.map_or(Ok(()), |_| may_read(ownership));
        read.map_err(|refusal| Error::NotOwned { partition_id, refusal })
    }
}

/// Refuses what is only possible where all positions have one order.
pub fn check_single() -> Result<(), Error> {
    match look(|owners| owners.group)? {
        None => Ok(()),
        Some(_) => Err(Error::CannotExecute(Obstacle::Member)),
    }
}

/// Whether this server is a member of a cluster.
pub fn is_member() -> Result<bool, Error> {
    Ok(look(|owners| owners.group)?.is_some())
}

/// Which of the partitions may be read. If they were `asked_for` one by one, all must be.
pub fn readable(wanted: [bool; PARTITIONS], asked_for: bool) -> Result<[bool; PARTITIONS], Error> {
    look(|owners| {
        let mut readable = wanted;
        if owners.group.is_none() {
            return Ok(readable);
        }
        for partition in Partition::all().filter(|partition| wanted[partition.index()]) {
            match owners.check_may_read(partition) {
                Err(error) if asked_for => return Err(error),
                read => readable[partition.index()] = read.is_ok(),
            }
        }
        Ok(readable)
    })?
}

/// Which partitions this server owns by now, whatever it remembers: it may not have been told of a fence.
/// `None`: a single server.
pub fn owned_now() -> Result<Option<[bool; PARTITIONS]>, Error> {
    let owners = read_now()?;
    let is_owned = |of: Option<Ownership>| of.is_some_and(|of| of.state == State::Owned);
    Ok(owners.group.map(|_| owners.of.map(is_owned)))
}

fn look<T>(part: impl Fn(&Owners) -> T) -> Result<T, Error> {
    OWNERS_KNOWN.with(|known| {
        if let Some(found) = known.known(&part) {
            return Ok(found);
        }
        let owners = if is_in_parallel_mode() {
            // A snapshot of now cannot be taken here.
            read()?
        } else {
            known.read(&[MEMBER, OWNERS], read_now)?
        };
        Ok(part(&owners))
    })
}

/// Keeps no lock: who enqueues may wait for the workers then, and these for whoever waits for the lock.
fn read_now() -> Result<Owners, Error> {
    // A table that never had a row is no work for the planner.
    if !has_blocks(MEMBER)? {
        return Ok(Owners::SINGLE);
    }
    without_keeping_locks(|| with_snapshot_of_now(|_| read()))
}

fn read() -> Result<Owners, Error> {
    let mut owners = Owners::SINGLE;
    execute_as_owner(MEMBER, ROWS, &[], Access::Read, |row| {
        let partition = row.get(4).map(|value| value.value() as i32);
        let is_closed = row.get(5).is_some_and(|value| value.value() as u8 != 0);
        match partition.map(Partition::new) {
            None => owners.group = group_of(&row, 1),
            Some(Some(partition)) => {
                owners.of[partition.index()] = ownership_of(&row);
                owners.closed[partition.index()] = is_closed;
            }
            Some(None) => {}
        }
        Ok(())
    })?;
    Ok(owners)
}

/// The group in a column.
pub fn group_of(row: &Row, column: i32) -> Option<GroupId> {
    row.get(column).and_then(|value| GroupId::new(value.value() as i32))
}

/// What the columns `group_id`, `epoch`, `state` say, the first three.
#[expect(unsafe_code, reason = "takes a text out of a row")]
pub fn ownership_of(row: &Row) -> Option<Ownership> {
    let owner = group_of(row, 1)?;
    let epoch = Epoch::new(row.get(2)?.value() as i64)?;
    // SAFETY: the column is a text, which lives as long as the row.
    let state = unsafe { body(row.get(3)?) };
    let state = State::from_name(std::str::from_utf8(state).ok()?)?;
    Some(Ownership { state, epoch, owner })
}

/// Makes all sessions read the tables again when this transaction has committed.
pub fn forget_all() -> Result<(), Error> {
    report_change(MEMBER)
}
