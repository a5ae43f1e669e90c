//! Streams: `es_stream`, `es_create_stream`, `es_streams`, `es_stream_watermark`.

use crate::codec::argument::partition;
use crate::model::batch::StreamKey;
use crate::model::name::NameKind;
use crate::model::partition::Partition;
use crate::model::stream_append::StreamAppend;
use crate::model::version::ExpectedVersion;
use crate::pg::call::Call;
use crate::pg::call::rows::{Rows, int8};
use crate::pg::cluster::owners::check_may_read;
use crate::pg::error::Error;
use crate::pg::read::stream::stream_row;
use crate::pg::tables::query::query_into;
use crate::pg::write::append::create_stream;
use crate::sql_function;
use pgrx::pg_sys;

sql_function! {
    /// `es_stream(stream_id, tenant_id)`: the stream's row of `event_streams`, or no row.
    ///
    /// Errors: 22023 bad argument. Stable, parallel safe.
    fn es_stream, pg_finfo_es_stream(call) {
        let stream = stream_and_tenant(call)?;
        let mut rows = Rows::begin(call);
        if let Some(shown) = stream_row(stream)? {
            rows.put(shown.columns)?;
        }
        Ok(None)
    }
}

sql_function! {
    /// `es_create_stream(stream_id, tenant_id, entity_id)`: the stream's row, which is made when it
    /// is not there.
    ///
    /// Errors: 22023 bad argument or another entity, 25006 read-only. Volatile, parallel unsafe.
    fn es_create_stream, pg_finfo_es_create_stream(call) {
        let StreamKey { stream_id, tenant_id } = stream_and_tenant(call)?;
        let stream = StreamAppend {
            partition: Partition::of(stream_id),
            stream_id,
            tenant_id,
            entity_id: call.optional_name(2, NameKind::Entity)?,
            expected: ExpectedVersion::Any,
            events: &[],
        };
        let mut rows = Rows::begin(call);
        create_stream(&stream, |head| rows.put(head.columns()))??;
        Ok(None)
    }
}

sql_function! {
    /// `es_streams(partition_id, after_stream_id, max_count)`: the streams of a partition by name.
    /// Tenants of the last name are returned together, so a page may be a little longer.
    ///
    /// Errors: 22023 bad argument. Stable, parallel safe.
    fn es_streams, pg_finfo_es_streams(call) {
        let partition = partition("partition_id", call.int4(0))?;
        check_may_read(partition)?;
        let after = call.optional_name(1, NameKind::AfterStream)?.and(call.datum(1));
        let max_count = call.max_count(2)?;
        let parameters = [
            (pg_sys::INT4OID, Some(pg_sys::Datum::from(partition.number()))),
            (pg_sys::TEXTOID, after),
            (pg_sys::INT8OID, max_count.and_then(|count| int8(count as i64))),
        ];
        query_into(call, STREAMS, &parameters)?;
        Ok(None)
    }
}

const STREAMS: &std::ffi::CStr = c"
    SELECT s.*
      FROM allsource.event_streams s
     WHERE s.partition_id = $1
       AND ($2 IS NULL OR s.stream_id > $2)
     ORDER BY s.stream_id
     FETCH FIRST $3 ROWS WITH TIES";

sql_function! {
    /// `es_stream_watermark(stream_id, tenant_id)`: the stream's watermark; NULL if there is no
    /// such stream.
    ///
    /// Errors: 22023 bad argument. Stable, parallel safe.
    fn es_stream_watermark, pg_finfo_es_stream_watermark(call) {
        let shown = stream_row(stream_and_tenant(call)?)?;
        Ok(shown.and_then(|shown| int8(shown.watermark)))
    }
}

fn stream_and_tenant(call: &Call) -> Result<StreamKey<'_>, Error> {
    let stream_id = call.name(0, NameKind::Stream)?;
    Ok(StreamKey { stream_id, tenant_id: call.name(1, NameKind::Tenant)? })
}
