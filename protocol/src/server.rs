//! One trait for each service, one function for each method. Transport, login, limits, deadlines, tracing and metrics stand
//! around them, once.

use std::pin::Pin;

use crate::rpc::AnyRequest;
use crate::v1;

/// What the services of a server share.
pub trait Backend: Send + Sync {
    /// The session that calls, with its user.
    type Caller: Send + Sync;
    /// Why a call fails.
    type Error: Send;
}

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

include!(concat!(env!("OUT_DIR"), "/server.rs"));
include!(concat!(env!("OUT_DIR"), "/dispatch.rs"));
