//! A server that is reached by IPv6.

use std::net::Ipv6Addr;

use zim_client_sdk::MessageSendNotification;
use zim_integration_tests::{World, soon, texts};
use zim_protocol::{
    ConversationType, Event, MediaDownloadConfig, MediaFileType, Message, MessageSendConfig, MessageType,
};

/// The address stands in brackets wherever it has a port: in the settings of the client, and in the URL of a file.
#[tokio::test]
async fn messages_and_files_go_by_ipv6_also_after_a_restart() {
    let mut world = World::with(|config| config.listen.set_ip(Ipv6Addr::LOCALHOST.into())).await;
    assert!(world.servers().all(|server| server.local_addr().is_ipv6()));
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    ann.say("bob", "before").await;
    bob.receives("before").await;

    let folder = tempfile::tempdir().unwrap();
    let (path, bytes) = (folder.path().join("six.bin"), vec![6_u8; 100_000]);
    std::fs::write(&path, &bytes).unwrap();
    let (config, notification) = (MessageSendConfig::default(), MessageSendNotification::default());
    let file = Message::file(path.to_str().unwrap());
    soon(ann.send_media_message(file, "bob", ConversationType::Peer, config, notification)).await.unwrap();
    let received = bob.until("the file", |seen| {
        let mut lists = seen.iter().filter_map(|event| match event {
            Event::PeerMessageReceived(event) => Some(&event.message_list),
            _ => None,
        });
        lists.find_map(|list| list.iter().find(|message| message.r#type() == MessageType::File).cloned())
    });
    let (received, kind) = (received.await, MediaFileType::OriginalFile);
    let downloaded = bob.download_media_file(&received, kind, MediaDownloadConfig::default(), |_, _, _| {});
    let downloaded = soon(downloaded).await.unwrap();
    assert!(std::fs::read(downloaded.file_local_path).unwrap() == bytes, "the file differs");

    world.stop_server().await;
    let during = ann.send("bob", Message::text("during"));
    world.start_server().await;
    soon(during).await.unwrap();
    bob.receives("during").await;
    let said: Vec<String> =
        texts(&bob.history("ann").await).into_iter().filter(|text| !text.starts_with("type")).collect();
    assert_eq!(said, ["before", "during"]);
    world.end().await;
}
