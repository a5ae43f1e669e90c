//! Writing a batch of the ring: in one transaction the good records are written, the refused ones set
//! aside, and those of streams that cannot be written put into `waiting_events`.
//!
//! ```text
//! write_batch ──► ok: released
//!    │ error
//!    ├─ of one partition        it is halted, and the batch is written without it
//!    ├─ of no known partition   all partitions of the batch are halted, and each is tried on its own
//!    ├─ out of memory           half of the batch is written
//!    └─ of the server           all of it stays in the ring, and the worker backs off
//! ```

use crate::codec::record::Record;
use crate::drain::failure::{Failure, Remedy};
use crate::drain::waiting::Trouble;
use crate::model::memory::collect;
use crate::model::partition::Partition;
use crate::pg::error::Error;
use crate::pg::hot::control::Control;
use crate::pg::shared::counting;
use crate::pg::tables::dead_letters;
use crate::pg::tables::waiting_events::{self, NewWaiting};
use crate::pg::worker::background::{Commit, in_watched_transaction};
use crate::pg::worker::batch::{Way, Written, lock_store, write_batch};
use crate::pg::worker::state::{ITSELF, Worker, report_statistics};
use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Writes the batch, or as much of it as there is memory for.
pub fn drain(worker: &mut Worker) -> Result<(), Failure> {
    let mut len = worker.ends.len();
    loop {
        let at = Cell::new(None);
        let started = Instant::now();
        match try_drain(worker, len, &at) {
            Ok(Some((written, commit))) => {
                worker.pacing.committed(Instant::now(), commit.duration);
                worker.queue.count_unconfirmed_if(commit.is_unconfirmed);
                settled(worker, len, &written, started.elapsed());
                return Ok(());
            }
            Ok(None) => worker.load()?,
            Err(failure) if failure.is_out_of_memory() && worker.pacing.ran_out_of_memory(len) => {
                len = worker.pacing.events_max(len);
            }
            Err(failure) => {
                let confined = worker.confine(&failure, at.get())
                    || (at.get().is_none() && confine_to_all(worker, &failure, len)?);
                if !confined {
                    return Err(failure);
                }
            }
        }
    }
}

/// What has become of the batch, and how its commit went; `None` if the extension is not the one
/// that the worker knows.
fn try_drain(
    worker: &Worker,
    len: usize,
    at: &Cell<Option<Partition>>,
) -> Result<Option<(Written, Commit)>, Failure> {
    let records = worker.records(len)?;
    let queue = worker.queue_name();
    let write = || -> Result<Option<Written>, Error> {
        let store = lock_store()?;
        if worker.store != store {
            return Ok(None);
        }
        let must_wait = |partition, key| worker.waiting.must_wait(partition, key);
        let written = write_batch(&records, store, must_wait, Way::Batches, at)?;
        let letter = |(record, failure): &(usize, Failure)| {
            (records[*record], queue.place(worker.ends[*record]), failure.clone())
        };
        dead_letters::insert_all(&collect(written.refused.iter().map(letter))?)?;
        let mut waiting: Vec<NewWaiting<'_>> = Vec::new();
        for held in &written.held {
            waiting.extend(held.records.iter().map(|record| NewWaiting {
                record: records[*record],
                offset: worker.ends[*record],
                partition: held.partition,
                key: held.key,
            }));
        }
        if let Some(incarnation) = store {
            waiting_events::insert(queue, incarnation, &waiting)?;
        }
        Ok(Some(written))
    };
    let (written, commit) =
        in_watched_transaction(|| write().unwrap_or_else(|error| error.raise(ITSELF)))?;
    Ok(written.map(|written| (written, commit)))
}

/// The failure may be of any partition: all partitions of the batch are halted.
fn confine_to_all(worker: &mut Worker, failure: &Failure, len: usize) -> Result<bool, Failure> {
    if !matches!(failure.remedy(), Remedy::SetAside | Remedy::WaitOrSetAside) {
        return Ok(false);
    }
    let partitions: Vec<Partition> =
        worker.records(len)?.iter().map(|record| Partition::of(record.stream_id)).collect();
    let mut is_news = false;
    for partition in partitions {
        if worker.waiting.trouble(partition).is_none() {
            worker.halt(partition, failure);
            is_news = true;
        }
    }
    Ok(is_news)
}

/// The transaction of the first `len` records has committed: releases them. There was no check for
/// interrupts since the commit.
fn settled(worker: &mut Worker, len: usize, written: &Written, duration: Duration) {
    let now = Instant::now();
    let mut first: Option<usize> = None;
    let mut left: u64 = 0;
    for held in &written.held {
        worker.waiting.add(held.partition, held.key, 0, held.holder, now);
        let earliest = held.records.first().copied();
        first = first.into_iter().chain(earliest).min();
        left += held.records.len() as u64;
    }
    for partition in &written.locked {
        worker.waiting.halt(*partition, Trouble::Locked, now);
    }
    if let Some(reason) = &written.held_up_by {
        worker.queue.set_held_up_by(reason);
    }
    if let Some(first) = first {
        let found = worker.consumer.peek_from(worker.start(first));
        let record = found.and_then(|(bytes, _)| Record::decode(bytes).ok());
        let enqueued_at_us = record.map_or(0, |record| record.enqueued_at_us);
        worker.more_wait(left, (worker.ends[first], enqueued_at_us));
    }
    worker.left_waiting = left;
    if let Some(control) = Control::get() {
        for (partition, events) in &written.scattered {
            control.of(*partition).scattered_events.fetch_add(*events, Ordering::Relaxed);
        }
        for batch in &written.batches {
            control.count_batch(batch.partition, batch.events, batch.bytes);
        }
        if !written.batches.is_empty() {
            control.wake();
        }
    }
    let dead = written.refused.len() as u64;
    worker.queue.count_dead(dead);
    worker.queue.count_discarded(written.discarded);
    worker.queue.count_batch(written.events);
    release(worker, len);
    counting::rejected(dead);
    counting::drained(written.events, duration);
    report_statistics(false);
}

fn release(worker: &mut Worker, len: usize) {
    worker.consumer.release(worker.ends[len - 1]);
    let oldest = worker.consumer.peek_from(worker.consumer.read_offset());
    let oldest = oldest.and_then(|(bytes, _)| Record::decode(bytes).ok());
    worker.queue.settled(len as u64, oldest.map(|record| record.enqueued_at_us));
}
