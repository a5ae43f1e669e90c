//! When a sleeping consumer has to be woken.
//!
//! Waking costs a system call, so producers should do it only when the consumer sleeps. How it
//! sleeps is the caller's business (a latch), with one demand: a wake-up that comes between the
//! consumer's last look and its going to sleep must not be lost by it, as latches promise.
//!
//! ```text
//! producer                         consumer
//!   push the record                  announce_sleep
//!   must_wake?  then wake it         a record after all?  then do not sleep
//!                                    sleep
//!                                    woken_up
//! ```
//!
//! Each side writes one thing and then reads the other's. Between the two stands a sequentially
//! consistent fence, so at least one of them reads what the other wrote: the producer finds the
//! consumer asleep, or the consumer finds the record. Acquire and Release would allow both to miss.
//!
//! The flag is changed by exchanging it only, so each change follows upon the one it has read.

use crate::sync::{AtomicU32, Ordering::Relaxed, Ordering::SeqCst, fence};

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;

/// Whether the consumer of a ring sleeps. Lives in shared memory beside the ring; memory that is
/// all zeros is one that is awake.
#[derive(Debug)]
#[repr(transparent)]
pub struct WakeFlag {
    state: AtomicU32,
}

impl WakeFlag {
    /// A flag of a consumer that is awake.
    #[must_use]
    #[cfg(not(any(loom, shuttle)))]
    #[expect(clippy::new_without_default, reason = "made in place, in shared memory")]
    pub const fn new() -> Self {
        Self { state: AtomicU32::new(AWAKE) }
    }

    /// A flag of a consumer that is awake.
    #[must_use]
    #[cfg(any(loom, shuttle))]
    #[expect(clippy::new_without_default, reason = "as in the build without a model checker")]
    pub fn new() -> Self {
        Self { state: AtomicU32::new(AWAKE) }
    }

    /// Called by the consumer before it sleeps. After it, and before it sleeps, it must look once
    /// more whether there is a record.
    pub fn announce_sleep(&self) {
        self.state.swap(ASLEEP, Relaxed);
        // Partner: the fence in `must_wake`. The change above comes before the look that follows.
        fence(SeqCst);
    }

    /// Called by the consumer when it sleeps no longer, or has not slept after all.
    pub fn woken_up(&self) {
        self.state.swap(AWAKE, Relaxed);
    }

    /// Called by a producer after it has pushed one record or several: whether it now has to wake
    /// the consumer. Of several producers one gets `true`.
    #[must_use]
    pub fn must_wake(&self) -> bool {
        // Partner: the fence in `announce_sleep`. The record comes before the load that follows.
        fence(SeqCst);
        // The producer that exchanges it wakes the consumer. For those that find it awake after that,
        // the consumer has yet to look again.
        self.state.load(Relaxed) == ASLEEP && self.state.swap(AWAKE, Relaxed) == ASLEEP
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn one_producer_wakes_a_consumer_that_sleeps() {
        let flag = WakeFlag::new();
        assert!(!flag.must_wake());
        flag.announce_sleep();
        assert!(flag.must_wake());
        assert!(!flag.must_wake());
        flag.announce_sleep();
        flag.woken_up();
        assert!(!flag.must_wake());
    }
}
