//! The invariants of what users delete for themselves: messages, all messages of a conversation, and conversations from their list.

use super::action::{Action, MessageVerb};
use super::checks::{EndState, call_of, lasts, named, origin, user_of};
use super::counts::seen_before;
use super::here::{gone_on, is_gone};
use super::kind::Kind;
use super::message::{changed, verbs};
use super::raised::received;
use super::record::{Call, Moment};
use super::social::write;
use super::store::{StoredConversation, StoredMessage};

const OF_MESSAGES: [MessageVerb; 2] = [MessageVerb::Delete, MessageVerb::DeleteSome];

/// What a device had when it deleted all messages is gone, and what nobody deleted is there. `change_lost` has the deletions of single
/// messages.
pub(super) fn deletion_lost(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for kept in &end.kept {
        let all = verbs(end, kept).filter(|(call, verb)| verb.deletes_all() && lasts(end, call));
        for (call, _) in all.filter(|(call, _)| kept.has_stayed(user_of(call))) {
            let user = user_of(call);
            let (seen, cleared) = (seen_before(end, kept, call), kept.cleared.get(user).unwrap_or(&0));
            // Whoever entered later has nothing to delete.
            if *cleared < seen && kept.is_open_to(user, seen) {
                wrong.push(format!("{user} has deleted {} to {seen}; it is deleted to {cleared}", named(kept)));
            }
        }
        for message in kept.messages.iter().filter(|message| !message.is_revoked) {
            for user in &message.hidden {
                if !is_asked_for(end, kept, message, user) {
                    wrong.push(format!("{user} has not deleted {message:?} of {}", named(kept)));
                }
            }
        }
    }
    wrong
}

/// Whether a message may be gone for a user, by what they have called.
fn is_asked_for(end: &EndState, kept: &StoredConversation, message: &StoredMessage, user: &str) -> bool {
    let sent = end.calls.iter().find(|call| call.text == call_of(&message.text));
    let sent = sent.map_or(0, |call| call.called);
    verbs(end, kept).filter(|(call, _)| user_of(call) == user).any(|(call, verb)| {
        let Some(one) = write(end, call, true, ()) else { return false };
        match verb {
            // Of a conversation, its device may know nothing, and deletes all that there is.
            MessageVerb::DeleteEverything => one.ended > sent,
            MessageVerb::DeleteAll => one.ended > sent && !is_blind(end, kept, (call, one.ended), message),
            verb if OF_MESSAGES.contains(&verb) => {
                one.ended == Moment::MAX || call.acknowledged().is_none() || changed(call).any(|seq| seq == message.seq)
            }
            _ => false,
        }
    })
}

/// Whether the device of a call that deleted all messages cannot have had a message: it had neither raised nor sent it or a later one,
/// and never raised it. Only before the first fault, and not in the group: a device that connects again, and one that enters, knows of
/// what it has not raised.
fn is_blind(
    end: &EndState,
    kept: &StoredConversation,
    (call, ended): (&Call, Moment),
    message: &StoredMessage,
) -> bool {
    let Some(peer) = kept.called_by(user_of(call)) else { return false };
    let may_start_over = end.restored.is_some() || end.plan.has(Kind::Reset);
    if kept.group.is_some() || may_start_over || end.faults.iter().any(|(at, _)| *at < ended) {
        return false;
    }
    let sends = |one: &StoredMessage| origin(&one.text).is_some_and(|(device, ..)| device == call.device);
    let has_sent = kept.messages.iter().any(|one| one.seq >= message.seq && sends(one));
    let raised = end.raised.iter().filter(|one| one.device == call.device);
    let mut raised = raised.flat_map(|one| received(one).map(move |(of, seq, _)| (one.at, of, seq)));
    let has_raised =
        |(at, of, seq): (Moment, &str, i64)| of == peer && (seq == message.seq || seq > message.seq && at < ended);
    !has_sent && !raised.any(has_raised)
}

/// Positions say nothing after a restore, and a device that lacks what is not kept any more has no message to tell of.
pub(super) fn deletion_not_raised(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    if end.restored.is_some() || end.plan.has(Kind::Reset) {
        return wrong;
    }
    for seen in &end.devices {
        let gone = gone_on(end, seen.number);
        let raised = || end.raised.iter().filter(|one| one.device == seen.number);
        for kept in &end.kept {
            let Some(peer) = kept.called_by(seen.user).filter(|_| kept.has_stayed(seen.user)) else { continue };
            // That everything was deleted is one event, which names no conversation.
            let everything = |(call, verb): (&Call, MessageVerb)| {
                verb == MessageVerb::DeleteEverything
                    && user_of(call) == seen.user
                    && write(end, call, true, ()).is_some()
            };
            if verbs(end, kept).any(everything) {
                continue;
            }
            let hidden = kept.messages.iter().filter(|message| message.hidden.contains(seen.user));
            // What a device had deleted by itself is no news there.
            for message in hidden.filter(|message| !is_gone(&gone, peer, message.seq)) {
                let had = raised().any(|one| received(one).any(|(of, seq, _)| of == peer && seq == message.seq));
                let is_told = raised().any(|one| {
                    let list = one.event["messageList"].as_array();
                    one.event["name"] == "messageDeleted"
                        && one.event["conversationID"] == *peer
                        && (one.event["isDeleteConversationAllMessage"] == true
                            || list.is_some_and(|list| list.iter().any(|it| it["messageSeq"] == message.seq)))
                });
                if had && !is_told && !has_deleted(end, kept, seen.number, message.seq) {
                    wrong.push(format!("device {} with {peer}: {}", seen.number, message.seq));
                }
            }
        }
    }
    wrong
}

/// Whether a device may have deleted a message by itself: its own request has the result, and no event.
fn has_deleted(end: &EndState, kept: &StoredConversation, device: usize, seq: i64) -> bool {
    verbs(end, kept).filter(|(call, _)| call.device == device).any(|(call, verb)| {
        verb == MessageVerb::DeleteAll
            || OF_MESSAGES.contains(&verb) && (call.acknowledged().is_none() || changed(call).any(|one| one == seq))
    })
}

pub(super) fn list_wrong(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for kept in end.kept.iter().filter(|kept| kept.head > 0) {
        for seen in end.devices.iter().chain(&end.fresh).filter(|seen| kept.has_stayed(seen.user)) {
            let Some(peer) = kept.called_by(seen.user) else { continue };
            let is_shown = !seen.view["conversations"][peer].is_null();
            let is_deleted = kept.is_deleted_by(seen.user);
            // What could not be sent brings it back where it was written.
            let may_be_back = end.calls.iter().any(|call| call.device == seen.number && may_show(end, call, peer));
            if is_shown == is_deleted && !(is_shown && may_be_back) {
                wrong.push(format!("device {} with {peer}: shown {is_shown}, deleted {is_deleted}", seen.number));
            }
        }
        wrong.extend(wrongly_deleted(end, kept));
    }
    wrong
}

/// Whether a call may have left a message in a conversation that only its device has, or that a restore has taken from the others.
fn may_show(end: &EndState, call: &Call, with: &str) -> bool {
    let sends = match call.action {
        Action::Send { peer, .. } => peer == with,
        Action::Change { peer, verb: MessageVerb::Reply | MessageVerb::Combine | MessageVerb::Uncounted, .. } => {
            peer == with
        }
        _ => false,
    };
    sends && !lasts(end, call)
}

fn wrongly_deleted(end: &EndState, kept: &StoredConversation) -> Vec<String> {
    let mut wrong = Vec::new();
    let deletions = || verbs(end, kept).filter(|(_, verb)| *verb == MessageVerb::DeleteConversation);
    for (user, below) in &kept.deleted_below {
        let mut of_user = deletions().filter(|(call, _)| user_of(call) == user);
        if !of_user.any(|(call, _)| write(end, call, true, ()).is_some()) {
            wrong.push(format!("{user} has not deleted {} below {below}", named(kept)));
        }
    }
    if end.restored.is_some() {
        return wrong;
    }
    for (call, _) in deletions().filter(|(call, _)| lasts(end, call) && kept.has_stayed(user_of(call))) {
        let user = user_of(call);
        let Some(peer) = kept.called_by(user) else { continue };
        let raised = end.raised.iter().filter(|one| one.device == call.device && one.at < call.called);
        let seen = raised.flat_map(received).filter(|(of, ..)| *of == peer).map(|(_, seq, _)| seq).max().unwrap_or(0);
        // A message that its device did not have yet brings it back.
        if kept.head <= seen && !kept.is_deleted_by(user) {
            wrong.push(format!("{user} has deleted {} when it had {seen} messages", named(kept)));
        }
    }
    wrong
}
