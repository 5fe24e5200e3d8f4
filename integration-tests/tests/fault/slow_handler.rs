//! A client is killed while its handlers work. Its next process raises what they had not finished.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tokio::sync::mpsc;
use zim_client_sdk::Config as ClientConfig;
use zim_integration_tests::{DataDir, Device, FirstApp, ServerInstallation, TestDatabase, soon};
use zim_protocol::{LoginConfig, Message};

const MESSAGES: usize = 200;

/// Starts `test-client` for a user; returns the process and the lines that it prints.
pub(crate) fn client(
    server: &str,
    app: &FirstApp,
    user: &str,
    folder: &Path,
) -> (Child, mpsc::UnboundedReceiver<Value>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_test-client"))
        .args([server, &app.app_id.to_string(), &app.app_sign, &app.fingerprint, user])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, lines) = mpsc::unbounded_channel();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || {
        // The last line of a killed process may be incomplete.
        for line in stdout.lines().map_while(Result::ok) {
            if let Ok(line) = serde_json::from_str(&line) {
                let _ = sender.send(line);
            }
        }
    });
    (child, lines)
}

/// The texts of the received messages that a line reports.
fn texts(line: &Value) -> Vec<String> {
    let event = &line["event"];
    let list = event["messageList"].as_array().filter(|_| event["name"] == "peerMessageReceived");
    let texts = list.into_iter().flatten().map(|message| message["message"].as_str().unwrap().to_owned());
    texts.collect()
}

#[tokio::test]
async fn a_killed_client_raises_again_what_its_handlers_did_not_finish() {
    let dir = tempfile::tempdir().unwrap();
    let database = TestDatabase::fresh(dir.path());
    let data = dir.path().join("data");
    let mut installation = ServerInstallation::new(env!("CARGO_BIN_EXE_test-server"), data, database.url());
    let server = installation.start().await.unwrap();
    let app = installation.first_app().unwrap();
    let address = server.address().to_string();
    let config = ClientConfig::new(app.app_id, address.as_str()).trust(app.trust()).app_sign(app.app_sign.as_str());
    let ann = Device::with_config(config, DataDir::default());
    soon(ann.login("ann", LoginConfig::default())).await.unwrap();

    let folder = dir.path().join("bob");
    let (mut killed, mut lines) = client(&address, &app, "bob", &folder);
    while soon(lines.recv()).await.unwrap()["event"]["name"] != "conversationSyncStateChanged" {}
    // Bob may be between two states of the sync. A device raises no messages that it finds at its first sync.
    ann.say("bob", "first").await;
    let mut handled = BTreeSet::new();
    while !handled.contains("first") {
        handled.extend(texts(&soon(lines.recv()).await.unwrap()));
    }
    // They are not awaited one by one: all arrive while the handlers have the first.
    let calls: Vec<_> = (0..MESSAGES).map(|number| ann.send("bob", Message::text(number.to_string()))).collect();
    for call in calls {
        soon(call).await.unwrap();
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    while let Some(line) = soon(lines.recv()).await {
        handled.extend(texts(&line));
    }
    assert!(handled.len() < MESSAGES, "the handlers were not behind");

    let (mut again, mut lines) = client(&address, &app, "bob", &folder);
    let mut first = None;
    while handled.len() <= MESSAGES {
        let texts = texts(&soon(lines.recv()).await.unwrap());
        first = first.or_else(|| texts.first().cloned());
        handled.extend(texts);
    }
    assert_ne!(first.as_deref(), Some("first"), "what was handled is not raised again");
    again.kill().unwrap();
    again.wait().unwrap();
    ann.quit().await;
    server.kill();
}
