//! Heads: the rows of `event_streams`.
#![expect(unsafe_code, reason = "drives PostgreSQL's table access")]

use super::head_places::HeadPlace;
use super::heap::{Update, Wait};
use super::relation::{For, Leaf};
use super::scan::{Direction, Key, Scan, latest};
use super::schema::{LeafIndex, Root, streams};
use crate::model::batch::StreamKey;
use crate::model::partition::Partition;
use crate::pg::call::datum::body;
use crate::pg::error::Error;
use crate::pg::session::xact::{check_for_interrupts, is_serializable};
use pgrx::pg_sys;
use std::cmp::Ordering;

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
        self.int8(streams::STREAM_NO)
    }

    /// `current_version`
    pub fn current_version(&self) -> i64 {
        self.int8(streams::CURRENT_VERSION)
    }

    /// `watermark`
    pub fn watermark(&self) -> i64 {
        self.int8(streams::WATERMARK)
    }

    /// `settled_batch`
    pub fn settled_batch(&self) -> i64 {
        self.int8(streams::SETTLED_BATCH)
    }

    /// `settled_events`
    pub fn settled_events(&self) -> i32 {
        self.values[streams::SETTLED_EVENTS].value() as i32
    }

    /// `created_at`, in microseconds since 2000-01-01
    pub fn created_at_us(&self) -> i64 {
        self.int8(streams::CREATED_AT)
    }

    /// `updated_at`, in microseconds since 2000-01-01
    pub fn updated_at_us(&self) -> i64 {
        self.int8(streams::UPDATED_AT)
    }

    /// `tenant_id`, as a value
    pub fn tenant_id(&self) -> pg_sys::Datum {
        self.values[streams::TENANT_ID]
    }

    /// `stream_id`, as a value
    pub fn stream_id(&self) -> pg_sys::Datum {
        self.values[streams::STREAM_ID]
    }

    /// `entity_id`, as a value
    pub fn entity_id(&self) -> Option<pg_sys::Datum> {
        (!self.nulls[streams::ENTITY_ID]).then(|| self.values[streams::ENTITY_ID])
    }

    fn is_of(&self, stream_id: &[u8], tenant_id: &[u8]) -> bool {
        self.name() == StreamKey { stream_id, tenant_id }
    }

    fn name(&self) -> StreamKey<'_> {
        // SAFETY: both are texts of the row that the scan stands on.
        let (stream_id, tenant_id) = unsafe { (body(self.stream_id()), body(self.tenant_id())) };
        StreamKey { stream_id, tenant_id }
    }

    /// All columns.
    pub fn columns(&self) -> [Option<pg_sys::Datum>; streams::COLUMNS] {
        std::array::from_fn(|column| (!self.nulls[column]).then(|| self.values[column]))
    }
}

/// An open leaf of `event_streams`, to find heads in.
pub struct Heads {
    scan: Scan,
    index: LeafIndex,
    /// whether the scan stands on a row of a walk
    is_walking: bool,
    /// whether a walk has come to the end of the index
    is_at_end: bool,
    /// how many rows a walk may pass by to the next one that is wanted
    steps_max: usize,
}

/// A walk that has found what it wanted may pass by so many rows: that is about as quick as to begin anew.
const WALK_STEPS_MAX: usize = 8;

impl Heads {
    /// Opens the leaf of a partition, to find streams by name.
    pub fn by_name(
        partition: Partition,
        purpose: For,
        snapshot: pg_sys::Snapshot,
    ) -> Result<Self, Error> {
        let leaf = Leaf::open(Root::Streams, partition, purpose)?;
        let index = LeafIndex::ByStream;
        Ok(Self::of(Scan::open(leaf, index, snapshot, 2), index))
    }

    /// Opens the leaf of a partition, to find streams by number.
    pub fn by_number(partition: Partition, snapshot: pg_sys::Snapshot) -> Result<Self, Error> {
        let leaf = Leaf::open(Root::Streams, partition, For::Reading)?;
        let index = LeafIndex::ByNumber;
        Ok(Self::of(Scan::open(leaf, index, snapshot, 1), index))
    }

    fn of(scan: Scan, index: LeafIndex) -> Self {
        Self { scan, index, is_walking: false, is_at_end: false, steps_max: WALK_STEPS_MAX }
    }

    /// The head of the stream of this name.
    pub fn find(&mut self, stream_id: &[u8], tenant_id: &[u8]) -> Option<Head<'_>> {
        self.stand_on(stream_id, tenant_id).then(|| self.current())
    }

    /// Makes the scan stand on the head of the stream of this name; `false` if there is no such
    /// stream.
    pub fn stand_on(&mut self, stream_id: &[u8], tenant_id: &[u8]) -> bool {
        self.is_walking = false;
        // Under SERIALIZABLE the scan of the index records what was read.
        let place = (!is_serializable())
            .then(|| HeadPlace::of(self.leaf().known().table, stream_id, tenant_id))
            .flatten();
        if let Some(remembered) = place.and_then(HeadPlace::get)
            && self.scan.find_at(remembered)
            && self.current().is_of(stream_id, tenant_id)
        {
            return true;
        }
        let found = self.stand_on_by_index(stream_id, tenant_id);
        if found && let Some(place) = place {
            place.set(self.scan.indexed_place());
        }
        found
    }

    /// The same for who asks for streams in the order in which they are locked: goes on in the index from
    /// the stream before, if it is near. A head that is new there may be missed: [`Self::stand_on`] finds it.
    pub fn walk_to(&mut self, stream_id: &[u8], tenant_id: &[u8]) -> bool {
        debug_assert_eq!(self.index, LeafIndex::ByStream);
        let wanted = StreamKey { stream_id, tenant_id };
        let mut steps = 0;
        while self.is_walking && steps <= self.steps_max {
            match self.current().name().cmp(&wanted) {
                Ordering::Equal => {
                    self.steps_max = WALK_STEPS_MAX;
                    return true;
                }
                Ordering::Greater => return false,
                Ordering::Less => self.is_walking = self.scan.next_without_pruning(),
            }
            steps += 1;
        }
        // Behind it there may be many entries of rows that nobody sees yet.
        if self.is_at_end {
            return false;
        }
        self.steps_max = (self.steps_max / 2).max(1);
        self.scan.find(&[(1, Key::TextFrom(stream_id)), (2, Key::TextFrom(b""))]);
        for _ in 0..=WALK_STEPS_MAX {
            self.is_walking = self.scan.next_without_pruning();
            if !self.is_walking {
                self.is_at_end = true;
                return false;
            }
            if self.current().name() >= wanted {
                return self.current().name() == wanted;
            }
        }
        // Many tenants have a stream of this name: the walk goes on among these.
        self.scan.find(&[(1, Key::Text(stream_id)), (2, Key::TextFrom(tenant_id))]);
        self.is_walking = self.scan.next_without_pruning();
        self.is_walking && self.current().name() == wanted
    }

    fn stand_on_by_index(&mut self, stream_id: &[u8], tenant_id: &[u8]) -> bool {
        debug_assert_eq!(self.index, LeafIndex::ByStream);
        self.scan.find(&[(1, Key::Text(stream_id)), (2, Key::Text(tenant_id))]);
        self.scan.next_without_pruning()
    }

    /// The head of the stream of this number.
    pub fn find_number(&mut self, stream_no: i64) -> Option<Head<'_>> {
        debug_assert_eq!(self.index, LeafIndex::ByNumber);
        self.scan.find(&[(1, Key::Int8(stream_no))]);
        self.scan.next(Direction::Forward).then(|| self.current())
    }

    /// Passes the heads with numbers above `stream_no`, ascending, until `use_head` returns that it has
    /// enough.
    pub fn walk_numbers(&mut self, stream_no: i64, mut use_head: impl FnMut(Head<'_>) -> bool) {
        debug_assert_eq!(self.index, LeafIndex::ByNumber);
        self.scan.find(&[(1, Key::Int8Above(stream_no))]);
        while self.scan.next_without_pruning() {
            check_for_interrupts();
            if !use_head(self.current()) {
                break;
            }
        }
    }

    /// The highest number at or below `stream_no` that a stream has.
    pub fn last_number(&mut self, stream_no: i64) -> Option<i64> {
        debug_assert_eq!(self.index, LeafIndex::ByNumber);
        self.scan.find(&[(1, Key::Int8AtMost(stream_no))]);
        self.scan.next(Direction::Backward).then(|| self.current().stream_no())
    }

    /// The head that the scan stands on.
    pub fn current(&self) -> Head<'_> {
        let (values, nulls) = self.scan.row();
        Head { values, nulls }
    }

    /// The leaf.
    pub fn leaf(&self) -> &Leaf {
        self.scan.leaf()
    }

    /// The place of the row that the scan stands on.
    pub fn place(&self) -> pg_sys::ItemPointerData {
        // SAFETY: the slot is open.
        unsafe { (*self.scan.slot()).tts_tid }
    }

    /// Locks the newest version of the row that the scan stands on, and makes the scan stand on it.
    pub fn lock_newest(&mut self, wait: Wait) -> Update {
        let mut failure = pg_sys::TM_FailureData::default();
        let policy = match wait {
            Wait::Block => pg_sys::LockWaitPolicy::LockWaitBlock,
            Wait::Skip => pg_sys::LockWaitPolicy::LockWaitSkip,
        };
        // SAFETY: the slot stands on a row of the open leaf; the access method's own function is
        // called as table_tuple_lock does.
        let result = unsafe {
            let relation = self.leaf().relation();
            let slot = self.scan.slot();
            let mut place = (*slot).tts_tid;
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
                    policy,
                    pg_sys::TUPLE_LOCK_FLAG_FIND_LAST_VERSION as u8,
                    failure,
                )
            })
        };
        match result {
            pg_sys::TM_Result::TM_Ok => Update::Done,
            pg_sys::TM_Result::TM_Deleted => Update::Gone,
            pg_sys::TM_Result::TM_Updated => Update::Changed,
            pg_sys::TM_Result::TM_WouldBlock => Update::Held(failure.xmax),
            other => Update::Failed(other),
        }
    }
}

/// Looks for a stream that `Heads::find` does not see: another transaction may be creating it.
pub fn look_for_maker(
    partition: Partition,
    stream_id: &[u8],
    tenant_id: &[u8],
) -> Result<Made, Error> {
    let mut dirty = pg_sys::SnapshotData {
        snapshot_type: pg_sys::SnapshotType::SNAPSHOT_DIRTY,
        ..pg_sys::SnapshotData::default()
    };
    // The scan writes to it who has made the row that it stands on, or is about to delete it.
    let dirty = &raw mut dirty;
    let mut heads = Heads::by_name(partition, For::Writing, dirty)?;
    let found = heads.stand_on_by_index(stream_id, tenant_id);
    drop(heads);
    // SAFETY: written by the scan, which does not run any more.
    let (xmin, xmax) = unsafe { ((*dirty).xmin, (*dirty).xmax) };
    Ok(match (found, [xmin, xmax].into_iter().find(|xid| *xid != pg_sys::InvalidTransactionId)) {
        (false, _) => Made::Nowhere,
        (true, None) => Made::Committed,
        (true, Some(transaction)) => Made::By(transaction),
    })
}

/// Who has created a stream.
pub enum Made {
    /// Nobody.
    Nowhere,
    /// A transaction that has committed.
    Committed,
    /// This one, which has not ended.
    By(pg_sys::TransactionId),
}
