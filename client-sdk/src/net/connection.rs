//! A connection without IO: bytes of the two streams go in, frames come out. `drive.rs` connects it to sockets; tests
//! and a fuzzer use it directly.
//!
//! `W` waits for an answer. It is dropped when the answer can no longer arrive.

use std::collections::{HashMap, HashSet};

use bytes::{Bytes, BytesMut};
use prost::Message;
use zim_protocol::frame::{FrameDecoder, FrameError, encode_frame};
use zim_protocol::wire::{MAX_FRAME_BYTES, VERSION};
use zim_protocol::{
    Ack, ClientFrame, EventFrame, Hello, Request, Response, ServerFrame, Stored, StoredPosition, Welcome, client_frame,
    server_frame,
};

use crate::types::Name;

/// The most bytes around the payload in a frame: the id, the path of the method, the count of events.
const OVERHEAD_BYTES: usize = 256;

/// The most positions in one acknowledgement.
const ACK_POSITIONS: usize = 64;

/// A frame from the session stream.
#[derive(Debug)]
pub enum Incoming<W> {
    /// The server's Welcome.
    Welcome(Box<Welcome>),
    /// The answer to a request.
    Answer(W, Box<Response>),
    /// The answer to a request for which no one waits any more.
    Late(Box<Response>),
}

/// A violation of the protocol by the server.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The bytes are not a sequence of frames.
    #[error("the server sent {0}")]
    Frame(#[from] FrameError),
    /// A frame is not valid protobuf.
    #[error("the server sent a frame that cannot be read: {0}")]
    Decode(#[from] prost::DecodeError),
    /// The server uses another version than the client.
    #[error("the server speaks version {0} of the protocol")]
    Version(u32),
    /// An answer arrived before Welcome.
    #[error("the server sent an answer before Welcome")]
    NoWelcome,
    /// A second Welcome arrived.
    #[error("the server sent a second Welcome")]
    SecondWelcome,
    /// An answer arrived for a request that was never sent.
    #[error("the server answered request {0}, which was never sent")]
    UnknownRequest(u64),
}

/// A request that is too long for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request has {length} bytes; the limit is {max}")]
pub struct TooLong {
    length: usize,
    max: usize,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Connection<W> {
    out: BytesMut,
    session: FrameDecoder,
    events: FrameDecoder,
    waiting: HashMap<u64, W>,
    /// The requests for whose answers no one waits any more.
    abandoned: HashSet<u64>,
    has_welcome: bool,
    max_payload: usize,
    last_id: u64,
    received: u64,
    /// The events that the account has handled.
    handled: u64,
    acknowledged: u64,
    /// What the account has stored since the last acknowledgement.
    stored: HashMap<Name, u64>,
    /// The position up to which it has stored the feed, if it has stored any of it since then.
    feed: u64,
}

impl<W> Connection<W> {
    /// Creates a connection whose first frame is Hello.
    pub fn new(hello: Hello) -> Self {
        let mut connection = Self {
            out: BytesMut::new(),
            session: FrameDecoder::new(MAX_FRAME_BYTES),
            events: FrameDecoder::new(MAX_FRAME_BYTES),
            waiting: HashMap::new(),
            abandoned: HashSet::new(),
            has_welcome: false,
            max_payload: MAX_FRAME_BYTES - OVERHEAD_BYTES,
            last_id: 0,
            received: 0,
            handled: 0,
            acknowledged: 0,
            stored: HashMap::new(),
            feed: 0,
        };
        connection.push(client_frame::Frame::Hello(hello));
        connection
    }

    fn push(&mut self, frame: client_frame::Frame) {
        encode_frame(&ClientFrame { frame: Some(frame) }, &mut self.out);
    }

    /// Queues a request and returns its id. The request also tells how many events were handled.
    pub fn request(&mut self, method: &'static str, payload: Bytes, waiter: W) -> Result<u64, TooLong> {
        if payload.len() > self.max_payload {
            return Err(TooLong { length: payload.len(), max: self.max_payload });
        }
        self.last_id += 1;
        self.acknowledged = self.handled;
        self.waiting.insert(self.last_id, waiter);
        let request = Request { id: self.last_id, method: method.to_owned(), payload, ack: self.handled };
        self.push(client_frame::Frame::Request(request));
        Ok(self.last_id)
    }

    /// Stops waiting for an answer.
    pub fn abandon(&mut self, id: u64) {
        if self.waiting.remove(&id).is_some() {
            self.abandoned.insert(id);
        }
    }

    /// Returns whether the server owes an answer, whether or not someone waits for it.
    pub fn awaits_answer(&self) -> bool {
        !self.waiting.is_empty() || !self.abandoned.is_empty()
    }

    /// Queues an acknowledgement of events if one is due; returns whether it was.
    pub fn acknowledge(&mut self) -> bool {
        let is_due = self.is_ack_due();
        if is_due {
            self.heartbeat();
        }
        is_due
    }

    /// Queues an acknowledgement even if none is due, to show that the client is alive.
    pub fn heartbeat(&mut self) {
        self.acknowledged = self.handled;
        let mut positions = std::mem::take(&mut self.stored)
            .into_iter()
            .map(|(name, seq)| StoredPosition { conversation: Some(name.to_ref()), seq });
        loop {
            let feed = std::mem::take(&mut self.feed);
            let stored = Stored { positions: positions.by_ref().take(ACK_POSITIONS).collect(), feed };
            let is_last = stored.positions.len() < ACK_POSITIONS;
            let ack = Ack { count: self.handled, stored: stored.encode_to_vec().into() };
            self.push(client_frame::Frame::Ack(ack));
            if is_last {
                return;
            }
        }
    }

    /// Notes that the account has handled events, and up to which positions it has stored messages.
    pub fn handled(&mut self, events: u64, stored: impl IntoIterator<Item = (Name, u64)>) {
        // An acknowledgement of more than was received would be a violation of the protocol.
        self.handled = self.received.min(self.handled.saturating_add(events));
        for (name, seq) in stored {
            let held = self.stored.entry(name).or_default();
            *held = seq.max(*held);
        }
    }

    /// Notes that the account has stored its feed up to a position; 0: it has not.
    pub fn feed_stored(&mut self, through: u64) {
        self.feed = self.feed.max(through);
    }

    /// Returns whether the account has done something that the server has not been told.
    pub fn is_ack_due(&self) -> bool {
        self.handled > self.acknowledged || !self.stored.is_empty() || self.feed > 0
    }

    /// Takes the bytes that are to be written.
    pub fn take_out(&mut self) -> Bytes {
        std::mem::take(&mut self.out).freeze()
    }

    /// Takes in bytes of the session stream.
    pub fn on_session(&mut self, bytes: &[u8]) -> Result<Vec<Incoming<W>>, ProtocolError> {
        self.session.push(bytes);
        let mut incoming = Vec::new();
        while let Some(frame) = self.session.next()? {
            match ServerFrame::decode(frame)?.frame {
                Some(server_frame::Frame::Welcome(welcome)) => incoming.push(self.welcome(welcome)?),
                Some(server_frame::Frame::Response(response)) => incoming.push(self.response(response)?),
                // A frame of a later version.
                None => {}
            }
        }
        Ok(incoming)
    }

    fn welcome(&mut self, welcome: Welcome) -> Result<Incoming<W>, ProtocolError> {
        if welcome.version != VERSION {
            return Err(ProtocolError::Version(welcome.version));
        }
        if std::mem::replace(&mut self.has_welcome, true) {
            return Err(ProtocolError::SecondWelcome);
        }
        let limit = welcome.limits.as_ref().and_then(|limits| usize::try_from(limits.max_frame_bytes).ok());
        if let Some(limit) = limit.filter(|limit| *limit > OVERHEAD_BYTES) {
            self.max_payload = limit.min(MAX_FRAME_BYTES) - OVERHEAD_BYTES;
        }
        Ok(Incoming::Welcome(Box::new(welcome)))
    }

    fn response(&mut self, response: Response) -> Result<Incoming<W>, ProtocolError> {
        if !self.has_welcome {
            return Err(ProtocolError::NoWelcome);
        }
        if response.id == 0 || response.id > self.last_id {
            return Err(ProtocolError::UnknownRequest(response.id));
        }
        let waiter = self.waiting.remove(&response.id);
        self.abandoned.remove(&response.id);
        let response = Box::new(response);
        Ok(match waiter {
            Some(waiter) => Incoming::Answer(waiter, response),
            None => Incoming::Late(response),
        })
    }

    /// Takes in bytes of the event stream. [`Connection::next_event`] returns their frames.
    pub fn on_events(&mut self, bytes: &[u8]) {
        self.events.push(bytes);
    }

    /// Returns the next frame of the event stream. A frame counts as received once it is taken, and is then
    /// acknowledged.
    pub fn next_event(&mut self) -> Result<Option<EventFrame>, ProtocolError> {
        let Some(frame) = self.events.next()? else { return Ok(None) };
        let frame = EventFrame::decode(frame)?;
        self.received += 1;
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use zim_protocol::Limits;

    use super::*;

    fn connection() -> Connection<&'static str> {
        Connection::new(Hello::default())
    }

    fn welcomed() -> Connection<&'static str> {
        let mut connection = connection();
        connection.on_session(&welcome(Welcome::default())).unwrap();
        sent(&mut connection);
        connection
    }

    fn sent(connection: &mut Connection<&'static str>) -> Vec<client_frame::Frame> {
        let mut decoder = FrameDecoder::new(MAX_FRAME_BYTES);
        decoder.push(&connection.take_out());
        std::iter::from_fn(|| decoder.next().unwrap())
            .map(|frame| ClientFrame::decode(frame).unwrap().frame.unwrap())
            .collect()
    }

    fn frame(message: &impl Message) -> BytesMut {
        let mut out = BytesMut::new();
        encode_frame(message, &mut out);
        out
    }

    fn welcome(welcome: Welcome) -> BytesMut {
        let welcome = Welcome { version: VERSION, ..welcome };
        frame(&ServerFrame { frame: Some(server_frame::Frame::Welcome(welcome)) })
    }

    fn response(id: u64) -> BytesMut {
        let response = Response { id, ..Response::default() };
        frame(&ServerFrame { frame: Some(server_frame::Frame::Response(response)) })
    }

    fn answered(connection: &mut Connection<&'static str>, bytes: &[u8]) -> Vec<&'static str> {
        let incoming = connection.on_session(bytes).unwrap();
        let name = |one| match one {
            Incoming::Answer(waiter, _) => waiter,
            Incoming::Welcome(_) => "welcome",
            Incoming::Late(_) => "late",
        };
        incoming.into_iter().map(name).collect()
    }

    #[test]
    fn hello_comes_first_and_requests_keep_their_order() {
        let mut connection = connection();
        assert_eq!(connection.request("A/One", Bytes::new(), "1"), Ok(1));
        assert_eq!(connection.request("A/Two", Bytes::new(), "2"), Ok(2));
        let frames = sent(&mut connection);
        assert!(matches!(frames[0], client_frame::Frame::Hello(_)));
        let methods: Vec<_> = frames[1..]
            .iter()
            .map(|frame| if let client_frame::Frame::Request(request) = frame { request.method.as_str() } else { "" })
            .collect();
        assert_eq!(methods, ["A/One", "A/Two"]);
    }

    #[test]
    fn answers_are_matched_in_any_order_and_in_any_pieces() {
        let mut connection = connection();
        for waiter in ["1", "2", "3"] {
            connection.request("A/One", Bytes::new(), waiter).unwrap();
        }
        let mut bytes = welcome(Welcome::default());
        bytes.extend_from_slice(&response(3));
        bytes.extend_from_slice(&response(1));
        let mut found = Vec::new();
        for byte in &bytes {
            found.extend(answered(&mut connection, &[*byte]));
        }
        assert_eq!(found, ["welcome", "3", "1"]);
        assert_eq!(answered(&mut connection, &response(2)), ["2"]);
    }

    #[test]
    fn the_answer_to_an_abandoned_request_is_late() {
        let mut connection = welcomed();
        let id = connection.request("A/One", Bytes::new(), "1").unwrap();
        connection.abandon(id);
        assert_eq!(answered(&mut connection, &response(id)), ["late"]);
        assert_eq!(answered(&mut connection, &response(id)), ["late"]);
    }

    #[test]
    fn events_are_acknowledged_once_by_the_next_frame() {
        let mut connection = welcomed();
        let event = frame(&EventFrame::default());
        connection.on_events(&event[..1]);
        connection.on_events(&event[1..]);
        connection.on_events(&event);
        assert!(connection.next_event().unwrap().is_some());
        assert!(connection.next_event().unwrap().is_some());
        assert!(connection.next_event().unwrap().is_none());
        // They count once they are handled.
        assert!(!connection.acknowledge());
        connection.handled(2, []);
        assert!(connection.is_ack_due());
        connection.request("A/One", Bytes::new(), "1").unwrap();
        assert!(!connection.acknowledge());
        let frames = sent(&mut connection);
        assert_eq!(frames.len(), 1);
        assert!(matches!(&frames[0], client_frame::Frame::Request(request) if request.ack == 2));
        connection.on_events(&event);
        connection.next_event().unwrap();
        // The count never exceeds the frames that were received.
        connection.handled(2, []);
        assert!(connection.acknowledge());
        assert!(!connection.acknowledge());
        assert_eq!(acks(&mut connection), [(3, vec![])]);
        connection.heartbeat();
        assert_eq!(acks(&mut connection), [(3, vec![])]);
    }

    /// Takes the acknowledgements that are to be written: their counts and positions.
    fn acks(connection: &mut Connection<&'static str>) -> Vec<(u64, Vec<(String, u64)>)> {
        let ack = |frame| match frame {
            client_frame::Frame::Ack(ack) => {
                let stored = Stored::decode(ack.stored).unwrap().positions.into_iter();
                (ack.count, stored.map(|position| (position.conversation.unwrap().id, position.seq)).collect())
            }
            other => panic!("{other:?}"),
        };
        sent(connection).into_iter().map(ack).collect()
    }

    #[test]
    fn the_position_of_the_feed_is_sent_once_with_the_next_acknowledgement() {
        let mut connection = welcomed();
        connection.feed_stored(0);
        assert!(!connection.acknowledge());
        connection.feed_stored(7);
        connection.feed_stored(5);
        assert!(connection.acknowledge());
        let feeds = |connection: &mut Connection<&'static str>| -> Vec<u64> {
            let frames = sent(connection).into_iter();
            let feed = |frame| match frame {
                client_frame::Frame::Ack(ack) => Stored::decode(ack.stored).unwrap().feed,
                other => panic!("{other:?}"),
            };
            frames.map(feed).collect()
        };
        assert_eq!(feeds(&mut connection), [7]);
        connection.heartbeat();
        assert_eq!(feeds(&mut connection), [0]);
    }

    #[test]
    fn stored_positions_are_sent_once_and_in_frames_that_the_server_takes() {
        let mut connection = welcomed();
        let name = |id: usize| Name::new(0, id.to_string());
        connection.handled(0, [(name(1), 5)]);
        connection.handled(0, [(name(1), 7), (name(1), 6)]);
        // A request carries the count, and the positions have their own frame.
        connection.request("A/One", Bytes::new(), "1").unwrap();
        sent(&mut connection);
        assert!(connection.acknowledge());
        assert_eq!(acks(&mut connection), [(0, vec![("1".to_owned(), 7)])]);
        assert!(!connection.acknowledge());
        connection.handled(0, (0..=ACK_POSITIONS).map(|id| (name(id), 1)));
        assert!(connection.acknowledge());
        let lengths: Vec<_> = acks(&mut connection).iter().map(|(_, positions)| positions.len()).collect();
        assert_eq!(lengths, [ACK_POSITIONS, 1]);
        // The longest that there can be.
        connection.handled(0, (0..ACK_POSITIONS).map(|id| (Name::new(-1, format!("{id:0128}")), u64::MAX)));
        connection.acknowledge();
        let frames = sent(&mut connection);
        let longest = frames.iter().map(|frame| match frame {
            client_frame::Frame::Ack(ack) => ack.stored.len(),
            other => panic!("{other:?}"),
        });
        assert!(longest.max().unwrap() <= 16 << 10);
    }

    #[test]
    fn bytes_that_are_no_frames_are_an_error() {
        assert!(matches!(welcomed().on_session(&[0xff; 6]), Err(ProtocolError::Frame(_))));
        assert!(matches!(welcomed().on_session(&[2, 0xff, 0xff]), Err(ProtocolError::Decode(_))));
        let mut connection = welcomed();
        connection.on_events(&[0xff; 6]);
        assert!(matches!(connection.next_event(), Err(ProtocolError::Frame(_))));
    }

    #[test]
    fn violations_of_the_protocol_are_errors() {
        let mut early = connection();
        early.request("A/One", Bytes::new(), "1").unwrap();
        assert!(matches!(early.on_session(&response(1)), Err(ProtocolError::NoWelcome)));
        assert!(matches!(welcomed().on_session(&response(1)), Err(ProtocolError::UnknownRequest(1))));
        let again = welcome(Welcome::default());
        assert!(matches!(welcomed().on_session(&again), Err(ProtocolError::SecondWelcome)));
        let other = Welcome { version: 9, ..Welcome::default() };
        let other = frame(&ServerFrame { frame: Some(server_frame::Frame::Welcome(other)) });
        assert!(matches!(connection().on_session(&other), Err(ProtocolError::Version(9))));
    }

    #[test]
    fn frames_of_a_later_version_are_skipped() {
        let mut connection = welcomed();
        assert!(connection.on_session(&[3, 0x7a, 1, 0]).unwrap().is_empty());
        connection.on_events(&[3, 0x7a, 1, 0]);
        assert!(connection.next_event().unwrap().is_some_and(|event| event.frame.is_none()));
    }

    #[test]
    fn a_request_that_is_too_long_is_not_sent() {
        let mut connection = connection();
        let limits = Limits { max_frame_bytes: 1_256, ..Limits::default() };
        connection.on_session(&welcome(Welcome { limits: Some(limits), ..Welcome::default() })).unwrap();
        sent(&mut connection);
        let refused = connection.request("A/One", vec![0; 1_001].into(), "1");
        assert_eq!(refused, Err(TooLong { length: 1_001, max: 1_000 }));
        assert!(sent(&mut connection).is_empty());
        assert_eq!(connection.request("A/One", vec![0; 1_000].into(), "1"), Ok(1));
    }
}
