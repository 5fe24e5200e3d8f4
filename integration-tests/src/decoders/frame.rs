//! Frames of the two streams of a connection, in both directions.

use bytes::BytesMut;
use prost::Message;
use zim_client_sdk::net::{Connection, Incoming, ProtocolError};
use zim_protocol::frame::{FrameDecoder, FrameError, encode_frame};
use zim_protocol::wire::VERSION;
use zim_protocol::{
    AnyRequest, ClientFrame, EventFrame, Hello, ServerFrame, Welcome, client_frame::Frame, method, server_frame,
};

/// The frame limit: small, so that the fuzzer reaches it.
const MAX: usize = 512;
/// The number of requests that the client has in flight.
const CALLS: u64 = 3;

/// Reads a stream in pieces of the length in the first byte, whose first bit says whether the client has had its
/// Welcome. The frames do not depend on the pieces, no frame is too long, frames survive a round trip, and neither side
/// panics.
pub fn frame(input: &[u8]) {
    let Some((first, stream)) = input.split_first() else { return };
    let (piece, has_welcome) = (usize::from(first & 0x7f).max(1), first & 0x80 == 0);
    let whole = frames(std::iter::once(stream));
    assert_eq!(whole, frames(stream.chunks(piece)), "the result depends on the pieces");
    for frame in &whole.0 {
        server_reads(frame);
        round_trip::<ServerFrame>(frame);
        round_trip::<EventFrame>(frame);
    }
    client_reads(stream, piece, has_welcome);
}

/// Returns the frames of a stream that arrives in `pieces`, and the error that ends it.
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

/// Checks that a frame survives a round trip through its own encoding.
fn round_trip<T: Message + Default + PartialEq + std::fmt::Debug>(frame: &[u8]) -> Option<T> {
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

/// Handles a client's frame as the server does, up to the service.
fn server_reads(frame: &[u8]) {
    let Some(ClientFrame { frame: Some(Frame::Request(request)) }) = round_trip(frame) else { return };
    let Some(method) = method(&request.method) else { return };
    if let Ok(request) = AnyRequest::decode(method, request.payload) {
        // An invalid request is answered, never a panic.
        let _ = request.validate();
        let _ = request.order();
    }
}

/// What a client reads from a stream: answered requests, events, and the errors that end it.
#[derive(Debug, Default, PartialEq)]
struct ReadResult {
    answered: Vec<u64>,
    events: Vec<EventFrame>,
    session_end: Option<String>,
    events_end: Option<String>,
}

fn client_reads(stream: &[u8], piece: usize, has_welcome: bool) {
    let whole = read(std::iter::once(stream), has_welcome);
    let pieces = read(stream.chunks(piece), has_welcome);
    assert_eq!(
        (&whole.events, &whole.events_end),
        (&pieces.events, &pieces.events_end),
        "the result depends on the pieces"
    );
    assert_eq!(whole.session_end, pieces.session_end, "the result depends on the pieces");
    // Frames in the same piece as the error are lost with it, so smaller pieces may give more.
    assert!(pieces.answered.starts_with(&whole.answered), "the result depends on the pieces");
    assert!(whole.session_end.is_some() || whole.answered == pieces.answered, "the result depends on the pieces");
}

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>, has_welcome: bool) -> ReadResult {
    let mut connection = Connection::new(Hello::default());
    let mut result = ReadResult::default();
    if has_welcome {
        let welcome = Welcome { version: VERSION, ..Welcome::default() };
        let mut bytes = BytesMut::new();
        encode_frame(&ServerFrame { frame: Some(server_frame::Frame::Welcome(welcome)) }, &mut bytes);
        connection.on_session(&bytes).unwrap();
    }
    for call in 1..=CALLS {
        connection.request("User/QueryUsersInfo", bytes::Bytes::new(), call).unwrap();
    }
    for piece in pieces {
        if result.session_end.is_none() {
            match connection.on_session(piece) {
                Ok(incoming) => result.answered.extend(incoming.iter().map(call_of)),
                Err(error) => result.session_end = Some(error.to_string()),
            }
        }
        if result.events_end.is_none() {
            connection.on_events(piece);
            result.events_end = events(&mut connection, &mut result.events).err().map(|error| error.to_string());
        }
    }
    // Each request is answered at most once.
    assert!((1..=CALLS).all(|call| result.answered.iter().filter(|answered| **answered == call).count() <= 1));
    connection.handled(u64::MAX, []);
    assert_eq!(connection.is_ack_due(), !result.events.is_empty());
    result
}

fn call_of(incoming: &Incoming<u64>) -> u64 {
    match incoming {
        Incoming::Welcome(_) => 0,
        // A second answer to a call.
        Incoming::Late(_) => u64::MAX,
        Incoming::Answer(call, response) => {
            assert_eq!(response.id, *call, "an answer was matched to another request");
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
