//! The attackers of `zim bench attack`, and the responses they get.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use parking_lot::Mutex;
use quinn::{Connection, ConnectionError};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout_at};
use zim_protocol::response::Outcome;
use zim_protocol::wire::CloseCode;
use zim_protocol::{
    ConversationRef, ConversationType, ErrorCode, FillRequest, Message, MessageQueryConfig, QueryHistoryMessageRequest,
    QueryMessagesRequest, SendMessageRequest,
};

use super::apart::{Apart, Priority, Size};
use super::attack::Attack;
use super::load::Keys;
use super::raw::{Raw, SharedDialer, queue};
use super::target::Target;
use crate::exit::Failure;

const HANDSHAKES_PER_SECOND: u64 = 2_000;
const HALF_OPEN: usize = 1_000;
const IN_FLIGHT: u64 = 10_000;

/// Counts of the responses that attackers get.
#[derive(Debug, Default)]
pub(crate) struct Outcomes(Mutex<BTreeMap<String, u64>>);

impl Outcomes {
    /// Returns the counts and resets them.
    pub(crate) fn take(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *self.0.lock())
    }

    fn add(&self, outcome: String) {
        *self.0.lock().entry(outcome).or_default() += 1;
    }

    fn response(&self, outcome: Option<Outcome>) {
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

/// The attackers, on a thread of their own, so that their work does not delay the live pairs. It has the priority of the others: with a
/// lower one the attack would be weaker.
#[derive(Debug)]
pub(crate) struct Attackers {
    clients: Apart,
}

impl Attackers {
    pub(crate) fn new(target: &Target) -> Result<Self, Failure> {
        let clients = Apart::new(target, Size { threads: 1, sockets: 4 }, Priority::Same)?;
        Ok(Self { clients })
    }

    /// Runs an attack. `sessions` is the number for the one-shots attack.
    pub(crate) async fn run(
        &self,
        attack: Attack,
        sessions: usize,
        until: Instant,
        outcomes: Arc<Outcomes>,
    ) -> Result<(), Failure> {
        let dialer = Arc::clone(self.clients.dialer());
        let running =
            self.clients.handle().spawn(async move { run(attack, sessions, &dialer, until, &outcomes).await });
        running.await.unwrap_or_else(|error| Err(Failure::other(error.to_string())))
    }
}

async fn run(
    attack: Attack,
    sessions: usize,
    dialer: &SharedDialer,
    until: Instant,
    outcomes: &Outcomes,
) -> Result<(), Failure> {
    let until = tokio::time::Instant::from_std(until);
    match attack {
        Attack::NeverReads => never_read(dialer, until, outcomes).await?,
        Attack::OneShots => one_shots(sessions, dialer, until, outcomes).await?,
        Attack::Floods => flood(dialer, until, outcomes, u64::MAX).await?,
        Attack::InFlight => flood(dialer, until, outcomes, IN_FLIGHT / BATCH).await?,
        Attack::Handshakes => handshakes(dialer, until, outcomes).await,
        Attack::HalfOpen => half_open(dialer, until, outcomes).await?,
    }
    // The measurement lasts for the whole time, even if the attack ends earlier.
    tokio::time::sleep_until(until).await;
    Ok(())
}

/// The burst that a sender may send after a pause, less a few.
const MESSAGES: usize = 45;

/// Sends a burst of long messages.
async fn send_burst(sender: &mut Raw, to: &str) -> Result<(), Failure> {
    let keys = Keys::new()?;
    for _ in 0..MESSAGES {
        let message = SendMessageRequest {
            message: Some(Message::text("x".repeat(2_000))),
            to_conversation_id: to.to_owned(),
            conversation_type: ConversationType::Peer as i32,
            client_key: keys.next(),
            ..SendMessageRequest::default()
        };
        sender.request(&message).await?;
    }
    Ok(())
}

/// A user with 45 long messages requests them again and again, and reads no response.
async fn never_read(dialer: &SharedDialer, until: tokio::time::Instant, outcomes: &Outcomes) -> Result<(), Failure> {
    let (user, friend) = (dialer.user("never", 0), dialer.user("never", 1));
    drop(dialer.log_in_with_retries(&user).await?);
    let mut sender = dialer.log_in_with_retries(&friend).await?;
    send_burst(&mut sender, &user).await?;
    sender.close();
    let request = QueryHistoryMessageRequest {
        conversation_id: friend,
        conversation_type: ConversationType::Peer as i32,
        config: Some(MessageQueryConfig { count: 100, reverse: true, ..MessageQueryConfig::default() }),
    };
    let mut out = BytesMut::new();
    (0..100).for_each(|id| queue(id, &request, &mut out));
    while tokio::time::Instant::now() < until {
        let mut reader = dialer.log_in_with_retries(&user).await?;
        reader.write(out.clone()).await?;
        if let Ok(error) = timeout_at(until, reader.connection.closed()).await {
            outcomes.end(&error);
        }
        reader.close();
    }
    Ok(())
}

/// Pages that each session requests.
const PAGES: u64 = 200;

/// A user with a conversation of 90 long messages requests all of it on many sessions, 200 times on each, and reads no
/// response. The sessions are opened over half of the time: a storm of handshakes is an attack of its own.
async fn one_shots(
    sessions: usize,
    dialer: &SharedDialer,
    until: tokio::time::Instant,
    outcomes: &Outcomes,
) -> Result<(), Failure> {
    use futures_util::stream::{self, StreamExt};
    let (user, friend) = (dialer.user("shots", 0), dialer.user("shots", 1));
    let (mut one, mut other) = (dialer.log_in_with_retries(&user).await?, dialer.log_in_with_retries(&friend).await?);
    send_burst(&mut one, &friend).await?;
    send_burst(&mut other, &user).await?;
    one.close();
    other.close();
    let conversation = ConversationRef { r#type: ConversationType::Peer as i32, id: friend };
    let request = FillRequest { conversation: Some(conversation), reverse: true, anchor: 0, count: 100 };
    let mut out = BytesMut::new();
    (0..PAGES).for_each(|id| queue(id, &request, &mut out));
    let begin = tokio::time::Instant::now();
    let opening = until.saturating_duration_since(begin) / 2;
    let count = u32::try_from(sessions).unwrap_or(u32::MAX);
    let out = &out;
    let opened: Vec<Raw> = stream::iter(0..count)
        .map(|number| {
            let at = begin + opening / count * number;
            async move { tokio::time::sleep_until(at).await }
        })
        .buffered(1)
        .map(|()| async {
            let mut reader = dialer.log_in_one_shot_with_retries(&user).await.ok()?;
            reader.write(out.clone()).await.ok()?;
            Some(reader)
        })
        .buffer_unordered(16)
        .filter_map(async |reader| reader)
        .collect()
        .await;
    join_all(opened.iter().map(|reader| async {
        match timeout_at(until, reader.connection.closed()).await {
            Ok(error) => outcomes.end(&error),
            Err(_) => outcomes.add("still there".to_owned()),
        }
    }))
    .await;
    opened.into_iter().for_each(Raw::close);
    Ok(())
}

/// Requests that are written together.
const BATCH: u64 = 100;

/// A user writes a batch of requests up to `times` times, as fast as the server accepts them.
async fn flood(
    dialer: &SharedDialer,
    until: tokio::time::Instant,
    outcomes: &Outcomes,
    times: u64,
) -> Result<(), Failure> {
    let user = dialer.user("flood", 0);
    let mut out = BytesMut::new();
    let request =
        QueryMessagesRequest { message_seqs: vec![1], conversation_id: dialer.user("flood", 1), conversation_type: 0 };
    (0..BATCH).for_each(|id| queue(id, &request, &mut out));
    let out: Bytes = out.freeze();
    let mut raw = dialer.log_in_with_retries(&user).await?;
    let flooding = raw.flood(&out, times, |response: zim_protocol::Response| outcomes.response(response.outcome));
    if timeout_at(until, flooding).await.is_ok() {
        outcomes.end(&raw.connection.closed().await);
    }
    raw.close();
    Ok(())
}

/// Starts handshakes at a fixed rate, without waiting for earlier ones.
async fn handshakes(dialer: &SharedDialer, until: tokio::time::Instant, outcomes: &Outcomes) {
    let step = Duration::from_millis(10);
    let mut steps = interval(step);
    steps.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut pending = JoinSet::new();
    while tokio::time::Instant::now() < until {
        steps.tick().await;
        for _ in 0..HANDSHAKES_PER_SECOND / 100 {
            if let Ok(connecting) = dialer.handshake() {
                pending.spawn(async move { connecting.await.map(|connection| connection.close(0_u32.into(), b"")) });
            }
        }
        while let Some(finished) = pending.try_join_next() {
            count_handshake(finished, outcomes);
        }
    }
    while let Ok(Some(finished)) = tokio::time::timeout(Duration::from_secs(1), pending.join_next()).await {
        count_handshake(finished, outcomes);
    }
}

fn count_handshake(finished: Result<Result<(), ConnectionError>, tokio::task::JoinError>, outcomes: &Outcomes) {
    match finished {
        Ok(Ok(())) => outcomes.add("let in".to_owned()),
        Ok(Err(error)) => outcomes.end(&error),
        Err(_) => {}
    }
}

/// Opens connections that send half a Hello and stay open.
async fn half_open(dialer: &SharedDialer, until: tokio::time::Instant, outcomes: &Outcomes) -> Result<(), Failure> {
    use futures_util::stream::{self, StreamExt};
    let opened: Vec<Connection> = stream::iter(0..HALF_OPEN)
        .map(|_| async move {
            let connection = dialer.handshake().ok()?.await.inspect_err(|error| outcomes.end(error)).ok()?;
            let (mut stream, _) = connection.open_bi().await.ok()?;
            // The length prefix announces 100 bytes; only one is sent.
            stream.write_all(&[100, 0x0a]).await.ok()?;
            // Dropping a stream ends it, so the stream is kept until its connection is closed.
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
        ends.iter().for_each(|error| outcomes.end(error));
    }
    Ok(())
}
