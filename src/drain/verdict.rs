//! Which events of a batch are written. Each event counts as an append of its own, of any expected
//! version, so the result does not depend on how events fall into batches.

use crate::model::event::{EventId, NewEvent};
use std::collections::HashMap;

/// What is known of an event's id in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It is new, or the event has none.
    New,
    /// An event of this id is there, of the same type and payload.
    Same,
    /// An event of this id is there, of another type or payload.
    Different,
}

/// An event and what it is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Offered<'a> {
    /// the event
    pub event: &'a NewEvent<'a>,
    /// the entity that was given with it
    pub entity_id: Option<&'a [u8]>,
    /// what the stream knew of its id before the batch
    pub known: Known,
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is written.
    Write,
    /// It is there already: this is a retry.
    Skip,
    /// Its id belongs to an event of another type or payload.
    RefuseId,
    /// Its stream belongs to another entity, or to none.
    RefuseEntity,
}

/// Judges the events that are offered to one stream, in their order. `entity_id` is that of the
/// stream; `None` if the stream does not exist: then the first event creates it.
pub fn judge<'a>(
    entity_id: Option<Option<&'a [u8]>>,
    offered: impl IntoIterator<Item = Offered<'a>>,
) -> Vec<Verdict> {
    let mut entity_id = entity_id;
    let mut written: HashMap<EventId, &NewEvent<'_>> = HashMap::new();
    let judge_one = |offered: Offered<'a>| {
        let earlier = offered.event.event_id.and_then(|id| written.get(&id));
        let known = match earlier {
            Some(earlier) if has_same_content(earlier, offered.event) => Known::Same,
            Some(_) => Known::Different,
            None => offered.known,
        };
        match known {
            Known::Same => return Verdict::Skip,
            Known::Different => return Verdict::RefuseId,
            Known::New => {}
        }
        let stream_entity = *entity_id.get_or_insert(offered.entity_id);
        if offered.entity_id.is_some() && offered.entity_id != stream_entity {
            return Verdict::RefuseEntity;
        }
        if let Some(id) = offered.event.event_id {
            written.insert(id, offered.event);
        }
        Verdict::Write
    };
    offered.into_iter().map(judge_one).collect()
}

/// Whether a second event of the same id is the first one tried again.
pub fn has_same_content(one: &NewEvent<'_>, other: &NewEvent<'_>) -> bool {
    one.event_type == other.event_type && one.payload == other.payload
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An event as a test draws it: entity, id, payload.
    type Drawn = (Option<u8>, Option<u8>, u8);

    /// The store's rules for one append of one event, written down on their own.
    #[derive(Clone, Default)]
    struct Stream {
        there: bool,
        entity: Option<u8>,
        events: Vec<(Option<u8>, u8)>,
    }

    impl Stream {
        fn append(&mut self, (entity, id, payload): Drawn) -> Verdict {
            if id.is_some()
                && let Some((_, there)) = self.events.iter().find(|(known, _)| *known == id)
            {
                return if *there == payload { Verdict::Skip } else { Verdict::RefuseId };
            }
            if !self.there {
                (self.there, self.entity) = (true, entity);
            } else if entity.is_some() && entity != self.entity {
                return Verdict::RefuseEntity;
            }
            self.events.push((id, payload));
            Verdict::Write
        }

        fn known(&self, (_, id, payload): Drawn) -> Known {
            match self.events.iter().find(|(known, _)| id.is_some() && *known == id) {
                None => Known::New,
                Some((_, there)) if *there == payload => Known::Same,
                Some(_) => Known::Different,
            }
        }
    }

    fn bytes(value: u8) -> &'static [u8] {
        const BYTES: [u8; 4] = [0, 1, 2, 3];
        &BYTES[usize::from(value)..=usize::from(value)]
    }

    fn judge_batch(stream: &Stream, batch: &[Drawn]) -> Vec<Verdict> {
        let events: Vec<NewEvent<'_>> = batch
            .iter()
            .map(|(_, id, payload)| NewEvent {
                event_type: b"t",
                payload: bytes(*payload),
                metadata: None,
                event_id: id.map(|id| [id; 16]),
            })
            .collect();
        let entity = stream.there.then(|| stream.entity.map(bytes));
        let offered = std::iter::zip(batch, &events).map(|(drawn, event)| Offered {
            event,
            entity_id: drawn.0.map(bytes),
            known: stream.known(*drawn),
        });
        judge(entity, offered)
    }

    proptest! {
        #[test]
        fn a_batch_is_judged_as_its_events_one_by_one(
            drawn in prop::collection::vec(
                (prop::option::of(0u8..3), prop::option::of(0u8..4), 0u8..3), 0..24),
            cuts in prop::collection::vec(0usize..24, 0..4),
            made_before in prop::option::of(prop::option::of(0u8..3)),
        ) {
            let mut one_by_one = Stream::default();
            if let Some(entity) = made_before {
                one_by_one = Stream { there: true, entity, events: Vec::new() };
            }
            let mut in_batches = one_by_one.clone();
            let expected: Vec<Verdict> = drawn.iter().map(|event| one_by_one.append(*event)).collect();
            let mut ends: Vec<usize> = cuts.into_iter().map(|cut| cut.min(drawn.len())).collect();
            ends.push(drawn.len());
            ends.sort_unstable();
            let (mut judged, mut start) = (Vec::new(), 0);
            for end in ends {
                let verdicts = judge_batch(&in_batches, &drawn[start..end]);
                for (event, verdict) in std::iter::zip(&drawn[start..end], &verdicts) {
                    if *verdict == Verdict::Write {
                        in_batches.append(*event);
                    }
                }
                judged.extend(verdicts);
                start = end;
            }
            prop_assert_eq!(judged, expected);
            prop_assert_eq!(in_batches.events, one_by_one.events);
        }
    }
}
