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

#![warn(missing_docs)]

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
}

pub mod client;
pub mod clock;
mod entry;
mod error;
mod event;
mod flat;
pub mod frame;
pub mod id;
mod json;
mod rpc;
pub mod server;
mod shape;
pub mod token;
mod validate;
pub mod wire;

pub use self::entry::ORDER_KEY_STEP;
pub use self::event::{EventKind, UnknownEvent};
pub use self::rpc::{
    Access, AnyRequest, BoxFuture, JsonError, METHODS, Method, RequestError, Rpc, Scheduling, method, response_to_json,
};
pub use self::shape::MAX_PARTS;
pub use self::v1::event_record::Event;
pub use self::v1::*;
pub use self::validate::{Validate, Violation};

/// The `.proto` files as one encoded `FileDescriptorSet`, options and comments included: for tools that show the contract.
pub static DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));

/// The operator's service, over gRPC.
pub mod admin {
    pub use crate::v1::admin_client::AdminClient;
    pub use crate::v1::admin_server::{Admin, AdminServer};
}
