//! A streaming standby: reads streams, refuses writes, and goes on where the primary was when it
//! is promoted.

use allsource_e2e::calls::{all_events, assert_verified, safe_position};
use allsource_e2e::cluster::Stop;
use allsource_e2e::writer::shared_streams;
use allsource_e2e::{
    Append, Cluster, Ledger, ReadAll, ReadStream, Seed, Seen, Tail, Writer, failure, patience,
};
use postgres::Client;
use std::time::Duration;

const STEPS: u64 = 60;
const PAGE: i64 = 500;

#[test]
fn a_standby_reads_refuses_writes_and_goes_on_when_promoted() {
    let seed = Seed::announce();
    let primary = Cluster::with_store_and("primary", &["wal_level=replica", "max_wal_senders=4"]);
    let (ledger, seen, shared) = (Ledger::default(), Seen::default(), shared_streams(6));
    let mut writer = Writer {
        ledger: &ledger,
        seen: &seen,
        shared: &shared,
        own: "own".to_owned(),
        rng: seed.rng(1),
        pause_max: Duration::ZERO,
    };
    let mut client = primary.store();
    let mut work = |client: &mut Client, steps| {
        for _ in 0..steps {
            writer.step(client).expect("an append");
        }
    };
    work(&mut client, STEPS);
    let standby = primary.standby("standby");
    work(&mut client, STEPS);
    let content = all_events(&mut client).expect("the content");
    seen.committed(&content);
    seen.height(safe_position(&mut client).expect("es_safe_position"));

    let mut replica = standby.store();
    wait_for_replay(&mut client, &mut replica);
    assert_eq!(all_events(&mut replica).expect("the standby's content"), content);
    let of_stream: Vec<_> =
        content.iter().filter(|event| event.stream_id == "shared-0").cloned().collect();
    assert!(!of_stream.is_empty());
    let read = ReadStream::all("shared-0").read(&mut replica).expect("es_read on a standby");
    assert_eq!(read, of_stream);

    let ticket = ledger.open(1);
    let append = Append::to("shared-0", &ticket.events);
    assert_eq!(failure::refusal(append.one(&mut replica)), failure::READ_ONLY);
    assert_eq!(failure::refusal(append.many(&mut replica)), failure::READ_ONLY);
    let new = Append::to("a new stream", &ticket.events);
    assert_eq!(failure::refusal(new.one(&mut replica)), failure::READ_ONLY);
    // There is no registry of unsettled positions on a standby.
    let tail = ReadAll::after(0, PAGE).read(&mut replica);
    assert_eq!(failure::refusal(tail), failure::NOT_IN_STATE);
    assert_eq!(failure::refusal(safe_position(&mut replica)), failure::NOT_IN_STATE);

    // Positions of a transaction that the standby never gets to see.
    let lost = ledger.doomed(3);
    client.batch_execute("BEGIN").expect("BEGIN");
    Append::to("lost", &lost.events).many(&mut client).expect("an append");
    let rows = client
        .query("SELECT position FROM allsource.events WHERE stream_id = 'lost' ORDER BY 1", &[])
        .expect("its positions");
    for (index, row) in rows.iter().enumerate() {
        seen.holder(row.get(0), lost.number(), index);
    }
    primary.stop(Stop::Kill);

    let query = "SELECT pg_promote(wait => true)";
    let promoted: bool = replica.query_one(query, &[]).expect("pg_promote").get(0);
    assert!(promoted);
    assert_goes_on(&mut replica, &ledger, &seen, &content);
}

fn wait_for_replay(client: &mut Client, replica: &mut Client) {
    let lsn: String =
        client.query_one("SELECT pg_current_wal_lsn()::text", &[]).expect("an LSN").get(0);
    patience::until_true("the standby has replayed everything", || {
        let query = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn";
        replica.query_one(query, &[&lsn]).expect("the standby's LSN").get(0)
    });
}

/// The promoted server appends; in the connection that was open before, and in a new one.
fn assert_goes_on(
    client: &mut Client,
    ledger: &Ledger,
    seen: &Seen,
    content: &[allsource_e2e::Event],
) {
    let highest = seen.highest();
    assert!(safe_position(client).expect("es_safe_position") >= content.len() as i64);
    for stream in ["shared-0", "shared-0", "after promotion"] {
        let mut ticket = ledger.open(2);
        let version = Append::to(stream, &ticket.events).many(client).expect("an append");
        ticket.place(0, 2, stream, version);
        ledger.acknowledge(ticket);
    }
    let after = all_events(client).expect("the content");
    assert_eq!(after[..content.len()], *content);
    assert_eq!(after.len(), content.len() + 6);
    assert!(
        after[content.len()].position > highest,
        "position {} after {highest} was seen on the old primary",
        after[content.len()].position
    );
    ledger.assert_holds(&after);
    seen.committed(&after);
    let mut tail = Tail::after(0);
    while tail.poll(client, PAGE).expect("es_read_all") > 0 {}
    tail.assert_saw_exactly(&after);
    assert_verified(client);
}
