//! The member's side of a cluster: which partitions this server may write and read, and what the
//! coordinator asks it for. What is decided is in [`cluster`](crate::cluster); here are the tables, the
//! locks, and the parts of PostgreSQL that copy a partition.
//!
//! | file | noun |
//! | --- | --- |
//! | `owners` | what the tables say, remembered until they change |
//! | `request` | a request of the coordinator that changes a row of `partition_owners` |
//! | `membership` | joining and leaving |
//! | `link` | publication, slot and subscription, by which a partition is copied |
//! | `copy` | emptying a copy, and comparing two |
//! | `report` | what the member tells the coordinator |

pub mod copy;
pub mod link;
pub mod membership;
pub mod owners;
pub mod report;
pub mod request;
