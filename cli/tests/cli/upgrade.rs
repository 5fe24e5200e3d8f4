//! Profiles and local databases of an earlier build. `integration-tests/fixtures/101c45e/README.md` describes their contents.

use serde_json::Value;

use crate::common::{Ran, TestEnv};

const FIXTURE: &str = "101c45e";

fn rows(ran: Ran) -> Vec<Value> {
    ran.ok().lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn texts(rows: &[Value]) -> Vec<&str> {
    rows.iter().filter_map(|row| row["message"].as_str()).collect()
}

#[tokio::test]
async fn old_profiles_are_read() {
    let env = TestEnv::of_fixture(FIXTURE).await;
    let list = rows(env.zim("", &["profile", "list"]).await);
    let names: Vec<_> = list.iter().map(|row| (row["profile"].as_str().unwrap(), row["inUse"] == true)).collect();
    assert_eq!(names, [("bob", true), ("default", false), ("gone", false)]);
    for (profile, user, login) in
        [("", Some("bob"), "token"), ("default", Some("ann"), "app sign"), ("gone", None, "logged out")]
    {
        let shown = env.zim(profile, &["profile", "show"]).await.json();
        assert_eq!((shown["userID"].as_str(), shown["login"].as_str()), (user, Some(login)));
        assert_eq!(shown["appID"], env.app_id());
        assert_eq!(shown["trust"], format!("fingerprint {}", env.fingerprint()));
        // The address of the old server.
        assert!(shown["server"].as_str().unwrap().starts_with("127.0.0.1:"), "{shown}");
    }
    let refused = env.zim("gone", &["send", "bob", "hi"]).await.fails(3);
    assert!(refused.contains("profile \"gone\" is not logged in"), "{refused}");
    env.end().await;
}

#[tokio::test]
async fn old_profiles_log_in() {
    let env = TestEnv::of_fixture(FIXTURE).await;
    env.move_profiles();
    // The profile in use, with its old token.
    assert_eq!(env.zim("", &["user", "self"]).await.json()["userFullInfo"]["baseInfo"]["userName"], "Bob Builder");
    // With an app sign.
    let history = rows(env.zim("default", &["history", "bob", "--all"]).await);
    assert!(texts(&history).contains(&"typed in a terminal"), "{history:?}");
    let sent = env.zim("default", &["send", "bob", "hello", "again"]).await.json();
    assert_eq!(
        sent["message"]["messageSeq"].as_i64().unwrap(),
        1 + history.last().unwrap()["messageSeq"].as_i64().unwrap()
    );
    let received = rows(env.zim("", &["history", "ann", "--count", "1"]).await);
    assert_eq!(texts(&received), ["hello again"]);
    // A new login with an old profile.
    let (address, id, sign) = (env.address(), env.app_id().to_string(), env.app_sign().to_owned());
    let (sign, fingerprint) = (["--app-sign", &sign], env.fingerprint());
    let to = ["--server", &address, "--app-id", &id, "--fingerprint", &fingerprint];
    env.zim("gone", &[&["login", "dan"], &to[..], &sign[..]].concat()).await.ok();
    assert_eq!(env.zim("gone", &["conversation", "list", "--unread"]).await.lines(), Vec::<String>::new());
    env.end().await;
}

#[tokio::test]
async fn an_old_local_database_is_used() {
    let env = TestEnv::of_fixture(FIXTURE).await;
    env.move_profiles();
    let before = env.local_databases("default");
    let chat = env.zim_with("default", &["chat", "bob", "--count", "2"], "typed again\n").await;
    let messages = rows(chat);
    assert_eq!(texts(&messages).last(), Some(&"typed again"));
    assert!(messages.len() >= 2, "{messages:?}");
    // If the program could not open the database, it would have kept its data in memory.
    let after = env.local_databases("default");
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert!(after.values().ne(before.values()), "the local database was not used");
    let received = rows(env.zim("bob", &["history", "ann", "--count", "1"]).await);
    assert_eq!(texts(&received), ["typed again"]);
    env.end().await;
}
