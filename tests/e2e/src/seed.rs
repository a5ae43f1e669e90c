//! One seed for all that is random in a test, printed so that a failure can be run again.
//!
//! The seed decides what each client does, not how the clients interleave: a failure that needs
//! an unlucky interleaving may take several runs with the same seed.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// Name of the environment variable that fixes the seed.
pub const SEED_VARIABLE: &str = "ALLSOURCE_SEED";

/// The seed of one test.
#[derive(Clone, Copy, Debug)]
pub struct Seed(u64);

impl Seed {
    /// Takes the seed from the environment, or a fresh one, and prints it.
    ///
    /// # Panics
    /// Where the variable is set to something that is not a number.
    pub fn announce() -> Self {
        let seed = match std::env::var(SEED_VARIABLE) {
            Ok(text) => text.parse().expect("ALLSOURCE_SEED must be a number from 0 to 2^64 - 1"),
            Err(_) => rand::random(),
        };
        println!("seed {seed} (run again with {SEED_VARIABLE}={seed})");
        Self(seed)
    }

    /// A generator of its own for part `number` of the test (one client, one round).
    pub fn rng(self, number: u64) -> StdRng {
        StdRng::seed_from_u64(self.0 ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[test]
    fn parts_of_a_seed_differ_and_repeat() {
        let draw = |number| Seed(7).rng(number).random::<u64>();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
