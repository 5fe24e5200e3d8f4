//! `zim bench history`: pages at the end, in the middle and at the start of a long conversation.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use tokio::time::sleep;
use zim_protocol::{ConversationType, Message, MessageQueryConfig, QueryHistoryMessageRequest};

use super::histogram::{Histogram, Latency};
use super::load::{Load, raw_load};
use super::meter::Meter;
use super::raw::{Dialer, Raw};
use super::show::{latency_columns, latency_row, thousands};
use super::target::Target;
use crate::exit::Failure;
use crate::output::{Output, Table};
use crate::progress;

/// `zim bench history`
#[derive(Clone, Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Messages in the conversation; they are sent first
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    depth: u64,
    /// Messages in a page
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(i64).range(1..=100))]
    page: i64,
    /// Pages of each kind
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    samples: u64,
    /// Size of a message in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    size: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    bench: &'static str,
    depth: i64,
    page: i64,
    first: Latency,
    middle: Latency,
    deepest: Latency,
    /// The p50 of the deepest page, divided by that of the first.
    ratio: f64,
}

pub(crate) async fn run(args: HistoryArgs, target: &Target, output: Output) -> Result<(), Failure> {
    let dialer = Arc::new(Dialer::new(target, 1)?);
    fill(&args, target, &dialer).await?;
    let peer = target.user("h", 1);
    let mut reader = dialer.log_in_with_retries(&target.user("h", 0)).await?;
    let newest = page(&mut reader, &peer, 0, 1).await?;
    let depth = newest.first().map_or(0, |message| message.message_seq);
    // Anchors: none, the middle, and the oldest page.
    let anchors = [0, depth / 2, args.page + 1];
    let mut measured = [Histogram::default(), Histogram::default(), Histogram::default()];
    let bar = progress::counting(args.samples, "pages");
    for _ in 0..args.samples {
        // Alternating, so that a disturbance affects all three.
        for (anchor, histogram) in anchors.into_iter().zip(&mut measured) {
            let began = Instant::now();
            let got = page(&mut reader, &peer, anchor, args.page).await?;
            histogram.record(began.elapsed());
            if got.len() != usize::try_from(args.page).unwrap_or(0) {
                return Err(Failure::other(format!("a page before {anchor} has {} messages", got.len())));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    reader.close();
    let [first, middle, deepest] = measured.map(|histogram| histogram.summary());
    let ratio = deepest.p50.as_secs_f64() / first.p50.as_secs_f64().max(f64::MIN_POSITIVE);
    let ratio = (ratio * 100.0).round() / 100.0;
    let report = Report { bench: "history", depth, page: args.page, first, middle, deepest, ratio };
    if output.is_json() {
        return output.json(&report);
    }
    output.line(format!("{} messages, pages of {}\n", thousands(depth.unsigned_abs()), args.page))?;
    let mut table = Table::new(&latency_columns("PAGE", "BEFORE"));
    let rows = [
        ("newest", depth, &report.first),
        ("middle", anchors[1], &report.middle),
        ("oldest", anchors[2], &report.deepest),
    ];
    for (what, before, latency) in rows {
        table.row(latency_row(what, before.unsigned_abs(), latency));
    }
    output.table(&table)?;
    output.line(format!("\nThe oldest page takes {ratio} times as long as the newest."))
}

/// Fills the conversation to the requested depth.
async fn fill(args: &HistoryArgs, target: &Target, dialer: &Arc<Dialer>) -> Result<(), Failure> {
    let load = Load { window: 200, size: args.size, ..Load::full("h", 1) };
    let meter = Meter::new();
    let running = raw_load(&load, target, dialer, &meter).await?;
    meter.measure(true);
    let bar = progress::counting(args.depth, "messages");
    loop {
        let (sent, _) = meter.counts();
        bar.set_position(sent);
        if sent >= args.depth || running.senders.is_empty() {
            break;
        }
        if let Some((name, count)) = meter.errors().into_iter().next() {
            running.end(&meter).await;
            return Err(Failure::other(format!("the conversation cannot be filled: {count} {name}")));
        }
        sleep(Duration::from_millis(20)).await;
    }
    bar.finish_and_clear();
    running.end(&meter).await;
    Ok(())
}

/// Requests the messages before `anchor`; 0 is the end.
async fn page(reader: &mut Raw, peer: &str, anchor: i64, count: i64) -> Result<Vec<Message>, Failure> {
    let next_message = (anchor > 0).then(|| Message {
        message_seq: anchor,
        conversation_id: peer.to_owned(),
        conversation_type: ConversationType::Peer as i32,
        ..Message::default()
    });
    let request = QueryHistoryMessageRequest {
        conversation_id: peer.to_owned(),
        conversation_type: ConversationType::Peer as i32,
        config: Some(MessageQueryConfig { next_message, count, reverse: true, ..MessageQueryConfig::default() }),
    };
    Ok(reader.request(&request).await?.message_list)
}
