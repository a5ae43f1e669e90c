//! Tail readers against 64 writers that commit late and roll back: a reader that uses
//! `es_read_all` alone misses nothing, sees nothing twice, and sees streams in order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use allsource_e2e::calls::{all_events, assert_verified, safe_position};
use allsource_e2e::writer::shared_streams;
use allsource_e2e::{Cluster, Event, Ledger, ReadAll, STORE, Seed, Seen, Tail, Writer, sizes};
use postgres::IsolationLevel;

const WRITERS: u64 = 64;
const STEPS_PER_WRITER: u64 = 25;
const SHARED_STREAMS: usize = 40;
const PAUSE_MAX: Duration = Duration::from_millis(15);
const SMALL_PAGE: i64 = 7;
const LARGE_PAGE: i64 = 1_000;
const READS_PER_TRANSACTION: usize = 4;
const SAFE_SAMPLES_MAX: usize = 400;
const FAST_WRITERS: u64 = 12;
const FAST_APPENDS: u64 = 800;
const READ_PAUSE: Duration = Duration::from_millis(2);

/// What was true when a safe position was read: how many events were at or below it.
struct SafeSample {
    position: i64,
    events_below: i64,
}

#[test]
fn tail_readers_miss_nothing_and_see_nothing_twice() {
    let seed = Seed::announce();
    let cluster = Cluster::with_store("tail");
    let (ledger, seen) = (Ledger::default(), Seen::default());
    let shared = shared_streams(SHARED_STREAMS);
    let done = AtomicBool::new(false);
    let steps = STEPS_PER_WRITER * sizes::factor();

    let (tails, samples) = thread::scope(|scope| {
        let readers = [
            scope.spawn(|| read_until(&cluster, &done, |tail, c| tail.poll(c, LARGE_PAGE))),
            scope.spawn(|| read_until(&cluster, &done, |tail, c| tail.poll(c, SMALL_PAGE))),
            scope.spawn(|| read_until(&cluster, &done, poll_in_old_snapshots)),
        ];
        let partitions = scope.spawn(|| read_halves(&cluster, &done));
        let watcher = scope.spawn(|| watch_safe_position(&cluster, &done));
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let mut writer = Writer {
                    ledger: &ledger,
                    seen: &seen,
                    shared: &shared,
                    own: format!("own-{number}"),
                    rng: seed.rng(number),
                    pause_max: PAUSE_MAX,
                };
                let mut client = cluster.store();
                scope.spawn(move || {
                    for _ in 0..steps {
                        writer.step(&mut client).expect("an append that nothing stands against");
                    }
                })
            })
            .collect();
        let writers: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::SeqCst);
        assert!(writers.iter().all(Result::is_ok), "a writer failed");
        let mut tails: Vec<Tail> =
            readers.into_iter().map(|reader| reader.join().expect("a reader")).collect();
        tails.push(partitions.join().expect("the reader by partitions"));
        (tails, watcher.join().expect("the watcher of safe positions"))
    });

    let mut client = cluster.store();
    let content = all_events(&mut client).expect("the content");
    assert!(content.len() > 1_000, "only {} events: the test has tested little", content.len());
    println!("{} events, {} samples of the safe position", content.len(), samples.len());
    for tail in &tails {
        tail.assert_saw_exactly(&content);
        assert_stream_order(tail.events());
    }
    ledger.assert_holds(&content);
    seen.committed(&content);
    for sample in samples {
        let now = content.iter().filter(|event| event.position <= sample.position).count();
        assert_eq!(
            i64::try_from(now).expect("a count"),
            sample.events_below,
            "events appeared at or below the safe position {}",
            sample.position
        );
    }
    assert_verified(&mut client);
}

/// Reads until the writers are done and a read after that has found nothing more. Nothing is
/// unsettled then, so that last empty page means the end.
fn read_until(
    cluster: &Cluster,
    done: &AtomicBool,
    poll: impl Fn(&mut Tail, &mut postgres::Client) -> Result<usize, postgres::Error>,
) -> Tail {
    let mut client = cluster.store();
    let mut tail = Tail::after(0);
    loop {
        let was_done = done.load(Ordering::SeqCst);
        let count = poll(&mut tail, &mut client).expect("es_read_all");
        if count == 0 {
            if was_done {
                return tail;
            }
            thread::sleep(READ_PAUSE);
        }
    }
}

/// Some reads in a REPEATABLE READ transaction: its snapshot grows old while writers go on, and
/// the reader must stop where the snapshot does.
fn poll_in_old_snapshots(
    tail: &mut Tail,
    client: &mut postgres::Client,
) -> Result<usize, postgres::Error> {
    let mut transaction =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start()?;
    let mut count = 0;
    for _ in 0..READS_PER_TRANSACTION {
        count += tail.poll(&mut transaction, SMALL_PAGE * 5)?;
        thread::sleep(READ_PAUSE);
    }
    transaction.commit()?;
    Ok(count)
}

/// Two readers that share the partitions between them see everything together.
fn read_halves(cluster: &Cluster, done: &AtomicBool) -> Tail {
    let mut client = cluster.store();
    let halves: [Vec<i32>; 2] = [(0..16).collect(), (16..32).collect()];
    let mut tails = [Tail::after(0), Tail::after(0)];
    loop {
        let was_done = done.load(Ordering::SeqCst);
        let mut count = 0;
        for (tail, half) in tails.iter_mut().zip(&halves) {
            let after = ReadAll::after(tail.last_position(), SMALL_PAGE * 3);
            let page = ReadAll { partitions: Some(half), ..after }.read(&mut client);
            let page = page.expect("es_read_all");
            assert!(page.iter().all(|event| half.contains(&event.partition_id)));
            count += page.len();
            tail.take(page);
        }
        if count == 0 {
            if was_done {
                break;
            }
            thread::sleep(READ_PAUSE);
        }
    }
    let mut events: Vec<Event> = tails.iter().flat_map(|tail| tail.events().to_vec()).collect();
    events.sort_by_key(|event| event.position);
    let mut whole = Tail::after(0);
    whole.take(events);
    whole
}

fn watch_safe_position(cluster: &Cluster, done: &AtomicBool) -> Vec<SafeSample> {
    let mut client = cluster.store();
    let mut samples = Vec::new();
    let mut last = 0;
    while samples.len() < SAFE_SAMPLES_MAX && !done.load(Ordering::SeqCst) {
        let position = safe_position(&mut client).expect("es_safe_position");
        assert!(position >= last, "the safe position went back from {last} to {position}");
        last = position;
        // A statement of its own: its snapshot is newer than the position.
        let query = "SELECT count(*) FROM allsource.events WHERE position <= $1";
        let events_below = client.query_one(query, &[&position]).expect("a count").get(0);
        samples.push(SafeSample { position, events_below });
    }
    samples
}

fn assert_stream_order(events: &[Event]) {
    let mut heads: BTreeMap<&str, i64> = BTreeMap::new();
    for event in events {
        let head = heads.entry(&event.stream_id).or_default();
        assert_eq!(event.version, *head + 1, "next version of {} in a tail", event.stream_id);
        *head = event.version;
    }
}

/// Collects, in the server and so as fast as it can be done, safe positions, each with a snapshot
/// taken right after it.
const SAMPLE: &str = "
    CREATE TEMP TABLE samples (safe bigint, later pg_snapshot);
    DO $$
    DECLARE
        now bigint;
        previous bigint := -1;
    BEGIN
        WHILE NOT EXISTS (SELECT FROM finished) LOOP
            FOR turn IN 1..200 LOOP
                now := allsource.es_safe_position();
                IF now <> previous THEN
                    INSERT INTO samples VALUES (now, pg_current_snapshot());
                    previous := now;
                END IF;
            END LOOP;
        END LOOP;
    END $$";

/// Follows the tail, likewise.
const FOLLOW: &str = "
    CREATE TEMP TABLE followed (\"position\" bigint);
    DO $$
    DECLARE
        ended boolean := false;
        last bigint := 0;
        newest bigint;
    BEGIN
        LOOP
            WITH page AS (
                INSERT INTO followed
                SELECT e.\"position\" FROM allsource.es_read_all(last, 100) e
                RETURNING \"position\"
            )
            SELECT max(\"position\") INTO newest FROM page;
            EXIT WHEN newest IS NULL AND ended;
            last := coalesce(newest, last);
            ended := EXISTS (SELECT FROM finished);
        END LOOP;
    END $$";

/// Writers, samplers and followers at full speed: what a reader does and what a writer does meet
/// in every place that is a few instructions wide.
#[test]
fn no_event_appears_below_a_safe_position() {
    let cluster = Cluster::with_store("tail-fast");
    cluster.execute(STORE, "CREATE TABLE finished (at timestamptz)");
    let appends = FAST_APPENDS * sizes::factor();
    let (unsettled, missed) = thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut client = cluster.store();
            client.batch_execute(SAMPLE).expect("the sampler");
            // A run that a snapshot does not show, at or below the safe position read before it.
            let query = "SELECT count(*), (SELECT count(*) FROM samples) FROM samples s \
                         JOIN allsource.event_log l ON l.\"position\" <= s.safe \
                          AND l.\"position\" > s.safe - 200 \
                         WHERE NOT pg_visible_in_snapshot(l.xmin::text::xid8, s.later)";
            let row = client.query_one(query, &[]).expect("what the sampler found");
            println!("{} safe positions", row.get::<_, i64>(1));
            row.get::<_, i64>(0)
        });
        let follow = || {
            let mut client = cluster.store();
            client.batch_execute(FOLLOW).expect("the follower");
            let query = "SELECT coalesce(e.\"position\", f.\"position\") \
                         FROM allsource.events e \
                         FULL JOIN followed f ON e.\"position\" = f.\"position\" \
                         WHERE e.\"position\" IS NULL OR f.\"position\" IS NULL ORDER BY 1";
            let rows = client.query(query, &[]).expect("what the follower found");
            rows.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>()
        };
        let followers = [scope.spawn(follow), scope.spawn(follow)];
        let writers: Vec<_> = (0..FAST_WRITERS)
            .map(|number| {
                let mut client = cluster.store();
                scope.spawn(move || {
                    let sql = "SELECT allsource.es_append($1, 't', '1')";
                    let append = client.prepare(sql).expect("a statement");
                    for turn in 0..appends {
                        let stream = format!("s-{number}-{}", turn % 7);
                        client.execute(&append, &[&stream]).expect("an append");
                    }
                })
            })
            .collect();
        let results: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        cluster.execute(STORE, "INSERT INTO finished VALUES (now())");
        assert!(results.iter().all(Result::is_ok), "a writer failed");
        let missed = followers.map(|follower| follower.join().expect("a follower"));
        (sampler.join().expect("the sampler"), missed)
    });
    assert_eq!(unsettled, 0, "runs that appeared at or below a safe position");
    assert_eq!(missed, [[0_i64; 0]; 2], "positions that followers have missed");
    let mut client = cluster.store();
    let content = all_events(&mut client).expect("the content");
    assert_eq!(content.len() as u64, FAST_WRITERS * appends);
}

/// `es_read_all(after_position => es_safe_position())` starts from now: it gives what is
/// committed later, and nothing that was there.
#[test]
fn a_tail_from_the_safe_position_begins_now() {
    let cluster = Cluster::with_store("tail-now");
    let (ledger, mut client) = (Ledger::default(), cluster.store());
    let append = |client: &mut postgres::Client| {
        let ticket = ledger.open(3);
        allsource_e2e::Append::to("s", &ticket.events).many(client).expect("an append")
    };
    append(&mut client);
    let mut tail = Tail::after(safe_position(&mut client).expect("es_safe_position"));
    assert_eq!(tail.poll(&mut client, LARGE_PAGE).expect("es_read_all"), 0);
    append(&mut client);
    assert_eq!(tail.poll(&mut client, LARGE_PAGE).expect("es_read_all"), 3);
    assert_eq!(tail.events()[0].version, 4);
}

/// Readers stop below an uncommitted append of another session, whatever is above it; when that
/// session is gone without a word, they go on.
#[test]
fn a_terminated_writer_holds_readers_back_no_longer() {
    let cluster = Cluster::with_store("tail-terminated");
    let ledger = Ledger::default();
    let (mut reader, mut writer) = (cluster.store(), cluster.store());
    let mut held = cluster.store();
    let pid: i32 = held.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);
    let doomed = ledger.doomed(1);
    held.batch_execute("BEGIN").expect("BEGIN");
    allsource_e2e::Append::to("a", &doomed.events).one(&mut held).expect("an append");
    let ticket = ledger.open(1);
    allsource_e2e::Append::to("b", &ticket.events).one(&mut writer).expect("an append");
    let mut tail = Tail::after(0);
    assert_eq!(tail.poll(&mut reader, LARGE_PAGE).expect("es_read_all"), 0);
    let start = Instant::now();
    writer.execute("SELECT pg_terminate_backend($1)", &[&pid]).expect("pg_terminate_backend");
    allsource_e2e::patience::until_true("the reader goes on", || {
        tail.poll(&mut reader, LARGE_PAGE).expect("es_read_all") == 1
    });
    println!("went on after {:?}", start.elapsed());
    assert_eq!(tail.events()[0].stream_id, "b");
}
