//! How often a partition has changed hands.

/// A partition's epoch. It only grows, and each belongs to one group for ever: the one that may own the
/// partition in it. A move takes two of them, see [`moving`](super::moving).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(i64);

impl Epoch {
    /// That of a partition which has never been moved.
    pub const FIRST: Self = Self(1);

    /// The last that a move can have. There is room for the one after it.
    pub const LAST: Self = Self(i64::MAX - 1);

    /// The epoch with this number, if a move can have it.
    pub fn new(number: i64) -> Option<Self> {
        (Self::FIRST.0..=Self::LAST.0).contains(&number).then_some(Self(number))
    }

    /// The number as SQL has it.
    pub fn number(self) -> i64 {
        self.0
    }

    /// The one after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Whether `later` comes directly after it.
    pub fn is_before(self, later: Self) -> bool {
        self < later && self.next() == later
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_by_one_and_stays_in_its_range() {
        assert_eq!(Epoch::new(0), None);
        assert_eq!(Epoch::new(1), Some(Epoch::FIRST));
        assert_eq!(Epoch::new(i64::MAX), None);
        assert!(Epoch::LAST < Epoch::LAST.next());
        assert!(Epoch::FIRST.is_before(Epoch::FIRST.next()));
        assert!(!Epoch::FIRST.is_before(Epoch::FIRST));
        assert!(!Epoch::FIRST.next().is_before(Epoch::FIRST));
        assert!(!Epoch::FIRST.is_before(Epoch::FIRST.next().next()));
    }
}
