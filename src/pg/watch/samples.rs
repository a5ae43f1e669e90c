//! Every number that is counted or measured.

use super::hot;
use crate::metrics::sample::{Gauges, Sample, WorkerGauges, samples};
use crate::pg::error::{Error, Obstacle};
use crate::pg::positions::counter::observe;
use crate::pg::positions::recorded::recorded;
use crate::pg::queue::{Queue, Queues};
use crate::pg::session::xact::in_recovery;
use crate::pg::settings;
use crate::pg::shared::counting::{now_s, registry};
use crate::pg::tables::query::{Access, execute};

/// All metrics at this moment.
pub fn all() -> Result<Vec<Sample>, Error> {
    let registry = registry().ok_or(Error::CannotExecute(Obstacle::NotPreloaded))?;
    let (safe_position, next_position) = if in_recovery() {
        (recorded()?, None)
    } else {
        let observed = observe()?;
        (Some(observed.safe as i64), Some(observed.next as i64))
    };
    let gauges = Gauges {
        workers: workers()?,
        hot: hot::gauges()?,
        dead_letters: dead_letters()?.all,
        safe_position,
        next_position,
    };
    Ok(samples(registry, &gauges, now_s()))
}

fn workers() -> Result<Vec<WorkerGauges>, Error> {
    if settings::workers() == 0 {
        return Ok(Vec::new());
    }
    let gauges = |queue: Queue| {
        let report = queue.report();
        WorkerGauges {
            worker: queue.index as u32,
            up: report.pid.is_some(),
            queue_depth_events: report.depth_events,
            queue_depth_bytes: report.depth_bytes,
            queue_capacity_bytes: report.capacity_bytes,
            queue_lag: report.lag,
            queue_full_waits: report.full_waits,
            batches: report.batches,
            largest_batch_events: report.largest_batch,
            waiting_events: report.waiting_events,
            waiting_for: report.waiting_for,
            dead_letters: report.dead,
        }
    };
    Ok(Queues::open()?.iter().map(gauges).collect())
}

/// Dead letters of this database.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeadLetters {
    /// how many there are
    pub all: u64,
    /// how many of them were added within the last hour
    pub recent: u64,
}

/// Counts the dead letters.
pub fn dead_letters() -> Result<DeadLetters, Error> {
    let mut letters = DeadLetters::default();
    execute(COUNT, &[], Access::Read, |row| {
        let count = |column| row.get(column).map_or(0, |value| value.value() as u64);
        letters = DeadLetters { all: count(1), recent: count(2) };
        Ok(())
    })?;
    Ok(letters)
}

const COUNT: &std::ffi::CStr = c"
    SELECT pg_catalog.count(*),
           pg_catalog.count(*) FILTER (
               WHERE d.failed_at OPERATOR(pg_catalog.>)
                     (pg_catalog.now() OPERATOR(pg_catalog.-) interval '1 hour'))
      FROM allsource.dead_letters d";
