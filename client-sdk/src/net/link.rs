//! The link of a login to the server, connected or not. A request is put into the connection's next write at once, so
//! frames are sent in the order of the calls. Answers go to the callers that wait for them.
//!
//! Each login has its own link, so that a request of an earlier login can never reach a later one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{Notify, oneshot, watch};
use zim_protocol::response::Outcome;
use zim_protocol::{ErrorCode, EventFrame, Hello, Method, Push, Response, Rpc, Welcome};

use super::connection::{Connection, Incoming, ProtocolError};
use crate::error::{Error, IS_SENT};
use crate::types::Storage;

/// An answer, with the log entries that the request caused.
pub(crate) type Answer = Result<(Bytes, Vec<Push>), Error>;

type Waiter = oneshot::Sender<Answer>;

/// Sends requests. Clones share the connection.
#[derive(Clone, Debug)]
pub(crate) struct Link(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    timeout: Duration,
    open: Mutex<Open>,
    /// The server's Welcome on the current connection.
    welcome: watch::Sender<Option<Arc<Welcome>>>,
    /// There is something to write.
    to_write: Notify,
    /// An acknowledgement of events is due.
    ack_due: Notify,
    /// A request was started.
    started: Notify,
    /// Entries that were caused by requests for which no one waits any more.
    late: Mutex<Vec<Push>>,
    is_late: Notify,
}

#[derive(Debug, Default)]
struct Open {
    connection: Option<Connection<Waiter>>,
    /// Numbers the connections.
    number: u64,
    is_logged_in: bool,
}

impl Link {
    pub(crate) fn new(timeout_ms: u64) -> Self {
        Self(Arc::new(Shared {
            timeout: Duration::from_millis(timeout_ms),
            open: Mutex::default(),
            welcome: watch::Sender::new(None),
            to_write: Notify::new(),
            ack_due: Notify::new(),
            started: Notify::new(),
            late: Mutex::default(),
            is_late: Notify::new(),
        }))
    }

    /// Returns whether a connection is logged in.
    pub(crate) fn is_online(&self) -> bool {
        self.0.open.lock().is_logged_in
    }

    /// Returns the number of the current connection, or of the last one.
    pub(crate) fn number(&self) -> u64 {
        self.0.open.lock().number
    }

    /// Sends a request over the current connection, or fails unless that is `connection`: checks its limits, queues the
    /// frame at once, and waits for the answer.
    pub(crate) fn request<R: Rpc>(
        &self,
        connection: Option<u64>,
        request: R,
    ) -> impl Future<Output = Result<(R::Response, Vec<Push>), Error>> + Send + 'static + use<R> {
        let checked = request.validate().map_err(Error::from);
        let sent = checked.map(|()| self.request_encoded::<R>(connection, request.encode_to_vec().into()));
        async move { sent?.await }
    }

    /// Like [`Link::request`], for a request that is checked and encoded.
    pub(crate) fn request_encoded<R: Rpc>(
        &self,
        connection: Option<u64>,
        request: Bytes,
    ) -> impl Future<Output = Result<(R::Response, Vec<Push>), Error>> + Send + 'static + use<R> {
        let sent = self.send(connection, R::METHOD, request);
        async move {
            let (payload, pushes) = sent.await?;
            Ok((R::Response::decode(payload).map_err(unreadable)?, pushes))
        }
    }

    /// Sends a request that is checked and encoded; the answer is not decoded.
    pub(crate) fn send(
        &self,
        connection: Option<u64>,
        method: &'static Method,
        payload: Bytes,
    ) -> impl Future<Output = Answer> + Send + 'static + use<> {
        let in_flight = self.start(method, payload, |open| {
            open.is_logged_in && connection.is_none_or(|connection| connection == open.number)
        });
        async move { in_flight?.answer().await }
    }

    /// Sends the login request, the only one that is allowed before the login.
    pub(crate) async fn log_in<R: Rpc>(&self, request: &R) -> Result<R::Response, Error> {
        let (payload, _) = self.start(R::METHOD, request.encode_to_vec().into(), |_| true)?.answer().await?;
        R::Response::decode(payload).map_err(unreadable)
    }

    /// Queues a request if `may_start` of the connection.
    fn start(
        &self,
        method: &'static Method,
        payload: Bytes,
        may_start: impl FnOnce(&Open) -> bool,
    ) -> Result<InFlight, Error> {
        let (waiter, answer) = oneshot::channel();
        let mut open = self.0.open.lock();
        if !may_start(&open) {
            return Err(no_connection());
        }
        let number = open.number;
        let connection = open.connection.as_mut().ok_or_else(no_connection)?;
        let id = connection.request(method.path, payload, waiter).map_err(|too_long| {
            Error::new(ErrorCode::CommonModuleParamsInvalid, format!("{}: {too_long}", method.path))
        })?;
        drop(open);
        self.0.to_write.notify_one();
        self.0.started.notify_one();
        Ok(InFlight { link: self.clone(), number, id, answer: Some(answer) })
    }
}

/// For the task that drives the connection.
impl Link {
    /// Starts a new connection.
    pub(crate) fn open(&self, hello: Hello) {
        let mut open = self.0.open.lock();
        *open = Open { connection: Some(Connection::new(hello)), number: open.number + 1, is_logged_in: false };
        drop(open);
        self.0.welcome.send_replace(None);
        self.0.to_write.notify_one();
    }

    /// Ends the connection. Requests in flight fail.
    pub(crate) fn close(&self) {
        let mut open = self.0.open.lock();
        open.is_logged_in = false;
        let connection = open.connection.take();
        drop(open);
        drop(connection);
    }

    /// Allows requests from now on.
    pub(crate) fn set_logged_in(&self) {
        self.0.open.lock().is_logged_in = true;
    }

    /// Returns the server's Welcome on the current connection, if there is one.
    pub(crate) fn present_welcome(&self) -> Option<Arc<Welcome>> {
        self.0.welcome.borrow().clone()
    }

    /// Waits for the server's Welcome.
    pub(crate) async fn welcome(&self) -> Arc<Welcome> {
        let mut welcome = self.0.welcome.subscribe();
        loop {
            if let Some(welcome) = &*welcome.borrow_and_update() {
                return Arc::clone(welcome);
            }
            if welcome.changed().await.is_err() {
                // Never happens while `self` holds the sender.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits for bytes to write.
    pub(crate) async fn to_write(&self) -> Bytes {
        loop {
            let out = self.0.open.lock().connection.as_mut().map(Connection::take_out);
            if let Some(out) = out.filter(|out| !out.is_empty()) {
                return out;
            }
            self.0.to_write.notified().await;
        }
    }

    /// Takes in bytes of the session stream.
    pub(crate) fn on_session(&self, bytes: &[u8]) -> Result<(), ProtocolError> {
        let incoming = match &mut self.0.open.lock().connection {
            Some(connection) => connection.on_session(bytes)?,
            None => Vec::new(),
        };
        for frame in incoming {
            match frame {
                Incoming::Welcome(welcome) => {
                    self.0.welcome.send_replace(Some(Arc::from(welcome)));
                }
                Incoming::Answer(waiter, response) => settle(waiter, *response),
                Incoming::Late(response) => {
                    if !response.pushes.is_empty() {
                        self.0.late.lock().extend(response.pushes);
                        self.0.is_late.notify_one();
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes in bytes of the event stream.
    pub(crate) fn on_events(&self, bytes: &[u8]) {
        if let Some(connection) = &mut self.0.open.lock().connection {
            connection.on_events(bytes);
        }
    }

    /// Returns the next complete frame of the event stream.
    pub(crate) fn next_event(&self) -> Result<Option<EventFrame>, ProtocolError> {
        let mut open = self.0.open.lock();
        let Some(connection) = &mut open.connection else { return Ok(None) };
        connection.next_event()
    }

    /// Notes that events of a connection were handled, and what is stored.
    pub(crate) fn handled(&self, number: u64, events: u64, stored: Storage) {
        let mut open = self.0.open.lock();
        if open.number != number {
            return;
        }
        let Some(connection) = &mut open.connection else { return };
        let was_due = connection.is_ack_due();
        connection.handled(events, stored.messages);
        connection.feed_stored(stored.feed);
        if connection.is_ack_due() && !was_due {
            self.0.ack_due.notify_one();
        }
    }

    /// Waits until an acknowledgement of events becomes due.
    pub(crate) async fn ack_due(&self) {
        self.0.ack_due.notified().await;
    }

    /// Acknowledges events, unless a request has done so meanwhile.
    pub(crate) fn acknowledge(&self) {
        let is_due = self.0.open.lock().connection.as_mut().is_some_and(Connection::acknowledge);
        if is_due {
            self.0.to_write.notify_one();
        }
    }

    /// Sends a heartbeat.
    pub(crate) fn heartbeat(&self) {
        if let Some(connection) = &mut self.0.open.lock().connection {
            connection.heartbeat();
        }
        self.0.to_write.notify_one();
    }

    /// Waits for entries that were caused by requests for which no one waits any more.
    pub(crate) async fn late(&self) -> Vec<Push> {
        loop {
            let late = std::mem::take(&mut *self.0.late.lock());
            if !late.is_empty() {
                return late;
            }
            self.0.is_late.notified().await;
        }
    }

    /// Waits until a request has no answer yet.
    pub(crate) async fn awaits_answer(&self) {
        while !self.0.open.lock().connection.as_ref().is_some_and(Connection::awaits_answer) {
            self.0.started.notified().await;
        }
    }
}

/// A request in flight. Dropping it abandons the answer.
struct InFlight {
    link: Link,
    number: u64,
    id: u64,
    answer: Option<oneshot::Receiver<Answer>>,
}

impl InFlight {
    async fn answer(mut self) -> Answer {
        let Some(answer) = &mut self.answer else { return Err(lost()) };
        match tokio::time::timeout(self.link.0.timeout, answer).await {
            Ok(answer) => {
                self.answer = None;
                answer.unwrap_or_else(|_| Err(lost()))
            }
            Err(_) => Err(Error::new(
                ErrorCode::NetworkModuleRequestTimeout,
                "the server did not answer in time; it may have carried out the request",
            )),
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.answer.is_some() {
            let mut open = self.link.0.open.lock();
            if open.number == self.number
                && let Some(connection) = &mut open.connection
            {
                connection.abandon(self.id);
            }
        }
    }
}

/// Passes an answer to its caller.
fn settle(waiter: Waiter, response: Response) {
    let answer = match response.outcome {
        Some(Outcome::Ok(payload)) => Ok((payload, response.pushes)),
        Some(Outcome::Error(error)) => Err(Error::from(error)),
        // A response without fields.
        None => Ok((Bytes::new(), response.pushes)),
    };
    // The caller may have stopped waiting.
    let _ = waiter.send(answer);
}

fn unreadable(error: prost::DecodeError) -> Error {
    Error::new(ErrorCode::NetworkModuleRspProtoParseError, "the server's answer cannot be read").with_source(error)
}

fn no_connection() -> Error {
    Error::new(ErrorCode::NetworkModuleNetworkError, "there is no connection to the server")
        .with_detail(IS_SENT, "false")
}

fn lost() -> Error {
    Error::new(
        ErrorCode::NetworkModuleNetworkError,
        "the connection was lost before the answer arrived; the server may have carried out the request",
    )
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use zim_protocol::frame::{FrameDecoder, encode_frame};
    use zim_protocol::wire::{MAX_FRAME_BYTES, VERSION};
    use zim_protocol::{
        ClientFrame, LogoutRequest, ServerFrame, UpdateUserNameRequest, UserNameUpdatedResult, client_frame,
        server_frame,
    };

    use super::*;

    fn connected(timeout_ms: u64) -> Link {
        let link = Link::new(timeout_ms);
        link.open(Hello::default());
        let welcome = Welcome { version: VERSION, ..Welcome::default() };
        link.on_session(&frame(server_frame::Frame::Welcome(welcome))).unwrap();
        link.set_logged_in();
        link
    }

    fn frame(frame: server_frame::Frame) -> BytesMut {
        let mut out = BytesMut::new();
        encode_frame(&ServerFrame { frame: Some(frame) }, &mut out);
        out
    }

    fn answer(link: &Link, id: u64, outcome: Outcome) {
        let response = Response { id, outcome: Some(outcome), pushes: Vec::new() };
        link.on_session(&frame(server_frame::Frame::Response(response))).unwrap();
    }

    fn rename(name: &str) -> UpdateUserNameRequest {
        UpdateUserNameRequest { user_name: name.to_owned() }
    }

    async fn names(link: &Link) -> Vec<String> {
        let mut decoder = FrameDecoder::new(MAX_FRAME_BYTES);
        decoder.push(&link.to_write().await);
        let frames = std::iter::from_fn(|| decoder.next().unwrap());
        let frames = frames.map(|frame| ClientFrame::decode(frame).unwrap().frame.unwrap());
        frames
            .filter_map(|frame| match frame {
                client_frame::Frame::Request(request) => {
                    Some(UpdateUserNameRequest::decode(request.payload).unwrap().user_name)
                }
                _ => None,
            })
            .collect()
    }

    #[tokio::test]
    async fn requests_are_sent_in_one_write_in_the_order_of_the_calls() {
        let link = connected(10_000);
        let requests: Vec<_> =
            ["1", "2", "3"].map(rename).into_iter().map(|request| link.request(None, request)).collect();
        // Nothing was awaited yet.
        assert_eq!(names(&link).await, ["1", "2", "3"]);
        let result = UserNameUpdatedResult { user_name: "2".to_owned() };
        answer(&link, 2, Outcome::Ok(result.encode_to_vec().into()));
        let refusal = zim_protocol::Error::new(ErrorCode::CommonModuleImServerError, "no");
        answer(&link, 1, Outcome::Error(refusal));
        link.close();
        let mut answers = Vec::new();
        for request in requests {
            answers.push(request.await.map(|(result, _)| result.user_name).map_err(|error| error.code()));
        }
        let expected =
            [Err(ErrorCode::CommonModuleImServerError), Ok("2".to_owned()), Err(ErrorCode::NetworkModuleNetworkError)];
        assert_eq!(answers, expected);
    }

    #[tokio::test]
    async fn without_a_login_requests_fail() {
        let link = Link::new(10_000);
        assert!(!link.is_online());
        let refused = link.request(None, LogoutRequest {}).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::NetworkModuleNetworkError);
        link.open(Hello::default());
        assert!(link.request(None, LogoutRequest {}).await.is_err());
        let link = connected(10_000);
        assert!(link.is_online());
        link.close();
        assert!(!link.is_online());
        assert!(link.request(None, LogoutRequest {}).await.is_err());
    }

    #[tokio::test]
    async fn a_request_over_a_limit_is_not_sent() {
        let link = connected(10_000);
        let refused = link.request(None, rename(&"x".repeat(257))).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::CommonModuleParamsInvalid);
        drop(link.request(None, rename("y")));
        assert_eq!(names(&link).await, ["y"]);
    }

    #[tokio::test]
    async fn a_request_without_an_answer_times_out() {
        let link = connected(5);
        let late = link.request(None, LogoutRequest {}).await.unwrap_err();
        assert_eq!(late.code(), ErrorCode::NetworkModuleRequestTimeout);
        // A late answer still tells what changed.
        answer(&link, 1, Outcome::Ok(Bytes::new()));
        let push = Push { from: 7, to: 7, ..Push::default() };
        let response = Response { id: 1, outcome: None, pushes: vec![push.clone()] };
        link.on_session(&frame(server_frame::Frame::Response(response))).unwrap();
        assert_eq!(link.late().await, [push]);
    }

    #[tokio::test]
    async fn the_link_knows_whether_the_server_owes_an_answer() {
        let link = connected(10_000);
        let awaits = async || futures_util::poll!(Box::pin(link.awaits_answer())).is_ready();
        assert!(!awaits().await);
        let request = link.request(None, LogoutRequest {});
        assert!(awaits().await);
        answer(&link, 1, Outcome::Ok(Bytes::new()));
        request.await.unwrap();
        assert!(!awaits().await);
        // It owes one as well to someone who has stopped waiting.
        drop(link.request(None, LogoutRequest {}));
        assert!(awaits().await);
        link.close();
        assert!(!awaits().await);
    }

    #[tokio::test]
    async fn a_dropped_request_is_abandoned_on_its_own_connection_only() {
        let link = connected(10_000);
        // A request of an earlier connection, with the number that the next one has on the new connection.
        let old = link.request(None, LogoutRequest {});
        link.open(Hello::default());
        link.set_logged_in();
        let new = link.request(None, LogoutRequest {});
        drop(old);
        let welcome = Welcome { version: VERSION, ..Welcome::default() };
        link.on_session(&frame(server_frame::Frame::Welcome(welcome))).unwrap();
        answer(&link, 1, Outcome::Ok(Bytes::new()));
        assert!(new.await.is_ok());
    }

    #[tokio::test]
    async fn a_request_for_another_connection_is_not_sent() {
        let link = connected(10_000);
        let first = link.number();
        link.open(Hello::default());
        link.set_logged_in();
        let refused = link.request(Some(first), rename("early")).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::NetworkModuleNetworkError);
        drop(link.request(Some(link.number()), rename("in time")));
        drop(link.request(None, rename("at any time")));
        assert_eq!(names(&link).await, ["in time", "at any time"]);
    }
}
