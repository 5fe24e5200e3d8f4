//! The peer of a connection to the HTTP service or the operator's service.

use std::fmt;
use std::net::SocketAddr;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// A network address.
    Tcp(SocketAddr),
    /// A process on this machine, with its user ID if the system reports it.
    #[cfg(unix)]
    Unix(Option<u32>),
}

impl Peer {
    /// The source of the connection, without the parts that differ between connections, such as the port.
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
            Self::Unix(None) => f.write_str("a process on this machine"),
        }
    }
}
