//! Events: handlers by kind as in the reference, and streams of all events. Neither can slow the client down.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt};
use parking_lot::RwLock;
use tokio::sync::{broadcast, mpsc};
use zim_protocol::{ErrorCode, ErrorEvent, Event, EventKind};

/// The capacity of each queue of events: one per stream, and one for the handlers. A slower reader gets the number of
/// events that it missed.
const BUFFERED: usize = 4_096;

/// A handler of one kind of event.
pub(crate) type Handler = Arc<dyn Fn(&Event) + Send + Sync>;

/// Raises events, in order.
#[derive(Clone)]
pub(crate) struct Events(Arc<Shared>);

struct Shared {
    /// `None` when the client is destroyed.
    channels: RwLock<Option<Channels>>,
    handlers: RwLock<HashMap<EventKind, Handler>>,
    /// The number of events that were dropped because the handlers were too slow.
    lost: AtomicU64,
}

struct Channels {
    streams: broadcast::Sender<Arc<Event>>,
    handled: mpsc::Sender<Arc<Event>>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kinds: Vec<_> = self.0.handlers.read().keys().copied().collect();
        f.debug_struct("Events").field("handlers", &kinds).finish_non_exhaustive()
    }
}

/// The receiving end of the queue of the handlers.
pub(crate) type Handled = mpsc::Receiver<Arc<Event>>;

impl Events {
    pub(crate) fn new() -> (Self, Handled) {
        let (handled, queue) = mpsc::channel(BUFFERED);
        let channels = Channels { streams: broadcast::Sender::new(BUFFERED), handled };
        let handlers = RwLock::default();
        (Self(Arc::new(Shared { channels: RwLock::new(Some(channels)), handlers, lost: AtomicU64::new(0) })), queue)
    }

    /// Raises an event. Returns false when the client was destroyed, so that no one gets the event.
    pub(crate) fn raise(&self, event: Event) -> bool {
        let channels = self.0.channels.read();
        let Some(channels) = &*channels else { return false };
        let event = Arc::new(event);
        if self.0.handlers.read().contains_key(&event.kind())
            && let Err(mpsc::error::TrySendError::Full(_)) = channels.handled.try_send(Arc::clone(&event))
        {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
        // Fails when there is no stream.
        let _ = channels.streams.send(event);
        true
    }

    /// Ends all streams. No event is raised after this.
    pub(crate) fn close(&self) {
        let channels = self.0.channels.write().take();
        drop(channels);
    }

    pub(crate) fn stream(&self) -> EventStream {
        let events = match &*self.0.channels.read() {
            Some(channels) => channels.streams.subscribe(),
            // Its sender is dropped at once, so the stream ends at once.
            None => broadcast::channel(1).1,
        };
        EventStream { receiver: receiver(events) }
    }

    pub(crate) fn on(&self, kind: EventKind, handler: Handler) {
        self.0.handlers.write().insert(kind, handler);
    }

    pub(crate) fn off(&self, kind: EventKind) {
        self.0.handlers.write().remove(&kind);
    }

    /// Calls the handlers, one event after the other, until the client is dropped.
    pub(crate) async fn dispatch(self, mut queue: Handled) {
        while let Some(event) = queue.recv().await {
            self.handle(&event);
            let lost = self.0.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                let lagged = Lagged(lost);
                tracing::warn!("{lagged}");
                let event = ErrorEvent { code: ErrorCode::Failed as i32, message: lagged.to_string() };
                self.handle(&Event::Error(event));
            }
        }
    }

    fn handle(&self, event: &Event) {
        let Some(handler) = self.0.handlers.read().get(&event.kind()).cloned() else { return };
        // A panic in one handler must not end the task that calls the others.
        if std::panic::catch_unwind(AssertUnwindSafe(|| handler(event))).is_err() {
            tracing::error!(event = %event.kind(), "a handler of the app panicked");
        }
    }
}

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

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use zim_protocol::TokenWillExpireEvent;

    use super::*;
    use crate::{Config, Trust, Zim};

    fn zim() -> Zim {
        Zim::new(Config::new(1, "127.0.0.1:1").trust(Trust::Fingerprint([0; 32]))).unwrap()
    }

    fn event(second: i64) -> Event {
        Event::TokenWillExpire(TokenWillExpireEvent { second })
    }

    #[tokio::test]
    async fn a_stream_has_all_events_in_order_and_ends_with_the_client() {
        let (events, _handled) = Events::new();
        events.raise(event(0));
        let mut stream = events.stream();
        events.raise(event(1));
        events.raise(event(2));
        events.close();
        assert!(!events.raise(event(3)));
        assert_eq!(stream.next().await, Some(Ok(event(1))));
        assert_eq!(stream.next().await, Some(Ok(event(2))));
        assert_eq!(stream.next().await, None);
        assert_eq!(stream.next().await, None);
        assert_eq!(stream.next().await, None);
        assert_eq!(events.stream().next().await, None);
    }

    #[tokio::test]
    async fn a_slow_reader_gets_the_number_of_missed_events() {
        let (events, _handled) = Events::new();
        let mut stream = events.stream();
        let raised = i64::try_from(BUFFERED).unwrap() + 10;
        for second in 0..raised {
            events.raise(event(second));
        }
        assert_eq!(stream.next().await, Some(Err(Lagged(10))));
        assert_eq!(stream.next().await, Some(Ok(event(10))));
    }

    #[tokio::test]
    async fn handlers_are_called_in_order_and_survive_a_panic() {
        let zim = zim();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (done, all) = tokio::sync::oneshot::channel();
        let (memory, done) = (Arc::clone(&seen), Mutex::new(Some(done)));
        zim.on(EventKind::TokenWillExpire, |_, _| panic!("replaced: never called"));
        zim.on(EventKind::TokenWillExpire, move |_, event| {
            let Event::TokenWillExpire(TokenWillExpireEvent { second }) = event else { return };
            memory.lock().push(*second);
            assert_ne!(*second, 1, "a bug of the app");
            if *second == 3 {
                done.lock().take().unwrap().send(()).unwrap();
            }
        });
        let events = &zim.client().events;
        for second in 1..=3 {
            events.raise(event(second));
        }
        all.await.unwrap();
        assert_eq!(*seen.lock(), [1, 2, 3]);
        zim.off(EventKind::TokenWillExpire);
        events.raise(event(4));
        zim.destroy();
        zim.closed().await;
        assert_eq!(*seen.lock(), [1, 2, 3]);
    }

    #[tokio::test]
    async fn handlers_that_are_too_slow_get_an_error_event() {
        let zim = zim();
        let (reported, lost) = tokio::sync::oneshot::channel();
        let reported = Mutex::new(Some(reported));
        zim.on(EventKind::TokenWillExpire, |_, _| {});
        zim.on(EventKind::Error, move |_, event| {
            let Event::Error(error) = event else { return };
            reported.lock().take().unwrap().send(error.message.clone()).unwrap();
        });
        // The task of the handlers does not run until this one awaits.
        let raised = i64::try_from(BUFFERED).unwrap() + 10;
        for second in 0..raised {
            zim.client().events.raise(event(second));
        }
        assert!(lost.await.unwrap().starts_with("10 events were lost"));
    }
}
