//! The errors of the boundary: what they are here, what they count as in `class`, what PostgreSQL is
//! told in `report`.

mod class;
mod report;

pub use class::{kind_of, sqlstate};
pub use report::Report;

use crate::cluster::member::Stale;
use crate::cluster::ownership::Refusal;
use crate::codec::argument::ArgumentError;
use crate::codec::array::ArrayError;
use crate::codec::hot_batch::DamagedBatch;
use crate::codec::record::DamagedRecord;
use crate::drain::failure::Failure;
use crate::model::error::StoreError;
use crate::model::memory::OutOfMemory;

/// An error of a SQL function.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the call asks for is not possible.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An argument has another type than declared.
    #[error("argument cannot be read: {0}")]
    Array(#[from] ArrayError),
    /// There is not as much memory as the call takes.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// The function cannot be executed here, whatever its arguments are.
    #[error("cannot execute this function {0}")]
    CannotExecute(Obstacle),
    /// Another transaction changed the stream after this one's snapshot.
    #[error("could not serialize access due to concurrent append")]
    ConcurrentAppend {
        /// the stream
        stream_id: String,
    },
    /// The snapshot of a SERIALIZABLE transaction shows an event, and not all those before it.
    #[error("could not serialize access due to concurrent append")]
    GapBefore {
        /// the event's position
        position: i64,
    },
    /// The caller lacks a right.
    #[error("permission denied for {object}")]
    PermissionDenied {
        /// what
        object: &'static str,
        /// who may
        role: &'static str,
    },
    /// Only a superuser may do it.
    #[error("permission denied for {object}")]
    SuperuserOnly {
        /// what
        object: &'static str,
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
    /// A table or index of the extension is not what it should be.
    #[error("{object} is not as this version of allsource has made it")]
    Layout {
        /// the table or index
        object: String,
        /// what is wrong with it, as a sentence
        problem: String,
    },
    /// A BEFORE trigger would make what is stored differ from what was given.
    #[error("row for table {table} was changed or suppressed by a trigger")]
    RowChanged {
        /// the table
        table: String,
    },
    /// A trigger of a head has updated that head.
    #[error(
        "head of stream \"{stream_id}\" was already modified by an operation triggered by the current command"
    )]
    ModifiedByTrigger {
        /// the stream
        stream_id: String,
    },
    /// An append by code that runs while another one advances heads.
    #[error("cannot append within a BEFORE trigger or an index expression of event_streams")]
    NestedAppend,
    /// A trigger that would fire for SQL, and cannot here.
    #[error("statement-level trigger \"{trigger}\" on {table} cannot be fired")]
    StatementTrigger {
        /// the table
        table: &'static str,
        /// the trigger
        trigger: String,
    },
    /// A rule that would rewrite a statement, where there is none.
    #[error("rule \"{rule}\" on {table} cannot be applied")]
    Rule {
        /// the table
        table: String,
        /// the rule
        rule: String,
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
    /// A run of a stream that is not there.
    #[error("event log has a run of stream number {stream_no}, which does not exist")]
    Orphan {
        /// the stream's number
        stream_no: i64,
        /// the run's partition
        partition_id: i32,
        /// position of its first event
        position: i64,
        /// position of its last event
        last_position: i64,
    },
    /// A run that cannot be read.
    #[error("stored run is damaged: {source}")]
    DamagedRun {
        /// the run's partition
        partition_id: i32,
        /// number of its stream
        stream_no: i64,
        /// version of its first event
        first_version: i64,
        /// position of its first event
        position: i64,
        /// position of its last event, or the highest that it can have
        last_position: i64,
        /// what is wrong with it
        source: ArrayError,
    },
    /// A batch of a hot partition that cannot be read.
    #[error("{source}")]
    DamagedBatch {
        /// its partition
        partition_id: i32,
        /// its number
        batch_no: i64,
        /// what is wrong with it
        source: DamagedBatch,
    },
    /// Events that `event_ids` knows are not in the log.
    #[error("events of stream \"{stream_id}\" are missing in the log")]
    MissingEvents {
        /// the stream
        stream_id: String,
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
        /// why it stays full
        because: QueueStaysFull,
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
    /// Waiting for the workers in a transaction that has locked a stream.
    #[error("cannot wait for the workers in a transaction that has changed a stream")]
    WaitAfterAppend,
    /// Waiting for the workers in a transaction that has locked what they write.
    #[error("cannot wait for the workers in a transaction that has locked {table}")]
    WaitWithLock {
        /// the table or sequence
        table: String,
    },
    /// Waiting for workers that are paused.
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
        /// what some of them wait for
        held_up_by: Option<String>,
    },
    /// Events whose extension was dropped before they were written.
    #[error("enqueued events were discarded")]
    Discarded,
    /// An event that the call waited for could not be written.
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
    /// A table that a background process needs is locked, and it does not wait.
    #[error("table {table} is locked")]
    Locked {
        /// the table
        table: String,
    },
    /// What the settler was asked for could not be done.
    #[error("{what}: {reason}")]
    Settler {
        /// what it was
        what: &'static str,
        /// why not
        reason: String,
    },
    /// A path that cannot be used.
    #[error("path is not an absolute one of at most {bytes_max} bytes")]
    BadPath {
        /// the limit
        bytes_max: usize,
    },
    /// The sidecar does not answer.
    #[error("sidecar cannot be read: {reason}")]
    Sidecar {
        /// why
        reason: String,
    },
    /// Hot partitions in a build without the sidecar.
    #[error("hot partitions are not supported by this build")]
    NoSidecar,
    /// Events were not settled in time.
    #[error("timed out while waiting for events to be settled")]
    SettleTimeout {
        /// what they wait for
        reason: Option<String>,
    },
    /// A member of a cluster does not own the partition.
    #[error("{}", match refusal {
        Refusal::WrongNode(_) => "allsource.node_id is not the number of this server's group".to_owned(),
        _ => format!("partition {partition_id} is not owned by this group"),
    })]
    NotOwned {
        /// the partition
        partition_id: i32,
        /// why not
        refusal: Refusal,
    },
    /// A coordinator's request that does not fit what the member knows: others have gone on.
    #[error("request does not fit what this group knows of partition {partition_id}")]
    StaleRequest {
        /// the partition
        partition_id: i32,
        /// the epoch of the request
        epoch: i64,
        /// the member's row
        stale: Stale,
    },
    /// A partition with something in it that has to be settled, or is in the way.
    #[error("partition {partition_id} {problem}")]
    NotReady {
        /// the partition
        partition_id: i32,
        /// what is wrong
        problem: &'static str,
        /// what to do
        hint: &'static str,
    },
    /// The server is a member of another group, or one that cannot leave.
    #[error("this database is a member of group {group_id}")]
    IsMember {
        /// the group
        group_id: i32,
        /// why that is in the way, as a sentence
        because: &'static str,
    },
    /// A subscription that could not be made.
    #[error("subscription could not be created: {}", failure.message)]
    Subscription {
        /// why
        failure: Failure,
    },
    /// A router's call in a transaction that could not undo it.
    #[error("a routed call cannot be part of a transaction")]
    RoutedInTransaction,
    /// The caller of a routed call was cancelled, and the group goes on.
    #[error("{message}")]
    RouteCancelled {
        /// as PostgreSQL says it
        message: String,
        /// who was asked
        group_id: i32,
        /// whether it does not matter that the group goes on
        is_harmless: bool,
        /// whether the call can be repeated
        may_repeat: bool,
    },
    /// A setting that had a bad value when the library was loaded.
    #[error("invalid value for parameter \"{name}\": \"{value}\"")]
    EarlySetting {
        /// the setting
        name: String,
        /// the value
        value: String,
    },
    /// Something that only a defect or damage explains.
    #[error("{what}")]
    Internal {
        /// what was found
        what: String,
    },
}

impl From<ArgumentError> for Error {
    fn from(error: ArgumentError) -> Self {
        match error {
            ArgumentError::Store(error) => error.into(),
            ArgumentError::Array(error) => error.into(),
            ArgumentError::Memory(error) => error.into(),
        }
    }
}

/// Why a full queue stays full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueStaysFull {
    /// This transaction has locked a stream, whose events may be waiting for it.
    WorkersMayWaitForCaller,
    /// This transaction has locked a table that the workers write for all events.
    WorkersNeedCallersTable,
    /// The workers are paused.
    Paused,
    /// The queue has no worker.
    NoWorker,
    /// The worker writes less than is enqueued.
    Behind,
}

/// Why a function cannot be executed. It follows the function's name in the message, as in those of
/// PostgreSQL itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// On a standby nothing can be written.
    #[error("during recovery")]
    Recovery,
    /// The transaction is read-only.
    #[error("in a read-only transaction")]
    ReadOnly,
    /// Part of a parallel query.
    #[error("during a parallel operation")]
    Parallel,
    /// The primary has not recorded what the function gives on a standby.
    #[error("on this standby")]
    NotRecorded,
    /// The library was not loaded at server start.
    #[error("without allsource in shared_preload_libraries")]
    NotPreloaded,
    /// `allsource.workers` is 0.
    #[error("without workers")]
    NoWorkers,
    /// The function needs one order of positions, which the partitions of a cluster do not have.
    #[error("in a member of a cluster")]
    Member,
    /// The function is about a member of a cluster.
    #[error("outside of a cluster")]
    NotMember,
}
