//! The asker's side.

use super::answer::Answer;
use super::question::{Question, StoredQuestion};
use super::service::Term;
use super::slot::Generation;
use super::{Board, SLOTS};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// How long an asker sleeps at most before it looks by itself.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// A process that asks, one question at a time. It remembers the slot that it has, so that this can be
/// given back when the process ends without being unwound.
#[derive(Debug, Default)]
pub struct Asker(Cell<Option<(usize, Generation)>>);

impl Asker {
    /// One that has no slot.
    pub const fn new() -> Self {
        Self(Cell::new(None))
    }

    /// It has this slot.
    pub(super) fn set(&self, slot: usize, generation: Generation) {
        self.0.set(Some((slot, generation)));
    }

    /// Gives back the slot that it has, if it has one.
    pub fn leave(&self, board: &Board) {
        if let Some((slot, generation)) = self.0.take()
            && board.slots[slot].give_back(generation)
        {
            board.room.freed();
        }
    }
}

/// Gives the slot back.
struct Asking<'a> {
    board: &'a Board,
    asker: &'a Asker,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.asker.leave(self.board);
    }
}

impl Board {
    /// Asks, and reads the answer with `read`, if there is one before the deadline. `pause` is called
    /// after each sleep; it may unwind. Without an answer the caller helps itself.
    pub fn ask<T>(
        &self,
        asker: &Asker,
        question: &Question<'_>,
        deadline: Instant,
        pause: impl FnMut(),
        read: impl FnOnce(Answer<'_>) -> T,
    ) -> Option<T> {
        let answer = self.ask_if_served(asker, question, deadline, pause, read);
        self.figures.asked(answer.is_some());
        answer
    }

    fn ask_if_served<T>(
        &self,
        asker: &Asker,
        question: &Question<'_>,
        deadline: Instant,
        mut pause: impl FnMut(),
        read: impl FnOnce(Answer<'_>) -> T,
    ) -> Option<T> {
        let term = self.service.of(question.home)?;
        if !StoredQuestion::has_room_for(question) {
            return None;
        }
        let (number, generation) = self.claim(term, deadline, &mut pause)?;
        asker.set(number, generation);
        let _asking = Asking { board: self, asker };
        let slot = &self.slots[number];
        slot.ask(generation, question);
        self.bell.ask(number);
        while !slot.wait_for_answer(generation, left(deadline)) {
            pause();
            // A server that stops answers what it has seen. It need not have seen this.
            if left(deadline).is_zero() || !self.service.is(term) {
                return None;
            }
        }
        slot.read_answer(|answer| match answer {
            Answer::Unanswered(_) => None,
            answer => Some(read(answer)),
        })
    }

    /// Claims a slot, when there is one.
    fn claim(
        &self,
        term: Term,
        deadline: Instant,
        pause: &mut impl FnMut(),
    ) -> Option<(usize, Generation)> {
        loop {
            if let Some(claimed) = self.claim_free() {
                return Some(claimed);
            }
            if let Some(claimed) = self.room.wait_for(left(deadline), || self.claim_free()) {
                return Some(claimed);
            }
            pause();
            if left(deadline).is_zero() || !self.service.is(term) {
                return None;
            }
        }
    }

    fn claim_free(&self) -> Option<(usize, Generation)> {
        // Processes begin at different slots, so that they seldom try the same.
        let first = std::process::id() as usize;
        (0..SLOTS)
            .map(|number| (first + number) % SLOTS)
            .find_map(|number| Some((number, self.slots[number].claim()?)))
    }
}

/// How long to sleep.
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).min(SLEEP_MAX)
}
