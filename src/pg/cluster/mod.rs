//! The member's side of a cluster: which partitions this server may write and read, and what the
//! coordinator asks it for. What is decided is in [`cluster`](crate::cluster); here are the tables, the
//! locks, and the parts of PostgreSQL that copy a partition.
//!
//! | file | noun |
//! | --- | --- |
//! | `owners` | what the tables say, remembered until they change |
//! | `gate` | the lock that those who enqueue share, and that keeps them out |
//! | `row` | the row of `partition_owners` that a request is about |
//! | `request` | what the coordinator asks for that changes it |
//! | `closing` | ending what is enqueued, before the fence |
//! | `membership` | joining and leaving |
//! | `link` | publication, slot and subscription, by which a partition is copied |
//! | `copy` | emptying a copy, and what is in it |
//! | `summary` | what two copies are compared by |
//! | `report` | what the member tells the coordinator |

mod closing;
pub mod copy;
pub mod gate;
pub mod link;
pub mod membership;
pub mod owners;
pub mod report;
pub mod request;
pub mod row;
pub mod summary;
