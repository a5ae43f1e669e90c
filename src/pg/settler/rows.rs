//! What the settler writes to `hot_partitions` and `hot_batches`. Each function is called in a
//! transaction.
#![expect(unsafe_code, reason = "passes PostgreSQL's values on")]

use super::piece::Leftover;
use crate::codec::hot_batch::{HotBatchWriter, Pushed};
use crate::codec::record::{Home, Record};
use crate::model::partition::Partition;
use crate::pg::call::datum::text;
use crate::pg::call::rows::{int4, int8};
use crate::pg::cluster::gate;
use crate::pg::cluster::owners::may_heat;
use crate::pg::error::Error;
use crate::pg::hot::batches::Batches;
use crate::pg::hot::map::TABLE;
use crate::pg::session::xact::with_snapshot_of_now;
use crate::pg::tables::names::lock_by_name;
use crate::pg::tables::query::{Access, Parameter, execute_as_owner};
use crate::pg::tables::schema::Root;
use crate::pg::tables::waiting_events::store_id;
use pgrx::{IntoDatum, pg_sys};
use std::collections::BTreeSet;
use std::ffi::CStr;

// Numbers go on above all that heads know of: a row may have been deleted.
const LAST_SETTLED: &CStr = c"
    SELECT pg_catalog.max(s.settled_batch)
      FROM allsource.event_streams s
     WHERE s.partition_id OPERATOR(pg_catalog.=) $1
       AND NOT EXISTS (SELECT FROM allsource.hot_partitions p
                        WHERE p.partition_id OPERATOR(pg_catalog.=) $1)";

const HEAT: &CStr = c"
    INSERT INTO allsource.hot_partitions AS p (partition_id, state, since, settled_batch, store_id,
                is_automatic)
    VALUES ($1, 'hot', pg_catalog.clock_timestamp(), $4, $2, $3)
        ON CONFLICT (partition_id) DO UPDATE
       SET state = 'hot', store_id = $2, is_automatic = $3,
           since = CASE WHEN p.state OPERATOR(pg_catalog.=) 'hot' THEN p.since
                        ELSE pg_catalog.clock_timestamp() END";

const SET_STATE: &CStr = c"
    UPDATE allsource.hot_partitions AS p
       SET state = $2, since = pg_catalog.clock_timestamp()
     WHERE p.partition_id OPERATOR(pg_catalog.=) $1
       AND p.state OPERATOR(pg_catalog.<>) $2";

const ADOPT: &CStr = c"
    UPDATE allsource.hot_partitions AS p
       SET store_id = $2
     WHERE p.partition_id OPERATOR(pg_catalog.=) $1";

const SET_SETTLED: &CStr = c"
    UPDATE allsource.hot_partitions AS p
       SET settled_batch = GREATEST(p.settled_batch, $2)
     WHERE p.partition_id OPERATOR(pg_catalog.=) $1";

const DELETE: &CStr = c"
    DELETE FROM allsource.hot_batches AS b
     WHERE b.partition_id OPERATOR(pg_catalog.=) $1
       AND b.batch_no OPERATOR(pg_catalog.<=) $2
       AND b.batch_no OPERATOR(pg_catalog.<>) ALL ($3)
       AND b.batch_no OPERATOR(pg_catalog.>) $4
    RETURNING b.events, pg_catalog.octet_length(b.body)";

const REWRITE: &CStr = c"
    UPDATE allsource.hot_batches AS b
       SET events = $3, checksum = $4, streams = $5, body = $6
     WHERE b.partition_id OPERATOR(pg_catalog.=) $1
       AND b.batch_no OPERATOR(pg_catalog.=) $2
    RETURNING 1";

const BYTES: &CStr = c"
    SELECT COALESCE(pg_catalog.sum(pg_catalog.octet_length(b.body)), 0)
      FROM allsource.hot_batches b
     WHERE b.partition_id OPERATOR(pg_catalog.=) $1";

fn partition_id(partition: Partition) -> Parameter {
    (pg_sys::INT4OID, int4(partition.number()))
}

fn number(value: i64) -> Parameter {
    (pg_sys::INT8OID, int8(value))
}

fn change(sql: &CStr, parameters: &[Parameter]) -> Result<(), Error> {
    execute_as_owner(TABLE, sql, parameters, Access::Write, |_| Ok(()))
}

/// Keeps others from changing `hot_partitions`, and workers from reading it until they are told of the
/// change.
fn lock_states() -> Result<(), Error> {
    lock_by_name(TABLE, pg_sys::ShareRowExclusiveLock as pg_sys::LOCKMODE)?;
    Ok(())
}

/// Makes a partition hot. Returns `false` if it must not be: another group has it, or is about to get it.
pub fn heat(partition: Partition, incarnation: u32, is_automatic: bool) -> Result<bool, Error> {
    // All heads are read for it, and nobody is to wait for that. Without a row they stay as they are.
    let mut settled = 0;
    execute_as_owner(TABLE, LAST_SETTLED, &[partition_id(partition)], Access::Read, |row| {
        settled = row.get(1).map_or(0, |value| value.value() as i64);
        Ok(())
    })?;
    // Who closes or fences the partition meanwhile finds it hot, or is found.
    if !gate::try_enter(partition)? || !may_heat(partition)? {
        return Ok(false);
    }
    lock_states()?;
    let is_automatic = (pg_sys::BOOLOID, Some(pg_sys::Datum::from(is_automatic)));
    let store_id = number(store_id(incarnation));
    change(HEAT, &[partition_id(partition), store_id, is_automatic, number(settled)])?;
    Ok(true)
}

/// Makes a partition take no more batches.
pub fn begin_cooling(partition: Partition) -> Result<(), Error> {
    lock_states()?;
    set_state(partition, "cooling")
}

/// Makes a partition cold, if it has no batches. Returns whether it has none.
pub fn end_cooling(partition: Partition) -> Result<bool, Error> {
    lock_states()?;
    // A worker that is about to write a batch looks at the state when it has its lock.
    let share = pg_sys::ShareLock as pg_sys::LOCKMODE;
    lock_by_name(&Root::Batches.leaf(partition), share)?;
    let last = with_snapshot_of_now(|snapshot| {
        Ok::<_, Error>(Batches::open(partition, snapshot)?.last())
    })?;
    if last.is_none() {
        set_state(partition, "cold")?;
    }
    Ok(last.is_none())
}

fn set_state(partition: Partition, state: &str) -> Result<(), Error> {
    let state = (pg_sys::TEXTOID, Some(text(state.as_bytes())));
    change(SET_STATE, &[partition_id(partition), state])
}

/// Makes the batches of a restored dump this store's.
pub fn adopt(partition: Partition, incarnation: u32) -> Result<(), Error> {
    lock_states()?;
    change(ADOPT, &[partition_id(partition), number(store_id(incarnation))])
}

/// Bytes of the batches of a partition.
pub fn batch_bytes(partition: Partition) -> Result<u64, Error> {
    let mut bytes = 0;
    let table = Root::Batches.table();
    execute_as_owner(table, BYTES, &[partition_id(partition)], Access::Read, |row| {
        bytes = row.get(1).map_or(0, |value| value.value() as u64);
        Ok(())
    })?;
    Ok(bytes)
}

/// What the end of a pass has removed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Removed {
    /// events
    pub events: u64,
    /// bytes of bodies
    pub bytes: u64,
}

/// Removes what is settled: the batches after `after` up to `up_to`, but for the events of streams that could
/// not be settled.
pub fn end_pass(
    partition: Partition,
    after: i64,
    up_to: i64,
    leftovers: &[Leftover],
) -> Result<Removed, Error> {
    let mut removed = Removed::default();
    let kept: BTreeSet<i64> =
        leftovers.iter().flat_map(|leftover| leftover.batches.iter().copied()).collect();
    rewrite(partition, leftovers, &kept, &mut removed)?;
    let kept: Vec<i64> = kept.into_iter().collect();
    let kept = (pg_sys::INT8ARRAYOID, kept.into_datum());
    let parameters = [partition_id(partition), number(up_to), kept, number(after)];
    execute_as_owner(Root::Batches.table(), DELETE, &parameters, Access::Write, |row| {
        removed.events += row.get(1).map_or(0, |value| value.value() as i32 as u64);
        removed.bytes += row.get(2).map_or(0, |value| value.value() as i32 as u64);
        Ok(())
    })?;
    change(SET_SETTLED, &[partition_id(partition), number(up_to)])?;
    Ok(removed)
}

/// Leaves only the events of these streams in these batches.
fn rewrite(
    partition: Partition,
    leftovers: &[Leftover],
    kept: &BTreeSet<i64>,
    removed: &mut Removed,
) -> Result<(), Error> {
    let (Some(first), Some(last)) = (kept.first(), kept.last()) else { return Ok(()) };
    let streams: BTreeSet<_> = leftovers.iter().map(|leftover| leftover.name.key()).collect();
    let mut written: Vec<(i64, HotBatchWriter)> = Vec::new();
    with_snapshot_of_now(|snapshot| {
        Batches::open(partition, snapshot)?.read(first - 1, *last, |batch| {
            if !kept.contains(&batch.batch_no) {
                return Ok(true);
            }
            let events = batch.events()?;
            let before = events.remaining();
            let mut body = HotBatchWriter::new(usize::MAX);
            body.begin(events.timestamp_us());
            for event in events {
                let event = event.map_err(|source| batch.damaged(source))?;
                if !streams.contains(&event.stream) {
                    continue;
                }
                let pushed = body.push(&Record {
                    enqueued_at_us: 0,
                    home: Home { database: 0, incarnation: 0 },
                    stream_id: event.stream.stream_id,
                    tenant_id: event.stream.tenant_id,
                    entity_id: None,
                    event: event.event,
                })?;
                if pushed != Pushed::Added {
                    return Err(Error::Internal { what: "a batch cannot be written again".into() });
                }
            }
            if body.len() < before {
                removed.events += (before - body.len()) as u64;
                removed.bytes += (batch.body().len() - body.size_bytes()) as u64;
                written.push((batch.batch_no, body));
            }
            Ok(true)
        })
    })?;
    for (batch_no, mut body) in written {
        let row = body.row(partition, batch_no)?;
        // A bytea is made of its bytes as a text is.
        let bytea = |bytes| (pg_sys::BYTEAOID, Some(text(bytes)));
        let parameters = [
            partition_id(partition),
            number(batch_no),
            (pg_sys::INT4OID, int4(row.events as i32)),
            (pg_sys::INT4OID, int4(row.checksum)),
            bytea(row.streams),
            bytea(row.body),
        ];
        let mut rows = 0;
        execute_as_owner(Root::Batches.table(), REWRITE, &parameters, Access::Write, |_| {
            rows += 1;
            Ok(())
        })?;
        if rows != 1 {
            return Err(Error::RowChanged { table: Root::Batches.leaf(partition) });
        }
    }
    Ok(())
}

/// Whether no snapshot shows any more what was there before this transaction.
pub fn is_seen_by_all(transaction: pg_sys::TransactionId) -> bool {
    // SAFETY: looks at shared memory; without a relation the horizon is that of all databases.
    unsafe {
        let horizon = pg_sys::GetOldestNonRemovableTransactionId(std::ptr::null_mut());
        pg_sys::TransactionIdPrecedes(transaction, horizon)
    }
}
