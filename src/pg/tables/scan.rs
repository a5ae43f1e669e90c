//! Index scans over a leaf.
#![expect(unsafe_code, reason = "drives PostgreSQL's index access")]

use crate::pg::session::xact::uses_one_snapshot;
use crate::pg::tables::open_relation::OpenRelation;
use crate::pg::tables::relation::Leaf;
use crate::pg::tables::schema::LeafIndex;
use pgrx::pg_sys;
use std::ffi::c_int;

/// A page of heads is cleaned up when it has less room than this: enough for a dozen new versions.
const FREE_BYTES_MIN: usize = 1_600;

/// A condition on a column of the index.
#[derive(Clone, Copy)]
pub enum Key<'a> {
    /// column = text, byte by byte
    Text(&'a [u8]),
    /// column >= text, byte by byte
    TextFrom(&'a [u8]),
    /// column = bigint
    Int8(i64),
    /// column > bigint
    Int8Above(i64),
    /// column <= bigint
    Int8AtMost(i64),
    /// column = uuid
    Uuid(&'a [u8; 16]),
}

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Ascending.
    Forward,
    /// Descending.
    Backward,
}

/// An index scan over a leaf, with the row that it stands on. Dropped, it ends; after an error
/// PostgreSQL ends it.
pub struct Scan {
    /// Null until the first `find`.
    scan: pg_sys::IndexScanDesc,
    slot: *mut pg_sys::TupleTableSlot,
    text: [*mut pg_sys::varlena; 2],
    which: LeafIndex,
    snapshot: pg_sys::Snapshot,
    keys: usize,
    context: pg_sys::MemoryContext,
    // Closed after the scan has ended, in this order.
    index: Option<OpenRelation>,
    leaf: Leaf,
}

impl Scan {
    /// A scan of an index of a leaf. `keys` is how many conditions `find` will give.
    /// The snapshot must live as long as the scan.
    pub fn open(leaf: Leaf, index: LeafIndex, snapshot: pg_sys::Snapshot, keys: usize) -> Self {
        // SAFETY: the leaf is open, and locked until the transaction ends.
        let (slot, context) = unsafe {
            let slot = pg_sys::table_slot_create(leaf.relation(), std::ptr::null_mut());
            (slot, pg_sys::CurrentMemoryContext)
        };
        Self {
            scan: std::ptr::null_mut(),
            slot,
            text: [std::ptr::null_mut(); 2],
            which: index,
            snapshot,
            keys,
            context,
            index: None,
            leaf,
        }
    }

    /// Opens the index, in the memory that was current when the scan was opened.
    fn begin(&mut self) {
        if self.index.is_some() {
            return;
        }
        // SAFETY: the context outlives the scan, as the leaf and its slot do.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo(self.context);
            let index = self.leaf.open_index(self.which);
            self.scan = pg_sys::index_beginscan(
                self.leaf.relation(),
                index.get(),
                self.snapshot,
                self.keys as c_int,
                0,
            );
            self.index = Some(index);
            pg_sys::MemoryContextSwitchTo(before);
        }
    }

    /// Restarts with these conditions: as many as were announced, each a column number of the
    /// index, from 1, and its condition.
    pub fn find(&mut self, keys: &[(i16, Key<'_>)]) {
        self.begin();
        let mut data = [pg_sys::ScanKeyData::default(); 3];
        let mut texts = 0;
        // SAFETY: keys match the types of the index's columns by the callers' choice of index; a
        // value passed by reference outlives the scan: texts are freed when the next ones replace
        // them, ids are copied into the memory context.
        unsafe {
            for (slot, (column, key)) in data.iter_mut().zip(keys) {
                let (strategy, function, collation, argument) = match key {
                    Key::Text(bytes) | Key::TextFrom(bytes) => {
                        let old = &mut self.text[texts];
                        if !old.is_null() {
                            pg_sys::pfree((*old).cast());
                        }
                        *old = pg_sys::cstring_to_text_with_len(
                            bytes.as_ptr().cast(),
                            bytes.len() as c_int,
                        )
                        .cast();
                        texts += 1;
                        let (strategy, function) = match key {
                            Key::TextFrom(_) => {
                                (pg_sys::BTGreaterEqualStrategyNumber, pg_sys::F_TEXT_GE)
                            }
                            _ => (pg_sys::BTEqualStrategyNumber, pg_sys::F_TEXTEQ),
                        };
                        let datum = pg_sys::Datum::from(*old);
                        (strategy, function, pg_sys::C_COLLATION_OID, datum)
                    }
                    Key::Int8(value) => {
                        int8(pg_sys::BTEqualStrategyNumber, pg_sys::F_INT8EQ, *value)
                    }
                    Key::Int8Above(value) => {
                        int8(pg_sys::BTGreaterStrategyNumber, pg_sys::F_INT8GT, *value)
                    }
                    Key::Int8AtMost(value) => {
                        int8(pg_sys::BTLessEqualStrategyNumber, pg_sys::F_INT8LE, *value)
                    }
                    Key::Uuid(id) => {
                        let copy = pg_sys::palloc(16).cast::<[u8; 16]>();
                        *copy = **id;
                        let datum = pg_sys::Datum::from(copy);
                        let none = pg_sys::InvalidOid;
                        (pg_sys::BTEqualStrategyNumber, pg_sys::F_UUID_EQ, none, datum)
                    }
                };
                pg_sys::ScanKeyEntryInitialize(
                    slot,
                    0,
                    *column,
                    strategy as u16,
                    pg_sys::InvalidOid,
                    collation,
                    function.into(),
                    argument,
                );
            }
            pg_sys::index_rescan(
                self.scan,
                data.as_mut_ptr(),
                keys.len() as c_int,
                std::ptr::null_mut(),
                0,
            );
        }
    }

    /// Moves to the next row; `false` when there is none.
    pub fn next(&mut self, direction: Direction) -> bool {
        let direction = match direction {
            Direction::Forward => pg_sys::ScanDirection::ForwardScanDirection,
            Direction::Backward => pg_sys::ScanDirection::BackwardScanDirection,
        };
        // SAFETY: scan and slot are open.
        unsafe { pg_sys::index_getnext_slot(self.scan, direction, self.slot) }
    }

    /// Moves to the next row like `next`, but cleans the row's page up only when it is nearly full.
    /// The ordinary way does so at each visit of a page that has less room than the fill factor
    /// asks for, which pages of heads have after every update.
    pub fn next_without_pruning(&mut self) -> bool {
        // SAFETY: scan and slot are open. The steps are those of index_getnext_slot.
        unsafe {
            loop {
                let forward = pg_sys::ScanDirection::ForwardScanDirection;
                let place = pg_sys::index_getnext_tid(self.scan, forward);
                if place.is_null() {
                    return false;
                }
                let mut all_dead = false;
                if self.fetch(*place, &mut all_dead) {
                    return true;
                }
                // As index_fetch_heap: what is dead on a standby may be needed on the primary.
                if !(*self.scan).xactStartedInRecovery {
                    (*self.scan).kill_prior_tuple = all_dead;
                }
            }
        }
    }

    /// Makes the scan stand on the row that an index entry for `place` leads to; `false` where there is
    /// none, or the snapshot does not show it. The index itself is not used.
    pub fn find_at(&mut self, place: pg_sys::ItemPointerData) -> bool {
        // SAFETY: the relation is open, and its lock keeps the file from getting shorter.
        unsafe {
            let main = pg_sys::ForkNumber::MAIN_FORKNUM;
            let blocks = pg_sys::RelationGetNumberOfBlocksInFork(self.leaf.relation(), main);
            block_of(place) < blocks && self.fetch(place, &mut false)
        }
    }

    /// The place that the index has for the row that `next_without_pruning` has found.
    pub fn indexed_place(&self) -> pg_sys::ItemPointerData {
        // SAFETY: the scan has begun.
        unsafe { (*self.scan).xs_heaptid }
    }

    /// Puts the version of a row that the snapshot shows into the slot, as heapam_index_fetch_tuple
    /// does; the slot keeps a pin of its own on the row's page.
    ///
    /// # Safety
    ///
    /// The block must be there.
    unsafe fn fetch(&mut self, mut place: pg_sys::ItemPointerData, all_dead: &mut bool) -> bool {
        // SAFETY: by the caller's promise; PostgreSQL checks the place within the page.
        unsafe {
            let relation = self.leaf.relation();
            let buffer = pg_sys::ReadBuffer(relation, block_of(place));
            let free = pg_sys::PageGetHeapFreeSpace(pg_sys::BufferGetPage(buffer));
            if free < FREE_BYTES_MIN {
                pg_sys::heap_page_prune_opt(relation, buffer);
            }
            let tuple =
                &raw mut (*self.slot.cast::<pg_sys::BufferHeapTupleTableSlot>()).base.tupdata;
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as c_int);
            let found = pg_sys::heap_hot_search_buffer(
                &mut place,
                relation,
                buffer,
                self.snapshot,
                tuple,
                all_dead,
                true,
            );
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_UNLOCK as c_int);
            if found {
                (*tuple).t_self = place;
                (*tuple).t_tableOid = (*relation).rd_id;
                pg_sys::ExecStoreBufferHeapTuple(tuple, self.slot, buffer);
            }
            pg_sys::ReleaseBuffer(buffer);
            found
        }
    }

    /// Asks the processor for the row that stands behind this one in the table, and is likely to be
    /// the next. A merge of scans comes back to it after a while, and need not wait for the memory then.
    pub fn prefetch_next(&self) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            const LINE_BYTES: usize = 64;
            const LINES_MAX: usize = 16;
            // SAFETY: the slot of a heap scan is of this type. Pages are filled downwards, so the
            // next row ends where this one begins, and is taken to be as long. A prefetch does
            // nothing where there is no such memory.
            unsafe {
                let row = &(*self.slot.cast::<pg_sys::BufferHeapTupleTableSlot>()).base.tupdata;
                let lines = (row.t_len as usize / LINE_BYTES + 2).min(LINES_MAX);
                for line in 1..=lines {
                    let address = row.t_data.cast::<i8>().wrapping_sub(line * LINE_BYTES);
                    _mm_prefetch::<_MM_HINT_T0>(address);
                }
            }
        }
    }

    /// The slot that holds the row.
    pub fn slot(&self) -> *mut pg_sys::TupleTableSlot {
        self.slot
    }

    /// The row's values and null marks.
    pub fn row(&self) -> (&[pg_sys::Datum], &[bool]) {
        // SAFETY: the slot holds a row whenever `next` was true; its arrays have `natts` elements.
        unsafe {
            let natts = (*(*self.slot).tts_tupleDescriptor).natts;
            if i32::from((*self.slot).tts_nvalid) < natts {
                pg_sys::slot_getsomeattrs_int(self.slot, natts);
            }
            let natts = natts as usize;
            (
                std::slice::from_raw_parts((*self.slot).tts_values, natts),
                std::slice::from_raw_parts((*self.slot).tts_isnull, natts),
            )
        }
    }

    /// The leaf.
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // SAFETY: opened by `open`, and not used after.
        unsafe {
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            if !self.scan.is_null() {
                pg_sys::index_endscan(self.scan);
            }
        }
    }
}

fn int8(strategy: u32, function: u32, value: i64) -> (u32, u32, pg_sys::Oid, pg_sys::Datum) {
    (strategy, function, pg_sys::InvalidOid, pg_sys::Datum::from(value))
}

fn block_of(place: pg_sys::ItemPointerData) -> u32 {
    u32::from(place.ip_blkid.bi_hi) << 16 | u32::from(place.ip_blkid.bi_lo)
}

/// What a writer decides by: under REPEATABLE READ and above the transaction's snapshot, which finds
/// conflicts with others; otherwise [`latest`].
pub fn decision_snapshot() -> pg_sys::Snapshot {
    if !uses_one_snapshot() {
        return latest();
    }
    // SAFETY: the transaction keeps this snapshot until it ends.
    unsafe { pg_sys::GetTransactionSnapshot() }
}

/// Sees what is committed now and what this transaction has done so far, whatever the snapshot.
pub fn latest() -> pg_sys::Snapshot {
    std::ptr::addr_of_mut!(pg_sys::SnapshotSelfData)
}
