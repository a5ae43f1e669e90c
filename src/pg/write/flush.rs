//! Waiting until what was enqueued is durable.

use crate::codec::record::Home;
use crate::model::memory::with_room;
use crate::model::partition::PARTITIONS;
use crate::pg::error::Error;
use crate::pg::positions::transaction::holds_streams;
use crate::pg::queue::waiters::{Awaited, Waited};
use crate::pg::queue::{Phase, Queue, Queues};
use crate::pg::session::xact::accept_invalidations;
use crate::pg::settings;
use crate::pg::tables::dead_letters::find;
use crate::pg::tables::relation::{locked_by_caller, sequence_oid};
use crate::pg::tables::rights::check_writer;
use crate::pg::tables::schema::Sequence;
use crate::pg::tables::waiting_events::{QueueName, is_any_waiting};
use std::time::{Duration, Instant};

/// Refuses to wait for the workers in a transaction that has locked a stream, or a table that they write
/// for events of these partitions: events would wait for this transaction, and PostgreSQL would not
/// detect the deadlock.
pub fn check_can_wait(partitions: &[bool; PARTITIONS]) -> Result<(), Error> {
    if holds_streams() {
        return Err(Error::WaitAfterAppend);
    }
    match locked_by_caller(partitions)? {
        None => Ok(()),
        Some(table) => Err(Error::WaitWithLock { table }),
    }
}

/// What a call that waits has enqueued: queue and end of each record, and the counts of records that were
/// not written, from before the call.
pub struct HandedOver {
    queues: Queues,
    home: Home,
    records: Vec<(usize, u64)>,
    before: [Before; PARTITIONS],
}

/// Records of a queue that were not written, before the call.
#[derive(Clone, Copy, Default)]
struct Before {
    dead: u64,
    discarded: u64,
    unconfirmed: u64,
}

impl Before {
    fn of(queue: Queue) -> Self {
        let (dead, discarded) = (queue.dead(), queue.discarded());
        Self { dead, discarded, unconfirmed: queue.unconfirmed() }
    }
}

impl HandedOver {
    /// Called before anything is enqueued; `events` is how many there are.
    pub fn new(queues: Queues, home: Home, events: usize) -> Result<Self, Error> {
        let mut before = [Before::default(); PARTITIONS];
        for queue in queues.iter() {
            before[queue.index] = Before::of(queue);
        }
        Ok(Self { queues, home, records: with_room(events)?, before })
    }

    /// Notes a record that ends at `offset` of the queue of this number.
    pub fn add(&mut self, queue: usize, offset: u64) {
        self.records.push((queue, offset));
    }

    /// Waits until all are in their streams. An error says how many have become dead letters instead,
    /// or that the extension was dropped before.
    pub fn wait_until_settled(mut self) -> Result<(), Error> {
        self.records.sort_unstable();
        let of_queues = || self.records.chunk_by(|a, b| a.0 == b.0);
        let mut has_waited = false;
        for records in of_queues() {
            let Some((index, last)) = records.last() else { continue };
            let queue = self.queues.queue(*index);
            wait_for_offset(self.queues, queue, *last, None)?;
            has_waited |= queue.may_wait(*last) && self.wait_until_moved(queue, records)?;
        }
        let (mut failed, mut first) = (0, None);
        for records in of_queues() {
            let index = records[0].0;
            let (queue, before) = (self.queues.queue(index), self.before[index]);
            if queue.discarded() != before.discarded {
                self.check_home()?;
            }
            warn_if_unconfirmed(queue, before.unconfirmed);
            if queue.dead() == before.dead && !has_waited {
                continue;
            }
            let QueueName { epoch, worker } = self.name_of(queue);
            if let Some((count, failure)) = find(epoch, worker, records)? {
                failed += count;
                first.get_or_insert(failure);
            }
        }
        match first {
            None => Ok(()),
            Some(failure) => Err(Error::NotWritten { failed, events: self.records.len(), failure }),
        }
    }

    fn name_of(&self, queue: Queue) -> QueueName {
        QueueName::new(self.queues.epoch(), self.home.incarnation, queue.index)
    }

    /// Waits as long as one of the records of a queue is a waiting event. Returns whether any was.
    fn wait_until_moved(&self, queue: Queue, records: &[(usize, u64)]) -> Result<bool, Error> {
        let name = self.name_of(queue);
        let mut has_waited = false;
        wait_for(self.queues, queue, Awaited::Moved, None, || {
            self.check_home()?;
            let waits = is_any_waiting(name, records)?;
            has_waited |= waits;
            Ok(!waits)
        })?;
        self.check_home()?;
        Ok(has_waited)
    }

    /// Refuses to continue if the extension was dropped since the records were enqueued.
    fn check_home(&self) -> Result<(), Error> {
        accept_invalidations();
        match sequence_oid(Sequence::Position) {
            Ok(oid) if oid.to_u32() == self.home.incarnation => Ok(()),
            _ => Err(Error::Discarded),
        }
    }
}

/// Warns, as PostgreSQL does at a commit, if the worker has not waited for a synchronous standby until
/// the end.
fn warn_if_unconfirmed(queue: Queue, before: u64) {
    if queue.unconfirmed() != before {
        pgrx::warning!(
            "a worker has ended while it waited for synchronous replication: events are durable on \
             this server, but might not have been replicated to the standby"
        );
    }
}

/// Waits until everything before `offset` of the queue has left the ring.
fn wait_for_offset(
    queues: Queues,
    queue: Queue,
    offset: u64,
    deadline: Option<Instant>,
) -> Result<(), Error> {
    let awaited = Awaited::Offset(offset);
    wait_for(queues, queue, awaited, deadline, || Ok(queue.ring.read_offset() >= offset))
}

/// Waits until `is_settled`. Without a deadline, waits as long as there is a worker that is not paused;
/// without a worker, for `allsource.enqueue_timeout`.
fn wait_for(
    queues: Queues,
    queue: Queue,
    awaited: Awaited,
    deadline: Option<Instant>,
    mut is_settled: impl FnMut() -> Result<bool, Error>,
) -> Result<(), Error> {
    enum Seen {
        Settled,
        Failed(Error),
        Paused,
        NoWorker,
    }
    let mut without_worker_since: Option<Instant> = None;
    let patience = settings::enqueue_timeout();
    let waited = queue.wait_until(awaited, deadline, || {
        match is_settled() {
            Ok(true) => return Some(Seen::Settled),
            Ok(false) => {}
            Err(error) => return Some(Seen::Failed(error)),
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
        Waited::Done(Seen::Failed(error)) => Err(error),
        Waited::Done(Seen::Paused) => Err(Error::WorkersPaused),
        Waited::Done(Seen::NoWorker) => Err(Error::NoWorkerRuns),
        Waited::TimedOut if !queue.has_worker() => Err(Error::NoWorkerRuns),
        Waited::TimedOut => {
            let report = queue.report();
            let pending = report.depth_events + report.waiting_events;
            Err(Error::FlushTimeout { pending, held_up_by: report.held_up_by })
        }
    }
}

/// Waits until everything that anybody has enqueued before is in its stream, or among the dead letters.
/// Returns how many events were on their way. `timeout`: `None` waits as long as it takes.
pub fn flush(timeout: Option<Duration>) -> Result<u64, Error> {
    check_writer()?;
    let queues = Queues::of_this_database()?;
    check_can_wait(&[true; PARTITIONS])?;
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let targets: Vec<_> = queues
        .iter()
        .map(|queue| {
            let report = queue.report();
            let events = report.depth_events + report.waiting_events;
            (queue, queue.ring.write_offset(), events, Before::of(queue))
        })
        .collect();
    for (queue, end, ..) in &targets {
        wait_for_offset(queues, *queue, *end, deadline)?;
        wait_for(queues, *queue, Awaited::Moved, deadline, || Ok(!queue.may_wait(*end)))?;
    }
    for (queue, .., before) in &targets {
        if queue.discarded() != before.discarded {
            return Err(Error::Discarded);
        }
        warn_if_unconfirmed(*queue, before.unconfirmed);
    }
    Ok(targets.iter().map(|(_, _, events, ..)| events).sum())
}
