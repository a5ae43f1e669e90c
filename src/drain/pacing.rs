//! When a batch begins and how large it may be.

use std::time::{Duration, Instant};

/// After a commit the next batch waits this many times as long as the commit took, so that most of the
/// time the log is free for the flushes of others.
const FLUSHES: u32 = 4;

/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// How long a worker lets its batch grow, and what it has memory for.
#[derive(Clone, Copy, Debug)]
pub struct Pacing {
    not_before: Option<Instant>,
    events_max: usize,
}

impl Default for Pacing {
    fn default() -> Self {
        Self { not_before: None, events_max: usize::MAX }
    }
}

impl Pacing {
    /// How long the next batch is to wait, if no session waits for it: at least until `interval` after
    /// the last one has ended.
    pub fn left(&self, ended: Instant, interval: Duration, now: Instant) -> Duration {
        let begin = self.not_before.map_or(ended + interval, |begin| begin.max(ended + interval));
        begin.saturating_duration_since(now)
    }

    /// A batch was committed, which took `flush`.
    pub fn committed(&mut self, now: Instant, flush: Duration) {
        self.not_before = Some(now + flush.saturating_mul(FLUSHES).min(PAUSE_MAX));
        self.events_max = self.events_max.saturating_mul(2);
    }

    /// There was too little memory for a batch of `events`. Returns whether a smaller one can be tried.
    pub fn ran_out_of_memory(&mut self, events: usize) -> bool {
        self.events_max = (events / 2).max(1);
        events > 1
    }

    /// The most events of the next batch, with a setting of `setting`.
    pub fn events_max(&self, setting: usize) -> usize {
        self.events_max.min(setting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_batch_waits_some_flushes_and_not_for_ever() {
        let start = Instant::now();
        let mut pacing = Pacing::default();
        assert_eq!(pacing.left(start, Duration::ZERO, start), Duration::ZERO);
        pacing.committed(start, MS);
        assert_eq!(pacing.left(start, Duration::ZERO, start + MS), 3 * MS);
        assert_eq!(pacing.left(start, 10 * MS, start + MS), 9 * MS);
        assert_eq!(pacing.left(start, Duration::ZERO, start + 4 * MS), Duration::ZERO);
        pacing.committed(start, Duration::from_secs(1));
        assert_eq!(pacing.left(start, Duration::ZERO, start), PAUSE_MAX);
    }

    #[test]
    fn a_batch_is_halved_until_there_is_memory_and_grows_again() {
        let mut pacing = Pacing::default();
        assert_eq!(pacing.events_max(100), 100);
        assert!(pacing.ran_out_of_memory(100));
        assert_eq!(pacing.events_max(100), 50);
        assert!(pacing.ran_out_of_memory(2));
        assert_eq!(pacing.events_max(100), 1);
        assert!(!pacing.ran_out_of_memory(1), "nothing smaller is left to be tried");
        for _ in 0..7 {
            pacing.committed(Instant::now(), MS);
        }
        assert_eq!(pacing.events_max(100), 100);
    }
}
