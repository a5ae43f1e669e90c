//! Baseline: the relational design that people write by hand. Streams and events in a table each,
//! a foreign key between them, six indexes on the events, and three statements per append.

use std::rc::Rc;

use tokio::sync::OnceCell;

use crate::bench::{BASELINE_DATABASE, Bench, Names, Share};
use crate::bind::Bind;
use crate::error::{Error, Result};
use crate::payload::{EVENT_TYPES, Payloads};
use crate::rng::Rng;
use crate::wire::Connection;
use crate::workload::{About, Client, LocalFuture, Step, Workload};

/// The report's name of one append per transaction.
pub const RELATIONAL: &str = "relational";

/// The report's name of the bulk form.
pub const RELATIONAL_BULK: &str = "relational bulk";

/// Streams in one call of the bulk form.
pub const BULK_STREAMS: usize = 100;

/// Events for each of these streams.
pub const BULK_EVENTS_PER_STREAM: usize = 10;

const TABLES: &str = "
    CREATE SCHEMA relational;
    CREATE TABLE relational.event_streams (
        stream_id text PRIMARY KEY, partition_id int NOT NULL, tenant_id text NOT NULL DEFAULT 'default',
        current_version bigint NOT NULL DEFAULT 0, created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE relational.events (
        event_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        stream_id text NOT NULL REFERENCES relational.event_streams, version bigint NOT NULL,
        event_type text NOT NULL, entity_id text, payload jsonb NOT NULL, metadata jsonb,
        partition_id int NOT NULL, \"timestamp\" timestamptz NOT NULL DEFAULT now(),
        UNIQUE (stream_id, version));
    CREATE INDEX ON relational.events (event_type);
    CREATE INDEX ON relational.events (entity_id);
    CREATE INDEX ON relational.events (\"timestamp\");
    CREATE INDEX ON relational.events (partition_id, \"timestamp\");
    INSERT INTO relational.event_streams (stream_id, partition_id)";

const LOCK: &str =
    "SELECT current_version FROM relational.event_streams WHERE stream_id = $1 FOR UPDATE";
const INSERT: &str = "
    INSERT INTO relational.events (stream_id, version, event_type, entity_id, payload, partition_id)
    VALUES ($1, $2, $3, $1, $4, 0)";
const UPDATE: &str = "
    UPDATE relational.event_streams SET current_version = $2, updated_at = now() WHERE stream_id = $1";

const BULK_LOCK: &str = "
    SELECT 1 FROM relational.event_streams WHERE stream_id = ANY ($1::text[])
    ORDER BY stream_id FOR UPDATE";
const BULK_INSERT: &str = "
    INSERT INTO relational.events (stream_id, version, event_type, entity_id, payload, partition_id)
    SELECT i.stream_id, s.current_version + i.nth, i.event_type, i.stream_id, i.payload, 0
    FROM unnest($1::text[], $2::bigint[], $3::text[], $4::jsonb[])
         AS i (stream_id, nth, event_type, payload)
    JOIN relational.event_streams s USING (stream_id)";
const BULK_UPDATE: &str = "
    UPDATE relational.event_streams SET current_version = current_version + $2, updated_at = now()
    WHERE stream_id = ANY ($1::text[])";

/// The tables of the relational design, shared by both workloads.
pub struct Relational {
    bench: Rc<Bench>,
    names: Names,
    bulk: bool,
    ready: Rc<OnceCell<()>>,
}

struct SingleClient {
    connection: Connection,
    payloads: Payloads,
    names: Names,
    rng: Rng,
}

struct BulkClient {
    connection: Connection,
    payloads: Payloads,
    names: Names,
    share: Share,
}

impl Relational {
    /// Both workloads: one event per transaction, and many.
    pub fn both(bench: &Rc<Bench>) -> (Self, Self) {
        let names = Names::orders(bench.options.streams);
        let single =
            Self { bench: Rc::clone(bench), names, bulk: false, ready: Rc::new(OnceCell::new()) };
        let bulk = Self {
            bench: Rc::clone(bench),
            names: single.names.clone(),
            bulk: true,
            ready: Rc::clone(&single.ready),
        };
        (single, bulk)
    }
}

impl Workload for Relational {
    fn about(&self) -> About {
        let name = if self.bulk { RELATIONAL_BULK } else { RELATIONAL };
        About::writes(name, BASELINE_DATABASE, "n.nspname = 'relational'")
    }

    fn prepare(&self) -> LocalFuture<'_, ()> {
        Box::pin(async {
            let make = async || {
                let streams = self.names.len();
                let sql = format!(
                    "{TABLES} SELECT 'order-' || lpad(n::text, 7, '0'), 0 \
                     FROM generate_series(0, {streams} - 1) n"
                );
                let mut connection = self.bench.baseline().await?;
                connection.query(&sql).await?;
                connection.query("VACUUM ANALYZE relational.event_streams").await.map(drop)
            };
            self.ready.get_or_try_init(make).await.copied()
        })
    }

    fn client(&self, index: usize, clients: usize) -> LocalFuture<'_, Box<dyn Client>> {
        Box::pin(async move {
            let mut connection = self.bench.server.connect(BASELINE_DATABASE).await?;
            connection.prepare("begin", "BEGIN").await?;
            connection.prepare("commit", "COMMIT").await?;
            let (lock, insert, update) = if self.bulk {
                (BULK_LOCK, BULK_INSERT, BULK_UPDATE)
            } else {
                (LOCK, INSERT, UPDATE)
            };
            connection.prepare("lock", lock).await?;
            connection.prepare("insert", insert).await?;
            connection.prepare("update", update).await?;
            let payloads = self.bench.payloads();
            let names = self.names.clone();
            let seed = self.bench.seed();
            Ok(if self.bulk {
                let share = Share::new(names.len(), index, clients, seed);
                Box::new(BulkClient { connection, payloads, names, share }) as Box<dyn Client>
            } else {
                Box::new(SingleClient { connection, payloads, names, rng: Rng::new(seed) })
            })
        })
    }
}

/// A statement without parameters, in a round trip of its own.
async fn run(connection: &mut Connection, statement: &str) -> Result<()> {
    Bind::new(&mut connection.out, statement).execute();
    connection.roundtrip(|_| {}).await.map(drop)
}

impl Step for SingleClient {
    async fn step(&mut self) -> Result<u64> {
        let connection = &mut self.connection;
        let name = self.names.get(self.rng.below(self.names.len()));
        run(connection, "begin").await?;
        let mut current = None;
        Bind::new(&mut connection.out, "lock").text(name).execute();
        connection.roundtrip(|row| current = row.i64(0)).await?;
        let version = 1 + current.ok_or_else(|| Error::WrongResult {
            workload: RELATIONAL,
            expected: "the stream's version".into(),
            found: "no row".into(),
        })?;
        Bind::new(&mut connection.out, "insert")
            .text(name)
            .i64(version)
            .text(EVENT_TYPES[version as usize % EVENT_TYPES.len()])
            .jsonb(|out| self.payloads.write(out))
            .execute();
        connection.roundtrip(|_| {}).await?;
        Bind::new(&mut connection.out, "update").text(name).i64(version).execute();
        connection.roundtrip(|_| {}).await?;
        run(connection, "commit").await?;
        Ok(1)
    }
}

impl Step for BulkClient {
    async fn step(&mut self) -> Result<u64> {
        const EVENTS: usize = BULK_STREAMS * BULK_EVENTS_PER_STREAM;
        let connection = &mut self.connection;
        let streams = self.share.take(BULK_STREAMS);
        let name = |event: usize| self.names.get(streams[event % BULK_STREAMS]);
        run(connection, "begin").await?;
        Bind::new(&mut connection.out, "lock").text_array((0..BULK_STREAMS).map(name)).execute();
        connection.roundtrip(|_| {}).await?;
        Bind::new(&mut connection.out, "insert")
            .text_array((0..EVENTS).map(name))
            .i64_array((0..EVENTS).map(|event| 1 + (event / BULK_STREAMS) as i64))
            .text_array((0..EVENTS).map(|event| EVENT_TYPES[event % EVENT_TYPES.len()]))
            .jsonb_array(EVENTS, |out| self.payloads.write(out))
            .execute();
        connection.roundtrip(|_| {}).await?;
        Bind::new(&mut connection.out, "update")
            .text_array((0..BULK_STREAMS).map(name))
            .i64(BULK_EVENTS_PER_STREAM as i64)
            .execute();
        connection.roundtrip(|_| {}).await?;
        run(connection, "commit").await?;
        Ok(EVENTS as u64)
    }
}
