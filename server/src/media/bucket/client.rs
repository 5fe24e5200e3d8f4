//! The HTTP client for an object store.

use std::time::Duration;

use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector};

use crate::web_client;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer, or a part of one, may take.
const STALL: Duration = Duration::from_secs(30);

/// Hands the client to the library. Its own would need another crypto library, or one that is set for the whole process.
#[derive(Debug)]
pub(super) struct Connector(reqwest::Client);

impl Connector {
    /// Makes a client that trusts the certificates of the system.
    pub(super) fn new() -> Result<Self, String> {
        // A redirection of a signed request is an error of the region or the endpoint.
        let builder = web_client::builder(web_client::system_roots(), &["http/1.1"])?;
        let client = builder.connect_timeout(CONNECT).read_timeout(STALL).build();
        client.map(Self).map_err(|error| error.to_string())
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}
