//! A router, on a server of its own, whose one group is the server under test.

use crate::bench::Bench;
use crate::error::Result;
use crate::server::ROUTER_DATABASE;
use crate::workload::ROUTED_TO;

/// Makes the router. It knows no coordinator: the map does not change.
pub async fn make(bench: &Bench) -> Result<()> {
    let session = bench.server.fresh_database(ROUTER_DATABASE).await?;
    let conninfo = bench.server.conninfo(ROUTED_TO.database());
    let sql = format!(
        "CREATE EXTENSION allsource_router;
         INSERT INTO allsource.router_groups VALUES (1, '{conninfo}');
         INSERT INTO allsource.routes SELECT partition_id, 1, 1 FROM generate_series(0, 31) AS partition_id;"
    );
    Ok(session.batch_execute(&sql).await?)
}
