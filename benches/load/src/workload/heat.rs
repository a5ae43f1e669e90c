//! Which partitions are hot while something is measured.

use std::time::{Duration, Instant};

use tokio_postgres::Client as Session;

use crate::bench::Bench;
use crate::data::STORE_DATABASE;
use crate::error::{Error, Result};

/// Which partitions are hot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heat {
    /// None, and the sidecar is closed.
    None,
    /// All of them.
    All,
    /// The first one only.
    First,
    /// All but the first one.
    AllButFirst,
}

/// How long a settler may take to begin.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

impl Heat {
    /// Settles everything, and makes the partitions hot or cold.
    pub async fn bring_about(self, bench: &Bench) -> Result<()> {
        let session = bench.server.connect(STORE_DATABASE).await?;
        settle(&session).await?;
        let is_hot = match self {
            Self::None => "false",
            Self::All => "true",
            Self::First => "p = 0",
            Self::AllButFirst => "p <> 0",
        };
        for (function, condition) in [("es_cool", "NOT"), ("es_heat", "")] {
            let sql = format!(
                "SELECT allsource.{function}(p) FROM generate_series(0, 31) AS p
                 WHERE {condition} ({is_hot})"
            );
            session.execute(&sql, &[]).await?;
        }
        if self == Self::None { close_sidecar(&session).await } else { Ok(()) }
    }
}

/// Returns when all that was flushed is settled.
pub(crate) async fn settle(session: &Session) -> Result<()> {
    Ok(session.batch_execute("SELECT allsource.es_settle(timeout => NULL)").await?)
}

/// Once opened, it stays so as long as the settler lives.
async fn close_sidecar(session: &Session) -> Result<()> {
    const SETTLER: &str = "
        SELECT coalesce(max(pid), 0) FROM pg_stat_activity
        WHERE backend_type = 'allsource settler'";
    let settler = async || -> Result<i32> { Ok(session.query_one_scalar(SETTLER, &[]).await?) };
    let old = settler().await?;
    session.execute("SELECT pg_terminate_backend($1)", &[&old]).await?;
    let deadline = Instant::now() + PATIENCE;
    while matches!(settler().await?, pid if pid == 0 || pid == old) {
        let waits = Instant::now() < deadline;
        Error::unless_equal("settler", "a new one", if waits { "a new one" } else { "none" })?;
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}
