//! Frames: bytes in, messages out, and the other way round. A frame is a length (a varint of at most five bytes) and so many
//! bytes of protobuf. No IO: the same frames travel on a QUIC stream, on anything else later, and in a fuzzer.

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;

/// What cannot be a frame. The connection cannot go on: where the next frame begins is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than the two sides agreed on.
    #[error("a frame of {length} bytes; at most {max} are allowed")]
    TooLong {
        /// As announced.
        length: u64,
        /// As agreed.
        max: usize,
    },
    /// The length does not end.
    #[error("a frame whose length does not end")]
    BadLength,
}

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    max: usize,
    /// What is left in the buffer shares its memory with frames that were taken.
    is_shared: bool,
}

impl FrameDecoder {
    /// Frames of at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { buffer: BytesMut::new(), max, is_shared: false }
    }

    /// From the next frame on, another bound: who has logged in may say more than a stranger.
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Adds what came in, in any pieces.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that are held: of frames that were not taken yet, and of one that is not whole.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Whether a frame has begun that is not whole.
    pub fn is_partial(&self) -> bool {
        self.buffered() > 0
    }

    /// The next whole frame, without its length; `None` until more comes.
    ///
    /// # Errors
    /// The stream is no sequence of frames. A frame that is too long is refused as soon as its length is known.
    #[expect(clippy::should_implement_trait, reason = "an error ends the stream, a None does not: no iterator")]
    pub fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some((length, prefix)) = read_length(&self.buffer)? else { return Ok(self.wait()) };
        let max = self.max;
        let length =
            usize::try_from(length).ok().filter(|length| *length <= max).ok_or(FrameError::TooLong { length, max })?;
        if self.buffer.len() < prefix + length {
            return Ok(self.wait());
        }
        self.buffer.advance(prefix);
        let frame = self.buffer.split_to(length).freeze();
        if self.buffer.is_empty() {
            // The frame keeps the allocation; an idle stream keeps none.
            self.buffer = BytesMut::new();
        }
        self.is_shared = !self.buffer.is_empty();
        Ok(Some(frame))
    }

    /// Nothing more until more comes. Else the begin of a frame would keep what came with it in memory.
    fn wait(&mut self) -> Option<Bytes> {
        if std::mem::take(&mut self.is_shared) {
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
        None
    }
}

/// A length and how many bytes it takes.
fn read_length(bytes: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
    let mut length = 0;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        length |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((length, index + 1)));
        }
    }
    if bytes.len() < 5 { Ok(None) } else { Err(FrameError::BadLength) }
}

/// Appends a message as a frame.
pub fn encode_frame(message: &impl Message, out: &mut BytesMut) {
    let length = message.encoded_len();
    out.reserve(length + 5);
    prost::encoding::encode_varint(length as u64, out);
    // The room was reserved: encoding into a growing buffer cannot fail.
    let _ = message.encode(out);
}
