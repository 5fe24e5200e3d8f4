//! One connection, in one task: Hello and Welcome, then requests and their answers on the session stream, events on a stream
//! of their own, until somebody ends it.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use prost::Message;
use quinn::{Connection, RecvStream, SendStream};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use zim_protocol::client_frame::Frame as FromClient;
use zim_protocol::frame::FrameDecoder;
use zim_protocol::response::Outcome;
use zim_protocol::server_frame::Frame as ToClient;
use zim_protocol::wire::{CloseCode, MAX_FRAME_BYTES, VERSION};
use zim_protocol::{
    ClientFrame, Hello, Limits, PlatformType, Request, Response, ServerFrame, SessionEndReason, Welcome,
};

use super::calls::{Calls, Done};
use super::half_sent::Share as HalfSent;
use super::handler::{self, Allowance, Call};
use super::unread::UNCOUNTED_BYTES;
use super::writer::{Closing, Writer};
use super::{Net, at, events, quic, unread};
use crate::error::Error;
use crate::session::SessionState;

/// Nobody has more to say before he has logged in; a stranger cannot make the server keep more for him.
const STRANGERS_FRAME_BYTES: usize = 16 << 10;
/// What is read at once; it stays where QUIC put it until it is cut into frames.
const READ_BYTES: usize = 64 << 10;
/// A client that does not read its answers is not asked for more.
const UNREAD_BYTES: usize = 256 << 10;
/// How long the last answer may take to arrive.
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves a connection to its end.
pub(crate) async fn run(net: &Arc<Net>, connection: &Connection) {
    let sent = AtomicU64::new(0);
    match open(net, connection, &sent).await {
        Ok(mut requests) => {
            let closing = talk(net, connection, &mut requests).await;
            quic::close(connection, closing.code, closing.reason);
            // What it holds is counted until here.
            requests.writer.discard();
        }
        Err(closing) => quic::close(connection, closing.code, closing.reason),
    }
}

async fn open<'a>(net: &'a Arc<Net>, connection: &'a Connection, sent: &'a AtomicU64) -> Result<Requests<'a>, Closing> {
    let patience = Duration::from_millis(net.app.config.limits.hello_timeout_ms.into());
    tokio::select! {
        opened = timeout(patience, greet(net, connection, sent)) => {
            opened.unwrap_or(Err(Closing::new(CloseCode::HelloTimeout, "no Hello came in time")))
        }
        () = net.stopping.cancelled() => Err(Closing::new(CloseCode::GoingAway, "the server stops")),
    }
}

async fn greet<'a>(
    net: &'a Arc<Net>,
    connection: &'a Connection,
    sent: &'a AtomicU64,
) -> Result<Requests<'a>, Closing> {
    let (send, mut recv) = connection.accept_bi().await.map_err(|_| Closing::done())?;
    let mut frames = FrameDecoder::new(STRANGERS_FRAME_BYTES);
    let mut half_sent = net.half_sent_of_strangers.share();
    let first = loop {
        match frames.next() {
            Ok(Some(frame)) => break frame,
            Ok(None) => half_sent.set(frames.buffered())?,
            Err(_) => return Err(unreadable()),
        }
        match recv.read_chunk(READ_BYTES, true).await {
            Ok(Some(chunk)) => frames.push(&chunk.bytes),
            Ok(None) | Err(_) => return Err(Closing::done()),
        }
    };
    let Ok(ClientFrame { frame: Some(FromClient::Hello(hello)) }) = ClientFrame::decode(first) else {
        return Err(Closing::new(CloseCode::Protocol, "the first frame must be Hello"));
    };
    let state = Arc::new(hear(net, connection, hello)?);
    Ok(Requests::new(net, connection, (send, recv), (frames, half_sent), state, sent))
}

fn unreadable() -> Closing {
    Closing::new(CloseCode::Protocol, "a frame that cannot be read")
}

fn hear(net: &Net, connection: &Connection, hello: Hello) -> Result<SessionState, Closing> {
    if !hello.versions.contains(&VERSION) {
        return Err(Closing::new(CloseCode::Version, "this server speaks version 1"));
    }
    let Ok(device) = <[u8; 16]>::try_from(hello.device_id.as_ref()) else {
        return Err(Closing::new(CloseCode::Protocol, "a device id has 16 bytes"));
    };
    let sdk_version: String = hello.sdk_version.chars().filter(|c| !c.is_control()).take(64).collect();
    let queue_bytes = net.app.config.limits.session_queue_bytes;
    // Of a later version, perhaps: the column holds what has a name.
    let platform = PlatformType::try_from(hello.platform).unwrap_or(PlatformType::Unknown);
    Ok(SessionState::new(connection.remote_address(), platform as i32, device, sdk_version, queue_bytes))
}

fn welcome(net: &Net) -> Welcome {
    let limits = &net.app.config.limits;
    Welcome {
        version: VERSION,
        epoch: net.app.epoch.to_vec().into(),
        server_time: net.app.clock.now_ms(),
        limits: Some(Limits {
            max_frame_bytes: u32::try_from(MAX_FRAME_BYTES).unwrap_or(u32::MAX),
            offline_after_ms: limits.offline_after_ms,
            max_text_bytes: limits.max_text_bytes,
            max_custom_bytes: limits.max_custom_bytes,
            max_command_bytes: limits.max_command_bytes,
            messages_per_second: limits.messages_per_second,
            max_user_extended_data_bytes: limits.max_user_extended_data_bytes,
        }),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Takes a session off the table of those who are online, however it ends.
struct Online<'a> {
    net: &'a Net,
    state: Arc<SessionState>,
}

impl Drop for Online<'_> {
    fn drop(&mut self) {
        self.net.app.disconnected(&self.state);
    }
}

async fn talk(net: &Arc<Net>, connection: &Connection, requests: &mut Requests<'_>) -> Closing {
    let state = Arc::clone(&requests.state);
    let sent = requests.sent;
    let _online = Online { net, state: Arc::clone(&state) };
    let patience = net.app.config.limits.write_timeout();
    tokio::select! {
        closing = requests.run() => closing,
        closing = events::run(connection, &state, sent, patience) => closing,
        closing = lifetime(net, &state) => closing,
    }
}

/// Waits for the end of what a connection is given time for: to log in, then until the token ends.
async fn lifetime(net: &Net, state: &SessionState) -> Closing {
    let clock = &net.app.clock;
    let login_by = clock.steady_ms().saturating_add(net.app.config.limits.login_timeout_ms.into());
    while state.identity().is_none() {
        if clock.steady_ms() >= login_by {
            return Closing::new(CloseCode::LoginTimeout, "nobody logged in in time");
        }
        tokio::select! {
            () = clock.sleep_until_steady(login_by) => {}
            () = state.token_moved.notified() => {}
        }
    }
    loop {
        let ends_at = match state.token_expires_at() {
            0 => i64::MAX,
            at => at,
        };
        if clock.now_ms() >= ends_at {
            state.queue.end(SessionEndReason::TokenExpired, "the token has expired");
            std::future::pending::<()>().await;
        }
        tokio::select! {
            () = clock.sleep_until(ends_at) => {}
            () = state.token_moved.notified() => {}
        }
    }
}

type Start = Box<dyn Fn(Call) -> BoxFuture<'static, Done> + Send>;

/// The session stream after Hello.
struct Requests<'a> {
    net: &'a Arc<Net>,
    connection: &'a Connection,
    state: Arc<SessionState>,
    /// Nobody has logged in yet.
    is_strange: bool,
    recv: RecvStream,
    frames: FrameDecoder,
    /// What of it is counted.
    half_sent: HalfSent<'a>,
    writer: Writer,
    /// What is counted of unread answers, once somebody has logged in: nobody else reads anything.
    unread: Option<unread::Share<'a>>,
    calls: Calls<Start>,
    allowance: Allowance,
    /// Event frames that were sent.
    sent: &'a AtomicU64,
    /// Event frames that the client has received.
    received: u64,
    /// The client asks for nothing more.
    finished: bool,
    /// Until when the client is not read on because it asks too much in vain, by the steady clock.
    rest_until: i64,
    /// When the rest of a frame that has begun must have come.
    whole_by: Option<Instant>,
}

impl<'a> Requests<'a> {
    fn new(
        net: &'a Arc<Net>,
        connection: &'a Connection,
        (send, recv): (SendStream, RecvStream),
        (frames, half_sent): (FrameDecoder, HalfSent<'a>),
        state: Arc<SessionState>,
        sent: &'a AtomicU64,
    ) -> Self {
        let mut writer = Writer::new(send, net.app.config.limits.write_timeout());
        writer.add(&ServerFrame { frame: Some(ToClient::Welcome(welcome(net))) });
        let of_calls = Arc::clone(net);
        let start: Start = Box::new(move |call| Box::pin(handler::run(Arc::clone(&of_calls), call)));
        Self {
            net,
            connection,
            state,
            is_strange: true,
            recv,
            frames,
            half_sent,
            writer,
            unread: None,
            calls: Calls::new(start),
            allowance: Allowance::default(),
            sent,
            received: 0,
            finished: false,
            rest_until: 0,
            whole_by: None,
        }
    }

    async fn run(&mut self) -> Closing {
        // Of its own: all sessions on one token would meet at its lock.
        let stopping = self.net.stopping.child_token();
        let closing = self.serve(&stopping).await;
        if let Err(closing) = closing {
            return closing;
        }
        // Answers first, the end afterwards.
        self.writer.finish(FAREWELL).await;
        if self.state.is_logged_out() {
            self.state.queue.end(SessionEndReason::LoggedOut, "");
        } else if stopping.is_cancelled() {
            self.state.queue.end(SessionEndReason::GoingAway, "the server stops");
        } else {
            return Closing::done();
        }
        std::future::pending().await
    }

    /// Reads requests and writes answers until there is nothing more to do.
    async fn serve(&mut self, stopping: &CancellationToken) -> Result<(), Closing> {
        let mut stop_by: Option<Instant> = None;
        let mut told_to_stop = pin!(stopping.cancelled());
        loop {
            let may_read = stop_by.is_none() && self.take_frames()?;
            let idle = self.calls.len() == 0;
            if idle && self.writer.len() == 0 && (stop_by.is_some() || self.finished || self.state.is_logged_out()) {
                return Ok(());
            }
            // Pages that nobody reads are not made.
            let may_page = self.writer.len() < UNREAD_BYTES;
            if let Some(unread) = &mut self.unread {
                unread.set(self.calls.reading(), self.writer.held());
                if !may_page {
                    unread.stop_waiting();
                }
            }
            let clock = &self.net.app.clock;
            let is_resting = self.rest_until > clock.steady_ms();
            let Self { recv, frames, writer, unread, calls, finished, rest_until, whole_by, .. } = self;
            tokio::select! {
                biased;
                () = calls.next(unread.as_mut().filter(|_| may_page)), if !idle => {
                    for done in calls.take_done() {
                        answer(writer, done);
                    }
                }
                written = writer.write(), if writer.held() > 0 => written?,
                () = at(stop_by), if stop_by.is_some() => return Ok(()),
                () = &mut told_to_stop, if stop_by.is_none() => {
                    calls.forget_waiting();
                    let patience = self.net.app.config.limits.stop_timeout_ms;
                    stop_by = Some(Instant::now() + Duration::from_millis(patience.into()));
                }
                chunk = recv.read_chunk(READ_BYTES, true), if may_read => match chunk {
                    Ok(Some(chunk)) => frames.push(&chunk.bytes),
                    Ok(None) => *finished = true,
                    Err(_) => return Err(Closing::done()),
                },
                () = clock.sleep_until_steady(*rest_until), if is_resting => {}
                () = at(*whole_by), if may_read && whole_by.is_some() => {
                    return Err(Closing::new(CloseCode::TooSlow, "a frame was left half sent"));
                }
            }
        }
    }

    /// Takes the frames that have come whole. False while no more are wanted: what a client sends then waits on its side.
    fn take_frames(&mut self) -> Result<bool, Closing> {
        let limits = &self.net.app.config.limits;
        let most = usize::try_from(limits.max_calls_in_flight).unwrap_or(usize::MAX);
        let mut half_since = self.whole_by.take();
        loop {
            if self.finished || self.state.is_logged_out() {
                return Ok(false);
            }
            if self.calls.len() >= most || self.has_much_unread() {
                return Ok(false);
            }
            if self.rest_until > 0 {
                if self.rest_until > self.net.app.clock.steady_ms() {
                    return Ok(false);
                }
                self.rest_until = 0;
            }
            if self.is_strange && self.state.identity().is_some() {
                self.is_strange = false;
                self.frames.set_max(MAX_FRAME_BYTES);
                self.half_sent = self.net.half_sent.share();
                quic::welcome_in(self.connection);
                self.unread = self.state.identity().map(|identity| self.net.unread.share(identity.user));
                self.unread.iter().for_each(|unread| self.writer.count_at(unread.claim(), self.connection.clone()));
            }
            match self.frames.next() {
                Ok(Some(frame)) => {
                    half_since = None;
                    self.take(frame)?;
                }
                Ok(None) => {
                    if self.frames.is_partial() {
                        self.whole_by = half_since.or_else(|| Some(Instant::now() + limits.write_timeout()));
                    }
                    self.half_sent.set(self.frames.buffered())?;
                    return Ok(true);
                }
                Err(_) => return Err(unreadable()),
            }
        }
    }

    /// The client has so many answers to read that it is not asked for more.
    fn has_much_unread(&self) -> bool {
        let unread = self.writer.len();
        // What a stranger leaves unread is counted nowhere, so it must be little.
        let may_have_much = || self.unread.as_ref().is_some_and(|unread| !unread.is_overdrawn());
        unread >= UNREAD_BYTES || (unread > UNCOUNTED_BYTES && !may_have_much())
    }

    fn take(&mut self, frame: Bytes) -> Result<(), Closing> {
        let frame = ClientFrame::decode(frame).map_err(|_| unreadable())?;
        match frame.frame {
            Some(FromClient::Request(request)) => {
                self.acknowledge(request.ack)?;
                self.request(request);
                Ok(())
            }
            Some(FromClient::Ack(ack)) => {
                self.in_vain();
                self.acknowledge(ack.count)
            }
            Some(FromClient::Hello(_)) => Err(Closing::new(CloseCode::Protocol, "a second Hello")),
            // Of a later version: skipped.
            None => {
                self.in_vain();
                Ok(())
            }
        }
    }

    /// Something came that has no allowance of its own, a call that is refused above all. It has one together with all such;
    /// beyond it the client is not read on for a moment: to be refused as fast as it can ask would cost the server as much as
    /// to serve it.
    fn in_vain(&mut self) {
        let now = self.net.app.clock.steady_ms();
        if let Err(wait_ms) = self.allowance.in_vain(self.net, now) {
            self.rest_until = now.saturating_add(wait_ms);
        }
    }

    fn request(&mut self, request: Request) {
        let id = request.id;
        match handler::admit(self.net, &self.state, &mut self.allowance, request) {
            Ok(call) => self.calls.arrive(call),
            Err(refused) => {
                respond(&mut self.writer, id, Outcome::Error(refused.to_wire()), Vec::new());
                self.in_vain();
            }
        }
    }

    /// The client has received so many event frames.
    fn acknowledge(&mut self, count: u64) -> Result<(), Closing> {
        if count > self.sent.load(Ordering::Relaxed) {
            return Err(Closing::new(CloseCode::Protocol, "an Ack of events that were not sent"));
        }
        self.received = self.received.max(count);
        Ok(())
    }
}

fn answer(writer: &mut Writer, done: Done) {
    let Done { id, caller, result } = done;
    let outcome = match result {
        Ok(payload) => Outcome::Ok(payload),
        Err(failed) => Outcome::Error(failed.to_wire()),
    };
    respond(writer, id, outcome, caller.take_pushes());
}

fn respond(writer: &mut Writer, id: u64, outcome: Outcome, pushes: Vec<zim_protocol::Push>) {
    let mut frame = ServerFrame { frame: Some(ToClient::Response(Response { id, outcome: Some(outcome), pushes })) };
    let length = frame.encoded_len();
    if length > MAX_FRAME_BYTES {
        // Pages are limited in bytes, so this is a service's mistake; the connection must not die of it.
        tracing::error!(id, length, "an answer is longer than a frame");
        let outcome = Some(Outcome::Error(Error::internal_text("an answer is longer than a frame").to_wire()));
        frame.frame = Some(ToClient::Response(Response { id, outcome, pushes: Vec::new() }));
    }
    writer.add(&frame);
}
