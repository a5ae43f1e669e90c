//! Positions that anybody outside the server has seen: none of them may ever be given to
//! another event, crash or no crash.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use crate::event::Event;
use crate::ledger::ticket_of;

/// All positions seen so far in one database, and what was there.
#[derive(Debug, Default)]
pub struct Seen(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    highest: i64,
    holders: HashMap<i64, Holder>,
    committed: HashSet<i64>,
}

/// Who has a position: ticket and index, as [`crate::ledger`] numbers them.
type Holder = (usize, usize);

impl Seen {
    /// A position was seen without an event: a safe position.
    pub fn height(&self, position: i64) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.highest = inner.highest.max(position);
    }

    /// The event of a ticket was seen at a position, committed or not.
    ///
    /// # Panics
    /// Where another event was seen at that position before.
    pub fn holder(&self, position: i64, ticket: usize, index: usize) {
        self.height(position);
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match inner.holders.entry(position) {
            Entry::Vacant(vacant) => {
                vacant.insert((ticket, index));
            }
            Entry::Occupied(occupied) => assert_eq!(
                *occupied.get(),
                (ticket, index),
                "(ticket, index) at position {position} was the first, now it is the second"
            ),
        }
    }

    /// Committed events were seen.
    ///
    /// # Panics
    /// As [`Self::holder`].
    pub fn committed(&self, events: &[Event]) {
        for event in events {
            let (ticket, index) = ticket_of(event).expect("an event of a ticket");
            self.holder(event.position, ticket, index);
            let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            inner.committed.insert(event.position);
        }
    }

    /// Fails the test where a committed event that was seen is no longer there.
    ///
    /// # Panics
    /// Where one is not.
    pub fn assert_still_there(&self, content: &[Event]) {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let there: HashSet<i64> = content.iter().map(|event| event.position).collect();
        let lost: Vec<_> = inner.committed.difference(&there).collect();
        assert!(lost.is_empty(), "events were seen at {lost:?}, and are no longer there");
    }

    /// The highest position seen.
    pub fn highest(&self) -> i64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_of_all_counts() {
        let seen = Seen::default();
        seen.holder(5, 1, 0);
        seen.height(9);
        seen.holder(7, 1, 1);
        assert_eq!(seen.highest(), 9);
    }

    #[test]
    fn the_same_event_may_be_seen_again() {
        let seen = Seen::default();
        seen.holder(5, 1, 0);
        seen.holder(5, 1, 0);
    }

    #[test]
    #[should_panic(expected = "no longer there")]
    fn an_event_that_has_gone_is_found() {
        let ledger = crate::Ledger::default();
        let ticket = ledger.open(1);
        let seen = Seen::default();
        let event = crate::ledger::tests::stored(&ticket.events[0], "s", 1, 5);
        seen.committed(std::slice::from_ref(&event));
        seen.assert_still_there(&[event]);
        seen.assert_still_there(&[]);
    }

    #[test]
    #[should_panic(expected = "at position 5")]
    fn a_position_given_twice_is_found() {
        let seen = Seen::default();
        seen.holder(5, 1, 0);
        seen.holder(5, 2, 0);
    }
}
