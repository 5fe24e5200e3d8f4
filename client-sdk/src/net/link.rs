//! The way to the server for the rest of the client, whether there is a connection or not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{mpsc, oneshot};
use zim_protocol::{ErrorCode, Method, Push, Rpc};

use crate::error::Error;

/// An answer, with the log entries that the call caused.
pub(crate) type Answer = Result<(Bytes, Vec<Push>), Error>;

/// A call on its way out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: &'static Method,
    pub(crate) payload: Bytes,
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// Carries calls. Clones share the connection.
#[derive(Clone, Debug)]
pub(crate) struct Link(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The way into the present connection, if it is logged in.
    out: Mutex<Option<mpsc::UnboundedSender<Outgoing>>>,
    timeout: Duration,
}

impl Link {
    pub(crate) fn new(timeout_ms: u64) -> Self {
        Self(Arc::new(Shared { out: Mutex::default(), timeout: Duration::from_millis(timeout_ms) }))
    }

    /// A connection is logged in.
    pub(crate) fn attach(&self, out: mpsc::UnboundedSender<Outgoing>) {
        *self.0.out.lock() = Some(out);
    }

    /// There is none.
    pub(crate) fn detach(&self) {
        self.0.out.lock().take();
    }

    /// Whether a call has a chance.
    pub(crate) fn is_online(&self) -> bool {
        self.0.out.lock().is_some()
    }

    /// Calls a method: checks the limits, sends the frame when it is first polled, and waits for the answer.
    pub(crate) async fn call<R: Rpc>(&self, request: R) -> Result<(R::Response, Vec<Push>), Error> {
        request.validate().map_err(|violation| Error::from(*violation))?;
        let (payload, pushes) = self.send(R::METHOD, request.encode_to_vec().into()).await?;
        Ok((R::Response::decode(payload).map_err(unreadable)?, pushes))
    }

    /// Calls a method whose request is encoded already.
    pub(crate) async fn send(&self, method: &'static Method, payload: Bytes) -> Answer {
        let (reply, answer) = oneshot::channel();
        {
            let out = self.0.out.lock();
            let out = out.as_ref().ok_or_else(no_connection)?;
            out.send(Outgoing { method, payload, reply }).map_err(|_| no_connection())?;
        }
        await_answer(answer, self.0.timeout).await
    }
}

/// Waits for an answer, but not for ever.
pub(crate) async fn await_answer(answer: oneshot::Receiver<Answer>, patience: Duration) -> Answer {
    match tokio::time::timeout(patience, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(Error::new(
            ErrorCode::NetworkModuleNetworkError,
            "the connection was lost before the answer came; the call may have been carried out",
        )),
        Err(_) => Err(Error::new(ErrorCode::NetworkModuleRequestTimeout, "the server did not answer in time")),
    }
}

pub(crate) fn unreadable(error: prost::DecodeError) -> Error {
    Error::new(ErrorCode::NetworkModuleRspProtoParseError, "the server's answer cannot be read").with_source(error)
}

fn no_connection() -> Error {
    Error::new(ErrorCode::NetworkModuleNetworkError, "there is no connection to the server")
}
