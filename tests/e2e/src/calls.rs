//! The public SQL functions and views as Rust calls. No logic; every call is one statement.

use postgres::{Error, GenericClient, Row};
use serde_json::Value;
use uuid::Uuid;

use crate::event::{EVENT_COLUMNS, Event, NewEvent};

/// Arguments of `es_append` and `es_append_many`.
#[derive(Clone, Copy, Debug)]
pub struct Append<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// Tenant.
    pub tenant: &'a str,
    /// Expected version; `None` is any.
    pub expected: Option<i64>,
    /// Entity of the stream.
    pub entity: Option<&'a str>,
    /// What to append.
    pub events: &'a [NewEvent],
}

impl<'a> Append<'a> {
    /// Append to a stream of the default tenant, whatever its version is.
    pub fn to(stream: &'a str, events: &'a [NewEvent]) -> Self {
        Self { stream, tenant: "default", expected: None, entity: None, events }
    }

    /// The same with an expected version.
    pub fn expecting(self, version: i64) -> Self {
        Self { expected: Some(version), ..self }
    }

    /// Calls `es_append` with the only event; the version written.
    ///
    /// # Errors
    /// What the server answers.
    ///
    /// # Panics
    /// Where there is not exactly one event.
    pub fn one(&self, client: &mut impl GenericClient) -> Result<i64, Error> {
        let [event] = self.events else { panic!("es_append takes one event") };
        let row = client.query_one(
            "SELECT allsource.es_append(stream_id => $1, event_type => $2, payload => $3, \
             metadata => $4, expected_version => $5, tenant_id => $6, entity_id => $7, \
             event_id => $8)",
            &[
                &self.stream,
                &event.event_type,
                &event.payload,
                &event.metadata,
                &self.expected,
                &self.tenant,
                &self.entity,
                &event.id,
            ],
        )?;
        Ok(row.get(0))
    }

    /// Calls `es_append_many`; the last version written.
    ///
    /// # Errors
    /// What the server answers.
    pub fn many(&self, client: &mut impl GenericClient) -> Result<i64, Error> {
        let arrays = Arrays::of(self.events.iter());
        let row = client.query_one(
            "SELECT allsource.es_append_many(stream_id => $1, event_types => $2, \
             payloads => $3, metadata => $4, expected_version => $5, tenant_id => $6, \
             entity_id => $7, event_ids => $8)",
            &[
                &self.stream,
                &arrays.types,
                &arrays.payloads,
                &arrays.metadata,
                &self.expected,
                &self.tenant,
                &self.entity,
                &arrays.ids,
            ],
        )?;
        Ok(row.get(0))
    }
}

/// One event of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchItem {
    /// Name of the stream.
    pub stream: String,
    /// Expected version of the stream; the first one given for a stream counts.
    pub expected: Option<i64>,
    /// The event.
    pub event: NewEvent,
}

/// A row of the answer of `es_append_batch`.
#[derive(Clone, Debug, PartialEq)]
pub struct Appended {
    /// Name of the stream.
    pub stream: String,
    /// Its partition.
    pub partition: i32,
    /// First version written.
    pub first_version: i64,
    /// Last version written.
    pub last_version: i64,
    /// Position of the first event written.
    pub first_position: i64,
}

/// Arguments of `es_append_batch`.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Tenant of all streams.
    pub tenant: &'a str,
    /// The events.
    pub items: &'a [BatchItem],
}

impl<'a> Batch<'a> {
    /// A batch for the default tenant.
    pub fn of(items: &'a [BatchItem]) -> Self {
        Self { tenant: "default", items }
    }

    /// Calls `es_append_batch`.
    ///
    /// # Errors
    /// What the server answers.
    pub fn append(&self, client: &mut impl GenericClient) -> Result<Vec<Appended>, Error> {
        let streams: Vec<&str> = self.items.iter().map(|item| item.stream.as_str()).collect();
        let arrays = Arrays::of(self.items.iter().map(|item| &item.event));
        let expected: Vec<Option<i64>> = self.items.iter().map(|item| item.expected).collect();
        let expected = expected.iter().any(Option::is_some).then_some(expected);
        let rows = client.query(
            "SELECT stream_id, partition_id, first_version, last_version, first_position \
             FROM allsource.es_append_batch(stream_ids => $1, event_types => $2, \
             payloads => $3, metadata => $4, expected_versions => $5, tenant_id => $6, \
             event_ids => $7)",
            &[
                &streams,
                &arrays.types,
                &arrays.payloads,
                &arrays.metadata,
                &expected,
                &self.tenant,
                &arrays.ids,
            ],
        )?;
        Ok(rows.iter().map(Appended::from_row).collect())
    }
}

impl Appended {
    fn from_row(row: &Row) -> Self {
        Self {
            stream: row.get(0),
            partition: row.get(1),
            first_version: row.get(2),
            last_version: row.get(3),
            first_position: row.get(4),
        }
    }
}

/// The events as the arrays that the functions take. `metadata` and `ids` are NULL where no
/// event has any.
pub(crate) struct Arrays {
    pub(crate) types: Vec<String>,
    pub(crate) payloads: Vec<Value>,
    pub(crate) metadata: Option<Vec<Option<Value>>>,
    pub(crate) ids: Option<Vec<Option<Uuid>>>,
}

impl Arrays {
    pub(crate) fn of<'a>(events: impl Iterator<Item = &'a NewEvent> + Clone) -> Self {
        let metadata: Vec<_> = events.clone().map(|event| event.metadata.clone()).collect();
        let ids: Vec<_> = events.clone().map(|event| event.id).collect();
        Self {
            types: events.clone().map(|event| event.event_type.clone()).collect(),
            payloads: events.map(|event| event.payload.clone()).collect(),
            metadata: metadata.iter().any(Option::is_some).then_some(metadata),
            ids: ids.iter().any(Option::is_some).then_some(ids),
        }
    }
}

/// Arguments of `es_read`.
#[derive(Clone, Copy, Debug)]
pub struct ReadStream<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// Tenant.
    pub tenant: &'a str,
    /// Where to begin; `None` with `backward` is the end.
    pub from_version: Option<i64>,
    /// Most events to return; `None` is all.
    pub max_count: Option<i64>,
    /// Newest first.
    pub backward: bool,
}

impl<'a> ReadStream<'a> {
    /// The whole stream of the default tenant.
    pub fn all(stream: &'a str) -> Self {
        let from_version = Some(1);
        Self { stream, tenant: "default", from_version, max_count: None, backward: false }
    }

    /// Calls `es_read`.
    ///
    /// # Errors
    /// What the server answers.
    pub fn read(&self, client: &mut impl GenericClient) -> Result<Vec<Event>, Error> {
        let rows = client.query(
            &format!(
                "SELECT {EVENT_COLUMNS} FROM allsource.es_read(stream_id => $1, \
                 from_version => $2, max_count => $3, backward => $4, tenant_id => $5)"
            ),
            &[&self.stream, &self.from_version, &self.max_count, &self.backward, &self.tenant],
        )?;
        Ok(rows.iter().map(Event::from_row).collect())
    }
}

/// Arguments of `es_read_all`.
#[derive(Clone, Copy, Debug)]
pub struct ReadAll<'a> {
    /// The last position that the caller has.
    pub after_position: i64,
    /// Most events to return.
    pub max_count: i64,
    /// Only these partitions.
    pub partitions: Option<&'a [i32]>,
    /// Only these types.
    pub event_types: Option<&'a [String]>,
    /// Only this tenant.
    pub tenant: Option<&'a str>,
}

impl ReadAll<'_> {
    /// Everything after a position, a page of `max_count` events.
    pub fn after(after_position: i64, max_count: i64) -> Self {
        Self { after_position, max_count, partitions: None, event_types: None, tenant: None }
    }

    /// Calls `es_read_all`.
    ///
    /// # Errors
    /// What the server answers.
    pub fn read(&self, client: &mut impl GenericClient) -> Result<Vec<Event>, Error> {
        let rows = client.query(
            &format!(
                "SELECT {EVENT_COLUMNS} FROM allsource.es_read_all(after_position => $1, \
                 max_count => $2, partition_ids => $3, event_types => $4, tenant_id => $5)"
            ),
            &[
                &self.after_position,
                &self.max_count,
                &self.partitions,
                &self.event_types,
                &self.tenant,
            ],
        )?;
        Ok(rows.iter().map(Event::from_row).collect())
    }
}

/// Calls `es_safe_position`.
///
/// # Errors
/// What the server answers.
pub fn safe_position(client: &mut impl GenericClient) -> Result<i64, Error> {
    Ok(client.query_one("SELECT allsource.es_safe_position()", &[])?.get(0))
}

/// The stream's current version as `es_stream` has it; `None` where there is no such stream.
///
/// # Errors
/// What the server answers.
pub fn current_version(
    client: &mut impl GenericClient,
    stream: &str,
    tenant: &str,
) -> Result<Option<i64>, Error> {
    let row = client.query_opt(
        "SELECT current_version FROM allsource.es_stream(stream_id => $1, tenant_id => $2)",
        &[&stream, &tenant],
    )?;
    Ok(row.map(|row| row.get(0)))
}

/// Names of streams of one partition.
///
/// # Panics
/// Where the server cannot be asked.
pub fn names_in(client: &mut impl GenericClient, partition: i32, count: i64) -> Vec<String> {
    let query = "SELECT name FROM generate_series(1, 100 * $2::int8) AS n, \
                 LATERAL (SELECT format('p%s-%s', $1::int4, n)) AS x (name) \
                 WHERE allsource.es_partition(name) = $1 LIMIT $2";
    let rows = client.query(query, &[&partition, &count]).expect("es_partition");
    assert_eq!(rows.len() as i64, count, "names found");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Everything in the view `events`, in position order, past every function of the extension.
///
/// # Errors
/// What the server answers.
pub fn all_events(client: &mut impl GenericClient) -> Result<Vec<Event>, Error> {
    let query = format!("SELECT {EVENT_COLUMNS} FROM allsource.events ORDER BY position");
    Ok(client.query(&query, &[])?.iter().map(Event::from_row).collect())
}

/// What `es_verify` finds, a line for each fault.
///
/// # Errors
/// What the server answers.
pub fn verify(client: &mut impl GenericClient) -> Result<Vec<String>, Error> {
    let rows = client.query("SELECT fault::text FROM allsource.es_verify() AS fault", &[])?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Fails the test where `es_verify` finds anything.
///
/// # Panics
/// Where it does, or cannot be called.
pub fn assert_verified(client: &mut impl GenericClient) {
    let faults = verify(client).expect("es_verify");
    assert!(faults.is_empty(), "es_verify found {} faults: {faults:#?}", faults.len());
}
