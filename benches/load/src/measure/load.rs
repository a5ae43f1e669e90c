//! Clients that run beside those that are measured, to keep the server busy meanwhile.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep, sleep_until};

use crate::bench::Bench;
use crate::error::Result;
use crate::streams::Seat;
use crate::workload::{Pace, Workload};

const SESSIONS: usize = 2;

/// Clients that are not measured, each in its own task.
pub struct Load {
    stop: Rc<Cell<bool>>,
    runs: Vec<JoinHandle<Result<()>>>,
}

impl Load {
    /// Lets the clients of `workload` step, without pause unless it has a pace. Must be called within a
    /// `LocalSet`.
    pub async fn start(bench: &'static Bench, workload: &Workload) -> Result<Self> {
        let mut load = Self { stop: Rc::default(), runs: Vec::new() };
        for index in 0..SESSIONS {
            let mut client = workload.connect(bench, Seat { index, clients: SESSIONS }).await?;
            let stop = Rc::clone(&load.stop);
            let pace = workload.pace;
            let start = Instant::now();
            load.runs.push(spawn_local(async move {
                let mut events = 0;
                while !stop.get() {
                    events += client.step().await?;
                    if let Some(Pace { events_per_s, .. }) = pace {
                        let share = events_per_s as f64 / SESSIONS as f64;
                        sleep_until(start + Duration::from_secs_f64(events as f64 / share)).await;
                    }
                }
                Ok(())
            }));
        }
        sleep(workload.pace.map_or(Duration::ZERO, |pace| pace.lead)).await;
        Ok(load)
    }

    /// Lets each client finish its step, and no other.
    pub async fn stop(self) -> Result<()> {
        self.stop.set(true);
        for run in self.runs {
            run.await??;
        }
        Ok(())
    }
}
