//! An application at work on a router: writers that give each event an id and repeat a call until it is
//! acknowledged, and a reader with a vector that follows them. What they were told is kept, and compared with
//! what is there at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use postgres::{Client, Config, Error, NoTls};
use uuid::Uuid;

use crate::calls::{Append, names_in};
use crate::event::Event;
use crate::ledger::{Ledger, ticket_of};
use crate::vector::{PARTITIONS, VectorTail};
use crate::{failure, patience, sizes};

const STREAMS_PER_PARTITION: i64 = 3;
/// One in so many calls has several events.
const MANY_ONE_IN: u64 = 8;
const MANY_EVENTS: usize = 3;
const PAGE: i64 = 2_000;
const READ_PAUSE: Duration = Duration::from_millis(20);
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);

/// Writers and a reader at work. They end with [`Self::finish`].
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    writers: Vec<JoinHandle<()>>,
    reader: JoinHandle<VectorTail>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    /// Distinguishes the event ids of this run.
    run: u64,
    /// All that are written to.
    streams: Vec<String>,
    ledger: Arc<Ledger>,
    /// How many events the reader has seen.
    seen: AtomicUsize,
    is_done: AtomicBool,
    is_written: AtomicBool,
    calls: Mutex<Vec<Call>>,
    under_way: Mutex<Vec<Option<(Instant, i32)>>>,
    errors: Mutex<Vec<String>>,
}

/// A call that was acknowledged.
#[derive(Clone, Copy, Debug)]
struct Call {
    began: Instant,
    ended: Instant,
    partition: i32,
    events: usize,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// What the writers were told.
    pub ledger: Arc<Ledger>,
    /// What the reader saw.
    pub tail: VectorTail,
    /// What errors the application saw, and how often each.
    pub errors: BTreeMap<String, usize>,
    /// Events acknowledged.
    pub acknowledged: usize,
    /// Appends a second, over the whole time.
    pub calls_per_s: f64,
}

impl Load {
    /// Lets writers append so many calls a second together, each to partitions of its own.
    ///
    /// # Panics
    /// Where the names of streams cannot be asked for.
    pub fn start(config: &Config, writers: usize, calls_per_s: u32) -> Self {
        let mut client = config.connect(NoTls).expect("the router");
        let mut streams: Vec<Vec<(String, i32)>> = vec![Vec::new(); writers];
        for partition in 0..PARTITIONS {
            let id = i32::try_from(partition).expect("a partition");
            let names = names_in(&mut client, id, STREAMS_PER_PARTITION);
            streams[partition % writers].extend(names.into_iter().map(|name| (name, id)));
        }
        let shared = Arc::new(Shared {
            config: config.clone(),
            run: rand::random(),
            streams: streams.iter().flatten().map(|(name, _)| name.clone()).collect(),
            ledger: Arc::default(),
            seen: AtomicUsize::new(0),
            is_done: AtomicBool::new(false),
            is_written: AtomicBool::new(false),
            calls: Mutex::default(),
            under_way: Mutex::new(vec![None; writers]),
            errors: Mutex::default(),
        });
        let pause = Duration::from_secs(1) * u32::try_from(writers).expect("few") / calls_per_s;
        let writers = streams.into_iter().enumerate().map(|(number, streams)| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.write(number, &streams, pause))
        });
        let writers = writers.collect();
        let reader = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.read())
        };
        Self { shared, writers, reader }
    }

    /// The longest that an append to one of these partitions has taken, of those that were under way since then.
    pub fn longest_since(&self, since: Instant, partitions: &[i32]) -> Duration {
        let now = Instant::now();
        let calls = lock(&self.shared.calls);
        let ended = calls.iter().filter(|c| c.ended >= since && partitions.contains(&c.partition));
        let under_way = lock(&self.shared.under_way);
        let waiting = under_way.iter().flatten().filter(|(_, p)| partitions.contains(p));
        ended
            .map(|call| call.ended - call.began)
            .chain(waiting.map(|(began, _)| now - *began))
            .max()
            .unwrap_or_default()
    }

    /// How many errors the application has seen so far.
    pub fn errors(&self) -> usize {
        lock(&self.shared.errors).len()
    }

    /// The errors that the application has seen, without the first ones.
    pub fn errors_after(&self, count: usize) -> Vec<String> {
        lock(&self.shared.errors)[count..].to_vec()
    }

    /// What the writers were told, and others that append beside them.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.shared.ledger
    }

    /// The streams that are written to.
    pub fn streams(&self) -> &[String] {
        &self.shared.streams
    }

    /// Waits until something that was sent from now on has been acknowledged on each of these partitions.
    ///
    /// # Panics
    /// Where that never is so.
    pub fn until_written(&self, partitions: &[i32]) {
        let since = Instant::now();
        patience::until_true("appends to each partition", || {
            self.assert_goes_on();
            let calls = lock(&self.shared.calls);
            let late = calls.iter().rev().take_while(|call| call.ended > since);
            let late: BTreeSet<i32> =
                late.filter(|call| call.began > since).map(|call| call.partition).collect();
            partitions.iter().all(|partition| late.contains(partition))
        });
    }

    /// Waits until the reader has seen as many events as are acknowledged by now.
    ///
    /// # Panics
    /// Where it never does.
    pub fn until_read(&self) {
        let acknowledged: usize = lock(&self.shared.calls).iter().map(|call| call.events).sum();
        patience::until_true("the reader to come up", || {
            self.assert_goes_on();
            self.shared.seen.load(Ordering::SeqCst) >= acknowledged
        });
    }

    fn assert_goes_on(&self) {
        assert!(!self.writers.iter().any(JoinHandle::is_finished), "a writer has ended");
        assert!(!self.reader.is_finished(), "the reader has ended");
    }

    /// Ends the writers, lets the reader come to the end, and returns what came of it.
    ///
    /// # Panics
    /// Where a writer's last append is never acknowledged, or the reader saw something twice.
    pub fn finish(self) -> Outcome {
        self.shared.is_done.store(true, Ordering::SeqCst);
        for writer in self.writers {
            writer.join().expect("a writer");
        }
        self.shared.is_written.store(true, Ordering::SeqCst);
        let tail = self.reader.join().expect("the reader");
        let shared = Arc::into_inner(self.shared).expect("nobody else has it");
        let calls = shared.calls.into_inner().unwrap_or_else(PoisonError::into_inner);
        let began = calls.iter().map(|call| call.began).min();
        let ended = calls.iter().map(|call| call.ended).max();
        let time = began.zip(ended).map_or(Duration::ZERO, |(began, ended)| ended - began);
        let mut errors = BTreeMap::new();
        for error in shared.errors.into_inner().unwrap_or_else(PoisonError::into_inner) {
            *errors.entry(error).or_default() += 1;
        }
        Outcome {
            ledger: shared.ledger,
            tail,
            errors,
            acknowledged: calls.iter().map(|call| call.events).sum(),
            #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
            calls_per_s: calls.len() as f64 / time.as_secs_f64().max(0.001),
        }
    }
}

impl Outcome {
    /// Those of the events that the writers have appended, and nobody else.
    pub fn own(content: &VectorTail) -> Vec<Event> {
        content.events().into_iter().filter(|event| ticket_of(event).is_some()).collect()
    }
}

impl Shared {
    fn write(&self, number: usize, streams: &[(String, i32)], pause: Duration) {
        let mut client = None;
        let mut next = Instant::now();
        for round in 0.. {
            if self.is_done.load(Ordering::SeqCst) {
                return;
            }
            next += pause;
            sleep(next.saturating_duration_since(Instant::now()));
            // Whoever was held up does not make up for it.
            next = next.max(Instant::now());
            let (stream, partition) = &streams[round % streams.len()];
            let is_many = (round as u64 + number as u64).is_multiple_of(MANY_ONE_IN);
            let mut ticket = self.ledger.open(if is_many { MANY_EVENTS } else { 1 });
            for (index, event) in ticket.events.iter_mut().enumerate() {
                let place = (index as u64) << 48 | ticket_number(event);
                event.id = Some(Uuid::from_u64_pair(self.run, place));
            }
            let began = Instant::now();
            lock(&self.under_way)[number] = Some((began, *partition));
            let version = self.append(&mut client, stream, &ticket.events);
            let ended = Instant::now();
            lock(&self.under_way)[number] = None;
            let events = ticket.events.len();
            ticket.place(0, events, stream, version);
            self.ledger.acknowledge(ticket);
            lock(&self.calls).push(Call { began, ended, partition: *partition, events });
        }
    }

    /// Repeats the call, with the same ids, until it is acknowledged.
    fn append(
        &self,
        connection: &mut Option<Client>,
        stream: &str,
        events: &[crate::NewEvent],
    ) -> i64 {
        let deadline = Instant::now() + sizes::wait_max();
        loop {
            let result = self.connected(connection).and_then(|client| {
                let append = Append::to(stream, events);
                if events.len() == 1 { append.one(client) } else { append.many(client) }
            });
            match result {
                Ok(version) => return version,
                Err(error) => self.note(connection, &error),
            }
            assert!(Instant::now() < deadline, "an append to {stream} is never acknowledged");
            sleep(RECONNECT_PAUSE);
        }
    }

    fn read(&self) -> VectorTail {
        let mut connection = None;
        let mut tail = VectorTail::default();
        let mut deadline = Instant::now() + sizes::wait_max();
        loop {
            let is_written = self.is_written.load(Ordering::SeqCst);
            match self.connected(&mut connection).and_then(|client| tail.poll(client, PAGE)) {
                Ok(count) => {
                    self.seen.store(tail.len(), Ordering::SeqCst);
                    deadline = Instant::now() + sizes::wait_max();
                    if count == 0 && is_written {
                        return tail;
                    }
                    if count < 100 {
                        sleep(READ_PAUSE);
                    }
                }
                Err(error) => {
                    self.note(&mut connection, &error);
                    assert!(Instant::now() < deadline, "the reader never gets an answer");
                    sleep(RECONNECT_PAUSE);
                }
            }
        }
    }

    fn connected<'a>(&self, connection: &'a mut Option<Client>) -> Result<&'a mut Client, Error> {
        if connection.as_ref().is_none_or(Client::is_closed) {
            *connection = Some(self.config.connect(NoTls)?);
        }
        Ok(connection.as_mut().expect("it was made"))
    }

    fn note(&self, connection: &mut Option<Client>, error: &Error) {
        let text = match error.as_db_error() {
            None => "connection to the router lost".to_owned(),
            Some(db) => format!("{} {}", db.code().code(), db.message()),
        };
        if std::env::var_os("ALLSOURCE_E2E_ERRORS").is_some() {
            eprintln!("{}", failure::describe(error));
        }
        lock(&self.errors).push(text);
        if failure::is_disconnect(error) {
            *connection = None;
        }
    }
}

fn ticket_number(event: &crate::NewEvent) -> u64 {
    event.payload["ticket"].as_u64().expect("an event of a ticket")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
