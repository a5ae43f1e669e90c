//! Recognizing a retried append by its event ids.

use crate::drain::verdict::Known;
use crate::model::error::StoreError;
use crate::model::event::EventId;
use crate::model::memory::{collect, in_table};
use crate::model::stream_append::StreamAppend;
use crate::model::version::ExpectedVersion;
use crate::pg::call::datum::display;
use crate::pg::error::Error;
use crate::pg::session::xact::wait_at_commit;
use crate::pg::tables::log::LogReader;
use crate::pg::tables::relation::{For, Leaf};
use crate::pg::tables::scan::{Direction, Key, Scan, decision_snapshot};
use crate::pg::tables::schema::{LeafIndex, Root, ids};
use std::collections::HashSet;

/// Where the events of a retried append are.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// version of the first
    pub first_version: i64,
    /// version of the last
    pub last_version: i64,
    /// position of the first
    pub first_position: i64,
}

/// Decides whether an append is the retry of an earlier one: all its events have ids, and these
/// stand in the stream in the same order, without others between them, with the same types and
/// payloads, and where the writer expects them. Ids that are there in any other way are an error.
/// `current` is the stream's version.
pub fn find_retry(
    append: &StreamAppend<'_>,
    stream_no: i64,
    current: i64,
) -> Result<Option<Retry>, Error> {
    if append.events.iter().all(|event| event.event_id.is_none()) {
        return Ok(None);
    }
    check_distinct(append)?;
    if current == 0 {
        return Ok(None);
    }
    let versions = find_versions(append, stream_no)?;
    let Some(known) = versions.iter().position(Option::is_some) else { return Ok(None) };
    let duplicate = |index: usize, reason| Err(duplicate(append, index, reason));
    let Some(first_version) = versions[0] else {
        return duplicate(known, "other events of the call are new");
    };
    for (index, version) in versions.iter().enumerate() {
        match version {
            None => return duplicate(known, "other events of the call are new"),
            Some(version) if *version != first_version + index as i64 => {
                return duplicate(index, "the events do not follow each other there");
            }
            Some(_) => {}
        }
    }
    if let ExpectedVersion::Exactly(version) = append.expected
        && version + 1 != first_version
    {
        // Not at that place: then the writer is either behind, or reuses an id.
        if version != current {
            return Ok(None);
        }
        return duplicate(0, "the events stand at another version");
    }
    let last_version = first_version + append.events.len() as i64 - 1;
    let mut reader = LogReader::open(append.partition, decision_snapshot())?;
    let mut first_position = None;
    let mut index = 0;
    let mut different = None;
    reader.read_versions(stream_no, first_version, last_version, |event| {
        first_position.get_or_insert(event.position);
        let new = &append.events[index];
        if event.event.event_type.1 != new.event_type || event.event.payload.1 != new.payload {
            different.get_or_insert(index);
        }
        index += 1;
        Ok(())
    })?;
    if let Some(index) = different {
        return duplicate(index, "its type or payload differs");
    }
    match first_position {
        Some(first_position) if index == append.events.len() => {
            wait_at_commit();
            Ok(Some(Retry { first_version, last_version, first_position }))
        }
        _ => Err(Error::MissingEvents { stream_id: display(append.stream_id) }),
    }
}

/// Runs that are read on the way from one known event to the next one, rather than searched for.
const VERSIONS_BETWEEN_MAX: i64 = 256;

/// What is known of the id of each event in its stream.
pub fn find_known(append: &StreamAppend<'_>, stream_no: i64) -> Result<Vec<Known>, Error> {
    let mut known = vec![Known::New; append.events.len()];
    let mut there: Vec<(i64, usize)> = find_versions(append, stream_no)?
        .into_iter()
        .enumerate()
        .filter_map(|(index, version)| Some((version?, index)))
        .collect();
    if there.is_empty() {
        return Ok(known);
    }
    there.sort_unstable();
    let mut reader = LogReader::open(append.partition, decision_snapshot())?;
    for near in there.chunk_by(|a, b| b.0 - a.0 <= VERSIONS_BETWEEN_MAX) {
        let mut rest = near.iter().peekable();
        let (first, last) = (near[0].0, near[near.len() - 1].0);
        reader.read_versions(stream_no, first, last, |event| {
            while let Some((_, index)) = rest.next_if(|(version, _)| *version == event.version) {
                let new = &append.events[*index];
                let is_same = event.event.event_type.1 == new.event_type
                    && event.event.payload.1 == new.payload;
                known[*index] = if is_same { Known::Same } else { Known::Different };
            }
            Ok(())
        })?;
        if rest.next().is_some() {
            return Err(Error::MissingEvents { stream_id: display(append.stream_id) });
        }
    }
    wait_at_commit();
    Ok(known)
}

fn check_distinct(append: &StreamAppend<'_>) -> Result<(), Error> {
    let len = append.events.len();
    if len == 1 {
        return Ok(());
    }
    let mut seen: HashSet<EventId> = HashSet::new();
    in_table::<EventId>(seen.try_reserve(len), len)?;
    for (index, event) in append.events.iter().enumerate() {
        if event.event_id.is_some_and(|id| !seen.insert(id)) {
            return Err(duplicate(append, index, "the call gives it twice"));
        }
    }
    Ok(())
}

fn duplicate(append: &StreamAppend<'_>, index: usize, reason: &'static str) -> Error {
    let event_id = append.events[index].event_id.unwrap_or_default();
    StoreError::DuplicateEventId {
        stream_id: display(append.stream_id),
        event_id: pgrx::Uuid::from_bytes(event_id).to_string(),
        reason,
    }
    .into()
}

fn find_versions(append: &StreamAppend<'_>, stream_no: i64) -> Result<Vec<Option<i64>>, Error> {
    let leaf = Leaf::open(Root::Ids, append.partition, For::Reading)?;
    let mut scan = Scan::open(leaf, LeafIndex::ByStream, decision_snapshot(), 2);
    let versions = append.events.iter().map(|event| {
        let id = event.event_id.as_ref()?;
        scan.find(&[(1, Key::Int8(stream_no)), (2, Key::Uuid(id))]);
        scan.next(Direction::Forward).then(|| scan.row().0[ids::VERSION].value() as i64)
    });
    Ok(collect(versions)?)
}
