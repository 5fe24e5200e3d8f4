//! What a device's events say about calls: which it has heard of, and the states of their users.

use std::collections::BTreeMap;

use serde_json::Value;
use zim_protocol::{CallInvitationMode, CallUserState as State};

use super::action::{Action, CallVerb};
use super::record::{Call, Moment, RaisedEvent};
use super::social::is_unknown;

/// The states of users, `CallUserState`.
type States = BTreeMap<String, i64>;

/// What a device knows of a call.
#[derive(Clone, Debug, Default)]
pub(super) struct CallView {
    /// The users whose states it was told, `CallUserState`.
    pub(super) users: States,
    /// Whether all of them were told, with an invitation or the beginning of the call.
    pub(super) is_whole: bool,
    /// The states in the answer of the last request to join. Events that a slow handler tells later may be older.
    pub(super) joined: States,
    /// Whether nobody knows whether a request to join took effect.
    pub(super) is_unsure: bool,
    /// Whether it was told that somebody has ended the call.
    pub(super) is_ended: bool,
    is_advanced: bool,
    caller: String,
    /// The present run of the app, and the states of users that it was told.
    incarnation: u32,
    told: States,
    /// How this run of the app has raised that the invitation, or the call, is over.
    over: Vec<String>,
}

/// The calls of all devices, by device and ID; and what no device may raise.
#[derive(Debug, Default)]
pub(super) struct CallViews {
    /// The calls.
    pub(super) of: BTreeMap<(usize, String), CallView>,
    /// Events that say again that an invitation or a call is over.
    pub(super) twice: Vec<String>,
    /// Changes of states that no rule allows.
    pub(super) forbidden: Vec<String>,
}

pub(super) fn is_pending(state: i64) -> bool {
    [State::Inviting, State::Received, State::NotYetReceived].iter().any(|pending| *pending as i64 == state)
}

/// Whether a user may come from one state to the other, perhaps through states that nobody was told.
pub(super) fn is_allowed(is_advanced: bool, is_caller: bool, (from, to): (i64, i64)) -> bool {
    let [from, to] = [from, to].map(|state| i32::try_from(state).ok().and_then(|state| State::try_from(state).ok()));
    let (Some(from), Some(to)) = (from, to) else { return false };
    let is_known = |state: State| !matches!(state, State::Unknown | State::Offline);
    if from == to {
        return is_known(to);
    }
    match (from, to) {
        (_, to) if !is_known(to) => false,
        // The call is over.
        (State::Cancelled | State::Ended, _) => false,
        (_, State::Cancelled) => is_caller,
        // Whoever has left may be invited again.
        _ if is_advanced => true,
        (_, State::Quit | State::Ended) => false,
        (State::Inviting | State::NotYetReceived, _) => to != State::Inviting,
        (State::Received, _) => to != State::Inviting && to != State::NotYetReceived,
        _ => false,
    }
}

impl CallViews {
    /// Applies the events of all devices, in order. `user_of` tells whose device it is.
    pub(super) fn new(raised: &[RaisedEvent], calls: &[Call], user_of: impl Fn(usize) -> &'static str) -> Self {
        let mut joins = calls.iter().filter_map(joined).collect::<Vec<_>>();
        joins.sort_unstable_by_key(|(at, ..)| *at);
        let mut joins = joins.into_iter().peekable();
        let mut accepts = calls.iter().filter_map(accepted).collect::<Vec<_>>();
        accepts.sort_unstable_by_key(|(at, _)| *at);
        let mut accepts = accepts.into_iter().peekable();
        let mut views = Self::default();
        for one in raised {
            while let Some((_, call)) = accepts.next_if(|(at, _)| *at < one.at) {
                // An invitation had ended, and the device accepts the next one before it is told of it.
                views.of.entry((call.device, call.call_id.clone())).or_default().over.clear();
            }
            while let Some((_, call, users)) = joins.next_if(|(at, ..)| *at < one.at) {
                let view = views.of.entry((call.device, call.call_id.clone())).or_default();
                match users {
                    Some(users) => view.joined = users,
                    None => view.is_unsure = true,
                }
                view.told.clear();
                view.over.clear();
            }
            views.apply(one, user_of(one.device));
        }
        views
    }

    fn apply(&mut self, one: &RaisedEvent, me: &str) {
        let event = &one.event;
        let Some(call_id) = event["callID"].as_str() else { return };
        let view = self.of.entry((one.device, call_id.to_owned())).or_default();
        if view.incarnation < one.incarnation {
            // What was not handled is raised again.
            view.incarnation = one.incarnation;
            view.told.clear();
            view.over.clear();
        }
        let name = event["name"].as_str().unwrap_or_default();
        let where_it_was = || format!("device {} at {}: {event}", one.device, one.at);
        match name {
            "callInvitationReceived" | "callInvitationCreated" => {
                view.is_advanced = event["mode"] == CallInvitationMode::Advanced as i32;
                event["caller"].as_str().unwrap_or_default().clone_into(&mut view.caller);
                (view.is_whole, view.is_ended) = (true, false);
                view.users.clear();
                view.over.clear();
                self.forbidden.extend(view.set_states(event).map(|what| format!("{what}: {}", where_it_was())));
            }
            "callUserStateChanged" => {
                self.forbidden.extend(view.set_states(event).map(|what| format!("{what}: {}", where_it_was())));
            }
            "callInvitationTimeout" | "callInvitationCancelled" | "callInvitationEnded" => {
                // The end of an earlier invitation may be told after the device has joined.
                let has_joined = view.is_unsure || !view.joined.is_empty();
                if view.over.iter().any(|over| over == name || !has_joined) {
                    self.twice.push(where_it_was());
                }
                view.over.push(name.to_owned());
                let state = match name {
                    "callInvitationTimeout" => Some(State::Timeout),
                    "callInvitationCancelled" => Some(State::BeCancelled),
                    _ => None,
                };
                match state {
                    Some(state) => drop(view.users.insert(me.to_owned(), state as i64)),
                    None => view.is_ended = true,
                }
            }
            _ => {}
        }
    }
}

/// When a device joined a call, and the states of its users in the answer; `None` if nobody knows whether it did.
fn joined(call: &Call) -> Option<(Moment, &Call, Option<States>)> {
    let Action::Call { verb: CallVerb::Join, .. } = call.action else { return None };
    match &call.answer {
        Some((at, Ok(answer))) => Some((*at, call, Some(states(answer).collect()))),
        Some((_, Err(failure))) if !is_unknown(failure) => None,
        _ => Some((call.called, call, None)),
    }
}

/// When a device accepted an invitation, or when it tried and nobody knows whether it did.
fn accepted(call: &Call) -> Option<(Moment, &Call)> {
    let Action::Call { verb: CallVerb::Accept, .. } = call.action else { return None };
    match &call.answer {
        Some((at, Ok(_))) => Some((*at, call)),
        Some((_, Err(failure))) if !is_unknown(failure) => None,
        _ => Some((call.called, call)),
    }
}

/// The users that an event or an answer has, with their states.
fn states(of: &Value) -> impl Iterator<Item = (String, i64)> {
    of["callUserList"].as_array().into_iter().flatten().map(|user| {
        let user_id = user["userID"].as_str().unwrap_or_default().to_owned();
        (user_id, user["state"].as_i64().unwrap_or(State::Unknown as i64))
    })
}

impl CallView {
    /// Sets the states that an event has. Returns the changes that no rule allows.
    fn set_states(&mut self, event: &Value) -> impl Iterator<Item = String> + use<> {
        let mut forbidden = Vec::new();
        for (user_id, state) in states(event) {
            if let Some(before) = self.told.insert(user_id.clone(), state) {
                // A device that has joined does not know the mode.
                let is_unknown = self.caller.is_empty();
                let (is_advanced, is_caller) = (self.is_advanced || is_unknown, is_unknown || user_id == self.caller);
                if !is_allowed(is_advanced, is_caller, (before, state)) {
                    forbidden.push(format!("{user_id} from {before} to {state}"));
                }
            }
            self.users.insert(user_id, state);
        }
        forbidden.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::record::Failure;
    use super::*;

    fn views(events: &[Value]) -> CallViews {
        views_with(events, &[])
    }

    fn views_with(events: &[Value], calls: &[Call]) -> CallViews {
        let raised: Vec<RaisedEvent> = events
            .iter()
            .zip(1..)
            .map(|(event, at)| {
                let mut event = event.clone();
                event["callID"] = "c".into();
                RaisedEvent { device: 0, incarnation: 1, at, event }
            })
            .collect();
        CallViews::new(&raised, calls, |_| "bob")
    }

    fn user(user: &str, state: State) -> Value {
        json!({"userID": user, "state": state as i32})
    }

    fn received(mode: CallInvitationMode) -> Value {
        let users = [user("ann", State::Accepted), user("bob", State::Inviting)];
        json!({"name": "callInvitationReceived", "mode": mode as i32, "caller": "ann", "callUserList": users})
    }

    fn changed(users: &[Value]) -> Value {
        json!({"name": "callUserStateChanged", "callUserList": users})
    }

    #[test]
    fn a_state_that_follows_from_no_other_is_noticed() {
        let general = received(CallInvitationMode::General);
        let accepted = changed(&[user("bob", State::Accepted)]);
        let inviting = changed(&[user("bob", State::Inviting)]);
        let found = views(&[general.clone(), accepted.clone()]);
        assert_eq!((found.forbidden.len(), found.of[&(0, "c".to_owned())].users["bob"]), (0, State::Accepted as i64));
        assert_eq!(views(&[general, accepted.clone(), inviting.clone()]).forbidden.len(), 1);
        assert!(views(&[received(CallInvitationMode::Advanced), accepted, inviting]).forbidden.is_empty());
        assert!(is_allowed(false, true, (State::Accepted as i64, State::Cancelled as i64)));
        assert!(!is_allowed(true, false, (State::Accepted as i64, State::Cancelled as i64)));
        assert!(!is_allowed(true, false, (State::Ended as i64, State::Accepted as i64)));
    }

    #[test]
    fn a_timeout_is_raised_once_for_an_invitation() {
        let [invited, timeout] = [received(CallInvitationMode::Advanced), json!({"name": "callInvitationTimeout"})];
        let found = views(&[invited.clone(), timeout.clone(), invited.clone(), timeout.clone()]);
        assert!(found.twice.is_empty());
        assert_eq!(found.of[&(0, "c".to_owned())].users["bob"], State::Timeout as i64);
        assert_eq!(views(&[invited, timeout.clone(), timeout]).twice.len(), 1);
    }

    #[test]
    fn an_end_follows_an_invitation_that_the_device_accepted_before_it_was_told_of_it() {
        let accept = |answer: Result<Value, Failure>| Call {
            device: 0,
            incarnation: 1,
            action: Action::Call { users: Vec::new(), verb: CallVerb::Accept, pick: 0 },
            text: String::new(),
            call_id: "c".to_owned(),
            called: 2,
            answer: Some((2, answer)),
        };
        let [accepted, refused] =
            [accept(Ok(json!({}))), accept(Err(Failure { code: 6_000_272, message: String::new() }))];
        let [timeout, ended] = ["callInvitationTimeout", "callInvitationEnded"].map(|name| json!({"name": name}));
        let events = [received(CallInvitationMode::Advanced), timeout, ended.clone(), ended];
        let twice = |events: &[Value], call: &Call| views_with(events, std::slice::from_ref(call)).twice.len();
        assert_eq!((twice(&events[..3], &accepted), twice(&events, &accepted)), (0, 1));
        assert_eq!(twice(&events[..3], &refused), 1);
    }
}
