//! Settling records that may be at fault: each is written or set aside, in order, exactly once.

use super::failure::{Failure, Remedy};
use std::ops::Range;

/// What can be done with records. Each call is a transaction of its own; after `Ok`, what it did is
/// durable, and the records are done with whatever happens next.
pub trait Writer {
    /// Writes records to their streams: all or nothing.
    fn write(&mut self, records: Range<usize>) -> Result<(), Failure>;
    /// Puts a record among the dead letters.
    fn set_aside(&mut self, record: usize, reason: &Failure) -> Result<(), Failure>;
}

/// Settles `records` from the first on, halving where some cannot be written. `Err` is a failure
/// that no record is to be blamed for; what was settled until then stays so.
pub fn settle(writer: &mut impl Writer, records: Range<usize>) -> Result<(), Failure> {
    if records.is_empty() {
        return Ok(());
    }
    let Err(failure) = writer.write(records.clone()) else { return Ok(()) };
    if failure.remedy() != Remedy::SetAside {
        return Err(failure);
    }
    if records.len() == 1 {
        return writer.set_aside(records.start, &failure);
    }
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
    fn no_record_is_blamed_for_an_unknown_failure() {
        struct Broken;
        impl Writer for Broken {
            fn write(&mut self, _: Range<usize>) -> Result<(), Failure> {
                Err(failure(b"XX001"))
            }
            fn set_aside(&mut self, record: usize, _: &Failure) -> Result<(), Failure> {
                panic!("record {record} is set aside")
            }
        }
        assert_eq!(settle(&mut Broken, 0..3), Err(failure(b"XX001")));
        assert_eq!(settle(&mut Broken, 2..3), Err(failure(b"XX001")));
    }
}
