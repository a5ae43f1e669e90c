//! A call that writes.
#![expect(unsafe_code, reason = "drives PostgreSQL's triggers")]

use crate::pg::error::Error;
use pgrx::pg_sys;
use std::cell::Cell;

thread_local! {
    /// Whether a call has begun to advance heads and not yet taken positions.
    static MOVING_HEADS: Cell<bool> = const { Cell::new(false) };
}

/// A call that writes: what its leaves have in common.
///
/// While heads are advanced, code of users may run: BEFORE triggers, functions of indexes. If it
/// appended, its events would have higher versions and lower positions than those of the call, so that
/// is refused. The AFTER triggers of a call are queued while rows are written, and fired
/// after the last one.
pub struct Writing {
    is_moving_heads: Cell<bool>,
    has_triggers: Cell<bool>,
}

impl Writing {
    /// Begins a call.
    pub fn begin() -> Result<Self, Error> {
        if MOVING_HEADS.replace(true) {
            return Err(Error::NestedAppend);
        }
        Ok(Self { is_moving_heads: Cell::new(true), has_triggers: Cell::new(false) })
    }

    /// Heads are advanced, and positions are taken.
    pub fn has_positions(&self) {
        if self.is_moving_heads.replace(false) {
            MOVING_HEADS.set(false);
        }
    }

    /// AFTER triggers are about to be queued.
    pub fn begin_triggers(&self) {
        if !self.has_triggers.replace(true) {
            // SAFETY: ended by `finish`, or by the abort of the transaction.
            unsafe { pg_sys::AfterTriggerBeginQuery() }
        }
    }

    /// Everything is written: fires the AFTER triggers, but for deferred constraint triggers.
    pub fn finish(self) {
        self.has_positions();
        if !self.has_triggers.get() {
            return;
        }
        // SAFETY: the state is made and freed here; relations that triggers are on are locked.
        unsafe {
            let estate = pg_sys::CreateExecutorState();
            (*estate).es_output_cid = pg_sys::GetCurrentCommandId(true);
            pg_sys::AfterTriggerEndQuery(estate);
            pg_sys::ExecResetTupleTable((*estate).es_tupleTable, false);
            pg_sys::ExecCloseResultRelations(estate);
            pg_sys::FreeExecutorState(estate);
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.has_positions();
    }
}
