//! Events that cannot be written: they become dead letters with the reason, all others are written,
//! whoever waits for one is told, and what is kept can be tried again or thrown away.

use std::sync::Barrier;
use std::thread;

use allsource_e2e::bulk::{
    DeadLetter, dead_letters, discard_dead_letter, flush, is_well, pause, resume,
    retry_dead_letter, worker, worker_when,
};
use allsource_e2e::calls::{all_events, assert_verified};
use allsource_e2e::failure::{
    BAD_ARGUMENT, DUPLICATE_ID, NOT_ALLOWED, UNDEFINED, describe, refusal, sqlstate,
};
use allsource_e2e::writer::shared_streams;
use allsource_e2e::{
    Append, Cluster, Crew, Enqueue, EnqueueBatch, Ledger, NewEvent, ReadStream, Seed,
};
use postgres::{Client, Error};
use serde_json::{Value, json};
use uuid::Uuid;

const GOOD_EVENTS: usize = 60;
const CROWD: u64 = 6;
const POISONED: usize = 40;
/// More than the server remembers reasons for.
const MANY_POISONED: usize = 100;
const RETRIERS: usize = 6;

/// The stream that belongs to an entity, so that events for another one cannot be written.
const OWNED: &str = "owned";

fn event(payload: Value) -> NewEvent {
    NewEvent { metadata: Some(json!({"m": 1})), ..NewEvent::new("t", payload) }
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// A store with a stream that belongs to an entity.
fn store(name: &str) -> (Cluster, Client) {
    let cluster = Cluster::with_queue(name, &[]);
    let mut client = cluster.store();
    let first = [event(json!("first"))];
    let append = Append { entity: Some("entity-1"), ..Append::to(OWNED, &first) };
    append.one(&mut client).expect("an append");
    (cluster, client)
}

/// Enqueues an event that cannot be written.
fn enqueue_poisoned(client: &mut Client, event: &NewEvent, durable: bool) -> Result<(), Error> {
    Enqueue { entity: Some("entity-2"), durable, ..Enqueue::to(OWNED, event) }.send(client)
}

fn payloads(client: &mut Client, stream: &str) -> Vec<Value> {
    let events = ReadStream::all(stream).read(client).expect("es_read");
    events.into_iter().map(|event| event.payload).collect()
}

#[test]
fn what_cannot_be_written_does_not_keep_the_rest_from_it() {
    let (_cluster, mut client) = store("dead-batch");
    let known = event(json!("known")).with_id(id(1));
    Append::to("ids", std::slice::from_ref(&known)).one(&mut client).expect("an append");
    let send = |client: &mut Client, stream: &str, event: &NewEvent| {
        Enqueue::to(stream, event).send(client).expect("es_enqueue");
    };

    pause(&mut client).expect("es_worker_pause");
    let new = event(json!("new")).with_id(id(2));
    let mut enqueued = 0;
    for number in 0..GOOD_EVENTS {
        send(&mut client, ["a", "b", OWNED][number % 3], &event(json!(number)));
        let extra = match number {
            // Of another entity than its stream.
            20 => enqueue_poisoned(&mut client, &event(json!("poisoned")), false),
            // Ids that are there already, in the store and in the queue: with the same content,
            // which is a retry, and with another one.
            25 => Enqueue::to("ids", &known).send(&mut client),
            30 => Enqueue::to("ids", &NewEvent { payload: json!("else"), ..known.clone() })
                .send(&mut client),
            35 | 40 => Enqueue::to("ids", &new).send(&mut client),
            45 => Enqueue::to("ids", &NewEvent { event_type: "u".into(), ..new.clone() })
                .send(&mut client),
            _ => continue,
        };
        extra.expect("es_enqueue");
        enqueued += 1;
    }
    enqueued += GOOD_EVENTS as i64;
    let stats = worker(&mut client);
    assert_eq!((stats.state.as_str(), stats.depth_events, stats.drained), ("paused", enqueued, 0));
    resume(&mut client).expect("es_worker_resume");
    // The worker may have begun before the call.
    assert!(flush(&mut client).expect("es_flush") <= enqueued);

    let every_third = |first: usize| (first..GOOD_EVENTS).step_by(3).map(|n| json!(n));
    assert_eq!(payloads(&mut client, "a"), every_third(0).collect::<Vec<_>>());
    assert_eq!(payloads(&mut client, "b"), every_third(1).collect::<Vec<_>>());
    let owned: Vec<Value> = std::iter::once(json!("first")).chain(every_third(2)).collect();
    assert_eq!(payloads(&mut client, OWNED), owned);
    assert_eq!(payloads(&mut client, "ids"), [json!("known"), json!("new")]);
    let letters = dead_letters(&mut client).expect("es_dead_letters");
    assert_letters(&letters, &known, &new);
    let stats = worker(&mut client);
    assert_eq!((stats.dead_letters, stats.drained), (3, enqueued - 3));
    assert_eq!(stats.last_error, None, "a poisoned event is no failure of the worker");
    assert!(!is_well(&mut client, "dead letters"));
    assert_verified(&mut client);
}

fn assert_letters(letters: &[DeadLetter], known: &NewEvent, new: &NewEvent) {
    let [poisoned, other_payload, other_type] = letters else {
        panic!("three dead letters: {letters:#?}")
    };
    assert_eq!(poisoned.sqlstate, BAD_ARGUMENT);
    assert!(poisoned.reason.contains("entity-2"), "{}", poisoned.reason);
    assert_eq!((poisoned.stream.as_str(), poisoned.tenant.as_str()), (OWNED, "default"));
    assert_eq!(poisoned.entity.as_deref(), Some("entity-2"));
    assert_eq!(poisoned.event, event(json!("poisoned")));
    for (letter, id) in [(other_payload, known.id), (other_type, new.id)] {
        assert_eq!((letter.sqlstate.as_str(), letter.stream.as_str()), (DUPLICATE_ID, "ids"));
        assert!(letter.reason.contains(&id.expect("an id").to_string()), "{}", letter.reason);
        assert_eq!(letter.event.id, id);
    }
    assert_eq!(other_payload.event.payload, json!("else"));
    assert_eq!(other_type.event.event_type, "u");
    assert!(letters.is_sorted_by_key(|letter| letter.id));
}

#[test]
fn a_dead_letter_can_be_tried_again_or_thrown_away() {
    let (cluster, mut client) = store("dead-retry");
    for number in 0..3 {
        enqueue_poisoned(&mut client, &event(json!(number)).with_id(id(number)), false)
            .expect("es_enqueue");
    }
    flush(&mut client).expect("es_flush");
    let letters = dead_letters(&mut client).expect("es_dead_letters");
    let ids: Vec<i64> = letters.iter().map(|letter| letter.id).collect();
    let [first, second, third] = ids[..] else { panic!("three dead letters: {letters:#?}") };

    // Still wrong: it stays.
    assert_eq!(refusal(retry_dead_letter(&mut client, first)), BAD_ARGUMENT);
    assert_eq!(dead_letters(&mut client).expect("es_dead_letters"), letters);
    assert_eq!(refusal(retry_dead_letter(&mut client, third + 1)), UNDEFINED);
    assert_eq!(refusal(discard_dead_letter(&mut client, third + 1)), UNDEFINED);
    client.batch_execute("SET ROLE allsource_writer").expect("SET ROLE");
    assert_eq!(refusal(retry_dead_letter(&mut client, first)), NOT_ALLOWED);
    assert_eq!(refusal(discard_dead_letter(&mut client, first)), NOT_ALLOWED);
    client.batch_execute("SET ROLE allsource_admin").expect("SET ROLE");
    discard_dead_letter(&mut client, first).expect("es_dead_letter_discard");
    assert_eq!(refusal(discard_dead_letter(&mut client, first)), UNDEFINED);
    assert_eq!(dead_letters(&mut client).expect("es_dead_letters"), letters[1..]);

    // What was wrong is put right.
    let right =
        "UPDATE allsource.event_streams SET entity_id = 'entity-2' WHERE stream_id = 'owned'";
    cluster.execute(allsource_e2e::STORE, right);
    let mut transaction = client.transaction().expect("BEGIN");
    assert_eq!(retry_dead_letter(&mut transaction, second).expect("es_dead_letter_retry"), 2);
    transaction.rollback().expect("ROLLBACK");
    assert_eq!(dead_letters(&mut client).expect("es_dead_letters"), letters[1..]);
    assert_eq!(retried_by_one_of_many(&cluster, second), 2);
    assert_eq!(retry_dead_letter(&mut client, third).expect("es_dead_letter_retry"), 3);
    assert_eq!(dead_letters(&mut client).expect("es_dead_letters"), []);
    assert!(is_well(&mut client, "dead letters"));

    let events = ReadStream::all(OWNED).read(&mut client).expect("es_read");
    assert_eq!(payloads(&mut client, OWNED), [json!("first"), json!(1), json!(2)]);
    assert_eq!(events[2].event_id, Some(id(2)));
    assert_eq!(events[2].metadata, Some(json!({"m": 1})));
    assert_verified(&mut client);
}

/// Several administrators with the same idea: one of them writes the event. Its version.
fn retried_by_one_of_many(cluster: &Cluster, letter: i64) -> i64 {
    let start = Barrier::new(RETRIERS);
    let answers: Vec<Result<i64, Error>> = thread::scope(|scope| {
        let retrier = || {
            let (mut client, start) = (cluster.store(), &start);
            scope.spawn(move || {
                start.wait();
                retry_dead_letter(&mut client, letter)
            })
        };
        let retriers: Vec<_> = (0..RETRIERS).map(|_| retrier()).collect();
        retriers.into_iter().map(|thread| thread.join().expect("a retrier")).collect()
    });
    let (written, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert!(refused.into_iter().all(|answer| refusal(answer) == UNDEFINED));
    assert_eq!(written.len(), 1, "how often the letter was written");
    written.into_iter().next().expect("one").expect("a version")
}

#[test]
fn who_waits_is_told_why() {
    let (_cluster, mut client) = store("dead-durable");
    let bad = event(json!("bad"));
    let error = enqueue_poisoned(&mut client, &bad, true).expect_err("a failure");
    let told = describe(&error);
    assert_eq!(sqlstate(&error), BAD_ARGUMENT, "{told}");
    assert!(told.contains("entity-2") && told.contains("1 of 1 events"), "{told}");
    assert!(told.contains("es_dead_letters"), "{told}");

    let known = event(json!("known")).with_id(id(1));
    Enqueue::to("ids", &known).durably().send(&mut client).expect("es_enqueue");
    Enqueue::to("ids", &known).durably().send(&mut client).expect("a retry");
    let other = NewEvent { payload: json!("other"), ..known.clone() };
    let mut items: Vec<(String, NewEvent)> =
        (0..9).map(|n| (format!("s{n}"), event(json!(n)))).collect();
    items[4] = ("ids".to_owned(), other);
    let error = EnqueueBatch::of(&items).durably().send(&mut client).expect_err("a failure");
    let told = describe(&error);
    assert_eq!(sqlstate(&error), DUPLICATE_ID, "{told}");
    assert!(told.contains("1 of 9 events of this call have become dead letters"), "{told}");
    // All the others are there: the event of "ids", that of "owned", and eight of the batch.
    assert_eq!(all_events(&mut client).expect("the content").len(), 10);
    assert_eq!(dead_letters(&mut client).expect("es_dead_letters").len(), 2);
    assert_verified(&mut client);
}

/// Who may not see the dead letters, by rights or by row security, is told of their own.
#[test]
fn who_waits_is_told_whatever_they_may_see() {
    let (cluster, mut client) = store("dead-unseen");
    client
        .batch_execute(
            "CREATE ROLE writer LOGIN IN ROLE allsource_writer;
             ALTER TABLE allsource.dead_letters ENABLE ROW LEVEL SECURITY;",
        )
        .expect("a role");
    let mut writer = cluster.store();
    writer.batch_execute("SET ROLE writer").expect("SET ROLE");
    let answer = enqueue_poisoned(&mut writer, &event(json!(1)), true);
    assert_eq!(refusal(answer), BAD_ARGUMENT);
    client
        .batch_execute("REVOKE SELECT ON allsource.dead_letters FROM allsource_reader")
        .expect("REVOKE");
    let answer = enqueue_poisoned(&mut writer, &event(json!(2)), true);
    assert_eq!(refusal(answer), BAD_ARGUMENT);
}

/// However many letters there are: those of a call are found by an index.
#[test]
fn letters_are_found_by_their_place() {
    let (_cluster, mut client) = store("dead-index");
    for number in 0..20 {
        enqueue_poisoned(&mut client, &event(json!(number)), false).expect("es_enqueue");
    }
    flush(&mut client).expect("es_flush");
    client
        .batch_execute(
            "INSERT INTO allsource.dead_letters (enqueued_at, queue_epoch, queue_worker,
                         queue_offset, sqlstate, reason, tenant_id, stream_id, event_type, payload)
             SELECT now(), 1, 0, i, '22023', 'r', 't', 's', 't', jsonb '1'
               FROM generate_series(1, 20000) AS i;
             ANALYZE allsource.dead_letters;",
        )
        .expect("letters");
    let scans = |client: &mut Client| -> (i64, i64) {
        let sql = "SELECT pg_stat_force_next_flush(), seq_scan, idx_scan FROM pg_stat_user_tables
                    WHERE relid = 'allsource.dead_letters'::regclass";
        client.execute("SELECT pg_stat_force_next_flush()", &[]).expect("statistics");
        let row = client.query_one(sql, &[]).expect("statistics");
        (row.get(1), row.get(2))
    };
    let before = scans(&mut client);
    assert_eq!(refusal(enqueue_poisoned(&mut client, &event(json!(1)), true)), BAD_ARGUMENT);
    let after = scans(&mut client);
    assert_eq!(after.0, before.0, "the whole table was read");
    assert!(after.1 > before.1);
}

/// A caller that is slow to look, while more events than the server remembers become dead letters.
#[test]
fn who_waits_is_told_however_many_others_fail() {
    let (cluster, mut client) = store("dead-many");
    let worker_pid = worker(&mut client).pid.expect("a worker");
    cluster.signal("STOP", worker_pid);
    let mut waiting = cluster.store();
    let query = "SELECT pg_backend_pid()";
    let waiting_pid: i32 = waiting.query_one(query, &[]).expect(query).get(0);
    let answer = thread::scope(|scope| {
        let waiter =
            scope.spawn(move || enqueue_poisoned(&mut waiting, &event(json!("slow")), true));
        worker_when(&mut client, "one event is enqueued", |stats| stats.enqueued == 1);
        cluster.signal("STOP", waiting_pid);
        for number in 0..MANY_POISONED {
            enqueue_poisoned(&mut client, &event(json!(number)), false).expect("es_enqueue");
        }
        cluster.signal("CONT", worker_pid);
        flush(&mut client).expect("es_flush");
        cluster.signal("CONT", waiting_pid);
        waiter.join().expect("the one who waits")
    });
    let letters = dead_letters(&mut client).expect("es_dead_letters").len();
    assert_eq!(letters, MANY_POISONED + 1);
    assert_eq!(refusal(answer), BAD_ARGUMENT);
}

/// Poisoned events among those of others, who are told of nothing.
#[test]
fn others_do_not_notice() {
    let (cluster, mut client) = store("dead-crowd");
    let (ledger, shared) = (Ledger::default(), shared_streams(8));
    let seed = Seed::announce();
    let crew = Crew {
        cluster: &cluster,
        ledger: &ledger,
        shared: &shared,
        seed,
        number: 0,
        producers: CROWD,
    };
    crew.work_while(
        |_| false,
        || {
            for number in 0..POISONED {
                enqueue_poisoned(&mut client, &event(json!(number)), number % 4 == 0)
                    .map_or_else(|error| assert_eq!(sqlstate(&error), BAD_ARGUMENT), drop);
            }
            flush(&mut client).expect("es_flush");
        },
    );
    assert_eq!(ledger.unsettled(), 0, "events that nobody knows to be durable");
    let mut content = all_events(&mut client).expect("the content");
    content.retain(|event| event.stream_id != OWNED);
    ledger.assert_holds(&content);
    let letters = dead_letters(&mut client).expect("es_dead_letters");
    let kept: Vec<_> = letters.into_iter().map(|letter| letter.event.payload).collect();
    assert_eq!(kept, (0..POISONED).map(|number| json!(number)).collect::<Vec<_>>());
    assert_eq!(payloads(&mut client, OWNED), [json!("first")]);
    assert_verified(&mut client);
}
