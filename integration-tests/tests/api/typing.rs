//! Who is writing: told at most once, to devices that are online, and over after five seconds.

use zim_integration_tests::{Device, World, refusal, room, soon};
use zim_protocol::{ErrorCode, Event, EventKind, JoinRoomRequest, MessageFlag, TellTypingRequest, event_frame};

use crate::room::{delay, info};

/// The next change: who, and whether they are writing.
async fn typing(device: &Device) -> (String, bool) {
    match device.next(EventKind::PeerTypingChanged).await {
        Event::PeerTypingChanged(event) => (event.user_id, event.is_typing),
        other => panic!("{other:?}"),
    }
}

fn changes(device: &Device) -> usize {
    device.seen_of(EventKind::PeerTypingChanged).len()
}

#[tokio::test]
async fn tell_typing_shows_on_all_devices_of_the_other_user_for_five_seconds() {
    let world = World::new().await;
    let (ann, tablet) = (world.user("ann").await, world.device("ann").await);
    let (bob, phone, eve) = (world.user("bob").await, world.device("bob").await, world.user("eve").await);
    // A group with the user's name is another conversation.
    assert_eq!(refusal(soon(ann.group("bob").typing()).await), ErrorCode::CommonModuleParamsInvalid);
    soon(ann.peer("bob").typing()).await.unwrap();
    for device in [&bob, &phone] {
        assert_eq!(typing(device).await, ("ann".to_owned(), true));
    }
    // Said again in time, it holds on.
    world.clock.advance(3_000);
    soon(ann.peer("bob").typing()).await.unwrap();
    ann.say("eve", "a moment").await;
    eve.say("bob", "hi").await;
    bob.receives("hi").await;
    phone.receives("hi").await;
    world.clock.advance(4_999);
    eve.say("bob", "still").await;
    bob.receives("still").await;
    phone.receives("still").await;
    assert_eq!((changes(&bob), changes(&phone)), (1, 1));
    world.clock.advance(1);
    for device in [&bob, &phone] {
        assert_eq!(typing(device).await, ("ann".to_owned(), false));
    }
    tablet
        .until("what was sent", |seen| {
            seen.iter().any(|event| event.kind() == EventKind::PeerMessageReceived).then_some(())
        })
        .await;
    assert_eq!([&ann, &tablet, &eve].map(changes), [0, 0, 0]);
    world.end().await;
}

#[tokio::test]
async fn tell_typing_ends_with_the_message() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    soon(ann.peer("bob").typing()).await.unwrap();
    assert_eq!(typing(&bob).await, ("ann".to_owned(), true));
    // What Bob writes does not end it.
    bob.say("ann", "?").await;
    ann.receives("?").await;
    ann.say("bob", "hi").await;
    assert_eq!(typing(&bob).await, ("ann".to_owned(), false));
    let seen = bob.seen();
    let place = |kind: EventKind| seen.iter().rposition(|event| event.kind() == kind).unwrap();
    assert!(place(EventKind::PeerMessageReceived) < place(EventKind::PeerTypingChanged), "first the message");
    // The next one begins at once.
    soon(ann.peer("bob").typing()).await.unwrap();
    assert_eq!(typing(&bob).await, ("ann".to_owned(), true));
    world.end().await;
}

#[tokio::test]
async fn tell_typing_is_sent_once_in_three_seconds_and_after_each_message() {
    let world = World::new().await;
    let (ann, _eve) = (world.user("ann").await, world.user("eve").await);
    soon(ann.create_room(info("stage"), delay(0))).await.unwrap();
    let mut bob = world.raw_user("bob", 2).await;
    bob.call(&JoinRoomRequest { room_id: "stage".into(), entry_number: 1 }).await.unwrap();
    for _ in 0..10 {
        soon(ann.peer("bob").typing()).await.unwrap();
    }
    ann.say("bob", "one").await;
    soon(ann.peer("bob").typing()).await.unwrap();
    // A message to somebody else changes nothing.
    ann.say("eve", "one").await;
    world.clock.advance(2_999);
    soon(ann.peer("bob").typing()).await.unwrap();
    // What is said in a room comes after it, and is no message to the user.
    ann.say(room("stage"), "not yet").await;
    let (mut told, mut messages) = (Vec::new(), 0);
    while messages < 2 {
        match bob.event().await.unwrap() {
            event_frame::Frame::Transient(transient) if transient.room != 0 => {
                told.push("not yet".to_owned());
                world.clock.advance(1);
                soon(ann.peer("bob").typing()).await.unwrap();
                ann.say("bob", "two").await;
            }
            event_frame::Frame::Transient(transient) => {
                let message = transient.message.unwrap();
                assert_eq!((message.sender.as_str(), message.flags), ("ann", MessageFlag::Typing as u32));
                told.push(format!("after {messages}"));
            }
            event_frame::Frame::Push(push) => messages += push.messages.len(),
            _ => {}
        }
    }
    assert_eq!(told, ["after 0", "after 1", "not yet", "after 1"]);
    bob.end().await;
    world.end().await;
}

#[tokio::test]
async fn tell_typing_is_refused_where_a_message_would_be() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let mut raw = world.raw_user("eve", 3).await;
    soon(bob.add_users_to_blacklist(["ann", "eve"])).await.unwrap();
    assert_eq!(refusal(soon(ann.peer("bob").typing()).await), ErrorCode::MessageModuleSenderInBlacklist);
    assert_eq!(refusal(soon(ann.peer("nobody").typing()).await), ErrorCode::MessageModuleTargetDoesNotExist);
    assert_eq!(refusal(soon(ann.peer("ann").typing()).await), ErrorCode::CommonModuleParamsInvalid);
    assert_eq!(refusal(soon(ann.group("crew").typing()).await), ErrorCode::CommonModuleParamsInvalid);
    let refused = raw.call(&TellTypingRequest { user_id: "bob".to_owned() }).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::MessageModuleSenderInBlacklist as i32);
    assert_eq!(changes(&bob), 0);
    raw.end().await;
    world.end().await;
}
