//! Those who attack in `zim bench attack`, and what they hear.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use parking_lot::Mutex;
use quinn::{Connection, ConnectionError};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout_at};
use zim_protocol::response::Outcome;
use zim_protocol::wire::CloseCode;
use zim_protocol::{
    ConversationRef, ConversationType, ErrorCode, FillRequest, Message, MessageQueryConfig, QueryHistoryMessageRequest,
    QueryMessagesRequest, SendMessageRequest,
};

use super::attack::Attack;
use super::load::Keys;
use super::raw::{Dialer, Raw, SharedDialer, queue};
use super::target::Target;
use crate::exit::Failure;

const HANDSHAKES_PER_SECOND: u64 = 2_000;
const HALF_OPEN: usize = 1_000;
const IN_FLIGHT: u64 = 10_000;

/// What offenders heard.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<BTreeMap<String, u64>>);

impl Told {
    /// All of it; it is forgotten.
    pub(crate) fn take(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *self.0.lock())
    }

    fn add(&self, what: String) {
        *self.0.lock().entry(what).or_default() += 1;
    }

    fn answer(&self, outcome: Option<Outcome>) {
        self.add(match outcome {
            Some(Outcome::Error(error)) => ErrorCode::try_from(error.code)
                .map_or_else(|_| error.code.to_string(), |code| format!("{} {}", error.code, code.reference_name())),
            _ => "answered".to_owned(),
        });
    }

    fn end(&self, error: &ConnectionError) {
        self.add(match error {
            ConnectionError::ApplicationClosed(closed) => {
                let code = CloseCode::from_code(closed.error_code.into_inner());
                let name = code.map_or_else(|| closed.error_code.to_string(), |code| format!("{code:?}"));
                format!("closed with {name}: {}", String::from_utf8_lossy(&closed.reason))
            }
            ConnectionError::ConnectionClosed(closed) => format!("closed with {}", closed.error_code),
            other => other.to_string(),
        });
    }
}

/// Offenders, on a thread of their own: those who talk do not wait for what an attack costs the attacker.
#[derive(Debug)]
pub(crate) struct Crowd {
    runtime: Option<Runtime>,
    dialer: SharedDialer,
}

impl Crowd {
    pub(crate) fn new(target: &Target) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let dialer = {
            // Its sockets are served where they are made.
            let _within = runtime.enter();
            Arc::new(Dialer::new(target, 4)?)
        };
        Ok(Self { runtime: Some(runtime), dialer })
    }

    /// `sessions` is for an attack with many of one user.
    pub(crate) async fn strike(
        &self,
        attack: Attack,
        sessions: usize,
        until: Instant,
        told: Arc<Told>,
    ) -> Result<(), Failure> {
        let Some(runtime) = &self.runtime else { return Ok(()) };
        let dialer = Arc::clone(&self.dialer);
        let striking = runtime.spawn(async move { strike(attack, sessions, &dialer, until, &told).await });
        striking.await.unwrap_or_else(|error| Err(Failure::other(error.to_string())))
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // A runtime is not waited for within another.
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

async fn strike(
    attack: Attack,
    sessions: usize,
    dialer: &SharedDialer,
    until: Instant,
    told: &Told,
) -> Result<(), Failure> {
    let until = tokio::time::Instant::from_std(until);
    match attack {
        Attack::NeverReads => never_read(dialer, until, told).await?,
        Attack::OneShots => one_shots(sessions, dialer, until, told).await?,
        Attack::Floods => pour(dialer, until, told, u64::MAX).await?,
        Attack::InFlight => pour(dialer, until, told, IN_FLIGHT / CALLS).await?,
        Attack::Handshakes => handshakes(dialer, until, told).await,
        Attack::HalfOpen => half_open(dialer, until, told).await?,
    }
    // What is left of the time counts, too.
    tokio::time::sleep_until(until).await;
    Ok(())
}

/// What a sender may send at once after a pause, less a few.
const MESSAGES: usize = 45;

/// Sends as many long messages at once as a user may.
async fn send_much(sender: &mut Raw, to: &str) -> Result<(), Failure> {
    let keys = Keys::new()?;
    for _ in 0..MESSAGES {
        let message = SendMessageRequest {
            message: Some(Message::text("x".repeat(2_000))),
            to_conversation_id: to.to_owned(),
            conversation_type: ConversationType::Peer as i32,
            config: None,
            client_key: keys.next(),
        };
        sender.call(&message).await?;
    }
    Ok(())
}

/// Somebody has 45 long messages, asks for them again and again, and looks at no answer.
async fn never_read(dialer: &SharedDialer, until: tokio::time::Instant, told: &Told) -> Result<(), Failure> {
    let (user, friend) = (dialer.user("never", 0), dialer.user("never", 1));
    drop(dialer.settle(&user).await?);
    let mut sender = dialer.settle(&friend).await?;
    send_much(&mut sender, &user).await?;
    sender.close();
    let ask = QueryHistoryMessageRequest {
        conversation_id: friend,
        conversation_type: ConversationType::Peer as i32,
        config: Some(MessageQueryConfig { count: 100, reverse: true, ..MessageQueryConfig::default() }),
    };
    let mut out = BytesMut::new();
    (0..100).for_each(|id| queue(id, &ask, &mut out));
    while tokio::time::Instant::now() < until {
        let mut greedy = dialer.settle(&user).await?;
        greedy.write(out.clone()).await?;
        if let Ok(error) = timeout_at(until, greedy.connection.closed()).await {
            told.end(&error);
        }
        greedy.close();
    }
    Ok(())
}

/// Pages that each session asks for.
const PAGES: u64 = 200;

/// Somebody has a conversation of 90 long messages, asks for all of it on many sessions, 200 times on each, and looks at no
/// answer.
async fn one_shots(
    sessions: usize,
    dialer: &SharedDialer,
    until: tokio::time::Instant,
    told: &Told,
) -> Result<(), Failure> {
    use futures_util::stream::{self, StreamExt};
    let (user, friend) = (dialer.user("shots", 0), dialer.user("shots", 1));
    let (mut one, mut other) = (dialer.settle(&user).await?, dialer.settle(&friend).await?);
    send_much(&mut one, &friend).await?;
    send_much(&mut other, &user).await?;
    one.close();
    other.close();
    let conversation = ConversationRef { r#type: ConversationType::Peer as i32, id: friend };
    let ask = FillRequest { conversation: Some(conversation), reverse: true, anchor: 0, count: 100 };
    let mut out = BytesMut::new();
    (0..PAGES).for_each(|id| queue(id, &ask, &mut out));
    let opened: Vec<Raw> = stream::iter(0..sessions)
        .map(|_| async {
            let mut greedy = dialer.settle_one_shot(&user).await.ok()?;
            greedy.write(out.clone()).await.ok()?;
            Some(greedy)
        })
        .buffer_unordered(16)
        .filter_map(async |greedy| greedy)
        .collect()
        .await;
    join_all(opened.iter().map(|greedy| async {
        match timeout_at(until, greedy.connection.closed()).await {
            Ok(error) => told.end(&error),
            Err(_) => told.add("still there".to_owned()),
        }
    }))
    .await;
    opened.into_iter().for_each(Raw::close);
    Ok(())
}

/// Calls that leave together.
const CALLS: u64 = 100;

/// Somebody asks without end, or so often at once.
async fn pour(dialer: &SharedDialer, until: tokio::time::Instant, told: &Told, times: u64) -> Result<(), Failure> {
    let him = dialer.user("flood", 0);
    let mut out = BytesMut::new();
    let ask =
        QueryMessagesRequest { message_seqs: vec![1], conversation_id: dialer.user("flood", 1), conversation_type: 0 };
    (0..CALLS).for_each(|id| queue(id, &ask, &mut out));
    let out: Bytes = out.freeze();
    let mut raw = dialer.settle(&him).await?;
    let pouring = raw.pour(&out, times, |response: zim_protocol::Response| told.answer(response.outcome));
    if timeout_at(until, pouring).await.is_ok() {
        told.end(&raw.connection.closed().await);
    }
    raw.close();
    Ok(())
}

/// Handshakes at a pace, whatever becomes of those before.
async fn handshakes(dialer: &SharedDialer, until: tokio::time::Instant, told: &Told) {
    let step = Duration::from_millis(10);
    let mut steps = interval(step);
    steps.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut shaking = JoinSet::new();
    while tokio::time::Instant::now() < until {
        steps.tick().await;
        for _ in 0..HANDSHAKES_PER_SECOND / 100 {
            if let Ok(connecting) = dialer.shake() {
                shaking.spawn(async move { connecting.await.map(|connection| connection.close(0_u32.into(), b"")) });
            }
        }
        while let Some(shaken) = shaking.try_join_next() {
            heard_at_the_door(shaken, told);
        }
    }
    while let Ok(Some(shaken)) = tokio::time::timeout(Duration::from_secs(1), shaking.join_next()).await {
        heard_at_the_door(shaken, told);
    }
}

fn heard_at_the_door(shaken: Result<Result<(), ConnectionError>, tokio::task::JoinError>, told: &Told) {
    match shaken {
        Ok(Ok(())) => told.add("let in".to_owned()),
        Ok(Err(error)) => told.end(&error),
        Err(_) => {}
    }
}

/// Each says half a Hello, and stays.
async fn half_open(dialer: &SharedDialer, until: tokio::time::Instant, told: &Told) -> Result<(), Failure> {
    use futures_util::stream::{self, StreamExt};
    let opened: Vec<Connection> = stream::iter(0..HALF_OPEN)
        .map(|_| async move {
            let connection = dialer.shake().ok()?.await.inspect_err(|error| told.end(error)).ok()?;
            let (mut stream, _) = connection.open_bi().await.ok()?;
            // A frame of 100 bytes, it says; one of them comes.
            stream.write_all(&[100, 0x0a]).await.ok()?;
            // To forget a stream is to end it; this one stays as it is, like whoever opened it.
            let held = connection.clone();
            tokio::spawn(async move {
                held.closed().await;
                drop(stream);
            });
            Some(connection)
        })
        .buffer_unordered(32)
        .filter_map(async |connection| connection)
        .collect()
        .await;
    let ends = join_all(opened.iter().map(Connection::closed));
    if let Ok(ends) = timeout_at(until.max(tokio::time::Instant::now() + Duration::from_secs(3)), ends).await {
        ends.iter().for_each(|error| told.end(error));
    }
    Ok(())
}
