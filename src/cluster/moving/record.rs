//! What the coordinator records about a move, and how one begins and is cancelled.

use super::phase::Phase;
use crate::cluster::epoch::Epoch;
use crate::cluster::group::GroupId;

/// A row of `partition_map`: who has a partition, and since which epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MapEntry {
    /// the owner
    pub owner: GroupId,
    /// its epoch
    pub epoch: Epoch,
}

/// A place in the source's log of the partition: nothing will ever be written at or below the position
/// that is not in the WAL before the LSN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Point {
    /// a place in the source's WAL
    pub lsn: u64,
    /// a position
    pub position: i64,
}

/// A row of `partition_moves`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Move {
    /// the epoch that the target gets. The source has the one before it, and gets the one after it if
    /// the move goes back. So no two moves of a partition have the same, and it names the move
    pub epoch: Epoch,
    /// who had the partition when the move began
    pub source: GroupId,
    /// who is to have it
    pub target: GroupId,
    /// how far the move has come
    pub phase: Phase,
    /// how far the source had written when it was drained: what is compared before the fence. Known from
    /// [`Phase::Drained`] on
    pub drained: Option<Point>,
    /// how far the source has written at all. Known from [`Phase::Fenced`] on
    pub fenced: Option<Point>,
}

/// Why a move cannot begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotBegun {
    /// The partition is there already.
    AlreadyThere(MapEntry),
    /// Another move of the partition has not ended.
    AlreadyMoving(Move),
    /// The partition has used up its epochs.
    NoEpochLeft,
}

/// Why a move cannot be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCancelled {
    /// The target owns the partition: the move only goes on.
    TargetOwns,
    /// It has ended.
    Ended,
}

/// Begins a move. `last` is the last move of the partition, if there was one. The caller holds a lock on
/// the partition's row of the map, and writes the record in the same transaction.
pub fn begin(map: MapEntry, last: Option<Move>, target: GroupId) -> Result<Move, NotBegun> {
    if let Some(last) = last
        && !last.phase.is_final()
    {
        return Err(NotBegun::AlreadyMoving(last));
    }
    if map.owner == target {
        return Err(NotBegun::AlreadyThere(map));
    }
    let epoch = Epoch::new(map.epoch.next().number()).ok_or(NotBegun::NoEpochLeft)?;
    Ok(Move {
        epoch,
        source: map.owner,
        target,
        phase: Phase::Recorded,
        drained: None,
        fenced: None,
    })
}

/// The phase that a move has once it is to go back. The caller records it as
/// [`Entry`](super::step::Entry) says. If the target may have been given the partition, it is
/// [`Phase::Refusing`], and the move goes on if it turns out that it was.
pub fn cancel(phase: Phase) -> Result<Phase, NotCancelled> {
    match phase {
        Phase::Recorded
        | Phase::Prepared
        | Phase::Published
        | Phase::Subscribed
        | Phase::CaughtUp
        | Phase::Drained
        | Phase::Checked
        | Phase::Fenced
        | Phase::Replayed
        | Phase::Compared => Ok(Phase::Returning),
        Phase::Raised => Ok(Phase::Refusing),
        Phase::Refusing | Phase::Returning | Phase::TakenBack => Ok(phase),
        Phase::Given | Phase::Released | Phase::Unlinked => Err(NotCancelled::TargetOwns),
        Phase::Done | Phase::Returned => Err(NotCancelled::Ended),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(owner: i32, epoch: i64) -> MapEntry {
        MapEntry { owner: GroupId::new(owner).unwrap(), epoch: Epoch::new(epoch).unwrap() }
    }

    #[test]
    fn a_move_takes_the_next_epoch() {
        let target = GroupId::new(2).unwrap();
        let begun = begin(map(1, 7), None, target).unwrap();
        assert_eq!((begun.epoch.number(), begun.phase, begun.fenced), (8, Phase::Recorded, None));
        assert_eq!((begun.source.number(), begun.target), (1, target));
        let back = map(1, 9);
        for phase in [Phase::Done, Phase::Returned] {
            let last = Move { phase, ..begun };
            assert_eq!(begin(back, Some(last), target).unwrap().epoch.number(), 10);
        }
    }

    #[test]
    fn two_moves_at_once_are_refused() {
        let begun = begin(map(1, 7), None, GroupId::new(2).unwrap()).unwrap();
        for phase in Phase::ALL.into_iter().filter(|phase| !phase.is_final()) {
            let last = Move { phase, ..begun };
            let second = begin(map(1, 7), Some(last), GroupId::new(3).unwrap());
            assert_eq!(second, Err(NotBegun::AlreadyMoving(last)));
        }
    }

    #[test]
    fn nothing_moves_to_where_it_is_or_without_an_epoch() {
        let owner = GroupId::new(1).unwrap();
        assert_eq!(begin(map(1, 7), None, owner), Err(NotBegun::AlreadyThere(map(1, 7))));
        let last = MapEntry { owner, epoch: Epoch::LAST };
        assert_eq!(begin(last, None, GroupId::new(2).unwrap()), Err(NotBegun::NoEpochLeft));
    }

    #[test]
    fn a_move_is_cancelled_until_the_target_owns() {
        for phase in Phase::ALL {
            let expected = match phase {
                Phase::Done | Phase::Returned => Err(NotCancelled::Ended),
                Phase::Given | Phase::Released | Phase::Unlinked => Err(NotCancelled::TargetOwns),
                Phase::Raised | Phase::Refusing => Ok(Phase::Refusing),
                Phase::TakenBack => Ok(Phase::TakenBack),
                _ => Ok(Phase::Returning),
            };
            assert_eq!(cancel(phase), expected, "{phase:?}");
        }
    }
}
