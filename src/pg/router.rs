//! What a router's functions, which are written in plpgsql, cannot find out by themselves: whether they run in
//! a transaction block, and when an answer comes on a connection of `dblink`.
//!
//! `dblink` can say whether an answer is there, but not wait for it with a limit, and libpq, which it uses,
//! does not tell others its sockets. So the sockets of this process are looked at before and after a
//! connection is made: what is new is the connection's. If that is ever not exactly one, nothing is
//! remembered, and waiting is a short sleep. Whoever waits asks `dblink` again, so that a wrong
//! socket could cost time and nothing else.
#![expect(unsafe_code, reason = "waits with PostgreSQL's functions, and looks at file descriptors")]

use crate::pg::session::xact::check_for_interrupts;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::c_int;
use std::mem;
use std::time::Duration;

/// The sleep in place of waiting on a socket that is not known.
const PAUSE: Duration = Duration::from_millis(1);

#[derive(Default)]
struct Sockets {
    /// Those that were open when a connection was begun.
    before: BTreeSet<c_int>,
    /// Those of connections, by the connections' names.
    of_connections: BTreeMap<Vec<u8>, c_int>,
}

thread_local! {
    static SOCKETS: RefCell<Sockets> = RefCell::default();
}

/// Whether what this call does can be undone by a ROLLBACK that is still to come: it is in a transaction block,
/// one that several statements of one message make, or a subtransaction.
pub fn in_transaction_block() -> bool {
    // SAFETY: reads the transaction's state.
    unsafe { pg_sys::IsTransactionBlock() }
}

/// Is called before a connection is made.
pub fn connecting() {
    let open = open_sockets();
    SOCKETS.with_borrow_mut(|sockets| sockets.before = open);
}

/// Is called when the connection `name` was made after [`connecting`].
pub fn connected(name: &[u8]) {
    let open = open_sockets();
    SOCKETS.with_borrow_mut(|sockets| {
        let mut new = open.difference(&sockets.before);
        match (new.next(), new.next()) {
            (Some(&socket), None) => sockets.of_connections.insert(name.to_vec(), socket),
            _ => sockets.of_connections.remove(name),
        };
    });
}

/// Waits until something has come on the connection `name`, which includes its end, but not longer than
/// `longest`. A cancelled statement ends here.
pub fn wait(name: &[u8], longest: Duration) {
    let socket = SOCKETS.with_borrow(|sockets| sockets.of_connections.get(name).copied());
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
fn open_sockets() -> BTreeSet<c_int> {
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
