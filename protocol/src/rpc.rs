use std::fmt;

use bytes::Bytes;
use serde_json::Value;

use crate::shape::{self, MAX_PARTS, Shape};
use crate::v1;
use crate::validate::{Validate, Violation};

pub use crate::v1::{Access, Rate, Scheduling};

/// A method of the contract, with the options in its `.proto` file.
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
    /// Who may call the method.
    pub access: Access,
    /// How a request is scheduled within its session.
    pub scheduling: Scheduling,
    /// The allowance that a request takes from.
    pub rate: Rate,
    /// Whether it is a part of the protocol that the reference does not have.
    pub internal: bool,
    /// Whether the reference deprecates it.
    pub deprecated: bool,
    /// Whether sending a request twice has the same effect as sending it once.
    pub idempotent: bool,
    /// After how long the server gives up, milliseconds; 0: the server's default.
    pub deadline_ms: u32,
    /// The comment in the `.proto` file.
    pub doc: &'static str,
    /// The name of the request's message.
    pub request: &'static str,
    /// The name of the response's message.
    pub response: &'static str,
    /// This field is private, so every method comes from [`METHODS`] or [`SERVER_METHODS`].
    codec: Codec,
}

/// Two methods are equal if their paths are.
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

/// Reads the bytes and the JSON of a method: a call that has found its method needs no further look-up.
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
    /// Decodes the payload of a request of `method`.
    ///
    /// # Errors
    /// The payload is not such a request, or contains more than [`MAX_PARTS`] messages.
    pub fn decode(method: &'static Method, payload: Bytes) -> Result<Self, RequestError> {
        if !method.codec.shape.is_bounded(&payload) {
            return Err(RequestError::TooManyParts);
        }
        Ok((method.codec.decode)(payload)?)
    }

    /// Reads a request of `method` from JSON with the reference's names.
    ///
    /// # Errors
    /// The value is not such a request.
    pub fn from_json(method: &'static Method, value: Value) -> serde_json::Result<Self> {
        (method.codec.from_json)(value)
    }
}

/// Returns an encoded response of `method` as JSON with the reference's names.
///
/// # Errors
/// The payload is not such a response.
pub fn response_to_json(method: &Method, payload: &[u8]) -> Result<Value, JsonError> {
    (method.codec.response_to_json)(payload)
}

/// Returns the method with this path, such as `Group/CreateGroup`.
pub fn method(path: &str) -> Option<&'static Method> {
    METHODS.binary_search_by(|method| method.path.cmp(path)).ok().map(|index| &METHODS[index])
}

/// A request: the method that it calls and the type of the response.
pub trait Rpc: prost::Message + Default + Validate + serde::Serialize + serde::de::DeserializeOwned + 'static {
    /// The response.
    type Response: prost::Message + Default + serde::Serialize + serde::de::DeserializeOwned + 'static;

    /// The method.
    const METHOD: &'static Method;

    /// Returns what orders a write: the writes of one session with an equal order run first in, first out. `None`: the
    /// request is a read, which may overtake and be overtaken.
    fn order(&self) -> Option<u64>;

    /// Returns [`Rpc::METHOD`], for a value of unknown type.
    fn method(&self) -> &'static Method {
        Self::METHOD
    }
}

/// Why a payload is not a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The payload is not a request of this method.
    #[error("the request cannot be decoded: {0}")]
    Decode(#[from] prost::DecodeError),
    /// The request contains more messages than [`MAX_PARTS`].
    #[error("the request contains more than {MAX_PARTS} messages")]
    TooManyParts,
}

/// Why a response cannot be written as JSON.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The payload is not a response of this method.
    #[error("the response cannot be decoded: {0}")]
    Decode(#[from] prost::DecodeError),
    /// The response cannot be written as JSON.
    #[error("the response cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Hashes the target of a write, with FNV-1a: the hash must be the same everywhere, and the inputs are short.
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
        // A separator, so that "ab" and "c" differ from "a" and "bc".
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
        ClearConversationUnreadMessageCountRequest, ConversationType, CreateGroupRequest, GroupInfo, JoinGroupRequest,
        Message, MessageSentResult, QueryMessagesRequest, SendMessageRequest, UpdateUserNameRequest,
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
    fn writes_to_one_target_have_one_order_whatever_the_method() {
        let clear =
            ClearConversationUnreadMessageCountRequest { conversation_id: "bob".to_owned(), ..Default::default() };
        let order = send("bob", ConversationType::Peer).order();
        assert!(order.is_some());
        assert_eq!(clear.order(), order);
        assert_ne!(send("bob", ConversationType::Group).order(), order);
        assert_ne!(send("bo", ConversationType::Peer).order(), order);
        let group = send("bob", ConversationType::Group).order();
        assert_eq!(JoinGroupRequest { group_id: "bob".to_owned() }.order(), group);
        let info = GroupInfo { group_id: "bob".to_owned(), ..Default::default() };
        assert_eq!(CreateGroupRequest { group_info: Some(info), ..Default::default() }.order(), group);
        // A write without a target has its service's order. A read has none.
        assert!(UpdateUserNameRequest::default().order().is_some_and(|own| Some(own) != order));
        assert_eq!(QueryMessagesRequest::default().order(), None);
    }

    #[test]
    fn a_method_decodes_its_request_from_bytes_and_json() {
        let request = send("bob", ConversationType::Peer);
        let method = method("Message/SendMessage").unwrap();
        assert_eq!(method, SendMessageRequest::METHOD);
        assert_ne!(method, JoinGroupRequest::METHOD);
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
    fn every_method_is_found_by_its_path() {
        for one in METHODS {
            assert_eq!(method(one.path), Some(one));
        }
    }
}
