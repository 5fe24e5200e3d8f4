//! What must hold of profiles, friends, applications and blacklists. What a value may be in the end is told from the calls
//! alone: the last to be acknowledged wins, of those that ran at the same time any, and one whose outcome nobody knows may
//! have taken effect at any moment after it was called.

use zim_protocol::{ErrorCode, FriendApplicationState as State};

use super::checks::{DeviceState, EndState, lasts, user_of};
use super::lists::{Friend, Lists, Profile};
use super::plan::{Action, SocialAction};
use super::record::{Call, Failure, Moment};
use super::store::StoredConversation;

/// A call that may have set a value.
#[derive(Debug)]
struct Write<V> {
    called: Moment,
    /// When it was over; the end of time, if nobody knows.
    ended: Moment,
    /// Whether it did, for certain and for good.
    is_certain: bool,
    value: V,
}

/// Whether a value may be what the writes left behind.
fn may_remain<V: PartialEq>(writes: &[Write<V>], value: &V, at_first: &V) -> bool {
    let is_over = |write: &Write<V>| writes.iter().any(|other| other.is_certain && other.called > write.ended);
    let mut last = writes.iter().filter(|write| !is_over(write));
    last.any(|write| write.value == *value) || value == at_first && writes.iter().all(|write| !write.is_certain)
}

/// Whether it is unknown what became of a call that failed so.
fn is_unknown(failure: &Failure) -> bool {
    use ErrorCode as Code;
    let unknown = [
        Code::NetworkModuleNetworkError,
        Code::NetworkModuleRequestTimeout,
        Code::NetworkModuleUserIsNotLogged,
        Code::CommonModuleImServerError,
        Code::CommonModuleImDatabaseError,
        Code::CommonModuleImServerDisconnect,
    ];
    failure.code == 0 || unknown.iter().any(|code| i64::from(*code as i32) == failure.code)
}

/// What a call wrote, or may have written; `None`: it was refused.
fn write<V>(end: &EndState, call: &Call, is_sure: bool, value: V) -> Option<Write<V>> {
    let called = call.called;
    match &call.answer {
        Some((ended, Ok(_))) => Some(Write { called, ended: *ended, is_certain: is_sure && lasts(end, call), value }),
        Some((_, Err(failure))) if !is_unknown(failure) => None,
        _ => Some(Write { called, ended: Moment::MAX, is_certain: false, value }),
    }
}

/// What people did about each other: who, whom and what.
fn social_actions(end: &EndState) -> impl Iterator<Item = (&Call, &'static str, &'static str, SocialAction)> {
    end.calls.iter().filter_map(|call| match call.action {
        Action::Social { peer, action } => Some((call, user_of(call), peer, action)),
        _ => None,
    })
}

/// Those of `user` about `peer`, true, and of `peer` about `user`, false.
fn between<'e>(end: &'e EndState, user: &str, peer: &str) -> impl Iterator<Item = (&'e Call, bool, SocialAction)> {
    social_actions(end).filter_map(move |(call, who, whom, action)| {
        match (who == user && whom == peer, who == peer && whom == user) {
            (true, _) => Some((call, true, action)),
            (_, true) => Some((call, false, action)),
            _ => None,
        }
    })
}

/// The answer to an application: the two became friends at once.
fn is_at_once(call: &Call) -> bool {
    call.acknowledged().is_some_and(|(_, told)| told["applicationInfo"]["state"] == State::Accepted as i32)
}

fn is_acknowledged(call: &Call) -> bool {
    call.acknowledged().is_some()
}

/// Who was on whose list.
fn friend_writes(end: &EndState, user: &str, peer: &str) -> Vec<Write<bool>> {
    let one = |(call, is_own, action)| match action {
        SocialAction::AddFriend | SocialAction::Accept => write(end, call, true, true),
        SocialAction::Apply if is_at_once(call) || !is_acknowledged(call) => write(end, call, true, true),
        SocialAction::DeleteFriend { is_mutual } if is_own || is_mutual => write(end, call, true, false),
        _ => None,
    };
    between(end, user, peer).filter_map(one).collect()
}

/// What somebody called a friend, if he was one.
fn alias_writes(end: &EndState, user: &str, peer: &str) -> Vec<Write<String>> {
    let one = |(call, is_own, action): (&Call, bool, SocialAction)| match action {
        SocialAction::Alias if is_own => write(end, call, true, call.text.clone()),
        // Of somebody who was a friend already they leave the alias alone.
        SocialAction::AddFriend | SocialAction::Accept if is_own => write(end, call, false, call.text.clone()),
        SocialAction::AddFriend | SocialAction::Accept | SocialAction::Apply => write(end, call, false, String::new()),
        _ => None,
    };
    between(end, user, peer).filter_map(one).collect()
}

/// What stood between two people: the state, and what was said while it waits.
fn application_writes(end: &EndState, user: &str, peer: &str) -> Vec<Write<(i64, String)>> {
    let state = |state: State| (i64::from(state as i32), String::new());
    let mut all = Vec::new();
    for (call, _, action) in between(end, user, peer) {
        let waiting = (i64::from(State::Waiting as i32), call.text.clone());
        match action {
            SocialAction::Apply if is_at_once(call) => all.extend(write(end, call, false, state(State::Accepted))),
            SocialAction::Apply => {
                all.extend(write(end, call, true, waiting));
                if !is_acknowledged(call) {
                    all.extend(write(end, call, false, state(State::Accepted)));
                }
            }
            SocialAction::Accept => all.extend(write(end, call, true, state(State::Accepted))),
            // If somebody waited for it.
            SocialAction::AddFriend => all.extend(write(end, call, false, state(State::Accepted))),
            SocialAction::Reject => all.extend(write(end, call, true, state(State::Rejected))),
            _ => {}
        }
    }
    all
}

fn block_writes(end: &EndState, user: &str, peer: &str) -> Vec<Write<bool>> {
    let one = |(call, is_own, action)| match action {
        SocialAction::Block if is_own => write(end, call, true, true),
        SocialAction::Unblock if is_own => write(end, call, true, false),
        _ => None,
    };
    between(end, user, peer).filter_map(one).collect()
}

/// What was acknowledged between people is in their lists.
pub(super) fn relation_lost(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    let nothing = Lists::default();
    for user in super::plan::USERS {
        let lists = end.lists.get(user).unwrap_or(&nothing);
        for peer in super::plan::USERS.into_iter().filter(|peer| *peer != user) {
            let friend = lists.friends.get(peer);
            if !may_remain(&friend_writes(end, user, peer), &friend.is_some(), &false) {
                wrong.push(format!("{peer} on the list of {user}: {friend:?}"));
            }
            if let Some(Friend { alias, .. }) = friend
                && !may_remain(&alias_writes(end, user, peer), alias, &String::new())
            {
                wrong.push(format!("{user} calls {peer} {alias:?}"));
            }
            let found = lists.applications.get(peer);
            let state = found.map_or((0, String::new()), |found| {
                let is_waiting = found.state == i64::from(State::Waiting as i32);
                (found.state, if is_waiting { found.wording.clone() } else { String::new() })
            });
            if !may_remain(&application_writes(end, user, peer), &state, &(0, String::new())) {
                wrong.push(format!("between {user} and {peer} stands {found:?}"));
            }
            let is_blocked = lists.blocked.contains(peer);
            if !may_remain(&block_writes(end, user, peer), &is_blocked, &false) {
                wrong.push(format!("{user} has {}blocked {peer}", if is_blocked { "" } else { "not " }));
            }
        }
    }
    wrong
}

/// A profile is what somebody last made it.
pub(super) fn profile_lost(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for (user, Profile { name, avatar }) in &end.profiles {
        let of = |action: Action| {
            let calls = end.calls.iter().filter(move |call| call.action == action && user_of(call) == user);
            calls.filter_map(|call| write(end, call, true, call.text.clone())).collect::<Vec<_>>()
        };
        // Whoever never had a name is called by his id.
        if !may_remain(&of(Action::Rename), name, user) && !may_remain(&of(Action::Rename), name, &String::new()) {
            wrong.push(format!("{user} is called {name:?}"));
        }
        if !may_remain(&of(Action::Avatar), avatar, &String::new()) {
            wrong.push(format!("{user} looks like {avatar:?}"));
        }
    }
    wrong
}

/// What somebody says of himself is what he said last, and whom he follows is told by his calls.
pub(super) fn presence_lost(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for (user, custom_statuses) in &end.custom_statuses {
        let calls = end.calls.iter().filter(|call| call.action == Action::CustomStatus && user_of(call) == user);
        let said: Vec<_> = calls.filter_map(|call| write(end, call, true, call.text.clone())).collect();
        if !may_remain(&said, custom_statuses, &String::new()) {
            wrong.push(format!("{user} has the custom status {custom_statuses:?}"));
        }
    }
    for user in super::plan::USERS {
        for peer in super::plan::USERS.into_iter().filter(|peer| *peer != user) {
            let one = |(call, is_own, action)| match action {
                SocialAction::Subscribe if is_own => write(end, call, true, true),
                SocialAction::Unsubscribe if is_own => write(end, call, true, false),
                _ => None,
            };
            let is_followed = end.subscriptions.get(user).is_some_and(|subscriptions| subscriptions.contains_key(peer));
            if !may_remain(&between(end, user, peer).filter_map(one).collect::<Vec<_>>(), &is_followed, &false) {
                wrong.push(format!("{user} {} {peer}", if is_followed { "follows" } else { "does not follow" }));
            }
        }
    }
    wrong
}

/// Whether what a message said is stored.
fn is_stored(end: &EndState, text: &str) -> bool {
    end.kept.iter().flat_map(|kept: &StoredConversation| &kept.messages).any(|message| message.text == text)
}

/// When it was known at the latest that a call had taken effect.
fn known_at(end: &EndState, call: &Call) -> Option<Moment> {
    let heard = end.raised.iter().find(|one| super::checks::received(one).any(|(.., text)| text == call.text));
    let heard = heard.map(|one| one.at);
    call.acknowledged().map(|(at, _)| at).into_iter().chain(heard).min()
}

/// Nothing of somebody passes who was blocked before it was called, until somebody may have unblocked him.
pub(super) fn passed_a_block(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for (block, user, peer, _) in
        social_actions(end).filter(|(call, .., action)| *action == SocialAction::Block && lasts(end, call))
    {
        let Some((begin, _)) = block.acknowledged() else { continue };
        let unblocks =
            between(end, user, peer).filter(|(_, is_own, action)| *is_own && *action == SocialAction::Unblock);
        let is_later = |write: &Write<()>| write.ended > block.called;
        let unblocks = unblocks.filter_map(|(call, ..)| write(end, call, true, ())).filter(is_later);
        let until = unblocks.map(|write| write.called).min().unwrap_or(Moment::MAX);
        for call in end.calls.iter().filter(|call| user_of(call) == peer && (begin..until).contains(&call.called)) {
            let (is_to_him, is_there) = match call.action {
                Action::Send { peer: to, .. } => (to == user, until == Moment::MAX && is_stored(end, &call.text)),
                Action::Social { peer: to, action: SocialAction::AddFriend | SocialAction::Apply } => {
                    (to == user, false)
                }
                _ => continue,
            };
            if is_to_him && (is_there || known_at(end, call).is_some_and(|at| at < until)) {
                wrong.push(format!("{user} had blocked {peer} ({:?}); then {call:?}", block.text));
            }
        }
    }
    wrong
}

/// A device holds the lists that the server keeps, and the profiles of those who are in them or in a conversation.
pub(super) fn lists_differ(end: &EndState) -> Vec<String> {
    let all = end.devices.iter().chain(&end.fresh);
    all.flat_map(|seen| differences(seen, end)).collect()
}

fn differences(seen: &DeviceState, end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    let kept = end.lists.get(seen.user).cloned().unwrap_or_default();
    if seen.known.lists != kept {
        wrong.push(format!("device {} holds {:?}; kept: {kept:?}", seen.number, seen.known.lists));
    }
    let subscriptions = end.subscriptions.get(seen.user).cloned().unwrap_or_default();
    if seen.known.subscriptions != subscriptions {
        wrong.push(format!("device {} follows {:?}; kept: {subscriptions:?}", seen.number, seen.known.subscriptions));
    }
    for user in acquaintances(&kept, &end.kept, seen.user) {
        let (held, is) = (seen.known.profiles.get(&user), end.profiles.get(&user));
        if held != is {
            wrong.push(format!("device {} holds of {user} {held:?}; kept: {is:?}", seen.number));
        }
    }
    wrong
}

/// Those whose profiles a user's devices follow, himself among them.
pub(super) fn acquaintances(lists: &Lists, kept: &[StoredConversation], user: &str) -> Vec<String> {
    let with = kept.iter().filter(|kept| kept.head > 0 && kept.members.iter().any(|(name, _)| name == user));
    let peers = with.flat_map(|kept| kept.members.iter().map(|(name, _)| name.clone()));
    peers.chain(lists.friends.keys().cloned()).collect()
}

/// Whoever follows the events of a device knows what it holds.
pub(super) fn events_differ(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for seen in &end.devices {
        let (incarnation, mut told) = seen.killed.clone().unwrap_or_default();
        told.follow(end.raised.iter().filter(|one| one.device == seen.number && one.incarnation > incarnation));
        if told != seen.known.lists {
            wrong.push(format!("device {} holds {:?}; its events tell {told:?}", seen.number, seen.known.lists));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(called: Moment, ended: Moment, is_certain: bool, value: u8) -> Write<u8> {
        Write { called, ended, is_certain, value }
    }

    fn remaining(writes: &[Write<u8>]) -> Vec<u8> {
        (0..=3).filter(|value| may_remain(writes, value, &0)).collect()
    }

    #[test]
    fn the_last_to_be_acknowledged_wins() {
        assert_eq!(remaining(&[]), [0]);
        assert_eq!(remaining(&[one(1, 2, true, 1)]), [1]);
        assert_eq!(remaining(&[one(1, 2, true, 1), one(3, 4, true, 2)]), [2]);
        // At the same time: any.
        assert_eq!(remaining(&[one(1, 3, true, 1), one(2, 4, true, 2)]), [1, 2]);
    }

    #[test]
    fn what_nobody_knows_of_may_come_late_or_never() {
        assert_eq!(remaining(&[one(1, Moment::MAX, false, 1)]), [0, 1]);
        assert_eq!(remaining(&[one(1, Moment::MAX, false, 1), one(2, 3, true, 2), one(4, 5, true, 3)]), [1, 3]);
        // Acknowledged before a backup was put in its place, and over before that: it cannot come back.
        assert_eq!(remaining(&[one(1, 2, false, 1), one(3, 4, true, 2)]), [2]);
    }
}
