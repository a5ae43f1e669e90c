//! allsource: event streams inside PostgreSQL.
//!
//! The layers, each of which knows only those to its left:
//!
//! ```text
//! model ← codec ← { positions, queue, metrics, drain, cluster, board } ← sidecar ← pg ← api ← lib.rs
//! ```
//!
//! Everything to the left of `pg` is plain Rust and builds without PostgreSQL
//! (`--no-default-features`). `pg` is the only boundary to PostgreSQL, and `api` holds the SQL
//! functions. The design is described in `docs/ARCHITECTURE.md`.

pub mod board;
pub mod cluster;
pub mod codec;
pub mod drain;
pub mod metrics;
pub mod model;
pub mod positions;
pub mod queue;
#[cfg(feature = "rocksdb")]
pub mod sidecar;
mod sync;

#[cfg(feature = "pg")]
mod api;
#[cfg(feature = "pg")]
mod pg;

#[cfg(feature = "pg")]
mod extension {
    //! What PostgreSQL loads.

    pgrx::pg_module_magic!(name, version);

    // The extension's script: the files of `sql/` in the order of their numbers.
    pgrx::extension_sql_file!("../sql/00_roles.sql", name = "roles");
    pgrx::extension_sql_file!("../sql/10_tables.sql", name = "tables", requires = ["roles"]);
    pgrx::extension_sql_file!("../sql/15_cluster.sql", name = "cluster", requires = ["tables"]);
    pgrx::extension_sql_file!("../sql/20_views.sql", name = "views", requires = ["cluster"]);
    pgrx::extension_sql_file!("../sql/30_append.sql", name = "append", requires = ["views"]);
    pgrx::extension_sql_file!("../sql/40_read.sql", name = "read", requires = ["append"]);
    pgrx::extension_sql_file!("../sql/50_streams.sql", name = "streams", requires = ["read"]);
    pgrx::extension_sql_file!("../sql/60_verify.sql", name = "verify", requires = ["streams"]);
    pgrx::extension_sql_file!("../sql/70_queue.sql", name = "queue", requires = ["verify"]);
    pgrx::extension_sql_file!("../sql/75_hot.sql", name = "hot", requires = ["queue"]);
    pgrx::extension_sql_file!("../sql/80_metrics.sql", name = "metrics", requires = ["hot"]);
    pgrx::extension_sql_file!(
        "../sql/link/10_dblink.sql",
        name = "link_dblink",
        requires = ["metrics"]
    );
    pgrx::extension_sql_file!(
        "../sql/link/20_connections.sql",
        name = "link_connections",
        requires = ["link_dblink"]
    );
    pgrx::extension_sql_file!(
        "../sql/coordinator/10_tables.sql",
        name = "coordinator_tables",
        requires = ["link_connections"]
    );
    pgrx::extension_sql_file!(
        "../sql/coordinator/20_asking.sql",
        name = "asking",
        requires = ["coordinator_tables"]
    );
    pgrx::extension_sql_file!(
        "../sql/coordinator/30_groups.sql",
        name = "groups",
        requires = ["asking"]
    );
    pgrx::extension_sql_file!(
        "../sql/coordinator/40_moves.sql",
        name = "moves",
        requires = ["groups"]
    );
    pgrx::extension_sql_file!(
        "../sql/coordinator/50_assignment.sql",
        name = "assignment",
        requires = ["moves"]
    );
    pgrx::extension_sql_file!(
        "../sql/coordinator/60_nodes.sql",
        name = "nodes",
        requires = ["assignment"]
    );
    pgrx::extension_sql_file!("../sql/90_rights.sql", name = "rights", requires = ["nodes"]);

    /// Called by PostgreSQL when it loads the library.
    #[pgrx::pg_guard]
    pub extern "C-unwind" fn _PG_init() {
        crate::pg::init();
    }
}

#[cfg(feature = "pg_test")]
mod backend_tests;

/// What `cargo pgrx test` asks for.
#[cfg(all(test, feature = "pg_test"))]
pub mod pg_test {
    /// Called once before the first test.
    pub fn setup(_options: Vec<&str>) {}

    /// Settings of the test server.
    #[must_use]
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec!["shared_preload_libraries = 'allsource'"]
    }
}
