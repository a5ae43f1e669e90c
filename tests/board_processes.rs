//! The board between forked processes: many that ask, and one that answers, which is killed and followed
//! by another one. Each answer is that to the question, and nobody waits for a server that is gone longer
//! than its time.

#[expect(unsafe_code, reason = "forks, and shares memory")]
#[path = "forked/mod.rs"]
mod forked;

use allsource::board::{Answer, Asker, Board, Question, SLOTS, Subject};
use allsource::codec::record::Home;
use allsource::model::batch::StreamKey;
use allsource::model::hot::Batches;
use allsource::model::partition::Partition;
use forked::{Child, End, SharedMemory};
use std::time::{Duration, Instant};

const HOME: Home = Home { database: 5, incarnation: 9 };
const ASKERS: usize = SLOTS + 16;
const SERVERS: usize = 8;
/// How long each server lives.
const LIFE: Duration = Duration::from_millis(150);
/// How long an asker waits.
const WAIT_MAX: Duration = Duration::from_millis(100);

#[expect(unsafe_code, reason = "attaches to shared memory")]
fn board(memory: &SharedMemory) -> &'static Board {
    // SAFETY: zeroed memory of the right size, on a boundary of a page, that is mapped as long as this
    // process and those that it forks use it.
    unsafe { Board::at(memory.address().as_ptr()) }
}

/// Answers until it is killed: the number of events is twice the last batch.
fn serve(board: &'static Board) {
    board.open(HOME);
    loop {
        for taken in board.take() {
            let question = taken.question().expect("a question");
            let events = question.batches.up_to.cast_unsigned() * 2;
            let (bytes, subject) = (question.stream.stream_id.to_vec(), question.subject);
            taken.answer(&match subject {
                Subject::Count => Answer::Count(events),
                Subject::Tail { after } => {
                    Answer::Tail { bytes: &bytes, events: events as usize, next: after }
                }
            });
        }
        board.sleep(Duration::from_secs(1), || false);
    }
}

/// Asks until the time is up. Only questions that a dead server has left unanswered take long.
fn ask(board: &'static Board, number: usize, until: Instant) {
    let (asker, name, mut answers) = (Asker::new(), format!("stream {number}"), 0);
    while Instant::now() < until {
        let (number, stream_id) = (answers + 1, name.as_bytes());
        let question = Question {
            home: HOME,
            partition: Partition::of(stream_id),
            stream: StreamKey { stream_id, tenant_id: b"t" },
            batches: Batches { after: 0, up_to: number },
            subject: if number % 2 == 0 { Subject::Count } else { Subject::Tail { after: None } },
        };
        let started = Instant::now();
        let answer = board.ask(
            &asker,
            &question,
            started + WAIT_MAX,
            || {},
            |answer| match answer {
                Answer::Tail { bytes, events, next: None } => {
                    assert_eq!(bytes, stream_id);
                    events as i64
                }
                Answer::Count(events) => events.cast_signed(),
                _ => unreachable!("another answer"),
            },
        );
        // The machine may be slow, but it is no minute.
        assert!(started.elapsed() < Duration::from_secs(60));
        if let Some(events) = answer {
            assert_eq!(events, number * 2);
            answers += 1;
        }
    }
    assert!(answers > 0, "nothing was answered");
}

fn run() -> Result<String, String> {
    let memory = SharedMemory::new(size_of::<Board>());
    let board = board(&memory);
    let until = Instant::now() + LIFE * SERVERS as u32;
    let mut server = Child::fork(|| serve(board));
    let askers: Vec<Child> =
        (0..ASKERS).map(|number| Child::fork(|| ask(board, number, until))).collect();
    while Instant::now() + LIFE < until {
        std::thread::sleep(LIFE);
        server.kill();
        server.wait();
        server = Child::fork(|| serve(board));
    }
    for (number, asker) in askers.into_iter().enumerate() {
        if asker.wait() != End::Done {
            return Err(format!("asker {number} failed"));
        }
    }
    server.kill();
    server.wait();
    // What the last one has left behind is cleared by the next.
    board.open(HOME);
    board.close();
    if !board.is_idle() {
        return Err("a slot is left".to_owned());
    }
    let figures = board.figures.now();
    Ok(format!("{} answered, {} not", figures.answers, figures.misses))
}

fn main() {
    println!("\nrunning 1 test");
    let start = Instant::now();
    let outcome = run();
    let failed = i32::from(outcome.is_err());
    match outcome {
        Ok(facts) => println!("test processes ... ok ({facts})"),
        Err(reason) => println!("test processes ... FAILED ({reason})"),
    }
    println!(
        "\ntest result: {}. {} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; \
         finished in {:.2}s\n",
        if failed == 0 { "ok" } else { "FAILED" },
        1 - failed,
        start.elapsed().as_secs_f64()
    );
    std::process::exit(failed);
}
