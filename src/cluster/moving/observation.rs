//! What the executor has seen before it asks what to do next.

use crate::cluster::ownership::Ownership;

/// What was asked, after the record was read, of members that were sure of it: see
/// [`moving`](crate::cluster::moving) for why a report must be durable. The coordinator itself is not asked: the record is on it,
/// and who cannot read that cannot do anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// what the source told; `None`: it cannot be reached
    pub source: Option<SourceReport>,
    /// what the target told; `None`: it cannot be reached
    pub target: Option<TargetReport>,
    /// what comparing them has shown, if that was done since the record was read
    pub comparison: Option<Comparison>,
    /// how far the target may be behind when the source is fenced, in bytes of WAL
    pub lag_bytes_max: u64,
    /// whether it is time to empty the source's copy
    pub may_empty: bool,
}

/// What the source told. `lsn` is read last, and `ownership` first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceReport {
    /// its row
    pub ownership: Ownership,
    /// whether the move's publication is there
    pub is_published: bool,
    /// the move's slot; `None` if there is none, or if the WAL that it needs is gone. A failover loses it
    pub slot: Option<Slot>,
    /// the safe position
    pub safe_position: i64,
    /// the highest position in the partition; 0: it has no event
    pub last_position: i64,
    /// whether the partition is cold and nothing is enqueued for it
    pub is_drained: bool,
    /// whether its leaves are empty
    pub is_empty: bool,
    /// the end of the WAL
    pub lsn: u64,
}

/// The slot that the target reads the source's WAL from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    /// up to where the target has confirmed to have it, durably
    pub confirmed_lsn: u64,
}

/// What the target told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TargetReport {
    /// its row
    pub ownership: Ownership,
    /// the move's subscription, if there is one
    pub subscription: Option<Subscription>,
    /// what its counter has given out, at least: the next position is above it
    pub counter: i64,
    /// whether its leaves are empty
    pub is_empty: bool,
}

/// The target's subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subscription {
    /// whether the initial copy of all leaves is complete
    pub is_copied: bool,
}

/// What comparing source and target has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// They are the same.
    Same,
    /// They are not.
    Different,
}
