//! What was sent, and what is wrong with what devices were told and have.

use std::collections::{BTreeMap, HashMap};

/// How many messages a violation lists.
const LISTED: usize = 10;

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// A user.
    User(&'static str),
    /// The group of all users.
    Group,
    /// The room.
    Room,
}

/// A message that a device sent.
#[derive(Clone, Debug)]
struct Sent {
    text: String,
    device: usize,
    user: &'static str,
    to: To,
    is_acknowledged: bool,
}

impl Sent {
    /// Whether a device must have been told of it. What is said in a room while a node stops may be lost.
    fn is_due(&self, device: usize, user: &str) -> bool {
        let is_for = match self.to {
            To::User(other) => user == self.user || user == other,
            To::Group => true,
            To::Room => false,
        };
        self.is_acknowledged && is_for && device != self.device
    }

    /// Whether it is in the conversation of two users; without them, in the group.
    fn is_in(&self, peers: Option<(&str, &str)>) -> bool {
        match (self.to, peers) {
            (To::User(other), Some((one, two))) => {
                (self.user == one && other == two) || (self.user == two && other == one)
            }
            (To::Group, None) => true,
            _ => false,
        }
    }
}

/// A message of a history: its ID and its text.
pub(super) type Line = (String, String);

/// All messages that were sent.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    sent: Vec<Sent>,
    /// Why messages were not acknowledged, and how often. What is refused in a room does not count.
    refused: BTreeMap<String, usize>,
}

impl Ledger {
    /// Notes a message that a device is about to send. Returns its number and its text.
    pub(super) fn begin(&mut self, device: usize, user: &'static str, to: To) -> (usize, String) {
        let number = self.sent.len();
        let text = format!("message {number}");
        self.sent.push(Sent { text: text.clone(), device, user, to, is_acknowledged: false });
        (number, text)
    }

    /// Notes that a message was acknowledged.
    pub(super) fn acknowledged(&mut self, number: usize) {
        if let Some(sent) = self.sent.get_mut(number) {
            sent.is_acknowledged = true;
        }
    }

    /// Notes why a message was not acknowledged. It may have been stored.
    pub(super) fn refused(&mut self, number: usize, why: String) {
        if self.sent.get(number).is_some_and(|sent| sent.to != To::Room) {
            *self.refused.entry(why).or_default() += 1;
        }
    }

    /// Returns how many messages were sent, and how many of them acknowledged.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.sent.len(), self.sent.iter().filter(|sent| sent.is_acknowledged).count())
    }

    /// Returns why messages were not acknowledged, and how often.
    pub(super) fn refusals(&self) -> BTreeMap<String, usize> {
        self.refused.clone()
    }

    /// Returns the messages that a device must have been told of and was not.
    pub(super) fn missing(&self, device: usize, user: &str, told: &[String]) -> Vec<&str> {
        let times = times(told.iter().map(String::as_str));
        let due = self.sent.iter().filter(|sent| sent.is_due(device, user)).map(|sent| sent.text.as_str());
        due.filter(|text| !times.contains_key(text)).collect()
    }

    /// Returns what is wrong with what a device was told.
    pub(super) fn told(&self, label: &str, (device, user): (usize, &str), told: &[String]) -> Vec<String> {
        let missing = self.missing(device, user, told);
        let wrong = [
            violation(label, "was not told of messages that were acknowledged", &missing),
            violation(label, "was told more than once", &repeated(told.iter().map(String::as_str))),
        ];
        wrong.into_iter().flatten().collect()
    }

    /// Returns what is wrong with a history: of two users, or of the group.
    pub(super) fn stored(&self, label: &str, peers: Option<(&str, &str)>, history: &[Line]) -> Vec<String> {
        let texts = || history.iter().map(|(_, text)| text.as_str());
        let stored = times(texts());
        let acknowledged = self.sent.iter().filter(|sent| sent.is_acknowledged && sent.is_in(peers));
        let lost: Vec<&str> =
            acknowledged.map(|sent| sent.text.as_str()).filter(|text| !stored.contains_key(text)).collect();
        let wrong = [
            violation(label, "lacks messages that were acknowledged", &lost),
            violation(label, "has messages more than once", &repeated(texts())),
        ];
        wrong.into_iter().flatten().collect()
    }
}

/// Returns which histories of a conversation are not like the first.
pub(super) fn differences(conversation: &str, histories: &[(String, Vec<Line>)]) -> Vec<String> {
    let Some(((first, expected), others)) = histories.split_first() else { return Vec::new() };
    let differs = |(label, history): &(String, Vec<Line>)| {
        let at = (0..history.len().max(expected.len())).find(|at| history.get(*at) != expected.get(*at))?;
        let (here, there) = (history.get(at), expected.get(at));
        Some(format!("{conversation}: {label} and {first} have other histories, from {here:?} and {there:?} on"))
    };
    others.iter().filter_map(differs).collect()
}

/// Returns how often each text is there.
fn times<'t>(texts: impl Iterator<Item = &'t str>) -> HashMap<&'t str, usize> {
    let mut times = HashMap::new();
    texts.for_each(|text| *times.entry(text).or_default() += 1);
    times
}

/// Returns the texts that are there more than once.
fn repeated<'t>(texts: impl Iterator<Item = &'t str>) -> Vec<&'t str> {
    let mut repeated: Vec<&str> =
        times(texts).into_iter().filter(|(_, count)| *count > 1).map(|(text, _)| text).collect();
    repeated.sort_unstable();
    repeated
}

/// Returns a violation about messages, if there are any.
fn violation(label: &str, what: &str, texts: &[&str]) -> Option<String> {
    let listed = texts.iter().take(LISTED).copied().collect::<Vec<_>>().join(", ");
    let rest = if texts.len() > LISTED { ", …" } else { "" };
    (!texts.is_empty()).then(|| format!("{label} {what}, {} of them: {listed}{rest}", texts.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ann's first device (0) writes to bob, to the group and into the room; bob (1) writes to ann, and is not answered.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        for (device, user, to) in
            [(0, "ann", To::User("bob")), (0, "ann", To::Group), (0, "ann", To::Room), (1, "bob", To::User("ann"))]
        {
            ledger.begin(device, user, to);
        }
        (0..3).for_each(|number| ledger.acknowledged(number));
        ledger.refused(2, "not in the room".to_owned());
        ledger.refused(3, "no connection".to_owned());
        ledger
    }

    fn texts(numbers: &[usize]) -> Vec<String> {
        numbers.iter().map(|number| format!("message {number}")).collect()
    }

    #[test]
    fn a_device_must_have_been_told_once_of_what_was_acknowledged() {
        let ledger = ledger();
        let told = |device, user, numbers: &[usize]| ledger.told("it", (device, user), &texts(numbers));
        // The room, and what was not acknowledged, are not due.
        assert!(told(1, "bob", &[1, 0]).is_empty() && told(2, "cat", &[1]).is_empty());
        // The sender's own device knows; another one of theirs is told.
        assert!(told(0, "ann", &[]).is_empty());
        let lost = told(2, "ann", &[1]);
        assert!(
            lost.len() == 1 && lost[0].contains("was not told") && lost[0].contains("1 of them: message 0"),
            "{lost:?}"
        );
        let twice = told(1, "bob", &[0, 1, 2, 2]);
        assert!(twice.len() == 1 && twice[0].contains("more than once, 1 of them: message 2"), "{twice:?}");
        assert_eq!(ledger.counts(), (4, 3));
        assert_eq!(ledger.refusals(), BTreeMap::from([("no connection".to_owned(), 1)]));
    }

    #[test]
    fn a_history_has_once_what_was_acknowledged_and_is_the_same_everywhere() {
        let ledger = ledger();
        let lines = |numbers: &[usize]| -> Vec<Line> {
            texts(numbers).into_iter().zip(numbers).map(|(text, number)| (number.to_string(), text)).collect()
        };
        let peers = Some(("bob", "ann"));
        // What was not acknowledged may be there.
        assert!(
            ledger.stored("it", peers, &lines(&[0])).is_empty()
                && ledger.stored("it", peers, &lines(&[0, 3])).is_empty()
        );
        assert!(ledger.stored("it", None, &lines(&[1])).is_empty());
        let lost = ledger.stored("it", peers, &lines(&[3]));
        assert!(lost.len() == 1 && lost[0].contains("lacks messages"), "{lost:?}");
        let twice = ledger.stored("it", None, &lines(&[1, 1]));
        assert!(twice.len() == 1 && twice[0].contains("has messages more than once"), "{twice:?}");
        let histories = |other: &[usize]| [("one".to_owned(), lines(&[0, 3])), ("two".to_owned(), lines(other))];
        assert!(differences("ann and bob", &histories(&[0, 3])).is_empty());
        for other in [&[3, 0][..], &[0], &[0, 3, 4]] {
            assert_eq!(differences("ann and bob", &histories(other)).len(), 1, "{other:?}");
        }
    }
}
