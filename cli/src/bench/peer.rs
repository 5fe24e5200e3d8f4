//! `zim bench peer`: messages between pairs of users, a sender and a receiver.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use tokio::time::sleep;

use super::histogram::Latency;
use super::load::{Load, raw_load};
use super::meter::Meter;
use super::process::{Cost, Sample};
use super::raw::Dialer;
use super::show::{latency_columns, latency_row, show_cost, show_errors, thousands};
use super::target::Target;
use super::{sdk, spread};
use crate::duration;
use crate::exit::Failure;
use crate::output::{Output, Table};
use crate::progress;

/// `zim bench peer`
#[derive(Clone, Debug, Args)]
pub(crate) struct PeerArgs {
    /// Pairs of users
    #[arg(long, value_name = "N", default_value_t = 50)]
    pairs: usize,
    /// Messages in flight of each sender
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = window)]
    window: usize,
    /// Size of a message in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    size: usize,
    /// Duration of the measurement
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    time: Duration,
    /// Duration of the load before the measurement
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration::parse)]
    warm_up: Duration,
    /// Use the SDK with a database in memory for each client; the clients then take three quarters of the machine. By
    /// default, bare clients speak only the protocol and leave the machine to the server
    #[arg(long)]
    sdk: bool,
    /// Keep the databases of the clients as files in this folder, as apps do
    #[arg(long, value_name = "FOLDER", requires = "sdk")]
    sdk_data: Option<PathBuf>,
    /// Spread the messages over this number of conversations, which are created first: each sender writes to many users in
    /// turn, and the receiver is a second device of the sender
    #[arg(long, value_name = "N", conflicts_with = "sdk", value_parser = conversations)]
    conversations: Option<usize>,
    /// Messages in each of these conversations before the measurement
    #[arg(long, value_name = "N", default_value_t = 2, requires = "conversations", value_parser = filled)]
    filled: usize,
}

fn conversations(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(conversations @ 1..=10_000_000) => Ok(conversations),
        _ => Err("1 to 10000000".to_owned()),
    }
}

fn filled(text: &str) -> Result<usize, String> {
    match text.parse() {
        // Without messages, the first measured message would create the conversation.
        Ok(filled @ 1..=1_000) => Ok(filled),
        _ => Err("1 to 1000".to_owned()),
    }
}

pub(crate) fn window(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(window @ 1..=256) => Ok(window),
        _ => Err("1 to 256: a session has at most 256 requests in flight".to_owned()),
    }
}

/// The result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    bench: &'static str,
    client: &'static str,
    /// Where the clients with the SDK keep their databases.
    #[serde(skip_serializing_if = "Option::is_none")]
    databases: Option<&'static str>,
    pairs: usize,
    window: usize,
    size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversations: Option<usize>,
    seconds: f64,
    acknowledged_per_second: u64,
    delivered_per_second: u64,
    ack: Latency,
    delivery: Latency,
    /// Messages that were acknowledged but not delivered before the end.
    missing: u64,
    errors: std::collections::BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Cost>,
    /// Processor time of the server and of all clients for each acknowledged message.
    #[serde(skip_serializing_if = "Option::is_none")]
    server_us_per_message: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clients_us_per_message: Option<f64>,
}

pub(crate) async fn run(args: PeerArgs, target: &Target, output: Output) -> Result<(), Failure> {
    let mut load = Load { window: args.window, size: args.size, ..Load::full("p", args.pairs) };
    let meter = Meter::new();
    let running = if args.sdk {
        sdk::load(&load, target, &meter, args.sdk_data.as_deref()).await?
    } else {
        let dialer = Arc::new(Dialer::new(target, 2)?);
        if let Some(conversations) = args.conversations {
            load.recipients = Some(spread::fill(&load, conversations, args.filled, target, &dialer).await?);
        }
        raw_load(&load, target, &dialer, &meter).await?
    };
    sleep(args.warm_up).await;
    let (before, own_before) = (target.sample(), Sample::of(std::process::id()));
    let began = Instant::now();
    meter.measure(true);
    progress::during(args.time, "messages", meter.acknowledged()).await;
    meter.measure(false);
    let (elapsed, server) = (began.elapsed(), target.cost(before));
    let clients = own_before.and_then(|before| Some(before.until(Sample::of(std::process::id())?)));
    running.end(&meter).await;
    let (ack, delivery) = meter.latencies();
    let (acknowledged, delivered) = meter.counts();
    let per_second = |count: u64| count.saturating_mul(1_000) / u64::try_from(elapsed.as_millis()).unwrap_or(1).max(1);
    #[expect(clippy::cast_precision_loss, reason = "message counts are far below 2^52")]
    let us_per_message = |cost: Cost| {
        let us = cost.cpu_percent * 10_000.0 * elapsed.as_secs_f64() / acknowledged.max(1) as f64;
        (us * 10.0).round() / 10.0
    };
    let report = Report {
        bench: "peer",
        client: if args.sdk { "sdk" } else { "bare" },
        databases: args.sdk.then_some(if args.sdk_data.is_some() { "files" } else { "memory" }),
        pairs: args.pairs,
        window: args.window,
        size: args.size,
        conversations: args.conversations,
        seconds: (elapsed.as_secs_f64() * 1_000.0).round() / 1_000.0,
        acknowledged_per_second: per_second(acknowledged),
        delivered_per_second: per_second(delivered),
        ack,
        delivery,
        missing: meter.missing(),
        errors: meter.errors(),
        server,
        server_us_per_message: server.map(us_per_message),
        clients_us_per_message: clients.map(us_per_message),
    };
    if output.is_json() {
        return output.json(&report);
    }
    show(&report, output)
}

fn show(report: &Report, output: Output) -> Result<(), Failure> {
    let clients = match report.databases {
        Some("files") => "SDK clients with databases in files",
        Some(_) => "SDK clients with databases in memory",
        None => "bare clients",
    };
    let spread =
        report.conversations.map(|count| format!(", {} conversations", thousands(count as u64))).unwrap_or_default();
    output.line(format!(
        "{} pairs, {} in flight each, {} bytes, {:.0} s, {clients}{spread}\n",
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
    show_cost(report.server, output)?;
    match (report.server_us_per_message, report.clients_us_per_message) {
        (Some(server), Some(clients)) => {
            output.line(format!("per message  {server} µs of the server, {clients} µs of the clients"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_has_the_limit_of_the_server() {
        assert_eq!(window("8"), Ok(8));
        assert!(window("0").is_err() && window("257").is_err() && window("x").is_err());
    }

    #[test]
    fn conversations_are_not_empty() {
        assert_eq!((conversations("50000"), filled("2")), (Ok(50_000), Ok(2)));
        assert!(conversations("0").is_err() && filled("0").is_err() && filled("x").is_err());
    }
}
