//! What scripts rely on: exit codes, errors as JSON, time limits. And what people rely on: every success says so.

use serde_json::{Value, json};

use crate::common::{Ran, TestEnv};

/// Returns the only object on standard error.
fn error(ran: &Ran) -> Value {
    let value: Value = serde_json::from_str(&ran.stderr).unwrap_or_else(|_| panic!("not JSON: {:?}", ran.stderr));
    value["error"].clone()
}

async fn two_users() -> TestEnv {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;
    env
}

#[tokio::test]
async fn exit_codes_do_not_depend_on_the_format_and_errors_are_json_with_json() {
    let env = two_users().await;
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    let unreachable = ["login", "ann", "--server", &silent, "--app-id", "1", "--app-sign", "x", "--timeout", "1s"];
    for (profile, command, code) in [
        ("ann", &["fly"][..], 2),
        ("ann", &["history", "bob", "--count", "0"], 2),
        ("ann", &["call", "sendMessage"], 2),
        ("nobody", &["conversation", "list"], 3),
        ("nobody", &["ping"], 3),
        ("lost", &unreachable, 4),
        ("ann", &["send", "nobody", "hi"], 5),
        ("ann", &["user", "show", "bob", "nobody"], 5),
        ("ann", &["friend", "delete", "bob", "nobody"], 5),
        ("ann", &["friend", "show", "bob", "nobody"], 5),
        ("ann", &["friend", "check", "bob", "nobody"], 5),
        ("ann", &["blacklist", "add", "nobody"], 5),
        ("ann", &["status", "show", "bob", "nobody"], 5),
        ("ann", &["status", "subscribe", "bob", "nobody"], 5),
        ("ann", &["conversation", "show", "nobody"], 5),
        ("ann", &["group", "info", "none"], 5),
        ("ann", &["group", "create"], 2),
        ("ann", &["profile", "show", "nobody"], 2),
        ("ann", &["admin", "app", "list"], 1),
    ] {
        for format in ["--plain", "--json"] {
            // One of them ends the friendship.
            if command.first() == Some(&"friend") {
                env.zim("ann", &["friend", "add", "bob"]).await;
            }
            let ran = env.zim(profile, &[command, &[format]].concat()).await;
            assert_eq!(ran.code, Some(code), "{command:?} {format}: {}{}", ran.stdout, ran.stderr);
            if format == "--plain" {
                assert!(ran.stderr.starts_with("error: "), "{command:?}: {}", ran.stderr);
                continue;
            }
            let error = error(&ran);
            assert_eq!(error["exitCode"], code, "{command:?}: {error}");
            assert!(!error["message"].as_str().unwrap().is_empty(), "{command:?}: {error}");
        }
    }
    let refused = error(&env.zim("ann", &["send", "nobody", "hi", "--json"]).await);
    let (code, name) = (&refused["code"], &refused["name"]);
    assert_eq!((code, name), (&json!(6_000_204), &json!("MessageModuleTargetDoesNotExist")));
    assert!(refused["hint"].as_str().unwrap().contains("login bob"), "{refused}");
    let wrong = error(&env.zim("ann", &["history", "bob", "--count", "0", "--json"]).await);
    assert!(wrong["message"].as_str().unwrap().starts_with("invalid value '0' for '--count <N>'"), "{wrong}");
    // Remarks are JSON, too.
    let call = ["call", "User/QueryUsersInfo", r#"{"userIDs":["ann"],"x":1}"#, "--json"];
    let warned: Value = serde_json::from_str(&env.zim("ann", &call).await.ok().stderr).unwrap();
    assert!(warned["warning"].as_str().unwrap().contains("has no field x"), "{warned}");
    let login = ["login", "ann", "--server-data", env.data(), "--json"];
    let notice: Value = serde_json::from_str(&env.zim("ann", &login).await.ok().stderr).unwrap();
    assert!(notice["notice"].as_str().unwrap().starts_with("using the server on this machine"), "{notice}");
    env.end().await;
}

#[tokio::test]
async fn every_success_prints_something_as_text() {
    let env = two_users().await;
    let data = env.data().to_owned();
    let admin = |words: &[&'static str]| [&["admin", "--server-data", data.as_str()], words].concat();
    let operator = [
        admin(&["app", "list"]),
        admin(&["app", "show"]),
        admin(&["app", "rename", "shop"]),
        admin(&["app", "set", "--cbc-tokens", "off"]),
        admin(&["app", "rotate", "server-secret", "--overlap", "1h"]),
        admin(&["user", "register", "carol"]),
        admin(&["user", "show", "carol"]),
        admin(&["user", "ban", "carol", "--for", "1h"]),
        admin(&["user", "banned"]),
        admin(&["user", "unban", "carol"]),
        admin(&["user", "banned"]),
        admin(&["user", "revoke", "carol"]),
        admin(&["token", "ann", "--for", "2h"]),
        admin(&["sessions"]),
        admin(&["task", "list"]),
        admin(&["outbox", "list"]),
        admin(&["disconnect", "carol"]),
    ];
    let user = [
        &["send", "bob", "hi"][..],
        &["history", "bob"],
        &["history", "carol"],
        &["revoke", "bob", "1"],
        &["group", "create", "crew", "bob"],
        &["group", "info", "crew"],
        &["group", "members", "crew"],
        &["group", "join", "crew"],
        &["send", "--group", "crew", "hi"],
        &["history", "--group", "crew"],
        &["group", "kick", "crew", "bob"],
        &["group", "leave", "crew"],
        &["conversation", "list"],
        &["conversation", "list", "--unread"],
        &["conversation", "show", "bob"],
        &["conversation", "clear", "bob"],
        &["conversation", "unread"],
        &["user", "show", "bob"],
        &["user", "self"],
        &["user", "name", "Ann"],
        &["user", "avatar"],
        &["user", "data", "x"],
        &["user", "push-rule"],
        &["friend", "list"],
        &["friend", "applications"],
        &["friend", "search", "x"],
        &["friend", "apply", "bob"],
        &["friend", "add", "bob"],
        &["friend", "alias", "bob", "Bobby"],
        &["friend", "attributes", "bob", "k0=x"],
        &["friend", "show", "bob"],
        &["friend", "check", "bob"],
        &["friend", "delete", "bob"],
        &["blacklist", "list"],
        &["blacklist", "add", "bob"],
        &["blacklist", "check", "bob"],
        &["blacklist", "remove", "bob"],
        &["status", "show", "bob"],
        &["status", "set", "busy", "--for", "forever"],
        &["status", "clear"],
        &["status", "subscribe", "bob", "--for", "90m"],
        &["status", "list"],
        &["status", "unsubscribe", "bob"],
        &["ping"],
        &["call", "--list"],
        &["call", "User/QuerySelfUserInfo"],
        &["profile", "list"],
        &["profile", "show"],
        &["profile", "use", "ann"],
        &["logout"],
        &["profile", "remove", "bob"],
    ];
    let all = operator.iter().map(Vec::as_slice).chain(user);
    for command in all {
        let ran = env.zim("ann", &[command, &["--plain"]].concat()).await.ok();
        assert!(!ran.stdout.trim().is_empty(), "{command:?} says nothing");
    }
    env.end().await;
}

#[tokio::test]
async fn a_request_for_several_users_says_for_which_it_was_done() {
    let env = two_users().await;
    let said = env.zim("ann", &["blacklist", "add", "nobody", "bob", "--plain"]).await;
    assert_eq!((said.code, said.stdout.trim()), (Some(5), "Blocked: bob."));
    assert!(said.stderr.contains("not blocked: nobody"), "{}", said.stderr);
    env.zim("ann", &["blacklist", "remove", "bob"]).await.ok();
    env.zim("ann", &["friend", "add", "bob"]).await.ok();
    let said = env.zim("ann", &["friend", "delete", "nobody", "bob", "--plain"]).await;
    assert_eq!((said.code, said.stdout.trim()), (Some(5), "Deleted: bob."));
    env.end().await;
}

#[tokio::test]
async fn ping_measures_the_login_and_the_answers() {
    let env = two_users().await;
    let measured = env.zim("ann", &["ping", "--count", "2"]).await.json();
    assert_eq!((&measured["server"], &measured["userID"]), (&json!(env.address()), &json!("ann")));
    let answers: Vec<f64> = measured["answersMs"].as_array().unwrap().iter().map(|ms| ms.as_f64().unwrap()).collect();
    assert!(answers.len() == 2 && answers.iter().all(|ms| *ms > 0.0), "{measured}");
    assert!(measured["loginMs"].as_f64().unwrap() > 0.0, "{measured}");
    let said = env.zim("ann", &["ping", "--plain"]).await.ok().stdout;
    assert!(said.starts_with(&format!("{} answers ann in ", env.address())), "{said}");
    env.end().await;
}

#[tokio::test]
async fn a_time_limit_ends_a_command() {
    // It takes packets, and never answers.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = silent.local_addr().unwrap().to_string();
    let env = TestEnv::without_server();
    let login = ["login", "ann", "--server", &server, "--app-id", "1", "--app-sign", "x", "--timeout", "1s"];
    let stderr = env.zim("ann", &login).await.fails(4);
    assert_eq!(stderr.trim(), "error: timed out after 1 s");
    for bad in ["1", "1.5s", "soon"] {
        let stderr = env.zim("ann", &["ping", "--timeout", bad]).await.fails(2);
        assert!(stderr.contains("is not a duration; use a form like 90s"), "{stderr}");
    }
}

#[tokio::test]
async fn listening_ends_with_its_time_limit() {
    let env = two_users().await;
    env.zim("ann", &["listen", "--timeout", "1s"]).await.ok();
    let ran = env.zim("ann", &["listen", "--event", "peerMessageReceived", "--count", "1", "--timeout", "1s"]).await;
    assert_eq!((ran.code, ran.stderr.trim()), (Some(1), "error: timed out after 0 of 1 events"));
    env.end().await;
}

#[tokio::test]
async fn listening_shows_only_what_the_chosen_users_sent() {
    let env = two_users().await;
    env.login("cem").await;
    for (from, text) in [("cem", "1"), ("bob", "2"), ("bob", "4"), ("cem", "3")] {
        env.zim(from, &["send", "ann", text]).await.ok();
    }
    let listen = ["listen", "--from", "bob", "--event", "peerMessageReceived", "--count", "1", "--timeout", "30s"];
    let heard = env.zim("ann", &listen).await.json();
    let messages: Vec<_> =
        heard["messageList"].as_array().unwrap().iter().map(|message| message["message"].clone()).collect();
    assert_eq!(messages, ["2", "4"]);
    env.end().await;
}

#[tokio::test]
async fn a_log_is_written_on_demand() {
    let env = two_users().await;
    assert_eq!(env.zim("ann", &["ping"]).await.ok().stderr, "");
    let logged = env.zim("ann", &["ping", "-v"]).await.ok().stderr;
    assert!(logged.contains("logging in") && logged.contains(&env.address()), "{logged}");
    let more = env.zim("ann", &["-vv", "ping"]).await.ok().stderr;
    assert!(more.len() > logged.len(), "{more}");
    env.end().await;
}
