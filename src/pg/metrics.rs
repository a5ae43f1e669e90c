//! Counting, in shared memory, and what there is to tell. Where the library was not loaded at server
//! start, nothing is counted.
#![expect(unsafe_code, reason = "lives in PostgreSQL's shared memory")]

use super::error::Error;
use super::position::Positions;
use super::query::{Access, execute};
use super::queue::Queues;
use super::safe_position::recorded;
use super::settings;
use super::shared_memory::{ALIGNMENT, Area};
use super::xact::in_recovery;
use crate::metrics::kind::{Counter, ErrorKind, Function, Latency};
use crate::metrics::registry::Registry;
use crate::metrics::sample::{Gauges, Sample, WorkerGauges, samples};
use crate::model::error::StoreError;
use crate::model::partition::Partition;
use std::sync::atomic::AtomicPtr;
use std::time::{Duration, Instant};

/// The registry in shared memory; zeroed memory is one that has counted nothing.
pub static AREA: Area = Area {
    name: c"allsource metrics",
    bytes: Registry::size,
    set_up: |_| {},
    start: AtomicPtr::new(std::ptr::null_mut()),
};

const _: () = assert!(Registry::ALIGN <= ALIGNMENT);

fn registry() -> Option<&'static Registry> {
    let start = AREA.start("").ok()?;
    // SAFETY: set up before any backend starts; shared memory outlives the process.
    Some(unsafe { &*start.cast::<Registry>() })
}

/// The second of a clock that all processes share and nobody sets.
fn now_s() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to `now`. The clock is always there; zero would only make rates wrong.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut now) };
    now.tv_sec as u64
}

/// Runs a call and counts it: how long it took, or why it failed. Errors that PostgreSQL itself
/// raises, a cancelled query for instance, are not seen here.
pub fn measured<T>(
    function: Function,
    call: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    let Some(registry) = registry() else { return call() };
    let started = Instant::now();
    registry.call(function);
    let result = call();
    match &result {
        Err(error) => registry.error(kind(error)),
        Ok(_) => {
            if let Some(latency) = latency(function) {
                registry.record(latency, started.elapsed());
            }
        }
    }
    result
}

fn latency(function: Function) -> Option<Latency> {
    match function {
        Function::Append | Function::AppendMany | Function::AppendBatch => Some(Latency::Append),
        Function::Enqueue | Function::EnqueueBatch => Some(Latency::Enqueue),
        Function::Read | Function::ReadAll => Some(Latency::Read),
        Function::Flush => None,
    }
}

fn kind(error: &Error) -> ErrorKind {
    match error {
        Error::Store(error) => store_kind(error),
        Error::ConcurrentAppend { .. } => ErrorKind::Conflict,
        Error::Array(_) | Error::Orphan { .. } | Error::MissingEvents { .. } => ErrorKind::Corrupt,
        Error::NotPreloaded { .. }
        | Error::OnStandby { .. }
        | Error::NoWorkers { .. }
        | Error::OtherDatabase { .. }
        | Error::WorkersPaused
        | Error::NoWorkerRuns
        | Error::WaitAfterAppend => ErrorKind::NotAvailable,
        Error::QueueFull { .. } => ErrorKind::QueueFull,
        Error::RecordTooLarge { .. } => ErrorKind::TooLarge,
        Error::FlushTimeout { .. } => ErrorKind::Timeout,
        Error::PermissionDenied { .. } => ErrorKind::Permission,
        Error::Internal { .. } | Error::Record(_) => ErrorKind::Internal,
        Error::RowSecurity { .. }
        | Error::Missing { .. }
        | Error::Layout { .. }
        | Error::TooManyDatabases { .. }
        | Error::StreamNumbers
        | Error::PreparedTransaction
        | Error::NoSetExpected
        | Error::NotWritten { .. }
        | Error::NoDeadLetter { .. } => ErrorKind::Other,
    }
}

fn store_kind(error: &StoreError) -> ErrorKind {
    match error {
        StoreError::WrongExpectedVersion { .. } => ErrorKind::Conflict,
        StoreError::DuplicateEventId { .. } => ErrorKind::DuplicateEventId,
        StoreError::EventTooLarge { .. } | StoreError::BatchTooLarge { .. } => ErrorKind::TooLarge,
        _ => ErrorKind::BadArgument,
    }
}

/// Counts events written to a partition.
pub fn appended(partition: Partition, events: u64) {
    if let Some(registry) = registry() {
        registry.partition(partition, events);
        registry.add(Counter::EventsAppended, events, now_s());
    }
}

/// Counts events that were handed over to the queue.
pub fn enqueued(events: u64) {
    count(Counter::EventsEnqueued, events);
}

/// Counts events that found no room in the queue, or could not be written.
pub fn rejected(events: u64) {
    count(Counter::EventsRejected, events);
}

/// Counts events that were returned to a reader.
pub fn read(events: u64) {
    count(Counter::EventsRead, events);
}

/// Counts a batch that a worker has written.
pub fn drained(events: u64, duration: Duration) {
    count(Counter::EventsDrained, events);
    if let Some(registry) = registry() {
        registry.record(Latency::DrainBatch, duration);
    }
}

fn count(counter: Counter, events: u64) {
    if let Some(registry) = registry() {
        registry.add(counter, events, now_s());
    }
}

/// All metrics at this moment.
pub fn all(function: &'static str) -> Result<Vec<Sample>, Error> {
    let registry = registry().ok_or(Error::NotPreloaded { function })?;
    let (safe_position, next_position) = if in_recovery() {
        (recorded()?, None)
    } else {
        let positions = Positions::open_locked(function)?;
        // The next one first: a moment later the safe one may have passed it.
        let next = positions.next() as i64;
        (Some(positions.safe() as i64), Some(next))
    };
    let gauges = Gauges {
        workers: workers(function)?,
        dead_letters: dead_letters()?,
        safe_position,
        next_position,
    };
    Ok(samples(registry, &gauges, now_s()))
}

fn workers(function: &'static str) -> Result<Vec<WorkerGauges>, Error> {
    if settings::workers() == 0 {
        return Ok(Vec::new());
    }
    let gauges = |queue: super::queue::Queue| {
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
        }
    };
    Ok(Queues::open(function)?.iter().map(gauges).collect())
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
