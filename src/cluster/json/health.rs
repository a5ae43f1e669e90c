//! What is wrong with a cluster.

use super::{Unreadable, epoch, group, ownership, partition, read};
use crate::cluster::health::{
    self, Bounds, ClusterReport, Finding, GroupReport, MoveReport, NodeAnswer, NodeReport,
    PartitionReport, Role,
};
use crate::cluster::moving::phase::Phase;
use crate::cluster::moving::record::MapEntry;
use serde::Deserialize;

/// The coordinator's tables, and what the nodes told.
#[derive(Deserialize)]
struct ClusterRow {
    groups: Vec<GroupRow>,
    partitions: Vec<PartitionRow>,
    lag_bytes_max: u64,
    idle_seconds_max: u64,
}

#[derive(Deserialize)]
struct GroupRow {
    group_id: i32,
    nodes: Vec<NodeRow>,
    /// NULL: no primary was reached
    owners: Option<Vec<OwnerRow>>,
}

#[derive(Deserialize)]
struct NodeRow {
    name: String,
    /// NULL: it was not reached
    answer: Option<AnswerRow>,
}

#[derive(Deserialize)]
struct AnswerRow {
    is_standby: bool,
    is_synchronous: bool,
    lag_bytes: Option<u64>,
    node_id: i32,
    version: Option<String>,
}

#[derive(Deserialize)]
struct OwnerRow {
    partition_id: i32,
    group_id: i32,
    epoch: i64,
    state: String,
}

#[derive(Deserialize)]
struct PartitionRow {
    partition_id: i32,
    group_id: i32,
    epoch: i64,
    /// NULL: it is not being moved
    phase: Option<String>,
    idle_seconds: Option<u64>,
}

/// What is wrong, as an array of sentences.
pub fn examine(cluster: &[u8]) -> Result<String, Unreadable> {
    let row: ClusterRow = serde_json::from_slice(cluster)?;
    let bounds =
        Bounds { lag_bytes_max: row.lag_bytes_max, idle_seconds_max: row.idle_seconds_max };
    let report = ClusterReport {
        groups: row.groups.iter().map(GroupRow::read).collect::<Result<_, _>>()?,
        partitions: row.partitions.iter().map(PartitionRow::read).collect::<Result<_, _>>()?,
    };
    let sentences: Vec<String> = health::examine(&report, bounds).iter().map(sentence).collect();
    Ok(serde_json::to_string(&sentences)?)
}

impl GroupRow {
    fn read(&self) -> Result<GroupReport<'_>, Unreadable> {
        let owners = self.owners.as_ref().map(|rows| {
            let read = |row: &OwnerRow| {
                let is = ownership(&row.state, row.epoch, row.group_id)?;
                Ok((partition(row.partition_id)?, is))
            };
            rows.iter().map(read).collect::<Result<_, Unreadable>>()
        });
        Ok(GroupReport {
            group: group(self.group_id)?,
            nodes: self.nodes.iter().map(NodeRow::read).collect(),
            ownerships: owners.transpose()?,
        })
    }
}

impl NodeRow {
    fn read(&self) -> NodeReport<'_> {
        let answer = self.answer.as_ref().map(|answer| NodeAnswer {
            role: if answer.is_standby {
                Role::Standby { lag_bytes: answer.lag_bytes.unwrap_or(0) }
            } else {
                Role::Primary { is_synchronous: answer.is_synchronous }
            },
            node_id: answer.node_id,
            version: answer.version.as_deref().unwrap_or("none"),
        });
        NodeReport { name: &self.name, answer }
    }
}

impl PartitionRow {
    fn read(&self) -> Result<PartitionReport, Unreadable> {
        let moving = self.phase.as_deref().map(|phase| {
            let phase = read("phase", phase, Phase::from_name(phase))?;
            Ok::<_, Unreadable>(MoveReport { phase, idle_seconds: self.idle_seconds.unwrap_or(0) })
        });
        Ok(PartitionReport {
            partition: partition(self.partition_id)?,
            map: MapEntry { owner: group(self.group_id)?, epoch: epoch(self.epoch)? },
            moving: moving.transpose()?,
        })
    }
}

fn sentence(finding: &Finding<'_>) -> String {
    match finding {
        Finding::NodeAway { group, node } => {
            format!("node {node} of group {} does not answer", group.number())
        }
        Finding::NoPrimary { group } => {
            format!("group {} has no primary: its partitions cannot be written", group.number())
        }
        Finding::SeveralPrimaries { group, nodes } => {
            format!("group {} has several primaries: {}", group.number(), nodes.join(", "))
        }
        Finding::NoSynchronousStandby { group } => format!(
            "group {} has no synchronous standby: what it acknowledges is on one node only",
            group.number()
        ),
        Finding::Lag { group, node, lag_bytes } => {
            format!("node {node} of group {} is {lag_bytes} bytes behind", group.number())
        }
        Finding::WrongNodeId { group, node, node_id } => format!(
            "node {node} of group {} has allsource.node_id {node_id}, and writes nothing",
            group.number()
        ),
        Finding::OtherVersion { group, node, version, usual } => format!(
            "node {node} of group {} has version {version} of allsource, and most have {usual}",
            group.number()
        ),
        Finding::NoOwner { partition, map } => format!(
            "partition {} has no owner; by the map it is group {} with epoch {}",
            partition.number(),
            map.owner.number(),
            map.epoch.number()
        ),
        Finding::SeveralOwners { partition, owners } => {
            let owners: Vec<String> = owners
                .iter()
                .map(|(group, epoch)| {
                    format!("group {} with epoch {}", group.number(), epoch.number())
                })
                .collect();
            format!("partition {} has several owners: {}", partition.number(), owners.join(", "))
        }
        Finding::OtherOwner { partition, map, found } => format!(
            "partition {} is owned by group {} with epoch {}, and not by group {} with epoch {} as the map says",
            partition.number(),
            found.owner.number(),
            found.epoch.number(),
            map.owner.number(),
            map.epoch.number()
        ),
        Finding::MoveStands { partition, phase, idle_seconds } => format!(
            "the move of partition {} has been standing for {idle_seconds} s: {}",
            partition.number(),
            phase.name()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn cluster() -> Value {
        let node = |name: &str, is_standby: bool| {
            json!({"name": name, "answer": {"is_standby": is_standby, "is_synchronous": !is_standby,
                "lag_bytes": 10, "node_id": 1, "version": "1.0"}})
        };
        json!({"groups": [{"group_id": 1, "nodes": [node("a:1", false), node("a:2", true)],
                "owners": [{"partition_id": 4, "group_id": 1, "epoch": 2, "state": "owned"}]}],
            "partitions": [{"partition_id": 4, "group_id": 1, "epoch": 2, "phase": null, "idle_seconds": null}],
            "lag_bytes_max": 100, "idle_seconds_max": 60})
    }

    fn found(cluster: &Value) -> Vec<String> {
        serde_json::from_str(&examine(cluster.to_string().as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn nothing_is_wrong() {
        assert!(found(&cluster()).is_empty());
    }

    #[test]
    fn each_finding_is_a_sentence() {
        let mut cluster = cluster();
        cluster["groups"][0]["nodes"][1]["answer"]["lag_bytes"] = json!(101);
        cluster["groups"][0]["nodes"][1]["answer"]["version"] = Value::Null;
        cluster["groups"][0]["owners"][0]["epoch"] = json!(4);
        let expected = [
            "node a:2 of group 1 has version none of allsource, and most have 1.0",
            "node a:2 of group 1 is 101 bytes behind",
            "partition 4 is owned by group 1 with epoch 4, and not by group 1 with epoch 2 as the map says",
        ];
        assert_eq!(found(&cluster), expected);
        cluster["groups"][0]["nodes"] = json!([{"name": "a:1", "answer": null}]);
        cluster["groups"][0]["owners"] = Value::Null;
        cluster["partitions"][0]["phase"] = json!("fenced");
        cluster["partitions"][0]["idle_seconds"] = json!(61);
        let expected = [
            "node a:1 of group 1 does not answer",
            "group 1 has no primary: its partitions cannot be written",
            "the move of partition 4 has been standing for 61 s: fenced",
        ];
        assert_eq!(found(&cluster), expected);
    }
}
