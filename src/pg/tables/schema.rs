//! What the store is made of: its tables with their columns and indexes, and its sequences, as
//! `sql/10_tables.sql` makes them.

use crate::model::partition::Partition;
use pgrx::pg_sys;

/// The schema of the extension.
pub const SCHEMA: &std::ffi::CStr = c"allsource";

/// A partitioned table of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// `event_streams`
    Streams,
    /// `event_log`
    Log,
    /// `event_ids`
    Ids,
    /// `hot_batches`
    Batches,
}

/// How many partitioned tables there are.
pub const ROOTS: usize = 4;

/// An index of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafIndex {
    /// The one that a stream's rows are found by: its name, its versions, its event ids; of
    /// `hot_batches` its number.
    ByStream = 0,
    /// `stream_no` of `event_streams`, `position` of `event_log`.
    ByNumber = 1,
}

/// How many indexes of its own a leaf has at most.
pub const INDEXES: usize = 2;

/// A sequence of the extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// `stream_no_seq`
    StreamNo,
    /// `position_seq`
    Position,
}

/// A column.
pub struct Column {
    /// its name
    pub name: &'static str,
    /// its type
    pub type_oid: pg_sys::Oid,
}

impl Column {
    const fn new(name: &'static str, type_oid: pg_sys::Oid) -> Self {
        Self { name, type_oid }
    }

    /// Whether the store writes NULL into it.
    pub fn may_be_null(&self) -> bool {
        matches!(self.name, "entity_id" | "metadata" | "event_ids" | "timestamps")
    }

    /// Its collation: `"C"` where the type has one.
    pub fn collation(&self) -> pg_sys::Oid {
        match self.type_oid {
            pg_sys::TEXTOID | pg_sys::TEXTARRAYOID => pg_sys::C_COLLATION_OID,
            _ => pg_sys::InvalidOid,
        }
    }
}

/// Places of the columns of `event_streams`, from 0.
pub mod streams {
    pub const STREAM_NO: usize = 0;
    pub const CURRENT_VERSION: usize = 1;
    pub const WATERMARK: usize = 2;
    pub const CREATED_AT: usize = 3;
    pub const UPDATED_AT: usize = 4;
    pub const SETTLED_BATCH: usize = 5;
    pub const PARTITION_ID: usize = 6;
    pub const SETTLED_EVENTS: usize = 7;
    pub const TENANT_ID: usize = 8;
    pub const STREAM_ID: usize = 9;
    pub const ENTITY_ID: usize = 10;
    pub const COLUMNS: usize = 11;
}

/// Places of the columns of `event_log`, from 0.
pub mod log {
    pub const STREAM_NO: usize = 0;
    pub const FIRST_VERSION: usize = 1;
    pub const POSITION: usize = 2;
    pub const TIMESTAMP: usize = 3;
    pub const PARTITION_ID: usize = 4;
    pub const CHECKSUM: usize = 5;
    pub const EVENT_TYPES: usize = 6;
    pub const PAYLOADS: usize = 7;
    pub const METADATA: usize = 8;
    pub const EVENT_IDS: usize = 9;
    pub const TIMESTAMPS: usize = 10;
    pub const COLUMNS: usize = 11;
}

/// Places of the columns of `event_ids`, from 0.
pub mod ids {
    pub const STREAM_NO: usize = 0;
    pub const VERSION: usize = 1;
    pub const EVENT_ID: usize = 3;
    pub const COLUMNS: usize = 4;
}

/// Places of the columns of `hot_batches`, from 0.
pub mod batches {
    pub const BATCH_NO: usize = 0;
    pub const WRITTEN_AT: usize = 1;
    pub const EVENTS: usize = 3;
    pub const CHECKSUM: usize = 4;
    pub const STREAMS: usize = 5;
    pub const BODY: usize = 6;
    pub const COLUMNS: usize = 7;
}

const STREAMS: [Column; streams::COLUMNS] = [
    Column::new("stream_no", pg_sys::INT8OID),
    Column::new("current_version", pg_sys::INT8OID),
    Column::new("watermark", pg_sys::INT8OID),
    Column::new("created_at", pg_sys::TIMESTAMPTZOID),
    Column::new("updated_at", pg_sys::TIMESTAMPTZOID),
    Column::new("settled_batch", pg_sys::INT8OID),
    Column::new("partition_id", pg_sys::INT4OID),
    Column::new("settled_events", pg_sys::INT4OID),
    Column::new("tenant_id", pg_sys::TEXTOID),
    Column::new("stream_id", pg_sys::TEXTOID),
    Column::new("entity_id", pg_sys::TEXTOID),
];

const LOG: [Column; log::COLUMNS] = [
    Column::new("stream_no", pg_sys::INT8OID),
    Column::new("first_version", pg_sys::INT8OID),
    Column::new("position", pg_sys::INT8OID),
    Column::new("timestamp", pg_sys::TIMESTAMPTZOID),
    Column::new("partition_id", pg_sys::INT4OID),
    Column::new("checksum", pg_sys::INT4OID),
    Column::new("event_types", pg_sys::TEXTARRAYOID),
    Column::new("payloads", pg_sys::JSONBARRAYOID),
    Column::new("metadata", pg_sys::JSONBARRAYOID),
    Column::new("event_ids", pg_sys::UUIDARRAYOID),
    Column::new("timestamps", pg_sys::TIMESTAMPTZARRAYOID),
];

const IDS: [Column; ids::COLUMNS] = [
    Column::new("stream_no", pg_sys::INT8OID),
    Column::new("version", pg_sys::INT8OID),
    Column::new("partition_id", pg_sys::INT4OID),
    Column::new("event_id", pg_sys::UUIDOID),
];

const BATCHES: [Column; batches::COLUMNS] = [
    Column::new("batch_no", pg_sys::INT8OID),
    Column::new("written_at", pg_sys::TIMESTAMPTZOID),
    Column::new("partition_id", pg_sys::INT4OID),
    Column::new("events", pg_sys::INT4OID),
    Column::new("checksum", pg_sys::INT4OID),
    Column::new("streams", pg_sys::BYTEAOID),
    Column::new("body", pg_sys::BYTEAOID),
];

impl Root {
    /// Its name.
    pub fn table(self) -> &'static str {
        match self {
            Self::Streams => "event_streams",
            Self::Log => "event_log",
            Self::Ids => "event_ids",
            Self::Batches => "hot_batches",
        }
    }

    /// Its columns.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Streams => &STREAMS,
            Self::Log => &LOG,
            Self::Ids => &IDS,
            Self::Batches => &BATCHES,
        }
    }

    /// The name of a leaf.
    pub fn leaf(self, partition: Partition) -> String {
        format!("{}_p{:02}", self.table(), partition.number())
    }

    /// The indexes of a leaf, in the order of [`LeafIndex`]: the suffix of the name, and the places of
    /// the key's columns.
    pub fn indexes(self) -> &'static [(&'static str, &'static [usize])] {
        match self {
            Self::Streams => &[
                ("stream_id", &[streams::STREAM_ID, streams::TENANT_ID]),
                ("stream_no", &[streams::STREAM_NO]),
            ],
            Self::Log => &[
                ("version", &[log::STREAM_NO, log::FIRST_VERSION]),
                ("position", &[log::POSITION]),
            ],
            Self::Ids => &[("event_id", &[ids::STREAM_NO, ids::EVENT_ID])],
            Self::Batches => &[("batch_no", &[batches::BATCH_NO])],
        }
    }
}

impl Sequence {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::StreamNo => "stream_no_seq",
            Self::Position => "position_seq",
        }
    }
}
