//! The coordinator: it moves partitions while they are written to, whoever is interrupted by whatever, and each has one owner at
//! all times; groups that join and leave; who may do what; and how the nodes are.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use allsource_e2e::calls::{assert_verified, names_in};
use allsource_e2e::cluster::Stop;
use allsource_e2e::coordinated::{CARRIED_ON, Executor, PARTITIONS, PHASES, ownership};
use allsource_e2e::failure::{
    self, NOT_ALLOWED, NOT_IN_STATE, UNDEFINED, describe, refusal, sqlstate,
};
use allsource_e2e::routed::COORDINATOR;
use allsource_e2e::{Append, Coordinated, Enqueue, NewEvent, ReadStream, STORE, patience};
use postgres::{Client, Error};
use serde_json::json;
use uuid::Uuid;

/// Phases in which nobody writes.
const FENCED: [&str; 4] = ["fenced", "replayed", "compared", "raised"];

/// Phases in which the target owns the partition.
const TARGET_OWNS: [&str; 3] = ["given", "released", "unlinked"];

fn event(number: i64) -> NewEvent {
    NewEvent::new("t", json!(number)).with_id(Uuid::from_u128(rand::random()))
}

fn append(client: &mut Client, stream: &str, event: &NewEvent) -> Result<i64, Error> {
    Append::to(stream, std::slice::from_ref(event)).one(client)
}

/// Writes to whoever owns a partition, as a router does: with the map in mind, and again with the same ids where the outcome
/// is not known.
struct Router<'a> {
    of: &'a Coordinated,
    clients: BTreeMap<i32, Client>,
    owners: Vec<i32>,
}

impl<'a> Router<'a> {
    fn new(of: &'a Coordinated) -> Self {
        let mut router = Self { of, clients: BTreeMap::new(), owners: Vec::new() };
        router.read_map();
        router
    }

    fn read_map(&mut self) {
        let sql = "SELECT group_id FROM allsource.partition_map ORDER BY partition_id";
        let rows = self.of.ask().query(sql, &[]).expect(sql);
        self.owners = rows.iter().map(|row| row.get(0)).collect();
    }

    fn at(&mut self, group: i32) -> &mut Client {
        self.clients.entry(group).or_insert_with(|| self.of.group(group).connect_when_ready(STORE))
    }

    fn call<T>(&mut self, partition: i32, mut f: impl FnMut(&mut Client) -> Result<T, Error>) -> T {
        patience::until("the owner takes a call", || {
            let owner = self.owners[partition as usize];
            match f(self.at(owner)) {
                Ok(answer) => return Some(answer),
                Err(error) if sqlstate(&error) == NOT_IN_STATE => self.read_map(),
                Err(error) if failure::is_disconnect(&error) => {
                    self.clients.remove(&owner);
                }
                Err(error) => panic!("{}", describe(&error)),
            }
            None
        })
    }
}

/// What a reader with a vector of positions has seen: of each stream, the ids in the order of versions.
struct Reader<'a> {
    router: Router<'a>,
    positions: Vec<Option<i64>>,
    seen: BTreeMap<String, Vec<Uuid>>,
}

impl<'a> Reader<'a> {
    fn new(of: &'a Coordinated) -> Self {
        let positions = vec![Some(0); PARTITIONS];
        Self { router: Router::new(of), positions, seen: BTreeMap::new() }
    }

    /// Reads a page of each group. Returns how many events were there; who has lost a partition refuses the page.
    fn poll(&mut self) -> usize {
        let sql = "SELECT partition_id, stream_id, version, position, event_id \
                     FROM allsource.es_read_all_from($1, 300, partition_ids => $2)";
        let mut count = 0;
        for group in self.router.of.numbers() {
            let of_group: Vec<i32> = (0..PARTITIONS as i32)
                .filter(|&partition| self.router.owners[partition as usize] == group)
                .collect();
            if of_group.is_empty() {
                continue;
            }
            let positions = self.positions.clone();
            let rows = match self.router.at(group).query(sql, &[&positions, &of_group]) {
                Ok(rows) => rows,
                Err(error) if sqlstate(&error) == NOT_IN_STATE => {
                    self.router.read_map();
                    continue;
                }
                Err(error) => panic!("{}", describe(&error)),
            };
            count += rows.len();
            for row in rows {
                let (partition, position): (i32, i64) = (row.get(0), row.get(3));
                let last = &mut self.positions[partition as usize];
                assert!(*last < Some(position), "positions of partition {partition} grow");
                *last = Some(position);
                let (stream, version): (String, i64) = (row.get(1), row.get(2));
                let of_stream = self.seen.entry(stream).or_default();
                of_stream.push(row.get(4));
                assert_eq!(of_stream.len() as i64, version, "nothing missed, nothing twice");
            }
        }
        count
    }
}

/// Fails when two groups own a partition at the same time.
fn watch_owners(of: &Coordinated, ended: &AtomicBool) -> u64 {
    let sql = "SELECT array_agg(CASE state WHEN 'owned' THEN epoch END ORDER BY partition_id) FROM allsource.partition_owners";
    let mut clients: Vec<Client> = of.numbers().map(|number| of.group(number).store()).collect();
    let mut polls = 0;
    while !ended.load(Ordering::Relaxed) {
        let mut look = || -> Vec<Vec<Option<i64>>> {
            clients.iter_mut().map(|client| client.query_one(sql, &[]).expect(sql).get(0)).collect()
        };
        // One who owns it with the same epoch before and after has owned it in between.
        let looks = [look(), look()];
        for partition in 0..PARTITIONS {
            let owners = (0..looks[0].len())
                .filter(|&group| {
                    let epoch = looks[0][group][partition];
                    epoch.is_some() && epoch == looks[1][group][partition]
                })
                .count();
            assert!(owners <= 1, "partition {partition} has {owners} owners: {looks:?}");
        }
        polls += 1;
    }
    polls
}

fn fence_time(of: &Coordinated, partition: i32) -> f64 {
    let sql = "SELECT extract(epoch FROM fence_time)::float8 * 1000 FROM allsource.es_moves() WHERE partition_id = $1 LIMIT 1";
    of.ask().query_one(sql, &[&partition]).expect(sql).get(0)
}

#[test]
fn partitions_move_under_load_and_nothing_is_lost_or_seen_twice() {
    const MOVED: [i32; 3] = [3, 7, 20];
    const ROUNDS: usize = 3;
    let of = Coordinated::start("load", 2, &[]);
    let mut client = of.group(1).store();
    let mut streams: Vec<String> =
        MOVED.iter().flat_map(|&p| names_in(&mut client, p, 2)).collect();
    streams.extend(names_in(&mut client, 9, 1));
    let partition_of = |stream: &str| -> i32 {
        let sql = "SELECT allsource.es_partition($1)";
        of.group(1).store().query_one(sql, &[&stream]).expect(sql).get(0)
    };
    let partitions: Vec<i32> = streams.iter().map(|stream| partition_of(stream)).collect();
    let acknowledged: Mutex<BTreeMap<String, Vec<Uuid>>> = Mutex::default();
    let (ended, written) = (AtomicBool::new(false), AtomicI64::new(0));
    let note = |stream: &str, events: &[NewEvent]| {
        let ids = events.iter().filter_map(|event| event.id);
        acknowledged.lock().expect("the list").entry(stream.to_owned()).or_default().extend(ids);
        written.fetch_add(events.len() as i64, Ordering::Relaxed);
    };
    let (of, streams, partitions, ended, note) = (&of, &streams, &partitions, &ended, &note);
    thread::scope(|scope| {
        for kind in 0..3 {
            scope.spawn(move || {
                let mut router = Router::new(of);
                let mut number = 0;
                while !ended.load(Ordering::Relaxed) {
                    for (stream, &partition) in streams.iter().zip(partitions) {
                        number += 1;
                        let count = if kind == 1 { 5 } else { 1 };
                        let events: Vec<_> = (0..count).map(|_| event(number)).collect();
                        router.call(partition, |client| match kind {
                            0 => append(client, stream, &events[0]).map(drop),
                            1 => Append::to(stream, &events).many(client).map(drop),
                            _ => Enqueue::to(stream, &events[0]).durably().send(client),
                        });
                        note(stream, &events);
                    }
                    thread::sleep(Duration::from_millis(2));
                }
            });
        }
        let watch = scope.spawn(move || watch_owners(of, ended));
        let read = scope.spawn(move || {
            let mut reader = Reader::new(of);
            while !ended.load(Ordering::Relaxed) {
                reader.poll();
            }
            reader
        });
        let moves = scope.spawn(|| {
            for round in 0..ROUNDS {
                let before = written.load(Ordering::Relaxed);
                for partition in MOVED {
                    let target = 2 - (round as i32 % 2);
                    of.move_to(partition, target)
                        .unwrap_or_else(|error| panic!("{}", describe(&error)));
                    println!(
                        "partition {partition} to {target}: fenced for {:.0} ms",
                        fence_time(of, partition)
                    );
                }
                patience::until_true("writers go on", || {
                    written.load(Ordering::Relaxed) > before + 50
                });
            }
        });
        let moved = moves.join();
        ended.store(true, Ordering::Relaxed);
        moved.expect("the moves");
        let polls = watch.join().expect("one owner");
        let mut reader = read.join().expect("the reader");
        println!("{} events, {polls} looks at the owners", written.load(Ordering::Relaxed));
        assert!(polls > 10);
        while reader.poll() > 0 {}
        // Writers may still be at it.
        let mut acknowledged = acknowledged.lock().expect("the list").clone();
        while reader.poll() > 0 {}
        for (stream, ids) in &mut acknowledged {
            let mut seen = reader.seen[stream].clone();
            for id in ids.iter() {
                assert!(seen.contains(id), "{id} of {stream} is lost");
            }
            seen.sort();
            seen.dedup();
            assert_eq!(seen.len(), reader.seen[stream].len(), "an id of {stream} is there twice");
        }
    });
    for partition in MOVED {
        assert_eq!(of.assert_settled(partition), 2);
    }
    assert_eq!(of.assert_settled(9), 1);
    for number in of.numbers() {
        assert_verified(&mut of.group(number).store());
    }
}

/// A partition with events, whose move from group 1 to group 2 the test interrupts.
struct Interrupted<'a> {
    of: &'a Coordinated,
    partition: i32,
    stream: String,
    written: i64,
}

impl<'a> Interrupted<'a> {
    fn new(of: &'a Coordinated, partition: i32) -> Self {
        let mut client = of.group(1).store();
        let stream = names_in(&mut client, partition, 3).remove(0);
        let mut moved = Self { of, partition, stream, written: 0 };
        moved.write(&mut client).expect("an append");
        moved
    }

    fn write(&mut self, client: &mut Client) -> Result<(), Error> {
        let version = append(client, &self.stream, &event(self.written + 1))?;
        self.written += 1;
        assert_eq!(version, self.written);
        Ok(())
    }

    /// Carries a move on as far as this phase, and checks who can write there.
    fn stop_in(&mut self, phase: &str) {
        Executor::begin(self.of, self.partition, 2).until(phase);
        self.check_writers(phase);
    }

    fn check_writers(&mut self, phase: &str) {
        let writers: Vec<i32> = self
            .of
            .numbers()
            .filter(|&number| match self.write(&mut self.of.group(number).store()) {
                Ok(()) => true,
                Err(error) => {
                    assert_eq!(sqlstate(&error), NOT_IN_STATE, "{phase}: {}", describe(&error));
                    false
                }
            })
            .collect();
        let expected = match phase {
            _ if FENCED.contains(&phase) => vec![],
            _ if TARGET_OWNS.contains(&phase) => vec![2],
            _ => vec![1],
        };
        assert_eq!(writers, expected, "who writes partition {} in {phase}", self.partition);
    }

    /// The move has ended with this owner: nothing is lost, and it goes on being written.
    fn assert_at(&mut self, owner: i32) {
        assert_eq!(self.of.assert_settled(self.partition), owner);
        let mut client = self.of.group(owner).store();
        self.write(&mut client).expect("an append");
        let read = ReadStream::all(&self.stream).read(&mut client).expect("es_read");
        let payloads: Vec<_> = read.iter().map(|event| event.payload.clone()).collect();
        assert_eq!(payloads, (1..=self.written).map(|number| json!(number)).collect::<Vec<_>>());
    }

    /// Another carries the move on. It ends where the last phase says.
    fn carry_on(&mut self, phase: &str) {
        let moved = self.of.move_to(self.partition, 2);
        moved.unwrap_or_else(|error| panic!("from {phase}: {}", describe(&error)));
        self.assert_at(2);
    }
}

#[test]
fn a_move_is_carried_on_or_cancelled_from_each_phase() {
    let of = Coordinated::start("phases", 2, &[]);
    for (partition, phase) in (0..).zip(PHASES) {
        let mut moved = Interrupted::new(&of, partition);
        moved.stop_in(phase);
        moved.carry_on(phase);
    }
    for (partition, phase) in (PHASES.len() as i32..).zip(PHASES) {
        let mut moved = Interrupted::new(&of, partition);
        moved.stop_in(phase);
        let cancel = format!("SELECT allsource.es_move_cancel({partition})");
        if TARGET_OWNS.contains(&phase) {
            assert_eq!(refusal(of.try_call(&cancel)), NOT_IN_STATE, "{phase}");
            moved.carry_on(phase);
            continue;
        }
        of.call(&cancel);
        // Again, which changes nothing.
        of.call(&cancel);
        let error = of.move_to(partition, 2).expect_err("a move that has gone back");
        assert!(describe(&error).contains("it was cancelled"), "{phase}: {}", describe(&error));
        moved.assert_at(1);
        // Cancelled in the middle of going back.
        moved.stop_in("checked");
        of.call(&cancel);
        let mut executor = Executor::begin(&of, partition, 2);
        executor.until("taken back");
        of.call(&cancel);
        executor.until("returned");
        moved.assert_at(1);
        assert_eq!(refusal(of.try_call(&cancel)), NOT_IN_STATE, "{phase}");
        of.move_to(partition, 2).unwrap_or_else(|error| panic!("{phase}: {}", describe(&error)));
        moved.assert_at(2);
    }
    // Half published: the publication is there, and has nothing yet.
    let mut moved = Interrupted::new(&of, 30);
    let mut executor = Executor::begin(&of, 30, 2);
    executor.until("prepared");
    let publish = format!("SELECT allsource.es_member_publish(30, {})", executor.epoch());
    assert!(!of.group(1).store().query_one(&publish, &[]).expect(&publish).get::<_, bool>(0));
    of.call("SELECT allsource.es_move_cancel(30)");
    executor.until("returned");
    moved.assert_at(1);
    for number in of.numbers() {
        assert_verified(&mut of.group(number).store());
    }
}

/// Kills the server of a group, and starts it again.
fn kill(of: &Coordinated, number: i32) {
    of.group(number).stop(Stop::Kill);
    of.group(number).resume();
    of.group(number).connect_when_ready(STORE);
}

#[test]
fn a_move_survives_kills_of_source_target_and_coordinator_in_each_phase() {
    let of = Coordinated::start("kills", 2, &[]);
    for (partition, phase) in (0..).zip(PHASES) {
        let mut moved = Interrupted::new(&of, partition);
        moved.stop_in(phase);
        // All of them in the course of the phases; the server to begin with is another one each time.
        match partition % 3 {
            0 => kill(&of, 1),
            1 => kill(&of, 2),
            _ => {
                of.coordinator.stop(Stop::Kill);
                of.coordinator.resume();
                of.coordinator.connect_when_ready(COORDINATOR);
            }
        }
        moved.check_writers(phase);
        moved.carry_on(phase);
    }
    for number in of.numbers() {
        assert_verified(&mut of.group(number).store());
    }
}

#[test]
fn a_move_whose_slot_was_lost_goes_back_and_can_be_begun_again() {
    let of = Coordinated::start("slots", 2, &[]);
    // From replayed on nothing needs the slot any more.
    for (partition, phase) in (0..).zip(&PHASES[2..13]) {
        let mut moved = Interrupted::new(&of, partition);
        moved.stop_in(phase);
        let mut source = of.group(1).store();
        // As a failover of the source does, and in the way in which the slot is free for a moment.
        let dropped = "SELECT pg_terminate_backend(active_pid), pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
                       WHERE slot_name LIKE '%p' || lpad($1::text, 2, '0') || '%'";
        patience::until_true("the slot is dropped", || {
            source.query(dropped, &[&partition.to_string()]).is_ok_and(|rows| rows.len() == 1)
        });
        if !["replayed", "compared", "raised", "given", "released"].contains(phase) {
            let error = of.move_to(partition, 2).expect_err("a move without a slot");
            assert!(
                describe(&error).contains("the copy was lost"),
                "{phase}: {}",
                describe(&error)
            );
            moved.assert_at(1);
        }
        moved.carry_on(phase);
    }
}

#[test]
fn a_move_survives_ended_connections_and_goes_on_by_the_process() {
    let of = Coordinated::start("ended", 2, &[CARRIED_ON]);
    let user = "CREATE ROLE mover LOGIN; GRANT allsource_admin TO mover";
    of.coordinator.execute(COORDINATOR, user);
    for number in of.numbers() {
        of.group(number).execute(STORE, user);
    }
    let mover = || {
        let mut config = of.coordinator.config(COORDINATOR);
        config.user("mover");
        config.connect(postgres::NoTls).expect("a connection")
    };
    let mut onlooker = of.ask();
    // More than one, so that whoever carries on has become himself again.
    for partition in 0..3 {
        let mut moved = Interrupted::new(&of, partition);
        let mut caller = mover();
        let begin = "SELECT allsource.move_begin($1, 2)";
        caller.query_one(begin, &[&partition]).expect(begin);
        if partition == 0 {
            // Its caller is ended in the middle of it.
            let pid: i32 = caller.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);
            thread::scope(|scope| {
                let call = scope.spawn(|| {
                    caller
                        .batch_execute(&format!("CALL allsource.es_move_partition({partition}, 2)"))
                });
                of.until_phase(partition, &PHASES[3..]);
                onlooker.execute("SELECT pg_terminate_backend($1)", &[&pid]).expect("an end");
                let _ = call.join().expect("no panic");
            });
        } else {
            // It stands where that is urgent.
            Executor::begin(&of, partition, 2).until(["checked", "raised"][partition as usize - 1]);
        }
        of.until_phase(partition, &["done"]);
        moved.assert_at(2);
    }
    // Who has begun it has no right any more: others are carried on meanwhile, and it as soon as he has it again.
    let mut stopped = Interrupted::new(&of, 10);
    let mut other = Interrupted::new(&of, 11);
    mover().query_one("SELECT allsource.move_begin(10, 2)", &[]).expect("a move");
    of.call("REVOKE allsource_admin FROM mover");
    for partition in [10, 11] {
        Executor::begin(&of, partition, 2).until("checked");
    }
    of.until_phase(11, &["done"]);
    other.assert_at(2);
    let error = "SELECT error FROM allsource.es_moves() WHERE partition_id = 10";
    patience::until_true("it says what is in the way", || {
        let error: Option<String> = onlooker.query_one(error, &[]).expect(error).get(0);
        error.is_some_and(|error| error.contains("permission denied"))
    });
    of.call("GRANT allsource_admin TO mover");
    // Also after a restart.
    of.coordinator.stop(Stop::Kill);
    of.coordinator.resume();
    of.coordinator.connect_when_ready(COORDINATOR);
    of.until_phase(10, &["done"]);
    stopped.assert_at(2);

    // Sessions at the members are ended all the time.
    let mut moved = Interrupted::new(&of, 12);
    let ended = AtomicBool::new(false);
    let (of, ended) = (&of, &ended);
    thread::scope(|scope| {
        for number in of.numbers() {
            scope.spawn(move || {
                let mut client = of.group(number).store();
                let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'allsource_coordinator'";
                while !ended.load(Ordering::Relaxed) {
                    client.execute(end, &[]).expect(end);
                    thread::sleep(Duration::from_millis(250));
                }
            });
        }
        let result = of.move_to(12, 2);
        ended.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|error| panic!("{}", describe(&error)));
    });
    moved.assert_at(2);
}

/// A slot is made only when the transactions of its server have ended, of whatever database.
#[test]
fn a_coordinator_on_the_server_of_the_source() {
    let of = Coordinated::apart("beside", 2, &[]);
    of.group(1).create_store(COORDINATOR);
    let mut client = of.group(1).connect(COORDINATOR);
    for number in of.numbers() {
        let conninfo = of.group(number).conninfo(STORE);
        let add = format!("CALL allsource.es_group_add({number}, '{conninfo}')");
        client.batch_execute(&add).expect(&add);
    }
    for group in [2, 1] {
        let call = format!("CALL allsource.es_move_partition(5, {group})");
        client.batch_execute(&call).expect(&call);
        let sql = "SELECT group_id FROM allsource.partition_map WHERE partition_id = 5";
        assert_eq!(client.query_one(sql, &[]).expect(sql).get::<_, i32>(0), group);
    }
}

#[test]
fn several_moves_at_once_and_what_is_refused() {
    let of = Coordinated::start("several", 3, &[]);
    let (of, moving) = (&of, &AtomicBool::new(true));
    // Two executors of one move, and one who wants it elsewhere.
    let mut moved = Interrupted::new(of, 5);
    thread::scope(|scope| {
        let calls: Vec<_> = (0..3).map(|_| scope.spawn(|| of.move_to(5, 2))).collect();
        let elsewhere = scope.spawn(|| {
            let mut refused = 0;
            of.until_phase(5, &PHASES);
            while moving.load(Ordering::Relaxed) && of.phase(5) != "done" {
                match of.move_to(5, 3) {
                    Err(error) => {
                        assert_eq!(sqlstate(&error), NOT_IN_STATE, "{}", describe(&error));
                        refused += 1;
                    }
                    // The first move was just over.
                    Ok(()) => break,
                }
            }
            refused
        });
        for call in calls {
            if let Err(error) = call.join().expect("no panic") {
                panic!("{}", describe(&error));
            }
        }
        moving.store(false, Ordering::Relaxed);
        assert!(elsewhere.join().expect("no panic") > 0);
    });
    let owner = of.assert_settled(5);
    moved.assert_at(owner);

    // A plan of moves, one by one, while others are moved.
    let plan = |client: &mut Client| -> Vec<(i32, i32)> {
        let sql = "SELECT partition_id, target_id FROM allsource.es_rebalance_plan()";
        client.query(sql, &[]).expect(sql).iter().map(|row| (row.get(0), row.get(1))).collect()
    };
    let mut client = of.ask();
    of.weigh(1, 27);
    of.weigh(2, 5);
    of.weigh(3, 0);
    let before = plan(&mut client).len();
    assert!((4..=6).contains(&before), "{before} moves");
    of.call("CALL allsource.es_rebalance(2)");
    assert_eq!(plan(&mut client).len(), before - 2);
    of.call("CALL allsource.es_rebalance(0)");
    assert_eq!(plan(&mut client).len(), before - 2);
    thread::scope(|scope| {
        let rebalance = || of.try_call("CALL allsource.es_rebalance()");
        let calls = [scope.spawn(rebalance), scope.spawn(rebalance)];
        let own: Vec<_> =
            (0..2).map(|number| scope.spawn(move || of.move_to(30 - number, 3))).collect();
        for call in own.into_iter().chain(calls) {
            if let Err(error) = call.join().expect("no panic") {
                assert_eq!(sqlstate(&error), NOT_IN_STATE, "{}", describe(&error));
            }
        }
    });
    of.call("CALL allsource.es_rebalance()");
    let owners = |client: &mut Client| -> Vec<(i32, i64)> {
        let sql = "SELECT group_id, count(*) FROM allsource.partition_map GROUP BY 1 ORDER BY 1";
        client.query(sql, &[]).expect(sql).iter().map(|row| (row.get(0), row.get(1))).collect()
    };
    assert_eq!(owners(&mut client), [(1, 27), (2, 5)]);
    // One that joins gets its share, and no more than that moves.
    of.weigh(3, 16);
    let planned = plan(&mut client);
    assert!(planned.len() <= 11 && planned.iter().all(|&(_, target)| target == 3), "{planned:?}");
    // It leaves before it has any.
    let remove = |number: i32| of.try_call(&format!("SELECT allsource.es_group_remove({number})"));
    assert_eq!(refusal(remove(1)), NOT_IN_STATE);
    assert_eq!(refusal(remove(9)), UNDEFINED);
    let mut executor = Executor::begin(of, 0, 3);
    executor.until("prepared");
    assert_eq!(refusal(remove(3)), NOT_IN_STATE);
    of.call("SELECT allsource.es_move_cancel(0)");
    executor.until("returned");
    remove(3).unwrap_or_else(|error| panic!("{}", describe(&error)));
    assert_eq!(refusal(of.move_to(0, 3)), UNDEFINED);
    of.add(3);
    of.group(3).stop(Stop::Kill);
    // It cannot be told, and owns nothing.
    remove(3).unwrap_or_else(|error| panic!("{}", describe(&error)));
    for partition in 0..PARTITIONS as i32 {
        let sql = "SELECT count(*) FROM allsource.partition_owners WHERE state = 'owned' AND partition_id = $1";
        let count: i64 = [1, 2]
            .iter()
            .map(|&n| {
                of.group(n).store().query_one(sql, &[&partition]).expect(sql).get::<_, i64>(0)
            })
            .sum();
        assert_eq!(count, 1, "owners of partition {partition}");
    }
}

/// A refusal, and that it has the address of no server.
fn told<T: std::fmt::Debug>(of: &Coordinated, result: Result<T, Error>) -> String {
    let error = result.expect_err("a refusal");
    let context = error.as_db_error().and_then(|e| e.where_()).unwrap_or_default();
    let text = format!("{} {context}", describe(&error));
    for number in of.numbers() {
        let address = of.group(number).dir().display().to_string();
        assert!(!text.contains(&address), "{text} has an address");
    }
    text
}

#[test]
fn groups_are_added_with_what_they_own_and_the_map_is_made_again_from_them() {
    let of = Coordinated::apart("groups", 3, &[]);
    let add = |group: i32, of_server: i32, more: &str| {
        let conninfo = of.group(of_server).conninfo(STORE);
        of.try_call(&format!("CALL allsource.es_group_add({group}, '{conninfo}{more}')"))
    };
    // Two at once, of which one is the first.
    thread::scope(|scope| {
        let calls = [1, 2].map(|number| scope.spawn(move || add(number, number, "")));
        for call in calls {
            if let Err(error) = call.join().expect("no panic") {
                panic!("{}", describe(&error));
            }
        }
    });
    let (first, _) = of.owner(0);
    let other = 3 - first;
    let states = [first, other].map(|number| ownership(&mut of.group(number).store(), 31).0);
    assert_eq!(states, ["owned", "foreign"]);
    // What cannot be a group, or is one already.
    assert!(told(&of, add(7, 3, "")).contains("allsource.node_id of group 7 is 3"));
    assert!(told(&of, add(3, 3, " dbname=nowhere")).starts_with("28000"));
    assert!(told(&of, add(3, 3, " port=1")).starts_with("08006"));
    assert!(told(&of, add(3, 3, " password=secret")).starts_with("22023"));
    assert!(told(&of, add(3, 3, " dbname=postgres")).starts_with('3'));
    let mut third = of.group(3).store();
    let stream = names_in(&mut third, 4, 1).remove(0);
    append(&mut third, &stream, &event(1)).expect("an append");
    assert!(told(&of, add(3, 3, "")).contains("is not empty"));
    third
        .batch_execute("TRUNCATE allsource.event_log, allsource.event_streams, allsource.event_ids")
        .expect("TRUNCATE");
    add(3, 3, "").unwrap_or_else(|error| panic!("{}", describe(&error)));

    // The map was lost.
    of.move_to(4, other).expect("a move");
    of.move_to(5, 3).expect("a move");
    let map = |of: &Coordinated| -> Vec<(i32, i64)> {
        (0..PARTITIONS as i32).map(|p| of.owner(p)).collect()
    };
    let before = map(&of);
    let lost =
        "TRUNCATE allsource.cluster_groups, allsource.cluster_map, allsource.partition_moves";
    of.call(lost);
    for number in [3, other, first] {
        of.add(number);
    }
    assert_eq!(map(&of), before);
    of.move_to(6, 3).expect("a move");
    // One that was not told of a move, as after a backup was restored, is not believed.
    let stale = "UPDATE allsource.partition_owners SET group_id = $1, epoch = 1, state = 'owned' WHERE partition_id = 6";
    of.group(first).store().execute(stale, &[&first]).expect(stale);
    assert!(told(&of, add(first, first, "")).contains("has partition 6, which belongs to group 3"));
    of.call(lost);
    of.add(first);
    assert!(told(&of, add(3, 3, "")).contains("has partition 6, which belongs to group"));
    let right = "UPDATE allsource.partition_owners SET group_id = 3, epoch = 2, state = 'foreign' WHERE partition_id = 6";
    of.group(first).store().execute(right, &[]).expect(right);
    for number in [3, other, first] {
        of.add(number);
    }
    assert_eq!(of.owner(6), (3, 2));

    // A copy of the coordinator does nothing.
    of.coordinator.execute("postgres", &format!("CREATE DATABASE copied TEMPLATE {COORDINATOR}"));
    let mut copied = of.coordinator.connect("copied");
    for sql in [
        "CALL allsource.es_move_partition(8, 3)",
        "CALL allsource.es_rebalance()",
        "SELECT allsource.es_group_remove(3)",
        "CALL allsource.es_group_add(3, 'dbname=store')",
    ] {
        let error = copied.batch_execute(sql).expect_err(sql);
        assert!(
            describe(&error).contains("is a copy of a coordinator"),
            "{sql}: {}",
            describe(&error)
        );
    }
}

#[test]
fn what_is_wrong_is_told_in_time_whoever_is_away() {
    const BOUND: Duration = Duration::from_secs(30);
    let of = Coordinated::start("health", 2, &[]);
    let mut client = of.ask();
    let findings = |client: &mut Client| -> Vec<String> {
        let sql = "SELECT detail FROM allsource.es_health() WHERE name = 'cluster' AND NOT ok ORDER BY detail";
        let began = Instant::now();
        let rows = client.query(sql, &[]).expect(sql);
        assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
        rows.iter().map(|row| row.get(0)).collect()
    };
    let nodes = |client: &mut Client| -> Vec<(i32, bool, Option<String>)> {
        let sql =
            "SELECT group_id, is_reachable, error FROM allsource.es_nodes() ORDER BY group_id";
        let rows = client.query(sql, &[]).expect(sql);
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    };
    let has =
        |findings: &[String], part: &str| findings.iter().any(|finding| finding.contains(part));
    let well = findings(&mut client);
    assert!(well.iter().all(|finding| finding.contains("synchronous standby")), "{well:?}");
    // Frozen: connections are taken by the system, and nobody answers.
    let pid_file = of.group(2).data_dir().join("postmaster.pid");
    let postmaster = std::fs::read_to_string(pid_file).expect("a postmaster");
    let postmaster = postmaster.lines().next().and_then(|line| line.parse().ok()).expect("its pid");
    of.group(2).signal("STOP", postmaster);
    let (found, seen) = (findings(&mut client), nodes(&mut client));
    of.group(2).signal("CONT", postmaster);
    assert!(has(&found, "group 2"), "{found:?}");
    assert_eq!(seen.iter().map(|node| node.1).collect::<Vec<_>>(), [true, false], "{seen:?}");
    of.group(2).stop(Stop::Kill);
    assert_eq!(nodes(&mut client).iter().map(|node| node.1).collect::<Vec<_>>(), [true, false]);
    of.group(2).resume();
    patience::until_true("it is well again", || findings(&mut client).len() == well.len());
    of.group(2).execute("postgres", "ALTER SYSTEM SET allsource.node_id = 9");
    of.group(2).execute("postgres", "SELECT pg_reload_conf()");
    patience::until_true("a wrong number is found", || has(&findings(&mut client), "node_id"));
    // Nobody but an administrator is told.
    of.call("CREATE ROLE reading LOGIN; GRANT allsource_reader, allsource_writer TO reading");
    let mut config = of.coordinator.config(COORDINATOR);
    let mut reading = config.user("reading").connect(postgres::NoTls).expect("a connection");
    for sql in [
        "CALL allsource.es_move_partition(1, 2)",
        "CALL allsource.es_rebalance()",
        "CALL allsource.es_group_add(3, 'dbname=store')",
        "SELECT allsource.es_group_remove(2)",
        "SELECT allsource.es_move_cancel(1)",
        "SELECT * FROM allsource.es_nodes()",
        "SELECT conninfo FROM allsource.cluster_groups",
    ] {
        assert_eq!(refusal(reading.batch_execute(sql)), NOT_ALLOWED, "{sql}");
    }
}
