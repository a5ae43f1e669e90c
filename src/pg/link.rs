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

thread_local! {
    /// Those of connections, by the connections' names.
    static SOCKETS: RefCell<BTreeMap<Vec<u8>, c_int>> = RefCell::default();
}

/// Calls a function of the library of `dblink` with the arguments, and for the result, of `call`. The extension
/// `dblink` need not be there: its functions let everybody use all connections of a session.
///
/// Errors: 58P01 the library is not installed, and what the function raises.
pub fn dblink(call: &Call, function: &CStr) -> Result<Option<pg_sys::Datum>, Error> {
    // SAFETY: names of a library and a function of it, which is written for the function manager. Where its
    // caller wants a set, the function finds that in the structure that is handed on.
    unsafe {
        let found = pg_sys::load_external_function(
            c"$libdir/dblink".as_ptr(),
            function.as_ptr(),
            true,
            ptr::null_mut(),
        );
        let function: unsafe extern "C-unwind" fn(pg_sys::FunctionCallInfo) -> pg_sys::Datum =
            mem::transmute(found);
        let fcinfo = call.fcinfo();
        let result = pg_sys::ffi::pg_guard_ffi_boundary(|| function(fcinfo));
        Ok((!(*fcinfo).isnull).then_some(result))
    }
}

/// Remembers the socket of the connection `name`, which was made since `before` was asked for.
pub fn remember(name: &[u8], before: &BTreeSet<c_int>) {
    let open = open_sockets();
    SOCKETS.with_borrow_mut(|sockets| {
        let mut new = open.difference(before);
        match (new.next(), new.next()) {
            (Some(&socket), None) => sockets.insert(name.to_vec(), socket),
            _ => sockets.remove(name),
        };
    });
}

/// Waits until something has come on the connection `name`, which includes its end, but not longer than
/// `longest`. A cancelled statement ends here.
pub fn wait(name: &[u8], longest: Duration) {
    let socket = SOCKETS.with_borrow(|sockets| sockets.get(name).copied());
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
