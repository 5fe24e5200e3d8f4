//! What counts when a conversation, or all, leave the list, and what devices that were away learn of it.

use zim_integration_tests::{Device, World, eventually, group, is_text, refusal, soon};
use zim_protocol::{
    Conversation, ConversationBaseInfo, ConversationDeleteConfig, ConversationEvent, ConversationNotificationStatus,
    ConversationTotalUnreadMessageCountQueryConfig, ConversationType, DeleteConversationRequest, ErrorCode, Event,
    EventKind, Message,
};

use crate::conversation_settings::{changes, names, told};
use crate::group::create;

const PEER: ConversationType = ConversationType::Peer;
const GROUP: ConversationType = ConversationType::Group;
const EVERYWHERE: ConversationDeleteConfig = ConversationDeleteConfig { is_also_delete_server_conversation: true };
const HERE: ConversationDeleteConfig = ConversationDeleteConfig { is_also_delete_server_conversation: false };

async fn lists(device: &Device, expected: &[&str]) {
    let is_it = async || (names(&device.conversations().await) == expected).then_some(());
    eventually(&format!("a list of {expected:?}"), is_it).await;
}

/// The last total of unread messages that a device was told of.
fn total(device: &Device) -> Option<i64> {
    device.seen_of(EventKind::ConversationTotalUnreadMessageCountUpdated).into_iter().next_back().map(|event| {
        match event {
            Event::ConversationTotalUnreadMessageCountUpdated(event) => event.total_unread_message_count,
            other => panic!("{other:?}"),
        }
    })
}

fn base(id: &str, kind: ConversationType) -> ConversationBaseInfo {
    ConversationBaseInfo { conversation_id: id.to_owned(), conversation_type: kind as i32 }
}

#[tokio::test]
async fn delete_all_conversations_deletes_what_a_draft_or_a_local_message_has_brought_back() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    for (other, name) in [(&bob, "bob"), (&carl, "carl")] {
        other.say("ann", "hi").await;
        ann.has_unread(name, 1).await;
        soon(ann.delete_conversation(name, PEER, EVERYWHERE)).await.unwrap();
    }
    lists(&ann, &[]).await;
    soon(ann.set_conversation_draft("a draft", "bob", PEER)).await.unwrap();
    let noted = ann.insert_message_to_local_db(Message::text("noted"), "carl", PEER, "carl");
    soon(noted).await.unwrap();
    eventually("both are back", async || (ann.conversations().await.len() == 2).then_some(())).await;
    // The server has deleted both already.
    soon(ann.delete_all_conversations(EVERYWHERE)).await.unwrap();
    assert!(ann.conversations().await.is_empty());
    bob.say("ann", "again").await;
    lists(&ann, &["bob"]).await;
    assert_eq!(ann.conversation("bob").await.draft, "");
    world.end().await;
}

#[tokio::test]
async fn delete_conversation_of_a_group_without_messages_keeps_one_that_is_new() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&bob, "crew", &["ann"]).await;
    create(&bob, "club", &["ann"]).await;
    bob.say(group("crew"), "first").await;
    bob.say(group("club"), "first").await;
    ann.has_unread(group("crew"), 1).await;
    ann.has_unread(group("club"), 1).await;
    let mut raw = world.raw_user("ann", 1).await;
    let through = |id: &str, through_seq| DeleteConversationRequest {
        conversation_id: id.into(),
        conversation_type: GROUP as i32,
        config: Some(EVERYWHERE),
        through_seq,
    };
    // A device that had seen no message keeps the first one; without a position all are meant.
    raw.call(&through("crew", Some(0))).await.unwrap();
    raw.call(&through("club", None)).await.unwrap();
    raw.end().await;
    told(&ann, "the end of the club", "club", |event, _| event == ConversationEvent::Deleted).await;
    lists(&ann, &["crew"]).await;
    assert!(changes(&ann, "crew").iter().all(|(event, _)| *event != ConversationEvent::Deleted));
    assert_eq!((ann.total_unread().await, ann.conversation(group("crew")).await.unread_message_count), (1, 1));
    lists(&world.device("ann").await, &["crew"]).await;
    world.end().await;
}

#[tokio::test]
async fn clear_conversation_unread_message_count_tells_all_devices_and_nobody_else() {
    let world = World::new().await;
    let (phone, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    bob.say("ann", "1").await;
    bob.say("ann", "2").await;
    for device in [&phone, &laptop] {
        device.has_unread("bob", 2).await;
        device.until("a total of 2", |_| (total(device) == Some(2)).then_some(())).await;
    }
    soon(phone.clear_conversation_unread_message_count("bob", PEER)).await.unwrap();
    for device in [&phone, &laptop] {
        let is_read = |event, one: &Conversation| {
            event == ConversationEvent::Updated && one.unread_message_count == 0 && one.read_message_seq == 2
        };
        told(device, "no unread message", "bob", is_read).await;
        device.until("a total of 0", |_| (total(device) == Some(0)).then_some(())).await;
    }
    // Without a receipt the other side learns nothing: what they send next is the next event.
    let before = changes(&bob, "ann").len();
    bob.say("ann", "3").await;
    bob.until("its own message", |_| (changes(&bob, "ann").len() > before).then_some(())).await;
    let is_third = |one: &Conversation| one.last_message.as_ref().is_some_and(|last| is_text(last, "3"));
    assert!(changes(&bob, "ann")[before..].iter().all(|(_, one)| is_third(one)));
    world.end().await;
}

#[tokio::test]
async fn clear_conversation_unread_message_count_of_what_only_had_a_draft_is_refused() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let unknown = ErrorCode::ConversationModuleConversationDoesNotExist;
    // No row is left by a draft that is none, and none that counts by one that was removed.
    soon(ann.set_conversation_draft("", "zoe", PEER)).await.unwrap();
    assert_eq!(refusal(soon(ann.clear_conversation_unread_message_count("zoe", PEER)).await), unknown);
    soon(ann.set_conversation_draft("hi", "zoe", PEER)).await.unwrap();
    soon(ann.clear_conversation_unread_message_count("zoe", PEER)).await.unwrap();
    soon(ann.set_conversation_draft("", "zoe", PEER)).await.unwrap();
    assert_eq!(refusal(soon(ann.clear_conversation_unread_message_count("zoe", PEER)).await), unknown);
    assert_eq!(refusal(soon(ann.query_conversation("zoe", PEER)).await), unknown);
    world.end().await;
}

#[tokio::test]
async fn a_device_that_was_away_learns_of_what_was_undone_cleared_and_deleted() {
    let world = World::new().await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    let (bob, carl) = (world.user("bob").await, world.user("carl").await);
    for other in [&bob, &carl] {
        other.say("ann", "hi").await;
        world.clock.advance(1_000);
    }
    for device in [&phone, &laptop] {
        device.has_unread("bob", 1).await;
        device.has_unread("carl", 1).await;
    }
    soon(phone.update_conversation_pinned_state(true, "bob", PEER)).await.unwrap();
    soon(phone.set_conversation_mark(4, true, vec![base("bob", PEER)])).await.unwrap();
    let quiet = ConversationNotificationStatus::DoNotDisturb;
    soon(phone.set_conversation_notification_status(quiet, "bob", PEER)).await.unwrap();
    told(&laptop, "all three", "bob", |_, one| {
        one.is_pinned && one.marks == [4] && one.notification_status == quiet as i32
    })
    .await;
    let dir = laptop.dir();
    laptop.quit().await;
    soon(phone.update_conversation_pinned_state(false, "bob", PEER)).await.unwrap();
    soon(phone.set_conversation_mark(4, false, vec![base("bob", PEER)])).await.unwrap();
    let notify = ConversationNotificationStatus::Notify;
    soon(phone.set_conversation_notification_status(notify, "bob", PEER)).await.unwrap();
    soon(phone.clear_conversation_total_unread_message_count()).await.unwrap();
    // What one device deletes from its own list is its own.
    soon(phone.delete_conversation("carl", PEER, HERE)).await.unwrap();
    lists(&phone, &["bob"]).await;
    let laptop = world.user_at(dir, "ann").await;
    eventually("bob as they are now", async || {
        let bob = laptop.conversation("bob").await;
        let is_undone = !bob.is_pinned && bob.marks.is_empty() && bob.notification_status == notify as i32;
        (is_undone && bob.unread_message_count == 0).then_some(())
    })
    .await;
    assert_eq!((laptop.total_unread().await, laptop.conversation("carl").await.unread_message_count), (0, 0));
    lists(&laptop, &["carl", "bob"]).await;
    world.end().await;
}

#[tokio::test]
async fn query_conversation_total_unread_message_count_joins_its_conditions() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    create(&carl, "crew", &["ann"]).await;
    create(&carl, "club", &["ann"]).await;
    bob.say("ann", "1").await;
    for text in ["1", "2"] {
        carl.say("ann", text).await;
    }
    for text in ["1", "2", "3", "4"] {
        carl.say(group("crew"), text).await;
    }
    for text in ["1", "2", "3", "4", "5", "6", "7", "8"] {
        carl.say(group("club"), text).await;
    }
    eventually("15 unread", async || (ann.total_unread().await == 15).then_some(())).await;
    soon(ann.set_conversation_mark(5, true, vec![base("bob", PEER), base("crew", GROUP), base("club", GROUP)]))
        .await
        .unwrap();
    let quiet = ConversationNotificationStatus::DoNotDisturb;
    soon(ann.set_conversation_notification_status(quiet, "club", GROUP)).await.unwrap();
    let of = async |kinds: &[ConversationType], marks: &[i64]| {
        let config = ConversationTotalUnreadMessageCountQueryConfig {
            conversation_types: kinds.iter().map(|kind| *kind as i32).collect(),
            marks: marks.to_vec(),
        };
        soon(ann.query_conversation_total_unread_message_count(config)).await.unwrap().unread_message_count
    };
    eventually("club is quiet", async || (of(&[], &[]).await == 7).then_some(())).await;
    assert_eq!((of(&[PEER], &[]).await, of(&[GROUP], &[]).await), (3, 4));
    assert_eq!((of(&[], &[5]).await, of(&[PEER], &[5]).await, of(&[GROUP], &[5]).await), (5, 1, 4));
    assert_eq!((of(&[PEER], &[0]).await, of(&[GROUP], &[0]).await, of(&[PEER, GROUP], &[6]).await), (2, 0, 0));
    let config =
        |mark| ConversationTotalUnreadMessageCountQueryConfig { conversation_types: vec![], marks: vec![mark] };
    for mark in [-2, 21] {
        let refused = soon(ann.query_conversation_total_unread_message_count(config(mark))).await;
        assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid, "{mark}");
    }
    world.end().await;
}
