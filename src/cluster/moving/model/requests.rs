//! What a message does where it arrives.

use super::faults::Fault;
use super::world::{Broken, Message, Request, World, WorldSlot, WorldSubscription};
use crate::cluster::group::GroupId;
use crate::cluster::member::Change;
use crate::cluster::moving::record::Move;
use crate::cluster::moving::step::{Action, Entry, Side};
use crate::cluster::ownership::{Ownership, State};

impl World {
    /// A message arrives.
    pub fn arrive(&mut self, message: &Message, fault: Fault) {
        match message.request {
            Request::Do(action) => self.act(&message.record, action, fault),
            Request::Record(entry) => self.record(&message.record, entry, fault),
        }
    }

    fn record(&mut self, read: &Move, entry: Entry, fault: Fault) {
        let before = (self.map, self.record);
        let Some(there) = self.record.as_mut().filter(|there| fault.is_current(read, there)) else {
            return;
        };
        there.phase = entry.phase;
        there.drained = entry.drained.or(there.drained);
        there.fenced = entry.fenced.or(there.fenced);
        if let Some(map) = entry.map {
            if map.epoch <= self.map.epoch {
                self.broken = Some(Broken::EpochDecreased);
            }
            self.map = map;
        }
        self.undurable = (fault == Fault::BelievesRecordTooEarly).then_some(before);
    }

    fn act(&mut self, record: &Move, action: Action, fault: Fault) {
        let of = match action.side() {
            Side::Source | Side::Both => record.source,
            Side::Target => record.target,
        };
        let Some(change) = fault.change(action, record, self.member(of).row) else { return };
        let is_first = match change {
            Change::To(row) => {
                self.set(of, row);
                true
            }
            Change::Already => false,
        };
        let epoch = record.epoch;
        let member = self.member_mut(of);
        match action {
            Action::Receive if is_first || fault == Fault::EmptiesAgain => {
                (member.log, member.last_position) = (0, 0);
            }
            Action::EmptySource | Action::EmptyTarget => {
                (member.log, member.last_position) = (0, 0);
            }
            Action::Fence if is_first => member.lsn += 1,
            Action::Publish => {
                let is_new = member.publication != Some(epoch);
                member.publication = Some(epoch);
                let replaces = fault.replaces_slot() && member.slot.is_none();
                if is_new || replaces {
                    let (confirmed_lsn, before) = (member.lsn, member.log);
                    member.slot = Some(WorldSlot { epoch, confirmed_lsn, before });
                }
            }
            Action::Subscribe
                if member.subscription.as_ref().is_none_or(|of| of.epoch != epoch) =>
            {
                let source = record.source;
                member.subscription = Some(WorldSubscription { epoch, source, is_copied: false });
            }
            Action::Unsubscribe => {
                member.subscription.take_if(|of| of.epoch == epoch);
            }
            Action::Unpublish => {
                member.publication.take_if(|of| *of == epoch);
                member.slot.take_if(|slot| slot.epoch == epoch);
            }
            Action::RaiseCounter { above } => member.counter = member.counter.max(above),
            _ => {}
        }
    }

    fn set(&mut self, of: GroupId, row: Ownership) {
        let before = self.member(of).row.epoch;
        if row.epoch < before {
            self.broken = Some(Broken::EpochDecreased);
        }
        if row.state == State::Owned {
            match self.owners.iter().find(|(epoch, _)| *epoch == row.epoch) {
                Some((_, owner)) if *owner != of => self.broken = Some(Broken::EpochOfTwoGroups),
                Some(_) => {}
                None => self.owners.push((row.epoch, of)),
            }
        }
        self.member_mut(of).row = row;
    }
}
