//! The connection to the server: frames on QUIC, kept alive, found again when it is lost.
//!
//! The part without IO is public, undocumented in the book and not for apps: a fuzzer is the server that it talks to.

mod connection;
mod dial;
mod drive;
mod link;
mod quic;
mod reconnect;
mod socket;
mod tls;

pub use self::connection::{Connection, Incoming, ProtocolError, TooLong};
pub(crate) use self::dial::{Dialed, Dialer};
pub(crate) use self::drive::{Ended, drive};
pub(crate) use self::link::Link;
pub use self::quic::client_config as quic_client_config;
pub(crate) use self::reconnect::Backoff;
pub use self::tls::certificate_verifier;
