//! Reading: `es_read`, `es_read_all`, `es_safe_position`.

use crate::codec::array::ElementType;
use crate::model::error::StoreError;
use crate::model::name::NameKind;
use crate::model::partition::PARTITIONS;
use crate::pg::call::Call;
use crate::pg::call::rows::int8;
use crate::pg::error::Error;
use crate::pg::read::store::{After, StoreRange, read_store, safe_position};
use crate::pg::read::stream::{StreamRange, read_stream};
use crate::sql_function;
use pgrx::IntoDatum;
use pgrx::pg_sys::Datum;

sql_function! {
    /// `es_read(stream_id, from_version, max_count, backward, tenant_id)`: the events of a stream,
    /// with the columns of the view `events`, as the statement's snapshot has them. No row if
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
        read_all(call, After::one(after_position), partitions(call)?)
    }
}

sql_function! {
    /// `es_read_all_from(after_positions, max_count, partition_ids, event_types, tenant_id)`: the same, with
    /// one position for each partition. A partition whose position is NULL is not read.
    ///
    /// Errors: 22023 bad argument, 55000 not preloaded. Volatile, parallel unsafe, as `es_read_all`.
    #[measured(ReadAll)]
    fn es_read_all_from, pg_finfo_es_read_all_from(call) {
        let argument = "after_positions";
        let positions = call.required_array(0, argument, ElementType::Int8)?.positions()?;
        let mut wanted = partitions(call)?;
        for (is_wanted, position) in wanted.iter_mut().zip(&positions) {
            *is_wanted &= position.is_some();
        }
        read_all(call, After::each(positions.map(Option::unwrap_or_default)), wanted)
    }
}

/// Which partitions the third argument names; NULL: all.
fn partitions(call: &Call) -> Result<[bool; PARTITIONS], Error> {
    let array = call.array(2, "partition_ids", ElementType::Int4)?;
    Ok(array.map_or(Ok([true; PARTITIONS]), |array| array.partitions())?)
}

fn read_all(
    call: &Call,
    after: After,
    partitions: [bool; PARTITIONS],
) -> Result<Option<Datum>, Error> {
    let range = StoreRange {
        after,
        max_count: call.max_count(1)?,
        partitions,
        event_types: call
            .array(3, "event_types", ElementType::Text)?
            .map(|array| array.values())
            .transpose()?,
        tenant_id: call.optional_name(4, NameKind::Tenant)?,
    };
    read_store(call, &range)?;
    Ok(None)
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

sql_function! {
    /// `es_positions()`: the present position of each partition, to begin reading with from now on.
    ///
    /// Errors: 55000 not preloaded. Volatile, parallel unsafe.
    fn es_positions, pg_finfo_es_positions(_call) {
        let safe = safe_position()?;
        Ok(vec![safe; PARTITIONS].into_datum())
    }
}
