//! Users chat.

use zim_integration_tests::{World, texts};

#[tokio::test]
async fn two_users_chat() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    ann.say("bob", "hi bob").await;
    bob.receives("hi bob").await;
    bob.has_unread("ann", 1).await;
    bob.read("ann").await;
    world.clock.advance(1_000);
    bob.say("ann", "hi ann").await;
    ann.receives("hi ann").await;
    ann.has_unread("bob", 1).await;
    ann.read("bob").await;
    world.clock.advance(1_000);
    ann.say("bob", "bye").await;
    bob.receives("bye").await;
    for (device, peer) in [(&ann, "bob"), (&bob, "ann")] {
        let history = device.history(peer).await;
        assert_eq!(texts(&history), ["hi bob", "hi ann", "bye"]);
        assert_eq!(history.iter().map(|message| message.message_seq).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(history.windows(2).all(|pair| pair[0].timestamp < pair[1].timestamp));
    }
    assert_eq!(ann.conversation("bob").await.unread_message_count, 0);
    bob.has_unread("ann", 1).await;
    world.end().await;
}

#[tokio::test]
async fn both_send_at_once_and_see_the_same_order() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let mut calls = Vec::new();
    for number in 0..100 {
        calls.push(ann.send("bob", zim_protocol::Message::text(format!("a{number}"))));
        calls.push(bob.send("ann", zim_protocol::Message::text(format!("b{number}"))));
    }
    for call in calls {
        zim_integration_tests::soon(call).await.unwrap();
    }
    ann.receives("b99").await;
    bob.receives("a99").await;
    let of_ann = texts(&ann.history("bob").await);
    assert_eq!(of_ann.len(), 200);
    assert_eq!(of_ann, texts(&bob.history("ann").await));
    for who in ["a", "b"] {
        let own: Vec<&String> = of_ann.iter().filter(|text| text.starts_with(who)).collect();
        let expected: Vec<String> = (0..100).map(|number| format!("{who}{number}")).collect();
        assert_eq!(own, expected.iter().collect::<Vec<_>>(), "the order of the sender");
    }
    ann.has_unread("bob", 100).await;
    bob.has_unread("ann", 100).await;
    world.end().await;
}

#[tokio::test]
async fn three_users_chat_in_pairs_and_receive_only_their_own_messages() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    for number in 0..5 {
        ann.say("bob", &format!("to bob {number}")).await;
        ann.say("carl", &format!("to carl {number}")).await;
        bob.say("carl", &format!("bob to carl {number}")).await;
    }
    carl.receives("bob to carl 4").await;
    carl.receives("to carl 4").await;
    bob.receives("to bob 4").await;
    assert_eq!(
        (ann.conversations().await.len(), bob.conversations().await.len(), carl.conversations().await.len()),
        (2, 2, 2)
    );
    assert_eq!(carl.total_unread().await, 10);
    assert_eq!(bob.total_unread().await, 5);
    assert_eq!(carl.received_from("ann").len(), 5);
    assert_eq!(carl.received_from("bob").len(), 5);
    world.end().await;
}
