//! What a backend remembers of a small table, until PostgreSQL reports a change of it.

use super::names::{generation, look_up};
use crate::pg::error::Error;
use std::cell::RefCell;

/// What was read, and the generation that it is of. A trigger of the table has to call [`report_change`].
pub struct Remembered<T>(RefCell<Option<(u64, T)>>);

impl<T> Remembered<T> {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }

    /// A part of what is remembered, if nothing has changed. The caller has accepted invalidations, by
    /// taking a lock or expressly.
    pub fn known<U>(&self, part: impl FnOnce(&T) -> U) -> Option<U> {
        self.0
            .borrow()
            .as_ref()
            .filter(|(known, _)| *known == generation())
            .map(|(_, all)| part(all))
    }

    /// Remembers what `read` returns of these tables.
    pub fn read(&self, tables: &[&str], read: impl FnOnce() -> Result<T, Error>) -> Result<T, Error>
    where
        T: Copy,
    {
        // Watched from before they are read.
        for table in tables {
            look_up(table)?;
        }
        let before = generation();
        let all = read()?;
        if generation() == before {
            self.0.replace(Some((before, all)));
        }
        Ok(all)
    }
}

/// Makes all sessions read a table again when this transaction has committed. For a trigger of it.
#[expect(unsafe_code, reason = "reports a change to all sessions")]
pub fn report_change(table: &str) -> Result<(), Error> {
    // SAFETY: the table is there, and locked by the statement that has changed it.
    unsafe { pgrx::pg_sys::CacheInvalidateRelcacheByRelid(look_up(table)?) }
    Ok(())
}
