//! What changes the sidecar: applying a batch, forgetting, discarding.

use super::database::Sidecar;
use super::error::SidecarError;
use super::key;
use super::mark::Mark;
use super::options;
use crate::codec::hot_batch::{HotBatchReader, HotEvent};
use crate::codec::hot_tail;
use crate::model::batch::Plan;
use crate::model::memory::with_room;
use crate::model::partition::Partition;
use rocksdb::WriteBatch;

/// What each entry of a batch takes in RocksDB's own format, about.
const ENTRY_BYTES: usize = 64;

impl Sidecar {
    /// Applies a batch, all of it or nothing, and says whether that was to do: a batch up to the
    /// partition's mark is in the sidecar already. Batches of a partition come in the order of their
    /// numbers, which begin with 1 and may be skipped.
    pub fn apply(&self, batch: &HotBatchReader<'_>) -> Result<bool, SidecarError> {
        let (partition, batch_no) = (batch.partition(), batch.batch_no());
        let _writing = self.writing.lock();
        let mark = self.marks.get(partition);
        if batch_no <= mark.applied {
            return Ok(false);
        }
        let family = self.events_family()?;
        let mut read: Vec<HotEvent<'_>> = with_room(batch.remaining())?;
        for event in *batch {
            read.push(event?);
        }
        let plan = Plan::new(read.iter().map(|event| event.stream))?;
        // In the order of the keys, which costs RocksDB least.
        let (ranges, arranged) = plan.in_lock_order(&read)?;
        let bytes = read.iter().map(|event| event.event.size_bytes()).sum::<usize>();
        let mut entries = WriteBatch::with_capacity_bytes(bytes + ranges.len() * ENTRY_BYTES);
        let (mut key, mut encoded, mut piece) = (Vec::new(), Vec::new(), Vec::new());
        for (group, range) in ranges {
            let group = &plan.groups()[group];
            if group.partition != partition {
                return Err(SidecarError::ForeignEvent);
            }
            encoded.clear();
            piece.clear();
            let len = range.len();
            for event in &arranged[range] {
                hot_tail::write_event(&mut encoded, event)?;
            }
            hot_tail::write_batch(&mut piece, batch_no, batch.timestamp_us(), len, &encoded)?;
            key::write(&mut key, partition, group.stream, batch_no);
            entries.put_cf(family, &key, &piece);
        }
        let mark = Mark { applied: batch_no, checksum: batch.checksum(), ..mark };
        self.write_marked(entries, partition, mark)?;
        self.marks.set(partition, mark);
        Ok(true)
    }

    /// Forgets the batches up to this one, which are settled and which no snapshot needs: from here on
    /// nobody is told about them. Nothing is written but the mark: compaction drops their entries when
    /// it comes to them, if the mark has been flushed and this was called again since. Until then they
    /// take room.
    pub fn forget(&self, partition: Partition, up_to: i64) -> Result<(), SidecarError> {
        let _writing = self.writing.lock();
        let mark = self.marks.get(partition);
        if up_to > mark.forgotten {
            // A batch that is settled before it was applied need not be applied any more.
            let mark = match up_to > mark.applied {
                true => Mark { applied: up_to, checksum: 0, forgotten: up_to },
                false => Mark { forgotten: up_to, ..mark },
            };
            self.write_marked(WriteBatch::default(), partition, mark)?;
            self.marks.set(partition, mark);
        }
        let flushed = self.database.get_cf_opt(
            self.marks_family()?,
            key::first_of(partition),
            &options::reading_flushed(),
        )?;
        let flushed = flushed.as_deref().map_or(Some(Mark::default()), Mark::from_bytes);
        self.marks.release(partition, flushed.ok_or(SidecarError::Damaged)?);
        Ok(())
    }

    /// Empties a partition. It has to be applied anew from its first batch on that is not settled.
    pub fn discard_partition(&self, partition: Partition) -> Result<(), SidecarError> {
        let _writing = self.writing.lock();
        let (start, end) = (key::first_of(partition), key::end_of(partition));
        let mut entries = WriteBatch::default();
        entries.delete_range_cf(self.events_family()?, start, end);
        // Nobody may rely on entries that are about to go.
        self.marks.discard(partition);
        self.write_marked(entries, partition, Mark::default())
    }

    fn write_marked(
        &self,
        mut entries: WriteBatch,
        partition: Partition,
        mark: Mark,
    ) -> Result<(), SidecarError> {
        entries.put_cf(self.marks_family()?, key::first_of(partition), mark.to_bytes());
        Ok(self.database.write_opt(entries, &options::writing())?)
    }
}
