//! Threads that answer while batches are applied.
//!
//! Requests are put into a bounded queue, without a lock, and each is answered by one of the threads, in
//! a callback. The threads know nothing of PostgreSQL, and no signal reaches them. If one panics, all
//! end: what still waits and what comes later is answered with the reason, and the process that owns the
//! sidecar ends it.

use super::database::Sidecar;
use super::error::SidecarError;
use super::key::StreamName;
use super::signals;
use super::tail::TailPage;
use crate::model::hot::{Batches, Place};
use crate::model::partition::Partition;
use crossbeam_queue::ArrayQueue;
use parking_lot::{Condvar, Mutex};
use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

/// Requests that wait at the same time.
pub const REQUESTS_MAX: usize = 4096;
/// Reading needs little; RocksDB's iterators live on the heap.
const STACK_BYTES: usize = 1 << 20;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// [`Sidecar::tail`]
    Tail {
        /// partition of the stream
        partition: Partition,
        /// the stream
        stream: StreamName,
        /// which batches
        batches: Batches,
        /// the place after which to begin
        after: Option<Place>,
        /// bytes of the answer
        bytes_max: usize,
    },
    /// [`Sidecar::count`]
    Count {
        /// partition of the stream
        partition: Partition,
        /// the stream
        stream: StreamName,
        /// which batches
        batches: Batches,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// to [`Request::Tail`]
    Tail(TailPage),
    /// to [`Request::Count`]
    Count(u64),
}

impl Request {
    fn answer(self, sidecar: &Sidecar) -> Result<Reply, SidecarError> {
        match self {
            Self::Tail { partition, stream, batches, after, bytes_max } => {
                sidecar.tail(partition, stream.key(), batches, after, bytes_max).map(Reply::Tail)
            }
            Self::Count { partition, stream, batches } => {
                sidecar.count(partition, stream.key(), batches).map(Reply::Count)
            }
        }
    }
}

/// Takes an answer, in a thread of the readers. It must be short, and must not call PostgreSQL.
pub type Callback = Box<dyn FnOnce(Result<Reply, SidecarError>) + Send>;

/// A request was not taken; it comes back with its callback, which was not called.
pub struct Refused(pub Request, pub Callback);

struct Job {
    request: Request,
    callback: Callback,
}

struct Shared {
    jobs: ArrayQueue<Job>,
    /// why the threads end or have ended
    end: Mutex<Option<String>>,
    /// told whenever a job was put in, and when `end` is set
    wake: Condvar,
}

/// The threads.
pub struct Readers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Starts the threads.
    pub fn start(sidecar: &Arc<Sidecar>, threads: usize) -> io::Result<Self> {
        let jobs = ArrayQueue::new(REQUESTS_MAX);
        let shared = Arc::new(Shared { jobs, end: Mutex::new(None), wake: Condvar::new() });
        let mut readers = Self { shared: Arc::clone(&shared), threads: Vec::new() };
        signals::with_all_blocked(|| {
            for number in 0..threads {
                let (shared, sidecar) = (Arc::clone(&shared), Arc::clone(sidecar));
                let thread = Builder::new()
                    .name(format!("sidecar {number}"))
                    .stack_size(STACK_BYTES)
                    .spawn(move || shared.serve(&sidecar))?;
                // If the next one cannot be started, dropping ends these.
                readers.threads.push(thread);
            }
            Ok(readers)
        })
    }

    /// Hands over a request. The callback is called once; if the readers have ended, at once and here.
    pub fn submit(&self, request: Request, callback: Callback) -> Result<(), Refused> {
        let job = Job { request, callback };
        self.shared.jobs.push(job).map_err(|job| Refused(job.request, job.callback))?;
        // A thread looks into the queue and begins to wait with this lock held: it has seen the job, or
        // it waits by now and is woken.
        let end = self.shared.end.lock().clone();
        match end {
            None => _ = self.shared.wake.notify_one(),
            Some(reason) => self.shared.refuse_all(&reason),
        }
        Ok(())
    }

    /// Why the threads have ended, if they have.
    pub fn ended(&self) -> Option<String> {
        self.shared.end.lock().clone()
    }
}

impl Drop for Readers {
    /// Waits for the answers that are being made.
    fn drop(&mut self) {
        self.shared.end("they were stopped");
        for thread in self.threads.drain(..) {
            // It ends without a panic: it catches them.
            let _ = thread.join();
        }
        self.shared.refuse_all("they were stopped");
    }
}

impl Shared {
    fn serve(&self, sidecar: &Sidecar) {
        while let Some(Job { request, callback }) = self.next() {
            let answered = catch_unwind(AssertUnwindSafe(|| callback(request.answer(sidecar))));
            if let Err(panic) = answered {
                let reason = format!("a reader panicked: {}", message(&*panic));
                self.end(&reason);
                self.refuse_all(&reason);
            }
        }
    }

    /// The next job, when there is one; none when the threads end.
    fn next(&self) -> Option<Job> {
        loop {
            if let Some(job) = self.jobs.pop() {
                return Some(job);
            }
            let mut end = self.end.lock();
            if end.is_some() {
                return None;
            }
            if self.jobs.is_empty() {
                self.wake.wait(&mut end);
            }
        }
    }

    fn end(&self, reason: &str) {
        self.end.lock().get_or_insert_with(|| reason.to_owned());
        self.wake.notify_all();
    }

    /// Answers what waits with the reason of the end. A callback that panics ends nothing more.
    fn refuse_all(&self, reason: &str) {
        while let Some(Job { callback, .. }) = self.jobs.pop() {
            let ended = SidecarError::Ended { reason: reason.to_owned() };
            let _ = catch_unwind(AssertUnwindSafe(|| callback(Err(ended))));
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
