//! Who is at the other end of a connection to the HTTP or the operator's service.

use std::fmt;
use std::net::SocketAddr;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// At an address.
    Tcp(SocketAddr),
    /// A process of this machine, with the number of its user, if the system tells it.
    #[cfg(unix)]
    Unix(Option<u32>),
}

impl Peer {
    /// Where it comes from, without what differs from connection to connection.
    pub(super) fn source(&self) -> String {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().to_string(),
            #[cfg(unix)]
            Self::Unix(_) => self.to_string(),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            #[cfg(unix)]
            Self::Unix(Some(uid)) => write!(f, "uid {uid}"),
            #[cfg(unix)]
            Self::Unix(None) => f.write_str("a process of this machine"),
        }
    }
}
