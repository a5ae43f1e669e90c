//! Settling records some of which may be at fault: each is written, set aside or suspected, in order,
//! exactly once.

use super::failure::{Failure, Remedy};
use std::ops::Range;

/// What can be done with records. Each call is a transaction of its own; after `Ok`, what it did is
/// durable, and the records are done with whatever happens next.
pub trait Writer {
    /// Writes records to their streams: all or nothing.
    fn write(&mut self, records: Range<usize>) -> Result<(), Failure>;
    /// Puts a record among the dead letters.
    fn set_aside(&mut self, record: usize, reason: &Failure) -> Result<(), Failure>;
    /// A record cannot be written, and the cause is unknown: it and later ones of its stream are not
    /// tried again here.
    fn suspect(&mut self, record: usize, reason: Failure) -> Result<(), Failure>;
}

/// Settles `records` from the first on, halving where some cannot be written. `Err` is a failure
/// that is no record's fault; what was settled until then stays settled.
pub fn settle(writer: &mut impl Writer, records: Range<usize>) -> Result<(), Failure> {
    if records.is_empty() {
        return Ok(());
    }
    let Err(failure) = writer.write(records.clone()) else { return Ok(()) };
    match failure.remedy() {
        _ if failure.is_out_of_memory() && records.len() > 1 => in_halves(writer, records),
        Remedy::SetAside if records.len() == 1 => writer.set_aside(records.start, &failure),
        Remedy::Wait | Remedy::WaitOrSetAside if records.len() == 1 => {
            writer.suspect(records.start, failure)
        }
        Remedy::SetAside | Remedy::Wait | Remedy::WaitOrSetAside => in_halves(writer, records),
        Remedy::GiveWay | Remedy::TryLater => Err(failure),
    }
}

fn in_halves(writer: &mut impl Writer, records: Range<usize>) -> Result<(), Failure> {
    let middle = records.start + records.len() / 2;
    settle(writer, records.start..middle)?;
    settle(writer, middle..records.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Default)]
    struct Fake {
        poisoned: Vec<bool>,
        settled: Vec<(usize, bool)>,
        calls: usize,
        fail_at_call: Option<usize>,
    }

    fn failure(sqlstate: &[u8; 5]) -> Failure {
        Failure { sqlstate: *sqlstate, message: "test".into() }
    }

    impl Fake {
        fn call(&mut self) -> Result<(), Failure> {
            self.calls += 1;
            if self.fail_at_call == Some(self.calls) {
                return Err(failure(b"53100"));
            }
            Ok(())
        }
    }

    impl Writer for Fake {
        fn write(&mut self, records: Range<usize>) -> Result<(), Failure> {
            self.call()?;
            if self.poisoned[records.clone()].contains(&true) {
                return Err(failure(b"22023"));
            }
            self.settled.extend(records.map(|record| (record, true)));
            Ok(())
        }

        fn set_aside(&mut self, record: usize, reason: &Failure) -> Result<(), Failure> {
            assert_eq!(reason.sqlstate(), "22023");
            self.call()?;
            self.settled.push((record, false));
            Ok(())
        }

        fn suspect(&mut self, record: usize, _: Failure) -> Result<(), Failure> {
            panic!("record {record} is suspected")
        }
    }

    proptest! {
        #[test]
        fn each_record_is_settled_once_in_order_whatever_fails(
            poisoned in prop::collection::vec(prop::bool::weighted(0.1), 0..60),
            failures in prop::collection::vec(1usize..12, 0..4),
        ) {
            let len = poisoned.len();
            let mut fake = Fake { poisoned: poisoned.clone(), ..Fake::default() };
            for fail_in in failures {
                fake.fail_at_call = Some(fake.calls + fail_in);
                let settled = fake.settled.len();
                // As the worker does: go on after what is settled.
                let result = settle(&mut fake, settled..len);
                prop_assert_eq!(result.is_ok(), fake.settled.len() == len);
            }
            fake.fail_at_call = None;
            let settled = fake.settled.len();
            prop_assert!(settle(&mut fake, settled..len).is_ok());
            let expected: Vec<_> = poisoned.iter().map(|poisoned| !poisoned).enumerate().collect();
            prop_assert_eq!(fake.settled, expected);
        }
    }

    #[test]
    fn fewer_records_are_tried_where_there_is_no_memory_for_all() {
        struct Small(Vec<usize>);
        impl Writer for Small {
            fn write(&mut self, records: Range<usize>) -> Result<(), Failure> {
                if records.len() > 3 {
                    return Err(failure(b"53200"));
                }
                self.0.extend(records);
                Ok(())
            }
            fn set_aside(&mut self, record: usize, _: &Failure) -> Result<(), Failure> {
                panic!("record {record} is set aside")
            }
            fn suspect(&mut self, record: usize, _: Failure) -> Result<(), Failure> {
                panic!("record {record} is suspected")
            }
        }
        let mut small = Small(Vec::new());
        assert_eq!(settle(&mut small, 0..10), Ok(()));
        assert_eq!(small.0, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_not_known_to_be_a_records_fault_does_not_set_it_aside() {
        struct Broken(&'static [u8; 5], Vec<usize>);
        impl Writer for Broken {
            fn write(&mut self, _: Range<usize>) -> Result<(), Failure> {
                Err(failure(self.0))
            }
            fn set_aside(&mut self, record: usize, _: &Failure) -> Result<(), Failure> {
                panic!("record {record} is set aside")
            }
            fn suspect(&mut self, record: usize, _: Failure) -> Result<(), Failure> {
                self.1.push(record);
                Ok(())
            }
        }
        for sqlstate in [b"XX001", b"42P01"] {
            let mut unknown = Broken(sqlstate, Vec::new());
            assert_eq!(settle(&mut unknown, 0..3), Ok(()));
            assert_eq!(unknown.1, [0, 1, 2]);
        }
        let mut locked = Broken(b"55P03", Vec::new());
        assert_eq!(settle(&mut locked, 0..3), Err(failure(b"55P03")));
        assert!(locked.1.is_empty());
    }
}
