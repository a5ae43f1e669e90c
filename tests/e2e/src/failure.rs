//! What the server answered where it refused.

use postgres::Error;

/// Wrong expected version, or a conflict under a stricter isolation level.
pub const SERIALIZATION_FAILURE: &str = "40001";
/// Two transactions wait for each other.
pub const DEADLOCK: &str = "40P01";
/// An event id that is there already with another content.
pub const DUPLICATE_ID: &str = "23505";
/// A bad argument.
pub const BAD_ARGUMENT: &str = "22023";
/// Not preloaded, not ready.
pub const NOT_IN_STATE: &str = "55000";
/// More than the queue can take, or than a call may have.
pub const TOO_LARGE: &str = "54000";
/// The queue was full for too long.
pub const QUEUE_FULL: &str = "53000";
/// There was no memory for it.
pub const OUT_OF_MEMORY: &str = "53200";
/// Cancelled, or not done in time.
pub const CANCELLED: &str = "57014";
/// There is no such thing.
pub const UNDEFINED: &str = "42704";
/// The caller lacks a right.
pub const NOT_ALLOWED: &str = "42501";
/// Not possible here.
pub const NOT_SUPPORTED: &str = "0A000";
/// A write on a standby or in a read-only transaction.
pub const READ_ONLY: &str = "25006";

/// The SQLSTATE of `error`, or `"(connection)"` where the server did not get to answer.
pub fn sqlstate(error: &Error) -> &str {
    error.code().map_or("(connection)", |code| code.code())
}

/// Whether `error` means that the connection is lost, not that the statement was refused:
/// closed by the network, by an administrator (57P01), by a crash of another server process
/// (57P02), or not accepted because the server is starting or stopping (57P03).
pub fn is_disconnect(error: &Error) -> bool {
    error.code().is_none_or(|code| code.code().starts_with("57P"))
}

/// The SQLSTATE of the failure that `result` must be.
///
/// # Panics
/// Where it is a success, or no answer of the server.
pub fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.expect_err("the server should have refused");
    assert!(error.code().is_some(), "the connection broke instead of a refusal: {error}");
    sqlstate(&error).to_owned()
}

/// Message, DETAIL and HINT of a refusal in one line, for the output of a failing test.
pub fn describe(error: &Error) -> String {
    match error.as_db_error() {
        None => format!("(connection) {error}"),
        Some(db) => format!(
            "{}: {}; detail: {}; hint: {}",
            db.code().code(),
            db.message(),
            db.detail().unwrap_or("-"),
            db.hint().unwrap_or("-")
        ),
    }
}
