//! Appending: heads are locked and advanced first, then positions are taken, then runs are written.

use super::event_ids::IdWriter;
use super::head_writer::{Advanced, HeadWriter, Settling};
use super::log_writer::{LogWriter, PendingRuns, Target};
use crate::model::event_times::EventTimes;
use crate::model::memory::with_room;
use crate::model::partition::Partition;
use crate::model::stream_append::StreamAppend;
use crate::pg::error::Error;
use crate::pg::positions::counter::Positions;
use crate::pg::positions::stream_numbers::StreamNumbers;
use crate::pg::session::xact::{advance_command, check_writable};
use crate::pg::shared::counting;
use crate::pg::tables::heads::Head;
use crate::pg::tables::rights::check_writer;
use crate::pg::tables::writing::Writing;
use crate::positions::written::Written;

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
/// which streams are locked (`Plan::in_lock_order`), and none is without events. The results are in
/// the same order.
pub fn append(appends: &[StreamAppend<'_>]) -> Result<Vec<Appended>, Error> {
    check_writable()?;
    check_writer()?;
    let writing = Writing::begin()?;
    let advanced = lock_heads(appends, &writing)?;
    let mut taken = take_positions(appends, &advanced, &writing)?;
    let appended = write_runs(appends, &advanced, &mut taken, &writing)?;
    writing.finish();
    // The caller's later statements, and a further append in this one, see what was written.
    advance_command();
    Ok(appended)
}

/// Locks the streams, in their order, and advances their heads.
pub fn lock_heads(appends: &[StreamAppend<'_>], writing: &Writing) -> Result<Vec<Advanced>, Error> {
    let numbers = StreamNumbers::new(appends.len());
    let mut advanced = with_room(appends.len())?;
    for partition in appends.chunk_by(same_partition) {
        let mut heads = HeadWriter::open(partition[0].partition, writing, &numbers)?;
        heads.prepare(partition)?;
        for append in partition {
            advanced.push(heads.advance(append)?);
        }
    }
    Ok(advanced)
}

/// Positions that were taken for events.
pub struct Taken {
    next: i64,
    written: &'static Written,
}

/// Takes a position for each event that is to be written. All streams are locked, so positions are
/// taken in the order of versions.
pub fn take_positions(
    appends: &[StreamAppend<'_>],
    advanced: &[Advanced],
    writing: &Writing,
) -> Result<Taken, Error> {
    let events: usize = std::iter::zip(appends, advanced)
        .map(|(append, advanced)| match advanced {
            Advanced::Moved { tail, .. } => {
                append.events.len() + tail.as_ref().map_or(0, Settling::len)
            }
            Advanced::Retried(_) => 0,
        })
        .sum();
    let positions = Positions::open()?;
    let first = if events == 0 { 0 } else { positions.take(events as u64)? };
    writing.has_positions();
    Ok(Taken { next: first as i64, written: positions.written() })
}

/// Writes the events of the streams whose heads were advanced, with the next of the positions that were
/// taken.
pub fn write_runs(
    appends: &[StreamAppend<'_>],
    advanced: &[Advanced],
    taken: &mut Taken,
    writing: &Writing,
) -> Result<Vec<Appended>, Error> {
    let mut appended = with_room(appends.len())?;
    let mut pending = PendingRuns::default();
    let mut rest = advanced.iter();
    for partition in appends.chunk_by(same_partition) {
        let mut leaves = Leaves::new(writing, pending);
        for (append, advanced) in partition.iter().zip(rest.by_ref()) {
            appended.push(match *advanced {
                Advanced::Retried(retry) => Appended {
                    first_version: retry.first_version,
                    last_version: retry.last_version,
                    first_position: retry.first_position,
                },
                Advanced::Moved { stream_no, previous, timestamp_us, ref tail } => {
                    let mut target = Target {
                        stream_no,
                        first_version: previous + 1,
                        first_position: taken.next,
                        times: EventTimes::Same(timestamp_us),
                    };
                    if let Some(tail) = tail {
                        leaves.write_tail(append.partition, tail, target)?;
                        target.first_version += tail.len() as i64;
                        target.first_position += tail.len() as i64;
                    }
                    if !append.events.is_empty() {
                        leaves.write(append, target)?;
                    }
                    taken.next = target.first_position + append.events.len() as i64;
                    Appended {
                        first_version: target.first_version,
                        last_version: target.first_version - 1 + append.events.len() as i64,
                        first_position: target.first_position,
                    }
                }
            });
        }
        let Closed { appended, settled, emptied } = leaves.close()?;
        pending = emptied;
        if appended + settled > 0 {
            taken.written.mark(partition[0].partition, taken.next as u64 - 1);
            counting::appended(partition[0].partition, appended);
        }
    }
    Ok(appended)
}

fn same_partition(a: &StreamAppend<'_>, b: &StreamAppend<'_>) -> bool {
    a.partition == b.partition
}

/// A partition's leaves of the log and of the event ids, opened when there is something to write.
struct Leaves<'t> {
    writing: &'t Writing,
    pending: Option<PendingRuns>,
    log: Option<LogWriter<'t>>,
    ids: Option<IdWriter<'t>>,
    appended: u64,
    settled: u64,
}

/// What was written to a partition's leaves.
struct Closed {
    /// new events
    appended: u64,
    /// events of tails
    settled: u64,
    /// the buffer for the next partition
    emptied: PendingRuns,
}

impl<'t> Leaves<'t> {
    fn new(writing: &'t Writing, pending: PendingRuns) -> Self {
        Self { writing, pending: Some(pending), log: None, ids: None, appended: 0, settled: 0 }
    }

    fn write(&mut self, append: &StreamAppend<'_>, target: Target<'_>) -> Result<(), Error> {
        self.log(append.partition)?.push(target, append.events)?;
        if append.events.iter().any(|event| event.event_id.is_some()) {
            let ids = match &mut self.ids {
                Some(ids) => ids,
                none => none.insert(IdWriter::open(append.partition, self.writing)?),
            };
            ids.push(target.stream_no, target.first_version, append.events)?;
        }
        self.appended += append.events.len() as u64;
        Ok(())
    }

    /// Writes the events of a tail: `target` is theirs, but for the times.
    fn write_tail(
        &mut self,
        partition: Partition,
        tail: &Settling,
        target: Target<'_>,
    ) -> Result<(), Error> {
        let (mut events, mut times_us) = (with_room(tail.len())?, with_room(tail.len())?);
        for event in tail.events() {
            events.push(event.event);
            times_us.push(event.timestamp_us);
        }
        self.log(partition)?
            .push(Target { times: EventTimes::Each(&times_us), ..target }, &events)?;
        self.settled += events.len() as u64;
        Ok(())
    }

    fn log(&mut self, partition: Partition) -> Result<&mut LogWriter<'t>, Error> {
        match &mut self.log {
            Some(log) => Ok(log),
            none => {
                let pending = self.pending.take().unwrap_or_default();
                Ok(none.insert(LogWriter::open(partition, self.writing, pending)?))
            }
        }
    }

    /// Writes what is left.
    fn close(self) -> Result<Closed, Error> {
        if let Some(ids) = self.ids {
            ids.close()?;
        }
        let emptied = self.log.map(LogWriter::close).transpose()?.or(self.pending);
        let (appended, settled) = (self.appended, self.settled);
        Ok(Closed { appended, settled, emptied: emptied.unwrap_or_default() })
    }
}

/// Gives the row of a stream to `use_head`, and creates the stream first if it is not there.
/// `stream` has no events.
pub fn create_stream<T>(
    stream: &StreamAppend<'_>,
    mut use_head: impl FnMut(Head<'_>) -> T,
) -> Result<T, Error> {
    check_writable()?;
    check_writer()?;
    loop {
        let writing = Writing::begin()?;
        let numbers = StreamNumbers::new(1);
        let mut heads = HeadWriter::open(stream.partition, &writing, &numbers)?;
        let result = heads.get_or_create(stream, &mut use_head)?;
        drop(heads);
        writing.finish();
        advance_command();
        if let Some(result) = result {
            return Ok(result);
        }
        // It is known by its tail only: settles that.
        append(&[*stream])?;
    }
}
