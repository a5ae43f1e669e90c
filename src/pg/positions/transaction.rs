//! The end of a transaction that has taken positions or locked streams.
#![expect(unsafe_code, reason = "listens to PostgreSQL's transactions")]

use super::registry::registry;
use crate::pg::error::Error;
use pgrx::pg_sys;
use std::cell::Cell;

thread_local! {
    static CALLBACK_SET: Cell<bool> = const { Cell::new(false) };
    /// Whether the transaction holds locks of streams.
    static HOLDS_STREAMS: Cell<bool> = const { Cell::new(false) };
}

/// Notes that this transaction holds the lock of a stream.
pub fn note_stream_lock() {
    HOLDS_STREAMS.set(true);
    watch_transactions();
}

/// Whether this transaction holds locks of streams.
pub fn holds_streams() -> bool {
    HOLDS_STREAMS.get()
}

/// Begins to listen for the ends of transactions, once per backend.
pub fn watch_transactions() {
    if CALLBACK_SET.get() {
        return;
    }
    // SAFETY: the callback and its registration live as long as the backend.
    unsafe { pg_sys::RegisterXactCallback(Some(transaction_event), std::ptr::null_mut()) }
    // Only now: registering may fail for lack of memory.
    CALLBACK_SET.set(true);
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn transaction_event(
    event: pg_sys::XactEvent::Type,
    _argument: *mut std::ffi::c_void,
) {
    let ends = matches!(
        event,
        pg_sys::XactEvent::XACT_EVENT_COMMIT
            | pg_sys::XactEvent::XACT_EVENT_ABORT
            | pg_sys::XactEvent::XACT_EVENT_PREPARE
    );
    if ends {
        HOLDS_STREAMS.set(false);
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
