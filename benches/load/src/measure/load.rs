//! Clients that run beside those that are measured, to keep the server busy meanwhile.

use std::cell::Cell;
use std::rc::Rc;

use tokio::task::{JoinHandle, spawn_local};

use crate::bench::Bench;
use crate::error::Result;
use crate::streams::Seat;
use crate::workload::Workload;

const SESSIONS: usize = 2;

/// Clients that are not measured, each in its own task.
pub struct Load {
    stop: Rc<Cell<bool>>,
    runs: Vec<JoinHandle<Result<()>>>,
}

impl Load {
    /// Lets the clients of `workload` step without pause. Must be called within a `LocalSet`.
    pub async fn start(bench: &'static Bench, workload: &Workload) -> Result<Self> {
        let mut load = Self { stop: Rc::default(), runs: Vec::new() };
        for index in 0..SESSIONS {
            let mut client = workload.connect(bench, Seat { index, clients: SESSIONS }).await?;
            let stop = Rc::clone(&load.stop);
            load.runs.push(spawn_local(async move {
                while !stop.get() {
                    client.step().await?;
                }
                Ok(())
            }));
        }
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
