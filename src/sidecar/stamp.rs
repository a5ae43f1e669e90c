//! Whose sidecar it is. A sidecar with another stamp is emptied when it is opened.

/// What a sidecar belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// the cluster, as `pg_control` has it
    pub system_identifier: u64,
    /// its timeline: another one after a promotion or a recovery to a point in time
    pub timeline: u32,
    /// number of the database
    pub database: u32,
    /// number of the sequence `position_seq`: another one for an extension that was created again
    pub incarnation: u32,
}

/// The version of keys and values. Another one is never read: the sidecar is emptied.
const VERSION: u32 = 1;

pub const STAMP_BYTES: usize = 24;

/// The stamp: version, system identifier, timeline, database, incarnation; little-endian.
pub fn stamp(identity: Identity) -> [u8; STAMP_BYTES] {
    let mut bytes = [0; STAMP_BYTES];
    bytes[0..4].copy_from_slice(&VERSION.to_le_bytes());
    bytes[4..12].copy_from_slice(&identity.system_identifier.to_le_bytes());
    bytes[12..16].copy_from_slice(&identity.timeline.to_le_bytes());
    bytes[16..20].copy_from_slice(&identity.database.to_le_bytes());
    bytes[20..24].copy_from_slice(&identity.incarnation.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_counts() {
        let identity = Identity { system_identifier: 1, timeline: 2, database: 3, incarnation: 4 };
        let others = [
            Identity { system_identifier: 1 << 63, ..identity },
            Identity { timeline: 3, ..identity },
            Identity { database: 2, ..identity },
            Identity { incarnation: 1 << 31, ..identity },
        ];
        assert!(others.iter().all(|other| stamp(*other) != stamp(identity)));
        assert_eq!(stamp(identity), stamp(identity));
    }
}
