//! Which workloads are measured beside which, and with how many clients.

use std::rc::Rc;

use crate::append::Append;
use crate::append_batch::AppendBatch;
use crate::baseline_copy::{COPY_BINARY, COPY_TEXT, Copy};
use crate::baseline_insert::{BARE_INSERT, BareInsert};
use crate::bench::Bench;
use crate::error::Result;
use crate::history::{self, History};
use crate::import::{Import, SESSIONS};
use crate::messagedb::{MESSAGE_DB, MESSAGE_DB_DATABASE, MessageDb};
use crate::read_all::{PLAIN_READ_ALL, ReadAll};
use crate::read_stream::{MESSAGE_DB_READ, PLAIN_READ, ReadStream};
use crate::relational::{RELATIONAL, RELATIONAL_BULK, Relational};
use crate::rounds::{Entry, Group};
use crate::store::Store;
use crate::workload::Workload;

/// What the others are put in relation to.
pub const BASELINES: [&str; 9] = [
    BARE_INSERT,
    RELATIONAL,
    MESSAGE_DB,
    COPY_TEXT,
    COPY_BINARY,
    RELATIONAL_BULK,
    PLAIN_READ,
    MESSAGE_DB_READ,
    PLAIN_READ_ALL,
];

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
    let store = Store::new(bench);
    let (relational, relational_bulk) = Relational::both(bench);
    let single = Single {
        insert: Rc::new(BareInsert::new(bench)),
        relational: Rc::new(relational),
        message_db: with_message_db.then(|| Rc::new(MessageDb::new(bench)) as _),
        append: with_store.then(|| Rc::new(Append::one(&store)) as _),
    };
    let mut groups = vec![
        single.group("single-1", 1),
        single.group("single-8", 8),
        single.group("single-64", 64),
        bulk(bench, with_store.then_some(&store), Rc::new(relational_bulk)),
    ];
    if with_store {
        groups.push(import(&store));
    }
    groups.extend(reads(bench, with_store, with_message_db));
    groups.retain(wanted);
    Ok(groups)
}

/// One event per transaction; the same workloads for each number of clients.
struct Single {
    insert: Rc<dyn Workload>,
    relational: Rc<dyn Workload>,
    message_db: Option<Rc<dyn Workload>>,
    append: Option<Rc<dyn Workload>>,
}

impl Single {
    fn group(&self, name: &'static str, clients: usize) -> Group {
        let all = [
            Some(&self.insert),
            Some(&self.relational),
            self.message_db.as_ref(),
            self.append.as_ref(),
        ];
        let entries =
            all.into_iter().flatten().map(|w| Entry { workload: Rc::clone(w), clients }).collect();
        Group { name, entries }
    }
}

fn bulk(bench: &Rc<Bench>, store: Option<&Rc<Store>>, relational: Rc<dyn Workload>) -> Group {
    let mut entries = vec![
        Entry { workload: Rc::new(Copy::text(bench)), clients: COPY_SESSIONS },
        Entry { workload: Rc::new(Copy::binary(bench)), clients: COPY_SESSIONS },
        Entry { workload: relational, clients: RELATIONAL_BULK_CLIENTS },
    ];
    if let Some(store) = store {
        let many: Rc<dyn Workload> = Rc::new(Append::many(store));
        let batch: Rc<dyn Workload> = Rc::new(AppendBatch::new(store));
        for workload in [many, batch] {
            entries.extend(
                BULK_CLIENTS.map(|clients| Entry { workload: Rc::clone(&workload), clients }),
            );
        }
    }
    Group { name: "bulk", entries }
}

fn import(store: &Rc<Store>) -> Group {
    let entries = Import::all(store)
        .into_iter()
        .map(|import| Entry { workload: Rc::new(import), clients: SESSIONS })
        .collect();
    Group { name: "import", entries }
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
    let group = |name, workloads: &[Rc<dyn Workload>], clients| Group {
        name,
        entries: workloads.iter().map(|w| Entry { workload: Rc::clone(w), clients }).collect(),
    };
    vec![
        group("read-1", &streams, 1),
        group("read-8", &streams, 8),
        group("read-64", &streams, 64),
        group("read-all", &in_order, READ_ALL_CLIENTS),
    ]
}
