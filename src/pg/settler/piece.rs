//! Settling some streams of a partition in one transaction.

use super::source::{StreamName, StreamTail};
use super::{lock_this_store, transact};
use crate::drain::failure::{Failure, Remedy};
use crate::drain::settle::{Writer, settle};
use crate::model::batch::StreamKey;
use crate::model::memory::{OutOfMemory, with_room};
use crate::model::partition::Partition;
use crate::model::stream_append::StreamAppend;
use crate::model::version::ExpectedVersion;
use crate::pg::call::datum::display;
use crate::pg::error::Error;
use crate::pg::positions::stream_numbers::StreamNumbers;
use crate::pg::session::xact::{advance_command, check_writable, process_of};
use crate::pg::tables::relation::try_lock;
use crate::pg::tables::rights::{as_writer, check_writer};
use crate::pg::tables::schema::Root;
use crate::pg::tables::writing::Writing;
use crate::pg::worker::batch::by_process;
use crate::pg::worker::state::one_line;
use crate::pg::write::append::{take_positions, write_runs};
use crate::pg::write::head_writer::{Advanced, HeadWriter, TailOf, Tried};
use std::collections::BTreeSet;
use std::ops::Range;

/// A stream that could not be settled: its events stay in the table.
#[derive(Clone, Debug)]
pub struct Leftover {
    /// the stream
    pub name: StreamName,
    /// the batches that hold its events
    pub batches: BTreeSet<i64>,
}

impl Leftover {
    /// A stream that is passed over.
    pub fn of(stream: &StreamTail) -> Result<Self, OutOfMemory> {
        let batches = stream.tail.events(i64::MIN).map(|event| event.batch_no).collect();
        Ok(Self { name: stream.name()?, batches })
    }
}

/// What has become of a page of streams.
#[derive(Debug, Default)]
pub struct Settled {
    /// events that are in the log now
    pub events: u64,
    /// streams that were passed over
    pub leftovers: Vec<Leftover>,
    /// why one of them was
    pub reason: Option<String>,
    /// streams that have failed, and were not only locked
    pub failed: usize,
}

/// Settles streams. An error is the server's, or others have locked what is needed.
pub fn settle_page(
    store: u32,
    partition: Partition,
    page: &[StreamTail],
) -> Result<Settled, Failure> {
    let mut settler = Page { store, partition, page, settled: Settled::default() };
    settle(&mut settler, 0..page.len())?;
    Ok(settler.settled)
}

struct Page<'p> {
    store: u32,
    partition: Partition,
    page: &'p [StreamTail],
    settled: Settled,
}

impl Page<'_> {
    fn leave(&mut self, stream: usize) -> Result<(), Failure> {
        let leftover = Leftover::of(&self.page[stream]);
        let leftover = leftover.map_err(|error| Error::from(error).to_failure())?;
        self.settled.leftovers.push(leftover);
        Ok(())
    }

    fn fails(&mut self, stream: usize, reason: &Failure) -> Result<(), Failure> {
        let name = display(self.page[stream].key().stream_id);
        let message = format!("stream \"{name}\" cannot be settled: {}", one_line(reason));
        self.settled.reason = Some(message);
        self.settled.failed += 1;
        self.leave(stream)
    }
}

impl Writer for Page<'_> {
    fn write(&mut self, range: Range<usize>) -> Result<(), Failure> {
        let streams = &self.page[range.clone()];
        let (store, partition) = (self.store, self.partition);
        let write = || {
            lock_this_store(store)?;
            as_writer(|| write(partition, streams))
        };
        let (events, held) = transact(write)?;
        self.settled.events += events;
        for (stream, holder) in held {
            let stream = range.start + stream;
            let by = by_process(process_of(pgrx::pg_sys::TransactionId::from(holder)));
            let name = display(self.page[stream].key().stream_id);
            self.settled.reason = Some(format!("stream \"{name}\" is locked by {by}"));
            self.leave(stream)?;
        }
        Ok(())
    }

    fn set_aside(&mut self, stream: usize, reason: &Failure) -> Result<(), Failure> {
        self.fails(stream, reason)
    }

    fn suspect(&mut self, stream: usize, reason: Failure) -> Result<(), Failure> {
        if reason.remedy() == Remedy::TryLater {
            return Err(reason);
        }
        self.fails(stream, &reason)
    }
}

/// Writes tails. Returns how many events were written, and the streams that are locked, by which
/// transaction.
fn write(partition: Partition, streams: &[StreamTail]) -> Result<(u64, Vec<(usize, u32)>), Error> {
    check_writable()?;
    check_writer()?;
    for root in [Root::Streams, Root::Log] {
        if !try_lock(root, partition)? {
            return Err(Error::Locked { table: root.leaf(partition) });
        }
    }
    let writing = Writing::begin()?;
    let numbers = StreamNumbers::new(streams.len());
    let mut heads = HeadWriter::open(partition, &writing, &numbers)?;
    let (mut appends, mut advanced) = (with_room(streams.len())?, with_room(streams.len())?);
    let (mut events, mut held) = (0, Vec::new());
    for (index, stream) in streams.iter().enumerate() {
        let StreamKey { stream_id, tenant_id } = stream.key();
        let append = StreamAppend {
            partition,
            stream_id,
            tenant_id,
            entity_id: None,
            expected: ExpectedVersion::Any,
            events: &[],
        };
        match heads.try_advance(&append, TailOf::Given(&stream.tail), |_| Ok(0))? {
            Tried::Moved(moved) => {
                if let Advanced::Moved { tail: Some(tail), .. } = &moved {
                    events += tail.len() as u64;
                }
                appends.push(append);
                advanced.push(moved);
            }
            Tried::Unchanged => {}
            Tried::Held(holder) => held.push((index, holder.into_inner())),
        }
    }
    drop(heads);
    let mut taken = take_positions(&appends, &advanced, &writing)?;
    write_runs(&appends, &advanced, &mut taken, &writing)?;
    writing.finish();
    advance_command();
    Ok((events, held))
}
