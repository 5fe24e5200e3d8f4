//! Bad weather: datagrams are lost, doubled, late. What arrives is what was said.

use zim_integration_tests::{Weather, World, soon, texts};
use zim_protocol::Message;

#[tokio::test]
async fn two_people_talk_through_a_storm() {
    for seed in 1..=3 {
        let world = World::new().await;
        let (link_a, link_b) = (world.link(seed).await, world.link(seed + 100).await);
        let (ann, bob) = (world.user_via(&link_a, "ann").await, world.user_via(&link_b, "bob").await);
        link_a.set_weather(Weather::STORM);
        link_b.set_weather(Weather::STORM);
        let mut calls = Vec::new();
        for number in 0..40 {
            calls.push(ann.send("bob", Message::text(format!("a{number}"))));
            calls.push(bob.send("ann", Message::text(format!("b{number}"))));
        }
        for call in calls {
            soon(call).await.unwrap();
        }
        ann.hears("b39").await;
        bob.hears("a39").await;
        for (device, peer, own) in [(&ann, "bob", "b"), (&bob, "ann", "a")] {
            let heard = texts(device.heard_from(peer).iter().map(|(message, _)| message));
            let expected: Vec<String> = (0..40).map(|number| format!("{own}{number}")).collect();
            assert_eq!(heard, expected, "seed {seed}");
        }
        assert_eq!(texts(&ann.history("bob").await), texts(&bob.history("ann").await), "seed {seed}");
        link_a.set_weather(Weather::default());
        link_b.set_weather(Weather::default());
        world.end().await;
    }
}

#[tokio::test]
async fn a_login_through_a_storm_catches_up() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    soon(world.user("bob").await.logout()).await;
    for number in 0..50 {
        ann.say("bob", &number.to_string()).await;
    }
    let link = world.link(11).await;
    link.set_weather(Weather::STORM);
    let bob = world.user_via(&link, "bob").await;
    bob.hears("49").await;
    let expected: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    assert_eq!(texts(bob.heard_from("ann").iter().map(|(message, _)| message)), expected);
    link.set_weather(Weather::default());
    world.end().await;
}
