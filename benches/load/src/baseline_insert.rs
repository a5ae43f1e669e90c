//! Baseline: one event per transaction by a bare `INSERT` into a table with one unique index.
//!
//! That is the least that any event store on PostgreSQL does per event: a commit, a heap tuple, an
//! index entry. It checks nothing and knows no order across streams.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::OnceCell;

use crate::bench::{BASELINE_DATABASE, Bench};
use crate::bind::Bind;
use crate::error::Result;
use crate::payload::{EVENT_TYPES, Payloads};
use crate::rng::Rng;
use crate::wire::Connection;
use crate::workload::{About, Client, LocalFuture, Step, Workload};

/// The report's name of this workload.
pub const BARE_INSERT: &str = "bare INSERT";

const TABLE: &str = "
    CREATE TABLE bare_insert (stream_no bigint NOT NULL, version bigint NOT NULL,
                              event_type text NOT NULL, payload jsonb NOT NULL);
    CREATE UNIQUE INDEX ON bare_insert (stream_no, version)";
const INSERT: &str =
    "INSERT INTO bare_insert (stream_no, version, event_type, payload) VALUES ($1, $2, $3, $4)";

/// The workload.
pub struct BareInsert {
    bench: Rc<Bench>,
    versions: Rc<[Cell<i64>]>,
    ready: OnceCell<()>,
}

struct BareInsertClient {
    connection: Connection,
    payloads: Payloads,
    versions: Rc<[Cell<i64>]>,
    rng: Rng,
}

impl BareInsert {
    /// The workload over the streams of `bench`.
    pub fn new(bench: &Rc<Bench>) -> Self {
        let versions = vec![Cell::new(0); bench.options.streams].into();
        Self { bench: Rc::clone(bench), versions, ready: OnceCell::new() }
    }
}

impl Workload for BareInsert {
    fn about(&self) -> About {
        About::writes(BARE_INSERT, BASELINE_DATABASE, "c.relname = 'bare_insert'")
    }

    fn prepare(&self) -> LocalFuture<'_, ()> {
        Box::pin(async {
            let make = async || self.bench.baseline().await?.query(TABLE).await.map(drop);
            self.ready.get_or_try_init(make).await.copied()
        })
    }

    fn client(&self, _: usize, _: usize) -> LocalFuture<'_, Box<dyn Client>> {
        Box::pin(async {
            let mut connection = self.bench.server.connect(BASELINE_DATABASE).await?;
            connection.prepare("insert", INSERT).await?;
            Ok(Box::new(BareInsertClient {
                connection,
                payloads: self.bench.payloads(),
                versions: Rc::clone(&self.versions),
                rng: Rng::new(self.bench.seed()),
            }) as Box<dyn Client>)
        })
    }
}

impl Step for BareInsertClient {
    async fn step(&mut self) -> Result<u64> {
        let stream = self.rng.below(self.versions.len());
        let version = self.versions[stream].get() + 1;
        self.versions[stream].set(version);
        Bind::new(&mut self.connection.out, "insert")
            .i64(stream as i64)
            .i64(version)
            .text(EVENT_TYPES[version as usize % EVENT_TYPES.len()])
            .jsonb(|out| self.payloads.write(out))
            .execute();
        self.connection.roundtrip(|_| {}).await?;
        Ok(1)
    }
}
