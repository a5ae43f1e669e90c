use super::*;
use crate::model::batch::StreamKey;
use proptest::prelude::*;

type Owned = (u32, Vec<u8>, Vec<u8>, Option<Vec<u8>>);
/// Number, time, events.
type OwnedBatch = (i64, i64, Vec<Owned>);

fn any_event() -> impl Strategy<Value = Owned> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..60);
    (0..u32::MAX, bytes(), bytes(), prop::option::of(bytes()))
}

fn any_batches() -> impl Strategy<Value = Vec<OwnedBatch>> {
    let any_no = any::<i64>;
    prop::collection::vec((any_no(), any_no(), prop::collection::vec(any_event(), 1..6)), 0..5)
}

fn borrow(owned: &Owned) -> NewEvent<'_> {
    NewEvent {
        event_type: &owned.1,
        payload: &owned.2,
        metadata: owned.3.as_deref(),
        event_id: None,
    }
}

fn write(batches: &[OwnedBatch]) -> Vec<u8> {
    let mut out = Vec::new();
    for (batch_no, timestamp_us, owned) in batches {
        let mut events = Vec::new();
        for event in owned {
            let hot = HotEvent {
                place: event.0,
                stream: StreamKey { stream_id: b"", tenant_id: b"" },
                event: borrow(event),
                timestamp_us: *timestamp_us,
            };
            write_event(&mut events, &hot).unwrap();
        }
        write_batch(&mut out, *batch_no, *timestamp_us, owned.len(), &events).unwrap();
    }
    out
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(batches in any_batches()) {
        let bytes = write(&batches);
        let mut read = TailReader::new(&bytes);
        for (batch_no, timestamp_us, owned) in &batches {
            for event in owned {
                let found = read.next().unwrap().unwrap();
                prop_assert_eq!((found.batch_no, found.place), (*batch_no, event.0));
                prop_assert_eq!((found.event, found.timestamp_us), (borrow(event), *timestamp_us));
            }
        }
        prop_assert!(read.next().is_none());
    }

    #[test]
    fn damaged_bytes_end(
        batches in any_batches(), at: prop::sample::Index, byte: u8, cut in any::<bool>()
    ) {
        let mut bytes = write(&batches);
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.truncate(if cut { at } else { bytes.len() });
        }
        let len = bytes.len();
        prop_assert!(TailReader::new(&bytes).count() <= len);
    }

    #[test]
    fn parts_make_a_whole(
        owned in prop::collection::vec(any_event(), 1..20), bytes_max in 0usize..200
    ) {
        let mut places: Vec<u32> = owned.iter().map(|event| event.0).collect();
        places.sort_unstable();
        places.dedup();
        let owned: Vec<Owned> = places
            .iter()
            .zip(&owned)
            .map(|(place, event)| (*place, event.1.clone(), event.2.clone(), event.3.clone()))
            .collect();
        let whole = write(&[(7, 9, owned.clone())]);
        prop_assert_eq!(batch_len(&whole), Ok(owned.len()));
        let (mut joined, mut after, mut len) = (Vec::new(), None, 0);
        loop {
            let mut found = part(&whole, after, bytes_max).unwrap();
            prop_assert!(found.events.len() <= bytes_max);
            if found.len == 0 && !found.is_last() {
                // One that is larger.
                found = first(&whole, after).unwrap();
                prop_assert!(found.len == 1 && found.events.len() > bytes_max);
            }
            joined.extend_from_slice(found.events);
            len += found.len;
            after = Some(found.last_place);
            if found.is_last() {
                break;
            }
        }
        let mut again = Vec::new();
        write_batch(&mut again, 7, 9, len, &joined).unwrap();
        prop_assert_eq!(again, whole);
    }

    #[test]
    fn parts_of_damaged_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = (part(&bytes, None, 0), part(&bytes, Some(3), 20), part(&bytes, None, 1000));
        let _ = batch_len(&bytes);
        let _ = (first(&bytes, None), first(&bytes, Some(2)));
    }
}
