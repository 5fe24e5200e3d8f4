//! Editing, pinning and replying: who may, when, and what everybody sees.

use zim_client_sdk::message::MessageSendNotification;
use zim_integration_tests::{Device, World, eventually, group, refusal, soon, texts};
use zim_protocol::{
    ConversationType, CustomMessage, ErrorCode, Event, EventKind, GroupMemberMuteConfig, Message, MessageEditConfig,
    MessagePinConfig, MessagePinStatus, MessageReactionAddConfig, MessageRepliedInfoState,
    MessageRepliedListQueryConfig, MessageRevokeConfig, MessageSendConfig, MessageType, message::Body,
    message_lite_info,
};

use super::group::create;

/// Returns a message with other content, which says which message it is.
fn with_content(message: &Message, content: Message) -> Message {
    Message {
        conversation_id: message.conversation_id.clone(),
        conversation_type: message.conversation_type,
        message_id: message.message_id.clone(),
        message_seq: message.message_seq,
        ..content
    }
}

async fn edit(device: &Device, message: &Message, content: Message) -> Result<Message, zim_client_sdk::Error> {
    let edited = device.edit_message(&with_content(message, content), MessageEditConfig {});
    Ok(soon(edited).await?.message.unwrap())
}

async fn edited(device: &Device) -> Message {
    match device.next(EventKind::MessageEdited).await {
        Event::MessageEdited(event) if event.message_list.len() == 1 => event.message_list[0].clone(),
        other => panic!("{other:?}"),
    }
}

fn lite(message: &Message) -> Option<String> {
    match message.replied_info.as_ref()?.message_info.as_ref()?.body.as_ref()? {
        message_lite_info::Body::Text(text) => Some(text.message.clone()),
        other => panic!("{other:?}"),
    }
}

async fn reply(device: &Device, to: &Message, text: &str) -> Result<Message, zim_client_sdk::Error> {
    let (config, notification) = (MessageSendConfig::default(), MessageSendNotification::default());
    Ok(soon(device.reply_message(Message::text(text), to, config, notification)).await?.message.unwrap())
}

async fn pin(device: &Device, message: &Message, is_pinned: bool) -> Result<(), zim_client_sdk::Error> {
    soon(device.pin_message(message, is_pinned, MessagePinConfig::default())).await
}

async fn pinned(device: &Device, id: &str, kind: ConversationType) -> Vec<String> {
    texts(&soon(device.query_pinned_message_list(id, kind)).await.unwrap().message_list)
}

async fn pin_event(device: &Device) -> (MessagePinStatus, Message) {
    match device.next(EventKind::MessagePinStatusChanged).await {
        Event::MessagePinStatusChanged(event) if event.infos.len() == 1 => {
            (event.infos[0].pin_status(), event.infos[0].message.clone().unwrap())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn edit_message_replaces_the_content_for_everybody() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let phone = world.device("ann").await;
    let sent = ann.say("bob", "hey").await;
    bob.receives("hey").await;
    phone.receives("hey").await;
    world.clock.advance(5_000);
    let content = Message {
        extended_data: "v2".into(),
        mentioned_user_ids: vec!["bob".into()],
        is_mention_all: true,
        ..Message::text("hello")
    };
    let result = edit(&ann, &sent, content).await.unwrap();
    let (seen, own) = (edited(&bob).await, edited(&phone).await);
    for message in [&result, &seen, &own] {
        assert_eq!(message.as_text(), Some("hello"));
        assert_eq!((message.message_seq, message.timestamp), (sent.message_seq, sent.timestamp), "the place stays");
        assert_eq!((message.extended_data.as_str(), message.is_mention_all), ("v2", true));
        assert_eq!(message.mentioned_user_ids, ["bob"]);
        assert_eq!((message.editor_user_id.as_str(), message.edited_time), ("ann", world.clock.now_ms()));
        assert_eq!(message.r#type(), MessageType::Text);
    }
    // It is the last message of both lists, still unread, and a new device sees it.
    bob.has_unread("ann", 1).await;
    let new = world.device("bob").await;
    for (device, peer) in [(&ann, "bob"), (&bob, "ann"), (&new, "ann")] {
        assert_eq!(texts(&device.history(peer).await), ["hello"]);
        assert_eq!(device.conversation(peer).await.last_message.unwrap().as_text(), Some("hello"));
    }
    // Again: the second edit has its own time. The device that edits gets no event.
    world.clock.advance(1_000);
    edit(&ann, &sent, Message::text("hello!")).await.unwrap();
    assert_eq!(edited(&bob).await.edited_time, world.clock.now_ms());
    bob.say("ann", "seen").await;
    ann.receives("seen").await;
    assert!(ann.seen_of(EventKind::MessageEdited).is_empty());
    world.end().await;
}

/// The clock of the tests stands still, as one does that was set back.
#[tokio::test]
async fn edit_message_and_pin_message_keep_their_order_within_a_millisecond() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (first, second) = (ann.say("bob", "one").await, ann.say("bob", "two").await);
    bob.receives("two").await;
    for text in ["1", "uno"] {
        edit(&ann, &first, Message::text(text)).await.unwrap();
        assert_eq!(edited(&bob).await.as_text(), Some(text));
    }
    for message in [&second, &first] {
        pin(&ann, message, true).await.unwrap();
    }
    assert_eq!(pinned(&bob, "ann", ConversationType::Peer).await, ["uno", "two"], "pinned last, first in the list");
    world.end().await;
}

#[tokio::test]
async fn edit_message_is_for_the_sender_within_the_window() {
    let world = World::with(|config| config.limits.edit_window_s = 60).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (first, second) = (ann.say("bob", "1").await, ann.say("bob", "2").await);
    bob.receives("2").await;
    let refused =
        async |device: &Device, message: &Message, content: Message| refusal(edit(device, message, content).await);
    let got = bob.history("ann").await[0].clone();
    let not_allowed = ErrorCode::MessageModuleEditNoCorrespondingOperationAuthority;
    assert_eq!(refused(&bob, &got, Message::text("x")).await, not_allowed);
    let invalid = ErrorCode::CommonModuleParamsInvalid;
    assert_eq!(refused(&ann, &first, Message::custom("x", 1)).await, invalid, "another type");
    assert_eq!(refused(&ann, &first, Message::command(vec![1])).await, not_allowed, "a type that is not edited");
    assert_eq!(refused(&ann, &first, Message::text(" ")).await, invalid);
    assert_eq!(refused(&ann, &first, Message::text("x".repeat(2_049))).await, invalid);
    let with = |data: usize, mentions: usize| Message {
        extended_data: "x".repeat(data),
        mentioned_user_ids: (0..mentions).map(|number| format!("user{number}")).collect(),
        ..Message::text("x")
    };
    assert_eq!(refused(&ann, &first, with(1_025, 0)).await, invalid, "long extended data");
    assert_eq!(refused(&ann, &first, with(0, 51)).await, invalid, "51 mentions");
    edit(&ann, &first, with(1_024, 50)).await.unwrap();
    edit(&ann, &first, Message::text("x".repeat(2_048))).await.unwrap();
    let elsewhere = Message { message_id: "17".into(), message_seq: 0, ..first.clone() };
    assert_eq!(refused(&ann, &elsewhere, Message::text("x")).await, invalid);
    world.clock.advance(60_000);
    edit(&ann, &first, Message::text("in time")).await.unwrap();
    world.clock.advance(1);
    let too_late = ErrorCode::MessageModuleMessageExceedsEditTime;
    assert_eq!(refused(&ann, &second, Message::text("late")).await, too_late);
    soon(ann.revoke_message(&second, MessageRevokeConfig::default())).await.unwrap();
    let revoked = ErrorCode::MessageModuleMessageHasBeenRevoked;
    assert_eq!(refused(&ann, &second, Message::text("x")).await, revoked);
    // A user who is blocked reaches nobody, not by an edit either.
    soon(bob.add_users_to_blacklist(["ann"])).await.unwrap();
    let third = edit(&ann, &first, Message::text("x")).await;
    assert_eq!(refusal(third), ErrorCode::MessageModuleSenderInBlacklist);
    assert_eq!(texts(&bob.history("ann").await)[0], "in time");
    world.end().await;
}

#[tokio::test]
async fn edit_message_of_a_custom_message_in_a_group() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "g", &["bob"]).await;
    let custom = |message: &str, sub_type| Message {
        body: Some(Body::Custom(CustomMessage { message: message.into(), searched_content: "s".into(), sub_type })),
        ..Message::default()
    };
    let sent = soon(ann.send_to(group("g"), custom("1", 1))).await.unwrap();
    eventually("the message", async || (!bob.history(group("g")).await.is_empty()).then_some(())).await;
    edit(&ann, &sent, custom("2", 2)).await.unwrap();
    let seen = edited(&bob).await;
    assert_eq!(seen.body, custom("2", 2).body);
    // Somebody who has left sees the message as it was then: without content, because the present one is not for them.
    soon(bob.leave_group("g")).await.unwrap();
    edit(&ann, &sent, custom("secret", 3)).await.unwrap();
    let new = world.device("bob").await;
    let history = new.history(group("g")).await;
    assert!(!format!("{history:?}").contains("secret"), "{history:?}");
    world.end().await;
}

/// Who may not write to a group does not get around that by changing what they wrote.
#[tokio::test]
async fn edit_message_is_refused_to_a_muted_member_as_are_reactions_and_pins() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "g", &["bob"]).await;
    let sent = bob.say(group("g"), "before").await;
    ann.receives("before").await;
    soon(ann.mute_group_members(true, ["bob"], "g", GroupMemberMuteConfig { duration: 60 })).await.unwrap();
    let muted = ErrorCode::GroupModuleGroupNoCorrespondingOperationAuthority;
    assert_eq!(refusal(edit(&bob, &sent, Message::text("after")).await), muted);
    assert_eq!(refusal(pin(&bob, &sent, true).await), muted);
    assert_eq!(refusal(reply(&bob, &sent, "re").await), muted);
    let reaction = bob.add_message_reaction("x", &sent, MessageReactionAddConfig::default());
    assert_eq!(refusal(soon(reaction).await), muted);
    // What was said can still be taken back.
    soon(bob.revoke_message(&sent, MessageRevokeConfig::default())).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn pin_message_is_seen_by_everybody_and_the_eleventh_replaces_the_first() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let mut sent = Vec::new();
    for number in 0..12 {
        sent.push(ann.say("bob", &format!("m{number}")).await);
    }
    bob.receives("m11").await;
    for message in &sent[..10] {
        pin(&ann, message, true).await.unwrap();
        world.clock.advance(1_000);
    }
    for device in [&ann, &bob] {
        for number in 0..10 {
            let (status, message) = pin_event(device).await;
            assert_eq!((status, message.as_text()), (MessagePinStatus::Pinned, Some(&*format!("m{number}"))));
            assert_eq!(message.pinned_user_id, "ann");
        }
    }
    assert_eq!(pinned(&bob, "ann", ConversationType::Peer).await.len(), 10);
    // The other side pins, too; a message that is pinned stays where it is.
    let of_bob = bob.history("ann").await;
    pin(&bob, &of_bob[3], true).await.unwrap();
    let keep = MessagePinConfig { disable_auto_replace: true };
    let refused = refusal(soon(bob.pin_message(&of_bob[10], true, keep)).await);
    assert_eq!(refused, ErrorCode::MessageModuleTheNumberOfPinnedMessagesExceedsLimit);
    pin(&bob, &of_bob[10], true).await.unwrap();
    for device in [&ann, &bob] {
        let ((out, first), (status, last)) = (pin_event(device).await, pin_event(device).await);
        assert_eq!((out, first.as_text(), first.pinned_time), (MessagePinStatus::NotPinned, Some("m0"), 0));
        assert_eq!((status, last.as_text(), &*last.pinned_user_id), (MessagePinStatus::Pinned, Some("m10"), "bob"));
    }
    let list = pinned(&ann, "bob", ConversationType::Peer).await;
    assert_eq!((list.len(), &*list[0], &*list[9]), (10, "m10", "m1"), "pinned last, first in the list");
    // Unpinned and revoked messages leave the list.
    pin(&ann, &sent[5], false).await.unwrap();
    assert_eq!(refusal(pin(&ann, &sent[5], false).await), ErrorCode::MessageModuleMessageIsNotPinned);
    soon(ann.revoke_message(&sent[6], MessageRevokeConfig::default())).await.unwrap();
    assert_eq!(refusal(pin(&ann, &sent[6], true).await), ErrorCode::MessageModuleMessageHasBeenRevoked);
    let list = pinned(&bob, "ann", ConversationType::Peer).await;
    assert_eq!(list.len(), 8, "{list:?}");
    assert!(!list.contains(&"m5".to_owned()), "{list:?}");
    // What a device reads later says who pinned.
    let new = world.device("bob").await;
    let history = new.history("ann").await;
    assert_eq!((&*history[10].pinned_user_id, &*history[1].pinned_user_id, history[5].pinned_time), ("bob", "ann", 0));
    world.end().await;
}

#[tokio::test]
async fn query_pinned_message_list_is_for_those_who_see_the_messages() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    create(&ann, "g", &["bob"]).await;
    let sent = ann.say(group("g"), "hi").await;
    assert_eq!(refusal(pin(&carl, &sent, true).await), ErrorCode::ConversationModuleConversationDoesNotExist);
    soon(bob.leave_group("g")).await.unwrap();
    assert_eq!(refusal(pin(&bob, &sent, true).await), ErrorCode::GroupModuleUserIsNotInTheGroup);
    soon(carl.join_group("g")).await.unwrap();
    let refused = refusal(pin(&carl, &sent, true).await);
    assert_eq!(refused, ErrorCode::CommonModuleParamsInvalid, "the message is older than the stay");
    let unsent = Message { conversation_id: "g".into(), conversation_type: 2, ..Message::text("x") };
    assert_eq!(refusal(pin(&ann, &unsent, true).await), ErrorCode::CommonModuleParamsInvalid);
    let found = soon(ann.query_pinned_message_list("g", ConversationType::Room)).await;
    assert_eq!(refusal(found), ErrorCode::CommonModuleParamsInvalid);
    pin(&ann, &sent, true).await.unwrap();
    assert!(pinned(&carl, "g", ConversationType::Group).await.is_empty());
    assert_eq!(pinned(&ann, "g", ConversationType::Group).await, ["hi"]);
    // Who has left does not see what is pinned later.
    assert!(pinned(&bob, "g", ConversationType::Group).await.is_empty());
    world.end().await;
}

#[tokio::test]
async fn query_message_replied_list_shows_the_tree_and_the_root_counts() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let root = ann.say("bob", "root").await;
    let got = bob.receives("root").await;
    let first = reply(&bob, &got, "re").await.unwrap();
    let seen = ann.receives("re").await;
    for message in [&first, &seen] {
        let info = message.replied_info.as_ref().unwrap();
        assert_eq!((info.state(), lite(message).as_deref()), (MessageRepliedInfoState::Normal, Some("root")));
        assert_eq!((&*info.sender_user_id, info.sent_time), ("ann", root.timestamp));
        assert_eq!((&info.message_id, info.message_seq), (&root.message_id, root.message_seq));
    }
    // A reply to the reply counts at the root, not at the reply.
    let second = reply(&ann, &seen, "re: re").await.unwrap();
    assert_eq!(lite(&second).as_deref(), Some("re"));
    for device in [&ann, &bob] {
        for count in 1..=2 {
            match device.next(EventKind::MessageRepliedCountChanged).await {
                Event::MessageRepliedCountChanged(event) => {
                    assert_eq!((&event.infos[0].message_id, event.infos[0].count), (&root.message_id, count));
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let config = MessageRepliedListQueryConfig { next_flag: 0, count: 1 };
    let page = soon(ann.query_message_replied_list(&second, config)).await.unwrap();
    let info = page.root_replied_info.unwrap();
    assert_eq!((info.replied_count, info.message.unwrap().as_text()), (2, Some("root")));
    assert_eq!((texts(&page.message_list), page.next_flag > 0), (vec!["re".to_owned()], true));
    let config = MessageRepliedListQueryConfig { next_flag: page.next_flag, count: 0 };
    let page = soon(bob.query_message_replied_list(&root_of(&bob).await, config)).await.unwrap();
    assert_eq!((texts(&page.message_list), page.next_flag), (vec!["re: re".to_owned()], 0));
    // A new device has all of it.
    let new = world.device("bob").await;
    let history = new.history("ann").await;
    assert_eq!(history[0].root_replied_count, 2);
    assert_eq!((lite(&history[1]).as_deref(), lite(&history[2]).as_deref()), (Some("root"), Some("re")));
    world.end().await;
}

async fn root_of(device: &Device) -> Message {
    device.history("ann").await[0].clone()
}

#[tokio::test]
async fn reply_message_follows_what_becomes_of_its_source() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let root = ann.say("bob", "hey").await;
    let got = bob.receives("hey").await;
    let answer = reply(&bob, &got, "re").await.unwrap();
    ann.receives("re").await;
    let changed = async |device: &Device| match device.next(EventKind::MessageRepliedInfoChanged).await {
        Event::MessageRepliedInfoChanged(event) => event.message_list[0].clone(),
        other => panic!("{other:?}"),
    };
    edit(&ann, &root, Message::text("hello")).await.unwrap();
    for device in [&ann, &bob] {
        assert_eq!(lite(&changed(device).await).as_deref(), Some("hello"));
    }
    soon(ann.revoke_message(&root, MessageRevokeConfig::default())).await.unwrap();
    for device in [&ann, &bob] {
        let message = changed(device).await;
        assert_eq!((message.as_text(), lite(&message)), (Some("re"), None));
        assert_eq!(message.replied_info.unwrap().state(), MessageRepliedInfoState::Deleted);
    }
    // The text of the source does not live on in the reply, on no device and for nobody who asks later.
    let new = world.device("ann").await;
    let history = new.history("bob").await;
    assert_eq!(lite(&history[1]), None);
    assert_eq!(history[1].replied_info.as_ref().unwrap().state(), MessageRepliedInfoState::Deleted);
    let refused = refusal(reply(&bob, &got, "late").await);
    assert_eq!(refused, ErrorCode::MessageModuleMessageHasBeenRevoked);
    // A revoked reply no longer counts.
    let config = MessageRepliedListQueryConfig::default();
    assert_eq!(soon(bob.query_message_replied_list(&answer, config)).await.unwrap().message_list.len(), 1);
    soon(bob.revoke_message(&answer, MessageRevokeConfig::default())).await.unwrap();
    let page = soon(bob.query_message_replied_list(&answer, config)).await.unwrap();
    let info = page.root_replied_info.unwrap();
    assert_eq!((page.message_list.len(), info.replied_count, &info.message), (0, 0, &None));
    assert_eq!(info.state(), MessageRepliedInfoState::Deleted);
    world.end().await;
}

/// The counts of replies that a device was told of a message, in order.
fn counts(seen: &[Event], message: &Message) -> Vec<i64> {
    let infos = seen.iter().filter_map(|event| match event {
        Event::MessageRepliedCountChanged(event) => Some(&event.infos),
        _ => None,
    });
    infos.flatten().filter(|info| info.message_id == message.message_id).map(|info| info.count).collect()
}

async fn counts_reach(device: &Device, message: &Message, count: i64) {
    let what = format!("{count} replies");
    device.until(&what, |seen| (counts(seen, message).last() == Some(&count)).then_some(())).await;
}

#[tokio::test]
async fn reply_message_counts_at_a_root_that_is_revoked() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    create(&ann, "g", &["bob", "carl"]).await;
    let root = ann.say(group("g"), "root").await;
    let got = bob.receives("root").await;
    carl.receives("root").await;
    soon(bob.add_message_reaction("like", &got, MessageReactionAddConfig::default())).await.unwrap();
    edit(&ann, &root, Message::text("the root")).await.unwrap();
    reply(&bob, &got, "a").await.unwrap();
    let second = reply(&bob, &got, "b").await.unwrap();
    let of_carl = carl.receives("a").await;
    let devices = [&ann, &bob, &carl];
    for device in devices {
        counts_reach(device, &root, 2).await;
    }
    soon(ann.revoke_message(&root, MessageRevokeConfig::default())).await.unwrap();
    // Its replies can still be replied to, and taken back.
    reply(&carl, &of_carl, "c").await.unwrap();
    for device in devices {
        counts_reach(device, &root, 3).await;
    }
    let page = soon(carl.query_message_replied_list(&of_carl, MessageRepliedListQueryConfig::default())).await.unwrap();
    let info = page.root_replied_info.unwrap();
    assert_eq!((texts(&page.message_list), info.replied_count), (["a", "b", "c"].map(str::to_owned).to_vec(), 3));
    assert_eq!((info.state(), info.message), (MessageRepliedInfoState::Deleted, None));
    soon(bob.revoke_message(&second, MessageRevokeConfig::default())).await.unwrap();
    for device in devices {
        counts_reach(device, &root, 2).await;
        let told = counts(&device.seen(), &root);
        assert!(!told.contains(&0), "{told:?}");
    }
    // Nothing else of what happened to it is left, on no device.
    let new = world.device("bob").await;
    for device in [&ann, &bob, &carl, &new] {
        let revoked = device.history(group("g")).await.remove(0);
        assert_eq!((revoked.r#type(), revoked.root_replied_count), (MessageType::Revoke, 2));
        assert_eq!((revoked.reactions.len(), revoked.edited_time, &*revoked.editor_user_id), (0, 0, ""));
    }
    world.end().await;
}

#[tokio::test]
async fn reply_message_in_a_group_tells_newcomers_nothing_of_what_came_before() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    create(&ann, "g", &["bob"]).await;
    let secret = ann.say(group("g"), "secret").await;
    bob.receives("secret").await;
    soon(carl.join_group("g")).await.unwrap();
    reply(&ann, &secret, "as I said").await.unwrap();
    // The device of Bob holds the source and shows it. Carl came later than the source.
    let (of_bob, of_carl) = (bob.receives("as I said").await, carl.receives("as I said").await);
    assert_eq!(lite(&of_bob).as_deref(), Some("secret"));
    assert_eq!(lite(&of_carl), None);
    assert_eq!(of_carl.replied_info.unwrap().state(), MessageRepliedInfoState::NotFound);
    let new = world.device("carl").await;
    assert!(!format!("{:?}", new.history(group("g")).await).contains("secret"));
    assert!(!format!("{:?}", carl.seen()).contains("secret"));
    let refused = refusal(reply(&carl, &secret, "what?").await);
    assert_eq!(refused, ErrorCode::CommonModuleParamsInvalid, "they do not see the message");
    let first = new.history(group("g")).await.remove(0);
    let page = soon(carl.query_message_replied_list(&first, MessageRepliedListQueryConfig::default())).await.unwrap();
    let info = page.root_replied_info.unwrap();
    assert_eq!((info.state(), info.message), (MessageRepliedInfoState::NotFound, None));
    world.end().await;
}

#[tokio::test]
async fn reply_message_refuses_what_cannot_be_replied_to() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let sent = ann.say("bob", "hi").await;
    let (config, notification) = (MessageSendConfig::default(), MessageSendNotification::default());
    let command = soon(ann.reply_message(Message::command(vec![1]), &sent, config, notification)).await;
    assert_eq!(refusal(command), ErrorCode::CommonModuleParamsInvalid);
    for wrong in [
        Message { message_id: "17".into(), message_seq: 0, ..sent.clone() },
        Message { message_id: String::new(), message_seq: 0, ..sent.clone() },
        Message { conversation_type: ConversationType::Room as i32, ..sent.clone() },
    ] {
        assert_eq!(refusal(reply(&ann, &wrong, "re").await), ErrorCode::CommonModuleParamsInvalid, "{wrong:?}");
    }
    let elsewhere = Message { conversation_id: "carl".into(), ..sent.clone() };
    let carl = world.user("carl").await;
    ann.say("carl", "x").await;
    carl.receives("x").await;
    assert_eq!(refusal(reply(&ann, &elsewhere, "re").await), ErrorCode::CommonModuleParamsInvalid);
    // A plain message is no reply, even if it was one before.
    let answer = reply(&bob, &bob.receives("hi").await, "re").await.unwrap();
    let plain = soon(
        bob.send("ann", Message { body: answer.body.clone(), replied_info: answer.replied_info, ..Message::default() }),
    );
    assert_eq!(plain.await.unwrap().replied_info, None);
    // A mention in a reply counts as any other.
    let mention = Message { mentioned_user_ids: vec!["bob".into()], ..Message::text("@bob") };
    let (config, notification) = (MessageSendConfig::default(), MessageSendNotification::default());
    let sent = soon(ann.reply_message(mention, &sent, config, notification)).await.unwrap().message.unwrap();
    assert_eq!(sent.mentioned_user_ids, ["bob"]);
    world.end().await;
}

#[tokio::test]
async fn pin_message_and_query_message_replied_list_refuse_what_there_is_not() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let sent = ann.say("bob", "hi").await;
    let none = Message { message_id: String::new(), message_seq: 1_000, ..sent.clone() };
    assert_eq!(refusal(pin(&ann, &none, true).await), ErrorCode::CommonModuleParamsInvalid);
    let config = MessageRepliedListQueryConfig::default();
    let replies = soon(ann.query_message_replied_list(&none, config)).await;
    assert_eq!(refusal(replies), ErrorCode::CommonModuleParamsInvalid);
    let config = MessageRepliedListQueryConfig { count: -1, ..MessageRepliedListQueryConfig::default() };
    let replies = soon(ann.query_message_replied_list(&sent, config)).await;
    assert_eq!(refusal(replies), ErrorCode::CommonModuleParamsInvalid);
    world.end().await;
}
