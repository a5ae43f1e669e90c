//! The numbers themselves.
//!
//! A [`Registry`] is fixed arrays of atomics: no pointers, valid when zeroed, and meant to be shared
//! by all processes of a server. Memory of [`Registry::size`] zeroed bytes on a boundary of
//! [`Registry::ALIGN`] bytes is a registry that has counted nothing. What different processes add to
//! all the time keeps cache lines of its own.

use super::histogram::Histogram;
use super::kind::{Counter, ErrorKind, Function, Latency};
use super::rate::Rate;
use crate::model::partition::{PARTITIONS, Partition};
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A count that disturbs no other.
#[derive(Debug)]
struct Count(CachePadded<AtomicU64>);

impl Count {
    const fn new() -> Self {
        Self(CachePadded::new(AtomicU64::new(0)))
    }

    fn add(&self, n: u64) {
        // Relaxed: see the invariants of `metrics`.
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        // Relaxed: likewise.
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything that is counted.
#[repr(C)]
#[derive(Debug)]
pub struct Registry {
    counters: [Count; Counter::COUNT],
    rates: [CachePadded<Rate>; Counter::COUNT],
    calls: [Count; Function::COUNT],
    errors: [Count; ErrorKind::COUNT],
    partitions: [Count; PARTITIONS],
    latencies: [CachePadded<Histogram>; Latency::COUNT],
}

impl Registry {
    /// The boundary in bytes that it must stand on.
    pub const ALIGN: usize = align_of::<Self>();

    /// Its size in bytes.
    pub const fn size() -> usize {
        size_of::<Self>()
    }

    /// One that has counted nothing; every byte of it is zero.
    #[expect(clippy::new_without_default, reason = "made in place or in a constant")]
    pub const fn new() -> Self {
        Self {
            counters: [const { Count::new() }; Counter::COUNT],
            rates: [const { CachePadded::new(Rate::new()) }; Counter::COUNT],
            calls: [const { Count::new() }; Function::COUNT],
            errors: [const { Count::new() }; ErrorKind::COUNT],
            partitions: [const { Count::new() }; PARTITIONS],
            latencies: [const { CachePadded::new(Histogram::new()) }; Latency::COUNT],
        }
    }

    /// Counts `n` events, in total and in the second `now_s` (see [`Rate`] about the clock).
    pub fn add(&self, counter: Counter, n: u64, now_s: u64) {
        self.counters[counter.index()].add(n);
        self.rates[counter.index()].add(n, now_s);
    }

    /// Counts a call.
    pub fn call(&self, function: Function) {
        self.calls[function.index()].add(1);
    }

    /// Counts an error.
    pub fn error(&self, kind: ErrorKind) {
        self.errors[kind.index()].add(1);
    }

    /// Counts `n` events written to a partition.
    pub fn partition(&self, partition: Partition, n: u64) {
        self.partitions[partition.index()].add(n);
    }

    /// Counts how long something took.
    pub fn record(&self, latency: Latency, duration: Duration) {
        self.latencies[latency.index()].record(duration);
    }

    /// Events counted so far.
    pub fn events(&self, counter: Counter) -> u64 {
        self.counters[counter.index()].get()
    }

    /// Calls counted so far.
    pub fn calls(&self, function: Function) -> u64 {
        self.calls[function.index()].get()
    }

    /// Errors counted so far.
    pub fn errors(&self, kind: ErrorKind) -> u64 {
        self.errors[kind.index()].get()
    }

    /// Events written to a partition so far.
    pub fn partition_events(&self, partition: Partition) -> u64 {
        self.partitions[partition.index()].get()
    }

    /// The rates of a counter.
    pub fn rate(&self, counter: Counter) -> &Rate {
        &self.rates[counter.index()]
    }

    /// The durations recorded so far.
    pub fn latency(&self, latency: Latency) -> &Histogram {
        &self.latencies[latency.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "the boundary makes a registry of zeroed memory")]
    fn zeroed_memory_is_an_empty_registry() {
        // SAFETY: a registry consists of atomic integers, for which zero is a valid value.
        let zeroed: Box<Registry> = unsafe { Box::new_zeroed().assume_init() };
        let empty = Box::new(Registry::new());
        assert_eq!(format!("{zeroed:?}"), format!("{empty:?}"));
        assert!(Registry::size() < 64 << 10);
        assert_eq!(Registry::size() % Registry::ALIGN, 0);
    }

    #[test]
    fn no_count_is_lost_between_threads() {
        const THREADS: u64 = 8;
        const ROUNDS: u64 = 20_000;
        let registry = Registry::new();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let registry = &registry;
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        for counter in Counter::ALL {
                            registry.add(*counter, 3, 100 + round / 1_000);
                        }
                        let kind = round as usize;
                        registry.call(Function::ALL[kind % Function::COUNT]);
                        registry.error(ErrorKind::ALL[kind % ErrorKind::COUNT]);
                        registry.partition(Partition::of(&round.to_le_bytes()), 2);
                        let duration = Duration::from_nanos(round * 1_000 + thread);
                        registry.record(Latency::ALL[kind % Latency::COUNT], duration);
                    }
                });
            }
        });
        let all = THREADS * ROUNDS;
        for counter in Counter::ALL {
            assert_eq!(registry.events(*counter), 3 * all);
            let rate = registry.rate(*counter).per_second(60, 100 + ROUNDS / 1_000);
            assert_eq!(rate, (3 * all) as f64 / 60.0);
        }
        assert_eq!(Function::ALL.iter().map(|kind| registry.calls(*kind)).sum::<u64>(), all);
        assert_eq!(ErrorKind::ALL.iter().map(|kind| registry.errors(*kind)).sum::<u64>(), all);
        assert_eq!(Partition::all().map(|p| registry.partition_events(p)).sum::<u64>(), 2 * all);
        let latencies = Latency::ALL.iter().map(|kind| registry.latency(*kind).snapshot());
        let (count, sum) = latencies.fold((0, Duration::ZERO), |(count, sum), snapshot| {
            (count + snapshot.count(), sum + snapshot.sum())
        });
        assert_eq!(count, all);
        let of_thread = |thread| (0..ROUNDS).map(move |round| round * 1_000 + thread);
        assert_eq!(sum, Duration::from_nanos((0..THREADS).flat_map(of_thread).sum()));
    }
}
