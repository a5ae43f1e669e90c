//! Bulk ingestion as Rust calls: handing events over, waiting for them, and what the workers and
//! the monitoring functions have to tell. No logic; every call is one statement.

use postgres::{Error, GenericClient, Row};
use serde_json::Value;
use uuid::Uuid;

use crate::calls::Arrays;
use crate::event::NewEvent;
use crate::patience;

/// Arguments of `es_enqueue`.
#[derive(Clone, Copy, Debug)]
pub struct Enqueue<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// Tenant.
    pub tenant: &'a str,
    /// Entity of the stream.
    pub entity: Option<&'a str>,
    /// The event.
    pub event: &'a NewEvent,
    /// Whether to wait until the event is durable.
    pub durable: bool,
}

impl<'a> Enqueue<'a> {
    /// An event for a stream of the default tenant, without waiting.
    pub fn to(stream: &'a str, event: &'a NewEvent) -> Self {
        Self { stream, tenant: "default", entity: None, event, durable: false }
    }

    /// The same, and wait until it is durable.
    pub fn durably(self) -> Self {
        Self { durable: true, ..self }
    }

    /// Calls `es_enqueue`.
    ///
    /// # Errors
    /// What the server answers.
    pub fn send(&self, client: &mut impl GenericClient) -> Result<(), Error> {
        client.execute(
            "SELECT allsource.es_enqueue(stream_id => $1, event_type => $2, payload => $3, \
             metadata => $4, tenant_id => $5, entity_id => $6, event_id => $7, durable => $8)",
            &[
                &self.stream,
                &self.event.event_type,
                &self.event.payload,
                &self.event.metadata,
                &self.tenant,
                &self.entity,
                &self.event.id,
                &self.durable,
            ],
        )?;
        Ok(())
    }
}

/// Arguments of `es_enqueue_batch`.
#[derive(Clone, Copy, Debug)]
pub struct EnqueueBatch<'a> {
    /// Tenant of all streams.
    pub tenant: &'a str,
    /// Stream and event, in order.
    pub items: &'a [(String, NewEvent)],
    /// Whether to wait until all are durable.
    pub durable: bool,
}

impl<'a> EnqueueBatch<'a> {
    /// A batch for the default tenant, without waiting.
    pub fn of(items: &'a [(String, NewEvent)]) -> Self {
        Self { tenant: "default", items, durable: false }
    }

    /// The same, and wait until all are durable.
    pub fn durably(self) -> Self {
        Self { durable: true, ..self }
    }

    /// Calls `es_enqueue_batch`; how many events were accepted.
    ///
    /// # Errors
    /// What the server answers.
    pub fn send(&self, client: &mut impl GenericClient) -> Result<i64, Error> {
        let streams: Vec<&str> = self.items.iter().map(|(stream, _)| stream.as_str()).collect();
        let arrays = Arrays::of(self.items.iter().map(|(_, event)| event));
        let row = client.query_one(
            "SELECT allsource.es_enqueue_batch(stream_ids => $1, event_types => $2, \
             payloads => $3, metadata => $4, tenant_id => $5, event_ids => $6, durable => $7)",
            &[
                &streams,
                &arrays.types,
                &arrays.payloads,
                &arrays.metadata,
                &self.tenant,
                &arrays.ids,
                &self.durable,
            ],
        )?;
        Ok(row.get(0))
    }
}

/// Calls `es_flush` with its default timeout; how many events were on their way.
///
/// # Errors
/// What the server answers.
pub fn flush(client: &mut impl GenericClient) -> Result<i64, Error> {
    Ok(client.query_one("SELECT allsource.es_flush()", &[])?.get(0))
}

/// Calls `es_flush` with a timeout as PostgreSQL reads an interval.
///
/// # Errors
/// What the server answers.
pub fn flush_within(client: &mut impl GenericClient, timeout: &str) -> Result<i64, Error> {
    Ok(client.query_one("SELECT allsource.es_flush($1::text::interval)", &[&timeout])?.get(0))
}

/// Calls `es_worker_pause`.
///
/// # Errors
/// What the server answers.
pub fn pause(client: &mut impl GenericClient) -> Result<(), Error> {
    client.execute("SELECT allsource.es_worker_pause()", &[]).map(drop)
}

/// Calls `es_worker_resume`.
///
/// # Errors
/// What the server answers.
pub fn resume(client: &mut impl GenericClient) -> Result<(), Error> {
    client.execute("SELECT allsource.es_worker_resume()", &[]).map(drop)
}

/// A row of the view `queue_stats`.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueStats {
    /// Number of the worker.
    pub worker: i32,
    /// Its process.
    pub pid: Option<i32>,
    /// What it does.
    pub state: String,
    /// Events in the queue.
    pub depth_events: i64,
    /// Bytes in the queue.
    pub depth_bytes: i64,
    /// Bytes that it can hold.
    pub capacity_bytes: i64,
    /// Events taken in.
    pub enqueued: i64,
    /// Events written.
    pub drained: i64,
    /// Events refused because the queue was full.
    pub rejected: i64,
    /// Waits for room.
    pub full_waits: i64,
    /// Batches written.
    pub batches: i64,
    /// Events of the largest of them.
    pub largest_batch: i64,
    /// Events put among the dead letters.
    pub dead_letters: i64,
    /// Events whose extension was gone.
    pub discarded: i64,
    /// The last failure that was tried again.
    pub last_error: Option<String>,
    /// Seconds that the oldest event has waited.
    pub lag_s: f64,
    /// Events that wait for their streams.
    pub waiting_events: i64,
    /// How many streams these are.
    pub waiting_streams: i64,
    /// What they wait for.
    pub held_up_by: Option<String>,
}

impl QueueStats {
    fn from_row(row: &Row) -> Self {
        Self {
            worker: row.get(0),
            pid: row.get(1),
            state: row.get(2),
            depth_events: row.get(3),
            depth_bytes: row.get(4),
            capacity_bytes: row.get(5),
            enqueued: row.get(6),
            drained: row.get(7),
            rejected: row.get(8),
            full_waits: row.get(9),
            batches: row.get(10),
            largest_batch: row.get(11),
            dead_letters: row.get(12),
            discarded: row.get(13),
            last_error: row.get(14),
            lag_s: row.get(15),
            waiting_events: row.get(16),
            waiting_streams: row.get(17),
            held_up_by: row.get(18),
        }
    }
}

/// The view `queue_stats`, by worker.
///
/// # Errors
/// What the server answers.
pub fn queue_stats(client: &mut impl GenericClient) -> Result<Vec<QueueStats>, Error> {
    let rows = client.query(
        "SELECT worker, pid, state, depth_events, depth_bytes, capacity_bytes, enqueued, drained, \
         rejected, full_waits, batches, largest_batch, dead_letters, discarded, last_error, \
         extract(epoch FROM lag)::float8, waiting_events, waiting_streams, held_up_by \
         FROM allsource.queue_stats ORDER BY worker",
        &[],
    )?;
    Ok(rows.iter().map(QueueStats::from_row).collect())
}

/// The row of the only worker.
///
/// # Panics
/// Where there is not exactly one, or the view cannot be read.
pub fn worker(client: &mut impl GenericClient) -> QueueStats {
    let mut rows = queue_stats(client).expect("queue_stats");
    assert_eq!(rows.len(), 1, "one worker: {rows:#?}");
    rows.remove(0)
}

/// Waits until every worker has a process, and returns them.
///
/// # Panics
/// Where they do not come.
pub fn workers_up(client: &mut impl GenericClient) -> Vec<i32> {
    patience::until("all workers run", || {
        let rows = queue_stats(client).expect("queue_stats");
        rows.iter().map(|row| row.pid).collect()
    })
}

/// Waits until the only worker's row is as wanted, and returns it.
///
/// # Panics
/// Where it never is.
pub fn worker_when(
    client: &mut impl GenericClient,
    what: &str,
    wanted: impl Fn(&QueueStats) -> bool,
) -> QueueStats {
    patience::until(what, || Some(worker(client)).filter(&wanted))
}

/// What is kept of an event that could not be written.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// Its number.
    pub id: i64,
    /// Why it could not be written.
    pub sqlstate: String,
    /// The message.
    pub reason: String,
    /// Tenant.
    pub tenant: String,
    /// Name of the stream.
    pub stream: String,
    /// Entity, if any was given.
    pub entity: Option<String>,
    /// The event.
    pub event: NewEvent,
}

/// Calls `es_dead_letters` for all there are.
///
/// # Errors
/// What the server answers.
pub fn dead_letters(client: &mut impl GenericClient) -> Result<Vec<DeadLetter>, Error> {
    let rows = client.query(
        "SELECT id, sqlstate, reason, tenant_id, stream_id, entity_id, event_type, payload, \
         metadata, event_id FROM allsource.es_dead_letters(max_count => NULL)",
        &[],
    )?;
    let letter = |row: &Row| DeadLetter {
        id: row.get(0),
        sqlstate: row.get(1),
        reason: row.get(2),
        tenant: row.get(3),
        stream: row.get(4),
        entity: row.get(5),
        event: NewEvent {
            event_type: row.get(6),
            payload: row.get(7),
            metadata: row.get::<_, Option<Value>>(8),
            id: row.get::<_, Option<Uuid>>(9),
        },
    };
    Ok(rows.iter().map(letter).collect())
}

/// Calls `es_dead_letter_retry`; the version written.
///
/// # Errors
/// What the server answers.
pub fn retry_dead_letter(client: &mut impl GenericClient, id: i64) -> Result<i64, Error> {
    Ok(client.query_one("SELECT allsource.es_dead_letter_retry($1)", &[&id])?.get(0))
}

/// Calls `es_dead_letter_discard`.
///
/// # Errors
/// What the server answers.
pub fn discard_dead_letter(client: &mut impl GenericClient, id: i64) -> Result<(), Error> {
    client.execute("SELECT allsource.es_dead_letter_discard($1)", &[&id]).map(drop)
}

/// Name, verdict and facts of each check of `es_health`.
///
/// # Errors
/// What the server answers.
pub fn health(client: &mut impl GenericClient) -> Result<Vec<(String, bool, String)>, Error> {
    let rows = client.query("SELECT name, ok, detail FROM allsource.es_health()", &[])?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
}

/// The verdict of one check.
///
/// # Panics
/// Where there is no such check, or several.
pub fn is_well(client: &mut impl GenericClient, check: &str) -> bool {
    let checks = health(client).expect("es_health");
    let found: Vec<_> = checks.iter().filter(|(name, ..)| name == check).collect();
    assert_eq!(found.len(), 1, "{check} in {checks:#?}");
    found[0].1
}

/// The number in the view `metrics` with this name and these labels (a JSON object).
///
/// # Panics
/// Where there is not exactly one.
pub fn metric(client: &mut impl GenericClient, name: &str, labels: &Value) -> f64 {
    let query = "SELECT value FROM allsource.metrics WHERE name = $1 AND labels = $2";
    let rows = client.query(query, &[&name, labels]).expect("metrics");
    assert_eq!(rows.len(), 1, "{name} {labels}");
    rows[0].get(0)
}
