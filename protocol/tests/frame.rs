//! The decoder returns the same frames however the stream is cut. No input makes it panic or buffer too much.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use prost::Message;
use zim_protocol::frame::{FrameDecoder, FrameError, encode_frame};
use zim_protocol::{
    AnyRequest, ClientFrame, EventFrame, MAX_PARTS, METHODS, Request, RequestError, ServerFrame, client_frame,
};

const MAX: usize = 1_000;

fn stream(payloads: &[Vec<u8>]) -> BytesMut {
    let mut out = BytesMut::new();
    for payload in payloads {
        let request = Request { payload: payload.clone().into(), ..Request::default() };
        encode_frame(&ClientFrame { frame: Some(client_frame::Frame::Request(request)) }, &mut out);
    }
    out
}

fn varint_len(length: usize) -> usize {
    prost::encoding::encoded_len_varint(length as u64)
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
            let taken: usize = got.iter().map(|frame| frame.len() + varint_len(frame.len())).sum();
            prop_assert_eq!(decoder.buffered(), bytes.len() - more.len() - taken);
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
    fn garbage_is_an_error_or_a_partial_frame_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..3_000)) {
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
fn a_frame_may_have_the_maximum_length_and_not_one_byte_more() {
    for (length, is_fine) in [(MAX, true), (MAX + 1, false)] {
        let mut bytes = BytesMut::new();
        prost::encoding::encode_varint(length as u64, &mut bytes);
        let mut decoder = FrameDecoder::new(MAX);
        // A frame is refused as soon as its length is known, before any of it is buffered.
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

/// Encodes a request with `count` messages inside. Most are empty messages in a list, two bytes each.
fn parts(count: usize) -> Vec<u8> {
    use zim_protocol::{CombineMessage, Message, SendMessageRequest, message::Body};
    // `message`, `combine` and the list's items count.
    let list = vec![Message::default(); count - 2];
    let combine = CombineMessage { message_list: list, ..CombineMessage::default() };
    let message = Message { body: Some(Body::Combine(combine.into())), ..Message::default() };
    SendMessageRequest { message: Some(message), ..SendMessageRequest::default() }.encode_to_vec()
}

#[test]
fn a_request_may_contain_the_maximum_number_of_messages_and_not_one_more() {
    let method = zim_protocol::method("Message/SendMessage").unwrap();
    let most = AnyRequest::decode(method, parts(MAX_PARTS).into()).unwrap();
    assert_eq!(most.encode(), parts(MAX_PARTS));
    let more = AnyRequest::decode(method, parts(MAX_PARTS + 1).into());
    assert_eq!(more.unwrap_err(), RequestError::TooManyParts);
    // Text is not counted, whatever it contains.
    let text = zim_protocol::UpdateUserNameRequest { user_name: "\n\0".repeat(MAX_PARTS) }.encode_to_vec();
    let method = zim_protocol::method("User/UpdateUserName").unwrap();
    assert!(AnyRequest::decode(method, text.into()).is_ok());
}

#[test]
fn messages_in_repeated_and_unknown_fields_are_counted() {
    let method = zim_protocol::method("Message/SendMessage").unwrap();
    let half = parts(MAX_PARTS / 2 + 2);
    // A repeated occurrence of a field is merged; a group and fields of a later version are skipped.
    let unknown = [0xfb, 0x3f, 0x08, 0x01, 0xfc, 0x3f, 0xfa, 0x3f, 0x02, 0x0a, 0x00];
    let decoded = |bytes: Vec<u8>| AnyRequest::decode(method, bytes.into()).map(drop);
    assert_eq!(decoded([&half[..], &unknown].concat()), Ok(()));
    assert_eq!(decoded([&half[..], &unknown, &half].concat()), Err(RequestError::TooManyParts));
    // A truncated request is counted as far as it goes.
    let cut = decoded(half[..half.len() - 1].to_vec()).unwrap_err();
    assert!(matches!(cut, RequestError::Decode(_)), "{cut}");
}
