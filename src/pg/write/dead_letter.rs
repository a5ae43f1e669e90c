//! What an administrator does with a dead letter.

use super::append::append;
use crate::model::event::NewEvent;
use crate::model::partition::Partition;
use crate::model::stream_append::StreamAppend;
use crate::model::version::ExpectedVersion;
use crate::pg::error::Error;
use crate::pg::tables::dead_letters::take;

/// Appends a dead letter's event to its stream, in the caller's transaction, and removes the letter.
/// Returns the event's version.
pub fn retry(id: i64) -> Result<i64, Error> {
    let letter = take(id)?;
    let event = NewEvent {
        event_type: &letter.event_type,
        payload: &letter.payload,
        metadata: letter.metadata.as_deref(),
        event_id: letter.event_id,
    };
    let stream = StreamAppend {
        partition: Partition::of(&letter.stream_id),
        stream_id: &letter.stream_id,
        tenant_id: &letter.tenant_id,
        entity_id: letter.entity_id.as_deref(),
        expected: ExpectedVersion::Any,
        events: &[event],
    };
    Ok(append(&[stream])?[0].last_version)
}

/// Removes a dead letter for good.
pub fn discard(id: i64) -> Result<(), Error> {
    take(id)?;
    Ok(())
}
