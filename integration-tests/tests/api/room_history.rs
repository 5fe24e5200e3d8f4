//! The history of rooms: what is kept, who reads it, and when it ends.

use futures_util::future::join_all;
use zim_client_sdk::Zim;
use zim_integration_tests::{Device, World, eventually, refusal, room, soon, texts};
use zim_protocol::{
    CombineMessage, ConversationType, ErrorCode, Message, MessageDeleteConfig, MessageEditConfig, MessagePinConfig,
    MessageQueryConfig, MessageReactionAddConfig, MessageRevokeConfig, MessageType, SendMessageRequest,
    SendServerMessageRequest, message::Body,
};
use zim_server::config::Config;
use zim_server::db::Tx;

use super::media::Files;
use super::operator_message::{from, send};
use super::room::create;

const ROOM: ConversationType = ConversationType::Room;
const NOT_IN: ErrorCode = ErrorCode::RoomModuleUserIsNotInTheRoom;
const NONE: ErrorCode = ErrorCode::RoomModuleTheRoomDoesNotExist;
const INVALID: ErrorCode = ErrorCode::CommonModuleParamsInvalid;

/// The tables that have rows of messages.
const TABLES: [&str; 4] = ["message", "combine", "media_ref", "hidden"];

fn keeping(config: &mut Config) {
    config.rooms.history = true;
    config.limits.messages_per_second = 10_000;
    config.limits.message_burst = 10_000;
    config.limits.requests_per_second = 10_000;
    config.limits.request_burst = 10_000;
}

/// A server that keeps what is said in rooms.
async fn world() -> World {
    World::with(keeping).await
}

async fn rows(world: &World, table: &'static str) -> i64 {
    let counting = world.server().app().db.read(async move |tx: &mut Tx<'_>| {
        let row = tx.fetch_one(&format!("SELECT COUNT(*) FROM {table}"), &[]).await?;
        Ok(row.unwrap().get::<i64>(0)?)
    });
    soon(counting).await.unwrap()
}

async fn query(device: &Zim, room_id: &str, config: MessageQueryConfig) -> Result<Vec<Message>, ErrorCode> {
    let found = soon(device.query_history_message(room_id, ROOM, config)).await.map_err(|error| error.code())?;
    assert_eq!((found.conversation_id.as_str(), found.conversation_type()), (room_id, ROOM));
    Ok(found.message_list)
}

async fn said(device: &Device) -> Vec<String> {
    texts(&device.history(room("stage")).await)
}

fn config(next_message: Option<Message>, count: i64, reverse: bool) -> MessageQueryConfig {
    MessageQueryConfig { next_message, count, reverse, ..MessageQueryConfig::default() }
}

fn combine(message: &Message) -> Message {
    let combine = CombineMessage {
        title: "t".into(),
        summary: "s".into(),
        message_list: vec![message.clone()],
        ..CombineMessage::default()
    };
    Message { body: Some(Body::Combine(Box::new(combine))), ..Message::default() }
}

#[tokio::test]
async fn query_history_message_of_a_room_has_the_types_that_are_stored() {
    let world = world().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "stage").await;
    soon(bob.join_room("stage")).await.unwrap();
    let files = Files::new();
    let path = files.add("paper", b"paper");
    let first = ann.say(room("stage"), "one").await;
    for message in [
        Message::command(vec![1]),
        Message::custom("{}", 7),
        Message::barrage("wow"),
        Message::file(&path),
        combine(&first),
        Message::text("last"),
    ] {
        soon(ann.send_to(room("stage"), message)).await.unwrap();
    }
    bob.receives("last").await;
    let heard: Vec<Message> = bob.received_from("stage").into_iter().map(|(message, _)| message).collect();
    assert_eq!(heard.len(), 7);
    // Whoever comes later sees it, too.
    let cai = world.user("cai").await;
    soon(cai.join_room("stage")).await.unwrap();
    for device in [&ann, &bob, &cai] {
        let kept = device.history(room("stage")).await;
        let types: Vec<_> = kept.iter().map(Message::r#type).collect();
        let expected =
            [MessageType::Text, MessageType::Custom, MessageType::File, MessageType::Combine, MessageType::Text];
        assert_eq!(types, expected);
        let place = |message: &Message| (message.message_id.clone(), message.message_seq, message.order_key);
        let places: Vec<_> = kept.iter().map(place).collect();
        // It is what everybody heard, in the same order; the others have no position.
        let stored: Vec<_> = heard.iter().filter(|message| message.message_seq > 0).map(place).collect();
        assert_eq!(places, stored);
        assert!(places.is_sorted_by_key(|place| place.2) && places[0].1 == 1 && first.message_seq == 1);
        assert!(kept.iter().all(|message| message.sender_user_id == "ann" && message.conversation_id == "stage"));
        let detail = soon(device.query_combine_message_detail(&kept[3])).await.unwrap();
        let Some(Body::Combine(found)) = detail.message.unwrap().body else { panic!("not a combined message") };
        assert_eq!(texts(&found.message_list), ["one"]);
        // A room is in no list.
        assert!(device.conversations().await.is_empty());
    }
    let read: Vec<Message> = {
        let mut all = bob.room("stage").history().all();
        let mut read = Vec::new();
        while let Some(message) = soon(all.next()).await {
            read.push(message.unwrap());
        }
        read
    };
    assert_eq!((read.len(), read[0].message_id.as_str()), (5, heard[6].message_id.as_str()));
    // What it combines is for those who are in the room.
    let dan = world.user("dan").await;
    let refused = refusal(soon(dan.query_combine_message_detail(&heard[5])).await);
    assert_eq!(refused, INVALID);
    world.end().await;
}

#[tokio::test]
async fn query_history_message_of_a_room_goes_in_pages_in_both_directions() {
    let world = world().await;
    let ann = world.user("ann").await;
    create(&ann, "stage").await;
    let mut sent = Vec::new();
    for number in 1..=7 {
        sent.push(ann.say(room("stage"), &number.to_string()).await);
    }
    let page = async |config| texts(&query(&ann, "stage", config).await.unwrap());
    assert_eq!(page(config(None, 3, true)).await, ["5", "6", "7"]);
    assert_eq!(page(config(None, 3, false)).await, ["1", "2", "3"]);
    assert_eq!(page(config(None, 0, false)).await.len(), 7);
    let of = |message: &Message| {
        let empty = Message::default();
        [
            Message { message_seq: message.message_seq, ..empty.clone() },
            Message { message_id: message.message_id.clone(), ..empty.clone() },
            Message { order_key: message.order_key, ..empty },
        ]
    };
    for anchor in of(&sent[3]) {
        assert_eq!(page(config(Some(anchor.clone()), 2, true)).await, ["2", "3"]);
        assert_eq!(page(config(Some(anchor), 2, false)).await, ["5", "6"]);
    }
    assert!(page(config(Some(sent[0].clone()), 2, true)).await.is_empty());
    assert!(page(config(Some(sent[6].clone()), 2, false)).await.is_empty());
    let other = Message { message_id: "1".into(), ..Message::default() };
    assert_eq!(query(&ann, "stage", config(Some(other), 2, true)).await, Err(INVALID));
    assert_eq!(query(&ann, "stage", config(None, -1, true)).await, Err(INVALID));
    world.end().await;
}

#[tokio::test]
async fn query_history_message_of_a_room_is_for_those_who_are_in_it() {
    let world = world().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "stage").await;
    ann.say(room("stage"), "hi").await;
    let query = async |device: &Device, room_id| query(device, room_id, MessageQueryConfig::default()).await;
    assert_eq!(query(&bob, "stage").await, Err(NOT_IN));
    assert_eq!(query(&bob, "none").await, Err(NONE));
    soon(bob.join_room("stage")).await.unwrap();
    assert_eq!(said(&bob).await, ["hi"]);
    soon(bob.leave_room("stage")).await.unwrap();
    assert_eq!(query(&bob, "stage").await, Err(NOT_IN));
    // A user who is in it asks with any device.
    let tablet = world.device("ann").await;
    assert_eq!(said(&tablet).await, ["hi"]);
    // Who is not in it stores nothing either.
    let mut raw = world.raw_user("bob", 1).await;
    let request = |client_key: u8| SendMessageRequest {
        message: Some(Message::text("again")),
        to_conversation_id: "stage".into(),
        conversation_type: ROOM as i32,
        client_key: vec![client_key; 16].into(),
        ..SendMessageRequest::default()
    };
    assert_eq!(raw.call(&request(1)).await.unwrap_err().code, NOT_IN as i32);
    soon(bob.join_room("stage")).await.unwrap();
    // A request that is repeated is one message.
    let first = raw.call(&request(2)).await.unwrap().message.unwrap();
    let again = raw.call(&request(2)).await.unwrap().message.unwrap();
    assert_eq!((first.message_seq, &first.message_id), (2, &again.message_id));
    assert_eq!(raw.call(&request(3)).await.unwrap().message.unwrap().message_seq, 3);
    eventually("both", async || (ann.received_from("stage").len() == 2).then_some(())).await;
    assert_eq!(said(&ann).await, ["hi", "again", "again"]);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn messages_that_are_kept_of_a_room_are_not_changed_by_users() {
    let world = world().await;
    let ann = world.user("ann").await;
    create(&ann, "stage").await;
    let sent = ann.say(room("stage"), "hi").await;
    assert_eq!(refusal(soon(ann.revoke_message(&sent, MessageRevokeConfig::default())).await), INVALID);
    assert_eq!(refusal(soon(ann.edit_message(&sent, MessageEditConfig::default())).await), INVALID);
    assert_eq!(refusal(soon(ann.pin_message(&sent, true, MessagePinConfig::default())).await), INVALID);
    let reacting = ann.add_message_reaction("x", &sent, MessageReactionAddConfig::default());
    assert_eq!(refusal(soon(reacting).await), INVALID);
    let messages = [sent];
    let deleting = ann.delete_messages(&messages, "stage", ROOM, MessageDeleteConfig::default());
    assert_eq!(refusal(soon(deleting).await), INVALID);
    assert_eq!(said(&ann).await, ["hi"]);
    world.end().await;
}

#[tokio::test]
async fn the_history_of_a_room_ends_with_it() {
    let world = world().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "stage").await;
    let files = Files::new();
    let path = files.add("paper", b"paper");
    let first = ann.say(room("stage"), "old").await;
    for message in [combine(&first), Message::file(&path)] {
        soon(ann.send_to(room("stage"), message)).await.unwrap();
    }
    let mut operator = world.admin().await;
    let unaware =
        SendServerMessageRequest { sender_unaware: true, ..from(&world, "ann", (ROOM, "stage"), "not for ann") };
    send(&mut operator, unaware).await.unwrap();
    drop(operator);
    // More than one transaction removes.
    join_all((0..600).map(|number| ann.send_to(room("stage"), Message::text(number.to_string())))).await;
    soon(bob.join_room("stage")).await.unwrap();
    assert_eq!((said(&bob).await.len(), said(&ann).await.len()), (604, 603), "Ann does not learn of one");
    assert!(said(&bob).await.contains(&"not for ann".to_owned()));
    for table in TABLES {
        assert!(rows(&world, table).await > 0, "{table}");
    }
    for device in [&ann, &bob] {
        soon(device.leave_room("stage")).await.unwrap();
    }
    // The next room with the ID is another one.
    create(&bob, "stage").await;
    let new = bob.say(room("stage"), "new").await;
    assert_eq!((new.message_seq, said(&bob).await), (1, vec!["new".to_owned()]));
    let old = Message { message_id: first.message_id.clone(), ..Message::default() };
    assert_eq!(query(&bob, "stage", config(Some(old), 2, false)).await, Err(INVALID));
    for table in TABLES {
        let expected = i64::from(table == "message");
        world.advance_until(table, async || (rows(&world, table).await == expected).then_some(())).await;
    }
    assert_eq!(said(&bob).await, ["new"]);
    world.end().await;
}

#[tokio::test]
async fn a_file_of_a_message_that_is_kept_of_a_room_is_kept_with_it() {
    let world = World::with(|config| {
        keeping(config);
        config.media.unused_kept_s = 60;
    })
    .await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "stage").await;
    let files = Files::new();
    let path = files.add("paper", b"paper");
    soon(ann.send_to(room("stage"), Message::file(&path))).await.unwrap();
    world.clock.advance(61_000);
    soon(bob.join_room("stage")).await.unwrap();
    assert_eq!(bob.history(room("stage")).await.len(), 1);
    assert_eq!(rows(&world, "media").await, 1);
    for device in [&ann, &bob] {
        soon(device.leave_room("stage")).await.unwrap();
    }
    world.advance_until("the file is removed", async || (rows(&world, "media").await == 0).then_some(())).await;
    world.end().await;
}

#[tokio::test]
async fn the_newest_messages_of_a_room_are_kept() {
    let world = World::with(|config| {
        keeping(config);
        config.limits.max_room_history = 10;
    })
    .await;
    let ann = world.user("ann").await;
    create(&ann, "stage").await;
    let say = async |range: std::ops::Range<i32>| {
        join_all(range.map(|number| ann.send_to(room("stage"), Message::text(number.to_string())))).await;
    };
    let newest = |last: i32| (last - 9..=last).map(|number| number.to_string()).collect::<Vec<_>>();
    say(0..10).await;
    assert_eq!(said(&ann).await, newest(9));
    say(10..11).await;
    assert_eq!(said(&ann).await, newest(10), "one less than there were is left out");
    say(11..300).await;
    assert_eq!(said(&ann).await, newest(299));
    // The others are removed some at a time.
    eventually("the others are removed", async || (rows(&world, "message").await < 60).then_some(())).await;
    say(300..301).await;
    assert_eq!(said(&ann).await, newest(300));
    world.end().await;
}

#[tokio::test]
async fn without_the_setting_no_row_is_written_for_a_message_to_a_room() {
    let mut world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "stage").await;
    soon(bob.join_room("stage")).await.unwrap();
    let say = async |text: &str| {
        let sent = ann.say(room("stage"), text).await;
        bob.receives(text).await;
        sent.message_seq
    };
    assert_eq!((say("one").await, rows(&world, "message").await), (0, 0));
    // What was created before the setting keeps nothing.
    world.stop_server().await;
    world.edit_settings(|config| config.rooms.history = true);
    world.start_server().await;
    let is_back = async |device: &Device| {
        eventually("the room", async || {
            device.send_to(room("stage"), Message::command(vec![1])).await.is_ok().then_some(())
        })
        .await;
    };
    is_back(&bob).await;
    is_back(&ann).await;
    assert_eq!((say("two").await, rows(&world, "message").await), (0, 0));
    assert!(said(&ann).await.is_empty());
    create(&ann, "other").await;
    assert_eq!(ann.say(room("other"), "kept").await.message_seq, 1);
    // Without it, nothing more is kept, and nothing is shown.
    world.stop_server().await;
    world.edit_settings(|config| config.rooms.history = false);
    world.start_server().await;
    eventually("the room", async || ann.send_to(room("other"), Message::text("not kept")).await.is_ok().then_some(()))
        .await;
    assert!(ann.history(room("other")).await.is_empty());
    assert_eq!(rows(&world, "message").await, 1);
    world.end().await;
}

#[tokio::test]
async fn the_history_of_a_room_has_the_order_that_everybody_heard() {
    let world = world().await;
    let ann = world.user("ann").await;
    create(&ann, "stage").await;
    let mut crowd = Vec::new();
    for number in 0..4 {
        let device = world.user(&format!("u{number}")).await;
        soon(device.join_room("stage")).await.unwrap();
        crowd.push(device);
    }
    let mut calls = Vec::new();
    for round in 0..25 {
        for (number, device) in crowd.iter().enumerate() {
            calls.push(device.send_to(room("stage"), Message::text(format!("{number}:{round}"))));
            // It is not kept, and keeps its place.
            calls.push(device.send_to(room("stage"), Message::barrage(format!("{number}:{round}!"))));
        }
    }
    for sent in join_all(calls).await {
        sent.unwrap();
    }
    crowd[0].say(room("stage"), "end").await;
    ann.receives("end").await;
    let kept = said(&ann).await;
    assert_eq!(kept.len(), 101);
    let heard = |device: &Device| {
        let all: Vec<Message> = device.received_from("stage").into_iter().map(|(message, _)| message).collect();
        texts(all.iter().filter(|message| message.message_seq > 0))
    };
    assert_eq!(heard(&ann), kept);
    let all: Vec<String> = ann
        .received_from("stage")
        .iter()
        .filter_map(|(message, _)| match &message.body {
            Some(Body::Text(text)) => Some(text.message.clone()),
            Some(Body::Barrage(barrage)) => Some(barrage.message.clone()),
            _ => None,
        })
        .collect();
    for (number, device) in crowd.iter().enumerate() {
        let own = format!("{number}:");
        let calls: Vec<_> = (0..25).flat_map(|round| [format!("{own}{round}"), format!("{own}{round}!")]).collect();
        // Between several nodes, what is not kept may come after later messages that are.
        for is_kept in [true, false] {
            let of_kind = |text: &&String| text.ends_with('!') != is_kept && text.starts_with(&own);
            let sent: Vec<_> = all.iter().filter(of_kind).collect();
            assert_eq!(sent, calls.iter().filter(of_kind).collect::<Vec<_>>(), "u{number}: in the order of the calls");
        }
        let of_others = |text: &String| !text.starts_with(&own) && (number > 0 || text != "end");
        let expected: Vec<_> = kept.iter().filter(|text| of_others(text)).cloned().collect();
        eventually("the messages of the others", async || (heard(device) == expected).then_some(())).await;
    }
    world.end().await;
}
