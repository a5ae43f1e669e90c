//! Inserting rows into a leaf, with all its index entries: the store's own indexes and those that
//! users have added.
#![expect(unsafe_code, reason = "drives PostgreSQL's table and index access")]

use crate::pg::tables::relation::Leaf;
use pgrx::pg_sys;
use std::ffi::c_int;

/// The executor's state that index maintenance needs; one per call.
pub struct Executor(*mut pg_sys::EState);

impl Executor {
    /// Makes one.
    pub fn new() -> Self {
        // SAFETY: made in the current memory context, which frees it after an error.
        Self(unsafe { pg_sys::CreateExecutorState() })
    }

    /// Frees it.
    pub fn free(self) {
        // SAFETY: made by `new`, and not used after.
        unsafe { pg_sys::FreeExecutorState(self.0) }
    }
}

/// A leaf with its indexes open for insertion.
pub struct LeafWriter {
    relation: pg_sys::Relation,
    info: *mut pg_sys::ResultRelInfo,
    estate: *mut pg_sys::EState,
    slots: Vec<*mut pg_sys::TupleTableSlot>,
}

impl LeafWriter {
    /// Opens the indexes of a leaf that is open for writing.
    pub fn open(leaf: &Leaf, executor: &Executor) -> Self {
        Self::open_indexes(leaf, executor, false)
    }

    /// The same, to call `insert_unless_there` as well.
    pub fn open_for_conflicts(leaf: &Leaf, executor: &Executor) -> Self {
        Self::open_indexes(leaf, executor, true)
    }

    fn open_indexes(leaf: &Leaf, executor: &Executor, conflicts: bool) -> Self {
        // SAFETY: the structure is zeroed, tagged and then initialised by PostgreSQL.
        let info = unsafe {
            let info =
                pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>()).cast::<pg_sys::ResultRelInfo>();
            (*info).type_ = pg_sys::NodeTag::T_ResultRelInfo;
            pg_sys::InitResultRelInfo(info, leaf.relation(), 0, std::ptr::null_mut(), 0);
            pg_sys::ExecOpenIndices(info, conflicts);
            info
        };
        Self { relation: leaf.relation(), info, estate: executor.0, slots: Vec::new() }
    }

    /// Fills the `index`-th row to be inserted. What the values point to must stay until `insert`.
    pub fn fill<const N: usize>(&mut self, index: usize, row: [Option<pg_sys::Datum>; N]) {
        // SAFETY: a virtual slot of the leaf has as many columns as `Leaf::open` has checked.
        unsafe {
            while self.slots.len() <= index {
                self.slots.push(pg_sys::MakeSingleTupleTableSlot(
                    (*self.relation).rd_att,
                    &pg_sys::TTSOpsVirtual,
                ));
            }
            let slot = self.slots[index];
            pg_sys::ExecClearTuple(slot);
            for (column, value) in row.into_iter().enumerate() {
                *(*slot).tts_isnull.add(column) = value.is_none();
                *(*slot).tts_values.add(column) = value.unwrap_or(pg_sys::Datum::from(0));
            }
            pg_sys::ExecStoreVirtualTuple(slot);
        }
    }

    /// Inserts the first `len` filled rows.
    pub fn insert(&mut self, len: usize) {
        // SAFETY: relation and slots are open; the tuples are made in the slots' memory.
        unsafe {
            let command = pg_sys::GetCurrentCommandId(true);
            match &mut self.slots[..len] {
                [slot] => {
                    let tuple = self_tuple(*slot, self.relation);
                    pg_sys::heap_insert(self.relation, tuple, command, 0, std::ptr::null_mut());
                    (**slot).tts_tid = (*tuple).t_self;
                }
                slots => pg_sys::heap_multi_insert(
                    self.relation,
                    slots.as_mut_ptr(),
                    len as c_int,
                    command,
                    0,
                    std::ptr::null_mut(),
                ),
            }
            for index in 0..len {
                self.insert_index_entries(self.slots[index], None);
                pg_sys::ExecClearTuple(self.slots[index]);
            }
        }
    }

    /// Inserts the first filled row unless a unique index has its key already; waits for those who
    /// are just inserting it. Returns whether the row was inserted.
    pub fn insert_unless_there(&mut self) -> bool {
        let slot = self.slots[0];
        // SAFETY: the steps of INSERT … ON CONFLICT DO NOTHING, as PostgreSQL's own executor takes
        // them (ExecInsert in nodeModifyTable.c).
        unsafe {
            loop {
                let mut conflict = pg_sys::ItemPointerData::default();
                if !pg_sys::ExecCheckIndexConstraints(
                    self.info,
                    slot,
                    self.estate,
                    &mut conflict,
                    std::ptr::null_mut(),
                ) {
                    pg_sys::ExecClearTuple(slot);
                    return false;
                }
                let xid = pg_sys::GetCurrentTransactionId();
                let token = pg_sys::SpeculativeInsertionLockAcquire(xid);
                let access = (*self.relation).rd_tableam;
                if let (Some(begin), Some(complete)) =
                    ((*access).tuple_insert_speculative, (*access).tuple_complete_speculative)
                {
                    let relation = self.relation;
                    let command = pg_sys::GetCurrentCommandId(true);
                    pg_sys::ffi::pg_guard_ffi_boundary(|| {
                        begin(relation, slot, command, 0, std::ptr::null_mut(), token);
                    });
                    let mut lost = false;
                    self.insert_index_entries(slot, Some(&mut lost));
                    pg_sys::ffi::pg_guard_ffi_boundary(|| complete(relation, slot, token, !lost));
                    pg_sys::SpeculativeInsertionLockRelease(xid);
                    if !lost {
                        pg_sys::ExecClearTuple(slot);
                        return true;
                    }
                }
                crate::pg::session::xact::check_for_interrupts();
            }
        }
    }

    /// Makes the index entries of a row that was updated to a place of its own.
    pub fn index_moved(&mut self, tuple: pg_sys::HeapTuple) {
        // SAFETY: the tuple is valid and was just written; the slot borrows it.
        unsafe {
            let slot =
                pg_sys::MakeSingleTupleTableSlot((*self.relation).rd_att, &pg_sys::TTSOpsHeapTuple);
            pg_sys::ExecStoreHeapTuple(tuple, slot, false);
            (*slot).tts_tid = (*tuple).t_self;
            self.insert_index_entries(slot, None);
            pg_sys::ExecDropSingleTupleTableSlot(slot);
        }
    }

    unsafe fn insert_index_entries(
        &self,
        slot: *mut pg_sys::TupleTableSlot,
        conflict: Option<&mut bool>,
    ) {
        let speculative = conflict.is_some();
        // SAFETY: the slot holds a row of the relation at its place in the heap.
        unsafe {
            pg_sys::ExecInsertIndexTuples(
                self.info,
                slot,
                self.estate,
                false,
                speculative,
                conflict.map_or(std::ptr::null_mut(), std::ptr::from_mut),
                std::ptr::null_mut(),
            );
            let context = (*self.estate).es_per_tuple_exprcontext;
            if !context.is_null() {
                pg_sys::MemoryContextReset((*context).ecxt_per_tuple_memory);
            }
        }
    }

    /// Closes the indexes. The leaf stays open.
    pub fn close(self) {
        // SAFETY: opened by `open`, and not used after.
        unsafe {
            for slot in self.slots {
                pg_sys::ExecDropSingleTupleTableSlot(slot);
            }
            pg_sys::ExecCloseIndices(self.info);
            pg_sys::pfree(self.info.cast());
        }
    }
}

/// The tuple of a filled slot, owned by the slot.
unsafe fn self_tuple(
    slot: *mut pg_sys::TupleTableSlot,
    relation: pg_sys::Relation,
) -> pg_sys::HeapTuple {
    // SAFETY: materialising makes the slot own the tuple, so it needs no freeing.
    unsafe {
        let mut should_free = false;
        let tuple = pg_sys::ExecFetchSlotHeapTuple(slot, true, &mut should_free);
        (*tuple).t_tableOid = (*relation).rd_id;
        tuple
    }
}
