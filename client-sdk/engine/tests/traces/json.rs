use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use zim_engine::{Change, Name, Origin, Position, Progress, Request, State};
use zim_protocol::{ConversationHead, ConversationRef, FeedEntry, Welcome};

/// The keys of inputs.
pub(crate) const INPUTS: [&str; 20] = [
    "audit",
    "dirty",
    "filled",
    "answered",
    "horizon",
    "lacksBefore",
    "loggedIn",
    "offline",
    "online",
    "open",
    "ownPush",
    "page",
    "pausePulls",
    "pullFailed",
    "push",
    "restart",
    "restore",
    "snapshot",
    "syncFailed",
    "synced",
];

/// The keys of changes.
pub(crate) const CHANGES: [&str; 11] =
    ["changes", "drop", "dropAll", "head", "loggedIn", "messages", "own", "profiles", "skipped", "statuses", "sweep"];

/// The JSON of a message of the protocol, without fields that have their default values.
pub(crate) fn of(message: &impl Serialize) -> Value {
    compact(serde_json::to_value(message).unwrap())
}

/// The message of the protocol.
pub(crate) fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
}

/// Removes defaults. An object without fields stays: it is a message that is set.
pub(crate) fn compact(value: Value) -> Value {
    let is_default = |value: &Value| match value {
        Value::Null => true,
        Value::Bool(is) => !is,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(_) => false,
    };
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(key, value)| (key, compact(value)));
            Value::Object(fields.filter(|(_, value)| !is_default(value)).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(compact).collect()),
        other => other,
    }
}

/// Bytes, as the protocol's JSON has them.
pub(crate) fn bytes(bytes: &Bytes) -> Value {
    let welcome = Welcome { epoch: bytes.clone(), ..Welcome::default() };
    serde_json::to_value(welcome).unwrap()["epoch"].take()
}

fn origin_name(origin: Origin) -> &'static str {
    match origin {
        Origin::Own => "own",
        Origin::Other => "other",
        Origin::First => "first",
    }
}

pub(crate) fn name(value: &Value) -> Name {
    Name::from(&read::<ConversationRef>(value))
}

pub(crate) fn reference(name: &Name) -> Value {
    of(&name.to_ref())
}

/// A change. Entries that the input has are named by their positions, and heads by their conversations. `heads` are those of
/// the input that have not been applied yet.
pub(crate) fn change(change: &Change, viewer: &str, heads: &mut Vec<ConversationHead>) -> Value {
    match change {
        Change::Messages { name, entries, raise_after, own_after } => {
            let after = |sender: &str| if sender == viewer { *own_after } else { *raise_after };
            let raised = entries.iter().filter(|entry| entry.seq > after(&entry.sender)).map(|entry| entry.seq);
            let seqs: Vec<u64> = entries.iter().map(|entry| entry.seq).collect();
            json!({"messages": {
                "conversation": reference(name), "seqs": seqs, "raised": raised.collect::<Vec<_>>()
            }})
        }
        Change::Changes { name, entries, origin } => {
            let revs: Vec<u64> = entries.iter().map(|entry| entry.rev).collect();
            json!({"changes": {"conversation": reference(name), "revs": revs, "origin": origin_name(*origin)}})
        }
        Change::Head(head) => {
            let next = heads.iter().position(|other| other.conversation == head.conversation);
            let mut from = heads.remove(next.unwrap_or_else(|| panic!("{head:?} is not in the input")));
            let mut without = Vec::new();
            let mut drop = |name, is_dropped: bool| without.extend(is_dropped.then_some(name));
            drop("lastMessage", head.last_message.is_none() && from.last_message.take().is_some());
            drop("group", head.group.is_none() && from.group.take().is_some());
            drop("peer", head.peer.is_none() && from.peer.take().is_some());
            assert_eq!(**head, from, "a head differs from that of the input");
            json!({"head": {"conversation": of(&from.conversation), "without": without}})
        }
        Change::Own { detail, origin } => {
            let entry = FeedEntry { pos: 0, detail: Some((**detail).clone()) };
            json!({"own": {"entry": of(&entry), "origin": origin_name(*origin)}})
        }
        Change::LoggedIn { info, is_named } => json!({"loggedIn": {"info": of(info), "isNamed": is_named}}),
        Change::Profiles(profiles) => json!({"profiles": of(profiles)}),
        Change::Statuses(statuses) => json!({"statuses": of(statuses)}),
        Change::Drop(name) => json!({"drop": reference(name)}),
        Change::DropAll { epoch } => json!({"dropAll": {"epoch": bytes(epoch)}}),
        Change::Skipped(name) => json!({"skipped": reference(name)}),
        Change::Sweep => json!({"sweep": {}}),
    }
}

/// The state of a conversation, as it is stored.
pub(crate) fn state(name: &Name, state: &State) -> Value {
    let tally = &state.tally;
    let has_base = tally.base_seq + tally.base_n + tally.base_sent > 0;
    compact(json!({
        "conversation": reference(name),
        "seq": state.seq,
        "rev": state.rev,
        "historySeq": state.history_seq,
        "headSeq": state.head_seq,
        "headRev": state.head_rev,
        "lastTs": state.last_ts,
        "isKnown": state.known,
        "fromSeq": state.from_seq,
        "n": tally.n,
        "sent": tally.sent,
        "base": has_base.then(|| json!({"seq": tally.base_seq, "n": tally.base_n, "sent": tally.base_sent})),
        "revoked": tally.revoked,
        "readSeq": tally.read_seq,
        "unread": tally.unread(),
        "held": state.held.iter().map(|(lo, hi)| [lo, hi]).collect::<Vec<_>>(),
    }))
}

pub(crate) fn position(position: &Position) -> Value {
    compact(json!({
        "epoch": bytes(&position.epoch),
        "pos": position.pos,
        "touched": position.touched,
        "isSettled": position.is_settled,
        "profilesAt": position.profiles_at,
    }))
}

pub(crate) fn request(request: &Request) -> Value {
    match request {
        Request::Pull { ticket, request } => json!({"ticket": ticket, "pull": of(request)}),
        Request::Sync { ticket, request } => json!({"ticket": ticket, "sync": of(request)}),
    }
}

pub(crate) fn progress(progress: Progress) -> &'static str {
    match progress {
        Progress::Started => "started",
        Progress::Finished => "finished",
        Progress::Failed => "failed",
    }
}
