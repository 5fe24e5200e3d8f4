//! The two streams of a connection, in both directions.

use bytes::BytesMut;
use prost::Message;
use zim_client_sdk::net::{Connection, Incoming, ProtocolError};
use zim_protocol::frame::{FrameDecoder, FrameError, encode_frame};
use zim_protocol::wire::VERSION;
use zim_protocol::{
    AnyRequest, ClientFrame, EventFrame, Hello, ServerFrame, Welcome, client_frame::Frame, method, server_frame,
};

/// Small, so that the fuzzer meets the limit.
const MAX: usize = 512;
/// Calls that a client waits for.
const CALLS: u64 = 3;

/// A stream in pieces as long as the first byte says, to a client that was greeted or not as its first bit says: it is cut into
/// frames the same way however it arrives; no frame is too long; what is read, written and read again is the same; and neither
/// side panics.
pub fn frame(input: &[u8]) {
    let Some((first, stream)) = input.split_first() else { return };
    let (piece, is_greeted) = (usize::from(first & 0x7f).max(1), first & 0x80 == 0);
    let whole = frames(std::iter::once(stream));
    assert_eq!(whole, frames(stream.chunks(piece)), "the pieces matter");
    for frame in &whole.0 {
        server_reads(frame);
        same_again::<ServerFrame>(frame);
        same_again::<EventFrame>(frame);
    }
    client_reads(stream, piece, is_greeted);
}

/// The frames of a stream that arrives in `pieces`, and how it ends.
fn frames<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let mut decoder = FrameDecoder::new(MAX);
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next() {
                Ok(Some(frame)) => {
                    assert!(frame.len() <= MAX, "a frame of {} bytes", frame.len());
                    frames.push(frame.to_vec());
                }
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

/// What is read is what is written is what is read.
fn same_again<T: Message + Default + PartialEq + std::fmt::Debug>(frame: &[u8]) -> Option<T> {
    let message = T::decode(frame).ok()?;
    let mut bytes = BytesMut::new();
    encode_frame(&message, &mut bytes);
    let mut decoder = FrameDecoder::new(bytes.len());
    decoder.push(&bytes);
    let again = decoder.next().unwrap().unwrap();
    assert_eq!(T::decode(again).unwrap(), message, "{}", std::any::type_name::<T>());
    assert!(!decoder.is_partial());
    Some(message)
}

/// A server's way with a client's frame, up to the service.
fn server_reads(frame: &[u8]) {
    let Some(ClientFrame { frame: Some(Frame::Request(request)) }) = same_again(frame) else { return };
    let Some(method) = method(&request.method) else { return };
    if let Ok(request) = AnyRequest::decode(method, request.payload) {
        // What is wrong with it is an answer, never a panic.
        let _ = request.validate();
        let _ = request.order();
    }
}

/// What a client makes of a stream: which calls are answered, how many events come, and why it ends.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    answered: Vec<u64>,
    events: Vec<EventFrame>,
    session_end: Option<String>,
    events_end: Option<String>,
}

fn client_reads(stream: &[u8], piece: usize, is_greeted: bool) {
    let whole = hear(std::iter::once(stream), is_greeted);
    let pieces = hear(stream.chunks(piece), is_greeted);
    assert_eq!((&whole.events, &whole.events_end), (&pieces.events, &pieces.events_end), "the pieces matter");
    assert_eq!(whole.session_end, pieces.session_end, "the pieces matter");
    // What came together with the end is lost with it, so that pieces may bring more.
    assert!(pieces.answered.starts_with(&whole.answered), "the pieces matter");
    assert!(whole.session_end.is_some() || whole.answered == pieces.answered, "the pieces matter");
}

fn hear<'a>(pieces: impl Iterator<Item = &'a [u8]>, is_greeted: bool) -> Heard {
    let mut connection = Connection::new(Hello::default());
    let mut heard = Heard::default();
    if is_greeted {
        let welcome = Welcome { version: VERSION, ..Welcome::default() };
        let mut bytes = BytesMut::new();
        encode_frame(&ServerFrame { frame: Some(server_frame::Frame::Welcome(welcome)) }, &mut bytes);
        connection.on_session(&bytes).unwrap();
    }
    for call in 1..=CALLS {
        connection.request("User/QueryUsersInfo", bytes::Bytes::new(), call).unwrap();
    }
    for piece in pieces {
        if heard.session_end.is_none() {
            match connection.on_session(piece) {
                Ok(incoming) => heard.answered.extend(incoming.iter().map(call_of)),
                Err(error) => heard.session_end = Some(error.to_string()),
            }
        }
        if heard.events_end.is_none() {
            connection.on_events(piece);
            heard.events_end = events(&mut connection, &mut heard.events).err().map(|error| error.to_string());
        }
    }
    // One answer a call, whatever came.
    assert!((1..=CALLS).all(|call| heard.answered.iter().filter(|answered| **answered == call).count() <= 1));
    assert_eq!(connection.is_ack_due(), !heard.events.is_empty());
    heard
}

fn call_of(incoming: &Incoming<u64>) -> u64 {
    match incoming {
        Incoming::Welcome(_) => 0,
        Incoming::Answer(call, response) => {
            assert_eq!(response.id, *call, "an answer found another call");
            *call
        }
    }
}

fn events(connection: &mut Connection<u64>, into: &mut Vec<EventFrame>) -> Result<(), ProtocolError> {
    while let Some(event) = connection.next_event()? {
        into.push(event);
    }
    Ok(())
}
