//! Events: handlers by kind as in the reference, and streams of all events. Neither can slow the client down.
//!
//! An event with a receipt is delivered at least once: the receipt is signed when every handler of its kind has
//! returned or panicked. Without a handler it counts as delivered. Streams have no part in it.
//!
//! The deprecated twin of an event is built only for a handler of its kind. Streams do not carry it, so that no message
//! comes twice.

/// Which events the handlers have had.
mod delivery;
/// The handlers of the app.
mod handlers;
/// Streams of all events.
mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::RwLock;
use tokio::sync::{broadcast, mpsc};
use zim_protocol::{
    ErrorCode, ErrorEvent, Event, EventKind, ReceiveGroupMessageEvent, ReceivePeerMessageEvent, ReceiveRoomMessageEvent,
};

pub(crate) use self::delivery::{Deliveries, Receipt};
pub use self::handlers::HandlerGuard;
use self::handlers::{Call, Handlers, REFERENCE};
pub use self::stream::{EventStream, Lagged};

/// The capacity of a stream, and the most events without a receipt that wait for the handlers. A slower reader gets the
/// number of events that it missed.
const BUFFERED: usize = 4_096;

/// The kinds of events that have a handler.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heard {
    /// One bit per kind that has a handler, or whose twin has.
    handled: u128,
}

const _: () = assert!(EventKind::ALL.len() <= 128, "one bit per kind");

/// The bit of a kind.
fn bit(kind: EventKind) -> u128 {
    1 << kind as u32
}

impl Heard {
    /// All kinds have a handler.
    #[cfg(test)]
    pub(crate) fn all() -> Self {
        Self { handled: u128::MAX }
    }

    /// Returns whether a handler must have events of this kind at least once.
    pub(crate) fn is_handled(self, kind: EventKind) -> bool {
        self.handled & bit(kind) != 0
    }
}

/// Raises events, in order.
#[derive(Clone)]
pub(crate) struct Events(Arc<Shared>);

struct Shared {
    /// `None` when the client is destroyed.
    channels: RwLock<Option<Channels>>,
    handlers: Handlers,
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
        f.debug_struct("Events").field("handlers", &self.0.handlers.kinds()).finish_non_exhaustive()
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
            handlers: Handlers::default(),
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
        if !is_for_handlers(event.kind()) {
            // Fails if there is no stream.
            let _ = channels.streams.send(event);
        }
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

    /// Returns which kinds have a handler.
    pub(crate) fn heard(&self) -> Heard {
        let own = self.0.handlers.bits();
        let twins = EventKind::ALL.iter().filter(|kind| twin_kind(**kind).is_some_and(|twin| own & bit(twin) != 0));
        Heard { handled: twins.fold(own, |all, kind| all | bit(*kind)) }
    }

    fn has_handler(&self, kind: EventKind) -> bool {
        let handlers = &self.0.handlers;
        handlers.has(kind) || twin_kind(kind).is_some_and(|twin| handlers.has(twin))
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
        EventStream::of(events)
    }

    /// Sets the reference's handler of this kind.
    pub(crate) fn on(&self, kind: EventKind, call: Call) {
        self.0.handlers.set(kind, REFERENCE, Some(call));
    }

    /// Removes the reference's handler of this kind.
    pub(crate) fn off(&self, kind: EventKind) {
        self.0.handlers.set(kind, REFERENCE, None);
    }

    /// Adds a typed handler of this kind.
    pub(crate) fn add(&self, kind: EventKind, call: Call) -> HandlerGuard {
        self.0.handlers.add(kind, call)
    }

    /// Calls the handlers, one event after the other, until the client is dropped.
    pub(crate) async fn dispatch(self, mut queue: Handled) {
        while let Some(Queued { event, receipt }) = queue.recv().await {
            if !receipt.as_ref().is_some_and(Receipt::is_void) {
                self.0.handlers.call(&event);
                if twin_kind(event.kind()).is_some_and(|twin| self.0.handlers.has(twin))
                    && let Some(twin) = twin(&event)
                {
                    self.0.handlers.call(&twin);
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
                self.0.handlers.call(&Event::Error(event));
            }
        }
    }
}

/// Whether a kind of event repeats others in the words of earlier versions: streams do not carry it.
fn is_for_handlers(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::CallInvitationAccepted | EventKind::CallInvitationRejected | EventKind::CallInviteesAnsweredTimeout
    )
}

/// Returns the deprecated kind that repeats a kind of event, if there is one.
fn twin_kind(kind: EventKind) -> Option<EventKind> {
    match kind {
        EventKind::PeerMessageReceived => Some(EventKind::ReceivePeerMessage),
        EventKind::GroupMessageReceived => Some(EventKind::ReceiveGroupMessage),
        EventKind::RoomMessageReceived => Some(EventKind::ReceiveRoomMessage),
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
        Event::RoomMessageReceived(event) => Some(Event::ReceiveRoomMessage(ReceiveRoomMessageEvent {
            message_list: event.message_list.clone(),
            from_conversation_id: event.from_conversation_id.clone(),
        })),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
