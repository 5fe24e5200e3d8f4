//! The server of zim: in-app chat that you run yourself.

// A map: a module uses only modules above it. `integration-tests/tests/layout.rs` checks it.

/// Rates and allowances.
mod rate;
/// Warnings that repeat: one line a minute, with a count.
mod repeated;
/// Integer keys of apps, users, conversations and logins, and the ids that clients see.
pub mod key;
/// Why a request fails: the reference's code, a sentence for the client, and the cause for the log.
pub mod error;
/// What a committed transaction notifies the rest of the server of.
pub mod effect;
/// The store: SQLite or PostgreSQL, one text of SQL, many jobs in one commit.
pub mod db;
/// HTTP clients for other services.
mod web_client;
/// The bytes of files, and small versions of pictures; which messages have which files.
mod media;
/// Offline push: what other nouns note about it.
pub mod push;
/// The logs of messages, changes and feeds, which everything else is written to and read from.
pub mod journal;
/// Tasks that are done at a time, and the outbox.
pub mod task;
/// Settings, with their defaults and limits.
pub mod config;
/// The log on standard error.
mod log;
/// The data folder: its lock, and who may read it.
mod folder;
/// The certificate.
mod tls;
/// Metrics for Prometheus.
mod meter;
/// Keeps commands and blocks in order.
mod block_fence;
/// How often something may happen in a room.
mod room_rates;
mod room_sends;
mod turns;
/// The services that deliver pushes to devices.
mod provider;
/// Apps: their secrets, and who may log in to them.
pub mod tenant;
/// One client's connection: who is logged in on it, what waits for it, and the caller of a method.
pub mod connection;
/// Pushes what is committed to the connections of this node.
pub mod fanout;
/// What the nodes of a deployment tell each other.
pub mod bus;
/// One server's state, which every service gets.
pub mod app;
/// Who is online: kept true as connections end and time passes.
mod presence;
/// The reference's methods, a module for each noun.
pub mod service;
/// This server as one of several that share a database.
mod nodes;
/// QUIC, HTTP and the operator's service.
mod net;
/// The first start: the first app and its credentials.
mod first_run;
/// Starting and stopping a server.
pub mod server;
/// Copies an SQLite database to PostgreSQL.
mod transfer;
/// Commands of the program that need no running server.
mod maintenance;
/// The signals that stop the server.
mod signal;
/// The program.
pub mod run;

pub use self::first_run::Credentials;
pub use self::folder::FolderError;
pub use self::net::AdminAddr;
#[doc(hidden)]
pub use self::net::Tickets;
pub use self::server::{Server, StartError};
pub use self::tls::{Fingerprint, TlsError};
