//! Batches: the rows of `hot_batches`.
#![expect(unsafe_code, reason = "takes PostgreSQL's rows apart")]

use crate::codec::hot_batch::{BatchStreams, DamagedBatch, HotBatchReader, HotBatchRow};
use crate::model::partition::Partition;
use crate::pg::call::datum::{body, text};
use crate::pg::error::Error;
use crate::pg::session::scratch::Scratch;
use crate::pg::session::xact::check_for_interrupts;
use crate::pg::tables::leaf_writer::LeafWriter;
use crate::pg::tables::relation::{For, Leaf};
use crate::pg::tables::scan::{Direction, Key, Scan};
use crate::pg::tables::schema::{LeafIndex, Root, batches};
use crate::pg::tables::writing::Writing;
use pgrx::pg_sys;
use std::cell::OnceCell;

/// The batches of a partition, as a snapshot shows them.
pub struct Batches {
    partition: Partition,
    scan: Scan,
    scratch: Scratch,
}

/// A row of `hot_batches`, whose checksums were not compared yet. What is stored outside of it is fetched
/// and unpacked when it is asked for.
pub struct StoredBatch<'a> {
    /// its partition
    pub partition: Partition,
    /// its number
    pub batch_no: i64,
    /// how many events it has
    pub len: i32,
    /// CRC-32C over both and the body
    pub checksum: i32,
    values: &'a [pg_sys::Datum],
    body: OnceCell<&'a [u8]>,
}

impl<'a> StoredBatch<'a> {
    /// What `codec::hot_batch` has written.
    pub fn body(&self) -> &'a [u8] {
        // SAFETY: a bytea, unpacked into the memory of the step that the batch lives in.
        self.body.get_or_init(|| unsafe { body(self.values[batches::BODY]) })
    }

    /// How many bytes the body has. It is not unpacked for that.
    pub fn body_bytes(&self) -> usize {
        // SAFETY: a bytea; its size is that of its bytes and a length word.
        let size = unsafe { pg_sys::toast_raw_datum_size(self.values[batches::BODY]) };
        size.saturating_sub(pg_sys::VARHDRSZ)
    }

    /// Which streams have events in it.
    pub fn streams(&self) -> Result<BatchStreams<'a>, Error> {
        // SAFETY: as above.
        let stored = unsafe { body(self.values[batches::STREAMS]) };
        BatchStreams::open(self.partition, self.batch_no, stored)
            .map_err(|source| self.damaged(source))
    }

    /// Begins to read the events.
    pub fn events(&self) -> Result<HotBatchReader<'a>, Error> {
        HotBatchReader::open(self.partition, self.batch_no, self.checksum, self.body())
            .map_err(|source| self.damaged(source))
    }

    /// The error for this batch.
    pub fn damaged(&self, source: DamagedBatch) -> Error {
        let (partition_id, batch_no) = (self.partition.number(), self.batch_no);
        Error::DamagedBatch { partition_id, batch_no, source }
    }
}

impl Batches {
    /// Opens the leaf of a partition. The snapshot must live as long.
    pub fn open(partition: Partition, snapshot: pg_sys::Snapshot) -> Result<Self, Error> {
        let leaf = Leaf::open(Root::Batches, partition, For::Reading)?;
        let scan = Scan::open(leaf, LeafIndex::ByStream, snapshot, 2);
        Ok(Self { partition, scan, scratch: Scratch::new() })
    }

    /// The number of the last batch.
    pub fn last(&mut self) -> Option<i64> {
        self.find(i64::MIN, i64::MAX);
        self.scan.next(Direction::Backward).then(|| self.batch_no())
    }

    /// Whether there is this batch.
    pub fn has(&mut self, batch_no: i64) -> bool {
        self.find(batch_no - 1, batch_no);
        self.scan.next(Direction::Forward)
    }

    /// The number of the first batch, and when it was written, in microseconds since 2000-01-01.
    pub fn first(&mut self) -> Option<(i64, i64)> {
        self.find(i64::MIN, i64::MAX);
        self.scan.next(Direction::Forward).then(|| {
            let written_at = self.scan.row().0[batches::WRITTEN_AT];
            (self.batch_no(), written_at.value() as i64)
        })
    }

    /// Passes the batches after `after` up to `last`, in their order, until `use_batch` returns `false`.
    pub fn read(
        &mut self,
        after: i64,
        last: i64,
        mut use_batch: impl FnMut(StoredBatch<'_>) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        self.find(after, last);
        while self.scan.next(Direction::Forward) {
            check_for_interrupts();
            let goes_on = self.scratch.run(|_memory| {
                let values = self.scan.row().0;
                use_batch(StoredBatch {
                    partition: self.partition,
                    batch_no: values[batches::BATCH_NO].value() as i64,
                    len: values[batches::EVENTS].value() as i32,
                    checksum: values[batches::CHECKSUM].value() as i32,
                    values,
                    body: OnceCell::new(),
                })
            })?;
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    fn find(&mut self, after: i64, last: i64) {
        self.scan.find(&[(1, Key::Int8Above(after)), (1, Key::Int8AtMost(last))]);
    }

    fn batch_no(&self) -> i64 {
        self.scan.row().0[batches::BATCH_NO].value() as i64
    }
}

/// Writes batches of a partition.
pub struct BatchWriter<'t> {
    partition: Partition,
    writer: LeafWriter<'t>,
}

impl<'t> BatchWriter<'t> {
    /// Opens the leaf of a partition.
    pub fn open(partition: Partition, writing: &'t Writing) -> Result<Self, Error> {
        let writer = LeafWriter::open(Root::Batches, partition, writing)?;
        Ok(Self { partition, writer })
    }

    /// Writes a batch.
    pub fn write(&mut self, written_at_us: i64, row: HotBatchRow<'_>) -> Result<(), Error> {
        // A bytea is made of its bytes as a text is.
        let (streams, body) = (text(row.streams), text(row.body));
        self.writer.fill(
            0,
            [
                Some(pg_sys::Datum::from(row.batch_no)),
                Some(pg_sys::Datum::from(written_at_us)),
                Some(pg_sys::Datum::from(self.partition.number())),
                Some(pg_sys::Datum::from(row.events as i32)),
                Some(pg_sys::Datum::from(row.checksum)),
                Some(streams),
                Some(body),
            ],
        );
        self.writer.insert(1)?;
        for value in [streams, body] {
            // SAFETY: made above; the row was copied.
            unsafe { pg_sys::pfree(value.cast_mut_ptr()) };
        }
        Ok(())
    }
}
