use super::slot::Phase;
use super::*;
use crate::codec::record::Home;
use crate::model::batch::StreamKey;
use crate::model::hot::{Batches, Place};
use crate::model::partition::Partition;
use proptest::prelude::*;
use std::alloc::{Layout, alloc_zeroed};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
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

fn question(stream_id: &[u8], up_to: i64, subject: Subject) -> Question<'_> {
    let stream = StreamKey { stream_id, tenant_id: b"t" };
    let batches = Batches { after: 0, up_to };
    Question { home: HOME, partition: Partition::of(stream_id), stream, batches, subject }
}

fn count(board: &Board, up_to: i64, longest: Duration) -> Option<u64> {
    let question = question(b"s", up_to, Subject::Count);
    let deadline = Instant::now() + longest;
    board.ask(&Asker::new(), &question, deadline, || {}, read_count)
}

fn read_count(answer: Answer<'_>) -> u64 {
    match answer {
        Answer::Count(events) => events,
        _ => panic!("another answer"),
    }
}

/// Serves until the scope ends: the number of events is the last batch, and a tail is the stream's name
/// as often.
struct Echo<'a>(&'a AtomicBool, &'static Board);

impl Drop for Echo<'_> {
    fn drop(&mut self) {
        self.1.close();
        self.0.store(true, Ordering::SeqCst);
        self.1.ring();
    }
}

fn echo(board: &'static Board, is_stopped: &AtomicBool) {
    while !is_stopped.load(Ordering::SeqCst) {
        for taken in board.take() {
            let Question { stream, batches, subject, .. } = taken.question().unwrap();
            let events = batches.up_to as usize;
            let bytes = stream.stream_id.repeat(events);
            taken.answer(&match subject {
                Subject::Count => Answer::Count(events as u64),
                Subject::Tail { after } => Answer::Tail { bytes: &bytes, events, next: after },
            });
        }
        board.sleep(LONG, || is_stopped.load(Ordering::SeqCst));
    }
    board.take().for_each(drop);
}

/// Does something while the board is served.
fn served<T>(board: &'static Board, work: impl FnOnce() -> T) -> T {
    let is_stopped = AtomicBool::new(false);
    board.open(HOME);
    std::thread::scope(|scope| {
        scope.spawn(|| echo(board, &is_stopped));
        let _echo = Echo(&is_stopped, board);
        work()
    })
}

#[test]
fn more_askers_than_slots_get_their_own_answers() {
    let board = board();
    let (askers, rounds) = (SLOTS + 32, 200);
    served(board, || {
        std::thread::scope(|scope| {
            for number in 0..askers {
                scope.spawn(move || {
                    let asker = Asker::new();
                    let name = format!("stream {number}");
                    for round in 0..rounds {
                        let after = (round % 2 == 0)
                            .then_some(Place { batch_no: round, place: number as u32 });
                        let question = question(name.as_bytes(), round, Subject::Tail { after });
                        let deadline = Instant::now() + LONG;
                        let page = board.ask(
                            &asker,
                            &question,
                            deadline,
                            || {},
                            |answer| match answer {
                                Answer::Tail { bytes, events, next } => {
                                    (bytes.to_vec(), events, next)
                                }
                                _ => panic!("another answer"),
                            },
                        );
                        let events = round as usize;
                        assert_eq!(page, Some((name.repeat(events).into_bytes(), events, after)));
                    }
                });
            }
        });
    });
    assert!(board.is_idle());
    let figures = board.figures.now();
    assert_eq!((figures.answers, figures.misses), ((askers * rounds as usize) as u64, 0));
}

#[test]
fn nobody_waits_where_nobody_serves() {
    let board = board();
    let started = Instant::now();
    assert_eq!(count(board, 1, LONG), None);
    board.open(Home { database: 6, ..HOME });
    assert_eq!(count(board, 1, LONG), None);
    board.open(HOME);
    board.close();
    assert_eq!(count(board, 1, LONG), None);
    assert!(started.elapsed() < LONG / 2);
    assert!(!board.is_served() && board.is_idle());
    assert_eq!(board.figures.now().misses, 3);
}

#[test]
fn a_late_answer_reaches_nobody() {
    let board = board();
    board.open(HOME);
    // The server takes it, and the asker gives up.
    let mut taken = None;
    let question = question(b"s", 1, Subject::Count);
    let deadline = Instant::now() + Duration::from_millis(10);
    let take = || taken = taken.take().or_else(|| board.take().next());
    assert_eq!(board.ask(&Asker::new(), &question, deadline, take, |_| ()), None);
    let taken = taken.unwrap();
    assert!(!board.is_idle());
    // The slot is not used before the server has let go of it.
    let claimed: Vec<_> = board.slots.iter().filter_map(slot::Slot::claim).collect();
    assert_eq!(claimed.len(), SLOTS - 1);
    taken.answer(&Answer::Count(7));
    let free: Vec<_> = board.slots.iter().filter_map(slot::Slot::claim).collect();
    assert_eq!(free.len(), 1);
}

#[test]
fn an_asker_that_is_unwound_gives_its_slot_back() {
    let board = board();
    board.open(HOME);
    let question = question(b"s", 1, Subject::Count);
    let asked = catch_unwind(AssertUnwindSafe(|| {
        let pause = || panic!("as this test wants it");
        board.ask(&Asker::new(), &question, Instant::now() + LONG, pause, |_| ())
    }));
    assert!(asked.is_err());
    assert!(board.is_idle());
    assert!(board.take().next().is_none());
}

#[test]
fn a_process_that_ends_leaves() {
    let board = board();
    board.open(HOME);
    let asker = Asker::new();
    // As if it had ended in each of these phases.
    for phase in [Phase::Claimed, Phase::Asked, Phase::Taken, Phase::Answered] {
        let question = question(b"s", 1, Subject::Count);
        let generation = board.slots[3].claim().unwrap();
        asker.set(3, generation);
        if phase != Phase::Claimed {
            board.slots[3].ask(generation, &question);
            board.bell.ask(3);
        }
        let taken = match phase {
            Phase::Taken | Phase::Answered => board.take().next(),
            _ => None,
        };
        let taken = taken.and_then(|taken| match phase {
            Phase::Answered => {
                taken.answer(&Answer::Count(1));
                None
            }
            _ => Some(taken),
        });
        asker.leave(board);
        assert_eq!(board.is_idle(), taken.is_none(), "{phase:?}");
        drop(taken);
        assert!(board.is_idle(), "{phase:?}");
        assert!(board.take().next().is_none(), "{phase:?}");
        asker.leave(board);
    }
}

#[test]
fn a_slot_is_waited_for() {
    let board = board();
    served(board, || {
        let claimed: Vec<_> = board.slots.iter().map(|slot| slot.claim().unwrap()).collect();
        assert_eq!(count(board, 1, Duration::from_millis(20)), None);
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| count(board, 5, LONG));
            std::thread::sleep(Duration::from_millis(20));
            let asker = Asker::new();
            asker.set(40, claimed[40]);
            asker.leave(board);
            assert_eq!(asked.join().unwrap(), Some(5));
        });
    });
}

#[test]
fn the_end_of_the_server_ends_all_waits() {
    let board = board();
    board.open(HOME);
    let started = Instant::now();
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..SLOTS + 4).map(|_| scope.spawn(|| count(board, 1, LONG))).collect();
        // Half of them are taken, and answered with nothing by being dropped.
        let mut taken = Vec::new();
        while taken.len() < SLOTS / 2 {
            taken.extend(board.take().take(SLOTS / 2 - taken.len()));
        }
        board.close();
        drop(taken);
        for asked in asked {
            assert_eq!(asked.join().unwrap(), None);
        }
    });
    assert!(started.elapsed() < LONG / 2);
    assert!(board.is_idle());
}

#[test]
fn what_a_server_has_left_behind_is_answered_by_the_next() {
    let board = board();
    board.open(HOME);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| count(board, 1, LONG));
        let taken = loop {
            if let Some(taken) = board.take().next() {
                break taken;
            }
        };
        // Its process is gone.
        std::mem::forget(taken);
        board.open(HOME);
        assert_eq!(asked.join().unwrap(), None);
    });
    assert!(board.is_idle());
    served(board, || assert_eq!(count(board, 3, LONG), Some(3)));
}

#[test]
fn what_does_not_fit_is_not_answered() {
    let board = board();
    served(board, || {
        let ask = |stream_id: &[u8], up_to| {
            let question = question(stream_id, up_to, Subject::Tail { after: None });
            board.ask(&Asker::new(), &question, Instant::now() + LONG, || {}, |_| ())
        };
        assert_eq!(ask(b"s", ANSWER_BYTES_MAX as i64), Some(()));
        assert_eq!(ask(b"s", ANSWER_BYTES_MAX as i64 + 1), None);
        assert_eq!(ask(&[b's'; 4 * 255], 1), Some(()));
        assert_eq!(ask(&[b's'; 8 * 255], 1), None);
    });
}

proptest! {
    #[test]
    fn questions_are_read_as_they_were_written(
        names in ("[a-z]{0,20}", "[a-z]{0,20}"),
        numbers: (u32, u32, i64, i64),
        after in prop::option::of(any::<(i64, u32)>()),
        is_count: bool,
    ) {
        let after = after.map(|(batch_no, place)| Place { batch_no, place });
        let (stream_id, tenant_id) = (names.0.as_bytes(), names.1.as_bytes());
        let question = Question {
            home: Home { database: numbers.0, incarnation: numbers.1 },
            partition: Partition::of(stream_id),
            stream: StreamKey { stream_id, tenant_id },
            batches: Batches { after: numbers.2, up_to: numbers.3 },
            subject: if is_count { Subject::Count } else { Subject::Tail { after } },
        };
        static BOARD: OnceLock<&Board> = OnceLock::new();
        let slot = &BOARD.get_or_init(board).slots[0];
        let generation = slot.claim().unwrap();
        slot.ask(generation, &question);
        prop_assert_eq!(slot.take(), Some(generation));
        prop_assert_eq!(slot.question(), Some(question));
        prop_assert!(!slot.answer(generation, &Answer::Count(1)) && slot.give_back(generation));
    }
}
