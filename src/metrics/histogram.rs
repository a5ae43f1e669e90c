//! A histogram of durations with log-linear buckets, after HdrHistogram (Gil Tene,
//! <http://hdrhistogram.org>): each power of two is cut into equal parts, so that a bucket's width
//! is a fixed share of its bound, and finding the bucket takes a shift and a mask.
//!
//! ```text
//! bucket  0 .. 15     64 ns wide each:  (0, 64 ns], (64 ns, 128 ns] .. (960 ns, 1024 ns]
//! bucket 16 .. 31     64 ns wide each:  (1024 ns, 1088 ns] .. (1984 ns, 2048 ns]
//! bucket 32 .. 47    128 ns wide each:  (2048 ns, 2176 ns] ..
//! ..
//! bucket 432 .. 447  4.3 s wide each:   .. (133.1 s, 137.4 s]
//! bucket 448         longer than 137.4 s
//! ```
//!
//! From 1 us on a bucket is at most 1/16 of its lower bound wide. A quantile is reported as the
//! middle of its bucket, so it is within 1/32 (3.2 %) of a recorded duration. Buckets hold their upper
//! bound, as `le` of Prometheus has it, and every power of two from 2^10 to 2^37 ns is a bound, so
//! counts below such a bound are exact.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// log2 of the nanoseconds of the narrowest bucket.
const UNIT_BITS: u32 = 6;
/// log2 of the number of buckets of a power of two.
const PARTS_BITS: u32 = 4;
const PARTS: usize = 1 << PARTS_BITS;
/// log2 of the nanoseconds of the lowest and the highest bound for `count_up_to`.
pub const BOUND_BITS_MIN: u32 = UNIT_BITS + PARTS_BITS;
/// See [`BOUND_BITS_MIN`].
pub const BOUND_BITS_MAX: u32 = 37;
/// Buckets of bounded durations; one more counts what is longer.
const BOUNDED: usize = PARTS * (BOUND_BITS_MAX - BOUND_BITS_MIN + 1) as usize;
const BUCKETS: usize = BOUNDED + 1;

/// The index of the bucket of a duration.
const fn bucket(duration_ns: u64) -> usize {
    // Less one: a bucket holds its upper bound and not its lower one.
    let units = duration_ns.saturating_sub(1) >> UNIT_BITS;
    if units < PARTS as u64 {
        return units as usize;
    }
    let exponent = units.ilog2();
    let part = (units >> (exponent - PARTS_BITS)) as usize & (PARTS - 1);
    let index = ((exponent - PARTS_BITS + 1) as usize) * PARTS + part;
    if index < BOUNDED { index } else { BOUNDED }
}

/// The lower bound of a bucket in nanoseconds, and its width.
const fn bounds(bucket: usize) -> (u64, u64) {
    let power = bucket / PARTS;
    let part = (bucket % PARTS) as u64;
    if power == 0 {
        return (part << UNIT_BITS, 1 << UNIT_BITS);
    }
    let shift = power as u32 - 1 + UNIT_BITS;
    ((PARTS as u64 + part) << shift, 1 << shift)
}

/// Counts durations. Valid when zeroed; may be shared by processes.
#[repr(C)]
#[derive(Debug)]
pub struct Histogram {
    /// Nanoseconds, modulo 2^64: 584 years of them.
    sum_ns: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Histogram {
    /// One that has counted nothing.
    #[expect(clippy::new_without_default, reason = "made in place or in a constant")]
    pub const fn new() -> Self {
        Self { sum_ns: AtomicU64::new(0), buckets: [const { AtomicU64::new(0) }; BUCKETS] }
    }

    /// Counts a duration. Two atomic additions.
    pub fn record(&self, duration: Duration) {
        // Longer than 584 years only by a defect of a clock.
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        // Relaxed: see the invariants of `metrics`.
        self.buckets[bucket(ns)].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// What has been counted so far. The count is that of the buckets; the sum may be ahead of it or
    /// behind it by what is recorded meanwhile.
    pub fn snapshot(&self) -> Snapshot {
        // Relaxed: see the invariants of `metrics`.
        let buckets: Vec<u64> =
            self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        Snapshot {
            count: buckets.iter().sum(),
            sum: Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed)),
            buckets,
        }
    }
}

/// What a histogram had counted at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    buckets: Vec<u64>,
    count: u64,
    sum: Duration,
}

impl Snapshot {
    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// The duration that a share `q` (0 to 1) of all durations do not exceed, by nearest rank;
    /// `None` if nothing was recorded. What was longer than the range is reported as
    /// its end, 137 seconds.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        if self.count == 0 {
            return None;
        }
        let rank = (q.clamp(0.0, 1.0) * self.count as f64).ceil().max(1.0) as u64;
        let mut below = 0;
        let found = self.buckets.iter().position(|count| {
            below += count;
            below >= rank
        });
        // Rounding can make the rank of many durations greater than their count.
        let (lower, width) = bounds(found.unwrap_or(BOUNDED).min(BOUNDED));
        let is_bounded = found.is_some_and(|bucket| bucket < BOUNDED);
        Some(Duration::from_nanos(lower + if is_bounded { width / 2 } else { 0 }))
    }

    /// How many durations were at most 2^`bits` ns; `bits` is clamped to the range of the bounds.
    pub fn count_up_to(&self, bits: u32) -> u64 {
        let bits = bits.clamp(BOUND_BITS_MIN, BOUND_BITS_MAX);
        let end = (bits - BOUND_BITS_MIN + 1) as usize * PARTS;
        self.buckets[..end].iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same by sorting.
    fn exact(sorted: &[u64], q: f64) -> u64 {
        let rank = (q * sorted.len() as f64).ceil().max(1.0) as usize;
        sorted[rank.min(sorted.len()) - 1]
    }

    fn histogram_of(durations_ns: &[u64]) -> Snapshot {
        let histogram = Histogram::new();
        durations_ns.iter().for_each(|ns| histogram.record(Duration::from_nanos(*ns)));
        histogram.snapshot()
    }

    /// From 1 us to 100 s, each power of ten as likely as any other.
    fn durations() -> impl Strategy<Value = Vec<u64>> {
        let duration = (3.0f64..11.0).prop_map(|power| 10f64.powf(power) as u64);
        let clustered =
            (3.0f64..10.9, 0.0f64..0.1).prop_map(|(power, more)| 10f64.powf(power + more) as u64);
        prop_oneof![
            prop::collection::vec(duration, 1..3_000),
            prop::collection::vec(clustered, 1..300),
        ]
    }

    proptest! {
        #[test]
        fn quantiles_are_within_a_thirty_second(mut durations in durations(), any_q in 0.0f64..=1.0) {
            let snapshot = histogram_of(&durations);
            durations.sort_unstable();
            for q in [0.5, 0.99, 0.999, 0.0, 1.0, any_q] {
                let exact = exact(&durations, q) as f64;
                let found = snapshot.quantile(q).unwrap().as_nanos() as f64;
                let error = (found - exact).abs() / exact;
                prop_assert!(error <= 1.0 / 32.0, "q {q}: {found} instead of {exact}");
            }
            prop_assert_eq!(snapshot.count(), durations.len() as u64);
            prop_assert_eq!(snapshot.sum().as_nanos() as u64, durations.iter().sum::<u64>());
        }

        #[test]
        fn counts_below_a_bound_are_exact(
            durations in prop::collection::vec(0u64..1 << 39, 0..200), bits in 10u32..=37,
        ) {
            let expected = durations.iter().filter(|ns| **ns <= 1 << bits).count() as u64;
            prop_assert_eq!(histogram_of(&durations).count_up_to(bits), expected);
        }

        #[test]
        fn a_duration_is_within_the_bounds_of_its_bucket(ns in 1u64..=1 << BOUND_BITS_MAX) {
            let (lower, width) = bounds(bucket(ns));
            prop_assert!(lower < ns && ns <= lower + width);
            prop_assert!(ns < 1_024 || width * 16 <= lower);
        }
    }

    #[test]
    fn bucket_bounds_meet() {
        for bucket in 1..BOUNDED {
            let (lower, width) = bounds(bucket - 1);
            assert_eq!(lower + width, bounds(bucket).0);
        }
        for bits in BOUND_BITS_MIN..=BOUND_BITS_MAX {
            assert_ne!(bucket(1 << bits), bucket((1 << bits) + 1));
        }
    }

    #[test]
    fn what_is_out_of_range_is_counted_too() {
        let histogram = Histogram::new();
        assert_eq!(histogram.snapshot().quantile(0.5), None);
        histogram.record(Duration::ZERO);
        histogram.record(Duration::from_secs(1_000));
        histogram.record(Duration::MAX);
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.count(), 3);
        assert_eq!(snapshot.count_up_to(BOUND_BITS_MIN), 1);
        assert_eq!(snapshot.count_up_to(BOUND_BITS_MAX), 1);
        assert_eq!(snapshot.quantile(0.0), Some(Duration::from_nanos(32)));
        assert_eq!(snapshot.quantile(1.0), Some(Duration::from_nanos(1 << BOUND_BITS_MAX)));
    }
}
