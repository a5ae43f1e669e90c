//! The server under test: connections to it, its databases and its settings.

use std::cell::Cell;
use std::collections::BTreeMap;

use crate::error::Result;
use crate::wire::{Address, Connection};

/// WAL after which a checkpoint is taken between rounds: well before the server would start one by
/// itself (half of max_wal_size) in the middle of somebody's round.
const WAL_BETWEEN_CHECKPOINTS_BYTES: f64 = 2.5e9;

const SETTINGS: [&str; 10] = [
    "server_version",
    "shared_preload_libraries",
    "synchronous_commit",
    "fsync",
    "full_page_writes",
    "shared_buffers",
    "max_wal_size",
    "checkpoint_timeout",
    "max_connections",
    "wal_level",
];

/// The server under test.
pub struct Server {
    address: Address,
    checkpoint_at: Cell<f64>,
}

impl Server {
    /// The server at `address`.
    pub const fn new(address: Address) -> Self {
        Self { address, checkpoint_at: Cell::new(0.0) }
    }

    /// A new connection to `database`.
    pub async fn connect(&self, database: &str) -> Result<Connection> {
        Connection::open(&self.address, database).await
    }

    /// Drops `database` if it is there, and makes it.
    pub async fn fresh_database(&self, database: &str) -> Result<Connection> {
        let mut admin = self.connect("postgres").await?;
        admin.query(&format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)")).await?;
        admin.query(&format!("CREATE DATABASE {database}")).await?;
        self.connect(database).await
    }

    /// Whether there is a database of that name.
    pub async fn has_database(&self, database: &str) -> Result<bool> {
        let mut admin = self.connect("postgres").await?;
        let sql = format!("SELECT 1 FROM pg_database WHERE datname = '{database}'");
        Ok(!admin.query(&sql).await?.is_empty())
    }

    /// Takes a checkpoint now, so that no round pays for what earlier ones have written.
    pub async fn checkpoint(&self) -> Result<()> {
        let mut admin = self.connect("postgres").await?;
        admin.query("CHECKPOINT").await?;
        self.checkpoint_at.set(wal_bytes(&mut admin).await?);
        Ok(())
    }

    /// Takes a checkpoint where one would soon come by itself.
    pub async fn checkpoint_if_due(&self) -> Result<()> {
        let mut admin = self.connect("postgres").await?;
        let written = wal_bytes(&mut admin).await? - self.checkpoint_at.get();
        if written > WAL_BETWEEN_CHECKPOINTS_BYTES { self.checkpoint().await } else { Ok(()) }
    }

    /// The settings that a reader of the figures needs to know; all of the extension's.
    pub async fn settings(&self) -> Result<BTreeMap<String, String>> {
        let mut admin = self.connect("postgres").await?;
        let sql = format!(
            "SELECT name, current_setting(name) FROM pg_settings \
             WHERE name IN ('{}') OR name LIKE 'allsource.%'",
            SETTINGS.join("', '")
        );
        let rows = admin.query(&sql).await?;
        Ok(rows
            .into_iter()
            .filter_map(|row| {
                let mut values = row.into_iter().flatten();
                Some((values.next()?, values.next()?))
            })
            .collect())
    }
}

async fn wal_bytes(admin: &mut Connection) -> Result<f64> {
    admin.number("SELECT pg_current_wal_insert_lsn() - '0/0'").await
}
