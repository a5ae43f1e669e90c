//! Waiting until what was enqueued is durable.

use crate::model::memory::with_room;
use crate::model::partition::PARTITIONS;
use crate::pg::error::Error;
use crate::pg::positions::transaction::holds_streams;
use crate::pg::queue::waiters::{Awaited, Waited};
use crate::pg::queue::{Phase, Queue, Queues};
use crate::pg::settings;
use crate::pg::tables::dead_letters::find;
use crate::pg::tables::rights::check_writer;
use std::time::{Duration, Instant};

/// Waiting for a worker that waits for this transaction's locks would never end, and nobody could
/// see the circle.
pub fn check_can_wait() -> Result<(), Error> {
    if holds_streams() { Err(Error::WaitAfterAppend) } else { Ok(()) }
}

/// What a call that waits has handed over: the number of the queue and the end of each record, and
/// how many dead letters each queue had before.
pub struct HandedOver {
    queues: Queues,
    records: Vec<(usize, u64)>,
    dead_before: [u64; PARTITIONS],
}

impl HandedOver {
    /// Called before anything is handed over; `events` is how many there are.
    pub fn new(queues: Queues, events: usize) -> Result<Self, Error> {
        let mut dead_before = [0; PARTITIONS];
        for queue in queues.iter() {
            dead_before[queue.index] = queue.dead();
        }
        Ok(Self { queues, records: with_room(events)?, dead_before })
    }

    /// Notes a record that ends at `position` of the queue of this number.
    pub fn add(&mut self, queue: usize, position: u64) {
        self.records.push((queue, position));
    }

    /// Waits until all is durable. An error says how many have become dead letters instead.
    pub fn wait_until_settled(mut self) -> Result<(), Error> {
        self.records.sort_unstable();
        let events = self.records.len();
        let mut failed = 0;
        let mut first = None;
        for records in self.records.chunk_by(|a, b| a.0 == b.0) {
            let Some((index, last)) = records.last() else { continue };
            let queue = self.queues.queue(*index);
            wait_for_position(self.queues, queue, *last, None)?;
            if queue.dead() == self.dead_before[*index] {
                continue;
            }
            if let Some((count, failure)) = find(self.queues.epoch(), *index, records)? {
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
pub fn flush(timeout: Option<Duration>) -> Result<u64, Error> {
    check_writer()?;
    let queues = Queues::of_this_database()?;
    check_can_wait()?;
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    // One for each worker.
    let targets: Vec<_> = queues
        .iter()
        .map(|queue| (queue, queue.ring.tail(), queue.report().depth_events))
        .collect();
    for (queue, tail, _) in &targets {
        wait_for_position(queues, *queue, *tail, deadline)?;
    }
    Ok(targets.iter().map(|(_, _, events)| events).sum())
}
