//! The server of zim: in-app chat that you run yourself.

pub mod app;
mod blacklist;
pub mod config;
mod conversation;
pub mod db;
pub mod effect;
pub mod error;
pub mod fanout;
mod first_run;
mod folder;
mod friend;
pub mod journal;
pub mod key;
mod log;
mod maintenance;
mod message;
mod net;
mod rate;
mod repeated;
pub mod run;
pub mod server;
pub mod session;
mod status;
mod sync;
pub mod tenant;
mod tls;
mod user;

pub use self::first_run::Credentials;
pub use self::folder::FolderError;
pub use self::net::AdminAddr;
#[doc(hidden)]
pub use self::net::Tickets;
pub use self::server::{Server, StartError};
pub use self::tls::{Fingerprint, TlsError};
