//! Two devices of one user.

use zim_integration_tests::{World, eventually, soon, texts};
use zim_protocol::{Event, EventKind, MessageDirection, MessageRevokeConfig};

use crate::assert_same;

#[tokio::test]
async fn both_devices_show_the_same() {
    let world = World::new().await;
    let (phone, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    for number in 0..10 {
        phone.say("bob", &format!("phone {number}")).await;
        bob.say("ann", &format!("bob {number}")).await;
        laptop.say("bob", &format!("laptop {number}")).await;
        world.clock.advance(100);
    }
    phone.receives("laptop 9").await;
    laptop.receives("bob 9").await;
    bob.receives("laptop 9").await;
    assert_eq!(bob.history("ann").await.len(), 30);
    assert_same(&phone, &laptop).await;
    phone.read("bob").await;
    laptop.has_unread("bob", 0).await;
    assert_same(&phone, &laptop).await;
    world.end().await;
}

#[tokio::test]
async fn own_messages_reach_the_other_device_once_and_as_sent() {
    let world = World::new().await;
    let (phone, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    let calls: Vec<_> =
        (0..20).map(|number| phone.send("bob", zim_protocol::Message::text(number.to_string()))).collect();
    for call in calls {
        soon(call).await.unwrap();
    }
    laptop.receives("19").await;
    bob.receives("19").await;
    let received = laptop.received_from("bob");
    let expected: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    assert_eq!(texts(received.iter().map(|(message, _)| message)), expected);
    assert!(received.iter().all(|(message, _)| message.direction() == MessageDirection::Send));
    assert_eq!(laptop.total_unread().await, 0);
    bob.say("ann", "end").await;
    phone.receives("end").await;
    assert_eq!(texts(phone.received_from("bob").iter().map(|(message, _)| message)), ["end"], "no echo of its own");
    world.end().await;
}

#[tokio::test]
async fn both_devices_send_at_once_and_see_the_same_order() {
    let world = World::new().await;
    let (phone, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    let mut calls = Vec::new();
    for number in 0..50 {
        calls.push(phone.send("bob", zim_protocol::Message::text(format!("p{number}"))));
        calls.push(laptop.send("bob", zim_protocol::Message::text(format!("l{number}"))));
    }
    for call in calls {
        soon(call).await.unwrap();
    }
    phone.receives("l49").await;
    laptop.receives("p49").await;
    bob.receives("l49").await;
    bob.receives("p49").await;
    let of_phone = texts(&phone.history("bob").await);
    assert_eq!(of_phone.len(), 100);
    assert_eq!(of_phone, texts(&laptop.history("bob").await));
    assert_eq!(of_phone, texts(&bob.history("ann").await));
    assert_same(&phone, &laptop).await;
    world.end().await;
}

#[tokio::test]
async fn a_clear_on_one_device_keeps_later_messages_unread() {
    let world = World::new().await;
    let (phone, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    bob.say("ann", "1").await;
    laptop.say("bob", "mine").await;
    bob.say("ann", "2").await;
    phone.has_unread("bob", 2).await;
    laptop.has_unread("bob", 2).await;
    laptop.read("bob").await;
    phone.has_unread("bob", 0).await;
    bob.say("ann", "3").await;
    phone.say("bob", "mine too").await;
    phone.has_unread("bob", 1).await;
    laptop.has_unread("bob", 1).await;
    for device in [&phone, &laptop] {
        eventually("all messages", async || (device.history("bob").await.len() == 5).then_some(())).await;
    }
    assert_same(&phone, &laptop).await;
    world.end().await;
}

/// The other device of the sender, a device that was away, and one that comes later end up with the same.
#[tokio::test]
async fn a_revoked_message_is_revoked_on_every_device() {
    let world = World::new().await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    let (bob, tablet) = (world.user("bob").await, world.device("bob").await);
    let mut sent = Vec::new();
    for number in 1..=4 {
        sent.push(phone.say("bob", &number.to_string()).await);
    }
    for device in [&laptop, &bob, &tablet] {
        // All of them: the last one may arrive before the others, and a message that is not held is not revoked.
        device
            .until("four messages", |events| {
                let texts = events.iter().filter_map(|event| match event {
                    Event::PeerMessageReceived(event) => Some(event.message_list.len()),
                    _ => None,
                });
                (texts.sum::<usize>() == 4).then_some(())
            })
            .await;
    }
    for device in [&bob, &tablet] {
        device.has_unread("ann", 4).await;
    }
    let dir = tablet.dir();
    tablet.quit().await;
    // The read mark moves past one of the two revoked messages.
    let config = MessageRevokeConfig::default();
    soon(phone.revoke_message(&sent[0], config.clone())).await.unwrap();
    soon(phone.revoke_message(&sent[3], config)).await.unwrap();
    bob.has_unread("ann", 2).await;
    let seqs = |event: Event| match event {
        Event::MessageRevokeReceived(event) => event.message_list.iter().map(|it| it.message_seq).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(seqs(laptop.next(EventKind::MessageRevokeReceived).await), [1]);
    assert_eq!(seqs(laptop.next(EventKind::MessageRevokeReceived).await), [4]);
    phone.say("bob", "5").await;
    bob.has_unread("ann", 3).await;
    let tablet = world.user_at(dir, "bob").await;
    tablet.receives("5").await;
    tablet.has_unread("ann", 3).await;
    // It held the messages, so it learns of both.
    assert_eq!(seqs(tablet.next(EventKind::MessageRevokeReceived).await), [1, 4]);
    bob.read("ann").await;
    tablet.has_unread("ann", 0).await;
    let fresh = world.device("bob").await;
    fresh.has_unread("ann", 0).await;
    let history = bob.history("ann").await;
    for device in [&tablet, &fresh] {
        assert_eq!(device.history("ann").await, history);
    }
    assert_eq!(phone.history("bob").await, laptop.history("bob").await);
    world.end().await;
}
