//! The end of a transaction that has taken positions or locked streams.
#![expect(unsafe_code, reason = "listens to PostgreSQL's transactions")]

use super::registry::registry;
use crate::pg::error::Error;
use crate::pg::session::xact::ends_transaction;
use pgrx::pg_sys;
use std::cell::Cell;

/// `InvalidSubTransactionId` of PostgreSQL.
const NONE: pg_sys::SubTransactionId = 0;

thread_local! {
    static CALLBACK_SET: Cell<bool> = const { Cell::new(false) };
    /// The outermost subtransaction that holds locks of streams; `NONE` if there is none. Locks of inner
    /// ones are covered: they end no later.
    static HOLDS_STREAMS: Cell<pg_sys::SubTransactionId> = const { Cell::new(NONE) };
}

/// Notes that this transaction holds the lock of a stream.
pub fn note_stream_lock() {
    watch_transactions();
    if HOLDS_STREAMS.get() == NONE {
        // SAFETY: called in a transaction.
        HOLDS_STREAMS.set(unsafe { pg_sys::GetCurrentSubTransactionId() });
    }
}

/// Whether this transaction holds locks of streams.
pub fn holds_streams() -> bool {
    HOLDS_STREAMS.get() != NONE
}

/// Begins to listen for the ends of transactions, once per backend.
pub fn watch_transactions() {
    if CALLBACK_SET.get() {
        return;
    }
    // SAFETY: the callbacks and their registrations live as long as the backend.
    unsafe {
        pg_sys::RegisterXactCallback(Some(transaction_event), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(subtransaction_event), std::ptr::null_mut());
    }
    // Only now: registering may fail for lack of memory.
    CALLBACK_SET.set(true);
}

/// A subtransaction hands its locks to its parent, or gives them back.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn subtransaction_event(
    event: pg_sys::SubXactEvent::Type,
    mine: pg_sys::SubTransactionId,
    parent: pg_sys::SubTransactionId,
    _argument: *mut std::ffi::c_void,
) {
    if HOLDS_STREAMS.get() != mine {
        return;
    }
    match event {
        pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => HOLDS_STREAMS.set(parent),
        pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => HOLDS_STREAMS.set(NONE),
        _ => {}
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn transaction_event(
    event: pg_sys::XactEvent::Type,
    _argument: *mut std::ffi::c_void,
) {
    if ends_transaction(event) {
        HOLDS_STREAMS.set(NONE);
    }
    let Ok(registry) = registry() else { return };
    let slot = registry.my_slot();
    if !slot.taken.is_taken() {
        return;
    }
    match event {
        // COMMIT is reported after the transaction has left the list of running ones.
        pg_sys::XactEvent::XACT_EVENT_COMMIT | pg_sys::XactEvent::XACT_EVENT_ABORT => {
            slot.taken.clear();
        }
        pg_sys::XactEvent::XACT_EVENT_PRE_PREPARE => {
            Error::PreparedTransaction.raise("PREPARE TRANSACTION")
        }
        _ => {}
    }
}
