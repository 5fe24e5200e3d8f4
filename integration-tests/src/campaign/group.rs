//! The invariants of groups. As for social actions, the calls alone determine what is possible in the end.

use super::action::{Action, GroupVerb};
use super::checks::{EndState, user_of};
use super::plan::{TEAM, USERS};
use super::record::Call;
use super::social::{Write, may_remain, write};
use super::store::StoredGroup;

/// The role of the owner and that of a member.
const OWNER: i64 = 1;
const MEMBER: i64 = 3;

/// The changes of the group: the call, who called, whom it is about and the verb.
fn changes(end: &EndState) -> impl Iterator<Item = (&Call, &'static str, &'static str, GroupVerb)> {
    end.calls.iter().filter_map(|call| match call.action {
        Action::Group { user, verb } => Some((call, user_of(call), user, verb)),
        _ => None,
    })
}

/// Whether a call is known to have done what it says.
fn is_done(call: &Call) -> bool {
    call.acknowledged().is_some_and(|(_, answer)| answer["isDone"] == true)
}

fn groups(end: &EndState) -> impl Iterator<Item = &StoredGroup> {
    end.kept.iter().filter_map(|kept| kept.group.as_ref())
}

pub(super) fn group_wrong(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for group in groups(end) {
        let owners = group.members.values().filter(|(role, _)| *role == OWNER).count();
        let rows = i64::try_from(group.members.len()).unwrap_or(i64::MAX);
        // Whoever is last dissolves it by leaving.
        if (rows > 0 && owners != 1) || group.count != rows {
            wrong.push(format!("{owners} owners, {} counted: {group:?}", group.count));
        }
        for user in USERS {
            let stays = group.stays.get(user).map(Vec::as_slice).unwrap_or_default();
            let is_in = stays.last().is_some_and(|(_, to)| to.is_none());
            let is_in_order = stays.windows(2).all(|pair| pair[0].1.is_some_and(|to| to < pair[1].0));
            if is_in != group.members.contains_key(user) || !is_in_order {
                wrong.push(format!("{user} has the stays {stays:?}: {group:?}"));
            }
        }
    }
    wrong
}

/// The writes of whether a user is a member.
fn member_writes(end: &EndState, user: &str) -> Vec<Write<bool>> {
    let one = |(call, who, whom, verb): (&Call, &str, &str, GroupVerb)| match verb {
        GroupVerb::Join if who == user => write(end, call, is_done(call), true),
        GroupVerb::Leave if who == user => write(end, call, is_done(call), false),
        GroupVerb::Invite if whom == user => write(end, call, is_done(call), true),
        GroupVerb::Kick if whom == user => write(end, call, is_done(call), false),
        _ => None,
    };
    changes(end).filter_map(one).collect()
}

/// Whether the owner may be this user: whoever leaves or is handed it over changes it.
fn owner_writes(end: &EndState) -> Vec<Write<&'static str>> {
    let mut all = Vec::new();
    for (call, _, whom, verb) in changes(end) {
        match verb {
            GroupVerb::Transfer => all.extend(write(end, call, is_done(call), whom)),
            // It passes to whoever came first.
            GroupVerb::Leave => all.extend(USERS.iter().filter_map(|heir| write(end, call, false, *heir))),
            _ => {}
        }
    }
    all
}

/// The writes of a role other than that of the owner. Whoever returns is a member, and a member who joins again remains what they are;
/// a former owner is a member too.
fn role_writes(end: &EndState, user: &str) -> Vec<Write<i64>> {
    let one = |(call, who, whom, verb): (&Call, &str, &str, GroupVerb)| match verb {
        GroupVerb::Promote if whom == user => write(end, call, is_done(call), OWNER + 1),
        GroupVerb::Demote if whom == user => write(end, call, is_done(call), MEMBER),
        GroupVerb::Join if who == user => write(end, call, false, MEMBER),
        GroupVerb::Invite if whom == user => write(end, call, is_done(call), MEMBER),
        // They are nobody then, and a member when they are back.
        GroupVerb::Leave if who == user => write(end, call, is_done(call), MEMBER),
        GroupVerb::Kick if whom == user => write(end, call, is_done(call), MEMBER),
        GroupVerb::Transfer if who == user => write(end, call, is_done(call), MEMBER),
        _ => None,
    };
    changes(end).filter_map(one).collect()
}

pub(super) fn group_lost(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    // `club.rs` has the other one, whose members come and go in more ways.
    for group in groups(end).filter(|group| group.id == TEAM) {
        let of = |verb: GroupVerb| changes(end).filter(move |(.., one)| *one == verb);
        let names: Vec<_> =
            of(GroupVerb::Rename).filter_map(|(call, ..)| write(end, call, is_done(call), call.text.clone())).collect();
        if !may_remain(&names, &group.name, &String::new()) {
            wrong.push(format!("the group is called {:?}", group.name));
        }
        for (at, user) in USERS.into_iter().enumerate() {
            let member = group.members.get(user);
            if !may_remain(&member_writes(end, user), &member.is_some(), &(at < 3)) {
                wrong.push(format!("{user} is {}in the group", if member.is_some() { "" } else { "not " }));
            }
            let Some((role, nickname)) = member else { continue };
            if *role == OWNER && !may_remain(&owner_writes(end), &user, &USERS[0]) {
                wrong.push(format!("{user} owns the group"));
            }
            if *role != OWNER && !may_remain(&role_writes(end, user), role, &MEMBER) {
                wrong.push(format!("{user} has the role {role}"));
            }
            let of_user = of(GroupVerb::Nickname).filter(|(_, _, whom, _)| *whom == user);
            let mut nicknames: Vec<_> =
                of_user.filter_map(|(call, ..)| write(end, call, is_done(call), call.text.clone())).collect();
            // Whoever returns may have lost it.
            let entrances = changes(end).filter(|(_, who, whom, verb)| match verb {
                GroupVerb::Join => *who == user,
                GroupVerb::Invite => *whom == user,
                _ => false,
            });
            nicknames.extend(entrances.filter_map(|(call, ..)| write(end, call, false, String::new())));
            if !may_remain(&nicknames, nickname, &String::new()) {
                wrong.push(format!("{user} is called {nickname:?}"));
            }
        }
    }
    wrong
}
