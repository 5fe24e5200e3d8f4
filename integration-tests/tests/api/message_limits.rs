//! The limits of what happens to a message as they are without any configuration: those of the reference, tried on both sides.

use zim_integration_tests::{World, refusal, send_text, soon};
use zim_protocol::message::Body;
use zim_protocol::{
    ErrorCode, Message, MessageEditConfig, MessageReactionAddConfig, MessageRevokeConfig, SendMessageRequest,
};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

#[tokio::test]
async fn a_message_can_be_revoked_for_two_minutes_and_edited_for_a_day() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (first, second) = (ann.say("bob", "1").await, ann.say("bob", "2").await);
    world.clock.advance(2 * MINUTE_MS);
    soon(ann.revoke_message(&first, MessageRevokeConfig::default())).await.unwrap();
    world.clock.advance(1);
    let late = refusal(soon(ann.revoke_message(&second, MessageRevokeConfig::default())).await);
    assert_eq!(late, ErrorCode::MessageModuleMessageExceedsRevokeTime);
    let third = ann.say("bob", "3").await;
    let with = |text: &str| Message { body: Message::text(text).body, ..third.clone() };
    world.clock.advance(DAY_MS);
    // The connection does not outlast a day without a sign of life.
    let ann = world.device("ann").await;
    soon(ann.edit_message(&with("in time"), MessageEditConfig {})).await.unwrap();
    world.clock.advance(1);
    let late = refusal(soon(ann.edit_message(&with("late"), MessageEditConfig {})).await);
    assert_eq!(late, ErrorCode::MessageModuleMessageExceedsEditTime);
    drop(bob);
    let history = world.device("bob").await.history("ann").await;
    assert_eq!(history.iter().map(Message::as_text).collect::<Vec<_>>(), [None, Some("2"), Some("in time")]);
    world.end().await;
}

#[tokio::test]
async fn a_message_has_a_hundred_types_of_reactions() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let sent = ann.say("bob", "hi").await;
    let got = bob.receives("hi").await;
    let react =
        |number: usize| ann.add_message_reaction(&number.to_string(), &sent, MessageReactionAddConfig::default());
    for number in 1..=100 {
        soon(react(number)).await.unwrap();
    }
    assert_eq!(refusal(soon(react(101)).await), ErrorCode::CommonModuleParamsInvalid);
    // Another user joins one of them, and cannot add one either.
    soon(bob.add_message_reaction("100", &got, MessageReactionAddConfig::default())).await.unwrap();
    let more = soon(bob.add_message_reaction("101", &got, MessageReactionAddConfig::default())).await;
    assert_eq!(refusal(more), ErrorCode::CommonModuleParamsInvalid);
    assert_eq!(ann.history("bob").await[0].reactions.len(), 100);
    world.end().await;
}

#[tokio::test]
async fn what_a_search_finds_of_a_custom_message_has_64_bytes() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let mut raw = world.raw_user("ann", 9).await;
    let custom = |searched: &str| {
        let mut message = Message::custom("{}", 0);
        if let Some(Body::Custom(custom)) = &mut message.body {
            custom.searched_content = searched.to_owned();
        }
        message
    };
    // Bytes, not characters.
    for (key, letter, most) in [(1, "x", 64), (2, "é", 32)] {
        let (good, bad) = (custom(&letter.repeat(most)), custom(&letter.repeat(most + 1)));
        let request =
            |message: &Message| SendMessageRequest { message: Some(message.clone()), ..send_text("bob", "", key) };
        let refused = raw.call(&request(&bad)).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::CommonModuleParamsInvalid as i32, "by the server: {letter}");
        raw.call(&request(&good)).await.unwrap();
        assert_eq!(refusal(soon(ann.send("bob", bad)).await), ErrorCode::CommonModuleParamsInvalid, "{letter}");
        let sent = soon(ann.send("bob", good.clone())).await.unwrap();
        assert_eq!(sent.body, good.body, "{letter}");
    }
    raw.end().await;
    world.end().await;
}
