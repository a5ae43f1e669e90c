//! Hot batches, and what they say about streams: the truth that a sidecar is compared with.
#![allow(dead_code, reason = "not every test uses all of it")]

use allsource::codec::hot_batch::{self, BODY_BYTES_MAX, HotBatchReader, HotBatchWriter, Pushed};
use allsource::codec::hot_tail::TailReader;
use allsource::codec::record::{Home, Record};
use allsource::model::event::NewEvent;
use allsource::model::partition::Partition;
use allsource::sidecar::{Batches, Identity, Sidecar, SidecarError, StreamName};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub const IDENTITY: Identity = Identity {
    system_identifier: 7_000_000_000_000_000_001,
    timeline: 1,
    database: 5,
    incarnation: 9,
};

/// A folder that is removed afterwards.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("allsource-sidecar-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a folder");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An event as the tests compare it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub batch_no: i64,
    pub place: u32,
    pub event_type: Vec<u8>,
    pub payload: Vec<u8>,
    pub metadata: Option<Vec<u8>>,
    pub timestamp_us: i64,
}

/// A batch as the table has it.
#[derive(Clone, Debug)]
pub struct Batch {
    pub partition: Partition,
    pub batch_no: i64,
    pub body: Vec<u8>,
    pub checksum: i32,
    pub events: Vec<(StreamName, Event)>,
}

impl Batch {
    /// Makes a batch of these events: stream and payload.
    pub fn new(partition: Partition, batch_no: i64, events: &[(StreamName, Vec<u8>)]) -> Self {
        let mut writer = HotBatchWriter::new(BODY_BYTES_MAX);
        let timestamp_us = batch_no * 1_000;
        writer.begin(timestamp_us);
        let mut made = Vec::new();
        for (place, (stream, payload)) in (0..).zip(events) {
            let event = Event {
                batch_no,
                place,
                event_type: format!("type {}", payload.len() % 3).into_bytes(),
                payload: payload.clone(),
                metadata: (payload.len() % 2 == 0).then(|| batch_no.to_le_bytes().to_vec()),
                timestamp_us,
            };
            let record = Record {
                enqueued_at_us: 0,
                home: Home { database: 0, incarnation: 0 },
                stream_id: &stream.stream_id,
                tenant_id: &stream.tenant_id,
                entity_id: None,
                event: NewEvent {
                    event_type: &event.event_type,
                    payload: &event.payload,
                    metadata: event.metadata.as_deref(),
                    event_id: None,
                },
            };
            assert_eq!(writer.push(&record), Ok(Pushed::Added));
            made.push((stream.clone(), event));
        }
        let body = writer.body().to_vec();
        let checksum = hot_batch::checksum(partition, batch_no, &body);
        Self { partition, batch_no, body, checksum, events: made }
    }

    pub fn reader(&self) -> HotBatchReader<'_> {
        HotBatchReader::open(self.partition, self.batch_no, self.checksum, &self.body)
            .expect("a whole batch")
    }
}

/// All batches of the table, and what they say.
#[derive(Default)]
pub struct Truth {
    pub batches: Vec<Batch>,
}

pub type Tails = BTreeMap<StreamName, Vec<Event>>;

impl Truth {
    pub fn last(&self, partition: Partition) -> i64 {
        let mut of_partition = self.of(partition);
        of_partition.next_back().map_or(0, |batch| batch.batch_no)
    }

    pub fn of(&self, partition: Partition) -> impl DoubleEndedIterator<Item = &Batch> {
        self.batches.iter().filter(move |batch| batch.partition == partition)
    }

    /// The tails of a partition.
    pub fn tails(&self, partition: Partition, batches: Batches) -> Tails {
        let mut tails = Tails::new();
        for batch in self.of(partition) {
            if batches.after < batch.batch_no && batch.batch_no <= batches.up_to {
                for (stream, event) in &batch.events {
                    tails.entry(stream.clone()).or_default().push(event.clone());
                }
            }
        }
        tails
    }

    /// Applies what is missing, as the owner of a sidecar does after opening it. A partition whose last
    /// batch is another one here is discarded.
    pub fn catch_up(&self, sidecar: &Sidecar) -> Result<(), SidecarError> {
        for partition in Partition::all() {
            let mark = sidecar.mark(partition);
            let mut of_partition = self.of(partition);
            let same = mark.applied == 0
                || mark.applied == mark.forgotten
                || of_partition
                    .any(|batch| (batch.batch_no, batch.checksum) == (mark.applied, mark.checksum));
            if !same {
                sidecar.discard_partition(partition)?;
            }
            for batch in self.of(partition) {
                apply(sidecar, batch)?;
            }
        }
        Ok(())
    }

    /// Compares what a sidecar says about all of [`streams_of`] a partition, those without events too. It
    /// has to know all batches.
    pub fn compare(
        &self,
        sidecar: &Sidecar,
        partition: Partition,
        batches: Batches,
        bytes_max: usize,
    ) -> Result<(), SidecarError> {
        let mut tails = self.tails(partition, batches);
        for stream in &streams_of(partition) {
            let events = tails.remove(stream).unwrap_or_default();
            let found = read_tail(sidecar, partition, stream, batches, bytes_max)?;
            assert_eq!(found, events, "{stream:?}");
            let count = sidecar.count(partition, stream.key(), batches)?;
            assert_eq!(count, events.len() as u64, "{stream:?}");
        }
        assert!(tails.is_empty(), "only these streams are compared");
        Ok(())
    }
}

/// The events of a piece of a tail.
pub fn owned(bytes: TailReader<'_>) -> Vec<Event> {
    bytes
        .map(|event| {
            let event = event.expect("whole bytes");
            Event {
                batch_no: event.batch_no,
                place: event.place,
                event_type: event.event.event_type.to_vec(),
                payload: event.event.payload.to_vec(),
                metadata: event.event.metadata.map(<[u8]>::to_vec),
                timestamp_us: event.timestamp_us,
            }
        })
        .collect()
}

/// A whole tail, page by page.
pub fn read_tail(
    sidecar: &Sidecar,
    partition: Partition,
    stream: &StreamName,
    batches: Batches,
    bytes_max: usize,
) -> Result<Vec<Event>, SidecarError> {
    let (mut events, mut after) = (Vec::new(), None);
    loop {
        let page = sidecar.tail(partition, stream.key(), batches, after, bytes_max)?;
        let read = owned(TailReader::new(&page.bytes));
        assert_eq!(read.len(), page.events);
        assert!(page.events > 0 || page.next.is_none());
        events.extend(read);
        after = page.next;
        if after.is_none() {
            return Ok(events);
        }
    }
}

/// Streams of a partition with names that are not easy to keep apart.
pub fn streams_of(partition: Partition) -> Vec<StreamName> {
    let mut streams = Vec::new();
    for number in 0..400u32 {
        let mut stream_id = number.to_string().into_bytes();
        match number % 4 {
            0 => stream_id.push(0),
            1 => stream_id.extend_from_slice(&[0, 255]),
            2 => stream_id.push(255),
            _ => {}
        }
        if Partition::of(&stream_id) == partition {
            for tenant_id in [&b""[..], b"t", b"t\0"] {
                let tenant_id = tenant_id.to_vec();
                streams.push(StreamName { stream_id: stream_id.clone(), tenant_id });
            }
        }
    }
    streams
}

/// Applies a batch; where there is too much to be written to files, after that was done.
pub fn apply(sidecar: &Sidecar, batch: &Batch) -> Result<bool, SidecarError> {
    loop {
        match sidecar.apply(&batch.reader()) {
            Err(SidecarError::Busy) => sidecar.flush()?,
            applied => return applied,
        }
    }
}
