//! Positions: assigning them, and the safe one, here and on a standby.

pub mod counter;
pub mod recorded;
pub mod registry;
pub mod sequence;
pub mod stream_numbers;
pub mod transaction;
