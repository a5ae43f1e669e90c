//! Rows in a heap, without their index entries.
#![expect(unsafe_code, reason = "drives PostgreSQL's table access")]

use crate::pg::session::xact::uses_one_snapshot;
use pgrx::pg_sys;
use std::ffi::c_int;

/// What has become of the row that was to be changed.
pub enum Update {
    /// It was changed, or is locked.
    Done,
    /// Another transaction has changed it.
    Changed,
    /// It was deleted.
    Gone,
    /// This transaction, which has not ended, has changed or locked it; with `Wait::Skip` only.
    Held(pg_sys::TransactionId),
    /// Something that must not happen.
    Failed(pg_sys::TM_Result::Type),
}

/// What to do if another transaction has a row locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Wait for its end.
    Block,
    /// Nothing.
    Skip,
}

/// Inserts the rows of slots into the table; their places are in the slots afterwards.
///
/// # Safety
///
/// Slots must be of the relation and hold rows.
pub unsafe fn insert_rows(relation: pg_sys::Relation, slots: &mut [*mut pg_sys::TupleTableSlot]) {
    // SAFETY: by the caller's promise; a materialised slot owns its tuple, so it needs no freeing.
    unsafe {
        let command = pg_sys::GetCurrentCommandId(true);
        let no_bulk_insert = std::ptr::null_mut();
        match slots {
            [slot] => {
                let tuple = pg_sys::heap_form_tuple(
                    (*relation).rd_att,
                    (**slot).tts_values,
                    (**slot).tts_isnull,
                );
                (*tuple).t_tableOid = (*relation).rd_id;
                pg_sys::heap_insert(relation, tuple, command, 0, no_bulk_insert);
                (**slot).tts_tid = (*tuple).t_self;
                pg_sys::heap_freetuple(tuple);
            }
            slots => pg_sys::heap_multi_insert(
                relation,
                slots.as_mut_ptr(),
                slots.len() as c_int,
                command,
                0,
                no_bulk_insert,
            ),
        }
    }
}

/// Replaces the row at `place` by a tuple, whose place is in it afterwards, as part of `command`.
///
/// # Safety
///
/// There must be a row at `place`, and the tuple be of the relation.
pub unsafe fn update_row(
    relation: pg_sys::Relation,
    mut place: pg_sys::ItemPointerData,
    tuple: pg_sys::HeapTuple,
    command: pg_sys::CommandId,
    wait: Wait,
) -> Update {
    let mut failure = pg_sys::TM_FailureData::default();
    // SAFETY: by the caller's promise.
    let result = unsafe {
        (*tuple).t_tableOid = (*relation).rd_id;
        let mut mode = 0;
        let crosscheck = if uses_one_snapshot() {
            pg_sys::GetTransactionSnapshot()
        } else {
            std::ptr::null_mut()
        };
        pg_sys::heap_update(
            relation,
            &mut place,
            tuple,
            command,
            crosscheck,
            wait == Wait::Block,
            &mut failure,
            &mut mode,
        )
    };
    match result {
        pg_sys::TM_Result::TM_Ok => Update::Done,
        pg_sys::TM_Result::TM_Updated => Update::Changed,
        pg_sys::TM_Result::TM_Deleted => Update::Gone,
        pg_sys::TM_Result::TM_BeingModified if wait == Wait::Skip => Update::Held(failure.xmax),
        other => Update::Failed(other),
    }
}

/// Whether a tuple that was written by an update is reached through the index entries of its
/// predecessor.
///
/// # Safety
///
/// The tuple must be valid.
pub unsafe fn is_heap_only(tuple: pg_sys::HeapTuple) -> bool {
    // SAFETY: by the caller's promise.
    unsafe { (*(*tuple).t_data).t_infomask2 as u32 & pg_sys::HEAP_ONLY_TUPLE != 0 }
}
