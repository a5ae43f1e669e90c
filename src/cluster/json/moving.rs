//! The next step of a move.

use super::{Unreadable, epoch, group, lsn, lsn_text, ownership, read};
use crate::cluster::moving::next;
use crate::cluster::moving::observation::{
    Comparison, Observation, Slot, SourceReport, Subscription, TargetReport,
};
use crate::cluster::moving::phase::Phase;
use crate::cluster::moving::record::{self, Move, NotCancelled, Point};
use crate::cluster::moving::step::{Action, Contradiction, Entry, Setback, Side, Step, Wait};
use serde::{Deserialize, Serialize};

/// A row of `partition_moves`.
#[derive(Deserialize)]
struct MoveRow {
    epoch: i64,
    source_id: i32,
    target_id: i32,
    phase: String,
    drained_lsn: Option<String>,
    drained_position: Option<i64>,
    fenced_lsn: Option<String>,
    fenced_position: Option<i64>,
}

/// What was seen: rows of `es_member_report`, NULL for who was not reached.
#[derive(Deserialize)]
struct Seen {
    source: Option<ReportRow>,
    target: Option<ReportRow>,
    /// whether source and target are the same; NULL if they have not been compared
    are_same: Option<bool>,
    lag_bytes_max: u64,
}

#[derive(Deserialize)]
struct ReportRow {
    state: String,
    owner_id: i32,
    owner_epoch: i64,
    is_published: bool,
    slot_lsn: Option<String>,
    is_subscribed: bool,
    is_copied: bool,
    is_hot: bool,
    is_waiting: bool,
    is_empty: bool,
    last_position: i64,
    safe_position: i64,
    counter: i64,
    lsn: String,
}

/// The answer. Of the columns of `partition_moves` and `cluster_map`, those that change are there.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum StepRow {
    Do { action: &'static str, side: &'static str, position: Option<i64> },
    Record(EntryRow),
    Wait { reason: &'static str, lag_bytes: Option<u64> },
    Ended { phase: &'static str },
    Fail { reason: String },
}

#[derive(Serialize)]
struct EntryRow {
    phase: &'static str,
    map_owner: Option<i32>,
    map_epoch: Option<i64>,
    drained_lsn: Option<String>,
    drained_position: Option<i64>,
    fenced_lsn: Option<String>,
    fenced_position: Option<i64>,
    setback: Option<&'static str>,
}

/// The next step of the move that the row `record` tells of, when `seen` was seen after the row was read.
pub fn next_step(record: &[u8], seen: &[u8]) -> Result<String, Unreadable> {
    let record = serde_json::from_slice::<MoveRow>(record)?.read()?;
    let seen = serde_json::from_slice::<Seen>(seen)?.read()?;
    Ok(serde_json::to_string(&StepRow::from(next(&record, &seen)))?)
}

/// The phase in which a move that is in `phase` goes back; `None` if it does not any more, because the target
/// owns the partition or the move has ended.
pub fn cancel(phase: &str) -> Result<Option<&'static str>, Unreadable> {
    Ok(match record::cancel(read("phase", phase, Phase::from_name(phase))?) {
        Ok(phase) => Some(phase.name()),
        Err(NotCancelled::TargetOwns | NotCancelled::Ended) => None,
    })
}

impl MoveRow {
    fn read(self) -> Result<Move, Unreadable> {
        let point = |at: Option<String>, position: Option<i64>| -> Result<_, Unreadable> {
            let Some((at, position)) = at.zip(position) else { return Ok(None) };
            Ok(Some(Point { lsn: lsn(&at)?, position }))
        };
        Ok(Move {
            epoch: epoch(self.epoch)?,
            source: group(self.source_id)?,
            target: group(self.target_id)?,
            phase: read("phase", &self.phase, Phase::from_name(&self.phase))?,
            drained: point(self.drained_lsn, self.drained_position)?,
            fenced: point(self.fenced_lsn, self.fenced_position)?,
        })
    }
}

impl Seen {
    fn read(self) -> Result<Observation, Unreadable> {
        let comparison = self.are_same.map(|are_same| match are_same {
            true => Comparison::Same,
            false => Comparison::Different,
        });
        Ok(Observation {
            source: self.source.map(ReportRow::of_source).transpose()?,
            target: self.target.map(ReportRow::of_target).transpose()?,
            comparison,
            lag_bytes_max: self.lag_bytes_max,
            may_empty: true,
        })
    }
}

impl ReportRow {
    fn of_source(self) -> Result<SourceReport, Unreadable> {
        let slot = self.slot_lsn.map(|confirmed| lsn(&confirmed)).transpose()?;
        Ok(SourceReport {
            ownership: ownership(&self.state, self.owner_epoch, self.owner_id)?,
            is_published: self.is_published,
            slot: slot.map(|confirmed_lsn| Slot { confirmed_lsn }),
            safe_position: self.safe_position,
            last_position: self.last_position,
            is_drained: !(self.is_hot || self.is_waiting),
            is_empty: self.is_empty,
            lsn: lsn(&self.lsn)?,
        })
    }

    fn of_target(self) -> Result<TargetReport, Unreadable> {
        Ok(TargetReport {
            ownership: ownership(&self.state, self.owner_epoch, self.owner_id)?,
            subscription: self.is_subscribed.then_some(Subscription { is_copied: self.is_copied }),
            counter: self.counter,
            is_empty: self.is_empty,
        })
    }
}

impl From<Step> for StepRow {
    fn from(step: Step) -> Self {
        match step {
            Step::Do(action) => Self::Do {
                action: action.name(),
                side: match action.side() {
                    Side::Source => "source",
                    Side::Target => "target",
                    Side::Both => "both",
                },
                position: match action {
                    Action::Check { up_to } => Some(up_to),
                    Action::Compare { above } | Action::RaiseCounter { above } => Some(above),
                    _ => None,
                },
            },
            Step::Record(entry) => Self::Record(entry.into()),
            Step::Wait(wait) => {
                let (reason, lag_bytes) = match wait {
                    Wait::SourceAway => ("the source cannot be reached", None),
                    Wait::TargetAway => ("the target cannot be reached", None),
                    Wait::Copying => ("the initial copy is under way", None),
                    Wait::CatchingUp { lag_bytes } => {
                        ("the target is catching up", Some(lag_bytes))
                    }
                    Wait::Replaying { lag_bytes } => {
                        ("the target has not got everything", Some(lag_bytes))
                    }
                    Wait::CopyKept => ("the source's copy is kept", None),
                };
                Self::Wait { reason, lag_bytes }
            }
            Step::Ended(phase) => Self::Ended { phase: phase.name() },
            Step::Fail(contradiction) => Self::Fail { reason: reason(contradiction) },
        }
    }
}

impl From<Entry> for EntryRow {
    fn from(entry: Entry) -> Self {
        let (drained, fenced) = (entry.drained, entry.fenced);
        Self {
            phase: entry.phase.name(),
            map_owner: entry.map.map(|map| map.owner.number()),
            map_epoch: entry.map.map(|map| map.epoch.number()),
            drained_lsn: drained.map(|point| lsn_text(point.lsn)),
            drained_position: drained.map(|point| point.position),
            fenced_lsn: fenced.map(|point| lsn_text(point.lsn)),
            fenced_position: fenced.map(|point| point.position),
            setback: entry.setback.map(|setback| match setback {
                Setback::CopyLost => "the copy was lost",
                Setback::CopyDiffers => "the copy differs",
            }),
        }
    }
}

fn reason(contradiction: Contradiction) -> String {
    let (side, row) = match contradiction {
        Contradiction::Source(row) => ("source", row),
        Contradiction::Target(row) => ("target", row),
        Contradiction::Record => return "The move's record lacks what its phase has.".into(),
    };
    format!(
        "The {side} has the partition as {}, with epoch {}, of group {}.",
        row.state.name(),
        row.epoch.number(),
        row.owner.number(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn record(phase: &str) -> Value {
        json!({"partition_id": 3, "epoch": 5, "source_id": 1, "target_id": 2, "phase": phase,
            "drained_lsn": "0/10", "drained_position": 7, "fenced_lsn": null, "fenced_position": null})
    }

    fn report(state: &str, epoch: i64, owner: i32) -> Value {
        json!({"group_id": 1, "node_id": 1, "state": state, "owner_id": owner, "owner_epoch": epoch,
            "is_published": true, "slot_lsn": "0/20", "is_subscribed": true, "is_copied": true,
            "is_hot": false, "is_enqueued": true, "is_waiting": false, "is_empty": false,
            "last_position": 9, "safe_position": 8, "counter": 9, "lsn": "0/30"})
    }

    fn seen(source: Value, target: Value) -> Value {
        json!({"source": source, "target": target, "are_same": null, "lag_bytes_max": 100})
    }

    fn step(record: &Value, seen: &Value) -> Value {
        let answer = next_step(record.to_string().as_bytes(), seen.to_string().as_bytes());
        serde_json::from_str(&answer.unwrap()).unwrap()
    }

    #[test]
    fn a_step_has_what_is_needed_to_do_it() {
        let (source, target) = (report("owned", 4, 1), report("foreign", 5, 1));
        let drained = step(&record("drained"), &seen(source.clone(), target.clone()));
        let expected = json!({"kind": "do", "action": "check", "side": "both", "position": 7});
        assert_eq!(drained, expected);
        let away = step(&record("drained"), &seen(source.clone(), Value::Null));
        assert_eq!(away["kind"], "wait");
        assert_eq!(away["reason"], "the target cannot be reached");
        let fence = step(&record("checked"), &seen(source, target));
        assert_eq!((&fence["action"], &fence["side"]), (&json!("fence"), &json!("source")));
    }

    #[test]
    fn what_is_recorded_names_the_columns() {
        let fenced =
            step(&record("checked"), &seen(report("fenced", 4, 1), report("foreign", 5, 1)));
        let columns =
            (&fenced["kind"], &fenced["phase"], &fenced["fenced_lsn"], &fenced["fenced_position"]);
        assert_eq!(columns, (&json!("record"), &json!("fenced"), &json!("0/30"), &json!(9)));
        let given = step(&record("raised"), &seen(report("fenced", 4, 1), report("owned", 5, 2)));
        let columns = (&given["phase"], &given["map_owner"], &given["map_epoch"]);
        assert_eq!(columns, (&json!("given"), &json!(2), &json!(5)));
        let mut lost = report("owned", 4, 1);
        lost["slot_lsn"] = Value::Null;
        let lost = step(&record("subscribed"), &seen(lost, report("foreign", 5, 1)));
        assert_eq!(
            (&lost["phase"], &lost["setback"]),
            (&json!("returning"), &json!("the copy was lost"))
        );
    }

    #[test]
    fn what_cannot_be_is_told() {
        let failed =
            step(&record("checked"), &seen(report("foreign", 9, 3), report("foreign", 5, 1)));
        assert_eq!(failed["kind"], "fail");
        let reason = "The source has the partition as foreign, with epoch 9, of group 3.";
        assert_eq!(failed["reason"], reason);
        let unknown = next_step(record("stuck").to_string().as_bytes(), b"{}");
        assert_eq!(unknown.unwrap_err().to_string(), "there is no phase stuck");
    }

    #[test]
    fn cancelling() {
        assert_eq!(cancel("drained").unwrap(), Some("returning"));
        assert_eq!(cancel("raised").unwrap(), Some("refusing"));
        assert_eq!(cancel("given").unwrap(), None);
        assert!(cancel("gone").is_err());
    }
}
