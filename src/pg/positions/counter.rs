//! Positions: taking them from the counter in shared memory, reserving them durably, and the safe
//! one.
//!
//! Invariants:
//!
//! 1. *Never twice.* A position is used only when the sequence `position_seq` holds, durably, a
//!    number at least as high. The sequence is the truth, the counter its cache: a backend that takes
//!    positions first checks whether the sequence still holds what the counter knows, and goes above
//!    it if others have set it, as a restore does. After a restart the counter begins above it.
//! 2. *Nothing below the safe position appears later.* A backend publishes a lower bound in its
//!    slot before it reads the sequence and takes positions from the counter, and clears the slot
//!    when its transaction has ended, which PostgreSQL reports after the transaction has become
//!    visible. A reader reads the sequence, then the counter, then the slots: a position that
//!    is below the counter was taken after its bound had been published, so the reader sees the bound,
//!    or the transaction has ended.
//!
//! A bound is of one store, or of all that the transaction has seen under the name of the extension. It
//! stays until the transaction ends, also where its store's counter does not: who makes the extension again
//! sets up a counter in the place of the old one, and may then roll back to a savepoint. So readers look at
//! the slots also where there is no counter.
//!
//! A session that only reads sets up no counter: as long as no position was taken since the server
//! started, what the sequence holds is safe.
//!
//! A reader is given no more than the sequence holds, durably: after a crash positions go on from there.
//! What is safe only because the sequence says so, and not because this counter has given it out, must be
//! settled too: a restore may set the sequence and still write to the log. See `settled`.
#![expect(unsafe_code, reason = "locks a sequence and flushes WAL")]

use super::registry::{ALL, BackendSlot, DatabaseCounter, Registry, registry, store_of};
use super::sequence::{self, SequenceValue};
use super::transaction::watch_transactions;
use crate::model::partition::Partition;
use crate::pg::error::{Error, Obstacle};
use crate::pg::session::xact::{check_writable, in_recovery, now_us, transaction_start_us};
use crate::pg::shared::memory::{Lock, with_lock};
use crate::pg::tables::log::last_position;
use crate::pg::tables::relation::{lock_sequence, writers_of};
use crate::pg::tables::schema::{Root, Sequence};
use crate::positions::Store;
use crate::positions::written::Written;
use pgrx::pg_sys;
use std::cell::Cell;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

/// How many positions are reserved ahead; what a restart skips at most.
const RESERVE_AHEAD: u64 = 65_536;

thread_local! {
    /// This backend's counter, and the sequence that it belongs to.
    static MY_COUNTER: Cell<Option<(usize, pg_sys::Oid)>> = const { Cell::new(None) };
    /// A sequence without counter, and what it held when nobody was writing to the log any more.
    static SETTLED: Cell<Option<(pg_sys::Oid, SequenceValue)>> = const { Cell::new(None) };
}

/// The index of this store's counter, if there is one.
fn find(registry: Registry, sequence: pg_sys::Oid) -> Option<usize> {
    let mine = MY_COUNTER.get().filter(|(counter, known)| {
        *known == sequence && registry.counters[*counter].is_for(sequence)
    });
    let found = mine.map(|(counter, _)| counter).or_else(|| registry.find(sequence));
    MY_COUNTER.set(found.map(|counter| (counter, sequence)));
    found
}

/// The counter of this database's store, to take positions from.
pub struct Positions {
    registry: Registry,
    counter: usize,
    sequence: pg_sys::Oid,
}

impl Positions {
    /// Finds the counter; sets it up when this is the first use since the server started. The caller
    /// has locked a leaf of the store, so the sequence that has the name now is that store's.
    pub fn open() -> Result<Self, Error> {
        let registry = registry()?;
        let lock = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
        let sequence = lock_sequence(Sequence::Position, lock)?;
        let counter = match find(registry, sequence) {
            Some(counter) => counter,
            None => set_up(registry, sequence)?,
        };
        Ok(Self { registry, counter, sequence })
    }

    fn counter(&self) -> &DatabaseCounter {
        &self.registry.counters[self.counter]
    }

    /// Takes `count` consecutive positions and returns the first. The caller has locked the rows of
    /// all streams concerned. They count as unsettled until the transaction ends.
    pub fn take(&self, count: u64) -> Result<u64, Error> {
        watch_transactions();
        let slot = self.registry.my_slot();
        let counter = self.counter();
        let store = store_of(self.sequence);
        // A bound that is there already may be of an earlier incarnation.
        if !slot.taken.is_taken_for(store) {
            slot.since_us.store(transaction_start_us(), Ordering::Relaxed);
            counter.positions.publish(&slot.taken, store);
            // Before the sequence is looked at. Partner: the fence in `Observed::of`.
            fence(Ordering::SeqCst);
        }
        // SAFETY: `open` has locked the sequence.
        let held = unsafe { sequence::read(self.sequence) };
        if !counter.knows(held) {
            self.reserve(0);
        }
        loop {
            let first = counter.positions.take(&slot.taken, store, count);
            let last = first + count - 1;
            if last <= counter.reserved.load(Ordering::Acquire) {
                return Ok(first);
            }
            // Positions up to what others have set the sequence to are not ours.
            if first > self.reserve(last) {
                return Ok(first);
            }
        }
    }

    /// How far the partitions have been written: to be marked before the transaction ends.
    pub fn written(&self) -> &'static Written {
        &self.registry.counters[self.counter].written
    }

    /// Makes sure that positions up to `needed` are reserved durably. Returns what others have set the
    /// sequence to since it was last looked at, or 0.
    fn reserve(&self, needed: u64) -> u64 {
        let counter = self.counter();
        with_lock(Lock::Positions, || {
            // SAFETY: `open` has locked the sequence, so nothing waits for that here.
            unsafe {
                let (held, moved) = absorb(counter, self.sequence);
                if needed > held.value {
                    raise_sequence(counter, self.sequence, needed + RESERVE_AHEAD);
                }
                moved
            }
        })
    }
}

/// Takes over what others have set the sequence to, even if it is the value that it had: a restore may
/// have brought events with any position up to that, or up to what was reserved. The lock must be held.
/// Returns what the sequence holds, and up to where positions are not to be assigned, or 0.
unsafe fn absorb(counter: &DatabaseCounter, sequence: pg_sys::Oid) -> (SequenceValue, u64) {
    // SAFETY: by the caller's promise, the sequence is locked.
    unsafe {
        let held = sequence::read(sequence);
        if counter.knows(held) {
            return (held, 0);
        }
        pg_sys::XLogFlush(held.lsn);
        // What was given out so far is known; with the sequence, somebody may bring events.
        counter.settled.fetch_min(counter.positions.next() - 1, Ordering::Relaxed);
        counter.takeovers.fetch_add(1, Ordering::Relaxed);
        let highest = counter.reserved.load(Ordering::Relaxed).max(held.value);
        counter.positions.raise(highest + 1);
        counter.written.forget_up_to(counter.positions.next() - 1);
        counter.sequence_lsn.store(held.lsn, Ordering::Relaxed);
        // Also if that is less: the next position is then not reserved, and whoever takes it raises the
        // sequence.
        counter.reserved.store(held.value, Ordering::Release);
        (held, highest)
    }
}

/// Makes sure that positions are above `position` from now on, durably. For events with positions up to
/// there that another server has assigned.
pub fn raise_above(position: u64) -> Result<(), Error> {
    let positions = Positions::open()?;
    let counter = positions.counter();
    with_lock(Lock::Positions, || {
        // SAFETY: `open` has locked the sequence.
        unsafe {
            let (held, _) = absorb(counter, positions.sequence);
            counter.positions.raise(position.saturating_add(1));
            let last = counter.positions.next() - 1;
            if last > held.value {
                raise_sequence(counter, positions.sequence, last + RESERVE_AHEAD);
            }
        }
    });
    Ok(())
}

/// Sets the sequence to a higher value, durably. The lock must be held.
unsafe fn raise_sequence(counter: &DatabaseCounter, sequence: pg_sys::Oid, value: u64) {
    // SAFETY: by the caller's promise, the sequence is locked.
    unsafe {
        sequence::set(sequence, value);
        pg_sys::XLogFlush(pg_sys::XactLastRecEnd);
        counter.sequence_lsn.store(sequence::read(sequence).lsn, Ordering::Release);
        // Release: pairs with the Acquire in `take`.
        counter.reserved.store(value, Ordering::Release);
    }
}

/// Whether others write to the log and have taken no positions of this store: a restore, or whoever
/// changes the tables himself. A transaction that is just ending may look like that.
fn others_write(registry: Registry, store: Store) -> bool {
    writers_of(Root::Log).into_iter().any(|backend| {
        let slot = usize::try_from(backend - 1).ok().and_then(|index| registry.slots.get(index));
        slot.is_none_or(|slot| slot.taken.bound_for(store).is_none())
    })
}

/// Up to where positions are settled of a store without counter, whose sequence was read before.
fn settled_without_counter(registry: Registry, sequence: pg_sys::Oid, held: SequenceValue) -> u64 {
    let known = SETTLED.get().filter(|(of, _)| *of == sequence).map(|(_, known)| known);
    if known == Some(held) {
        return held.value;
    }
    if others_write(registry, store_of(sequence)) {
        return known.map_or(0, |known| known.value);
    }
    SETTLED.set(Some((sequence, held)));
    held.value
}

/// Up to where positions are settled of a store whose sequence was read before.
fn settled(registry: Registry, counter: &DatabaseCounter, sequence: pg_sys::Oid) -> u64 {
    let takeovers = counter.takeovers.load(Ordering::Acquire);
    let settled = counter.settled.load(Ordering::Acquire);
    if settled == ALL {
        return ALL;
    }
    if others_write(registry, store_of(sequence)) {
        // What this backend had found before there was a counter.
        let known = SETTLED.get().filter(|(of, _)| *of == sequence);
        return known.map_or(settled, |(_, known)| known.value.max(settled));
    }
    with_lock(Lock::Positions, || {
        if counter.is_for(sequence) && counter.takeovers.load(Ordering::Relaxed) == takeovers {
            counter.settled.store(ALL, Ordering::Release);
            return ALL;
        }
        settled
    })
}

/// For a reader that has found `safe`, and a sequence that is lower: others have lowered it. Raises it
/// again where that is allowed here, and not in the way of somebody who is just changing it. Returns
/// what the sequence holds durably: readers must not go above it, or what is written after a crash would
/// be below where they are.
unsafe fn raise_up_to(counter: &DatabaseCounter, sequence: pg_sys::Oid, safe: u64) -> u64 {
    let lock = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
    // SAFETY: by the caller's promise, the sequence is locked; this is the lock that setting it takes.
    unsafe {
        let may_write =
            check_writable().is_ok() && pg_sys::ConditionalLockRelationOid(sequence, lock);
        with_lock(Lock::Positions, || {
            let (held, _) = absorb(counter, sequence);
            if held.value >= safe || !may_write {
                return held.value;
            }
            let highest = counter.positions.next() - 1;
            raise_sequence(counter, sequence, highest);
            highest
        })
    }
}

/// Sets the counter of this store up. It begins above what the sequence holds and above what is in
/// the log, should the sequence have been set too low.
fn set_up(registry: Registry, sequence: pg_sys::Oid) -> Result<usize, Error> {
    // On a standby the sequence goes on under the counter, which would stay behind for good.
    if in_recovery() {
        return Err(Error::CannotExecute(Obstacle::NotRecorded));
    }
    let stored = Partition::all().filter_map(last_position).max().unwrap_or(0);
    with_lock(Lock::Positions, || {
        if let Some(counter) = registry.find(sequence) {
            return Ok(counter);
        }
        // SAFETY: the caller has locked the sequence.
        let held = unsafe { sequence::read(sequence) };
        registry.set_up(sequence, held, held.value.max(stored) + 1)
    })
}

/// How far the partitions of the store that this backend has observed last have been written; `None`
/// where that is not known, on a standby or as long as nobody has taken a position. The caller still
/// has the sequence locked.
pub fn observed_written() -> Option<&'static Written> {
    let (counter, sequence) = MY_COUNTER.get()?;
    let counter = &registry().ok()?.counters[counter];
    (!in_recovery() && counter.is_for(sequence)).then_some(&counter.written)
}

/// The positions of a store at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    /// The safe position: no event at or below it can still appear. Observe it *before* the snapshot
    /// to read with is taken.
    pub safe: u64,
    /// the position that the next event will have, at least
    pub next: u64,
    /// how long the oldest transaction has been running of those that have taken positions
    pub oldest: Option<Duration>,
}

/// Observes the positions of this database's store. A lock of the sequence keeps `DROP EXTENSION` away
/// until the transaction ends, so that the result is not taken for that of a later incarnation.
pub fn observe() -> Result<Observed, Error> {
    let registry = registry()?;
    if in_recovery() {
        return Err(Error::CannotExecute(Obstacle::NotRecorded));
    }
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    let sequence = lock_sequence(Sequence::Position, lock)?;
    // SAFETY: locked.
    Ok(unsafe { Observed::of(registry, sequence) })
}

impl Observed {
    /// The sequence must be locked.
    unsafe fn of(registry: Registry, sequence: pg_sys::Oid) -> Self {
        let store = store_of(sequence);
        let slots =
            || registry.slots.iter().filter(move |slot| slot.taken.bound_for(store).is_some());
        let oldest = || {
            let since_us = slots().map(|slot| slot.since_us.load(Ordering::Relaxed)).min()?;
            Some(Duration::from_micros(now_us().saturating_sub(since_us).max(0) as u64))
        };
        let index = match find(registry, sequence) {
            Some(index) => index,
            None => {
                // Under the lock nobody sets one up, and reserves.
                let found = with_lock(Lock::Positions, || match registry.find(sequence) {
                    Some(index) => Ok(index),
                    // SAFETY: the sequence is locked.
                    None => Err(unsafe { sequence::read(sequence) }),
                });
                match found {
                    Ok(index) => index,
                    Err(held) => {
                        // SAFETY: the end of a record that was inserted.
                        unsafe { pg_sys::XLogFlush(held.lsn) };
                        let settled = settled_without_counter(registry, sequence, held);
                        // A transaction that took some had a counter: see the module.
                        let next = held.value + 1;
                        let bounds = slots().filter_map(|slot| slot.taken.bound_for(store));
                        let safe = (bounds.fold(next, u64::min) - 1).min(settled);
                        return Self { safe, next, oldest: oldest() };
                    }
                }
            }
        };
        let counter = &registry.counters[index];
        // SAFETY: the sequence is locked.
        let held = unsafe {
            let held = sequence::read(sequence);
            if counter.knows(held) {
                held
            } else {
                with_lock(Lock::Positions, || absorb(counter, sequence)).0
            }
        };
        // Partner: the fence in `take`. Who had not published its bound sees the sequence as it is.
        fence(Ordering::SeqCst);
        let oldest = oldest();
        // A moment later the safe position may have passed the next one.
        let next = counter.positions.next();
        let slots = registry.slots.iter().map(|slot: &BackendSlot| &slot.taken);
        let found = counter.positions.safe(slots, store);
        let mut safe = found.min(settled(registry, counter, sequence));
        // What others have reserved meanwhile is of no interest: it was not there when this call began.
        if safe > held.value {
            // SAFETY: the sequence is locked.
            safe = safe.min(unsafe { raise_up_to(counter, sequence, safe) });
        }
        Self { safe, next, oldest }
    }
}
