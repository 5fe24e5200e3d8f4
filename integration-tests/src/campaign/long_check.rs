//! The invariants of a long run. Each takes time in proportion to what happened.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::action::Action;
use super::checks::{Violation, origin};
use super::long_plan::{DEVICES, groups, is_group};
use super::outage::{is_caught_in, stops_storing};
use super::plan::Fault;
use super::raised::received;
use super::record::{Call, Moment, RaisedEvent};

/// The most violations of a kind that are listed.
const LISTED: usize = 20;

/// What the server has stored.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Of each conversation its number, the position up to which messages are no longer kept, and the last one.
    pub(super) heads: Vec<(i64, i64, i64)>,
    /// Of each message its conversation, position and text, in order.
    pub(super) messages: Vec<(i64, i64, String)>,
}

/// The messages of each conversation that devices have sent, with their positions, in order.
pub(super) type Truth = BTreeMap<String, Vec<(i64, String)>>;

/// The name of the conversation of a user with a peer, for both of them the same.
pub(super) fn chat(user: &str, peer: &str) -> String {
    match (is_group(peer), user < peer) {
        (true, _) => peer.to_owned(),
        (_, true) => format!("{user}+{peer}"),
        _ => format!("{peer}+{user}"),
    }
}

/// Returns whom a user may have a conversation with: all others, and their groups.
pub(super) fn peers(user: &str) -> Vec<&'static str> {
    let others = super::long_plan::USERS.into_iter().filter(|other| *other != user);
    let own = groups().into_iter().filter(|(_, members)| members.contains(&user)).map(|(group, _)| group);
    others.chain(own).collect()
}

/// Lists what is wrong. A run in which everything is wrong does not fill the screen.
#[derive(Debug, Default)]
pub(super) struct Found(Vec<Violation>);

impl Found {
    pub(super) fn add(&mut self, name: &'static str, what: impl Into<String>) {
        if self.0.iter().filter(|one| one.name == name).count() < LISTED {
            self.0.push(Violation { name, what: what.into() });
        }
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(super) fn into_violations(self) -> Vec<Violation> {
        self.0
    }
}

/// Checks what is stored against the calls and their answers; returns what every device must show.
pub(super) fn check_stored(kept: &Kept, calls: &[Call], faults: &[(Moment, Fault)], found: &mut Found) -> Truth {
    let mut seqs: HashMap<i64, Vec<i64>> = HashMap::new();
    for (conversation, seq, _) in &kept.messages {
        seqs.entry(*conversation).or_default().push(*seq);
    }
    for (conversation, floor, head) in &kept.heads {
        let stored = seqs.remove(conversation).unwrap_or_default();
        let is_dense = stored.iter().copied().eq(floor + 1..=*head);
        if !is_dense {
            found.add("positions_dense", format!("conversation {conversation}: {floor}..={head} has {}", stored.len()));
        }
    }
    let by_text: HashMap<&str, &Call> = calls.iter().map(|call| (call.text.as_str(), call)).collect();
    let mut places: HashMap<&str, (i64, i64)> = HashMap::new();
    let (mut truth, mut names) = (Truth::new(), BTreeMap::new());
    // The server itself says something in groups, which is no text.
    for (conversation, seq, text) in kept.messages.iter().filter(|(_, _, text)| !text.is_empty()) {
        let Some(call) = by_text.get(text.as_str()) else {
            found.add("stored_twice", format!("{text:?} was never sent"));
            continue;
        };
        if let Some(place) = places.insert(text, (*conversation, *seq)) {
            found.add("stored_twice", format!("{text:?}: {place:?} and {:?}", (conversation, seq)));
        }
        let Action::Send { peer, .. } = call.action else { continue };
        let chat = chat(DEVICES[call.device], peer);
        if *names.entry(chat.clone()).or_insert(*conversation) != *conversation {
            found.add("acknowledged_lost", format!("{text:?} is in another conversation than others of {chat}"));
        }
        truth.entry(chat).or_default().push((*seq, text.clone()));
    }
    for call in calls {
        let Some((_, answer)) = call.acknowledged() else { continue };
        let acknowledged = answer["messageSeq"].as_i64().unwrap_or(0);
        if places.get(call.text.as_str()).is_none_or(|(_, seq)| *seq != acknowledged) {
            let stored = places.get(call.text.as_str());
            found.add("acknowledged_lost", format!("{:?}: acknowledged at {acknowledged}; {stored:?}", call.text));
        }
    }
    check_order(&truth, &by_text, faults, found);
    truth
}

/// The messages of a device to a conversation are in the order of its calls.
fn check_order(truth: &Truth, calls: &HashMap<&str, &Call>, faults: &[(Moment, Fault)], found: &mut Found) {
    let cannot_store = faults.iter().any(|(_, fault)| stops_storing(fault));
    for (chat, messages) in truth {
        let mut last: HashMap<(usize, u32), u64> = HashMap::new();
        for (_, text) in messages {
            let Some((device, incarnation, number)) = origin(text) else { continue };
            let before = last.insert((device, incarnation), number);
            let Some(before) = before.filter(|before| *before > number) else { continue };
            // One that the server could not store may be sent again after later ones are stored.
            let is_again = cannot_store
                && calls.get(text.as_str()).is_some_and(|call| {
                    matches!(&call.answer, Some((_, Err(failure))) if failure.code == 0) || is_caught_in(call, faults)
                });
            if !is_again {
                found.add("call_order", format!("{chat}: device {device}: call {before} before call {number}"));
            }
        }
    }
}

/// Returns the texts that each device has raised.
pub(super) fn heard(raised: &[RaisedEvent]) -> HashMap<usize, HashSet<String>> {
    let mut all: HashMap<usize, HashSet<String>> = HashMap::new();
    for one in raised {
        all.entry(one.device).or_default().extend(received(one).map(|(_, _, text)| text.to_owned()));
    }
    all
}

/// Returns, by device, messages that it must have raised and has not: all of its user's conversations, except what it sent itself.
pub(super) fn unheard(truth: &Truth, heard: &HashMap<usize, HashSet<String>>) -> Vec<(usize, String)> {
    let mut all = Vec::new();
    for (device, user) in DEVICES.into_iter().enumerate() {
        for peer in peers(user) {
            for (_, text) in truth.get(&chat(user, peer)).into_iter().flatten() {
                let is_own = origin(text).is_some_and(|(of, ..)| of == device);
                if !is_own && heard.get(&device).is_none_or(|heard| !heard.contains(text)) {
                    all.push((device, text.clone()));
                }
            }
        }
    }
    all
}

/// Checks in which order devices raised messages, and how often.
pub(super) fn check_raised(raised: &[RaisedEvent], found: &mut Found) {
    let mut twice = HashSet::new();
    let (mut seen, mut last) = (HashSet::new(), HashMap::new());
    for one in raised {
        for (peer, seq, text) in received(one) {
            if !twice.insert((one.device, one.incarnation, peer, seq)) {
                found.add("raised_twice", format!("device {} with {peer}: {seq} ({text:?})", one.device));
            }
            // A client that ended too early raises a message again.
            if !seen.insert((one.device, peer, seq)) {
                continue;
            }
            if let Some(before) = last.insert((one.device, peer), seq).filter(|before| *before > seq) {
                let what = format!("device {} with {peer}: {seq} ({text:?}) after {before}", one.device);
                found.add("raised_out_of_order", what);
            }
        }
    }
}

/// Says in what the messages that a device shows differ from those that are stored.
pub(super) fn difference(shown: &[(i64, String)], stored: &[(i64, String)]) -> Option<String> {
    if shown == stored {
        return None;
    }
    let [shown_all, stored_all] = [shown, stored].map(|all| all.iter().collect::<BTreeSet<_>>());
    let first = |one: &BTreeSet<_>, other: &BTreeSet<_>| one.difference(other).next().map(|found| format!("{found:?}"));
    let (missing, more) = (first(&stored_all, &shown_all), first(&shown_all, &stored_all));
    Some(format!("{} shown, {} stored; missing: {missing:?}; not stored: {more:?}", shown.len(), stored.len()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::record::Failure;
    use super::*;

    /// A call of the first device of ada, to ben unless it says otherwise.
    fn call(number: usize, peer: &'static str, seq: Option<i64>) -> Call {
        let answer = match seq {
            Some(seq) => Ok(json!({"messageSeq": seq})),
            None => Err(Failure { code: 1, message: String::new() }),
        };
        Call {
            device: 0,
            incarnation: 1,
            action: Action::Send { peer, is_poison: false },
            text: format!("0/1/{number}"),
            call_id: String::new(),
            called: 1,
            answer: Some((2, answer)),
        }
    }

    fn names(kept: &Kept, calls: &[Call]) -> Vec<&'static str> {
        let mut found = Found::default();
        check_stored(kept, calls, &[], &mut found);
        found.into_violations().iter().map(|one| one.name).collect()
    }

    fn kept(messages: &[(i64, i64, usize)]) -> Kept {
        let heads: BTreeMap<i64, i64> = messages.iter().map(|(conversation, seq, _)| (*conversation, *seq)).collect();
        let text = |number: &usize| format!("0/1/{number}");
        Kept {
            heads: heads.into_iter().map(|(conversation, head)| (conversation, 0, head)).collect(),
            messages: messages.iter().map(|(one, seq, number)| (*one, *seq, text(number))).collect(),
        }
    }

    #[test]
    fn what_is_stored_wrong_is_found_by_its_check() {
        let calls = [call(0, "ben", Some(1)), call(1, "ben", Some(2)), call(2, "team1", Some(1)), call(3, "ben", None)];
        let right = [(5, 1, 0), (5, 2, 1), (6, 1, 2)];
        assert_eq!(names(&kept(&right), &calls), [""; 0]);
        for (messages, expected) in [
            (&[(5, 1, 0), (6, 1, 2)][..], &["acknowledged_lost"][..]),
            (&[(5, 1, 0), (5, 3, 1), (6, 1, 2)], &["positions_dense", "acknowledged_lost"]),
            (&[(5, 1, 1), (5, 2, 0), (6, 1, 2)], &["acknowledged_lost", "acknowledged_lost", "call_order"]),
            (&[(5, 1, 0), (5, 2, 1), (5, 3, 3), (5, 4, 3), (6, 1, 2)], &["stored_twice"]),
            (&[(5, 1, 0), (5, 2, 1), (5, 3, 9), (6, 1, 2)], &["stored_twice"]),
            (&[(5, 1, 0), (6, 1, 2), (7, 1, 3), (7, 2, 1)], &["acknowledged_lost", "acknowledged_lost", "call_order"]),
        ] {
            assert_eq!(names(&kept(messages), &calls), expected, "{messages:?}");
        }
    }

    #[test]
    fn both_users_call_a_conversation_the_same() {
        assert_eq!([chat("ben", "ada"), chat("ada", "ben")], ["ada+ben", "ada+ben"]);
        assert_eq!(chat("ben", "team1"), "team1");
        assert_eq!(peers("hugo").len(), 21, "19 others and 2 groups");
    }

    fn event(device: usize, incarnation: u32, messages: &[(i64, &str)]) -> RaisedEvent {
        let one = |(seq, text): &(i64, &str)| json!({"conversationID": "ada", "messageSeq": seq, "message": text});
        let list: Vec<_> = messages.iter().map(one).collect();
        RaisedEvent { device, incarnation, at: 1, event: json!({"name": "peerMessageReceived", "messageList": list}) }
    }

    #[test]
    fn devices_must_raise_what_others_sent_once_and_in_order() {
        let truth = Truth::from([("ada+ben".to_owned(), vec![(1, "0/1/0".to_owned()), (2, "1/1/1".to_owned())])]);
        let [ada, ben] = [0, 1];
        let raised = [event(ada, 1, &[(2, "1/1/1")]), event(ben, 1, &[(1, "0/1/0")]), event(20, 1, &[(1, "0/1/0")])];
        // The second devices of both have not raised everything.
        let missing = [(20, "1/1/1".to_owned()), (21, "0/1/0".to_owned()), (21, "1/1/1".to_owned())];
        assert_eq!(unheard(&truth, &heard(&raised)), missing);
        let names = |raised: &[RaisedEvent]| {
            let mut found = Found::default();
            check_raised(raised, &mut found);
            found.into_violations().iter().map(|one| one.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&raised), [""; 0]);
        let again = [event(ben, 1, &[(1, "a"), (2, "b")]), event(ben, 2, &[(1, "a"), (2, "b"), (3, "c")])];
        assert_eq!(names(&again), [""; 0], "a client that ended too early raises messages again");
        assert_eq!(names(&[event(ben, 1, &[(1, "a")]), event(ben, 1, &[(1, "a")])]), ["raised_twice"]);
        assert_eq!(names(&[event(ben, 1, &[(2, "b"), (1, "a")])]), ["raised_out_of_order"]);
    }

    #[test]
    fn a_difference_is_described() {
        let (one, other) = ([(1, "a".to_owned())], [(2, "b".to_owned())]);
        assert_eq!(difference(&one, &one), None);
        let what = difference(&other, &one).unwrap();
        assert_eq!(what, r#"1 shown, 1 stored; missing: Some("(1, \"a\")"); not stored: Some("(2, \"b\")")"#);
    }

    #[test]
    fn only_the_first_violations_are_listed() {
        let mut found = Found::default();
        (0..100).for_each(|number| found.add("one", number.to_string()));
        found.add("other", "x");
        assert_eq!(found.into_violations().len(), LISTED + 1);
    }
}
