//! The invariants of the second group: its mutes, who enters it, and its end. Of its members and messages, the checks of every group and
//! of every conversation know.

use zim_protocol::{ErrorCode, GroupApplicationState};

use super::action::{Action, ClubVerb};
use super::checks::{EndState, lasts, user_of};
use super::plan::CLUB;
use super::record::{Call, Moment};
use super::social::{Write, may_remain, write};
use super::store::{StoredConversation, StoredGroup};
use super::store_club::ClubRows;

const WAITING: i64 = GroupApplicationState::Waiting as i64;
/// The states of an application that somebody has ended. One that expires keeps its state in the database.
const ENDED: [i64; 3] = [
    GroupApplicationState::Accepted as i64,
    GroupApplicationState::Rejected as i64,
    GroupApplicationState::Disabled as i64,
];
/// The answer to a message of somebody who is muted.
const MUTED: i64 = ErrorCode::GroupModuleGroupNoCorrespondingOperationAuthority as i64;

/// Returns the group as the server stores it.
pub(super) fn club(kept: &[StoredConversation]) -> Option<(&StoredConversation, &StoredGroup)> {
    kept.iter().find_map(|one| Some((one, one.group.as_ref().filter(|group| group.id == CLUB)?)))
}

/// What was done to the group: the call, who called, whom it concerns and the verb.
fn acts(end: &EndState) -> impl Iterator<Item = (&Call, &'static str, &'static str, ClubVerb)> {
    end.calls.iter().filter_map(|call| match call.action {
        Action::Club { user, verb } => Some((call, user_of(call), user, verb)),
        _ => None,
    })
}

/// The messages to the group.
fn sends(end: &EndState) -> impl Iterator<Item = &Call> {
    end.calls.iter().filter(|call| matches!(call.action, Action::Send { peer: CLUB, .. }))
}

/// Whether a call is known to have done what it says.
fn is_done(call: &Call) -> bool {
    call.acknowledged().is_some_and(|(_, answer)| answer["isDone"] == true)
}

/// Whether a call is known to have taken effect for good: no restore came after it.
fn is_for_good(end: &EndState, call: &Call) -> bool {
    is_done(call) && lasts(end, call) && end.restored.is_none_or(|restored| call.called > restored.done)
}

/// Whether a failure is the answer to somebody who is muted.
pub(super) fn is_muted(peer: &str, code: i64) -> bool {
    peer == CLUB && code == MUTED
}

/// Nobody who is muted for good is heard, until something may have ended the mute. Nobody is refused who was never muted.
pub(super) fn passed_a_mute(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for (mute, _, whom, verb) in acts(end).filter(|(call, ..)| is_for_good(end, call)) {
        let is_of_group = matches!(verb, ClubVerb::MuteAll { lasts: true });
        if !is_of_group && !matches!(verb, ClubVerb::MuteUser { lasts: true }) {
            continue;
        }
        let changes = acts(end).filter(|(other, _, user, verb)| {
            let is_same = if is_of_group { verb.mutes_group() } else { verb.mutes_user() && *user == whom };
            is_same && other.text != mute.text
        });
        let changes = changes.filter_map(|(other, ..)| write(end, other, true, ()));
        let until = changes.filter(|one| one.ended > mute.called).map(|one| one.called).min().unwrap_or(Moment::MAX);
        let begin = mute.acknowledged().map_or(Moment::MAX, |(at, _)| at);
        for send in sends(end).filter(|send| send.called > begin && (is_of_group || user_of(send) == whom)) {
            if send.acknowledged().is_some_and(|(at, _)| at < until) {
                wrong.push(format!("{mute:?} was acknowledged before {send:?}"));
            }
        }
    }
    for send in sends(end) {
        let Some((at, Err(failure))) = &send.answer else { continue };
        let mutes = |verb: ClubVerb| match verb {
            ClubVerb::Unmute | ClubVerb::UnmuteUser => false,
            verb => verb.mutes_group() || verb.mutes_user(),
        };
        let may_be_muted =
            acts(end).any(|(mute, .., verb)| mutes(verb) && mute.called < *at && write(end, mute, true, ()).is_some());
        if failure.code == MUTED && !may_be_muted {
            wrong.push(format!("nobody has muted anybody before {send:?}"));
        }
    }
    wrong
}

/// A group that was dismissed has ended: on each device its conversation is disabled, and nobody has written to it since.
pub(super) fn dismissal_lost(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    let Some((kept, group)) = club(&end.kept) else { return wrong };
    for (dismissal, ..) in acts(end).filter(|(call, .., verb)| *verb == ClubVerb::Dismiss && is_for_good(end, call)) {
        if !group.is_dismissed {
            wrong.push(format!("the group goes on after {dismissal:?}"));
        }
        let ended = dismissal.acknowledged().map_or(Moment::MAX, |(at, _)| at);
        for send in sends(end).filter(|send| send.called > ended) {
            let is_it = |text: &str| text.split(' ').next() == Some(&*send.text);
            if kept.messages.iter().any(|message| is_it(&message.text)) || send.acknowledged().is_some() {
                wrong.push(format!("{send:?} is stored after {dismissal:?}"));
            }
        }
    }
    // The last member may have ended it by leaving, and nobody is told of what happens after they have left.
    for seen in end.devices.iter().chain(&end.fresh).filter(|seen| kept.has_stayed(seen.user)) {
        let shown = &seen.view["conversations"][CLUB];
        if !shown.is_null() && shown["disabled"] != group.is_dismissed {
            wrong.push(format!("device {} shows {shown}; dismissed: {}", seen.number, group.is_dismissed));
        }
    }
    wrong
}

/// Returns how what a device has about the group differs from what the server stores. Those who decide in the group may not be told of
/// the end of an application, if they began to decide meanwhile; who would enter always is.
pub(super) fn differences(user: &str, held: &ClubRows, kept: &[StoredConversation]) -> Vec<String> {
    let mut wrong = Vec::new();
    let Some((_, group)) = club(kept) else { return wrong };
    if group.members.contains_key(user) && !group.is_dismissed && held.modes != Some(group.modes) {
        wrong.push(format!("the modes {:?}; stored: {:?}", held.modes, group.modes));
    }
    for (id, one) in group.applications.iter().filter(|(_, one)| one.user == user && ENDED.contains(&one.state)) {
        if held.applications.get(id) == Some(&WAITING) {
            wrong.push(format!("that {one:?} waits"));
        }
    }
    wrong
}

/// What has ended waits on no device, and nothing waits for a member.
pub(super) fn application_waits(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for seen in end.devices.iter().chain(&end.fresh) {
        let differ = differences(seen.user, &seen.club, &end.kept);
        wrong.extend(differ.iter().map(|what| format!("device {} shows {what}", seen.number)));
    }
    let Some((_, group)) = club(&end.kept) else { return wrong };
    let waiting = group.applications.values().filter(|one| one.state == WAITING);
    for one in waiting.filter(|one| group.members.contains_key(&one.user)) {
        wrong.push(format!("{one:?} waits for a member"));
    }
    wrong
}

/// The writes of whether an application waits.
fn waiting_writes(end: &EndState, user: &str, inviter: &str) -> Vec<Write<bool>> {
    let applies = inviter.is_empty();
    let one = |(call, who, whom, verb): (&Call, &str, &str, ClubVerb)| match verb {
        // They may enter at once.
        ClubVerb::Apply if applies && who == user => write(end, call, false, true),
        ClubVerb::Ask if who == inviter && whom == user => write(end, call, false, true),
        ClubVerb::AcceptApplicant | ClubVerb::RejectApplicant if applies && whom == user => {
            write(end, call, true, false)
        }
        ClubVerb::AcceptInvitation | ClubVerb::RejectInvitation if who == user && whom == inviter => {
            write(end, call, true, false)
        }
        _ => None,
    };
    acts(end).filter_map(one).collect()
}

/// The modes are the last ones acknowledged, and an application that was answered does not wait.
pub(super) fn club_lost(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    let Some((_, group)) = club(&end.kept) else { return wrong };
    for (at, stored) in group.modes.iter().enumerate() {
        let one = |(call, _, _, verb): (&Call, &str, &str, ClubVerb)| match (at, verb) {
            (0, ClubVerb::JoinMode(mode)) => write(end, call, true, i64::from(mode)),
            (1, ClubVerb::InviteMode { is_restricted }) => write(end, call, true, i64::from(is_restricted)),
            (2, ClubVerb::BeInviteMode { is_asked }) => write(end, call, true, i64::from(is_asked)),
            _ => None,
        };
        if !may_remain(&acts(end).filter_map(one).collect::<Vec<_>>(), stored, &0) {
            wrong.push(format!("the modes are {:?}", group.modes));
        }
    }
    for one in group.applications.values().filter(|one| one.state == WAITING) {
        if !may_remain(&waiting_writes(end, &one.user, &one.inviter), &true, &false) {
            wrong.push(format!("{one:?} was answered"));
        }
    }
    wrong
}
