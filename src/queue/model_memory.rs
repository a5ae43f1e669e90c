//! The bytes of a ring, for the model checkers.
//!
//! Their atomics are larger than a word and cannot lie in shared memory, so the words are in a
//! structure instead. Records are bytes as ever. For loom each block of them has a cell beside it
//! that is read or written with the block, so loom sees whether two accesses are in order.
#![expect(unsafe_code, reason = "works on memory that threads share")]

use super::capacity::{BLOCK_BYTES, Capacity};
use crate::sync::AtomicU64;
use std::cell::UnsafeCell;
use std::ptr::{self, NonNull};

/// What stands in for the shared memory.
#[derive(Debug)]
pub(super) struct ModelMemory {
    capacity: Capacity,
    write_offset: AtomicU64,
    known_read_offset: AtomicU64,
    read_offset: AtomicU64,
    entries: Vec<AtomicU64>,
    records: Box<[UnsafeCell<u8>]>,
    accesses: Vec<Access>,
}

impl ModelMemory {
    pub(super) fn new(capacity: Capacity, offset: u64) -> Self {
        Self {
            capacity,
            write_offset: AtomicU64::new(offset),
            known_read_offset: AtomicU64::new(offset),
            read_offset: AtomicU64::new(offset),
            entries: (0..capacity.blocks()).map(|_| AtomicU64::new(0)).collect(),
            records: (0..capacity.bytes()).map(|_| UnsafeCell::new(0)).collect(),
            accesses: (0..capacity.blocks()).map(|_| Access::new()).collect(),
        }
    }
}

/// Tells loom that a block is read or written; loom fails the model if that is not in order.
#[cfg(loom)]
#[derive(Debug)]
struct Access(loom::cell::UnsafeCell<()>);

#[cfg(loom)]
impl Access {
    fn new() -> Self {
        Self(loom::cell::UnsafeCell::new(()))
    }
    fn read(&self) {
        self.0.with(|_| ());
    }
    fn write(&self) {
        self.0.with_mut(|_| ());
    }
}

/// Shuttle runs one thread at a time in one order; it has no data races to find.
#[cfg(shuttle)]
#[derive(Debug)]
struct Access;

#[cfg(shuttle)]
impl Access {
    fn new() -> Self {
        Self
    }
    fn read(&self) {}
    fn write(&self) {}
}

/// A handle, as in the build without a model checker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory(NonNull<ModelMemory>);

// SAFETY: what it gives access to are atomics; the functions that reach the records' bytes are
// unsafe and say what must hold.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// # Safety
    /// The model lives at least as long as every handle.
    pub(super) unsafe fn of_model(model: NonNull<ModelMemory>) -> Self {
        Self(model)
    }

    fn model(&self) -> &ModelMemory {
        // SAFETY: it lives as long as every handle, and nobody has it exclusively.
        unsafe { self.0.as_ref() }
    }

    pub(super) fn capacity(&self) -> Capacity {
        self.model().capacity
    }

    pub(super) fn write_offset(&self) -> &AtomicU64 {
        &self.model().write_offset
    }

    pub(super) fn known_read_offset(&self) -> &AtomicU64 {
        &self.model().known_read_offset
    }

    pub(super) fn read_offset(&self) -> &AtomicU64 {
        &self.model().read_offset
    }

    pub(super) fn entry(&self, offset: u64) -> &AtomicU64 {
        &self.model().entries[self.capacity().block(offset)]
    }

    fn accesses(&self, offset: u64, len: usize) -> &[Access] {
        let first = self.capacity().block(offset);
        &self.model().accesses[first..first + len.div_ceil(BLOCK_BYTES as usize)]
    }

    /// # Safety
    /// The caller has reserved as many bytes there, contiguous, and not yet published them.
    pub(super) unsafe fn write(&self, offset: u64, parts: &[&[u8]]) {
        let record = parts.concat();
        let place = self.capacity().place(offset);
        self.accesses(offset, record.len()).iter().for_each(Access::write);
        let to = self.model().records[place..place + record.len()].as_ptr();
        // SAFETY: within the slice, which is made of `UnsafeCell`, and by the caller's promise no
        // reference points there.
        unsafe {
            ptr::copy_nonoverlapping(record.as_ptr(), to.cast::<u8>().cast_mut(), record.len())
        };
    }

    /// # Safety
    /// It was published, which this thread has seen by an acquiring load, and is not released while
    /// the slice is used.
    pub(super) unsafe fn read(&self, offset: u64, len: usize) -> &[u8] {
        let place = self.capacity().place(offset);
        self.accesses(offset, len).iter().for_each(Access::read);
        let from = self.model().records[place..place + len].as_ptr();
        // SAFETY: its producer has written these bytes, and until it is released nobody writes them.
        unsafe { std::slice::from_raw_parts(from.cast::<u8>(), len) }
    }
}
