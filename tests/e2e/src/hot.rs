//! Hot partitions as Rust calls, and streams whose last events may not be settled yet: such an event
//! has no position, which is shown here as 0.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use postgres::{Client, Error, GenericClient};
use serde_json::Value;
use uuid::Uuid;

use crate::calls::ReadStream;
use crate::event::{EVENT_COLUMNS, Event};
use crate::patience;

/// Calls `es_heat`.
///
/// # Errors
/// What the server answers.
pub fn heat(client: &mut impl GenericClient, partition: i32) -> Result<(), Error> {
    client.execute("SELECT allsource.es_heat($1)", &[&partition]).map(drop)
}

/// Calls `es_cool` without a limit.
///
/// # Errors
/// What the server answers.
pub fn cool(client: &mut impl GenericClient, partition: i32) -> Result<(), Error> {
    client.execute("SELECT allsource.es_cool($1)", &[&partition]).map(drop)
}

/// Calls `es_cool` with a timeout as PostgreSQL reads an interval.
///
/// # Errors
/// What the server answers.
pub fn cool_within(
    client: &mut impl GenericClient,
    partition: i32,
    timeout: &str,
) -> Result<(), Error> {
    let query = "SELECT allsource.es_cool($1, $2::text::interval)";
    client.execute(query, &[&partition, &timeout]).map(drop)
}

/// Calls `es_settle` for all partitions with its default timeout.
///
/// # Errors
/// What the server answers.
pub fn settle(client: &mut impl GenericClient) -> Result<(), Error> {
    client.execute("SELECT allsource.es_settle()", &[]).map(drop)
}

/// Calls `es_settle` with a timeout as PostgreSQL reads an interval.
///
/// # Errors
/// What the server answers.
pub fn settle_within(
    client: &mut impl GenericClient,
    partition: Option<i32>,
    timeout: &str,
) -> Result<(), Error> {
    let query = "SELECT allsource.es_settle($1, $2::text::interval)";
    client.execute(query, &[&partition, &timeout]).map(drop)
}

/// Calls `es_sidecar_rebuild`.
///
/// # Errors
/// What the server answers.
pub fn rebuild(client: &mut impl GenericClient) -> Result<(), Error> {
    client.execute("SELECT allsource.es_sidecar_rebuild()", &[]).map(drop)
}

/// Calls `es_read`; an event that is not settled has position 0.
///
/// # Errors
/// What the server answers.
pub fn read(client: &mut impl GenericClient, read: &ReadStream<'_>) -> Result<Vec<Event>, Error> {
    let columns = EVENT_COLUMNS.replacen("position", "COALESCE(position, 0)", 1);
    let rows = client.query(
        &format!(
            "SELECT {columns} FROM allsource.es_read(stream_id => $1, \
             from_version => $2, max_count => $3, backward => $4, tenant_id => $5)"
        ),
        &[&read.stream, &read.from_version, &read.max_count, &read.backward, &read.tenant],
    )?;
    Ok(rows.iter().map(Event::from_row).collect())
}

/// The state of a partition in `hot_partitions_status`; `None` if it was never hot.
///
/// # Panics
/// Where the view cannot be read.
pub fn state(client: &mut impl GenericClient, partition: i32) -> Option<String> {
    let query = "SELECT state FROM allsource.hot_partitions_status WHERE partition_id = $1";
    client.query_opt(query, &[&partition]).expect(query).map(|row| row.get(0))
}

/// How many rows `hot_batches` has for a partition, as the statement's snapshot shows it.
///
/// # Panics
/// Where the table cannot be read.
pub fn batches(client: &mut impl GenericClient, partition: i32) -> i64 {
    let query = "SELECT count(*) FROM allsource.hot_batches WHERE partition_id = $1";
    client.query_one(query, &[&partition]).expect(query).get(0)
}

/// The settler's process.
///
/// # Panics
/// Where there is none for too long.
pub fn settler(client: &mut Client) -> i32 {
    let query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'allsource settler'";
    patience::until("the settler runs", || {
        client.query_opt(query, &[]).expect(query).map(|row| row.get(0))
    })
}

/// The second settler's process, which is there while there is something for it to do.
///
/// # Panics
/// Where there is none for too long.
pub fn second_settler(client: &mut Client) -> i32 {
    patience::until("the second settler runs", || find_second_settler(client))
}

/// The same, if there is one now.
///
/// # Panics
/// Where the server does not answer.
pub fn find_second_settler(client: &mut Client) -> Option<i32> {
    let query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'allsource second settler'";
    client.query_opt(query, &[]).expect(query).map(|row| row.get(0))
}

/// Fails the test where events, read forward from the first one, are not numbered 1, 2, 3, go back in
/// time, or have positions that do not grow: those that are not settled come last.
///
/// # Panics
/// Where they are not as they have to be.
pub fn assert_is_stream(events: &[Event], context: &str) {
    for (event, version) in events.iter().zip(1..) {
        assert_eq!(event.version, version, "{context}: versions of {events:#?}");
    }
    for pair in events.windows(2) {
        let [one, next] = pair else { unreachable!("a pair") };
        assert!(one.timestamp <= next.timestamp, "{context}: time goes back: {pair:#?}");
        let is_in_order = next.position == 0 || 0 < one.position && one.position < next.position;
        assert!(is_in_order, "{context}: positions: {pair:#?}");
    }
}

/// Tenant, stream and version.
type Place = (String, String, i64);

/// What is remembered of an event.
#[derive(Clone, Debug, PartialEq)]
struct Sighting {
    event_type: String,
    payload: Value,
    id: Option<Uuid>,
    timestamp: SystemTime,
    position: i64,
}

/// The committed events that anybody has seen: they never change, but for the position that an event
/// gets when it is settled.
#[derive(Debug, Default)]
pub struct Sightings(Mutex<HashMap<Place, Sighting>>);

impl Sightings {
    /// Events were seen.
    ///
    /// # Panics
    /// Where one of them was seen differently before.
    pub fn note(&self, events: &[Event], context: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            let place = (event.tenant_id.clone(), event.stream_id.clone(), event.version);
            let seen = Sighting {
                event_type: event.event_type.clone(),
                payload: event.payload.clone(),
                id: event.event_id,
                timestamp: event.timestamp,
                position: event.position,
            };
            let before = known.entry(place).or_insert_with(|| seen.clone());
            if before.position == 0 {
                before.position = seen.position;
            }
            // Two readers may tell what they have seen in another order than they have seen it.
            let position = if seen.position == 0 { before.position } else { seen.position };
            assert_eq!(*before, Sighting { position, ..seen }, "{context}: changed: {event:#?}");
        }
    }

    /// The highest version seen of a stream; 0: none.
    ///
    /// # Panics
    /// Never.
    pub fn version(&self, tenant: &str, stream: &str) -> i64 {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_stream = |place: &&Place| (place.0.as_str(), place.1.as_str()) == (tenant, stream);
        known.keys().filter(of_stream).map(|place| place.2).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(version: i64, position: i64) -> Event {
        Event {
            position,
            stream_id: "s".into(),
            version,
            tenant_id: "default".into(),
            event_type: "t".into(),
            entity_id: None,
            payload: json!(1),
            metadata: None,
            timestamp: SystemTime::UNIX_EPOCH,
            event_id: None,
            partition_id: 0,
        }
    }

    #[test]
    fn an_event_may_be_settled_between_two_sightings() {
        let sightings = Sightings::default();
        for position in [0, 7, 0, 7] {
            sightings.note(&[event(3, position)], "test");
        }
        assert_eq!(sightings.version("default", "s"), 3);
        assert_eq!(sightings.version("default", "t"), 0);
    }

    #[test]
    #[should_panic(expected = "changed")]
    fn a_position_that_changes_is_found() {
        let sightings = Sightings::default();
        sightings.note(&[event(1, 7)], "test");
        sightings.note(&[event(1, 8)], "test");
    }

    #[test]
    #[should_panic(expected = "changed")]
    fn another_event_in_its_place_is_found() {
        let sightings = Sightings::default();
        sightings.note(&[event(1, 0)], "test");
        sightings.note(&[Event { payload: json!(2), ..event(1, 0) }], "test");
    }

    #[test]
    fn what_is_not_settled_comes_last() {
        assert_is_stream(&[event(1, 5), event(2, 9), event(3, 0), event(4, 0)], "test");
    }

    #[test]
    #[should_panic(expected = "positions")]
    fn a_settled_event_behind_one_that_is_not_is_found() {
        assert_is_stream(&[event(1, 0), event(2, 9)], "test");
    }
}
