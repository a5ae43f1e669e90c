//! `es_append_batch`: 1,000 events over 100 streams per call, in the order in which they might have
//! arrived: one of each stream, then the next of each.
//!
//! Each client has streams of its own, as a consumer of a partitioned queue has; two batches that
//! share a stream would have to wait for each other.

use std::rc::Rc;

use crate::bench::Share;
use crate::bind::Bind;
use crate::error::{Error, Result};
use crate::payload::{EVENT_TYPES, Payloads};
use crate::store::{STORE_DATABASE, STORE_TABLES, Store};
use crate::wire::Connection;
use crate::workload::{Client, LocalFuture, Workload};

/// The report's name of `es_append_batch`.
pub const ES_APPEND_BATCH: &str = "es_append_batch";

const EVENTS: usize = 1_000;
const STREAMS: usize = 100;

/// The workload.
pub struct AppendBatch {
    store: Rc<Store>,
}

struct BatchClient {
    connection: Connection,
    payloads: Payloads,
    store: Rc<Store>,
    share: Share,
}

impl AppendBatch {
    /// Appends to `store`.
    pub fn new(store: &Rc<Store>) -> Self {
        Self { store: Rc::clone(store) }
    }
}

impl Workload for AppendBatch {
    fn name(&self) -> &'static str {
        ES_APPEND_BATCH
    }

    fn database(&self) -> &'static str {
        STORE_DATABASE
    }

    fn tables(&self) -> Option<&'static str> {
        Some(STORE_TABLES)
    }

    fn prepare(&self) -> LocalFuture<'_, ()> {
        Box::pin(self.store.prepare())
    }

    fn client(&self, index: usize, clients: usize) -> LocalFuture<'_, Box<dyn Client>> {
        Box::pin(async move {
            let sql = "SELECT * FROM allsource.es_append_batch($1, $2, $3)";
            let bench = self.store.bench();
            Ok(Box::new(BatchClient {
                connection: self.store.connect("batch", sql).await?,
                payloads: bench.payloads(),
                store: Rc::clone(&self.store),
                share: Share::new(self.store.names().len(), index, clients, bench.seed()),
            }) as Box<dyn Client>)
        })
    }
}

impl BatchClient {
    async fn append(&mut self) -> Result<u64> {
        let streams = self.share.take(STREAMS);
        let names = self.store.names();
        Bind::new(&mut self.connection.out, "batch")
            .text_array((0..EVENTS).map(|event| names.get(streams[event % STREAMS])))
            .text_array((0..EVENTS).map(|event| EVENT_TYPES[event % EVENT_TYPES.len()]))
            .jsonb_array(EVENTS, |out| self.payloads.write(out))
            .execute();
        let rows = self.connection.roundtrip(|_| {}).await?;
        if rows != STREAMS as u64 {
            return Err(Error::WrongResult {
                workload: ES_APPEND_BATCH,
                expected: format!("{STREAMS} rows"),
                found: format!("{rows}"),
            });
        }
        Ok(EVENTS as u64)
    }
}

impl Client for BatchClient {
    fn step(&mut self) -> LocalFuture<'_, u64> {
        Box::pin(self.append())
    }
}
