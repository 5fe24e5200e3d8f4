//! `zim bench readers`: all members of a group open it at once. Each clears its unread messages and sends a receipt. The members are
//! a process of their own, the crowd.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::time::{sleep, timeout};

use super::apart::{self, Apart, PriorityArgs};
use super::crowd::Crowd;
use super::group::PAUSE;
use super::histogram::{Histogram, Latency};
use super::load::{DRAIN, Load, raw_load};
use super::login::live;
use super::members::{self, group_id};
use super::meter::Meter;
use super::process::Cost;
use super::raw::Dialer;
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
    #[command(flatten)]
    priority: PriorityArgs,
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
    /// The p99 of the pair meanwhile, divided by that of the pair alone.
    pair_ratio: f64,
    errors: BTreeMap<String, u64>,
    /// The priority of the process of the readers: 19 is the lowest.
    #[serde(skip_serializing_if = "Option::is_none")]
    crowd_niceness: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Cost>,
}

pub(crate) async fn run(args: ReadersArgs, target: &Target, output: Output) -> Result<(), Failure> {
    let members = usize::from(args.readers) + 1;
    let dialer = Arc::new(Dialer::new(target, 4)?);
    members::join_all(&[members], target, &dialer, output).await?;
    let mut crowd = Crowd::start(target, args.priority.priority()).await?;
    crowd.log_in(0..members, None).await?;
    let pairs = Apart::pairs(target)?;
    let (pair, ()) = live(&Load::calm("pair", 1, PAUSE), target, &pairs, sleep(ALONE)).await?;
    let meter = Meter::new();
    let load = Load::calm("pair", 1, PAUSE / 5);
    let running = pairs.within(raw_load(&load, target, pairs.dialer(), &meter)).await?;
    let before = target.sample();
    let (mut answered, mut last) = (Histogram::default(), Histogram::default());
    for _ in 0..args.rounds {
        crowd.send_news(group_id(target, members)).await?;
        sleep(CALM).await;
        meter.measure(true);
        let opened = crowd.open().await?;
        // A message that waited behind all of them counts as well.
        let arrived = meter.delivered().load(Ordering::Relaxed);
        let next = async {
            while meter.delivered().load(Ordering::Relaxed) == arrived {
                sleep(Duration::from_millis(1)).await;
            }
        };
        drop(timeout(DRAIN, next).await);
        meter.measure(false);
        answered.merge(&opened.answered);
        last.record(opened.longest);
    }
    let server = target.cost(before);
    running.end(&meter).await;
    let pair_meanwhile = meter.latencies().1;
    let ratio = pair_meanwhile.p99.as_secs_f64() / pair.p99.as_secs_f64().max(f64::MIN_POSITIVE);
    let report = Report {
        bench: "readers",
        readers: args.readers,
        rounds: args.rounds,
        answered: answered.summary(),
        last: last.summary(),
        pair,
        pair_meanwhile,
        pair_ratio: (ratio * 100.0).round() / 100.0,
        errors: meter.errors(),
        crowd_niceness: crowd.niceness(),
        server,
    };
    if output.is_json() {
        return output.json(&report);
    }
    show(&report, output)
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
    output.line(format!("ratio    the p99 of the pair is {} times that of the pair alone", report.pair_ratio))?;
    apart::show("the members", report.crowd_niceness, output)?;
    show_cost(report.server, output)
}
