//! The invariants of what only one device has: messages that were inserted there, and data of messages.

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message as _;
use zim_protocol::Message;

use super::action::{Action, MessageVerb};
use super::checks::{DeviceState, EndState, user_of};
use super::record::Call;
use super::rows;
use super::social::{Write, is_unknown, may_remain, write};
use super::verbs::INSERTED;

/// What only one device has.
#[derive(Debug, Default)]
pub(super) struct LocalRows {
    /// The texts of the messages that were inserted.
    inserted: Vec<String>,
    /// The data of messages that the server has stored, by the IDs of the messages; without those that have none.
    data: BTreeMap<String, String>,
    /// The IDs of the messages that the device holds.
    held: Vec<String>,
}

/// Reads what only the device in `folder` has.
///
/// # Errors
/// There is no database.
pub(super) fn held(folder: &Path) -> anyhow::Result<LocalRows> {
    let db = rows::open(folder)?;
    let mut all = LocalRows::default();
    let mut statement = db.prepare("SELECT content FROM message WHERE seq = 0")?;
    for content in statement.query_map([], |row| row.get::<_, Vec<u8>>(0))? {
        let message = Message::decode(&*content?)?;
        all.inserted.extend(message.as_text().filter(|text| text.starts_with(INSERTED)).map(str::to_owned));
    }
    let mut statement = db.prepare("SELECT message_id, local_data FROM message WHERE seq > 0")?;
    for row in statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))? {
        let (id, data) = row?;
        all.held.push(id.to_string());
        all.data.extend((!data.is_empty()).then(|| (id.to_string(), data)));
    }
    Ok(all)
}

/// What a device was told to do, and with whom.
fn verbs_of(end: &EndState, device: usize) -> impl Iterator<Item = (&Call, &'static str, MessageVerb)> {
    end.calls.iter().filter(move |call| call.device == device).filter_map(|call| match call.action {
        Action::Change { peer, verb, .. } => Some((call, peer, verb)),
        _ => None,
    })
}

pub(super) fn local_lost(end: &EndState) -> Vec<String> {
    end.devices.iter().chain(&end.fresh).flat_map(|seen| [inserted(end, seen), data(end, seen)].concat()).collect()
}

fn inserted(end: &EndState, seen: &DeviceState) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut left = seen.local.inserted.clone();
    for (call, peer, _) in verbs_of(end, seen.number).filter(|(.., verb)| *verb == MessageVerb::Insert) {
        let text = format!("{INSERTED}{}", call.text);
        let found = left.iter().filter(|one| **one == text).count();
        left.retain(|one| *one != text);
        // Who deletes all messages of a conversation deletes those that only this device has, too.
        let deletes = |of: &str, verb: MessageVerb| match verb {
            MessageVerb::DeleteAll | MessageVerb::DeleteAllHere => of == peer,
            verb => verb.is_everywhere(),
        };
        let mut deletions = verbs_of(end, seen.number).filter(|&(_, of, verb)| deletes(of, verb));
        let may_be_deleted =
            deletions.any(|(other, ..)| write(end, other, true, ()).is_some_and(|one| one.ended > call.called));
        let answer = call.answer.as_ref().map(|(_, answer)| answer);
        let is_refused = answer.is_some_and(|answer| answer.as_ref().is_err_and(|failure| !is_unknown(failure)));
        let is_right = match (call.acknowledged(), found) {
            (_, 1) => !is_refused,
            (Some(_), 0) => may_be_deleted,
            (None, 0) => true,
            _ => false,
        };
        if !is_right {
            wrong.push(format!("device {} has {found} of {text:?} with {peer}: {:?}", seen.number, call.answer));
        }
    }
    if !left.is_empty() {
        wrong.push(format!("device {} has {left:?}, which was not inserted there", seen.number));
    }
    wrong
}

fn data(end: &EndState, seen: &DeviceState) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut by_message: BTreeMap<&str, Vec<Write<&str>>> = BTreeMap::new();
    // Of a call that was not answered, the message is not known.
    let mut unknown = Vec::new();
    for (call, ..) in verbs_of(end, seen.number).filter(|(.., verb)| *verb == MessageVerb::LocalData) {
        match call.acknowledged().and_then(|(_, answer)| answer["done"]["id"].as_str()) {
            // What the server restores changes nothing of it.
            Some(id) => by_message
                .entry(id)
                .or_default()
                .extend(write(end, call, true, call.text.as_str()).map(|one| Write { is_certain: true, ..one })),
            None => unknown.push(call.text.as_str()),
        }
    }
    // A message that was deleted, and is there again after a restore, is as new.
    let may_be_new = end.restored.is_some()
        && end.calls.iter().any(|call| {
            let deletes = |verb: MessageVerb| {
                [MessageVerb::Delete, MessageVerb::DeleteSome].contains(&verb) || verb.deletes_all() || verb.is_here()
            };
            user_of(call) == seen.user && matches!(call.action, Action::Change { verb, .. } if deletes(verb))
        });
    for (id, writes) in &by_message {
        let data = seen.local.data.get(*id).map_or("", String::as_str);
        let is_held = seen.local.held.iter().any(|held| held == id);
        let may_be = may_remain(writes, &data, &"") || unknown.contains(&data) || (may_be_new && data.is_empty());
        if is_held && !may_be {
            wrong.push(format!("device {} has the data {data:?} of {id} after {writes:?}", seen.number));
        }
    }
    for (id, data) in &seen.local.data {
        if !by_message.contains_key(id.as_str()) && !unknown.contains(&data.as_str()) {
            wrong.push(format!("device {} has the data {data:?} of {id}, which were not set there", seen.number));
        }
    }
    wrong
}
