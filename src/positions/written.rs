//! How far each partition has been written, so that readers can pass over those with nothing new.
//!
//! Invariant: *every event above `since` was written by a transaction that has raised its partition's
//! mark before it ended.* Marks begin at zero with each counter, and what is at or below
//! `since`, the highest position that may have been used before, is not known. A transaction that is
//! rolled back leaves its marks: then a reader looks, and finds nothing.
//!
//! Load the marks *after* the snapshot to read with has been taken: taking a snapshot that shows a
//! transaction synchronizes with that transaction's end.

use crate::model::partition::{PARTITIONS, Partition};
use crate::sync::{AtomicU64, Ordering};

/// The marks of all partitions. Zeroed memory is valid once `restart` was called.
#[repr(C)]
#[derive(Debug)]
pub struct Written {
    since: AtomicU64,
    marks: [AtomicU64; PARTITIONS],
}

impl Written {
    /// Marks for a counter that assigns positions above `since`.
    #[must_use]
    pub fn new(since: u64) -> Self {
        Self { since: AtomicU64::new(since), marks: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// Forgets all marks. Nobody may use them meanwhile.
    pub fn restart(&self, since: u64) {
        for mark in &self.marks {
            mark.store(0, Ordering::Relaxed);
        }
        self.since.store(since, Ordering::Release);
    }

    /// Others may have written events up to `since` without marks.
    pub fn forget_up_to(&self, since: u64) {
        self.since.fetch_max(since, Ordering::AcqRel);
    }

    /// The caller's transaction writes events up to `position` in `partition`.
    pub fn mark(&self, partition: Partition, position: u64) {
        self.marks[partition.index()].fetch_max(position, Ordering::Release);
    }

    /// Whether nothing above `position` that a snapshot taken before this call shows is in
    /// `partition`; false if that is not known.
    pub fn nothing_above(&self, partition: Partition, position: u64) -> bool {
        position >= self.since.load(Ordering::Acquire)
            && position >= self.marks[partition.index()].load(Ordering::Acquire)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    fn partitions() -> (Partition, Partition) {
        let mut all = Partition::all();
        (all.next().expect("a first"), all.next().expect("a second"))
    }

    #[test]
    fn only_marked_partitions_have_something_new() {
        let (first, second) = partitions();
        let written = Written::new(0);
        assert!(written.nothing_above(first, 0));
        written.mark(first, 7);
        written.mark(first, 5);
        assert!(!written.nothing_above(first, 6));
        assert!(written.nothing_above(first, 7));
        assert!(written.nothing_above(second, 0));
    }

    #[test]
    fn what_was_written_before_is_not_known() {
        let (first, second) = partitions();
        let written = Written::new(100);
        written.mark(first, 101);
        assert!(!written.nothing_above(second, 99));
        assert!(written.nothing_above(second, 100));
        written.forget_up_to(200);
        written.forget_up_to(150);
        assert!(!written.nothing_above(second, 199));
        written.restart(10);
        assert!(written.nothing_above(first, 10));
        assert!(!written.nothing_above(first, 9));
    }
}
