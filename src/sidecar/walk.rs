//! Walking over the tails of a partition in the order of its streams.

use super::database::Sidecar;
use super::error::SidecarError;
use super::key::{self, StreamName, StreamPrefix};
use super::options;
use crate::codec::{hot_tail, hot_walk};
use crate::model::batch::StreamKey;
use crate::model::hot::Batches;
use crate::model::partition::Partition;
use rocksdb::DBRawIterator;

/// A call looks at about so many entries at most: forgotten ones are passed over one by one.
const ENTRIES_MAX: usize = 1 << 16;

/// A stream with a tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamTail {
    /// its name
    pub stream: StreamName,
    /// how many events it has in the batches
    pub events: u64,
    /// number of the first batch that has one
    pub first_batch: i64,
    /// number of the last batch that has one
    pub last_batch: i64,
}

/// Streams with a tail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamsPage {
    /// in the order of their keys
    pub streams: Vec<StreamTail>,
    /// if there may be more: the one after which they come
    pub next: Option<StreamName>,
}

/// How far a walk has come. Opaque; it stays valid as long as the partition is not discarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkCursor(Vec<u8>);

impl WalkCursor {
    /// After all of a stream.
    pub fn after(partition: Partition, stream: StreamKey<'_>) -> Self {
        Self::new(&StreamPrefix::new(partition, stream).after_all(), u32::MAX)
    }

    /// Bytes to hand on.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Those that were handed on. Others make a walk begin anywhere.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    fn new(key: &[u8], place: u32) -> Self {
        Self([key, &place.to_be_bytes()].concat())
    }

    /// The key of the last entry, and the place in it up to which the walk has come.
    fn parts(&self) -> (&[u8], u32) {
        let parts = self.0.split_last_chunk();
        parts.map_or((&[], 0), |(key, place)| (key, u32::from_be_bytes(*place)))
    }
}

/// A piece of a walk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalkPage {
    /// the streams with their events, as [`hot_walk`] describes them
    pub bytes: Vec<u8>,
    /// how many streams
    pub streams: usize,
    /// how many events
    pub events: usize,
    /// if there may be more: where to go on
    pub next: Option<WalkCursor>,
}

/// The stream that is being walked over.
struct Walked {
    prefix: Vec<u8>,
    tail: Vec<u8>,
}

impl WalkPage {
    fn finish(&mut self, walked: Option<Walked>) -> Result<(), SidecarError> {
        let Some(Walked { prefix, tail }) = walked else { return Ok(()) };
        let name = StreamName::of_key(&prefix).ok_or(SidecarError::Damaged)?;
        hot_walk::write_stream(&mut self.bytes, name.key(), &tail)?;
        self.streams += 1;
        Ok(())
    }
}

impl Sidecar {
    /// The streams of a partition with events in these batches, in the order of [`StreamKey`]: those
    /// after one, or all; `streams_max` at most. A page may be empty and still have more after it.
    pub fn streams(
        &self,
        partition: Partition,
        batches: Batches,
        after: Option<StreamKey<'_>>,
        streams_max: usize,
    ) -> Result<StreamsPage, SidecarError> {
        let start = after.map_or(key::first_of(partition).to_vec(), |stream| {
            StreamPrefix::new(partition, stream).after_all()
        });
        let mut entries = self.entries_of(partition, batches, &start)?;
        let mut page = StreamsPage::default();
        let mut prefix = Vec::new();
        let mut is_listed = false;
        let mut seen = 0;
        while let Some((key, piece)) = entries.item() {
            if prefix != key::prefix(key) {
                if page.streams.len() >= streams_max || seen >= ENTRIES_MAX {
                    page.next = StreamName::of_key(&prefix);
                    return Ok(page);
                }
                prefix = key::prefix(key).to_vec();
                is_listed = false;
            }
            seen += 1;
            let batch_no = key::batch_no(key).ok_or(SidecarError::Damaged)?;
            if batches.contains(batch_no) {
                let events = hot_tail::batch_len(piece)? as u64;
                match page.streams.last_mut().filter(|_| is_listed) {
                    Some(stream) => {
                        stream.events += events;
                        stream.last_batch = batch_no;
                    }
                    None => {
                        let stream = StreamName::of_key(key).ok_or(SidecarError::Damaged)?;
                        let (first_batch, last_batch) = (batch_no, batch_no);
                        page.streams.push(StreamTail { stream, events, first_batch, last_batch });
                        is_listed = true;
                    }
                }
            }
            entries.next();
        }
        entries.status()?;
        Ok(page)
    }

    /// The events of a partition in these batches, stream by stream in the order of [`StreamKey`]: from
    /// where a walk has come to, or all. A page has about `bytes_max` bytes at most, and one event at
    /// least unless it has passed over very many entries of other batches.
    pub fn walk(
        &self,
        partition: Partition,
        batches: Batches,
        from: Option<&WalkCursor>,
        bytes_max: usize,
    ) -> Result<WalkPage, SidecarError> {
        let first = key::first_of(partition);
        let (start, place) = from.map_or((&first[..], 0), WalkCursor::parts);
        let mut entries = self.entries_of(partition, batches, start)?;
        let mut page = WalkPage::default();
        let mut walked: Option<Walked> = None;
        let mut last = None;
        let mut seen = 0;
        while let Some((key, piece)) = entries.item() {
            seen += 1;
            let batch_no = key::batch_no(key).ok_or(SidecarError::Damaged)?;
            if !batches.contains(batch_no) {
                if seen >= ENTRIES_MAX {
                    page.next = Some(WalkCursor::new(key, u32::MAX));
                    break;
                }
                entries.next();
                continue;
            }
            let prefix = key::prefix(key);
            if walked.as_ref().is_none_or(|walked| walked.prefix != prefix) {
                page.finish(walked.take())?;
            }
            let after = (from.is_some() && key == start).then_some(place);
            let used = page.bytes.len() + walked.as_ref().map_or(0, |walked| walked.tail.len());
            let mut part = hot_tail::part(piece, after, bytes_max.saturating_sub(used))?;
            if part.len == 0 && !part.is_last() {
                if page.events > 0 {
                    page.next = last;
                    break;
                }
                part = hot_tail::first(piece, after)?;
            }
            if part.len > 0 {
                let walked = walked
                    .get_or_insert_with(|| Walked { prefix: prefix.to_vec(), tail: Vec::new() });
                hot_tail::write_part(&mut walked.tail, &part)?;
                page.events += part.len;
            }
            last = Some(WalkCursor::new(key, part.last_place));
            if !part.is_last() || seen >= ENTRIES_MAX {
                page.next = last;
                break;
            }
            entries.next();
        }
        entries.status()?;
        page.finish(walked)?;
        Ok(page)
    }

    /// The entries of a partition, from a key on.
    fn entries_of<'a>(
        &'a self,
        partition: Partition,
        batches: Batches,
        start: &[u8],
    ) -> Result<DBRawIterator<'a>, SidecarError> {
        let family = self.events_family()?;
        self.look_at(partition, batches, || {
            let options = options::reading_partition(partition);
            let mut entries = self.database.raw_iterator_cf_opt(family, options);
            entries.seek(start);
            Ok(entries)
        })
    }
}
