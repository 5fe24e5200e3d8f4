//! A lossy network: datagrams are lost, duplicated and delayed. Messages arrive unchanged.

use zim_integration_tests::{NetworkConditions, World, soon, texts};
use zim_protocol::Message;

#[tokio::test]
async fn messages_arrive_over_a_lossy_network() {
    for seed in 1..=3 {
        let world = World::new().await;
        let (proxy_a, proxy_b) = (world.proxy(seed).await, world.proxy(seed + 100).await);
        let (ann, bob) = (world.user_via(&proxy_a, "ann").await, world.user_via(&proxy_b, "bob").await);
        proxy_a.set_conditions(NetworkConditions::LOSSY);
        proxy_b.set_conditions(NetworkConditions::LOSSY);
        let mut calls = Vec::new();
        for number in 0..40 {
            calls.push(ann.send("bob", Message::text(format!("a{number}"))));
            calls.push(bob.send("ann", Message::text(format!("b{number}"))));
        }
        for call in calls {
            soon(call).await.unwrap();
        }
        ann.receives("b39").await;
        bob.receives("a39").await;
        for (device, peer, own) in [(&ann, "bob", "b"), (&bob, "ann", "a")] {
            let received = texts(device.received_from(peer).iter().map(|(message, _)| message));
            let expected: Vec<String> = (0..40).map(|number| format!("{own}{number}")).collect();
            assert_eq!(received, expected, "seed {seed}");
        }
        assert_eq!(texts(&ann.history("bob").await), texts(&bob.history("ann").await), "seed {seed}");
        proxy_a.set_conditions(NetworkConditions::default());
        proxy_b.set_conditions(NetworkConditions::default());
        world.end().await;
    }
}

#[tokio::test]
async fn a_login_over_a_lossy_network_catches_up() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    soon(world.user("bob").await.logout()).await;
    for number in 0..50 {
        ann.say("bob", &number.to_string()).await;
    }
    let proxy = world.proxy(11).await;
    proxy.set_conditions(NetworkConditions::LOSSY);
    let bob = world.user_via(&proxy, "bob").await;
    bob.receives("49").await;
    let expected: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    assert_eq!(texts(bob.received_from("ann").iter().map(|(message, _)| message)), expected);
    proxy.set_conditions(NetworkConditions::default());
    world.end().await;
}
