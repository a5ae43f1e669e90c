//! SERIALIZABLE: reads and appends go past SQL, but not past the conflict detection.

use allsource_e2e::calls::{current_version, safe_position};
use allsource_e2e::event::NewEvent;
use allsource_e2e::failure::{SERIALIZATION_FAILURE, describe, refusal, sqlstate};
use allsource_e2e::{Append, Cluster, ReadAll, ReadStream};
use postgres::{Client, Error, IsolationLevel, Transaction};
use serde_json::json;

fn append(client: &mut impl postgres::GenericClient, stream: &str) -> Result<i64, Error> {
    Append::to(stream, &[NewEvent::new("t", json!(1))]).one(client)
}

fn begin(client: &mut Client) -> Transaction<'_> {
    let builder = client.build_transaction().isolation_level(IsolationLevel::Serializable);
    builder.start().expect("BEGIN")
}

/// Each of two transactions reads one stream, and then appends to the one that the other has
/// read. In every serial order one of them would have seen the other's event; so one must fail.
fn assert_write_skew_is_refused(
    cluster: &Cluster,
    streams: [&str; 2],
    look: impl Fn(&mut Transaction<'_>, &str) -> usize,
) {
    let (mut one, mut other) = (cluster.store(), cluster.store());
    let (mut one, mut other) = (begin(&mut one), begin(&mut other));
    let before = look(&mut one, streams[0]);
    assert_eq!(look(&mut other, streams[1]), before);
    let outcome = append(&mut one, streams[1])
        .and_then(|_| append(&mut other, streams[0]))
        .and_then(|_| one.commit())
        .and_then(|()| other.commit());
    let error = outcome.expect_err("both transactions were let through");
    assert_eq!(sqlstate(&error), SERIALIZATION_FAILURE, "{}", describe(&error));
}

#[test]
fn write_skew_over_streams_is_refused() {
    let cluster = Cluster::with_store("serializable");
    for stream in ["a", "b"] {
        append(&mut cluster.store(), stream).expect("an append");
    }
    let read = |t: &mut Transaction<'_>, stream: &str| {
        ReadStream::all(stream).read(t).expect("es_read").len()
    };
    assert_write_skew_is_refused(&cluster, ["a", "b"], read);
    // Streams that are not there yet: what is read is a gap in an index.
    assert_write_skew_is_refused(&cluster, ["new", "fresh"], read);
}

#[test]
fn write_skew_over_heads_is_refused() {
    let cluster = Cluster::with_store("serializable-heads");
    for stream in ["a", "b"] {
        append(&mut cluster.store(), stream).expect("an append");
    }
    let head = |t: &mut Transaction<'_>, stream: &str| {
        let version = current_version(t, stream, "default").expect("es_stream").unwrap_or(0);
        usize::try_from(version).expect("a version")
    };
    assert_write_skew_is_refused(&cluster, ["a", "b"], head);
    assert_write_skew_is_refused(&cluster, ["new", "fresh"], head);
}

#[test]
fn write_skew_over_the_tail_is_refused() {
    let cluster = Cluster::with_store("serializable-tail");
    for stream in ["a", "b"] {
        append(&mut cluster.store(), stream).expect("an append");
    }
    let tail = |t: &mut Transaction<'_>, _: &str| {
        ReadAll::after(0, 100).read(t).expect("es_read_all").len()
    };
    assert_write_skew_is_refused(&cluster, ["a", "b"], tail);
}

/// A reader that has seen everything reads nothing, and yet depends on what comes there.
#[test]
fn write_skew_behind_the_last_event_is_refused() {
    let cluster = Cluster::with_store("serializable-end");
    let mut client = cluster.store();
    for stream in ["a", "b"] {
        append(&mut client, stream).expect("an append");
    }
    let last = safe_position(&mut client).expect("es_safe_position");
    let tail = |t: &mut Transaction<'_>, _: &str| {
        ReadAll::after(last, 100).read(t).expect("es_read_all").len()
    };
    assert_write_skew_is_refused(&cluster, ["a", "b"], tail);
}

/// The same where one has committed before the other looks, which its snapshot does not show.
#[test]
fn write_skew_with_events_that_the_snapshot_does_not_show_is_refused() {
    let cluster = Cluster::with_store("serializable-unseen");
    for stream in ["a", "b"] {
        append(&mut cluster.store(), stream).expect("an append");
    }
    for after in [0, 2] {
        let (mut one, mut other) = (cluster.store(), cluster.store());
        let (mut one, mut other) = (begin(&mut one), begin(&mut other));
        for transaction in [&mut one, &mut other] {
            transaction.batch_execute("SELECT FROM allsource.event_ids").expect("a snapshot");
        }
        let read = |t: &mut Transaction<'_>| ReadAll::after(after, 100).read(t);
        read(&mut other).expect("es_read_all");
        append(&mut other, "b").expect("an append");
        other.commit().expect("COMMIT");
        let outcome = read(&mut one).and_then(|_| append(&mut one, "a")).and_then(|_| one.commit());
        let error = outcome.expect_err("both transactions were let through");
        assert_eq!(sqlstate(&error), SERIALIZATION_FAILURE, "{}", describe(&error));
    }
}

/// An event that the snapshot shows must not be left out because an earlier one is not settled: the call
/// fails, or what is decided by its result could be wrong.
#[test]
fn a_reader_that_cannot_have_all_of_its_snapshot_fails() {
    let cluster = Cluster::with_store("serializable-gap");
    let (mut slow, mut fast, mut reader) = (cluster.store(), cluster.store(), cluster.store());
    let mut held = slow.transaction().expect("BEGIN");
    append(&mut held, "slow").expect("an append");
    append(&mut fast, "fast").expect("an append");
    let read = |t: &mut Transaction<'_>| ReadAll::after(0, 100).read(t);
    let mut transaction = begin(&mut reader);
    assert_eq!(refusal(read(&mut transaction)), SERIALIZATION_FAILURE);
    drop(transaction);
    // Now it is settled, but the snapshot does not show it.
    let mut transaction = begin(&mut reader);
    transaction.batch_execute("SELECT FROM allsource.event_ids").expect("a snapshot");
    held.commit().expect("COMMIT");
    assert_eq!(refusal(read(&mut transaction)), SERIALIZATION_FAILURE);
    drop(transaction);
    let mut transaction = begin(&mut reader);
    assert_eq!(read(&mut transaction).expect("es_read_all").len(), 2);
    // What it has appended itself is read once it has committed.
    append(&mut transaction, "slow").expect("an append");
    assert_eq!(read(&mut transaction).expect("es_read_all").len(), 2);
    transaction.commit().expect("COMMIT");
}

/// Streams and ordinary tables in one transaction.
#[test]
fn write_skew_between_a_stream_and_a_table_is_refused() {
    let cluster = Cluster::with_store("serializable-table");
    cluster.execute(allsource_e2e::STORE, "CREATE TABLE ordinary (n int)");
    let (mut one, mut other) = (cluster.store(), cluster.store());
    let (mut one, mut other) = (begin(&mut one), begin(&mut other));
    assert_eq!(ReadStream::all("s").read(&mut one).expect("es_read"), []);
    let query = "SELECT count(*) FROM ordinary";
    assert_eq!(other.query_one(query, &[]).expect("a count").get::<_, i64>(0), 0);
    let outcome = one
        .execute("INSERT INTO ordinary VALUES (1)", &[])
        .and_then(|_| append(&mut other, "s"))
        .and_then(|_| one.commit())
        .and_then(|()| other.commit());
    let error = outcome.expect_err("both transactions were let through");
    assert_eq!(sqlstate(&error), SERIALIZATION_FAILURE, "{}", describe(&error));
}

/// Reading alone never fails, whoever appends meanwhile, and shows one moment.
#[test]
fn a_reader_sees_one_moment() {
    let cluster = Cluster::with_store("serializable-reader");
    let (mut reader, mut writer) = (cluster.store(), cluster.store());
    append(&mut writer, "s").expect("an append");
    let mut transaction = begin(&mut reader);
    assert_eq!(ReadStream::all("s").read(&mut transaction).expect("es_read").len(), 1);
    append(&mut writer, "s").expect("an append");
    append(&mut writer, "t").expect("an append");
    assert_eq!(ReadStream::all("s").read(&mut transaction).expect("es_read").len(), 1);
    assert_eq!(ReadStream::all("t").read(&mut transaction).expect("es_read").len(), 0);
    assert_eq!(ReadAll::after(0, 10).read(&mut transaction).expect("es_read_all").len(), 1);
    transaction.commit().expect("COMMIT");
    assert_eq!(ReadAll::after(0, 10).read(&mut reader).expect("es_read_all").len(), 3);
}

/// The head that `es_create_stream` finds is read as well as one that `es_stream` finds.
#[test]
fn write_skew_over_streams_that_need_not_be_created_is_refused() {
    let cluster = Cluster::with_store("serializable-created");
    for stream in ["a", "b"] {
        append(&mut cluster.store(), stream).expect("an append");
    }
    let create = |t: &mut Transaction<'_>, stream: &str| {
        let query = "SELECT current_version FROM allsource.es_create_stream($1)";
        let version: i64 = t.query_one(query, &[&stream]).expect("es_create_stream").get(0);
        usize::try_from(version).expect("a version")
    };
    assert_write_skew_is_refused(&cluster, ["a", "b"], create);
}
