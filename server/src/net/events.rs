//! The event stream: sends the queue of a session to the client, in batches.

use std::time::Duration;

use quinn::Connection;
use tokio::time::timeout;
use zim_protocol::SessionEndReason;
use zim_protocol::wire::CloseCode;

use super::writer::{Closing, Writer};
use crate::connection::ConnectionState;

/// Frames are sent together up to about this size.
const BATCH_BYTES: usize = 64 << 10;
/// How long the client has to acknowledge the last frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Writes events until the session ends. The stream is opened with the first event, so a session without events has
/// none.
pub(crate) async fn run(connection: &Connection, state: &ConnectionState, write_timeout: Duration) -> Closing {
    let mut open: Option<Writer> = None;
    loop {
        let mut batch = bytes::BytesMut::new();
        let (count, end) = state.queue.next_batch(&mut batch, BATCH_BYTES).await;
        // A one-shot login needs no time to catch up before its end, and a client that does not read the end must not
        // stay connected.
        let is_one_shot = state.identity().is_some_and(|identity| identity.one_shot);
        let write_timeout = if end.is_some() && is_one_shot { CLOSE_TIMEOUT } else { write_timeout };
        let writer = match &mut open {
            Some(writer) => writer,
            None => match timeout(write_timeout, connection.open_uni()).await {
                Ok(Ok(stream)) => open.insert(Writer::new(stream, write_timeout)),
                Ok(Err(_)) => return Closing::done(),
                Err(_) => return Closing::new(CloseCode::Protocol, "the client does not allow the event stream"),
            },
        };
        // Counted before they are sent, so that an acknowledgement never exceeds the count.
        state.add_events_sent(count);
        writer.add_encoded(batch);
        if let Err(closing) = writer.flush().await {
            return closing;
        }
        if let Some(reason) = end {
            writer.finish(CLOSE_TIMEOUT).await;
            return match reason {
                SessionEndReason::GoingAway => Closing::new(CloseCode::GoingAway, "the server is stopping"),
                _ => Closing::new(CloseCode::SessionEnded, ""),
            };
        }
    }
}
