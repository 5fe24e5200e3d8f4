//! What happens to messages after they were sent, on all devices: the one that acts, the others, one that was away, and one
//! that comes later.

use std::sync::Arc;

use zim_client_sdk::message::MessageSendNotification;
use zim_integration_tests::{Chat, DataDir, Device, Random, World, group, soon, texts};
use zim_protocol::{
    ConversationType, Event, EventKind, Message, MessageDeleteConfig, MessageEditConfig, MessagePinConfig,
    MessageReactionAddConfig, MessageReactionChangeInfo, MessageReceiptStatus, MessageRevokeConfig, MessageSendConfig,
};

const PEER: ConversationType = ConversationType::Peer;
const EVERYWHERE: MessageDeleteConfig = MessageDeleteConfig { is_also_delete_server_message: Some(true) };

async fn ask(device: &Device, to: &str, text: &str) -> Message {
    let config = MessageSendConfig { has_receipt: true, ..MessageSendConfig::default() };
    let sent = device.send_message(Message::text(text), to, PEER, config, MessageSendNotification::default());
    soon(sent).await.unwrap().message.unwrap()
}

/// What a user sees of a conversation, for comparison between their devices.
async fn seen(device: &Device, with: Chat<'_>) -> Vec<String> {
    let history = device.history(with).await;
    history
        .into_iter()
        // A reply that was refused stays where it was written.
        .filter(|message| message.message_seq > 0)
        .map(|message| {
            // What only the device that sent it has.
            let message = Message { local_message_id: String::new(), ..message };
            format!("{message:?}")
        })
        .collect()
}

/// Waits until the devices of a user show the same of a conversation.
async fn agree(devices: &[&Device], with: Chat<'_>, what: &str) {
    let mut shown = Vec::new();
    for _ in 0..200 {
        shown.clear();
        for device in devices {
            let unread = device.conversation(with).await.unread_message_count;
            shown.push([seen(device, with).await, vec![format!("unread {unread}")]].concat());
        }
        if shown.iter().all(|other| *other == shown[0]) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    for (index, other) in shown.iter().enumerate().skip(1) {
        let differ = shown[0].iter().zip(other).find(|(one, other)| one != other);
        assert!(differ.is_none(), "{what}: the devices 0 and {index} differ:\n{differ:#?}");
        assert_eq!(shown[0].len(), other.len(), "{what}: the devices 0 and {index}");
    }
}

/// A phone that was away for all of it hears of each change once, and shows the same as the laptop.
#[tokio::test]
async fn a_device_that_was_away_learns_what_became_of_its_messages() {
    let world = World::new().await;
    let (ann, laptop, phone) = (world.user("ann").await, world.user("bob").await, world.device("bob").await);
    let mut sent = Vec::new();
    for text in ["edited", "revoked", "reacted", "pinned", "replied", "deleted"] {
        sent.push(ask(&ann, "bob", text).await);
    }
    for device in [&laptop, &phone] {
        device.receives("deleted").await;
    }
    let dir = phone.dir();
    phone.quit().await;
    let of_bob = laptop.history("ann").await;
    let edit = Message { body: Message::text("new").body, ..sent[0].clone() };
    soon(ann.edit_message(&edit, MessageEditConfig {})).await.unwrap();
    soon(ann.revoke_message(&sent[1], MessageRevokeConfig::default())).await.unwrap();
    soon(laptop.add_message_reaction("like", &of_bob[2], MessageReactionAddConfig::default())).await.unwrap();
    soon(ann.add_message_reaction("like", &sent[2], MessageReactionAddConfig::default())).await.unwrap();
    soon(ann.pin_message(&sent[3], true, MessagePinConfig::default())).await.unwrap();
    let (config, notification) = (MessageSendConfig::default(), MessageSendNotification::default());
    soon(laptop.reply_message(Message::text("answer"), &of_bob[4], config, notification)).await.unwrap();
    soon(laptop.delete_messages(&of_bob[5..], "ann", PEER, EVERYWHERE)).await.unwrap();
    soon(laptop.send_message_receipts_read(&of_bob[2..4], "ann", PEER)).await.unwrap();

    let phone = world.user_at(dir, "bob").await;
    agree(&[&laptop, &phone], "ann".into(), "Bob").await;
    let history = phone.history("ann").await;
    assert_eq!(texts(&history), ["new", "type 31", "reacted", "pinned", "replied", "answer"]);
    assert!(history[2].reactions[0].is_self_included, "Bob's own, from the laptop");
    assert_eq!((history[2].reactions[0].total_count, &*history[3].pinned_user_id), (2, "ann"));
    assert_eq!((history[4].root_replied_count, history[5].replied_info.is_some()), (1, true));
    let statuses: Vec<MessageReceiptStatus> = history[2..4].iter().map(Message::receipt_status).collect();
    assert_eq!(statuses, [MessageReceiptStatus::Done; 2]);
    laptop.has_unread("ann", 4).await;
    phone.has_unread("ann", 4).await;
    for kind in [
        EventKind::MessageEdited,
        EventKind::MessageRevokeReceived,
        EventKind::MessagePinStatusChanged,
        EventKind::MessageRepliedCountChanged,
        EventKind::MessageDeleted,
    ] {
        phone.next(kind).await;
        assert_eq!(phone.seen_of(kind).len(), 1, "{kind}");
    }
    let reactions = phone.seen_of(EventKind::MessageReactionsChanged);
    assert_eq!(reactions.len(), 2, "one for each change");
    let Event::MessageReactionsChanged(last) = &reactions[1] else { panic!("{reactions:?}") };
    assert_eq!(last.change_info_list[0].user_change_info_list[0].user_id, "ann");
    // Over a restart nothing is told again, and a device without a past is told nothing of it.
    let dir = phone.dir();
    phone.quit().await;
    let (phone, new) = (world.user_at(dir, "bob").await, world.device("bob").await);
    ann.say("bob", "barrier").await;
    for device in [&phone, &new] {
        device.receives("barrier").await;
        assert!(device.seen_of(EventKind::MessageEdited).is_empty());
        assert!(device.seen_of(EventKind::MessageReactionsChanged).is_empty());
        assert!(device.seen_of(EventKind::MessageReceiptChanged).is_empty());
    }
    agree(&[&new, &phone], "ann".into(), "a new device").await;
    world.end().await;
}

/// Waits until a device hears that `user` reacted to a message with `kind`; returns the message of the event.
async fn reacted(device: &Device, user: &str, kind: &str, message: &Message) -> Message {
    device
        .until(&format!("{kind} of {user}"), |seen| {
            let infos = seen.iter().filter_map(|event| match event {
                Event::MessageReactionsChanged(event) => Some(&event.change_info_list),
                _ => None,
            });
            let is_it = |info: &&MessageReactionChangeInfo| {
                let change = &info.user_change_info_list[0];
                let shown = info.message.as_ref().unwrap();
                (&*change.user_id, &*change.reaction_type) == (user, kind) && shown.message_id == message.message_id
            };
            infos.flatten().find(is_it).and_then(|info| info.message.clone())
        })
        .await
}

/// A phone that comes after a week holds only the last message. It tells of the others what it knows, and deletes them as well.
#[tokio::test]
async fn a_device_that_holds_only_newer_messages_says_nothing_wrong_of_older_ones() {
    let world = World::with(|config| config.limits.reaction_window_s = 30 * 86_400).await;
    let (ann, laptop) = (world.user("ann").await, world.user("bob").await);
    let names: Vec<String> = (0..5).map(|number| format!("user{number}")).collect();
    let mut devices = Vec::new();
    for name in &names {
        devices.push(world.user(name).await);
    }
    let info = zim_protocol::GroupInfo { group_id: "g".into(), ..Default::default() };
    let members = names.iter().map(String::as_str).chain(["bob"]);
    soon(ann.create_group(info, members, Default::default())).await.unwrap();
    let (few, many) = (ann.say(group("g"), "few").await, ann.say(group("g"), "many").await);
    let react = async |device: &Device, kind: &str, message: &Message| {
        soon(device.add_message_reaction(kind, message, MessageReactionAddConfig::default())).await.unwrap();
    };
    for device in devices {
        react(&device, "like", &many).await;
        device.quit().await;
    }
    // Bob is the sixth, and a push names the first five.
    for message in [&many, &few] {
        react(&laptop, "like", message).await;
        reacted(&laptop, "bob", "like", message).await;
    }
    ann.say(group("g"), "last").await;
    laptop.receives("last").await;
    world.clock.advance(8 * 86_400_000);
    // The tokens have expired meanwhile.
    for device in [&ann, &laptop] {
        soon(device.logout()).await;
    }
    let (ann, laptop) = (world.login(ann, "ann").await, world.login(laptop, "bob").await);
    let phone = world.device("bob").await;
    for message in [&many, &few] {
        react(&ann, "like", message).await;
        assert!(reacted(&laptop, "ann", "like", message).await.reactions[0].is_self_included);
    }
    assert!(reacted(&phone, "ann", "like", &few).await.reactions[0].is_self_included);
    // The change of the other message came first.
    for event in phone.seen_of(EventKind::MessageReactionsChanged) {
        let Event::MessageReactionsChanged(event) = event else { panic!("{event:?}") };
        assert!(event.reactions[0].is_self_included, "{event:?}");
    }
    let unheld = Message { message_seq: few.message_seq, ..Message::default() };
    soon(phone.delete_messages(&[unheld], "g", ConversationType::Group, EVERYWHERE)).await.unwrap();
    let Event::MessageDeleted(deleted) = laptop.next(EventKind::MessageDeleted).await else { panic!("another event") };
    assert_eq!(texts(&deleted.message_list), ["few"]);
    // From now on it holds the other one.
    assert_eq!(texts(&phone.history(group("g")).await), ["many", "last"]);
    react(&ann, "more", &many).await;
    let shown = reacted(&phone, "ann", "more", &many).await;
    let own: Vec<_> = shown.reactions.iter().map(|one| (&*one.reaction_type, one.is_self_included)).collect();
    assert_eq!(own, [("like", true), ("more", false)]);
    world.end().await;
}

fn pick(random: &mut Random, count: usize) -> usize {
    usize::try_from(random.below(u64::try_from(count).unwrap())).unwrap()
}

/// Two users with two devices each do everything at once, while one device comes and goes. In the end the devices of a user
/// agree, with each other and with one that comes later.
async fn everybody_agrees(seed: u64, with_group: bool) {
    let world = World::with(|config| config.limits.max_pinned_messages = 2).await;
    let (ann, bob) = (Arc::new(world.user("ann").await), Arc::new(world.user("bob").await));
    let (second, away) = (Arc::new(world.device("bob").await), world.device("ann").await);
    if with_group {
        let info = zim_protocol::GroupInfo { group_id: "g".into(), ..Default::default() };
        soon(ann.create_group(info, ["bob"], Default::default())).await.unwrap();
    }
    let chat = |peer: &'static str| if with_group { group("g") } else { peer.into() };
    for number in 0..6 {
        soon(ann.send_to(chat("bob"), Message::text(format!("a{number}")))).await.unwrap();
        soon(bob.send_to(chat("ann"), Message::text(format!("b{number}")))).await.unwrap();
    }
    for device in [&*ann, &*bob, &*second, &away] {
        device.receives(if Arc::as_ptr(&bob) == std::ptr::from_ref(device) { "a5" } else { "b5" }).await;
    }
    let dir: DataDir = away.dir();
    away.quit().await;
    let act = |device: Arc<Device>, peer: &'static str, seed: u64| {
        let with = chat(peer);
        async move {
            let mut random = Random::new(seed);
            for step in 0..25 {
                let history = device.history(with).await;
                if history.is_empty() {
                    continue;
                }
                let message = &history[pick(&mut random, history.len())];
                let kind = ["x", "y", "z"][pick(&mut random, 3)];
                // Many of these are refused: somebody else was faster. That leaves everything as it was.
                match random.below(9) {
                    0 => {
                        let edited = Message { body: Message::text(format!("{peer}{step}")).body, ..message.clone() };
                        drop(soon(device.edit_message(&edited, MessageEditConfig {})).await);
                    }
                    1 => drop(soon(device.revoke_message(message, MessageRevokeConfig::default())).await),
                    2 | 3 => {
                        let config = MessageReactionAddConfig { increase_count: i64::from(step % 2) };
                        drop(soon(device.add_message_reaction(kind, message, config)).await);
                    }
                    4 => drop(soon(device.delete_message_reaction(kind, message)).await),
                    5 => {
                        let is_pinned = step % 3 != 0;
                        drop(soon(device.pin_message(message, is_pinned, MessagePinConfig::default())).await);
                    }
                    6 => {
                        let (config, notification) = (MessageSendConfig::default(), MessageSendNotification::default());
                        let text = Message::text(format!("re{step}"));
                        drop(soon(device.reply_message(text, message, config, notification)).await);
                    }
                    7 if step % 4 == 0 => {
                        let (id, kind) = (message.conversation_id.clone(), message.conversation_type());
                        let list = std::slice::from_ref(message);
                        drop(soon(device.delete_messages(list, &id, kind, EVERYWHERE)).await);
                    }
                    _ => tokio::task::yield_now().await,
                }
            }
        }
    };
    tokio::join!(
        act(Arc::clone(&ann), "bob", seed),
        act(Arc::clone(&bob), "ann", seed ^ 1),
        act(Arc::clone(&second), "ann", seed ^ 2)
    );
    let away = world.user_at(dir, "ann").await;
    let (new_ann, new_bob) = (world.device("ann").await, world.device("bob").await);
    for (peer, devices) in [("bob", [&*ann, &away, &new_ann]), ("ann", [&*bob, &*second, &new_bob])] {
        agree(&devices, chat(peer), &format!("seed {seed}, with {peer}")).await;
    }
    world.end().await;
}

#[tokio::test]
async fn everything_at_once_in_a_peer_conversation_has_one_outcome() {
    for seed in [11, 12, 13] {
        Box::pin(everybody_agrees(seed, false)).await;
    }
}

#[tokio::test]
async fn everything_at_once_in_a_group_has_one_outcome() {
    for seed in [21, 22, 23] {
        Box::pin(everybody_agrees(seed, true)).await;
    }
}
