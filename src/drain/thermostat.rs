//! When a partition is made hot, and cold again, by itself.

use std::time::{Duration, Instant};

/// A partition is made hot when events have been scattered for so long.
const HEAT_AFTER: Duration = Duration::from_secs(3);

/// It is made cold when they have been few for so long.
const COOL_AFTER: Duration = Duration::from_secs(60);

/// Few are those below the threshold divided by this: between the two nothing changes.
const FEW: u64 = 4;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// To make the partition hot.
    Heat,
    /// To make it cold.
    Cool,
}

/// Watches how many scattered events a partition takes in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Thermostat {
    last: Option<(Instant, u64)>,
    many_since: Option<Instant>,
    few_since: Option<Instant>,
}

impl Thermostat {
    /// Looks at the count of scattered events, which only grows. `threshold` is in events per second.
    /// Returns what is to be done if the partition is not so already.
    pub fn look(&mut self, now: Instant, count: u64, threshold: u64) -> Option<Change> {
        let (since, before) = self.last.replace((now, count))?;
        let elapsed_ms = now.saturating_duration_since(since).as_millis().max(1) as u64;
        let rate = count.saturating_sub(before).saturating_mul(1_000) / elapsed_ms;
        let keep = |held: Option<Instant>, is_so: bool| is_so.then(|| held.unwrap_or(since));
        self.many_since = keep(self.many_since, rate >= threshold);
        self.few_since = keep(self.few_since, rate < threshold / FEW);
        let is_long = |since: Option<Instant>, least| {
            since.is_some_and(|since| now.saturating_duration_since(since) >= least)
        };
        if is_long(self.many_since, HEAT_AFTER) {
            Some(Change::Heat)
        } else if is_long(self.few_since, COOL_AFTER) {
            Some(Change::Cool)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is to be done after each second, given how many events come in it.
    fn changes(rates: &[u64]) -> Vec<Option<Change>> {
        let start = Instant::now();
        let mut thermostat = Thermostat::default();
        let mut count = 7;
        let mut changes = vec![thermostat.look(start, count, 1_000)];
        for (second, rate) in (1..).zip(rates) {
            count += rate;
            changes.push(thermostat.look(start + Duration::from_secs(second), count, 1_000));
        }
        changes
    }

    #[test]
    fn heats_after_a_while_and_not_for_a_burst() {
        assert_eq!(changes(&[1_000, 5_000, 0, 1_000, 1_000]), [None; 6]);
        let heat = Some(Change::Heat);
        assert_eq!(changes(&[1_000, 5_000, 1_000, 1_000]), [None, None, None, heat, heat]);
    }

    #[test]
    fn cools_when_it_is_calm_and_not_in_between() {
        assert_eq!(changes(&[300; 100]).last(), Some(&None));
        let mut calm = vec![2_000; 5];
        calm.extend([0; 59]);
        assert_eq!(changes(&calm).last(), Some(&None));
        calm.push(249);
        assert_eq!(changes(&calm).last(), Some(&Some(Change::Cool)));
        calm.push(250);
        assert_eq!(changes(&calm).last(), Some(&None));
    }
}
