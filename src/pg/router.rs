//! The usual path of a routed call: who owns the partition, by the map that is remembered until the table changes,
//! and asking that group on the connection that is open already. Everything unusual is for the script of
//! `allsource_router`.
#![expect(unsafe_code, reason = "asks who the caller is")]

use crate::model::partition::{PARTITIONS, Partition};
use crate::pg::error::Error;
use crate::pg::link::{self, Outcome};
use crate::pg::session::xact::with_snapshot_of_now;
use crate::pg::settings;
use crate::pg::tables::query::{Access, execute_as_owner};
use crate::pg::tables::remembered::{Remembered, report_change};
use pgrx::pg_sys;
use std::ffi::CStr;
use std::time::Duration;

/// The table with the map.
const ROUTES: &str = "routes";

const ROWS: &CStr = c"SELECT r.partition_id, r.group_id FROM allsource.routes r";

/// The owners' groups.
type Map = [Option<i32>; PARTITIONS];

thread_local! {
    static MAP: Remembered<Map> = const { Remembered::new() };
}

/// The group that owns a partition, if the map has one.
pub fn owner(partition: Partition) -> Result<Option<i32>, Error> {
    MAP.with(|known| {
        let part = |map: &Map| map[partition.index()];
        match known.known(part) {
            Some(owner) => Ok(owner),
            None => Ok(part(&known.read(&[ROUTES], || with_snapshot_of_now(|_| read()))?)),
        }
    })
}

fn read() -> Result<Map, Error> {
    let mut map = [None; PARTITIONS];
    execute_as_owner(ROUTES, ROWS, &[], Access::Read, |row| {
        let int4 = |column| row.get(column).map(|value| value.value() as i32);
        if let Some(partition) = int4(1).and_then(Partition::new) {
            map[partition.index()] = int4(2);
        }
        Ok(())
    })?;
    Ok(map)
}

/// Makes all sessions read the map again when this transaction has committed.
pub fn map_changed() -> Result<(), Error> {
    report_change(ROUTES)
}

/// The name of the caller's connection to a group; `None`: to the coordinator. Two users, or a user with two roles,
/// never share one: the session's user, and what he has set as his role, are what nobody else can set for him.
pub fn connection(group_id: Option<i32>) -> String {
    // SAFETY: reads the session's state.
    let (user, role) = unsafe { (pg_sys::GetSessionUserId(), pg_sys::GetCurrentRoleId()) };
    let group = group_id.map_or("coordinator".to_owned(), |group_id| group_id.to_string());
    format!("allsource {group} {} {}", user.to_u32(), role.to_u32())
}

/// Has a statement done by a group, on the connection that is open. `is_undoable`, `may_repeat`: what a caller who is
/// cancelled is told of it.
///
/// Errors: 57014.
pub fn ask(
    group_id: i32,
    statement: pg_sys::Datum,
    is_undoable: bool,
    may_repeat: bool,
) -> Result<Outcome, Error> {
    let timeout = Duration::from_millis(settings::route_timeout_ms() as u64);
    let outcome = link::ask(connection(Some(group_id)).as_bytes(), statement, timeout);
    match outcome {
        Outcome::Cancelled(message) => {
            let is_harmless = !is_undoable && may_repeat;
            Err(Error::RouteCancelled { message, group_id, is_harmless, may_repeat })
        }
        outcome => Ok(outcome),
    }
}
