//! What must be there before a workload can be measured: tables, stores, and events in them.

pub mod history;
pub mod hot;
mod router;
pub mod rows;
mod store;

use crate::bench::Bench;
use crate::error::Result;
use crate::payload::Size;
use crate::server::BASELINE_DATABASE;
use crate::workload::TABLES as RELATIONAL_TABLES;

/// The database that the writing workloads append to.
pub const STORE_DATABASE: &str = "bench_store";

/// The database that message-db's own script has made.
pub const MESSAGE_DB_DATABASE: &str = "bench_messagedb";

/// Something to be made once. What it is made from must have been made before.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Data {
    /// A plain table among the baselines, by its SQL.
    Table(&'static str),
    /// The tables of the relational design.
    Relational,
    /// The settings of message-db's database.
    MessageDb,
    /// The store, with one event in every stream.
    Store,
    /// The tables to import from.
    Import,
    /// Arrays of what is in one of them.
    ImportArrays,
    /// Rows of scattered events, in a table for each size.
    Scattered(Size),
    /// Arrays of them.
    ScatteredArrays(Size),
    /// The plain table that they are inserted into.
    PlainScattered(Size),
    /// Streams of some events, in hot partitions and in cold ones.
    Devices,
    /// Events that are for them, and for others.
    DeviceLoad,
    /// The router, and what it knows.
    Router,
    /// Streams to be read.
    History(history::Copy),
}

impl Data {
    /// Makes it.
    pub async fn make(self, bench: &Bench) -> Result<()> {
        match self {
            Self::Table(sql) => run(bench, BASELINE_DATABASE, sql).await,
            Self::Relational => {
                let streams = bench.options.streams.to_string();
                let sql = RELATIONAL_TABLES.replace("$streams", &streams);
                run(bench, BASELINE_DATABASE, &sql).await?;
                run(bench, BASELINE_DATABASE, "VACUUM ANALYZE relational.event_streams").await
            }
            // Its functions find each other by the search path.
            Self::MessageDb => {
                let sql = format!(
                    "ALTER DATABASE {MESSAGE_DB_DATABASE} SET search_path = message_store, public"
                );
                run(bench, MESSAGE_DB_DATABASE, &sql).await
            }
            Self::Store => store::make(bench).await,
            Self::Import => rows::make_import(bench).await,
            Self::ImportArrays => rows::make_import_arrays(bench).await,
            Self::Scattered(size) => rows::make_scattered(bench, size).await,
            Self::ScatteredArrays(size) => rows::make_scattered_arrays(bench, size).await,
            Self::PlainScattered(size) => rows::make_plain_scattered(bench, size).await,
            Self::Devices => hot::make_devices(bench).await,
            Self::DeviceLoad => hot::make_load(bench).await,
            Self::Router => router::make(bench).await,
            Self::History(copy) => history::make(bench, copy).await,
        }
    }
}

async fn run(bench: &Bench, database: &str, sql: &str) -> Result<()> {
    Ok(bench.server.connect(database).await?.batch_execute(sql).await?)
}
