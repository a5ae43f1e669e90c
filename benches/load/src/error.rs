//! What can go wrong while measuring. Nothing is retried: a run with an error has no result.

/// An error of the harness.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket failed, or a file could not be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The server refused a statement.
    #[error("the server answered {sqlstate}: {message}")]
    Server {
        /// Five characters.
        sqlstate: String,
        /// The primary message, with the detail where there is one.
        message: String,
    },
    /// The server sent something that this client does not speak.
    #[error("unexpected answer of the server: {0}")]
    Protocol(String),
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
    /// A flag or a file given on the command line cannot be used.
    #[error("{0}")]
    Usage(String),
}

/// The result type of the harness.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Turns an I/O error into ours, naming what was being done.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }
}
