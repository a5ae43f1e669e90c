//! The load harness of allsource: measures the extension beside what it must be compared with, on
//! one server, interleaved, and says which of the project's bars are met.
//!
//! All clients are tasks of one thread, because client and server share the cores.
//! `benches/README.md` says what is measured and how to read it.

mod bench;
mod data;
pub mod error;
pub mod machine;
pub mod measure;
pub mod options;
pub mod payload;
mod plan;
pub mod report;
mod server;
mod streams;
pub mod workload;

use std::path::Path;

use serde::de::DeserializeOwned;
use tokio::runtime::Builder;
use tokio::task::LocalSet;

use crate::bench::Bench;
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::measure::rounds;
use crate::options::Options;
use crate::report::figures::{Figures, Results, add_ratios};
use crate::report::ring::RingResults;
use crate::server::BASELINE_DATABASE;

/// Runs `task`, and the local tasks that it spawns, in this thread.
pub fn block_on<T>(task: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime =
        Builder::new_current_thread().enable_all().build().map_err(Error::io("event loop"))?;
    LocalSet::new().block_on(&runtime, task)
}

/// Measures what `options` ask for, prints the report and writes the results. Must be called within
/// a `LocalSet`.
pub async fn run(options: Options) -> Result<()> {
    let peers: Option<Vec<Figures>> = options.peers.as_deref().map(measured_before).transpose()?;
    let ring: Option<RingResults> = options.ring.as_deref().map(measured_before).transpose()?;
    let bench = Bench::leak(options);
    let mut machine = Machine::watch().await;
    if let Some(warning) = machine.warning() {
        println!("{warning}");
    }
    bench.server.fresh_database(BASELINE_DATABASE).await?;
    let mut figures = Vec::new();
    for group in plan::groups(bench).await? {
        figures.extend(rounds::run(bench, &group).await?);
    }
    add_ratios(&mut figures, &plan::BASELINES);
    figures.extend(peers.unwrap_or_default());
    machine.watch_again().await;
    let mut bars = report::bars::judge(&figures, ring.as_ref());
    if !bench.options.only.is_empty() {
        bars.retain(|verdict| verdict.met.is_some());
    }
    let results =
        Results { machine, settings: bench.server.settings().await?, bars, figures, ring };
    report::print(&results);
    report::write(&results, &bench.options.out)?;
    println!("\nall figures, the single rounds too: {}", bench.options.out.display());
    Ok(())
}

/// What another program has measured and written to `path`.
fn measured_before<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read(path);
    text.and_then(|text| Ok(serde_json::from_slice(&text)?))
        .map_err(Error::io(format!("cannot read {}", path.display())))
}
