//! `es_append_batch` and `es_enqueue_batch`: 1,000 events over 100 streams per call, in the order in
//! which they might have arrived: one of each stream, then the next of each.
//!
//! Each client has streams of its own, as a consumer of a partitioned queue has; two batches that
//! share a stream would have to wait for each other.

use std::rc::Rc;

use crate::bench::Share;
use crate::bind::Bind;
use crate::error::{Error, Result};
use crate::payload::{EVENT_TYPES, Payloads, Size};
use crate::store::{self, Store};
use crate::wire::Connection;
use crate::workload::{About, Client, LocalFuture, Step, Workload};

/// The report's name of `es_append_batch`.
pub const ES_APPEND_BATCH: &str = "es_append_batch";

/// The report's name of `es_enqueue_batch`.
pub const ES_ENQUEUE_BATCH: &str = "es_enqueue_batch";

const EVENTS: usize = 1_000;
const STREAMS: usize = 100;

/// The workload.
pub struct AppendBatch {
    store: Rc<Store>,
    about: About,
    sql: &'static str,
    rows: usize,
    size: Size,
}

struct BatchClient {
    name: &'static str,
    rows: usize,
    connection: Connection,
    payloads: Payloads,
    store: Rc<Store>,
    share: Share,
}

impl AppendBatch {
    /// Appends to `store`.
    pub fn new(store: &Rc<Store>) -> Self {
        Self {
            store: Rc::clone(store),
            about: store::appends(ES_APPEND_BATCH),
            sql: "SELECT * FROM allsource.es_append_batch($1, $2, $3)",
            rows: STREAMS,
            size: Size::Full,
        }
    }

    /// Hands events over to the workers of `store`.
    pub fn enqueue(store: &Rc<Store>, size: Size) -> Self {
        Self {
            store: Rc::clone(store),
            about: store::enqueues(ES_ENQUEUE_BATCH),
            sql: "SELECT allsource.es_enqueue_batch($1, $2, $3)",
            rows: 1,
            size,
        }
    }
}

impl Workload for AppendBatch {
    fn about(&self) -> About {
        self.about
    }

    fn prepare(&self) -> LocalFuture<'_, ()> {
        Box::pin(self.store.prepare())
    }

    fn client(&self, index: usize, clients: usize) -> LocalFuture<'_, Box<dyn Client>> {
        Box::pin(async move {
            let bench = self.store.bench();
            Ok(Box::new(BatchClient {
                name: self.about.name,
                rows: self.rows,
                connection: self.store.connect("batch", self.sql).await?,
                payloads: bench.payloads_of(self.size),
                store: Rc::clone(&self.store),
                share: Share::new(self.store.names().len(), index, clients, bench.seed()),
            }) as Box<dyn Client>)
        })
    }
}

impl Step for BatchClient {
    async fn step(&mut self) -> Result<u64> {
        let streams = self.share.take(STREAMS);
        let names = self.store.names();
        Bind::new(&mut self.connection.out, "batch")
            .text_array((0..EVENTS).map(|event| names.get(streams[event % STREAMS])))
            .text_array((0..EVENTS).map(|event| EVENT_TYPES[event % EVENT_TYPES.len()]))
            .jsonb_array(EVENTS, |out| self.payloads.write(out))
            .execute();
        let rows = self.connection.roundtrip(|_| {}).await?;
        if rows != self.rows as u64 {
            return Err(Error::WrongResult {
                workload: self.name,
                expected: format!("{} rows", self.rows),
                found: format!("{rows}"),
            });
        }
        Ok(EVENTS as u64)
    }
}
