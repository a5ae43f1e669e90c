//! Clients that run side by side, whatever they are clients of.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::sync::Barrier;
use tokio::task::spawn_local;

use crate::error::Result;
use crate::measure::footprint::{Memory, own_cpu_s};
use crate::workload::Client;

/// Latencies are counted in nanoseconds, up to ten minutes, to three digits.
const LATENCY_NS_MAX: u64 = 600_000_000_000;
const LATENCY_DIGITS: u8 = 3;

/// What one round gave.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    /// Events written or read in the round.
    pub events: u64,
    /// Calls made.
    pub calls: u64,
    /// Events divided by the time from the common start to the end of the last call or, through the
    /// queue, of the flush after it.
    pub events_per_s: f64,
    /// Median latency of a call.
    pub p50_us: f64,
    /// 99th percentile of a call's latency.
    pub p99_us: f64,
    /// WAL written in the round, by whomever; None for reads.
    pub wal_bytes: Option<f64>,
    /// Growth of the workload's tables with indexes and TOAST; None for reads.
    pub disk_bytes: Option<f64>,
    /// Processor time of the server's processes in the round; None where it was not looked at.
    pub server_cpu_s: Option<f64>,
    /// The same by kind of process.
    #[serde(default)]
    pub process_cpu_s: BTreeMap<String, f64>,
    /// Memory of the settler; None where there is nothing for it to do.
    #[serde(default)]
    pub settler: Option<Memory>,
    /// Processor time of this harness as a share of one core.
    pub client_cores: f64,
    /// Events per second that were drained from the queue beside the workload, which is measured
    /// under this load; None where there was none.
    #[serde(default)]
    pub load_events_per_s: Option<f64>,
}

/// How long each client goes on.
#[derive(Clone, Copy)]
pub enum Length {
    /// So long.
    Time(Duration),
    /// Until it has written or read so many events.
    Events(u64),
}

/// What the clients of a round have done so far.
struct Tally {
    events: u64,
    latencies: Histogram<u64>,
}

/// Lets all `clients` warm up and then run side by side. `settle` finishes what they have begun: what
/// they did to get warm before the clock starts, and the rest before it stops. Returned is also what
/// `look` saw when they were warm, and when they had ended but were still connected. Must be called
/// within a `LocalSet`.
pub async fn run_clients<T>(
    clients: Vec<Box<dyn Client>>,
    warm_up: Duration,
    length: Length,
    mut settle: impl AsyncFnMut() -> Result<()>,
    mut look: impl AsyncFnMut() -> Result<T>,
) -> Result<(Sample, T, T)> {
    let gate = Rc::new(Barrier::new(clients.len() + 1));
    let tally = Rc::new(RefCell::new(Tally::new()));
    let runs: Vec<_> = clients
        .into_iter()
        .map(|client| {
            spawn_local(run_client(client, Rc::clone(&gate), Rc::clone(&tally), warm_up, length))
        })
        .collect();
    gate.wait().await; // all are warm
    let settled = settle().await;
    let before = look().await;
    let cpu_before = own_cpu_s();
    let start = Instant::now();
    gate.wait().await; // go
    let mut ended = Vec::with_capacity(runs.len());
    for run in runs {
        ended.push(run.await??);
    }
    settle().await?;
    let sample = tally.borrow().sample(start.elapsed(), own_cpu_s() - cpu_before);
    settled?;
    Ok((sample, before?, look().await?))
}

/// A client always passes the gate twice, failed or not, so that nobody waits for it forever.
async fn run_client(
    mut client: Box<dyn Client>,
    gate: Rc<Barrier>,
    tally: Rc<RefCell<Tally>>,
    warm_up: Duration,
    length: Length,
) -> Result<Box<dyn Client>> {
    let warm = run_for(client.as_mut(), Length::Time(warm_up), |_, _| {}).await;
    gate.wait().await;
    gate.wait().await;
    warm?;
    run_for(client.as_mut(), length, |events, latency| tally.borrow_mut().add(events, latency))
        .await?;
    Ok(client)
}

async fn run_for(
    client: &mut dyn Client,
    length: Length,
    mut on_step: impl FnMut(u64, Duration),
) -> Result<()> {
    let start = Instant::now();
    let mut end = start;
    let mut done = 0;
    while match length {
        Length::Time(duration) => end - start < duration,
        Length::Events(events) => done < events,
    } {
        let events = client.step().await?;
        done += events;
        let now = Instant::now();
        on_step(events, now - end);
        end = now;
    }
    Ok(())
}

impl Tally {
    fn new() -> Self {
        let latencies = Histogram::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGITS);
        Self { events: 0, latencies: latencies.expect("these bounds are allowed") }
    }

    fn add(&mut self, events: u64, latency: Duration) {
        self.events += events;
        self.latencies.saturating_record(latency.as_nanos() as u64);
    }

    fn sample(&self, elapsed: Duration, cpu_s: f64) -> Sample {
        let elapsed_s = elapsed.as_secs_f64();
        let us = |quantile| self.latencies.value_at_quantile(quantile) as f64 / 1e3;
        Sample {
            events: self.events,
            calls: self.latencies.len(),
            events_per_s: self.events as f64 / elapsed_s,
            p50_us: us(0.50),
            p99_us: us(0.99),
            client_cores: cpu_s / elapsed_s,
            ..Sample::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    struct Sleeper;

    #[async_trait::async_trait(?Send)]
    impl Client for Sleeper {
        async fn step(&mut self) -> Result<u64> {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(1)
        }
    }

    #[test]
    fn the_clock_stops_when_all_is_settled() {
        let settled = Cell::new(0);
        let settle = async || {
            settled.set(settled.get() + 1);
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(())
        };
        let length = Length::Time(Duration::from_millis(10));
        let clients: Vec<Box<dyn Client>> = vec![Box::new(Sleeper)];
        let run = run_clients(clients, Duration::ZERO, length, settle, async || Ok(()));
        let (sample, ..) = crate::block_on(run).expect("a sample");
        assert_eq!(settled.get(), 2);
        assert!(sample.events as f64 / sample.events_per_s >= 0.11);
    }
}
