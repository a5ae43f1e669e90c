//! The word that says what begins at a block.
//!
//! ```text
//! bit 63..32                              31..0
//!     number of the lap plus 1 (mod 2^32) length of the record in bytes; 2^32 - 1: padding
//! ```
//!
//! Entries are kept apart from the records, one for each block, and nothing else is ever written
//! to them. So the bytes of a record can never be taken for an entry, and an entry that is left
//! from an earlier lap is recognized by its number: nothing has to be erased when records are released.
//!
//! Memory that is all zeros has no entry of laps 0 to 2^32 - 2. A number comes again after 2^32
//! laps, that is after 4 PiB through a ring of 1 MiB, and even then does harm only where no record
//! has begun at the block meanwhile.

const PADDING: u32 = u32::MAX;

/// What begins at a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A record of that many bytes.
    Record(u32),
    /// Nothing, up to the end of the lap.
    Padding,
}

impl Entry {
    /// The word of an entry that belongs to a lap.
    pub(super) const fn word(self, lap: u64) -> u64 {
        let length = match self {
            Self::Record(length) => length,
            Self::Padding => PADDING,
        };
        (lap.wrapping_add(1) << u32::BITS) | length as u64
    }

    /// The entry, if the word belongs to the lap.
    pub(super) const fn of_lap(word: u64, lap: u64) -> Option<Self> {
        if (word >> u32::BITS) as u32 != lap.wrapping_add(1) as u32 {
            return None;
        }
        match word as u32 {
            PADDING => Some(Self::Padding),
            length => Some(Self::Record(length)),
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_of_its_lap_only() {
        for lap in [0, 1, 2, 0xFFFF_FFFE, 0x1_0000_0000, 1 << 40] {
            for entry in [Entry::Record(0), Entry::Record(1 << 31), Entry::Padding] {
                let word = entry.word(lap);
                assert_eq!(Entry::of_lap(word, lap), Some(entry));
                assert_eq!(Entry::of_lap(word, lap + 1), None);
                assert_eq!(Entry::of_lap(word, lap.wrapping_sub(1)), None);
            }
        }
    }

    #[test]
    fn fresh_memory_has_no_entry() {
        for lap in [0, 1, 0xFFFF_FFFE, 0x1_0000_0000] {
            assert_eq!(Entry::of_lap(0, lap), None);
        }
    }
}
