//! Hot partitions: `es_heat`, `es_cool`, `es_settle`, their state, and the sidecar.

use crate::codec::argument::partition;
use crate::model::error::StoreError;
use crate::model::partition::Partition;
use crate::pg::call::datum::text;
use crate::pg::call::rows::{Rows, bool, int4, int8};
use crate::pg::hot::control::Control;
use crate::pg::hot::map::{self, forget_all};
use crate::pg::settler::command;
use crate::pg::sidecar;
use crate::sql_function;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// `es_hot_partitions()`: a row for each partition that is or was hot.
    ///
    /// Stable, parallel safe.
    fn es_hot_partitions, pg_finfo_es_hot_partitions(call) {
        let mut rows = Rows::begin(call);
        let status = sidecar::status();
        map::report(|of| {
            let partition = Partition::new(of.partition);
            let control = Control::get().zip(partition).map(|(control, one)| control.of(one));
            let count = |count: &AtomicU64| int8(count.load(Ordering::Relaxed) as i64);
            let applied = partition.zip(status.as_ref()).filter(|(_, status)| status.is_served);
            let lag = applied.map(|(partition, status)| {
                let first = of.known.settled_batch;
                let applied = status.figures.applied[partition.index()].max(first);
                of.last_batch.max(first).saturating_sub(applied).max(0)
            });
            rows.put([
                int4(of.partition),
                Some(text(of.known.state.name().as_bytes())),
                of.since,
                bool(!of.known.is_ours),
                int8(of.known.settled_batch),
                int8(of.batches),
                int8(of.events),
                int8(of.bytes),
                of.oldest,
                control.and_then(|control| count(&control.taken_events)),
                control.and_then(|control| count(&control.settled_events)),
                lag.and_then(int8),
                control.and_then(|control| control.error.get()).map(|error| text(error.as_bytes())),
            ])
        })?;
        Ok(None)
    }
}

sql_function! {
    /// `es_sidecar_stats()`: one row about the sidecar and who asks it, since the server was started.
    ///
    /// Volatile, parallel safe.
    fn es_sidecar_stats, pg_finfo_es_sidecar_stats(call) {
        let mut rows = Rows::begin(call);
        let (Some(status), Some(control)) = (sidecar::status(), Control::get()) else {
            return Ok(None);
        };
        let figures = &status.figures;
        let (tails, no_tails) = control.tails();
        rows.put([
            bool(status.is_served),
            control.pid().and_then(int4),
            int8(figures.disk_bytes as i64),
            int8(figures.memory_bytes as i64),
            int8(figures.entries as i64),
            int8(figures.answers as i64),
            int8(figures.misses as i64),
            int8(tails as i64),
            int8(no_tails as i64),
            int8(figures.rebuilds as i64),
            status.error.or_else(|| control.error().get()).map(|error| text(error.as_bytes())),
        ])?;
        Ok(None)
    }
}

sql_function! {
    /// `es_sidecar_rebuild()`: empties the sidecar, which is then made anew from the table.
    ///
    /// Errors: 55000 it could not be, or there is no hot partition, and as for `es_heat`. Volatile, parallel
    /// unsafe.
    fn es_sidecar_rebuild, pg_finfo_es_sidecar_rebuild(_call) {
        command::rebuild()?;
        Ok(int8(0))
    }
}

sql_function! {
    /// `es_sidecar_checkpoint(path)`: copies the sidecar's files, for diagnosis, into a directory of the
    /// server that does not exist.
    ///
    /// Errors: 42501 only superusers, 22023 bad path, and as for `es_sidecar_rebuild`. Volatile, parallel
    /// unsafe.
    fn es_sidecar_checkpoint, pg_finfo_es_sidecar_checkpoint(call) {
        let path = call.bytes(0).ok_or(StoreError::NullArgument { argument: "path" })?;
        command::checkpoint(path)?;
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
