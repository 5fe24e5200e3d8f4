//! What must hold after a run, whatever went wrong in it. Each check has a name and says of each violation what it saw.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;
use zim_protocol::ErrorCode;

use super::lists::{DeviceLists, Lists, Profile, Subscriptions};
use super::plan::{Action, Kind, POISON, Plan};
use super::record::{Call, RaisedEvent};
use super::rows::Rows;
use super::social;
use super::store::{StoredConversation, StoredMessage};
use super::testbed::Restored;

/// What a device shows at the end.
#[derive(Debug)]
pub struct DeviceState {
    /// Its number.
    pub number: usize,
    /// Whose it is.
    pub user: &'static str,
    /// The list of conversations.
    pub view: Value,
    /// Position, text and sender, by peer.
    pub histories: BTreeMap<String, Vec<(i64, String, String)>>,
    /// Its local database.
    pub rows: Rows,
    /// Its lists, and whom it knows.
    pub known: DeviceLists,
    /// What it had told its app when it was killed.
    pub told: BTreeSet<(String, i64)>,
    /// The life in which it was last killed, and its lists then.
    pub killed: Option<(u32, Lists)>,
}

/// A run that is over.
#[derive(Debug)]
pub struct EndState {
    /// What was planned.
    pub plan: Plan,
    /// What was called.
    pub calls: Vec<Call>,
    /// What was raised.
    pub raised: Vec<RaisedEvent>,
    /// A backup that was restored.
    pub restored: Option<Restored>,
    /// What the server has.
    pub kept: Vec<StoredConversation>,
    /// Everybody's lists as the server has them, by user.
    pub lists: BTreeMap<String, Lists>,
    /// All profiles, by user.
    pub profiles: BTreeMap<String, Profile>,
    /// Whose status everybody follows, by user.
    pub subscriptions: BTreeMap<String, Subscriptions>,
    /// What everybody says of himself.
    pub custom_statuses: BTreeMap<String, String>,
    /// What the devices show.
    pub devices: Vec<DeviceState>,
    /// What devices show that were never here before, one for each user.
    pub fresh: Vec<DeviceState>,
    /// What the server logged.
    pub log: String,
    /// How many servers ended by themselves.
    pub crashed: usize,
    /// How many tasks they left behind when they were stopped.
    pub left: usize,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Of the check that found it.
    pub name: &'static str,
    /// What it saw.
    pub what: String,
}

type Check = fn(&EndState) -> Vec<String>;

/// Every check: its name, what must hold, and how it is seen. A new noun adds its own.
pub const CHECKS: &[(&str, &str, Check)] = &[
    ("positions_dense", "stored positions are exactly 1 to the end of the log, each once", positions_dense),
    ("time_fell", "neither the time nor the count of messages falls along a log", time_fell),
    ("acknowledged_lost", "what was acknowledged is stored, at the position that was told", acknowledged_lost),
    ("stored_twice", "nothing is stored twice, however often it was sent, and nothing that nobody sent", stored_twice),
    ("call_order", "a device's messages to one user are stored in the order of its calls", call_order),
    ("poison_spread", "what cannot be stored fails alone", poison_spread),
    ("histories_differ", "every device of both sides shows the same messages in the same order", histories_differ),
    ("unread_wrong", "unread counts are what one counts by hand, and so is their sum", unread_wrong),
    ("clear_lost", "what was read stays read", clear_lost),
    ("profile_lost", "names and avatars are the last ones that were taken", social::profile_lost),
    ("presence_lost", "custom statuses and subscriptions are what was acknowledged last", social::presence_lost),
    (
        "relation_lost",
        "friends, aliases, applications and blacklists are what was acknowledged last",
        social::relation_lost,
    ),
    ("passed_a_block", "nothing of somebody who is blocked is stored after that was answered", social::passed_a_block),
    ("lists_differ", "a device holds the lists and the profiles that the server keeps", social::lists_differ),
    (
        "events_differ",
        "the events of friends, applications and the blacklist, one after the other, tell what the device holds",
        social::events_differ,
    ),
    ("rows_differ", "the rows of a device equal those of a device that was never here before", rows_differ),
    ("never_raised", "every message is raised at every device, at least once", never_raised),
    ("raised_out_of_order", "messages are raised in the order of their log", raised_out_of_order),
    ("raised_twice", "a device that lives raises a message once", raised_twice),
    (
        "server_crashed",
        "the server ends when it is ended, leaves nothing behind then, and never panics",
        server_crashed,
    ),
];

/// What `play.rs` finds while it waits for the end.
pub const WAITS: &[(&str, &str)] = &[
    ("no_answer", "every call is answered"),
    ("device_behind", "every device comes to show what the server has, without being asked"),
    ("hint_not_repaired", "the last push of a conversation, lost, is made good without traffic"),
    ("reused_key_answered", "a key that was used for other words is refused, for the same words answered as before"),
];

/// Everything that is wrong.
pub(super) fn check(end: &EndState) -> Vec<Violation> {
    let all = CHECKS.iter().flat_map(|(name, _, check)| check(end).into_iter().map(move |what| (*name, what)));
    all.map(|(name, what)| Violation { name, what }).collect()
}

/// Whether a moment's success must have lasted: it is in the backup, or came after it was restored.
pub(super) fn lasts(end: &EndState, call: &Call) -> bool {
    let Some((acknowledged, _)) = call.acknowledged() else { return false };
    end.restored.is_none_or(|restored| acknowledged < restored.backup_begun || call.called > restored.done)
}

fn named(kept: &StoredConversation) -> String {
    kept.members.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join("+")
}

pub(super) fn user_of(call: &Call) -> &'static str {
    super::plan::DEVICES[call.device]
}

fn conversation<'e>(end: &'e EndState, one: &str, other: &str) -> Option<&'e StoredConversation> {
    end.kept.iter().find(|kept| {
        let is_in = |user: &str| kept.members.iter().any(|(name, _)| name == user);
        is_in(one) && is_in(other)
    })
}

fn positions_dense(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for kept in &end.kept {
        let seqs: Vec<i64> = kept.messages.iter().map(|message| message.seq).collect();
        if seqs != (kept.floor + 1..=kept.head).collect::<Vec<_>>() {
            wrong.push(format!("{}: {}..={} holds {seqs:?}", named(kept), kept.floor + 1, kept.head));
        }
    }
    wrong
}

fn time_fell(end: &EndState) -> Vec<String> {
    let falls = |pair: &[StoredMessage]| pair[0].ts > pair[1].ts || pair[0].n > pair[1].n;
    let all = end.kept.iter().flat_map(|kept| kept.messages.windows(2).filter(|pair| falls(pair)));
    all.map(|pair| format!("{pair:?}")).collect()
}

fn acknowledged_lost(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for call in end.calls.iter().filter(|call| lasts(end, call)) {
        let (Action::Send { peer, .. }, Some((_, told))) = (&call.action, call.acknowledged()) else { continue };
        let seq = told["messageSeq"].as_i64().unwrap_or(0);
        let Some(kept) = conversation(end, user_of(call), peer) else {
            wrong.push(format!("{:?}: there is no conversation", call.text));
            continue;
        };
        let stored = kept.messages.iter().find(|message| message.seq == seq).map(|message| message.text.as_str());
        if seq > kept.floor && stored != Some(&call.text) {
            wrong.push(format!("{:?} was told to be {seq} of {}; there is {stored:?}", call.text, named(kept)));
        }
    }
    wrong
}

fn stored_twice(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    let said: BTreeSet<&str> = end.calls.iter().map(|call| call.text.as_str()).collect();
    for kept in &end.kept {
        let (mut texts, mut keys) = (BTreeSet::new(), BTreeSet::new());
        for message in &kept.messages {
            if !texts.insert(&message.text) || !keys.insert((&message.sender, &message.key)) {
                wrong.push(format!("{} has {message:?} twice", named(kept)));
            }
            if !said.contains(message.text.as_str()) && message.sender != super::run::RAW_USER {
                wrong.push(format!("{} has {message:?}, which nobody said", named(kept)));
            }
        }
    }
    wrong
}

/// Device, life and number of the call, from what it said.
fn origin(text: &str) -> Option<(usize, u32, u64)> {
    let mut parts = text.split(' ').next()?.split('/');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn call_order(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for kept in &end.kept {
        let mut last: HashMap<(usize, u32), u64> = HashMap::new();
        for (device, incarnation, number) in kept.messages.iter().filter_map(|message| origin(&message.text)) {
            if let Some(before) = last.insert((device, incarnation), number).filter(|before| *before > number) {
                wrong.push(format!("{}: device {device}: call {before} before call {number}", named(kept)));
            }
        }
    }
    wrong
}

fn poison_spread(end: &EndState) -> Vec<String> {
    let mut wrong: Vec<String> = end
        .kept
        .iter()
        .flat_map(|kept| &kept.messages)
        .filter(|message| message.text.contains(POISON))
        .map(|message| format!("{message:?} is stored"))
        .collect();
    // With these a message may fail by itself.
    let excuses = [Kind::DiskFull, Kind::WriteFails, Kind::KillPostgres, Kind::JumpDevice, Kind::Restore];
    if excuses.into_iter().any(|kind| end.plan.has(kind)) {
        return wrong;
    }
    let personal = [
        0,
        ErrorCode::NetworkModuleUserIsNotLogged as i64,
        ErrorCode::NetworkModuleNetworkError as i64,
        ErrorCode::MessageModuleSenderInBlacklist as i64,
    ];
    for call in &end.calls {
        let (Action::Send { is_poison, .. }, Some((_, answer))) = (&call.action, &call.answer) else { continue };
        match answer {
            Ok(told) if *is_poison => wrong.push(format!("{:?} was acknowledged: {told}", call.text)),
            Err(failure) if !is_poison && !personal.contains(&failure.code) => {
                wrong.push(format!("{:?} failed: {failure:?}", call.text));
            }
            _ => {}
        }
    }
    wrong
}

fn histories_differ(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for seen in end.devices.iter().chain(&end.fresh) {
        for kept in end.kept.iter().filter(|kept| kept.members.iter().any(|(name, _)| name == seen.user)) {
            let Some((peer, _)) = kept.members.iter().find(|(name, _)| name != seen.user) else { continue };
            let stored: Vec<(i64, &str, &str)> =
                kept.messages.iter().map(|one| (one.seq, one.text.as_str(), one.sender.as_str())).collect();
            let shown = seen.histories.get(peer).map_or(&[][..], Vec::as_slice).iter();
            let shown: Vec<(i64, &str, &str)> = shown
                .filter(|(seq, ..)| *seq > kept.floor)
                .map(|(seq, text, from)| (*seq, text.as_str(), from.as_str()))
                .collect();
            if stored != shown {
                let extra: Vec<_> = shown.iter().filter(|one| !stored.contains(one)).collect();
                let missing: Vec<_> = stored.iter().filter(|one| !shown.contains(one)).collect();
                wrong.push(format!("device {} with {peer}: missing {missing:?}, too many {extra:?}", seen.number));
            }
        }
    }
    wrong
}

fn unread_wrong(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for seen in end.devices.iter().chain(&end.fresh) {
        let mut total = 0;
        for kept in &end.kept {
            let Some((_, read)) = kept.members.iter().find(|(name, _)| name == seen.user) else { continue };
            let Some((peer, _)) = kept.members.iter().find(|(name, _)| name != seen.user) else { continue };
            let unread = kept.messages.iter().filter(|one| one.sender != seen.user && one.seq > *read).count();
            total += unread;
            let shown = &seen.view["conversations"][peer]["unread"];
            // One whose first message failed is there, and shown to nobody.
            if *shown != unread && kept.head > 0 {
                wrong.push(format!("device {} with {peer}: {shown}; counted by hand: {unread}", seen.number));
            }
        }
        if seen.view["total"] != total {
            wrong.push(format!("device {}: {} in all; counted by hand: {total}", seen.number, seen.view["total"]));
        }
    }
    wrong
}

/// Each message that an event brought: peer, position and text.
pub(super) fn received(raised: &RaisedEvent) -> impl Iterator<Item = (&str, i64, &str)> {
    let list = raised.event["messageList"].as_array().filter(|_| raised.event["name"] == "peerMessageReceived");
    list.into_iter().flatten().map(|message| {
        let word = |name: &str| message[name].as_str().unwrap_or_default();
        (word("conversationID"), message["messageSeq"].as_i64().unwrap_or(0), word("message"))
    })
}

fn clear_lost(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for call in end.calls.iter().filter(|call| lasts(end, call)) {
        let Action::Clear { peer } = &call.action else { continue };
        let Some(kept) = conversation(end, user_of(call), peer) else { continue };
        let read = kept.members.iter().find(|(name, _)| name == user_of(call)).map_or(0, |(_, read)| *read);
        let before = end.raised.iter().filter(|one| {
            // Positions of another epoch are not comparable.
            let is_comparable =
                end.restored.is_none_or(|restored| one.at > restored.done || call.called < restored.done);
            one.device == call.device && one.at < call.called && is_comparable
        });
        let seen = before.flat_map(received).filter(|(of, ..)| of == peer).map(|(_, seq, _)| seq).max().unwrap_or(0);
        if read < seen {
            wrong.push(format!("device {} read {} to {seen}; it is read to {read}", call.device, named(kept)));
        }
    }
    wrong
}

fn rows_differ(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for seen in &end.devices {
        let Some(fresh) = end.fresh.iter().find(|fresh| fresh.user == seen.user) else { continue };
        let (less, more): (Vec<_>, Vec<_>) =
            (fresh.rows.difference(&seen.rows).collect(), seen.rows.difference(&fresh.rows).collect());
        if !less.is_empty() || !more.is_empty() {
            let some = |rows: &[&String]| rows.iter().take(3).map(|row| format!("\n        {row}")).collect::<String>();
            let (lacks, has) = (some(&less), some(&more));
            wrong.push(format!(
                "device {}: lacks {}: {lacks}\n      has {}: {has}",
                seen.number,
                less.len(),
                more.len()
            ));
        }
    }
    wrong
}

/// The messages that a device must have raised.
pub(super) fn expected<'e>(kept: &'e StoredConversation, user: &str, device: usize) -> Option<(&'e str, Vec<i64>)> {
    let (peer, _) = kept.members.iter().find(|(name, _)| name != user)?;
    kept.members.iter().find(|(name, _)| name == user)?;
    let is_own = |message: &&StoredMessage| origin(&message.text).is_some_and(|(of, ..)| of == device);
    let seqs = kept.messages.iter().filter(|message| !is_own(message)).map(|message| message.seq);
    Some((peer, seqs.collect()))
}

/// What a device has raised: peers and positions.
pub(super) fn heard(raised: &[RaisedEvent], device: usize) -> BTreeSet<(String, i64)> {
    let of = raised.iter().filter(|one| one.device == device);
    of.flat_map(received).map(|(peer, seq, _)| (peer.to_owned(), seq)).collect()
}

fn never_raised(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    if end.restored.is_some() {
        // A device that starts anew raises what comes after that, and who was when at it is not known.
        return wrong;
    }
    for seen in &end.devices {
        let heard = heard(&end.raised, seen.number);
        for (peer, seqs) in end.kept.iter().filter_map(|kept| expected(kept, seen.user, seen.number)) {
            let is_missing = |seq: &&i64| {
                let message = (peer.to_owned(), **seq);
                !heard.contains(&message) && !seen.told.contains(&message)
            };
            let missing: Vec<&i64> = seqs.iter().filter(is_missing).collect();
            if !missing.is_empty() {
                wrong.push(format!("device {} with {peer}: {missing:?}", seen.number));
            }
        }
    }
    wrong
}

fn raised_out_of_order(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    if end.restored.is_some() {
        // The positions of one epoch and those of the next.
        return wrong;
    }
    for device in 0..end.devices.len() {
        let (mut last, mut seen) = (HashMap::new(), BTreeSet::new());
        for (peer, seq, text) in end.raised.iter().filter(|one| one.device == device).flat_map(received) {
            // Again, after a client that ended too early.
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

fn raised_twice(end: &EndState) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    if end.restored.is_some() {
        // Another epoch is another log.
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

fn server_crashed(end: &EndState) -> Vec<String> {
    let mut wrong: Vec<String> = end.log.lines().filter(|line| line.contains("panicked")).map(str::to_owned).collect();
    if end.crashed > 0 {
        wrong.push(format!("{} servers ended by themselves", end.crashed));
    }
    if end.left > 0 {
        wrong.push(format!("{} tasks were left behind", end.left));
    }
    wrong
}
