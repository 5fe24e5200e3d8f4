//! The program against a real server, as users and scripts run it.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
mod operator;
#[path = "cli/bench.rs"]
mod bench;
#[path = "cli/certificate.rs"]
mod certificate;
#[path = "cli/cluster.rs"]
mod cluster;
#[path = "cli/conversations.rs"]
mod conversations;
#[cfg(unix)]
#[path = "cli/examples.rs"]
mod examples;
#[path = "cli/calls.rs"]
mod calls;
#[cfg(unix)]
#[path = "cli/chat.rs"]
mod chat;
#[path = "cli/groups.rs"]
mod groups;
#[path = "cli/input.rs"]
mod input;
#[path = "cli/privacy.rs"]
mod privacy;
#[path = "cli/push.rs"]
mod push;
#[cfg(unix)]
#[path = "cli/rooms.rs"]
mod rooms;
#[path = "cli/people.rs"]
mod people;
#[path = "cli/admin.rs"]
mod admin;
#[path = "cli/profile.rs"]
mod profile;
#[path = "cli/local.rs"]
mod local;
#[path = "cli/media.rs"]
mod media;
#[path = "cli/messages.rs"]
mod messages;
#[path = "cli/scripts.rs"]
mod scripts;
#[path = "cli/session.rs"]
mod session;
#[path = "cli/shell.rs"]
mod shell;
#[cfg(unix)]
#[path = "cli/signal.rs"]
mod signal;
#[cfg(unix)]
#[path = "cli/terminal.rs"]
mod terminal;
#[path = "cli/upgrade.rs"]
mod upgrade;

use common::{TestEnv, server_binary};
use serde_json::Value;

#[tokio::test]
async fn a_one_shot_command_does_not_end_a_listener() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;
    let mut listener =
        env.start("bob", &["listen", "--event", "peerMessageReceived", "--count", "2", "--timeout", "30s"]);
    // The listener is connected when the server lists its session.
    env.until(async || {
        env.zim("bob", &["admin", "sessions", "bob", "--server-data", env.data()]).await.lines().len() == 1
    })
    .await;

    env.zim("bob", &["send", "ann", "I am here as well"]).await.ok();
    env.zim("bob", &["user", "self"]).await.ok();
    env.zim("ann", &["send", "bob", "one"]).await.ok();
    env.zim("ann", &["send", "bob", "two"]).await.ok();
    let received = listener.finish().await.ok();
    let texts: Vec<Value> = received.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(texts.iter().all(|event| event["name"] == "peerMessageReceived"), "{texts:?}");
    let all = received.stdout;
    assert!(all.contains("\"two\"") || all.contains("\"one\""), "{all}");
    env.end().await;
}

#[tokio::test]
async fn a_second_device_of_the_same_profile_keeps_its_data_in_memory() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;
    let mut listener =
        env.start("bob", &["listen", "--event", "peerMessageReceived", "--count", "1", "--timeout", "30s"]);
    env.until(async || {
        env.zim("bob", &["admin", "sessions", "bob", "--server-data", env.data()]).await.lines().len() == 1
    })
    .await;
    // Both use the local database; the second one falls back to memory.
    let second = env.zim_with("bob", &["chat", "ann"], "hello\n").await.ok();
    assert!(second.stderr.contains("in memory") && second.stderr.contains("is in use"), "{}", second.stderr);
    env.zim("ann", &["send", "bob", "hello yourself"]).await.ok();
    assert!(listener.finish().await.ok().stdout.contains("hello"));
    env.end().await;
}

#[tokio::test]
async fn a_local_database_that_cannot_be_opened_is_reported_with_the_cause() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;
    env.zim("ann", &["chat", "bob"]).await.ok();
    let files = std::fs::read_dir(env.folder().join("config/data/ann")).unwrap();
    let mut databases =
        files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "db"));
    let database = databases.next().unwrap();
    let good = std::fs::read(&database).unwrap();
    // The header of an SQLite file: its name in the first 16 bytes, and the version that the SDK sets. A newer database is
    // left as it is; a damaged one is set aside, and the server fills a new one.
    for (place, bytes, causes) in [
        (60, &[0, 0, 0, 99][..], ["in memory", "has version 99, which is newer"]),
        (0, &b"garbage"[..], ["the local database was damaged", ".damaged"]),
    ] {
        for format in ["--json", "--plain"] {
            let mut bad = good.clone();
            bad[place..place + bytes.len()].copy_from_slice(bytes);
            std::fs::write(&database, bad).unwrap();
            let ran = env.zim_with("ann", &["chat", "bob", format], "hi\n").await.ok();
            assert!(causes.iter().all(|cause| ran.stderr.contains(cause)), "{}", ran.stderr);
            assert!(!ran.stderr.contains("another") && ran.stdout.contains("hi"), "{}", ran.stderr);
            assert!(!ran.stderr.contains("Error code"), "{}", ran.stderr);
        }
    }
    env.end().await;
}

/// A file that may not grow stands in for a disk without space, for which SQLite says "disk I/O error".
#[cfg(unix)]
#[tokio::test]
async fn a_local_database_without_space_says_so() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    let ran = env.start_after("trap '' XFSZ; ulimit -f 16", "ann", &["chat", "ann"]).finish().await.ok();
    let expected = ["in memory: the local database (", "cannot be opened: the disk is full; free some space"];
    assert!(expected.iter().all(|part| ran.stderr.contains(part)), "{}", ran.stderr);
    env.end().await;
}

#[tokio::test]
async fn chat_sends_lines_from_a_pipe() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;
    env.zim("bob", &["send", "ann", "are you there?"]).await.ok();
    let chat = env.zim_with("ann", &["chat", "bob"], "yes\n/quit is no command here\n").await.ok();
    let messages: Vec<Value> = chat.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let texts: Vec<_> = messages.iter().map(|message| message["message"].as_str().unwrap()).collect();
    assert_eq!(texts, ["are you there?", "yes", "/quit is no command here"]);
    assert_eq!(env.zim("ann", &["conversation", "unread"]).await.json()["unreadMessageCount"], 0);
    // The messages since the last chat arrive with the login, and are not new.
    env.zim("ann", &["send", "bob", "by another command"]).await.ok();
    let chat = env.zim_with("ann", &["chat", "bob", "--count", "0"], "last\n").await.json();
    assert_eq!(chat["message"], "last");
    env.end().await;
}

#[tokio::test]
async fn any_method_can_be_called() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    let answer = env.zim("ann", &["call", "User/QueryUsersInfo", r#"{"userIDs":["ann"]}"#]).await.json();
    assert_eq!(answer["userList"][0]["baseInfo"]["userID"], "ann");

    let methods = env.zim("ann", &["call", "--list"]).await.ok();
    assert!(methods.stdout.contains("\"method\":\"Message/SendMessage\""), "{}", methods.stdout);
    assert!(!methods.stdout.contains("Sync/Pull"));

    let misspelt = env.zim("ann", &["call", "sendMessage"]).await.fails(2);
    assert!(misspelt.contains("did you mean Message/SendMessage"), "{misspelt}");
    env.zim("ann", &["call", "User/QueryUsersInfo", "{"]).await.fails(2);
    let refused = env.zim("ann", &["call", "User/QueryUsersInfo", r#"{"userIDs":[]}"#]).await.fails(5);
    assert!(refused.starts_with("error: 6000001 CommonModuleParamsInvalid: "), "{refused}");
    env.end().await;
}

#[tokio::test]
async fn unknown_fields_of_a_call_are_named() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;
    let request = r#"{"toConversationID":"bob","message":{"type":1,"message":"hi","subType":7},"text":1,"Config":{}}"#;
    let call = ["call", "Message/SendMessage", request];
    let stderr = env.zim("ann", &[&call[..], &["--strict"]].concat()).await.fails(2);
    for field in ["message.subType", "text", "Config (did you mean config?)"] {
        assert!(stderr.contains(field), "{stderr}");
    }
    assert_eq!(env.zim("bob", &["conversation", "unread"]).await.json()["unreadMessageCount"], 0);
    let warned = env.zim("ann", &call).await.ok();
    assert!(warned.stderr.starts_with("warning: SendMessageRequest has no field Config"), "{}", warned.stderr);
    assert_eq!(env.zim("bob", &["conversation", "unread"]).await.json()["unreadMessageCount"], 1);
    let known = ["call", "User/QueryUsersInfo", r#"{"userIDs":["ann"]}"#, "--strict"];
    assert_eq!(env.zim("ann", &known).await.ok().stderr, "");
    env.end().await;
}

#[tokio::test]
async fn a_failure_has_its_exit_code_and_a_hint() {
    let env = TestEnv::new().await;
    let refused = env.zim("nobody", &["send", "bob", "hi"]).await.fails(3);
    assert!(
        refused.contains("not logged in") && refused.contains("hint: zim --profile nobody login USER"),
        "{refused}"
    );

    env.login("ann").await;
    let unknown = env.zim("ann", &["send", "nobody", "hi"]).await.fails(5);
    assert!(unknown.starts_with("error: 6000204 MessageModuleTargetDoesNotExist: "), "{unknown}");
    assert!(unknown.contains("\nhint: "), "{unknown}");

    env.zim("ann", &["fly"]).await.fails(2);
    env.zim("ann", &["send", "bob"]).await.fails(2);
    env.zim("ann", &["history", "bob", "--count", "0"]).await.fails(2);

    let sign = "0".repeat(64);
    let wrong = env.zim("eve", &["login", "eve", "--server-data", env.data(), "--app-sign", &sign]).await;
    wrong.fails(3);
    assert!(env.zim("eve", &["profile", "show"]).await.fails(2).contains("no profile"), "a failed login is saved");

    let nowhere = ["login", "ann", "--server", "nowhere.invalid:1", "--app-id", "1", "--app-sign", "x"];
    env.zim("lost", &nowhere).await.fails(4);
    let fingerprint = "00".repeat(32);
    let other_certificate = ["login", "ann", "--server-data", env.data(), "--fingerprint", &fingerprint];
    env.zim("lost", &other_certificate).await.fails(4);
    env.end().await;
}

#[tokio::test]
async fn plain_output_is_text_without_escapes() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;
    let sent = env.zim("ann", &["send", "bob", "one\u{1b}[2Jtwo", "--plain"]).await.ok();
    assert!(sent.stdout.starts_with("Sent to bob at "), "{}", sent.stdout);
    assert!(!sent.stdout.contains('\u{1b}'), "there are no colours in a pipe, and no cursor movements");
    let list = env.zim("bob", &["--plain", "conversation", "list"]).await.ok();
    assert!(list.stdout.starts_with("UNREAD  WITH"), "{}", list.stdout);
    let help = env.zim("ann", &["--help"]).await.ok();
    assert!(help.stdout.contains("Exit codes:") && help.stdout.contains("Examples:"), "{}", help.stdout);
    let script = env.zim("ann", &["completions", "bash"]).await.ok();
    assert!(script.stdout.contains("_zim"), "no completions");
    env.end().await;
}

#[tokio::test]
async fn the_demo_runs_to_its_end() {
    let env = TestEnv::without_server();
    let binary = server_binary();
    let ran = env.zim("x", &["demo", "--server-bin", &binary]).await.ok();
    let lines = ran.lines();
    assert!((10..=26).contains(&lines.len()), "{}", ran.stdout);
    for text in ["hi bob, pizza at 8?", "1 unread from ann", "0 unread", "sent while offline", "stopped and removed"] {
        assert!(ran.stdout.contains(text), "{text:?} is missing:\n{}", ran.stdout);
    }
}
