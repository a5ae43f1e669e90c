//! How long and how wide a test is: small by default, larger through the environment.

use std::time::Duration;

/// The number in the environment variable `name`, or `default`.
///
/// # Panics
/// Where the variable is set to something that is not a number.
pub fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} must be a number")),
        Err(_) => default,
    }
}

/// Factor for the amount of work of every test (`ALLSOURCE_E2E_FACTOR`, 1 by default).
pub fn factor() -> u64 {
    number("ALLSOURCE_E2E_FACTOR", 1).max(1)
}

/// Longest time a test waits for one thing before it fails (`ALLSOURCE_E2E_WAIT_S`).
pub fn wait_max() -> Duration {
    Duration::from_secs(number("ALLSOURCE_E2E_WAIT_S", 90))
}
