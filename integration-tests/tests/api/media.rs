//! Messages with files: sending and cancelling.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tempfile::TempDir;
use zim_client_sdk::{MessageSendNotification, Zim};
use zim_integration_tests::{Device, World, code_of, eventually, refusal, soon};
use zim_protocol::message::Body;
use zim_protocol::{
    CombineMessage, ConversationType, ErrorCode, Event, EventKind, FileCacheClearConfig, ImageMessage,
    MediaDownloadConfig, MediaFileType, Message, MessageRevokeConfig, MessageSendConfig, MessageSentStatus,
    MessageType, SendingMessageCancelConfig,
};

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
    // What follows the picture is none of it, but counts.
    let of_size = |size: usize| {
        let mut bytes = png(10, 10);
        bytes.extend(noise(size - bytes.len()));
        bytes
    };
    let (most, large) = (files.add("most.png", &of_size(2_000)), files.add("large.png", &of_size(2_001)));
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
    for good in [&fits, &most] {
        assert!(send(&ann, Message::image(good)).await.is_ok(), "{good}");
    }
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
