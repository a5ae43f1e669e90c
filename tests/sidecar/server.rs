//! Answers that go over the board, while batches are applied; batches that come late, or not at all; and
//! what fails.

use crate::hot::{Batch, Event, Folder, IDENTITY, owned, streams_of};
use crate::model::settings;
use allsource::board::{Answer, Asker, Board, Question, Subject};
use allsource::codec::hot_tail::TailReader;
use allsource::codec::record::Home;
use allsource::model::hot::Place;
use allsource::model::partition::Partition;
use allsource::sidecar::{Batches, Server, Sidecar, StreamName};
use std::alloc::{Layout, alloc_zeroed};
use std::sync::Arc;
use std::time::{Duration, Instant};

const HOME: Home = Home { database: 5, incarnation: 9 };
/// Long enough for whatever machine.
const LONG: Duration = Duration::from_secs(60);

fn board() -> &'static Board {
    #[expect(unsafe_code, reason = "makes memory for a board")]
    // SAFETY: zeroed memory of the right size that is never freed.
    unsafe {
        Board::at(alloc_zeroed(Layout::new::<Board>()))
    }
}

fn partition() -> Partition {
    Partition::new(0).unwrap()
}

fn batch(batch_no: i64, streams: &[StreamName]) -> Batch {
    let events: Vec<_> = streams
        .iter()
        .map(|stream| (stream.clone(), batch_no.to_le_bytes().repeat(1 + batch_no as usize % 90)))
        .collect();
    Batch::new(partition(), batch_no, &events)
}

fn question(stream: &StreamName, batches: Batches, subject: Subject) -> Question<'_> {
    Question { home: HOME, partition: partition(), stream: stream.key(), batches, subject }
}

fn count(board: &Board, stream: &StreamName, up_to: i64) -> Option<u64> {
    let question = question(stream, Batches { after: 0, up_to }, Subject::Count);
    let deadline = Instant::now() + LONG;
    board.ask(
        &Asker::new(),
        &question,
        deadline,
        || {},
        |answer| match answer {
            Answer::Count(events) => events,
            _ => panic!("another answer"),
        },
    )
}

/// A whole tail, page by page.
fn tail(board: &Board, stream: &StreamName, batches: Batches) -> Option<(Vec<Event>, usize)> {
    let (mut events, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let question = question(stream, batches, Subject::Tail { after });
        let read = |answer: Answer<'_>| match answer {
            Answer::Tail { bytes, events, next } => (owned(TailReader::new(bytes)), events, next),
            _ => panic!("another answer"),
        };
        let deadline = Instant::now() + LONG;
        let (read, len, next) = board.ask(&Asker::new(), &question, deadline, || {}, read)?;
        assert_eq!(read.len(), len);
        events.extend(read);
        pages += 1;
        after = next;
        if after.is_none() {
            return Some((events, pages));
        }
    }
}

struct Served {
    server: Server,
    sidecar: Arc<Sidecar>,
    board: &'static Board,
    streams: Vec<StreamName>,
    folder: Folder,
}

impl Served {
    fn new() -> Self {
        let (folder, board) = (Folder::new(), board());
        let opened = Sidecar::open(&folder.join("sidecar"), IDENTITY, settings());
        let sidecar = Arc::new(opened.unwrap().0);
        let server = Server::start(board, HOME, &sidecar, 2).unwrap();
        Self { server, sidecar, board, streams: streams_of(partition()), folder }
    }

    fn apply(&self, batch_no: i64) -> Batch {
        let batch = batch(batch_no, &self.streams);
        crate::hot::apply(&self.sidecar, &batch).unwrap();
        self.server.applied();
        batch
    }
}

#[test]
fn many_ask_while_batches_are_applied() {
    let served = Served::new();
    let batches = 400;
    std::thread::scope(|scope| {
        scope.spawn(|| (1..=batches).for_each(|number| _ = served.apply(number)));
        for stream in &served.streams {
            let served = &served;
            scope.spawn(move || {
                let mut up_to = 0;
                while up_to < batches {
                    up_to = served.sidecar.applied(partition());
                    assert_eq!(count(served.board, stream, up_to), Some(up_to as u64));
                    let some = Batches { after: up_to / 2, up_to };
                    let (events, _) = tail(served.board, stream, some).unwrap();
                    let numbers: Vec<i64> = events.iter().map(|event| event.batch_no).collect();
                    assert_eq!(numbers, (up_to / 2 + 1..=up_to).collect::<Vec<_>>());
                }
            });
        }
    });
    let stream = &served.streams[1];
    let (events, pages) = tail(served.board, stream, Batches { after: 0, up_to: batches }).unwrap();
    let expected: Vec<Event> = (1..=batches)
        .map(|number| batch(number, &served.streams).events.swap_remove(1).1)
        .collect();
    assert_eq!(events, expected);
    assert!(pages > 1, "an answer has a bound");
    assert_eq!(served.server.failure(), None);
    assert!(served.board.is_idle());
}

#[test]
fn a_batch_that_comes_late_is_waited_for_and_one_that_does_not_is_not() {
    let served = Served::new();
    served.apply(1);
    let stream = &served.streams[0];
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| count(served.board, stream, 2));
        std::thread::sleep(Duration::from_millis(50));
        served.apply(2);
        assert_eq!(asked.join().unwrap(), Some(2));
    });
    let started = Instant::now();
    assert_eq!(count(served.board, stream, 3), None);
    assert!((Duration::from_millis(150)..LONG / 2).contains(&started.elapsed()));
    // What is parked does not hold up others.
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| count(served.board, stream, 3));
        std::thread::sleep(Duration::from_millis(10));
        for _ in 0..100 {
            assert_eq!(count(served.board, stream, 2), Some(2));
        }
        assert_eq!(asked.join().unwrap(), None);
    });
    served.sidecar.forget(partition(), 1).unwrap();
    assert_eq!(count(served.board, stream, 2), None);
    assert!(served.board.is_idle());
}

#[test]
fn an_event_that_does_not_fit_is_left_to_the_asker() {
    let served = Served::new();
    let stream = &served.streams[0];
    let events: Vec<_> =
        [10, 70_000, 20].iter().map(|len| (stream.clone(), vec![b'x'; *len])).collect();
    served.sidecar.apply(&Batch::new(partition(), 1, &events).reader()).unwrap();
    let ask = |after: Option<u32>| {
        let after = after.map(|place| Place { batch_no: 1, place });
        let batches = Batches { after: 0, up_to: 1 };
        let question = question(stream, batches, Subject::Tail { after });
        let deadline = Instant::now() + LONG;
        served.board.ask(
            &Asker::new(),
            &question,
            deadline,
            || {},
            |answer| match answer {
                Answer::Tail { events, next, .. } => (events, next),
                _ => panic!("another answer"),
            },
        )
    };
    assert_eq!(ask(None), Some((1, Some(Place { batch_no: 1, place: 0 }))));
    assert_eq!(ask(Some(0)), None);
    assert_eq!(ask(Some(1)), Some((1, None)));
}

#[test]
fn what_is_for_another_store_is_not_answered() {
    let served = Served::new();
    served.apply(1);
    // Another one begins to serve, and this one still gets the question.
    let other = Home { database: 6, ..HOME };
    served.board.open(other);
    let stream = &served.streams[0];
    let question = Question {
        home: other,
        ..question(stream, Batches { after: 0, up_to: 1 }, Subject::Count)
    };
    let deadline = Instant::now() + LONG;
    assert_eq!(served.board.ask(&Asker::new(), &question, deadline, || {}, |_| ()), None);
}

#[test]
fn a_failure_ends_it_and_the_next_one_answers() {
    let served = Served::new();
    served.apply(1);
    served.sidecar.flush().unwrap();
    let stream = served.streams[0].clone();
    assert_eq!(count(served.board, &stream, 1), Some(1));
    let Served { server, sidecar, board, streams, folder } = served;
    // Opened again, so that nothing is in its cache, and its files are gone then.
    drop((server, sidecar));
    assert!(!board.is_served());
    assert_eq!(count(board, &stream, 1), None);
    let directory = folder.join("sidecar");
    let sidecar = Arc::new(Sidecar::open(&directory, IDENTITY, settings()).unwrap().0);
    let server = Server::start(board, HOME, &sidecar, 2).unwrap();
    for entry in std::fs::read_dir(directory.join("database")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "sst") {
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_len(0).unwrap();
        }
    }
    assert_eq!(count(board, &stream, 1), None);
    let failure = server.failure().expect("a failure");
    assert!(failure.starts_with("sidecar's database has failed: "), "{failure}");
    assert!(!board.is_served());
    drop((server, sidecar));
    let opened = Sidecar::open_emptied(&directory, IDENTITY, settings());
    let sidecar = Arc::new(opened.unwrap());
    let server = Server::start(board, HOME, &sidecar, 2).unwrap();
    sidecar.apply(&batch(1, &streams).reader()).unwrap();
    assert_eq!(count(board, &stream, 1), Some(1));
    assert_eq!(server.failure(), None);
}

#[test]
fn its_end_ends_all_waits() {
    let Served { server, board, streams, sidecar: _sidecar, folder: _folder } = Served::new();
    let (stream, started) = (&streams[0], Instant::now());
    std::thread::scope(|scope| {
        // About a batch that was not applied.
        let asked: Vec<_> = (0..100).map(|_| scope.spawn(|| count(board, stream, 1))).collect();
        while board.is_idle() {
            std::thread::yield_now();
        }
        drop(server);
        for asked in asked {
            assert_eq!(asked.join().unwrap(), None);
        }
    });
    assert!(started.elapsed() < LONG / 2);
    assert!(board.is_idle());
}
