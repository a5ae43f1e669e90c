//! The names of all metrics, as Prometheus wants them: base units, the unit last, `_total` for
//! counters (<https://prometheus.io/docs/practices/naming/>). They are an interface: dashboards and
//! alerts name them.
//!
//! Durations are reported in two ways. As histograms, because only buckets can be added up over
//! servers and evaluated over any span of time with `histogram_quantile(rate(...))`; the quantiles of
//! a summary can be neither, and would be those since the server's start. Their bounds are the 28
//! powers of two from 1.024 us to 137 s, and all counts are exact. And as percentiles, computed from
//! the sixteen times finer buckets in shared memory, for reading the view without Prometheus.

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricType {
    /// Only grows, from the server's start on.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bounds: `_bucket` with the label `le`, `_sum` and `_count`.
    Histogram,
}

impl MetricType {
    /// As the text format has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// events
    Events,
    /// calls of a function
    Calls,
    /// errors
    Errors,
    /// bytes
    Bytes,
    /// seconds
    Seconds,
    /// events per second
    EventsPerSecond,
    /// waits for room
    Waits,
    /// batches of a worker
    Batches,
    /// partitions of the store
    Partitions,
    /// looks for the tail of a stream
    Looks,
    /// times that something was made anew
    Rebuilds,
    /// places in the store
    Position,
    /// 1 or 0
    Boolean,
}

/// A family of metrics: one name, with any number of label values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// its name
    pub name: &'static str,
    /// what kind of number it is
    pub metric_type: MetricType,
    /// what it counts
    pub unit: Unit,
    /// one sentence that explains it
    pub help: &'static str,
    /// the labels that every sample has, in this order; those of a histogram's buckets have `le` too
    pub labels: &'static [&'static str],
}

/// The names of the samples of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistogramNames {
    /// of the family
    pub family: &'static str,
    /// durations up to the bound in the label `le`
    pub bucket: &'static str,
    /// sum of all durations
    pub sum: &'static str,
    /// number of durations
    pub count: &'static str,
}

macro_rules! histogram_names {
    ($family:literal) => {
        HistogramNames {
            family: $family,
            bucket: concat!($family, "_bucket"),
            sum: concat!($family, "_sum"),
            count: concat!($family, "_count"),
        }
    };
}

/// The label of the bound of a histogram's bucket.
pub const LE: &str = "le";

/// Events written to their streams, by callers and by workers.
pub const EVENTS_APPENDED: &str = "allsource_events_appended_total";
/// Events handed over to the queue.
pub const EVENTS_ENQUEUED: &str = "allsource_events_enqueued_total";
/// Events written by workers.
pub const EVENTS_DRAINED: &str = "allsource_events_drained_total";
/// Events refused.
pub const EVENTS_REJECTED: &str = "allsource_events_rejected_total";
/// Events returned to readers.
pub const EVENTS_READ: &str = "allsource_events_read_total";
/// Events per second.
pub const EVENTS_PER_SECOND: &str = "allsource_events_per_second";
/// Events written to each partition.
pub const PARTITION_EVENTS_APPENDED: &str = "allsource_partition_events_appended_total";
/// Calls by function.
pub const CALLS: &str = "allsource_calls_total";
/// Errors by kind.
pub const ERRORS: &str = "allsource_errors_total";
/// Appends that found another version than expected.
pub const VERSION_CONFLICTS: &str = "allsource_version_conflicts_total";
/// Duration of appending calls.
pub const APPEND_DURATION: HistogramNames = histogram_names!("allsource_append_duration_seconds");
/// Duration of enqueueing calls.
pub const ENQUEUE_DURATION: HistogramNames = histogram_names!("allsource_enqueue_duration_seconds");
/// Duration of the workers' batches.
pub const DRAIN_BATCH_DURATION: HistogramNames =
    histogram_names!("allsource_drain_batch_duration_seconds");
/// Duration of reading calls.
pub const READ_DURATION: HistogramNames = histogram_names!("allsource_read_duration_seconds");
/// Percentiles of the durations.
pub const LATENCY_PERCENTILE: &str = "allsource_latency_percentile_seconds";
/// Whether a worker runs.
pub const WORKER_UP: &str = "allsource_worker_up";
/// Events in a queue.
pub const QUEUE_DEPTH_EVENTS: &str = "allsource_queue_depth_events";
/// Bytes in a queue.
pub const QUEUE_DEPTH_BYTES: &str = "allsource_queue_depth_bytes";
/// Bytes that a queue can hold.
pub const QUEUE_CAPACITY_BYTES: &str = "allsource_queue_capacity_bytes";
/// Age of the oldest event in a queue.
pub const QUEUE_LAG: &str = "allsource_queue_lag_seconds";
/// Waits for room in a queue.
pub const QUEUE_FULL_WAITS: &str = "allsource_queue_full_waits_total";
/// Batches that a worker has written.
pub const QUEUE_BATCHES: &str = "allsource_queue_batches_total";
/// The largest of them.
pub const QUEUE_LARGEST_BATCH: &str = "allsource_queue_largest_batch_events";
/// Events of a queue whose streams could not be written.
pub const WAITING_EVENTS: &str = "allsource_waiting_events";
/// Age of the oldest of them.
pub const WAITING: &str = "allsource_waiting_seconds";
/// Events that a worker has put among the dead letters.
pub const QUEUE_DEAD_LETTERS: &str = "allsource_queue_dead_letters_total";
/// Whether the settler runs.
pub const SETTLER_UP: &str = "allsource_settler_up";
/// Partitions of the database that are hot or cooling.
pub const HOT_PARTITIONS: &str = "allsource_hot_partitions";
/// Events put into batches of hot partitions.
pub const HOT_EVENTS_TAKEN: &str = "allsource_hot_events_taken_total";
/// Events of batches that were settled.
pub const HOT_EVENTS_SETTLED: &str = "allsource_hot_events_settled_total";
/// Bytes of the database's batches.
pub const HOT_UNSETTLED_BYTES: &str = "allsource_hot_unsettled_bytes";
/// Age of the oldest of them.
pub const HOT_OLDEST_UNSETTLED: &str = "allsource_hot_oldest_unsettled_seconds";
/// Readers that have found a tail.
pub const TAILS_FOUND: &str = "allsource_tails_found_total";
/// Readers that have looked for one in vain.
pub const TAILS_MISSING: &str = "allsource_tails_missing_total";
/// Whether the sidecar answers.
pub const SIDECAR_UP: &str = "allsource_sidecar_up";
/// Bytes of its files.
pub const SIDECAR_DISK_BYTES: &str = "allsource_sidecar_disk_bytes";
/// Bytes that it has in memory.
pub const SIDECAR_MEMORY_BYTES: &str = "allsource_sidecar_memory_bytes";
/// Questions that it has answered.
pub const SIDECAR_ANSWERS: &str = "allsource_sidecar_answers_total";
/// Questions that it has not.
pub const SIDECAR_MISSES: &str = "allsource_sidecar_misses_total";
/// How often it was made anew.
pub const SIDECAR_REBUILDS: &str = "allsource_sidecar_rebuilds_total";
/// Dead letters of the database.
pub const DEAD_LETTERS: &str = "allsource_dead_letters";
/// Safe position of the database.
pub const SAFE_POSITION: &str = "allsource_safe_position";
/// Next position of the database.
pub const NEXT_POSITION: &str = "allsource_next_position";

const fn counter(
    name: &'static str,
    unit: Unit,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, metric_type: MetricType::Counter, unit, help, labels }
}

const fn gauge(
    name: &'static str,
    unit: Unit,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, metric_type: MetricType::Gauge, unit, help, labels }
}

const fn histogram(names: HistogramNames, help: &'static str) -> Metric {
    Metric {
        name: names.family,
        metric_type: MetricType::Histogram,
        unit: Unit::Seconds,
        help,
        labels: &[],
    }
}

/// All metrics, in the order in which they are reported.
pub const METRICS: &[Metric] = &[
    counter(
        EVENTS_APPENDED,
        Unit::Events,
        &[],
        "Events written to their streams, by callers and by workers.",
    ),
    counter(EVENTS_ENQUEUED, Unit::Events, &[], "Events handed over to the queue."),
    counter(EVENTS_DRAINED, Unit::Events, &[], "Events that workers have written."),
    counter(EVENTS_REJECTED, Unit::Events, &[], "Events refused by a call or by a worker."),
    counter(EVENTS_READ, Unit::Events, &[], "Events returned to readers."),
    gauge(
        EVENTS_PER_SECOND,
        Unit::EventsPerSecond,
        &["kind", "window"],
        "Events per second over the last whole seconds of the window.",
    ),
    counter(
        PARTITION_EVENTS_APPENDED,
        Unit::Events,
        &["partition"],
        "Events written to the partition, by callers or by workers.",
    ),
    counter(CALLS, Unit::Calls, &["function"], "Calls of SQL functions, failed ones included."),
    counter(ERRORS, Unit::Errors, &["kind"], "Calls that failed, by the kind of the error."),
    counter(
        VERSION_CONFLICTS,
        Unit::Errors,
        &[],
        "Appends refused because the stream had another version than expected.",
    ),
    histogram(APPEND_DURATION, "Duration of the calls that append."),
    histogram(ENQUEUE_DURATION, "Duration of the calls that enqueue, with their waits."),
    histogram(DRAIN_BATCH_DURATION, "Duration of the batches that workers write."),
    histogram(READ_DURATION, "Duration of the calls that read."),
    gauge(
        LATENCY_PERCENTILE,
        Unit::Seconds,
        &["operation", "percentile"],
        "Percentile of the durations since the server's start, within 3.2 percent.",
    ),
    gauge(WORKER_UP, Unit::Boolean, &["worker"], "1 where the worker runs, else 0."),
    gauge(QUEUE_DEPTH_EVENTS, Unit::Events, &["worker"], "Events in the worker's queue."),
    gauge(QUEUE_DEPTH_BYTES, Unit::Bytes, &["worker"], "Bytes taken in the worker's queue."),
    gauge(QUEUE_CAPACITY_BYTES, Unit::Bytes, &["worker"], "Bytes of the worker's queue."),
    gauge(
        QUEUE_LAG,
        Unit::Seconds,
        &["worker"],
        "Age of the oldest event in the worker's queue, 0 where there is none.",
    ),
    counter(
        QUEUE_FULL_WAITS,
        Unit::Waits,
        &["worker"],
        "How often a call had to wait for room in the worker's queue.",
    ),
    counter(QUEUE_BATCHES, Unit::Batches, &["worker"], "Batches that the worker has written."),
    gauge(
        QUEUE_LARGEST_BATCH,
        Unit::Events,
        &["worker"],
        "Events in the largest batch that the worker has written.",
    ),
    gauge(
        WAITING_EVENTS,
        Unit::Events,
        &["worker"],
        "Events in waiting_events, whose streams or partitions could not be written.",
    ),
    gauge(
        WAITING,
        Unit::Seconds,
        &["worker"],
        "Age of the oldest event in waiting_events, 0 where there is none.",
    ),
    counter(
        QUEUE_DEAD_LETTERS,
        Unit::Events,
        &["worker"],
        "Events that the worker has put among the dead letters.",
    ),
    gauge(SETTLER_UP, Unit::Boolean, &[], "1 while the settler runs, else 0."),
    gauge(
        HOT_PARTITIONS,
        Unit::Partitions,
        &["state"],
        "Partitions of this database that are hot, cooling, or were so in a restored dump.",
    ),
    counter(HOT_EVENTS_TAKEN, Unit::Events, &[], "Events put into batches of hot partitions."),
    counter(
        HOT_EVENTS_SETTLED,
        Unit::Events,
        &[],
        "Events of hot partitions that have left their batches for the log.",
    ),
    gauge(
        HOT_UNSETTLED_BYTES,
        Unit::Bytes,
        &[],
        "Bytes of this database's batches of hot partitions.",
    ),
    gauge(
        HOT_OLDEST_UNSETTLED,
        Unit::Seconds,
        &[],
        "Age of the oldest batch of a hot partition of this database, 0 where there is none.",
    ),
    counter(
        TAILS_FOUND,
        Unit::Looks,
        &[],
        "How often a reader has looked for unsettled events of a stream and found some.",
    ),
    counter(
        TAILS_MISSING,
        Unit::Looks,
        &[],
        "How often a reader has looked for unsettled events of a stream and found none.",
    ),
    gauge(SIDECAR_UP, Unit::Boolean, &[], "1 while the sidecar answers, else 0."),
    gauge(SIDECAR_DISK_BYTES, Unit::Bytes, &[], "Bytes of the sidecar's files."),
    gauge(SIDECAR_MEMORY_BYTES, Unit::Bytes, &[], "Bytes that the sidecar has in memory."),
    counter(SIDECAR_ANSWERS, Unit::Looks, &[], "Questions that the sidecar has answered."),
    counter(
        SIDECAR_MISSES,
        Unit::Looks,
        &[],
        "Questions that the sidecar has not answered, so that the batches were read instead.",
    ),
    counter(SIDECAR_REBUILDS, Unit::Rebuilds, &[], "How often the sidecar was made anew."),
    gauge(DEAD_LETTERS, Unit::Events, &[], "Events of this database that no worker could write."),
    gauge(
        SAFE_POSITION,
        Unit::Position,
        &[],
        "Position of this database below which no event can still appear.",
    ),
    gauge(NEXT_POSITION, Unit::Position, &[], "Position that the next event will have."),
];

/// The place in `METRICS` of the family that a sample of this name belongs to.
pub fn family(sample_name: &str) -> Option<usize> {
    METRICS.iter().position(|metric| match sample_name.strip_prefix(metric.name) {
        Some("") => metric.metric_type != MetricType::Histogram,
        Some("_bucket" | "_sum" | "_count") => metric.metric_type == MetricType::Histogram,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// `[a-z_][a-z0-9_]*`: narrower than the format, which allows capitals and, in names, colons.
    fn is_valid(name: &str) -> bool {
        !name.starts_with(|c: char| c.is_ascii_digit())
            && !name.is_empty()
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    }

    #[test]
    fn every_metric_is_described_and_well_named() {
        let mut names = HashSet::new();
        for metric in METRICS {
            let name = metric.name;
            assert!(names.insert(name), "{name} is there twice");
            assert!(is_valid(name) && name.starts_with("allsource_"), "{name}");
            assert!(metric.help.len() > 10 && metric.help.ends_with('.'), "{name}");
            assert!(!metric.help.contains(['\n', '\\']), "{name}");
            let is_counter = metric.metric_type == MetricType::Counter;
            assert_eq!(name.ends_with("_total"), is_counter, "{name}");
            // Prometheus keeps these for itself or for other types.
            for label in metric.labels {
                assert!(is_valid(label) && !label.starts_with("__"), "{name}: {label}");
                assert!(![LE, "quantile", "job", "instance"].contains(label), "{name}: {label}");
            }
            assert!(["_bucket", "_sum", "_count"].iter().all(|end| !name.ends_with(end)), "{name}");
        }
    }

    #[test]
    fn a_name_ends_in_its_unit() {
        for Metric { name, unit, metric_type, .. } in METRICS {
            let stem = name.strip_suffix("_total").unwrap_or(name);
            match unit {
                Unit::Seconds => assert!(stem.ends_with("_seconds"), "{name}"),
                Unit::Bytes => assert!(stem.ends_with("_bytes"), "{name}"),
                Unit::EventsPerSecond => assert!(stem.ends_with("_per_second"), "{name}"),
                Unit::Position => assert!(stem.ends_with("_position"), "{name}"),
                _ => assert_ne!(*metric_type, MetricType::Histogram, "{name}"),
            }
        }
    }

    #[test]
    fn a_sample_finds_its_family() {
        for (place, metric) in METRICS.iter().enumerate() {
            if metric.metric_type != MetricType::Histogram {
                assert_eq!(family(metric.name), Some(place));
            }
        }
        let place = family(APPEND_DURATION.bucket);
        assert_eq!(place.map(|place| METRICS[place].name), Some(APPEND_DURATION.family));
        assert_eq!(family(APPEND_DURATION.sum), place);
        assert_eq!(family(APPEND_DURATION.count), place);
        assert_eq!(family(APPEND_DURATION.family), None);
        assert_eq!(family("allsource_dead_letters_sum"), None);
        assert_eq!(family("nothing"), None);
    }
}
