//! What the server, and this program, have used so far.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::{JoinHandle, spawn_local};
use tokio_postgres::Client as Session;

use crate::error::Result;
use crate::server::{number, wal_bytes};
use crate::workload::{About, Ends};

/// What the server has used so far.
#[derive(Default)]
pub struct Footprint {
    /// Processor time of its processes, in seconds, by kind.
    pub cpu_s: BTreeMap<String, f64>,
    /// WAL, where there are tables to look at.
    pub wal_bytes: f64,
    /// Bytes of these tables, with their indexes and TOAST.
    pub disk_bytes: f64,
    /// Events drained from the queue, where there should be some.
    pub drained: f64,
}

/// Looks at what concerns a workload.
pub(crate) async fn footprint(
    session: &Session,
    about: About,
    under_load: bool,
) -> Result<Footprint> {
    let mut footprint = Footprint::default();
    if about.ends != Ends::Answered || under_load {
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
    let processes = session.query("SELECT pid, backend_type FROM pg_stat_activity", &[]).await?;
    for row in &processes {
        let kind: &str = row.get(1);
        let kind = kind
            .trim_start_matches("allsource ")
            .trim_end_matches(|c| c == ' ' || char::is_numeric(c));
        let of_kind = footprint.cpu_s.entry(kind.to_owned()).or_default();
        *of_kind += cpu_s(&row.get::<_, i32>(0).to_string());
    }
    Ok(footprint)
}

/// Memory of a process that is its own, in megabytes. What it shares with others, such as
/// `shared_buffers`, is not in it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Memory {
    /// The most that it had.
    pub peak_mb: f64,
    /// What its settings give it.
    pub set_mb: f64,
}

/// Looks at the settler's memory again and again.
pub struct SettlerWatch {
    peak_mb: Rc<Cell<f64>>,
    set_mb: f64,
    looks: JoinHandle<()>,
}

impl SettlerWatch {
    const INTERVAL: Duration = Duration::from_millis(50);

    /// Begins to look. Must be called within a `LocalSet`.
    pub async fn start(session: &Session) -> Result<Self> {
        let pid = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'allsource settler'";
        let pid: i32 = session.query_one_scalar(pid, &[]).await?;
        let set = "SELECT sum(setting::bigint) FROM pg_settings WHERE unit = 'kB' AND name IN \
                   ('allsource.sidecar_cache_size', 'allsource.sidecar_write_buffer_size')";
        let set_mb = number(session, set).await? / 1024.0;
        let peak_mb = Rc::new(Cell::new(0.0));
        let peak = Rc::clone(&peak_mb);
        let looks = spawn_local(async move {
            loop {
                peak.set(own_memory_mb(pid).max(peak.get()));
                tokio::time::sleep(Self::INTERVAL).await;
            }
        });
        Ok(Self { peak_mb, set_mb, looks })
    }

    /// What was seen.
    pub fn end(self) -> Memory {
        self.looks.abort();
        Memory { peak_mb: self.peak_mb.get(), set_mb: self.set_mb }
    }
}

fn own_memory_mb(pid: i32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kb = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kb.unwrap_or(0.0) / 1024.0
}

/// Processor time of this program.
pub fn own_cpu_s() -> f64 {
    cpu_s("self")
}

/// Processor time that the threads of a process have used, as the scheduler counts it.
fn cpu_s(pid: &str) -> f64 {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0.0 };
    let on_cpu_ns = threads.flatten().filter_map(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse::<f64>().ok()
    });
    on_cpu_ns.sum::<f64>() / 1e9
}
