//! Events: a stream for those who like streams, handlers for those who know the reference. Neither can slow the client.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use futures_util::Stream;
use parking_lot::RwLock;
use tokio::sync::{broadcast, mpsc};
use zim_protocol::{Event, EventKind};

use crate::zim::{Handle, Zim};

/// Events that wait for one reader; a slower one is told how many it missed.
const BUFFERED: usize = 4_096;

type Handler = Arc<dyn Fn(&Zim, &Event) + Send + Sync>;

/// Raises events, in order.
#[derive(Clone)]
pub(crate) struct Events {
    streams: broadcast::Sender<Event>,
    handled: mpsc::UnboundedSender<Event>,
    handlers: Arc<RwLock<HashMap<EventKind, Handler>>>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("streams", &self.streams.receiver_count()).finish_non_exhaustive()
    }
}

/// Events on their way to the handlers.
pub(crate) type Handled = mpsc::UnboundedReceiver<Event>;

impl Events {
    pub(crate) fn new() -> (Self, Handled) {
        let (handled, waiting) = mpsc::unbounded_channel();
        let streams = broadcast::Sender::new(BUFFERED);
        (Self { streams, handled, handlers: Arc::default() }, waiting)
    }

    /// Tells the app.
    pub(crate) fn raise(&self, event: Event) {
        if self.handlers.read().contains_key(&event.kind()) {
            // Fails when the client is being destroyed: then nobody is to be told.
            let _ = self.handled.send(event.clone());
        }
        // Fails when nobody listens.
        let _ = self.streams.send(event);
    }

    pub(crate) fn stream(&self) -> EventStream {
        EventStream { receiver: receiver(self.streams.subscribe()) }
    }

    pub(crate) fn on(&self, kind: EventKind, handler: Handler) {
        self.handlers.write().insert(kind, handler);
    }

    pub(crate) fn off(&self, kind: EventKind) {
        self.handlers.write().remove(&kind);
    }

    /// Calls the handlers, one event after the other, until the client is gone.
    pub(crate) async fn dispatch(self, mut waiting: Handled, zim: Weak<Handle>) {
        while let Some(event) = waiting.recv().await {
            let handler = self.handlers.read().get(&event.kind()).cloned();
            let (Some(handler), Some(handle)) = (handler, zim.upgrade()) else { continue };
            let zim = Zim(handle);
            // An app's mistake in one handler must not silence the others.
            if std::panic::catch_unwind(AssertUnwindSafe(|| handler(&zim, &event))).is_err() {
                tracing::error!(event = %event.kind(), "a handler panicked");
            }
        }
    }
}

/// A reader of events was so slow that this many are lost to it. What is state can be queried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} events were lost to a reader that was too slow; query what is state")]
pub struct Lagged(pub u64);

type Receiver = Pin<Box<dyn Stream<Item = Result<Event, Lagged>> + Send>>;

/// All events from now on, in order. Ends with the client.
pub struct EventStream {
    receiver: Receiver,
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}

impl EventStream {
    /// The next event.
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

fn receiver(events: broadcast::Receiver<Event>) -> Receiver {
    Box::pin(futures_util::stream::unfold(events, async |mut events| match events.recv().await {
        Ok(event) => Some((Ok(event), events)),
        Err(broadcast::error::RecvError::Lagged(lost)) => Some((Err(Lagged(lost)), events)),
        Err(broadcast::error::RecvError::Closed) => None,
    }))
}
