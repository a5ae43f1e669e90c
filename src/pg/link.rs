//! Connections to other servers, for routers and the coordinator: those of `dblink`, whose library is called
//! by the names of its functions, and waiting for what comes on one.
//!
//! `dblink` can say whether an answer is there, but not wait for it with a limit, and libpq, which it uses,
//! does not tell others its sockets. So the sockets of this process are looked at before and after a
//! connection is made: what is new is the connection's. If that is ever not exactly one, nothing is
//! remembered, and waiting is a short sleep. Whoever waits asks `dblink` again, so that a wrong
//! socket could cost time and nothing else.
#![expect(
    unsafe_code,
    reason = "calls functions of PostgreSQL and dblink, and looks at file descriptors"
)]

mod ask;

pub use ask::{Outcome, ask};

use crate::pg::call::Call;
use crate::pg::error::Error;
use crate::pg::session::xact::check_for_interrupts;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, c_int};
use std::time::Duration;
use std::{mem, ptr};

/// The sleep in place of waiting on a socket that is not known.
const PAUSE: Duration = Duration::from_millis(1);

/// A function of `dblink`.
type Function = unsafe extern "C-unwind" fn(pg_sys::FunctionCallInfo) -> pg_sys::Datum;

thread_local! {
    /// The connections that were made, by name, with their sockets where these are known.
    static SOCKETS: RefCell<BTreeMap<Vec<u8>, Option<c_int>>> = RefCell::default();
    /// Functions that were looked up, which takes a look at the file of the library each time.
    static FUNCTIONS: RefCell<BTreeMap<&'static CStr, Function>> = RefCell::default();
}

/// Calls a function of the library of `dblink` with the arguments, and for the result, of `call`. The extension
/// `dblink` need not be there: its functions let everybody use all connections of a session.
///
/// Errors: 58P01 the library is not installed, and what the function raises.
pub fn dblink(call: &Call, function: &'static CStr) -> Result<Option<pg_sys::Datum>, Error> {
    let function = look_up(function);
    let fcinfo = call.fcinfo();
    // SAFETY: a function that is written for the function manager. Where its caller wants a set, it finds that in
    // the structure that is handed on.
    unsafe {
        let result = pg_sys::ffi::pg_guard_ffi_boundary(|| function(fcinfo));
        Ok((!(*fcinfo).isnull).then_some(result))
    }
}

fn look_up(function: &'static CStr) -> Function {
    if let Some(found) = FUNCTIONS.with_borrow(|functions| functions.get(function).copied()) {
        return found;
    }
    // SAFETY: names of a library and a function of it, which is what the type says. A library that was loaded
    // stays.
    let found: Function = unsafe {
        mem::transmute(pg_sys::load_external_function(
            c"$libdir/dblink".as_ptr(),
            function.as_ptr(),
            true,
            ptr::null_mut(),
        ))
    };
    FUNCTIONS.with_borrow_mut(|functions| functions.insert(function, found));
    found
}

/// Remembers the socket of the connection `name`, which was made since `before` was asked for.
pub fn remember(name: &[u8], before: &BTreeSet<c_int>) {
    let open = open_sockets();
    SOCKETS.with_borrow_mut(|sockets| {
        let mut new = open.difference(before);
        let socket = match (new.next(), new.next()) {
            (Some(&socket), None) => Some(socket),
            _ => None,
        };
        sockets.insert(name.to_vec(), socket);
    });
}

/// Forgets a connection that is to be closed.
pub fn forget(name: &[u8]) {
    SOCKETS.with_borrow_mut(|sockets| sockets.remove(name));
}

/// Whether a connection was made, and not closed by us.
fn is_made(name: &[u8]) -> bool {
    SOCKETS.with_borrow(|sockets| sockets.contains_key(name))
}

/// Waits until something has come on the connection `name`, which includes its end, but not longer than
/// `longest`. A cancelled statement ends here.
pub fn wait(name: &[u8], longest: Duration) {
    let socket = SOCKETS.with_borrow(|sockets| sockets.get(name).copied().flatten());
    let longest = if socket.is_some() { longest } else { longest.min(PAUSE) };
    let mut events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    if socket.is_some() {
        events |= pg_sys::WL_SOCKET_READABLE;
    }
    let no_socket = pg_sys::PGINVALID_SOCKET;
    // SAFETY: waits on this process's own latch, and on a file descriptor of this process or, if it was closed
    // meanwhile, none, which is an error of PostgreSQL's.
    let woken = unsafe {
        pg_sys::WaitLatchOrSocket(
            pg_sys::MyLatch,
            events as c_int,
            socket.unwrap_or(no_socket),
            i64::try_from(longest.as_millis()).unwrap_or(i64::MAX),
            pg_sys::PG_WAIT_EXTENSION,
        )
    };
    if woken as u32 & pg_sys::WL_LATCH_SET != 0 {
        // SAFETY: this process's own latch.
        unsafe { pg_sys::ResetLatch(pg_sys::MyLatch) };
        check_for_interrupts();
    }
}

/// The file descriptors of this process that are sockets.
pub fn open_sockets() -> BTreeSet<c_int> {
    (0..highest_descriptor()).filter(|&descriptor| is_socket(descriptor)).collect()
}

/// PostgreSQL opens at most `max_files_per_process` files at a time, the lowest numbers first.
fn highest_descriptor() -> c_int {
    // SAFETY: a plain variable of this process.
    unsafe { pg_sys::max_files_per_process }
}

fn is_socket(descriptor: c_int) -> bool {
    let mut kind: c_int = 0;
    let mut size = mem::size_of::<c_int>() as libc::socklen_t;
    // SAFETY: asks the kernel about a number, which need not be an open file.
    unsafe {
        libc::getsockopt(
            descriptor,
            libc::SOL_SOCKET,
            libc::SO_TYPE,
            (&raw mut kind).cast(),
            &raw mut size,
        ) == 0
    }
}
