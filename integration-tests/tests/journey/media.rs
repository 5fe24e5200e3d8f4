//! Files that are on their way while something breaks.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::oneshot;
use zim_client_sdk::MessageSendNotification;
use zim_integration_tests::{DataDir, Device, World, code_of, soon};
use zim_protocol::{
    ConnectionState, ConversationType, Event, MediaDownloadConfig, MediaFileType, Message, MessageSendConfig,
    MessageSentResult, MessageSentStatus, MessageType,
};

const SIZE: usize = 20_000_000;

/// So large that a server does not take all of it while it stops.
const LARGE: usize = 95_000_000;

fn file(folder: &TempDir) -> String {
    file_of(folder, 0, SIZE)
}

/// A file of its own for each number.
fn file_of(folder: &TempDir, number: u8, size: usize) -> String {
    let path = folder.path().join(format!("film-{number}.bin"));
    let mut bytes = Vec::with_capacity(size);
    // A block at a time: without optimization, a hundred million steps take seconds.
    for block in 0..size.div_ceil(4_096) {
        bytes.resize(size.min((block + 1) * 4_096), block.to_le_bytes()[0].wrapping_add(number));
    }
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A message that is being sent.
type Sending = BoxFuture<'static, Result<MessageSentResult, zim_client_sdk::Error>>;

/// Sends a file. Returns the progress that the app is told, and what tells when the upload has begun.
fn begin(ann: &Device, path: &str) -> (Sending, Arc<Mutex<Vec<i64>>>, oneshot::Receiver<()>) {
    let progress: Arc<Mutex<Vec<i64>>> = Arc::default();
    let (begun, begins) = oneshot::channel();
    let (noted, mut begun) = (Arc::clone(&progress), Some(begun));
    let notification = MessageSendNotification::default().on_media_uploading_progress(move |_, moved, _| {
        noted.lock().push(moved);
        if moved > 300_000 {
            begun.take().map(|begun| begun.send(()));
        }
    });
    let config = MessageSendConfig::default();
    let sending = ann.send_media_message(Message::file(path), "bob", ConversationType::Peer, config, notification);
    (sending, progress, begins)
}

async fn receives_file(world: &World, bob: &Device, path: &str) {
    let received = world.advance_until("bob has the message", async || {
        let messages = bob.seen();
        let mut messages = messages.iter().filter_map(|event| match event {
            Event::PeerMessageReceived(event) => event.message_list.first(),
            _ => None,
        });
        let is_this = |message: &&Message| {
            let mut message = (*message).clone();
            message.r#type() == MessageType::File
                && message.media_parts().iter().any(|part| path.ends_with(part.name.as_str()))
        };
        messages.find(is_this).cloned()
    });
    let received = received.await;
    let kind = MediaFileType::OriginalFile;
    let downloaded = bob.download_media_file(&received, kind, MediaDownloadConfig::default(), |_, _, _| {});
    let downloaded = soon(downloaded).await.unwrap();
    assert!(std::fs::read(downloaded.file_local_path).unwrap() == std::fs::read(path).unwrap(), "the file differs");
}

#[tokio::test]
async fn an_upload_goes_on_after_the_server_was_restarted() {
    let mut world = World::new().await;
    // The clock of the test runs ahead while the client reconnects.
    let patient = world.client_with(|config| config.resend_window_ms(3_600_000));
    let (ann, bob) = (world.login(patient, "ann").await, world.user("bob").await);
    let folder = tempfile::tempdir().unwrap();
    let (mut number, size) = (0, i64::try_from(LARGE).unwrap());
    let (path, sending, progress) = loop {
        let path = file_of(&folder, number, LARGE);
        let (sending, progress, begins) = begin(&ann, &path);
        soon(begins).await.unwrap();
        world.stop_server().await;
        let before = *progress.lock().last().unwrap();
        world.start_server().await;
        if before < size {
            break (path, sending, progress);
        }
        // It had arrived before the server stopped: the next one is caught on its way.
        receives_file(&world, &bob, &path).await;
        let is_connected = async || (ann.connection_state() == ConnectionState::Connected).then_some(());
        world.advance_until("ann is connected", is_connected).await;
        number += 1;
        assert!(number < 10, "all uploads were too fast for this test");
    };
    receives_file(&world, &bob, &path).await;
    assert_eq!(soon(sending).await.unwrap().message.unwrap().sent_status(), MessageSentStatus::Success);
    // Progress never goes back, although some bytes were sent twice.
    let progress = progress.lock().clone();
    assert!(progress.is_sorted() && progress.last() == Some(&size));
    world.end().await;
}

/// The app quits while it sends a file. Returns the folder of its data.
async fn quit_while_uploading(ann: Device, path: &str) -> DataDir {
    let (sending, progress, begins) = begin(&ann, path);
    soon(begins).await.unwrap();
    let dir = ann.dir();
    ann.quit().await;
    assert!(soon(sending).await.is_err());
    assert!(*progress.lock().last().unwrap() < 20_000_000, "the upload was too fast for this test");
    dir
}

#[tokio::test]
async fn an_upload_goes_on_after_the_app_was_restarted() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder);
    let dir = quit_while_uploading(ann, &path).await;
    // Much later than other messages would wait.
    world.clock.advance(3_600_000);
    let again = world.user_at(dir, "ann").await;
    receives_file(&world, &bob, &path).await;
    let mut sent = world
        .advance_until("it is sent", async || {
            again.history("bob").await.into_iter().find(|message| message.sent_status() == MessageSentStatus::Success)
        })
        .await;
    assert_eq!(*sent.media_parts()[0].local_path, path);
    world.end().await;
}

#[tokio::test]
async fn an_upload_of_more_than_a_day_ago_fails_and_can_be_sent_again() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder);
    let dir = quit_while_uploading(ann, &path).await;
    // The server has removed what it had of it.
    world.clock.advance(86_400_000 + 1_000);
    let (again, bob) = (world.user_at(dir, "ann").await, world.user("bob").await);
    let of_status = async |status: MessageSentStatus| {
        again.history("bob").await.into_iter().find(|message| message.sent_status() == status)
    };
    let mut failed = world.advance_until("it fails", async || of_status(MessageSentStatus::Failed).await).await;
    assert_eq!(*failed.media_parts()[0].local_path, path);
    again.say("bob", "it was too long ago").await;
    bob.receives("it was too long ago").await;
    assert_eq!(bob.history("ann").await.len(), 1);
    let retry = MessageSendConfig { is_retry_send: true, ..MessageSendConfig::default() };
    let none = MessageSendNotification::default();
    soon(again.send_media_message(failed, "bob", ConversationType::Peer, retry, none)).await.unwrap();
    receives_file(&world, &bob, &path).await;
    assert!(of_status(MessageSentStatus::Failed).await.is_none());
    world.end().await;
}

#[tokio::test]
async fn send_media_message_fails_if_the_file_changes_meanwhile() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder);
    let (sending, _, begins) = begin(&ann, &path);
    soon(begins).await.unwrap();
    let mut changed = std::fs::read(&path).unwrap();
    changed[SIZE - 1] ^= 1;
    std::fs::write(&path, &changed).unwrap();
    let error = soon(sending).await.unwrap_err();
    assert_eq!(code_of(&error), zim_protocol::ErrorCode::MessageModuleFileVerificationError, "{error}");
    // As it is now, it can be sent.
    let retry = MessageSendConfig { is_retry_send: true, ..MessageSendConfig::default() };
    let failed = error.failed_message().unwrap().clone();
    let sent = ann.send_media_message(failed, "bob", ConversationType::Peer, retry, MessageSendNotification::default());
    soon(sent).await.unwrap();
    receives_file(&world, &bob, &path).await;
    world.end().await;
}

#[tokio::test]
async fn a_file_that_shrinks_or_vanishes_while_it_is_sent_is_not_sent() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let folder = tempfile::tempdir().unwrap();
    for (number, vanishes, code) in [
        (0, false, zim_protocol::ErrorCode::MessageModuleFileVerificationError),
        (1, true, zim_protocol::ErrorCode::MessageModuleFileNotExist),
    ] {
        let path = file_of(&folder, number, SIZE);
        let (sending, _, begins) = begin(&ann, &path);
        soon(begins).await.unwrap();
        // Whoever has a file open reads it to its end although it has no name any more: so it ends as well.
        let open = std::fs::File::options().write(true).open(&path).unwrap();
        if vanishes {
            std::fs::remove_file(&path).unwrap();
        }
        open.set_len(400_000).unwrap();
        let error = soon(sending).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert_eq!(error.failed_message().unwrap().sent_status(), MessageSentStatus::Failed);
    }
    ann.say("bob", "they were too large").await;
    bob.receives("they were too large").await;
    assert_eq!(bob.history("ann").await.len(), 1, "neither file was sent");
    world.end().await;
}
