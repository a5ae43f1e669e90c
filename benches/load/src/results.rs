//! The figures of a run: what goes into `results.json`, and what the bars are judged by.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bars::Verdict;
use crate::machine::Machine;
use crate::measure::Sample;
use crate::ring::RingResults;

/// All of a run.
#[derive(Serialize, Deserialize)]
pub struct Results {
    /// The machine.
    pub machine: Machine,
    /// The server's settings.
    pub settings: BTreeMap<String, String>,
    /// What was measured.
    pub figures: Vec<Figures>,
    /// What the ring's own bench has measured, where it was run.
    pub ring: Option<RingResults>,
    /// Each bar, met or not.
    pub bars: Vec<Verdict>,
}

/// One workload at one number of clients: medians over its rounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figures {
    /// The group it was measured in.
    pub group: String,
    /// The workload's name.
    pub workload: String,
    /// Connections at the same time.
    pub clients: usize,
    /// Events per second.
    pub events_per_s: f64,
    /// The slowest round.
    pub events_per_s_min: f64,
    /// The fastest round.
    pub events_per_s_max: f64,
    /// Median latency of a call.
    pub p50_us: f64,
    /// 99th percentile of a call's latency.
    pub p99_us: f64,
    /// WAL per event; None for reads.
    pub wal_bytes_per_event: Option<f64>,
    /// Growth on disk per event, over all rounds together as files grow in steps; None for reads.
    pub disk_bytes_per_event: Option<f64>,
    /// Processor time of the server per event; None where it was not looked at. It depends less than
    /// anything else here on what the machine does besides.
    pub server_us_per_event: Option<f64>,
    /// Processor time of the load generator as a share of one core.
    pub client_cores: f64,
    /// Events per second drained from the queue beside the workload; None without such a load.
    #[serde(default)]
    pub load_events_per_s: Option<f64>,
    /// Events per second relative to each baseline of the group with the same number of clients.
    #[serde(default)]
    pub ratios: BTreeMap<String, f64>,
    /// The rounds themselves.
    pub rounds: Vec<Sample>,
}

impl Figures {
    /// Summarises the rounds of a workload.
    pub fn of(group: &str, workload: &str, clients: usize, rounds: Vec<Sample>) -> Self {
        let rate = |sample: &Sample| sample.events_per_s;
        let events: f64 = rounds.iter().map(|sample| sample.events as f64).sum();
        let disk: Option<f64> = rounds.iter().map(|sample| sample.disk_bytes).sum();
        let has_wal = rounds.iter().all(|sample| sample.wal_bytes.is_some());
        let wal = |sample: &Sample| sample.wal_bytes.unwrap_or(0.0) / sample.events as f64;
        let has_cpu = rounds.iter().all(|sample| sample.server_cpu_s.is_some());
        let cpu = |sample: &Sample| sample.server_cpu_s.unwrap_or(0.0) * 1e6 / sample.events as f64;
        let has_load = rounds.iter().all(|sample| sample.load_events_per_s.is_some());
        let load = |sample: &Sample| sample.load_events_per_s.unwrap_or(0.0);
        Self {
            group: group.to_owned(),
            workload: workload.to_owned(),
            clients,
            events_per_s: median(&rounds, rate),
            events_per_s_min: rounds.iter().map(rate).fold(f64::INFINITY, f64::min),
            events_per_s_max: rounds.iter().map(rate).fold(0.0, f64::max),
            p50_us: median(&rounds, |sample| sample.p50_us),
            p99_us: median(&rounds, |sample| sample.p99_us),
            wal_bytes_per_event: has_wal.then(|| median(&rounds, wal)),
            disk_bytes_per_event: disk.map(|bytes| bytes / events),
            server_us_per_event: has_cpu.then(|| median(&rounds, cpu)),
            client_cores: median(&rounds, |sample| sample.client_cores),
            load_events_per_s: has_load.then(|| median(&rounds, load)),
            ratios: BTreeMap::new(),
            rounds,
        }
    }
}

/// The median of `value` over the rounds.
fn median(rounds: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count.is_multiple_of(2) => (values[count / 2 - 1] + values[count / 2]) / 2.0,
        count => values[count / 2],
    }
}

/// Adds to every figure its ratio to those of `baselines` in the same group with as many clients,
/// or, where a baseline was run with one number of clients only, to that.
pub fn add_ratios(figures: &mut [Figures], baselines: &[&str]) {
    let all = figures.to_vec();
    for figure in figures {
        for baseline in baselines {
            let in_group =
                || all.iter().filter(|f| f.group == figure.group && f.workload == *baseline);
            let same = in_group().find(|f| f.clients == figure.clients).or_else(|| {
                let mut found = in_group();
                found.next().filter(|_| found.next().is_none())
            });
            if let Some(base) = same.filter(|base| base.workload != figure.workload) {
                let ratio = figure.events_per_s / base.events_per_s;
                figure.ratios.insert((*baseline).to_owned(), ratio);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(events_per_s: f64) -> Sample {
        Sample {
            events: 10,
            calls: 10,
            events_per_s,
            p50_us: 1.0,
            p99_us: 2.0,
            wal_bytes: Some(1000.0),
            disk_bytes: None,
            server_cpu_s: None,
            client_cores: 0.1,
            load_events_per_s: None,
        }
    }

    #[test]
    fn medians_and_ratios() {
        let mut figures = vec![
            Figures::of("g", "base", 2, vec![sample(10.0), sample(30.0), sample(20.0)]),
            Figures::of("g", "ours", 4, vec![sample(40.0), sample(20.0)]),
            Figures::of("other", "ours", 4, vec![sample(40.0)]),
        ];
        add_ratios(&mut figures, &["base"]);
        assert_eq!(figures[0].events_per_s, 20.0);
        assert_eq!(figures[0].wal_bytes_per_event, Some(100.0));
        assert_eq!(figures[0].disk_bytes_per_event, None);
        assert!(figures[0].ratios.is_empty());
        assert_eq!(figures[1].ratios["base"], 1.5);
        assert!(figures[2].ratios.is_empty());
    }
}
