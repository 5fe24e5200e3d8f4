//! What all tasks of a day write to: the ledger, and the numbers of the present minute.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use zim_client_sdk::Error;

use super::failure::{Area, Failure};
use super::ledger::{Fact, Ledger, Ms};
use super::plan::Number;

/// The ledger with its clock, and what is counted for the graphs.
#[derive(Debug)]
pub(super) struct Record {
    begun: Instant,
    ledger: Mutex<Ledger>,
    /// How long each acknowledgement of this minute took, microseconds.
    acknowledgements: Mutex<Vec<u64>>,
    /// The messages that devices raised.
    delivered: AtomicU64,
    failures: AtomicU64,
}

impl Record {
    /// An empty record. The day begins now.
    pub(super) fn new(devices: usize) -> Self {
        Self {
            begun: Instant::now(),
            ledger: Mutex::new(Ledger::new(devices)),
            acknowledgements: Mutex::default(),
            delivered: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Returns the time since the morning.
    pub(super) fn now(&self) -> Ms {
        Ms::try_from(self.begun.elapsed().as_millis()).unwrap_or(Ms::MAX)
    }

    /// Locks the ledger. No caller waits for anything meanwhile.
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock()
    }

    /// Notes what a device is about to do.
    pub(super) fn begin(&self, fact: Fact) -> u32 {
        self.ledger.lock().begin(fact)
    }

    /// Notes that something was acknowledged.
    pub(super) fn acknowledged(&self, number: u32, seq: i64) {
        let now = self.now();
        self.ledger.lock().acknowledge(number, now, seq);
    }

    /// Notes how long the acknowledgement of a message took.
    pub(super) fn took(&self, time: Duration) {
        self.acknowledgements.lock().push(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// Notes that a device raised a message.
    pub(super) fn delivered(&self) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes a call that failed.
    pub(super) fn failed(&self, area: Area, begun: Ms, devices: &[Number], error: &Error) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let failure = Failure::new(area, (begun, self.now()), devices.to_vec(), error);
        self.ledger.lock().failures.push(failure);
    }

    /// Notes what is wrong whatever else happened.
    pub(super) fn note(&self, text: String) {
        self.ledger.lock().notes.push(text);
    }

    /// Takes the times of acknowledgements, the messages that were raised, and the failures since the last call.
    pub(super) fn take(&self) -> (Vec<u64>, u64, u64) {
        let times = std::mem::take(&mut *self.acknowledgements.lock());
        (times, self.delivered.swap(0, Ordering::Relaxed), self.failures.swap(0, Ordering::Relaxed))
    }
}
