//! A user with ten thousand conversations. It is a matter of pages, and takes long, so it runs on SQLite alone.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use zim_integration_tests::{Device, RawClient, World, code, hello, request, send_text, soon, texts};
use zim_protocol::{
    Conversation, ConversationFilterOption, ConversationQueryConfig, ConversationType, Message, RegisterUserRequest,
    SendMessageRequest,
};

use crate::row;

const MANY: u32 = 10_000;
/// How many requests are on their way at once.
const AT_ONCE: usize = 200;

fn name(number: u32) -> String {
    format!("user{number:05}")
}

/// A session that is told nothing.
async fn one_shot(world: &World, user_id: &str) -> RawClient {
    let mut raw = world.raw().await;
    raw.handshake(hello(1)).await;
    raw.call(&world.one_shot_request(user_id)).await.expect("a login");
    raw
}

/// Registers the others, and lets ann write to each of them.
async fn write_to_all(world: &World) {
    let (operator, app_id) = (world.admin().await, world.app_id());
    let mut ann = one_shot(world, "ann").await;
    let numbers: Vec<u32> = (0..MANY).collect();
    for numbers in numbers.chunks(AT_ONCE) {
        let registered = numbers.iter().map(|number| {
            let mut operator = operator.clone();
            let request = RegisterUserRequest { app_id, user_id: name(*number), user_name: String::new() };
            async move { soon(operator.register_user(request)).await.unwrap() }
        });
        join_all(registered).await;
        let send = |number: &u32| {
            let mut client_key = vec![0; 16];
            client_key[..4].copy_from_slice(&number.to_be_bytes());
            let send = SendMessageRequest {
                message: Some(Message::text(format!("to {number}"))),
                to_conversation_id: name(*number),
                conversation_type: ConversationType::Peer as i32,
                client_key: client_key.into(),
                ..SendMessageRequest::default()
            };
            // Its ID is no other's.
            request(u64::from(*number) + 1_000, &send)
        };
        ann.write(numbers.iter().map(send)).await;
        let answers = ann.responses(numbers.len()).await;
        assert!(answers.iter().all(|answer| code(answer) == 0), "{answers:?}");
        world.clock.advance(1);
    }
    ann.end().await;
}

async fn writes_to_ann(world: &World, number: u32, text: &str) {
    world.clock.advance(1_000);
    let mut raw = one_shot(world, &name(number)).await;
    raw.call(&send_text("ann", text, 1)).await.unwrap();
    raw.end().await;
}

/// All conversations of a list, in its order.
async fn listed(ann: &Device) -> Vec<Conversation> {
    let mut all: Vec<Conversation> = Vec::new();
    loop {
        let config = ConversationQueryConfig { next_conversation: all.last().cloned(), count: 100 };
        let page = soon(ann.query_conversation_list(config, ConversationFilterOption::default())).await.unwrap();
        if page.conversation_list.is_empty() {
            return all;
        }
        all.extend(page.conversation_list);
    }
}

/// Asserts that the list has each conversation once, these first, and the others by the times of their messages.
async fn lists_all(ann: &Device, first: &[u32]) -> Vec<Conversation> {
    let all = listed(ann).await;
    assert_eq!(all.len(), MANY as usize);
    let names: BTreeSet<String> = all.iter().map(|one| one.conversation_id.clone()).collect();
    assert!(names.into_iter().eq((0..MANY).map(name)), "some are missing");
    let begin: Vec<&str> = all.iter().take(first.len()).map(|one| one.conversation_id.as_str()).collect();
    assert_eq!(begin, first.iter().map(|number| name(*number)).collect::<Vec<_>>());
    let times = all.iter().map(|one| one.last_message.as_ref().expect("a message").timestamp);
    assert!(times.is_sorted_by(|later, earlier| later >= earlier), "they are not in the order of their messages");
    all
}

/// What all devices have of a conversation.
fn shared(conversation: Conversation) -> Conversation {
    Conversation { last_message: conversation.last_message.as_ref().map(row), ..conversation }
}

#[tokio::test]
async fn a_device_shows_ten_thousand_conversations_and_keeps_them() {
    let world = World::new().await;
    write_to_all(&world).await;
    for number in [0, MANY / 2, MANY - 1] {
        writes_to_ann(&world, number, "unread").await;
    }
    let ann = world.user("ann").await;
    assert_eq!(ann.total_unread().await, 3);
    lists_all(&ann, &[MANY - 1, MANY / 2, 0]).await;
    assert_eq!(texts(&ann.history(&name(0)).await), ["to 0", "unread"]);
    assert_eq!(texts(&ann.history(&name(MANY - 2)).await), [format!("to {}", MANY - 2)]);

    // A device that knows them all learns of a new message, and has the others at once.
    let dir = ann.dir();
    ann.quit().await;
    writes_to_ann(&world, 1, "meanwhile").await;
    let ann = world.user_at(dir, "ann").await;
    ann.receives("meanwhile").await;
    assert_eq!(ann.total_unread().await, 4);
    let fresh = world.device("ann").await;
    let (all, of_fresh) = (lists_all(&ann, &[1, MANY - 1, MANY / 2, 0]).await, lists_all(&fresh, &[1]).await);
    for (one, other) in all.into_iter().zip(of_fresh) {
        assert_eq!(shared(one), shared(other));
    }
    soon(ann.clear_conversation_total_unread_message_count()).await.unwrap();
    assert_eq!(ann.total_unread().await, 0);
    world.end().await;
}
