//! The server stops and starts again.

use zim_integration_tests::{World, soon, texts};
use zim_protocol::{ConnectionEvent, ConnectionState, Event, EventKind, Message};
use zim_server::db::{Scope, params};

#[tokio::test]
async fn a_restart_keeps_everything_and_clients_reconnect() {
    let mut world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for number in 0..10 {
        ann.say("bob", &format!("before {number}")).await;
    }
    bob.receives("before 9").await;
    world.stop_server().await;
    for device in [&ann, &bob] {
        device
            .until("reconnecting", |seen| {
                let is_it = |event: &Event| {
                    matches!(event, Event::ConnectionStateChanged(changed)
                        if changed.state() == ConnectionState::Reconnecting && changed.event() == ConnectionEvent::LoginInterrupted)
                };
                seen.iter().any(is_it).then_some(())
            })
            .await;
    }
    let during: Vec<_> = (0..5).map(|number| ann.send("bob", Message::text(format!("during {number}")))).collect();
    world.start_server().await;
    for call in during {
        soon(call).await.unwrap();
    }
    bob.receives("during 4").await;
    bob.say("ann", "after").await;
    ann.receives("after").await;
    let mut expected: Vec<String> = (0..10).map(|number| format!("before {number}")).collect();
    expected.extend((0..5).map(|number| format!("during {number}")));
    expected.push("after".to_owned());
    for (device, peer) in [(&ann, "bob"), (&bob, "ann")] {
        assert_eq!(texts(&device.history(peer).await), expected);
    }
    let fresh = world.device("bob").await;
    assert_eq!(texts(&fresh.history("ann").await), expected);
    world.end().await;
}

#[tokio::test]
async fn a_restart_remembers_keys_so_that_nothing_is_stored_twice() {
    let mut world = World::new().await;
    world.raw_user("bob", 2).await.end().await;
    let mut raw = world.raw_user("ann", 1).await;
    let first = raw.call(&zim_integration_tests::send_text("bob", "once", 1)).await.unwrap().message.unwrap();
    raw.end().await;
    world.stop_server().await;
    world.start_server().await;
    let mut raw = world.raw_user("ann", 1).await;
    let second = raw.call(&zim_integration_tests::send_text("bob", "once", 1)).await.unwrap().message.unwrap();
    assert_eq!((first.message_id, first.message_seq), (second.message_id, second.message_seq));
    let next = raw.call(&zim_integration_tests::send_text("bob", "twice", 2)).await.unwrap().message.unwrap();
    assert_eq!(next.message_seq, 2);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_restart_under_load_loses_no_acknowledged_message() {
    let mut world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let calls: Vec<_> = (0..300).map(|number| ann.send("bob", Message::text(number.to_string()))).collect();
    bob.receives("10").await;
    world.stop_server().await;
    world.start_server().await;
    for call in calls {
        soon(call).await.unwrap();
    }
    bob.receives("299").await;
    let expected: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    assert_eq!(texts(&bob.history("ann").await), expected);
    assert_eq!(texts(bob.received_from("ann").iter().map(|(message, _)| message)), expected);
    world.end().await;
}

#[tokio::test]
async fn a_new_epoch_is_reported_and_raises_nothing_again() {
    let mut world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    ann.say("bob", "before").await;
    bob.receives("before").await;
    let before = bob.epoch().await.unwrap();
    // What `zim-server new-epoch` does.
    let sql = "UPDATE deployment SET epoch = $1 WHERE id = 1";
    let written = world.server().app().db.submit(Scope::none(), async |tx| {
        tx.execute(sql, &params![vec![7_u8; 16]]).await?;
        Ok(())
    });
    written.await.unwrap();
    world.stop_server().await;
    world.start_server().await;
    let Event::EpochChanged(changed) = bob.next(EventKind::EpochChanged).await else { panic!("another event") };
    assert_eq!(changed.epoch, "07".repeat(16));
    assert_eq!(bob.epoch().await.unwrap(), changed.epoch);
    assert_ne!(before, changed.epoch);
    ann.say("bob", "after").await;
    bob.receives("after").await;
    assert_eq!(texts(bob.received_from("ann").iter().map(|(message, _)| message)), ["before", "after"]);
    // A fresh device has had no other epoch, and only the unread messages are news to it.
    bob.read("ann").await;
    world.clock.advance(1_000);
    let fresh = world.device("bob").await;
    assert_eq!(texts(&fresh.history("ann").await), ["before", "after"]);
    ann.say("bob", "now").await;
    fresh.receives("now").await;
    assert_eq!(texts(fresh.received_from("ann").iter().map(|(message, _)| message)), ["now"]);
    assert!(fresh.seen_of(EventKind::EpochChanged).is_empty());
    world.end().await;
}
