//! Answers what is asked on the board.
//!
//! One thread, the *dispatcher*, takes the questions and hands them to the readers, whose threads write
//! the answers. A question about a batch that was not applied yet is parked until it is, for a short time.

use super::database::Sidecar;
use super::error::SidecarError;
use super::key::StreamName;
use super::readers::{Readers, Reply, Request};
use super::signals;
use super::tail::TailPage;
use crate::board::{ANSWER_BYTES_MAX, Answer, Board, Question, Subject, Taken, Unanswered};
use crate::codec::hot_tail;
use crate::codec::record::Home;
use crate::model::hot::Batches;
use crate::model::partition::Partition;
use parking_lot::Mutex;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// How long a question waits for a batch to be applied.
const PARKED_MAX: Duration = Duration::from_millis(200);
/// How long the dispatcher sleeps at most.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// What a page may have, so that it fits into an answer.
const PAGE_BYTES_MAX: usize = ANSWER_BYTES_MAX - hot_tail::BATCH_OVERHEAD_MAX;
const STACK_BYTES: usize = 512 << 10;

/// Answers, until it is dropped.
pub struct Server {
    board: &'static Board,
    shared: Arc<Shared>,
    dispatcher: Option<JoinHandle<()>>,
}

struct Shared {
    board: &'static Board,
    home: Home,
    sidecar: Arc<Sidecar>,
    is_stopped: AtomicBool,
    /// How many questions are parked.
    parked: AtomicUsize,
    /// What has failed first.
    failure: Mutex<Option<String>>,
}

/// A question that waits for a batch.
struct Parked {
    taken: Taken,
    partition: Partition,
    batches: Batches,
    until: Instant,
}

impl Server {
    /// Begins to answer questions about a store, with so many threads that read. No other server may
    /// use the board.
    pub fn start(
        board: &'static Board,
        home: Home,
        sidecar: &Arc<Sidecar>,
        threads: usize,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            board,
            home,
            sidecar: Arc::clone(sidecar),
            is_stopped: AtomicBool::new(false),
            parked: AtomicUsize::new(0),
            failure: Mutex::new(None),
        });
        let readers = Readers::start(sidecar, threads)?;
        let mut server = Self { board, shared: Arc::clone(&shared), dispatcher: None };
        let dispatch = move || {
            let dispatched = catch_unwind(AssertUnwindSafe(|| shared.dispatch(&readers)));
            if dispatched.is_err() {
                shared.fail("the dispatcher panicked");
            }
            // What is asked until the board is closed is answered by dropping it.
            drop(readers);
        };
        // If the thread cannot be started, dropping closes it.
        board.open(home);
        let builder = Builder::new().name("sidecar asked".to_owned()).stack_size(STACK_BYTES);
        server.dispatcher = Some(signals::with_all_blocked(|| builder.spawn(dispatch))?);
        Ok(server)
    }

    /// To be called after a batch was applied.
    pub fn applied(&self) {
        // Partner: the fence in `sleep` of the board, which comes between the number that is parked and
        // the look at what is applied.
        fence(Ordering::SeqCst);
        if self.shared.parked.load(Ordering::Relaxed) > 0 {
            self.board.ring();
        }
    }

    /// What has failed, if something has. Then nothing is answered any more.
    pub fn failure(&self) -> Option<String> {
        self.shared.failure.lock().clone()
    }
}

impl Drop for Server {
    /// Waits for the answers that are being made. What else was asked is told that there is none.
    fn drop(&mut self) {
        self.board.close();
        self.shared.is_stopped.store(true, Ordering::Relaxed);
        self.board.ring();
        if let Some(dispatcher) = self.dispatcher.take() {
            // It ends without a panic: it catches them.
            let _ = dispatcher.join();
        }
        self.board.take().for_each(drop);
    }
}

impl Shared {
    fn fail(&self, reason: &str) {
        // Whoever asks next does not wait for nothing.
        self.board.close();
        self.failure.lock().get_or_insert_with(|| reason.to_owned());
    }

    fn dispatch(self: &Arc<Self>, readers: &Readers) {
        let mut parked: Vec<Parked> = Vec::new();
        while !self.is_stopped.load(Ordering::Relaxed) {
            if let Some(reason) = readers.ended() {
                self.fail(&SidecarError::Ended { reason }.describe());
            }
            for taken in self.board.take() {
                if let Some((partition, batches)) = self.look_at(&taken) {
                    let until = Instant::now() + PARKED_MAX;
                    parked.push(Parked { taken, partition, batches, until });
                }
            }
            let now = Instant::now();
            for question in parked.extract_if(.., |question| self.is_due(question, now)) {
                self.hand_over(readers, question.taken);
            }
            self.parked.store(parked.len(), Ordering::Relaxed);
            let first = parked.iter().map(|question| question.until).min();
            let longest = first.map_or(SLEEP_MAX, |until| until.saturating_duration_since(now));
            self.board.sleep(longest, || {
                self.is_stopped.load(Ordering::Relaxed)
                    || parked.iter().any(|question| self.is_applied(question))
            });
        }
    }

    /// What a question is about; a question that is not for this store is not answered.
    fn look_at(&self, taken: &Taken) -> Option<(Partition, Batches)> {
        let question = taken.question().filter(|question| question.home == self.home)?;
        Some((question.partition, question.batches))
    }

    fn is_applied(&self, question: &Parked) -> bool {
        question.batches.up_to <= self.sidecar.applied(question.partition)
    }

    fn is_due(&self, question: &Parked, now: Instant) -> bool {
        question.until <= now || self.is_applied(question)
    }

    /// Has a question answered. One that is still about a batch that was not applied gets the answer that
    /// it is behind.
    fn hand_over(self: &Arc<Self>, readers: &Readers, taken: Taken) {
        let Some(request) = taken.question().map(|question| request(&question)) else { return };
        let shared = Arc::clone(self);
        let callback = Box::new(move |reply| shared.answer(taken, reply));
        // There is room for more than there are slots; what is refused is answered by being dropped.
        let _ = readers.submit(request, callback);
    }

    /// Called in a thread of the readers.
    fn answer(&self, taken: Taken, reply: Result<Reply, SidecarError>) {
        match reply {
            Ok(Reply::Tail(TailPage { bytes, events, next })) => {
                taken.answer(&Answer::Tail { bytes: &bytes, events, next });
            }
            Ok(Reply::Count(events)) => taken.answer(&Answer::Count(events)),
            Err(SidecarError::Behind { .. } | SidecarError::Forgotten { .. }) => {
                taken.answer(&Answer::Unanswered(Unanswered::Behind));
            }
            Err(error) if error.is_failure() => self.fail(&error.describe()),
            Err(_) => {}
        }
    }
}

fn request(question: &Question<'_>) -> Request {
    let Question { partition, batches, .. } = *question;
    let stream = StreamName::from(question.stream);
    match question.subject {
        Subject::Count => Request::Count { partition, stream, batches },
        Subject::Tail { after } => {
            Request::Tail { partition, stream, batches, after, bytes_max: PAGE_BYTES_MAX }
        }
    }
}
