//! The invariants of calls: each ends, its users agree about it, and it is what the acknowledged acts made it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use zim_protocol::{CallState, CallUserState as State};

use super::action::{Action, CallVerb};
use super::call_view::{CallViews, is_pending};
use super::checks::{EndState, user_of};
use super::plan::{DEVICES, USERS};
use super::record::{Call, RaisedEvent};
use super::run::FRESH_DEVICES;
use super::settle::LiveDevice;
use super::social::write;
use super::store_live::StoredCall;
use super::testbed::Restored;

/// The user of a device, also of a fresh one.
fn user_of_device(device: usize) -> &'static str {
    DEVICES.get(device).or_else(|| USERS.get(device.wrapping_sub(FRESH_DEVICES))).copied().unwrap_or_default()
}

/// Returns what the events of devices say about calls.
pub(super) fn views(raised: &[RaisedEvent], calls: &[Call]) -> CallViews {
    CallViews::new(raised, calls, user_of_device)
}

/// The ID of the call that an act concerns.
fn call_id(call: &Call) -> Option<&str> {
    match call.action {
        Action::Call { verb: CallVerb::Invite { .. }, .. } => call.acknowledged()?.1["callID"].as_str(),
        _ => Some(call.call_id.as_str()).filter(|call_id| !call_id.is_empty()),
    }
}

/// The calls whose story is known: after a restore, those that began later.
fn known<'s>(
    stored: &'s BTreeMap<String, StoredCall>,
    calls: &[Call],
    restored: Option<Restored>,
) -> BTreeMap<&'s str, &'s StoredCall> {
    let begins = |call: &&Call| matches!(call.action, Action::Call { verb: CallVerb::Invite { .. }, .. });
    let later = |restored: Restored| {
        let later = calls.iter().filter(begins).filter(move |call| call.called > restored.done);
        later.filter_map(call_id).collect::<BTreeSet<&str>>()
    };
    let later = restored.map(later);
    let is_known = |id: &str| later.as_ref().is_none_or(|later| later.contains(id));
    stored.iter().map(|(id, call)| (id.as_str(), call)).filter(|(id, _)| is_known(id)).collect()
}

/// Returns how what devices were told of calls differs from what the server stores.
pub(super) fn differences(
    (raised, calls): (&[RaisedEvent], &[Call]),
    restored: Option<Restored>,
    devices: &[LiveDevice],
    stored: &BTreeMap<String, StoredCall>,
) -> Vec<String> {
    let views = views(raised, calls);
    let mut wrong = Vec::new();
    for (id, call) in known(stored, calls, restored) {
        for device in devices {
            // Whoever has joined may have heard of nothing else.
            let view = views.of.get(&(device.number, id.to_owned())).filter(|view| !view.users.is_empty());
            let Some(view) = view else { continue };
            let mut add =
                |what: &str| wrong.push(format!("device {} {what} {id}: {view:?}; stored: {call:?}", device.number));
            let Some(own) = call.users.get(device.user) else {
                add("has heard of a call that is not its user's,");
                continue;
            };
            let told = view.users.get(device.user).copied();
            if told.is_some_and(is_pending) && !view.is_ended {
                add("still rings for the call");
            }
            // In general mode nobody comes back, and all devices of an invitee learn what became of the invitation.
            if !call.is_advanced && device.user != call.caller && told != Some(own.state) {
                add("does not know its user's end of the call");
            }
            let is_here = is_pending(own.state)
                || [State::Accepted, State::Ended, State::Cancelled].iter().any(|state| *state as i64 == own.state);
            if view.is_unsure || !is_here || !(own.device.is_empty() || own.device == device.installation) {
                continue;
            }
            // The user had left, and the end came together with the news that they were invited again: nothing of it is told.
            let had_left = told.is_some_and(|told| !is_pending(told) && told != State::Accepted as i64);
            if is_pending(own.state) && had_left {
                continue;
            }
            // If the end comes together with the news that the user has joined, nothing of it is told.
            let is_over = call.is_advanced && own.state != State::Cancelled as i64 && view.joined.is_empty();
            if is_over && !view.is_ended {
                add("was not told of the end of the call");
            }
            // Who takes everything back knows whom it concerns, and is told of nobody else. Others may have been invited, or invited
            // again, in the same moment.
            let is_own_doing = |state: i64| own.state == State::Cancelled as i64 && state == State::BeCancelled as i64;
            let is_same = |(user, stored): (&String, i64)| match (view.users.get(user), view.joined.get(user)) {
                (Some(told), _) if *told == stored => true,
                _ if is_own_doing(stored) => true,
                (_, Some(answered)) => *answered == stored,
                (told, None) => told.is_none() && !view.is_whole,
            };
            if !call.users.iter().map(|(user, of)| (user, of.state)).all(is_same) {
                add("shows other states of the call");
            }
        }
    }
    wrong
}

pub(super) fn call_views_differ(end: &EndState) -> Vec<String> {
    differences((&end.raised, &end.calls), end.restored, &end.live.devices, &end.live.calls)
}

/// A new epoch begins the story of a call anew: one that had ended runs again, and ends again.
pub(super) fn call_told_twice(end: &EndState) -> Vec<String> {
    if end.restored.is_some() { Vec::new() } else { views(&end.raised, &end.calls).twice }
}

/// A new epoch begins the story of a call anew.
pub(super) fn call_state_forbidden(end: &EndState) -> Vec<String> {
    if end.restored.is_some() { Vec::new() } else { views(&end.raised, &end.calls).forbidden }
}

pub(super) fn call_not_ended(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, call) in &end.live.calls {
        let count = |state: State| call.users.values().filter(|user| user.state == state as i64).count();
        let is_live = call.state != CallState::Ended as i64 || call.ended_at == 0;
        // Nobody answers any more: in advanced mode an end leaves the states of others as they are.
        let is_open = !call.is_advanced && call.users.values().any(|user| is_pending(user.state));
        let is_cancelled = count(State::Cancelled) > 0;
        let has_others = call.users.iter().any(|(user, of)| *user != call.caller && of.state == State::Accepted as i64);
        let ends = count(State::Ended) + count(State::Cancelled);
        if is_live || is_open || (is_cancelled && has_others) || ends > 1 {
            wrong.push(format!("{id}: {call:?}"));
        }
    }
    wrong
}

/// The state in which an act leaves its user.
const fn left_in(verb: CallVerb) -> Option<State> {
    match verb {
        CallVerb::Accept | CallVerb::Join => Some(State::Accepted),
        CallVerb::Reject => Some(State::Rejected),
        CallVerb::Cancel => Some(State::Cancelled),
        CallVerb::Quit => Some(State::Quit),
        CallVerb::End => Some(State::Ended),
        CallVerb::Invite { .. } | CallVerb::TakeBack | CallVerb::Add => None,
    }
}

/// Whether an act may have changed the state of a user after another act began.
fn may_follow(end: &EndState, other: &Call, act: &Call, user: &str) -> bool {
    let Action::Call { users, verb, .. } = &other.action else { return false };
    let concerns = match verb {
        CallVerb::Add => users.contains(&user),
        verb => left_in(*verb).is_some() && user_of(other) == user,
    };
    concerns
        && other.text != act.text
        && other.call_id == act.call_id
        && other.answer.as_ref().is_none_or(|(at, _)| *at > act.called)
        && write(end, other, true, ()).is_some()
}

pub(super) fn call_lost(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    let known = known(&end.live.calls, &end.calls, end.restored);
    for act in &end.calls {
        let (Action::Call { verb, .. }, Some(_)) = (&act.action, act.acknowledged()) else { continue };
        let Some(id) = call_id(act) else { continue };
        let Some(call) = known.get(id) else {
            if matches!(verb, CallVerb::Invite { .. })
                && super::checks::lasts(end, act)
                && !end.live.calls.contains_key(id)
            {
                wrong.push(format!("the call {id} is not stored: {act:?}"));
            }
            continue;
        };
        let (user, Some(expected)) = (user_of(act), left_in(*verb)) else { continue };
        let state = call.users.get(user).map_or(State::Unknown as i64, |user| user.state);
        // The caller cancels it by going offline.
        let is_gone = user == call.caller && state == State::Cancelled as i64;
        let is_followed = end.calls.iter().any(|other| may_follow(end, other, act, user));
        if state != expected as i64 && !is_gone && !is_followed {
            wrong.push(format!("{user} is in the state {state} after {act:?}: {id}: {call:?}"));
        }
    }
    wrong
}

/// The list of calls of a user has what the server stores.
pub(super) fn call_list_wrong(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for (device, list) in &end.live.lists {
        let own = end.live.calls.iter().filter(|(_, call)| call.users.contains_key(user_of_device(*device)));
        let own: serde_json::Map<String, Value> = own
            .map(|(id, call)| {
                let users: BTreeMap<&str, i64> =
                    call.users.iter().map(|(user, of)| (user.as_str(), of.state)).collect();
                (id.clone(), json!({"state": call.state, "users": users}))
            })
            .collect();
        if *list != Value::Object(own.clone()) {
            wrong.push(format!("device {device} is told of {list}; stored: {}", Value::Object(own)));
        }
    }
    wrong
}
