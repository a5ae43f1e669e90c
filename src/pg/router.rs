//! The usual path of a routed call: who owns the partition, by the map that is remembered until the table changes,
//! and asking that group on the connection that is open already. Everything unusual is for the script of
//! `allsource_router`.
#![expect(unsafe_code, reason = "takes texts apart, and asks who the caller is")]

use crate::codec::array::{ArrayReader, ElementType};
use crate::model::partition::{PARTITIONS, Partition};
use crate::pg::call::datum::{body, text};
use crate::pg::call::rows::int4;
use crate::pg::error::Error;
use crate::pg::link::{self, Outcome};
use crate::pg::session::xact::{in_transaction_block, with_snapshot_of_now};
use crate::pg::settings;
use crate::pg::tables::query::{Access, execute, execute_as_owner};
use crate::pg::tables::remembered::{Remembered, report_change};
use pgrx::pg_sys;
use std::ffi::CStr;
use std::time::Duration;

/// The table with the map.
const ROUTES: &str = "routes";

const ROWS: &CStr = c"
    SELECT r.partition_id, r.group_id::pg_catalog.int8 FROM allsource.routes r
     UNION ALL
    SELECT NULL, pg_catalog.hashtextextended(pg_catalog.string_agg(
           pg_catalog.concat(a.group_id, ' ', a.conninfo), '|' ORDER BY a.group_id), 0)
      FROM (SELECT g.group_id, g.conninfo FROM allsource.router_groups g
             UNION ALL
            SELECT -1, c.conninfo FROM allsource.router_coordinator c) AS a (group_id, conninfo)";

/// What the tables say.
#[derive(Clone, Copy)]
struct Map {
    /// the partitions' groups
    owners: [Option<i32>; PARTITIONS],
    /// a hash of all connection strings
    addresses: i64,
}

thread_local! {
    static MAP: Remembered<Map> = const { Remembered::new() };
}

/// What is known of a call.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// whether it does what a ROLLBACK would undo on a store
    pub is_undoable: bool,
    /// whether it can be done twice
    pub may_repeat: bool,
}

/// Statements up to this size are sent without asking before whether the group is there: the kernel takes them at
/// once, while a longer one is sent without a limit of time.
const SHORT_BYTES: usize = 64 * 1024;

const ASK_AGAIN: &CStr = c"SELECT allsource.router_call_again($1, $2, $3, $4, $5, $6, $7, $8)";

/// Refuses what a ROLLBACK of the caller would not undo.
pub fn check_transaction(terms: Terms) -> Result<(), Error> {
    if terms.is_undoable && in_transaction_block() && !settings::route_in_transaction() {
        return Err(Error::RoutedInTransaction);
    }
    Ok(())
}

/// The one group that owns all partitions of an array, by the map; `None`: there is none, or it is not known.
pub fn owner_of_all(partition_ids: Option<&[u8]>) -> Result<Option<i32>, Error> {
    let Some(body) = partition_ids else { return Ok(None) };
    let mut reader = ArrayReader::new(body, ElementType::Int4)?;
    let mut owners = None;
    while reader.remaining() > 0 {
        let number = reader.read()?.and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
        let Some(partition) = number.and_then(Partition::new) else { return Ok(None) };
        let owner = owner(partition)?;
        if owner.is_none() || owners.is_some_and(|others| others != owner) {
            return Ok(None);
        }
        owners = Some(owner);
    }
    Ok(owners.flatten())
}

/// Whether a statement, a text, need not be announced.
pub fn is_short(statement: pg_sys::Datum) -> bool {
    // SAFETY: a text, whose length is part of it in whatever form it is.
    unsafe { pg_sys::toast_raw_datum_size(statement) <= SHORT_BYTES }
}

/// Goes on, in SQL, with a call that was not done at once.
pub fn ask_again(
    arguments: [Option<pg_sys::Datum>; 5],
    group_id: Option<i32>,
    connection: Option<pg_sys::Datum>,
    outcome: &str,
) -> Result<Option<pg_sys::Datum>, Error> {
    let [partition_ids, query, is_undoable, may_repeat, wanted] = arguments;
    let parameters = [
        (pg_sys::INT4ARRAYOID, partition_ids),
        (pg_sys::TEXTOID, query),
        (pg_sys::BOOLOID, is_undoable),
        (pg_sys::BOOLOID, may_repeat),
        (pg_sys::INT4OID, wanted),
        (pg_sys::INT4OID, group_id.and_then(int4)),
        (pg_sys::TEXTOID, connection),
        (pg_sys::TEXTOID, Some(text(outcome.as_bytes()))),
    ];
    let mut name = Vec::new();
    execute(ASK_AGAIN, &parameters, Access::Write, |row| {
        if let Some(value) = row.get(1) {
            // SAFETY: a text, which lives as long as the row.
            name.extend_from_slice(unsafe { body(value) });
        }
        Ok(())
    })?;
    Ok(Some(text(&name)))
}

/// The group that owns a partition, if the map has one.
fn owner(partition: Partition) -> Result<Option<i32>, Error> {
    look(|map| map.owners[partition.index()])
}

fn look<T>(part: impl Fn(&Map) -> T) -> Result<T, Error> {
    MAP.with(|known| match known.known(&part) {
        Some(found) => Ok(found),
        None => Ok(part(&known.read(&[ROUTES], || with_snapshot_of_now(|_| read()))?)),
    })
}

fn read() -> Result<Map, Error> {
    let mut map = Map { owners: [None; PARTITIONS], addresses: 0 };
    execute_as_owner(ROUTES, ROWS, &[], Access::Read, |row| {
        let value = row.get(2).map(|value| value.value() as i64);
        match row.get(1).map(|id| Partition::new(id.value() as i32)) {
            None => map.addresses = value.unwrap_or_default(),
            Some(Some(partition)) => map.owners[partition.index()] = value.map(|id| id as i32),
            Some(None) => {}
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
/// never share one: the session's user, and what he has set as his role, are what nobody else can set for him. A group
/// that has another address is never asked on a connection to the former one, where a server may still be that
/// believes to own all.
pub fn connection(group_id: Option<i32>) -> Result<String, Error> {
    let addresses = look(|map| map.addresses)?;
    // SAFETY: reads the session's state.
    let (user, role) = unsafe { (pg_sys::GetSessionUserId(), pg_sys::GetCurrentRoleId()) };
    let group = group_id.map_or("coordinator".to_owned(), |group_id| group_id.to_string());
    Ok(format!("allsource {group} {} {} {addresses:x}", user.to_u32(), role.to_u32()))
}

/// Has a statement done by a group, on the connection of this name if that is open.
///
/// Errors: 57014.
pub fn ask(
    name: pg_sys::Datum,
    group_id: i32,
    statement: pg_sys::Datum,
    terms: Terms,
) -> Result<Outcome, Error> {
    let timeout = Duration::from_millis(settings::route_timeout_ms() as u64);
    match link::ask(name, statement, timeout) {
        Outcome::Cancelled(message) => {
            let Terms { is_undoable, may_repeat } = terms;
            let is_harmless = !is_undoable && may_repeat;
            Err(Error::RouteCancelled { message, group_id, is_harmless, may_repeat })
        }
        outcome => Ok(outcome),
    }
}
