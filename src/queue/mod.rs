//! A ring of records in shared memory: many processes put in, one takes out.
//!
//! Bulk ingestion passes events through it. Nothing here knows PostgreSQL: the caller provides the
//! memory, and does the sleeping and waking. The memory contains offsets and lengths only, no pointers,
//! so each process may have it mapped at another address.
//!
//! | file | noun |
//! | --- | --- |
//! | `ring` | the ring, and putting records in; the algorithm is described there |
//! | `consumer` | taking records out |
//! | `capacity`, `entry` | sizes; the word that says what is where |
//! | `memory`, `model_memory` | the bytes: as they are, and for the model checkers |
//! | `heap_ring` | a ring in a process's own memory, for tests and benches |
//! | `wake` | when a sleeping consumer has to be woken |
//!
//! Invariants: a record is seen whole or not at all; exactly once, unless a consumer is replaced
//! before it has released it; in the order of its producer's calls. Loom and shuttle check this
//! (`scripts/queue.sh`): with `--cfg loom` and `--cfg shuttle` the atomics are theirs.

mod capacity;
mod consumer;
mod entry;
mod heap_ring;
#[cfg(not(any(loom, shuttle)))]
mod memory;
#[cfg(any(loom, shuttle))]
#[path = "model_memory.rs"]
mod memory;
#[cfg(all(test, not(any(loom, shuttle))))]
mod reference_tests;
mod ring;
mod wake;

pub use capacity::Capacity;
pub use consumer::Consumer;
pub use heap_ring::HeapRing;
pub use ring::{PushError, Ring};
pub use wake::WakeFlag;
