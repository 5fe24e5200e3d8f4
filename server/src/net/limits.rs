//! Limits the connections and handshakes of each address. Pure: the caller passes the time of the steady clock.

use std::collections::HashMap;

pub(crate) use crate::rate::{Bucket, Rate, Subnet};

#[derive(Debug, Default)]
struct Entry {
    connections: usize,
    handshakes: Bucket,
}

/// Connections and handshakes by address.
#[derive(Debug)]
pub(crate) struct Addresses {
    entries: HashMap<Subnet, Entry>,
    handshakes: Rate,
    max_connections: usize,
    sweep_at: usize,
}

/// With fewer addresses than this, none is removed.
const SWEEP_FROM: usize = 4_096;

impl Addresses {
    pub(crate) fn new(handshakes: Rate, max_connections: usize) -> Self {
        Self { entries: HashMap::new(), handshakes, max_connections, sweep_at: SWEEP_FROM }
    }

    /// Counts a handshake of a client at the validated address `subnet`. Returns false if it may not be performed now.
    pub(crate) fn may_handshake(&mut self, subnet: Subnet, now_ms: i64) -> bool {
        if self.entries.len() >= self.sweep_at {
            self.entries.retain(|_, entry| entry.connections > 0 || !entry.handshakes.is_full(now_ms));
            self.sweep_at = (self.entries.len() * 2).max(SWEEP_FROM);
        }
        let rate = self.handshakes;
        self.entries.entry(subnet).or_default().handshakes.take(rate, now_ms).is_ok()
    }

    /// Counts a new connection from `subnet`. Returns false if the address has too many.
    pub(crate) fn connect(&mut self, subnet: Subnet) -> bool {
        let entry = self.entries.entry(subnet).or_default();
        let is_allowed = entry.connections < self.max_connections;
        entry.connections += usize::from(is_allowed);
        is_allowed
    }

    /// Counts the end of a connection from `subnet`.
    pub(crate) fn disconnect(&mut self, subnet: Subnet, now_ms: i64) {
        if let Some(entry) = self.entries.get_mut(&subnet) {
            entry.connections = entry.connections.saturating_sub(1);
            if entry.connections == 0 && entry.handshakes.is_full(now_ms) {
                self.entries.remove(&subnet);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn each_address_has_its_own_limits() {
        let mut addresses = Addresses::new(Rate::new(1, 2), 2);
        let subnet = |text: &str| Subnet::from(text.parse::<SocketAddr>().unwrap());
        let (one, two) = (subnet("192.0.2.1:1"), subnet("192.0.2.2:1"));
        assert_eq!(one, subnet("[::ffff:192.0.2.1]:9"));
        assert_eq!(subnet("[2001:db8::1]:1"), subnet("[2001:db8::ffff]:2"));
        assert_ne!(subnet("[2001:db8::1]:1"), subnet("[2001:db8:0:1::1]:1"));
        assert!(addresses.may_handshake(one, 0) && addresses.may_handshake(one, 0));
        assert!(!addresses.may_handshake(one, 0));
        assert!(addresses.may_handshake(two, 0));
        assert!(addresses.connect(one) && addresses.connect(one) && !addresses.connect(one));
        assert!(addresses.connect(two));
        addresses.disconnect(one, 0);
        assert!(addresses.connect(one));
    }

    #[test]
    fn idle_addresses_are_removed() {
        let mut addresses = Addresses::new(Rate::new(1, 1), 1);
        for index in 0..SWEEP_FROM as u64 {
            assert!(addresses.may_handshake(Subnet::from_number(index), 0));
        }
        assert!(addresses.connect(Subnet::from_number(7)));
        assert!(addresses.may_handshake(Subnet::from_number(u64::MAX), 5_000));
        assert_eq!(addresses.entries.len(), 2);
        addresses.disconnect(Subnet::from_number(7), 9_000);
        assert_eq!(addresses.entries.len(), 1);
    }
}
