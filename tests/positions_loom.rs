//! Positions under loom: whatever the interleaving, and whatever weak orderings allow, a reader who
//! is told that a position is safe sees everything at or below it that will ever be there.
//! `scripts/queue.sh loom`
#![cfg(loom)]

use allsource::positions::{Counter, Slot, Store as StoreId};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

const POSITIONS: usize = 4;

fn this_store() -> StoreId {
    StoreId::new(1, 2)
}

struct Store {
    counter: Counter,
    slots: [Slot; 2],
    /// Whether the event at a position is visible: what commits and snapshots are in the server.
    visible: [AtomicBool; POSITIONS],
}

impl Store {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            counter: Counter::new(1),
            slots: [Slot::new(), Slot::new()],
            visible: std::array::from_fn(|_| AtomicBool::new(false)),
        })
    }

    /// A transaction: takes positions, commits, and has then ended.
    fn append(&self, owner: usize, count: u64) {
        let slot = &self.slots[owner];
        let first = self.counter.take(slot, this_store(), count);
        for position in first..first + count {
            self.visible[position as usize - 1].store(true, Ordering::Relaxed);
        }
        slot.clear();
    }

    /// What `es_read_all` does: the safe position first, and then a look at what is there.
    fn check(&self) -> u64 {
        let safe = self.counter.safe(self.slots.iter(), this_store());
        for position in 1..=safe {
            let visible = self.visible[position as usize - 1].load(Ordering::Relaxed);
            assert!(visible, "position {position} is safe and not there");
        }
        safe
    }
}

#[test]
fn what_is_safe_is_visible() {
    loom::model(|| {
        let store = Store::new();
        let writers = [0, 1].map(|owner| {
            let store = Arc::clone(&store);
            thread::spawn(move || store.append(owner, 1))
        });
        let first = store.check();
        let second = store.check();
        assert!(first <= second, "the safe position went back");
        for writer in writers {
            writer.join().unwrap();
        }
        assert_eq!(store.check(), 2);
    });
}

#[test]
fn a_writer_that_takes_twice_keeps_its_first_bound() {
    loom::model(|| {
        let store = Store::new();
        let writer = {
            let store = Arc::clone(&store);
            thread::spawn(move || {
                let slot = &store.slots[0];
                let first = store.counter.take(slot, this_store(), 1);
                let second = store.counter.take(slot, this_store(), 1);
                for position in [first, second] {
                    store.visible[position as usize - 1].store(true, Ordering::Relaxed);
                }
                slot.clear();
                // The next transaction of the same process.
                store.append(0, 1);
            })
        };
        store.check();
        store.check();
        writer.join().unwrap();
        assert_eq!(store.check(), 3);
    });
}

/// A process that has taken positions of an earlier store, and rolled them back, within the same transaction
/// or before it.
#[test]
fn a_slot_that_comes_from_another_store_holds_readers_back() {
    for same_transaction in [true, false] {
        loom::model(move || {
            let store = Store::new();
            let writer = {
                let store = Arc::clone(&store);
                thread::spawn(move || {
                    let earlier = Counter::new(50);
                    earlier.take(&store.slots[0], StoreId::new(1, 1), 1);
                    if !same_transaction {
                        store.slots[0].clear();
                    }
                    store.append(0, 1);
                })
            };
            store.check();
            store.check();
            writer.join().unwrap();
            assert_eq!(store.check(), 1);
        });
    }
}

/// A process that goes on with a later store, whose counter is elsewhere, and comes back.
#[test]
fn a_slot_that_goes_to_another_store_holds_readers_back() {
    loom::model(|| {
        let store = Store::new();
        let writer = {
            let store = Arc::clone(&store);
            thread::spawn(move || {
                let slot = &store.slots[0];
                let first = store.counter.take(slot, this_store(), 1);
                Counter::new(50).take(slot, StoreId::new(1, 3), 1);
                store.visible[first as usize - 1].store(true, Ordering::Relaxed);
                slot.clear();
                store.append(0, 1);
            })
        };
        store.check();
        store.check();
        writer.join().unwrap();
        assert_eq!(store.check(), 2);
    });
}
