//! What waits in the server, from its metrics.

use std::iter::Sum;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::exit::Failure;

/// How often it is read. A read costs the server a fraction of a millisecond.
const EVERY: Duration = Duration::from_millis(250);
/// The time limit for the metrics.
const WITHIN: Duration = Duration::from_secs(10);

/// What waits at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Waiting {
    /// Jobs that wait for the database.
    jobs: u64,
    /// Bytes of responses that clients have not read.
    unread_bytes: u64,
}

/// The most that waited since this was last asked.
#[derive(Debug, Default)]
pub(crate) struct Most {
    jobs: AtomicU64,
    unread_bytes: AtomicU64,
    is_read: AtomicBool,
}

impl Most {
    /// Reads the metrics again and again, until it is dropped.
    pub(crate) async fn watch(&self, http: &str) -> Result<(), Failure> {
        loop {
            let Waiting { jobs, unread_bytes } = waiting(&metrics(http).await?);
            self.jobs.fetch_max(jobs, Ordering::Relaxed);
            self.unread_bytes.fetch_max(unread_bytes, Ordering::Relaxed);
            self.is_read.store(true, Ordering::Relaxed);
            sleep(EVERY).await;
        }
    }

    /// Returns the most jobs and unread bytes since the last call; `None`: nothing was read.
    pub(crate) fn take(&self) -> Option<(u64, u64)> {
        let is_read = self.is_read.swap(false, Ordering::Relaxed);
        let most = (self.jobs.swap(0, Ordering::Relaxed), self.unread_bytes.swap(0, Ordering::Relaxed));
        is_read.then_some(most)
    }
}

fn slow(_: tokio::time::error::Elapsed) -> Failure {
    Failure::other("the server's metrics do not arrive")
}

/// Reads the metrics of a server.
pub(crate) async fn metrics(http: &str) -> Result<String, Failure> {
    timeout(WITHIN, read(http)).await.map_err(slow)?
}

async fn read(http: &str) -> Result<String, Failure> {
    let mut stream = TcpStream::connect(http).await?;
    stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Returns the sum of a metric over all its labels, from metrics in the format of Prometheus.
pub(crate) fn sum<T: FromStr + Sum>(metrics: &str, name: &str) -> T {
    let values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            Some(labelled) => labelled.split_once("} ")?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.trim().parse::<T>().ok()
    });
    values.sum()
}

fn waiting(metrics: &str) -> Waiting {
    let sum = |name| sum(metrics, name);
    Waiting { jobs: sum("zim_db_queue_depth"), unread_bytes: sum("zim_unread_bytes") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_summed() {
        let metrics = "HTTP/1.1 200 OK\r\n\r\n# TYPE zim_db_queue_depth gauge\nzim_db_queue_depth{queue=\"a\"} 3\n\
                       zim_db_queue_depth{queue=\"b c\"} 4\nzim_db_queue_depth_other 9\nzim_unread_bytes 12\n";
        assert_eq!(waiting(metrics), Waiting { jobs: 7, unread_bytes: 12 });
        assert_eq!(waiting(""), Waiting::default());
        let sizes = "zim_db_batch_size{quantile=\"0.5\"} 9\nzim_db_batch_size_sum 41.5\nzim_db_batch_size_count 12\n";
        let [size, count] = ["zim_db_batch_size_sum", "zim_db_batch_size_count"].map(|name| sum::<f64>(sizes, name));
        assert_eq!((size.to_bits(), count.to_bits()), (41.5_f64.to_bits(), 12.0_f64.to_bits()));
    }

    #[test]
    fn the_most_is_that_since_the_last_call() {
        let most = Most::default();
        assert_eq!(most.take(), None);
        for jobs in [3, 9, 4] {
            most.jobs.fetch_max(jobs, Ordering::Relaxed);
            most.is_read.store(true, Ordering::Relaxed);
        }
        assert_eq!((most.take(), most.take()), (Some((9, 0)), None));
    }
}
