//! Enqueueing: putting events into the queues of the workers.

use super::batch::EventBatch;
use super::flush::{HandedOver, check_can_wait};
use crate::codec::record::{Home, Record};
use crate::model::partition::{PARTITIONS, Partition};
use crate::pg::cluster::gate::Gates;
use crate::pg::error::{Error, QueueStaysFull};
use crate::pg::positions::transaction::holds_streams;
use crate::pg::queue::waiters::{Awaited, Waited};
use crate::pg::queue::{Queue, Queues};
use crate::pg::session::xact::{check_writable, database_oid, now_us};
use crate::pg::settings;
use crate::pg::shared::counting;
use crate::pg::tables::relation::{locked_by_caller, sequence_oid};
use crate::pg::tables::rights::check_writer;
use crate::pg::tables::schema::Sequence;
use crate::queue::PushError;
use std::time::Instant;

/// After this many events a sleeping worker is woken, even if the call has more.
const EVENTS_PER_WAKE: u64 = 64;

/// Enqueues events, in their order, and wakes the workers. With `durable`, returns when all are durable.
/// An error after some events were enqueued says how many; they stay enqueued.
pub fn enqueue(
    batch: EventBatch<'_>,
    entity_id: Option<&[u8]>,
    durable: bool,
) -> Result<(), Error> {
    check_writable()?;
    check_writer()?;
    let gates = Gates::enter(batch.stream_ids)?;
    let queues = Queues::of_this_database()?;
    if durable {
        let mut partitions = [false; PARTITIONS];
        for stream_id in batch.stream_ids {
            partitions[Partition::of(stream_id).index()] = true;
        }
        check_can_wait(&partitions)?;
    }
    let incarnation = sequence_oid(Sequence::Position)?.to_u32();
    let home = Home { database: database_oid(), incarnation };
    let mut producer = Producer::new(queues, home, batch, entity_id);
    // Nothing is enqueued if anything is wrong.
    let limit_bytes = queues.queue(0).ring.record_bytes_max();
    let events = batch.events.len();
    for index in 0..events {
        let size_bytes = producer.record(index).size_bytes();
        if size_bytes > limit_bytes {
            return Err(Error::RecordTooLarge { number: index + 1, size_bytes, limit_bytes });
        }
    }
    let mut handed_over = if durable { Some(HandedOver::new(queues, home, events)?) } else { None };
    for index in 0..events {
        let pushed = producer.push(index);
        if pushed.is_err() {
            producer.announce();
        }
        let (queue, offset) = pushed.map_err(|error| match error {
            Refusal::Full(because) => {
                for stream_id in &batch.stream_ids[index..] {
                    queues.of_partition(Partition::of(stream_id)).rejected(1);
                }
                counting::rejected((events - index) as u64);
                Error::QueueFull { accepted: index, events, because }
            }
            Refusal::TooLarge { size_bytes, limit_bytes } => {
                Error::RecordTooLarge { number: index + 1, size_bytes, limit_bytes }
            }
            Refusal::Failed(error) => error,
        })?;
        if let Some(handed_over) = &mut handed_over {
            handed_over.add(queue, offset);
        }
    }
    producer.announce();
    drop(gates);
    handed_over.map_or(Ok(()), HandedOver::wait_until_settled)
}

enum Refusal {
    Full(QueueStaysFull),
    TooLarge { size_bytes: usize, limit_bytes: usize },
    Failed(Error),
}

/// What one call enqueues.
struct Producer<'a> {
    queues: Queues,
    home: Home,
    batch: EventBatch<'a>,
    entity_id: Option<&'a [u8]>,
    now_us: i64,
    /// Events of each queue that its worker was not notified of.
    unannounced: [u64; PARTITIONS],
    /// When the call stops waiting for room; set by its first wait.
    deadline: Option<Instant>,
}

impl<'a> Producer<'a> {
    fn new(queues: Queues, home: Home, batch: EventBatch<'a>, entity_id: Option<&'a [u8]>) -> Self {
        let unannounced = [0; PARTITIONS];
        Self { queues, home, batch, entity_id, now_us: now_us(), unannounced, deadline: None }
    }

    fn record(&self, index: usize) -> Record<'a> {
        Record {
            enqueued_at_us: self.now_us,
            home: self.home,
            stream_id: self.batch.stream_ids[index],
            tenant_id: self.batch.tenant_id,
            entity_id: self.entity_id,
            event: self.batch.events[index],
        }
    }

    /// Enqueues an event; returns its queue and the offset at which it ends there.
    fn push(&mut self, index: usize) -> Result<(usize, u64), Refusal> {
        let record = self.record(index);
        let queue = self.queues.of_partition(Partition::of(record.stream_id));
        let header = record.header();
        let parts = record.parts(&header);
        let offset = match queue.ring.try_push(&parts) {
            Ok(offset) => offset,
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
        Ok((queue.index, offset))
    }

    /// Waits for room, but not in a transaction that has locked a stream, or a table that the workers
    /// need. Nothing is reserved meanwhile, so the wait can be cancelled.
    fn push_with_patience(&mut self, queue: Queue, parts: &[&[u8]]) -> Result<u64, Refusal> {
        self.announce();
        // Events of locked leaves leave the queue too, so only what is used for all matters.
        if locked_by_caller(&[false; PARTITIONS]).map_err(Refusal::Failed)?.is_some() {
            return Err(Refusal::Full(QueueStaysFull::WorkersNeedCallersTable));
        }
        if holds_streams() {
            return Err(Refusal::Full(QueueStaysFull::WorkersMayWaitForCaller));
        }
        queue.waits_for_room();
        let deadline =
            *self.deadline.get_or_insert_with(|| Instant::now() + settings::enqueue_timeout());
        let push = || queue.ring.try_push(parts).ok();
        match queue.wait_until(Awaited::Anything, Some(deadline), push) {
            Waited::Done(offset) => Ok(offset),
            Waited::TimedOut => {
                Err(Refusal::Full(match (self.queues.paused(), queue.has_worker()) {
                    (true, _) => QueueStaysFull::Paused,
                    (false, true) => QueueStaysFull::Behind,
                    (false, false) => QueueStaysFull::NoWorker,
                }))
            }
        }
    }

    /// Notifies the workers of the events that they were not notified of.
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
