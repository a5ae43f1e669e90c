//! The steps one by one. That they lead to the end, whatever happens, is checked by the model.

use super::next;
use super::observation::{Comparison, Observation, Slot, SourceReport, Subscription, TargetReport};
use super::phase::Phase;
use super::record::{MapEntry, Move, Point};
use super::step::{Action, Contradiction, Entry, Setback, Side, Step, Wait};
use crate::cluster::epoch::Epoch;
use crate::cluster::group::GroupId;
use crate::cluster::ownership::{Ownership, State};
use proptest::prelude::*;

const DRAINED: Point = Point { lsn: 1_000, position: 70 };
const FENCED: Point = Point { lsn: 2_000, position: 80 };

fn epoch(number: i64) -> Epoch {
    Epoch::new(number).unwrap()
}

fn group(number: i32) -> GroupId {
    GroupId::new(number).unwrap()
}

fn row(state: State, number: i64, owner: i32) -> Ownership {
    Ownership { state, epoch: epoch(number), owner: group(owner) }
}

/// A move with epoch 5, from group 1 to group 2.
fn moving(phase: Phase) -> Move {
    let (drained, fenced) = (Some(DRAINED), Some(FENCED));
    Move { epoch: epoch(5), source: group(1), target: group(2), phase, drained, fenced }
}

/// What is seen when the source is as `source` says, the target as `target` says, and all else is ready.
fn seen(source: Ownership, target: Ownership) -> Observation {
    Observation {
        source: Some(SourceReport {
            ownership: source,
            is_published: true,
            slot: Some(Slot { confirmed_lsn: 2_000 }),
            safe_position: 75,
            last_position: 80,
            is_drained: true,
            is_empty: false,
            lsn: 2_050,
        }),
        target: Some(TargetReport {
            ownership: target,
            subscription: Some(Subscription { is_copied: true }),
            counter: 80,
            is_empty: false,
        }),
        comparison: None,
        lag_bytes_max: 50,
        may_empty: false,
    }
}

const fn entry(phase: Phase) -> Entry {
    Entry { phase, map: None, drained: None, fenced: None, setback: None }
}

fn record(phase: Phase) -> Step {
    Step::Record(entry(phase))
}

fn go_back(why: Setback) -> Step {
    Step::Record(Entry { setback: Some(why), ..entry(Phase::Returning) })
}

fn map(phase: Phase, owner: i32, number: i64) -> Step {
    let map = MapEntry { owner: group(owner), epoch: epoch(number) };
    Step::Record(Entry { map: Some(map), ..entry(phase) })
}

/// What follows in a phase, after `change` has made something of what is seen different.
#[track_caller]
fn expect(phase: Phase, seen: Observation, change: impl FnOnce(&mut Observation), step: Step) {
    let mut seen = seen;
    change(&mut seen);
    assert_eq!(next(&moving(phase), &seen), step, "{phase:?}");
}

fn source(seen: &mut Observation) -> &mut SourceReport {
    seen.source.as_mut().unwrap()
}

fn target(seen: &mut Observation) -> &mut TargetReport {
    seen.target.as_mut().unwrap()
}

#[test]
fn copying() {
    let (serving, receiving) = (row(State::Owned, 4, 1), row(State::Foreign, 5, 1));
    let seen = seen(serving, receiving);
    let before = row(State::Foreign, 3, 0);
    let receive = |seen: &mut Observation| target(seen).ownership = before;
    expect(Phase::Recorded, seen, receive, Step::Do(Action::Receive));
    expect(Phase::Recorded, seen, |_| {}, record(Phase::Prepared));
    let publish = |seen: &mut Observation| {
        (source(seen).is_published, source(seen).slot) = (false, None);
    };
    expect(Phase::Prepared, seen, publish, Step::Do(Action::Publish));
    expect(Phase::Prepared, seen, |_| {}, record(Phase::Published));
    let subscribe = |seen: &mut Observation| target(seen).subscription = None;
    expect(Phase::Published, seen, subscribe, Step::Do(Action::Subscribe));
    expect(Phase::Published, seen, |_| {}, record(Phase::Subscribed));
    let copying = |seen: &mut Observation| {
        target(seen).subscription = Some(Subscription { is_copied: false });
    };
    expect(Phase::Subscribed, seen, copying, Step::Wait(Wait::Copying));
    let behind = |seen: &mut Observation| source(seen).lsn = 2_051;
    let catching_up = Step::Wait(Wait::CatchingUp { lag_bytes: 51 });
    expect(Phase::Subscribed, seen, behind, catching_up);
    expect(Phase::Subscribed, seen, |_| {}, record(Phase::CaughtUp));
    let busy = |seen: &mut Observation| source(seen).is_drained = false;
    expect(Phase::CaughtUp, seen, busy, Step::Do(Action::Drain));
    let drained = Some(Point { lsn: 2_050, position: 75 });
    let drained = Step::Record(Entry { drained, ..entry(Phase::Drained) });
    expect(Phase::CaughtUp, seen, |_| {}, drained);
}

#[test]
fn comparing_and_fencing() {
    let (serving, receiving) = (row(State::Owned, 4, 1), row(State::Foreign, 5, 1));
    let before = seen(serving, receiving);
    let behind = |seen: &mut Observation| {
        source(seen).slot = Some(Slot { confirmed_lsn: 990 });
    };
    let catching_up = |lag_bytes| Step::Wait(Wait::CatchingUp { lag_bytes });
    let compared = |with| move |seen: &mut Observation| seen.comparison = Some(with);
    expect(Phase::Drained, before, behind, catching_up(10));
    expect(Phase::Drained, before, |_| {}, Step::Do(Action::Check { up_to: 70 }));
    expect(Phase::Drained, before, compared(Comparison::Same), record(Phase::Checked));
    let differs = go_back(Setback::CopyDiffers);
    expect(Phase::Drained, before, compared(Comparison::Different), differs);
    expect(Phase::Checked, before, |_| {}, Step::Do(Action::Fence));
    expect(Phase::Checked, before, behind, catching_up(1_060));
    let busy = |seen: &mut Observation| source(seen).is_drained = false;
    expect(Phase::Checked, before, busy, Step::Do(Action::Drain));
    let after = seen(row(State::Fenced, 4, 1), receiving);
    let fenced = Some(Point { lsn: 2_050, position: 80 });
    let fenced = Step::Record(Entry { fenced, ..entry(Phase::Fenced) });
    expect(Phase::Checked, after, |_| {}, fenced);
    expect(Phase::Fenced, after, behind, Step::Wait(Wait::Replaying { lag_bytes: 1_010 }));
    expect(Phase::Fenced, after, |_| {}, record(Phase::Replayed));
    expect(Phase::Replayed, after, |_| {}, Step::Do(Action::Compare { above: 70 }));
    expect(Phase::Replayed, after, compared(Comparison::Same), record(Phase::Compared));
    expect(Phase::Replayed, after, compared(Comparison::Different), differs);
}

#[test]
fn giving() {
    let (fenced, receiving) = (row(State::Fenced, 4, 1), row(State::Foreign, 5, 1));
    let (given, released) = (row(State::Owned, 5, 2), row(State::Foreign, 5, 2));
    let before = seen(fenced, receiving);
    let low = |seen: &mut Observation| target(seen).counter = 79;
    expect(Phase::Compared, before, low, Step::Do(Action::RaiseCounter { above: 80 }));
    expect(Phase::Compared, before, |_| {}, record(Phase::Raised));
    expect(Phase::Raised, before, |_| {}, Step::Do(Action::Give));
    expect(Phase::Raised, seen(fenced, given), |_| {}, map(Phase::Given, 2, 5));
    expect(Phase::Given, seen(fenced, given), |_| {}, Step::Do(Action::Release));
    let after = seen(released, given);
    expect(Phase::Given, after, |_| {}, record(Phase::Released));
    let unsubscribed = |seen: &mut Observation| target(seen).subscription = None;
    let unpublished = |seen: &mut Observation| {
        (source(seen).is_published, source(seen).slot) = (false, None);
        target(seen).subscription = None;
    };
    expect(Phase::Released, after, |_| {}, Step::Do(Action::Unsubscribe));
    expect(Phase::Released, after, unsubscribed, Step::Do(Action::Unpublish));
    expect(Phase::Released, after, unpublished, record(Phase::Unlinked));
    expect(Phase::Unlinked, after, |_| {}, Step::Wait(Wait::CopyKept));
    expect(Phase::Unlinked, after, |seen| seen.may_empty = true, Step::Do(Action::EmptySource));
    expect(Phase::Unlinked, after, |seen| source(seen).is_empty = true, record(Phase::Done));
    expect(Phase::Done, after, |_| {}, Step::Ended(Phase::Done));
}

#[test]
fn going_back() {
    let (fenced, receiving) = (row(State::Fenced, 4, 1), row(State::Foreign, 5, 1));
    let (returned, refused) = (row(State::Owned, 6, 1), row(State::Foreign, 6, 1));
    expect(Phase::Refusing, seen(fenced, receiving), |_| {}, Step::Do(Action::Refuse));
    expect(Phase::Refusing, seen(fenced, refused), |_| {}, record(Phase::Returning));
    let given = row(State::Owned, 5, 2);
    expect(Phase::Refusing, seen(fenced, given), |_| {}, map(Phase::Given, 2, 5));
    for row in [fenced, row(State::Owned, 4, 1)] {
        expect(Phase::Returning, seen(row, receiving), |_| {}, Step::Do(Action::TakeBack));
    }
    expect(Phase::Returning, seen(returned, receiving), |_| {}, map(Phase::TakenBack, 1, 6));
    expect(Phase::TakenBack, seen(returned, receiving), |_| {}, Step::Do(Action::Refuse));
    let after = seen(returned, refused);
    let unsubscribed = |seen: &mut Observation| target(seen).subscription = None;
    let emptied = |seen: &mut Observation| {
        (target(seen).subscription, target(seen).is_empty) = (None, true);
    };
    let all = |seen: &mut Observation| {
        emptied(seen);
        (source(seen).is_published, source(seen).slot) = (false, None);
    };
    expect(Phase::TakenBack, after, |_| {}, Step::Do(Action::Unsubscribe));
    expect(Phase::TakenBack, after, unsubscribed, Step::Do(Action::EmptyTarget));
    expect(Phase::TakenBack, after, emptied, Step::Do(Action::Unpublish));
    expect(Phase::TakenBack, after, all, record(Phase::Returned));
    expect(Phase::Returned, after, |_| {}, Step::Ended(Phase::Returned));
}

#[test]
fn a_copy_that_is_lost_goes_back() {
    let (serving, receiving) = (row(State::Owned, 4, 1), row(State::Foreign, 5, 1));
    let lost = go_back(Setback::CopyLost);
    let no_slot = |seen: &mut Observation| source(seen).slot = None;
    let no_subscription = |seen: &mut Observation| target(seen).subscription = None;
    use Phase::{CaughtUp, Checked, Drained, Fenced, Prepared, Published, Subscribed};
    for phase in [Prepared, Published, Subscribed, CaughtUp, Drained, Checked] {
        expect(phase, seen(serving, receiving), no_slot, lost);
    }
    let fenced = seen(row(State::Fenced, 4, 1), receiving);
    for phase in [Checked, Fenced] {
        expect(phase, fenced, no_slot, lost);
    }
    for phase in [Subscribed, Checked] {
        expect(phase, seen(serving, receiving), no_subscription, lost);
    }
}

#[test]
fn members_that_are_away_are_waited_for_only_where_they_are_needed() {
    let (fenced, receiving) = (row(State::Fenced, 4, 1), row(State::Foreign, 5, 1));
    let no_source = |seen: &mut Observation| seen.source = None;
    let no_target = |seen: &mut Observation| seen.target = None;
    let source_away = Step::Wait(Wait::SourceAway);
    let target_away = Step::Wait(Wait::TargetAway);
    // It is not fenced for a target that is away.
    let serving = row(State::Owned, 4, 1);
    expect(Phase::Checked, seen(serving, receiving), no_target, target_away);
    expect(Phase::Replayed, seen(fenced, receiving), no_source, source_away);
    // What has been compared goes on without the source.
    expect(Phase::Compared, seen(fenced, receiving), no_source, record(Phase::Raised));
    expect(Phase::Raised, seen(fenced, receiving), no_source, Step::Do(Action::Give));
    expect(Phase::Given, seen(fenced, receiving), no_source, source_away);
    // Only who may have been given the partition is waited for on the way back.
    expect(Phase::Refusing, seen(fenced, receiving), no_target, target_away);
    expect(Phase::Returning, seen(fenced, receiving), no_target, Step::Do(Action::TakeBack));
    let returned = seen(row(State::Owned, 6, 1), receiving);
    expect(Phase::TakenBack, returned, no_target, Step::Do(Action::Unpublish));
    let gone = |seen: &mut Observation| {
        (source(seen).is_published, source(seen).slot) = (false, None);
        seen.target = None;
    };
    expect(Phase::TakenBack, returned, gone, target_away);
}

#[test]
fn contradictions_are_told() {
    let (fenced, receiving) = (row(State::Fenced, 4, 1), row(State::Foreign, 5, 1));
    let restored = row(State::Owned, 2, 2);
    let of_source = Step::Fail(Contradiction::Source(restored));
    let of_target = Step::Fail(Contradiction::Target(restored));
    use Phase::{Given, Prepared, Raised, Recorded, Refusing, Replayed, Returning, TakenBack};
    for phase in [Prepared, Replayed, Given, Returning] {
        expect(phase, seen(restored, receiving), |_| {}, of_source);
    }
    for phase in [Recorded, Replayed, Raised, Refusing, TakenBack] {
        expect(phase, seen(fenced, restored), |_| {}, of_target);
    }
    let record = Move { fenced: None, ..moving(Phase::Fenced) };
    let step = next(&record, &seen(fenced, receiving));
    assert_eq!(step, Step::Fail(Contradiction::Record));
}

prop_compose! {
    fn any_row()(state in prop::sample::select(State::ALL.to_vec()), number in 3i64..8) -> Ownership {
        row(state, number, 1)
    }
}

prop_compose! {
    fn any_seen()(
        source_row in any_row(),
        target_row in any_row(),
        flags in prop::array::uniform10(any::<bool>()),
        confirmed_lsn in 900u64..2_100,
        comparison in prop::sample::select(
            vec![None, Some(Comparison::Same), Some(Comparison::Different)]),
    ) -> Observation {
        let mut seen = seen(source_row, target_row);
        let of = source(&mut seen);
        (of.is_published, of.is_drained, of.is_empty) = (flags[0], flags[1], flags[2]);
        of.slot = flags[3].then_some(Slot { confirmed_lsn });
        let of = target(&mut seen);
        of.subscription = flags[4].then_some(Subscription { is_copied: flags[5] });
        of.is_empty = flags[6];
        seen.source = seen.source.filter(|_| flags[7]);
        seen.target = seen.target.filter(|_| flags[8]);
        Observation { comparison, may_empty: flags[9], ..seen }
    }
}

/// The arrows of the drawing.
fn follows(phase: Phase, later: Phase) -> bool {
    let place = |of| Phase::ALL.iter().position(|phase| *phase == of);
    let is_next = place(later) == place(phase).map(|place| place + 1);
    match (phase, later) {
        (Phase::Refusing, Phase::Given) => true,
        (_, Phase::Returning) if phase < Phase::Raised => true,
        _ => is_next && !phase.is_final() && later != Phase::Refusing,
    }
}

proptest! {
    #[test]
    fn steps_follow_the_drawing_and_ask_whom_they_have_seen(
        phase in prop::sample::select(Phase::ALL.to_vec()),
        seen in any_seen(),
    ) {
        match next(&moving(phase), &seen) {
            Step::Do(action) => {
                let (source, target) = match action.side() {
                    Side::Source => (true, false),
                    Side::Target => (false, true),
                    Side::Both => (true, true),
                };
                prop_assert!(seen.source.is_some() || !source);
                prop_assert!(seen.target.is_some() || !target);
                prop_assert!(action != Action::Give || phase == Phase::Raised);
                prop_assert!(action != Action::TakeBack || phase == Phase::Returning);
            }
            Step::Record(entry) => {
                prop_assert!(follows(phase, entry.phase), "{:?} to {:?}", phase, entry.phase);
                let tells_map = matches!(entry.phase, Phase::Given | Phase::TakenBack);
                prop_assert_eq!(entry.map.is_some(), tells_map);
                prop_assert_eq!(entry.drained.is_some(), entry.phase == Phase::Drained);
                prop_assert_eq!(entry.fenced.is_some(), entry.phase == Phase::Fenced);
            }
            Step::Ended(ended) => prop_assert!(ended == phase && phase.is_final()),
            Step::Wait(_) | Step::Fail(_) => prop_assert!(!phase.is_final()),
        }
    }
}
