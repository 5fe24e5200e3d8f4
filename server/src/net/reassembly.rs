//! The budget for partially received frames. Each session may leave a megabyte incomplete for half a minute, so a large
//! number of sessions needs a common limit.

use std::sync::atomic::{AtomicUsize, Ordering};

use metrics::gauge;
use zim_protocol::wire::CloseCode;

use super::writer::Closing;

use crate::meter::REASSEMBLY_BYTES;

/// The bytes of a single packet are not counted: they are within what a connection costs anyway. So the frames of most
/// clients never meet the limit, and the counter is not touched for them.
const UNCOUNTED_BYTES: usize = 1_500;

/// The bytes that all sessions hold, and their maximum.
#[derive(Debug)]
pub(super) struct ReassemblyBudget {
    bytes: AtomicUsize,
    max: usize,
}

impl ReassemblyBudget {
    pub(super) fn new(max: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), max }
    }

    /// Creates the reservation of a session, with no bytes in it.
    pub(super) fn reservation(&self) -> Reservation<'_> {
        Reservation { budget: self, bytes: 0 }
    }
}

/// The bytes that one session holds. Dropping it returns them to the budget.
#[derive(Debug)]
pub(super) struct Reservation<'a> {
    budget: &'a ReassemblyBudget,
    bytes: usize,
}

impl Reservation<'_> {
    /// Sets the bytes that the session holds. Fails if the budget does not allow them; the session is then to be
    /// closed.
    pub(super) fn set(&mut self, bytes: usize) -> Result<(), Closing> {
        let bytes = if bytes > UNCOUNTED_BYTES { bytes } else { 0 };
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            let before = self.budget.bytes.fetch_add(more, Ordering::Relaxed);
            if before.saturating_add(more) > self.budget.max {
                self.budget.bytes.fetch_sub(more, Ordering::Relaxed);
                return Err(Closing::new(CloseCode::Busy, "too many bytes of partially received frames"));
            }
            gauge!(REASSEMBLY_BYTES).increment(as_f64(more));
        } else {
            self.release(self.bytes - bytes);
        }
        self.bytes = bytes;
        Ok(())
    }

    fn release(&self, bytes: usize) {
        if bytes > 0 {
            self.budget.bytes.fetch_sub(bytes, Ordering::Relaxed);
            gauge!(REASSEMBLY_BYTES).decrement(as_f64(bytes));
        }
    }
}

/// A session holds at most a frame and a read, which fit.
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
    fn a_session_that_would_exceed_the_budget_is_closed_and_the_others_are_not() {
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
    fn the_bytes_of_a_single_packet_are_not_counted() {
        let budget = ReassemblyBudget::new(2_000);
        let (mut one, mut two) = (budget.reservation(), budget.reservation());
        one.set(2_000).unwrap();
        two.set(UNCOUNTED_BYTES).unwrap();
        assert_eq!(held(&budget), 2_000);
        two.set(UNCOUNTED_BYTES + 1).unwrap_err();
    }
}
