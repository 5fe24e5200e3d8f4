//! Profiles and local databases that the program of an earlier build wrote. What is in them is told by
//! `integration-tests/fixtures/101c45e/README.md`.

use serde_json::Value;

use crate::common::{Here, Ran};

const FIXTURE: &str = "101c45e";

fn rows(ran: Ran) -> Vec<Value> {
    ran.ok().lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn texts(rows: &[Value]) -> Vec<&str> {
    rows.iter().filter_map(|row| row["message"].as_str()).collect()
}

#[tokio::test]
async fn profiles_of_before_are_read() {
    let here = Here::of_fixture(FIXTURE).await;
    let list = rows(here.zim("", &["profile", "list"]).await);
    let names: Vec<_> = list.iter().map(|row| (row["profile"].as_str().unwrap(), row["inUse"] == true)).collect();
    assert_eq!(names, [("bob", true), ("default", false), ("gone", false)]);
    for (profile, user, login) in
        [("", Some("bob"), "token"), ("default", Some("ann"), "app sign"), ("gone", None, "logged out")]
    {
        let shown = here.zim(profile, &["profile", "show"]).await.json();
        assert_eq!((shown["userID"].as_str(), shown["login"].as_str()), (user, Some(login)));
        assert_eq!(shown["appID"], here.app_id());
        assert_eq!(shown["trust"], format!("fingerprint {}", here.fingerprint()));
        // Where the server was then.
        assert!(shown["server"].as_str().unwrap().starts_with("127.0.0.1:"), "{shown}");
    }
    let nobody = here.zim("gone", &["send", "bob", "hi"]).await.fails(3);
    assert!(nobody.contains("profile \"gone\" is not logged in"), "{nobody}");
    here.end().await;
}

#[tokio::test]
async fn profiles_of_before_log_in_as_they_did() {
    let here = Here::of_fixture(FIXTURE).await;
    here.move_profiles();
    // The one in use, with its token of then.
    assert_eq!(here.zim("", &["user", "self"]).await.json()["userFullInfo"]["baseInfo"]["userName"], "Bob Builder");
    // By an app sign.
    let history = rows(here.zim("default", &["history", "bob", "--all"]).await);
    assert!(texts(&history).contains(&"typed in a terminal"), "{history:?}");
    let sent = here.zim("default", &["send", "bob", "hello", "again"]).await.json();
    assert_eq!(
        sent["message"]["messageSeq"].as_i64().unwrap(),
        1 + history.last().unwrap()["messageSeq"].as_i64().unwrap()
    );
    let heard = rows(here.zim("", &["history", "ann", "--count", "1"]).await);
    assert_eq!(texts(&heard), ["hello again"]);
    // A new login of an old profile.
    let (address, id, sign) = (here.address(), here.app_id().to_string(), here.app_sign().to_owned());
    let (sign, fingerprint) = (["--app-sign", &sign], here.fingerprint());
    let to = ["--server", &address, "--app-id", &id, "--fingerprint", &fingerprint];
    here.zim("gone", &[&["login", "dan"], &to[..], &sign[..]].concat()).await.ok();
    assert_eq!(here.zim("gone", &["conversation", "list", "--unread"]).await.lines(), Vec::<String>::new());
    here.end().await;
}

#[tokio::test]
async fn a_local_database_of_before_is_gone_on_with() {
    let here = Here::of_fixture(FIXTURE).await;
    here.move_profiles();
    let before = here.local_databases("default");
    let chat = here.zim_with("default", &["chat", "bob", "--count", "2"], "typed again\n").await;
    let said = rows(chat);
    assert_eq!(texts(&said).last(), Some(&"typed again"));
    assert!(said.len() >= 2, "{said:?}");
    // Without it the program would have kept its data in memory.
    let after = here.local_databases("default");
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert!(after.values().ne(before.values()), "it was not used");
    let heard = rows(here.zim("bob", &["history", "ann", "--count", "1"]).await);
    assert_eq!(texts(&heard), ["typed again"]);
    here.end().await;
}
