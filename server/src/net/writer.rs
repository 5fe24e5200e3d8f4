//! Writes to a stream, with a time limit for clients that do not read.

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
use super::unread::Pools;

/// Small frames are collected into chunks of about this size, and longer frames are cut.
const CHUNK_BYTES: usize = 32 << 10;
/// A client that reads next to nothing for the write timeout divided by this is stalled. Its session is closed when other
/// reads are starved.
pub(super) const STALL_DIVISOR: u32 = 6;
/// A client that reads this much in that time is not stalled: 6.5 KB a second by default.
const MIN_PROGRESS_BYTES: usize = 32 << 10;
/// How much smaller each step makes the send window.
const STEP_BYTES: usize = 16 << 10;

/// Why a session ends. It is sent to the client, unless the connection is lost.
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

/// Since when a client has been slow, and how much it has read since.
#[derive(Clone, Copy, Debug)]
struct Progress {
    since: Instant,
    bytes: usize,
}

impl Progress {
    fn begin() -> Self {
        Self { since: Instant::now(), bytes: 0 }
    }

    /// Adds bytes that the client has read; `None` if they are enough.
    fn add(self, bytes: usize) -> Option<Self> {
        let bytes = self.bytes + bytes;
        (bytes < MIN_PROGRESS_BYTES).then_some(Self { bytes, ..self })
    }
}

/// Limits what QUIC holds of unacknowledged data. QUIC does not report how much it holds, but it accepts new data only
/// while it holds less than its window. So the window is wide only while there are pages to write, and is made smaller
/// step by step afterwards: when QUIC would accept data, it holds less than the window.
///
/// The window belongs to the connection, and events use it too. So it exceeds what is counted by the small window at most,
/// and events that wait get a turn at each step.
#[derive(Debug)]
struct SendWindow {
    connection: Connection,
    size: usize,
    /// What QUIC holds at most, if that can exceed the small window; else 0.
    held: usize,
}

impl SendWindow {
    /// Sets the window for the bytes that wait to be written; without any, for the next step.
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

    /// Adds bytes that QUIC accepted; 0 completes the step.
    fn add(&mut self, bytes: usize) {
        let held = if bytes > 0 { (self.held + bytes).min(self.size) } else { self.size };
        self.held = if self.size > SEND_WINDOW { held } else { 0 };
    }
}

/// Frames that wait to be written to a stream. Frames that wait at the same time are written together.
#[derive(Debug)]
pub(crate) struct Writer {
    stream: SendStream,
    /// The chunk that is being written.
    current: Bytes,
    /// The chunks after it.
    chunks: VecDeque<Bytes>,
    /// Frames that are not in a chunk yet.
    buffer: BytesMut,
    /// The bytes of all these.
    waiting: usize,
    /// How long a client may read nothing.
    write_timeout: Duration,
    /// The pools that count what waits and what QUIC holds, if they are counted. Boxed, because not every writer
    /// counts, and each writer is part of a session's future.
    accounting: Option<Box<(Pools, SendWindow)>>,
    /// Set while QUIC accepts nothing of what waits; it is kept when [`Writer::flush`] is cancelled.
    deadline: Option<Instant>,
    /// Set while data waits or is counted; kept in the same way.
    progress: Option<Progress>,
}

impl Writer {
    pub(crate) fn new(stream: SendStream, write_timeout: Duration) -> Self {
        Self {
            stream,
            current: Bytes::new(),
            chunks: VecDeque::new(),
            buffer: BytesMut::new(),
            waiting: 0,
            write_timeout,
            accounting: None,
            deadline: None,
            progress: None,
        }
    }

    /// Counts what waits in `pools` from now on. A client that reads next to nothing of it is disconnected when other
    /// reads are starved.
    pub(super) fn account_to(&mut self, pools: Pools, connection: Connection) {
        self.accounting = Some(Box::new((pools, SendWindow { connection, size: SEND_WINDOW, held: 0 })));
    }

    /// Adds a frame.
    pub(crate) fn add(&mut self, frame: &impl Message) {
        let length = frame.encoded_len();
        if self.buffer.len() + length > CHUNK_BYTES {
            self.seal();
        }
        let before = self.buffer.len();
        encode_frame(frame, &mut self.buffer);
        self.waiting += self.buffer.len() - before;
        if length > CHUNK_BYTES {
            // In chunks of their own: memory is only freed with a whole chunk, and the last part may wait for long.
            let frames = std::mem::take(&mut self.buffer);
            self.chunks.extend(frames.chunks(CHUNK_BYTES).map(Bytes::copy_from_slice));
        }
    }

    fn seal(&mut self) {
        if !self.buffer.is_empty() {
            self.chunks.push_back(std::mem::take(&mut self.buffer).freeze());
        }
    }

    /// Adds encoded frames.
    pub(crate) fn add_encoded(&mut self, frames: BytesMut) {
        self.seal();
        self.waiting += frames.len();
        self.buffer = frames;
    }

    /// The number of bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    /// Bytes that QUIC may hold beyond the small window.
    fn in_quic(&self) -> usize {
        self.accounting.as_ref().map_or(0, |accounting| accounting.1.held)
    }

    /// The number of bytes to count.
    pub(super) fn held(&self) -> usize {
        self.waiting + self.in_quic()
    }

    /// Writes everything that waits.
    pub(crate) async fn flush(&mut self) -> Result<(), Closing> {
        while self.len() > 0 {
            self.write().await?;
        }
        Ok(())
    }

    /// Writes the next chunk, or a part of it. If nothing waits, returns when QUIC holds less. Cancel safe.
    pub(crate) async fn write(&mut self) -> Result<(), Closing> {
        if self.current.is_empty() {
            // An idle session keeps no buffer: written data belongs to the stream until it is acknowledged.
            let next = self.chunks.pop_front();
            self.current = next.unwrap_or_else(|| std::mem::take(&mut self.buffer).freeze());
        }
        let waiting = self.waiting;
        if let Some(accounting) = &mut self.accounting {
            accounting.1.set_for(waiting);
        }
        // QUIC nearly always accepts it at once. The future of a wait is boxed, so that sessions that do not wait stay
        // small.
        let written = match self.write_current().now_or_never() {
            Some(written) => written,
            None => Box::pin(self.write_in_time()).await?,
        };
        let bytes = match written {
            Ok(written) => written.bytes,
            Err(WriteError::Stopped(_)) => {
                return Err(Closing::new(CloseCode::Protocol, "the client stopped a stream that the protocol needs"));
            }
            Err(_) => return Err(Closing::done()),
        };
        let before = self.in_quic();
        if let Some(accounting) = &mut self.accounting {
            accounting.1.add(bytes);
        }
        self.waiting -= bytes;
        let taken = if waiting > 0 { bytes } else { before.saturating_sub(self.in_quic()) };
        self.deadline = None;
        self.progress = self.progress.filter(|_| self.held() > 0).and_then(|progress| progress.add(taken));
        if self.chunks.is_empty() {
            self.chunks = VecDeque::new();
        }
        if waiting == 0 {
            // Events that wait for room in QUIC are written first, before the next step takes the room away.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Writes what QUIC accepts of the current chunk. Without one it writes nothing, which QUIC accepts under the same
    /// condition.
    async fn write_current(&mut self) -> Result<Written, WriteError> {
        let chunks = if self.waiting > 0 { std::slice::from_mut(&mut self.current) } else { &mut [] };
        self.stream.write_chunks(chunks).await
    }

    /// The same, until the write timeout.
    async fn write_in_time(&mut self) -> Result<Result<Written, WriteError>, Closing> {
        // If nothing waits, the client has nothing left to read: QUIC delivers what it holds.
        let deadline =
            (self.waiting > 0).then(|| *self.deadline.get_or_insert_with(|| Instant::now() + self.write_timeout));
        let stalled_at = self.progress.get_or_insert_with(Progress::begin).since + self.write_timeout / STALL_DIVISOR;
        let pools = self.accounting.as_ref().map(|accounting| accounting.0.clone());
        let starved = async {
            let Some(pools) = pools else { return std::future::pending().await };
            sleep_until(stalled_at).await;
            pools.wait_for_starved_read().await;
        };
        tokio::select! {
            biased;
            written = self.write_current() => Ok(written),
            () = at(deadline) => Err(Closing::new(CloseCode::TooSlow, "nothing was read for too long")),
            () = starved => Err(Closing::new(CloseCode::TooSlow, "too little was read while other reads waited")),
        }
    }

    /// Drops what the client has not acknowledged, once the connection is closed. QUIC would keep it for three times as
    /// long as it waits for an acknowledgement, which the client influences, and it is no longer counted.
    pub(super) fn discard(&mut self) {
        // It fails if the stream is gone already.
        drop(self.stream.reset(VarInt::from_u32(0)));
    }

    /// Finishes the stream and waits up to `limit` until the client has everything.
    pub(crate) async fn finish(&mut self, limit: Duration) {
        if self.stream.finish().is_ok() {
            drop(tokio::time::timeout(limit, self.stream.stopped()).await);
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

    use super::super::unread::UnreadBudget;
    use super::*;
    use crate::key::UserKey;
    use crate::tls::provider;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    const TIMEOUT: Duration = Duration::from_secs(20);
    /// More than a small window and less than a wide one.
    const PAGE: usize = 150 << 10;

    /// A connection whose client acknowledges nothing until [`Quiet::answer`].
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

        async fn writer(&self, write_timeout: Duration) -> Writer {
            Writer::new(self.connection.open_uni().await.unwrap(), write_timeout)
        }

        async fn counted(&self, unread: &UnreadBudget, write_timeout: Duration) -> Writer {
            let mut writer = self.writer(write_timeout).await;
            writer.account_to(unread.reservation(UserKey(1)).pools(), self.connection.clone());
            writer
        }

        /// Lets the client acknowledge what it receives.
        fn answer(&self) {
            self.answer.send(()).unwrap();
        }

        fn end(self) {
            self.connection.close(VarInt::from_u32(0), b"");
            drop((self.answer, self.end));
            self.client.join().unwrap();
        }
    }

    /// The client's QUIC only works while its runtime runs.
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

    fn budget() -> UnreadBudget {
        UnreadBudget::new(64 << 20, Duration::from_secs(1))
    }

    fn frames(bytes: usize) -> BytesMut {
        BytesMut::zeroed(bytes)
    }

    #[tokio::test]
    async fn what_quic_holds_is_counted_until_it_is_acknowledged() {
        let (quiet, unread) = (Quiet::new().await, budget());
        let mut writer = quiet.counted(&unread, TIMEOUT).await;
        // A few bytes are not counted.
        writer.add_encoded(frames(10 << 10));
        timeout(TIMEOUT, writer.flush()).await.unwrap().unwrap();
        assert_eq!(writer.held(), 0);
        writer.add_encoded(frames(PAGE));
        assert_eq!(writer.held(), PAGE);
        // A page does not wait for the client: the window is wide enough.
        timeout(TIMEOUT, writer.flush()).await.unwrap().unwrap();
        assert_eq!((writer.len(), writer.held()), (0, PAGE));
        assert!(timeout(Duration::from_millis(50), writer.write()).await.is_err());
        assert_eq!(writer.held(), PAGE);
        quiet.answer();
        while writer.held() > 0 {
            timeout(TIMEOUT, writer.write()).await.unwrap().unwrap();
        }
        // The window is small again.
        writer.add_encoded(frames(10));
        timeout(TIMEOUT, writer.flush()).await.unwrap().unwrap();
        assert_eq!(writer.held(), 0);
        quiet.end();
    }

    #[tokio::test]
    async fn events_use_no_more_of_a_wide_window_than_of_a_small_one() {
        let (quiet, unread) = (Quiet::new().await, budget());
        let (mut writer, mut events) = (quiet.counted(&unread, TIMEOUT).await, quiet.writer(TIMEOUT).await);
        writer.add_encoded(frames(PAGE));
        timeout(TIMEOUT, writer.flush()).await.unwrap().unwrap();
        events.add_encoded(frames(PAGE));
        assert!(timeout(Duration::from_millis(50), events.flush()).await.is_err());
        assert_eq!(PAGE - events.len(), SEND_WINDOW);
        quiet.end();
    }

    #[tokio::test]
    async fn events_are_written_while_the_window_is_made_smaller() {
        let (quiet, unread) = (Quiet::new().await, budget());
        let (mut writer, mut events) = (quiet.counted(&unread, TIMEOUT).await, quiet.writer(TIMEOUT).await);
        writer.add_encoded(frames(PAGE));
        timeout(TIMEOUT, writer.flush()).await.unwrap().unwrap();
        events.add_encoded(frames(100));
        // As in a session's task, with the order of polls that is worst for events.
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
        assert!(timeout(TIMEOUT, futures_util::future::join(is_first, answer)).await.unwrap().0);
        quiet.end();
    }

    #[tokio::test]
    async fn a_client_is_closed_only_when_it_reads_nothing_of_what_waits() {
        const SHORT: Duration = Duration::from_millis(50);
        let (quiet, unread) = (Quiet::new().await, budget());
        let mut writer = quiet.counted(&unread, SHORT).await;
        writer.add_encoded(frames(PAGE));
        timeout(TIMEOUT, writer.flush()).await.unwrap().unwrap();
        assert!(timeout(SHORT * 4, writer.write()).await.is_err(), "nothing waits");
        writer.add_encoded(frames(PAGES_SEND_WINDOW));
        let closing = timeout(TIMEOUT, writer.flush()).await.unwrap().unwrap_err();
        assert_eq!(closing, Closing::new(CloseCode::TooSlow, "nothing was read for too long"));
        quiet.end();
    }

    /// Records when QUIC drops it.
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
    async fn unacknowledged_data_of_a_closed_connection_is_dropped_at_once() {
        let quiet = Quiet::new().await;
        let (mut writer, is_dropped) = (quiet.writer(TIMEOUT).await, Arc::<AtomicBool>::default());
        writer.chunks.push_back(Bytes::from_owner(Owned(Arc::clone(&is_dropped))));
        writer.waiting = 1_000;
        timeout(TIMEOUT, writer.flush()).await.unwrap().unwrap();
        quiet.connection.close(VarInt::from_u32(0), b"");
        assert!(!is_dropped.load(Ordering::Relaxed));
        writer.discard();
        assert!(is_dropped.load(Ordering::Relaxed));
        quiet.end();
    }

    #[test]
    fn a_client_that_reads_enough_is_not_stalled() {
        let progress = Progress::begin();
        let half = progress.add(MIN_PROGRESS_BYTES / 2).unwrap();
        assert_eq!((half.since, half.bytes), (progress.since, MIN_PROGRESS_BYTES / 2));
        assert!(half.add(MIN_PROGRESS_BYTES / 2 - 1).is_some());
        assert!(half.add(MIN_PROGRESS_BYTES / 2).is_none());
        assert!(progress.add(1 << 20).is_none());
    }
}
