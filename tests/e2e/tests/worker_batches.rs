//! What a worker does within a batch: what is known to be refused costs no transaction of its own, the
//! outcome does not depend on how events fall into batches, and its settings are those of now.

use std::sync::{Arc, Mutex};
use std::thread;

use allsource_e2e::bulk::{
    dead_letters, flush, flush_within, pause, resume, worker, worker_when, workers_up,
};
use allsource_e2e::calls::assert_verified;
use allsource_e2e::cluster::STORE;
use allsource_e2e::failure::{BAD_ARGUMENT, CANCELLED, DUPLICATE_ID, sqlstate};
use allsource_e2e::{Append, Cluster, Enqueue, EnqueueBatch, NewEvent, ReadStream, patience};
use postgres::{Client, NoTls};
use serde_json::{Value, json};
use uuid::Uuid;

const GOOD: usize = 12_000;
const OWNED: &str = "owned";

fn event(payload: Value) -> NewEvent {
    NewEvent::new("t", payload)
}

fn payloads(client: &mut Client, stream: &str) -> Vec<Value> {
    let events = ReadStream::all(stream).read(client).expect("es_read");
    events.into_iter().map(|event| event.payload).collect()
}

/// How many transactions of the database were rolled back.
fn rollbacks(client: &mut Client) -> i64 {
    let query = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    client.batch_execute("SELECT pg_stat_clear_snapshot()").expect("statistics");
    client.query_one(query, &[]).expect(query).get(0)
}

#[test]
fn what_is_known_to_be_refused_costs_no_transaction() {
    let cluster = Cluster::with_queue("batches-refused", &["allsource.batch_max_bytes=64MB"]);
    let mut client = cluster.store();
    let first = event(json!("first")).with_id(Uuid::from_u128(1));
    let append =
        Append { entity: Some("entity-1"), ..Append::to(OWNED, std::slice::from_ref(&first)) };
    append.one(&mut client).expect("es_append");
    pause(&mut client).expect("es_worker_pause");
    let items: Vec<(String, NewEvent)> =
        (0..GOOD).map(|n| (format!("s{}", n % 100), event(json!(n)))).collect();
    let bad = [
        ("retried", None, first.clone()),
        ("another payload", None, NewEvent { payload: json!("else"), ..first }),
        ("another entity", Some("entity-2"), event(json!("poison"))),
    ];
    for (items, (what, entity, event)) in std::iter::zip(items.chunks(GOOD / 3), &bad) {
        EnqueueBatch::of(items).send(&mut client).expect("es_enqueue_batch");
        let one = Enqueue { entity: *entity, ..Enqueue::to(OWNED, event) };
        one.send(&mut client).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    let (before, rolled_back) = (worker(&mut client), rollbacks(&mut client));
    resume(&mut client).expect("es_worker_resume");
    flush(&mut client).expect("es_flush");
    let after = worker_when(&mut client, "it is idle", |stats| stats.state == "idle");
    assert_eq!(after.batches - before.batches, 1, "batches for all of them");
    assert_eq!(rollbacks(&mut client), rolled_back, "no transaction has failed");
    let letters = dead_letters(&mut client).expect("es_dead_letters");
    let states: Vec<&str> = letters.iter().map(|letter| letter.sqlstate.as_str()).collect();
    assert_eq!(states, [DUPLICATE_ID, BAD_ARGUMENT]);
    assert_eq!(after.drained - before.drained, i64::try_from(GOOD).expect("a number") + 1);
    assert_eq!(payloads(&mut client, OWNED), [json!("first")]);
    assert_verified(&mut client);
}

/// An event without an entity makes a stream without one, wherever the next one is.
#[test]
fn batches_do_not_change_what_becomes_of_events() {
    let cluster = Cluster::with_queue("batches-cuts", &[]);
    let mut client = cluster.store();
    for (stream, together) in [("together", true), ("apart", false)] {
        if together {
            pause(&mut client).expect("es_worker_pause");
        }
        for (number, entity) in [None, Some("e"), None, Some("f")].into_iter().enumerate() {
            let event = event(json!(number));
            Enqueue { entity, ..Enqueue::to(stream, &event) }.send(&mut client).expect("enqueue");
            if !together {
                flush(&mut client).expect("es_flush");
            }
        }
        resume(&mut client).expect("es_worker_resume");
        flush(&mut client).expect("es_flush");
        assert_eq!(payloads(&mut client, stream), [json!(0), json!(2)], "{stream}");
    }
    let letters = dead_letters(&mut client).expect("es_dead_letters");
    let there: Vec<_> = letters.iter().map(|letter| letter.event.payload.clone()).collect();
    assert_eq!(there, [json!(1), json!(3), json!(1), json!(3)]);
}

/// With `synchronous_commit = off` a worker flushes to its own disk; when that is over, it waits for
/// the standby again.
#[test]
fn synchronous_commit_is_that_of_now() {
    let cluster = Cluster::with_queue("batches-sync", &[]);
    let mut client = cluster.store();
    let set = |client: &mut Client, sql: &str| {
        client.batch_execute(sql).expect(sql);
        client.batch_execute("SELECT pg_reload_conf()").expect("to reload");
    };
    set(&mut client, "ALTER SYSTEM SET synchronous_commit = off");
    Enqueue::to("s", &event(json!(0))).durably().send(&mut client).expect("durable");
    set(&mut client, "ALTER SYSTEM SET synchronous_commit = on");
    set(&mut client, "ALTER SYSTEM SET synchronous_standby_names = 'missing'");
    let pid = workers_up(&mut client)[0];
    client.batch_execute("SET synchronous_commit = local").expect("SET");
    patience::until_true("the worker waits for the standby", || {
        Enqueue::to("s", &event(json!(1))).send(&mut client).expect("es_enqueue");
        let query = "SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = $1";
        let waits: Option<bool> = client.query_one(query, &[&pid]).expect(query).get(0);
        waits == Some(true)
    });
    // Cancelling does not end the wait.
    client.execute("SELECT pg_cancel_backend($1)", &[&pid]).expect("pg_cancel_backend");
    let error = flush_within(&mut client, "500ms").expect_err("the standby has not confirmed");
    assert_eq!(sqlstate(&error), CANCELLED);
    set(&mut client, "ALTER SYSTEM RESET synchronous_standby_names");
    flush(&mut client).expect("es_flush");
    assert_verified(&mut client);
}

/// Who waits for a worker that is made to end while it waits for a standby is warned, as after a COMMIT.
#[test]
fn a_worker_that_ends_before_the_standby_has_confirmed_says_so() {
    let cluster = Cluster::with_queue("batches-unconfirmed", &[]);
    let mut client = cluster.store();
    let set = |client: &mut Client, sql: &str| {
        client.batch_execute(sql).expect(sql);
        client.batch_execute("SELECT pg_reload_conf()").expect("to reload");
    };
    set(&mut client, "ALTER SYSTEM SET synchronous_standby_names = 'missing'");
    client.batch_execute("SET synchronous_commit = local").expect("SET");
    let pid = workers_up(&mut client)[0];
    let warnings: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = Arc::clone(&warnings);
    let mut config = cluster.config(STORE);
    config.notice_callback(move |notice| {
        heard.lock().expect("the list").push(notice.message().to_owned());
    });
    let mut waiter = config.connect(NoTls).expect("a session");
    thread::scope(|scope| {
        let durable =
            scope.spawn(|| Enqueue::to("s", &event(json!(0))).durably().send(&mut waiter));
        patience::until_true("the worker waits for the standby", || {
            let query = "SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = $1";
            let waits: Option<bool> = client.query_one(query, &[&pid]).expect(query).get(0);
            waits == Some(true)
        });
        client.execute("SELECT pg_terminate_backend($1)", &[&pid]).expect("to end it");
        durable.join().expect("the session").expect("it is durable here");
    });
    let warnings = warnings.lock().expect("the list");
    assert!(warnings.iter().any(|warning| warning.contains("replicated")), "{warnings:?}");
    set(&mut client, "ALTER SYSTEM RESET synchronous_standby_names");
}

/// A function of somebody's index changes a setting: it is what it was for the next batch.
#[test]
fn code_of_an_index_leaves_no_setting_behind() {
    let cluster = Cluster::with_queue("batches-settings", &[]);
    let mut client = cluster.store();
    let mark = "CREATE FUNCTION public.marks(types text[]) RETURNS text \
                LANGUAGE plpgsql IMMUTABLE AS $$ \
                DECLARE seen text := coalesce(current_setting('test.mark', true), ''); BEGIN \
                PERFORM set_config('test.mark', 'left', false); RETURN seen; END $$; \
                CREATE INDEX marking ON allsource.event_log (public.marks(event_types))";
    client.batch_execute(mark).expect("an index");
    for number in 0..3 {
        Enqueue::to("s", &event(json!(number))).durably().send(&mut client).expect("durable");
    }
    // What the function saw is in the index.
    client.batch_execute("SET enable_seqscan = off").expect("SET");
    let query = "SELECT count(*) FROM allsource.event_log WHERE public.marks(event_types) = 'left'";
    let left: i64 = client.query_one(query, &[]).expect(query).get(0);
    assert_eq!(left, 0, "batches that saw what an earlier one has set");
}
