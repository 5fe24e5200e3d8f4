//! Messages of a group: who gets them, and who may revoke them.

use zim_integration_tests::{Device, World, group, refusal, soon, texts};
use zim_protocol::message::Body;
use zim_protocol::{
    ConversationType, ErrorCode, Event, EventKind, GroupMemberQueryConfig, Message, MessageRevokeConfig,
    MessageRevokeStatus, MessageType,
};

use crate::group::{create, members};

#[tokio::test]
async fn send_message_reaches_the_members_and_counts_as_unread() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    let (told, mut older) = tokio::sync::mpsc::unbounded_channel();
    bob.on(EventKind::ReceiveGroupMessage, move |_, event| told.send(event.clone()).unwrap());
    create(&ann, "crew", &["bob"]).await;
    let sent = ann.say(group("crew"), "one").await;
    assert_eq!((sent.message_seq, sent.conversation_id.as_str()), (1, "crew"));
    assert_eq!(sent.conversation_type, ConversationType::Group as i32);
    let got = bob.receives("one").await;
    assert_eq!((got.message_id.as_str(), got.sender_user_id.as_str()), (sent.message_id.as_str(), "ann"));
    match bob.next(EventKind::GroupMessageReceived).await {
        Event::GroupMessageReceived(event) => {
            assert_eq!((texts(&event.message_list), event.from_conversation_id.as_str()), (vec!["one".into()], "crew"));
            assert!(!event.info.unwrap().is_offline_message);
        }
        other => panic!("{other:?}"),
    }
    match soon(older.recv()).await {
        Some(Event::ReceiveGroupMessage(event)) => {
            assert_eq!((texts(&event.message_list), event.from_conversation_id.as_str()), (vec!["one".into()], "crew"));
        }
        other => panic!("{other:?}"),
    }
    bob.say(group("crew"), "two").await;
    ann.receives("two").await;
    bob.has_unread(group("crew"), 1).await;
    bob.read(group("crew")).await;
    bob.has_unread(group("crew"), 0).await;
    ann.has_unread(group("crew"), 1).await;
    // A new member sees nothing from before.
    soon(cai.join_group("crew")).await.unwrap();
    cai.has_unread(group("crew"), 0).await;
    assert_eq!(texts(&cai.history(group("crew")).await), [""; 0]);
    ann.say(group("crew"), "three").await;
    cai.receives("three").await;
    cai.has_unread(group("crew"), 1).await;
    let new = world.device("cai").await;
    new.has_unread(group("crew"), 1).await;
    assert_eq!(texts(&new.history(group("crew")).await), ["three"]);
    // Strangers write to no group.
    let dan = world.user("dan").await;
    let refused = soon(dan.send_to(group("crew"), Message::text("?"))).await;
    assert_eq!(refusal(refused), ErrorCode::GroupModuleUserIsNotInTheGroup);
    let refused = soon(dan.send_to(group("none"), Message::text("?"))).await;
    assert_eq!(refusal(refused), ErrorCode::GroupModuleGroupDoesNotExist);
    world.end().await;
}

/// The texts and commands that a device was shown, in order, once it was shown `last`.
async fn shown(device: &Device, last: &str) -> Vec<String> {
    let text = |message: &Message| match &message.body {
        Some(Body::Text(text)) => text.message.clone(),
        Some(Body::Command(command)) => String::from_utf8(command.message.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    let received = |seen: &[Event]| {
        let lists = seen.iter().filter_map(|event| match event {
            Event::GroupMessageReceived(event) => Some(&event.message_list),
            _ => None,
        });
        let texts: Vec<_> = lists.flatten().map(text).collect();
        texts.iter().any(|text| text == last).then_some(texts)
    };
    device.until("messages", received).await
}

#[tokio::test]
async fn send_message_command_reaches_those_who_are_members_then_and_keeps_its_place() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    let phone = world.device("ann").await;
    create(&ann, "crew", &["bob"]).await;
    members(&bob).await;
    let command = |text: &str| Message::command(text.as_bytes().to_vec());
    soon(ann.send_to(group("crew"), command("before"))).await.unwrap();
    soon(cai.join_group("crew")).await.unwrap();
    let calls: Vec<_> = (0..30)
        .map(|number: usize| {
            let text = number.to_string();
            ann.send_to(group("crew"), if number.is_multiple_of(3) { Message::text(text) } else { command(&text) })
        })
        .collect();
    for call in calls {
        let sent = soon(call).await.unwrap();
        assert_eq!(sent.message_seq == 0, sent.r#type() == MessageType::Command);
    }
    ann.say(group("crew"), "end").await;
    let all = |first: &[&str]| {
        let numbers = (0..30).map(|number| number.to_string());
        first.iter().map(|text| (*text).to_owned()).chain(numbers).chain(["end".to_owned()]).collect::<Vec<_>>()
    };
    for (device, first) in [(&bob, &["before"][..]), (&phone, &["before"]), (&cai, &[])] {
        assert_eq!(shown(device, "end").await, all(first));
    }
    assert_eq!(texts(&bob.history(group("crew")).await).len(), 11, "commands are not stored");
    bob.has_unread(group("crew"), 11).await;

    // Who was removed sends and gets none any more, also none that is sent right after the removal.
    let removal = ann.kick_group_members(["cai"], "crew");
    let (removal, sent) = (soon(removal), soon(ann.send_to(group("crew"), command("after"))));
    removal.await.unwrap();
    sent.await.unwrap();
    assert_eq!(
        refusal(soon(cai.send_to(group("crew"), command("?"))).await),
        ErrorCode::GroupModuleUserIsNotInTheGroup
    );
    shown(&bob, "after").await;
    create(&ann, "other", &["bob", "cai"]).await;
    soon(ann.send_to(group("other"), command("barrier"))).await.unwrap();
    assert!(!shown(&cai, "barrier").await.contains(&"after".to_owned()));
    soon(ann.dismiss_group("crew")).await.unwrap();
    let refused = refusal(soon(bob.send_to(group("crew"), command("?"))).await);
    assert_eq!(refused, ErrorCode::GroupModuleGroupDoesNotExist);
    world.end().await;
}

#[tokio::test]
async fn revoke_message_in_a_group_is_for_its_sender_and_those_above() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    create(&ann, "crew", &["bob", "cai"]).await;
    let (own, other) = (bob.say(group("crew"), "mine").await, bob.say(group("crew"), "rude").await);
    cai.receives("rude").await;
    cai.has_unread(group("crew"), 2).await;
    let late = world.user("dan").await;
    soon(late.join_group("crew")).await.unwrap();
    let not_allowed = ErrorCode::GroupModuleGroupNoCorrespondingOperationAuthority;
    assert_eq!(refusal(soon(cai.revoke_message(&own, MessageRevokeConfig::default())).await), not_allowed);
    // Somebody who joined later does not even know that it exists.
    let unknown = refusal(soon(late.revoke_message(&own, MessageRevokeConfig::default())).await);
    assert_eq!(unknown, ErrorCode::CommonModuleParamsInvalid);
    soon(bob.revoke_message(&own, MessageRevokeConfig::default())).await.unwrap();
    soon(ann.revoke_message(&other, MessageRevokeConfig::default())).await.unwrap();
    let statuses = [MessageRevokeStatus::SelfRevoke, MessageRevokeStatus::GroupOwnerRevoke];
    for status in statuses {
        match cai.next(EventKind::MessageRevokeReceived).await {
            Event::MessageRevokeReceived(event) => match &event.message_list[0].body {
                Some(Body::Revoke(revoke)) => assert_eq!(revoke.revoke_status(), status),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
    cai.has_unread(group("crew"), 0).await;
    bob.say(group("crew"), "after").await;
    late.receives("after").await;
    assert!(late.seen_of(EventKind::MessageRevokeReceived).is_empty());
    assert_eq!(late.history(group("crew")).await.len(), 1);
    // Somebody who has left is below everybody, and may do nothing.
    soon(bob.leave_group("crew")).await.unwrap();
    let left = cai.receives("after").await;
    let not_in = ErrorCode::GroupModuleUserIsNotInTheGroup;
    assert_eq!(refusal(soon(bob.revoke_message(&left, MessageRevokeConfig::default())).await), not_in);
    soon(ann.revoke_message(&left, MessageRevokeConfig::default())).await.unwrap();
    assert_eq!(late.next(EventKind::MessageRevokeReceived).await.kind(), EventKind::MessageRevokeReceived);
    // Bob's device keeps the text. A new device of Bob learns of the revocation and not of its content.
    let new = world.device("bob").await;
    let kinds: Vec<_> = new.history(group("crew")).await.iter().map(Message::r#type).collect();
    assert_eq!(kinds, [MessageType::Revoke, MessageType::Revoke, MessageType::Revoke]);
    world.end().await;
}

#[tokio::test]
async fn revoke_message_in_a_group_that_was_dismissed_is_refused() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    create(&ann, "crew", &[]).await;
    let sent = ann.say(group("crew"), "hi").await;
    soon(ann.dismiss_group("crew")).await.unwrap();
    let gone = ErrorCode::GroupModuleGroupDoesNotExist;
    assert_eq!(refusal(soon(ann.revoke_message(&sent, MessageRevokeConfig::default())).await), gone);
    let config = GroupMemberQueryConfig { next_flag: 0, count: 100 };
    assert_eq!(refusal(soon(ann.query_group_member_list("crew", config)).await), gone);
    world.end().await;
}
