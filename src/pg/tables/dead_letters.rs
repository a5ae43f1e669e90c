//! Dead letters: records of the queue that could not be written, kept in a table with the reason.
#![expect(unsafe_code, reason = "passes PostgreSQL's values on")]

use crate::codec::array::{ELEMENT_OVERHEAD_MAX, ElementType, overhead_max, write_array};
use crate::codec::record::Record;
use crate::drain::failure::Failure;
use crate::model::event::EventId;
use crate::model::memory::{copied, fitting, with_room};
use crate::pg::call::datum::{body, display};
use crate::pg::call::rows::{int4, int8};
use crate::pg::error::Error;
use crate::pg::session::xact::{check_writable, with_snapshot_of_now};
use crate::pg::tables::query::{Access, Parameter, Row, execute_as_owner};
use crate::pg::tables::rights::check_admin;
use pgrx::pg_sys;
use std::ffi::CStr;
use zerocopy::IntoBytes;

const TABLE: &str = "dead_letters";

const INSERT: &CStr = c"
    INSERT INTO allsource.dead_letters (enqueued_at, sqlstate, reason, tenant_id, stream_id,
                entity_id, event_type, payload, metadata, event_id,
                queue_epoch, queue_worker, queue_offset)
    SELECT *
      FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3),
                      pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6),
                      pg_catalog.unnest($7), pg_catalog.unnest($8), pg_catalog.unnest($9),
                      pg_catalog.unnest($10), pg_catalog.unnest($11), pg_catalog.unnest($12),
                      pg_catalog.unnest($13))";

/// Letters that are written by one statement at most.
const LETTERS_PER_INSERT: usize = 1_000;

/// Bytes of letters that are written by one statement at most, except for a single letter.
const BYTES_PER_INSERT: usize = 16 * 1024 * 1024;

const TAKE: &CStr = c"
    DELETE FROM allsource.dead_letters AS d
     WHERE d.id OPERATOR(pg_catalog.=) $1
    RETURNING d.tenant_id, d.stream_id, d.entity_id, d.event_type, d.payload, d.metadata,
              d.event_id";

const FIND: &CStr = c"
    SELECT d.queue_offset, d.sqlstate, d.reason
      FROM allsource.dead_letters d
     WHERE d.queue_epoch OPERATOR(pg_catalog.=) $1
       AND d.queue_worker OPERATOR(pg_catalog.=) $2
       AND d.queue_offset OPERATOR(pg_catalog.>=) $3
       AND d.queue_offset OPERATOR(pg_catalog.<=) $4
     ORDER BY d.queue_offset";

/// Columns of the result of `TAKE`.
mod taken {
    pub const TENANT_ID: i32 = 1;
    pub const STREAM_ID: i32 = 2;
    pub const ENTITY_ID: i32 = 3;
    pub const EVENT_TYPE: i32 = 4;
    pub const PAYLOAD: i32 = 5;
    pub const METADATA: i32 = 6;
    pub const EVENT_ID: i32 = 7;
}

/// Columns of the result of `FIND`.
mod found {
    pub const QUEUE_OFFSET: i32 = 1;
    pub const SQLSTATE: i32 = 2;
    pub const REASON: i32 = 3;
}

/// Where a record was in its queue.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// as in `QueueName`
    pub epoch: i64,
    /// number of the queue's worker
    pub worker: usize,
    /// where the record ended
    pub offset: u64,
}

/// Which of the records of a queue, given by its number and their ends in ascending order, have
/// become dead letters: how many, and why the first one. Sees what is committed now, whatever the
/// caller may see of the table.
pub fn find(
    epoch: i64,
    worker: usize,
    records: &[(usize, u64)],
) -> Result<Option<(usize, Failure)>, Error> {
    let (Some((_, first)), Some((_, last))) = (records.first(), records.last()) else {
        return Ok(None);
    };
    let parameters = [
        (pg_sys::INT8OID, int8(epoch)),
        (pg_sys::INT4OID, int4(worker as i32)),
        (pg_sys::INT8OID, int8(*first as i64)),
        (pg_sys::INT8OID, int8(*last as i64)),
    ];
    let mut found: Option<(usize, Failure)> = None;
    with_snapshot_of_now(|_| {
        execute_as_owner(TABLE, FIND, &parameters, Access::Read, |row| {
            let offset = row.get(found::QUEUE_OFFSET).map_or(0, |value| value.value() as u64);
            if records.binary_search_by_key(&offset, |(_, end)| *end).is_err() {
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
    // SAFETY: these columns are of type text.
    let text = |column| row.get(column).map(|value| unsafe { body(value) }).unwrap_or_default();
    let sqlstate = text(found::SQLSTATE).try_into().unwrap_or(*b"XX000");
    Failure { sqlstate, message: display(text(found::REASON)) }
}

/// A record that could not be written, where it was, and why.
pub type Unwritten<'a> = (Record<'a>, Place, Failure);

/// Puts records among the dead letters, in their order, in the transaction that is open.
pub fn insert_all(letters: &[Unwritten<'_>]) -> Result<(), Error> {
    let mut rest = letters;
    while !rest.is_empty() {
        let sizes = rest.iter().map(|(record, ..)| record.size_bytes());
        let (now, later) = rest.split_at(fitting(sizes, LETTERS_PER_INSERT, BYTES_PER_INSERT));
        insert(now)?;
        rest = later;
    }
    Ok(())
}

fn insert(letters: &[Unwritten<'_>]) -> Result<(), Error> {
    let bytes = |(record, _, reason): &Unwritten<'_>| record.size_bytes() + reason.message.len();
    let arrays_max = ARRAYS * (overhead_max(letters.len()) + letters.len() * PER_ELEMENT_MAX);
    let mut arrays = Arrays(with_room(arrays_max + letters.iter().map(bytes).sum::<usize>())?);
    let starts = [
        arrays.add(ElementType::Timestamptz, letters, |(record, ..)| {
            Some(record.enqueued_at_us.as_bytes())
        }),
        arrays.add(ElementType::Text, letters, |(_, _, why)| Some(&why.sqlstate[..])),
        arrays.add(ElementType::Text, letters, |(_, _, why)| Some(why.message.as_bytes())),
        arrays.add(ElementType::Text, letters, |(record, ..)| Some(record.tenant_id)),
        arrays.add(ElementType::Text, letters, |(record, ..)| Some(record.stream_id)),
        arrays.add(ElementType::Text, letters, |(record, ..)| record.entity_id),
        arrays.add(ElementType::Text, letters, |(record, ..)| Some(record.event.event_type)),
        arrays.add(ElementType::Jsonb, letters, |(record, ..)| Some(record.event.payload)),
        arrays.add(ElementType::Jsonb, letters, |(record, ..)| record.event.metadata),
        arrays.add(ElementType::Uuid, letters, |(record, ..)| {
            record.event.event_id.as_ref().map(|id| &id[..])
        }),
        arrays.add(ElementType::Int8, letters, |(_, place, _)| Some(place.epoch.as_bytes())),
        arrays.add(ElementType::Int8, letters, |(_, place, _)| Some(place.worker.as_bytes())),
        arrays.add(ElementType::Int8, letters, |(_, place, _)| Some(place.offset.as_bytes())),
    ];
    let parameters: [Parameter; ARRAYS] = starts.map(|(array_type, start)| {
        // SAFETY: an array begins there, and the buffer stays as it is until the statement is done.
        (array_type, Some(pg_sys::Datum::from(unsafe { arrays.0.as_ptr().add(start) })))
    });
    execute_as_owner(TABLE, INSERT, &parameters, Access::Write, |_| Ok(()))
}

/// Columns of the table that are written.
const ARRAYS: usize = 13;

/// What an element takes at most beyond the bytes of its record and reason.
const PER_ELEMENT_MAX: usize = ELEMENT_OVERHEAD_MAX + size_of::<i64>();

/// Arrays in one buffer that has room for all of them.
struct Arrays(Vec<u8>);

impl Arrays {
    fn add<'l, 'a>(
        &mut self,
        element_type: ElementType,
        letters: &'l [Unwritten<'a>],
        value: impl Fn(&'l Unwritten<'a>) -> Option<&'l [u8]> + Clone,
    ) -> (pg_sys::Oid, usize) {
        let start = write_array(&mut self.0, element_type, letters.iter().map(value));
        let array_type = match element_type {
            ElementType::Int8 => pg_sys::INT8ARRAYOID,
            ElementType::Int4 => pg_sys::INT4ARRAYOID,
            ElementType::Text => pg_sys::TEXTARRAYOID,
            ElementType::Timestamptz => pg_sys::TIMESTAMPTZARRAYOID,
            ElementType::Uuid => pg_sys::UUIDARRAYOID,
            ElementType::Jsonb => pg_sys::JSONBARRAYOID,
        };
        (array_type, start)
    }
}

/// A dead letter, copied.
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
    fn from_row(row: &Row) -> Result<Self, Error> {
        // SAFETY: all but `EVENT_ID` are of variable length, and that is a uuid, which is
        // passed as a pointer to its 16 bytes.
        let bytes =
            |column| row.get(column).map(|value| copied(unsafe { body(value) })).transpose();
        Ok(Self {
            tenant_id: bytes(taken::TENANT_ID)?.unwrap_or_default(),
            stream_id: bytes(taken::STREAM_ID)?.unwrap_or_default(),
            entity_id: bytes(taken::ENTITY_ID)?,
            event_type: bytes(taken::EVENT_TYPE)?.unwrap_or_default(),
            payload: bytes(taken::PAYLOAD)?.unwrap_or_default(),
            metadata: bytes(taken::METADATA)?,
            // SAFETY: see above.
            event_id: row
                .get(taken::EVENT_ID)
                .map(|value| unsafe { *value.cast_mut_ptr::<EventId>() }),
        })
    }
}

/// Removes a dead letter.
pub fn take(id: i64) -> Result<Letter, Error> {
    check_writable()?;
    check_admin("dead letters")?;
    let mut letter = None;
    execute_as_owner(TABLE, TAKE, &[(pg_sys::INT8OID, int8(id))], Access::Write, |row| {
        letter = Some(Letter::from_row(&row)?);
        Ok(())
    })?;
    letter.ok_or(Error::NoDeadLetter { id })
}
