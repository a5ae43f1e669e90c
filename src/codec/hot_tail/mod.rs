//! A piece of a stream's tail: events of one stream from one or several batches, in their order, as the
//! sidecar stores them and hands them to a backend, and as they wait to be settled.
//!
//! ```text
//! for each batch:
//!   batch number           varint
//!   written at             i64      microseconds since 2000-01-01, little-endian: the time of the events
//!   number of events       varint
//!   bytes of the events    varint
//!   the events, each:
//!     place                varint   its number in the batch
//!     bytes of event_type  varint
//!     bytes of payload     varint
//!     bytes of metadata    varint   0: no metadata; otherwise one more than they are
//!     event_type, payload, metadata
//! ```
//!
//! A varint is as [`super::varint`] has it. The bytes live in the sidecar, whose stamp has a version, and
//! in memory.

#[cfg(test)]
mod tests;

use super::hot_batch::HotEvent;
use super::varint;
use crate::model::event::NewEvent;
use crate::model::memory::{OutOfMemory, reserve};

/// Numbers of an event.
const EVENT_OVERHEAD_MAX: usize = 4 * varint::VARINT_BYTES_MAX;
/// Numbers of a batch, at most.
pub const BATCH_OVERHEAD_MAX: usize = size_of::<i64>() + 3 * varint::VARINT_BYTES_MAX;

/// The bytes cannot be taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tail of a stream is damaged")]
pub struct DamagedTail;

/// An event of a tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailEvent<'a> {
    /// number of its batch
    pub batch_no: i64,
    /// its number in the batch
    pub place: u32,
    /// the event; it has no id
    pub event: NewEvent<'a>,
    /// its time, which is that of its batch, in microseconds since 2000-01-01
    pub timestamp_us: i64,
}

/// Appends an event, without its batch.
pub fn write_event(out: &mut Vec<u8>, hot: &HotEvent<'_>) -> Result<(), OutOfMemory> {
    let event = &hot.event;
    reserve(out, EVENT_OVERHEAD_MAX + event.size_bytes())?;
    varint::write(out, u64::from(hot.place));
    varint::write_len(out, event.event_type.len());
    varint::write_len(out, event.payload.len());
    varint::write_len(out, event.metadata.map_or(0, |metadata| metadata.len() + 1));
    out.extend_from_slice(event.event_type);
    out.extend_from_slice(event.payload);
    out.extend_from_slice(event.metadata.unwrap_or_default());
    Ok(())
}

/// Appends a batch with its events, which [`write_event`] has written.
pub fn write_batch(
    out: &mut Vec<u8>,
    batch_no: i64,
    timestamp_us: i64,
    len: usize,
    events: &[u8],
) -> Result<(), OutOfMemory> {
    reserve(out, BATCH_OVERHEAD_MAX + events.len())?;
    varint::write(out, batch_no.cast_unsigned());
    out.extend_from_slice(&timestamp_us.to_le_bytes());
    varint::write_len(out, len);
    varint::write_len(out, events.len());
    out.extend_from_slice(events);
    Ok(())
}

/// Consecutive events of one batch in a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// number of the batch
    pub batch_no: i64,
    /// its time
    pub timestamp_us: i64,
    /// how many events
    pub len: usize,
    /// their bytes, as [`write_batch`] takes them
    pub events: &'a [u8],
    /// place of the last one; the highest number, if nothing of the batch comes after it
    pub last_place: u32,
}

/// Appends a part, as a batch of its own.
pub fn write_part(out: &mut Vec<u8>, part: &Part<'_>) -> Result<(), OutOfMemory> {
    write_batch(out, part.batch_no, part.timestamp_us, part.len, part.events)
}

impl Part<'_> {
    /// Whether nothing of the batch comes after it.
    pub fn is_last(&self) -> bool {
        self.last_place == u32::MAX
    }
}

/// Events of a piece of one batch: those after a place, and as many of them as have `bytes_max` bytes.
pub fn part(piece: &[u8], after: Option<u32>, bytes_max: usize) -> Result<Part<'_>, DamagedTail> {
    let Batch { batch_no, timestamp_us, len, events } =
        Batch::read(&mut &piece[..]).ok_or(DamagedTail)?;
    let part = |len, events, last_place| Part { batch_no, timestamp_us, len, events, last_place };
    if after.is_none() && events.len() <= bytes_max {
        return Ok(part(len, events, u32::MAX));
    }
    let (mut start, mut end, mut taken) = (0, 0, 0);
    let mut last_place = after.unwrap_or(0);
    for _ in 0..len {
        let rest = &mut events.get(end..).ok_or(DamagedTail)?;
        let (event, bytes) = read_event(batch_no, timestamp_us, rest)?;
        if after.is_some_and(|after| event.place <= after) {
            start = end + bytes;
        } else if end + bytes - start > bytes_max {
            return Ok(part(taken, &events[start..end], last_place));
        } else {
            taken += 1;
            last_place = event.place;
        }
        end += bytes;
    }
    Ok(part(taken, &events[start..end], u32::MAX))
}

/// The first event after a place, however large it is.
pub fn first(piece: &[u8], after: Option<u32>) -> Result<Part<'_>, DamagedTail> {
    let mut reader = TailReader::new(piece);
    while let Some(event) = reader.next_sized() {
        let (event, bytes) = event?;
        if after.is_none_or(|after| event.place > after) {
            return part(piece, after, bytes);
        }
    }
    part(piece, after, 0)
}

/// How many events a piece of one batch has.
pub fn batch_len(piece: &[u8]) -> Result<usize, DamagedTail> {
    Batch::read(&mut &piece[..]).map(|batch| batch.len).ok_or(DamagedTail)
}

/// A batch that is being read.
#[derive(Clone, Copy, Debug, Default)]
struct Batch<'a> {
    batch_no: i64,
    timestamp_us: i64,
    /// events that are still to come
    len: usize,
    events: &'a [u8],
}

impl<'a> Batch<'a> {
    fn read(rest: &mut &'a [u8]) -> Option<Self> {
        let batch_no = varint::read(rest)?.cast_signed();
        let (timestamp_us, after) = rest.split_first_chunk()?;
        *rest = after;
        let timestamp_us = i64::from_le_bytes(*timestamp_us);
        let len = varint::read_len(rest)?;
        let bytes = varint::read_len(rest)?;
        Some(Self { batch_no, timestamp_us, len, events: varint::take(rest, bytes)? })
    }
}

/// Takes an event of this batch from the front of `bytes`. Returns how many bytes it takes, too.
fn read_event<'a>(
    batch_no: i64,
    timestamp_us: i64,
    bytes: &mut &'a [u8],
) -> Result<(TailEvent<'a>, usize), DamagedTail> {
    let before = bytes.len();
    let mut read = || {
        let place = u32::try_from(varint::read(bytes)?).ok()?;
        let event_type = varint::read_len(bytes)?;
        let payload = varint::read_len(bytes)?;
        let metadata = varint::read_len(bytes)?;
        let event_type = varint::take(bytes, event_type)?;
        let payload = varint::take(bytes, payload)?;
        let metadata = match metadata.checked_sub(1) {
            Some(len) => Some(varint::take(bytes, len)?),
            None => None,
        };
        let event = NewEvent { event_type, payload, metadata, event_id: None };
        Some(TailEvent { batch_no, place, event, timestamp_us })
    };
    let event = read().ok_or(DamagedTail)?;
    Ok((event, before - bytes.len()))
}

/// Walks over the events of a piece.
#[derive(Clone, Copy, Debug)]
pub struct TailReader<'a> {
    rest: &'a [u8],
    batch: Batch<'a>,
}

impl<'a> TailReader<'a> {
    /// Begins to read a piece.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, batch: Batch::default() }
    }

    fn read(&mut self) -> Option<(TailEvent<'a>, usize)> {
        if self.batch.len == 0 {
            self.batch = Batch::read(&mut self.rest)?;
        }
        let batch = &mut self.batch;
        batch.len = batch.len.checked_sub(1)?;
        let event = read_event(batch.batch_no, batch.timestamp_us, &mut batch.events).ok()?;
        (batch.len > 0 || batch.events.is_empty()).then_some(event)
    }

    /// The next event, and how many bytes it takes.
    fn next_sized(&mut self) -> Option<Result<(TailEvent<'a>, usize), DamagedTail>> {
        if self.batch.len == 0 && self.rest.is_empty() {
            return None;
        }
        let event = self.read();
        if event.is_none() {
            *self = Self::new(&[]);
        }
        Some(event.ok_or(DamagedTail))
    }
}

impl<'a> Iterator for TailReader<'a> {
    type Item = Result<TailEvent<'a>, DamagedTail>;

    /// The next event. After an error there is none.
    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_sized()?.map(|(event, _)| event))
    }
}
