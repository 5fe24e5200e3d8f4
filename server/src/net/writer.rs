//! Writing to a stream, with an end to the patience for a client that does not read.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use prost::Message;
use quinn::{Connection, SendStream, VarInt, WriteError, Written};
use tokio::time::{Instant, sleep_until};
use zim_protocol::frame::encode_frame;
use zim_protocol::wire::CloseCode;

use super::at;
use super::quic::{PAGES_SEND_WINDOW, SEND_WINDOW, set_send_window};
use super::unread::Claim;

/// Small frames gather in pieces of about this size, and longer ones are cut.
const PIECE_BYTES: usize = 32 << 10;
/// After this part of the patience a client is stalled that takes next to nothing, and gives way when others want its room.
pub(super) const STALLED: u32 = 6;
/// Whoever takes so much in the time that a stalled client has is not stalled: 6.5 KB a second at the default.
const PACE_BYTES: usize = 32 << 10;
/// QUIC's window is made smaller by so much at a time.
const STEP_BYTES: usize = 16 << 10;

/// Why a session ends: what the client is told, unless it is gone already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closing {
    pub(crate) code: CloseCode,
    pub(crate) reason: &'static str,
}

impl Closing {
    pub(crate) const fn new(code: CloseCode, reason: &'static str) -> Self {
        Self { code, reason }
    }

    pub(crate) const fn done() -> Self {
        Self::new(CloseCode::Done, "")
    }
}

/// Since when a client has been slow, and how much it has taken since.
#[derive(Clone, Copy, Debug)]
struct Pace {
    since: Instant,
    bytes: usize,
}

impl Pace {
    fn begin() -> Self {
        Self { since: Instant::now(), bytes: 0 }
    }

    /// It took so much; `None` when that is enough.
    fn took(self, bytes: usize) -> Option<Self> {
        let bytes = self.bytes + bytes;
        (bytes < PACE_BYTES).then_some(Self { bytes, ..self })
    }
}

/// What QUIC may hold of what is written and not acknowledged. It does not say how much it holds; but it takes something new
/// only while it holds less than its window. So the window is wide only while there are pages to write, and afterwards it is
/// made smaller step by step: when QUIC would take something, it holds less than that.
///
/// The window is the connection's, and events go through it, too. So it is never wider than what is counted and a small window
/// more, and events that wait have their turn at each step.
#[derive(Debug)]
struct Window {
    connection: Connection,
    size: usize,
    /// What QUIC holds at most, if that can be more than the small window; else 0.
    held: usize,
}

impl Window {
    /// So many bytes wait to be written; with none, the next step.
    fn set_for(&mut self, waiting: usize) {
        let size = if waiting == 0 {
            self.held.saturating_sub(STEP_BYTES).max(SEND_WINDOW)
        } else if waiting > SEND_WINDOW || self.held > 0 {
            (self.held + waiting + SEND_WINDOW).min(PAGES_SEND_WINDOW)
        } else {
            SEND_WINDOW
        };
        if size != self.size {
            set_send_window(&self.connection, size);
            self.size = size;
        }
    }

    /// QUIC took so many bytes; with none, the step is done.
    fn took(&mut self, bytes: usize) {
        let held = if bytes > 0 { (self.held + bytes).min(self.size) } else { self.size };
        self.held = if self.size > SEND_WINDOW { held } else { 0 };
    }
}

/// Frames that wait for their stream. Those that are ready together leave together.
#[derive(Debug)]
pub(crate) struct Writer {
    stream: SendStream,
    /// The piece that is being written.
    leaving: Bytes,
    /// Those that follow.
    pieces: VecDeque<Bytes>,
    /// What is added.
    ready: BytesMut,
    /// Bytes of all these.
    waiting: usize,
    /// How long a client that takes nothing is waited for.
    patience: Duration,
    /// Where what waits is counted, and what QUIC has of it, if they are. In a box, because not every writer has it, and each is
    /// in the future of a session.
    counted: Option<Box<(Claim, Window)>>,
    /// Set while something waits and nothing moves; it outlives a cancelled [`Writer::flush`].
    deadline: Option<Instant>,
    /// Set while something waits or is counted, and as long lived.
    pace: Option<Pace>,
}

impl Writer {
    pub(crate) fn new(stream: SendStream, patience: Duration) -> Self {
        Self {
            stream,
            leaving: Bytes::new(),
            pieces: VecDeque::new(),
            ready: BytesMut::new(),
            waiting: 0,
            patience,
            counted: None,
            deadline: None,
            pace: None,
        }
    }

    /// From now on what waits is counted there, and a client that takes next to nothing of it is let go when others want the
    /// room.
    pub(super) fn count_at(&mut self, claim: Claim, connection: Connection) {
        self.counted = Some(Box::new((claim, Window { connection, size: SEND_WINDOW, held: 0 })));
    }

    /// Adds a frame.
    pub(crate) fn add(&mut self, frame: &impl Message) {
        let length = frame.encoded_len();
        if self.ready.len() + length > PIECE_BYTES {
            self.seal();
        }
        let before = self.ready.len();
        encode_frame(frame, &mut self.ready);
        self.waiting += self.ready.len() - before;
        if length > PIECE_BYTES {
            // In pieces of their own: memory is free again with all of a piece, and the last of it may be long in leaving.
            let whole = std::mem::take(&mut self.ready);
            self.pieces.extend(whole.chunks(PIECE_BYTES).map(Bytes::copy_from_slice));
        }
    }

    fn seal(&mut self) {
        if !self.ready.is_empty() {
            self.pieces.push_back(std::mem::take(&mut self.ready).freeze());
        }
    }

    /// Adds frames that are encoded.
    pub(crate) fn add_encoded(&mut self, frames: BytesMut) {
        self.seal();
        self.waiting += frames.len();
        self.ready = frames;
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    /// Bytes that QUIC may hold unless its window is small.
    fn in_quic(&self) -> usize {
        self.counted.as_ref().map_or(0, |counted| counted.1.held)
    }

    /// Bytes that are to be counted.
    pub(super) fn held(&self) -> usize {
        self.waiting + self.in_quic()
    }

    /// Writes all that waits.
    pub(crate) async fn flush(&mut self) -> Result<(), Closing> {
        while self.len() > 0 {
            self.write().await?;
        }
        Ok(())
    }

    /// Writes the next piece of what waits, or a part of it; if nothing waits, returns when QUIC holds less. May be cancelled at
    /// any time without loss.
    pub(crate) async fn write(&mut self) -> Result<(), Closing> {
        if self.leaving.is_empty() {
            // An idle session keeps no buffer: what is written belongs to the stream until it is acknowledged.
            let next = self.pieces.pop_front();
            self.leaving = next.unwrap_or_else(|| std::mem::take(&mut self.ready).freeze());
        }
        let waiting = self.waiting;
        if let Some(counted) = &mut self.counted {
            counted.1.set_for(waiting);
        }
        // Nearly always QUIC takes it at once; a session that does not wait is as small as it can be.
        let written = match self.give().now_or_never() {
            Some(written) => written,
            None => Box::pin(self.wait()).await?,
        };
        let bytes = match written {
            Ok(written) => written.bytes,
            Err(WriteError::Stopped(_)) => {
                return Err(Closing::new(CloseCode::Protocol, "a stream that the protocol needs was stopped"));
            }
            Err(_) => return Err(Closing::done()),
        };
        let before = self.in_quic();
        if let Some(counted) = &mut self.counted {
            counted.1.took(bytes);
        }
        self.waiting -= bytes;
        let taken = if waiting > 0 { bytes } else { before.saturating_sub(self.in_quic()) };
        self.deadline = None;
        self.pace = self.pace.filter(|_| self.held() > 0).and_then(|pace| pace.took(taken));
        if self.pieces.is_empty() {
            self.pieces = VecDeque::new();
        }
        if waiting == 0 {
            // Events that wait for room in QUIC go first, before the next step takes it away.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Gives the piece that leaves to QUIC, as far as it takes it; or nothing, which it takes as well as anything.
    async fn give(&mut self) -> Result<Written, WriteError> {
        let pieces = if self.waiting > 0 { std::slice::from_mut(&mut self.leaving) } else { &mut [] };
        self.stream.write_chunks(pieces).await
    }

    /// The same for as long as there is patience.
    async fn wait(&mut self) -> Result<Result<Written, WriteError>, Closing> {
        // With nothing that waits there is nothing for the client to read: what is under way is QUIC's to bring there.
        let by = (self.waiting > 0).then(|| *self.deadline.get_or_insert_with(|| Instant::now() + self.patience));
        let stalled_at = self.pace.get_or_insert_with(Pace::begin).since + self.patience / STALLED;
        let claim = self.counted.as_ref().map(|counted| counted.0.clone());
        let wanted = async {
            let Some(claim) = claim else { return std::future::pending().await };
            sleep_until(stalled_at).await;
            claim.wanted().await;
        };
        tokio::select! {
            biased;
            written = self.give() => Ok(written),
            () = at(by) => Err(Closing::new(CloseCode::TooSlow, "nothing was read for too long")),
            () = wanted => Err(Closing::new(CloseCode::TooSlow, "too little was read while others waited for the room")),
        }
    }

    /// Forgets what the client has not acknowledged, once the connection is closed. QUIC would keep it for three times as long
    /// as it waits for an acknowledgement, which is the client's choice, and it is counted nowhere any more.
    pub(super) fn discard(&mut self) {
        // It fails if the stream is forgotten already.
        drop(self.stream.reset(VarInt::from_u32(0)));
    }

    /// Ends the stream and waits, but not for long, until the client has everything.
    pub(crate) async fn finish(&mut self, patience: Duration) {
        if self.stream.finish().is_ok() {
            drop(tokio::time::timeout(patience, self.stream.stopped()).await);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::thread::JoinHandle;

    use quinn::crypto::rustls::QuicClientConfig;
    use quinn::{ClientConfig, Endpoint, ServerConfig, TransportConfig};
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::super::unread::Unread;
    use super::*;
    use crate::key::UserKey;
    use crate::tls::provider;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    const PATIENCE: Duration = Duration::from_secs(20);
    /// More than a small window and less than a wide one.
    const PAGE: usize = 150 << 10;

    /// A connection whose client acknowledges nothing until it is told to.
    struct Quiet {
        connection: Connection,
        answer: mpsc::Sender<()>,
        end: oneshot::Sender<()>,
        client: JoinHandle<()>,
        _endpoint: Endpoint,
    }

    impl Quiet {
        async fn new() -> Self {
            let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
            let mut server = ServerConfig::with_single_cert(vec![own.cert.der().clone()], key).unwrap();
            let mut transport = TransportConfig::default();
            transport.send_window(32 << 10).max_idle_timeout(None);
            server.transport_config(Arc::new(transport));
            let endpoint = Endpoint::server(server, ANY).unwrap();
            let (address, trusted) = (endpoint.local_addr().unwrap(), own.cert.der().clone());
            let (answer, may_answer) = mpsc::channel();
            let (end, ended) = oneshot::channel();
            let client = std::thread::spawn(move || client(address, trusted, &may_answer, ended));
            let connection = endpoint.accept().await.unwrap().await.unwrap();
            Self { connection, answer, end, client, _endpoint: endpoint }
        }

        async fn writer(&self, patience: Duration) -> Writer {
            Writer::new(self.connection.open_uni().await.unwrap(), patience)
        }

        async fn counted(&self, unread: &Unread, patience: Duration) -> Writer {
            let mut writer = self.writer(patience).await;
            writer.count_at(unread.share(UserKey(1)).claim(), self.connection.clone());
            writer
        }

        /// From now on the client acknowledges what it is sent.
        fn answer(&self) {
            self.answer.send(()).unwrap();
        }

        fn end(self) {
            self.connection.close(VarInt::from_u32(0), b"");
            drop((self.answer, self.end));
            self.client.join().unwrap();
        }
    }

    /// QUIC works for the client only while its runtime runs.
    fn client(
        server: SocketAddr,
        trusted: CertificateDer<'static>,
        may_answer: &mpsc::Receiver<()>,
        ended: oneshot::Receiver<()>,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(trusted).unwrap();
        let tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let connected = runtime.block_on(async {
            let endpoint = Endpoint::client(ANY).unwrap();
            (endpoint.connect_with(config, server, "localhost").unwrap().await.unwrap(), endpoint)
        });
        if may_answer.recv().is_ok() {
            let _ = runtime.block_on(ended);
        }
        drop(connected);
    }

    fn unread() -> Unread {
        Unread::new(64 << 20, Duration::from_secs(1))
    }

    fn frames(bytes: usize) -> BytesMut {
        BytesMut::zeroed(bytes)
    }

    #[tokio::test]
    async fn what_quic_holds_is_counted_until_it_is_acknowledged() {
        let (quiet, unread) = (Quiet::new().await, unread());
        let mut writer = quiet.counted(&unread, PATIENCE).await;
        // Little is not counted.
        writer.add_encoded(frames(10 << 10));
        timeout(PATIENCE, writer.flush()).await.unwrap().unwrap();
        assert_eq!(writer.held(), 0);
        writer.add_encoded(frames(PAGE));
        assert_eq!(writer.held(), PAGE);
        // A page does not wait for the client: the window is wide enough.
        timeout(PATIENCE, writer.flush()).await.unwrap().unwrap();
        assert_eq!((writer.len(), writer.held()), (0, PAGE));
        assert!(timeout(Duration::from_millis(50), writer.write()).await.is_err());
        assert_eq!(writer.held(), PAGE);
        quiet.answer();
        while writer.held() > 0 {
            timeout(PATIENCE, writer.write()).await.unwrap().unwrap();
        }
        // The window is small again.
        writer.add_encoded(frames(10));
        timeout(PATIENCE, writer.flush()).await.unwrap().unwrap();
        assert_eq!(writer.held(), 0);
        quiet.end();
    }

    #[tokio::test]
    async fn events_take_no_more_of_a_wide_window_than_of_a_small_one() {
        let (quiet, unread) = (Quiet::new().await, unread());
        let (mut writer, mut events) = (quiet.counted(&unread, PATIENCE).await, quiet.writer(PATIENCE).await);
        writer.add_encoded(frames(PAGE));
        timeout(PATIENCE, writer.flush()).await.unwrap().unwrap();
        events.add_encoded(frames(PAGE));
        assert!(timeout(Duration::from_millis(50), events.flush()).await.is_err());
        assert_eq!(PAGE - events.len(), SEND_WINDOW);
        quiet.end();
    }

    #[tokio::test]
    async fn events_have_their_turn_while_the_window_is_made_smaller() {
        let (quiet, unread) = (Quiet::new().await, unread());
        let (mut writer, mut events) = (quiet.counted(&unread, PATIENCE).await, quiet.writer(PATIENCE).await);
        writer.add_encoded(frames(PAGE));
        timeout(PATIENCE, writer.flush()).await.unwrap().unwrap();
        events.add_encoded(frames(100));
        // As in a session's task, when chance is against the events each time.
        let session = async {
            while writer.held() > 0 {
                writer.write().await.unwrap();
            }
        };
        let is_first = async {
            tokio::select! {
                biased;
                () = session => false,
                sent = events.flush() => sent.is_ok(),
            }
        };
        let answer = async { quiet.answer() };
        assert!(timeout(PATIENCE, futures_util::future::join(is_first, answer)).await.unwrap().0);
        quiet.end();
    }

    #[tokio::test]
    async fn a_client_is_let_go_when_it_takes_nothing_of_what_waits_and_only_then() {
        const SHORT: Duration = Duration::from_millis(50);
        let (quiet, unread) = (Quiet::new().await, unread());
        let mut writer = quiet.counted(&unread, SHORT).await;
        writer.add_encoded(frames(PAGE));
        timeout(PATIENCE, writer.flush()).await.unwrap().unwrap();
        assert!(timeout(SHORT * 4, writer.write()).await.is_err(), "nothing waits");
        writer.add_encoded(frames(PAGES_SEND_WINDOW));
        let closing = timeout(PATIENCE, writer.flush()).await.unwrap().unwrap_err();
        assert_eq!(closing, Closing::new(CloseCode::TooSlow, "nothing was read for too long"));
        quiet.end();
    }

    /// Tells when QUIC forgets it.
    struct Owned(Arc<AtomicBool>);

    impl AsRef<[u8]> for Owned {
        fn as_ref(&self) -> &[u8] {
            &[0; 1_000]
        }
    }

    impl Drop for Owned {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn what_a_closed_connection_has_not_acknowledged_is_forgotten_at_once() {
        let quiet = Quiet::new().await;
        let (mut writer, is_forgotten) = (quiet.writer(PATIENCE).await, Arc::<AtomicBool>::default());
        writer.pieces.push_back(Bytes::from_owner(Owned(Arc::clone(&is_forgotten))));
        writer.waiting = 1_000;
        timeout(PATIENCE, writer.flush()).await.unwrap().unwrap();
        quiet.connection.close(VarInt::from_u32(0), b"");
        assert!(!is_forgotten.load(Ordering::Relaxed));
        writer.discard();
        assert!(is_forgotten.load(Ordering::Relaxed));
        quiet.end();
    }

    #[test]
    fn who_takes_enough_in_time_is_not_slow() {
        let pace = Pace::begin();
        let half = pace.took(PACE_BYTES / 2).unwrap();
        assert_eq!((half.since, half.bytes), (pace.since, PACE_BYTES / 2));
        assert!(half.took(PACE_BYTES / 2 - 1).is_some());
        assert!(half.took(PACE_BYTES / 2).is_none());
        assert!(pace.took(1 << 20).is_none());
    }
}
