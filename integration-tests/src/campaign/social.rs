//! The invariants of profiles, friends, applications and blacklists. The calls alone determine which values are
//! possible in the end: the last acknowledged call wins; among concurrent calls any may win; a call with an unknown
//! outcome may have taken effect at any moment after it was called.

use zim_protocol::{ErrorCode, FriendApplicationState as State};

use super::action::{Action, SocialAction};
use super::checks::{DeviceState, EndState, lasts, user_of};
use super::lists::{Friend, Lists, Profile};
use super::record::{Call, Failure, Moment};
use super::store::StoredConversation;

/// A call that may have set a value.
#[derive(Debug)]
pub(super) struct Write<V> {
    pub(super) called: Moment,
    /// When it ended; `Moment::MAX` if that is unknown.
    pub(super) ended: Moment,
    /// Whether it certainly took effect, and lastingly.
    pub(super) is_certain: bool,
    pub(super) value: V,
}

impl<V> Write<V> {
    /// Something that may have happened at any time before a moment.
    pub(super) const fn possible_until(ended: Moment, value: V) -> Self {
        Self { called: 0, ended, is_certain: false, value }
    }
}

/// Whether `value` may be the result of the writes, starting from `at_first`.
pub(super) fn may_remain<V: PartialEq>(writes: &[Write<V>], value: &V, at_first: &V) -> bool {
    let is_overwritten = |write: &Write<V>| writes.iter().any(|other| other.is_certain && other.called > write.ended);
    let mut last = writes.iter().filter(|write| !is_overwritten(write));
    last.any(|write| write.value == *value) || value == at_first && writes.iter().all(|write| !write.is_certain)
}

/// Whether the outcome of a call that failed so is unknown.
pub(super) fn is_unknown(failure: &Failure) -> bool {
    use ErrorCode as Code;
    let unknown = [
        Code::NetworkModuleNetworkError,
        Code::NetworkModuleRequestTimeout,
        Code::NetworkModuleUserIsNotLogged,
        Code::CommonModuleImServerError,
        Code::CommonModuleImDatabaseError,
        Code::CommonModuleImServerDisconnect,
        // A call that waited while the database of the device was closed.
        Code::DatabaseModuleDbIsNotOpened,
    ];
    failure.code == 0 || unknown.iter().any(|code| i64::from(*code as i32) == failure.code)
}

/// What a call wrote or may have written; `None` if it was refused.
pub(super) fn write<V>(end: &EndState, call: &Call, is_certain_effect: bool, value: V) -> Option<Write<V>> {
    let called = call.called;
    match &call.answer {
        Some((ended, Ok(_))) => {
            Some(Write { called, ended: *ended, is_certain: is_certain_effect && lasts(end, call), value })
        }
        Some((_, Err(failure))) if !is_unknown(failure) => None,
        _ => Some(Write { called, ended: Moment::MAX, is_certain: false, value }),
    }
}

/// The social actions: the call, the user, the other user and the action.
fn social_actions(end: &EndState) -> impl Iterator<Item = (&Call, &'static str, &'static str, SocialAction)> {
    end.calls.iter().filter_map(|call| match call.action {
        Action::Social { peer, action } => Some((call, user_of(call), peer, action)),
        _ => None,
    })
}

/// The social actions of `user` towards `peer` (true) and of `peer` towards `user` (false).
fn between<'e>(end: &'e EndState, user: &str, peer: &str) -> impl Iterator<Item = (&'e Call, bool, SocialAction)> {
    social_actions(end).filter_map(move |(call, who, whom, action)| {
        match (who == user && whom == peer, who == peer && whom == user) {
            (true, _) => Some((call, true, action)),
            (_, true) => Some((call, false, action)),
            _ => None,
        }
    })
}

/// Whether the answer to an application says that the two became friends at once.
fn is_at_once(call: &Call) -> bool {
    call.acknowledged().is_some_and(|(_, answer)| answer["applicationInfo"]["state"] == State::Accepted as i32)
}

fn is_acknowledged(call: &Call) -> bool {
    call.acknowledged().is_some()
}

/// The writes of whether `peer` is on the friend list of `user`.
fn friend_writes(end: &EndState, user: &str, peer: &str) -> Vec<Write<bool>> {
    let one = |(call, is_own, action)| match action {
        SocialAction::AddFriend | SocialAction::Accept => write(end, call, true, true),
        SocialAction::Apply if is_at_once(call) || !is_acknowledged(call) => write(end, call, true, true),
        SocialAction::DeleteFriend { is_mutual } if is_own || is_mutual => write(end, call, true, false),
        _ => None,
    };
    between(end, user, peer).filter_map(one).collect()
}

/// The writes of the alias of `peer` on the friend list of `user`.
fn alias_writes(end: &EndState, user: &str, peer: &str) -> Vec<Write<String>> {
    let one = |(call, is_own, action): (&Call, bool, SocialAction)| match action {
        SocialAction::Alias if is_own => write(end, call, true, call.text.clone()),
        // They keep the alias of a user who was a friend already.
        SocialAction::AddFriend | SocialAction::Accept if is_own => write(end, call, false, call.text.clone()),
        SocialAction::AddFriend | SocialAction::Accept | SocialAction::Apply => write(end, call, false, String::new()),
        _ => None,
    };
    between(end, user, peer).filter_map(one).collect()
}

/// The writes of the application between two users: its state, and the wording while it waits.
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
            // Only if an application was waiting.
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

/// The lists are the result of the acknowledged calls.
pub(super) fn relation_lost(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    let nothing = Lists::default();
    for user in super::plan::USERS {
        let lists = end.lists.get(user).unwrap_or(&nothing);
        for peer in super::plan::USERS.into_iter().filter(|peer| *peer != user) {
            let friend = lists.friends.get(peer);
            if !may_remain(&friend_writes(end, user, peer), &friend.is_some(), &false) {
                wrong.push(format!("{peer} on the friend list of {user}: {friend:?}"));
            }
            if let Some(Friend { alias, .. }) = friend
                && !may_remain(&alias_writes(end, user, peer), alias, &String::new())
            {
                wrong.push(format!("the alias of {peer} on the list of {user} is {alias:?}"));
            }
            let found = lists.applications.get(peer);
            let state = found.map_or((0, String::new()), |found| {
                let is_waiting = found.state == i64::from(State::Waiting as i32);
                (found.state, if is_waiting { found.wording.clone() } else { String::new() })
            });
            if !may_remain(&application_writes(end, user, peer), &state, &(0, String::new())) {
                wrong.push(format!("the application between {user} and {peer} is {found:?}"));
            }
            let is_blocked = lists.blocked.contains(peer);
            if !may_remain(&block_writes(end, user, peer), &is_blocked, &false) {
                wrong.push(format!("{user} has {}blocked {peer}", if is_blocked { "" } else { "not " }));
            }
        }
    }
    wrong
}

/// A profile is the result of the acknowledged calls.
pub(super) fn profile_lost(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for (user, Profile { name, avatar }) in &end.profiles {
        let of = |action: Action| {
            let calls = end.calls.iter().filter(move |call| call.action == action && user_of(call) == user);
            calls.filter_map(|call| write(end, call, true, call.text.clone())).collect::<Vec<_>>()
        };
        // The name of a user who never set one is the id.
        if !may_remain(&of(Action::Rename), name, user) && !may_remain(&of(Action::Rename), name, &String::new()) {
            wrong.push(format!("the name of {user} is {name:?}"));
        }
        if !may_remain(&of(Action::Avatar), avatar, &String::new()) {
            wrong.push(format!("the avatar of {user} is {avatar:?}"));
        }
    }
    wrong
}

/// Custom statuses and subscriptions are the result of the acknowledged calls.
pub(super) fn presence_lost(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for (user, custom_status) in &end.custom_statuses {
        let calls = end.calls.iter().filter(|call| call.action == Action::CustomStatus && user_of(call) == user);
        let writes: Vec<_> = calls.filter_map(|call| write(end, call, true, call.text.clone())).collect();
        if !may_remain(&writes, custom_status, &String::new()) {
            wrong.push(format!("{user} has the custom status {custom_status:?}"));
        }
    }
    for user in super::plan::USERS {
        for peer in super::plan::USERS.into_iter().filter(|peer| *peer != user) {
            let one = |(call, is_own, action)| match action {
                SocialAction::Subscribe if is_own => write(end, call, true, true),
                SocialAction::Unsubscribe if is_own => write(end, call, true, false),
                _ => None,
            };
            let is_subscribed =
                end.subscriptions.get(user).is_some_and(|subscriptions| subscriptions.contains_key(peer));
            if !may_remain(&between(end, user, peer).filter_map(one).collect::<Vec<_>>(), &is_subscribed, &false) {
                wrong.push(format!(
                    "{user} {} {peer}",
                    if is_subscribed { "subscribes to" } else { "does not subscribe to" }
                ));
            }
        }
    }
    wrong
}

/// Whether a message with this text is stored.
fn is_stored(end: &EndState, text: &str) -> bool {
    end.kept.iter().flat_map(|kept: &StoredConversation| &kept.messages).any(|message| message.text == text)
}

/// The moment at which a call is known to have taken effect, by its answer or by an event.
fn known_at(end: &EndState, call: &Call) -> Option<Moment> {
    let raised = end.raised.iter().find(|one| super::raised::received(one).any(|(.., text)| text == call.text));
    let raised = raised.map(|one| one.at);
    call.acknowledged().map(|(at, _)| at).into_iter().chain(raised).min()
}

/// Nothing that a user calls while blocked takes effect, until an unblock may have taken effect.
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
            let (is_to_blocker, is_there) = match call.action {
                Action::Send { peer: to, .. } => (to == user, until == Moment::MAX && is_stored(end, &call.text)),
                Action::Social { peer: to, action: SocialAction::AddFriend | SocialAction::Apply } => {
                    (to == user, false)
                }
                _ => continue,
            };
            if is_to_blocker && (is_there || known_at(end, call).is_some_and(|at| at < until)) {
                wrong.push(format!("{user} had blocked {peer} ({:?}); yet {call:?} took effect", block.text));
            }
        }
    }
    wrong
}

/// A device holds the lists that the server stores, and the profiles of friends and conversation peers.
pub(super) fn lists_differ(end: &EndState) -> Vec<String> {
    let all = end.devices.iter().chain(&end.fresh);
    all.flat_map(|seen| differences(seen, end)).collect()
}

fn differences(seen: &DeviceState, end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    let kept = end.lists.get(seen.user).cloned().unwrap_or_default();
    if seen.known.lists != kept {
        wrong.push(format!("device {} holds {:?}; stored: {kept:?}", seen.number, seen.known.lists));
    }
    let subscriptions = end.subscriptions.get(seen.user).cloned().unwrap_or_default();
    if seen.known.subscriptions != subscriptions {
        wrong.push(format!(
            "device {} subscribes to {:?}; stored: {subscriptions:?}",
            seen.number, seen.known.subscriptions
        ));
    }
    for user in known_users(&kept, &end.kept, seen.user) {
        let (held, is) = (seen.known.profiles.get(&user), end.profiles.get(&user));
        if held != is {
            wrong.push(format!("device {} holds the profile {held:?} of {user}; stored: {is:?}", seen.number));
        }
    }
    wrong
}

/// The users whose profiles a user's devices hold, including the user.
pub(super) fn known_users(lists: &Lists, kept: &[StoredConversation], user: &str) -> Vec<String> {
    let with = kept.iter().filter(|kept| kept.head > 0 && kept.group.is_none());
    let peers = with.filter_map(|kept| kept.called_by(user)).map(str::to_owned);
    peers.chain([user.to_owned()]).chain(lists.friends.keys().cloned()).collect()
}

/// Applying the events of a device in order gives what it holds.
pub(super) fn events_differ(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for seen in &end.devices {
        let mut lists = Lists::default();
        lists.apply_events(end.raised.iter().filter(|one| one.device == seen.number));
        if lists != seen.known.lists {
            wrong.push(format!("device {} holds {:?}; its events give {lists:?}", seen.number, seen.known.lists));
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
    fn the_last_acknowledged_call_wins() {
        assert_eq!(remaining(&[]), [0]);
        assert_eq!(remaining(&[one(1, 2, true, 1)]), [1]);
        assert_eq!(remaining(&[one(1, 2, true, 1), one(3, 4, true, 2)]), [2]);
        // Concurrent calls: any may win.
        assert_eq!(remaining(&[one(1, 3, true, 1), one(2, 4, true, 2)]), [1, 2]);
    }

    #[test]
    fn a_call_with_an_unknown_outcome_may_take_effect_late_or_never() {
        assert_eq!(remaining(&[one(1, Moment::MAX, false, 1)]), [0, 1]);
        assert_eq!(remaining(&[one(1, Moment::MAX, false, 1), one(2, 3, true, 2), one(4, 5, true, 3)]), [1, 3]);
        // A call that ended before a later certain one cannot take effect again, even if a restore undid it.
        assert_eq!(remaining(&[one(1, 2, false, 1), one(3, 4, true, 2)]), [2]);
    }
}
