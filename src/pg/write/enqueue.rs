//! Handing events over to the workers.

use super::flush::{HandedOver, check_can_wait};
use crate::codec::record::{Home, Record};
use crate::model::event::NewEvent;
use crate::model::partition::{PARTITIONS, Partition};
use crate::pg::error::Error;
use crate::pg::queue::waiters::{Awaited, Waited};
use crate::pg::queue::{Queue, Queues};
use crate::pg::session::xact::{check_writable, database_oid, now_us};
use crate::pg::settings;
use crate::pg::shared::counting;
use crate::pg::tables::relation::{Sequence, sequence_oid};
use crate::pg::tables::rights::check_writer;
use crate::queue::PushError;
use std::time::Instant;

/// After this many events a worker that sleeps is woken, though the call has more to hand over.
const EVENTS_PER_WAKE: u64 = 64;

/// An event to be enqueued.
#[derive(Clone, Copy)]
pub struct Enqueued<'a> {
    /// the stream
    pub stream_id: &'a [u8],
    /// its tenant
    pub tenant_id: &'a [u8],
    /// the entity, where one is given
    pub entity_id: Option<&'a [u8]>,
    /// the event
    pub event: NewEvent<'a>,
}

/// Hands events over, in their order, and wakes the workers. With `durable`, returns when all are
/// durable. An error after events were handed over says how many: it does not take them back.
pub fn enqueue(events: &[Enqueued<'_>], durable: bool) -> Result<(), Error> {
    check_writable()?;
    check_writer()?;
    let queues = Queues::of_this_database()?;
    if durable {
        check_can_wait()?;
    }
    let incarnation = sequence_oid(Sequence::Position)?.to_u32();
    let home = Home { database: database_oid(), incarnation };
    let mut producer = Producer::new(queues, home);
    // Nothing is handed over where something is wrong.
    let limit_bytes = queues.queue(0).ring.record_bytes_max();
    for (index, event) in events.iter().enumerate() {
        let size_bytes = producer.record(event).size_bytes();
        if size_bytes > limit_bytes {
            return Err(Error::RecordTooLarge { number: index + 1, size_bytes, limit_bytes });
        }
    }
    let mut handed_over = durable.then(|| HandedOver::new(queues, home));
    for (index, event) in events.iter().enumerate() {
        let pushed = producer.push(event);
        if pushed.is_err() {
            producer.announce();
        }
        let (queue, position) = pushed.map_err(|error| match error {
            Refusal::Full { paused, has_worker } => {
                for event in &events[index..] {
                    queues.of_partition(Partition::of(event.stream_id)).rejected(1);
                }
                counting::rejected((events.len() - index) as u64);
                Error::QueueFull { accepted: index, events: events.len(), paused, has_worker }
            }
            Refusal::TooLarge { size_bytes, limit_bytes } => {
                Error::RecordTooLarge { number: index + 1, size_bytes, limit_bytes }
            }
        })?;
        if let Some(handed_over) = &mut handed_over {
            handed_over.add(queue, position);
        }
    }
    producer.announce();
    handed_over.map_or(Ok(()), |handed_over| handed_over.wait_until_settled(events.len()))
}

enum Refusal {
    Full { paused: bool, has_worker: bool },
    TooLarge { size_bytes: usize, limit_bytes: usize },
}

/// What one call hands over.
struct Producer {
    queues: Queues,
    home: Home,
    now_us: i64,
    /// Events of each queue that its worker was not told of.
    unannounced: [u64; PARTITIONS],
    /// When the call's patience ends; set by its first wait.
    deadline: Option<Instant>,
}

impl Producer {
    fn new(queues: Queues, home: Home) -> Self {
        let unannounced = [0; PARTITIONS];
        Self { queues, home, now_us: now_us(), unannounced, deadline: None }
    }

    fn record<'a>(&self, event: &Enqueued<'a>) -> Record<'a> {
        Record {
            enqueued_at_us: self.now_us,
            home: self.home,
            stream_id: event.stream_id,
            tenant_id: event.tenant_id,
            entity_id: event.entity_id,
            event: event.event,
        }
    }

    /// Hands an event over; returns its queue and where it ends there.
    fn push(&mut self, event: &Enqueued<'_>) -> Result<(usize, u64), Refusal> {
        let queue = self.queues.of_partition(Partition::of(event.stream_id));
        let record = self.record(event);
        let header = record.header();
        let parts = record.parts(&header);
        let position = match queue.ring.try_push(&parts) {
            Ok(position) => position,
            Err(PushError::TooLarge { record_bytes, limit_bytes }) => {
                return Err(Refusal::TooLarge { size_bytes: record_bytes, limit_bytes });
            }
            Err(PushError::Full) => self.push_with_patience(queue, &parts)?,
        };
        let unannounced = &mut self.unannounced[queue.index];
        *unannounced += 1;
        if *unannounced == EVENTS_PER_WAKE {
            self.announce();
        }
        Ok((queue.index, position))
    }

    /// Waits for room. Nothing is reserved meanwhile, so the wait can be cancelled.
    fn push_with_patience(&mut self, queue: Queue, parts: &[&[u8]]) -> Result<u64, Refusal> {
        self.announce();
        queue.waits_for_room();
        let deadline =
            *self.deadline.get_or_insert_with(|| Instant::now() + settings::enqueue_timeout());
        let push = || queue.ring.try_push(parts).ok();
        match queue.wait_until(Awaited::Anything, Some(deadline), push) {
            Waited::Done(position) => Ok(position),
            Waited::TimedOut => {
                Err(Refusal::Full { paused: self.queues.paused(), has_worker: queue.has_worker() })
            }
        }
    }

    /// Tells the workers what they were not told of.
    fn announce(&mut self) {
        for queue in self.queues.iter() {
            let unannounced = std::mem::take(&mut self.unannounced[queue.index]);
            if unannounced > 0 {
                queue.pushed(unannounced, self.now_us);
                counting::enqueued(unannounced);
            }
        }
    }
}
