//! Streams and partitions that a worker cannot write: it goes round them. Events of others are written
//! and durable meanwhile, nobody waits for what the worker has locked, and those of the held ones
//! follow in their order, also when a worker or the server ends in between.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use allsource_e2e::bulk::{
    dead_letters, flush, flush_within, health, is_well, pause, queue_stats, resume, worker,
    worker_when, workers_up,
};
use allsource_e2e::calls::{all_events, assert_verified, names_in};
use allsource_e2e::cluster::{ONE_WORKER, SERVED, STORE, Stop};
use allsource_e2e::failure::{CANCELLED, NOT_IN_STATE, describe, sqlstate};
use allsource_e2e::writer::shared_streams;
use allsource_e2e::{
    Append, Cluster, Crew, Enqueue, EnqueueBatch, Ledger, NewEvent, ReadStream, Seed, patience,
    sizes,
};
use postgres::Client;
use rand::RngExt;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

const HELD: &str = "held";
const EVENTS: usize = 40;
const CROWD: u64 = 6;
const SHARED_STREAMS: usize = 12;
const HOLDS: usize = 12;
const HOLD_MS_MAX: u64 = 200;
const MANY_STREAMS: usize = 400;
const MANY_EVENTS: usize = 200;
const MANY_ROUNDS: usize = 3;
const LARGE_EVENTS: usize = 300;
/// An append that waits for longer than this waits for somebody who waits.
const IMPATIENT: &str = "SET lock_timeout = '2s'";

fn event(payload: Value) -> NewEvent {
    NewEvent::new("t", payload)
}

fn payloads(client: &mut Client, stream: &str) -> Vec<Value> {
    let events = ReadStream::all(stream).read(client).expect("es_read");
    events.into_iter().map(|event| event.payload).collect()
}

fn numbers(range: std::ops::Range<usize>) -> Vec<Value> {
    range.map(|number| json!(number)).collect()
}

fn enqueue(client: &mut Client, stream: &str, range: std::ops::Range<usize>) {
    for number in range {
        Enqueue::to(stream, &event(json!(number))).send(client).expect("es_enqueue");
    }
}

fn partition(client: &mut Client, stream: &str) -> i32 {
    let query = "SELECT allsource.es_partition($1)";
    client.query_one(query, &[&stream]).expect(query).get(0)
}

/// A stream of another partition.
fn elsewhere(client: &mut Client, stream: &str) -> String {
    let own = partition(client, stream);
    let mut names = (0..).map(|number| format!("free-{number}"));
    names.find(|name| partition(client, name) != own).expect("a name")
}

/// The check of `es_health`.
fn waiting(client: &mut Client) -> String {
    let checks = health(client).expect("es_health");
    checks.into_iter().find(|(name, ..)| name == "waiting events").expect("the check").2
}

/// Waits until this many events wait.
fn wait_for_waiting(client: &mut Client, events: usize) {
    let events = i64::try_from(events).expect("a number");
    worker_when(client, "they wait", |stats| stats.waiting_events == events);
}

/// All is in its stream, and nothing waits.
fn assert_settled(client: &mut Client) {
    flush(client).expect("es_flush");
    let stats = worker(client);
    assert_eq!((stats.waiting_events, stats.waiting_streams, stats.held_up_by), (0, 0, None));
    assert_eq!(dead_letters(client).expect("es_dead_letters"), []);
    assert!(is_well(client, "waiting events"));
    assert_verified(client);
}

#[test]
fn a_held_stream_is_gone_round_and_its_events_follow_in_order() {
    let cluster = Cluster::with_queue("waiting-held", &[]);
    let (mut client, mut holder) = (cluster.store(), cluster.store());
    Append::to(HELD, &[event(json!("first"))]).one(&mut client).expect("es_append");
    let pid: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);
    holder.batch_execute("BEGIN").expect("BEGIN");
    Append::to(HELD, &[event(json!("held"))]).one(&mut holder).expect("es_append");
    client.batch_execute(IMPATIENT).expect("SET");
    for number in 0..EVENTS {
        enqueue(&mut client, HELD, number..number + 1);
        Enqueue::to("free", &event(json!(number))).durably().send(&mut client).expect("durable");
        // The worker has this one's head locked only as long as it writes.
        Append::to("free", &[event(json!("a"))]).one(&mut client).expect("es_append");
    }
    wait_for_waiting(&mut client, EVENTS);
    assert_eq!(payloads(&mut client, "free").len(), 2 * EVENTS);
    let reason = waiting(&mut client);
    let expected =
        [format!("{EVENTS} events of 1 streams"), format!("\"{HELD}\""), pid.to_string()];
    assert!(expected.iter().all(|part| reason.contains(part)), "{reason}: {expected:?}");
    let error = flush_within(&mut client, "200ms").expect_err("they are not in their stream");
    assert_eq!(sqlstate(&error), CANCELLED);
    assert!(describe(&error).contains(HELD), "{}", describe(&error));

    thread::scope(|scope| {
        let durable = scope.spawn(|| {
            let last = event(json!(EVENTS));
            let mut client = cluster.store();
            Enqueue::to(HELD, &last).durably().send(&mut client).expect("durable");
            payloads(&mut client, HELD)
        });
        wait_for_waiting(&mut client, EVENTS + 1);
        holder.batch_execute("COMMIT").expect("COMMIT");
        let seen = durable.join().expect("the waiting session");
        let before = [json!("first"), json!("held")];
        assert_eq!(seen, [&before[..], &numbers(0..EVENTS + 1)].concat());
    });
    assert_settled(&mut client);
}

#[test]
fn a_stream_that_is_being_made_is_gone_round() {
    let cluster = Cluster::with_queue("waiting-made", &[]);
    let (mut client, mut holder) = (cluster.store(), cluster.store());
    for (stream, end) in [("committed", "COMMIT"), ("rolled back", "ROLLBACK")] {
        holder.batch_execute("BEGIN").expect("BEGIN");
        Append::to(stream, &[event(json!("made"))]).one(&mut holder).expect("es_append");
        enqueue(&mut client, stream, 0..EVENTS);
        Enqueue::to("free", &event(json!(0))).durably().send(&mut client).expect("durable");
        wait_for_waiting(&mut client, EVENTS);
        holder.batch_execute(end).expect(end);
        assert_settled(&mut client);
        let made = if end == "COMMIT" { vec![json!("made")] } else { Vec::new() };
        assert_eq!(payloads(&mut client, stream), [made, numbers(0..EVENTS)].concat());
    }
}

#[test]
fn a_locked_leaf_holds_up_its_partition_only() {
    let cluster = Cluster::with_queue("waiting-leaf", &[]);
    let (mut client, mut holder) = (cluster.store(), cluster.store());
    let free = elsewhere(&mut client, HELD);
    let number = partition(&mut client, HELD);
    for table in ["event_streams", "event_log"] {
        let leaf = format!("{table}_p{number:02}");
        let lock = format!("BEGIN; LOCK TABLE allsource.{leaf} IN ACCESS EXCLUSIVE MODE");
        holder.batch_execute(&lock).expect("LOCK TABLE");
        enqueue(&mut client, HELD, 0..EVENTS);
        Enqueue::to(&free, &event(json!(0))).durably().send(&mut client).expect("durable");
        wait_for_waiting(&mut client, EVENTS);
        assert!(waiting(&mut client).contains(&leaf), "{}", waiting(&mut client));
        holder.batch_execute("COMMIT").expect("COMMIT");
        assert_settled(&mut client);
    }
    assert_eq!(payloads(&mut client, HELD), [numbers(0..EVENTS), numbers(0..EVENTS)].concat());
}

/// Streams are held for a while, at random, and workers are ended, while events for all of them come
/// in and sessions wait for theirs.
#[test]
fn streams_that_are_held_at_random_get_each_event_once_and_in_order() {
    let (seed, ledger) = (Seed::announce(), Ledger::default());
    let shared = shared_streams(SHARED_STREAMS);
    let cluster = Cluster::with_queue("waiting-random", &["allsource.workers=2"]);
    let crew = Crew {
        cluster: &cluster,
        ledger: &ledger,
        shared: &shared,
        seed,
        number: 0,
        producers: CROWD,
    };
    let (mut client, mut holder) = (cluster.store(), cluster.store());
    let mut rng = seed.rng(1_000);
    let mut most = 0;
    crew.work_while(
        |_| false,
        || {
            for round in 0..HOLDS * usize::try_from(sizes::factor()).expect("a factor") {
                let stream = shared.choose(&mut rng).expect("a stream");
                holder.batch_execute("BEGIN").expect("BEGIN");
                let lock = "SELECT 1 FROM allsource.event_streams WHERE stream_id = $1 FOR UPDATE";
                holder.execute(lock, &[stream]).expect(lock);
                thread::sleep(Duration::from_millis(rng.random_range(0..HOLD_MS_MAX)));
                let stats = queue_stats(&mut client).expect("queue_stats");
                most = most.max(stats.iter().map(|row| row.waiting_events).sum());
                if round % 3 == 0 {
                    let pid = *workers_up(&mut client).choose(&mut rng).expect("a worker");
                    client.execute("SELECT pg_terminate_backend($1)", &[&pid]).expect("to end it");
                }
                holder.batch_execute("COMMIT").expect("COMMIT");
            }
        },
    );
    assert!(most > 0, "nothing has waited");
    assert_eq!(ledger.unsettled(), 0, "events that nobody knows to be durable");
    flush(&mut client).expect("es_flush");
    ledger.assert_holds(&all_events(&mut client).expect("the content"));
    assert_verified(&mut client);
}

#[test]
fn events_that_wait_survive_a_crash() {
    let cluster = Cluster::with_queue("waiting-crash", &[]);
    let (mut client, mut holder) = (cluster.store(), cluster.store());
    enqueue(&mut client, HELD, 0..EVENTS);
    flush(&mut client).expect("es_flush");
    holder.batch_execute("BEGIN").expect("BEGIN");
    Append::to(HELD, &[event(json!("lost"))]).one(&mut holder).expect("es_append");
    enqueue(&mut client, HELD, EVENTS..2 * EVENTS);
    wait_for_waiting(&mut client, EVENTS);
    // The end of a worker changes nothing.
    let pid = worker(&mut client).pid.expect("a worker");
    client.execute("SELECT pg_terminate_backend($1)", &[&pid]).expect("to end it");
    worker_when(&mut client, "another one", |stats| stats.pid.is_some_and(|now| now != pid));
    enqueue(&mut client, HELD, 2 * EVENTS..3 * EVENTS);
    wait_for_waiting(&mut client, 2 * EVENTS);
    assert_eq!(payloads(&mut client, HELD).len(), EVENTS);

    cluster.stop(Stop::Kill);
    // Another number of workers: the partition may be another one's.
    cluster.start_again(&[SERVED, "allsource.workers=3"]);
    let mut client = cluster.connect_when_ready(STORE);
    workers_up(&mut client);
    enqueue(&mut client, HELD, 3 * EVENTS..4 * EVENTS);
    flush(&mut client).expect("es_flush");
    assert_eq!(payloads(&mut client, HELD), numbers(0..4 * EVENTS));
    assert_verified(&mut client);
}

#[test]
fn events_that_wait_are_in_dumps_and_on_standbys() {
    let cluster =
        Cluster::with_queue("waiting-copies", &["wal_level=replica", "max_wal_senders=4"]);
    let (mut client, mut holder) = (cluster.store(), cluster.store());
    let standby = cluster.standby("waiting-standby", &[SERVED, ONE_WORKER]);
    holder.batch_execute("BEGIN").expect("BEGIN");
    Append::to(HELD, &[event(json!("lost"))]).one(&mut holder).expect("es_append");
    enqueue(&mut client, HELD, 0..EVENTS);
    wait_for_waiting(&mut client, EVENTS);
    let mut dump = cluster.tool("pg_dump");
    let dump = cluster.run(dump.arg(STORE), "pg_dump");
    cluster.stop(Stop::Fast);

    let mut replica = standby.store();
    let query = "SELECT count(*) FROM allsource.waiting_events";
    let there: i64 = replica.query_one(query, &[]).expect(query).get(0);
    assert_eq!(usize::try_from(there), Ok(EVENTS), "on the standby");
    replica.execute("SELECT pg_promote(wait => true)", &[]).expect("pg_promote");
    workers_up(&mut replica);
    assert_settled(&mut replica);
    assert_eq!(payloads(&mut replica, HELD), numbers(0..EVENTS));

    // The workers serve the database that it is restored into.
    let other = Cluster::start("waiting-restored", &[SERVED, ONE_WORKER]);
    other.create_database(STORE);
    let file = std::env::temp_dir().join(format!("allsource-waiting-{}.sql", std::process::id()));
    std::fs::write(&file, dump).expect("a file for the dump");
    let mut psql = other.tool("psql");
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", STORE, "-f"]).arg(&file);
    other.run(&mut psql, "psql");
    std::fs::remove_file(&file).expect("to remove it");
    let mut client = other.store();
    // Nobody knows when a restore is complete, so they are left alone, also by a worker that starts.
    let pid = workers_up(&mut client)[0];
    client.execute("SELECT pg_terminate_backend($1)", &[&pid]).expect("to end it");
    worker_when(&mut client, "another one", |stats| stats.pid.is_some_and(|now| now != pid));
    Enqueue::to(HELD, &event(json!("new"))).durably().send(&mut client).expect("durable");
    assert!(waiting(&mut client).contains("es_adopt_waiting_events"), "{}", waiting(&mut client));
    assert!(!is_well(&mut client, "waiting events"));
    assert_eq!(payloads(&mut client, HELD), [json!("new")]);
    let adopted: i64 =
        client.query_one("SELECT allsource.es_adopt_waiting_events()", &[]).expect("adopt").get(0);
    assert_eq!(usize::try_from(adopted), Ok(EVENTS));
    patience::until_true("they are moved", || payloads(&mut client, HELD).len() == EVENTS + 1);
    assert_settled(&mut client);
    assert_eq!(payloads(&mut client, HELD)[1..], numbers(0..EVENTS));
}

/// Streams of a server may have been dumped while events waited, and be restored on the same one.
#[test]
fn events_of_a_restored_dump_are_not_taken_for_those_of_the_worker() {
    let cluster = Cluster::with_queue("waiting-same", &[]);
    let (mut client, mut holder) = (cluster.store(), cluster.store());
    holder.batch_execute("BEGIN").expect("BEGIN");
    Append::to(HELD, &[event(json!("lost"))]).one(&mut holder).expect("es_append");
    enqueue(&mut client, HELD, 0..EVENTS);
    wait_for_waiting(&mut client, EVENTS);
    // As COPY would do it.
    client
        .batch_execute(
            "CREATE TABLE copied AS SELECT * FROM allsource.waiting_events;
             UPDATE copied SET store_id = 1, queue_epoch = 1",
        )
        .expect("a copy");
    holder.batch_execute("ROLLBACK").expect("ROLLBACK");
    assert_settled(&mut client);
    client
        .batch_execute(
            "INSERT INTO allsource.waiting_events OVERRIDING SYSTEM VALUE SELECT * FROM copied",
        )
        .expect("the rows");
    enqueue(&mut client, HELD, EVENTS..2 * EVENTS);
    flush(&mut client).expect("es_flush");
    assert_eq!(payloads(&mut client, HELD), numbers(0..2 * EVENTS));
}

/// Many events of many streams that are held are not looked at again and again at the cost of others.
#[test]
fn many_waiting_events_starve_nobody() {
    let cluster = Cluster::with_queue("waiting-many", &[]);
    let (mut client, mut holder) = (cluster.store(), cluster.store());
    holder.batch_execute("BEGIN").expect("BEGIN");
    let held = format!(
        "SELECT count(*) FROM allsource.es_append_batch(
            (SELECT array_agg('held-' || n) FROM generate_series(1, {MANY_STREAMS}) n),
            array_fill('t'::text, ARRAY[{MANY_STREAMS}]), array_fill('1'::jsonb, ARRAY[{MANY_STREAMS}]))"
    );
    holder.batch_execute(&held).expect("es_append_batch");
    let many = format!(
        "SET allsource.enqueue_timeout = '60s';
         SELECT allsource.es_enqueue_batch(array_agg('held-' || n), array_agg('t'::text), array_agg(to_jsonb(m)))
           FROM generate_series(1, {MANY_EVENTS}) m, generate_series(1, {MANY_STREAMS}) n"
    );
    for _ in 0..MANY_ROUNDS {
        client.batch_execute(&many).expect("es_enqueue_batch");
    }
    let all = i64::try_from(MANY_ROUNDS * MANY_EVENTS * MANY_STREAMS).expect("a number");
    worker_when(&mut client, "they wait", |stats| stats.waiting_events == all);
    // Whoever is starved waits for as long as the streams are held.
    client.batch_execute("SET statement_timeout = '20s'").expect("SET");
    for number in 0..20 {
        let free = format!("free-{number}");
        Enqueue::to(&free, &event(json!(1))).durably().send(&mut client).expect("durable");
    }
    pause(&mut client).expect("es_worker_pause");
    resume(&mut client).expect("es_worker_resume");
    holder.batch_execute("ROLLBACK").expect("ROLLBACK");
    client.batch_execute("RESET statement_timeout").expect("RESET");
    assert_settled(&mut client);
    let events = ReadStream::all("held-7").read(&mut client).expect("es_read");
    let order: Vec<usize> = (0..MANY_ROUNDS).flat_map(|_| 1..=MANY_EVENTS).collect();
    assert_eq!(
        events.iter().map(|event| event.payload.clone()).collect::<Vec<_>>(),
        order.into_iter().map(|number| json!(number)).collect::<Vec<_>>()
    );
}

/// A stream that others append to without pause is locked whenever somebody only looks.
#[test]
fn a_stream_in_constant_use_gets_its_events() {
    let cluster = Cluster::with_queue("waiting-use", &[]);
    let mut client = cluster.store();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..CROWD {
            scope.spawn(|| {
                let mut client = cluster.store();
                while !done.load(Ordering::Relaxed) {
                    Append::to(HELD, &[event(json!("a"))]).one(&mut client).expect("es_append");
                }
            });
        }
        for number in 0..EVENTS {
            let call = event(json!(number));
            Enqueue::to(HELD, &call).durably().send(&mut client).expect("durable");
        }
        done.store(true, Ordering::Relaxed);
    });
    let enqueued: Vec<Value> =
        payloads(&mut client, HELD).into_iter().filter(|payload| *payload != json!("a")).collect();
    assert_eq!(enqueued, numbers(0..EVENTS));
    assert_settled(&mut client);
}

/// Where the tables refuse an event, with an error that they may not raise any more later, only its
/// stream waits.
/// The event is the first of its stream that waits. Whichever stream the worker tries first, it finds out
/// before the others have all been moved; after that nothing would show that the partition can be written.
#[test]
fn an_event_that_an_index_fails_for_is_set_aside_before_nothing_is_left_to_compare_it_with() {
    let cluster = Cluster::with_queue("waiting-first", &[]);
    let mut client = cluster.store();
    let own = partition(&mut client, HELD);
    failing_index(&mut client, &format!("event_log_p{own:02}"), "'bad' = ANY (types)");
    let bad = NewEvent { event_type: "bad".into(), ..event(json!("bad")) };
    let names = names_in(&mut client, own, 16);
    for (round, names) in (1..).zip(names.chunks(2)) {
        let [held, neighbour] = names else { panic!("two names") };
        pause(&mut client).expect("es_worker_pause");
        Enqueue::to(held, &bad).send(&mut client).expect("es_enqueue");
        enqueue(&mut client, held, 0..3);
        enqueue(&mut client, neighbour, 0..3);
        resume(&mut client).expect("es_worker_resume");
        flush(&mut client).expect("es_flush");
        for stream in names {
            assert_eq!(payloads(&mut client, stream), numbers(0..3));
        }
        assert_eq!(dead_letters(&mut client).expect("es_dead_letters").len(), round);
    }
    assert_verified(&mut client);
}

#[test]
fn an_event_that_is_refused_holds_up_its_stream_only() {
    let cluster = Cluster::with_queue("waiting-refused", &[]);
    let mut client = cluster.store();
    let own = partition(&mut client, HELD);
    let names = names_in(&mut client, own, 5);
    let refuses = |condition: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION public.fails(types text[]) RETURNS bool \
             LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN IF {condition} THEN \
             RAISE EXCEPTION 'not for me' USING ERRCODE = '42501'; END IF; RETURN true; END $$; \
             CREATE INDEX IF NOT EXISTS failing ON allsource.event_log_p{own:02} (public.fails(event_types))"
        )
    };
    client.batch_execute(&refuses("'bad' = ANY (types)")).expect("an index");
    let bad = NewEvent { event_type: "bad".into(), ..event(json!(0)) };
    Enqueue::to(HELD, &bad).send(&mut client).expect("es_enqueue");
    enqueue(&mut client, HELD, 1..EVENTS);
    for name in &names {
        enqueue(&mut client, name, 0..EVENTS);
    }
    wait_for_waiting(&mut client, EVENTS);
    for name in &names {
        assert_eq!(payloads(&mut client, name), numbers(0..EVENTS));
        Enqueue::to(name, &event(json!(1))).durably().send(&mut client).expect("durable");
    }
    assert!(waiting(&mut client).contains("not for me"), "{}", waiting(&mut client));
    client.batch_execute(&refuses("false")).expect("an index");
    assert_settled(&mut client);
    assert_eq!(payloads(&mut client, HELD), numbers(0..EVENTS));
}

/// The size of waiting events that counts is that in memory, not that of the compressed rows.
#[test]
fn large_waiting_events_do_not_take_the_server_down() {
    let cluster = Cluster::with_queue("waiting-large", &[]);
    let (mut client, mut holder) = (cluster.store(), cluster.store());
    holder.batch_execute("BEGIN").expect("BEGIN");
    Append::to(HELD, &[event(json!("lost"))]).one(&mut holder).expect("es_append");
    let large =
        "SELECT allsource.es_enqueue('held', 't', '1', metadata => to_jsonb(repeat('x', 900000)))";
    client.batch_execute(large).expect("es_enqueue");
    wait_for_waiting(&mut client, 1);
    let pid = worker(&mut client).pid.expect("a worker");
    cluster.limit_memory(pid, Some(200 << 20));
    client.batch_execute("SET allsource.enqueue_timeout = '60s'").expect("SET");
    for _ in 1..LARGE_EVENTS {
        client.batch_execute(large).expect("es_enqueue");
    }
    wait_for_waiting(&mut client, LARGE_EVENTS);
    holder.batch_execute("ROLLBACK").expect("ROLLBACK");
    assert_settled(&mut client);
    assert_eq!(payloads(&mut client, HELD).len(), LARGE_EVENTS);
    assert_eq!(worker(&mut client).pid, Some(pid), "the same worker");
}

/// An administrator makes an index of the table of waiting events: events that need not go there are
/// written meanwhile.
#[test]
fn a_locked_table_of_waiting_events_holds_up_only_what_has_to_wait() {
    let cluster = Cluster::with_queue("waiting-table", &[]);
    let (mut client, mut holder) = (cluster.store(), cluster.store());
    let mut locker = cluster.store();
    holder.batch_execute("BEGIN").expect("BEGIN");
    Append::to(HELD, &[event(json!("lost"))]).one(&mut holder).expect("es_append");
    enqueue(&mut client, HELD, 0..EVENTS);
    wait_for_waiting(&mut client, EVENTS);
    locker
        .batch_execute("BEGIN; LOCK TABLE allsource.waiting_events IN SHARE MODE")
        .expect("a lock");
    for number in 0..10 {
        let free = format!("free-{number}");
        Enqueue::to(&free, &event(json!(1))).durably().send(&mut client).expect("durable");
    }
    locker.batch_execute("COMMIT").expect("COMMIT");
    holder.batch_execute("ROLLBACK").expect("ROLLBACK");
    assert_settled(&mut client);
    assert_eq!(payloads(&mut client, HELD), numbers(0..EVENTS));
}

/// Who waits for events of an extension that is dropped is not told that they are durable.
#[test]
fn a_dropped_extension_takes_what_waits_with_it_and_waiters_are_told() {
    let cluster = Cluster::with_queue("waiting-drop", &[]);
    let (mut client, mut other) = (cluster.store(), cluster.store());
    let leaf = format!("event_log_p{:02}", partition(&mut client, HELD));
    failing_index(&mut client, &leaf, "true");
    thread::scope(|scope| {
        let durable = scope
            .spawn(|| Enqueue::to(HELD, &event(json!(0))).durably().send(&mut cluster.store()));
        wait_for_waiting(&mut client, 1);
        other
            .batch_execute(
                "BEGIN; DROP EXTENSION allsource CASCADE; CREATE EXTENSION allsource; COMMIT",
            )
            .expect("DROP, CREATE");
        let error = durable.join().expect("the session").expect_err("it was discarded");
        assert_eq!(sqlstate(&error), NOT_IN_STATE, "{}", describe(&error));
    });
    let mut client = cluster.store();
    worker_when(&mut client, "it is counted", |stats| stats.discarded == 1);
    Enqueue::to(HELD, &event(json!(1))).durably().send(&mut client).expect("durable");
    assert_eq!(payloads(&mut client, HELD), [json!(1)]);
    assert_settled(&mut client);
}

/// The extension is another one when the worker has waited for its locks.
#[test]
fn events_of_an_extension_are_not_written_into_the_next_one() {
    let cluster = Cluster::with_queue("waiting-next", &[]);
    let (mut client, mut other) = (cluster.store(), cluster.store());
    Enqueue::to("s", &event(json!(0))).durably().send(&mut client).expect("durable");
    other
        .batch_execute("BEGIN; DROP EXTENSION allsource; CREATE EXTENSION allsource")
        .expect("DROP, CREATE");
    thread::scope(|scope| {
        let durable = scope.spawn(|| {
            let mut client = cluster.store();
            Enqueue::to("s", &event(json!(1))).durably().send(&mut client)
        });
        worker_when(&mut other, "it is enqueued", |stats| stats.depth_events == 1);
        other.batch_execute("COMMIT").expect("COMMIT");
        let error = durable.join().expect("the session").expect_err("it was discarded");
        assert_eq!(sqlstate(&error), NOT_IN_STATE, "{}", describe(&error));
    });
    assert_eq!(all_events(&mut client).expect("the content").len(), 0);
    Enqueue::to("s", &event(json!(2))).durably().send(&mut client).expect("durable");
    assert_eq!(payloads(&mut client, "s"), [json!(2)]);
    assert_verified(&mut client);
}

/// An index on a leaf whose function raises an error where `condition` holds.
fn failing_index(client: &mut Client, leaf: &str, condition: &str) {
    let sql = format!(
        "CREATE OR REPLACE FUNCTION public.fails(types text[]) RETURNS bool \
         LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN \
         IF {condition} THEN RAISE EXCEPTION 'this index fails'; END IF; RETURN true; END $$; \
         CREATE INDEX IF NOT EXISTS failing ON allsource.{leaf} (public.fails(event_types))"
    );
    client.batch_execute(&sql).expect("an index");
}

#[test]
fn an_index_that_fails_holds_up_its_partition_and_nobody_is_blamed() {
    let cluster = Cluster::with_queue("waiting-index", &[]);
    let mut client = cluster.store();
    let leaf = format!("event_log_p{:02}", partition(&mut client, HELD));
    failing_index(&mut client, &leaf, "true");
    let items = |range: std::ops::Range<usize>| -> Vec<(String, NewEvent)> {
        range.map(|number| (format!("s{}", number % 100), event(json!(number)))).collect()
    };
    enqueue(&mut client, HELD, 0..EVENTS);
    for round in 0..10 {
        let batch = items(round * 300..(round + 1) * 300);
        EnqueueBatch::of(&batch).send(&mut client).expect("es_enqueue_batch");
    }
    let free = elsewhere(&mut client, HELD);
    Enqueue::to(&free, &event(json!(0))).durably().send(&mut client).expect("durable");
    let waiting_now = worker(&mut client).waiting_events;
    assert!(waiting_now >= i64::try_from(EVENTS).expect("a number"), "{waiting_now}");
    assert!(waiting(&mut client).contains("this index fails"), "{}", waiting(&mut client));
    failing_index(&mut client, &leaf, "false");
    assert_settled(&mut client);
    assert_eq!(payloads(&mut client, HELD), numbers(0..EVENTS));
    assert_eq!(all_events(&mut client).expect("the content").len(), EVENTS + 3_000 + 1);
}

/// Where others of the partition can be written, an event that cannot is at fault.
#[test]
fn an_event_that_an_index_fails_for_is_set_aside() {
    let cluster = Cluster::with_queue("waiting-event", &[]);
    let mut client = cluster.store();
    let own = partition(&mut client, HELD);
    let leaf = format!("event_log_p{own:02}");
    failing_index(&mut client, &leaf, "'bad' = ANY (types)");
    let neighbour = (0..)
        .map(|number| format!("neighbour-{number}"))
        .find(|name| partition(&mut client, name) == own)
        .expect("a name");
    let bad = NewEvent { event_type: "bad".into(), ..event(json!("bad")) };
    enqueue(&mut client, HELD, 0..EVENTS);
    Enqueue::to(HELD, &bad).send(&mut client).expect("es_enqueue");
    enqueue(&mut client, HELD, EVENTS..2 * EVENTS);
    enqueue(&mut client, &neighbour, 0..EVENTS);
    flush(&mut client).expect("es_flush");
    assert_eq!(payloads(&mut client, HELD), numbers(0..2 * EVENTS));
    assert_eq!(payloads(&mut client, &neighbour), numbers(0..EVENTS));
    let letters = dead_letters(&mut client).expect("es_dead_letters");
    assert_eq!(letters.len(), 1, "{letters:#?}");
    assert_eq!((letters[0].event.clone(), letters[0].sqlstate.as_str()), (bad, "P0001"));
    assert_verified(&mut client);
}
