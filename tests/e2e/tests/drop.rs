//! The extension dropped and created again, and more than one store in a server: every backend
//! finds the tables that are there now, and positions stay right over crashes.

use allsource_e2e::calls::{all_events, assert_verified, safe_position};
use allsource_e2e::cluster::{STORE, Stop};
use allsource_e2e::event::NewEvent;
use allsource_e2e::failure::{describe, is_disconnect, refusal};
use allsource_e2e::{Append, Cluster, Tail};
use postgres::Client;
use serde_json::json;

const OTHER: &str = "other";
const PAGE: i64 = 100;
const UNDEFINED_SCHEMA: &str = "3F000";

fn append(client: &mut Client, stream: &str, count: i64) -> i64 {
    let events: Vec<NewEvent> = (0..count).map(|n| NewEvent::new("t", json!(n))).collect();
    Append::to(stream, &events).many(client).expect("an append")
}

fn last_position(client: &mut Client) -> i64 {
    all_events(client).expect("the content").last().expect("an event").position
}

/// The tail shows everything, and nothing is wrong.
fn assert_sound(client: &mut Client) {
    let content = all_events(client).expect("the content");
    let mut tail = Tail::after(0);
    while tail.poll(client, PAGE).expect("es_read_all") > 0 {}
    tail.assert_saw_exactly(&content);
    assert_verified(client);
}

#[test]
fn an_extension_created_anew_in_the_same_session_is_empty_and_works() {
    let cluster = Cluster::with_store("drop");
    let mut client = cluster.store();
    let mut onlooker = cluster.store();
    for _ in 0..3 {
        assert_eq!(append(&mut client, "s", 5), 5);
        assert_eq!(append(&mut onlooker, "s", 2), 7);
        assert_sound(&mut client);
        client.batch_execute("DROP EXTENSION allsource").expect("DROP EXTENSION");
        assert_eq!(refusal(all_events(&mut onlooker)), "42P01");
        client.batch_execute("CREATE EXTENSION allsource").expect("CREATE EXTENSION");
        assert_eq!(all_events(&mut client).expect("the content"), []);
    }
    assert_eq!(append(&mut onlooker, "s", 1), 1);
    let before = last_position(&mut client);
    cluster.stop(Stop::Kill);
    cluster.resume();
    let mut client = cluster.store();
    assert_eq!(append(&mut client, "s", 1), 2);
    assert!(last_position(&mut client) > before);
    assert_sound(&mut client);
}

#[test]
fn an_extension_whose_creation_is_rolled_back_is_not_there() {
    let cluster = Cluster::start("drop-rollback", &[]);
    cluster.create_database(STORE);
    let mut client = cluster.store();
    client.batch_execute("BEGIN; CREATE EXTENSION allsource").expect("CREATE EXTENSION");
    assert_eq!(append(&mut client, "s", 3), 3);
    client.batch_execute("ROLLBACK").expect("ROLLBACK");
    let events = [NewEvent::new("t", json!(1))];
    assert_eq!(refusal(Append::to("s", &events).one(&mut client)), UNDEFINED_SCHEMA);
    client.batch_execute("CREATE EXTENSION allsource").expect("CREATE EXTENSION");
    assert_eq!(append(&mut client, "s", 3), 3);

    // And a drop that is rolled back has not happened.
    client.batch_execute("BEGIN; DROP EXTENSION allsource; ROLLBACK").expect("DROP EXTENSION");
    assert_eq!(append(&mut client, "s", 1), 4);
    let before = last_position(&mut client);
    client
        .batch_execute("BEGIN; DROP EXTENSION allsource; CREATE EXTENSION allsource")
        .expect("an extension anew");
    assert_eq!(append(&mut client, "s", 2), 2);
    client.batch_execute("ROLLBACK").expect("ROLLBACK");
    assert_eq!(append(&mut client, "s", 1), 5);
    assert!(last_position(&mut client) > before);
    assert_sound(&mut client);
}

/// What is made in a schema of somebody else is his to change: he could exchange the store's tables.
#[test]
fn a_schema_of_another_role_is_refused() {
    let cluster = Cluster::start("drop-schema", &[]);
    cluster.create_database(STORE);
    let mut client = cluster.store();
    client
        .batch_execute("CREATE ROLE mallory; CREATE SCHEMA allsource AUTHORIZATION mallory")
        .expect("a schema");
    let error = client.batch_execute("CREATE EXTENSION allsource").expect_err("a foreign schema");
    let told = describe(&error);
    assert!(told.contains("allsource") && !is_disconnect(&error), "{told}");
    let query = "SELECT count(*) FROM pg_extension WHERE extname = 'allsource'";
    assert_eq!(client.query_one(query, &[]).expect(query).get::<_, i64>(0), 0);
    // One's own will do: pg_dump makes it first.
    client
        .batch_execute("ALTER SCHEMA allsource OWNER TO postgres; CREATE EXTENSION allsource")
        .expect("CREATE EXTENSION");
    assert_eq!(append(&mut client, "s", 3), 3);
    assert_sound(&mut client);
}

/// Two stores in one server, one with many events and one with few: after a crash each goes on
/// above what it has given out, whichever is used first.
#[test]
fn two_stores_in_a_server_go_on_after_a_crash() {
    let cluster = Cluster::with_store("drop-two");
    cluster.create_store(OTHER);
    append(&mut cluster.connect(OTHER), "early", 1);
    for round in 0..30 {
        append(&mut cluster.store(), &format!("s{}", round % 7), 50);
    }
    append(&mut cluster.connect(OTHER), "late", 3);
    for (round, first) in [STORE, OTHER, OTHER, STORE].into_iter().enumerate() {
        let second = if first == STORE { OTHER } else { STORE };
        let highest = [first, second].map(|database| {
            let mut client = cluster.connect(database);
            let safe = safe_position(&mut client).expect("es_safe_position");
            safe.max(last_position(&mut client))
        });
        cluster.stop(if round == 3 { Stop::Fast } else { Stop::Kill });
        cluster.resume();
        for (database, highest) in [first, second].into_iter().zip(highest) {
            let mut client = cluster.connect(database);
            append(&mut client, "after", 2);
            let content = all_events(&mut client).expect("the content");
            let fresh = content[content.len() - 2].position;
            assert!(fresh > highest, "position {fresh} after {highest} in {database}");
            assert_sound(&mut client);
        }
    }
}

/// A database copied with all its events is a store of its own; so is one that takes the name of
/// a dropped one.
#[test]
fn a_copied_database_goes_on() {
    let cluster = Cluster::with_store("drop-copy");
    for _ in 0..10 {
        append(&mut cluster.store(), "s", 50);
    }
    let content = all_events(&mut cluster.store()).expect("the content");
    cluster.execute("postgres", "CREATE DATABASE other TEMPLATE store");
    for database in [OTHER, STORE] {
        let mut client = cluster.connect(database);
        assert_eq!(all_events(&mut client).expect("the copy"), content);
        assert_eq!(append(&mut client, "s", 1), 501);
        assert!(last_position(&mut client) > content[499].position);
        assert_sound(&mut client);
    }
    cluster.execute("postgres", "DROP DATABASE store");
    cluster.create_store(STORE);
    assert_eq!(append(&mut cluster.store(), "s", 1), 1);
    cluster.stop(Stop::Kill);
    cluster.resume();
    for (database, version) in [(STORE, 2), (OTHER, 502)] {
        let mut client = cluster.connect(database);
        let before = last_position(&mut client);
        assert_eq!(append(&mut client, "s", 1), version);
        assert!(last_position(&mut client) > before);
        assert_sound(&mut client);
    }
}

/// A transaction of one store holds back the readers of that store; the readers of another one
/// get to their last event.
#[test]
fn an_open_append_leaves_other_stores_complete() {
    let cluster = Cluster::with_store("drop-held");
    cluster.create_store(OTHER);
    let (mut held, mut client) = (cluster.store(), cluster.connect(OTHER));
    append(&mut client, "before", 2);
    held.batch_execute("BEGIN").expect("BEGIN");
    append(&mut held, "held", 1);
    let mut tail = Tail::after(0);
    tail.poll(&mut client, PAGE).expect("es_read_all");
    assert_eq!(tail.events().len(), 2, "what was there before the open append");
    append(&mut client, "after", 2);
    held.batch_execute("COMMIT").expect("COMMIT");
    assert_sound(&mut client);
    assert_sound(&mut cluster.store());
}

fn begin_and_roll_back_an_append(client: &mut Client) {
    client.batch_execute("BEGIN; SAVEPOINT s").expect("a savepoint");
    append(client, "warm", 1);
    client.batch_execute("ROLLBACK TO s").expect("ROLLBACK TO");
}

/// The locks of an append that was rolled back to a savepoint are gone, so the extension can be made again
/// while the transaction goes on. What it then appends is of the new store, and holds its readers back.
#[test]
fn an_append_after_a_rolled_back_one_holds_readers_of_a_new_store_back() {
    let cluster = Cluster::with_store("drop-savepoint");
    let (mut open, mut client) = (cluster.store(), cluster.store());
    let mut tail = Tail::after(0);
    append(&mut client, "warm", 1);
    // The old store's positions are high, those of the new one begin at 1.
    client.query_one("SELECT setval('allsource.position_seq', 500000)", &[]).expect("setval");
    append(&mut client, "warm", 1);
    begin_and_roll_back_an_append(&mut open);
    client
        .batch_execute("DROP EXTENSION allsource; CREATE EXTENSION allsource")
        .expect("a new store");
    append(&mut open, "a", 1);
    append(&mut client, "b", 1);
    tail.poll(&mut client, PAGE).expect("es_read_all");
    assert_eq!(safe_position(&mut client).expect("es_safe_position"), 0);
    open.batch_execute("COMMIT").expect("COMMIT");
    while tail.poll(&mut client, PAGE).expect("es_read_all") > 0 {}
    tail.assert_saw_exactly(&all_events(&mut client).expect("the content"));
    assert_sound(&mut client);
}

/// A transaction appends, makes the extension again and uses it, and rolls that back: what it appended
/// before is there again, and still not committed.
#[test]
fn an_append_before_a_rolled_back_drop_holds_readers_back() {
    let cluster = Cluster::with_store("drop-rolled-back");
    let (mut open, mut client) = (cluster.store(), cluster.store());
    append(&mut client, "w", 1);
    for used in [false, true] {
        let mut tail = Tail::after(0);
        open.batch_execute("BEGIN").expect("BEGIN");
        append(&mut open, "a", 1);
        let change = "SAVEPOINT s; DROP EXTENSION allsource; CREATE EXTENSION allsource";
        open.batch_execute(change).expect("a new store");
        if used {
            append(&mut open, "x", 1);
        }
        open.batch_execute("ROLLBACK TO s").expect("ROLLBACK TO");
        tail.poll(&mut client, PAGE).expect("es_read_all");
        let safe = safe_position(&mut client).expect("es_safe_position");
        let query = "SELECT max(\"position\") FROM allsource.event_log";
        let open_position: i64 = open.query_one(query, &[]).expect(query).get(0);
        assert!(safe < open_position, "{safe} is safe, and {open_position} not committed");
        // Others go on meanwhile, in the store that is there again.
        append(&mut client, "w", 1);
        tail.poll(&mut client, PAGE).expect("es_read_all");
        open.batch_execute("COMMIT").expect("COMMIT");
        while tail.poll(&mut client, PAGE).expect("es_read_all") > 0 {}
        tail.assert_saw_exactly(&all_events(&mut client).expect("the content"));
        assert_sound(&mut client);
    }
}
