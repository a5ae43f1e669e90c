//! Writers that race for the same streams: who may win, who must lose, and what never happens.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;

use allsource_e2e::calls::{all_events, assert_verified, current_version};
use allsource_e2e::event::NewEvent;
use allsource_e2e::failure::{NOT_SUPPORTED, SERIALIZATION_FAILURE, describe, refusal, sqlstate};
use allsource_e2e::{Append, Batch, BatchItem, Cluster, STORE, Seed, sizes};
use postgres::{Client, Error, IsolationLevel};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::json;
use uuid::Uuid;

const RACERS: usize = 16;
const EXPECTING_ROUNDS: i64 = 60;
const CROWD: usize = 64;
const CROWD_ROUNDS: u64 = 6;
const APPENDS_IN_CROWD: i64 = 4;
const APPENDS_TO_FOUND: u64 = 300;
const BATCHERS: u64 = 16;
const BATCHES: u64 = 40;
const BATCH_STREAMS: u64 = 20;
const STREAMS_OF_A_ROUND: u64 = 8;

/// Lets one thread per client do `work` at the same moment; what each of them got.
fn race<T: Send>(clients: &mut [Client], work: impl Fn(usize, &mut Client) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(clients.len());
    thread::scope(|scope| {
        let racers: Vec<_> = clients
            .iter_mut()
            .enumerate()
            .map(|(number, client)| {
                let (start, work) = (&start, &work);
                scope.spawn(move || {
                    start.wait();
                    work(number, client)
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().expect("a racer")).collect()
    })
}

fn events(count: usize) -> Vec<NewEvent> {
    (0..count).map(|number| NewEvent::new("t", json!({"n": number}))).collect()
}

/// One event by way of one of the three functions; the version written.
fn append_somehow(
    number: usize,
    client: &mut Client,
    stream: &str,
    expected: i64,
) -> Result<i64, Error> {
    let events = events(1);
    let append = Append::to(stream, &events).expecting(expected);
    match number % 4 {
        0 => append.one(client),
        1 => append.many(client),
        2 => {
            let item = BatchItem {
                stream: stream.to_owned(),
                expected: Some(expected),
                event: events[0].clone(),
            };
            Batch::of(&[item]).append(client).map(|rows| rows[0].last_version)
        }
        _ => {
            let mut transaction = client.transaction()?;
            let version = append.one(&mut transaction)?;
            transaction.commit()?;
            Ok(version)
        }
    }
}

#[test]
fn with_an_expected_version_exactly_one_wins() {
    let cluster = Cluster::with_store("races");
    let mut clients: Vec<Client> = (0..RACERS).map(|_| cluster.store()).collect();
    for round in 0..EXPECTING_ROUNDS {
        // A new stream in every second round, a stream that is there in the others.
        let (stream, expected) = match round % 2 {
            0 => (format!("new-{round}"), 0),
            _ => ("old".to_owned(), round / 2),
        };
        let results = race(&mut clients, |number, c| append_somehow(number, c, &stream, expected));
        let winners: Vec<i64> = results.iter().filter_map(|r| r.as_ref().ok().copied()).collect();
        assert_eq!(winners, [expected + 1], "winners of round {round}: {results:?}");
        for result in results.into_iter().filter(Result::is_err) {
            assert_eq!(refusal(result), SERIALIZATION_FAILURE);
        }
    }
    assert_verified(&mut clients[0]);
}

/// Winners that roll back have not won: then another one may.
#[test]
fn a_winner_that_rolls_back_leaves_the_place_to_another() {
    let cluster = Cluster::with_store("races-rollback");
    let mut clients: Vec<Client> = (0..RACERS).map(|_| cluster.store()).collect();
    for round in 0..EXPECTING_ROUNDS / 3 {
        let stream = format!("s{}", round % 2);
        let expected = current_version(&mut clients[0], &stream, "default").expect("es_stream");
        let expected = expected.unwrap_or(0);
        let results = race(&mut clients, |number, client| -> Result<Option<i64>, Error> {
            let events = events(1);
            let mut transaction = client.transaction()?;
            let version = Append::to(&stream, &events).expecting(expected).one(&mut transaction)?;
            if number.is_multiple_of(2) {
                transaction.rollback()?;
                return Ok(None);
            }
            transaction.commit()?;
            Ok(Some(version))
        });
        let committed: Vec<i64> = results.iter().filter_map(|r| *r.as_ref().ok()?).collect();
        assert_eq!(committed, [expected + 1], "round {round}: {results:?}");
        for result in results.into_iter().filter(Result::is_err) {
            assert_eq!(refusal(result), SERIALIZATION_FAILURE);
        }
    }
    assert_verified(&mut clients[0]);
}

/// 64 writers of one stream, which the first of them creates, some of whom roll back.
#[test]
fn without_an_expected_version_nobody_fails() {
    let cluster = Cluster::with_store("races-crowd");
    let mut clients: Vec<Client> = (0..CROWD).map(|_| cluster.store()).collect();
    for round in 0..CROWD_ROUNDS * sizes::factor() {
        let stream = format!("crowd-{round}");
        let results = race(&mut clients, |number, client| -> Result<Vec<i64>, Error> {
            let events = events(1);
            let append = Append::to(&stream, &events);
            let mut versions = Vec::new();
            for turn in 0..APPENDS_IN_CROWD {
                // On the first turn every third one has created the stream for nothing.
                if turn == 0 && number.is_multiple_of(3) {
                    let mut transaction = client.transaction()?;
                    append.one(&mut transaction)?;
                    transaction.rollback()?;
                }
                versions.push(append.one(client)?);
            }
            Ok(versions)
        });
        let mut all = BTreeSet::new();
        for result in results {
            let versions = result.unwrap_or_else(|error| panic!("{}", describe(&error)));
            assert!(versions.is_sorted_by(|one, other| one < other), "{versions:?}");
            for version in versions {
                assert!(all.insert(version), "version {version} was given twice");
            }
        }
        let last = CROWD as i64 * APPENDS_IN_CROWD;
        assert_eq!(all, (1..=last).collect(), "versions without a gap");
        let version = current_version(&mut clients[0], &stream, "default").expect("es_stream");
        assert_eq!(version, Some(last));
    }
    assert_verified(&mut clients[0]);
}

/// An index of the owner's on a column that every append changes: each update of a stream's row
/// then is a new entry in all its indexes, in front of the old one or behind it. A writer that
/// looks for the stream while others write it must find it all the same.
#[test]
fn a_stream_that_exists_is_found_while_others_write_it() {
    let cluster = Cluster::with_store("races-found");
    cluster.execute(STORE, "CREATE INDEX ON allsource.event_streams (updated_at)");
    let mut clients: Vec<Client> = (0..RACERS).map(|_| cluster.store()).collect();
    Append::to("s", &events(1)).one(&mut clients[0]).expect("an append");
    let appends = APPENDS_TO_FOUND * sizes::factor();
    let results = race(&mut clients, |number, client| -> Result<(), Error> {
        let events = events(1);
        let expected = (number % 2 == 0).then_some(-1);
        for _ in 0..appends {
            Append { expected, ..Append::to("s", &events) }.one(client)?;
        }
        Ok(())
    });
    for result in results {
        result.unwrap_or_else(|error| panic!("{}", describe(&error)));
    }
    let version = current_version(&mut clients[0], "s", "default").expect("es_stream");
    assert_eq!(version, Some(1 + (RACERS as u64 * appends) as i64));
    assert_verified(&mut clients[0]);
}

/// Batches over the same streams in random orders, many of them creating these streams, some in
/// transactions that roll back: no deadlock, and no other failure.
#[test]
fn overlapping_batches_never_deadlock() {
    let seed = Seed::announce();
    let cluster = Cluster::with_store("races-batches");
    let batches = BATCHES * sizes::factor();
    let counts: Vec<u64> = thread::scope(|scope| {
        let batchers: Vec<_> = (0..BATCHERS)
            .map(|number| {
                let (mut client, mut rng) = (cluster.store(), seed.rng(number));
                scope.spawn(move || {
                    (0..batches)
                        .map(|round| {
                            let result = append_batch(&mut client, &mut rng, round);
                            result.unwrap_or_else(|error| panic!("{}", describe(&error)))
                        })
                        .sum()
                })
            })
            .collect();
        batchers.into_iter().map(|batcher| batcher.join().expect("a batcher")).collect()
    });
    let mut client = cluster.store();
    let content = all_events(&mut client).expect("the content");
    assert_eq!(content.len() as u64, counts.iter().sum::<u64>());
    assert_verified(&mut client);
}

/// One batch, or an append to one of its streams; how many events are committed.
fn append_batch(client: &mut Client, rng: &mut StdRng, round: u64) -> Result<u64, Error> {
    // Everybody comes through the same rounds, more or less together.
    let mut streams: Vec<String> =
        (0..STREAMS_OF_A_ROUND).map(|number| format!("round-{round}-{number}")).collect();
    streams.extend((0..BATCH_STREAMS).map(|number| format!("all-{number}")));
    streams.shuffle(rng);
    streams.truncate(rng.random_range(1..=streams.len()));
    let with_ids = rng.random_bool(0.3);
    let tenant = if rng.random_bool(0.8) { "default" } else { "other" };
    let mut items: Vec<BatchItem> = streams
        .into_iter()
        .map(|stream| {
            let id = with_ids.then(|| Uuid::from_u128(rng.random()));
            let event = NewEvent { id, ..NewEvent::new("t", json!(round)) };
            BatchItem { stream, expected: None, event }
        })
        .collect();
    if !with_ids && rng.random_bool(0.5) {
        let twin = items[0].clone();
        items.push(twin);
    }
    let count = items.len() as u64;
    let batch = Batch { tenant, items: &items };
    match rng.random_range(0..6) {
        0 => {
            let mut transaction = client.transaction()?;
            batch.append(&mut transaction)?;
            transaction.rollback()?;
            Ok(0)
        }
        1 => {
            let mut transaction = client.transaction()?;
            batch.append(&mut transaction)?;
            transaction.commit()?;
            Ok(count)
        }
        2 => {
            let events = [items[0].event.clone()];
            Append { tenant, ..Append::to(&items[0].stream, &events) }.one(client)?;
            Ok(1)
        }
        _ => {
            batch.append(client)?;
            Ok(count)
        }
    }
}

#[test]
fn under_stricter_isolation_an_append_succeeds_or_is_a_serialization_failure() {
    let cluster = Cluster::with_store("races-strict");
    let mut clients: Vec<Client> = (0..RACERS).map(|_| cluster.store()).collect();
    let mut written = 0;
    let mut refused = 0;
    for round in 0..EXPECTING_ROUNDS / 2 {
        let stream = format!("s{}", round / 10);
        let before = current_version(&mut clients[0], &stream, "default").expect("es_stream");
        let level = [IsolationLevel::RepeatableRead, IsolationLevel::Serializable];
        let level = level[usize::from(round % 2 == 1)];
        let results = race(&mut clients, |_, client| -> Result<i64, Error> {
            let events = events(2);
            let mut transaction = client.build_transaction().isolation_level(level).start()?;
            transaction.query_one("SELECT count(*) FROM allsource.event_streams", &[])?;
            let version = Append::to(&stream, &events).many(&mut transaction)?;
            transaction.commit()?;
            Ok(version)
        });
        let mut successes = 0;
        for result in results {
            match result {
                Ok(_) => successes += 1,
                Err(error) => {
                    assert_eq!(sqlstate(&error), SERIALIZATION_FAILURE, "{}", describe(&error));
                    refused += 1;
                }
            }
        }
        assert!(successes >= 1, "somebody must get through in round {round}");
        let after = current_version(&mut clients[0], &stream, "default").expect("es_stream");
        assert_eq!(after.unwrap_or(0), before.unwrap_or(0) + 2 * successes);
        written += successes;
    }
    println!("{written} written, {refused} refused");
    assert!(refused > 0, "nothing was refused: nobody raced");
    assert_verified(&mut clients[0]);
}

/// A prepared transaction outlives its session, and with it the place where its positions are
/// published; so it is refused, as for NOTIFY.
#[test]
fn a_transaction_that_has_appended_cannot_be_prepared() {
    let cluster = Cluster::with_store_and("races-2pc", &["max_prepared_transactions=2"]);
    let mut client = cluster.store();
    let events = events(1);

    client.batch_execute("BEGIN").expect("BEGIN");
    Append::to("s", &events).one(&mut client).expect("an append");
    let prepared = client.batch_execute("PREPARE TRANSACTION 'a'");
    assert_eq!(refusal(prepared), NOT_SUPPORTED);
    client.batch_execute("ROLLBACK").expect("ROLLBACK");
    assert_eq!(all_events(&mut client).expect("the content"), []);

    client.batch_execute("BEGIN; SAVEPOINT a").expect("BEGIN");
    Append::to("s", &events).one(&mut client).expect("an append");
    client.batch_execute("RELEASE a").expect("RELEASE");
    let prepared = client.batch_execute("PREPARE TRANSACTION 'b'");
    assert_eq!(refusal(prepared), NOT_SUPPORTED);
    client.batch_execute("ROLLBACK").expect("ROLLBACK");

    // Whoever has only read may prepare, and holds no reader back then.
    cluster.execute(STORE, "CREATE TABLE other (n int)");
    client.batch_execute("BEGIN; INSERT INTO other VALUES (1)").expect("BEGIN");
    allsource_e2e::ReadStream::all("s").read(&mut client).expect("es_read");
    client.batch_execute("PREPARE TRANSACTION 'c'").expect("PREPARE");
    Append::to("s", &events).one(&mut client).expect("an append");
    let tail = allsource_e2e::ReadAll::after(0, 10).read(&mut client).expect("es_read_all");
    assert_eq!(tail.len(), 1);
    client.batch_execute("COMMIT PREPARED 'c'").expect("COMMIT PREPARED");
    let row = client.query_one("SELECT count(*) FROM pg_prepared_xacts", &[]).expect("a count");
    assert_eq!(row.get::<_, i64>(0), 0);
}
