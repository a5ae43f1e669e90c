//! A piece of a stream's tail: events of one stream from one or several batches, in their order, as the
//! sidecar stores them and hands them to a backend.
//!
//! ```text
//! for each batch:
//!   batch number           varint
//!   number of events       varint
//!   bytes of the events    varint
//!   the events, each:
//!     place                varint   its number in the batch
//!     enqueued at          varint   microseconds since 2000-01-01, folded
//!     bytes of event_type  varint
//!     bytes of payload     varint
//!     bytes of metadata    varint   0: no metadata; otherwise one more than they are
//!     event_type, payload, metadata
//! ```
//!
//! A varint is as [`super::varint`] has it. The bytes live in the sidecar, whose stamp has a version, and
//! in shared memory.

use super::hot_batch::HotEvent;
use super::varint;
use crate::model::event::NewEvent;
use crate::model::memory::{OutOfMemory, reserve};

/// Numbers of an event.
const EVENT_OVERHEAD_MAX: usize = 5 * varint::VARINT_BYTES_MAX;
/// Numbers of a batch.
const BATCH_OVERHEAD_MAX: usize = 3 * varint::VARINT_BYTES_MAX;

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
    /// when it was enqueued, in microseconds since 2000-01-01
    pub enqueued_at_us: i64,
    /// the bytes that it takes here
    pub size_bytes: usize,
}

/// Appends an event, without its batch.
pub fn write_event(out: &mut Vec<u8>, hot: &HotEvent<'_>) -> Result<(), OutOfMemory> {
    let event = &hot.event;
    reserve(out, EVENT_OVERHEAD_MAX + event.size_bytes())?;
    varint::write(out, u64::from(hot.place));
    varint::write(out, varint::folded(hot.enqueued_at_us));
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
    len: usize,
    events: &[u8],
) -> Result<(), OutOfMemory> {
    reserve(out, BATCH_OVERHEAD_MAX + events.len())?;
    varint::write(out, batch_no.cast_unsigned());
    varint::write_len(out, len);
    varint::write_len(out, events.len());
    out.extend_from_slice(events);
    Ok(())
}

/// Takes an event of this batch from the front of `bytes`.
pub fn read_event<'a>(batch_no: i64, bytes: &mut &'a [u8]) -> Result<TailEvent<'a>, DamagedTail> {
    let before = bytes.len();
    let mut read = || {
        let place = u32::try_from(varint::read(bytes)?).ok()?;
        let enqueued_at_us = varint::unfolded(varint::read(bytes)?);
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
        Some(TailEvent { batch_no, place, event, enqueued_at_us, size_bytes: 0 })
    };
    let event = read().ok_or(DamagedTail)?;
    Ok(TailEvent { size_bytes: before - bytes.len(), ..event })
}

/// Walks over the events of a piece.
#[derive(Clone, Copy, Debug)]
pub struct TailReader<'a> {
    rest: &'a [u8],
    /// of the batch that is being read
    events: &'a [u8],
    batch_no: i64,
    len: usize,
}

impl<'a> TailReader<'a> {
    /// Begins to read a piece.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, events: &[], batch_no: 0, len: 0 }
    }

    fn read(&mut self) -> Option<TailEvent<'a>> {
        if self.len == 0 {
            self.batch_no = varint::read(&mut self.rest)?.cast_signed();
            self.len = varint::read_len(&mut self.rest)?;
            let bytes = varint::read_len(&mut self.rest)?;
            self.events = varint::take(&mut self.rest, bytes)?;
        }
        self.len = self.len.checked_sub(1)?;
        let event = read_event(self.batch_no, &mut self.events).ok()?;
        (self.len > 0 || self.events.is_empty()).then_some(event)
    }
}

impl<'a> Iterator for TailReader<'a> {
    type Item = Result<TailEvent<'a>, DamagedTail>;

    /// The next event. After an error there is none.
    fn next(&mut self) -> Option<Self::Item> {
        if self.len == 0 && self.rest.is_empty() {
            return None;
        }
        let event = self.read();
        if event.is_none() {
            (self.rest, self.len) = (&[], 0);
        }
        Some(event.ok_or(DamagedTail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::batch::StreamKey;
    use proptest::prelude::*;

    type Owned = (u32, Vec<u8>, Vec<u8>, Option<Vec<u8>>, i64);

    fn any_batches() -> impl Strategy<Value = Vec<(i64, Vec<Owned>)>> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..60);
        let event = (any::<u32>(), bytes(), bytes(), prop::option::of(bytes()), any::<i64>());
        prop::collection::vec((any::<i64>(), prop::collection::vec(event, 1..6)), 0..5)
    }

    fn borrow(owned: &Owned) -> NewEvent<'_> {
        NewEvent {
            event_type: &owned.1,
            payload: &owned.2,
            metadata: owned.3.as_deref(),
            event_id: None,
        }
    }

    fn write(batches: &[(i64, Vec<Owned>)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (batch_no, owned) in batches {
            let mut events = Vec::new();
            for event in owned {
                let hot = HotEvent {
                    place: event.0,
                    stream: StreamKey { stream_id: b"", tenant_id: b"" },
                    event: borrow(event),
                    enqueued_at_us: event.4,
                };
                write_event(&mut events, &hot).unwrap();
            }
            write_batch(&mut out, *batch_no, owned.len(), &events).unwrap();
        }
        out
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(batches in any_batches()) {
            let bytes = write(&batches);
            let mut read = TailReader::new(&bytes);
            for (batch_no, owned) in &batches {
                for event in owned {
                    let found = read.next().unwrap().unwrap();
                    prop_assert_eq!((found.batch_no, found.place), (*batch_no, event.0));
                    prop_assert_eq!((found.event, found.enqueued_at_us), (borrow(event), event.4));
                }
            }
            prop_assert!(read.next().is_none());
        }

        #[test]
        fn damaged_bytes_end(
            batches in any_batches(), at: prop::sample::Index, byte: u8, cut in any::<bool>()
        ) {
            let mut bytes = write(&batches);
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
                bytes.truncate(if cut { at } else { bytes.len() });
            }
            let len = bytes.len();
            prop_assert!(TailReader::new(&bytes).count() <= len);
        }
    }
}
