//! A proxy between clients and server that terminates QUIC with the server's certificate and decodes frames. It can
//! drop one chosen frame, which a proxy of datagrams cannot, and it can make a correct server look faulty, which tests
//! the harness itself. The server needs no hook for either.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use prost::Message as _;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, ConnectionError, Endpoint, Incoming, RecvStream, SendStream, ServerConfig, VarInt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use zim_protocol::frame::{FrameDecoder, encode_frame};
use zim_protocol::message::Body;
use zim_protocol::response::Outcome;
use zim_protocol::wire::{ALPN, MAX_FRAME_BYTES};
use zim_protocol::{
    BlacklistUsersAddedResult, CallEntry, CallState, ClientFrame, EndRoomAttributesBatchOperationRequest, EventFrame,
    GroupApplicationEntry, GroupApplicationState, LogKind, LoginRequest, Message, MessageSentResult, Request, Response,
    SendMessageRequest, ServerFrame, client_frame, event_frame, feed_entry, room_push, server_frame,
};

use super::plan::USERS;
use crate::raw;

/// The delay between the early answer to a message and its commit.
const COMMIT: Duration = Duration::from_millis(150);
const SEND: &str = "Message/SendMessage";
const BLOCK: &str = "Blacklist/AddUsersToBlacklist";
const SET_ATTRIBUTES: &str = "Room/SetRoomAttributes";
const ACCEPT: &str = "Call/CallAccept";
const DELETE_ALL: &str = "Message/DeleteAllMessage";
const MUTE: &str = "Group/MuteGroup";
const DISMISS: &str = "Group/DismissGroup";
const END_BATCH: &str = "Room/EndRoomAttributesBatchOperation";
const RECEIPT_FOR_ALL: &str = "MessageReceipt/SendConversationMessageReceiptRead";

/// A fault that a server could have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The server acknowledges a message before it is stored.
    AckBeforeCommit,
    /// Pushes carry no positions in the log.
    PushWithoutPosition,
    /// A used client key gets the old answer, even for another message.
    ReusedKeyAnswersOld,
    /// A block is acknowledged before it takes effect.
    AnswerBeforeBlock,
    /// Pushes of friends, applications and blacklists carry no entries.
    FeedWithoutEntries,
    /// Nobody is told of changed attributes of rooms.
    RoomAttributesHidden,
    /// One user hears every second message to a room before the one that was sent before it.
    RoomMessagesReordered,
    /// Pushes about calls never say that a call has ended.
    CallEndsHidden,
    /// Attributes of rooms, acceptances of calls, deletions of all messages, receipts for conversations, and mutes and dismissals of
    /// groups are acknowledged and have no effect.
    AnswersWithoutEffect,
    /// No device is told what its user has deleted on another one.
    DeletionsHidden,
    /// No device is told that an application to a group has ended.
    ApplicationEndsHidden,
    /// A batch of attributes lacks one of its operations.
    BatchesTorn,
    /// A combined message combines something else.
    CombinesOther,
    /// A node writes on although its lease has ended. It is planted on the way to the database, see `statements.rs`.
    IgnoresLease,
}

impl Planted {
    /// Whether a proxy of frames plants it.
    pub(super) fn is_in_frames(self) -> bool {
        self != Self::IgnoresLease
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct FrameProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    to_server: Endpoint,
    planted: Option<Planted>,
    drops_pushes: AtomicBool,
    dropped: AtomicU64,
    /// The answers to messages, by client key.
    answers: Mutex<HashMap<Bytes, Bytes>>,
    /// The ends of the logs, by pair of users, as seen in pushes and answers.
    ends: Mutex<HashMap<[String; 2], u64>>,
    /// Blocks that were answered and are held until the next message is answered.
    blocks: Mutex<Vec<(Out, ClientFrame)>>,
}

impl Drop for FrameProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FrameProxy {
    /// Starts a proxy to the server at `server` with its data folder `folder`.
    ///
    /// # Errors
    /// The folder holds no certificate, or no port can be bound.
    pub(super) fn new(server: SocketAddr, folder: &Path, planted: Option<Planted>) -> anyhow::Result<Self> {
        let certificate = CertificateDer::from_pem_file(folder.join("cert.pem"))?;
        let key = PrivateKeyDer::from_pem_file(folder.join("key.pem"))?;
        let to_server = raw::endpoint(certificate.clone());
        let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
        let endpoint = Endpoint::server(config, "127.0.0.1:0".parse()?)?;
        let address = endpoint.local_addr()?;
        let shared = Arc::new(Shared {
            server,
            to_server,
            planted,
            drops_pushes: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            answers: Mutex::default(),
            ends: Mutex::default(),
            blocks: Mutex::default(),
        });
        let task = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                // Dropping the set ends the relays.
                let mut relays = JoinSet::new();
                while let Some(incoming) = endpoint.accept().await {
                    relays.spawn(relay(incoming, Arc::clone(&shared)));
                }
            }
        });
        Ok(Self { address, shared, task })
    }

    /// Returns the address that clients connect to.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets whether every push of a message is dropped.
    pub(super) fn set_drops_pushes(&self, drops_pushes: bool) {
        self.shared.drops_pushes.store(drops_pushes, Ordering::SeqCst);
    }

    /// Returns how many pushes were dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::SeqCst)
    }
}

/// The state of a client's connection.
#[derive(Default)]
struct Session {
    user: Mutex<String>,
    /// The client keys of messages in flight, by request id.
    keys: Mutex<HashMap<u64, Bytes>>,
    /// The ids of requests that the proxy has answered itself.
    answered: Mutex<HashSet<u64>>,
    /// A message to a room that is held until the next has come.
    held: Mutex<Option<EventFrame>>,
}

async fn relay(incoming: Incoming, shared: Arc<Shared>) {
    let Ok(client) = incoming.await else { return };
    // The server may be down; then the client's connection is closed.
    let server = match shared.to_server.connect(shared.server, "localhost") {
        Ok(connecting) => tokio::time::timeout(Duration::from_secs(2), connecting).await,
        Err(_) => return,
    };
    let Ok(Ok(server)) = server else { return client.close(VarInt::from_u32(0), b"") };
    let ended = tokio::select! {
        _ = relay_streams(&client, &server, &shared) => None,
        error = client.closed() => Some(error),
        error = server.closed() => Some(error),
    };
    let (code, reason) = match ended {
        Some(ConnectionError::ApplicationClosed(closed)) => (closed.error_code, closed.reason),
        _ => (VarInt::from_u32(0), Bytes::new()),
    };
    client.close(code, &reason);
    server.close(code, &reason);
}

async fn relay_streams(client: &Connection, server: &Connection, shared: &Arc<Shared>) -> Option<()> {
    let (to_client, from_client) = client.accept_bi().await.ok()?;
    let (to_server, from_server) = server.open_bi().await.ok()?;
    let session = &Session::default();
    let ((up, going_up), (down, going_down)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let events = async {
        let from_server = server.accept_uni().await.ok()?;
        let to_client = client.open_uni().await.ok()?;
        let (out, going_out) = mpsc::unbounded_channel();
        let pushes = async move {
            let out = out;
            pump(from_server, |frame: EventFrame| shared.event(session, frame, &out)).await;
        };
        Some(tokio::join!(write(to_client, going_out), pushes))
    };
    // Ends when one of the streams ends, after the queued answers are written.
    tokio::join!(
        write(to_server, going_up),
        write(to_client, going_down),
        async {
            let (up, down) = (up, down);
            tokio::join!(
                pump(from_client, |frame: ClientFrame| shared.request(session, frame, &up, &down)),
                pump(from_server, |frame: ServerFrame| shared.answer(session, frame, &down)),
            );
        },
        events,
    );
    Some(())
}

/// Reads frames until the stream ends.
async fn pump<F: prost::Message + Default>(mut from: RecvStream, mut take: impl FnMut(F)) {
    let mut frames = FrameDecoder::new(MAX_FRAME_BYTES);
    while let Ok(Some(chunk)) = from.read_chunk(65_536, true).await {
        frames.push(&chunk.bytes);
        while let Ok(Some(frame)) = frames.next() {
            let Ok(frame) = F::decode(frame) else { return };
            take(frame);
        }
    }
}

async fn write(mut to: SendStream, mut frames: mpsc::UnboundedReceiver<BytesMut>) {
    while let Some(frame) = frames.recv().await {
        if to.write_all(&frame).await.is_err() {
            return;
        }
    }
    // The stream may be closed already.
    let _ = to.finish();
}

type Out = mpsc::UnboundedSender<BytesMut>;

fn put(out: &Out, frame: &impl prost::Message) {
    let mut bytes = BytesMut::new();
    encode_frame(frame, &mut bytes);
    // Fails when the connection has ended.
    let _ = out.send(bytes);
}

fn put_answer(out: &Out, id: u64, payload: Bytes) {
    let response = Response { id, outcome: Some(Outcome::Ok(payload)), ..Response::default() };
    put(out, &ServerFrame { frame: Some(server_frame::Frame::Response(response)) });
}

impl Shared {
    fn request(&self, session: &Session, frame: ClientFrame, up: &Out, down: &Out) {
        if let Some(client_frame::Frame::Request(request)) = &frame.frame {
            if let Ok(login) = LoginRequest::decode(request.payload.clone())
                && request.method == "Session/Login"
            {
                *session.user.lock() = login.user_id;
            }
            if self.planted == Some(Planted::AnswerBeforeBlock) && request.method == BLOCK {
                put_answer(down, request.id, BlacklistUsersAddedResult::default().encode_to_vec().into());
                session.answered.lock().insert(request.id);
                self.blocks.lock().push((up.clone(), frame));
                return;
            }
            if self.planted == Some(Planted::AnswersWithoutEffect)
                && [SET_ATTRIBUTES, ACCEPT, DELETE_ALL, RECEIPT_FOR_ALL, MUTE, DISMISS]
                    .contains(&request.method.as_str())
            {
                // No field of the results is needed.
                put_answer(down, request.id, Bytes::new());
                return;
            }
            if let Ok(mut batch) = EndRoomAttributesBatchOperationRequest::decode(request.payload.clone())
                && self.planted == Some(Planted::BatchesTorn)
                && request.method == END_BATCH
                && batch.operations.len() > 1
            {
                batch.operations.remove(1);
                let request = Request { payload: batch.encode_to_vec().into(), ..request.clone() };
                put(up, &ClientFrame { frame: Some(client_frame::Frame::Request(request)) });
                return;
            }
            if let Ok(send) = SendMessageRequest::decode(request.payload.clone())
                && request.method == SEND
                && self.send_message(session, request, &send, &frame, (up, down)).is_some()
            {
                return;
            }
        }
        put(up, &frame);
    }

    /// Handles a message; `None` if it is forwarded unchanged.
    fn send_message(
        &self,
        session: &Session,
        request: &Request,
        send: &SendMessageRequest,
        frame: &ClientFrame,
        (up, down): (&Out, &Out),
    ) -> Option<()> {
        match self.planted {
            Some(Planted::CombinesOther) => {
                let mut send = send.clone();
                let Some(Body::Combine(combine)) = send.message.as_mut().and_then(|message| message.body.as_mut())
                else {
                    return None;
                };
                // The server takes it from the sender.
                combine.message_list.last_mut()?.body = Message::text("something else").body;
                let request = Request { payload: send.encode_to_vec().into(), ..request.clone() };
                put(up, &ClientFrame { frame: Some(client_frame::Frame::Request(request)) });
                Some(())
            }
            Some(Planted::ReusedKeyAnswersOld) => {
                let answers = self.answers.lock();
                let Some(old) = answers.get(&send.client_key) else {
                    session.keys.lock().insert(request.id, send.client_key.clone());
                    return None;
                };
                put_answer(down, request.id, old.clone());
                Some(())
            }
            Some(Planted::AnswerBeforeBlock) => {
                session.keys.lock().insert(request.id, send.client_key.clone());
                None
            }
            Some(Planted::AckBeforeCommit) => {
                let seq = {
                    let mut ends = self.ends.lock();
                    let end = ends.entry(pair(session, &send.to_conversation_id)).or_default();
                    *end += 1;
                    end.cast_signed()
                };
                let message = Message {
                    message_id: seq.to_string(),
                    message_seq: seq,
                    order_key: seq * 100,
                    timestamp: zim_protocol::clock::Clock::system().now_ms(),
                    ..Message::default()
                };
                session.keys.lock().insert(request.id, send.client_key.clone());
                let answer = MessageSentResult { message: Some(message) };
                put_answer(down, request.id, answer.encode_to_vec().into());
                let (up, frame) = (up.clone(), frame.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(COMMIT).await;
                    put(&up, &frame);
                });
                Some(())
            }
            _ => None,
        }
    }

    fn answer(&self, session: &Session, frame: ServerFrame, down: &Out) {
        if let Some(server_frame::Frame::Response(response)) = &frame.frame
            && session.answered.lock().remove(&response.id)
        {
            return;
        }
        if let Some(server_frame::Frame::Response(response)) = &frame.frame
            && let Some(key) = session.keys.lock().remove(&response.id)
        {
            if self.planted == Some(Planted::AckBeforeCommit) {
                // The proxy has answered it already.
                return;
            }
            for (up, block) in self.blocks.lock().drain(..) {
                put(&up, &block);
            }
            if let Some(Outcome::Ok(payload)) = &response.outcome {
                self.answers.lock().insert(key, payload.clone());
            }
        }
        put(down, &frame);
    }

    fn event(&self, session: &Session, mut frame: EventFrame, out: &Out) {
        let is_hidden = match (&mut frame.frame, self.planted) {
            (Some(event_frame::Frame::Room(push)), Some(Planted::RoomAttributesHidden)) => {
                matches!(push.detail, Some(room_push::Detail::Attributes(_)))
            }
            (Some(event_frame::Frame::Push(push)), Some(Planted::CallEndsHidden)) => {
                for entry in &mut push.feed {
                    if let Some(feed_entry::Detail::Call(CallEntry { info: Some(info), .. })) = &mut entry.detail {
                        info.state = CallState::Started as i32;
                    }
                }
                false
            }
            (Some(event_frame::Frame::Push(push)), Some(Planted::DeletionsHidden)) => {
                let is_deletion = |detail: &feed_entry::Detail| {
                    matches!(detail, feed_entry::Detail::MessageDeletion(_) | feed_entry::Detail::Cleared(_))
                };
                push.feed.retain(|entry| !entry.detail.as_ref().is_some_and(is_deletion));
                false
            }
            (Some(event_frame::Frame::Push(push)), Some(Planted::ApplicationEndsHidden)) => {
                let is_end = |detail: &feed_entry::Detail| match detail {
                    feed_entry::Detail::GroupApplication(GroupApplicationEntry { info: Some(info), .. }) => {
                        info.state() != GroupApplicationState::Waiting
                    }
                    _ => false,
                };
                push.feed.retain(|entry| !entry.detail.as_ref().is_some_and(is_end));
                false
            }
            (Some(event_frame::Frame::Transient(_)), Some(Planted::RoomMessagesReordered))
                if *session.user.lock() == USERS[1] =>
            {
                let mut held = session.held.lock();
                match held.take() {
                    Some(earlier) => {
                        put(out, &frame);
                        put(out, &earlier);
                    }
                    None => *held = Some(frame.clone()),
                }
                true
            }
            _ => false,
        };
        if is_hidden {
            return;
        }
        if let Some(event_frame::Frame::Push(push)) = &mut frame.frame
            && push.log() == LogKind::Feed
            && self.planted == Some(Planted::FeedWithoutEntries)
        {
            push.feed.clear();
        }
        if let Some(event_frame::Frame::Push(push)) = &mut frame.frame
            && push.log() == LogKind::Messages
        {
            if self.drops_pushes.load(Ordering::SeqCst) {
                self.dropped.fetch_add(1, Ordering::SeqCst);
                return;
            }
            let peer = push.conversation.as_ref().map_or("", |name| name.id.as_str());
            let mut ends = self.ends.lock();
            let end = ends.entry(pair(session, peer)).or_default();
            *end = push.to.max(*end);
            if self.planted == Some(Planted::PushWithoutPosition) {
                (push.from, push.to) = (0, 0);
            }
        }
        put(out, &frame);
    }
}

fn pair(session: &Session, peer: &str) -> [String; 2] {
    let mut pair = [session.user.lock().clone(), peer.to_owned()];
    pair.sort();
    pair
}
