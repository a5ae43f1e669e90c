//! A memory context for what one step of a loop needs.
#![expect(unsafe_code, reason = "switches memory contexts")]

use pgrx::pg_sys;
use std::marker::PhantomData;

/// A memory context that is emptied after each step. PostgreSQL frees it with its parent, the
/// context that was current when it was made.
pub struct Scratch(pg_sys::MemoryContext);

/// The memory of one step. What is allocated in it lives as long as this.
#[derive(Clone, Copy)]
pub struct Memory<'m>(PhantomData<&'m mut ()>);

impl Scratch {
    /// Makes one.
    pub fn new() -> Self {
        // SAFETY: the current context is valid.
        Self(unsafe {
            pg_sys::AllocSetContextCreateExtended(
                pg_sys::CurrentMemoryContext,
                c"allsource scratch".as_ptr(),
                pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        })
    }

    /// Runs `step` with the context as the current one, and empties it. What `step` returns cannot
    /// point into it: it must do for a memory of any lifetime.
    pub fn run<T>(&self, step: impl for<'m> FnOnce(Memory<'m>) -> T) -> T {
        // SAFETY: the context lives until its parent goes; an error switches contexts anyway.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo(self.0);
            let result = step(Memory(PhantomData));
            pg_sys::MemoryContextSwitchTo(before);
            pg_sys::MemoryContextReset(self.0);
            result
        }
    }
}
