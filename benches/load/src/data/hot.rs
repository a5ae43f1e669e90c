//! Devices: streams of some events, as many in the first partition as in all others together, so that one
//! kind can be hot while the other is cold.

use crate::bench::Bench;
use crate::data::STORE_DATABASE;
use crate::data::rows::{SCATTERED_CALLS, make_arrays, scattered_streams};
use crate::error::Result;

/// Events that every device has.
pub const DEVICE_EVENTS: usize = 20;

/// Events of a call of the load.
pub const LOAD_CALL_EVENTS: usize = 1_000;

/// Calls of which there is a load.
pub fn load_calls(streams: usize) -> usize {
    SCATTERED_CALLS * scattered_streams(streams) / LOAD_CALL_EVENTS
}

/// Makes the devices, out of scattered rows. A device's events were not written at once, either.
pub async fn make_devices(bench: &Bench) -> Result<()> {
    let session = bench.server.connect(STORE_DATABASE).await?;
    session.batch_execute(DEVICES).await?;
    for time in 0..DEVICE_EVENTS / RUN_EVENTS {
        session.execute(APPEND, &[&(time as i64)]).await?;
    }
    Ok(session.batch_execute("VACUUM ANALYZE devices").await?)
}

/// Makes ready arrays of events for random streams, and a few for devices outside of the first partition.
pub async fn make_load(bench: &Bench) -> Result<()> {
    let session = bench.server.connect(STORE_DATABASE).await?;
    session.batch_execute(&LOAD.replace("$streams", &bench.options.streams.to_string())).await?;
    make_arrays(bench, "device_load", "id / 1000").await
}

const RUN_EVENTS: usize = 5;

const DEVICES: &str = "
    CREATE TABLE devices AS
        SELECT row_number() OVER () - 1 AS no, stream_id, of_first FROM (
            SELECT *, row_number() OVER (PARTITION BY of_first ORDER BY id) AS nth FROM (
                SELECT id, 'device-' || id AS stream_id,
                       allsource.es_partition('device-' || id) = 0 AS of_first
                FROM generate_series(1, 100000) AS id
            ) AS names
        ) AS numbered
        WHERE nth <= 1000";

/// Five events of each device; $1 tells the times of it apart.
const APPEND: &str = "
    SELECT count(*) FROM (
        SELECT array_agg(stream_id ORDER BY id) AS streams, array_agg(event_type ORDER BY id) AS types,
               array_agg(payload ORDER BY id) AS payloads
        FROM (SELECT d.stream_id, s.id, s.event_type, s.payload
              FROM scattered AS s JOIN devices AS d ON d.no = s.id / 5 % 2000
              WHERE s.id / 10000 = $1) AS events
    ) AS a, allsource.es_append_batch(a.streams, a.types, a.payloads)";

/// One of 200 events is for a device.
const LOAD: &str = "
    CREATE TABLE device_load AS
        SELECT s.id,
               coalesce(d.stream_id, 'order-' || lpad(floor(random() * $streams)::text, 7, '0'))
                   AS stream_id,
               s.event_type, s.payload
        FROM scattered AS s LEFT JOIN (
            SELECT row_number() OVER (ORDER BY no) - 1 AS nth, stream_id
            FROM devices WHERE NOT of_first
        ) AS d ON s.id % 200 = 0 AND d.nth = s.id / 200 % 1000";
