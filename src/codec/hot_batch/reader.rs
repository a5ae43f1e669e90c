//! Reading a body.

use super::{DamagedBatch, METADATA, SAME_TENANT, SAME_TYPE, VERSION};
use crate::codec::varint;
use crate::model::batch::StreamKey;
use crate::model::event::NewEvent;
use crate::model::partition::Partition;

/// An event of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HotEvent<'a> {
    /// its number in the batch, from 0
    pub place: u32,
    /// its stream
    pub stream: StreamKey<'a>,
    /// the event; it has no id
    pub event: NewEvent<'a>,
    /// its time, which is that of its batch, in microseconds since 2000-01-01
    pub timestamp_us: i64,
}

/// Walks over the events of a batch.
#[derive(Clone, Copy, Debug)]
pub struct HotBatchReader<'a> {
    partition: Partition,
    batch_no: i64,
    checksum: i32,
    len: u32,
    next: u32,
    rest: &'a [u8],
    timestamp_us: i64,
    tenant_id: &'a [u8],
    event_type: &'a [u8],
}

impl<'a> HotBatchReader<'a> {
    /// Begins to read a batch as it is stored, if its checksum says that it is whole.
    pub fn open(
        partition: Partition,
        batch_no: i64,
        checksum: i32,
        body: &'a [u8],
    ) -> Result<Self, DamagedBatch> {
        let computed = super::checksum(partition, batch_no, body);
        if computed != checksum {
            return Err(DamagedBatch::Checksum { stored: checksum, computed });
        }
        let (version, rest) = body.split_first().ok_or(DamagedBatch::Bytes)?;
        if *version != VERSION {
            return Err(DamagedBatch::Version { version: *version });
        }
        let (len, rest) = rest.split_first_chunk().ok_or(DamagedBatch::Bytes)?;
        let len = u32::from_le_bytes(*len);
        let (timestamp_us, rest) = rest.split_first_chunk().ok_or(DamagedBatch::Bytes)?;
        // An event has three bytes at least: what is asked for by the number of events is bounded.
        if len as usize > rest.len() / 3 {
            return Err(DamagedBatch::Bytes);
        }
        Ok(Self {
            partition,
            batch_no,
            checksum,
            len,
            next: 0,
            rest,
            timestamp_us: i64::from_le_bytes(*timestamp_us),
            tenant_id: &[],
            event_type: &[],
        })
    }

    /// The partition of its events.
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// The batch's number.
    pub fn batch_no(&self) -> i64 {
        self.batch_no
    }

    /// The batch's checksum.
    pub fn checksum(&self) -> i32 {
        self.checksum
    }

    /// When it was written, in microseconds since 2000-01-01.
    pub fn timestamp_us(&self) -> i64 {
        self.timestamp_us
    }

    /// How many events are still to come.
    pub fn remaining(&self) -> usize {
        (self.len - self.next) as usize
    }

    fn read(&mut self) -> Option<HotEvent<'a>> {
        let rest = &mut self.rest;
        let (&flags, after) = rest.split_first()?;
        *rest = after;
        let first = self.next == 0;
        if flags & !(METADATA | SAME_TENANT | SAME_TYPE) != 0
            || first && flags & (SAME_TENANT | SAME_TYPE) != 0
        {
            return None;
        }
        let length_if = |rest: &mut &'a [u8], is_there: bool| match is_there {
            true => varint::read_len(rest).map(Some),
            false => Some(None),
        };
        let stream_id = varint::read_len(rest)?;
        let tenant_id = length_if(rest, flags & SAME_TENANT == 0)?;
        let event_type = length_if(rest, flags & SAME_TYPE == 0)?;
        let payload = varint::read_len(rest)?;
        let metadata = length_if(rest, flags & METADATA != 0)?;
        let stream_id = varint::take(rest, stream_id)?;
        if let Some(len) = tenant_id {
            self.tenant_id = varint::take(rest, len)?;
        }
        if let Some(len) = event_type {
            self.event_type = varint::take(rest, len)?;
        }
        let payload = varint::take(rest, payload)?;
        let metadata = match metadata {
            Some(len) => Some(varint::take(rest, len)?),
            None => None,
        };
        let place = self.next;
        self.next += 1;
        if self.next == self.len && !self.rest.is_empty() {
            return None;
        }
        Some(HotEvent {
            place,
            stream: StreamKey { stream_id, tenant_id: self.tenant_id },
            event: NewEvent { event_type: self.event_type, payload, metadata, event_id: None },
            timestamp_us: self.timestamp_us,
        })
    }
}

impl<'a> Iterator for HotBatchReader<'a> {
    type Item = Result<HotEvent<'a>, DamagedBatch>;

    /// The next event. After an error there is none.
    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.len {
            return None;
        }
        let event = self.read();
        if event.is_none() {
            self.next = self.len;
        }
        Some(event.ok_or(DamagedBatch::Bytes))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.remaining()))
    }
}
