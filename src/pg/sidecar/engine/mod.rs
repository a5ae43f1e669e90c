//! The sidecar with the server that answers from it; or what stands for them in a build without RocksDB.

#![cfg_attr(
    not(feature = "rocksdb"),
    expect(dead_code, reason = "what is made of what RocksDB has, and who it belongs to")
)]

#[cfg(not(feature = "rocksdb"))]
mod absent;
#[cfg(feature = "rocksdb")]
mod present;

#[cfg(not(feature = "rocksdb"))]
pub use absent::Engine;
#[cfg(feature = "rocksdb")]
pub use present::Engine;

use crate::codec::record::Home;
use crate::model::memory::OutOfMemory;

/// Whose a sidecar is.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// the cluster, as `pg_control` has it
    pub system_identifier: u64,
    /// its timeline
    pub timeline: u32,
    /// the store
    pub home: Home,
}

/// Why something was not done.
#[derive(Debug)]
pub enum Fault {
    /// The sidecar has failed, and must be closed.
    Failed(String),
    /// What was asked for cannot be done; nothing has changed.
    Refused(String),
    /// It cannot be done now; nothing has changed.
    Busy,
    /// There is not as much memory; nothing has changed.
    Memory(OutOfMemory),
}

/// How far a partition is in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// the last batch that is in it, or was; 0: none
    pub batch_no: i64,
    /// its checksum, unless it is forgotten. If the table has another one under its number, or has none
    /// that was not settled, the caller discards the partition
    pub checksum: Option<i32>,
    /// batches up to this one are forgotten
    pub forgotten: i64,
}

/// What the sidecar takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// bytes of its files
    pub disk_bytes: u64,
    /// bytes that it has in memory
    pub memory_bytes: u64,
    /// entries, about: streams with each of their batches
    pub entries: u64,
}
