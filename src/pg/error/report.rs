//! How PostgreSQL reports an error: message, DETAIL and HINT.

use super::class::sqlstate;
use super::{Error, Obstacle, QueueStaysFull};
use crate::cluster::ownership::{Ownership, Refusal, State};
use crate::drain::failure::Failure;
use crate::model::error::StoreError;
use crate::model::version::ExpectedVersion;
use pgrx::PgLogLevel;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use std::borrow::Cow;

/// An error as PostgreSQL shows it.
pub struct Report {
    /// its SQLSTATE
    pub code: PgSqlErrorCode,
    /// what has happened
    pub message: String,
    /// the facts
    pub detail: Option<String>,
    /// what to do
    pub hint: Option<Cow<'static, str>>,
}

impl Error {
    /// As a worker notes it: the error, in one line.
    pub fn to_failure(&self) -> Failure {
        let message = match self.detail() {
            Some(detail) => format!("{self}: {detail}"),
            None => self.to_string(),
        };
        Failure { sqlstate: sqlstate(self.class().0 as i32), message }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::Store(error) => store_detail(error),
            Self::Memory(error) => {
                Some(format!("Failed on request of size {} bytes.", error.size_bytes))
            }
            Self::ConcurrentAppend { stream_id } => {
                Some(format!("Stream \"{stream_id}\" was changed after this transaction began."))
            }
            Self::GapBefore { position } => Some(format!(
                "This transaction sees an event at position {position}, but not all those before it."
            )),
            Self::PermissionDenied { role, .. } => {
                Some(format!("The current role is not a member of {role}."))
            }
            Self::SuperuserOnly { .. } => {
                Some("Only a superuser may name a file of the server.".to_owned())
            }
            Self::Layout { problem, .. } => Some(problem.clone()),
            Self::Orphan { partition_id, position, last_position, .. } => Some(format!(
                "It is in event_log_p{partition_id:02} at position {position}, in partition {partition_id}; its last event has position {last_position}."
            )),
            Self::DamagedRun {
                partition_id,
                stream_no,
                first_version,
                position,
                last_position,
                ..
            } => Some(format!(
                "It is in event_log_p{partition_id:02} at position {position}, in partition {partition_id}, and holds events of stream number {stream_no} from version {first_version} on; none of them has a position above {last_position}."
            )),
            Self::DamagedBatch { partition_id, batch_no, .. } => {
                Some(format!("It is batch {batch_no} in hot_batches_p{partition_id:02}."))
            }
            Self::RowChanged { .. } => {
                Some("Events are stored as they were given, or not at all.".to_owned())
            }
            Self::StatementTrigger { .. } | Self::Rule { .. } => {
                Some("Rows are written without a statement.".to_owned())
            }
            Self::TooManyDatabases { databases_max } => {
                Some(format!("A server keeps positions of at most {databases_max} databases."))
            }
            Self::OtherDatabase { served } => {
                Some(format!("They serve database \"{served}\", which allsource.database names."))
            }
            Self::QueueFull { accepted, events, because } => Some(format!(
                "{accepted} of {events} events of this call were accepted. {}",
                match because {
                    QueueStaysFull::WorkersMayWaitForCaller => {
                        "This transaction has changed a stream, which the workers may be waiting for."
                    }
                    QueueStaysFull::WorkersNeedCallersTable => {
                        "This transaction has locked a table that the workers write."
                    }
                    QueueStaysFull::Paused => "The workers are paused.",
                    QueueStaysFull::NoWorker => "No worker is running.",
                    QueueStaysFull::Behind => "The workers are behind.",
                }
            )),
            Self::RecordTooLarge { number, size_bytes, limit_bytes } => Some(format!(
                "Event {number} takes {size_bytes} bytes in the queue; at most {limit_bytes} are allowed."
            )),
            Self::NoWorkerRuns => {
                Some("What was enqueued stays in the queue until one runs.".to_owned())
            }
            Self::FlushTimeout { pending, held_up_by: None } => {
                Some(format!("{pending} events are still on their way."))
            }
            Self::FlushTimeout { pending, held_up_by: Some(reason) } => {
                Some(format!("{pending} events are still on their way: {reason}."))
            }
            Self::SettleTimeout { reason: Some(reason) } => Some(format!("{reason}.")),
            Self::Discarded => {
                Some("The extension was dropped before they were written.".to_owned())
            }
            Self::NotOwned { refusal, .. } => Some(refusal_detail(*refusal)),
            Self::StaleRequest { epoch, stale, .. } => {
                let Ownership { state, epoch: known, owner } = stale.found;
                Some(format!(
                    "The request is for epoch {epoch}. The partition is {} with epoch {} of group {}.",
                    state.name(),
                    known.number(),
                    owner.number()
                ))
            }
            Self::IsMember { because, .. } => Some((*because).to_owned()),
            Self::RoutedInTransaction => Some(
                "The group commits it at once, and a ROLLBACK here would not undo it.".to_owned(),
            ),
            Self::RouteCancelled { group_id, is_harmless: false, .. } => {
                Some(format!("What was sent to group {group_id} is not cancelled there."))
            }
            Self::EarlySetting { .. } => {
                Some("It was set before the library allsource was loaded.".to_owned())
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
            Self::CannotExecute(obstacle) => return obstacle_hint(*obstacle),
            Self::ConcurrentAppend { .. } | Self::GapBefore { .. } => "Retry the transaction.",
            Self::Layout { .. } => {
                "Make it again as it was; a column that was dropped leaves a trace until dump and restore."
            }
            Self::RowChanged { .. } => "Use an AFTER trigger, or raise an error in the trigger.",
            Self::StatementTrigger { .. } | Self::Rule { .. } => "Use a row-level trigger.",
            Self::ModifiedByTrigger { .. } => {
                "Consider using an AFTER trigger instead of a BEFORE trigger to propagate changes."
            }
            Self::NestedAppend => "Append in an AFTER trigger.",
            Self::RowSecurity { .. } => "Query the view events instead.",
            Self::Missing { .. } => {
                "Run CREATE EXTENSION allsource, or restore the missing object."
            }
            Self::Orphan { .. } => {
                "Read on behind its last position, or let the owner of event_log delete the run."
            }
            Self::DamagedRun { .. } => {
                "Read on behind that position, or let the owner of event_log move the run into a table of its own; es_verify finds what else is damaged."
            }
            Self::MissingEvents { .. } => "Run es_verify to find what is damaged.",
            Self::OtherDatabase { .. } => {
                "Use es_append_batch here, or set allsource.database and restart the server."
            }
            Self::QueueFull { because: QueueStaysFull::WorkersNeedCallersTable, .. } => {
                "Enqueue after the commit."
            }
            Self::QueueFull { because: QueueStaysFull::WorkersMayWaitForCaller, .. } => {
                "Enqueue before the first append of the transaction, or after its commit."
            }
            Self::QueueFull { .. } => {
                "Retry later, or raise allsource.enqueue_timeout or allsource.queue_size."
            }
            Self::RecordTooLarge { .. } => {
                "A quarter of allsource.queue_size is the limit; es_append takes larger ones."
            }
            Self::WaitAfterAppend | Self::WaitWithLock { .. } => "Commit first.",
            Self::WorkersPaused => "Call es_worker_resume.",
            Self::NoWorkerRuns => "See the server's log and the view queue_stats.",
            Self::NotWritten { .. } => "See es_dead_letters.",
            Self::NotOwned { refusal: Refusal::WrongNode(_), .. } => {
                "Set allsource.node_id to the number of the group on all of its nodes."
            }
            Self::NotOwned { .. } => "Ask the owner, or connect to a router.",
            Self::NotReady { hint, .. } => hint,
            Self::RoutedInTransaction => {
                "Call it outside of a transaction block, or set allsource.route_in_transaction to on."
            }
            Self::RouteCancelled { is_harmless: false, may_repeat: true, .. } => {
                "Repeat it with the same event_id: what was done is not done again."
            }
            Self::RouteCancelled { is_harmless: false, may_repeat: false, .. } => {
                "Look whether it was done. Calls that have an event_id for each event are repeated by the router, and can be repeated by the caller."
            }
            Self::EarlySetting { .. } => {
                "Set it again, or reset it; docs/REFERENCE.md has the ranges."
            }
            Self::StreamNumbers => "Check allsource.node_id and the sequence stream_no_seq.",
            _ => return None,
        })
    }

    /// The report. `function` is what was to be executed: a SQL function, or a background process.
    pub fn report(&self, function: &str) -> Report {
        let message = match self {
            Self::CannotExecute(obstacle) => format!("cannot execute {function} {obstacle}"),
            other => other.to_string(),
        };
        let hint = self.hint().map(Cow::Borrowed);
        Report { code: self.class().0, message, detail: self.detail(), hint }
    }

    /// Raises the error where it cannot be returned.
    pub fn raise(self, function: &str) -> ! {
        let Report { code, message, detail, hint } = self.report(function);
        let mut report = ErrorReport::new(code, message, "allsource");
        if let Some(detail) = detail {
            report = report.set_detail(detail);
        }
        if let Some(hint) = hint {
            report = report.set_hint(hint);
        }
        report.report(PgLogLevel::ERROR);
        unreachable!("an error report at level ERROR does not return")
    }
}

fn refusal_detail(refusal: Refusal) -> String {
    match refusal {
        Refusal::WrongNode(member) => {
            format!("It is {}; the group is {}.", member.node_id, member.group.number())
        }
        Refusal::NotOwned(Ownership { state: State::Fenced, epoch, .. }) => {
            format!("It is being moved to another group (epoch {}).", epoch.number())
        }
        Refusal::NotOwned(Ownership { epoch, owner, .. }) => {
            format!(
                "It was owned by group {} when this group last heard of it (epoch {}).",
                owner.number(),
                epoch.number()
            )
        }
        Refusal::Unknown => "This group has never heard of it.".to_owned(),
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
        StoreError::NotOneForEachPartition { len, .. } => format!("It has {len}."),
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

fn obstacle_hint(obstacle: Obstacle) -> Option<&'static str> {
    match obstacle {
        Obstacle::NotPreloaded => {
            Some("Add allsource to shared_preload_libraries and restart the server.")
        }
        Obstacle::NotRecorded => Some(
            "The primary's workers record the safe position in the database that allsource.database names.",
        ),
        Obstacle::Member => Some(
            "Use es_read_all_from, which takes a position for each partition; es_positions() gives those of now.",
        ),
        Obstacle::NotMember => Some("es_member_join makes this database a member."),
        Obstacle::NoWorkers => Some("Set allsource.workers and restart the server."),
        Obstacle::Recovery | Obstacle::ReadOnly | Obstacle::Parallel => None,
    }
}
