//! What is wrong with a day, by the ledger: lost events, events that came twice or to the wrong device, errors without a reason, and
//! connections that were lost without one.

use std::collections::{BTreeMap, HashMap};

use super::ledger::{Download, Kind, Ledger, Ms, UNDER_WAY_MS};
use super::plan::Number;

/// The most violations of a kind that are listed.
const LISTED: usize = 10;

/// What a device owes the ledger about something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// It must have raised an event.
    Event,
    /// It must have raised an event, or have the message as it is since then: the event came before the message, or while the device
    /// was away.
    EventOrState,
    /// It need not.
    Nothing,
}

/// An event that a device did not raise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) number: u32,
    pub(super) device: Number,
    /// The device may have the message as it is now instead.
    pub(super) or_state: bool,
}

/// How many events of a kind were due, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// How often users did it.
    pub(super) done: u64,
    /// Those that were not acknowledged.
    pub(super) failed: u64,
    /// The events that devices had to raise, and did.
    pub(super) raised: u64,
    /// Those that devices raised although they need not have.
    pub(super) besides: u64,
}

impl Ledger {
    /// What a device of the audience owes.
    pub(super) fn demand(&self, number: u32, device: Number) -> Demand {
        let Some(fact) = self.fact(number) else { return Demand::Nothing };
        let Some(done) = fact.done else { return Demand::Nothing };
        let (from, to) = (fact.begun, done + UNDER_WAY_MS);
        let is_due = match fact.kind {
            Kind::Peer | Kind::Group | Kind::File | Kind::Rename | Kind::Created => true,
            // What is missed while away is gone.
            Kind::Room(room) => self.stayed(device, room, from, to) && !self.is_away(device, from, to),
            Kind::Ring | Kind::End => !self.is_away(device, from, to),
            Kind::Receipt | Kind::Reaction => {
                let had_it = fact.of.and_then(|message| self.had(message, device)).is_some_and(|at| at < from);
                if !had_it || self.is_away(device, from, to) {
                    return Demand::EventOrState;
                }
                true
            }
        };
        if is_due { Demand::Event } else { Demand::Nothing }
    }

    /// Since when a device has a message.
    fn had(&self, message: u32, device: Number) -> Option<Ms> {
        let fact = self.fact(message)?;
        if fact.by == device { fact.done } else { self.seen_by(device, message).map(|seen| seen.at) }
    }

    /// Returns the events that are due and were not raised.
    pub(super) fn missing(&self) -> Vec<Missing> {
        let mut missing = Vec::new();
        for (fact, number) in self.facts.iter().zip(0..) {
            for device in &fact.audience {
                if self.seen_by(*device, number).is_some() {
                    continue;
                }
                match self.demand(number, *device) {
                    Demand::Nothing => {}
                    demand => {
                        let or_state = demand == Demand::EventOrState;
                        missing.push(Missing { number, device: *device, or_state });
                    }
                }
            }
        }
        missing
    }

    /// Counts what was done and raised, by kind.
    pub(super) fn counts(&self) -> BTreeMap<&'static str, Count> {
        let mut counts: BTreeMap<&'static str, Count> = BTreeMap::new();
        for fact in &self.facts {
            let count = counts.entry(fact.kind.name()).or_default();
            count.done += 1;
            count.failed += u64::from(fact.done.is_none());
        }
        for (seen, device) in self.seen.iter().zip(0..) {
            for number in seen.keys() {
                let Some(fact) = self.fact(*number) else { continue };
                let count = counts.entry(fact.kind.name()).or_default();
                let is_due = fact.audience.contains(&device) && self.demand(*number, device) != Demand::Nothing;
                *(if is_due { &mut count.raised } else { &mut count.besides }) += 1;
            }
        }
        counts
    }

    /// Returns how many events were raised again after the client was closed.
    pub(super) fn raised_again(&self) -> usize {
        self.seen.iter().flat_map(HashMap::values).filter(|seen| seen.is_again).count()
    }

    /// Returns what is wrong. `missing` is what nobody could explain in the end.
    pub(super) fn violations(&self, missing: &[Missing]) -> Vec<String> {
        let mut list = List::default();
        for Missing { number, device, .. } in missing {
            list.add("lost events", format!("device {device} was not told of {}", self.describe(*number)));
        }
        for (seen, device) in self.seen.iter().zip(0..) {
            for (number, seen) in seen {
                let Some(fact) = self.fact(*number) else { continue };
                if seen.is_repeated {
                    list.add("events raised twice", format!("device {device}: {}", self.describe(*number)));
                }
                let may = match fact.kind {
                    Kind::Room(room) => device == fact.by || self.has_entered(device, room, seen.at),
                    _ => fact.audience.contains(&device) || fact.may.contains(&device),
                };
                if !may {
                    list.add("events of others", format!("device {device} was told of {}", self.describe(*number)));
                }
            }
        }
        for (number, device) in self.not_downloaded() {
            list.add("files", format!("device {device} did not download {}", self.describe(number)));
        }
        for ((number, device), download) in &self.downloads {
            if *download != Download::Equal {
                list.add("files", format!("device {device}: {download:?}: {}", self.describe(*number)));
            }
        }
        for failure in self.failures.iter().filter(|failure| !failure.is_explained(self)) {
            let (area, devices) = (failure.area, &failure.devices);
            list.add(
                "errors without a reason",
                format!("{area:?} of devices {devices:?} after {} ms: {}", failure.at, failure.text),
            );
        }
        for (away, device) in self.away.iter().zip(0..) {
            let lost = away.iter().filter(|away| !away.is_asleep && !self.is_restarting(away.from, away.from));
            for away in lost {
                let text = format!("device {device} lost its connection after {} ms", away.from);
                list.add("connections lost without a reason", text);
            }
            if away.last().is_none_or(|away| away.to.is_none()) {
                list.add("connections that did not return", format!("device {device}"));
            }
        }
        for note in &self.notes {
            list.add("other", note.clone());
        }
        list.texts()
    }

    fn describe(&self, number: u32) -> String {
        let Some(fact) = self.fact(number) else { return format!("number {number}") };
        let done = fact.done.map_or_else(|| "not acknowledged".to_owned(), |done| format!("acknowledged at {done}"));
        format!(
            "number {number} ({:?} of device {} to {:?}, begun at {} ms, {done})",
            fact.kind, fact.by, fact.to, fact.begun
        )
    }
}

/// Violations by kind, with an end.
#[derive(Debug, Default)]
struct List(BTreeMap<&'static str, Vec<String>>);

impl List {
    fn add(&mut self, kind: &'static str, text: String) {
        self.0.entry(kind).or_default().push(text);
    }

    fn texts(self) -> Vec<String> {
        let mut texts = Vec::new();
        for (kind, all) in self.0 {
            let more = all.len().saturating_sub(LISTED);
            texts.extend(all.into_iter().take(LISTED).map(|text| format!("{kind}: {text}")));
            if more > 0 {
                texts.push(format!("{kind}: and {more} more"));
            }
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::Fact;
    use super::*;

    /// A fact of device 0 about which device 1 must be told.
    fn fact(kind: Kind, begun: Ms) -> Fact {
        let to = "bob".to_owned();
        Fact { kind, by: 0, begun, done: None, audience: vec![1], may: vec![2], of: None, seq: 0, to }
    }

    /// A ledger of devices that are all connected.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(4);
        (0..4).for_each(|device| ledger.returns(device, 0));
        ledger
    }

    /// The violations, with everything that is missing.
    fn violations(ledger: &Ledger) -> Vec<String> {
        ledger.violations(&ledger.missing())
    }

    #[test]
    fn an_acknowledged_message_that_a_device_does_not_raise_is_lost() {
        let mut ledger = ledger();
        let number = ledger.begin(fact(Kind::Peer, 100));
        assert!(ledger.missing().is_empty(), "it may not have been sent");
        ledger.acknowledge(number, 110, 1);
        // A phone that sleeps must be told later.
        ledger.leaves(1, 105, true);
        ledger.returns(1, 500);
        assert_eq!(ledger.missing(), [Missing { number, device: 1, or_state: false }]);
        assert!(violations(&ledger)[0].starts_with("lost events: device 1"));
        ledger.raised(1, number, 600, 2);
        assert!(violations(&ledger).is_empty());
    }

    #[test]
    fn a_second_event_is_allowed_in_the_next_life_only() {
        let mut ledger = ledger();
        let number = ledger.begin(fact(Kind::Group, 100));
        ledger.acknowledge(number, 110, 1);
        ledger.raised(1, number, 120, 1);
        ledger.raised(1, number, 130, 2);
        assert!(violations(&ledger).is_empty() && ledger.raised_again() == 1);
        ledger.raised(1, number, 140, 2);
        assert!(violations(&ledger)[0].starts_with("events raised twice"));
    }

    #[test]
    fn who_is_not_in_a_conversation_must_not_be_told() {
        let mut ledger = ledger();
        let number = ledger.begin(fact(Kind::Peer, 100));
        ledger.raised(2, number, 120, 1);
        assert!(violations(&ledger).is_empty(), "it may");
        ledger.raised(3, number, 120, 1);
        assert!(violations(&ledger)[0].starts_with("events of others: device 3"));
    }

    #[test]
    fn a_message_to_a_room_is_due_only_where_a_device_was_all_the_time() {
        let mut ledger = ledger();
        let number = ledger.begin(fact(Kind::Room(0), 100));
        ledger.acknowledge(number, 110, 0);
        assert!(ledger.missing().is_empty(), "it was not there");
        ledger.enters(1, 0, 50);
        assert_eq!(ledger.missing().len(), 1);
        ledger.exits(1, 0, 5_000);
        assert!(ledger.missing().is_empty(), "it left while the message was on its way");
        ledger.raised(2, number, 120, 1);
        assert!(violations(&ledger)[0].starts_with("events of others: device 2"), "it never entered");
    }

    #[test]
    fn a_receipt_needs_an_event_where_the_message_was() {
        let mut ledger = ledger();
        let message = ledger.begin(Fact { audience: vec![1, 2], ..fact(Kind::Peer, 100) });
        ledger.acknowledge(message, 110, 1);
        ledger.raised(1, message, 120, 1);
        ledger.raised(2, message, 300, 1);
        let receipt = Fact { by: 3, audience: vec![0, 1, 2], of: Some(message), ..fact(Kind::Receipt, 200) };
        let receipt = ledger.begin(receipt);
        ledger.acknowledge(receipt, 210, 0);
        let due: Vec<(Number, bool)> = ledger.missing().iter().map(|it| (it.device, it.or_state)).collect();
        assert_eq!(due, [(0, false), (1, false), (2, true)]);
        assert!(ledger.reads("id", receipt) && !ledger.reads("id", receipt));
    }

    #[test]
    fn a_connection_is_lost_in_a_restart_or_for_no_reason() {
        let mut ledger = ledger();
        ledger.restarts.push((1_000, Some(2_000)));
        ledger.leaves(1, 1_001, false);
        ledger.returns(1, 3_000);
        ledger.leaves(2, 90_000, true);
        ledger.returns(2, 91_000);
        assert!(violations(&ledger).is_empty());
        ledger.leaves(3, 90_000, false);
        assert_eq!(violations(&ledger).len(), 2, "without a reason, and it did not return");
    }

    #[test]
    fn a_file_must_arrive_as_it_was_sent() {
        let mut ledger = ledger();
        let number = ledger.begin(fact(Kind::File, 100));
        ledger.acknowledge(number, 110, 1);
        ledger.raised(1, number, 120, 1);
        ledger.downloads_by(number, 1);
        assert!(violations(&ledger)[0].starts_with("files: device 1 did not download"));
        ledger.downloads.insert((number, 1), Download::Equal);
        assert!(violations(&ledger).is_empty());
        ledger.downloads.insert((number, 1), Download::Different);
        assert!(violations(&ledger)[0].starts_with("files: device 1: Different"));
    }
}
