//! What a sender gives a message, field by field, and what each device gets of it.

use zim_client_sdk::MessageSendNotification;
use zim_integration_tests::{Chat, Device, RawClient, World, eventually, group, refusal, room, soon};
use zim_protocol::{
    ErrorCode, Message, MessageEntry, MessageFlag, MessagePriority, MessageReceiptStatus, MessageSendConfig,
    event_frame,
};

use super::group::create;

/// A field by its name, and a message and its configuration that have it.
type Field = (&'static str, Message, MessageSendConfig);

/// Each field by itself, and all of them at once.
fn fields() -> Vec<Field> {
    let (bare, plain) = (Message::default, MessageSendConfig::default);
    let users = || vec!["bob".to_owned(), "nobody".to_owned()];
    let priority = |priority: MessagePriority| MessageSendConfig { priority: priority as i32, ..plain() };
    let all = Message {
        mentioned_user_ids: users(),
        is_mention_all: true,
        extended_data: "all".into(),
        local_extended_data: "all here".into(),
        ..bare()
    };
    let all_set = MessageSendConfig {
        priority: MessagePriority::High as i32,
        has_receipt: true,
        is_notify_mentioned_users: Some(false),
        disable_unread_message_count: true,
        ..plain()
    };
    vec![
        ("nothing", bare(), plain()),
        ("mentionedUserIDs", Message { mentioned_user_ids: users(), ..bare() }, plain()),
        ("isMentionAll", Message { is_mention_all: true, ..bare() }, plain()),
        ("extendedData", Message { extended_data: "{\"a\":1}".into(), ..bare() }, plain()),
        ("localExtendedData", Message { local_extended_data: "here".into(), ..bare() }, plain()),
        ("hasReceipt", bare(), MessageSendConfig { has_receipt: true, ..plain() }),
        ("disableUnreadMessageCount", bare(), MessageSendConfig { disable_unread_message_count: true, ..plain() }),
        ("isNotifyMentionedUsers", bare(), MessageSendConfig { is_notify_mentioned_users: Some(false), ..plain() }),
        ("low", bare(), priority(MessagePriority::Low)),
        ("medium", bare(), priority(MessagePriority::Medium)),
        ("high", bare(), priority(MessagePriority::High)),
        ("everything", all, all_set),
    ]
}

fn with_text(message: &Message, text: &str) -> Message {
    Message { body: Message::text(text).body, ..message.clone() }
}

async fn send(device: &Device, chat: Chat<'_>, message: Message, config: MessageSendConfig) -> Message {
    let sent = device.send_message(message, chat.id, chat.kind, config, MessageSendNotification::default());
    soon(sent).await.unwrap().message.unwrap()
}

/// What a device has of the fields.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    mentioned_user_ids: Vec<String>,
    is_mention_all: bool,
    extended_data: String,
    local_extended_data: String,
    receipt: MessageReceiptStatus,
}

fn seen(message: &Message) -> Seen {
    Seen {
        mentioned_user_ids: message.mentioned_user_ids.clone(),
        is_mention_all: message.is_mention_all,
        extended_data: message.extended_data.clone(),
        local_extended_data: message.local_extended_data.clone(),
        receipt: message.receipt_status(),
    }
}

/// What a device must have of them. Only the device that sends has the local data.
fn expected((_, message, config): &Field, is_sending: bool) -> Seen {
    let local = if is_sending { &*message.local_extended_data } else { "" };
    let receipt = match config.has_receipt {
        true => MessageReceiptStatus::Processing,
        false => MessageReceiptStatus::None,
    };
    Seen { local_extended_data: local.to_owned(), receipt, ..seen(message) }
}

#[tokio::test]
async fn send_message_fields_reach_every_device_with_the_message() {
    let world = World::new().await;
    let (ann, laptop) = (world.user("ann").await, world.device("ann").await);
    let (bob, tablet) = (world.user("bob").await, world.device("bob").await);
    create(&ann, "crew", &["bob"]).await;
    let dir = tablet.dir();
    tablet.quit().await;
    let chats = [("P", Chat::from("bob"), Chat::from("ann")), ("G", group("crew"), group("crew"))];
    for (place, to_bob, to_ann) in chats {
        let mut counted = 0;
        for field in fields() {
            let (name, message, config) = &field;
            let text = format!("{name} {place}");
            let sent = send(&ann, to_bob, with_text(message, &text), config.clone()).await;
            assert_eq!(seen(&sent), expected(&field, true), "{text}");
            assert_eq!(seen(&bob.receives(&text).await), expected(&field, false), "{text}");
            laptop
                .until(&text, |_| laptop.seen().iter().any(|event| format!("{event:?}").contains(&text)).then_some(()))
                .await;
            counted += i64::from(!config.disable_unread_message_count);
        }
        bob.has_unread(to_ann, counted).await;
    }
    // A device that was away has them in the events, and one that is new in the history.
    let (tablet, new) = (world.user_at(dir, "bob").await, world.device("bob").await);
    for (place, to_bob, to_ann) in chats {
        let find = |history: &[Message], text: &str| {
            let found = history.iter().find(|one| one.as_text() == Some(text));
            seen(found.unwrap_or_else(|| panic!("{text}: {history:?}")))
        };
        let (mine, other, late) = (ann.history(to_bob).await, laptop.history(to_bob).await, new.history(to_ann).await);
        for field in fields() {
            let text = format!("{} {place}", field.0);
            assert_eq!(seen(&tablet.receives(&text).await), expected(&field, false), "{text}");
            assert_eq!(find(&mine, &text), expected(&field, true), "{text}");
            assert_eq!(find(&other, &text), expected(&field, false), "{text}");
            assert_eq!(find(&late, &text), expected(&field, false), "{text}");
        }
        let counted = fields().iter().filter(|(_, _, config)| !config.disable_unread_message_count).count();
        for device in [&tablet, &new] {
            device.has_unread(to_ann, i64::try_from(counted).unwrap()).await;
        }
    }
    world.end().await;
}

/// Returns the next message that is pushed.
async fn pushed(raw: &mut RawClient) -> MessageEntry {
    loop {
        if let event_frame::Frame::Push(push) = raw.event().await.unwrap()
            && let Some(entry) = push.messages.into_iter().next()
        {
            return entry;
        }
    }
}

/// `isNotifyMentionedUsers`, and whether a message counts, are in no field of the event: the device and the pushes act on them.
#[tokio::test]
async fn send_message_settings_without_a_field_reach_the_receiver_as_flags() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let mut bob = world.raw_user("bob", 1).await;
    create(&ann, "crew", &["bob"]).await;
    let all = MessageFlag::Counted as u32 | MessageFlag::Receipt as u32 | MessageFlag::NotifyMentioned as u32;
    for chat in [Chat::from("bob"), group("crew")] {
        for (name, message, config) in fields() {
            let notifies = config.is_notify_mentioned_users.unwrap_or(true);
            let flags = [
                (!config.disable_unread_message_count, MessageFlag::Counted),
                (config.has_receipt, MessageFlag::Receipt),
                (notifies, MessageFlag::NotifyMentioned),
            ];
            let flags = flags.iter().filter(|(is, _)| *is).fold(0, |all, (_, flag)| all | *flag as u32);
            let sent = send(&ann, chat, with_text(&message, name), config).await;
            let entry = pushed(&mut bob).await;
            assert_eq!((entry.seq, entry.flags & all), (sent.message_seq.unsigned_abs(), flags), "{name}");
        }
    }
    bob.end().await;
    world.end().await;
}

/// The object of a failed message has all that the message was given. What is set for a sending is set again.
#[tokio::test]
async fn send_message_again_sends_every_field_again() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&bob, "crew", &[]).await;
    for (chat, from, code) in [
        (group("crew"), group("crew"), ErrorCode::GroupModuleUserIsNotInTheGroup),
        (Chat::from("carl"), Chat::from("ann"), ErrorCode::MessageModuleTargetDoesNotExist),
    ] {
        for (name, message, config) in fields() {
            let message = with_text(&message, name);
            let sent = ann.send_message(message, chat.id, chat.kind, config, MessageSendNotification::default());
            assert_eq!(refusal(soon(sent).await), code, "{name}");
        }
        let receiver = match chat.id {
            "carl" => world.user("carl").await,
            _ => {
                soon(ann.join_group("crew")).await.unwrap();
                world.device("bob").await
            }
        };
        for field in fields() {
            let (name, _, config) = &field;
            let history = ann.history(chat).await;
            let failed = history.into_iter().find(|one| one.as_text() == Some(name)).unwrap();
            let config = MessageSendConfig { is_retry_send: true, ..config.clone() };
            let sent = send(&ann, chat, failed.clone(), config).await;
            assert_eq!((&sent.local_message_id, seen(&sent)), (&failed.local_message_id, expected(&field, true)));
            let got = receiver.receives(name).await;
            assert_eq!((&got.message_id, seen(&got)), (&sent.message_id, expected(&field, false)), "{name}");
        }
        assert_eq!(receiver.history(from).await.len(), fields().len(), "each of them once");
        let counted = fields().iter().filter(|(_, _, config)| !config.disable_unread_message_count).count();
        receiver.has_unread(from, i64::try_from(counted).unwrap()).await;
    }
    world.end().await;
}

/// A reply has all that any other message has.
#[tokio::test]
async fn reply_message_fields_reach_the_receiver_with_the_reply() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "crew", &["bob"]).await;
    for (to_bob, to_ann) in [(Chat::from("bob"), Chat::from("ann")), (group("crew"), group("crew"))] {
        let id = bob.say(to_ann, "root").await.message_id;
        let root =
            eventually("the root", async || ann.history(to_bob).await.into_iter().find(|one| one.message_id == id))
                .await;
        let mut counted = 0;
        for field in fields() {
            let (name, message, config) = &field;
            let text = format!("{name}, {:?}", to_bob.kind);
            let (message, notification) = (with_text(message, &text), MessageSendNotification::default());
            let sent = soon(ann.reply_message(message, &root, config.clone(), notification)).await;
            let sent = sent.unwrap().message.unwrap();
            assert_eq!((seen(&sent), sent.replied_info.is_some()), (expected(&field, true), true), "{text}");
            let got = bob.receives(&text).await;
            assert_eq!((seen(&got), got.replied_info.is_some()), (expected(&field, false), true), "{text}");
            counted += i64::from(!config.disable_unread_message_count);
        }
        bob.has_unread(to_ann, counted).await;
    }
    world.end().await;
}

/// Nothing is read or counted in a room, and nothing is kept on the device. What the message itself has arrives.
#[tokio::test]
async fn send_message_fields_reach_those_who_are_in_a_room() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    crate::room::create(&ann, "stage").await;
    soon(bob.join_room("stage")).await.unwrap();
    for field in fields() {
        let (name, message, config) = &field;
        let sent = send(&ann, room("stage"), with_text(message, name), config.clone()).await;
        let expected = Seen { receipt: MessageReceiptStatus::None, ..expected(&field, false) };
        assert_eq!(Seen { local_extended_data: String::new(), ..seen(&sent) }, expected, "{name}");
        let got = bob.receives(name).await;
        assert_eq!((&got.message_id, seen(&got)), (&sent.message_id, expected), "{name}");
    }
    world.end().await;
}
