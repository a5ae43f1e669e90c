//! Members of a cluster, without a coordinator: a partition is moved by hand, step by step, from one server
//! to another; and what the fence means for sessions and workers.

use allsource_e2e::bulk::{flush, pause, resume, worker};
use allsource_e2e::calls::{assert_verified, current_version, names_in};
use allsource_e2e::cluster::{ONE_WORKER, SERVED, Stop};
use allsource_e2e::locks::{process_of, until_waits};
use allsource_e2e::{
    Append, Cluster, Dump, Enqueue, EnqueueBatch, NewEvent, ReadStream, STORE, failure, patience,
};
use postgres::{Client, SimpleQueryMessage};
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;

/// The partition that is moved.
const MOVED: i32 = 7;

const PARTITIONS: usize = 32;

fn member(name: &str, group: i32) -> Cluster {
    let node = format!("allsource.node_id={group}");
    let settings = [SERVED, ONE_WORKER, "wal_level=logical", &node];
    Cluster::with_queue(name, &settings)
}

/// Makes a server a member; the partitions of `foreign` are those of another group.
fn join(client: &mut Client, group: i32, foreign: Option<(std::ops::Range<i32>, i32)>) {
    let owner = |partition: i32| match &foreign {
        Some((range, other)) if range.contains(&partition) => *other,
        _ => group,
    };
    let owners: Vec<i32> = (0..PARTITIONS as i32).map(owner).collect();
    let epochs = vec![1i64; PARTITIONS];
    let join = "SELECT allsource.es_member_join($1, $2, $3)";
    client.execute(join, &[&group, &owners, &epochs]).expect(join);
}

fn call(client: &mut Client, function: &str) {
    client
        .batch_execute(&format!("SELECT allsource.es_member_{function}"))
        .unwrap_or_else(|error| panic!("{function}: {}", failure::describe(&error)));
}

/// A column of the report about a move, as text.
fn report(client: &mut Client, column: &str, partition: i32, epoch: i64) -> Option<String> {
    let sql =
        format!("SELECT {column}::text FROM allsource.es_member_report({partition}, {epoch})");
    client.query_one(&sql, &[]).expect(&sql).get(0)
}

fn is(client: &mut Client, column: &str, partition: i32, epoch: i64) -> bool {
    report(client, column, partition, epoch).as_deref() == Some("true")
}

fn event(number: i64) -> NewEvent {
    NewEvent::new("t", json!(number))
}

fn append(client: &mut Client, stream: &str, number: i64) -> Result<i64, postgres::Error> {
    Append::to(stream, &[event(number)]).one(client)
}

/// What a reader with a vector of positions has seen, as partition, stream and version.
struct Reader {
    positions: Vec<Option<i64>>,
    seen: Vec<(i32, String, i64)>,
}

impl Reader {
    fn new() -> Self {
        Self { positions: vec![Some(0); PARTITIONS], seen: Vec::new() }
    }

    /// Reads what a server has of these partitions.
    fn read(&mut self, client: &mut Client, partitions: &[i32]) -> Result<usize, postgres::Error> {
        let sql = "SELECT partition_id, stream_id, version, position \
                     FROM allsource.es_read_all_from($1, 50, partition_ids => $2)";
        let mut count = 0;
        loop {
            let rows = client.query(sql, &[&self.positions, &partitions])?;
            for row in &rows {
                let partition: i32 = row.get(0);
                let (before, position) = (self.positions[partition as usize], row.get(3));
                assert!(before < Some(position), "positions of a partition grow");
                self.positions[partition as usize] = Some(position);
                self.seen.push((partition, row.get(1), row.get(2)));
            }
            count += rows.len();
            if rows.is_empty() {
                return Ok(count);
            }
        }
    }
}

fn summary(client: &mut Client, range: &str) -> Vec<Option<String>> {
    let sql = format!("SELECT * FROM allsource.es_member_summary({MOVED}, {range})");
    let rows = client.simple_query(&sql).expect("a summary");
    let row = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.expect("a row");
    (0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect()
}

#[test]
fn a_partition_moves_to_another_server_and_a_reader_misses_nothing() {
    let (first, second) = (member("first", 1), member("second", 2));
    let (mut source, mut target) = (first.store(), second.store());
    // The first owns 0 to 15, the second 16 to 31.
    join(&mut source, 1, Some((16..32, 2)));
    join(&mut target, 2, Some((0..16, 1)));
    let streams = names_in(&mut source, MOVED, 3);
    let others = names_in(&mut target, 20, 2);
    // The target's positions are far ahead.
    for number in 1..=200 {
        append(&mut target, &others[0], number).expect("an append");
    }
    for number in 1..=40 {
        append(&mut source, &streams[number % 3], number as i64).expect("an append");
    }
    let mut reader = Reader::new();
    assert_eq!(reader.read(&mut source, &[MOVED]).expect("read"), 40);
    let refused = reader.read(&mut target, &[MOVED]).map_err(|e| failure::sqlstate(&e).to_owned());
    assert_eq!(refused, Err(failure::NOT_IN_STATE.to_owned()));
    for number in 41..=60 {
        append(&mut source, &streams[number % 3], number as i64).expect("an append");
    }

    call(&mut target, "receive(7, 2, 1)");
    let publish = "SELECT allsource.es_member_publish(7, 2)";
    for done in [false, true, true] {
        let row = source.query_one(publish, &[]).expect(publish);
        assert_eq!(row.get::<_, bool>(0), done);
    }
    // Who copies is no superuser.
    let role = "ALTER ROLE allsource_replication LOGIN REPLICATION";
    source.batch_execute(role).expect(role);
    let conninfo = format!(
        "host={} port=5432 user=allsource_replication dbname={STORE}",
        first.socket().parent().expect("a folder").display()
    );
    let slot = report(&mut source, "slot_name", MOVED, 2).expect("a slot");
    for _ in 0..2 {
        let subscribe = "SELECT allsource.es_member_subscribe(7, 2, $1, $2)";
        target.execute(subscribe, &[&conninfo, &slot]).expect(subscribe);
    }
    let connected =
        "SELECT count(*) FROM pg_stat_replication WHERE usename = 'allsource_replication'";
    patience::until_true("it connects as the role", || {
        source.query_one(connected, &[]).expect(connected).get::<_, i64>(0) > 0
    });
    patience::until_true("the copy is complete", || is(&mut target, "is_copied", MOVED, 2));
    for number in 61..=90 {
        append(&mut source, &streams[number % 3], number as i64).expect("an append");
    }
    // What has gone by is compared while others write.
    let checked = report(&mut source, "safe_position", MOVED, 2).expect("a position");
    let end = report(&mut source, "lsn", MOVED, 2).expect("a place in the WAL");
    patience::until_true("the target has it", || {
        is(&mut source, &format!("(slot_lsn >= '{end}')"), MOVED, 2)
    });
    let created = names_in(&mut source, MOVED, 5).pop().expect("a name");
    let create = "SELECT allsource.es_create_stream($1)";
    source.execute(create, &[&created]).expect(create);
    append(&mut source, &streams[0], 0).expect("an append");
    let since = report(&mut source, "streams_above", MOVED, 2).expect("a number");
    let before = format!("0, {checked}, true, {since}");
    assert_eq!(summary(&mut source, &before), summary(&mut target, &before));
    assert_eq!(summary(&mut source, &before)[3..5], [Some("3".into()), Some("90".into())]);

    for done in [false, true, true] {
        let close = "SELECT allsource.es_member_close(7, 2)";
        assert_eq!(source.query_one(close, &[]).expect(close).get::<_, bool>(0), done);
    }
    call(&mut source, "fence(7, 2)");
    let refused = append(&mut source, &streams[0], 0);
    assert_eq!(failure::refusal(refused), failure::NOT_IN_STATE);
    let fenced = report(&mut source, "lsn", MOVED, 2).expect("a place in the WAL");
    let above = report(&mut source, "greatest(safe_position, last_position)", MOVED, 2);
    patience::until_true("all is replayed", || {
        is(&mut source, &format!("(slot_lsn >= '{fenced}')"), MOVED, 2)
    });
    assert_eq!(summary(&mut source, "0"), summary(&mut target, "0"));
    assert_eq!(summary(&mut target, "0")[1].as_deref(), Some("91"));
    let rest = format!("{checked}, NULL, true, {since}");
    assert_eq!(summary(&mut source, &rest), summary(&mut target, &rest));
    assert_eq!(summary(&mut source, &rest)[3..5], [Some("2".into()), Some("31".into())]);
    assert_eq!(summary(&mut source, "40, 70"), summary(&mut target, "40, 70"));
    let unlike =
        "UPDATE allsource.event_log SET checksum = 1 WHERE partition_id = 7 AND position = 50";
    target.execute(unlike, &[]).expect(unlike);
    assert_ne!(summary(&mut source, "40, 70"), summary(&mut target, "40, 70"));
    let again = "UPDATE allsource.event_log l SET checksum = allsource.es_run_checksum(l) \
                  WHERE partition_id = 7 AND position = 50";
    target.execute(again, &[]).expect(again);
    assert_eq!(summary(&mut source, "0"), summary(&mut target, "0"));
    // It is read where it was until the target has it.
    assert_eq!(ReadStream::all(&streams[0]).read(&mut source).expect("read").len(), 31);

    call(&mut target, &format!("raise_counter(7, 2, {})", above.expect("a position")));
    call(&mut target, "give(7, 2)");
    call(&mut source, "release(7, 2, 2)");
    call(&mut target, "unsubscribe(7, 2)");
    patience::until_true("the slot is dropped", || {
        source.batch_execute("SELECT allsource.es_member_unpublish(7, 2)").is_ok()
    });
    call(&mut source, "empty(7, 2)");
    assert!(is(&mut source, "is_empty", MOVED, 2));
    for catalog in ["pg_publication", "pg_replication_slots", "pg_subscription"] {
        for client in [&mut source, &mut target] {
            let sql = format!("SELECT count(*) FROM {catalog}");
            assert_eq!(client.query_one(&sql, &[]).expect(&sql).get::<_, i64>(0), 0, "{catalog}");
        }
    }

    // What the reader has not seen yet lies below what the target gives out.
    let refused = ReadStream::all(&streams[0]).read(&mut source);
    assert_eq!(failure::refusal(refused), failure::NOT_IN_STATE);
    assert_eq!(reader.read(&mut target, &[MOVED]).expect("read"), 51);
    for number in 91..=99 {
        append(&mut target, &streams[number % 3], number as i64).expect("an append");
    }
    assert_eq!(current_version(&mut target, &streams[0], "default").expect("es_stream"), Some(34));
    assert_eq!(reader.read(&mut target, &[MOVED]).expect("read"), 9);
    for stream in &streams {
        let versions: Vec<i64> =
            reader.seen.iter().filter(|seen| seen.1 == *stream).map(|seen| seen.2).collect();
        let last = if *stream == streams[0] { 34 } else { 33 };
        assert_eq!(versions, (1..=last).collect::<Vec<_>>(), "{stream}");
    }
    // Positions of the two servers are the same, which is right between partitions.
    let shared = "SELECT count(*) FROM allsource.event_log a JOIN allsource.event_log b \
                      ON a.position = b.position AND a.partition_id < b.partition_id";
    assert!(target.query_one(shared, &[]).expect(shared).get::<_, i64>(0) > 0);
    assert_verified(&mut source);
    assert_verified(&mut target);

    // And back, where an earlier copy was.
    target.batch_execute("SELECT allsource.es_member_fence(7, 3)").expect("a fence");
    call(&mut target, "take_back(7, 3)");
    append(&mut target, &streams[0], 100).expect("an append");
}

/// A summary before the fence does not change by what is written meanwhile. Together with the one behind it,
/// it tells of every head whether it is as it should be.
#[test]
fn every_head_is_compared_before_the_fence_or_behind_it() {
    let cluster = member("summary", 1);
    let mut client = cluster.store();
    join(&mut client, 1, None);
    let names = names_in(&mut client, MOVED, 8);
    let create = |client: &mut Client, name: &str| {
        let create = "SELECT allsource.es_create_stream($1)";
        client.execute(create, &[&name]).expect(create);
    };
    let [untouched, goes_on, empty, empty_later_written, begins, empty_since, two, batch] =
        [0, 1, 2, 3, 4, 5, 6, 7].map(|index| names[index].as_str());
    for name in [untouched, goes_on, two, batch, goes_on, two] {
        append(&mut client, name, 1).expect("an append");
    }
    // A run of several events.
    Append::to(batch, &[event(1), event(2), event(3)]).many(&mut client).expect("an append");
    create(&mut client, empty);
    create(&mut client, empty_later_written);
    call(&mut client, "publish(7, 2)");
    let since = report(&mut client, "streams_above", MOVED, 2).expect("a number");
    append(&mut client, two, 2).expect("an append");
    let position = report(&mut client, "safe_position", MOVED, 2).expect("a position");
    let before = format!("0, {position}, true, {since}");
    let then = summary(&mut client, &before);
    assert_eq!(then[3..5], [Some("6".into()), Some("10".into())]);
    for name in [goes_on, empty_later_written, begins, batch, begins] {
        append(&mut client, name, 2).expect("an append");
        assert_eq!(summary(&mut client, &before), then, "{name}");
    }
    create(&mut client, empty_since);
    assert_eq!(summary(&mut client, &before), then);
    call(&mut client, "fence(7, 2)");
    let behind = format!("{position}, NULL, true, {since}");
    let at_end = summary(&mut client, &behind);
    // Those that were written, and the one that was created.
    assert_eq!(at_end[3..5], [Some("5".into()), Some("11".into())]);
    // Without the number all streams are looked at; it comes to the same.
    let all = |range: &str| format!("{range}, true, NULL");
    assert_eq!(summary(&mut client, &all(&format!("{position}, NULL")))[3].as_deref(), Some("6"));
    assert_eq!(summary(&mut client, "0")[3].as_deref(), Some("8"));
    for name in names.iter().take(8) {
        for change in [
            "SET current_version = current_version + 1",
            "SET watermark = watermark - 1",
            "SET created_at = created_at - interval '1 us'",
            "SET updated_at = updated_at + interval '1 us'",
            "SET tenant_id = 'other'",
            "SET entity_id = 'other'",
        ] {
            let mut open = client.transaction().expect("a transaction");
            let change = format!("UPDATE allsource.event_streams {change} WHERE stream_id = $1");
            assert_eq!(open.execute(&change, &[name]).expect(&change), 1);
            let changed = |range: &str,
                           known: &[Option<String>],
                           open: &mut postgres::Transaction<'_>| {
                let sql = format!(
                    "SELECT streams_checksum::text FROM allsource.es_member_summary({MOVED}, {range})"
                );
                open.query_one(&sql, &[]).expect(&sql).get::<_, Option<String>>(0) != known[5]
            };
            let is_told =
                changed(&before, &then, &mut open) || changed(&behind, &at_end, &mut open);
            assert!(is_told, "{name}: {change}");
            open.rollback().expect("a rollback");
        }
    }
}

#[test]
fn what_is_enqueued_while_a_partition_is_closed_is_written_or_refused() {
    let cluster = member("closed", 1);
    let mut mover = cluster.store();
    join(&mut mover, 1, None);
    let streams = names_in(&mut mover, MOVED, 4);
    let other = names_in(&mut mover, 8, 1).remove(0);
    let is_over = AtomicBool::new(false);
    let accepted: Vec<AtomicI64> = (0..6).map(|_| AtomicI64::new(0)).collect();
    let refused = AtomicI64::new(0);
    let begun = |accepted: &AtomicI64| accepted.load(Ordering::Relaxed) > 20;
    thread::scope(|scope| {
        for (number, accepted) in accepted.iter().enumerate() {
            let (cluster, streams, other) = (&cluster, &streams, &other);
            let (is_over, refused) = (&is_over, &refused);
            scope.spawn(move || {
                let mut client = cluster.store();
                // Every other waits until its events are durable, and some enqueue several at once.
                let durable = number % 2 == 0;
                let mut is_refused = false;
                while !is_over.load(Ordering::Relaxed) {
                    let stream = &streams[number % 4];
                    let (count, done) = if number < 4 {
                        let event = event(number as i64);
                        let enqueue = Enqueue { durable, ..Enqueue::to(stream, &event) };
                        (1, enqueue.send(&mut client).map(|()| 1))
                    } else {
                        let names = [stream, other, stream];
                        let items: Vec<(String, NewEvent)> = names
                            .iter()
                            .map(|name| ((*name).clone(), event(number as i64)))
                            .collect();
                        let enqueue = EnqueueBatch { durable, ..EnqueueBatch::of(&items) };
                        (2, enqueue.send(&mut client))
                    };
                    match done {
                        Ok(_) => {
                            assert!(!is_refused, "who was refused stays refused");
                            accepted.fetch_add(count, Ordering::Relaxed);
                        }
                        Err(error) => {
                            let what = failure::describe(&error);
                            assert!(what.contains("partition 7 is not owned"), "{what}");
                            is_refused = true;
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
        patience::until_true("all are at work", || accepted.iter().all(begun));
        let mut appender = cluster.store();
        let close = "SELECT allsource.es_member_close(7, 2)";
        assert!(!mover.query_one(close, &[]).expect(close).get::<_, bool>(0));
        let at = append(&mut appender, &streams[0], 0).expect("who appends goes on");
        patience::until_true("all is written", || {
            mover.query_one(close, &[]).expect(close).get::<_, bool>(0)
        });
        assert!(at > 0);
        call(&mut mover, "fence(7, 2)");
        assert!(!is(&mut mover, "is_waiting", MOVED, 2));
        patience::until_true("all were refused", || refused.load(Ordering::Relaxed) > 60);
        call(&mut mover, "release(7, 2, 2)");
        is_over.store(true, Ordering::Relaxed);
    });
    flush(&mut mover).expect("es_flush");
    let sum: i64 = accepted.iter().map(|accepted| accepted.load(Ordering::Relaxed)).sum();
    assert_eq!(summary(&mut mover, "0")[1], Some((sum + 1).to_string()));
    for table in ["waiting_events", "dead_letters"] {
        let count = format!("SELECT count(*) FROM allsource.{table}");
        assert_eq!(mover.query_one(&count, &[]).expect(&count).get::<_, i64>(0), 0, "{table}");
    }
}

#[test]
fn a_partition_is_closed_once_those_who_enqueue_are_done_and_opened_by_going_back() {
    let cluster = member("gate", 1);
    let mut mover = cluster.store();
    join(&mut mover, 1, None);
    let stream = names_in(&mut mover, MOVED, 1).remove(0);
    let other = names_in(&mut mover, 8, 1).remove(0);
    let close = |client: &mut Client| -> bool {
        let close = "SELECT allsource.es_member_close(7, 2)";
        client.query_one(close, &[]).expect(close).get(0)
    };
    pause(&mut mover).expect("es_worker_pause");
    Enqueue::to(&stream, &event(1)).send(&mut mover).expect("es_enqueue");
    assert!(!close(&mut mover));
    // Nothing is written, so it is not done.
    assert!(!close(&mut mover));
    let refused = Enqueue::to(&stream, &event(0)).send(&mut mover);
    assert_eq!(failure::refusal(refused), failure::NOT_IN_STATE);
    Enqueue::to(&other, &event(1)).send(&mut mover).expect("es_enqueue");
    // All or nothing.
    let items = [(other.clone(), event(0)), (stream.clone(), event(0))];
    let refused = EnqueueBatch::of(&items).send(&mut mover);
    assert_eq!(failure::refusal(refused), failure::NOT_IN_STATE);
    resume(&mut mover).expect("es_worker_resume");
    patience::until_true("it is written", || close(&mut mover));
    assert_eq!(current_version(&mut mover, &other, "default").expect("es_stream"), Some(1));
    // What waits is not written.
    let mut holder = cluster.store();
    call(&mut mover, "take_back(7, 2)");
    let mut open = holder.transaction().expect("a transaction");
    Append::to(&stream, &[event(2)]).one(&mut open).expect("an append");
    Enqueue::to(&stream, &event(3)).send(&mut mover).expect("es_enqueue");
    patience::until_true("the event waits", || is(&mut mover, "is_waiting", MOVED, 4));
    let close = "SELECT allsource.es_member_close(7, 4)";
    for _ in 0..2 {
        assert!(!mover.query_one(close, &[]).expect(close).get::<_, bool>(0));
    }
    open.commit().expect("a commit");
    patience::until_true("it is written", || {
        mover.query_one(close, &[]).expect(close).get::<_, bool>(0)
    });
    let late = mover.query_one("SELECT allsource.es_member_close(7, 2)", &[]);
    assert_eq!(failure::refusal(late), failure::NOT_IN_STATE);
    // Nor does it become hot.
    let error = mover.batch_execute("SELECT allsource.es_heat(7)").expect_err("es_heat");
    assert!(failure::describe(&error).contains("about to be moved"), "{error}");
    call(&mut mover, "take_back(7, 4)");
    mover.batch_execute("SELECT allsource.es_heat(7)").expect("es_heat");
    let error = mover.query_one("SELECT allsource.es_member_close(7, 6)", &[]).expect_err("hot");
    assert!(failure::describe(&error).contains("partition 7 is hot"), "{error}");
}

#[test]
fn a_partition_does_not_become_hot_behind_the_back_of_a_fence() {
    let cluster = member("heated", 1);
    let (mut mover, mut client) = (cluster.store(), cluster.store());
    join(&mut mover, 1, None);
    let heat = "SELECT allsource.es_heat(7)";
    for request in ["close(7, 2)", "fence(7, 2)"] {
        let mut open = mover.transaction().expect("a transaction");
        let sql = format!("SELECT allsource.es_member_{request}");
        open.batch_execute(&sql).expect(&sql);
        // Who asks cannot know of it yet, and nobody waits for anybody.
        let error = client.batch_execute(heat).expect_err(heat);
        assert!(failure::describe(&error).contains("about to be moved"), "{request}: {error}");
        open.rollback().expect("a rollback");
    }
    // The settler has decided to make it hot, and is held up.
    let mut holder = cluster.store();
    let mut open = holder.transaction().expect("a transaction");
    let lock = "LOCK TABLE allsource.hot_partitions IN ROW EXCLUSIVE MODE";
    open.batch_execute(lock).expect(lock);
    let mut onlooker = cluster.connect("postgres");
    let settler = "SELECT pid FROM pg_locks WHERE relation = $1::text::regclass AND NOT granted";
    let pid = process_of(&mut mover);
    thread::scope(|scope| {
        let heats = scope.spawn(|| client.batch_execute(heat));
        let mut store = cluster.store();
        patience::until_true("the settler waits", || {
            store.query_opt(settler, &[&"allsource.hot_partitions"]).expect(settler).is_some()
        });
        let fences = scope.spawn(|| mover.batch_execute("SELECT allsource.es_member_fence(7, 2)"));
        until_waits(&mut onlooker, pid);
        open.commit().expect("a commit");
        heats.join().expect("a thread").expect(heat);
        let error = fences.join().expect("a thread").expect_err("a fence");
        assert!(failure::describe(&error).contains("partition 7 is hot"), "{error}");
    });
}

/// A request is answered when the standby has what was done, or found done, and so is a report.
#[test]
fn nothing_is_answered_before_the_standby_has_it() {
    let primary = member("answers", 1);
    let mut client = primary.store();
    join(&mut client, 1, None);
    let mut onlooker = primary.connect("postgres");
    onlooker.batch_execute("SET synchronous_commit = local").expect("SET");
    let node = ["allsource.node_id=1", SERVED, ONE_WORKER, "wal_level=logical"];
    let standby = primary.standby("answers-standby", &node);
    let mut replica = standby.store();
    onlooker.batch_execute("ALTER SYSTEM SET synchronous_standby_names = '*'").expect("a setting");
    onlooker.batch_execute("SELECT pg_reload_conf()").expect("a reload");
    let is_synchronous = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
    patience::until_true("the standby is synchronous", || {
        onlooker.query_one(is_synchronous, &[]).expect(is_synchronous).get::<_, i64>(0) == 1
    });
    let receiver = "SELECT pid FROM pg_stat_wal_receiver WHERE pid IS NOT NULL";
    let receiver: i32 = replica.query_one(receiver, &[]).expect(receiver).get(0);
    let joins = "join(1, array_fill(1, '{32}'), array_fill(1::int8, '{32}'))";
    let request = |call: &str| format!("SELECT allsource.es_member_{call}");
    // Each of them twice: the second time there is nothing to do.
    let requests = [
        joins,
        "publish(7, 2)",
        "close(7, 2)",
        "fence(7, 2)",
        "release(7, 2, 2)",
        "receive(7, 3, 2)",
        "raise_counter(7, 3, 500)",
        "give(7, 3)",
        "unsubscribe(7, 3)",
        "take_back(7, 4)",
        "unpublish(7, 4)",
        "fence(7, 6)",
        "release(7, 6, 2)",
        "empty(7, 6)",
        "receive(7, 7, 2)",
        "refuse(7, 7, 2)",
    ]
    .map(request);
    let requests = requests.iter().flat_map(|request| [request.clone(), request.clone()]);
    let requests = requests.chain(["SELECT FROM allsource.es_member_report(7, 8)".to_owned()]);
    for sql in requests {
        // What the standby has not got yet is not part of the question.
        patience::until_true("the standby has everything", || {
            let behind = "SELECT count(*) FROM pg_stat_replication WHERE flush_lsn < pg_current_wal_flush_lsn()";
            onlooker.query_one(behind, &[]).expect(behind).get::<_, i64>(0) == 0
        });
        let pid = process_of(&mut client);
        standby.signal("STOP", receiver);
        thread::scope(|scope| {
            let asked = scope.spawn(|| client.batch_execute(&sql));
            let waits =
                "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'SyncRep'";
            patience::until_true(&sql, || {
                assert!(!asked.is_finished(), "{sql} was answered");
                onlooker.query_one(waits, &[&pid]).expect(waits).get::<_, i64>(0) == 1
            });
            standby.signal("CONT", receiver);
            asked.join().expect("a thread").expect(&sql);
        });
    }
}

/// A slot is not copied to a standby. The move learns of that, and the slot is not made anew.
#[test]
fn a_source_that_fails_over_says_that_the_slot_is_lost() {
    let primary = member("failing", 1);
    let mut client = primary.store();
    join(&mut client, 1, None);
    let stream = names_in(&mut client, MOVED, 1).remove(0);
    append(&mut client, &stream, 1).expect("an append");
    let node = ["allsource.node_id=1", SERVED, ONE_WORKER, "wal_level=logical"];
    let standby = primary.standby("failing-standby", &node);
    let publish = "SELECT allsource.es_member_publish(7, 2)";
    for done in [false, true] {
        assert_eq!(client.query_one(publish, &[]).expect(publish).get::<_, bool>(0), done);
    }
    assert!(is(&mut client, "(slot_lsn IS NOT NULL AND slot_name IS NOT NULL)", MOVED, 2));
    let since = report(&mut client, "streams_above", MOVED, 2);
    assert!(
        !client
            .query_one("SELECT allsource.es_member_close(7, 2)", &[])
            .expect("close")
            .get::<_, bool>(0)
    );
    let end: String =
        client.query_one("SELECT pg_current_wal_flush_lsn()::text", &[]).expect("a place").get(0);
    let mut replica = standby.store();
    patience::until_true("the standby has it", || {
        let has = format!("SELECT pg_last_wal_replay_lsn() >= '{end}'");
        replica.query_one(&has, &[]).expect(&has).get(0)
    });
    drop(client);
    primary.stop(Stop::Immediate);
    replica.execute("SELECT pg_promote(wait => true)", &[]).expect("pg_promote");
    assert!(is(
        &mut replica,
        "(is_published AND slot_lsn IS NULL AND slot_name IS NULL)",
        MOVED,
        2
    ));
    assert_eq!(report(&mut replica, "streams_above", MOVED, 2), since);
    // It is still closed, and nothing that was enqueued is left.
    patience::until_true("its worker is there", || {
        let close = "SELECT allsource.es_member_close(7, 2)";
        replica.query_one(close, &[]).is_ok_and(|row| row.get(0))
    });
    assert!(replica.query_one(publish, &[]).expect(publish).get::<_, bool>(0));
    assert_eq!(report(&mut replica, "slot_lsn", MOVED, 2), None);
    call(&mut replica, "take_back(7, 2)");
    call(&mut replica, "unpublish(7, 2)");
    assert!(!is(&mut replica, "is_published", MOVED, 2));
    assert_eq!(append(&mut replica, &stream, 2).expect("an append"), 2);
    for done in [false, true] {
        let publish = "SELECT allsource.es_member_publish(7, 4)";
        assert_eq!(replica.query_one(publish, &[]).expect(publish).get::<_, bool>(0), done);
    }
    assert!(is(&mut replica, "(slot_lsn IS NOT NULL)", MOVED, 4));
    assert_verified(&mut replica);
}

#[test]
fn two_stores_of_a_server_can_each_move_the_same_partition() {
    let cluster = member("two-stores", 1);
    cluster.create_store("second");
    let mut stores = [cluster.store(), cluster.connect("second")];
    for store in &mut stores {
        join(store, 1, None);
        for done in [false, true] {
            let publish = "SELECT allsource.es_member_publish(7, 2)";
            assert_eq!(store.query_one(publish, &[]).expect(publish).get::<_, bool>(0), done);
        }
    }
    let [one, other] = stores.each_mut().map(|store| report(store, "slot_name", MOVED, 2));
    assert_ne!(one, other);
    for store in &mut stores {
        call(store, "take_back(7, 2)");
        call(store, "unpublish(7, 2)");
        assert_eq!(report(store, "slot_name", MOVED, 2), None);
    }
    let slots = "SELECT count(*) FROM pg_replication_slots";
    assert_eq!(stores[0].query_one(slots, &[]).expect(slots).get::<_, i64>(0), 0);
}

#[test]
fn nobody_tells_a_reader_a_position_that_the_fence_is_not_above() {
    let cluster = member("positions", 1);
    let (mut client, mut mover) = (cluster.store(), cluster.store());
    join(&mut client, 1, None);
    let streams = names_in(&mut client, MOVED, 1);
    let others = names_in(&mut client, 8, 1);
    append(&mut client, &streams[0], 1).expect("an append");
    for number in 0..10 {
        append(&mut client, &others[0], number).expect("an append");
    }
    let positions = |client: &mut Client| -> Vec<Option<i64>> {
        client.query_one("SELECT allsource.es_positions()", &[]).expect("es_positions").get(0)
    };
    let before = positions(&mut client)[MOVED as usize].expect("a position");
    call(&mut mover, "fence(7, 2)");
    let above = report(&mut mover, "greatest(safe_position, last_position)", MOVED, 2);
    assert!(above.expect("a position").parse::<i64>().expect("a number") >= before);
    append(&mut client, &others[0], 0).expect("an append");
    let after = positions(&mut client);
    assert_eq!(after[MOVED as usize], None);
    assert!(after[8] > Some(before));
}

#[test]
fn the_fence_waits_for_writers_and_all_sessions_learn_of_it() {
    let cluster = member("fence", 1);
    let mut mover = cluster.store();
    join(&mut mover, 1, None);
    let stream = names_in(&mut mover, MOVED, 1).remove(0);
    let mut sessions: Vec<Client> = (0..20).map(|_| cluster.store()).collect();
    for (number, session) in (1..).zip(&mut sessions) {
        assert_eq!(append(session, &stream, number).expect("an append"), number);
    }
    let mut writer = cluster.store();
    let mut open = writer.transaction().expect("a transaction");
    Append::to(&stream, &[event(21)]).one(&mut open).expect("an append");
    let mut onlooker = cluster.connect("postgres");
    let pid = process_of(&mut mover);
    let mut behind = cluster.store();
    let behind_pid = process_of(&mut behind);
    thread::scope(|scope| {
        let fence = scope.spawn(|| call(&mut mover, "fence(7, 2)"));
        until_waits(&mut onlooker, pid);
        let late = scope.spawn(|| append(&mut behind, &stream, 0));
        until_waits(&mut onlooker, behind_pid);
        open.commit().expect("a commit");
        fence.join().expect("the fence");
        let refused = late.join().expect("an append");
        assert_eq!(failure::refusal(refused), failure::NOT_IN_STATE);
    });
    for session in &mut sessions {
        let refused = append(session, &stream, 0);
        assert_eq!(failure::refusal(refused), failure::NOT_IN_STATE);
    }
    assert_eq!(current_version(&mut mover, &stream, "default").expect("es_stream"), Some(21));
    call(&mut mover, "take_back(7, 2)");
    for (number, session) in (22..).zip(&mut sessions) {
        assert_eq!(append(session, &stream, number).expect("an append"), number);
    }
}

#[test]
fn what_was_enqueued_before_the_fence_waits_behind_it() {
    let cluster = member("enqueued", 1);
    let mut client = cluster.store();
    join(&mut client, 1, None);
    let stream = names_in(&mut client, MOVED, 1).remove(0);
    let other = names_in(&mut client, 8, 1).remove(0);
    pause(&mut client).expect("es_worker_pause");
    for number in 1..=5 {
        Enqueue::to(&stream, &event(number)).send(&mut client).expect("es_enqueue");
    }
    assert!(is(&mut client, "is_enqueued", MOVED, 2));
    call(&mut client, "fence(7, 2)");
    let refused = Enqueue::to(&stream, &event(0)).send(&mut client);
    assert_eq!(failure::refusal(refused), failure::NOT_IN_STATE);
    let error = client.batch_execute("SELECT allsource.es_heat(7)").expect_err("es_heat");
    assert!(failure::describe(&error).contains("is not owned by this group"), "{error}");
    resume(&mut client).expect("es_worker_resume");
    Enqueue::to(&other, &event(1)).send(&mut client).expect("es_enqueue");
    patience::until_true("they wait", || is(&mut client, "is_waiting", MOVED, 2));
    patience::until_true("others do not", || {
        current_version(&mut client, &other, "default").expect("es_stream") == Some(1)
    });
    assert_eq!(current_version(&mut client, &stream, "default").expect("es_stream"), None);
    assert_eq!(worker(&mut client).dead_letters, 0);
    call(&mut client, "take_back(7, 2)");
    flush(&mut client).expect("es_flush");
    let read = ReadStream::all(&stream).read(&mut client).expect("es_read");
    let payloads: Vec<_> = read.iter().map(|event| event.payload.clone()).collect();
    assert_eq!(payloads, (1..=5).map(|number| json!(number)).collect::<Vec<_>>());
}

#[test]
fn a_restored_dump_is_a_single_server() {
    let cluster = member("dumped", 1);
    let mut client = cluster.store();
    join(&mut client, 1, Some((16..32, 2)));
    let (mine, foreign) = (names_in(&mut client, MOVED, 1), names_in(&mut client, 20, 1));
    append(&mut client, &mine[0], 1).expect("an append");
    let dump = Dump::of(&cluster, STORE, &["--format=custom"]);
    cluster.create_database("restored");
    dump.restore_with_pg_restore(&cluster, "restored", &[]);
    let mut restored = cluster.connect("restored");
    for (stream, version) in [(&mine[0], 2), (&foreign[0], 1)] {
        assert_eq!(append(&mut restored, stream, 2).expect("an append"), version);
    }
    let count = "SELECT count(*) FROM allsource.es_read_all(0)";
    assert_eq!(restored.query_one(count, &[]).expect(count).get::<_, i64>(0), 3);
    let refused = append(&mut client, &foreign[0], 1);
    assert_eq!(failure::refusal(refused), failure::NOT_IN_STATE);
}

#[test]
fn a_node_with_the_number_of_another_group_writes_nothing() {
    let cluster = member("renumbered", 1);
    let mut client = cluster.store();
    join(&mut client, 1, None);
    let stream = names_in(&mut client, MOVED, 1).remove(0);
    append(&mut client, &stream, 1).expect("an append");
    client.batch_execute("ALTER SYSTEM SET allsource.node_id = 2").expect("a setting");
    client.batch_execute("SELECT pg_reload_conf()").expect("a reload");
    patience::until_true("the session has the setting", || {
        client.query_one("SHOW allsource.node_id", &[]).expect("SHOW").get::<_, String>(0) == "2"
    });
    let refused = append(&mut client, &stream, 2);
    assert_eq!(failure::refusal(refused), failure::NOT_IN_STATE);
    Enqueue::to(&stream, &event(2)).send(&mut client).expect_err("es_enqueue");
    assert_eq!(ReadStream::all(&stream).read(&mut client).expect("es_read").len(), 1);
    client.batch_execute("ALTER SYSTEM SET allsource.node_id = 1").expect("a setting");
    client.batch_execute("SELECT pg_reload_conf()").expect("a reload");
    patience::until_true("it writes again", || append(&mut client, &stream, 2).is_ok());
}

#[test]
fn a_hot_partition_is_cooled_before_the_fence_and_takes_no_batches_behind_it() {
    let cluster = member("hot", 1);
    let mut client = cluster.store();
    join(&mut client, 1, None);
    let stream = names_in(&mut client, MOVED, 1).remove(0);
    client.batch_execute("SELECT allsource.es_heat(7)").expect("es_heat");
    Enqueue::to(&stream, &event(1)).durably().send(&mut client).expect("es_enqueue");
    let fence = "SELECT allsource.es_member_fence(7, 2)";
    let error = client.batch_execute(fence).expect_err(fence);
    assert!(failure::describe(&error).contains("partition 7 is hot"), "{error}");
    assert!(is(&mut client, "is_hot", MOVED, 2));
    // Who looks behind the lock of the leaf of batches finds the fence too.
    pause(&mut client).expect("es_worker_pause");
    Enqueue::to(&stream, &event(2)).send(&mut client).expect("es_enqueue");
    let batches = |client: &mut Client| -> i64 {
        let sql = "SELECT count(*) FROM allsource.hot_batches WHERE partition_id = 7";
        client.query_one(sql, &[]).expect(sql).get(0)
    };
    let before = batches(&mut client);
    let state = |client: &mut Client, state: &str| {
        let sql = "UPDATE allsource.partition_owners SET state = $1 WHERE partition_id = 7";
        client.execute(sql, &[&state]).expect(sql);
    };
    state(&mut client, "fenced");
    resume(&mut client).expect("es_worker_resume");
    patience::until_true("the event waits", || is(&mut client, "is_waiting", MOVED, 2));
    assert!(batches(&mut client) <= before);
    state(&mut client, "owned");
    flush(&mut client).expect("es_flush");
    client.batch_execute("SELECT allsource.es_cool(7)").expect("es_cool");
    call(&mut client, "fence(7, 2)");
    assert!(!is(&mut client, "(is_hot OR is_enqueued OR is_waiting)", MOVED, 2));
    let read = ReadStream::all(&stream).read(&mut client).expect("es_read");
    let payloads: Vec<_> = read.iter().map(|event| event.payload.clone()).collect();
    assert_eq!(payloads, [json!(1), json!(2)]);
}
