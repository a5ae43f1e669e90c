//! A build with RocksDB.

use super::{Applied, Fault, Owner, Statistics};
use crate::board::Board;
use crate::codec::hot_batch::HotBatchReader;
use crate::model::partition::Partition;
use crate::pg::settings;
use crate::sidecar::{Identity, Mark, Opened, Server, Settings, Sidecar, SidecarError};
use std::path::Path;
use std::sync::Arc;

/// Threads that answer.
const READERS: usize = 2;

/// The sidecar, open, and the server that answers from it.
pub struct Engine {
    // Dropped first: its threads read.
    server: Server,
    sidecar: Arc<Sidecar>,
}

impl Engine {
    pub const IS_SUPPORTED: bool = true;

    /// Opens the sidecar, and says why it is empty if it is. If `emptied`, it is empty in any case.
    pub fn open(
        board: &'static Board,
        owner: Owner,
        emptied: bool,
    ) -> Result<(Self, Option<String>), Fault> {
        let directory = settings::sidecar_directory();
        let settings = Settings {
            cache_bytes: settings::sidecar_cache_bytes(),
            write_buffer_bytes: settings::sidecar_write_buffer_bytes(),
            ..Settings::default()
        };
        let identity = Identity {
            system_identifier: owner.system_identifier,
            timeline: owner.timeline,
            database: owner.home.database,
            incarnation: owner.home.incarnation,
        };
        let (sidecar, opened) = match emptied {
            true => {
                let reason = "it is made anew".to_owned();
                let sidecar = Sidecar::open_emptied(&directory, identity, settings)?;
                (sidecar, Opened::Emptied { reason })
            }
            false => Sidecar::open(&directory, identity, settings)?,
        };
        let sidecar = Arc::new(sidecar);
        let server = Server::start(board, owner.home, &sidecar, READERS)
            .map_err(|error| Fault::Failed(format!("no threads: {error}")))?;
        let reason = match opened {
            Opened::Kept => None,
            Opened::Emptied { reason } => Some(reason),
        };
        Ok((Self { server, sidecar }, reason))
    }

    /// Ends the threads and closes RocksDB, which writes what it has in memory if it can.
    pub fn close(self) {}

    pub fn failure(&self) -> Option<String> {
        self.server.failure()
    }

    pub fn applied(&self, partition: Partition) -> Applied {
        let Mark { applied, checksum, forgotten } = self.sidecar.mark(partition);
        let checksum = (applied > forgotten).then_some(checksum);
        Applied { batch_no: applied, checksum, forgotten }
    }

    pub fn apply(
        &self,
        partition: Partition,
        batch_no: i64,
        checksum: i32,
        body: &[u8],
    ) -> Result<bool, Fault> {
        let reader = HotBatchReader::open(partition, batch_no, checksum, body)
            .map_err(SidecarError::from)?;
        let is_new = self.sidecar.apply(&reader)?;
        self.server.applied();
        Ok(is_new)
    }

    pub fn forget(&self, partition: Partition, up_to: i64) -> Result<(), Fault> {
        self.sidecar.forget(partition, up_to)?;
        // It may have gone beyond what was applied.
        self.server.applied();
        Ok(())
    }

    pub fn discard(&self, partition: Partition) -> Result<(), Fault> {
        Ok(self.sidecar.discard_partition(partition)?)
    }

    pub fn begin_flush(&self) -> Result<(), Fault> {
        Ok(self.sidecar.begin_flush()?)
    }

    pub fn checkpoint(&self, path: &Path) -> Result<(), Fault> {
        // Where it cannot be copied to says nothing about the sidecar.
        self.sidecar.checkpoint(path).map_err(|error| Fault::Refused(error.describe()))
    }

    pub fn statistics(&self) -> Result<Statistics, Fault> {
        let found = self.sidecar.statistics()?;
        Ok(Statistics {
            disk_bytes: found.disk_bytes,
            memory_bytes: found.memory_bytes,
            entries: found.entries,
        })
    }
}

impl From<SidecarError> for Fault {
    fn from(error: SidecarError) -> Self {
        match error {
            SidecarError::Busy => Self::Busy,
            SidecarError::OutOfMemory(refused) => Self::Memory(refused),
            SidecarError::Directory { .. } | SidecarError::InUse => Self::Failed(error.describe()),
            error if error.is_failure() => Self::Failed(error.describe()),
            error => Self::Refused(error.describe()),
        }
    }
}
