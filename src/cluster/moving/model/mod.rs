//! A model of moves, whose reachable states are searched, all of them, for one that breaks a promise.
//!
//! At any time, and in any order: an executor reads the record, asks those members that it can reach, and
//! sends the request or the record that [`next`](super::next) says; what was sent arrives; a slow executor
//! does the same with a record and a report of the source that have become old; clients write wherever
//! they are let; a subscription makes progress; a move is cancelled, and another is begun; a member fails
//! over, which loses its slots, and what it had written without acknowledging it. An executor that dies, or
//! a message that is lost, is no event of its own: what was sent may stay under way for ever, and who goes
//! on begins by reading the record.

mod faults;
mod promises;
mod requests;
mod tests;
mod world;

use self::faults::Fault;
use self::world::{Broken, Message, PHANTOM, Request, Slow, World, group};
use super::phase::Phase;
use super::record::{Move, begin};
use super::step::Step;
use crate::cluster::ownership::State;
use stateright::{Model, Property};
use std::collections::HashSet;
use std::sync::Mutex;

/// How much happens at most.
#[derive(Clone, Copy, Debug)]
struct Size {
    groups: usize,
    moves: u8,
    writes: u32,
    failovers: u8,
    /// Messages that are under way at the same time.
    pending: usize,
    has_slow: bool,
}

/// The model.
struct Moving {
    size: Size,
    fault: Fault,
    /// Hashes of what is known to come to an end.
    ending: Mutex<HashSet<u64>>,
}

/// What happens next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Event {
    /// An executor makes a step, reaching only these.
    Run { source: bool, target: bool },
    /// A slow executor reads the record and asks the source, if it is reached.
    Look { source: bool },
    /// It goes on with the target.
    Decide { target: bool },
    /// It dies.
    Forget,
    /// A message arrives.
    Arrive(usize),
    /// A client writes here.
    Write(usize),
    /// The subscription here makes progress.
    Replicate(usize),
    /// The move is cancelled.
    Cancel,
    /// A move to here begins.
    Begin(usize),
    /// This group fails over. `leaks`: what it has lost was copied before.
    FailOver { number: usize, leaks: bool },
    /// The coordinator fails over.
    FailOverCoordinator,
}

impl Moving {
    fn send(&self, world: &mut World, record: Move, step: Step, is_fresh: bool) {
        let request = match step {
            Step::Do(action) => Request::Do(action),
            Step::Record(entry) => Request::Record(entry),
            Step::Fail(_) => {
                if is_fresh || world.record == Some(record) {
                    world.broken = Some(Broken::Contradiction);
                }
                return;
            }
            Step::Wait(_) | Step::Ended(_) => return,
        };
        // A member is told no more of the record than which move it is.
        let record = match request {
            Request::Do(_) => {
                Move { phase: Phase::Recorded, drained: None, fenced: None, ..record }
            }
            Request::Record(_) => record,
        };
        // The same request may be under way twice.
        world.pending.push(Message { record, request });
        world.pending.sort_by_cached_key(promises::hash);
    }

    fn fail_over(&self, world: &mut World, number: usize, leaks: bool) -> Option<()> {
        world.failovers += 1;
        let member = &mut world.members[number];
        let is_read = member.slot.take().is_some();
        match (self.fault, member.row.state) {
            (Fault::SubscribesAsynchronously, State::Foreign) => member.log &= member.log >> 1,
            (Fault::BelievesFenceTooEarly, State::Fenced) => member.row.state = State::Owned,
            _ => {}
        }
        if leaks {
            // A durable fence has made everything before it durable.
            let may_leak = is_read && member.is_owner();
            let reader = world.members.iter_mut().find(|member| {
                let from = member.subscription.as_ref().filter(|of| of.is_copied);
                from.is_some_and(|of| of.source == group(number))
            });
            reader.filter(|_| may_leak)?.log |= PHANTOM;
        }
        Some(())
    }
}

impl Model for Moving {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.size.groups)]
    }

    /// Those that may change something.
    fn actions(&self, world: &World, events: &mut Vec<Event>) {
        const BOTH: [bool; 2] = [true, false];
        let is_moving = world.current().is_some();
        if is_moving && world.pending.len() < self.size.pending {
            // Who reaches neither can only wait.
            let reached = [(true, true), (true, false), (false, true)];
            events.extend(reached.map(|(source, target)| Event::Run { source, target }));
        }
        if world.slow.is_some() {
            events.push(Event::Forget);
            if world.pending.len() < self.size.pending {
                events.extend(BOTH.map(|target| Event::Decide { target }));
            }
        } else if self.size.has_slow && is_moving {
            events.extend(BOTH.map(|source| Event::Look { source }));
        }
        events.extend((0..world.pending.len()).map(Event::Arrive));
        for (number, member) in world.members.iter().enumerate() {
            if member.is_owner() && world.acknowledged.count_ones() <= self.size.writes {
                events.push(Event::Write(number));
            }
            if member.subscription.is_some() {
                events.push(Event::Replicate(number));
            }
            if !is_moving && world.moves < self.size.moves {
                events.push(Event::Begin(number));
            }
            let loses = member.slot.is_some() || self.fault.loses_more();
            if loses && world.failovers < self.size.failovers {
                events.extend(BOTH.map(|leaks| Event::FailOver { number, leaks }));
            }
        }
        if world.undurable.is_some() && world.failovers < self.size.failovers {
            events.push(Event::FailOverCoordinator);
        }
        if is_moving {
            events.push(Event::Cancel);
        }
    }

    fn next_state(&self, before: &World, event: Event) -> Option<World> {
        let mut world = before.clone();
        match event {
            Event::Run { source, target } => {
                let record = world.current()?;
                let source = source.then(|| world.ask_source(&record));
                let seen = world.look(&record, source, target);
                let step = self.fault.next(&record, &seen);
                self.send(&mut world, record, step, true);
            }
            Event::Look { source } => {
                let record = world.current()?;
                let source = source.then(|| world.ask_source(&record));
                world.slow = Some(Slow { record, source });
            }
            Event::Decide { target } => {
                let Slow { record, source } = world.slow.take()?;
                let seen = world.look(&record, source, target);
                let step = self.fault.next(&record, &seen);
                self.send(&mut world, record, step, false);
            }
            Event::Forget => world.slow = None,
            Event::Arrive(number) => {
                let message = world.pending.remove(number);
                world.arrive(&message, self.fault);
            }
            Event::Write(number) => {
                world.write(number);
            }
            Event::Replicate(number) => world.replicate(number),
            Event::Cancel => {
                let record = world.record.as_mut()?;
                record.phase = self.fault.cancel(record.phase).ok()?;
            }
            Event::Begin(number) => {
                world.record = Some(begin(world.map, world.record, group(number)).ok()?);
                world.moves += 1;
            }
            Event::FailOver { number, leaks } => {
                self.fail_over(&mut world, number, leaks)?;
            }
            Event::FailOverCoordinator => {
                (world.map, world.record) = world.undurable.take()?;
                world.failovers += 1;
            }
        }
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::properties()
    }
}
