//! A leaf with indexes, triggers or constraints of users: rows are written as the executor writes
//! them for SQL (`ExecInsert` and `ExecUpdate` in PostgreSQL's nodeModifyTable.c).
//!
//! Row triggers that are enabled for the session fire. Those BEFORE may look at a row and refuse it
//! with an error, but neither change nor suppress it: what was acknowledged would not be stored.
#![expect(unsafe_code, reason = "drives PostgreSQL's executor")]

use super::heap::{Update, Wait, insert_rows, is_heap_only, update_row};
use super::relation::Leaf;
use super::schema::streams;
use super::writing::Writing;
use crate::pg::call::datum::body;
use crate::pg::error::Error;
use crate::pg::session::xact::check_for_interrupts;
use pgrx::pg_sys;
use std::ffi::CStr;

/// A leaf that is open for the executor.
pub struct GuardedLeaf<'t> {
    relation: pg_sys::Relation,
    info: *mut pg_sys::ResultRelInfo,
    estate: *mut pg_sys::EState,
    writing: &'t Writing,
}

impl<'t> GuardedLeaf<'t> {
    /// Opens a leaf that is open for writing, and stays open as long as this.
    pub fn open(leaf: &Leaf, writing: &'t Writing) -> Self {
        let relation = leaf.relation();
        // SAFETY: structures are zeroed, tagged and then initialised by PostgreSQL, in the memory of
        // the executor's state.
        unsafe {
            let estate = pg_sys::CreateExecutorState();
            let before = pg_sys::MemoryContextSwitchTo((*estate).es_query_cxt);
            let entry =
                pg_sys::palloc0(size_of::<pg_sys::RangeTblEntry>()).cast::<pg_sys::RangeTblEntry>();
            (*entry).type_ = pg_sys::NodeTag::T_RangeTblEntry;
            (*entry).rtekind = pg_sys::RTEKind::RTE_RELATION;
            (*entry).relid = (*relation).rd_id;
            (*entry).relkind = (*(*relation).rd_rel).relkind;
            (*entry).rellockmode = pg_sys::RowExclusiveLock as i32;
            // What triggers `UPDATE OF` ask for; only heads are updated.
            for column in [
                streams::CURRENT_VERSION,
                streams::WATERMARK,
                streams::UPDATED_AT,
                streams::SETTLED_BATCH,
                streams::SETTLED_EVENTS,
            ] {
                let member = column as i32 + 1 - pg_sys::FirstLowInvalidHeapAttributeNumber;
                (*entry).updatedCols = pg_sys::bms_add_member((*entry).updatedCols, member);
            }
            let range_table = pg_sys::lappend(std::ptr::null_mut(), entry.cast());
            pg_sys::ExecInitRangeTable(estate, range_table);
            (*estate).es_output_cid = pg_sys::GetCurrentCommandId(true);
            (*estate).es_snapshot = pg_sys::GetActiveSnapshot();
            let info =
                pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>()).cast::<pg_sys::ResultRelInfo>();
            (*info).type_ = pg_sys::NodeTag::T_ResultRelInfo;
            pg_sys::InitResultRelInfo(info, relation, 1, std::ptr::null_mut(), 0);
            pg_sys::ExecOpenIndices(info, true);
            pg_sys::MemoryContextSwitchTo(before);
            Self { relation, info, estate, writing }
        }
    }

    fn fires(&self, which: impl FnOnce(&pg_sys::TriggerDesc) -> bool) -> bool {
        // SAFETY: a copy that belongs to `info`.
        unsafe { (*self.info).ri_TrigDesc.as_ref().is_some_and(which) }
    }

    /// Inserts the rows of slots of the leaf, and clears them.
    pub fn insert(&mut self, slots: &mut [*mut pg_sys::TupleTableSlot]) -> Result<(), Error> {
        // A BEFORE trigger may look at the rows before.
        let together =
            if self.fires(|triggers| triggers.trig_insert_before_row) { 1 } else { slots.len() };
        // SAFETY: the slots hold rows of the leaf.
        unsafe {
            for slots in slots.chunks_mut(together.max(1)) {
                for slot in &mut *slots {
                    self.before_insert(*slot)?;
                }
                insert_rows(self.relation, slots);
                for slot in slots {
                    let recheck = self.insert_entries(*slot, false, None);
                    self.after_insert(*slot, recheck);
                    pg_sys::ExecClearTuple(*slot);
                }
            }
        }
        Ok(())
    }

    /// Inserts the row of a slot unless a unique index has its key already; waits for those who are
    /// just inserting it. Clears the slot, and returns whether the row was inserted.
    pub fn insert_unless_there(
        &mut self,
        slot: *mut pg_sys::TupleTableSlot,
    ) -> Result<bool, Error> {
        // SAFETY: the steps of INSERT … ON CONFLICT DO NOTHING; the slot holds a row of the leaf.
        unsafe {
            self.before_insert(slot)?;
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
                    return Ok(false);
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
                    let recheck = self.insert_entries(slot, false, Some(&mut lost));
                    pg_sys::ffi::pg_guard_ffi_boundary(|| complete(relation, slot, token, !lost));
                    pg_sys::SpeculativeInsertionLockRelease(xid);
                    if !lost {
                        self.after_insert(slot, recheck);
                        pg_sys::ExecClearTuple(slot);
                        return Ok(true);
                    }
                }
                check_for_interrupts();
            }
        }
    }

    /// Replaces the row at `place` by that of a slot, and clears the slot. Where triggers fire, the
    /// caller has locked the newest version of the row.
    ///
    /// # Safety
    ///
    /// There must be a row at `place`, and the slot hold one of the leaf.
    pub unsafe fn update(
        &mut self,
        mut place: pg_sys::ItemPointerData,
        slot: *mut pg_sys::TupleTableSlot,
    ) -> Result<Update, Error> {
        // SAFETY: by the caller's promise.
        unsafe {
            pg_sys::CheckCmdReplicaIdentity(self.relation, pg_sys::CmdType::CMD_UPDATE);
            // The one before the triggers': a row that they have updated is then reported as such.
            let command = pg_sys::GetCurrentCommandId(true);
            let before = self.before_update(&mut place, slot)?;
            if !matches!(before, Update::Done) {
                return Ok(before);
            }
            self.check_constraints(slot);
            let tuple = pg_sys::heap_form_tuple(
                (*self.relation).rd_att,
                (*slot).tts_values,
                (*slot).tts_isnull,
            );
            let update = update_row(self.relation, place, tuple, command, Wait::Block);
            if matches!(update, Update::Done) {
                (*slot).tts_tid = (*tuple).t_self;
                let recheck = if is_heap_only(tuple) {
                    std::ptr::null_mut()
                } else {
                    self.insert_entries(slot, true, None)
                };
                if self.fires(|triggers| triggers.trig_update_after_row) {
                    self.writing.begin_triggers();
                    pg_sys::ExecARUpdateTriggers(
                        self.estate,
                        self.info,
                        std::ptr::null_mut(),
                        std::ptr::null_mut(),
                        &mut place,
                        std::ptr::null_mut(),
                        slot,
                        recheck,
                        std::ptr::null_mut(),
                        false,
                    );
                }
            }
            pg_sys::heap_freetuple(tuple);
            pg_sys::ExecClearTuple(slot);
            Ok(update)
        }
    }

    /// Fires BEFORE triggers of an update; `Update::Done` if the row can be updated.
    unsafe fn before_update(
        &self,
        place: &mut pg_sys::ItemPointerData,
        slot: *mut pg_sys::TupleTableSlot,
    ) -> Result<Update, Error> {
        if !self.fires(|triggers| triggers.trig_update_before_row) {
            return Ok(Update::Done);
        }
        // SAFETY: the row is locked in its newest version, so there is nothing for EvalPlanQual to do.
        unsafe {
            let given = Row::of(slot);
            let mut recheck = pg_sys::EPQState::default();
            let no_list = std::ptr::null_mut();
            pg_sys::EvalPlanQualInit(&mut recheck, self.estate, std::ptr::null_mut(), no_list, -1);
            let mut result = pg_sys::TM_Result::TM_Ok;
            let mut failure = pg_sys::TM_FailureData::default();
            let proceed = pg_sys::ExecBRUpdateTriggersNew(
                self.estate,
                &mut recheck,
                self.info,
                place,
                std::ptr::null_mut(),
                slot,
                &mut result,
                &mut failure,
            );
            pg_sys::EvalPlanQualEnd(&mut recheck);
            match result {
                pg_sys::TM_Result::TM_Deleted if !proceed => return Ok(Update::Gone),
                pg_sys::TM_Result::TM_SelfModified if !proceed => {
                    return Ok(Update::Failed(result));
                }
                _ => {}
            }
            if !proceed || !given.is_still_in(slot) {
                return Err(self.refusal());
            }
            given.put_back(slot);
            Ok(Update::Done)
        }
    }

    unsafe fn before_insert(&self, slot: *mut pg_sys::TupleTableSlot) -> Result<(), Error> {
        // SAFETY: the slot holds a row of the leaf.
        unsafe {
            if self.fires(|triggers| triggers.trig_insert_before_row) {
                let given = Row::of(slot);
                let proceed = pg_sys::ExecBRInsertTriggers(self.estate, self.info, slot);
                if !proceed || !given.is_still_in(slot) {
                    return Err(self.refusal());
                }
                given.put_back(slot);
            }
            self.check_constraints(slot);
        }
        Ok(())
    }

    unsafe fn check_constraints(&self, slot: *mut pg_sys::TupleTableSlot) {
        // SAFETY: the slot holds a row of the leaf.
        unsafe {
            if !(*(*self.relation).rd_att).constr.is_null() {
                pg_sys::ExecConstraints(self.info, slot, self.estate);
            }
        }
    }

    unsafe fn after_insert(&self, slot: *mut pg_sys::TupleTableSlot, recheck: *mut pg_sys::List) {
        if !self.fires(|triggers| triggers.trig_insert_after_row) {
            return;
        }
        self.writing.begin_triggers();
        let no_transition = std::ptr::null_mut();
        // SAFETY: the slot holds the row, and its place.
        unsafe {
            pg_sys::ExecARInsertTriggers(self.estate, self.info, slot, recheck, no_transition);
        }
    }

    /// Makes the index entries of the row of a slot. Returns the indexes whose uniqueness is to be
    /// checked later.
    unsafe fn insert_entries(
        &self,
        slot: *mut pg_sys::TupleTableSlot,
        update: bool,
        conflict: Option<&mut bool>,
    ) -> *mut pg_sys::List {
        let speculative = conflict.is_some();
        // SAFETY: the slot holds a row of the relation, and its place.
        unsafe {
            let recheck = pg_sys::ExecInsertIndexTuples(
                self.info,
                slot,
                self.estate,
                update,
                speculative,
                conflict.map_or(std::ptr::null_mut(), std::ptr::from_mut),
                std::ptr::null_mut(),
            );
            let context = (*self.estate).es_per_tuple_exprcontext;
            if !context.is_null() {
                pg_sys::MemoryContextReset((*context).ecxt_per_tuple_memory);
            }
            recheck
        }
    }

    fn refusal(&self) -> Error {
        // SAFETY: the relation is open; names end with a zero.
        let table = unsafe { CStr::from_ptr((*(*self.relation).rd_rel).relname.data.as_ptr()) };
        Error::RowChanged { table: table.to_string_lossy().into_owned() }
    }
}

impl Drop for GuardedLeaf<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // SAFETY: opened by `open`, and not used after.
        unsafe {
            pg_sys::ExecResetTupleTable((*self.estate).es_tupleTable, false);
            pg_sys::ExecCloseIndices(self.info);
            pg_sys::FreeExecutorState(self.estate);
        }
    }
}

/// The values of a row as they were before its BEFORE triggers.
struct Row(Vec<Option<pg_sys::Datum>>);

impl Row {
    /// The values of a slot, which others keep.
    unsafe fn of(slot: *mut pg_sys::TupleTableSlot) -> Self {
        // SAFETY: a virtual slot has `natts` values.
        unsafe {
            let natts = (*(*slot).tts_tupleDescriptor).natts as usize;
            let value = |column: usize| {
                (!*(*slot).tts_isnull.add(column)).then(|| *(*slot).tts_values.add(column))
            };
            Self((0..natts).map(value).collect())
        }
    }

    /// Makes the slot refer to these values, which are equal to its own. A trigger may have put a row
    /// of its own there, which is freed before the slot is done with.
    unsafe fn put_back(&self, slot: *mut pg_sys::TupleTableSlot) {
        for (column, value) in self.0.iter().enumerate() {
            // SAFETY: the slot has the columns that it had, and whoever has filled it keeps their values.
            unsafe {
                *(*slot).tts_isnull.add(column) = value.is_none();
                *(*slot).tts_values.add(column) = value.unwrap_or(pg_sys::Datum::from(0));
            }
        }
    }

    unsafe fn is_still_in(&self, slot: *mut pg_sys::TupleTableSlot) -> bool {
        // SAFETY: the slot has the columns that it had; values are as the columns' types say.
        unsafe {
            let now = Self::of(slot);
            let attributes = (*(*slot).tts_tupleDescriptor).attrs.as_ptr();
            std::iter::zip(&self.0, &now.0).enumerate().all(|(column, values)| match values {
                (None, None) => true,
                (Some(before), Some(now)) => is_same(*before, *now, &*attributes.add(column)),
                _ => false,
            })
        }
    }
}

unsafe fn is_same(
    a: pg_sys::Datum,
    b: pg_sys::Datum,
    attribute: &pg_sys::FormData_pg_attribute,
) -> bool {
    if a.value() == b.value() {
        return true;
    }
    // SAFETY: valid values of the attribute's type.
    unsafe {
        match attribute.attlen {
            -1 => body(a) == body(b),
            len if !attribute.attbyval => {
                let bytes = |value: pg_sys::Datum| {
                    std::slice::from_raw_parts(value.cast_mut_ptr::<u8>(), len as usize)
                };
                bytes(a) == bytes(b)
            }
            _ => false,
        }
    }
}
