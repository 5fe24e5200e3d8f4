//! A frame is a length (a varint of at most five bytes) and that number of bytes of protobuf. There is no IO here: the same
//! frames travel on a QUIC stream, on any other transport later, and in a fuzzer.

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;

/// Bytes are not a frame. The connection cannot continue, because the start of the next frame is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame is longer than the two sides agreed on.
    #[error("a frame of {length} bytes; at most {max} are allowed")]
    TooLong {
        /// The length in the frame.
        length: u64,
        /// The maximum.
        max: usize,
    },
    /// The length has more than five bytes.
    #[error("the length of a frame has more than five bytes")]
    BadLength,
}

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    max: usize,
    /// Whether the rest of the buffer shares its memory with frames that were returned.
    is_shared: bool,
}

impl FrameDecoder {
    /// Returns a decoder of frames of at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { buffer: BytesMut::new(), max, is_shared: false }
    }

    /// Changes the maximum from the next frame on: a client may send longer frames after its login.
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Adds received bytes; the pieces may be cut anywhere.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the number of buffered bytes: of frames that were not returned yet, and of a partial one.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Whether bytes are buffered: after [`FrameDecoder::next`] returned `None`, those of a partial frame.
    pub fn is_partial(&self) -> bool {
        self.buffered() > 0
    }

    /// Returns the next whole frame without its length, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// The bytes are not a sequence of frames. A frame that is too long is refused as soon as its length is known.
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
            // The frame owns the allocation, so that an idle stream holds none.
            self.buffer = BytesMut::new();
        }
        self.is_shared = !self.buffer.is_empty();
        Ok(Some(frame))
    }

    /// Copies the partial frame. Otherwise it would keep the frames that were received with it in memory.
    fn wait(&mut self) -> Option<Bytes> {
        if std::mem::take(&mut self.is_shared) {
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
        None
    }
}

/// Returns a length and the number of bytes that it takes.
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
    // Encoding into a growing buffer cannot fail.
    let _ = message.encode(out);
}
