//! The parts of a long measurement of a group: whether something grows from one to the next.

use std::time::Duration;

use serde::Serialize;

use super::crowd::Crowd;
use super::group_load::GroupRunning;
use super::histogram::{Histogram, Latency};
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

/// Waits while something is measured.
async fn wait(time: Duration, meter: &Meter, crowd: Option<&Crowd>) {
    match crowd {
        // It is not asked meanwhile, which would take time from what is measured.
        Some(_) => progress::during(time, "messages", meter.acknowledged()).await,
        None => progress::during(time, "deliveries", meter.delivered()).await,
    }
}

/// Returns the latencies of the deliveries until now, and how often a session was told to pull, here and in the crowd.
async fn until_now(
    running: &GroupRunning,
    crowd: Option<&mut Crowd>,
    meter: &Meter,
) -> Result<(Histogram, u64), Failure> {
    let (mut delivery, mut told_to_pull) = (running.delivery(), running.told_to_pull());
    if let Some(crowd) = crowd {
        let told = crowd.tell(meter).await?;
        delivery.merge(&told.delivery);
        told_to_pull += told.told_to_pull;
    }
    Ok((delivery, told_to_pull))
}

/// Waits for the time of a measurement. Returns its parts; none, if it has a single one.
pub(crate) async fn measure(
    (parts, time): (u32, Duration),
    running: &GroupRunning,
    mut crowd: Option<&mut Crowd>,
    meter: &Meter,
    target: &Target,
) -> Result<Vec<Part>, Failure> {
    if parts == 1 {
        wait(time, meter, crowd.as_deref()).await;
        return Ok(Vec::new());
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
            let (before, told) = until_now(running, crowd.as_deref_mut(), meter).await?;
            let delivered = meter.counts().1;
            wait(time / parts, meter, crowd.as_deref()).await;
            let waited = most.take();
            let (after, told_after) = until_now(running, crowd.as_deref_mut(), meter).await?;
            measured.push(Part {
                deliveries: meter.counts().1 - delivered,
                delivery: after.since(&before).summary(),
                told_to_pull: told_after - told,
                most_waiting_jobs: waited.map(|(jobs, _)| jobs),
                most_unread_bytes: waited.map(|(_, bytes)| bytes),
                server_rss_bytes: target.sample().map(super::process::Sample::rss_bytes),
            });
        }
        Ok::<_, Failure>(measured)
    };
    tokio::select! {
        measured = measuring => measured,
        () = waiting => Ok(Vec::new()),
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
