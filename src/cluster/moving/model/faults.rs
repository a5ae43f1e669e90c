//! Mistakes that the protocol guards against. A model with one of them must break a promise.

use super::world::Seen;
use crate::cluster::epoch::Epoch;
use crate::cluster::group::GroupId;
use crate::cluster::member::{self, Change, Stale};
use crate::cluster::moving::next;
use crate::cluster::moving::phase::Phase;
use crate::cluster::moving::record::{Move, NotCancelled, cancel};
use crate::cluster::moving::step::{Action, Entry, Setback, Step, Wait};
use crate::cluster::ownership::{Ownership, State};

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// None: the protocol as it is.
    None,
    /// The target is given the partition without a fence.
    GivesBeforeFence,
    /// A move goes back from *raised* without the target's refusal.
    TakesBackWithoutRefusal,
    /// A move that has given the partition can be cancelled.
    CancelsWhenGiven,
    /// A slot that was lost is created anew. This breaks no promise, because source and target are compared.
    ReplacesSlot,
    /// A slot that was lost is created anew, and source and target are not compared.
    ReplacesSlotWithoutComparing,
    /// The target's having replayed everything is not waited for, and nothing is compared.
    DoesNotWaitForReplay,
    /// The target's counter is not raised.
    DoesNotRaiseCounter,
    /// The subscription's commits do not wait for the standby: a failover of the target loses some.
    SubscribesAsynchronously,
    /// A slot that was lost is waited for.
    WaitsForLostSlot,
    /// The source gets the partition back with the epoch that it had.
    TakesBackAtSameEpoch,
    /// A fence is believed that is not durable: a failover of the source undoes it.
    BelievesFenceTooEarly,
    /// A record is acted on that is not durable: a failover of the coordinator undoes it.
    BelievesRecordTooEarly,
    /// A record is changed without looking whether it is still the one that was read.
    RecordsUnchecked,
    /// A record is changed if its phase is still the one that was read, whatever the move.
    RecordsWithoutEpoch,
    /// The source fences, whatever its row.
    FencesUnchecked,
    /// The target takes the partition, whatever its row.
    GivesUnchecked,
    /// The source takes the partition back, whatever its row.
    TakesBackUnchecked,
    /// The source lets the partition go, whatever its row.
    ReleasesUnchecked,
    /// The target refuses, whatever its row.
    RefusesUnchecked,
    /// The source publishes, whatever its row.
    PublishesUnchecked,
    /// The target subscribes, whatever its row.
    SubscribesUnchecked,
    /// A target that is receiving already empties its copy again when it is asked again.
    EmptiesAgain,
    /// A copy is emptied if the row is foreign, whatever the epoch.
    EmptiesWithoutEpoch,
}

impl Fault {
    /// The next step of an executor.
    pub fn next(self, record: &Move, seen: &Seen) -> Step {
        let skip_to = |phase| {
            Step::Record(Entry { phase, map: None, drained: None, fenced: None, setback: None })
        };
        match (self, record.phase) {
            (Self::GivesBeforeFence, Phase::Checked) => return skip_to(Phase::Raised),
            (Self::DoesNotWaitForReplay, Phase::Fenced) => return skip_to(Phase::Compared),
            (Self::ReplacesSlotWithoutComparing, Phase::Replayed) => {
                return skip_to(Phase::Compared);
            }
            (Self::DoesNotRaiseCounter, Phase::Compared) => return skip_to(Phase::Raised),
            (Self::TakesBackAtSameEpoch, Phase::Returning)
                if seen
                    .observation
                    .source
                    .is_some_and(|source| source.ownership.state == State::Owned) =>
            {
                return skip_to(Phase::TakenBack);
            }
            _ => {}
        }
        match next(record, &seen.observation) {
            Step::Do(action @ (Action::Check { .. } | Action::Compare { .. })) => {
                next(record, &seen.compare(action))
            }
            Step::Record(Entry { setback: Some(Setback::CopyLost), .. })
                if self == Self::WaitsForLostSlot =>
            {
                Step::Wait(Wait::SourceAway)
            }
            step => step,
        }
    }

    /// The phase of a move that is cancelled.
    pub fn cancel(self, phase: Phase) -> Result<Phase, NotCancelled> {
        match (self, phase) {
            (Self::TakesBackWithoutRefusal, Phase::Raised) => Ok(Phase::Returning),
            (Self::CancelsWhenGiven, Phase::Given) => Ok(Phase::Returning),
            _ => cancel(phase),
        }
    }

    /// What a request makes of the row of the member that it is sent to; `None` if it is stale.
    pub fn change(self, action: Action, record: &Move, row: Ownership) -> Option<Change> {
        let Move { epoch, source, target, .. } = *record;
        let to = |state: State, epoch: Epoch, owner: GroupId| {
            Some(Change::To(Ownership { state, epoch, owner }))
        };
        match (self, action) {
            (Self::FencesUnchecked, Action::Fence) => {
                return to(State::Fenced, row.epoch, row.owner);
            }
            (Self::GivesUnchecked, Action::Give) => return to(State::Owned, epoch, target),
            (Self::TakesBackUnchecked, Action::TakeBack) => {
                return to(State::Owned, epoch.next(), source);
            }
            (Self::TakesBackAtSameEpoch, Action::TakeBack) if row.state == State::Fenced => {
                return to(State::Owned, row.epoch, source);
            }
            (Self::ReleasesUnchecked, Action::Release) => return to(State::Foreign, epoch, target),
            (Self::RefusesUnchecked, Action::Refuse) => {
                return to(State::Foreign, epoch.next(), source);
            }
            _ => {}
        }
        let is_unchecked = match action {
            Action::Publish => self == Self::PublishesUnchecked,
            Action::Subscribe => self == Self::SubscribesUnchecked,
            Action::EmptySource | Action::EmptyTarget => {
                self == Self::EmptiesWithoutEpoch && row.state == State::Foreign
            }
            _ => false,
        };
        let guarded = |guard: Result<(), Stale>| match guard {
            Err(_) if !is_unchecked => None,
            _ => Some(Change::Already),
        };
        match action {
            Action::Receive => member::receive(row, epoch, source).ok(),
            Action::Fence => member::fence(row, epoch).ok(),
            Action::Give => member::give(row, epoch, target).ok(),
            Action::Release => member::release(row, epoch, target).ok(),
            Action::Refuse => member::refuse(row, epoch, source).ok(),
            Action::TakeBack => member::take_back(row, epoch, source).ok(),
            Action::Publish => guarded(member::may_publish(row, epoch)),
            Action::Subscribe => guarded(member::may_subscribe(row, epoch)),
            Action::Unsubscribe => guarded(member::may_unsubscribe(row, epoch)),
            Action::Unpublish => guarded(member::may_unpublish(row, epoch)),
            Action::EmptySource => guarded(member::may_empty_source(row, epoch)),
            Action::EmptyTarget => guarded(member::may_empty_target(row, epoch)),
            Action::Drain
            | Action::Check { .. }
            | Action::Compare { .. }
            | Action::RaiseCounter { .. } => Some(Change::Already),
        }
    }

    /// Whether a record that was read is still the one that is there.
    pub fn is_current(self, read: &Move, there: &Move) -> bool {
        match self {
            Self::RecordsUnchecked => true,
            Self::RecordsWithoutEpoch => read.phase == there.phase,
            _ => read.epoch == there.epoch && read.phase == there.phase,
        }
    }

    /// Whether a failover loses more than slots.
    pub fn loses_more(self) -> bool {
        matches!(self, Self::SubscribesAsynchronously | Self::BelievesFenceTooEarly)
    }

    /// Whether a slot that was lost is created anew.
    pub fn replaces_slot(self) -> bool {
        matches!(self, Self::ReplacesSlot | Self::ReplacesSlotWithoutComparing)
    }
}
