//! Whether everything is well: one answer per question that an operator has.

use super::hot::{HotNow, hot_partitions};
use super::samples::dead_letters;
use crate::pg::error::{Error, Obstacle};
use crate::pg::hot::control::Control;
use crate::pg::positions::counter::observe;
use crate::pg::queue::{Phase, QueueReport, Queues};
use crate::pg::session::xact::in_recovery;
use crate::pg::settings;
use crate::pg::sidecar::{self, Index};
use crate::pg::tables::waiting_events::count_foreign;
use std::time::Duration;

/// If a queue is fuller than this, producers will soon have to wait.
const QUEUE_FILL_MAX_PERCENT: u64 = 80;

/// If an event has waited longer than this, something is wrong.
const LAG_MAX: Duration = Duration::from_secs(10);

/// A transaction that has appended and is open for longer than this keeps readers waiting.
const STANDSTILL_MAX: Duration = Duration::from_secs(60);

/// Events of hot partitions are settled when they are as old as `allsource.settle_interval`. If the oldest is
/// older than this many of it, and a while, something is wrong.
const SETTLE_INTERVALS_MAX: u32 = 6;
const SETTLING_MAX: Duration = Duration::from_secs(60);

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
    let hot = hot_partitions()?;
    checks.push(unsettled_events(&hot));
    checks.push(of_sidecar(&hot));
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

/// Whether events of hot partitions get into the log.
fn unsettled_events(hot: &[HotNow]) -> Check {
    const NAME: &str = "unsettled events";
    let error_of = |partition| Control::get().and_then(|control| control.of(partition).error.get());
    let restored = || hot.iter().filter(|of| of.is_restored);
    if restored().next().is_some() {
        let numbers: Vec<_> = restored().map(|of| of.partition.number().to_string()).collect();
        let detail = format!(
            "restored from a dump, and waiting for es_heat, es_cool or es_settle: partition {}",
            numbers.join(", ")
        );
        return check(NAME, false, detail);
    }
    let ages = hot.iter().filter_map(|of| Some((of.oldest?, of.partition)));
    let Some((age, partition)) = ages.max_by_key(|(age, _)| *age) else {
        return check(NAME, true, "none");
    };
    let number = partition.number();
    let mut detail =
        format!("the oldest, of partition {number}, have waited for {:.1} s", age.as_secs_f64());
    if let Some(error) = error_of(partition) {
        detail = format!("{detail}: {error}");
    }
    let limit = settings::settle_interval().saturating_mul(SETTLE_INTERVALS_MAX) + SETTLING_MAX;
    check(NAME, age < limit, detail)
}

/// Whether there is a sidecar where it is needed. Without it reading tails is slower.
fn of_sidecar(hot: &[HotNow]) -> Check {
    const NAME: &str = "sidecar";
    if !hot.iter().any(|of| !of.is_restored) {
        return check(NAME, true, "no partition is hot");
    }
    if in_recovery() {
        return check(NAME, true, "it is opened after promotion");
    }
    if !Index::IS_SUPPORTED {
        return check(NAME, false, "this build has none: make the hot partitions cold");
    }
    let status = sidecar::status();
    if status.as_ref().is_some_and(|status| status.is_served) {
        return check(NAME, true, "it answers");
    }
    let control = Control::get();
    let detail = if Queues::of_this_database().is_err() {
        "no workers serve this database".to_owned()
    } else if control.is_none_or(|control| control.pid().is_none()) {
        "the settler does not run".to_owned()
    } else {
        let error = status.and_then(|status| status.error);
        let error = error.or_else(|| control.and_then(|control| control.error().get()));
        error.unwrap_or_else(|| "it is not open yet".to_owned())
    };
    check(NAME, false, detail)
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
