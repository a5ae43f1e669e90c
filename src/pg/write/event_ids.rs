//! Writing the event ids that callers give, so that a retried append is recognized.

use crate::model::event::NewEvent;
use crate::model::partition::Partition;
use crate::pg::error::Error;
use crate::pg::tables::leaf_writer::LeafWriter;
use crate::pg::tables::schema::Root;
use crate::pg::tables::writing::Writing;
use pgrx::pg_sys;

/// Rows that are inserted together.
const ROWS_PER_INSERT: usize = 64;

/// Writes the ids of new events.
pub struct IdWriter<'t> {
    partition: Partition,
    writer: LeafWriter<'t>,
    filled: usize,
}

impl<'t> IdWriter<'t> {
    /// Opens the ids of a partition.
    pub fn open(partition: Partition, writing: &'t Writing) -> Result<Self, Error> {
        let writer = LeafWriter::open(Root::Ids, partition, writing)?;
        Ok(Self { partition, writer, filled: 0 })
    }

    /// Writes the ids of consecutive events.
    pub fn push(
        &mut self,
        stream_no: i64,
        first_version: i64,
        events: &[NewEvent<'_>],
    ) -> Result<(), Error> {
        for (version, event) in (first_version..).zip(events) {
            let Some(id) = &event.event_id else { continue };
            self.writer.fill(
                self.filled,
                [
                    Some(pg_sys::Datum::from(stream_no)),
                    Some(pg_sys::Datum::from(version)),
                    Some(pg_sys::Datum::from(self.partition.number())),
                    Some(pg_sys::Datum::from(id.as_ptr())),
                ],
            );
            self.filled += 1;
            if self.filled == ROWS_PER_INSERT {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.filled > 0 {
            self.writer.insert(self.filled)?;
            self.filled = 0;
        }
        Ok(())
    }

    /// Writes what is left and closes.
    pub fn close(mut self) -> Result<(), Error> {
        self.flush()
    }
}
