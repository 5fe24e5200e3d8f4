//! End-to-end scenarios of users and their devices.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod addresses;
mod blacklist;
mod calls;
mod chat;
mod conversations;
mod delivered;
mod examples;
mod friends;
mod group_changes;
mod group_history;
mod groups;
mod guide;
mod many_conversations;
mod media;
mod message_life;
mod observed;
mod offline_and_back;
mod presence;
mod profiles;
mod push;
mod reconnect;
mod restart;
mod rooms;
mod two_devices;

use zim_integration_tests::{Device, texts};
use zim_protocol::{Conversation, Message};

/// A message as a device shows it, without the device's local fields.
fn row(message: &Message) -> Message {
    Message { local_message_id: String::new(), local_extended_data: String::new(), ..message.clone() }
}

/// Everything that a device shows: conversations, their histories and the total of unread messages.
async fn everything(device: &Device) -> (Vec<Conversation>, Vec<Vec<Message>>, i64) {
    let mut conversations = device.conversations().await;
    let mut histories = Vec::new();
    for conversation in &mut conversations {
        let history = device.history(&conversation.conversation_id).await;
        histories.push(history.iter().map(row).collect());
        conversation.last_message = conversation.last_message.as_ref().map(row);
    }
    (conversations, histories, device.total_unread().await)
}

/// Asserts that two devices of one user show the same, row for row.
async fn assert_same(one: &Device, other: &Device) {
    let (one, other) = (everything(one).await, everything(other).await);
    for (a, b) in one.1.iter().zip(&other.1) {
        assert_eq!(texts(a), texts(b));
    }
    assert_eq!(one.0, other.0);
    assert_eq!(one.1, other.1);
    assert_eq!(one.2, other.2);
}
