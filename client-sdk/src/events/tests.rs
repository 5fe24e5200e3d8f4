use parking_lot::Mutex;
use tokio::sync::watch;
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

/// Adds a handler that keeps the number of each event, its own name and what was delivered when it was called.
fn note(zim: &Zim, name: &'static str, through: &watch::Receiver<i64>, seen: &Seen) -> HandlerGuard {
    let (through, seen) = (through.clone(), Arc::clone(seen));
    zim.on_event(move |_, event: &TokenWillExpireEvent| {
        seen.lock().push((event.second, name, *through.borrow()));
        assert_ne!(name, "panics", "a bug of the app");
    })
}

type Seen = Arc<Mutex<Vec<(i64, &'static str, i64)>>>;

#[tokio::test]
async fn a_receipt_is_signed_after_all_handlers_even_if_one_panics() {
    let (zim, deliveries, seen) = (zim(), Deliveries::new(), Seen::default());
    let through = deliveries.through();
    let first = note(&zim, "panics", &through, &seen);
    let last = note(&zim, "last", &through, &seen);
    let raise = |number| zim.client().events.raise_with(event(number), Some(deliveries.receipt(number)));
    raise(1);
    raise(2);
    idle(&zim).await;
    assert_eq!(std::mem::take(&mut *seen.lock()), [(1, "panics", 0), (1, "last", 0), (2, "panics", 1), (2, "last", 1)]);
    assert_eq!(*through.borrow(), 2);
    // Removed while the event waits: it has no handler any more, so it counts as delivered.
    raise(3);
    drop((first, last));
    raise(4);
    idle(&zim).await;
    assert_eq!((*through.borrow(), seen.lock().len()), (4, 0));
    // Without any handler it does not wait.
    raise(5);
    assert_eq!(*through.borrow(), 5);
}

/// What a handler owns may call the client when it is dropped.
#[tokio::test]
async fn a_handler_is_dropped_without_a_lock() {
    struct Owned(Zim);
    impl Drop for Owned {
        fn drop(&mut self) {
            self.0.off(EventKind::TokenWillExpire);
        }
    }
    let zim = zim();
    let (owned, other) = (Owned(zim.clone()), Owned(zim.clone()));
    zim.on(EventKind::TokenWillExpire, move |_, _| drop(owned.0.user_id()));
    zim.on(EventKind::TokenWillExpire, move |_, _| drop(other.0.user_id()));
    drop(zim.on_event(|_, _: &TokenWillExpireEvent| {}));
    zim.off(EventKind::TokenWillExpire);
    assert!(zim.client().events.0.handlers.kinds().is_empty());
}
