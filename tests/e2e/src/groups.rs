//! A whole cluster: groups of nodes that pg_auto_failover keeps alive, a coordinator and a router; made, hurt and
//! removed through `scripts/groups.sh` and its like, which the demo uses as well.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use postgres::{Client, Config, NoTls};

use crate::cluster::project_dir;
use crate::{failure, patience, sizes};

/// The database of the coordinator, on the first group.
const COORDINATOR: &str = "coordinator";

/// The database of a group's store.
const STORE: &str = "postgres";

/// Pure waiting is cheap; a loaded machine may need it.
const STATEMENT_TIMEOUT_S: u64 = 120;

/// A cluster below one folder.
#[derive(Debug)]
pub struct Groups {
    base: PathBuf,
    is_mine: bool,
}

impl Groups {
    /// The cluster in a folder, started by somebody else, who removes it.
    pub fn at(base: &Path) -> Self {
        Self { base: base.to_owned(), is_mine: false }
    }

    /// Starts groups 1 and 2, a coordinator and a router. Removed when dropped.
    ///
    /// # Panics
    /// Where that fails.
    pub fn start(name: &str, settings: &[&str]) -> Self {
        let parent = std::env::var("ALLSOURCE_HOME").unwrap_or_else(|_| "/var/tmp".to_owned());
        let dir = format!("allsource-e2e-{}-{name}", std::process::id());
        let groups = Self { base: Path::new(&parent).join(dir), is_mine: true };
        // Nobody switches the machine off.
        let mut arguments = vec!["1", "2", "fsync=off"];
        arguments.extend_from_slice(settings);
        groups.cluster("start", &arguments);
        groups
    }

    /// Whether what it is made of is installed.
    pub fn can_be_made() -> bool {
        Command::new("pg_autoctl").arg("version").stdout(Stdio::null()).status().is_ok()
    }

    /// Whether nodes can have networks of their own here.
    pub fn can_be_cut() -> bool {
        let script = project_dir().join("scripts/network.sh");
        Command::new("bash").arg(script).arg("check").status().is_ok_and(|status| status.success())
    }

    /// `scripts/groups.sh VERB BASE ...`
    ///
    /// # Panics
    /// Where it fails.
    pub fn cluster(&self, verb: &str, arguments: &[&str]) -> String {
        self.script("groups.sh", verb, arguments)
    }

    /// `scripts/group.sh VERB BASE GROUP ...`
    ///
    /// # Panics
    /// Where it fails.
    pub fn group(&self, verb: &str, group: i32, arguments: &[&str]) -> String {
        let number = group.to_string();
        let mut all = vec![number.as_str()];
        all.extend_from_slice(arguments);
        self.script("group.sh", verb, &all)
    }

    /// The same about a node.
    ///
    /// # Panics
    /// Where it fails.
    pub fn node(&self, verb: &str, group: i32, node: i32) {
        self.group(verb, group, &[&node.to_string()]);
    }

    /// `scripts/monitor.sh VERB BASE ...`
    ///
    /// # Panics
    /// Where it fails.
    pub fn monitor(&self, verb: &str) {
        self.script("monitor.sh", verb, &[]);
    }

    /// `scripts/cluster.sh VERB` for the router's server.
    ///
    /// # Panics
    /// Where it fails.
    pub fn router(&self, verb: &str) {
        let dir = self.base.join("router");
        run_script("cluster.sh", &[verb, &dir.display().to_string()]);
    }

    /// The number of the node that is a group's primary.
    ///
    /// # Panics
    /// Where there is none.
    pub fn primary(&self, group: i32) -> i32 {
        let answer = self.group("primary", group, &[]);
        answer.trim().parse().unwrap_or_else(|_| panic!("the primary of group {group}: '{answer}'"))
    }

    /// The number of a node that is not.
    ///
    /// # Panics
    /// Where there is none.
    pub fn standby(&self, group: i32) -> i32 {
        if self.primary(group) == 1 { 2 } else { 1 }
    }

    /// Waits until another node than this one is the primary.
    ///
    /// # Panics
    /// Where none ever is.
    pub fn until_replaced(&self, group: i32, node: i32) {
        patience::until_true("another primary", || {
            let answer = self.group("primary", group, &[]);
            answer.trim().parse::<i32>().is_ok_and(|primary| primary != node)
        });
    }

    /// Waits until a group has a primary, and a standby that it waits for.
    ///
    /// # Panics
    /// Where that never is so.
    pub fn until_healthy(&self, group: i32) {
        self.group("wait", group, &[]);
    }

    /// How an application connects.
    pub fn config(&self) -> Config {
        let mut config = self.any_config("router");
        config.host_path(self.base.join("router/run")).port(5432);
        config
    }

    /// Connects to the router.
    ///
    /// # Panics
    /// Where that fails.
    pub fn connect(&self) -> Client {
        self.config().connect(NoTls).expect("the router")
    }

    /// How one node is connected to.
    ///
    /// # Panics
    /// Where there can be no such node.
    pub fn node_config(&self, group: i32, node: i32) -> Config {
        let port = u16::try_from(7000 + group * 10 + node).expect("a port");
        let mut config = self.any_config(STORE);
        config.host_path(self.base.join("run")).port(port);
        config
    }

    /// Connects to one node, whatever it is just now.
    ///
    /// # Panics
    /// Where that fails.
    pub fn connect_to_node(&self, group: i32, node: i32) -> Client {
        let config = self.node_config(group, node);
        config.connect(NoTls).unwrap_or_else(|error| panic!("{}", failure::describe(&error)))
    }

    /// Connects to a group's store.
    pub fn store(&self, group: i32) -> Client {
        self.connect_to_node(group, self.primary(group))
    }

    /// Connects to the coordinator.
    ///
    /// # Panics
    /// Where that fails.
    pub fn coordinator(&self) -> Client {
        let port = u16::try_from(7010 + self.primary(1)).expect("a port");
        let mut config = self.any_config(COORDINATOR);
        config.host_path(self.base.join("run")).port(port);
        config.connect(NoTls).expect("the coordinator")
    }

    fn any_config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config
            .user("postgres")
            .dbname(database)
            .application_name("allsource-e2e")
            .options(&format!("-c statement_timeout={STATEMENT_TIMEOUT_S}s"));
        config
    }

    /// The groups that there are, as the coordinator has them.
    ///
    /// # Panics
    /// Where it cannot be asked.
    pub fn numbers(&self) -> Vec<i32> {
        let query = "SELECT group_id FROM allsource.cluster_groups ORDER BY 1";
        let rows = self.coordinator().query(query, &[]).expect("the groups");
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// The owner of each partition, as the coordinator has it.
    ///
    /// # Panics
    /// Where it cannot be asked.
    pub fn map(&self) -> BTreeMap<i32, i32> {
        let query = "SELECT partition_id, group_id FROM allsource.partition_map";
        let rows = self.coordinator().query(query, &[]).expect("the map");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// The partitions of a group.
    pub fn partitions(&self, group: i32) -> Vec<i32> {
        self.map().into_iter().filter(|(_, owner)| *owner == group).map(|(p, _)| p).collect()
    }

    /// What is wrong with who owns what, a line for each fault: each partition must be owned by one group, and that
    /// must be the map's.
    ///
    /// # Panics
    /// Where a group cannot be asked.
    pub fn ownership_faults(&self) -> Vec<String> {
        let query = "SELECT partition_id FROM allsource.partition_owners WHERE state = 'owned'";
        let mut owners: BTreeMap<i32, Vec<i32>> = (0..32).map(|p| (p, Vec::new())).collect();
        for group in self.numbers() {
            for row in self.store(group).query(query, &[]).expect("the owned partitions") {
                owners.entry(row.get(0)).or_default().push(group);
            }
        }
        let map = self.map();
        let is_right = |p: &i32, owners: &Vec<i32>| map.get(p).is_some_and(|g| *owners == [*g]);
        let wrong = owners.iter().filter(|(p, owners)| !is_right(p, owners));
        wrong
            .map(|(p, owners)| format!("partition {p}: owned by {owners:?}, map {:?}", map.get(p)))
            .collect()
    }

    fn script(&self, script: &str, verb: &str, arguments: &[&str]) -> String {
        let base = self.base.display().to_string();
        let mut all = vec![verb, base.as_str()];
        all.extend_from_slice(arguments);
        run_script(script, &all)
    }
}

/// The output goes to a file, not to a pipe: a server that is started would keep the pipe open.
fn run_script(script: &str, arguments: &[&str]) -> String {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!("allsource-e2e-{}-{number}-{script}.out", std::process::id());
    let path = std::env::temp_dir().join(name);
    let file = File::create(&path).expect("a file for the script's output");
    let status = Command::new("bash")
        .arg(project_dir().join("scripts").join(script))
        .args(arguments)
        .env("ALLSOURCE_PG_WAIT_S", sizes::wait_max().as_secs().to_string())
        .stdin(Stdio::null())
        .stdout(file.try_clone().expect("the file twice"))
        .stderr(file)
        .status()
        .expect("bash");
    let output = std::fs::read_to_string(&path).unwrap_or_default();
    let _ = std::fs::remove_file(&path);
    assert!(
        status.success() || std::thread::panicking(),
        "{script} {}: {output}",
        arguments.join(" ")
    );
    output
}

impl Drop for Groups {
    fn drop(&mut self) {
        if !self.is_mine {
            return;
        }
        if std::thread::panicking() && std::env::var_os("ALLSOURCE_E2E_KEEP").is_some() {
            println!("kept, running, in {}", self.base.display());
            return;
        }
        self.cluster("remove", &[]);
    }
}
