//! Which events the handlers have had.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// The deliveries of one login: which of its numbered events the handlers have had.
#[derive(Clone, Debug)]
pub(crate) struct Deliveries(Arc<Delivered>);

#[derive(Debug)]
struct Delivered {
    through: watch::Sender<i64>,
    /// The login has ended. Its events that wait are raised by its next login.
    is_ended: AtomicBool,
}

impl Deliveries {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Delivered { through: watch::Sender::new(0), is_ended: AtomicBool::new(false) }))
    }

    /// Returns a receipt for the event with this number. Events must be raised in the order of their numbers.
    pub(crate) fn receipt(&self, number: i64) -> Receipt {
        Receipt { number, deliveries: self.clone() }
    }

    /// Returns the number through which all events are delivered.
    pub(crate) fn through(&self) -> watch::Receiver<i64> {
        self.0.through.subscribe()
    }

    /// Ends the deliveries: no handler is called for an event that still waits.
    pub(crate) fn end(&self) {
        self.0.is_ended.store(true, Ordering::Release);
    }
}

/// The receipt of an event that is delivered at least once.
#[derive(Debug)]
pub(crate) struct Receipt {
    number: i64,
    deliveries: Deliveries,
}

impl Receipt {
    /// Reports that every handler has had the event.
    pub(crate) fn sign(self) {
        self.deliveries.0.through.send_replace(self.number);
    }

    pub(super) fn is_void(&self) -> bool {
        self.deliveries.0.is_ended.load(Ordering::Acquire)
    }
}
