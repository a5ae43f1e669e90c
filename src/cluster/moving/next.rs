//! The state machine: from what is recorded and what is seen to the next step.

use super::back::{clean_up, refuse, take_back};
use super::forward::{
    catch_up, check, compare, drain, empty_source, fence, give, prepare, publish, raise_counter,
    release, replay, subscribe, unlink,
};
use super::observation::Observation;
use super::phase::Phase;
use super::record::Move;
use super::seen::Decision;
use super::step::Step;

/// The next step of a move. `seen` was asked after the record was read.
pub fn next(record: &Move, seen: &Observation) -> Step {
    decide(record, seen).unwrap_or_else(|step| step)
}

fn decide(record: &Move, seen: &Observation) -> Decision {
    match record.phase {
        Phase::Recorded => prepare(record, seen),
        Phase::Prepared => publish(record, seen),
        Phase::Published => subscribe(record, seen),
        Phase::Subscribed => catch_up(record, seen),
        Phase::CaughtUp => drain(record, seen),
        Phase::Drained => check(record, seen),
        Phase::Checked => fence(record, seen),
        Phase::Fenced => replay(record, seen),
        Phase::Replayed => compare(record, seen),
        Phase::Compared => raise_counter(record, seen),
        Phase::Raised => give(record, seen),
        Phase::Given => release(record, seen),
        Phase::Released => unlink(record, seen),
        Phase::Unlinked => empty_source(record, seen),
        Phase::Refusing => refuse(record, seen),
        Phase::Returning => take_back(record, seen),
        Phase::TakenBack => clean_up(record, seen),
        Phase::Done | Phase::Returned => Ok(Step::Ended(record.phase)),
    }
}
