//! The connection to the server: QUIC, frames, requests and their answers.
//!
//! The part without IO is public for tests: a fuzzer plays the server. It is not for apps, and the book does not
//! document it.

mod address;
mod certificate;
mod connection;
mod dial;
mod drive;
mod link;
mod quic;
mod reconnect;
mod remote;
mod socket;
mod tls;

pub use self::address::{Address, ascii_host};
pub use self::certificate::CertificateProblem;
pub use self::connection::{Connection, Incoming, ProtocolError, TooLong};
pub(crate) use self::dial::{Dialed, Dialer};
pub(crate) use self::drive::{Ended, drive};
pub(crate) use self::link::Link;
pub use self::quic::client_config as quic_client_config;
pub(crate) use self::reconnect::Backoff;
pub(crate) use self::remote::LinkRemote;
pub use self::tls::certificate_verifier;
pub(crate) use self::tls::https_config;
