//! The checksum of a run.
//!
//! CRC-32C (Castagnoli) over, in this order and in little-endian: stream_no, first_version,
//! position, timestamp (microseconds since 2000-01-01, as PostgreSQL stores it), and for each of
//! the columns event_types, payloads, metadata and event_ids its number of elements and each element as
//! length and bytes. A missing column counts 0 elements, a NULL element has length 2^32 - 1. Then
//! timestamps likewise, each 8 bytes in little-endian; where they are missing nothing follows. It
//! depends on values only, not on how an array is laid out, so it survives dump and restore.

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

/// Accumulates the checksum of a run. What is added is collected first: a long piece costs much less
/// than many short ones.
#[derive(Clone, Debug)]
pub struct RunChecksum {
    checksum: u32,
    collected: [u8; COLLECTED_BYTES],
    len: usize,
}

/// Twice the length from which on the checksum is computed in three interleaved streams.
const COLLECTED_BYTES: usize = 2 * 768;

impl RunChecksum {
    /// Begins with what identifies the run.
    pub fn new(key: RunKey) -> Self {
        let mut checksum = Self { checksum: 0, collected: [0; COLLECTED_BYTES], len: 0 };
        for value in [key.stream_no, key.first_version, key.position, key.timestamp_us] {
            checksum.add(&value.to_le_bytes());
        }
        checksum
    }

    /// Adds a column: first how many elements it has.
    pub fn column(&mut self, len: usize) {
        self.add(&(len as u32).to_le_bytes());
    }

    /// Then each element.
    pub fn element(&mut self, element: Option<&[u8]>) {
        let len = element.map_or(NULL_LENGTH, |bytes| bytes.len() as u32);
        self.add(&len.to_le_bytes());
        if let Some(bytes) = element {
            self.add(bytes);
        }
    }

    #[inline]
    fn add(&mut self, bytes: &[u8]) {
        if bytes.len() > COLLECTED_BYTES - self.len {
            self.compute();
            if bytes.len() > COLLECTED_BYTES {
                self.checksum = crc32c::crc32c_append(self.checksum, bytes);
                return;
            }
        }
        self.collected[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn compute(&mut self) {
        self.checksum = crc32c::crc32c_append(self.checksum, &self.collected[..self.len]);
        self.len = 0;
    }

    /// The checksum as the column `checksum` holds it.
    pub fn finish(mut self) -> i32 {
        self.compute();
        self.checksum.cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_the_checksum_of_all_pieces_as_they_follow_each_other(
            elements in prop::collection::vec(
                prop::option::of(prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..100),
                    prop::collection::vec(any::<u8>(), 1_400..1_700),
                ]),
                0..60,
            )
        ) {
            let key = RunKey { stream_no: 1, first_version: 2, position: 3, timestamp_us: 4 };
            let mut checksum = RunChecksum::new(key);
            let mut bytes = [1i64, 2, 3, 4].map(i64::to_le_bytes).concat();
            checksum.column(elements.len());
            bytes.extend_from_slice(&(elements.len() as u32).to_le_bytes());
            for element in &elements {
                checksum.element(element.as_deref());
                let len = element.as_ref().map_or(u32::MAX, |element| element.len() as u32);
                bytes.extend_from_slice(&len.to_le_bytes());
                bytes.extend_from_slice(element.as_deref().unwrap_or_default());
            }
            prop_assert_eq!(checksum.finish(), crc32c::crc32c(&bytes).cast_signed());
        }
    }
}
