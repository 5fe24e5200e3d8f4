//! Changes of messages that happen at the same moment: one outcome, the same on every device.

use tokio::task::JoinSet;
use zim_client_sdk::message::MessageSendNotification;
use zim_integration_tests::{Chat, Device, RawClient, World, eventually, group, soon};
use zim_protocol::{
    ConversationType, ErrorCode, Event, EventKind, GroupMessageReceiptMemberQueryConfig, Message, MessageDeleteConfig,
    MessageDeleteType, MessageEditConfig, MessageReactionAddConfig, MessageReceiptInfo, MessageReceiptStatus,
    MessageRepliedInfoState, MessageRevokeConfig, MessageSendConfig, MessageType, SendMessageReceiptsReadRequest,
};
use zim_server::db::Tx;

use super::group::create;

const GROUP: ConversationType = ConversationType::Group;
const EVERYWHERE: MessageDeleteConfig = MessageDeleteConfig { is_also_delete_server_message: Some(true) };
/// How often something is tried that may end in several ways.
const ROUNDS: usize = 12;
/// The members of a group who read a message.
const READERS: usize = 500;

fn edited(message: &Message, text: &str) -> Message {
    Message { body: Message::text(text).body, ..message.clone() }
}

async fn held(device: &Device, chat: Chat<'_>, message: &Message) -> Option<Message> {
    device.history(chat).await.into_iter().find(|one| one.message_id == message.message_id)
}

/// What everybody sees of a message. Whether a device's own user has reacted follows from those who have.
fn shown(device: &Device, message: &Message) -> String {
    let user = device.user_id().unwrap();
    let reactions: Vec<_> = message
        .reactions
        .iter()
        .map(|one| {
            let has_reacted = one.user_list.iter().any(|other| other.user_id == user);
            let is_own_right = one.is_self_included == has_reacted;
            (one.reaction_type.clone(), one.total_count, one.sum_count, is_own_right)
        })
        .collect();
    format!("{:?} {:?} {reactions:?} {}", message.r#type(), message.as_text(), message.root_replied_count)
}

/// Waits until all devices show the same of a message; returns what it is.
async fn agree(devices: &[&Device], chat: Chat<'_>, message: &Message) -> String {
    eventually("all devices agree", async || {
        let mut all = Vec::new();
        for device in devices {
            all.push(shown(device, &held(device, chat, message).await?));
        }
        all.dedup();
        (all.len() == 1).then(|| all.remove(0))
    })
    .await
}

#[tokio::test]
async fn edit_message_on_two_devices_while_it_is_reacted_to_and_revoked_has_one_outcome() {
    let world = World::new().await;
    // The owner revokes what a member edits.
    let (ann, bob, phone, carl) =
        (world.user("ann").await, world.user("bob").await, world.device("bob").await, world.user("carl").await);
    create(&ann, "crew", &["bob", "carl"]).await;
    let crew = group("crew");
    for round in 0..ROUNDS {
        let text = format!("{round}");
        let sent = bob.say(crew, &text).await;
        for device in [&ann, &phone, &carl] {
            eventually("the message", async || held(device, crew, &sent).await).await;
        }
        let revokes = round % 2 == 1;
        let revoke = async {
            if revokes {
                soon(ann.revoke_message(&sent, MessageRevokeConfig::default())).await.map(drop)
            } else {
                Ok(())
            }
        };
        // Bob's two devices learn of each other's part, and Carl's new one of all.
        let more = MessageReactionAddConfig { increase_count: 2 };
        let (first, second, revoked, reacted, own) = tokio::join!(
            soon(bob.edit_message(&edited(&sent, "first"), MessageEditConfig {})),
            soon(phone.edit_message(&edited(&sent, "second"), MessageEditConfig {})),
            revoke,
            soon(carl.add_message_reaction("+1", &sent, MessageReactionAddConfig::default())),
            soon(phone.add_message_reaction("+1", &sent, more)),
        );
        revoked.unwrap();
        // Only the revocation refuses the others.
        let is_revoked = |code: ErrorCode| revokes && code == ErrorCode::MessageModuleMessageHasBeenRevoked;
        assert!(first.as_ref().err().is_none_or(|error| is_revoked(error.code())), "{first:?}");
        assert!(second.as_ref().err().is_none_or(|error| is_revoked(error.code())), "{second:?}");
        for reacted in [reacted, own] {
            assert!(reacted.as_ref().err().is_none_or(|error| is_revoked(error.code())), "{reacted:?}");
        }
        let new = world.device("carl").await;
        let outcome = agree(&[&ann, &bob, &phone, &carl, &new], crew, &sent).await;
        match revokes {
            true => assert!(outcome.starts_with("Revoke None"), "{outcome}"),
            false => {
                let one_of = ["first", "second"].map(|text| format!("Text Some({text:?}) [(\"+1\", 2, 3, true)] 0"));
                assert!(one_of.contains(&outcome), "{outcome}");
            }
        }
        // Only so many devices of a user are logged in.
        soon(new.logout()).await;
    }
    world.end().await;
}

#[tokio::test]
async fn reply_message_while_its_source_is_revoked_is_refused_or_shows_that_it_is_gone() {
    let world = World::new().await;
    let (ann, bob, phone) = (world.user("ann").await, world.user("bob").await, world.device("bob").await);
    let mut answered = 0;
    for round in 0..ROUNDS {
        let root = ann.say("bob", &format!("root {round}")).await;
        let got = bob.receives(&format!("root {round}")).await;
        let (config, notification) = (MessageSendConfig::default(), MessageSendNotification::default());
        let reply = Message::text(format!("reply {round}"));
        let (revoked, reply) = tokio::join!(
            soon(ann.revoke_message(&root, MessageRevokeConfig::default())),
            soon(bob.reply_message(reply, &got, config, notification)),
        );
        revoked.unwrap();
        let reply = match reply {
            Ok(sent) => sent.message.unwrap(),
            Err(error) => {
                assert_eq!(error.code(), ErrorCode::MessageModuleMessageHasBeenRevoked);
                continue;
            }
        };
        answered += 1;
        let new = world.device("ann").await;
        for (device, chat) in [(&ann, "bob"), (&bob, "ann"), (&phone, "ann"), (&new, "bob")] {
            eventually("the reply shows that its source is gone", async || {
                let source = held(device, chat.into(), &root).await?;
                let reply = held(device, chat.into(), &reply).await?;
                let info = reply.replied_info?;
                let is_gone = info.state() == MessageRepliedInfoState::Deleted && info.message_info.is_none();
                (is_gone && source.r#type() == MessageType::Revoke).then_some(())
            })
            .await;
        }
        soon(new.logout()).await;
    }
    // A reply after the revocation, which is always refused.
    let root = ann.say("bob", "last").await;
    let got = bob.receives("last").await;
    soon(ann.revoke_message(&root, MessageRevokeConfig::default())).await.unwrap();
    let (config, notification) = (MessageSendConfig::default(), MessageSendNotification::default());
    let late = soon(bob.reply_message(Message::text("late"), &got, config, notification)).await;
    assert_eq!(late.unwrap_err().code(), ErrorCode::MessageModuleMessageHasBeenRevoked);
    let stored =
        bob.history("ann").await.iter().filter(|one| one.replied_info.is_some() && one.message_seq > 0).count();
    assert_eq!(stored, answered);
    world.end().await;
}

#[tokio::test]
async fn delete_messages_and_delete_all_message_while_another_device_is_away() {
    let world = World::new().await;
    let (ann, bob, tablet) = (world.user("ann").await, world.user("bob").await, world.device("bob").await);
    create(&ann, "crew", &["bob"]).await;
    for chat in [Chat::from("bob"), group("crew")] {
        for number in 0..4 {
            ann.say(chat, &format!("{} {number}", chat.id)).await;
        }
    }
    for device in [&bob, &tablet] {
        for last in ["bob 3", "crew 3"] {
            device.receives(last).await;
        }
    }
    let dir = tablet.dir();
    tablet.quit().await;
    let history = bob.history("ann").await;
    let deleted = bob.delete_messages(&history[1..3], "ann", ConversationType::Peer, EVERYWHERE);
    soon(deleted).await.unwrap();
    soon(bob.delete_all_message("crew", GROUP, EVERYWHERE)).await.unwrap();
    // What comes afterwards stays.
    ann.say(group("crew"), "later").await;
    bob.receives("later").await;
    let tablet = world.user_at(dir, "bob").await;
    tablet.receives("later").await;
    let new = world.device("bob").await;
    for device in [&bob, &tablet, &new] {
        for (chat, left) in [(Chat::from("ann"), vec!["bob 0", "bob 3"]), (group("crew"), vec!["later"])] {
            eventually("what is left", async || {
                let texts: Vec<String> =
                    device.history(chat).await.iter().filter_map(|one| one.as_text().map(str::to_owned)).collect();
                (texts == left).then_some(())
            })
            .await;
            device.has_unread(chat, i64::try_from(left.len()).unwrap()).await;
        }
    }
    let of = |device: &Device| -> Vec<(MessageDeleteType, usize)> {
        let one = |event: Event| match event {
            Event::MessageDeleted(event) => (event.message_delete_type(), event.message_list.len()),
            other => panic!("{other:?}"),
        };
        device.seen_of(EventKind::MessageDeleted).into_iter().map(one).collect()
    };
    let mut told = of(&tablet);
    told.sort_by_key(|(kind, _)| *kind as i32);
    let list = MessageDeleteType::MessageListDeleted;
    assert_eq!(told, [(list, 2), (MessageDeleteType::ConversationAllMessagesDeleted, 0)]);
    // The device that deletes has the result, and others see nothing of it.
    assert!(of(&bob).is_empty() && of(&new).is_empty() && of(&ann).is_empty());
    assert_eq!((ann.history("bob").await.len(), ann.history(group("crew")).await.len()), (4, 5));
    world.end().await;
}

#[tokio::test]
async fn delete_all_message_and_a_receipt_for_all_leave_a_message_that_is_on_its_way() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let proxy = world.proxy(1).await;
    let bob = world.user_via(&proxy, "bob").await;
    let asks = MessageSendConfig { has_receipt: true, ..MessageSendConfig::default() };
    let ask = async |text: &str| {
        let (to, none) = (ConversationType::Peer, MessageSendNotification::default());
        soon(ann.send_message(Message::text(text), "bob", to, asks.clone(), none)).await.unwrap();
    };
    ask("early").await;
    bob.receives("early").await;
    // The server hears what Bob wants, but Bob does not hear of the next message before.
    proxy.cut_back();
    ask("late").await;
    let is_done = async || {
        let read = world.server().app().db.read(async |tx: &mut Tx<'_>| {
            let sql = "SELECT m.cleared_seq, m.receipt_seq FROM member m JOIN account a ON a.id = m.account \
                       WHERE a.name = 'bob'";
            let row = tx.fetch_one(sql, &[]).await?.unwrap();
            Ok(row.get::<i64>(0)? > 0 && row.get::<i64>(1)? > 0)
        });
        soon(read).await.unwrap().then_some(())
    };
    let (read, deleted, ()) = tokio::join!(
        soon(bob.send_conversation_message_receipt_read("ann", ConversationType::Peer)),
        soon(bob.delete_all_message("ann", ConversationType::Peer, EVERYWHERE)),
        async {
            eventually("the server has done both", is_done).await;
            proxy.restore();
        },
    );
    read.unwrap();
    deleted.unwrap();
    bob.receives("late").await;
    for device in [&bob, &world.device("bob").await] {
        let texts: Vec<Option<String>> =
            device.history("ann").await.iter().map(|one| one.as_text().map(str::to_owned)).collect();
        assert_eq!(texts, [Some("late".to_owned())]);
        device.has_unread("ann", 1).await;
    }
    let statuses = eventually("the receipt", async || {
        let statuses: Vec<_> = ann.history("bob").await.iter().map(Message::receipt_status).collect();
        (statuses[0] == MessageReceiptStatus::Done).then_some(statuses)
    });
    assert_eq!(statuses.await, [MessageReceiptStatus::Done, MessageReceiptStatus::Processing]);
    drop(proxy);
    world.end().await;
}

/// Returns the last that a device was told of the readers of a message.
fn told(device: &Device, message: &Message) -> Option<MessageReceiptInfo> {
    let all = device.seen_of(EventKind::MessageReceiptChanged).into_iter().rev();
    // An event may have several of one message, the last of which is the newest.
    let mut infos = all.flat_map(|event| match event {
        Event::MessageReceiptChanged(event) => event.infos.into_iter().rev(),
        other => panic!("{other:?}"),
    });
    infos.find(|info| info.message_id == message.message_id)
}

#[tokio::test]
async fn send_message_receipts_read_by_500_members_at_once_counts_each_of_them_once() {
    let world = World::with(|config| {
        config.limits.max_group_members = 600;
        config.limits.handshakes_per_second_per_address = 1_000_000;
    })
    .await;
    let (ann, laptop) = (world.user("ann").await, world.device("ann").await);
    let names: Vec<String> = (0..READERS).map(|number| format!("reader{number}")).collect();
    let readers = world.raw_users(&names).await;
    create(&ann, "crew", &[]).await;
    for some in names.chunks(100) {
        let invited = soon(ann.invite_users_into_group(some.to_vec(), "crew")).await.unwrap();
        assert!(invited.error_user_list.is_empty(), "{invited:?}");
    }
    let config = MessageSendConfig { has_receipt: true, ..MessageSendConfig::default() };
    let sent = ann.send_message(Message::text("hi"), "crew", GROUP, config, MessageSendNotification::default());
    let sent = soon(sent).await.unwrap().message.unwrap();
    let named = Message { message_id: sent.message_id.clone(), message_seq: sent.message_seq, ..Message::default() };
    let mut reading = JoinSet::new();
    for mut reader in readers {
        let request = SendMessageReceiptsReadRequest {
            message_list: vec![named.clone()],
            conversation_id: "crew".to_owned(),
            conversation_type: GROUP as i32,
        };
        // Each says it twice.
        reading.spawn(async move {
            for _ in 0..2 {
                let read = reader.call(&request).await.unwrap();
                assert!(read.error_message_ids.is_empty(), "{read:?}");
            }
            reader
        });
    }
    let readers = reading.join_all().await;
    let all = i64::try_from(READERS).unwrap();
    for device in [&ann, &laptop] {
        eventually("the last receipt", async || {
            told(device, &sent).filter(|info| (info.read_member_count, info.unread_member_count) == (all, 0))
        })
        .await;
        assert_eq!(told(device, &sent).unwrap().status(), MessageReceiptStatus::Done);
        assert_eq!(held(device, group("crew"), &sent).await.unwrap().receipt_status(), MessageReceiptStatus::Done);
    }
    let new = world.device("ann").await;
    assert_eq!(held(&new, group("crew"), &sent).await.unwrap().receipt_status(), MessageReceiptStatus::Done);
    let info = soon(new.query_message_receipts_info(std::slice::from_ref(&sent), "crew", GROUP)).await.unwrap();
    assert_eq!((info.infos[0].read_member_count, info.infos[0].unread_member_count), (all, 0));
    let mut listed = Vec::new();
    let mut next_flag = 0;
    loop {
        let config = GroupMessageReceiptMemberQueryConfig { next_flag, count: 100 };
        let page = soon(ann.query_group_message_receipt_read_member_list(&sent, "crew", config)).await.unwrap();
        listed.extend(page.user_list.into_iter().map(|member| member.user_id));
        next_flag = page.next_flag;
        if next_flag == 0 {
            break;
        }
    }
    // A page has a hundred, whoever asks for more.
    for count in [0, 101] {
        let config = GroupMessageReceiptMemberQueryConfig { next_flag: 0, count };
        let page = soon(ann.query_group_message_receipt_read_member_list(&sent, "crew", config)).await.unwrap();
        assert_eq!((page.user_list.len(), page.next_flag > 0), (100, true), "{count}");
    }
    listed.sort();
    let mut names = names;
    names.sort();
    assert_eq!(listed, names);
    let config = GroupMessageReceiptMemberQueryConfig { next_flag: 0, count: 100 };
    let unread = soon(ann.query_group_message_receipt_unread_member_list(&sent, "crew", config)).await.unwrap();
    assert!(unread.user_list.is_empty(), "{unread:?}");
    RawClient::end_all(readers).await;
    world.end().await;
}
