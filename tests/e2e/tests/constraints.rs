//! What users declare about the store's tables holds for rows that are written below SQL: CHECK and
//! NOT NULL constraints, unique and exclusion constraints that are checked later, replica identities.
//! Each is obeyed as SQL does, or the call is refused; none is passed by.

use allsource_e2e::bulk::{dead_letters, worker_when};
use allsource_e2e::calls::{all_events, assert_verified, names_in};
use allsource_e2e::cluster::STORE;
use allsource_e2e::failure::{NOT_IN_STATE, describe, sqlstate};
use allsource_e2e::{Append, Batch, BatchItem, Cluster, Enqueue, NewEvent};
use postgres::{Client, Error, Transaction};
use serde_json::json;
use uuid::Uuid;

const PARTITION: i32 = 7;
const CHECK: &str = "23514";
const NOT_NULL: &str = "23502";
const UNIQUE: &str = "23505";
const EXCLUSION: &str = "23P01";
const INVALID_COLUMN: &str = "42P10";

fn execute(client: &mut Client, sql: &str) {
    client.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {}", describe(&error)));
}

fn count(client: &mut Client) -> usize {
    all_events(client).expect("the content").len()
}

fn good() -> NewEvent {
    NewEvent { metadata: Some(json!({})), ..NewEvent::new("good", json!({"n": 1})) }
}

fn bad() -> NewEvent {
    NewEvent::new("bad", json!({"n": -1})).with_id(Uuid::from_u128(1))
}

type BadAppend = fn(&mut Transaction<'_>, &str) -> Result<i64, Error>;

/// A bad event by each of the functions.
const BAD_APPENDS: [BadAppend; 3] = [
    |t, stream| Append::to(stream, &[bad()]).one(t),
    |t, stream| Append::to(stream, &[bad()]).many(t),
    |t, stream| {
        let item = BatchItem { stream: stream.to_owned(), expected: None, event: bad() };
        Batch::of(&[item]).append(t).map(|rows| rows[0].last_version)
    },
];

/// A constraint that bad events violate and good ones do not.
const CONSTRAINTS: [(&str, &str); 10] = [
    ("event_log_p07 ADD CONSTRAINT c CHECK (event_types[1] <> 'bad')", CHECK),
    ("event_log ADD CONSTRAINT c CHECK ('bad' <> ALL (event_types))", CHECK),
    ("event_log ADD CONSTRAINT c CHECK ((payloads[1] ->> 'n')::int > 0)", CHECK),
    ("event_log ALTER COLUMN metadata SET NOT NULL", NOT_NULL),
    ("event_log_p07 ADD CONSTRAINT c CHECK (event_ids IS NULL)", CHECK),
    ("event_ids_p07 ADD CONSTRAINT c CHECK (false)", CHECK),
    ("event_ids ADD CONSTRAINT c CHECK (event_id > '00000000-0000-0000-0000-000000000001')", CHECK),
    ("event_log_p07 ADD CONSTRAINT c EXCLUDE (event_ids WITH =)", EXCLUSION),
    ("event_ids_p07 ADD CONSTRAINT c UNIQUE (event_id) DEFERRABLE", UNIQUE),
    ("event_log_p07 ADD CONSTRAINT c UNIQUE (event_ids) DEFERRABLE", UNIQUE),
];

#[test]
fn constraints_that_users_add_are_checked() {
    let cluster = Cluster::with_store("constraints");
    let mut client = cluster.store();
    let names = names_in(&mut client, PARTITION, 3);
    // For the unique ones: what is bad is there already, in another stream.
    let seed = NewEvent { metadata: Some(json!({})), ..bad() };
    Append::to(&names[0], &[seed]).one(&mut client).expect("an append");
    Append::to(&names[1], &[good()]).one(&mut client).expect("an append");
    let mut faults = Vec::new();
    for (constraint, state) in CONSTRAINTS {
        let mut transaction = client.transaction().expect("BEGIN");
        let not_valid = if state == CHECK { "NOT VALID" } else { "" };
        let alter = format!("ALTER TABLE allsource.{constraint} {not_valid}");
        let altered = transaction.batch_execute(&alter);
        altered.unwrap_or_else(|error| panic!("{alter}: {}", describe(&error)));
        for stream in &names[1..] {
            for (number, append) in BAD_APPENDS.iter().enumerate() {
                let mut savepoint = transaction.transaction().expect("SAVEPOINT");
                match append(&mut savepoint, stream) {
                    Ok(_) => faults.push(format!("{constraint}: call {number} succeeded")),
                    Err(error) if [state, NOT_IN_STATE].contains(&sqlstate(&error)) => {}
                    Err(error) => faults.push(format!("{constraint}: {}", describe(&error))),
                }
            }
        }
        transaction.rollback().expect("ROLLBACK");
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert_eq!(count(&mut client), 2);
    assert_verified(&mut client);
}

/// No append gives its events times of their own.
#[test]
fn a_leaf_that_must_have_times_takes_no_append() {
    let cluster = Cluster::with_store("constraints-times");
    let mut client = cluster.store();
    let names = names_in(&mut client, PARTITION, 1);
    execute(
        &mut client,
        "ALTER TABLE allsource.event_log_p07 ALTER COLUMN timestamps SET NOT NULL",
    );
    for append in BAD_APPENDS {
        let mut transaction = client.transaction().expect("BEGIN");
        let error = append(&mut transaction, &names[0]).expect_err("NOT NULL");
        assert_eq!(sqlstate(&error), NOT_NULL, "{}", describe(&error));
    }
    assert_eq!(count(&mut client), 0);
    assert_verified(&mut client);
}

/// Constraints of heads, which are inserted and updated.
#[test]
fn constraints_of_heads_are_checked() {
    let cluster = Cluster::with_store("constraints-heads");
    let mut client = cluster.store();
    let names = names_in(&mut client, PARTITION, 2);
    let events = [good()];
    execute(
        &mut client,
        "ALTER TABLE allsource.event_streams_p07 ADD CONSTRAINT few CHECK (current_version < 3); \
         ALTER TABLE allsource.event_streams ADD CONSTRAINT named CHECK (entity_id <> 'nobody')",
    );
    for version in 1..=2 {
        let written = Append::to(&names[0], &events).one(&mut client).expect("an append");
        assert_eq!(written, version);
    }
    let mut states = vec![Append::to(&names[0], &events).one(&mut client)];
    let three = [good(), good(), good()];
    states.push(Append::to(&names[1], &three).many(&mut client));
    let nobody = Append { entity: Some("nobody"), ..Append::to(&names[1], &events) };
    states.push(nobody.one(&mut client));
    let query = "SELECT current_version FROM allsource.es_create_stream($1, entity_id => 'nobody')";
    states.push(client.query_one(query, &[&names[1]]).map(|row| row.get(0)));
    for (number, outcome) in states.into_iter().enumerate() {
        let error = outcome.expect_err("a violation");
        assert_eq!(sqlstate(&error), CHECK, "call {number}: {}", describe(&error));
    }
    assert_eq!(count(&mut client), 2);
    assert_verified(&mut client);
}

/// At the end of the transaction, whichever kind of write has made the second one of a key.
#[test]
fn deferred_unique_constraints_are_checked_at_commit() {
    let cluster = Cluster::with_store("constraints-deferred");
    let mut client = cluster.store();
    let names = names_in(&mut client, PARTITION, 2);
    for name in &names {
        Append::to(name, &[NewEvent::new(name, json!(1))]).one(&mut client).expect("an append");
    }
    Append::to(&names[0], &[good()]).one(&mut client).expect("an append");
    execute(
        &mut client,
        "ALTER TABLE allsource.event_log_p07
             ADD CONSTRAINT types UNIQUE (event_types) DEFERRABLE INITIALLY DEFERRED;
         ALTER TABLE allsource.event_streams_p07
             ADD CONSTRAINT versions UNIQUE (current_version) DEFERRABLE INITIALLY DEFERRED",
    );
    // Two rows of the log with the same types; then two heads with the same version.
    for event in [good(), NewEvent::new("other", json!(1))] {
        let mut transaction = client.transaction().expect("BEGIN");
        Append::to(&names[1], &[event]).one(&mut transaction).expect("deferred");
        let error = transaction.commit().expect_err("a violation");
        assert_eq!(sqlstate(&error), UNIQUE, "{}", describe(&error));
    }
    // What is put right before the commit is right.
    let two = [NewEvent::new("more", json!(1)), NewEvent::new("more", json!(2))];
    let mut transaction = client.transaction().expect("BEGIN");
    Append::to(&names[1], &[NewEvent::new("other", json!(1))]).one(&mut transaction).expect("two");
    Append::to(&names[1], &two).many(&mut transaction).expect("four");
    transaction.commit().expect("COMMIT");
    assert_eq!(count(&mut client), 6);
    assert_verified(&mut client);
}

/// The worker's writes are checked as well, and what violates a constraint is set aside.
#[test]
fn constraints_hold_for_the_workers() {
    let cluster = Cluster::with_queue("constraints-queue", &[]);
    let mut client = cluster.store();
    let stream = names_in(&mut client, PARTITION, 1).remove(0);
    cluster.execute(
        STORE,
        "ALTER TABLE allsource.event_log ADD CONSTRAINT c CHECK ('bad' <> ALL (event_types))",
    );
    for event in [good(), bad(), good()] {
        Enqueue::to(&stream, &event).send(&mut client).expect("es_enqueue");
    }
    worker_when(&mut client, "all is settled", |worker| worker.drained + worker.dead_letters == 3);
    assert_eq!(count(&mut client), 2);
    assert_eq!(dead_letters(&mut client).expect("es_dead_letters")[0].sqlstate, CHECK);
    assert_verified(&mut client);
}

/// A row that is published with its updates must have an identity, or subscribers could not find it.
#[test]
fn heads_without_replica_identity_are_refused_where_they_are_published() {
    let cluster = Cluster::with_store_and("constraints-published", &["wal_level=logical"]);
    let mut client = cluster.store();
    let names = names_in(&mut client, PARTITION, 3);
    let events = [good()];
    Append::to(&names[0], &events).one(&mut client).expect("an append");
    let leaf = "allsource.event_streams_p07";
    let cases = [
        (format!("CREATE PUBLICATION p FOR TABLE {leaf}"), "NOTHING", NOT_IN_STATE),
        ("CREATE PUBLICATION p FOR ALL TABLES".to_owned(), "NOTHING", NOT_IN_STATE),
        (
            "CREATE PUBLICATION p FOR TABLE allsource.event_streams".to_owned(),
            "NOTHING",
            NOT_IN_STATE,
        ),
        (
            format!("CREATE PUBLICATION p FOR TABLE {leaf} WHERE (current_version > 0)"),
            "DEFAULT",
            INVALID_COLUMN,
        ),
        (
            format!("CREATE PUBLICATION p FOR TABLE {leaf} (current_version)"),
            "DEFAULT",
            INVALID_COLUMN,
        ),
    ];
    let mut faults = Vec::new();
    for (publication, identity, state) in cases {
        execute(
            &mut client,
            &format!("{publication}; ALTER TABLE {leaf} REPLICA IDENTITY {identity}"),
        );
        let update = format!("UPDATE {leaf} SET watermark = watermark");
        let by_sql = client.batch_execute(&update).expect_err("an UPDATE without identity");
        assert_eq!(sqlstate(&by_sql), state, "{publication}: {}", describe(&by_sql));
        match Append::to(&names[0], &events).one(&mut client) {
            Ok(_) => faults.push(format!("{publication}, {identity}: appended")),
            Err(error) if sqlstate(&error) == state => {}
            Err(error) => faults.push(format!("{publication}: {}", describe(&error))),
        }
        execute(
            &mut client,
            &format!("ALTER TABLE {leaf} REPLICA IDENTITY DEFAULT; DROP PUBLICATION p"),
        );
    }
    assert!(faults.is_empty(), "{faults:#?}");
    // Insertions are published without one, and so is everything where there is one.
    execute(&mut client, &format!("CREATE PUBLICATION p FOR TABLE {leaf}"));
    Append::to(&names[0], &events).one(&mut client).expect("an append");
    execute(&mut client, &format!("ALTER TABLE {leaf} REPLICA IDENTITY NOTHING"));
    Append::to(&names[1], &events).one(&mut client).expect("a new stream");
    execute(&mut client, "ALTER PUBLICATION p SET (publish = 'insert, delete')");
    Append::to(&names[0], &events).one(&mut client).expect("updates are not published");
    execute(
        &mut client,
        &format!(
            "ALTER PUBLICATION p SET (publish = 'update'); ALTER TABLE {leaf} REPLICA IDENTITY FULL"
        ),
    );
    Append::to(&names[0], &events).one(&mut client).expect("the whole row is its identity");
    assert_verified(&mut client);
}
