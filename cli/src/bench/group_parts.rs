//! The parts of a long measurement of a group: whether something grows from one to the next.

use std::time::Duration;

use serde::Serialize;

use super::group_load::GroupRunning;
use super::histogram::Latency;
use super::meter::Meter;
use super::queues::Most;
use super::show::{mb, thousands};
use super::target::Target;
use crate::exit::Failure;
use crate::output::{Align, Output, Table, span};
use crate::progress;

/// One part of a measurement.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Part {
    deliveries: u64,
    /// Deliveries that arrived in this part.
    delivery: Latency,
    /// How often a session was told to pull.
    told_to_pull: u64,
    /// The most jobs that waited for the database at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    most_waiting_jobs: Option<u64>,
    /// The most bytes of responses that clients had not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    most_unread_bytes: Option<u64>,
    /// The server's memory at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    server_rss_bytes: Option<u64>,
}

/// Waits for the time of a measurement. Returns its parts; none, if it has a single one.
pub(crate) async fn measure(
    parts: u32,
    time: Duration,
    running: &GroupRunning,
    meter: &Meter,
    target: &Target,
) -> Vec<Part> {
    if parts == 1 {
        progress::during(time, "deliveries", meter.delivered()).await;
        return Vec::new();
    }
    let most = Most::default();
    let waiting = async {
        if let Some(http) = target.http()
            && let Err(failure) = most.watch(http).await
        {
            meter.fail(&failure);
        }
        std::future::pending::<()>().await;
    };
    let measuring = async {
        let mut measured = Vec::new();
        for _ in 0..parts {
            let (before, told, delivered) = (running.delivery(), running.told_to_pull(), meter.counts().1);
            progress::during(time / parts, "deliveries", meter.delivered()).await;
            let waited = most.take();
            measured.push(Part {
                deliveries: meter.counts().1 - delivered,
                delivery: running.delivery().since(&before).summary(),
                told_to_pull: running.told_to_pull() - told,
                most_waiting_jobs: waited.map(|(jobs, _)| jobs),
                most_unread_bytes: waited.map(|(_, bytes)| bytes),
                server_rss_bytes: target.sample().map(super::process::Sample::rss_bytes),
            });
        }
        measured
    };
    tokio::select! {
        measured = measuring => measured,
        () = waiting => Vec::new(),
    }
}

/// Shows a table of the parts, if there are some.
pub(crate) fn show(parts: &[Part], output: Output) -> Result<(), Failure> {
    if parts.is_empty() {
        return Ok(());
    }
    let right = |name| (name, Align::Right);
    let columns = ["PART", "DELIVERIES", "P50", "P99", "MAX", "TOLD TO PULL", "WAITING JOBS", "UNREAD", "MEMORY"];
    let mut table = Table::new(&columns.map(right));
    let known = |value: Option<u64>, text: fn(u64) -> String| value.map_or_else(|| "-".to_owned(), text);
    for (number, part) in parts.iter().enumerate() {
        table.row([
            (number + 1).to_string(),
            thousands(part.deliveries),
            span(part.delivery.p50),
            span(part.delivery.p99),
            span(part.delivery.max),
            thousands(part.told_to_pull),
            known(part.most_waiting_jobs, thousands),
            known(part.most_unread_bytes, mb),
            known(part.server_rss_bytes, mb),
        ]);
    }
    output.line("")?;
    output.table(&table)
}
