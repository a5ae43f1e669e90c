//! A statement that is sent, and its answer waited for, in one step: what takes several calls of SQL functions
//! otherwise.
#![expect(unsafe_code, reason = "calls functions of dblink, and quiets a notice of one")]

use super::{forget, is_made, look_up, wait};
use crate::pg::call::datum::body;
use crate::pg::session::raised::{Caught, catch};
use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use std::ffi::CStr;
use std::panic::resume_unwind;
use std::time::{Duration, Instant};

/// A wait that is not woken is repeated, so that nothing depends on being woken.
const PIECE: Duration = Duration::from_secs(1);

/// What has become of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not sent: the connection is not open, or cannot take it.
    Unsent,
    /// Its result is there.
    Answered,
    /// Its error is there.
    Failed,
    /// Its answer has not come in time.
    Silent,
    /// The caller was cancelled, by an error with this message. The connection is closed, and the statement goes on.
    Cancelled(String),
}

impl Outcome {
    /// As the scripts call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unsent => "unsent",
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Silent | Self::Cancelled(_) => "silent",
        }
    }
}

/// Has a statement, a text, done on the connection whose name is the text `connection`.
///
/// Raises what ends the session, or the caller for another reason than a cancel.
pub fn ask(connection: pg_sys::Datum, statement: pg_sys::Datum, longest: Duration) -> Outcome {
    // SAFETY: a text.
    let name = unsafe { body(connection) };
    if !is_made(name) {
        return Outcome::Unsent;
    }
    // The first takes the end of the last answer, or why the other side has closed; the second notices then that
    // it has.
    let busy = || Some(is_busy(connection)? || is_busy(connection)?);
    if busy() != Some(false) || !is_sent(connection, statement) {
        return Outcome::Unsent;
    }
    let begun = Instant::now();
    loop {
        let rest = longest.saturating_sub(begun.elapsed());
        if rest.is_zero() {
            return Outcome::Silent;
        }
        if let Some(message) = cancelled(|| wait(name, rest.min(PIECE))) {
            forget(name);
            call(c"dblink_disconnect", &[connection]);
            return Outcome::Cancelled(message);
        }
        if is_busy(connection) != Some(true) {
            break;
        }
    }
    // SAFETY: a text.
    let message = unsafe { body(call(c"dblink_error_message", &[connection])) };
    if message == b"OK" { Outcome::Answered } else { Outcome::Failed }
}

/// `None`: there is no such connection, as somebody has closed it who has the extension `dblink`.
fn is_busy(connection: pg_sys::Datum) -> Option<bool> {
    let busy = caught(PgSqlErrorCode::ERRCODE_CONNECTION_DOES_NOT_EXIST, || {
        call(c"dblink_is_busy", &[connection])
    });
    busy.ok().map(|busy| busy.value() as i32 != 0)
}

fn is_sent(connection: pg_sys::Datum, statement: pg_sys::Datum) -> bool {
    // What cannot be sent is sent on a new connection, so the notice about it is of no use to the caller.
    // SAFETY: a plain variable of this process, which is put back; what is called raises no error.
    unsafe {
        let told = pg_sys::client_min_messages;
        pg_sys::client_min_messages = told.max(pg_sys::WARNING as i32);
        let sent = call(c"dblink_send_query", &[connection, statement]);
        pg_sys::client_min_messages = told;
        sent.value() as i32 == 1
    }
}

/// The message of the cancel that has ended `f`.
fn cancelled(f: impl FnOnce()) -> Option<String> {
    caught(PgSqlErrorCode::ERRCODE_QUERY_CANCELED, f).err()
}

/// Runs `f`, which must leave nothing behind that only the end of a transaction takes away, and returns the message of
/// an error of this class. Others are raised.
fn caught<T>(code: PgSqlErrorCode, f: impl FnOnce() -> T) -> Result<T, String> {
    catch(f).map_err(|caught| match caught {
        Caught::Raised(raised) if raised.code() == code => raised.message().into_owned(),
        Caught::Raised(raised) => raised.raise_again(),
        Caught::Panic(payload) => resume_unwind(payload),
    })
}

/// Calls a function of `dblink` that returns no set and no NULL.
fn call(function: &'static CStr, arguments: &[pg_sys::Datum]) -> pg_sys::Datum {
    let function = Some(look_up(function));
    let none = pg_sys::InvalidOid;
    // SAFETY: each function is called with the arguments that it declares.
    unsafe {
        match *arguments {
            [first, second] => pg_sys::DirectFunctionCall2Coll(function, none, first, second),
            [first, ..] => pg_sys::DirectFunctionCall1Coll(function, none, first),
            [] => pg_sys::Datum::from(0),
        }
    }
}
