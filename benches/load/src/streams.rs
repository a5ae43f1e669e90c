//! The names of streams, and which client writes to which.

/// Names of streams, in the order of their numbers. They live as long as the program.
pub type Names = &'static [String];

/// `order-0000000`, `order-0000001`, …
pub fn orders(count: usize) -> Names {
    named(count, |number| format!("order-{number:07}"))
}

/// `parcel-0000000`, `parcel-0000001`, …
pub fn parcels(count: usize) -> Names {
    named(count, |number| format!("parcel-{number:07}"))
}

/// Streams of message-db, each in a category of its own: it locks per category, so this is where it
/// is fastest.
pub fn categories(count: usize) -> Names {
    named(count, |number| format!("cat{number}-1"))
}

fn named(count: usize, name: impl Fn(usize) -> String) -> Names {
    (0..count).map(name).collect::<Vec<_>>().leak()
}

/// One client among others with the same workload.
#[derive(Clone, Copy)]
pub struct Seat {
    /// Its number, from 0.
    pub index: usize,
    /// How many there are.
    pub clients: usize,
}

impl Seat {
    /// The client's part of `total` things.
    pub const fn part(self, total: usize) -> std::ops::Range<usize> {
        let share = total / self.clients;
        self.index * share..(self.index + 1) * share
    }
}

/// One client's endless walk, in random order, through the streams that are its own.
pub struct Walk {
    names: Vec<&'static str>,
    next: usize,
}

impl Walk {
    /// The walk of the client at `seat` through its share of `names`.
    pub fn new(names: Names, seat: Seat, mut rng: fastrand::Rng) -> Self {
        let own = names.iter().skip(seat.index).step_by(seat.clients);
        let mut names: Vec<_> = own.map(String::as_str).collect();
        rng.shuffle(&mut names);
        Self { names, next: 0 }
    }

    /// The next `count` streams, all different.
    pub fn take(&mut self, count: usize) -> &[&'static str] {
        if self.next + count > self.names.len() {
            self.next = 0;
        }
        self.next += count;
        &self.names[self.next - count..self.next]
    }
}
