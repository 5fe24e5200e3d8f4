//! Frames survive any cut of the stream, and nothing that comes in makes the decoder panic or keep too much.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use prost::Message;
use zim_protocol::frame::{FrameDecoder, FrameError, encode_frame};
use zim_protocol::{AnyRequest, ClientFrame, EventFrame, METHODS, Request, ServerFrame, client_frame};

const MAX: usize = 1_000;

fn stream(payloads: &[Vec<u8>]) -> BytesMut {
    let mut out = BytesMut::new();
    for payload in payloads {
        let request = Request { payload: payload.clone().into(), ..Request::default() };
        encode_frame(&ClientFrame { frame: Some(client_frame::Frame::Request(request)) }, &mut out);
    }
    out
}

fn frames(decoder: &mut FrameDecoder) -> Result<Vec<Bytes>, FrameError> {
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next()? {
        frames.push(frame);
    }
    Ok(frames)
}

proptest! {
    #[test]
    fn any_cut_of_the_stream_gives_the_same_frames(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
        cuts in prop::collection::vec(1_usize..50, 1..100),
    ) {
        let bytes = stream(&payloads);
        let mut decoder = FrameDecoder::new(MAX);
        let (mut got, mut rest, mut cuts) = (Vec::new(), &bytes[..], cuts.into_iter().cycle());
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(cuts.next().unwrap().min(rest.len()));
            decoder.push(piece);
            got.extend(frames(&mut decoder).unwrap());
            rest = more;
        }
        prop_assert!(!decoder.is_partial());
        let back: Vec<Vec<u8>> = got
            .into_iter()
            .map(|frame| match ClientFrame::decode(frame).unwrap().frame.unwrap() {
                client_frame::Frame::Request(request) => request.payload.to_vec(),
                other => panic!("{other:?}"),
            })
            .collect();
        prop_assert_eq!(back, payloads);
    }

    #[test]
    fn garbage_ends_in_an_error_or_in_waiting_and_never_in_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..3_000)) {
        let mut decoder = FrameDecoder::new(MAX);
        decoder.push(&bytes);
        if let Ok(frames) = frames(&mut decoder) {
            for frame in frames {
                prop_assert!(frame.len() <= MAX);
                let _ = ClientFrame::decode(frame.clone());
                let _ = ServerFrame::decode(frame.clone());
                let _ = EventFrame::decode(frame.clone());
                for method in METHODS {
                    if let Ok(request) = AnyRequest::decode(method, frame.clone()) {
                        let _ = request.validate();
                        let _ = request.order();
                    }
                }
            }
        }
    }
}

#[test]
fn a_frame_at_the_limit_passes_and_one_byte_more_does_not() {
    for (length, is_fine) in [(MAX, true), (MAX + 1, false)] {
        let mut bytes = BytesMut::new();
        prost::encoding::encode_varint(length as u64, &mut bytes);
        let mut decoder = FrameDecoder::new(MAX);
        // Refused as soon as its length is known, before anything of it is kept.
        decoder.push(&bytes);
        assert_eq!(decoder.next().is_ok(), is_fine, "{length}");
    }
}

#[test]
fn a_length_that_does_not_end_is_refused() {
    let mut decoder = FrameDecoder::new(MAX);
    decoder.push(&[0x80; 4]);
    assert_eq!(decoder.next(), Ok(None));
    decoder.push(&[0x80]);
    assert_eq!(decoder.next(), Err(FrameError::BadLength));
}
