//! Moving waiting events to their streams, in order, when these can be written again.
//!
//! Each transaction takes rows out of the table and writes them, so at any time an event is in exactly
//! one of the two places. It is about one partition, so a failure can be attributed to that one.

use crate::codec::record::{Home, Record};
use crate::drain::failure::{Failure, Remedy};
use crate::drain::settle::{Writer, settle};
use crate::drain::waiting::{Due, Trouble};
use crate::model::memory::collect;
use crate::model::partition::Partition;
use crate::pg::error::Error;
use crate::pg::queue::Phase;
use crate::pg::session::xact::database_oid;
use crate::pg::shared::counting;
use crate::pg::tables::dead_letters;
use crate::pg::tables::waiting_events::{self, WaitingEvent};
use crate::pg::worker::background::{in_timed_transaction, in_transaction};
use crate::pg::worker::batch::{Written, lock_store, write_batch};
use crate::pg::worker::state::{ITSELF, Worker, report_statistics};
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::time::Instant;

/// Streams that are tried together.
const STREAMS_MAX: usize = 256;

/// Rows that are moved together.
const ROWS_MAX: usize = 1_000;

/// Failures in a row of unknown cause before a single event is suspected.
const PATIENCE: u32 = 5;

/// Events that can be suspected at the same time. If there are more, the partition is at fault.
const SUSPECTS_MAX: usize = 32;

/// Moves some events of the partition whose turn it is. Returns how many are settled; `None` if it is
/// no stream's turn. An error is the server's.
pub fn move_some(worker: &mut Worker) -> Result<Option<u64>, Failure> {
    let now = Instant::now();
    let Some((partition, due)) = worker.waiting.due(now, STREAMS_MAX) else { return Ok(None) };
    worker.queue.set_phase(Phase::Draining);
    let is_probe = worker.waiting.trouble(partition) == Some(Trouble::Failing);
    let moved = if is_probe {
        probe(worker, partition, &due)
    } else {
        move_rows(worker, partition, &due, ROWS_MAX, ROWS_MAX)
    };
    match moved {
        Ok(events) => {
            if !is_probe {
                worker.waiting.is_well(partition);
            }
            Ok(Some(events))
        }
        Err(failure) => {
            if failure.remedy() == Remedy::TryLater {
                return Err(failure);
            }
            worker.halt(partition, &failure);
            Ok(Some(0))
        }
    }
}

/// Tries a partition that has failed with a single event.
fn probe(worker: &mut Worker, partition: Partition, due: &[Due]) -> Result<u64, Failure> {
    let failures = worker.waiting.failures(partition);
    let failure = match move_rows(worker, partition, &due[..1], 1, 1) {
        Ok(events) => return Ok(events),
        Err(failure) => failure,
    };
    if failures < PATIENCE || failure.remedy() != Remedy::WaitOrSetAside {
        return Err(failure);
    }
    // Perhaps only that event fails, and others of the partition can be written.
    let suspects = &due[..due.len().min(SUSPECTS_MAX)];
    move_rows(worker, partition, suspects, SUSPECTS_MAX, 1)
}

fn read(
    worker: &mut Worker,
    due: &[Due],
    rows_max: usize,
    rows_per_stream_max: usize,
) -> Result<Vec<WaitingEvent>, Failure> {
    let known = worker.store;
    let read = || -> Result<Option<Vec<WaitingEvent>>, Error> {
        if lock_store()? != known {
            return Ok(None);
        }
        waiting_events::next(due, rows_max as i64, rows_per_stream_max as i64).map(Some)
    };
    let rows = in_transaction(|| read().unwrap_or_else(|error| error.raise(ITSELF)))?;
    if rows.is_none() {
        worker.must_load = true;
    }
    rows.ok_or_else(|| another_store().to_failure())
}

/// Moves the first rows of streams of a partition. If that succeeds, the partition is not halted any
/// more, unless one of its tables is locked. Returns how many were settled.
fn move_rows(
    worker: &mut Worker,
    partition: Partition,
    due: &[Due],
    rows_max: usize,
    rows_per_stream_max: usize,
) -> Result<u64, Failure> {
    let rows = read(worker, due, rows_max, rows_per_stream_max)?;
    let mut mover = Mover::new(worker, &rows);
    settle(&mut mover, 0..rows.len())?;
    mover.set_suspects_aside()?;
    let Mover { held, events, locked, blamed, .. } = mover;
    let now = Instant::now();
    match locked {
        Some(partition) => {
            worker.waiting.halt(partition, Trouble::Locked, now);
            return Ok(events);
        }
        None => worker.waiting.proceed(partition),
    }
    // Streams were read one after the other, so of all but the last one all rows were read. If nothing
    // was read, there are no rows.
    let last_ids: HashMap<u64, i64> = rows.iter().map(|row| (row.key, row.id)).collect();
    let last_key = rows.last().map(|row| row.key);
    for due in due {
        match last_ids.get(&due.key) {
            Some(_) if held.contains(&due.key) => worker.waiting.still_held(due.key, now),
            // Those after it were left alone.
            Some(_) if blamed.contains(&due.key) => {
                worker.waiting.moved_up_to(due.key, due.first_id, now);
            }
            Some(_) if last_key != Some(due.key) && rows_per_stream_max >= rows_max => {
                worker.waiting.gone(due.key);
            }
            Some(id) => worker.waiting.moved_up_to(due.key, id + 1, now),
            None if rows.is_empty() => worker.waiting.gone(due.key),
            None => {}
        }
    }
    worker.publish_waiting();
    Ok(events)
}

/// Rows on their way to their streams.
struct Mover<'w> {
    worker: &'w mut Worker,
    rows: &'w [WaitingEvent],
    /// Streams that are held: their rows stay.
    held: HashSet<u64>,
    locked: Option<Partition>,
    /// Rows that fail for an unknown reason; later ones of their streams stay too.
    suspects: Vec<(usize, Failure)>,
    /// Streams of those that were set aside for it.
    blamed: HashSet<u64>,
    /// Rows that are settled.
    events: u64,
}

impl<'w> Mover<'w> {
    fn new(worker: &'w mut Worker, rows: &'w [WaitingEvent]) -> Self {
        let (held, blamed) = (HashSet::new(), HashSet::new());
        Self { worker, rows, held, locked: None, suspects: Vec::new(), blamed, events: 0 }
    }

    /// If others could be written, the suspects are at fault; otherwise the partition is.
    fn set_suspects_aside(&mut self) -> Result<(), Failure> {
        let suspects = std::mem::take(&mut self.suspects);
        if self.events == 0
            && let Some((_, failure)) = suspects.first()
        {
            return Err(failure.clone());
        }
        for (row, failure) in suspects {
            self.set_aside(row, &failure)?;
            let key = self.rows[row].key;
            self.held.remove(&key);
            self.blamed.insert(key);
        }
        Ok(())
    }

    /// Rows are settled. `oldest` is what waits longest of those that are left.
    fn settled(&mut self, events: u64, oldest: Option<(u64, i64)>) {
        self.events += events;
        self.worker.fewer_wait(events, oldest);
        report_statistics(false);
    }
}

/// What a transaction has moved.
struct Outcome {
    written: Written,
    settled: u64,
    oldest: Option<(u64, i64)>,
}

impl Writer for Mover<'_> {
    fn write(&mut self, range: Range<usize>) -> Result<(), Failure> {
        let started = Instant::now();
        let rows = &self.rows[range];
        let queue = self.worker.queue_name();
        let write = || -> Result<Outcome, Error> {
            let store = lock_store()?;
            let incarnation = store.filter(|_| self.worker.store == store);
            let incarnation = incarnation.ok_or_else(another_store)?;
            let home = Home { database: database_oid(), incarnation };
            let records: Vec<Record<'_>> = rows.iter().map(|row| row.record(home)).collect();
            let must_wait = |_, key| self.held.contains(&key);
            let written = write_batch(&records, store, must_wait, &Cell::new(None))?;
            let letter = |(record, failure): &(usize, Failure)| {
                (records[*record], queue.place(rows[*record].offset), failure.clone())
            };
            dead_letters::insert_all(&collect(written.refused.iter().map(letter))?)?;
            let stay: HashSet<usize> =
                written.held.iter().flat_map(|held| held.records.iter().copied()).collect();
            let settled = rows.len() - stay.len();
            let ids = rows.iter().enumerate().filter(|(row, _)| !stay.contains(row));
            let ids: Vec<i64> = ids.map(|(_, row)| row.id).collect();
            if settled > 0 && waiting_events::delete(ids.into_iter())? != settled {
                return Err(another_store());
            }
            let oldest = waiting_events::oldest(queue)?;
            Ok(Outcome { written, settled: settled as u64, oldest })
        };
        let (outcome, flush) =
            in_timed_transaction(|| write().unwrap_or_else(|error| error.raise(ITSELF)))?;
        let Outcome { written, settled, oldest } = outcome;
        self.held.extend(written.held.iter().map(|held| held.key));
        self.locked = self.locked.or(written.locked.first().copied());
        if let Some(reason) = &written.held_up_by {
            self.worker.queue.set_held_up_by(reason);
        }
        if settled > 0 {
            let dead = written.refused.len() as u64;
            self.worker.pacing.committed(Instant::now(), flush);
            self.worker.queue.count_dead(dead);
            self.worker.queue.count_drained(written.events);
            counting::rejected(dead);
            counting::drained(written.events, started.elapsed());
            self.settled(settled, oldest);
        }
        Ok(())
    }

    fn set_aside(&mut self, row: usize, reason: &Failure) -> Result<(), Failure> {
        let row = &self.rows[row];
        let queue = self.worker.queue_name();
        let set_aside = || -> Result<Option<(u64, i64)>, Error> {
            let store = lock_store()?;
            let incarnation = store.filter(|_| self.worker.store == store);
            let incarnation = incarnation.ok_or_else(another_store)?;
            let record = row.record(Home { database: database_oid(), incarnation });
            if waiting_events::delete(std::iter::once(row.id))? != 1 {
                return Err(another_store());
            }
            dead_letters::insert_all(&[(record, queue.place(row.offset), reason.clone())])?;
            waiting_events::oldest(queue)
        };
        let oldest = in_transaction(|| set_aside().unwrap_or_else(|error| error.raise(ITSELF)))?;
        self.worker.queue.count_dead(1);
        counting::rejected(1);
        self.settled(1, oldest);
        Ok(())
    }

    fn suspect(&mut self, row: usize, mut reason: Failure) -> Result<(), Failure> {
        for _ in 1..PATIENCE {
            match self.write(row..row + 1) {
                Ok(()) => return Ok(()),
                Err(failure) if failure.remedy() == Remedy::WaitOrSetAside => reason = failure,
                Err(failure) => return Err(failure),
            }
        }
        if self.suspects.len() == SUSPECTS_MAX {
            return Err(reason);
        }
        self.held.insert(self.rows[row].key);
        self.suspects.push((row, reason));
        Ok(())
    }
}

/// Somebody has deleted rows, or dropped the extension: what was read is not valid any more.
fn another_store() -> Error {
    Error::Missing { object: "a row of waiting_events".into() }
}
