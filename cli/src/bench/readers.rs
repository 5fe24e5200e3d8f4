//! `zim bench readers`: all members of a group open it at once. Each clears its unread messages and sends a receipt.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use clap::Args;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use zim_protocol::{
    ClearConversationUnreadMessageCountRequest, ConversationType, Message, MessageSendConfig,
    SendMessageReceiptsReadRequest, SendMessageRequest,
};

use super::group::{PAUSE, Receivers};
use super::histogram::{Histogram, Latency};
use super::load::{DRAIN, Keys, Load, raw_load};
use super::login::live;
use super::members::{self, group_id};
use super::meter::Meter;
use super::process::Cost;
use super::raw::{Dialer, Events, Raw, outcome, queue};
use super::show::{latency_columns, show_cost, show_errors, stage_row, thousands};
use super::target::Target;
use crate::exit::Failure;
use crate::output::{Output, Table};

/// How long the pair is measured alone.
const ALONE: Duration = Duration::from_secs(3);
/// Until all readers have the message, and the server has nothing else to do.
const CALM: Duration = Duration::from_millis(500);

/// `zim bench readers`
#[derive(Clone, Debug, Args)]
pub(crate) struct ReadersArgs {
    /// Members of the group who open it at once
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    readers: u16,
    /// How often they open it, each time after a new message
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    bench: &'static str,
    readers: u16,
    rounds: u16,
    /// Both answers to a reader, since all of them began.
    answered: Latency,
    /// The answers to the last reader of each round.
    last: Latency,
    /// A pair of users, alone, and while the readers wait for answers.
    pair: Latency,
    pair_meanwhile: Latency,
    errors: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Cost>,
}

pub(crate) async fn run(args: ReadersArgs, target: &Target, output: Output) -> Result<(), Failure> {
    let members = usize::from(args.readers) + 1;
    let dialer = Arc::new(Dialer::new(target, 4)?);
    members::join_all(&[members], target, &dialer, output).await?;
    let receivers = Receivers::new(target, true)?;
    let mut sender = dialer.log_in_with_retries(&target.user(members::ROLE, 0)).await?;
    let mut readers = receivers.log_in(1..members, target, None)?;
    let mut reading = JoinSet::new();
    for session in readers.iter().chain([&sender]) {
        let mut events = Events::of(session);
        reading.spawn_on(async move { while events.next().await.is_ok() {} }, receivers.handle());
    }
    let (pair, ()) = live(&Load::calm("pair", 1, PAUSE), target, &dialer, sleep(ALONE)).await?;
    let meter = Meter::new();
    let running = raw_load(&Load::calm("pair", 1, PAUSE / 5), target, &dialer, &meter).await?;
    let (keys, before) = (Keys::new()?, target.sample());
    let (mut answered, mut last) = (Histogram::default(), Histogram::default());
    for _ in 0..args.rounds {
        let frames = opening(&mut sender, &group_id(target, members), &keys).await?;
        sleep(CALM).await;
        meter.measure(true);
        let began = Instant::now();
        let mut opening = JoinSet::new();
        for reader in readers.drain(..) {
            opening.spawn_on(open(reader, frames.clone(), began), receivers.handle());
        }
        let mut longest = Duration::ZERO;
        while let Some(opened) = opening.join_next().await {
            let (reader, took) = opened.map_err(|error| Failure::other(error.to_string()))??;
            answered.record(took);
            longest = longest.max(took);
            readers.push(reader);
        }
        // A message that waited behind all of them counts as well.
        let arrived = meter.delivered().load(Ordering::Relaxed);
        let next = async {
            while meter.delivered().load(Ordering::Relaxed) == arrived {
                sleep(Duration::from_millis(1)).await;
            }
        };
        drop(timeout(DRAIN, next).await);
        meter.measure(false);
        last.record(longest);
    }
    let server = target.cost(before);
    running.end(&meter).await;
    let report = Report {
        bench: "readers",
        readers: args.readers,
        rounds: args.rounds,
        answered: answered.summary(),
        last: last.summary(),
        pair,
        pair_meanwhile: meter.latencies().1,
        errors: meter.errors(),
        server,
    };
    if output.is_json() {
        return output.json(&report);
    }
    show(&report, output)
}

/// Sends a message, and returns what each reader writes when it opens the group.
async fn opening(sender: &mut Raw, group_id: &str, keys: &Keys) -> Result<BytesMut, Failure> {
    let (conversation_id, conversation_type) = (group_id.to_owned(), ConversationType::Group as i32);
    let send = SendMessageRequest {
        message: Some(Message::text("news")),
        to_conversation_id: conversation_id.clone(),
        conversation_type,
        config: Some(MessageSendConfig { has_receipt: true, ..MessageSendConfig::default() }),
        client_key: keys.next(),
        omit_content: false,
    };
    let sent = sender.request(&send).await?;
    let mut frames = BytesMut::new();
    let clear = ClearConversationUnreadMessageCountRequest {
        conversation_id: conversation_id.clone(),
        conversation_type,
        through_seq: 0,
    };
    queue(CLEAR, &clear, &mut frames);
    let message_list = sent.message.into_iter().collect();
    queue(RECEIPT, &SendMessageReceiptsReadRequest { message_list, conversation_id, conversation_type }, &mut frames);
    Ok(frames)
}

/// The numbers of the requests of a reader: higher than those of its login.
const CLEAR: u64 = 1 << 32;
const RECEIPT: u64 = CLEAR + 1;

/// Opens the group. Returns when both answers are there.
async fn open(mut reader: Raw, frames: BytesMut, began: Instant) -> Result<(Raw, Duration), Failure> {
    reader.write(frames).await?;
    for _ in [CLEAR, RECEIPT] {
        outcome(reader.response().await?)?;
    }
    Ok((reader, began.elapsed()))
}

fn show(report: &Report, output: Output) -> Result<(), Failure> {
    output.line(format!(
        "{} members open a group at once, {} times\n",
        thousands(report.readers.into()),
        thousands(report.rounds.into())
    ))?;
    let mut table = Table::new(&latency_columns("", ""));
    for (what, latency) in [
        ("answered", &report.answered),
        ("the last one", &report.last),
        ("a pair, alone", &report.pair),
        ("a pair, meanwhile", &report.pair_meanwhile),
    ] {
        table.row(stage_row(what, latency));
    }
    output.table(&table)?;
    output.line("")?;
    show_errors(&report.errors, output)?;
    show_cost(report.server, output)
}
