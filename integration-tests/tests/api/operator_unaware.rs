//! Messages of the operator that their sender does not learn of.

use tonic::Code;
use zim_integration_tests::{Device, World, eventually, group, soon, texts};
use zim_protocol::{
    ConversationType, EditServerMessageRequest, Event, EventKind, Message, MessageReactionAddConfig,
    MessageRepliedInfo, MessageSendConfig, RevokeServerMessageRequest, SendServerMessageRequest,
    SendServerMessageToUsersRequest,
};

use super::group::create;
use super::operator_message::{from, only, send};
use super::room::create as create_room;

const PEER: ConversationType = ConversationType::Peer;
const GROUP: ConversationType = ConversationType::Group;

fn unaware(world: &World, to: (ConversationType, &str), text: &str) -> SendServerMessageRequest {
    SendServerMessageRequest { sender_unaware: true, ..from(world, "ann", to, text) }
}

/// The conversations that a device was told of.
fn told_of(device: &Device) -> Vec<String> {
    let told = device.seen_of(EventKind::ConversationChanged);
    let names = told.iter().flat_map(|event| match event {
        Event::ConversationChanged(event) => event.info_list.clone(),
        other => panic!("{other:?}"),
    });
    names.filter_map(|info| info.conversation).map(|it| it.conversation_id).collect()
}

/// No device of the sender has it, whether it was there, away, or is new; the receiver has it like any other message.
#[tokio::test]
async fn send_server_message_with_an_unaware_sender_is_not_on_their_devices() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    let (phone, away) = (world.device("ann").await, world.device("ann").await);
    let dir = away.dir();
    away.quit().await;
    let mut operator = world.admin().await;
    let config = MessageSendConfig { idempotency_key: "once".into(), ..MessageSendConfig::default() };
    let request = SendServerMessageRequest { config: Some(config), ..unaware(&world, (PEER, "bob"), "secret") };
    for _ in 0..2 {
        let sent = send(&mut operator, request.clone()).await.unwrap();
        assert_eq!(
            (sent.message_seq, sent.conversation_id.as_str(), texts([&sent])),
            (1, "bob", vec!["secret".into()])
        );
    }
    let got = bob.receives("secret").await;
    assert_eq!((got.sender_user_id.as_str(), got.is_server_message), ("ann", true));
    bob.has_unread("ann", 1).await;
    // The conversation is in the list of none of her devices.
    cai.say("ann", "hi").await;
    let away = world.user_at(dir, "ann").await;
    let new = world.device("ann").await;
    for device in [&ann, &phone, &away, &new] {
        device.receives("hi").await;
        eventually("the list", async || {
            let list = device.conversations().await;
            (list.iter().map(|it| it.conversation_id.as_str()).collect::<Vec<_>>() == ["cai"]).then_some(())
        })
        .await;
        assert!(device.history("bob").await.is_empty());
        assert!(soon(device.query_messages(&[1], "bob", PEER)).await.unwrap().message_list.is_empty());
    }
    for device in [&ann, &phone] {
        assert!(told_of(device).iter().all(|id| id == "cai"), "{:?}", told_of(device));
    }
    // What follows is counted as if it had not been.
    bob.say("ann", "what?").await;
    send(&mut operator, unaware(&world, (PEER, "bob"), "secret 2")).await.unwrap();
    ann.say("bob", "own").await;
    send(&mut operator, unaware(&world, (PEER, "bob"), "secret 3")).await.unwrap();
    bob.say("ann", "well").await;
    let newest = world.device("ann").await;
    for device in [&ann, &phone, &away, &new, &newest] {
        device.receives("well").await;
        device.has_unread("bob", 2).await;
        eventually("the history", async || {
            (texts(&device.history("bob").await) == ["what?", "own", "well"]).then_some(())
        })
        .await;
    }
    let all = ["secret", "what?", "secret 2", "own", "secret 3", "well"];
    assert_eq!(texts(&bob.history("ann").await), all);
    assert_eq!(texts(&world.device("bob").await.history("ann").await), all);
    bob.has_unread("ann", 4).await;
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn send_server_message_with_an_unaware_sender_to_a_group() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    let phone = world.device("ann").await;
    create(&ann, "crew", &["bob", "cai"]).await;
    ann.say(group("crew"), "all").await;
    let mut operator = world.admin().await;
    send(&mut operator, unaware(&world, (GROUP, "crew"), "secret")).await.unwrap();
    let targeted = unaware(&world, (GROUP, "crew"), "for bob");
    send(&mut operator, SendServerMessageRequest { receivers: only(&["bob"]), ..targeted }).await.unwrap();
    cai.say(group("crew"), "next").await;
    let new = world.device("ann").await;
    for (device, expected, unread) in [
        (&ann, &["all", "next"][..], 1),
        (&phone, &["all", "next"], 1),
        (&new, &["all", "next"], 1),
        (&bob, &["all", "secret", "for bob", "next"], 3),
        (&cai, &["all", "secret", "next"], 2),
    ] {
        device
            .until("the last message", |seen| {
                let news = seen.iter().filter_map(|event| match event {
                    Event::GroupMessageReceived(event) => Some(texts(&event.message_list)),
                    _ => None,
                });
                let sent_here = device.user_id().as_deref() == Some("cai");
                (sent_here || news.flatten().any(|text| text == "next")).then_some(())
            })
            .await;
        device.has_unread(group("crew"), unread).await;
        eventually("the history", async || (texts(&device.history(group("crew")).await) == expected).then_some(()))
            .await;
    }
    drop(operator);
    world.end().await;
}

/// What becomes of the message later is not told to the sender either.
#[tokio::test]
async fn send_server_message_with_an_unaware_sender_stays_unknown_when_it_changes() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "crew", &["bob"]).await;
    let mut operator = world.admin().await;
    for (kind, to, with) in [(PEER, "bob", "ann"), (GROUP, "crew", "crew")] {
        let sent = send(&mut operator, unaware(&world, (kind, to), "secret")).await.unwrap();
        let got = eventually("the message", async || {
            let found = soon(bob.query_messages(&[sent.message_seq], with, kind)).await.unwrap();
            found.message_list.into_iter().next()
        })
        .await;
        soon(bob.add_message_reaction("like", &got, MessageReactionAddConfig::default())).await.unwrap();
        let edit = |user: &str, conversation_id: &str| EditServerMessageRequest {
            app_id: world.app_id(),
            user_id: user.into(),
            conversation_id: conversation_id.into(),
            conversation_type: kind as i32,
            message_seq: sent.message_seq,
            message: Some(Message::text("secret, too")),
        };
        soon(operator.edit_server_message(edit("bob", with))).await.unwrap();
        // For the sender it is not there.
        let refused = soon(operator.edit_server_message(edit("ann", to))).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        let Event::MessageEdited(event) = bob.next(EventKind::MessageEdited).await else { panic!("another event") };
        assert_eq!(texts(&event.message_list), ["secret, too"]);
        let revoke = RevokeServerMessageRequest {
            app_id: world.app_id(),
            user_id: "bob".into(),
            conversation_id: with.into(),
            conversation_type: kind as i32,
            message_seq: sent.message_seq,
            ..RevokeServerMessageRequest::default()
        };
        soon(operator.revoke_server_message(revoke)).await.unwrap();
        bob.next(EventKind::MessageRevokeReceived).await;
    }
    for to in [group("crew"), "ann".into()] {
        bob.say(to, "over").await;
    }
    for with in ["bob".into(), group("crew")] {
        eventually("the last message", async || (texts(&ann.history(with).await) == ["over"]).then_some(())).await;
    }
    for kind in [EventKind::MessageReactionsChanged, EventKind::MessageEdited, EventKind::MessageRevokeReceived] {
        assert!(ann.seen_of(kind).is_empty(), "{kind:?}");
    }
    drop(operator);
    world.end().await;
}

/// What is not stored reaches only the others, too.
#[tokio::test]
async fn send_server_message_with_an_unaware_sender_that_is_not_stored() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create_room(&ann, "stage").await;
    soon(bob.join_room("stage")).await.unwrap();
    let mut operator = world.admin().await;
    let to_room = (ConversationType::Room, "stage");
    send(&mut operator, unaware(&world, to_room, "secret")).await.unwrap();
    send(&mut operator, from(&world, "ann", to_room, "known")).await.unwrap();
    for device in [&ann, &bob] {
        device.receives("known").await;
    }
    bob.receives("secret").await;
    let heard = |device: &Device| -> Vec<String> {
        let seen = device.seen_of(EventKind::RoomMessageReceived);
        let each = seen.iter().flat_map(|event| match event {
            Event::RoomMessageReceived(event) => texts(&event.message_list),
            other => panic!("{other:?}"),
        });
        each.collect()
    };
    assert_eq!((heard(&ann), heard(&bob)), (vec!["known".to_owned()], vec!["secret".to_owned(), "known".to_owned()]));
    let command = |number, sender_unaware| SendServerMessageRequest {
        message: Some(Message::command(vec![number])),
        sender_unaware,
        ..from(&world, "ann", (PEER, "bob"), "")
    };
    send(&mut operator, command(1, true)).await.unwrap();
    send(&mut operator, command(2, false)).await.unwrap();
    let commands = async |device: &Device, count: usize| {
        eventually("the commands", async || {
            let seen = device.seen_of(EventKind::PeerMessageReceived);
            let each = seen.iter().flat_map(|event| match event {
                Event::PeerMessageReceived(event) => event.message_list.clone(),
                other => panic!("{other:?}"),
            });
            let bytes: Vec<u8> = each
                .filter_map(|message| match message.body {
                    Some(zim_protocol::message::Body::Command(command)) => command.message.first().copied(),
                    _ => None,
                })
                .collect();
            (bytes.len() >= count).then_some(bytes)
        })
        .await
    };
    assert_eq!((commands(&ann, 1).await, commands(&bob, 2).await), (vec![2], vec![1, 2]));
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn send_server_message_with_an_unaware_sender_asks_for_no_receipt_and_is_no_reply() {
    let world = World::new().await;
    let (_ann, bob) = (world.user("ann").await, world.user("bob").await);
    let mut operator = world.admin().await;
    let config = Some(MessageSendConfig { has_receipt: true, ..MessageSendConfig::default() });
    let one = SendServerMessageRequest { config: config.clone(), ..unaware(&world, (PEER, "bob"), "x") };
    assert_eq!(send(&mut operator, one).await.unwrap_err().code(), Code::InvalidArgument);
    // Nor is it a reply, which all see at what it replies to.
    let known = send(&mut operator, from(&world, "ann", (PEER, "bob"), "known")).await.unwrap();
    let replied_info = Box::new(MessageRepliedInfo { message_seq: known.message_seq, ..MessageRepliedInfo::default() });
    let reply = Message { replied_info: Some(replied_info), ..Message::text("re") };
    let mut request = SendServerMessageRequest { message: Some(reply), ..unaware(&world, (PEER, "bob"), "") };
    assert_eq!(send(&mut operator, request.clone()).await.unwrap_err().code(), Code::InvalidArgument);
    request.sender_unaware = false;
    send(&mut operator, request).await.unwrap();
    let each = |config| SendServerMessageToUsersRequest {
        app_id: world.app_id(),
        from_user_id: "ann".into(),
        to_user_ids: vec!["bob".into()],
        message: Some(Message::text("for each")),
        config,
        sender_unaware: true,
    };
    let refused = soon(operator.send_server_message_to_users(each(config))).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    soon(operator.send_server_message_to_users(each(None))).await.unwrap();
    bob.receives("for each").await;
    assert_eq!(texts(&world.device("ann").await.history("bob").await), ["known", "re"]);
    drop(operator);
    world.end().await;
}
