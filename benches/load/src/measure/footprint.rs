//! What the server, and this program, have used so far.

use tokio_postgres::Client as Session;

use crate::error::Result;
use crate::server::{number, wal_bytes};
use crate::workload::About;

/// What the server has used so far.
#[derive(Default)]
pub struct Footprint {
    /// Processor time of its processes, in seconds.
    pub cpu_s: f64,
    /// WAL, where there are tables to look at.
    pub wal_bytes: f64,
    /// Bytes of these tables, with their indexes and TOAST.
    pub disk_bytes: f64,
    /// Events drained from the queue, where there should be some.
    pub drained: f64,
}

/// Looks at what concerns a workload.
pub async fn footprint(session: &Session, about: About, under_load: bool) -> Result<Footprint> {
    let mut footprint = Footprint::default();
    if about.queued || under_load {
        let drained = "SELECT sum(drained) FROM allsource.queue_stats";
        footprint.drained = number(session, drained).await?;
    }
    if let Some(tables) = about.tables {
        let size = format!(
            "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind = 'r' AND {tables}"
        );
        footprint.disk_bytes = number(session, &size).await?;
        footprint.wal_bytes = wal_bytes(session).await?;
    }
    let processes = session.query("SELECT pid FROM pg_stat_activity", &[]).await?;
    footprint.cpu_s = processes.iter().map(|row| cpu_s(&row.get::<_, i32>(0).to_string())).sum();
    Ok(footprint)
}

/// Processor time of this program.
pub fn own_cpu_s() -> f64 {
    cpu_s("self")
}

/// Processor time that a process has used, as the scheduler counts it; of its first thread, and
/// neither this program nor a backend has another.
fn cpu_s(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let on_cpu_ns = stat.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok());
    on_cpu_ns.unwrap_or(0.0) / 1e9
}
