//! Which partitions move.

use super::shares::{Weight, shares};
use crate::cluster::group::GroupId;
use crate::model::partition::{PARTITIONS, Partition};

/// Where a partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// its owner; if it is being moved, the group that is to have it
    pub group: GroupId,
    /// whether it is being moved: then it is not moved again
    pub is_moving: bool,
}

/// What is to be moved, in a good order: after each move the groups are nearer to their shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// the groups, in the order in which they were given
    pub standings: Vec<Standing>,
    /// the moves
    pub moves: Vec<PlannedMove>,
}

/// What a group has, and what it should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// the group
    pub group: GroupId,
    /// how many partitions it has now
    pub held: usize,
    /// how many it should have
    pub share: usize,
}

/// A partition that is to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedMove {
    /// the partition
    pub partition: Partition,
    /// its owner
    pub from: GroupId,
    /// the group that is to have it
    pub to: GroupId,
    /// why it is moved
    pub why: Why,
}

/// Why a partition is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its owner has weight 0.
    Drained,
    /// The other group has nothing yet.
    Joined,
    /// Its owner has more than its share, and the other group less.
    Uneven,
}

/// Why there is no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unplannable {
    /// All weights are 0, or there are no groups.
    NoWeight,
    /// A partition is in a group that is not among those given.
    UnknownGroup(Partition, GroupId),
}

/// Plans as few moves as bring every group to its share. `places` are those of the partitions in the order
/// of their numbers.
pub fn plan(groups: &[Weight], places: &[Place; PARTITIONS]) -> Result<Plan, Unplannable> {
    let mut held = vec![0; groups.len()];
    for (partition, place) in std::iter::zip(Partition::all(), places) {
        let owner = groups.iter().position(|of| of.group == place.group);
        let owner = owner.ok_or(Unplannable::UnknownGroup(partition, place.group))?;
        held[owner] += 1;
    }
    let shares = shares(groups, &held, PARTITIONS).ok_or(Unplannable::NoWeight)?;
    let standing = |index: usize| Standing {
        group: groups[index].group,
        held: held[index],
        share: shares[index],
    };
    let standings: Vec<Standing> = (0..groups.len()).map(standing).collect();
    let mut now = standings.clone();
    let mut moves = Vec::new();
    let mut movable: Vec<Partition> =
        Partition::all().filter(|partition| !places[partition.index()].is_moving).collect();
    while let Some((from, to)) = widest_gap(&now, &movable, places) {
        let owner = groups[from];
        let at = movable.iter().rposition(|of| places[of.index()].group == owner.group);
        let Some(at) = at else { break };
        let why = if owner.weight == 0 {
            Why::Drained
        } else if standings[to].held == 0 {
            Why::Joined
        } else {
            Why::Uneven
        };
        let partition = movable.remove(at);
        moves.push(PlannedMove { partition, from: owner.group, to: groups[to].group, why });
        now[from].held -= 1;
        now[to].held += 1;
    }
    Ok(Plan { standings, moves })
}

/// The group that has most above its share, of those that can give one away, and the one that lacks most;
/// of equals the last.
fn widest_gap(
    now: &[Standing],
    movable: &[Partition],
    places: &[Place; PARTITIONS],
) -> Option<(usize, usize)> {
    let can_give =
        |group: GroupId| movable.iter().any(|partition| places[partition.index()].group == group);
    let above = |index: &usize| now[*index].held.saturating_sub(now[*index].share);
    let below = |index: &usize| now[*index].share.saturating_sub(now[*index].held);
    let from = (0..now.len())
        .filter(|index| above(index) > 0 && can_give(now[*index].group))
        .max_by_key(above)?;
    let to = (0..now.len()).filter(|index| below(index) > 0).max_by_key(below)?;
    Some((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn weights(of: &[u32]) -> Vec<Weight> {
        let number = |(number, weight): (i32, &u32)| Weight {
            group: GroupId::new(number).unwrap(),
            weight: *weight,
        };
        std::iter::zip(0.., of).map(number).collect()
    }

    fn places(of: impl Fn(usize) -> i32) -> [Place; PARTITIONS] {
        std::array::from_fn(|partition| Place {
            group: GroupId::new(of(partition)).unwrap(),
            is_moving: false,
        })
    }

    /// Carries a plan out.
    fn carry_out(plan: &Plan, places: &mut [Place; PARTITIONS]) {
        for step in &plan.moves {
            let place = &mut places[step.partition.index()];
            assert_eq!(place.group, step.from);
            assert_ne!(step.from, step.to);
            place.group = step.to;
        }
    }

    fn held(places: &[Place; PARTITIONS], group: GroupId) -> usize {
        places.iter().filter(|place| place.group == group).count()
    }

    #[test]
    fn a_second_group_gets_half_and_the_first_gets_it_back() {
        let mut places = places(|_| 0);
        let joined = plan(&weights(&[1, 1]), &places).unwrap();
        assert_eq!(joined.moves.len(), 16);
        assert!(joined.moves.iter().all(|of| of.why == Why::Joined && of.to.number() == 1));
        carry_out(&joined, &mut places);
        assert_eq!(plan(&weights(&[1, 1]), &places).unwrap().moves, []);
        let left = plan(&weights(&[1, 0]), &places).unwrap();
        assert_eq!(left.moves.len(), 16);
        assert!(left.moves.iter().all(|of| of.why == Why::Drained && of.from.number() == 1));
        let uneven = plan(&weights(&[1, 3]), &places).unwrap();
        assert_eq!(uneven.moves.len(), 8);
        assert!(uneven.moves.iter().all(|of| of.why == Why::Uneven));
        let expected = [(0, 16, 8), (1, 16, 24)];
        let found = uneven.standings.iter().map(|of| (of.group.number(), of.held, of.share));
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn there_is_no_plan_without_groups_or_for_unknown_ones() {
        assert_eq!(plan(&weights(&[0]), &places(|_| 0)), Err(Unplannable::NoWeight));
        let unknown = plan(&weights(&[1]), &places(|partition| i32::from(partition == 7)));
        let seven = Partition::new(7).unwrap();
        assert_eq!(unknown, Err(Unplannable::UnknownGroup(seven, GroupId::new(1).unwrap())));
    }

    proptest! {
        #[test]
        fn every_group_comes_to_its_share_with_the_fewest_moves(
            of in prop::collection::vec(prop_oneof![Just(0u32), Just(1), 1u32..100], 1..12),
            owners in prop::collection::vec(any::<prop::sample::Index>(), PARTITIONS),
        ) {
            prop_assume!(of.iter().any(|weight| *weight > 0));
            let groups = weights(&of);
            let mut places = places(|partition| owners[partition].index(of.len()) as i32);
            let plan = plan(&groups, &places).unwrap();
            let missing: usize =
                plan.standings.iter().map(|of| of.share.saturating_sub(of.held)).sum();
            prop_assert_eq!(plan.moves.len(), missing);
            carry_out(&plan, &mut places);
            for standing in &plan.standings {
                prop_assert_eq!(held(&places, standing.group), standing.share);
            }
            prop_assert_eq!(super::plan(&groups, &places).unwrap().moves, []);
        }

        #[test]
        fn a_group_that_joins_or_leaves_is_in_all_moves(
            of in prop::collection::vec(1u32..100, 1..40),
            are_equal in any::<bool>(),
        ) {
            let of = if are_equal { vec![1; of.len()] } else { of };
            let last = GroupId::new(of.len() as i32 - 1).unwrap();
            prop_assume!(of.len() > 1);
            let (all, before) = (weights(&of), weights(&of[..of.len() - 1]));
            let mut places = places(|_| 0);
            carry_out(&plan(&before, &places).unwrap(), &mut places);
            let joined = plan(&all, &places).unwrap();
            prop_assert!(joined.moves.iter().all(|of| of.to == last && of.why == Why::Joined));
            if are_equal {
                prop_assert!(joined.moves.len() <= PARTITIONS.div_ceil(of.len()));
            }
            carry_out(&joined, &mut places);
            let mut drained = of.clone();
            drained[of.len() - 1] = 0;
            let left = plan(&weights(&drained), &places).unwrap();
            prop_assert_eq!(left.moves.len(), joined.moves.len());
            prop_assert!(left.moves.iter().all(|of| of.from == last && of.why == Why::Drained));
            carry_out(&left, &mut places);
            prop_assert_eq!(held(&places, last), 0);
        }

        #[test]
        fn what_is_being_moved_stays(
            of in prop::collection::vec(0u32..4, 2..6),
            owners in prop::collection::vec(any::<prop::sample::Index>(), PARTITIONS),
            moving in prop::collection::vec(any::<bool>(), PARTITIONS),
        ) {
            prop_assume!(of.iter().any(|weight| *weight > 0));
            let mut places = places(|partition| owners[partition].index(of.len()) as i32);
            for (place, is_moving) in std::iter::zip(&mut places, &moving) {
                place.is_moving = *is_moving;
            }
            let plan = plan(&weights(&of), &places).unwrap();
            for step in &plan.moves {
                prop_assert!(!moving[step.partition.index()]);
            }
            carry_out(&plan, &mut places);
            // Who has too much still cannot give any away.
            for standing in &plan.standings {
                let can_give = std::iter::zip(&places, &moving)
                    .any(|(place, is_moving)| place.group == standing.group && !is_moving);
                prop_assert!(held(&places, standing.group) <= standing.share || !can_give);
            }
        }
    }
}
