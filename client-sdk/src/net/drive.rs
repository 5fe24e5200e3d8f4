//! Drives a connection: what `connection.rs` wants written and read, on the two streams, until the end.

use std::pin::pin;
use std::time::Duration;

use quinn::{ConnectionError, RecvStream, SendStream, VarInt};
use tokio::time::{sleep, timeout};
use zim_protocol::wire::CloseCode;
use zim_protocol::{EventFrame, SessionEndReason, event_frame};

use super::dial::Dialed;
use super::link::Link;
use super::quic::KEEP_ALIVE;

/// Read at once; it stays where QUIC put it until it is cut into frames.
const READ_BYTES: usize = 64 << 10;
/// How long events may stay unacknowledged.
const ACK_AFTER: Duration = Duration::from_secs(1);
/// After a call without answer, a server that does not even acknowledge a packet for so long is gone.
const PROBE: Duration = Duration::from_secs(3);
/// When the session stream is over, the event stream may say why for so long.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The network, or the server's end of it; what is known of it.
    Lost(String),
    /// The server said why.
    Server(SessionEndReason),
    /// The server does not speak to clients of this version.
    Version,
}

/// Carries calls and events until the end. `take` gets each event frame in order, and may take its time.
pub(crate) async fn drive<F, Taken>(dialed: &mut Dialed, link: &Link, take: F) -> Ended
where
    F: FnMut(EventFrame) -> Taken + Send,
    Taken: Future<Output = ()> + Send,
{
    let Dialed { connection, send, recv } = dialed;
    let connection = &*connection;
    let mut listening = pin!(listen(connection, link, take));
    let why = tokio::select! {
        ended = &mut listening => return ended,
        why = write(send, link) => why,
        why = read(connection, recv, link) => why,
        why = probe(connection, link) => why,
        () = acknowledge(link) => "acknowledging ended".to_owned(),
        () = beat(link) => "the heartbeat ended".to_owned(),
    };
    // What the server said last may still be on its way, or here and not read.
    let ended = timeout(LAST_WORDS, listening).await;
    ended.unwrap_or_else(|_| lost(connection, &why))
}

fn lost(connection: &quinn::Connection, why: &str) -> Ended {
    match connection.close_reason() {
        Some(ConnectionError::ApplicationClosed(close)) => match CloseCode::from_code(close.error_code.into_inner()) {
            Some(CloseCode::Version) => Ended::Version,
            code => Ended::Lost(format!("the server closed the connection ({code:?}): {close}")),
        },
        Some(reason) => Ended::Lost(reason.to_string()),
        None => Ended::Lost(why.to_owned()),
    }
}

fn broken(connection: &quinn::Connection, error: &super::connection::ProtocolError) {
    tracing::warn!(%error, "this is not the protocol; closing the connection");
    connection.close(VarInt::from_u32(CloseCode::Protocol.code()), error.to_string().as_bytes());
}

/// Whatever waits leaves in one write, in the order of the calls.
async fn write(send: &mut SendStream, link: &Link) -> String {
    loop {
        let out = link.to_write().await;
        if let Err(error) = send.write_chunk(out).await {
            return error.to_string();
        }
    }
}

async fn read(connection: &quinn::Connection, recv: &mut RecvStream, link: &Link) -> String {
    loop {
        match recv.read_chunk(READ_BYTES, true).await {
            Ok(Some(chunk)) => {
                if let Err(error) = link.on_session(&chunk.bytes) {
                    broken(connection, &error);
                    return error.to_string();
                }
            }
            Ok(None) => return "the server ended the session".to_owned(),
            Err(error) => return error.to_string(),
        }
    }
}

/// The event stream, which the server opens when there is something to say.
async fn listen<F, Taken>(connection: &quinn::Connection, link: &Link, mut take: F) -> Ended
where
    F: FnMut(EventFrame) -> Taken + Send,
    Taken: Future<Output = ()> + Send,
{
    let mut stream = match connection.accept_uni().await {
        Ok(stream) => stream,
        Err(error) => return lost(connection, &error.to_string()),
    };
    loop {
        loop {
            let frame = match link.next_event() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    broken(connection, &error);
                    return Ended::Lost(error.to_string());
                }
            };
            match &frame.frame {
                Some(event_frame::Frame::End(end)) => {
                    tracing::debug!(reason = ?end.reason(), message = end.message, "the server ends the session");
                    return Ended::Server(end.reason());
                }
                _ => take(frame).await,
            }
        }
        match stream.read_chunk(READ_BYTES, true).await {
            Ok(Some(chunk)) => link.on_events(&chunk.bytes),
            Ok(None) => return lost(connection, "the server ended the events"),
            Err(error) => return lost(connection, &error.to_string()),
        }
    }
}

/// Tells the server of events about a second after they came, unless a call tells it before.
async fn acknowledge(link: &Link) {
    loop {
        link.owed().await;
        sleep(ACK_AFTER).await;
        link.acknowledge();
    }
}

/// Lets the server hear something three times as often as it asks for, where QUIC's own keep-alive is too slow for it.
async fn beat(link: &Link) {
    let offline_after = link.welcome().await.limits.map_or(0, |limits| limits.offline_after_ms);
    let pause = Duration::from_millis((offline_after / 3).max(1).into());
    if offline_after == 0 || pause >= KEEP_ALIVE {
        return std::future::pending().await;
    }
    loop {
        sleep(pause).await;
        link.heartbeat();
    }
}

/// After a call without answer: is anybody there at all? QUIC itself would wait half a minute.
async fn probe(connection: &quinn::Connection, link: &Link) -> String {
    loop {
        link.silence().await;
        let heard = connection.stats().udp_rx.datagrams;
        link.heartbeat();
        sleep(PROBE).await;
        if connection.stats().udp_rx.datagrams == heard {
            return "the server is silent".to_owned();
        }
    }
}
