//! The invariants of what is counted beside messages, and of receipts for whole conversations.

use std::collections::BTreeMap;

use super::action::{Action, MessageVerb};
use super::checks::{EndState, call_of, conversation, lasts, named, user_of};
use super::here::{Gone, gone_on, is_gone};
use super::kind::Kind;
use super::message::{MAX_PINNED, verbs};
use super::raised::received;
use super::record::Call;
use super::social::write;
use super::store::{StoredConversation, StoredMessage};

/// The position of a message that a call has sent, once it is acknowledged.
fn position(call: &Call) -> Option<i64> {
    let (_, answer) = call.acknowledged()?;
    match &call.action {
        Action::Send { .. } => answer["messageSeq"].as_i64(),
        Action::Change { verb: MessageVerb::Reply | MessageVerb::Combine | MessageVerb::Uncounted, .. } => {
            answer["done"]["seq"].as_i64()
        }
        _ => None,
    }
}

/// The last position of a conversation that the device of a call had before it, of what it had received and what it had sent right
/// after that; 0: none. After a restore, positions say nothing.
pub(super) fn seen_before(end: &EndState, kept: &StoredConversation, call: &Call) -> i64 {
    let Some(peer) = kept.called_by(user_of(call)) else { return 0 };
    if end.restored.is_some() {
        return 0;
    }
    let raised = end.raised.iter().filter(|one| one.device == call.device && one.at < call.called).flat_map(received);
    let raised = raised.filter(|(of, ..)| *of == peer).map(|(_, seq, _)| seq);
    let is_here = |one: &&Call| match one.action {
        Action::Send { peer: of, .. } | Action::Change { peer: of, .. } => one.device == call.device && of == peer,
        _ => false,
    };
    let early = |one: &&Call| lasts(end, one) && one.acknowledged().is_some_and(|(at, _)| at < call.called);
    let sent: Vec<i64> = end.calls.iter().filter(is_here).filter(early).filter_map(position).collect();
    let mut last = raised.max().unwrap_or(0);
    // What is missing before an own message was not seen.
    while sent.contains(&(last + 1)) {
        last += 1;
    }
    last
}

pub(super) fn receipts_lost(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for kept in end.kept.iter().filter(|kept| kept.group.is_none()) {
        let calls: Vec<&Call> =
            verbs(end, kept).filter(|(_, verb)| *verb == MessageVerb::ReceiptAll).map(|(call, _)| call).collect();
        for (user, _) in &kept.members {
            let through = kept.receipts_through.get(user).copied().unwrap_or(0);
            let of_user = || calls.iter().filter(|call| user_of(call) == user);
            for call in of_user().filter(|call| lasts(end, call)) {
                let seen = seen_before(end, kept, call);
                if through < seen {
                    wrong.push(format!("{user} has read {} to {seen}; it is read to {through}", named(kept)));
                }
            }
            if through > 0 && !of_user().any(|call| write(end, call, true, ()).is_some()) {
                wrong.push(format!("{} is read to {through}, and {user} has not said so", named(kept)));
            }
            // Nobody has read what was sent afterwards.
            let ended = of_user().filter_map(|call| write(end, call, true, ())).map(|one| one.ended).max();
            let is_later = |message: &&StoredMessage| {
                let sent = end.calls.iter().find(|call| call.text == call_of(&message.text));
                message.seq <= through && sent.is_some_and(|sent| ended.is_some_and(|ended| sent.called > ended))
            };
            if let Some(later) = kept.messages.iter().find(is_later).filter(|_| end.restored.is_none()) {
                wrong.push(format!("{user} has read {} to {through}, with {later:?}", named(kept)));
            }
            if through > kept.head {
                wrong.push(format!("{} ends at {}, and is read to {through}", named(kept), kept.head));
            }
        }
    }
    wrong
}

/// The device that has asked knows it from the answer. Positions say nothing after a restore, and who starts over is told nothing old.
pub(super) fn receipts_not_raised(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    if end.restored.is_some() || end.plan.has(Kind::Reset) {
        return wrong;
    }
    for kept in end.kept.iter().filter(|kept| kept.group.is_none()) {
        for reader in kept.receipts_through.keys() {
            for seen in &end.devices {
                let Some(peer) = kept.called_by(seen.user) else { continue };
                let is_self = seen.user == reader;
                let is_asking = is_self
                    && verbs(end, kept)
                        .any(|(call, verb)| verb == MessageVerb::ReceiptAll && call.device == seen.number);
                let mut raised = end.raised.iter().filter(|one| one.device == seen.number);
                let is_told = raised.any(|one| {
                    let infos = one.event["infos"].as_array();
                    one.event["name"] == "conversationMessageReceiptChanged"
                        && infos.is_some_and(|infos| {
                            infos.iter().any(|it| it["conversationID"] == *peer && it["isSelfOperated"] == is_self)
                        })
                });
                if !is_asking && !is_told {
                    wrong.push(format!("device {} is not told that {reader} has read {}", seen.number, named(kept)));
                }
            }
        }
    }
    wrong
}

pub(super) fn counts_drift(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    for kept in &end.kept {
        let mut pinned = 0;
        for message in &kept.messages {
            let noted = &message.noted;
            let replies = kept.messages.iter().filter(|one| one.noted.root == message.seq && !one.is_revoked).count();
            pinned += usize::from(noted.is_pinned);
            let is_right = noted.replies == count(replies)
                && noted.reacting == count(message.reactions.len())
                && noted.types == i64::from(!message.reactions.is_empty())
                && noted.readers == count(message.receipts.len())
                && (kept.group.is_none() || noted.readers <= noted.receivers)
                && !message.receipts.contains(&message.sender)
                && !(noted.is_pinned && message.is_revoked);
            if !is_right {
                wrong.push(format!("{} has {replies} replies to {message:?}", named(kept)));
            }
        }
        if pinned > MAX_PINNED {
            wrong.push(format!("{} has {pinned} pinned messages", named(kept)));
        }
    }
    wrong.extend(told_counts(end));
    wrong
}

/// The last event about the readers of a message tells how many there are.
fn told_counts(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    if end.restored.is_some() || end.plan.has(Kind::Reset) {
        return wrong;
    }
    let gone: BTreeMap<usize, Gone> = end.devices.iter().map(|seen| (seen.number, gone_on(end, seen.number))).collect();
    for call in &end.calls {
        let (Action::Send { peer, .. }, Some((_, answer))) = (&call.action, call.acknowledged()) else { continue };
        let Some(kept) = conversation(end, user_of(call), peer) else { continue };
        let sender = user_of(call);
        let Some(message) = kept.messages.iter().find(|one| one.seq == answer["messageSeq"]) else { continue };
        // Of a message that is gone for the sender, no more is told.
        if message.hidden.contains(sender) || message.is_revoked || !kept.has_stayed(sender) {
            continue;
        }
        // A device tells nothing of what it alone has deleted.
        let is_gone_on = |device: usize| gone.get(&device).is_some_and(|gone| is_gone(gone, peer, message.seq));
        for seen in end.devices.iter().filter(|seen| seen.user == sender && !is_gone_on(seen.number)) {
            let of = end.raised.iter().filter(|one| one.device == seen.number);
            let infos = of.filter(|one| one.event["name"] == "messageReceiptChanged").flat_map(|one| {
                let infos = one.event["infos"].as_array();
                infos.into_iter().flatten().filter(|it| it["messageID"] == answer["messageID"])
            });
            let Some(last) = infos.last() else { continue };
            let receivers = message.noted.receivers.max(1);
            let (read, unread) = (&last["readMemberCount"], &last["unreadMemberCount"]);
            if *read != message.noted.readers || *unread != (receivers - message.noted.readers).max(0) {
                wrong.push(format!("device {} was told {last} of {message:?}", seen.number));
            }
        }
    }
    wrong
}
