//! What can go wrong.

use crate::codec::hot_batch::DamagedBatch;
use crate::codec::hot_tail::DamagedTail;
use crate::model::memory::OutOfMemory;

/// An error of the sidecar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SidecarError {
    /// Another process has it open.
    #[error("sidecar is in use by another process")]
    InUse,
    /// Its directory cannot be used.
    #[error("sidecar's directory cannot be used")]
    Directory {
        /// what the system says
        reason: String,
    },
    /// RocksDB refuses: its files are damaged or missing, or its disk is full.
    #[error("sidecar's database has failed")]
    Database {
        /// what RocksDB says
        reason: String,
    },
    /// Too much waits to be written to files, or they cannot be written now. It can be tried again.
    #[error("sidecar cannot take more now")]
    Busy,
    /// What is stored is not what was written, without RocksDB having noticed.
    #[error("sidecar is damaged")]
    Damaged,
    /// A batch was asked for that is not in it yet, or not any more since the partition was discarded.
    #[error("sidecar lags behind")]
    Behind {
        /// the last one that is in it
        applied: i64,
        /// the one asked for
        up_to: i64,
    },
    /// A batch was asked for that has been forgotten.
    #[error("batches have been forgotten")]
    Forgotten {
        /// up to this one
        up_to: i64,
        /// what was asked for is after this one
        after: i64,
    },
    /// A batch is damaged.
    #[error(transparent)]
    Batch(#[from] DamagedBatch),
    /// A batch has an event of another partition.
    #[error("batch has an event of another partition")]
    ForeignEvent,
    /// There is not as much memory.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// The threads that read have ended.
    #[error("readers of the sidecar have ended")]
    Ended {
        /// why
        reason: String,
    },
}

impl SidecarError {
    /// Whether the sidecar itself has failed, and has to be closed and opened emptied.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Database { .. } | Self::Damaged | Self::Ended { .. })
    }

    /// Message and reason in one line.
    pub fn describe(&self) -> String {
        match self {
            Self::Directory { reason } | Self::Database { reason } | Self::Ended { reason } => {
                format!("{self}: {reason}")
            }
            _ => self.to_string(),
        }
    }
}

impl From<rocksdb::Error> for SidecarError {
    fn from(error: rocksdb::Error) -> Self {
        match error.kind() {
            rocksdb::ErrorKind::Incomplete => Self::Busy,
            _ => Self::Database { reason: error.into_string() },
        }
    }
}

impl From<DamagedTail> for SidecarError {
    fn from(_: DamagedTail) -> Self {
        Self::Damaged
    }
}
