//! One round of one workload: connect, warm up, let all clients run for the given time, and count.
//!
//! What goes through the queue counts when it is durable: the round begins with an empty queue, its
//! clock stops when `es_flush` has returned, and every event must have been drained by then.

use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Barrier;
use tokio::task::{JoinError, spawn_local};

use crate::error::{Error, Result};
use crate::load::Load;
use crate::server::Server;
use crate::wire::Connection;
use crate::workload::{About, Client, Workload};

/// What one round gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// Processor time of this harness as a share of one core.
    pub client_cores: f64,
    /// Events per second that were drained from the queue beside the workload, which is measured
    /// under this load; None where there was none.
    #[serde(default)]
    pub load_events_per_s: Option<f64>,
}

struct Footprint {
    cpu_s: f64,
    wal_bytes: f64,
    disk_bytes: f64,
    drained: f64,
}

struct ClientRun {
    events: u64,
    latencies_us: Vec<f32>,
    end: Instant,
}

/// Runs `workload` with `clients` connections for `duration` after a `warm_up` that does not count.
pub async fn measure(
    server: &Server,
    workload: &dyn Workload,
    clients: usize,
    warm_up: Duration,
    duration: Duration,
) -> Result<Sample> {
    let about = workload.about();
    let mut observer = server.connect(about.database).await?;
    let mut flusher = server.connect(about.database).await?;
    let mut connected = Vec::with_capacity(clients);
    for index in 0..clients {
        connected.push(workload.client(index, clients).await?);
    }
    let load = Load::start(workload.load().await?);
    let under_load = !load.is_empty();
    let settle = async || if about.queued { flush(&mut flusher).await } else { Ok(()) };
    let look = async || footprint(&mut observer, about, under_load).await;
    let (mut sample, before, after) =
        run_clients(connected, warm_up, duration, settle, look).await?;
    load.stop().await?;
    let grown = |footprint: fn(&Footprint) -> f64| footprint(&after) - footprint(&before);
    let drained = grown(|footprint| footprint.drained);
    if under_load && drained == 0.0 {
        return Err(Error::WrongResult {
            workload: about.name,
            expected: "a load".to_owned(),
            found: "no event drained".to_owned(),
        });
    }
    if under_load {
        flush(&mut flusher).await?; // what comes next does not find its events in the queue
        let elapsed_s = sample.events as f64 / sample.events_per_s;
        sample.load_events_per_s = Some(drained / elapsed_s);
        return Ok(sample);
    }
    if about.queued && drained != sample.events as f64 {
        return Err(Error::WrongResult {
            workload: about.name,
            expected: format!("{} events drained", sample.events),
            found: drained.to_string(),
        });
    }
    sample.server_cpu_s = Some(grown(|footprint| footprint.cpu_s));
    if about.tables.is_some() {
        sample.wal_bytes = Some(grown(|footprint| footprint.wal_bytes));
        sample.disk_bytes = Some(grown(|footprint| footprint.disk_bytes));
    }
    Ok(sample)
}

/// Returns when all that was enqueued before is durable.
async fn flush(flusher: &mut Connection) -> Result<()> {
    flusher.query("SELECT allsource.es_flush()").await.map(drop)
}

/// Lets all `clients` warm up and then run side by side. `settle` finishes what they have begun: what
/// they did to get warm before the clock starts, and the rest before it stops. Returned is also what
/// `look` saw when they were warm, and when they had ended but were still connected. Must be called
/// within a `LocalSet`.
pub async fn run_clients<T>(
    clients: Vec<Box<dyn Client>>,
    warm_up: Duration,
    duration: Duration,
    mut settle: impl AsyncFnMut() -> Result<()>,
    mut look: impl AsyncFnMut() -> Result<T>,
) -> Result<(Sample, T, T)> {
    let gate = Rc::new(Barrier::new(clients.len() + 1));
    let runs: Vec<_> = clients
        .into_iter()
        .map(|client| spawn_local(run_client(client, Rc::clone(&gate), warm_up, duration)))
        .collect();
    gate.wait().await; // all are warm
    let settled = settle().await;
    let before = look().await;
    let cpu_before = own_cpu_s();
    let start = Instant::now();
    gate.wait().await; // go
    let mut results = Vec::with_capacity(runs.len());
    let mut ended = Vec::with_capacity(runs.len());
    for run in runs {
        let (client, result) = run.await.map_err(died)??;
        ended.push(client);
        results.push(result);
    }
    settle().await?;
    let sample = summarise(&results, start.elapsed(), own_cpu_s() - cpu_before);
    settled?;
    Ok((sample, before?, look().await?))
}

/// A task that could not be waited for.
pub fn died(error: JoinError) -> Error {
    Error::Protocol(format!("a client died: {error}"))
}

/// A client always passes the gate twice, failed or not, so that nobody waits for it forever.
async fn run_client(
    mut client: Box<dyn Client>,
    gate: Rc<Barrier>,
    warm_up: Duration,
    duration: Duration,
) -> Result<(Box<dyn Client>, ClientRun)> {
    let warm = run_for(client.as_mut(), warm_up).await;
    gate.wait().await;
    gate.wait().await;
    warm?;
    let run = run_for(client.as_mut(), duration).await?;
    Ok((client, run))
}

async fn run_for(client: &mut dyn Client, duration: Duration) -> Result<ClientRun> {
    let start = Instant::now();
    let mut run = ClientRun { events: 0, latencies_us: Vec::new(), end: start };
    while run.end - start < duration {
        run.events += client.step().await?;
        let now = Instant::now();
        run.latencies_us.push((now - run.end).as_secs_f32() * 1e6);
        run.end = now;
    }
    Ok(run)
}

fn summarise(runs: &[ClientRun], elapsed: Duration, cpu_s: f64) -> Sample {
    let elapsed_s = elapsed.as_secs_f64();
    let events = runs.iter().map(|run| run.events).sum();
    let mut latencies: Vec<f32> = runs.iter().flat_map(|run| run.latencies_us.clone()).collect();
    latencies.sort_by(f32::total_cmp);
    Sample {
        events,
        calls: latencies.len() as u64,
        events_per_s: events as f64 / elapsed_s,
        p50_us: quantile(&latencies, 0.50),
        p99_us: quantile(&latencies, 0.99),
        wal_bytes: None,
        disk_bytes: None,
        server_cpu_s: None,
        client_cores: cpu_s / elapsed_s,
        load_events_per_s: None,
    }
}

/// The value below which the share `q` of the sorted values lies.
fn quantile(sorted: &[f32], q: f64) -> f64 {
    let rank = (sorted.len() as f64 * q).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().map_or(f64::NAN, f64::from)
}

/// What the server has used so far; bytes only where there are tables to look at, drained events
/// only where there should be some.
async fn footprint(observer: &mut Connection, about: About, under_load: bool) -> Result<Footprint> {
    let mut footprint = Footprint { cpu_s: 0.0, wal_bytes: 0.0, disk_bytes: 0.0, drained: 0.0 };
    if about.queued || under_load {
        let drained = "SELECT sum(drained) FROM allsource.queue_stats";
        footprint.drained = observer.number(drained).await?;
    }
    if let Some(tables) = about.tables {
        let size = format!(
            "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind = 'r' AND {tables}"
        );
        footprint.disk_bytes = observer.number(&size).await?;
        footprint.wal_bytes = observer.number("SELECT pg_current_wal_insert_lsn() - '0/0'").await?;
    }
    let processes = observer.query("SELECT pid FROM pg_stat_activity").await?;
    footprint.cpu_s = processes.iter().flatten().flatten().map(|pid| cpu_s(pid)).sum();
    Ok(footprint)
}

fn own_cpu_s() -> f64 {
    cpu_s("self")
}

/// Processor time that a process has used, as the scheduler counts it; of its first thread, and
/// neither this program nor a backend has another.
fn cpu_s(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let on_cpu_ns = stat.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok());
    on_cpu_ns.unwrap_or(0.0) / 1e9
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::runtime::Builder;
    use tokio::task::LocalSet;

    use super::*;
    use crate::workload::Step;

    struct Sleeper;

    impl Step for Sleeper {
        async fn step(&mut self) -> Result<u64> {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(1)
        }
    }

    #[test]
    fn the_clock_stops_when_all_is_settled() {
        let runtime = Builder::new_current_thread().enable_time().build().expect("an event loop");
        let settled = Cell::new(0);
        let settle = async || {
            settled.set(settled.get() + 1);
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(())
        };
        let duration = Duration::from_millis(10);
        let clients: Vec<Box<dyn Client>> = vec![Box::new(Sleeper)];
        let run = run_clients(clients, Duration::ZERO, duration, settle, async || Ok(()));
        let (sample, ..) = LocalSet::new().block_on(&runtime, run).expect("a sample");
        assert_eq!(settled.get(), 2);
        assert!(sample.events as f64 / sample.events_per_s >= 0.11);
    }

    #[test]
    fn quantiles_are_values_of_the_sample() {
        let sorted: Vec<f32> = (1..=100u8).map(f32::from).collect();
        assert_eq!(quantile(&sorted, 0.5), 50.0);
        assert_eq!(quantile(&sorted, 0.99), 99.0);
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
