//! Methods: their table, and calls of any of them.

use std::pin::Pin;

use crate::validate::{Validate, Violation};
use crate::{server, v1};

pub use crate::v1::{Access, Lane};

/// What the proto says about a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    pub lane: Lane,
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

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

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
