//! Up to which time a client has handled its events, as far as it has said.

/// Between two acknowledgements there may always be new events. So it is noted how many there are at a time, and waited until the
/// client has said that it has handled as many.
#[derive(Debug, Default)]
pub(super) struct Handled {
    through: i64,
    /// A number of events, and when there were so many.
    mark: Option<(u64, i64)>,
}

impl Handled {
    /// Notes that the client has handled `count` events, of `all` that it has got or is to get at this time.
    pub(super) fn acknowledge(&mut self, count: u64, all: u64, now_ms: i64) {
        if let Some((marked, at_ms)) = self.mark
            && count >= marked
        {
            self.through = self.through.max(at_ms);
            self.mark = None;
        }
        self.mark.get_or_insert((all, now_ms));
    }

    /// Returns the time, Unix milliseconds, until which the client has handled all events; 0: that is not known.
    pub(super) fn through(&self) -> i64 {
        self.through
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_handled_once_as_many_are_acknowledged_as_there_were() {
        let mut handled = Handled::default();
        handled.acknowledge(0, 3, 100);
        // There are always new ones.
        handled.acknowledge(2, 5, 200);
        assert_eq!(handled.through(), 0);
        handled.acknowledge(3, 6, 300);
        assert_eq!(handled.through(), 100);
        handled.acknowledge(5, 9, 400);
        assert_eq!(handled.through(), 100, "six are waited for");
        handled.acknowledge(6, 9, 500);
        assert_eq!(handled.through(), 300);
    }
}
