//! An event as a row of a result.
#![expect(unsafe_code, reason = "passes PostgreSQL's values on")]

use crate::codec::hot_tail::TailEvent;
use crate::codec::run::Located;
use crate::model::batch::StreamKey;
use crate::model::partition::Partition;
use crate::pg::call::datum::text;
use crate::pg::call::rows::{Rows, int4, int8};
use crate::pg::error::Error;
use crate::pg::tables::heads::Head;
use crate::pg::tables::log::ReadEvent;
use pgrx::pg_sys;

/// The columns of an event that are the same for its whole stream.
#[derive(Clone, Copy)]
pub struct StreamColumns {
    /// `stream_id`
    pub stream_id: pg_sys::Datum,
    /// `tenant_id`
    pub tenant_id: pg_sys::Datum,
    /// `entity_id`
    pub entity_id: Option<pg_sys::Datum>,
    /// its partition
    pub partition: Partition,
}

impl StreamColumns {
    /// Those of a stream that is known by its tail only, which has no entity.
    pub fn of_name(stream: StreamKey<'_>, partition: Partition) -> Self {
        let (stream_id, tenant_id) = (text(stream.stream_id), text(stream.tenant_id));
        Self { stream_id, tenant_id, entity_id: None, partition }
    }

    /// Those of a head, as long as the scan stands on it.
    pub fn of(head: &Head<'_>, partition: Partition) -> Self {
        Self {
            stream_id: head.stream_id(),
            tenant_id: head.tenant_id(),
            entity_id: head.entity_id(),
            partition,
        }
    }
}

/// Adds a row with the columns of the view `events`.
pub fn put_event(
    rows: &mut Rows,
    stream: &StreamColumns,
    event: &ReadEvent<'_>,
) -> Result<(), Error> {
    let element = |body: &[u8], (offset, _): Located<'_>| {
        // SAFETY: the offset is within the body.
        Some(pg_sys::Datum::from(unsafe { body.as_ptr().add(offset) }))
    };
    let columns = &event.columns;
    rows.put([
        int8(event.position),
        Some(stream.stream_id),
        int8(event.version),
        Some(stream.tenant_id),
        element(columns.event_types, event.event.event_type),
        stream.entity_id,
        element(columns.payloads, event.event.payload),
        columns.metadata.and_then(|body| element(body, event.event.metadata?)),
        int8(event.timestamp_us),
        event.event.event_id.map(|id| pg_sys::Datum::from(id.as_ptr())),
        int4(stream.partition.number()),
    ])
}

/// Adds a row of an event that is not settled: it has no position yet. What is allocated stays in the
/// current memory context.
pub fn put_tail_event(
    rows: &mut Rows,
    stream: &StreamColumns,
    version: i64,
    event: &TailEvent<'_>,
) -> Result<(), Error> {
    rows.put([
        None,
        Some(stream.stream_id),
        int8(version),
        Some(stream.tenant_id),
        Some(text(event.event.event_type)),
        stream.entity_id,
        // A jsonb is made of its bytes as a text is.
        Some(text(event.event.payload)),
        event.event.metadata.map(text),
        int8(event.timestamp_us),
        None,
        int4(stream.partition.number()),
    ])
}
