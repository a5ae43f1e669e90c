//! What a stream's tail holds.

use super::database::Sidecar;
use super::error::SidecarError;
use super::key::{self, StreamPrefix};
use super::options;
use crate::codec::hot_tail::{self, TailEvent, TailReader};
use crate::model::batch::StreamKey;
use crate::model::hot::{Batches, Place};
use crate::model::partition::Partition;
use rocksdb::DBRawIterator;

/// A piece of a tail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TailPage {
    /// the events, as [`hot_tail`] describes them
    pub bytes: Vec<u8>,
    /// how many
    pub events: usize,
    /// if there are more: the place after which they come
    pub next: Option<Place>,
}

impl Sidecar {
    /// The events of a stream in these batches, in their order: those after a place, or all. A page has
    /// about `bytes_max` bytes at most, and one event at least if there is one.
    pub fn tail(
        &self,
        partition: Partition,
        stream: StreamKey<'_>,
        batches: Batches,
        after: Option<Place>,
        bytes_max: usize,
    ) -> Result<TailPage, SidecarError> {
        let prefix = StreamPrefix::new(partition, stream);
        let mut entries = self.entries(partition, &prefix, batches, after)?;
        let mut page = TailPage::default();
        let mut last = None;
        while let Some((key, piece)) = entries.item() {
            let batch_no = key::batch_no(key).ok_or(SidecarError::Damaged)?;
            let after = after.filter(|after| after.batch_no == batch_no).map(|after| after.place);
            let room = bytes_max.saturating_sub(page.bytes.len());
            let mut part = hot_tail::part(piece, after, room)?;
            if part.len == 0 && !part.is_last() {
                if page.events > 0 {
                    page.next = last;
                    return Ok(page);
                }
                part = hot_tail::first(piece, after)?;
            }
            if part.len > 0 {
                hot_tail::write_part(&mut page.bytes, &part)?;
            }
            page.events += part.len;
            last = Some(Place { batch_no, place: part.last_place });
            if !part.is_last() {
                page.next = last;
                return Ok(page);
            }
            entries.next();
        }
        entries.status()?;
        Ok(page)
    }

    /// How many events a stream has in these batches.
    pub fn count(
        &self,
        partition: Partition,
        stream: StreamKey<'_>,
        batches: Batches,
    ) -> Result<u64, SidecarError> {
        let prefix = StreamPrefix::new(partition, stream);
        let mut entries = self.entries(partition, &prefix, batches, None)?;
        let mut events = 0;
        while let Some(piece) = entries.value() {
            events += hot_tail::batch_len(piece)? as u64;
            entries.next();
        }
        entries.status()?;
        Ok(events)
    }

    /// Looks at one event, if it is there. Its batch must not be after the partition's mark.
    pub fn event<T>(
        &self,
        partition: Partition,
        stream: StreamKey<'_>,
        place: Place,
        look: impl FnOnce(TailEvent<'_>) -> T,
    ) -> Result<Option<T>, SidecarError> {
        let family = self.events_family()?;
        let key = StreamPrefix::new(partition, stream).key(place.batch_no);
        let batches = Batches { after: place.batch_no - 1, up_to: place.batch_no };
        let piece = self.look_at(partition, batches, || {
            Ok(self.database.get_pinned_cf_opt(family, key, &self.reading_one)?)
        })?;
        let Some(piece) = piece else { return Ok(None) };
        for event in TailReader::new(&piece) {
            let event = event?;
            if event.place == place.place {
                return Ok(Some(look(event)));
            }
        }
        Ok(None)
    }

    /// The entries of a stream, from the batch on that comes after a place.
    fn entries<'a>(
        &'a self,
        partition: Partition,
        prefix: &StreamPrefix,
        batches: Batches,
        after: Option<Place>,
    ) -> Result<DBRawIterator<'a>, SidecarError> {
        // Batch numbers begin with 1.
        let first = batches.after.max(0).saturating_add(1);
        let first = after.map_or(first, |after| first.max(after.batch_no));
        let end = prefix.key(batches.up_to.max(0).saturating_add(1));
        let family = self.events_family()?;
        self.look_at(partition, batches, || {
            let options = options::reading_stream(end);
            let mut entries = self.database.raw_iterator_cf_opt(family, options);
            entries.seek(prefix.key(first));
            Ok(entries)
        })
    }
}
