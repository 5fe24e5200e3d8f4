//! Random steps from a seed: messages, clears, lost connections, devices that are closed and reopened, a server that
//! restarts. Afterwards the invariants of the protocol hold (docs/protocol/sync.md).

use std::collections::{BTreeMap, HashSet};

use zim_client_sdk::Error;
use zim_integration_tests::{DataDir, Device, NetworkConditions, Proxy, Random, TIMEOUT, World, eventually, texts};
use zim_protocol::{ConversationType, Message, MessageDirection};

const USERS: [&str; 3] = ["ann", "bob", "carl"];
const STEPS: u64 = 120;

type Call = tokio::task::JoinHandle<Result<Message, Error>>;

/// A device of a user, with its own proxy.
struct Place {
    user: &'static str,
    proxy: Proxy,
    dir: DataDir,
    device: Option<Device>,
    /// The messages that it received before it was closed, by peer.
    received: Vec<(String, Message)>,
}

impl Place {
    async fn open(&mut self, world: &World) {
        let device = world.client_via(&self.proxy, self.dir.clone(), |config| {
            config.request_timeout_ms(3_000).connect_timeout_ms(2_000).resend_window_ms(3_600_000)
        });
        self.device = Some(world.login(device, self.user).await);
    }

    async fn close(&mut self) {
        if let Some(device) = self.device.take() {
            device.quit().await;
            self.remember(&device);
        }
    }

    fn remember(&mut self, device: &Device) {
        for peer in USERS {
            self.received.extend(device.received_from(peer).into_iter().map(|(message, _)| (peer.to_owned(), message)));
        }
    }
}

struct Chaos {
    world: World,
    random: Random,
    places: Vec<Place>,
    calls: Vec<(String, Call)>,
}

impl Chaos {
    async fn new(seed: u64) -> Self {
        let world = World::with(|config| config.limits.offline_after_ms = 2_000).await;
        let mut places = Vec::new();
        for (number, user) in (0..).zip(["ann", "ann", "bob", "bob", "carl"]) {
            let proxy = world.proxy(seed * 100 + number).await;
            let mut place = Place { user, proxy, dir: DataDir::default(), device: None, received: Vec::new() };
            place.open(&world).await;
            places.push(place);
        }
        Self { world, random: Random::new(seed), places, calls: Vec::new() }
    }

    fn pick(&mut self, end: usize) -> usize {
        usize::try_from(self.random.below(end as u64)).unwrap()
    }

    async fn step(&mut self, number: u64) {
        let at = self.pick(self.places.len());
        let peer = {
            let others: Vec<&str> = USERS.into_iter().filter(|user| *user != self.places[at].user).collect();
            others[self.pick(others.len())]
        };
        let advance = self.random.below(50);
        self.world.clock.advance(i64::try_from(advance).unwrap());
        match self.random.below(100) {
            0..60 => self.send(at, peer, number),
            60..75 => {
                if let Some(device) = &self.places[at].device {
                    // It may fail without a connection.
                    let clear = device.clear_conversation_unread_message_count(peer, ConversationType::Peer);
                    let _ = tokio::time::timeout(TIMEOUT, clear).await.expect("an answer");
                }
            }
            75..82 => self.places[at].proxy.cut(),
            82..92 => self.places[at].proxy.restore(),
            92..94 => self.places[at].proxy.set_conditions(NetworkConditions {
                lost: 30,
                duplicated: 30,
                delayed: 50,
                delay_ms: 10,
            }),
            94..96 => self.places[at].proxy.change_source_ports(),
            96..99 => self.reopen(at).await,
            _ => {
                self.world.stop_server().await;
                self.world.start_server().await;
            }
        }
    }

    fn send(&mut self, at: usize, peer: &str, number: u64) {
        let Some(device) = &self.places[at].device else { return };
        let text = format!("{} {at} {number:04}", self.places[at].user);
        self.calls.push((text.clone(), tokio::spawn(device.send(peer, Message::text(text)))));
    }

    /// Closes a device after its messages are answered, and opens it again.
    async fn reopen(&mut self, at: usize) {
        self.places[at].proxy.restore();
        // A login is given up after two seconds, in which a handshake that loses packets may not succeed.
        self.places[at].proxy.set_conditions(NetworkConditions::default());
        let mark = format!(" {at} ");
        let (own, others): (Vec<_>, Vec<_>) = self.calls.drain(..).partition(|(text, _)| text.contains(&mark));
        self.calls = others;
        for (text, call) in own {
            let sent = tokio::time::timeout(TIMEOUT, call).await.unwrap_or_else(|_| panic!("no answer: {text}"));
            self.calls.push((text, tokio::spawn(async move { sent.unwrap() })));
        }
        self.places[at].close().await;
        let world = &self.world;
        self.places[at].open(world).await;
    }

    /// Restores the network and waits until all messages are answered; returns the texts of those that were sent.
    async fn settle(&mut self) -> HashSet<String> {
        for place in &self.places {
            place.proxy.restore();
            place.proxy.set_conditions(NetworkConditions::default());
        }
        let mut sent_texts = HashSet::new();
        for (text, call) in self.calls.drain(..) {
            let sent = tokio::time::timeout(TIMEOUT, call).await.unwrap_or_else(|_| panic!("no answer: {text}"));
            sent.unwrap().unwrap_or_else(|error| panic!("{text}: {error}"));
            sent_texts.insert(text);
        }
        sent_texts
    }
}

/// What a device shows: texts and unread counts by peer.
async fn view(device: &Device) -> BTreeMap<String, (Vec<String>, i64)> {
    let mut view = BTreeMap::new();
    for conversation in device.conversations().await {
        let history = device.history(&conversation.conversation_id).await;
        let seqs: Vec<i64> = history.iter().map(|message| message.message_seq).collect();
        assert_eq!(seqs, (1..=history.len() as i64).collect::<Vec<_>>(), "positions without gaps");
        assert!(history.windows(2).all(|pair| pair[0].timestamp <= pair[1].timestamp), "time never decreases");
        let unread = conversation.unread_message_count;
        let counted = history
            .iter()
            .filter(|message| message.direction() == MessageDirection::Receive)
            .filter(|message| message.message_seq > conversation.read_message_seq)
            .count();
        assert_eq!(unread, counted as i64, "unread count of {}", conversation.conversation_id);
        view.insert(conversation.conversation_id, (texts(&history), unread));
    }
    let total: i64 = view.values().map(|(_, unread)| unread).sum();
    assert_eq!(device.total_unread().await, total);
    view
}

/// The positions that a device raised in a conversation, each once, in order.
fn raised(place: &Place, peer: &str) -> Vec<i64> {
    let mut seqs: Vec<i64> = Vec::new();
    for (_, message) in place.received.iter().filter(|(from, _)| from == peer) {
        // An event is raised at least once: again after a crash between storing and raising it.
        if !seqs.contains(&message.message_seq) {
            seqs.push(message.message_seq);
        }
    }
    seqs
}

async fn run(seed: u64) {
    let mut chaos = Chaos::new(seed).await;
    for number in 0..STEPS {
        chaos.step(number).await;
    }
    let sent_texts = chaos.settle().await;
    let Chaos { world, mut places, .. } = chaos;
    let mut truth = BTreeMap::new();
    for user in USERS {
        let fresh = world.device(user).await;
        truth.insert(user, view(&fresh).await);
        fresh.quit().await;
    }
    // Each message is stored once and shown on both sides.
    let mut stored = Vec::new();
    for (user, view) in &truth {
        for (peer, (texts, _)) in view {
            assert_eq!(texts, &truth[peer.as_str()][*user].0, "{user} and {peer}, seed {seed}");
            if **user < **peer {
                stored.extend(texts.iter().cloned());
            }
            for at in 0..places.len() {
                let mark = format!(" {at} ");
                let own: Vec<&String> = texts.iter().filter(|text| text.contains(&mark)).collect();
                assert!(own.is_sorted(), "the order of device {at}, seed {seed}: {own:?}");
            }
        }
    }
    assert_eq!(stored.len(), sent_texts.len(), "seed {seed}");
    assert_eq!(stored.into_iter().collect::<HashSet<_>>(), sent_texts, "seed {seed}");
    // Every device shows the same and has raised all messages in order.
    for (at, place) in places.iter_mut().enumerate() {
        let device = place.device.take().expect("a device");
        let expected = &truth[place.user];
        eventually(&format!("device {at} of {} catches up, seed {seed}", place.user), async || {
            let unread = |peer: String| {
                let device = &device;
                async move { device.query_conversation(&peer, ConversationType::Peer).await.ok()?.conversation }
            };
            for (peer, (texts, count)) in expected {
                let conversation = unread(peer.clone()).await?;
                let last = conversation.last_message.as_ref().map_or(0, |last| last.message_seq);
                if conversation.unread_message_count != *count || last != texts.len() as i64 {
                    return None;
                }
            }
            Some(())
        })
        .await;
        assert_eq!(&view(&device).await, expected, "device {at} of {}, seed {seed}", place.user);
        device.quit().await;
        place.remember(&device);
        for (peer, (texts, _)) in expected {
            let seqs = raised(place, peer);
            assert!(seqs.is_sorted(), "device {at} raised {peer} out of order, seed {seed}: {seqs:?}");
            let own = format!(" {at} ");
            let others: Vec<i64> =
                (1..).zip(texts).filter(|(_, text)| !text.contains(&own)).map(|(seq, _)| seq).collect();
            let missing: Vec<&i64> = others.iter().filter(|seq| !seqs.contains(seq)).collect();
            assert!(missing.is_empty(), "device {at} never raised {missing:?} of {peer}, seed {seed}");
        }
    }
    drop(places);
    world.end().await;
}

#[tokio::test]
async fn the_invariants_hold_after_chaos_1() {
    run(1).await;
}

#[tokio::test]
async fn the_invariants_hold_after_chaos_2() {
    run(2).await;
}

/// Runs further seeds: `ZIM_TEST_SEEDS=100..200 cargo nextest run chaos_of`.
#[tokio::test]
async fn the_invariants_hold_after_chaos_of_the_seeds_asked_for() {
    let seeds = std::env::var("ZIM_TEST_SEEDS").unwrap_or_else(|_| "3..4".to_owned());
    let (from, to) = seeds.split_once("..").expect("FROM..TO");
    for seed in from.parse().unwrap()..to.parse().unwrap() {
        run(seed).await;
    }
}
