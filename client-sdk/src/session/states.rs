//! The state of the connection as a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zim_protocol::ConnectionState;

/// The state of the connection: the present one at once, then each change ([`Zim::connection_states`]). A slow reader gets
/// the latest state only. The stream ends with the client; its last state is Disconnected.
///
/// [`Zim::connection_states`]: crate::Zim::connection_states
pub struct ConnectionStates(Pin<Box<dyn Stream<Item = ConnectionState> + Send>>);

/// What the stream knows.
struct Reader {
    states: watch::Receiver<ConnectionState>,
    end: CancellationToken,
    /// The state that was read last.
    last: Option<ConnectionState>,
}

impl Reader {
    async fn next(&mut self) -> Option<ConnectionState> {
        loop {
            let is_ended = self.end.is_cancelled();
            // The client may have ended without the time to write its last state.
            let state = if is_ended { ConnectionState::Disconnected } else { *self.states.borrow_and_update() };
            if self.last.replace(state) != Some(state) {
                return Some(state);
            }
            if is_ended {
                return None;
            }
            tokio::select! {
                changed = self.states.changed() => changed.ok()?,
                () = self.end.cancelled() => {}
            }
        }
    }
}

impl ConnectionStates {
    pub(super) fn new(states: watch::Receiver<ConnectionState>, end: CancellationToken) -> Self {
        let reader = Reader { states, end, last: None };
        let states =
            futures_util::stream::unfold(reader, async |mut reader| reader.next().await.map(|state| (state, reader)));
        // `fuse`: a reader may poll again after the end.
        Self(Box::pin(states.fuse()))
    }

    /// Returns the next state, or `None` at the end. This method is cancel safe.
    pub async fn next(&mut self) -> Option<ConnectionState> {
        StreamExt::next(&mut self.0).await
    }
}

impl Stream for ConnectionStates {
    type Item = ConnectionState;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<ConnectionState>> {
        self.0.as_mut().poll_next(context)
    }
}

impl std::fmt::Debug for ConnectionStates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectionStates").finish_non_exhaustive()
    }
}
