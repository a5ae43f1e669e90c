//! The streams of a pass with their tails, in the order in which streams are locked: batches of the table,
//! grouped and sorted in memory.

use crate::codec::hot_batch::HotEvent;
use crate::codec::hot_tail;
use crate::drain::failure::Failure;
use crate::model::batch::{Plan, StreamKey};
use crate::model::event::NewEvent;
use crate::model::memory::{collect, copied, push, reserve, with_room};
use crate::model::partition::Partition;
use crate::pg::error::Error;
use crate::pg::hot::batches::{Batches, StoredBatch};
use crate::pg::hot::tail::Tail;
use crate::pg::session::xact::with_snapshot_of_now;
use crate::pg::settings;
use std::ops::Range;
use std::rc::Rc;

/// Streams and bytes of a page.
const PAGE_STREAMS: usize = 5_000;
const PAGE_BYTES: usize = 4 << 20;

/// What is kept of an event besides its bytes.
const EVENT_BYTES: usize = size_of::<Event>() + 2 * size_of::<u32>();

/// The name of a stream, in the order in which streams are locked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamName {
    /// its name
    pub stream_id: Vec<u8>,
    /// its tenant
    pub tenant_id: Vec<u8>,
}

impl StreamName {
    /// The same, borrowed.
    pub fn key(&self) -> StreamKey<'_> {
        StreamKey { stream_id: &self.stream_id, tenant_id: &self.tenant_id }
    }
}

/// A stream with its tail.
#[derive(Clone, Debug)]
pub struct StreamTail {
    /// the stream
    pub name: StreamName,
    /// its events
    pub tail: Rc<Tail>,
}

/// A batch that was read.
#[derive(Debug)]
struct Batch {
    number: i64,
    timestamp_us: i64,
    body: Vec<u8>,
}

/// Where the parts of an event are in the body of its batch.
#[derive(Clone, Debug)]
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

impl Event {
    /// No less than it takes in a piece, nearly always.
    fn size_bytes(&self) -> usize {
        const OVERHEAD_BYTES: usize = 32;
        let parts = [Some(&self.event_type), Some(&self.payload), self.metadata.as_ref()];
        OVERHEAD_BYTES + parts.into_iter().flatten().map(|part| part.len()).sum::<usize>()
    }
}

/// The part of a body.
fn bytes<'b>(body: &'b [u8], part: &Range<u32>) -> &'b [u8] {
    &body[part.start as usize..part.end as usize]
}

/// Streams of a pass that are still to be settled.
#[derive(Debug, Default)]
pub struct Source {
    batches: Vec<Batch>,
    events: Vec<Event>,
    /// indexes of `events`, stream by stream
    order: Vec<u32>,
    /// where each stream's events are in `order`
    streams: std::vec::IntoIter<Range<u32>>,
    /// whether there were more batches
    is_cut: bool,
}

impl Source {
    /// Reads the batches of a partition after `after`: as many as there is memory for. `None` if there is
    /// none. Called in a transaction.
    pub fn read(partition: Partition, after: i64) -> Result<Option<Self>, Error> {
        let mut source = Self::default();
        let bytes_max = settings::maintenance_bytes();
        let mut bytes = 0;
        with_snapshot_of_now(|snapshot| {
            Batches::open(partition, snapshot)?.read(after, i64::MAX, |batch| {
                if bytes >= bytes_max {
                    source.is_cut = true;
                    return Ok(false);
                }
                source.add(&batch)?;
                bytes += batch.body.len() + batch.len.max(0) as usize * EVENT_BYTES;
                Ok(true)
            })
        })?;
        if source.batches.is_empty() {
            return Ok(None);
        }
        source.arrange()?;
        Ok(Some(source))
    }

    fn add(&mut self, batch: &StoredBatch<'_>) -> Result<(), Error> {
        let events = batch.events()?;
        let number = self.batches.len();
        reserve(&mut self.events, events.remaining())?;
        let timestamp_us = events.timestamp_us();
        for event in events {
            let event = event.map_err(|source| batch.damaged(source))?;
            self.events.push(Event::of(number, batch.body, &event));
        }
        let body = copied(batch.body)?;
        push(&mut self.batches, Batch { number: batch.batch_no, timestamp_us, body })?;
        Ok(())
    }

    fn arrange(&mut self) -> Result<(), Error> {
        let plan = Plan::new(self.events.iter().map(|event| self.key(event)))?;
        let indexes: Vec<u32> = collect(0..self.events.len() as u32)?;
        let (ranges, order) = plan.in_lock_order(&indexes)?;
        let range = |(_, range): (usize, Range<usize>)| range.start as u32..range.end as u32;
        self.streams = collect(ranges.into_iter().map(range))?.into_iter();
        self.order = order;
        Ok(())
    }

    fn key(&self, event: &Event) -> StreamKey<'_> {
        let body = &self.batches[event.batch as usize].body;
        let (stream_id, tenant_id) = (bytes(body, &event.stream_id), bytes(body, &event.tenant_id));
        StreamKey { stream_id, tenant_id }
    }

    /// Whether there was no batch behind those that were read.
    pub fn is_last(&self) -> bool {
        !self.is_cut
    }

    /// The last batch of the pass.
    pub fn up_to(&self) -> i64 {
        self.batches.last().map_or(0, |batch| batch.number)
    }

    /// The next streams; none at the end.
    pub fn next_page(&mut self) -> Result<Vec<StreamTail>, Failure> {
        self.try_next_page().map_err(|error| error.to_failure())
    }

    fn try_next_page(&mut self) -> Result<Vec<StreamTail>, Error> {
        let mut page = with_room(PAGE_STREAMS.min(self.streams.len()))?;
        let mut bytes = 0;
        let mut one = Vec::new();
        while page.len() < PAGE_STREAMS && bytes < PAGE_BYTES {
            let Some(range) = self.streams.next() else { break };
            let indexes = &self.order[range.start as usize..range.end as usize];
            let sizes = indexes.iter().map(|index| self.events[*index as usize].size_bytes());
            let mut pieces = with_room(sizes.sum())?;
            for of_batch in indexes.chunk_by(|a, b| self.batch_of(*a) == self.batch_of(*b)) {
                one.clear();
                for index in of_batch {
                    hot_tail::write_event(&mut one, &self.event(*index))?;
                }
                let batch = &self.batches[self.batch_of(of_batch[0])];
                let len = of_batch.len();
                hot_tail::write_batch(&mut pieces, batch.number, batch.timestamp_us, len, &one)?;
            }
            bytes += pieces.len();
            let StreamKey { stream_id, tenant_id } = self.key(&self.events[indexes[0] as usize]);
            let name = StreamName { stream_id: copied(stream_id)?, tenant_id: copied(tenant_id)? };
            page.push(StreamTail { name, tail: Rc::new(Tail::new(pieces, self.up_to())?) });
        }
        Ok(page)
    }

    fn batch_of(&self, index: u32) -> usize {
        self.events[index as usize].batch as usize
    }

    fn event(&self, index: u32) -> HotEvent<'_> {
        let event = &self.events[index as usize];
        let batch = &self.batches[event.batch as usize];
        let part = |part: &Range<u32>| bytes(&batch.body, part);
        HotEvent {
            place: event.place,
            stream: self.key(event),
            event: NewEvent {
                event_type: part(&event.event_type),
                payload: part(&event.payload),
                metadata: event.metadata.as_ref().map(part),
                event_id: None,
            },
            timestamp_us: batch.timestamp_us,
        }
    }
}
