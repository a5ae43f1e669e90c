//! Which workloads are measured beside which, and with how many clients.

use std::rc::Rc;

use crate::append::Append;
use crate::append_batch::AppendBatch;
use crate::baseline_copy::{COPY_BINARY, COPY_TEXT, Copy};
use crate::baseline_insert::{BARE_INSERT, BareInsert};
use crate::bench::Bench;
use crate::error::Result;
use crate::history::{self, History};
use crate::import::{self, Import, SESSIONS};
use crate::messagedb::{MESSAGE_DB, MESSAGE_DB_DATABASE, MessageDb};
use crate::payload::Size;
use crate::prepared::{ENQUEUE_PREPARED, ENQUEUE_SCATTERED, Prepared};
use crate::read_all::{PLAIN_READ_ALL, ReadAll};
use crate::read_stream::{MESSAGE_DB_READ, PLAIN_READ, ReadStream};
use crate::relational::{RELATIONAL, RELATIONAL_BULK, Relational};
use crate::rounds::{Entry, Group};
use crate::scattered::{INSERT_SELECT, InsertSelect, Scattered};
use crate::store::Store;
use crate::under_load::UnderLoad;
use crate::workload::Workload;

/// What the others are put in relation to.
pub const BASELINES: [&str; 10] = [
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

/// Clients of [`ENQUEUE_64`].
pub const ENQUEUE_CLIENTS: usize = 64;

const BULK_CLIENTS: [usize; 3] = [2, 4, 8];
const COPY_SESSIONS: usize = 2;
const RELATIONAL_BULK_CLIENTS: usize = 4;
const READ_ALL_CLIENTS: usize = 2;

/// The groups that the command line asks for, in the order in which they run.
pub async fn groups(bench: &Rc<Bench>) -> Result<Vec<Group>> {
    let options = &bench.options;
    let with_store = !options.baselines;
    let with_message_db = bench.server.has_database(MESSAGE_DB_DATABASE).await?;
    if !with_message_db {
        println!("message-db is not installed on this server: not measured");
    }
    let wanted = |group: &Group| {
        options.only.is_empty() || options.only.iter().any(|part| group.name.contains(part))
    };
    let (relational, relational_bulk) = Relational::both(bench);
    let insert: Rc<dyn Workload> = Rc::new(BareInsert::new(bench));
    let copy: Rc<dyn Workload> = Rc::new(Copy::text(bench, Size::Full));
    let mut single = vec![Rc::clone(&insert), Rc::new(relational)];
    if with_message_db {
        single.push(Rc::new(MessageDb::new(bench)));
    }
    let mut bulk = vec![
        Entry { workload: Rc::clone(&copy), clients: COPY_SESSIONS },
        Entry { workload: Rc::new(Copy::binary(bench)), clients: COPY_SESSIONS },
        Entry { workload: Rc::new(relational_bulk), clients: RELATIONAL_BULK_CLIENTS },
    ];
    let mut of_store = Vec::new();
    if with_store {
        let store = Store::new(bench);
        let append: Rc<dyn Workload> = Rc::new(Append::one(&store));
        single.push(Rc::clone(&append));
        for workload in [Rc::new(Append::many(&store)) as _, Rc::new(AppendBatch::new(&store)) as _]
        {
            bulk.extend(with_each(&workload, &BULK_CLIENTS));
        }
        of_store = with_the_store(bench, &store, insert, append, copy);
    }
    let mut groups: Vec<Group> =
        SINGLE.iter().map(|(name, clients)| Group::of(name, &single, *clients)).collect();
    groups.push(Group { name: BULK, entries: bulk });
    groups.extend(of_store);
    groups.extend(reads(bench, with_store, with_message_db));
    groups.retain(wanted);
    Ok(groups)
}

/// What writes to the store only: the import, and all that goes through the queue.
fn with_the_store(
    bench: &Rc<Bench>,
    store: &Rc<Store>,
    insert: Rc<dyn Workload>,
    append: Rc<dyn Workload>,
    copy: Rc<dyn Workload>,
) -> Vec<Group> {
    let source = import::Source::new(store);
    let imports: Vec<Rc<dyn Workload>> =
        Import::appends(&source).into_iter().map(|import| Rc::new(import) as _).collect();
    let prepared = Rc::new(Prepared::new(ENQUEUE_PREPARED, source.clone()));
    let one_by_one = [
        insert,
        Rc::clone(&append),
        Rc::new(Append::enqueue(store)),
        Rc::new(Append::enqueue_durable(store)),
    ];
    let enqueue_import: [Rc<dyn Workload>; 2] =
        [prepared.clone(), Rc::new(Import::enqueue(&source))];
    let under_load: [Rc<dyn Workload>; 2] =
        [append, Rc::new(UnderLoad::new(Append::one(store), prepared))];
    let mut groups = vec![
        Group::of("import", &imports, SESSIONS),
        Group::of(ENQUEUE_64, &one_by_one, ENQUEUE_CLIENTS),
    ];
    for (name, size) in ENQUEUE_BATCH {
        let copy = match size {
            Size::Full => Rc::clone(&copy),
            Size::Small => Rc::new(Copy::text(bench, size)),
        };
        let enqueue: Rc<dyn Workload> = Rc::new(AppendBatch::enqueue(store, size));
        let mut entries = vec![Entry { workload: copy, clients: COPY_SESSIONS }];
        entries.extend(with_each(&enqueue, &BULK_CLIENTS));
        groups.push(Group { name, entries });
    }
    groups.push(Group::of("enqueue-import", &enqueue_import, SESSIONS));
    for (name, size) in ENQUEUE_SCATTER {
        let rows = Scattered::new(store, size);
        let insert: Rc<dyn Workload> = Rc::new(InsertSelect::new(&rows));
        let enqueue = Rc::new(Prepared::new(ENQUEUE_SCATTERED, rows));
        groups.push(Group::of(name, &[insert, enqueue], SESSIONS));
    }
    groups.push(Group::of(UNDER_LOAD, &under_load, 1));
    groups
}

fn reads(bench: &Rc<Bench>, with_store: bool, with_message_db: bool) -> Vec<Group> {
    let history = |copy| History::new(bench, copy);
    let plain = history(history::Copy::Plain);
    let mut copies = vec![Rc::clone(&plain)];
    let mut in_order: Vec<Rc<dyn Workload>> = vec![Rc::new(ReadAll(plain))];
    if with_message_db {
        copies.push(history(history::Copy::MessageDb));
    }
    if with_store {
        for copy in [history::Copy::Singles, history::Copy::Runs] {
            let history = history(copy);
            in_order.push(Rc::new(ReadAll(Rc::clone(&history))));
            copies.push(history);
        }
    }
    let streams: Vec<Rc<dyn Workload>> =
        copies.into_iter().map(|copy| Rc::new(ReadStream(copy)) as _).collect();
    vec![
        Group::of("read-1", &streams, 1),
        Group::of("read-8", &streams, 8),
        Group::of("read-64", &streams, 64),
        Group::of("read-all", &in_order, READ_ALL_CLIENTS),
    ]
}

/// `workload` with each number of clients.
fn with_each<'a>(
    workload: &'a Rc<dyn Workload>,
    clients: &'a [usize],
) -> impl Iterator<Item = Entry> + 'a {
    clients.iter().map(|clients| Entry { workload: Rc::clone(workload), clients: *clients })
}
