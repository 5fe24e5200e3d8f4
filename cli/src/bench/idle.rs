//! `zim bench idle`: the cost of idle sessions.

use std::time::{Duration, Instant};

use clap::Args;
use futures_util::stream::{self, StreamExt};
use serde::Serialize;
use tokio::time::sleep;

use super::members::{BLOCK, make_members};
use super::process::Cost;
use super::raw::{Dialer, Raw};
use super::target::Target;
use crate::duration;
use crate::exit::Failure;
use crate::output::{Output, span};
use crate::progress;

const LOGINS_AT_ONCE: usize = 32;

/// `zim bench idle`
#[derive(Clone, Debug, Args)]
pub(crate) struct IdleArgs {
    /// Number of sessions, each of a user of its own
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Groups of each user, who shares them with up to 99 others: the difference of two runs is the cost of memberships
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=10_000))]
    groups: u32,
    /// Idle time before the measurement
    #[arg(long = "for", value_name = "TIME", default_value = "5s", value_parser = duration::parse)]
    time: Duration,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    bench: &'static str,
    connections: u32,
    /// Groups of each user.
    groups: u32,
    connect_seconds: f64,
    /// Connections that failed and were retried.
    tried_again: u64,
    /// Sessions that were closed before the end.
    lost: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_session: Option<u64>,
    /// During the idle time.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Cost>,
}

pub(crate) async fn run(args: IdleArgs, target: &Target, output: Output) -> Result<(), Failure> {
    let dialer = &Dialer::new(target, 4)?;
    // The first session pays for what all sessions share.
    dialer.log_in_with_retries(&target.user("i", 0)).await?.close();
    let user = |number: u32| target.user("i", usize::try_from(number).unwrap_or(0));
    if args.groups > 0 {
        let users: Vec<String> = (1..=args.connections).map(user).collect();
        make_members(&users, args.groups, target, dialer, output).await?;
    }
    sleep(Duration::from_secs(1)).await;
    let (empty, began) = (target.sample(), Instant::now());
    let bar = &progress::counting(args.connections.into(), "sessions");
    let sessions: Vec<Result<Raw, Failure>> = stream::iter(1..=args.connections)
        .map(|number| async move {
            let session = dialer.log_in_with_retries(&user(number)).await;
            bar.inc(1);
            session
        })
        .buffer_unordered(LOGINS_AT_ONCE)
        .collect()
        .await;
    bar.finish_and_clear();
    let connect = began.elapsed();
    let sessions = sessions.into_iter().collect::<Result<Vec<_>, _>>()?;
    let settled = target.sample();
    sleep(args.time).await;
    let growth = target.cost(empty).map(|cost| cost.rss_bytes.saturating_sub(cost.rss_before_bytes));
    let report = Report {
        bench: "idle",
        connections: args.connections,
        groups: args.groups,
        connect_seconds: (connect.as_secs_f64() * 1_000.0).round() / 1_000.0,
        tried_again: dialer.retries(),
        lost: sessions.iter().filter(|session| session.connection.close_reason().is_some()).count(),
        bytes_per_session: growth.map(|bytes| bytes / u64::from(args.connections)),
        server: target.cost(settled),
    };
    sessions.into_iter().for_each(Raw::close);
    if output.is_json() {
        return output.json(&report);
    }
    let groups = match report.groups {
        0 => String::new(),
        groups => format!(" with {groups} groups each, of {BLOCK} users"),
    };
    output.line(format!(
        "{} sessions{groups}, connected in {}, {} retries, {} lost\n",
        report.connections,
        span(connect),
        report.tried_again,
        report.lost
    ))?;
    if let Some(bytes) = report.bytes_per_session {
        output.line(format!("each     {}.{} KB of the server's memory", bytes / 1_024, bytes % 1_024 * 10 / 1_024))?;
    }
    super::show::show_cost(report.server, output)
}
