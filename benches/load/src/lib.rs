//! The load harness of allsource: measures the extension beside what it must be compared with, on
//! one server, interleaved, and says which of the project's bars are met.
//!
//! All clients run in one thread and one event loop, because client and server share the cores.
//! `benches/README.md` says what is measured and how to read it.

mod append;
mod append_batch;
pub mod bars;
mod baseline_copy;
mod baseline_insert;
mod bench;
mod bind;
pub mod error;
mod history;
mod import;
mod load;
pub mod machine;
pub mod measure;
mod messagedb;
pub mod options;
pub mod payload;
mod plan;
mod prepared;
mod read_all;
mod read_stream;
mod relational;
pub mod report;
pub mod results;
pub mod ring;
pub mod rng;
mod rounds;
mod scattered;
mod server;
mod store;
mod under_load;
mod wire;
pub mod workload;

use std::path::Path;
use std::rc::Rc;

use serde::de::DeserializeOwned;

use crate::bench::Bench;
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::options::Options;
use crate::results::{Figures, Results};
use crate::ring::RingResults;

/// Measures what `options` ask for, prints the report and writes the results. Must be called within
/// a `LocalSet`.
pub async fn run(options: Options) -> Result<()> {
    let peers: Option<Vec<Figures>> = options.peers.as_deref().map(measured_before).transpose()?;
    let ring: Option<RingResults> = options.ring.as_deref().map(measured_before).transpose()?;
    let bench = Rc::new(Bench::new(options));
    let mut machine = Machine::watch().await;
    if let Some(warning) = machine.warning() {
        println!("{warning}");
    }
    let mut figures = Vec::new();
    for group in plan::groups(&bench).await? {
        figures.extend(group.run(&bench).await?);
    }
    results::add_ratios(&mut figures, &plan::BASELINES);
    figures.extend(peers.unwrap_or_default());
    machine.watch_again().await;
    let results = Results {
        machine,
        settings: bench.server.settings().await?,
        bars: bars::judge(&figures, ring.as_ref()),
        figures,
        ring,
    };
    report::print(&results);
    report::write(&results, &bench.options.out)?;
    println!("\nall figures, the single rounds too: {}", bench.options.out.display());
    Ok(())
}

/// What another program has measured and written to `path`.
fn measured_before<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let what = || format!("cannot read {}", path.display());
    let text = std::fs::read(path).map_err(Error::io(what()))?;
    serde_json::from_slice(&text).map_err(|error| Error::Usage(format!("{}: {error}", what())))
}
