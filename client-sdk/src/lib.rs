//! The client SDK of zim: in-app chat with your own server. If you know ZEGOCLOUD ZIM, you know this API: it has the
//! same methods, types, events and error codes, in Rust.
//!
//! ```no_run
//! # async fn example() -> Result<(), zim_client_sdk::Error> {
//! use zim_client_sdk::{
//!     Config, ConversationType, EventKind, LoginConfig, Message, MessageSendConfig, MessageSendNotification, Trust, Zim,
//! };
//!
//! let config = Config::new(123_456_789, "chat.example.org:4710").app_sign("…").trust(Trust::System);
//! let zim = Zim::new(config)?;
//! zim.on(EventKind::PeerMessageReceived, |_, event| println!("{event:?}"));
//! zim.login("ann", LoginConfig::default()).await?;
//! let sent = zim
//!     .send_message(
//!         Message::text("hi"),
//!         "bob",
//!         ConversationType::Peer,
//!         MessageSendConfig::default(),
//!         MessageSendNotification::default(),
//!     )
//!     .await?;
//! println!("{:?}", sent.message);
//! # Ok(())
//! # }
//! ```

#![warn(missing_docs)]

/// The error type: the reference's code, a message, and whether a retry can help.
mod error;
/// The settings of a client: the server, how it is trusted, and where data is stored.
mod config;
/// The id of this installation.
mod device;
/// The user who logged in last on this device.
mod last_user;
/// Events: handlers by kind, and streams of all events.
mod events;
/// Types that the whole crate shares.
mod types;
/// The pure sync engine: positions, pulls, ranges, unread counts, catching up.
#[doc(hidden)]
pub mod engine;
/// The local database.
mod store;
/// The transaction of a turn: what the engine and the app want stored, and the events that result.
mod apply;
/// Outgoing messages, from the call of the app to the answer of the server.
mod outbox;
/// Everything that one login owns: the local database and its task.
mod account;
/// The connection to the server: QUIC, frames, requests and their answers.
#[doc(hidden)]
pub mod net;
/// Login, reconnection, logout: the state of a login, and the task that keeps it alive.
mod session;
/// The client handle: creating, finding and destroying it.
mod zim;
/// Log files.
mod log;
/// Logging in and out.
mod login;
/// Profiles and the user's own rules.
mod user;
/// Sending and reading messages.
#[expect(
    hidden_glob_reexports,
    reason = "this module is private to the crate; the module of bodies that it hides is `zim_protocol::message`"
)]
mod message;
/// The list of conversations.
mod conversation;
/// Lists that follow the local database.
mod observe;
/// Friends and friend applications.
mod friend;
mod group;
/// The blacklist.
mod blacklist;
/// Presence: online status and custom status.
mod status;

pub use zim_protocol::*;

pub use self::config::{Config, Trust};
pub use self::error::Error;
pub use self::events::{EventStream, Lagged};
pub use self::log::{LogConfig, LogLevel};
pub use self::message::MessageSendNotification;
#[doc(hidden)]
pub use self::net::quic_client_config;
pub use self::observe::{ConversationList, Diff, Timeline};
pub use self::zim::Zim;
