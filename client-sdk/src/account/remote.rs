//! The server and the app, as the account sees them.

use bytes::Bytes;
use zim_protocol::{Event, Push, Rpc};

use crate::error::Error;
use crate::events::{Heard, Receipt};
use crate::types::Storage;

/// The server and the app, as the account sees them: requests go to the server, events go to the app.
pub(crate) trait Remote: Clone + Send + Sync + 'static {
    /// Sends a request over the current connection, or fails unless that is `connection`. The frame is queued at the
    /// call.
    fn request<R: Rpc + Send + Sync>(
        &self,
        connection: Option<u64>,
        request: R,
    ) -> impl Future<Output = Result<(R::Response, Vec<Push>), Error>> + Send + 'static
    where
        R::Response: Send;

    /// Like [`Remote::request`], for a request that is checked and encoded.
    fn request_encoded<R: Rpc + Send + Sync>(
        &self,
        connection: Option<u64>,
        request: Bytes,
    ) -> impl Future<Output = Result<(R::Response, Vec<Push>), Error>> + Send + 'static
    where
        R::Response: Send;

    /// Tells the server, soon, that events of a connection were handled, and what is stored.
    fn acknowledge(&self, connection: u64, events: u64, stored: Storage);

    /// Returns whether a connection is logged in.
    fn is_online(&self) -> bool;

    /// Returns which kinds of events have a handler.
    fn heard(&self) -> Heard;

    /// Raises an event. The receipt, if there is one, is signed when every handler has had the event.
    fn raise(&self, event: Event, receipt: Option<Receipt>);
}
