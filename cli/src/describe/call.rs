//! Calls and their events as text.

use zim_protocol::{CallInvitationMode, CallUserInfo, CallUserState, Event};

use crate::text::preview;

/// Returns names in a sentence.
pub(crate) fn names<'a>(users: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<String> = users.into_iter().map(|user| preview(user, 32)).collect();
    match names.pop() {
        Some(last) if names.is_empty() => last,
        Some(last) => format!("{} and {last}", names.join(", ")),
        None => "nobody".to_owned(),
    }
}

/// Says how each user stands to a call.
pub(crate) fn users(users: &[CallUserInfo]) -> String {
    let one = |user: &CallUserInfo| format!("{} {}", preview(&user.user_id, 32), state(user.state()));
    users.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn state(state: CallUserState) -> &'static str {
    match state {
        CallUserState::Inviting => "is invited",
        CallUserState::Accepted => "is in the call",
        CallUserState::Rejected => "has rejected it",
        CallUserState::Cancelled => "has cancelled it",
        CallUserState::Offline => "is offline",
        CallUserState::Received => "is ringing",
        CallUserState::Timeout => "has not answered",
        CallUserState::Quit => "has left",
        CallUserState::Ended => "has ended it",
        CallUserState::NotYetReceived => "has not received it",
        CallUserState::BeCancelled => "is no longer invited",
        CallUserState::Unknown => "?",
    }
}

fn with_data(what: String, data: &str) -> String {
    if data.is_empty() { what } else { format!("{what}: {}", preview(data, 60)) }
}

/// Describes an event of a call.
pub(super) fn changed(event: &Event) -> Option<String> {
    Some(match event {
        Event::CallInvitationCreated(event) => {
            let others = event.call_user_list.iter().map(|user| user.user_id.as_str());
            let ringing = names(others.filter(|user| *user != event.caller));
            with_data(format!("you ring {ringing}, call {}", preview(&event.call_id, 20)), &event.extended_data)
        }
        Event::CallInvitationReceived(event) => {
            let mode = if event.mode() == CallInvitationMode::Advanced { "advanced " } else { "" };
            let (inviter, call) = (preview(&event.inviter, 32), preview(&event.call_id, 20));
            with_data(format!("{inviter} rings for {} s, {mode}call {call}", event.timeout), &event.extended_data)
        }
        Event::CallInvitationCancelled(event) => {
            let (inviter, call) = (preview(&event.inviter, 32), preview(&event.call_id, 20));
            with_data(format!("{inviter} no longer rings, call {call}"), &event.extended_data)
        }
        Event::CallInvitationTimeout(event) => {
            format!("you have not answered the call {} in time", preview(&event.call_id, 20))
        }
        Event::CallInvitationEnded(event) => {
            let call = preview(&event.call_id, 20);
            let what = match &event.operated_user_id {
                nobody if nobody.is_empty() => format!("the call {call} has ended"),
                user => format!("{} ended the call {call}", preview(user, 32)),
            };
            with_data(what, &event.extended_data)
        }
        Event::CallUserStateChanged(event) => {
            format!("call {}: {}", preview(&event.call_id, 20), users(&event.call_user_list))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use zim_protocol::{CallInvitationEndedEvent, CallInvitationReceivedEvent, CallUserStateChangedEvent};

    use super::*;

    #[test]
    fn it_is_said_who_rings_who_answers_and_who_ends() {
        let received = CallInvitationReceivedEvent {
            call_id: "7".into(),
            inviter: "ann".into(),
            timeout: 30,
            extended_data: "video".into(),
            mode: CallInvitationMode::Advanced as i32,
            ..Default::default()
        };
        let said = changed(&Event::CallInvitationReceived(received)).unwrap();
        assert_eq!(said, "ann rings for 30 s, advanced call 7: video");
        let user = |user_id: &str, state: CallUserState| CallUserInfo {
            user_id: user_id.into(),
            state: state as i32,
            extended_data: String::new(),
        };
        let call_user_list = vec![user("bob", CallUserState::Accepted), user("eve", CallUserState::Timeout)];
        let changed_to = CallUserStateChangedEvent { call_id: "7".into(), call_user_list };
        let said = changed(&Event::CallUserStateChanged(changed_to)).unwrap();
        assert_eq!(said, "call 7: bob is in the call, eve has not answered");
        let ended = |operated_user_id: &str| {
            let (call_id, operated_user_id) = ("7".into(), operated_user_id.into());
            changed(&Event::CallInvitationEnded(CallInvitationEndedEvent {
                call_id,
                operated_user_id,
                ..Default::default()
            }))
        };
        assert_eq!(
            (ended("bob").unwrap(), ended("").unwrap()),
            ("bob ended the call 7".into(), "the call 7 has ended".into())
        );
    }

    #[test]
    fn names_are_listed() {
        assert_eq!(names(["bob", "cai", "dan"]), "bob, cai and dan");
        assert_eq!((names(["bob"]), names([])), ("bob".to_owned(), "nobody".to_owned()));
    }
}
