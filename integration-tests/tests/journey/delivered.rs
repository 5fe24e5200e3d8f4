//! What the server knows of what a device has stored.

use prost::Message as _;
use zim_integration_tests::{RawClient, World, eventually, soon};
use zim_protocol::{
    Ack, ConversationRef, ListSessionsRequest, Message, Stored, StoredPosition, client_frame, event_frame,
};

fn name(id: &str) -> ConversationRef {
    ConversationRef { r#type: 0, id: id.to_owned() }
}

/// Whether a device of a user who is online has stored a message. The node of the device knows.
fn is_delivered(world: &World, user: &str, peer: &str, seq: u64) -> bool {
    world.servers().any(|server| {
        let fanout = &server.app().fanout;
        let users = fanout.all().into_iter().filter_map(|session| session.identity().cloned());
        let found = users.into_iter().find(|identity| *identity.user_id == *user);
        found.is_some_and(|identity| fanout.is_delivered(identity.user, &name(peer), seq))
    })
}

async fn until_delivered(world: &World, user: &str, peer: &str, seq: u64) {
    eventually("the message is stored", async || is_delivered(world, user, peer, seq).then_some(())).await;
}

/// The events that a user's session is behind.
async fn behind(world: &World, user: &str) -> u64 {
    let request = ListSessionsRequest { app_id: world.app_id(), user_id: user.to_owned() };
    let listed = soon(world.admin().await.list_sessions(request)).await.unwrap().into_inner().sessions;
    assert_eq!(listed.len(), 1);
    listed[0].events_behind
}

async fn next_push(raw: &mut RawClient) -> u64 {
    match raw.event().await.unwrap() {
        event_frame::Frame::Push(push) => push.to,
        other => panic!("{other:?}"),
    }
}

async fn acknowledge(raw: &mut RawClient, count: u64, positions: &[(&str, u64)]) {
    let positions = positions.iter().map(|(id, seq)| StoredPosition { conversation: Some(name(id)), seq: *seq });
    let stored = Stored { positions: positions.collect(), feed: 0 }.encode_to_vec().into();
    raw.write([client_frame::Frame::Ack(Ack { count, stored })]).await;
}

#[tokio::test]
async fn a_device_acknowledges_what_it_has_stored() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for number in 1..=3 {
        ann.say("bob", &number.to_string()).await;
    }
    until_delivered(&world, "bob", "ann", 3).await;
    assert!(!is_delivered(&world, "bob", "ann", 4) && !is_delivered(&world, "bob", "carl", 1));
    eventually("nothing is left", async || (behind(&world, "bob").await == 0).then_some(())).await;
    // What a connection said ends with it.
    let dir = bob.dir();
    bob.quit().await;
    eventually("the session has ended", async || (!is_delivered(&world, "bob", "ann", 3)).then_some(())).await;
    // A device that was away stores what it pulls.
    for number in 4..=6 {
        ann.say("bob", &number.to_string()).await;
    }
    let bob = world.user_at(dir, "bob").await;
    until_delivered(&world, "bob", "ann", 6).await;
    bob.quit().await;
    world.end().await;
}

/// To have received a message is not to have stored it.
#[tokio::test]
async fn a_message_that_is_not_acknowledged_is_not_delivered() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let mut bob = world.raw_user("bob", 1).await;
    // What arrives together would be one push.
    for (seq, text) in [(1, "one"), (2, "two")] {
        ann.say("bob", text).await;
        assert_eq!(next_push(&mut bob).await, seq);
    }
    assert_eq!(behind(&world, "bob").await, 2);
    // A client of an earlier build counts what it has received.
    acknowledge(&mut bob, 2, &[]).await;
    eventually("the count arrives", async || (behind(&world, "bob").await == 0).then_some(())).await;
    assert!(!is_delivered(&world, "bob", "ann", 1));
    acknowledge(&mut bob, 2, &[("ann", 1)]).await;
    until_delivered(&world, "bob", "ann", 1).await;
    assert!(!is_delivered(&world, "bob", "ann", 2));
    // One device of the user is enough.
    let mut other = world.raw_user("bob", 2).await;
    acknowledge(&mut other, 0, &[("ann", 2)]).await;
    until_delivered(&world, "bob", "ann", 2).await;
    other.end().await;
    eventually("what it said is forgotten", async || (!is_delivered(&world, "bob", "ann", 2)).then_some(())).await;
    soon(ann.send("bob", Message::text("three"))).await.unwrap();
    bob.end().await;
    world.end().await;
}
