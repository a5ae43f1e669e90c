//! The bytes of a run: PostgreSQL's array format, built and taken apart without PostgreSQL, and the
//! checksum over what they hold.

pub mod array;
pub mod checksum;
pub mod run;
