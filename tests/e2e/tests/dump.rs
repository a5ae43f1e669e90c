//! `pg_dump` and restore: the copy is identical, and appends to it continue the versions and
//! positions without collision, in the same server and in one that has never stored an event.

use std::time::Duration;

use allsource_e2e::calls::{all_events, assert_verified, current_version, safe_position};
use allsource_e2e::cluster::{STORE, Stop};
use allsource_e2e::event::NewEvent;
use allsource_e2e::writer::shared_streams;
use allsource_e2e::{Append, Cluster, Dump, Event, Ledger, Seed, Seen, Tail, Writer, failure};
use postgres::Client;
use serde_json::json;
use uuid::Uuid;

const STEPS: u64 = 120;
const RESTORED: &str = "restored";
const PAGE: i64 = 500;

#[test]
fn a_custom_dump_restored_beside_the_original_goes_on() {
    let cluster = Cluster::with_store("dump-custom");
    fill(&cluster);
    let dump = Dump::of(&cluster, STORE, &["--format=custom"]);
    cluster.create_database(RESTORED);
    dump.restore_with_pg_restore(&cluster, RESTORED, &["--jobs=2"]);
    assert_same_and_goes_on(&cluster, &cluster);
}

#[test]
fn a_plain_dump_restored_beside_the_original_goes_on() {
    let cluster = Cluster::with_store("dump-plain");
    fill(&cluster);
    let dump = Dump::of(&cluster, STORE, &["--format=plain"]);
    cluster.create_database(RESTORED);
    dump.restore_with_psql(&cluster, RESTORED);
    assert_same_and_goes_on(&cluster, &cluster);
}

/// The new server's counter of positions is far below the positions that the dump brings.
#[test]
fn a_dump_restored_in_a_new_server_goes_on() {
    let (cluster, other) = (Cluster::with_store("dump-from"), Cluster::start("dump-to", &[]));
    fill(&cluster);
    let dump = Dump::of(&cluster, STORE, &["--format=custom"]);
    other.create_database(RESTORED);
    dump.restore_with_pg_restore(&other, RESTORED, &[]);
    assert_same_and_goes_on(&cluster, &other);
}

/// As above, but the new server has appended in another database before, so that its counter is
/// in use when the restored positions come in.
#[test]
fn a_dump_restored_in_a_server_that_appends_goes_on() {
    let (cluster, other) =
        (Cluster::with_store("dump-busy-from"), Cluster::with_store("dump-busy"));
    fill(&cluster);
    let event = [NewEvent::new("t", json!(1))];
    Append::to("s", &event).one(&mut other.store()).expect("an append");
    let dump = Dump::of(&cluster, STORE, &["--format=custom"]);
    other.create_database(RESTORED);
    dump.restore_with_pg_restore(&other, RESTORED, &[]);
    assert_same_and_goes_on(&cluster, &other);
    Append::to("s", &event).one(&mut other.store()).expect("an append");
    assert_verified(&mut other.store());
}

/// Restoring does not need the library to be preloaded; appending does, and goes on right when it
/// is.
#[test]
fn a_dump_restored_without_preload_goes_on_with_it() {
    let cluster = Cluster::with_store("dump-preloaded");
    let other = Cluster::start("dump-unloaded", &["shared_preload_libraries="]);
    fill(&cluster);
    let dump = Dump::of(&cluster, STORE, &["--format=custom"]);
    other.create_database(RESTORED);
    dump.restore_with_pg_restore(&other, RESTORED, &[]);
    other.stop(Stop::Fast);
    other.start_again(&[]);
    assert_same_and_goes_on(&cluster, &other);
}

/// Events of every kind: long and short runs, gaps by rollback, metadata, ids, tenants, entities,
/// odd names, times of their own.
fn fill(cluster: &Cluster) {
    let (ledger, seen, shared) = (Ledger::default(), Seen::default(), shared_streams(9));
    let mut client = cluster.store();
    let mut writer = Writer {
        ledger: &ledger,
        seen: &seen,
        shared: &shared,
        own: "own".to_owned(),
        rng: Seed::announce().rng(1),
        pause_max: Duration::ZERO,
    };
    for _ in 0..STEPS {
        writer.step(&mut client).expect("an append");
    }
    let event = NewEvent {
        event_type: "ordered \\N \t'quoted'".to_owned(),
        payload: json!({"text": "ünï\\n\u{1F600}\"", "list": [1, null, {"deep": [true]}]}),
        metadata: Some(json!({"by": "somebody"})),
        id: Some(Uuid::from_u128(7)),
    };
    let plain = NewEvent::new("plain", json!("x".repeat(300)));
    let events = [plain.clone(), event.clone(), plain.clone(), event.with_id(Uuid::from_u128(8))];
    let given_ids = [events[1].clone(), events[3].clone()];
    let stream = "näme with 'quotes', \\ and\ttab";
    let append =
        Append { tenant: "tenant 2", entity: Some("entity"), ..Append::to(stream, &given_ids) };
    append.many(&mut client).expect("an append");
    Append::to("with gaps", &[plain]).one(&mut client).expect("an append");
    client
        .execute("SELECT allsource.es_create_stream('empty', entity_id => 'nobody')", &[])
        .expect("es_create_stream");
    let give_times = "UPDATE allsource.event_log l SET timestamps = (
             SELECT array_agg(\"timestamp\" + n * interval '1.000001 s' ORDER BY n)
               FROM generate_series(0, cardinality(event_types) - 1) AS n
         ) WHERE first_version % 2 = 0;
         UPDATE allsource.event_log l SET checksum = allsource.es_run_checksum(l)";
    client.batch_execute(give_times).expect("times");
}

fn streams_of(client: &mut Client) -> Vec<String> {
    let query = "SELECT s::text FROM allsource.event_streams s ORDER BY 1";
    client.query(query, &[]).expect("the streams").iter().map(|row| row.get(0)).collect()
}

fn stats_of(client: &mut Client) -> Vec<String> {
    let query = "SELECT (partition_id, stream_count, total_events, last_position, \
                 last_append_at)::text FROM allsource.partition_stats ORDER BY partition_id";
    client.query(query, &[]).expect("partition_stats").iter().map(|row| row.get(0)).collect()
}

fn assert_same_and_goes_on(original: &Cluster, copy: &Cluster) {
    let (mut from, mut to) = (original.store(), copy.connect(RESTORED));
    let content = all_events(&mut from).expect("the original's content");
    assert!(content.len() > 200, "only {} events", content.len());
    assert_eq!(all_events(&mut to).expect("the copy's content"), content);
    assert_eq!(streams_of(&mut to), streams_of(&mut from));
    assert_eq!(stats_of(&mut to), stats_of(&mut from));
    assert_verified(&mut to);

    let highest = content.last().expect("an event").position;
    let safe = safe_position(&mut to).expect("es_safe_position");
    assert!(safe >= highest, "the copy's tail must reach position {highest}, not only {safe}");
    let mut tail = Tail::after(0);
    while tail.poll(&mut to, PAGE).expect("es_read_all") > 0 {}
    tail.assert_saw_exactly(&content);

    let event = [NewEvent::new("later", json!({"after": "restore"}))];
    let version = current_version(&mut to, "shared-0", "default").expect("es_stream").unwrap_or(0);
    let written = Append::to("shared-0", &event).expecting(version).one(&mut to);
    assert_eq!(written.expect("an append to a restored stream"), version + 1);
    for number in 0..100 {
        let name = format!("new-{number}");
        let version = Append::to(&name, &event).expecting(0).one(&mut to).expect("a new stream");
        assert_eq!(version, 1);
    }
    assert_ids_are_known(&mut to, &content);

    let after = all_events(&mut to).expect("the copy's content");
    assert_eq!(after[..content.len()], content, "new positions are above the restored ones");
    assert_eq!(after.len(), content.len() + 101);
    while tail.poll(&mut to, PAGE).expect("es_read_all") > 0 {}
    tail.assert_saw_exactly(&after);
    let query = "SELECT count(*) - count(DISTINCT stream_no) FROM allsource.event_streams";
    let twice: i64 = to.query_one(query, &[]).expect("stream numbers").get(0);
    assert_eq!(twice, 0, "stream numbers given twice");
    assert_verified(&mut to);
}

/// An id of a restored event, given again with another content, is refused.
fn assert_ids_are_known(client: &mut Client, content: &[Event]) {
    let known = content.iter().find(|event| event.event_id.is_some()).expect("an event with id");
    let event = NewEvent {
        event_type: known.event_type.clone(),
        payload: json!("something else"),
        metadata: None,
        id: known.event_id,
    };
    let events = [event];
    let append = Append { tenant: &known.tenant_id, ..Append::to(&known.stream_id, &events) };
    assert_eq!(failure::refusal(append.one(client)), failure::DUPLICATE_ID);
}
