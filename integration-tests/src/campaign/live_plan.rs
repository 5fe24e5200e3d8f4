//! What devices do in rooms and about calls, amid everything else in a run. Derived from the seed alone, as `plan.rs` is.

use super::action::{Action, Batching, CallVerb, ROOM_KEYS, RoomVerb, Saying};
use super::plan::{DEVICES, Step, USERS, pick};
use crate::random::Random;

/// The rooms. A user is in both at once, or in one of them.
pub(super) const ROOMS: [&str; 2] = ["stage", "hall"];
/// Whoever switches to a room leaves this one.
pub(super) fn other_room(room: &str) -> &'static str {
    if room == ROOMS[0] { ROOMS[1] } else { ROOMS[0] }
}

/// How many actions in a thousand are followed by something in a room, and by something about a call.
const IN_ROOMS: u32 = 330;
const IN_CALLS: u32 = 300;

/// Adds actions in rooms and about calls. They have a generator of their own, so that the rest of an older seed is what it was.
pub(super) fn with_rooms_and_calls(seed: u64, steps: Vec<Step>) -> Vec<Step> {
    let mut random = Random::new(seed ^ 0xca11);
    let mut all = Vec::with_capacity(steps.len() * 2);
    // Rooms with nobody in them have nothing to lose.
    for device in 0..DEVICES.len() {
        let room = ROOMS[pick(&mut random, ROOMS.len())];
        all.push(Step::Action(device, in_room(room, USERS[0], RoomVerb::Enter)));
    }
    for step in steps {
        let is_action = matches!(step, Step::Action(..));
        all.push(step);
        if is_action && random.chance(IN_ROOMS) {
            all.push(room_step(&mut random));
        }
        if is_action && random.chance(IN_CALLS) {
            all.push(call_step(&mut random));
        }
    }
    all
}

const fn in_room(room: &'static str, user: &'static str, verb: RoomVerb) -> Action {
    Action::Room { room, user, verb }
}

fn user(random: &mut Random) -> &'static str {
    USERS[pick(random, USERS.len())]
}

fn key(random: &mut Random) -> u8 {
    u8::try_from(random.below(u64::from(ROOM_KEYS))).unwrap_or(0)
}

/// Most set something: an attribute that is absent cannot be removed.
fn batching(random: &mut Random) -> Batching {
    match random.below(6) {
        0..3 => Batching::SetsAll,
        3..5 => Batching::RemovesLast,
        _ => Batching::RemovesAll,
    }
}

/// The ranges are the frequencies in percent.
fn room_step(random: &mut Random) -> Step {
    let (device, room) = (pick(random, DEVICES.len()), ROOMS[pick(random, ROOMS.len())]);
    let verb = match random.below(100) {
        0..14 => RoomVerb::Enter,
        14..19 => RoomVerb::Join,
        19..25 => RoomVerb::Leave,
        25..27 => RoomVerb::LeaveAll,
        27..31 => RoomVerb::Switch,
        31..41 => RoomVerb::Say(Saying::Text),
        41..44 => RoomVerb::Say(Saying::High),
        44..47 => RoomVerb::Say(Saying::Low),
        47..53 => RoomVerb::Say(Saying::Command),
        53..59 => RoomVerb::Say(Saying::Barrage),
        59..67 => RoomVerb::Batch(batching(random)),
        67..82 => RoomVerb::Set { key: key(random), is_forced: random.chance(600), takes: random.chance(300) },
        82..88 => RoomVerb::Remove { key: key(random), is_forced: random.chance(600) },
        _ => RoomVerb::SetOf { key: key(random), stays: random.chance(300) },
    };
    Step::Action(device, in_room(room, user(random), verb))
}

fn call_step(random: &mut Random) -> Step {
    let device = pick(random, DEVICES.len());
    let verb = match random.below(100) {
        0..26 => CallVerb::Invite {
            is_advanced: random.chance(600),
            // Some are over while the run lasts; for the others the clock is set forward.
            timeout_s: if random.chance(600) { 1 } else { 60 },
            is_checked: random.chance(500),
        },
        26..48 => CallVerb::Accept,
        48..58 => CallVerb::Reject,
        58..66 => CallVerb::Cancel,
        66..70 => CallVerb::TakeBack,
        70..77 => CallVerb::Add,
        77..84 => CallVerb::Join,
        84..92 => CallVerb::Quit,
        _ => CallVerb::End,
    };
    let others: Vec<&str> = USERS.into_iter().filter(|user| *user != DEVICES[device]).collect();
    let first = pick(random, others.len());
    let users = (0..=pick(random, others.len())).map(|at| others[(first + at) % others.len()]).collect();
    Step::Action(device, Action::Call { users, verb, pick: random.below(1 << 20) })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_hundred_seeds_contain_every_verb() {
        let mut found = BTreeSet::new();
        for seed in 0..100 {
            let send = Step::Action(0, Action::Rename);
            for step in with_rooms_and_calls(seed, vec![send; 50]) {
                match step {
                    Step::Action(_, Action::Room { verb, .. }) => found.insert(format!("room {verb:?}")),
                    Step::Action(_, Action::Call { verb, .. }) => found.insert(format!("call {verb:?}")),
                    _ => false,
                };
            }
        }
        // 10 without attributes, 3 batches, 4 keys set in 4 ways, removed in 2 and set of members in 2; 8 of calls, and 8 invitations.
        assert_eq!(found.len(), 10 + 3 + 4 * (4 + 2 + 2) + 8 + 8, "{found:?}");
    }
}
