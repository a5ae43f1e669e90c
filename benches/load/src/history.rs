//! The same history in four places, to be read: streams of 100 events of 256 bytes, in
//! - a store written one event at a time (100 rows per stream),
//! - a store written in runs of 10,
//! - a plain table with one row per event and an index,
//! - message-db.
//!
//! Events are written in the order in which they would have happened, every stream's first, then
//! every stream's second, and so on, so that nowhere a stream lies in one place.

use std::rc::Rc;

use bytes::{BufMut, BytesMut};
use tokio::sync::OnceCell;

use crate::baseline_copy::copy_data;
use crate::bench::{BASELINE_DATABASE, Bench, Names};
use crate::error::Result;
use crate::messagedb::{MESSAGE_DB_DATABASE, SEARCH_PATH, stream_name};
use crate::payload::EVENT_TYPES;
use crate::store;
use crate::wire::Connection;

/// Events in a stream that is read.
pub const STREAM_EVENTS: usize = 100;

/// The store written one event at a time.
pub const SINGLES_DATABASE: &str = "bench_singles";

/// The store written in runs.
pub const RUNS_DATABASE: &str = "bench_runs";

const RUN_EVENTS: usize = 10;
const EVENTS_PER_TRANSACTION: usize = 10_000;

/// Which copy of the history.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// In a store, written one event at a time.
    Singles,
    /// In a store, written in runs.
    Runs,
    /// In a plain table.
    Plain,
    /// In message-db.
    MessageDb,
}

/// One copy of the history.
pub struct History {
    /// Which one it is.
    pub copy: Copy,
    /// Its streams.
    pub names: Names,
    /// The shared context.
    pub bench: Rc<Bench>,
    ready: OnceCell<()>,
}

impl Copy {
    /// The database it is in.
    pub const fn database(self) -> &'static str {
        match self {
            Self::Singles => SINGLES_DATABASE,
            Self::Runs => RUNS_DATABASE,
            Self::Plain => BASELINE_DATABASE,
            Self::MessageDb => MESSAGE_DB_DATABASE,
        }
    }
}

impl History {
    /// The history in `copy`; nothing is written before [`History::prepare`].
    pub fn new(bench: &Rc<Bench>, copy: Copy) -> Rc<Self> {
        let streams = bench.options.read_streams;
        let names = match copy {
            Copy::MessageDb => Names::new(streams, stream_name),
            _ => Names::orders(streams),
        };
        Rc::new(Self { copy, names, bench: Rc::clone(bench), ready: OnceCell::new() })
    }

    /// Writes it, on the first call.
    pub async fn prepare(&self) -> Result<()> {
        self.ready.get_or_try_init(async || self.make().await).await.copied()
    }

    async fn make(&self) -> Result<()> {
        let mut connection = match self.copy {
            Copy::Singles | Copy::Runs => store::create(&self.bench, self.copy.database()).await?,
            Copy::Plain => self.bench.baseline().await?,
            Copy::MessageDb => self.bench.server.connect(MESSAGE_DB_DATABASE).await?,
        };
        self.stage(&mut connection).await?;
        match self.copy {
            Copy::Singles => self.append(&mut connection, APPEND_ONE).await?,
            Copy::Runs => self.append(&mut connection, APPEND_RUNS).await?,
            Copy::Plain => drop(connection.query(PLAIN_TABLE).await?),
            Copy::MessageDb => {
                connection.query(SEARCH_PATH).await?;
                connection.query(MESSAGE_DB_INSERT).await?;
            }
        }
        connection.query("DROP TABLE staged").await?;
        connection.query("VACUUM ANALYZE").await.map(drop)
    }

    /// Puts the history into the unlogged table `staged`, in the order of the events.
    async fn stage(&self, connection: &mut Connection) -> Result<()> {
        connection.query(STAGED_TABLE).await?;
        let mut payloads = self.bench.payloads();
        let mut rows = BytesMut::new();
        let mut n = 0;
        for version in 1..=STREAM_EVENTS {
            for name in self.names.iter() {
                let event_type = EVENT_TYPES[n % EVENT_TYPES.len()];
                rows.put_slice(format!("{n}\t{name}\t{version}\t{event_type}\t").as_bytes());
                payloads.write(&mut rows);
                rows.put_u8(b'\n');
                n += 1;
            }
            connection.copy_in("COPY staged FROM STDIN", &copy_data(&rows)).await?;
            rows.clear();
        }
        connection.query("CREATE INDEX ON staged (n); ANALYZE staged").await.map(drop)
    }

    /// Appends all of `staged` by `sql`, some thousand events to a transaction.
    async fn append(&self, connection: &mut Connection, sql: &str) -> Result<()> {
        // Whole groups of RUN_EVENTS versions of all streams, or whole pieces of single events.
        let events = self.names.len() * STREAM_EVENTS;
        let step =
            if sql == APPEND_RUNS { self.names.len() * RUN_EVENTS } else { EVENTS_PER_TRANSACTION };
        for from in (0..events).step_by(step) {
            let to = (from + step).min(events);
            let sql = sql.replace(":from", &from.to_string()).replace(":to", &to.to_string());
            connection.query(&sql).await?;
        }
        Ok(())
    }
}

const STAGED_TABLE: &str = "CREATE UNLOGGED TABLE staged
    (n bigint, stream_id text, version bigint, event_type text, payload jsonb)";

const APPEND_ONE: &str = "
    SELECT count(allsource.es_append(stream_id, event_type, payload))
    FROM (SELECT * FROM staged WHERE n >= :from AND n < :to ORDER BY n) AS s";

const APPEND_RUNS: &str = "
    SELECT count(*) FROM (
        SELECT slice, array_agg(stream_id) AS streams, array_agg(event_type) AS types,
               array_agg(payload) AS payloads
        FROM (SELECT *, hashtext(stream_id) & 7 AS slice FROM staged
              WHERE n >= :from AND n < :to ORDER BY n) AS s
        GROUP BY slice
    ) AS a, allsource.es_append_batch(a.streams, a.types, a.payloads)";

/// The eleven columns of the view `events`, one row per event.
const PLAIN_TABLE: &str = "
    CREATE TABLE plain_events (
        \"position\" bigint NOT NULL, stream_id text COLLATE \"C\" NOT NULL, version bigint NOT NULL,
        tenant_id text NOT NULL, event_type text NOT NULL, entity_id text, payload jsonb NOT NULL,
        metadata jsonb, \"timestamp\" timestamptz NOT NULL, event_id uuid, partition_id int NOT NULL);
    INSERT INTO plain_events
        SELECT n + 1, stream_id, version, 'default', event_type, NULL, payload, NULL,
               clock_timestamp(), NULL, 0
        FROM staged ORDER BY n;
    CREATE UNIQUE INDEX ON plain_events (stream_id, version);
    CREATE UNIQUE INDEX ON plain_events (\"position\")";

/// What as many calls of `write_message` leave, in a hundredth of the time. Its writing workload has
/// used the same streams, so they are emptied first.
const MESSAGE_DB_INSERT: &str = "
    TRUNCATE messages RESTART IDENTITY;
    INSERT INTO messages (id, stream_name, position, type, data)
        SELECT gen_random_uuid(), stream_id, version - 1, event_type, payload
        FROM staged ORDER BY n";
