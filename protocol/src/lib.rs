//! The contract between zim's server and its clients: messages, methods, limits, events, error codes, and how they travel.
//! No IO.
//!
//! The `.proto` files are the source of it all; what is mechanical is generated from them when the crate is built.
//!
//! ```
//! use zim_protocol::{Message, SendMessageRequest, Validate, method};
//!
//! let send = method("Message/SendMessage").unwrap();
//! assert_eq!(send.name, "send_message");
//!
//! let mut request = SendMessageRequest { message: Some(Message::text("hi")), ..Default::default() };
//! let violation = request.validate().unwrap_err();
//! assert_eq!(violation.to_string(), "toConversationID is missing");
//! request.to_conversation_id = "bob".to_owned();
//! request.validate().unwrap();
//! ```
//!
//! # Features
//! A client needs none of them.
//! - `server`: the module `server`, with the traits that a server implements, and `AnyRequest::call`.
//! - `token`: `Token` in [`token`], which makes and verifies tokens (AES). Without it, [`token::expiry`] is all there is.
//! - `admin`: the module `admin`, with the operator's service over gRPC (tonic), and its messages. Without it, they are
//!   not in [`DESCRIPTOR`] either.

#![warn(missing_docs)]

// In dependency order: a module uses only those above it.

/// JSON where serde's own is not the reference's.
mod json;

/// The messages of package `zim.v1`, as the `.proto` files document them.
#[expect(
    missing_docs,
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::large_enum_variant,
    reason = "generated; the comments of the .proto files are its docs"
)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/zim.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/oneofs.rs"));
}

/// Time: the only clock that server and SDK read.
pub mod clock;
/// Bounds, versions and close codes of a connection.
pub mod wire;
/// Frames: messages in a stream of bytes.
pub mod frame;
/// IDs and their alphabet.
pub mod id;
/// Limits of fields.
mod validate;
/// Error codes and their names.
mod error;
/// Kinds of events, and their JSON.
mod event;
/// The flat JSON of messages.
mod flat;
/// From log entries to messages.
mod entry;
/// Counts the messages inside a request before it is decoded.
mod shape;
/// The table of methods, and requests of any method.
mod rpc;
/// The stubs that a client calls.
pub mod client;
/// The traits that a server implements.
#[cfg(feature = "server")]
pub mod server;
/// Tokens, version 04: how an app's back end vouches for a user.
pub mod token;

pub use self::entry::ORDER_KEY_STEP;
pub use self::event::{EventKind, UnknownEvent};
pub use self::rpc::{
    Access, AnyRequest, JsonError, METHODS, Method, RequestError, Rpc, Scheduling, method, response_to_json,
};
pub use self::shape::MAX_PARTS;
pub use self::v1::event_record::Event;
pub use self::v1::*;
pub use self::validate::{Validate, Violation};

/// The `.proto` files as one encoded `FileDescriptorSet`, options and comments included: for tools that show the contract.
pub static DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));

/// The operator's service, over gRPC.
#[cfg(feature = "admin")]
pub mod admin {
    pub use crate::v1::admin_client::AdminClient;
    pub use crate::v1::admin_server::{Admin, AdminServer};
}
