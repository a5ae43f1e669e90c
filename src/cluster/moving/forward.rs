//! The steps of a move that goes on, one function for each phase.

use super::observation::{Comparison, Observation, SourceReport};
use super::phase::Phase;
use super::record::{Move, Point};
use super::seen::{
    Decision, entry, expect_close, expect_fenced, expect_receiving, expect_serving, given, go_back,
    is_linked, known, owns, reached, slot, source, target,
};
use super::step::{Action, Contradiction, Entry, Setback, Step, Wait};
use crate::cluster::ownership::State;

pub(super) fn prepare(record: &Move, seen: &Observation) -> Decision {
    let target = target(seen)?;
    let row = target.ownership;
    match row.state {
        State::Foreign if row.epoch == record.epoch => Ok(reached(Phase::Prepared)),
        State::Foreign if row.epoch < record.epoch => Ok(Step::Do(Action::Receive)),
        _ => Err(Step::Fail(Contradiction::Target(row))),
    }
}

pub(super) fn publish(record: &Move, seen: &Observation) -> Decision {
    let source = source(seen)?;
    expect_serving(record, source)?;
    if !source.is_published {
        return Ok(Step::Do(Action::Publish));
    }
    slot(source)?;
    Ok(reached(Phase::Published))
}

pub(super) fn subscribe(record: &Move, seen: &Observation) -> Decision {
    let (source, target) = (source(seen)?, target(seen)?);
    expect_receiving(record, target)?;
    slot(source)?;
    Ok(match target.subscription {
        None => Step::Do(Action::Subscribe),
        Some(_) => reached(Phase::Subscribed),
    })
}

pub(super) fn catch_up(record: &Move, seen: &Observation) -> Decision {
    let (source, target) = (source(seen)?, target(seen)?);
    expect_receiving(record, target)?;
    expect_close(seen, source, target)?;
    Ok(reached(Phase::CaughtUp))
}

pub(super) fn drain(record: &Move, seen: &Observation) -> Decision {
    let source = source(seen)?;
    expect_serving(record, source)?;
    slot(source)?;
    if !source.is_drained {
        return Ok(Step::Do(Action::Drain));
    }
    let point = Point { lsn: source.lsn, position: source.safe_position };
    Ok(Step::Record(Entry { drained: Some(point), ..entry(Phase::Drained) }))
}

/// Most of the comparing is done before the fence, so that the fence is short.
pub(super) fn check(record: &Move, seen: &Observation) -> Decision {
    let (source, target) = (source(seen)?, target(seen)?);
    expect_serving(record, source)?;
    expect_receiving(record, target)?;
    let point = known(record.drained)?;
    let lag_bytes = point.lsn.saturating_sub(slot(source)?.confirmed_lsn);
    if lag_bytes > 0 {
        return Ok(Step::Wait(Wait::CatchingUp { lag_bytes }));
    }
    Ok(match seen.comparison {
        None => Step::Do(Action::Check { up_to: point.position }),
        Some(Comparison::Same) => reached(Phase::Checked),
        Some(Comparison::Different) => go_back(Setback::CopyDiffers),
    })
}

/// Nothing can be written from the fence on, so it waits until everything that is to follow can follow.
pub(super) fn fence(record: &Move, seen: &Observation) -> Decision {
    let source = source(seen)?;
    slot(source)?;
    let row = source.ownership;
    match row.state {
        State::Fenced if row.epoch.is_before(record.epoch) => Ok(Step::Record(Entry {
            fenced: Some(Point { lsn: source.lsn, position: given_out(source) }),
            ..entry(Phase::Fenced)
        })),
        State::Owned if row.epoch.is_before(record.epoch) => {
            let target = target(seen)?;
            expect_receiving(record, target)?;
            expect_close(seen, source, target)?;
            Ok(Step::Do(if source.is_drained { Action::Fence } else { Action::Drain }))
        }
        _ => Err(Step::Fail(Contradiction::Source(row))),
    }
}

/// The highest position that anybody may have been told: a reader that begins with the safe one does not ask
/// for what is at or below it, although the partition may have nothing there.
fn given_out(source: &SourceReport) -> i64 {
    source.safe_position.max(source.last_position)
}

pub(super) fn replay(record: &Move, seen: &Observation) -> Decision {
    let source = source(seen)?;
    let lag_bytes = known(record.fenced)?.lsn.saturating_sub(slot(source)?.confirmed_lsn);
    Ok(match lag_bytes {
        0 => reached(Phase::Replayed),
        lag_bytes => Step::Wait(Wait::Replaying { lag_bytes }),
    })
}

pub(super) fn compare(record: &Move, seen: &Observation) -> Decision {
    let (source, target) = (source(seen)?, target(seen)?);
    expect_fenced(record, source)?;
    expect_receiving(record, target)?;
    Ok(match seen.comparison {
        None => Step::Do(Action::Compare { above: known(record.drained)?.position }),
        Some(Comparison::Same) => reached(Phase::Compared),
        Some(Comparison::Different) => go_back(Setback::CopyDiffers),
    })
}

pub(super) fn raise_counter(record: &Move, seen: &Observation) -> Decision {
    let target = target(seen)?;
    expect_receiving(record, target)?;
    let above = known(record.fenced)?.position;
    Ok(if target.counter >= above {
        reached(Phase::Raised)
    } else {
        Step::Do(Action::RaiseCounter { above })
    })
}

pub(super) fn give(record: &Move, seen: &Observation) -> Decision {
    let target = target(seen)?;
    if owns(record, target) {
        return Ok(given(record));
    }
    expect_receiving(record, target)?;
    Ok(Step::Do(Action::Give))
}

pub(super) fn release(record: &Move, seen: &Observation) -> Decision {
    let row = source(seen)?.ownership;
    match row.state {
        State::Foreign if row.epoch == record.epoch => Ok(reached(Phase::Released)),
        State::Fenced if row.epoch.is_before(record.epoch) => Ok(Step::Do(Action::Release)),
        _ => Err(Step::Fail(Contradiction::Source(row))),
    }
}

pub(super) fn unlink(_: &Move, seen: &Observation) -> Decision {
    if target(seen)?.subscription.is_some() {
        return Ok(Step::Do(Action::Unsubscribe));
    }
    Ok(if is_linked(source(seen)?) {
        Step::Do(Action::Unpublish)
    } else {
        reached(Phase::Unlinked)
    })
}

pub(super) fn empty_source(_: &Move, seen: &Observation) -> Decision {
    Ok(if source(seen)?.is_empty {
        reached(Phase::Done)
    } else if seen.may_empty {
        Step::Do(Action::EmptySource)
    } else {
        Step::Wait(Wait::CopyKept)
    })
}
