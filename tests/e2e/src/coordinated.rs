//! Groups of one server each, and a coordinator on a server of its own, so that any of them can be killed alone. Group 1
//! owns all partitions in the beginning.

use std::thread;

use postgres::Client;
use serde_json::{Value, json};

use crate::cluster::{Cluster, STORE};
use crate::routed::COORDINATOR;
use crate::{failure, patience};

/// How many partitions there are.
pub const PARTITIONS: usize = 32;

/// Phases of a move that goes on, in order, without the last one.
pub const PHASES: [&str; 14] = [
    "recorded",
    "prepared",
    "published",
    "subscribed",
    "caught up",
    "drained",
    "checked",
    "fenced",
    "replayed",
    "compared",
    "raised",
    "given",
    "released",
    "unlinked",
];

/// The setting with which the coordinator's process runs.
pub const CARRIED_ON: &str = "allsource.coordinator_database=coordinator";

/// For servers between which partitions move. Workers of subscriptions that have failed are to begin again soon.
const MOVING: [&str; 5] = [
    "wal_level=logical",
    "max_worker_processes=40",
    "max_logical_replication_workers=24",
    "max_replication_slots=24",
    "wal_retrieve_retry_interval=200ms",
];

/// The servers. Removed when dropped.
#[derive(Debug)]
pub struct Coordinated {
    /// The coordinator's.
    pub coordinator: Cluster,
    groups: Vec<Cluster>,
}

impl Coordinated {
    /// Starts so many groups, and adds them; the first one owns everything.
    ///
    /// # Panics
    /// Where something fails.
    pub fn start(name: &str, groups: i32, settings: &[&str]) -> Self {
        let coordinated = Self::apart(name, groups, settings);
        for number in 1..=groups {
            coordinated.add(number);
        }
        coordinated
    }

    /// Starts the servers, and adds nothing.
    ///
    /// # Panics
    /// Where something fails.
    pub fn apart(name: &str, groups: i32, settings: &[&str]) -> Self {
        thread::scope(|scope| {
            let coordinator = scope.spawn(|| {
                let cluster = Cluster::start(&format!("{name}-co"), settings);
                cluster.create_store(COORDINATOR);
                cluster
            });
            let groups: Vec<_> =
                (1..=groups).map(|number| scope.spawn(move || group(name, number))).collect();
            let groups = groups.into_iter().map(|of| of.join().expect("a group")).collect();
            Self { coordinator: coordinator.join().expect("the coordinator"), groups }
        })
    }

    /// Tells the coordinator of a group.
    ///
    /// # Panics
    /// Where it refuses.
    pub fn add(&self, number: i32) {
        self.weigh(number, 1);
    }

    /// Tells the coordinator of a group, or of its new weight.
    ///
    /// # Panics
    /// Where it refuses.
    pub fn weigh(&self, number: i32, weight: i32) {
        let conninfo = self.group(number).conninfo(STORE);
        self.call(&format!("CALL allsource.es_group_add({number}, '{conninfo}', {weight})"));
    }

    /// The server of a group.
    pub fn group(&self, number: i32) -> &Cluster {
        &self.groups[number as usize - 1]
    }

    /// The groups' numbers.
    pub fn numbers(&self) -> impl Iterator<Item = i32> {
        1..=self.groups.len() as i32
    }

    /// Connects to the coordinator.
    pub fn ask(&self) -> Client {
        self.coordinator.connect(COORDINATOR)
    }

    /// Calls something of the coordinator that has to succeed.
    ///
    /// # Panics
    /// Where it does not.
    pub fn call(&self, sql: &str) {
        self.try_call(sql).unwrap_or_else(|error| panic!("{sql}: {}", failure::describe(&error)));
    }

    /// Calls something of the coordinator.
    ///
    /// # Errors
    /// What it answers.
    pub fn try_call(&self, sql: &str) -> Result<(), postgres::Error> {
        self.ask().batch_execute(sql)
    }

    /// Moves a partition.
    ///
    /// # Errors
    /// What the coordinator answers.
    pub fn move_to(&self, partition: i32, group: i32) -> Result<(), postgres::Error> {
        self.try_call(&format!("CALL allsource.es_move_partition({partition}, {group})"))
    }

    /// Who owns a partition by the map, and since which epoch.
    ///
    /// # Panics
    /// Where it is not known.
    pub fn owner(&self, partition: i32) -> (i32, i64) {
        let sql = "SELECT group_id, epoch FROM allsource.partition_map WHERE partition_id = $1";
        let row = self.ask().query_one(sql, &[&partition]).expect(sql);
        (row.get(0), row.get(1))
    }

    /// The phase of a partition's last move; empty where there was none.
    ///
    /// # Panics
    /// Where the coordinator cannot be asked.
    pub fn phase(&self, partition: i32) -> String {
        phase(&mut self.ask(), partition)
    }

    /// Waits until a partition's last move has come to one of these phases.
    ///
    /// # Panics
    /// Where it does not.
    pub fn until_phase(&self, partition: i32, phases: &[&str]) {
        let mut client = self.ask();
        patience::until_true(&format!("partition {partition} in a phase of {phases:?}"), || {
            phases.contains(&phase(&mut client, partition).as_str())
        });
    }

    /// Fails the test unless exactly one group, the one of the map, has a partition, nothing is left of a move, and
    /// the others hold nothing of it. Returns the owner.
    ///
    /// # Panics
    /// See above.
    pub fn assert_settled(&self, partition: i32) -> i32 {
        let (owner, epoch) = self.owner(partition);
        for number in self.numbers() {
            let mut client = self.group(number).connect_when_ready(STORE);
            let row = ownership(&mut client, partition);
            let expected = if number == owner { "owned" } else { "foreign" };
            assert_eq!(row.0, expected, "partition {partition} at group {number}");
            assert!(number != owner || row.1 == epoch, "epoch of partition {partition}");
            for (catalog, name) in [
                ("pg_publication", "pubname"),
                ("pg_replication_slots", "slot_name"),
                ("pg_subscription", "subname"),
            ] {
                let like = format!("%p{partition:02}%");
                let sql = format!("SELECT count(*) FROM {catalog} WHERE {name} LIKE $1");
                let count: i64 = client.query_one(&sql, &[&like]).expect(&sql).get(0);
                assert_eq!(count, 0, "{catalog} of partition {partition} at group {number}");
            }
            if number != owner {
                for table in ["event_streams", "event_log", "event_ids", "hot_batches"] {
                    let sql = format!("SELECT count(*) FROM allsource.{table}_p{partition:02}");
                    let count: i64 = client.query_one(&sql, &[]).expect(&sql).get(0);
                    assert_eq!(count, 0, "{table} of partition {partition} at group {number}");
                }
            }
        }
        owner
    }
}

fn group(name: &str, number: i32) -> Cluster {
    let node = format!("allsource.node_id={number}");
    let mut settings = vec![node.as_str()];
    settings.extend(MOVING);
    let cluster = Cluster::with_queue(&format!("{name}-{number}"), &settings);
    cluster.execute("postgres", "ALTER ROLE allsource_replication LOGIN REPLICATION");
    cluster
}

/// The phase of a partition's last move.
///
/// # Panics
/// Where there was none.
pub fn phase(client: &mut Client, partition: i32) -> String {
    let sql = "SELECT phase FROM allsource.partition_moves WHERE partition_id = $1 ORDER BY epoch DESC LIMIT 1";
    client.query_opt(sql, &[&partition]).expect(sql).map_or(String::new(), |row| row.get(0))
}

/// State and epoch of a partition at a member.
///
/// # Panics
/// Where it is none.
pub fn ownership(client: &mut Client, partition: i32) -> (String, i64) {
    let sql = "SELECT state, epoch FROM allsource.partition_owners WHERE partition_id = $1";
    let row = client.query_one(sql, &[&partition]).expect(sql);
    (row.get(0), row.get(1))
}

/// A move that the test carries on itself, with the same calls as `es_move_partition`.
#[expect(missing_debug_implementations, reason = "a client has none")]
pub struct Executor {
    client: Client,
    partition: i32,
    epoch: i64,
    memory: Value,
}

impl Executor {
    /// Begins a move, or finds the one that is under way.
    ///
    /// # Panics
    /// Where it cannot.
    pub fn begin(of: &Coordinated, partition: i32, target: i32) -> Self {
        Self::begin_at(of.ask(), partition, target)
    }

    /// The same, on a connection to any coordinator.
    ///
    /// # Panics
    /// Where it cannot.
    pub fn begin_at(mut client: Client, partition: i32, target: i32) -> Self {
        let begin = "SELECT allsource.move_begin($1, $2)";
        let epoch = client.query_one(begin, &[&partition, &target]).expect(begin).get(0);
        Self { client, partition, epoch, memory: json!({}) }
    }

    /// The move's epoch.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Does one step. False: the move has ended.
    ///
    /// # Errors
    /// What the coordinator answers.
    pub fn step(&mut self) -> Result<bool, postgres::Error> {
        let look = "SELECT allsource.move_look($1, $2, $3)";
        let row = self.client.query_one(look, &[&self.partition, &self.epoch, &self.memory])?;
        self.memory = row.get(0);
        let step = "SELECT allsource.move_step($1, $2, $3)";
        let row = self.client.query_one(step, &[&self.partition, &self.epoch, &self.memory])?;
        let memory: Option<Value> = row.get(0);
        let goes_on = memory.is_some();
        self.memory = memory.unwrap_or_default();
        Ok(goes_on)
    }

    /// Goes on until the record is in this phase.
    ///
    /// # Panics
    /// Where it never is.
    pub fn until(&mut self, wanted: &str) {
        let mut last = String::new();
        patience::until_true(&format!("a move to be {wanted}"), || {
            last = phase(&mut self.client, self.partition);
            last == wanted || {
                assert!(last != "returned", "{}", self.memory);
                let stepped = self.step();
                if let Err(error) = &stepped {
                    panic!("in {last}: {}", failure::describe(error));
                }
                false
            }
        });
    }
}
