//! A database with the extension in it, and the streams that the writing workloads append to.

use std::rc::Rc;

use tokio::sync::OnceCell;

use crate::bench::{Bench, Names};
use crate::bind::Bind;
use crate::error::Result;
use crate::payload::EVENT_TYPES;
use crate::wire::Connection;
use crate::workload::About;

/// The database that the writing workloads append to.
pub const STORE_DATABASE: &str = "bench_store";

/// All that a store writes to, as the condition of [`About::tables`].
const STORE_TABLES: &str = "n.nspname = 'allsource'";

const STREAMS_PER_CALL: usize = 1_000;

/// A workload that appends to the store.
pub const fn appends(name: &'static str) -> About {
    About::writes(name, STORE_DATABASE, STORE_TABLES)
}

/// A workload that hands events over to the store's workers.
pub const fn enqueues(name: &'static str) -> About {
    About { queued: true, ..appends(name) }
}

/// The store that is appended to.
pub struct Store {
    bench: Rc<Bench>,
    names: Names,
    ready: OnceCell<()>,
}

impl Store {
    /// The store with the streams of `bench`.
    pub fn new(bench: &Rc<Bench>) -> Rc<Self> {
        let names = Names::orders(bench.options.streams);
        Rc::new(Self { bench: Rc::clone(bench), names, ready: OnceCell::new() })
    }

    /// The streams' names.
    pub const fn names(&self) -> &Names {
        &self.names
    }

    /// Makes the database, with one event in every stream: creating a stream is not what is measured.
    pub async fn prepare(&self) -> Result<()> {
        self.ready.get_or_try_init(async || self.make().await).await.copied()
    }

    async fn make(&self) -> Result<()> {
        let mut connection = create(&self.bench, STORE_DATABASE).await?;
        connection.prepare("batch", "SELECT * FROM allsource.es_append_batch($1, $2, $3)").await?;
        let mut payloads = self.bench.payloads();
        for from in (0..self.names.len()).step_by(STREAMS_PER_CALL) {
            let count = STREAMS_PER_CALL.min(self.names.len() - from);
            Bind::new(&mut connection.out, "batch")
                .text_array((from..from + count).map(|number| self.names.get(number)))
                .text_array((0..count).map(|number| EVENT_TYPES[number % EVENT_TYPES.len()]))
                .jsonb_array(count, |out| payloads.write(out))
                .execute();
            connection.roundtrip(|_| {}).await?;
        }
        connection.query("VACUUM ANALYZE").await.map(drop)
    }

    /// A client's connection, with `sql` prepared as `name`.
    pub async fn connect(&self, name: &str, sql: &str) -> Result<Connection> {
        let mut connection = self.bench.server.connect(STORE_DATABASE).await?;
        connection.prepare(name, sql).await?;
        Ok(connection)
    }

    /// The shared context.
    pub const fn bench(&self) -> &Rc<Bench> {
        &self.bench
    }
}

/// Makes `database` new, with the extension.
pub async fn create(bench: &Bench, database: &str) -> Result<Connection> {
    let mut connection = bench.server.fresh_database(database).await?;
    connection.query("CREATE EXTENSION allsource").await?;
    Ok(connection)
}
