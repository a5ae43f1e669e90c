//! What is wrong with a cluster. Whether a node lives is for those to say who keep the nodes alive; here
//! what they and the groups have told is put together.

mod examine;
mod finding;
mod report;

pub use examine::examine;
pub use finding::Finding;
pub use report::{
    Bounds, ClusterReport, GroupReport, MoveReport, NodeAnswer, NodeReport, PartitionReport, Role,
};
