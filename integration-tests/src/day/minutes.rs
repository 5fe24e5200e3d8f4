//! What was measured each minute.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::server::{Host, rss_bytes};
use super::town::Town;

/// What was measured in a minute, or in a shorter time of a short day.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Minute {
    /// When it ended, seconds since the morning.
    pub at_seconds: f64,
    /// The memory of the server; `None` on other systems than Linux.
    pub server_bytes: Option<u64>,
    /// The memory of the process of all clients, likewise.
    pub clients_bytes: Option<u64>,
    /// Messages that the server acknowledged, a second.
    pub acknowledged_per_second: f64,
    /// Messages that devices raised, a second.
    pub delivered_per_second: f64,
    /// The time that half of the acknowledgements took at most, milliseconds; `None`: there were none.
    pub p50_ms: Option<f64>,
    /// The time that 99 of 100 took at most.
    pub p99_ms: Option<f64>,
    /// Devices that are logged in; `None` if the server did not answer.
    pub sessions: Option<u64>,
    /// Calls that failed.
    pub errors: u64,
}

/// Measures until the evening. Each minute is also a line of a file.
pub(super) async fn measure(
    town: Arc<Town>,
    host: Arc<Mutex<Host>>,
    every: Duration,
    lines: Option<std::path::PathBuf>,
) -> anyhow::Result<Vec<Minute>> {
    let mut lines = lines.as_deref().map(create).transpose()?;
    let mut minutes = Vec::new();
    // What the morning has counted.
    drop(town.record.take());
    let mut last = Instant::now();
    loop {
        sleep(town.at_most(every)).await;
        let (sessions, server_bytes) = {
            // While the server restarts this waits.
            let host = host.lock().await;
            (host.sessions().await, host.rss_bytes())
        };
        let seconds = last.elapsed().as_secs_f64().max(0.001);
        last = Instant::now();
        let (mut times, delivered, errors) = town.record.take();
        times.sort_unstable();
        let now = town.record.now();
        let minute = Minute {
            at_seconds: now.saturating_sub(town.morning) as f64 / 1_000.0,
            server_bytes,
            clients_bytes: rss_bytes(std::process::id()),
            acknowledged_per_second: times.len() as f64 / seconds,
            delivered_per_second: delivered as f64 / seconds,
            p50_ms: percentile(&times, 50),
            p99_ms: percentile(&times, 99),
            sessions,
            errors,
        };
        if let Some(lines) = &mut lines {
            writeln!(lines, "{}", serde_json::to_string(&minute)?)?;
        }
        minutes.push(minute);
        if now >= town.evening {
            return Ok(minutes);
        }
    }
}

fn create(path: &Path) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    File::create(path)
}

/// Returns the time that so many of 100 took at most, in milliseconds, of sorted times in microseconds.
fn percentile(sorted: &[u64], of_100: usize) -> Option<f64> {
    let rank = (sorted.len() * of_100).div_ceil(100).max(1);
    sorted.get(rank - 1).map(|micros| *micros as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_ranks() {
        let times: Vec<u64> = (1..=200).map(|time| time * 1_000).collect();
        assert_eq!((percentile(&times, 50), percentile(&times, 99)), (Some(100.0), Some(198.0)));
        assert_eq!((percentile(&[7_000], 50), percentile(&[7_000], 99)), (Some(7.0), Some(7.0)));
        assert_eq!(percentile(&[], 50), None);
    }
}
