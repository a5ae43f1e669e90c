//! Sleeping on a word of shared memory until another process has changed it (`futex(2)`). The words are
//! not private to a process.
#![expect(unsafe_code, reason = "asks the system")]

use std::ptr;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Sleeps while the word is `expected`, until it is woken, a signal comes or the time is up. It may
/// return for no reason: the caller looks again.
pub fn wait(word: &AtomicU32, expected: u32, longest: Duration) {
    let timeout = libc::timespec {
        tv_sec: longest.as_secs() as libc::time_t,
        tv_nsec: longest.subsec_nanos().into(),
    };
    // SAFETY: the word and the timeout live longer than the call, which only reads them.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            &raw const timeout,
            ptr::null::<u32>(),
            0,
        );
    }
}

/// Wakes one that sleeps on the word, in any process.
pub fn wake_one(word: &AtomicU32) {
    // SAFETY: the word is only an address here.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1);
    }
}
