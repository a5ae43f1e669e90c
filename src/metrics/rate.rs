//! Events per second over the last seconds.
//!
//! A ring of 64 seconds, one word each:
//!
//! ```text
//! bits 63..36   which round of the ring: second / 64
//! bits 35..0    events of that second
//! ```
//!
//! An add that finds its own second there is one atomic addition. The first of a second replaces, by
//! compare-and-swap and together with its own count, a second that is at least 64 seconds old. What is
//! guaranteed, with any number of writers and across every boundary of a second:
//!
//! - an add counts once, in the second that its caller named, and in no other;
//! - an add that comes 64 seconds late or more, when another second has taken its place, is out of
//!   every window and counts nowhere; one that was held up for that long between looking and adding
//!   takes back what it has added;
//! - a second that is in a window is not replaced as long as its readers take less than three
//!   seconds.
//!
//! The second comes from the caller: from a clock that all processes share and that never goes back
//! (`CLOCK_MONOTONIC`), or rates would be missing until it has caught up.

use std::sync::atomic::{AtomicU64, Ordering};

/// The windows over which rates are reported, in seconds.
pub const WINDOWS_S: [u64; 3] = [1, 10, 60];

const RING_BITS: u32 = 6;
const RING: usize = 1 << RING_BITS;
const COUNT_BITS: u32 = 36;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
/// The most events that one add counts. A second takes no more adds when it has half of what its
/// field can hold, 34 billion, so that adds never run over into the round.
const ADD_MAX: u64 = u32::MAX as u64 >> 4;

const _: () = assert!(WINDOWS_S[2] + 3 < RING as u64, "the ring is shorter than a window");

/// The round of a second, where the word has it. Rounds are exact for 2^34 seconds, 544 years.
const fn round(second: u64) -> u64 {
    (second >> RING_BITS) << COUNT_BITS
}

const fn round_of(word: u64) -> u64 {
    word & !COUNT_MAX
}

/// Counts events by the second. Valid when zeroed; may be shared by processes.
#[repr(C)]
#[derive(Debug)]
pub struct Rate {
    seconds: [AtomicU64; RING],
}

impl Rate {
    /// One that has counted nothing.
    #[expect(clippy::new_without_default, reason = "made in place or in a constant")]
    pub const fn new() -> Self {
        Self { seconds: [const { AtomicU64::new(0) }; RING] }
    }

    /// Counts `n` events in the second `now_s`.
    pub fn add(&self, n: u64, now_s: u64) {
        let round = round(now_s);
        let n = n.min(ADD_MAX);
        let second = &self.seconds[now_s as usize % RING];
        // Relaxed, all of them: the word is all there is, see the invariants of `metrics`.
        let mut word = second.load(Ordering::Relaxed);
        // Lock-free: an attempt fails only when another writer has replaced the second.
        while round_of(word) < round {
            match second.compare_exchange_weak(
                word,
                round | n,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(found) => word = found,
            }
        }
        if round_of(word) > round || word & COUNT_MAX > COUNT_MAX / 2 {
            return;
        }
        if round_of(second.fetch_add(n, Ordering::Relaxed)) != round {
            // Held up here for another 64 seconds, it would take `n` from the rate of a newer second;
            // totals are counted elsewhere.
            second.fetch_sub(n, Ordering::Relaxed);
        }
    }

    /// Events per second over the last `window_s` whole seconds before `now_s`; the second that is
    /// still running does not count. Windows are cut at 60 seconds.
    pub fn per_second(&self, window_s: u64, now_s: u64) -> f64 {
        let window_s = window_s.clamp(1, WINDOWS_S[2]);
        let events: u64 =
            (now_s.saturating_sub(window_s)..now_s).map(|second| self.events(second)).sum();
        events as f64 / window_s as f64
    }

    /// The events of a second; 0 where another has taken its place.
    fn events(&self, second: u64) -> u64 {
        // Relaxed: see `add`.
        let word = self.seconds[second as usize % RING].load(Ordering::Relaxed);
        if round_of(word) == round(second) { word & COUNT_MAX } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn rates_are_those_of_a_list(
            adds in prop::collection::vec((0u64..4, 0u64..100_000), 1..300),
            start in 0u64..1 << 33,
            silence in 0u64..200,
        ) {
            let rate = Rate::new();
            let mut reference = BTreeMap::<u64, u64>::new();
            let mut now = start;
            for (step, n) in adds {
                now += step;
                rate.add(n, now);
                *reference.entry(now).or_default() += n;
            }
            now += silence;
            for window in WINDOWS_S {
                let expected: u64 =
                    reference.range(now.saturating_sub(window)..now).map(|(_, n)| n).sum();
                prop_assert_eq!(rate.per_second(window, now), expected as f64 / window as f64);
            }
        }
    }

    #[test]
    fn the_running_second_does_not_count() {
        let rate = Rate::new();
        rate.add(7, 1_000);
        assert_eq!(rate.per_second(1, 1_000), 0.0);
        assert_eq!(rate.per_second(1, 1_001), 7.0);
        assert_eq!(rate.per_second(10, 1_001), 0.7);
        assert_eq!(rate.per_second(1, 1_002), 0.0);
        assert_eq!(rate.per_second(60, 1_060), 7.0 / 60.0);
        assert_eq!(rate.per_second(60, 1_061), 0.0);
    }

    #[test]
    fn a_late_add_harms_no_other_second() {
        let rate = Rate::new();
        rate.add(5, 1_064);
        rate.add(3, 1_000);
        assert_eq!(rate.events(1_064), 5);
        assert_eq!(rate.events(1_000), 0);
        rate.add(2, 1_063);
        assert_eq!(rate.events(1_063), 2);
    }

    #[test]
    fn a_second_never_runs_over_its_field() {
        let rate = Rate::new();
        for _ in 0..1_000 {
            rate.add(u64::MAX, 5_000);
        }
        let events = rate.events(5_000);
        assert!(events > COUNT_MAX / 2 && events <= COUNT_MAX / 2 + ADD_MAX);
        rate.add(1, 5_064);
        assert_eq!((rate.events(5_000), rate.events(5_064)), (0, 1));
    }

    #[test]
    fn writers_cross_seconds_without_loss() {
        const WRITERS: u64 = 4;
        const SECONDS: u64 = 5_000;
        let rate = Rate::new();
        for block in (0..SECONDS).step_by(50) {
            std::thread::scope(|scope| {
                for _ in 0..WRITERS {
                    scope.spawn(|| {
                        (block..block + 50).for_each(|s| (0..20).for_each(|_| rate.add(1, s)))
                    });
                }
            });
            (block..block + 50).for_each(|s| assert_eq!(rate.events(s), WRITERS * 20));
        }
    }
}
