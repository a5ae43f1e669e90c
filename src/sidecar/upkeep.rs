//! Flushing, copying, and numbers to look at.

use super::database::Sidecar;
use super::error::SidecarError;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{ColumnFamily, FlushOptions, properties};
use std::path::Path;

/// What the sidecar takes, and how it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// bytes of its files
    pub disk_bytes: u64,
    /// bytes in memory: cache, write buffers, readers of files
    pub memory_bytes: u64,
    /// of these, write buffers
    pub write_buffer_bytes: u64,
    /// entries, about: streams with each of their batches, those that are forgotten but not dropped
    /// yet among them
    pub entries: u64,
    /// bytes that compaction has still to do, about
    pub compaction_bytes: u64,
    /// failures of flushing and compaction; after one, writing is refused
    pub background_errors: u64,
}

impl Sidecar {
    /// Writes what is in memory to files, all families together with the marks.
    pub fn flush(&self) -> Result<(), SidecarError> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        Ok(self.database.flush_cfs_opt(&self.all_families()?, &options)?)
    }

    /// Begins to write what is in memory to files, and does not wait for that.
    pub fn begin_flush(&self) -> Result<(), SidecarError> {
        let mut options = FlushOptions::default();
        options.set_wait(false);
        Ok(self.database.flush_cfs_opt(&self.all_families()?, &options)?)
    }

    /// Makes a copy in `path`, which must not exist yet, out of links to files where that is possible.
    pub fn checkpoint(&self, path: &Path) -> Result<(), SidecarError> {
        self.flush()?;
        Ok(Checkpoint::new(&self.database)?.create_checkpoint(path)?)
    }

    /// What the sidecar takes, and how it is.
    pub fn statistics(&self) -> Result<Statistics, SidecarError> {
        let sum = |name| {
            self.all_families()?.iter().try_fold(0, |sum, family| {
                let value = self.database.property_int_value_cf(*family, name)?;
                Ok::<_, SidecarError>(sum + value.unwrap_or(0))
            })
        };
        let one = |name| -> Result<u64, SidecarError> {
            let value = self.database.property_int_value_cf(self.events_family()?, name)?;
            Ok(value.unwrap_or(0))
        };
        let cache_bytes = self.memory.cache.get_usage() as u64;
        Ok(Statistics {
            disk_bytes: sum(properties::TOTAL_SST_FILES_SIZE)?,
            // Write buffers are charged to the cache.
            memory_bytes: cache_bytes + sum(properties::ESTIMATE_TABLE_READERS_MEM)?,
            write_buffer_bytes: self.memory.write_buffers.get_usage() as u64,
            entries: one(properties::ESTIMATE_NUM_KEYS)?,
            compaction_bytes: sum(properties::ESTIMATE_PENDING_COMPACTION_BYTES)?,
            background_errors: one(properties::BACKGROUND_ERRORS)?,
        })
    }

    fn all_families(&self) -> Result<[&ColumnFamily; 2], SidecarError> {
        Ok([self.events_family()?, self.marks_family()?])
    }
}
