//! The remote of an account: the link to the server, and the events of the app.

use bytes::Bytes;
use zim_protocol::{Event, Push, Rpc};

use super::link::Link;
use crate::account::Remote;
use crate::error::Error;
use crate::events::{Events, Heard, Receipt};
use crate::types::Storage;

/// The remote of a real client: its link and its events.
#[derive(Clone, Debug)]
pub(crate) struct LinkRemote {
    pub(crate) link: Link,
    pub(crate) events: Events,
}

impl Remote for LinkRemote {
    fn request<R: Rpc + Send + Sync>(
        &self,
        connection: Option<u64>,
        request: R,
    ) -> impl Future<Output = Result<(R::Response, Vec<Push>), Error>> + Send + 'static
    where
        R::Response: Send,
    {
        self.link.request(connection, request)
    }

    fn request_encoded<R: Rpc + Send + Sync>(
        &self,
        connection: Option<u64>,
        request: Bytes,
    ) -> impl Future<Output = Result<(R::Response, Vec<Push>), Error>> + Send + 'static
    where
        R::Response: Send,
    {
        self.link.request_encoded::<R>(connection, request)
    }

    fn acknowledge(&self, connection: u64, events: u64, stored: Storage) {
        self.link.handled(connection, events, stored);
    }

    fn is_online(&self) -> bool {
        self.link.is_online()
    }

    fn heard(&self) -> Heard {
        self.events.heard()
    }

    fn raise(&self, event: Event, receipt: Option<Receipt>) {
        self.events.raise_with(event, receipt);
    }
}
