//! Joining a cluster, and leaving it.

use super::copy::is_empty;
use super::gate;
use super::owners::{MEMBER, OWNERS, group_of, ownership_of};
use super::row::group;
use crate::cluster::epoch::Epoch;
use crate::cluster::group::GroupId;
use crate::cluster::ownership::{Member, Refusal, State};
use crate::model::error::StoreError;
use crate::model::partition::{PARTITIONS, Partition};
use crate::pg::call::datum::text;
use crate::pg::call::rows::{int4, int8};
use crate::pg::error::{Error, Obstacle};
use crate::pg::session::xact::{check_writable, wait_at_commit};
use crate::pg::settings;
use crate::pg::tables::names::lock_by_name;
use crate::pg::tables::query::{Access, execute_as_owner};
use crate::pg::tables::schema::Root;
use pgrx::pg_sys;
use std::ffi::CStr;

const OWN_GROUP: &CStr = c"SELECT m.group_id FROM allsource.cluster_member m";

const BECOME_MEMBER: &CStr = c"
    INSERT INTO allsource.cluster_member (group_id, joined_at)
    VALUES ($1, pg_catalog.clock_timestamp())";

const ADD_ROW: &CStr = c"
    INSERT INTO allsource.partition_owners (partition_id, group_id, epoch, state)
    VALUES ($1, $2, $3, $4)";

const ROWS: &CStr = c"
    SELECT o.group_id, o.epoch, o.state
      FROM allsource.partition_owners o";

// Not deleted: a table without blocks need not be read.
const LEAVE: &CStr = c"TRUNCATE allsource.cluster_member, allsource.partition_owners";

/// Makes this database a member of a group. `owners` and `epochs` are the coordinator's map. What another
/// group owns must be empty here.
pub fn join(
    group_id: Option<i32>,
    owners: [i32; PARTITIONS],
    epochs: [Option<i64>; PARTITIONS],
) -> Result<(), Error> {
    check_writable()?;
    let own = group("group_id", group_id)?;
    let member = Member { group: own, node_id: settings::node_id() };
    if member.node_id != own.number() {
        return Err(Error::NotOwned { partition_id: 0, refusal: Refusal::WrongNode(member) });
    }
    lock_by_name(MEMBER, pg_sys::ShareRowExclusiveLock as pg_sys::LOCKMODE)?;
    if let Some(known) = own_group()? {
        if known != own {
            let because = "It cannot join another one.";
            return Err(Error::IsMember { group_id: known.number(), because });
        }
        wait_at_commit();
        return Ok(());
    }
    let mut rows = Vec::with_capacity(PARTITIONS);
    for (partition, (owner, epoch)) in Partition::all().zip(owners.into_iter().zip(epochs)) {
        let (argument, value) = ("epochs", epoch.unwrap_or(0));
        let epoch = Epoch::new(value).ok_or(StoreError::OutOfRange {
            argument,
            value,
            range: "positive",
        })?;
        rows.push((partition, group("owners", Some(owner))?, epoch));
    }
    let group_id = (pg_sys::INT4OID, int4(own.number()));
    execute_as_owner(MEMBER, BECOME_MEMBER, &[group_id], Access::Write, |_| Ok(()))?;
    for (partition, owner, epoch) in rows {
        let state = if owner == own { State::Owned } else { State::Foreign };
        if state == State::Foreign {
            end_writing(partition)?;
        }
        let parameters = [
            (pg_sys::INT4OID, int4(partition.number())),
            (pg_sys::INT4OID, int4(owner.number())),
            (pg_sys::INT8OID, int8(epoch.number())),
            (pg_sys::TEXTOID, Some(text(state.name().as_bytes()))),
        ];
        execute_as_owner(OWNERS, ADD_ROW, &parameters, Access::Write, |_| Ok(()))?;
    }
    wait_at_commit();
    Ok(())
}

/// Waits for those who write a partition, which must hold nothing then.
fn end_writing(partition: Partition) -> Result<(), Error> {
    for root in [Root::Streams, Root::Batches] {
        lock_by_name(&root.leaf(partition), pg_sys::ShareRowExclusiveLock as pg_sys::LOCKMODE)?;
    }
    gate::shut(partition)?;
    if is_empty(partition)? {
        return Ok(());
    }
    let (problem, hint) =
        ("is not empty", "Join a cluster with what is here, or empty the partition.");
    Err(Error::NotReady { partition_id: partition.number(), problem, hint })
}

/// Makes this database a single server again, if it owns all partitions or none.
pub fn leave() -> Result<(), Error> {
    check_writable()?;
    lock_by_name(MEMBER, pg_sys::AccessExclusiveLock as pg_sys::LOCKMODE)?;
    let own = own_group()?.ok_or(Error::CannotExecute(Obstacle::NotMember))?;
    let (mut owned, mut foreign) = (0, 0);
    execute_as_owner(OWNERS, ROWS, &[], Access::Write, |row| {
        match ownership_of(&row).map(|row| row.state) {
            Some(State::Owned) => owned += 1,
            Some(State::Foreign) => foreign += 1,
            Some(State::Fenced) | None => {}
        }
        Ok(())
    })?;
    if owned != PARTITIONS && foreign != PARTITIONS {
        let because = "It has some of the partitions, and not all.";
        return Err(Error::IsMember { group_id: own.number(), because });
    }
    execute_as_owner(OWNERS, LEAVE, &[], Access::Write, |_| Ok(()))?;
    wait_at_commit();
    Ok(())
}

fn own_group() -> Result<Option<GroupId>, Error> {
    let mut own = None;
    execute_as_owner(MEMBER, OWN_GROUP, &[], Access::Write, |row| {
        own = group_of(&row, 1);
        Ok(())
    })?;
    Ok(own)
}
