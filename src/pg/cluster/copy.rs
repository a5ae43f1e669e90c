//! Copies of a partition: emptying one, and what is in it.

use crate::model::partition::Partition;
use crate::pg::call::rows::int4;
use crate::pg::error::Error;
use crate::pg::hot::map;
use crate::pg::tables::names::lock_by_name;
use crate::pg::tables::query::{Access, execute_as_owner};
use crate::pg::tables::schema::Root;
use pgrx::pg_sys;
use std::ffi::{CStr, CString};

const ROOTS: [Root; 4] = [Root::Streams, Root::Log, Root::Ids, Root::Batches];

const FORGET_HOT: &CStr = c"
    DELETE FROM allsource.hot_partitions AS p
     WHERE p.partition_id OPERATOR(pg_catalog.=) $1";

/// Empties a partition. It was never hot then: if it becomes so, batches are numbered above those that
/// the heads of the copy know of.
pub fn empty(partition: Partition) -> Result<(), Error> {
    let leaves = ROOTS.map(|root| format!("allsource.{}", root.leaf(partition))).join(", ");
    let truncate = statement(format!("TRUNCATE {leaves}"))?;
    execute_as_owner(&Root::Streams.leaf(partition), &truncate, &[], Access::Write, |_| Ok(()))?;
    lock_by_name(map::TABLE, pg_sys::ShareRowExclusiveLock as pg_sys::LOCKMODE)?;
    let parameters = [(pg_sys::INT4OID, int4(partition.number()))];
    execute_as_owner(map::TABLE, FORGET_HOT, &parameters, Access::Write, |_| Ok(()))
}

/// Whether a partition holds nothing.
pub fn is_empty(partition: Partition) -> Result<bool, Error> {
    let mut is_empty = true;
    for root in ROOTS {
        let leaf = root.leaf(partition);
        let any = statement(format!("SELECT 1 FROM allsource.{leaf} LIMIT 1"))?;
        execute_as_owner(&leaf, &any, &[], Access::Write, |_| {
            is_empty = false;
            Ok(())
        })?;
    }
    Ok(is_empty)
}

/// The position of the last event of a partition.
pub fn last_position(partition: Partition) -> Result<Option<i64>, Error> {
    let mut last = None;
    let parameters = [(pg_sys::INT4OID, int4(partition.number()))];
    execute_as_owner(Root::Log.table(), LAST, &parameters, Access::Write, |row| {
        last = row.get(1).map(|value| value.value() as i64);
        Ok(())
    })?;
    Ok(last)
}

const LAST: &CStr = c"
    SELECT l.\"position\" OPERATOR(pg_catalog.+) pg_catalog.cardinality(l.event_types) OPERATOR(pg_catalog.-) 1
      FROM allsource.event_log l
     WHERE l.partition_id OPERATOR(pg_catalog.=) $1
     ORDER BY l.\"position\" DESC
     LIMIT 1";

/// A statement that was put together.
pub fn statement(sql: String) -> Result<CString, Error> {
    CString::new(sql).map_err(|_| Error::Internal { what: "statement has a zero byte".into() })
}
