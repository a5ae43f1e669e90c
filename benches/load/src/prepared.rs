//! `es_enqueue_batch` over arrays that lie ready in a table, a row for each call: what is measured is
//! the way from the arrays to durable events, and neither a client nor an aggregate before it.
//!
//! The arrays are stored uncompressed. Each client takes a share of the calls in turn, over and over.

use std::rc::Rc;

use tokio::sync::OnceCell;

use crate::bind::Bind;
use crate::error::{Error, Result};
use crate::store::{self, STORE_DATABASE, Store};
use crate::wire::Connection;
use crate::workload::{About, Client, LocalFuture, Step, Workload};

/// The report's name where the arrays have 1,000 events over 100 streams.
pub const ENQUEUE_PREPARED: &str = "enqueue 1k prepared";

/// The report's name where they have one event of each stream.
pub const ENQUEUE_SCATTERED: &str = "enqueue 10k scattered";

/// The events of which the arrays are made.
pub trait Rows {
    /// The store that they go into.
    fn store(&self) -> &Rc<Store>;

    /// Their table, with the columns id, stream_id, event_type and payload. The ids begin at 0.
    fn table(&self) -> &'static str;

    /// The call, from 0, that the event with the given `id` belongs to, in SQL.
    fn call(&self) -> String;

    /// The number of calls.
    fn calls(&self) -> usize;

    /// Events in each.
    fn call_events(&self) -> usize;

    /// Makes store and table; must do it once only.
    fn prepare(&self) -> LocalFuture<'_, ()>;
}

/// The workload.
pub struct Prepared {
    name: &'static str,
    rows: Rc<dyn Rows>,
    ready: OnceCell<()>,
}

struct PreparedClient {
    name: &'static str,
    connection: Connection,
    from: usize,
    to: usize,
    next: usize,
    call_events: usize,
}

impl Prepared {
    /// Arrays of `rows`.
    pub fn new(name: &'static str, rows: Rc<dyn Rows>) -> Self {
        Self { name, rows, ready: OnceCell::new() }
    }

    fn table(&self) -> String {
        format!("{}_arrays", self.rows.table())
    }

    async fn make(&self) -> Result<()> {
        let mut connection = self.rows.store().bench().server.connect(STORE_DATABASE).await?;
        let (table, rows, call) = (self.table(), self.rows.table(), self.rows.call());
        let sql = format!(
            "CREATE TABLE {table} (id bigint PRIMARY KEY, streams text[], types text[],
                                   payloads jsonb[]);
             ALTER TABLE {table} ALTER streams SET STORAGE EXTERNAL,
                 ALTER types SET STORAGE EXTERNAL, ALTER payloads SET STORAGE EXTERNAL;
             INSERT INTO {table}
                 SELECT {call}, array_agg(stream_id ORDER BY id), array_agg(event_type ORDER BY id),
                        array_agg(payload ORDER BY id)
                 FROM {rows} GROUP BY 1"
        );
        connection.query(&sql).await?;
        connection.query(&format!("VACUUM ANALYZE {table}")).await.map(drop)
    }
}

impl Workload for Prepared {
    fn about(&self) -> About {
        store::enqueues(self.name)
    }

    fn prepare(&self) -> LocalFuture<'_, ()> {
        Box::pin(async {
            self.rows.prepare().await?;
            self.ready.get_or_try_init(async || self.make().await).await.copied()
        })
    }

    fn client(&self, index: usize, clients: usize) -> LocalFuture<'_, Box<dyn Client>> {
        Box::pin(async move {
            let sql = format!(
                "SELECT allsource.es_enqueue_batch(streams, types, payloads) FROM {} WHERE id = $1",
                self.table()
            );
            let share = self.rows.calls() / clients;
            Ok(Box::new(PreparedClient {
                name: self.name,
                connection: self.rows.store().connect("enqueue", &sql).await?,
                from: index * share,
                to: (index + 1) * share,
                next: index * share,
                call_events: self.rows.call_events(),
            }) as Box<dyn Client>)
        })
    }
}

impl Step for PreparedClient {
    async fn step(&mut self) -> Result<u64> {
        Bind::new(&mut self.connection.out, "enqueue").i64(self.next as i64).execute();
        let mut accepted = None;
        self.connection.roundtrip(|row| accepted = row.i64(0)).await?;
        if accepted != Some(self.call_events as i64) {
            return Err(Error::WrongResult {
                workload: self.name,
                expected: format!("{} events", self.call_events),
                found: format!("{accepted:?}"),
            });
        }
        self.next = if self.next + 1 == self.to { self.from } else { self.next + 1 };
        Ok(self.call_events as u64)
    }
}
