//! Checking what is stored: `es_verify_gapless`, `es_verify`, `es_run_checksum`.

use crate::codec::argument::partition;
use crate::model::name::NameKind;
use crate::model::partition::{PARTITIONS, Partition};
use crate::pg::call::datum::text;
use crate::pg::call::rows::{Rows, int4};
use crate::pg::cluster::owners::{is_member, readable};
use crate::pg::error::Error;
use crate::pg::read::verify::{is_gapless, run_checksum, verify_batches};
use crate::pg::tables::query::query_into_rows;
use crate::sql_function;
use pgrx::{IntoDatum, pg_sys};

sql_function! {
    /// `es_verify_gapless(stream_id, tenant_id)`: whether versions 1 to the watermark are there,
    /// each once; NULL if there is no such stream.
    ///
    /// Errors: 22023 bad argument. Stable, parallel safe.
    fn es_verify_gapless, pg_finfo_es_verify_gapless(call) {
        let stream_id = call.name(0, NameKind::Stream)?;
        let gapless = is_gapless(stream_id, call.name(1, NameKind::Tenant)?)?;
        Ok(gapless.map(pg_sys::Datum::from))
    }
}

sql_function! {
    /// `es_run_checksum(run event_log)`: the checksum that the run should have; NULL if its
    /// columns are damaged. Immutable, strict, parallel safe.
    fn es_run_checksum, pg_finfo_es_run_checksum(call) {
        // SAFETY: the argument is declared as the row type of event_log.
        #[expect(unsafe_code, reason = "the SQL declaration gives the type")]
        let checksum = call.datum(0).and_then(|row| unsafe { run_checksum(row) });
        Ok(checksum.and_then(int4))
    }
}

sql_function! {
    /// `es_verify(partition_id, stream_id)`: a row for every fault found in the store, in one
    /// partition, or in the streams of one name. Reads all that it checks.
    ///
    /// Errors: 22023 bad argument. Stable, parallel safe.
    fn es_verify, pg_finfo_es_verify(call) {
        let stream_id = call.optional_name(1, NameKind::Stream)?;
        let partition = match (call.int4(0), stream_id) {
            (None, None) => None,
            (None, Some(stream_id)) => Some(Partition::of(stream_id)),
            (given, _) => Some(partition("partition_id", given)?),
        };
        let parameters = [
            (pg_sys::INT4OID, partition.map(|p| pg_sys::Datum::from(p.number()))),
            (pg_sys::TEXTOID, stream_id.and(call.datum(1))),
            (pg_sys::BOOLOID, Some(pg_sys::Datum::from(is_member()?))),
            (pg_sys::INT4ARRAYOID, foreign(partition)?),
        ];
        let mut rows = Rows::begin(call);
        query_into_rows(&mut rows, VERIFY, &parameters)?;
        verify_batches(partition, stream_id, |fault| {
            rows.put([
                fault.stream.map(|stream| text(stream.tenant_id)),
                fault.stream.map(|stream| text(stream.stream_id)),
                Some(text(b"hot batch")),
                None,
                None,
                Some(text(fault.detail.as_bytes())),
            ])
        })?;
        Ok(None)
    }
}

/// The partitions that are passed over: of what another group has, what is here may be incomplete. A
/// partition that was asked for is checked all the same.
fn foreign(asked_for: Option<Partition>) -> Result<Option<pg_sys::Datum>, Error> {
    if asked_for.is_some() {
        return Ok(Vec::<i32>::new().into_datum());
    }
    let readable = readable([true; PARTITIONS], false)?;
    let foreign = Partition::all().filter(|partition| !readable[partition.index()]);
    Ok(foreign.map(Partition::number).collect::<Vec<_>>().into_datum())
}

const VERIFY: &std::ffi::CStr = match std::ffi::CStr::from_bytes_with_nul(
    concat!(include_str!("queries/verify.sql"), "\0").as_bytes(),
) {
    Ok(sql) => sql,
    Err(_) => c"",
};
