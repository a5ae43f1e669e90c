//! Sessions that wait: for a lock that another one holds, or for a worker.

use postgres::{Client, GenericClient};

use crate::patience;

/// The process that serves a session.
///
/// # Panics
/// Where the server cannot be asked.
pub fn process_of(client: &mut impl GenericClient) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0)
}

/// Returns as soon as a process waits for a lock.
///
/// # Panics
/// Where it does not come to wait for one.
pub fn until_waits(onlooker: &mut Client, pid: i32) {
    let query = "SELECT count(*) FROM pg_locks WHERE pid = $1 AND NOT granted";
    patience::until_true("a process waits for a lock", || {
        onlooker.query_one(query, &[&pid]).expect(query).get::<_, i64>(0) > 0
    });
}

/// Returns as soon as a process sleeps in the extension, as it does while it waits for a worker.
///
/// # Panics
/// Where it does not come to that.
pub fn until_sleeps(onlooker: &mut Client, pid: i32) {
    let query = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 \
                 AND state = 'active' AND wait_event_type = 'Extension'";
    patience::until_true("a process waits for a worker", || {
        onlooker.query_one(query, &[&pid]).expect(query).get::<_, i64>(0) > 0
    });
}
