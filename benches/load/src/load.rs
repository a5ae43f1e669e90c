//! Clients that run beside those that are measured, to keep the server busy meanwhile.

use std::cell::Cell;
use std::rc::Rc;

use tokio::task::{JoinHandle, spawn_local};

use crate::error::Result;
use crate::measure::died;
use crate::workload::Client;

/// Clients that are not measured, each in its own task.
pub struct Load {
    stop: Rc<Cell<bool>>,
    runs: Vec<JoinHandle<Result<()>>>,
}

impl Load {
    /// Lets each of `clients` step without pause. Must be called within a `LocalSet`.
    pub fn start(clients: Vec<Box<dyn Client>>) -> Self {
        let stop = Rc::new(Cell::new(false));
        let run = |mut client: Box<dyn Client>| {
            let stop = Rc::clone(&stop);
            spawn_local(async move {
                while !stop.get() {
                    client.step().await?;
                }
                Ok(())
            })
        };
        let runs = clients.into_iter().map(run).collect();
        Self { stop, runs }
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Lets each client finish its step, and no other.
    pub async fn stop(self) -> Result<()> {
        self.stop.set(true);
        for run in self.runs {
            run.await.map_err(died)??;
        }
        Ok(())
    }
}
