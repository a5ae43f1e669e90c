//! A lean PostgreSQL client over a Unix socket, made for generating load on the machine it measures.
//!
//! Client and server share the cores, so what the client spends is missing from the server. With 64
//! clients appending one event at a time `postgres` took 48 us of processor time per event,
//! `tokio-postgres` 24, this 20, nearly all of it in the kernel; and it only counts the rows that it
//! reads. It speaks what the harness needs: trust authentication, prepared statements with binary
//! parameters, simple queries, COPY FROM STDIN.

use std::path::Path;

use bytes::{Buf, BytesMut};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::error::{Error, Result};

const INBOX_BYTES: usize = 128 * 1024;
const HEADER_BYTES: usize = 5;

/// Where the server listens, and as whom to connect.
#[derive(Clone, Debug)]
pub struct Address {
    /// The folder of the socket (`PGHOST`).
    pub host: String,
    /// The port in the socket's name (`PGPORT`).
    pub port: u16,
    /// The role (`PGUSER`).
    pub user: String,
}

/// A connection. Messages are written to [`Connection::out`] and sent by [`Connection::roundtrip`].
pub struct Connection {
    socket: UnixStream,
    inbox: BytesMut,
    /// The send buffer.
    pub out: BytesMut,
}

/// A row of a result: the body of a DataRow message.
pub struct Row<'a>(&'a [u8]);

impl Connection {
    /// Connects to `database`.
    pub async fn open(address: &Address, database: &str) -> Result<Self> {
        let path = Path::new(&address.host).join(format!(".s.PGSQL.{}", address.port));
        let socket = UnixStream::connect(&path)
            .await
            .map_err(Error::io(format!("cannot connect to {}", path.display())))?;
        let mut connection =
            Self { socket, inbox: BytesMut::with_capacity(INBOX_BYTES), out: BytesMut::new() };
        let parameters = [
            ("user", address.user.as_str()),
            ("database", database),
            ("application_name", "allsource-bench"),
            ("client_min_messages", "warning"),
        ];
        frontend::startup_message(parameters, &mut connection.out)
            .map_err(Error::io("startup message"))?;
        connection.exchange(|_| {}).await?;
        Ok(connection)
    }

    /// Prepares `sql` under `name`; the server infers the parameters' types.
    pub async fn prepare(&mut self, name: &str, sql: &str) -> Result<()> {
        frontend::parse(name, sql, [], &mut self.out).map_err(Error::io("parse message"))?;
        self.roundtrip(|_| {}).await.map(drop)
    }

    /// Runs one or more statements without parameters; returns the rows as text.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        frontend::query(sql, &mut self.out).map_err(Error::io("query message"))?;
        let mut rows = Vec::new();
        self.exchange(|row| rows.push(row.texts())).await?;
        Ok(rows)
    }

    /// The single value of a query that returns one row with one column, as a number.
    pub async fn number(&mut self, sql: &str) -> Result<f64> {
        let rows = self.query(sql).await?;
        let text = rows.first().and_then(|row| row.first()).cloned().flatten();
        text.and_then(|text| text.parse().ok())
            .ok_or_else(|| Error::Protocol(format!("no number from: {sql}")))
    }

    /// Sends what is in the send buffer and a Sync, and reads until the server is ready again.
    /// `on_row` sees every row; returned is their number.
    pub async fn roundtrip(&mut self, on_row: impl FnMut(Row<'_>)) -> Result<u64> {
        frontend::sync(&mut self.out);
        self.exchange(on_row).await
    }

    /// Sends `data`, which is made of complete CopyData messages, by the COPY statement `sql`.
    pub async fn copy_in(&mut self, sql: &str, data: &[u8]) -> Result<()> {
        frontend::query(sql, &mut self.out).map_err(Error::io("query message"))?;
        self.send().await?;
        self.receive(b'G', &mut |_| {}).await?;
        self.socket.write_all(data).await.map_err(Error::io("sending"))?;
        frontend::copy_done(&mut self.out);
        self.exchange(|_| {}).await.map(drop)
    }

    async fn exchange(&mut self, mut on_row: impl FnMut(Row<'_>)) -> Result<u64> {
        self.send().await?;
        self.receive(b'Z', &mut on_row).await
    }

    async fn send(&mut self) -> Result<()> {
        self.socket.write_all(&self.out).await.map_err(Error::io("sending"))?;
        self.out.clear();
        Ok(())
    }

    /// Reads messages up to one with the tag `last`, or ReadyForQuery.
    async fn receive(&mut self, last: u8, on_row: &mut impl FnMut(Row<'_>)) -> Result<u64> {
        let mut rows = 0;
        let mut failure = None;
        loop {
            while let Some(length) = self.complete_message()? {
                let tag = self.inbox[0];
                let body = &self.inbox[HEADER_BYTES..length];
                match tag {
                    b'D' => {
                        rows += 1;
                        on_row(Row(body));
                    }
                    b'E' => failure = Some(server_error(body)),
                    b'R' if body != [0; 4] => {
                        return Err(Error::Protocol(
                            "it wants a password (trust is needed)".into(),
                        ));
                    }
                    _ => {}
                }
                self.inbox.advance(length);
                if tag == last || tag == b'Z' {
                    return failure.map_or(Ok(rows), Err);
                }
            }
            self.inbox.reserve(INBOX_BYTES);
            let count =
                self.socket.read_buf(&mut self.inbox).await.map_err(Error::io("reading"))?;
            if count == 0 {
                return Err(failure.unwrap_or(Error::Protocol("it closed the connection".into())));
            }
        }
    }

    /// The length of the message at the inbox's start, once all of it is there.
    fn complete_message(&self) -> Result<Option<usize>> {
        let Some(header) = self.inbox.get(1..HEADER_BYTES) else {
            return Ok(None);
        };
        let length = 1 + be_u32(header) as usize;
        if length < HEADER_BYTES {
            return Err(Error::Protocol(format!("a message of {length} bytes")));
        }
        Ok((self.inbox.len() >= length).then_some(length))
    }
}

impl Row<'_> {
    /// The `bigint` in the given column of a binary row; NULL gives None.
    pub fn i64(&self, column: usize) -> Option<i64> {
        let bytes = self.values().nth(column).flatten()?;
        bytes.try_into().ok().map(i64::from_be_bytes)
    }

    fn texts(&self) -> Vec<Option<String>> {
        self.values().map(|value| value.map(|v| String::from_utf8_lossy(v).into_owned())).collect()
    }

    fn values(&self) -> impl Iterator<Item = Option<&[u8]>> {
        let mut rest = &self.0[2..];
        std::iter::from_fn(move || {
            let (length, behind) = rest.split_at_checked(4)?;
            let length = usize::try_from(be_u32(length) as i32).ok();
            let (value, behind) = behind.split_at_checked(length.unwrap_or(0))?;
            rest = behind;
            Some(length.map(|_| value))
        })
    }
}

fn be_u32(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |number, &byte| number << 8 | u32::from(byte))
}

/// An ErrorResponse: fields of a letter and a text each.
fn server_error(body: &[u8]) -> Error {
    let field = |letter: u8| {
        body.split(|&byte| byte == 0)
            .find(|field| field.first() == Some(&letter))
            .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
    };
    let mut message = field(b'M').unwrap_or_default();
    if let Some(detail) = field(b'D') {
        message = format!("{message} ({detail})");
    }
    Error::Server { sqlstate: field(b'C').unwrap_or_default(), message }
}
