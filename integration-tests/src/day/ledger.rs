//! What was done, and what each device must be told of it. The ledger knows what the users did and what the devices raised; it asks
//! neither the server nor a database.

use std::collections::HashMap;

use super::failure::Failure;
use super::plan::Number;

/// Milliseconds since the morning.
pub(super) type Ms = u64;

/// What is on its way for this long after it was acknowledged, and is cut then, is explained.
pub(super) const UNDER_WAY_MS: Ms = 10_000;
/// How long after a restart its consequences are explained: all devices come back, some of them after several attempts.
pub(super) const AFTER_RESTART_MS: Ms = 30_000;

/// What everything that is done begins with, before its number: texts, names of groups and of files, types of reactions, and the data
/// of calls.
const MARK: &str = "day";

/// How often something may be raised, and by whom it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A message to one user.
    Peer,
    /// A message to a group.
    Group,
    /// A message with a file.
    File,
    /// A message to a room.
    Room(u16),
    /// A user has read a message.
    Receipt,
    /// A user reacted to a message.
    Reaction,
    /// A group has another name.
    Rename,
    /// A group was made.
    Created,
    /// A call rings.
    Ring,
    /// A call has ended.
    End,
}

impl Kind {
    /// What people call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Peer => "messages to users",
            Self::Group => "messages to groups",
            Self::File => "messages with files",
            Self::Room(_) => "messages to rooms",
            Self::Receipt => "receipts",
            Self::Reaction => "reactions",
            Self::Rename => "names of groups",
            Self::Created => "new groups",
            Self::Ring => "calls that ring",
            Self::End => "ends of calls",
        }
    }

    /// Whether the server keeps it as a message.
    pub(super) fn is_kept_message(self) -> bool {
        matches!(self, Self::Peer | Self::Group | Self::File)
    }

    /// Whether one event tells of it, and no second one in the same life of a client.
    fn is_once(self) -> bool {
        !matches!(self, Self::Receipt | Self::Reaction)
    }
}

/// Something that a user did.
#[derive(Clone, Debug)]
pub(super) struct Fact {
    pub(super) kind: Kind,
    /// The device that did it.
    pub(super) by: Number,
    pub(super) begun: Ms,
    /// When it was acknowledged; `None`: it failed, or has no answer, and may have happened or not.
    pub(super) done: Option<Ms>,
    /// The devices that must be told.
    pub(super) audience: Vec<Number>,
    /// Other devices that may be told.
    pub(super) may: Vec<Number>,
    /// The message that it is about.
    pub(super) of: Option<u32>,
    /// The position of a message once it is acknowledged, or of the message that it is about.
    pub(super) seq: i64,
    /// The ID of the conversation as the device that did it names it.
    pub(super) to: String,
}

/// How often a device raised something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// When it did so first.
    pub(super) at: Ms,
    /// The life of the client in which it did so last.
    life: u32,
    /// It was raised twice in one life.
    pub(super) is_repeated: bool,
    /// It was raised again in a later life, as events are that are delivered at least once.
    pub(super) is_again: bool,
}

/// A time of a device without a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Away {
    pub(super) from: Ms,
    pub(super) to: Option<Ms>,
    /// The scenario wanted it: the device slept, or was logged out.
    pub(super) is_asleep: bool,
}

/// A time of a device in a room.
#[derive(Clone, Copy, Debug)]
struct Stay {
    room: u16,
    from: Ms,
    to: Option<Ms>,
}

/// What became of the file of a message on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Download {
    /// The bytes are those that were sent.
    Equal,
    /// They are others.
    Different,
    /// It could not be downloaded.
    Failed,
}

/// Whether a time overlaps another one, which may have no end yet.
pub(super) fn overlap((from, to): (Ms, Ms), other: (Ms, Option<Ms>)) -> bool {
    from <= other.1.unwrap_or(Ms::MAX) && to >= other.0
}

/// Everything that was done and raised.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) facts: Vec<Fact>,
    pub(super) seen: Vec<HashMap<u32, Seen>>,
    /// Receipts, by the ID of their message.
    receipts: HashMap<String, u32>,
    pub(super) away: Vec<Vec<Away>>,
    stays: Vec<Vec<Stay>>,
    pub(super) downloads: HashMap<(u32, Number), Download>,
    /// The devices that download the files of messages.
    downloaders: HashMap<u32, Number>,
    pub(super) failures: Vec<Failure>,
    /// When the server was down.
    pub(super) restarts: Vec<(Ms, Option<Ms>)>,
    /// What is wrong whatever else happened.
    pub(super) notes: Vec<String>,
}

impl Ledger {
    /// An empty ledger for so many devices, which are all away.
    pub(super) fn new(devices: usize) -> Self {
        Self {
            facts: Vec::new(),
            seen: vec![HashMap::new(); devices],
            receipts: HashMap::new(),
            away: vec![vec![Away { from: 0, to: None, is_asleep: true }]; devices],
            stays: vec![Vec::new(); devices],
            downloads: HashMap::new(),
            downloaders: HashMap::new(),
            failures: Vec::new(),
            restarts: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Notes what a device is about to do; returns its number.
    pub(super) fn begin(&mut self, fact: Fact) -> u32 {
        self.facts.push(fact);
        u32::try_from(self.facts.len() - 1).unwrap_or(u32::MAX)
    }

    /// Notes that something was acknowledged, and at which position.
    pub(super) fn acknowledge(&mut self, number: u32, at: Ms, seq: i64) {
        if let Some(fact) = self.fact_mut(number) {
            fact.done = Some(at);
            fact.seq = seq;
        }
    }

    /// Returns something by its number.
    pub(super) fn fact(&self, number: u32) -> Option<&Fact> {
        self.facts.get(usize::try_from(number).ok()?)
    }

    fn fact_mut(&mut self, number: u32) -> Option<&mut Fact> {
        self.facts.get_mut(usize::try_from(number).ok()?)
    }

    /// Says which receipt a message has. False: it has one already.
    pub(super) fn reads(&mut self, message_id: &str, receipt: u32) -> bool {
        !self.is_read(message_id) && self.receipts.insert(message_id.to_owned(), receipt).is_none()
    }

    /// Whether somebody has read a message, or was about to.
    pub(super) fn is_read(&self, message_id: &str) -> bool {
        self.receipts.contains_key(message_id)
    }

    /// Returns the receipt of a message.
    pub(super) fn receipt_of(&self, message_id: &str) -> Option<u32> {
        self.receipts.get(message_id).copied()
    }

    /// Says which device downloads the file of a message.
    pub(super) fn downloads_by(&mut self, number: u32, device: Number) {
        self.downloaders.insert(number, device);
    }

    /// Returns the device that downloads the file of a message.
    pub(super) fn downloader_of(&self, number: u32) -> Option<Number> {
        self.downloaders.get(&number).copied()
    }

    /// Returns the files that were sent and not downloaded, with the devices that should.
    pub(super) fn not_downloaded(&self) -> Vec<(u32, Number)> {
        let all = self.downloaders.iter().map(|(number, device)| (*number, *device));
        let is_sent = |number| self.fact(number).is_some_and(|fact| fact.done.is_some());
        all.filter(|wanted| is_sent(wanted.0) && !self.downloads.contains_key(wanted)).collect()
    }

    /// Notes what a device raised.
    pub(super) fn raised(&mut self, device: Number, number: u32, at: Ms, life: u32) {
        let Some(kind) = self.fact(number).map(|fact| fact.kind) else {
            self.notes.push(format!("device {device} was told of number {number}, which nobody did"));
            return;
        };
        let Some(seen) = self.seen.get_mut(usize::from(device)) else { return };
        seen.entry(number)
            .and_modify(|seen| {
                if seen.life == life {
                    seen.is_repeated |= kind.is_once();
                } else {
                    seen.is_again = true;
                }
                seen.life = life;
            })
            .or_insert(Seen { at, life, is_repeated: false, is_again: false });
    }

    /// Returns how a device was told.
    pub(super) fn seen_by(&self, device: Number, number: u32) -> Option<Seen> {
        self.seen.get(usize::from(device))?.get(&number).copied()
    }

    /// Notes that a device has no connection.
    pub(super) fn leaves(&mut self, device: Number, at: Ms, is_asleep: bool) {
        let Some(away) = self.away.get_mut(usize::from(device)) else { return };
        match away.last_mut() {
            Some(last) if last.to.is_none() => last.is_asleep |= is_asleep,
            _ => away.push(Away { from: at, to: None, is_asleep }),
        }
    }

    /// Notes that a device has a connection.
    pub(super) fn returns(&mut self, device: Number, at: Ms) {
        if let Some(last) = self.away.get_mut(usize::from(device)).and_then(|away| away.last_mut()) {
            last.to.get_or_insert(at);
        }
    }

    /// Whether a device had no connection at some moment of a time.
    pub(super) fn is_away(&self, device: Number, from: Ms, to: Ms) -> bool {
        let mut away = self.away.get(usize::from(device)).into_iter().flatten();
        away.any(|away| overlap((from, to), (away.from, away.to)))
    }

    /// Whether a time overlaps a restart of the server, or what follows it.
    pub(super) fn is_restarting(&self, from: Ms, to: Ms) -> bool {
        self.restarts.iter().any(|(begin, end)| overlap((from, to), (*begin, end.map(|end| end + AFTER_RESTART_MS))))
    }

    /// Notes that a device is in a room.
    pub(super) fn enters(&mut self, device: Number, room: u16, at: Ms) {
        if let Some(stays) = self.stays.get_mut(usize::from(device))
            && !stays.iter().any(|stay| stay.room == room && stay.to.is_none())
        {
            stays.push(Stay { room, from: at, to: None });
        }
    }

    /// Notes that a device is in a room no longer, or is about to leave it.
    pub(super) fn exits(&mut self, device: Number, room: u16, at: Ms) {
        let stays = self.stays.get_mut(usize::from(device)).into_iter().flatten();
        for stay in stays.filter(|stay| stay.room == room && stay.to.is_none()) {
            stay.to = Some(at);
        }
    }

    /// Whether a device is in a room.
    pub(super) fn is_in(&self, device: Number, room: u16) -> bool {
        let mut stays = self.stays.get(usize::from(device)).into_iter().flatten();
        stays.any(|stay| stay.room == room && stay.to.is_none())
    }

    /// Returns the devices that are in a room, without one.
    pub(super) fn who_is_in(&self, room: u16, without: Number) -> Vec<Number> {
        let all = (0..).take(self.stays.len());
        all.filter(|device| *device != without && self.is_in(*device, room)).collect()
    }

    /// Whether a device was in a room during all of a time.
    pub(super) fn stayed(&self, device: Number, room: u16, from: Ms, to: Ms) -> bool {
        let mut stays = self.stays.get(usize::from(device)).into_iter().flatten();
        stays.any(|stay| stay.room == room && stay.from < from && stay.to.is_none_or(|end| end > to))
    }

    /// Whether a device has ever been in a room before a moment.
    pub(super) fn has_entered(&self, device: Number, room: u16, before: Ms) -> bool {
        let mut stays = self.stays.get(usize::from(device)).into_iter().flatten();
        stays.any(|stay| stay.room == room && stay.from <= before)
    }
}

/// What a text is that says which number it has.
pub(super) fn mark(number: u32) -> String {
    format!("{MARK} {number}")
}

/// The same as an ID, which has no blanks.
pub(super) fn mark_of_id(number: u32) -> String {
    format!("{MARK}-{number}")
}

/// Returns the number of a text that begins with a mark.
pub(super) fn number_of(text: &str) -> Option<u32> {
    let rest = text.strip_prefix(MARK)?.strip_prefix([' ', '-'])?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_says_its_number() {
        assert_eq!(number_of(&mark(17)), Some(17));
        assert_eq!(number_of(&mark_of_id(17)), Some(17));
        assert_eq!(number_of("day 17: hello 3"), Some(17));
        assert_eq!(number_of("day 17.bin"), Some(17));
        for other in ["day", "day ", "day x3", "club-3", "monday 3", ""] {
            assert_eq!(number_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_device_is_away_until_it_returns() {
        let mut ledger = Ledger::new(1);
        assert!(ledger.is_away(0, 5, 6));
        ledger.returns(0, 10);
        assert!(ledger.is_away(0, 5, 6) && !ledger.is_away(0, 11, 99));
        ledger.leaves(0, 50, false);
        ledger.leaves(0, 60, true);
        assert!(ledger.is_away(0, 11, 99) && !ledger.is_away(0, 11, 49));
        assert!(ledger.away[0].len() == 2 && ledger.away[0][1].is_asleep);
    }

    #[test]
    fn a_stay_is_all_of_a_time_or_it_does_not_count() {
        let mut ledger = Ledger::new(1);
        ledger.enters(0, 3, 10);
        ledger.enters(0, 3, 12);
        assert!(ledger.stayed(0, 3, 11, 99) && !ledger.stayed(0, 3, 9, 99) && !ledger.stayed(0, 4, 11, 99));
        ledger.exits(0, 3, 50);
        assert!(ledger.stayed(0, 3, 11, 49) && !ledger.stayed(0, 3, 11, 50) && !ledger.is_in(0, 3));
        assert!(ledger.has_entered(0, 3, 60) && !ledger.has_entered(0, 3, 9));
    }
}
