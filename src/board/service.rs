//! Who serves.

use crate::codec::record::Home;
use std::sync::atomic::{AtomicU32, Ordering};

/// Who serves, and whether somebody does. Zeroed memory: nobody.
#[repr(C, align(64))]
pub struct Service {
    /// How often somebody has begun to serve, and in the lowest bit whether somebody does.
    word: AtomicU32,
    database: AtomicU32,
    incarnation: AtomicU32,
}

const SERVING: u32 = 1;

/// A time of serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term(u32);

impl Service {
    /// Begins to serve a store. Nobody else must serve.
    pub fn begin(&self, home: Home) {
        self.end();
        // Relaxed: a question names its store, and the server compares once more.
        self.database.store(home.database, Ordering::Relaxed);
        self.incarnation.store(home.incarnation, Ordering::Relaxed);
        let before = self.word.load(Ordering::Relaxed);
        // Partner: the load in `of`.
        self.word.store(before.wrapping_add(2) | SERVING, Ordering::Release);
    }

    /// From here on nobody is asked.
    pub fn end(&self) {
        self.word.fetch_and(!SERVING, Ordering::AcqRel);
    }

    /// The term in which a store is served, if it is.
    pub fn of(&self, home: Home) -> Option<Term> {
        let word = self.word.load(Ordering::Acquire);
        let served = Home {
            database: self.database.load(Ordering::Relaxed),
            incarnation: self.incarnation.load(Ordering::Relaxed),
        };
        (word & SERVING != 0 && served == home).then_some(Term(word))
    }

    /// Whether this term goes on.
    pub fn is(&self, term: Term) -> bool {
        self.word.load(Ordering::Acquire) == term.0
    }

    /// Whether somebody serves any store.
    pub fn is_served(&self) -> bool {
        self.word.load(Ordering::Relaxed) & SERVING != 0
    }
}
