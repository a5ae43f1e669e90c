//! The board: where processes ask the one that has the sidecar open, and get their answers, in shared
//! memory. Nothing here knows PostgreSQL or RocksDB; the memory is its caller's, and nothing in it points
//! anywhere.
//!
//! ```text
//! asker (any process)                       server (threads of one process)
//!   is the store served? no: that is all
//!   claims a slot, writes the question
//!   notes the slot among those asked         takes the slots that were asked
//!   rings                                    reads the question, finds the answer
//!   sleeps on the slot                       writes it, wakes the asker
//!   reads the answer, gives the slot back
//! ```
//!
//! All waits are bounded: an asker that gets no answer in time gives its slot back and helps itself. It
//! does so at once if the server stops. An asker may go at any point; see [`slot`].
//!
//! | file | noun |
//! | --- | --- |
//! | `slot` | a question and its answer, and whose they are when |
//! | `question`, `answer` | as they lie in a slot |
//! | `ask` | the asker's side |
//! | `serve` | the server's side |
//! | `service` | who serves |
//! | `bell` | how the server sleeps and is woken |
//! | `room` | how askers wait for a free slot |
//! | `figures` | what is counted and shown |
//! | `futex` | sleeping on a word |

mod answer;
mod ask;
mod bell;
mod figures;
mod futex;
mod question;
mod room;
mod serve;
mod service;
mod slot;
#[cfg(test)]
mod tests;

pub use answer::{ANSWER_BYTES_MAX, Answer, Unanswered};
pub use ask::Asker;
pub use figures::{Figures, FiguresNow};
pub use question::{Question, Subject};
pub use serve::Taken;

use bell::Bell;
use room::Room;
use service::Service;
use slot::Slot;

/// Questions at the same time: as many as a word has bits.
pub const SLOTS: usize = u64::BITS as usize;

/// The board. Zeroed memory is one that nobody serves.
#[repr(C, align(128))]
pub struct Board {
    service: Service,
    bell: Bell,
    room: Room,
    /// What is counted and shown.
    pub figures: Figures,
    slots: [Slot; SLOTS],
}

impl Board {
    /// The board in this memory.
    ///
    /// # Safety
    ///
    /// `start` must have `size_of::<Board>()` bytes, on a boundary of `align_of::<Board>()`, that were
    /// zeroed when the memory was set up, and that all who use them use as a board, for ever.
    #[expect(unsafe_code, reason = "lives in shared memory")]
    pub unsafe fn at(start: *mut u8) -> &'static Self {
        // SAFETY: by the caller's promise. All of it are atomics and cells.
        unsafe { &*start.cast::<Self>() }
    }
}
