//! Messages with files in a group: all devices of the members get them, now or later, and nobody else.

use zim_client_sdk::MessageSendNotification;
use zim_integration_tests::{Device, World, eventually, group, soon};
use zim_protocol::{ConversationType, EventKind, ImageMessage, MediaFileType, Message, MessageSendConfig, MessageType};

use crate::group::{create, state};
use crate::media::{Files, download, image_of, png};

/// The pictures that a device was told of in the group, each with whether it was away then.
fn pictures(device: &Device) -> Vec<(Message, bool)> {
    let mut told = device.received_from("crew");
    told.retain(|(message, _)| message.r#type() == MessageType::Image);
    told
}

#[tokio::test]
async fn send_media_message_reaches_all_devices_of_a_group_and_those_who_were_away() {
    let world = World::new().await;
    let (ann, tablet) = (world.user("ann").await, world.device("ann").await);
    let (bob, laptop) = (world.user("bob").await, world.device("bob").await);
    let (cai, dan) = (world.user("cai").await, world.user("dan").await);
    create(&ann, "crew", &["bob", "cai"]).await;
    state(&cai).await;
    let dir = cai.dir();
    cai.quit().await;
    let files = Files::new();
    let path = files.add("cat.png", &png(400, 200));
    let (config, none) = (MessageSendConfig::default(), MessageSendNotification::default());
    let sent = ann.send_media_message(Message::image(&path), "crew", ConversationType::Group, config, none);
    let sent = soon(sent).await.unwrap().message.unwrap();
    assert_eq!(image_of(&sent).file_local_path, path);
    let expected = ImageMessage { file_local_path: String::new(), ..image_of(&sent).clone() };
    world.clock.advance(1_000);
    let cai = world.user_at(dir, "cai").await;
    for (device, was_away) in [(&tablet, false), (&bob, false), (&laptop, false), (&cai, true)] {
        let told = eventually("the picture", async || pictures(device).pop()).await;
        assert_eq!((image_of(&told.0), told.1), (&expected, was_away));
        assert_eq!(pictures(device).len(), 1);
        let thumbnail = std::fs::read(download(device, &told.0, MediaFileType::Thumbnail).await.unwrap()).unwrap();
        assert_eq!(image::load_from_memory(&thumbnail).unwrap().width(), 198);
        let held = device.history(group("crew")).await.pop().unwrap();
        assert_eq!(image_of(&held), &expected);
    }
    // Neither the device that sent it nor another user is told of it.
    ann.say("dan", "the end").await;
    dan.receives("the end").await;
    dan.say("ann", "no, this").await;
    ann.receives("no, this").await;
    assert!(pictures(&ann).is_empty());
    assert!(dan.seen_of(EventKind::GroupMessageReceived).is_empty());
    world.end().await;
}
