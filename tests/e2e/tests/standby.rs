//! A streaming standby: reads streams and, up to the safe position that the primary's worker has
//! recorded, the whole store; refuses writes; and goes on where the primary was when it is promoted,
//! workers included.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use allsource_e2e::bulk::{
    dead_letters, discard_dead_letter, flush, health, retry_dead_letter, worker, workers_up,
};
use allsource_e2e::calls::{all_events, assert_verified, safe_position};
use allsource_e2e::cluster::{ONE_WORKER, SERVED, Stop};
use allsource_e2e::writer::shared_streams;
use allsource_e2e::{
    Append, Cluster, Crew, Enqueue, EnqueueBatch, Event, Ledger, NewEvent, Producer, ReadAll,
    ReadStream, Seed, Seen, Tail, Writer, failure, patience, sizes,
};
use postgres::Client;
use serde_json::json;

const STEPS: u64 = 60;
const PAGE: i64 = 500;
const PRIMARY: [&str; 2] = ["wal_level=replica", "max_wal_senders=4"];
const UNSERVED: &str = "unserved";
const CROWD: u64 = 4;

#[test]
fn a_standby_reads_refuses_writes_and_goes_on_when_promoted() {
    let seed = Seed::announce();
    let primary = Cluster::with_queue("primary", &PRIMARY);
    primary.create_store(UNSERVED);
    let (ledger, seen, shared) = (Ledger::default(), Seen::default(), shared_streams(6));
    let mut writer = Writer {
        ledger: &ledger,
        seen: &seen,
        shared: &shared,
        own: "own".to_owned(),
        rng: seed.rng(1),
        pause_max: Duration::ZERO,
    };
    let mut client = primary.store();
    let mut work = |client: &mut Client, steps| {
        for _ in 0..steps {
            writer.step(client).expect("an append");
        }
    };
    work(&mut client, STEPS);
    let standby = primary.standby("standby", &[SERVED, ONE_WORKER]);
    work(&mut client, STEPS);
    let content = all_events(&mut client).expect("the content");
    seen.committed(&content);
    seen.height(safe_position(&mut client).expect("es_safe_position"));

    let mut replica = standby.store();
    wait_for_replay(&mut client, &mut replica);
    assert_eq!(all_events(&mut replica).expect("the standby's content"), content);
    let of_stream: Vec<_> =
        content.iter().filter(|event| event.stream_id == "shared-0").cloned().collect();
    assert!(!of_stream.is_empty());
    let read = ReadStream::all("shared-0").read(&mut replica).expect("es_read on a standby");
    assert_eq!(read, of_stream);

    let ticket = ledger.open(1);
    let append = Append::to("shared-0", &ticket.events);
    assert_eq!(failure::refusal(append.one(&mut replica)), failure::READ_ONLY);
    assert_eq!(failure::refusal(append.many(&mut replica)), failure::READ_ONLY);
    let new = Append::to("a new stream", &ticket.events);
    assert_eq!(failure::refusal(new.one(&mut replica)), failure::READ_ONLY);
    let enqueue = Enqueue::to("shared-0", &ticket.events[0]);
    assert_eq!(failure::refusal(enqueue.send(&mut replica)), failure::READ_ONLY);
    let items = [("shared-0".to_owned(), ticket.events[0].clone())];
    let batch = EnqueueBatch::of(&items).durably();
    assert_eq!(failure::refusal(batch.send(&mut replica)), failure::READ_ONLY);
    assert_eq!(failure::refusal(retry_dead_letter(&mut replica, 1)), failure::READ_ONLY);
    assert_eq!(failure::refusal(discard_dead_letter(&mut replica, 1)), failure::READ_ONLY);
    assert_eq!(dead_letters(&mut replica).expect("es_dead_letters"), []);
    // What watches over the server must not disturb what comes after a promotion.
    replica.execute("SELECT * FROM allsource.metrics", &[]).expect("metrics");
    let checks = health(&mut replica).expect("es_health");
    assert!(checks.iter().all(|(_, ok, _)| *ok), "{checks:#?}");

    // There is no registry of unsettled positions on a standby: what was recorded counts.
    let safe = safe_position(&mut client).expect("es_safe_position");
    patience::until_true("the safe position is recorded, and replayed", || {
        safe_position(&mut replica).expect("es_safe_position on a standby") == safe
    });
    let mut tail = Tail::after(0);
    while tail.poll(&mut replica, PAGE).expect("es_read_all on a standby") > 0 {}
    tail.assert_saw_exactly(&content);
    let mut unserved = standby.connect(UNSERVED);
    let read = ReadAll::after(0, PAGE).read(&mut unserved);
    assert_eq!(failure::refusal(read), failure::NOT_IN_STATE);
    assert_eq!(failure::refusal(safe_position(&mut unserved)), failure::NOT_IN_STATE);

    // Positions of a transaction that the standby never gets to see.
    let lost = ledger.doomed(3);
    client.batch_execute("BEGIN").expect("BEGIN");
    Append::to("lost", &lost.events).many(&mut client).expect("an append");
    let rows = client
        .query("SELECT position FROM allsource.events WHERE stream_id = 'lost' ORDER BY 1", &[])
        .expect("its positions");
    for (index, row) in rows.iter().enumerate() {
        seen.holder(row.get(0), lost.number(), index);
    }
    primary.stop(Stop::Kill);

    let query = "SELECT pg_promote(wait => true)";
    let promoted: bool = replica.query_one(query, &[]).expect("pg_promote").get(0);
    assert!(promoted);
    assert_goes_on(&mut replica, &ledger, &seen, &content);
}

/// A reader on a standby, while the primary is written to in every way: it sees all there is, in
/// order, and nothing that is not there in the end. Workers start with the promotion.
#[test]
fn a_reader_on_a_standby_misses_nothing_and_workers_start_with_promotion() {
    let seed = Seed::announce();
    let primary = Cluster::with_queue("followed", &PRIMARY);
    let standby = primary.standby("follower", &[SERVED, ONE_WORKER]);
    let (ledger, seen, shared) = (Ledger::default(), Seen::default(), shared_streams(6));
    let crew = Crew {
        cluster: &primary,
        ledger: &ledger,
        shared: &shared,
        seed,
        number: 1,
        producers: CROWD,
    };
    let done = AtomicBool::new(false);
    let mut tail = thread::scope(|scope| {
        let (mut replica, done) = (standby.store(), &done);
        let follower = scope.spawn(move || {
            let mut tail = Tail::after(0);
            // Nothing is recorded before the primary's worker has done it for the first time.
            while !done.load(Ordering::SeqCst) {
                if safe_position(&mut replica).is_ok() {
                    tail.poll(&mut replica, PAGE).expect("es_read_all on a standby");
                }
            }
            tail
        });
        crew.work_while(
            |_| false,
            || {
                let mut client = primary.store();
                let mut writer = Writer {
                    ledger: &ledger,
                    seen: &seen,
                    shared: &shared,
                    own: "own".to_owned(),
                    rng: seed.rng(0),
                    pause_max: Duration::from_millis(10),
                };
                for _ in 0..STEPS * sizes::factor() {
                    writer.step(&mut client).expect("an append");
                }
            },
        );
        done.store(true, Ordering::SeqCst);
        follower.join().expect("the follower")
    });
    let (mut client, mut replica) = (primary.store(), standby.store());
    let content = all_events(&mut client).expect("the content");
    ledger.assert_holds(&content);
    println!("{} of {} events seen by then", tail.events().len(), content.len());
    patience::until_true("the follower has seen everything", || {
        tail.poll(&mut replica, PAGE).expect("es_read_all on a standby");
        tail.events().len() >= content.len()
    });
    tail.assert_saw_exactly(&content);

    assert_eq!(worker(&mut replica).pid, None, "a worker on a standby");
    wait_for_replay(&mut client, &mut replica);
    drop(client);
    primary.stop(Stop::Fast);
    replica.execute("SELECT pg_promote(wait => true)", &[]).expect("pg_promote");
    let mut probe = Producer::new(&ledger, &shared, "promoted", seed.rng(1));
    probe.one(&mut replica, false).expect("es_enqueue in a connection from before");
    workers_up(&mut replica);
    flush(&mut replica).expect("es_flush");
    probe.flush(&mut replica).expect("es_flush");
    let mut fresh = standby.store();
    probe.one(&mut fresh, true).expect("es_enqueue");
    let last = [NewEvent::new("t", json!(1))];
    let version = Append::to("after", &last).one(&mut fresh).expect("es_append");
    assert_eq!(version, 1);
    let after = all_events(&mut fresh).expect("the content");
    assert_eq!(after[..content.len()], content);
    assert_eq!(after.len(), content.len() + 3);
    while tail.poll(&mut replica, PAGE).expect("es_read_all") > 0 {}
    tail.assert_saw_exactly(&after);
    assert_verified(&mut fresh);
}

fn wait_for_replay(client: &mut Client, replica: &mut Client) {
    let lsn: String =
        client.query_one("SELECT pg_current_wal_lsn()::text", &[]).expect("an LSN").get(0);
    patience::until_true("the standby has replayed everything", || {
        let query = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn";
        replica.query_one(query, &[&lsn]).expect("the standby's LSN").get(0)
    });
}

/// The promoted server appends; in the connection that was open before, and in a new one.
fn assert_goes_on(client: &mut Client, ledger: &Ledger, seen: &Seen, content: &[Event]) {
    let highest = seen.highest();
    assert!(safe_position(client).expect("es_safe_position") >= content.len() as i64);
    workers_up(client);
    for stream in ["shared-0", "shared-0", "after promotion"] {
        let mut ticket = ledger.open(2);
        let version = Append::to(stream, &ticket.events).many(client).expect("an append");
        ticket.place(0, 2, stream, version);
        ledger.acknowledge(ticket);
    }
    let after = all_events(client).expect("the content");
    assert_eq!(after[..content.len()], *content);
    assert_eq!(after.len(), content.len() + 6);
    assert!(
        after[content.len()].position > highest,
        "position {} after {highest} was seen on the old primary",
        after[content.len()].position
    );
    ledger.assert_holds(&after);
    seen.committed(&after);
    let mut probe = ledger.open(1);
    let enqueue = Enqueue::to("after promotion", &probe.events[0]);
    enqueue.durably().send(client).expect("es_enqueue");
    probe.place(0, 1, "after promotion", 3);
    ledger.acknowledge(probe);
    let after = all_events(client).expect("the content");
    ledger.assert_holds(&after);
    let mut tail = Tail::after(0);
    while tail.poll(client, PAGE).expect("es_read_all") > 0 {}
    tail.assert_saw_exactly(&after);
    assert_verified(client);
}

/// A new store has recorded nothing, even if its safe position is the one that was recorded last for
/// the store before it.
#[test]
fn a_store_made_again_records_its_safe_position() {
    let cluster = Cluster::with_queue("standby-again", &[]);
    let mut client = cluster.store();
    let recorded = |client: &mut Client| {
        let query =
            "SELECT \"position\" FROM allsource.safe_position WHERE recorded_at IS NOT NULL";
        client.query_opt(query, &[]).expect(query).map(|row| row.get::<_, i64>(0))
    };
    for _ in 0..2 {
        patience::until_true("the safe position is recorded", || recorded(&mut client) == Some(0));
        client
            .batch_execute("DROP EXTENSION allsource; CREATE EXTENSION allsource")
            .expect("a new store");
    }
    patience::until_true("it is recorded again", || recorded(&mut client) == Some(0));
}
