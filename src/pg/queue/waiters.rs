//! Sessions that wait for a worker: one slot for each process, in shared memory.
//!
//! A condition variable would wake all of them at each batch, also those whose events are in a later
//! one. Here each says what it waits for, and is woken only when that has come.
//!
//! ```text
//! waiter                               worker
//!   slot := what it waits for            releases records
//!   is it there already?                 examines all slots, clears those that have it
//!   sleep on its latch                   sets their latches
//! ```
//!
//! Each side writes one thing and then reads the other's, with a sequentially consistent fence
//! between, so at least one of them sees what the other wrote.
#![expect(unsafe_code, reason = "lives in PostgreSQL's shared memory")]

use crate::pg::session::xact::check_for_interrupts;
use crate::pg::shared::latch;
use pgrx::pg_sys;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

const NOBODY: u64 = 0;
const ANYTHING: u64 = u64::MAX;
const MOVED: u64 = u64::MAX - 1;

/// How long a process sleeps at most before it looks by itself.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// What a process waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// That records up to this offset of the ring are released; it is above 0.
    Offset(u64),
    /// That waiting events are moved to their streams.
    Moved,
    /// Any change of the queue.
    Anything,
}

/// How a wait has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited<T> {
    /// What was waited for.
    Done(T),
    /// It has not come in time.
    TimedOut,
}

/// The slots of a queue, by the numbers of processes.
#[derive(Clone, Copy)]
pub struct Waiters {
    slots: *const AtomicU64,
}

fn slots_len() -> usize {
    // SAFETY: set before shared memory is asked for. Processes with a latch of their own that can
    // run SQL have numbers below it.
    unsafe { pg_sys::MaxBackends as usize }
}

impl Waiters {
    /// Bytes of shared memory; all zero, nobody waits.
    pub fn bytes() -> usize {
        slots_len() * size_of::<AtomicU64>()
    }

    /// # Safety
    ///
    /// `start` must have [`Self::bytes`] bytes of shared memory, on a boundary of 8, that were zeroed
    /// when it was set up.
    pub unsafe fn at(start: *mut u8) -> Self {
        Self { slots: start.cast() }
    }

    fn slots(&self) -> &[AtomicU64] {
        // SAFETY: see `at`.
        unsafe { std::slice::from_raw_parts(self.slots, slots_len()) }
    }

    /// Sleeps until `check` returns something. It is called first, after each wake-up, and at least
    /// every second. Cancelling the query ends the wait with an error.
    pub fn wait_until<T>(
        &self,
        awaited: Awaited,
        deadline: Option<Instant>,
        mut check: impl FnMut() -> Option<T>,
    ) -> Waited<T> {
        // SAFETY: set in every process that uses shared memory.
        let number = unsafe { (*pg_sys::MyProc).pgprocno as usize };
        let slot = Slot(&self.slots()[number]);
        loop {
            slot.0.store(
                match awaited {
                    Awaited::Offset(offset) => offset,
                    Awaited::Moved => MOVED,
                    Awaited::Anything => ANYTHING,
                },
                Ordering::Relaxed,
            );
            // Partner: the fence in `wake`.
            fence(Ordering::SeqCst);
            if let Some(result) = check() {
                return Waited::Done(result);
            }
            let left = match deadline {
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                None => SLEEP_MAX,
            };
            if left.is_zero() {
                return Waited::TimedOut;
            }
            latch::wait(left.min(SLEEP_MAX));
            check_for_interrupts();
        }
    }

    /// Wakes those who wait for something up to `offset`, and those who wait for anything.
    pub fn wake_up_to(&self, offset: u64) {
        self.wake(|awaited| awaited <= offset || awaited == ANYTHING);
    }

    /// Wakes those who wait for events to be moved to their streams, and those who wait for anything.
    pub fn wake_moved(&self) {
        self.wake(|awaited| awaited == MOVED || awaited == ANYTHING);
    }

    /// Wakes all.
    pub fn wake_all(&self) {
        self.wake(|_| true);
    }

    fn wake(&self, is_wanted: impl Fn(u64) -> bool) {
        // Partner: the fence in `wait_until`.
        fence(Ordering::SeqCst);
        for (number, slot) in self.slots().iter().enumerate() {
            let awaited = slot.load(Ordering::Relaxed);
            // Cleared, so that nobody is woken twice for the same event.
            if awaited != NOBODY
                && is_wanted(awaited)
                && slot
                    .compare_exchange(awaited, NOBODY, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
            {
                latch::wake(number);
            }
        }
    }
}

/// A slot that is cleared when the wait ends, even by an error. If a process ends while it waits, its
/// slot is cleared by the next wake-up, which then sets a latch in vain.
struct Slot<'a>(&'a AtomicU64);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.store(NOBODY, Ordering::Relaxed);
    }
}
