//! Every number that is counted or measured.

use crate::metrics::sample::{Gauges, Sample, WorkerGauges, samples};
use crate::pg::error::{Error, Obstacle};
use crate::pg::positions::counter::Positions;
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
        let positions = Positions::open_locked()?;
        // The next one first: a moment later the safe one may have passed it.
        let next = positions.next() as i64;
        (Some(positions.safe() as i64), Some(next))
    };
    let gauges =
        Gauges { workers: workers()?, dead_letters: dead_letters()?, safe_position, next_position };
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
        }
    };
    Ok(Queues::open()?.iter().map(gauges).collect())
}

/// How many dead letters there are.
pub fn dead_letters() -> Result<u64, Error> {
    let mut count = 0;
    let sql = c"SELECT pg_catalog.count(*) FROM allsource.dead_letters";
    execute(sql, &[], Access::Read, |row| {
        count = row.get(1).map_or(0, |value| value.value() as u64);
        Ok(())
    })?;
    Ok(count)
}
