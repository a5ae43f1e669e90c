//! What es_enqueue, es_enqueue_batch and es_flush promise where nothing breaks, and what they say
//! where they cannot do what is asked.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use allsource_e2e::bulk::{
    dead_letters, flush, flush_within, health, is_well, pause, queue_stats, resume, worker,
    worker_when, workers_up,
};
use allsource_e2e::calls::{all_events, assert_verified};
use allsource_e2e::cluster::{SERVED, STORE, Stop};
use allsource_e2e::failure::{CANCELLED, NOT_IN_STATE, describe, is_disconnect, sqlstate};
use allsource_e2e::writer::shared_streams;
use allsource_e2e::{
    Append, Cluster, Crew, Enqueue, EnqueueBatch, Event, Ledger, NewEvent, Producer, ReadStream,
    Seed, Seen, Tail, Writer, patience, sizes,
};
use postgres::{Client, Error};
use serde_json::{Value, json};
use uuid::Uuid;

const OTHER: &str = "other";
const FLUSHES: i64 = 60;
const STREAMS: i64 = 100;
const EVENTS_OF_STREAM: i64 = 7;
const CROWD: u64 = 5;
const STEPS_OF_WRITER: u64 = 150;
const PAGE: i64 = 1_000;
/// Waits for the worker end soon, so that the test does not take long.
const IMPATIENT: &str = "SET allsource.enqueue_timeout = '200ms'";

fn event(payload: Value) -> NewEvent {
    NewEvent::new("t", payload)
}

/// Fails the test unless the call was refused with this SQLSTATE, and says all of this.
fn assert_refused<T: Debug>(call: Result<T, Error>, state: &str, says: &[&str]) {
    let error = call.expect_err("a refusal");
    let told = describe(&error);
    assert_eq!(sqlstate(&error), state, "{told}");
    assert!(says.iter().all(|part| told.contains(part)), "{told} does not say {says:?}");
}

#[test]
fn an_event_arrives_as_it_was_given() {
    let cluster = Cluster::with_queue("enqueue", &[]);
    let mut client = cluster.store();
    let full = NewEvent {
        event_type: "тип".to_owned(),
        payload: json!({"text": "ö\"\\", "list": [1, null, 2.5], "deep": {"a": {"b": []}}}),
        metadata: Some(json!({"trace": "x"})),
        id: Some(Uuid::from_u128(7)),
    };
    let large = event(json!("x".repeat(500_000)));
    let stream = "n".repeat(255);
    let call = Enqueue { tenant: "tenant", entity: Some("entity"), ..Enqueue::to(&stream, &full) };
    call.send(&mut client).expect("es_enqueue");
    Enqueue::to(&stream, &event(Value::Null)).send(&mut client).expect("es_enqueue");
    Enqueue::to(&stream, &large).send(&mut client).expect("es_enqueue");
    let items: Vec<(String, NewEvent)> =
        (0..9).map(|n| (format!("s{}", n % 2), event(json!(n)))).collect();
    let batch = EnqueueBatch { tenant: "tenant", ..EnqueueBatch::of(&items) };
    assert_eq!(batch.send(&mut client).expect("es_enqueue_batch"), 9);
    // Nobody is asked about the transaction, as for nextval.
    let mut transaction = client.transaction().expect("BEGIN");
    Enqueue::to("rolled back", &event(json!(1))).send(&mut transaction).expect("es_enqueue");
    transaction.rollback().expect("ROLLBACK");
    flush(&mut client).expect("es_flush");
    assert_eq!(flush(&mut client).expect("es_flush"), 0);

    let content = all_events(&mut client).expect("the content");
    let find = |tenant: &str, stream: &str| {
        let of_stream = |e: &&Event| e.tenant_id == tenant && e.stream_id == stream;
        content.iter().filter(of_stream).collect::<Vec<_>>()
    };
    let first = find("tenant", &stream);
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].entity_id.as_deref(), Some("entity"));
    assert_eq!(of(first[0]), full);
    let others: Vec<NewEvent> = find("default", &stream).into_iter().map(of).collect();
    assert_eq!(others, [event(Value::Null), large]);
    for number in 0..2 {
        let payloads: Vec<_> =
            find("tenant", &format!("s{number}")).into_iter().map(|e| e.payload.clone()).collect();
        assert_eq!(payloads, (number..9).step_by(2).map(|n| json!(n)).collect::<Vec<_>>());
    }
    assert_eq!(find("default", "rolled back").len(), 1);
    assert_eq!(content.len(), 13);
    assert_eq!(dead_letters(&mut client).expect("es_dead_letters"), []);
    assert_verified(&mut client);
}

/// What was given, of an event that is there.
fn of(event: &Event) -> NewEvent {
    NewEvent {
        event_type: event.event_type.clone(),
        payload: event.payload.clone(),
        metadata: event.metadata.clone(),
        id: event.event_id,
    }
}

/// What anybody has enqueued before is there, for everybody, the moment es_flush returns; and so is
/// what was enqueued to be durable.
#[test]
fn a_flush_waits_for_everything() {
    let cluster = Cluster::with_queue("enqueue-flush", &["allsource.workers=3"]);
    let (mut producer, mut flusher, mut reader) =
        (cluster.store(), cluster.store(), cluster.store());
    let query = "SELECT count(*) FROM allsource.events";
    let mut count = || reader.query_one(query, &[]).expect(query).get::<_, i64>(0);
    let mut enqueued = 0;
    for round in 0..FLUSHES {
        let items: Vec<(String, NewEvent)> =
            (0..round % 7 + 1).map(|n| (format!("s{}", n * round), event(json!(n)))).collect();
        enqueued += items.len() as i64;
        let batch = EnqueueBatch::of(&items);
        if round % 3 == 0 {
            batch.durably().send(&mut producer).expect("es_enqueue_batch");
        } else {
            batch.send(&mut producer).expect("es_enqueue_batch");
            let waited_for = flush(&mut flusher).expect("es_flush");
            assert!(waited_for <= items.len() as i64, "{waited_for} of {}", items.len());
        }
        assert_eq!(count(), enqueued, "events there in round {round}");
    }
    assert_verified(&mut flusher);
}

/// Each partition has a worker; none of them writes for another one, and es_flush knows them all.
#[test]
fn partitions_are_shared_out_to_the_workers() {
    let cluster = Cluster::with_queue("enqueue-workers", &["allsource.workers=3"]);
    let mut client = cluster.store();
    let items: Vec<(String, NewEvent)> = (0..EVENTS_OF_STREAM)
        .flat_map(|n| (0..STREAMS).map(move |s| (format!("s{s}"), event(json!(n)))))
        .collect();
    EnqueueBatch::of(&items).send(&mut client).expect("es_enqueue_batch");
    flush(&mut client).expect("es_flush");
    let query = "SELECT partition_id % 3, count(*) FROM allsource.events GROUP BY 1 ORDER BY 1";
    let shares: Vec<i64> =
        client.query(query, &[]).expect(query).iter().map(|row| row.get(1)).collect();
    let stats = queue_stats(&mut client).expect("queue_stats");
    let drained: Vec<i64> = stats.iter().map(|row| row.drained).collect();
    assert_eq!(drained, shares);
    for stream in 0..STREAMS {
        let events = ReadStream::all(&format!("s{stream}")).read(&mut client).expect("es_read");
        let payloads: Vec<_> = events.into_iter().map(|event| event.payload).collect();
        assert_eq!(payloads, (0..EVENTS_OF_STREAM).map(|n| json!(n)).collect::<Vec<_>>());
    }
    assert_verified(&mut client);
}

#[test]
fn a_wait_that_cannot_end_says_why() {
    let cluster = Cluster::with_queue("enqueue-waits", &[]);
    let mut client = cluster.store();
    client.batch_execute(IMPATIENT).expect("SET");
    let new = event(json!(1));
    let enqueue = Enqueue::to("s", &new);

    // The worker is there and does nothing.
    let pid = worker(&mut client).pid.expect("a worker");
    cluster.signal("STOP", pid);
    enqueue.send(&mut client).expect("es_enqueue");
    let told = ["1 events are still on their way"];
    assert_refused(flush_within(&mut client, "200ms"), CANCELLED, &told);
    client.batch_execute("SET statement_timeout = '200ms'").expect("SET");
    assert_refused(flush(&mut client), CANCELLED, &["statement timeout"]);
    assert_refused(enqueue.durably().send(&mut client), CANCELLED, &["statement timeout"]);
    client.batch_execute("RESET statement_timeout").expect("RESET");
    cluster.signal("CONT", pid);
    flush(&mut client).expect("es_flush");

    // It rests.
    pause(&mut client).expect("es_worker_pause");
    assert!(!is_well(&mut client, "workers"));
    assert_eq!(flush(&mut client).expect("nothing to wait for"), 0);
    enqueue.send(&mut client).expect("es_enqueue");
    let told = ["the workers are paused", "es_worker_resume"];
    assert_refused(flush(&mut client), NOT_IN_STATE, &told);
    assert_refused(enqueue.durably().send(&mut client), NOT_IN_STATE, &told);
    resume(&mut client).expect("es_worker_resume");
    flush(&mut client).expect("es_flush");
    assert!(is_well(&mut client, "workers"));

    // There is none, and nobody to start one.
    let query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'allsource launcher'";
    let launcher = client.query_one(query, &[]).expect(query).get(0);
    cluster.signal("STOP", launcher);
    cluster.signal("TERM", worker(&mut client).pid.expect("a worker"));
    worker_when(&mut client, "the worker has ended", |stats| stats.pid.is_none());
    assert_eq!(worker(&mut client).state, "stopped");
    assert!(!is_well(&mut client, "workers"));
    enqueue.send(&mut client).expect("es_enqueue");
    let told = ["no worker is running", "stays in the queue"];
    assert_refused(flush_within(&mut client, "200ms"), NOT_IN_STATE, &told);
    assert_refused(enqueue.durably().send(&mut client), NOT_IN_STATE, &told);
    cluster.signal("CONT", launcher);
    workers_up(&mut client);
    flush(&mut client).expect("es_flush");

    assert_refused_while_locking(&mut client);
    // Whoever was refused while it waited had enqueued its event.
    let content = ReadStream::all("s").read(&mut client).expect("es_read");
    assert_eq!(content.len(), 6);
    assert_verified(&mut client);
}

/// A transaction that has locked streams cannot wait for the workers, who may need them.
fn assert_refused_while_locking(client: &mut Client) {
    let new = [event(json!(1))];
    let known = [event(json!(1)).with_id(Uuid::from_u128(1))];
    Append::to("known", &known).one(client).expect("es_append");
    let append = |client: &mut Client| {
        Append::to("new", &new).one(client).expect("es_append");
    };
    let create = |client: &mut Client| {
        let query = "SELECT * FROM allsource.es_create_stream('created')";
        client.execute(query, &[]).expect("es_create_stream");
    };
    let locks: [&dyn Fn(&mut Client); 2] = [&append, &create];
    for (index, lock) in locks.into_iter().enumerate() {
        client.batch_execute("BEGIN").expect("BEGIN");
        lock(client);
        assert_refused(flush(client), NOT_IN_STATE, &["in a transaction that has", "Commit first"]);
        client.batch_execute("ROLLBACK; BEGIN").expect("BEGIN");
        lock(client);
        let durable = Enqueue::to("created", &new[0]).durably().send(client);
        assert_refused(durable, NOT_IN_STATE, &["in a transaction that has", "Commit first"]);
        client.batch_execute("ROLLBACK").expect("ROLLBACK");
        assert_eq!(flush(client).expect("es_flush in another transaction"), 0, "case {index}");
    }
    // A retry that found its event keeps nobody waiting, or says that it does.
    client.batch_execute("BEGIN").expect("BEGIN");
    Append::to("known", &known).one(client).expect("es_append");
    match Enqueue::to("known", &new[0]).durably().send(client) {
        Ok(()) => client.batch_execute("COMMIT").expect("COMMIT"),
        Err(error) => {
            assert_eq!(sqlstate(&error), NOT_IN_STATE, "{}", describe(&error));
            client.batch_execute("ROLLBACK").expect("ROLLBACK");
        }
    }
}

#[test]
fn another_database_is_refused_and_told_which_one_is_served() {
    let cluster = Cluster::with_queue("enqueue-other", &[]);
    cluster.create_store(OTHER);
    let mut client = cluster.connect(OTHER);
    let new = event(json!(1));
    let told = ["\"store\"", "allsource.database"];
    assert_refused(Enqueue::to("s", &new).send(&mut client), NOT_IN_STATE, &told);
    let items = [("s".to_owned(), new.clone())];
    assert_refused(EnqueueBatch::of(&items).send(&mut client), NOT_IN_STATE, &told);
    assert_refused(flush(&mut client), NOT_IN_STATE, &told);
    assert_refused(pause(&mut client), NOT_IN_STATE, &told);
    assert_refused(resume(&mut client), NOT_IN_STATE, &told);
    Append::to("s", std::slice::from_ref(&new)).one(&mut client).expect("es_append");
    assert_eq!(all_events(&mut client).expect("the content").len(), 1);
    health(&mut client).expect("es_health");

    let mut served = cluster.store();
    Enqueue::to("s", &new).durably().send(&mut served).expect("es_enqueue");
    assert_eq!(all_events(&mut served).expect("the content").len(), 1);
    assert_verified(&mut client);
}

#[test]
fn a_queue_that_is_switched_off_is_refused() {
    let cluster = Cluster::with_store_and("enqueue-off", &[SERVED, "allsource.workers=0"]);
    let mut client = cluster.store();
    let new = event(json!(1));
    let told = ["without workers", "Set allsource.workers"];
    assert_refused(Enqueue::to("s", &new).send(&mut client), NOT_IN_STATE, &told);
    assert_refused(flush(&mut client), NOT_IN_STATE, &told);
    assert_refused(pause(&mut client), NOT_IN_STATE, &told);
    assert_refused(resume(&mut client), NOT_IN_STATE, &told);
    assert_eq!(queue_stats(&mut client).expect("queue_stats"), []);
    let checks = health(&mut client).expect("es_health");
    assert!(checks.iter().all(|(_, ok, _)| *ok), "{checks:#?}");
    Append::to("s", std::slice::from_ref(&new)).one(&mut client).expect("es_append");
    let query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'allsource%'";
    assert_eq!(client.query_one(query, &[]).expect(query).get::<_, i64>(0), 0);
}

/// Synchronous appends and drained events, to the same streams, and a reader who follows.
#[test]
fn appended_and_drained_events_mix() {
    let cluster = Cluster::with_queue("enqueue-mix", &["allsource.workers=2"]);
    let (ledger, seen, shared, seed) =
        (Ledger::default(), Seen::default(), shared_streams(6), Seed::announce());
    let crew = Crew {
        cluster: &cluster,
        ledger: &ledger,
        shared: &shared,
        seed,
        number: 1,
        producers: CROWD,
    };
    let done = AtomicBool::new(false);
    let tail = crew.work_while(
        |_| false,
        || {
            thread::scope(|scope| {
                let (mut client, done) = (cluster.store(), &done);
                let reader = scope.spawn(move || {
                    let mut tail = Tail::after(0);
                    while !done.load(Ordering::SeqCst) {
                        tail.poll(&mut client, PAGE).expect("es_read_all");
                    }
                    tail
                });
                let writers: Vec<_> = (0..CROWD)
                    .map(|number| {
                        let mut client = cluster.store();
                        let mut writer = Writer {
                            ledger: &ledger,
                            seen: &seen,
                            shared: &shared,
                            own: format!("own-{number}"),
                            rng: seed.rng(number),
                            pause_max: Duration::from_millis(2),
                        };
                        scope.spawn(move || {
                            for _ in 0..STEPS_OF_WRITER * sizes::factor() {
                                let step = writer.step(&mut client);
                                step.unwrap_or_else(|error| panic!("{}", describe(&error)));
                            }
                        })
                    })
                    .collect();
                let ends: Vec<_> =
                    writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
                done.store(true, Ordering::SeqCst);
                assert!(ends.iter().all(Result::is_ok), "a writer has failed");
                reader.join().expect("the reader")
            })
        },
    );
    let mut client = cluster.store();
    let content = all_events(&mut client).expect("the content");
    ledger.assert_holds(&content);
    let drained: i64 =
        queue_stats(&mut client).expect("queue_stats").iter().map(|row| row.drained).sum();
    println!("{} events, {drained} of them drained", content.len());
    assert!(drained > 0 && drained < content.len() as i64);
    let mut tail = tail;
    while tail.poll(&mut client, PAGE).expect("es_read_all") > 0 {}
    tail.assert_saw_exactly(&content);
    assert_verified(&mut client);
}

/// A server that is stopped in the ordinary way has nothing in its queue when it is gone.
#[test]
fn an_ordinary_stop_loses_nothing() {
    let cluster = Cluster::with_queue("enqueue-stop", &["allsource.flush_interval=1s"]);
    let (ledger, shared, seed) = (Ledger::default(), shared_streams(20), Seed::announce());
    for round in 0..3 {
        let accepted = thread::scope(|scope| {
            let producers: Vec<_> = (0..CROWD)
                .map(|number| {
                    let mut client = cluster.store();
                    let (ledger, shared) = (&ledger, &shared);
                    let dice = seed.rng(round * 100 + number);
                    scope.spawn(move || {
                        let name = format!("producer-{round}-{number}");
                        let mut producer = Producer::new(ledger, shared, &name, dice);
                        loop {
                            if let Err(error) = producer.one(&mut client, false) {
                                assert!(is_disconnect(&error), "{}", describe(&error));
                                return producer.accepted;
                            }
                        }
                    })
                })
                .collect();
            let mut client = cluster.store();
            let before = worker(&mut client).enqueued;
            worker_when(&mut client, "some are enqueued", |row| row.enqueued > before + 300);
            cluster.stop(Stop::Fast);
            producers.into_iter().flat_map(|p| p.join().expect("a producer")).collect::<Vec<_>>()
        });
        cluster.resume();
        accepted.into_iter().for_each(|ticket| ledger.acknowledge(ticket));
        let mut client = patience::until("the store", || cluster.try_connect(STORE).ok());
        ledger.assert_holds(&all_events(&mut client).expect("the content"));
        assert_verified(&mut client);
    }
}
