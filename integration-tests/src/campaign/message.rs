//! The invariants of what happens to messages. As for social actions, the calls alone determine what is possible in the end.

use std::collections::BTreeMap;

use super::action::{Action, MessageVerb};
use super::checks::{EndState, conversation, named, user_of};
use super::here::{gone_on, is_gone};
use super::raised::received;
use super::record::Call;
use super::social::{Write, may_remain, write};
use super::store::{StoredConversation, StoredMessage};
use super::verbs::COMBINED;

/// The most pinned messages of a conversation.
pub(super) const MAX_PINNED: usize = 10;

/// The changes of messages of a conversation, and of the conversation; among them those of all conversations of a user.
pub(super) fn verbs<'e>(
    end: &'e EndState,
    kept: &'e StoredConversation,
) -> impl Iterator<Item = (&'e Call, MessageVerb)> {
    end.calls.iter().filter_map(move |call| {
        let Action::Change { peer, verb, .. } = call.action else { return None };
        if verb.is_everywhere() {
            return kept.called_by(user_of(call)).map(|_| (call, verb));
        }
        let of = conversation(end, user_of(call), peer)?;
        std::ptr::eq(of, kept).then_some((call, verb))
    })
}

/// The positions of the messages that a call changed, as its device has told.
pub(super) fn changed(call: &Call) -> impl Iterator<Item = i64> {
    let seqs = call.acknowledged().and_then(|(_, answer)| answer["seqs"].as_array());
    seqs.into_iter().flatten().filter_map(serde_json::Value::as_i64)
}

/// Whether a change without a known position may be one of this conversation.
fn has_unknown(end: &EndState, kept: &StoredConversation, of: &[MessageVerb]) -> bool {
    verbs(end, kept).any(|(call, verb)| of.contains(&verb) && call.acknowledged().is_none())
}

pub(super) fn change_lost(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for kept in &end.kept {
        let mut by_message: BTreeMap<i64, Vec<(&Call, MessageVerb)>> = BTreeMap::new();
        for (call, verb) in verbs(end, kept) {
            changed(call).for_each(|seq| by_message.entry(seq).or_default().push((call, verb)));
        }
        for message in &kept.messages {
            if let Some(calls) = by_message.get(&message.seq) {
                wrong.extend(lost(end, kept, message, calls));
            }
        }
    }
    wrong
}

fn lost(
    end: &EndState,
    kept: &StoredConversation,
    message: &StoredMessage,
    calls: &[(&Call, MessageVerb)],
) -> Vec<String> {
    let mut wrong = Vec::new();
    let what = |lost: &str| format!("{lost}: {} {message:?} after {calls:?}", named(kept));
    let writes = |of: MessageVerb| calls.iter().filter(move |(_, verb)| *verb == of);
    let is_certain = |(call, _): &&(&Call, MessageVerb)| write(end, call, true, ()).is_some_and(|one| one.is_certain);
    if writes(MessageVerb::Revoke).any(|one| is_certain(&one)) && !message.is_revoked {
        wrong.push(what("the revocation is lost"));
    }
    for (call, _) in writes(MessageVerb::Delete).chain(writes(MessageVerb::DeleteSome)).filter(is_certain) {
        if !message.hidden.contains(user_of(call)) {
            wrong.push(what("a deletion is lost"));
        }
    }
    if message.is_revoked {
        return wrong;
    }
    for (call, _) in writes(MessageVerb::Receipt).filter(is_certain) {
        if !message.receipts.contains(user_of(call)) {
            wrong.push(what("a receipt is lost"));
        }
    }
    wrong.extend(lost_edit(end, kept, message, calls).then(|| what("an edit is lost")));
    wrong.extend(lost_reaction(end, kept, message, calls).then(|| what("a reaction is lost")));
    wrong.extend(lost_pin(end, kept, message, calls).then(|| what("a pin is lost")));
    wrong
}

/// A message that is pinned while the most are removes the one that was pinned first.
fn lost_pin(
    end: &EndState,
    kept: &StoredConversation,
    message: &StoredMessage,
    calls: &[(&Call, MessageVerb)],
) -> bool {
    let pins = [MessageVerb::Pin, MessageVerb::Unpin];
    let writes: Vec<Write<bool>> = calls
        .iter()
        .filter(|(_, verb)| pins.contains(verb))
        .filter_map(|(call, verb)| write(end, call, true, *verb == MessageVerb::Pin))
        .collect();
    let is_pinned = message.noted.is_pinned;
    let may_be_evicted = verbs(end, kept).filter(|(_, verb)| *verb == MessageVerb::Pin).count() > MAX_PINNED;
    !writes.is_empty()
        && !may_remain(&writes, &is_pinned, &false)
        && !has_unknown(end, kept, &pins)
        && (is_pinned || !may_be_evicted)
}

fn lost_edit(
    end: &EndState,
    kept: &StoredConversation,
    message: &StoredMessage,
    calls: &[(&Call, MessageVerb)],
) -> bool {
    let edits = calls.iter().filter(|(_, verb)| *verb == MessageVerb::Edit);
    let edits: Vec<Write<&str>> = edits.filter_map(|(call, _)| write(end, call, true, call.text.as_str())).collect();
    // A combined message cannot be edited. After a restore one may have the position of another message that was.
    let now = message.text.split_once(' ').map_or("", |(_, edited)| edited);
    let now = if message.text.starts_with(COMBINED) { "" } else { now };
    !edits.is_empty() && !may_remain(&edits, &now, &"") && !has_unknown(end, kept, &[MessageVerb::Edit])
}

fn lost_reaction(
    end: &EndState,
    kept: &StoredConversation,
    message: &StoredMessage,
    calls: &[(&Call, MessageVerb)],
) -> bool {
    let sets = [MessageVerb::React, MessageVerb::ReactMore];
    let verbs = [sets[0], sets[1], MessageVerb::TakeBack, MessageVerb::TakeBackAll];
    kept.members.iter().any(|(user, _)| {
        let of = calls.iter().filter(|(call, verb)| user_of(call) == user && verbs.contains(verb));
        let writes: Vec<Write<bool>> =
            of.filter_map(|(call, verb)| write(end, call, true, sets.contains(verb))).collect();
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
        let gone = gone_on(end, seen.number);
        let raised = || end.raised.iter().filter(|one| one.device == seen.number);
        for kept in &end.kept {
            let Some(peer) = kept.called_by(seen.user).filter(|_| kept.has_stayed(seen.user)) else { continue };
            let had = |seq: i64| raised().any(|one| received(one).any(|(of, other, _)| of == peer && other == seq));
            let revoked = kept.messages.iter().filter(|message| message.is_revoked && message.seq > kept.floor);
            let revoked = revoked.filter(|message| !is_gone(&gone, peer, message.seq));
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
                        && (call.acknowledged().is_none() || changed(call).any(|seq| seq == message.seq))
                });
                if !is_told && !is_own {
                    wrong.push(format!("device {} with {peer}: {}", seen.number, message.seq));
                }
            }
        }
    }
    wrong
}
