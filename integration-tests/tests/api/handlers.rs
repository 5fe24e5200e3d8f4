//! Typed handlers of events.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use zim_client_sdk::{HandlerGuard, Zim};
use zim_integration_tests::{DataDir, Device, World, group, refusal, soon, texts};
use zim_protocol::{
    ConnectionStateChangedEvent, ErrorCode, Event, EventKind, EventType, GroupMessageReceivedEvent,
    PeerMessageReceivedEvent, ReceivePeerMessageEvent,
};

use crate::group::create;

/// What handlers got, in order, each with the name of the handler.
type Lines = mpsc::UnboundedReceiver<(&'static str, String)>;
type Sender = mpsc::UnboundedSender<(&'static str, String)>;

/// Adds a handler that passes on the texts.
fn listen(zim: &Zim, name: &'static str, lines: &Sender) -> HandlerGuard {
    let lines = lines.clone();
    zim.on_event(move |_, event: &PeerMessageReceivedEvent| {
        for text in texts(&event.message_list) {
            lines.send((name, text)).unwrap();
        }
    })
}

/// Returns the handlers that got a text, in the order of their calls, which `last` ends.
async fn who(lines: &mut Lines, text: &str, last: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    while names.last() != Some(&last) {
        let (name, got) = soon(lines.recv()).await.unwrap();
        assert_eq!(got, text, "{name}");
        names.push(name);
    }
    names
}

#[tokio::test]
async fn on_event_passes_the_events_of_one_type_in_order() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (sender, mut lines) = mpsc::unbounded_channel();
    // A handler has a state, and the client.
    let mut count = 0;
    let of_peer = bob.on_event(move |zim, event: &PeerMessageReceivedEvent| {
        count += event.message_list.len();
        sender.send((zim.user_id().unwrap(), event.from_conversation_id.clone(), count)).unwrap();
    });
    let (sender, mut groups) = mpsc::unbounded_channel();
    let of_group = bob.on_event(move |_, event: &GroupMessageReceivedEvent| {
        sender.send(texts(&event.message_list)).unwrap();
    });
    create(&ann, "crew", &["bob"]).await;
    for number in 1..=3 {
        ann.say("bob", &number.to_string()).await;
        assert_eq!(soon(lines.recv()).await.unwrap(), ("bob".to_owned(), "ann".to_owned(), number));
    }
    ann.say(group("crew"), "hi all").await;
    assert_eq!(soon(groups.recv()).await.unwrap(), ["hi all"]);
    drop((of_peer, of_group));
    assert!(soon(lines.recv()).await.is_none() && soon(groups.recv()).await.is_none());
    world.end().await;
}

#[tokio::test]
async fn on_event_has_any_number_of_handlers_beside_that_of_on() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (sender, mut lines) = mpsc::unbounded_channel();
    let first = listen(&bob, "first", &sender);
    let (of_on, kind) = (sender.clone(), EventKind::PeerMessageReceived);
    bob.on(kind, move |_, event| {
        let Some(event) = PeerMessageReceivedEvent::of(event) else { panic!("{event:?}") };
        of_on.send(("on", texts(&event.message_list)[0].clone())).unwrap();
    });
    let second = listen(&bob, "second", &sender);
    // Deprecated events have handlers of their own type.
    let older = sender.clone();
    bob.on_event(move |_, event: &ReceivePeerMessageEvent| {
        older.send(("older", texts(&event.message_list)[0].clone())).unwrap();
    })
    .detach();
    ann.say("bob", "1").await;
    assert_eq!(who(&mut lines, "1", "older").await, ["first", "on", "second", "older"]);
    // `off` and a guard remove their own handler only.
    bob.off(kind);
    ann.say("bob", "2").await;
    assert_eq!(who(&mut lines, "2", "older").await, ["first", "second", "older"]);
    drop(first);
    ann.say("bob", "3").await;
    assert_eq!(who(&mut lines, "3", "older").await, ["second", "older"]);
    second.detach();
    ann.say("bob", "4").await;
    assert_eq!(who(&mut lines, "4", "older").await, ["second", "older"]);
    // A guard may outlive its client, and a handler may be set after the end.
    let left = listen(&bob, "left", &sender);
    soon(bob.close()).await;
    drop(left);
    drop(listen(&bob, "late", &sender));
    world.end().await;
}

/// A handler that removes itself and the next one: neither gets another event, and the next not even this one.
#[tokio::test]
async fn on_event_may_change_the_handlers_within_a_handler() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (sender, mut lines) = mpsc::unbounded_channel();
    let guards = Arc::new(Mutex::new(Vec::new()));
    let (own, lines_of_first) = (Arc::clone(&guards), sender.clone());
    let first = bob.on_event(move |zim, event: &PeerMessageReceivedEvent| {
        lines_of_first.send(("first", texts(&event.message_list)[0].clone())).unwrap();
        own.lock().clear();
        listen(zim, "new", &lines_of_first).detach();
    });
    guards.lock().extend([first, listen(&bob, "next", &sender)]);
    listen(&bob, "last", &sender).detach();
    ann.say("bob", "1").await;
    assert_eq!(who(&mut lines, "1", "last").await, ["first", "last"]);
    ann.say("bob", "2").await;
    assert_eq!(who(&mut lines, "2", "new").await, ["last", "new"]);
    world.end().await;
}

/// The client ends although one of its own handlers ends it, and another one can use its database then.
#[tokio::test]
async fn destroy_within_a_handler_ends_the_client() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (sender, mut lines) = mpsc::unbounded_channel();
    bob.on_event(move |zim, event: &PeerMessageReceivedEvent| {
        zim.destroy();
        sender.send(texts(&event.message_list)).unwrap();
    })
    .detach();
    let dir = bob.dir();
    ann.say("bob", "1").await;
    assert_eq!(soon(lines.recv()).await.unwrap(), ["1"]);
    soon(bob.closed()).await;
    assert_eq!(refusal(soon(bob.query_self_user_info()).await), ErrorCode::CommonModuleNotInit);
    let bob = world.user_at(dir, "bob").await;
    ann.say("bob", "2").await;
    bob.receives("2").await;
    assert_eq!(texts(&bob.history("ann").await), ["1", "2"]);
    world.end().await;
}

/// An event counts as delivered when every handler has returned or panicked; then no later login raises it again.
#[tokio::test]
async fn on_event_survives_a_panic_and_counts_it_as_delivered() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.client());
    let (sender, mut lines) = mpsc::unbounded_channel();
    let panics =
        bob.on_event(|_, event: &PeerMessageReceivedEvent| panic!("a bug of the app: {}", event.message_list.len()));
    let after = listen(&bob, "after", &sender);
    let bob = world.login(bob, "bob").await;
    for text in ["1", "2"] {
        ann.say("bob", text).await;
        assert_eq!(who(&mut lines, text, "after").await, ["after"]);
    }
    // The end waits for the handler that works, and stores what they had.
    let dir = bob.dir();
    bob.quit().await;
    drop((panics, after));
    let bob = again(&world, dir, &sender).await;
    ann.say("bob", "3").await;
    assert_eq!(who(&mut lines, "3", "again").await, ["again"]);
    bob.quit().await;
    assert_eq!(world.logged().errors().len(), 2, "the panics");
    world.end().await;
}

/// Logs bob in with a handler that was set before.
async fn again(world: &World, dir: DataDir, lines: &Sender) -> Device {
    let bob = world.client_at(dir, |config| config);
    listen(&bob, "again", lines).detach();
    world.login(bob, "bob").await
}

/// The client ends while a typed handler works: what waits behind it, and what a second handler has not had, comes again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_event_raises_again_what_a_handler_did_not_get() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.client());
    let (sender, mut lines) = mpsc::unbounded_channel();
    let is_open = Arc::new(AtomicBool::new(false));
    let (gate, before) = (Arc::clone(&is_open), sender.clone());
    bob.on_event(move |_, event: &PeerMessageReceivedEvent| {
        before.send(("slow", texts(&event.message_list)[0].clone())).unwrap();
        while !gate.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
    })
    .detach();
    let bob = world.login(bob, "bob").await;
    ann.say("bob", "1").await;
    assert_eq!(who(&mut lines, "1", "slow").await, ["slow"]);
    ann.say("bob", "2").await;
    bob.receives("2").await;
    bob.destroy();
    is_open.store(true, Ordering::Release);
    let dir = bob.dir();
    bob.quit().await;
    let bob = again(&world, dir, &sender).await;
    let mut got = Vec::new();
    while got.last().is_none_or(|text| text != "2") {
        got.push(soon(lines.recv()).await.unwrap().1);
    }
    // The first one may have been noted in time, or not.
    assert!(got == ["2"] || got == ["1", "2"], "{got:?}");
    bob.quit().await;
    world.end().await;
}

/// The event type of every kind is that kind's payload.
#[tokio::test]
async fn on_event_has_a_type_for_each_kind() {
    let event = Event::ConnectionStateChanged(ConnectionStateChangedEvent::default());
    assert_eq!(ConnectionStateChangedEvent::KIND, EventKind::ConnectionStateChanged);
    assert!(ConnectionStateChangedEvent::of(&event).is_some() && PeerMessageReceivedEvent::of(&event).is_none());
}
