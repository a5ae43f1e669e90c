//! A router at its edges: who calls it and how, odd values and settings, maps and addresses that change, and servers
//! that are away in other ways than by a clean stop.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::thread;

use allsource_e2e::cluster::{Cluster, STORE};
use allsource_e2e::dump::Dump;
use allsource_e2e::event::EVENT_COLUMNS;
use allsource_e2e::failure::{
    CANCELLED, NOT_ALLOWED, NOT_IN_STATE, describe, is_disconnect, refusal, sqlstate,
};
use allsource_e2e::routed::{COORDINATOR, ROUTER};
use allsource_e2e::{Append, Event, NewEvent, ReadStream, Routed, bulk, locks, patience};
use postgres::{Client, Error};
use serde_json::json;
use uuid::Uuid;

const UNREACHABLE: &str = "08006";

fn event(number: i64) -> NewEvent {
    NewEvent::new("happened", json!({ "n": number })).with_id(Uuid::from_u128(rand::random()))
}

fn append(client: &mut Client, stream: &str, event: &NewEvent) -> Result<i64, Error> {
    Append::to(stream, std::slice::from_ref(event)).one(client)
}

fn one<T: for<'a> postgres::types::FromSql<'a>>(client: &mut Client, query: &str) -> T {
    match client.query_one(query, &[]) {
        Ok(row) => row.get(0),
        Err(error) => panic!("{query}: {}", describe(&error)),
    }
}

fn versions(client: &mut Client, stream: &str) -> usize {
    ReadStream::all(stream).read(client).expect("es_read").len()
}

#[test]
fn values_come_through_unchanged() {
    let routed = Routed::start("values");
    let stream_of = |group: i32| routed.streams(group, 1).remove(0);
    let odd = |role: &str| {
        format!(
            "ALTER ROLE {role} SET standard_conforming_strings = off;
             ALTER ROLE {role} SET backslash_quote = off;
             ALTER ROLE {role} SET escape_string_warning = off;
             ALTER ROLE {role} SET datestyle = 'SQL, DMY';
             ALTER ROLE {role} SET intervalstyle = 'sql_standard';
             ALTER ROLE {role} SET timezone = 'Asia/Kolkata';
             ALTER ROLE {role} SET bytea_output = 'escape';
             ALTER ROLE {role} SET extra_float_digits = -15;
             ALTER ROLE {role} SET quote_all_identifiers = on;
             ALTER ROLE {role} SET xmloption = 'document';"
        )
    };
    // A role that has them on both sides, and one that has none.
    for cluster in [&routed.first, &routed.second] {
        let both = "CREATE ROLE odd LOGIN SUPERUSER; CREATE ROLE plain LOGIN SUPERUSER;";
        cluster.execute(STORE, &format!("{both}{}", odd("odd")));
    }
    let become_ = |cluster: &Cluster, database: &str, role: &str| {
        let mut config = cluster.config(database);
        config.user(role).connect(postgres::NoTls).expect("connect")
    };

    let far = stream_of(2);
    let names = [
        "it's",
        "back\\slash",
        "\\'; SELECT 1; --",
        "line\nbreak\ttab\rreturn",
        "%L %s %I %%",
        "$$ $1 $body$",
        "{\"array\", NULL}",
        "\u{1f980} ünï \u{202e}",
        " ",
        "NULL",
    ];
    let streams: Vec<_> = names.iter().map(|name| format!("{far} {name}")).collect();
    let large = "x\\'\"\n".repeat(150_000);
    let payloads = [
        json!({ "s": "quote ' back \\ line \n nul \u{1}", "deep": [[], {}, null, [[]]] }),
        json!({ "float": 1e-300, "long": 12_345_678_901_234_567_890_u64, "negative": -0.1 }),
        json!(null),
        json!("a text"),
        json!([]),
        json!({ "large": large }),
    ];
    let mut number = 0;
    for role in ["odd", "plain"] {
        let mut client = become_(&routed.first, ROUTER, role);
        for stream in &streams {
            for payload in &payloads {
                number += 1;
                let new = NewEvent::new("type ' \\ \n", payload.clone());
                let new = new.with_id(Uuid::from_u128(number));
                append(&mut client, stream, &new)
                    .unwrap_or_else(|error| panic!("{stream}: {}", describe(&error)));
            }
        }
        let two = [event(1), event(2)];
        Append::to(&streams[0], &two).many(&mut client).expect("es_append_many");
    }
    for stream in &streams {
        let group = if one::<i32>(
            &mut routed.connect(),
            &format!(
                "SELECT group_id FROM allsource.routes WHERE partition_id = allsource.es_partition('{}')",
                stream.replace('\'', "''")
            ),
        ) == 1
        {
            &routed.first
        } else {
            &routed.second
        };
        let mut direct = become_(group, STORE, "plain");
        let expected = ReadStream::all(stream).read(&mut direct).expect("es_read");
        assert!(expected.len() >= 2 * payloads.len());
        for (event, payload) in expected.iter().zip(&payloads) {
            assert_eq!(&event.payload, payload);
        }
        for role in ["odd", "plain"] {
            let mut client = become_(&routed.first, ROUTER, role);
            assert_eq!(ReadStream::all(stream).read(&mut client).expect("es_read"), expected);
            // The times too, by what all styles have in common.
            let times = "SELECT array_agg(extract(epoch FROM created_at)::text) || array_agg(extract(epoch FROM updated_at)::text)
                           FROM allsource.es_stream($1)";
            let stream_times = |client: &mut Client| -> Vec<String> {
                client.query_one(times, &[stream]).expect(times).get(0)
            };
            assert_eq!(stream_times(&mut client), stream_times(&mut direct));
        }
    }
    // Metadata, entities, NULLs and empty arrays; refusals come as those of a store.
    let mut client = become_(&routed.first, ROUTER, "odd");
    let mut direct = become_(&routed.second, STORE, "odd");
    for call in [
        "es_append($1, 't', 'null', '{\"m\": \"\\u0027\"}', tenant_id => 'a ''b'' c', entity_id => 'e\n')",
        "es_append_many($1, '{}', '{}')",
        "es_append_many($1, '{a}', ARRAY[NULL]::jsonb[])",
        "es_append_many($1, NULL, '{1}')",
        "es_append_many($1, '{NULL}', '{1}')",
        "es_append_many($1, '{a,b}', '{1,2}', ARRAY['{\"k\": 1}', NULL]::jsonb[])",
    ] {
        let outcome = |client: &mut Client, stream: String| match client
            .query_one(&format!("SELECT allsource.{call}"), &[&stream])
        {
            Ok(row) => row.get::<_, i64>(0).to_string(),
            Err(error) => describe(&error),
        };
        let routed = outcome(&mut client, format!("{far} via"));
        assert_eq!(
            routed,
            outcome(&mut direct, format!("{far} dir")).replace("dir", "via"),
            "{call}"
        );
    }
    for timeout in ["1 day -2 hours", "1.5 s", "2 mons 3 days"] {
        let flush = format!("SELECT allsource.es_flush('{timeout}')");
        assert_eq!(one::<i64>(&mut client, &flush), 0);
    }
    assert!(one::<i64>(&mut client, "SELECT count(*) FROM allsource.es_metrics()") > 0);
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM allsource.partition_stats"), 32);
}

#[test]
fn it_is_called_in_all_the_ways_that_a_store_is() {
    let routed = Routed::start("ways");
    let (near, far) = (routed.streams(1, 1).remove(0), routed.streams(2, 1).remove(0));
    let mut client = routed.connect();
    let append_far = format!("allsource.es_append('{far}', 'happened', '1')");
    for (number, script) in [
        format!("DO $$ BEGIN PERFORM {append_far}; END $$"),
        format!(
            "CREATE FUNCTION public.f() RETURNS bigint LANGUAGE sql AS $$ SELECT {append_far} $$"
        ) + ";",
        "SELECT public.f()".to_owned(),
        "CREATE TABLE public.t (n int)".to_owned(),
        format!(
            "CREATE FUNCTION public.g() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM {append_far}; RETURN NEW; END $$"
        ),
        "CREATE TRIGGER g BEFORE INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION public.g()".to_owned(),
        "INSERT INTO public.t VALUES (1)".to_owned(),
        format!("PREPARE p AS SELECT {append_far}"),
        "EXECUTE p".to_owned(),
        "EXECUTE p".to_owned(),
        "DISCARD ALL".to_owned(),
        format!("SELECT {append_far}"),
    ]
    .iter()
    .enumerate()
    {
        if let Err(error) = client.batch_execute(script) {
            panic!("{number} {script}: {}", describe(&error));
        }
    }
    assert_eq!(versions(&mut client, &far), 6);
    let copied = {
        use std::io::Read;
        let copy = format!("COPY (SELECT version FROM allsource.es_read('{far}')) TO STDOUT");
        let mut text = String::new();
        client.copy_out(&copy).expect("COPY").read_to_string(&mut text).expect("text");
        text
    };
    assert_eq!(copied, "1\n2\n3\n4\n5\n6\n");
    // Eight times on one prepared statement: plans of its own, and then the generic one.
    let statement = client.prepare("SELECT version FROM allsource.es_read($1)").expect("prepare");
    for stream in [&far, &near].repeat(4) {
        let rows = client.query(&statement, &[stream]).expect("es_read").len();
        assert_eq!(rows, if *stream == far { 6 } else { 0 });
    }
    let mut transaction = client.transaction().expect("a transaction");
    let portal =
        transaction.bind("SELECT version FROM allsource.es_read($1)", &[&far]).expect("a portal");
    assert_eq!(transaction.query_portal(&portal, 4).expect("some").len(), 4);
    assert_eq!(transaction.query_portal(&portal, 4).expect("the rest").len(), 2);
    drop(transaction);

    // The extension is replaced in a session that has connections.
    let make = format!(
        "INSERT INTO allsource.router_coordinator (conninfo) VALUES ('{}'); SELECT allsource.es_router_refresh()",
        routed.second.conninfo(COORDINATOR)
    );
    client
        .batch_execute("DROP EXTENSION allsource_router CASCADE; DROP SCHEMA allsource CASCADE")
        .expect("drop");
    client.batch_execute("CREATE EXTENSION allsource_router").expect("create");
    client.batch_execute("ALTER EXTENSION allsource_router UPDATE").expect("update");
    client.batch_execute(&make).expect("es_router_refresh");
    assert_eq!(versions(&mut client, &far), 6);
    assert_eq!(append(&mut client, &far, &event(7)).expect("es_append"), 7);
}

#[test]
fn who_asks_is_who_the_session_says() {
    let routed = Routed::start("who");
    let far = routed.streams(2, 1).remove(0);
    for cluster in [&routed.first, &routed.second] {
        let roles = "CREATE ROLE writer LOGIN IN ROLE allsource_writer; CREATE ROLE nobody LOGIN;
                     CREATE ROLE hand LOGIN IN ROLE allsource_admin;";
        cluster.execute(STORE, roles);
    }
    let mut client = routed.connect();
    client
        .batch_execute(&format!(
            "CREATE FUNCTION public.as_owner() RETURNS bigint LANGUAGE sql SECURITY DEFINER
             AS $$ SELECT allsource.es_append('{far}', 'happened', '1') $$"
        ))
        .expect("a function");
    // Who is asked at the group, as the session goes from one to the other and back.
    let at_group = |client: &mut Client| -> String {
        ReadStream::all(&far).read(client).expect("es_read");
        let pid = "SELECT string_agg(DISTINCT usename, ',' ORDER BY usename) FROM pg_stat_activity
                    WHERE application_name = 'allsource_router' AND datname = 'store'";
        one(&mut routed.second.connect("postgres"), pid)
    };
    assert_eq!(at_group(&mut client), "postgres");
    client.batch_execute("SET SESSION AUTHORIZATION writer").expect("writer");
    assert_eq!(at_group(&mut client), "postgres,writer");
    append(&mut client, &far, &event(1)).expect("a writer may append");
    client.batch_execute("SET SESSION AUTHORIZATION nobody").expect("nobody");
    assert_eq!(refusal(append(&mut client, &far, &event(1))), NOT_ALLOWED);
    // The owner of the function may call the router; but at the group it is the session's user who is refused.
    assert_eq!(refusal(client.batch_execute("SELECT public.as_owner()")), NOT_ALLOWED);
    client.batch_execute("RESET SESSION AUTHORIZATION; SET ROLE writer").expect("a role");
    append(&mut client, &far, &event(2)).expect("a writer may append");
    assert_eq!(refusal(client.batch_execute("SELECT allsource.es_router_refresh()")), NOT_ALLOWED);
    client.batch_execute("DISCARD ALL").expect("DISCARD ALL");
    client.batch_execute("SELECT public.as_owner()").expect("himself");
    assert_eq!(versions(&mut client, &far), 3);

    // An administrator who may see the map and not the addresses takes the one and keeps the others.
    routed.second.execute(
        COORDINATOR,
        "GRANT USAGE ON SCHEMA allsource TO hand; GRANT SELECT ON allsource.partition_map TO hand;
         GRANT SELECT (group_id) ON allsource.cluster_groups TO hand;
         UPDATE allsource.partition_map SET epoch = 2;
         UPDATE allsource.cluster_groups SET conninfo = 'host=elsewhere' WHERE group_id = 1",
    );
    let mut hand = routed.connect();
    hand.batch_execute("SET SESSION AUTHORIZATION hand").expect("hand");
    assert_eq!(one::<i32>(&mut hand, "SELECT allsource.es_router_refresh()"), 32);
    let epochs = "SELECT count(*) FROM allsource.routes WHERE epoch = 2";
    assert_eq!(one::<i64>(&mut client, epochs), 32);
    let elsewhere =
        "SELECT count(*) FROM allsource.router_groups WHERE conninfo = 'host=elsewhere'";
    assert_eq!(one::<i64>(&mut client, elsewhere), 0);
}

/// A transaction at the owner that keeps a routed append of the same stream waiting. Returns what `call` does, which is
/// run beside it; `meanwhile` is told the process of the group that waits.
fn held<T: Send>(
    routed: &Routed,
    stream: &str,
    call: impl FnOnce() -> T + Send,
    meanwhile: impl FnOnce(i32),
) -> T {
    let mut holder = routed.second.store();
    let mut transaction = holder.transaction().expect("a transaction");
    append_in(&mut transaction, stream);
    thread::scope(|scope| {
        let call = scope.spawn(call);
        let pid = routed.call_at(2);
        locks::until_waits(&mut routed.second.store(), pid);
        meanwhile(pid);
        let result = call.join().expect("a call");
        transaction.rollback().expect("rollback");
        result
    })
}

fn append_in(transaction: &mut postgres::Transaction<'_>, stream: &str) {
    Append::to(stream, &[event(0)]).one(transaction).expect("es_append");
}

#[test]
fn what_was_sent_goes_on_whatever_ends_the_caller() {
    let routed = Routed::start("ended");
    let far = routed.streams(2, 1).remove(0);
    // By his statement_timeout.
    let error = held(
        &routed,
        &far,
        || {
            let mut client = routed.connect();
            client.batch_execute("SET statement_timeout = '500ms'").expect("a setting");
            append(&mut client, &far, &event(1)).expect_err("it waits for longer")
        },
        |_| {},
    );
    assert_eq!(sqlstate(&error), CANCELLED);
    assert!(describe(&error).contains("not cancelled there"), "{}", describe(&error));
    patience::until_true("the append is done", || versions(&mut routed.connect(), &far) == 1);

    // By an administrator of the router.
    let error = held(
        &routed,
        &far,
        || append(&mut routed.connect(), &far, &event(2)).expect_err("terminated"),
        |_| {
            let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                              WHERE datname = 'router' AND state = 'active'";
            routed.first.execute("postgres", terminate);
        },
    );
    assert!(is_disconnect(&error) || sqlstate(&error) == "57P01", "{}", describe(&error));
    patience::until_true("the append is done", || versions(&mut routed.connect(), &far) == 2);
    // And nothing of the session is left at the group.
    let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'allsource_router' AND datname = 'store'";
    let mut onlooker = routed.second.connect("postgres");
    patience::until_true("the connections are gone", || one::<i64>(&mut onlooker, left) == 0);
}

#[test]
fn a_large_event_does_not_hang_on_a_frozen_server() {
    let routed = Routed::start("large");
    let far = routed.streams(2, 1).remove(0);
    let mut client = routed.impatient();
    append(&mut client, &far, &event(1)).expect("es_append");
    let query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'allsource_router' AND datname = 'store'";
    let pid: i32 = one(&mut routed.second.connect("postgres"), query);
    routed.second.signal("STOP", pid);
    let large = NewEvent::new("large", json!("x".repeat(1_000_000)));
    // Nothing was sent, so it may be repeated without an id.
    let answer = append(&mut client, &far, &large);
    routed.second.signal("CONT", pid);
    assert_eq!(answer.expect("on another connection"), 2);
    assert_eq!(versions(&mut client, &far), 2);
}

#[test]
fn maps_and_addresses_change_under_open_sessions() {
    let routed = Routed::start("maps");
    let mut sessions = [routed.connect(), routed.connect()];
    let (near, far) = (routed.streams(1, 2), routed.streams(2, 1).remove(0));
    for session in &mut sessions {
        append(session, &near[0], &event(1)).expect("es_append");
        append(session, &far, &event(1)).expect("es_append");
    }
    // Two partitions at once, met by two sessions at once.
    let moved = "allsource.es_partition(name) = ANY (ARRAY[0, 2])";
    routed.first.execute(
        STORE,
        &format!(
            "CREATE OR REPLACE FUNCTION allsource.es_append(stream_id text, event_type text, payload jsonb,
                 metadata jsonb DEFAULT NULL, expected_version int8 DEFAULT NULL, tenant_id text DEFAULT 'default',
                 entity_id text DEFAULT NULL, event_id uuid DEFAULT NULL) RETURNS int8 LANGUAGE plpgsql AS $$
             DECLARE name text := stream_id; BEGIN
                 IF {moved} THEN
                     RAISE 'partition % is not owned by this group', allsource.es_partition(name) USING ERRCODE = '55000';
                 END IF;
                 RETURN NULL;
             END $$"
        ),
    );
    routed.second.execute(
        COORDINATOR,
        "UPDATE allsource.partition_map SET group_id = 2, epoch = 2 WHERE partition_id IN (0, 2)",
    );
    thread::scope(|scope| {
        for (session, stream) in sessions.iter_mut().zip(&near) {
            scope.spawn(move || append(session, stream, &event(2)).expect("at the new owner"));
        }
    });
    let mut second = routed.second.store();
    assert_eq!((versions(&mut second, &near[0]), versions(&mut second, &near[1])), (1, 1));

    // A group is at another address from now on, and the old server is still there: nobody asks it any more.
    let [session, other] = &mut sessions;
    let elsewhere =
        "UPDATE allsource.cluster_groups SET conninfo = 'host=/nowhere port=1' WHERE group_id = 2";
    routed.second.execute(COORDINATOR, elsewhere);
    other.batch_execute("SELECT allsource.es_router_refresh()").expect("es_router_refresh");
    let impatient = "SET allsource.route_retry_time = '100ms'";
    session.batch_execute(impatient).expect("a setting");
    let error = append(session, &far, &event(3)).expect_err("nobody is there");
    assert_eq!(sqlstate(&error), UNREACHABLE);
    assert!(!describe(&error).contains("nowhere"), "{}", describe(&error));
    assert_eq!(versions(&mut second, &far), 2);
    // It was taken away, and added again.
    let again = format!(
        "DELETE FROM allsource.cluster_groups WHERE group_id = 2;
         INSERT INTO allsource.cluster_groups VALUES (2, '{}')",
        routed.second.conninfo(STORE)
    );
    routed.second.execute(COORDINATOR, &again);
    other.batch_execute("SELECT allsource.es_router_refresh()").expect("es_router_refresh");
    assert_eq!(append(session, &far, &event(3)).expect("there again"), 3);
    // The connections to where it was before are closed.
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'allsource_router' AND datname = 'store'
                  AND client_port IS NOT NULL AND query LIKE '%es_append%'";
    patience::until_true("one connection of each session", || one::<i64>(&mut second, count) <= 2);
}

#[test]
fn a_router_begins_without_its_coordinator_and_is_dumped_with_its_map() {
    let routed = Routed::start("begin");
    let far = routed.streams(2, 1).remove(0);
    append(&mut routed.connect(), &far, &event(1)).expect("es_append");

    // A second router, on another server, whose coordinator is not there yet.
    routed.second.create_database("router2");
    routed.second.execute(
        "router2",
        "CREATE EXTENSION allsource_router;
         INSERT INTO allsource.router_coordinator (conninfo) VALUES ('host=/nowhere port=1 dbname=coordinator')",
    );
    let mut client = routed.second.connect("router2");
    let error = append(&mut client, &far, &event(2)).expect_err("no map");
    assert_eq!(sqlstate(&error), NOT_IN_STATE);
    assert!(!describe(&error).contains("nowhere"), "{}", describe(&error));
    let refresh = "SELECT allsource.es_router_refresh()";
    let error = client.batch_execute(refresh).expect_err("no coordinator");
    assert_eq!(sqlstate(&error), UNREACHABLE);
    // Of several servers it finds the one that is there.
    let conninfo = format!(
        "host=/nowhere,{} port={1},{1} dbname={COORDINATOR}",
        routed.second.socket().parent().expect("a folder").display(),
        "5432"
    );
    let update = format!("UPDATE allsource.router_coordinator SET conninfo = '{conninfo}'");
    client.batch_execute(&update).expect(&update);
    // A call that finds no map asks for it by itself.
    assert_eq!(append(&mut client, &far, &event(2)).expect("es_append"), 2);
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM allsource.routes"), 32);

    // A dump has the map and the addresses; what is restored of it is a router.
    let dump = Dump::of(&routed.first, ROUTER, &[]);
    routed.second.create_database("router3");
    dump.restore_with_psql(&routed.second, "router3");
    let mut restored = routed.second.connect("router3");
    assert_eq!(append(&mut restored, &far, &event(3)).expect("es_append"), 3);
    assert_eq!(one::<i32>(&mut restored, refresh), 32);
    assert_eq!(versions(&mut routed.connect(), &far), 3);
}

#[test]
fn a_standby_routes_and_cannot_write_the_map_down() {
    let routed = Routed::start("standby");
    let (near, far) = (routed.streams(1, 1).remove(0), routed.streams(2, 1).remove(0));
    append(&mut routed.connect(), &near, &event(1)).expect("es_append");
    let standby = routed.first.standby("standby3", &[]);
    let mut client = standby.connect(ROUTER);
    assert_eq!(versions(&mut client, &near), 1);
    assert_eq!(append(&mut client, &far, &event(1)).expect("es_append"), 1);
    let all = format!(
        "SELECT {EVENT_COLUMNS} FROM allsource.es_read_all_from(array_fill(0::int8, '{{32}}'))"
    );
    let events: Vec<Event> =
        client.query(&all, &[]).expect(&all).iter().map(Event::from_row).collect();
    assert_eq!(events.len(), 2);
    assert_eq!(one::<i32>(&mut client, "SELECT allsource.es_router_refresh()"), 32);

    // A new map is used, each time anew.
    routed.first.execute(
        STORE,
        "CREATE OR REPLACE FUNCTION allsource.es_append(stream_id text, event_type text, payload jsonb,
             metadata jsonb DEFAULT NULL, expected_version int8 DEFAULT NULL, tenant_id text DEFAULT 'default',
             entity_id text DEFAULT NULL, event_id uuid DEFAULT NULL) RETURNS int8 LANGUAGE plpgsql AS $$
         BEGIN RAISE 'partition 0 is not owned by this group' USING ERRCODE = '55000'; END $$",
    );
    let away =
        "UPDATE allsource.partition_map SET group_id = 2, epoch = 2 WHERE partition_id % 2 = 0";
    routed.second.execute(COORDINATOR, away);
    for version in 1..3 {
        assert_eq!(append(&mut client, &near, &event(version)).expect("at the new owner"), version);
    }
    let old = "SELECT count(*) FROM allsource.routes WHERE epoch = 1";
    assert_eq!(one::<i64>(&mut client, old), 32);
    assert!(bulk::is_well(&mut client, "coordinator"));
}

#[test]
fn health_says_what_is_wrong_with_whom() {
    let routed = Routed::start("health");
    let mut client = routed.connect();
    let row = |client: &mut Client, name: &str| -> (bool, String) {
        let health = bulk::health(client).expect("es_health");
        let row = health.iter().find(|row| row.0 == name);
        let row = row.unwrap_or_else(|| panic!("{name} is missing in {health:?}"));
        (row.1, row.2.clone())
    };
    // They were never told of a map.
    let (ok, detail) = row(&mut client, "group 1: map");
    assert!(!ok && detail.contains("never"), "{detail}");
    for (group, cluster) in [(1, &routed.first), (2, &routed.second)] {
        let join = format!(
            "SELECT allsource.es_member_join({group}, (SELECT array_agg(1 + p % 2 ORDER BY p) FROM generate_series(0, 31) p),
                                             array_fill(1::int8, '{{32}}'))"
        );
        cluster.execute(STORE, &join);
    }
    for name in
        ["map", "coordinator", "group 1", "group 1: map", "group 2: map", "group 2: version"]
    {
        let (ok, detail) = row(&mut client, name);
        assert!(ok, "{name}: {detail}");
    }
    // The router's map is older than what a group knows.
    client
        .batch_execute("UPDATE allsource.routes SET epoch = 0 WHERE partition_id IN (3, 4)")
        .expect("update");
    // The row of the coordinator is found first, so the map is a new one again; a router without it keeps the old one.
    client
        .batch_execute("UPDATE allsource.router_coordinator SET conninfo = 'host=/nowhere port=1'")
        .expect("update");
    client
        .batch_execute("UPDATE allsource.routes SET epoch = 0 WHERE partition_id IN (3, 4)")
        .expect("update");
    for (name, partition) in [("group 1: map", "partition 4"), ("group 2: map", "partition 3")] {
        let (ok, detail) = row(&mut client, name);
        assert!(!ok && detail.contains(partition), "{name}: {detail}");
    }
    let (ok, _) = row(&mut client, "coordinator");
    assert!(!ok);

    let other = "UPDATE pg_extension SET extversion = '0.0.9' WHERE extname = 'allsource'";
    routed.second.execute(STORE, other);
    let (ok, detail) = row(&mut client, "group 2: version");
    assert!(!ok && detail.contains("0.0.9"), "{detail}");
    assert!(row(&mut client, "group 1: version").0);

    // A group of which only the standby is there; one that nobody can connect to; one that refuses the user.
    let standby = routed.second.standby("standby3", &[]);
    let groups = format!(
        "INSERT INTO allsource.router_groups VALUES (3, '{}'), (4, 'host=/nowhere port=1'), (5, '{}')",
        standby.conninfo(STORE),
        routed
            .first
            .conninfo("no such database")
            .replace("dbname=no such database", "dbname=missing"),
    );
    client.batch_execute(&groups).expect(&groups);
    for (name, reason) in
        [("group 3", "no primary"), ("group 4", "refused the connection"), ("group 5", "this user")]
    {
        let (ok, detail) = row(&mut client, name);
        assert!(!ok && detail.contains(reason), "{name}: {detail}");
    }
    assert!(row(&mut client, "group 2").0);
}

#[test]
fn groups_that_are_away_do_not_take_the_sum_of_their_times() {
    let routed = Routed::start("silent");
    let mut client = routed.impatient();
    // Or the router would forget again those that the coordinator does not know.
    let nowhere = "UPDATE allsource.router_coordinator SET conninfo = 'host=/nowhere port=1'";
    client.batch_execute(nowhere).expect(nowhere);
    // They take a connection, and say nothing.
    let listeners: Vec<UnixListener> = (3..9)
        .map(|group| {
            let folder = routed.first.dir().join(format!("silent{group}"));
            let socket = folder.join(".s.PGSQL.5432");
            std::fs::create_dir(&folder).expect("a folder");
            let listener = UnixListener::bind(&socket).expect("a socket");
            // The server is perhaps another user's.
            for path in [&folder, &socket] {
                std::fs::set_permissions(path, Permissions::from_mode(0o777)).expect("rights");
            }
            listener.set_nonblocking(true).expect("a listener");
            let insert = format!(
                "INSERT INTO allsource.router_groups VALUES ({group}, 'host={} port=5432 dbname=store')",
                folder.display()
            );
            client.batch_execute(&insert).expect(&insert);
            listener
        })
        .collect();
    let asked = || {
        let mut asked = 0;
        for listener in &listeners {
            while listener.accept().is_ok() {
                asked += 1;
            }
        }
        asked
    };
    // The first time connects to those that are there.
    bulk::health(&mut client).expect("es_health");
    asked();
    let health = bulk::health(&mut client).expect("es_health");
    // Connecting to one of them takes longer than the time for answers.
    assert!(asked() <= 1);
    let well = |name: &str| health.iter().find(|row| row.0 == name).map(|row| row.1);
    assert_eq!((well("group 1"), well("group 2")), (Some(true), Some(true)));
    for group in 3..9 {
        assert_eq!(well(&format!("group {group}")), Some(false));
    }
    // Where all are needed, the first that is away is enough.
    assert_eq!(refusal(client.batch_execute("SELECT allsource.es_verify()")), UNREACHABLE);
    let attempts = asked();
    assert!((1..=2).contains(&attempts), "{attempts} attempts");
}
