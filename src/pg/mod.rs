//! The only boundary to PostgreSQL. Only `api` calls it.
//!
//! Its rooms, each of which knows only those before it:
//!
//! | room | what is in it |
//! | --- | --- |
//! | `error`, `settings` | the errors of the boundary, with SQLSTATEs and messages; `allsource.*` |
//! | `session` | what the transaction allows; memory for one step of a loop |
//! | `shared` | areas and locks in shared memory, latches, counting |
//! | `call` | a SQL function's arguments and result |
//! | `tables` | relations, scans, insertion, rights; heads, runs, dead letters and waiting events as they are stored |
//! | `positions` | assigning positions, and the safe one |
//! | `queue` | the queues in shared memory, and those who wait for a worker |
//! | `sidecar` | asking the sidecar for the tail of a stream; owning it |
//! | `hot` | batches of hot partitions, and the tails of streams in them |
//! | `cluster` | which partitions this server may write and read, and what a coordinator asks it for |
//! | `write` | append, enqueue, flush |
//! | `read` | one stream, the whole store, what is wrong with it |
//! | `watch` | metrics and health |
//! | `link` | connections to other servers, of routers and the coordinator |
//! | `router` | the usual path of a routed call |
//! | `worker` | the background processes |
//! | `coordinator` | the process that carries on moves of partitions |
//! | `settler` | the process that settles hot partitions, and how it is asked to |
//!
//! A backend is single-threaded, and every function here runs on its main thread. An error that
//! PostgreSQL raises unwinds as a panic to the SQL function's entry, which hands it back; whatever
//! was opened until then is released by PostgreSQL when the transaction aborts.

pub mod call;
pub mod cluster;
pub mod coordinator;
pub mod error;
pub mod hot;
pub mod link;
pub mod positions;
pub mod queue;
pub mod read;
pub mod router;
pub mod session;
pub mod settings;
pub mod settler;
pub mod shared;
pub mod sidecar;
pub mod tables;
pub mod watch;
pub mod worker;
pub mod write;

/// Called once when the library is loaded.
pub fn init() {
    settings::init();
    shared::memory::init([
        &positions::registry::AREA,
        &queue::AREA,
        &shared::counting::AREA,
        &tables::head_places::AREA,
        &hot::filter::AREA,
        &hot::control::AREA,
        &sidecar::AREA,
    ]);
    worker::launcher::init();
    coordinator::init();
    tables::names::init();
}
