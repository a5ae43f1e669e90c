//! The searches.

use super::faults::Fault;
use super::promises::{CONSISTENT, ENDS, FENCED_IN_BETWEEN, NOTHING_LEFT, NOTHING_LOST, ONE_OWNER};
use super::{Moving, Size};
use stateright::{Checker, HasDiscoveries, Model};
use std::collections::BTreeSet;
use std::sync::Mutex;

const ONE_MOVE: Size =
    Size { groups: 2, moves: 1, writes: 1, failovers: 1, pending: 2, has_slow: false };

const QUIET_MOVE: Size = Size { writes: 0, failovers: 0, ..ONE_MOVE };

const QUIET_MOVES: Size = Size { moves: 2, ..QUIET_MOVE };

const TWO_MOVES: Size = Size { moves: 2, failovers: 0, ..ONE_MOVE };

fn model(size: Size, fault: Fault) -> Moving {
    Moving { size, fault, ending: Mutex::default() }
}

/// Searches all states for one that breaks a promise.
fn search(size: Size, fault: Fault) {
    let checker = model(size, fault).checker().spawn_bfs().join();
    checker.assert_properties();
    assert!(checker.unique_state_count() > 1_000, "nothing was searched");
}

#[test]
fn one_move_keeps_the_promises() {
    search(ONE_MOVE, Fault::None);
}

#[test]
fn a_slow_executor_keeps_the_promises() {
    search(Size { pending: 1, has_slow: true, ..ONE_MOVE }, Fault::None);
}

#[test]
fn two_moves_keep_the_promises() {
    search(TWO_MOVES, Fault::None);
}

#[test]
fn moves_among_three_groups_keep_the_promises() {
    search(Size { groups: 3, ..QUIET_MOVES }, Fault::None);
}

#[test]
fn comparing_finds_a_gap_in_the_copy() {
    search(ONE_MOVE, Fault::ReplacesSlot);
}

#[test]
#[ignore = "takes minutes; after a change of the protocol"]
fn more_of_everything_keeps_the_promises() {
    search(Size { writes: 2, failovers: 2, pending: 3, ..ONE_MOVE }, Fault::None);
    search(Size { has_slow: true, ..ONE_MOVE }, Fault::None);
    search(Size { moves: 3, ..ONE_MOVE }, Fault::None);
    search(Size { groups: 3, failovers: 1, ..TWO_MOVES }, Fault::None);
}

/// Each mistake, the promise that it breaks, and what has to happen for that.
#[test]
fn mistakes_are_found() {
    let mistakes = [
        (Fault::GivesBeforeFence, ONE_OWNER, QUIET_MOVE),
        (Fault::TakesBackWithoutRefusal, ONE_OWNER, QUIET_MOVE),
        (Fault::CancelsWhenGiven, ONE_OWNER, QUIET_MOVE),
        (Fault::ReplacesSlotWithoutComparing, NOTHING_LOST, ONE_MOVE),
        (Fault::DoesNotWaitForReplay, NOTHING_LOST, ONE_MOVE),
        (Fault::DoesNotRaiseCounter, CONSISTENT, ONE_MOVE),
        (Fault::SubscribesAsynchronously, NOTHING_LOST, ONE_MOVE),
        (Fault::WaitsForLostSlot, ENDS, ONE_MOVE),
        (Fault::TakesBackAtSameEpoch, FENCED_IN_BETWEEN, QUIET_MOVE),
        (Fault::BelievesFenceTooEarly, ONE_OWNER, ONE_MOVE),
        (Fault::BelievesRecordTooEarly, ONE_OWNER, ONE_MOVE),
        (Fault::RecordsUnchecked, ONE_OWNER, QUIET_MOVE),
        (Fault::RecordsWithoutEpoch, ONE_OWNER, QUIET_MOVES),
        (Fault::FencesUnchecked, FENCED_IN_BETWEEN, QUIET_MOVE),
        (Fault::GivesUnchecked, ONE_OWNER, QUIET_MOVE),
        (Fault::TakesBackUnchecked, ONE_OWNER, QUIET_MOVES),
        (Fault::ReleasesUnchecked, FENCED_IN_BETWEEN, QUIET_MOVES),
        (Fault::RefusesUnchecked, FENCED_IN_BETWEEN, QUIET_MOVE),
        (Fault::PublishesUnchecked, NOTHING_LEFT, QUIET_MOVE),
        (Fault::SubscribesUnchecked, NOTHING_LEFT, QUIET_MOVE),
        (Fault::EmptiesAgain, NOTHING_LOST, QUIET_MOVE),
        (Fault::EmptiesWithoutEpoch, NOTHING_LOST, QUIET_MOVES),
    ];
    for (fault, promise, size) in mistakes {
        let found = HasDiscoveries::AllOf(BTreeSet::from([promise]));
        let checker = model(size, fault).checker().finish_when(found).spawn_dfs().join();
        assert!(checker.discovery(promise).is_some(), "{fault:?} does not break '{promise}'");
    }
}
