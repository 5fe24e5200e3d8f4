//! The place of commands among the messages of their sender.

use zim_integration_tests::{RawClient, World, code, request, send_text, soon};
use zim_protocol::message::Body;
use zim_protocol::{Event, Message, MessageEntry, SendMessageRequest, client_frame, event_frame};

/// Texts and commands that are sent in one write.
const BURST: u8 = 40;

/// The message of a number: every third is a text, the others are commands.
fn numbered(number: u8) -> Message {
    if number.is_multiple_of(3) { Message::text(number.to_string()) } else { Message::command(vec![number]) }
}

fn burst(to: &str, round: u8) -> Vec<client_frame::Frame> {
    let send = |number: u8| {
        let key = [round, number].repeat(8).into();
        let send = SendMessageRequest { message: Some(numbered(number)), client_key: key, ..send_text(to, "", 0) };
        request(u64::from(number) + 1_000, &send)
    };
    (0..BURST).map(send).collect()
}

fn number(entry: MessageEntry) -> u8 {
    let conversation = zim_protocol::ConversationRef { r#type: 0, id: "ann".into() };
    number_of(&entry.into_message("bob", &conversation).unwrap())
}

fn number_of(message: &Message) -> u8 {
    match &message.body {
        Some(Body::Command(command)) => command.message[0],
        Some(Body::Text(text)) => text.message.parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Reads the event stream up to the last message of a burst.
async fn arrived(device: &mut RawClient) -> Vec<u8> {
    let mut numbers = Vec::new();
    while numbers.last() != Some(&(BURST - 1)) {
        match device.event().await.unwrap() {
            event_frame::Frame::Push(push) => numbers.extend(push.messages.into_iter().map(number)),
            event_frame::Frame::Transient(transient) => numbers.push(number(transient.message.unwrap())),
            other => panic!("{other:?}"),
        }
    }
    numbers
}

#[tokio::test]
async fn send_message_command_keeps_its_place_among_messages_that_are_not_awaited() {
    let world = World::new().await;
    let (mut ann, mut laptop) = (world.raw_user("ann", 1).await, world.raw_user("ann", 2).await);
    let mut bob = world.raw_user("bob", 3).await;
    for round in 0..5 {
        ann.write(burst("bob", round)).await;
        for response in ann.responses(BURST.into()).await {
            assert_eq!(code(&response), 0);
        }
        for device in [&mut bob, &mut laptop] {
            assert_eq!(arrived(device).await, (0..BURST).collect::<Vec<_>>(), "round {round}");
        }
    }
    ann.end().await;
    laptop.end().await;
    bob.end().await;
    world.end().await;
}

#[tokio::test]
async fn send_message_command_keeps_its_place_from_one_app_to_the_other() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    // The conversation is new to both devices, which ask the server about it while the messages arrive.
    let calls: Vec<_> = (0..BURST).map(|number| ann.send("bob", numbered(number))).collect();
    for call in calls {
        soon(call).await.unwrap();
    }
    let received = |seen: &[Event]| {
        let lists = seen.iter().filter_map(|event| match event {
            Event::PeerMessageReceived(event) => Some(&event.message_list),
            _ => None,
        });
        let numbers: Vec<_> = lists.flatten().map(number_of).collect();
        (numbers.len() >= BURST.into()).then_some(numbers)
    };
    assert_eq!(bob.until("all messages", received).await, (0..BURST).collect::<Vec<_>>());
    world.end().await;
}
