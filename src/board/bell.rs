//! How the server sleeps, and how it is woken.
//!
//! Each side writes one thing and then reads the other's, with a sequentially consistent fence between:
//! the asker finds the server asleep and wakes it, or the server finds the question before it sleeps.

use super::futex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::Duration;

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;

/// Which slots were asked, and whether the server sleeps.
#[repr(C, align(64))]
pub struct Bell {
    asked: AtomicU64,
    state: AtomicU32,
}

impl Bell {
    /// Notes that a slot was asked, and wakes the server.
    pub fn ask(&self, slot: usize) {
        // Release: the partner is `take`.
        self.asked.fetch_or(1 << slot, Ordering::Release);
        self.ring();
    }

    /// Wakes the server, if it sleeps, to look at what the caller has changed.
    pub fn ring(&self) {
        // Partner: the fence in `sleep`.
        fence(Ordering::SeqCst);
        if self.state.load(Ordering::Relaxed) == ASLEEP
            && self.state.swap(AWAKE, Ordering::Relaxed) == ASLEEP
        {
            futex::wake_one(&self.state);
        }
    }

    /// The slots that were asked since the last call; some may have been given back.
    pub fn take(&self) -> impl Iterator<Item = usize> + use<> {
        let asked = match self.asked.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.asked.swap(0, Ordering::Acquire),
        };
        (0..u64::BITS as usize).filter(move |slot| asked & 1 << slot != 0)
    }

    /// Sleeps until it rings, but not longer than this, and not if a slot was asked or `is_wanted` says
    /// so. Only the server calls it, in one thread.
    pub fn sleep(&self, longest: Duration, is_wanted: impl FnOnce() -> bool) {
        self.state.store(ASLEEP, Ordering::Relaxed);
        // Partner: the fence in `ring`.
        fence(Ordering::SeqCst);
        if self.asked.load(Ordering::Relaxed) == 0 && !is_wanted() {
            futex::wait(&self.state, ASLEEP, longest);
        }
        self.state.store(AWAKE, Ordering::Relaxed);
    }
}
