//! Port numbers for servers that a test starts again on the same port.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Below the ports that systems give to connections that name none. While the server is down, no connection of another test gets
/// its port.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;
/// Tests that run at once have ports of their own: a port is free until the server that is to have it has started.
const SLOTS: u16 = 40;

/// Where this process looks next. It gets no port twice.
static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one(0) >> 1));

/// Returns a port of 127.0.0.1 that nobody uses, neither for TCP nor for UDP.
///
/// # Panics
/// All are in use.
pub fn free_port() -> u16 {
    // nextest numbers the tests that run at once.
    let slot = std::env::var("NEXTEST_TEST_GLOBAL_SLOT").ok().and_then(|slot| slot.parse().ok());
    let ports = ports(slot);
    let port = |step: u64| ports.start + u16::try_from(step % ports.len() as u64).expect("below the count");
    (0..ports.len())
        .map(|_| port(NEXT.fetch_add(1, Ordering::Relaxed)))
        .find(|port| {
            let at = (Ipv4Addr::LOCALHOST, *port);
            TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok()
        })
        .expect("a free port")
}

/// Returns the ports of a test; without a slot all of them.
fn ports(slot: Option<u16>) -> Range<u16> {
    let each = COUNT / SLOTS;
    match slot {
        Some(slot) => {
            let first = FIRST + slot % SLOTS * each;
            first..first + each
        }
        None => FIRST..FIRST + COUNT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_that_run_at_once_have_ports_of_their_own() {
        assert_eq!((ports(Some(0)), ports(Some(1)), ports(Some(39))), (10_000..10_500, 10_500..11_000, 29_500..30_000));
        assert_eq!((ports(Some(40)), ports(None)), (10_000..10_500, 10_000..30_000));
        let taken: Vec<u16> = (0..3).map(|_| free_port()).collect();
        assert!(taken[0] != taken[1] && taken[1] != taken[2], "{taken:?}");
    }
}
