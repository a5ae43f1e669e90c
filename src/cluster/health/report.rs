//! What was told. It is not of one moment: the coordinator's tables are read first, and the groups are
//! asked side by side.

use crate::cluster::group::GroupId;
use crate::cluster::moving::phase::Phase;
use crate::cluster::moving::record::MapEntry;
use crate::cluster::ownership::Ownership;
use crate::model::partition::Partition;

/// All that was told.
#[derive(Clone, Debug)]
pub struct ClusterReport<'a> {
    /// the groups that the coordinator has
    pub groups: Vec<GroupReport<'a>>,
    /// the map
    pub partitions: Vec<PartitionReport>,
}

/// A group.
#[derive(Clone, Debug)]
pub struct GroupReport<'a> {
    /// its number
    pub group: GroupId,
    /// its nodes
    pub nodes: Vec<NodeReport<'a>>,
    /// the rows of `partition_owners` on its primary; `None` if that was not reached
    pub ownerships: Option<Vec<(Partition, Ownership)>>,
}

/// A node.
#[derive(Clone, Copy, Debug)]
pub struct NodeReport<'a> {
    /// what it is called
    pub name: &'a str,
    /// what it told; `None` if it was not reached
    pub answer: Option<NodeAnswer<'a>>,
}

/// What a node told.
#[derive(Clone, Copy, Debug)]
pub struct NodeAnswer<'a> {
    /// what it is in its group
    pub role: Role,
    /// its setting `allsource.node_id`
    pub node_id: i32,
    /// its version of the extension
    pub version: &'a str,
}

/// What a node is in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It can be written to.
    Primary {
        /// whether it waits for a standby that follows
        is_synchronous: bool,
    },
    /// It follows the primary.
    Standby {
        /// how far it is behind
        lag_bytes: u64,
    },
}

/// A partition, in the coordinator's tables.
#[derive(Clone, Copy, Debug)]
pub struct PartitionReport {
    /// the partition
    pub partition: Partition,
    /// who has it
    pub map: MapEntry,
    /// its move, if one has not ended
    pub moving: Option<MoveReport>,
}

/// A move that has not ended.
#[derive(Clone, Copy, Debug)]
pub struct MoveReport {
    /// how far it has come
    pub phase: Phase,
    /// how long ago an executor last looked at it
    pub idle_seconds: u64,
}

/// What is still well.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// how far a standby may be behind
    pub lag_bytes_max: u64,
    /// how long a move may be left alone
    pub idle_seconds_max: u64,
}
