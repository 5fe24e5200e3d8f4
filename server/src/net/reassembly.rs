//! What all sessions together make the server hold of frames that are not whole: each alone may leave a megabyte half sent for
//! half a minute, so their number would multiply it.

use std::sync::atomic::{AtomicUsize, Ordering};

use metrics::gauge;
use zim_protocol::wire::CloseCode;

use super::writer::Closing;

/// What one packet brings of a frame is not counted: it is within what a connection costs anyway, the frames of most clients
/// are never met by the bound, and the counter is not touched for them.
const UNCOUNTED_BYTES: usize = 1_500;

pub(super) const GAUGE: &str = "zim_half_sent_bytes";

/// The bytes of all sessions, and how many may be.
#[derive(Debug)]
pub(super) struct ReassemblyBudget {
    bytes: AtomicUsize,
    max: usize,
}

impl ReassemblyBudget {
    pub(super) fn new(max: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), max }
    }

    /// The reservation of a session that holds nothing yet.
    pub(super) fn reservation(&self) -> Reservation<'_> {
        Reservation { budget: self, bytes: 0 }
    }
}

/// What one session holds; given back whatever becomes of it.
#[derive(Debug)]
pub(super) struct Reservation<'a> {
    budget: &'a ReassemblyBudget,
    bytes: usize,
}

impl Reservation<'_> {
    /// The session holds so many bytes now. It is closed if that is more than there is room for.
    pub(super) fn set(&mut self, bytes: usize) -> Result<(), Closing> {
        let bytes = if bytes > UNCOUNTED_BYTES { bytes } else { 0 };
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            let before = self.budget.bytes.fetch_add(more, Ordering::Relaxed);
            if before.saturating_add(more) > self.budget.max {
                self.budget.bytes.fetch_sub(more, Ordering::Relaxed);
                return Err(Closing::new(CloseCode::Busy, "too much is half sent"));
            }
            gauge!(GAUGE).increment(as_f64(more));
        } else {
            self.release(self.bytes - bytes);
        }
        self.bytes = bytes;
        Ok(())
    }

    fn release(&self, bytes: usize) {
        if bytes > 0 {
            self.budget.bytes.fetch_sub(bytes, Ordering::Relaxed);
            gauge!(GAUGE).decrement(as_f64(bytes));
        }
    }
}

/// A session holds no more than a frame and a read.
fn as_f64(bytes: usize) -> f64 {
    f64::from(u32::try_from(bytes).unwrap_or(u32::MAX))
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(budget: &ReassemblyBudget) -> usize {
        budget.bytes.load(Ordering::Relaxed)
    }

    #[test]
    fn whoever_would_take_more_than_there_is_is_closed_and_the_others_stay() {
        let budget = ReassemblyBudget::new(10_000);
        let (mut one, mut two) = (budget.reservation(), budget.reservation());
        one.set(6_000).unwrap();
        two.set(4_000).unwrap();
        assert_eq!(two.set(4_001).unwrap_err().code, CloseCode::Busy);
        assert_eq!(held(&budget), 10_000);
        drop(two);
        one.set(10_000).unwrap();
        one.set(0).unwrap();
        assert_eq!(held(&budget), 0);
    }

    #[test]
    fn what_one_packet_brings_is_free() {
        let budget = ReassemblyBudget::new(2_000);
        let (mut one, mut two) = (budget.reservation(), budget.reservation());
        one.set(2_000).unwrap();
        two.set(UNCOUNTED_BYTES).unwrap();
        assert_eq!(held(&budget), 2_000);
        two.set(UNCOUNTED_BYTES + 1).unwrap_err();
    }
}
