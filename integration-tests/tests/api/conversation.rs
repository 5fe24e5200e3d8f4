//! Conversations, as a member sees them.

use zim_integration_tests::{Device, World, is_text, refusal, soon};
use zim_protocol::{
    ClearConversationUnreadMessageCountRequest, Conversation, ConversationEvent, ConversationFilterOption,
    ConversationQueryConfig, ConversationSyncState, ConversationTotalUnreadMessageCountQueryConfig, ConversationType,
    ErrorCode, Event, EventKind, Message, MessageSendConfig,
};

const PEER: ConversationType = ConversationType::Peer;

fn names(list: &[Conversation]) -> Vec<&str> {
    list.iter().map(|conversation| conversation.conversation_id.as_str()).collect()
}

async fn list(device: &Device, config: ConversationQueryConfig, filter: ConversationFilterOption) -> Vec<Conversation> {
    soon(device.query_conversation_list(config, filter)).await.unwrap().conversation_list
}

#[tokio::test]
async fn query_conversation_shows_the_last_message_the_peer_and_the_unread_count() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    soon(ann.update_user_name("Ann of Ayr")).await.unwrap();
    ann.say("bob", "one").await;
    world.clock.advance(1_000);
    ann.say("bob", "two").await;
    bob.receives("two").await;
    let of_bob = bob.conversation("ann").await;
    assert_eq!((of_bob.r#type(), of_bob.unread_message_count), (PEER, 2));
    assert!(is_text(of_bob.last_message.as_ref().unwrap(), "two"));
    assert_eq!(of_bob.order_key, world.clock.now_ms());
    let of_ann = ann.conversation("bob").await;
    assert_eq!(of_ann.unread_message_count, 0);
    assert!(is_text(of_ann.last_message.as_ref().unwrap(), "two"));
    bob.until("the peer's name", |seen| {
        let named = |event: &Event| match event {
            Event::ConversationChanged(event) => event.info_list.iter().any(|info| {
                info.conversation.as_ref().is_some_and(|conversation| conversation.conversation_name == "Ann of Ayr")
            }),
            _ => false,
        };
        seen.iter().any(named).then_some(())
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn query_conversation_that_does_not_exist_is_refused() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    for id in ["bob", "nobody"] {
        let refused = soon(ann.query_conversation(id, PEER)).await;
        assert_eq!(refusal(refused), ErrorCode::ConversationModuleConversationDoesNotExist);
    }
    world.end().await;
}

#[tokio::test]
async fn query_conversation_list_is_newest_first_in_pages() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    for number in 0..5 {
        let other = world.user(&format!("user{number}")).await;
        world.clock.advance(1_000);
        other.say("ann", "hi").await;
        soon(other.logout()).await;
    }
    ann.until("five conversations", |seen| {
        let added = |event: &Event| match event {
            Event::ConversationChanged(event) => {
                event.info_list.iter().filter(|info| info.event() == ConversationEvent::Added).count()
            }
            _ => 0,
        };
        (seen.iter().map(added).sum::<usize>() == 5).then_some(())
    })
    .await;
    let first = list(&ann, ConversationQueryConfig { next_conversation: None, count: 2 }, Default::default()).await;
    assert_eq!(names(&first), ["user4", "user3"]);
    let config = ConversationQueryConfig { next_conversation: first.last().cloned(), count: 2 };
    let second = list(&ann, config, Default::default()).await;
    assert_eq!(names(&second), ["user2", "user1"]);
    let config = ConversationQueryConfig { next_conversation: second.last().cloned(), count: 2 };
    assert_eq!(names(&list(&ann, config, Default::default()).await), ["user0"]);
    // Without a count it is a page, and a name is enough of an anchor.
    let next = |name: &str| {
        let next = Conversation { conversation_id: name.to_owned(), r#type: PEER as i32, ..Conversation::default() };
        ConversationQueryConfig { next_conversation: Some(next), count: 0 }
    };
    assert_eq!(list(&ann, ConversationQueryConfig::default(), Default::default()).await.len(), 5);
    assert_eq!(names(&list(&ann, next("user3"), Default::default()).await), ["user2", "user1", "user0"]);
    for bad in [next("nobody"), ConversationQueryConfig { next_conversation: None, count: -1 }] {
        let refused = soon(ann.query_conversation_list(bad, Default::default())).await;
        assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid);
    }
    // A new message moves its conversation to the front.
    world.clock.advance(1_000);
    ann.say("user1", "hello").await;
    assert_eq!(ann.conversations().await[0].conversation_id, "user1");
    world.end().await;
}

/// The queries wait for the first catch-up, which has not ended when the login has.
#[tokio::test]
async fn query_conversation_list_and_others_right_after_login_are_complete() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    for (from, count) in [(&bob, 3), (&carl, 2)] {
        for number in 0..count {
            world.clock.advance(1_000);
            from.say("ann", &number.to_string()).await;
        }
    }
    ann.has_unread("carl", 2).await;
    // Each on a device of its own: after its first query a device has caught up.
    let fresh = async || {
        let fresh = world.client();
        soon(fresh.login("ann", world.with_token("ann"))).await.unwrap();
        fresh
    };
    assert_eq!(names(&fresh().await.conversations().await), ["carl", "bob"]);
    assert_eq!(fresh().await.total_unread().await, 5);
    assert_eq!(fresh().await.conversation("bob").await.unread_message_count, 3);
    world.end().await;
}

#[tokio::test]
async fn query_conversation_list_filters_unread_conversations() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    bob.say("ann", "hi").await;
    carl.say("ann", "hi").await;
    ann.has_unread("bob", 1).await;
    ann.has_unread("carl", 1).await;
    ann.read("bob").await;
    let filter = ConversationFilterOption { is_only_unread_conversation: true, ..Default::default() };
    let config = ConversationQueryConfig { next_conversation: None, count: 10 };
    assert_eq!(names(&list(&ann, config, filter).await), ["carl"]);
    world.end().await;
}

#[tokio::test]
async fn query_conversation_list_of_a_fresh_device_is_complete_after_login() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    bob.say("ann", "one").await;
    world.clock.advance(10);
    carl.say("ann", "two").await;
    world.clock.advance(10);
    ann.say("bob", "three").await;
    let fresh = world.device("ann").await;
    let shown = fresh.conversations().await;
    assert_eq!(names(&shown), ["bob", "carl"]);
    assert_eq!(shown.iter().map(|one| one.unread_message_count).collect::<Vec<_>>(), [1, 1]);
    assert!(is_text(shown[0].last_message.as_ref().unwrap(), "three"));
    world.end().await;
}

#[tokio::test]
async fn conversation_changed_reports_added_and_then_updated() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let mut kinds = Vec::new();
    for text in ["one", "two"] {
        ann.say("bob", text).await;
        bob.receives(text).await;
        let kind = bob.until(text, |seen| {
            let changes = seen.iter().filter_map(|event| match event {
                Event::ConversationChanged(event) => Some(event),
                _ => None,
            });
            let mut infos = changes.flat_map(|event| &event.info_list);
            let found = infos.find(|info| {
                let last = info.conversation.as_ref().and_then(|conversation| conversation.last_message.as_ref());
                last.is_some_and(|last| is_text(last, text))
            });
            found.map(zim_client_sdk::ConversationChangeInfo::event)
        });
        kinds.push(kind.await);
    }
    assert_eq!(kinds, [ConversationEvent::Added, ConversationEvent::Updated]);
    world.end().await;
}

#[tokio::test]
async fn conversation_sync_state_changed_goes_from_started_to_finished_once_a_login() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let states: Vec<ConversationSyncState> = ann
        .seen_of(EventKind::ConversationSyncStateChanged)
        .into_iter()
        .map(|event| match event {
            Event::ConversationSyncStateChanged(event) => event.state(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(states, [ConversationSyncState::Started, ConversationSyncState::Finished]);
    world.end().await;
}

#[tokio::test]
async fn query_conversation_total_unread_message_count_is_the_sum() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    assert_eq!(ann.total_unread().await, 0);
    bob.say("ann", "one").await;
    bob.say("ann", "two").await;
    carl.say("ann", "three").await;
    ann.has_unread("bob", 2).await;
    ann.has_unread("carl", 1).await;
    assert_eq!(ann.total_unread().await, 3);
    let of =
        |kinds: Vec<i32>| ConversationTotalUnreadMessageCountQueryConfig { conversation_types: kinds, marks: vec![] };
    let peers = soon(ann.query_conversation_total_unread_message_count(of(vec![PEER as i32]))).await.unwrap();
    assert_eq!(peers.unread_message_count, 3);
    let groups = of(vec![ConversationType::Group as i32]);
    assert_eq!(soon(ann.query_conversation_total_unread_message_count(groups)).await.unwrap().unread_message_count, 0);
    ann.until("the total in an event", |seen| {
        let last = seen.iter().rev().find_map(|event| match event {
            Event::ConversationTotalUnreadMessageCountUpdated(event) => Some(event.total_unread_message_count),
            _ => None,
        });
        (last == Some(3)).then_some(())
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn conversation_total_unread_message_count_updated_comes_right_after_login() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    soon(ann.logout()).await;
    bob.say("ann", "while you were out").await;
    let ann = world.login(ann, "ann").await;
    ann.until("1 unread", |seen| {
        let is_it = |event: &Event| {
            matches!(event, Event::ConversationTotalUnreadMessageCountUpdated(event) if event.total_unread_message_count == 1)
        };
        seen.iter().any(is_it).then_some(())
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn clear_conversation_unread_message_count_applies_to_all_devices() {
    let world = World::new().await;
    let (phone, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    for number in 0..3 {
        bob.say("ann", &number.to_string()).await;
    }
    phone.has_unread("bob", 3).await;
    laptop.has_unread("bob", 3).await;
    let cleared = soon(phone.clear_conversation_unread_message_count("bob", PEER)).await.unwrap();
    assert_eq!((cleared.conversation_id.as_str(), cleared.conversation_type), ("bob", PEER as i32));
    assert_eq!(phone.conversation("bob").await.unread_message_count, 0);
    assert_eq!(phone.total_unread().await, 0);
    laptop.has_unread("bob", 0).await;
    assert_eq!(laptop.total_unread().await, 0);
    // A third device, later.
    let tablet = world.device("ann").await;
    assert_eq!(tablet.conversation("bob").await.unread_message_count, 0);
    // Counting goes on from there.
    bob.say("ann", "more").await;
    for device in [&phone, &laptop, &tablet] {
        device.has_unread("bob", 1).await;
    }
    world.end().await;
}

#[tokio::test]
async fn clear_conversation_unread_message_count_of_a_read_conversation_changes_nothing() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    bob.say("ann", "hi").await;
    ann.has_unread("bob", 1).await;
    ann.read("bob").await;
    ann.read("bob").await;
    assert_eq!(ann.conversation("bob").await.unread_message_count, 0);
    world.end().await;
}

#[tokio::test]
async fn clear_conversation_unread_message_count_without_a_conversation_is_refused() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    for id in ["bob", "nobody"] {
        let refused = soon(ann.clear_conversation_unread_message_count(id, PEER)).await;
        assert_eq!(refusal(refused), ErrorCode::ConversationModuleConversationDoesNotExist, "{id}");
    }
    let mut raw = world.raw_user("ann", 1).await;
    for id in ["bob", "nobody"] {
        let request = ClearConversationUnreadMessageCountRequest { conversation_id: id.into(), ..Default::default() };
        let refused = raw.call(&request).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::ConversationModuleConversationDoesNotExist as i32, "{id}");
    }
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn clear_conversation_unread_message_count_keeps_messages_the_device_has_not_seen() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for number in 1..=5 {
        bob.say("ann", &number.to_string()).await;
    }
    ann.has_unread("bob", 5).await;
    let mut raw = world.raw_user("ann", 1).await;
    let upto = |through_seq| ClearConversationUnreadMessageCountRequest {
        conversation_id: "bob".into(),
        conversation_type: PEER as i32,
        through_seq,
    };
    raw.call(&upto(2)).await.unwrap();
    ann.has_unread("bob", 3).await;
    // A lower position changes nothing; one beyond the end clears to the end.
    raw.call(&upto(1)).await.unwrap();
    raw.call(&upto(1_000)).await.unwrap();
    ann.has_unread("bob", 0).await;
    bob.say("ann", "6").await;
    ann.has_unread("bob", 1).await;
    assert_eq!(raw.call(&upto(-1)).await.unwrap_err().code, ErrorCode::CommonModuleParamsInvalid as i32);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn unread_counts_neither_own_messages_nor_uncounted_ones() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    bob.say("ann", "1").await;
    ann.has_unread("bob", 1).await;
    // Sending an answer does not clear the unread count.
    ann.say("bob", "mine").await;
    assert_eq!(ann.conversation("bob").await.unread_message_count, 1);
    let silent = MessageSendConfig { disable_unread_message_count: true, ..MessageSendConfig::default() };
    let sent = bob.send_message(Message::text("silent"), "ann", PEER, silent, Default::default());
    soon(sent).await.unwrap();
    bob.say("ann", "2").await;
    ann.has_unread("bob", 2).await;
    let fresh = world.device("ann").await;
    assert_eq!(fresh.conversation("bob").await.unread_message_count, 2);
    ann.read("bob").await;
    bob.say("ann", "3").await;
    ann.say("bob", "mine too").await;
    ann.has_unread("bob", 1).await;
    fresh.has_unread("bob", 1).await;
    assert_eq!(world.device("ann").await.conversation("bob").await.unread_message_count, 1);
    world.end().await;
}
