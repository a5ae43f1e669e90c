//! Cutting events into runs. A run is what one row of `event_log` holds.

use std::ops::Range;

/// A run ends before it would exceed this many bytes, so that its row, uncompressed, fits a page of
/// 8 kB with room for headers. A single event above it is a run of its own.
pub const RUN_BYTES_MAX: usize = 7_600;

/// A run ends at this many events, so that one cannot hide thousands of tiny ones behind a single
/// index entry.
pub const RUN_EVENTS_MAX: usize = 256;

/// What an event costs in a run beyond its own bytes: two length words and their padding.
const EVENT_OVERHEAD_BYTES: usize = 14;

/// Cuts `sizes_bytes`, the sizes of consecutive events of one stream, into runs: ranges that
/// together cover all of them in order.
pub fn cut_runs(
    sizes_bytes: impl IntoIterator<Item = usize>,
) -> impl Iterator<Item = Range<usize>> {
    let mut sizes = sizes_bytes.into_iter();
    let mut start = 0;
    let mut carried: Option<usize> = sizes.next();
    std::iter::from_fn(move || {
        let mut run_bytes = carried.take()? + EVENT_OVERHEAD_BYTES;
        let mut end = start + 1;
        for size in sizes.by_ref() {
            let grown = run_bytes + size + EVENT_OVERHEAD_BYTES;
            if grown > RUN_BYTES_MAX || end - start == RUN_EVENTS_MAX {
                carried = Some(size);
                break;
            }
            run_bytes = grown;
            end += 1;
        }
        let run = start..end;
        start = end;
        Some(run)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_cover_all_events_in_order_and_keep_the_limits(
            sizes in prop::collection::vec(prop_oneof![0usize..50, 100usize..400, 5_000usize..20_000], 0..800)
        ) {
            let runs: Vec<_> = cut_runs(sizes.iter().copied()).collect();
            let mut next = 0;
            for run in &runs {
                prop_assert_eq!(run.start, next);
                prop_assert!(run.end > run.start && run.len() <= RUN_EVENTS_MAX);
                let bytes: usize = sizes[run.clone()].iter().map(|s| s + EVENT_OVERHEAD_BYTES).sum();
                prop_assert!(run.len() == 1 || bytes <= RUN_BYTES_MAX);
                // A run ends only if the next event would have exceeded a limit.
                if let Some(following) = sizes.get(run.end) {
                    prop_assert!(
                        run.len() == RUN_EVENTS_MAX
                            || bytes + following + EVENT_OVERHEAD_BYTES > RUN_BYTES_MAX
                    );
                }
                next = run.end;
            }
            prop_assert_eq!(next, sizes.len());
        }
    }

    #[test]
    fn no_events_make_no_run() {
        assert_eq!(cut_runs([]).count(), 0);
    }
}
