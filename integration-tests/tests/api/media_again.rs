//! Files that several messages have, at once or one after another.

use futures_util::future::{Either, join};
use tokio::sync::oneshot;
use zim_client_sdk::{MessageSendNotification, Zim};
use zim_integration_tests::{World, code_of, eventually, refusal, soon};
use zim_protocol::{
    CacheConfig, ConversationType, ErrorCode, MediaFileType, Message, MessageSendConfig, MessageSentStatus,
    MessageType, SendingMessageCancelConfig,
};

use crate::media::{Files, download, image_of, noise, png, receives, send, stored};

#[tokio::test]
async fn send_media_message_uploads_a_file_of_two_messages_once() {
    let world = World::new().await;
    let (ann, _bob, _carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    let files = Files::new();
    let path = files.add("film", &vec![b'#'; 20_000_000]);
    let to = |user| ann.send(user, Message::file(&path));
    let (first, second) = soon(join(to("bob"), to("carl"))).await;
    let url = |sent: &mut Message| sent.media_parts()[0].download_url.clone();
    assert_eq!(url(&mut first.unwrap()), url(&mut second.unwrap()));
    assert_eq!(stored(&world), 1);
    world.end().await;
}

/// The server has one file for both, and one request at a time writes to it. The other one waits.
#[tokio::test]
async fn send_media_message_of_two_devices_uploads_a_file_once() {
    let world = World::new().await;
    // The clock of the test runs ahead while one waits.
    let patient = || world.client_with(|config| config.resend_window_ms(3_600_000));
    let (phone, tablet) = (world.login(patient(), "ann").await, world.login(patient(), "ann").await);
    let (_bob, carl) = (world.user("bob").await, world.user("carl").await);
    let files = Files::new();
    let path = files.add("film", &vec![b'#'; 20_000_000]);
    let mut both =
        std::pin::pin!(join(phone.send("bob", Message::file(&path)), tablet.send("carl", Message::file(&path))));
    let sent = world.advance_until("both messages are sent", async || match futures_util::poll!(&mut both) {
        std::task::Poll::Ready(sent) => Some(sent),
        std::task::Poll::Pending => None,
    });
    let (first, second) = sent.await;
    // Devices may know the server by different names.
    let secret = |mut sent: Message| sent.media_parts()[0].download_url.rsplit('/').next().map(str::to_owned);
    assert_eq!(secret(first.unwrap()), secret(second.unwrap()));
    assert_eq!(stored(&world), 1);
    let got = download(&carl, &receives(&carl, MessageType::File).await, MediaFileType::OriginalFile).await.unwrap();
    assert!(std::fs::read(got).unwrap() == std::fs::read(&path).unwrap(), "the file differs");
    world.end().await;
}

#[tokio::test]
async fn cancel_sending_message_and_send_media_message_of_another_leave_the_upload_to_it() {
    let world = World::new().await;
    let (ann, _bob, _carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    let files = Files::new();
    let path = files.add("film", &vec![b'#'; 20_000_000]);
    let (begun, begins) = oneshot::channel();
    let mut begun = Some(begun);
    let config = MessageSendConfig::default;
    let first = ann.send_media_message(Message::file(&path), "bob", ConversationType::Peer, config(), {
        move |message: &Message, _: i64, _: i64| {
            if let Some(begun) = begun.take() {
                // Fails if nobody waits any more.
                let _ = begun.send(message.clone());
            }
        }
    });
    let message = soon(begins).await.unwrap();
    let mut second = std::pin::pin!(ann.send("carl", Message::file(&path)));
    assert!(futures_util::poll!(&mut second).is_pending());
    soon(ann.cancel_sending_message(&message, SendingMessageCancelConfig {})).await.unwrap();
    assert_eq!(refusal(soon(first).await), ErrorCode::MessageModuleSendMessageFailedForCancelled);
    let sent = world.advance_until("the other message is sent", async || match futures_util::poll!(&mut second) {
        std::task::Poll::Ready(sent) => Some(sent.unwrap()),
        std::task::Poll::Pending => None,
    });
    assert_eq!(sent.await.sent_status(), MessageSentStatus::Success);
    assert_eq!(stored(&world), 1);
    world.end().await;
}

/// Texts go first, but a file need not wait until its user falls silent.
#[tokio::test]
async fn send_media_message_uploads_a_file_between_the_texts_of_its_sender() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let bytes = noise(3_000_000);
    let mut upload = std::pin::pin!(send(&ann, Message::file(files.add("film", &bytes))));
    // There is always one on its way.
    let sent = loop {
        let text = std::pin::pin!(ann.send("bob", Message::text("news")));
        match futures_util::future::select(upload.as_mut(), text).await {
            Either::Left((sent, text)) => {
                soon(text).await.unwrap();
                break sent.unwrap();
            }
            Either::Right((text, _)) => drop(text.unwrap()),
        }
    };
    assert_eq!(sent.sent_status(), MessageSentStatus::Success);
    let received = receives(&bob, MessageType::File).await;
    let got = download(&bob, &received, MediaFileType::OriginalFile).await.unwrap();
    assert!(std::fs::read(got).unwrap() == bytes, "the file differs");
    world.end().await;
}

#[tokio::test]
async fn send_media_message_uploads_a_file_again_that_the_server_has_removed() {
    let world = World::with(|config| config.media.unused_kept_s = 60).await;
    let ann = world.user("ann").await;
    let files = Files::new();
    let path = files.add("paper", &noise(5_000));
    // The file is uploaded, and then there is no receiver.
    let to_zoe = |message, config| {
        ann.send_media_message(message, "zoe", ConversationType::Peer, config, MessageSendNotification::default())
    };
    let error = soon(to_zoe(Message::file(&path), MessageSendConfig::default())).await.unwrap_err();
    let mut failed = error.failed_message().unwrap().clone();
    assert!(!failed.media_parts()[0].download_url.is_empty(), "{error}");
    world.advance_until("the file is removed", async || (stored(&world) == 0).then_some(())).await;
    let zoe = world.user("zoe").await;
    let retry = || MessageSendConfig { is_retry_send: true, ..MessageSendConfig::default() };
    // Without the file on this device nothing helps.
    std::fs::rename(&path, files.path().join("elsewhere")).unwrap();
    let error = soon(to_zoe(failed.clone(), retry())).await.unwrap_err();
    assert_eq!(code_of(&error), ErrorCode::MessageModuleFileNotExist, "{error}");
    std::fs::rename(files.path().join("elsewhere"), &path).unwrap();
    let mut sent = soon(to_zoe(failed, retry())).await.unwrap().message.unwrap();
    assert_eq!((sent.sent_status(), sent.media_parts()[0].local_path.clone()), (MessageSentStatus::Success, path));
    let received = receives(&zoe, MessageType::File).await;
    let got = download(&zoe, &received, MediaFileType::OriginalFile).await.unwrap();
    assert_eq!(std::fs::read(got).unwrap(), noise(5_000));
    world.end().await;
}

/// For example a folder that came from an older backup than the database.
#[tokio::test]
async fn send_media_message_uploads_a_file_again_whose_bytes_are_lost() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let path = files.add("paper", &noise(5_000));
    send(&ann, Message::file(&path)).await.unwrap();
    let first = receives(&bob, MessageType::File).await;
    let (media, aside) = (world.media_dir(), world.media_dir().with_extension("aside"));
    std::fs::rename(&media, &aside).unwrap();
    let lost = refusal(download(&bob, &first, MediaFileType::OriginalFile).await);
    assert_eq!(lost, ErrorCode::MessageModuleFileDownloadFailed);
    send(&ann, Message::file(&path)).await.unwrap();
    let second = eventually("the second one", async || bob.history("ann").await.into_iter().nth(1)).await;
    let got = download(&bob, &second, MediaFileType::OriginalFile).await.unwrap();
    assert_eq!(std::fs::read(got).unwrap(), noise(5_000));
    // What comes back, like a folder that is mounted again, is there again.
    std::fs::remove_dir_all(&media).unwrap();
    std::fs::rename(&aside, &media).unwrap();
    assert!(download(&bob, &first, MediaFileType::OriginalFile).await.is_ok());
    world.end().await;
}

#[tokio::test]
async fn send_media_message_keeps_a_file_from_its_last_message_on() {
    let world = World::with(|config| config.media.kept_days = 1).await;
    let (ann, bob, _carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    let files = Files::new();
    let mut used = send(&ann, Message::file(files.add("used", &noise(5_000)))).await.unwrap();
    send(&ann, Message::file(files.add("other", &noise(6_000)))).await.unwrap();
    let received = receives(&bob, MessageType::File).await;
    assert_eq!(received.message_id, used.message_id);
    world.clock.advance(20 * 3_600_000);
    soon(bob.send("carl", Message { body: received.body.clone(), ..Message::default() })).await.unwrap();
    world.clock.advance(5 * 3_600_000);
    world.advance_until("the other file is removed", async || (stored(&world) < 2).then_some(())).await;
    let client = world.https();
    let url = used.media_parts()[0].download_url.clone();
    let status = async || soon(client.get(&url).send()).await.unwrap().status();
    assert_eq!(status().await, reqwest::StatusCode::OK);
    world.clock.advance(20 * 3_600_000);
    world.advance_until("the file is removed", async || (stored(&world) == 0).then_some(())).await;
    assert_eq!(status().await, reqwest::StatusCode::NOT_FOUND);
    drop(client);
    world.end().await;
}

#[tokio::test]
async fn download_media_file_is_shared_by_the_clients_of_a_process() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let bytes = noise(3_000_000);
    send(&ann, Message::file(files.add("film", &bytes))).await.unwrap();
    let received = receives(&bob, MessageType::File).await;
    let cache = files.path().join("cache");
    Zim::set_cache_config(CacheConfig { cache_path: cache.to_str().unwrap().to_owned() });
    let of = |device| download(device, &received, MediaFileType::OriginalFile);
    let (here, there) = join(of(&ann), of(&bob)).await;
    let path = here.unwrap();
    assert_eq!(path, there.unwrap());
    assert!(std::fs::read(path).unwrap() == bytes, "the file differs");
    assert_eq!(std::fs::read_dir(cache).unwrap().count(), 1, "no part is left");
    world.end().await;
}

#[tokio::test]
async fn send_media_message_sends_a_tiff_without_small_versions() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let sent = send(&ann, Message::image(files.add("scan.tif", b"II*\0\x08\0\0\0\0\0"))).await.unwrap();
    assert_eq!((image_of(&sent).large_image_download_url.as_str(), stored(&world)), ("", 1));
    let sent = send(&ann, Message::image(files.add("cat.png", &png(10, 10)))).await.unwrap();
    assert!(!image_of(&sent).large_image_download_url.is_empty());
    world.end().await;
}
