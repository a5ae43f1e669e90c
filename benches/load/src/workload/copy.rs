//! Baseline: `COPY` into a table without any index, the fastest way to get rows into PostgreSQL.
//!
//! The data is made once per client and sent again and again, in pieces of 64 kB, so that the client
//! costs as little as it can.

use std::rc::Rc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use tokio_postgres::Client as Session;

use crate::bench::Bench;
use crate::data::Data;
use crate::data::rows::{copy_in, text_rows};
use crate::error::Result;
use crate::payload::Size;
use crate::server::BASELINE_DATABASE;
use crate::streams::Seat;
use crate::workload::{About, Client, Connect, Workload};

/// The report's name of `COPY` in text format.
pub const COPY_TEXT: &str = "COPY text";

/// The report's name of `COPY` in binary format.
pub const COPY_BINARY: &str = "COPY binary";

/// Rows, and so events, of one COPY, which is one transaction.
const ROWS: usize = 10_000;
const EVENTS_PER_STREAM: usize = 10;

/// Makes the table of that name.
macro_rules! create {
    ($table:literal) => {
        concat!(
            "CREATE TABLE ",
            $table,
            " (stream_no bigint, version bigint, type text, payload jsonb)"
        )
    };
}
/// COPY into the table of that name.
struct Copy {
    table: &'static str,
    binary: bool,
    size: Size,
}

struct CopyClient {
    session: Session,
    sql: String,
    data: Bytes,
}

/// COPY in text format.
pub(crate) fn copy_text(size: Size) -> Rc<Workload> {
    let (table, tables, create) = match size {
        Size::Full => ("copy_text", "c.relname = 'copy_text'", create!("copy_text")),
        Size::Small => {
            ("copy_text_small", "c.relname = 'copy_text_small'", create!("copy_text_small"))
        }
    };
    let about = About::writes(COPY_TEXT, BASELINE_DATABASE, tables);
    Rc::new(Workload::new(about, &[Data::Table(create)], Copy { table, binary: false, size }))
}

/// COPY in binary format.
pub(crate) fn copy_binary() -> Rc<Workload> {
    let about = About::writes(COPY_BINARY, BASELINE_DATABASE, "c.relname = 'copy_binary'");
    let copy = Copy { table: "copy_binary", binary: true, size: Size::Full };
    Rc::new(Workload::new(about, &[Data::Table(create!("copy_binary"))], copy))
}

#[async_trait(?Send)]
impl Connect for Copy {
    async fn connect(
        &self,
        bench: &'static Bench,
        about: About,
        _: Seat,
    ) -> Result<Box<dyn Client>> {
        let session = bench.server.connect(about.database).await?;
        let rows = (0..ROWS)
            .map(|row| format!("{}\t{}", row / EVENTS_PER_STREAM, 1 + row % EVENTS_PER_STREAM));
        let text = text_rows(rows, &mut bench.payloads(self.size));
        let (data, format) =
            if self.binary { (in_binary(&session, text).await?, "binary") } else { (text, "text") };
        let sql = format!("COPY {} FROM STDIN WITH (FORMAT {format})", self.table);
        Ok(Box::new(CopyClient { session, sql, data }))
    }
}

/// What is `text` in text format, as the server writes it in binary format.
async fn in_binary(session: &Session, text: Bytes) -> Result<Bytes> {
    session.batch_execute("CREATE TEMP TABLE rows (LIKE copy_binary)").await?;
    copy_in(session, "COPY rows FROM STDIN", text).await?;
    let out = session.copy_out("COPY rows TO STDOUT WITH (FORMAT binary)").await?;
    let data: BytesMut = out.try_collect().await?;
    session.batch_execute("DROP TABLE rows").await?;
    Ok(data.freeze())
}

#[async_trait(?Send)]
impl Client for CopyClient {
    async fn step(&mut self) -> Result<u64> {
        copy_in(&self.session, &self.sql, self.data.clone()).await?;
        Ok(ROWS as u64)
    }
}
