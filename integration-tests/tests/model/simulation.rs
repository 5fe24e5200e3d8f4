//! The steps of a simulation, and the invariants after them.

use std::collections::BTreeSet;

use zim_client_sdk::engine::Name;
use zim_protocol::{Dirty, FeedEntry, LogKind, MessageEntry, Push};

use super::Random;
use super::device::{Answer, Device, Event};
use super::server::{Conversation, Kind, Member, Message, NAMES, Server, User};
use zim_server::journal::rules::{Base, Stay};

/// Steps between two full checks.
const ROUND: usize = 100;

pub(crate) struct Simulation {
    random: Random,
    server: Server,
    backup: Option<Server>,
    devices: Vec<Device>,
    keys: u64,
}

fn push(name: zim_protocol::ConversationRef, log: LogKind, at: i64, messages: Vec<MessageEntry>) -> Push {
    let at = at as u64;
    Push { log: log as i32, conversation: Some(name), from: at, to: at, messages, changes: vec![], feed: vec![] }
}

fn feed_push(entry: FeedEntry) -> Push {
    let at = entry.pos as i64;
    Push { conversation: None, feed: vec![entry], ..push(Default::default(), LogKind::Feed, at, vec![]) }
}

impl Simulation {
    pub(crate) fn new(seed: u64) -> Self {
        let mut simulation = Self {
            random: Random(seed),
            server: Server::new(),
            backup: None,
            devices: vec![Device::new(0, 0), Device::new(0, 1), Device::new(1, 1)],
            keys: 0,
        };
        let mut peers = Conversation { peers: vec![0, 1], ..Conversation::default() };
        peers.members = (0..2).map(|user| (user, simulation.member(0, 0, Base::default()))).collect();
        simulation.server.conversations.push(peers);
        simulation.found_group();
        simulation
    }

    fn member(&self, seq: i64, rev: i64, base: Base) -> Member {
        let stay = |from| vec![Stay { from: from + 1, to: None }];
        Member { seqs: stay(seq), revs: stay(rev), read: 0, cleared: 0, base }
    }

    fn found_group(&mut self) {
        let id = format!("g{}", self.server.conversations.len());
        let mut group = Conversation { id, touched: self.server.now, ..Conversation::default() };
        group.members.insert(0, self.member(0, 0, Base::default()));
        self.server.conversations.push(group);
        let index = self.server.conversations.len() - 1;
        self.change(index, None);
    }

    pub(crate) fn run(mut self, steps: usize) {
        for step in 1..=steps {
            self.server.now += self.random.below(40_000) as i64;
            self.step();
            self.nobody_is_ahead();
            if step % ROUND == 0 {
                self.check();
            }
        }
    }

    fn step(&mut self) {
        let device = self.random.below(self.devices.len());
        match self.random.below(1000) {
            0..270 => self.send(device),
            270..282 => self.revoke(device),
            282..300 => self.alter(device),
            300..318 => self.delete(device),
            318..326 => self.receipt(device),
            326..330 => self.receipt_for_all(device),
            330..530 => self.deliver_event(device),
            530..690 => self.serve(device),
            690..850 => self.deliver_answer(device),
            850..890 => self.read(device),
            890..930 => {
                let device = &mut self.devices[device];
                if device.is_online { device.disconnect() } else { device.connect(&self.server) }
            }
            930..945 => self.devices[device].crash(),
            945..960 => self.slow(device),
            960..963 => self.clear(),
            963..964 => self.clear_everything(),
            964..985 => self.membership(),
            985..991 => self.retention(),
            991..994 => self.backup = Some(self.server.clone()),
            994..996 => self.restore(),
            996..998 => self.dismiss(),
            _ if self.server.conversations.len() < 6 => self.found_group(),
            _ => {}
        }
    }

    /// Pushes an event to all devices of a user except the one that caused it. The network loses some pushes.
    fn push_to(&mut self, user: User, cause: Option<usize>, event: impl Fn() -> Push) {
        for (index, device) in self.devices.iter_mut().enumerate() {
            if device.user != user || Some(index) == cause || !device.is_online {
                continue;
            }
            let is_far = cause.is_some_and(|cause| cause % 2 != device.node);
            if self.random.percent(if is_far { 15 } else { 5 }) {
                continue;
            }
            device.events.push(Event::Push(event()));
            if self.random.percent(3) {
                device.events.push(Event::Push(event()));
            }
        }
    }

    fn send(&mut self, device: usize) {
        let user = self.devices[device].user;
        let index = self.random.below(self.server.conversations.len());
        let one = &mut self.server.conversations[index];
        if !self.devices[device].is_online || !one.is_member(user) {
            return;
        }
        self.keys += 1;
        let members = (0..NAMES.len()).filter(|user| one.is_member(*user));
        let is_targeted = one.peers.is_empty() && self.random.percent(15);
        let entitled = members.filter(|member| *member == user || !is_targeted).collect();
        let is_counted = !is_targeted && self.random.percent(90);
        let n = one.n(one.head()) + i64::from(is_counted);
        one.log.push(Message {
            n,
            sender: user,
            is_counted,
            key: self.keys,
            entitled,
            is_targeted,
            version: 0,
            revoked: None,
            hidden: BTreeSet::new(),
            readers: BTreeSet::new(),
        });
        one.touched = self.server.now;
        let (seq, one, key) = (one.head(), one.clone(), self.keys);
        for viewer in (0..NAMES.len()).filter(|viewer| one.is_member(*viewer)) {
            self.push_to(viewer, Some(device), || {
                push(one.name(viewer), LogKind::Messages, seq, one.entries(viewer, seq - 1, seq))
            });
        }
        let mut own = one.entry(user, seq);
        own.content.clear();
        let name = one.name(user);
        let sent = push(name.clone(), LogKind::Messages, seq, vec![own]);
        // The answer may be lost with the connection; the message is stored anyway.
        self.devices[device].answers.push(Answer::Sent { name: Name::from(&name), push: sent, key });
    }

    /// Appends to the log of changes; `also` gets the push although they are no longer a member.
    fn change(&mut self, index: usize, also: Option<User>) {
        self.change_of(index, None, also);
    }

    /// The same, with the message that the change is about.
    fn change_of(&mut self, index: usize, seq: Option<i64>, also: Option<User>) {
        let one = &mut self.server.conversations[index];
        one.rev += 1;
        one.changes.push(seq);
        one.touched = self.server.now;
        let one = one.clone();
        for viewer in (0..NAMES.len()).filter(|viewer| one.is_member(*viewer) || also == Some(*viewer)) {
            self.push_to(viewer, None, || Push {
                changes: vec![one.change_entry(viewer, one.rev)],
                ..push(one.name(viewer), LogKind::Changes, one.rev, vec![])
            });
        }
    }

    /// Chooses a message that the user of a connected device sees: the user, the conversation and the position.
    fn choose(&mut self, device: usize) -> Option<(User, usize, i64)> {
        let user = self.devices[device].user;
        let index = self.random.below(self.server.conversations.len());
        let one = &self.server.conversations[index];
        let kept = one.head() - one.floor;
        if !self.devices[device].is_online || !one.is_member(user) || kept == 0 {
            return None;
        }
        // Mostly a late one.
        let among = if self.random.percent(70) { 4 } else { kept as usize };
        let back = self.random.below(among) as i64;
        let seq = one.head() - back.min(kept - 1);
        one.is_visible(user, seq).then_some((user, index, seq))
    }

    fn revoke(&mut self, device: usize) {
        let Some((user, index, seq)) = self.choose(device) else { return };
        let one = &mut self.server.conversations[index];
        let next = one.rev + 1;
        let message = &mut one.log[seq as usize - 1];
        if message.sender == user && message.revoked.is_none() {
            message.revoked = Some(next);
            self.change_of(index, Some(seq), None);
        }
    }

    /// Edits a message, reacts or replies to it, pins or unpins it.
    fn alter(&mut self, device: usize) {
        let Some((_, index, seq)) = self.choose(device) else { return };
        let message = &mut self.server.conversations[index].log[seq as usize - 1];
        if message.revoked.is_none() {
            message.version += 1;
            self.change_of(index, Some(seq), None);
        }
    }

    /// A user deletes a message for themselves.
    fn delete(&mut self, device: usize) {
        let Some((user, index, seq)) = self.choose(device) else { return };
        self.server.conversations[index].log[seq as usize - 1].hidden.insert(user);
        let push = feed_push(self.server.append(user, Kind::Deletion(seq), index));
        self.push_to(user, None, || push.clone());
    }

    /// A user tells the sender of a message that they have read it.
    fn receipt(&mut self, device: usize) {
        let Some((user, index, seq)) = self.choose(device) else { return };
        let message = &mut self.server.conversations[index].log[seq as usize - 1];
        let sender = message.sender;
        if sender != user && message.revoked.is_none() && message.readers.insert(user) {
            for party in [user, sender] {
                let push = feed_push(self.server.append(party, Kind::Receipt(seq), index));
                self.push_to(party, None, || push.clone());
            }
        }
    }

    /// A user tells the other one that they have read everything that their device has.
    fn receipt_for_all(&mut self, device: usize) {
        let (user, index) = (self.devices[device].user, 0);
        let name = Name::from(&self.server.conversations[index].name(user));
        let seen = self.devices[device].core.state(&name).map_or(0, |state| state.seq as i64);
        let one = &mut self.server.conversations[index];
        // A device with the positions of an ended epoch knows more than there is.
        let through = seen.min(one.head());
        let known = one.receipts.entry(user).or_default();
        if !self.devices[device].is_online || through <= *known {
            return;
        }
        *known = through;
        for party in 0..NAMES.len() {
            let push = feed_push(self.server.append(party, Kind::AllRead, index));
            self.push_to(party, None, || push.clone());
        }
    }

    fn membership(&mut self) {
        let index = 1 + self.random.below(self.server.conversations.len() - 1);
        let user = self.random.below(NAMES.len());
        let one = &mut self.server.conversations[index];
        if one.end.is_some() {
            return;
        }
        let (seq, rev) = (one.head(), one.rev);
        if one.is_member(user) {
            // The own removal is the last entry that the user sees.
            if let Some(member) = one.members.get_mut(&user) {
                member.seqs.last_mut().unwrap().to = Some(seq);
                member.revs.last_mut().unwrap().to = Some(rev + 1);
            }
            self.change(index, Some(user));
            return;
        }
        // The user joins or rejoins: the entries in between are invisible and not counted.
        let base = Base { seq, n: one.n(seq), sent: one.sent(user, seq) };
        match one.members.get_mut(&user) {
            Some(member) => {
                member.seqs.push(Stay { from: seq + 1, to: None });
                member.revs.push(Stay { from: rev + 1, to: None });
                member.base = base;
            }
            None => {
                let member = self.member(seq, rev, base);
                self.server.conversations[index].members.insert(user, member);
            }
        }
        self.change(index, None);
        // The own membership is a feed entry, which carries the conversation's present state.
        let push = feed_push(self.server.append(user, Kind::Membership, index));
        self.push_to(user, None, || push.clone());
    }

    fn dismiss(&mut self) {
        let index = 1 + self.random.below(self.server.conversations.len() - 1);
        if self.server.conversations[index].end.is_none() {
            self.change(index, None);
            let one = &mut self.server.conversations[index];
            one.end = Some((one.head(), one.rev));
        }
    }

    /// Removes old messages. They stay unread until a user reads past them: otherwise a device that is up to date could
    /// not tell how many of them were its own.
    fn retention(&mut self) {
        let index = self.random.below(self.server.conversations.len());
        let keep = self.random.below(6) as i64;
        let one = &mut self.server.conversations[index];
        one.floor = one.floor.max(one.extent().last() - keep);
    }

    fn read(&mut self, device: usize) {
        let user = self.devices[device].user;
        let index = self.random.below(self.server.conversations.len());
        let Some(one) = self.server.conversations.get(index).filter(|one| one.members.contains_key(&user)) else {
            return;
        };
        let name = Name::from(&one.name(user));
        // A device cannot clear what it has not seen.
        let Some(seen) = self.devices[device].core.state(&name).map(|state| state.seq as i64).filter(|seen| *seen > 0)
        else {
            return;
        };
        if !self.devices[device].is_online {
            return;
        }
        if let Some(entry) = self.server.read(user, index, seen) {
            let push = feed_push(entry);
            self.push_to(user, Some(device), || push.clone());
            self.devices[device].answers.push(Answer::Read(push));
        }
    }

    /// A user deletes all messages of a conversation for themselves: on all their devices they are removed and not
    /// unread.
    fn clear(&mut self) {
        let user = self.random.below(NAMES.len());
        let index = self.random.below(self.server.conversations.len());
        self.clear_one(user, index);
    }

    /// A user deletes all messages of all conversations for themselves.
    fn clear_everything(&mut self) {
        let user = self.random.below(NAMES.len());
        for index in 0..self.server.conversations.len() {
            self.clear_one(user, index);
        }
        let push = feed_push(self.server.append(user, Kind::AllCleared, 0));
        self.push_to(user, None, || push.clone());
    }

    fn clear_one(&mut self, user: User, index: usize) {
        let one = &mut self.server.conversations[index];
        if !one.members.contains_key(&user) {
            return;
        }
        let end = one.end_seq(user);
        let base = Base { seq: end, n: one.n(end), sent: one.sent(user, end) };
        if let Some(member) = one.members.get_mut(&user).filter(|member| member.cleared < end) {
            member.cleared = end;
            if base.seq > member.base.seq {
                member.base = base;
            }
            let push = feed_push(self.server.append(user, Kind::Cleared, index));
            self.push_to(user, None, || push.clone());
        }
    }

    fn deliver_event(&mut self, device: usize) {
        let device = &mut self.devices[device];
        if !device.events.is_empty() {
            // Mostly in order.
            let index = if self.random.percent(80) { 0 } else { self.random.below(device.events.len()) };
            let event = device.events.remove(index);
            device.event(event);
        }
    }

    fn serve(&mut self, device: usize) {
        let device = &mut self.devices[device];
        if !device.requests.is_empty() {
            let index = self.random.below(device.requests.len());
            device.serve(&self.server, index);
        }
    }

    fn deliver_answer(&mut self, device: usize) {
        let device = &mut self.devices[device];
        if !device.answers.is_empty() {
            let index = if self.random.percent(70) { 0 } else { self.random.below(device.answers.len()) };
            let answer = device.answers.remove(index);
            device.answer(answer);
        }
    }

    /// A session that reads too slowly: its pushes are replaced by a Dirty frame.
    fn slow(&mut self, device: usize) {
        let device = &mut self.devices[device];
        let mut dirty = Dirty::default();
        for event in device.events.drain(..) {
            match event {
                Event::Push(Push { conversation: Some(name), .. }) => dirty.conversations.push(name),
                Event::Push(_) => dirty.feed = true,
                Event::Dirty(older) => {
                    dirty.feed |= older.feed;
                    dirty.conversations.extend(older.conversations);
                }
            }
        }
        device.events.push(Event::Dirty(dirty));
    }

    /// Restores an older store of the server, with a new epoch.
    fn restore(&mut self) {
        if let Some(mut backup) = self.backup.clone() {
            backup.epoch = self.server.epoch + 1;
            backup.now = self.server.now;
            self.server = backup;
            self.devices.iter_mut().for_each(Device::disconnect);
        }
    }

    /// Asserts that no device is ahead of the server.
    fn nobody_is_ahead(&self) {
        for device in &self.devices {
            if device.core.position().epoch[..] != [self.server.epoch; 16] {
                continue;
            }
            for one in self.server.conversations.iter().filter(|one| one.members.contains_key(&device.user)) {
                if let Some(state) = device.core.state(&Name::from(&one.name(device.user))) {
                    let (heads, ends) =
                        ((state.head_seq, state.head_rev), (one.end_seq(device.user), one.end_rev(device.user)));
                    let is_ahead = heads.0 > ends.0 as u64 || heads.1 > ends.1 as u64;
                    assert!(
                        !is_ahead,
                        "{} knows {heads:?} of {ends:?} in {:?}",
                        NAMES[device.user],
                        one.name(device.user)
                    );
                }
            }
        }
    }

    /// Delivers everything, lets every device run an audit, and asserts that it matches the server.
    fn check(&mut self) {
        for device in &mut self.devices {
            device.settle(&self.server);
            device.core.audit();
            device.store();
            device.settle(&self.server);
            let mut fresh = Device::new(device.user, 0);
            fresh.settle(&self.server);
            assert_eq!(device.core.sums(), self.server.sums(device.user), "the sums of {}", NAMES[device.user]);
            for one in self.server.mine(device.user) {
                assert_agrees(device, &fresh, one);
            }
            let (told, is_told) = (device.has_all_cleared, self.server.has_all_cleared(device.user));
            assert_eq!((told, fresh.has_all_cleared), (is_told, is_told), "{}: all cleared", NAMES[device.user]);
        }
    }
}

fn assert_agrees(device: &Device, fresh: &Device, one: &Conversation) {
    let user = device.user;
    let name = Name::from(&one.name(user));
    let at = format!("{} in {:?}", NAMES[user], name);
    let state = device.core.state(&name).unwrap_or_else(|| panic!("{at}: unknown"));
    let new = fresh.core.state(&name).unwrap_or_else(|| panic!("{at}: unknown to a fresh device"));
    let (end, end_rev) = (one.end_seq(user) as u64, one.end_rev(user) as u64);
    assert!(state.known, "{at}: without a head");
    assert_eq!((state.head_seq, state.head_rev), (end, end_rev), "{at}: positions");
    assert_eq!((new.head_seq, new.head_rev), (end, end_rev), "{at}: positions of a fresh device");
    assert_eq!(state.seq, end, "{at}: not caught up");
    assert_eq!(one.unread(user), one.unread_counted(user), "{at}: the server's unread");
    assert_eq!(state.tally.unread() as i64, one.unread(user), "{at}: unread");
    assert_eq!(new.tally.unread(), state.tally.unread(), "{at}: unread of a fresh device");
    let receipts = one.receipts_of(user);
    assert_eq!((device.receipts(&name), fresh.receipts(&name)), (receipts, receipts), "{at}: receipts for everything");
    let held = device.held(&name);
    for seq in 1..=end {
        let place = (name.clone(), seq);
        let row = device.rows.get(&place);
        let message = one.at(seq as i64);
        let is_hidden = seq as i64 <= one.members[&user].cleared || message.hidden.contains(&user);
        if let Some(row) = row {
            assert_eq!(row.key, message.key, "{at}: another message at {seq}");
            assert!(message.entitled.contains(&user), "{at}: holds {seq}, which the user may not see");
            assert!(!is_hidden, "{at}: holds {seq}, which the user deleted");
            // What changed between two stays is not told, and neither is what is no longer kept.
            let is_of_stay = one.members[&user].seqs.last().is_some_and(|stay| stay.from <= seq as i64);
            // An own message that an answer alone has placed is not held: a page says what has happened to it since.
            if is_of_stay && one.is_member(user) && seq as i64 > one.floor && held.contains(seq) {
                let now = (message.version, message.revoked.is_some());
                assert_eq!((row.version, row.is_revoked), now, "{at}: {seq} is not up to date");
            }
        } else if held.contains(seq) && seq as i64 > one.floor && !is_hidden {
            assert!(!message.entitled.contains(&user), "{at}: {seq} is in the held ranges but not stored");
        }
        let (readers, new) = (device.readers.get(&place).copied(), fresh.readers.get(&place).copied());
        let is_told = message.sender == user || message.readers.contains(&user);
        let expected = Some(message.readers.len() as i64).filter(|count| is_told && *count > 0);
        assert_eq!((readers, new), (expected, expected), "{at}: the readers of {seq}");
    }
}
