//! What the coordinator's SQL asks the decisions of this folder, and what they answer, as JSON: rows of its
//! tables and of what members have told, as `to_jsonb` writes them.

mod health;
mod moving;
mod plan;

pub use health::examine;
pub use moving::{cancel, next_step};
pub use plan::{PlanRow, StandingRow, plan};

use crate::cluster::epoch::Epoch;
use crate::cluster::group::GroupId;
use crate::cluster::ownership::{Ownership, State};
use crate::model::partition::Partition;
use thiserror::Error;

/// Why a question has no answer: the coordinator's tables, or what was told, have something that cannot be.
#[derive(Debug, Error)]
pub enum Unreadable {
    /// It is not the JSON that was expected.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A value is none of those that there are.
    #[error("there is no {what} {value}")]
    Value {
        /// what it should be
        what: &'static str,
        /// what it is
        value: String,
    },
}

fn read<T>(what: &'static str, value: impl ToString, found: Option<T>) -> Result<T, Unreadable> {
    found.ok_or_else(|| Unreadable::Value { what, value: value.to_string() })
}

fn group(number: i32) -> Result<GroupId, Unreadable> {
    read("group", number, GroupId::new(number))
}

fn epoch(number: i64) -> Result<Epoch, Unreadable> {
    read("epoch", number, Epoch::new(number))
}

fn partition(number: i32) -> Result<Partition, Unreadable> {
    read("partition", number, Partition::new(number))
}

fn ownership(state: &str, number: i64, owner: i32) -> Result<Ownership, Unreadable> {
    let state = read("state", state, State::from_name(state))?;
    Ok(Ownership { state, epoch: epoch(number)?, owner: group(owner)? })
}

/// A `pg_lsn`, as in `16/B374D848`.
fn lsn(text: &str) -> Result<u64, Unreadable> {
    let parse = |half: &str| u32::from_str_radix(half, 16).ok().map(u64::from);
    let value = text.split_once('/').and_then(|(high, low)| Some(parse(high)? << 32 | parse(low)?));
    read("pg_lsn", text, value)
}

fn lsn_text(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_the_wal() {
        for (text, value) in
            [("0/0", 0), ("16/B374D848", 0x16_B374_D848), ("FFFFFFFF/FFFFFFFF", u64::MAX)]
        {
            assert_eq!(lsn(text).unwrap(), value);
            assert_eq!(lsn_text(value), text);
        }
        for wrong in ["", "1", "1/", "/1", "1/G", "1/1/1", "100000000/0"] {
            assert!(lsn(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_is_named() {
        assert_eq!(group(4096).unwrap_err().to_string(), "there is no group 4096");
        assert_eq!(ownership("mine", 1, 1).unwrap_err().to_string(), "there is no state mine");
        assert_eq!(epoch(0).unwrap_err().to_string(), "there is no epoch 0");
        assert_eq!(partition(32).unwrap_err().to_string(), "there is no partition 32");
    }
}
