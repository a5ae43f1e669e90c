//! From what was told to what is wrong.

use super::finding::Finding;
use super::report::{
    Bounds, ClusterReport, GroupReport, NodeAnswer, NodeReport, PartitionReport, Role,
};
use crate::cluster::moving::record::MapEntry;
use crate::cluster::ownership::State;
use crate::model::partition::Partition;

/// What is wrong: first by group and node, then by partition.
pub fn examine<'a>(report: &ClusterReport<'a>, bounds: Bounds) -> Vec<Finding<'a>> {
    let usual = usual_version(&report.groups);
    let mut findings = Vec::new();
    for group in &report.groups {
        examine_nodes(group, usual, bounds, &mut findings);
        examine_roles(group, &mut findings);
    }
    for partition in &report.partitions {
        examine_partition(&report.groups, partition, &mut findings);
        examine_move(partition, bounds, &mut findings);
    }
    findings
}

fn answers<'a>(group: &GroupReport<'a>) -> impl Iterator<Item = (&'a str, NodeAnswer<'a>)> {
    group.nodes.iter().filter_map(|node| Some((node.name, node.answer?)))
}

/// The version that most nodes have; of equals the first.
fn usual_version<'a>(groups: &[GroupReport<'a>]) -> Option<&'a str> {
    let versions: Vec<&str> =
        groups.iter().flat_map(answers).map(|(_, answer)| answer.version).collect();
    let count = |version: &&str| versions.iter().filter(|other| *other == version).count();
    versions.iter().rev().max_by_key(|version| count(version)).copied()
}

fn examine_nodes<'a>(
    report: &GroupReport<'a>,
    usual: Option<&'a str>,
    bounds: Bounds,
    findings: &mut Vec<Finding<'a>>,
) {
    let group = report.group;
    for NodeReport { name: node, answer } in report.nodes.iter().copied() {
        let Some(NodeAnswer { role, node_id, version }) = answer else {
            findings.push(Finding::NodeAway { group, node });
            continue;
        };
        if node_id != group.number() {
            findings.push(Finding::WrongNodeId { group, node, node_id });
        }
        if let Some(usual) = usual.filter(|usual| *usual != version) {
            findings.push(Finding::OtherVersion { group, node, version, usual });
        }
        if let Role::Standby { lag_bytes } = role
            && lag_bytes > bounds.lag_bytes_max
        {
            findings.push(Finding::Lag { group, node, lag_bytes });
        }
    }
}

fn examine_roles<'a>(report: &GroupReport<'a>, findings: &mut Vec<Finding<'a>>) {
    let group = report.group;
    let is_primary = |answer: &NodeAnswer<'_>| matches!(answer.role, Role::Primary { .. });
    let nodes: Vec<&str> =
        answers(report).filter(|(_, answer)| is_primary(answer)).map(|(name, _)| name).collect();
    let is_led = !nodes.is_empty();
    match nodes.len() {
        0 => findings.push(Finding::NoPrimary { group }),
        1 => {}
        _ => findings.push(Finding::SeveralPrimaries { group, nodes }),
    }
    let is_safe =
        answers(report).any(|(_, answer)| answer.role == Role::Primary { is_synchronous: true });
    if is_led && !is_safe {
        findings.push(Finding::NoSynchronousStandby { group });
    }
}

fn examine_partition(
    groups: &[GroupReport<'_>],
    report: &PartitionReport,
    findings: &mut Vec<Finding<'_>>,
) {
    let PartitionReport { partition, map, moving } = *report;
    let owners: Vec<MapEntry> =
        groups.iter().filter_map(|group| owned_by(group, partition)).collect();
    match owners.as_slice() {
        [] => {
            let owner = groups.iter().find(|group| group.group == map.owner);
            // Of a group that was not reached it is not known.
            let is_known = owner.is_none_or(|group| group.ownerships.is_some());
            if moving.is_none() && is_known {
                findings.push(Finding::NoOwner { partition, map });
            }
        }
        [found] => {
            if moving.is_none() && *found != map {
                findings.push(Finding::OtherOwner { partition, map, found: *found });
            }
        }
        _ => {
            let owners = owners.iter().map(|entry| (entry.owner, entry.epoch)).collect();
            findings.push(Finding::SeveralOwners { partition, owners });
        }
    }
}

fn owned_by(group: &GroupReport<'_>, partition: Partition) -> Option<MapEntry> {
    let rows = group.ownerships.as_ref()?;
    let (_, row) = rows.iter().find(|(of, row)| *of == partition && row.state == State::Owned)?;
    Some(MapEntry { owner: group.group, epoch: row.epoch })
}

fn examine_move(report: &PartitionReport, bounds: Bounds, findings: &mut Vec<Finding<'_>>) {
    if let Some(moving) = report.moving
        && moving.idle_seconds > bounds.idle_seconds_max
    {
        findings.push(Finding::MoveStands {
            partition: report.partition,
            phase: moving.phase,
            idle_seconds: moving.idle_seconds,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::MoveReport;
    use super::*;
    use crate::cluster::epoch::Epoch;
    use crate::cluster::group::GroupId;
    use crate::cluster::moving::phase::Phase;
    use crate::cluster::ownership::Ownership;

    const BOUNDS: Bounds = Bounds { lag_bytes_max: 1_000, idle_seconds_max: 60 };
    const LEADS: Role = Role::Primary { is_synchronous: true };
    const FOLLOWS: Role = Role::Standby { lag_bytes: 1_000 };

    fn group(number: i32) -> GroupId {
        GroupId::new(number).unwrap()
    }

    fn partition(number: i32) -> Partition {
        Partition::new(number).unwrap()
    }

    fn node(name: &'static str, role: Role, node_id: i32) -> NodeReport<'static> {
        let answer = NodeAnswer { role, node_id, version: "1.0" };
        NodeReport { name, answer: Some(answer) }
    }

    fn row(state: State, epoch: i64, owner: i32) -> Ownership {
        Ownership { state, epoch: Epoch::new(epoch).unwrap(), owner: group(owner) }
    }

    fn entry(owner: i32, epoch: i64) -> MapEntry {
        MapEntry { owner: group(owner), epoch: Epoch::new(epoch).unwrap() }
    }

    /// Two groups of two nodes, of which each has one of two partitions.
    fn well() -> ClusterReport<'static> {
        let of = |number, nodes, states: [State; 2]| GroupReport {
            group: group(number),
            nodes,
            ownerships: Some(vec![
                (partition(0), row(states[0], 1, 1)),
                (partition(1), row(states[1], 4, 2)),
            ]),
        };
        let first = vec![node("a", LEADS, 1), node("b", FOLLOWS, 1)];
        let second = vec![node("c", FOLLOWS, 2), node("d", LEADS, 2)];
        let map = |number, map| PartitionReport { partition: partition(number), map, moving: None };
        ClusterReport {
            groups: vec![
                of(1, first, [State::Owned, State::Foreign]),
                of(2, second, [State::Foreign, State::Owned]),
            ],
            partitions: vec![map(0, entry(1, 1)), map(1, entry(2, 4))],
        }
    }

    fn answer<'a>(
        report: &'a mut ClusterReport<'static>,
        of: [usize; 2],
    ) -> &'a mut NodeAnswer<'static> {
        report.groups[of[0]].nodes[of[1]].answer.as_mut().unwrap()
    }

    #[test]
    fn a_cluster_that_is_well_has_no_findings() {
        assert_eq!(examine(&well(), BOUNDS), []);
    }

    #[test]
    fn nodes() {
        let mut report = well();
        answer(&mut report, [0, 0]).role = Role::Primary { is_synchronous: false };
        answer(&mut report, [0, 1]).role = Role::Standby { lag_bytes: 1_001 };
        answer(&mut report, [1, 0]).node_id = 0;
        answer(&mut report, [1, 1]).version = "1.1";
        let (first, second) = (group(1), group(2));
        let expected = [
            Finding::Lag { group: first, node: "b", lag_bytes: 1_001 },
            Finding::NoSynchronousStandby { group: first },
            Finding::WrongNodeId { group: second, node: "c", node_id: 0 },
            Finding::OtherVersion { group: second, node: "d", version: "1.1", usual: "1.0" },
        ];
        assert_eq!(examine(&report, BOUNDS), expected);
    }

    #[test]
    fn primaries() {
        let mut report = well();
        report.groups[0].nodes[0].answer = None;
        report.groups[0].ownerships = None;
        answer(&mut report, [1, 0]).role = LEADS;
        let (first, second) = (group(1), group(2));
        let expected = [
            Finding::NodeAway { group: first, node: "a" },
            Finding::NoPrimary { group: first },
            Finding::SeveralPrimaries { group: second, nodes: vec!["c", "d"] },
        ];
        assert_eq!(examine(&report, BOUNDS), expected);
    }

    #[test]
    fn owners() {
        let mut report = well();
        let rows = |report: &mut ClusterReport<'static>, of: usize, to: [Ownership; 2]| {
            let rows = std::iter::zip([partition(0), partition(1)], to);
            report.groups[of].ownerships = Some(rows.collect());
        };
        rows(&mut report, 0, [row(State::Fenced, 1, 1), row(State::Owned, 5, 1)]);
        let both = vec![(group(1), Epoch::new(5).unwrap()), (group(2), Epoch::new(4).unwrap())];
        let expected = [
            Finding::NoOwner { partition: partition(0), map: entry(1, 1) },
            Finding::SeveralOwners { partition: partition(1), owners: both },
        ];
        assert_eq!(examine(&report, BOUNDS), expected);
        rows(&mut report, 1, [row(State::Owned, 2, 2), row(State::Foreign, 5, 1)]);
        let expected = [(0, entry(1, 1), entry(2, 2)), (1, entry(2, 4), entry(1, 5))]
            .map(|(of, map, found)| Finding::OtherOwner { partition: partition(of), map, found });
        assert_eq!(examine(&report, BOUNDS), expected);
    }

    #[test]
    fn moves() {
        let mut report = well();
        let row = row(State::Fenced, 1, 1);
        report.groups[0].ownerships = Some(vec![(partition(0), row)]);
        let moving = MoveReport { phase: Phase::Fenced, idle_seconds: 60 };
        report.partitions[0].moving = Some(moving);
        assert_eq!(examine(&report, BOUNDS), []);
        report.partitions[0].moving = Some(MoveReport { idle_seconds: 61, ..moving });
        let (partition, phase) = (partition(0), Phase::Fenced);
        let expected = [Finding::MoveStands { partition, phase, idle_seconds: 61 }];
        assert_eq!(examine(&report, BOUNDS), expected);
    }
}
