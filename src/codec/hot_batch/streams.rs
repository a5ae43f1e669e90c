//! The streams of a batch: the column `streams` of `hot_batches`. By it a reader passes over batches
//! without its stream, and need not unpack their bodies.
//!
//! ```text
//! 0   checksum  u32  little-endian, as the numbers below are: CRC-32C over partition (i32), batch
//!                    number (i64) and the hashes
//! 4   hashes    u32  of each stream that has events in the body: ascending, none twice
//! ```
//!
//! The hash of a stream is the upper half of [`StreamKey::hash64`]. Streams can share one: where it is,
//! the body has to be looked at; where it is not, the stream has no events in the batch. A list that has
//! lost a hash would hide events, and bodies that are passed over cannot tell. So a list has a checksum
//! of its own, and nobody is told what is not in it before that was compared.
//!
//! Lists are kept over upgrades with their bodies.

use super::DamagedBatch;
use crate::model::batch::StreamKey;
use crate::model::memory::{OutOfMemory, reserve};
use crate::model::partition::Partition;

const HASH_BYTES: usize = size_of::<u32>();

/// The hash of a stream in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamHash(u32);

impl StreamHash {
    /// That of a stream.
    pub fn of(stream: StreamKey<'_>) -> Self {
        Self((stream.hash64() >> u32::BITS) as u32)
    }

    fn from_bytes(bytes: &[u8; HASH_BYTES]) -> Self {
        Self(u32::from_le_bytes(*bytes))
    }
}

/// The list of a batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchStreams<'a>(&'a [[u8; HASH_BYTES]]);

impl<'a> BatchStreams<'a> {
    /// Takes a list as it is stored, if its checksum says that it is whole.
    pub fn open(
        partition: Partition,
        batch_no: i64,
        stored: &'a [u8],
    ) -> Result<Self, DamagedBatch> {
        let (checksum, bytes) = stored.split_first_chunk().ok_or(DamagedBatch::Streams)?;
        let (hashes, rest) = bytes.as_chunks();
        let computed = super::checksum(partition, batch_no, bytes);
        if !rest.is_empty() || i32::from_le_bytes(*checksum) != computed {
            return Err(DamagedBatch::Streams);
        }
        Ok(Self(hashes))
    }

    fn hashes(&self) -> impl Iterator<Item = StreamHash> {
        self.0.iter().map(StreamHash::from_bytes)
    }

    /// Whether a stream with this hash may have events in the batch.
    pub fn may_have(&self, hash: StreamHash) -> bool {
        self.0.binary_search_by_key(&hash, StreamHash::from_bytes).is_ok()
    }

    /// Whether one of these may; they ascend.
    pub fn may_have_any(&self, wanted: &[StreamHash]) -> bool {
        let mut wanted = wanted.iter().copied().peekable();
        self.hashes().any(|hash| {
            while wanted.next_if(|next| *next < hash).is_some() {}
            wanted.peek() == Some(&hash)
        })
    }

    /// Whether the list is the one of streams with these hashes, which are put into order.
    pub fn is_of(&self, hashes: &mut Vec<StreamHash>) -> bool {
        arrange(hashes);
        self.hashes().eq(hashes.iter().copied())
    }
}

fn arrange(hashes: &mut Vec<StreamHash>) {
    hashes.sort_unstable();
    hashes.dedup();
}

/// Writes the list of a batch over what is in `list`. The hashes are put into order.
pub(super) fn write(
    list: &mut Vec<u8>,
    partition: Partition,
    batch_no: i64,
    hashes: &mut Vec<StreamHash>,
) -> Result<(), OutOfMemory> {
    arrange(hashes);
    list.clear();
    reserve(list, (1 + hashes.len()) * HASH_BYTES)?;
    list.extend_from_slice(&[0; HASH_BYTES]);
    hashes.iter().for_each(|hash| list.extend_from_slice(&hash.0.to_le_bytes()));
    let checksum = super::checksum(partition, batch_no, &list[HASH_BYTES..]);
    list[..HASH_BYTES].copy_from_slice(&checksum.to_le_bytes());
    Ok(())
}
