//! The plan of a batch: which events go to which stream, in which order streams are locked.

use super::memory::{OutOfMemory, collect, filled, in_table, push, with_room};
use super::partition::Partition;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::ops::Range;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// What names a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamKey<'a> {
    /// Its name.
    pub stream_id: &'a [u8],
    /// Its tenant.
    pub tenant_id: &'a [u8],
}

impl StreamKey<'_> {
    /// A hash of both.
    pub fn hash64(&self) -> u64 {
        xxh3_64_with_seed(self.stream_id, xxh3_64(self.tenant_id))
    }
}

impl Hash for StreamKey<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash64());
    }
}

/// Takes over what is a hash already.
#[derive(Default)]
struct HashedAlready(u64);

impl Hasher for HashedAlready {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The events of one stream in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// The stream.
    pub stream: StreamKey<'a>,
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

/// Groups, each with its range of the events beside them.
pub type InOrder<T> = (Vec<(usize, Range<usize>)>, Vec<T>);

impl<'a> Plan<'a> {
    /// Groups events, given each event's stream. The events of a stream keep their order. A batch
    /// has fewer than 2^32 events.
    pub fn new(streams: impl ExactSizeIterator<Item = StreamKey<'a>>) -> Result<Self, OutOfMemory> {
        let len = streams.len();
        let mut numbers: HashMap<StreamKey<'a>, u32, BuildHasherDefault<HashedAlready>> =
            HashMap::default();
        let mut groups: Vec<Group<'a>> = Vec::new();
        let mut group_of = with_room(len)?;
        let mut last: Option<(StreamKey<'a>, u32)> = None;
        for (index, stream) in streams.enumerate() {
            let number = match last {
                Some((before, number)) if before == stream => number,
                _ => {
                    let room = numbers.try_reserve(1);
                    in_table::<(StreamKey<'_>, u32)>(room, numbers.len() + 1)?;
                    let number = *numbers.entry(stream).or_insert(groups.len() as u32);
                    if number as usize == groups.len() {
                        let partition = Partition::of(stream.stream_id);
                        let group =
                            Group { stream, partition, first_event: index, start: 0, end: 0 };
                        push(&mut groups, group)?;
                    }
                    number
                }
            };
            last = Some((stream, number));
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
        let mut order = filled(0, len)?;
        for (index, number) in group_of.into_iter().enumerate() {
            let group = &mut groups[number as usize];
            order[group.end] = index as u32;
            group.end += 1;
        }
        Ok(Self { groups, order })
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
    pub fn lock_order(&self) -> Result<Vec<usize>, OutOfMemory> {
        self.lock_order_of(|_| true)
    }

    /// The same, but streams of partitions that are not to be locked come as they appear.
    fn lock_order_of(
        &self,
        is_locked: impl Fn(Partition) -> bool,
    ) -> Result<Vec<usize>, OutOfMemory> {
        let mut order = collect(0..self.groups.len())?;
        order.sort_unstable_by_key(|index| {
            let group = &self.groups[*index];
            let stream = is_locked(group.partition).then_some(group.stream);
            (group.partition, stream, group.first_event)
        });
        Ok(order)
    }

    /// The groups in the order in which their streams are locked, as [`Self::lock_order`] has it,
    /// and `events` (one for each event of the batch) in the order of the groups: each group has
    /// its range of them.
    pub fn in_lock_order<T: Copy>(&self, events: &[T]) -> Result<InOrder<T>, OutOfMemory> {
        self.in_lock_order_of(events, |_| true)
    }

    /// The same, but streams of partitions that are not to be locked come as they appear.
    pub fn in_lock_order_of<T: Copy>(
        &self,
        events: &[T],
        is_locked: impl Fn(Partition) -> bool,
    ) -> Result<InOrder<T>, OutOfMemory> {
        let mut arranged = with_room(events.len())?;
        let ranges = collect(self.lock_order_of(is_locked)?.into_iter().map(|index| {
            let start = arranged.len();
            arranged.extend(self.events(&self.groups[index]).map(|event| events[event]));
            (index, start..arranged.len())
        }))?;
        Ok((ranges, arranged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A name's last letter is its tenant.
    fn key(name: &str) -> StreamKey<'_> {
        let (stream_id, tenant_id) = name.as_bytes().split_at(name.len() - 1);
        StreamKey { stream_id, tenant_id }
    }

    proptest! {
        #[test]
        fn every_event_is_in_its_stream_once_and_in_order(
            names in prop::collection::vec("[a-f]{1,2}", 0..300)
        ) {
            let streams: Vec<StreamKey> = names.iter().map(|name| key(name)).collect();
            let plan = Plan::new(streams.iter().copied()).unwrap();
            let mut seen = vec![0; names.len()];
            for group in plan.groups() {
                let events: Vec<usize> = plan.events(group).collect();
                prop_assert_eq!(events.first(), Some(&group.first_event));
                prop_assert!(events.is_sorted());
                for event in events {
                    prop_assert_eq!(streams[event], group.stream);
                    seen[event] += 1;
                }
            }
            prop_assert!(seen.iter().all(|count| *count == 1));
            prop_assert!(plan.groups().is_sorted_by_key(|group| group.first_event));
            let indexes: Vec<usize> = (0..names.len()).collect();
            let (ranges, arranged) = plan.in_lock_order(&indexes).unwrap();
            for (index, range) in ranges {
                prop_assert!(plan.events(&plan.groups()[index]).eq(arranged[range].iter().copied()));
            }
        }

        #[test]
        fn batches_lock_common_streams_in_the_same_order(
            names in prop::collection::hash_set("[a-f]{2,3}", 0..60), seed in any::<u64>()
        ) {
            let mut one: Vec<StreamKey> = names.iter().map(|name| key(name)).collect();
            let plan = Plan::new(one.iter().copied()).unwrap();
            let locked: Vec<StreamKey> =
                plan.lock_order().unwrap().into_iter().map(|i| plan.groups()[i].stream).collect();
            if !one.is_empty() {
                let middle = seed as usize % one.len();
                one.rotate_left(middle);
            }
            let other = Plan::new(one.iter().copied()).unwrap();
            let again: Vec<StreamKey> =
                other.lock_order().unwrap().into_iter().map(|i| other.groups()[i].stream).collect();
            prop_assert_eq!(locked, again);
        }
    }
}
