//! The invariants that hold after a run, whatever faults it had. Each check has a name and describes every violation.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;
use zim_protocol::{ErrorCode, GroupState};

use super::action::Action;
use super::call;
use super::club;
use super::combine;
use super::counts;
use super::deletion;
use super::group;
use super::here::{self, is_gone};
use super::kind::Kind;
use super::lease;
use super::lists::{DeviceLists, Lists, Profile, Subscriptions};
use super::local::{self, LocalRows};
use super::message;
use super::outage::{is_caught_in, stops_storing};
use super::plan::{Fault, POISON, Plan};
use super::raised::{self, received};
use super::record::{Call, Failure, Moment, RaisedEvent};
use super::room;
use super::rows::Rows;
use super::settle::LiveState;
use super::social;
use super::store::{StoredConversation, StoredMessage, StoredTask};
use super::store_club::ClubRows;
use super::testbed::Restored;
use super::verbs::{COMBINED, REPLY, UNCOUNTED};

/// The state of a device at the end.
#[derive(Debug)]
pub(super) struct DeviceState {
    /// The number of the device.
    pub(super) number: usize,
    /// The user of the device.
    pub(super) user: &'static str,
    /// The list of conversations, as JSON.
    pub(super) view: Value,
    /// The histories by peer: position, text and sender.
    pub(super) histories: BTreeMap<String, Vec<(i64, String, String)>>,
    /// The rows of the local database.
    pub(super) rows: Rows,
    /// The lists, and the known profiles.
    pub(super) known: DeviceLists,
    /// What only this device has.
    pub(super) local: LocalRows,
    /// What it has about the second group.
    pub(super) club: ClubRows,
}

/// The state at the end of a run.
#[derive(Debug)]
pub(super) struct EndState {
    /// The plan.
    pub(super) plan: Plan,
    /// All calls.
    pub(super) calls: Vec<Call>,
    /// All events of devices.
    pub(super) raised: Vec<RaisedEvent>,
    /// The faults, and when each happened.
    pub(super) faults: Vec<(Moment, Fault)>,
    /// The restore of a backup, if there was one.
    pub(super) restored: Option<Restored>,
    /// The server's conversations.
    pub(super) kept: Vec<StoredConversation>,
    /// The lists that the server stores, by user.
    pub(super) lists: BTreeMap<String, Lists>,
    /// The profiles that the server stores, by user.
    pub(super) profiles: BTreeMap<String, Profile>,
    /// The subscriptions that the server stores, by user.
    pub(super) subscriptions: BTreeMap<String, Subscriptions>,
    /// The custom statuses that the server stores, by user.
    pub(super) custom_statuses: BTreeMap<String, String>,
    /// The tasks, by subject.
    pub(super) tasks: BTreeMap<i64, StoredTask>,
    /// Rooms and calls.
    pub(super) live: LiveState,
    /// The states of the devices.
    pub(super) devices: Vec<DeviceState>,
    /// The states of fresh devices, one for each user.
    pub(super) fresh: Vec<DeviceState>,
    /// The server's log.
    pub(super) log: String,
    /// The number of servers that ended by themselves.
    pub(super) crashed: usize,
    /// The number of tasks that stopped servers left behind.
    pub(super) leaked_tasks: usize,
    /// What nodes did after their lease.
    pub(super) late: Vec<String>,
    /// The number of nodes that ended because their lease had.
    pub(super) lost_leases: usize,
    /// When the run began and ended, Unix milliseconds.
    pub(super) lasted_ms: (i64, i64),
}

/// A violation of an invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The name of the check that found it.
    pub name: &'static str,
    /// What the check found.
    pub what: String,
}

type Check = fn(&EndState) -> Vec<String>;

/// Every check: its name, the invariant, and the function. A new noun adds its own.
pub(super) const CHECKS: &[(&str, &str, Check)] = &[
    ("positions_dense", "the stored positions of a log are exactly 1 to its end, each once", positions_dense),
    ("time_fell", "along a log, neither the time nor the message count falls", time_fell),
    ("acknowledged_lost", "an acknowledged message is stored, at the acknowledged position", acknowledged_lost),
    ("stored_twice", "no message is stored twice, however often it was sent, and none that was not sent", stored_twice),
    ("call_order", "a device's messages to one user are stored in the order of its calls", call_order),
    ("poison_spread", "a message that cannot be stored fails alone", poison_spread),
    ("histories_differ", "all devices of both users show the same messages in the same order", histories_differ),
    ("unread_wrong", "unread counts and their sum equal an independent count", unread_wrong),
    ("clear_lost", "read messages stay read", clear_lost),
    (
        "change_lost",
        "revocations, edits, reactions, pins, receipts and deletions are the last ones acknowledged",
        message::change_lost,
    ),
    ("answer_lost", "a reply and a combined message that are acknowledged are stored", combine::answer_lost),
    (
        "combined_changed",
        "a combined message shows what its sender saw, whatever becomes of that",
        combine::combined_changed,
    ),
    ("deletion_lost", "what a user deletes is gone for them, and nothing else is", deletion::deletion_lost),
    (
        "deletion_not_raised",
        "a device that has raised a message raises that the user deleted it elsewhere",
        deletion::deletion_not_raised,
    ),
    ("deleted_here_back", "what a device alone has deleted never comes back there", here::deleted_here_back),
    ("list_wrong", "a conversation is in the list unless its user deleted it", deletion::list_wrong),
    ("receipts_lost", "a receipt for a whole conversation covers all that its device had", counts::receipts_lost),
    ("receipts_not_raised", "devices of both users raise such a receipt", counts::receipts_not_raised),
    ("counts_drift", "replies, reactions, readers and pins are as many as are counted", counts::counts_drift),
    ("local_lost", "what only one device has stays there, and nowhere else", local::local_lost),
    (
        "revocation_not_raised",
        "a device that has raised a message raises its revocation",
        message::revocation_not_raised,
    ),
    ("group_wrong", "the group has one owner, counts its members, and each of them has a stay", group::group_wrong),
    (
        "group_lost",
        "members, roles and names of the group are what the acknowledged calls made them",
        group::group_lost,
    ),
    (
        "passed_a_mute",
        "nobody writes to a group while they are muted, and nobody is refused who never was",
        club::passed_a_mute,
    ),
    (
        "dismissal_lost",
        "a group that was dismissed has ended: its conversation is disabled, and nobody writes to it",
        club::dismissal_lost,
    ),
    ("application_waits", "an application to a group that has ended waits on no device", club::application_waits),
    (
        "club_lost",
        "how a group is entered is what the acknowledged calls made it, and an answered application has ended",
        club::club_lost,
    ),
    (
        "room_views_differ",
        "a device shows the rooms, members and attributes that the server stores",
        room::room_views_differ,
    ),
    ("room_answer_wrong", "who asks about a room is told what the server stores", room::room_answer_wrong),
    ("room_outside", "a device raises events of a room only while it is in it", room::room_outside),
    ("batch_torn", "nobody sees a part of a batch of attributes", room::batch_torn),
    ("room_twice", "a device hears what is said in a room at most once", room::room_twice),
    (
        "room_order_differs",
        "what is said in a room has one order for all who hear it, which is that of each sender's calls",
        room::room_order_differs,
    ),
    (
        "room_lost",
        "attributes of rooms and members are the last ones acknowledged, and who has left is out",
        room::room_lost,
    ),
    ("call_not_ended", "every call ends, by one user or by itself", call::call_not_ended),
    (
        "call_views_differ",
        "all who are in a call know the states that the server stores, and no device still rings",
        call::call_views_differ,
    ),
    ("call_told_twice", "a device raises once that an invitation or a call is over", call::call_told_twice),
    ("call_state_forbidden", "the states of users of a call change as the rules allow", call::call_state_forbidden),
    ("call_lost", "an acknowledged answer, end or departure lasts", call::call_lost),
    ("call_list_wrong", "the list of calls has what the server stores", call::call_list_wrong),
    ("profile_lost", "names and avatars are the last ones acknowledged", social::profile_lost),
    ("presence_lost", "custom statuses and subscriptions are the last ones acknowledged", social::presence_lost),
    (
        "relation_lost",
        "friends, aliases, applications and blacklists are the last ones acknowledged",
        social::relation_lost,
    ),
    ("passed_a_block", "after a block is acknowledged, nothing of the blocked user is stored", social::passed_a_block),
    ("lists_differ", "a device holds the same lists and profiles as the server", social::lists_differ),
    (
        "events_differ",
        "the events of friends, applications and the blacklist, applied in order, give what the device holds",
        social::events_differ,
    ),
    ("rows_differ", "the rows of a device equal those of a fresh device", rows_differ),
    ("never_raised", "every device raises every message at least once", raised::never_raised),
    ("raised_out_of_order", "devices raise messages in the order of their log", raised::raised_out_of_order),
    ("raised_twice", "a device that is not restarted raises a message once", raised::raised_twice),
    (
        "raised_outside_stay",
        "a device raises no message of a group from outside the stays of its user",
        raised::raised_outside_stay,
    ),
    ("task_not_once", "a task takes effect exactly once, and not before its time", task_not_once),
    (lease::LATE, "a node stores nothing and does not serve after its lease has ended", lease::written_after_the_lease),
    (
        "clock_not_followed",
        "times that nodes store are those of the database, whatever their own clocks say",
        lease::clock_not_followed,
    ),
    ("server_crashed", "the server never ends by itself, leaves no task behind, and never panics", server_crashed),
];

/// The invariants that `run.rs` checks while it waits for the end.
pub(super) const WAITS: &[(&str, &str)] = &[
    ("no_answer", "every request is answered"),
    ("device_behind", "every device converges to the server's state by itself"),
    ("room_message_lost", "what is said in a room arrives while nothing fails"),
    ("room_history_lost", "a room that keeps what is said has all of it, in the order in which it was heard"),
    ("call_not_heard", "all devices of those who are called ring while nothing fails"),
    ("hint_not_repaired", "a lost last push of a conversation is repaired without later traffic"),
    (
        "reused_key_answered",
        "a used key is refused with another message, and returns the first answer with the same one",
    ),
];

/// Runs all checks.
pub(super) fn check(end: &EndState) -> Vec<Violation> {
    let all = CHECKS.iter().flat_map(|(name, _, check)| check(end).into_iter().map(move |what| (*name, what)));
    all.map(|(name, what)| Violation { name, what }).collect()
}

/// Whether the effect of a successful call must have lasted: it is in the backup, or came after the restore.
pub(super) fn lasts(end: &EndState, call: &Call) -> bool {
    let Some((acknowledged, _)) = call.acknowledged() else { return false };
    end.restored.is_none_or(|restored| acknowledged < restored.backup_begun || call.called > restored.done)
}

pub(super) fn named(kept: &StoredConversation) -> String {
    if let Some(group) = &kept.group {
        return group.id.clone();
    }
    kept.members.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join("+")
}

pub(super) fn user_of(call: &Call) -> &'static str {
    super::plan::DEVICES[call.device]
}

pub(super) fn conversation<'e>(end: &'e EndState, one: &str, other: &str) -> Option<&'e StoredConversation> {
    end.kept.iter().find(|kept| kept.called_by(one) == Some(other))
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
        let (Action::Send { peer, .. }, Some((_, answer))) = (&call.action, call.acknowledged()) else { continue };
        let seq = answer["messageSeq"].as_i64().unwrap_or(0);
        let Some(kept) = conversation(end, user_of(call), peer) else {
            wrong.push(format!("{:?}: there is no conversation", call.text));
            continue;
        };
        let message = kept.messages.iter().find(|message| message.seq == seq);
        let stored = message.map(|message| message.text.as_str());
        // An edited message begins with what was sent.
        let is_there = message.is_some_and(|message| message.is_revoked || is_of(&message.text, &call.text));
        if seq > kept.floor && !is_there {
            wrong.push(format!(
                "{:?} was acknowledged as {seq} of {}; stored there is {stored:?}",
                call.text,
                named(kept)
            ));
        }
    }
    wrong
}

/// Whether a stored text is what a call has sent, as it was or edited.
pub(super) fn is_of(stored: &str, sent: &str) -> bool {
    stored == sent || stored.split_once(' ').is_some_and(|(first, _)| first == sent)
}

fn stored_twice(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    let sent: BTreeSet<&str> = end.calls.iter().map(|call| call.text.as_str()).collect();
    for kept in &end.kept {
        let (mut texts, mut keys) = (BTreeSet::new(), BTreeSet::new());
        for message in &kept.messages {
            let first = message.text.split(' ').next().unwrap_or_default();
            if !message.is_revoked && !texts.insert(first) || !keys.insert((&message.sender, &message.key)) {
                wrong.push(format!("{} has {message:?} twice", named(kept)));
            }
            let is_sent = message.is_revoked || sent.contains(call_of(first));
            if !is_sent && message.sender != super::run::RAW_USER {
                wrong.push(format!("{} has {message:?}, which nobody sent", named(kept)));
            }
        }
    }
    wrong
}

/// Returns the text of the call that has sent a message with this text.
pub(super) fn call_of(text: &str) -> &str {
    let first = text.split(' ').next().unwrap_or_default();
    first.strip_prefix([REPLY, COMBINED, UNCOUNTED]).unwrap_or(first)
}

/// Parses device, incarnation and number of the call from the text of a message.
pub(super) fn origin(text: &str) -> Option<(usize, u32, u64)> {
    let mut parts = call_of(text).split('/');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Whether the device was killed before the call was answered.
fn is_interrupted(call: &Call) -> bool {
    matches!(&call.answer, Some((_, Err(failure))) if failure.code == 0)
}

/// Whether a message may have been refused before it was stored: its user was let into the group only later, or was refused another
/// message to the same conversation, and its device waited for answers in vain meanwhile. A device that does not learn of a refusal
/// sends the message again.
fn may_follow_a_refusal(end: &EndState, call: &Call, peer: &str) -> bool {
    let ended = call.answer.as_ref().map_or(Moment::MAX, |(at, _)| *at);
    let is_meanwhile = |at: Moment| (call.called..=ended).contains(&at);
    let of_device = || end.raised.iter().filter(|one| one.device == call.device && one.at > call.called);
    let is_late = of_device().any(|one| {
        one.event["name"] == "groupStateChanged"
            && one.event["groupInfo"]["baseInfo"]["groupID"] == peer
            && one.event["state"] == GroupState::Enter as i32
    });
    let is_refusal = |other: &Call| {
        let Action::Send { peer: to, .. } = other.action else { return false };
        let code = other.answer.as_ref().and_then(|(_, answer)| answer.as_ref().err()).map(|failure| failure.code);
        let is_not_to = |code| {
            code == ErrorCode::MessageModuleSenderInBlacklist as i64
                || code == ErrorCode::GroupModuleUserIsNotInTheGroup as i64
                || club::is_muted(to, code)
        };
        to == peer && user_of(other) == user_of(call) && code.is_some_and(is_not_to)
    };
    let has_waited = of_device().any(|one| is_meanwhile(one.at) && one.event["name"] == "connectionStateChanged")
        || end.calls.iter().any(|other| {
            let failed = |(at, answer): &(Moment, Result<_, Failure>)| {
                is_meanwhile(*at) && answer.as_ref().is_err_and(social::is_unknown)
            };
            other.device == call.device && other.answer.as_ref().is_some_and(failed)
        });
    has_waited && (is_late || end.calls.iter().any(is_refusal))
}

fn call_order(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    let cannot_store = end.faults.iter().any(|(_, fault)| stops_storing(fault));
    for kept in &end.kept {
        let mut last: HashMap<(usize, u32), u64> = HashMap::new();
        // Others are sent when their devices have read the history, or by tasks of their own.
        let sent = kept.messages.iter().filter(|message| !message.text.starts_with([REPLY, COMBINED, UNCOUNTED]));
        for (device, incarnation, number) in sent.filter_map(|message| origin(&message.text)) {
            // One that the server could not store fails, and later ones are stored. A device that does not learn of the failure,
            // because it is killed, or waits no longer, sends it again.
            let is_again = end.calls.iter().any(|call| {
                let peer = kept.called_by(user_of(call)).unwrap_or_default();
                origin(&call.text) == Some((device, incarnation, number))
                    && (may_follow_a_refusal(end, call, peer)
                        || cannot_store && (is_interrupted(call) || is_caught_in(call, &end.faults)))
            });
            let before = last.insert((device, incarnation), number).filter(|before| *before > number && !is_again);
            if let Some(before) = before {
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
    // With these faults any message may fail.
    let faults = [Kind::DiskFull, Kind::WriteFails, Kind::KillPostgres, Kind::JumpDevice, Kind::Restore];
    let cannot_store = end.faults.iter().any(|(_, fault)| stops_storing(fault)) || end.lost_leases > 0;
    if cannot_store || faults.into_iter().any(|kind| end.plan.has(kind)) {
        return wrong;
    }
    let expected = [
        0,
        ErrorCode::NetworkModuleUserIsNotLogged as i64,
        ErrorCode::NetworkModuleNetworkError as i64,
        ErrorCode::MessageModuleSenderInBlacklist as i64,
        // They have left the group, or were removed, or all have left.
        ErrorCode::GroupModuleUserIsNotInTheGroup as i64,
        ErrorCode::GroupModuleGroupDoesNotExist as i64,
    ];
    for call in &end.calls {
        let (Action::Send { peer, is_poison }, Some((_, answer))) = (&call.action, &call.answer) else { continue };
        match answer {
            Ok(answer) if *is_poison => wrong.push(format!("{:?} was acknowledged: {answer}", call.text)),
            Err(failure) if !is_poison && !expected.contains(&failure.code) && !club::is_muted(peer, failure.code) => {
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
        let gone = here::gone_on(end, seen.number);
        for kept in &end.kept {
            let Some(peer) = kept.called_by(seen.user) else { continue };
            let has_stayed = kept.has_stayed(seen.user);
            // What changed after a stay is served without content.
            let text = |text: &'_ str| if has_stayed { text.to_owned() } else { String::new() };
            let stored = kept.messages.iter().filter(|one| !one.hidden.contains(seen.user));
            let stored = stored.filter(|one| kept.is_open_to(seen.user, one.seq) && !is_gone(&gone, peer, one.seq));
            let stored: Vec<(i64, String, &str)> =
                stored.map(|one| (one.seq, text(&one.text), one.sender.as_str())).collect();
            let shown = seen.histories.get(peer).map_or(&[][..], Vec::as_slice).iter();
            let shown: Vec<(i64, String, &str)> = shown
                .filter(|(seq, ..)| *seq > kept.floor && !is_gone(&gone, peer, *seq))
                .map(|(seq, shown, from)| (*seq, text(shown), from.as_str()))
                .collect();
            if stored != shown {
                let extra: Vec<_> = shown.iter().filter(|one| !stored.contains(one)).collect();
                let missing: Vec<_> = stored.iter().filter(|one| !shown.contains(one)).collect();
                wrong.push(format!("device {} with {peer}: missing {missing:?}, unexpected {extra:?}", seen.number));
            }
        }
    }
    wrong
}

fn unread_wrong(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for seen in end.devices.iter().chain(&end.fresh) {
        let gone = here::gone_on(end, seen.number);
        let mut total = 0;
        for kept in &end.kept {
            let Some((_, read)) = kept.members.iter().find(|(name, _)| name == seen.user) else { continue };
            let Some(peer) = kept.called_by(seen.user) else { continue };
            let counts = |one: &&StoredMessage| {
                one.sender != seen.user
                    && one.seq > *read
                    && one.is_seen_by(seen.user)
                    && !one.text.starts_with(UNCOUNTED)
                    && kept.is_open_to(seen.user, one.seq)
            };
            let mut unread = kept.messages.iter().filter(counts).count();
            let shown = &seen.view["conversations"][peer]["unread"];
            if !kept.has_stayed(seen.user) || gone.contains_key(peer) {
                // A message that was revoked after the stay counts on a device that does not know of it. What a device alone has deleted
                // does not count there.
                unread = shown.as_u64().and_then(|shown| usize::try_from(shown).ok()).unwrap_or(0);
            }
            let may_be_absent = kept.is_deleted_by(seen.user) || !kept.has_stayed(seen.user);
            if shown.is_null() && may_be_absent && kept.deleted_below.contains_key(seen.user) {
                continue;
            }
            total += if kept.quiet.contains(seen.user) { 0 } else { unread };
            // A conversation whose first message failed exists on the server and is not shown.
            if *shown != unread && kept.head > 0 {
                wrong.push(format!("device {} with {peer}: {shown}; stored: {unread}", seen.number));
            }
        }
        if seen.view["total"] != total {
            wrong.push(format!("device {}: {} in all; stored: {total}", seen.number, seen.view["total"]));
        }
    }
    wrong
}

fn clear_lost(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    // After a restore, a device that has not caught up knows nothing that it could clear.
    if end.restored.is_some() {
        return wrong;
    }
    for call in end.calls.iter().filter(|call| lasts(end, call)) {
        let Action::Clear { peer } = &call.action else { continue };
        let Some(kept) = conversation(end, user_of(call), peer) else { continue };
        let read = kept.members.iter().find(|(name, _)| name == user_of(call)).map_or(0, |(_, read)| *read);
        let before = end.raised.iter().filter(|one| one.device == call.device && one.at < call.called);
        let seen = before.flat_map(received).filter(|(of, ..)| of == peer);
        let seen = seen.map(|(_, seq, _)| seq).max().unwrap_or(0);
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

fn task_not_once(end: &EndState) -> Vec<String> {
    let wrong = end.tasks.iter().filter(|(_, task)| !task.is_right());
    wrong.map(|(subject, task)| format!("task {subject}: {task:?}")).collect()
}

fn server_crashed(end: &EndState) -> Vec<String> {
    let mut wrong: Vec<String> = end.log.lines().filter(|line| line.contains("panicked")).map(str::to_owned).collect();
    if end.crashed > 0 {
        wrong.push(format!("{} servers ended by themselves", end.crashed));
    }
    if end.leaked_tasks > 0 {
        wrong.push(format!("{} tasks were left behind", end.leaked_tasks));
    }
    wrong
}
