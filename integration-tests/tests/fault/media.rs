//! Uploads while the server is killed, and while its disk is full.

use zim_client_sdk::{Config as ClientConfig, MessageSendNotification};
use zim_integration_tests::{
    DataDir, Device, ServerInstallation, ServerProcess, TestDatabase, code_of, eventually, soon,
};
use zim_protocol::{
    ConversationType, ErrorCode, LoginConfig, MediaDownloadConfig, MediaFileType, Message, MessageSendConfig,
    MessageType,
};

const SIZE: usize = 20_000_000;

async fn user(installation: &ServerInstallation, server: &ServerProcess, name: &str) -> Device {
    let app = installation.first_app().unwrap();
    let config = ClientConfig::new(app.app_id, server.address().to_string()).trust(app.trust()).app_sign(app.app_sign);
    let device = Device::with_config(config, DataDir::default());
    soon(device.login(name, LoginConfig::default())).await.unwrap();
    device.caught_up(0).await;
    device
}

/// Waits for the message, and compares its file.
async fn receives(bob: &Device, bytes: &[u8]) {
    let message = eventually("the message", async || {
        bob.history("ann").await.into_iter().find(|message| message.r#type() == MessageType::File)
    });
    let message = message.await;
    let config = MediaDownloadConfig::default();
    let downloaded = bob.download_media_file(&message, MediaFileType::OriginalFile, config, |_, _, _| {});
    let downloaded = soon(downloaded).await.unwrap();
    assert!(std::fs::read(downloaded.file_local_path).unwrap() == bytes, "the file differs");
}

#[tokio::test]
async fn an_upload_survives_a_kill_of_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let database = TestDatabase::fresh(dir.path());
    let mut installation =
        ServerInstallation::new(env!("CARGO_BIN_EXE_test-server"), dir.path().join("data"), database.url());
    let mut server = installation.start().await.unwrap();
    let (ann, bob) = (user(&installation, &server, "ann").await, user(&installation, &server, "bob").await);
    let path = dir.path().join("film");
    let bytes: Vec<u8> = (0..SIZE).map(|index| (index / 4_096).to_le_bytes()[0]).collect();
    std::fs::write(&path, &bytes).unwrap();
    let (begun, begins) = tokio::sync::oneshot::channel();
    let mut begun = Some(begun);
    let notification = MessageSendNotification::default().on_media_uploading_progress(move |_, moved, _| {
        if moved > 300_000 {
            begun.take().map(|begun| begun.send(()));
        }
    });
    let message = Message::file(path.to_str().unwrap());
    let sending =
        ann.send_media_message(message, "bob", ConversationType::Peer, MessageSendConfig::default(), notification);
    soon(begins).await.unwrap();
    server.kill();
    server = installation.start().await.unwrap();
    soon(sending).await.unwrap();
    receives(&bob, &bytes).await;
    for device in [ann, bob] {
        device.quit().await;
    }
    server.kill();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_upload_fails_on_a_full_disk_and_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let database = TestDatabase::fresh(dir.path());
    let mut installation =
        ServerInstallation::new(env!("CARGO_BIN_EXE_test-server"), dir.path().join("data"), database.url());
    let server = installation.start().await.unwrap();
    let (ann, bob) = (user(&installation, &server, "ann").await, user(&installation, &server, "bob").await);
    let path = dir.path().join("film");
    let bytes = vec![b'#'; SIZE];
    std::fs::write(&path, &bytes).unwrap();
    server.limit_files(Some(10_000_000)).unwrap();
    let send = |message, config| {
        let none = MessageSendNotification::default();
        ann.send_media_message(message, "bob", ConversationType::Peer, config, none)
    };
    let error = soon(send(Message::file(path.to_str().unwrap()), MessageSendConfig::default())).await.unwrap_err();
    assert_eq!(code_of(&error), ErrorCode::MessageModuleFileServerError, "{error}");
    // Text still gets through, and the file when there is room.
    ann.say("bob", "it is too large").await;
    bob.receives("it is too large").await;
    server.limit_files(None).unwrap();
    let retry = MessageSendConfig { is_retry_send: true, ..MessageSendConfig::default() };
    soon(send(error.failed_message().unwrap().clone(), retry)).await.unwrap();
    receives(&bob, &bytes).await;
    for device in [ann, bob] {
        device.quit().await;
    }
    server.kill();
}
