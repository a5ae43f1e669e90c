//! Interleaving: in each round every workload of a group runs once, one after the other, so that
//! whatever else the machine does falls on all of them alike. Medians over the rounds are compared.

use std::io::{IsTerminal as _, Write as _};
use std::rc::Rc;

use crate::bench::Bench;
use crate::error::Result;
use crate::measure::measure;
use crate::report::figures::Figures;
use crate::workload::Workload;

/// Clients that are warm after the time of the option. More share the cores, and need longer: what a
/// backend does once, such as opening each of a store's leaves, must lie before a round.
const CLIENTS_WARM_IN_TIME: usize = 8;

/// Workloads that are compared with each other, each with its number of clients.
pub struct Group {
    /// Its name on the command line and in the report.
    pub name: &'static str,
    /// What to run, with how many connections at the same time.
    pub entries: Vec<(Rc<Workload>, usize)>,
}

/// Prepares and measures everything in the group.
pub async fn run(bench: &'static Bench, group: &Group) -> Result<Vec<Figures>> {
    for (workload, _) in &group.entries {
        progress(&format!("{}: preparing {}", group.name, workload.about.name));
        for data in &workload.data {
            bench.prepare(*data).await?;
        }
    }
    bench.server.checkpoint().await?;
    let options = &bench.options;
    let mut samples = vec![Vec::new(); group.entries.len()];
    for round in 0..options.rounds {
        bench.server.checkpoint_if_due().await?;
        for place in 0..group.entries.len() {
            // Each round starts with another workload: none is always first after a checkpoint.
            let index = (place + round) % group.entries.len();
            let (workload, clients) = &group.entries[index];
            if workload.events.is_some() {
                // It writes so much that a checkpoint comes in its round, as far from its start as others'.
                bench.server.checkpoint().await?;
            }
            let (nth, rounds, name) = (round + 1, options.rounds, workload.about.name);
            progress(&format!("{}: round {nth}/{rounds}, {name} x{clients}", group.name));
            let warm_up = options.warm_up * clients.div_ceil(CLIENTS_WARM_IN_TIME) as u32;
            samples[index].push(measure(bench, workload, *clients, warm_up, options.round).await?);
        }
    }
    progress("");
    let figures = group.entries.iter().zip(samples).map(|((workload, clients), samples)| {
        Figures::of(group.name, workload.about.name, *clients, samples)
    });
    Ok(figures.collect())
}

/// One line on the terminal that is overwritten by the next; nothing where there is no terminal.
fn progress(text: &str) {
    let mut out = std::io::stderr();
    if out.is_terminal() {
        // Nobody misses a progress line that could not be written.
        let _ = write!(out, "\r\x1b[K{text}");
        let _ = out.flush();
    }
}
