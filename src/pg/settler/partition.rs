//! What the settler knows of a partition.

use super::pass::{Behind, Pass};
use crate::drain::backoff::Backoff;
use crate::drain::thermostat::Thermostat;
use crate::model::partition::Partition;
use crate::pg::hot::map::HotPartition;
use pgrx::pg_sys;
use std::collections::VecDeque;
use std::time::Instant;

/// What the settler knows of a partition.
pub struct OfPartition {
    pub partition: Partition,
    pub known: Option<HotPartition>,
    pub pass: Option<Pass>,
    /// what the last pass has left, if the next one is to begin behind it
    pub behind: Option<Behind>,
    /// whether the next pass is not one for the second settler
    pub must_pass_here: bool,
    /// when it is looked at again, if nothing happens before
    pub due: Instant,
    pub backoff: Backoff,
    pub thermostat: Thermostat,
    /// what may be forgotten when no snapshot shows it any more
    pub forgettable: VecDeque<Forgettable>,
    /// whether the sidecar was compared with the table since it was opened
    pub is_compared: bool,
}

/// What was removed by a transaction.
#[derive(Clone, Copy)]
pub struct Forgettable {
    pub transaction: pg_sys::TransactionId,
    /// up to which batch nothing is left
    pub settled: i64,
    /// up to which batch only what passes have left is in the table
    pub forgotten: i64,
}

impl OfPartition {
    /// Nothing yet.
    pub fn new(partition: Partition) -> Self {
        Self {
            partition,
            known: None,
            pass: None,
            behind: None,
            must_pass_here: false,
            due: Instant::now(),
            backoff: Backoff::default(),
            thermostat: Thermostat::default(),
            forgettable: VecDeque::new(),
            is_compared: false,
        }
    }
}
