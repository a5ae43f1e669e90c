//! The state of the model: some members, the coordinator's tables, and what is under way.

use crate::cluster::epoch::Epoch;
use crate::cluster::group::GroupId;
use crate::cluster::moving::observation::{
    Comparison, Observation, Slot, SourceReport, Subscription, TargetReport,
};
use crate::cluster::moving::record::{MapEntry, Move};
use crate::cluster::moving::step::{Action, Entry};
use crate::cluster::ownership::{Ownership, State};

/// A set of events, one bit each.
pub type Events = u8;

/// An event that the source had written and lost in a failover, unacknowledged, after it was copied.
pub const PHANTOM: Events = 1 << 7;

/// How far the target may be behind when the source is fenced: by one write.
pub const LAG_MAX: u64 = 1;

/// A publication's slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorldSlot {
    pub epoch: Epoch,
    pub confirmed_lsn: u64,
    /// What was there when it was created, and is not sent through it.
    pub before: Events,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorldSubscription {
    pub epoch: Epoch,
    pub source: GroupId,
    pub is_copied: bool,
}

/// A group of servers, as the one database that it is to others. All of it is durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorldMember {
    pub row: Ownership,
    pub log: Events,
    pub lsn: u64,
    pub last_position: i64,
    pub counter: i64,
    pub publication: Option<Epoch>,
    pub slot: Option<WorldSlot>,
    pub subscription: Option<WorldSubscription>,
}

impl WorldMember {
    pub fn is_owner(&self) -> bool {
        self.row.state == State::Owned
    }

    /// A position says here which events are at or below it.
    fn source_report(&self, epoch: Epoch) -> SourceReport {
        let slot = self.slot.as_ref().filter(|slot| slot.epoch == epoch);
        SourceReport {
            ownership: self.row,
            is_published: self.publication == Some(epoch),
            slot: slot.map(|slot| Slot { confirmed_lsn: slot.confirmed_lsn }),
            safe_position: i64::from(self.log),
            last_position: self.last_position,
            is_drained: true,
            is_empty: self.log == 0,
            lsn: self.lsn,
        }
    }

    fn target_report(&self, epoch: Epoch) -> TargetReport {
        let subscription = self.subscription.as_ref().filter(|of| of.epoch == epoch);
        TargetReport {
            ownership: self.row,
            subscription: subscription.map(|of| Subscription { is_copied: of.is_copied }),
            counter: self.counter,
            is_empty: self.log == 0,
        }
    }
}

/// What an executor has sent, and has not arrived.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// The record as the executor has read it.
    pub record: Move,
    pub request: Request,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// To a member.
    Do(Action),
    /// To the coordinator's tables.
    Record(Entry),
}

/// An executor that takes its time: it has read the record and asked the source, and not yet the target.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slow {
    pub record: Move,
    pub source: Option<(SourceReport, Events)>,
}

/// What must never happen, noted by the step in which it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Broken {
    EpochDecreased,
    EpochOfTwoGroups,
    PositionUsedTwice,
    Contradiction,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub members: Vec<WorldMember>,
    pub map: MapEntry,
    pub record: Option<Move>,
    /// What a failover of the coordinator goes back to, if its last record is not durable.
    pub undurable: Option<(MapEntry, Option<Move>)>,
    pub slow: Option<Slow>,
    /// In the order of their sending, which means nothing.
    pub pending: Vec<Message>,
    pub acknowledged: Events,
    pub last_position: i64,
    /// Who has owned the partition in which epoch.
    pub owners: Vec<(Epoch, GroupId)>,
    pub moves: u8,
    pub failovers: u8,
    pub broken: Option<Broken>,
}

impl World {
    /// The first group has the partition, with one event.
    pub fn new(groups: usize) -> Self {
        let owner = group(0);
        let member = |number: usize| {
            let is_owner = number == 0;
            let state = if is_owner { State::Owned } else { State::Foreign };
            WorldMember {
                row: Ownership { state, epoch: Epoch::FIRST, owner },
                log: Events::from(is_owner),
                lsn: u64::from(is_owner),
                last_position: i64::from(is_owner),
                counter: i64::from(is_owner),
                publication: None,
                slot: None,
                subscription: None,
            }
        };
        Self {
            members: (0..groups).map(member).collect(),
            map: MapEntry { owner, epoch: Epoch::FIRST },
            record: None,
            undurable: None,
            slow: None,
            pending: Vec::new(),
            acknowledged: 1,
            last_position: 1,
            owners: vec![(Epoch::FIRST, owner)],
            moves: 0,
            failovers: 0,
            broken: None,
        }
    }

    pub fn member(&self, of: GroupId) -> &WorldMember {
        &self.members[index(of)]
    }

    pub fn member_mut(&mut self, of: GroupId) -> &mut WorldMember {
        &mut self.members[index(of)]
    }

    pub fn owners_now(&self) -> impl Iterator<Item = &WorldMember> {
        self.members.iter().filter(|member| member.is_owner())
    }

    /// The move that has not ended.
    pub fn current(&self) -> Option<Move> {
        self.record.filter(|record| !record.phase.is_final())
    }

    /// What the source tells, with what it holds.
    pub fn ask_source(&self, record: &Move) -> (SourceReport, Events) {
        let member = self.member(record.source);
        (member.source_report(record.epoch), member.log)
    }

    /// What an executor sees that has this of the source.
    pub fn look(
        &self,
        record: &Move,
        source: Option<(SourceReport, Events)>,
        asks_target: bool,
    ) -> Seen {
        let target = self.member(record.target);
        let target = asks_target.then(|| (target.target_report(record.epoch), target.log));
        Seen {
            observation: Observation {
                source: source.map(|(report, _)| report),
                target: target.map(|(report, _)| report),
                comparison: None,
                lag_bytes_max: LAG_MAX,
                may_empty: true,
            },
            held: source.zip(target).map(|((_, source), (_, target))| (source, target)),
        }
    }

    /// A client writes here, by a map of any time, and is let.
    pub fn write(&mut self, number: usize) {
        let event = self.acknowledged.wrapping_add(1);
        self.acknowledged |= event;
        let member = &mut self.members[number];
        member.log |= event;
        member.lsn += 1;
        member.counter += 1;
        member.last_position = member.counter;
        if member.counter <= self.last_position {
            self.broken = Some(Broken::PositionUsedTwice);
        }
        self.last_position = member.counter;
    }

    /// The subscription of this member makes all the progress that it can.
    pub fn replicate(&mut self, number: usize) {
        let Some(mut subscription) = self.members[number].subscription.take() else { return };
        let source = self.member_mut(subscription.source);
        let mut arrived = 0;
        if source.publication == Some(subscription.epoch) {
            if !subscription.is_copied {
                subscription.is_copied = true;
                arrived |= source.log;
            }
            if let Some(slot) = source.slot.as_mut().filter(|slot| slot.epoch == subscription.epoch)
            {
                slot.confirmed_lsn = source.lsn;
                arrived |= source.log & !slot.before;
            }
        }
        let last_position = source.last_position;
        let target = &mut self.members[number];
        if arrived & !target.log != 0 {
            target.log |= arrived;
            target.last_position = last_position;
        }
        target.subscription = Some(subscription);
    }
}

/// What is seen, and what source and target hold.
pub struct Seen {
    pub observation: Observation,
    pub held: Option<(Events, Events)>,
}

impl Seen {
    /// What is seen after comparing.
    pub fn compare(&self, action: Action) -> Observation {
        // The actions' positions are those of the reports.
        let compared = match action {
            Action::Check { up_to } => up_to as Events,
            Action::Compare { above } => !(above as Events),
            _ => 0,
        };
        let is_same = |(source, target): (Events, Events)| (source ^ target) & compared == 0;
        let comparison = match self.held.is_some_and(is_same) {
            true => Comparison::Same,
            false => Comparison::Different,
        };
        Observation { comparison: Some(comparison), ..self.observation }
    }
}

pub fn group(number: usize) -> GroupId {
    GroupId::new(number as i32).expect("a small number")
}

pub fn index(of: GroupId) -> usize {
    of.number() as usize
}
