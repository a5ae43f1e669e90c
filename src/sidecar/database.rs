//! The sidecar as its process has it open.

use super::error::SidecarError;
use super::mark::{Current, Mark, Marks};
use super::open::{self, Opened};
use super::options::{EVENTS, Memory, PARTITION_MARKS, Settings};
use super::stamp::Identity;
use crate::model::hot::Batches;
use crate::model::partition::Partition;
use parking_lot::Mutex;
use rocksdb::{ColumnFamily, DB, ReadOptions};
use std::fs::File;
use std::path::Path;

/// An index over the batches of hot partitions, by stream. Many threads may read, and one may write at
/// the same time; a second one waits.
pub struct Sidecar {
    // Closed before the lock is released: fields are dropped in their order.
    pub(super) database: DB,
    pub(super) memory: Memory,
    pub(super) marks: Marks,
    pub(super) writing: Mutex<()>,
    /// Made once: to make them takes longer than to read an entry.
    pub(super) reading_one: ReadOptions,
    _lock: File,
}

impl Sidecar {
    /// Opens the sidecar of a directory, which is made if it is missing. One that belongs to another
    /// store, is damaged or cannot be opened is emptied. RocksDB starts its threads here, with all
    /// signals blocked.
    pub fn open(
        directory: &Path,
        identity: Identity,
        settings: Settings,
    ) -> Result<(Self, Opened), SidecarError> {
        let lock = open::lock(directory)?;
        let memory = Memory::new(settings);
        let marks = Marks::default();
        let (database, opened) = open::open(directory, identity, settings, &memory, &marks)?;
        Ok((Self::new(lock, memory, marks, database), opened))
    }

    /// Opens an empty sidecar, whatever the directory holds: to make it anew after a failure. The one
    /// that failed has to be closed before.
    pub fn open_emptied(
        directory: &Path,
        identity: Identity,
        settings: Settings,
    ) -> Result<Self, SidecarError> {
        let lock = open::lock(directory)?;
        let memory = Memory::new(settings);
        let marks = Marks::default();
        let database = open::open_emptied(directory, identity, settings, &memory, &marks)?;
        Ok(Self::new(lock, memory, marks, database))
    }

    fn new(lock: File, memory: Memory, marks: Marks, database: DB) -> Self {
        Self {
            database,
            memory,
            marks,
            writing: Mutex::new(()),
            reading_one: ReadOptions::default(),
            _lock: lock,
        }
    }

    /// How far a partition is. The caller compares number and checksum with the table's: if that batch
    /// is another one there, or is missing though it is not settled, it discards the partition.
    pub fn mark(&self, partition: Partition) -> Mark {
        self.marks.get(partition)
    }

    /// The last batch of a partition that was applied; 0: none.
    pub fn applied(&self, partition: Partition) -> i64 {
        self.mark(partition).applied
    }

    /// Looks at the database with `look`, which makes the iterator or the copy that an answer comes
    /// from, if it then has all of these batches: what is there before is there, unless it was
    /// discarded or forgotten meanwhile. Entries go only after their mark has changed.
    pub(super) fn look_at<T>(
        &self,
        partition: Partition,
        batches: Batches,
        look: impl FnOnce() -> Result<T, SidecarError>,
    ) -> Result<T, SidecarError> {
        let Current { mark: Mark { applied, .. }, discards } = self.marks.current(partition);
        if batches.up_to > applied {
            return Err(SidecarError::Behind { applied, up_to: batches.up_to });
        }
        let seen = look()?;
        let now = self.marks.current(partition);
        if now.discards != discards {
            return Err(SidecarError::Behind { applied: now.mark.applied, up_to: batches.up_to });
        }
        let forgotten = now.mark.forgotten;
        if batches.after < forgotten {
            return Err(SidecarError::Forgotten { up_to: forgotten, after: batches.after });
        }
        Ok(seen)
    }

    fn family(&self, name: &str) -> Result<&ColumnFamily, SidecarError> {
        self.database.cf_handle(name).ok_or(SidecarError::Damaged)
    }

    pub(super) fn events_family(&self) -> Result<&ColumnFamily, SidecarError> {
        self.family(EVENTS)
    }

    pub(super) fn marks_family(&self) -> Result<&ColumnFamily, SidecarError> {
        self.family(PARTITION_MARKS)
    }
}
