//! What a move does to a member's row of `partition_owners`: comparisons and sets by state and epoch.
//!
//! A request may arrive late, when the one who sent it is long dead and others have carried the move on,
//! or back, or have begun the next one. So each function says what the row must be for the request to
//! count. `epoch` is always that of the move, n: the source owns the partition with n − 1, the target
//! gets n, and the source has n + 1 if the move goes back.
//!
//! ```text
//! target                                         source
//!   foreign, below n                               owned, n − 1 ─────────┐
//!      │ receive         │                           │ fence             │
//!      ▼                 │ refuse                    ▼                   │ take_back
//!   foreign, n ──────────┤                         fenced, n − 1 ────────┤
//!      │ give            ▼                           │ release           ▼
//!      ▼              foreign, n + 1                 ▼                owned, n + 1
//!   owned, n                                       foreign, n
//! ```
//!
//! Every arrow raises the epoch or, at the same epoch, goes down in the drawing. So a request that was
//! outrun finds an epoch or a state that it does not expect, and changes nothing.
//!
//! The caller reads the row with a lock on it, does what the request asks for (a publication, a
//! subscription, emptying), writes the row, and commits, all in one transaction. [`fence`] also needs the
//! exclusive lock of the partition's leaf.

use super::epoch::Epoch;
use super::group::GroupId;
use super::ownership::{Ownership, State};

/// What a request does to the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The row becomes this.
    To(Ownership),
    /// It was done before: nothing is to do.
    Already,
}

/// The row is not one that the request was meant for: others have gone on since it was decided on. It
/// changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale {
    /// the row as it is
    pub found: Ownership,
}

/// Begins to receive a partition. What is there of an earlier copy is emptied in the same transaction, if
/// and only if the row changes: when this has been done, what is there is the copy that is being made.
pub fn receive(row: Ownership, epoch: Epoch, source: GroupId) -> Result<Change, Stale> {
    match row.state {
        State::Foreign if row.epoch < epoch => Ok(foreign(epoch, source)),
        State::Foreign if row.epoch == epoch => Ok(Change::Already),
        _ => Err(Stale { found: row }),
    }
}

/// Ends writing on the source. Those who write are waited for, by the lock of the leaf.
pub fn fence(row: Ownership, epoch: Epoch) -> Result<Change, Stale> {
    match row.state {
        State::Owned if row.epoch.is_before(epoch) => {
            Ok(Change::To(Ownership { state: State::Fenced, ..row }))
        }
        State::Fenced if row.epoch.is_before(epoch) => Ok(Change::Already),
        _ => Err(Stale { found: row }),
    }
}

/// Makes the target the owner.
pub fn give(row: Ownership, epoch: Epoch, own: GroupId) -> Result<Change, Stale> {
    match row.state {
        State::Foreign if row.epoch == epoch => Ok(owned(epoch, own)),
        State::Owned if row.epoch == epoch => Ok(Change::Already),
        _ => Err(Stale { found: row }),
    }
}

/// Makes sure that the target does not become the owner by this move any more.
pub fn refuse(row: Ownership, epoch: Epoch, source: GroupId) -> Result<Change, Stale> {
    match row.state {
        State::Foreign if row.epoch <= epoch => Ok(foreign(epoch.next(), source)),
        State::Foreign if row.epoch == epoch.next() => Ok(Change::Already),
        _ => Err(Stale { found: row }),
    }
}

/// Makes the source the owner again, whether it is fenced or not.
pub fn take_back(row: Ownership, epoch: Epoch, own: GroupId) -> Result<Change, Stale> {
    match row.state {
        State::Owned | State::Fenced if row.epoch.is_before(epoch) => Ok(owned(epoch.next(), own)),
        State::Owned if row.epoch == epoch.next() => Ok(Change::Already),
        _ => Err(Stale { found: row }),
    }
}

/// Tells the source that the target is the owner.
pub fn release(row: Ownership, epoch: Epoch, target: GroupId) -> Result<Change, Stale> {
    match row.state {
        State::Fenced if row.epoch.is_before(epoch) => Ok(foreign(epoch, target)),
        State::Foreign if row.epoch == epoch => Ok(Change::Already),
        _ => Err(Stale { found: row }),
    }
}

/// Whether the source may publish the partition.
pub fn may_publish(row: Ownership, epoch: Epoch) -> Result<(), Stale> {
    expect(row, row.state != State::Foreign && row.epoch.is_before(epoch))
}

/// Whether the target may subscribe to it.
pub fn may_subscribe(row: Ownership, epoch: Epoch) -> Result<(), Stale> {
    expect(row, row.state == State::Foreign && row.epoch == epoch)
}

/// Whether the target may drop the move's subscription: it has the partition, or will not get it by this
/// move.
pub fn may_unsubscribe(row: Ownership, epoch: Epoch) -> Result<(), Stale> {
    let is_receiving = row.state == State::Foreign && row.epoch == epoch;
    expect(row, row.epoch >= epoch && !is_receiving)
}

/// Whether the source may drop the move's publication and slot: the target has the partition, or the
/// source has it again.
pub fn may_unpublish(row: Ownership, epoch: Epoch) -> Result<(), Stale> {
    expect(row, row.epoch >= epoch)
}

/// Whether the source's copy may be emptied: the target has the partition.
pub fn may_empty_source(row: Ownership, epoch: Epoch) -> Result<(), Stale> {
    expect(row, row.state == State::Foreign && row.epoch == epoch)
}

/// Whether the target's copy may be emptied: it has refused the partition.
pub fn may_empty_target(row: Ownership, epoch: Epoch) -> Result<(), Stale> {
    expect(row, row.state == State::Foreign && row.epoch == epoch.next())
}

fn owned(epoch: Epoch, owner: GroupId) -> Change {
    Change::To(Ownership { state: State::Owned, epoch, owner })
}

fn foreign(epoch: Epoch, owner: GroupId) -> Change {
    Change::To(Ownership { state: State::Foreign, epoch, owner })
}

fn expect(row: Ownership, is_so: bool) -> Result<(), Stale> {
    if is_so { Ok(()) } else { Err(Stale { found: row }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Request = fn(Ownership, Epoch, GroupId) -> Result<Change, Stale>;

    const REQUESTS: [Request; 6] =
        [receive, |row, epoch, _| fence(row, epoch), give, refuse, take_back, release];

    fn epoch(number: i64) -> Epoch {
        Epoch::new(number).unwrap()
    }

    fn group(number: i32) -> GroupId {
        GroupId::new(number).unwrap()
    }

    fn row(state: State, number: i64, owner: i32) -> Ownership {
        Ownership { state, epoch: epoch(number), owner: group(owner) }
    }

    fn any_row() -> impl Strategy<Value = Ownership> {
        (prop::sample::select(State::ALL.to_vec()), 1i64..8, 0i32..3)
            .prop_map(|(state, number, owner)| row(state, number, owner))
    }

    #[test]
    fn the_source_of_a_move() {
        let (owned, fenced) = (row(State::Owned, 4, 1), row(State::Fenced, 4, 1));
        let (released, returned) = (row(State::Foreign, 5, 2), row(State::Owned, 6, 1));
        let stale = |found| Err(Stale { found });
        let five = epoch(5);
        assert_eq!(fence(owned, five), Ok(Change::To(fenced)));
        assert_eq!(fence(fenced, five), Ok(Change::Already));
        assert_eq!(fence(returned, five), stale(returned));
        assert_eq!(release(fenced, five, group(2)), Ok(Change::To(released)));
        assert_eq!(release(released, five, group(2)), Ok(Change::Already));
        assert_eq!(release(owned, five, group(2)), stale(owned));
        for row in [owned, fenced] {
            assert_eq!(take_back(row, five, group(1)), Ok(Change::To(returned)));
        }
        assert_eq!(take_back(returned, five, group(1)), Ok(Change::Already));
        assert_eq!(take_back(released, five, group(1)), stale(released));
    }

    #[test]
    fn the_target_of_a_move() {
        let before = row(State::Foreign, 2, 0);
        let (receiving, given) = (row(State::Foreign, 5, 1), row(State::Owned, 5, 2));
        let refused = row(State::Foreign, 6, 1);
        let stale = |found| Err(Stale { found });
        let five = epoch(5);
        assert_eq!(receive(before, five, group(1)), Ok(Change::To(receiving)));
        assert_eq!(receive(receiving, five, group(1)), Ok(Change::Already));
        assert_eq!(receive(given, five, group(1)), stale(given));
        assert_eq!(give(before, five, group(2)), stale(before));
        assert_eq!(give(receiving, five, group(2)), Ok(Change::To(given)));
        assert_eq!(give(given, five, group(2)), Ok(Change::Already));
        assert_eq!(give(refused, five, group(2)), stale(refused));
        let given_and_fenced = row(State::Fenced, 5, 2);
        assert_eq!(give(given_and_fenced, five, group(2)), stale(given_and_fenced));
        for row in [before, receiving] {
            assert_eq!(refuse(row, five, group(1)), Ok(Change::To(refused)));
        }
        assert_eq!(refuse(refused, five, group(1)), Ok(Change::Already));
        assert_eq!(refuse(given, five, group(1)), stale(given));
    }

    #[test]
    fn emptying_and_dropping_wait_for_the_end() {
        let five = epoch(5);
        let receiving = row(State::Foreign, 5, 1);
        assert!(may_subscribe(receiving, five).is_ok());
        assert!(may_unsubscribe(receiving, five).is_err());
        assert!(may_empty_target(receiving, five).is_err());
        let refused = row(State::Foreign, 6, 1);
        assert!(may_subscribe(refused, five).is_err());
        assert!(may_unsubscribe(refused, five).is_ok());
        assert!(may_empty_target(refused, five).is_ok());
        let given = row(State::Owned, 5, 2);
        assert!(may_subscribe(given, five).is_err());
        assert!(may_unsubscribe(given, five).is_ok());
        assert!(may_empty_target(given, five).is_err());
        for serving in [row(State::Owned, 4, 1), row(State::Fenced, 4, 1)] {
            assert!(may_publish(serving, five).is_ok());
            assert!(may_unpublish(serving, five).is_err());
            assert!(may_empty_source(serving, five).is_err());
        }
        let released = row(State::Foreign, 5, 2);
        assert!(may_publish(released, five).is_err());
        assert!(may_unpublish(released, five).is_ok());
        assert!(may_empty_source(released, five).is_ok());
    }

    proptest! {
        /// However requests of any moves come, a row's epoch never decreases, a request that is repeated
        /// changes nothing, and of all requests of one epoch only one makes an owner.
        #[test]
        fn epochs_grow_and_requests_can_be_repeated(
            first in any_row(),
            requests in prop::collection::vec((0..REQUESTS.len(), 1i64..8, 0i32..3), 0..24),
        ) {
            let mut row = first;
            let mut owned_in = Vec::new();
            for (request, number, other) in requests {
                let Ok(Change::To(next)) = REQUESTS[request](row, epoch(number), group(other)) else {
                    continue;
                };
                prop_assert!(next.epoch > row.epoch
                    || (next.epoch == row.epoch && row.state == State::Owned
                        && next.state == State::Fenced)
                    || (next.epoch == row.epoch && row.state == State::Foreign
                        && next.state == State::Owned));
                if next.state == State::Owned {
                    prop_assert!(!owned_in.contains(&next.epoch));
                    owned_in.push(next.epoch);
                }
                row = next;
                let again = REQUESTS[request](row, epoch(number), group(other));
                prop_assert_eq!(again, Ok(Change::Already));
            }
        }
    }
}
