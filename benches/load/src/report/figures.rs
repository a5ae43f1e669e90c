//! The figures of a run: what goes into `results.json`, and what the bars are judged by.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::measure::clients::Sample;
use crate::measure::footprint::Memory;
use crate::report::bars::Verdict;
use crate::report::ring::RingResults;

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
    /// The same by kind of process.
    #[serde(default)]
    pub process_us_per_event: BTreeMap<String, f64>,
    /// The most memory that the settler had in any round; None where there was nothing for it to do.
    #[serde(default)]
    pub settler: Option<Memory>,
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
        let events: f64 = rounds.iter().map(|sample| sample.events as f64).sum();
        let disk: Option<f64> = rounds.iter().map(|sample| sample.disk_bytes).sum();
        let per_event = |value: Option<f64>, sample: &Sample| Some(value? / sample.events as f64);
        let kinds: BTreeSet<_> =
            rounds.iter().flat_map(|sample| sample.process_cpu_s.keys()).collect();
        let kinds = kinds.into_iter();
        let rates = || rounds.iter().map(|sample| sample.events_per_s);
        let always = |value: fn(&Sample) -> f64| {
            median(&rounds, |sample| Some(value(sample))).unwrap_or(f64::NAN)
        };
        Self {
            group: group.to_owned(),
            workload: workload.to_owned(),
            clients,
            events_per_s: always(|sample| sample.events_per_s),
            events_per_s_min: rates().fold(f64::INFINITY, f64::min),
            events_per_s_max: rates().fold(0.0, f64::max),
            p50_us: always(|sample| sample.p50_us),
            p99_us: always(|sample| sample.p99_us),
            wal_bytes_per_event: median(&rounds, |sample| per_event(sample.wal_bytes, sample)),
            disk_bytes_per_event: disk.map(|bytes| bytes / events),
            server_us_per_event: median(&rounds, |sample| {
                per_event(sample.server_cpu_s.map(|cpu_s| cpu_s * 1e6), sample)
            }),
            process_us_per_event: kinds
                .map(|kind| {
                    let of =
                        |sample: &Sample| sample.process_cpu_s.get(kind).copied().unwrap_or(0.0);
                    let us = median(&rounds, |sample| per_event(Some(of(sample) * 1e6), sample));
                    (kind.clone(), us.unwrap_or(f64::NAN))
                })
                .collect(),
            settler: rounds
                .iter()
                .filter_map(|sample| sample.settler)
                .max_by(|a, b| a.peak_mb.total_cmp(&b.peak_mb)),
            client_cores: always(|sample| sample.client_cores),
            load_events_per_s: median(&rounds, |sample| sample.load_events_per_s),
            ratios: BTreeMap::new(),
            rounds,
        }
    }
}

/// The median of `value` over the rounds; None where a round has none.
fn median(rounds: &[Sample], value: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
    let mut values = rounds.iter().map(value).collect::<Option<Vec<f64>>>()?;
    values.sort_by(f64::total_cmp);
    let (lower, upper) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    Some((values.get(lower)? + values.get(upper)?) / 2.0)
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
        Sample { events: 10, events_per_s, wal_bytes: Some(1000.0), ..Sample::default() }
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
