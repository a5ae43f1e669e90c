//! Databases with the extension in them, and the streams that the writing workloads append to.

use tokio_postgres::Client as Session;

use crate::bench::Bench;
use crate::data::STORE_DATABASE;
use crate::error::Result;
use crate::payload::{Size, event_type};
use crate::streams::orders;

const STREAMS_PER_CALL: usize = 1_000;

/// Makes `database` new, with the extension.
pub async fn create(bench: &Bench, database: &str) -> Result<Session> {
    let session = bench.server.fresh_database(database).await?;
    session.batch_execute("CREATE EXTENSION allsource").await?;
    Ok(session)
}

/// Makes the store, with one event in every stream: creating a stream is not what is measured.
pub async fn make(bench: &Bench) -> Result<()> {
    let session = create(bench, STORE_DATABASE).await?;
    let mut payloads = bench.payloads(Size::Full);
    for names in orders(bench.options.streams).chunks(STREAMS_PER_CALL) {
        let types: Vec<_> = (0..names.len()).map(event_type).collect();
        let sql = "SELECT FROM allsource.es_append_batch($1, $2, $3)";
        session.execute(sql, &[&names, &types, &payloads.take(names.len())]).await?;
    }
    Ok(session.batch_execute("VACUUM ANALYZE").await?)
}
