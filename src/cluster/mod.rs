//! A store that is spread over groups of servers, without I/O: who may write a partition, where partitions
//! belong, how one is moved, and what is wrong. `pg` keeps the tables, and asks the servers.
//!
//! | module | noun |
//! | --- | --- |
//! | [`group`], [`epoch`] | the numbers of a group, and of a partition's owners in turn |
//! | [`ownership`] | what a member knows of a partition, and whether it may write it |
//! | [`member`] | what a move does to that |
//! | [`moving`] | moving a partition: what is recorded, and the next step |
//! | [`assignment`] | which partitions should move where |
//! | [`health`] | what is wrong with a cluster |
//! | [`json`] | the questions and answers as the SQL of the coordinator writes them |
//! | [`connection`] | what may be told of a connection that could not be made |

pub mod assignment;
pub mod connection;
pub mod epoch;
pub mod group;
pub mod health;
pub mod json;
pub mod member;
pub mod moving;
pub mod ownership;
