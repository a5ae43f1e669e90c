//! The import on the server: small events lie in a table, and two sessions move them into the store
//! by `es_append_batch` over arrays aggregated from it, each call a durable transaction.
//!
//! The table is cut into chunks of 1,000 streams with 10 events each. The first half of its ids are
//! the first session's, and the sessions' streams are disjoint. Within a chunk the events lie either
//! stream by stream (grouped), or one of each stream in turn (mixed), as they might have arrived.

use std::fmt::Write as _;
use std::rc::Rc;

use bytes::{BufMut, BytesMut};
use tokio::sync::OnceCell;

use crate::baseline_copy::copy_data;
use crate::bind::Bind;
use crate::error::{Error, Result};
use crate::payload::{EVENT_TYPES, Payloads};
use crate::store::{STORE_DATABASE, STORE_TABLES, Store};
use crate::wire::Connection;
use crate::workload::{Client, LocalFuture, Workload};

/// Sessions that import side by side.
pub const SESSIONS: usize = 2;

/// The report's names of the import in grouped order, by events per call.
pub const IMPORT_GROUPED: [&str; 3] =
    ["import 2k grouped", "import 10k grouped", "import 50k grouped"];

/// The report's name of the import in mixed order.
pub const IMPORT_MIXED: &str = "import 10k mixed";

const CHUNK_STREAMS: usize = 1_000;
const EVENTS_PER_STREAM: usize = 10;
const CHUNK_EVENTS: usize = CHUNK_STREAMS * EVENTS_PER_STREAM;
const SESSION_STREAMS: usize = 5 * CHUNK_STREAMS;

/// Events in one pass over all streams of both sessions; the table holds whole passes.
pub const PASS_EVENTS: usize = SESSIONS * SESSION_STREAMS * EVENTS_PER_STREAM;

const CALL: &str = "
    SELECT count(*) FROM (
        SELECT array_agg(stream_id) AS streams, array_agg(event_type) AS types,
               array_agg(payload) AS payloads
        FROM (SELECT stream_id, event_type, payload FROM import_events
              WHERE id >= $1 AND id < $2 ORDER BY id) AS events
    ) AS arrays, allsource.es_append_batch(arrays.streams, arrays.types, arrays.payloads)";

/// The workload, with the given order and size of a call.
pub struct Import {
    name: &'static str,
    table: &'static str,
    call_events: usize,
    source: Rc<Source>,
}

/// The two tables to import from; they hold the same events in different order.
pub struct Source {
    store: Rc<Store>,
    events: usize,
    ready: OnceCell<()>,
}

struct ImportClient {
    connection: Connection,
    from: usize,
    to: usize,
    next: usize,
    call_events: usize,
}

impl Import {
    /// All variants, grouped order first.
    pub fn all(store: &Rc<Store>) -> Vec<Self> {
        let events = store.bench().options.import_events;
        let source = Rc::new(Source { store: Rc::clone(store), events, ready: OnceCell::new() });
        let [small, middle, large] = IMPORT_GROUPED;
        [
            (small, "import_grouped", 2_000),
            (middle, "import_grouped", CHUNK_EVENTS),
            (large, "import_grouped", SESSION_STREAMS * EVENTS_PER_STREAM),
            (IMPORT_MIXED, "import_mixed", CHUNK_EVENTS),
        ]
        .map(|(name, table, call_events)| Self {
            name,
            table,
            call_events,
            source: Rc::clone(&source),
        })
        .into()
    }
}

impl Workload for Import {
    fn name(&self) -> &'static str {
        self.name
    }

    fn database(&self) -> &'static str {
        STORE_DATABASE
    }

    fn tables(&self) -> Option<&'static str> {
        Some(STORE_TABLES)
    }

    fn prepare(&self) -> LocalFuture<'_, ()> {
        Box::pin(self.source.prepare())
    }

    fn client(&self, index: usize, clients: usize) -> LocalFuture<'_, Box<dyn Client>> {
        Box::pin(async move {
            let sql = CALL.replace("import_events", self.table);
            let share = self.source.events / clients;
            Ok(Box::new(ImportClient {
                connection: self.source.store.connect("import", &sql).await?,
                from: index * share,
                to: (index + 1) * share,
                next: index * share,
                call_events: self.call_events,
            }) as Box<dyn Client>)
        })
    }
}

impl ImportClient {
    async fn import(&mut self) -> Result<u64> {
        if self.next == self.to {
            self.next = self.from; // the same streams again, with their next versions
        }
        let end = (self.next + self.call_events).min(self.to);
        Bind::new(&mut self.connection.out, "import")
            .i64(self.next as i64)
            .i64(end as i64)
            .execute();
        let mut streams = None;
        self.connection.roundtrip(|row| streams = row.i64(0)).await?;
        let events = end - self.next;
        if streams != Some((events / EVENTS_PER_STREAM) as i64) {
            return Err(Error::WrongResult {
                workload: "import",
                expected: format!("{} streams", events / EVENTS_PER_STREAM),
                found: format!("{streams:?}"),
            });
        }
        self.next = end;
        Ok(events as u64)
    }
}

impl Client for ImportClient {
    fn step(&mut self) -> LocalFuture<'_, u64> {
        Box::pin(self.import())
    }
}

impl Source {
    async fn prepare(&self) -> Result<()> {
        self.store.prepare().await?;
        self.ready.get_or_try_init(async || self.make().await).await.copied()
    }

    async fn make(&self) -> Result<()> {
        let bench = self.store.bench();
        let mut connection = bench.server.connect(STORE_DATABASE).await?;
        for (table, mixed) in [("import_grouped", false), ("import_mixed", true)] {
            let sql = format!(
                "CREATE TABLE {table} (id bigint, stream_id text, event_type text, payload jsonb)"
            );
            connection.query(&sql).await?;
            let mut payloads = Payloads::small().fork(bench.seed());
            let copy = format!("COPY {table} FROM STDIN");
            for chunk in (0..self.events).step_by(CHUNK_EVENTS) {
                let rows = self.chunk_rows(chunk, mixed, &mut payloads);
                connection.copy_in(&copy, &copy_data(&rows)).await?;
            }
            connection.query(&format!("ALTER TABLE {table} ADD PRIMARY KEY (id)")).await?;
            connection.query(&format!("VACUUM ANALYZE {table}")).await?;
        }
        // The import creates its streams on its first pass only; that pass is not what is measured.
        connection.prepare("import", &CALL.replace("import_events", "import_grouped")).await?;
        for session in 0..SESSIONS {
            let from = session * self.events / SESSIONS;
            let to = from + SESSION_STREAMS * EVENTS_PER_STREAM;
            Bind::new(&mut connection.out, "import").i64(from as i64).i64(to as i64).execute();
            connection.roundtrip(|_| {}).await?;
        }
        Ok(())
    }

    /// The rows from the id `chunk` on, for COPY in text format.
    fn chunk_rows(&self, chunk: usize, mixed: bool, payloads: &mut Payloads) -> BytesMut {
        let session_events = self.events / SESSIONS;
        let first_stream = chunk / session_events * SESSION_STREAMS
            + chunk % session_events / EVENTS_PER_STREAM % SESSION_STREAMS;
        let mut rows = BytesMut::new();
        let mut head = String::new();
        for event in 0..CHUNK_EVENTS {
            let offset = if mixed { event % CHUNK_STREAMS } else { event / EVENTS_PER_STREAM };
            let event_type = EVENT_TYPES[event % EVENT_TYPES.len()];
            head.clear();
            // Writing to a String cannot fail.
            let _ = write!(
                head,
                "{}\tparcel-{:07}\t{event_type}\t",
                chunk + event,
                first_stream + offset
            );
            rows.put_slice(head.as_bytes());
            payloads.write(&mut rows);
            rows.put_u8(b'\n');
        }
        rows
    }
}
