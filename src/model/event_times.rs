//! When the events of an append to one stream happened.

use std::ops::Range;

/// The times of consecutive events of one stream, in microseconds since 2000-01-01 00:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventTimes<'a> {
    /// All have this one.
    Same(i64),
    /// Each has its own: as many as there are events, in their order.
    Each(&'a [i64]),
}

impl<'a> EventTimes<'a> {
    /// The time of the first event of a run, and the times of all its events if they differ. `run` is a
    /// range of the events, and not empty.
    pub fn of_run(self, run: Range<usize>) -> (i64, Option<&'a [i64]>) {
        match self {
            Self::Same(time_us) => (time_us, None),
            Self::Each(times_us) => {
                let times_us = &times_us[run];
                let first_us = times_us[0];
                let differ = times_us.iter().any(|time_us| *time_us != first_us);
                (first_us, differ.then_some(times_us))
            }
        }
    }

    /// The bytes that each event's time takes in a run.
    pub fn bytes_per_event(self) -> usize {
        match self {
            Self::Same(_) => 0,
            Self::Each(_) => size_of::<i64>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_its_part_of_the_times() {
        let times = EventTimes::Each(&[5, 5, 6, 6, 6, i64::MAX, 4]);
        assert_eq!(times.of_run(0..7), (5, Some(&[5, 5, 6, 6, 6, i64::MAX, 4][..])));
        assert_eq!(times.of_run(1..3), (5, Some(&[5, 6][..])));
        assert_eq!(times.of_run(5..7), (i64::MAX, Some(&[i64::MAX, 4][..])));
    }

    #[test]
    fn times_that_are_all_the_same_are_given_once() {
        let times = EventTimes::Each(&[5, 5, 6, 6, 6, 4]);
        assert_eq!(times.of_run(0..2), (5, None));
        assert_eq!(times.of_run(2..5), (6, None));
        assert_eq!(times.of_run(5..6), (4, None));
        assert_eq!(EventTimes::Same(9).of_run(3..700), (9, None));
    }
}
