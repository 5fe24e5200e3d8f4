//! Writing to a stream, with an end to the write_timeout for a client that does not read.

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

/// Small frames gather in chunks of about this size, and longer ones are cut.
const CHUNK_BYTES: usize = 32 << 10;
/// After this part of the write_timeout a client is stalled that takes next to nothing, and gives way when others want its room.
pub(super) const STALL_DIVISOR: u32 = 6;
/// Whoever takes so much in the time that a stalled client has is not stalled: 6.5 KB a second at the default.
const MIN_PROGRESS_BYTES: usize = 32 << 10;

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
struct Progress {
    since: Instant,
    bytes: usize,
}

impl Progress {
    fn begin() -> Self {
        Self { since: Instant::now(), bytes: 0 }
    }

    /// It took so much; `None` when that is enough.
    fn add(self, bytes: usize) -> Option<Self> {
        let bytes = self.bytes + bytes;
        (bytes < MIN_PROGRESS_BYTES).then_some(Self { bytes, ..self })
    }
}

/// What QUIC may hold of what is written and not acknowledged. It does not say how much it holds; but it takes something new
/// only while it holds less than its window. So the window is wide only while there are pages to write, and afterwards it is
/// made smaller step by step: when QUIC would take something, it holds less than that.
#[derive(Debug)]
struct SendWindow {
    connection: Connection,
    size: usize,
    /// What QUIC holds at most, if that can be more than the small window; else 0.
    held: usize,
}

impl SendWindow {
    /// So many bytes wait to be written; with none, the next step.
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

    /// QUIC took so many bytes; with none, the step is done.
    fn add(&mut self, bytes: usize) {
        let held = if bytes > 0 { (self.held + bytes).min(self.size) } else { self.size };
        self.held = if self.size > SEND_WINDOW { held } else { 0 };
    }
}

/// Frames that wait for their stream. Those that are buffer together leave together.
#[derive(Debug)]
pub(crate) struct Writer {
    stream: SendStream,
    /// The piece that is being written.
    current: Bytes,
    /// Those that follow.
    chunks: VecDeque<Bytes>,
    /// What is added.
    buffer: BytesMut,
    /// Bytes of all these.
    waiting: usize,
    /// How long a client that takes nothing is waited for.
    write_timeout: Duration,
    /// Where what waits is accounting, and what QUIC has of it, if they are. In a box, because not every writer has it, and each is
    /// in the future of a session.
    accounting: Option<Box<(Pools, SendWindow)>>,
    /// Set while nothing moves; it outlives a cancelled [`Writer::flush`].
    deadline: Option<Instant>,
    /// Set while something waits, and as long lived.
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

    /// From now on what waits is accounting there, and a client that takes next to nothing of it is let go when others want the
    /// room.
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
            // In chunks of their own: memory is free again with all of a piece, and the last of it may be long in current.
            let whole = std::mem::take(&mut self.buffer);
            self.chunks.extend(whole.chunks(CHUNK_BYTES).map(Bytes::copy_from_slice));
        }
    }

    fn seal(&mut self) {
        if !self.buffer.is_empty() {
            self.chunks.push_back(std::mem::take(&mut self.buffer).freeze());
        }
    }

    /// Adds frames that are encoded.
    pub(crate) fn add_encoded(&mut self, frames: BytesMut) {
        self.seal();
        self.waiting += frames.len();
        self.buffer = frames;
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    /// Bytes that QUIC may hold unless its window is small.
    fn in_quic(&self) -> usize {
        self.accounting.as_ref().map_or(0, |accounting| accounting.1.held)
    }

    /// Bytes that are to be accounting.
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
        if self.current.is_empty() {
            // An idle session keeps no buffer: what is written belongs to the stream until it is acknowledged.
            let next = self.chunks.pop_front();
            self.current = next.unwrap_or_else(|| std::mem::take(&mut self.buffer).freeze());
        }
        let waiting = self.waiting;
        if let Some(accounting) = &mut self.accounting {
            accounting.1.set_for(waiting);
        }
        // Nearly always QUIC takes it at once; a session that does not wait is as small as it can be.
        let written = match self.write_current().now_or_never() {
            Some(written) => written,
            None => Box::pin(self.write_in_time()).await?,
        };
        let bytes = match written {
            Ok(written) => written.bytes,
            Err(WriteError::Stopped(_)) => {
                return Err(Closing::new(CloseCode::Protocol, "a stream that the protocol needs was stopped"));
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

    /// Gives the piece that leaves to QUIC, as far as it takes it; or nothing, which it takes as well as anything.
    async fn write_current(&mut self) -> Result<Written, WriteError> {
        let chunks = if self.waiting > 0 { std::slice::from_mut(&mut self.current) } else { &mut [] };
        self.stream.write_chunks(chunks).await
    }

    /// The same for as long as there is write_timeout.
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
            () = starved => Err(Closing::new(CloseCode::TooSlow, "too little was read while others waited for the room")),
        }
    }

    /// Ends the stream and waits, but not for long, until the client has everything.
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
    fn who_takes_enough_in_time_is_not_slow() {
        let progress = Progress::begin();
        let half = progress.add(MIN_PROGRESS_BYTES / 2).unwrap();
        assert_eq!((half.since, half.bytes), (progress.since, MIN_PROGRESS_BYTES / 2));
        assert!(half.add(MIN_PROGRESS_BYTES / 2 - 1).is_some());
        assert!(half.add(MIN_PROGRESS_BYTES / 2).is_none());
        assert!(progress.add(1 << 20).is_none());
    }
}
