//! Threads that no signal reaches: PostgreSQL's handlers must run in its own thread only.
#![expect(unsafe_code, reason = "asks the system to block signals")]

use std::mem::MaybeUninit;
use std::ptr;

/// Starts threads in `start`, which inherit that all signals are blocked. The calling thread has its
/// own signals back afterwards.
pub fn with_all_blocked<T>(start: impl FnOnce() -> T) -> T {
    let _restored = Blocked::new();
    start()
}

struct Blocked(Option<libc::sigset_t>);

impl Blocked {
    fn new() -> Self {
        let mut all = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: both sets are for the calls to write; `all` has been written when it is read, and
        // `before` too if 0 is returned.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            let failed =
                libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            Self((failed == 0).then(|| before.assume_init()))
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // SAFETY: a set that the system has given.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, ptr::null_mut()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{SigSet, Signal};

    #[test]
    fn threads_inherit_it_and_the_caller_does_not_keep_it() {
        let before = SigSet::thread_get_mask().unwrap();
        let thread = with_all_blocked(|| std::thread::spawn(SigSet::thread_get_mask));
        let inherited = thread.join().unwrap().unwrap();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1, Signal::SIGHUP] {
            assert!(inherited.contains(signal), "{signal}");
        }
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
    }
}
