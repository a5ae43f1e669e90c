//! A worker's state: its queue, what it knows of waiting events, and what it reports.
#![expect(unsafe_code, reason = "asks PostgreSQL about this process")]

use crate::codec::record::Record;
use crate::drain::backoff::Backoff;
use crate::drain::failure::{Failure, Remedy};
use crate::drain::pacing::Pacing;
use crate::drain::waiting::{Trouble, Waiting};
use crate::model::partition::Partition;
use crate::pg::error::Error;
use crate::pg::queue::{Queue, Queues};
use crate::pg::settings;
use crate::pg::tables::names::is_relation;
use crate::pg::tables::waiting_events::{QueueName, WaitingStream, adopt, oldest};
use crate::pg::worker::background::in_transaction;
use crate::pg::worker::batch::lock_store;
use crate::queue::Consumer;
use pgrx::pg_sys;
use std::time::Instant;

/// The worker's name in messages.
pub const ITSELF: &str = "allsource worker";

/// A worker.
pub struct Worker {
    /// all queues
    pub queues: Queues,
    /// its own
    pub queue: Queue,
    /// takes records out of its ring
    pub consumer: Consumer,
    /// where each record of the batch ends
    pub ends: Vec<u64>,
    /// when a batch that has failed is tried again
    pub backoff: Backoff,
    /// when the next batch begins and how large it may be
    pub pacing: Pacing,
    /// when the last batch ended
    pub last_batch: Instant,
    /// streams whose events wait
    pub waiting: Waiting,
    /// how many events wait, and the oldest of them: its offset in the ring and its time
    pub waiting_events: u64,
    oldest_waiting: Option<(u64, i64)>,
    /// events that the last batch has left waiting
    pub left_waiting: u64,
    /// the store that `waiting` is about
    pub store: Option<u32>,
    /// whether the store must be looked up before anything is written
    pub must_load: bool,
    last_message: String,
}

impl Worker {
    /// The worker of a queue that was claimed.
    pub fn new(queues: Queues, queue: Queue, consumer: Consumer) -> Self {
        Self {
            queues,
            queue,
            consumer,
            ends: Vec::new(),
            backoff: Backoff::default(),
            pacing: Pacing::default(),
            last_batch: Instant::now(),
            waiting: Waiting::default(),
            waiting_events: 0,
            oldest_waiting: None,
            left_waiting: 0,
            store: None,
            must_load: true,
            last_message: String::new(),
        }
    }

    /// The queue, as rows of the store that is known name it.
    pub fn queue_name(&self) -> QueueName {
        self.queue_of(self.store.unwrap_or_default())
    }

    fn queue_of(&self, incarnation: u32) -> QueueName {
        QueueName::new(self.queues.epoch(), incarnation, self.queue.index)
    }

    /// Where a record of the batch begins.
    pub fn start(&self, record: usize) -> u64 {
        match record.checked_sub(1) {
            Some(previous) => self.ends[previous],
            None => self.consumer.read_offset(),
        }
    }

    /// The first `len` records of the batch.
    pub fn records(&self, len: usize) -> Result<Vec<Record<'_>>, Failure> {
        (0..len)
            .map(|record| {
                let found = self.consumer.peek_from(self.start(record));
                let (bytes, _) = found.ok_or(crate::codec::record::DamagedRecord)?;
                Record::decode(bytes)
            })
            .collect::<Result<_, _>>()
            .map_err(|damaged| Error::from(damaged).to_failure())
    }

    /// Reads from the table which streams' events wait: when the worker starts, when the extension was
    /// created again, and from time to time while none is known.
    pub fn load(&mut self) -> Result<(), Failure> {
        type Loaded = (Option<u32>, Vec<WaitingStream>, Option<(u64, i64)>);
        let before = self.store;
        let workers = settings::workers();
        let load = || -> Result<Loaded, Error> {
            let store = lock_store()?;
            if store != before && before.is_some_and(is_relation) {
                // It exists and cannot be found by its name: somebody is working on it.
                return Err(Error::Missing { object: "position_seq".into() });
            }
            let Some(incarnation) = store else { return Ok((None, Vec::new(), None)) };
            let queue = self.queue_of(incarnation);
            Ok((store, adopt(queue, incarnation, workers)?, oldest(queue)?))
        };
        let (store, streams, oldest) =
            in_transaction(|| load().unwrap_or_else(|error| error.raise(ITSELF)))?;
        if before.is_some() && store != before {
            self.queue.count_discarded(self.waiting_events);
            self.waiting = Waiting::default();
        }
        let now = Instant::now();
        for stream in &streams {
            self.waiting.add(stream.partition, stream.key, stream.first_id, 0, now);
        }
        self.waiting_events = streams.iter().map(|stream| stream.events).sum();
        self.store = store;
        self.must_load = false;
        self.oldest_waiting = oldest;
        self.publish_waiting();
        self.queue.wake_moved();
        Ok(())
    }

    /// More events wait: they were enqueued after all of those that wait already.
    pub fn more_wait(&mut self, events: u64, first: (u64, i64)) {
        self.waiting_events += events;
        self.oldest_waiting.get_or_insert(first);
        self.publish_waiting();
    }

    /// Events were moved; `oldest` is the oldest of those that still wait.
    pub fn fewer_wait(&mut self, events: u64, oldest: Option<(u64, i64)>) {
        self.waiting_events = match oldest {
            Some(_) => self.waiting_events.saturating_sub(events).max(1),
            None => {
                self.waiting.all_gone();
                0
            }
        };
        self.oldest_waiting = oldest;
        self.publish_waiting();
        self.queue.wake_moved();
    }

    /// Publishes what waits.
    pub fn publish_waiting(&self) {
        let streams = self.waiting.streams() as u64;
        self.queue.set_waiting(self.waiting_events, streams, self.oldest_waiting);
    }

    /// A partition cannot be written.
    pub fn halt(&mut self, partition: Partition, failure: &Failure) {
        let trouble = match failure.remedy() {
            Remedy::GiveWay => Trouble::Locked,
            _ => Trouble::Failing,
        };
        let is_news = self.waiting.halt(partition, trouble, Instant::now());
        let number = partition.number();
        let message = format!("partition {number} cannot be written: {}", one_line(failure));
        self.queue.set_held_up_by(&message);
        // What only sets events aside is not worth a line.
        if trouble == Trouble::Failing && is_news && failure.remedy() != Remedy::SetAside {
            self.log(&message);
        }
    }

    /// Logs and remembers why something fails, once until the reason changes.
    pub fn note(&mut self, message: &str) {
        if message != self.last_message {
            self.log(message);
            message.clone_into(&mut self.last_message);
        }
    }

    fn log(&self, message: &str) {
        pgrx::log!(
            "allsource worker {} will try again, more and more rarely: {message}",
            self.queue.index
        );
        self.queue.set_last_error(message);
    }

    /// A batch succeeded, or there is none: the next failure is logged again.
    pub fn all_is_well(&mut self) {
        self.backoff.succeeded();
        self.last_message.clear();
        self.queue.set_failing(false);
    }

    /// Halts the partition that a failure is of. Returns whether the batch can be tried without it.
    pub fn confine(&mut self, failure: &Failure, at: Option<Partition>) -> bool {
        match (failure.remedy(), at) {
            (Remedy::TryLater, _) | (_, None) => false,
            (_, Some(partition)) => {
                // Nothing of a partition is written that was halted before.
                let is_news = self.waiting.trouble(partition).is_none();
                self.halt(partition, failure);
                is_news
            }
        }
    }
}

/// A failure as it is logged.
pub fn one_line(failure: &Failure) -> String {
    format!("{} ({})", failure.message, failure.sqlstate())
}

/// Reports to the statistics system, outside of a transaction.
pub fn report_statistics(force: bool) {
    // SAFETY: no transaction is open.
    unsafe { pg_sys::pgstat_report_stat(force) };
}
