//! Writing: `es_append`, `es_append_many`, `es_append_batch`.

use crate::codec::array::ElementType;
use crate::model::event::NewEvent;
use crate::model::name::NameKind;
use crate::model::partition::Partition;
use crate::model::stream_append::StreamAppend;
use crate::model::version::ExpectedVersion;
use crate::pg::call::Call;
use crate::pg::call::datum::{count_chars, text};
use crate::pg::call::rows::{Rows, int4, int8};
use crate::pg::error::Error;
use crate::pg::write::append::append;
use crate::pg::write::batch::{EventBatch, append_batch};
use crate::sql_function;

sql_function! {
    /// `es_append(stream_id, event_type, payload, metadata, expected_version, tenant_id, entity_id,
    /// event_id)`: appends one event and returns its version.
    ///
    /// Errors: 40001 wrong expected version, 23505 event id is there with other content, 22023 bad
    /// argument, 54000 event too large, 25006 read-only, 55000 not preloaded. Volatile, parallel
    /// unsafe.
    #[measured(Append)]
    fn es_append, pg_finfo_es_append(call) {
        let stream_id = call.name(0, NameKind::Stream)?;
        append_to_one(call, stream_id, &[call.event([1, 2, 3, 7])?])
    }
}

sql_function! {
    /// `es_append_many(stream_id, event_types, payloads, metadata, expected_version, tenant_id,
    /// entity_id, event_ids)`: appends events to one stream in the order of the arrays and returns
    /// the last version written.
    ///
    /// Errors as for `es_append`, and 54000 for too many events. Volatile, parallel unsafe.
    #[measured(AppendMany)]
    fn es_append_many, pg_finfo_es_append_many(call) {
        let stream_id = call.name(0, NameKind::Stream)?;
        let events = call.events([1, 2, 3, 7])?;
        append_to_one(call, stream_id, &events)
    }
}

sql_function! {
    /// `es_append_batch(stream_ids, event_types, payloads, metadata, expected_versions, tenant_id,
    /// event_ids)`: appends events to many streams, all or nothing; one row per stream in the order
    /// of first appearance: stream_id, partition_id, first_version, last_version, first_position.
    ///
    /// Errors as for `es_append_many`. Volatile, parallel unsafe.
    #[measured(AppendBatch)]
    fn es_append_batch, pg_finfo_es_append_batch(call) {
        let names = call.required_array(0, "stream_ids", ElementType::Text)?;
        let types = call.required_array(1, "event_types", ElementType::Text)?;
        let events = call.events([1, 2, 3, 6])?;
        names.check_len(&types)?;
        let tenant_id = call.name(5, NameKind::Tenant)?;
        let stream_ids = names.names(NameKind::Stream, count_chars)?;
        let expected = match call.array(4, "expected_versions", ElementType::Int8)? {
            Some(versions) => {
                versions.check_len(&types)?;
                versions.expected_versions()?
            }
            None => Vec::new(),
        };
        let mut rows = Rows::begin(call);
        let batch = EventBatch { stream_ids: &stream_ids, tenant_id, events: &events };
        append_batch(batch, &expected, |group, appended| {
            rows.put([
                Some(text(group.stream.stream_id)),
                int4(group.partition.number()),
                int8(appended.first_version),
                int8(appended.last_version),
                int8(appended.first_position),
            ])
        })?;
        Ok(None)
    }
}

/// What `es_append` and `es_append_many` have in common: arguments 4 to 6, one stream, the version
/// as the result.
fn append_to_one(
    call: &Call,
    stream_id: &[u8],
    events: &[NewEvent<'_>],
) -> Result<Option<pgrx::pg_sys::Datum>, Error> {
    let stream = StreamAppend {
        partition: Partition::of(stream_id),
        stream_id,
        expected: ExpectedVersion::from_sql(call.int8(4))?,
        tenant_id: call.name(5, NameKind::Tenant)?,
        entity_id: call.optional_name(6, NameKind::Entity)?,
        events,
    };
    let appended = append(&[stream])?;
    Ok(int8(appended[0].last_version))
}
