//! Tests that run within a backend, each in a transaction that is rolled back. They look at what
//! SQL from outside cannot: stored bytes against PostgreSQL's own, and the store's state within a
//! transaction. What a client sees is tested in `tests/`.

#[pgrx::pg_schema]
mod tests {
    use crate::model::event::NewEvent;
    use crate::model::partition::Partition;
    use crate::model::stream_append::StreamAppend;
    use crate::model::version::ExpectedVersion;
    use crate::pg::call::datum::{body, jsonb};
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

    /// Appends an event for each of these times, in microseconds since 2000-01-01 00:00 UTC.
    fn append_with_times(stream: &str, times_us: &[i64]) {
        let payload = jsonb("{\"n\": 1}").expect("a payload");
        // SAFETY: jsonb is of variable length, and lives as long as the transaction.
        #[expect(unsafe_code, reason = "takes the payload's bytes")]
        let payload = unsafe { body(payload) };
        let event = NewEvent { event_type: b"timed", payload, metadata: None, event_id: None };
        let appended = crate::pg::write::append::append(&[StreamAppend {
            partition: Partition::of(stream.as_bytes()),
            stream_id: stream.as_bytes(),
            tenant_id: b"default",
            entity_id: None,
            expected: ExpectedVersion::Exactly(0),
            events: &vec![event; times_us.len()],
            timestamps_us: Some(times_us),
        }])
        .expect("an append");
        assert_eq!(appended[0].last_version, times_us.len() as i64);
    }

    /// The times of the events of `source`, in the order of `order`.
    fn times_us(source: &str, order: &str) -> Vec<i64> {
        one(&format!(
            "SELECT array_agg((extract(epoch FROM \"timestamp\" - timestamptz '2000-01-01 00:00 UTC')
                               * 1000000)::int8 ORDER BY {order})
               FROM {source}"
        ))
        .expect("events")
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
    fn events_that_are_given_times_have_these() {
        // Several runs: first of times that differ and decrease now and then, later of a single time.
        let given: Vec<i64> =
            (0..1_200).map(|n| if n < 600 { n * n % 1_009 - 500 } else { 7 }).collect();
        append_with_times("timed", &given);
        assert_eq!(times_us("allsource.es_read('timed')", "version"), given);
        assert_eq!(times_us("allsource.events WHERE stream_id = 'timed'", "version"), given);
        assert_eq!(times_us("allsource.es_read('timed', 300, 2)", "version"), given[299..301]);
        let backward = "allsource.es_read('timed', 900, 700, backward => true)";
        assert_eq!(times_us(backward, "version"), given[200..900]);
        let shapes = one::<bool>(
            "SELECT count(*) FILTER (WHERE l.timestamps IS NULL) > 1
                AND count(l.timestamps) > 1
                AND bool_and(l.timestamps[1] = l.\"timestamp\")
                AND bool_and(tests.array_bytes(l.timestamps) = tests.array_bytes((
                        SELECT array_agg(e.\"timestamp\" ORDER BY e.version) FROM allsource.es_read('timed') e
                         WHERE e.version BETWEEN l.first_version AND l.first_version + cardinality(l.event_types) - 1)))
               FROM allsource.event_log l JOIN allsource.event_streams s USING (stream_no)
              WHERE s.stream_id = 'timed'",
        );
        assert_eq!(shapes, Some(true));
        assert_eq!(one::<bool>("SELECT allsource.es_verify_gapless('timed')"), Some(true));
        let faults = "SELECT count(*) FROM allsource.es_verify(stream_id => 'timed')";
        assert_eq!(one::<i64>(faults), Some(0));
    }

    #[pg_test]
    fn times_that_are_the_same_are_stored_once() {
        append_with_times("together", &[i64::from(i32::MAX); 3]);
        let stored = one::<bool>(
            "SELECT l.timestamps IS NULL
                AND l.\"timestamp\" = timestamptz '2000-01-01 00:00 UTC' + 2147483647 * interval '1 microsecond'
                AND s.updated_at > '2001-01-01'
                AND l.checksum = allsource.es_run_checksum(l)
               FROM allsource.event_log l JOIN allsource.event_streams s USING (stream_no)
              WHERE s.stream_id = 'together'",
        );
        assert_eq!(stored, Some(true));
        assert_eq!(times_us("allsource.es_read('together')", "version"), [i64::from(i32::MAX); 3]);
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
}
