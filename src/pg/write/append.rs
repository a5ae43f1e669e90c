//! Appending: heads first, then positions, then runs.

use super::head_writer::{Advanced, HeadWriter};
use super::log_writer::{LogWriter, PendingRuns, Target};
use crate::model::stream_append::StreamAppend;
use crate::pg::error::Error;
use crate::pg::positions::counter::Positions;
use crate::pg::session::xact::{advance_command, check_writable};
use crate::pg::shared::counting;
use crate::pg::tables::heads::Head;
use crate::pg::tables::leaf_writer::Executor;
use crate::pg::tables::rights::check_writer;
use crate::pg::write::event_ids::IdWriter;
use std::mem::take;

/// What an append has written, or what it found written already.
#[derive(Clone, Copy, Debug)]
pub struct Appended {
    /// version of the first event
    pub first_version: i64,
    /// version of the last
    pub last_version: i64,
    /// position of the first
    pub first_position: i64,
}

/// Appends to streams; all or nothing, in the caller's transaction. `appends` stand in the order in
/// which streams are locked (`Plan::lock_order`), and none is without events. The results are in
/// the same order.
pub fn append(appends: &[StreamAppend<'_>]) -> Result<Vec<Appended>, Error> {
    check_writable()?;
    check_writer()?;
    let positions = Positions::open()?;
    let executor = Executor::new();

    let mut advanced = Vec::with_capacity(appends.len());
    for partition in appends.chunk_by(|a, b| a.partition == b.partition) {
        let mut heads = HeadWriter::open(partition[0].partition, &executor)?;
        for append in partition {
            advanced.push(heads.advance(append)?);
        }
        heads.close();
    }

    // All streams are locked: now positions can be taken, in the same order as versions.
    let events: usize = std::iter::zip(appends, &advanced)
        .filter(|(_, advanced)| matches!(advanced, Advanced::Moved { .. }))
        .map(|(append, _)| append.events.len())
        .sum();
    let mut next_position = if events > 0 { positions.take(events as u64)? as i64 } else { 0 };

    let mut appended = Vec::with_capacity(appends.len());
    let mut pending = PendingRuns::default();
    let mut rest = advanced.iter();
    for partition in appends.chunk_by(|a, b| a.partition == b.partition) {
        let mut log = None;
        let mut ids = None;
        let first_of_partition = next_position;
        for (append, advanced) in partition.iter().zip(rest.by_ref()) {
            let (stream_no, previous, timestamp_us) = match *advanced {
                Advanced::Moved { stream_no, previous, timestamp_us } => {
                    (stream_no, previous, timestamp_us)
                }
                Advanced::Retried(retry) => {
                    appended.push(Appended {
                        first_version: retry.first_version,
                        last_version: retry.last_version,
                        first_position: retry.first_position,
                    });
                    continue;
                }
            };
            let target = Target {
                stream_no,
                first_version: previous + 1,
                first_position: next_position,
                timestamp_us,
            };
            let log = match &mut log {
                Some(log) => log,
                none => {
                    none.insert(LogWriter::open(append.partition, &executor, take(&mut pending))?)
                }
            };
            log.push(target, append.events);
            if append.events.iter().any(|event| event.event_id.is_some()) {
                let ids = match &mut ids {
                    Some(ids) => ids,
                    none => none.insert(IdWriter::open(append.partition, &executor)?),
                };
                ids.push(stream_no, target.first_version, append.events);
            }
            let count = append.events.len() as i64;
            next_position += count;
            appended.push(Appended {
                first_version: target.first_version,
                last_version: previous + count,
                first_position: target.first_position,
            });
        }
        if let Some(log) = log {
            pending = log.close();
        }
        if let Some(ids) = ids {
            ids.close();
        }
        let written = next_position - first_of_partition;
        if written > 0 {
            counting::appended(partition[0].partition, written as u64);
        }
    }
    executor.free();
    // The caller's later statements, and a further append in this one, see what was written.
    advance_command();
    Ok(appended)
}

/// Gives the row of a stream to `use_head`, and makes the stream first when it is not there.
/// `stream` has no events.
pub fn create_stream<T>(
    stream: &StreamAppend<'_>,
    use_head: impl FnOnce(Head<'_>) -> T,
) -> Result<T, Error> {
    check_writable()?;
    check_writer()?;
    let executor = Executor::new();
    let mut heads = HeadWriter::open(stream.partition, &executor)?;
    let result = heads.get_or_create(stream, use_head)?;
    heads.close();
    executor.free();
    advance_command();
    Ok(result)
}
