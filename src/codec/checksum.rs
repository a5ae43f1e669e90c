//! The checksum of a run.
//!
//! CRC-32C (Castagnoli) over, in this order and in little-endian: stream_no, first_version,
//! position, timestamp (microseconds since 2000-01-01, as PostgreSQL stores it), and for each of
//! the four columns its number of elements and each element as length and bytes. A missing column
//! counts 0 elements, a NULL element has length 2^32 - 1. It depends on values only, not on how an
//! array is laid out, so it survives dump and restore.

const NULL_LENGTH: u32 = u32::MAX;

/// What identifies a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunKey {
    /// number of the stream
    pub stream_no: i64,
    /// version of the first event
    pub first_version: i64,
    /// position of the first event
    pub position: i64,
    /// microseconds since 2000-01-01 00:00 UTC
    pub timestamp_us: i64,
}

/// Accumulates the checksum of a run.
#[derive(Clone, Copy, Debug)]
pub struct RunChecksum(u32);

impl RunChecksum {
    /// Begins with what identifies the run.
    pub fn new(key: RunKey) -> Self {
        let mut bytes = [0; 32];
        for (slot, value) in bytes.chunks_exact_mut(8).zip([
            key.stream_no,
            key.first_version,
            key.position,
            key.timestamp_us,
        ]) {
            slot.copy_from_slice(&value.to_le_bytes());
        }
        Self(crc32c::crc32c(&bytes))
    }

    /// Adds a column: first how many elements it has.
    pub fn column(&mut self, len: usize) {
        self.0 = crc32c::crc32c_append(self.0, &(len as u32).to_le_bytes());
    }

    /// Then each element.
    pub fn element(&mut self, element: Option<&[u8]>) {
        let len = element.map_or(NULL_LENGTH, |bytes| bytes.len() as u32);
        self.0 = crc32c::crc32c_append(self.0, &len.to_le_bytes());
        if let Some(bytes) = element {
            self.0 = crc32c::crc32c_append(self.0, bytes);
        }
    }

    /// The checksum as the column `checksum` holds it.
    pub fn finish(self) -> i32 {
        self.0.cast_signed()
    }
}
