//! The sequences, below SQL: what they hold, and setting them. They are the truth about what was given
//! out; memory only remembers them.
#![expect(unsafe_code, reason = "reads a sequence's page")]

use crate::pg::tables::open_relation::OpenRelation;
use crate::pg::tables::rights::{as_user, relation_owner};
use pgrx::pg_sys;

/// What a sequence holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceValue {
    /// the last number assigned; 0 if there is none
    pub value: u64,
    /// the end of the WAL record that it is in
    pub lsn: pg_sys::XLogRecPtr,
}

/// Reads a sequence. It does not depend on a snapshot: a sequence has one row, which is changed in
/// place.
///
/// # Safety
///
/// The caller must hold a lock of the sequence.
pub unsafe fn read(sequence: pg_sys::Oid) -> SequenceValue {
    // SAFETY: locked, so it is there; a sequence has one page with one row (`read_seq_tuple` in
    // PostgreSQL's sequence.c), which is looked at under the page's lock.
    unsafe {
        let relation = OpenRelation::open(sequence, pg_sys::NoLock as pg_sys::LOCKMODE);
        let buffer = pg_sys::ReadBuffer(relation.get(), 0);
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
        let page = pg_sys::BufferGetPage(buffer);
        let item = pg_sys::PageGetItemId(page, 1);
        let header = page.cast::<u8>().add((*item).lp_off() as usize);
        let offset = (*header.cast::<pg_sys::HeapTupleHeaderData>()).t_hoff as usize;
        let row = header.add(offset).cast::<Row>().read_unaligned();
        let lsn = pg_sys::BufferGetLSNAtomic(buffer);
        pg_sys::UnlockReleaseBuffer(buffer);
        let last = if row.is_called { row.last_value } else { row.last_value - 1 };
        SequenceValue { value: u64::try_from(last).unwrap_or(0), lsn }
    }
}

/// `FormData_pg_sequence_data` of commands/sequence.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct Row {
    last_value: i64,
    _log_cnt: i64,
    is_called: bool,
}

/// Sets a sequence, which is logged at once and does not depend on the transaction.
///
/// # Safety
///
/// The caller must hold a lock of the sequence.
pub unsafe fn set(sequence: pg_sys::Oid, value: u64) {
    // SAFETY: calls setval(regclass, bigint) with what it declares, as an owner, who is there.
    unsafe {
        as_user(relation_owner(sequence), || {
            pgrx::direct_function_call_as_datum(
                pg_sys::setval_oid,
                &[Some(pg_sys::Datum::from(sequence)), Some(pg_sys::Datum::from(value as i64))],
            )
        });
    }
}
