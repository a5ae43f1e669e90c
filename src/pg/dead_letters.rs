//! Dead letters: records of the queue that could not be written, kept in a table with the reason.
#![expect(unsafe_code, reason = "passes PostgreSQL's values on")]

use super::append::append;
use super::datum::{body, text};
use super::error::Error;
use super::head::StreamAppend;
use super::query::{Row, execute_as_owner};
use super::rights::check_admin;
use super::rows::int8;
use super::xact::check_writable;
use crate::codec::record::Record;
use crate::drain::failure::Failure;
use crate::model::event::{EventId, NewEvent};
use crate::model::partition::Partition;
use crate::model::version::ExpectedVersion;
use pgrx::pg_sys;
use std::ffi::CStr;

const TABLE: &str = "dead_letters";

const INSERT: &CStr = c"
    INSERT INTO allsource.dead_letters (enqueued_at, sqlstate, reason, tenant_id, stream_id,
                entity_id, event_type, payload, metadata, event_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

const TAKE: &CStr = c"
    DELETE FROM allsource.dead_letters AS d
     WHERE d.id OPERATOR(pg_catalog.=) $1
    RETURNING d.tenant_id, d.stream_id, d.entity_id, d.event_type, d.payload, d.metadata,
              d.event_id";

/// Puts a record among the dead letters, in the transaction that is open. What goes wrong is raised.
pub fn insert(record: &Record<'_>, reason: &Failure) {
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
    ];
    if let Err(error) = execute_as_owner(TABLE, INSERT, &parameters, |_| Ok(())) {
        error.raise();
    }
}

/// A dead letter's own copy of what it is about.
struct Letter {
    tenant_id: Vec<u8>,
    stream_id: Vec<u8>,
    entity_id: Option<Vec<u8>>,
    event_type: Vec<u8>,
    payload: Vec<u8>,
    metadata: Option<Vec<u8>>,
    event_id: Option<EventId>,
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
fn take(function: &'static CStr, id: i64) -> Result<Letter, Error> {
    check_writable(function);
    check_admin("dead letters")?;
    let mut letter = None;
    execute_as_owner(TABLE, TAKE, &[(pg_sys::INT8OID, int8(id))], |row| {
        letter = Some(Letter::from_row(&row));
        Ok(())
    })?;
    letter.ok_or(Error::NoDeadLetter { id })
}

/// Appends a dead letter's event to its stream, in the caller's transaction, and removes the letter.
/// Returns the event's version.
pub fn retry(function: &'static CStr, id: i64) -> Result<i64, Error> {
    let letter = take(function, id)?;
    let event = NewEvent {
        event_type: &letter.event_type,
        payload: &letter.payload,
        metadata: letter.metadata.as_deref(),
        event_id: letter.event_id,
    };
    let stream = StreamAppend {
        partition: Partition::of(&letter.stream_id),
        stream_id: &letter.stream_id,
        tenant_id: &letter.tenant_id,
        entity_id: letter.entity_id.as_deref(),
        expected: ExpectedVersion::Any,
        events: &[event],
    };
    Ok(append(function, &[stream])?[0].last_version)
}

/// Removes a dead letter for good.
pub fn discard(function: &'static CStr, id: i64) -> Result<(), Error> {
    take(function, id)?;
    Ok(())
}
