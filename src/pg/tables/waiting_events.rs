//! Waiting events: enqueued events whose streams could not be written when their turn came. Only workers
//! insert and delete rows, each those of its own partitions.
#![expect(unsafe_code, reason = "passes PostgreSQL's values on")]

use crate::codec::array::{ElementType, write_array};
use crate::codec::record::{Home, Record};
use crate::drain::waiting::Due;
use crate::model::event::{EventId, NewEvent};
use crate::model::memory::{copied, fitting, push};
use crate::model::partition::Partition;
use crate::pg::call::datum::body;
use crate::pg::call::rows::{int4, int8};
use crate::pg::error::Error;
use crate::pg::session::xact::{
    check_writable, database_oid, with_snapshot_of_now, without_keeping_locks,
};
use crate::pg::tables::dead_letters::Place;
use crate::pg::tables::query::{Access, Parameter, Row, execute, execute_as_owner};
use crate::pg::tables::relation::sequence_oid;
use crate::pg::tables::rights::check_admin;
use crate::pg::tables::schema::Sequence;
use pgrx::pg_sys;
use std::ffi::CStr;
use xxhash_rust::xxh3::xxh3_64;

const TABLE: &str = "waiting_events";

/// Events that are inserted by one statement at most.
const ROWS_PER_INSERT: usize = 1_000;

/// Bytes of events that are inserted or read by one statement at most, except for a single event.
const BYTES_PER_STATEMENT: usize = 4 * 1024 * 1024;

const INSERT: &CStr = c"
    INSERT INTO allsource.waiting_events (queue_epoch, queue_worker, store_id, enqueued_at,
                queue_offset, partition_id, size_bytes, stream_key, tenant_id, stream_id, entity_id,
                event_type, payload, metadata, event_id)
    SELECT $1, $2, $3, r.*
      FROM ROWS FROM (pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6),
                      pg_catalog.unnest($7), pg_catalog.unnest($8), pg_catalog.unnest($9),
                      pg_catalog.unnest($10), pg_catalog.unnest($11), pg_catalog.unnest($12),
                      pg_catalog.unnest($13), pg_catalog.unnest($14), pg_catalog.unnest($15)) AS r
    RETURNING 1";

// After a restart offsets begin at 0 and partitions may belong to other workers. Rows of another store
// are those of a dump that may not be restored completely.
const ADOPT: &CStr = c"
    UPDATE allsource.waiting_events AS w
       SET queue_epoch = $1, queue_worker = $2, queue_offset = 0
     WHERE w.queue_epoch OPERATOR(pg_catalog.<>) $1
       AND w.store_id OPERATOR(pg_catalog.=) $3
       AND pg_catalog.mod(w.partition_id, $4) OPERATOR(pg_catalog.=) $2";

const ADOPT_FOREIGN: &CStr = c"
    UPDATE allsource.waiting_events AS w
       SET store_id = $1, queue_epoch = 0
     WHERE w.store_id OPERATOR(pg_catalog.<>) $1
    RETURNING 1";

const COUNT_FOREIGN: &CStr = c"
    SELECT pg_catalog.count(*)
      FROM allsource.waiting_events w
     WHERE w.store_id OPERATOR(pg_catalog.<>) $1";

const STREAMS: &CStr = c"
    SELECT w.stream_key, w.partition_id, pg_catalog.min(w.id), pg_catalog.count(*)
      FROM allsource.waiting_events w
     WHERE w.queue_epoch OPERATOR(pg_catalog.=) $1
       AND w.queue_worker OPERATOR(pg_catalog.=) $2
     GROUP BY w.stream_key, w.partition_id";

const OLDEST: &CStr = c"
    SELECT w.queue_offset, w.enqueued_at
      FROM allsource.waiting_events w
     WHERE w.queue_epoch OPERATOR(pg_catalog.=) $1
       AND w.queue_worker OPERATOR(pg_catalog.=) $2
     ORDER BY w.queue_offset
     LIMIT 1";

// Workers have settings with which the primary key is used here, whatever is known of the table; the
// sums keep the other index away.
const NEXT: &CStr = c"
    SELECT o.*
      FROM (SELECT r.*, pg_catalog.sum(r.size_bytes)
                        OVER (ORDER BY r.place, r.id ROWS UNBOUNDED PRECEDING) AS bytes
              FROM (SELECT w.id, w.stream_key, w.queue_offset, w.enqueued_at, w.tenant_id,
                           w.stream_id, w.entity_id, w.event_type, w.payload, w.metadata,
                           w.event_id, d.place, w.size_bytes
                      FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2))
                           WITH ORDINALITY AS d (stream_key, first_id, place)
                     CROSS JOIN LATERAL (
                           SELECT s.*
                             FROM allsource.waiting_events s
                            WHERE s.stream_key OPERATOR(pg_catalog.=) d.stream_key
                              AND s.id OPERATOR(pg_catalog.>=) d.first_id
                              AND (s.queue_epoch OPERATOR(pg_catalog.+) 0) OPERATOR(pg_catalog.=) $6
                              AND (s.queue_worker OPERATOR(pg_catalog.+) 0) OPERATOR(pg_catalog.=) $7
                            ORDER BY s.id
                            LIMIT $4) AS w
                     LIMIT $3) AS r) AS o
     WHERE o.bytes OPERATOR(pg_catalog.<=) $5
        OR o.bytes OPERATOR(pg_catalog.=) o.size_bytes
     ORDER BY o.place, o.id";

const DELETE: &CStr = c"
    DELETE FROM allsource.waiting_events AS w
     USING ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS d (stream_key, id)
     WHERE w.stream_key OPERATOR(pg_catalog.=) d.stream_key
       AND w.id OPERATOR(pg_catalog.=) d.id
    RETURNING 1";

const IS_WAITING: &CStr = c"
    SELECT 1
      FROM allsource.waiting_events w
     WHERE w.queue_epoch OPERATOR(pg_catalog.=) $1
       AND w.queue_worker OPERATOR(pg_catalog.=) $2
       AND w.queue_offset OPERATOR(pg_catalog.=) ANY ($3)
     LIMIT 1";

const OF_PARTITION: &CStr = c"
    SELECT 1
      FROM allsource.waiting_events w
     WHERE w.partition_id OPERATOR(pg_catalog.=) $1
     LIMIT 1";

/// Whether events of a partition could not be written when their turn came, and still wait.
pub fn has_waiting_events(partition: Partition) -> Result<bool, Error> {
    let mut found = false;
    let parameters = [(pg_sys::INT4OID, int4(partition.number()))];
    execute_as_owner(TABLE, OF_PARTITION, &parameters, Access::Write, |_| {
        found = true;
        Ok(())
    })?;
    Ok(found)
}

/// A record that has to wait.
#[derive(Clone, Copy)]
pub struct NewWaiting<'a> {
    /// what it is
    pub record: Record<'a>,
    /// where it ended in the queue
    pub offset: u64,
    /// the partition of its stream
    pub partition: Partition,
    /// the hash of its stream
    pub key: u64,
}

/// A queue, as rows identify it.
#[derive(Clone, Copy, Debug)]
pub struct QueueName {
    /// a hash of when its memory was set up and of the store: a dump of another store may bring rows of
    /// the same memory
    pub epoch: i64,
    /// number of the worker
    pub worker: usize,
}

impl QueueName {
    /// The queue of a worker in the memory that was set up at `started`, for the store of this
    /// incarnation.
    pub fn new(started: i64, incarnation: u32, worker: usize) -> Self {
        let mut name = [0; 16];
        name[..8].copy_from_slice(&started.to_le_bytes());
        name[8..].copy_from_slice(&store_id(incarnation).to_le_bytes());
        Self { epoch: xxh3_64(&name).cast_signed(), worker }
    }

    fn parameters(self) -> [Parameter; 2] {
        [(pg_sys::INT8OID, int8(self.epoch)), (pg_sys::INT4OID, int4(self.worker as i32))]
    }

    /// A record of the queue.
    pub fn place(self, offset: u64) -> Place {
        Place { epoch: self.epoch, worker: self.worker, offset }
    }
}

/// Arrays that are passed as parameters: their bytes in one buffer.
#[derive(Default)]
struct Arrays {
    bytes: Vec<u8>,
    starts: Vec<(pg_sys::Oid, usize)>,
}

impl Arrays {
    fn add<'a>(
        &mut self,
        (oid, element_type): (pg_sys::Oid, ElementType),
        elements: impl ExactSizeIterator<Item = Option<&'a [u8]>> + Clone,
    ) {
        let start = write_array(&mut self.bytes, element_type, elements);
        self.starts.push((oid, start));
    }

    fn add_int8(&mut self, element: (pg_sys::Oid, ElementType), values: impl Iterator<Item = i64>) {
        let values: Vec<[u8; 8]> = values.map(i64::to_ne_bytes).collect();
        self.add(element, values.iter().map(|value| Some(&value[..])));
    }

    /// The values, which live as long as `self` stays as it is.
    fn parameters(&self) -> impl Iterator<Item = Parameter> + '_ {
        self.starts.iter().map(|(oid, start)| {
            // The buffer is on a boundary of 8 as all larger pieces of memory are.
            (*oid, Some(pg_sys::Datum::from(self.bytes[*start..].as_ptr())))
        })
    }
}

const INT8S: (pg_sys::Oid, ElementType) = (pg_sys::INT8ARRAYOID, ElementType::Int8);
const INT4S: (pg_sys::Oid, ElementType) = (pg_sys::INT4ARRAYOID, ElementType::Int4);
const TIMES: (pg_sys::Oid, ElementType) = (pg_sys::TIMESTAMPTZARRAYOID, ElementType::Timestamptz);
const TEXTS: (pg_sys::Oid, ElementType) = (pg_sys::TEXTARRAYOID, ElementType::Text);
const JSONBS: (pg_sys::Oid, ElementType) = (pg_sys::JSONBARRAYOID, ElementType::Jsonb);
const UUIDS: (pg_sys::Oid, ElementType) = (pg_sys::UUIDARRAYOID, ElementType::Uuid);

/// The store of this database, given its incarnation: a hash of what no other store has, be it one that
/// was restored from a dump or is in a copy of the database.
pub fn store_id(incarnation: u32) -> i64 {
    // SAFETY: a constant of the server.
    let server = unsafe { pg_sys::GetSystemIdentifier() };
    let mut name = [0; 16];
    name[..8].copy_from_slice(&server.to_le_bytes());
    name[8..12].copy_from_slice(&database_oid().to_le_bytes());
    name[12..].copy_from_slice(&incarnation.to_le_bytes());
    xxh3_64(&name).cast_signed()
}

/// Inserts records of the store of this incarnation, in their order.
pub fn insert(queue: QueueName, incarnation: u32, records: &[NewWaiting<'_>]) -> Result<(), Error> {
    let store_id = (pg_sys::INT8OID, int8(store_id(incarnation)));
    let mut rest = records;
    while !rest.is_empty() {
        let sizes = rest.iter().map(|row| row.record.size_bytes());
        let (records, later) = rest.split_at(fitting(sizes, ROWS_PER_INSERT, BYTES_PER_STATEMENT));
        rest = later;
        let mut arrays = Arrays::default();
        let all = || records.iter();
        arrays.add_int8(TIMES, all().map(|row| row.record.enqueued_at_us));
        arrays.add_int8(INT8S, all().map(|row| row.offset as i64));
        let partitions: Vec<[u8; 4]> =
            all().map(|row| row.partition.number().to_ne_bytes()).collect();
        arrays.add(INT4S, partitions.iter().map(|number| Some(&number[..])));
        let sizes: Vec<[u8; 4]> =
            all().map(|row| (row.record.size_bytes() as i32).to_ne_bytes()).collect();
        arrays.add(INT4S, sizes.iter().map(|size| Some(&size[..])));
        arrays.add_int8(INT8S, all().map(|row| row.key.cast_signed()));
        arrays.add(TEXTS, all().map(|row| Some(row.record.tenant_id)));
        arrays.add(TEXTS, all().map(|row| Some(row.record.stream_id)));
        arrays.add(TEXTS, all().map(|row| row.record.entity_id));
        arrays.add(TEXTS, all().map(|row| Some(row.record.event.event_type)));
        arrays.add(JSONBS, all().map(|row| Some(row.record.event.payload)));
        arrays.add(JSONBS, all().map(|row| row.record.event.metadata));
        arrays.add(UUIDS, all().map(|row| row.record.event.event_id.as_ref().map(|id| &id[..])));
        let parameters: Vec<Parameter> =
            queue.parameters().into_iter().chain([store_id]).chain(arrays.parameters()).collect();
        let inserted = count_rows(INSERT, &parameters)?;
        if inserted != records.len() {
            // A trigger of the owner's.
            return Err(Error::RowChanged { table: TABLE.into() });
        }
    }
    Ok(())
}

/// Runs a statement that writes and returns a row for each row that it has written.
fn count_rows(sql: &CStr, parameters: &[Parameter]) -> Result<usize, Error> {
    let mut rows = 0;
    execute_as_owner(TABLE, sql, parameters, Access::Write, |_| {
        rows += 1;
        Ok(())
    })?;
    Ok(rows)
}

/// Makes the rows of other stores this one's, and returns how many there are.
pub fn adopt_foreign() -> Result<usize, Error> {
    check_writable()?;
    check_admin("waiting events")?;
    let incarnation = sequence_oid(Sequence::Position)?.to_u32();
    count_rows(ADOPT_FOREIGN, &[(pg_sys::INT8OID, int8(store_id(incarnation)))])
}

/// How many rows of other stores there are.
pub fn count_foreign() -> Result<u64, Error> {
    let mut count = 0;
    let incarnation = sequence_oid(Sequence::Position)?.to_u32();
    let store_id = (pg_sys::INT8OID, int8(store_id(incarnation)));
    execute(COUNT_FOREIGN, &[store_id], Access::Read, |row| {
        count = row.get(1).map_or(0, |value| value.value() as u64);
        Ok(())
    })?;
    Ok(count)
}

/// A stream that events wait for.
#[derive(Clone, Copy, Debug)]
pub struct WaitingStream {
    /// its hash
    pub key: u64,
    /// its partition
    pub partition: Partition,
    /// the first of its rows
    pub first_id: i64,
    /// how many there are
    pub events: u64,
}

/// Assigns rows that are left from before a restart to the queue, and returns all streams of the queue's
/// rows. The queue is one of `workers`.
pub fn adopt(
    queue: QueueName,
    incarnation: u32,
    workers: usize,
) -> Result<Vec<WaitingStream>, Error> {
    let [epoch, worker] = queue.parameters();
    let store_id = (pg_sys::INT8OID, int8(store_id(incarnation)));
    let parameters = [epoch, worker, store_id, (pg_sys::INT4OID, int4(workers as i32))];
    execute_as_owner(TABLE, ADOPT, &parameters, Access::Write, |_| Ok(()))?;
    let mut streams = Vec::new();
    execute_as_owner(TABLE, STREAMS, &queue.parameters(), Access::Write, |row| {
        let int8 = |column| row.get(column).map_or(0, |value| value.value() as i64);
        if let Some(partition) = Partition::new(int8(2) as i32) {
            let (key, first_id, events) = (int8(1).cast_unsigned(), int8(3), int8(4) as u64);
            streams.push(WaitingStream { key, partition, first_id, events });
        }
        Ok(())
    })?;
    Ok(streams)
}

/// The offset of the oldest row of a queue, and when it was enqueued.
pub fn oldest(queue: QueueName) -> Result<Option<(u64, i64)>, Error> {
    let mut oldest = None;
    execute_as_owner(TABLE, OLDEST, &queue.parameters(), Access::Write, |row| {
        oldest = row
            .get(1)
            .zip(row.get(2))
            .map(|(offset, enqueued_at)| (offset.value() as u64, enqueued_at.value() as i64));
        Ok(())
    })?;
    Ok(oldest)
}

/// A row, copied.
pub struct WaitingEvent {
    /// its number
    pub id: i64,
    /// the hash of its stream
    pub key: u64,
    /// where it ended in its queue
    pub offset: u64,
    enqueued_at_us: i64,
    tenant_id: Vec<u8>,
    /// the name of its stream
    pub stream_id: Vec<u8>,
    entity_id: Option<Vec<u8>>,
    event_type: Vec<u8>,
    payload: Vec<u8>,
    metadata: Option<Vec<u8>>,
    event_id: Option<EventId>,
}

impl WaitingEvent {
    fn from_row(row: &Row) -> Result<Self, Error> {
        let int8 = |column| row.get(column).map_or(0, |value| value.value() as i64);
        // SAFETY: columns 5 to 10 of `NEXT` are of variable length; the next one is a uuid, which is
        // passed as a pointer to its 16 bytes.
        let bytes =
            |column| row.get(column).map(|value| copied(unsafe { body(value) })).transpose();
        Ok(Self {
            id: int8(1),
            key: int8(2).cast_unsigned(),
            offset: int8(3) as u64,
            enqueued_at_us: int8(4),
            tenant_id: bytes(5)?.unwrap_or_default(),
            stream_id: bytes(6)?.unwrap_or_default(),
            entity_id: bytes(7)?,
            event_type: bytes(8)?.unwrap_or_default(),
            payload: bytes(9)?.unwrap_or_default(),
            metadata: bytes(10)?,
            // SAFETY: see above.
            event_id: row.get(11).map(|value| unsafe { *value.cast_mut_ptr::<EventId>() }),
        })
    }

    /// As a record of the store of `home`.
    pub fn record(&self, home: Home) -> Record<'_> {
        Record {
            enqueued_at_us: self.enqueued_at_us,
            home,
            stream_id: &self.stream_id,
            tenant_id: &self.tenant_id,
            entity_id: self.entity_id.as_deref(),
            event: NewEvent {
                event_type: &self.event_type,
                payload: &self.payload,
                metadata: self.metadata.as_deref(),
                event_id: self.event_id,
            },
        }
    }
}

/// The first rows of streams.
pub struct Next {
    /// stream after stream, each in the order of ids
    pub rows: Vec<WaitingEvent>,
    /// whether the rows of all streams were read, as far as not limited by stream
    pub all: bool,
}

/// The first rows of streams of a queue, stream after stream: at most `rows_max`, and of one stream
/// `rows_per_stream_max`.
pub fn next(
    queue: QueueName,
    due: &[Due],
    rows_max: usize,
    rows_per_stream_max: usize,
) -> Result<Next, Error> {
    let mut arrays = Arrays::default();
    arrays.add_int8(INT8S, due.iter().map(|due| due.key.cast_signed()));
    arrays.add_int8(INT8S, due.iter().map(|due| due.first_id));
    let limits = [rows_max, rows_per_stream_max, BYTES_PER_STATEMENT]
        .map(|limit| (pg_sys::INT8OID, int8(limit as i64)));
    let parameters: Vec<Parameter> =
        arrays.parameters().chain(limits).chain(queue.parameters()).collect();
    let mut rows = Vec::new();
    let mut bytes = 0;
    execute_as_owner(TABLE, NEXT, &parameters, Access::Write, |row| {
        bytes += row.get(13).map_or(0, |value| value.value());
        push(&mut rows, WaitingEvent::from_row(&row)?)?;
        Ok(())
    })?;
    // Where the limit of bytes may have cut rows off is not known exactly: one more may be large.
    let all = rows.len() < rows_max && bytes < BYTES_PER_STATEMENT / 2;
    Ok(Next { rows, all })
}

/// Deletes rows, given by the hashes of their streams and their ids, and returns how many there were.
pub fn delete(rows: &[(u64, i64)]) -> Result<usize, Error> {
    let mut arrays = Arrays::default();
    arrays.add_int8(INT8S, rows.iter().map(|(key, _)| key.cast_signed()));
    arrays.add_int8(INT8S, rows.iter().map(|(_, id)| *id));
    let parameters: Vec<Parameter> = arrays.parameters().collect();
    count_rows(DELETE, &parameters)
}

/// Whether one of the records of a queue, given by its number and their ends, waits. Sees what is
/// committed now.
pub fn is_any_waiting(queue: QueueName, records: &[(usize, u64)]) -> Result<bool, Error> {
    let mut arrays = Arrays::default();
    arrays.add_int8(INT8S, records.iter().map(|(_, offset)| *offset as i64));
    let parameters: Vec<Parameter> =
        queue.parameters().into_iter().chain(arrays.parameters()).collect();
    let mut waiting = false;
    without_keeping_locks(|| {
        with_snapshot_of_now(|_| {
            execute_as_owner(TABLE, IS_WAITING, &parameters, Access::Read, |_| {
                waiting = true;
                Ok(())
            })
        })
    })?;
    Ok(waiting)
}
