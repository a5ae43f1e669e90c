//! What must hold in every state that can be reached.

use super::Moving;
use super::world::{Message, Request, World};
use crate::cluster::moving::phase::Phase;
use crate::cluster::moving::step::{Step, Wait};
use stateright::Property;
use std::hash::{DefaultHasher, Hash, Hasher};

pub const ONE_OWNER: &str = "one owner at most";
pub const NOTHING_LOST: &str = "nothing lost";
pub const CONSISTENT: &str = "consistent";
pub const FENCED_IN_BETWEEN: &str = "fenced only in between";
pub const NOTHING_LEFT: &str = "nothing left behind";
pub const ENDS: &str = "comes to an end";

/// More steps than a move has.
const STEPS_MAX: usize = 100;

/// The promises and what shows that the search gets around.
pub fn properties() -> Vec<Property<Moving>> {
    vec![
        Property::always(ONE_OWNER, has_one_owner_at_most),
        Property::always(NOTHING_LOST, loses_nothing),
        Property::always(CONSISTENT, is_consistent),
        Property::always(FENCED_IN_BETWEEN, is_fenced_only_in_between),
        Property::always(NOTHING_LEFT, leaves_nothing_behind),
        Property::always(ENDS, comes_to_an_end),
        Property::sometimes("done", |_, world| is_in(world, Phase::Done)),
        Property::sometimes("returned", |_, world| is_in(world, Phase::Returned)),
        Property::sometimes("given, and cancelled too late", |_, world: &World| {
            let owner = world.owners_now().next().map(|owner| owner.row.epoch);
            is_in(world, Phase::Refusing) && owner == world.record.map(|record| record.epoch)
        }),
    ]
}

fn is_in(world: &World, phase: Phase) -> bool {
    world.record.is_some_and(|record| record.phase == phase)
}

/// Nobody else writes what an owner writes.
fn has_one_owner_at_most(_: &Moving, world: &World) -> bool {
    world.owners_now().count() <= 1
}

/// The owner has what was acknowledged, and nothing else.
fn loses_nothing(_: &Moving, world: &World) -> bool {
    world.owners_now().all(|owner| owner.log == world.acknowledged)
}

/// Epochs grow, and each is of one group; positions grow; no executor meets what it cannot explain.
fn is_consistent(_: &Moving, world: &World) -> bool {
    world.broken.is_none()
}

/// Only from the fence until one of the two has been made the owner, nobody is.
fn is_fenced_only_in_between(_: &Moving, world: &World) -> bool {
    let in_between = |phase| {
        matches!(
            phase,
            Phase::Checked
                | Phase::Fenced
                | Phase::Replayed
                | Phase::Compared
                | Phase::Raised
                | Phase::Refusing
                | Phase::Returning
        )
    };
    world.owners_now().next().is_some() || world.record.is_some_and(|of| in_between(of.phase))
}

/// When no move is under way, nothing of one is left, whatever arrives late.
fn leaves_nothing_behind(_: &Moving, world: &World) -> bool {
    world.current().is_some() || is_at_rest(world)
}

/// An executor that nothing happens to any more brings the move to its end.
fn comes_to_an_end(model: &Moving, world: &World) -> bool {
    let mut world = world.clone();
    world.pending.clear();
    world.slow = None;
    let mut way = Vec::new();
    for _ in 0..STEPS_MAX {
        let known = hash(&(&world.members, world.map, world.record, world.acknowledged));
        let Ok(mut ending) = model.ending.lock() else { return false };
        let is_end = world.current().is_none();
        if ending.contains(&known) || (is_end && is_at_rest(&world)) {
            ending.extend(way);
            ending.insert(known);
            return true;
        }
        drop(ending);
        way.push(known);
        let Some(record) = world.current() else { return false };
        let seen = world.look(&record, Some(world.ask_source(&record)), true);
        let request = match model.fault.next(&record, &seen) {
            Step::Do(action) => Request::Do(action),
            Step::Record(entry) => Request::Record(entry),
            Step::Wait(Wait::Copying | Wait::CatchingUp { .. } | Wait::Replaying { .. }) => {
                (0..world.members.len()).for_each(|number| world.replicate(number));
                continue;
            }
            Step::Wait(_) | Step::Ended(_) | Step::Fail(_) => return false,
        };
        world.arrive(&Message { record, request }, model.fault);
    }
    false
}

fn is_at_rest(world: &World) -> bool {
    let is_clean = |number: usize| {
        let member = &world.members[number];
        let is_owner = super::world::index(world.map.owner) == number;
        let is_linked =
            member.publication.is_some() || member.slot.is_some() || member.subscription.is_some();
        let is_right = match is_owner {
            true => member.is_owner() && member.row.epoch == world.map.epoch,
            false => !member.is_owner() && member.log == 0,
        };
        is_right && !is_linked
    };
    (0..world.members.len()).all(is_clean)
}

pub fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
