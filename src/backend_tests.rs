//! Tests that run within a backend, each in a transaction that is rolled back. They look at what
//! SQL from outside cannot: stored bytes against PostgreSQL's own, and the store's state within a
//! transaction. What a client sees is tested in `tests/`.

#[pgrx::pg_schema]
mod tests {
    use crate::board::FiguresNow;
    use crate::codec::hot_batch::{self, BODY_BYTES_MAX, HotBatchWriter, Pushed};
    use crate::codec::hot_tail::TailReader;
    use crate::codec::record::{Home, Record};
    use crate::model::batch::StreamKey;
    use crate::model::event::NewEvent;
    use crate::model::hot::Batches;
    use crate::model::partition::Partition;
    use crate::pg::session::raised::{Caught, catch};
    use crate::pg::settings;
    use crate::pg::sidecar::{self, Index, Query, Refusal};
    use pgrx::prelude::*;

    fn one<T: FromDatum + IntoDatum>(sql: &str) -> Option<T> {
        Spi::get_one(sql).expect("the query runs")
    }

    fn append(stream: &str, events: usize) {
        let call = format!(
            "SELECT allsource.es_append_many('{stream}', array_agg('type-' || g),
                    array_agg(jsonb_build_object('n', g, 'text', repeat('x', g % 50))))
               FROM generate_series(1, {events}) g"
        );
        assert_eq!(one::<i64>(&call), Some(events as i64));
    }

    /// The bytes of an array within its row, as hexadecimal digits.
    #[pg_extern]
    fn array_bytes(array: pgrx::AnyArray) -> String {
        let datum = array.datum();
        // SAFETY: an array is of variable length.
        #[expect(unsafe_code, reason = "looks at the stored bytes")]
        let bytes = unsafe {
            let value = pgrx::pg_sys::pg_detoast_datum(datum.cast_mut_ptr());
            pgrx::varlena::varlena_to_byte_slice(value).to_vec()
        };
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[pg_test]
    fn stored_arrays_are_what_postgresql_would_build() {
        append("arrays", 20);
        let same = one::<bool>(
            "SELECT tests.array_bytes(l.event_types) =
                        tests.array_bytes((SELECT array_agg('type-' || g ORDER BY g) FROM generate_series(1, 20) g))
                AND tests.array_bytes(l.payloads) =
                        tests.array_bytes((SELECT array_agg(jsonb_build_object('n', g, 'text', repeat('x', g % 50)) ORDER BY g)
                                             FROM generate_series(1, 20) g))
               FROM allsource.event_log l JOIN allsource.event_streams s USING (stream_no)
              WHERE s.stream_id = 'arrays'",
        );
        assert_eq!(same, Some(true));
    }

    #[pg_test]
    fn null_metadata_among_others_is_stored_as_postgresql_would() {
        let stored = one::<bool>(
            "SELECT allsource.es_append_many('nulls', ARRAY['a', 'b', 'c'], ARRAY['1', '2', '3']::jsonb[],
                                             ARRAY[NULL, '{\"m\": 1}', NULL]::jsonb[]) = 3",
        );
        assert_eq!(stored, Some(true));
        let same = one::<bool>(
            "SELECT tests.array_bytes(l.metadata) = tests.array_bytes(ARRAY[NULL, '{\"m\": 1}', NULL]::jsonb[])
                AND l.event_ids IS NULL
               FROM allsource.event_log l JOIN allsource.event_streams s USING (stream_no)
              WHERE s.stream_id = 'nulls'",
        );
        assert_eq!(same, Some(true));
    }

    #[pg_test]
    fn the_checksum_notices_every_column() {
        append("checked", 3);
        let changes = [
            "first_version = first_version + 1",
            "\"position\" = \"position\" + 1",
            "\"timestamp\" = \"timestamp\" + interval '1 microsecond'",
            "event_types[2] = 'other'",
            "payloads[3] = '{}'",
            "metadata = ARRAY['{}', NULL, NULL]::jsonb[]",
            "event_ids = ARRAY[gen_random_uuid(), NULL, NULL]",
            "timestamps = array_fill(\"timestamp\", ARRAY[3])",
        ];
        let right = "SELECT count(*) FROM allsource.event_log l JOIN allsource.event_streams s USING (stream_no)
                      WHERE s.stream_id = 'checked' AND allsource.es_run_checksum(l) = l.checksum";
        assert_eq!(one::<i64>(right), Some(1));
        for change in changes {
            // Each change is undone by the handler, so that they do not add up.
            Spi::run(&format!(
                "DO $do$ BEGIN
                     UPDATE allsource.event_log l SET {change} FROM allsource.event_streams s
                      WHERE s.stream_no = l.stream_no AND s.stream_id = 'checked';
                     IF ({right}) <> 0 THEN RAISE EXCEPTION 'unnoticed'; END IF;
                     RAISE division_by_zero;
                 EXCEPTION WHEN division_by_zero THEN NULL;
                 END $do$"
            ))
            .expect(change);
            assert_eq!(one::<i64>(right), Some(1));
        }
    }

    #[pg_test]
    fn a_long_append_is_cut_into_runs() {
        append("long", 1000);
        let runs = one::<i64>(
            "SELECT count(*) FROM allsource.event_log l JOIN allsource.event_streams s USING (stream_no)
              WHERE s.stream_id = 'long'",
        );
        assert!(runs.is_some_and(|runs| (4..100).contains(&runs)), "{runs:?}");
        assert_eq!(one::<bool>("SELECT allsource.es_verify_gapless('long')"), Some(true));
        let faults = "SELECT count(*) FROM allsource.es_verify(stream_id => 'long')";
        assert_eq!(one::<i64>(faults), Some(0));
    }

    #[pg_test]
    fn own_events_are_read_by_stream_but_are_not_safe_yet() {
        append("own", 5);
        let read = "SELECT count(*) FROM allsource.es_read('own')";
        assert_eq!(one::<i64>(read), Some(5));
        let lowest = one::<i64>("SELECT min(\"position\") FROM allsource.es_read('own')");
        let safe = one::<i64>("SELECT allsource.es_safe_position()");
        assert!(safe < lowest, "{safe:?} {lowest:?}");
        let tail = "SELECT count(*) FROM allsource.es_read_all(0, NULL) WHERE stream_id = 'own'";
        assert_eq!(one::<i64>(tail), Some(0));
    }

    #[pg_test]
    fn a_second_append_of_the_same_command_sees_the_first() {
        let versions = one::<Vec<i64>>(
            "SELECT array_agg(allsource.es_append('same', 't', '{}')) FROM generate_series(1, 3)",
        );
        assert_eq!(versions, Some(vec![1, 2, 3]));
    }

    /// A body of `hot_batches` with an event for each of these streams, and its checksum.
    fn hot_batch(partition: Partition, batch_no: i64, streams: &[&[u8]]) -> (Vec<u8>, i32) {
        let mut writer = HotBatchWriter::new(BODY_BYTES_MAX);
        writer.begin(batch_no);
        for stream_id in streams {
            let (event_type, payload) = (&b"t"[..], &b"p"[..]);
            let record = Record {
                enqueued_at_us: 0,
                home: HOME,
                stream_id,
                tenant_id: b"default",
                entity_id: None,
                event: NewEvent { event_type, payload, metadata: None, event_id: None },
            };
            assert_eq!(writer.push(&record), Ok(Pushed::Added));
        }
        let checksum = hot_batch::checksum(partition, batch_no, writer.body());
        (writer.body().to_vec(), checksum)
    }

    const HOME: Home = Home { database: 1, incarnation: 2 };

    /// The backend of this test owns the sidecar and asks it: its threads answer.
    #[pg_test]
    fn the_sidecar_answers_over_the_board() {
        let (stream_id, other) = (&b"a"[..], &b"missing"[..]);
        let partition = Partition::of(stream_id);
        let ask = |stream_id, up_to| Query {
            home: HOME,
            partition,
            stream: StreamKey { stream_id, tenant_id: b"default" },
            batches: Batches { after: 0, up_to },
        };
        let before = sidecar::status().expect("a board").figures;
        // Nobody serves.
        assert_eq!(sidecar::count(&ask(stream_id, 0)), None);
        let mut index = Index::open(7, 1, HOME);
        if !Index::IS_SUPPORTED {
            assert!(!index.is_there() && !index.reopen() && index.error().is_some());
            assert_eq!(sidecar::count(&ask(stream_id, 0)), None);
            return;
        }
        assert!(index.rebuild(), "{:?}", index.error());
        assert_eq!(index.applied(partition).map(|mark| mark.batch_no), Some(0));
        for batch_no in 1..=3 {
            let (body, checksum) = hot_batch(partition, batch_no, &[stream_id, stream_id]);
            assert_eq!(index.apply(partition, batch_no, checksum, &body), Ok(true));
            assert_eq!(index.apply(partition, batch_no, checksum, &body), Ok(false));
            let damaged = index.apply(partition, batch_no + 1, checksum, &body);
            assert!(matches!(damaged, Err(Refusal::Impossible { .. })), "{damaged:?}");
            let mark = index.applied(partition).expect("an index");
            assert_eq!((mark.batch_no, mark.checksum), (batch_no, Some(checksum)));
        }
        assert_eq!(sidecar::count(&ask(stream_id, 3)), Some(6));
        assert_eq!(sidecar::count(&ask(other, 3)), Some(0));
        let mut tail = Vec::new();
        let page = sidecar::tail(&ask(stream_id, 3), None, &mut tail).expect("no error");
        assert_eq!(page.map(|page| (page.events, page.next)), Some((6, None)));
        let times: Vec<i64> =
            TailReader::new(&tail).map(|event| event.expect("an event").timestamp_us).collect();
        assert_eq!(times, [1, 1, 2, 2, 3, 3]);
        // A batch that was not applied is not waited for long, and not at all if the statement is cancelled.
        assert_eq!(sidecar::count(&ask(stream_id, 4)), None);
        // SAFETY: as the handler of a signal sets them.
        #[expect(unsafe_code, reason = "cancels the statement")]
        unsafe {
            pgrx::pg_sys::QueryCancelPending = 1;
            pgrx::pg_sys::InterruptPending = 1;
        }
        let cancelled = catch(|| sidecar::count(&ask(stream_id, 4)));
        assert!(
            matches!(cancelled.map_err(Caught::failure), Err(failure) if failure.sqlstate == *b"57014")
        );
        assert_eq!(sidecar::count(&ask(stream_id, 3)), Some(6));
        index.begin_flush().expect("a disk");
        let statistics = index.statistics().expect("an index");
        let status = sidecar::status().expect("a board");
        assert!(status.is_served && status.figures.disk_bytes == statistics.disk_bytes);
        assert_eq!(status.figures.applied[partition.index()], 3);
        let FiguresNow { answers, misses, .. } = status.figures;
        assert_eq!((answers - before.answers, misses - before.misses), (4, 2));
        assert!(matches!(
            index.checkpoint(std::path::Path::new("/")),
            Err(Refusal::Impossible { .. })
        ));
        assert_eq!(index.forget(partition, 2), Ok(()));
        assert_eq!(sidecar::count(&ask(stream_id, 3)), None);
        assert_eq!(index.discard(partition), Ok(()));
        assert_eq!(index.applied(partition).map(|mark| mark.batch_no), Some(0));
        drop(index);
        assert_eq!(sidecar::count(&ask(stream_id, 0)), None);
        // Its files are cut while it is open.
        let mut index = Index::open(7, 1, HOME);
        assert!(index.is_there() && index.emptied().is_none(), "{:?}", index.emptied());
        let (body, checksum) = hot_batch(partition, 1, &[stream_id]);
        assert_eq!(index.apply(partition, 1, checksum, &body), Ok(true));
        drop(index);
        let mut index = Index::open(7, 1, HOME);
        assert_eq!(index.applied(partition).map(|mark| mark.batch_no), Some(1));
        let database = settings::sidecar_directory().join("database");
        for entry in std::fs::read_dir(database).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "sst") {
                std::fs::File::options()
                    .write(true)
                    .open(path)
                    .expect("a file")
                    .set_len(0)
                    .expect("a disk");
            }
        }
        assert_eq!(sidecar::count(&ask(stream_id, 1)), None);
        assert!(!index.is_there());
        assert!(index.error().is_some_and(|error| error.contains("database has failed")));
        let status = sidecar::status().expect("a board");
        assert!(!status.is_served);
        assert_eq!(status.error.as_deref(), index.error());
        assert_eq!(index.apply(partition, 2, checksum, &body), Err(Refusal::Away));
        assert!(index.reopen() && index.emptied().is_some());
        assert_eq!(index.apply(partition, 1, checksum, &body), Ok(true));
        assert_eq!(sidecar::count(&ask(stream_id, 1)), Some(1));
        let rebuilds = sidecar::status().expect("a board").figures.rebuilds;
        assert!(rebuilds >= before.rebuilds + 2);
        // The process ends without dropping it.
        std::mem::forget(index);
    }
}
