//! What a member of a cluster knows of a partition, and whether it may write it.

use super::epoch::Epoch;
use super::group::GroupId;

/// What a partition is to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The member writes it.
    Owned,
    /// The member wrote it, and does not any more: it is being moved away. Nobody writes it.
    Fenced,
    /// Another group has it. A copy may be here, of an earlier time or one that is being made.
    Foreign,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Owned, Self::Fenced, Self::Foreign];

    /// As `partition_owners` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Owned => "owned",
            Self::Fenced => "fenced",
            Self::Foreign => "foreign",
        }
    }

    /// The state with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A member's row of `partition_owners`. It is changed by the functions of [`member`](super::member), and
/// by nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ownership {
    /// what the partition is to the member
    pub state: State,
    /// the latest epoch that the member has learned of
    pub epoch: Epoch,
    /// who owned the partition when the member learned of it: the member itself, unless the partition is
    /// foreign
    pub owner: GroupId,
}

/// A server of a cluster, as it knows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// its group, as `cluster_member` has it
    pub group: GroupId,
    /// its setting `allsource.node_id`
    pub node_id: i32,
}

/// Why a partition may not be written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The server's `allsource.node_id` is not its group, so it would create numbers of streams that
    /// another group creates too.
    WrongNode(Member),
    /// The partition is fenced or foreign.
    NotOwned(Ownership),
    /// The member has never been told about the partition.
    Unknown,
}

/// Whether a partition may be written: always on a server that is in no cluster, and in a cluster by the
/// member that owns it. The caller holds the lock of the partition's leaf, so a fence cannot come in
/// between.
pub fn may_write(member: Option<Member>, ownership: Option<Ownership>) -> Result<(), Refusal> {
    let Some(member) = member else { return Ok(()) };
    if member.node_id != member.group.number() {
        return Err(Refusal::WrongNode(member));
    }
    match ownership {
        Some(Ownership { state: State::Owned, .. }) => Ok(()),
        Some(other) => Err(Refusal::NotOwned(other)),
        None => Err(Refusal::Unknown),
    }
}

/// Whether a member may show what it has of a partition: if it owns it, or is about to hand it over, so that
/// nobody has newer events. What is there of a foreign partition may be old, or incomplete.
pub fn may_read(ownership: Option<Ownership>) -> Result<(), Refusal> {
    match ownership {
        Some(Ownership { state: State::Owned | State::Fenced, .. }) => Ok(()),
        Some(foreign) => Err(Refusal::NotOwned(foreign)),
        None => Err(Refusal::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        for state in State::ALL {
            assert_eq!(State::from_name(state.name()), Some(state));
        }
        assert_eq!(State::from_name("Owned"), None);
    }

    #[test]
    fn only_the_owner_writes() {
        let group = GroupId::new(3).unwrap();
        let here = Member { group, node_id: 3 };
        let row = |state| Ownership { state, epoch: Epoch::FIRST, owner: group };
        assert_eq!(may_write(None, None), Ok(()));
        assert_eq!(may_write(Some(here), Some(row(State::Owned))), Ok(()));
        for state in [State::Fenced, State::Foreign] {
            assert_eq!(may_write(Some(here), Some(row(state))), Err(Refusal::NotOwned(row(state))));
        }
        assert_eq!(may_write(Some(here), None), Err(Refusal::Unknown));
        let renumbered = Member { group, node_id: 0 };
        assert_eq!(may_read(None), Err(Refusal::Unknown));
        for state in [State::Owned, State::Fenced] {
            assert_eq!(may_read(Some(row(state))), Ok(()));
        }
        let foreign = row(State::Foreign);
        assert_eq!(may_read(Some(foreign)), Err(Refusal::NotOwned(foreign)));
        let refused = Err(Refusal::WrongNode(renumbered));
        assert_eq!(may_write(Some(renumbered), Some(row(State::Owned))), refused);
    }
}
