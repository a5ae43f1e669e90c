//! The sidecar, as long as there are hot partitions.
#![expect(unsafe_code, reason = "asks PostgreSQL who it is")]

use super::ITSELF;
use crate::codec::record::Home;
use crate::drain::backoff::Backoff;
use crate::pg::session::xact::database_oid;
use crate::pg::sidecar::Index;
use pgrx::pg_sys;
use std::time::{Duration, Instant};

/// How often it is written to its files.
const FLUSH_INTERVAL: Duration = Duration::from_secs(10);

/// How often it is asked how large it is.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// The sidecar. If it fails, the settler goes on without it, and opens it again later.
pub struct Sidecar {
    pub index: Index,
    /// whether batches were applied since it was written to its files
    pub has_applied: bool,
    next_flush: Instant,
    next_look: Instant,
    next_attempt: Instant,
    backoff: Backoff,
    last_error: String,
}

impl Sidecar {
    /// Opens the sidecar of a store.
    pub fn open(store: u32) -> Self {
        // SAFETY: constants of the server.
        let (system, timeline) =
            unsafe { (pg_sys::GetSystemIdentifier(), pg_sys::GetWALInsertionTimeLine()) };
        let home = Home { database: database_oid(), incarnation: store };
        let now = Instant::now();
        let sidecar = Self {
            index: Index::open(system, timeline, home),
            has_applied: false,
            next_flush: now + FLUSH_INTERVAL,
            next_look: now,
            next_attempt: now,
            backoff: Backoff::default(),
            last_error: String::new(),
        };
        sidecar.note_emptied();
        sidecar
    }

    /// Why it is not there.
    pub fn error(&self) -> String {
        self.index.error().unwrap_or("it is not there").to_owned()
    }

    /// Makes it empty. Returns whether it is there.
    pub fn rebuild(&mut self) -> bool {
        self.index.rebuild()
    }

    /// Opens it again if it has failed, and it is time for that; writes it to its files now and then.
    /// Returns whether it was opened.
    pub fn keep_open(&mut self) -> bool {
        let now = Instant::now();
        if !self.index.is_there() {
            let error = self.error();
            if error != self.last_error {
                pgrx::log!("{ITSELF} goes on without its sidecar, and will open it again: {error}");
                self.last_error = error;
            }
            if now < self.next_attempt {
                return false;
            }
            self.next_attempt = now + self.backoff.failed();
            let is_open = self.index.reopen();
            if is_open {
                self.note_emptied();
            }
            return is_open;
        }
        // What fails here closes it, which is seen the next time.
        if self.has_applied && now >= self.next_flush {
            self.has_applied = self.index.begin_flush().is_err();
            self.next_flush = now + FLUSH_INTERVAL;
            self.backoff.succeeded();
            self.last_error.clear();
        }
        if now >= self.next_look {
            let _ = self.index.statistics();
            self.next_look = now + LOOK_INTERVAL;
        }
        false
    }

    fn note_emptied(&self) {
        if let Some(reason) = self.index.emptied() {
            pgrx::log!("{ITSELF} makes its sidecar anew: {reason}");
        }
    }
}
