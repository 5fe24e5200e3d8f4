//! `zim bench attack`: what a client that behaves badly, or a crowd of them, costs the server and those who talk meanwhile,
//! and what it is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use clap::{Args, ValueEnum};
use futures_util::future::join_all;
use parking_lot::Mutex;
use quinn::{Connection, ConnectionError};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout_at};
use zim_protocol::response::Outcome;
use zim_protocol::wire::CloseCode;
use zim_protocol::{
    ConversationType, ErrorCode, Message, MessageQueryConfig, QueryHistoryMessageRequest, QueryMessagesRequest,
    SendMessageRequest,
};

use super::login::live;
use super::peer::{Keys, Load, mb};
use super::progress;
use super::raw::{Dialer, SharedDialer, queue};
use super::target::Target;
use crate::exit::Failure;
use crate::output::{Align, Output, Table, span};

/// A server as it comes, but for patience: nobody wants to wait half a minute for a row.
pub(crate) const SETTINGS: [&str; 2] = ["limits.write_timeout_ms=2000", "limits.hello_timeout_ms=2000"];
/// Of one sender of those who talk: less than the ten messages a second that he may send.
const PAUSE: Duration = Duration::from_millis(110);
const HANDSHAKES_PER_SECOND: u64 = 2_000;
const HALF_OPEN: usize = 1_000;
const IN_FLIGHT: u64 = 10_000;

/// `zim bench attack`
#[derive(Clone, Debug, Args)]
pub(crate) struct AttackArgs {
    /// How long each lasts, and how long it is measured without one before
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Pairs of users that talk meanwhile, nine messages a second each
    #[arg(long, value_name = "N", default_value_t = 30)]
    live_pairs: usize,
    /// This one alone
    #[arg(long, value_name = "ATTACK")]
    only: Option<Attack>,
}

/// In their order; two roles each for those who talk, before and meanwhile.
const ATTACKS: [(Attack, [&str; 2]); 5] = [
    (Attack::NeverReads, ["na", "nb"]),
    (Attack::Floods, ["fa", "fb"]),
    (Attack::Handshakes, ["ha", "hb"]),
    (Attack::HalfOpen, ["oa", "ob"]),
    (Attack::InFlight, ["ia", "ib"]),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
enum Attack {
    /// Asks for pages and reads none.
    NeverReads,
    /// Asks as fast as the server takes it.
    Floods,
    /// 2,000 a second from one address.
    Handshakes,
    /// A thousand connections that say half a Hello.
    HalfOpen,
    /// 10,000 calls before the first answer is read.
    InFlight,
}

impl Attack {
    const fn name(self) -> &'static str {
        match self {
            Self::NeverReads => "never reads",
            Self::Floods => "floods",
            Self::Handshakes => "2,000 handshakes a second",
            Self::HalfOpen => "1,000 half-open streams",
            Self::InFlight => "10,000 calls in flight",
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    attack: Attack,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_before_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_most_bytes: Option<u64>,
    /// Messages of others, from sender to receiver.
    p99_alone_ms: f64,
    p99_ms: f64,
    /// What the offender heard, and how often.
    told: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    bench: &'static str,
    seconds: u64,
    live_pairs: usize,
    attacks: Vec<Row>,
}

pub(crate) async fn run(args: AttackArgs, target: &Target, output: Output) -> Result<(), Failure> {
    let wanted = || ATTACKS.into_iter().filter(|(attack, _)| args.only.is_none_or(|only| only == *attack));
    let bar = progress::counting(u64::try_from(wanted().count()).unwrap_or(0), "attacks");
    let mut attacks = Vec::new();
    for (attack, roles) in wanted() {
        bar.set_message(attack.name());
        attacks.push(measure(attack, roles, &args, target).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let report = Report { bench: "attack", seconds: args.seconds, live_pairs: args.live_pairs, attacks };
    if output.is_json() {
        return output.json(&report);
    }
    output.line(format!("{} pairs talk, {} s without and {0} s with each attack\n", args.live_pairs, args.seconds))?;
    let right = |name| (name, Align::Right);
    let mut table = Table::new(&[
        ("ATTACK", Align::Left),
        right("MEMORY"),
        right("AT MOST"),
        right("P99 ALONE"),
        right("P99"),
        ("TOLD", Align::Left),
    ]);
    for row in &report.attacks {
        let memory = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), mb);
        let ms = |ms: f64| span(Duration::from_secs_f64(ms / 1_000.0));
        let told: Vec<String> = row.told.iter().map(|(what, count)| format!("{count} {what}")).collect();
        table.row([
            row.attack.name().to_owned(),
            memory(row.memory_before_bytes),
            memory(row.memory_most_bytes),
            ms(row.p99_alone_ms),
            ms(row.p99_ms),
            told.join("; "),
        ]);
    }
    output.table(&table)
}

async fn measure(
    attack: Attack,
    [alone, meanwhile]: [&'static str; 2],
    args: &AttackArgs,
    target: &Target,
) -> Result<Row, Failure> {
    let time = Duration::from_secs(args.seconds);
    let load = |role| Load { role, pairs: args.live_pairs, window: 1, size: 200, pause: Some(PAUSE) };
    let talking = Arc::new(Dialer::new(target, 1)?);
    let (without, ()) = live(&load(alone), target, &talking, sleep(time)).await?;
    let told = Told::default();
    let memory = || target.sample().map(super::process::Sample::rss_bytes);
    let most = AtomicU64::new(0);
    let under_attack = async {
        let before = memory();
        let watch = async {
            loop {
                most.fetch_max(memory().unwrap_or(0), Ordering::Relaxed);
                sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            () = watch => {}
            result = strike(attack, target, Instant::now() + time, &told) => result?,
        }
        Ok::<_, Failure>(before)
    };
    let (with, before) = live(&load(meanwhile), target, &talking, under_attack).await?;
    let ms = |time: Duration| (time.as_secs_f64() * 1_000_000.0).round() / 1_000.0;
    let before = before?;
    Ok(Row {
        attack,
        memory_before_bytes: before,
        memory_most_bytes: before.map(|_| most.load(Ordering::Relaxed)),
        p99_alone_ms: ms(without.p99),
        p99_ms: ms(with.p99),
        told: told.0.into_inner(),
    })
}

/// What offenders heard.
#[derive(Debug, Default)]
struct Told(Mutex<BTreeMap<String, u64>>);

impl Told {
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

async fn strike(attack: Attack, target: &Target, until: Instant, told: &Told) -> Result<(), Failure> {
    let dialer = Arc::new(Dialer::new(target, 4)?);
    let until = tokio::time::Instant::from_std(until);
    match attack {
        Attack::NeverReads => never_read(target, &dialer, until, told).await?,
        Attack::Floods => pour(target, &dialer, until, told, u64::MAX).await?,
        Attack::InFlight => pour(target, &dialer, until, told, IN_FLIGHT / CALLS).await?,
        Attack::Handshakes => handshakes(&dialer, until, told).await,
        Attack::HalfOpen => half_open(&dialer, until, told).await?,
    }
    // What is left of the time counts, too.
    tokio::time::sleep_until(until).await;
    Ok(())
}

/// Somebody has 45 long messages; he asks for them again and again, and looks at no answer.
async fn never_read(
    target: &Target,
    dialer: &SharedDialer,
    until: tokio::time::Instant,
    told: &Told,
) -> Result<(), Failure> {
    let (him, friend) = (target.user("never", 0), target.user("never", 1));
    drop(dialer.settle(&him).await?);
    let (mut sender, keys) = (dialer.settle(&friend).await?, Keys::new()?);
    for _ in 0..45 {
        let message = SendMessageRequest {
            message: Some(Message::text("x".repeat(2_000))),
            to_conversation_id: him.clone(),
            conversation_type: ConversationType::Peer as i32,
            config: None,
            client_key: keys.next(),
        };
        sender.call(&message).await?;
    }
    sender.close();
    let ask = QueryHistoryMessageRequest {
        conversation_id: friend,
        conversation_type: ConversationType::Peer as i32,
        config: Some(MessageQueryConfig { count: 100, reverse: true, ..MessageQueryConfig::default() }),
    };
    let mut out = BytesMut::new();
    (0..100).for_each(|id| queue(id, &ask, &mut out));
    while tokio::time::Instant::now() < until {
        let mut greedy = dialer.settle(&him).await?;
        greedy.write(out.clone()).await?;
        if let Ok(error) = timeout_at(until, greedy.connection.closed()).await {
            told.end(&error);
        }
        greedy.close();
    }
    Ok(())
}

/// Calls that leave together.
const CALLS: u64 = 100;

/// Somebody asks without end, or so often at once.
async fn pour(
    target: &Target,
    dialer: &SharedDialer,
    until: tokio::time::Instant,
    told: &Told,
    times: u64,
) -> Result<(), Failure> {
    let him = target.user("flood", 0);
    let mut out = BytesMut::new();
    let ask =
        QueryMessagesRequest { message_seqs: vec![1], conversation_id: target.user("flood", 1), conversation_type: 0 };
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
