//! The same history in four places, to be read: streams of 100 events of 256 bytes.
//!
//! Events are written in the order in which they would have happened, every stream's first, then
//! every stream's second, and so on, so that nowhere a stream lies in one place.

use tokio_postgres::Client as Session;

use crate::bench::Bench;
use crate::data::rows::load;
use crate::data::{MESSAGE_DB_DATABASE, store};
use crate::error::Result;
use crate::payload::Size;
use crate::server::BASELINE_DATABASE;
use crate::streams::{Names, categories, orders};

/// Events in a stream that is read.
pub const STREAM_EVENTS: usize = 100;

const RUN_EVENTS: usize = 10;
const EVENTS_PER_TRANSACTION: usize = 10_000;

/// Which copy of the history.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Copy {
    /// In a store, written one event at a time (100 rows per stream).
    Singles,
    /// In a store, written in runs of 10.
    Runs,
    /// In a plain table with one row per event.
    Plain,
    /// In message-db.
    MessageDb,
}

impl Copy {
    /// The database it is in.
    pub const fn database(self) -> &'static str {
        match self {
            Self::Singles => "bench_singles",
            Self::Runs => "bench_runs",
            Self::Plain => BASELINE_DATABASE,
            Self::MessageDb => MESSAGE_DB_DATABASE,
        }
    }

    /// Its streams.
    pub fn names(self, streams: usize) -> Names {
        if self == Self::MessageDb { categories(streams) } else { orders(streams) }
    }
}

/// Writes `copy`, by way of the table `staged`.
pub async fn make(bench: &Bench, copy: Copy) -> Result<()> {
    let session = match copy {
        Copy::Singles | Copy::Runs => store::create(bench, copy.database()).await?,
        Copy::Plain | Copy::MessageDb => bench.server.connect(copy.database()).await?,
    };
    let streams = bench.options.read_streams;
    let in_turn = (0..streams * STREAM_EVENTS).map(|event| event % streams);
    let mut payloads = bench.payloads(Size::Full);
    load(&session, "public.staged", copy.names(streams), in_turn, &mut payloads).await?;
    match copy {
        Copy::Singles => append(&session, streams, EVENTS_PER_TRANSACTION, APPEND_ONE).await?,
        // Whole groups of RUN_EVENTS versions of all streams.
        Copy::Runs => append(&session, streams, streams * RUN_EVENTS, APPEND_RUNS).await?,
        Copy::Plain => session.batch_execute(PLAIN_TABLE).await?,
        Copy::MessageDb => {
            let sql = MESSAGE_DB_INSERT.replace("$streams", &streams.to_string());
            session.batch_execute(&sql).await?;
        }
    }
    session.batch_execute("DROP TABLE public.staged").await?;
    Ok(session.batch_execute("VACUUM ANALYZE").await?)
}

/// Appends all of `staged` by `sql`, `step` events to a transaction.
async fn append(session: &Session, streams: usize, step: usize, sql: &str) -> Result<()> {
    let statement = session.prepare(sql).await?;
    for from in (0..streams * STREAM_EVENTS).step_by(step) {
        let range = [from, from + step].map(|id| id as i64);
        session.execute(&statement, &[&range[0], &range[1]]).await?;
    }
    Ok(())
}

const APPEND_ONE: &str = "
    SELECT count(allsource.es_append(stream_id, event_type, payload))
    FROM (SELECT * FROM staged WHERE id >= $1 AND id < $2 ORDER BY id) AS s";

const APPEND_RUNS: &str = "
    SELECT count(*) FROM (
        SELECT slice, array_agg(stream_id) AS streams, array_agg(event_type) AS types,
               array_agg(payload) AS payloads
        FROM (SELECT *, hashtext(stream_id) & 7 AS slice FROM staged
              WHERE id >= $1 AND id < $2 ORDER BY id) AS s
        GROUP BY slice
    ) AS a, allsource.es_append_batch(a.streams, a.types, a.payloads)";

/// The eleven columns of the view `events`, one row per event.
const PLAIN_TABLE: &str = "
    CREATE TABLE plain_events (
        \"position\" bigint NOT NULL, stream_id text COLLATE \"C\" NOT NULL, version bigint NOT NULL,
        tenant_id text NOT NULL, event_type text NOT NULL, entity_id text, payload jsonb NOT NULL,
        metadata jsonb, \"timestamp\" timestamptz NOT NULL, event_id uuid, partition_id int NOT NULL);
    INSERT INTO plain_events
        SELECT id + 1, stream_id, row_number() OVER (PARTITION BY stream_id ORDER BY id), 'default',
               event_type, NULL, payload, NULL, clock_timestamp(), NULL, 0
        FROM staged ORDER BY id;
    CREATE UNIQUE INDEX ON plain_events (stream_id, version);
    CREATE UNIQUE INDEX ON plain_events (\"position\")";

/// What as many calls of `write_message` leave, in a hundredth of the time. Its writing workload has
/// used the same streams, so they are emptied first.
const MESSAGE_DB_INSERT: &str = "
    TRUNCATE messages RESTART IDENTITY;
    INSERT INTO messages (id, stream_name, position, type, data)
        SELECT gen_random_uuid(), stream_id, id / $streams, event_type, payload
        FROM public.staged ORDER BY id";
