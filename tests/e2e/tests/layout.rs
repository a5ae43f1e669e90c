//! Tables and indexes that have the right name and are something else: whoever writes below SQL has to
//! notice it before it reads or writes a byte. Calls are refused with 55000, nothing is written, and
//! nothing crashes.

use allsource_e2e::calls::{assert_verified, names_in};
use allsource_e2e::cluster::STORE;
use allsource_e2e::failure::{NOT_IN_STATE, describe, sqlstate};
use allsource_e2e::{Append, Batch, BatchItem, Cluster, NewEvent, ReadAll, ReadStream};
use postgres::{Client, Error, GenericClient};
use serde_json::json;
use uuid::Uuid;

const PARTITION: i32 = 7;
const CHECK_VIOLATION: &str = "23514";
const WRONG_KIND: &str = "42809";

/// What somebody does to the tables, and the SQLSTATEs that an append may answer with.
struct Case {
    sql: String,
    states: &'static [&'static str],
    /// Or else the append must be right.
    may_succeed: bool,
}

fn refused(sql: impl Into<String>) -> Case {
    Case { sql: sql.into(), states: &[NOT_IN_STATE], may_succeed: false }
}

fn refused_or_right(sql: impl Into<String>) -> Case {
    Case { sql: sql.into(), states: &[NOT_IN_STATE], may_succeed: true }
}

fn columns() -> Vec<Case> {
    let altered = [
        "event_ids ALTER COLUMN event_id TYPE text",
        "event_ids ALTER COLUMN event_id TYPE int4 USING hashtext(event_id::text)",
        "event_ids ALTER COLUMN version TYPE int4",
        "event_ids ALTER COLUMN version TYPE numeric",
        "event_ids ALTER COLUMN partition_id SET DEFAULT 7, DROP COLUMN version",
        "event_ids RENAME COLUMN event_id TO id",
        "event_ids ADD COLUMN remark text",
        "event_ids ADD COLUMN twice int8 GENERATED ALWAYS AS (version * 2) STORED",
        "event_log ALTER COLUMN checksum TYPE int8",
        "event_log ALTER COLUMN checksum TYPE text",
        "event_log DROP COLUMN checksum",
        "event_log DROP COLUMN checksum, ADD COLUMN checksum int4",
        "event_log RENAME COLUMN checksum TO event_type",
        "event_log RENAME COLUMN payloads TO bodies",
        "event_log RENAME COLUMN timestamps TO times",
        "event_streams ALTER COLUMN watermark TYPE int4",
        "event_streams ALTER COLUMN watermark TYPE text",
        "event_streams ALTER COLUMN created_at TYPE date",
        "event_streams RENAME COLUMN tenant_id TO tenant",
        "event_streams DROP COLUMN watermark",
        "event_streams ADD COLUMN remark text DEFAULT 'x'",
    ];
    let mut cases: Vec<Case> =
        altered.iter().map(|change| refused(format!("ALTER TABLE allsource.{change}"))).collect();
    for (table, column) in [("event_streams", "tenant_id"), ("event_streams", "stream_id")] {
        cases.push(refused(format!(
            "SET LOCAL allow_system_table_mods = on; \
             UPDATE pg_attribute SET attcollation = '\"POSIX\"'::regcollation \
             WHERE attrelid = 'allsource.{table}_p07'::regclass AND attname = '{column}'"
        )));
    }
    // Proper partitions, but for SQL only: their columns stand elsewhere than the parent's.
    cases.push(refused(format!(
        "{AWAY_IDS} CREATE TABLE allsource.event_ids_p07 (event_id uuid NOT NULL, \
         partition_id int4 NOT NULL, version int8 NOT NULL, stream_no int8 NOT NULL, \
         CONSTRAINT event_ids_p07_event_id PRIMARY KEY (stream_no, event_id)); {ATTACH_IDS}"
    )));
    cases.push(refused(format!(
        "{AWAY_IDS} CREATE TABLE allsource.event_ids_p07 (stream_no int8 NOT NULL, \
         away int4, version int8 NOT NULL, partition_id int4 NOT NULL, event_id uuid NOT NULL, \
         CONSTRAINT event_ids_p07_event_id PRIMARY KEY (stream_no, event_id)); \
         ALTER TABLE allsource.event_ids_p07 DROP COLUMN away; {ATTACH_IDS}"
    )));
    cases
}

const AWAY_IDS: &str = "ALTER TABLE allsource.event_ids DETACH PARTITION allsource.event_ids_p07; \
     ALTER TABLE allsource.event_ids_p07 RENAME TO away; \
     ALTER INDEX allsource.event_ids_p07_event_id RENAME TO away_event_id;";
const ATTACH_IDS: &str = "ALTER TABLE allsource.event_ids \
     ATTACH PARTITION allsource.event_ids_p07 FOR VALUES IN (7)";

/// The leaf is another kind of thing, or somebody else's.
fn kinds() -> Vec<Case> {
    let mut cases = Vec::new();
    for table in ["event_streams", "event_log", "event_ids"] {
        let leaf = format!("allsource.{table}_p07");
        let detach = format!("ALTER TABLE allsource.{table} DETACH PARTITION {leaf};");
        // Its indexes keep their names.
        let away = format!("{detach} ALTER TABLE {leaf} RENAME TO away;");
        cases.push(refused(detach.clone()));
        cases.push(refused(format!("{away} CREATE VIEW {leaf} AS TABLE allsource.away")));
        cases.push(refused(format!(
            "{away} CREATE MATERIALIZED VIEW {leaf} AS TABLE allsource.away"
        )));
        cases.push(refused(format!(
            "{away} CREATE TABLE {leaf} PARTITION OF allsource.{table} FOR VALUES IN (7) \
             PARTITION BY LIST (stream_no)"
        )));
        cases.push(refused(format!(
            "{away} CREATE FOREIGN DATA WRAPPER nowhere; \
             CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere; \
             CREATE FOREIGN TABLE {leaf} PARTITION OF allsource.{table} FOR VALUES IN (7) \
             SERVER nowhere"
        )));
        cases.push(refused(format!("{away} CREATE SEQUENCE {leaf}")));
        cases.push(refused(format!(
            "{away} CREATE TYPE {leaf} AS (a int8, b int8, c int4, d uuid)"
        )));
        cases.push(refused(format!(
            "{away} CREATE INDEX {table}_p07 ON allsource.away (partition_id)"
        )));
        // The right table with the indexes of another one.
        cases.push(refused(format!(
            "{away} CREATE TABLE {leaf} PARTITION OF allsource.{table} FOR VALUES IN (7)"
        )));
        cases.push(refused(format!(
            "{detach} CREATE TABLE other (LIKE allsource.{table}) PARTITION BY LIST (partition_id); \
             ALTER TABLE other ATTACH PARTITION {leaf} FOR VALUES IN (7)"
        )));
        cases.push(Case {
            sql: format!(
                "{detach} DELETE FROM {leaf}; \
                 ALTER TABLE allsource.{table} ATTACH PARTITION {leaf} FOR VALUES IN (77)"
            ),
            states: &[NOT_IN_STATE, CHECK_VIOLATION],
            may_succeed: false,
        });
        cases.push(refused(format!(
            "CREATE ACCESS METHOD other_heap TYPE TABLE HANDLER heap_tableam_handler; \
             ALTER TABLE {leaf} SET ACCESS METHOD other_heap"
        )));
    }
    cases
}

/// An index of the right name that does not do what the store relies on.
fn indexes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (table, name, columns) in [
        ("event_streams", "stream_id", "stream_id, tenant_id"),
        ("event_streams", "stream_no", "stream_no"),
        ("event_log", "version", "stream_no, first_version"),
        ("event_log", "position", "\"position\""),
        ("event_ids", "event_id", "stream_no, event_id"),
    ] {
        let leaf = format!("{table}_p07");
        let index = format!("{leaf}_{name}");
        let drop = format!("ALTER TABLE allsource.{leaf} DROP CONSTRAINT {index};");
        let on = format!("{index} ON allsource.{leaf}");
        let first = columns.split(", ").next().expect("a column");
        let reversed: Vec<&str> = columns.rsplit(", ").collect();
        cases.push(refused(format!("{drop} CREATE INDEX {on} ({columns})")));
        cases.push(refused(format!("{drop} CREATE UNIQUE INDEX {on} (partition_id, {columns})")));
        cases.push(refused(format!("{drop} CREATE UNIQUE INDEX {on} ({columns}, partition_id)")));
        cases.push(refused(format!(
            "{drop} CREATE UNIQUE INDEX {on} ({columns}) WHERE partition_id > 7"
        )));
        cases.push(refused(format!(
            "{drop} CREATE UNIQUE INDEX {on} ((({first})::text || ''), {columns})"
        )));
        cases.push(refused(format!("{drop} CREATE INDEX {on} USING hash ({first})")));
        if reversed.len() > 1 {
            cases.push(refused(format!(
                "{drop} CREATE UNIQUE INDEX {on} ({})",
                reversed.join(", ")
            )));
            cases.push(refused(format!(
                "{drop} CREATE UNIQUE INDEX {on} ({}) INCLUDE ({first})",
                reversed[0]
            )));
        }
        cases.push(refused(format!(
            "{drop} CREATE TABLE allsource.other (LIKE allsource.{leaf}); \
             CREATE UNIQUE INDEX {index} ON allsource.other ({columns})"
        )));
        cases.push(refused(format!("{drop} CREATE TABLE allsource.{index} (n int)")));
        for flag in ["indisvalid", "indisready", "indislive"] {
            cases.push(refused(format!(
                "SET LOCAL allow_system_table_mods = on; UPDATE pg_index SET {flag} = false \
                 WHERE indexrelid = 'allsource.{index}'::regclass"
            )));
        }
        // These might serve.
        cases.push(refused_or_right(format!(
            "{drop} CREATE UNIQUE INDEX {on} ({})",
            columns.replace(", ", " DESC, ") + " DESC"
        )));
        cases.push(refused_or_right(format!(
            "{drop} ALTER TABLE allsource.{leaf} ADD CONSTRAINT {index} UNIQUE ({columns}) DEFERRABLE"
        )));
        cases.push(refused_or_right(format!(
            "{drop} CREATE UNIQUE INDEX {on} ({columns}) INCLUDE (partition_id)"
        )));
        if name == "stream_id" {
            cases.push(refused_or_right(format!(
                "{drop} CREATE UNIQUE INDEX {on} (stream_id COLLATE \"default\", tenant_id)"
            )));
            cases.push(refused_or_right(format!(
                "{drop} CREATE UNIQUE INDEX {on} (stream_id text_pattern_ops, tenant_id)"
            )));
        }
    }
    cases
}

fn sequences() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in ["position_seq", "stream_no_seq"] {
        for made in [
            "TABLE allsource.{} (last_value int8)",
            "VIEW allsource.{} AS SELECT 1::int8 AS last_value",
        ] {
            cases.push(Case {
                sql: format!(
                    "ALTER SEQUENCE allsource.{name} RENAME TO away; CREATE {}",
                    made.replace("{}", name)
                ),
                states: &[NOT_IN_STATE, WRONG_KIND],
                // Numbers of streams may have been taken before.
                may_succeed: name == "stream_no_seq",
            });
        }
    }
    cases
}

fn event(number: u128) -> NewEvent {
    NewEvent::new("t", json!({"n": 1})).with_id(Uuid::from_u128(number))
}

/// Appends that write to all three tables.
fn appends(client: &mut impl GenericClient, stream: &str, number: u128) -> Vec<Result<i64, Error>> {
    let many = [event(number + 1), event(number + 2)];
    let item = BatchItem { stream: stream.to_owned(), expected: None, event: event(number + 3) };
    let mut attempt = |call: &dyn Fn(&mut postgres::Transaction<'_>) -> Result<i64, Error>| {
        let mut savepoint = client.transaction()?;
        let version = call(&mut savepoint)?;
        savepoint.commit()?;
        Ok(version)
    };
    vec![
        attempt(&|t| Append::to(stream, &[event(number)]).one(t)),
        attempt(&|t| Append::to(stream, &many).many(t)),
        attempt(&|t| {
            Batch::of(std::slice::from_ref(&item)).append(t).map(|rows| rows[0].last_version)
        }),
    ]
}

struct Setting {
    cluster: Cluster,
    /// A stream that is there, and one that is not.
    streams: [String; 2],
}

impl Setting {
    fn new(name: &str) -> Self {
        let cluster = Cluster::with_store(name);
        let mut client = cluster.store();
        let names = names_in(&mut client, PARTITION, 2);
        for version in appends(&mut client, &names[0], 0) {
            version.expect("an append");
        }
        Self { cluster, streams: [names[0].clone(), names[1].clone()] }
    }

    /// What is wrong with the answers of a session while the tables are as the case has them. All of
    /// it is rolled back.
    fn faults(&self, client: &mut Client, case: &Case) -> Vec<String> {
        let mut faults = Vec::new();
        let mut transaction = client.transaction().expect("BEGIN");
        let made = transaction.batch_execute(&case.sql);
        made.unwrap_or_else(|error| panic!("{}: {}", case.sql, describe(&error)));
        for (stream, before) in self.streams.iter().zip([4, 0]) {
            let mut version = before;
            for (number, outcome) in appends(&mut transaction, stream, 100).into_iter().enumerate()
            {
                match outcome {
                    Ok(answer) => {
                        version += [1, 2, 1][number];
                        if !case.may_succeed || answer != version {
                            faults.push(format!("append {number}: version {answer}"));
                        }
                    }
                    Err(error) => {
                        assert!(error.code().is_some(), "{}: the server crashed", case.sql);
                        if !case.states.contains(&sqlstate(&error)) {
                            faults.push(format!("append {number}: {}", describe(&error)));
                        }
                    }
                }
            }
            let read = |transaction: &mut postgres::Transaction<'_>, call: &str| {
                let mut savepoint = transaction.transaction()?;
                let count = match call {
                    "es_read" => ReadStream::all(stream).read(&mut savepoint)?.len(),
                    "es_read_all" => {
                        let all = ReadAll::after(0, 1_000).read(&mut savepoint)?;
                        all.iter().filter(|event| event.stream_id == *stream).count()
                    }
                    _ => {
                        let query = "SELECT current_version FROM allsource.es_stream($1)";
                        let row = savepoint.query_opt(query, &[stream])?;
                        row.map_or(0, |row| row.get::<_, i64>(0) as usize)
                    }
                };
                savepoint.commit()?;
                Ok::<usize, Error>(count)
            };
            for call in ["es_read", "es_stream", "es_read_all"] {
                // What is appended in this transaction is above the safe position.
                let expected = if call == "es_read_all" { before } else { version } as usize;
                match read(&mut transaction, call) {
                    Ok(count) if count == expected => {}
                    Ok(count) => faults.push(format!("{call}: {count} instead of {expected}")),
                    Err(error) => {
                        assert!(error.code().is_some(), "{}: the server crashed", case.sql);
                        if !case.states.contains(&sqlstate(&error)) {
                            faults.push(format!("{call}: {}", describe(&error)));
                        }
                    }
                }
            }
        }
        transaction.rollback().expect("ROLLBACK");
        faults.iter().map(|fault| format!("{}: {fault}", case.sql)).collect()
    }

    /// Each case in a session that knows the tables as they were, and in a new one.
    fn assert_refused(&self, cases: &[Case]) {
        let mut known = self.cluster.store();
        let mut faults = Vec::new();
        for case in cases {
            // It knows the leaves again.
            Append::to(&self.streams[0], &[event(0)]).one(&mut known).expect("a retry");
            let stored = ReadStream::all(&self.streams[0]).read(&mut known).expect("es_read");
            assert_eq!(stored.len(), 4);
            faults.extend(self.faults(&mut known, case));
            faults.extend(self.faults(&mut self.cluster.store(), case));
        }
        assert!(faults.is_empty(), "{} faults: {faults:#?}", faults.len());
        for stream in &self.streams {
            for version in appends(&mut known, stream, 1_000) {
                version.expect("an append");
            }
        }
        assert_verified(&mut known);
    }
}

#[test]
fn other_columns_are_refused() {
    Setting::new("layout-columns").assert_refused(&columns());
}

#[test]
fn leaves_of_another_kind_are_refused() {
    Setting::new("layout-kinds").assert_refused(&kinds());
}

#[test]
fn other_indexes_are_refused() {
    Setting::new("layout-indexes").assert_refused(&indexes());
}

#[test]
fn sequences_of_another_kind_are_refused() {
    Setting::new("layout-sequences").assert_refused(&sequences());
}

/// Committed by somebody else between two calls of a session.
#[test]
fn a_change_by_another_session_is_noticed() {
    let setting = Setting::new("layout-other");
    let mut known = setting.cluster.store();
    Append::to(&setting.streams[0], &[event(0)]).one(&mut known).expect("a retry");
    let changes = [
        ("event_ids ALTER COLUMN version TYPE int4", "event_ids ALTER COLUMN version TYPE int8"),
        (
            "event_log DETACH PARTITION allsource.event_log_p07",
            "event_log ATTACH PARTITION allsource.event_log_p07 FOR VALUES IN (7)",
        ),
        (
            "event_streams DETACH PARTITION allsource.event_streams_p07 CONCURRENTLY",
            "event_streams ATTACH PARTITION allsource.event_streams_p07 FOR VALUES IN (7)",
        ),
    ];
    for (number, (change, back)) in (0..).zip(changes) {
        setting.cluster.execute(STORE, &format!("ALTER TABLE allsource.{change}"));
        for outcome in appends(&mut known, &setting.streams[0], 10 + 10 * number) {
            let error = outcome.expect_err(change);
            assert_eq!(sqlstate(&error), NOT_IN_STATE, "{change}: {}", describe(&error));
        }
        setting.cluster.execute(STORE, &format!("ALTER TABLE allsource.{back}"));
        for outcome in appends(&mut known, &setting.streams[0], 10 + 10 * number) {
            outcome.unwrap_or_else(|error| panic!("{back}: {}", describe(&error)));
        }
    }
    assert_verified(&mut known);
}

/// The store says what its tables are made of, whatever the server's default is.
#[test]
fn another_default_access_method_changes_nothing() {
    let cluster = Cluster::start("layout-default", &[]);
    cluster.create_database(STORE);
    let mut client = cluster.store();
    client
        .batch_execute(
            "CREATE ACCESS METHOD other_heap TYPE TABLE HANDLER heap_tableam_handler;
             SET default_table_access_method = other_heap;
             CREATE EXTENSION allsource",
        )
        .expect("CREATE EXTENSION");
    let query = "SELECT count(*), count(*) FILTER (WHERE amname = 'heap') FROM pg_class c \
                 JOIN pg_am a ON a.oid = c.relam \
                 WHERE c.relnamespace = 'allsource'::regnamespace AND c.relkind = 'r'";
    let row = client.query_one(query, &[]).expect("the tables");
    let (tables, heaps): (i64, i64) = (row.get(0), row.get(1));
    assert!(tables >= 96);
    assert_eq!(heaps, tables);
    for outcome in appends(&mut client, "s", 0) {
        outcome.expect("an append");
    }
    assert_verified(&mut client);
}
