//! Handing events over to the workers, and waiting for them.

use super::dead_letters::find;
use super::error::Error;
use super::metrics;
use super::position::holds_streams;
use super::queue::{Phase, Queue, Queues};
use super::relation::{Sequence, sequence_oid};
use super::rights::{check_admin, check_writer};
use super::settings;
use super::waiters::{Awaited, Waited};
use super::xact::{check_writable, database_name, database_oid, now_us};
use crate::codec::record::{Home, Record};
use crate::model::event::NewEvent;
use crate::model::partition::{PARTITIONS, Partition};
use crate::queue::PushError;
use std::ffi::CStr;
use std::time::{Duration, Instant};

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

/// The queues, if this database is the one that they serve.
fn open(function: &'static str) -> Result<Queues, Error> {
    let queues = Queues::open(function)?;
    let served = settings::database();
    let database = database_name();
    if database != served {
        return Err(Error::OtherDatabase { served: served.to_string_lossy().into_owned() });
    }
    Ok(queues)
}

/// Hands events over, in their order, and wakes the workers. With `durable`, returns when all are
/// durable. An error after events were handed over says how many: it does not take them back.
pub fn enqueue(
    function: &'static CStr,
    events: &[Enqueued<'_>],
    durable: bool,
) -> Result<(), Error> {
    check_writable(function);
    check_writer()?;
    let queues = open(function.to_str().unwrap_or_default())?;
    if durable {
        check_can_wait()?;
    }
    let incarnation = sequence_oid(Sequence::Position)?.to_u32();
    let mut producer = Producer::new(queues, Home { database: database_oid(), incarnation });
    // Nothing is handed over where something is wrong.
    let limit_bytes = queues.queue(0).ring.record_bytes_max();
    for (index, event) in events.iter().enumerate() {
        let size_bytes = producer.record(event).size_bytes();
        if size_bytes > limit_bytes {
            return Err(Error::RecordTooLarge { number: index + 1, size_bytes, limit_bytes });
        }
    }
    let mut handed_over = durable.then(|| HandedOver::new(queues));
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
                metrics::rejected((events.len() - index) as u64);
                Error::QueueFull { accepted: index, events: events.len(), paused, has_worker }
            }
            Refusal::TooLarge { size_bytes, limit_bytes } => {
                Error::RecordTooLarge { number: index + 1, size_bytes, limit_bytes }
            }
        })?;
        if let Some(handed_over) = &mut handed_over {
            handed_over.positions[queue].push(position);
        }
    }
    producer.announce();
    handed_over.map_or(Ok(()), |handed_over| handed_over.wait_until_settled(events.len()))
}

/// Waiting for a worker that waits for this transaction's locks would never end, and nobody could
/// see the circle.
fn check_can_wait() -> Result<(), Error> {
    if holds_streams() { Err(Error::WaitAfterAppend) } else { Ok(()) }
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
                metrics::enqueued(unannounced);
            }
        }
    }
}

/// What a call that waits has handed over: where its records end in each queue, and how many dead
/// letters there were before.
struct HandedOver {
    queues: Queues,
    positions: Vec<Vec<u64>>,
    dead_before: Vec<u64>,
}

impl HandedOver {
    fn new(queues: Queues) -> Self {
        let dead_before: Vec<u64> = queues.iter().map(|queue| queue.dead()).collect();
        Self { queues, positions: vec![Vec::new(); dead_before.len()], dead_before }
    }

    /// Waits until all is durable. An error says which of `events` have become dead letters instead.
    fn wait_until_settled(&self, events: usize) -> Result<(), Error> {
        let mut failed = 0;
        let mut first = None;
        for (queue, positions) in self.queues.iter().zip(&self.positions) {
            let Some(last) = positions.last() else { continue };
            wait_for_position(self.queues, queue, *last, None)?;
            if queue.dead() == self.dead_before[queue.index] {
                continue;
            }
            if let Some((count, failure)) = find(self.queues.epoch(), queue.index, positions)? {
                failed += count;
                first.get_or_insert(failure);
            }
        }
        match first {
            None => Ok(()),
            Some(failure) => Err(Error::NotWritten { failed, events, failure }),
        }
    }
}

/// Waits until everything before `position` of the queue is settled. Without a deadline, waits as
/// long as there is a worker that is not at rest, or one may come within the time that an enqueuer
/// waits for room.
fn wait_for_position(
    queues: Queues,
    queue: Queue,
    position: u64,
    deadline: Option<Instant>,
) -> Result<(), Error> {
    enum Seen {
        Settled,
        Paused,
        NoWorker,
    }
    let mut without_worker_since: Option<Instant> = None;
    let patience = settings::enqueue_timeout();
    let awaited = Awaited::Position(position);
    let waited = queue.wait_until(awaited, deadline, || {
        if queue.ring.head() >= position {
            return Some(Seen::Settled);
        }
        if queues.paused() && queue.phase() == Phase::Paused {
            return Some(Seen::Paused);
        }
        if queue.has_worker() {
            without_worker_since = None;
        } else if deadline.is_none()
            && without_worker_since.get_or_insert_with(Instant::now).elapsed() >= patience
        {
            return Some(Seen::NoWorker);
        }
        None
    });
    match waited {
        Waited::Done(Seen::Settled) => Ok(()),
        Waited::Done(Seen::Paused) => Err(Error::WorkersPaused),
        Waited::Done(Seen::NoWorker) => Err(Error::NoWorkerRuns),
        Waited::TimedOut if !queue.has_worker() => Err(Error::NoWorkerRuns),
        Waited::TimedOut => Err(Error::FlushTimeout { pending: queue.report().depth_events }),
    }
}

/// Waits until everything that anybody has enqueued before is durable. Returns how many events were
/// on their way. `timeout`: `None` waits as long as it takes.
pub fn flush(function: &'static str, timeout: Option<Duration>) -> Result<u64, Error> {
    check_writer()?;
    let queues = open(function)?;
    check_can_wait()?;
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let targets: Vec<_> = queues
        .iter()
        .map(|queue| (queue, queue.ring.tail(), queue.report().depth_events))
        .collect();
    for (queue, tail, _) in &targets {
        wait_for_position(queues, *queue, *tail, deadline)?;
    }
    Ok(targets.iter().map(|(_, _, events)| events).sum())
}

/// Tells the workers to rest and waits until they do: each finishes the batch in hand.
pub fn pause(function: &'static str) -> Result<(), Error> {
    check_admin("the workers")?;
    let queues = open(function)?;
    queues.set_paused(true);
    for queue in queues.iter() {
        let resting = || {
            let at_rest = matches!(queue.phase(), Phase::Paused | Phase::Stopped);
            (at_rest || !queues.paused()).then_some(())
        };
        queue.wait_until(Awaited::Anything, None, resting);
    }
    Ok(())
}

/// Tells the workers to go on.
pub fn resume(function: &'static str) -> Result<(), Error> {
    check_admin("the workers")?;
    open(function)?.set_paused(false);
    Ok(())
}
