//! Which streams' events wait, as a worker remembers it. The events themselves are in a table.
//!
//! A worker passes over a stream that another transaction has locked: its events are put into the
//! table, and later ones behind them, until they have been moved to the stream. If a partition as a
//! whole cannot be written, because a leaf is locked or its index fails, all its streams wait.
//!
//! A stream is remembered by a hash of its name and tenant, in 40 bytes. Two streams of the same hash
//! wait for each other, which does no harm.

use super::backoff::Backoff;
use crate::model::partition::{PARTITIONS, Partition};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The longest time between two attempts to write a stream, unless very many streams wait.
const STREAM_WAIT_MAX: Duration = Duration::from_millis(500);

/// The shortest such time, for each stream that waits: an attempt takes some microseconds.
const WAIT_PER_STREAM: Duration = Duration::from_micros(50);

/// What is known of a stream that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its events can be moved, as far as is known.
    Ready,
    /// Another transaction had locked it.
    Held,
    /// Transactions lock it one after the other. Whoever only looks may find it locked each time.
    Contended,
    /// Its first event cannot be written, although others of the partition can.
    Failing,
}

/// A stream whose events wait.
#[derive(Clone, Copy, Debug)]
struct Stream {
    partition: Partition,
    /// The first of its rows in the table is not before this one.
    first_id: i64,
    state: State,
    /// The transaction that has locked it; 0: not known.
    holder: u32,
    backoff: Backoff,
    not_before: Instant,
}

/// Why a partition cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// One of its tables is locked.
    Locked,
    /// Writing fails.
    Failing,
}

#[derive(Clone, Copy, Debug)]
struct Halt {
    trouble: Trouble,
    backoff: Backoff,
    not_before: Instant,
}

/// A stream whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// its hash
    pub key: u64,
    /// no row of the stream has a lower `id`
    pub first_id: i64,
}

/// The streams of a worker whose events wait.
#[derive(Debug, Default)]
pub struct Waiting {
    streams: HashMap<u64, Stream>,
    halts: [Option<Halt>; PARTITIONS],
    /// Of partitions that could be written again, how often that had failed before.
    earlier: [Backoff; PARTITIONS],
}

impl Waiting {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.halts.iter().all(Option::is_none)
    }

    /// How many streams wait.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Whether events of a stream have to wait.
    pub fn must_wait(&self, partition: Partition, key: u64) -> bool {
        self.halts[partition.index()].is_some() || self.streams.contains_key(&key)
    }

    /// Whether events of a partition have to wait, and what for.
    pub fn trouble(&self, partition: Partition) -> Option<Trouble> {
        self.halts[partition.index()].map(|halt| halt.trouble)
    }

    /// How often writing to a partition has failed in a row.
    pub fn failures(&self, partition: Partition) -> u32 {
        self.halts[partition.index()].map_or(0, |halt| halt.backoff.failures())
    }

    /// Events of a stream wait from now on, or more of them do, because the transaction `holder` has
    /// locked it (0: not known). No row has a lower `id` than `first_id`.
    pub fn add(
        &mut self,
        partition: Partition,
        key: u64,
        first_id: i64,
        holder: u32,
        now: Instant,
    ) {
        self.streams.entry(key).or_insert_with(|| {
            let mut backoff = Backoff::default();
            let not_before = now + backoff.failed_up_to(STREAM_WAIT_MAX);
            Stream { partition, first_id, state: State::Held, holder, backoff, not_before }
        });
    }

    /// A stream is still held, by the transaction `holder` (0: not known). If that is another one than
    /// before, it is worth queueing up for.
    pub fn still_held(&mut self, key: u64, holder: u32, now: Instant) {
        let more = WAIT_PER_STREAM.saturating_mul(self.streams.len().min(1 << 20) as u32);
        if let Some(stream) = self.streams.get_mut(&key) {
            let changes = holder != 0 && stream.holder != 0 && stream.holder != holder;
            stream.holder = holder;
            if changes && stream.state != State::Contended {
                (stream.state, stream.not_before) = (State::Contended, now);
            } else {
                stream.state = State::Held;
                stream.not_before = now + stream.backoff.failed_up_to(STREAM_WAIT_MAX).max(more);
            }
        }
    }

    /// The first event of a stream cannot be written; others of the partition can.
    pub fn is_failing(&mut self, key: u64, now: Instant) {
        if let Some(stream) = self.streams.get_mut(&key) {
            stream.state = State::Failing;
            stream.not_before = now + stream.backoff.failed();
        }
    }

    /// Rows of a stream before `first_id` were moved; there may be more.
    pub fn moved_up_to(&mut self, key: u64, first_id: i64, now: Instant) {
        if let Some(stream) = self.streams.get_mut(&key) {
            *stream = Stream {
                partition: stream.partition,
                first_id,
                state: State::Ready,
                holder: 0,
                backoff: Backoff::default(),
                not_before: now,
            };
        }
    }

    /// All rows of a stream were moved.
    pub fn gone(&mut self, key: u64) {
        self.streams.remove(&key);
    }

    /// All rows of all streams were moved.
    pub fn all_gone(&mut self) {
        self.streams.clear();
    }

    /// A partition cannot be written. Returns whether that is news: it was not so before, and not all
    /// that waited then has been moved since.
    pub fn halt(&mut self, partition: Partition, trouble: Trouble, now: Instant) -> bool {
        let halt = &mut self.halts[partition.index()];
        let mut backoff = match halt {
            Some(halt) if halt.trouble == trouble => halt.backoff,
            _ if trouble == Trouble::Failing => self.earlier[partition.index()],
            _ => Backoff::default(),
        };
        let is_news = backoff.failures() == 0;
        let wait = match trouble {
            Trouble::Locked => backoff.failed_up_to(STREAM_WAIT_MAX),
            Trouble::Failing => backoff.failed(),
        };
        *halt = Some(Halt { trouble, backoff, not_before: now + wait });
        is_news
    }

    /// A partition can be written again.
    pub fn proceed(&mut self, partition: Partition) {
        if let Some(Halt { trouble: Trouble::Failing, backoff, .. }) =
            self.halts[partition.index()].take()
        {
            self.earlier[partition.index()] = backoff;
        }
    }

    /// All that was due of a partition was moved, and not only a single event to try it out.
    pub fn is_well(&mut self, partition: Partition) {
        self.earlier[partition.index()].succeeded();
    }

    fn turn(&self, stream: &Stream) -> Instant {
        match &self.halts[stream.partition.index()] {
            Some(halt) => halt.not_before,
            None => stream.not_before,
        }
    }

    /// When it is the next stream's turn.
    pub fn next_turn(&self) -> Option<Instant> {
        self.streams.values().map(|stream| self.turn(stream)).min()
    }

    /// The partition whose turn came first, and at most `streams_max` streams of it whose turn it is and
    /// that are in the same state. One that is contended comes alone. Where a partition as a whole fails, a
    /// stream's state says little: if only one stream is at fault, another one has to show that.
    pub fn due(&self, now: Instant, streams_max: usize) -> Option<(Partition, State, Vec<Due>)> {
        // In a halted partition all turns are the same, and one that fails proves nothing.
        let order = |stream: &Stream| (self.turn(stream), stream.state == State::Failing);
        let first = self.streams.values().min_by_key(|stream| order(stream))?;
        if self.turn(first) > now {
            return None;
        }
        let (partition, state) = (first.partition, first.state);
        let is_any = self.trouble(partition) == Some(Trouble::Failing) && state != State::Failing;
        let is_alike = |other: State| {
            if is_any { other != State::Failing } else { other == state }
        };
        let is_alone = state == State::Contended && !is_any;
        let streams_max = if is_alone { 1 } else { streams_max };
        let due = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.partition == partition && is_alike(stream.state))
            .filter(|(_, stream)| self.turn(stream) <= now)
            .map(|(key, stream)| Due { key: *key, first_id: stream.first_id })
            .take(streams_max)
            .collect();
        Some((partition, state, due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32) -> Partition {
        Partition::new(number).expect("a partition")
    }

    fn keys(due: Option<(Partition, State, Vec<Due>)>) -> Vec<u64> {
        let mut keys: Vec<u64> =
            due.into_iter().flat_map(|(.., due)| due).map(|due| due.key).collect();
        keys.sort_unstable();
        keys
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_stream_waits_until_its_rows_are_gone_and_gets_its_turn_within_a_second() {
        let mut now = Instant::now();
        let mut waiting = Waiting::default();
        assert!(waiting.is_empty() && waiting.next_turn().is_none());
        waiting.add(partition(1), 7, 40, 0, now);
        assert!(waiting.must_wait(partition(1), 7) && !waiting.must_wait(partition(1), 8));
        assert_eq!(waiting.due(now, 10), None, "it was held a moment ago");
        for _ in 0..20 {
            now += SECOND;
            assert_eq!(keys(waiting.due(now, 10)), [7]);
            waiting.still_held(7, 5, now);
            // More events of it change nothing.
            waiting.add(partition(1), 7, 90, 0, now);
        }
        now += SECOND;
        let due = |first_id| Some((partition(1), vec![Due { key: 7, first_id }]));
        let held = |(partition, _, due)| (partition, due);
        assert_eq!(waiting.due(now, 10).map(held), due(40));
        waiting.moved_up_to(7, 90, now);
        assert_eq!(waiting.due(now, 10).map(held), due(90));
        waiting.gone(7);
        assert!(waiting.is_empty() && waiting.due(now + SECOND, 10).is_none());
    }

    #[test]
    fn a_stream_whose_holder_changes_is_queued_for_once() {
        let mut now = Instant::now();
        let mut waiting = Waiting::default();
        waiting.add(partition(1), 7, 0, 100, now);
        waiting.add(partition(1), 8, 0, 100, now);
        now += SECOND;
        for key in [7, 8] {
            waiting.still_held(key, 100, now);
        }
        assert!(waiting.due(now, 10).is_none(), "the same transaction has them");
        now += SECOND;
        waiting.still_held(7, 101, now);
        let (_, state, due) = waiting.due(now, 10).expect("due");
        // 8 is due as well, and not to be waited for.
        assert_eq!(waiting.due(now, 10).map(|(.., due)| due.len()), Some(1));
        if state == State::Contended {
            assert_eq!(due[0].key, 7);
        }
        waiting.still_held(7, 0, now);
        waiting.still_held(8, 100, now);
        assert!(waiting.due(now, 10).is_none(), "queueing up took too long");
        now += SECOND;
        waiting.still_held(7, 102, now);
        assert!(waiting.due(now, 10).is_some_and(|(_, state, _)| state == State::Held));
    }

    #[test]
    fn a_failing_stream_is_no_probe_of_its_partition() {
        let now = Instant::now();
        let mut waiting = Waiting::default();
        waiting.add(partition(1), 7, 0, 0, now);
        waiting.add(partition(1), 8, 0, 0, now);
        waiting.is_failing(7, now);
        waiting.halt(partition(1), Trouble::Failing, now);
        assert_eq!(keys(waiting.due(now + SECOND, 10)), [8]);
        waiting.proceed(partition(1));
        waiting.gone(8);
        assert!(waiting.must_wait(partition(1), 7) && !waiting.must_wait(partition(1), 8));
        assert_eq!(keys(waiting.due(now + SECOND, 10)), [7]);
    }

    #[test]
    fn whether_a_partition_fails_is_tried_with_all_of_its_streams() {
        let now = Instant::now();
        let mut waiting = Waiting::default();
        // The first is at fault, and some of its events were moved before. The others wait for the partition.
        for key in [7, 8, 9] {
            waiting.add(partition(1), key, 0, 0, now);
        }
        waiting.moved_up_to(7, 5, now);
        waiting.still_held(9, 100, now);
        waiting.still_held(9, 101, now);
        waiting.halt(partition(1), Trouble::Failing, now);
        assert_eq!(keys(waiting.due(now + SECOND, 10)), [7, 8, 9]);
        // One table is locked: streams are moved as they are otherwise.
        waiting.proceed(partition(1));
        waiting.halt(partition(1), Trouble::Locked, now);
        assert!(keys(waiting.due(now + SECOND, 10)).len() == 1);
    }

    #[test]
    fn a_halted_partition_has_a_turn_of_its_own_and_no_other_waits_for_it() {
        let now = Instant::now();
        let mut waiting = Waiting::default();
        waiting.halt(partition(1), Trouble::Failing, now);
        assert!(waiting.must_wait(partition(1), 1) && !waiting.must_wait(partition(2), 2));
        for key in [1, 3] {
            waiting.add(partition(1), key, 0, 0, now);
        }
        waiting.add(partition(2), 2, 0, 0, now);
        for _ in 0..10 {
            waiting.halt(partition(1), Trouble::Failing, now);
        }
        assert_eq!(waiting.failures(partition(1)), 11);
        assert_eq!(keys(waiting.due(now + SECOND, 10)), [2]);
        let later = now + Duration::from_secs(11);
        waiting.gone(2);
        assert_eq!(keys(waiting.due(later, 10)), [1, 3]);
        assert_eq!(waiting.due(later, 1).expect("due").2.len(), 1);
        // One event could be written, but the next ones could not.
        waiting.proceed(partition(1));
        assert!(!waiting.halt(partition(1), Trouble::Failing, later));
        assert_eq!(waiting.failures(partition(1)), 12);
        waiting.proceed(partition(1));
        waiting.is_well(partition(1));
        assert!(waiting.halt(partition(1), Trouble::Failing, later));
        assert_eq!(waiting.failures(partition(1)), 1);
        // Locked is another trouble, and looked at more often.
        waiting.halt(partition(1), Trouble::Locked, later);
        assert_eq!(waiting.failures(partition(1)), 1);
        assert_eq!(keys(waiting.due(later + SECOND, 10)), [1, 3]);
        waiting.proceed(partition(1));
        assert!(waiting.trouble(partition(1)).is_none() && waiting.must_wait(partition(1), 3));
    }

    #[test]
    fn very_many_streams_are_looked_at_more_rarely() {
        let now = Instant::now();
        let mut waiting = Waiting::default();
        for key in 0..100_000 {
            waiting.add(partition(1), key, 0, 0, now);
        }
        waiting.still_held(5, 0, now);
        let turn = waiting.turn(&waiting.streams[&5]);
        assert_eq!(turn, now + Duration::from_secs(5));
    }
}
