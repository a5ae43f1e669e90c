//! How many partitions each group should have.

use crate::cluster::group::GroupId;

/// A group and its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// the group
    pub group: GroupId,
    /// how much it is to carry, compared with the others; 0: nothing, it is being drained
    pub weight: u32,
}

/// Divides partitions among groups by weight, with Webster's method (Sainte-Laguë; M. L. Balinski and
/// H. P. Young, *The Webster Method of Apportionment*, 1979): each in turn goes to the group with the
/// largest weight / (2 × what it has been given + 1). So no partition could be given to another group
/// without making the division less even. Unlike with the largest remainder, no other group's share grows
/// when a group joins, and none shrinks when one leaves.
///
/// `held` says how many partitions each group has now: of groups that are equally entitled, one that needs
/// no move for it is preferred, then the first. Returns as many shares as there are groups, or `None` if
/// all weights are 0.
pub fn shares(groups: &[Weight], held: &[usize], partitions: usize) -> Option<Vec<usize>> {
    let mut shares = vec![0usize; groups.len()];
    for _ in 0..partitions {
        let mut best: Option<usize> = None;
        for candidate in (0..groups.len()).filter(|index| groups[*index].weight > 0) {
            let is_better = best.is_none_or(|best| {
                // a / (2s + 1) > b / (2t + 1), without fractions.
                let entitled = |of: usize, other: usize| {
                    u64::from(groups[of].weight) * (2 * shares[other] as u64 + 1)
                };
                let needs_no_move = |of: usize| held.get(of).is_some_and(|held| shares[of] < *held);
                (entitled(candidate, best), needs_no_move(candidate))
                    > (entitled(best, candidate), needs_no_move(best))
            });
            if is_better {
                best = Some(candidate);
            }
        }
        shares[best?] += 1;
    }
    Some(shares)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::partition::PARTITIONS;
    use proptest::prelude::*;

    fn weights(of: &[u32]) -> Vec<Weight> {
        let number = |(number, weight): (i32, &u32)| Weight {
            group: GroupId::new(number).unwrap(),
            weight: *weight,
        };
        std::iter::zip(0.., of).map(number).collect()
    }

    fn divide(of: &[u32], held: &[usize]) -> Option<Vec<usize>> {
        shares(&weights(of), held, PARTITIONS)
    }

    #[test]
    fn examples() {
        assert_eq!(divide(&[1], &[0]), Some(vec![32]));
        assert_eq!(divide(&[1, 1, 1], &[0, 0, 0]), Some(vec![11, 11, 10]));
        assert_eq!(divide(&[1, 1, 1], &[0, 16, 16]), Some(vec![10, 11, 11]));
        assert_eq!(divide(&[1, 3], &[0, 0]), Some(vec![8, 24]));
        assert_eq!(divide(&[0, 5, 5], &[32, 0, 0]), Some(vec![0, 16, 16]));
        assert_eq!(divide(&[1, 1_000_000], &[32, 0]), Some(vec![0, 32]));
        assert_eq!(divide(&[0, 0], &[16, 16]), None);
        assert_eq!(divide(&[], &[]), None);
    }

    proptest! {
        #[test]
        fn no_partition_is_better_given_to_another(
            of in prop::collection::vec(prop_oneof![Just(0u32), Just(1), 1u32..=u32::MAX], 1..40),
            held in prop::collection::vec(0usize..=32, 40),
        ) {
            let Some(shares) = divide(&of, &held) else {
                prop_assert!(of.iter().all(|weight| *weight == 0));
                return Ok(());
            };
            prop_assert_eq!(shares.iter().sum::<usize>(), PARTITIONS);
            for (weight, share) in std::iter::zip(&of, &shares) {
                prop_assert!(*weight > 0 || *share == 0);
                for (other_weight, other_share) in std::iter::zip(&of, &shares) {
                    // Its last one is worth as much to it as one more would be to the other.
                    let worth_to_other = u64::from(*other_weight) * (2 * *share as u64).saturating_sub(1);
                    let worth = u64::from(*weight) * (2 * *other_share as u64 + 1);
                    prop_assert!(*share == 0 || worth >= worth_to_other, "{:?} {:?}", of, shares);
                }
            }
        }

        #[test]
        fn equal_weights_have_equal_shares(
            groups in 1usize..=40,
            weight in 1u32..=u32::MAX,
            held in prop::collection::vec(0usize..=32, 40),
        ) {
            let shares = divide(&vec![weight; groups], &held).unwrap();
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            prop_assert!(most - least <= 1);
        }
    }
}
