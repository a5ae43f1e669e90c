//! A router: calls reach the owners of the streams and come back as from a store, whatever is away.

use std::thread;

use allsource_e2e::calls::{all_events, assert_verified, verify};
use allsource_e2e::cluster::{Cluster, STORE, Stop};
use allsource_e2e::event::EVENT_COLUMNS;
use allsource_e2e::failure::{
    BAD_ARGUMENT, CANCELLED, NOT_ALLOWED, NOT_IN_STATE, NOT_SUPPORTED, SERIALIZATION_FAILURE,
    describe, refusal, sqlstate,
};
use allsource_e2e::routed::COORDINATOR;
use allsource_e2e::{
    Append, Batch, BatchItem, Enqueue, EnqueueBatch, Event, NewEvent, ReadStream, Routed, bulk,
};
use allsource_e2e::{locks, patience};
use postgres::{Client, Error};
use serde_json::json;
use uuid::Uuid;

/// The outcome of what was sent is not known.
const UNKNOWN: &str = "08007";
const UNREACHABLE: &str = "08006";
const REFUSED: &str = "28000";
const IN_TRANSACTION: &str = "25001";
const BAD_NAME: &str = "42602";

fn event(number: i64) -> NewEvent {
    NewEvent::new("happened", json!({ "n": number, "text": "a 'quoted' \\ text" }))
}

fn with_id(number: i64) -> NewEvent {
    event(number).with_id(Uuid::from_u128(rand::random()))
}

fn append(client: &mut Client, stream: &str, event: &NewEvent) -> Result<i64, Error> {
    Append::to(stream, std::slice::from_ref(event)).one(client)
}

fn item(stream: &str, number: i64) -> BatchItem {
    BatchItem { stream: stream.to_owned(), expected: None, event: event(number) }
}

fn stored(routed: &Routed, group: i32) -> Vec<Event> {
    all_events(&mut routed.group(group).store()).expect("events")
}

/// What a client is told, without the addresses of the servers.
fn told(routed: &Routed, error: &Error) -> String {
    let text = format!(
        "{} {}",
        describe(error),
        error.as_db_error().and_then(|e| e.where_()).unwrap_or_default()
    );
    for cluster in [&routed.first, &routed.second] {
        let address = cluster.dir().display().to_string();
        assert!(!text.contains(&address), "{text} has an address");
    }
    text
}

#[test]
fn calls_about_a_stream_go_to_its_owner() {
    let routed = Routed::start("owner");
    let mut client = routed.connect();
    for group in [1, 2] {
        for stream in routed.streams(group, 3) {
            assert_eq!(append(&mut client, &stream, &event(1)).expect("es_append"), 1);
            let more = [with_id(2), with_id(3)];
            assert_eq!(Append::to(&stream, &more).expecting(1).many(&mut client).expect("many"), 3);
            // The same again is recognized.
            assert_eq!(Append::to(&stream, &more).expecting(1).many(&mut client).expect("many"), 3);

            let mut direct = routed.group(group).store();
            let all = ReadStream::all(&stream);
            let read = all.read(&mut client).expect("es_read");
            assert_eq!(read.len(), 3);
            assert_eq!(read, all.read(&mut direct).expect("es_read"));
            let backward =
                ReadStream { backward: true, from_version: None, max_count: Some(2), ..all };
            assert_eq!(
                backward.read(&mut client).expect("read"),
                backward.read(&mut direct).expect("read")
            );
            for query in [
                "SELECT s::text FROM allsource.es_stream($1) s",
                "SELECT s::text FROM allsource.es_create_stream($1) s",
                "SELECT s::text FROM allsource.es_streams(allsource.es_partition($1)) s",
                "SELECT allsource.es_stream_watermark($1)::text",
                "SELECT allsource.es_verify_gapless($1)::text",
            ] {
                let one = |client: &mut Client| -> String {
                    client.query_one(query, &[&stream]).expect(query).get(0)
                };
                assert_eq!(one(&mut client), one(&mut direct), "{query}");
            }
        }
    }
    for (group, parity) in [(1, 0), (2, 1)] {
        let stored = stored(&routed, group);
        assert_eq!(stored.len(), 9);
        assert!(stored.iter().all(|event| event.partition_id % 2 == parity), "group {group}");
    }
    assert_verified(&mut client);
}

#[test]
fn a_batch_has_one_owner_and_enqueued_events_are_divided() {
    let routed = Routed::start("batch");
    let mut client = routed.connect();
    let (first, second) = (routed.streams(1, 2), routed.streams(2, 2));

    let items = [item(&first[0], 1), item(&first[1], 2), item(&first[0], 3)];
    let appended = Batch::of(&items).append(&mut client).expect("one owner");
    assert_eq!(appended.iter().map(|row| row.last_version).collect::<Vec<_>>(), [2, 1]);
    let error = Batch::of(&[item(&first[0], 4), item(&second[0], 5)])
        .append(&mut client)
        .expect_err("two owners");
    assert_eq!(sqlstate(&error), NOT_SUPPORTED);
    assert!(error.as_db_error().is_some_and(|e| e.hint().is_some()));
    assert_eq!((stored(&routed, 1).len(), stored(&routed, 2).len()), (3, 0));

    let streams = [&first[0], &second[0], &first[1], &second[1], &second[0]];
    let items: Vec<_> = streams.iter().zip(10..).map(|(&s, n)| (s.clone(), with_id(n))).collect();
    assert_eq!(EnqueueBatch::of(&items).durably().send(&mut client).expect("es_enqueue_batch"), 5);
    Enqueue::to(&second[1], &event(20)).send(&mut client).expect("es_enqueue");
    bulk::flush(&mut client).expect("es_flush");
    let read = ReadStream::all(&second[0]).read(&mut client).expect("es_read");
    assert_eq!(
        read.iter().map(|e| e.payload["n"].as_i64()).collect::<Vec<_>>(),
        [Some(11), Some(14)]
    );
    assert_eq!((stored(&routed, 1).len(), stored(&routed, 2).len()), (5, 4));

    // The same ids with another content become dead letters, in both groups.
    let other: Vec<_> = items
        .iter()
        .map(|(s, e)| (s.clone(), NewEvent { payload: json!({}), ..e.clone() }))
        .collect();
    EnqueueBatch::of(&other).send(&mut client).expect("es_enqueue_batch");
    bulk::flush(&mut client).expect("es_flush");
    let letters = bulk::dead_letters(&mut client).expect("es_dead_letters");
    assert_eq!(letters.len(), 5);
    let groups: Vec<_> = letters.iter().map(|letter| letter.id / 1_000_000_000_000).collect();
    assert_eq!(groups, [1, 1, 2, 2, 2]);
    assert_eq!(refusal(bulk::retry_dead_letter(&mut client, letters[4].id)), "23505");
    bulk::discard_dead_letter(&mut client, letters[4].id).expect("es_dead_letter_discard");
    assert_eq!(bulk::dead_letters(&mut client).expect("es_dead_letters").len(), 4);
}

#[test]
fn errors_come_as_from_a_store() {
    let routed = Routed::start("errors");
    let mut client = routed.connect();
    let stream = &routed.streams(2, 1)[0];
    let mut direct = routed.group(2).store();
    append(&mut client, stream, &event(1)).expect("es_append");
    let id = Uuid::from_u128(rand::random());
    append(&mut client, stream, &event(2).with_id(id)).expect("es_append");
    for (state, query) in [
        (
            SERIALIZATION_FAILURE,
            format!("SELECT allsource.es_append('{stream}', 't', '1', expected_version => 7)"),
        ),
        ("23505", format!("SELECT allsource.es_append('{stream}', 't', '1', event_id => '{id}')")),
        (BAD_ARGUMENT, "SELECT allsource.es_append(NULL, 't', '1')".to_owned()),
        (BAD_ARGUMENT, "SELECT allsource.es_append('', 't', '1')".to_owned()),
        (BAD_ARGUMENT, format!("SELECT allsource.es_append('{stream}', '', '1')")),
        (BAD_ARGUMENT, format!("SELECT allsource.es_append_many('{stream}', '{{a,b}}', '{{1}}')")),
        (BAD_ARGUMENT, "SELECT allsource.es_append_batch(NULL, '{a}', '{1}')".to_owned()),
        (BAD_ARGUMENT, "SELECT allsource.es_enqueue_batch('{a}', '{a,b}', '{1}')".to_owned()),
        (BAD_ARGUMENT, format!("SELECT allsource.es_read('{stream}', max_count => -1)")),
        (BAD_ARGUMENT, "SELECT allsource.es_read_all_from('{1,2}')".to_owned()),
        (
            BAD_ARGUMENT,
            "SELECT allsource.es_read_all_from(array_fill(0::int8, '{32}'), 10, '{77}')".to_owned(),
        ),
        (BAD_ARGUMENT, "SELECT allsource.es_streams(99)".to_owned()),
    ] {
        let fields = |client: &mut Client| {
            let error = client.batch_execute(&query).expect_err(&query);
            told(&routed, &error);
            describe(&error)
        };
        let (routed, direct) = (fields(&mut client), fields(&mut direct));
        assert!(routed.starts_with(state), "{query}: {routed}");
        assert_eq!(routed, direct, "{query}");
    }
    // The connection is as good as before.
    assert_eq!(append(&mut client, stream, &event(3)).expect("es_append"), 3);
    for query in ["SELECT allsource.es_read_all()", "SELECT allsource.es_safe_position()"] {
        let error = client.batch_execute(query).expect_err(query);
        assert_eq!(sqlstate(&error), NOT_IN_STATE);
        assert!(
            error
                .as_db_error()
                .and_then(|e| e.hint())
                .is_some_and(|hint| hint.contains("es_positions()"))
        );
    }
    assert!(
        describe(&client.batch_execute("SELECT allsource.es_read_all()").expect_err("refused"))
            .contains("es_read_all_from")
    );
}

/// Lets a store refuse appends to some partitions, as one that does not own them.
fn disown(routed: &Routed, group: i32, partitions: &str) {
    let refuse = format!(
        "IF allsource.es_partition(name) = ANY ('{partitions}') THEN
             RAISE EXCEPTION 'partition % is not owned by this group', allsource.es_partition(name)
                   USING ERRCODE = '55000', DETAIL = 'Its owner is another group, since epoch 2.';
         END IF;"
    );
    routed.group(group).execute(
        STORE,
        &format!(
            "CREATE OR REPLACE FUNCTION allsource.es_append(stream_id text, event_type text, payload jsonb,
                 metadata jsonb DEFAULT NULL, expected_version int8 DEFAULT NULL, tenant_id text DEFAULT 'default',
                 entity_id text DEFAULT NULL, event_id uuid DEFAULT NULL) RETURNS int8 LANGUAGE plpgsql AS $$
             DECLARE name text := stream_id; BEGIN {refuse} RETURN NULL; END $$;
             CREATE FUNCTION public.enqueue(text[], text[], jsonb[], jsonb[], text, uuid[], bool) RETURNS int8
                 LANGUAGE c AS '$libdir/allsource', 'es_enqueue_batch';
             CREATE OR REPLACE FUNCTION allsource.es_enqueue_batch(stream_ids text[], event_types text[], payloads jsonb[],
                 metadata jsonb[] DEFAULT NULL, tenant_id text DEFAULT 'default', event_ids uuid[] DEFAULT NULL,
                 durable bool DEFAULT false) RETURNS int8 LANGUAGE plpgsql AS $$
             DECLARE name text;
             BEGIN
                 FOREACH name IN ARRAY stream_ids LOOP {refuse} END LOOP;
                 RETURN public.enqueue($1, $2, $3, $4, $5, $6, $7);
             END $$;
             CREATE OR REPLACE FUNCTION allsource.es_read_all_from(after_positions int8[], max_count int8 DEFAULT 1000,
                 partition_ids int4[] DEFAULT NULL, event_types text[] DEFAULT NULL, tenant_id text DEFAULT NULL)
                 RETURNS SETOF allsource.events LANGUAGE plpgsql AS $$
             BEGIN
                 IF partition_ids && '{partitions}' THEN
                     RAISE EXCEPTION 'partition 0 is not owned by this group' USING ERRCODE = '55000';
                 END IF;
             END $$;"
        ),
    );
}

#[test]
fn a_router_with_an_old_map_takes_the_new_one() {
    let routed = Routed::start("moved");
    let stream = &routed.streams(1, 1)[0];
    let mut client = routed.impatient();
    assert_eq!(append(&mut client, stream, &event(1)).expect("es_append"), 1);
    let partitions =
        format!("{{{}}}", (0..32).step_by(2).map(|p| p.to_string()).collect::<Vec<_>>().join(","));
    disown(&routed, 1, &partitions);

    // Nobody has a newer map: the refusal itself, when the time is over.
    let error = append(&mut client, stream, &event(2)).expect_err("not owned");
    let text = told(&routed, &error);
    assert!(text.contains("55000: partition ") && text.contains("since epoch 2"), "{text}");

    routed.second.execute(
        COORDINATOR,
        "UPDATE allsource.partition_map SET group_id = 2, epoch = 2 WHERE group_id = 1",
    );
    assert_eq!(append(&mut client, stream, &event(1)).expect("at the new owner"), 1);
    let owners = "SELECT count(*) FROM allsource.routes WHERE group_id = 2";
    assert_eq!(client.query_one(owners, &[]).expect(owners).get::<_, i64>(0), 32);

    // Whoever covers several groups divides his questions anew.
    let forget = "UPDATE allsource.routes SET group_id = 1, epoch = 0 WHERE partition_id % 2 = 0";
    client.batch_execute(forget).expect(forget);
    let read = "SELECT count(*) FROM allsource.es_read_all_from(array_fill(0::int8, '{32}'))";
    assert_eq!(client.query_one(read, &[]).expect(read).get::<_, i64>(0), 1);
    assert_eq!(client.query_one(owners, &[]).expect(owners).get::<_, i64>(0), 32);

    // An older epoch never replaces a newer one.
    routed
        .second
        .execute(COORDINATOR, "UPDATE allsource.partition_map SET group_id = 1, epoch = 1");
    client.batch_execute("SELECT allsource.es_router_refresh()").expect("es_router_refresh");
    assert_eq!(client.query_one(owners, &[]).expect(owners).get::<_, i64>(0), 32);
}

#[test]
fn enqueued_events_are_divided_anew_when_a_partition_has_moved() {
    let routed = Routed::start("divided");
    let streams = routed.streams(1, 2);
    let mut client = routed.impatient();
    disown(&routed, 1, "{0}");
    let away = "UPDATE allsource.partition_map SET group_id = 2, epoch = 2 WHERE partition_id = 0";
    routed.second.execute(COORDINATOR, away);
    let items: Vec<_> =
        [0, 1, 0, 1].into_iter().zip(1..).map(|(s, n)| (streams[s].clone(), event(n))).collect();
    assert_eq!(EnqueueBatch::of(&items).durably().send(&mut client).expect("es_enqueue_batch"), 4);
    assert_eq!((stored(&routed, 1).len(), stored(&routed, 2).len()), (2, 2));
}

#[test]
fn a_reader_with_a_vector_gets_everything_once() {
    let routed = Routed::start("vector");
    let mut client = routed.connect();
    let streams = [routed.streams(1, 4), routed.streams(2, 4)].concat();
    for number in 0..40 {
        append(&mut client, &streams[number % 8], &event(number as i64)).expect("es_append");
    }
    // One group has far more than the other.
    for number in 100..150 {
        append(&mut client, &streams[0], &event(number)).expect("es_append");
    }
    let query = format!("SELECT {EVENT_COLUMNS} FROM allsource.es_read_all_from($1, 7)");
    let mut place = vec![0_i64; 32];
    let mut seen: Vec<Event> = Vec::new();
    loop {
        let page: Vec<Event> =
            client.query(&query, &[&place]).expect(&query).iter().map(Event::from_row).collect();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 7);
        if seen.len() < 70 {
            // While both have enough, neither is kept back.
            assert!(
                page.iter().any(|event| event.partition_id % 2 == 1) || seen.len() > 35,
                "{page:?}"
            );
        }
        for event in page {
            let last = &mut place[event.partition_id as usize];
            assert!(event.position > *last, "{event:?} after {last}");
            *last = event.position;
            seen.push(event);
        }
    }
    let mut expected = [stored(&routed, 1), stored(&routed, 2)].concat();
    for events in [&mut seen, &mut expected] {
        events.sort_by_key(|event| (event.partition_id, event.position));
    }
    assert_eq!(seen, expected);

    let now: Vec<i64> =
        client.query_one("SELECT allsource.es_positions()", &[]).expect("es_positions").get(0);
    append(&mut client, &streams[5], &event(1000)).expect("es_append");
    let rows = client.query(&query, &[&now]).expect(&query);
    assert_eq!(
        rows.iter().map(|row| Event::from_row(row).payload["n"].as_i64()).collect::<Vec<_>>(),
        [Some(1000)]
    );
    // Some of the partitions, and those with NULL not at all.
    let some = "SELECT count(*) FROM allsource.es_read_all_from(array_fill(NULL::int8, '{31}') || 0::int8, NULL)";
    assert_eq!(client.query_one(some, &[]).expect(some).get::<_, i64>(0), 0);
    let odd = "SELECT count(*) FROM allsource.es_read_all_from(array_fill(0::int8, '{32}'), NULL, '{1,3,5,7}')";
    assert_eq!(client.query_one(odd, &[]).expect(odd).get::<_, i64>(0), 21);
}

#[test]
fn what_covers_all_groups_covers_all_groups() {
    let routed = Routed::start("all");
    let mut client = routed.connect();
    for stream in [routed.streams(1, 3), routed.streams(2, 5)].concat() {
        append(&mut client, &stream, &event(1)).expect("es_append");
    }
    let one = |client: &mut Client, query: &str| -> i64 {
        client.query_one(query, &[]).expect(query).get(0)
    };
    assert_eq!(one(&mut client, "SELECT count(*) FROM allsource.partition_stats"), 32);
    assert_eq!(
        one(&mut client, "SELECT sum(total_events)::int8 FROM allsource.es_partition_stats()"),
        8
    );
    assert_eq!(
        one(&mut client, "SELECT count(*) FROM generate_series(0, 31) p, allsource.es_streams(p)"),
        8
    );
    let appends = "SELECT count(DISTINCT labels ->> 'group') FROM allsource.metrics WHERE name LIKE '%append%'";
    assert_eq!(one(&mut client, appends), 2);
    let text: String =
        client.query_one("SELECT allsource.es_metrics_prometheus()", &[]).expect("text").get(0);
    for line in text.lines() {
        assert!(
            line.starts_with("# ")
                || line.contains("{group=\"1\"")
                || line.contains("{group=\"2\""),
            "{line}"
        );
    }
    let helps: Vec<_> = text.lines().filter(|line| line.starts_with("# HELP ")).collect();
    let mut unique = helps.clone();
    unique.dedup();
    assert!(helps.len() > 20 && helps == unique, "{text}");
    assert!(
        bulk::health(&mut client)
            .expect("es_health")
            .iter()
            .any(|(name, ok, _)| name == "group 2" && *ok)
    );

    // Damage in one group is found through the router.
    routed.second.execute(STORE, "UPDATE allsource.event_log SET checksum = checksum + 1");
    assert_eq!(verify(&mut client).expect("es_verify").len(), 5);
    let stream = &routed.streams(2, 1)[0];
    let query = "SELECT count(*) FROM allsource.es_verify(stream_id => $1)";
    assert_eq!(client.query_one(query, &[stream]).expect(query).get::<_, i64>(0), 1);
}

#[test]
fn a_group_that_is_away_is_waited_for() {
    let routed = Routed::start("away");
    let (near, far) = (routed.streams(1, 1).remove(0), routed.streams(2, 1).remove(0));
    let mut client = routed.impatient();
    append(&mut client, &far, &event(1)).expect("es_append");
    // The coordinator goes with it.
    routed.second.stop(Stop::Fast);

    let error = append(&mut client, &far, &event(2)).expect_err("its group is away");
    assert_eq!(sqlstate(&error), UNREACHABLE, "{}", told(&routed, &error));
    told(&routed, &error);
    assert_eq!(refusal(ReadStream::all(&far).read(&mut client)), UNREACHABLE);
    assert_eq!(
        refusal(
            client.batch_execute("SELECT allsource.es_read_all_from(array_fill(0::int8, '{32}'))")
        ),
        UNREACHABLE
    );
    append(&mut client, &near, &event(1)).expect("the other group");
    let health = bulk::health(&mut client).expect("es_health");
    let verdict = |name: &str| health.iter().find(|row| row.0 == name).map(|row| row.1);
    assert_eq!(
        (verdict("group 1"), verdict("group 2"), verdict("coordinator")),
        (Some(true), Some(false), Some(false))
    );
    let up = "SELECT value FROM allsource.es_metrics() WHERE name = 'allsource_router_group_up' ORDER BY labels ->> 'group'";
    let up: Vec<f64> = client.query(up, &[]).expect(up).iter().map(|row| row.get(0)).collect();
    assert_eq!(up, [1.0, 0.0]);

    // A call that finds it away ends when it is back.
    thread::scope(|scope| {
        let call = scope.spawn(|| append(&mut routed.connect(), &far, &event(2)));
        routed.second.resume();
        assert_eq!(call.join().expect("a call").expect("es_append"), 2);
    });
    assert_eq!(append(&mut client, &far, &event(3)).expect("the old session"), 3);
}

/// A transaction at the owner that keeps a routed append of the same stream waiting.
fn in_the_middle<T: Send>(
    routed: &Routed,
    stream: &str,
    call: impl FnOnce() -> T + Send,
    meanwhile: impl FnOnce(i32),
) -> T {
    let mut holder = routed.second.store();
    let mut transaction = holder.transaction().expect("a transaction");
    Append::to(stream, &[event(0)]).one(&mut transaction).expect("es_append");
    thread::scope(|scope| {
        let call = scope.spawn(call);
        let pid = routed.call_at(2);
        locks::until_waits(&mut routed.second.store(), pid);
        meanwhile(pid);
        // Where the server was killed it is gone already.
        let _ = transaction.rollback();
        call.join().expect("a call")
    })
}

fn terminate(routed: &Routed, pid: i32) {
    let mut client = routed.second.store();
    client.execute("SELECT pg_terminate_backend($1)", &[&pid]).expect("pg_terminate_backend");
    patience::until_true("the process is gone", || {
        let query = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1";
        client.query_one(query, &[&pid]).expect(query).get::<_, i64>(0) == 0
    });
}

#[test]
fn an_append_that_is_cut_off_is_repeated_if_it_has_an_id() {
    let routed = Routed::start("cut");
    let stream = &routed.streams(2, 1)[0];
    let cut = |event: NewEvent| {
        let routed = &routed;
        in_the_middle(
            routed,
            stream,
            move || append(&mut routed.connect(), stream, &event),
            |pid| terminate(routed, pid),
        )
    };
    let error = cut(event(1)).expect_err("without an id");
    assert_eq!(sqlstate(&error), UNKNOWN);
    assert!(told(&routed, &error).contains("event_id"));
    assert_eq!(cut(with_id(2)).expect("with an id"), 1);

    // The same when the whole server is killed, and comes back.
    let last = with_id(3);
    let killed = in_the_middle(
        &routed,
        stream,
        || append(&mut routed.connect(), stream, &last),
        |_| {
            routed.second.stop(Stop::Kill);
            routed.second.resume();
        },
    );
    assert_eq!(killed.expect("with an id"), 2);
    let read = ReadStream::all(stream).read(&mut routed.connect()).expect("es_read");
    assert_eq!(
        read.iter().map(|e| e.payload["n"].as_i64()).collect::<Vec<_>>(),
        [Some(2), Some(3)]
    );
}

#[test]
fn a_frozen_owner_is_given_up_and_nothing_is_done_twice() {
    let routed = Routed::start("frozen");
    let stream = &routed.streams(2, 1)[0];
    let mut client = routed.impatient();
    append(&mut client, stream, &event(1)).expect("es_append");
    let query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'allsource_router' AND datname = 'store'";
    let mut onlooker = routed.second.store();
    for (number, one) in [(2, with_id(2)), (3, event(3))] {
        let pid: i32 = onlooker.query_one(query, &[]).expect(query).get(0);
        routed.second.signal("STOP", pid);
        let answer = append(&mut client, stream, &one);
        routed.second.signal("CONT", pid);
        match one.id {
            Some(_) => assert_eq!(answer.expect("repeated on another connection"), number),
            None => assert_eq!(refusal(answer), UNKNOWN),
        }
        // What the frozen process had been sent, it does; the connection is closed, so then it ends.
        patience::until_true("the frozen process has ended", || {
            let pids = onlooker.query(query, &[]).expect(query);
            pids.iter().all(|row| row.get::<_, i32>(0) != pid)
        });
        let read = ReadStream::all(stream).read(&mut client).expect("es_read");
        assert_eq!(read.len() as i64, number, "{read:?}");
    }
}

#[test]
fn a_cancelled_append_is_not_cancelled_at_the_group() {
    let routed = Routed::start("cancel");
    let stream = &routed.streams(2, 1)[0];
    let cancelled = in_the_middle(
        &routed,
        stream,
        || {
            let mut client = routed.connect();
            let pid = locks::process_of(&mut client);
            let cancel = client.cancel_token();
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut onlooker = routed.connect();
                    locks::until_sleeps(&mut onlooker, pid);
                    routed.call_at(2);
                    cancel.cancel_query(postgres::NoTls).expect("cancel");
                });
                append(&mut client, stream, &event(1))
            })
        },
        |pid| {
            // It still waits when the router has given up.
            let mut onlooker = routed.first.connect("postgres");
            patience::until_true("the call is cancelled", || {
                let query = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'router' AND state = 'active'";
                onlooker.query_one(query, &[]).expect(query).get::<_, i64>(0) == 0
            });
            assert_eq!(routed.call_at(2), pid);
        },
    );
    let error = cancelled.expect_err("cancelled");
    assert_eq!(sqlstate(&error), CANCELLED);
    assert!(told(&routed, &error).contains("is not cancelled there"));
    patience::until_true("the append is done", || {
        ReadStream::all(stream).read(&mut routed.connect()).expect("es_read").len() == 1
    });
}

#[test]
fn a_transaction_is_refused_unless_it_is_allowed() {
    let routed = Routed::start("block");
    let mut client = routed.connect();
    let stream = &routed.streams(2, 1)[0];
    // The protocol with parameters has the transaction begin before the statement.
    append(&mut client, stream, &event(1)).expect("not in a transaction");
    client
        .batch_execute(&format!("SELECT allsource.es_append('{stream}', 't', '1')"))
        .expect("neither");

    let call = format!("SELECT allsource.es_append('{stream}', 't', '1')");
    for block in [
        format!("BEGIN; {call}; COMMIT"),
        format!("{call}; {call}"),
        format!(
            "DO $$ BEGIN BEGIN PERFORM allsource.es_append('{stream}', 't', '1'); EXCEPTION WHEN unique_violation THEN END; END $$"
        ),
    ] {
        let error = client.batch_execute(&block).expect_err(&block);
        assert_eq!(sqlstate(&error), IN_TRANSACTION, "{block}");
        let _ = client.batch_execute("ROLLBACK");
    }
    let mut transaction = client.transaction().expect("a transaction");
    assert_eq!(
        ReadStream::all(stream).read(&mut transaction).expect("reading is allowed").len(),
        2
    );
    assert_eq!(refusal(Append::to(stream, &[event(2)]).one(&mut transaction)), IN_TRANSACTION);
    drop(transaction);

    client.batch_execute("SET allsource.route_in_transaction = on").expect("set");
    let mut transaction = client.transaction().expect("a transaction");
    assert_eq!(Append::to(stream, &[event(2)]).one(&mut transaction).expect("allowed"), 3);
    transaction.rollback().expect("rollback");
    assert_eq!(ReadStream::all(stream).read(&mut client).expect("es_read").len(), 3);
}

/// Starts a server that has not preloaded the library, with a router of its own in the database `postgres`.
fn not_preloaded(name: &str, routed: &Routed) -> Cluster {
    let cluster = Cluster::start(name, &["shared_preload_libraries="]);
    let conninfo = routed.second.conninfo(COORDINATOR);
    cluster.execute(
        "postgres",
        &format!(
            "CREATE EXTENSION allsource_router;
             INSERT INTO allsource.router_coordinator (conninfo) VALUES ('{conninfo}');
             SELECT allsource.es_router_refresh();"
        ),
    );
    cluster
}

#[test]
fn settings_are_checked_also_where_the_library_is_loaded_late() {
    let routed = Routed::start("settings");
    let stream = &routed.streams(2, 1)[0];
    let shown = |client: &mut Client, setting: &str| -> String {
        let show = format!("SHOW allsource.{setting}");
        client.query_one(&show, &[]).expect(&show).get(0)
    };
    let bad = [
        "route_timeout = 'soon'",
        "route_timeout = 0",
        "route_retry_time = '2d'",
        "route_connect_timeout = 1",
        "route_in_transaction = 'perhaps'",
    ];
    let mut client = routed.connect();
    for setting in bad {
        let set = format!("SET allsource.{setting}");
        assert_eq!(refusal(client.batch_execute(&set)), BAD_ARGUMENT, "{set}");
        let alter = format!("ALTER ROLE postgres SET allsource.{setting}");
        assert_eq!(refusal(client.batch_execute(&alter)), BAD_ARGUMENT, "{alter}");
    }
    for (setting, default) in [
        ("route_timeout", "10s"),
        ("route_retry_time", "30s"),
        ("route_connect_timeout", "2s"),
        ("route_in_transaction", "off"),
    ] {
        assert_eq!(shown(&mut client, setting), default, "{setting}");
    }

    let late = not_preloaded("settings3", &routed);
    for setting in bad {
        let mut client = late.connect("postgres");
        client.batch_execute(&format!("SET allsource.{setting}")).expect("not known yet");
        // A bad value stays an error, and is one no more when it is set again.
        for _ in 0..2 {
            let error = append(&mut client, stream, &event(1)).expect_err(setting);
            assert_eq!(sqlstate(&error), BAD_ARGUMENT, "{setting}");
            let name = setting.split(' ').next().expect("a name");
            assert!(describe(&error).contains(name), "{}", describe(&error));
        }
        let reset = format!("RESET allsource.{}", setting.split(' ').next().expect("a name"));
        client.batch_execute(&reset).expect(&reset);
        ReadStream::all(stream).read(&mut client).expect("the default counts");
    }
    let good = "ALTER DATABASE postgres SET allsource.route_timeout = '7s';
                ALTER DATABASE postgres SET allsource.route_in_transaction = 'on'";
    late.execute("postgres", good);
    let mut client = late.connect("postgres");
    client.batch_execute("SET allsource.route_retry_time = '1min'").expect("not known yet");
    let mut transaction = client.transaction().expect("a transaction");
    assert_eq!(Append::to(stream, &[event(1)]).one(&mut transaction).expect("allowed"), 1);
    transaction.commit().expect("commit");
    assert_eq!(shown(&mut client, "route_timeout"), "7s");
    assert_eq!(shown(&mut client, "route_retry_time"), "1min");
    assert_eq!(refusal(client.batch_execute("SET allsource.route_timeuot = 1")), BAD_NAME);
}

#[test]
fn everybody_is_himself() {
    let routed = Routed::start("rights");
    let roles = "CREATE ROLE reader LOGIN IN ROLE allsource_reader;
                 CREATE ROLE \"a Writer's\" LOGIN IN ROLE allsource_writer;";
    routed.first.execute(STORE, roles);
    routed.second.execute(STORE, "CREATE ROLE \"a Writer's\" LOGIN IN ROLE allsource_reader");
    let (near, far) = (routed.streams(1, 1).remove(0), routed.streams(2, 1).remove(0));
    let become_ = |role: &str| {
        let mut client = routed.impatient();
        client.batch_execute(&format!("SET SESSION AUTHORIZATION {role}")).expect(role);
        client
    };

    let mut reader = become_("reader");
    let refused = append(&mut reader, &near, &event(1)).expect_err("a reader");
    assert_eq!(sqlstate(&refused), NOT_ALLOWED);
    ReadStream::all(&near).read(&mut reader).expect("a reader may read");
    // He does not exist in group 2.
    let refused = ReadStream::all(&far).read(&mut reader).expect_err("unknown there");
    assert_eq!(sqlstate(&refused), REFUSED, "{}", told(&routed, &refused));

    let mut writer = become_("\"a Writer's\"");
    append(&mut writer, &near, &event(1)).expect("a writer of group 1");
    let refused = append(&mut writer, &far, &event(1)).expect_err("a reader of group 2");
    assert_eq!(sqlstate(&refused), NOT_ALLOWED, "{}", told(&routed, &refused));
    // A role counts as it does on a store.
    let mut admin = routed.connect();
    admin.batch_execute("SET ROLE \"a Writer's\"").expect("SET ROLE");
    append(&mut admin, &near, &event(2)).expect("a writer of group 1");
    assert_eq!(refusal(append(&mut admin, &far, &event(2))), NOT_ALLOWED);
    admin.batch_execute("RESET ROLE").expect("RESET ROLE");
    append(&mut admin, &far, &event(3)).expect("himself again");

    for query in [
        "SELECT conninfo FROM allsource.router_groups",
        "SELECT conninfo FROM allsource.router_coordinator",
        "SELECT allsource.router_conninfo(1)",
        "SELECT allsource.router_call('{1}', 'SELECT 1', false, true)",
        "SELECT allsource.link_send('allsource 1 postgres', 'SELECT 1')",
        "SELECT allsource.es_router_refresh()",
        "UPDATE allsource.routes SET group_id = 1",
        "CREATE TABLE allsource.mine ()",
    ] {
        assert_eq!(refusal(writer.batch_execute(query)), NOT_ALLOWED, "{query}");
    }
    for wrong in [
        "host=a password=secret",
        "host=a user=postgres",
        "postgres://a:b@c/d",
        "host='a",
        "options='-c x=y'",
        "",
    ] {
        let mut owner = routed.connect();
        let insert = "INSERT INTO allsource.router_groups VALUES (3, $1)";
        let error = owner.execute(insert, &[&wrong]).expect_err(wrong);
        assert_eq!(sqlstate(&error), BAD_ARGUMENT, "{wrong}");
        assert!(!describe(&error).contains("secret"));
    }
}
