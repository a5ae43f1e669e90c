//! The streams of a pass with their tails, in the order in which streams are locked.

use crate::codec::hot_tail::{self, DamagedTail};
use crate::codec::hot_walk::WalkReader;
use crate::drain::failure::Failure;
use crate::model::batch::StreamKey;
use crate::model::hot;
use crate::model::memory::copied;
use crate::model::partition::Partition;
use crate::pg::error::Error;
use crate::pg::hot::batches::Batches;
use crate::pg::hot::tail::Tail;
use crate::pg::session::xact::with_snapshot_of_now;
use crate::pg::sidecar::Index;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Bytes of bodies that are held in memory at once.
const BYTES_MAX: usize = 64 << 20;

/// A longer tail of one stream is settled in parts.
const STREAM_BYTES_MAX: usize = 16 << 20;

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

/// A stream with its tail, or the next part of it.
#[derive(Clone, Debug)]
pub struct StreamTail {
    /// the stream
    pub name: StreamName,
    /// its events
    pub tail: Rc<Tail>,
}

impl StreamTail {
    fn new(name: StreamName, pieces: Vec<u8>, up_to: i64) -> Result<Self, Failure> {
        let tail = Tail::new(pieces, up_to).map_err(|error| error.to_failure())?;
        Ok(Self { name, tail: Rc::new(tail) })
    }
}

/// Streams of a pass that are still to be settled.
#[derive(Debug)]
pub struct Source {
    partition: Partition,
    up_to: i64,
    /// from the table
    streams: BTreeMap<StreamName, Vec<u8>>,
    /// from the sidecar, behind those of the table
    walk: Option<Walk>,
}

#[derive(Debug)]
struct Walk {
    batches: hot::Batches,
    cursor: Option<Vec<u8>>,
    /// the last stream that was read, which may go on
    last: Option<(StreamName, Vec<u8>)>,
}

impl Source {
    /// The streams of the batches after `after`, from the table: as many batches as there is memory for.
    /// `None` if there is none.
    pub fn in_memory(partition: Partition, after: i64) -> Result<Option<Self>, Error> {
        let mut source = Self { partition, up_to: 0, streams: BTreeMap::new(), walk: None };
        let last = source.read(after, i64::MAX, BYTES_MAX)?;
        Ok(last.map(|up_to| Self { up_to, ..source }))
    }

    /// The streams of the batches up to `up_to`: from the table those up to `settled`, which are what passes
    /// have left, and the others from the sidecar. `None` if there are too many in the table.
    pub fn walking(partition: Partition, settled: i64, up_to: i64) -> Result<Option<Self>, Error> {
        let batches = hot::Batches { after: settled, up_to };
        let walk = Walk { batches, cursor: None, last: None };
        let mut source = Self { partition, up_to, streams: BTreeMap::new(), walk: Some(walk) };
        if up_to <= settled {
            source.walk = None;
        }
        let bytes_max = BYTES_MAX;
        let read = source.read(i64::MIN, settled.min(up_to), bytes_max)?;
        let is_all = read.is_none_or(|read| read == settled) || {
            let next = with_snapshot_of_now(|snapshot| {
                let mut is_more = false;
                Batches::open(partition, snapshot)?.read(
                    read.unwrap_or(i64::MIN),
                    settled,
                    |_| {
                        is_more = true;
                        Ok(false)
                    },
                )?;
                Ok::<_, Error>(is_more)
            })?;
            !next
        };
        Ok(is_all.then_some(source))
    }

    /// The last batch of the pass.
    pub fn up_to(&self) -> i64 {
        self.up_to
    }

    /// Reads batches from the table. Returns the last one.
    fn read(&mut self, after: i64, last: i64, bytes_max: usize) -> Result<Option<i64>, Error> {
        let (mut bytes, mut read) = (0, None);
        let mut one = Vec::new();
        with_snapshot_of_now(|snapshot| {
            Batches::open(self.partition, snapshot)?.read(after, last, |batch| {
                for event in batch.events()? {
                    let event = event.map_err(|source| batch.damaged(source))?;
                    one.clear();
                    hot_tail::write_event(&mut one, &event)?;
                    let pieces = self.streams.entry(StreamName::of(event.stream)?).or_default();
                    hot_tail::write_batch(pieces, batch.batch_no, event.timestamp_us, 1, &one)?;
                }
                read = Some(batch.batch_no);
                bytes += batch.body.len();
                Ok(bytes < bytes_max)
            })
        })?;
        Ok(read)
    }

    /// The next streams; none at the end.
    pub fn next_page(&mut self, mut index: Option<&mut Index>) -> Result<Vec<StreamTail>, Failure> {
        let mut page = Vec::new();
        let (partition, up_to) = (self.partition, self.up_to);
        while let Some(walk) = &mut self.walk {
            let away = || Error::Sidecar { reason: "it is away".into() }.to_failure();
            let index = index.as_deref_mut().ok_or_else(away)?;
            let (found, is_end) = walk.next(partition, index)?;
            for (name, pieces, up_to) in found {
                // Those of the table come first.
                while let Some(first) = self.streams.first_entry()
                    && *first.key() < name
                {
                    let (name, pieces) = first.remove_entry();
                    page.push(StreamTail::new(name, pieces, self.up_to)?);
                }
                let pieces = match self.streams.remove(&name) {
                    None => pieces,
                    Some(mut all) => {
                        all.extend_from_slice(&pieces);
                        all
                    }
                };
                page.push(StreamTail::new(name, pieces, up_to.unwrap_or(self.up_to))?);
            }
            if is_end {
                self.walk = None;
            }
            if !page.is_empty() {
                return Ok(page);
            }
        }
        let mut bytes = 0;
        while page.len() < PAGE_STREAMS && bytes < PAGE_BYTES {
            let Some((name, pieces)) = self.streams.pop_first() else { break };
            bytes += pieces.len();
            page.push(StreamTail::new(name, pieces, up_to)?);
        }
        Ok(page)
    }
}

/// A stream, pieces of its tail, and up to which batch they are complete; `None`: up to the last one.
type Found = (StreamName, Vec<u8>, Option<i64>);

impl Walk {
    /// The next streams, and whether these are the last.
    fn next(
        &mut self,
        partition: Partition,
        index: &mut Index,
    ) -> Result<(Vec<Found>, bool), Failure> {
        let cursor = self.cursor.as_deref();
        let walked = index
            .walk(partition, self.batches, cursor, PAGE_BYTES)
            .map_err(|refusal| Error::Sidecar { reason: refusal.to_string() }.to_failure())?;
        let mut found: Vec<Found> = Vec::new();
        let damaged = |damaged: DamagedTail| Error::from(damaged).to_failure();
        for stream in WalkReader::new(&walked.bytes) {
            let (key, pieces) = stream.map_err(damaged)?;
            match &mut self.last {
                Some((name, all)) if name.key() == key => all.extend_from_slice(pieces.bytes()),
                last => {
                    let name = StreamName::of(key).map_err(|error| error.to_failure())?;
                    let next = (name, pieces.bytes().to_vec());
                    found.extend(last.replace(next).map(|(name, pieces)| (name, pieces, None)));
                }
            }
        }
        self.cursor = walked.next;
        let is_end = self.cursor.is_none();
        if is_end {
            found.extend(self.last.take().map(|(name, pieces)| (name, pieces, None)));
        } else if let Some((name, all)) = &mut self.last
            && all.len() > STREAM_BYTES_MAX
            && let Some((start, batch_no)) = hot_tail::last_batch(all).map_err(damaged)?
        {
            // The stream is settled in parts, each of whole batches.
            let rest = all.split_off(start);
            found.push((name.clone(), std::mem::replace(all, rest), Some(batch_no - 1)));
        }
        Ok((found, is_end))
    }
}
