//! What the writers of a test did, and whether the store's content fits it.
//!
//! Whatever is appended together is a [`Ticket`]: some events with payloads that name the ticket,
//! so that each event found can be traced back to it. A ticket is *open* (sent, not answered:
//! it may be there or not, but wholly), *acknowledged* (it must be there) or *doomed* (its
//! writer rolls it back, or the server has refused it: it must not be there). No ticket may be
//! there in part or twice. What one producer has enqueued is in each stream in the order of the
//! tickets.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::event::{Event, NewEvent};

/// Payload bytes at which one append no longer fits into one row of the store, so that a
/// half-written append could show.
const LONG_FILLER_BYTES: u64 = 2_500;

/// One in so many events is a long one.
const LONG_ONE_IN: u64 = 13;

const FAULTS_SHOWN_MAX: usize = 20;

/// Key of an event's metadata that says who has enqueued it.
pub const PRODUCER: &str = "producer";

/// The book of all tickets of a test.
#[derive(Debug, Default)]
pub struct Ledger {
    fates: Mutex<Vec<Fate>>,
}

#[derive(Clone, Debug)]
struct Fate {
    size: usize,
    state: State,
    places: Vec<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Acknowledged,
    Doomed,
}

/// Where the server said that it has written an event.
#[derive(Clone, Debug)]
struct Place {
    index: usize,
    stream: String,
    version: i64,
}

/// Events that are there together or not at all.
#[derive(Clone, Debug)]
pub struct Ticket {
    number: usize,
    /// The events, in order.
    pub events: Vec<NewEvent>,
    places: Vec<Place>,
}

impl Ticket {
    /// Notes the server's answer: events from `first_index` on are in `stream`, the last of
    /// `count` with version `last_version`.
    pub fn place(&mut self, first_index: usize, count: usize, stream: &str, last_version: i64) {
        for back in 0..count {
            let index = first_index + count - 1 - back;
            let version = last_version - i64::try_from(back).expect("a small number");
            self.places.push(Place { index, stream: stream.to_owned(), version });
        }
    }

    /// Index, stream and version of each event noted so far.
    pub fn places(&self) -> impl Iterator<Item = (usize, &str, i64)> {
        self.places.iter().map(|place| (place.index, place.stream.as_str(), place.version))
    }

    /// Its number in the ledger.
    pub fn number(&self) -> usize {
        self.number
    }
}

impl Ledger {
    /// A ticket of `size` events that its writer means to commit.
    pub fn open(&self, size: usize) -> Ticket {
        self.issue(size, State::Open)
    }

    /// A ticket of `size` events that its writer will not commit.
    pub fn doomed(&self, size: usize) -> Ticket {
        self.issue(size, State::Doomed)
    }

    fn issue(&self, size: usize, state: State) -> Ticket {
        let mut fates = self.fates.lock().unwrap_or_else(PoisonError::into_inner);
        let number = fates.len();
        fates.push(Fate { size, state, places: Vec::new() });
        let events = (0..size).map(|index| ticket_event(number, index, size)).collect();
        Ticket { number, events, places: Vec::new() }
    }

    /// The server has answered that the ticket is committed.
    pub fn acknowledge(&self, ticket: Ticket) {
        let mut fates = self.fates.lock().unwrap_or_else(PoisonError::into_inner);
        let fate = &mut fates[ticket.number];
        assert_eq!(fate.state, State::Open, "only an open ticket can be acknowledged");
        fate.state = State::Acknowledged;
        fate.places = ticket.places;
    }

    /// The server has answered that the ticket was not taken.
    pub fn refuse(&self, ticket: Ticket) {
        let mut fates = self.fates.lock().unwrap_or_else(PoisonError::into_inner);
        let fate = &mut fates[ticket.number];
        assert_eq!(fate.state, State::Open, "only an open ticket can be refused");
        fate.state = State::Doomed;
    }

    /// How many tickets are acknowledged.
    pub fn acknowledged(&self) -> usize {
        let fates = self.fates.lock().unwrap_or_else(PoisonError::into_inner);
        fates.iter().filter(|fate| fate.state == State::Acknowledged).count()
    }

    /// How many tickets are open.
    pub fn unsettled(&self) -> usize {
        let fates = self.fates.lock().unwrap_or_else(PoisonError::into_inner);
        fates.iter().filter(|fate| fate.state == State::Open).count()
    }

    /// The book as it is now, to be compared with what is read from now on, while the writers go on.
    pub fn copy(&self) -> Self {
        let fates = self.fates.lock().unwrap_or_else(PoisonError::into_inner);
        Self { fates: Mutex::new(fates.clone()) }
    }

    /// As [`Self::faults`], for a copy: events of tickets that were issued later are nothing wrong.
    pub fn faults_so_far(&self, events: &[Event]) -> Vec<String> {
        let issued = self.fates.lock().unwrap_or_else(PoisonError::into_inner).len();
        let is_of_copy = |e: &&Event| ticket_of(e).is_none_or(|(number, _)| number < issued);
        let of_copy: Vec<Event> = events.iter().filter(is_of_copy).cloned().collect();
        let mut faults = version_faults(events);
        faults.extend(order_faults(events));
        faults.extend(self.ticket_faults(&of_copy));
        faults
    }

    /// What is wrong with the store's whole content, a line for each fault.
    pub fn faults(&self, events: &[Event]) -> Vec<String> {
        let mut faults = version_faults(events);
        faults.extend(order_faults(events));
        faults.extend(self.ticket_faults(events));
        faults
    }

    fn ticket_faults(&self, events: &[Event]) -> Vec<String> {
        let mut faults = Vec::new();
        let fates = self.fates.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: BTreeMap<usize, BTreeMap<usize, &Event>> = BTreeMap::new();
        for event in events {
            let Some((number, index)) = ticket_of(event) else {
                faults.push(format!("an event that nobody appended: {event:?}"));
                continue;
            };
            let known = fates.get(number).filter(|fate| index < fate.size);
            let Some(fate) = known else {
                faults.push(format!("an event of no ticket: {event:?}"));
                continue;
            };
            let appended = ticket_event(number, index, fate.size);
            if event.payload != appended.payload || event.event_type != appended.event_type {
                faults.push(format!("event {index} of ticket {number} has changed: {event:?}"));
            }
            if let Some(twin) = found.entry(number).or_default().insert(index, event) {
                faults.push(format!(
                    "event {index} of ticket {number} is there twice, at {} and {}",
                    twin.position, event.position
                ));
            }
        }
        for (number, fate) in fates.iter().enumerate() {
            fate.check(number, found.get(&number), &mut faults);
        }
        faults
    }

    /// Fails the test where [`Self::faults`] finds any.
    ///
    /// # Panics
    /// Where it does.
    pub fn assert_holds(&self, events: &[Event]) {
        let faults = self.faults(events);
        let shown = &faults[..faults.len().min(FAULTS_SHOWN_MAX)];
        assert!(faults.is_empty(), "{} faults, first of them: {shown:#?}", faults.len());
    }
}

impl Fate {
    fn check(
        &self,
        number: usize,
        found: Option<&BTreeMap<usize, &Event>>,
        faults: &mut Vec<String>,
    ) {
        let count = found.map_or(0, BTreeMap::len);
        match self.state {
            State::Doomed if count > 0 => {
                faults.push(format!("ticket {number} must not be there, and is: {found:?}"));
            }
            State::Acknowledged if count < self.size => faults.push(format!(
                "ticket {number} is acknowledged, but only {count} of {} are there",
                self.size
            )),
            State::Open if count > 0 && count < self.size => faults.push(format!(
                "ticket {number} is half-written: {count} of {} are there",
                self.size
            )),
            _ => {}
        }
        for place in &self.places {
            let event = found.and_then(|found| found.get(&place.index));
            if event.is_some_and(|e| e.stream_id != place.stream || e.version != place.version) {
                faults.push(format!(
                    "event {} of ticket {number} should be version {} of {}: {event:?}",
                    place.index, place.version, place.stream
                ));
            }
        }
    }
}

/// Which ticket an event is of, and its index there.
pub fn ticket_of(event: &Event) -> Option<(usize, usize)> {
    let number = |name: &str| {
        let value = event.payload.get(name).and_then(Value::as_u64)?;
        usize::try_from(value).ok()
    };
    Some((number("ticket")?, number("index")?))
}

/// The event of a ticket; made anew it is the same, so the content found can be compared.
fn ticket_event(number: usize, index: usize, size: usize) -> NewEvent {
    let mix = (number as u64 * 31 + index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    let filler_bytes = if mix.is_multiple_of(LONG_ONE_IN) { LONG_FILLER_BYTES } else { mix % 200 };
    // Text that compression cannot make small, or a long append would still fit into a row.
    let filler: String = (0..filler_bytes)
        .map(|i| {
            let byte = (mix ^ i).wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 33;
            char::from(b'a' + u8::try_from(byte % 26).expect("a letter"))
        })
        .collect();
    NewEvent::new(
        if index.is_multiple_of(2) { "even" } else { "odd" },
        json!({"ticket": number, "index": index, "size": size, "filler": filler}),
    )
}

/// Versions with gaps or twice, and positions against the order of the versions.
pub fn version_faults(events: &[Event]) -> Vec<String> {
    let mut streams: BTreeMap<(&str, &str), Vec<&Event>> = BTreeMap::new();
    for event in events {
        streams.entry((&event.tenant_id, &event.stream_id)).or_default().push(event);
    }
    let mut faults = Vec::new();
    for ((tenant, stream), mut events) in streams {
        events.sort_by_key(|event| event.version);
        for (expected, event) in (1..).zip(&events) {
            if event.version != expected {
                faults.push(format!(
                    "stream {stream} of {tenant}: version {} where {expected} should be",
                    event.version
                ));
                break;
            }
        }
        for pair in events.windows(2) {
            if pair[0].position >= pair[1].position {
                faults.push(format!(
                    "stream {stream} of {tenant}: position {} of version {} is not below \
                     position {} of version {}",
                    pair[0].position, pair[0].version, pair[1].position, pair[1].version
                ));
            }
        }
    }
    faults
}

/// Events of one stream in another order than their producer has enqueued them in.
pub fn order_faults(events: &[Event]) -> Vec<String> {
    let mut last = BTreeMap::new();
    let mut in_order: Vec<&Event> = events.iter().collect();
    in_order.sort_by_key(|event| event.version);
    let mut faults = Vec::new();
    for event in in_order {
        let producer = event.metadata.as_ref().and_then(|m| m.get(PRODUCER)?.as_str());
        let (Some(producer), Some(ticket)) = (producer, ticket_of(event)) else { continue };
        let key = (event.tenant_id.as_str(), event.stream_id.as_str(), producer);
        let here = (event.version, ticket);
        if let Some(before) = last.insert(key, here)
            && before.1 >= ticket
        {
            faults.push(format!("{key:?}: (version, ticket) {here:?} comes after {before:?}"));
        }
    }
    faults
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::time::SystemTime;

    pub(crate) fn stored(event: &NewEvent, stream: &str, version: i64, position: i64) -> Event {
        Event {
            position,
            stream_id: stream.to_owned(),
            version,
            tenant_id: "default".to_owned(),
            event_type: event.event_type.clone(),
            entity_id: None,
            payload: event.payload.clone(),
            metadata: None,
            timestamp: SystemTime::UNIX_EPOCH,
            event_id: event.id,
            partition_id: 0,
        }
    }

    fn acknowledged_pair() -> (Ledger, Vec<Event>) {
        let ledger = Ledger::default();
        let mut ticket = ledger.open(2);
        let events =
            vec![stored(&ticket.events[0], "s", 1, 10), stored(&ticket.events[1], "s", 2, 11)];
        ticket.place(0, 2, "s", 2);
        ledger.acknowledge(ticket);
        (ledger, events)
    }

    #[test]
    fn what_was_acknowledged_and_is_there_is_right() {
        let (ledger, events) = acknowledged_pair();
        assert_eq!(ledger.faults(&events), Vec::<String>::new());
    }

    #[test]
    fn what_was_acknowledged_must_be_there() {
        let (ledger, events) = acknowledged_pair();
        assert_eq!(ledger.faults(&events[..1]).len(), 1);
        assert_eq!(ledger.faults(&[]).len(), 1);
    }

    #[test]
    fn an_event_twice_is_a_fault() {
        let (ledger, mut events) = acknowledged_pair();
        let mut twin = events[1].clone();
        (twin.version, twin.position) = (3, 12);
        events.push(twin);
        assert!(ledger.faults(&events).iter().any(|fault| fault.contains("twice")));
    }

    #[test]
    fn an_event_at_another_place_than_answered_is_a_fault() {
        let (ledger, mut events) = acknowledged_pair();
        events[1].stream_id = "t".to_owned();
        events[1].version = 1;
        assert_eq!(ledger.faults(&events).len(), 1);
    }

    #[test]
    fn a_changed_payload_is_a_fault() {
        let (ledger, mut events) = acknowledged_pair();
        events[0].payload["filler"] = json!("other");
        assert_eq!(ledger.faults(&events).len(), 1);
    }

    #[test]
    fn an_open_ticket_is_there_wholly_or_not_at_all() {
        let ledger = Ledger::default();
        let ticket = ledger.open(2);
        let events = [stored(&ticket.events[0], "s", 1, 1), stored(&ticket.events[1], "s", 2, 2)];
        assert!(ledger.faults(&events).is_empty());
        assert!(ledger.faults(&[]).is_empty());
        assert!(ledger.faults(&events[..1])[0].contains("half-written"));
    }

    #[test]
    fn a_copy_knows_nothing_of_later_tickets_and_finds_the_faults_of_earlier_ones() {
        let (ledger, events) = acknowledged_pair();
        let copy = ledger.copy();
        let ticket = ledger.open(1);
        let later = stored(&ticket.events[0], "s", 3, 12);
        ledger.acknowledge(ticket);
        let all = [events.clone(), vec![later.clone()]].concat();
        assert_eq!(copy.faults_so_far(&all), Vec::<String>::new());
        assert_eq!(copy.faults_so_far(&events), Vec::<String>::new());
        assert_eq!(ledger.faults(&events).len(), 1);
        assert!(!copy.faults_so_far(&[later]).is_empty());
    }

    #[test]
    fn a_doomed_ticket_must_not_be_there() {
        let ledger = Ledger::default();
        let ticket = ledger.doomed(1);
        assert!(ledger.faults(&[]).is_empty());
        assert_eq!(ledger.faults(&[stored(&ticket.events[0], "s", 1, 1)]).len(), 1);
    }

    #[test]
    fn a_refused_ticket_must_not_be_there() {
        let ledger = Ledger::default();
        let ticket = ledger.open(1);
        let event = stored(&ticket.events[0], "s", 1, 1);
        ledger.refuse(ticket);
        assert!(ledger.faults(&[]).is_empty());
        assert_eq!(ledger.faults(&[event]).len(), 1);
    }

    #[test]
    fn one_producers_events_are_in_order() {
        let ledger = Ledger::default();
        let [first, second] = [(); 2].map(|()| ledger.open(1));
        let event = |ticket: &Ticket, stream, version, producer| Event {
            metadata: Some(json!({PRODUCER: producer})),
            ..stored(&ticket.events[0], stream, version, version)
        };
        let right = [event(&first, "s", 1, "p"), event(&second, "s", 2, "p")];
        assert_eq!(ledger.faults(&right), Vec::<String>::new());
        let wrong = [event(&second, "s", 1, "p"), event(&first, "s", 2, "p")];
        assert_eq!(ledger.faults(&wrong).len(), 1);
        let of_two = [event(&second, "s", 1, "p"), event(&first, "s", 2, "q")];
        assert!(ledger.faults(&of_two).is_empty());
        let of_two_streams = [event(&second, "s", 1, "p"), event(&first, "t", 1, "p")];
        assert!(ledger.faults(&of_two_streams).is_empty());
    }

    #[test]
    fn gaps_and_disorder_in_a_stream_are_faults() {
        let event = NewEvent::new("t", json!({}));
        let at = |version, position| stored(&event, "s", version, position);
        assert!(version_faults(&[at(1, 1), at(2, 5)]).is_empty());
        assert_eq!(version_faults(&[at(1, 1), at(3, 5)]).len(), 1);
        assert_eq!(version_faults(&[at(2, 1)]).len(), 1);
        assert_eq!(version_faults(&[at(1, 5), at(2, 4)]).len(), 1);
        assert_eq!(version_faults(&[at(1, 4), at(1, 5)]).len(), 1);
    }

    #[test]
    fn some_events_are_long() {
        let is_long = |number| ticket_event(number, 0, 1).payload.to_string().len() > 2_500;
        let long = (0..1_000).filter(|&number| is_long(number)).count();
        assert!((30..200).contains(&long), "{long} of 1000");
    }
}
