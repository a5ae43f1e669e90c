//! The streams of a pass with their tails, in the order in which streams are locked.

use crate::codec::hot_tail;
use crate::model::batch::StreamKey;
use crate::model::memory::copied;
use crate::model::partition::Partition;
use crate::pg::error::Error;
use crate::pg::hot::batches::Batches;
use crate::pg::session::xact::with_snapshot_of_now;
use std::collections::BTreeMap;

/// Bytes of bodies that are held in memory at once.
const BYTES_MAX: usize = 64 << 20;

/// Streams and bytes of a page.
const PAGE_STREAMS: usize = 5_000;
const PAGE_BYTES: usize = 4 << 20;

/// The name of a stream, in the order in which streams are locked.
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

    fn of(key: StreamKey<'_>) -> Result<Self, Error> {
        Ok(Self { stream_id: copied(key.stream_id)?, tenant_id: copied(key.tenant_id)? })
    }
}

/// A stream with pieces of its tail, as `codec::hot_tail` writes them.
#[derive(Clone, Debug)]
pub struct StreamTail {
    /// the stream
    pub name: StreamName,
    /// its events
    pub pieces: Vec<u8>,
}

/// Streams of a pass that are still to be settled.
#[derive(Debug, Default)]
pub struct Source {
    streams: BTreeMap<StreamName, Vec<u8>>,
}

impl Source {
    /// The streams of the batches after `after`, from the table: as many batches as there is memory for.
    /// Returns the last of them too; `None` if there is none.
    pub fn read(partition: Partition, after: i64) -> Result<Option<(Self, i64)>, Error> {
        let mut source = Self::default();
        let (mut bytes, mut last) = (0, None);
        let mut one = Vec::new();
        with_snapshot_of_now(|snapshot| {
            Batches::open(partition, snapshot)?.read(after, i64::MAX, |batch| {
                for event in batch.events()? {
                    let event = event.map_err(|source| batch.damaged(source))?;
                    one.clear();
                    hot_tail::write_event(&mut one, &event)?;
                    let pieces = source.streams.entry(StreamName::of(event.stream)?).or_default();
                    hot_tail::write_batch(pieces, batch.batch_no, event.timestamp_us, 1, &one)?;
                }
                last = Some(batch.batch_no);
                bytes += batch.body.len();
                Ok(bytes < BYTES_MAX)
            })
        })?;
        Ok(last.map(|last| (source, last)))
    }

    /// The next streams; none at the end.
    pub fn next_page(&mut self) -> Vec<StreamTail> {
        let mut page = Vec::new();
        let mut bytes = 0;
        while page.len() < PAGE_STREAMS && bytes < PAGE_BYTES {
            let Some((name, pieces)) = self.streams.pop_first() else { break };
            bytes += pieces.len();
            page.push(StreamTail { name, pieces });
        }
        page
    }
}
