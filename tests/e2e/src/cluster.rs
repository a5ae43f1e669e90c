//! A private PostgreSQL cluster for one test: started, stopped and killed through
//! `scripts/cluster.sh`, which the demo and the benchmarks use as well.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use postgres::{Client, Config, Error, NoTls};

use crate::{bulk, failure, patience, sizes};

/// The database that [`Cluster::with_store`] makes.
pub const STORE: &str = "store";

/// The setting with which the workers serve [`STORE`].
pub const SERVED: &str = "allsource.database=store";

/// The setting with which there is one worker.
pub const ONE_WORKER: &str = "allsource.workers=1";

/// No statement of a test takes longer: what hangs becomes an error.
const STATEMENT_TIMEOUT_S: u64 = 60;

const LOG_LINES_SHOWN: usize = 60;

/// A server of the test's own. Removed when dropped, whatever state it is in.
#[derive(Debug)]
pub struct Cluster {
    dir: PathBuf,
    host: PathBuf,
    port: u16,
    user: String,
}

/// How to stop a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Disconnects everybody and writes a checkpoint.
    Fast,
    /// Recovers at the next start.
    Immediate,
    /// SIGKILL for the postmaster.
    Kill,
}

impl Cluster {
    /// Starts a cluster with the library preloaded and the store's extension in [`STORE`].
    pub fn with_store(name: &str) -> Self {
        Self::with_store_and(name, &[])
    }

    /// As [`Self::with_store`], with settings (`name=value`).
    pub fn with_store_and(name: &str, settings: &[&str]) -> Self {
        let cluster = Self::start(name, settings);
        cluster.create_store(STORE);
        cluster
    }

    /// As [`Self::with_store_and`], with one worker, unless the settings say otherwise, that serves
    /// [`STORE`] and is up.
    pub fn with_queue(name: &str, settings: &[&str]) -> Self {
        let mut all = vec![SERVED, ONE_WORKER];
        all.extend_from_slice(settings);
        let cluster = Self::with_store_and(name, &all);
        bulk::workers_up(&mut cluster.store());
        cluster
    }

    /// Starts an empty cluster. At least one setting is always given, so that the settings are
    /// those of this call and of nothing earlier.
    pub fn start(name: &str, settings: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let base = std::env::var("ALLSOURCE_HOME").unwrap_or_else(|_| "/var/tmp".to_owned());
        let dir = format!("allsource-e2e-{}-{number}-{name}", std::process::id());
        let mut cluster = Self {
            dir: Path::new(&base).join(dir),
            host: PathBuf::new(),
            port: 0,
            user: String::new(),
        };
        cluster.start_again(settings);
        for line in cluster.script("env", &[]).lines() {
            match line.split_once('=') {
                Some(("PGHOST", value)) => cluster.host = value.into(),
                Some(("PGPORT", value)) => cluster.port = value.parse().expect("a port"),
                Some(("PGUSER", value)) => value.clone_into(&mut cluster.user),
                _ => {}
            }
        }
        cluster
    }

    /// Starts the stopped server with these settings and no earlier ones.
    pub fn start_again(&self, settings: &[&str]) {
        // 64 writers, their readers, and those who look on.
        let mut all = vec!["max_connections=120"];
        all.extend_from_slice(settings);
        self.script("start", &all);
    }

    /// Starts the stopped or killed server with the settings that it had.
    pub fn resume(&self) {
        self.script("start", &[]);
    }

    /// The same with another installation of PostgreSQL, given its `pg_config`.
    pub fn resume_with(&self, pg_config: &str) {
        self.script_of("start", &[], Some(pg_config));
    }

    /// Stops the server; it is gone when this returns.
    pub fn stop(&self, how: Stop) {
        match how {
            Stop::Fast => self.script("stop", &["fast"]),
            Stop::Immediate => self.script("stop", &["immediate"]),
            Stop::Kill => self.script("kill", &[]),
        };
    }

    /// A standby of this server, streaming, made with `pg_basebackup`.
    pub fn standby(&self, name: &str, settings: &[&str]) -> Self {
        let standby = self.backup(name, &["-R", "-X", "stream"]);
        standby.start_again(settings);
        standby
    }

    /// A copy of this server made with `pg_basebackup`, which is not started.
    pub fn backup(&self, name: &str, options: &[&str]) -> Self {
        let copy = Self::start(name, &[]);
        copy.stop(Stop::Fast);
        copy.shell("rm -rf data data.allsource");
        let mut backup = self.tool("pg_basebackup");
        backup.arg("-D").arg(copy.data_dir()).args(["-c", "fast"]).args(options);
        self.run(copy.as_owner(&mut backup), "pg_basebackup");
        copy
    }

    /// Creates a database with the extension in it.
    pub fn create_store(&self, database: &str) {
        self.create_database(database);
        self.execute(database, "CREATE EXTENSION allsource");
    }

    /// Creates an empty database.
    pub fn create_database(&self, database: &str) {
        self.execute("postgres", &format!("CREATE DATABASE \"{database}\""));
    }

    /// Runs statements on a connection of their own.
    pub fn execute(&self, database: &str, sql: &str) {
        self.connect(database)
            .batch_execute(sql)
            .unwrap_or_else(|error| panic!("{sql}: {}", failure::describe(&error)));
    }

    /// Connects to [`STORE`].
    pub fn store(&self) -> Client {
        self.connect(STORE)
    }

    /// Connects.
    pub fn connect(&self, database: &str) -> Client {
        self.try_connect(database)
            .unwrap_or_else(|error| panic!("connect: {}", failure::describe(&error)))
    }

    /// Connects, or says why not.
    ///
    /// # Errors
    /// What the server or the network answers.
    pub fn try_connect(&self, database: &str) -> Result<Client, Error> {
        self.config(database).connect(NoTls)
    }

    /// Connects as soon as the server, which recovers from a crash, lets us.
    pub fn connect_when_ready(&self, database: &str) -> Client {
        patience::until("the server accepts connections", || self.try_connect(database).ok())
    }

    /// How to connect.
    pub fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config
            .host_path(&self.host)
            .port(self.port)
            .user(&self.user)
            .dbname(database)
            .application_name("allsource-e2e")
            .options(&format!("-c statement_timeout={STATEMENT_TIMEOUT_S}s"));
        config
    }

    /// How a server of this machine connects to a database of this one: a connection string without user.
    pub fn conninfo(&self, database: &str) -> String {
        format!("host={} port={} dbname={database}", self.host.display(), self.port)
    }

    /// The socket that the server listens on.
    pub fn socket(&self) -> PathBuf {
        self.host.join(format!(".s.PGSQL.{}", self.port))
    }

    /// A client program of PostgreSQL (`pg_dump`, say), pointed at this server.
    pub fn tool(&self, program: &str) -> Command {
        let mut command = Command::new(bin_dir().join(program));
        command
            .env("PGHOST", &self.host)
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", &self.user)
            .env("PGOPTIONS", format!("-c statement_timeout={STATEMENT_TIMEOUT_S}s"));
        command
    }

    /// Runs a command to its end and returns what it printed.
    ///
    /// # Panics
    /// Where it fails; `what` says what it was for.
    pub fn run(&self, command: &mut Command, what: &str) -> Vec<u8> {
        let output = command.current_dir("/").output().unwrap_or_else(|e| panic!("{what}: {e}"));
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{what}: {}: {complaint}", output.status);
        output.stdout
    }

    /// Sends a signal (`KILL`, `STOP`) to one process of this server.
    pub fn signal(&self, signal: &str, pid: i32) {
        let mut kill = self.owned_command("kill");
        self.run(kill.args(["-s", signal, &pid.to_string()]), "kill");
    }

    /// How much address space one process of this server may take beyond what it has; `None`: any.
    pub fn limit_memory(&self, pid: i32, more_bytes: Option<u64>) {
        let limit = more_bytes.map_or("unlimited".to_owned(), |more| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
            let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
            let size = size.and_then(|size| size.split_whitespace().next()).expect("its size");
            (size.parse::<u64>().expect("a number") * 1024 + more).to_string()
        });
        let mut prlimit = self.owned_command("prlimit");
        self.run(
            prlimit.arg(format!("--as={limit}:unlimited")).args(["--pid", &pid.to_string()]),
            "prlimit",
        );
    }

    fn owned_command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        self.as_owner(&mut command);
        command
    }

    /// Lets the command run as the user that the server runs as: files that it makes are then
    /// the server's.
    fn as_owner<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let owner = fs::metadata(&self.dir).expect("the cluster's folder");
        let myself = fs::metadata("/proc/self").expect("/proc/self");
        if owner.uid() != myself.uid() {
            command.uid(owner.uid()).gid(owner.gid());
        }
        command
    }

    /// Runs a script of the shell as the user that the server runs as, in the cluster's folder.
    ///
    /// # Panics
    /// Where it fails.
    pub fn shell(&self, script: &str) -> String {
        let mut shell = self.owned_command("sh");
        shell.args(["-e", "-c", &format!("cd '{}'\n{script}", self.dir.display())]);
        String::from_utf8_lossy(&self.run(&mut shell, script)).into_owned()
    }

    /// A program of PostgreSQL that runs as the user that the server runs as.
    pub fn server_tool(&self, program: &str) -> Command {
        let mut command = self.tool(program);
        self.as_owner(&mut command);
        command
    }

    /// The cluster's folder, in which are `data` and, beside it, `data.allsource`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the sidecar of hot partitions has its files.
    pub fn sidecar_dir(&self) -> PathBuf {
        self.dir.join("data.allsource")
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Runs `scripts/cluster.sh VERB DIR ARGUMENTS` and returns what it printed. Its output goes
    /// to a file, not to a pipe: a server that it starts would keep the pipe open.
    fn script(&self, verb: &str, arguments: &[&str]) -> String {
        self.script_of(verb, arguments, None)
    }

    fn script_of(&self, verb: &str, arguments: &[&str], pg_config: Option<&str>) -> String {
        let script = project_dir().join("scripts/cluster.sh");
        let path = std::env::temp_dir().join(format!(
            "{}.{verb}.out",
            self.dir.file_name().expect("a folder").to_string_lossy()
        ));
        let file = File::create(&path).expect("a file for the script's output");
        let status = Command::new("bash")
            .envs(pg_config.map(|path| ("PG_CONFIG", path)))
            .arg(script)
            .arg(verb)
            .arg(&self.dir)
            .args(arguments)
            .env("ALLSOURCE_PG_WAIT_S", sizes::wait_max().as_secs().to_string())
            // Whatever it is set to where the tests run: nobody may be shown a backtrace.
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("the file twice"))
            .stderr(file)
            .status()
            .expect("bash");
        let output = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(&path);
        assert!(
            status.success() || std::thread::panicking(),
            "cluster.sh {verb}: {output}{}",
            self.log_tail()
        );
        output
    }

    /// The server's log so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.dir.join("server.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_tail(&self) -> String {
        let text = self.log();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

/// Lines of a server's log that nobody may ever see, whatever a test is about: a crash that no
/// test has asked for, and resources that were not given back.
fn complaints(log: &str) -> Vec<&str> {
    let asked_for = |line: &str| line.contains("was terminated by signal 9:");
    let complains = |line: &str| {
        ["PANIC:", "was terminated by signal", " leak: ", "WARNING:  problem", "TRAP:"]
            .iter()
            .any(|sign| line.contains(sign))
    };
    log.lines().filter(|line| complains(line) && !asked_for(line)).collect()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the end of the server's log:\n{}", self.log_tail());
            if std::env::var_os("ALLSOURCE_E2E_KEEP").is_some() {
                println!("kept, running, in {}", self.dir.display());
                return;
            }
        }
        let log = self.log();
        self.script("remove", &[]);
        if !std::thread::panicking() {
            let complaints = complaints(&log);
            assert!(complaints.is_empty(), "the server's log has: {complaints:#?}");
        }
    }
}

/// The project's folder. Asked at run time: clones that share a target folder share what was
/// compiled into it.
///
/// # Panics
/// Where the test was not started by cargo.
pub fn project_dir() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("run by cargo");
    Path::new(&package).join("../..")
}

/// The folder of PostgreSQL's programs, as `pg_config` has it.
fn bin_dir() -> PathBuf {
    let debian = "/usr/lib/postgresql/15/bin/pg_config";
    let default = if Path::new(debian).exists() { debian } else { "pg_config" };
    let pg_config = std::env::var("PG_CONFIG").unwrap_or_else(|_| default.to_owned());
    let output = Command::new(pg_config).arg("--bindir").output().expect("pg_config");
    String::from_utf8_lossy(&output.stdout).trim().into()
}

#[cfg(test)]
mod tests {
    use super::complaints;

    #[test]
    fn what_must_not_be_in_a_log_is_found() {
        let log = "LOG:  server process (PID 1) was terminated by signal 9: Killed\n\
                   LOG:  server process (PID 1) was terminated by signal 11: Segmentation fault\n\
                   WARNING:  buffer refcount leak: [001] (rel=base/1/2, blockNum=0)\n\
                   PANIC:  could not write to file\n\
                   ERROR:  wrong expected version";
        assert_eq!(complaints(log).len(), 3);
    }
}
