//! What local search finds of messages that were edited or deleted, by whom and wherever, and of other users of a device.

use zim_integration_tests::{Device, World, eventually, group, refusal, soon, texts};
use zim_protocol::{
    CombineMessage, ConversationSearchConfig, ConversationType, ErrorCode, EventKind, GroupMemberMuteConfig, Message,
    MessageDeleteConfig, MessageEditConfig, MessageSearchConfig, MessageSendConfig, MessageType, SystemMessage,
    message::Body,
};

use crate::conversation_settings::changes;
use crate::group::create;

const PEER: ConversationType = ConversationType::Peer;
const GROUP: ConversationType = ConversationType::Group;
const INVALID: ErrorCode = ErrorCode::CommonModuleParamsInvalid;

fn words(keywords: &[&str]) -> Vec<String> {
    keywords.iter().map(|keyword| (*keyword).to_owned()).collect()
}

fn asking(keywords: &[&str]) -> MessageSearchConfig {
    MessageSearchConfig { keywords: words(keywords), ..MessageSearchConfig::default() }
}

async fn finds(device: &Device, keyword: &str) -> Vec<String> {
    let found = soon(device.search_global_local_messages(asking(&[keyword]))).await.unwrap();
    texts(&found.message_list)
}

async fn comes_to_find(device: &Device, keyword: &str, expected: &[&str]) {
    let is_it = async || (finds(device, keyword).await == expected).then_some(());
    eventually(&format!("{keyword:?} finds {expected:?}"), is_it).await;
}

#[tokio::test]
async fn search_finds_the_new_text_of_an_edited_message_and_not_the_old_one() {
    let world = World::new().await;
    let (phone, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    let sent = bob.say("ann", "breakfast").await;
    for device in [&phone, &laptop, &bob] {
        comes_to_find(device, "breakfast", &["breakfast"]).await;
    }
    let dir = laptop.dir();
    laptop.quit().await;
    let edited = Message { body: Message::text("dinner").body, ..sent };
    soon(bob.edit_message(&edited, MessageEditConfig {})).await.unwrap();
    phone.next(EventKind::MessageEdited).await;
    let laptop = world.user_at(dir, "ann").await;
    laptop.next(EventKind::MessageEdited).await;
    for device in [&phone, &laptop, &bob] {
        assert_eq!(finds(device, "dinner").await, ["dinner"]);
        assert!(finds(device, "breakfast").await.is_empty());
    }
    world.end().await;
}

#[tokio::test]
async fn search_does_not_find_messages_that_any_device_has_deleted_for_the_user() {
    let world = World::new().await;
    let (phone, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    create(&bob, "crew", &["ann"]).await;
    let mut sent = Vec::new();
    for text in ["note 1", "note 2", "note 3"] {
        bob.say("ann", text).await;
        sent.push(phone.receives(text).await);
        world.clock.advance(1_000);
    }
    bob.say(group("crew"), "note 4").await;
    for device in [&phone, &laptop] {
        comes_to_find(device, "note", &["note 4", "note 3", "note 2", "note 1"]).await;
    }
    let of = |is_everywhere| MessageDeleteConfig { is_also_delete_server_message: Some(is_everywhere) };
    // On this device only.
    soon(phone.delete_messages(&sent[..1], "bob", PEER, of(false))).await.unwrap();
    assert_eq!(finds(&phone, "note").await, ["note 4", "note 3", "note 2"]);
    // Everywhere, while the other device is away.
    let dir = laptop.dir();
    laptop.quit().await;
    soon(phone.delete_messages(&sent[1..2], "bob", PEER, of(true))).await.unwrap();
    assert_eq!(finds(&phone, "note").await, ["note 4", "note 3"]);
    let laptop = world.user_at(dir, "ann").await;
    comes_to_find(&laptop, "note", &["note 4", "note 3", "note 1"]).await;
    // All messages of a conversation.
    soon(laptop.delete_all_message("crew", GROUP, of(true))).await.unwrap();
    assert_eq!(finds(&laptop, "note").await, ["note 3", "note 1"]);
    comes_to_find(&phone, "note", &["note 3"]).await;
    soon(laptop.delete_all_message("bob", PEER, of(false))).await.unwrap();
    assert!(finds(&laptop, "note").await.is_empty());
    // The sender has all of them.
    assert_eq!(finds(&bob, "note").await, ["note 4", "note 3", "note 2", "note 1"]);
    world.end().await;
}

#[tokio::test]
async fn search_finds_what_each_type_of_message_says() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let kept = bob.say("ann", "the source").await;
    let combined = Message {
        r#type: MessageType::Combine as i32,
        body: Some(Body::Combine(Box::new(CombineMessage {
            title: "Chat of Ann and Bob".to_owned(),
            summary: "ann: a summary".to_owned(),
            message_list: vec![kept],
            ..CombineMessage::default()
        }))),
        ..Message::default()
    };
    soon(bob.send("ann", combined)).await.unwrap();
    let body = Some(Body::System(SystemMessage { message: "a system note".to_owned() }));
    let tip = Message { r#type: MessageType::System as i32, body, ..Message::default() };
    soon(ann.insert_message_to_local_db(tip, "bob", PEER, "ann")).await.unwrap();
    let config = MessageSendConfig::default();
    soon(bob.send_message(Message::command(b"secret command".to_vec()), "ann", PEER, config, Default::default()))
        .await
        .unwrap();
    bob.say("ann", "after").await;
    ann.receives("after").await;
    let kinds = async |keywords: &[&str], types: &[MessageType]| -> Vec<i32> {
        let config =
            MessageSearchConfig { message_types: types.iter().map(|kind| *kind as i32).collect(), ..asking(keywords) };
        let found = soon(ann.search_global_local_messages(config)).await.unwrap().message_list;
        found.iter().map(|message| message.r#type).collect()
    };
    let (combine, system) = (MessageType::Combine as i32, MessageType::System as i32);
    assert_eq!(kinds(&["chat of"], &[]).await, [combine]);
    assert_eq!(kinds(&["summary"], &[]).await, [combine]);
    assert_eq!(kinds(&[], &[MessageType::Combine]).await, [combine]);
    assert_eq!(kinds(&["system"], &[]).await, [system]);
    assert_eq!(kinds(&["system"], &[MessageType::Text]).await, [0_i32; 0]);
    // A command is not stored, so nothing finds it.
    assert_eq!(kinds(&["secret"], &[]).await, [0_i32; 0]);
    world.end().await;
}

#[tokio::test]
async fn search_in_a_folder_of_two_users_finds_only_what_belongs_to_the_user() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    bob.say("ann", "a private note").await;
    comes_to_find(&ann, "private", &["a private note"]).await;
    let dir = ann.dir();
    soon(ann.logout()).await;
    ann.quit().await;
    let carl = world.user_at(dir.clone(), "carl").await;
    bob.say("carl", "a note of carl").await;
    comes_to_find(&carl, "note", &["a note of carl"]).await;
    assert!(finds(&carl, "private").await.is_empty());
    carl.quit().await;
    let ann = world.user_at(dir, "ann").await;
    assert_eq!(finds(&ann, "note").await, ["a private note"]);
    world.end().await;
}

#[tokio::test]
async fn search_local_conversations_has_30_conversations_and_30_messages_at_most() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for number in 0..31 {
        let id = format!("g{number}");
        create(&bob, &id, &["ann"]).await;
        bob.say(group(&id), "a note").await;
        bob.say("ann", &format!("note {number}")).await;
    }
    eventually("62 unread", async || (ann.total_unread().await == 62).then_some(())).await;
    let asked = |keyword: &str, total_conversation_count, conversation_message_count| ConversationSearchConfig {
        keywords: words(&[keyword]),
        total_conversation_count,
        conversation_message_count,
        ..ConversationSearchConfig::default()
    };
    let sizes = async |config: ConversationSearchConfig| {
        let found = soon(ann.search_local_conversations(config)).await.unwrap();
        let of_bob = found.conversation_search_info_list.iter().find(|info| info.conversation_id == "bob");
        let messages = of_bob.map_or(0, |info| info.message_list.len());
        (found.conversation_search_info_list.len(), messages, found.next_flag > 0)
    };
    // The messages of Bob are the newest, and 31.
    for (asked_for, shown) in [(29, 29), (30, 30), (31, 30), (0, 30)] {
        assert_eq!(sizes(asked("note", asked_for, 0)).await, (shown, 0, true), "{asked_for} conversations");
    }
    for (asked_for, shown) in [(29, 29), (30, 30), (31, 30), (0, 0)] {
        assert_eq!(sizes(asked("note", 1, asked_for)).await, (1, shown, true), "{asked_for} messages");
    }
    let long = "é".repeat(128);
    assert_eq!(sizes(asked(&long, 0, 0)).await, (0, 0, false));
    for bad in [
        asked(&format!("{long}x"), 0, 0),
        asked("  ", 0, 0),
        ConversationSearchConfig { start_time: -1, ..asked("note", 0, 0) },
        ConversationSearchConfig { end_time: -1, ..asked("note", 0, 0) },
        ConversationSearchConfig { sub_message_types: vec![-3], ..asked("note", 0, 0) },
    ] {
        assert_eq!(refusal(soon(ann.search_local_conversations(bad.clone())).await), INVALID, "{bad:?}");
    }
    let bad = MessageSearchConfig { sub_message_types: vec![3, -3], ..asking(&["note"]) };
    assert_eq!(refusal(soon(ann.search_local_messages("bob", PEER, bad.clone())).await), INVALID);
    assert_eq!(refusal(soon(ann.search_global_local_messages(bad)).await), INVALID);
    world.end().await;
}

#[tokio::test]
async fn a_mute_that_has_ended_is_shown_nowhere() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&bob, "crew", &["ann"]).await;
    bob.say(group("crew"), "hi").await;
    ann.has_unread(group("crew"), 1).await;
    soon(bob.mute_group_members(true, ["ann"], "crew", GroupMemberMuteConfig { duration: 60 })).await.unwrap();
    let until = world.clock.now_ms() + 60_000;
    let mut list = soon(ann.observe_conversations(10)).await.unwrap();
    let searched = async || {
        let config = ConversationSearchConfig { keywords: words(&["hi"]), ..ConversationSearchConfig::default() };
        let found = soon(ann.search_local_conversations(config)).await.unwrap().conversation_search_info_list;
        found[0].conversation.as_ref().unwrap().muted_expired_time
    };
    eventually("the mute", async || (searched().await == until).then_some(())).await;
    world.clock.advance(60_001);
    bob.say(group("crew"), "the mute is over").await;
    ann.has_unread(group("crew"), 2).await;
    assert_eq!(ann.conversation(group("crew")).await.muted_expired_time, 0);
    assert_eq!(searched().await, 0);
    let told = ann
        .until("the message", |_| {
            let last = changes(&ann, "crew").pop()?.1;
            (last.unread_message_count == 2).then_some(last)
        })
        .await;
    assert_eq!(told.muted_expired_time, 0);
    eventually("the observed list", async || {
        soon(list.next()).await;
        let crew = list.items().iter().find(|one| one.conversation_id == "crew")?;
        (crew.unread_message_count == 2).then_some(crew.muted_expired_time)
    })
    .await;
    assert_eq!(list.items()[0].muted_expired_time, 0);
    world.end().await;
}
