//! Baseline: `COPY` into a table without any index, the fastest way to get rows into PostgreSQL.
//!
//! The data is made once per client and sent again and again, in pieces of 64 kB, so that the client
//! costs as little as it can.

use std::rc::Rc;

use bytes::{BufMut, BytesMut};
use tokio::sync::OnceCell;

use crate::bench::{BASELINE_DATABASE, Bench};
use crate::error::Result;
use crate::payload::{EVENT_TYPES, Payloads, Size};
use crate::wire::Connection;
use crate::workload::{About, Client, LocalFuture, Step, Workload};

/// The report's name of `COPY` in text format.
pub const COPY_TEXT: &str = "COPY text";

/// The report's name of `COPY` in binary format.
pub const COPY_BINARY: &str = "COPY binary";

/// Rows, and so events, of one COPY, which is one transaction.
const ROWS: usize = 10_000;
const EVENTS_PER_STREAM: usize = 10;
const PIECE_BYTES: usize = 64 * 1024;

/// The workload, in one of the two formats, into a table of its own.
pub struct Copy {
    bench: Rc<Bench>,
    about: About,
    table: &'static str,
    format: &'static str,
    rows: fn(Payloads) -> BytesMut,
    size: Size,
    ready: OnceCell<()>,
}

struct CopyClient {
    connection: Connection,
    sql: String,
    data: BytesMut,
}

impl Copy {
    /// COPY in text format.
    pub fn text(bench: &Rc<Bench>, size: Size) -> Self {
        let (table, tables) = match size {
            Size::Full => ("copy_text", "c.relname = 'copy_text'"),
            Size::Small => ("copy_text_small", "c.relname = 'copy_text_small'"),
        };
        Self {
            bench: Rc::clone(bench),
            about: About::writes(COPY_TEXT, BASELINE_DATABASE, tables),
            table,
            format: "text",
            rows: text_rows,
            size,
            ready: OnceCell::new(),
        }
    }

    /// COPY in binary format.
    pub fn binary(bench: &Rc<Bench>) -> Self {
        let tables = "c.relname = 'copy_binary'";
        Self {
            bench: Rc::clone(bench),
            about: About::writes(COPY_BINARY, BASELINE_DATABASE, tables),
            table: "copy_binary",
            format: "binary",
            rows: binary_rows,
            size: Size::Full,
            ready: OnceCell::new(),
        }
    }
}

impl Workload for Copy {
    fn about(&self) -> About {
        self.about
    }

    fn prepare(&self) -> LocalFuture<'_, ()> {
        Box::pin(async {
            let make = async || {
                let sql = format!(
                    "CREATE TABLE {} (stream_no bigint, version bigint, type text, payload jsonb)",
                    self.table
                );
                self.bench.baseline().await?.query(&sql).await.map(drop)
            };
            self.ready.get_or_try_init(make).await.copied()
        })
    }

    fn client(&self, _: usize, _: usize) -> LocalFuture<'_, Box<dyn Client>> {
        Box::pin(async {
            let rows = (self.rows)(self.bench.payloads_of(self.size));
            Ok(Box::new(CopyClient {
                connection: self.bench.server.connect(BASELINE_DATABASE).await?,
                sql: format!("COPY {} FROM STDIN WITH (FORMAT {})", self.table, self.format),
                data: copy_data(&rows),
            }) as Box<dyn Client>)
        })
    }
}

impl Step for CopyClient {
    async fn step(&mut self) -> Result<u64> {
        self.connection.copy_in(&self.sql, &self.data).await?;
        Ok(ROWS as u64)
    }
}

/// Cuts a COPY stream into CopyData messages.
pub fn copy_data(data: &[u8]) -> BytesMut {
    let mut messages = BytesMut::with_capacity(data.len() + data.len() / 1000);
    for piece in data.chunks(PIECE_BYTES) {
        messages.put_u8(b'd');
        messages.put_u32(piece.len() as u32 + 4);
        messages.put_slice(piece);
    }
    messages
}

fn text_rows(mut payloads: Payloads) -> BytesMut {
    let mut rows = BytesMut::new();
    for row in 0..ROWS {
        let (stream, version) = (row / EVENTS_PER_STREAM, 1 + row % EVENTS_PER_STREAM);
        let event_type = EVENT_TYPES[row % EVENT_TYPES.len()];
        rows.put_slice(format!("{stream}\t{version}\t{event_type}\t").as_bytes());
        payloads.write(&mut rows); // holds nothing that COPY would want escaped
        rows.put_u8(b'\n');
    }
    rows
}

fn binary_rows(mut payloads: Payloads) -> BytesMut {
    const COLUMNS: i16 = 4;
    const JSONB_VERSION: u8 = 1;
    let mut rows = BytesMut::new();
    rows.put_slice(b"PGCOPY\n\xFF\r\n\0");
    rows.put_u64(0); // flags, and length of a header extension
    let mut json = BytesMut::new();
    for row in 0..ROWS {
        rows.put_i16(COLUMNS);
        for number in [row / EVENTS_PER_STREAM, 1 + row % EVENTS_PER_STREAM] {
            rows.put_u32(8);
            rows.put_u64(number as u64);
        }
        let event_type = EVENT_TYPES[row % EVENT_TYPES.len()];
        rows.put_u32(event_type.len() as u32);
        rows.put_slice(event_type.as_bytes());
        json.clear();
        payloads.write(&mut json);
        rows.put_u32(json.len() as u32 + 1);
        rows.put_u8(JSONB_VERSION);
        rows.put_slice(&json);
    }
    rows.put_i16(-1);
    rows
}
