//! What devices do to the second group, amid everything else in a run. Derived from the seed alone, as `plan.rs` is.

use super::action::{Action, ClubVerb};
use super::plan::{CLUB, DEVICES, Step, USERS, pick};
use crate::random::Random;

/// How many actions in a thousand are followed by something in the group.
const IN_CLUB: u32 = 130;
/// How many runs in a thousand end the group.
const ENDS: u32 = 400;
/// The device of its first owner.
const OWNER: usize = 0;

/// Adds what happens in the group. It has a generator of its own, so that the rest of an older seed is what it was.
pub(super) fn with_club(seed: u64, steps: Vec<Step>) -> Vec<Step> {
    let mut random = Random::new(seed ^ 0xc1_0b00);
    let mut all = Vec::with_capacity(steps.len() * 2);
    for step in steps {
        let is_action = matches!(step, Step::Action(..));
        all.push(step);
        if is_action && random.chance(IN_CLUB) {
            all.push(club_step(&mut random));
        }
    }
    if random.chance(ENDS) {
        // Late, so that there is something to end, and before others do something.
        let last = all.len() / 4;
        let at = all.len() - pick(&mut random, last + 1);
        all.insert(at, Step::Action(OWNER, Action::Club { user: USERS[OWNER], verb: ClubVerb::Dismiss }));
    }
    all
}

/// The ranges are the frequencies in percent.
fn club_step(random: &mut Random) -> Step {
    let device = pick(random, DEVICES.len());
    let others: Vec<&str> = USERS.into_iter().filter(|user| *user != DEVICES[device]).collect();
    let user = others[pick(random, others.len())];
    let verb = match random.below(100) {
        0..34 => return Step::Action(device, Action::Send { peer: CLUB, is_poison: false }),
        34..38 => return Step::Action(device, Action::Clear { peer: CLUB }),
        38..42 => ClubVerb::Join,
        42..44 => ClubVerb::Leave,
        44..48 => ClubVerb::Kick,
        48..51 => ClubVerb::Promote,
        51..56 => match random.below(4) {
            0 => ClubVerb::MuteMembers,
            1 => ClubVerb::MuteRoles,
            lasting => ClubVerb::MuteAll { lasts: lasting == 2 },
        },
        56..62 => ClubVerb::Unmute,
        62..66 => ClubVerb::MuteUser { lasts: random.chance(500) },
        66..70 => ClubVerb::UnmuteUser,
        // Most must be let in.
        70..75 => ClubVerb::JoinMode([0, 1, 1, 1, 2][pick(random, 5)]),
        75..77 => ClubVerb::InviteMode { is_restricted: random.chance(300) },
        77..80 => ClubVerb::BeInviteMode { is_asked: random.chance(700) },
        80..85 => ClubVerb::Apply,
        85..89 => ClubVerb::AcceptApplicant,
        89..91 => ClubVerb::RejectApplicant,
        91..95 => ClubVerb::Ask,
        95..98 => ClubVerb::AcceptInvitation,
        _ => ClubVerb::RejectInvitation,
    };
    Step::Action(device, Action::Club { user, verb })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_hundred_seeds_contain_every_verb_and_a_group_ends_at_most_once() {
        let mut found = BTreeSet::new();
        let mut ended = 0;
        for seed in 0..100 {
            let ends = |step: &&Step| matches!(step, Step::Action(_, Action::Club { verb: ClubVerb::Dismiss, .. }));
            let steps = with_club(seed, vec![Step::Action(0, Action::Rename); 100]);
            assert!(steps.iter().filter(ends).count() <= 1, "seed {seed}");
            ended += steps.iter().filter(ends).count();
            for step in steps {
                let Step::Action(_, Action::Club { verb, .. }) = step else { continue };
                found.insert(format!("{verb:?}"));
            }
        }
        // 15 without a choice, 2 that mute in 2 ways, 3 modes to join, and 2 other modes in 2 ways.
        assert_eq!(found.len(), 15 + 4 + 3 + 4, "{found:?}");
        assert!((20..=60).contains(&ended), "{ended} groups end");
    }
}
