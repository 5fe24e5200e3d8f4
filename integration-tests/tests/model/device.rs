//! A device of the model: the SDK's sync engine, a store that survives a crash, and the network to the server.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use zim_client_sdk::engine::{Change, Name, Origin, Output, Position, Ranges, Request, State, SyncEngine};
use zim_protocol::{Dirty, MessageEntry, MessageType, Page, Push, SyncResult, change_entry, feed_entry::Detail};

use super::server::{NAMES, Server, User};

/// An answer in flight to a device on the session stream.
#[derive(Debug)]
pub(crate) enum Answer {
    Synced(u64, Box<SyncResult>),
    Paged(u64, Option<Page>),
    /// The acknowledgement of an own message.
    Sent {
        name: Name,
        push: Push,
        key: u64,
    },
    /// The acknowledgement of an own read mark.
    Read(Push),
}

/// An event in flight on the event stream.
#[derive(Debug)]
pub(crate) enum Event {
    Push(Push),
    Dirty(Dirty),
}

/// A stored message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub key: u64,
    pub version: u64,
    pub is_revoked: bool,
}

impl Row {
    fn of(entry: &MessageEntry) -> Self {
        let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
        Self {
            key: number(&entry.client_key),
            version: number(&entry.content),
            is_revoked: entry.kind == MessageType::Revoke as i32,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Device {
    pub user: User,
    /// The node it is connected to. Events of the other node arrive over a bus that loses more.
    pub node: usize,
    pub core: SyncEngine,
    pub is_online: bool,
    pub events: Vec<Event>,
    pub requests: Vec<Request>,
    pub answers: Vec<Answer>,
    /// The database: positions, ranges, each stored message, what the user deleted, and how many have read a message.
    position: Position,
    states: HashMap<Name, State>,
    pub rows: BTreeMap<(Name, u64), Row>,
    hidden: BTreeSet<(Name, u64)>,
    /// The positions up to which the user deleted all messages.
    cleared: HashMap<Name, u64>,
    pub readers: BTreeMap<(Name, u64), i64>,
    /// Up to where the other user of a peer conversation and this one have read everything.
    receipts: HashMap<Name, (u64, u64)>,
    /// Whether it was told that all messages of all conversations were deleted.
    pub has_all_cleared: bool,
    /// The last message raised to the app, by conversation.
    raised: HashMap<Name, u64>,
}

impl Device {
    pub(crate) fn new(user: User, node: usize) -> Self {
        Self {
            user,
            node,
            core: SyncEngine::new(NAMES[user], Position::default(), []),
            is_online: false,
            events: Vec::new(),
            requests: Vec::new(),
            answers: Vec::new(),
            position: Position::default(),
            states: HashMap::new(),
            rows: BTreeMap::new(),
            hidden: BTreeSet::new(),
            cleared: HashMap::new(),
            readers: BTreeMap::new(),
            receipts: HashMap::new(),
            has_all_cleared: false,
            raised: HashMap::new(),
        }
    }

    pub(crate) fn connect(&mut self, server: &Server) {
        self.is_online = true;
        self.core.online(&vec![server.epoch; 16].into());
        self.store();
    }

    pub(crate) fn disconnect(&mut self) {
        self.is_online = false;
        self.events.clear();
        self.requests.clear();
        self.answers.clear();
        self.core.offline();
        self.store();
    }

    /// The process crashes and starts again: what was not stored is lost.
    pub(crate) fn crash(&mut self) {
        self.disconnect();
        let states = self.states.iter().map(|(name, stored)| {
            let state = State {
                seq: stored.seq,
                rev: stored.rev,
                history_seq: stored.history_seq,
                head_seq: stored.head_seq,
                head_rev: stored.head_rev,
                tally: stored.tally.clone(),
                last_ts: stored.last_ts,
                known: stored.known,
                held: stored.held.clone(),
                ..State::default()
            };
            (name.clone(), state)
        });
        self.core = SyncEngine::new(NAMES[self.user], self.position.clone(), states.collect::<Vec<_>>());
    }

    pub(crate) fn event(&mut self, event: Event) {
        match event {
            Event::Push(push) => self.core.push(push, Origin::Other),
            Event::Dirty(dirty) => self.core.dirtied(&dirty),
        }
        self.store();
    }

    pub(crate) fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::Synced(ticket, result) => self.core.synced(ticket, *result),
            Answer::Paged(ticket, Some(page)) => self.core.page(ticket, page),
            Answer::Paged(ticket, None) => self.core.pull_failed(ticket),
            Answer::Sent { name, mut push, key } => {
                let seq = push.to;
                // The answer has no content: the device knows what it has sent.
                push.messages.iter_mut().for_each(|entry| entry.content = 0_u64.to_be_bytes().to_vec().into());
                self.core.open(&name);
                self.core.push(push, Origin::Own);
                // A pull may have brought it, as it is after a change.
                if !self.is_deleted(&name, seq) {
                    let sent = Row { key, version: 0, is_revoked: false };
                    self.rows.entry((name.clone(), seq)).or_insert(sent);
                }
                self.core.answered(&name, seq);
            }
            Answer::Read(push) => self.core.push(push, Origin::Own),
        }
        self.store();
    }

    /// Answers a request in flight from the server's present state.
    pub(crate) fn serve(&mut self, server: &Server, index: usize) {
        let answer = match self.requests.remove(index) {
            Request::Sync { ticket, request } => Answer::Synced(ticket, Box::new(server.sync(self.user, &request))),
            Request::Pull { ticket, request } => Answer::Paged(ticket, server.pull(self.user, &request)),
        };
        self.answers.push(answer);
    }

    /// Commits a transaction to the device's database.
    pub(crate) fn store(&mut self) {
        let Output { batch, requests, .. } = self.core.take();
        for change in batch.changes {
            match change {
                Change::Messages { name, entries, raise_after, .. } => {
                    for entry in entries {
                        if entry.seq > raise_after {
                            let last = self.raised.insert(name.clone(), entry.seq).unwrap_or(0);
                            assert!(entry.seq > last, "{} was raised {} after {last}", NAMES[self.user], entry.seq);
                        }
                        self.keep(&name, &entry);
                    }
                }
                Change::Changes { name, entries, .. } => {
                    for entry in entries {
                        // A message that is not held comes as it is now, when it is asked for.
                        if let Some(change_entry::Detail::Message(message)) = entry.detail
                            && let Some(row) = self.rows.get_mut(&(name.clone(), message.seq))
                        {
                            *row = Row::of(&message);
                        }
                    }
                }
                Change::Own { detail, .. } => self.own(*detail),
                Change::Drop(name) => {
                    self.rows.retain(|(of, _), _| *of != name);
                    self.states.remove(&name);
                    self.raised.remove(&name);
                }
                Change::DropAll { .. } => {
                    self.rows.clear();
                    self.states.clear();
                    self.raised.clear();
                    self.hidden.clear();
                    self.cleared.clear();
                    self.readers.clear();
                    self.receipts.clear();
                    self.has_all_cleared = false;
                }
                Change::Head(head) => {
                    if let (Some(name), Some(last)) = (&head.conversation, &head.last_message) {
                        self.keep(&Name::from(name), last);
                    }
                }
                // It keeps no list of members.
                Change::Skipped(_) => {}
                Change::LoggedIn { .. } | Change::Profiles(_) | Change::Statuses(_) | Change::Sweep => {}
            }
        }
        for saved in batch.states {
            let mut held: Ranges = self.states.get(&saved.name).map(|state| state.held.clone()).unwrap_or_default();
            for (lo, hi) in saved.held {
                held.insert(lo, hi);
            }
            let mut state = saved.state;
            state.held = held;
            self.states.insert(saved.name, state);
        }
        if let Some(position) = batch.position {
            self.position = position;
        }
        if self.is_online {
            self.requests.extend(requests);
        }
    }

    /// Stores a message, unless its user has deleted it.
    fn keep(&mut self, name: &Name, entry: &MessageEntry) {
        if entry.content.is_empty() || self.is_deleted(name, entry.seq) {
            return;
        }
        let (place, row) = ((name.clone(), entry.seq), Row::of(entry));
        // An answer may have been made before a change that this device knows already.
        let is_newer = |known: &Row| (known.is_revoked, known.version) > (row.is_revoked, row.version);
        if !self.rows.get(&place).is_some_and(is_newer) {
            self.rows.insert(place, row);
        }
    }

    fn is_deleted(&self, name: &Name, seq: u64) -> bool {
        self.hidden.contains(&(name.clone(), seq)) || self.cleared.get(name).is_some_and(|cleared| seq <= *cleared)
    }

    /// Applies an entry of the feed.
    fn own(&mut self, detail: Detail) {
        match detail {
            Detail::MessageDeletion(deletion) => {
                let place = (Name::from(&deletion.conversation.unwrap()), deletion.seq);
                self.rows.remove(&place);
                self.hidden.insert(place);
            }
            Detail::Cleared(cleared) => {
                let name = Name::from(&cleared.conversation.unwrap());
                self.rows.retain(|(of, seq), _| *of != name || *seq > cleared.cleared_seq);
                self.cleared.insert(name, cleared.cleared_seq);
            }
            Detail::Receipt(receipt) => {
                let place = (Name::from(&receipt.conversation.unwrap()), receipt.seq);
                self.readers.insert(place, receipt.read_member_count);
            }
            Detail::ConversationReceipt(receipt) => {
                let name = Name::from(&receipt.conversation.unwrap());
                self.receipts.insert(name, (receipt.peer_seq, receipt.own_seq));
            }
            Detail::AllCleared(_) => self.has_all_cleared = true,
            _ => {}
        }
    }

    pub(crate) fn receipts(&self, name: &Name) -> (u64, u64) {
        self.receipts.get(name).copied().unwrap_or_default()
    }

    pub(crate) fn held(&self, name: &Name) -> Ranges {
        self.states.get(name).map(|state| state.held.clone()).unwrap_or_default()
    }

    /// Delivers everything, in order and without loss.
    pub(crate) fn settle(&mut self, server: &Server) {
        if !self.is_online {
            self.connect(server);
        }
        for round in 0.. {
            assert!(round < 1_000, "{} does not settle", NAMES[self.user]);
            if !self.events.is_empty() {
                let event = self.events.remove(0);
                self.event(event);
            } else if !self.requests.is_empty() {
                self.serve(server, 0);
            } else if !self.answers.is_empty() {
                let answer = self.answers.remove(0);
                self.answer(answer);
            } else {
                assert!(self.core.is_idle(), "{} waits for an answer that is not in flight", NAMES[self.user]);
                return;
            }
        }
    }
}
