//! Measures a load. The text of a message starts with the time of sending, from which the receiver computes the latency, and is
//! padded to its size.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;
use zim_protocol::ErrorCode;

use super::histogram::Histogram;
use crate::exit::Failure;

/// Hexadecimal digits of the time.
const STAMP: usize = 16;

/// Returns a text of `size` bytes that starts with the current time.
pub(crate) fn text(since: Instant, size: usize) -> String {
    let us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
    let mut text = format!("{us:016x}");
    text.extend(std::iter::repeat_n('.', size.saturating_sub(STAMP)));
    text
}

/// Returns the time of a text, as the duration after `since`.
pub(crate) fn sent_at(text: &str) -> Option<Duration> {
    let us = u64::from_str_radix(text.get(..STAMP)?, 16).ok()?;
    Some(Duration::from_micros(us))
}

/// The counts and latencies of a load. Only messages within the measurement are counted; the load runs before and after it too.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) since: Instant,
    measuring: AtomicBool,
    stopping: AtomicBool,
    finished: watch::Sender<bool>,
    acknowledged: AtomicU64,
    delivered: AtomicU64,
    /// Also counts messages outside of the measurement, to find those that are never delivered.
    pub(crate) all_acknowledged: AtomicU64,
    all_delivered: AtomicU64,
    /// The receivers of each message.
    copies: u64,
    errors: Mutex<BTreeMap<String, u64>>,
    ack: Mutex<Histogram>,
    delivery: Mutex<Histogram>,
}

pub(crate) type SharedMeter = Arc<Meter>;

impl Meter {
    pub(crate) fn new() -> SharedMeter {
        Self::with_copies(1)
    }

    /// A meter of messages that have several receivers each.
    pub(crate) fn with_copies(copies: usize) -> SharedMeter {
        Self::of(copies, Instant::now())
    }

    /// A meter of messages of another process, whose times count from this moment on.
    pub(crate) fn since(since: Instant) -> SharedMeter {
        Self::of(0, since)
    }

    fn of(copies: usize, since: Instant) -> SharedMeter {
        Arc::new(Self {
            copies: u64::try_from(copies).unwrap_or(u64::MAX),
            since,
            measuring: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            finished: watch::Sender::new(false),
            acknowledged: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            all_acknowledged: AtomicU64::new(0),
            all_delivered: AtomicU64::new(0),
            errors: Mutex::default(),
            ack: Mutex::default(),
            delivery: Mutex::default(),
        })
    }

    /// Starts or ends the measurement.
    pub(crate) fn measure(&self, on: bool) {
        self.measuring.store(on, Ordering::Relaxed);
    }

    pub(crate) fn is_measuring(&self) -> bool {
        self.measuring.load(Ordering::Relaxed)
    }

    /// Stops the senders.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Stops the receivers.
    pub(crate) fn finish(&self) {
        self.finished.send_replace(true);
    }

    pub(crate) async fn finished(&self) {
        // The watch channel cannot close: its sender is part of `self`.
        drop(self.finished.subscribe().wait_for(|finished| *finished).await);
    }

    pub(crate) fn acknowledge(&self, latency: Duration, mine: &mut Histogram) {
        self.all_acknowledged.fetch_add(1, Ordering::Relaxed);
        if self.is_measuring() {
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
            mine.record(latency);
        }
    }

    /// Counts a received message, and returns its latency. Texts that are not from a benchmark are ignored.
    pub(crate) fn deliver(&self, text: &str, mine: &mut Histogram) -> Option<Duration> {
        let latency = self.since.elapsed().saturating_sub(sent_at(text)?);
        self.all_delivered.fetch_add(1, Ordering::Relaxed);
        if self.is_measuring() {
            self.delivered.fetch_add(1, Ordering::Relaxed);
            mine.record(latency);
        }
        Some(latency)
    }

    /// Counts messages that another process has received: those in the measurement, and all.
    pub(crate) fn deliver_elsewhere(&self, measured: u64, all: u64) {
        self.delivered.fetch_add(measured, Ordering::Relaxed);
        self.all_delivered.fetch_add(all, Ordering::Relaxed);
    }

    /// Returns the messages that were received: those in the measurement, and all.
    pub(crate) fn delivered_here(&self) -> (u64, u64) {
        (self.delivered.load(Ordering::Relaxed), self.all_delivered.load(Ordering::Relaxed))
    }

    /// Adds the errors of another process.
    pub(crate) fn fail_elsewhere(&self, errors: BTreeMap<String, u64>) {
        let mut all = self.errors.lock();
        for (name, count) in errors {
            *all.entry(name).or_default() += count;
        }
    }

    pub(crate) fn fail(&self, failure: &Failure) {
        let name = match (failure.name(), failure.code) {
            ("", Some(code)) => code.to_string(),
            ("", None) => "other".to_owned(),
            (name, _) => name.to_owned(),
        };
        *self.errors.lock().entry(name).or_default() += 1;
    }

    /// Adds the measurements of a task.
    pub(crate) fn add(&self, ack: &Histogram, delivery: &Histogram) {
        self.ack.lock().merge(ack);
        self.delivery.lock().merge(delivery);
    }

    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.acknowledged.load(Ordering::Relaxed), self.delivered.load(Ordering::Relaxed))
    }

    pub(crate) fn acknowledged(&self) -> &AtomicU64 {
        &self.acknowledged
    }

    pub(crate) fn delivered(&self) -> &AtomicU64 {
        &self.delivered
    }

    pub(crate) fn latencies(&self) -> (super::histogram::Latency, super::histogram::Latency) {
        (self.ack.lock().summary(), self.delivery.lock().summary())
    }

    pub(crate) fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().clone()
    }

    /// Returns the number of deliveries of acknowledged messages that did not arrive.
    pub(crate) fn missing(&self) -> u64 {
        let expected = self.all_acknowledged.load(Ordering::Relaxed).saturating_mul(self.copies);
        expected.saturating_sub(self.all_delivered.load(Ordering::Relaxed))
    }
}

/// Returns true if every further request would fail with the same error.
pub(crate) fn is_final(failure: &Failure) -> bool {
    let network = ErrorCode::NetworkModuleNetworkError as i32;
    let not_logged = ErrorCode::NetworkModuleUserIsNotLogged as i32;
    failure.code.is_none_or(|code| code == network || code == not_logged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_its_time_and_size() {
        let since = Instant::now();
        let text = text(since, 200);
        assert_eq!(text.len(), 200);
        assert!(sent_at(&text).unwrap() <= since.elapsed());
        assert_eq!(super::text(since, 3).len(), STAMP);
        assert_eq!(sent_at("hello, this is not a time"), None);
        assert_eq!(sent_at("short"), None);
    }

    #[test]
    fn only_the_measurement_is_counted_except_for_missing_messages() {
        let meter = Meter::new();
        let mut mine = Histogram::default();
        meter.acknowledge(Duration::from_millis(1), &mut mine);
        meter.measure(true);
        meter.acknowledge(Duration::from_millis(2), &mut mine);
        meter.deliver(&text(meter.since, 20), &mut Histogram::default());
        meter.add(&mine, &Histogram::default());
        assert_eq!(meter.counts(), (1, 1));
        assert_eq!(meter.missing(), 1);
        assert_eq!(meter.latencies().0.max, Duration::from_millis(2));
        // What another process has received and what failed there count as well.
        meter.deliver_elsewhere(0, 1);
        assert_eq!((meter.counts(), meter.missing(), meter.delivered_here()), ((1, 1), 0, (1, 2)));
        meter.fail_elsewhere(BTreeMap::from([("other".to_owned(), 2)]));
        assert_eq!(meter.errors()["other"], 2);
        meter.fail(&Failure::coded(6_000_204, "x"));
        assert_eq!(meter.errors()["MessageModuleTargetDoesNotExist"], 1);
        assert!(is_final(&Failure::coded(6_000_104, "x")) && !is_final(&Failure::coded(6_000_204, "x")));
    }
}
