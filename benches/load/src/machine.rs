//! What else the machine is doing: figures taken on a busy machine mean little, and say so.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Cores that others may use before a warning is printed.
const QUIET_CORES: f64 = 0.1;

const WATCHED: Duration = Duration::from_secs(1);

/// The machine, and how busy it was while the harness itself did nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Processor cores; client and server share them.
    pub cores: usize,
    /// Cores used by others before the measurement.
    pub busy_cores_before: f64,
    /// Cores used by others after it.
    pub busy_cores_after: f64,
}

impl Machine {
    /// Looks at the machine before the measurement.
    pub async fn watch() -> Self {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let busy = busy_cores().await;
        Self { cores, busy_cores_before: busy, busy_cores_after: busy }
    }

    /// Looks again, after it.
    pub async fn watch_again(&mut self) {
        self.busy_cores_after = busy_cores().await;
    }

    /// A sentence for the report where others have disturbed the measurement.
    pub fn warning(&self) -> Option<String> {
        let (before, after) = (self.busy_cores_before, self.busy_cores_after);
        (before.max(after) > QUIET_CORES).then(|| {
            format!(
                "WARNING: the machine was busy with something else: {before:.1} of {} cores before, \
                 {after:.1} after. Do not quote these figures.",
                self.cores
            )
        })
    }
}

/// Cores in use over the next second, by whomever, time stolen by a hypervisor included.
async fn busy_cores() -> f64 {
    let before = cpu_ticks();
    tokio::time::sleep(WATCHED).await;
    let after = cpu_ticks();
    let busy = after.0.saturating_sub(before.0) as f64;
    let all = after.1.saturating_sub(before.1).max(1) as f64;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    busy / all * cores as f64
}

/// Ticks of all processors since boot: those in use, and all.
fn cpu_ticks() -> (u64, u64) {
    const IDLE: usize = 3;
    const IO_WAIT: usize = 4;
    const STEAL: usize = 7; // what follows is part of the first two
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = stat.lines().next().unwrap_or_default();
    let ticks = first.split_whitespace().skip(1).take(STEAL + 1).map(|t| t.parse().unwrap_or(0u64));
    ticks.enumerate().fold((0, 0), |(busy, all), (kind, ticks)| {
        (if kind == IDLE || kind == IO_WAIT { busy } else { busy + ticks }, all + ticks)
    })
}
