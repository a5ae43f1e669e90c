//! Baseline: the relational design that people write by hand. Streams and events in a table each,
//! a foreign key between them, six indexes on the events, and three statements per append.

use std::rc::Rc;

use async_trait::async_trait;
use tokio_postgres::{Client as Session, Statement};

use crate::bench::Bench;
use crate::data::Data;
use crate::error::Result;
use crate::payload::{Payloads, Size, event_type};
use crate::server::BASELINE_DATABASE;
use crate::streams::{Names, Seat, Walk, orders};
use crate::workload::{About, Client, Connect, Workload};

/// The report's name of one append per transaction.
pub const RELATIONAL: &str = "relational";

/// The report's name of the bulk form.
pub const RELATIONAL_BULK: &str = "relational bulk";

/// Streams in one call of the bulk form.
const BULK_STREAMS: usize = 100;

/// Events for each of these streams.
const BULK_EVENTS_PER_STREAM: usize = 10;

/// The tables, with a row for each of $streams streams.
pub(crate) const TABLES: &str = "
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
    INSERT INTO relational.event_streams (stream_id, partition_id)
        SELECT 'order-' || lpad(n::text, 7, '0'), 0 FROM generate_series(0, $streams - 1) n";

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

struct Single(Names);

struct Bulk(Names);

/// The prepared statements of a transaction, each a round trip of its own.
struct Statements {
    session: Session,
    begin: Statement,
    lock: Statement,
    insert: Statement,
    update: Statement,
    commit: Statement,
}

struct SingleClient {
    statements: Statements,
    payloads: Payloads,
    names: Names,
    rng: fastrand::Rng,
}

struct BulkClient {
    statements: Statements,
    payloads: Payloads,
    walk: Walk,
}

/// One event per transaction.
pub(crate) fn relational(streams: usize) -> Rc<Workload> {
    Rc::new(Workload::new(about(RELATIONAL), &[Data::Relational], Single(orders(streams))))
}

/// Many events per transaction.
pub(crate) fn relational_bulk(streams: usize) -> Rc<Workload> {
    Rc::new(Workload::new(about(RELATIONAL_BULK), &[Data::Relational], Bulk(orders(streams))))
}

const fn about(name: &'static str) -> About {
    About::writes(name, BASELINE_DATABASE, "n.nspname = 'relational'")
}

#[async_trait(?Send)]
impl Connect for Single {
    async fn connect(&self, bench: &'static Bench, _: About, _: Seat) -> Result<Box<dyn Client>> {
        let statements = Statements::prepare(bench, LOCK, INSERT, UPDATE).await?;
        let (payloads, rng) = (bench.payloads(Size::Full), bench.rng());
        Ok(Box::new(SingleClient { statements, payloads, names: self.0, rng }))
    }
}

#[async_trait(?Send)]
impl Connect for Bulk {
    async fn connect(
        &self,
        bench: &'static Bench,
        _: About,
        seat: Seat,
    ) -> Result<Box<dyn Client>> {
        let statements = Statements::prepare(bench, BULK_LOCK, BULK_INSERT, BULK_UPDATE).await?;
        let (payloads, walk) = (bench.payloads(Size::Full), Walk::new(self.0, seat, bench.rng()));
        Ok(Box::new(BulkClient { statements, payloads, walk }))
    }
}

impl Statements {
    async fn prepare(bench: &Bench, lock: &str, insert: &str, update: &str) -> Result<Self> {
        let session = bench.server.connect(BASELINE_DATABASE).await?;
        Ok(Self {
            begin: session.prepare("BEGIN").await?,
            lock: session.prepare(lock).await?,
            insert: session.prepare(insert).await?,
            update: session.prepare(update).await?,
            commit: session.prepare("COMMIT").await?,
            session,
        })
    }
}

#[async_trait(?Send)]
impl Client for SingleClient {
    async fn step(&mut self) -> Result<u64> {
        let Statements { session, begin, lock, insert, update, commit } = &self.statements;
        let name = &self.names[self.rng.usize(..self.names.len())];
        session.execute(begin, &[]).await?;
        let current: i64 = session.query_one_scalar(lock, &[name]).await?;
        let version = current + 1;
        let kind = event_type(version as usize);
        session.execute(insert, &[name, &version, &kind, &self.payloads.one()]).await?;
        session.execute(update, &[name, &version]).await?;
        session.execute(commit, &[]).await?;
        Ok(1)
    }
}

#[async_trait(?Send)]
impl Client for BulkClient {
    async fn step(&mut self) -> Result<u64> {
        const EVENTS: usize = BULK_STREAMS * BULK_EVENTS_PER_STREAM;
        let Statements { session, begin, lock, insert, update, commit } = &self.statements;
        let streams = self.walk.take(BULK_STREAMS);
        let names = streams.repeat(BULK_EVENTS_PER_STREAM);
        let nth: Vec<_> = (0..EVENTS).map(|event| 1 + (event / BULK_STREAMS) as i64).collect();
        let types: Vec<_> = (0..EVENTS).map(event_type).collect();
        let payloads = self.payloads.take(EVENTS);
        session.execute(begin, &[]).await?;
        session.execute(lock, &[&streams]).await?;
        session.execute(insert, &[&names, &nth, &types, &payloads]).await?;
        session.execute(update, &[&streams, &(BULK_EVENTS_PER_STREAM as i64)]).await?;
        session.execute(commit, &[]).await?;
        Ok(EVENTS as u64)
    }
}
