//! The invariants of what is deleted on one device only. It stays on the server and on the other devices, so that devices of one user
//! differ: the other checks leave out what a device may have deleted by itself.

use std::collections::{BTreeMap, BTreeSet};

use super::action::{Action, MessageVerb};
use super::checks::{EndState, call_of, user_of};
use super::counts::seen_before;
use super::kind::Kind;
use super::message::{changed, verbs};
use super::plan::DEVICES;
use super::record::{Call, Moment};
use super::social::is_unknown;
use super::store::{StoredConversation, StoredMessage};

/// The positions that a device may have deleted by itself, by the name of the conversation. A conversation without any may be counted
/// otherwise all the same.
pub(super) type Gone = BTreeMap<String, BTreeSet<i64>>;

/// Returns what a device may have deleted by itself. After a restore, positions say nothing: then it is all of a conversation.
pub(super) fn gone(calls: &[Call], is_restored: bool, kept: &[StoredConversation], device: usize) -> Gone {
    let mut all = Gone::new();
    for call in calls.iter().filter(|call| call.device == device) {
        let Action::Change { peer, verb, .. } = call.action else { continue };
        if !verb.is_here() {
            continue;
        }
        let ended = match &call.answer {
            Some((at, Ok(_))) if !is_restored => *at,
            // Of several conversations, some may have come before the failure.
            Some((_, Err(failure))) if !is_unknown(failure) && !verb.is_everywhere() => continue,
            _ => Moment::MAX,
        };
        for one in kept {
            let Some(name) = one.called_by(user_of(call)) else { continue };
            if !verb.is_everywhere() && name != peer {
                continue;
            }
            let of = all.entry(name.to_owned()).or_default();
            match verb {
                MessageVerb::DeleteHere if ended < Moment::MAX => of.extend(changed(call)),
                // It had nothing that was sent later.
                _ => of.extend(one.messages.iter().filter(|one| sent_at(calls, one) < ended).map(|one| one.seq)),
            }
        }
    }
    all
}

/// Returns what any device of a user may have deleted by itself.
pub(super) fn gone_of_user(calls: &[Call], is_restored: bool, kept: &[StoredConversation], user: &str) -> Gone {
    let mut all = Gone::new();
    for (device, _) in DEVICES.iter().enumerate().filter(|(_, of)| **of == user) {
        for (name, seqs) in gone(calls, is_restored, kept, device) {
            all.entry(name).or_default().extend(seqs);
        }
    }
    all
}

/// Returns what a device may have deleted by itself at the end of a run.
pub(super) fn gone_on(end: &EndState, device: usize) -> Gone {
    gone(&end.calls, end.restored.is_some(), &end.kept, device)
}

/// Whether a device may have deleted a position by itself.
pub(super) fn is_gone(gone: &Gone, name: &str, seq: i64) -> bool {
    gone.get(name).is_some_and(|seqs| seqs.contains(&seq))
}

/// When a message was sent, at the earliest. Of one that was revoked, nobody knows.
fn sent_at(calls: &[Call], message: &StoredMessage) -> Moment {
    calls.iter().find(|call| call.text == call_of(&message.text)).map_or(0, |call| call.called)
}

/// What a device has deleted by itself never comes back. Positions say nothing after a restore, a device that starts over may have
/// forgotten what it had, and whoever leaves a group and returns gets it anew.
pub(super) fn deleted_here_back(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    if end.restored.is_some() || end.plan.has(Kind::Reset) {
        return wrong;
    }
    for seen in &end.devices {
        for kept in end.kept.iter().filter(|kept| kept.has_stayed(seen.user)) {
            let shown = kept.called_by(seen.user).and_then(|name| seen.histories.get(name));
            let shown: BTreeSet<i64> = shown.into_iter().flatten().map(|(seq, ..)| *seq).collect();
            let here = verbs(end, kept).filter(|(call, verb)| call.device == seen.number && verb.is_here());
            for (call, verb) in here.filter(|(call, _)| call.acknowledged().is_some()) {
                let deleted: Vec<i64> = match verb {
                    MessageVerb::DeleteHere => changed(call).collect(),
                    _ => (1..=seen_before(end, kept, call)).collect(),
                };
                let back: Vec<&i64> = deleted.iter().filter(|seq| shown.contains(seq)).collect();
                if !back.is_empty() {
                    wrong.push(format!("device {} shows {back:?} after {call:?}", seen.number));
                }
            }
        }
    }
    wrong
}
