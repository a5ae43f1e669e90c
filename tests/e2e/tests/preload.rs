//! A server that does not preload the library: `CREATE EXTENSION` and reading streams work, and
//! what cannot work says which setting is missing.

use std::fmt::Debug;

use allsource_e2e::calls::{all_events, current_version, safe_position, verify};
use allsource_e2e::cluster::{STORE, Stop};
use allsource_e2e::event::NewEvent;
use allsource_e2e::{
    Append, Batch, BatchItem, Cluster, Enqueue, EnqueueBatch, ReadAll, ReadStream, bulk, failure,
};
use postgres::Error;
use serde_json::json;

const NOT_PRELOADED: &str = "shared_preload_libraries=";

/// Fails the test unless the server refused because the library is not preloaded.
fn assert_says_what_is_missing<T: Debug>(call: &str, result: Result<T, Error>) {
    let error = result.expect_err(call);
    assert_eq!(failure::sqlstate(&error), failure::NOT_IN_STATE, "{call}: {error}");
    let hint = error.as_db_error().and_then(|error| error.hint()).unwrap_or_default();
    assert!(hint.contains("shared_preload_libraries"), "{call}: {}", failure::describe(&error));
}

#[test]
fn without_preload_reading_works_and_appending_says_what_is_missing() {
    let cluster = Cluster::start("preload", &[NOT_PRELOADED]);
    cluster.create_store(STORE);
    let mut client = cluster.store();
    let event = [NewEvent::new("t", json!({"a": 1}))];

    assert_eq!(ReadStream::all("s").read(&mut client).expect("es_read"), []);
    assert_eq!(current_version(&mut client, "s", "default").expect("es_stream"), None);
    let partitions = client.query("SELECT * FROM allsource.partition_stats", &[]);
    assert_eq!(partitions.expect("partition_stats").len(), 32);
    assert_eq!(verify(&mut client).expect("es_verify"), Vec::<String>::new());

    let append = Append::to("s", &event);
    assert_says_what_is_missing("es_append", append.one(&mut client));
    assert_says_what_is_missing("es_append_many", append.many(&mut client));
    let item = BatchItem { stream: "s".into(), expected: None, event: event[0].clone() };
    assert_says_what_is_missing("es_append_batch", Batch::of(&[item]).append(&mut client));
    assert_says_what_is_missing("es_read_all", ReadAll::after(0, 10).read(&mut client));
    assert_says_what_is_missing("es_safe_position", safe_position(&mut client));
    assert_says_what_is_missing("es_enqueue", Enqueue::to("s", &event[0]).send(&mut client));
    let items = [("s".to_owned(), event[0].clone())];
    assert_says_what_is_missing("es_enqueue_batch", EnqueueBatch::of(&items).send(&mut client));
    assert_says_what_is_missing("es_flush", bulk::flush(&mut client));
    assert_says_what_is_missing("es_worker_pause", bulk::pause(&mut client));
    assert_says_what_is_missing("es_worker_resume", bulk::resume(&mut client));
    assert_says_what_is_missing("queue_stats", bulk::queue_stats(&mut client));
    let metrics = client.query("SELECT * FROM allsource.metrics", &[]);
    assert_says_what_is_missing("metrics", metrics);
    assert_eq!(bulk::dead_letters(&mut client).expect("es_dead_letters"), []);
    let checks = bulk::health(&mut client).expect("es_health");
    assert!(matches!(&checks[..], [(name, false, _)] if name == "preload"), "{checks:#?}");
    assert_eq!(all_events(&mut client).expect("the view"), [], "nothing was written");
}

/// A store that was filled, whose server then lost the setting, and got it back.
#[test]
fn a_store_can_be_read_when_the_setting_is_lost() {
    let cluster = Cluster::with_store("preload-lost");
    let events = [1, 2, 3].map(|n| NewEvent::new("t", json!(n)));
    let append = Append::to("s", &events);
    append.many(&mut cluster.store()).expect("an append");
    let content = all_events(&mut cluster.store()).expect("the content");

    cluster.stop(Stop::Fast);
    cluster.start_again(&[NOT_PRELOADED]);
    let mut client = cluster.store();
    assert_eq!(ReadStream::all("s").read(&mut client).expect("es_read"), content);
    assert_eq!(all_events(&mut client).expect("the view"), content);
    let last = ReadStream {
        from_version: None,
        max_count: Some(1),
        backward: true,
        ..ReadStream::all("s")
    };
    assert_eq!(last.read(&mut client).expect("es_read"), content[2..]);
    assert_says_what_is_missing("es_append_many", append.many(&mut client));
    drop(client);

    cluster.stop(Stop::Fast);
    cluster.start_again(&[]);
    let mut client = cluster.store();
    assert_eq!(append.expecting(3).many(&mut client).expect("an append"), 6);
    let after = all_events(&mut client).expect("the content");
    assert_eq!(after[..3], content);
    assert!(after[3].position > content[2].position);
}
