//! The client SDK of zim: in-app chat on a server of your own. Who knows ZEGOCLOUD's ZIM is at home: the same methods, types,
//! events and error codes, in Rust.
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

mod blacklist;
mod config;
mod conversation;
mod account;
mod device;
mod error;
mod event;
mod friend;
mod last_user;
mod log;
#[expect(
    hidden_glob_reexports,
    reason = "the noun's file; the module of bodies that it hides is `zim_protocol::message`"
)]
mod message;
#[doc(hidden)]
pub mod net;
mod send_queue;
mod session;
mod status;
mod store;
#[doc(hidden)]
pub mod sync;
mod user;
mod zim;

pub use zim_protocol::*;

pub use self::config::{Config, Trust};
pub use self::error::Error;
pub use self::event::{EventStream, Lagged};
pub use self::log::{LogConfig, LogLevel};
pub use self::message::MessageSendNotification;
#[doc(hidden)]
pub use self::net::quic_client_config;
pub use self::zim::Zim;
