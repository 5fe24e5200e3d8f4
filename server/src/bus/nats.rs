//! The bus on NATS: core publish and subscribe. The server of NATS keeps nothing.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, Message, ServerAddr, Subscriber};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zim_protocol::SessionInfo;

use super::asking::{Asking, Question, SessionsAnswer, SessionsQuestion, StoredQuestion, answers_to, pages};
use super::hint::{self, Beat, Packet};
use super::numbers::{NodeId, Numbers, SUBJECTS};
use super::outgoing::{Outgoing, Queue};
use super::{Bus, BusState, Connected, Heard};
use crate::config::BusUrl;
use crate::db::Lease;
use crate::effect::Effect;
use crate::key::{AppKey, LoginKey};

/// How often a node sends a beat.
const BEAT: Duration = Duration::from_secs(1);
/// How often the connection is checked: a server of NATS that no longer responds is noticed after three of them.
const PING: Duration = Duration::from_secs(2);
/// The time limit for connecting.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest pause between two attempts to connect again.
const RECONNECT: Duration = Duration::from_millis(500);
/// After so long without a packet or a beat, hints of a node do not arrive.
const SILENT: Duration = Duration::from_secs(4);
/// How long other nodes have to say which sessions they have.
const ANSWER: Duration = Duration::from_secs(1);
/// How long a node that leaves may take to send what waits.
const LEAVE: Duration = Duration::from_secs(2);
/// For this long, a node may hear others for the first time in the middle of their packets.
const NEW: Duration = Duration::from_secs(5);

/// Why the bus cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{bus} cannot be used: {problem}")]
pub struct BusError {
    bus: BusUrl,
    problem: String,
}

/// The bus on NATS.
#[derive(Debug)]
pub(crate) struct Nats {
    node: NodeId,
    queue: Queue,
    client: Client,
    prefix: String,
    is_up: AtomicBool,
    asking: Asking,
    lease: Arc<Lease>,
    /// When other nodes were heard last.
    heard_at: Mutex<HashMap<NodeId, Instant>>,
}

impl Nats {
    fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Whether all other nodes have been heard of late. One that has just joined has some time.
    fn hears_all(&self) -> bool {
        let (peers, now) = (self.lease.peers(), Instant::now());
        let mut heard_at = self.heard_at.lock();
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < SILENT;
        // A node that is heard and not known has just joined or just left.
        heard_at.retain(|node, at| peers.contains(node) || is_fresh(*at));
        for peer in peers {
            heard_at.entry(peer).or_insert(now);
        }
        heard_at.values().all(|at| is_fresh(*at))
    }

    /// The number of other nodes.
    fn count_others(&self) -> usize {
        let heard_at = self.heard_at.lock();
        heard_at.len() + self.lease.peers().iter().filter(|peer| !heard_at.contains_key(peer)).count()
    }

    /// Sends what waits, and no more after that.
    pub(crate) async fn leave(&self) {
        let sent = async {
            while !self.queue.is_empty() {
                sleep(Duration::from_millis(1)).await;
            }
            self.client.flush().await
        };
        if self.is_connected() && !matches!(timeout(LEAVE, sent).await, Ok(Ok(()))) {
            tracing::warn!("the last hints of this node may be lost; the others notice that it is gone");
        }
    }
}

impl Bus for Nats {
    fn publish(&self, effects: &[Effect]) {
        if !effects.is_empty() {
            self.queue.add(hint::encode(effects));
        }
    }

    fn state(&self) -> BusState {
        if self.is_up.load(Ordering::Relaxed) { BusState::Up } else { BusState::Down }
    }

    fn sessions(&self, app: AppKey, user_id: &str) -> BoxFuture<'_, Vec<SessionInfo>> {
        let user_id = user_id.to_owned();
        async move {
            let (number, answers) = self.asking.begin(self.node);
            let (node, generation) = (u32::from(self.node.0), self.node.1);
            let question = SessionsQuestion { node, generation, number, app: app.0, user_id, stored: None };
            let answer = self.ask(question, answers).await;
            self.asking.end(self.node, number);
            answer.sessions
        }
        .boxed()
    }

    fn stored(&self, question: StoredQuestion) -> BoxFuture<'_, Vec<LoginKey>> {
        async move {
            let (number, answers) = self.asking.begin(self.node);
            let (node, generation) = (u32::from(self.node.0), self.node.1);
            let stored = Some(question);
            let question = SessionsQuestion { node, generation, number, stored, ..SessionsQuestion::default() };
            let answer = self.ask(question, answers).await;
            self.asking.end(self.node, number);
            answer.logins.into_iter().map(LoginKey).collect()
        }
        .boxed()
    }
}

impl Nats {
    async fn ask(&self, question: SessionsQuestion, mut answers: UnboundedReceiver<SessionsAnswer>) -> SessionsAnswer {
        let (mut all, mut left) = (SessionsAnswer::default(), self.count_others());
        let subject = format!("{}.ask", self.prefix);
        if left == 0
            || !self.is_connected()
            || self.client.publish(subject, question.encode_to_vec().into()).await.is_err()
        {
            return all;
        }
        let until = Instant::now() + ANSWER;
        while left > 0 {
            let Ok(Some(answer)) = timeout_at(until, answers.recv()).await else {
                tracing::warn!(nodes = left, "nodes did not say which sessions they have");
                break;
            };
            all.sessions.extend(answer.sessions);
            all.logins.extend(answer.logins);
            left -= usize::from(answer.is_last);
        }
        all
    }

    /// Answers a question of another node.
    pub(crate) async fn answer(&self, question: &Question, sessions: Vec<SessionInfo>) {
        self.send_answer(question, pages(sessions)).await;
    }

    /// Answers another node which logins have stored a message.
    pub(crate) async fn answer_stored(&self, question: &Question, logins: Vec<LoginKey>) {
        let logins = logins.into_iter().map(|login| login.0).collect();
        self.send_answer(question, vec![SessionsAnswer { logins, is_last: true, sessions: Vec::new() }]).await;
    }

    async fn send_answer(&self, question: &Question, pages: Vec<SessionsAnswer>) {
        let subject = format!("{}{}", self.prefix, question.reply_to);
        for page in pages {
            if let Err(error) = self.client.publish(subject.clone(), page.encode_to_vec().into()).await {
                tracing::warn!(%error, "a question of another node was not answered");
            }
        }
    }
}

/// Connects a node to the bus of its deployment, and starts its tasks, which end with `end`.
///
/// # Errors
/// There is no server of NATS at the address, or it does not accept this one.
pub(crate) async fn connect(
    url: &BusUrl,
    deployment: &str,
    lease: &Arc<Lease>,
    (tasks, end): (&TaskTracker, &CancellationToken),
) -> Result<Connected, BusError> {
    let node = (lease.number(), lease.generation());
    let failed = |problem: String| BusError { bus: url.clone(), problem };
    let addresses = addresses(url).map_err(failed)?;
    let options = options(url, &addresses, node).await.map_err(failed)?;
    let client = options.connect(addresses).await.map_err(|error| failed(explain(error.kind(), &error)))?;
    let prefix = format!("zim.{deployment}");
    let subscribed = client.subscribe(format!("{prefix}.>")).await.map_err(|error| failed(error.to_string()))?;
    // The subscription is in force before this node has a connection.
    client.flush().await.map_err(|error| failed(error.to_string()))?;
    let bus = Arc::new(Nats {
        node,
        queue: Queue::new(node),
        client,
        prefix,
        is_up: AtomicBool::new(true),
        asking: Asking::default(),
        lease: Arc::clone(lease),
        heard_at: Mutex::default(),
    });
    let (sender, heard) = unbounded_channel();
    tasks.spawn(end.clone().run_until_cancelled_owned(send(Arc::clone(&bus))));
    tasks.spawn(end.clone().run_until_cancelled_owned(beat(Arc::clone(&bus), sender.clone())));
    tasks.spawn(end.clone().run_until_cancelled_owned(listen(Arc::clone(&bus), subscribed, sender)));
    Ok(Connected { bus, heard })
}

fn addresses(url: &BusUrl) -> Result<Vec<ServerAddr>, String> {
    url.servers().map(|server| server.parse::<ServerAddr>().map_err(|error| error.to_string())).collect()
}

async fn options(url: &BusUrl, addresses: &[ServerAddr], node: NodeId) -> Result<ConnectOptions, String> {
    let mut options = ConnectOptions::new()
        .name(format!("zim-server node {}", node.0))
        .no_echo()
        .ping_interval(PING)
        .connection_timeout(CONNECT)
        .reconnect_delay_callback(|attempts| RECONNECT.min(Duration::from_millis(50 * attempts as u64)))
        .event_callback(async |event| match event {
            Event::Connected => tracing::info!("the bus is connected"),
            Event::Disconnected => tracing::warn!("the connection to the bus is lost; reconnecting"),
            other => tracing::warn!(event = %other, "the bus"),
        });
    let first = addresses.first();
    let user = first.and_then(ServerAddr::username).map(decoded);
    options = match (user, first.and_then(ServerAddr::password).map(decoded)) {
        (Some(user), Some(password)) => options.user_and_password(user, password),
        (Some(token), None) => options.token(token),
        (None, _) => options,
    };
    if let Some(file) = url.parameter("credentials") {
        options = options.credentials_file(file).await.map_err(|error| format!("credentials is {file}: {error}"))?;
    }
    if let Some(file) = url.parameter("ca") {
        options = options.add_root_certificates(PathBuf::from(file));
    }
    Ok(options)
}

/// Replaces the escapes of an address.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(escaped) => {
                out.push(escaped);
                out.extend_from_slice(&part.as_bytes()[2..]);
            }
            None => out.extend(b"%".iter().chain(part.as_bytes())),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Says what to do about an error.
fn explain(kind: ConnectErrorKind, error: &dyn std::error::Error) -> String {
    match kind {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            "NATS refuses the user, the password, the token or the credentials".to_owned()
        }
        ConnectErrorKind::Tls => format!("its certificate is not accepted, or it has none: {error}"),
        ConnectErrorKind::TimedOut => "there is no answer as of a server of NATS".to_owned(),
        _ => format!("there is no server of NATS: {error}"),
    }
}

/// Sends what waits.
async fn send(bus: Arc<Nats>) {
    let subjects: Vec<String> = (0..SUBJECTS).map(|subject| format!("{}.hint.{subject}", bus.prefix)).collect();
    let beat = format!("{}.beat", bus.prefix);
    let (packets, bytes) = (metrics::counter!("zim_bus_packets_total"), metrics::counter!("zim_bus_bytes_total"));
    let sent_hints = metrics::counter!("zim_bus_hints_total");
    loop {
        for outgoing in bus.queue.take().await {
            if !bus.is_connected() {
                // It would arrive late, when the others have read the database already. Its number is missing then.
                metrics::counter!("zim_bus_dropped_total").increment(1);
                continue;
            }
            let (subject, payload) = match outgoing {
                Outgoing::Packet { subject, payload, hints } => {
                    sent_hints.increment(hints as u64);
                    (&subjects[subject], payload)
                }
                Outgoing::Beat(payload) => (&beat, payload),
            };
            packets.increment(1);
            bytes.increment(payload.len() as u64);
            if let Err(error) = bus.client.publish(subject.clone(), payload).await {
                tracing::warn!(%error, "a hint was not sent");
            }
        }
    }
}

/// Sends beats and watches the connection.
async fn beat(bus: Arc<Nats>, heard: UnboundedSender<Heard>) {
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        let is_up = bus.hears_all() && bus.is_connected();
        metrics::gauge!("zim_bus_up").set(if is_up { 1.0 } else { 0.0 });
        if bus.is_up.swap(is_up, Ordering::Relaxed) != is_up {
            let state =
                if is_up { "hints arrive again" } else { "hints do not arrive: this node reads the database instead" };
            tracing::warn!(state, "the bus");
            // Whatever was sent meanwhile is missing.
            drop(heard.send(Heard::Gap));
        }
        bus.queue.add_beat();
    }
}

/// Hears the other nodes.
async fn listen(bus: Arc<Nats>, mut subscribed: Subscriber, heard: UnboundedSender<Heard>) {
    let (begun, mut numbers) = (Instant::now(), Numbers::default());
    while let Some(message) = subscribed.next().await {
        let is_new = begun.elapsed() < NEW;
        for heard_now in hear(&bus, &mut numbers, is_new, message) {
            if matches!(heard_now, Heard::Gap) {
                metrics::counter!("zim_bus_gaps_total").increment(1);
            }
            if heard.send(heard_now).is_err() {
                return;
            }
        }
    }
    drop(heard.send(Heard::Gap));
}

fn hear(bus: &Nats, numbers: &mut Numbers, is_new: bool, message: Message) -> Vec<Heard> {
    let own = bus.node;
    let note = |node| {
        bus.heard_at.lock().insert(node, Instant::now());
    };
    let subject = message.subject.strip_prefix(bus.prefix.as_str()).unwrap_or_default();
    let node_id = |node: u32, generation| (u8::try_from(node).unwrap_or(u8::MAX), generation);
    let mut out = Vec::new();
    if let Some(subject) = subject.strip_prefix(".hint.") {
        let (Ok(subject), Ok(packet)) = (subject.parse(), Packet::decode(message.payload)) else {
            return vec![Heard::Gap];
        };
        let node = node_id(packet.node, packet.generation);
        if node == own {
            return out;
        }
        note(node);
        let hints = hint::effects(packet.hints);
        if numbers.packet(node, subject, packet.number, is_new) || !hints.is_complete {
            out.push(Heard::Gap);
        }
        out.push(Heard::Effects(hints.effects));
    } else if subject == ".ask"
        && let Ok(question) = SessionsQuestion::decode(&message.payload[..])
    {
        let reply_to = answers_to(node_id(question.node, question.generation), question.number);
        let SessionsQuestion { app, user_id, stored, .. } = question;
        out.push(Heard::Question(Question { app: AppKey(app), user_id, stored, reply_to }));
    } else if subject.starts_with(".answer.")
        && let Ok(answer) = SessionsAnswer::decode(&message.payload[..])
    {
        bus.asking.answer(subject, answer);
    } else if subject == ".beat"
        && let Ok(beat) = Beat::decode(message.payload)
        && node_id(beat.node, beat.generation) != own
    {
        note(node_id(beat.node, beat.generation));
        let packets: Vec<_> =
            beat.subjects.iter().zip(&beat.numbers).map(|(subject, number)| (*subject as usize, *number)).collect();
        if numbers.beat(node_id(beat.node, beat.generation), beat.number, &packets, is_new) {
            out.push(Heard::Gap);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_an_address_are_replaced() {
        for (text, expected) in [("plain", "plain"), ("p%40ss%3a", "p@ss:"), ("50%", "50%"), ("%zz%C3%A4", "%zzä")] {
            assert_eq!(decoded(text), expected);
        }
    }
}
