//! Who is at the other end of a connection to the HTTP or the operator's service.

use std::fmt;
use std::net::SocketAddr;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer(pub(super) SocketAddr);

impl Peer {
    /// Where it comes from, without what differs from connection to connection.
    pub(super) fn source(&self) -> String {
        self.0.ip().to_canonical().to_string()
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
