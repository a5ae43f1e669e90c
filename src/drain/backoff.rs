//! How long to wait before the next attempt.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(10);

/// Doubles with each failure in a row, from 20 ms to 10 s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Counts a failure and returns how long to wait now.
    pub fn failed(&mut self) -> Duration {
        self.failed_up_to(LONGEST)
    }

    /// The same, with another limit.
    pub fn failed_up_to(&mut self, longest: Duration) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// How many failures there were in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Begins again, after a success.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_limit_and_start_again() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..40).map(|_| backoff.failed()).collect();
        assert_eq!(waits[0], FIRST);
        assert!(waits.is_sorted());
        assert_eq!(waits[39], LONGEST);
        backoff.succeeded();
        assert_eq!(backoff.failed(), FIRST);
        let limit = Duration::from_millis(50);
        assert!((0..10).all(|_| backoff.failed_up_to(limit) <= limit));
    }
}
