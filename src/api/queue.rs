//! Bulk ingestion: `es_enqueue`, `es_enqueue_batch`, `es_flush`, the workers and the dead letters.

use crate::codec::array::ElementType;
use crate::model::error::StoreError;
use crate::model::name::NameKind;
use crate::pg::call::Call;
use crate::pg::call::datum::{count_chars, text};
use crate::pg::call::rows::{Rows, int4, int8, interval};
use crate::pg::error::Error;
use crate::pg::queue::Queues;
use crate::pg::queue::pause::{pause, resume};
use crate::pg::settings;
use crate::pg::settler::command::wait_until_paused;
use crate::pg::tables::waiting_events::adopt_foreign;
use crate::pg::write::batch::EventBatch;
use crate::pg::write::dead_letter;
use crate::pg::write::enqueue::enqueue;
use crate::pg::write::flush::flush;
use crate::sql_function;

sql_function! {
    /// `es_enqueue(stream_id, event_type, payload, metadata, tenant_id, entity_id, event_id,
    /// durable)`: enqueues one event for the workers. It takes effect at once, and is not undone by a
    /// rollback.
    ///
    /// Errors: 53000 queue full, 54000 event too large, 22023 bad argument, 25006 read-only, 55000
    /// not preloaded, no worker or another database; with `durable` the reason why the event could
    /// not be written. Volatile, parallel unsafe.
    #[measured(Enqueue)]
    fn es_enqueue, pg_finfo_es_enqueue(call) {
        let batch = EventBatch {
            stream_ids: &[call.name(0, NameKind::Stream)?],
            tenant_id: call.name(4, NameKind::Tenant)?,
            events: &[call.event([1, 2, 3, 6])?],
        };
        enqueue(batch, call.optional_name(5, NameKind::Entity)?, call.bool(7))?;
        Ok(int8(0))
    }
}

sql_function! {
    /// `es_enqueue_batch(stream_ids, event_types, payloads, metadata, tenant_id, event_ids,
    /// durable)`: enqueues events in the order of the arrays, and returns how many. Arguments are checked
    /// before the first one is enqueued; an error after that says how many were.
    ///
    /// Errors as for `es_enqueue`. Volatile, parallel unsafe.
    #[measured(EnqueueBatch)]
    fn es_enqueue_batch, pg_finfo_es_enqueue_batch(call) {
        let names = call.required_array(0, "stream_ids", ElementType::Text)?;
        let types = call.required_array(1, "event_types", ElementType::Text)?;
        let events = call.events([1, 2, 3, 5])?;
        names.check_len(&types)?;
        let tenant_id = call.name(4, NameKind::Tenant)?;
        let stream_ids = names.names(NameKind::Stream, count_chars)?;
        let batch = EventBatch { stream_ids: &stream_ids, tenant_id, events: &events };
        enqueue(batch, None, call.bool(6))?;
        Ok(int8(events.len() as i64))
    }
}

sql_function! {
    /// `es_flush(timeout)`: waits until everything that was enqueued before the call, by anybody, is
    /// durable, and returns how many events were on their way. `timeout` NULL: no limit.
    ///
    /// Errors: 57014 timed out, 55000 no worker is running, paused, or after an append in the same
    /// transaction. Volatile, parallel unsafe.
    #[measured(Flush)]
    fn es_flush, pg_finfo_es_flush(call) {
        Ok(int8(flush(call.interval(0))? as i64))
    }
}

sql_function! {
    /// `es_queue_stats()`: a row for each worker and its queue, since the server was started.
    ///
    /// Errors: 55000 not preloaded. Volatile, parallel safe.
    fn es_queue_stats, pg_finfo_es_queue_stats(call) {
        let mut rows = Rows::begin(call);
        if settings::workers() == 0 {
            return Ok(None);
        }
        for queue in Queues::open()?.iter() {
            let report = queue.report();
            rows.put([
                int4(queue.index as i32),
                report.pid.and_then(int4),
                Some(text(report.phase.name().as_bytes())),
                int8(report.depth_events as i64),
                int8(report.depth_bytes as i64),
                int8(report.capacity_bytes as i64),
                int8(report.enqueued as i64),
                int8(report.drained as i64),
                int8(report.rejected as i64),
                int8(report.full_waits as i64),
                int8(report.batches as i64),
                int8(report.largest_batch as i64),
                int8(report.dead as i64),
                int8(report.discarded as i64),
                report.last_error.map(|error| text(error.as_bytes())),
                interval(report.lag),
                int8(report.waiting_events as i64),
                int8(report.waiting_streams as i64),
                interval(report.waiting_for),
                report.held_up_by.map(|reason| text(reason.as_bytes())),
            ])?;
        }
        Ok(None)
    }
}

sql_function! {
    /// `es_worker_pause()`: pauses the workers, and returns when each has finished its current
    /// batch. Producers continue until the queues are full. Lasts until `es_worker_resume` or a
    /// restart of the server.
    ///
    /// Errors: 55000 not preloaded or no worker. Volatile, parallel unsafe.
    fn es_worker_pause, pg_finfo_es_worker_pause(_call) {
        pause()?;
        wait_until_paused()?;
        Ok(int8(0))
    }
}

sql_function! {
    /// `es_worker_resume()`: resumes the workers.
    ///
    /// Errors: 55000 not preloaded or no worker. Volatile, parallel unsafe.
    fn es_worker_resume, pg_finfo_es_worker_resume(_call) {
        resume()?;
        Ok(int8(0))
    }
}

sql_function! {
    /// `es_adopt_waiting_events()`: makes waiting events that a dump has brought those of this store, so
    /// that the workers move them, and returns how many there are.
    ///
    /// Errors: 42501 not a member of allsource_admin, 25006 read-only. Volatile, parallel unsafe.
    fn es_adopt_waiting_events, pg_finfo_es_adopt_waiting_events(_call) {
        Ok(int8(adopt_foreign()? as i64))
    }
}

sql_function! {
    /// `es_dead_letter_retry(id)`: appends a dead letter's event to its stream, in the caller's
    /// transaction, removes the letter, and returns the event's version.
    ///
    /// Errors: 42704 no such dead letter, and those of `es_append`. Volatile, parallel unsafe.
    fn es_dead_letter_retry, pg_finfo_es_dead_letter_retry(call) {
        Ok(int8(dead_letter::retry(id(call)?)?))
    }
}

sql_function! {
    /// `es_dead_letter_discard(id)`: removes a dead letter for good.
    ///
    /// Errors: 42704 no such dead letter. Volatile, parallel unsafe.
    fn es_dead_letter_discard, pg_finfo_es_dead_letter_discard(call) {
        dead_letter::discard(id(call)?)?;
        Ok(int8(0))
    }
}

fn id(call: &Call) -> Result<i64, Error> {
    Ok(call.int8(0).ok_or(StoreError::NullArgument { argument: "id" })?)
}
