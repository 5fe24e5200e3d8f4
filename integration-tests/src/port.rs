//! Port numbers for servers that a test starts again on the same port.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

/// Below the ports that systems give to connections that name none. While the server is down, no connection of another test gets
/// its port.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// Returns a port of 127.0.0.1 that nobody uses, neither for TCP nor for UDP.
///
/// # Panics
/// All are in use.
pub fn free_port() -> u16 {
    // Each test is a process of its own: they must not all try the same ports in the same order.
    let start = RandomState::new().hash_one(0) >> 1;
    (0..COUNT)
        .map(|step| {
            let at = (start + u64::from(step)) % u64::from(COUNT);
            FIRST + u16::try_from(at).expect("below the count")
        })
        .find(|port| {
            let at = (Ipv4Addr::LOCALHOST, *port);
            TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok()
        })
        .expect("a free port")
}
