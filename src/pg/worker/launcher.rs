//! The launcher: a process without a database that starts the workers, and restarts them.
//!
//! Workers are connected to the database that they serve, which must not prevent that it is
//! dropped or copied. So they end when it is wanted, and the launcher, which is not connected to it,
//! checks whether it exists and is wanted, and waits until they can be started again.
#![expect(unsafe_code, reason = "drives PostgreSQL's background processes")]

use crate::drain::backoff::Backoff;
use crate::pg::hot::control::Control;
use crate::pg::queue::Queues;
use crate::pg::settings;
use crate::pg::settings::preloading;
use crate::pg::worker::background::{
    Definition, Termination, database_is_wanted, in_transaction, see_to_signals, set_up_signals,
    sleep,
};
use pgrx::pg_sys;
use std::ffi::CStr;
use std::time::{Duration, Instant};

/// How often the launcher checks the workers when it is not notified of a change.
const LOOK: Duration = Duration::from_secs(1);

/// A worker that has lived this long did not fail at its start.
const LIVED: Duration = Duration::from_secs(1);

/// Registers the launcher where the library is loaded at server start.
pub fn init() {
    // While pg_upgrade runs, only pg_upgrade may write.
    // SAFETY: a plain variable of the postmaster.
    let upgrading = unsafe { pg_sys::IsBinaryUpgrade };
    if !preloading() || upgrading || settings::workers() == 0 {
        return;
    }
    let definition = Definition {
        name: "allsource launcher",
        function: "allsource_launcher_main",
        argument: 0,
        restart_s: Some(1),
        notify_pid: 0,
    };
    // SAFETY: called while the postmaster loads libraries.
    unsafe { pg_sys::RegisterBackgroundWorker(&mut definition.to_pg()) }
}

/// A process that the launcher starts.
#[derive(Clone, Copy)]
enum What {
    /// The worker of the queue of this number.
    Worker(usize),
    /// The process that settles hot partitions.
    Settler,
    /// A process that helps it, when that is asked for.
    SecondSettler,
}

/// A process as the launcher knows it.
struct Started {
    what: What,
    handle: *mut pg_sys::BackgroundWorkerHandle,
    at: Instant,
    backoff: Backoff,
    not_before: Instant,
}

/// The launcher's function.
#[pgrx::pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn allsource_launcher_main(_argument: pg_sys::Datum) {
    set_up_signals(Termination::AtOnce);
    // SAFETY: connects to no database: only the catalogs that all share can be read.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0);
    }
    let Ok(queues) = Queues::open() else { return };
    queues.set_launcher();
    let mut workers: Vec<Started> =
        queues.iter().map(|queue| Started::new(What::Worker(queue.index))).collect();
    workers.extend([What::Settler, What::SecondSettler].map(Started::new));
    let mut quiet = false;
    loop {
        see_to_signals();
        let is_due = |worker: &mut &mut Started| {
            !worker.runs(queues) && worker.is_due() && worker.is_wanted()
        };
        let due: Vec<&mut Started> = workers
            .iter_mut()
            .filter_map(|mut worker| is_due(&mut worker).then_some(worker))
            .collect();
        if !due.is_empty() && database_is_free() {
            for worker in due {
                worker.start(&mut quiet);
            }
        }
        let now = Instant::now();
        let next = workers.iter().map(|worker| worker.not_before).filter(|next| *next > now).min();
        let wait = next.map_or(LOOK, |next| next - now);
        sleep(wait.min(LOOK));
    }
}

impl Started {
    fn new(what: What) -> Self {
        Self {
            what,
            handle: std::ptr::null_mut(),
            at: Instant::now(),
            backoff: Backoff::default(),
            not_before: Instant::now(),
        }
    }

    /// Whether there is such a process.
    fn runs(&self, queues: Queues) -> bool {
        match self.what {
            What::Worker(index) => queues.queue(index).has_worker(),
            What::Settler => Control::get().is_none_or(|control| control.pid().is_some()),
            What::SecondSettler => {
                Control::get().is_none_or(|control| control.pass_request().pid().is_some())
            }
        }
    }

    /// Whether there is something for it to do.
    fn is_wanted(&self) -> bool {
        match self.what {
            What::Worker(_) | What::Settler => true,
            What::SecondSettler => {
                Control::get().is_some_and(|control| control.pass_request().is_asked())
            }
        }
    }

    /// Whether it is to be started now.
    fn is_due(&mut self) -> bool {
        if !self.handle.is_null() {
            let mut pid = 0;
            // SAFETY: a handle that PostgreSQL gave.
            let status = unsafe { pg_sys::GetBackgroundWorkerPid(self.handle, &mut pid) };
            if status != pg_sys::BgwHandleStatus::BGWH_STOPPED {
                return false;
            }
            // SAFETY: allocated by PostgreSQL, and not used after.
            unsafe { pg_sys::pfree(self.handle.cast()) };
            self.handle = std::ptr::null_mut();
            if self.at.elapsed() > LIVED {
                self.backoff.succeeded();
            }
            self.not_before = Instant::now() + self.backoff.failed();
        }
        Instant::now() >= self.not_before
    }

    fn start(&mut self, quiet: &mut bool) {
        let (name, function, argument) = match self.what {
            What::Worker(index) => {
                (format!("allsource worker {index}"), "allsource_worker_main", index)
            }
            What::Settler => ("allsource settler".to_owned(), "allsource_settler_main", 0),
            What::SecondSettler => {
                ("allsource second settler".to_owned(), "allsource_second_settler_main", 0)
            }
        };
        // SAFETY: the structure lives until the call returns; the handle is allocated in memory
        // that lives as long as the process.
        let registered = unsafe {
            let definition = Definition {
                name: &name,
                function,
                argument,
                restart_s: None,
                notify_pid: pg_sys::MyProcPid,
            };
            pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
            pg_sys::RegisterDynamicBackgroundWorker(&mut definition.to_pg(), &mut self.handle)
        };
        self.at = Instant::now();
        if registered {
            *quiet = false;
        } else {
            self.handle = std::ptr::null_mut();
            self.not_before = Instant::now() + self.backoff.failed();
            // Without a second settler there is one.
            let is_missed = !matches!(self.what, What::SecondSettler);
            if is_missed && !std::mem::replace(quiet, true) {
                pgrx::warning!(
                    "allsource: no background process is left for a worker; raise max_worker_processes"
                );
            }
        }
    }
}

/// Whether the workers' database exists, accepts connections and is not wanted.
fn database_is_free() -> bool {
    let name = settings::database();
    let database = in_transaction(|| find_database(&name));
    database.is_ok_and(|database| database.is_some_and(|oid| !database_is_wanted(oid)))
}

/// Finds a database without an index: a process without a database cannot open one before another
/// process has written the file that describes it (pg_internal.init).
fn find_database(name: &CStr) -> Option<pg_sys::Oid> {
    let mut found = None;
    // SAFETY: opened and closed in pairs; rows of pg_database have this structure.
    unsafe {
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        let relation = pg_sys::table_open(pg_sys::DatabaseRelationId, lock);
        let scan = pg_sys::systable_beginscan(
            relation,
            pg_sys::InvalidOid,
            false,
            std::ptr::null_mut(),
            0,
            std::ptr::null_mut(),
        );
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let row = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>();
            if row.datallowconn && CStr::from_ptr(row.datname.data.as_ptr()) == name {
                found = Some(row.oid);
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, lock);
    }
    found
}
