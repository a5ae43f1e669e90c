//! Heads: the rows of `event_streams`. Appending moves a stream's head on, which locks the stream
//! until the transaction ends.
#![expect(unsafe_code, reason = "drives PostgreSQL's table access")]

use super::datum::{body, display, text};
use super::error::Error;
use super::event_ids::{Retry, find_retry};
use super::leaf_writer::{Executor, LeafWriter};
use super::position::{next_stream_counter, note_stream_lock};
use super::relation::{For, Leaf, LeafIndex, Root};
use super::scan::{Direction, Key, Scan, latest};
use super::settings;
use super::xact::{check_for_interrupts, now_us, uses_one_snapshot, with_snapshot_of_now};
use crate::model::error::StoreError;
use crate::model::event::NewEvent;
use crate::model::partition::Partition;
use crate::model::stream_no::stream_no;
use crate::model::version::ExpectedVersion;
use pgrx::pg_sys;

const COLUMNS: usize = 9;
const CURRENT_VERSION: usize = 1;
const WATERMARK: usize = 2;
const UPDATED_AT: usize = 4;
const ENTITY_ID: usize = 8;

/// How often creating a stream may find its key taken and then not find the stream. Above it, the
/// unique index itself says what is wrong.
const CREATE_ATTEMPTS_MAX: usize = 10;

/// A stream's row, as long as the scan that found it stands on it.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    values: &'a [pg_sys::Datum],
    nulls: &'a [bool],
}

impl<'a> Head<'a> {
    fn int8(&self, column: usize) -> i64 {
        self.values[column].value() as i64
    }

    /// `stream_no`
    pub fn stream_no(&self) -> i64 {
        self.int8(0)
    }

    /// `current_version`
    pub fn current_version(&self) -> i64 {
        self.int8(CURRENT_VERSION)
    }

    /// `watermark`
    pub fn watermark(&self) -> i64 {
        self.int8(WATERMARK)
    }

    fn updated_at_us(&self) -> i64 {
        self.int8(UPDATED_AT)
    }

    /// `tenant_id`, as a value
    pub fn tenant_id(&self) -> pg_sys::Datum {
        self.values[6]
    }

    /// `stream_id`, as a value
    pub fn stream_id(&self) -> pg_sys::Datum {
        self.values[7]
    }

    /// `entity_id`, as a value
    pub fn entity_id(&self) -> Option<pg_sys::Datum> {
        (!self.nulls[ENTITY_ID]).then(|| self.values[ENTITY_ID])
    }

    /// All columns.
    pub fn columns(&self) -> [Option<pg_sys::Datum>; COLUMNS] {
        std::array::from_fn(|column| (!self.nulls[column]).then(|| self.values[column]))
    }
}

/// An open leaf of `event_streams`, to find heads in.
pub struct Heads {
    leaf: Leaf,
    scan: Scan,
    index: LeafIndex,
}

impl Heads {
    /// Opens the leaf of a partition, to find streams by name.
    pub fn by_name(
        partition: Partition,
        purpose: For,
        snapshot: pg_sys::Snapshot,
    ) -> Result<Self, Error> {
        let leaf = Leaf::open(Root::Streams, partition, purpose)?;
        let index = LeafIndex::ByStream;
        Ok(Self { leaf, scan: Scan::open(&leaf, index, snapshot, 2), index })
    }

    /// Opens the leaf of a partition, to find streams by number.
    pub fn by_number(partition: Partition, snapshot: pg_sys::Snapshot) -> Result<Self, Error> {
        let leaf = Leaf::open(Root::Streams, partition, For::Reading)?;
        let index = LeafIndex::ByNumber;
        Ok(Self { leaf, scan: Scan::open(&leaf, index, snapshot, 1), index })
    }

    /// The head of the stream of this name.
    pub fn find(&mut self, stream_id: &[u8], tenant_id: &[u8]) -> Option<Head<'_>> {
        self.seek(stream_id, tenant_id);
        self.scan.next(Direction::Forward).then(|| self.current())
    }

    fn seek(&mut self, stream_id: &[u8], tenant_id: &[u8]) {
        debug_assert_eq!(self.index, LeafIndex::ByStream);
        self.scan.find(&[(1, Key::Text(stream_id)), (2, Key::Text(tenant_id))]);
    }

    /// Makes the scan stand on the head of the stream of this name, which is about to be updated;
    /// `false` where there is no such stream.
    fn find_to_update(&mut self, stream_id: &[u8], tenant_id: &[u8]) -> bool {
        self.seek(stream_id, tenant_id);
        self.scan.next_without_pruning(&self.leaf)
    }

    /// The head of the stream of this number.
    pub fn find_number(&mut self, stream_no: i64) -> Option<Head<'_>> {
        debug_assert_eq!(self.index, LeafIndex::ByNumber);
        self.scan.find(&[(1, Key::Int8(stream_no))]);
        self.scan.next(Direction::Forward).then(|| self.current())
    }

    fn current(&self) -> Head<'_> {
        let (values, nulls) = self.scan.row();
        Head { values, nulls }
    }

    /// Closes the leaf.
    pub fn close(self) {
        self.scan.end();
        self.leaf.close();
    }

    /// Replaces the row that the scan stands on. Waits for another transaction that has changed
    /// it, and then does nothing if that one has committed.
    unsafe fn update(
        &mut self,
        row: [Option<pg_sys::Datum>; COLUMNS],
        writer: &mut WriterOf<'_>,
    ) -> Update {
        // SAFETY: the slot stands on a row of the open leaf; values outlive the call.
        unsafe {
            let mut values = row.map(|value| value.unwrap_or(pg_sys::Datum::from(0)));
            let mut nulls = row.map(|value| value.is_none());
            let relation = self.leaf.relation();
            let tuple = pg_sys::heap_form_tuple(
                self.leaf.descriptor(),
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            (*tuple).t_tableOid = (*relation).rd_id;
            let mut place = (*self.scan.slot()).tts_tid;
            let mut failure = pg_sys::TM_FailureData::default();
            let mut mode = 0;
            let crosscheck = if uses_one_snapshot() {
                pg_sys::GetTransactionSnapshot()
            } else {
                std::ptr::null_mut()
            };
            let result = pg_sys::heap_update(
                relation,
                &mut place,
                tuple,
                pg_sys::GetCurrentCommandId(true),
                crosscheck,
                true,
                &mut failure,
                &mut mode,
            );
            let update = match result {
                pg_sys::TM_Result::TM_Ok => {
                    let heap_only = (*(*tuple).t_data).t_infomask2 as u32 & pg_sys::HEAP_ONLY_TUPLE;
                    if heap_only == 0 {
                        writer.get(&self.leaf).index_moved(tuple);
                    }
                    Update::Done
                }
                pg_sys::TM_Result::TM_Updated => Update::Changed,
                pg_sys::TM_Result::TM_Deleted => Update::Gone,
                other => Update::Failed(other),
            };
            pg_sys::heap_freetuple(tuple);
            update
        }
    }

    /// Locks the newest version of the row that the scan stands on, and makes the scan stand on it.
    fn lock_newest(&mut self) -> Update {
        // SAFETY: the slot stands on a row of the open leaf; the access method's own function is
        // called as table_tuple_lock does.
        let result = unsafe {
            let relation = self.leaf.relation();
            let slot = self.scan.slot();
            let mut place = (*slot).tts_tid;
            let mut failure = pg_sys::TM_FailureData::default();
            let command = pg_sys::GetCurrentCommandId(true);
            let Some(lock) = (*(*relation).rd_tableam).tuple_lock else {
                return Update::Failed(pg_sys::TM_Result::TM_Invisible);
            };
            let (place, failure) = (&raw mut place, &raw mut failure);
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                lock(
                    relation,
                    place,
                    latest(),
                    slot,
                    command,
                    pg_sys::LockTupleMode::LockTupleNoKeyExclusive,
                    pg_sys::LockWaitPolicy::LockWaitBlock,
                    pg_sys::TUPLE_LOCK_FLAG_FIND_LAST_VERSION as u8,
                    failure,
                )
            })
        };
        match result {
            pg_sys::TM_Result::TM_Ok => Update::Done,
            pg_sys::TM_Result::TM_Deleted => Update::Gone,
            pg_sys::TM_Result::TM_Updated => Update::Changed,
            other => Update::Failed(other),
        }
    }
}

enum Update {
    Done,
    Changed,
    Gone,
    Failed(pg_sys::TM_Result::Type),
}

/// The indexes of the leaf, opened when they are needed: most updates need none.
struct WriterOf<'e> {
    executor: &'e Executor,
    writer: Option<LeafWriter>,
}

impl WriterOf<'_> {
    fn get(&mut self, leaf: &Leaf) -> &mut LeafWriter {
        self.writer.get_or_insert_with(|| LeafWriter::open_for_conflicts(leaf, self.executor))
    }
}

/// What is to be appended to one stream.
#[derive(Clone, Copy)]
pub struct StreamAppend<'a> {
    /// its partition
    pub partition: Partition,
    /// its name
    pub stream_id: &'a [u8],
    /// its tenant
    pub tenant_id: &'a [u8],
    /// the entity it belongs to, where one was given
    pub entity_id: Option<&'a [u8]>,
    /// what the writer believes
    pub expected: ExpectedVersion,
    /// the events in their order
    pub events: &'a [NewEvent<'a>],
}

/// What has become of a stream's head.
#[derive(Clone, Copy, Debug)]
pub enum Advanced {
    /// The head was moved on: the events are to be written.
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

/// A partition's heads, open to be moved on.
pub struct HeadWriter<'e> {
    heads: Heads,
    writer: WriterOf<'e>,
}

impl<'e> HeadWriter<'e> {
    /// Opens the heads of a partition.
    pub fn open(partition: Partition, executor: &'e Executor) -> Result<Self, Error> {
        let heads = Heads::by_name(partition, For::Writing, latest())?;
        Ok(Self { heads, writer: WriterOf { executor, writer: None } })
    }

    /// Closes them.
    pub fn close(self) {
        if let Some(writer) = self.writer.writer {
            writer.close();
        }
        self.heads.close();
    }

    /// Checks what the writer believes and moves the stream's head on by the number of events;
    /// makes the stream when it is not there. From here on the stream is locked until the
    /// transaction ends.
    pub fn advance(&mut self, append: &StreamAppend<'_>) -> Result<Advanced, Error> {
        let mut attempts = 0;
        loop {
            check_for_interrupts();
            if self.heads.find_to_update(append.stream_id, append.tenant_id) {
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
            if let Some(advanced) = self.create(append, &mut attempts)? {
                return Ok(advanced);
            }
        }
    }

    /// Makes the stream when it is not there, without events, and gives its row to `use_head`.
    pub fn get_or_create<T>(
        &mut self,
        append: &StreamAppend<'_>,
        use_head: impl FnOnce(Head<'_>) -> T,
    ) -> Result<T, Error> {
        let mut attempts = 0;
        loop {
            check_for_interrupts();
            if let Some(head) = self.heads.find(append.stream_id, append.tenant_id) {
                check_entity(append, &head)?;
                return Ok(use_head(head));
            }
            self.create(append, &mut attempts)?;
        }
    }

    /// Whether the stream is there after all. The scan looks at each version of a row at another
    /// moment: one that moves to another page meanwhile can be missed in both places. A snapshot of
    /// one moment cannot miss it.
    fn is_there_now(&self, append: &StreamAppend<'_>) -> Result<bool, Error> {
        with_snapshot_of_now(|snapshot| {
            let mut heads = Heads::by_name(append.partition, For::Writing, snapshot)?;
            let there = heads.find(append.stream_id, append.tenant_id).is_some();
            heads.close();
            Ok(there)
        })
    }

    /// Moves the head that the scan stands on; `None` when the row is gone.
    fn advance_existing(&mut self, append: &StreamAppend<'_>) -> Result<Option<Advanced>, Error> {
        loop {
            let head = self.heads.current();
            let (stream_no, previous) = (head.stream_no(), head.current_version());
            if let Some(retry) = find_retry(append, stream_no, previous)? {
                return Ok(Some(Advanced::Retried(retry)));
            }
            check_expected(append, Some(previous))?;
            check_entity(append, &head)?;
            // A stream's times never go back, even where the clock does.
            let timestamp_us = now_us().max(head.updated_at_us());
            let mut row = head.columns();
            let version = previous + append.events.len() as i64;
            row[CURRENT_VERSION] = Some(pg_sys::Datum::from(version));
            row[WATERMARK] = row[CURRENT_VERSION];
            row[UPDATED_AT] = Some(pg_sys::Datum::from(timestamp_us));
            // SAFETY: the scan stands on the head.
            let update = unsafe { self.heads.update(row, &mut self.writer) };
            match update {
                Update::Done => {
                    note_stream_lock();
                    return Ok(Some(Advanced::Moved { stream_no, previous, timestamp_us }));
                }
                Update::Gone => return Ok(None),
                Update::Failed(result) => return Err(unexpected(append, result)),
                Update::Changed if uses_one_snapshot() => {
                    return Err(Error::ConcurrentAppend { stream_id: display(append.stream_id) });
                }
                Update::Changed => {}
            }
            // Somebody was faster. Queue up for the row: whoever waits gets it in turn.
            match self.heads.lock_newest() {
                Update::Done => note_stream_lock(),
                Update::Gone | Update::Changed => return Ok(None),
                Update::Failed(result) => return Err(unexpected(append, result)),
            }
        }
    }

    /// Makes the stream; `None` when it is there already. `attempts` counts the calls for a stream.
    fn create(
        &mut self,
        append: &StreamAppend<'_>,
        attempts: &mut usize,
    ) -> Result<Option<Advanced>, Error> {
        *attempts += 1;
        let insist = *attempts > CREATE_ATTEMPTS_MAX && !self.is_there_now(append)?;
        let partition = append.partition;
        let number = stream_no(partition, settings::node_id(), next_stream_counter()?)
            .ok_or(Error::StreamNumbers)?;
        find_retry(append, number, 0)?;
        let timestamp_us = now_us();
        let int8 = |value: i64| Some(pg_sys::Datum::from(value));
        let version = int8(append.events.len() as i64);
        let writer = self.writer.get(&self.heads.leaf);
        writer.fill(
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
            writer.insert(1);
        } else if !writer.insert_unless_there() {
            return Ok(None);
        }
        note_stream_lock();
        Ok(Some(Advanced::Moved { stream_no: number, previous: 0, timestamp_us }))
    }
}

fn unexpected(append: &StreamAppend<'_>, result: pg_sys::TM_Result::Type) -> Error {
    let stream = display(append.stream_id);
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

/// A stream's entity is given when the stream is made, and stays: events must not change whom they
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
