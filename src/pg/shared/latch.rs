//! Latches: how a process sleeps, and how another process wakes it.
#![expect(unsafe_code, reason = "drives PostgreSQL's latches")]

use pgrx::pg_sys;
use std::ffi::c_int;
use std::time::Duration;

/// Sleeps until this process's latch is set or the time is up. Handles no signals; if the
/// postmaster ends, the process ends.
pub fn wait(longest: Duration) {
    // SAFETY: waits on this process's own latch.
    unsafe {
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as c_int,
            // Rounded up: the rest of a millisecond must not be waited for in a loop.
            longest.as_millis() as i64 + 1,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
}

/// Sets the latch of the process with this number. If the number was assigned to another process in
/// the meantime, that one is woken, which does no harm.
pub fn wake(number: usize) {
    // SAFETY: process numbers are indexes of the array of all processes.
    unsafe {
        let process = (*pg_sys::ProcGlobal).allProcs.add(number);
        pg_sys::SetLatch(&raw mut (*process).procLatch);
    }
}
