//! Devices that were away catch up with everything that happened.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use parking_lot::Mutex;
use zim_client_sdk::Zim;
use zim_integration_tests::{DataDir, Device, RawClient, World, eventually, soon, texts};
use zim_protocol::{ConversationEvent, Event, MessageQueryMode, PeerMessageReceivedEvent};

use crate::assert_same;

#[tokio::test]
async fn missed_messages_arrive_in_order_and_as_offline_messages() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    ann.say("bob", "before").await;
    bob.receives("before").await;
    soon(bob.logout()).await;
    world.clock.advance(60_000);
    for number in 0..30 {
        ann.say("bob", &format!("meanwhile {number}")).await;
        world.clock.advance(1_000);
    }
    let bob = world.login(bob, "bob").await;
    bob.receives("meanwhile 29").await;
    let received = bob.received_from("ann");
    let mut expected = vec![("before".to_owned(), false)];
    expected.extend((0..30).map(|number| (format!("meanwhile {number}"), true)));
    let received: Vec<_> = received.iter().map(|(message, offline)| (texts([message])[0].clone(), *offline)).collect();
    assert_eq!(received, expected);
    bob.has_unread("ann", 31).await;
    assert_eq!(bob.total_unread().await, 31);
    ann.say("bob", "welcome back").await;
    bob.receives("welcome back").await;
    assert!(!bob.received_from("ann").last().unwrap().1, "not an offline message");
    world.end().await;
}

#[tokio::test]
async fn a_device_that_was_away_ends_up_equal_to_one_that_stayed() {
    let world = World::new().await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    let (bob, carl) = (world.user("bob").await, world.user("carl").await);
    bob.say("ann", "1").await;
    carl.say("ann", "2").await;
    laptop.receives("1").await;
    laptop.receives("2").await;
    let dir = laptop.dir();
    laptop.quit().await;
    world.clock.advance(3_600_000);
    for number in 3..40 {
        bob.say("ann", &number.to_string()).await;
        phone.say("carl", &format!("mine {number}")).await;
        world.clock.advance(10);
    }
    phone.receives("39").await;
    phone.has_unread("bob", 38).await;
    phone.read("bob").await;
    bob.say("ann", "40").await;
    phone.has_unread("bob", 1).await;
    let laptop = world.user_at(dir, "ann").await;
    laptop.receives("40").await;
    laptop.has_unread("bob", 1).await;
    assert_same(&phone, &laptop).await;
    // A new device too, which fetches the history.
    let tablet = world.user_at(DataDir::default(), "ann").await;
    assert_same(&phone, &tablet).await;
    world.end().await;
}

#[tokio::test]
async fn a_long_absence_leaves_no_gap() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    ann.say("bob", "0").await;
    bob.receives("0").await;
    soon(bob.logout()).await;
    let calls: Vec<_> = (1..=600)
        .map(|number| ann.send("bob", zim_protocol::Message::text(format!("{number} {}", "x".repeat(1_000)))))
        .collect();
    for call in calls {
        soon(call).await.unwrap();
    }
    let bob = world.login(bob, "bob").await;
    bob.has_unread("ann", 601).await;
    let history = bob.history("ann").await;
    let seqs: Vec<i64> = history.iter().map(|message| message.message_seq).collect();
    assert_eq!(seqs, (1..=601).collect::<Vec<_>>());
    world.end().await;
}

#[tokio::test]
async fn messages_older_than_seven_days_are_history_without_events() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    soon(bob.logout()).await;
    ann.say("bob", "long ago").await;
    world.clock.advance(8 * 86_400_000);
    let ann = {
        // The token has expired meanwhile.
        soon(ann.logout()).await;
        world.login(ann, "ann").await
    };
    ann.say("bob", "yesterday").await;
    world.clock.advance(86_400_000 / 2);
    let bob = world.login(bob, "bob").await;
    bob.receives("yesterday").await;
    assert_eq!(texts(bob.received_from("ann").iter().map(|(message, _)| message)), ["yesterday"]);
    assert_eq!(texts(&bob.history("ann").await), ["long ago", "yesterday"]);
    bob.has_unread("ann", 2).await;
    world.end().await;
}

#[tokio::test]
async fn a_conversation_read_on_one_device_is_read_on_the_other() {
    let world = World::new().await;
    let (phone, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    for number in 0..4 {
        bob.say("ann", &number.to_string()).await;
    }
    phone.has_unread("bob", 4).await;
    laptop.has_unread("bob", 4).await;
    let dir = laptop.dir();
    laptop.quit().await;
    phone.read("bob").await;
    let laptop = world.user_at(dir, "ann").await;
    laptop.has_unread("bob", 0).await;
    assert_eq!(laptop.total_unread().await, 0);
    world.end().await;
}

#[tokio::test]
async fn a_user_who_logs_in_for_the_first_time_finds_waiting_messages() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let bob = world.user("bob").await;
    soon(bob.logout()).await;
    ann.say("bob", "welcome").await;
    let bob = world.user("bob").await;
    bob.until("the conversation", |seen| {
        let added = |event: &Event| match event {
            Event::ConversationChanged(event) => {
                event.info_list.iter().any(|info| info.event() == ConversationEvent::Added)
            }
            _ => false,
        };
        seen.iter().any(added).then_some(())
    })
    .await;
    assert_eq!(texts(&bob.history("ann").await), ["welcome"]);
    bob.has_unread("ann", 1).await;
    world.end().await;
}

#[tokio::test]
async fn a_reopened_device_shows_its_local_data() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for number in 0..20 {
        bob.say("ann", &number.to_string()).await;
    }
    ann.receives("19").await;
    let before = texts(&ann.history_by("bob", MessageQueryMode::OnlyLocal).await);
    assert_eq!(before.len(), 20);
    let dir = ann.dir();
    ann.quit().await;
    let ann = world.user_at(dir, "ann").await;
    assert_eq!(texts(&ann.history_by("bob", MessageQueryMode::OnlyLocal).await), before);
    assert!(ann.received_from("bob").is_empty(), "raised events are not raised again");
    world.end().await;
}

/// Adds a handler that notes the texts of messages in peer conversations.
fn note_texts(device: &Device, noted: &Arc<Mutex<Vec<String>>>) {
    let noted = Arc::clone(noted);
    let handler = move |_: &Zim, event: &PeerMessageReceivedEvent| noted.lock().extend(texts(&event.message_list));
    device.on_event(handler).detach();
}

#[tokio::test]
async fn a_device_closed_while_catching_up_raises_the_rest_after_reopening() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let dir = ann.dir();
    ann.quit().await;
    // Only a handler has what is stored while the client ends at the next login; a stream has ended by then.
    let noted = Arc::default();
    let mut expected = Vec::new();
    for round in 0..5 {
        for number in 0..20 {
            expected.push(format!("{round}.{number}"));
            bob.say("ann", &format!("{round}.{number}")).await;
        }
        let device = world.client_at(dir.clone(), |config| config);
        note_texts(&device, &noted);
        soon(device.login("ann", world.with_token("ann"))).await.unwrap();
        // A little later each time, so that it is closed at different moments.
        for _ in 0..round * 8 {
            tokio::task::yield_now().await;
        }
        device.quit().await;
    }
    let device = world.client_at(dir, |config| config);
    note_texts(&device, &noted);
    soon(device.login("ann", world.with_token("ann"))).await.unwrap();
    // Each at least once, and the first times in order.
    let first_times = || {
        let mut known = HashSet::new();
        noted.lock().iter().filter(|text| known.insert((*text).clone())).cloned().collect::<Vec<_>>()
    };
    eventually("the remaining messages", async || (first_times().len() == expected.len()).then_some(())).await;
    assert_eq!(first_times(), expected);
    world.end().await;
}

#[tokio::test]
async fn a_device_catches_up_with_many_conversations() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    soon(ann.logout()).await;
    let mut raws = Vec::new();
    for number in 0..30u8 {
        let mut raw = world.raw_user(&format!("user{number:02}"), number).await;
        raw.call(&zim_integration_tests::send_text("ann", &format!("from {number}"), number)).await.unwrap();
        raws.push(raw);
        world.clock.advance(10);
    }
    let ann = world.login(ann, "ann").await;
    let list = ann.conversations().await;
    let names: Vec<&str> = list.iter().map(|one| one.conversation_id.as_str()).collect();
    let expected: Vec<String> = (0..30).rev().map(|number| format!("user{number:02}")).collect();
    assert_eq!(names, expected);
    assert_eq!(ann.total_unread().await, 30);
    for number in 0..30 {
        ann.receives(&format!("from {number}")).await;
    }
    join_all(raws.into_iter().map(RawClient::end)).await;
    world.end().await;
}
