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
    /// `timestamps`; NULL when all events have the time of the run
    pub timestamps: Option<usize>,
    /// `checksum`
    pub checksum: i32,
}

/// Encodes the columns of a run at the end of `out`. `timestamps_us` are the times of the events if they
/// differ: as many as there are events, the first that of `key`, in microseconds since 2000-01-01
/// 00:00 UTC.
pub fn encode_run<'a>(
    out: &mut Vec<u8>,
    key: RunKey,
    timestamps_us: Option<&[i64]>,
    events: impl ExactSizeIterator<Item = &'a NewEvent<'a>> + Clone,
) -> Result<EncodedRun, OutOfMemory> {
    debug_assert!(timestamps_us.is_none_or(|times| {
        times.len() == events.len() && times.first() == Some(&key.timestamp_us)
    }));
    reserve(out, encoded_bytes_max(timestamps_us, events.clone()))?;
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
        timestamps: timestamps_us.map(|times| encode_times(out, &mut checksum, times)),
        checksum: checksum.finish(),
    })
}

/// No more bytes than this are written for the columns of a run.
fn encoded_bytes_max<'a>(
    timestamps_us: Option<&[i64]>,
    events: impl ExactSizeIterator<Item = &'a NewEvent<'a>>,
) -> usize {
    const PER_EVENT: usize = 3 * array::ELEMENT_OVERHEAD_MAX + size_of::<EventId>();
    let times =
        timestamps_us.map_or(0, |times| array::overhead_max(times.len()) + size_of_val(times));
    let arrays = 4 * array::overhead_max(events.len());
    times + arrays + events.map(|event| event.size_bytes() + PER_EVENT).sum::<usize>()
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

fn encode_times(out: &mut Vec<u8>, checksum: &mut RunChecksum, timestamps_us: &[i64]) -> usize {
    checksum.column(timestamps_us.len());
    for time_us in timestamps_us {
        add_time(checksum, *time_us);
    }
    let elements = timestamps_us.iter().map(|time_us| Some(time_us.to_ne_bytes()));
    write_array(out, ElementType::Timestamptz, elements)
}

fn add_time(checksum: &mut RunChecksum, time_us: i64) {
    checksum.element(Some(&time_us.to_le_bytes()));
}

/// The next of `timestamps`, none of which is NULL.
fn read_time(timestamps: &mut ArrayReader<'_>) -> Result<i64, ArrayError> {
    let element = timestamps.read()?.ok_or(ArrayError::Damaged)?;
    element.try_into().map(i64::from_ne_bytes).map_err(|_| ArrayError::Damaged)
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
    /// `timestamps`
    pub timestamps: Option<&'a [u8]>,
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
        if let Some(body) = self.timestamps {
            let mut reader = ArrayReader::new(body, ElementType::Timestamptz)?;
            checksum.column(reader.remaining());
            while reader.remaining() > 0 {
                add_time(&mut checksum, read_time(&mut reader)?);
            }
        }
        Ok(checksum.finish())
    }

    /// Readers over the columns, in step with each other. Columns that differ in length are
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
            timestamps: optional(self.timestamps, ElementType::Timestamptz)?,
        };
        let len = readers.event_types.remaining();
        let is_as_long = |reader: &ArrayReader<'_>| reader.remaining() == len;
        let is_whole = len > 0
            && is_as_long(&readers.payloads)
            && readers.metadata.as_ref().is_none_or(is_as_long)
            && readers.event_ids.as_ref().is_none_or(is_as_long)
            && readers.timestamps.as_ref().is_none_or(is_as_long);
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
    /// its time; `None`: that of the run
    pub timestamp_us: Option<i64>,
}

/// Walks over the events of a run.
#[derive(Clone, Copy, Debug)]
pub struct RunReaders<'a> {
    event_types: ArrayReader<'a>,
    payloads: ArrayReader<'a>,
    metadata: Option<ArrayReader<'a>>,
    event_ids: Option<ArrayReader<'a>>,
    timestamps: Option<ArrayReader<'a>>,
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
        self.event_ids.as_mut().map_or(Ok(()), |reader| reader.skip(count))?;
        self.timestamps.as_mut().map_or(Ok(()), |reader| reader.skip(count))
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
        present(&self.timestamps)?;
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
            timestamp_us: self.timestamps.as_mut().map(read_time).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event_times::EventTimes;
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
            (owned, times_us) in prop::collection::vec(any_event(), 1..120).prop_flat_map(|owned| {
                let times_us = prop::collection::vec(prop_oneof![Just(5), any::<i64>()], owned.len());
                (Just(owned), times_us)
            }),
            has_times in any::<bool>(),
        ) {
            let events: Vec<NewEvent> = owned.iter().map(borrow).collect();
            let times = if has_times { EventTimes::Each(&times_us) } else { EventTimes::Same(5) };
            let mut joined = Vec::new();
            let mut joined_times = Vec::new();
            for run in cut_runs(events.iter().map(NewEvent::size_bytes)) {
                let (timestamp_us, timestamps_us) = times.of_run(run.clone());
                let key = RunKey {
                    stream_no: 1,
                    first_version: run.start as i64 + 1,
                    position: 9,
                    timestamp_us,
                };
                let mut out = vec![0; run.start % 9];
                let before = out.len();
                let of_run = events[run.clone()].iter();
                let bytes_max = encoded_bytes_max(timestamps_us, of_run.clone());
                let encoded = encode_run(&mut out, key, timestamps_us, of_run).unwrap();
                prop_assert!(out.len() - before <= bytes_max);
                let columns = RunColumns {
                    event_types: body(&out, encoded.event_types),
                    payloads: body(&out, encoded.payloads),
                    metadata: encoded.metadata.map(|at| body(&out, at)),
                    event_ids: encoded.event_ids.map(|at| body(&out, at)),
                    timestamps: encoded.timestamps.map(|at| body(&out, at)),
                };
                prop_assert_eq!(columns.len(), Ok(run.len()));
                prop_assert_eq!(columns.checksum(key), Ok(encoded.checksum));
                let moved = RunKey { position: 10, ..key };
                prop_assert_ne!(columns.checksum(moved), Ok(encoded.checksum));
                if columns.timestamps.is_some() {
                    let without = RunColumns { timestamps: None, ..columns };
                    prop_assert_ne!(without.checksum(key), Ok(encoded.checksum));
                }
                let mut readers = columns.readers().unwrap();
                while readers.remaining() > 0 {
                    let event = readers.read().unwrap();
                    joined.push((
                        event.event_type.1.to_vec(),
                        event.payload.1.to_vec(),
                        event.metadata.map(|m| m.1.to_vec()),
                        event.event_id.map(|id| <[u8; 16]>::try_from(id).unwrap()),
                    ));
                    joined_times.push(event.timestamp_us.unwrap_or(timestamp_us));
                }
            }
            let given = if has_times { times_us } else { vec![5; events.len()] };
            prop_assert_eq!(joined, owned);
            prop_assert_eq!(joined_times, given);
        }
    }

    const KEY: RunKey = RunKey { stream_no: 1, first_version: 2, position: 3, timestamp_us: 4 };

    fn three_events() -> [NewEvent<'static>; 3] {
        [NewEvent { event_type: b"t", payload: b"p", metadata: None, event_id: None }; 3]
    }

    #[test]
    fn the_checksum_without_times_is_what_it_always_was() {
        let mut out = Vec::new();
        let encoded = encode_run(&mut out, KEY, None, three_events().iter()).unwrap();
        let mut bytes = [1i64, 2, 3, 4].map(i64::to_le_bytes).concat();
        for element in [&b"t"[..], b"p"] {
            bytes.extend_from_slice(&3u32.to_le_bytes());
            for _ in 0..3 {
                bytes.extend_from_slice(&1u32.to_le_bytes());
                bytes.extend_from_slice(element);
            }
        }
        bytes.extend_from_slice(&[0; 8]); // neither metadata nor event ids
        assert_eq!(encoded.checksum, crc32c::crc32c(&bytes).cast_signed());
    }

    #[test]
    fn times_that_do_not_fit_the_run_are_damage() {
        let array = |element_type, elements: &[Option<i64>]| {
            let mut out = Vec::new();
            let elements = elements.iter().map(|time_us| time_us.map(i64::to_ne_bytes));
            write_array(&mut out, element_type, elements);
            out.split_off(4)
        };
        let mut out = Vec::new();
        let encoded = encode_run(&mut out, KEY, None, three_events().iter()).unwrap();
        let with = |timestamps: &[u8]| {
            let columns = RunColumns {
                event_types: body(&out, encoded.event_types),
                payloads: body(&out, encoded.payloads),
                metadata: None,
                event_ids: None,
                timestamps: Some(timestamps),
            };
            let times = columns.readers().and_then(|mut readers| {
                (0..3).map(|_| readers.read().map(|event| event.timestamp_us)).collect()
            });
            (times, columns.checksum(KEY).err())
        };
        let times = [Some(4), Some(i64::MAX), Some(-1)];
        let whole = array(ElementType::Timestamptz, &times);
        assert_eq!(with(&whole), (Ok(times.to_vec()), None));
        let damaged = Err(ArrayError::Damaged);
        for len in [0, 2] {
            // `es_verify` compares the lengths.
            let short = array(ElementType::Timestamptz, &times[..len]);
            assert_eq!(with(&short), (damaged.clone(), None));
        }
        let long = array(ElementType::Timestamptz, &[times[0]; 4]);
        assert_eq!(with(&long), (damaged.clone(), None));
        let with_null = array(ElementType::Timestamptz, &[Some(4), None, Some(5)]);
        assert_eq!(with(&with_null), (damaged.clone(), Some(ArrayError::Damaged)));
        let cut_off = &whole[..whole.len() - 1];
        assert_eq!(with(cut_off), (damaged, Some(ArrayError::Damaged)));
        let other_type = array(ElementType::Int8, &times);
        let error = ArrayError::ElementType(ElementType::Int8 as u32);
        assert_eq!(with(&other_type), (Err(error), Some(error)));
        let mut square = whole;
        square[0..4].copy_from_slice(&2i32.to_ne_bytes());
        let error = ArrayError::Dimensions(2);
        assert_eq!(with(&square), (Err(error), Some(error)));
    }
}
