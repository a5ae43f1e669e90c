//! How askers wait for a free slot.

use super::futex;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::Duration;

/// Who waits for a slot, and how often one was freed for them.
#[repr(C, align(64))]
pub struct Room {
    /// A process that ends while it waits, without being unwound, stays counted: then freeing a slot
    /// costs a system call more.
    waiting: AtomicU32,
    freed: AtomicU32,
}

impl Room {
    /// Called after a slot was freed.
    pub fn freed(&self) {
        // Partner: the fence in `wait_for`.
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.freed.fetch_add(1, Ordering::Relaxed);
            futex::wake_one(&self.freed);
        }
    }

    /// Tries `claim`, and sleeps if it gives nothing, until a slot was freed, but not longer than this.
    pub fn wait_for<T>(&self, longest: Duration, claim: impl FnOnce() -> Option<T>) -> Option<T> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(self);
        let freed = self.freed.load(Ordering::Relaxed);
        // Partner: the fence in `freed`.
        fence(Ordering::SeqCst);
        let claimed = claim();
        if claimed.is_none() {
            futex::wait(&self.freed, freed, longest);
        }
        claimed
    }
}

struct Waiting<'a>(&'a Room);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
