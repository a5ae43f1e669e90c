//! Appending to many streams at once.

use super::append::{Appended, append};
use crate::model::batch::{Group, Plan, StreamKey};
use crate::model::event::NewEvent;
use crate::model::memory::{collect, filled};
use crate::model::stream_append::StreamAppend;
use crate::model::version::ExpectedVersion;
use crate::pg::error::Error;

/// Events beside the names of their streams.
#[derive(Clone, Copy)]
pub struct EventBatch<'a> {
    /// the stream of each event
    pub stream_ids: &'a [&'a [u8]],
    /// the tenant of all streams
    pub tenant_id: &'a [u8],
    /// the events, as many as streams
    pub events: &'a [NewEvent<'a>],
}

/// Appends a batch, all or nothing. `expected` has what was given beside each event, or nothing at
/// all; the first one given for a stream counts. What was written to each stream is passed to
/// `use_stream`, in the order in which the streams appear first.
pub fn append_batch(
    batch: EventBatch<'_>,
    expected: &[Option<ExpectedVersion>],
    mut use_stream: impl FnMut(&Group<'_>, Appended) -> Result<(), Error>,
) -> Result<(), Error> {
    let tenant_id = batch.tenant_id;
    let streams = batch.stream_ids.iter();
    let plan = Plan::new(streams.map(|stream_id| StreamKey { stream_id, tenant_id }))?;
    let (ranges, events) = plan.in_lock_order(batch.events)?;
    let appends = collect(ranges.iter().map(|(index, range)| {
        let group = &plan.groups()[*index];
        let expected = plan.events(group).find_map(|event| *expected.get(event)?);
        StreamAppend {
            partition: group.partition,
            stream_id: group.stream.stream_id,
            tenant_id,
            entity_id: None,
            expected: expected.unwrap_or(ExpectedVersion::Any),
            events: &events[range.clone()],
        }
    }))?;
    let mut place_of_group = filled(0, ranges.len())?;
    for (place, (index, _)) in ranges.iter().enumerate() {
        place_of_group[*index] = place;
    }
    let appended = append(&appends)?;
    for (group, place) in plan.groups().iter().zip(place_of_group) {
        use_stream(group, appended[place])?;
    }
    Ok(())
}
