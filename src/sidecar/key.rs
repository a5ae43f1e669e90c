//! Keys of the family `events`.
//!
//! ```text
//! partition     1 byte
//! stream_id     a zero byte in it is 0 255; two zeros end it
//! tenant_id     likewise
//! batch number  8 bytes, the highest first
//! ```
//!
//! So keys have the order of [`StreamKey`], which is the order in which batches lock streams, and within
//! a stream that of batches. All before the batch number is the stream's prefix; none begins with
//! another one's.

use crate::model::batch::StreamKey;
use crate::model::partition::Partition;

const BATCH_BYTES: usize = size_of::<i64>();

/// The prefix of a stream's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamPrefix(Vec<u8>);

impl StreamPrefix {
    /// That of a stream.
    pub fn new(partition: Partition, stream: StreamKey<'_>) -> Self {
        let names_bytes = stream.stream_id.len() + stream.tenant_id.len();
        let mut key = Vec::with_capacity(1 + names_bytes + 4);
        write_prefix(&mut key, partition, stream);
        Self(key)
    }

    /// The key of a batch.
    pub fn key(&self, batch_no: i64) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.0.len() + BATCH_BYTES);
        key.extend_from_slice(&self.0);
        key.extend_from_slice(&batch_no.to_be_bytes());
        key
    }
}

/// Writes the key of a batch of a stream over what is in `key`.
pub fn write(key: &mut Vec<u8>, partition: Partition, stream: StreamKey<'_>, batch_no: i64) {
    key.clear();
    write_prefix(key, partition, stream);
    key.extend_from_slice(&batch_no.to_be_bytes());
}

fn write_prefix(key: &mut Vec<u8>, partition: Partition, stream: StreamKey<'_>) {
    key.push(partition.number() as u8);
    write_name(key, stream.stream_id);
    write_name(key, stream.tenant_id);
}

/// Names that end with zeros of their own are told apart by the 255 after each.
fn write_name(key: &mut Vec<u8>, name: &[u8]) {
    let mut parts = name.split(|byte| *byte == 0);
    key.extend_from_slice(parts.next().unwrap_or_default());
    for part in parts {
        key.extend_from_slice(&[0, 255]);
        key.extend_from_slice(part);
    }
    key.extend_from_slice(&[0, 0]);
}

/// Where the name that begins at `start` ends, after its zeros.
fn name_end(key: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        at += key.get(at..)?.iter().position(|byte| *byte == 0)?;
        match key.get(at + 1)? {
            0 => return Some(at + 2),
            _ => at += 2,
        }
    }
}

/// The stream's part of a key; all of it, if it is no key. RocksDB filters by it.
pub fn prefix(key: &[u8]) -> &[u8] {
    let end = name_end(key, 1).and_then(|end| name_end(key, end));
    end.map_or(key, |end| &key[..end])
}

/// The batch number at the end of a key.
pub fn batch_no(key: &[u8]) -> Option<i64> {
    key.last_chunk().copied().map(i64::from_be_bytes)
}

/// A stream's name and tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamName {
    /// its name
    pub stream_id: Vec<u8>,
    /// its tenant
    pub tenant_id: Vec<u8>,
}

impl StreamName {
    /// The same, borrowed.
    pub fn key(&self) -> StreamKey<'_> {
        StreamKey { stream_id: &self.stream_id, tenant_id: &self.tenant_id }
    }
}

impl From<StreamKey<'_>> for StreamName {
    fn from(stream: StreamKey<'_>) -> Self {
        Self { stream_id: stream.stream_id.to_vec(), tenant_id: stream.tenant_id.to_vec() }
    }
}

/// The key before all of a partition.
pub fn first_of(partition: Partition) -> [u8; 1] {
    [partition.number() as u8]
}

/// The key after all of a partition.
pub fn end_of(partition: Partition) -> [u8; 1] {
    [partition.number() as u8 + 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![0u8, 1, b'a', 255]), 0..5)
    }

    fn any_key() -> impl Strategy<Value = (i32, StreamName, i64)> {
        let stream =
            (name(), name()).prop_map(|(stream_id, tenant_id)| StreamName { stream_id, tenant_id });
        (0..32i32, stream, 0..i64::MAX)
    }

    fn encode((partition, stream, batch_no): &(i32, StreamName, i64)) -> Vec<u8> {
        StreamPrefix::new(Partition::new(*partition).unwrap(), stream.key()).key(*batch_no)
    }

    proptest! {
        #[test]
        fn keys_have_the_order_of_what_they_stand_for(one in any_key(), other in any_key()) {
            let (a, b) = (encode(&one), encode(&other));
            prop_assert_eq!(a.cmp(&b), one.cmp(&other));
            prop_assert_eq!(
                prefix(&a) == prefix(&b), (one.0, &one.1) == (other.0, &other.1)
            );
            prop_assert!(one == other || !a.starts_with(&b));
        }

        #[test]
        fn a_key_can_be_taken_apart(parts in any_key()) {
            let key = encode(&parts);
            let partition = Partition::new(parts.0).unwrap();
            prop_assert_eq!(batch_no(&key), Some(parts.2));
            prop_assert_eq!(prefix(&key), &key[..key.len() - 8]);
            prop_assert_eq!(prefix(prefix(&key)), prefix(&key));
            let mut written = vec![7];
            write(&mut written, partition, parts.1.key(), parts.2);
            prop_assert_eq!(&written, &key);
            prop_assert!(first_of(partition)[..] < key[..] && key[..] < end_of(partition)[..]);
        }

        #[test]
        fn any_bytes_are_a_key_or_none(bytes in prop::collection::vec(0..3u8, 0..12)) {
            prop_assert!(bytes.starts_with(prefix(&bytes)));
            let _ = batch_no(&bytes);
        }
    }
}
