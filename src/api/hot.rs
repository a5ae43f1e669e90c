//! Hot partitions: `es_heat`, `es_cool`, `es_settle`.

use crate::codec::argument::partition;
use crate::pg::call::rows::int8;
use crate::pg::hot::map::forget_all;
use crate::pg::settler::command;
use crate::sql_function;

sql_function! {
    /// `es_heat(partition_id)`: makes a partition hot. It takes effect at once, and is not undone by a
    /// rollback.
    ///
    /// Errors: 0A000 a build without the sidecar, 22023 no such partition, 55000 not preloaded, no
    /// worker, paused, another database or after an append in the same transaction. Volatile, parallel
    /// unsafe.
    fn es_heat, pg_finfo_es_heat(call) {
        command::heat(partition("partition_id", call.int4(0))?)?;
        Ok(int8(0))
    }
}

sql_function! {
    /// `es_cool(partition_id, timeout)`: settles what a partition holds, and returns when it is cold.
    /// `timeout` NULL: no limit.
    ///
    /// Errors: 57014 timed out, and as for `es_heat`. Volatile, parallel unsafe.
    fn es_cool, pg_finfo_es_cool(call) {
        command::cool(partition("partition_id", call.int4(0))?, call.interval(1))?;
        Ok(int8(0))
    }
}

sql_function! {
    /// `es_settle(partition_id, timeout)`: settles what was flushed before the call, in one partition or,
    /// for NULL, in all. `timeout` NULL: no limit.
    ///
    /// Errors: 57014 timed out, and as for `es_heat`. Volatile, parallel unsafe.
    fn es_settle, pg_finfo_es_settle(call) {
        let one = call.int4(0).map(|id| partition("partition_id", Some(id))).transpose()?;
        command::settle(one, call.interval(1))?;
        Ok(int8(0))
    }
}

sql_function! {
    /// `hot_partitions_changed()`: the trigger of `hot_partitions`. Sessions read it again.
    ///
    /// Volatile, parallel unsafe.
    fn hot_partitions_changed, pg_finfo_hot_partitions_changed(_call) {
        forget_all()?;
        Ok(int8(0))
    }
}
