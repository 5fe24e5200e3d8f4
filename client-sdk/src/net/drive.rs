//! Drives a connection: reads and writes its two streams until it ends.

use std::pin::pin;
use std::time::Duration;

use quinn::{ConnectionError, RecvStream, SendStream, VarInt};
use tokio::time::{sleep, timeout};
use zim_protocol::wire::CloseCode;
use zim_protocol::{EventFrame, SessionEndReason, event_frame};

use super::dial::Dialed;
use super::link::Link;
use super::quic::KEEP_ALIVE;

/// The most bytes per read. A chunk stays in QUIC's buffer until it is cut into frames.
const READ_BYTES: usize = 64 << 10;
/// How long what was handled may stay unacknowledged: short, because an offline push or a call may wait for it, and long
/// enough that many events share a frame.
const ACK_AFTER: Duration = Duration::from_millis(100);
/// While a request has no answer, the server is probed if it sends no packet for this long. It acknowledges a request
/// within milliseconds, so silence is a bad sign.
const QUIET: Duration = Duration::from_millis(1_500);
/// The connection is lost if the server sends no packet for this long after a probe.
const PROBE: Duration = Duration::from_millis(1_500);
/// After the session stream ended, how long the event stream may still give the reason.
const LAST_EVENTS: Duration = Duration::from_secs(2);

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was lost: by the network or by the server; with a description.
    Lost(String),
    /// The server gave a reason.
    Server(SessionEndReason),
    /// The server does not support this version of the client.
    Version,
}

/// Runs the connection until it ends. `take` gets each event frame in order; while it is pending, no further event is
/// read.
pub(crate) async fn drive<F, Taken>(dialed: &mut Dialed, link: &Link, take: F) -> Ended
where
    F: FnMut(EventFrame) -> Taken + Send,
    Taken: Future<Output = ()> + Send,
{
    let Dialed { connection, send, recv } = dialed;
    let connection = &*connection;
    let mut events = pin!(read_events(connection, link, take));
    let why = tokio::select! {
        ended = &mut events => return ended,
        why = write(send, link) => why,
        why = read(connection, recv, link) => why,
        why = probe(connection, link) => return Ended::Lost(why),
        () = acknowledge(link) => "acknowledging ended".to_owned(),
        () = send_heartbeats(link) => "the heartbeat ended".to_owned(),
    };
    // The last events of the server may still be on their way or unread.
    let ended = timeout(LAST_EVENTS, events).await;
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
    tracing::warn!(%error, "the server violated the protocol; closing the connection");
    connection.close(VarInt::from_u32(CloseCode::Protocol.code()), error.to_string().as_bytes());
}

/// Writes what is queued: everything in one write, in the order of the calls.
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

/// Reads the event stream, which the server opens with its first event.
async fn read_events<F, Taken>(connection: &quinn::Connection, link: &Link, mut take: F) -> Ended
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

/// Acknowledges events soon after the account has handled them.
async fn acknowledge(link: &Link) {
    loop {
        link.ack_due().await;
        sleep(ACK_AFTER).await;
        link.acknowledge();
    }
}

/// Sends heartbeats three times within the offline timeout of the server, where QUIC's keep-alive is too slow for it.
async fn send_heartbeats(link: &Link) {
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

/// Probes a server that is silent although it owes an answer. QUIC itself would wait half a minute.
async fn probe(connection: &quinn::Connection, link: &Link) -> String {
    let received = || connection.stats().udp_rx.datagrams;
    loop {
        link.awaits_answer().await;
        let before = received();
        sleep(QUIET).await;
        if received() != before {
            continue;
        }
        link.heartbeat();
        sleep(PROBE).await;
        if received() == before {
            return "the server is silent".to_owned();
        }
    }
}
