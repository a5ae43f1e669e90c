//! Tables of events that lie in the store's database, to be moved into the store.
//!
//! The import's tables hold the same events in different order. They are cut into chunks of 1,000
//! streams with 10 events each. The first half of the ids is the first session's, and the sessions'
//! streams are disjoint. Within a chunk the events lie either stream by stream (grouped), or one of
//! each stream in turn (mixed), as they might have arrived.
//!
//! In the scattered rows there is nothing to pack: one event of every stream, in random order, and
//! then one of every stream again.

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{SinkExt as _, pin_mut};
use tokio_postgres::Client as Session;

use crate::bench::Bench;
use crate::data::STORE_DATABASE;
use crate::error::Result;
use crate::payload::{Payloads, Size, event_type};
use crate::streams::{Names, orders, parcels};

/// Sessions that work on the server side by side.
pub const SESSIONS: usize = 2;

/// Events of a stream within a chunk.
pub const IMPORT_EVENTS_PER_STREAM: usize = 10;

/// Events in a chunk.
pub const IMPORT_CHUNK_EVENTS: usize = CHUNK_STREAMS * IMPORT_EVENTS_PER_STREAM;

/// Events after which a session begins with its first stream again.
pub const IMPORT_SESSION_EVENTS: usize = SESSION_STREAMS * IMPORT_EVENTS_PER_STREAM;

/// Events in one pass over all streams of both sessions; the tables hold whole passes.
pub const IMPORT_PASS_EVENTS: usize = SESSIONS * IMPORT_SESSION_EVENTS;

/// Events of a row of the import's arrays.
pub const IMPORT_CALL_EVENTS: usize = 1_000;

/// Calls of which there are scattered rows.
pub const SCATTERED_CALLS: usize = 20;

const CHUNK_STREAMS: usize = 1_000;
const SESSION_STREAMS: usize = 5 * CHUNK_STREAMS;
const PIECE_BYTES: usize = 64 * 1024;

/// How the events lie within a chunk of the import.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Stream by stream.
    Grouped,
    /// One of each stream in turn.
    Mixed,
}

impl Order {
    const fn table(self) -> &'static str {
        match self {
            Self::Grouped => "import_grouped",
            Self::Mixed => "import_mixed",
        }
    }
}

impl Size {
    /// The table of the scattered rows.
    pub const fn scattered(self) -> &'static str {
        match self {
            Self::Full => "scattered",
            Self::Small => "scattered_small",
        }
    }
}

/// Appends the import's events from the id $1 up to $2; returns the number of streams.
pub fn import_append(order: Order) -> String {
    format!(
        "SELECT count(*) FROM (
             SELECT array_agg(stream_id) AS streams, array_agg(event_type) AS types,
                    array_agg(payload) AS payloads
             FROM (SELECT stream_id, event_type, payload FROM {}
                   WHERE id >= $1 AND id < $2 ORDER BY id) AS events
         ) AS arrays, allsource.es_append_batch(arrays.streams, arrays.types, arrays.payloads)",
        order.table()
    )
}

/// Streams, and so events of a call, of the scattered rows; fewer where the store has fewer.
pub fn scattered_streams(streams: usize) -> usize {
    streams.min(10_000)
}

/// Makes the import's tables.
pub async fn make_import(bench: &Bench) -> Result<()> {
    let session = bench.server.connect(STORE_DATABASE).await?;
    let events = bench.options.import_events;
    let names = parcels(SESSIONS * SESSION_STREAMS);
    for order in [Order::Grouped, Order::Mixed] {
        let mut payloads = bench.payloads(Size::Small);
        let stream = |event| import_stream(event, events / SESSIONS, order);
        load(&session, order.table(), names, (0..events).map(stream), &mut payloads).await?;
    }
    // The import creates its streams on its first pass only; that pass is not what is measured.
    for first in (0..events).step_by(events / SESSIONS) {
        let range = [first, first + IMPORT_SESSION_EVENTS].map(|id| id as i64);
        session.execute(&import_append(Order::Grouped), &[&range[0], &range[1]]).await?;
    }
    Ok(())
}

/// The stream of the event with the id `event`, where each session has `session_events`.
const fn import_stream(event: usize, session_events: usize, order: Order) -> usize {
    let chunk = event - event % IMPORT_CHUNK_EVENTS;
    let first = chunk / session_events * SESSION_STREAMS
        + chunk % session_events / IMPORT_EVENTS_PER_STREAM % SESSION_STREAMS;
    let offset = event % IMPORT_CHUNK_EVENTS;
    match order {
        Order::Grouped => first + offset / IMPORT_EVENTS_PER_STREAM,
        Order::Mixed => first + offset % CHUNK_STREAMS,
    }
}

/// Makes arrays of a hundred streams of a chunk, and so 1,000 events, one of each stream in turn.
pub async fn make_import_arrays(bench: &Bench) -> Result<()> {
    make_arrays(bench, Order::Mixed.table(), "id / 10000 * 10 + id % 1000 / 100").await
}

/// Makes the scattered rows.
pub async fn make_scattered(bench: &Bench, size: Size) -> Result<()> {
    let session = bench.server.connect(STORE_DATABASE).await?;
    let (mut rng, mut payloads) = (bench.rng(), bench.payloads(size));
    let names = orders(scattered_streams(bench.options.streams));
    let mut streams: Vec<usize> = (0..names.len()).collect();
    let calls = (0..SCATTERED_CALLS).flat_map(|_| {
        rng.shuffle(&mut streams);
        streams.clone()
    });
    load(&session, size.scattered(), names, calls, &mut payloads).await
}

/// Makes arrays of the scattered rows, a row for each pass over the streams.
pub async fn make_scattered_arrays(bench: &Bench, size: Size) -> Result<()> {
    let call = format!("id / {}", scattered_streams(bench.options.streams));
    make_arrays(bench, size.scattered(), &call).await
}

/// Makes the plain table for the scattered rows, with the two unique indexes of the store.
pub async fn make_plain_scattered(bench: &Bench, size: Size) -> Result<()> {
    let table = format!("plain_{}", size.scattered());
    let sql = format!(
        "CREATE TABLE {table} (
             \"position\" bigint NOT NULL, stream_no bigint NOT NULL, version bigint NOT NULL,
             event_type text NOT NULL, payload jsonb NOT NULL);
         CREATE UNIQUE INDEX ON {table} (stream_no, version);
         CREATE UNIQUE INDEX ON {table} (\"position\")"
    );
    Ok(bench.server.connect(STORE_DATABASE).await?.batch_execute(&sql).await?)
}

/// Makes the table `rows` with uncompressed arrays, a row for each value of `call`.
pub async fn make_arrays(bench: &Bench, rows: &str, call: &str) -> Result<()> {
    let session = bench.server.connect(STORE_DATABASE).await?;
    let sql = format!(
        "CREATE TABLE {rows}_arrays (id bigint PRIMARY KEY, streams text[], types text[],
                                     payloads jsonb[]);
         ALTER TABLE {rows}_arrays ALTER streams SET STORAGE EXTERNAL,
             ALTER types SET STORAGE EXTERNAL, ALTER payloads SET STORAGE EXTERNAL;
         INSERT INTO {rows}_arrays
             SELECT {call}, array_agg(stream_id ORDER BY id), array_agg(event_type ORDER BY id),
                    array_agg(payload ORDER BY id)
             FROM {rows} GROUP BY 1"
    );
    session.batch_execute(&sql).await?;
    Ok(session.batch_execute(&format!("VACUUM ANALYZE {rows}_arrays")).await?)
}

/// Makes `table` with an event for each of `streams`, numbers of `names`; the ids begin at 0.
pub async fn load(
    session: &Session,
    table: &str,
    names: Names,
    streams: impl Iterator<Item = usize>,
    payloads: &mut Payloads,
) -> Result<()> {
    let sql = format!(
        "CREATE TABLE {table} (id bigint, stream_no bigint, stream_id text, event_type text,
                               payload jsonb)"
    );
    session.batch_execute(&sql).await?;
    let rows = streams.enumerate().map(|(id, stream)| format!("{id}\t{stream}\t{}", names[stream]));
    copy_in(session, &format!("COPY {table} FROM STDIN"), text_rows(rows, payloads)).await?;
    session.batch_execute(&format!("ALTER TABLE {table} ADD PRIMARY KEY (id)")).await?;
    Ok(session.batch_execute(&format!("VACUUM ANALYZE {table}")).await?)
}

/// Rows for COPY in text format: each of `rows`, then an event's type and payload.
pub fn text_rows(rows: impl Iterator<Item = String>, payloads: &mut Payloads) -> Bytes {
    let mut text = BytesMut::new();
    for (number, row) in rows.enumerate() {
        text.put_slice(row.as_bytes());
        text.put_u8(b'\t');
        text.put_slice(event_type(number).as_bytes());
        text.put_u8(b'\t');
        text.put_slice(&payloads.one().0); // holds nothing that COPY would want escaped
        text.put_u8(b'\n');
    }
    text.freeze()
}

/// Sends `data` by the COPY statement `sql`.
pub async fn copy_in(session: &Session, sql: &str, mut data: Bytes) -> Result<()> {
    let sink = session.copy_in(sql).await?;
    pin_mut!(sink);
    while !data.is_empty() {
        sink.send(data.split_to(data.len().min(PIECE_BYTES))).await?;
    }
    sink.finish().await?;
    Ok(())
}
