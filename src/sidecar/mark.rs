//! How far each partition is: what is in it, and what has been forgotten.

use crate::model::partition::{PARTITIONS, Partition};
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// How far a partition is. Stored in the family `partitions`, under the partition's number (a byte):
/// batch number (i64), its checksum (i32), up to which batch is forgotten (i64); little-endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// the last batch that was applied; 0: none
    pub applied: i64,
    /// its checksum, by which the caller sees whether it is the one that the table has
    pub checksum: i32,
    /// batches up to this one have been forgotten
    pub forgotten: i64,
}

const MARK_BYTES: usize = 20;

impl Mark {
    /// As it is stored.
    pub fn to_bytes(self) -> [u8; MARK_BYTES] {
        let mut bytes = [0; MARK_BYTES];
        bytes[0..8].copy_from_slice(&self.applied.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.checksum.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.forgotten.to_le_bytes());
        bytes
    }

    /// Reads it.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (applied, rest) = bytes.split_first_chunk()?;
        let (checksum, rest) = rest.split_first_chunk()?;
        Some(Self {
            applied: i64::from_le_bytes(*applied),
            checksum: i32::from_le_bytes(*checksum),
            forgotten: i64::from_le_bytes(*rest.first_chunk()?),
        })
        .filter(|_| bytes.len() == MARK_BYTES)
    }
}

/// A mark, and how often its partition was discarded since the sidecar was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Current {
    pub mark: Mark,
    pub discards: u64,
}

/// The marks of all partitions. A lock is held only to copy a mark.
#[derive(Debug, Default)]
pub struct Marks {
    marks: [RwLock<Current>; PARTITIONS],
    forgotten: Arc<Forgotten>,
}

impl Marks {
    /// The mark of a partition.
    pub fn get(&self, partition: Partition) -> Mark {
        self.current(partition).mark
    }

    /// The same with the number of discards.
    pub fn current(&self, partition: Partition) -> Current {
        *self.marks[partition.index()].read()
    }

    /// Back to the beginning.
    pub fn discard(&self, partition: Partition) {
        self.marks[partition.index()].write().discards += 1;
        self.set(partition, Mark::default());
        self.release(partition, Mark::default());
    }

    /// Sets it.
    pub fn set(&self, partition: Partition, mark: Mark) {
        self.marks[partition.index()].write().mark = mark;
    }

    /// Lets compaction drop what is forgotten, `flushed` being the mark as it would be found after a
    /// crash: until a mark that forgets is flushed, one that does not may be found again.
    pub fn release(&self, partition: Partition, flushed: Mark) {
        let up_to = flushed.forgotten.min(self.get(partition).forgotten);
        self.forgotten.0[partition.index()].store(up_to, Ordering::Relaxed);
    }

    /// What compaction needs of them.
    pub fn forgotten(&self) -> Arc<Forgotten> {
        Arc::clone(&self.forgotten)
    }
}

/// Up to which batch each partition is forgotten, for the threads of RocksDB, which ask for each entry
/// that they copy.
#[derive(Debug, Default)]
pub struct Forgotten([AtomicI64; PARTITIONS]);

impl Forgotten {
    /// Whether nobody needs a batch's entries any more.
    ///
    /// Relaxed: nothing else is read by what this says. An older value keeps an entry for longer. After
    /// a discard it is smaller, and an older value would be too large; but no entry of before that is
    /// seen any more, and one of after it is not compacted before it was flushed, which synchronizes.
    pub fn covers(&self, partition: usize, batch_no: i64) -> bool {
        self.0.get(partition).is_some_and(|up_to| batch_no <= up_to.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let mark = Mark { applied: 1 << 40, checksum: -7, forgotten: 1 << 39 };
        let bytes = mark.to_bytes();
        assert_eq!(Mark::from_bytes(&bytes), Some(mark));
        assert_eq!(Mark::from_bytes(&bytes[1..]), None);
        assert_eq!(Mark::from_bytes(&[&bytes[..], &[0]].concat()), None);
    }

    #[test]
    fn compaction_sees_what_is_forgotten() {
        let marks = Marks::default();
        let partition = Partition::of(b"a");
        let mark = Mark { applied: 9, checksum: 1, forgotten: 5 };
        marks.set(partition, mark);
        assert_eq!(marks.current(partition), Current { mark, discards: 0 });
        let forgotten = marks.forgotten();
        assert!(!forgotten.covers(partition.index(), 5));
        marks.release(partition, Mark { forgotten: 4, ..mark });
        assert!(!forgotten.covers(partition.index(), 5));
        marks.release(partition, Mark { forgotten: 7, ..mark });
        assert!(forgotten.covers(partition.index(), 5));
        assert!(!forgotten.covers(partition.index(), 6));
        assert!(!forgotten.covers((partition.index() + 1) % PARTITIONS, 5));
        assert!(!forgotten.covers(255, 0));
        marks.discard(partition);
        assert!(!forgotten.covers(partition.index(), 1));
        assert_eq!(marks.current(partition), Current { mark: Mark::default(), discards: 1 });
    }
}
