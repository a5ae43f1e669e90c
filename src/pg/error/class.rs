//! What an error counts as: its SQLSTATE, and its kind among the metrics.

use super::{Error, Obstacle};
use crate::drain::failure::Failure;
use crate::metrics::kind::ErrorKind as Kind;
use crate::model::error::StoreError;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;

impl Error {
    /// The SQLSTATE and the kind.
    pub fn class(&self) -> (Code, Kind) {
        match self {
            Self::Store(error) => store_class(error),
            Self::CannotExecute(obstacle) => obstacle_class(*obstacle),
            Self::NotWritten { failure, .. } | Self::Subscription { failure } => {
                let code = code_of(failure);
                (code, kind_of(code))
            }
            Self::ConcurrentAppend { .. } | Self::GapBefore { .. } => {
                (Code::ERRCODE_T_R_SERIALIZATION_FAILURE, Kind::Conflict)
            }
            Self::PermissionDenied { .. } | Self::SuperuserOnly { .. } => {
                (Code::ERRCODE_INSUFFICIENT_PRIVILEGE, Kind::Permission)
            }
            Self::Array(_)
            | Self::Orphan { .. }
            | Self::DamagedRun { .. }
            | Self::DamagedBatch { .. }
            | Self::MissingEvents { .. } => (Code::ERRCODE_DATA_CORRUPTED, Kind::Corrupt),
            Self::BadPath { .. } | Self::EarlySetting { .. } => {
                (Code::ERRCODE_INVALID_PARAMETER_VALUE, Kind::BadArgument)
            }
            Self::Memory(_) => (Code::ERRCODE_OUT_OF_MEMORY, Kind::OutOfMemory),
            Self::QueueFull { .. } => (Code::ERRCODE_INSUFFICIENT_RESOURCES, Kind::QueueFull),
            Self::RecordTooLarge { .. } => (Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED, Kind::TooLarge),
            Self::RoutedInTransaction => (Code::ERRCODE_ACTIVE_SQL_TRANSACTION, Kind::Other),
            Self::FlushTimeout { .. }
            | Self::SettleTimeout { .. }
            | Self::RouteCancelled { .. } => (Code::ERRCODE_QUERY_CANCELED, Kind::Timeout),
            Self::OtherDatabase { .. }
            | Self::WaitAfterAppend
            | Self::WaitWithLock { .. }
            | Self::WorkersPaused
            | Self::NoWorkerRuns
            | Self::Settler { .. }
            | Self::Sidecar { .. }
            | Self::NotOwned { .. }
            | Self::StaleRequest { .. }
            | Self::NotReady { .. }
            | Self::IsMember { .. }
            | Self::Discarded => {
                (Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, Kind::NotAvailable)
            }
            Self::Layout { .. }
            | Self::NestedAppend
            | Self::RowChanged { .. }
            | Self::Rule { .. }
            | Self::StatementTrigger { .. } => {
                (Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, Kind::Other)
            }
            Self::ModifiedByTrigger { .. } => {
                (Code::ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION, Kind::Other)
            }
            Self::Locked { .. } => (Code::ERRCODE_LOCK_NOT_AVAILABLE, Kind::Timeout),
            Self::RowSecurity { .. } | Self::PreparedTransaction | Self::NoSidecar => {
                (Code::ERRCODE_FEATURE_NOT_SUPPORTED, Kind::Other)
            }
            Self::Missing { .. } | Self::NoDeadLetter { .. } => {
                (Code::ERRCODE_UNDEFINED_OBJECT, Kind::Other)
            }
            // Not of class 54, which a worker takes for an event's fault.
            Self::TooManyDatabases { .. } | Self::StreamNumbers => {
                (Code::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED, Kind::Other)
            }
            Self::Internal { .. } | Self::Record(_) => {
                (Code::ERRCODE_INTERNAL_ERROR, Kind::Internal)
            }
        }
    }
}

/// The kind of an error of PostgreSQL.
pub fn kind_of(code: Code) -> Kind {
    match code {
        Code::ERRCODE_T_R_SERIALIZATION_FAILURE | Code::ERRCODE_T_R_DEADLOCK_DETECTED => {
            Kind::Conflict
        }
        Code::ERRCODE_QUERY_CANCELED | Code::ERRCODE_LOCK_NOT_AVAILABLE => Kind::Timeout,
        Code::ERRCODE_INSUFFICIENT_PRIVILEGE => Kind::Permission,
        Code::ERRCODE_OUT_OF_MEMORY => Kind::OutOfMemory,
        Code::ERRCODE_DATA_CORRUPTED | Code::ERRCODE_INDEX_CORRUPTED => Kind::Corrupt,
        _ => Kind::Other,
    }
}

fn obstacle_class(obstacle: Obstacle) -> (Code, Kind) {
    let code = match obstacle {
        Obstacle::Recovery | Obstacle::ReadOnly => Code::ERRCODE_READ_ONLY_SQL_TRANSACTION,
        Obstacle::Parallel => Code::ERRCODE_INVALID_TRANSACTION_STATE,
        Obstacle::NotRecorded
        | Obstacle::NotPreloaded
        | Obstacle::NoWorkers
        | Obstacle::Member
        | Obstacle::NotMember => Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
    };
    (code, Kind::NotAvailable)
}

fn store_class(error: &StoreError) -> (Code, Kind) {
    match error {
        StoreError::NullArgument { .. }
        | StoreError::EmptyName { .. }
        | StoreError::NameTooLong { .. }
        | StoreError::ArrayDimensions { .. }
        | StoreError::NullElement { .. }
        | StoreError::ArrayLengths { .. }
        | StoreError::NotOneForEachPartition { .. }
        | StoreError::EmptyArray { .. }
        | StoreError::BadExpectedVersion { .. }
        | StoreError::OutOfRange { .. }
        | StoreError::EntityMismatch { .. } => {
            (Code::ERRCODE_INVALID_PARAMETER_VALUE, Kind::BadArgument)
        }
        StoreError::EventTooLarge { .. } | StoreError::BatchTooLarge { .. } => {
            (Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED, Kind::TooLarge)
        }
        StoreError::WrongExpectedVersion { .. } => {
            (Code::ERRCODE_T_R_SERIALIZATION_FAILURE, Kind::Conflict)
        }
        StoreError::DuplicateEventId { .. } => {
            (Code::ERRCODE_UNIQUE_VIOLATION, Kind::DuplicateEventId)
        }
    }
}

/// The five characters of an SQLSTATE, as PostgreSQL's `unpack_sql_state` gives them.
pub fn sqlstate(code: i32) -> [u8; 5] {
    std::array::from_fn(|index| ((code >> (6 * index)) & 0x3f) as u8 + b'0')
}

fn code_of(failure: &Failure) -> Code {
    // As MAKE_SQLSTATE does it: six bits for each character, the first one lowest.
    let bits = |value: i32, (index, c): (usize, &u8)| {
        value | (i32::from(c.wrapping_sub(b'0')) & 0x3f) << (6 * index)
    };
    Code::from(failure.sqlstate.iter().enumerate().fold(0, bits) as isize)
}
