//! Writing a body and the list of its streams.

use super::streams::{self, StreamHash};
use super::{HEADER_BYTES, LEN_BYTES, METADATA, SAME_TENANT, SAME_TYPE, VERSION, checksum};
use crate::codec::record::Record;
use crate::codec::varint;
use crate::model::batch::StreamKey;
use crate::model::memory::{OutOfMemory, push, reserve};
use crate::model::partition::Partition;
use std::ops::Range;

/// Flags and numbers of an event.
const EVENT_OVERHEAD_MAX: usize = 1 + 5 * varint::VARINT_BYTES_MAX;

/// What became of a record that was to be put into a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Pushed {
    /// It is in it.
    Added,
    /// It is not: the body is full. The record belongs to the next one.
    Full,
    /// It is not: it has an event id or an entity, and does not take this way.
    NotPlain,
}

/// What is stored of a batch.
#[derive(Clone, Copy, Debug)]
pub struct HotBatchRow<'a> {
    /// its number
    pub batch_no: i64,
    /// how many events it has
    pub events: usize,
    /// that of the body
    pub checksum: i32,
    /// the list of its streams
    pub streams: &'a [u8],
    /// the body
    pub body: &'a [u8],
}

/// Writes bodies, one after the other, in the same memory.
#[derive(Debug)]
pub struct HotBatchWriter {
    body: Vec<u8>,
    /// of the streams of its events; of neighbours with the same stream once
    hashes: Vec<StreamHash>,
    streams: Vec<u8>,
    bytes_max: usize,
    len: u32,
    timestamp_us: i64,
    /// of the event before
    tenant_id: Range<usize>,
    event_type: Range<usize>,
}

impl HotBatchWriter {
    /// A writer of bodies of up to `bytes_max` bytes; of more only if one event has more. The first one
    /// has to be begun.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            body: Vec::new(),
            hashes: Vec::new(),
            streams: Vec::new(),
            bytes_max,
            len: 0,
            timestamp_us: 0,
            tenant_id: 0..0,
            event_type: 0..0,
        }
    }

    /// Adds an event.
    pub fn push(&mut self, record: &Record<'_>) -> Result<Pushed, OutOfMemory> {
        let event = &record.event;
        if record.entity_id.is_some() || event.event_id.is_some() {
            return Ok(Pushed::NotPlain);
        }
        let names_bytes = record.stream_id.len() + record.tenant_id.len();
        let bytes_max = EVENT_OVERHEAD_MAX + names_bytes + event.size_bytes();
        if self.len > 0 && self.body.len() + bytes_max > self.bytes_max {
            return Ok(Pushed::Full);
        }
        reserve(&mut self.body, HEADER_BYTES + bytes_max)?;
        if self.len == 0 {
            self.body.extend_from_slice(&[VERSION, 0, 0, 0, 0]);
            self.body.extend_from_slice(&self.timestamp_us.to_le_bytes());
        }
        let stream = StreamKey { stream_id: record.stream_id, tenant_id: record.tenant_id };
        let hash = StreamHash::of(stream);
        if self.hashes.last() != Some(&hash) {
            push(&mut self.hashes, hash)?;
        }
        self.write(record);
        self.len += 1;
        self.body[1..LEN_BYTES].copy_from_slice(&self.len.to_le_bytes());
        Ok(Pushed::Added)
    }

    fn write(&mut self, record: &Record<'_>) {
        let Record { stream_id, tenant_id, event, .. } = record;
        let same_tenant = self.len > 0 && self.body[self.tenant_id.clone()] == **tenant_id;
        let same_type = self.len > 0 && self.body[self.event_type.clone()] == *event.event_type;
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let out = &mut self.body;
        out.push(
            flag(event.metadata.is_some(), METADATA)
                | flag(same_tenant, SAME_TENANT)
                | flag(same_type, SAME_TYPE),
        );
        varint::write_len(out, stream_id.len());
        if !same_tenant {
            varint::write_len(out, tenant_id.len());
        }
        if !same_type {
            varint::write_len(out, event.event_type.len());
        }
        varint::write_len(out, event.payload.len());
        if let Some(metadata) = event.metadata {
            varint::write_len(out, metadata.len());
        }
        out.extend_from_slice(stream_id);
        if !same_tenant {
            self.tenant_id = out.len()..out.len() + tenant_id.len();
            out.extend_from_slice(tenant_id);
        }
        if !same_type {
            self.event_type = out.len()..out.len() + event.event_type.len();
            out.extend_from_slice(event.event_type);
        }
        out.extend_from_slice(event.payload);
        out.extend_from_slice(event.metadata.unwrap_or_default());
    }

    /// How many events the body holds.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it holds none. Such a body must not be stored.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes the body has.
    pub fn size_bytes(&self) -> usize {
        self.body.len()
    }

    /// What is to be stored under this number.
    pub fn row(
        &mut self,
        partition: Partition,
        batch_no: i64,
    ) -> Result<HotBatchRow<'_>, OutOfMemory> {
        streams::write(&mut self.streams, partition, batch_no, &mut self.hashes)?;
        let (events, body) = (self.len(), self.body.as_slice());
        let checksum = checksum(partition, batch_no, body);
        Ok(HotBatchRow { batch_no, events, checksum, streams: &self.streams, body })
    }

    /// The body as it is stored.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Begins a body, whose events have this time: microseconds since 2000-01-01.
    pub fn begin(&mut self, timestamp_us: i64) {
        self.body.clear();
        self.hashes.clear();
        self.len = 0;
        self.timestamp_us = timestamp_us;
        (self.tenant_id, self.event_type) = (0..0, 0..0);
    }
}
