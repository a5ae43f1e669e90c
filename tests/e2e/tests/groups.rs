//! A whole cluster under load, and what can happen to it: nodes, keepers, the monitor and the router that are killed, a
//! primary that is frozen and comes back, moves in the middle of which a side or the coordinator dies, restarts, and a
//! group that joins and leaves. Writers with event ids and a reader with a vector work all the time through the
//! router. They notice nothing but waiting, and after each fault everything that was acknowledged is there, once.
//!
//! `ALLSOURCE_E2E_CLUSTER_MINUTES` lets all faults happen in random order for so long; see `scripts/cluster-faults.sh`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use allsource_e2e::calls::{assert_verified, names_in};
use allsource_e2e::coordinated::{Executor, PHASES, phase};
use allsource_e2e::failure::{self, READ_ONLY, describe, sqlstate};
use allsource_e2e::{Append, Groups, Load, Outcome, Seed, Ticket, VectorTail, patience, sizes};
use postgres::{Client, NoTls};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use uuid::Uuid;

/// What an application sets that would rather wait than see an error, however slow the machine is.
const PATIENT: &str = "-c statement_timeout=170s -c allsource.route_retry_time=150s";

const WRITERS: usize = 8;
const CALLS_PER_S: u32 = 120;
/// Less, where it goes on for long: what is there is read after each fault.
const CALLS_PER_S_LONG: u32 = 40;

/// How long a primary is frozen at least: longer than its successor takes to be found.
const FROZEN: Duration = Duration::from_secs(15);
/// How many clients of a primary do not notice that it is none any more.
const FAITHFUL: usize = 3;

const FAULTS_SHOWN_MAX: usize = 20;

/// The groups that are there all the time.
const GROUPS: [i32; 2] = [1, 2];
/// The one that comes and goes.
const GUEST: i32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Switchover,
    PrimaryKilled,
    StandbyKilled,
    KeeperKilled,
    ServerKilled,
    MonitorKilled,
    RouterKilled,
    CoordinatorKilledInMove,
    SourceKilledInMove,
    TargetKilledInMove,
    PrimaryFrozen,
    AllRestarted,
    GroupComesAndGoes,
}

use Fault::{
    AllRestarted, CoordinatorKilledInMove, GroupComesAndGoes, KeeperKilled, MonitorKilled,
    PrimaryFrozen, PrimaryKilled, RouterKilled, ServerKilled, SourceKilledInMove, StandbyKilled,
    Switchover, TargetKilledInMove,
};

/// What there is time for in each run of the tests.
const SHORT: [Fault; 6] = [
    Switchover,
    GroupComesAndGoes,
    CoordinatorKilledInMove,
    RouterKilled,
    PrimaryFrozen,
    PrimaryKilled,
];

const ALL: [Fault; 13] = [
    Switchover,
    PrimaryKilled,
    StandbyKilled,
    KeeperKilled,
    ServerKilled,
    MonitorKilled,
    RouterKilled,
    CoordinatorKilledInMove,
    SourceKilledInMove,
    TargetKilledInMove,
    PrimaryFrozen,
    AllRestarted,
    GroupComesAndGoes,
];

/// The cluster, and the application at work.
struct Drill {
    groups: Groups,
    load: Load,
    rng: StdRng,
    is_long: bool,
    began: Instant,
}

#[test]
fn a_cluster_loses_nothing_and_repeats_nothing_whatever_happens_to_it() {
    assert!(
        Groups::can_be_made(),
        "there is no pg_autoctl, of which clusters are made: run 'scripts/deps.sh test'"
    );
    let seed = Seed::announce();
    let minutes = sizes::number("ALLSOURCE_E2E_CLUSTER_MINUTES", 0);
    let mut drill = Drill::start(seed.rng(0), minutes > 0);
    if minutes == 0 {
        SHORT.iter().for_each(|fault| drill.meet(*fault));
    } else {
        let deadline = Instant::now() + Duration::from_secs(60 * minutes);
        let mut faults = Vec::new();
        while Instant::now() < deadline {
            if faults.is_empty() {
                faults.extend(ALL);
                faults.shuffle(&mut drill.rng);
            }
            drill.meet(faults.pop().expect("a fault"));
        }
    }
    drill.finish();
}

impl Drill {
    /// Everything belongs to group 1 in the beginning, and is spread under load.
    fn start(rng: StdRng, is_long: bool) -> Self {
        let began = Instant::now();
        let groups = Groups::start("faults", &[]);
        println!("{:>8.1} s: the cluster is there", began.elapsed().as_secs_f64());
        let mut config = groups.config();
        config.options(PATIENT);
        let load =
            Load::start(&config, WRITERS, if is_long { CALLS_PER_S_LONG } else { CALLS_PER_S });
        let drill = Self { groups, load, rng, is_long, began };
        let all: Vec<i32> = (0..32).collect();
        drill.load.until_written(&all);
        drill.groups.cluster("spread", &[]);
        let spread: Vec<usize> =
            GROUPS.iter().map(|group| drill.groups.partitions(*group).len()).collect();
        assert_eq!(spread, [16, 16], "partitions of each group");
        drill.check("partitions are spread", 0);
        drill
    }

    fn meet(&mut self, fault: Fault) {
        let errors = self.load.errors();
        let began = Instant::now();
        let group = *GROUPS.choose(&mut self.rng).expect("a group");
        let touched = self.groups.partitions(group);
        let what = match fault {
            Switchover => self.switch_over(group),
            PrimaryKilled => self.kill_primary(group),
            StandbyKilled => self.kill_standby(group),
            KeeperKilled => self.kill_keeper(group),
            ServerKilled => self.kill_server(group),
            MonitorKilled => self.kill_monitor(),
            RouterKilled => self.kill_router(),
            CoordinatorKilledInMove => self.kill_in_move(1, None),
            SourceKilledInMove => self.kill_in_move(2, Some(2)),
            TargetKilledInMove => self.kill_in_move(2, Some(1)),
            PrimaryFrozen => self.freeze(group),
            AllRestarted => self.restart_all(),
            GroupComesAndGoes => self.add_and_remove(),
        };
        let all: Vec<i32> = (0..32).collect();
        self.load.until_written(&all);
        let touched = if what.concerns_all { all } else { touched };
        let longest = self.load.longest_since(began, &touched);
        // An application of a router that is killed has to connect anew, and to repeat its call.
        let errors = if fault == RouterKilled { self.load.errors() } else { errors };
        self.check(
            &format!("{fault:?} {}: longest append {:.1} s", what.text, longest.as_secs_f64()),
            errors,
        );
    }

    fn switch_over(&self, group: i32) -> Done {
        let before = self.groups.primary(group);
        self.groups.group("switchover", group, &[]);
        self.until_written_by(group);
        self.groups.until_healthy(group);
        assert_ne!(self.groups.primary(group), before, "the primary of group {group}");
        Done::to(group)
    }

    fn kill_primary(&self, group: i32) -> Done {
        let node = self.groups.primary(group);
        let touched = self.groups.partitions(group);
        self.groups.node("kill", group, node);
        self.groups.until_replaced(group, node);
        self.load.until_written(&touched);
        self.groups.node("start-node", group, node);
        self.groups.until_healthy(group);
        Done::to(group)
    }

    fn kill_standby(&self, group: i32) -> Done {
        let node = self.groups.standby(group);
        self.groups.node("kill", group, node);
        self.until_written_by(group);
        self.groups.node("start-node", group, node);
        self.groups.until_healthy(group);
        Done::to(group)
    }

    fn kill_keeper(&mut self, group: i32) -> Done {
        let node = self.rng.random_range(1..=2);
        let touched = self.groups.partitions(group);
        self.groups.node("kill-keeper", group, node);
        self.load.until_written(&touched);
        self.groups.node("start-node", group, node);
        self.groups.until_healthy(group);
        Done::to(group)
    }

    fn kill_server(&self, group: i32) -> Done {
        let touched = self.groups.partitions(group);
        self.groups.node("kill-server", group, self.groups.primary(group));
        self.load.until_written(&touched);
        self.groups.until_healthy(group);
        Done::to(group)
    }

    /// Nothing fails over meanwhile, and nothing has to.
    fn kill_monitor(&self) -> Done {
        self.groups.monitor("kill");
        self.load.until_written(&(0..32).collect::<Vec<_>>());
        self.groups.monitor("start");
        GROUPS.iter().for_each(|group| self.groups.until_healthy(*group));
        Done::to_all("")
    }

    fn kill_router(&self) -> Done {
        self.groups.router("kill");
        self.groups.router("start");
        Done::to_all("")
    }

    /// Kills the primary of a group while a partition moves from a group to the other one, in a phase drawn at random. The
    /// coordinator's process carries the move on.
    fn kill_in_move(&mut self, killed: i32, source: Option<i32>) -> Done {
        let source = source.unwrap_or_else(|| self.rng.random_range(1..=2));
        let target = 3 - source;
        let partition = *self.groups.partitions(source).choose(&mut self.rng).expect("a partition");
        let wanted = *PHASES.choose(&mut self.rng).expect("a phase");
        let reached = self.move_until(partition, target, wanted);
        let node = self.groups.primary(killed);
        self.groups.node("kill", killed, node);
        self.groups.until_replaced(killed, node);
        self.groups.node("start-node", killed, node);
        self.groups.until_healthy(killed);
        let mut client = self.groups.coordinator();
        let mut ended = String::new();
        patience::until_true("the move to be carried on", || {
            ended = phase(&mut client, partition);
            ended == "done" || ended == "returned"
        });
        let (owner, setback) = owner_and_setback(&mut client, partition);
        let text =
            format!("(group {killed} from {source} to {target} in '{reached}': {ended}{setback})");
        assert!(ended == "done" || place(&reached) < place("given"), "{text}");
        let faults = self.groups.ownership_faults();
        assert!(faults.is_empty(), "{text}: {faults:#?}");
        // What went back can be begun again; and groups do not end up with ever fewer.
        if owner == source {
            move_to(&mut client, partition, target);
        }
        let back = self.groups.partitions(target).into_iter().find(|p| *p != partition);
        move_to(&mut client, back.expect("another partition"), source);
        Done::to_all(&text)
    }

    /// Carries a move on until it has come to a phase, or past it where the coordinator's process was quicker.
    fn move_until(&self, partition: i32, target: i32, wanted: &str) -> String {
        let mut client = self.groups.coordinator();
        let mut executor = Executor::begin_at(self.groups.coordinator(), partition, target);
        patience::until(&format!("partition {partition} in a move that is '{wanted}'"), || {
            let now = phase(&mut client, partition);
            if place(&now) >= place(wanted) {
                return Some(now);
            }
            executor.step().unwrap_or_else(|error| panic!("in {now}: {}", describe(&error)));
            None
        })
    }

    /// Clients that know one node only stay with it: it must not acknowledge what its successor has not got.
    fn freeze(&self, group: i32) -> Done {
        let node = self.groups.primary(group);
        let touched = self.groups.partitions(group);
        let faithful = Faithful::start(self, group, node, &touched);
        let began = Instant::now();
        self.groups.node("freeze", group, node);
        self.groups.until_replaced(group, node);
        self.load.until_written(&touched);
        sleep(FROZEN.saturating_sub(began.elapsed()));
        self.groups.node("thaw", group, node);
        self.groups.until_healthy(group);
        assert_ne!(self.groups.primary(group), node, "the primary of group {group}");
        let (before, after) = faithful.finish(self);
        let mut done = Done::to(group);
        done.text +=
            &format!(", its own clients: {before} acknowledged, {after} of them after the freeze");
        done
    }

    fn restart_all(&self) -> Done {
        for group in GROUPS {
            let (first, second) = (self.groups.standby(group), self.groups.primary(group));
            self.restart(group, first);
            self.groups.group("switchover", group, &[]);
            self.groups.until_healthy(group);
            self.restart(group, second);
        }
        Done::to_all("")
    }

    fn restart(&self, group: i32, node: i32) {
        self.groups.node("stop-node", group, node);
        self.groups.node("start-node", group, node);
        self.groups.until_healthy(group);
    }

    fn add_and_remove(&self) -> Done {
        self.groups.cluster("add", &[&GUEST.to_string()]);
        let mut client = self.groups.coordinator();
        let moves = if self.is_long { "" } else { "4" };
        call(&mut client, &format!("CALL allsource.es_rebalance({moves})"));
        let moved = self.groups.partitions(GUEST);
        assert_eq!(moved.len(), if self.is_long { 10 } else { 4 }, "partitions of the new group");
        self.load.until_written(&moved);
        self.check("a group has joined", self.load.errors());
        let conninfo = self.groups.group("conninfo", GUEST, &[]);
        let conninfo = conninfo.trim();
        call(
            &mut client,
            &format!("CALL allsource.es_group_add({GUEST}, '{conninfo}', weight => 0)"),
        );
        call(&mut client, "CALL allsource.es_rebalance()");
        call(&mut client, &format!("SELECT allsource.es_group_remove({GUEST})"));
        call(&mut self.groups.connect(), "SELECT allsource.es_router_refresh()");
        self.groups.group("remove", GUEST, &[]);
        Done::to_all(&format!("({} partitions there and back)", moved.len()))
    }

    fn until_written_by(&self, group: i32) {
        self.load.until_written(&self.groups.partitions(group));
    }

    /// Everything that has been acknowledged by now is there, once, and has been read; each partition has one owner; and
    /// the application has seen so many errors as before.
    fn check(&self, what: &str, errors: usize) {
        let time = self.began.elapsed().as_secs_f64();
        println!("{time:>8.1} s: {what}");
        let seen = self.load.errors_after(errors);
        assert!(seen.is_empty(), "{what}: the application saw errors: {seen:#?}");
        let faults = self.groups.ownership_faults();
        assert!(faults.is_empty(), "{what}: {faults:#?}");
        let copy = self.load.ledger().copy();
        let mut client = self.patient();
        let content = VectorTail::read_to_end(&mut client).expect("es_read_all_from");
        show_none(what, &copy.faults_so_far(&content.events()));
        let query = "SELECT name FROM unnest($1::text[]) AS name WHERE allsource.es_verify_gapless(name) IS NOT TRUE";
        let rows = client.query(query, &[&self.load.streams()]).expect(query);
        let gaps: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        show_none(what, &gaps);
        assert_verified(&mut client);
        self.load.until_read();
    }

    fn patient(&self) -> Client {
        let mut config = self.groups.config();
        config.options(PATIENT).connect(NoTls).expect("the router")
    }

    /// What is there is read past the router, from each group what it owns.
    fn finish(self) {
        let Self { groups, load, began, .. } = self;
        let Outcome { ledger, tail, errors, acknowledged, calls_per_s } = load.finish();
        let content = VectorTail::read_to_end(&mut groups.connect()).expect("es_read_all_from");
        show_none("at the end", &ledger.faults(&content.events()));
        let mut direct = VectorTail::default();
        for group in groups.numbers() {
            let part = VectorTail::read_to_end(&mut groups.store(group)).expect("es_read_all_from");
            direct.take(part.events());
        }
        tail.assert_saw_exactly(&direct);
        content.assert_saw_exactly(&direct);
        show_none("at the end", &groups.ownership_faults());
        for group in groups.numbers() {
            assert_verified(&mut groups.store(group));
        }
        println!(
            "{:>8.1} s: {acknowledged} events acknowledged, {calls_per_s:.0} appends a second, {} read; errors: {errors:?}",
            began.elapsed().as_secs_f64(),
            tail.len()
        );
    }
}

/// What has been done, for people, and whom it concerned.
struct Done {
    text: String,
    concerns_all: bool,
}

impl Done {
    fn to(group: i32) -> Self {
        Self { text: format!("(group {group})"), concerns_all: false }
    }

    fn to_all(text: &str) -> Self {
        Self { text: text.to_owned(), concerns_all: true }
    }
}

/// Clients that append at one node, without a router, and repeat there what was not answered, until the node says
/// that it is a standby. They go on with the same event through the router then.
struct Faithful {
    is_over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Attempt>>>,
    began: Instant,
}

/// An append at the node, and when it was acknowledged, if it was.
struct Attempt {
    stream: String,
    ticket: Ticket,
    acknowledged: Option<Instant>,
}

impl Faithful {
    fn start(drill: &Drill, group: i32, node: i32, partitions: &[i32]) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut client = drill.groups.connect();
        let clients = partitions.iter().take(FAITHFUL).map(|partition| {
            // The last ones that there are names for: the others are the load's.
            let stream = names_in(&mut client, *partition, 5).remove(4);
            let config = drill.groups.node_config(group, node);
            let mut client = Some(config.connect(NoTls).expect("the primary"));
            let (ledger, is_over) = (Arc::clone(drill.load.ledger()), Arc::clone(&is_over));
            thread::spawn(move || {
                let mut attempts = Vec::new();
                loop {
                    let mut ticket = ledger.open(1);
                    ticket.events[0].id = Some(Uuid::from_u128(rand::random()));
                    let mut attempt =
                        Attempt { stream: stream.clone(), ticket, acknowledged: None };
                    while attempt.acknowledged.is_none() {
                        if client.is_none() {
                            client = config.connect(NoTls).ok();
                        }
                        let Some(connection) = &mut client else {
                            if is_over.load(Ordering::SeqCst) {
                                attempts.push(attempt);
                                return attempts;
                            }
                            sleep(Duration::from_millis(10));
                            continue;
                        };
                        match Append::to(&attempt.stream, &attempt.ticket.events).one(connection) {
                            Ok(version) => {
                                attempt.ticket.place(0, 1, &stream, version);
                                attempt.acknowledged = Some(Instant::now());
                            }
                            Err(error) if sqlstate(&error) == READ_ONLY => {
                                attempts.push(attempt);
                                return attempts;
                            }
                            Err(error) => {
                                assert!(failure::is_disconnect(&error), "{}", describe(&error));
                                client = None;
                            }
                        }
                    }
                    attempts.push(attempt);
                }
            })
        });
        let clients = clients.collect();
        Self { is_over, clients, began: Instant::now() }
    }

    /// Settles what was not answered. Returns how many were acknowledged by the node, and how many after it had been frozen.
    fn finish(self, drill: &Drill) -> (usize, usize) {
        self.is_over.store(true, Ordering::SeqCst);
        let mut client = drill.patient();
        let (mut all, mut late) = (0, 0);
        for attempts in self.clients {
            for mut attempt in attempts.join().expect("a client of the node") {
                match attempt.acknowledged {
                    None => {
                        let version =
                            Append::to(&attempt.stream, &attempt.ticket.events).one(&mut client);
                        let version =
                            version.unwrap_or_else(|error| panic!("{}", describe(&error)));
                        attempt.ticket.place(0, 1, &attempt.stream, version);
                    }
                    Some(at) => {
                        all += 1;
                        late += usize::from(at > self.began + FROZEN);
                    }
                }
                drill.load.ledger().acknowledge(attempt.ticket);
            }
        }
        (all, late)
    }
}

/// How far a move has come in a phase.
fn place(phase: &str) -> usize {
    PHASES.iter().position(|p| *p == phase).unwrap_or(PHASES.len())
}

fn owner_and_setback(client: &mut Client, partition: i32) -> (i32, String) {
    let query = "SELECT m.group_id, COALESCE(', ' || v.setback, '') FROM allsource.partition_map m \
                 JOIN LATERAL (SELECT v.setback FROM allsource.es_moves() v WHERE v.partition_id = m.partition_id LIMIT 1) v ON true \
                 WHERE m.partition_id = $1";
    let row = client.query_one(query, &[&partition]).expect(query);
    (row.get(0), row.get(1))
}

fn move_to(client: &mut Client, partition: i32, group: i32) {
    call(client, &format!("CALL allsource.es_move_partition({partition}, {group})"));
}

fn call(client: &mut Client, sql: &str) {
    client.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {}", describe(&error)));
}

fn show_none(what: &str, faults: &[String]) {
    let shown = &faults[..faults.len().min(FAULTS_SHOWN_MAX)];
    assert!(faults.is_empty(), "{what}: {} faults, first of them: {shown:#?}", faults.len());
}
