//! What a client calls: one stub a service, over whatever carries requests.

use crate::rpc::Rpc;
use crate::v1;

/// Carries a request to the server and its answer back.
pub trait Transport: Sync {
    /// Why a call fails.
    type Error: Send;

    /// Calls.
    fn call<R: Rpc>(&self, request: R) -> impl Future<Output = Result<R::Response, Self::Error>> + Send;
}

include!(concat!(env!("OUT_DIR"), "/client.rs"));
