//! Waiting for a condition, bounded.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::sizes;

const POLL_PAUSE: Duration = Duration::from_millis(10);

/// Polls `probe` until it gives a value.
///
/// # Panics
/// Where it has given none within [`sizes::wait_max`]; `what` says what was waited for.
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + sizes::wait_max();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        sleep(POLL_PAUSE);
    }
}

/// Polls `probe` until it is true. See [`until`].
///
/// # Panics
/// As [`until`].
pub fn until_true(what: &str, mut probe: impl FnMut() -> bool) {
    until(what, || probe().then_some(()));
}
