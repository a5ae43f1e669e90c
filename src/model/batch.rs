//! The plan of a batch: which events go to which stream, in which order streams are locked.

use super::partition::Partition;
use std::collections::HashMap;

/// The events of one stream in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// The stream's name.
    pub stream_id: &'a [u8],
    /// Its partition.
    pub partition: Partition,
    /// Index of the stream's first event in the batch.
    pub first_event: usize,
    start: usize,
    end: usize,
}

/// A batch, grouped by stream.
#[derive(Debug, Default)]
pub struct Plan<'a> {
    groups: Vec<Group<'a>>,
    order: Vec<u32>,
}

impl<'a> Plan<'a> {
    /// Groups events, given the name of each event's stream. The events of a stream keep their
    /// order. A batch has fewer than 2^32 events.
    pub fn new(stream_ids: &[&'a [u8]]) -> Self {
        let mut numbers: HashMap<&[u8], u32, xxhash_rust::xxh3::Xxh3DefaultBuilder> =
            HashMap::default();
        let mut groups: Vec<Group<'a>> = Vec::new();
        let mut group_of = Vec::with_capacity(stream_ids.len());
        let mut last: Option<(&[u8], u32)> = None;
        for (index, stream_id) in stream_ids.iter().copied().enumerate() {
            let number = match last {
                Some((name, number)) if name == stream_id => number,
                _ => *numbers.entry(stream_id).or_insert_with(|| {
                    groups.push(Group {
                        stream_id,
                        partition: Partition::of(stream_id),
                        first_event: index,
                        start: 0,
                        end: 0,
                    });
                    (groups.len() - 1) as u32
                }),
            };
            last = Some((stream_id, number));
            groups[number as usize].end += 1;
            group_of.push(number);
        }
        // A counting sort: `end` has held the group's size until here, and is its fill mark below.
        let mut start = 0;
        for group in &mut groups {
            let size = group.end;
            (group.start, group.end) = (start, start);
            start += size;
        }
        let mut order = vec![0; stream_ids.len()];
        for (index, number) in group_of.into_iter().enumerate() {
            let group = &mut groups[number as usize];
            order[group.end] = index as u32;
            group.end += 1;
        }
        Self { groups, order }
    }

    /// The streams in the order of their first appearance.
    pub fn groups(&self) -> &[Group<'a>] {
        &self.groups
    }

    /// The events of a group: indexes into the batch, in order.
    pub fn events(&self, group: &Group<'_>) -> impl ExactSizeIterator<Item = usize> + Clone + '_ {
        self.order[group.start..group.end].iter().map(|index| *index as usize)
    }

    /// Indexes of the groups in the order in which their streams are locked: by partition, then by
    /// name. All writers keep to it, so two batches cannot wait for each other in a circle.
    pub fn lock_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.groups.len()).collect();
        order.sort_unstable_by_key(|index| {
            let group = &self.groups[*index];
            (group.partition, group.stream_id)
        });
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_event_is_in_its_stream_once_and_in_order(
            names in prop::collection::vec("[a-f]{1,2}", 0..300)
        ) {
            let stream_ids: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
            let plan = Plan::new(&stream_ids);
            let mut seen = vec![0; names.len()];
            for group in plan.groups() {
                let events: Vec<usize> = plan.events(group).collect();
                prop_assert_eq!(events.first(), Some(&group.first_event));
                prop_assert!(events.is_sorted());
                for event in events {
                    prop_assert_eq!(stream_ids[event], group.stream_id);
                    seen[event] += 1;
                }
            }
            prop_assert!(seen.iter().all(|count| *count == 1));
            prop_assert!(plan.groups().is_sorted_by_key(|group| group.first_event));
        }

        #[test]
        fn batches_lock_common_streams_in_the_same_order(
            names in prop::collection::hash_set("[a-f]{1,3}", 0..60), seed in any::<u64>()
        ) {
            let mut one: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
            let plan = Plan::new(&one);
            let locked: Vec<&[u8]> =
                plan.lock_order().into_iter().map(|i| plan.groups()[i].stream_id).collect();
            if !one.is_empty() {
                let middle = seed as usize % one.len();
                one.rotate_left(middle);
            }
            let other = Plan::new(&one);
            let again: Vec<&[u8]> =
                other.lock_order().into_iter().map(|i| other.groups()[i].stream_id).collect();
            prop_assert_eq!(locked, again);
        }
    }
}
