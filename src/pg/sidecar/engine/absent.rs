//! A build without RocksDB.

use super::{Applied, Fault, Owner, Statistics};
use crate::board::Board;
use crate::model::partition::Partition;
use std::path::Path;

/// There is none.
pub enum Engine {}

impl Engine {
    pub const IS_SUPPORTED: bool = false;

    pub fn open(
        _board: &'static Board,
        _owner: Owner,
        _emptied: bool,
    ) -> Result<(Self, Option<String>), Fault> {
        Err(Fault::Failed("this build has no RocksDB".to_owned()))
    }

    pub fn close(self) {
        match self {}
    }

    pub fn failure(&self) -> Option<String> {
        match *self {}
    }

    pub fn applied(&self, _partition: Partition) -> Applied {
        match *self {}
    }

    pub fn apply(
        &self,
        _partition: Partition,
        _batch_no: i64,
        _checksum: i32,
        _body: &[u8],
    ) -> Result<bool, Fault> {
        match *self {}
    }

    pub fn forget(&self, _partition: Partition, _up_to: i64) -> Result<(), Fault> {
        match *self {}
    }

    pub fn discard(&self, _partition: Partition) -> Result<(), Fault> {
        match *self {}
    }

    pub fn begin_flush(&self) -> Result<(), Fault> {
        match *self {}
    }

    pub fn checkpoint(&self, _path: &Path) -> Result<(), Fault> {
        match *self {}
    }

    pub fn statistics(&self) -> Result<Statistics, Fault> {
        match *self {}
    }
}
