//! Errors that PostgreSQL, or code of users', raises below the extension's functions reach the client
//! as those of a plain INSERT do.

use allsource_e2e::Cluster;
use allsource_e2e::bulk::{dead_letters, flush};
use postgres::error::DbError;
use postgres::{Client, Error};

/// A unique index of a user's, and one whose function raises an error with all that it can have.
const INDEXES: &str = "
    CREATE FUNCTION judge(event_types text[]) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
    BEGIN
        IF event_types[1] = 'bad' THEN
            RAISE EXCEPTION 'judged' USING
                ERRCODE = 'U0001', DETAIL = 'the facts', HINT = 'what to do', SCHEMA = 'a schema',
                TABLE = 'a table', COLUMN = 'a column', DATATYPE = 'a type', CONSTRAINT = 'a rule';
        END IF;
        RETURN 1;
    END $$;
    CREATE INDEX ON allsource.event_log (judge(event_types));
    SELECT allsource.es_append('s', 'once', '1');
    DO $$ BEGIN EXECUTE format(
        'CREATE UNIQUE INDEX only_once ON allsource.event_log_p%s ((event_types[1])) WHERE event_types[1] = %L',
        to_char(allsource.es_partition('s'), 'FM00'), 'once'); END $$;";

fn store(name: &str) -> (Cluster, Client) {
    let cluster = Cluster::with_queue(name, &[]);
    let mut client = cluster.store();
    client.batch_execute(INDEXES).expect("indexes");
    (cluster, client)
}

fn insert(event_type: &str) -> String {
    format!(
        "INSERT INTO allsource.event_log
         SELECT stream_no, 1000, 1000000, \"timestamp\", partition_id, checksum, ARRAY['{event_type}'],
                payloads, metadata, event_ids
           FROM allsource.event_log l WHERE partition_id = allsource.es_partition('s') LIMIT 1"
    )
}

fn db_error(result: Result<(), Error>) -> DbError {
    let error = result.expect_err("an error");
    error.as_db_error().unwrap_or_else(|| panic!("no error of the server's: {error}")).clone()
}

/// All that a client is told, but for the place in PostgreSQL's source.
fn fields(error: &DbError) -> Vec<String> {
    let optional = [
        error.detail(),
        error.hint(),
        error.where_(),
        error.schema(),
        error.table(),
        error.column(),
        error.datatype(),
        error.constraint(),
        error.routine(),
    ];
    let own = |text: &str| text.to_owned();
    let mut all = vec![own(error.severity()), own(error.code().code()), own(error.message())];
    all.extend(optional.map(|field| field.map_or_else(|| own("-"), own)));
    all
}

#[test]
fn an_error_is_the_same_as_that_of_a_plain_insert() {
    let (_cluster, mut client) = store("errors-same");
    for event_type in ["once", "bad"] {
        let plain = db_error(client.batch_execute(&insert(event_type)));
        for call in [
            format!("SELECT allsource.es_append('s', '{event_type}', '1')"),
            format!("SELECT allsource.es_append_many('s', '{{{event_type}}}', ARRAY[jsonb '1'])"),
            format!(
                "SELECT allsource.es_append_batch('{{s}}', '{{{event_type}}}', ARRAY[jsonb '1'])"
            ),
        ] {
            let error = db_error(client.batch_execute(&call));
            assert_eq!(fields(&error), fields(&plain), "{call}");
        }
    }
}

#[test]
fn the_context_has_those_inside_and_outside_once_each() {
    let (_cluster, mut client) = store("errors-context");
    client
        .batch_execute(
            "CREATE FUNCTION outer_one() RETURNS int8 LANGUAGE plpgsql AS
             $$ BEGIN RETURN allsource.es_append('s', 'bad', '1'); END $$",
        )
        .expect("a function");
    let error = db_error(client.batch_execute("SELECT outer_one()"));
    let lines: Vec<&str> = error.where_().expect("a context").lines().collect();
    assert_eq!(
        lines,
        [
            "PL/pgSQL function judge(text[]) line 4 at RAISE",
            "PL/pgSQL function outer_one() line 1 at RETURN",
        ]
    );
    // A function of ours within a function of a user's within a function of ours.
    client
        .batch_execute(
            "CREATE OR REPLACE FUNCTION judge(event_types text[]) RETURNS int IMMUTABLE
             LANGUAGE plpgsql AS $$ BEGIN RETURN allsource.es_append(NULL, 't', '1'); END $$",
        )
        .expect("a function");
    let error = db_error(client.batch_execute("SELECT outer_one()"));
    assert_eq!((error.code().code(), error.message()), ("22023", "stream_id must not be null"));
    assert_eq!(error.where_().map(|context| context.lines().count()), Some(2), "{error:?}");
    assert_eq!(error.detail(), None);
}

#[test]
fn a_caught_error_leaves_nothing_in_the_next_one() {
    let (_cluster, mut client) = store("errors-caught");
    let mut caught = "DO $$ BEGIN PERFORM allsource.es_append('s', 'bad', '1');
                      EXCEPTION WHEN OTHERS THEN NULL; END $$;"
        .to_owned();
    caught.push_str("SELECT allsource.es_append('s', 't', '1', expected_version => 100)");
    let error = db_error(client.batch_execute(&caught));
    assert_eq!(error.code().code(), "40001");
    assert_eq!((error.schema(), error.constraint(), error.where_()), (None, None, None));
    assert!(error.detail().is_some_and(|detail| !detail.contains('\n')), "{error:?}");
}

#[test]
fn a_dead_letter_says_where_its_error_comes_from() {
    let (_cluster, mut client) = store("errors-dead");
    // It is at fault if others of its partition can be written.
    client
        .batch_execute(
            "SELECT allsource.es_enqueue(name, CASE name WHEN 's' THEN 'bad' ELSE 'good' END, '1')
               FROM (SELECT 's' UNION ALL SELECT 's' || generate_series(1, 200)) AS names (name)
              WHERE allsource.es_partition(name) = allsource.es_partition('s')",
        )
        .expect("es_enqueue");
    flush(&mut client).expect("es_flush");
    let letters = dead_letters(&mut client).expect("es_dead_letters");
    let reason = "judged: the facts (PL/pgSQL function public.judge(text[]) line 4 at RAISE)";
    assert_eq!(letters.iter().map(|letter| letter.reason.as_str()).collect::<Vec<_>>(), [reason]);
}
