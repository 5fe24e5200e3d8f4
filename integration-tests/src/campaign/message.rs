//! The invariants of what happens to messages. As for social actions, the calls alone determine what is possible in the end.

use std::collections::BTreeMap;

use super::action::{Action, MessageVerb};
use super::checks::{EndState, conversation, named, received, user_of};
use super::record::Call;
use super::social::{Write, may_remain, write};
use super::store::{StoredConversation, StoredMessage};

/// A change of a message whose position its device has told: the call, the conversation, the position and the verb.
fn changes(end: &EndState) -> impl Iterator<Item = (&Call, &StoredConversation, i64, MessageVerb)> {
    end.calls.iter().filter_map(|call| {
        let Action::Change { peer, verb, .. } = call.action else { return None };
        let (_, answer) = call.acknowledged()?;
        Some((call, conversation(end, user_of(call), peer)?, answer["seq"].as_i64()?, verb))
    })
}

/// Whether a change without a known position may be one of this conversation.
fn has_unknown(end: &EndState, kept: &StoredConversation, of: &[MessageVerb]) -> bool {
    end.calls.iter().any(|call| {
        let Action::Change { peer, verb, .. } = call.action else { return false };
        let is_here = conversation(end, user_of(call), peer).is_some_and(|other| std::ptr::eq(other, kept));
        is_here && of.contains(&verb) && call.acknowledged().is_none()
    })
}

pub(super) fn change_lost(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut by_message: BTreeMap<(usize, i64), Vec<(&Call, MessageVerb)>> = BTreeMap::new();
    for (call, kept, seq, verb) in changes(end) {
        let index = end.kept.iter().position(|other| std::ptr::eq(other, kept)).unwrap_or(0);
        by_message.entry((index, seq)).or_default().push((call, verb));
    }
    for ((index, seq), calls) in by_message {
        let kept = &end.kept[index];
        let Some(message) = kept.messages.iter().find(|message| message.seq == seq) else { continue };
        let what = || format!("{} {seq}: {message:?} after {calls:?}", named(kept));
        let writes = |of: MessageVerb| calls.iter().filter(move |(_, verb)| *verb == of);
        let is_certain =
            |(call, _): &&(&Call, MessageVerb)| write(end, call, true, ()).is_some_and(|one| one.is_certain);
        if writes(MessageVerb::Revoke).any(|one| is_certain(&one)) && !message.is_revoked {
            wrong.push(format!("the revocation is lost: {}", what()));
        }
        for (call, _) in writes(MessageVerb::Delete).filter(is_certain) {
            if !message.hidden.contains(user_of(call)) {
                wrong.push(format!("a deletion is lost: {}", what()));
            }
        }
        if message.is_revoked {
            continue;
        }
        for (call, _) in writes(MessageVerb::Receipt).filter(is_certain) {
            if !message.receipts.contains(user_of(call)) {
                wrong.push(format!("a receipt is lost: {}", what()));
            }
        }
        wrong.extend(lost_edit(end, kept, message, &calls).then(|| format!("an edit is lost: {}", what())));
        wrong.extend(lost_reaction(end, kept, message, &calls).then(|| format!("a reaction is lost: {}", what())));
    }
    wrong
}

fn lost_edit(
    end: &EndState,
    kept: &StoredConversation,
    message: &StoredMessage,
    calls: &[(&Call, MessageVerb)],
) -> bool {
    let edits = calls.iter().filter(|(_, verb)| *verb == MessageVerb::Edit);
    let edits: Vec<Write<&str>> = edits.filter_map(|(call, _)| write(end, call, true, call.text.as_str())).collect();
    let now = message.text.split_once(' ').map_or("", |(_, edited)| edited);
    !edits.is_empty() && !may_remain(&edits, &now, &"") && !has_unknown(end, kept, &[MessageVerb::Edit])
}

fn lost_reaction(
    end: &EndState,
    kept: &StoredConversation,
    message: &StoredMessage,
    calls: &[(&Call, MessageVerb)],
) -> bool {
    let verbs = [MessageVerb::React, MessageVerb::TakeBack];
    kept.members.iter().any(|(user, _)| {
        let of = calls.iter().filter(|(call, verb)| user_of(call) == user && verbs.contains(verb));
        let writes: Vec<Write<bool>> =
            of.filter_map(|(call, verb)| write(end, call, true, *verb == MessageVerb::React)).collect();
        let now = message.reactions.contains(user);
        !writes.is_empty() && !may_remain(&writes, &now, &false) && !has_unknown(end, kept, &verbs)
    })
}

/// Positions say nothing after a restore, and a device that lacks what is not kept any more learns only what is.
pub(super) fn revocation_not_raised(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    if end.restored.is_some() {
        return wrong;
    }
    for seen in &end.devices {
        let raised = || end.raised.iter().filter(|one| one.device == seen.number);
        for kept in &end.kept {
            let Some(peer) = kept.called_by(seen.user).filter(|_| kept.has_stayed(seen.user)) else { continue };
            let had = |seq: i64| raised().any(|one| received(one).any(|(of, other, _)| of == peer && other == seq));
            let revoked = kept.messages.iter().filter(|message| message.is_revoked && message.seq > kept.floor);
            for message in revoked.filter(|message| !message.hidden.contains(seen.user) && had(message.seq)) {
                let is_told = raised().any(|one| {
                    one.event["name"] == "messageRevokeReceived"
                        && one.event["messageList"].as_array().is_some_and(|list| {
                            list.iter().any(|it| it["conversationID"] == *peer && it["messageSeq"] == message.seq)
                        })
                });
                // Its own request has the result, and no event.
                let is_own = end.calls.iter().any(|call| {
                    call.device == seen.number
                        && matches!(call.action, Action::Change { peer: to, verb: MessageVerb::Revoke, .. } if to == peer)
                        && call.acknowledged().is_none_or(|(_, answer)| answer["seq"] == message.seq)
                });
                if !is_told && !is_own {
                    wrong.push(format!("device {} with {peer}: {}", seen.number, message.seq));
                }
            }
        }
    }
    wrong
}
