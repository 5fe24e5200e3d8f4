//! A device of the model: the SDK's sync engine, a store that survives a crash, and the network to the server.

use std::collections::{BTreeMap, HashMap};

use zim_client_sdk::engine::{Change, Name, Origin, Output, Position, Ranges, Request, State, SyncEngine};
use zim_protocol::{Dirty, Page, Push, SyncResult};

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
    /// The database: positions, ranges, and the key of each stored message.
    position: Position,
    states: HashMap<Name, State>,
    pub rows: BTreeMap<(Name, u64), u64>,
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
            Answer::Sent { name, push, key } => {
                let seq = push.to;
                self.core.open(&name);
                self.core.push(push, Origin::Own);
                self.rows.insert((name.clone(), seq), key);
                self.core.hold(&name, seq);
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
                        if !entry.content.is_empty() {
                            let key = u64::from_be_bytes(entry.client_key[..].try_into().unwrap());
                            self.rows.insert((name.clone(), entry.seq), key);
                        }
                    }
                }
                Change::Drop(name) => {
                    self.rows.retain(|(of, _), _| *of != name);
                    self.states.remove(&name);
                    self.raised.remove(&name);
                }
                Change::DropAll { .. } => {
                    self.rows.clear();
                    self.states.clear();
                    self.raised.clear();
                }
                Change::Head(head) => {
                    if let (Some(name), Some(last)) = (&head.conversation, &head.last_message) {
                        let key = u64::from_be_bytes(last.client_key[..].try_into().unwrap());
                        self.rows.insert((Name::from(name), last.seq), key);
                    }
                }
                Change::Own { .. }
                | Change::LoggedIn { .. }
                | Change::Profiles(_)
                | Change::Statuses(_)
                | Change::Sweep
                | Change::Changes { .. } => {}
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
