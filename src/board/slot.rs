//! A slot: one question and its answer.
//!
//! ```text
//!            asker                        server
//!   free ───► claimed ───► asked ───────► taken ───────► answered
//!     ▲       writes the     │      reads the question,      │
//!     │       question       │      writes the answer        │ reads the answer
//!     │                      │            │                  │
//!     ├──────────────────────┴────────────┼──────────────────┘   the asker gives it back
//!     │                                   ▼ the asker gives up
//!     └───────────────────────────── abandoned                   the server frees it
//! ```
//!
//! One word says in which of these phases a slot is, and how often it has been claimed. All changes
//! compare and exchange it, so none is made to the slot of a later asker. Whoever may write question or
//! answer follows from the phase: the asker in *claimed*, the server in *taken* and *abandoned*. A slot
//! is not claimed again before the server has let go of it, so no answer gets to a later asker.
#![expect(unsafe_code, reason = "lives in shared memory")]

use super::answer::{Answer, StoredAnswer};
use super::futex;
use super::question::{Question, StoredQuestion};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What a slot is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Phase {
    /// Nobody's.
    Free = 0,
    /// Its asker writes the question.
    Claimed = 1,
    /// It waits for the server.
    Asked = 2,
    /// The server is about it.
    Taken = 3,
    /// It waits for its asker.
    Answered = 4,
    /// The server is about it, and its asker has given up.
    Abandoned = 5,
}

const PHASE_BITS: u32 = 3;

/// How often a slot has been claimed. It comes again after half a billion times, and nobody waits so
/// long.
pub type Generation = u32;

/// A slot. Zeroed memory is a free one.
#[repr(C, align(128))]
pub struct Slot {
    /// Generation and phase. Acquire and Release on it order question and answer with their phases.
    word: AtomicU32,
    question: UnsafeCell<StoredQuestion>,
    answer: UnsafeCell<StoredAnswer>,
}

// SAFETY: the phases keep accesses apart.
unsafe impl Sync for Slot {}

fn word(generation: Generation, phase: Phase) -> u32 {
    generation << PHASE_BITS | phase as u32
}

impl Slot {
    /// Claims the slot, if it is free.
    pub fn claim(&self) -> Option<Generation> {
        let found = self.word.load(Ordering::Relaxed);
        let generation = found >> PHASE_BITS;
        if found != word(generation, Phase::Free) {
            return None;
        }
        let claimed = (generation + 1) & u32::MAX >> PHASE_BITS;
        let to = word(claimed, Phase::Claimed);
        self.word
            .compare_exchange(found, to, Ordering::Acquire, Ordering::Relaxed)
            .ok()
            .map(|_| claimed)
    }

    /// Goes on from one phase to the next, if the slot is in the first.
    fn advance(&self, generation: Generation, from: Phase, to: Phase) -> bool {
        let (from, to) = (word(generation, from), word(generation, to));
        self.word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Writes the question into a slot that the caller has claimed, and shows it to the server.
    pub fn ask(&self, generation: Generation, question: &Question<'_>) {
        debug_assert!(self.is(generation, Phase::Claimed));
        // SAFETY: claimed by the caller.
        unsafe { (*self.question.get()).write(question) };
        self.advance(generation, Phase::Claimed, Phase::Asked);
    }

    /// Sleeps until the slot is answered, but not longer than this. Says whether it is.
    pub fn wait_for_answer(&self, generation: Generation, longest: Duration) -> bool {
        let found = self.word.load(Ordering::Acquire);
        if found != word(generation, Phase::Answered) && !longest.is_zero() {
            futex::wait(&self.word, found, longest);
        }
        self.is(generation, Phase::Answered)
    }

    fn is(&self, generation: Generation, phase: Phase) -> bool {
        self.word.load(Ordering::Acquire) == word(generation, phase)
    }

    /// Reads the answer in a slot that [`Self::wait_for_answer`] has found answered.
    pub fn read_answer<T>(&self, read: impl FnOnce(Answer<'_>) -> T) -> T {
        // SAFETY: nobody writes while it is answered, and its asker has not given it back.
        read(unsafe { (*self.answer.get()).read() })
    }

    /// Gives back a slot, whatever it is in. Says whether it is free now; if not, the server frees it.
    pub fn give_back(&self, generation: Generation) -> bool {
        loop {
            for phase in [Phase::Answered, Phase::Asked, Phase::Claimed] {
                if self.advance(generation, phase, Phase::Free) {
                    return true;
                }
            }
            if self.advance(generation, Phase::Taken, Phase::Abandoned) {
                return false;
            }
            // Taken or answered meanwhile; or it was given back before.
            let found = self.word.load(Ordering::Acquire);
            let is_done = [Phase::Free, Phase::Abandoned].map(|phase| word(generation, phase));
            if found >> PHASE_BITS != generation || is_done.contains(&found) {
                return false;
            }
        }
    }

    /// Takes the question of a slot that waits for the server.
    pub fn take(&self) -> Option<Generation> {
        let generation = self.word.load(Ordering::Relaxed) >> PHASE_BITS;
        self.advance(generation, Phase::Asked, Phase::Taken).then_some(generation)
    }

    /// The question of a slot that the caller has taken; `None` if it is none.
    pub fn question(&self) -> Option<Question<'_>> {
        // SAFETY: nobody writes it while the slot is taken or abandoned.
        unsafe { (*self.question.get()).read() }
    }

    /// Writes the answer into a slot that the caller has taken, and lets go of it. Says whether the slot
    /// is free now, because its asker has given up.
    pub fn answer(&self, generation: Generation, answer: &Answer<'_>) -> bool {
        // SAFETY: taken by the caller, and nobody reads it before it is answered.
        unsafe { (*self.answer.get()).write(answer) };
        if self.advance(generation, Phase::Taken, Phase::Answered) {
            futex::wake_one(&self.word);
            return false;
        }
        self.advance(generation, Phase::Abandoned, Phase::Free)
    }

    /// Takes over what a server that is gone had taken.
    pub fn take_over(&self) -> Option<Generation> {
        let generation = self.word.load(Ordering::Acquire) >> PHASE_BITS;
        let is_left = self.is(generation, Phase::Taken) || self.is(generation, Phase::Abandoned);
        is_left.then_some(generation)
    }

    /// Whether it is nobody's.
    pub fn is_free(&self) -> bool {
        self.word.load(Ordering::Relaxed) & ((1 << PHASE_BITS) - 1) == Phase::Free as u32
    }
}
