//! The invariants of replies, of combined messages, and of messages that do not count as unread.

use serde_json::Value;

use super::action::MessageVerb;
use super::checks::{EndState, lasts, named};
use super::message::verbs;
use super::record::Call;
use super::store::StoredMessage;
use super::verbs::{COMBINED, REPLY, UNCOUNTED};

/// Those of a conversation that were acknowledged: the call, the position and how the text begins.
fn sent<'e>(
    end: &'e EndState,
    kept: &'e super::store::StoredConversation,
) -> impl Iterator<Item = (&'e Call, i64, char)> {
    verbs(end, kept).filter_map(|(call, verb)| {
        let begins = match verb {
            MessageVerb::Reply => REPLY,
            MessageVerb::Combine => COMBINED,
            MessageVerb::Uncounted => UNCOUNTED,
            _ => return None,
        };
        let (_, answer) = call.acknowledged()?;
        Some((call, answer["done"]["seq"].as_i64()?, begins))
    })
}

pub(super) fn answer_lost(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    for kept in &end.kept {
        for (call, seq, begins) in sent(end, kept).filter(|(call, seq, _)| lasts(end, call) && *seq > kept.floor) {
            let text = format!("{begins}{}", call.text);
            let message = kept.messages.iter().find(|message| message.seq == seq);
            // An edited reply begins with what was sent.
            let is_it = |message: &StoredMessage| message.is_revoked || message.text.split(' ').next() == Some(&*text);
            if !message.is_some_and(is_it) {
                wrong.push(format!("{text:?} was acknowledged as {seq} of {}; there is {message:?}", named(kept)));
            }
        }
    }
    wrong
}

/// Divides what a combined message shows into its title and what it combines.
fn parts(text: &str) -> Option<(&str, Vec<&str>)> {
    let (title, rest) = text.split_once(" [")?;
    let rest = rest.strip_suffix(']')?;
    let (mut depth, mut from, mut all) = (0_usize, 0, Vec::new());
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            b'[' => depth += 1,
            b']' => depth = depth.checked_sub(1)?,
            b'|' if depth == 0 => {
                all.push(rest[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    all.push(rest[from..].trim());
    Some((title, all))
}

/// What was combined is as it was, although it may have been edited, revoked or deleted since. `histories_differ` compares what devices
/// are shown with what is stored.
pub(super) fn combined_changed(end: &EndState) -> Vec<String> {
    let mut wrong = Vec::new();
    let stored = || end.kept.iter().flat_map(|kept| &kept.messages).filter(|one| one.text.starts_with(COMBINED));
    for kept in &end.kept {
        for (call, seq, _) in sent(end, kept).filter(|(call, _, begins)| *begins == COMBINED && lasts(end, call)) {
            let Some(message) = kept.messages.iter().find(|one| one.seq == seq && !one.is_revoked) else { continue };
            let told = call.acknowledged().map_or(&Value::Null, |(_, answer)| &answer["done"]["parts"]);
            let told: Vec<&str> = told.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let Some((title, shown)) = parts(&message.text) else {
                wrong.push(format!("{} {seq} combines nothing: {message:?}", named(kept)));
                continue;
            };
            let bare = |part: &&str| match part.starts_with(COMBINED) {
                true => part.split(' ').next().unwrap_or_default().to_owned(),
                false => (*part).to_owned(),
            };
            if title.strip_prefix(COMBINED) != Some(&*call.text) || shown.iter().map(bare).collect::<Vec<_>>() != told {
                wrong.push(format!("{} {seq} shows {:?}, and combined {told:?}", named(kept), message.text));
            }
        }
    }
    // A copy inside another one is like the message itself.
    for outer in stored() {
        for inner in parts(&outer.text).into_iter().flat_map(|(_, parts)| parts) {
            let title = inner.split(' ').next().unwrap_or_default();
            let source = stored().find(|one| title.starts_with(COMBINED) && one.text.split(' ').next() == Some(title));
            if let Some(source) = source.filter(|source| source.text != inner) {
                wrong.push(format!("{inner:?} is a copy of {:?}", source.text));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_combined_message_shows_is_divided_at_its_own_level() {
        assert_eq!(parts("c1 [a b | c2 [d | c3 [e]] | f]"), Some(("c1", vec!["a b", "c2 [d | c3 [e]]", "f"])));
        assert_eq!(parts("c1 [a]"), Some(("c1", vec!["a"])));
        assert_eq!(parts("c1"), None);
    }
}
