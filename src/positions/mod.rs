//! Assigning positions, and finding the safe one: what several processes do with a counter and a
//! slot for each of them.
//!
//! Invariant: *nothing at or below the safe position appears later.* A process that takes positions
//! publishes a lower bound of them in its slot, then takes them from the counter, and clears the slot
//! when its transaction has ended and is visible. To find the safe position, a process loads the
//! counter first and the slots afterwards. A position below the counter was taken after its bound was
//! published, so the bound is seen, or the transaction has ended.
//!
//! The orderings: taking is a Release of the bound, and all who take later prolong it, since they
//! modify what they have read; loading the counter is the Acquire. Clearing is a Release of the
//! transaction's end, and loading the slot is the Acquire. Loom checks this (`scripts/queue.sh`).

pub mod written;

use crate::sync::{AtomicU64, Ordering};

const NO_BOUND: u64 = 0;

/// What assigns positions, from 1 on.
#[repr(C)]
#[derive(Debug)]
pub struct Counter {
    /// The next position to be assigned.
    next: AtomicU64,
    /// The highest safe position that was ever found. It stays safe, so a lower one is never returned,
    /// which would follow from a bound that was loaded early and published late.
    safe: AtomicU64,
}

/// What a process has taken.
#[repr(transparent)]
#[derive(Debug)]
pub struct Slot {
    /// No position of the transaction is below it; `NO_BOUND` where none was taken.
    bound: AtomicU64,
}

impl Counter {
    /// One whose next position is `next`. In shared memory it is zeroed and then restarted.
    #[must_use]
    pub fn new(next: u64) -> Self {
        Self { next: AtomicU64::new(next), safe: AtomicU64::new(0) }
    }

    /// Starts again at `next`. Nobody may use it meanwhile.
    pub fn restart(&self, next: u64) {
        self.safe.store(0, Ordering::Relaxed);
        self.next.store(next, Ordering::Release);
    }

    /// The position that will be assigned next.
    pub fn next(&self) -> u64 {
        // Partner: `take`.
        self.next.load(Ordering::Acquire)
    }

    /// Makes sure that what is assigned from now on is at least `next`.
    pub fn raise(&self, next: u64) {
        self.next.fetch_max(next, Ordering::AcqRel);
    }

    /// Publishes a lower bound of what the owner of `slot` takes from now on.
    pub fn publish(&self, slot: &Slot) {
        slot.bound.store(self.next.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Takes `count` consecutive positions for the owner of `slot`, and returns the first.
    pub fn take(&self, slot: &Slot, count: u64) -> u64 {
        if !slot.is_taken() {
            // Before the positions are taken, so that the addition below hands it over.
            self.publish(slot);
        }
        // Release for the bound. Partner: the load of `next` in `safe`.
        self.next.fetch_add(count, Ordering::AcqRel)
    }

    /// The highest position at or below which nothing can appear any more that is not visible now.
    /// `slots` are those of all who take from this counter. It is at most `limit`.
    pub fn safe<'a>(
        &self,
        slots: impl Iterator<Item = &'a Slot>,
        limit: impl FnOnce() -> u64,
    ) -> u64 {
        // The order matters: the counter first.
        let next = self.next();
        let lowest = slots.filter_map(Slot::bound).fold(next, u64::min);
        let safe = (lowest - 1).min(limit());
        self.safe.fetch_max(safe, Ordering::Relaxed).max(safe)
    }
}

impl Slot {
    /// One that has taken nothing; all bytes of it are zero.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "made in place, in shared memory")]
    pub fn new() -> Self {
        Self { bound: AtomicU64::new(NO_BOUND) }
    }

    /// The lower bound, if positions were taken.
    pub fn bound(&self) -> Option<u64> {
        // Partner: `clear`. Who sees it cleared sees the end of the transaction.
        Some(self.bound.load(Ordering::Acquire)).filter(|bound| *bound != NO_BOUND)
    }

    /// Whether its owner has taken positions. For the owner itself.
    pub fn is_taken(&self) -> bool {
        self.bound.load(Ordering::Relaxed) != NO_BOUND
    }

    /// The owner's transaction has ended: it is visible, or was rolled back.
    pub fn clear(&self) {
        // Partner: `bound`.
        self.bound.store(NO_BOUND, Ordering::Release);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_bound_holds_the_safe_position_back() {
        let counter = Counter::new(1);
        let slots = [Slot::new(), Slot::new(), Slot::new()];
        let safe = || counter.safe(slots.iter(), || u64::MAX);
        assert_eq!(safe(), 0);
        assert_eq!(counter.take(&slots[0], 5), 1);
        assert_eq!(counter.take(&slots[1], 1), 6);
        assert_eq!(counter.take(&slots[0], 2), 7);
        assert_eq!((safe(), counter.next()), (0, 9));
        slots[0].clear();
        assert_eq!(safe(), 5);
        slots[1].clear();
        assert_eq!(safe(), 8);
        assert_eq!(counter.safe(slots.iter(), || 7), 8, "what was safe stays safe");
        assert_eq!(counter.take(&slots[2], 1), 9);
        assert_eq!(safe(), 8);
    }

    #[test]
    fn nothing_above_the_limit_is_safe() {
        let counter = Counter::new(1);
        let slot = Slot::new();
        counter.take(&slot, 10);
        slot.clear();
        assert_eq!(counter.safe([&slot].into_iter(), || 4), 4);
    }
}
