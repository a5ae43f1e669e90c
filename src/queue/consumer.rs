//! How records are taken out.
//!
//! Reading and releasing are separate. A consumer reads many records ahead and in place, processes
//! them, and releases them when that is done: for a worker, when its transaction has committed. If it
//! ends before, the next consumer finds the same records again.
#![expect(unsafe_code, reason = "reads memory that processes share")]

use super::capacity::BLOCK_BYTES;
use super::entry::Entry;
use super::ring::Ring;
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use std::cell::Cell;

/// The one that takes records out of a ring.
///
/// Slices of records borrow it, so none is left when [`Consumer::release`] hands their memory back.
#[derive(Debug)]
pub struct Consumer {
    ring: Ring,
    /// What was released. Nobody else writes the ring's read offset.
    read_offset: u64,
    /// Up to here every record was seen to be published.
    seen: Cell<u64>,
}

impl Consumer {
    pub(super) fn new(ring: Ring) -> Self {
        // Only consumers store it, and whatever the last one did happened before this.
        let read_offset = ring.memory().read_offset().load(Relaxed);
        Self { ring, read_offset, seen: Cell::new(read_offset) }
    }

    /// Where the oldest record begins that was not released: where to look first.
    #[must_use]
    pub const fn read_offset(&self) -> u64 {
        self.read_offset
    }

    /// The published record at `offset`, and the offset to look at next.
    ///
    /// `offset` is [`Self::read_offset`], or what an earlier call gave and was not released since. At
    /// any other there is nothing.
    #[inline]
    #[must_use]
    pub fn peek_from(&self, offset: u64) -> Option<(&[u8], u64)> {
        let (at, length) = self.find(offset)?;
        let next = at + Ring::span_bytes(length);
        if next > self.seen.get() {
            self.seen.set(next);
        }
        // SAFETY: `find` has seen its entry, and it is not released while `self` is borrowed.
        Some((unsafe { self.ring.memory().read(at, length) }, next))
    }

    /// Whether there is a published record at `offset`. It looks at one word, or at two where a
    /// lap ends, and not at the record.
    #[must_use]
    pub fn has_record(&self, offset: u64) -> bool {
        self.find(offset).is_some()
    }

    /// Where the record at `offset` begins, which may be after padding, and its length.
    #[inline]
    fn find(&self, offset: u64) -> Option<(u64, usize)> {
        // Only offsets that follow from those before are looked at: so all that is passed over
        // and may be released later was published. A released one must not be looked at any more.
        let is_known = self.read_offset <= offset && offset <= self.seen.get();
        debug_assert!(is_known && offset.is_multiple_of(BLOCK_BYTES), "offset {offset}");
        if !is_known || !offset.is_multiple_of(BLOCK_BYTES) {
            return None;
        }
        match self.entry(offset)? {
            Entry::Record(length) => Some((offset, length as usize)),
            Entry::Padding => {
                let next_lap = offset.next_multiple_of(self.ring.capacity_bytes());
                match self.entry(next_lap)? {
                    Entry::Record(length) => Some((next_lap, length as usize)),
                    // Padding never begins a lap: a record fits into a whole one.
                    Entry::Padding => None,
                }
            }
        }
    }

    #[inline]
    fn entry(&self, offset: u64) -> Option<Entry> {
        let memory = self.ring.memory();
        // Partner: the stores in `Ring::publish`.
        Entry::of_lap(memory.entry(offset).load(Acquire), memory.capacity().lap(offset))
    }

    /// Hands everything before `offset` back to the producers. `offset` is one that
    /// [`Self::peek_from`] gave; any other changes nothing.
    ///
    /// What the caller did before is seen by whoever sees `offset` in [`Ring::read_offset`].
    pub fn release(&mut self, offset: u64) {
        let is_known = self.read_offset <= offset && offset <= self.seen.get();
        debug_assert!(is_known, "offset {offset}");
        if is_known {
            self.read_offset = offset;
            // Partner: the loads in `Ring::has_room_up_to` and `Ring::read_offset`.
            self.ring.memory().read_offset().store(offset, Release);
        }
    }
}
