use super::*;
use crate::codec::record::{Home, Record};
use crate::model::batch::StreamKey;
use crate::model::event::NewEvent;
use proptest::prelude::*;

/// Stream, tenant, event type, payload, metadata.
type Owned = (Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>, Option<Vec<u8>>);

fn bytes(range: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), range)
}

fn any_event() -> impl Strategy<Value = Owned> {
    // Few tenants and types, so that neighbours have the same.
    let few = || prop::sample::select(vec![b"a".to_vec(), b"bc".to_vec(), vec![b'd'; 200]]);
    let metadata = prop::option::of(bytes(0..40));
    (bytes(0..300), few(), few(), bytes(0..300), metadata)
}

fn record(owned: &Owned) -> Record<'_> {
    Record {
        enqueued_at_us: 7,
        home: Home { database: 5, incarnation: 6 },
        stream_id: &owned.0,
        tenant_id: &owned.1,
        entity_id: None,
        event: NewEvent {
            event_type: &owned.2,
            payload: &owned.3,
            metadata: owned.4.as_deref(),
            event_id: None,
        },
    }
}

fn partition(number: i32) -> Partition {
    Partition::new(number).unwrap()
}

fn hash(stream_id: &[u8]) -> StreamHash {
    StreamHash::of(StreamKey { stream_id, tenant_id: b"t" })
}

fn open(batch_no: i64, body: &[u8]) -> Result<HotBatchReader<'_>, DamagedBatch> {
    HotBatchReader::open(partition(3), batch_no, checksum(partition(3), batch_no, body), body)
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(
        events in prop::collection::vec(any_event(), 1..80), bytes_max in 0usize..20_000, timestamp_us: i64
    ) {
        let mut bodies = Vec::new();
        let mut writer = HotBatchWriter::new(bytes_max);
        writer.begin(timestamp_us);
        for event in &events {
            let mut pushed = writer.push(&record(event)).unwrap();
            if pushed == Pushed::Full {
                prop_assert!(!writer.is_empty());
                bodies.push((writer.len(), writer.body().to_vec()));
                writer.begin(timestamp_us);
                pushed = writer.push(&record(event)).unwrap();
            }
            prop_assert_eq!(pushed, Pushed::Added);
            prop_assert_eq!(writer.size_bytes(), writer.body().len());
            prop_assert!(writer.len() == 1 || writer.size_bytes() <= bytes_max);
        }
        bodies.push((writer.len(), writer.body().to_vec()));
        let mut left = &events[..];
        for (batch_no, (len, body)) in bodies.iter().enumerate() {
            let reader = open(batch_no as i64, body).unwrap();
            prop_assert_eq!((reader.remaining(), reader.timestamp_us()), (*len, timestamp_us));
            let (expected, rest) = left.split_at(*len);
            left = rest;
            let read: Result<Vec<HotEvent>, _> = reader.collect();
            let expected: Vec<HotEvent> = (0..).zip(expected.iter().map(record)).map(|(place, record)| HotEvent {
                place,
                stream: StreamKey { stream_id: record.stream_id, tenant_id: record.tenant_id },
                event: record.event,
                timestamp_us,
            }).collect();
            prop_assert_eq!(read, Ok(expected));
        }
        prop_assert!(left.is_empty());
    }

    #[test]
    fn the_list_has_each_stream_once_and_in_order(
        names in prop::collection::vec("[ab]{1,3}", 1..40), others in prop::collection::vec("[ab]{1,3}", 0..4),
    ) {
        let event = |name: &String| -> Owned {
            (name.clone().into_bytes(), b"t".to_vec(), b"e".to_vec(), vec![], None)
        };
        let mut writer = HotBatchWriter::new(BODY_BYTES_MAX);
        for body in names.chunks(20) {
            writer.begin(0);
            for name in body {
                prop_assert_eq!(writer.push(&record(&event(name))), Ok(Pushed::Added));
            }
            let row = writer.row(partition(3), 7).unwrap();
            prop_assert_eq!((row.batch_no, row.events), (7, body.len()));
            prop_assert_eq!(row.checksum, checksum(partition(3), 7, row.body));
            let hashes = |names: &[String]| -> Vec<StreamHash> {
                names.iter().map(|name| hash(name.as_bytes())).collect()
            };
            let mut expected = hashes(body);
            expected.sort_unstable();
            expected.dedup();
            prop_assert_eq!(row.streams.len(), 4 + 4 * expected.len());
            let list = BatchStreams::open(partition(3), 7, row.streams).unwrap();
            prop_assert!(list.is_of(&mut hashes(body)));
            prop_assert!(body.iter().all(|name| list.may_have(hash(name.as_bytes()))));
            let may_have = |name: &String| list.may_have(hash(name.as_bytes()));
            prop_assert!(others.iter().all(|name| may_have(name) == body.contains(name)));
            let mut wanted = hashes(&others);
            wanted.sort_unstable();
            prop_assert_eq!(list.may_have_any(&wanted), others.iter().any(|name| body.contains(name)));
            let mut too_many = hashes(body);
            too_many.push(hash(b"c"));
            prop_assert!(!list.is_of(&mut too_many));
            prop_assert!(!list.is_of(&mut expected[1..].to_vec()));
        }
    }

    #[test]
    fn a_list_that_is_cut_flipped_or_moved_is_noticed(
        events in prop::collection::vec(any_event(), 1..20), at: prop::sample::Index, bit in 0..8u8,
        more in bytes(1..9),
    ) {
        let mut writer = HotBatchWriter::new(BODY_BYTES_MAX);
        for event in &events {
            prop_assert_eq!(writer.push(&record(event)), Ok(Pushed::Added));
        }
        let list = writer.row(partition(3), 7).unwrap().streams.to_vec();
        let is_noticed = |partition, batch_no, list: &[u8]| {
            matches!(BatchStreams::open(partition, batch_no, list), Err(DamagedBatch::Streams))
        };
        let mut flipped = list.clone();
        flipped[at.index(list.len())] ^= 1 << bit;
        prop_assert!(is_noticed(partition(3), 7, &flipped));
        prop_assert!(is_noticed(partition(3), 7, &list[..at.index(list.len())]));
        prop_assert!(is_noticed(partition(3), 7, &[&list[..], &more[..]].concat()));
        prop_assert!(is_noticed(partition(4), 7, &list));
        prop_assert!(is_noticed(partition(3), 8, &list));
        prop_assert!(!is_noticed(partition(3), 7, &list));
    }

    #[test]
    fn a_checksum_notices_what_is_cut_flipped_or_moved(
        events in prop::collection::vec(any_event(), 1..20), at: prop::sample::Index, bit in 0..8u8,
    ) {
        let mut writer = HotBatchWriter::new(BODY_BYTES_MAX);
        for event in &events {
            prop_assert_eq!(writer.push(&record(event)), Ok(Pushed::Added));
        }
        let body = writer.body();
        let stored = checksum(partition(3), 7, body);
        let is_noticed = |partition, batch_no, body: &[u8]| {
            let opened = HotBatchReader::open(partition, batch_no, stored, body);
            matches!(opened, Err(DamagedBatch::Checksum { .. }))
        };
        let mut flipped = body.to_vec();
        flipped[at.index(body.len())] ^= 1 << bit;
        prop_assert!(is_noticed(partition(3), 7, &flipped));
        prop_assert!(is_noticed(partition(3), 7, &body[..at.index(body.len())]));
        prop_assert!(is_noticed(partition(4), 7, body));
        prop_assert!(is_noticed(partition(3), 8, body));
    }

    #[test]
    fn damaged_bytes_with_the_right_checksum_are_an_error_or_other_events(
        events in prop::collection::vec(any_event(), 1..20),
        at: prop::sample::Index,
        byte: u8,
        cut in any::<bool>(),
    ) {
        let mut writer = HotBatchWriter::new(BODY_BYTES_MAX);
        for event in &events {
            prop_assert_eq!(writer.push(&record(event)), Ok(Pushed::Added));
        }
        let mut body = writer.body().to_vec();
        let at = at.index(body.len());
        if cut {
            body.truncate(at);
        } else {
            body[at] = byte;
        }
        if let Ok(mut reader) = open(1, &body) {
            let len = reader.remaining();
            let read = reader.by_ref().take_while(Result::is_ok).count();
            prop_assert!(read <= len);
            prop_assert!(!cut || read < len);
            prop_assert!(reader.next().is_none());
        }
    }

    #[test]
    fn any_bytes_end(mut body in bytes(0..200), first in any::<bool>()) {
        if first && !body.is_empty() {
            body[0] = VERSION;
        }
        if let Ok(reader) = open(1, &body) {
            prop_assert!(reader.count() <= body.len());
        }
    }
}

#[test]
fn only_plain_events_take_this_way() {
    let owned = (vec![b's'], vec![b't'], vec![b'e'], vec![], None);
    let plain = record(&owned);
    let mut writer = HotBatchWriter::new(BODY_BYTES_MAX);
    let of_entity = Record { entity_id: Some(b"e"), ..plain };
    let with_id = Record { event: NewEvent { event_id: Some([1; 16]), ..plain.event }, ..plain };
    assert_eq!(writer.push(&of_entity), Ok(Pushed::NotPlain));
    assert_eq!(writer.push(&with_id), Ok(Pushed::NotPlain));
    assert!(writer.is_empty());
    assert_eq!(writer.push(&plain), Ok(Pushed::Added));
}

#[test]
fn neighbours_share_what_they_have_in_common() {
    let owned = (vec![b's'], vec![b't'; 100], vec![b'e'; 100], vec![b'p'; 10], None);
    let mut writer = HotBatchWriter::new(BODY_BYTES_MAX);
    let mut sizes = [0; 3];
    for size in &mut sizes {
        assert_eq!(writer.push(&record(&owned)), Ok(Pushed::Added));
        *size = writer.size_bytes();
    }
    // Flags, two lengths, a stream of one byte, a payload of ten.
    assert_eq!(sizes[2] - sizes[1], 14);
}

/// Bodies are kept over upgrades: this one must be readable for ever.
#[test]
fn the_layout_does_not_change() {
    let events: [Owned; 2] = [
        (b"s1".to_vec(), b"t".to_vec(), b"typ".to_vec(), b"{}".to_vec(), Some(b"m".to_vec())),
        (b"s2".to_vec(), b"t".to_vec(), b"typ".to_vec(), b"".to_vec(), None),
    ];
    let mut writer = HotBatchWriter::new(BODY_BYTES_MAX);
    writer.begin(64);
    for event in &events {
        assert_eq!(writer.push(&record(event)), Ok(Pushed::Added));
    }
    let body = b"\x01\x02\0\0\0\x40\0\0\0\0\0\0\0\x01\x02\x01\x03\x02\x01s1ttyp{}m\x06\x02\0s2";
    assert_eq!(writer.body(), body);
    assert_eq!(
        checksum(partition(3), 7, body),
        crc32c::crc32c(&[&3i32.to_le_bytes()[..], &7i64.to_le_bytes(), body].concat())
            .cast_signed()
    );
}

/// A part of a hash at the end of a list has the right checksum if it was written so.
#[test]
fn a_list_of_a_damaged_length_is_an_error() {
    for len in [1, 2, 3, 5, 7] {
        let hashes = vec![0; len];
        let checksum = checksum(partition(3), 7, &hashes);
        let list = [&checksum.to_le_bytes()[..], &hashes].concat();
        assert_eq!(
            BatchStreams::open(partition(3), 7, &list).map(|_| ()),
            Err(DamagedBatch::Streams)
        );
    }
}

/// Lists are kept over upgrades, as bodies are.
#[test]
fn the_layout_of_the_list_does_not_change() {
    let mut writer = HotBatchWriter::new(BODY_BYTES_MAX);
    for name in [b"s1", b"s2", b"s1"] {
        let owned = (name.to_vec(), b"t".to_vec(), b"e".to_vec(), vec![], None);
        assert_eq!(writer.push(&record(&owned)), Ok(Pushed::Added));
    }
    let list = writer.row(partition(3), 7).unwrap().streams.to_vec();
    assert_eq!(list[4..], *b"\x8f\x70\xe2\x87\x4d\x2d\x1d\xbb");
    assert_eq!(list[..4], checksum(partition(3), 7, &list[4..]).to_le_bytes());
}
