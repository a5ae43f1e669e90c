//! The board in shared memory, and asking on it.
#![expect(unsafe_code, reason = "lives in PostgreSQL's shared memory")]

use crate::board::{Answer, Asker, Board, FiguresNow, Question, Subject};
use crate::codec::record::Home;
use crate::model::batch::StreamKey;
use crate::model::hot::{Batches, Place};
use crate::model::memory::{OutOfMemory, reserve};
use crate::model::partition::Partition;
use crate::pg::error::Error;
use crate::pg::session::xact::check_for_interrupts;
use crate::pg::shared::memory::{ALIGNMENT, Area};
use crate::pg::shared::text::SharedText;
use pgrx::pg_sys;
use std::cell::Cell;
use std::sync::atomic::AtomicPtr;
use std::time::{Duration, Instant};

/// How long an answer is waited for.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The board, and the last error of the process that serves. Zeroed memory is valid.
#[repr(C, align(128))]
pub struct Shared {
    pub board: Board,
    pub error: SharedText,
}

/// The board in shared memory.
pub static AREA: Area = Area {
    name: c"allsource sidecar",
    bytes: || size_of::<Shared>(),
    set_up: |_| {},
    start: AtomicPtr::new(std::ptr::null_mut()),
};

const _: () = assert!(align_of::<Shared>() <= ALIGNMENT);

/// What the processes share, where the library was loaded at server start.
pub fn shared() -> Option<&'static Shared> {
    let start = AREA.start().ok()?;
    // SAFETY: set up before any backend starts; shared memory outlives the process.
    Some(unsafe { &*start.cast::<Shared>() })
}

/// What is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// the store of this database
    pub home: Home,
    /// partition of the stream
    pub partition: Partition,
    /// the stream
    pub stream: StreamKey<'a>,
    /// in which batches
    pub batches: Batches,
}

/// A page of a tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// how many events were appended to the bytes
    pub events: usize,
    /// if there are more: the place after which they come
    pub next: Option<Place>,
}

/// How the sidecar is, for any backend.
#[derive(Clone, Debug)]
pub struct Status {
    /// whether somebody serves
    pub is_served: bool,
    /// what is counted and shown
    pub figures: FiguresNow,
    /// the last thing that has failed
    pub error: Option<String>,
}

thread_local! {
    static ASKER: Asker = const { Asker::new() };
    static LEAVES_AT_EXIT: Cell<bool> = const { Cell::new(false) };
}

/// Appends events of a stream to `out`: those after a place, or from the beginning. `None` if the sidecar
/// is away, behind or too slow, or if the next event is too large for its answers: the caller reads the
/// batches. `out` is then as it was.
pub fn tail(
    query: &Query<'_>,
    after: Option<Place>,
    out: &mut Vec<u8>,
) -> Result<Option<Page>, Error> {
    let page = ask(query, Subject::Tail { after }, |answer| match answer {
        Answer::Tail { bytes, events, next } => {
            reserve(out, bytes.len())?;
            out.extend_from_slice(bytes);
            Ok(Some(Page { events, next }))
        }
        _ => Ok::<_, OutOfMemory>(None),
    });
    Ok(page.transpose()?.flatten())
}

/// How many events of a stream there are. `None` as for [`tail`].
pub fn count(query: &Query<'_>) -> Option<u64> {
    let count = ask(query, Subject::Count, |answer| match answer {
        Answer::Count(events) => Some(events),
        _ => None,
    });
    count.flatten()
}

/// The batches of a partition that the sidecar has, if somebody serves.
pub fn batches(partition: Partition) -> Option<Batches> {
    let board = &shared()?.board;
    board.is_served().then(|| board.figures.batches(partition))
}

/// How the sidecar is; `None` where the library was not loaded at server start.
pub fn status() -> Option<Status> {
    let shared = shared()?;
    Some(Status {
        is_served: shared.board.is_served(),
        figures: shared.board.figures.now(),
        error: shared.error.get(),
    })
}

/// Waits interruptibly: a cancelled statement ends it with an error, which gives the slot back.
fn ask<T>(query: &Query<'_>, subject: Subject, read: impl FnOnce(Answer<'_>) -> T) -> Option<T> {
    let board = &shared()?.board;
    leave_at_exit();
    let Query { home, partition, stream, batches } = *query;
    let question = Question { home, partition, stream, batches, subject };
    let deadline = Instant::now() + WAIT_MAX;
    ASKER.with(|asker| board.ask(asker, &question, deadline, check_for_interrupts, read))
}

/// A process that is terminated ends without being unwound.
fn leave_at_exit() {
    if !LEAVES_AT_EXIT.replace(true) {
        // SAFETY: the callback runs while shared memory is still there.
        unsafe { pg_sys::before_shmem_exit(Some(leave), pg_sys::Datum::from(0)) };
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn leave(_code: i32, _argument: pg_sys::Datum) {
    if let Some(shared) = shared() {
        ASKER.with(|asker| asker.leave(&shared.board));
    }
}
