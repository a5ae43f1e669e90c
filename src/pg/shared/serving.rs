//! A process that serves others, in shared memory: which one it is, and how it is woken.
#![expect(unsafe_code, reason = "names this process")]

use super::latch;
use super::memory::{Lock, with_lock};
use pgrx::pg_sys;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// The process that serves, if there is one. Zeroed memory is valid: there is none.
///
/// SeqCst throughout: who asks for something and finds nobody to wake is seen to have asked by the
/// process that comes after that.
#[repr(C)]
pub struct Serving {
    pid: AtomicI32,
    /// Process number, plus 1.
    process: AtomicU32,
}

impl Serving {
    /// Makes this process the one that serves, unless there is one.
    pub fn claim(&self) -> bool {
        with_lock(Lock::Workers, || {
            let is_free = self.pid().is_none();
            if is_free {
                self.take_over();
            }
            is_free
        })
    }

    /// Makes this process the one that serves, where it is known that there is no other.
    pub fn take_over(&self) {
        // SAFETY: set in every process that uses shared memory.
        let (process, pid) = unsafe { ((*pg_sys::MyProc).pgprocno, pg_sys::MyProcPid) };
        self.process.store(process as u32 + 1, Ordering::SeqCst);
        self.pid.store(pid, Ordering::SeqCst);
    }

    /// The process that serves ends. Its successor can do nothing before this.
    pub fn leave(&self) {
        with_lock(Lock::Workers, || {
            self.process.store(0, Ordering::SeqCst);
            self.pid.store(0, Ordering::SeqCst);
        });
    }

    /// The process that serves; `None` if there is none.
    pub fn pid(&self) -> Option<i32> {
        Some(self.pid.load(Ordering::SeqCst)).filter(|pid| *pid != 0)
    }

    /// Whether it is this process.
    pub fn is_this_process(&self) -> bool {
        // SAFETY: a constant of this process.
        self.pid() == Some(unsafe { pg_sys::MyProcPid })
    }

    /// Wakes it, if it is there.
    pub fn wake(&self) {
        let process = self.process.load(Ordering::SeqCst);
        if process > 0 {
            latch::wake(process as usize - 1);
        }
    }
}
