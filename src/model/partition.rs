//! Which partition a stream belongs to. The answer is part of the format on disk: it must never
//! change, so the algorithm is named, and golden vectors test it.

use xxhash_rust::xxh3::xxh3_64;

/// The number of partitions. Fixed: it is part of the format.
pub const PARTITIONS: usize = 32;

/// A partition's number, 0 to 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(u8);

impl Partition {
    /// The partition of a stream: XXH3-64 (seed 0, Yann Collet's xxHash) of the bytes of its name,
    /// modulo 32. The tenant plays no part, so the name alone determines it.
    pub fn of(stream_id: &[u8]) -> Self {
        Self((xxh3_64(stream_id) % PARTITIONS as u64) as u8)
    }

    /// The partition with this number, if there is one.
    pub fn new(number: i32) -> Option<Self> {
        u8::try_from(number).ok().filter(|n| usize::from(*n) < PARTITIONS).map(Self)
    }

    /// All partitions in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..PARTITIONS as u8).map(Self)
    }

    /// The number as an array index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The number as SQL has it.
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_vectors_never_change() {
        let vectors: [(&str, i32); 8] = [
            ("", 2),
            ("a", 31),
            ("order-1", 22),
            ("order-2", 28),
            ("account-4711", 12),
            ("Bestellung-Ä", 10),
            ("注文-42", 4),
            ("0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz", 28),
        ];
        let found: Vec<_> = vectors
            .iter()
            .map(|(name, _)| (*name, Partition::of(name.as_bytes()).number()))
            .collect();
        assert_eq!(found, vectors);
    }

    #[test]
    fn every_partition_gets_its_share() {
        let mut counts = [0u32; PARTITIONS];
        for n in 0..32_000 {
            counts[Partition::of(format!("stream-{n}").as_bytes()).index()] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }

    #[test]
    fn numbers_outside_are_refused() {
        assert_eq!(Partition::new(-1), None);
        assert_eq!(Partition::new(32), None);
        assert_eq!(Partition::new(31).map(Partition::number), Some(31));
        assert_eq!(Partition::all().count(), PARTITIONS);
    }
}
