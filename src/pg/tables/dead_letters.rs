//! Dead letters: records of the queue that could not be written, kept in a table with the reason.
#![expect(unsafe_code, reason = "passes PostgreSQL's values on")]

use crate::codec::record::Record;
use crate::drain::failure::Failure;
use crate::model::event::EventId;
use crate::pg::call::datum::{body, display, text};
use crate::pg::call::rows::{int4, int8};
use crate::pg::error::Error;
use crate::pg::session::xact::{check_writable, with_snapshot_of_now};
use crate::pg::tables::query::{Access, Row, execute, execute_as_owner};
use crate::pg::tables::rights::check_admin;
use pgrx::pg_sys;
use std::ffi::CStr;

const TABLE: &str = "dead_letters";

const INSERT: &CStr = c"
    INSERT INTO allsource.dead_letters (enqueued_at, sqlstate, reason, tenant_id, stream_id,
                entity_id, event_type, payload, metadata, event_id,
                queue_epoch, queue_worker, queue_position)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";

const TAKE: &CStr = c"
    DELETE FROM allsource.dead_letters AS d
     WHERE d.id OPERATOR(pg_catalog.=) $1
    RETURNING d.tenant_id, d.stream_id, d.entity_id, d.event_type, d.payload, d.metadata,
              d.event_id";

const FIND: &CStr = c"
    SELECT d.queue_position, d.sqlstate, d.reason
      FROM allsource.dead_letters d
     WHERE d.queue_epoch OPERATOR(pg_catalog.=) $1
       AND d.queue_worker OPERATOR(pg_catalog.=) $2
       AND d.queue_position OPERATOR(pg_catalog.>=) $3
       AND d.queue_position OPERATOR(pg_catalog.<=) $4
     ORDER BY d.queue_position";

/// Where a record was in its queue.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// which run of shared memory
    pub epoch: i64,
    /// number of the queue's worker
    pub worker: usize,
    /// where the record ended
    pub position: u64,
}

/// Which of the records that ended at `positions`, ascending, of a queue have become dead letters:
/// how many, and why the first one. Sees what is committed now.
pub fn find(
    epoch: i64,
    worker: usize,
    positions: &[u64],
) -> Result<Option<(usize, Failure)>, Error> {
    let (Some(first), Some(last)) = (positions.first(), positions.last()) else { return Ok(None) };
    let parameters = [
        (pg_sys::INT8OID, int8(epoch)),
        (pg_sys::INT4OID, int4(worker as i32)),
        (pg_sys::INT8OID, int8(*first as i64)),
        (pg_sys::INT8OID, int8(*last as i64)),
    ];
    let mut found: Option<(usize, Failure)> = None;
    with_snapshot_of_now(|_| {
        execute(FIND, &parameters, Access::Read, |row| {
            let position = row.get(1).map_or(0, |value| value.value() as u64);
            if positions.binary_search(&position).is_err() {
                return Ok(());
            }
            match &mut found {
                Some((count, _)) => *count += 1,
                none => *none = Some((1, failure(&row))),
            }
            Ok(())
        })
    })?;
    Ok(found)
}

fn failure(row: &Row) -> Failure {
    // SAFETY: columns 2 and 3 of `FIND` are of type text.
    let text = |column| row.get(column).map(|value| unsafe { body(value) }).unwrap_or_default();
    let sqlstate = text(2).try_into().unwrap_or(*b"XX000");
    Failure { sqlstate, message: display(text(3)) }
}

/// Puts a record among the dead letters, in the transaction that is open. What goes wrong is raised.
pub fn insert(record: &Record<'_>, place: Place, reason: &Failure) {
    let value = |bytes: &[u8]| Some(text(bytes));
    let event = &record.event;
    let parameters = [
        (pg_sys::TIMESTAMPTZOID, int8(record.enqueued_at_us)),
        (pg_sys::TEXTOID, value(&reason.sqlstate)),
        (pg_sys::TEXTOID, value(reason.message.as_bytes())),
        (pg_sys::TEXTOID, value(record.tenant_id)),
        (pg_sys::TEXTOID, value(record.stream_id)),
        (pg_sys::TEXTOID, record.entity_id.and_then(value)),
        (pg_sys::TEXTOID, value(event.event_type)),
        // A value of type jsonb looks like one of type text: a length word and bytes.
        (pg_sys::JSONBOID, value(event.payload)),
        (pg_sys::JSONBOID, event.metadata.and_then(value)),
        (pg_sys::UUIDOID, event.event_id.as_ref().map(|id| pg_sys::Datum::from(id.as_ptr()))),
        (pg_sys::INT8OID, int8(place.epoch)),
        (pg_sys::INT4OID, int4(place.worker as i32)),
        (pg_sys::INT8OID, int8(place.position as i64)),
    ];
    if let Err(error) = execute_as_owner(TABLE, INSERT, &parameters, |_| Ok(())) {
        error.raise("allsource worker");
    }
}

/// A dead letter's own copy of what it is about.
pub struct Letter {
    /// `tenant_id`
    pub tenant_id: Vec<u8>,
    /// `stream_id`
    pub stream_id: Vec<u8>,
    /// `entity_id`
    pub entity_id: Option<Vec<u8>>,
    /// `event_type`
    pub event_type: Vec<u8>,
    /// `payload`
    pub payload: Vec<u8>,
    /// `metadata`
    pub metadata: Option<Vec<u8>>,
    /// `event_id`
    pub event_id: Option<EventId>,
}

impl Letter {
    fn from_row(row: &Row) -> Self {
        // SAFETY: columns 1 to 6 of `TAKE` are of variable length; the last one is a uuid, which is
        // passed as a pointer to its 16 bytes.
        let bytes = |column| row.get(column).map(|value| unsafe { body(value) }.to_vec());
        Self {
            tenant_id: bytes(1).unwrap_or_default(),
            stream_id: bytes(2).unwrap_or_default(),
            entity_id: bytes(3),
            event_type: bytes(4).unwrap_or_default(),
            payload: bytes(5).unwrap_or_default(),
            metadata: bytes(6),
            // SAFETY: see above.
            event_id: row.get(7).map(|value| unsafe { *value.cast_mut_ptr::<EventId>() }),
        }
    }
}

/// Removes a dead letter.
pub fn take(id: i64) -> Result<Letter, Error> {
    check_writable()?;
    check_admin("dead letters")?;
    let mut letter = None;
    execute_as_owner(TABLE, TAKE, &[(pg_sys::INT8OID, int8(id))], |row| {
        letter = Some(Letter::from_row(&row));
        Ok(())
    })?;
    letter.ok_or(Error::NoDeadLetter { id })
}
