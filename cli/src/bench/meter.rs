//! The messages of a bench: a time in front, so that who receives one knows how long it took, and padding up to the size.

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

/// Text of `size` bytes that tells when it was made.
pub(crate) fn text(since: Instant, size: usize) -> String {
    let us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
    let mut text = format!("{us:016x}");
    text.extend(std::iter::repeat_n('.', size.saturating_sub(STAMP)));
    text
}

/// When a text was made, after `since`.
pub(crate) fn made_at(text: &str) -> Option<Duration> {
    let us = u64::from_str_radix(text.get(..STAMP)?, 16).ok()?;
    Some(Duration::from_micros(us))
}

/// What a load measures. Before and after the window it runs as well, but is not counted.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) since: Instant,
    measuring: AtomicBool,
    stopping: AtomicBool,
    finished: watch::Sender<bool>,
    acknowledged: AtomicU64,
    delivered: AtomicU64,
    /// Within the window or not: what is not delivered in the end is lost.
    pub(crate) all_acknowledged: AtomicU64,
    pub(crate) all_delivered: AtomicU64,
    errors: Mutex<std::collections::BTreeMap<String, u64>>,
    ack: Mutex<Histogram>,
    delivery: Mutex<Histogram>,
}

pub(crate) type SharedMeter = Arc<Meter>;

impl Meter {
    pub(crate) fn new() -> SharedMeter {
        Arc::new(Self {
            since: Instant::now(),
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

    pub(crate) fn measure(&self, on: bool) {
        self.measuring.store(on, Ordering::Relaxed);
    }

    /// Nothing more is sent.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Nothing more is received.
    pub(crate) fn finish(&self) {
        self.finished.send_replace(true);
    }

    pub(crate) async fn finished(&self) {
        // The sender lives as long as this.
        drop(self.finished.subscribe().wait_for(|finished| *finished).await);
    }

    pub(crate) fn acknowledge(&self, latency: Duration, mine: &mut Histogram) {
        self.all_acknowledged.fetch_add(1, Ordering::Relaxed);
        if self.measuring.load(Ordering::Relaxed) {
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
            mine.record(latency);
        }
    }

    /// A message that was received; other texts than those of a bench are not counted.
    pub(crate) fn deliver(&self, text: &str, mine: &mut Histogram) {
        let Some(made_at) = made_at(text) else { return };
        self.all_delivered.fetch_add(1, Ordering::Relaxed);
        if self.measuring.load(Ordering::Relaxed) {
            self.delivered.fetch_add(1, Ordering::Relaxed);
            mine.record(self.since.elapsed().saturating_sub(made_at));
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

    /// Adds what one task has measured.
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

    pub(crate) fn latencies(&self) -> (super::histogram::Latency, super::histogram::Latency) {
        (self.ack.lock().summary(), self.delivery.lock().summary())
    }

    pub(crate) fn errors(&self) -> std::collections::BTreeMap<String, u64> {
        self.errors.lock().clone()
    }

    /// What was acknowledged and never came.
    pub(crate) fn missing(&self) -> u64 {
        self.all_acknowledged.load(Ordering::Relaxed).saturating_sub(self.all_delivered.load(Ordering::Relaxed))
    }
}

/// A load goes on after an error, unless every further call would have the same.
pub(crate) fn is_final(failure: &Failure) -> bool {
    let network = ErrorCode::NetworkModuleNetworkError as i32;
    let not_logged = ErrorCode::NetworkModuleUserIsNotLogged as i32;
    failure.code.is_none_or(|code| code == network || code == not_logged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_tells_when_it_was_made_and_has_its_size() {
        let since = Instant::now();
        let text = text(since, 200);
        assert_eq!(text.len(), 200);
        assert!(made_at(&text).unwrap() <= since.elapsed());
        assert_eq!(super::text(since, 3).len(), STAMP);
        assert_eq!(made_at("hello, this is no stamp"), None);
        assert_eq!(made_at("short"), None);
    }

    #[test]
    fn only_the_window_is_counted_but_nothing_is_forgotten() {
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
        meter.fail(&Failure::coded(6_000_204, "x"));
        assert_eq!(meter.errors()["MessageModuleTargetDoesNotExist"], 1);
        assert!(is_final(&Failure::coded(6_000_104, "x")) && !is_final(&Failure::coded(6_000_204, "x")));
    }
}
