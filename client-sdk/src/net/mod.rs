//! The connection to the server: frames on QUIC, kept alive, found again when it is lost.

mod connection;
mod link;
mod quic;
mod reconnect;
mod tls;

pub(crate) use self::link::{Link, Outgoing};
pub(crate) use self::quic::{Dialer, Ended, Session};
pub(crate) use self::reconnect::Backoff;
pub use self::quic::client_config as quic_client_config;
