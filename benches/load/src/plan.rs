//! Which workloads are measured beside which, and with how many clients.

use std::rc::Rc;

use crate::bench::Bench;
use crate::data::MESSAGE_DB_DATABASE;
use crate::data::history::Copy;
use crate::data::rows::SESSIONS;
use crate::error::Result;
use crate::measure::rounds::Group;
use crate::payload::Size;
use crate::workload::*;

/// What the others are put in relation to.
pub const BASELINES: [&str; 19] = [
    BARE_INSERT,
    RELATIONAL,
    MESSAGE_DB,
    COPY_TEXT,
    COPY_BINARY,
    RELATIONAL_BULK,
    INSERT_SELECT,
    PLAIN_READ,
    MESSAGE_DB_READ,
    PLAIN_READ_ALL,
    SCATTERED[0],
    TAKE_IN[0],
    TAKE_IN_SMALL[0],
    READ_BESIDE[0],
    ORDINARY[0][0],
    ORDINARY[1][0],
    ORDINARY[2][0],
    ROUTED_APPEND[0],
    ROUTED_READ[0],
];

/// The groups of one event per transaction, with their numbers of clients.
pub const SINGLE: [(&str, usize); 3] = [("single-1", 1), ("single-8", 8), ("single-64", 64)];

/// Many events per transaction.
pub const BULK: &str = "bulk";

/// Single events through the queue, from as many clients as the name says.
pub const ENQUEUE_64: &str = "enqueue-64";

/// Batches through the queue, with both sizes of payloads.
pub const ENQUEUE_BATCH: [(&str, Size); 2] =
    [("enqueue-batch", Size::Full), ("enqueue-batch-small", Size::Small)];

/// One event of each stream at a time through the queue, with both sizes of payloads.
pub const ENQUEUE_SCATTER: [(&str, Size); 2] =
    [("enqueue-scattered", Size::Full), ("enqueue-scattered-small", Size::Small)];

/// Appending beside a full queue.
pub const UNDER_LOAD: &str = "append-under-load";

/// What all groups of hot partitions begin with. They run only where they are asked for: they need
/// another server.
pub const HOT: &str = "hot-";

/// Clients of [`READ_BESIDE`] and [`ORDINARY`].
pub const HOT_CLIENTS: usize = 8;

/// Clients of [`ENQUEUE_64`].
pub const ENQUEUE_CLIENTS: usize = 64;

/// What all groups begin with that compare a router. They run only where they are asked for, too.
pub const ROUTED: &str = "routed-";

/// Those of [`ROUTED_APPEND`] and [`ROUTED_READ`], with their numbers of clients.
pub const ROUTED_GROUPS: [([&str; 2], usize); 2] =
    [(["routed-append-1", "routed-read-1"], 1), (["routed-append-8", "routed-read-8"], 8)];

const READS: [(&str, usize); 3] = [("read-1", 1), ("read-8", 8), ("read-64", 64)];
const BULK_CLIENTS: [usize; 3] = [2, 4, 8];
const COPY_SESSIONS: usize = 2;
const RELATIONAL_BULK_CLIENTS: usize = 4;
const READ_ALL_CLIENTS: usize = 2;

/// The groups that the command line asks for, in the order in which they run.
pub async fn groups(bench: &Bench) -> Result<Vec<Group>> {
    let options = &bench.options;
    let with_message_db = bench.server.has_database(MESSAGE_DB_DATABASE).await?;
    if !with_message_db {
        println!("message-db is not installed on this server: not measured");
    }
    let mut single = vec![bare_insert(options.streams), relational(options.streams)];
    if with_message_db {
        single.push(message_db(options.streams));
    }
    let mut bulk = vec![
        (copy_text(Size::Full), COPY_SESSIONS),
        (copy_binary(), COPY_SESSIONS),
        (relational_bulk(options.streams), RELATIONAL_BULK_CLIENTS),
    ];
    let mut queue = Vec::new();
    if !options.baselines {
        single.push(append(bench));
        bulk.extend(with_each(&append_many(bench)));
        bulk.extend(with_each(&append_batch(bench)));
        queue = through_the_queue(bench, &single[0]);
    }
    let mut groups: Vec<_> =
        SINGLE.iter().map(|(name, clients)| group(name, &single, *clients)).collect();
    groups.push(Group { name: BULK, entries: bulk });
    if !options.baselines {
        groups.push(group("import", &imports(bench), SESSIONS));
    }
    groups.extend(queue);
    groups.extend(reads(bench, with_message_db));
    if !options.baselines {
        groups.extend(hot(bench));
        let routed = [routed_append(bench), routed_read(bench)];
        for (names, clients) in ROUTED_GROUPS {
            let named = names.into_iter().zip(&routed);
            groups.extend(named.map(|(name, both)| group(name, both, clients)));
        }
    }
    groups.retain(|group| match options.only.as_slice() {
        [] => [HOT, ROUTED].iter().all(|apart| !group.name.starts_with(apart)),
        parts => parts.iter().any(|part| group.name.contains(part)),
    });
    Ok(groups)
}

fn through_the_queue(bench: &Bench, insert: &Rc<Workload>) -> Vec<Group> {
    let singles = [Rc::clone(insert), append(bench), enqueue(bench), enqueue_durable(bench)];
    let prepared = enqueue_prepared(bench);
    let under_load = [append(bench), append_under_load(bench, Rc::clone(&prepared))];
    let mut groups = vec![group(ENQUEUE_64, &singles, ENQUEUE_CLIENTS)];
    for (name, size) in ENQUEUE_BATCH {
        let mut entries = vec![(copy_text(size), COPY_SESSIONS)];
        entries.extend(with_each(&enqueue_batch(bench, size)));
        groups.push(Group { name, entries });
    }
    groups.push(group("enqueue-import", &[prepared, enqueue_aggregated(bench)], SESSIONS));
    for (name, size) in ENQUEUE_SCATTER {
        let both = [insert_select(size, bench.options.streams), enqueue_scattered(bench, size)];
        groups.push(group(name, &both, SESSIONS));
    }
    groups.push(group(UNDER_LOAD, &under_load, 1));
    groups
}

fn reads(bench: &Bench, with_message_db: bool) -> Vec<Group> {
    let mut copies = vec![Copy::Plain];
    if !bench.options.baselines {
        copies.extend([Copy::Singles, Copy::Runs]);
    }
    let all: Vec<_> = copies.iter().map(|copy| read_all(*copy)).collect();
    if with_message_db {
        copies.insert(1, Copy::MessageDb);
    }
    let streams: Vec<_> = copies.iter().map(|copy| read_stream(bench, *copy)).collect();
    let mut groups: Vec<_> =
        READS.iter().map(|(name, clients)| group(name, &streams, *clients)).collect();
    groups.push(group("read-all", &all, READ_ALL_CLIENTS));
    groups
}

fn hot(bench: &Bench) -> Vec<Group> {
    let mut batches = take_in(&enqueue_batch(bench, Size::Full), TAKE_IN);
    batches.insert(0, beside_hot(&copy_text(Size::Full)));
    let small = take_in(&enqueue_prepared(bench), TAKE_IN_SMALL);
    let names = ["hot-idle-append", "hot-idle-read", "hot-idle-enqueue"];
    let ordinary = names.into_iter().zip(ordinary());
    // Those come first that autovacuum, busy with what others have left, would disturb most.
    let mut groups: Vec<_> = ordinary.map(|(name, both)| group(name, &both, HOT_CLIENTS)).collect();
    groups.extend([
        group("hot-read", &read_beside(bench), HOT_CLIENTS),
        group("hot-take-in", &batches, SESSIONS),
        group("hot-take-in-small", &small, SESSIONS),
        group("hot-scattered", &scattered(bench), SESSIONS),
    ]);
    groups
}

/// All `workloads` with the same number of clients.
fn group(name: &'static str, workloads: &[Rc<Workload>], clients: usize) -> Group {
    let entries = workloads.iter().map(|workload| (Rc::clone(workload), clients)).collect();
    Group { name, entries }
}

/// `workload` with each number of clients of the bulk groups.
fn with_each(workload: &Rc<Workload>) -> impl Iterator<Item = (Rc<Workload>, usize)> {
    BULK_CLIENTS.iter().map(|clients| (Rc::clone(workload), *clients))
}
