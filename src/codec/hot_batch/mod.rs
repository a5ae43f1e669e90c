//! Rows of `hot_batches`. The body: a drained batch of plain events of one partition, in the order
//! in which they were drained.
//!
//! ```text
//! 0   version               u8    1
//! 1   number of events      u32   little-endian, as the numbers below are
//! 5   written at            i64   microseconds since 2000-01-01: the time of all its events
//! 13  the events, each:
//!       flags               u8    1: metadata follows
//!                                 2: the tenant is that of the event before
//!                                 4: the event type is that of the event before
//!       bytes of stream_id  varint
//!       bytes of tenant_id  varint  unless 2
//!       bytes of event_type varint  unless 4
//!       bytes of payload    varint
//!       bytes of metadata   varint  if 1
//!       stream_id, tenant_id, event_type, payload, metadata
//! ```
//!
//! A varint is as [`super::varint`] has it. An event's place is its number in the body, from 0. A plain
//! event has no event id and no entity id; others do not take this way.
//!
//! The column `checksum` is CRC-32C over partition (i32), batch number (i64) and body, so that a body
//! under another number is noticed as a damaged one is.
//!
//! Bodies are kept over upgrades: another layout gets another version.
//!
//! Beside the body there is a list of its [`streams`].

mod reader;
mod streams;
#[cfg(test)]
mod tests;
mod writer;

use crate::model::partition::Partition;

pub use reader::{HotBatchReader, HotEvent};
pub use streams::{BatchStreams, StreamHash};
pub use writer::{HotBatchRow, HotBatchWriter, Pushed};

/// The version that is written.
pub const VERSION: u8 = 1;
/// The size that bodies are cut at.
pub const BODY_BYTES_MAX: usize = 1 << 20;

const LEN_BYTES: usize = 5;
const HEADER_BYTES: usize = LEN_BYTES + size_of::<i64>();
const METADATA: u8 = 1;
const SAME_TENANT: u8 = 2;
const SAME_TYPE: u8 = 4;

/// A body cannot be taken apart, or is not the one that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DamagedBatch {
    /// Its version is not known: it is damaged, or a newer release has written it.
    #[error("hot batch has an unknown version")]
    Version {
        /// what stands in its place
        version: u8,
    },
    /// Checksum and body do not fit each other.
    #[error("hot batch has a wrong checksum")]
    Checksum {
        /// as it is stored
        stored: i32,
        /// that of the body
        computed: i32,
    },
    /// The list of its streams is not the one that was written.
    #[error("hot batch has a damaged list of streams")]
    Streams,
    /// The bytes do not have the layout above.
    #[error("hot batch is damaged")]
    Bytes,
}

/// The checksum of a body, or of a list of streams, under its number.
pub fn checksum(partition: Partition, batch_no: i64, bytes: &[u8]) -> i32 {
    let mut checksum = crc32c::crc32c(&partition.number().to_le_bytes());
    checksum = crc32c::crc32c_append(checksum, &batch_no.to_le_bytes());
    crc32c::crc32c_append(checksum, bytes).cast_signed()
}
