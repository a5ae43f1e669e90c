//! The server's side. One process serves at a time.

use super::Board;
use super::answer::{Answer, Unanswered};
use super::question::Question;
use super::slot::Generation;
use crate::codec::record::Home;
use std::time::Duration;

/// A question that the server is about. If it is dropped, the asker is told that there is no answer.
#[must_use]
pub struct Taken {
    board: &'static Board,
    slot: usize,
    generation: Generation,
}

impl Board {
    /// Begins to serve a store. The server before has to have ended: its threads are gone. What it had
    /// taken is answered.
    pub fn open(&'static self, home: Home) {
        for (number, slot) in self.slots.iter().enumerate() {
            if let Some(generation) = slot.take_over() {
                drop(Taken { board: self, slot: number, generation });
            }
        }
        self.service.begin(home);
    }

    /// From here on nobody asks. What was asked still has to be taken, and what was taken answered.
    pub fn close(&self) {
        self.service.end();
    }

    /// Whether somebody serves.
    pub fn is_served(&self) -> bool {
        self.service.is_served()
    }

    /// What was asked since the last call. All of it has to be gone through: it is not given again.
    pub fn take(&'static self) -> impl Iterator<Item = Taken> {
        self.bell.take().filter_map(move |slot| {
            let generation = self.slots[slot].take()?;
            Some(Taken { board: self, slot, generation })
        })
    }

    /// Sleeps until something is asked or [`Self::ring`] is called, but not longer than this. `is_wanted`
    /// looks whether there is something else to do; what it looks at is changed before it rings. Only
    /// one thread may call it.
    pub fn sleep(&self, longest: Duration, is_wanted: impl FnOnce() -> bool) {
        self.bell.sleep(longest, is_wanted);
    }

    /// Wakes the thread that sleeps.
    pub fn ring(&self) {
        self.bell.ring();
    }

    /// Whether no slot is in use.
    pub fn is_idle(&self) -> bool {
        self.slots.iter().all(super::slot::Slot::is_free)
    }
}

impl Taken {
    /// The question; `None` if it is none.
    pub fn question(&self) -> Option<Question<'_>> {
        self.board.slots[self.slot].question()
    }

    /// Answers it.
    pub fn answer(self, answer: &Answer<'_>) {
        self.write(answer);
        std::mem::forget(self);
    }

    fn write(&self, answer: &Answer<'_>) {
        if self.board.slots[self.slot].answer(self.generation, answer) {
            self.board.room.freed();
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.write(&Answer::Unanswered(Unanswered::Away));
    }
}
