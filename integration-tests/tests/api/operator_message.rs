//! Messages of the operator.

use tonic::{Code, Status};
use zim_client_sdk::MessageSendNotification;
use zim_integration_tests::{
    Device, OperatorClient, World, eventually, group, is_text, refusal, room, send_text, soon, texts,
};
use zim_protocol::{
    BroadcastMessageRequest, ConversationType, CreateAppRequest, ErrorCode, Event, EventKind, GroupMuteConfig,
    GroupMuteMode, LoginRequest, Message, MessageEditConfig, MessagePinConfig, MessageReactionAddConfig,
    MessageReceiptStatus, MessageReceivers, MessageSearchConfig, MessageSendConfig, MessageType,
    RevokeServerMessageRequest, SendServerMessageRequest, SendServerMessageToUsersRequest, event_frame, message::Body,
};

use super::group::create;
use super::room::create as create_room;

const PEER: ConversationType = ConversationType::Peer;
const GROUP: ConversationType = ConversationType::Group;

pub(crate) fn from(
    world: &World,
    user: &str,
    (kind, to): (ConversationType, &str),
    text: &str,
) -> SendServerMessageRequest {
    SendServerMessageRequest {
        app_id: world.app_id(),
        from_user_id: user.into(),
        to_conversation_id: to.into(),
        conversation_type: kind as i32,
        message: Some(Message::text(text)),
        ..SendServerMessageRequest::default()
    }
}

pub(crate) async fn send(operator: &mut OperatorClient, request: SendServerMessageRequest) -> Result<Message, Status> {
    Ok(soon(operator.send_server_message(request)).await?.into_inner().message.unwrap())
}

pub(crate) fn only(users: &[&str]) -> Option<MessageReceivers> {
    Some(MessageReceivers { user_ids: users.iter().map(|user| (*user).into()).collect(), is_except: false })
}

fn except(users: &[&str]) -> Option<MessageReceivers> {
    only(users).map(|receivers| MessageReceivers { is_except: true, ..receivers })
}

#[tokio::test]
async fn send_server_message_is_the_users_and_says_who_sent_it() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (phone, away) = (world.device("ann").await, world.device("bob").await);
    let dir = away.dir();
    away.quit().await;
    let mut operator = world.admin().await;
    let sent = send(&mut operator, from(&world, "ann", (PEER, "bob"), "hello")).await.unwrap();
    assert_eq!((sent.sender_user_id.as_str(), sent.conversation_id.as_str(), sent.message_seq), ("ann", "bob", 1));
    let away = world.user_at(dir, "bob").await;
    for device in [&ann, &phone, &bob, &away] {
        let got = device.receives("hello").await;
        assert!(got.is_server_message && !got.is_broadcast_message && !got.is_group_targeted_message);
        assert_eq!((got.message_id.as_str(), got.sender_user_id.as_str()), (sent.message_id.as_str(), "ann"));
    }
    bob.has_unread("ann", 1).await;
    assert!(
        bob.history("ann").await[0].is_server_message
            && world.device("ann").await.history("bob").await[0].is_server_message
    );
    // What the config says counts here, too.
    let config = MessageSendConfig {
        disable_unread_message_count: true,
        idempotency_key: "once".into(),
        has_receipt: true,
        ..MessageSendConfig::default()
    };
    for text in ["first", "second"] {
        let request = from(&world, "ann", (PEER, "bob"), text);
        let sent =
            send(&mut operator, SendServerMessageRequest { config: Some(config.clone()), ..request }).await.unwrap();
        assert_eq!((texts([&sent]), sent.message_seq), (vec!["first".to_owned()], 2));
    }
    assert_eq!(bob.receives("first").await.receipt_status(), MessageReceiptStatus::Processing);
    bob.has_unread("ann", 1).await;
    // The client's own messages have no mark.
    ann.say("bob", "own").await;
    assert!(!bob.receives("own").await.is_server_message);
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn send_server_message_does_not_do_what_the_user_may_not() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "crew", &["bob"]).await;
    let mut operator = world.admin().await;
    let mut code = async |request| send(&mut operator, request).await.unwrap_err().code();
    let hello = |user, to| from(&world, user, to, "hello");
    assert_eq!(code(hello("nobody", (PEER, "bob"))).await, Code::NotFound);
    assert_eq!(code(SendServerMessageRequest { app_id: 1, ..hello("ann", (PEER, "bob")) }).await, Code::NotFound);
    assert_eq!(code(hello("ann", (PEER, "nobody"))).await, Code::FailedPrecondition);
    assert_eq!(code(hello("ann", (PEER, "ann"))).await, Code::InvalidArgument);
    assert_eq!(code(hello("ann", (GROUP, "none"))).await, Code::FailedPrecondition);
    assert_eq!(code(hello("ann", (ConversationType::Room, "none"))).await, Code::FailedPrecondition);
    assert_eq!(code(hello("ann", (ConversationType::Unknown, "bob"))).await, Code::InvalidArgument);
    assert_eq!(code(from(&world, "ann", (PEER, "bob"), " ")).await, Code::InvalidArgument);
    assert_eq!(code(from(&world, "ann", (PEER, "bob"), &"x".repeat(32_769))).await, Code::InvalidArgument);
    let none = SendServerMessageRequest { message: None, ..hello("ann", (PEER, "bob")) };
    assert_eq!(code(none).await, Code::InvalidArgument);
    // Receivers are members of a group, without the sender, and at least one.
    let to_group = || hello("ann", (GROUP, "crew"));
    let peer = SendServerMessageRequest { receivers: only(&["bob"]), ..hello("ann", (PEER, "bob")) };
    assert_eq!(code(peer).await, Code::InvalidArgument);
    let many: Vec<String> = (0..101).map(|number| format!("user{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (receivers, expected) in [
        (only(&[]), Code::InvalidArgument),
        (only(&["ann"]), Code::InvalidArgument),
        (except(&["ann"]), Code::InvalidArgument),
        (only(&["nobody"]), Code::NotFound),
        (only(&many), Code::InvalidArgument),
    ] {
        assert_eq!(code(SendServerMessageRequest { receivers, ..to_group() }).await, expected);
    }
    let command = Some(Message::command(vec![1]));
    let command = SendServerMessageRequest { receivers: only(&["bob"]), message: command, ..to_group() };
    assert_eq!(code(command).await, Code::InvalidArgument);
    // A block and a mute hold, and so does the end of a membership.
    soon(bob.add_users_to_blacklist(["ann"])).await.unwrap();
    assert_eq!(code(hello("ann", (PEER, "bob"))).await, Code::FailedPrecondition);
    let mute = GroupMuteConfig { mode: Some(GroupMuteMode::All as i32), duration: Some(-1), roles: Vec::new() };
    soon(ann.mute_group(true, "crew", mute)).await.unwrap();
    assert_eq!(code(hello("bob", (GROUP, "crew"))).await, Code::FailedPrecondition);
    soon(bob.leave_group("crew")).await.unwrap();
    assert_eq!(code(hello("bob", (GROUP, "crew"))).await, Code::FailedPrecondition);
    drop(operator);
    world.end().await;
}

/// Who sees it, gets it at once, after being away, and on a new device; others get a position without a message.
#[tokio::test]
async fn send_server_message_is_for_some_members_of_a_group() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    let (bobs, cais) = (world.device("bob").await, world.device("cai").await);
    create(&ann, "crew", &["bob", "cai"]).await;
    ann.say(group("crew"), "all 1").await;
    for device in [&bob, &cai, &bobs, &cais] {
        device.receives("all 1").await;
    }
    let dirs = [bobs.dir(), cais.dir()];
    for device in [bobs, cais] {
        device.quit().await;
    }
    let mut operator = world.admin().await;
    for (text, receivers) in [("for bob", only(&["bob", "bob"])), ("not for bob", except(&["bob"]))] {
        let config = MessageSendConfig { has_receipt: true, ..MessageSendConfig::default() };
        let request = from(&world, "ann", (GROUP, "crew"), text);
        let request = SendServerMessageRequest { receivers, config: Some(config), ..request };
        let sent = send(&mut operator, request).await.unwrap();
        assert!(sent.is_group_targeted_message && sent.is_server_message);
        assert_eq!(sent.receipt_status(), MessageReceiptStatus::None, "it asks for no receipt");
    }
    // The others' last message is an earlier one.
    let last = async |device: &Device| texts(&device.conversation(group("crew")).await.last_message);
    assert!(bob.receives("for bob").await.is_group_targeted_message);
    assert!(cai.receives("not for bob").await.is_group_targeted_message);
    eventually("the last messages", async || {
        (last(&bob).await == ["for bob"] && last(&cai).await == ["not for bob"]).then_some(())
    })
    .await;
    ann.say(group("crew"), "all 2").await;
    let [bobs, cais] = dirs;
    let (bobs, cais) = (world.user_at(bobs, "bob").await, world.user_at(cais, "cai").await);
    let new = (world.device("bob").await, world.device("cai").await);
    let everything = ["all 1", "for bob", "not for bob", "all 2"];
    for (device, expected, unread) in [
        (&ann, &everything[..], 0),
        (&bob, &["all 1", "for bob", "all 2"], 2),
        (&bobs, &["all 1", "for bob", "all 2"], 2),
        (&new.0, &["all 1", "for bob", "all 2"], 2),
        (&cai, &["all 1", "not for bob", "all 2"], 2),
        (&cais, &["all 1", "not for bob", "all 2"], 2),
        (&new.1, &["all 1", "not for bob", "all 2"], 2),
    ] {
        if device.user_id().as_deref() != Some("ann") {
            device.receives("all 2").await;
        }
        let history = device.history(group("crew")).await;
        assert_eq!(texts(&history), expected, "{:?}", device.user_id());
        for message in &history {
            let is_for_some = is_text(message, "for bob") || is_text(message, "not for bob");
            assert_eq!(message.is_group_targeted_message, is_for_some, "{message:?}");
        }
        device.has_unread(group("crew"), unread).await;
        let config = MessageSearchConfig { keywords: vec!["bob".into()], ..MessageSearchConfig::default() };
        let found = soon(device.search_local_messages("crew", GROUP, config)).await.unwrap().message_list;
        let expected = expected.iter().filter(|text| text.contains("bob")).count();
        assert_eq!(found.len(), expected, "{:?}", device.user_id());
        let heard = device.seen_of(EventKind::GroupMessageReceived);
        let heard = heard.iter().flat_map(|event| match event {
            Event::GroupMessageReceived(event) => texts(&event.message_list),
            other => panic!("{other:?}"),
        });
        let foreign = if device.user_id().as_deref() == Some("cai") { "for bob" } else { "not for bob" };
        assert!(device.user_id().as_deref() == Some("ann") || heard.into_iter().all(|text| text != foreign));
    }
    // By its number it is found only by those who see it.
    let found =
        async |device: &Device| soon(device.query_messages(&[2, 3], "crew", GROUP)).await.unwrap().message_list.len();
    assert_eq!((found(&ann).await, found(&new.0).await, found(&new.1).await), (2, 1, 1));
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn send_server_message_for_some_takes_no_reply_no_reaction_no_edit_and_no_pin() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    create(&ann, "crew", &["bob", "cai"]).await;
    let mut operator = world.admin().await;
    let request =
        SendServerMessageRequest { receivers: only(&["bob"]), ..from(&world, "ann", (GROUP, "crew"), "psst") };
    let sent = send(&mut operator, request).await.unwrap();
    let (of_ann, of_bob) = (ann.receives("psst").await, bob.receives("psst").await);
    let invalid = ErrorCode::CommonModuleParamsInvalid;
    let (config, told) = (MessageSendConfig::default(), MessageSendNotification::default());
    let reply = bob.reply_message(Message::text("what?"), &of_bob, config, told);
    assert_eq!(refusal(soon(reply).await), invalid);
    let reaction = bob.add_message_reaction("like", &of_bob, MessageReactionAddConfig::default());
    assert_eq!(refusal(soon(reaction).await), invalid);
    assert_eq!(refusal(soon(ann.pin_message(&of_ann, true, MessagePinConfig::default())).await), invalid);
    let edited = Message { body: Message::text("louder").body, ..of_ann.clone() };
    assert_eq!(refusal(soon(ann.edit_message(&edited, MessageEditConfig {})).await), invalid);
    let receipt = soon(bob.send_message_receipts_read(std::slice::from_ref(&of_bob), "crew", GROUP)).await;
    assert_eq!(refusal(receipt), ErrorCode::MessageModuleReceiptReadError);
    // For one who does not see it, it is not there.
    let unseen = Message { message_id: sent.message_id.clone(), ..of_bob };
    let reaction = cai.add_message_reaction("like", &unseen, MessageReactionAddConfig::default());
    assert_eq!(refusal(soon(reaction).await), invalid);
    // It is revoked for those who saw it, and the others hear nothing of that.
    let revoke = RevokeServerMessageRequest {
        app_id: world.app_id(),
        user_id: "bob".into(),
        conversation_id: "crew".into(),
        conversation_type: GROUP as i32,
        message_seq: sent.message_seq,
        ..RevokeServerMessageRequest::default()
    };
    let foreign = RevokeServerMessageRequest { user_id: "cai".into(), ..revoke.clone() };
    assert_eq!(soon(operator.revoke_server_message(foreign)).await.unwrap_err().code(), Code::InvalidArgument);
    soon(operator.revoke_server_message(revoke)).await.unwrap();
    for device in [&ann, &bob] {
        device.next(EventKind::MessageRevokeReceived).await;
    }
    ann.say(group("crew"), "next").await;
    cai.receives("next").await;
    let new = world.device("cai").await;
    for device in [&cai, &new] {
        assert!(device.seen_of(EventKind::MessageRevokeReceived).is_empty());
        assert_eq!(texts(&device.history(group("crew")).await), ["next"]);
    }
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn send_server_message_reaches_a_room_that_the_sender_is_not_in() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create_room(&ann, "stage").await;
    soon(bob.join_room("stage")).await.unwrap();
    let _host = world.user("host").await;
    let mut operator = world.admin().await;
    let request = from(&world, "host", (ConversationType::Room, "stage"), "welcome");
    let sent = send(&mut operator, request).await.unwrap();
    assert_eq!((sent.conversation_id.as_str(), sent.sender_user_id.as_str()), ("stage", "host"));
    for device in [&ann, &bob] {
        assert!(device.receives("welcome").await.is_server_message);
    }
    // A client still has to be in the room.
    let own = soon(_host.send_to(room("stage"), Message::text("hi"))).await;
    assert_eq!(refusal(own), ErrorCode::MessageModuleSendMessageFailed);
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn broadcast_message_reaches_everybody_who_is_online_in_the_app() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (phone, away) = (world.device("bob").await, world.user("cai").await);
    let dir = away.dir();
    away.quit().await;
    let mut operator = world.admin().await;
    // A user of another app.
    let other = CreateAppRequest { app_id: 77, name: String::new() };
    let other = soon(operator.create_app(other)).await.unwrap().into_inner();
    let (mut stranger, mut friend) = (world.raw_after_hello(8).await, world.raw_after_hello(9).await);
    for (raw, user) in [(&mut stranger, "ann"), (&mut friend, "eve")] {
        let app_sign = other.app_sign.clone();
        raw.call(&LoginRequest { app_id: 77, app_sign, ..world.login_request(user) }).await.unwrap();
    }
    let request = |text: &str| BroadcastMessageRequest {
        app_id: world.app_id(),
        from_user_id: "ann".into(),
        message: Some(Message { extended_data: "x".into(), ..Message::text(text) }),
        priority: 0,
    };
    let sent = soon(operator.broadcast_message(request("fire drill"))).await.unwrap().into_inner();
    for device in [&ann, &bob, &phone] {
        let Event::BroadcastMessageReceived(event) = device.next(EventKind::BroadcastMessageReceived).await else {
            panic!("another event")
        };
        let message = event.message.unwrap();
        assert!(message.is_broadcast_message && message.is_server_message);
        assert_eq!((&message.message_id, texts([&message])), (&sent.message_id, vec!["fire drill".to_owned()]));
        assert_eq!((message.sender_user_id.as_str(), message.extended_data.as_str()), ("ann", "x"));
        assert_eq!((message.message_seq, message.conversation_id.as_str()), (0, ""));
        // It is in no conversation, and nothing can be done with it.
        assert!(device.conversations().await.is_empty());
        let reaction = device.add_message_reaction("like", &message, MessageReactionAddConfig::default());
        assert_eq!(refusal(soon(reaction).await), ErrorCode::CommonModuleParamsInvalid);
    }
    // Who was away does not get it later.
    let away = world.user_at(dir, "cai").await;
    soon(operator.broadcast_message(request("all clear"))).await.unwrap();
    let Event::BroadcastMessageReceived(event) = away.next(EventKind::BroadcastMessageReceived).await else {
        panic!("another event")
    };
    assert_eq!(texts(&event.message), ["all clear"]);
    // The first that the stranger hears of is a message in their app.
    friend.call(&send_text("ann", "hi", 1)).await.unwrap();
    let first = soon(stranger.event()).await.unwrap();
    assert!(matches!(first, event_frame::Frame::Push(_)), "{first:?}");
    stranger.end().await;
    friend.end().await;
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn broadcast_message_takes_what_can_be_shown() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let mut operator = world.admin().await;
    let request = |message: Message| BroadcastMessageRequest {
        app_id: world.app_id(),
        from_user_id: "ann".into(),
        message: Some(message),
        priority: 0,
    };
    let mut code = async |request| soon(operator.broadcast_message(request)).await.unwrap_err().code();
    for bad in [Message::command(vec![1]), Message::default(), Message::text("x".repeat(32_769))] {
        assert_eq!(code(request(bad)).await, Code::InvalidArgument);
    }
    let barrage = zim_protocol::BarrageMessage { message: "x".into() };
    let barrage = Message { body: Some(Body::Barrage(barrage)), ..Message::default() };
    assert_eq!(code(request(barrage)).await, Code::InvalidArgument);
    let nobody = BroadcastMessageRequest { from_user_id: "nobody".into(), ..request(Message::text("x")) };
    assert_eq!(code(nobody).await, Code::NotFound);
    let bad = BroadcastMessageRequest { priority: 9, ..request(Message::text("x")) };
    assert_eq!(code(bad).await, Code::InvalidArgument);
    soon(operator.broadcast_message(request(Message::custom("{}", 7)))).await.unwrap();
    let Event::BroadcastMessageReceived(event) = ann.next(EventKind::BroadcastMessageReceived).await else {
        panic!("another event")
    };
    assert_eq!(event.message.unwrap().r#type(), MessageType::Custom);
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn send_server_message_to_users_says_what_became_of_each() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    let mut operator = world.admin().await;
    soon(cai.add_users_to_blacklist(["ann"])).await.unwrap();
    let request = |users: &[&str]| SendServerMessageToUsersRequest {
        app_id: world.app_id(),
        from_user_id: "ann".into(),
        to_user_ids: users.iter().map(|user| (*user).into()).collect(),
        message: Some(Message::text("hello")),
        config: Some(MessageSendConfig { idempotency_key: "once".into(), ..MessageSendConfig::default() }),
        sender_unaware: false,
    };
    for _ in 0..2 {
        let users = request(&["bob", "nobody", "ann", "bob", "cai"]);
        let outcomes = soon(operator.send_server_message_to_users(users)).await.unwrap().into_inner().outcomes;
        let codes: Vec<_> = outcomes.iter().map(|it| (it.user_id.as_str(), it.code)).collect();
        let expected = [
            ("bob", 0),
            ("nobody", ErrorCode::MessageModuleTargetDoesNotExist as i32),
            ("ann", ErrorCode::CommonModuleParamsInvalid as i32),
            ("cai", ErrorCode::MessageModuleSenderInBlacklist as i32),
        ];
        assert_eq!(codes, expected);
        let got = bob.receives("hello").await;
        let sent = (got.message_id, got.message_seq, String::new());
        assert_eq!((outcomes[0].message_id.clone(), outcomes[0].message_seq, outcomes[0].error.clone()), sent);
        assert!(outcomes[1].message_id.is_empty() && outcomes[1].error.contains("nobody"), "{outcomes:?}");
    }
    assert!(ann.receives("hello").await.is_server_message);
    assert_eq!((bob.history("ann").await.len(), cai.history("ann").await.len()), (1, 0));
    // 500 are taken, and one more is not.
    let many: Vec<String> = (0..500).map(|number| format!("user{number}")).collect();
    let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
    let outcomes = soon(operator.send_server_message_to_users(request(&many))).await.unwrap().into_inner().outcomes;
    assert_eq!((outcomes.len(), outcomes[499].user_id.as_str()), (500, "user499"));
    many.push("bob");
    for (bad, code) in [
        (request(&many), Code::InvalidArgument),
        (request(&[]), Code::InvalidArgument),
        (request(&["a b"]), Code::InvalidArgument),
        (SendServerMessageToUsersRequest { from_user_id: "nobody".into(), ..request(&["bob"]) }, Code::NotFound),
        (SendServerMessageToUsersRequest { app_id: 1, ..request(&["bob"]) }, Code::NotFound),
        (SendServerMessageToUsersRequest { message: None, ..request(&["bob"]) }, Code::InvalidArgument),
        // What can be sent to nobody fails as a whole.
        (
            SendServerMessageToUsersRequest { message: Some(Message::text("x".repeat(32_769))), ..request(&["bob"]) },
            Code::InvalidArgument,
        ),
    ] {
        let refused = soon(operator.send_server_message_to_users(bad)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
    drop(operator);
    world.end().await;
}
