//! A ring in a process's own memory: for tests, benches and the model checkers.
#![expect(unsafe_code, reason = "makes a ring in memory of its own")]

use super::capacity::{BLOCK_BYTES, Capacity};
use super::memory::Memory;
use super::ring::Ring;
#[cfg(not(any(loom, shuttle)))]
use crossbeam_utils::CachePadded;
use std::ptr::NonNull;

/// What the memory consists of.
#[cfg(not(any(loom, shuttle)))]
type Owned = [std::mem::MaybeUninit<Line>];
#[cfg(any(loom, shuttle))]
type Owned = super::memory::ModelMemory;

#[cfg(not(any(loom, shuttle)))]
type Line = CachePadded<[u8; 64]>;

/// Owns the memory of a ring.
#[derive(Debug)]
pub struct HeapRing {
    ring: Ring,
    owned: NonNull<Owned>,
}

impl HeapRing {
    /// Makes a ring whose first record begins at `offset`, rounded down to a block, so that a test can
    /// begin after billions of laps.
    #[must_use]
    #[cfg(not(any(loom, shuttle)))]
    pub fn starting_at(capacity: Capacity, offset: u64) -> Self {
        const { assert!(align_of::<Line>() >= Memory::ALIGNMENT) };
        let lines = Box::new_uninit_slice(Memory::bytes(capacity).div_ceil(size_of::<Line>()));
        let owned = NonNull::from(Box::leak(lines));
        // SAFETY: aligned, large enough, and nobody else's; it lives as long as `self`.
        let memory = unsafe { Memory::init(owned.cast(), capacity, offset & !(BLOCK_BYTES - 1)) };
        Self { ring: Ring::of_memory(memory), owned }
    }

    /// Makes a ring whose first record begins at `offset`, rounded down to a block.
    #[must_use]
    #[cfg(any(loom, shuttle))]
    pub fn starting_at(capacity: Capacity, offset: u64) -> Self {
        let model = super::memory::ModelMemory::new(capacity, offset & !(BLOCK_BYTES - 1));
        let owned = NonNull::from(Box::leak(Box::new(model)));
        // SAFETY: it lives as long as `self`.
        let memory = unsafe { Memory::of_model(owned) };
        Self { ring: Ring::of_memory(memory), owned }
    }

    /// Makes a ring.
    #[must_use]
    pub fn new(capacity: Capacity) -> Self {
        Self::starting_at(capacity, 0)
    }

    /// A handle of it.
    ///
    /// # Safety
    /// Neither it nor a copy of it is used after `self` is dropped.
    #[must_use]
    pub unsafe fn ring(&self) -> Ring {
        self.ring
    }
}

impl Drop for HeapRing {
    fn drop(&mut self) {
        // SAFETY: it was leaked when `self` was made, and no handle is used any more.
        drop(unsafe { Box::from_raw(self.owned.as_ptr()) });
    }
}

// SAFETY: the memory is reached by way of `Ring` only, which may be used by any thread.
unsafe impl Send for HeapRing {}
// SAFETY: as above.
unsafe impl Sync for HeapRing {}
