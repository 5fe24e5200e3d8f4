//! The invariants of the events of messages.

use std::collections::{BTreeSet, HashMap};

use super::checks::{EndState, origin};
use super::here::{Gone, gone_on, is_gone};
use super::record::RaisedEvent;
use super::store::{StoredConversation, StoredMessage};

/// The messages of an event: peer, position and text.
pub(super) fn received(raised: &RaisedEvent) -> impl Iterator<Item = (&str, i64, &str)> {
    let is_received = ["peerMessageReceived", "groupMessageReceived"].iter().any(|name| raised.event["name"] == *name);
    let list = raised.event["messageList"].as_array().filter(|_| is_received);
    list.into_iter().flatten().map(|message| {
        let word = |name: &str| message[name].as_str().unwrap_or_default();
        (word("conversationID"), message["messageSeq"].as_i64().unwrap_or(0), word("message"))
    })
}

/// The messages that a device must have raised: the peer, and the positions. `gone`: it may have deleted these before it raised them.
pub(super) fn expected<'e>(
    kept: &'e StoredConversation,
    user: &str,
    (device, gone): (usize, &Gone),
) -> Option<(&'e str, Vec<i64>)> {
    let peer = kept.called_by(user).filter(|_| kept.has_stayed(user))?;
    let is_own = |message: &&StoredMessage| origin(&message.text).is_some_and(|(of, ..)| of == device);
    // One that was revoked or deleted before the device had it is not raised.
    let seqs = kept.messages.iter().filter(|message| message.is_seen_by(user) && !is_own(message));
    let seqs = seqs.filter(|message| kept.is_open_to(user, message.seq) && !is_gone(gone, peer, message.seq));
    let seqs = seqs.map(|message| message.seq);
    Some((peer, seqs.collect()))
}

/// The messages that a device has raised: peers and positions.
pub(super) fn raised_by(raised: &[RaisedEvent], device: usize) -> BTreeSet<(String, i64)> {
    let of = raised.iter().filter(|one| one.device == device);
    of.flat_map(received).map(|(peer, seq, _)| (peer.to_owned(), seq)).collect()
}

pub(super) fn never_raised(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    if end.restored.is_some() {
        // A device that starts over raises only later messages, and when each device started over is not known.
        return wrong;
    }
    for seen in &end.devices {
        let (raised, gone) = (raised_by(&end.raised, seen.number), gone_on(end, seen.number));
        for (peer, seqs) in end.kept.iter().filter_map(|kept| expected(kept, seen.user, (seen.number, &gone))) {
            let is_missing = |seq: &&i64| !raised.contains(&(peer.to_owned(), **seq));
            let missing: Vec<&i64> = seqs.iter().filter(is_missing).collect();
            if !missing.is_empty() {
                wrong.push(format!("device {} with {peer}: {missing:?}", seen.number));
            }
        }
    }
    wrong
}

pub(super) fn raised_out_of_order(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    if end.restored.is_some() {
        // Positions of different epochs are not comparable.
        return wrong;
    }
    for device in 0..end.devices.len() {
        let (mut last, mut seen) = (HashMap::new(), BTreeSet::new());
        for (peer, seq, text) in end.raised.iter().filter(|one| one.device == device).flat_map(received) {
            // A client that ended too early raises a message again.
            if !seen.insert((peer, seq)) {
                continue;
            }
            if let Some(before) = last.insert(peer, seq).filter(|before| *before > seq) {
                wrong.push(format!("device {device} with {peer}: {seq} ({text:?}) after {before}"));
            }
        }
    }
    wrong
}

pub(super) fn raised_twice(end: &EndState) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    if end.restored.is_some() {
        // A new epoch is a new log.
        return wrong;
    }
    for one in &end.raised {
        for (peer, seq, text) in received(one) {
            if !seen.insert((one.device, one.incarnation, peer, seq, text)) {
                wrong.push(format!("device {} with {peer}: {seq} ({text:?})", one.device));
            }
        }
    }
    wrong
}

/// Nobody is told what was said in a group after they had left it, or before they came.
pub(super) fn raised_outside_stay(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for seen in &end.devices {
        // What came between a backup and its restore may be stored again, at the same position, when its sender sends it again. The stays
        // of that time are gone.
        let has_ended = |at| end.restored.is_some_and(|all| (all.backup_begun..all.done).contains(&at));
        let raised = end.raised.iter().filter(|one| one.device == seen.number && !has_ended(one.at));
        for (group, seq, text) in raised.flat_map(received) {
            let is_group = |kept: &&StoredConversation| kept.group.as_ref().is_some_and(|one| one.id == group);
            let Some(kept) = end.kept.iter().find(is_group) else { continue };
            if is_outside(kept, seen.user, (seq, text), end.restored.is_some()) {
                wrong.push(format!("device {} of {} with {group}: {seq} ({text:?})", seen.number, seen.user));
            }
        }
    }
    wrong
}

/// Whether a message that was raised belongs to none of the stays of its user. A restore takes stays back, and all that was said since
/// they began: a message that is not stored as it was raised is of the ended epoch then.
fn is_outside(kept: &StoredConversation, user: &str, (seq, text): (i64, &str), is_restored: bool) -> bool {
    let is_stored = |one: &StoredMessage| one.seq == seq && one.text == text && !text.is_empty();
    !kept.is_open_to(user, seq) && (!is_restored || kept.messages.iter().any(is_stored))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::store::StoredGroup;
    use super::super::store_message::Noted;
    use super::*;

    #[test]
    fn a_message_of_before_between_or_after_the_stays_of_its_user_is_found() {
        let stays = BTreeMap::from([("bob".to_owned(), vec![(3, Some(9)), (12, None)])]);
        let message = StoredMessage {
            seq: 10,
            n: 10,
            ts: 1,
            sender: "ann".to_owned(),
            key: String::new(),
            text: "0/1/4".to_owned(),
            is_revoked: false,
            hidden: BTreeSet::new(),
            reactions: BTreeSet::new(),
            receipts: BTreeSet::new(),
            noted: Noted::default(),
        };
        let group = StoredGroup { id: "club".to_owned(), stays, ..StoredGroup::default() };
        let kept = StoredConversation { group: Some(group), messages: vec![message], ..StoredConversation::default() };
        let found = |user, seq, text| [false, true].map(|restored| is_outside(&kept, user, (seq, text), restored));
        for seq in [3, 9, 12, 100] {
            assert_eq!(found("bob", seq, "0/1/4"), [false, false], "{seq}");
        }
        assert_eq!(found("bob", 10, "0/1/4"), [true, true]);
        for (seq, text) in [(10, "0/1/3"), (10, ""), (2, "0/1/4"), (11, "0/1/4")] {
            assert_eq!(found("bob", seq, text), [true, false], "only a restore excuses {seq} {text:?}");
        }
        assert_eq!(found("cai", 10, "0/1/4"), [true, true], "who was never in the group");
    }
}
