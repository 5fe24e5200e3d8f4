//! Events: handlers by kind as in the reference, and streams of all events. Neither can slow the client down.
//!
//! An event with a receipt is delivered at least once: the receipt is signed when every handler of its kind has
//! returned or panicked. Without a handler it counts as delivered. Streams have no part in it.
//!
//! The deprecated twin of an event is built only for a handler of its kind. Streams do not carry it, so that no message
//! comes twice.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt};
use parking_lot::RwLock;
use tokio::sync::{broadcast, mpsc, watch};
use zim_protocol::{ErrorCode, ErrorEvent, Event, EventKind, ReceiveGroupMessageEvent, ReceivePeerMessageEvent};

/// The capacity of a stream, and the most events without a receipt that wait for the handlers. A slower reader gets the
/// number of events that it missed.
const BUFFERED: usize = 4_096;

/// The deliveries of one login: which of its numbered events the handlers have had.
#[derive(Clone, Debug)]
pub(crate) struct Deliveries(Arc<Delivered>);

#[derive(Debug)]
struct Delivered {
    through: watch::Sender<i64>,
    /// The login has ended. Its events that wait are raised by its next login.
    is_ended: AtomicBool,
}

impl Deliveries {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Delivered { through: watch::Sender::new(0), is_ended: AtomicBool::new(false) }))
    }

    /// Returns a receipt for the event with this number. Events must be raised in the order of their numbers.
    pub(crate) fn receipt(&self, number: i64) -> Receipt {
        Receipt { number, deliveries: self.clone() }
    }

    /// Returns the number through which all events are delivered.
    pub(crate) fn through(&self) -> watch::Receiver<i64> {
        self.0.through.subscribe()
    }

    /// Ends the deliveries: no handler is called for an event that still waits.
    pub(crate) fn end(&self) {
        self.0.is_ended.store(true, Ordering::Release);
    }
}

/// The receipt of an event that is delivered at least once.
#[derive(Debug)]
pub(crate) struct Receipt {
    number: i64,
    deliveries: Deliveries,
}

impl Receipt {
    /// Reports that every handler has had the event.
    pub(crate) fn sign(self) {
        self.deliveries.0.through.send_replace(self.number);
    }

    fn is_void(&self) -> bool {
        self.deliveries.0.is_ended.load(Ordering::Acquire)
    }
}

/// The kinds of events that somebody hears.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heard {
    /// One bit per kind that has a handler, or whose twin has.
    handled: u128,
    has_stream: bool,
}

const _: () = assert!(EventKind::ALL.len() <= 128, "one bit per kind");

impl Heard {
    /// All kinds have a handler.
    #[cfg(test)]
    pub(crate) fn all() -> Self {
        Self { handled: u128::MAX, has_stream: true }
    }

    /// Returns whether a handler must have events of this kind at least once.
    pub(crate) fn is_handled(self, kind: EventKind) -> bool {
        self.handled >> kind as u32 & 1 == 1
    }

    /// Returns whether anybody hears events of this kind.
    pub(crate) fn is_heard(self, kind: EventKind) -> bool {
        self.has_stream || self.is_handled(kind)
    }
}

/// A handler of one kind of event.
pub(crate) type Handler = Arc<dyn Fn(&Event) + Send + Sync>;

/// Raises events, in order.
#[derive(Clone)]
pub(crate) struct Events(Arc<Shared>);

struct Shared {
    /// `None` when the client is destroyed.
    channels: RwLock<Option<Channels>>,
    handlers: RwLock<HashMap<EventKind, Handler>>,
    /// The number of events that wait for handlers, including the one that they are handling.
    waiting: AtomicUsize,
    /// The number of events that were dropped because the handlers were too slow.
    lost: AtomicU64,
}

struct Channels {
    streams: broadcast::Sender<Arc<Event>>,
    handled: mpsc::UnboundedSender<Queued>,
}

/// An event that waits for the handlers.
#[derive(Debug)]
pub(crate) struct Queued {
    event: Arc<Event>,
    receipt: Option<Receipt>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kinds: Vec<_> = self.0.handlers.read().keys().copied().collect();
        f.debug_struct("Events").field("handlers", &kinds).finish_non_exhaustive()
    }
}

/// The receiving end of the queue of the handlers.
pub(crate) type Handled = mpsc::UnboundedReceiver<Queued>;

impl Events {
    pub(crate) fn new() -> (Self, Handled) {
        let (handled, queue) = mpsc::unbounded_channel();
        let channels = Channels { streams: broadcast::Sender::new(BUFFERED), handled };
        let shared = Shared {
            channels: RwLock::new(Some(channels)),
            handlers: RwLock::default(),
            waiting: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
        };
        (Self(Arc::new(shared)), queue)
    }

    /// Raises an event without a receipt.
    pub(crate) fn raise(&self, event: Event) {
        self.raise_with(event, None);
    }

    /// Raises an event. After the client was destroyed, no one gets it, and its receipt is not signed.
    pub(crate) fn raise_with(&self, event: Event, receipt: Option<Receipt>) {
        let channels = self.0.channels.read();
        let Some(channels) = &*channels else { return };
        let event = Arc::new(event);
        self.queue(channels, &event, receipt);
        // Fails if there is no stream.
        let _ = channels.streams.send(event);
    }

    /// Queues an event for the handlers.
    fn queue(&self, channels: &Channels, event: &Arc<Event>, receipt: Option<Receipt>) {
        let waiting = self.0.waiting.load(Ordering::Acquire);
        if !self.has_handler(event.kind()) {
            match receipt {
                // Receipts are signed in order, so this one may have to wait for those before it.
                Some(receipt) if waiting > 0 => self.push(channels, event, Some(receipt)),
                Some(receipt) => receipt.sign(),
                None => {}
            }
        } else if receipt.is_none() && waiting >= BUFFERED {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        } else {
            self.push(channels, event, receipt);
        }
    }

    fn push(&self, channels: &Channels, event: &Arc<Event>, receipt: Option<Receipt>) {
        self.0.waiting.fetch_add(1, Ordering::AcqRel);
        // Fails when the client has been destroyed. The event is then raised by the next login.
        let _ = channels.handled.send(Queued { event: Arc::clone(event), receipt });
    }

    /// Returns which events are heard.
    pub(crate) fn heard(&self) -> Heard {
        let handlers = self.0.handlers.read();
        let has_stream = self.0.channels.read().as_ref().is_some_and(|channels| channels.streams.receiver_count() > 0);
        let bit = |kind: EventKind| 1_u128 << kind as u32;
        let handled = EventKind::ALL.iter().filter(|kind| {
            handlers.contains_key(kind) || twin_kind(**kind).is_some_and(|twin| handlers.contains_key(&twin))
        });
        Heard { handled: handled.map(|kind| bit(*kind)).fold(0, |all, bit| all | bit), has_stream }
    }

    fn has_handler(&self, kind: EventKind) -> bool {
        let handlers = self.0.handlers.read();
        handlers.contains_key(&kind) || twin_kind(kind).is_some_and(|twin| handlers.contains_key(&twin))
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
        while let Some(Queued { event, receipt }) = queue.recv().await {
            if !receipt.as_ref().is_some_and(Receipt::is_void) {
                self.handle(&event);
                if twin_kind(event.kind()).is_some_and(|twin| self.0.handlers.read().contains_key(&twin))
                    && let Some(twin) = twin(&event)
                {
                    self.handle(&twin);
                }
            }
            // A void receipt is not signed: the next login of this user raises the event.
            if let Some(receipt) = receipt.filter(|receipt| !receipt.is_void()) {
                receipt.sign();
            }
            self.0.waiting.fetch_sub(1, Ordering::AcqRel);
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

/// Returns the deprecated kind that repeats a kind of event, if there is one.
fn twin_kind(kind: EventKind) -> Option<EventKind> {
    match kind {
        EventKind::PeerMessageReceived => Some(EventKind::ReceivePeerMessage),
        EventKind::GroupMessageReceived => Some(EventKind::ReceiveGroupMessage),
        _ => None,
    }
}

/// Returns the deprecated twin of an event, if it has one.
fn twin(event: &Event) -> Option<Event> {
    match event {
        Event::PeerMessageReceived(event) => Some(Event::ReceivePeerMessage(ReceivePeerMessageEvent {
            message_list: event.message_list.clone(),
            from_conversation_id: event.from_conversation_id.clone(),
        })),
        Event::GroupMessageReceived(event) => Some(Event::ReceiveGroupMessage(ReceiveGroupMessageEvent {
            message_list: event.message_list.clone(),
            from_conversation_id: event.from_conversation_id.clone(),
        })),
        _ => None,
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
        events.raise(event(3));
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

    /// Waits until the dispatcher has had everything that was raised.
    async fn idle(zim: &Zim) {
        while zim.client().events.0.waiting.load(Ordering::Acquire) > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_receipt_is_signed_after_the_handler_even_if_it_panics() {
        let zim = zim();
        let deliveries = Deliveries::new();
        let through = deliveries.through();
        let (seen, when_called) = (Arc::new(Mutex::new(Vec::new())), through.clone());
        let memory = Arc::clone(&seen);
        zim.on(EventKind::TokenWillExpire, move |_, _| {
            memory.lock().push(*when_called.borrow());
            panic!("a bug of the app");
        });
        let events = &zim.client().events;
        events.raise_with(event(1), Some(deliveries.receipt(1)));
        // Without a handler of its kind it counts as delivered, but not before those before it.
        events.raise_with(Event::Error(ErrorEvent::default()), Some(deliveries.receipt(2)));
        assert_eq!(*through.borrow(), 0);
        idle(&zim).await;
        assert_eq!((*through.borrow(), seen.lock().clone()), (2, vec![0]));
        events.raise_with(Event::Error(ErrorEvent::default()), Some(deliveries.receipt(3)));
        assert_eq!(*through.borrow(), 3);
    }

    #[tokio::test]
    async fn events_with_receipts_are_never_dropped() {
        let zim = zim();
        let deliveries = Deliveries::new();
        zim.on(EventKind::TokenWillExpire, |_, _| {});
        let raised = i64::try_from(BUFFERED).unwrap() + 10;
        for number in 1..=raised {
            zim.client().events.raise_with(event(number), Some(deliveries.receipt(number)));
        }
        idle(&zim).await;
        assert_eq!(*deliveries.through().borrow(), raised);
    }

    #[tokio::test]
    async fn events_that_wait_at_the_end_are_neither_handled_nor_signed() {
        for is_destroyed in [false, true] {
            let zim = zim();
            let deliveries = Deliveries::new();
            let calls = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&calls);
            zim.on(EventKind::TokenWillExpire, move |_, _| {
                counted.fetch_add(1, Ordering::Relaxed);
            });
            zim.client().events.raise_with(event(1), Some(deliveries.receipt(1)));
            if is_destroyed {
                zim.destroy();
                zim.closed().await;
                zim.client().events.raise_with(event(2), Some(deliveries.receipt(2)));
            } else {
                deliveries.end();
                idle(&zim).await;
                assert_eq!(calls.load(Ordering::Relaxed), 0);
            }
            let delivered = i64::try_from(calls.load(Ordering::Relaxed)).unwrap();
            assert_eq!(*deliveries.through().borrow(), delivered);
        }
    }

    #[tokio::test]
    async fn a_handler_of_the_deprecated_kind_gets_the_twin() {
        let zim = zim();
        let (done, twin) = tokio::sync::oneshot::channel();
        let done = Mutex::new(Some(done));
        zim.on(EventKind::ReceivePeerMessage, move |_, event| done.lock().take().unwrap().send(event.clone()).unwrap());
        let from_conversation_id = "bob".to_owned();
        let event = zim_protocol::PeerMessageReceivedEvent { from_conversation_id, ..Default::default() };
        zim.client().events.raise(Event::PeerMessageReceived(event));
        let Event::ReceivePeerMessage(twin) = twin.await.unwrap() else { panic!("another event") };
        assert_eq!(twin.from_conversation_id, "bob");
    }
}
