//! End-to-end tests of allsource: a real client, a real server, and kill -9.
//!
//! The tests themselves are in `tests/`, one topic per file. This library is what they share:
//! a private server ([`cluster`]), the public SQL functions as Rust calls ([`calls`], [`bulk`]),
//! several of them ([`routed`], [`coordinated`]), clients at work ([`writer`], [`producer`], [`scattered`]), and the checkers that decide whether what the server holds is right ([`ledger`], [`tailing`],
//! [`seen`], [`hot`], [`reference`]). The checkers have unit tests of their own, because a checker that
//! cannot find a fault proves nothing.
//!
//! All but a few tests go through the functions and views that a user has, and know nothing of
//! how the extension stores anything. Those that do look at tables are about what the tables'
//! owner may do.
//!
//! Environment: `ALLSOURCE_SEED` repeats a run, `ALLSOURCE_E2E_FACTOR` makes every test longer,
//! `ALLSOURCE_CRASH_ROUNDS` and `ALLSOURCE_MODEL_STEPS` one kind of test, `ALLSOURCE_E2E_CLUSTER_MINUTES`
//! that of clusters, `ALLSOURCE_E2E_WAIT_S` bounds each wait, `ALLSOURCE_E2E_KEEP` keeps the server of a failed test, and
//! `ALLSOURCE_E2E_PLAIN_PG_CONFIG` names an installation whose build has no sidecar.

pub mod bulk;
pub mod calls;
pub mod cluster;
pub mod coordinated;
pub mod dump;
pub mod event;
pub mod failure;
pub mod groups;
pub mod hot;
pub mod hot_store;
pub mod ledger;
pub mod load;
pub mod locks;
pub mod patience;
pub mod producer;
pub mod reference;
pub mod routed;
pub mod scattered;
pub mod seed;
pub mod seen;
pub mod severing_proxy;
pub mod sizes;
pub mod small_disk;
pub mod tailing;
pub mod vector;
pub mod writer;

pub use bulk::{Enqueue, EnqueueBatch};
pub use calls::{Append, Batch, BatchItem, ReadAll, ReadStream};
pub use cluster::{Cluster, STORE};
pub use coordinated::Coordinated;
pub use dump::Dump;
pub use event::{Event, NewEvent};
pub use groups::Groups;
pub use hot_store::HotStore;
pub use ledger::{Ledger, Ticket};
pub use load::{Load, Outcome};
pub use producer::{Crew, Producer};
pub use routed::Routed;
pub use scattered::Scattered;
pub use seed::Seed;
pub use seen::Seen;
pub use small_disk::SmallDisk;
pub use tailing::Tail;
pub use vector::VectorTail;
pub use writer::Writer;
