//! The store as the documentation describes it, in memory and as plainly as possible: the model
//! that the real server is compared with.
//!
//! It knows streams, versions, tenants, expected versions and event ids. Positions it does not
//! predict; it knows only the order of the calls, which positions have to follow.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use uuid::Uuid;

use crate::calls::{Append, Batch, ReadStream};
use crate::event::{Event, NewEvent};
use crate::failure::{BAD_ARGUMENT, DUPLICATE_ID, SERIALIZATION_FAILURE};

/// The longest name of a stream, in characters.
const NAME_CHARS_MAX: usize = 255;

/// Tenant and name of a stream.
pub type Key = (String, String);

/// Why the store refuses: the SQLSTATEs that are right. Where a call is wrong in two ways,
/// either may be named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub Vec<&'static str>);

/// The answer for one stream of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Name of the stream.
    pub stream: String,
    /// First version.
    pub first_version: i64,
    /// Last version.
    pub last_version: i64,
}

/// An event in the model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelEvent {
    /// Tenant and name of its stream.
    pub key: Key,
    /// Number in its stream.
    pub version: i64,
    /// Which call wrote it; calls are numbered in order.
    pub call: u64,
    /// What was given.
    pub event: NewEvent,
}

impl ModelEvent {
    /// Whether the store's event is this one, positions and time aside.
    pub fn is(&self, stored: &Event, entity: Option<&str>) -> bool {
        let (tenant, stream) = &self.key;
        stored.stream_id == *stream
            && stored.tenant_id == *tenant
            && stored.version == self.version
            && stored.event_type == self.event.event_type
            && stored.payload == self.event.payload
            && stored.metadata == self.event.metadata
            && stored.event_id == self.event.id
            && stored.entity_id.as_deref() == entity
    }
}

/// A stream in the model.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// Its entity.
    pub entity: Option<String>,
    /// Its events; the first one has version 1.
    pub events: Vec<Rc<ModelEvent>>,
}

impl Stream {
    fn version(&self) -> i64 {
        i64::try_from(self.events.len()).expect("a small number")
    }
}

/// The whole store. A clone of it is what a savepoint keeps.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    streams: BTreeMap<Key, Stream>,
    log: Vec<Rc<ModelEvent>>,
}

impl Reference {
    /// `es_append` and `es_append_many`: the last version, written now or, for a retry, before.
    ///
    /// # Errors
    /// The SQLSTATEs that the server may answer; nothing is written then.
    pub fn append(&mut self, call: u64, append: &Append<'_>) -> Result<i64, Refused> {
        check_name(append.stream)?;
        check_expected(append.expected)?;
        let events: Vec<&NewEvent> = append.events.iter().collect();
        let key = (append.tenant.to_owned(), append.stream.to_owned());
        let written = self.append_to(call, key, append.expected, append.entity, &events)?;
        Ok(written.last_version)
    }

    /// `es_append_batch`: what was written, by stream in the order of their first appearance.
    ///
    /// # Errors
    /// As [`Self::append`]; nothing of the batch is written then.
    pub fn append_batch(&mut self, call: u64, batch: &Batch<'_>) -> Result<Vec<Written>, Refused> {
        for item in batch.items {
            check_name(&item.stream)?;
            check_expected(item.expected)?;
        }
        if batch.items.is_empty() {
            return Err(Refused(vec![BAD_ARGUMENT]));
        }
        let mut names: Vec<&str> = Vec::new();
        for item in batch.items {
            if !names.contains(&item.stream.as_str()) {
                names.push(&item.stream);
            }
        }
        let mut after = self.clone();
        let mut answers = Vec::new();
        let mut refusals = BTreeSet::new();
        for name in names {
            let items = || batch.items.iter().filter(|item| item.stream == name);
            let expected = items().find_map(|item| item.expected);
            let events: Vec<&NewEvent> = items().map(|item| &item.event).collect();
            let key = (batch.tenant.to_owned(), name.to_owned());
            match after.append_to(call, key, expected, None, &events) {
                Ok(written) => answers.push(written),
                Err(Refused(states)) => refusals.extend(states),
            }
        }
        if !refusals.is_empty() {
            return Err(Refused(refusals.into_iter().collect()));
        }
        *self = after;
        Ok(answers)
    }

    /// `es_create_stream`: the current version of the stream that is there now.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn create(&mut self, tenant: &str, name: &str) -> Result<i64, Refused> {
        check_name(name)?;
        let key = (tenant.to_owned(), name.to_owned());
        Ok(self.streams.entry(key).or_default().version())
    }

    fn append_to(
        &mut self,
        call: u64,
        key: Key,
        expected: Option<i64>,
        entity: Option<&str>,
        events: &[&NewEvent],
    ) -> Result<Written, Refused> {
        if events.is_empty() {
            return Err(Refused(vec![BAD_ARGUMENT]));
        }
        let stream = self.streams.get(&key);
        let current = stream.map(Stream::version);
        let in_place = match expected {
            None => true,
            Some(-1) => current.is_some(),
            Some(version) => current.unwrap_or(0) == version,
        };
        let ids: Vec<Uuid> = events.iter().filter_map(|event| event.id).collect();
        let known = |id: &Uuid| {
            stream.is_some_and(|s| s.events.iter().any(|event| event.event.id == Some(*id)))
        };
        let twice = ids.iter().collect::<BTreeSet<_>>().len() < ids.len();
        if twice || ids.iter().any(known) {
            let earlier = stream.and_then(|stream| find_earlier(stream, events));
            if let Some(first_version) = earlier {
                let stream = key.1;
                let last_version = first_version + count(events) - 1;
                match expected {
                    Some(version) if version >= 0 && version != first_version - 1 => {
                        return Err(Refused(vec![DUPLICATE_ID, SERIALIZATION_FAILURE]));
                    }
                    _ => return Ok(Written { stream, first_version, last_version }),
                }
            }
            let mut states = vec![DUPLICATE_ID];
            if !in_place {
                states.push(SERIALIZATION_FAILURE);
            }
            return Err(Refused(states));
        }
        if !in_place {
            return Err(Refused(vec![SERIALIZATION_FAILURE]));
        }
        let stream = self.streams.entry(key.clone()).or_default();
        if stream.entity.is_none() {
            stream.entity = entity.map(str::to_owned);
        }
        let first_version = stream.version() + 1;
        for (event, version) in events.iter().zip(first_version..) {
            let event = (*event).clone();
            let event = Rc::new(ModelEvent { key: key.clone(), version, call, event });
            stream.events.push(Rc::clone(&event));
            self.log.push(event);
        }
        Ok(Written {
            stream: key.1,
            first_version,
            last_version: first_version + count(events) - 1,
        })
    }

    /// `es_read`.
    pub fn read(&self, read: &ReadStream<'_>) -> Vec<Rc<ModelEvent>> {
        let key = (read.tenant.to_owned(), read.stream.to_owned());
        let Some(stream) = self.streams.get(&key) else { return Vec::new() };
        let most = read.max_count.map_or(usize::MAX, |count| usize::try_from(count).expect("≥ 0"));
        let events = stream.events.iter();
        if read.backward {
            let from = read.from_version.unwrap_or(i64::MAX);
            events.rev().filter(|event| event.version <= from).take(most).cloned().collect()
        } else {
            let from = read.from_version.unwrap_or(1);
            events.filter(|event| event.version >= from).take(most).cloned().collect()
        }
    }

    /// All events, in the order of the calls that wrote them.
    pub fn log(&self) -> &[Rc<ModelEvent>] {
        &self.log
    }

    /// All streams.
    pub fn streams(&self) -> &BTreeMap<Key, Stream> {
        &self.streams
    }

    /// The stream, if there is one.
    pub fn stream(&self, tenant: &str, name: &str) -> Option<&Stream> {
        self.streams.get(&(tenant.to_owned(), name.to_owned()))
    }

    /// The current version of a stream; `None` where there is no such stream.
    pub fn version(&self, tenant: &str, name: &str) -> Option<i64> {
        self.stream(tenant, name).map(Stream::version)
    }

    /// Entity of an event's stream.
    pub fn entity_of(&self, event: &ModelEvent) -> Option<&str> {
        self.streams.get(&event.key)?.entity.as_deref()
    }
}

fn check_name(name: &str) -> Result<(), Refused> {
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
        return Err(Refused(vec![BAD_ARGUMENT]));
    }
    Ok(())
}

fn check_expected(expected: Option<i64>) -> Result<(), Refused> {
    match expected {
        Some(version) if version < -1 => Err(Refused(vec![BAD_ARGUMENT])),
        _ => Ok(()),
    }
}

/// The first version at which the stream has exactly these events, ids included.
fn find_earlier(stream: &Stream, events: &[&NewEvent]) -> Option<i64> {
    let same = |stored: &ModelEvent, given: &NewEvent| {
        stored.event.id == given.id
            && stored.event.event_type == given.event_type
            && stored.event.payload == given.payload
    };
    let windows = stream.events.windows(events.len());
    let found = windows
        .into_iter()
        .find(|window| window.iter().zip(events).all(|(stored, given)| same(stored, given)));
    found.map(|window| window[0].version)
}

fn count(events: &[&NewEvent]) -> i64 {
    i64::try_from(events.len()).expect("a small number")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::BatchItem;
    use serde_json::json;

    fn event(payload: i64) -> NewEvent {
        NewEvent::new("t", json!(payload))
    }

    fn with_id(payload: i64, id: u128) -> NewEvent {
        event(payload).with_id(Uuid::from_u128(id))
    }

    #[test]
    fn expected_versions_are_checked() {
        let mut store = Reference::default();
        let events = [event(1)];
        let append = Append::to("s", &events);
        let conflict = Err(Refused(vec![SERIALIZATION_FAILURE]));
        assert_eq!(store.append(1, &append.expecting(-1)), conflict);
        assert_eq!(store.append(1, &append.expecting(0)), Ok(1));
        assert_eq!(store.append(2, &append.expecting(0)), conflict);
        assert_eq!(store.append(3, &append.expecting(1)), Ok(2));
        assert_eq!(store.append(4, &append.expecting(-1)), Ok(3));
        assert_eq!(store.append(5, &append), Ok(4));
        assert_eq!(store.append(6, &append.expecting(-2)), Err(Refused(vec![BAD_ARGUMENT])));
    }

    #[test]
    fn a_retry_returns_the_first_result_and_writes_nothing() {
        let mut store = Reference::default();
        let first = [with_id(1, 1), with_id(2, 2)];
        assert_eq!(store.append(1, &Append::to("s", &first)), Ok(2));
        assert_eq!(store.append(2, &Append::to("s", &[event(3)])), Ok(3));
        assert_eq!(store.append(3, &Append::to("s", &first)), Ok(2));
        assert_eq!(store.append(3, &Append::to("s", &first).expecting(0)), Ok(2));
        assert_eq!(store.version("default", "s"), Some(3));
        assert_eq!(store.append(4, &Append::to("t", &first)), Ok(2), "another stream");
    }

    #[test]
    fn the_same_ids_with_another_content_are_refused() {
        let mut store = Reference::default();
        store.append(1, &Append::to("s", &[with_id(1, 1), with_id(2, 2)])).unwrap();
        let refused = Err(Refused(vec![DUPLICATE_ID]));
        let mut retry = |events: &[NewEvent]| store.append(2, &Append::to("s", events));
        assert_eq!(retry(&[with_id(9, 1), with_id(2, 2)]), refused);
        assert_eq!(retry(&[with_id(2, 2), with_id(3, 3)]), refused);
        assert_eq!(retry(&[with_id(2, 2), with_id(1, 1)]), refused);
        assert_eq!(retry(&[with_id(4, 4), with_id(4, 4)]), refused);
    }

    #[test]
    fn a_batch_is_all_or_nothing() {
        let mut store = Reference::default();
        let item = |stream: &str, expected| BatchItem {
            stream: stream.to_owned(),
            expected,
            event: event(1),
        };
        let items = [item("a", None), item("b", Some(0)), item("a", Some(7))];
        let refused = store.append_batch(1, &Batch::of(&items));
        assert_eq!(refused, Err(Refused(vec![SERIALIZATION_FAILURE])));
        assert!(store.log().is_empty());
        let answers = store.append_batch(1, &Batch::of(&items[..2])).unwrap();
        let written =
            |stream: &str| Written { stream: stream.into(), first_version: 1, last_version: 1 };
        assert_eq!(answers, [written("a"), written("b")]);
    }

    #[test]
    fn reads_are_cut_and_turned() {
        let mut store = Reference::default();
        let events: Vec<_> = (1..=5).map(event).collect();
        store.append(1, &Append::to("s", &events)).unwrap();
        let versions = |from_version, max_count, backward| -> Vec<i64> {
            let read = ReadStream { from_version, max_count, backward, ..ReadStream::all("s") };
            store.read(&read).iter().map(|event| event.version).collect()
        };
        assert_eq!(versions(Some(2), Some(2), false), [2, 3]);
        assert_eq!(versions(Some(4), None, true), [4, 3, 2, 1]);
        assert_eq!(versions(None, Some(2), true), [5, 4]);
        assert_eq!(versions(Some(6), None, false), Vec::<i64>::new());
    }
}
