//! A piece of a walk over the tails of a partition: streams in their order, each with a piece of its
//! tail.
//!
//! ```text
//! for each stream:
//!   bytes of stream_id     varint
//!   bytes of tenant_id     varint
//!   bytes of the piece     varint
//!   stream_id, tenant_id
//!   the piece              as in `hot_tail`
//! ```
//!
//! A stream whose tail is long goes on in the next piece of the walk, under its name again.

use super::hot_tail::{DamagedTail, TailReader};
use super::varint;
use crate::model::batch::StreamKey;
use crate::model::memory::{OutOfMemory, reserve};

/// Numbers of a stream.
const STREAM_OVERHEAD_MAX: usize = 3 * varint::VARINT_BYTES_MAX;

/// Appends a stream with a piece of its tail.
pub fn write_stream(
    out: &mut Vec<u8>,
    stream: StreamKey<'_>,
    tail: &[u8],
) -> Result<(), OutOfMemory> {
    let names_bytes = stream.stream_id.len() + stream.tenant_id.len();
    reserve(out, STREAM_OVERHEAD_MAX + names_bytes + tail.len())?;
    varint::write_len(out, stream.stream_id.len());
    varint::write_len(out, stream.tenant_id.len());
    varint::write_len(out, tail.len());
    out.extend_from_slice(stream.stream_id);
    out.extend_from_slice(stream.tenant_id);
    out.extend_from_slice(tail);
    Ok(())
}

/// Walks over the streams of a piece.
#[derive(Clone, Copy, Debug)]
pub struct WalkReader<'a> {
    rest: &'a [u8],
}

impl<'a> WalkReader<'a> {
    /// Begins to read a piece.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn read(&mut self) -> Option<(StreamKey<'a>, TailReader<'a>)> {
        let rest = &mut self.rest;
        let stream_id = varint::read_len(rest)?;
        let tenant_id = varint::read_len(rest)?;
        let tail = varint::read_len(rest)?;
        let stream_id = varint::take(rest, stream_id)?;
        let tenant_id = varint::take(rest, tenant_id)?;
        let tail = varint::take(rest, tail)?;
        Some((StreamKey { stream_id, tenant_id }, TailReader::new(tail)))
    }
}

impl<'a> Iterator for WalkReader<'a> {
    type Item = Result<(StreamKey<'a>, TailReader<'a>), DamagedTail>;

    /// The next stream. After an error there is none.
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let stream = self.read();
        if stream.is_none() {
            self.rest = &[];
        }
        Some(stream.ok_or(DamagedTail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_end(
            names in prop::collection::vec(("[a-z]{0,9}", "[a-z]{0,3}"), 0..5),
            at: prop::sample::Index,
            byte: u8,
        ) {
            let mut bytes = Vec::new();
            for (stream, tenant) in &names {
                let stream =
                    StreamKey { stream_id: stream.as_bytes(), tenant_id: tenant.as_bytes() };
                write_stream(&mut bytes, stream, b"").unwrap();
            }
            let read: Vec<_> = WalkReader::new(&bytes).map(|stream| stream.unwrap().0).collect();
            prop_assert_eq!(read.len(), names.len());
            for (stream, (stream_id, tenant_id)) in read.iter().zip(&names) {
                prop_assert_eq!(stream.stream_id, stream_id.as_bytes());
                prop_assert_eq!(stream.tenant_id, tenant_id.as_bytes());
            }
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
                let walked = WalkReader::new(&bytes).flatten().map(|(_, tail)| tail.count());
                prop_assert!(walked.sum::<usize>() <= bytes.len());
            }
        }
    }
}
