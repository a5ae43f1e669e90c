//! The errors of the store, each with its facts. The boundary maps them to SQLSTATEs in one place.

use super::version::ExpectedVersion;

/// An error of the store, free of PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A required argument is NULL.
    #[error("{argument} must not be null")]
    NullArgument {
        /// the argument
        argument: &'static str,
    },
    /// A name is the empty string.
    #[error("{argument} must not be empty")]
    EmptyName {
        /// the argument
        argument: &'static str,
    },
    /// A name has too many characters.
    #[error("{argument} is too long")]
    NameTooLong {
        /// the argument
        argument: &'static str,
        /// how many it has
        chars: usize,
    },
    /// An array argument has more than one dimension.
    #[error("{argument} must have one dimension")]
    ArrayDimensions {
        /// the argument
        argument: &'static str,
        /// how many it has
        dimensions: i32,
    },
    /// An array argument holds NULL if none is allowed.
    #[error("{argument} must not contain nulls")]
    NullElement {
        /// the argument
        argument: &'static str,
        /// the element, from 1
        number: usize,
    },
    /// Arrays of a call differ in length.
    #[error("{argument} and {reference} must have the same number of elements")]
    ArrayLengths {
        /// the argument
        argument: &'static str,
        /// its length
        len: usize,
        /// the argument that it is compared with
        reference: &'static str,
        /// the length of that one
        reference_len: usize,
    },
    /// An array that must have one element for each partition.
    #[error("{argument} must have 32 elements, one for each partition")]
    NotOneForEachPartition {
        /// the argument
        argument: &'static str,
        /// its length
        len: usize,
    },
    /// A call without events.
    #[error("{argument} must not be empty")]
    EmptyArray {
        /// the argument
        argument: &'static str,
    },
    /// An expected version below -1.
    #[error("expected version {version} is not valid")]
    BadExpectedVersion {
        /// the value
        version: i64,
    },
    /// A number that is out of its range.
    #[error("{argument} must be {range}")]
    OutOfRange {
        /// the argument
        argument: &'static str,
        /// the value
        value: i64,
        /// the allowed values, in words
        range: &'static str,
    },
    /// An event above `allsource.max_event_size`.
    #[error("event is too large")]
    EventTooLarge {
        /// its place in the call, from 1
        number: usize,
        /// its size
        size_bytes: usize,
        /// the limit
        limit_bytes: usize,
    },
    /// A call above `allsource.max_batch_events`.
    #[error("batch has too many events")]
    BatchTooLarge {
        /// how many
        events: usize,
        /// the limit
        limit_events: usize,
    },
    /// The stream is not at the expected version.
    #[error("wrong expected version")]
    WrongExpectedVersion {
        /// the stream
        stream_id: String,
        /// its tenant
        tenant_id: String,
        /// what was expected
        expected: ExpectedVersion,
        /// its version; `None` if the stream does not exist
        current: Option<i64>,
    },
    /// An event id is in the stream already, and the call is not a retry of the same append.
    #[error("duplicate event id")]
    DuplicateEventId {
        /// the stream
        stream_id: String,
        /// the id
        event_id: String,
        /// what makes the call differ from a retry
        reason: &'static str,
    },
    /// The stream belongs to another entity.
    #[error("stream belongs to another entity")]
    EntityMismatch {
        /// the stream
        stream_id: String,
        /// its entity; `None` if the stream was created without one
        entity_id: Option<String>,
        /// the one that was given
        given: String,
    },
}
