//! Calls. An entry has the call as it is now; the local copy tells what is new, so a push, a pull and a sync raise the same events,
//! and a device that was away raises what is left of what it missed.

use zim_protocol::{
    CallEntry, CallInfo, CallInvitationAcceptedEvent, CallInvitationCancelledEvent, CallInvitationCreatedEvent,
    CallInvitationEndedEvent, CallInvitationMode, CallInvitationReceivedEvent, CallInvitationRejectedEvent,
    CallInvitationTimeoutEvent, CallInviteesAnsweredTimeoutEvent, CallState, CallUserInfo, CallUserState,
    CallUserStateChangedEvent, Event,
};

use super::{Transaction, Viewer};
use crate::engine::Origin;
use crate::store::call;

/// No call lasts longer: the server ends it.
const FORGET_MS: i64 = 8 * 86_400_000;

impl Transaction<'_> {
    /// Applies a call as it is now.
    pub(super) fn call(&mut self, entry: &CallEntry, origin: Origin) -> rusqlite::Result<()> {
        let Some(info) = &entry.info else { return Ok(()) };
        let before = call::read(self.db, &info.call_id)?.filter(|before| !has_ended(before));
        // The device may have come into the call by a request whose answer is still on its way, or waits for the feed.
        let is_of_device = entry.main_device == self.viewer.device && origin != Origin::First;
        let is_unheard = is_of_device && !before.as_ref().is_some_and(|before| is_concerned(before, self.viewer));
        if !has_ended(entry) || is_unheard {
            call::write(self.db, &info.call_id, entry, self.viewer.now_ms - FORGET_MS)?;
        } else {
            call::remove(self.db, &info.call_id)?;
        }
        self.raise_call(news(before.as_ref(), entry, self.viewer, origin));
        Ok(())
    }

    /// Applies a call as the answer to a request of this device has it, when the feed has passed that. The feed says what the call is
    /// now. Only if the call has ended since, the device was not told: it did not know that it was in the call. The answer to
    /// a request to leave does not say that it was, and one to return may follow.
    pub(super) fn late_call(&mut self, entry: &CallEntry) -> rusqlite::Result<()> {
        let is_in_it = !has_ended(entry) && is_concerned(entry, self.viewer);
        let Some(info) = entry.info.as_ref().filter(|_| is_in_it) else { return Ok(()) };
        let Some(end) = call::read(self.db, &info.call_id)?.filter(has_ended) else { return Ok(()) };
        call::remove(self.db, &info.call_id)?;
        self.raise_call(news(None, entry, self.viewer, Origin::Own));
        self.raise_call(news(Some(entry), &end, self.viewer, Origin::Other));
        Ok(())
    }

    fn raise_call(&mut self, mut events: Vec<Event>) {
        // The deprecated events are for handlers only.
        let heard = self.viewer.heard;
        events.retain(|event| !is_deprecated(event) || heard.is_handled(event.kind()));
        events.into_iter().for_each(|event| self.raise(event));
    }
}

fn has_ended(entry: &CallEntry) -> bool {
    entry.info.as_ref().is_some_and(|info| info.state() == CallState::Ended)
}

/// Whether the user was in the call or asked into it.
fn is_concerned(entry: &CallEntry, viewer: &Viewer) -> bool {
    let state = entry.info.as_ref().map_or(CallUserState::Unknown, |info| state_of(info, &viewer.user_id));
    is_pending(state) || state == CallUserState::Accepted
}

/// Whether an event repeats `callUserStateChanged` in the words of earlier versions.
fn is_deprecated(event: &Event) -> bool {
    matches!(
        event,
        Event::CallInvitationAccepted(_) | Event::CallInvitationRejected(_) | Event::CallInviteesAnsweredTimeout(_)
    )
}

fn is_pending(state: CallUserState) -> bool {
    matches!(state, CallUserState::Inviting | CallUserState::Received | CallUserState::NotYetReceived)
}

fn user<'a>(info: &'a CallInfo, user_id: &str) -> Option<&'a CallUserInfo> {
    info.call_user_list.iter().find(|user| user.user_id == user_id)
}

fn state_of(info: &CallInfo, user_id: &str) -> CallUserState {
    user(info, user_id).map_or(CallUserState::Unknown, CallUserInfo::state)
}

/// Returns what is new to the app of this device.
fn news(before: Option<&CallEntry>, entry: &CallEntry, viewer: &Viewer, origin: Origin) -> Vec<Event> {
    let Some(info) = &entry.info else { return Vec::new() };
    let me = &*viewer.user_id;
    let own = state_of(info, me);
    let is_main = |entry: &CallEntry| entry.main_device.is_empty() || entry.main_device == viewer.device;
    let Some(known) = before.and_then(|before| before.info.as_ref()) else {
        return first_news(entry, info, viewer, origin, is_main(entry));
    };
    let was = state_of(known, me);
    // Only an invitation sets its end.
    let is_new = !is_pending(was) || before.is_some_and(|before| before.expires_at != entry.expires_at);
    if is_new && is_pending(own) && info.state() != CallState::Ended {
        // The user had left or had not answered, perhaps while this device was away, and is asked again.
        return vec![received(entry, info, viewer)];
    }
    if !is_pending(was) && was != CallUserState::Accepted {
        // The user came back by themselves.
        return on_joining(entry, info, viewer, origin);
    }
    // All devices ring. Once the user is in the call, it is on one of them.
    if !is_pending(was) && !before.is_some_and(is_main) && !is_main(entry) {
        return Vec::new();
    }
    let has_changed = |now: &&CallUserInfo| state_of(known, &now.user_id) != now.state();
    let mut changed: Vec<CallUserInfo> = info.call_user_list.iter().filter(has_changed).cloned().collect();
    let has_ended = info.state() == CallState::Ended && known.state() != CallState::Ended;
    let mut events = Vec::new();
    match own {
        CallUserState::Timeout => {
            let (call_id, mode) = (info.call_id.clone(), info.mode);
            return vec![Event::CallInvitationTimeout(CallInvitationTimeoutEvent { call_id, mode })];
        }
        CallUserState::BeCancelled => {
            // Others may have said something since, if this device was away.
            let is_said = entry.operated_user_id == info.caller;
            events.push(Event::CallInvitationCancelled(CallInvitationCancelledEvent {
                call_id: info.call_id.clone(),
                mode: info.mode,
                inviter: info.inviter.clone(),
                extended_data: if is_said { entry.operated_extended_data.clone() } else { String::new() },
            }));
            // If only some invitations were taken back, the rest of the call does not concern this user.
            if !has_ended || state_of(info, &info.caller) != CallUserState::Cancelled {
                return events;
            }
        }
        // Who takes everything back knows whom it concerns. What others did before that may be in the same entry.
        CallUserState::Cancelled => changed.retain(|user| user.state() != CallUserState::BeCancelled),
        CallUserState::Quit | CallUserState::Rejected => {}
        _ if has_ended && info.mode() == CallInvitationMode::Advanced => {
            events.push(Event::CallInvitationEnded(CallInvitationEndedEvent {
                call_id: info.call_id.clone(),
                mode: info.mode,
                caller: info.caller.clone(),
                operated_user_id: entry.operated_user_id.clone(),
                extended_data: entry.operated_extended_data.clone(),
                end_time: info.end_time,
            }));
        }
        _ => {}
    }
    if changed.is_empty() {
        return events;
    }
    if info.caller == me && info.mode() == CallInvitationMode::General {
        events.extend(deprecated(info, &changed));
    }
    events.push(state_changed(info, changed));
    events
}

/// Returns what is new about a call that this device has not known.
fn first_news(entry: &CallEntry, info: &CallInfo, viewer: &Viewer, origin: Origin, is_main: bool) -> Vec<Event> {
    let me = &*viewer.user_id;
    let own = state_of(info, me);
    if info.state() == CallState::Ended {
        // It was over before this device heard of it: the list of calls has it.
        return Vec::new();
    }
    if is_pending(own) {
        return vec![received(entry, info, viewer)];
    }
    if info.caller != me || own != CallUserState::Accepted || origin == Origin::First {
        return on_joining(entry, info, viewer, origin);
    }
    let mut events = vec![Event::CallInvitationCreated(CallInvitationCreatedEvent {
        call_id: info.call_id.clone(),
        mode: info.mode,
        caller: info.caller.clone(),
        extended_data: info.extended_data.clone(),
        timeout: entry.timeout,
        create_time: info.create_time,
        call_user_list: info.call_user_list.clone(),
    })];
    if is_main {
        events.push(state_changed(info, info.call_user_list.clone()));
    }
    events
}

/// Returns what the device is told with which the user has joined: the states of all users. The answer to the request has them, too,
/// but what others did right after it is already in this entry, and would be told to nobody.
fn on_joining(entry: &CallEntry, info: &CallInfo, viewer: &Viewer, origin: Origin) -> Vec<Event> {
    let is_here = entry.main_device == viewer.device && state_of(info, &viewer.user_id) == CallUserState::Accepted;
    let is_news = is_here && origin != Origin::First && info.state() != CallState::Ended;
    if is_news { vec![state_changed(info, info.call_user_list.clone())] } else { Vec::new() }
}

fn state_changed(info: &CallInfo, call_user_list: Vec<CallUserInfo>) -> Event {
    Event::CallUserStateChanged(CallUserStateChangedEvent { call_id: info.call_id.clone(), call_user_list })
}

fn received(entry: &CallEntry, info: &CallInfo, viewer: &Viewer) -> Event {
    // The server still waits for the answer, whatever the clock of this device says.
    let left_s = (entry.expires_at - viewer.now_ms).saturating_add(999) / 1_000;
    Event::CallInvitationReceived(CallInvitationReceivedEvent {
        call_id: info.call_id.clone(),
        mode: info.mode,
        caller: info.caller.clone(),
        inviter: info.inviter.clone(),
        extended_data: info.extended_data.clone(),
        timeout: left_s.clamp(1, entry.timeout.max(1)),
        create_time: info.create_time,
        call_user_list: info.call_user_list.clone(),
    })
}

/// Returns what the caller of a call in general mode was told before `callUserStateChanged` existed.
fn deprecated(info: &CallInfo, changed: &[CallUserInfo]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut late = Vec::new();
    for user in changed {
        let (call_id, invitee, extended_data) =
            (info.call_id.clone(), user.user_id.clone(), user.extended_data.clone());
        match user.state() {
            CallUserState::Accepted => events.push(Event::CallInvitationAccepted(CallInvitationAcceptedEvent {
                call_id,
                invitee,
                extended_data,
            })),
            CallUserState::Rejected => events.push(Event::CallInvitationRejected(CallInvitationRejectedEvent {
                call_id,
                invitee,
                extended_data,
            })),
            CallUserState::Timeout => late.push(invitee),
            _ => {}
        }
    }
    if !late.is_empty() {
        let call_id = info.call_id.clone();
        events.push(Event::CallInviteesAnsweredTimeout(CallInviteesAnsweredTimeoutEvent { call_id, invitees: late }));
    }
    events
}

#[cfg(test)]
mod tests;
