//! What the server tells of itself: every number agrees with what was done, Prometheus can read it,
//! and es_health says what is not well.

use std::io::Write;
use std::process::{Command, Stdio};

use allsource_e2e::bulk::{
    flush, flush_within, health, is_well, metric, pause, resume, worker, worker_when,
};
use allsource_e2e::calls::{all_events, safe_position};
use allsource_e2e::cluster::project_dir;
use allsource_e2e::event::NewEvent;
use allsource_e2e::failure::{BAD_ARGUMENT, CANCELLED, NOT_ALLOWED, refusal};
use allsource_e2e::{Append, Cluster, Enqueue, EnqueueBatch, ReadAll, ReadStream, patience};
use postgres::Client;
use serde_json::{Value, json};
use uuid::Uuid;

const CHECKS: [&str; 9] = [
    "preload",
    "workers",
    "waiting events",
    "queue",
    "drain lag",
    "unsettled events",
    "sidecar",
    "safe position",
    "dead letters",
];

fn event(payload: Value) -> NewEvent {
    NewEvent::new("t", payload)
}

/// How many events were appended, enqueued and so on.
fn total(client: &mut Client, name: &str) -> f64 {
    metric(client, &format!("allsource_events_{name}_total"), &json!({}))
}

fn calls(client: &mut Client, function: &str) -> f64 {
    metric(client, "allsource_calls_total", &json!({"function": function}))
}

fn errors(client: &mut Client, kind: &str) -> f64 {
    metric(client, "allsource_errors_total", &json!({"kind": kind}))
}

/// Appends, enqueues, reads and fails, each a number of times of its own.
fn do_everything(client: &mut Client) {
    let one = [event(json!(1))];
    let four = [1, 2, 3, 4].map(|n| event(json!(n)));
    Append::to("a", &one).one(client).expect("es_append");
    Append::to("a", &four).many(client).expect("es_append_many");
    Append::to("a", &four).many(client).expect("es_append_many");
    for number in 0..5 {
        Enqueue::to("b", &event(json!(number))).send(client).expect("es_enqueue");
    }
    let items: Vec<(String, NewEvent)> =
        (0..7).map(|n| (format!("c{n}"), event(json!(n)))).collect();
    EnqueueBatch::of(&items).send(client).expect("es_enqueue_batch");
    flush(client).expect("es_flush");
    let read = ReadStream::all("b").read(client).expect("es_read");
    assert_eq!(read.len(), 5);
    let read = ReadAll::after(0, 6).read(client).expect("es_read_all");
    assert_eq!(read.len(), 6);

    // Failures of several kinds.
    for expected in [1, 2, 3] {
        Append::to("a", &one).expecting(expected).one(client).expect_err("a conflict");
    }
    let known = [event(json!(1)).with_id(Uuid::from_u128(1))];
    Append::to("d", &known).one(client).expect("es_append");
    let other = [event(json!(2)).with_id(Uuid::from_u128(1))];
    Append::to("d", &other).one(client).expect_err("a duplicate id");
    Append::to("", &one).one(client).expect_err("a bad name");
    Enqueue::to("", &one[0]).send(client).expect_err("a bad name");
    let large = event(json!("x".repeat(2_000_000)));
    Enqueue::to("b", &large).send(client).expect_err("too large");
    let poisoned = Enqueue { entity: Some("entity"), ..Enqueue::to("b", &one[0]) };
    assert_eq!(refusal(poisoned.durably().send(client)), BAD_ARGUMENT);
}

#[test]
fn the_numbers_agree_with_what_was_done() {
    let cluster = Cluster::with_queue("metrics", &[]);
    let mut client = cluster.store();
    let mut other = cluster.store();
    do_everything(&mut client);

    let content = all_events(&mut client).expect("the content");
    assert_eq!(content.len(), 9 + 12 + 1);
    assert_eq!(total(&mut client, "appended"), 22.0);
    assert_eq!(total(&mut client, "enqueued"), 13.0);
    assert_eq!(total(&mut client, "drained"), 12.0);
    assert_eq!(total(&mut client, "rejected"), 1.0);
    assert_eq!(total(&mut client, "read"), 11.0);
    let expected = [("append", 7.0), ("append_many", 2.0), ("append_batch", 0.0), ("enqueue", 8.0)];
    let more = [("enqueue_batch", 1.0), ("flush", 1.0), ("read", 1.0), ("read_all", 1.0)];
    for (function, number) in expected.into_iter().chain(more) {
        assert_eq!(calls(&mut client, function), number, "calls of {function}");
    }
    let kinds = [
        ("conflict", 3.0),
        ("duplicate_event_id", 1.0),
        ("bad_argument", 2.0),
        ("too_large", 1.0),
        ("queue_full", 0.0),
        ("corrupt", 0.0),
        ("internal", 0.0),
    ];
    for (kind, number) in kinds {
        assert_eq!(errors(&mut client, kind), number, "errors of kind {kind}");
    }
    assert_eq!(metric(&mut client, "allsource_version_conflicts_total", &json!({})), 3.0);
    assert_eq!(metric(&mut client, "allsource_dead_letters", &json!({})), 1.0);
    for partition in 0..32 {
        let labels = json!({"partition": partition.to_string()});
        let counted = metric(&mut client, "allsource_partition_events_appended_total", &labels);
        let there = content.iter().filter(|event| event.partition_id == partition).count();
        assert_eq!(counted, there as f64, "partition {partition}");
    }
    let safe = safe_position(&mut client).expect("es_safe_position");
    assert_eq!(metric(&mut client, "allsource_safe_position", &json!({})), safe as f64);
    assert_eq!(metric(&mut client, "allsource_next_position", &json!({})), safe as f64 + 1.0);
    let letters =
        metric(&mut client, "allsource_queue_dead_letters_total", &json!({"worker": "0"}));
    assert_eq!(letters, 1.0);
    // Failed calls take their time as well.
    for (family, number) in [("append", 9.0), ("enqueue", 9.0), ("read", 2.0)] {
        let name = format!("allsource_{family}_duration_seconds");
        let count = metric(&mut client, &format!("{name}_count"), &json!({}));
        assert_eq!(count, number, "{name}");
        let infinite = metric(&mut client, &format!("{name}_bucket"), &json!({"le": "+Inf"}));
        assert_eq!(infinite, number, "{name}");
        let labels = json!({"operation": family, "percentile": "99.9"});
        let slowest = metric(&mut client, "allsource_latency_percentile_seconds", &labels);
        assert!(slowest > 0.0 && slowest < 60.0, "{family}: {slowest} s");
        assert!(metric(&mut client, &format!("{name}_sum"), &json!({})) > 0.0);
    }

    // The same for every session, and about the only queue.
    assert_eq!(total(&mut other, "drained"), 12.0);
    let stats = worker(&mut client);
    let of_worker = json!({"worker": "0"});
    let number =
        |client: &mut Client, name: &str| metric(client, &format!("allsource_{name}"), &of_worker);
    assert_eq!(number(&mut client, "worker_up"), 1.0);
    assert_eq!(number(&mut client, "queue_batches_total"), stats.batches as f64);
    assert_eq!(number(&mut client, "queue_largest_batch_events"), stats.largest_batch as f64);
    assert_eq!(number(&mut client, "queue_capacity_bytes"), stats.capacity_bytes as f64);
    assert_eq!(number(&mut client, "queue_depth_events"), 0.0);
    assert_eq!((stats.enqueued, stats.drained, stats.dead_letters), (13, 12, 1));
    assert_eq!((stats.depth_events, stats.depth_bytes, stats.discarded), (0, 0, 0));
    assert_eq!((stats.rejected, stats.full_waits), (0, 0));
    assert!(stats.batches > 0 && stats.largest_batch <= 12, "{stats:?}");
}

#[test]
fn what_waits_is_told() {
    let cluster = Cluster::with_queue("metrics-waits", &["allsource.queue_size=1"]);
    let mut client = cluster.store();
    let pid = worker(&mut client).pid.expect("a worker");
    cluster.signal("STOP", pid);
    let large = event(json!("x".repeat(200_000)));
    client.batch_execute("SET allsource.enqueue_timeout = 0").expect("SET");
    let mut accepted = 0.0;
    while Enqueue::to("s", &large).send(&mut client).is_ok() {
        accepted += 1.0;
    }
    assert_eq!(refusal(flush_within(&mut client, "100ms")), CANCELLED);
    assert_eq!(errors(&mut client, "queue_full"), 1.0);
    assert_eq!(errors(&mut client, "timeout"), 1.0);
    assert_eq!(total(&mut client, "enqueued"), accepted);
    assert_eq!(total(&mut client, "rejected"), 1.0);
    let of_worker = json!({"worker": "0"});
    let number =
        |client: &mut Client, name: &str| metric(client, &format!("allsource_{name}"), &of_worker);
    assert_eq!(number(&mut client, "queue_depth_events"), accepted);
    assert!(number(&mut client, "queue_depth_bytes") > accepted * 200_000.0);
    assert!(number(&mut client, "queue_lag_seconds") > 0.0);
    let lag = number(&mut client, "queue_lag_seconds");
    patience::until_true("the lag grows", || number(&mut client, "queue_lag_seconds") > lag);
    cluster.signal("CONT", pid);
    flush(&mut client).expect("es_flush");
    for name in ["queue_depth_events", "queue_depth_bytes", "queue_lag_seconds"] {
        assert_eq!(number(&mut client, name), 0.0, "{name}");
    }
    assert_eq!(total(&mut client, "drained"), accepted);
    let labels = json!({"kind": "drained", "window": "10s"});
    patience::until_true("the rate shows in a whole second", || {
        metric(&mut client, "allsource_events_per_second", &labels) > 0.0
    });
}

#[test]
fn prometheus_can_read_it() {
    let cluster = Cluster::with_queue("metrics-prometheus", &["allsource.workers=2"]);
    let mut client = cluster.store();
    // On an idle server too, where there is nothing to be measured yet.
    for round in 0..2 {
        if round == 1 {
            do_everything(&mut client);
        }
        let query = "SELECT allsource.es_metrics_prometheus()";
        let text: String = client.query_one(query, &[]).expect(query).get(0);
        let query = "SELECT name, value FROM allsource.metrics";
        let rows = client.query(query, &[]).expect(query);
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(samples.len(), rows.len(), "samples in the text and rows of the view");
        for (sample, row) in samples.iter().zip(&rows) {
            let name: &str = row.get(0);
            let ends = sample.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
            assert!(ends, "{sample} where {name} should be");
        }
        let families = parse(&text);
        let declared = text.lines().filter(|line| line.starts_with("# TYPE")).count();
        assert_eq!(families, declared, "families that the parser has found: {text}");
    }
}

/// Gives the text to the parser of prometheus_client; how many families it has found.
fn parse(text: &str) -> usize {
    let mut parser = Command::new("bash")
        .arg(project_dir().join("scripts/prometheus.sh"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("scripts/prometheus.sh");
    parser.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("the text");
    let output = parser.wait_with_output().expect("its answer");
    assert!(output.status.success(), "the parser refuses {text}");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number")
}

#[test]
fn health_says_what_is_not_well() {
    let cluster = Cluster::with_queue("metrics-health", &[]);
    let mut client = cluster.store();
    let assert_well = |client: &mut Client| {
        let checks = health(client).expect("es_health");
        let names: Vec<&str> = checks.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, CHECKS);
        assert!(checks.iter().all(|(_, ok, detail)| *ok && !detail.is_empty()), "{checks:#?}");
    };
    assert_well(&mut client);

    pause(&mut client).expect("es_worker_pause");
    assert!(!is_well(&mut client, "workers"));
    Enqueue::to("s", &event(json!(1))).send(&mut client).expect("es_enqueue");
    assert!(is_well(&mut client, "drain lag"), "an event has just been enqueued");
    patience::until_true("events have waited for too long", || !is_well(&mut client, "drain lag"));
    resume(&mut client).expect("es_worker_resume");
    flush(&mut client).expect("es_flush");
    worker_when(&mut client, "the worker is idle", |stats| stats.state == "idle");
    assert_well(&mut client);

    let poisoned = event(json!(2));
    let enqueue = Enqueue { entity: Some("entity"), ..Enqueue::to("s", &poisoned) };
    enqueue.send(&mut client).expect("es_enqueue");
    flush(&mut client).expect("es_flush");
    assert!(!is_well(&mut client, "dead letters"));
    client.execute("SELECT allsource.es_dead_letter_discard(1)", &[]).expect("to discard it");
    assert_well(&mut client);
    client.batch_execute("SET ROLE pg_monitor").expect("SET ROLE");
    assert_eq!(refusal(health(&mut client)), NOT_ALLOWED);
}
