//! Nothing to pack: in each call one event of every stream, in random order, from rows that lie in a
//! table. The baseline inserts them into a plain table with the two unique indexes of the store.

use std::cell::Cell;
use std::fmt::Write as _;
use std::rc::Rc;

use bytes::{BufMut, BytesMut};
use tokio::sync::OnceCell;

use crate::baseline_copy::copy_data;
use crate::bind::Bind;
use crate::error::Result;
use crate::payload::{EVENT_TYPES, Size};
use crate::prepared::Rows;
use crate::rng::Rng;
use crate::store::{STORE_DATABASE, Store};
use crate::wire::Connection;
use crate::workload::{About, Client, LocalFuture, Step, Workload};

/// The report's name of the baseline.
pub const INSERT_SELECT: &str = "INSERT ... SELECT";

/// Streams, and so events of a call; fewer where the store has fewer.
const STREAMS_MAX: usize = 10_000;

/// Calls of which there are rows.
const CALLS: usize = 20;

const INSERT: &str = "
    INSERT INTO plain_events (\"position\", stream_no, version, event_type, payload)
    SELECT $1 + id, stream_no, $2::bigint, event_type, payload
    FROM scattered_rows WHERE id >= $3 AND id < $4";

/// The rows, in a table of their own for each size of the payloads.
pub struct Scattered {
    store: Rc<Store>,
    size: Size,
    ready: OnceCell<()>,
}

/// The baseline.
pub struct InsertSelect {
    rows: Rc<Scattered>,
    calls: Rc<Cell<usize>>,
    ready: OnceCell<()>,
}

struct InsertSelectClient {
    connection: Connection,
    calls: Rc<Cell<usize>>,
    call_events: usize,
}

impl Scattered {
    /// Rows for `store`; they are not made before they are needed.
    pub fn new(store: &Rc<Store>, size: Size) -> Rc<Self> {
        Rc::new(Self { store: Rc::clone(store), size, ready: OnceCell::new() })
    }

    async fn make(&self) -> Result<()> {
        let mut connection = self.store.bench().server.connect(STORE_DATABASE).await?;
        let table = self.table();
        let sql = format!(
            "CREATE TABLE {table} (id bigint, stream_id text, stream_no bigint, event_type text,
                                   payload jsonb)"
        );
        connection.query(&sql).await?;
        let mut rng = Rng::new(self.store.bench().seed());
        let mut payloads = self.store.bench().payloads_of(self.size);
        let mut streams: Vec<usize> = (0..self.call_events()).collect();
        let mut id = 0;
        for _ in 0..CALLS {
            rng.shuffle(&mut streams);
            let mut rows = BytesMut::new();
            let mut head = String::new();
            for stream in &streams {
                let (name, event_type) =
                    (self.store.names().get(*stream), EVENT_TYPES[id % EVENT_TYPES.len()]);
                head.clear();
                // Writing to a String cannot fail.
                let _ = write!(head, "{id}\t{name}\t{stream}\t{event_type}\t");
                rows.put_slice(head.as_bytes());
                payloads.write(&mut rows);
                rows.put_u8(b'\n');
                id += 1;
            }
            connection.copy_in(&format!("COPY {table} FROM STDIN"), &copy_data(&rows)).await?;
        }
        connection.query(&format!("ALTER TABLE {table} ADD PRIMARY KEY (id)")).await?;
        connection.query(&format!("VACUUM ANALYZE {table}")).await.map(drop)
    }
}

impl Rows for Scattered {
    fn store(&self) -> &Rc<Store> {
        &self.store
    }

    fn table(&self) -> &'static str {
        match self.size {
            Size::Full => "scattered",
            Size::Small => "scattered_small",
        }
    }

    fn call(&self) -> String {
        format!("id / {}", self.call_events())
    }

    fn calls(&self) -> usize {
        CALLS
    }

    fn call_events(&self) -> usize {
        self.store.names().len().min(STREAMS_MAX)
    }

    fn prepare(&self) -> LocalFuture<'_, ()> {
        Box::pin(async {
            self.store.prepare().await?;
            self.ready.get_or_try_init(async || self.make().await).await.copied()
        })
    }
}

impl InsertSelect {
    /// Inserts `rows` over and over, each time with the streams' next versions.
    pub fn new(rows: &Rc<Scattered>) -> Self {
        Self { rows: Rc::clone(rows), calls: Rc::default(), ready: OnceCell::new() }
    }

    fn table(&self) -> &'static str {
        match self.rows.size {
            Size::Full => "plain_scattered",
            Size::Small => "plain_scattered_small",
        }
    }
}

impl Workload for InsertSelect {
    fn about(&self) -> About {
        let tables = match self.rows.size {
            Size::Full => "c.relname = 'plain_scattered'",
            Size::Small => "c.relname = 'plain_scattered_small'",
        };
        About::writes(INSERT_SELECT, STORE_DATABASE, tables)
    }

    fn prepare(&self) -> LocalFuture<'_, ()> {
        Box::pin(async {
            self.rows.prepare().await?;
            let make = async || {
                let mut connection = self.rows.store.bench().server.connect(STORE_DATABASE).await?;
                let table = self.table();
                let sql = format!(
                    "CREATE TABLE {table} (
                         \"position\" bigint NOT NULL, stream_no bigint NOT NULL,
                         version bigint NOT NULL, event_type text NOT NULL, payload jsonb NOT NULL);
                     CREATE UNIQUE INDEX ON {table} (stream_no, version);
                     CREATE UNIQUE INDEX ON {table} (\"position\")"
                );
                connection.query(&sql).await.map(drop)
            };
            self.ready.get_or_try_init(make).await.copied()
        })
    }

    fn client(&self, _: usize, _: usize) -> LocalFuture<'_, Box<dyn Client>> {
        Box::pin(async {
            let sql = INSERT
                .replace("plain_events", self.table())
                .replace("scattered_rows", self.rows.table());
            Ok(Box::new(InsertSelectClient {
                connection: self.rows.store.connect("insert", &sql).await?,
                calls: Rc::clone(&self.calls),
                call_events: self.rows.call_events(),
            }) as Box<dyn Client>)
        })
    }
}

impl Step for InsertSelectClient {
    async fn step(&mut self) -> Result<u64> {
        // Positions and versions are given out here, which costs the baseline nothing.
        let call = self.calls.get();
        self.calls.set(call + 1);
        let from = call % CALLS * self.call_events;
        Bind::new(&mut self.connection.out, "insert")
            .i64((call * self.call_events - from) as i64)
            .i64(call as i64 + 1)
            .i64(from as i64)
            .i64((from + self.call_events) as i64)
            .execute();
        self.connection.roundtrip(|_| {}).await?;
        Ok(self.call_events as u64)
    }
}
