//! Messages with files: sending, cancelling, downloading, and the files on this device.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tempfile::TempDir;
use zim_client_sdk::{MessageSendNotification, Zim};
use zim_integration_tests::{Device, World, code_of, eventually, refusal, soon};
use zim_protocol::message::Body;
use zim_protocol::{
    CacheConfig, CombineMessage, ConversationType, CreateAppRequest, DeleteAppRequest, ErrorCode, Event, EventKind,
    FileCacheClearConfig, FileCacheQueryConfig, ImageMessage, MediaDownloadConfig, MediaFileType, Message,
    MessageRevokeConfig, MessageSendConfig, MessageSentStatus, MessageType, SendingMessageCancelConfig,
};
use zim_server::config::PublicListen;

/// A folder with files of a test.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Writes a file; returns its path.
    pub(crate) fn add(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// A picture of this size.
pub(crate) fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::DynamicImage::new_rgb8(width, height).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// Bytes that no format begins with.
pub(crate) fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x1234_5678_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24).to_le_bytes()[0]
    };
    std::iter::once(b'#').chain(std::iter::repeat_with(&mut next)).take(count).collect()
}

/// Sends a message to bob, and returns it as it was sent.
pub(crate) async fn send(ann: &Zim, message: Message) -> Result<Message, zim_client_sdk::Error> {
    let config = MessageSendConfig::default();
    let sent =
        ann.send_media_message(message, "bob", ConversationType::Peer, config, MessageSendNotification::default());
    Ok(soon(sent).await?.message.unwrap())
}

/// Waits for a message of this type.
pub(crate) async fn receives(device: &Device, kind: MessageType) -> Message {
    device
        .until(&format!("a message of type {kind:?}"), |seen| {
            let messages = seen.iter().filter_map(|event| match event {
                Event::PeerMessageReceived(event) => Some(&event.message_list),
                _ => None,
            });
            messages.flatten().find(|message| message.r#type() == kind).cloned()
        })
        .await
}

pub(crate) fn image_of(message: &Message) -> &ImageMessage {
    match &message.body {
        Some(Body::Image(image)) => image,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn download(
    device: &Zim,
    message: &Message,
    kind: MediaFileType,
) -> Result<PathBuf, zim_client_sdk::Error> {
    let downloaded = device.download_media_file(message, kind, MediaDownloadConfig::default(), |_, _, _| {});
    Ok(soon(downloaded).await?.file_local_path.into())
}

/// How many files the server has, small versions included.
pub(crate) fn stored(world: &World) -> usize {
    fn count(folder: &Path) -> usize {
        let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
        // The pieces of uploads in an object store are no files, nor is who uses the store.
        let entries = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_none_or(|end| end != "parts") && !path.ends_with("owners"));
        entries.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
    }
    count(&world.media_dir())
}

#[tokio::test]
async fn send_media_message_sends_a_picture_with_its_versions() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let path = files.add("cat.png", &png(1_000, 500));
    let progress: Arc<Mutex<Vec<(i64, i64)>>> = Arc::default();
    let attached: Arc<Mutex<Option<Message>>> = Arc::default();
    let notification = MessageSendNotification::default()
        .on_message_attached({
            let attached = Arc::clone(&attached);
            move |message| *attached.lock() = Some(message.clone())
        })
        .on_media_uploading_progress({
            let progress = Arc::clone(&progress);
            move |message, moved, size| {
                assert_eq!(message.r#type(), MessageType::Image);
                progress.lock().push((moved, size));
            }
        });
    let config = MessageSendConfig::default();
    let sent = ann.send_media_message(Message::image(&path), "bob", ConversationType::Peer, config, notification);
    let sent = soon(sent).await.unwrap().message.unwrap();

    let attached = attached.lock().take().expect("onMessageAttached");
    assert_eq!(
        (attached.sent_status(), image_of(&attached).file_local_path.as_str()),
        (MessageSentStatus::Sending, &*path)
    );
    let size = i64::try_from(std::fs::metadata(&path).unwrap().len()).unwrap();
    let progress = progress.lock().clone();
    assert_eq!(progress.last(), Some(&(size, size)));
    assert!(progress.is_sorted(), "{progress:?}");

    let image = image_of(&sent);
    assert_eq!((sent.sent_status(), image.file_local_path.as_str()), (MessageSentStatus::Success, &*path));
    assert_eq!((image.file_name.as_str(), image.file_size), ("cat.png", size));
    assert_eq!((image.original_image_width, image.original_image_height), (1_000, 500));
    assert_eq!((image.large_image_width, image.large_image_height), (720, 360));
    assert_eq!((image.thumbnail_width, image.thumbnail_height), (198, 99));

    let received = receives(&bob, MessageType::Image).await;
    assert_eq!(image_of(&received), &ImageMessage { file_local_path: String::new(), ..image.clone() });
    let original = download(&bob, &received, MediaFileType::OriginalFile).await.unwrap();
    assert_eq!(std::fs::read(original).unwrap(), std::fs::read(&path).unwrap());
    for (kind, width) in [(MediaFileType::LargeImage, 720), (MediaFileType::Thumbnail, 198)] {
        let version = std::fs::read(download(&bob, &received, kind).await.unwrap()).unwrap();
        assert_eq!(image::load_from_memory(&version).unwrap().width(), width);
    }
    // The status of the message is told as for any other, and both have the path in their history.
    let statuses = ann.seen_of(EventKind::MessageSentStatusChanged);
    let statuses: Vec<_> = statuses
        .into_iter()
        .flat_map(|event| match event {
            Event::MessageSentStatusChanged(event) => event.infos,
            other => panic!("{other:?}"),
        })
        .map(|info| info.status())
        .collect();
    assert_eq!(statuses, [MessageSentStatus::Sending, MessageSentStatus::Success]);
    assert_eq!(image_of(&ann.history("bob").await[0]).file_local_path, path);
    assert!(image_of(&bob.history("ann").await[0]).file_local_path.ends_with(".png"));
    world.end().await;
}

#[tokio::test]
async fn send_media_message_takes_each_type_and_keeps_the_path_over_a_restart() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let mp3 = files.add("song.mp3", &[b"ID3\x04\0\0", &noise(3_000)[..]].concat());
    let mp4 = files.add("film.mp4", &[b"\0\0\0\x18ftypmp42", &noise(5_000)[..]].concat());
    let pdf = files.add("paper.pdf", &noise(70_000));
    for (message, kind) in [
        (Message::audio(&mp3, 300), MessageType::Audio),
        (Message::video(&mp4, 10), MessageType::Video),
        (Message::file(&pdf), MessageType::File),
    ] {
        let sent = send(&ann, message).await.unwrap();
        assert_eq!(sent.r#type(), kind);
        let received = receives(&bob, kind).await;
        let path = download(&bob, &received, MediaFileType::OriginalFile).await.unwrap();
        let original = match kind {
            MessageType::Audio => &mp3,
            MessageType::Video => &mp4,
            _ => &pdf,
        };
        assert_eq!(std::fs::read(path).unwrap(), std::fs::read(original).unwrap(), "{kind:?}");
    }
    let dir = ann.dir();
    ann.quit().await;
    let again = world.user_at(dir, "ann").await;
    let mut history = again.history("bob").await;
    let paths: Vec<String> = history.iter_mut().map(|message| message.media_parts()[0].local_path.clone()).collect();
    assert_eq!(paths, [mp3, mp4, pdf]);
    // Another device of the sender does not know where the files are.
    let other = world.device("ann").await;
    assert!(other.history("bob").await.iter_mut().all(|message| message.media_parts()[0].local_path.is_empty()));
    world.end().await;
}

#[tokio::test]
async fn send_media_message_takes_bytes() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let picture = png(20, 20);
    let path = soon(ann.keep_media_bytes(picture.clone())).await.unwrap();
    let mut message = Message::image(path);
    *message.media_parts()[0].name = "cat.png".to_owned();
    let progress: Arc<Mutex<Vec<i64>>> = Arc::default();
    let noted = Arc::clone(&progress);
    let peer = ann.peer("bob");
    soon(peer.send(message).on_progress(move |_, moved, _| noted.lock().push(moved)).into_future()).await.unwrap();
    assert_eq!(progress.lock().last().copied(), i64::try_from(picture.len()).ok());
    let mut received = receives(&bob, MessageType::Image).await;
    assert_eq!(*received.media_parts()[0].name, "cat.png");
    let path = download(&bob, &received, MediaFileType::OriginalFile).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), picture);
    world.end().await;
}

#[tokio::test]
async fn send_media_message_passes_the_url_of_a_file_elsewhere_through() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let image = ImageMessage {
        file_download_url: "https://elsewhere.example/cat.jpg".to_owned(),
        file_name: "cat.jpg".to_owned(),
        file_size: 77,
        thumbnail_download_url: "https://elsewhere.example/small.jpg".to_owned(),
        ..ImageMessage::default()
    };
    let message = Message { body: Some(Body::Image(Box::new(image.clone()))), ..Message::default() };
    let sent = send(&ann, message).await.unwrap();
    assert_eq!(image_of(&sent), &image);
    assert_eq!(image_of(&receives(&bob, MessageType::Image).await), &image);
    for bad in ["ftp://elsewhere.example/cat.jpg", "cat.jpg", &format!("https://e/{}", "x".repeat(500))] {
        let image = ImageMessage { file_download_url: bad.to_owned(), ..ImageMessage::default() };
        let message = Message { body: Some(Body::Image(Box::new(image))), ..Message::default() };
        assert_eq!(refusal(send(&ann, message).await), ErrorCode::CommonModuleParamsInvalid, "{bad}");
    }
    // A message without a file at all, and the URL of a file that this server does not have.
    let nothing = Message { body: Some(Body::Image(Box::default())), ..Message::default() };
    assert_eq!(refusal(send(&ann, nothing).await), ErrorCode::CommonModuleParamsInvalid);
    let https = world.server().https_addr().unwrap();
    let url = format!("https://{https}/media/{}", "0".repeat(32));
    let image = ImageMessage { file_download_url: url, ..ImageMessage::default() };
    let gone = Message { body: Some(Body::Image(Box::new(image))), ..Message::default() };
    assert_eq!(refusal(send(&ann, gone).await), ErrorCode::MessageModuleFileNotExist);
    assert_eq!(stored(&world), 0);
    world.end().await;
}

#[tokio::test]
async fn send_media_message_refuses_files_that_cannot_be_sent() {
    let world = World::with(|config| {
        config.limits.max_image_bytes = 2_000;
        config.limits.max_image_pixels = 10_000;
    })
    .await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let empty = files.add("empty", b"");
    let text = files.add("lies.png", b"I am not a picture.");
    let broken = files.add("broken.png", &png(50, 50)[..40]);
    let large = files.add("large.png", &[&png(10, 10)[..], &noise(2_000)[..]].concat());
    let bomb = files.add("bomb.png", &png(101, 100));
    let folder = files.path().to_str().unwrap().to_owned();
    let missing = format!("{folder}/missing");
    for (message, code) in [
        (Message::file(&missing), ErrorCode::MessageModuleFileNotExist),
        (Message::file(&folder), ErrorCode::MessageModuleFileError),
        (Message::file(&empty), ErrorCode::MessageModuleFileSizeInvalid),
        (Message::image(&large), ErrorCode::MessageModuleFileSizeInvalid),
        (Message::image(&bomb), ErrorCode::MessageModuleFileSizeInvalid),
        (Message::image(&text), ErrorCode::MessageModuleFileTypeUnsupported),
        (Message::audio(&text, 1), ErrorCode::MessageModuleFileTypeUnsupported),
        (Message::image(&broken), ErrorCode::MessageModuleFileTypeUnsupported),
    ] {
        let error = send(&ann, message).await.unwrap_err();
        assert_eq!(code_of(&error), code, "{error}");
        let failed = error.failed_message().unwrap();
        assert_eq!(failed.sent_status(), MessageSentStatus::Failed);
    }
    #[cfg(unix)]
    if rustix::process::geteuid().as_raw() != 0 {
        std::fs::set_permissions(&text, std::os::unix::fs::PermissionsExt::from_mode(0o0)).unwrap();
        assert_eq!(refusal(send(&ann, Message::file(&text)).await), ErrorCode::MessageModuleFilePermissionDenied);
    }
    let song = files.add("song.mp3", b"ID3\x04");
    for seconds in [301, -1] {
        let refused = refusal(send(&ann, Message::audio(&song, seconds)).await);
        assert_eq!(refused, ErrorCode::MessageModuleFileDurationInvalid, "{seconds}");
    }
    // What was refused takes no space, and is retried when its reason is gone.
    let fits = files.add("fits.png", &png(100, 100));
    assert!(send(&ann, Message::image(&fits)).await.is_ok());
    let error = send(&ann, Message::file(&missing)).await.unwrap_err();
    std::fs::write(&missing, "now there is one").unwrap();
    let retry = MessageSendConfig { is_retry_send: true, ..MessageSendConfig::default() };
    let failed = error.failed_message().unwrap().clone();
    let sent = ann.send_message(failed, "bob", ConversationType::Peer, retry, MessageSendNotification::default());
    assert_eq!(soon(sent).await.unwrap().message.unwrap().sent_status(), MessageSentStatus::Success);
    world.end().await;
}

#[tokio::test]
async fn send_media_message_does_not_upload_the_same_file_twice() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let bytes = noise(10_000);
    let (one, two) = (files.add("one", &bytes), files.add("two", &bytes));
    let first = send(&ann, Message::file(&one)).await.unwrap();
    let second = send(&ann, Message::file(&two)).await.unwrap();
    assert_eq!(stored(&world), 1);
    let url = |message: &Message| message.clone().media_parts()[0].download_url.clone();
    assert_eq!(url(&first), url(&second));
    assert_eq!(second.clone().media_parts()[0].name, "two");
    // Nobody else gets a file by its hash: that would tell who else has it.
    let sent = bob.send_media_message(
        Message::file(&one),
        "ann",
        ConversationType::Peer,
        MessageSendConfig::default(),
        |_: &Message, _, _| {},
    );
    let other = soon(sent).await.unwrap().message.unwrap();
    assert_ne!(url(&other), url(&first));
    assert_eq!(stored(&world), 2);
    world.end().await;
}

#[tokio::test]
async fn send_media_message_forwards_a_file_that_outlives_its_first_message() {
    let world = World::with(|config| {
        config.media.unused_kept_s = 60;
        config.limits.revoke_window_s = 86_400;
    })
    .await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let carl = world.user("carl").await;
    let files = Files::new();
    let sent = send(&ann, Message::file(files.add("paper", &noise(5_000)))).await.unwrap();
    let received = receives(&bob, MessageType::File).await;
    // Bob forwards the message to carl, and combines it for them.
    let forwarded = Message { body: received.body.clone(), ..Message::default() };
    soon(bob.send("carl", forwarded)).await.unwrap();
    let combine = CombineMessage {
        title: "papers".to_owned(),
        summary: "one".to_owned(),
        message_list: vec![received.clone()],
        ..CombineMessage::default()
    };
    let combined = Message { body: Some(Body::Combine(Box::new(combine))), ..Message::default() };
    let combined = soon(bob.send("carl", combined)).await.unwrap();
    let at_carl = receives(&carl, MessageType::File).await;
    soon(ann.revoke_message(&sent, MessageRevokeConfig::default())).await.unwrap();
    world.clock.advance(61_000);
    assert!(download(&carl, &at_carl, MediaFileType::OriginalFile).await.is_ok());
    // The forwarded message goes as well; the combined one has the file still.
    let own = bob.history("carl").await.remove(0);
    soon(bob.revoke_message(&own, MessageRevokeConfig::default())).await.unwrap();
    world.clock.advance(61_000);
    let detail = soon(carl.query_combine_message_detail(&receives(&carl, MessageType::Combine).await)).await.unwrap();
    let Some(Body::Combine(detail)) = detail.message.unwrap().body else { panic!() };
    let inner = Message { conversation_id: "bob".to_owned(), ..detail.message_list[0].clone() };
    soon(carl.clear_local_file_cache(FileCacheClearConfig::default())).await.unwrap();
    // Its position is that of another conversation: here another message has it, which stays as it is.
    assert_eq!((inner.message_seq, at_carl.message_seq), (1, 1));
    let before = carl.history("bob").await;
    let got = carl.download_media_file(
        &inner,
        MediaFileType::OriginalFile,
        MediaDownloadConfig::default(),
        |_: &Message, _, _| {},
    );
    assert_eq!(soon(got).await.unwrap().message.unwrap().message_id, inner.message_id);
    let refused = soon(carl.update_message_local_extended_data("mine", &inner)).await;
    assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid, "this device does not hold it");
    assert_eq!(carl.history("bob").await, before);
    assert_eq!(stored(&world), 1);
    // With the last message the file goes, after a while.
    soon(bob.revoke_message(&combined, MessageRevokeConfig::default())).await.unwrap();
    soon(carl.clear_local_file_cache(FileCacheClearConfig::default())).await.unwrap();
    world.advance_until("the file is removed", async || (stored(&world) == 0).then_some(())).await;
    let refused = refusal(download(&carl, &inner, MediaFileType::OriginalFile).await);
    assert_eq!(refused, ErrorCode::MessageModuleFileDownloadFailed);
    world.end().await;
}

#[tokio::test]
async fn send_media_message_stops_at_the_quota() {
    let world = World::with(|config| config.media.max_user_bytes = 30_000).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    send(&ann, Message::file(files.add("one", &noise(20_000)))).await.unwrap();
    let error = send(&ann, Message::file(files.add("two", &noise(10_001)))).await.unwrap_err();
    assert_eq!((code_of(&error), error.detail("reason")), (ErrorCode::MessageModuleFileServerError, Some("quota")));
    send(&ann, Message::file(files.add("three", &noise(10_000)))).await.unwrap();
    // Others have a quota of their own.
    let path = files.add("four", &noise(30_000));
    let sent = bob.send("ann", Message::file(path));
    soon(sent).await.unwrap();
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
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    send(&ann, Message::image(files.add("cat.png", &png(10, 10)))).await.unwrap();
    assert_eq!(stored(&world), 3);
    let (mut operator, first) = (world.admin().await, world.app_id());
    soon(operator.create_app(CreateAppRequest { app_id: first ^ 1, name: "Other".into() })).await.unwrap();
    let delete = || DeleteAppRequest { app_id: first, confirm: first };
    while !soon(operator.delete_app(delete())).await.unwrap().into_inner().is_done {}
    world.advance_until("the files are removed", async || (stored(&world) == 0).then_some(())).await;
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn cancel_sending_message_ends_an_upload() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let path = files.add("long", &vec![b'#'; 60_000_000]);
    let (begun, begins) = tokio::sync::oneshot::channel();
    let (mut begun, last) = (Some(begun), Arc::new(Mutex::new(0)));
    let sending =
        ann.send_media_message(Message::file(&path), "bob", ConversationType::Peer, MessageSendConfig::default(), {
            let last = Arc::clone(&last);
            move |message: &Message, moved: i64, _: i64| {
                *last.lock() = moved;
                if let Some(begun) = begun.take() {
                    let _ = begun.send(message.clone());
                }
            }
        });
    let message = soon(begins).await.unwrap();
    soon(ann.cancel_sending_message(&message, SendingMessageCancelConfig {})).await.unwrap();
    let error = soon(sending).await.unwrap_err();
    let moved = *last.lock();
    assert!(moved < 60_000_000, "{moved}");
    assert_eq!(code_of(&error), ErrorCode::MessageModuleSendMessageFailedForCancelled);
    assert_eq!(error.failed_message().unwrap().sent_status(), MessageSentStatus::Failed);
    eventually("the server forgets it", async || (stored(&world) == 0).then_some(())).await;
    // It is too late for a message that was sent, or has failed.
    let sent = send(&ann, Message::file(files.add("short", b"short"))).await.unwrap();
    for message in [&message, &sent] {
        let refused = soon(ann.cancel_sending_message(message, SendingMessageCancelConfig {})).await;
        assert_eq!(refusal(refused), ErrorCode::MessageModuleCancelSendingMessageFailed);
    }
    let refused = soon(ann.cancel_sending_message(&Message::default(), SendingMessageCancelConfig {})).await;
    assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid);
    assert_eq!(bob.history("ann").await.len(), 1);
    world.end().await;
}

#[tokio::test]
async fn download_media_file_tells_why_it_fails() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    send(&ann, Message::file(files.add("paper", &noise(300_000)))).await.unwrap();
    let received = receives(&bob, MessageType::File).await;
    let progress: Mutex<Vec<(i64, i64)>> = Mutex::default();
    let noted = |_: &Message, moved, size| progress.lock().push((moved, size));
    let config = MediaDownloadConfig::default;
    let downloaded = soon(bob.download_media_file(&received, MediaFileType::OriginalFile, config(), noted)).await;
    let message = downloaded.unwrap().message.unwrap();
    assert!(!message.clone().media_parts()[0].local_path.is_empty());
    assert_eq!(progress.lock().last(), Some(&(300_000, 300_000)));
    // What this device has is not downloaded again.
    progress.lock().clear();
    soon(bob.download_media_file(&received, MediaFileType::OriginalFile, config(), noted)).await.unwrap();
    assert!(progress.lock().is_empty());

    let code = async |message: &Message, kind| refusal(download(&bob, message, kind).await);
    for kind in [MediaFileType::Thumbnail, MediaFileType::VideoFirstFrame] {
        assert_eq!(code(&received, kind).await, ErrorCode::MessageModuleFileDownloadUrlNotFound);
    }
    let text = Message { conversation_id: "ann".to_owned(), ..Message::text("hi") };
    assert_eq!(code(&text, MediaFileType::OriginalFile).await, ErrorCode::MessageModuleFileDownloadUrlNotFound);
    let second = MediaDownloadConfig { message_info_index: 1 };
    let refused = soon(bob.download_media_file(&received, MediaFileType::OriginalFile, second, noted)).await;
    assert_eq!(refusal(refused), ErrorCode::MessageModuleFileDownloadUrlNotFound);
    let negative = MediaDownloadConfig { message_info_index: -1 };
    let refused = soon(bob.download_media_file(&received, MediaFileType::OriginalFile, negative, noted)).await;
    assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid);

    // Of a file elsewhere: one that is too large, a server that fails, and nobody who answers.
    let elsewhere = Elsewhere::new().await;
    for (path, code) in [
        ("large", ErrorCode::MessageModuleFileDownloadLimit),
        // As large as a file may be, it is only not complete.
        ("largest", ErrorCode::MessageModuleFileDownloadFailed),
        ("broken", ErrorCode::MessageModuleFileDownloadHttpRequestServerError),
        ("none", ErrorCode::MessageModuleFileDownloadFailed),
        ("short", ErrorCode::MessageModuleFileDownloadFailed),
    ] {
        let refused = refusal(download(&bob, &elsewhere.message(path), MediaFileType::OriginalFile).await);
        assert_eq!(refused, code, "{path}");
    }
    let path = download(&bob, &elsewhere.message("good"), MediaFileType::OriginalFile).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"good");
    // A download that broke off goes on where it was.
    let parts = elsewhere.message("parts");
    let refused = refusal(download(&bob, &parts, MediaFileType::OriginalFile).await);
    assert_eq!(refused, ErrorCode::MessageModuleFileDownloadFailed);
    let path = download(&bob, &parts, MediaFileType::OriginalFile).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"very good");
    let nobody = elsewhere.message("good");
    elsewhere.end();
    soon(bob.clear_local_file_cache(FileCacheClearConfig::default())).await.unwrap();
    let refused = refusal(download(&bob, &nobody, MediaFileType::OriginalFile).await);
    assert_eq!(refused, ErrorCode::MessageModuleFileDownloadFailed);
    world.end().await;
}

/// A server of files that are elsewhere.
struct Elsewhere {
    address: std::net::SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Elsewhere {
    async fn new() -> Self {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4_096];
                let read = stream.read(&mut request).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                let answer = match request.split(' ').nth(1) {
                    Some("/largest") => "200 OK\r\ncontent-length: 209715200\r\n\r\nhalf",
                    Some("/large") => "200 OK\r\ncontent-length: 209715201\r\n\r\n",
                    Some("/broken") => "503 Away\r\ncontent-length: 0\r\n\r\n",
                    Some("/short") => "200 OK\r\ncontent-length: 10\r\n\r\nhalf",
                    Some("/good") => "200 OK\r\ncontent-length: 4\r\n\r\ngood",
                    // Breaks off first, and has the rest then.
                    Some("/parts") if request.contains("bytes=4-") && request.contains("\"one\"") => {
                        "206 Part\r\ncontent-range: bytes 4-8/9\r\ncontent-length: 5\r\n\r\n good"
                    }
                    Some("/parts") => "200 OK\r\netag: \"one\"\r\ncontent-length: 9\r\n\r\nvery",
                    _ => "404 None\r\ncontent-length: 0\r\n\r\n",
                };
                let answer = format!("HTTP/1.1 {}", answer.replacen("\r\n", "\r\nconnection: close\r\n", 1));
                stream.write_all(answer.as_bytes()).await.ok();
            }
        });
        Self { address, task }
    }

    fn message(&self, path: &str) -> Message {
        let image =
            ImageMessage { file_download_url: format!("http://{}/{path}", self.address), ..ImageMessage::default() };
        let body = Some(Body::Image(Box::new(image)));
        Message { conversation_id: "ann".to_owned(), body, ..Message::default() }
    }

    fn end(self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn query_local_file_cache_counts_downloads() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    send(&ann, Message::file(files.add("paper", &noise(30_000)))).await.unwrap();
    let size = async |until| {
        soon(bob.query_local_file_cache(FileCacheQueryConfig { end_time: until })).await.unwrap().total_file_size
    };
    assert_eq!(size(0).await, 0);
    download(&bob, &receives(&bob, MessageType::File).await, MediaFileType::OriginalFile).await.unwrap();
    // Until a second after 1970, nothing was downloaded.
    assert_eq!((size(0).await, size(1_000).await), (30_000, 0));
    for device in [&ann, &bob] {
        let negative = soon(device.query_local_file_cache(FileCacheQueryConfig { end_time: -1 })).await;
        assert_eq!(refusal(negative), ErrorCode::CommonModuleParamsInvalid);
    }
    world.end().await;
}

#[tokio::test]
async fn clear_local_file_cache_removes_downloads() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let mut sent = send(&ann, Message::file(files.add("paper", &noise(30_000)))).await.unwrap();
    let path = download(&bob, &receives(&bob, MessageType::File).await, MediaFileType::OriginalFile).await.unwrap();
    // What was downloaded later than the given time stays.
    soon(bob.clear_local_file_cache(FileCacheClearConfig { end_time: 1_000 })).await.unwrap();
    assert!(path.exists());
    soon(bob.clear_local_file_cache(FileCacheClearConfig::default())).await.unwrap();
    assert!(!path.exists());
    assert!(bob.history("ann").await[0].media_parts()[0].local_path.is_empty());
    // The sender's own file is not a download.
    soon(ann.clear_local_file_cache(FileCacheClearConfig::default())).await.unwrap();
    assert!(Path::new(&*sent.media_parts()[0].local_path).exists());
    let negative = soon(bob.clear_local_file_cache(FileCacheClearConfig { end_time: -1 })).await;
    assert_eq!(refusal(negative), ErrorCode::CommonModuleParamsInvalid);
    world.end().await;
}

#[tokio::test]
async fn set_cache_config_moves_the_folder_of_downloads() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    send(&ann, Message::file(files.add("paper", b"paper"))).await.unwrap();
    let folder = files.path().join("cache");
    Zim::set_cache_config(CacheConfig { cache_path: folder.to_str().unwrap().to_owned() });
    let received = receives(&bob, MessageType::File).await;
    let path = download(&bob, &received, MediaFileType::OriginalFile).await.unwrap();
    assert_eq!(path.parent(), Some(&*folder));
    // A folder that cannot be one.
    Zim::set_cache_config(CacheConfig { cache_path: files.add("file", b"") });
    let refused = refusal(download(&bob, &received, MediaFileType::OriginalFile).await);
    assert_eq!(refused, ErrorCode::MessageModuleCacheFileOpenFailed);
    Zim::set_cache_config(CacheConfig::default());
    let path = download(&bob, &received, MediaFileType::OriginalFile).await.unwrap();
    assert!(path.starts_with(bob.dir().path()));
    world.end().await;
}
