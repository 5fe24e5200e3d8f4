//! What devices do to several messages at once, to conversations, and to what only they have, amid everything else in a run.
//! Derived from the seed alone, as `plan.rs` is.

use super::action::{Action, MessageVerb};
use super::plan::{DEVICES, Step, TEAM, USERS, pick};
use crate::random::Random;

/// How many actions in a thousand are followed by one of these.
const MORE: u32 = 200;
/// How many of these in a thousand are about the group.
const IN_TEAM: u32 = 300;
/// How many of those that delete everything in a thousand do so: it says little about what is lost.
const EVERYTHING: u32 = 250;
/// In the conversations of this user messages are inserted.
const NOTED: &str = USERS[2];

/// Adds these actions. They have a generator of their own, so that the rest of an older seed is what it was.
pub(super) fn with_more_verbs(seed: u64, steps: Vec<Step>) -> Vec<Step> {
    let mut random = Random::new(seed ^ 0x3e55);
    let mut all = Vec::with_capacity(steps.len() * 2);
    for step in steps {
        let is_action = matches!(step, Step::Action(..));
        all.push(step);
        if is_action && random.chance(MORE) {
            all.push(verb_step(&mut random));
        }
    }
    all
}

fn verb_step(random: &mut Random) -> Step {
    let device = pick(random, DEVICES.len());
    let others: Vec<&str> = USERS.into_iter().filter(|user| *user != DEVICES[device]).collect();
    let other = others[pick(random, others.len())];
    let peer = if random.chance(IN_TEAM) { TEAM } else { other };
    let verb = MessageVerb::MORE[pick(random, MessageVerb::MORE.len())];
    let verb = if verb.is_everywhere() && !random.chance(EVERYTHING) { MessageVerb::DeleteSome } else { verb };
    let verb = match (verb, is_noted(DEVICES[device], peer)) {
        // A group has none.
        (MessageVerb::ReceiptAll, _) if peer == TEAM => MessageVerb::Combine,
        // An inserted message brings a deleted conversation back on its device alone.
        (MessageVerb::Insert, false) => MessageVerb::LocalData,
        (MessageVerb::DeleteConversation, true) => MessageVerb::DeleteSome,
        (verb, _) => verb,
    };
    Step::Action(device, Action::Change { peer, verb, pick: random.below(1 << 20) })
}

/// Whether messages are inserted into the conversation of two users.
fn is_noted(one: &str, other: &str) -> bool {
    other != TEAM && [one, other].contains(&NOTED)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_hundred_seeds_contain_every_verb_and_no_conversation_is_both_deleted_and_brought_back() {
        let mut found = BTreeSet::new();
        let (mut deleted, mut noted) = (BTreeSet::new(), BTreeSet::new());
        for seed in 0..100 {
            for step in with_more_verbs(seed, vec![Step::Action(0, Action::Rename); 50]) {
                let Step::Action(device, Action::Change { peer, verb, .. }) = step else { continue };
                found.insert(format!("{verb:?}"));
                let mut pair = [DEVICES[device], peer];
                pair.sort_unstable();
                match verb {
                    MessageVerb::DeleteConversation => deleted.insert(pair),
                    MessageVerb::Insert => noted.insert(pair),
                    _ => false,
                };
            }
        }
        let all: BTreeSet<String> = MessageVerb::MORE.iter().map(|verb| format!("{verb:?}")).collect();
        assert_eq!(found, all);
        assert_eq!((deleted.len(), noted.len(), deleted.intersection(&noted).count()), (7, 3, 0));
    }
}
