//! Tests that run within a backend, each in a transaction that is rolled back. They look at what
//! SQL from outside cannot: stored bytes against PostgreSQL's own, and the store's state within a
//! transaction. What a client sees is tested in `tests/`.

#[pgrx::pg_schema]
mod tests {
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
}
