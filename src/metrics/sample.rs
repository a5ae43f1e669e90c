//! One number with its name and its labels, and the list of all of them.
//!
//! Samples come in the order of `METRICS`, those of a family side by side, and every family has at
//! least one as long as there is a worker.

use super::histogram::{BOUND_BITS_MAX, BOUND_BITS_MIN, Snapshot};
use super::kind::{Counter, ErrorKind, Function, Latency};
use super::names::{self, HistogramNames, METRICS};
use super::rate::WINDOWS_S;
use super::registry::Registry;
use crate::model::partition::Partition;
use std::time::Duration;

/// The reported percentiles, as label and as share.
const PERCENTILES: [(&str, f64); 3] = [("50", 0.5), ("99", 0.99), ("99.9", 0.999)];

/// One number.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The family's name, with `_bucket`, `_sum` or `_count` where that is a histogram.
    pub name: &'static str,
    /// Names and values of the labels.
    pub labels: Vec<(&'static str, String)>,
    /// The number; NaN where there is none yet, as a percentile of nothing. Whole numbers are exact
    /// up to 2^53.
    pub value: f64,
}

impl Sample {
    /// The labels as a JSON object of strings.
    pub fn labels_json(&self) -> serde_json::Value {
        let labels = self.labels.iter();
        labels
            .map(|(name, value)| ((*name).to_owned(), serde_json::Value::from(value.as_str())))
            .collect()
    }
}

/// What the caller knows of a worker and its queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkerGauges {
    /// number of the worker
    pub worker: u32,
    /// whether it runs
    pub up: bool,
    /// events in its queue
    pub queue_depth_events: u64,
    /// bytes taken in its queue
    pub queue_depth_bytes: u64,
    /// bytes of its queue
    pub queue_capacity_bytes: u64,
    /// age of the oldest event in its queue, 0 if there is none
    pub queue_lag: Duration,
    /// how often a call had to wait for room
    pub queue_full_waits: u64,
    /// batches written
    pub batches: u64,
    /// events of the largest of them
    pub largest_batch_events: u64,
    /// events whose streams could not be written
    pub waiting_events: u64,
    /// age of the oldest of them
    pub waiting_for: Duration,
    /// events put among the dead letters
    pub dead_letters: u64,
}

/// What the caller knows of hot partitions and of the sidecar.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HotGauges {
    /// whether the settler runs
    pub settler_up: bool,
    /// partitions of this database that are hot
    pub hot: u64,
    /// partitions that are being made cold
    pub cooling: u64,
    /// partitions that were one of these in a restored dump, and are not settled here
    pub restored: u64,
    /// events put into batches
    pub taken_events: u64,
    /// events of batches that were settled
    pub settled_events: u64,
    /// bytes of this database's batches
    pub unsettled_bytes: u64,
    /// age of the oldest of them, 0 if there is none
    pub oldest_unsettled: Duration,
    /// readers that have found a tail
    pub tails_found: u64,
    /// readers that have looked for one in vain
    pub tails_missing: u64,
    /// whether the sidecar answers
    pub sidecar_up: bool,
    /// bytes of its files
    pub sidecar_disk_bytes: u64,
    /// bytes that it has in memory
    pub sidecar_memory_bytes: u64,
    /// questions that it has answered
    pub sidecar_answers: u64,
    /// questions that it has not
    pub sidecar_misses: u64,
    /// how often it was made anew
    pub sidecar_rebuilds: u64,
}

/// What the caller knows and the registry does not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gauges {
    /// all workers that there should be
    pub workers: Vec<WorkerGauges>,
    /// hot partitions
    pub hot: HotGauges,
    /// rows of `dead_letters` of this database
    pub dead_letters: u64,
    /// safe position of this database, where it is known
    pub safe_position: Option<i64>,
    /// position that the next event of this database will have, where it is known
    pub next_position: Option<i64>,
}

/// All samples. `now_s` is the second of the clock that the registry's rates were counted by.
pub fn samples(registry: &Registry, gauges: &Gauges, now_s: u64) -> Vec<Sample> {
    let mut list = List(Vec::with_capacity(256));
    events(&mut list, registry, now_s);
    calls(&mut list, registry);
    latencies(&mut list, registry);
    workers(&mut list, &gauges.workers);
    hot(&mut list, &gauges.hot);
    list.add(names::DEAD_LETTERS, gauges.dead_letters as f64);
    let position = |position: Option<i64>| position.map_or(f64::NAN, |position| position as f64);
    list.add(names::SAFE_POSITION, position(gauges.safe_position));
    list.add(names::NEXT_POSITION, position(gauges.next_position));
    list.0
}

/// The samples so far.
struct List(Vec<Sample>);

impl List {
    fn add(&mut self, name: &'static str, value: f64) {
        self.0.push(Sample { name, labels: Vec::new(), value });
    }

    /// Adds a sample with the labels of its family.
    fn add_labelled<const N: usize>(
        &mut self,
        name: &'static str,
        values: [String; N],
        value: f64,
    ) {
        let names = names::family(name).map_or(&[][..], |family| METRICS[family].labels);
        debug_assert_eq!(names.len(), N, "{name}");
        let labels = names.iter().copied().zip(values).collect();
        self.0.push(Sample { name, labels, value });
    }
}

fn events(list: &mut List, registry: &Registry, now_s: u64) {
    for counter in Counter::ALL {
        let name = match counter {
            Counter::EventsAppended => names::EVENTS_APPENDED,
            Counter::EventsEnqueued => names::EVENTS_ENQUEUED,
            Counter::EventsDrained => names::EVENTS_DRAINED,
            Counter::EventsRejected => names::EVENTS_REJECTED,
            Counter::EventsRead => names::EVENTS_READ,
        };
        list.add(name, registry.events(*counter) as f64);
    }
    for counter in Counter::ALL {
        for window_s in WINDOWS_S {
            let labels = [counter.label().to_owned(), format!("{window_s}s")];
            let rate = registry.rate(*counter).per_second(window_s, now_s);
            list.add_labelled(names::EVENTS_PER_SECOND, labels, rate);
        }
    }
    for partition in Partition::all() {
        let labels = [partition.number().to_string()];
        let events = registry.partition_events(partition) as f64;
        list.add_labelled(names::PARTITION_EVENTS_APPENDED, labels, events);
    }
}

fn calls(list: &mut List, registry: &Registry) {
    for function in Function::ALL {
        let calls = registry.calls(*function) as f64;
        list.add_labelled(names::CALLS, [function.label().to_owned()], calls);
    }
    for kind in ErrorKind::ALL {
        let errors = registry.errors(*kind) as f64;
        list.add_labelled(names::ERRORS, [kind.label().to_owned()], errors);
    }
    list.add(names::VERSION_CONFLICTS, registry.errors(ErrorKind::Conflict) as f64);
}

fn latencies(list: &mut List, registry: &Registry) {
    let snapshots = || Latency::ALL.iter().map(|kind| (kind, registry.latency(*kind).snapshot()));
    let snapshots: Vec<(&Latency, Snapshot)> = snapshots().collect();
    for (latency, snapshot) in &snapshots {
        let names = match latency {
            Latency::Append => names::APPEND_DURATION,
            Latency::Enqueue => names::ENQUEUE_DURATION,
            Latency::DrainBatch => names::DRAIN_BATCH_DURATION,
            Latency::Read => names::READ_DURATION,
        };
        histogram(list, names, snapshot);
    }
    for (latency, snapshot) in &snapshots {
        for (percentile, q) in PERCENTILES {
            let labels = [latency.label().to_owned(), percentile.to_owned()];
            let value = snapshot.quantile(q).map_or(f64::NAN, |found| found.as_secs_f64());
            list.add_labelled(names::LATENCY_PERCENTILE, labels, value);
        }
    }
}

fn histogram(list: &mut List, names: HistogramNames, snapshot: &Snapshot) {
    let mut bucket = |bound: String, count: u64| {
        let labels = vec![(names::LE, bound)];
        list.0.push(Sample { name: names.bucket, labels, value: count as f64 });
    };
    for bits in BOUND_BITS_MIN..=BOUND_BITS_MAX {
        let bound = Duration::from_nanos(1 << bits).as_secs_f64();
        bucket(bound.to_string(), snapshot.count_up_to(bits));
    }
    bucket("+Inf".to_owned(), snapshot.count());
    list.add(names.sum, snapshot.sum().as_secs_f64());
    list.add(names.count, snapshot.count() as f64);
}

fn workers(list: &mut List, workers: &[WorkerGauges]) {
    type Gauge = (&'static str, fn(&WorkerGauges) -> f64);
    let gauges: [Gauge; 11] = [
        (names::WORKER_UP, |worker| f64::from(u8::from(worker.up))),
        (names::QUEUE_DEPTH_EVENTS, |worker| worker.queue_depth_events as f64),
        (names::QUEUE_DEPTH_BYTES, |worker| worker.queue_depth_bytes as f64),
        (names::QUEUE_CAPACITY_BYTES, |worker| worker.queue_capacity_bytes as f64),
        (names::QUEUE_LAG, |worker| worker.queue_lag.as_secs_f64()),
        (names::QUEUE_FULL_WAITS, |worker| worker.queue_full_waits as f64),
        (names::QUEUE_BATCHES, |worker| worker.batches as f64),
        (names::QUEUE_LARGEST_BATCH, |worker| worker.largest_batch_events as f64),
        (names::WAITING_EVENTS, |worker| worker.waiting_events as f64),
        (names::WAITING, |worker| worker.waiting_for.as_secs_f64()),
        (names::QUEUE_DEAD_LETTERS, |worker| worker.dead_letters as f64),
    ];
    for (name, value) in gauges {
        for worker in workers {
            list.add_labelled(name, [worker.worker.to_string()], value(worker));
        }
    }
}

fn hot(list: &mut List, hot: &HotGauges) {
    let flag = |is_up: bool| f64::from(u8::from(is_up));
    list.add(names::SETTLER_UP, flag(hot.settler_up));
    for (state, partitions) in
        [("hot", hot.hot), ("cooling", hot.cooling), ("restored", hot.restored)]
    {
        list.add_labelled(names::HOT_PARTITIONS, [state.to_owned()], partitions as f64);
    }
    list.add(names::HOT_EVENTS_TAKEN, hot.taken_events as f64);
    list.add(names::HOT_EVENTS_SETTLED, hot.settled_events as f64);
    list.add(names::HOT_UNSETTLED_BYTES, hot.unsettled_bytes as f64);
    list.add(names::HOT_OLDEST_UNSETTLED, hot.oldest_unsettled.as_secs_f64());
    list.add(names::TAILS_FOUND, hot.tails_found as f64);
    list.add(names::TAILS_MISSING, hot.tails_missing as f64);
    list.add(names::SIDECAR_UP, flag(hot.sidecar_up));
    list.add(names::SIDECAR_DISK_BYTES, hot.sidecar_disk_bytes as f64);
    list.add(names::SIDECAR_MEMORY_BYTES, hot.sidecar_memory_bytes as f64);
    list.add(names::SIDECAR_ANSWERS, hot.sidecar_answers as f64);
    list.add(names::SIDECAR_MISSES, hot.sidecar_misses as f64);
    list.add(names::SIDECAR_REBUILDS, hot.sidecar_rebuilds as f64);
}

#[cfg(test)]
mod tests {
    use super::super::names::{MetricType, family};
    use super::*;
    use std::collections::HashSet;

    const NOW_S: u64 = 1_000;

    fn some_samples() -> Vec<Sample> {
        let registry = Registry::new();
        registry.add(Counter::EventsAppended, 10, NOW_S - 1);
        registry.partition(Partition::of(b"order-1"), 10);
        registry.call(Function::AppendMany);
        registry.error(ErrorKind::Conflict);
        registry.record(Latency::Append, Duration::from_micros(100));
        let workers = (0..2)
            .map(|worker| WorkerGauges { worker, up: worker == 0, ..WorkerGauges::default() })
            .collect();
        let hot = HotGauges {
            settler_up: true,
            hot: 4,
            cooling: 5,
            restored: 6,
            taken_events: 7,
            settled_events: 8,
            unsettled_bytes: 9,
            oldest_unsettled: Duration::from_millis(1500),
            tails_found: 10,
            tails_missing: 11,
            sidecar_up: false,
            sidecar_disk_bytes: 12,
            sidecar_memory_bytes: 13,
            sidecar_answers: 14,
            sidecar_misses: 15,
            sidecar_rebuilds: 16,
        };
        let gauges = Gauges {
            workers,
            hot,
            dead_letters: 3,
            safe_position: Some(41),
            next_position: Some(42),
        };
        samples(&registry, &gauges, NOW_S)
    }

    fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
        let found = samples.iter().find(|sample| {
            let own = sample.labels.iter().map(|(name, value)| (*name, value.as_str()));
            sample.name == name && own.eq(labels.iter().copied())
        });
        found.unwrap_or_else(|| panic!("no {name} {labels:?}")).value
    }

    #[test]
    fn every_metric_has_its_labels_and_its_place() {
        let samples = some_samples();
        let families: Vec<usize> =
            samples.iter().map(|sample| family(sample.name).unwrap()).collect();
        assert!(families.is_sorted());
        assert_eq!(families.iter().collect::<HashSet<_>>().len(), METRICS.len());
        let mut seen = HashSet::new();
        for (sample, family) in samples.iter().zip(&families) {
            let metric = METRICS[*family];
            let names: Vec<&str> = sample.labels.iter().map(|(name, _)| *name).collect();
            let is_bucket = sample.name.ends_with("_bucket");
            assert_eq!(names, if is_bucket { &[names::LE][..] } else { metric.labels });
            assert!(seen.insert((sample.name, sample.labels.clone())), "{sample:?} is there twice");
            assert!(metric.metric_type != MetricType::Counter || sample.value >= 0.0);
        }
    }

    #[test]
    fn samples_have_what_was_counted() {
        let samples = some_samples();
        for (name, labels, expected) in [
            (names::EVENTS_APPENDED, &[][..], 10.0),
            (names::EVENTS_READ, &[], 0.0),
            (names::EVENTS_PER_SECOND, &[("kind", "appended"), ("window", "1s")], 10.0),
            (names::EVENTS_PER_SECOND, &[("kind", "appended"), ("window", "10s")], 1.0),
            (names::PARTITION_EVENTS_APPENDED, &[("partition", "22")], 10.0),
            (names::PARTITION_EVENTS_APPENDED, &[("partition", "21")], 0.0),
            (names::CALLS, &[("function", "append_many")], 1.0),
            (names::ERRORS, &[("kind", "conflict")], 1.0),
            (names::VERSION_CONFLICTS, &[], 1.0),
            (names::APPEND_DURATION.bucket, &[("le", "0.000065536")], 0.0),
            (names::APPEND_DURATION.bucket, &[("le", "0.000131072")], 1.0),
            (names::APPEND_DURATION.bucket, &[("le", "+Inf")], 1.0),
            (names::APPEND_DURATION.sum, &[], 0.0001),
            (names::APPEND_DURATION.count, &[], 1.0),
            (names::WORKER_UP, &[("worker", "0")], 1.0),
            (names::WORKER_UP, &[("worker", "1")], 0.0),
            (names::SETTLER_UP, &[], 1.0),
            (names::HOT_PARTITIONS, &[("state", "hot")], 4.0),
            (names::HOT_PARTITIONS, &[("state", "cooling")], 5.0),
            (names::HOT_PARTITIONS, &[("state", "restored")], 6.0),
            (names::HOT_EVENTS_TAKEN, &[], 7.0),
            (names::HOT_EVENTS_SETTLED, &[], 8.0),
            (names::HOT_UNSETTLED_BYTES, &[], 9.0),
            (names::HOT_OLDEST_UNSETTLED, &[], 1.5),
            (names::TAILS_FOUND, &[], 10.0),
            (names::TAILS_MISSING, &[], 11.0),
            (names::SIDECAR_UP, &[], 0.0),
            (names::SIDECAR_DISK_BYTES, &[], 12.0),
            (names::SIDECAR_MEMORY_BYTES, &[], 13.0),
            (names::SIDECAR_ANSWERS, &[], 14.0),
            (names::SIDECAR_MISSES, &[], 15.0),
            (names::SIDECAR_REBUILDS, &[], 16.0),
            (names::DEAD_LETTERS, &[], 3.0),
            (names::SAFE_POSITION, &[], 41.0),
            (names::NEXT_POSITION, &[], 42.0),
        ] {
            assert_eq!(value(&samples, name, labels), expected, "{name} {labels:?}");
        }
        let p99 = [("operation", "append"), ("percentile", "99")];
        let p99 = value(&samples, names::LATENCY_PERCENTILE, &p99);
        assert!((p99 / 0.0001 - 1.0).abs() < 0.1, "{p99}");
        let nothing = [("operation", "read"), ("percentile", "50")];
        assert!(value(&samples, names::LATENCY_PERCENTILE, &nothing).is_nan());
    }

    #[test]
    fn labels_are_a_json_object_of_strings() {
        let labels = vec![("kind", "a \"b\"\n".to_owned()), ("window", "1s".to_owned())];
        let sample = Sample { name: names::EVENTS_PER_SECOND, labels, value: 1.0 };
        let expected = serde_json::json!({"kind": "a \"b\"\n", "window": "1s"});
        assert_eq!(sample.labels_json(), expected);
        let bare = Sample { name: names::DEAD_LETTERS, labels: Vec::new(), value: 1.0 };
        assert_eq!(bare.labels_json().to_string(), "{}");
    }
}
