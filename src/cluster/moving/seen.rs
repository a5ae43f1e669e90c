//! What the steps have in common: what must have been seen, and what is recorded.

use super::observation::{Observation, Slot, SourceReport, TargetReport};
use super::phase::Phase;
use super::record::{MapEntry, Move, Point};
use super::step::{Contradiction, Entry, Setback, Step, Wait};
use crate::cluster::ownership::{Ownership, State};

/// A step, either way: `Err` is one that is due before what was to be decided.
pub(super) type Decision = Result<Step, Step>;

pub(super) fn entry(phase: Phase) -> Entry {
    Entry { phase, map: None, drained: None, fenced: None, setback: None }
}

pub(super) fn reached(phase: Phase) -> Step {
    Step::Record(entry(phase))
}

pub(super) fn given(record: &Move) -> Step {
    let map = Some(MapEntry { owner: record.target, epoch: record.epoch });
    Step::Record(Entry { map, ..entry(Phase::Given) })
}

/// Only before the target may have been given the partition.
pub(super) fn go_back(why: Setback) -> Step {
    Step::Record(Entry { setback: Some(why), ..entry(Phase::Returning) })
}

pub(super) fn source(seen: &Observation) -> Result<&SourceReport, Step> {
    seen.source.as_ref().ok_or(Step::Wait(Wait::SourceAway))
}

pub(super) fn target(seen: &Observation) -> Result<&TargetReport, Step> {
    seen.target.as_ref().ok_or(Step::Wait(Wait::TargetAway))
}

pub(super) fn slot(source: &SourceReport) -> Result<Slot, Step> {
    source.slot.ok_or_else(|| go_back(Setback::CopyLost))
}

pub(super) fn known(point: Option<Point>) -> Result<Point, Step> {
    point.ok_or(Step::Fail(Contradiction::Record))
}

pub(super) fn is_linked(source: &SourceReport) -> bool {
    source.is_published || source.slot.is_some()
}

pub(super) fn owns(record: &Move, target: &TargetReport) -> bool {
    let Ownership { state, epoch, .. } = target.ownership;
    state == State::Owned && epoch == record.epoch
}

pub(super) fn expect_serving(record: &Move, source: &SourceReport) -> Result<(), Step> {
    expect_source(record, source, State::Owned)
}

pub(super) fn expect_fenced(record: &Move, source: &SourceReport) -> Result<(), Step> {
    expect_source(record, source, State::Fenced)
}

fn expect_source(record: &Move, source: &SourceReport, state: State) -> Result<(), Step> {
    let row = source.ownership;
    let is_so = row.state == state && row.epoch.is_before(record.epoch);
    if is_so { Ok(()) } else { Err(Step::Fail(Contradiction::Source(row))) }
}

pub(super) fn expect_receiving(record: &Move, target: &TargetReport) -> Result<(), Step> {
    let row = target.ownership;
    let is_so = row.state == State::Foreign && row.epoch == record.epoch;
    if is_so { Ok(()) } else { Err(Step::Fail(Contradiction::Target(row))) }
}

/// Whether the target has a complete copy and is close behind.
pub(super) fn expect_close(
    seen: &Observation,
    source: &SourceReport,
    target: &TargetReport,
) -> Result<(), Step> {
    let confirmed_lsn = slot(source)?.confirmed_lsn;
    let Some(subscription) = target.subscription else {
        return Err(go_back(Setback::CopyLost));
    };
    if !subscription.is_copied {
        return Err(Step::Wait(Wait::Copying));
    }
    let lag_bytes = source.lsn.saturating_sub(confirmed_lsn);
    if lag_bytes > seen.lag_bytes_max {
        return Err(Step::Wait(Wait::CatchingUp { lag_bytes }));
    }
    Ok(())
}
