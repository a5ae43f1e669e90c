//! The import on the server: small events lie in a table, and two sessions move them into the store
//! by `es_append_batch` over arrays aggregated from it, each call a durable transaction; or they hand
//! them over to the workers by `es_enqueue_batch` over the same arrays.
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
use crate::payload::{EVENT_TYPES, Payloads, Size};
use crate::prepared::Rows;
use crate::store::{self, STORE_DATABASE, Store};
use crate::wire::Connection;
use crate::workload::{About, Client, LocalFuture, Step, Workload};

/// Sessions that import side by side.
pub const SESSIONS: usize = 2;

/// The report's names of the import in grouped order, by events per call.
pub const IMPORT_GROUPED: [&str; 3] =
    ["import 2k grouped", "import 10k grouped", "import 50k grouped"];

/// The report's name of the import in mixed order.
pub const IMPORT_MIXED: &str = "import 10k mixed";

/// The report's name of the import in mixed order through the queue.
pub const ENQUEUE_AGGREGATED: &str = "enqueue 10k aggregated";

const CHUNK_STREAMS: usize = 1_000;
const EVENTS_PER_STREAM: usize = 10;
const CHUNK_EVENTS: usize = CHUNK_STREAMS * EVENTS_PER_STREAM;
/// Events in a call of which the arrays are prepared.
const ROWS_CALL_EVENTS: usize = 1_000;
const SESSION_STREAMS: usize = 5 * CHUNK_STREAMS;

/// Events in one pass over all streams of both sessions; the table holds whole passes.
pub const PASS_EVENTS: usize = SESSIONS * SESSION_STREAMS * EVENTS_PER_STREAM;

/// Returns the number of streams.
const APPEND: &str = "
    SELECT count(*) FROM (
        SELECT array_agg(stream_id) AS streams, array_agg(event_type) AS types,
               array_agg(payload) AS payloads
        FROM (SELECT stream_id, event_type, payload FROM import_events
              WHERE id >= $1 AND id < $2 ORDER BY id) AS events
    ) AS arrays, allsource.es_append_batch(arrays.streams, arrays.types, arrays.payloads)";

/// Returns the number of events.
const ENQUEUE: &str = "
    SELECT allsource.es_enqueue_batch(array_agg(stream_id), array_agg(event_type), array_agg(payload))
    FROM (SELECT stream_id, event_type, payload FROM import_events
          WHERE id >= $1 AND id < $2 ORDER BY id) AS events";

/// The workload, with the given order and size of a call.
pub struct Import {
    about: About,
    sql: &'static str,
    /// Events for each unit of what `sql` returns.
    events_per_unit: usize,
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
    name: &'static str,
    events_per_unit: usize,
    connection: Connection,
    from: usize,
    to: usize,
    next: usize,
    call_events: usize,
}

impl Import {
    /// All variants that append, grouped order first.
    pub fn appends(source: &Rc<Source>) -> Vec<Self> {
        let [small, middle, large] = IMPORT_GROUPED;
        [
            (small, "import_grouped", 2_000),
            (middle, "import_grouped", CHUNK_EVENTS),
            (large, "import_grouped", SESSION_STREAMS * EVENTS_PER_STREAM),
            (IMPORT_MIXED, "import_mixed", CHUNK_EVENTS),
        ]
        .map(|(name, table, call_events)| Self {
            about: store::appends(name),
            sql: APPEND,
            events_per_unit: EVENTS_PER_STREAM,
            table,
            call_events,
            source: Rc::clone(source),
        })
        .into()
    }

    /// In mixed order through the queue.
    pub fn enqueue(source: &Rc<Source>) -> Self {
        Self {
            about: store::enqueues(ENQUEUE_AGGREGATED),
            sql: ENQUEUE,
            events_per_unit: 1,
            table: "import_mixed",
            call_events: CHUNK_EVENTS,
            source: Rc::clone(source),
        }
    }
}

impl Workload for Import {
    fn about(&self) -> About {
        self.about
    }

    fn prepare(&self) -> LocalFuture<'_, ()> {
        Box::pin(self.source.prepare())
    }

    fn client(&self, index: usize, clients: usize) -> LocalFuture<'_, Box<dyn Client>> {
        Box::pin(async move {
            let sql = self.sql.replace("import_events", self.table);
            let share = self.source.events / clients;
            Ok(Box::new(ImportClient {
                name: self.about.name,
                events_per_unit: self.events_per_unit,
                connection: self.source.store.connect("import", &sql).await?,
                from: index * share,
                to: (index + 1) * share,
                next: index * share,
                call_events: self.call_events,
            }) as Box<dyn Client>)
        })
    }
}

impl Step for ImportClient {
    async fn step(&mut self) -> Result<u64> {
        if self.next == self.to {
            self.next = self.from; // the same streams again, with their next versions
        }
        let end = (self.next + self.call_events).min(self.to);
        Bind::new(&mut self.connection.out, "import")
            .i64(self.next as i64)
            .i64(end as i64)
            .execute();
        let mut found = None;
        self.connection.roundtrip(|row| found = row.i64(0)).await?;
        let events = end - self.next;
        let expected = (events / self.events_per_unit) as i64;
        if found != Some(expected) {
            return Err(Error::WrongResult {
                workload: self.name,
                expected: expected.to_string(),
                found: format!("{found:?}"),
            });
        }
        self.next = end;
        Ok(events as u64)
    }
}

impl Rows for Source {
    fn store(&self) -> &Rc<Store> {
        &self.store
    }

    fn table(&self) -> &'static str {
        "import_mixed"
    }

    /// A hundred streams of a chunk, and so 1,000 events, one of each stream in turn.
    fn call(&self) -> String {
        "id / 10000 * 10 + id % 1000 / 100".to_owned()
    }

    fn calls(&self) -> usize {
        self.events / ROWS_CALL_EVENTS
    }

    fn call_events(&self) -> usize {
        ROWS_CALL_EVENTS
    }

    fn prepare(&self) -> LocalFuture<'_, ()> {
        Box::pin(async {
            self.store.prepare().await?;
            self.ready.get_or_try_init(async || self.make().await).await.copied()
        })
    }
}

impl Source {
    /// The tables for the import into `store`; they are not made before they are needed.
    pub fn new(store: &Rc<Store>) -> Rc<Self> {
        let events = store.bench().options.import_events;
        Rc::new(Self { store: Rc::clone(store), events, ready: OnceCell::new() })
    }

    async fn make(&self) -> Result<()> {
        let bench = self.store.bench();
        let mut connection = bench.server.connect(STORE_DATABASE).await?;
        for (table, mixed) in [("import_grouped", false), ("import_mixed", true)] {
            let sql = format!(
                "CREATE TABLE {table} (id bigint, stream_id text, event_type text, payload jsonb)"
            );
            connection.query(&sql).await?;
            let mut payloads = bench.payloads_of(Size::Small);
            let copy = format!("COPY {table} FROM STDIN");
            for chunk in (0..self.events).step_by(CHUNK_EVENTS) {
                let rows = self.chunk_rows(chunk, mixed, &mut payloads);
                connection.copy_in(&copy, &copy_data(&rows)).await?;
            }
            connection.query(&format!("ALTER TABLE {table} ADD PRIMARY KEY (id)")).await?;
            connection.query(&format!("VACUUM ANALYZE {table}")).await?;
        }
        // The import creates its streams on its first pass only; that pass is not what is measured.
        connection.prepare("import", &APPEND.replace("import_events", "import_grouped")).await?;
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
