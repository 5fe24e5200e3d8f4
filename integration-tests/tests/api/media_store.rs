//! The files of a server: their quotas, how long they are kept, and stores that fail.

use zim_client_sdk::MessageSendNotification;
use zim_integration_tests::{World, code_of, refusal, soon};
use zim_protocol::{
    ConversationType, CreateAppRequest, DeleteAppRequest, ErrorCode, Message, MessageRevokeConfig, MessageSendConfig,
    MessageSentStatus,
};
use zim_server::config::PublicListen;

use crate::media::{Files, image_of, noise, png, send, stored};
use crate::media_quota::number;

#[tokio::test]
async fn send_media_message_stops_at_the_quota() {
    let world = World::with(|config| config.media.max_user_bytes = 30_000).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let one = files.add("one", &noise(20_000));
    send(&ann, Message::file(&one)).await.unwrap();
    let error = send(&ann, Message::file(files.add("two", &noise(10_001)))).await.unwrap_err();
    assert_eq!((code_of(&error), error.detail("reason")), (ErrorCode::MessageModuleFileServerError, Some("quota")));
    send(&ann, Message::file(files.add("three", &noise(10_000)))).await.unwrap();
    // Now it is used up. A file that the server has takes no more of it.
    let least = files.add("least", b"x");
    let error = send(&ann, Message::file(&least)).await.unwrap_err();
    assert_eq!((code_of(&error), error.detail("reason")), (ErrorCode::MessageModuleFileServerError, Some("quota")));
    send(&ann, Message::file(&one)).await.unwrap();
    // Others have a quota of their own. What the server refuses takes none of it.
    let broken = files.add("broken.png", &[&png(50, 50)[..40], &noise(20_000)[..]].concat());
    let refused = refusal(soon(bob.send("ann", Message::image(broken))).await);
    assert_eq!(refused, ErrorCode::MessageModuleFileTypeUnsupported);
    let path = files.add("four", &noise(30_000));
    let sent = bob.send("ann", Message::file(path));
    soon(sent).await.unwrap();
    // The smallest file counts as 4 KB: of two, one has room here.
    let carl = world.user("carl").await;
    send(&carl, Message::file(files.add("five", &noise(25_000)))).await.unwrap();
    send(&carl, Message::file(&least)).await.unwrap();
    assert!(send(&carl, Message::file(files.add("other", b"y"))).await.is_err());
    world.end().await;
}

#[tokio::test]
async fn send_media_message_stops_at_the_quota_of_the_app() {
    let world = World::with(|config| {
        config.media.max_app_bytes = 30_000;
        config.media.unused_kept_s = 60;
    })
    .await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let sent = send(&ann, Message::file(files.add("one", &noise(20_000)))).await.unwrap();
    let large = Message::file(files.add("two", &noise(10_001)));
    let error = soon(bob.send("ann", large.clone())).await.unwrap_err();
    assert_eq!((code_of(&error), error.detail("reason")), (ErrorCode::MessageModuleFileServerError, Some("quota")));
    // As much as there is can be used, by whomever.
    soon(bob.send("ann", Message::file(files.add("three", &noise(10_000))))).await.unwrap();
    let error = send(&ann, Message::file(files.add("least", b"x"))).await.unwrap_err();
    assert_eq!((code_of(&error), error.detail("reason")), (ErrorCode::MessageModuleFileServerError, Some("quota")));
    // When a file goes, there is room again.
    soon(ann.revoke_message(&sent, MessageRevokeConfig::default())).await.unwrap();
    world.clock.advance(60_000);
    world.advance_until("there is room", async || soon(bob.send("ann", large.clone())).await.ok()).await;
    world.end().await;
}

#[tokio::test]
async fn send_media_message_sends_a_file_that_is_kept_as_long_as_the_server_says() {
    let world = World::with(|config| config.media.kept_days = 1).await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let path = files.add("cat.png", &png(10, 10));
    let sent = send(&ann, Message::image(&path)).await.unwrap();
    let client = world.https();
    let status = async || soon(client.get(&image_of(&sent).thumbnail_download_url).send()).await.unwrap().status();
    world.clock.advance(86_400_000 - 1_000);
    assert_eq!(status().await, reqwest::StatusCode::OK);
    world.clock.advance(1_000);
    world.advance_until("the files are removed", async || (stored(&world) == 0).then_some(())).await;
    assert_eq!(status().await, reqwest::StatusCode::NOT_FOUND);
    // The message stays, and the file can be sent again. The token of the login has expired.
    let again = world.user("ann").await;
    assert_eq!(again.history("bob").await.len(), 1);
    send(&again, Message::image(&path)).await.unwrap();
    assert_eq!(stored(&world), 3);
    drop(client);
    world.end().await;
}

#[tokio::test]
async fn send_media_message_fails_without_a_server_for_files() {
    let world = World::with(|config| config.https = PublicListen::Off).await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let path = files.add("paper", b"paper");
    let error = send(&ann, Message::file(&path)).await.unwrap_err();
    assert_eq!((code_of(&error), error.detail("reason")), (ErrorCode::MessageModuleFileServerError, Some("off")));
    // A name that no file system takes.
    let refused = refusal(send(&ann, Message::file("x".repeat(5_000))).await);
    assert_eq!(refused, ErrorCode::MessageModuleFileClientError);
    world.end().await;
}

#[tokio::test]
async fn send_media_message_fails_if_the_store_or_the_url_of_the_server_is_wrong() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let files = Files::new();
    let path = files.add("paper", b"paper");
    // The folder of the files cannot be made.
    let world = World::with(|config| config.media.store = file.path().to_str().unwrap().parse().unwrap()).await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    assert_eq!(refusal(send(&ann, Message::file(&path)).await), ErrorCode::MessageModuleFileServerError);
    world.end().await;
    // Nothing answers at the public URL: the message waits as long as others do.
    let world = World::with(|config| config.media.public_url = "https://127.0.0.1:1".to_owned()).await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let config = MessageSendConfig::default();
    let none = MessageSendNotification::default();
    let mut sending = std::pin::pin!(ann.send_media_message(
        Message::file(&path),
        "bob",
        ConversationType::Peer,
        config.clone(),
        none
    ));
    let failed = world.advance_until("the upload fails", async || match futures_util::poll!(&mut sending) {
        std::task::Poll::Ready(sent) => Some(refusal(sent)),
        std::task::Poll::Pending => None,
    });
    assert_eq!(failed.await, ErrorCode::MessageModuleFileConnectError);
    assert_eq!(ann.history("bob").await[0].sent_status(), MessageSentStatus::Failed);
    world.end().await;
    // Something else answers there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let world = World::with(|config| {
        config.https = PublicListen::Tcp(free);
        config.media.public_url = format!("https://{free}/elsewhere");
    })
    .await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let mut sending = std::pin::pin!(send(&ann, Message::file(&path)));
    let failed = world.advance_until("the upload fails", async || match futures_util::poll!(&mut sending) {
        std::task::Poll::Ready(sent) => Some(refusal(sent)),
        std::task::Poll::Pending => None,
    });
    assert_eq!(failed.await, ErrorCode::MessageModuleFileHttpError);
    world.end().await;
}

#[tokio::test]
async fn delete_app_removes_its_files() {
    let world = World::with(|config| config.media.max_app_bytes = 1 << 30).await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    send(&ann, Message::image(files.add("cat.png", &png(10, 10)))).await.unwrap();
    assert_eq!(stored(&world), 3);
    let (mut operator, first) = (world.admin().await, world.app_id());
    soon(operator.create_app(CreateAppRequest { app_id: first ^ 1, name: "Other".into() })).await.unwrap();
    let delete = || DeleteAppRequest { app_id: first, confirm: first };
    assert_eq!(number(&world, "SELECT COUNT(*) FROM media_total").await, 1);
    while !soon(operator.delete_app(delete())).await.unwrap().into_inner().is_done {}
    assert_eq!(number(&world, "SELECT COUNT(*) FROM media_total").await, 0);
    world.advance_until("the files are removed", async || (stored(&world) == 0).then_some(())).await;
    drop(operator);
    world.end().await;
}
