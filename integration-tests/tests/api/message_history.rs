//! Querying messages: the history, and single messages by their positions.

use zim_integration_tests::{Device, World, refusal, soon, texts};
use zim_protocol::{
    ConversationType, ErrorCode, Message, MessageQueryConfig, MessageQueryMode, QueryHistoryMessageRequest,
};

use crate::message::history;

const PEER: ConversationType = ConversationType::Peer;

fn page(count: i64, reverse: bool, next_message: Option<Message>) -> MessageQueryConfig {
    MessageQueryConfig { next_message, count, reverse, mode: MessageQueryMode::General as i32 }
}

#[tokio::test]
async fn query_history_message_walks_both_ways_without_the_anchor() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for number in 1..=10 {
        let (from, to) = if number % 2 == 0 { (&ann, "bob") } else { (&bob, "ann") };
        from.say(to, &number.to_string()).await;
    }
    ann.receives("9").await;
    bob.receives("10").await;
    for device in [&ann, &bob] {
        let peer = if device.user_id().as_deref() == Some("ann") { "bob" } else { "ann" };
        let newest = history(device, peer, page(3, true, None)).await;
        assert_eq!(texts(&newest), ["8", "9", "10"]);
        let older = history(device, peer, page(3, true, Some(newest[0].clone()))).await;
        assert_eq!(texts(&older), ["5", "6", "7"]);
        let newer = history(device, peer, page(3, false, Some(older[2].clone()))).await;
        assert_eq!(texts(&newer), ["8", "9", "10"]);
        let oldest = history(device, peer, page(2, false, None)).await;
        assert_eq!(texts(&oldest), ["1", "2"]);
        assert!(history(device, peer, page(5, true, Some(oldest[0].clone()))).await.is_empty());
        assert!(history(device, peer, page(5, false, Some(newest[2].clone()))).await.is_empty());
        for count in [0, 1_000] {
            assert_eq!(history(device, peer, page(count, true, None)).await.len(), 10);
        }
        let refused = soon(device.query_history_message(peer, PEER, page(-1, true, None))).await;
        assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid);
    }
    world.end().await;
}

#[tokio::test]
async fn query_history_message_of_a_fresh_device_comes_from_the_server() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    for number in 1..=120 {
        drop(ann.send("bob", Message::text(number.to_string())));
    }
    ann.say("bob", "121").await;
    let fresh = world.device("ann").await;
    let all = texts(&fresh.history("bob").await);
    assert_eq!(all, (1..=121).map(|number| number.to_string()).collect::<Vec<_>>());
    // Fetched messages are held locally and need no server.
    assert_eq!(texts(&fresh.history_by("bob", MessageQueryMode::OnlyLocal).await), all);
    world.end().await;
}

/// A page of history as the server gives it to any client.
async fn raw_history(device: &Device, config: serde_json::Value) -> Result<Vec<String>, ErrorCode> {
    let request = serde_json::json!({"conversationID": "bob", "conversationType": 0, "config": config});
    let answer = soon(device.call_json("Message/QueryHistoryMessage", request)).await.map_err(|error| error.code())?;
    let list = answer["messageList"].as_array().unwrap();
    Ok(list.iter().map(|message| message["message"].as_str().unwrap().to_owned()).collect())
}

#[tokio::test]
async fn query_history_message_beyond_the_newest_message_begins_at_the_end() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    for number in 1..=5 {
        ann.say("bob", &number.to_string()).await;
    }
    let modes = [MessageQueryMode::General, MessageQueryMode::PreferServer, MessageQueryMode::OnlyLocal];
    // The fresh device holds nothing at first.
    for device in [&world.device("ann").await, &ann] {
        for seq in [6, 7, 1_000_000, i64::MAX] {
            for mode in modes {
                let next = Message { message_seq: seq, ..Message::default() };
                let at = |reverse| MessageQueryConfig { mode: mode as i32, ..page(3, reverse, Some(next.clone())) };
                assert_eq!(texts(&history(device, "bob", at(true)).await), ["3", "4", "5"], "{seq} {mode:?}");
                assert!(history(device, "bob", at(false)).await.is_empty(), "{seq} {mode:?}");
            }
            let raw = |reverse| serde_json::json!({"count": 3, "reverse": reverse, "nextMessage": {"messageSeq": seq}});
            assert_eq!(raw_history(&ann, raw(true)).await.unwrap(), ["3", "4", "5"]);
            assert!(raw_history(&ann, raw(false)).await.unwrap().is_empty());
        }
    }
    world.end().await;
}

#[tokio::test]
async fn query_history_message_looks_up_an_anchor_by_its_id() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let mut sent = Vec::new();
    for number in 1..=5 {
        sent.push(ann.say("bob", &number.to_string()).await);
    }
    bob.receives("5").await;
    let third = Message { message_id: sent[2].message_id.clone(), ..Message::default() };
    for device in [&world.device("ann").await, &ann] {
        assert_eq!(texts(&history(device, "bob", page(9, true, Some(third.clone()))).await), ["1", "2"]);
        assert_eq!(texts(&history(device, "bob", page(9, false, Some(third.clone()))).await), ["4", "5"]);
        // A message that identifies nothing is none.
        assert_eq!(texts(&history(device, "bob", page(2, true, Some(Message::default()))).await), ["4", "5"]);
    }
    let by_key = Message { local_message_id: sent[2].local_message_id.clone(), ..Message::default() };
    assert_eq!(texts(&history(&ann, "bob", page(9, true, Some(by_key))).await), ["1", "2"]);
    let raw = |next: serde_json::Value| serde_json::json!({"reverse": true, "nextMessage": next});
    let id = &sent[2].message_id;
    assert_eq!(raw_history(&ann, raw(serde_json::json!({"messageID": id}))).await.unwrap(), ["1", "2"]);
    assert_eq!(raw_history(&ann, raw(serde_json::json!({"orderKey": 301}))).await.unwrap(), ["1", "2", "3"]);
    assert_eq!(raw_history(&ann, raw(serde_json::json!({"orderKey": 300}))).await.unwrap(), ["1", "2"]);
    // A message of another conversation, one that does not exist, and no number.
    let carl = world.user("carl").await;
    let other = ann.say("carl", "elsewhere").await;
    carl.receives("elsewhere").await;
    let refused = soon(ann.query_history_message("bob", PEER, page(9, true, Some(other.clone())))).await;
    assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid, "its place says nothing here");
    for message_id in [other.message_id.as_str(), "4711", "x"] {
        let next = Message { message_id: message_id.to_owned(), ..Message::default() };
        for mode in [MessageQueryMode::General, MessageQueryMode::OnlyLocal] {
            let config = MessageQueryConfig { mode: mode as i32, ..page(9, true, Some(next.clone())) };
            let refused = soon(ann.query_history_message("bob", PEER, config)).await;
            assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid, "{message_id} {mode:?}");
        }
        let refused = raw_history(&ann, raw(serde_json::json!({"messageID": message_id}))).await;
        assert_eq!(refused.unwrap_err(), ErrorCode::CommonModuleParamsInvalid, "{message_id}");
    }
    world.end().await;
}

#[tokio::test]
async fn query_history_message_without_a_count_is_a_page() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    for number in 1..=101 {
        drop(ann.send("bob", Message::text(number.to_string())));
    }
    ann.say("bob", "102").await;
    assert_eq!(history(&ann, "bob", MessageQueryConfig::default()).await.len(), 100);
    let first = raw_history(&ann, serde_json::json!({})).await.unwrap();
    assert_eq!((first.len(), first[0].as_str()), (100, "1"));
    assert_eq!(raw_history(&ann, serde_json::json!({"count": 101})).await.unwrap().len(), 100);
    let refused = raw_history(&ann, serde_json::json!({"count": -1})).await;
    assert_eq!(refused.unwrap_err(), ErrorCode::CommonModuleParamsInvalid);
    world.end().await;
}

#[tokio::test]
async fn query_history_message_mode_is_one_of_three() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    ann.say("bob", "hi").await;
    let mut raw = world.raw_user("ann", 1).await;
    for (mode, is_known) in [(-1, false), (0, true), (2, true), (3, false), (9, false)] {
        let config = MessageQueryConfig { mode, ..page(3, true, None) };
        let by_sdk = soon(ann.query_history_message("bob", PEER, config.clone())).await;
        let request = QueryHistoryMessageRequest {
            conversation_id: "bob".into(),
            conversation_type: PEER as i32,
            config: Some(config),
        };
        let by_server = raw.call(&request).await;
        if is_known {
            assert_eq!(texts(&by_sdk.unwrap().message_list), ["hi"]);
            assert_eq!(texts(&by_server.unwrap().message_list), ["hi"]);
        } else {
            assert_eq!(refusal(by_sdk), ErrorCode::CommonModuleParamsInvalid);
            assert_eq!(by_server.unwrap_err().code, ErrorCode::CommonModuleParamsInvalid as i32);
        }
    }
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn query_history_message_of_an_unknown_conversation_is_empty() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    assert!(ann.history("bob").await.is_empty());
    assert!(ann.history("nobody").await.is_empty());
    world.end().await;
}

#[tokio::test]
async fn query_history_message_is_refused_without_a_conversation() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let refused = soon(ann.query_history_message("", PEER, page(1, true, None))).await;
    assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid);
    world.end().await;
}

#[tokio::test]
async fn query_history_message_shows_what_the_wire_carries() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    for number in 0..5 {
        ann.say("bob", &number.to_string()).await;
    }
    let request = serde_json::json!({
        "conversationID": "bob", "conversationType": 0, "config": {"count": 3, "reverse": true}
    });
    let answer = soon(ann.call_json("Message/QueryHistoryMessage", request)).await.unwrap();
    let list = answer["messageList"].as_array().unwrap();
    let shown: Vec<&str> = list.iter().map(|message| message["message"].as_str().unwrap()).collect();
    assert_eq!(shown, ["2", "3", "4"]);
    world.end().await;
}

#[tokio::test]
async fn query_messages_finds_by_position() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for number in 1..=5 {
        ann.say("bob", &number.to_string()).await;
    }
    bob.receives("5").await;
    for (device, peer) in [(&ann, "bob"), (&bob, "ann")] {
        let found = soon(device.query_messages(&[4, 2, 99, 2], peer, PEER)).await.unwrap();
        assert_eq!(texts(&found.message_list), ["2", "4"]);
        assert_eq!(found.conversation_id, peer);
    }
    // On a device without local data.
    let fresh = world.device("ann").await;
    let found = soon(fresh.query_messages(&[1, 3], "bob", PEER)).await.unwrap();
    assert_eq!(texts(&found.message_list), ["1", "3"]);
    world.end().await;
}

#[tokio::test]
async fn query_messages_takes_1_to_10_positions() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let many: Vec<i64> = (1..=11).collect();
    for seqs in [&many[..], &[]] {
        assert_eq!(refusal(soon(ann.query_messages(seqs, "bob", PEER)).await), ErrorCode::CommonModuleParamsInvalid);
    }
    assert!(soon(ann.query_messages(&many[..10], "bob", PEER)).await.unwrap().message_list.is_empty());
    world.end().await;
}

#[tokio::test]
async fn query_messages_of_other_users_returns_nothing() {
    let world = World::new().await;
    let (ann, _bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    ann.say("bob", "between us").await;
    for peer in ["ann", "bob"] {
        assert!(soon(carl.query_messages(&[1], peer, PEER)).await.unwrap().message_list.is_empty());
        assert!(carl.history(peer).await.is_empty());
    }
    world.end().await;
}
