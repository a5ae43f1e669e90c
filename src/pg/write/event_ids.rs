//! Writing the event ids that callers give, so that a retried append is recognised.

use crate::model::event::NewEvent;
use crate::model::partition::Partition;
use crate::pg::error::Error;
use crate::pg::tables::leaf_writer::{Executor, LeafWriter};
use crate::pg::tables::relation::{For, Leaf, Root};
use pgrx::pg_sys;

/// Rows that are inserted together.
const ROWS_PER_INSERT: usize = 64;

/// Writes the ids of new events.
pub struct IdWriter {
    leaf: Leaf,
    partition: Partition,
    writer: LeafWriter,
    filled: usize,
}

impl IdWriter {
    /// Opens the ids of a partition.
    pub fn open(partition: Partition, executor: &Executor) -> Result<Self, Error> {
        let leaf = Leaf::open(Root::Ids, partition, For::Writing)?;
        Ok(Self { leaf, partition, writer: LeafWriter::open(&leaf, executor), filled: 0 })
    }

    /// Writes the ids of consecutive events.
    pub fn push(&mut self, stream_no: i64, first_version: i64, events: &[NewEvent<'_>]) {
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
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        if self.filled > 0 {
            self.writer.insert(self.filled);
            self.filled = 0;
        }
    }

    /// Writes what is left and closes.
    pub fn close(mut self) {
        self.flush();
        self.writer.close();
        self.leaf.close();
    }
}
