//! Writing to a stream, with an end to the patience for a client that does not read.

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
use super::unread::Claim;

/// Small frames gather in pieces of about this size, and longer ones are cut.
const PIECE_BYTES: usize = 32 << 10;
/// After this part of the patience a client is stalled that takes next to nothing, and gives way when others want its room.
pub(super) const STALLED: u32 = 6;
/// Whoever takes so much in the time that a stalled client has is not stalled: 6.5 KB a second at the default.
const PACE_BYTES: usize = 32 << 10;

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
            self.held.saturating_sub(PACE_BYTES).max(SEND_WINDOW)
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
    /// Set while nothing moves; it outlives a cancelled [`Writer::flush`].
    deadline: Option<Instant>,
    /// Set while something waits, and as long lived.
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
        self.waiting -= bytes;
        if let Some(counted) = &mut self.counted {
            counted.1.took(bytes);
        }
        self.deadline = None;
        self.pace = self.pace.filter(|_| self.held() > 0 && bytes > 0).and_then(|pace| pace.took(bytes));
        if self.pieces.is_empty() {
            self.pieces = VecDeque::new();
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
        let by = *self.deadline.get_or_insert_with(|| Instant::now() + self.patience);
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
            () = sleep_until(by) => Err(Closing::new(CloseCode::TooSlow, "nothing was read for too long")),
            () = wanted => Err(Closing::new(CloseCode::TooSlow, "too little was read while others waited for the room")),
        }
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
    use super::*;

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
