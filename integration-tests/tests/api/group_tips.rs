//! Tips of groups, and what new members see of the time before they came. Both are settings, and off by default.

use zim_client_sdk::MessageSendNotification;
use zim_integration_tests::{Device, World, group, refusal, soon, texts};
use zim_protocol::message::Body;
use zim_protocol::tips_message_change_info::Body as Changed;
use zim_protocol::{
    ConversationRef, ConversationType, ErrorCode, Event, EventKind, GroupAdvancedConfig, GroupBeInviteMode,
    GroupJoinMode, GroupMemberMuteConfig, GroupMessageReceiptMemberQueryConfig, GroupMuteConfig, GroupMuteMode,
    JoinGroupRequest, LeaveGroupRequest, Message, MessageDeleteConfig, MessageEditConfig, MessagePinConfig,
    MessageReactionAddConfig, MessageRevokeConfig, MessageSendConfig, MessageType, PullRequest, TipsMessage,
    TipsMessageChangeInfoType as Kind, TipsMessageEvent,
};

use crate::group::{create, members};

/// The tips among messages, oldest first: the event, who did it, and to whom.
fn tips(messages: &[Message]) -> Vec<(TipsMessageEvent, String, Vec<String>)> {
    let tip = |message: &Message| match &message.body {
        Some(Body::Tips(tip)) => {
            use TipsMessageEvent as Tip;
            assert_eq!(message.r#type(), MessageType::Tips);
            let changes = [Tip::GroupInfoChanged, Tip::GroupMemberInfoChanged, Tip::GroupMessagePinned];
            assert_eq!(tip.change_info.is_some(), changes.contains(&tip.event()), "{tip:?}");
            let targets = tip.target_user_list.iter().map(|user| user.user_id.clone()).collect();
            Some((tip.event(), tip.operated_user.clone().unwrap().user_id, targets))
        }
        _ => None,
    };
    messages.iter().filter_map(tip).collect()
}

fn tip(event: TipsMessageEvent, actor: &str, targets: &[&str]) -> (TipsMessageEvent, String, Vec<String>) {
    (event, actor.to_owned(), targets.iter().map(|user| (*user).to_owned()).collect())
}

/// What the last tip says has changed: the type of the change, and what is new.
fn changed(messages: &[Message]) -> (Kind, Changed) {
    let tip: &TipsMessage = messages
        .iter()
        .rev()
        .find_map(|message| match &message.body {
            Some(Body::Tips(tip)) => Some(&**tip),
            _ => None,
        })
        .unwrap();
    let change = tip.change_info.clone().unwrap();
    (change.r#type(), change.body.unwrap())
}

/// Waits until a device has the same number of tips in its history; returns the history.
async fn history(device: &Device, count: usize) -> Vec<Message> {
    zim_integration_tests::eventually("the tips", async || {
        let history = device.history(group("crew")).await;
        (tips(&history).len() == count).then_some(history)
    })
    .await
}

#[tokio::test]
async fn tips_say_what_happened_to_a_group() {
    use TipsMessageEvent as Tip;
    let world = World::with(|config| config.groups.tips = true).await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    create(&ann, "crew", &["bob"]).await;
    let said = ann.say(group("crew"), "hi").await;
    let mut expected = vec![tip(Tip::GroupCreated, "ann", &["bob"])];
    for device in [&ann, &bob] {
        assert_eq!(tips(&history(device, 1).await), expected);
    }
    let created = &history(&bob, 1).await[..1];
    for is_also_delete_server_message in [Some(true), Some(false)] {
        let config = MessageDeleteConfig { is_also_delete_server_message };
        let refused = soon(bob.delete_messages(created, "crew", ConversationType::Group, config)).await;
        assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid, "a tip is not deleted by itself");
    }
    soon(cai.join_group("crew")).await.unwrap();
    expected.push(tip(Tip::GroupJoined, "cai", &["cai"]));
    // Whoever comes sees the tip of their own entrance, and nothing of before.
    assert_eq!(tips(&history(&cai, 1).await), expected[1..]);

    soon(ann.update_group_name("Crew", "crew")).await.unwrap();
    expected.push(tip(Tip::GroupInfoChanged, "ann", &[]));
    match changed(&history(&bob, 3).await) {
        (Kind::GroupNameChanged, Changed::Group(change)) => assert_eq!(change.group_name, "Crew"),
        other => panic!("{other:?}"),
    }
    soon(ann.update_group_notice("be kind", "crew")).await.unwrap();
    expected.push(tip(Tip::GroupInfoChanged, "ann", &[]));
    match changed(&history(&bob, 4).await) {
        (Kind::GroupNoticeChanged, Changed::Group(change)) => assert_eq!(change.group_notice, "be kind"),
        other => panic!("{other:?}"),
    }
    // What stays the same is no change.
    soon(ann.update_group_avatar_url("a.png", "crew")).await.unwrap();
    soon(ann.update_group_avatar_url("b.png", "crew")).await.unwrap();
    expected.push(tip(Tip::GroupInfoChanged, "ann", &[]));
    match changed(&history(&bob, 5).await) {
        (Kind::GroupAvatarUrlChanged, Changed::Group(change)) => assert_eq!(change.group_avatar_url, "b.png"),
        other => panic!("{other:?}"),
    }
    let some = GroupMuteConfig { mode: Some(GroupMuteMode::Custom as i32), duration: Some(60), roles: vec![7] };
    soon(ann.mute_group(true, "crew", some)).await.unwrap();
    expected.push(tip(Tip::GroupInfoChanged, "ann", &[]));
    match changed(&history(&bob, 6).await) {
        (Kind::GroupMuteChanged, Changed::Group(change)) => assert_eq!(change.group_muted_info.unwrap().roles, [7]),
        other => panic!("{other:?}"),
    }
    soon(ann.set_group_member_role(2, "bob", "crew")).await.unwrap();
    expected.push(tip(Tip::GroupMemberInfoChanged, "ann", &["bob"]));
    match changed(&history(&bob, 7).await) {
        (Kind::GroupMemberRoleChanged, Changed::GroupMember(change)) => assert_eq!(change.member_role, 2),
        other => panic!("{other:?}"),
    }
    soon(ann.mute_group_members(true, ["cai"], "crew", GroupMemberMuteConfig { duration: 60 })).await.unwrap();
    expected.push(tip(Tip::GroupMemberInfoChanged, "ann", &["cai"]));
    match changed(&history(&bob, 8).await) {
        (Kind::GroupMemberMuteChanged, Changed::GroupMember(change)) => {
            assert_eq!(change.mute_expired_time, world.clock.now_ms() + 60_000);
        }
        other => panic!("{other:?}"),
    }
    soon(bob.pin_message(&said, true, MessagePinConfig::default())).await.unwrap();
    expected.push(tip(Tip::GroupMessagePinned, "bob", &[]));
    match changed(&history(&bob, 9).await) {
        (Kind::GroupMessagePinInfoChanged, Changed::PinStatus(change)) => assert!(change.is_pinned),
        other => panic!("{other:?}"),
    }
    soon(bob.pin_message(&said, false, MessagePinConfig::default())).await.unwrap();
    expected.push(tip(Tip::GroupMessagePinned, "bob", &[]));
    match changed(&history(&bob, 10).await) {
        (Kind::GroupMessagePinInfoChanged, Changed::PinStatus(change)) => assert!(!change.is_pinned),
        other => panic!("{other:?}"),
    }
    soon(ann.kick_group_members(["cai"], "crew")).await.unwrap();
    expected.push(tip(Tip::GroupKickedOut, "ann", &["cai"]));
    soon(bob.invite_users_into_group(["cai"], "crew")).await.unwrap();
    expected.push(tip(Tip::GroupInvited, "bob", &["cai"]));
    soon(ann.transfer_group_owner("bob", "crew")).await.unwrap();
    expected.push(tip(Tip::GroupMemberInfoChanged, "ann", &["bob"]));
    match changed(&history(&ann, 13).await) {
        (Kind::GroupOwnerTransferred, Changed::GroupMember(change)) => {
            assert_eq!(change.group_new_owner.unwrap().user_id, "bob");
        }
        other => panic!("{other:?}"),
    }
    // The one who leaves does not see that they have left, and the group has another owner.
    soon(bob.leave_group("crew")).await.unwrap();
    expected.push(tip(Tip::GroupLeft, "bob", &["bob"]));
    expected.push(tip(Tip::GroupMemberInfoChanged, "bob", &["ann"]));
    assert_eq!(tips(&history(&bob, 13).await), expected[..13]);
    match changed(&history(&ann, 15).await) {
        (Kind::GroupOwnerTransferred, Changed::GroupMember(change)) => {
            assert_eq!(change.group_new_owner.unwrap().user_id, "ann");
        }
        other => panic!("{other:?}"),
    }
    // Modes, attributes, nicknames and aliases change without a tip.
    soon(ann.update_group_join_mode(GroupJoinMode::Forbid, "crew")).await.unwrap();
    soon(ann.set_group_attributes([("a".to_owned(), "1".to_owned())].into(), "crew")).await.unwrap();
    soon(ann.set_group_member_nickname("Captain", "ann", "crew")).await.unwrap();
    soon(ann.update_group_alias("pals", "crew")).await.unwrap();
    soon(ann.dismiss_group("crew")).await.unwrap();
    expected.push(tip(Tip::GroupDismissed, "ann", &[]));
    assert_eq!(tips(&history(&ann, 16).await), expected);
    // Cai has not seen that they were removed.
    assert_eq!(tips(&history(&cai, 14).await), [&expected[1..10], &expected[11..]].concat());
    // Another device has the same, and so has one that was away.
    assert_eq!(tips(&history(&world.device("ann").await, 16).await), expected);
    world.end().await;
}

#[tokio::test]
async fn tips_of_applications_say_who_came_and_who_asked_them_to() {
    use TipsMessageEvent as Tip;
    let world = World::with(|config| config.groups.tips = true).await;
    let (ann, cai, dan, eve) =
        (world.user("ann").await, world.user("cai").await, world.user("dan").await, world.user("eve").await);
    let config = GroupAdvancedConfig {
        join_mode: GroupJoinMode::Auth as i32,
        be_invite_mode: GroupBeInviteMode::Auth as i32,
        ..GroupAdvancedConfig::default()
    };
    soon(ann.create_group(crate::group::info("crew"), [""; 0], config)).await.unwrap();
    // Those who do not come leave no tip.
    soon(cai.send_group_join_application("crew", Default::default())).await.unwrap();
    soon(ann.reject_group_join_application("cai", "crew", Default::default())).await.unwrap();
    soon(ann.send_group_invite_applications(["cai"], "crew", Default::default())).await.unwrap();
    soon(cai.reject_group_invite_application("ann", "crew", Default::default())).await.unwrap();
    soon(dan.send_group_join_application("crew", Default::default())).await.unwrap();
    soon(ann.accept_group_join_application("dan", "crew", Default::default())).await.unwrap();
    soon(ann.send_group_invite_applications(["eve"], "crew", Default::default())).await.unwrap();
    soon(eve.accept_group_invite_application("ann", "crew", Default::default())).await.unwrap();
    let expected = [
        tip(Tip::GroupCreated, "ann", &[]),
        tip(Tip::GroupJoined, "dan", &["dan"]),
        tip(Tip::GroupInvited, "ann", &["eve"]),
    ];
    assert_eq!(tips(&history(&ann, 3).await), expected);
    assert_eq!(tips(&history(&dan, 2).await), expected[1..]);
    assert_eq!(tips(&history(&eve, 1).await), expected[2..]);
    world.end().await;
}

#[tokio::test]
async fn a_tip_is_no_message_of_a_user() {
    let world = World::with(|config| config.groups.tips = true).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "crew", &["bob"]).await;
    let tip = history(&ann, 1).await.remove(0);
    assert_eq!(tips(std::slice::from_ref(&tip)).len(), 1);
    // It is received as a message, is the last one of the conversation, and does not count as unread.
    match bob.next(EventKind::GroupMessageReceived).await {
        Event::GroupMessageReceived(event) => assert_eq!(event.message_list[0].r#type(), MessageType::Tips),
        other => panic!("{other:?}"),
    }
    let conversation = bob.conversation(group("crew")).await;
    assert_eq!(
        (conversation.unread_message_count, conversation.last_message.unwrap().r#type()),
        (0, MessageType::Tips)
    );
    // Nobody does to it what one does to messages, not even its operator.
    let invalid = ErrorCode::CommonModuleParamsInvalid;
    assert_eq!(refusal(soon(ann.revoke_message(&tip, MessageRevokeConfig::default())).await), invalid);
    assert_eq!(refusal(soon(ann.pin_message(&tip, true, MessagePinConfig::default())).await), invalid);
    let reaction = ann.add_message_reaction("+1", &tip, MessageReactionAddConfig::default());
    assert_eq!(refusal(soon(reaction).await), invalid);
    let reply =
        ann.reply_message(Message::text("?"), &tip, MessageSendConfig::default(), MessageSendNotification::default());
    assert_eq!(refusal(soon(reply).await), invalid);
    let server = MessageDeleteConfig { is_also_delete_server_message: Some(true) };
    let deletion = ann.delete_messages(std::slice::from_ref(&tip), "crew", ConversationType::Group, server);
    assert_eq!(refusal(soon(deletion).await), invalid);
    // Nobody sends one.
    let forged = Message { body: tip.body.clone(), ..Message::default() };
    assert_eq!(refusal(soon(ann.send_to(group("crew"), forged)).await), invalid);
    world.end().await;
}

#[tokio::test]
async fn without_the_setting_there_are_no_tips() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "crew", &["bob"]).await;
    soon(ann.update_group_name("Crew", "crew")).await.unwrap();
    ann.say(group("crew"), "hi").await;
    bob.receives("hi").await;
    assert_eq!(texts(&bob.history(group("crew")).await), ["hi"]);
    world.end().await;
}

#[tokio::test]
async fn new_members_see_what_was_before_if_the_setting_says_so() {
    let world = World::with(|config| config.groups.history_for_new_members = true).await;
    let (ann, cai) = (world.user("ann").await, world.user("cai").await);
    create(&ann, "crew", &[]).await;
    let one = ann.say(group("crew"), "one").await;
    ann.say(group("crew"), "two").await;
    soon(ann.add_message_reaction("+1", &one, MessageReactionAddConfig::default())).await.unwrap();
    soon(cai.join_group("crew")).await.unwrap();
    assert_eq!(members(&cai).await.1, ["cai"]);
    ann.say(group("crew"), "three").await;
    cai.receives("three").await;
    let laptop = world.device("cai").await;
    for device in [&cai, &laptop] {
        device.has_unread(group("crew"), 1).await;
        let history = device.history(group("crew")).await;
        assert_eq!(texts(&history), ["one", "two", "three"]);
        assert_eq!(history[0].reactions.len(), 1);
    }
    // What was before they came is history, and raises nothing.
    let received = |event: &Event| match event {
        Event::GroupMessageReceived(event) => texts(&event.message_list),
        _ => Vec::new(),
    };
    let all: Vec<String> = cai.seen().iter().flat_map(received).collect();
    assert_eq!(all, ["three"]);
    // Whoever returns sees what was said meanwhile, once.
    soon(cai.leave_group("crew")).await.unwrap();
    ann.say(group("crew"), "four").await;
    soon(ann.revoke_message(&one, MessageRevokeConfig::default())).await.unwrap();
    soon(ann.invite_users_into_group(["cai"], "crew")).await.unwrap();
    ann.say(group("crew"), "five").await;
    cai.receives("five").await;
    for device in [&cai, &laptop, &world.device("cai").await] {
        device.has_unread(group("crew"), 1).await;
        zim_integration_tests::eventually("the whole history", async || {
            let history = device.history(group("crew")).await;
            (texts(&history) == ["type 31", "two", "three", "four", "five"]).then_some(())
        })
        .await;
    }
    // That was history as well.
    let all: Vec<String> = cai.seen().iter().flat_map(received).collect();
    assert_eq!(all, ["three", "five"]);
    world.end().await;
}

/// A device may pull before it knows the head.
#[tokio::test]
async fn a_pull_says_where_the_user_entered_if_they_see_what_was_before() {
    let world = World::with(|config| config.groups.history_for_new_members = true).await;
    let (ann, mut cai) = (world.user("ann").await, world.raw_user("cai", 1).await);
    create(&ann, "crew", &[]).await;
    let (join, leave) = (JoinGroupRequest { group_id: "crew".into() }, LeaveGroupRequest { group_id: "crew".into() });
    let conversation = Some(ConversationRef { r#type: ConversationType::Group as i32, id: "crew".into() });
    let pull = PullRequest { conversation, ..PullRequest::default() };
    for (said, history) in [(Some("one"), (1, 2)), (Some("two"), (2, 3)), (None, (0, 0))] {
        if let Some(said) = said {
            ann.say(group("crew"), said).await;
        }
        cai.call(&join).await.unwrap();
        let page = cai.call(&pull).await.unwrap();
        assert_eq!((page.history_from, page.entered_seq), history, "{said:?}");
        cai.call(&leave).await.unwrap();
    }
    cai.end().await;
    world.end().await;
}

/// Whoever returns sees what a newcomer sees.
#[tokio::test]
async fn whoever_returns_sees_what_messages_became_meanwhile_if_the_setting_says_so() {
    let world = World::with(|config| config.groups.history_for_new_members = true).await;
    let (ann, cai, dan) = (world.user("ann").await, world.user("cai").await, world.user("dan").await);
    create(&ann, "crew", &["cai"]).await;
    let one = ann.say(group("crew"), "one").await;
    cai.receives("one").await;
    soon(cai.leave_group("crew")).await.unwrap();
    let edited = Message { body: Message::text("uno").body, ..one };
    soon(ann.edit_message(&edited, MessageEditConfig {})).await.unwrap();
    soon(cai.join_group("crew")).await.unwrap();
    soon(dan.join_group("crew")).await.unwrap();
    for device in [&cai, &world.device("cai").await, &dan] {
        zim_integration_tests::eventually("what became of it", async || {
            (texts(&device.history(group("crew")).await) == ["uno"]).then_some(())
        })
        .await;
    }
    // That stays theirs after they have left again, and what comes then is not.
    soon(cai.leave_group("crew")).await.unwrap();
    assert_eq!(texts(&world.device("cai").await.history(group("crew")).await), ["uno"]);
    let edited = Message { body: Message::text("secret").body, ..edited };
    soon(ann.edit_message(&edited, MessageEditConfig {})).await.unwrap();
    assert_eq!(texts(&world.device("cai").await.history(group("crew")).await), [""]);
    world.end().await;
}

#[tokio::test]
async fn nobody_waits_for_the_receipts_of_those_who_came_later() {
    let world = World::with(|config| config.groups.history_for_new_members = true).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "crew", &["bob"]).await;
    let config = MessageSendConfig { has_receipt: true, ..MessageSendConfig::default() };
    let (text, notification) = (Message::text("read me"), MessageSendNotification::default());
    let sent = ann.send_message(text, "crew", ConversationType::Group, config, notification);
    let sent = soon(sent).await.unwrap().message.unwrap();
    let cai = world.user("cai").await;
    soon(cai.join_group("crew")).await.unwrap();
    let seen = cai.history(group("crew")).await.remove(0);
    assert_eq!(seen.message_id, sent.message_id);
    let receipt = async |device: &Device| {
        let group = ConversationType::Group;
        soon(device.send_message_receipts_read(std::slice::from_ref(&sent), "crew", group)).await
    };
    // Nor of those who have left and returned since.
    for _ in 0..2 {
        assert_eq!(refusal(receipt(&cai).await), ErrorCode::MessageModuleReceiptReadError);
        soon(cai.leave_group("crew")).await.unwrap();
        soon(cai.join_group("crew")).await.unwrap();
    }
    let counts = async || {
        let infos = soon(ann.query_message_receipts_info(std::slice::from_ref(&sent), "crew", ConversationType::Group));
        let info = infos.await.unwrap().infos.remove(0);
        (info.read_member_count, info.unread_member_count)
    };
    assert_eq!(counts().await, (0, 1));
    let config = GroupMessageReceiptMemberQueryConfig { next_flag: 0, count: 10 };
    let unread = soon(ann.query_group_message_receipt_unread_member_list(&sent, "crew", config)).await.unwrap();
    assert_eq!(unread.user_list.iter().map(|user| user.user_id.as_str()).collect::<Vec<_>>(), ["bob"]);
    receipt(&bob).await.unwrap();
    assert_eq!(counts().await, (1, 0));
    world.end().await;
}
