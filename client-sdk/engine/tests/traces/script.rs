use serde_json::{Value, json};
use zim_engine::{Name, Request};
use zim_protocol::{
    BlockEntry, ConversationType, Dirty, FriendEntry, FriendInfo, Page, Push, Snapshot, SyncResult, UserOnlineStatus,
    UserStatus, Welcome, feed_entry::Detail,
};

use super::player::Player;
use super::server::{Server, Talk, VIEWER, profile};
use super::{Random, json};

/// A position beyond the last one.
const IMPOSSIBLE: u64 = 1 << 53;

/// Generates a trace: a server, on which things happen, and a network that loses, repeats and reorders.
struct Script {
    random: Random,
    player: Player,
    server: Server,
    backup: Option<Server>,
    is_online: bool,
    /// Inputs on their way from the event stream.
    events: Vec<Value>,
    requests: Vec<Request>,
    /// Inputs on their way from the session stream: those of one answer together.
    answers: Vec<Vec<Value>>,
    steps: Vec<Value>,
}

/// The trace of a seed.
pub(crate) fn record(seed: u64) -> Value {
    let mut random = Random(seed);
    let is_one_shot = random.percent(3);
    let mut script = Script {
        player: Player::new(VIEWER, is_one_shot),
        server: Server::new(),
        backup: None,
        is_online: false,
        events: Vec::new(),
        requests: Vec::new(),
        answers: Vec::new(),
        steps: Vec::new(),
        random,
    };
    script.past();
    let length = 5 + script.random.below(9);
    while script.steps.len() < length {
        script.server.now += i64::try_from(script.random.below(40_000)).unwrap();
        script.act();
    }
    for _ in 0..4 {
        script.settle();
    }
    json::compact(json!({"seed": seed, "viewer": VIEWER, "isOneShot": is_one_shot, "steps": script.steps}))
}

impl Script {
    /// What happened before the device logs in for the first time.
    fn past(&mut self) {
        for id in ["bob", "carl", "dan"].iter().take(self.random.below(4)) {
            self.server.talks.push(Talk::new(ConversationType::Peer, id));
            let at = self.server.talks.len() - 1;
            let is_long = self.random.percent(5);
            let count = if is_long { 1_050 } else { self.random.below(7) };
            for _ in 0..count {
                self.server.now += 1_000;
                let sender = if self.random.percent(30) { VIEWER } else { id };
                self.server.send(at, sender, true);
            }
            if self.random.percent(40) {
                self.server.read(at, (count / 2) as u64);
            }
        }
        if self.random.percent(40) {
            self.server.enter("crew", 3);
        }
        if self.random.percent(15) {
            let ms = self.server.now - 3_000;
            self.feed(json!({"horizon": {"ms": ms}}));
        }
        if self.random.percent(95) {
            self.connect();
        }
    }

    fn feed(&mut self, input: Value) {
        let (then, requests) = self.player.step(&input);
        if self.is_online {
            self.requests.extend(requests);
        }
        let mut step = input;
        step["then"] = then;
        self.steps.push(step);
    }

    fn act(&mut self) {
        match self.random.below(200) {
            0..38 => self.message(),
            38..46 => self.own_message(),
            46..54 => self.revoke(),
            54..64 => self.group(),
            64..74 => self.read(),
            74..80 => self.own(),
            80..84 => self.snapshot(),
            84..86 => self.floor(),
            86..118 => self.deliver_event(),
            118..142 => self.serve(),
            142..170 => self.deliver_answer(),
            170..174 => self.connection(),
            174..176 => self.crash(),
            176..180 => self.feed(json!({"audit": {}})),
            180..181 => self.feed(json!({"pausePulls": {}})),
            181..185 => self.slow(),
            185..190 => self.history(),
            190..193 => self.question(),
            193..195 => self.backup = Some(self.server.clone()),
            195..197 => self.restore(),
            197..198 => self.odd(),
            _ => self.local(),
        }
    }

    /// Delivers the oldest of everything.
    fn settle(&mut self) {
        if !self.is_online {
            self.connect();
        } else if !self.events.is_empty() {
            let event = self.events.remove(0);
            self.feed(event);
        } else if !self.answers.is_empty() {
            for input in self.answers.remove(0) {
                self.feed(input);
            }
        } else if !self.requests.is_empty() {
            let request = self.requests.remove(0);
            self.answer(&request);
        }
    }

    fn talk(&mut self) -> Option<usize> {
        let count = self.server.talks.len();
        (count > 0).then(|| self.random.below(count))
    }

    /// Sends a push to the device. Some are lost, some arrive twice.
    fn push(&mut self, push: &Push) {
        if !self.is_online || self.random.percent(10) {
            return;
        }
        let input = json!({"push": json::of(push)});
        if self.random.percent(4) {
            self.events.push(input.clone());
        }
        self.events.push(input);
    }

    /// Another user writes, or the viewer on another device.
    fn message(&mut self) {
        if self.server.talks.len() < 4 && self.random.percent(15) {
            let id = format!("u{}", self.server.talks.len());
            self.server.talks.push(Talk::new(ConversationType::Peer, &id));
            let at = self.server.talks.len() - 1;
            let push = self.server.send(at, &id, true);
            self.push(&push);
            return;
        }
        let Some(at) = self.talk().filter(|at| !self.server.talks[*at].has_left()) else { return };
        let other =
            if self.server.talks[at].is_group() { "bob".to_owned() } else { self.server.talks[at].name.id.clone() };
        let sender = if self.random.percent(25) { VIEWER } else { &other };
        let mut push = self.server.send(at, sender, !self.random.percent(10));
        if self.random.percent(15) {
            // One push for several messages.
            self.server.send(at, sender, true);
            push = self.server.messages_push(at, push.from, push.to + 1);
        }
        self.push(&push);
    }

    /// This device writes. The answer has the message without its content; the client fills it in, as long as it knows it.
    fn own_message(&mut self) {
        let Some(at) = self.talk().filter(|at| self.is_online && !self.server.talks[*at].has_left()) else { return };
        let name = json::of(&self.server.talks[at].name);
        let mut push = self.server.send(at, VIEWER, true);
        if self.random.percent(10) {
            push.messages.iter_mut().for_each(|entry| entry.content.clear());
        }
        let answered = json!({"answered": {"conversation": name, "seq": push.to}});
        self.feed(json!({"open": name}));
        self.answers.push(vec![json!({"ownPush": json::of(&push)}), answered]);
    }

    fn revoke(&mut self) {
        let Some(at) = self.talk() else { return };
        let talk = &self.server.talks[at];
        let (floor, end) = (talk.floor, talk.ends().0);
        if talk.has_left() || end <= floor {
            return;
        }
        let seq = end - self.random.number() % (end - floor).min(4);
        let push = self.server.revoke(at, seq);
        self.push(&push);
    }

    fn group(&mut self) {
        let groups: Vec<usize> = (0..self.server.talks.len()).filter(|at| self.server.talks[*at].is_group()).collect();
        if groups.len() < 2 && self.random.percent(40) {
            let others = self.random.number() % 4;
            for push in self.server.enter(if groups.is_empty() { "crew" } else { "gang" }, others) {
                self.push(&push);
            }
            return;
        }
        let Some(at) = groups.get(self.random.below(groups.len())).copied() else { return };
        if self.server.talks[at].has_left() || self.random.percent(30) {
            for push in self.server.stay(at) {
                self.push(&push);
            }
        } else {
            let is_enter = self.random.percent(50);
            let push = self.server.roster(at, "carl", is_enter);
            self.push(&push);
        }
    }

    /// The viewer reads, here or on another device.
    fn read(&mut self) {
        let Some(at) = self.talk() else { return };
        let end = self.server.talks[at].ends().0;
        if end == 0 {
            return;
        }
        let seq = end - self.random.number() % end.min(3);
        let Some(push) = self.server.read(at, seq) else { return };
        if self.is_online && self.random.percent(40) {
            self.answers.push(vec![json!({"ownPush": json::of(&push)})]);
        } else {
            self.push(&push);
        }
    }

    /// A change of what the viewer alone has.
    fn own(&mut self) {
        let place = self.server.now;
        let bob = profile("bob", "Bob").base_info;
        let detail = match self.random.below(4) {
            0 => Detail::Profile(profile(VIEWER, "Ann")),
            1 => {
                let info = Some(FriendInfo { user_id: "bob".to_owned(), ..FriendInfo::default() });
                Detail::Friend(FriendEntry { info, place, ..FriendEntry::default() })
            }
            2 => Detail::Block(BlockEntry { user: bob, place, ..BlockEntry::default() }),
            _ => {
                let Some(at) = self.talk() else { return };
                let push = self.server.introduce(at);
                self.push(&push);
                return;
            }
        };
        let push = self.server.own(detail);
        if self.is_online && self.random.percent(30) {
            self.answers.push(vec![json!({"ownPush": json::of(&push)})]);
        } else {
            self.push(&push);
        }
    }

    /// Another user has a new profile or a new status.
    fn snapshot(&mut self) {
        let mut snapshot = Snapshot::default();
        if self.random.percent(70) {
            let bob = profile("bob", &format!("Bob {}", self.server.now));
            self.server.profiles.push((self.server.now, bob.clone()));
            snapshot.profiles.push(bob);
        } else {
            let (user_id, online_status) = ("bob".to_owned(), UserOnlineStatus::Online as i32);
            let status = UserStatus { user_id, online_status, ..UserStatus::default() };
            self.server.statuses.push((self.server.now, status.clone()));
            snapshot.statuses.push(status);
        }
        if self.is_online {
            self.events.push(json!({"snapshot": json::of(&snapshot)}));
        }
    }

    /// Old messages are deleted.
    fn floor(&mut self) {
        let Some(at) = self.talk() else { return };
        let keep = self.random.number() % 4;
        let talk = &mut self.server.talks[at];
        talk.floor = talk.floor.max(talk.ends().0.saturating_sub(keep));
    }

    fn deliver_event(&mut self) {
        if !self.events.is_empty() {
            // Mostly in order.
            let at = if self.random.percent(85) { 0 } else { self.random.below(self.events.len()) };
            let event = self.events.remove(at);
            self.feed(event);
        }
    }

    fn serve(&mut self) {
        if !self.requests.is_empty() {
            let at = self.random.below(self.requests.len());
            let request = self.requests.remove(at);
            self.answer(&request);
        }
    }

    /// Answers from the present state of the server. The answer is then on its way.
    fn answer(&mut self, request: &Request) {
        let fails = self.random.percent(4);
        let input = match request {
            Request::Sync { ticket, .. } if fails => json!({"syncFailed": {"ticket": ticket}}),
            Request::Sync { ticket, request } => {
                let result = json::of(&self.server.sync(request));
                json!({"synced": {"ticket": ticket, "result": result}})
            }
            Request::Pull { ticket, request } => {
                let without_roster = self.random.percent(5);
                match self.server.pull(request, without_roster).filter(|_| !fails) {
                    Some(page) => json!({"page": {"ticket": ticket, "result": json::of(&page)}}),
                    None => json!({"pullFailed": {"ticket": ticket}}),
                }
            }
        };
        self.answers.push(vec![input]);
    }

    fn deliver_answer(&mut self) {
        if self.answers.is_empty() {
            self.serve();
            return;
        }
        let at = if self.random.percent(75) { 0 } else { self.random.below(self.answers.len()) };
        for input in self.answers.remove(at) {
            self.feed(input);
        }
    }

    fn connect(&mut self) {
        self.is_online = true;
        if self.random.percent(50) {
            let (info, is_named) = (json::of(&profile(VIEWER, "Ann")), self.random.percent(50));
            self.feed(json::compact(json!({"loggedIn": {"info": info, "isNamed": is_named}})));
        }
        let welcome = Welcome { version: 1, epoch: self.server.epoch(), ..Welcome::default() };
        self.feed(json!({"online": json::of(&welcome)}));
    }

    fn disconnect(&mut self) {
        self.is_online = false;
        self.events.clear();
        self.requests.clear();
        self.answers.clear();
    }

    fn connection(&mut self) {
        if self.is_online {
            self.disconnect();
            self.feed(json!({"offline": {}}));
        } else {
            self.connect();
        }
    }

    /// The process ends, or a write fails.
    fn crash(&mut self) {
        if self.random.percent(60) {
            self.disconnect();
            self.feed(json!({"restart": {}}));
        } else {
            self.requests.clear();
            self.feed(json!({"restore": {}}));
        }
    }

    /// The device reads too slowly: its pushes are replaced by a hint.
    fn slow(&mut self) {
        if !self.is_online {
            return;
        }
        let mut dirty = Dirty { all: self.random.percent(5), snapshots: self.random.percent(5), ..Dirty::default() };
        for event in self.events.drain(..) {
            match serde_json::from_value::<Push>(event["push"].clone()).ok().map(|push| push.conversation) {
                Some(Some(name)) if !dirty.conversations.contains(&name) => dirty.conversations.push(name),
                Some(Some(_)) => {}
                Some(None) => dirty.feed = true,
                None => dirty.snapshots = true,
            }
        }
        self.events.push(json!({"dirty": json::of(&dirty)}));
    }

    /// The app reads older messages.
    fn history(&mut self) {
        let Some(at) = self.talk().filter(|at| self.is_online && self.server.talks[*at].ends().0 > 0) else { return };
        let name = &self.server.talks[at].name;
        let state = self.player.engine.state(&Name::from(name));
        let held = state.and_then(|state| state.held.iter().last()).map_or(0, |(lo, _)| lo);
        let anchor = if self.random.percent(50) { held } else { 0 };
        let result = json::of(&self.server.fill(at, anchor));
        // A request from before a reset is answered after it.
        let generation = self.player.engine.generation().saturating_sub(u64::from(self.random.percent(5)));
        let filled = json!({"filled": {"conversation": json::of(name), "generation": generation, "result": result}});
        self.answers.push(vec![json::compact(filled)]);
    }

    /// May a command that was sent after these messages be shown?
    fn question(&mut self) {
        let Some(at) = self.talk() else { return };
        let talk = &self.server.talks[at];
        let (name, seq) = (json::of(&talk.name), talk.ends().0);
        self.feed(json!({"lacksBefore": {"conversation": name, "seq": seq}}));
    }

    /// A backup of the server is restored: positions start a new epoch.
    fn restore(&mut self) {
        if let Some(mut backup) = self.backup.take() {
            backup.epoch = self.server.epoch + 1;
            backup.now = self.server.now;
            self.server = backup;
            if self.is_online {
                self.connection();
            }
        }
    }

    /// The app writes to a conversation that nobody knows yet.
    fn local(&mut self) {
        let name = Talk::new(ConversationType::Peer, "eve").name;
        self.feed(json!({"open": json::of(&name)}));
    }

    /// What no server sends: it changes nothing.
    fn odd(&mut self) {
        let Some(at) = self.talk() else { return };
        let end = self.server.talks[at].ends().0;
        let push = self.server.messages_push(at, end, end);
        let input = match self.random.below(4) {
            0 => json!({"push": json::of(&Push { to: IMPOSSIBLE, ..push })}),
            1 => json!({"push": json::of(&Push { from: 0, ..push })}),
            2 => {
                let page = Page { end_rev: IMPOSSIBLE, ..Page::default() };
                json!({"page": {"ticket": self.ticket(), "result": json::of(&page)}})
            }
            _ => {
                let result = SyncResult { pos: IMPOSSIBLE, epoch: self.server.epoch(), ..SyncResult::default() };
                json!({"synced": {"ticket": self.ticket(), "result": json::of(&result)}})
            }
        };
        self.feed(input);
    }

    /// The ticket of a request in flight, which is then answered, or one that was never used.
    fn ticket(&mut self) -> u64 {
        match self.requests.pop() {
            Some(Request::Sync { ticket, .. } | Request::Pull { ticket, .. }) => ticket,
            None => 999,
        }
    }
}
