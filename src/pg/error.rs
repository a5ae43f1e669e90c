//! The errors of the boundary, and the one place that gives every error its SQLSTATE.

use crate::codec::array::ArrayError;
use crate::codec::record::DamagedRecord;
use crate::drain::failure::Failure;
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
    /// What only a primary has, or a standby does not know.
    #[error("{function} is not available on this standby")]
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
    /// The queue is switched off.
    #[error("{function} needs a worker, and allsource.workers is 0")]
    NoWorkers {
        /// the SQL function
        function: &'static str,
    },
    /// The workers serve another database.
    #[error("this database is not served by the workers")]
    OtherDatabase {
        /// the one that is
        served: String,
    },
    /// There was no room in the queue.
    #[error("event queue is full")]
    QueueFull {
        /// events of the call that were accepted before
        accepted: usize,
        /// events of the call
        events: usize,
        /// whether the workers are at rest
        paused: bool,
        /// whether the queue has a worker
        has_worker: bool,
    },
    /// An event that does not fit into the queue.
    #[error("event is too large for the queue")]
    RecordTooLarge {
        /// its place in the call, from 1
        number: usize,
        /// its size in the queue
        size_bytes: usize,
        /// the limit
        limit_bytes: usize,
    },
    /// To wait for the workers in a transaction that they may have to wait for.
    #[error("cannot wait for the workers in a transaction that has changed a stream")]
    WaitAfterAppend,
    /// Waiting for workers that are at rest.
    #[error("the workers are paused")]
    WorkersPaused,
    /// Waiting for a worker that is not there.
    #[error("no worker is running")]
    NoWorkerRuns,
    /// Events were not durable in time.
    #[error("timed out while waiting for enqueued events to become durable")]
    FlushTimeout {
        /// events that are still on their way
        pending: u64,
    },
    /// An event that somebody waited for could not be written.
    #[error("enqueued event could not be written: {}", failure.message)]
    NotWritten {
        /// how many of the call's events
        failed: usize,
        /// the call's events
        events: usize,
        /// why the first one could not
        failure: Failure,
    },
    /// A record of the queue that cannot be read.
    #[error(transparent)]
    Record(#[from] DamagedRecord),
    /// No dead letter of that number.
    #[error("dead letter {id} does not exist")]
    NoDeadLetter {
        /// the number
        id: i64,
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
            Self::NotPreloaded { .. }
            | Self::OnStandby { .. }
            | Self::NoWorkers { .. }
            | Self::OtherDatabase { .. }
            | Self::WaitAfterAppend
            | Self::WorkersPaused
            | Self::NoWorkerRuns => Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Self::QueueFull { .. } => Code::ERRCODE_INSUFFICIENT_RESOURCES,
            Self::RecordTooLarge { .. } => Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            Self::FlushTimeout { .. } => Code::ERRCODE_QUERY_CANCELED,
            Self::NotWritten { failure, .. } => code_of(failure),
            Self::NoDeadLetter { .. } => Code::ERRCODE_UNDEFINED_OBJECT,
            Self::Internal { .. } | Self::Record(_) => Code::ERRCODE_INTERNAL_ERROR,
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
            Self::OtherDatabase { served } => {
                Some(format!("They serve database \"{served}\", which allsource.database names."))
            }
            Self::QueueFull { accepted, events, paused, has_worker } => Some(format!(
                "{accepted} of {events} events of this call were accepted. {}",
                match (paused, has_worker) {
                    (true, _) => "The workers are paused.",
                    (false, true) => "The workers are behind.",
                    (false, false) => "No worker is running.",
                }
            )),
            Self::RecordTooLarge { number, size_bytes, limit_bytes } => Some(format!(
                "Event {number} takes {size_bytes} bytes in the queue; at most {limit_bytes} are allowed."
            )),
            Self::NoWorkerRuns => {
                Some("What was enqueued stays in the queue until one runs.".to_owned())
            }
            Self::FlushTimeout { pending } => {
                Some(format!("{pending} events are still on their way."))
            }
            Self::NotWritten { failed, events, .. } => {
                Some(format!("{failed} of {events} events of this call have become dead letters."))
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
                "The primary's workers record the safe position in the database that allsource.database names."
            }
            Self::ConcurrentAppend { .. } => "Retry the transaction.",
            Self::RowSecurity { .. } => "Query the view events instead.",
            Self::Missing { .. } => {
                "Run CREATE EXTENSION allsource, or restore the missing object."
            }
            Self::Array(_) | Self::Orphan { .. } | Self::MissingEvents { .. } => {
                "Run es_verify to find what is damaged."
            }
            Self::NoWorkers { .. } => "Set allsource.workers and restart the server.",
            Self::OtherDatabase { .. } => {
                "Use es_append_batch here, or set allsource.database and restart the server."
            }
            Self::QueueFull { .. } => {
                "Retry later, or raise allsource.enqueue_timeout or allsource.queue_size."
            }
            Self::RecordTooLarge { .. } => {
                "A quarter of allsource.queue_size is the limit; es_append takes larger ones."
            }
            Self::WaitAfterAppend => "Commit first.",
            Self::WorkersPaused => "Call es_worker_resume.",
            Self::NoWorkerRuns => "See the server's log and the view queue_stats.",
            Self::NotWritten { .. } => "See es_dead_letters.",
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

fn code_of(failure: &Failure) -> Code {
    // As MAKE_SQLSTATE does it: six bits for each character, the first one lowest.
    let bits = |value: i32, (index, c): (usize, &u8)| {
        value | (i32::from(c.wrapping_sub(b'0')) & 0x3f) << (6 * index)
    };
    Code::from(failure.sqlstate.iter().enumerate().fold(0, bits) as isize)
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
