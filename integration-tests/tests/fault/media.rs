//! Uploads while the server or the client is killed, and while the disk is full.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;
use zim_client_sdk::{Config as ClientConfig, MessageSendNotification};
use zim_integration_tests::{
    DataDir, Device, ServerInstallation, ServerProcess, TestDatabase, code_of, eventually, soon,
};
use zim_protocol::{
    ConversationType, ErrorCode, LoginConfig, MediaDownloadConfig, MediaFileType, Message, MessageSendConfig,
    MessageType,
};

use crate::slow_handler::client;

#[cfg(target_os = "linux")]
const SIZE: usize = 20_000_000;

/// So large that it is still on its way when a process is killed.
const LARGE: usize = 60_000_000;

fn film(size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size);
    // A block at a time: without optimization, many steps take seconds.
    for block in 0..size.div_ceil(4_096) {
        bytes.resize(size.min((block + 1) * 4_096), block.to_le_bytes()[0]);
    }
    bytes
}

/// The files in the store of the server, with their sizes.
fn stored(installation: &ServerInstallation) -> Vec<(PathBuf, u64)> {
    let entries = |folder: &Path| {
        let found = std::fs::read_dir(folder).into_iter().flatten().flatten();
        found.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    // Who uses the store is no file of a message.
    let folders = entries(&installation.folder.join("media")).into_iter().filter(|path| !path.ends_with("owners"));
    let files = folders.flat_map(|folder| entries(&folder));
    files.map(|path| (path.clone(), std::fs::metadata(path).unwrap().len())).collect()
}

/// Waits until a part of an upload is stored; returns its file.
async fn is_begun(installation: &ServerInstallation) -> PathBuf {
    let begun =
        eventually("some of it is stored", async || stored(installation).into_iter().find(|(_, size)| *size > 0));
    begun.await.0
}

/// Asserts that the upload is not complete.
fn assert_on_its_way(file: &Path) {
    let size = std::fs::metadata(file).unwrap().len();
    assert!(size < LARGE as u64, "the upload was too fast for this test");
}

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
    let bytes = film(LARGE);
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
    let file = is_begun(&installation).await;
    server.kill();
    assert_on_its_way(&file);
    server = installation.start().await.unwrap();
    soon(sending).await.unwrap();
    receives(&bob, &bytes).await;
    assert_eq!(stored(&installation), [(file, LARGE as u64)], "the same upload went on");
    for device in [ann, bob] {
        device.quit().await;
    }
    server.kill();
}

/// It has no time to note anything.
#[tokio::test]
async fn an_upload_survives_a_kill_of_the_client() {
    let dir = tempfile::tempdir().unwrap();
    let database = TestDatabase::fresh(dir.path());
    let mut installation =
        ServerInstallation::new(env!("CARGO_BIN_EXE_test-server"), dir.path().join("data"), database.url());
    let server = installation.start().await.unwrap();
    let app = installation.first_app().unwrap();
    let bob = user(&installation, &server, "bob").await;
    let (path, folder) = (dir.path().join("film"), dir.path().join("ann"));
    let bytes = film(LARGE);
    std::fs::write(&path, &bytes).unwrap();
    let address = server.address().to_string();
    let (mut killed, mut lines) = client(&address, &app, "ann", &folder);
    while soon(lines.recv()).await.unwrap()["logged_in"] != true {}
    let command = json!({"do": "send_file", "peer": "bob", "path": path.to_str().unwrap()});
    writeln!(killed.stdin.as_mut().unwrap(), "{command}").unwrap();
    while soon(lines.recv()).await.unwrap()["moved"].as_i64().is_none_or(|moved| moved < 300_000) {}
    let file = is_begun(&installation).await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_on_its_way(&file);

    // Nobody tells the next process what to send.
    let (mut again, lines) = client(&address, &app, "ann", &folder);
    receives(&bob, &bytes).await;
    assert_eq!(stored(&installation), [(file, LARGE as u64)], "the same upload went on");
    let files = bob.history("ann").await.into_iter().filter(|message| message.r#type() == MessageType::File);
    assert_eq!(files.count(), 1);
    again.kill().unwrap();
    again.wait().unwrap();
    drop(lines);
    bob.quit().await;
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
