//! What can go wrong while measuring. Nothing is retried: a run with an error has no result.

/// An error of the harness.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written, or the event loop not be started.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The server refused a statement, or its connection failed.
    #[error(transparent)]
    Postgres(#[from] tokio_postgres::Error),
    /// A client's task ended without a result.
    #[error("a client died: {0}")]
    Died(#[from] tokio::task::JoinError),
    /// A workload got another result than it must get, so that its figure would mean nothing.
    #[error("{workload}: expected {expected}, got {found}")]
    WrongResult {
        /// The workload's name.
        workload: &'static str,
        /// What the answer must be.
        expected: String,
        /// What it was.
        found: String,
    },
    /// Another store refused a request.
    #[error("{0}")]
    Peer(String),
    /// A flag cannot be used.
    #[error("{0}; see --help")]
    Usage(#[from] lexopt::Error),
}

/// The result type of the harness.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Turns an I/O error into ours, naming what was being done.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }

    /// `found` where it is what `workload` must get.
    pub fn unless_equal<T: PartialEq + std::fmt::Display>(
        workload: &'static str,
        expected: T,
        found: T,
    ) -> Result<()> {
        if expected == found {
            return Ok(());
        }
        Err(Self::WrongResult {
            workload,
            expected: expected.to_string(),
            found: found.to_string(),
        })
    }
}
