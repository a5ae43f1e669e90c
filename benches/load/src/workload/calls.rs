//! Clients that make the same call over and over: a prepared statement, each time with other
//! arguments, whose answer is known beforehand.

use async_trait::async_trait;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client as Session, Statement};

use crate::bench::Bench;
use crate::error::{Error, Result};
use crate::streams::Seat;
use crate::workload::{About, Client, Connect};

/// A statement, and who makes a client's calls of it.
pub struct Calls<F> {
    /// The statement.
    pub sql: String,
    /// Makes the function that gives the arguments of a client's next call.
    pub caller: F,
}

/// The arguments of a call, and what it must do.
pub struct Call {
    /// In the order of the statement's parameters.
    pub arguments: Vec<Box<dyn ToSql + Sync>>,
    /// Events that it writes or reads.
    pub events: usize,
    /// What it must return.
    pub answer: Answer,
}

/// What a call must return.
pub enum Answer {
    /// So many rows, returned or written; they are counted, and not looked at.
    Rows(usize),
    /// One row with this number.
    Number(usize),
}

struct Caller<N> {
    name: &'static str,
    session: Session,
    statement: Statement,
    next: N,
}

#[async_trait(?Send)]
impl<F, N> Connect for Calls<F>
where
    F: Fn(&'static Bench, Seat) -> N,
    N: FnMut() -> Call + 'static,
{
    async fn connect(
        &self,
        bench: &'static Bench,
        about: About,
        seat: Seat,
    ) -> Result<Box<dyn Client>> {
        let session = bench.server.connect(about.database).await?;
        let statement = session.prepare(&self.sql).await?;
        let next = (self.caller)(bench, seat);
        Ok(Box::new(Caller { name: about.name, session, statement, next }))
    }
}

#[async_trait(?Send)]
impl<N: FnMut() -> Call> Client for Caller<N> {
    async fn step(&mut self) -> Result<u64> {
        let Call { arguments, events, answer } = (self.next)();
        let (expected, found) = match answer {
            Answer::Rows(rows) => {
                (rows, self.session.execute_raw(&self.statement, arguments).await?)
            }
            Answer::Number(number) => {
                let arguments: Vec<_> =
                    arguments.iter().map(|argument| &**argument as &(dyn ToSql + Sync)).collect();
                let found: i64 = self.session.query_one_scalar(&self.statement, &arguments).await?;
                (number, found.unsigned_abs())
            }
        };
        Error::unless_equal(self.name, expected as u64, found)?;
        Ok(events as u64)
    }
}
