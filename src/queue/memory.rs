//! The bytes of a ring, as they are in shared memory.
//!
//! ```text
//!      0  capacity in bytes          8   written once
//!    128  write offset               8   the producers', atomic
//!    256  known read offset          8   the producers', atomic
//!    384  read offset                8   the consumer's, atomic
//!    512  entries                        8 for each block of 64 bytes, atomic
//!     ..  records                        capacity
//! ```
//!
//! Numbers are in the machine's byte order: the memory does not outlive the server. Words that
//! different processes write are padded to what the processor fetches at once, here 128 bytes.
#![expect(unsafe_code, reason = "works on memory that processes share")]

use super::capacity::Capacity;
use crate::sync::AtomicU64;
use crossbeam_utils::CachePadded;
use std::ptr::{self, NonNull};

#[repr(C)]
struct Control {
    capacity_bytes: CachePadded<u64>,
    write_offset: CachePadded<AtomicU64>,
    known_read_offset: CachePadded<AtomicU64>,
    read_offset: CachePadded<AtomicU64>,
}

const ENTRIES: usize = size_of::<Control>();
const ENTRY_BYTES: usize = size_of::<AtomicU64>();
const _: () = assert!(usize::BITS == 64);

/// A process's handle of the memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    base: NonNull<u8>,
    capacity: Capacity,
}

// SAFETY: a handle is an address and a size. What it gives access to are atomics; the functions that
// reach the records' bytes are unsafe and say what must hold.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// What the memory's address must be a multiple of.
    pub(super) const ALIGNMENT: usize = align_of::<Control>();

    /// How many bytes a ring takes.
    pub(super) const fn bytes(capacity: Capacity) -> usize {
        ENTRIES + capacity.blocks() * ENTRY_BYTES + capacity.bytes() as usize
    }

    /// Makes an empty ring that begins at `offset`, a multiple of the block.
    ///
    /// # Safety
    /// `base` is a multiple of `ALIGNMENT` and has `bytes(capacity)` bytes that nobody uses yet,
    /// and that live at least as long as every handle.
    pub(super) unsafe fn init(base: NonNull<u8>, capacity: Capacity, offset: u64) -> Self {
        let control = Control {
            capacity_bytes: CachePadded::new(capacity.bytes()),
            write_offset: CachePadded::new(AtomicU64::new(offset)),
            known_read_offset: CachePadded::new(AtomicU64::new(offset)),
            read_offset: CachePadded::new(AtomicU64::new(offset)),
        };
        // SAFETY: within `bytes(capacity)`, aligned, and the caller's alone.
        unsafe {
            base.cast::<Control>().write(control);
            ptr::write_bytes(base.as_ptr().add(ENTRIES), 0, capacity.blocks() * ENTRY_BYTES);
        }
        Self { base, capacity }
    }

    /// The handle of a ring that is there.
    ///
    /// # Safety
    /// `base` is where `init` has made a ring, in this or another process, and that happened
    /// before. The memory lives at least as long as every handle.
    pub(super) unsafe fn attach(base: NonNull<u8>) -> Self {
        // SAFETY: `init` has written it, and nobody writes it again.
        let bytes = unsafe { *(*base.cast::<Control>().as_ptr()).capacity_bytes };
        let capacity = Capacity::at_least(bytes);
        debug_assert_eq!(capacity.bytes(), bytes, "no ring has been made here");
        Self { base, capacity }
    }

    pub(super) fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn control(&self) -> &Control {
        // SAFETY: `init` has made it; after that nothing but its atomics is written.
        unsafe { self.base.cast().as_ref() }
    }

    /// Where the next record will be reserved.
    pub(super) fn write_offset(&self) -> &AtomicU64 {
        &self.control().write_offset
    }

    /// A read offset that was right once. Producers use it, so that they rarely load the consumer's line.
    pub(super) fn known_read_offset(&self) -> &AtomicU64 {
        &self.control().known_read_offset
    }

    /// What is before it may be written over.
    pub(super) fn read_offset(&self) -> &AtomicU64 {
        &self.control().read_offset
    }

    /// The entry of the block at `offset`.
    pub(super) fn entry(&self, offset: u64) -> &AtomicU64 {
        // SAFETY: the number of a block is below their count, so this is one of the entries that
        // `init` has made.
        unsafe {
            let entries = self.base.add(ENTRIES).cast::<AtomicU64>();
            entries.add(self.capacity.block(offset)).as_ref()
        }
    }

    fn record(&self, offset: u64) -> NonNull<u8> {
        let records = ENTRIES + self.capacity.blocks() * ENTRY_BYTES;
        // SAFETY: an offset is below the capacity, so this is within the memory.
        unsafe { self.base.add(records + self.capacity.place(offset)) }
    }

    /// Writes the parts one after the other at `offset`.
    ///
    /// # Safety
    /// The caller has reserved as many bytes there, contiguous, and not yet published them.
    pub(super) unsafe fn write(&self, offset: u64, parts: &[&[u8]]) {
        let mut to = self.record(offset);
        for part in parts {
            // SAFETY: within what the caller has reserved, which no reference points to.
            unsafe {
                ptr::copy_nonoverlapping(part.as_ptr(), to.as_ptr(), part.len());
                to = to.add(part.len());
            }
        }
    }

    /// The record of `len` bytes at `offset`.
    ///
    /// # Safety
    /// It was published, which this process has seen by an acquiring load, and is not released
    /// while the slice is used.
    pub(super) unsafe fn read(&self, offset: u64, len: usize) -> &[u8] {
        // SAFETY: its producer has written these bytes, contiguous, and until it is released nobody
        // writes them again.
        unsafe { std::slice::from_raw_parts(self.record(offset).as_ptr(), len) }
    }
}
