//! Moving waiting events to their streams, in order, when these can be written again.
//!
//! Each transaction takes rows out of the table and writes them, so at any time an event is in exactly
//! one of the two places. It is about one partition, so a failure can be attributed to that one.

use crate::codec::record::{Home, Record};
use crate::drain::failure::{Failure, Remedy};
use crate::drain::settle::{Writer, settle};
use crate::drain::waiting::{Due, State, Trouble};
use crate::model::memory::collect;
use crate::model::partition::Partition;
use crate::pg::call::datum::display;
use crate::pg::error::Error;
use crate::pg::queue::Phase;
use crate::pg::session::xact::database_oid;
use crate::pg::shared::counting;
use crate::pg::tables::dead_letters;
use crate::pg::tables::waiting_events::{self, Next, WaitingEvent};
use crate::pg::worker::background::{in_transaction, in_watched_transaction};
use crate::pg::worker::batch::{Way, Written, lock_store, queue_for, write_batch};
use crate::pg::worker::state::{ITSELF, Worker, one_line, report_statistics};
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
    let due = worker.waiting.due(now, STREAMS_MAX);
    let Some((partition, state, due)) = due else { return Ok(None) };
    worker.queue.set_phase(Phase::Draining);
    let is_probe = worker.waiting.trouble(partition) == Some(Trouble::Failing);
    let moved = match state {
        _ if is_probe => probe(worker, partition, &due),
        State::Ready | State::Contended => {
            move_rows(worker, partition, state, &due, Rows::ALL, false)
        }
        // Most likely nothing can be moved.
        State::Held | State::Failing => {
            move_rows(worker, partition, state, &due, Rows::FIRST, false)
        }
    };
    let failure = match moved {
        Ok(events) => {
            if !is_probe {
                worker.waiting.is_well(partition);
            }
            return Ok(Some(events));
        }
        Err(failure) => failure,
    };
    match (failure.remedy(), state) {
        (Remedy::TryLater, _) => return Err(failure),
        _ if is_probe => worker.halt(partition, &failure),
        (Remedy::GiveWay, State::Contended) => worker.waiting.still_held(due[0].key, 0, now),
        (_, State::Failing) => {
            for due in &due {
                worker.waiting.is_failing(due.key, now);
            }
        }
        _ => worker.halt(partition, &failure),
    }
    Ok(Some(0))
}

/// How many rows are moved at once.
#[derive(Clone, Copy)]
struct Rows {
    max: usize,
    per_stream_max: usize,
}

impl Rows {
    const ALL: Self = Self { max: ROWS_MAX, per_stream_max: ROWS_MAX };
    const FIRST: Self = Self { max: ROWS_MAX, per_stream_max: 1 };
}

/// Tries a partition that has failed with a single event.
fn probe(worker: &mut Worker, partition: Partition, due: &[Due]) -> Result<u64, Failure> {
    let failures = worker.waiting.failures(partition);
    let one = move_rows(worker, partition, State::Held, &due[..1], Rows::FIRST, false);
    let failure = match one {
        // What cannot be written now is itself at fault. Later, when all others have been moved, nothing would
        // show that any more.
        Ok(events) if events > 0 && due.len() > 1 => {
            let rest = &due[1..];
            return move_rows(worker, partition, State::Held, rest, Rows::FIRST, true)
                .map(|more| events + more);
        }
        Ok(events) => return Ok(events),
        Err(failure) => failure,
    };
    let may_be_its_own = matches!(failure.remedy(), Remedy::Wait | Remedy::WaitOrSetAside);
    if failures < PATIENCE || !may_be_its_own {
        return Err(failure);
    }
    // Perhaps only that event fails, and others of the partition can be written.
    let suspects = &due[..due.len().min(SUSPECTS_MAX)];
    move_rows(worker, partition, State::Held, suspects, Rows::FIRST, false)
}

fn read(worker: &mut Worker, due: &[Due], rows: Rows) -> Result<Next, Failure> {
    let (known, queue) = (worker.store, worker.queue_name());
    let read = |rows_max: usize| -> Result<Option<Next>, Error> {
        if lock_store()? != known {
            return Ok(None);
        }
        waiting_events::next(queue, due, rows_max, rows.per_stream_max).map(Some)
    };
    let mut rows_max = rows.max;
    let next = loop {
        match in_transaction(|| read(rows_max).unwrap_or_else(|error| error.raise(ITSELF))) {
            Err(failure) if failure.is_out_of_memory() && rows_max > 1 => rows_max /= 2,
            next => break next?,
        }
    };
    if next.is_none() {
        worker.must_load = true;
    }
    next.ok_or_else(|| another_store().to_failure())
}

/// Moves the first rows of streams of a partition. If that succeeds, the partition is not halted any
/// more, unless one of its tables is locked. `is_writable`: another event of it could be written just now.
/// Returns how many were settled.
fn move_rows(
    worker: &mut Worker,
    partition: Partition,
    state: State,
    due: &[Due],
    rows: Rows,
    is_writable: bool,
) -> Result<u64, Failure> {
    let read = match read(worker, due, rows) {
        Err(failure) if failure.remedy() == Remedy::GiveWay => {
            let message = format!("table waiting_events cannot be read: {}", one_line(&failure));
            worker.queue.set_held_up_by(&message);
            let now = Instant::now();
            due.iter().for_each(|due| worker.waiting.still_held(due.key, 0, now));
            return Ok(0);
        }
        read => read?,
    };
    let mut mover = Mover::new(worker, &read.rows, state == State::Contended);
    settle(&mut mover, 0..read.rows.len())?;
    mover.judge_suspects(is_writable)?;
    let Mover { held, events, locked, blamed, failing, .. } = mover;
    let now = Instant::now();
    if let Some(partition) = locked {
        worker.waiting.halt(partition, Trouble::Locked, now);
        return Ok(events);
    }
    if events > 0 || read.rows.is_empty() {
        worker.waiting.proceed(partition);
    } else if let Some(trouble) = worker.waiting.trouble(partition) {
        // All that was tried is held, so nothing is known about the partition.
        worker.waiting.halt(partition, trouble, now);
    }
    // Streams were read one after the other, so of all before the last one all rows were read.
    let last_ids: HashMap<u64, i64> = read.rows.iter().map(|row| (row.key, row.id)).collect();
    let last_key = read.rows.last().map(|row| row.key);
    let mut is_before_last = read.rows.last().is_some();
    for due in due {
        is_before_last &= last_key != Some(due.key);
        let was_read = is_before_last && rows.per_stream_max >= rows.max;
        match (last_ids.get(&due.key), held.get(&due.key)) {
            (Some(_), _) if failing.contains(&due.key) => worker.waiting.is_failing(due.key, now),
            (Some(_), Some(holder)) => worker.waiting.still_held(due.key, *holder, now),
            // Those after it were left alone.
            (Some(_), None) if blamed.contains(&due.key) => {
                worker.waiting.moved_up_to(due.key, due.first_id, now);
            }
            (Some(_), None) if was_read => worker.waiting.gone(due.key),
            (Some(id), None) => worker.waiting.moved_up_to(due.key, id + 1, now),
            (None, _) if is_before_last || read.all => worker.waiting.gone(due.key),
            (None, _) => {}
        }
    }
    worker.publish_waiting();
    Ok(events)
}

/// Rows on their way to their streams.
struct Mover<'w> {
    worker: &'w mut Worker,
    rows: &'w [WaitingEvent],
    /// Whether to queue up for the stream, which is the only one.
    queues_up: bool,
    /// Streams that are held, and by which transaction: their rows stay.
    held: HashMap<u64, u32>,
    locked: Option<Partition>,
    /// Rows that fail for an unknown reason; later ones of their streams stay too.
    suspects: Vec<(usize, Failure)>,
    /// Streams of those that were set aside for it.
    blamed: HashSet<u64>,
    /// Streams of those that wait because of it.
    failing: HashSet<u64>,
    /// Rows that are settled.
    events: u64,
}

impl<'w> Mover<'w> {
    fn new(worker: &'w mut Worker, rows: &'w [WaitingEvent], queues_up: bool) -> Self {
        Self {
            worker,
            rows,
            queues_up,
            held: HashMap::new(),
            locked: None,
            suspects: Vec::new(),
            blamed: HashSet::new(),
            failing: HashSet::new(),
            events: 0,
        }
    }

    /// If others could be written, the suspects are at fault; otherwise the partition is.
    fn judge_suspects(&mut self, is_writable: bool) -> Result<(), Failure> {
        let suspects = std::mem::take(&mut self.suspects);
        if self.events == 0
            && !is_writable
            && let Some((_, failure)) = suspects.first()
        {
            return Err(failure.clone());
        }
        for (row, failure) in suspects {
            let WaitingEvent { key, stream_id, .. } = &self.rows[row];
            if failure.remedy() == Remedy::WaitOrSetAside {
                self.set_aside(row, &failure)?;
                self.held.remove(key);
                self.blamed.insert(*key);
            } else {
                let stream = display(stream_id);
                let message =
                    format!("stream \"{stream}\" cannot be written: {}", one_line(&failure));
                self.worker.queue.set_held_up_by(&message);
                self.failing.insert(*key);
            }
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
            if self.queues_up
                && let Some(record) = records.first()
            {
                queue_for(record)?;
            }
            let must_wait = |_, key| self.held.contains_key(&key);
            let written = write_batch(&records, store, must_wait, Way::Streams, &Cell::new(None))?;
            let letter = |(record, failure): &(usize, Failure)| {
                (records[*record], queue.place(rows[*record].offset), failure.clone())
            };
            dead_letters::insert_all(&collect(written.refused.iter().map(letter))?)?;
            let stay: HashSet<usize> =
                written.held.iter().flat_map(|held| held.records.iter().copied()).collect();
            let settled = rows.len() - stay.len();
            let gone = rows.iter().enumerate().filter(|(row, _)| !stay.contains(row));
            let gone: Vec<(u64, i64)> = gone.map(|(_, row)| (row.key, row.id)).collect();
            if settled > 0 && waiting_events::delete(&gone)? != settled {
                return Err(another_store());
            }
            let oldest = waiting_events::oldest(queue)?;
            Ok(Outcome { written, settled: settled as u64, oldest })
        };
        let (outcome, commit) =
            in_watched_transaction(|| write().unwrap_or_else(|error| error.raise(ITSELF)))?;
        let Outcome { written, settled, oldest } = outcome;
        for held in &written.held {
            self.held.entry(held.key).or_insert(held.holder);
        }
        self.locked = self.locked.or(written.locked.first().copied());
        if let Some(reason) = &written.held_up_by {
            self.worker.queue.set_held_up_by(reason);
        }
        if settled > 0 {
            let dead = written.refused.len() as u64;
            self.worker.pacing.committed(Instant::now(), commit.duration);
            self.worker.queue.count_dead(dead);
            self.worker.queue.count_unconfirmed_if(commit.is_unconfirmed);
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
            if waiting_events::delete(&[(row.key, row.id)])? != 1 {
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
            if reason.remedy() == Remedy::Wait {
                break;
            }
            match self.write(row..row + 1).map_err(|failure| (failure.remedy(), failure)) {
                Ok(()) => return Ok(()),
                Err((Remedy::Wait | Remedy::WaitOrSetAside, failure)) => reason = failure,
                Err((_, failure)) => return Err(failure),
            }
        }
        if self.suspects.len() == SUSPECTS_MAX {
            return Err(reason);
        }
        self.held.insert(self.rows[row].key, 0);
        self.suspects.push((row, reason));
        Ok(())
    }
}

/// Somebody has deleted rows, or dropped the extension: what was read is not valid any more.
fn another_store() -> Error {
    Error::Missing { object: "a row of waiting_events".into() }
}
