//! Writing to a stream, with an end to the patience for a client that does not read.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quinn::{SendStream, WriteError};
use tokio::time::{Instant, timeout_at};
use zim_protocol::wire::CloseCode;

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

/// Frames that wait for their stream. Those that are ready together leave together.
#[derive(Debug)]
pub(crate) struct Writer {
    stream: SendStream,
    /// What is added.
    pub(crate) ready: BytesMut,
    leaving: Bytes,
    patience: Duration,
    /// Set while nothing moves; it outlives a cancelled [`Writer::flush`].
    deadline: Option<Instant>,
}

impl Writer {
    pub(crate) fn new(stream: SendStream, patience: Duration) -> Self {
        Self { stream, ready: BytesMut::new(), leaving: Bytes::new(), patience, deadline: None }
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.ready.len() + self.leaving.len()
    }

    /// Writes all that waits. May be cancelled at any time without loss.
    pub(crate) async fn flush(&mut self) -> Result<(), Closing> {
        loop {
            if self.leaving.is_empty() {
                if self.ready.is_empty() {
                    return Ok(());
                }
                // An idle session keeps no buffer: what is written belongs to the stream until it is acknowledged.
                self.leaving = std::mem::take(&mut self.ready).freeze();
            }
            let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + self.patience);
            let written = timeout_at(deadline, self.stream.write_chunks(std::slice::from_mut(&mut self.leaving)));
            match written.await {
                Ok(Ok(_)) => self.deadline = None,
                Ok(Err(WriteError::Stopped(_))) => {
                    return Err(Closing::new(CloseCode::Protocol, "a stream that the protocol needs was stopped"));
                }
                Ok(Err(_)) => return Err(Closing::done()),
                Err(_) => return Err(Closing::new(CloseCode::TooSlow, "nothing was read for too long")),
            }
        }
    }

    /// Ends the stream and waits, but not for long, until the client has everything.
    pub(crate) async fn finish(&mut self, patience: Duration) {
        if self.stream.finish().is_ok() {
            drop(tokio::time::timeout(patience, self.stream.stopped()).await);
        }
    }
}
