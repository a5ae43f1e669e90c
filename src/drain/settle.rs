//! Settling records: each ends up in its stream or among the dead letters, in order, exactly once.

use super::failure::{Failure, Remedy};
use std::ops::Range;

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// One append per stream.
    Together,
    /// One append per event, which recognises an event that is there already.
    OneByOne,
}

/// What can be done with records. Each call is a transaction of its own; after `Ok`, what it did is
/// durable, and the records are done with whatever happens next.
pub trait Writer {
    /// Writes records to their streams: all or nothing.
    fn write(&mut self, records: Range<usize>, style: Style) -> Result<(), Failure>;
    /// Puts a record among the dead letters.
    fn set_aside(&mut self, record: usize, reason: &Failure) -> Result<(), Failure>;
}

/// Settles `records` from the first on, halving where some cannot be written. `Err` is a failure
/// that is to be tried again later; what was settled until then stays so. `patient`: whether
/// failures of unknown cause are to be tried again too, instead of setting records aside.
pub fn settle(
    writer: &mut impl Writer,
    records: Range<usize>,
    patient: bool,
) -> Result<(), Failure> {
    if records.is_empty() {
        return Ok(());
    }
    let Err(mut failure) = writer.write(records.clone(), Style::Together) else { return Ok(()) };
    if failure.remedy() == Remedy::OneByOne {
        match writer.write(records.clone(), Style::OneByOne) {
            Ok(()) => return Ok(()),
            Err(second) => failure = second,
        }
    }
    match failure.remedy() {
        Remedy::TryLater => Err(failure),
        Remedy::SetAsideIfItStays if patient => Err(failure),
        _ if records.len() == 1 => writer.set_aside(records.start, &failure),
        _ => {
            let middle = records.start + records.len() / 2;
            settle(writer, records.start..middle, patient)?;
            settle(writer, middle..records.end, patient)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Kind {
        Good,
        Poisoned,
        Retried,
    }

    #[derive(Default)]
    struct Fake {
        kinds: Vec<Kind>,
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
        fn write(&mut self, records: Range<usize>, style: Style) -> Result<(), Failure> {
            self.call()?;
            let kinds = &self.kinds[records.clone()];
            if kinds.contains(&Kind::Retried) && style == Style::Together {
                return Err(failure(b"23505"));
            }
            if kinds.contains(&Kind::Poisoned) {
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
            kinds in prop::collection::vec(
                prop_oneof![8 => Just(Kind::Good), 1 => Just(Kind::Poisoned), 1 => Just(Kind::Retried)],
                0..60,
            ),
            failures in prop::collection::vec(1usize..12, 0..4),
        ) {
            let len = kinds.len();
            let mut fake = Fake { kinds: kinds.clone(), ..Fake::default() };
            for fail_in in failures {
                fake.fail_at_call = Some(fake.calls + fail_in);
                let settled = fake.settled.len();
                // As the worker does: go on after what is settled.
                let result = settle(&mut fake, settled..len, true);
                prop_assert_eq!(result.is_ok(), fake.settled.len() == len);
            }
            fake.fail_at_call = None;
            let settled = fake.settled.len();
            prop_assert!(settle(&mut fake, settled..len, true).is_ok());
            let expected: Vec<_> =
                kinds.iter().map(|kind| *kind != Kind::Poisoned).enumerate().collect();
            prop_assert_eq!(fake.settled, expected);
        }
    }

    #[test]
    fn an_unknown_failure_is_tried_again_before_a_record_is_blamed() {
        struct Broken(usize);
        impl Writer for Broken {
            fn write(&mut self, _: Range<usize>, _: Style) -> Result<(), Failure> {
                Err(failure(b"XX001"))
            }
            fn set_aside(&mut self, _: usize, _: &Failure) -> Result<(), Failure> {
                self.0 += 1;
                Ok(())
            }
        }
        let mut broken = Broken(0);
        assert!(settle(&mut broken, 0..3, true).is_err());
        assert_eq!(broken.0, 0);
        assert!(settle(&mut broken, 0..3, false).is_ok());
        assert_eq!(broken.0, 3);
    }
}
