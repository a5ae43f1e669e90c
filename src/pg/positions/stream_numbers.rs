//! Numbers for streams, from `stream_no_seq`.
//!
//! `nextval` would change what the session's `lastval()` returns. So a call reserves what it may need
//! by itself: a block above what the sequence holds. Blocks do not outlive the call: the sequence may
//! be set by others, as a restore does.
#![expect(unsafe_code, reason = "locks a sequence")]

use super::sequence;
use crate::pg::error::Error;
use crate::pg::tables::relation::lock_sequence;
use crate::pg::tables::schema::Sequence;
use pgrx::pg_sys;
use std::cell::Cell;

/// Most numbers that are reserved at once.
const BLOCK_MAX: u64 = 1024;

/// The numbers that a call has reserved.
pub struct StreamNumbers {
    next: Cell<u64>,
    end: Cell<u64>,
    wanted: Cell<u64>,
    /// No number up to this one is to be given out.
    taken: Cell<u64>,
}

impl StreamNumbers {
    /// For a call that creates at most `wanted` streams.
    pub fn new(wanted: usize) -> Self {
        let [next, end, taken] = [const { Cell::new(0) }; 3];
        Self { next, end, wanted: Cell::new(wanted as u64), taken }
    }

    /// The next number.
    pub fn take(&self) -> Result<i64, Error> {
        if self.next.get() == self.end.get() {
            self.reserve()?;
        }
        let number = self.next.get();
        self.next.set(number + 1);
        Ok(number as i64)
    }

    /// Streams have numbers up to `number` although the sequence says less: somebody has set it. Goes
    /// on above them.
    pub fn skip_to(&self, number: i64) {
        self.wanted.set(self.wanted.get() + self.end.get() - self.next.get());
        self.next.set(self.end.get());
        self.taken.set(self.taken.get().max(number as u64));
    }

    fn reserve(&self) -> Result<(), Error> {
        let count = self.wanted.get().clamp(1, BLOCK_MAX);
        self.wanted.set(self.wanted.get().saturating_sub(count));
        // Excludes others that reserve, and nothing else: the lock that setval itself leaves behind, below,
        // until the transaction ends, must not block anybody.
        let lock = pg_sys::ShareUpdateExclusiveLock as pg_sys::LOCKMODE;
        let oid = lock_sequence(Sequence::StreamNo, lock)?;
        // SAFETY: locked by the call before. The lock is not needed until the transaction ends: the
        // sequence is logged before the streams are.
        unsafe {
            let last = sequence::read(oid).value.max(self.taken.get());
            sequence::set(oid, last + count);
            pg_sys::UnlockRelationOid(oid, lock);
            self.next.set(last + 1);
            self.end.set(last + 1 + count);
        }
        Ok(())
    }
}
