//! Counting, in shared memory. Where the library was not loaded at server start, nothing is counted.
#![expect(unsafe_code, reason = "lives in PostgreSQL's shared memory")]

use crate::metrics::kind::{Counter, ErrorKind, Function, Latency};
use crate::metrics::registry::Registry;
use crate::model::partition::Partition;
use crate::pg::shared::memory::{ALIGNMENT, Area};
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

/// The registry, where the library was loaded at server start.
pub fn registry() -> Option<&'static Registry> {
    let start = AREA.start().ok()?;
    // SAFETY: set up before any backend starts; shared memory outlives the process.
    Some(unsafe { &*start.cast::<Registry>() })
}

/// The second of a clock that all processes share and that cannot be set.
pub fn now_s() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to `now`. The clock is always there; zero would only make rates wrong.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut now) };
    now.tv_sec as u64
}

/// A call that is being measured.
pub struct Measured {
    registry: &'static Registry,
    function: Function,
    started: Instant,
}

/// Counts a call that begins.
pub fn begin(function: Function) -> Option<Measured> {
    let registry = registry()?;
    registry.call(function);
    Some(Measured { registry, function, started: Instant::now() })
}

impl Measured {
    /// Counts how long the call took, and why it has failed where it has.
    pub fn end(&self, failed: Option<ErrorKind>) {
        if let Some(kind) = failed {
            self.registry.error(kind);
        }
        if let Some(latency) = latency(self.function) {
            self.registry.record(latency, self.started.elapsed());
        }
    }
}

fn latency(function: Function) -> Option<Latency> {
    match function {
        Function::Append | Function::AppendMany | Function::AppendBatch => Some(Latency::Append),
        Function::Enqueue | Function::EnqueueBatch => Some(Latency::Enqueue),
        Function::Read | Function::ReadAll => Some(Latency::Read),
        Function::Flush => None,
    }
}

/// Counts events written to a partition.
pub fn appended(partition: Partition, events: u64) {
    if let Some(registry) = registry() {
        registry.partition(partition, events);
        registry.add(Counter::EventsAppended, events, now_s());
    }
}

/// Counts events that were enqueued.
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
