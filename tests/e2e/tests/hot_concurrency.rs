//! Hot partitions while others append, read, lock, change tables and pause the workers: an event's version
//! and time never change once anybody has seen it, nothing durable is ever missing, and what cannot be
//! settled holds up nothing else.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use allsource_e2e::bulk::{self, Enqueue, EnqueueBatch, flush, pause, resume, workers_up};
use allsource_e2e::calls::{all_events, assert_verified, current_version, names_in, verify};
use allsource_e2e::cluster::Stop;
use allsource_e2e::failure::{
    BAD_ARGUMENT, CANCELLED, NOT_ALLOWED, NOT_IN_STATE, READ_ONLY, SERIALIZATION_FAILURE, describe,
    refusal, sqlstate,
};
use allsource_e2e::hot::{self, Sightings, assert_is_stream};
use allsource_e2e::locks::{process_of, until_waits};
use allsource_e2e::{
    Append, Batch, BatchItem, Cluster, Event, NewEvent, ReadStream, Seed, patience, sizes,
};
use postgres::{Client, GenericClient, IsolationLevel};
use rand::RngExt;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

/// Nothing is settled but what is asked for.
const RARELY: &str = "allsource.settle_interval=1h";
const OFTEN: &str = "allsource.settle_interval=20ms";

/// The sidecar is asked for every tail.
const ALWAYS_ASKED: &str = "allsource.sidecar_min_batches=0";

/// How much one pass of the settler may hold in memory.
const LITTLE_MEMORY: &str = "maintenance_work_mem=1MB";

fn event(payload: Value) -> NewEvent {
    NewEvent::new("t", payload)
}

fn read(client: &mut impl GenericClient, stream: &str) -> Vec<Event> {
    hot::read(client, &ReadStream::all(stream)).expect("es_read")
}

fn payloads(client: &mut impl GenericClient, stream: &str) -> Vec<Value> {
    let events = read(client, stream);
    assert_is_stream(&events, stream);
    events.into_iter().map(|event| event.payload).collect()
}

fn numbers(range: std::ops::Range<i64>) -> Vec<Value> {
    range.map(|number| json!(number)).collect()
}

/// How many events of a stream have no position.
fn unsettled(client: &mut impl GenericClient, stream: &str) -> usize {
    read(client, stream).iter().filter(|event| event.position == 0).count()
}

fn enqueue(client: &mut Client, stream: &str, range: std::ops::Range<i64>) {
    for number in range {
        Enqueue::to(stream, &event(json!(number))).send(client).expect("es_enqueue");
    }
}

/// As one batch, which is durable when this returns.
fn enqueue_durably(client: &mut Client, stream: &str, range: std::ops::Range<i64>) {
    let items: Vec<_> = range.map(|number| (stream.to_owned(), event(json!(number)))).collect();
    EnqueueBatch::of(&items).durably().send(client).expect("durable");
}

fn append(
    client: &mut impl GenericClient,
    stream: &str,
    number: i64,
) -> Result<i64, postgres::Error> {
    Append::to(stream, &[event(json!(number))]).one(client)
}

/// Other streams of a partition than that of its [`Place`].
fn neighbours(client: &mut Client, partition: i32, count: i64) -> Vec<String> {
    names_in(client, partition, count + 1).split_off(1)
}

/// A stream of a partition that is not hot.
fn elsewhere(client: &mut Client, partition: i32) -> String {
    names_in(client, partition + 1, 1).remove(0)
}

/// Where a scenario takes place: a server with one worker, a partition of its own that is hot, and a
/// stream of that. The partition behind it is its own too, and cold.
#[derive(Clone, Copy)]
struct Place<'c> {
    cluster: &'c Cluster,
    partition: i32,
    held: &'c str,
}

/// A scenario and its name.
type Scenario = (&'static str, fn(Place<'_>));

macro_rules! scenarios {
    ($($scenario:ident),* $(,)?) => { &[$((stringify!($scenario), $scenario as fn(Place<'_>))),*] };
}

/// Runs scenarios one after another on one server, which they leave settled.
fn run(name: &str, settings: &[&str], scenarios: &[Scenario]) {
    let settings = [settings, &[ALWAYS_ASKED]].concat();
    let cluster = Cluster::with_queue(name, &settings);
    for ((scenario, play), partition) in scenarios.iter().zip((0..32).step_by(2)) {
        println!("{scenario}");
        let mut client = cluster.store();
        let held = names_in(&mut client, partition, 1).remove(0);
        hot::heat(&mut client, partition).expect("es_heat");
        play(Place { cluster: &cluster, partition, held: &held });
        // Some restart the server.
        assert_settled(&mut cluster.store());
    }
}

#[test]
fn appends_and_tails() {
    let scenarios = scenarios![
        events_enqueued_for_a_locked_stream_come_after_the_append,
        expected_versions_count_the_tail,
        a_stream_that_is_known_by_its_tail_is_not_created_again,
        a_savepoint_gives_back_the_tail_that_an_append_has_settled,
        a_savepoint_after_the_tail_was_settled_keeps_it,
        an_append_behind_a_tail_that_its_snapshot_does_not_show_is_refused,
        an_append_that_waits_for_a_stream_finds_what_came_meanwhile,
    ];
    run("hot-appends", &[RARELY], scenarios);
}

#[test]
fn snapshots() {
    let scenarios = scenarios![
        a_snapshot_shows_the_same_over_several_settles,
        a_snapshot_shows_the_same_when_the_sidecar_is_made_anew,
        a_snapshot_shows_the_same_behind_what_passes_have_left,
        a_snapshot_shows_the_same_behind_what_passes_have_left_when_the_sidecar_is_made_anew,
    ];
    run("hot-snapshots", &[RARELY], scenarios);
}

#[test]
fn what_cannot_be_settled() {
    let scenarios = scenarios![
        a_locked_stream_holds_up_no_other,
        a_stream_that_an_index_fails_for_is_left_and_others_are_settled,
        a_stream_that_a_trigger_fails_for_is_left_and_others_are_settled,
        a_long_tail_that_cannot_be_settled_holds_up_no_other,
        what_the_holder_of_a_stream_has_settled_is_counted_once,
    ];
    run("hot-left", &[RARELY, LITTLE_MEMORY], scenarios);
}

#[test]
fn tables_that_are_changed_and_locked() {
    let scenarios = scenarios![
        tables_are_rewritten_while_hot,
        locked_tables_hold_up_only_what_needs_them,
        the_list_of_hot_partitions_may_be_locked,
    ];
    run("hot-tables", &[RARELY], scenarios);
}

#[test]
fn commands() {
    let scenarios = scenarios![
        cooling_settles_waits_and_times_out,
        a_partition_is_hot_after_it_was_made_hot_whoever_wanted_it_cold_before,
        commands_take_effect_at_once_and_need_a_transaction_that_holds_nothing,
        roles_may_do_what_they_are_for,
        a_pause_holds_up_settling_and_refuses_commands,
    ];
    run("hot-commands", &[RARELY], scenarios);
}

#[test]
fn what_the_owner_does_to_the_tables() {
    let scenarios = scenarios![
        a_damaged_batch_is_found,
        a_partition_that_was_forgotten_is_hot_again_with_its_batches,
        batches_that_their_owner_has_removed_do_not_come_back,
        a_store_that_its_owner_has_emptied_is_empty,
    ];
    run("hot-owner", &[RARELY], scenarios);
}

/// Settles all, and nothing may be left or wrong then.
fn assert_settled(client: &mut Client) {
    flush(client).expect("es_flush");
    hot::settle(client).expect("es_settle");
    let query = "SELECT count(*) FROM allsource.hot_batches";
    assert_eq!(client.query_one(query, &[]).expect(query).get::<_, i64>(0), 0, "batches left");
    assert_verified(client);
    let letters = bulk::dead_letters(client).expect("es_dead_letters");
    assert!(letters.is_empty(), "{letters:#?}");
}

fn last_error(client: &mut Client, partition: i32) -> String {
    let query = "SELECT COALESCE(last_error, '') FROM allsource.hot_partitions_status \
                 WHERE partition_id = $1";
    client.query_one(query, &[&partition]).expect(query).get(0)
}

// Appends and tails.

/// Enqueued while the stream is locked, events come behind those of who has locked it.
fn events_enqueued_for_a_locked_stream_come_after_the_append(
    Place { cluster, partition, held }: Place<'_>,
) {
    let (mut client, mut holder) = (cluster.store(), cluster.store());
    let sightings = Sightings::default();
    for (round, end) in ["COMMIT", "ROLLBACK", "COMMIT"].into_iter().enumerate() {
        let first = 100 * i64::try_from(round).expect("a number");
        enqueue_durably(&mut client, held, first..first + 3);
        let before = read(&mut client, held);
        sightings.note(&before, "before");
        holder.batch_execute("BEGIN").expect("BEGIN");
        let version = append(&mut holder, held, first + 50).expect("es_append");
        assert_eq!(version, before.len() as i64 + 1, "the tail counts");
        enqueue(&mut client, held, first + 3..first + 20);
        let free = elsewhere(&mut client, partition);
        enqueue_durably(&mut client, &free, first..first + 1);
        assert_eq!(read(&mut client, held), before, "{end}: while it is locked");
        holder.batch_execute(end).expect(end);
        flush(&mut client).expect("es_flush");
        let mut right: Vec<Value> = before.iter().map(|event| event.payload.clone()).collect();
        right.extend((end == "COMMIT").then(|| json!(first + 50)));
        right.extend(numbers(first + 3..first + 20));
        assert_eq!(payloads(&mut client, held), right, "after {end}");
        sightings.note(&read(&mut client, held), end);
    }
    assert_settled(&mut client);
    sightings.note(&read(&mut client, held), "settled");
}

fn expected_versions_count_the_tail(Place { cluster, partition, held }: Place<'_>) {
    let mut client = cluster.store();
    enqueue_durably(&mut client, held, 0..3);
    let more = [event(json!(3))];
    let append = Append::to(held, &more);
    for wrong in [0, 1, 2, 4] {
        let error = append.expecting(wrong).one(&mut client).expect_err("a wrong version");
        assert_eq!(sqlstate(&error), SERIALIZATION_FAILURE, "{}", describe(&error));
        let detail = error.as_db_error().and_then(|error| error.detail()).unwrap_or("").to_owned();
        assert!(detail.contains("is at version 3"), "{detail}");
    }
    // A stream that is known by its tail is there, and has no entity.
    let error = Append { entity: Some("e"), ..append }.one(&mut client).expect_err("an entity");
    assert_eq!(sqlstate(&error), BAD_ARGUMENT, "{}", describe(&error));
    assert_eq!(unsettled(&mut client, held), 3, "what is refused settles nothing");
    assert_eq!(append.expecting(3).one(&mut client).expect("es_append"), 4);
    assert_eq!(unsettled(&mut client, held), 0);
    enqueue_durably(&mut client, held, 4..6);
    assert_eq!(append.expecting(-1).one(&mut client).expect("any version above 0"), 7);
    enqueue_durably(&mut client, held, 7..9);
    let query = "SELECT current_version FROM allsource.es_create_stream($1)";
    let version: i64 = client.query_one(query, &[&held]).expect(query).get(0);
    assert_eq!(version, 9);
    let names = neighbours(&mut client, partition, 2);
    enqueue_durably(&mut client, &names[0], 0..2);
    let item = |stream: &str, expected| {
        let event = event(json!("b"));
        BatchItem { stream: stream.to_owned(), expected: Some(expected), event }
    };
    let items = [item(&names[0], 2), item(&names[1], 0), item(held, 9)];
    let written = Batch::of(&items).append(&mut client).expect("es_append_batch");
    let firsts: Vec<i64> = written.iter().map(|stream| stream.first_version).collect();
    assert_eq!(firsts, [3, 1, 10]);
    let version: i64 = client.query_one(query, &[&names[0]]).expect(query).get(0);
    assert_eq!(version, 3);
    assert_settled(&mut client);
}

/// A stream that has only a tail, and is asked to be created.
fn a_stream_that_is_known_by_its_tail_is_not_created_again(Place { cluster, held, .. }: Place<'_>) {
    let mut client = cluster.store();
    enqueue_durably(&mut client, held, 0..3);
    let query = "SELECT current_version FROM allsource.es_create_stream($1)";
    let version: i64 = client.query_one(query, &[&held]).expect(query).get(0);
    assert_eq!(version, 3);
    assert_eq!(current_version(&mut client, held, "default").expect("es_stream"), Some(3));
    assert_eq!(append(&mut client, held, 3).expect("es_append"), 4);
    assert_settled(&mut client);
    assert_eq!(payloads(&mut client, held), numbers(0..4));
}

/// The append has settled the tail, and that is undone with it.
fn a_savepoint_gives_back_the_tail_that_an_append_has_settled(
    Place { cluster, held, .. }: Place<'_>,
) {
    let (mut client, mut writer) = (cluster.store(), cluster.store());
    let sightings = Sightings::default();
    enqueue_durably(&mut client, held, 0..3);
    sightings.note(&read(&mut client, held), "the tail");
    writer.batch_execute("BEGIN; SAVEPOINT a").expect("BEGIN");
    assert_eq!(append(&mut writer, held, 100).expect("es_append"), 4);
    assert_eq!(unsettled(&mut writer, held), 0);
    writer.batch_execute("ROLLBACK TO a").expect("ROLLBACK TO");
    assert_eq!(unsettled(&mut writer, held), 3);
    // Again, in the same transaction.
    assert_eq!(append(&mut writer, held, 101).expect("es_append"), 4);
    writer.batch_execute("ROLLBACK TO a").expect("ROLLBACK TO");
    // Nobody holds the stream now: it grows, and is settled, while the transaction is open.
    enqueue_durably(&mut client, held, 3..5);
    assert_eq!(payloads(&mut client, held), numbers(0..5));
    assert_eq!(payloads(&mut writer, held), numbers(0..5));
    sightings.note(&read(&mut client, held), "grown");
    hot::settle(&mut client).expect("es_settle");
    assert_eq!(unsettled(&mut client, held), 0);
    sightings.note(&read(&mut client, held), "settled");
    assert_eq!(append(&mut writer, held, 5).expect("es_append"), 6);
    writer.batch_execute("COMMIT").expect("COMMIT");
    assert_eq!(payloads(&mut client, held), numbers(0..6));
    sightings.note(&read(&mut client, held), "committed");
    assert_settled(&mut client);
}

/// The same for a stream whose tail was settled by an append of the transaction before the savepoint.
fn a_savepoint_after_the_tail_was_settled_keeps_it(Place { cluster, held, .. }: Place<'_>) {
    let (mut client, mut writer) = (cluster.store(), cluster.store());
    enqueue_durably(&mut client, held, 0..3);
    writer.batch_execute("BEGIN").expect("BEGIN");
    assert_eq!(append(&mut writer, held, 3).expect("es_append"), 4);
    writer.batch_execute("SAVEPOINT a").expect("SAVEPOINT");
    assert_eq!(append(&mut writer, held, 100).expect("es_append"), 5);
    writer.batch_execute("ROLLBACK TO a").expect("ROLLBACK TO");
    enqueue(&mut client, held, 5..7);
    assert_eq!(append(&mut writer, held, 4).expect("es_append"), 5);
    writer.batch_execute("COMMIT").expect("COMMIT");
    flush(&mut client).expect("es_flush");
    assert_eq!(payloads(&mut client, held), numbers(0..7));
    assert_settled(&mut client);
}

// Snapshots.

fn repeatable(client: &mut Client) -> postgres::Transaction<'_> {
    let builder = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
    builder.start().expect("BEGIN")
}

/// Whether one stream cannot be settled, so that the first batches stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    First,
}

/// What a snapshot shows stays the same while what it shows is settled, and the batches are gone. Also
/// when the sidecar is made anew meanwhile.
fn assert_snapshots_stay(place: Place<'_>, left: Left, mut disturb: impl FnMut(&mut Client)) {
    let Place { cluster, partition, held } = place;
    let mut client = cluster.store();
    let (mut one, mut other, mut importer) = (cluster.store(), cluster.store(), cluster.store());
    let mut holder = cluster.store();
    if left == Left::First {
        enqueue_durably(&mut client, held, 0..3);
        holder.batch_execute("BEGIN").expect("BEGIN");
        append(&mut holder, held, 3).expect("es_append");
    }
    let names = neighbours(&mut client, partition, 3);
    append(&mut client, &names[0], 0).expect("es_append");
    for name in &names {
        enqueue_durably(&mut client, name, 1..4);
    }
    let mut one = repeatable(&mut one);
    let shown: Vec<_> = names.iter().map(|name| read(&mut one, name)).collect();
    let snapshot: String =
        one.query_one("SELECT pg_export_snapshot()", &[]).expect("a snapshot").get(0);
    let mut other = repeatable(&mut other);
    let shown_later = {
        enqueue_durably(&mut client, &names[1], 4..6);
        names.iter().map(|name| read(&mut other, name)).collect::<Vec<_>>()
    };
    for round in 0..4 {
        match left {
            Left::Nothing => hot::settle(&mut client).expect("es_settle"),
            Left::First => {
                // It is tried more and more rarely.
                hot::settle_within(&mut client, Some(partition), "100ms").expect_err("locked");
                patience::until_true("the others are settled", || {
                    names.iter().all(|name| unsettled(&mut client, name) == 0)
                        && hot::batches(&mut client, partition) == 1
                });
            }
        }
        disturb(&mut client);
        enqueue_durably(&mut client, &names[1], 10 * round + 10..10 * round + 13);
        append(&mut client, &names[2], 10 * round + 13).expect("es_append");
        until_applied(&mut client, held);
        for (name, (shown, shown_later)) in names.iter().zip(shown.iter().zip(&shown_later)) {
            assert_eq!(read(&mut one, name), *shown, "{name} in round {round}");
            assert_eq!(read(&mut other, name), *shown_later, "{name} later, in round {round}");
            let backward = ReadStream {
                backward: true,
                from_version: None,
                max_count: Some(2),
                ..ReadStream::all(name)
            };
            let last = hot::read(&mut one, &backward).expect("es_read");
            let right: Vec<_> = shown.iter().rev().take(2).cloned().collect();
            assert_eq!(last, right, "{name} backward, in round {round}");
            let version = current_version(&mut one, name, "default").expect("es_stream");
            assert_eq!(version, Some(shown.len() as i64), "{name} in round {round}");
        }
    }
    let mut importing = repeatable(&mut importer);
    importing.batch_execute(&format!("SET TRANSACTION SNAPSHOT '{snapshot}'")).expect("imported");
    for (name, shown) in names.iter().zip(&shown) {
        assert_eq!(read(&mut importing, name), *shown, "{name}, imported");
    }
    drop((importing, one, other));
    if left == Left::First {
        holder.batch_execute("ROLLBACK").expect("ROLLBACK");
    }
    assert_settled(&mut client);
}

fn a_snapshot_shows_the_same_over_several_settles(place: Place<'_>) {
    assert_snapshots_stay(place, Left::Nothing, |_| {});
}

fn a_snapshot_shows_the_same_when_the_sidecar_is_made_anew(place: Place<'_>) {
    assert_snapshots_stay(place, Left::Nothing, make_sidecar_anew);
}

fn a_snapshot_shows_the_same_behind_what_passes_have_left(place: Place<'_>) {
    assert_snapshots_stay(place, Left::First, |_| {});
}

fn a_snapshot_shows_the_same_behind_what_passes_have_left_when_the_sidecar_is_made_anew(
    place: Place<'_>,
) {
    assert_snapshots_stay(place, Left::First, make_sidecar_anew);
}

fn make_sidecar_anew(client: &mut Client) {
    hot::rebuild(client).expect("es_sidecar_rebuild");
    let query = "SELECT serving FROM allsource.es_sidecar_stats()";
    patience::until_true("the sidecar serves", || {
        client.query_one(query, &[]).expect(query).get(0)
    });
}

/// What a snapshot does not show must not be appended behind.
fn an_append_behind_a_tail_that_its_snapshot_does_not_show_is_refused(
    Place { cluster, partition, .. }: Place<'_>,
) {
    let (mut client, mut writer) = (cluster.store(), cluster.store());
    let names = neighbours(&mut client, partition, 6);
    let [headless, with_head, shown, settled, settled_unseen, new] = &names[..] else {
        unreachable!("six names")
    };
    append(&mut client, with_head, 0).expect("es_append");
    for name in [shown, settled] {
        enqueue_durably(&mut client, name, 0..2);
    }
    let attempts: [(&str, bool); 6] = [
        (headless, false),
        (with_head, false),
        (settled_unseen, false),
        (settled, false),
        (shown, true),
        (new, true),
    ];
    for (name, is_let_through) in attempts {
        let mut transaction = repeatable(&mut writer);
        transaction.batch_execute("SELECT FROM allsource.event_streams LIMIT 1").expect("snapshot");
        match name {
            _ if name == headless || name == with_head => {
                enqueue_durably(&mut client, name, 10..12);
            }
            _ if name == settled_unseen => {
                enqueue_durably(&mut client, name, 10..12);
                hot::settle(&mut client).expect("es_settle");
                enqueue_durably(&mut client, shown, 10..12);
            }
            // Settled by an append, as es_settle would settle `shown` too.
            _ if name == settled => {
                append(&mut client, name, 12).expect("es_append");
            }
            _ => {}
        }
        let answer = append(&mut transaction, name, 20);
        match answer {
            Ok(_) => {
                assert!(is_let_through, "{name} was let through");
                transaction.commit().expect("COMMIT");
            }
            Err(error) => {
                assert!(!is_let_through, "{name}: {}", describe(&error));
                assert_eq!(sqlstate(&error), SERIALIZATION_FAILURE, "{}", describe(&error));
                transaction.rollback().expect("ROLLBACK");
            }
        }
    }
    assert_settled(&mut client);
}

/// Readers, appenders, workers, the settler and the making of the sidecar at once.
#[test]
fn readers_never_see_an_event_change_and_never_miss_a_durable_one() {
    const ROUNDS: u64 = 120;
    let seed = Seed::announce();
    let settings = [OFTEN, "allsource.workers=2", "allsource.batch_max_events=50"];
    let cluster = Cluster::with_queue("hot-readers", &settings);
    let mut client = cluster.store();
    let mut names = Vec::new();
    for (partition, count) in [(0, 12), (1, 6)] {
        hot::heat(&mut client, partition).expect("es_heat");
        names.extend(names_in(&mut client, partition, count));
    }
    let (names, sightings) = (&names, Sightings::default());
    let (sightings, cluster) = (&sightings, &cluster);
    // By stream: what is known to be durable.
    let durable: &Mutex<HashMap<String, Vec<Value>>> = &Mutex::new(HashMap::new());
    let is_over = &AtomicBool::new(false);
    let note = |stream: &str, payloads: Vec<Value>| {
        let mut durable = durable.lock().expect("the lock");
        durable.entry(stream.to_owned()).or_default().extend(payloads);
    };
    let rounds = ROUNDS * sizes::factor();
    thread::scope(|scope| {
        let mut writers = Vec::new();
        for number in 0..2 {
            let note = &note;
            writers.push(scope.spawn(move || {
                let (mut rng, mut client) = (seed.rng(number), cluster.store());
                for round in 0..rounds {
                    let name = names.choose(&mut rng).expect("a name");
                    let payload = json!({"by": number, "n": round});
                    let count = rng.random_range(1..=3);
                    let events = vec![event(payload.clone()); count];
                    let mut transaction = client.transaction().expect("BEGIN");
                    if rng.random_bool(0.3) {
                        transaction.batch_execute("SAVEPOINT a").expect("SAVEPOINT");
                        append(&mut transaction, name, -1).expect("es_append");
                        transaction.batch_execute("ROLLBACK TO a").expect("ROLLBACK TO");
                    }
                    Append::to(name, &events).many(&mut transaction).expect("es_append_many");
                    if rng.random_bool(0.2) {
                        transaction.rollback().expect("ROLLBACK");
                    } else {
                        transaction.commit().expect("COMMIT");
                        note(name, vec![payload; count]);
                    }
                }
            }));
        }
        for number in 2..4 {
            let note = &note;
            writers.push(scope.spawn(move || {
                let (mut rng, mut client) = (seed.rng(number), cluster.store());
                for round in 0..rounds {
                    let count = rng.random_range(1..=40);
                    let items: Vec<(String, NewEvent)> = (0..count)
                        .map(|place| {
                            let name = names.choose(&mut rng).expect("a name").clone();
                            (name, event(json!({"by": number, "n": round * 100 + place})))
                        })
                        .collect();
                    let is_durable = rng.random_bool(0.5);
                    let batch = EnqueueBatch { durable: is_durable, ..EnqueueBatch::of(&items) };
                    batch.send(&mut client).expect("es_enqueue_batch");
                    if is_durable {
                        for (name, event) in items {
                            note(&name, vec![event.payload]);
                        }
                    }
                }
            }));
        }
        for number in 4..7 {
            scope.spawn(move || {
                let (mut rng, mut client) = (seed.rng(number), cluster.store());
                while !is_over.load(Ordering::Relaxed) {
                    let name = names.choose(&mut rng).expect("a name");
                    let expected = durable.lock().expect("the lock").get(name).cloned();
                    let events = read(&mut client, name);
                    assert_is_stream(&events, name);
                    assert_contains(&events, expected.unwrap_or_default(), name);
                    sightings.note(&events, name);
                    let seen = events.len() as i64;
                    let version = current_version(&mut client, name, "default").expect("es_stream");
                    assert!(version.unwrap_or(0) >= seen, "{name}: {version:?} after {seen}");
                }
            });
        }
        scope.spawn(move || {
            let (mut rng, mut client) = (seed.rng(9), cluster.store());
            while !is_over.load(Ordering::Relaxed) {
                match rng.random_range(0..20) {
                    0 => hot::rebuild(&mut client).expect("es_sidecar_rebuild"),
                    _ => hot::settle(&mut client).expect("es_settle"),
                }
            }
        });
        for writer in writers {
            let written = writer.join();
            if written.is_err() {
                is_over.store(true, Ordering::Relaxed);
            }
            written.expect("a writer");
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_settled(&mut client);
    for name in names {
        let events = read(&mut client, name);
        sightings.note(&events, "at the end");
        let durable = durable.lock().expect("the lock").get(name).cloned();
        assert_contains(&events, durable.unwrap_or_default(), name);
        assert_order_of_each(&events);
    }
}

/// Each of these payloads is there, as often as it is expected.
fn assert_contains(events: &[Event], expected: Vec<Value>, name: &str) {
    let mut counts: HashMap<String, i64> = HashMap::new();
    for event in events {
        *counts.entry(event.payload.to_string()).or_default() += 1;
    }
    for payload in expected {
        let count = counts.entry(payload.to_string()).or_default();
        *count -= 1;
        assert!(*count >= 0, "{name} lacks {payload}: {events:#?}");
    }
}

/// What one writer has written to a stream is in its order.
fn assert_order_of_each(events: &[Event]) {
    let mut last: HashMap<u64, u64> = HashMap::new();
    for event in events {
        let number = |key: &str| event.payload[key].as_u64().expect("a number");
        let before = last.insert(number("by"), number("n"));
        assert!(before.is_none_or(|before| before <= number("n")), "{events:#?}");
    }
}

/// A request to settle is met however it falls between what the settler does.
#[test]
fn many_requests_and_long_tails() {
    let scenarios =
        scenarios![no_request_to_settle_is_forgotten, a_long_tail_is_read_and_settled_in_order];
    run("hot-many", &[RARELY, "allsource.queue_size=64MB"], scenarios);
}

fn no_request_to_settle_is_forgotten(Place { cluster, partition, .. }: Place<'_>) {
    const ROUNDS: i64 = 150;
    thread::scope(|scope| {
        for number in 0..3 {
            scope.spawn(move || {
                let mut client = cluster.store();
                let name = neighbours(&mut client, partition, 3).remove(number);
                for round in 0..ROUNDS {
                    enqueue_durably(&mut client, &name, round..round + 1);
                    hot::settle_within(&mut client, None, "30s").expect("es_settle");
                    assert_eq!(unsettled(&mut client, &name), 0, "round {round}");
                }
                assert_eq!(payloads(&mut client, &name), numbers(0..ROUNDS));
            });
        }
    });
    assert_settled(&mut cluster.store());
}

/// Longer than what is settled at once, and with events that are larger than an answer of the sidecar.
fn a_long_tail_is_read_and_settled_in_order(Place { cluster, partition, .. }: Place<'_>) {
    const EVENTS: i64 = 40_000;
    let mut client = cluster.store();
    let filler = "x".repeat(600);
    let names = neighbours(&mut client, partition, 3);
    let large = json!((0..20_000).map(|n| format!("{n}-{}", n * 7)).collect::<Vec<_>>());
    for from in (0..EVENTS).step_by(2_000) {
        let items: Vec<(String, NewEvent)> = (from..from + 2_000)
            .map(|n| (names[0].clone(), event(json!({"n": n, "filler": filler}))))
            .chain((from % 8_000 == 0).then(|| (names[1].clone(), event(large.clone()))))
            .collect();
        EnqueueBatch::of(&items).durably().send(&mut client).expect("durable");
    }
    let assert_complete = |client: &mut Client, unsettled: bool| {
        let events = read(client, &names[0]);
        assert_is_stream(&events, "a long tail");
        let found: Vec<_> = events.iter().map(|e| e.payload["n"].as_i64().expect("n")).collect();
        assert!(found == (0..EVENTS).collect::<Vec<_>>(), "{} events", found.len());
        assert_eq!(events.iter().any(|event| event.position == 0), unsettled);
        let larges = read(client, &names[1]);
        assert_eq!(larges.len(), 5);
        assert!(larges.iter().all(|event| event.payload == large), "large events");
    };
    assert_complete(&mut client, true);
    let backward = ReadStream {
        backward: true,
        from_version: None,
        max_count: Some(3),
        ..ReadStream::all(&names[0])
    };
    let last = hot::read(&mut client, &backward).expect("es_read");
    let versions: Vec<i64> = last.iter().map(|event| event.version).collect();
    assert_eq!(versions, [EVENTS, EVENTS - 1, EVENTS - 2]);
    hot::settle(&mut client).expect("es_settle");
    assert_complete(&mut client, false);
    assert_settled(&mut client);
}

// What cannot be settled.

/// An idle transaction has appended to one stream.
fn a_locked_stream_holds_up_no_other(Place { cluster, partition, held }: Place<'_>) {
    let (mut client, mut holder) = (cluster.store(), cluster.store());
    let names = neighbours(&mut client, partition, 20);
    enqueue_durably(&mut client, held, 0..4);
    let sightings = Sightings::default();
    holder.batch_execute("BEGIN").expect("BEGIN");
    append(&mut holder, held, 4).expect("es_append");
    enqueue(&mut client, held, 5..8);
    for round in 0..3 {
        for name in &names {
            enqueue(&mut client, name, 10 * round..10 * round + 10);
        }
        enqueue_durably(&mut client, &names[0], 1_000 + round..1_001 + round);
        let error = hot::settle_within(&mut client, Some(partition), "300ms").expect_err("locked");
        assert_eq!(sqlstate(&error), CANCELLED, "{}", describe(&error));
        assert!(describe(&error).contains(held), "{}", describe(&error));
        assert!(last_error(&mut client, partition).contains("is locked by process"));
        patience::until_true("the others are settled", || {
            names.iter().all(|name| unsettled(&mut client, name) == 0)
        });
        assert_eq!(payloads(&mut client, held), numbers(0..4), "round {round}");
        sightings.note(&read(&mut client, held), "held");
        assert_verified(&mut client);
    }
    // A stream of another partition that is hot is settled as ever.
    let free = elsewhere(&mut client, partition);
    let other = partition + 1;
    hot::heat(&mut client, other).expect("es_heat");
    enqueue_durably(&mut client, &free, 0..3);
    hot::settle_within(&mut client, Some(other), "30s").expect("es_settle");
    assert_eq!(unsettled(&mut client, &free), 0);
    holder.batch_execute("COMMIT").expect("COMMIT");
    flush(&mut client).expect("es_flush");
    assert_eq!(payloads(&mut client, held), numbers(0..8));
    assert_settled(&mut client);
    sightings.note(&read(&mut client, held), "settled");
    assert_eq!(last_error(&mut client, partition), "");
    let query = "SELECT sum(total_events)::int8, sum(unsettled_events)::int8 \
                 FROM allsource.partition_stats";
    let row = client.query_one(query, &[]).expect(query);
    let all = all_events(&mut client).expect("the content").len() as i64;
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (all, 0));
}

/// Events that were passed over stand in the table only, and are counted once.
fn what_the_holder_of_a_stream_has_settled_is_counted_once(
    Place { cluster, partition, held }: Place<'_>,
) {
    let (mut client, mut holder) = (cluster.store(), cluster.store());
    enqueue_durably(&mut client, held, 0..1);
    holder.batch_execute("BEGIN").expect("BEGIN");
    append(&mut holder, held, 1).expect("es_append");
    // More and more rarely: the next attempt is not soon.
    hot::settle_within(&mut client, Some(partition), "5s").expect_err("locked");
    let query = "SELECT total_events, unsettled_events FROM allsource.partition_stats \
                 WHERE partition_id = $1";
    let counts = |client: &mut Client| -> (i64, i64) {
        let row = client.query_one(query, &[&partition]).expect(query);
        (row.get(0), row.get(1))
    };
    assert_eq!(counts(&mut client), (1, 1));
    holder.batch_execute("COMMIT").expect("COMMIT");
    // Until the next pass the event may be counted in both places.
    assert_settled(&mut client);
    assert_eq!(counts(&mut client), (2, 0));
}

/// An index on a leaf of the log whose function fails for events of type `bad`.
fn failing_index(client: &mut Client, partition: i32) {
    let sql = format!(
        "CREATE OR REPLACE FUNCTION public.fails(types text[]) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$ \
         BEGIN IF 'bad' = ANY (types) THEN RAISE EXCEPTION 'this index fails'; END IF; \
         RETURN true; END $$; \
         CREATE INDEX failing ON allsource.event_log_p{partition:02} (public.fails(event_types))"
    );
    client.batch_execute(&sql).expect("an index");
}

fn failing_trigger(client: &mut Client, partition: i32) {
    let sql = format!(
        "CREATE OR REPLACE FUNCTION public.fails() RETURNS trigger LANGUAGE plpgsql AS $$ \
         BEGIN IF 'bad' = ANY (NEW.event_types) THEN RAISE EXCEPTION 'this trigger fails'; END IF; \
         RETURN NEW; END $$; \
         CREATE TRIGGER failing BEFORE INSERT ON allsource.event_log_p{partition:02} \
         FOR EACH ROW EXECUTE FUNCTION public.fails(); \
         ALTER TABLE allsource.event_log_p{partition:02} ENABLE ALWAYS TRIGGER failing"
    );
    client.batch_execute(&sql).expect("a trigger");
}

/// Code of users fails for one stream: it is left, and others are settled; also over a restart.
fn assert_failing_stream_is_left(
    Place { cluster, partition, held }: Place<'_>,
    make_fail: impl Fn(&mut Client, i32),
    reason: &str,
    mend: impl Fn(i32) -> String,
    how: Stop,
) {
    let mut client = cluster.store();
    let names = neighbours(&mut client, partition, 10);
    let sightings = Sightings::default();
    make_fail(&mut client, partition);
    let bad = NewEvent { event_type: "bad".into(), ..event(json!("bad")) };
    enqueue_durably(&mut client, held, 0..2);
    Enqueue::to(held, &bad).durably().send(&mut client).expect("it is taken in");
    enqueue_durably(&mut client, held, 3..5);
    let right = [json!(0), json!(1), json!("bad"), json!(3), json!(4), json!(5), json!(6)];
    for round in 0..2 {
        for name in &names {
            enqueue_durably(&mut client, name, round..round + 1);
        }
        let error = hot::settle_within(&mut client, None, "300ms").expect_err("it fails");
        assert_eq!(sqlstate(&error), CANCELLED, "{}", describe(&error));
        let message = last_error(&mut client, partition);
        assert!(message.contains(held) && message.contains(reason), "{message}");
        patience::until_true("the others are settled", || {
            names.iter().all(|name| unsettled(&mut client, name) == 0)
        });
        assert_eq!(payloads(&mut client, held), right[..5]);
        sightings.note(&read(&mut client, held), "it fails");
        // An append would have to settle it first.
        let error = append(&mut client, held, 100).expect_err("it fails");
        assert!(describe(&error).contains(reason), "{}", describe(&error));
        assert_verified(&mut client);
    }
    // It still grows.
    enqueue_durably(&mut client, held, 5..7);
    assert_eq!(payloads(&mut client, held), right);
    drop(client);
    cluster.stop(how);
    cluster.resume();
    client = cluster.store();
    workers_up(&mut client);
    assert_eq!(payloads(&mut client, held), right, "after {how:?}");
    sightings.note(&read(&mut client, held), "restarted");
    hot::settle_within(&mut client, None, "300ms").expect_err("it fails");
    assert_eq!(payloads(&mut client, held), right, "after {how:?} and settling");
    for name in &names {
        assert_eq!(payloads(&mut client, name), numbers(0..2), "after {how:?}");
    }
    client.batch_execute(&mend(partition)).expect("mended");
    patience::until_true("it is settled", || {
        hot::settle_within(&mut client, None, "30s").expect("es_settle");
        unsettled(&mut client, held) == 0
    });
    assert_eq!(payloads(&mut client, held), right);
    sightings.note(&read(&mut client, held), "settled");
    assert_eq!(append(&mut client, held, 100).expect("es_append"), 8);
    assert_settled(&mut client);
}

fn a_stream_that_an_index_fails_for_is_left_and_others_are_settled(place: Place<'_>) {
    let mend = |_| "DROP INDEX allsource.failing".to_owned();
    assert_failing_stream_is_left(place, failing_index, "this index fails", mend, Stop::Kill);
}

fn a_stream_that_a_trigger_fails_for_is_left_and_others_are_settled(place: Place<'_>) {
    let mend =
        |partition: i32| format!("DROP TRIGGER failing ON allsource.event_log_p{partition:02}");
    assert_failing_stream_is_left(place, failing_trigger, "this trigger fails", mend, Stop::Fast);
}

/// The tail that cannot be settled takes more than a pass may have in memory.
fn a_long_tail_that_cannot_be_settled_holds_up_no_other(
    Place { cluster, partition, held }: Place<'_>,
) {
    let mut client = cluster.store();
    let names = neighbours(&mut client, partition, 3);
    failing_index(&mut client, partition);
    let filler = "x".repeat(1_000);
    let bad = |n: i64| NewEvent::new("bad", json!({"n": n, "filler": filler}));
    for from in (0..6_000).step_by(1_000) {
        let items: Vec<_> = (from..from + 1_000).map(|n| (held.to_owned(), bad(n))).collect();
        EnqueueBatch::of(&items).durably().send(&mut client).expect("durable");
    }
    for name in &names {
        enqueue_durably(&mut client, name, 0..5);
    }
    hot::settle_within(&mut client, None, "300ms").expect_err("it fails");
    patience::until_true("the others are settled", || {
        names.iter().all(|name| unsettled(&mut client, name) == 0)
    });
    assert_eq!(read(&mut client, held).len(), 6_000);
    client.batch_execute("DROP INDEX allsource.failing").expect("DROP INDEX");
    assert_settled(&mut client);
    let found: Vec<_> =
        read(&mut client, held).iter().map(|e| e.payload["n"].as_i64().expect("n")).collect();
    assert!(found == (0..6_000).collect::<Vec<_>>(), "{} events", found.len());
}

// Tables that are changed and locked.

fn tables_are_rewritten_while_hot(Place { cluster, partition, .. }: Place<'_>) {
    let (mut client, mut old) = (cluster.store(), cluster.store());
    let names = neighbours(&mut client, partition, 5);
    let sightings = Sightings::default();
    let leaves: Vec<String> = ["hot_batches", "event_streams", "event_log", "event_ids"]
        .iter()
        .map(|root| format!("allsource.{root}_p{partition:02}"))
        .collect();
    let statements: Vec<String> = leaves
        .iter()
        .flat_map(|leaf| {
            ["VACUUM FULL", "REINDEX TABLE", "REINDEX TABLE CONCURRENTLY", "VACUUM (FREEZE)"]
                .map(|command| format!("{command} {leaf}"))
        })
        .chain([
            "REINDEX SCHEMA allsource".to_owned(),
            "VACUUM FULL allsource.hot_partitions".to_owned(),
            "ANALYZE allsource.hot_batches".to_owned(),
            format!("CLUSTER {} USING hot_batches_p{partition:02}_batch_no", leaves[0]),
        ])
        .collect();
    let mut all = Vec::new();
    for (statement, number) in statements.iter().zip(0..) {
        let name = &names[number as usize % names.len()];
        enqueue_durably(&mut client, name, number..number + 1);
        if number % 5 == 4 {
            append(&mut client, name, -number).expect("es_append");
            all.push((name.clone(), json!(number)));
            all.push((name.clone(), json!(-number)));
        } else {
            all.push((name.clone(), json!(number)));
        }
        if number % 3 == 2 {
            hot::settle(&mut client).expect("es_settle");
        }
        let mut before = repeatable(&mut old);
        let shown = read(&mut before, name);
        before.commit().expect("COMMIT");
        client
            .batch_execute(statement)
            .unwrap_or_else(|error| panic!("{statement}: {}", describe(&error)));
        assert_eq!(read(&mut old, name), shown, "after {statement}");
        for name in &names {
            let right: Vec<Value> = all
                .iter()
                .filter(|(stream, _)| stream == name)
                .map(|(_, payload)| payload.clone())
                .collect();
            assert_eq!(payloads(&mut client, name), right, "after {statement}");
            sightings.note(&read(&mut client, name), statement);
        }
    }
    assert_settled(&mut client);
}

/// What settling needs is locked: events are taken in and read, and settled afterwards.
fn locked_tables_hold_up_only_what_needs_them(Place { cluster, partition, held }: Place<'_>) {
    let (mut client, mut locker) = (cluster.store(), cluster.store());
    let free = elsewhere(&mut client, partition);
    let (mut right, mut free_right) = (0, 0);
    for root in ["event_log", "event_streams", "hot_batches"] {
        for mode in ["SHARE", "EXCLUSIVE", "ACCESS EXCLUSIVE"] {
            enqueue_durably(&mut client, held, right..right + 2);
            right += 2;
            let lock = format!("BEGIN; LOCK TABLE allsource.{root}_p{partition:02} IN {mode} MODE");
            locker.batch_execute(&lock).expect("LOCK");
            if root != "hot_batches" {
                // Whatever it needs is not locked.
                enqueue_durably(&mut client, held, right..right + 2);
            } else {
                enqueue(&mut client, held, right..right + 2);
            }
            right += 2;
            enqueue_durably(&mut client, &free, free_right..free_right + 1);
            free_right += 1;
            assert_eq!(payloads(&mut client, &free), numbers(0..free_right), "{root} {mode}");
            if mode != "ACCESS EXCLUSIVE" {
                let there = payloads(&mut client, held);
                let locked = if root == "hot_batches" { 2 } else { 0 };
                assert!(there.len() as i64 >= right - locked, "{root} {mode}: {there:?}");
                let error = hot::settle_within(&mut client, Some(partition), "500ms");
                let error = error.expect_err("a locked table");
                assert_eq!(sqlstate(&error), CANCELLED, "{root} {mode}: {}", describe(&error));
            }
            locker.batch_execute("COMMIT").expect("COMMIT");
            flush(&mut client).expect("es_flush");
            assert_eq!(payloads(&mut client, held), numbers(0..right), "{root} {mode}");
            if mode == "SHARE" {
                assert_settled(&mut client);
            }
        }
    }
    assert_settled(&mut client);
}

/// Of all partitions: whoever needs not know of a change of it goes on.
fn the_list_of_hot_partitions_may_be_locked(Place { cluster, partition, held }: Place<'_>) {
    let (mut client, mut locker) = (cluster.store(), cluster.store());
    let free = elsewhere(&mut client, partition);
    enqueue_durably(&mut client, held, 0..2);
    enqueue_durably(&mut client, &free, 0..2);
    for (mode, number) in [("SHARE", 2), ("EXCLUSIVE", 4), ("ACCESS EXCLUSIVE", 6)] {
        let lock = format!("BEGIN; LOCK TABLE allsource.hot_partitions IN {mode} MODE");
        locker.batch_execute(&lock).expect("LOCK");
        for stream in [held, &free] {
            enqueue(&mut client, stream, number..number + 1);
            assert!(payloads(&mut client, stream).len() >= number as usize, "{mode}: {stream}");
        }
        locker.batch_execute("COMMIT").expect("COMMIT");
        flush(&mut client).expect("es_flush");
        for stream in [held, &free] {
            append(&mut client, stream, number + 1).expect("es_append");
            assert_eq!(payloads(&mut client, stream), numbers(0..number + 2), "{mode}: {stream}");
        }
    }
    // Who has changed it waits for nobody who changes it.
    let mut transaction = client.transaction().expect("BEGIN");
    let change = "UPDATE allsource.hot_partitions SET since = now()";
    transaction.batch_execute(change).expect(change);
    let mut savepoint = transaction.savepoint("a").expect("SAVEPOINT");
    savepoint.batch_execute("SET LOCAL statement_timeout = '20s'").expect("SET");
    assert_eq!(refusal(hot::heat(&mut savepoint, partition)), NOT_IN_STATE);
    drop(savepoint);
    drop(transaction);
    assert_settled(&mut client);
}

// Commands.

fn a_pause_holds_up_settling_and_refuses_commands(Place { cluster, partition, held }: Place<'_>) {
    let (mut client, mut other) = (cluster.store(), cluster.store());
    pause(&mut client).expect("es_worker_pause");
    enqueue(&mut client, held, 0..5);
    for refused in [
        hot::heat(&mut client, partition),
        hot::cool(&mut client, partition),
        hot::rebuild(&mut client),
    ] {
        assert_eq!(refusal(refused), NOT_IN_STATE);
    }
    assert_eq!(payloads(&mut client, held), Vec::<Value>::new());
    resume(&mut client).expect("es_worker_resume");
    flush(&mut client).expect("es_flush");
    assert_eq!(payloads(&mut client, held), numbers(0..5));
    assert_settled(&mut client);
    // A tail that is there during a pause stays, and is appended behind.
    let mut holder = other.transaction().expect("BEGIN");
    append(&mut holder, &neighbours(&mut client, partition, 1)[0], 0).expect("es_append");
    enqueue_durably(&mut client, held, 5..7);
    pause(&mut client).expect("es_worker_pause");
    let before = read(&mut client, held);
    assert_eq!(append(&mut client, held, 7).expect("es_append"), 8);
    let after = read(&mut client, held);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((before.version, before.timestamp), (after.version, after.timestamp));
    }
    let refused = hot::settle_within(&mut client, None, "5s");
    if let Err(error) = refused {
        assert_eq!(sqlstate(&error), NOT_IN_STATE, "{}", describe(&error));
    }
    drop(holder);
    resume(&mut client).expect("es_worker_resume");
    // What was asked for during the pause was refused, and is not done later.
    assert_settled(&mut client);
    assert_eq!(hot::state(&mut client, partition).as_deref(), Some("hot"));
    assert_eq!(payloads(&mut client, held), numbers(0..8));
}

fn cooling_settles_waits_and_times_out(Place { cluster, partition, held }: Place<'_>) {
    let (mut client, mut holder) = (cluster.store(), cluster.store());
    enqueue_durably(&mut client, held, 0..3);
    holder.batch_execute("BEGIN").expect("BEGIN");
    append(&mut holder, held, 3).expect("es_append");
    let error = hot::cool_within(&mut client, partition, "500ms").expect_err("it is locked");
    assert_eq!(sqlstate(&error), CANCELLED, "{}", describe(&error));
    assert!(describe(&error).contains(held), "{}", describe(&error));
    // It takes no more batches.
    let name = neighbours(&mut client, partition, 1).remove(0);
    enqueue_durably(&mut client, &name, 0..3);
    assert_eq!(unsettled(&mut client, &name), 0);
    holder.batch_execute("COMMIT").expect("COMMIT");
    hot::cool_within(&mut client, partition, "30s").expect("es_cool");
    assert_eq!(hot::state(&mut client, partition).as_deref(), Some("cold"));
    assert_eq!(hot::batches(&mut client, partition), 0);
    assert_eq!(payloads(&mut client, held), numbers(0..4));
    // Again, and what was never hot.
    hot::cool(&mut client, partition).expect("es_cool");
    hot::cool(&mut client, (partition + 1) % 32).expect("es_cool");
    assert_eq!(hot::state(&mut client, (partition + 1) % 32), None);
    // Numbers of batches go on.
    for round in 1..4 {
        hot::heat(&mut client, partition).expect("es_heat");
        enqueue_durably(&mut client, held, 4 * round..4 * round + 4);
        assert_eq!(unsettled(&mut client, held), 4, "round {round}");
        hot::cool(&mut client, partition).expect("es_cool");
        assert_eq!(unsettled(&mut client, held), 0, "round {round}");
    }
    assert_eq!(payloads(&mut client, held), numbers(0..16));
    assert_settled(&mut client);
}

/// The last one who has said something counts, and not who was not answered in time.
fn a_partition_is_hot_after_it_was_made_hot_whoever_wanted_it_cold_before(
    Place { cluster, partition, held }: Place<'_>,
) {
    let (mut client, mut holder) = (cluster.store(), cluster.store());
    enqueue_durably(&mut client, held, 0..3);
    holder.batch_execute("BEGIN").expect("BEGIN");
    append(&mut holder, held, 3).expect("es_append");
    let error = hot::cool_within(&mut client, partition, "500ms").expect_err("it is locked");
    assert_eq!(sqlstate(&error), CANCELLED, "{}", describe(&error));
    hot::heat(&mut client, partition).expect("es_heat");
    holder.batch_execute("COMMIT").expect("COMMIT");
    assert_settled(&mut client);
    assert_eq!(hot::state(&mut client, partition).as_deref(), Some("hot"));
    enqueue_durably(&mut client, held, 4..6);
    assert_eq!(unsettled(&mut client, held), 2);
    assert_settled(&mut client);
}

fn commands_take_effect_at_once_and_need_a_transaction_that_holds_nothing(
    Place { cluster, partition, held }: Place<'_>,
) {
    let mut client = cluster.store();
    let free = elsewhere(&mut client, partition);
    let mut transaction = client.transaction().expect("BEGIN");
    let other = partition + 1;
    hot::heat(&mut transaction, other).expect("es_heat");
    transaction.rollback().expect("ROLLBACK");
    assert_eq!(hot::state(&mut client, other).as_deref(), Some("hot"), "after ROLLBACK");
    enqueue_durably(&mut client, &free, 0..2);
    assert_eq!(unsettled(&mut client, &free), 2);
    type Command = fn(&mut postgres::Transaction<'_>, i32) -> Result<(), postgres::Error>;
    let commands: [Command; 4] = [
        |transaction, partition| hot::heat(transaction, partition),
        |transaction, partition| hot::cool(transaction, partition),
        |transaction, partition| hot::settle_within(transaction, Some(partition), "20s"),
        |transaction, _| hot::rebuild(transaction),
    ];
    for command in commands {
        let mut transaction = client.transaction().expect("BEGIN");
        append(&mut transaction, held, 1).expect("es_append");
        assert_eq!(refusal(command(&mut transaction, partition)), NOT_IN_STATE);
        transaction.rollback().expect("ROLLBACK");
        let mut transaction = client.build_transaction().read_only(true).start().expect("BEGIN");
        assert_eq!(refusal(command(&mut transaction, partition)), READ_ONLY);
    }
    // Given back with the savepoint.
    let mut transaction = client.transaction().expect("BEGIN");
    let mut savepoint = transaction.savepoint("a").expect("SAVEPOINT");
    append(&mut savepoint, held, 1).expect("es_append");
    savepoint.rollback().expect("ROLLBACK TO");
    hot::settle_within(&mut transaction, None, "30s").expect("es_settle");
    hot::cool(&mut transaction, other).expect("es_cool");
    transaction.rollback().expect("ROLLBACK");
    assert_eq!(hot::state(&mut client, other).as_deref(), Some("cold"), "after ROLLBACK");
    for wrong in [-1, 32] {
        assert_eq!(refusal(hot::heat(&mut client, wrong)), BAD_ARGUMENT);
        assert_eq!(refusal(hot::cool(&mut client, wrong)), BAD_ARGUMENT);
        assert_eq!(refusal(hot::settle_within(&mut client, Some(wrong), "1s")), BAD_ARGUMENT);
    }
    assert_settled(&mut client);
}

fn roles_may_do_what_they_are_for(Place { cluster, partition, held }: Place<'_>) {
    let mut client = cluster.store();
    enqueue_durably(&mut client, held, 0..2);
    for role in ["reader", "writer", "admin"] {
        let sql = format!("CREATE ROLE a_{role} IN ROLE allsource_{role}; SET ROLE a_{role}");
        client.batch_execute(&sql).expect(&sql);
        let commands = [
            hot::heat(&mut client, partition),
            hot::cool_within(&mut client, (partition + 1) % 32, "20s"),
            hot::settle_within(&mut client, Some((partition + 1) % 32), "20s"),
        ];
        for done in commands {
            match role {
                "admin" => done.expect("a command"),
                _ => assert_eq!(refusal(done), NOT_ALLOWED, "{role}"),
            }
        }
        // The rows of batches are the owner's.
        for table in ["hot_batches", &format!("hot_batches_p{partition:02}"), "hot_partitions"] {
            let write = format!("DELETE FROM allsource.{table}");
            assert_eq!(refusal(client.execute(&write, &[])), NOT_ALLOWED, "{role}: {write}");
            if table.starts_with("hot_batches") {
                let look = format!("SELECT FROM allsource.{table}");
                assert_eq!(refusal(client.query(&look, &[])), NOT_ALLOWED, "{role}: {look}");
            }
        }
        // Who may read reads tails, though not the rows that hold them.
        assert_eq!(payloads(&mut client, held), numbers(0..2), "{role}");
        assert_eq!(hot::state(&mut client, partition).as_deref(), Some("hot"), "{role}");
        client.batch_execute("RESET ROLE").expect("RESET ROLE");
    }
    client.batch_execute("SET ROLE a_writer").expect("SET ROLE");
    assert_eq!(append(&mut client, held, 2).expect("es_append"), 3);
    client.batch_execute("RESET ROLE; CREATE ROLE nobody; SET ROLE nobody").expect("a role");
    assert_eq!(refusal(hot::heat(&mut client, partition)), NOT_ALLOWED);
    client.batch_execute("RESET ROLE").expect("RESET ROLE");
    assert_settled(&mut client);
}

// What the owner does to the tables.

/// As before a restored dump: nothing of what was there is left, whatever the sidecar holds.
fn a_store_that_its_owner_has_emptied_is_empty(Place { cluster, partition, held }: Place<'_>) {
    let mut client = cluster.store();
    append(&mut client, held, 0).expect("es_append");
    enqueue_durably(&mut client, held, 1..4);
    let name = neighbours(&mut client, partition, 1).remove(0);
    enqueue_durably(&mut client, &name, 0..3);
    hot::settle(&mut client).expect("es_settle");
    enqueue_durably(&mut client, held, 4..6);
    enqueue_durably(&mut client, &name, 3..6);
    until_applied(&mut client, held);
    client
        .batch_execute(
            "TRUNCATE allsource.event_streams, allsource.event_log, allsource.event_ids, \
             allsource.hot_batches",
        )
        .expect("TRUNCATE");
    assert_eq!(payloads(&mut client, held), Vec::<Value>::new());
    enqueue_durably(&mut client, held, 0..2);
    assert_eq!(payloads(&mut client, held), numbers(0..2));
    assert_eq!(append(&mut client, &name, 0).expect("es_append"), 1);
    assert_settled(&mut client);
    assert_eq!(payloads(&mut client, held), numbers(0..2));
    assert_eq!(payloads(&mut client, &name), numbers(0..1));
}

/// Waits until the sidecar has all batches, which it is given as long as it is asked.
fn until_applied(client: &mut Client, stream: &str) {
    let query = "SELECT COALESCE(sum(sidecar_lag), 0)::int8 FROM allsource.hot_partitions_status";
    patience::until_true("the sidecar has all batches", || {
        read(client, stream);
        client.query_one(query, &[]).expect(query).get::<_, i64>(0) == 0
    });
}

fn batches_that_their_owner_has_removed_do_not_come_back(
    Place { cluster, partition, held }: Place<'_>,
) {
    let mut client = cluster.store();
    for remove in [
        "TRUNCATE allsource.hot_batches".to_owned(),
        format!("TRUNCATE allsource.hot_batches_p{partition:02}"),
        "DELETE FROM allsource.hot_batches".to_owned(),
    ] {
        let kept = payloads(&mut client, held);
        enqueue_durably(&mut client, held, 100..103);
        until_applied(&mut client, held);
        client.batch_execute(&remove).expect(&remove);
        assert_eq!(payloads(&mut client, held), kept, "after {remove}");
        enqueue_durably(&mut client, held, 0..2);
        let right = [&kept[..], &numbers(0..2)].concat();
        assert_eq!(payloads(&mut client, held), right, "after {remove}");
        assert_settled(&mut client);
        assert_eq!(payloads(&mut client, held), right, "settled after {remove}");
    }
}

/// A damaged row is found, and does not keep other partitions from anything.
fn a_damaged_batch_is_found(Place { cluster, partition, held }: Place<'_>) {
    let mut client = cluster.store();
    enqueue_durably(&mut client, held, 0..3);
    assert_eq!(verify(&mut client).expect("es_verify"), Vec::<String>::new());
    let free = elsewhere(&mut client, partition);
    let damages = [
        "checksum = checksum # 1",
        // The checksum of the list, the first hash in it.
        "streams = set_byte(streams, 0, get_byte(streams, 0) # 1)",
        "streams = set_byte(streams, 7, get_byte(streams, 7) # 128)",
    ];
    for (number, damage) in (0..).zip(damages) {
        // What is done twice is undone.
        let update = format!("UPDATE allsource.hot_batches SET {damage}");
        client.batch_execute(&update).expect("UPDATE");
        let faults = verify(&mut client).expect("es_verify");
        assert!(!faults.is_empty(), "es_verify does not find {damage} in partition {partition}");
        append(&mut client, &free, number).expect("es_append");
        assert_eq!(payloads(&mut client, &free), numbers(0..number + 1));
        client.batch_execute(&update).expect("UPDATE");
        assert_eq!(payloads(&mut client, held), numbers(0..3));
    }
    assert_settled(&mut client);
}

/// The row of a partition is the owner's to delete; its batches are found again.
fn a_partition_that_was_forgotten_is_hot_again_with_its_batches(
    Place { cluster, partition, held }: Place<'_>,
) {
    let mut client = cluster.store();
    append(&mut client, held, 0).expect("es_append");
    enqueue_durably(&mut client, held, 1..4);
    let name = neighbours(&mut client, partition, 1).remove(0);
    enqueue_durably(&mut client, &name, 0..3);
    client.batch_execute("DELETE FROM allsource.hot_partitions").expect("DELETE");
    let faults = verify(&mut client).expect("es_verify");
    assert!(!faults.is_empty(), "es_verify finds no fault in batches of a partition never hot");
    hot::heat(&mut client, partition).expect("es_heat");
    assert_eq!(payloads(&mut client, held), numbers(0..4));
    enqueue_durably(&mut client, &name, 3..5);
    assert_eq!(payloads(&mut client, &name), numbers(0..5));
    assert_eq!(append(&mut client, held, 4).expect("es_append"), 5);
    assert_settled(&mut client);
    assert_eq!(payloads(&mut client, &name), numbers(0..5));
}

/// Appends that wait for each other and for a stream's tail.
fn an_append_that_waits_for_a_stream_finds_what_came_meanwhile(
    Place { cluster, held, .. }: Place<'_>,
) {
    let (mut client, mut holder) = (cluster.store(), cluster.store());
    enqueue_durably(&mut client, held, 0..2);
    for end in ["ROLLBACK", "COMMIT"] {
        let there = payloads(&mut client, held).len() as i64;
        holder.batch_execute("BEGIN").expect("BEGIN");
        append(&mut holder, held, 100).expect("es_append");
        thread::scope(|scope| {
            let mut waiting = cluster.store();
            let pid = process_of(&mut waiting);
            let waiter = scope.spawn(move || append(&mut waiting, held, 200));
            until_waits(&mut client, pid);
            holder.batch_execute(end).expect(end);
            let version = waiter.join().expect("a session").expect("es_append");
            assert_eq!(version, there + if end == "COMMIT" { 2 } else { 1 }, "{end}");
        });
        enqueue_durably(&mut client, held, 300..303);
        assert_is_stream(&read(&mut client, held), end);
    }
    let right = [0, 1, 200, 300, 301, 302, 100, 200, 300, 301, 302].map(|number| json!(number));
    assert_eq!(payloads(&mut client, held), right);
    assert_settled(&mut client);
}
