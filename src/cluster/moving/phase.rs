//! How far a move has come, as the coordinator has recorded it.

/// A phase of a move. Each says what has been done for certain, and thereby what may be under way: the
/// request of the next step, which may arrive late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The move is recorded.
    Recorded,
    /// The target expects it, and has nothing of an earlier copy.
    Prepared,
    /// The source has a publication, and a slot that keeps its WAL.
    Published,
    /// The target has a subscription.
    Subscribed,
    /// The initial copy is complete, and the target is close behind.
    CaughtUp,
    /// On the source, the partition is cold and nothing is enqueued for it.
    Drained,
    /// What had been written until then has been compared, and is the same.
    Checked,
    /// The source does not write any more.
    Fenced,
    /// The target has all that the source has written.
    Replayed,
    /// The rest has been compared too, and is the same.
    Compared,
    /// The target's counter is above the source's positions. From here on the target may have been given
    /// the partition.
    Raised,
    /// The target owns the partition, and the map says so.
    Given,
    /// The source knows that.
    Released,
    /// Subscription, publication and slot are dropped.
    Unlinked,
    /// The source's copy is emptied. The move has ended.
    Done,
    /// The move is to go back, if the target has not been given the partition.
    Refusing,
    /// The move goes back: the target has not been given the partition and cannot be.
    Returning,
    /// The source owns the partition again, and the map says so.
    TakenBack,
    /// All that the move has made is gone. The move has ended.
    Returned,
}

impl Phase {
    /// All of them: forward, then back.
    pub const ALL: [Self; 19] = [
        Self::Recorded,
        Self::Prepared,
        Self::Published,
        Self::Subscribed,
        Self::CaughtUp,
        Self::Drained,
        Self::Checked,
        Self::Fenced,
        Self::Replayed,
        Self::Compared,
        Self::Raised,
        Self::Given,
        Self::Released,
        Self::Unlinked,
        Self::Done,
        Self::Refusing,
        Self::Returning,
        Self::TakenBack,
        Self::Returned,
    ];

    /// As `partition_moves` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Prepared => "prepared",
            Self::Published => "published",
            Self::Subscribed => "subscribed",
            Self::CaughtUp => "caught up",
            Self::Drained => "drained",
            Self::Checked => "checked",
            Self::Fenced => "fenced",
            Self::Replayed => "replayed",
            Self::Compared => "compared",
            Self::Raised => "raised",
            Self::Given => "given",
            Self::Released => "released",
            Self::Unlinked => "unlinked",
            Self::Done => "done",
            Self::Refusing => "refusing",
            Self::Returning => "returning",
            Self::TakenBack => "taken back",
            Self::Returned => "returned",
        }
    }

    /// The phase with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.name() == name)
    }

    /// Whether the move has ended.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Returned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        for phase in Phase::ALL {
            assert_eq!(Phase::from_name(phase.name()), Some(phase));
        }
        assert_eq!(Phase::from_name("lost"), None);
    }
}
