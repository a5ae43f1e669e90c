//! Partitions: `es_partition`.

use crate::model::partition::Partition;
use crate::pg::call::rows::int4;
use crate::sql_function;

sql_function! {
    /// `es_partition(stream_id)`: the partition of a stream, 0 to 31. Immutable, strict, parallel
    /// safe.
    fn es_partition, pg_finfo_es_partition(call) {
        Ok(call.bytes(0).and_then(|name| int4(Partition::of(name).number())))
    }
}
