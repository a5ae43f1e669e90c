//! The errors of the boundary, and the one place that gives every error its SQLSTATE.

use crate::codec::array::ArrayError;
use crate::model::error::StoreError;
use crate::model::version::ExpectedVersion;
use pgrx::PgLogLevel;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::pg_sys::panic::ErrorReport;

/// An error of a SQL function.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the call asks for is not possible.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored array is damaged, or an argument has another type than declared.
    #[error("stored run is damaged: {0}")]
    Array(#[from] ArrayError),
    /// The library is not in `shared_preload_libraries`.
    #[error("{function} needs allsource to be loaded at server start")]
    NotPreloaded {
        /// the SQL function
        function: &'static str,
    },
    /// The safe position of a standby is not known.
    #[error("{function} is not available on a standby")]
    OnStandby {
        /// the SQL function
        function: &'static str,
    },
    /// Another transaction changed the stream after this one's snapshot.
    #[error("could not serialize access due to concurrent append")]
    ConcurrentAppend {
        /// the stream
        stream_id: String,
    },
    /// The caller lacks a right.
    #[error("permission denied for {object}")]
    PermissionDenied {
        /// what
        object: &'static str,
        /// who may
        role: &'static str,
    },
    /// Row security applies to the caller, and functions that read below SQL would bypass it.
    #[error("row-level security on {table} is not supported by this function")]
    RowSecurity {
        /// the table
        table: &'static str,
    },
    /// A table, index, sequence or role of the extension is missing.
    #[error("{object} of extension allsource is missing")]
    Missing {
        /// what
        object: String,
    },
    /// A table of the extension does not have the columns that it should.
    #[error("table {table} does not have the columns of this version of allsource")]
    Layout {
        /// the table
        table: String,
    },
    /// The store uses more databases of one server than there are places for.
    #[error("too many databases with allsource")]
    TooManyDatabases {
        /// the limit
        databases_max: usize,
    },
    /// A number that is part of the format is used up or out of its range.
    #[error("stream numbers of this node are used up")]
    StreamNumbers,
    /// PREPARE TRANSACTION after an append.
    #[error("cannot PREPARE a transaction that has appended events")]
    PreparedTransaction,
    /// A function that returns rows was called where none can be taken.
    #[error("set-valued function called in context that cannot accept a set")]
    NoSetExpected,
    /// A run of a stream that is not there.
    #[error("event log has a run of stream number {stream_no}, which does not exist")]
    Orphan {
        /// the stream's number
        stream_no: i64,
    },
    /// Events that `event_ids` knows are not in the log.
    #[error("events of stream \"{stream_id}\" are missing in the log")]
    MissingEvents {
        /// the stream
        stream_id: String,
    },
    /// Something that only a defect or damage explains.
    #[error("{what}")]
    Internal {
        /// what was found
        what: String,
    },
}

impl Error {
    fn code(&self) -> Code {
        match self {
            Self::Store(error) => store_code(error),
            Self::Array(_) | Self::Orphan { .. } | Self::MissingEvents { .. } => {
                Code::ERRCODE_DATA_CORRUPTED
            }
            Self::NotPreloaded { .. } | Self::OnStandby { .. } => {
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
            }
            Self::ConcurrentAppend { .. } => Code::ERRCODE_T_R_SERIALIZATION_FAILURE,
            Self::PermissionDenied { .. } => Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
            Self::RowSecurity { .. } | Self::NoSetExpected | Self::PreparedTransaction => {
                Code::ERRCODE_FEATURE_NOT_SUPPORTED
            }
            Self::Missing { .. } => Code::ERRCODE_UNDEFINED_OBJECT,
            Self::Layout { .. } => Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Self::TooManyDatabases { .. } | Self::StreamNumbers => {
                Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED
            }
            Self::Internal { .. } => Code::ERRCODE_INTERNAL_ERROR,
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::Store(error) => store_detail(error),
            Self::ConcurrentAppend { stream_id } => {
                Some(format!("Stream \"{stream_id}\" was changed after this transaction began."))
            }
            Self::PermissionDenied { role, .. } => {
                Some(format!("The current role is not a member of {role}."))
            }
            Self::TooManyDatabases { databases_max } => {
                Some(format!("A server keeps positions of at most {databases_max} databases."))
            }
            _ => None,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Store(error) => return store_hint(error),
            Self::NotPreloaded { .. } => {
                "Add allsource to shared_preload_libraries and restart the server."
            }
            Self::OnStandby { .. } => {
                "Call it on the primary; es_read and the view events work on a standby."
            }
            Self::ConcurrentAppend { .. } => "Retry the transaction.",
            Self::RowSecurity { .. } => "Query the view events instead.",
            Self::Missing { .. } => {
                "Run CREATE EXTENSION allsource, or restore the missing object."
            }
            Self::Array(_) | Self::Orphan { .. } | Self::MissingEvents { .. } => {
                "Run es_verify to find what is damaged."
            }
            Self::StreamNumbers => "Check allsource.node_id and the sequence stream_no_seq.",
            _ => return None,
        })
    }

    /// Raises the error in PostgreSQL.
    pub fn raise(self) -> ! {
        let mut report = ErrorReport::new(self.code(), self.to_string(), "allsource");
        if let Some(detail) = self.detail() {
            report = report.set_detail(detail);
        }
        if let Some(hint) = self.hint() {
            report = report.set_hint(hint);
        }
        report.report(PgLogLevel::ERROR);
        unreachable!("an error report at level ERROR does not return")
    }
}

fn store_code(error: &StoreError) -> Code {
    match error {
        StoreError::NullArgument { .. }
        | StoreError::EmptyName { .. }
        | StoreError::NameTooLong { .. }
        | StoreError::ArrayDimensions { .. }
        | StoreError::NullElement { .. }
        | StoreError::ArrayLengths { .. }
        | StoreError::EmptyArray { .. }
        | StoreError::BadExpectedVersion { .. }
        | StoreError::OutOfRange { .. }
        | StoreError::EntityMismatch { .. } => Code::ERRCODE_INVALID_PARAMETER_VALUE,
        StoreError::EventTooLarge { .. } | StoreError::BatchTooLarge { .. } => {
            Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED
        }
        StoreError::WrongExpectedVersion { .. } => Code::ERRCODE_T_R_SERIALIZATION_FAILURE,
        StoreError::DuplicateEventId { .. } => Code::ERRCODE_UNIQUE_VIOLATION,
    }
}

fn store_detail(error: &StoreError) -> Option<String> {
    Some(match error {
        StoreError::NullArgument { .. }
        | StoreError::EmptyName { .. }
        | StoreError::EmptyArray { .. }
        | StoreError::BadExpectedVersion { .. } => return None,
        StoreError::NameTooLong { chars, .. } => {
            format!("It has {chars} characters; at most 255 are allowed.")
        }
        StoreError::ArrayDimensions { dimensions, .. } => format!("It has {dimensions}."),
        StoreError::NullElement { number, .. } => format!("Element {number} is null."),
        StoreError::ArrayLengths { argument, len, reference, reference_len } => {
            format!("{argument} has {len}, {reference} has {reference_len}.")
        }
        StoreError::OutOfRange { value, .. } => format!("It is {value}."),
        StoreError::EventTooLarge { number, size_bytes, limit_bytes } => {
            format!("Event {number} has {size_bytes} bytes; at most {limit_bytes} are allowed.")
        }
        StoreError::BatchTooLarge { events, limit_events } => {
            format!("It has {events}; at most {limit_events} are allowed.")
        }
        StoreError::WrongExpectedVersion { stream_id, tenant_id, expected, current } => {
            let is = match current {
                None => "does not exist".to_owned(),
                Some(version) => format!("is at version {version}"),
            };
            let wanted = match expected {
                ExpectedVersion::Exactly(0) => "no events were expected".to_owned(),
                ExpectedVersion::Exactly(version) => format!("version {version} was expected"),
                ExpectedVersion::Exists | ExpectedVersion::Any => "it was expected to exist".into(),
            };
            format!("Stream \"{stream_id}\" of tenant \"{tenant_id}\" {is}, but {wanted}.")
        }
        StoreError::DuplicateEventId { stream_id, event_id, reason } => {
            format!("Stream \"{stream_id}\" already has event {event_id}, and {reason}.")
        }
        StoreError::EntityMismatch { stream_id, entity_id, given } => {
            let belongs = match entity_id {
                Some(entity_id) => format!("belongs to entity \"{entity_id}\""),
                None => "was made without an entity".to_owned(),
            };
            format!("Stream \"{stream_id}\" {belongs}, but \"{given}\" was given.")
        }
    })
}

fn store_hint(error: &StoreError) -> Option<&'static str> {
    Some(match error {
        StoreError::BadExpectedVersion { .. } => {
            "Use NULL for any, 0 for no events, -1 for an existing stream, or a version."
        }
        StoreError::EventTooLarge { .. } => "The limit is allsource.max_event_size.",
        StoreError::BatchTooLarge { .. } => {
            "Split the batch; the limit is allsource.max_batch_events."
        }
        StoreError::WrongExpectedVersion { .. } => {
            "Read the stream again, decide again, and append with its new version."
        }
        _ => return None,
    })
}
