//! `pg_dump` of a database into a file, and its restoration with PostgreSQL's own programs.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cluster::Cluster;

/// A dump in a file of this process, deleted at the end.
#[derive(Debug)]
pub struct Dump(PathBuf);

impl Dump {
    /// Dumps a database with these options of `pg_dump`.
    pub fn of(cluster: &Cluster, database: &str, options: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("allsource-e2e-{}-{number}.dump", std::process::id());
        let dump = Self(std::env::temp_dir().join(name));
        let mut command = cluster.tool("pg_dump");
        command.args(options).arg("--file").arg(&dump.0).arg(database);
        cluster.run(&mut command, "pg_dump");
        dump
    }

    /// Restores a dump that is not plain into a database.
    pub fn restore_with_pg_restore(&self, cluster: &Cluster, database: &str, options: &[&str]) {
        let mut command = cluster.tool("pg_restore");
        command.args(["--exit-on-error", "--dbname", database]).args(options).arg(&self.0);
        cluster.run(&mut command, "pg_restore");
    }

    /// Restores a plain dump into a database.
    pub fn restore_with_psql(&self, cluster: &Cluster, database: &str) {
        let mut command = cluster.tool("psql");
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-f"]).arg(&self.0);
        cluster.run(&mut command, "psql");
    }

    /// The script of a plain dump, a part for each object or table's content. Without the commands
    /// that are psql's own, so it must have been made with `--inserts`.
    ///
    /// # Panics
    /// Where it cannot be read.
    pub fn parts(&self) -> Vec<String> {
        let script = std::fs::read_to_string(&self.0).expect("the dump");
        let sql: Vec<&str> = script.lines().filter(|line| !line.starts_with('\\')).collect();
        sql.join("\n").split("\n--\n-- ").map(|part| format!("-- {part}\n")).collect()
    }
}

impl Drop for Dump {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
