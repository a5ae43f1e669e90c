//! A short text in shared memory.
#![expect(unsafe_code, reason = "lives in PostgreSQL's shared memory")]

use crate::pg::shared::memory::{Lock, with_lock};
use std::cell::UnsafeCell;

/// A text that is read and written under `Lock::Workers` only. Zeroed memory is an empty one.
pub struct SharedText(UnsafeCell<Bytes>);

struct Bytes {
    len: usize,
    bytes: [u8; SharedText::BYTES_MAX],
}

// SAFETY: the lock keeps accesses apart.
unsafe impl Sync for SharedText {}

impl SharedText {
    /// Bytes of a text that are kept.
    pub const BYTES_MAX: usize = 500;

    /// Replaces the text.
    pub fn set(&self, text: &str) {
        let text = &text[..text.floor_char_boundary(Self::BYTES_MAX)];
        with_lock(Lock::Workers, || {
            // SAFETY: the lock is held, so nobody else has a reference.
            let inner = unsafe { &mut *self.0.get() };
            inner.bytes[..text.len()].copy_from_slice(text.as_bytes());
            inner.len = text.len();
        });
    }

    /// A copy; `None` if it is empty.
    pub fn get(&self) -> Option<String> {
        let bytes = with_lock(Lock::Workers, || {
            // SAFETY: the lock is held, so nobody writes.
            let inner = unsafe { &*self.0.get() };
            (inner.len, inner.bytes)
        });
        let (len, bytes) = bytes;
        (len > 0).then(|| String::from_utf8_lossy(&bytes[..len]).into_owned())
    }
}
