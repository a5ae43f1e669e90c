//! Where the events of a hot partition stand before they are settled: in batches, which are numbered
//! from 1 within the partition.

/// A range of batches: those after one, up to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batches {
    /// the last one that is not meant
    pub after: i64,
    /// the last one that is meant
    pub up_to: i64,
}

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// number of its batch
    pub batch_no: i64,
    /// its number in the batch; the highest number: after all of the batch
    pub place: u32,
}
