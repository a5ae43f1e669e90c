//! Writing runs: the rows of `event_log`.
#![expect(unsafe_code, reason = "points into encoded runs")]

use crate::codec::checksum::RunKey;
use crate::codec::run::{EncodedRun, encode_run};
use crate::model::event::NewEvent;
use crate::model::event_times::EventTimes;
use crate::model::memory::push;
use crate::model::partition::Partition;
use crate::model::run::cut_runs;
use crate::pg::error::Error;
use crate::pg::session::xact::check_for_interrupts;
use crate::pg::tables::leaf_writer::LeafWriter;
use crate::pg::tables::schema::Root;
use crate::pg::tables::writing::Writing;
use pgrx::pg_sys;

/// Runs that are inserted together: enough to share pages and WAL records.
const RUNS_PER_INSERT: usize = 64;

/// Bytes of encoded runs that are inserted together at most, except for a single run.
const BYTES_PER_INSERT: usize = 512 * 1024;

/// Where the events of one append go.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// number of the stream
    pub stream_no: i64,
    /// version of the first event
    pub first_version: i64,
    /// position of the first event
    pub first_position: i64,
    /// times of the events
    pub times: EventTimes<'a>,
}

/// Runs that are encoded and not yet inserted. One writer hands it on, empty, to the next.
#[derive(Default)]
pub struct PendingRuns {
    encoded: Vec<u8>,
    runs: Vec<(RunKey, EncodedRun)>,
}

/// Writes the runs of a partition.
pub struct LogWriter<'t> {
    partition: Partition,
    writer: LeafWriter<'t>,
    pending: PendingRuns,
}

impl<'t> LogWriter<'t> {
    /// Opens the log of a partition.
    pub fn open(
        partition: Partition,
        writing: &'t Writing,
        pending: PendingRuns,
    ) -> Result<Self, Error> {
        let writer = LeafWriter::open(Root::Log, partition, writing)?;
        Ok(Self { partition, writer, pending })
    }

    /// Writes events of one stream.
    pub fn push(&mut self, target: Target<'_>, events: &[NewEvent<'_>]) -> Result<(), Error> {
        let time_bytes = target.times.bytes_per_event();
        for run in cut_runs(events.iter().map(|event| event.size_bytes() + time_bytes)) {
            let (timestamp_us, timestamps_us) = target.times.of_run(run.clone());
            let key = RunKey {
                stream_no: target.stream_no,
                first_version: target.first_version + run.start as i64,
                position: target.first_position + run.start as i64,
                timestamp_us,
            };
            let encoded =
                encode_run(&mut self.pending.encoded, key, timestamps_us, events[run].iter())?;
            push(&mut self.pending.runs, (key, encoded))?;
            if self.pending.runs.len() == RUNS_PER_INSERT
                || self.pending.encoded.len() >= BYTES_PER_INSERT
            {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.pending.runs.is_empty() {
            return Ok(());
        }
        check_for_interrupts();
        let base = self.pending.encoded.as_ptr();
        // SAFETY: offsets are of this buffer, which stays as it is until the rows are inserted.
        let column = |offset: usize| Some(pg_sys::Datum::from(unsafe { base.add(offset) }));
        let int8 = |value: i64| Some(pg_sys::Datum::from(value));
        for (index, (key, run)) in self.pending.runs.iter().enumerate() {
            self.writer.fill(
                index,
                [
                    int8(key.stream_no),
                    int8(key.first_version),
                    int8(key.position),
                    int8(key.timestamp_us),
                    Some(pg_sys::Datum::from(self.partition.number())),
                    Some(pg_sys::Datum::from(run.checksum)),
                    column(run.event_types),
                    column(run.payloads),
                    run.metadata.and_then(column),
                    run.event_ids.and_then(column),
                    run.timestamps.and_then(column),
                ],
            );
        }
        self.writer.insert(self.pending.runs.len())?;
        self.pending.runs.clear();
        self.pending.encoded.clear();
        Ok(())
    }

    /// Writes what is left and closes.
    pub fn close(mut self) -> Result<PendingRuns, Error> {
        self.flush()?;
        Ok(self.pending)
    }
}
