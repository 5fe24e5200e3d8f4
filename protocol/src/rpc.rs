//! Methods: their table, and calls of any of them.

use std::fmt;

use bytes::Bytes;
use serde_json::Value;

use crate::shape::{self, MAX_PARTS, Shape};
use crate::v1;
use crate::validate::{Validate, Violation};

pub use crate::v1::{Access, Scheduling};

/// What the proto says about a method.
#[derive(Clone, Copy)]
pub struct Method {
    /// The name on the wire: `Group/CreateGroup`.
    pub path: &'static str,
    /// The service: `Group`.
    pub service: &'static str,
    /// The name in the proto: `CreateGroup`.
    pub rpc: &'static str,
    /// The name in Rust: `create_group`.
    pub name: &'static str,
    /// The name in the reference: `createGroup`.
    pub reference: &'static str,
    /// Who may call it.
    pub access: Access,
    /// How it is scheduled within its session.
    pub scheduling: Scheduling,
    /// Not a method of the reference.
    pub internal: bool,
    /// Deprecated in the reference.
    pub deprecated: bool,
    /// Sent twice is done once.
    pub idempotent: bool,
    /// Milliseconds until the server gives up; 0 is the server's default.
    pub deadline_ms: u32,
    /// What it does.
    pub doc: &'static str,
    /// The message that it takes.
    pub request: &'static str,
    /// The message that it answers.
    pub response: &'static str,
    /// Private: every method comes from [`METHODS`].
    codec: Codec,
}

/// The path names a method.
impl PartialEq for Method {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for Method {}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Method")
            .field("path", &self.path)
            .field("access", &self.access)
            .field("scheduling", &self.scheduling)
            .finish_non_exhaustive()
    }
}

/// How the bytes and the JSON of a method are read: a call that has found its method looks for nothing any more.
#[derive(Clone, Copy)]
struct Codec {
    shape: &'static Shape,
    decode: fn(Bytes) -> Result<AnyRequest, prost::DecodeError>,
    from_json: fn(Value) -> serde_json::Result<AnyRequest>,
    response_to_json: fn(&[u8]) -> Result<Value, JsonError>,
}

impl Codec {
    const fn of<R: Rpc + Into<AnyRequest>>(shape: &'static Shape) -> Self {
        Self {
            shape,
            decode: |payload| Ok(R::decode(payload)?.into()),
            from_json: |value| Ok(serde_json::from_value::<R>(value)?.into()),
            response_to_json: |payload| Ok(serde_json::to_value(<R::Response as prost::Message>::decode(payload)?)?),
        }
    }
}

impl AnyRequest {
    /// Reads the payload of a call of `method`.
    ///
    /// # Errors
    /// The payload is no such request, or has more messages inside of it than memory is spent on.
    pub fn decode(method: &'static Method, payload: Bytes) -> Result<Self, RequestError> {
        if !method.codec.shape.is_bounded(&payload) {
            return Err(RequestError::TooManyParts);
        }
        Ok((method.codec.decode)(payload)?)
    }

    /// Reads a call of `method` from JSON with the reference's names.
    ///
    /// # Errors
    /// The value is no such request.
    pub fn from_json(method: &'static Method, value: Value) -> serde_json::Result<Self> {
        (method.codec.from_json)(value)
    }
}

/// An encoded answer of `method` as JSON with the reference's names.
///
/// # Errors
/// The payload is no such answer.
pub fn response_to_json(method: &Method, payload: &[u8]) -> Result<Value, JsonError> {
    (method.codec.response_to_json)(payload)
}

/// The method with this path.
pub fn method(path: &str) -> Option<&'static Method> {
    METHODS.binary_search_by(|method| method.path.cmp(path)).ok().map(|index| &METHODS[index])
}

/// A request: which method it calls and what the method answers.
pub trait Rpc: prost::Message + Default + Validate + serde::Serialize + serde::de::DeserializeOwned + 'static {
    /// The answer.
    type Response: prost::Message + Default + serde::Serialize + serde::de::DeserializeOwned + 'static;

    /// The method.
    const METHOD: &'static Method;

    /// Writes of one session with the same order are first in, first out. `None`: it overtakes and is overtaken.
    fn order(&self) -> Option<u64>;

    /// [`Rpc::METHOD`] of a value.
    fn method(&self) -> &'static Method {
        Self::METHOD
    }
}

/// Why a payload is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is not a request of this method.
    #[error("the request cannot be read: {0}")]
    Decode(#[from] prost::DecodeError),
    /// More messages are inside of it than memory is spent on.
    #[error("the request holds more than {MAX_PARTS} messages")]
    TooManyParts,
}

/// Why an answer cannot be shown as JSON.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// It is not the answer of this method.
    #[error("the answer cannot be read: {0}")]
    Decode(#[from] prost::DecodeError),
    /// It has no JSON.
    #[error("the answer has no JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Hashes what orders a write: FNV-1a, because it must be the same everywhere and the inputs are short.
struct Order(u64);

impl Order {
    fn new(scope: &str) -> Self {
        let mut order = Self(0xcbf2_9ce4_8422_2325);
        order.text(scope);
        order
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        // A separator: "ab" and "c" are not "a" and "bc".
        self.0 = (self.0 ^ 0xff).wrapping_mul(0x0100_0000_01b3);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn number(&mut self, number: i64) {
        self.bytes(&number.to_be_bytes());
    }

    fn finish(self) -> u64 {
        self.0
    }
}

include!(concat!(env!("OUT_DIR"), "/methods.rs"));
include!(concat!(env!("OUT_DIR"), "/requests.rs"));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{
        ClearConversationUnreadMessageCountRequest, ConversationType, Message, MessageSentResult, QueryMessagesRequest,
        SendMessageRequest, UpdateUserNameRequest,
    };
    use prost::Message as _;

    fn send(to: &str, kind: ConversationType) -> SendMessageRequest {
        let message = Some(Message::text("hi"));
        SendMessageRequest {
            message,
            to_conversation_id: to.to_owned(),
            conversation_type: kind as i32,
            ..Default::default()
        }
    }

    #[test]
    fn writes_to_one_target_share_an_order_whatever_they_do() {
        let clear =
            ClearConversationUnreadMessageCountRequest { conversation_id: "bob".to_owned(), ..Default::default() };
        let order = send("bob", ConversationType::Peer).order();
        assert!(order.is_some());
        assert_eq!(clear.order(), order);
        assert_ne!(send("bob", ConversationType::Group).order(), order);
        assert_ne!(send("bo", ConversationType::Peer).order(), order);
        // Without a target: the service's own order. A read has none.
        assert!(UpdateUserNameRequest::default().order().is_some_and(|own| Some(own) != order));
        assert_eq!(QueryMessagesRequest::default().order(), None);
    }

    #[test]
    fn a_request_goes_through_bytes_and_json_by_its_method_alone() {
        let request = send("bob", ConversationType::Peer);
        let method = method("Message/SendMessage").unwrap();
        assert_eq!(method, SendMessageRequest::METHOD);
        let read = AnyRequest::decode(method, request.encode_to_vec().into()).unwrap();
        assert_eq!((read.method(), read.encode()), (method, request.encode_to_vec()));
        let json = AnyRequest::from_json(method, serde_json::to_value(&request).unwrap()).unwrap();
        assert_eq!((json.encode(), json.order()), (read.encode(), request.order()));
        let answer = MessageSentResult { message: request.message }.encode_to_vec();
        assert_eq!(response_to_json(method, &answer).unwrap()["message"]["message"], "hi");
        assert!(AnyRequest::decode(method, vec![0xff].into()).is_err());
        assert!(response_to_json(method, &[0xff]).is_err());
        assert_eq!(super::method("Message/Explode"), None);
    }

    #[test]
    fn every_path_finds_its_method() {
        for one in METHODS {
            assert_eq!(method(one.path), Some(one));
        }
    }
}
