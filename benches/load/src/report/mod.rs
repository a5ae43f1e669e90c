//! The report on the terminal, and `results.json`.

pub mod bars;
pub mod figures;
pub mod ring;

use std::path::Path;

use crate::error::{Error, Result};
use crate::measure::footprint::Memory;
use crate::report::bars::thousands;
use crate::report::figures::{Figures, Results};
use crate::report::ring::RingResults;

/// Prints the figures as a table, group by group, and then the bars.
pub fn print(results: &Results) {
    print_heading(results);
    let mut group = "";
    for figures in &results.figures {
        if figures.group != group {
            group = &figures.group;
            println!(
                "\n{:<24} {:>3} {:>11} {:>23} {:>9} {:>9} {:>7} {:>7} {:>7} {:>6}  ratios",
                group,
                "cl",
                "events/s",
                "slowest - fastest",
                "p50 us",
                "p99 us",
                "WAL B",
                "disk B",
                "CPU us",
                "client"
            );
        }
        print_figures(figures);
    }
    if let Some(ring) = &results.ring {
        print_ring(ring);
    }
    println!("\n{:<66} {:<34} met", "bar", "measured");
    for verdict in &results.bars {
        let met = match verdict.met {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "-",
        };
        println!("{:<66} {:<34} {met}", verdict.bar, verdict.figure);
    }
    if let Some(warning) = results.machine.warning() {
        println!("\n{warning}");
    }
}

/// Writes everything, the single rounds too, to `path`.
pub fn write(results: &Results, path: &Path) -> Result<()> {
    let failed = |error| Error::io(format!("cannot write {}", path.display()))(error);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let json = serde_json::to_vec_pretty(results).map_err(|error| failed(error.into()))?;
    std::fs::write(path, json).map_err(failed)
}

fn print_heading(results: &Results) {
    let settings: Vec<String> =
        results.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    println!("{} cores; {}", results.machine.cores, settings.join(" "));
    println!(
        "medians over the rounds; WAL and disk in bytes, and the server's processor time, per event; client: cores used by the load \
         generator; ratios: events/s relative to what was measured beside it"
    );
}

fn print_figures(figures: &Figures) {
    let bytes = |bytes: Option<f64>| bytes.map_or_else(|| "-".to_owned(), |b| format!("{b:.0}"));
    let mut ratios: Vec<String> =
        figures.ratios.iter().map(|(name, ratio)| format!("{name} {ratio:.2}")).collect();
    if let Some(load) = figures.load_events_per_s {
        ratios.push(format!("beside {} events/s drained", thousands(load)));
    }
    if let Some(Memory { peak_mb, set_mb }) = figures.settler {
        let by_process = figures.process_us_per_event.iter().filter(|(_, us)| **us >= 0.05);
        ratios.extend(by_process.map(|(kind, us)| format!("{kind} {us:.1} us")));
        ratios.push(format!("settler {peak_mb:.0} MB of its own, {set_mb:.0} MB set"));
    }
    println!(
        "{:<24} {:>3} {:>11} {:>23} {:>9.0} {:>9.0} {:>7} {:>7} {:>7} {:>6.2}  {}",
        figures.workload,
        figures.clients,
        thousands(figures.events_per_s),
        format!(
            "{} - {}",
            thousands(figures.events_per_s_min),
            thousands(figures.events_per_s_max)
        ),
        figures.p50_us,
        figures.p99_us,
        bytes(figures.wal_bytes_per_event),
        bytes(figures.disk_bytes_per_event),
        figures.server_us_per_event.map_or_else(|| "-".to_owned(), |us| format!("{us:.1}")),
        figures.client_cores,
        ratios.join(", ")
    );
}

fn print_ring(ring: &RingResults) {
    println!(
        "\n{:<24} {:>11} {:>23} {:>19} {:>7}",
        format!("ring, {} B, records/s", ring.record_bytes),
        "ring",
        "asking to wake",
        "ArrayQueue of boxes",
        "ratio"
    );
    for figures in &ring.results {
        println!(
            "{:<24} {:>11} {:>23} {:>19} {:>7.2}",
            format!("{} to 1", figures.producers),
            thousands(figures.ring * 1e6),
            thousands(figures.ring_asking_to_wake * 1e6),
            thousands(figures.array_queue * 1e6),
            figures.ratio
        );
    }
}
