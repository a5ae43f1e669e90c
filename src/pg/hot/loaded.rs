//! Batches that were read into memory, and the events in them, grouped by stream.

use super::batches::StoredBatch;
use crate::codec::hot_batch::HotEvent;
use crate::codec::hot_tail::TailEvent;
use crate::model::batch::{Plan, StreamKey};
use crate::model::event::NewEvent;
use crate::model::memory::{OutOfMemory, collect, copied, push, reserve};
use crate::pg::error::Error;
use std::ops::Range;

#[derive(Debug)]
struct Batch {
    number: i64,
    timestamp_us: i64,
    body: Vec<u8>,
}

impl Batch {
    fn part(&self, part: &Range<u32>) -> &[u8] {
        &self.body[part.start as usize..part.end as usize]
    }
}

/// Where the parts of an event are in the body of its batch.
#[derive(Debug)]
struct Event {
    batch: u32,
    place: u32,
    stream_id: Range<u32>,
    tenant_id: Range<u32>,
    event_type: Range<u32>,
    payload: Range<u32>,
    metadata: Option<Range<u32>>,
}

impl Event {
    fn of(batch: usize, body: &[u8], event: &HotEvent<'_>) -> Self {
        let part = |bytes: &[u8]| {
            let start = bytes.as_ptr().addr() - body.as_ptr().addr();
            start as u32..(start + bytes.len()) as u32
        };
        Self {
            batch: batch as u32,
            place: event.place,
            stream_id: part(event.stream.stream_id),
            tenant_id: part(event.stream.tenant_id),
            event_type: part(event.event.event_type),
            payload: part(event.event.payload),
            metadata: event.event.metadata.map(part),
        }
    }
}

/// Batches of one partition.
#[derive(Debug, Default)]
pub struct LoadedBatches {
    batches: Vec<Batch>,
    events: Vec<Event>,
    /// indexes of `events`, stream by stream
    order: Vec<u32>,
}

/// The events of one stream: where they are in the order of [`LoadedBatches::arrange`].
pub type OfStream = Range<u32>;

impl LoadedBatches {
    /// What is kept of an event besides its bytes.
    pub const EVENT_BYTES: usize = size_of::<Event>() + 2 * size_of::<u32>();

    /// Adds a batch, whose number is above those before.
    pub fn add(&mut self, batch: &StoredBatch<'_>) -> Result<(), Error> {
        let events = batch.events()?;
        let number = self.batches.len();
        reserve(&mut self.events, events.remaining())?;
        let timestamp_us = events.timestamp_us();
        for event in events {
            let event = event.map_err(|source| batch.damaged(source))?;
            self.events.push(Event::of(number, batch.body(), &event));
        }
        let body = copied(batch.body())?;
        push(&mut self.batches, Batch { number: batch.batch_no, timestamp_us, body })?;
        Ok(())
    }

    /// Groups the events by stream. Returns the streams in the order in which they are locked.
    pub fn arrange(&mut self) -> Result<Vec<OfStream>, OutOfMemory> {
        let plan = Plan::new(self.events.iter().map(|event| self.key(event)))?;
        let indexes: Vec<u32> = collect(0..self.events.len() as u32)?;
        let (ranges, order) = plan.in_lock_order(&indexes)?;
        let streams = collect(ranges.into_iter().map(|(_, range)| to_u32(range)))?;
        self.order = order;
        Ok(streams)
    }

    /// The number of the last batch; `None` if there is none.
    pub fn last_batch(&self) -> Option<i64> {
        self.batches.last().map(|batch| batch.number)
    }

    /// The name of a stream.
    pub fn name(&self, stream: &OfStream) -> StreamKey<'_> {
        self.key(&self.events[self.indexes(stream)[0] as usize])
    }

    /// The events of a stream, in their order.
    pub fn events_of(&self, stream: &OfStream) -> impl Iterator<Item = TailEvent<'_>> {
        self.indexes(stream).iter().map(|index| self.event(*index))
    }

    fn indexes(&self, stream: &OfStream) -> &[u32] {
        &self.order[stream.start as usize..stream.end as usize]
    }

    fn key(&self, event: &Event) -> StreamKey<'_> {
        let batch = &self.batches[event.batch as usize];
        StreamKey {
            stream_id: batch.part(&event.stream_id),
            tenant_id: batch.part(&event.tenant_id),
        }
    }

    fn event(&self, index: u32) -> TailEvent<'_> {
        let event = &self.events[index as usize];
        let batch = &self.batches[event.batch as usize];
        TailEvent {
            batch_no: batch.number,
            place: event.place,
            event: NewEvent {
                event_type: batch.part(&event.event_type),
                payload: batch.part(&event.payload),
                metadata: event.metadata.as_ref().map(|metadata| batch.part(metadata)),
                event_id: None,
            },
            timestamp_us: batch.timestamp_us,
        }
    }
}

fn to_u32(range: Range<usize>) -> OfStream {
    range.start as u32..range.end as u32
}
