//! Interleaving: in each round every workload of a group runs once, one after the other, so that
//! whatever else the machine does falls on all of them alike. Medians over the rounds are compared.

use std::io::Write as _;
use std::rc::Rc;
use std::time::Duration;

use crate::bench::Bench;
use crate::error::Result;
use crate::measure::{Sample, measure};
use crate::results::Figures;
use crate::workload::Workload;

/// Workloads that are compared with each other.
pub struct Group {
    /// Its name on the command line and in the report.
    pub name: &'static str,
    /// The workloads, each with its number of clients.
    pub entries: Vec<Entry>,
}

/// A workload at a number of clients.
pub struct Entry {
    /// What to run.
    pub workload: Rc<dyn Workload>,
    /// Connections at the same time.
    pub clients: usize,
}

impl Group {
    /// All `workloads` with the same number of clients.
    pub fn of(name: &'static str, workloads: &[Rc<dyn Workload>], clients: usize) -> Self {
        let entry = |workload| Entry { workload: Rc::clone(workload), clients };
        Self { name, entries: workloads.iter().map(entry).collect() }
    }

    /// Prepares and measures everything in the group.
    pub async fn run(&self, bench: &Bench) -> Result<Vec<Figures>> {
        for entry in &self.entries {
            progress(&format!("{}: preparing {}", self.name, entry.workload.about().name));
            entry.workload.prepare().await?;
        }
        bench.server.checkpoint().await?;
        let rounds = bench.options.rounds;
        let mut samples: Vec<Vec<Sample>> = self.entries.iter().map(|_| Vec::new()).collect();
        for round in 0..rounds {
            bench.server.checkpoint_if_due().await?;
            for place in 0..self.entries.len() {
                // Each round starts with another workload: none is always first after a checkpoint.
                let index = (place + round) % self.entries.len();
                let Entry { workload, clients } = &self.entries[index];
                let name = workload.about().name;
                progress(&format!(
                    "{}: round {}/{rounds}, {name} x{clients}",
                    self.name,
                    round + 1
                ));
                let (warm_up, duration) = (warm_up(bench, *clients), bench.options.round);
                let sample =
                    measure(&bench.server, workload.as_ref(), *clients, warm_up, duration).await?;
                samples[index].push(sample);
            }
        }
        progress("");
        Ok(self
            .entries
            .iter()
            .zip(samples)
            .map(|(entry, samples)| {
                Figures::of(self.name, entry.workload.about().name, entry.clients, samples)
            })
            .collect())
    }
}

/// Connections live long, and a round is short: what a backend does once, such as opening each of a
/// store's leaves, must lie before it. More clients share the cores, so they need longer for that.
fn warm_up(bench: &Bench, clients: usize) -> Duration {
    const CLIENTS_WARM_IN_TIME: usize = 8;
    bench.options.warm_up * clients.div_ceil(CLIENTS_WARM_IN_TIME) as u32
}

/// One line on the terminal that is overwritten by the next; nothing where there is no terminal.
fn progress(text: &str) {
    use std::io::IsTerminal as _;
    let mut out = std::io::stderr();
    if out.is_terminal() {
        // Nobody misses a progress line that could not be written.
        let _ = write!(out, "\r\x1b[K{text}");
        let _ = out.flush();
    }
}
