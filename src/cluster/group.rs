//! The number of a group of nodes.

use crate::model::stream_no::NODE_ID_MAX;

/// A group's number: the `allsource.node_id` of all of its nodes. It is part of the number of each
/// stream that the group creates, so two groups cannot create the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(i32);

impl GroupId {
    /// The group with this number; `None` if `allsource.node_id` cannot have it.
    pub fn new(number: i32) -> Option<Self> {
        (0..=NODE_ID_MAX).contains(&number).then_some(Self(number))
    }

    /// The number as SQL has it.
    pub fn number(self) -> i32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_range_of_the_setting() {
        assert_eq!(GroupId::new(0).map(GroupId::number), Some(0));
        assert_eq!(GroupId::new(4095).map(GroupId::number), Some(4095));
        assert_eq!(GroupId::new(4096), None);
        assert_eq!(GroupId::new(-1), None);
    }
}
