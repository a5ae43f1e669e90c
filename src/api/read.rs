//! Reading: `es_read`, `es_read_all`, `es_safe_position`.

use crate::codec::array::ElementType;
use crate::model::error::StoreError;
use crate::model::name::NameKind;
use crate::model::partition::Partition;
use crate::pg::call::rows::int8;
use crate::pg::call::{Call, partition, required_element};
use crate::pg::error::Error;
use crate::pg::read::store::{StoreRange, read_store, safe_position};
use crate::pg::read::stream::{StreamRange, read_stream};
use crate::sql_function;

sql_function! {
    /// `es_read(stream_id, from_version, max_count, backward, tenant_id)`: the events of a stream,
    /// with the columns of the view `events`, as the statement's snapshot has them. No row where
    /// there is no such stream.
    ///
    /// Errors: 22023 bad argument. Stable, parallel safe.
    #[measured(Read)]
    fn es_read, pg_finfo_es_read(call) {
        let stream_id = call.name(0, NameKind::Stream)?;
        let range = StreamRange {
            from_version: from_version(call)?,
            max_count: call.max_count(2)?,
            backward: call.bool(3),
        };
        read_stream(call, stream_id, call.name(4, NameKind::Tenant)?, range)?;
        Ok(None)
    }
}

fn from_version(call: &Call) -> Result<Option<i64>, Error> {
    match call.int8(1) {
        Some(value) if value < 1 => {
            let argument = "from_version";
            Err(StoreError::OutOfRange { argument, value, range: "positive" }.into())
        }
        version => Ok(version),
    }
}

sql_function! {
    /// `es_read_all(after_position, max_count, partition_ids, event_types, tenant_id)`: the events
    /// of all streams in the order of their positions, up to the safe position. `max_count` NULL:
    /// all there are.
    ///
    /// Errors: 22023 bad argument, 55000 not preloaded. Volatile: under READ COMMITTED each call sees
    /// what is committed by then. Parallel unsafe.
    #[measured(ReadAll)]
    fn es_read_all, pg_finfo_es_read_all(call) {
        let after_position = call.int8(0).unwrap_or(0);
        if after_position < 0 {
            let argument = "after_position";
            let range = "zero or positive";
            return Err(StoreError::OutOfRange { argument, value: after_position, range }.into());
        }
        let range = StoreRange {
            after_position,
            max_count: call.max_count(1)?,
            partitions: partitions(call)?,
            event_types: event_types(call)?,
            tenant_id: call.optional_name(4, NameKind::Tenant)?,
        };
        read_store(call, &range)?;
        Ok(None)
    }
}

fn partitions(call: &Call) -> Result<Vec<Partition>, Error> {
    let argument = "partition_ids";
    let Some(mut array) = call.array(2, argument, ElementType::Int4)? else {
        return Ok(Partition::all().collect());
    };
    let mut partitions = Vec::with_capacity(array.remaining());
    for index in 0..array.remaining() {
        let element = required_element(&mut array, argument, index)?;
        partitions.push(partition(argument, element)?);
    }
    partitions.sort_unstable();
    partitions.dedup();
    Ok(partitions)
}

fn event_types(call: &Call) -> Result<Option<Vec<&[u8]>>, Error> {
    let argument = "event_types";
    let Some(mut array) = call.array(3, argument, ElementType::Text)? else { return Ok(None) };
    (0..array.remaining())
        .map(|index| required_element(&mut array, argument, index))
        .collect::<Result<Vec<_>, _>>()
        .map(Some)
}

sql_function! {
    /// `es_safe_position()`: the highest position at or below which no event can still appear.
    ///
    /// On a standby, what the primary's worker has recorded last.
    ///
    /// Errors: 55000 not preloaded. Volatile, parallel unsafe.
    fn es_safe_position, pg_finfo_es_safe_position(_call) {
        Ok(int8(safe_position()?))
    }
}
