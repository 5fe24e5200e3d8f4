//! The matrix of types: for each type of message, in which conversations it goes and what can happen to it there.

use serde_json::json;
use zim_client_sdk::{MessageSendNotification, PushToken};
use zim_integration_tests::{Chat, Device, PushServer, World, eventually, group, room, soon};
use zim_protocol::message::Body;
use zim_protocol::{
    AudioMessage, BarrageMessage, CombineMessage, ConversationType, CustomMessageLiteInfo, Event, FileMessage,
    ImageMessage, Message, MessageEditConfig, MessageLiteInfo, MessagePinConfig, MessageReactionAddConfig,
    MessageReceiptStatus, MessageRevokeConfig, MessageSendConfig, MessageType, MultipleMessage, SystemMessage,
    TextMessageLiteInfo, VideoMessage, message_lite_info,
};

use crate::group::create;
use crate::push_delivery::{DELAY_MS, all_done, is_offline, set_webhook, titled};

/// The columns: where it goes (peer, group, room; H: only a room that keeps its history); then, in peer conversations and groups: it
/// is in the history, it makes a conversation, it counts as unread, it has a receipt, it can be replied to, reacted to, revoked,
/// edited, pinned; a client can insert it locally; and: a device that is away gets a push if the sender says what it shows. `-`: it
/// is refused, or does not come to be. In rooms all of this is refused, but for the history of a room that keeps one.
const MATRIX: &[(MessageType, &str)] = &[
    //                         where  history conversation unread receipt reply reaction revoke edit pin insert push
    (MessageType::Text, "      PGR    x       x            x      x       x     x        x      x    x   x      x"),
    (MessageType::Command, "   PGR    -       -            -      -       -     -        -      -    -   -      -"),
    (MessageType::Multiple, "  PGR    x       x            x      x       x     x        x      x    x   x      x"),
    (MessageType::Image, "     PGR    x       x            x      x       x     x        x      -    x   x      x"),
    (MessageType::File, "      PGR    x       x            x      x       x     x        x      -    x   x      x"),
    (MessageType::Audio, "     PGR    x       x            x      x       x     x        x      -    x   x      x"),
    (MessageType::Video, "     PGR    x       x            x      x       x     x        x      -    x   x      x"),
    (MessageType::Barrage, "   --R    -       -            -      -       -     -        -      -    -   -      -"),
    (MessageType::System, "    ---    -       -            -      -       -     -        -      -    -   x      -"),
    // Pushed as what it is: the revocation says so.
    (MessageType::Revoke, "    ---    x       x            -      -       -     -        -      -    -   -      x"),
    (MessageType::Tips, "      ---    x       x            -      -       -     -        -      -    -   -      -"),
    // What it combines is kept with the message, so a room that keeps none does not take it (decision 0023).
    (MessageType::Combine, "   PGH    x       x            x      x       x     x        x      -    x   -      x"),
    (MessageType::Custom, "    PGR    x       x            x      x       x     x        x      x    x   x      x"),
];

/// What happened, in the columns' order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    is_in_history: bool,
    has_conversation: bool,
    is_unread: bool,
    has_receipt: bool,
    is_replied_to: bool,
    is_reacted_to: bool,
    is_revoked: bool,
    is_edited: bool,
    is_pinned: bool,
}

fn columns(line: &str) -> (&str, Seen, bool, bool) {
    let cells: Vec<&str> = line.split_whitespace().collect();
    let [places, rest @ ..] = &cells[..] else { panic!("{line}") };
    let is: Vec<bool> = rest.iter().map(|cell| *cell == "x").collect();
    let seen = Seen {
        is_in_history: is[0],
        has_conversation: is[1],
        is_unread: is[2],
        has_receipt: is[3],
        is_replied_to: is[4],
        is_reacted_to: is[5],
        is_revoked: is[6],
        is_edited: is[7],
        is_pinned: is[8],
    };
    (places, seen, is[9], is[10])
}

/// A message of a type, with files that are elsewhere.
fn message(kind: MessageType, named: Option<&Message>) -> Message {
    let url = || "https://elsewhere.example/file".to_owned();
    let part =
        |body: message_lite_info::Body, kind: MessageType| MessageLiteInfo { r#type: kind as i32, body: Some(body) };
    let body = match kind {
        MessageType::Text => return Message::text("hi"),
        MessageType::Command => return Message::command(vec![1]),
        MessageType::Barrage => Body::Barrage(BarrageMessage { message: "hi".into() }),
        MessageType::Custom => return Message::custom("{}", 7),
        MessageType::Image => Body::Image(Box::new(ImageMessage { file_download_url: url(), ..Default::default() })),
        MessageType::File => Body::File(Box::new(FileMessage { file_download_url: url(), ..Default::default() })),
        MessageType::Audio => {
            Body::Audio(Box::new(AudioMessage { file_download_url: url(), audio_duration: 3, ..Default::default() }))
        }
        MessageType::Video => {
            Body::Video(Box::new(VideoMessage { file_download_url: url(), video_duration: 3, ..Default::default() }))
        }
        MessageType::Multiple => {
            let text = message_lite_info::Body::Text(TextMessageLiteInfo { message: "hi".into() });
            let custom = CustomMessageLiteInfo { message: "{}".into(), sub_type: 7, ..Default::default() };
            Body::Multiple(MultipleMessage {
                message_info_list: vec![
                    part(text, MessageType::Text),
                    part(message_lite_info::Body::Custom(custom), MessageType::Custom),
                ],
                ..Default::default()
            })
        }
        MessageType::Combine => Body::Combine(Box::new(CombineMessage {
            title: "title".into(),
            summary: "summary".into(),
            message_list: named.into_iter().cloned().collect(),
            ..Default::default()
        })),
        MessageType::System => Body::System(SystemMessage { message: "hi".into() }),
        MessageType::Tips => Body::Tips(Box::default()),
        other => return Message { r#type: other as i32, ..Message::default() },
    };
    Message { r#type: kind as i32, body: Some(body), ..Message::default() }
}

async fn send(device: &Device, chat: Chat<'_>, message: Message) -> Result<Message, zim_client_sdk::Error> {
    // A receipt is asked for wherever there might be one; a command that asks for one is refused.
    let has_receipt = message.r#type() != MessageType::Command;
    send_with(device, chat, message, MessageSendConfig { has_receipt, ..MessageSendConfig::default() }).await
}

async fn send_with(
    device: &Device,
    chat: Chat<'_>,
    message: Message,
    config: MessageSendConfig,
) -> Result<Message, zim_client_sdk::Error> {
    let sent = device.send_message(message, chat.id, chat.kind, config, MessageSendNotification::default());
    Ok(soon(sent).await?.message.unwrap())
}

/// Waits until a device has heard of a message, in whichever event.
async fn heard(device: &Device, message: &Message) -> Message {
    let is_it = |one: &&Message| one.message_id == message.message_id;
    device
        .until("the message", |seen| {
            seen.iter().find_map(|event| match event {
                Event::PeerMessageReceived(event) => event.message_list.iter().find(is_it).cloned(),
                Event::GroupMessageReceived(event) => event.message_list.iter().find(is_it).cloned(),
                Event::RoomMessageReceived(event) => event.message_list.iter().find(is_it).cloned(),
                _ => None,
            })
        })
        .await
}

/// Tries everything on a message that `bob` has and `ann` sent. What succeeds must also be seen.
async fn try_all(ann: (&Device, Chat<'_>), bob: (&Device, Chat<'_>), message: &Message) -> Seen {
    let ((ann, to_bob), (bob, to_ann)) = (ann, bob);
    let is_it = |one: &&Message| one.message_id == message.message_id;
    let held = async |device: &Device, chat: Chat<'_>| device.history(chat).await.iter().find(is_it).cloned();
    let history = held(bob, to_ann).await;
    let listed = bob.conversations().await;
    let conversation = listed.iter().find(|one| (one.r#type(), &*one.conversation_id) == (to_ann.kind, to_ann.id));
    let mut seen = Seen {
        is_in_history: history.is_some(),
        has_conversation: conversation.is_some(),
        is_unread: conversation.is_some_and(|one| one.unread_message_count > 0),
        ..Seen::default()
    };
    let got = history.unwrap_or_else(|| message.clone());
    let has_receipt = got.receipt_status() == MessageReceiptStatus::Processing;
    let read = soon(bob.send_message_receipts_read(std::slice::from_ref(&got), to_ann.id, to_ann.kind)).await;
    // The messages that were not accepted are in the answer.
    seen.has_receipt = read.is_ok_and(|read| read.error_message_ids.is_empty());
    assert_eq!(seen.has_receipt, has_receipt, "{got:?}");
    if has_receipt {
        eventually("the receipt", async || {
            held(ann, to_bob).await.filter(|own| own.receipt_status() == MessageReceiptStatus::Done)
        })
        .await;
    }
    let (config, notification) = (MessageSendConfig::default(), MessageSendNotification::default());
    seen.is_replied_to = soon(bob.reply_message(Message::text("reply"), &got, config, notification)).await.is_ok();
    seen.is_reacted_to = soon(bob.add_message_reaction("+1", &got, MessageReactionAddConfig::default())).await.is_ok();
    seen.is_pinned = soon(bob.pin_message(&got, true, MessagePinConfig::default())).await.is_ok();
    // A room has no such list.
    let pinned = soon(bob.query_pinned_message_list(to_ann.id, to_ann.kind)).await;
    assert_eq!(pinned.is_ok(), to_ann.kind != ConversationType::Room);
    assert_eq!(pinned.is_ok_and(|pinned| pinned.message_list.iter().any(|one| is_it(&one))), seen.is_pinned);
    let own = held(ann, to_bob).await.unwrap_or_else(|| message.clone());
    let again = Message { body: message.body.clone(), r#type: message.r#type, ..own.clone() };
    seen.is_edited = soon(ann.edit_message(&again, MessageEditConfig {})).await.is_ok();
    seen.is_revoked = soon(ann.revoke_message(&own, MessageRevokeConfig::default())).await.is_ok();
    if seen.is_revoked {
        eventually("the revocation", async || {
            held(bob, to_ann).await.filter(|one| one.r#type() == MessageType::Revoke)
        })
        .await;
    }
    seen
}

#[tokio::test]
async fn messages_of_each_type_can_what_the_matrix_says() {
    let world = World::with(|config| config.groups.tips = true).await;
    let ann = world.user("ann").await;
    for (row, (kind, line)) in MATRIX.iter().enumerate() {
        let (places, expected, is_inserted, _) = columns(line);
        let (user, crew) = (format!("bob{row}"), format!("crew{row}"));
        let bob = world.user(&user).await;
        create(&ann, &crew, &[&user]).await;
        let chats = [('P', Chat::from(&*user), Chat::from("ann")), ('G', group(&crew), group(&crew))];
        // What a combined message names.
        let named = send(&ann, Chat::from("bob0"), Message::text("named")).await.unwrap();
        for (place, to_bob, to_ann) in chats {
            let sent = match kind {
                MessageType::Tips if place == 'P' => continue,
                // The server writes it: the group was created, and it is the only message.
                MessageType::Tips => {
                    let is_tip = |one: &Message| one.r#type() == MessageType::Tips;
                    eventually("the tip", async || bob.history(to_ann).await.into_iter().find(is_tip)).await
                }
                MessageType::Revoke => {
                    let sent = send(&ann, to_bob, Message::text("hi")).await.unwrap();
                    heard(&bob, &sent).await;
                    soon(ann.revoke_message(&sent, MessageRevokeConfig::default())).await.unwrap();
                    let is_revoked =
                        |one: &Message| one.message_id == sent.message_id && one.r#type() == MessageType::Revoke;
                    eventually("the revocation", async || bob.history(to_ann).await.into_iter().find(is_revoked)).await
                }
                kind => {
                    let sent = send(&ann, to_bob, message(*kind, Some(&named))).await;
                    assert_eq!(sent.is_ok(), places.contains(place), "{kind:?} {place}: {sent:?}");
                    let Ok(sent) = sent else { continue };
                    assert_eq!(heard(&bob, &sent).await.r#type(), *kind);
                    sent
                }
            };
            // The tip of the group's creation makes a conversation of its own.
            if *kind == MessageType::Command && place == 'G' {
                continue;
            }
            let seen = try_all((&ann, to_bob), (&bob, to_ann), &sent).await;
            assert_eq!(seen, expected, "{kind:?} {place}");
        }
        let inserted =
            ann.insert_message_to_local_db(message(*kind, Some(&named)), "bob0", ConversationType::Peer, "bob0");
        let inserted = soon(inserted).await;
        assert_eq!(inserted.is_ok(), is_inserted, "{kind:?}: {inserted:?}");
        bob.quit().await;
    }
    world.end().await;
}

#[tokio::test]
async fn messages_of_each_type_can_in_rooms_what_the_matrix_says() {
    for keeps_history in [false, true] {
        let world = World::with(|config| config.rooms.history = keeps_history).await;
        let (ann, bob) = (world.user("ann").await, world.user("bob").await);
        let stage = room("stage");
        crate::room::create(&ann, stage.id).await;
        soon(bob.join_room(stage.id)).await.unwrap();
        let named = send(&ann, Chat::from("bob"), Message::text("named")).await.unwrap();
        for (kind, line) in MATRIX {
            let (places, elsewhere, ..) = columns(line);
            let what = format!("{kind:?}, {keeps_history}");
            let inserted = ann.insert_message_to_local_db(message(*kind, Some(&named)), stage.id, stage.kind, "bob");
            assert!(soon(inserted).await.is_err(), "{what}");
            let sent = send(&ann, stage, message(*kind, Some(&named))).await;
            let is_taken = places.contains('R') || keeps_history && places.contains('H');
            assert_eq!(sent.is_ok(), is_taken, "{what}: {sent:?}");
            let Ok(sent) = sent else { continue };
            let got = heard(&bob, &sent).await;
            assert_eq!((got.r#type(), got.receipt_status()), (*kind, MessageReceiptStatus::None), "{what}");
            let expected = Seen { is_in_history: keeps_history && elsewhere.is_in_history, ..Seen::default() };
            assert_eq!(try_all((&ann, stage), (&bob, stage), &sent).await, expected, "{what}");
        }
        world.end().await;
    }
}

/// Lets a message of a type come to be, with a push that has a title if a sender says what it shows; returns whether it did.
async fn comes_with_push(ann: &Device, chat: Chat<'_>, (kind, named): (MessageType, &Message), title: &str) -> bool {
    match kind {
        MessageType::Tips if chat.kind == ConversationType::Group => {
            soon(ann.update_group_name(title, chat.id)).await.unwrap();
            true
        }
        MessageType::Revoke if chat.kind != ConversationType::Room => {
            let sent = send(ann, chat, Message::text("hi")).await.unwrap();
            let config =
                MessageRevokeConfig { push_config: titled(title).push_config, ..MessageRevokeConfig::default() };
            soon(ann.revoke_message(&sent, config)).await.unwrap();
            true
        }
        MessageType::Tips | MessageType::Revoke => false,
        kind => send_with(ann, chat, message(kind, Some(named)), titled(title)).await.is_ok(),
    }
}

#[tokio::test]
async fn messages_of_each_type_are_pushed_where_the_matrix_says() {
    let server = PushServer::http();
    let world = World::with(|config| config.groups.tips = true).await;
    set_webhook(&world, &server).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    crate::room::create(&ann, "stage").await;
    soon(bob.join_room("stage")).await.unwrap();
    create(&ann, "crew", &["bob"]).await;
    let named = send(&ann, Chat::from("bob"), Message::text("named")).await.unwrap();
    soon(bob.register_push(PushToken::webhook("phone"))).await.unwrap();
    bob.quit().await;
    is_offline(&world, "bob").await;
    for (place, chat) in [('R', room("stage")), ('P', Chat::from("bob")), ('G', group("crew"))] {
        for (kind, line) in MATRIX {
            let (places, _, _, is_pushed) = columns(line);
            let title = format!("{kind:?} {place}");
            let is_made = match kind {
                MessageType::Revoke => place != 'R',
                MessageType::Tips => place == 'G',
                _ => places.contains(place),
            };
            assert_eq!(comes_with_push(&ann, chat, (*kind, &named), &title).await, is_made, "{title}");
            world.clock.advance(DELAY_MS);
            if is_made && is_pushed && place != 'R' {
                let body = server.next().await.json();
                let pushed = if *kind == MessageType::Revoke { "revoke" } else { "message" };
                assert_eq!((&body["title"], &body["token"]), (&json!(title), &json!("phone")));
                assert_eq!(body["data"]["kind"], json!(pushed), "{title}");
            }
            // A push would have been noted together with the message.
            all_done(&world).await;
            assert_eq!(server.waiting(), 0, "{title}");
        }
    }
    world.end().await;
}
