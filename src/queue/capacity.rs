//! The size of a ring, and what follows from it.

/// Records begin on multiples of this, in bytes: a cache line, so that no two share one.
pub(super) const BLOCK_BYTES: u64 = 64;

/// A record takes at most this share of the capacity: with the padding before it, half. So it fits
/// into an empty ring whatever the write offset is, and the ring holds several.
const RECORD_SHARE: u64 = 4;

/// How many bytes a ring has for records: a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity(u64);

impl Capacity {
    /// The smallest, in bytes: its entries fill one cache line.
    pub const BYTES_MIN: u64 = 8 * BLOCK_BYTES;
    /// The largest, in bytes: the length of its longest record fits into half a word.
    pub const BYTES_MAX: u64 = 1 << 33;

    /// The smallest capacity of at least `bytes`, or the largest there is.
    #[must_use]
    pub const fn at_least(bytes: u64) -> Self {
        if bytes <= Self::BYTES_MIN {
            Self(Self::BYTES_MIN)
        } else if bytes >= Self::BYTES_MAX {
            Self(Self::BYTES_MAX)
        } else {
            Self(bytes.next_power_of_two())
        }
    }

    /// It, in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The longest record, in bytes.
    #[must_use]
    pub const fn record_bytes_max(self) -> u64 {
        self.0 / RECORD_SHARE
    }

    /// How many blocks it has.
    pub(super) const fn blocks(self) -> usize {
        (self.0 / BLOCK_BYTES) as usize
    }

    /// Where an offset is within the records' bytes.
    pub(super) const fn place(self, offset: u64) -> usize {
        (offset & (self.0 - 1)) as usize
    }

    /// The block that an offset is in.
    pub(super) const fn block(self, offset: u64) -> usize {
        self.place(offset) / BLOCK_BYTES as usize
    }

    /// How many laps of the ring lie before an offset.
    pub(super) const fn lap(self, offset: u64) -> u64 {
        offset >> self.0.trailing_zeros()
    }

    /// What is left unused at `offset` before a record that takes `span_bytes`: the rest of the
    /// lap, where it does not fit into that.
    pub(super) const fn padding(self, offset: u64, span_bytes: u64) -> u64 {
        let left = self.0 - self.place(offset) as u64;
        if span_bytes <= left { 0 } else { left }
    }
}

/// How many bytes a record takes: whole blocks, and at least one, so that offsets move on.
pub(super) const fn span_bytes(record_bytes: u64) -> u64 {
    if record_bytes == 0 { BLOCK_BYTES } else { record_bytes.next_multiple_of(BLOCK_BYTES) }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn capacities_are_powers_of_two_within_their_limits() {
        for (wanted, bytes) in [
            (0, 512),
            (512, 512),
            (513, 1024),
            (8 << 20, 8 << 20),
            ((8 << 20) + 1, 16 << 20),
            (u64::MAX, 1 << 33),
        ] {
            assert_eq!(Capacity::at_least(wanted).bytes(), bytes);
        }
    }

    #[test]
    fn the_longest_record_and_its_padding_fit_whatever_the_write_offset_is() {
        let capacity = Capacity::at_least(4096);
        let span = span_bytes(capacity.record_bytes_max());
        for block in 0..capacity.blocks() as u64 {
            let padding = capacity.padding(block * BLOCK_BYTES, span);
            assert!(padding < span && padding + span <= capacity.bytes() / 2);
        }
    }

    #[test]
    fn an_empty_record_takes_a_block() {
        assert_eq!([0, 1, 64, 65].map(span_bytes), [64, 64, 64, 128]);
    }
}
