//! What is to be done next.

use super::phase::Phase;
use super::record::{MapEntry, Point};
use crate::cluster::ownership::Ownership;

/// A step of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// To do this, and then to look again.
    Do(Action),
    /// To record this, and then to go on.
    Record(Entry),
    /// To look again in a while.
    Wait(Wait),
    /// The move has ended in this phase.
    Ended(Phase),
    /// The move cannot go on or back by itself. The caller reads the record again: if another has changed
    /// it meanwhile, this means nothing.
    Fail(Contradiction),
}

/// A request to a member. It can be repeated any number of times, and may arrive late: the member compares
/// its row with the move's epoch ([`member`](crate::cluster::member)), and a request that is refused as
/// stale is no failure, but a reason to look again. The names of publication, slot and subscription
/// contain the epoch, so those of two moves are not confused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Target: to expect the partition, and to empty what is there of an earlier copy.
    Receive,
    /// Source: to publish the leaves, and to create the slot. If the publication is there, nothing is done,
    /// whether the slot is there or not: a slot that was lost must not be replaced by one that begins later.
    Publish,
    /// Target: to subscribe, with `synchronous_commit = on`, so that what has been compared survives a
    /// failover of the target.
    Subscribe,
    /// Source: to cool the partition, and to drain what is enqueued for it.
    Drain,
    /// Both: to compare the runs up to this position, which are not written to any more. This may take
    /// long. The result is for the next look, if the record has not changed by then.
    Check {
        /// a position
        up_to: i64,
    },
    /// Source: to end writing. It does so only while the partition is cold.
    Fence,
    /// Both: to compare the runs above this position, and the heads. Nobody writes meanwhile. The result is
    /// for the next look, if the record has not changed by then.
    Compare {
        /// a position
        above: i64,
    },
    /// Target: to raise the counter, so that its next position is above this one, durably.
    RaiseCounter {
        /// the source's last position
        above: i64,
    },
    /// Target: to own the partition.
    Give,
    /// Source: to know that the target owns it.
    Release,
    /// Target: to drop the subscription, without asking the source.
    Unsubscribe,
    /// Source: to drop the publication and the slot.
    Unpublish,
    /// Source: to empty its copy.
    EmptySource,
    /// Target: not to become the owner by this move any more.
    Refuse,
    /// Source: to own the partition again.
    TakeBack,
    /// Target: to empty its copy.
    EmptyTarget,
}

/// Whom an action is asked of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The source.
    Source,
    /// The target.
    Target,
    /// Both.
    Both,
}

impl Action {
    /// Whom it is asked of.
    pub fn side(self) -> Side {
        match self {
            Self::Publish
            | Self::Drain
            | Self::Fence
            | Self::Release
            | Self::Unpublish
            | Self::EmptySource
            | Self::TakeBack => Side::Source,
            Self::Receive
            | Self::Subscribe
            | Self::RaiseCounter { .. }
            | Self::Give
            | Self::Unsubscribe
            | Self::Refuse
            | Self::EmptyTarget => Side::Target,
            Self::Check { .. } | Self::Compare { .. } => Side::Both,
        }
    }

    /// What the executor knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Drain => "drain",
            Self::Check { .. } => "check",
            Self::Fence => "fence",
            Self::Compare { .. } => "compare",
            Self::RaiseCounter { .. } => "raise counter",
            Self::Give => "give",
            Self::Release => "release",
            Self::Unsubscribe => "unsubscribe",
            Self::Unpublish => "unpublish",
            Self::EmptySource => "empty source",
            Self::Refuse => "refuse",
            Self::TakeBack => "take back",
            Self::EmptyTarget => "empty target",
        }
    }
}

/// What is recorded, in one transaction, and only if the record still has the epoch *and* the phase that
/// was read: otherwise another has been faster, and nothing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// the new phase
    pub phase: Phase,
    /// the new entry of the map, if it changes
    pub map: Option<MapEntry>,
    /// how far the source had written when it was drained, if that is new
    pub drained: Option<Point>,
    /// how far the source has written at all, if that is new
    pub fenced: Option<Point>,
    /// why the move goes back, if it does
    pub setback: Option<Setback>,
}

/// Why a move goes back by itself. It can be begun again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Setback {
    /// The slot, or the subscription, is gone: the source has failed over, say.
    CopyLost,
    /// Source and target are not the same.
    CopyDiffers,
}

/// What a move waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The source cannot be reached.
    SourceAway,
    /// The target cannot be reached.
    TargetAway,
    /// The initial copy is not complete.
    Copying,
    /// The target is behind, or has not replayed what is to be compared.
    CatchingUp {
        /// how far
        lag_bytes: u64,
    },
    /// The source is fenced, and the target has not replayed all of it.
    Replaying {
        /// how far it is behind
        lag_bytes: u64,
    },
    /// The source's copy is kept for a while.
    CopyKept,
}

/// What cannot be if only moves change what belongs to them: a member was restored from a backup, say, or
/// rows were changed by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Contradiction {
    /// The source's row is not one that this phase can have.
    Source(Ownership),
    /// The target's row is not one that this phase can have.
    Target(Ownership),
    /// The record lacks what this phase has.
    Record,
}
