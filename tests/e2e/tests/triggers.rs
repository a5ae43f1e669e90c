//! The store writes below SQL, and yet row triggers of its tables fire as they do for INSERT and
//! UPDATE: audits, projections, replication by triggers and foreign keys miss nothing. What cannot be
//! served is refused, and then nothing is written.

use allsource_e2e::bulk::{Enqueue, dead_letters, flush, worker_when};
use allsource_e2e::calls::{all_events, assert_verified, names_in};
use allsource_e2e::cluster::STORE;
use allsource_e2e::failure::{NOT_IN_STATE, describe, refusal};
use allsource_e2e::{Append, Batch, BatchItem, Cluster, NewEvent, patience};
use postgres::{Client, Error, GenericClient};
use serde_json::json;
use uuid::Uuid;

const RAISED: &str = "P0001";
const FOREIGN_KEY: &str = "23503";
const PARTITION: i32 = 7;
const TABLES: [&str; 3] = ["event_streams", "event_log", "event_ids"];
/// More than one row of the log holds, and more than are inserted at a time.
const MANY: usize = 20_000;

/// Notes each row as a trigger is shown it. Whoever appends has no rights on the table.
const AUDIT: &str = "
    CREATE TABLE audit (n bigserial PRIMARY KEY, moment text, leaf text, new jsonb, old jsonb);
    CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
    BEGIN
        INSERT INTO audit (moment, leaf, new, old)
        VALUES (TG_WHEN || ' ' || TG_OP, TG_TABLE_NAME, to_jsonb(NEW),
                CASE TG_OP WHEN 'UPDATE' THEN to_jsonb(OLD) END);
        RETURN NEW;
    END $$";

fn event(number: usize) -> NewEvent {
    NewEvent::new("t", json!({"n": number}))
}

fn identified(number: usize) -> NewEvent {
    event(number).with_id(Uuid::from_u128(number as u128 + 1))
}

fn count(client: &mut impl GenericClient, query: &str) -> i64 {
    client.query_one(query, &[]).unwrap_or_else(|e| panic!("{query}: {}", describe(&e))).get(0)
}

fn execute(client: &mut impl GenericClient, sql: &str) {
    client.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {}", describe(&error)));
}

/// Every kind of write there is. `name` keeps the streams of several calls apart.
fn write_everything(client: &mut Client, name: &str) {
    let query = "SELECT current_version FROM allsource.es_create_stream($1, entity_id => 'e')";
    client.query_one(query, &[&format!("{name}-created")]).expect("es_create_stream");
    let (single, many) = (format!("{name}-single"), format!("{name}-many"));
    for number in 0..3 {
        Append::to(&single, &[identified(number)]).one(client).expect("es_append");
        Append::to(&format!("{name}-created"), &[event(number)]).one(client).expect("es_append");
    }
    let events: Vec<NewEvent> = (0..700).map(identified).collect();
    Append::to(&many, &events).many(client).expect("es_append_many");
    let events: Vec<NewEvent> = (0..MANY).map(event).collect();
    Append::to(&many, &events).many(client).expect("es_append_many");
    let item = |number: usize| BatchItem {
        stream: format!("{name}-batch-{}", number % 40),
        expected: None,
        event: identified(number),
    };
    for _ in 0..2 {
        let items: Vec<BatchItem> = (0..100).map(item).collect();
        Batch::of(&items).append(client).expect("es_append_batch");
    }
    let items: Vec<BatchItem> = (100..200).map(item).collect();
    Batch::of(&items).append(client).expect("es_append_batch");
}

fn enqueue_everything(client: &mut Client) {
    for number in 0..60 {
        let stream = format!("queue-{}", number % 20);
        Enqueue::to(&stream, &identified(number)).send(client).expect("es_enqueue");
    }
    flush(client).expect("es_flush");
}

/// The rows that triggers were shown at `moment` are the rows that were written.
fn assert_audited(client: &mut Client, when: &str) {
    for table in ["event_log", "event_ids"] {
        let query = format!(
            "WITH seen AS (SELECT new FROM audit WHERE leaf LIKE '{table}%' \
                           AND moment = '{when} INSERT'), \
                  stored AS (SELECT to_jsonb(t) FROM allsource.{table} t) \
             SELECT (SELECT count(*) FROM (TABLE stored EXCEPT ALL TABLE seen) AS missed) \
                  + (SELECT count(*) FROM (TABLE seen EXCEPT ALL TABLE stored) AS invented)"
        );
        assert!(count(client, &format!("SELECT count(*) FROM allsource.{table}")) > 100);
        assert_eq!(count(client, &query), 0, "{when} triggers of {table}");
    }
    // A head is seen at its insertion, and each update begins where the one before it ended.
    let query = format!(
        "WITH seen AS (SELECT n, old, new FROM audit WHERE leaf LIKE 'event_streams%' \
                       AND moment IN ('{when} INSERT', '{when} UPDATE')), \
              chain AS (SELECT lag(new) OVER w AS before, old, new, \
                               lead(new) OVER w IS NULL AS is_last FROM seen \
                        WINDOW w AS (PARTITION BY new ->> 'stream_no' ORDER BY n)), \
              last AS (SELECT new FROM chain WHERE is_last), \
              stored AS (SELECT to_jsonb(s) FROM allsource.event_streams s) \
         SELECT (SELECT count(*) FROM chain WHERE old IS DISTINCT FROM before) \
              + (SELECT count(*) FROM (TABLE stored EXCEPT ALL TABLE last) AS missed) \
              + (SELECT count(*) FROM (TABLE last EXCEPT ALL TABLE stored) AS invented)"
    );
    assert!(count(client, "SELECT count(*) FROM allsource.event_streams") > 20);
    assert_eq!(count(client, &query), 0, "{when} triggers of event_streams");
}

#[test]
fn triggers_see_every_row_that_is_written() {
    let cluster = Cluster::with_queue("triggers", &[]);
    let mut client = cluster.store();
    execute(&mut client, AUDIT);
    // In a session that knows the tables without triggers.
    Append::to("before", &[event(0)]).one(&mut client).expect("es_append");
    for table in TABLES {
        execute(&mut client, &format!("TRUNCATE allsource.{table}"));
        for when in ["BEFORE", "AFTER"] {
            execute(
                &mut client,
                &format!(
                    "CREATE TRIGGER audit_{when} {when} INSERT OR UPDATE ON allsource.{table} \
                     FOR EACH ROW EXECUTE FUNCTION audit(); \
                     ALTER TABLE allsource.{table} ENABLE ALWAYS TRIGGER audit_{when}"
                ),
            );
        }
    }
    write_everything(&mut client, "one");
    write_everything(&mut cluster.store(), "other");
    enqueue_everything(&mut client);
    for when in ["BEFORE", "AFTER"] {
        assert_audited(&mut client, when);
    }
    assert_verified(&mut client);
}

/// How each state of a trigger goes with each replication role of a session.
#[test]
fn triggers_fire_by_the_role_of_the_session() {
    let cluster = Cluster::with_queue("triggers-role", &[]);
    let mut client = cluster.store();
    execute(&mut client, AUDIT);
    let stream = &names_in(&mut client, PARTITION, 1)[0];
    execute(
        &mut client,
        "CREATE TRIGGER audit AFTER INSERT ON allsource.event_log_p07 \
         FOR EACH ROW EXECUTE FUNCTION audit()",
    );
    let states =
        [("ENABLE", 0b011), ("ENABLE REPLICA", 0b100), ("ENABLE ALWAYS", 0b111), ("DISABLE", 0)];
    for (state, fires) in states {
        execute(&mut client, &format!("ALTER TABLE allsource.event_log_p07 {state} TRIGGER audit"));
        for (bit, role) in ["origin", "local", "replica"].iter().enumerate() {
            execute(&mut client, &format!("SET session_replication_role = {role}; TRUNCATE audit"));
            Append::to(stream, &[event(1)]).one(&mut client).expect("es_append");
            let fired = count(&mut client, "SELECT count(*) FROM audit");
            assert_eq!(fired, (fires >> bit) & 1, "{state} TRIGGER, {role}");
        }
        // The worker's session is a replica's.
        execute(&mut client, "TRUNCATE audit");
        Enqueue::to(stream, &event(1)).durably().send(&mut client).expect("es_enqueue");
        let fired = count(&mut client, "SELECT count(*) FROM audit");
        assert_eq!(fired, fires >> 2, "{state} TRIGGER, worker");
    }
    assert_verified(&mut client);
}

/// Conditions and lists of columns are those of the statement that an append stands for: it sets the
/// versions and the time of a head.
#[test]
fn triggers_have_their_conditions() {
    let cluster = Cluster::with_store("triggers-when");
    let mut client = cluster.store();
    execute(&mut client, AUDIT);
    let stream = &names_in(&mut client, PARTITION, 1)[0];
    let trigger = |name: &str, event: &str, table: &str, condition: &str| {
        format!(
            "CREATE TRIGGER {name} AFTER {event} ON allsource.{table}_p07 FOR EACH ROW \
             WHEN ({condition}) EXECUTE FUNCTION audit()"
        )
    };
    let (version, grown) =
        ("UPDATE OF current_version", "NEW.current_version = OLD.current_version + 2");
    Append::to(stream, &[event(0)]).one(&mut client).expect("es_append");
    for (sql, expected) in [
        (trigger("a", version, "event_streams", grown), 1),
        (trigger("b", version, "event_streams", "NEW.current_version = OLD.current_version"), 0),
        (trigger("c", "UPDATE OF entity_id", "event_streams", "true"), 0),
        (trigger("d", "INSERT", "event_streams", "true"), 0),
        (trigger("e", "INSERT", "event_log", "NEW.event_types[1] = 't'"), 1),
        (trigger("f", "INSERT", "event_log", "NEW.event_types[1] = 'u'"), 0),
        (trigger("g", "UPDATE OR DELETE", "event_log", "true"), 0),
    ] {
        execute(&mut client, &sql);
        Append::to(stream, &[event(0), event(1)]).many(&mut client).expect("es_append_many");
        assert_eq!(count(&mut client, "SELECT count(*) FROM audit"), expected, "{sql}");
        let table = if sql.contains("event_log") { "event_log" } else { "event_streams" };
        let name = &sql[15..16];
        execute(
            &mut client,
            &format!("DROP TRIGGER {name} ON allsource.{table}_p07; TRUNCATE audit"),
        );
    }
}

/// A call, and the tables that it writes to.
type Write = (&'static str, fn(&mut Client, &str) -> Result<(), Error>);

const WRITES: [Write; 4] = [
    ("es_append", |client, stream| Append::to(stream, &[identified(1)]).one(client).map(drop)),
    ("es_append_many", |client, stream| {
        let events: Vec<NewEvent> = (0..600).map(identified).collect();
        Append::to(stream, &events).many(client).map(drop)
    }),
    ("es_append_batch", |client, stream| {
        let item = BatchItem { stream: stream.to_owned(), expected: None, event: identified(1) };
        Batch::of(&[item]).append(client).map(drop)
    }),
    ("es_create_stream", |client, stream| {
        client.query("SELECT allsource.es_create_stream($1)", &[&stream]).map(drop)
    }),
];

fn stored(client: &mut Client) -> String {
    let query = "SELECT coalesce((SELECT json_agg(s ORDER BY stream_no)::text FROM allsource.event_streams s), '') \
                 || (SELECT count(*) FROM allsource.event_log) \
                 || (SELECT count(*) FROM allsource.event_ids)";
    client.query_one(query, &[]).expect("the tables").get(0)
}

/// What a BEFORE trigger makes of a row is not what the caller was told, nor what the checksum is of.
#[test]
fn a_trigger_that_changes_or_suppresses_a_row_is_refused() {
    let cluster = Cluster::with_store("triggers-change");
    let mut client = cluster.store();
    let names = names_in(&mut client, PARTITION, 2);
    let (old, new) = (&names[0], &names[1]);
    Append::to(old, &[event(0)]).one(&mut client).expect("es_append");
    execute(
        &mut client,
        "CREATE TABLE traces (n int);
         CREATE FUNCTION suppress() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN INSERT INTO public.traces VALUES (1); RETURN NULL; END $$;
         CREATE FUNCTION change_streams() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN NEW.updated_at := '2000-01-01'; RETURN NEW; END $$;
         CREATE FUNCTION change_log() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN NEW.event_types[1] := 'other'; RETURN NEW; END $$;
         CREATE FUNCTION change_ids() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN NEW.version := 77; RETURN NEW; END $$",
    );
    let mut faults = Vec::new();
    for table in TABLES {
        let change = table.replace("event_", "change_");
        for function in ["suppress", &change] {
            execute(
                &mut client,
                &format!(
                    "CREATE TRIGGER t BEFORE INSERT OR UPDATE ON allsource.{table}_p07 \
                     FOR EACH ROW EXECUTE FUNCTION {function}()"
                ),
            );
            for (name, write) in WRITES {
                for stream in [old, new] {
                    let writes_nothing =
                        name == "es_create_stream" && (stream == old || table != "event_streams");
                    if writes_nothing {
                        continue;
                    }
                    let before = stored(&mut client);
                    let state = match write(&mut client, stream) {
                        Ok(()) => "no error".to_owned(),
                        Err(error) => refusal::<()>(Err(error)),
                    };
                    let same = stored(&mut client) == before;
                    if state != NOT_IN_STATE || !same {
                        faults.push(format!(
                            "{table}, {function}, {name} to {stream}: {state}, unchanged: {same}"
                        ));
                    }
                }
            }
            execute(&mut client, &format!("DROP TRIGGER t ON allsource.{table}_p07"));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert_eq!(count(&mut client, "SELECT count(*) FROM traces"), 0);
    Append::to(old, &[event(1)]).one(&mut client).expect("es_append");
    assert_verified(&mut client);
}

/// The error of a trigger is the error of the call, whichever table it is on and whenever it fires.
#[test]
fn an_error_of_a_trigger_fails_the_call() {
    let cluster = Cluster::with_store("triggers-raise");
    let mut client = cluster.store();
    let stream = &names_in(&mut client, PARTITION, 1)[0];
    Append::to(stream, &[event(0)]).one(&mut client).expect("es_append");
    execute(
        &mut client,
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN RAISE 'not today'; END $$",
    );
    for table in TABLES {
        for when in ["BEFORE", "AFTER"] {
            execute(
                &mut client,
                &format!(
                    "CREATE TRIGGER t {when} INSERT OR UPDATE ON allsource.{table}_p07 \
                     FOR EACH ROW EXECUTE FUNCTION fail()"
                ),
            );
            let before = stored(&mut client);
            for (name, write) in &WRITES[..3] {
                let state = refusal(write(&mut client, stream));
                assert_eq!(state, RAISED, "{name} with {when} trigger on {table}");
            }
            assert_eq!(stored(&mut client), before);
            execute(&mut client, &format!("DROP TRIGGER t ON allsource.{table}_p07"));
        }
    }
    WRITES[1].1(&mut client, stream).expect("an append without triggers");
    assert_verified(&mut client);
}

/// Deferred to the commit, or until the transaction asks; not for what a savepoint has taken back.
#[test]
fn constraint_triggers_are_deferred() {
    let cluster = Cluster::with_store("triggers-deferred");
    let mut client = cluster.store();
    let names = names_in(&mut client, PARTITION, 2);
    execute(
        &mut client,
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN RAISE 'not %', TG_OP; END $$;
         CREATE CONSTRAINT TRIGGER log AFTER INSERT ON allsource.event_log_p07
             DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
             WHEN (NEW.event_types[1] = 'bad') EXECUTE FUNCTION fail();
         CREATE CONSTRAINT TRIGGER head AFTER UPDATE ON allsource.event_streams_p07
             DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
             WHEN (NEW.current_version = 3) EXECUTE FUNCTION fail()",
    );
    let bad = [NewEvent::new("bad", json!(1))];
    let good = [event(1)];
    let before = stored(&mut client);

    let mut transaction = client.transaction().expect("BEGIN");
    Append::to(&names[0], &bad).one(&mut transaction).expect("deferred");
    assert_eq!(count(&mut transaction, "SELECT count(*) FROM allsource.events"), 1);
    assert_eq!(refusal(transaction.commit()), RAISED);
    assert_eq!(refusal(Append::to(&names[0], &bad).one(&mut client)), RAISED);

    let mut transaction = client.transaction().expect("BEGIN");
    Append::to(&names[0], &bad).one(&mut transaction).expect("deferred");
    let immediate = transaction.batch_execute("SET CONSTRAINTS ALL IMMEDIATE");
    assert_eq!(refusal(immediate), RAISED);
    transaction.rollback().expect("ROLLBACK");
    assert_eq!(stored(&mut client), before);

    // What is taken back is not looked at.
    let mut transaction = client.transaction().expect("BEGIN");
    Append::to(&names[0], &good).one(&mut transaction).expect("an append");
    let mut savepoint = transaction.savepoint("s").expect("SAVEPOINT");
    Append::to(&names[0], &bad).one(&mut savepoint).expect("deferred");
    savepoint.rollback().expect("ROLLBACK TO");
    transaction.commit().expect("COMMIT");

    // Heads that are updated more than once in a transaction.
    let mut transaction = client.transaction().expect("BEGIN");
    for _ in 0..3 {
        Append::to(&names[0], &good).one(&mut transaction).expect("deferred");
    }
    assert_eq!(refusal(transaction.commit()), RAISED);
    assert_eq!(all_events(&mut client).expect("the content").len(), 1);
    assert_verified(&mut client);
}

/// Foreign keys are row triggers, too.
#[test]
fn foreign_keys_are_checked() {
    let cluster = Cluster::with_store("triggers-keys");
    let mut client = cluster.store();
    let names = names_in(&mut client, PARTITION, 3);
    execute(
        &mut client,
        "CREATE TABLE customers (id text PRIMARY KEY);
         INSERT INTO customers VALUES ('known');
         ALTER TABLE allsource.event_streams
             ADD CONSTRAINT customer FOREIGN KEY (entity_id) REFERENCES customers",
    );
    let events = [event(1)];
    let of = |entity, stream| Append { entity, ..Append::to(stream, &events) };
    assert_eq!(refusal(of(Some("unknown"), &names[0]).one(&mut client)), FOREIGN_KEY);
    let query = "SELECT allsource.es_create_stream($1, entity_id => 'unknown')";
    assert_eq!(refusal(client.query(query, &[&names[0]])), FOREIGN_KEY);
    for turn in 1..=2 {
        let version = of(Some("known"), &names[1]).one(&mut client).expect("es_append");
        assert_eq!(version, turn);
    }
    of(None, &names[2]).one(&mut client).expect("es_append");
    assert_eq!(refusal(client.execute("DELETE FROM customers", &[])), FOREIGN_KEY);
    assert_eq!(all_events(&mut client).expect("the content").len(), 3);
    assert_verified(&mut client);
}

/// A projection that appends to another stream, in the middle of an append or at its end. A trigger
/// that appends to the stream itself changes what is being written.
#[test]
fn triggers_may_append_to_other_streams() {
    let cluster = Cluster::with_store("triggers-nested");
    let mut client = cluster.store();
    let names = names_in(&mut client, PARTITION, 2);
    let other = names_in(&mut client, PARTITION + 1, 1).remove(0);
    execute(
        &mut client,
        "CREATE FUNCTION project() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF pg_trigger_depth() < 2 THEN
                 PERFORM allsource.es_append(TG_ARGV[0], 'projected', '{}');
             END IF;
             RETURN NEW;
         END $$",
    );
    for table in ["event_log", "event_streams"] {
        for when in ["BEFORE", "AFTER"] {
            for target in [&other, &names[1], &names[0]] {
                execute(
                    &mut client,
                    &format!(
                        "CREATE TRIGGER t {when} INSERT OR UPDATE ON allsource.{table}_p07 \
                         FOR EACH ROW EXECUTE FUNCTION project('{target}')"
                    ),
                );
                let before = all_events(&mut client).expect("the content").len();
                let appended = Append::to(&names[0], &[event(1), event(2)]).many(&mut client);
                let after = all_events(&mut client).expect("the content").len();
                let what = format!("{when} trigger on {table} that appends to {target}");
                match appended {
                    Ok(_) => assert!(after >= before + 3, "{what}: {before} and then {after}"),
                    Err(error) => {
                        assert_eq!(after, before, "{what}");
                        // Heads have moved on by then, and have no positions yet.
                        let between = table == "event_streams" || *target == names[0];
                        assert!(between && when == "BEFORE", "{what}: {}", describe(&error));
                    }
                }
                assert_verified(&mut client);
                execute(&mut client, &format!("DROP TRIGGER t ON allsource.{table}_p07"));
            }
        }
    }
}

/// What the worker must not write is not lost: it waits, or is set aside with the reason.
#[test]
fn what_a_trigger_suppresses_is_not_lost_in_the_queue() {
    let cluster = Cluster::with_queue("triggers-queue", &[]);
    let mut client = cluster.store();
    let stream = &names_in(&mut client, PARTITION, 1)[0];
    execute(
        &mut client,
        "CREATE FUNCTION suppress() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER t BEFORE INSERT ON allsource.event_log_p07
             FOR EACH ROW EXECUTE FUNCTION suppress();
         ALTER TABLE allsource.event_log_p07 ENABLE ALWAYS TRIGGER t",
    );
    Enqueue::to(stream, &event(1)).send(&mut client).expect("es_enqueue");
    worker_when(&mut client, "the worker has tried", |worker| {
        worker.last_error.is_some() || worker.dead_letters == 1 || worker.drained == 1
    });
    assert_eq!(all_events(&mut client).expect("the content"), []);
    cluster.execute(STORE, "DROP TRIGGER t ON allsource.event_log_p07");
    patience::until_true("the event is written or set aside", || {
        let written = all_events(&mut client).expect("the content").len();
        let aside = dead_letters(&mut client).expect("es_dead_letters").len();
        assert!(written + aside <= 1, "{written} written, {aside} set aside");
        written + aside == 1
    });
    assert_verified(&mut client);
}

/// A trigger on the head of one stream of a batch appends to another one, whose head the batch has
/// moved on already or will: positions keep to the versions, or the call is refused.
#[test]
fn a_trigger_that_appends_to_streams_of_the_batch_disturbs_no_order() {
    let cluster = Cluster::with_store("triggers-batch");
    let mut client = cluster.store();
    let mut names = names_in(&mut client, PARTITION, 2);
    names.push(names_in(&mut client, PARTITION + 1, 1).remove(0));
    names.push(names_in(&mut client, PARTITION - 1, 1).remove(0));
    execute(
        &mut client,
        "CREATE FUNCTION project() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF pg_trigger_depth() < 2 AND NEW.stream_id = TG_ARGV[0] THEN
                 PERFORM allsource.es_append(TG_ARGV[1], 'projected', '{}');
             END IF;
             RETURN NEW;
         END $$",
    );
    for round in 0..2 {
        for from in &names {
            for to in names.iter().filter(|name| *name != from) {
                for when in ["BEFORE", "AFTER"] {
                    execute(
                        &mut client,
                        &format!(
                            "CREATE TRIGGER t {when} INSERT OR UPDATE ON allsource.event_streams \
                             FOR EACH ROW EXECUTE FUNCTION project('{from}', '{to}')"
                        ),
                    );
                    let item = |stream: &String| BatchItem {
                        stream: stream.clone(),
                        expected: None,
                        event: event(round),
                    };
                    let items: Vec<BatchItem> = names.iter().map(item).collect();
                    let before = all_events(&mut client).expect("the content").len();
                    let appended = Batch::of(&items).append(&mut client);
                    let after = all_events(&mut client).expect("the content").len();
                    let written = if appended.is_ok() { items.len() + 1 } else { 0 };
                    assert_eq!(after - before, written, "{when} {from} to {to}: {appended:?}");
                    let faults = allsource_e2e::calls::verify(&mut client).expect("es_verify");
                    assert!(faults.is_empty(), "{when} trigger of {from} to {to}: {faults:?}");
                    execute(&mut client, "DROP TRIGGER t ON allsource.event_streams");
                }
            }
        }
    }
}
