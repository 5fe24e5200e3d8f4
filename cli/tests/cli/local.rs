//! What only the device of a profile has: `zim message note`, `insert`, `export`, `import`, `zim media cache`, `zim log`.

use serde_json::Value;

use crate::common::{Ran, TestEnv};

fn all(ran: &Ran) -> Vec<Value> {
    ran.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the device of a profile has of the conversation with a user.
async fn held(env: &TestEnv, profile: &str, with: &str) -> Vec<Value> {
    all(&env.zim(profile, &["chat", with]).await.ok())
}

#[tokio::test]
async fn a_note_and_an_inserted_message_stay_on_the_device() {
    let env = TestEnv::new().await;
    for user in ["ann", "bob"] {
        env.login(user).await;
    }
    env.zim("ann", &["send", "bob", "one"]).await.ok();
    env.zim("ann", &["send", "bob", "two"]).await.ok();
    let said = env.zim("ann", &["message", "note", "bob", "1", "ask again", "--plain"]).await.ok().stdout;
    assert_eq!(said.trim(), "The note about message 1 with bob is kept on this device: ask again");
    let unknown = env.zim("ann", &["message", "note", "bob", "9", "x"]).await.fails(5);
    assert!(unknown.contains("does not hold the message"), "{unknown}");
    let insert = ["message", "insert", "bob", "You are friends now.", "--from", "bob", "--plain"];
    let said = env.zim("ann", &insert).await.ok().stdout;
    assert_eq!(said.trim(), "Added a message of bob with bob, on this device only.");
    let of_ann = held(&env, "ann", "bob").await;
    let texts: Vec<_> = of_ann.iter().map(|message| message["message"].as_str().unwrap()).collect();
    assert_eq!(texts, ["one", "two", "You are friends now."]);
    assert_eq!((&of_ann[0]["localExtendedData"], &of_ann[2]["isUserInserted"]), (&"ask again".into(), &true.into()));
    assert_eq!(of_ann[2]["senderUserID"], "bob");
    // Neither the server nor the other user has any of it.
    for (user, with) in [("ann", "bob"), ("bob", "ann")] {
        let history = all(&env.zim(user, &["history", with]).await.ok());
        assert_eq!(history.len(), 2, "{history:?}");
        assert_eq!(history[0]["localExtendedData"], "");
    }
    let said = env.zim("ann", &["message", "note", "bob", "1", "--clear", "--plain"]).await.ok().stdout;
    assert_eq!(said.trim(), "There is no note about message 1 with bob any more.");
    assert_eq!(held(&env, "ann", "bob").await[0]["localExtendedData"], "");
    env.end().await;
}

#[tokio::test]
async fn messages_move_from_device_to_device_in_a_file() {
    let env = TestEnv::new().await;
    for user in ["ann", "bob"] {
        env.login(user).await;
    }
    env.zim("bob", &["send", "ann", "one"]).await.ok();
    env.zim("ann", &["message", "note", "bob", "1", "a note"]).await.ok();
    let folder = env.folder().join("out/messages");
    let folder = folder.to_str().unwrap();
    let exported = env.zim("ann", &["message", "export", folder]).await.json();
    assert_eq!((&exported["messages"], &exported["folder"]), (&1.into(), &folder.into()));
    let file = std::fs::read_to_string(format!("{folder}/zim-messages.jsonl")).unwrap();
    assert!(file.contains("a note"), "{file}");
    // Another device of the same user.
    env.zim("laptop", &["login", "ann", "--server-data", env.data()]).await.ok();
    assert_eq!(held(&env, "laptop", "bob").await[0]["localExtendedData"], "");
    let said = env.zim("laptop", &["message", "import", folder, "--plain"]).await.ok().stdout;
    assert_eq!(said.trim(), format!("Read 1 messages from {folder}."));
    assert_eq!(held(&env, "laptop", "bob").await[0]["localExtendedData"], "a note");
    // It is not for others.
    let refused = env.zim("bob", &["message", "import", folder]).await;
    assert!(refused.stderr.contains("6000242"), "{}", refused.stderr);
    let missing = env.zim("ann", &["message", "import", "nowhere"]).await;
    assert!(missing.stderr.contains("6000240"), "{}", missing.stderr);
    env.end().await;
}

#[tokio::test]
async fn downloaded_files_are_counted_and_removed() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.zim("ann", &["chat", "ann"]).await.ok();
    let folder = env.folder().join("config/data/ann/media");
    std::fs::create_dir_all(&folder).unwrap();
    // The SDK gives downloads such names. The other file is the user's own.
    let (downloaded, own) = (folder.join(format!("{}.jpg", "a1".repeat(16))), folder.join("holiday.jpg"));
    for file in [&downloaded, &own] {
        std::fs::write(file, b"12345").unwrap();
    }
    assert_eq!(env.zim("ann", &["media", "cache"]).await.json()["totalFileSize"], 5);
    let said = env.zim("ann", &["media", "cache", "--older", "1d", "--clear", "--plain"]).await.ok().stdout;
    assert_eq!((said.trim(), downloaded.exists()), ("0 bytes of files are removed.", true));
    let said = env.zim("ann", &["media", "cache", "--clear", "--plain"]).await.ok().stdout;
    assert_eq!(said.trim(), "5 bytes of files are removed.");
    assert_eq!((downloaded.exists(), own.exists()), (false, true));
    // Another folder.
    let elsewhere = env.folder().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("b2".repeat(16)), b"123").unwrap();
    let said = env.zim("ann", &["media", "cache", "--folder", elsewhere.to_str().unwrap(), "--plain"]).await;
    assert_eq!(said.ok().stdout.trim(), "3 bytes of files are kept on this device.");
    env.end().await;
}
