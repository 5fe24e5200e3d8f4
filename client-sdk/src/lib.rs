//! The client SDK of zim: in-app chat with your own server.
//!
//! ```no_run
//! # async fn example() -> Result<(), zim_client_sdk::Error> {
//! use zim_client_sdk::{Config, LoginConfig, PeerMessageReceivedEvent, Trust, Zim};
//!
//! let config = Config::new(123_456_789, "chat.example.org:4710").app_sign("…").trust(Trust::System);
//! let zim = Zim::new(config)?;
//! let guard = zim.on_event(|_, event: &PeerMessageReceivedEvent| println!("{:?}", event.message_list));
//! zim.login("ann", LoginConfig::default()).await?;
//! let sent = zim.peer("bob").send("hi").await?;
//! println!("stored as message {}", sent.message_seq);
//! # Ok(())
//! # }
//! ```
//!
//! - [`Zim`] is the client. [`Zim::synced`] waits until it has caught up, [`Zim::close`] ends it.
//! - [`Zim::peer`] and [`Zim::group`] return handles to send ([`SendMessage`]), read ([`History`]) and manage a
//!   conversation ([`Chat`], [`Group`]). [`Zim::room`] returns one for a [`Room`], which exists as long as somebody is in it.
//! - [`Zim::on_event`] sets a handler for one type of event. Handlers get events at least once. [`Zim::events`] is a stream of
//!   all events from now on, and [`Zim::connection_states`] one of the connection's states.
//! - [`message::Body`] is what a message contains. [`Error`] has the reference's code and says whether a retry may help.
//!
//! # Errors
//! The documentation of each method lists the codes of its own errors. In addition, every method may fail with these:
//! - 6000001: a parameter is out of its bounds, for example an ID with a character that no ID has. The message names it.
//! - 6000121: nobody is logged in. 6000002: the client has ended.
//! - 6000104: there is no connection. 6000105: the server did not answer in time; it may have done what was asked.
//! - 6000005: the server limits the rate. [`Error::detail`] has `retry_after_ms`.
//! - 6000007: something of the server does not work. 6000008: its database.
//! - 6000702, 6000704, 6000710: the local database cannot be written or read, or is closed.
//!
//! # ZEGOCLOUD ZIM
//! If you know ZEGOCLOUD ZIM, you know the rest: every method, type, event and error code that exists has the reference's name,
//! in Rust's spelling ([`Zim::send_message`], [`Zim::query_history_message`], [`Zim::on`]). The handles call these methods,
//! so both forms can be mixed.
//!
//! # Values
//! The types are generated from the contract. An enum is a field with a number, because a later server may have values that
//! this version does not know. The method of the same name returns the value, or the first one if it is unknown:
//! `message.sent_status()`, `message.r#type()`, `event.state()`. A message inside another is an `Option`. The handles return
//! what is always there without it.

#![warn(missing_docs)]

/// The error type: the reference's code, a message, and whether a retry can help.
mod error;
/// Hosts, in one form for all ways to write them.
mod host;
/// The settings of a client: the server, how it is trusted, and where data is stored.
mod config;
/// The areas that clients may use.
mod fence;
/// Settings by name.
mod advanced;
/// The id of this installation.
mod device;
/// The user who logged in last on this device.
mod last_user;
/// A logout that the server does not know of.
mod logged_out;
/// Events: handlers by kind, and streams of all events.
mod events;
/// Types that the whole crate shares.
mod types;
/// The ends of the pages of searches.
mod search_pages;
/// The files of messages: what is on this device, and how it travels over HTTPS.
mod media;
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
/// Geofencing.
mod geofence;
/// Log files.
mod log;
/// Uploading them.
mod log_upload;
/// Logging in and out.
mod login;
/// Profiles and the user's own rules.
mod user;
/// Sending and reading messages, and what is in a message.
pub mod message;
/// Settings by name, and experimental methods.
mod experimental;
/// Changing messages that were sent: revoking, editing, pinning, replying.
mod message_change;
/// Reactions to messages.
mod reaction;
/// Read receipts.
mod receipt;
/// Exporting the messages of this device, and importing them.
mod message_transfer;
/// Deleting messages for oneself, and what exists on this device only.
mod message_local;
/// Sending messages with files, and downloading the files.
mod message_media;
/// The list of conversations.
mod conversation;
/// Search in messages and conversations of this device.
mod search;
/// Lists that follow the local database.
mod observe;
/// Friends and friend applications.
mod friend;
mod group;
mod group_application;
mod group_member;
mod call;
mod room;
/// Offline push.
mod push;
/// The blacklist.
mod blacklist;
/// Presence: online status and custom status.
mod status;
/// Handles of conversations.
mod chat;

/// The pure sync engine: positions, pulls, ranges, unread counts, catching up.
#[doc(hidden)]
pub use zim_engine as engine;
#[doc(inline)]
pub use zim_protocol::app::*;

pub use self::chat::{Call, Chat, Group, History, Items, Revoke, Ring, Room, SendMessage};
pub use self::config::{Area, Config, Trust};
pub use self::error::Error;
pub use self::events::{EventStream, HandlerGuard, Lagged};
pub use self::group_member::GroupMemberMutedListQueryConfig;
pub use self::log::{LogConfig, LogLevel};
pub use self::message::MessageSendNotification;
pub use self::message_media::MediaMessageSendNotification;
#[doc(hidden)]
pub use self::net::quic_client_config;
pub use self::observe::{ConversationList, Diff, MemberList, Timeline};
pub use self::push::{PushToken, ZPNs, ZPNsConfig, ZPNsRegistered};
pub use self::session::ConnectionStates;
pub use self::zim::Zim;
