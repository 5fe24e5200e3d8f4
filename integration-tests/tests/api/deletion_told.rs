//! Deletions of two devices of a user at once: which of them a device is told of.

use zim_integration_tests::{DataDir, Device, World, refusal, soon};
use zim_protocol::{
    DeleteAllConversationMessagesRequest, ErrorCode, Event, EventKind, MessageDeleteConfig, MessageDeleteType,
    SyncRequest, feed_entry::Detail,
};

const EVERYWHERE: MessageDeleteConfig = MessageDeleteConfig { is_also_delete_server_message: Some(true) };

/// Waits for the next event that messages were deleted; returns of what kind it is.
async fn deleted(device: &Device) -> MessageDeleteType {
    match device.next(EventKind::MessageDeleted).await {
        Event::MessageDeleted(event) => event.message_delete_type(),
        other => panic!("{other:?}"),
    }
}

/// A device tells its own deletion from that of another device by the number.
#[tokio::test]
async fn delete_all_conversation_messages_tells_the_number_of_the_last_request() {
    let world = World::new().await;
    let mut raw = world.raw_user("bob", 1).await;
    let delete = |deletion_number| DeleteAllConversationMessagesRequest { config: Some(EVERYWHERE), deletion_number };
    let largest: i64 = (1 << 53) - 1;
    // Clients of earlier versions give none.
    for number in [0, 7, largest, 8, 7, 0] {
        raw.call(&delete(number)).await.unwrap();
        let feed = raw.call(&SyncRequest::default()).await.unwrap().feed;
        let number_of = |detail: &Detail| match detail {
            Detail::AllCleared(all) => Some(all.deletion_number),
            _ => None,
        };
        let told: Vec<i64> = feed.iter().filter_map(|entry| number_of(entry.detail.as_ref()?)).collect();
        assert_eq!(told, [number], "only the last deletion is told");
    }
    for number in [-1, largest + 1] {
        let refused = raw.call(&delete(number)).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::CommonModuleParamsInvalid as i32, "{number}");
    }
    raw.end().await;
    world.end().await;
}

/// The request of one device does not reach the server. Meanwhile it is told that another device deleted all messages, and there is a later
/// one, which nobody deleted.
#[tokio::test]
async fn delete_all_conversation_messages_fails_although_another_device_does_it_meanwhile() {
    let world = World::new().await;
    let (ann, phone) = (world.user("ann").await, world.device("bob").await);
    let proxy = world.proxy(1).await;
    let impatient = world.client_via(&proxy, DataDir::default(), |config| config.request_timeout_ms(3_000));
    let bob = world.login(impatient, "bob").await;
    ann.say("bob", "1").await;
    for device in [&bob, &phone] {
        device.receives("1").await;
    }
    proxy.cut_forth();
    let (own, ()) = tokio::join!(soon(bob.delete_all_conversation_messages(EVERYWHERE)), async {
        soon(phone.delete_all_conversation_messages(EVERYWHERE)).await.unwrap();
        ann.say("bob", "2").await;
        bob.receives("2").await;
        let mut told = deleted(&bob).await;
        while told != MessageDeleteType::AllConversationMessagesDeleted {
            told = deleted(&bob).await;
        }
    });
    assert_eq!(refusal(own), ErrorCode::NetworkModuleRequestTimeout);
    proxy.restore();
    world.end().await;
}
