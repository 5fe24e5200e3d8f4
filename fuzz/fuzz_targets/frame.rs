//! Whatever a stranger sends: it is cut into frames the same way however it arrives, and nothing in it makes either side panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use zim_protocol::frame::{FrameDecoder, FrameError};
use zim_protocol::{AnyRequest, ClientFrame, EventFrame, ServerFrame, client_frame::Frame, method};

/// Small, so that the fuzzer meets the limit.
const MAX: usize = 4_096;

/// The frames of a stream that arrives in `pieces`, and how it ends.
fn frames<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let mut decoder = FrameDecoder::new(MAX);
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next() {
                Ok(Some(frame)) => {
                    assert!(frame.len() <= MAX);
                    frames.push(frame.to_vec());
                }
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

/// A server's way with a client's frame, up to the service.
fn as_request(frame: &[u8]) {
    let Ok(ClientFrame { frame: Some(Frame::Request(request)) }) = ClientFrame::decode(frame) else { return };
    let Some(method) = method(&request.method) else { return };
    if let Ok(request) = AnyRequest::decode(method, request.payload) {
        // What is wrong with it is an answer, never a panic.
        let _ = request.validate();
        let _ = request.order();
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((first, stream)) = input.split_first() else { return };
    let piece = usize::from(*first).max(1);
    let whole = frames(std::iter::once(stream));
    assert_eq!(whole, frames(stream.chunks(piece)));
    for frame in &whole.0 {
        as_request(frame);
        let _ = ServerFrame::decode(frame.as_slice());
        let _ = EventFrame::decode(frame.as_slice());
    }
});
