//! The ring, and how records are put in.
//!
//! The algorithm is that of Agrona's `ManyToOneRingBuffer`, with another way to mark what is
//! published. Offsets are counts of bytes that only grow; an offset's place in the memory is its
//! remainder by the capacity. `read_offset <= write_offset <= read_offset + capacity` always holds:
//! what is between the two offsets is in use.
//!
//! 1. A producer *reserves*: it advances `write_offset`, by compare and exchange, if that stays
//!    within the capacity. The bytes passed over are its own. A record that does not fit before the
//!    end of the lap begins at the next one, and the rest of this one is padding, reserved in the
//!    same step.
//! 2. It copies the record.
//! 3. It *publishes*: it stores the entry of the padding, if there is one, and then that of the
//!    record's first block, which contains the lap and the length.
//! 4. The consumer goes from entry to entry, from `read_offset` on, and stops at the first one that
//!    is not of the lap. It reads records in place.
//! 5. It *releases*: it advances `read_offset`.
//!
//! Entries have an array of their own and the number of their lap (`entry`). Let the consumer load
//! the entry at an offset p, between `read_offset` and `write_offset`, at which a record was
//! reserved. The word was stored for the same block, hence for p or a whole number of laps earlier
//! or later. Not later: that would have been reserved beyond `read_offset + capacity`. Earlier ones
//! have another number. So the word is that of the record at p, or it is ignored. The content of
//! records plays no part, and releasing has nothing to erase: it is one store, and a consumer that
//! ends at any point leaves an intact ring.
//!
//! # Orderings
//!
//! - `write_offset` is a counter only; it hands over no memory. Relaxed.
//! - An entry hands a record over: stored with Release, loaded with Acquire by the consumer. That of
//!   padding hands nothing over. Relaxed.
//! - `read_offset` hands memory back: stored with Release by the consumer after its last access to
//!   that memory, loaded with Acquire by producers.
//! - `known_read_offset` passes that on from one producer to another: Release and Acquire likewise.
//!   It may decrease when two producers store it, but is never above `read_offset`.
//!
//! # What a producer must not do
//!
//! A producer that ended between 1 and 3 would hold up the consumer for ever. Nothing there
//! allocates, panics or waits; sizes are checked before. In PostgreSQL signal handlers only set
//! flags, and when a process is killed the server restarts with a new ring.
#![expect(unsafe_code, reason = "hands out memory that processes share")]

use super::capacity::{BLOCK_BYTES, Capacity, span_bytes};
use super::consumer::Consumer;
use super::entry::Entry;
use super::memory::Memory;
use crate::sync::Ordering::{Acquire, Relaxed, Release};

/// Why a record was not put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// There is no room until the consumer has released more.
    #[error("queue is full")]
    Full,
    /// The record would not fit even into an empty ring with room to spare.
    #[error("record is too large for the queue")]
    TooLarge {
        /// its size
        record_bytes: usize,
        /// the largest there may be: a quarter of the capacity
        limit_bytes: usize,
    },
}

/// A process's handle of a ring. Copies are handles of the same ring.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    memory: Memory,
}

/// What a producer has reserved.
struct Reserved {
    /// where the padding begins, or the record if there is none
    begin: u64,
    /// where the record begins
    record: u64,
    /// where the next one will begin
    end: u64,
}

#[cfg(not(any(loom, shuttle)))]
impl Ring {
    /// What the address of the memory must be a multiple of.
    pub const ALIGNMENT: usize = Memory::ALIGNMENT;

    /// How many bytes of memory a ring takes: control block, entries and records.
    #[must_use]
    pub const fn memory_bytes(capacity: Capacity) -> usize {
        Memory::bytes(capacity)
    }

    /// Makes an empty ring in place. The memory need not be zeroed.
    ///
    /// # Safety
    /// `ptr` is a multiple of [`Self::ALIGNMENT`] and has [`Self::memory_bytes`] bytes that nobody
    /// uses yet, and that live at least as long as every handle.
    pub unsafe fn init(ptr: std::ptr::NonNull<u8>, capacity: Capacity) -> Self {
        // SAFETY: the caller's promise.
        Self { memory: unsafe { Memory::init(ptr, capacity, 0) } }
    }

    /// The handle of a ring that is there.
    ///
    /// # Safety
    /// `ptr` is where [`Self::init`] has made a ring, in this or another process, and that happened
    /// before. The memory lives at least as long as every handle.
    pub unsafe fn attach(ptr: std::ptr::NonNull<u8>) -> Self {
        // SAFETY: the caller's promise.
        Self { memory: unsafe { Memory::attach(ptr) } }
    }
}

impl Ring {
    pub(super) fn of_memory(memory: Memory) -> Self {
        Self { memory }
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Puts in a record that consists of `parts`, and returns the offset of its end: it is out
    /// again when [`Self::read_offset`] has come to that.
    ///
    /// The record is published when this returns. A caller that has to wake the consumer then asks
    /// [`WakeFlag::must_wake`](super::WakeFlag::must_wake).
    pub fn try_push(&self, parts: &[&[u8]]) -> Result<u64, PushError> {
        let record_bytes = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        let limit_bytes = self.memory.capacity().record_bytes_max() as usize;
        if record_bytes > limit_bytes {
            return Err(PushError::TooLarge { record_bytes, limit_bytes });
        }
        let reserved = self.reserve(span_bytes(record_bytes as u64))?;
        // SAFETY: it was just reserved, and is published below.
        unsafe { self.memory.write(reserved.record, parts) };
        self.publish(&reserved, record_bytes as u32);
        Ok(reserved.end)
    }

    /// Advances the write offset over a record that takes `span_bytes`, and the padding before it.
    fn reserve(&self, span_bytes: u64) -> Result<Reserved, PushError> {
        let capacity = self.memory.capacity();
        let mut begin = self.memory.write_offset().load(Relaxed);
        // Another round means that another producer has advanced it.
        loop {
            let record = begin + capacity.padding(begin, span_bytes);
            let end = record + span_bytes;
            if !self.has_room_up_to(end) {
                return Err(PushError::Full);
            }
            match self.memory.write_offset().compare_exchange(begin, end, Relaxed, Relaxed) {
                Ok(_) => return Ok(Reserved { begin, record, end }),
                Err(moved) => begin = moved,
            }
        }
    }

    fn has_room_up_to(&self, end: u64) -> bool {
        let capacity_bytes = self.memory.capacity().bytes();
        // Partner: the store below, by whichever producer.
        if end <= self.memory.known_read_offset().load(Acquire) + capacity_bytes {
            return true;
        }
        // Partner: the store in `Consumer::release`.
        let read_offset = self.memory.read_offset().load(Acquire);
        // Partner: the load above.
        self.memory.known_read_offset().store(read_offset, Release);
        end <= read_offset + capacity_bytes
    }

    fn publish(&self, reserved: &Reserved, record_bytes: u32) {
        let lap = |offset| self.memory.capacity().lap(offset);
        if reserved.begin != reserved.record {
            // It hands nothing over, it says where to look: at the entry below.
            let word = Entry::Padding.word(lap(reserved.begin));
            self.memory.entry(reserved.begin).store(word, Relaxed);
        }
        // Partner: the load in `Consumer::entry`.
        let word = Entry::Record(record_bytes).word(lap(reserved.record));
        self.memory.entry(reserved.record).store(word, Release);
    }

    /// What takes records out.
    ///
    /// # Safety
    /// There is one at a time: whatever the last one did happened before. Where that was in another
    /// process, its end must have been seen.
    pub unsafe fn consumer(&self) -> Consumer {
        Consumer::new(*self)
    }

    /// The offset up to which the consumer has released. Who sees an offset here sees what the
    /// consumer did before it released it.
    #[must_use]
    pub fn read_offset(&self) -> u64 {
        // Partner: the store in `Consumer::release`.
        self.memory.read_offset().load(Acquire)
    }

    /// The offset up to which producers have reserved: the end of every record whose `try_push`
    /// has returned before this is called, and perhaps of some whose has not.
    #[must_use]
    pub fn write_offset(&self) -> u64 {
        self.memory.write_offset().load(Relaxed)
    }

    /// How much is in use, padding and the rests of blocks included. A moment's value.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        // The read offset first: loaded last, it could have passed the write offset.
        let read_offset = self.read_offset();
        self.write_offset().saturating_sub(read_offset).min(self.capacity_bytes())
    }

    /// How many bytes there are for records.
    #[must_use]
    pub fn capacity_bytes(&self) -> u64 {
        self.memory.capacity().bytes()
    }

    /// The longest record, in bytes.
    #[must_use]
    pub fn record_bytes_max(&self) -> usize {
        self.memory.capacity().record_bytes_max() as usize
    }

    /// What a record of that many bytes takes of the capacity, padding aside.
    #[must_use]
    pub const fn span_bytes(record_bytes: usize) -> u64 {
        span_bytes(record_bytes as u64)
    }
}

const _: () = assert!(Capacity::BYTES_MAX / 4 < u32::MAX as u64 && BLOCK_BYTES.is_power_of_two());
