//! Whether all is well: one answer per question that an operator has.

use super::error::Error;
use super::metrics::dead_letters;
use super::position::Positions;
use super::query::{Access, execute};
use super::queue::{Phase, QueueReport, Queues};
use super::settings;
use super::xact::{database_name, in_recovery};
use std::time::Duration;

/// A queue that is fuller than this is about to hold producers up.
const QUEUE_FILL_MAX_PERCENT: u64 = 80;

/// Events that have waited longer than this are not being drained as they should.
const LAG_MAX: Duration = Duration::from_secs(10);

/// A safe position that has stood still for longer than this, with events above it, keeps readers
/// waiting.
const STANDSTILL_MAX_S: i64 = 60;

/// A check and what it has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// what was checked
    pub name: &'static str,
    /// whether it is well
    pub ok: bool,
    /// the facts
    pub detail: String,
}

fn check(name: &'static str, ok: bool, detail: impl Into<String>) -> Check {
    Check { name, ok, detail: detail.into() }
}

/// All checks. `function` names the caller for messages.
pub fn checks(function: &'static str) -> Result<Vec<Check>, Error> {
    let mut checks = Vec::new();
    let queues = match Queues::open(function) {
        Err(Error::NotPreloaded { .. }) => {
            let detail = "allsource is not in shared_preload_libraries";
            return Ok(vec![check("preload", false, detail)]);
        }
        queues => queues.ok(),
    };
    checks.push(check("preload", true, "allsource was loaded at server start"));
    checks.extend(match queues {
        Some(queues) => of_queues(queues),
        None => vec![check("workers", true, "allsource.workers is 0: the queue is switched off")],
    });
    if !in_recovery() {
        checks.push(safe_position(function)?);
    }
    let letters = dead_letters()?;
    checks.push(check(
        "dead letters",
        letters == 0,
        format!("{letters} events could not be written"),
    ));
    Ok(checks)
}

fn of_queues(queues: Queues) -> Vec<Check> {
    let reports: Vec<QueueReport> = queues.iter().map(|queue| queue.report()).collect();
    let running = reports.iter().filter(|report| report.pid.is_some()).count();
    let resting = reports.iter().filter(|report| report.phase == Phase::Paused).count();
    let failing = reports.iter().find(|report| report.phase == Phase::BackingOff);
    let workers = if in_recovery() {
        check("workers", true, "workers run after promotion")
    } else if let Some(error) = failing.and_then(|report| report.last_error.as_ref()) {
        check("workers", false, format!("a worker cannot write: {error}"))
    } else if resting > 0 {
        check("workers", false, format!("{resting} of {} are paused", reports.len()))
    } else {
        let ok = running == reports.len();
        check("workers", ok, format!("{running} of {} are running", reports.len()))
    };
    let fullest = reports
        .iter()
        .map(|report| report.depth_bytes * 100 / report.capacity_bytes.max(1))
        .max()
        .unwrap_or(0);
    let lag = reports.iter().map(|report| report.lag).max().unwrap_or_default();
    vec![
        workers,
        check("queue", fullest < QUEUE_FILL_MAX_PERCENT, format!("{fullest} % of it is in use")),
        check(
            "drain lag",
            lag < LAG_MAX,
            format!("the oldest event has waited {:.1} s", lag.as_secs_f64()),
        ),
    ]
}

/// Whether the safe position moves on while there is something for it to move on to.
fn safe_position(function: &'static str) -> Result<Check, Error> {
    let positions = Positions::open_locked(function)?;
    let next = positions.next();
    let safe = positions.safe();
    let behind = (next - 1).saturating_sub(safe);
    let name = "safe position";
    if behind == 0 {
        return Ok(check(name, true, format!("{safe}; nothing is above it")));
    }
    if settings::workers() == 0 || settings::database() != database_name() {
        let detail = format!("{safe}; {behind} positions above it are not settled");
        return Ok(check(name, true, detail));
    }
    let mut still_s = 0;
    execute(STANDSTILL, &[], Access::Read, |row| {
        still_s = row.get(1).map_or(0, |value| value.value() as i64);
        Ok(())
    })?;
    let detail =
        format!("{safe}; {behind} positions above it are not settled; it moved {still_s} s ago");
    Ok(check(name, still_s < STANDSTILL_MAX_S, detail))
}

const STANDSTILL: &std::ffi::CStr = c"
    SELECT EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) s.recorded_at)::pg_catalog.int8
      FROM allsource.safe_position s";
