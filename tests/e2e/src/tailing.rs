//! A tail reader: collects everything by `es_read_all` alone, the way a user's projection does.

use postgres::{Error, GenericClient};

use crate::calls::ReadAll;
use crate::event::Event;

/// What a tail reader has seen so far.
#[derive(Debug)]
pub struct Tail {
    last_position: i64,
    events: Vec<Event>,
}

impl Tail {
    /// A reader that begins after `position`.
    pub fn after(position: i64) -> Self {
        Self { last_position: position, events: Vec::new() }
    }

    /// Reads one page and returns how many events were in it.
    ///
    /// # Errors
    /// What the server answers.
    ///
    /// # Panics
    /// Where positions do not ascend strictly, or the page is larger than asked for.
    pub fn poll(
        &mut self,
        client: &mut impl GenericClient,
        max_count: i64,
    ) -> Result<usize, Error> {
        let page = ReadAll::after(self.last_position, max_count).read(client)?;
        let count = page.len();
        assert!(i64::try_from(count).is_ok_and(|count| count <= max_count), "{count} in a page");
        self.take(page);
        Ok(count)
    }

    /// Takes a page that was read after [`Self::last_position`].
    ///
    /// # Panics
    /// Where positions do not ascend strictly.
    pub fn take(&mut self, page: Vec<Event>) {
        for event in page {
            assert!(
                event.position > self.last_position,
                "position {} after position {}",
                event.position,
                self.last_position
            );
            self.last_position = event.position;
            self.events.push(event);
        }
    }

    /// The last position seen.
    pub fn last_position(&self) -> i64 {
        self.last_position
    }

    /// Everything seen, in order.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Fails the test where the reader has not seen exactly the store's content.
    ///
    /// # Panics
    /// Where it has missed an event, or seen one that is not there, or another one.
    pub fn assert_saw_exactly(&self, content: &[Event]) {
        for (seen, stored) in self.events.iter().zip(content) {
            if seen.position > stored.position {
                panic!("the reader missed {stored:?}; it saw position {} next", seen.position);
            }
            assert_eq!(seen, stored, "what the reader saw, and what is there");
        }
        let (seen, stored) = (self.events.len(), content.len());
        assert_eq!(seen, stored, "events seen and stored; first difference at the end");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::NewEvent;
    use crate::ledger::tests::stored;
    use serde_json::json;
    use std::panic::catch_unwind;

    fn three() -> Vec<Event> {
        let event = NewEvent::new("t", json!({}));
        (1..=3).map(|n| stored(&event, "s", n, n * 10)).collect()
    }

    #[test]
    fn a_reader_that_saw_everything_is_right() {
        let mut tail = Tail::after(0);
        tail.take(three());
        tail.assert_saw_exactly(&three());
        assert_eq!(tail.last_position(), 30);
    }

    #[test]
    fn a_missed_event_is_found() {
        for missed in 0..3 {
            let mut tail = Tail::after(0);
            let mut seen = three();
            seen.remove(missed);
            tail.take(seen);
            assert!(catch_unwind(|| tail.assert_saw_exactly(&three())).is_err());
        }
    }

    #[test]
    fn an_event_seen_that_is_not_there_is_found() {
        let mut tail = Tail::after(0);
        tail.take(three());
        assert!(catch_unwind(|| tail.assert_saw_exactly(&three()[..2])).is_err());
    }

    #[test]
    #[should_panic(expected = "position 20 after position 20")]
    fn an_event_twice_is_found() {
        let mut tail = Tail::after(0);
        let event = three().remove(1);
        tail.take(vec![event.clone(), event]);
    }
}
