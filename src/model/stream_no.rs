//! The surrogate number of a stream.
//!
//! ```text
//! bit 63   62..58      57..46     45..0
//!     0    partition   node       counter of the node's database
//! ```
//!
//! Streams of a partition are neighbours, and no two nodes can assign the same number.

use super::partition::Partition;

const COUNTER_BITS: u32 = 46;
const NODE_BITS: u32 = 12;

/// The highest `allsource.node_id`.
pub const NODE_ID_MAX: i32 = (1 << NODE_BITS) - 1;

/// The highest counter.
pub const COUNTER_MAX: i64 = (1 << COUNTER_BITS) - 1;

/// The counter that a number was made from.
pub fn counter(stream_no: i64) -> i64 {
    stream_no & COUNTER_MAX
}

/// The number for the `counter`-th stream that a node has created; `None` if a part is out of its
/// range.
pub fn stream_no(partition: Partition, node_id: i32, counter: i64) -> Option<i64> {
    if !(0..=NODE_ID_MAX).contains(&node_id) || !(0..=COUNTER_MAX).contains(&counter) {
        return None;
    }
    Some(
        i64::from(partition.number()) << (NODE_BITS + COUNTER_BITS)
            | i64::from(node_id) << COUNTER_BITS
            | counter,
    )
}

/// The highest number of the same partition and node.
pub fn last_of_node(stream_no: i64) -> i64 {
    stream_no | COUNTER_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_overlap_and_the_sign_stays_free() {
        let last = Partition::new(31).unwrap();
        let highest = stream_no(last, NODE_ID_MAX, (1 << COUNTER_BITS) - 1);
        assert_eq!(highest, Some(i64::MAX));
        assert_eq!(stream_no(last, 5, 77).map(counter), Some(77));
        assert_eq!(stream_no(last, 5, 77).map(last_of_node), stream_no(last, 5, COUNTER_MAX));
        assert_eq!(stream_no(Partition::new(1).unwrap(), 0, 7), Some((1 << 58) + 7));
        assert_eq!(stream_no(last, NODE_ID_MAX + 1, 1), None);
        assert_eq!(stream_no(last, 0, 1 << COUNTER_BITS), None);
        assert_eq!(stream_no(last, 0, -1), None);
    }
}
