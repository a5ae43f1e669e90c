//! The server under test: connections to it, its databases and its settings.

use std::cell::Cell;
use std::collections::BTreeMap;

use tokio::task::spawn_local;

use tokio_postgres::{Client as Session, Config, NoTls};

use crate::error::Result;

/// The database of the baselines that are plain tables.
pub const BASELINE_DATABASE: &str = "bench_baseline";

/// The database of the router, on a server of its own.
pub const ROUTER_DATABASE: &str = "bench_router";

/// WAL after which a checkpoint is taken between rounds: well before the server would start one by
/// itself (half of max_wal_size) in the middle of somebody's round.
const WAL_BETWEEN_CHECKPOINTS_BYTES: f64 = 2.5e9;

const SETTINGS: &str = "
    SELECT name, current_setting(name) FROM pg_settings
    WHERE name LIKE 'allsource.%' OR name IN (
        'server_version', 'shared_preload_libraries', 'synchronous_commit', 'fsync',
        'full_page_writes', 'shared_buffers', 'max_wal_size', 'checkpoint_timeout',
        'max_connections', 'wal_level')";

/// The server under test.
pub struct Server {
    host: String,
    port: u16,
    config: Config,
    router: Config,
    checkpoint_at: Cell<f64>,
}

impl Server {
    /// The server that PGHOST, PGPORT and PGUSER name, and that of the router, which ROUTER_HOST names.
    pub fn new() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let host = variable("PGHOST").unwrap_or_else(|| "/var/run/postgresql".to_owned());
        let port = variable("PGPORT").and_then(|port| port.parse().ok()).unwrap_or(5432);
        let mut config = Config::new();
        config
            .port(port)
            .user(variable("PGUSER").as_deref().unwrap_or("postgres"))
            .application_name("allsource-bench")
            .options("-c client_min_messages=warning");
        let mut router = config.clone();
        router.host(variable("ROUTER_HOST").unwrap_or_else(|| host.clone()));
        config.host(&host);
        Self { host, port, config, router, checkpoint_at: Cell::new(0.0) }
    }

    /// A new connection to `database`. Must be called within a `LocalSet`.
    pub async fn connect(&self, database: &str) -> Result<Session> {
        let mut config = self.of(database).clone();
        let (session, connection) = config.dbname(database).connect(NoTls).await?;
        // Whoever uses the session is told of its failure.
        spawn_local(connection);
        Ok(session)
    }

    fn of(&self, database: &str) -> &Config {
        if database == ROUTER_DATABASE { &self.router } else { &self.config }
    }

    /// How another server connects to `database`.
    pub fn conninfo(&self, database: &str) -> String {
        format!("host={} port={} dbname={database}", self.host, self.port)
    }

    /// Drops `database` if it is there, and makes it.
    pub async fn fresh_database(&self, database: &str) -> Result<Session> {
        let (admin, connection) =
            self.of(database).clone().dbname("postgres").connect(NoTls).await?;
        spawn_local(connection);
        admin.batch_execute(&format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)")).await?;
        admin.batch_execute(&format!("CREATE DATABASE {database}")).await?;
        self.connect(database).await
    }

    /// Whether there is a database of that name.
    pub async fn has_database(&self, database: &str) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)";

        Ok(self.connect("postgres").await?.query_one_scalar(sql, &[&database]).await?)
    }

    /// Takes a checkpoint now, so that no round pays for what earlier ones have written.
    pub async fn checkpoint(&self) -> Result<()> {
        let admin = self.connect("postgres").await?;
        admin.batch_execute("CHECKPOINT").await?;
        self.checkpoint_at.set(wal_bytes(&admin).await?);
        Ok(())
    }

    /// Takes a checkpoint where one would soon come by itself.
    pub async fn checkpoint_if_due(&self) -> Result<()> {
        let admin = self.connect("postgres").await?;
        let written = wal_bytes(&admin).await? - self.checkpoint_at.get();
        if written > WAL_BETWEEN_CHECKPOINTS_BYTES { self.checkpoint().await } else { Ok(()) }
    }

    /// The settings that a reader of the figures needs to know; all of the extension's.
    pub async fn settings(&self) -> Result<BTreeMap<String, String>> {
        let rows = self.connect("postgres").await?.query(SETTINGS, &[]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

/// The single number that `sql` returns.
pub async fn number(session: &Session, sql: &str) -> Result<f64> {
    let sql = format!("SELECT ({sql})::double precision");
    Ok(session.query_one_scalar(&sql, &[]).await?)
}

/// WAL that the server has written, by whomever.
pub async fn wal_bytes(session: &Session) -> Result<f64> {
    number(session, "pg_current_wal_insert_lsn() - '0/0'").await
}
