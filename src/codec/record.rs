//! A record of the queue: one enqueued event, from the caller's arguments to the worker.
//!
//! ```text
//! 0   enqueued at            i64   microseconds since 2000-01-01
//! 8   database               u32   that it was enqueued in
//! 12  incarnation            u32   of the extension there
//! 16  bytes of payload       u32
//! 20  bytes of metadata      u32   NONE_LONG: no metadata
//! 24  bytes of stream_id     u16
//! 26  bytes of tenant_id     u16
//! 28  bytes of event_type    u16
//! 30  bytes of entity_id     u16   NONE_SHORT: no entity
//! 32  stream_id, tenant_id, event_type, entity_id, payload, metadata, event id
//! ```
//!
//! Whether there is an event id follows from the record's length.
//!
//! Records live in shared memory and never survive the server, so all who read and write them run
//! the same code: the format needs no version.

use crate::model::event::{EventId, NewEvent};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const NONE_LONG: u32 = u32::MAX;
const NONE_SHORT: u16 = u16::MAX;

/// Where a record belongs. An extension that is dropped and created again is another one, and so is a
/// copy of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    /// number of the database
    pub database: u32,
    /// number of the sequence `position_seq`
    pub incarnation: u32,
}

/// An event with the stream that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// when it was enqueued, in microseconds since 2000-01-01
    pub enqueued_at_us: i64,
    /// what it is for
    pub home: Home,
    /// the stream
    pub stream_id: &'a [u8],
    /// its tenant
    pub tenant_id: &'a [u8],
    /// the entity, where one was given
    pub entity_id: Option<&'a [u8]>,
    /// the event
    pub event: NewEvent<'a>,
}

/// The bytes of a record cannot be taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record of the queue is damaged")]
pub struct DamagedRecord;

/// The header of a record, which stands before its other parts.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    enqueued_at_us: i64,
    database: u32,
    incarnation: u32,
    payload_bytes: u32,
    metadata_bytes: u32,
    stream_id_bytes: u16,
    tenant_id_bytes: u16,
    event_type_bytes: u16,
    entity_id_bytes: u16,
}

impl<'a> Record<'a> {
    /// The record's header. Names are below 64 kB and payload and metadata below 4 GB, which the
    /// limits on names and on events make sure of.
    pub fn header(&self) -> Header {
        let short = |bytes: Option<&[u8]>| bytes.map_or(NONE_SHORT, |bytes| bytes.len() as u16);
        let long = |bytes: Option<&[u8]>| bytes.map_or(NONE_LONG, |bytes| bytes.len() as u32);
        Header {
            enqueued_at_us: self.enqueued_at_us,
            database: self.home.database,
            incarnation: self.home.incarnation,
            payload_bytes: long(Some(self.event.payload)),
            metadata_bytes: long(self.event.metadata),
            stream_id_bytes: short(Some(self.stream_id)),
            tenant_id_bytes: short(Some(self.tenant_id)),
            event_type_bytes: short(Some(self.event.event_type)),
            entity_id_bytes: short(self.entity_id),
        }
    }

    /// How many bytes the record has.
    pub fn size_bytes(&self) -> usize {
        let names = self.stream_id.len() + self.tenant_id.len();
        let entity_id = self.entity_id.map_or(0, <[u8]>::len);
        let event_id = self.event.event_id.map_or(0, |id| id.len());
        size_of::<Header>() + event_id + names + entity_id + self.event.size_bytes()
    }

    /// The record's bytes in their order, `header` being its own.
    pub fn parts<'b>(&'b self, header: &'b Header) -> [&'b [u8]; 8] {
        [
            header.as_bytes(),
            self.stream_id,
            self.tenant_id,
            self.event.event_type,
            self.entity_id.unwrap_or_default(),
            self.event.payload,
            self.event.metadata.unwrap_or_default(),
            self.event.event_id.as_ref().map_or(&[], |id| &id[..]),
        ]
    }

    /// Decodes a record.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DamagedRecord> {
        let (header, mut rest) = Header::read_from_prefix(bytes).map_err(|_| DamagedRecord)?;
        let mut take = |len: usize| {
            let (part, tail) = rest.split_at_checked(len).ok_or(DamagedRecord)?;
            rest = tail;
            Ok(part)
        };
        let stream_id = take(usize::from(header.stream_id_bytes))?;
        let tenant_id = take(usize::from(header.tenant_id_bytes))?;
        let event_type = take(usize::from(header.event_type_bytes))?;
        let entity_id = match header.entity_id_bytes {
            NONE_SHORT => None,
            len => Some(take(usize::from(len))?),
        };
        let payload = take(header.payload_bytes as usize)?;
        let metadata = match header.metadata_bytes {
            NONE_LONG => None,
            len => Some(take(len as usize)?),
        };
        let event_id = match rest.len() {
            0 => None,
            _ => Some(EventId::try_from(rest).map_err(|_| DamagedRecord)?),
        };
        Ok(Self {
            enqueued_at_us: header.enqueued_at_us,
            home: Home { database: header.database, incarnation: header.incarnation },
            stream_id,
            tenant_id,
            entity_id,
            event: NewEvent { event_type, payload, metadata, event_id },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(range: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), range)
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            enqueued_at_us: i64,
            database: u32,
            incarnation: u32,
            names in (bytes(1..1021), bytes(1..40), bytes(1..40)),
            entity_id in prop::option::of(bytes(0..40)),
            payload in bytes(0..3000),
            metadata in prop::option::of(bytes(0..40)),
            event_id: Option<[u8; 16]>,
        ) {
            let record = Record {
                enqueued_at_us,
                home: Home { database, incarnation },
                stream_id: &names.0,
                tenant_id: &names.1,
                entity_id: entity_id.as_deref(),
                event: NewEvent {
                    event_type: &names.2,
                    payload: &payload,
                    metadata: metadata.as_deref(),
                    event_id,
                },
            };
            let header = record.header();
            let encoded = record.parts(&header).concat();
            prop_assert_eq!(encoded.len(), record.size_bytes());
            prop_assert_eq!(Record::decode(&encoded), Ok(record));
            // Whatever is cut off at the end is noticed, but for a whole event id.
            for len in [0, 31, encoded.len() - 1] {
                prop_assert_eq!(Record::decode(&encoded[..len]), Err(DamagedRecord));
            }
        }
    }
}
