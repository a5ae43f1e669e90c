//! Numbers of streams: no session's own sequences are disturbed by them, and none is given twice, by
//! whatever session, before or after a crash, a restore, or a drop.

use std::thread;

use allsource_e2e::calls::{assert_verified, names_in};
use allsource_e2e::cluster::{STORE, Stop};
use allsource_e2e::failure::{NOT_IN_STATE, describe, refusal};
use allsource_e2e::{Append, Cluster, Dump, Enqueue, NewEvent};
use postgres::Client;
use serde_json::json;

const SESSIONS: usize = 6;
const STREAMS_OF_SESSION: usize = 30;
const OTHER: &str = "other";

fn append(client: &mut Client, stream: &str) {
    let event = [NewEvent::new("t", json!(1))];
    Append::to(stream, &event).one(client).unwrap_or_else(|e| panic!("{}", describe(&e)));
}

fn create(client: &mut Client, stream: &str) {
    let query = "SELECT stream_no FROM allsource.es_create_stream($1)";
    client.query_one(query, &[&stream]).expect("es_create_stream");
}

fn number(client: &mut Client, query: &str) -> i64 {
    client.query_one(query, &[]).unwrap_or_else(|e| panic!("{query}: {}", describe(&e))).get(0)
}

/// Each stream has a number of its own, and the next session will not give out one of them.
fn assert_unique(client: &mut Client, streams: i64) {
    let row = client
        .query_one(
            "SELECT count(*), count(DISTINCT stream_no), max(stream_no & ((1::int8 << 46) - 1)), \
             (SELECT last_value FROM allsource.stream_no_seq) FROM allsource.event_streams",
            &[],
        )
        .expect("the streams");
    let [count, distinct, highest, sequence] = [0, 1, 2, 3].map(|column| row.get::<_, i64>(column));
    assert_eq!(count, streams);
    assert_eq!(distinct, count, "numbers given twice");
    assert!(sequence >= highest, "the sequence is at {sequence}, and a stream has {highest}");
    assert_verified(client);
}

#[test]
fn a_session_keeps_its_last_value() {
    let cluster = Cluster::with_store("numbers-lastval");
    cluster.execute(
        STORE,
        "CREATE SEQUENCE mine START 77; CREATE ROLE app LOGIN; GRANT allsource_writer TO app; \
         GRANT ALL ON SEQUENCE mine TO app",
    );
    for role in ["postgres", "app"] {
        let mut client = cluster.store();
        client.batch_execute(&format!("SET ROLE {role}")).expect("SET ROLE");
        // Nothing was taken from any sequence yet.
        append(&mut client, &format!("{role}-1"));
        create(&mut client, &format!("{role}-2"));
        assert_eq!(refusal(client.query_one("SELECT lastval()", &[])), NOT_IN_STATE, "{role}");
        let taken = number(&mut client, "SELECT nextval('mine')");
        append(&mut client, &format!("{role}-3"));
        create(&mut client, &format!("{role}-4"));
        assert_eq!(number(&mut client, "SELECT lastval()"), taken, "{role}");
        assert_eq!(number(&mut client, "SELECT currval('mine')"), taken, "{role}");
    }
    assert_unique(&mut cluster.store(), 8);
}

/// Numbers do not depend on transactions: one that stays open after it has made a stream keeps nobody
/// from making others, and they cannot wait for each other.
#[test]
fn an_open_transaction_keeps_nobody_from_making_streams() {
    let cluster = Cluster::with_queue("numbers-open", &[]);
    let mut sessions: Vec<Client> = (0..3).map(|_| cluster.store()).collect();
    for client in &mut sessions {
        client.batch_execute("SET lock_timeout = '10s'; BEGIN").expect("BEGIN");
    }
    for round in 0..3 {
        for (session, client) in sessions.iter_mut().enumerate() {
            append(client, &format!("s-{session}-{round}"));
            create(client, &format!("created-{session}-{round}"));
        }
    }
    let event = NewEvent::new("t", json!(1));
    Enqueue::to("queued", &event).durably().send(&mut cluster.store()).expect("es_enqueue");
    for client in &mut sessions {
        client.batch_execute("COMMIT").expect("COMMIT");
    }
    assert_unique(&mut sessions[0], 19);
}

/// Streams made by several sessions at once, whose savepoints and transactions roll back, who end
/// with what they have reserved, and a server that crashes.
#[test]
fn numbers_are_unique_across_sessions_and_crashes() {
    let cluster = Cluster::with_store("numbers-crash");
    let mut streams = 0;
    for (round, stop) in [Stop::Kill, Stop::Fast, Stop::Immediate].into_iter().enumerate() {
        thread::scope(|scope| {
            for session in 0..SESSIONS {
                let mut client = cluster.store();
                scope.spawn(move || {
                    for stream in 0..STREAMS_OF_SESSION {
                        let name = format!("s-{round}-{session}-{stream}");
                        if stream % 7 == 0 {
                            client.batch_execute("BEGIN").expect("BEGIN");
                            append(&mut client, &name);
                            client.batch_execute("ROLLBACK").expect("ROLLBACK");
                        }
                        append(&mut client, &name);
                    }
                });
            }
        });
        streams += (SESSIONS * STREAMS_OF_SESSION) as i64;
        assert_unique(&mut cluster.store(), streams);
        cluster.stop(stop);
        cluster.resume();
        cluster.connect_when_ready(STORE);
    }
    append(&mut cluster.store(), "last");
    assert_unique(&mut cluster.store(), streams + 1);
}

/// A dump is restored where a session has made streams before, which are gone by then. Its next
/// numbers are above those that the dump brings, whatever it has reserved.
#[test]
fn numbers_are_unique_after_a_restore() {
    let cluster = Cluster::with_queue("numbers-restore", &[]);
    cluster.create_store(OTHER);
    let mut other = cluster.connect(OTHER);
    for stream in 0..300 {
        append(&mut other, &format!("other-{stream}"));
    }
    let dump = Dump::of(&cluster, OTHER, &["--format=custom", "--data-only"]);
    let mut sessions = [cluster.store(), cluster.store()];
    for client in &mut sessions {
        create(client, "before");
        client.batch_execute("TRUNCATE allsource.event_streams").expect("TRUNCATE");
    }
    dump.restore_with_pg_restore(&cluster, STORE, &[]);
    for stream in 0..300 {
        create(&mut sessions[stream % 2], &format!("new-{stream}"));
    }
    assert_unique(&mut sessions[0], 600);
}

/// What was reserved of a sequence says nothing about the sequence of a later incarnation.
#[test]
fn numbers_are_unique_in_a_new_incarnation() {
    let cluster = Cluster::with_store("numbers-incarnation");
    let mut sessions: Vec<Client> = (0..3).map(|_| cluster.store()).collect();
    for round in 0..3 {
        for (session, client) in sessions.iter_mut().enumerate() {
            for stream in 0..40 {
                append(client, &format!("s-{session}-{stream}"));
            }
        }
        assert_unique(&mut cluster.store(), 120);
        let change = "DROP EXTENSION allsource; CREATE EXTENSION allsource";
        sessions[round].batch_execute(change).expect("a new incarnation");
    }
}

/// Somebody has set the sequence below the numbers that streams have.
#[test]
fn numbers_go_on_above_those_of_streams_after_a_setval() {
    const IN_PARTITION: usize = 60;
    let cluster = Cluster::with_queue("numbers-setval", &[]);
    let mut client = cluster.store();
    let names: Vec<Vec<String>> =
        (7..9).map(|partition| names_in(&mut client, partition, IN_PARTITION as i64)).collect();
    for name in names.iter().flat_map(|names| &names[..40]) {
        append(&mut client, name);
    }
    let lower = |client: &mut Client| {
        client.query_one("SELECT setval('allsource.stream_no_seq', 1)", &[]).expect("setval");
    };
    lower(&mut client);
    for names in &names {
        append(&mut client, &names[40]);
        create(&mut client, &names[41]);
    }
    lower(&mut client);
    let event = NewEvent::new("t", json!(1));
    Enqueue::to(&names[0][42], &event).durably().send(&mut client).expect("es_enqueue");
    lower(&mut client);
    let streams: Vec<&str> =
        names.iter().flat_map(|names| &names[43..]).map(String::as_str).collect();
    let query = "SELECT count(*) FROM allsource.es_append_batch($1::text[], array_fill('t'::text, \
                 ARRAY[cardinality($1::text[])]), array_fill('1'::jsonb, ARRAY[cardinality($1::text[])]))";
    client.query_one(query, &[&streams]).unwrap_or_else(|e| panic!("{}", describe(&e)));
    assert_unique(&mut client, 2 * IN_PARTITION as i64 - 1);
}
