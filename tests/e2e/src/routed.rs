//! Two groups of one server each, and a router. The even partitions belong to group 1, the odd ones to group 2. The
//! router is a database of the first server, the coordinator one of the second.

use postgres::Client;

use crate::calls::names_in;
use crate::cluster::{Cluster, ONE_WORKER, SERVED};
use crate::patience;
use crate::{STORE, bulk};

/// The database of the router.
pub const ROUTER: &str = "router";

/// The database of the coordinator.
pub const COORDINATOR: &str = "coordinator";

const MAP: &str = "
    CREATE SCHEMA allsource;
    CREATE TABLE allsource.cluster_groups (group_id int4 PRIMARY KEY, conninfo text NOT NULL);
    CREATE TABLE allsource.partition_map (partition_id int4 PRIMARY KEY, group_id int4 NOT NULL, epoch int8 NOT NULL);
    INSERT INTO allsource.partition_map SELECT p, 1 + p % 2, 1 FROM generate_series(0, 31) AS p;";

/// The servers. Removed when dropped.
#[derive(Debug)]
pub struct Routed {
    /// Group 1, and the router.
    pub first: Cluster,
    /// Group 2, and the coordinator.
    pub second: Cluster,
}

impl Routed {
    /// Starts them; the router has learned the map.
    ///
    /// # Panics
    /// Where something fails.
    pub fn start(name: &str) -> Self {
        let group = |number: u32| {
            let node_id = format!("allsource.node_id={number}");
            Cluster::with_store_and(&format!("{name}{number}"), &[SERVED, ONE_WORKER, &node_id])
        };
        let routed = Self { first: group(1), second: group(2) };
        for cluster in [&routed.first, &routed.second] {
            bulk::workers_up(&mut cluster.store());
        }
        routed.second.create_database(COORDINATOR);
        routed.second.execute(COORDINATOR, MAP);
        for (number, cluster) in [(1, &routed.first), (2, &routed.second)] {
            let conninfo = cluster.conninfo(STORE);
            let insert =
                format!("INSERT INTO allsource.cluster_groups VALUES ({number}, '{conninfo}')");
            routed.second.execute(COORDINATOR, &insert);
        }
        routed.first.create_database(ROUTER);
        let coordinator = routed.second.conninfo(COORDINATOR);
        routed.first.execute(
            ROUTER,
            &format!(
                "CREATE EXTENSION allsource_router;
                 INSERT INTO allsource.router_coordinator (conninfo) VALUES ('{coordinator}');
                 SELECT allsource.es_router_refresh();"
            ),
        );
        routed
    }

    /// Connects to the router.
    pub fn connect(&self) -> Client {
        self.first.connect(ROUTER)
    }

    /// The same, with settings that let a test meet the end of waiting.
    ///
    /// # Panics
    /// Where it cannot connect.
    pub fn impatient(&self) -> Client {
        let mut client = self.connect();
        client
            .batch_execute(
                "SET allsource.route_timeout = '500ms'; SET allsource.route_retry_time = '1s'",
            )
            .expect("settings");
        client
    }

    /// The server of a group.
    pub fn group(&self, number: i32) -> &Cluster {
        if number == 1 { &self.first } else { &self.second }
    }

    /// Names of streams of different partitions that belong to a group.
    ///
    /// # Panics
    /// Where the router cannot be asked.
    pub fn streams(&self, group: i32, count: i32) -> Vec<String> {
        let mut client = self.connect();
        let partitions = (0..count).map(|n| (2 * n + group - 1) % 32);
        partitions.map(|partition| names_in(&mut client, partition, 1).remove(0)).collect()
    }

    /// Waits until a call of a router is in the middle of something at a group, and returns the process there.
    ///
    /// # Panics
    /// Where there never is one.
    pub fn call_at(&self, group: i32) -> i32 {
        let mut onlooker = self.group(group).store();
        let query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'allsource_router' \
                     AND datname = current_database() AND state = 'active' AND query LIKE '%es_append%'";
        patience::until("a call of the router at the group", || {
            onlooker.query_opt(query, &[]).expect(query).map(|row| row.get(0))
        })
    }
}
