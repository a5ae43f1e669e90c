//! Moving a partition from one group to another, while it is written to.
//!
//! An *executor* on the coordinator reads the record of the move, asks source and target how they are, asks
//! [`next`] for the step, does it, and begins again. It may die between any two of these, and another goes
//! on from what is recorded. Two may run at the same time: the record is changed only by who has read it as
//! it is, and members compare what they are asked with what they know
//! ([`member`](super::member)), so that a request which arrives late does no harm.
//!
//! ```text
//! recorded → prepared → published → subscribed → caught up → drained → checked → fenced ─┐
//!    └─────────────────────────── each of these ────────────────────────────────┘         │
//!                                       │                                                 │
//!                                       │ cancelled, or the copy was lost or differs      ▼
//! returned ← taken back ← returning ←───┴─────────────────────────────── compared ← replayed
//!                             ▲                                              │
//!                             │ the target has refused                       ▼
//!                         refusing ←───────────── cancelled ───────────── raised
//!                             │ the target owns                              │
//!                             ▼                                              │
//! done ← unlinked ← released ← given ←───────────────────────────────────────┘
//! ```
//!
//! The move's epoch is n, one above that of the source. Who may write, and what a request that is under way
//! can still do:
//!
//! | phase | source | target | next step |
//! | --- | --- | --- | --- |
//! | recorded | owned, n − 1 | foreign | receive: empty what is left of an earlier copy |
//! | prepared | owned, n − 1 | foreign, n | publish |
//! | published | owned, n − 1 | foreign, n | subscribe |
//! | subscribed | owned, n − 1 | foreign, n | wait for the copy, and until little is missing |
//! | caught up | owned, n − 1 | foreign, n | drain |
//! | drained | owned, n − 1 | foreign, n | check: compare what is there by now |
//! | checked | owned or fenced, n − 1 | foreign, n | fence |
//! | fenced | fenced, n − 1 | foreign, n | wait until the target has everything |
//! | replayed | fenced, n − 1 | foreign, n | compare the rest |
//! | compared | fenced, n − 1 | foreign, n | raise the counter |
//! | raised | fenced, n − 1 | foreign or owned, n | give |
//! | given | fenced, n − 1, or foreign, n | owned, n | release |
//! | released | foreign, n | owned, n | unsubscribe, unpublish |
//! | unlinked | foreign, n | owned, n | empty the source's copy, later |
//! | refusing | fenced, n − 1 | foreign, n or n + 1, or owned, n | refuse |
//! | returning | owned or fenced, n − 1, or owned, n + 1 | foreign, up to n + 1 | take back |
//! | taken back | owned, n + 1 | foreign, up to n + 1 | refuse, unsubscribe, empty the copy, unpublish |
//!
//! What the executor has to keep to:
//!
//! - It acts only on what is durable. What can be read need not be: who has written it may have died, or been
//!   cancelled, while it waited for the synchronous standby, and a failover undoes it. So record and rows
//!   are read in a transaction that also writes something, and are believed when that has been committed.
//! - It asks the members after it has read the record, and forgets what it has seen, comparisons included,
//!   when the record has changed.
//! - It changes the record only if epoch *and* phase are still those that it has read.
//! - If the source has been fenced for too long, it cancels the move, as anybody may at any time.
//!
//! The invariants, which the tests check in all reachable states of a model:
//!
//! 1. The target is given the partition only when the source has been fenced, durably, and both have been
//!    compared. The source gets it back only when the target cannot be given it any more: because no
//!    executor has come as far as *raised*, or because the target has refused, durably. So there are never
//!    two owners, and nothing that was acknowledged is missing where the partition is written.
//! 2. Every move uses up epochs, also one that goes back. So no request of an earlier move fits a row of a
//!    later one.
//! 3. From each phase the move goes on or goes back once both members can be reached. It goes back without
//!    the target before *raised*, and on without the source after *compared* up to *given*.

mod back;
mod forward;
mod next;
pub mod observation;
pub mod phase;
pub mod record;
mod seen;
pub mod step;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use next::next;
