//! Advancing heads. Appending advances a stream's head, which locks the stream until the transaction
//! ends.
#![expect(unsafe_code, reason = "drives PostgreSQL's table access")]

use super::retry::{Retry, find_retry};
use crate::codec::hot_tail::TailEvent;
use crate::model::batch::StreamKey;
use crate::model::error::StoreError;
use crate::model::partition::Partition;
use crate::model::stream_append::StreamAppend;
use crate::model::stream_no::{COUNTER_MAX, counter, stream_no};
use crate::pg::call::datum::{body, display, text};
use crate::pg::cluster::owners::check_may_write;
use crate::pg::error::Error;
use crate::pg::hot::tail::{Tail, Tails};
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
use std::rc::Rc;

/// How often creating a stream may find its key taken and then not find the stream. Above it, the
/// unique index itself says what is wrong.
const CREATE_ATTEMPTS_MAX: usize = 10;

/// What has become of a stream's head.
#[derive(Clone, Debug)]
pub enum Advanced {
    /// The head was advanced: the events are to be written, those of the tail first.
    Moved {
        /// number of the stream
        stream_no: i64,
        /// its version before
        previous: i64,
        /// time of the append
        timestamp_us: i64,
        /// the stream's tail, which is settled with this append
        tail: Option<Settling>,
    },
    /// The events are there already: nothing is to be written.
    Retried(Retry),
}

/// A tail that is written before the events of an append, or without any.
#[derive(Clone, Debug)]
pub struct Settling {
    /// its events
    pub tail: Rc<Tail>,
    /// events at its beginning that are settled already
    pub skipped: usize,
    /// no event that is written has an earlier time
    pub after_us: i64,
}

impl Settling {
    /// How many events are written.
    pub fn len(&self) -> usize {
        self.tail.len() - self.skipped
    }

    /// The events that are written.
    pub fn events(&self) -> impl Iterator<Item = TailEvent<'_>> {
        self.tail.events(self.after_us).skip(self.skipped)
    }

    /// The time of the last of them.
    fn last_us(&self) -> i64 {
        self.tail.last_us(self.after_us)
    }
}

/// Where a stream's tail is to be looked for.
#[derive(Clone, Copy)]
pub enum TailOf<'a> {
    /// In the table.
    Stream,
    /// These are its next events.
    Given(&'a Rc<Tail>),
}

/// What `try_advance` has done.
#[derive(Clone, Debug)]
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
    tails: Tails,
}

impl<'t> HeadWriter<'t> {
    /// Opens the heads of a partition, which this server must be allowed to write. Streams that are created
    /// get their numbers from `numbers`.
    pub fn open(
        partition: Partition,
        writing: &'t Writing,
        numbers: &'t StreamNumbers,
    ) -> Result<Self, Error> {
        let heads = Heads::by_name(partition, For::Writing, latest())?;
        // Behind the lock of the leaf, for which a fence waits, or which waits for a fence.
        check_may_write(partition)?;
        let writer = LeafWriter::of(heads.leaf().again(), Root::Streams, writing);
        Ok(Self { writer, heads, numbers, tails: Tails::open(partition)? })
    }

    /// Notes that these streams are appended to, and reads what many of them together may have in batches
    /// of a hot partition. To be called before they are advanced.
    pub fn prepare(&mut self, appends: &[StreamAppend<'_>]) -> Result<(), Error> {
        for append in appends {
            self.tails.note(append.key().hash64())?;
        }
        self.tails.read_ahead(appends.iter().map(StreamAppend::key))
    }

    /// The same for who writes batches, and notes nothing.
    pub fn prepare_to_try<'a>(
        &mut self,
        streams: impl Iterator<Item = StreamKey<'a>>,
    ) -> Result<(), Error> {
        self.tails.read_ahead(streams)
    }

    /// Checks the expected version and advances the stream's head by the number of events, and by those
    /// of its tail; creates the stream if it is not there. From here on the stream is locked until the
    /// transaction ends.
    pub fn advance(&mut self, append: &StreamAppend<'_>) -> Result<Advanced, Error> {
        if is_serializable() {
            self.note_read(append)?;
        }
        let hash = append.key().hash64();
        let mut attempts = 0;
        loop {
            check_for_interrupts();
            if self.heads.stand_on(append.stream_id, append.tenant_id) {
                if let Some(advanced) = self.advance_existing(append, hash)? {
                    return Ok(advanced);
                }
                continue;
            }
            let tail = self.tail_of_new(append, hash)?;
            let current = tail.as_ref().map(|tail| tail.len() as i64);
            if let Err(missing) = check_expected(append, current) {
                if self.is_there_now(append)? {
                    continue;
                }
                return Err(missing);
            }
            if tail.is_some() {
                check_entity(append, None)?;
            }
            find_retry(append, 0, 0)?;
            let events = append.events.len();
            if let Some(advanced) = self.create(append, events, tail.as_ref(), &mut attempts)? {
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
        tail_of: TailOf<'_>,
        mut count: impl FnMut(Option<Found<'_>>) -> Result<usize, Error>,
    ) -> Result<Tried, Error> {
        let hash = append.key().hash64();
        let mut attempts = 0;
        // Tails that are given come in the order of their streams.
        let mut walks = matches!(tail_of, TailOf::Given(_));
        loop {
            check_for_interrupts();
            let is_found = match std::mem::take(&mut walks) {
                true => self.heads.walk_to(append.stream_id, append.tenant_id),
                false => self.heads.stand_on(append.stream_id, append.tenant_id),
            };
            if is_found {
                if let Some(tried) = self.try_advance_existing(append, hash, tail_of, &mut count)? {
                    return Ok(tried);
                }
                continue;
            }
            match look_for_maker(append.partition, append.stream_id, append.tenant_id)? {
                Made::Nowhere => {}
                Made::Committed => continue,
                Made::By(transaction) => return Ok(Tried::Held(transaction)),
            }
            let tail = match tail_of {
                TailOf::Given(tail) => Some(tail.clone()),
                TailOf::Stream => self.tail_of_new(append, hash)?,
            };
            // A stream that is known by its tail has no entity.
            let found = tail.as_ref().map(|tail| Found {
                stream_no: 0,
                version: tail.len() as i64,
                entity_id: None,
            });
            let events = count(found)?;
            if let Some(advanced) = self.create(append, events, tail.as_ref(), &mut attempts)? {
                return Ok(Tried::Moved(advanced));
            }
        }
    }

    /// The tail of a stream that has no head, if it has one.
    fn tail_of_new(&self, append: &StreamAppend<'_>, hash: u64) -> Result<Option<Rc<Tail>>, Error> {
        if !self.tails.may_have_tail(hash, 0) {
            return Ok(None);
        }
        let tail = self.tails.read(append.key(), 0)?;
        Ok((!tail.is_empty()).then(|| Rc::new(tail)))
    }

    /// Advances the head that the scan stands on; `None` when the row is gone.
    fn try_advance_existing(
        &mut self,
        append: &StreamAppend<'_>,
        hash: u64,
        tail_of: TailOf<'_>,
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
            let tail = match tail_of {
                TailOf::Given(tail) => Some(tail.clone()),
                TailOf::Stream if !self.tails.may_have_tail(hash, head.settled_batch()) => None,
                TailOf::Stream if wait == Wait::Skip => {
                    must_lock = true;
                    continue;
                }
                TailOf::Stream => {
                    Some(Rc::new(self.tails.read(append.key(), head.settled_batch())?))
                }
            };
            let moving = Moving::new(&head, tail, self.tails.settled_batch);
            let found = Found {
                stream_no: head.stream_no(),
                version: moving.version_before(),
                // SAFETY: the scan still stands on the head.
                entity_id: head.entity_id().map(|entity_id| unsafe { body(entity_id) }),
            };
            let events = count(Some(found))?;
            if events == 0 && moving.settled_now() == 0 {
                return Ok(Some(Tried::Unchanged));
            }
            let (advanced, row) = moving.by(events);
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

    /// Creates the stream if it is not there, without events, and gives its row to `use_head`. `None` if
    /// it has a tail, which must be settled first.
    pub fn get_or_create<T>(
        &mut self,
        append: &StreamAppend<'_>,
        use_head: impl FnOnce(Head<'_>) -> T,
    ) -> Result<Option<T>, Error> {
        let hash = append.key().hash64();
        self.tails.note(hash)?;
        let mut attempts = 0;
        loop {
            check_for_interrupts();
            // What the statement's snapshot shows, where all of the transaction's statements have one.
            let mut shown = Heads::by_name(append.partition, For::Writing, decision_snapshot())?;
            if let Some(head) = shown.find(append.stream_id, append.tenant_id) {
                let settled = head.settled_batch();
                if self.tails.may_have_tail(hash, settled)
                    && !self.tails.read(append.key(), settled)?.is_empty()
                {
                    return Ok(None);
                }
                check_entity(append, Some(&head))?;
                return Ok(Some(use_head(head)));
            }
            if uses_one_snapshot() && self.heads.find(append.stream_id, append.tenant_id).is_some()
            {
                return Err(Error::ConcurrentAppend { stream_id: display(append.stream_id) });
            }
            let tail = self.tail_of_new(append, hash)?;
            if tail.is_some() {
                return Ok(None);
            }
            self.create(append, 0, None, &mut attempts)?;
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
    fn advance_existing(
        &mut self,
        append: &StreamAppend<'_>,
        hash: u64,
    ) -> Result<Option<Advanced>, Error> {
        // A trigger sees a row that is its own to change.
        let mut must_lock = self.writer.is_guarded();
        let mut is_locked = false;
        loop {
            if std::mem::take(&mut must_lock) {
                match self.heads.lock_newest(Wait::Block) {
                    Update::Done => note_stream_lock(),
                    Update::Gone | Update::Changed | Update::Held(_) => return Ok(None),
                    Update::Failed(result) => return Err(unexpected(append, result)),
                }
                is_locked = true;
            }
            let head = self.heads.current();
            let settled = head.settled_batch();
            let tail = if !self.tails.may_have_tail(hash, settled) {
                None
            } else if is_locked {
                Some(Rc::new(self.tails.read(append.key(), settled)?))
            } else {
                must_lock = true;
                continue;
            };
            let moving = Moving::new(&head, tail, self.tails.settled_batch);
            let previous = moving.version_before();
            if let Some(retry) = find_retry(append, head.stream_no(), previous)? {
                return Ok(Some(Advanced::Retried(retry)));
            }
            check_expected(append, Some(previous))?;
            check_entity(append, Some(&head))?;
            let (advanced, row) = moving.by(append.events.len());
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

    /// Creates the stream with its tail and `events` events; `None` when it is there already. `attempts`
    /// counts the calls for a stream.
    fn create(
        &mut self,
        append: &StreamAppend<'_>,
        events: usize,
        tail: Option<&Rc<Tail>>,
        attempts: &mut usize,
    ) -> Result<Option<Advanced>, Error> {
        *attempts += 1;
        let insist = *attempts > CREATE_ATTEMPTS_MAX && !self.is_there_now(append)?;
        let partition = append.partition;
        let number = stream_no(partition, settings::node_id(), self.numbers.take()?)
            .ok_or(Error::StreamNumbers)?;
        let tail = tail.map(|tail| Settling { tail: tail.clone(), skipped: 0, after_us: i64::MIN });
        let created_us = tail.as_ref().and_then(|tail| Some(tail.events().next()?.timestamp_us));
        let updated_us = tail.as_ref().map(Settling::last_us).unwrap_or(i64::MIN);
        let settled = tail.as_ref().map_or(0, Settling::len);
        let settled_batch = tail.as_ref().map_or(0, |settling| settling.tail.last_batch);
        let timestamp_us =
            if settled == 0 || events > 0 { now_us().max(updated_us) } else { updated_us };
        let int8 = |value: i64| Some(pg_sys::Datum::from(value));
        let version = int8((settled + events) as i64);
        self.writer.fill(
            0,
            [
                int8(number),
                version,
                version,
                int8(created_us.unwrap_or(timestamp_us)),
                int8(timestamp_us),
                int8(settled_batch),
                Some(pg_sys::Datum::from(partition.number())),
                Some(pg_sys::Datum::from(settled as i32)),
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
        Ok(Some(Advanced::Moved { stream_no: number, previous: 0, timestamp_us, tail }))
    }
}

/// A head that is about to be advanced.
struct Moving<'a> {
    head: &'a Head<'a>,
    tail: Option<Settling>,
    settled_batch: i64,
    settled_events: i32,
}

impl<'a> Moving<'a> {
    /// `tail` are the stream's next events. Up to batch `floor` everything is settled and gone.
    fn new(head: &'a Head<'a>, tail: Option<Rc<Tail>>, floor: i64) -> Self {
        let before = head.settled_batch();
        let after_us = head.updated_at_us();
        let settled_batch = tail.as_ref().map_or(before, |tail| tail.last_batch.max(before));
        let tail = tail.map(|tail| {
            let skipped =
                tail.events(after_us).take_while(|event| event.batch_no <= before).count();
            Settling { tail, skipped, after_us }
        });
        let settled_events = if before > floor { head.settled_events() } else { 0 };
        Self { head, tail, settled_batch, settled_events }
    }

    /// How many events of the tail are settled now.
    fn settled_now(&self) -> usize {
        self.tail.as_ref().map_or(0, Settling::len)
    }

    /// The version of the last event of the tail.
    fn version_before(&self) -> i64 {
        self.head.current_version() + self.settled_now() as i64
    }

    /// Advances by the tail and `events` events more. Returns the columns too.
    fn by(self, events: usize) -> (Advanced, [Option<pg_sys::Datum>; streams::COLUMNS]) {
        let previous = self.version_before();
        let settled = self.settled_now();
        let before_us = match &self.tail {
            Some(tail) if settled > 0 => tail.last_us(),
            _ => self.head.updated_at_us(),
        };
        // A stream's times never decrease, even if the clock does.
        let timestamp_us = if events > 0 { now_us().max(before_us) } else { before_us };
        let mut row = self.head.columns();
        row[streams::CURRENT_VERSION] = Some(pg_sys::Datum::from(previous + events as i64));
        row[streams::WATERMARK] = row[streams::CURRENT_VERSION];
        row[streams::UPDATED_AT] = Some(pg_sys::Datum::from(timestamp_us));
        row[streams::SETTLED_BATCH] = Some(pg_sys::Datum::from(self.settled_batch));
        let settled_events = self.settled_events.saturating_add(settled as i32);
        row[streams::SETTLED_EVENTS] = Some(pg_sys::Datum::from(settled_events));
        let (stream_no, tail) = (self.head.stream_no(), self.tail.filter(|_| settled > 0));
        let previous = self.head.current_version();
        (Advanced::Moved { stream_no, previous, timestamp_us, tail }, row)
    }
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
/// A stream without a head is known by its tail, and has none.
fn check_entity(append: &StreamAppend<'_>, head: Option<&Head<'_>>) -> Result<(), Error> {
    let Some(given) = append.entity_id else { return Ok(()) };
    // SAFETY: the scan still stands on the head.
    let entity_id = head.and_then(Head::entity_id).map(|entity_id| unsafe { body(entity_id) });
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
