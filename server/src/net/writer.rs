//! Writing to a stream, with an end to the patience for a client that does not read.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message;
use quinn::{SendStream, WriteError};
use tokio::time::{Instant, sleep_until};
use zim_protocol::frame::encode_frame;
use zim_protocol::wire::CloseCode;

use super::unread::Claim;

/// Small frames gather in pieces of about this size. A longer one is a piece of its own, because memory is free again when all
/// of a piece has left.
const PIECE_BYTES: usize = 64 << 10;
/// Whoever takes so much in the time that a stalled client has is not stalled: 3 KB a second at the default.
const PACE_BYTES: usize = 16 << 10;

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

/// How long a client that takes nothing is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// At most.
    pub(crate) most: Duration,
    /// When others wait for the room that it takes.
    pub(crate) least: Duration,
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
    patience: Patience,
    /// Where what waits is counted, if it is.
    claim: Option<Claim>,
    /// Set while nothing moves; it outlives a cancelled [`Writer::flush`].
    deadline: Option<Instant>,
    /// Set while something waits, and as long lived.
    pace: Option<Pace>,
}

impl Writer {
    pub(crate) fn new(stream: SendStream, patience: Patience) -> Self {
        Self {
            stream,
            leaving: Bytes::new(),
            pieces: VecDeque::new(),
            ready: BytesMut::new(),
            waiting: 0,
            patience,
            claim: None,
            deadline: None,
            pace: None,
        }
    }

    /// From now on what waits is counted there, and a client that takes next to nothing of it is let go when others want the
    /// room.
    pub(super) fn count_at(&mut self, claim: Claim) {
        self.claim = Some(claim);
    }

    /// Adds a frame.
    pub(crate) fn add(&mut self, frame: &impl Message) {
        if !self.ready.is_empty() && self.ready.len() + frame.encoded_len() > PIECE_BYTES {
            self.pieces.push_back(std::mem::take(&mut self.ready).freeze());
        }
        let before = self.ready.len();
        encode_frame(frame, &mut self.ready);
        self.waiting += self.ready.len() - before;
    }

    /// Adds frames that are encoded.
    pub(crate) fn add_encoded(&mut self, frames: BytesMut) {
        if !self.ready.is_empty() {
            self.pieces.push_back(std::mem::take(&mut self.ready).freeze());
        }
        self.waiting += frames.len();
        self.ready = frames;
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    /// Writes all that waits.
    pub(crate) async fn flush(&mut self) -> Result<(), Closing> {
        while self.len() > 0 {
            self.write().await?;
        }
        Ok(())
    }

    /// Writes the next piece of what waits, or a part of it. May be cancelled at any time without loss.
    pub(crate) async fn write(&mut self) -> Result<(), Closing> {
        if self.leaving.is_empty() {
            // An idle session keeps no buffer: what is written belongs to the stream until it is acknowledged.
            let next = self.pieces.pop_front();
            self.leaving = next.unwrap_or_else(|| std::mem::take(&mut self.ready).freeze());
        }
        let Self { stream, leaving, patience, claim, deadline, pace, .. } = self;
        let begun = *pace.get_or_insert_with(Pace::begin);
        let by = *deadline.get_or_insert_with(|| Instant::now() + patience.most);
        let wanted = async {
            let Some(claim) = claim else { return std::future::pending().await };
            sleep_until(begun.since + patience.least).await;
            // In a box: hardly any session comes here, and all of them would be larger.
            Box::pin(claim.wanted()).await;
        };
        let written = tokio::select! {
            biased;
            written = stream.write_chunks(std::slice::from_mut(leaving)) => written,
            () = sleep_until(by) => return Err(Closing::new(CloseCode::TooSlow, "nothing was read for too long")),
            () = wanted => {
                return Err(Closing::new(CloseCode::TooSlow, "too little was read while others waited for the room"));
            }
        };
        let bytes = match written {
            Ok(written) => written.bytes,
            Err(WriteError::Stopped(_)) => {
                return Err(Closing::new(CloseCode::Protocol, "a stream that the protocol needs was stopped"));
            }
            Err(_) => return Err(Closing::done()),
        };
        self.waiting -= bytes;
        self.deadline = None;
        self.pace = if self.waiting == 0 { None } else { begun.took(bytes) };
        if self.pieces.is_empty() {
            self.pieces = VecDeque::new();
        }
        Ok(())
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
