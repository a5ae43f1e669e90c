//! Which partitions should move where, so that every group has its share with the fewest moves.
//!
//! [`shares`] says how many partitions each group should have, [`plan`] which ones move. When a group
//! joins, partitions move only to it; when one leaves, only from it. Both are pure and deterministic: the
//! same map and weights give the same plan.

mod plan;
mod shares;

pub use plan::{Place, Plan, PlannedMove, Standing, Unplannable, Why, plan};
pub use shares::{Weight, shares};
