//! Copies of a partition: emptying one, and a summary by which two are compared.

use crate::model::partition::Partition;
use crate::pg::call::Call;
use crate::pg::call::rows::{Rows, int4, int8};
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

// Sums, so that the order of rows does not matter. Names of columns are resolved in pg_catalog and
// pg_temp: the functions are declared with that path.
const RUNS: &CStr = c"
    SELECT count(*),
           coalesce(sum(cardinality(l.event_types)), 0)::int8,
           coalesce(sum(hash_record_extended(ROW(l.stream_no, l.first_version, l.\"position\", l.\"timestamp\", l.checksum), 0)), 0)
      FROM allsource.event_log l
     WHERE l.partition_id = $1
       AND l.\"position\" > $2
       AND l.\"position\" <= $3";

const STREAMS: &CStr = c"
    SELECT count(*),
           coalesce(sum(s.current_version), 0)::int8,
           coalesce(sum(hash_record_extended(ROW(s.stream_no, s.current_version, s.watermark, s.created_at, s.updated_at,
               s.settled_batch, s.settled_events, s.tenant_id, s.stream_id, s.entity_id), 0)), 0)
      FROM allsource.event_streams s
     WHERE s.partition_id = $1";

/// Puts a row into the result of `call`: what the runs of a partition amount to whose first event is above
/// one position and at most at another, and, `with_streams`, what its heads amount to.
pub fn summarize(
    call: &Call,
    partition: Partition,
    (above, up_to): (i64, i64),
    with_streams: bool,
) -> Result<(), Error> {
    let mut rows = Rows::begin(call);
    let id = (pg_sys::INT4OID, int4(partition.number()));
    let mut result = [None; 6];
    let range = [id, (pg_sys::INT8OID, int8(above)), (pg_sys::INT8OID, int8(up_to))];
    // The numeric is copied: it does not outlive the query.
    let mut take = |table: &str, sql: &CStr, parameters: &[_], at: usize| {
        execute_as_owner(table, sql, parameters, Access::Read, |row| {
            result[at] = row.get(1);
            result[at + 1] = row.get(2);
            result[at + 2] = row.get(3).map(copy_of_numeric);
            Ok(())
        })
    };
    take(Root::Log.table(), RUNS, &range, 0)?;
    if with_streams {
        take(Root::Streams.table(), STREAMS, &[id], 3)?;
    }
    rows.put(result)
}

#[expect(unsafe_code, reason = "copies a row's value")]
fn copy_of_numeric(value: pg_sys::Datum) -> pg_sys::Datum {
    // SAFETY: a numeric of a row that SPI has returned, into memory that outlives SPI.
    unsafe { pg_sys::SPI_datumTransfer(value, false, -1) }
}
