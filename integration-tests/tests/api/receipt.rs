//! Read receipts, of peers and of groups.

use zim_client_sdk::message::MessageSendNotification;
use zim_integration_tests::{Device, World, eventually, group, refusal, soon, texts};
use zim_protocol::{
    ConversationType, ErrorCode, Event, EventKind, GroupMemberMuteConfig, GroupMessageReceiptMemberQueryConfig,
    Message, MessageReceiptInfo, MessageReceiptStatus, MessageRevokeConfig, MessageSendConfig,
    SendConversationMessageReceiptReadRequest,
};
use zim_server::db::{Scope, Tx};

use super::group::create;

const PEER: ConversationType = ConversationType::Peer;
const GROUP: ConversationType = ConversationType::Group;

async fn ask(device: &Device, id: &str, kind: ConversationType, text: &str) -> Message {
    let config = MessageSendConfig { has_receipt: true, ..MessageSendConfig::default() };
    let sent = device.send_message(Message::text(text), id, kind, config, MessageSendNotification::default());
    soon(sent).await.unwrap().message.unwrap()
}

async fn changed(device: &Device) -> MessageReceiptInfo {
    match device.next(EventKind::MessageReceiptChanged).await {
        Event::MessageReceiptChanged(event) if event.infos.len() == 1 => event.infos[0].clone(),
        other => panic!("{other:?}"),
    }
}

async fn conversation_changed(device: &Device) -> MessageReceiptInfo {
    match device.next(EventKind::ConversationMessageReceiptChanged).await {
        Event::ConversationMessageReceiptChanged(event) if event.infos.len() == 1 => event.infos[0].clone(),
        other => panic!("{other:?}"),
    }
}

async fn statuses(device: &Device, peer: &str) -> Vec<MessageReceiptStatus> {
    device.history(peer).await.iter().map(Message::receipt_status).collect()
}

#[tokio::test]
async fn send_message_receipts_read_reaches_the_sender_and_ones_other_devices() {
    use MessageReceiptStatus::{Done, None, Processing};
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (laptop, phone) = (world.device("ann").await, world.device("bob").await);
    let plain = ann.say("bob", "plain").await;
    let sent = ask(&ann, "bob", PEER, "asks").await;
    assert_eq!((plain.receipt_status(), sent.receipt_status()), (None, Processing));
    let got = bob.receives("asks").await;
    let no_receipt = bob.receives("plain").await;
    assert_eq!(got.receipt_status(), Processing);
    phone.receives("asks").await;
    laptop.receives("asks").await;
    world.clock.advance(5_000);
    let unknown = Message { message_id: "17".into(), ..Message::default() };
    let list = [got.clone(), no_receipt.clone(), unknown];
    let result = soon(bob.send_message_receipts_read(&list, "ann", PEER)).await.unwrap();
    let mut errors = result.error_message_ids;
    errors.sort();
    let mut expected = vec!["17".to_owned(), plain.message_id.clone()];
    expected.sort();
    assert_eq!(errors, expected);
    for device in [&ann, &laptop] {
        let info = changed(device).await;
        assert_eq!((&info.message_id, info.status()), (&sent.message_id, Done));
        assert_eq!((&*info.conversation_id, info.is_self_operated), ("bob", false));
        assert_eq!((info.read_member_count, info.unread_member_count), (1, 0));
        assert_eq!(info.read_time, world.clock.now_ms());
        assert_eq!(statuses(device, "bob").await, [None, Done]);
    }
    let info = changed(&phone).await;
    assert_eq!((&info.message_id, info.is_self_operated, info.status()), (&sent.message_id, true, Done));
    for device in [&bob, &phone] {
        assert_eq!(statuses(device, "ann").await, [None, Done]);
    }
    // Again: no second event. Receipts do not change the unread count.
    soon(bob.send_message_receipts_read(&[got], "ann", PEER)).await.unwrap();
    ask(&ann, "bob", PEER, "barrier").await;
    laptop.receives("barrier").await;
    assert_eq!(laptop.seen_of(EventKind::MessageReceiptChanged).len(), 1);
    bob.has_unread("ann", 3).await;
    // Devices that come later see it.
    for (user, peer) in [("ann", "bob"), ("bob", "ann")] {
        assert_eq!(statuses(&world.device(user).await, peer).await, [None, Done, Processing]);
    }
    world.end().await;
}

#[tokio::test]
async fn send_message_receipts_read_takes_ten_and_refuses_what_asks_for_none() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for number in 0..11 {
        ask(&ann, "bob", PEER, &number.to_string()).await;
    }
    bob.receives("10").await;
    let history = bob.history("ann").await;
    let refused = refusal(soon(bob.send_message_receipts_read(&history, "ann", PEER)).await);
    assert_eq!(refused, ErrorCode::MessageModuleMessageReceiptLimit);
    soon(bob.send_message_receipts_read(&history[..10], "ann", PEER)).await.unwrap();
    let none = refusal(soon(bob.send_message_receipts_read(&[], "ann", PEER)).await);
    assert_eq!(none, ErrorCode::CommonModuleParamsInvalid);
    let own = ann.history("bob").await;
    let refused = refusal(soon(ann.send_message_receipts_read(&own[..1], "bob", PEER)).await);
    assert_eq!(refused, ErrorCode::MessageModuleReceiptReadError, "one's own");
    let unknown = refusal(soon(ann.send_message_receipts_read(&own[..1], "carl", PEER)).await);
    assert_eq!(unknown, ErrorCode::ConversationModuleConversationDoesNotExist);
    world.end().await;
}

#[tokio::test]
async fn send_conversation_message_receipt_read_covers_everything_up_to_now() {
    use MessageReceiptStatus::{Done, Processing};
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let phone = world.device("bob").await;
    ask(&ann, "bob", PEER, "1").await;
    ask(&ann, "bob", PEER, "2").await;
    bob.receives("2").await;
    phone.receives("2").await;
    world.clock.advance(1_000);
    soon(bob.send_conversation_message_receipt_read("ann", PEER)).await.unwrap();
    let info = conversation_changed(&ann).await;
    assert_eq!((&*info.conversation_id, info.is_self_operated, info.status()), ("bob", false, Done));
    assert_eq!((info.read_time, &*info.message_id), (world.clock.now_ms(), ""));
    assert!(conversation_changed(&phone).await.is_self_operated);
    // What comes later is not covered.
    let third = ask(&ann, "bob", PEER, "3").await;
    phone.receives("3").await;
    bob.receives("3").await;
    for (device, peer) in [(&ann, "bob"), (&bob, "ann"), (&phone, "ann")] {
        assert_eq!(statuses(device, peer).await, [Done, Done, Processing], "{peer}");
    }
    assert_eq!(statuses(&world.device("ann").await, "bob").await, [Done, Done, Processing]);
    let infos = soon(ann.query_message_receipts_info(&ann.history("bob").await, "bob", PEER)).await.unwrap().infos;
    let counts: Vec<(i64, i64)> = infos.iter().map(|info| (info.read_member_count, info.unread_member_count)).collect();
    assert_eq!(counts, [(1, 0), (1, 0), (0, 1)]);
    assert_eq!(infos[2].message_id, third.message_id);
    // This receipt says nothing about the time of a single message.
    assert!(infos.iter().all(|info| info.read_time == 0), "{infos:?}");
    for (id, kind, expected) in [
        ("ann", GROUP, ErrorCode::CommonModuleParamsInvalid),
        ("carl", PEER, ErrorCode::ConversationModuleConversationDoesNotExist),
    ] {
        assert_eq!(refusal(soon(bob.send_conversation_message_receipt_read(id, kind)).await), expected);
    }
    world.end().await;
}

#[tokio::test]
async fn send_conversation_message_receipt_read_covers_only_what_the_device_has_seen() {
    use MessageReceiptStatus::{Done, Processing};
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for text in ["1", "2", "3"] {
        ask(&ann, "bob", PEER, text).await;
    }
    bob.receives("3").await;
    let mut raw = world.raw_user("bob", 1).await;
    let through = |through_seq| SendConversationMessageReceiptReadRequest {
        conversation_id: "ann".into(),
        conversation_type: PEER as i32,
        through_seq,
    };
    let invalid = ErrorCode::CommonModuleParamsInvalid as i32;
    assert_eq!(raw.call(&through(Some(-1))).await.unwrap_err().code, invalid);
    // A device that has seen none says nothing, and a lower position than before changes nothing.
    for seen in [0, 2, 1] {
        raw.call(&through(Some(seen))).await.unwrap();
    }
    conversation_changed(&ann).await;
    conversation_changed(&bob).await;
    for (device, peer) in [(&ann, "bob"), (&bob, "ann")] {
        assert_eq!(statuses(device, peer).await, [Done, Done, Processing], "{peer}");
    }
    // Beyond the end is the end. A later message is not covered.
    raw.call(&through(Some(1_000))).await.unwrap();
    conversation_changed(&ann).await;
    ask(&ann, "bob", PEER, "4").await;
    assert_eq!(statuses(&ann, "bob").await, [Done, Done, Done, Processing]);
    // Clients of earlier versions do not say what they have seen.
    raw.call(&through(None)).await.unwrap();
    conversation_changed(&ann).await;
    assert_eq!(statuses(&ann, "bob").await, [Done; 4]);
    assert_eq!(ann.seen_of(EventKind::ConversationMessageReceiptChanged).len(), 3);
    raw.end().await;
    world.end().await;
}

/// What a device was told of the readers of the messages of a group, in order: of each change how many have read it, and have not.
fn told(device: &Device, group_id: &str) -> Vec<(i64, i64)> {
    let infos = device.seen_of(EventKind::MessageReceiptChanged).into_iter().flat_map(|event| match event {
        Event::MessageReceiptChanged(event) => event.infos,
        other => panic!("{other:?}"),
    });
    infos
        .filter(|info| info.conversation_id == group_id)
        .map(|info| (info.read_member_count, info.unread_member_count))
        .collect()
}

#[tokio::test]
async fn send_message_receipts_read_tells_a_sender_who_has_left_nothing() {
    use MessageReceiptStatus::{Done, Processing};
    let world = World::new().await;
    let (ann, away) = (world.user("ann").await, world.device("ann").await);
    let (bob, carl) = (world.user("bob").await, world.user("carl").await);
    create(&bob, "g", &["ann", "carl"]).await;
    let sent = ask(&ann, "g", GROUP, "asks").await;
    let (of_bob, of_carl) = (bob.receives("asks").await, carl.receives("asks").await);
    away.receives("asks").await;
    let dir = away.dir();
    away.quit().await;
    soon(bob.send_message_receipts_read(&[of_bob], "g", GROUP)).await.unwrap();
    assert_eq!(changed(&ann).await.read_member_count, 1);
    soon(ann.leave_group("g")).await.unwrap();
    // Now all have read it, which is not for Ann. It is the same millisecond.
    soon(carl.send_message_receipts_read(&[of_carl], "g", GROUP)).await.unwrap();
    // The barrier: a receipt that is for her.
    let last = ask(&ann, "carl", PEER, "barrier").await;
    soon(carl.send_message_receipts_read(&[carl.receives("barrier").await], "ann", PEER)).await.unwrap();
    let is_last = |event: &Event| match event {
        Event::MessageReceiptChanged(event) => event.infos.iter().any(|info| info.message_id == last.message_id),
        _ => false,
    };
    ann.until("the barrier", |seen| seen.iter().any(is_last).then_some(())).await;
    // A device that was away is told what was while she was a member.
    let away = world.user_at(dir, "ann").await;
    assert_eq!((told(&ann, "g"), told(&away, "g")), (vec![(1, 1)], vec![(1, 1)]));
    let new = world.device("ann").await;
    for device in [&ann, &away, &new] {
        assert_eq!(device.history(group("g")).await[0].receipt_status(), Processing);
        let found = soon(device.query_message_receipts_info(std::slice::from_ref(&sent), "g", GROUP)).await.unwrap();
        let info = &found.infos[0];
        let counts = (info.read_member_count, info.unread_member_count);
        assert_eq!((info.status(), counts, info.read_time), (Processing, (1, 1), 0));
    }
    // When she returns, she sees it as the others do.
    soon(bob.invite_users_into_group(["ann"], "g")).await.unwrap();
    let found = eventually("she is back", async || {
        let found = soon(ann.query_message_receipts_info(std::slice::from_ref(&sent), "g", GROUP)).await.unwrap();
        (found.infos[0].status() == Done).then_some(found)
    });
    assert_eq!(found.await.infos[0].read_member_count, 2);
    world.end().await;
}

/// The server knows such a message, and still looks at who sends the receipt.
#[tokio::test]
async fn send_message_receipts_read_of_a_message_that_others_have_read_is_for_those_who_were_asked() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    create(&ann, "g", &["bob"]).await;
    let sent = ask(&ann, "g", GROUP, "asks").await;
    let revoked = ask(&ann, "g", GROUP, "revoked").await;
    let read = soon(bob.send_message_receipts_read(&[sent.clone(), revoked.clone()], "g", GROUP)).await.unwrap();
    assert!(read.error_message_ids.is_empty(), "{read:?}");
    let read = async |reader: &Device, message: &Message| {
        refusal(soon(reader.send_message_receipts_read(std::slice::from_ref(message), "g", GROUP)).await)
    };
    assert_eq!(read(&carl, &sent).await, ErrorCode::ConversationModuleConversationDoesNotExist, "no member");
    assert_eq!(read(&ann, &sent).await, ErrorCode::MessageModuleReceiptReadError, "one's own");
    soon(ann.invite_users_into_group(["carl"], "g")).await.unwrap();
    assert_eq!(read(&carl, &sent).await, ErrorCode::MessageModuleReceiptReadError, "before their time");
    soon(ann.revoke_message(&revoked, MessageRevokeConfig::default())).await.unwrap();
    assert_eq!(read(&bob, &revoked).await, ErrorCode::MessageModuleReceiptReadError, "revoked");
    let again = soon(bob.send_message_receipts_read(&[sent.clone(), revoked.clone()], "g", GROUP)).await.unwrap();
    assert_eq!(again.error_message_ids, [revoked.message_id]);
    let found = soon(ann.query_message_receipts_info(std::slice::from_ref(&sent), "g", GROUP)).await.unwrap();
    assert_eq!((found.infos[0].read_member_count, found.infos[0].unread_member_count), (1, 0));
    world.end().await;
}

/// They see it if the setting says so.
#[tokio::test]
async fn send_message_receipts_read_of_a_message_from_before_the_time_of_a_member_is_refused() {
    let world = World::with(|config| config.groups.history_for_new_members = true).await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    create(&ann, "g", &["bob"]).await;
    let before = ask(&ann, "g", GROUP, "before").await;
    soon(bob.leave_group("g")).await.unwrap();
    for device in [&bob, &carl] {
        soon(device.join_group("g")).await.unwrap();
    }
    let now = ask(&ann, "g", GROUP, "now").await;
    carl.receives("now").await;
    assert_eq!(texts(&carl.history(group("g")).await), ["before", "now"]);
    let read = async |device: &Device, message: &Message| {
        soon(device.send_message_receipts_read(std::slice::from_ref(message), "g", GROUP)).await
    };
    assert_eq!(refusal(read(&carl, &before).await), ErrorCode::MessageModuleReceiptReadError);
    assert!(read(&carl, &now).await.is_ok());
    // Bob was asked in an earlier stay.
    assert!(read(&bob, &before).await.is_ok());
    world.end().await;
}

#[tokio::test]
async fn query_group_message_receipt_read_member_list_and_its_counterpart_divide_the_members() {
    use MessageReceiptStatus::{Done, Processing};
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (carl, dora) = (world.user("carl").await, world.user("dora").await);
    create(&ann, "g", &["bob", "carl"]).await;
    let sent = ask(&ann, "g", GROUP, "asks").await;
    soon(dora.join_group("g")).await.unwrap();
    let members = async |is_read: bool, next_flag, count| {
        let config = GroupMessageReceiptMemberQueryConfig { next_flag, count };
        let found = if is_read {
            soon(ann.query_group_message_receipt_read_member_list(&sent, "g", config)).await.unwrap()
        } else {
            soon(ann.query_group_message_receipt_unread_member_list(&sent, "g", config)).await.unwrap()
        };
        (found.user_list.into_iter().map(|member| member.user_id).collect::<Vec<_>>(), found.next_flag)
    };
    // Dora came later, so nobody waits for her.
    assert_eq!(members(false, 0, 0).await, (vec!["bob".to_owned(), "carl".to_owned()], 0));
    let (first, next) = members(false, 0, 1).await;
    assert_eq!((first, members(false, next, 1).await), (vec!["bob".to_owned()], (vec!["carl".to_owned()], 0)));
    soon(bob.send_message_receipts_read(&[bob.receives("asks").await], "g", GROUP)).await.unwrap();
    let info = changed(&ann).await;
    assert_eq!((info.status(), info.read_member_count, info.unread_member_count), (Processing, 1, 1));
    assert_eq!((members(true, 0, 0).await.0, members(false, 0, 0).await.0), (vec!["bob".into()], vec!["carl".into()]));
    // Who leaves is in no list any more. The counts are those of the moment when it was sent.
    soon(bob.leave_group("g")).await.unwrap();
    assert_eq!((members(true, 0, 0).await.0, members(false, 0, 0).await.0), (vec![], vec!["carl".to_owned()]));
    world.clock.advance(3_000);
    soon(carl.send_message_receipts_read(&[carl.receives("asks").await], "g", GROUP)).await.unwrap();
    let info = changed(&ann).await;
    assert_eq!((info.status(), info.read_member_count, info.unread_member_count), (Done, 2, 0));
    assert_eq!(info.read_time, world.clock.now_ms(), "when the last of all read it");
    eventually("done on a new device", async || {
        let new = world.device("ann").await;
        (new.history(group("g")).await[0].receipt_status() == Done).then_some(())
    })
    .await;
    world.end().await;
}

/// The lists have those whom the counts have, as far as they are members now.
#[tokio::test]
async fn query_group_message_receipt_unread_member_list_and_its_counterpart_have_those_who_left_and_returned() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (carl, dora) = (world.user("carl").await, world.user("dora").await);
    create(&ann, "g", &["bob", "carl"]).await;
    let sent = ask(&ann, "g", GROUP, "asks").await;
    soon(bob.send_message_receipts_read(&[bob.receives("asks").await], "g", GROUP)).await.unwrap();
    let of_carl = carl.receives("asks").await;
    for device in [&bob, &carl] {
        soon(device.leave_group("g")).await.unwrap();
        soon(device.join_group("g")).await.unwrap();
    }
    soon(dora.join_group("g")).await.unwrap();
    let found = async || {
        let config = GroupMessageReceiptMemberQueryConfig::default();
        let read = soon(ann.query_group_message_receipt_read_member_list(&sent, "g", config)).await.unwrap();
        let unread = soon(ann.query_group_message_receipt_unread_member_list(&sent, "g", config)).await.unwrap();
        let info = soon(ann.query_message_receipts_info(std::slice::from_ref(&sent), "g", GROUP)).await.unwrap();
        let counts = (info.infos[0].read_member_count, info.infos[0].unread_member_count);
        let ids = |list: Vec<zim_protocol::GroupMemberInfo>| {
            list.into_iter().map(|member| member.user_id).collect::<Vec<_>>().join(",")
        };
        (ids(read.user_list), ids(unread.user_list), counts)
    };
    let list = |read: &str, unread: &str, counts| (read.to_owned(), unread.to_owned(), counts);
    assert_eq!(found().await, list("bob", "carl", (1, 1)));
    // An upgrade does not know when members entered. Dora's stay begins after the message.
    let upgraded = world.server().app().db.submit(Scope::none(), async |tx: &mut Tx<'_>| {
        Ok(tx.execute("UPDATE member SET entered_seq = 0", &[]).await?)
    });
    upgraded.await.unwrap();
    assert_eq!(found().await, list("bob", "carl", (1, 1)));
    soon(carl.send_message_receipts_read(&[of_carl], "g", GROUP)).await.unwrap();
    assert_eq!(found().await, list("bob,carl", "", (2, 0)));
    world.end().await;
}

#[tokio::test]
async fn query_group_message_receipt_unread_member_list_shows_no_mute_that_is_over() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "g", &["bob"]).await;
    let sent = ask(&ann, "g", GROUP, "asks").await;
    let end = world.clock.now_ms() + 60_000;
    soon(ann.mute_group_members(true, ["bob"], "g", GroupMemberMuteConfig { duration: 60 })).await.unwrap();
    for expected in [end, 0] {
        let config = GroupMessageReceiptMemberQueryConfig::default();
        let unread = soon(ann.query_group_message_receipt_unread_member_list(&sent, "g", config)).await.unwrap();
        let ends: Vec<i64> = unread.user_list.iter().map(|member| member.mute_expired_time).collect();
        assert_eq!(ends, [expected]);
        world.clock.advance(60_000);
    }
    world.end().await;
}

#[tokio::test]
async fn query_message_receipts_info_tells_the_sender_the_counts_and_others_about_themselves() {
    use MessageReceiptStatus::{Done, Processing};
    let world = World::new().await;
    let (ann, carl) = (world.user("ann").await, world.user("carl").await);
    world.user("bob").await;
    create(&ann, "g", &["bob", "carl"]).await;
    let plain = ann.say(group("g"), "plain").await;
    let sent = ask(&ann, "g", GROUP, "asks").await;
    let of_carl = carl.receives("asks").await;
    let info = async |device: &Device, message: &Message| {
        soon(device.query_message_receipts_info(std::slice::from_ref(message), "g", GROUP))
            .await
            .unwrap()
            .infos
            .remove(0)
    };
    let before = info(&carl, &of_carl).await;
    assert_eq!((before.status(), before.is_self_operated), (Processing, false));
    world.clock.advance(1_000);
    soon(carl.send_message_receipts_read(std::slice::from_ref(&of_carl), "g", GROUP)).await.unwrap();
    let found = soon(ann.query_message_receipts_info(&[sent.clone(), plain.clone()], "g", GROUP)).await.unwrap();
    assert_eq!((found.infos.len(), &found.error_message_ids), (1, &vec![plain.message_id.clone()]));
    let of_ann = &found.infos[0];
    assert_eq!((of_ann.read_member_count, of_ann.unread_member_count, of_ann.status()), (1, 1, Processing));
    let after = info(&carl, &of_carl).await;
    assert_eq!((after.status(), after.read_member_count, after.is_self_operated), (Done, 0, true));
    assert_eq!(after.read_time, world.clock.now_ms());
    let invalid = ErrorCode::CommonModuleParamsInvalid;
    // Each is told once.
    let most = soon(ann.query_message_receipts_info(&vec![sent.clone(); 100], "g", GROUP)).await.unwrap();
    assert_eq!((most.infos.len(), most.error_message_ids.len()), (1, 0));
    for list in [vec![], vec![sent; 101]] {
        assert_eq!(refusal(soon(ann.query_message_receipts_info(&list, "g", GROUP)).await), invalid);
    }
    world.end().await;
}

#[tokio::test]
async fn query_group_message_receipt_unread_member_list_is_for_the_sender() {
    let world = World::new().await;
    let (ann, carl, eve) = (world.user("ann").await, world.user("carl").await, world.user("eve").await);
    create(&ann, "g", &["carl"]).await;
    let plain = ann.say(group("g"), "plain").await;
    let sent = ask(&ann, "g", GROUP, "asks").await;
    let of_carl = carl.receives("asks").await;
    let config = GroupMessageReceiptMemberQueryConfig::default();
    for (device, message, expected) in [
        (&carl, &of_carl, ErrorCode::MessageModuleReceiptReadError),
        (&ann, &plain, ErrorCode::MessageModuleReceiptReadError),
        (&eve, &sent, ErrorCode::ConversationModuleConversationDoesNotExist),
    ] {
        let read = soon(device.query_group_message_receipt_read_member_list(message, "g", config)).await;
        let unread = soon(device.query_group_message_receipt_unread_member_list(message, "g", config)).await;
        assert_eq!((refusal(read), refusal(unread)), (expected, expected));
    }
    let unknown = soon(ann.query_group_message_receipt_unread_member_list(&sent, "none", config)).await;
    assert_eq!(refusal(unknown), ErrorCode::ConversationModuleConversationDoesNotExist);
    let none = Message { message_id: String::new(), message_seq: 1_000, ..sent.clone() };
    let read = soon(ann.query_group_message_receipt_read_member_list(&none, "g", config)).await;
    assert_eq!(refusal(read), ErrorCode::CommonModuleParamsInvalid);
    soon(ann.leave_group("g")).await.unwrap();
    let read = soon(ann.query_group_message_receipt_read_member_list(&sent, "g", config)).await;
    let unread = soon(ann.query_group_message_receipt_unread_member_list(&sent, "g", config)).await;
    let not_in = ErrorCode::GroupModuleUserIsNotInTheGroup;
    assert_eq!((refusal(read), refusal(unread)), (not_in, not_in));
    world.end().await;
}

#[tokio::test]
async fn query_message_receipts_info_needs_the_conversation() {
    let world = World::new().await;
    let (ann, _bob, _carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    let sent = ask(&ann, "bob", PEER, "asks").await;
    for id in ["carl", "nobody"] {
        let found = soon(ann.query_message_receipts_info(std::slice::from_ref(&sent), id, PEER)).await;
        assert_eq!(refusal(found), ErrorCode::ConversationModuleConversationDoesNotExist, "{id}");
    }
    world.end().await;
}
