//! The log of the SDK: its files, and what is not in them.

use std::path::Path;

use tokio::net::TcpListener;
use zim_client_sdk::{Config as ClientConfig, LogConfig, LogLevel, MessageSendNotification, Zim};
use zim_integration_tests::{World, eventually, refusal, soon};
use zim_protocol::{
    ConversationType, ErrorCode, LoginConfig, Message, MessageSendConfig, MessageType, SendingMessageCancelConfig,
};

use crate::media::{Files, receives, send};

/// Lets the log of this process go to a folder. To be called before `World`, which installs its own subscriber otherwise.
async fn log_to(folder: &Path, log_level: LogLevel) {
    // No server listens at this address.
    let zim = Zim::new(ClientConfig::new(1, "127.0.0.1:9").app_sign("x")).unwrap();
    zim.set_log_config(&LogConfig { log_level, log_path: Some(folder.to_owned()) });
    zim.destroy();
    soon(zim.closed()).await;
}

#[tokio::test]
async fn set_log_config_rotates_the_files_and_keeps_three() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    // Full, as an earlier run has left it.
    std::fs::write(folder.path().join("zim.log"), "x".repeat(5 << 20)).unwrap();
    log_to(folder.path(), LogLevel::Info).await;
    tracing::info!("the first line");
    tracing::debug!("a line below the level");
    let first = file("zim.log");
    assert!(first.contains("the first line") && first.lines().count() == 1, "{first}");
    assert!(file("zim.1.log").starts_with("xxx"));
    // Four of them fit into a file.
    for number in 0..12 {
        tracing::info!("line {number}: {}", "y".repeat(1 << 20));
    }
    let mut names: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["zim.1.log", "zim.2.log", "zim.log"]);
    for (name, lines) in [("zim.2.log", 0..4), ("zim.1.log", 4..8), ("zim.log", 8..12)] {
        let content = file(name);
        assert!(content.len() <= 5 << 20, "{name}: {} bytes", content.len());
        for number in 0..12 {
            assert_eq!(content.contains(&format!("line {number}:")), lines.contains(&number), "{name} {number}");
        }
    }
}

/// Everything in the log.
fn read(folder: &Path) -> String {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    files.collect()
}

#[tokio::test]
async fn set_log_config_with_every_line_writes_no_secret() {
    let (folder, files) = (tempfile::tempdir().unwrap(), Files::new());
    log_to(folder.path(), LogLevel::Debug).await;
    let world = World::new().await;
    let app_sign = world.server().first_app().app_sign.clone();
    let (ann, bob) = (world.client(), world.client_with(|config| config.app_sign(&app_sign)));
    let login = world.with_token("ann");
    soon(ann.login("ann", login.clone())).await.unwrap();
    soon(bob.login("bob", LoginConfig::default())).await.unwrap();
    let mut sent = send(&ann, Message::file(files.add("paper", b"paper"))).await.unwrap();
    receives(&bob, MessageType::File).await;
    // A token and an app sign that are refused.
    let cai = world.client_with(|config| config.app_sign("f".repeat(64)));
    refusal(soon(cai.login("cai", LoginConfig::default())).await);
    cai.quit().await;
    drop((ann, bob));
    world.end().await;
    // Nobody answers where the file is to go, and then nobody is there at all.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", nobody.local_addr().unwrap());
    let world = World::with(|config| config.media.public_url = url).await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let (attached, is_attached) = tokio::sync::oneshot::channel();
    let notification = MessageSendNotification::default().on_message_attached(move |message| {
        attached.send(message.clone()).unwrap();
    });
    let sending = ann.send_media_message(
        Message::file(files.add("other", b"other paper")),
        "bob",
        ConversationType::Peer,
        MessageSendConfig::default(),
        notification,
    );
    let message = soon(is_attached).await.unwrap();
    let held = soon(nobody.accept()).await.unwrap();
    soon(ann.cancel_sending_message(&message, SendingMessageCancelConfig {})).await.unwrap();
    assert_eq!(refusal(soon(sending).await), ErrorCode::MessageModuleSendMessageFailedForCancelled);
    drop((nobody, held));
    let is_logged = async || read(folder.path()).contains("an upload could not be ended").then_some(());
    eventually("the upload cannot be ended", is_logged).await;
    world.end().await;

    let log = read(folder.path());
    assert!(log.contains(" DEBUG ") && log.contains("zim_client_sdk"), "it is the log of the client");
    let file = sent.media_parts()[0].download_url.clone();
    assert!(!file.is_empty());
    for secret in [login.token.as_str(), &app_sign, &"f".repeat(64), "/uploads/", &file] {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{line:?} has {secret}");
    }
}
