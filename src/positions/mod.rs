//! Assigning positions, and finding the safe one: what several processes do with a counter and a
//! slot for each of them.
//!
//! Invariant: *nothing at or below the safe position appears later.* A process that takes positions
//! publishes a lower bound of them in its slot, then takes them from the counter, and clears the slot
//! when its transaction has ended and is visible. To find the safe position, a process loads the
//! counter first and the slots afterwards. A position below the counter was taken after its bound was
//! published, so the bound is seen, or the transaction has ended.
//!
//! A slot says which store its bound is of. A transaction can take positions of one store, roll back to a
//! savepoint, and go on with another store that was made meanwhile under the same name; or make that one
//! itself, and roll it back. Then the slot has one bound for all stores of the database, the lowest.
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

/// A store of a server: its database, and there its sequence of positions, which another incarnation does
/// not share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Store(u64);

/// What a process has taken.
#[repr(C)]
#[derive(Debug)]
pub struct Slot {
    /// No position of the transaction is below it; `NO_BOUND` where none was taken.
    bound: AtomicU64,
    /// The store that the bound is of.
    store: AtomicU64,
}

impl Store {
    /// The store with these OIDs.
    #[must_use]
    pub fn new(database: u32, sequence: u32) -> Self {
        Self(u64::from(database) << 32 | u64::from(sequence))
    }

    /// Stands for all stores of the database.
    fn of_any_incarnation(self) -> Self {
        Self(self.0 & !u64::from(u32::MAX))
    }
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

    /// Publishes a lower bound of what the owner of `slot` takes from now on. The counter is that of `store`.
    pub fn publish(&self, slot: &Slot, store: Store) {
        let mut bound = self.next.load(Ordering::Relaxed);
        let mut of = store;
        if slot.is_taken() {
            bound = bound.min(slot.bound.load(Ordering::Relaxed));
            of = store.of_any_incarnation();
        }
        // Release: who sees what is published by a later transaction sees the end of the one before.
        // Partner: `bound_for`. The store comes first, so no bound counts for an earlier store only.
        if slot.store.load(Ordering::Relaxed) != of.0 {
            slot.store.store(of.0, Ordering::Release);
        }
        slot.bound.store(bound, Ordering::Release);
    }

    /// Takes `count` consecutive positions for the owner of `slot`, and returns the first. The counter
    /// is that of `store`.
    pub fn take(&self, slot: &Slot, store: Store, count: u64) -> u64 {
        if !slot.is_taken_for(store) {
            // Before the positions are taken, so that the addition below hands it over.
            self.publish(slot, store);
        }
        // Release for the bound. Partner: the load of `next` in `safe`.
        self.next.fetch_add(count, Ordering::AcqRel)
    }

    /// The highest position at or below which nothing can appear any more that is not visible now.
    /// `slots` are those of all who may take from this counter, which is that of `store`. The caller
    /// limits it to what is durable.
    pub fn safe<'a>(&self, slots: impl Iterator<Item = &'a Slot>, store: Store) -> u64 {
        // The order matters: the counter first.
        let next = self.next();
        let lowest = slots.filter_map(|slot| slot.bound_for(store)).fold(next, u64::min);
        let safe = lowest - 1;
        self.safe.fetch_max(safe, Ordering::Relaxed).max(safe)
    }
}

impl Slot {
    /// One that has taken nothing; all bytes of it are zero.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "made in place, in shared memory")]
    pub fn new() -> Self {
        Self { bound: AtomicU64::new(NO_BOUND), store: AtomicU64::new(0) }
    }

    /// The lower bound of positions of `store`, if some may have been taken.
    pub fn bound_for(&self, store: Store) -> Option<u64> {
        // Partner: `clear`. Who sees it cleared sees the end of the transaction.
        let bound = self.bound.load(Ordering::Acquire);
        // Partner: `publish`.
        let of = self.store.load(Ordering::Acquire);
        let counts = of == store.0 || of == store.of_any_incarnation().0;
        (bound != NO_BOUND && counts).then_some(bound)
    }

    /// Whether its owner has taken positions. For the owner itself.
    pub fn is_taken(&self) -> bool {
        self.bound.load(Ordering::Relaxed) != NO_BOUND
    }

    /// Whether a bound of positions of `store` is published, and only of these. For the owner itself.
    pub fn is_taken_for(&self, store: Store) -> bool {
        self.is_taken() && self.store.load(Ordering::Relaxed) == store.0
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

    const STORE: Store = Store(7 << 32 | 1);
    const LATER: Store = Store(7 << 32 | 2);
    const OTHER: Store = Store(8 << 32 | 1);

    #[test]
    fn the_lowest_bound_holds_the_safe_position_back() {
        let counter = Counter::new(1);
        let slots = [Slot::new(), Slot::new(), Slot::new()];
        let safe = || counter.safe(slots.iter(), STORE);
        assert_eq!(safe(), 0);
        assert_eq!(counter.take(&slots[0], STORE, 5), 1);
        assert_eq!(counter.take(&slots[1], STORE, 1), 6);
        assert_eq!(counter.take(&slots[0], STORE, 2), 7);
        assert_eq!((safe(), counter.next()), (0, 9));
        slots[0].clear();
        assert_eq!(safe(), 5);
        slots[1].clear();
        assert_eq!(safe(), 8);
        assert_eq!(counter.take(&slots[2], STORE, 1), 9);
        assert_eq!(safe(), 8);
    }

    #[test]
    fn a_bound_is_of_its_store() {
        let slot = Slot::new();
        let counter = Counter::new(100);
        assert_eq!(counter.take(&slot, STORE, 1), 100);
        assert_eq!(slot.bound_for(STORE), Some(100));
        assert_eq!([LATER, OTHER].map(|store| slot.bound_for(store)), [None; 2]);
        slot.clear();
        assert_eq!(slot.bound_for(STORE), None);
    }

    /// After a rollback to a savepoint, either of the two stores may be the one that is there.
    #[test]
    fn a_bound_of_two_stores_is_the_lowest_of_both() {
        for (first, second) in [(100, 1), (1, 100)] {
            let slot = Slot::new();
            Counter::new(first).take(&slot, STORE, 1);
            let counter = Counter::new(second);
            counter.take(&slot, LATER, 1);
            counter.take(&slot, LATER, 1);
            Counter::new(first + 1).take(&slot, STORE, 1);
            assert_eq!([STORE, LATER].map(|store| slot.bound_for(store)), [Some(1); 2]);
            assert_eq!(slot.bound_for(OTHER), None);
            slot.clear();
            counter.take(&slot, LATER, 1);
            assert_eq!([STORE, LATER].map(|store| slot.bound_for(store)), [None, Some(second + 2)]);
        }
    }
}
