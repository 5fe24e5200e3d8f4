//! One connection, in one task: Hello and Welcome, then requests and responses on the session stream and events on a
//! stream of their own, until one side ends it.

use std::pin::pin;
use std::sync::Arc;
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
    ClientFrame, Hello, Limits, PlatformType, Push, Request, Response, ServerFrame, SessionEndReason, Stored, Welcome,
};

use super::handler::{self, Invocation};
use super::in_flight::{Done, InFlight};
use super::unread::UNCOUNTED_BYTES;
use super::writer::{Closing, Writer};
use super::{Net, at, events, quic, reassembly, unread};
use crate::connection::{ConnectionState, PushTarget};
use crate::error::Error;

/// No client needs longer frames before its login, and the server need not hold more for an unauthenticated connection.
const UNAUTHENTICATED_FRAME_BYTES: usize = 16 << 10;
/// How much is read at once. It stays in QUIC's buffer until it is cut into frames.
const READ_BYTES: usize = 64 << 10;
/// With this many bytes of unread responses, no more requests are read from the client.
const MAX_UNREAD_BYTES: usize = 256 << 10;
/// The bytes of the positions in one acknowledgement.
const MAX_STORED_BYTES: usize = 16 << 10;
/// How long the client has to acknowledge the last response.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves a connection to its end.
pub(crate) async fn run(net: &Arc<Net>, connection: &Connection) {
    match open(net, connection).await {
        Ok(mut requests) => {
            let closing = serve_requests(net, connection, &mut requests).await;
            quic::close(connection, closing.code, closing.reason);
            // What the writer holds is counted until here.
            requests.writer.discard();
        }
        Err(closing) => quic::close(connection, closing.code, closing.reason),
    }
}

async fn open<'a>(net: &'a Arc<Net>, connection: &'a Connection) -> Result<Requests<'a>, Closing> {
    let hello_timeout = Duration::from_millis(net.app.config.limits.hello_timeout_ms.into());
    tokio::select! {
        opened = timeout(hello_timeout, handshake(net, connection)) => {
            opened.unwrap_or(Err(Closing::new(CloseCode::HelloTimeout, "no Hello arrived in time")))
        }
        () = net.stopping.cancelled() => Err(Closing::new(CloseCode::GoingAway, "the server is stopping")),
    }
}

async fn handshake<'a>(net: &'a Arc<Net>, connection: &'a Connection) -> Result<Requests<'a>, Closing> {
    let (send, mut recv) = connection.accept_bi().await.map_err(|_| Closing::done())?;
    let mut frames = FrameDecoder::new(UNAUTHENTICATED_FRAME_BYTES);
    let mut reassembly = net.unauthenticated_reassembly.reservation();
    let first = loop {
        match frames.next() {
            Ok(Some(frame)) => break frame,
            Ok(None) => reassembly.set(frames.buffered())?,
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
    let state = Arc::new(accept_hello(net, connection, hello)?);
    Ok(Requests::new(net, connection, (send, recv), (frames, reassembly), state))
}

fn unreadable() -> Closing {
    Closing::new(CloseCode::Protocol, "unreadable frame")
}

fn accept_hello(net: &Net, connection: &Connection, hello: Hello) -> Result<ConnectionState, Closing> {
    if !hello.versions.contains(&VERSION) {
        return Err(Closing::new(CloseCode::Version, "this server supports protocol version 1 only"));
    }
    let Ok(device) = <[u8; 16]>::try_from(hello.device_id.as_ref()) else {
        return Err(Closing::new(CloseCode::Protocol, "the device ID must have 16 bytes"));
    };
    let sdk_version: String = hello.sdk_version.chars().filter(|c| !c.is_control()).take(64).collect();
    let queue_bytes = net.app.config.limits.session_queue_bytes;
    // It may be of a later version. The column only holds platforms that have a name.
    let platform = PlatformType::try_from(hello.platform).unwrap_or(PlatformType::Unknown);
    Ok(ConnectionState::new(connection.remote_address(), platform as i32, device, sdk_version, queue_bytes))
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
            message_burst: limits.message_burst,
        }),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        area: net.app.config.area,
    }
}

/// Removes a session from the table of connections when it ends, in whatever way.
struct ConnectedGuard<'a> {
    net: &'a Net,
    state: Arc<ConnectionState>,
}

impl Drop for ConnectedGuard<'_> {
    fn drop(&mut self) {
        self.net.app.disconnected(&self.state);
        self.net.app.lose_rooms(&self.state);
    }
}

async fn serve_requests(net: &Arc<Net>, connection: &Connection, requests: &mut Requests<'_>) -> Closing {
    let state = Arc::clone(&requests.state);
    let _guard = ConnectedGuard { net, state: Arc::clone(&state) };
    let write_timeout = net.app.config.limits.write_timeout();
    tokio::select! {
        closing = requests.run() => closing,
        closing = events::run(connection, &state, write_timeout) => closing,
        closing = login_and_token_deadlines(net, &state) => closing,
    }
}

/// Waits for the connection's deadlines: that of the login, then the end of the token.
async fn login_and_token_deadlines(net: &Net, state: &ConnectionState) -> Closing {
    let clock = &net.app.clock;
    let login_by = clock.steady_ms().saturating_add(net.app.config.limits.login_timeout_ms.into());
    while state.identity().is_none() {
        if clock.steady_ms() >= login_by {
            return Closing::new(CloseCode::LoginTimeout, "no login within the time limit");
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

type Start = Box<dyn Fn(Invocation) -> BoxFuture<'static, Done> + Send>;

/// The session stream after Hello.
struct Requests<'a> {
    net: &'a Arc<Net>,
    connection: &'a Connection,
    state: Arc<ConnectionState>,
    /// Nobody has logged in yet.
    is_unauthenticated: bool,
    recv: RecvStream,
    frames: FrameDecoder,
    /// The counted bytes of `frames`.
    reassembly: reassembly::Reservation<'a>,
    writer: Writer,
    /// Unread responses that are counted. Set at the login: an unauthenticated connection reads nothing.
    unread: Option<unread::Reservation<'a>>,
    in_flight: InFlight<Start>,
    /// The client has finished its stream: no requests follow.
    finished: bool,
    /// The client's stream is not read before this time of the steady clock, because too many of its requests were
    /// refused.
    paused_until: i64,
    /// When a frame that has begun must be complete.
    frame_deadline: Option<Instant>,
}

impl<'a> Requests<'a> {
    fn new(
        net: &'a Arc<Net>,
        connection: &'a Connection,
        (send, recv): (SendStream, RecvStream),
        (frames, reassembly): (FrameDecoder, reassembly::Reservation<'a>),
        state: Arc<ConnectionState>,
    ) -> Self {
        let mut writer = Writer::new(send, net.app.config.limits.write_timeout());
        writer.add(&ServerFrame { frame: Some(ToClient::Welcome(welcome(net))) });
        let net_of_requests = Arc::clone(net);
        let start: Start = Box::new(move |invocation| Box::pin(handler::run(Arc::clone(&net_of_requests), invocation)));
        Self {
            net,
            connection,
            state,
            is_unauthenticated: true,
            recv,
            frames,
            reassembly,
            writer,
            unread: None,
            in_flight: InFlight::new(start),
            finished: false,
            paused_until: 0,
            frame_deadline: None,
        }
    }

    async fn run(&mut self) -> Closing {
        // A child token: sessions that share one token contend for its lock.
        let stopping = self.net.stopping.child_token();
        let closing = self.serve(&stopping).await;
        if let Err(closing) = closing {
            return closing;
        }
        // The responses come before the end of the session.
        self.writer.finish(CLOSE_TIMEOUT).await;
        if self.state.is_logged_out() {
            self.state.queue.end(SessionEndReason::LoggedOut, "");
        } else if stopping.is_cancelled() {
            self.state.queue.end(SessionEndReason::GoingAway, "the server is stopping");
        } else {
            return Closing::done();
        }
        std::future::pending().await
    }

    /// Reads requests and writes responses until nothing is left to do.
    async fn serve(&mut self, stopping: &CancellationToken) -> Result<(), Closing> {
        let mut stop_deadline: Option<Instant> = None;
        let mut stop_requested = pin!(stopping.cancelled());
        loop {
            let may_read = stop_deadline.is_none() && self.handle_frames()?;
            let idle = self.in_flight.len() == 0;
            if idle
                && self.writer.len() == 0
                && (stop_deadline.is_some() || self.finished || self.state.is_logged_out())
            {
                return Ok(());
            }
            // No pages are read from the database while the client does not read those it has.
            let may_start_reads = self.writer.len() < MAX_UNREAD_BYTES;
            if let Some(unread) = &mut self.unread {
                unread.set(self.in_flight.running_reads(), self.writer.held());
                if !may_start_reads {
                    unread.stop_waiting();
                }
            }
            let clock = &self.net.app.clock;
            let is_paused = self.paused_until > clock.steady_ms();
            let Self { recv, frames, writer, unread, in_flight, finished, paused_until, frame_deadline, .. } = self;
            tokio::select! {
                biased;
                () = in_flight.next(unread.as_mut().filter(|_| may_start_reads)), if !idle => {
                    for done in in_flight.take_done() {
                        respond_done(writer, done);
                    }
                }
                written = writer.write(), if writer.held() > 0 => written?,
                () = at(stop_deadline), if stop_deadline.is_some() => return Ok(()),
                () = &mut stop_requested, if stop_deadline.is_none() => {
                    in_flight.clear_waiting();
                    let stop_timeout_ms = self.net.app.config.limits.stop_timeout_ms;
                    stop_deadline = Some(Instant::now() + Duration::from_millis(stop_timeout_ms.into()));
                }
                chunk = recv.read_chunk(READ_BYTES, true), if may_read => match chunk {
                    Ok(Some(chunk)) => frames.push(&chunk.bytes),
                    Ok(None) => *finished = true,
                    Err(_) => return Err(Closing::done()),
                },
                () = clock.sleep_until_steady(*paused_until), if is_paused => {}
                () = at(*frame_deadline), if may_read && frame_deadline.is_some() => {
                    return Err(Closing::new(CloseCode::TooSlow, "a frame was not completed in time"));
                }
            }
        }
    }

    /// Handles the complete frames. Returns false if no more are to be read: the client's data then waits on its side.
    fn handle_frames(&mut self) -> Result<bool, Closing> {
        let limits = &self.net.app.config.limits;
        let max = usize::try_from(limits.max_calls_in_flight).unwrap_or(usize::MAX);
        let mut previous_deadline = self.frame_deadline.take();
        loop {
            if self.finished || self.state.is_logged_out() {
                return Ok(false);
            }
            if self.in_flight.len() >= max || self.has_much_unread() {
                return Ok(false);
            }
            if self.paused_until > 0 {
                if self.paused_until > self.net.app.clock.steady_ms() {
                    return Ok(false);
                }
                self.paused_until = 0;
            }
            if self.is_unauthenticated && self.state.identity().is_some() {
                self.is_unauthenticated = false;
                self.frames.set_max(MAX_FRAME_BYTES);
                self.reassembly = self.net.reassembly.reservation();
                quic::raise_receive_window(self.connection);
                self.unread = self.state.identity().map(|identity| self.net.unread.reservation(identity.user));
                self.unread.iter().for_each(|unread| self.writer.account_to(unread.pools(), self.connection.clone()));
            }
            match self.frames.next() {
                Ok(Some(frame)) => {
                    previous_deadline = None;
                    self.handle_frame(frame)?;
                }
                Ok(None) => {
                    if self.frames.is_partial() {
                        self.frame_deadline =
                            previous_deadline.or_else(|| Some(Instant::now() + limits.write_timeout()));
                    }
                    self.reassembly.set(self.frames.buffered())?;
                    return Ok(true);
                }
                Err(_) => return Err(unreadable()),
            }
        }
    }

    /// Returns whether the client has so many unread responses that no more requests are read.
    fn has_much_unread(&self) -> bool {
        let bytes = self.writer.len();
        // What an unauthenticated connection leaves unread is not counted, so it must be little.
        let may_have_much = || self.unread.as_ref().is_some_and(|unread| !unread.is_overdrawn());
        bytes >= MAX_UNREAD_BYTES || (bytes > UNCOUNTED_BYTES && !may_have_much())
    }

    fn handle_frame(&mut self, frame: Bytes) -> Result<(), Closing> {
        let frame = ClientFrame::decode(frame).map_err(|_| unreadable())?;
        match frame.frame {
            Some(FromClient::Request(request)) => {
                self.check_ack(request.ack)?;
                self.request(request);
                Ok(())
            }
            Some(FromClient::Ack(ack)) => {
                self.count_refused();
                self.check_ack(ack.count)?;
                self.take_stored(&ack.stored)
            }
            Some(FromClient::Hello(_)) => Err(Closing::new(CloseCode::Protocol, "Hello was sent twice")),
            // A frame of a later version: skipped.
            None => {
                self.count_refused();
                Ok(())
            }
        }
    }

    /// Counts a refused request, or a frame without an allowance of its own. They share one allowance; beyond it the
    /// client's stream is not read for a moment. Otherwise refusing requests as fast as they come would cost the server
    /// as much as serving them.
    fn count_refused(&mut self) {
        let now = self.net.app.clock.steady_ms();
        if let Err(wait_ms) = self.state.allowance().lock().take_refused(self.net, now) {
            self.paused_until = now.saturating_add(wait_ms);
        }
    }

    fn request(&mut self, request: Request) {
        let id = request.id;
        let admitted = handler::admit(self.net, &self.state, &mut self.state.allowance().lock(), request);
        match admitted {
            Ok(invocation) => self.in_flight.arrive(invocation),
            Err(refused) => {
                drop(respond(&mut self.writer, id, Outcome::Error(refused.to_wire()), Vec::new()));
                self.count_refused();
            }
        }
    }

    /// Notes the number of event frames that the client says it has handled.
    fn check_ack(&self, count: u64) -> Result<(), Closing> {
        if self.state.acknowledge(count, self.net.app.clock.now_ms()) {
            return Ok(());
        }
        Err(Closing::new(CloseCode::Protocol, "an Ack counts events that were not sent"))
    }

    /// Notes what the client says it has stored.
    fn take_stored(&self, stored: &[u8]) -> Result<(), Closing> {
        if stored.is_empty() || self.state.identity().is_none() {
            return Ok(());
        }
        // Checked first, because an empty position is two bytes here and much more in memory.
        if stored.len() > MAX_STORED_BYTES {
            return Err(Closing::new(CloseCode::Protocol, "the positions of an Ack are longer than 16 KB"));
        }
        let stored = Stored::decode(stored).map_err(|_| unreadable())?;
        if stored.feed > 0 {
            self.net.app.call_invitations_received(&self.state, i64::try_from(stored.feed).unwrap_or(i64::MAX));
        }
        self.state.add_stored(stored);
        Ok(())
    }
}

fn respond_done(writer: &mut Writer, done: Done) {
    let Done { id, caller, result } = done;
    let outcome = match result {
        Ok(payload) => Outcome::Ok(payload),
        Err(failed) => Outcome::Error(failed.to_wire()),
    };
    let left_out = respond(writer, id, outcome, caller.take_pushes());
    let Ok(connection) = caller.connection() else { return };
    for push in left_out {
        // Others are told by a push of their own, and this device by its answer alone: now it pulls.
        connection.queue.mark_dirty(&push.conversation.map_or(PushTarget::Feed, PushTarget::Conversation));
    }
}

/// Adds a response. Returns the log entries that do not fit into its frame: what a write changes may say as much of a hundred users as
/// its answer does.
fn respond(writer: &mut Writer, id: u64, outcome: Outcome, pushes: Vec<Push>) -> Vec<Push> {
    let mut frame = ServerFrame { frame: Some(ToClient::Response(Response { id, outcome: Some(outcome), pushes })) };
    let (mut length, mut left_out) = (frame.encoded_len(), Vec::new());
    if length > MAX_FRAME_BYTES
        && let Some(ToClient::Response(response)) = &mut frame.frame
    {
        left_out = std::mem::take(&mut response.pushes);
        length = frame.encoded_len();
    }
    if length > MAX_FRAME_BYTES {
        // Pages are limited in bytes, so this is a bug in a service. The connection must not end because of it.
        tracing::error!(id, length, "the response is longer than a frame");
        let outcome = Some(Outcome::Error(Error::internal_text("the response is longer than a frame").to_wire()));
        frame.frame = Some(ToClient::Response(Response { id, outcome, pushes: Vec::new() }));
    }
    writer.add(&frame);
    left_out
}
