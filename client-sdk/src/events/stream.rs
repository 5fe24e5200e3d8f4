//! Streams of all events.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt};
use tokio::sync::broadcast;
use zim_protocol::Event;

/// The number of events that a slow reader missed. Query the current state to recover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} events were lost because the reader was too slow; query the current state")]
pub struct Lagged(pub u64);

type Receiver = Pin<Box<dyn Stream<Item = Result<Event, Lagged>> + Send + Sync>>;

/// A stream of events, in order, from the moment it was created. It ends with the client.
pub struct EventStream {
    receiver: Receiver,
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}

impl EventStream {
    pub(super) fn of(events: broadcast::Receiver<Arc<Event>>) -> Self {
        Self { receiver: receiver(events) }
    }

    /// Returns the next event, or `None` at the end. This method is cancel safe: dropping the future loses no event.
    pub async fn next(&mut self) -> Option<Result<Event, Lagged>> {
        std::future::poll_fn(|context| self.receiver.as_mut().poll_next(context)).await
    }
}

impl Stream for EventStream {
    type Item = Result<Event, Lagged>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.as_mut().poll_next(context)
    }
}

fn receiver(events: broadcast::Receiver<Arc<Event>>) -> Receiver {
    let events = futures_util::stream::unfold(events, async |mut events| match events.recv().await {
        Ok(event) => Some((Ok(Arc::unwrap_or_clone(event)), events)),
        Err(broadcast::error::RecvError::Lagged(lost)) => Some((Err(Lagged(lost)), events)),
        Err(broadcast::error::RecvError::Closed) => None,
    });
    // `fuse`: a reader may poll again after the end.
    Box::pin(events.fuse())
}
