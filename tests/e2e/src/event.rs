//! An event as a caller gives it, and as the store gives it back.

use std::time::SystemTime;

use postgres::Row;
use serde_json::Value;
use uuid::Uuid;

/// The columns of the view `events`, in the order in which [`Event::from_row`] wants them.
pub const EVENT_COLUMNS: &str = "position, stream_id, version, tenant_id, event_type, entity_id, \
     payload, metadata, \"timestamp\", event_id, partition_id";

/// An event to append.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// Its type.
    pub event_type: String,
    /// Its payload.
    pub payload: Value,
    /// Its metadata, if any.
    pub metadata: Option<Value>,
    /// The id that makes a retry safe, if any.
    pub id: Option<Uuid>,
}

impl NewEvent {
    /// An event without metadata and id.
    pub fn new(event_type: &str, payload: Value) -> Self {
        Self { event_type: event_type.to_owned(), payload, metadata: None, id: None }
    }

    /// The same event with an id.
    pub fn with_id(self, id: Uuid) -> Self {
        Self { id: Some(id), ..self }
    }
}

/// A row of the view `events`.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Place in the whole store.
    pub position: i64,
    /// Name of the stream.
    pub stream_id: String,
    /// Number in the stream, from 1.
    pub version: i64,
    /// Tenant of the stream.
    pub tenant_id: String,
    /// Type.
    pub event_type: String,
    /// Entity of the stream, if any.
    pub entity_id: Option<String>,
    /// Payload.
    pub payload: Value,
    /// Metadata, if any.
    pub metadata: Option<Value>,
    /// When it was appended.
    pub timestamp: SystemTime,
    /// The caller's id, if any.
    pub event_id: Option<Uuid>,
    /// Partition, 0 to 31.
    pub partition_id: i32,
}

impl Event {
    /// Reads a row of [`EVENT_COLUMNS`].
    pub fn from_row(row: &Row) -> Self {
        Self {
            position: row.get(0),
            stream_id: row.get(1),
            version: row.get(2),
            tenant_id: row.get(3),
            event_type: row.get(4),
            entity_id: row.get(5),
            payload: row.get(6),
            metadata: row.get(7),
            timestamp: row.get(8),
            event_id: row.get(9),
            partition_id: row.get(10),
        }
    }
}
