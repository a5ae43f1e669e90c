//! Advancing heads. Appending advances a stream's head, which locks the stream until the transaction
//! ends.
#![expect(unsafe_code, reason = "drives PostgreSQL's table access")]

use super::retry::{Retry, find_retry};
use crate::model::error::StoreError;
use crate::model::partition::Partition;
use crate::model::stream_append::StreamAppend;
use crate::model::stream_no::{COUNTER_MAX, counter, stream_no};
use crate::pg::call::datum::{body, display, text};
use crate::pg::error::Error;
use crate::pg::positions::stream_numbers::StreamNumbers;
use crate::pg::positions::transaction::note_stream_lock;
use crate::pg::session::xact::{
    advance_command, check_for_interrupts, is_serializable, now_us, uses_one_snapshot,
    with_snapshot_of_now,
};
use crate::pg::settings;
use crate::pg::tables::heads::{Head, Heads, Made, look_for_maker};
use crate::pg::tables::heap::{Update, Wait};
use crate::pg::tables::leaf_writer::LeafWriter;
use crate::pg::tables::relation::For;
use crate::pg::tables::scan::{decision_snapshot, latest};
use crate::pg::tables::schema::{Root, streams};
use crate::pg::tables::writing::Writing;
use pgrx::pg_sys;

/// How often creating a stream may find its key taken and then not find the stream. Above it, the
/// unique index itself says what is wrong.
const CREATE_ATTEMPTS_MAX: usize = 10;

/// What has become of a stream's head.
#[derive(Clone, Copy, Debug)]
pub enum Advanced {
    /// The head was advanced: the events are to be written.
    Moved {
        /// number of the stream
        stream_no: i64,
        /// its version before
        previous: i64,
        /// time of the append
        timestamp_us: i64,
    },
    /// The events are there already: nothing is to be written.
    Retried(Retry),
}

/// What `try_advance` has done.
#[derive(Clone, Copy, Debug)]
pub enum Tried {
    /// The head was advanced.
    Moved(Advanced),
    /// There is nothing to be written.
    Unchanged,
    /// This other transaction has locked the stream.
    Held(pg_sys::TransactionId),
}

/// A stream as `try_advance` has found it.
#[derive(Clone, Copy)]
pub struct Found<'a> {
    /// its number
    pub stream_no: i64,
    /// its version
    pub version: i64,
    /// its entity
    pub entity_id: Option<&'a [u8]>,
}

/// A partition's heads, open to be advanced.
pub struct HeadWriter<'t> {
    writer: LeafWriter<'t>,
    heads: Heads,
    numbers: &'t StreamNumbers,
}

impl<'t> HeadWriter<'t> {
    /// Opens the heads of a partition. Streams that are created get their numbers from `numbers`.
    pub fn open(
        partition: Partition,
        writing: &'t Writing,
        numbers: &'t StreamNumbers,
    ) -> Result<Self, Error> {
        let heads = Heads::by_name(partition, For::Writing, latest())?;
        let writer = LeafWriter::of(heads.leaf().again(), Root::Streams, writing);
        Ok(Self { writer, heads, numbers })
    }

    /// Checks the expected version and advances the stream's head by the number of events;
    /// creates the stream if it is not there. From here on the stream is locked until the
    /// transaction ends.
    pub fn advance(&mut self, append: &StreamAppend<'_>) -> Result<Advanced, Error> {
        if is_serializable() {
            self.note_read(append)?;
        }
        let mut attempts = 0;
        loop {
            check_for_interrupts();
            if self.heads.stand_on(append.stream_id, append.tenant_id) {
                if let Some(advanced) = self.advance_existing(append)? {
                    return Ok(advanced);
                }
                continue;
            }
            if let Err(missing) = check_expected(append, None) {
                if self.is_there_now(append)? {
                    continue;
                }
                return Err(missing);
            }
            find_retry(append, 0, 0)?;
            if let Some(advanced) = self.create(append, append.events.len(), &mut attempts)? {
                return Ok(advanced);
            }
        }
    }

    /// Like `advance` for any version, but does not wait for locks. `count` returns how many of the
    /// events are to be written, given the stream, or `None` if it does not exist. It may be called
    /// several times.
    pub fn try_advance(
        &mut self,
        append: &StreamAppend<'_>,
        mut count: impl FnMut(Option<Found<'_>>) -> Result<usize, Error>,
    ) -> Result<Tried, Error> {
        let mut attempts = 0;
        loop {
            check_for_interrupts();
            if self.heads.stand_on(append.stream_id, append.tenant_id) {
                if let Some(tried) = self.try_advance_existing(append, &mut count)? {
                    return Ok(tried);
                }
                continue;
            }
            match look_for_maker(append.partition, append.stream_id, append.tenant_id)? {
                Made::Nowhere => {}
                Made::Committed => continue,
                Made::By(transaction) => return Ok(Tried::Held(transaction)),
            }
            let events = count(None)?;
            if let Some(advanced) = self.create(append, events, &mut attempts)? {
                return Ok(Tried::Moved(advanced));
            }
        }
    }

    /// Advances the head that the scan stands on; `None` when the row is gone.
    fn try_advance_existing(
        &mut self,
        append: &StreamAppend<'_>,
        count: &mut impl FnMut(Option<Found<'_>>) -> Result<usize, Error>,
    ) -> Result<Option<Tried>, Error> {
        // A trigger sees a row that is its own to change.
        let mut must_lock = self.writer.is_guarded();
        let mut wait = Wait::Skip;
        loop {
            if std::mem::take(&mut must_lock) {
                match self.heads.lock_newest(Wait::Skip) {
                    // With the lock there is nothing left to wait for.
                    Update::Done => wait = Wait::Block,
                    Update::Gone | Update::Changed => return Ok(None),
                    Update::Held(transaction) => return Ok(Some(Tried::Held(transaction))),
                    Update::Failed(result) => return Err(unexpected(append, result)),
                }
            }
            let head = self.heads.current();
            let found = Found {
                stream_no: head.stream_no(),
                version: head.current_version(),
                // SAFETY: the scan still stands on the head.
                entity_id: head.entity_id().map(|entity_id| unsafe { body(entity_id) }),
            };
            let events = count(Some(found))?;
            if events == 0 {
                return Ok(Some(Tried::Unchanged));
            }
            let (advanced, row) = moved_on(&head, events);
            // SAFETY: the scan stands on the head, whose columns these are.
            let update = unsafe { self.writer.update(self.heads.place(), row, wait)? };
            match update {
                Update::Done => {
                    note_stream_lock();
                    return Ok(Some(Tried::Moved(advanced)));
                }
                Update::Gone => return Ok(None),
                Update::Failed(result) => return Err(unexpected(append, result)),
                // The other transaction may have a row lock that does not conflict with ours.
                Update::Changed | Update::Held(_) => must_lock = true,
            }
        }
    }

    /// Creates the stream if it is not there, without events, and gives its row to `use_head`.
    pub fn get_or_create<T>(
        &mut self,
        append: &StreamAppend<'_>,
        use_head: impl FnOnce(Head<'_>) -> T,
    ) -> Result<T, Error> {
        let mut attempts = 0;
        loop {
            check_for_interrupts();
            // What the statement's snapshot shows, where all of the transaction's statements have one.
            let mut shown = Heads::by_name(append.partition, For::Writing, decision_snapshot())?;
            if let Some(head) = shown.find(append.stream_id, append.tenant_id) {
                check_entity(append, &head)?;
                return Ok(use_head(head));
            }
            if uses_one_snapshot() && self.heads.find(append.stream_id, append.tenant_id).is_some()
            {
                return Err(Error::ConcurrentAppend { stream_id: display(append.stream_id) });
            }
            self.create(append, 0, &mut attempts)?;
            advance_command();
        }
    }

    /// Reads the head with the transaction's snapshot, as a query would: what the decision depends on
    /// is found by the checks for serializability.
    fn note_read(&self, append: &StreamAppend<'_>) -> Result<(), Error> {
        let mut heads = Heads::by_name(append.partition, For::Writing, decision_snapshot())?;
        heads.find(append.stream_id, append.tenant_id);
        Ok(())
    }

    /// Whether the stream is there after all. The scan looks at each version of a row at another
    /// moment: one that moves to another page meanwhile can be missed in both places. A snapshot of
    /// one moment cannot miss it.
    fn is_there_now(&self, append: &StreamAppend<'_>) -> Result<bool, Error> {
        with_snapshot_of_now(|snapshot| {
            let mut heads = Heads::by_name(append.partition, For::Writing, snapshot)?;
            Ok(heads.find(append.stream_id, append.tenant_id).is_some())
        })
    }

    /// Advances the head that the scan stands on; `None` when the row is gone.
    fn advance_existing(&mut self, append: &StreamAppend<'_>) -> Result<Option<Advanced>, Error> {
        // A trigger sees a row that is its own to change.
        let mut must_lock = self.writer.is_guarded();
        loop {
            if std::mem::take(&mut must_lock) {
                match self.heads.lock_newest(Wait::Block) {
                    Update::Done => note_stream_lock(),
                    Update::Gone | Update::Changed | Update::Held(_) => return Ok(None),
                    Update::Failed(result) => return Err(unexpected(append, result)),
                }
            }
            let head = self.heads.current();
            let previous = head.current_version();
            if let Some(retry) = find_retry(append, head.stream_no(), previous)? {
                return Ok(Some(Advanced::Retried(retry)));
            }
            check_expected(append, Some(previous))?;
            check_entity(append, &head)?;
            let (advanced, row) = moved_on(&head, append.events.len());
            // SAFETY: the scan stands on the head, whose columns these are.
            let update = unsafe { self.writer.update(self.heads.place(), row, Wait::Block)? };
            match update {
                Update::Done => {
                    note_stream_lock();
                    return Ok(Some(advanced));
                }
                Update::Gone => return Ok(None),
                Update::Failed(result) => return Err(unexpected(append, result)),
                Update::Changed if uses_one_snapshot() => {
                    return Err(Error::ConcurrentAppend { stream_id: display(append.stream_id) });
                }
                Update::Changed | Update::Held(_) => {}
            }
            // Another transaction was faster. Queue for the row, so that those who wait get it in turn.
            must_lock = true;
        }
    }

    /// If a stream has `number`, which was to be a new one, the sequence was set too low: goes on above
    /// the numbers of all streams of the partition.
    fn skip_numbers_taken(&self, partition: Partition, number: i64) -> Result<(), Error> {
        let mut heads = Heads::by_number(partition, latest())?;
        if heads.find_number(number).is_none() {
            return Ok(());
        }
        let limit = stream_no(partition, settings::node_id(), COUNTER_MAX);
        if let Some(last) = limit.and_then(|limit| heads.last_number(limit)) {
            self.numbers.skip_to(counter(last));
        }
        Ok(())
    }

    /// Creates the stream with `events` events; `None` when it is there already. `attempts` counts the
    /// calls for a stream.
    fn create(
        &mut self,
        append: &StreamAppend<'_>,
        events: usize,
        attempts: &mut usize,
    ) -> Result<Option<Advanced>, Error> {
        *attempts += 1;
        let insist = *attempts > CREATE_ATTEMPTS_MAX && !self.is_there_now(append)?;
        let partition = append.partition;
        let number = stream_no(partition, settings::node_id(), self.numbers.take()?)
            .ok_or(Error::StreamNumbers)?;
        let timestamp_us = now_us();
        let int8 = |value: i64| Some(pg_sys::Datum::from(value));
        let version = int8(events as i64);
        self.writer.fill(
            0,
            [
                int8(number),
                version,
                version,
                int8(timestamp_us),
                int8(timestamp_us),
                Some(pg_sys::Datum::from(partition.number())),
                Some(text(append.tenant_id)),
                Some(text(append.stream_id)),
                append.entity_id.map(text),
            ],
        );
        if insist {
            self.writer.insert(1)?;
        } else if !self.writer.insert_unless_there()? {
            self.skip_numbers_taken(partition, number)?;
            return Ok(None);
        }
        note_stream_lock();
        Ok(Some(Advanced::Moved { stream_no: number, previous: 0, timestamp_us }))
    }
}

/// A head that was advanced by `events` events, and its columns.
fn moved_on(
    head: &Head<'_>,
    events: usize,
) -> (Advanced, [Option<pg_sys::Datum>; streams::COLUMNS]) {
    let (stream_no, previous) = (head.stream_no(), head.current_version());
    // A stream's times never decrease, even if the clock does.
    let timestamp_us = now_us().max(head.updated_at_us());
    let mut row = head.columns();
    row[streams::CURRENT_VERSION] = Some(pg_sys::Datum::from(previous + events as i64));
    row[streams::WATERMARK] = row[streams::CURRENT_VERSION];
    row[streams::UPDATED_AT] = Some(pg_sys::Datum::from(timestamp_us));
    (Advanced::Moved { stream_no, previous, timestamp_us }, row)
}

fn unexpected(append: &StreamAppend<'_>, result: pg_sys::TM_Result::Type) -> Error {
    let stream = display(append.stream_id);
    if result == pg_sys::TM_Result::TM_SelfModified {
        return Error::ModifiedByTrigger { stream_id: stream };
    }
    Error::Internal { what: format!("head of stream \"{stream}\" cannot be locked: {result}") }
}

fn check_expected(append: &StreamAppend<'_>, current: Option<i64>) -> Result<(), Error> {
    if append.expected.is_satisfied_by(current) {
        return Ok(());
    }
    Err(StoreError::WrongExpectedVersion {
        stream_id: display(append.stream_id),
        tenant_id: display(append.tenant_id),
        expected: append.expected,
        current,
    }
    .into())
}

/// A stream's entity is given when the stream is created, and stays: events must not change whom they
/// are about when a later one is appended.
fn check_entity(append: &StreamAppend<'_>, head: &Head<'_>) -> Result<(), Error> {
    let Some(given) = append.entity_id else { return Ok(()) };
    // SAFETY: the scan still stands on the head.
    let entity_id = head.entity_id().map(|entity_id| unsafe { body(entity_id) });
    if entity_id == Some(given) {
        return Ok(());
    }
    Err(StoreError::EntityMismatch {
        stream_id: display(append.stream_id),
        entity_id: entity_id.map(display),
        given: display(given),
    }
    .into())
}
