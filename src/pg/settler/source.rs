//! The streams of a pass with their tails, in the order in which streams are locked: batches of the table,
//! grouped and sorted in memory.

use crate::drain::failure::Failure;
use crate::model::batch::StreamKey;
use crate::model::memory::{OutOfMemory, copied, with_room};
use crate::model::partition::Partition;
use crate::pg::error::Error;
use crate::pg::hot::batches::Batches;
use crate::pg::hot::loaded::{LoadedBatches, OfStream};
use crate::pg::hot::tail::Tail;
use crate::pg::session::xact::with_snapshot_of_now;
use crate::pg::settings;
use std::rc::Rc;

/// Streams and bytes of a page.
const PAGE_STREAMS: usize = 5_000;
const PAGE_BYTES: usize = 4 << 20;

/// The name of a stream, in the order in which streams are locked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamName {
    /// its name
    pub stream_id: Vec<u8>,
    /// its tenant
    pub tenant_id: Vec<u8>,
}

impl StreamName {
    /// The same, borrowed.
    pub fn key(&self) -> StreamKey<'_> {
        StreamKey { stream_id: &self.stream_id, tenant_id: &self.tenant_id }
    }
}

/// A stream with its tail.
#[derive(Clone, Debug)]
pub struct StreamTail {
    batches: Rc<LoadedBatches>,
    stream: OfStream,
    /// its events
    pub tail: Rc<Tail>,
}

impl StreamTail {
    /// The stream.
    pub fn key(&self) -> StreamKey<'_> {
        self.batches.name(&self.stream)
    }

    /// Its name, to be kept.
    pub fn name(&self) -> Result<StreamName, OutOfMemory> {
        let StreamKey { stream_id, tenant_id } = self.key();
        Ok(StreamName { stream_id: copied(stream_id)?, tenant_id: copied(tenant_id)? })
    }
}

/// Streams of a pass that are still to be settled.
#[derive(Debug)]
pub struct Source {
    batches: Rc<LoadedBatches>,
    streams: std::vec::IntoIter<OfStream>,
    /// whether there were more batches
    is_cut: bool,
}

impl Source {
    /// Reads the batches of a partition after `after`: as many as there is memory for. `None` if there is
    /// none. Called in a transaction.
    pub fn read(partition: Partition, after: i64) -> Result<Option<Self>, Error> {
        let mut batches = LoadedBatches::default();
        let mut is_cut = false;
        let bytes_max = settings::maintenance_bytes();
        let mut bytes = 0;
        with_snapshot_of_now(|snapshot| {
            Batches::open(partition, snapshot)?.read(after, i64::MAX, |batch| {
                if bytes >= bytes_max {
                    is_cut = true;
                    return Ok(false);
                }
                batches.add(&batch)?;
                bytes +=
                    batch.body().len() + batch.len.max(0) as usize * LoadedBatches::EVENT_BYTES;
                Ok(true)
            })
        })?;
        if batches.last_batch().is_none() {
            return Ok(None);
        }
        let streams = batches.arrange()?.into_iter();
        Ok(Some(Self { batches: Rc::new(batches), streams, is_cut }))
    }

    /// Whether there was no batch behind those that were read.
    pub fn is_last(&self) -> bool {
        !self.is_cut
    }

    /// The last batch of the pass.
    pub fn up_to(&self) -> i64 {
        self.batches.last_batch().unwrap_or(0)
    }

    /// The next streams; none at the end.
    pub fn next_page(&mut self) -> Result<Vec<StreamTail>, Failure> {
        self.try_next_page().map_err(|error| Error::from(error).to_failure())
    }

    fn try_next_page(&mut self) -> Result<Vec<StreamTail>, OutOfMemory> {
        let mut page = with_room(PAGE_STREAMS.min(self.streams.len()))?;
        let mut bytes = 0;
        while page.len() < PAGE_STREAMS && bytes < PAGE_BYTES {
            let Some(stream) = self.streams.next() else { break };
            let batches = self.batches.clone();
            bytes +=
                batches.events_of(&stream).map(|event| event.event.size_bytes()).sum::<usize>();
            let tail = Rc::new(Tail::of_loaded(&batches, stream.clone()));
            page.push(StreamTail { batches, stream, tail });
        }
        Ok(page)
    }
}
