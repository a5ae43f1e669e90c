//! Whether everything is well: one answer per question that an operator has.

use super::samples::dead_letters;
use crate::pg::error::{Error, Obstacle};
use crate::pg::positions::counter::observe;
use crate::pg::queue::{Phase, QueueReport, Queues};
use crate::pg::session::xact::in_recovery;
use crate::pg::tables::waiting_events::count_foreign;
use std::time::Duration;

/// If a queue is fuller than this, producers will soon have to wait.
const QUEUE_FILL_MAX_PERCENT: u64 = 80;

/// If an event has waited longer than this, something is wrong.
const LAG_MAX: Duration = Duration::from_secs(10);

/// A transaction that has appended and is open for longer than this keeps readers waiting.
const STANDSTILL_MAX: Duration = Duration::from_secs(60);

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

/// All checks.
pub fn checks() -> Result<Vec<Check>, Error> {
    let mut checks = Vec::new();
    let queues = match Queues::open() {
        Err(Error::CannotExecute(Obstacle::NotPreloaded)) => {
            let detail = "allsource is not in shared_preload_libraries";
            return Ok(vec![check("preload", false, detail)]);
        }
        queues => queues.ok(),
    };
    checks.push(check("preload", true, "allsource was loaded at server start"));
    checks.extend(match queues {
        Some(queues) => of_queues(queues, count_foreign()?),
        None => vec![check("workers", true, "allsource.workers is 0: the queue is switched off")],
    });
    if !in_recovery() {
        checks.push(safe_position()?);
    }
    let letters = dead_letters()?;
    checks.push(check(
        "dead letters",
        letters.all == 0,
        match letters.all {
            0 => "there are none".to_owned(),
            all => format!(
                "{all} events could not be written, {} of them in the last hour",
                letters.recent
            ),
        },
    ));
    Ok(checks)
}

/// `foreign`: waiting events that a dump has brought.
fn of_queues(queues: Queues, foreign: u64) -> Vec<Check> {
    let reports: Vec<QueueReport> = queues.iter().map(|queue| queue.report()).collect();
    let running = reports.iter().filter(|report| report.pid.is_some()).count();
    let resting = reports.iter().filter(|report| report.phase == Phase::Paused).count();
    let failing = reports.iter().find(|report| report.failing);
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
    let worst = reports.iter().max_by_key(|report| report.waiting_for);
    vec![
        workers,
        match worst {
            _ if foreign > 0 => check(
                "waiting events",
                false,
                format!(
                    "{foreign} were restored from a dump and wait for es_adopt_waiting_events()"
                ),
            ),
            Some(report) => waiting_events(report),
            None => check("waiting events", true, "none"),
        },
        check("queue", fullest < QUEUE_FILL_MAX_PERCENT, format!("{fullest} % of it is in use")),
        check(
            "drain lag",
            lag < LAG_MAX,
            format!("the oldest event has waited {:.1} s", lag.as_secs_f64()),
        ),
    ]
}

/// Whether events wait for a stream or a partition that cannot be written, and what for.
fn waiting_events(report: &QueueReport) -> Check {
    let QueueReport { waiting_events: events, waiting_streams: streams, waiting_for, .. } = report;
    if *events == 0 {
        return check("waiting events", true, "none");
    }
    let mut detail = format!(
        "{events} events of {streams} streams wait, the oldest for {:.1} s",
        waiting_for.as_secs_f64()
    );
    if let Some(reason) = &report.held_up_by {
        detail = format!("{detail}: {reason}");
    }
    check("waiting events", *waiting_for < LAG_MAX, detail)
}

/// Whether a transaction keeps the safe position from advancing.
fn safe_position() -> Result<Check, Error> {
    let observed = observe()?;
    let (safe, oldest) = (observed.safe, observed.oldest.unwrap_or_default());
    let detail = if oldest.is_zero() {
        format!("{safe}; no transaction holds it back")
    } else {
        format!("{safe}; a transaction that has appended has been open for {} s", oldest.as_secs())
    };
    Ok(check("safe position", oldest < STANDSTILL_MAX, detail))
}
