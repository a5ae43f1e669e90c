//! What can be wrong.

use crate::cluster::epoch::Epoch;
use crate::cluster::group::GroupId;
use crate::cluster::moving::phase::Phase;
use crate::cluster::moving::record::MapEntry;
use crate::model::partition::Partition;

/// Something that is wrong, with its facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding<'a> {
    /// A node was not reached.
    NodeAway {
        /// its group
        group: GroupId,
        /// the node
        node: &'a str,
    },
    /// No node of the group that was reached is a primary: its partitions cannot be written.
    NoPrimary {
        /// the group
        group: GroupId,
    },
    /// More than one node of the group says that it is the primary.
    SeveralPrimaries {
        /// the group
        group: GroupId,
        /// these nodes
        nodes: Vec<&'a str>,
    },
    /// What the group acknowledges is on one node only.
    NoSynchronousStandby {
        /// the group
        group: GroupId,
    },
    /// A standby is behind.
    Lag {
        /// its group
        group: GroupId,
        /// the standby
        node: &'a str,
        /// how far
        lag_bytes: u64,
    },
    /// A node's `allsource.node_id` is not its group: it refuses to write.
    WrongNodeId {
        /// its group
        group: GroupId,
        /// the node
        node: &'a str,
        /// its setting
        node_id: i32,
    },
    /// A node has another version of the extension than most.
    OtherVersion {
        /// its group
        group: GroupId,
        /// the node
        node: &'a str,
        /// its version
        version: &'a str,
        /// that of most
        usual: &'a str,
    },
    /// Nobody owns a partition that is not being moved.
    NoOwner {
        /// the partition
        partition: Partition,
        /// who should
        map: MapEntry,
    },
    /// More than one group owns a partition. As groups are asked at different moments, who finds this
    /// while the partition is being moved asks again.
    SeveralOwners {
        /// the partition
        partition: Partition,
        /// the groups, with their epochs
        owners: Vec<(GroupId, Epoch)>,
    },
    /// A partition that is not being moved has another owner, or another epoch, than the map says.
    OtherOwner {
        /// the partition
        partition: Partition,
        /// what the map says
        map: MapEntry,
        /// what the group says
        found: MapEntry,
    },
    /// A move has not ended, and nobody carries it on.
    MoveStands {
        /// the partition
        partition: Partition,
        /// how far the move has come
        phase: Phase,
        /// how long ago an executor last looked at it
        idle_seconds: u64,
    },
}
