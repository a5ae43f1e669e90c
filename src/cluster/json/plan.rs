//! The plan of moves.

use super::{Unreadable, group};
use crate::cluster::assignment::{self, Place, Unplannable, Weight, Why};
use crate::model::partition::PARTITIONS;
use serde::Deserialize;

/// A row of `cluster_groups`.
#[derive(Deserialize)]
struct GroupRow {
    group_id: i32,
    weight: u32,
}

/// Where a partition is, or is being moved to.
#[derive(Deserialize)]
struct PlaceRow {
    group_id: i32,
    is_moving: bool,
}

/// A move that is planned.
pub struct PlanRow {
    /// the partition
    pub partition_id: i32,
    /// its owner
    pub from: i32,
    /// the group that is to have it
    pub to: i32,
    /// why
    pub reason: &'static str,
}

/// A group's share.
pub struct StandingRow {
    /// the group
    pub group_id: i32,
    /// how many partitions it should have
    pub share: i32,
}

/// Plans the moves that bring every group to its share. `places` has the partitions in the order of their
/// numbers. Nothing is planned where all weights are 0.
pub fn plan(groups: &[u8], places: &[u8]) -> Result<(Vec<StandingRow>, Vec<PlanRow>), Unreadable> {
    let groups: Vec<GroupRow> = serde_json::from_slice(groups)?;
    let places: Vec<PlaceRow> = serde_json::from_slice(places)?;
    let weights = groups
        .iter()
        .map(|row| Ok(Weight { group: group(row.group_id)?, weight: row.weight }))
        .collect::<Result<Vec<_>, Unreadable>>()?;
    let places = places
        .iter()
        .map(|row| Ok(Place { group: group(row.group_id)?, is_moving: row.is_moving }))
        .collect::<Result<Vec<_>, Unreadable>>()?;
    let count = places.len();
    let places: [Place; PARTITIONS] = places.try_into().map_err(|_| Unreadable::Value {
        what: "map with this number of partitions:",
        value: count.to_string(),
    })?;
    let plan = match assignment::plan(&weights, &places) {
        Ok(plan) => plan,
        Err(Unplannable::NoWeight) => return Ok((Vec::new(), Vec::new())),
        Err(Unplannable::UnknownGroup(partition, group)) => {
            let value = format!("{}, which has partition {}", group.number(), partition.number());
            return Err(Unreadable::Value { what: "group", value });
        }
    };
    let standings = plan
        .standings
        .iter()
        .map(|of| StandingRow { group_id: of.group.number(), share: of.share as i32 });
    let moves = plan.moves.iter().map(|planned| PlanRow {
        partition_id: planned.partition.number(),
        from: planned.from.number(),
        to: planned.to.number(),
        reason: match planned.why {
            Why::Drained => "its group has weight 0",
            Why::Joined => "the group has nothing yet",
            Why::Uneven => "its group has more than its share",
        },
    });
    Ok((standings.collect(), moves.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn places(group_of: impl Fn(usize) -> i32) -> Vec<Value> {
        (0..PARTITIONS)
            .map(|index| json!({"group_id": group_of(index), "is_moving": false}))
            .collect()
    }

    fn bytes(value: impl Into<Value>) -> Vec<u8> {
        value.into().to_string().into_bytes()
    }

    #[test]
    fn a_group_that_joins() {
        let groups = bytes(
            json!([{"group_id": 1, "weight": 1, "conninfo": ""}, {"group_id": 2, "weight": 1}]),
        );
        let (standings, moves) = plan(&groups, &bytes(places(|_| 1))).unwrap();
        assert_eq!(
            standings.iter().map(|of| (of.group_id, of.share)).collect::<Vec<_>>(),
            [(1, 16), (2, 16)]
        );
        assert_eq!(moves.len(), 16);
        assert!(
            moves
                .iter()
                .all(|of| (of.from, of.to, of.reason) == (1, 2, "the group has nothing yet"))
        );
    }

    #[test]
    fn what_cannot_be_planned() {
        let idle = bytes(json!([{"group_id": 1, "weight": 0}]));
        assert!(
            plan(&idle, &bytes(places(|_| 1)))
                .is_ok_and(|(of, moves)| of.is_empty() && moves.is_empty())
        );
        let one = bytes(json!([{"group_id": 1, "weight": 1}]));
        let unknown = plan(&one, &bytes(places(|index| 1 + i32::from(index == 5)))).err().unwrap();
        assert_eq!(unknown.to_string(), "there is no group 2, which has partition 5");
        assert!(plan(&one, &bytes(places(|_| 1)[1..].to_vec())).is_err());
        assert!(plan(b"[", b"[]").is_err());
    }
}
