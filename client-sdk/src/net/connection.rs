//! A connection without any IO: bytes of the two streams in, frames out. What it does with a socket is `quic.rs`; what a
//! fuzzer or a test does with it is their business.

use bytes::{Bytes, BytesMut};
use prost::Message;
use zim_protocol::frame::{FrameDecoder, FrameError, encode_frame};
use zim_protocol::{
    Ack, ClientFrame, EventFrame, Hello, Request, Response, ServerFrame, Welcome, client_frame, server_frame,
};

/// What came on the session stream.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// The server is there.
    Welcome(Box<Welcome>),
    /// A call was answered.
    Response(Box<Response>),
}

/// What cannot come from a server of this protocol.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProtocolError {
    #[error("the server sent {0}")]
    Frame(#[from] FrameError),
    #[error("the server sent a frame that cannot be read: {0}")]
    Decode(#[from] prost::DecodeError),
}

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Connection {
    out: BytesMut,
    session: FrameDecoder,
    events: FrameDecoder,
    last_id: u64,
    received: u64,
    acknowledged: u64,
}

impl Connection {
    /// Begins with Hello.
    pub(crate) fn new(hello: Hello) -> Self {
        let max = zim_protocol::wire::MAX_FRAME_BYTES;
        let mut connection = Self {
            out: BytesMut::new(),
            session: FrameDecoder::new(max),
            events: FrameDecoder::new(max),
            last_id: 0,
            received: 0,
            acknowledged: 0,
        };
        connection.push(client_frame::Frame::Hello(hello));
        connection
    }

    fn push(&mut self, frame: client_frame::Frame) {
        encode_frame(&ClientFrame { frame: Some(frame) }, &mut self.out);
    }

    /// Queues a call; returns the id of its answer. It tells the server along the way which events arrived.
    pub(crate) fn request(&mut self, method: &'static str, payload: Bytes) -> u64 {
        self.last_id += 1;
        self.acknowledged = self.received;
        let request = Request { id: self.last_id, method: method.to_owned(), payload, ack: self.received };
        self.push(client_frame::Frame::Request(request));
        self.last_id
    }

    /// Tells the server which events arrived, if it does not know.
    pub(crate) fn acknowledge(&mut self) {
        if self.received > self.acknowledged {
            self.acknowledged = self.received;
            self.push(client_frame::Frame::Ack(Ack { count: self.received }));
        }
    }

    /// Whether events arrived that the server does not know of.
    pub(crate) fn owes_ack(&self) -> bool {
        self.received > self.acknowledged
    }

    /// What is to be written, at once.
    pub(crate) fn take_out(&mut self) -> Bytes {
        self.out.split().freeze()
    }

    /// Bytes of the session stream.
    pub(crate) fn on_session(&mut self, bytes: &[u8]) -> Result<Vec<Incoming>, ProtocolError> {
        self.session.push(bytes);
        let mut incoming = Vec::new();
        while let Some(frame) = self.session.next()? {
            match ServerFrame::decode(frame)?.frame {
                Some(server_frame::Frame::Welcome(welcome)) => incoming.push(Incoming::Welcome(Box::new(welcome))),
                Some(server_frame::Frame::Response(response)) => incoming.push(Incoming::Response(Box::new(response))),
                // Of a later version.
                None => {}
            }
        }
        Ok(incoming)
    }

    /// Bytes of the event stream.
    pub(crate) fn on_events(&mut self, bytes: &[u8]) -> Result<Vec<EventFrame>, ProtocolError> {
        self.events.push(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = self.events.next()? {
            frames.push(EventFrame::decode(frame)?);
            self.received += 1;
        }
        Ok(frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(connection: &mut Connection) -> Vec<client_frame::Frame> {
        let mut decoder = FrameDecoder::new(1 << 20);
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

    #[test]
    fn hello_comes_first_and_calls_keep_their_order() {
        let mut connection = Connection::new(Hello::default());
        assert_eq!(connection.request("A/One", Bytes::new()), 1);
        assert_eq!(connection.request("A/Two", Bytes::new()), 2);
        let frames = sent(&mut connection);
        assert!(matches!(frames[0], client_frame::Frame::Hello(_)));
        let methods: Vec<_> = frames[1..]
            .iter()
            .map(|frame| if let client_frame::Frame::Request(request) = frame { request.method.as_str() } else { "" })
            .collect();
        assert_eq!(methods, ["A/One", "A/Two"]);
    }

    #[test]
    fn events_are_acknowledged_once_by_whatever_leaves_first() {
        let mut connection = Connection::new(Hello::default());
        let event = frame(&EventFrame::default());
        // In any pieces.
        for byte in &event {
            connection.on_events(&[*byte]).unwrap();
        }
        connection.on_events(&event).unwrap();
        sent(&mut connection);
        assert!(connection.owes_ack());
        connection.request("A/One", Bytes::new());
        assert!(!connection.owes_ack());
        connection.acknowledge();
        let frames = sent(&mut connection);
        assert_eq!(frames.len(), 1);
        assert!(matches!(&frames[0], client_frame::Frame::Request(request) if request.ack == 2));
    }

    #[test]
    fn what_is_no_frame_ends_the_connection() {
        let mut connection = Connection::new(Hello::default());
        assert!(connection.on_session(&[0xff; 6]).is_err());
        let mut connection = Connection::new(Hello::default());
        assert!(connection.on_session(&[2, 0xff, 0xff]).is_err());
    }

    #[test]
    fn frames_of_a_later_version_are_skipped() {
        let mut connection = Connection::new(Hello::default());
        assert!(connection.on_session(&[3, 0x7a, 1, 0]).unwrap().is_empty());
    }
}
