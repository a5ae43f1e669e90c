//! How records are taken out.
//!
//! Looking and releasing are apart. A consumer reads many records ahead and in place, does with
//! them what it has to, and releases them when that is done: for a worker, when its transaction has
//! committed. If it ends before, the next consumer meets the same records again.
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
    /// What was released. Nobody else writes the ring's head.
    head: u64,
    /// Up to here every record was seen to be published.
    seen: Cell<u64>,
}

impl Consumer {
    pub(super) fn new(ring: Ring) -> Self {
        // Only consumers store it, and whatever the last one did happened before this.
        let head = ring.memory().head().load(Relaxed);
        Self { ring, head, seen: Cell::new(head) }
    }

    /// Where the oldest record begins that was not released: where to look first.
    #[must_use]
    pub const fn head(&self) -> u64 {
        self.head
    }

    /// The published record at `position`, and the position to look at next.
    ///
    /// `position` is [`Self::head`], or what an earlier call gave and was not released since. At
    /// any other there is nothing.
    #[inline]
    #[must_use]
    pub fn peek_from(&self, position: u64) -> Option<(&[u8], u64)> {
        let (at, length) = self.find(position)?;
        let next = at + Ring::span_bytes(length);
        if next > self.seen.get() {
            self.seen.set(next);
        }
        // SAFETY: `find` has seen its entry, and it is not released while `self` is borrowed.
        Some((unsafe { self.ring.memory().read(at, length) }, next))
    }

    /// Whether there is a published record at `position`. It looks at one word, or at two where a
    /// lap ends, and not at the record.
    #[must_use]
    pub fn has_record(&self, position: u64) -> bool {
        self.find(position).is_some()
    }

    /// Where the record at `position` begins, which may be after padding, and its length.
    #[inline]
    fn find(&self, position: u64) -> Option<(u64, usize)> {
        // Only positions that follow from those before are looked at: so all that is passed over
        // and may be released later was published. A released one must not be looked at any more.
        let is_known = self.head <= position && position <= self.seen.get();
        debug_assert!(is_known && position.is_multiple_of(BLOCK_BYTES), "position {position}");
        if !is_known || !position.is_multiple_of(BLOCK_BYTES) {
            return None;
        }
        match self.entry(position)? {
            Entry::Record(length) => Some((position, length as usize)),
            Entry::Padding => {
                let next_lap = position.next_multiple_of(self.ring.capacity_bytes());
                match self.entry(next_lap)? {
                    Entry::Record(length) => Some((next_lap, length as usize)),
                    // Padding never begins a lap: a record fits into a whole one.
                    Entry::Padding => None,
                }
            }
        }
    }

    #[inline]
    fn entry(&self, position: u64) -> Option<Entry> {
        let memory = self.ring.memory();
        // Partner: the stores in `Ring::publish`.
        Entry::of_lap(memory.entry(position).load(Acquire), memory.capacity().lap(position))
    }

    /// Hands everything before `position` back to the producers. `position` is one that
    /// [`Self::peek_from`] gave; any other changes nothing.
    ///
    /// What the caller did before is seen by whoever sees `position` in [`Ring::head`].
    pub fn release(&mut self, position: u64) {
        let is_known = self.head <= position && position <= self.seen.get();
        debug_assert!(is_known, "position {position}");
        if is_known {
            self.head = position;
            // Partner: the loads in `Ring::has_room_up_to` and `Ring::head`.
            self.ring.memory().head().store(position, Release);
        }
    }
}
