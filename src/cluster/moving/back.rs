//! The steps of a move that goes back, one function for each phase.

use super::observation::Observation;
use super::phase::Phase;
use super::record::{MapEntry, Move};
use super::seen::{Decision, entry, given, is_linked, owns, reached, source, target};
use super::step::{Action, Contradiction, Entry, Step};
use crate::cluster::ownership::State;

pub(super) fn refuse(record: &Move, seen: &Observation) -> Decision {
    let target = target(seen)?;
    let row = target.ownership;
    match row.state {
        State::Owned if owns(record, target) => Ok(given(record)),
        State::Foreign if row.epoch == record.epoch.next() => Ok(reached(Phase::Returning)),
        State::Foreign if row.epoch <= record.epoch => Ok(Step::Do(Action::Refuse)),
        _ => Err(Step::Fail(Contradiction::Target(row))),
    }
}

/// The target is not needed here, so the source can write again even while the target is away.
pub(super) fn take_back(record: &Move, seen: &Observation) -> Decision {
    let row = source(seen)?.ownership;
    let epoch = record.epoch.next();
    match row.state {
        State::Owned if row.epoch == epoch => Ok(Step::Record(Entry {
            map: Some(MapEntry { owner: record.source, epoch }),
            ..entry(Phase::TakenBack)
        })),
        State::Owned | State::Fenced if row.epoch.is_before(record.epoch) => {
            Ok(Step::Do(Action::TakeBack))
        }
        _ => Err(Step::Fail(Contradiction::Source(row))),
    }
}

/// A slot without a reader keeps WAL for ever, so the source is cleaned even while the target is away.
pub(super) fn clean_up(record: &Move, seen: &Observation) -> Decision {
    if let Some(target) = seen.target {
        let row = target.ownership;
        match row.state {
            State::Foreign if row.epoch == record.epoch.next() => {}
            State::Foreign if row.epoch <= record.epoch => return Ok(Step::Do(Action::Refuse)),
            _ => return Err(Step::Fail(Contradiction::Target(row))),
        }
        if target.subscription.is_some() {
            return Ok(Step::Do(Action::Unsubscribe));
        }
        if !target.is_empty {
            return Ok(Step::Do(Action::EmptyTarget));
        }
    }
    if is_linked(source(seen)?) {
        return Ok(Step::Do(Action::Unpublish));
    }
    target(seen)?;
    Ok(reached(Phase::Returned))
}
