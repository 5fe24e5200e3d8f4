//! Writes to a stream, with a time limit for clients that do not read.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use prost::Message;
use quinn::{Connection, SendStream, WriteError, Written};
use tokio::time::{Instant, sleep_until};
use zim_protocol::frame::encode_frame;
use zim_protocol::wire::CloseCode;

use super::quic::{PAGES_SEND_WINDOW, SEND_WINDOW, set_send_window};
use super::unread::Pools;

/// Small frames are collected into chunks of about this size, and longer frames are cut.
const CHUNK_BYTES: usize = 32 << 10;
/// A client that reads next to nothing for the write timeout divided by this is stalled. Its session is closed when other
/// reads are starved.
pub(super) const STALL_DIVISOR: u32 = 6;
/// A client that reads this much in that time is not stalled: 6.5 KB a second by default.
const MIN_PROGRESS_BYTES: usize = 32 << 10;

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
            self.held.saturating_sub(MIN_PROGRESS_BYTES).max(SEND_WINDOW)
        } else if waiting > SEND_WINDOW || self.held > 0 {
            PAGES_SEND_WINDOW
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
    /// Set while nothing is accepted; it is kept when [`Writer::flush`] is cancelled.
    deadline: Option<Instant>,
    /// Set while data waits; kept in the same way.
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
        self.waiting -= bytes;
        if let Some(accounting) = &mut self.accounting {
            accounting.1.add(bytes);
        }
        self.deadline = None;
        self.progress = self.progress.filter(|_| self.held() > 0 && bytes > 0).and_then(|progress| progress.add(bytes));
        if self.chunks.is_empty() {
            self.chunks = VecDeque::new();
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
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + self.write_timeout);
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
            () = sleep_until(deadline) => Err(Closing::new(CloseCode::TooSlow, "nothing was read for too long")),
            () = starved => Err(Closing::new(CloseCode::TooSlow, "too little was read while other reads waited")),
        }
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
    use super::*;

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
