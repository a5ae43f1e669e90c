//! One round of one workload: connect, warm up, let all clients run for the given time, and count.
//!
//! What goes through the queue counts when it is durable: the round begins with an empty queue, its
//! clock stops when `es_flush` has returned, and every event must have been drained by then.

pub mod clients;
pub mod footprint;
mod load;
pub(crate) mod rounds;

use std::time::Duration;

use crate::bench::Bench;
use crate::error::{Error, Result};
use crate::measure::clients::{Length, Sample, run_clients};
use crate::measure::footprint::{SettlerWatch, footprint};
use crate::measure::load::Load;
use crate::streams::Seat;
use crate::workload::heat;
use crate::workload::{Ends, Workload};

/// Runs `workload` with `clients` connections for `duration` after a `warm_up` that does not count.
pub(crate) async fn measure(
    bench: &'static Bench,
    workload: &Workload,
    clients: usize,
    warm_up: Duration,
    duration: Duration,
) -> Result<Sample> {
    let about = workload.about;
    let session = bench.server.connect(about.database).await?;
    if let Some(heat) = workload.heat {
        heat.bring_about(bench).await?;
    }
    let mut connected = Vec::with_capacity(clients);
    for index in 0..clients {
        connected.push(workload.connect(bench, Seat { index, clients }).await?);
    }
    let load = match &workload.load {
        Some(load) => Some(Load::start(bench, load).await?),
        None => None,
    };
    let flush =
        async || -> Result<()> { Ok(session.batch_execute("SELECT allsource.es_flush()").await?) };
    let settle = async || match about.ends {
        Ends::Answered => Ok(()),
        Ends::Flushed => flush().await,
        Ends::Settled => {
            flush().await?;
            heat::settle(&session).await
        }
    };
    let length = match workload.events {
        None => Length::Time(duration),
        Some(events) => Length::Events(events.div_ceil(clients) as u64),
    };
    let look = async || footprint(&session, about, load.is_some()).await;
    let watch = match about.ends {
        Ends::Settled => Some(SettlerWatch::start(&session).await?),
        _ => None,
    };
    let (mut sample, before, after) = run_clients(connected, warm_up, length, settle, look).await?;
    sample.settler = watch.map(SettlerWatch::end);
    let drained = after.drained - before.drained;
    if let Some(load) = load {
        load.stop().await?;
        flush().await?; // what comes next does not find its events in the queue
        Error::unless_equal(about.name, "a load", if drained > 0.0 { "a load" } else { "none" })?;
        let elapsed_s = sample.events as f64 / sample.events_per_s;
        sample.load_events_per_s = Some(drained / elapsed_s);
        return Ok(sample);
    }
    if about.ends != Ends::Answered {
        Error::unless_equal(about.name, sample.events as f64, drained)?;
    }
    let used = |(kind, s): (String, f64)| {
        let before_s = before.cpu_s.get(&kind).unwrap_or(&0.0);
        (kind, s - before_s)
    };
    sample.process_cpu_s = after.cpu_s.into_iter().map(used).collect();
    sample.server_cpu_s = Some(sample.process_cpu_s.values().sum());
    if about.tables.is_some() {
        sample.wal_bytes = Some(after.wal_bytes - before.wal_bytes);
        sample.disk_bytes = Some(after.disk_bytes - before.disk_bytes);
    }
    Ok(sample)
}
