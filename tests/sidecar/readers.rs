//! Answers from threads, while batches are applied; and what happens when one of them panics.

use crate::hot::{Batch, Folder, IDENTITY, Truth, streams_of};
use crate::model::settings;
use allsource::codec::hot_tail::TailReader;
use allsource::model::partition::Partition;
use allsource::sidecar::{
    Batches, Readers, Refused, Reply, Request, Sidecar, SidecarError, StreamName,
};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel, sync_channel};

fn partition() -> Partition {
    Partition::new(0).unwrap()
}

fn batch(batch_no: i64, streams: &[StreamName]) -> Batch {
    let events: Vec<_> =
        streams.iter().map(|stream| (stream.clone(), batch_no.to_le_bytes().to_vec())).collect();
    Batch::new(partition(), batch_no, &events)
}

fn count(stream: &StreamName, up_to: i64) -> Request {
    let batches = Batches { after: 0, up_to };
    Request::Count { partition: partition(), stream: stream.clone(), batches }
}

type Answers = Receiver<Result<Reply, SidecarError>>;

fn ask(readers: &Readers, request: Request) -> Answers {
    let (sender, answers) = channel();
    let sent = readers.submit(request, Box::new(move |reply| sender.send(reply).unwrap()));
    assert!(sent.is_ok());
    answers
}

fn opened(folder: &Folder) -> Arc<Sidecar> {
    Arc::new(Sidecar::open(&folder.join("sidecar"), IDENTITY, settings()).unwrap().0)
}

#[test]
fn they_answer_while_batches_are_applied() {
    let folder = Folder::new();
    let sidecar = opened(&folder);
    let readers = Readers::start(&sidecar, 2).unwrap();
    let streams = streams_of(partition());
    let mut truth = Truth::default();
    std::thread::scope(|scope| {
        let applying = scope.spawn(|| {
            for batch_no in 1..=400 {
                let batch = batch(batch_no, &streams);
                crate::hot::apply(&sidecar, &batch).unwrap();
                truth.batches.push(batch);
            }
        });
        while !applying.is_finished() {
            let up_to = sidecar.applied(partition());
            let answers: Vec<Answers> =
                streams.iter().map(|stream| ask(&readers, count(stream, up_to))).collect();
            for answer in answers {
                assert_eq!(answer.recv().unwrap(), Ok(Reply::Count(up_to as u64)));
            }
            let batches = Batches { after: up_to / 2, up_to };
            let request = Request::Tail {
                partition: partition(),
                stream: streams[0].clone(),
                batches,
                after: None,
                bytes_max: usize::MAX,
            };
            let Ok(Reply::Tail(page)) = ask(&readers, request).recv().unwrap() else {
                panic!("another answer");
            };
            let read: Vec<i64> =
                TailReader::new(&page.bytes).map(|event| event.unwrap().batch_no).collect();
            assert_eq!(read, (up_to / 2 + 1..=up_to).collect::<Vec<_>>());
        }
    });
    let batches = Batches { after: 0, up_to: 400 };
    truth.compare(&sidecar, partition(), batches, usize::MAX).unwrap();
    let behind = ask(&readers, count(&streams[0], 401)).recv().unwrap();
    assert_eq!(behind, Err(SidecarError::Behind { applied: 400, up_to: 401 }));
    assert_eq!(readers.ended(), None);
}

#[test]
fn a_panic_ends_them_all_and_answers_what_waits() {
    let folder = Folder::new();
    let sidecar = opened(&folder);
    let readers = Readers::start(&sidecar, 2).unwrap();
    let stream = &streams_of(partition())[0];
    // Both threads are held, so that requests wait.
    let (release, gates): (Vec<_>, Vec<_>) = (0..2).map(|_| sync_channel::<()>(0)).unzip();
    let (started, starts) = channel();
    for (number, gate) in gates.into_iter().enumerate() {
        let started = started.clone();
        let callback = move |_| {
            started.send(()).unwrap();
            gate.recv().unwrap();
            assert!(number > 0, "as this test wants it");
        };
        assert!(readers.submit(count(stream, 0), Box::new(callback)).is_ok());
    }
    starts.recv().unwrap();
    starts.recv().unwrap();
    let waiting: Vec<Answers> = (0..20).map(|_| ask(&readers, count(stream, 0))).collect();
    release[0].send(()).unwrap();
    let reason = "a reader panicked: as this test wants it".to_owned();
    let ended = Err(SidecarError::Ended { reason: reason.clone() });
    for answer in waiting {
        assert_eq!(answer.recv().unwrap(), ended);
    }
    assert_eq!(readers.ended(), Some(reason));
    assert_eq!(ask(&readers, count(stream, 0)).recv().unwrap(), ended);
    release[1].send(()).unwrap();
    drop(readers);
    // The sidecar itself can still be used.
    assert_eq!(sidecar.count(partition(), stream.key(), Batches { after: 0, up_to: 0 }), Ok(0));
}

#[test]
fn a_request_that_finds_no_room_comes_back() {
    let folder = Folder::new();
    let sidecar = opened(&folder);
    let readers = Readers::start(&sidecar, 1).unwrap();
    let stream = &streams_of(partition())[0];
    let (release, gate) = sync_channel::<()>(0);
    let (started, starts) = channel();
    let hold = move |_| {
        started.send(()).unwrap();
        gate.recv().unwrap();
    };
    assert!(readers.submit(count(stream, 0), Box::new(hold)).is_ok());
    starts.recv().unwrap();
    let mut waiting = Vec::new();
    let refused = loop {
        let (sender, answers) = channel();
        let callback = Box::new(move |reply| sender.send(reply).unwrap());
        match readers.submit(count(stream, 0), callback) {
            Ok(()) => waiting.push(answers),
            Err(Refused(request, _)) => break request,
        }
    };
    assert_eq!(refused, count(stream, 0));
    release.send(()).unwrap();
    for answer in waiting {
        assert_eq!(answer.recv().unwrap(), Ok(Reply::Count(0)));
    }
}
