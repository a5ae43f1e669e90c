//! What the row of a run holds.

use super::array::{self, ArrayError, ArrayReader, ElementType, write_array};
use super::checksum::{RunChecksum, RunKey};
use crate::model::event::{EventId, NewEvent};
use crate::model::memory::{OutOfMemory, reserve};

/// Where the columns of an encoded run begin in its buffer.
#[derive(Clone, Copy, Debug)]
pub struct EncodedRun {
    /// `event_types`
    pub event_types: usize,
    /// `payloads`
    pub payloads: usize,
    /// `metadata`; NULL when no event of the run has any
    pub metadata: Option<usize>,
    /// `event_ids`; NULL when no event of the run has one
    pub event_ids: Option<usize>,
    /// `checksum`
    pub checksum: i32,
}

/// Encodes the columns of a run at the end of `out`.
pub fn encode_run<'a>(
    out: &mut Vec<u8>,
    key: RunKey,
    events: impl ExactSizeIterator<Item = &'a NewEvent<'a>> + Clone,
) -> Result<EncodedRun, OutOfMemory> {
    reserve(out, encoded_bytes_max(events.clone()))?;
    let event_types = events.clone().map(|event| Some(event.event_type));
    let payloads = events.clone().map(|event| Some(event.payload));
    let metadata = events.clone().map(|event| event.metadata);
    let event_ids = events.map(|event| event.event_id.as_ref().map(|id| &id[..]));
    let mut checksum = RunChecksum::new(key);
    add_column(&mut checksum, event_types.clone());
    add_column(&mut checksum, payloads.clone());
    Ok(EncodedRun {
        event_types: write_array(out, ElementType::Text, event_types),
        payloads: write_array(out, ElementType::Jsonb, payloads),
        metadata: encode_optional(out, &mut checksum, ElementType::Jsonb, metadata),
        event_ids: encode_optional(out, &mut checksum, ElementType::Uuid, event_ids),
        checksum: checksum.finish(),
    })
}

/// No more bytes than this are written for the columns of a run.
fn encoded_bytes_max<'a>(events: impl ExactSizeIterator<Item = &'a NewEvent<'a>>) -> usize {
    const PER_EVENT: usize = 3 * array::ELEMENT_OVERHEAD_MAX + size_of::<EventId>();
    let arrays = 4 * array::overhead_max(events.len());
    arrays + events.map(|event| event.size_bytes() + PER_EVENT).sum::<usize>()
}

fn add_column<'a>(
    checksum: &mut RunChecksum,
    elements: impl ExactSizeIterator<Item = Option<&'a [u8]>>,
) {
    checksum.column(elements.len());
    for element in elements {
        checksum.element(element);
    }
}

fn encode_optional<'a>(
    out: &mut Vec<u8>,
    checksum: &mut RunChecksum,
    element_type: ElementType,
    elements: impl ExactSizeIterator<Item = Option<&'a [u8]>> + Clone,
) -> Option<usize> {
    if elements.clone().all(|element| element.is_none()) {
        checksum.column(0);
        return None;
    }
    add_column(checksum, elements.clone());
    Some(write_array(out, element_type, elements))
}

/// The columns of a stored run: the bodies of its arrays.
#[derive(Clone, Copy, Debug)]
pub struct RunColumns<'a> {
    /// `event_types`
    pub event_types: &'a [u8],
    /// `payloads`
    pub payloads: &'a [u8],
    /// `metadata`
    pub metadata: Option<&'a [u8]>,
    /// `event_ids`
    pub event_ids: Option<&'a [u8]>,
}

impl<'a> RunColumns<'a> {
    /// How many events the run holds.
    pub fn len(&self) -> Result<usize, ArrayError> {
        ArrayReader::new(self.event_types, ElementType::Text).map(|reader| reader.remaining())
    }

    /// Whether the run holds no event, which no run that the store has written does.
    pub fn is_empty(&self) -> Result<bool, ArrayError> {
        self.len().map(|len| len == 0)
    }

    /// The checksum that the run should have.
    pub fn checksum(&self, key: RunKey) -> Result<i32, ArrayError> {
        let mut checksum = RunChecksum::new(key);
        let columns = [
            (Some(self.event_types), ElementType::Text),
            (Some(self.payloads), ElementType::Jsonb),
            (self.metadata, ElementType::Jsonb),
            (self.event_ids, ElementType::Uuid),
        ];
        for (body, element_type) in columns {
            let Some(body) = body else {
                checksum.column(0);
                continue;
            };
            let mut reader = ArrayReader::new(body, element_type)?;
            checksum.column(reader.remaining());
            while reader.remaining() > 0 {
                checksum.element(reader.read()?);
            }
        }
        Ok(checksum.finish())
    }

    /// Readers over the four columns, in step with each other. Columns that differ in length are
    /// damaged, and so is a run without events.
    pub fn readers(&self) -> Result<RunReaders<'a>, ArrayError> {
        let optional = |body: Option<&'a [u8]>, element_type| {
            body.map(|body| ArrayReader::new(body, element_type)).transpose()
        };
        let readers = RunReaders {
            event_types: ArrayReader::new(self.event_types, ElementType::Text)?,
            payloads: ArrayReader::new(self.payloads, ElementType::Jsonb)?,
            metadata: optional(self.metadata, ElementType::Jsonb)?,
            event_ids: optional(self.event_ids, ElementType::Uuid)?,
        };
        let len = readers.event_types.remaining();
        let is_as_long = |reader: &ArrayReader<'_>| reader.remaining() == len;
        let is_whole = len > 0
            && is_as_long(&readers.payloads)
            && readers.metadata.as_ref().is_none_or(is_as_long)
            && readers.event_ids.as_ref().is_none_or(is_as_long);
        if is_whole { Ok(readers) } else { Err(ArrayError::Damaged) }
    }
}

/// An element of a variable length, and where it begins with its length word in its column's body.
pub type Located<'a> = (usize, &'a [u8]);

/// An event of a stored run.
#[derive(Clone, Copy, Debug)]
pub struct StoredEvent<'a> {
    /// its type
    pub event_type: Located<'a>,
    /// its payload
    pub payload: Located<'a>,
    /// its metadata
    pub metadata: Option<Located<'a>>,
    /// its id
    pub event_id: Option<&'a [u8]>,
}

/// Walks over the events of a run.
#[derive(Clone, Copy, Debug)]
pub struct RunReaders<'a> {
    event_types: ArrayReader<'a>,
    payloads: ArrayReader<'a>,
    metadata: Option<ArrayReader<'a>>,
    event_ids: Option<ArrayReader<'a>>,
}

impl<'a> RunReaders<'a> {
    /// Events that are still to come.
    pub fn remaining(&self) -> usize {
        self.event_types.remaining()
    }

    /// Passes over `count` events.
    pub fn skip(&mut self, count: usize) -> Result<(), ArrayError> {
        self.event_types.skip(count)?;
        self.payloads.skip(count)?;
        self.metadata.as_mut().map_or(Ok(()), |reader| reader.skip(count))?;
        self.event_ids.as_mut().map_or(Ok(()), |reader| reader.skip(count))
    }

    /// The next event. Must not be called when none remains.
    pub fn read(&mut self) -> Result<StoredEvent<'a>, ArrayError> {
        fn some<T>(element: Option<T>) -> Result<T, ArrayError> {
            element.ok_or(ArrayError::Damaged)
        }
        let present = |reader: &Option<ArrayReader<'_>>| match reader {
            Some(reader) if reader.remaining() == 0 => Err(ArrayError::Damaged),
            _ => Ok(()),
        };
        if self.event_types.remaining() == 0 || self.payloads.remaining() == 0 {
            return Err(ArrayError::Damaged);
        }
        present(&self.metadata)?;
        present(&self.event_ids)?;
        Ok(StoredEvent {
            event_type: some(self.event_types.read_with_header()?)?,
            payload: some(self.payloads.read_with_header()?)?,
            metadata: match &mut self.metadata {
                Some(reader) => reader.read_with_header()?,
                None => None,
            },
            event_id: match &mut self.event_ids {
                Some(reader) => reader.read()?,
                None => None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::run::cut_runs;
    use proptest::prelude::*;

    type Owned = (Vec<u8>, Vec<u8>, Option<Vec<u8>>, Option<[u8; 16]>);

    fn any_event() -> impl Strategy<Value = Owned> {
        (
            prop::collection::vec(any::<u8>(), 1..20),
            prop::collection::vec(any::<u8>(), 0..600),
            prop::option::of(prop::collection::vec(any::<u8>(), 0..30)),
            prop::option::of(any::<[u8; 16]>()),
        )
    }

    fn borrow(event: &Owned) -> NewEvent<'_> {
        NewEvent {
            event_type: &event.0,
            payload: &event.1,
            metadata: event.2.as_deref(),
            event_id: event.3,
        }
    }

    fn body(out: &[u8], start: usize) -> &[u8] {
        let word: [u8; 4] = out[start..start + 4].try_into().unwrap();
        let len = u32::from_ne_bytes(word) >> 2;
        &out[start + 4..start + len as usize]
    }

    proptest! {
        #[test]
        fn cutting_and_joining_gives_the_events_back(
            owned in prop::collection::vec(any_event(), 1..120)
        ) {
            let events: Vec<NewEvent> = owned.iter().map(borrow).collect();
            let mut joined = Vec::new();
            for run in cut_runs(events.iter().map(NewEvent::size_bytes)) {
                let key = RunKey {
                    stream_no: 1,
                    first_version: run.start as i64 + 1,
                    position: 9,
                    timestamp_us: 5,
                };
                let mut out = vec![0; run.start % 9];
                let before = out.len();
                let encoded = encode_run(&mut out, key, events[run.clone()].iter()).unwrap();
                prop_assert!(out.len() - before <= encoded_bytes_max(events[run.clone()].iter()));
                let columns = RunColumns {
                    event_types: body(&out, encoded.event_types),
                    payloads: body(&out, encoded.payloads),
                    metadata: encoded.metadata.map(|at| body(&out, at)),
                    event_ids: encoded.event_ids.map(|at| body(&out, at)),
                };
                prop_assert_eq!(columns.len(), Ok(run.len()));
                prop_assert_eq!(columns.checksum(key), Ok(encoded.checksum));
                let moved = RunKey { position: 10, ..key };
                prop_assert_ne!(columns.checksum(moved), Ok(encoded.checksum));
                let mut readers = columns.readers().unwrap();
                while readers.remaining() > 0 {
                    let event = readers.read().unwrap();
                    joined.push((
                        event.event_type.1.to_vec(),
                        event.payload.1.to_vec(),
                        event.metadata.map(|m| m.1.to_vec()),
                        event.event_id.map(|id| <[u8; 16]>::try_from(id).unwrap()),
                    ));
                }
            }
            prop_assert_eq!(joined, owned);
        }
    }
}
