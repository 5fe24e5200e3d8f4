//! `zim bench peer`: pairs of users, one of each sends and the other receives.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use clap::Args;
use prost::Message as _;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use zim_protocol::event_frame::Frame;
use zim_protocol::{ConversationType, EventFrame, Message, SendMessageRequest};

use super::histogram::{Histogram, Latency};
use super::meter::{Meter, SharedMeter, is_final, text};
use super::process::Cost;
use super::raw::{Dialer, Events, Raw, SharedDialer, outcome, queue};
use super::target::Target;
use super::{progress, sdk};
use crate::exit::Failure;
use crate::output::{Align, Output, Table, span};

/// How long what is under way may take to arrive after the end.
const DRAIN: Duration = Duration::from_secs(10);
/// Logins of a bench that are under way at once.
const LOGINS_AT_ONCE: usize = 16;

/// `zim bench peer`
#[derive(Clone, Debug, Args)]
pub(crate) struct PeerArgs {
    /// Pairs of users
    #[arg(long, value_name = "N", default_value_t = 50)]
    pairs: usize,
    /// Messages that each sender has under way
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = window)]
    window: usize,
    /// Bytes of a message
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    size: usize,
    /// How long it is measured
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    seconds: u64,
    /// How long it runs before it is measured
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    warm_up: u64,
    /// Clients with nothing in them but the protocol: they leave the machine to the server
    #[arg(long)]
    raw: bool,
}

fn window(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(window @ 1..=256) => Ok(window),
        _ => Err("1 to 256: a session has at most 256 calls in work".to_owned()),
    }
}

/// What senders do.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) role: &'static str,
    pub(crate) pairs: usize,
    pub(crate) window: usize,
    pub(crate) size: usize,
    /// A pause before each message.
    pub(crate) pause: Option<Duration>,
}

/// What came of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    bench: &'static str,
    client: &'static str,
    pairs: usize,
    window: usize,
    size: usize,
    seconds: f64,
    acknowledged_per_second: u64,
    delivered_per_second: u64,
    ack: Latency,
    delivery: Latency,
    /// Acknowledged, and not delivered before the end.
    missing: u64,
    errors: std::collections::BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Cost>,
}

pub(crate) async fn run(args: PeerArgs, target: &Target, output: Output) -> Result<(), Failure> {
    let load = Load { role: "p", pairs: args.pairs, window: args.window, size: args.size, pause: None };
    let meter = Meter::new();
    let running = if args.raw {
        let dialer = Arc::new(Dialer::new(target, 2)?);
        raw_load(&load, target, &dialer, &meter).await?
    } else {
        sdk::load(&load, target, &meter).await?
    };
    sleep(Duration::from_secs(args.warm_up)).await;
    let before = target.sample();
    let began = Instant::now();
    meter.measure(true);
    progress::over(Duration::from_secs(args.seconds), "messages", meter.acknowledged()).await;
    meter.measure(false);
    let (elapsed, server) = (began.elapsed(), target.cost(before));
    running.end(&meter).await;
    let (ack, delivery) = meter.latencies();
    let (acknowledged, delivered) = meter.counts();
    let per_second = |count: u64| count.saturating_mul(1_000) / u64::try_from(elapsed.as_millis()).unwrap_or(1).max(1);
    let report = Report {
        bench: "peer",
        client: if args.raw { "raw" } else { "sdk" },
        pairs: args.pairs,
        window: args.window,
        size: args.size,
        seconds: (elapsed.as_secs_f64() * 1_000.0).round() / 1_000.0,
        acknowledged_per_second: per_second(acknowledged),
        delivered_per_second: per_second(delivered),
        ack,
        delivery,
        missing: meter.missing(),
        errors: meter.errors(),
        server,
    };
    if output.is_json() {
        return output.json(&report);
    }
    show(&report, output)
}

fn show(report: &Report, output: Output) -> Result<(), Failure> {
    let clients = if report.client == "raw" { "bare clients" } else { "SDK clients" };
    output.line(format!(
        "{} pairs, {} under way each, {} bytes, {:.0} s, {clients}\n",
        report.pairs, report.window, report.size, report.seconds
    ))?;
    let mut table = Table::new(&latency_columns("", "A SECOND"));
    table.row(latency_row("acknowledged", report.acknowledged_per_second, &report.ack));
    table.row(latency_row("delivered", report.delivered_per_second, &report.delivery));
    output.table(&table)?;
    output.line("")?;
    show_errors(&report.errors, output)?;
    if report.missing > 0 {
        output.line(format!("missing  {} acknowledged messages were not delivered", report.missing))?;
    }
    show_cost(report.server, output)
}

/// The head of a table of latencies.
pub(crate) fn latency_columns(what: &'static str, count: &'static str) -> [(&'static str, Align); 6] {
    let right = |name| (name, Align::Right);
    [(what, Align::Left), right(count), right("P50"), right("P95"), right("P99"), right("MAX")]
}

/// A row of it.
pub(crate) fn latency_row(what: &str, count: u64, latency: &Latency) -> [String; 6] {
    let Latency { p50, p95, p99, max } = *latency;
    [what.to_owned(), thousands(count), span(p50), span(p95), span(p99), span(max)]
}

/// 25,000
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(crate) fn show_errors(errors: &std::collections::BTreeMap<String, u64>, output: Output) -> Result<(), Failure> {
    if errors.is_empty() {
        return output.line("errors   none");
    }
    errors.iter().try_for_each(|(name, count)| output.line(format!("errors   {} {name}", thousands(*count))))
}

pub(crate) fn show_cost(cost: Option<Cost>, output: Output) -> Result<(), Failure> {
    let Some(cost) = cost else { return Ok(()) };
    output.line(format!(
        "server   {} of memory ({} before), {:.0} % of a core",
        mb(cost.rss_bytes),
        mb(cost.rss_before_bytes),
        cost.cpu_percent
    ))
}

/// 13.1 MB
pub(crate) fn mb(bytes: u64) -> String {
    format!("{}.{} MB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20)
}

/// Senders and receivers that run.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) senders: JoinSet<()>,
    pub(crate) receivers: JoinSet<()>,
}

impl Running {
    /// Lets what is under way arrive, then ends it.
    pub(crate) async fn end(mut self, meter: &Meter) {
        meter.stop();
        drop(timeout(DRAIN, async { while self.senders.join_next().await.is_some() {} }).await);
        self.senders.shutdown().await;
        let arrived = async {
            while meter.missing() > 0 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        drop(timeout(DRAIN, arrived).await);
        // Receivers hand over what they measured when they are told, not when they are cut off.
        meter.finish();
        drop(timeout(DRAIN, async { while self.receivers.join_next().await.is_some() {} }).await);
        self.receivers.shutdown().await;
    }
}

/// Logs in the pairs and begins.
pub(crate) async fn raw_load(
    load: &Load,
    target: &Target,
    dialer: &SharedDialer,
    meter: &SharedMeter,
) -> Result<Running, Failure> {
    use futures_util::stream::{self, StreamExt, TryStreamExt};
    let pairs: Vec<(Raw, Raw)> = stream::iter(0..load.pairs)
        .map(|pair| async move {
            let receiver = dialer.settle(&target.user(load.role, 2 * pair + 1)).await?;
            let sender = dialer.settle(&target.user(load.role, 2 * pair)).await?;
            Ok::<_, Failure>((sender, receiver))
        })
        .buffered(LOGINS_AT_ONCE)
        .try_collect()
        .await?;
    let mut running = Running { senders: JoinSet::new(), receivers: JoinSet::new() };
    for (pair, (sender, receiver)) in pairs.into_iter().enumerate() {
        let (to, load) = (target.user(load.role, 2 * pair + 1), load.clone());
        running.receivers.spawn(receive(receiver, Arc::clone(meter)));
        let meter = Arc::clone(meter);
        running.senders.spawn(async move {
            let mut mine = Histogram::default();
            if let Err(failure) = send(sender, to, &load, &meter, &mut mine).await {
                meter.fail(&failure);
            }
            meter.add(&mine, &Histogram::default());
        });
    }
    Ok(running)
}

/// Keys that no other message has: random in front, counted behind.
#[derive(Debug)]
pub(crate) struct Keys {
    random: [u8; 8],
    count: AtomicU64,
}

impl Keys {
    pub(crate) fn new() -> Result<Self, Failure> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| Failure::other(error.to_string()))?;
        Ok(Self { random, count: AtomicU64::new(0) })
    }

    pub(crate) fn next(&self) -> Bytes {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        Bytes::from([self.random, count.to_be_bytes()].concat())
    }
}

/// Keeps `window` messages under way: each answer makes room for the next. What became free together leaves together.
async fn send(mut raw: Raw, to: String, load: &Load, meter: &Meter, mine: &mut Histogram) -> Result<(), Failure> {
    let keys = Keys::new()?;
    let window = u64::try_from(load.window).unwrap_or(1);
    let message = |since| SendMessageRequest {
        message: Some(Message::text(text(since, load.size))),
        to_conversation_id: to.clone(),
        conversation_type: ConversationType::Peer as i32,
        config: None,
        client_key: keys.next(),
    };
    let mut began = vec![Instant::now(); load.window];
    let mut out = BytesMut::new();
    (0..window).for_each(|id| queue(id, &message(meter.since), &mut out));
    let mut under_way = load.window;
    raw.write(out).await?;
    while under_way > 0 {
        let mut next = Some(raw.response().await?);
        let mut out = BytesMut::new();
        while let Some(response) = next {
            let id = response.id;
            let slot = usize::try_from(id % window).unwrap_or(0);
            match outcome(response) {
                Ok(_) => meter.acknowledge(began[slot].elapsed(), mine),
                Err(failure) if is_final(&failure) => return Err(failure),
                Err(failure) => meter.fail(&failure),
            }
            under_way -= 1;
            if !meter.is_stopping() {
                if let Some(pause) = load.pause {
                    sleep(pause).await;
                }
                began[slot] = Instant::now();
                queue(id + window, &message(meter.since), &mut out);
                under_way += 1;
            }
            next = raw.ready()?;
        }
        if !out.is_empty() {
            raw.write(out).await?;
        }
    }
    raw.close();
    Ok(())
}

async fn receive(raw: Raw, meter: SharedMeter) {
    let mut mine = Histogram::default();
    let mut events = Events::of(&raw);
    loop {
        let frame = tokio::select! {
            frame = events.next() => frame,
            () = meter.finished() => break,
        };
        let frame = match frame {
            Ok(frame) => EventFrame::decode(frame),
            Err(failure) => {
                meter.fail(&failure);
                break;
            }
        };
        if let Ok(EventFrame { frame: Some(Frame::Push(push)) }) = frame {
            for entry in push.messages {
                let message = Message::decode(entry.content).unwrap_or_default();
                meter.deliver(message.as_text().unwrap_or(""), &mut mine);
            }
        }
    }
    meter.add(&Histogram::default(), &mine);
    raw.close();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_000), "1,000");
        assert_eq!(thousands(12_345_678), "12,345,678");
    }

    #[test]
    fn a_window_has_the_servers_bound() {
        assert_eq!(window("8"), Ok(8));
        assert!(window("0").is_err() && window("257").is_err() && window("x").is_err());
    }

    #[test]
    fn keys_never_repeat() {
        let keys = Keys::new().unwrap();
        let (one, two) = (keys.next(), keys.next());
        assert_eq!(one.len(), 16);
        assert_ne!(one, two);
    }
}
