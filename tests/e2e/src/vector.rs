//! A reader with a position for each partition: collects everything by `es_read_all_from` alone, as an application does
//! whose store may grow beyond one group.

use std::collections::BTreeMap;

use postgres::{Error, GenericClient};

use crate::event::{EVENT_COLUMNS, Event};

/// How many partitions a store has.
pub const PARTITIONS: usize = 32;

const FAULTS_SHOWN_MAX: usize = 20;

/// What a reader has seen so far.
#[derive(Debug)]
pub struct VectorTail {
    after: Vec<i64>,
    events: Vec<Vec<Event>>,
}

impl Default for VectorTail {
    fn default() -> Self {
        Self { after: vec![0; PARTITIONS], events: vec![Vec::new(); PARTITIONS] }
    }
}

impl VectorTail {
    /// Reads one page and returns how many events were in it.
    ///
    /// # Errors
    /// What the server answers.
    ///
    /// # Panics
    /// As [`Self::take`], and where the page is larger than asked for.
    pub fn poll(
        &mut self,
        client: &mut impl GenericClient,
        max_count: i64,
    ) -> Result<usize, Error> {
        let query = format!("SELECT {EVENT_COLUMNS} FROM allsource.es_read_all_from($1, $2)");
        let rows = client.query(&query, &[&self.after, &max_count])?;
        assert!(i64::try_from(rows.len()).is_ok_and(|count| count <= max_count), "a page");
        self.take(rows.iter().map(Event::from_row).collect());
        Ok(rows.len())
    }

    /// Reads until there is nothing more.
    ///
    /// # Errors
    /// What the server answers.
    pub fn read_to_end(client: &mut impl GenericClient) -> Result<Self, Error> {
        let mut tail = Self::default();
        while tail.poll(client, 10_000)? > 0 {}
        Ok(tail)
    }

    /// Takes a page that was read after the positions seen.
    ///
    /// # Panics
    /// Where the positions of a partition do not ascend strictly.
    pub fn take(&mut self, page: Vec<Event>) {
        for event in page {
            let partition = usize::try_from(event.partition_id).expect("a partition");
            let after = &mut self.after[partition];
            assert!(
                event.position > *after,
                "partition {partition}: position {} after position {after}",
                event.position
            );
            *after = event.position;
            self.events[partition].push(event);
        }
    }

    /// Everything seen, by partitions and positions.
    pub fn events(&self) -> Vec<Event> {
        self.events.concat()
    }

    /// How many events were seen.
    pub fn len(&self) -> usize {
        self.events.iter().map(Vec::len).sum()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where it has not seen exactly what is there, a line for each event.
    pub fn faults(&self, content: &Self) -> Vec<String> {
        let mut faults = Vec::new();
        for (seen, stored) in self.events.iter().zip(&content.events) {
            let seen: BTreeMap<i64, &Event> = seen.iter().map(|e| (e.position, e)).collect();
            let stored: BTreeMap<i64, &Event> = stored.iter().map(|e| (e.position, e)).collect();
            for (position, event) in &stored {
                match seen.get(position) {
                    None => faults.push(format!("the reader missed {event:?}")),
                    Some(other) if other != event => {
                        faults.push(format!("the reader saw {other:?}, and there is {event:?}"));
                    }
                    Some(_) => {}
                }
            }
            let gone = seen.iter().filter(|(position, _)| !stored.contains_key(position));
            faults.extend(
                gone.map(|(_, event)| format!("the reader saw what is not there: {event:?}")),
            );
        }
        faults
    }

    /// Fails the test where [`Self::faults`] finds any.
    ///
    /// # Panics
    /// Where it does.
    pub fn assert_saw_exactly(&self, content: &Self) {
        let faults = self.faults(content);
        let shown = &faults[..faults.len().min(FAULTS_SHOWN_MAX)];
        assert!(faults.is_empty(), "{} faults, first of them: {shown:#?}", faults.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::NewEvent;
    use crate::ledger::tests::stored;
    use serde_json::json;

    fn events() -> Vec<Event> {
        let event = NewEvent::new("t", json!({}));
        let at = |partition_id, n| Event { partition_id, ..stored(&event, "s", n, n * 10) };
        vec![at(0, 1), at(0, 2), at(7, 1), at(7, 2)]
    }

    fn tail(events: Vec<Event>) -> VectorTail {
        let mut tail = VectorTail::default();
        tail.take(events);
        tail
    }

    #[test]
    fn a_reader_that_saw_everything_is_right() {
        tail(events()).assert_saw_exactly(&tail(events()));
    }

    #[test]
    fn a_missed_event_is_found_and_one_that_is_not_there() {
        for number in 0..events().len() {
            let mut some = events();
            some.remove(number);
            assert_eq!(tail(some.clone()).faults(&tail(events())).len(), 1);
            assert_eq!(tail(events()).faults(&tail(some)).len(), 1);
        }
    }

    #[test]
    fn another_event_at_the_same_place_is_found() {
        let mut other = events();
        other[1].payload = json!(1);
        assert_eq!(tail(other).faults(&tail(events())).len(), 1);
    }

    #[test]
    #[should_panic(expected = "position 10 after position 20")]
    fn an_event_twice_is_found() {
        let mut twice = events();
        twice.push(twice[2].clone());
        let _ = tail(twice);
    }
}
