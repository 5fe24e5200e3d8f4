//! The real program against a real server, as people and scripts use it.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
mod operator;
#[path = "cli/upgrade.rs"]
mod upgrade;

use common::{Here, server_binary};
use serde_json::Value;

#[tokio::test]
async fn two_people_talk() {
    let here = Here::new().await;
    here.login("ann").await;
    here.login("bob").await;

    let sent = here.zim("ann", &["send", "bob", "hi", "bob"]).await.json();
    assert_eq!(sent["message"]["message"], "hi bob");
    assert_eq!(sent["message"]["messageSeq"], 1);
    assert_eq!(sent["message"]["conversationID"], "bob");

    let listed = here.zim("bob", &["conversation", "list"]).await.json();
    assert_eq!(listed["conversationID"], "ann");
    assert_eq!(listed["unreadMessageCount"], 1);
    assert_eq!(listed["lastMessage"]["message"], "hi bob");

    here.zim("bob", &["conversation", "clear", "ann"]).await.ok();
    assert_eq!(here.zim("bob", &["conversation", "unread"]).await.json()["unreadMessageCount"], 0);
    assert_eq!(here.zim("bob", &["conversation", "list", "--unread"]).await.lines(), Vec::<String>::new());

    let history = here.zim("bob", &["history", "ann"]).await.json();
    assert_eq!(history["senderUserID"], "ann");
    here.end().await;
}

#[tokio::test]
async fn nothing_that_others_wrote_reaches_the_terminal_as_it_is() {
    let here = Here::new().await;
    here.login("ann").await;
    here.login("bob").await;
    let hostile = "left \u{202e}thgir\u{9b}2J\u{200d}";
    here.zim("bob", &["send", "ann", hostile]).await.ok();
    let asked = r#"{"conversationID":"bob","conversationType":0,"messageSeqs":[1]}"#;
    for arguments in [
        &["history", "bob", "--json"][..],
        &["history", "bob", "--plain"],
        &["call", "Message/QueryMessages", asked, "--plain"],
    ] {
        let shown = here.zim("ann", arguments).await.ok().stdout;
        assert!(shown.contains("left ") && shown.contains("202e"), "{shown}");
        assert!(!shown.contains(['\u{202e}', '\u{9b}', '\u{200d}']), "{arguments:?}: {shown:?}");
    }
    // A program reads what was written.
    assert_eq!(here.zim("ann", &["history", "bob"]).await.json()["message"], hostile);
    here.end().await;
}

#[tokio::test]
async fn history_goes_back_in_pages() {
    let here = Here::new().await;
    here.login("ann").await;
    here.login("bob").await;
    let text: String = (1..=45).map(|number| format!("message {number}\n")).collect();
    let sent = here.zim_with("ann", &["send", "bob", "--lines", "-"], &text).await.ok();
    assert_eq!(sent.lines().len(), 45);

    let seqs = |run: &common::Ran| -> Vec<i64> {
        run.lines()
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["messageSeq"].as_i64().unwrap())
            .collect()
    };
    assert_eq!(seqs(&here.zim("bob", &["history", "ann"]).await), (26..=45).collect::<Vec<_>>());
    assert_eq!(seqs(&here.zim("bob", &["history", "ann", "--before", "4"]).await), [1, 2, 3]);
    assert_eq!(seqs(&here.zim("bob", &["history", "ann", "--after", "43"]).await), [44, 45]);
    assert_eq!(seqs(&here.zim("bob", &["history", "ann", "--all"]).await), (1..=45).collect::<Vec<_>>());
    let plain = here.zim("bob", &["history", "ann", "--count", "1", "--plain"]).await.ok();
    assert!(plain.stdout.contains("ann  message 45"), "{}", plain.stdout);
    here.end().await;
}

#[tokio::test]
async fn a_command_that_comes_and_goes_disturbs_no_listener() {
    let here = Here::new().await;
    here.login("ann").await;
    here.login("bob").await;
    let mut listener =
        here.start("bob", &["listen", "--event", "peerMessageReceived", "--count", "2", "--timeout", "30"]);
    // It is there when the server knows a session of his.
    here.until(async || {
        here.zim("bob", &["admin", "sessions", "bob", "--server-data", here.data()]).await.lines().len() == 1
    })
    .await;

    here.zim("bob", &["send", "ann", "I am here as well"]).await.ok();
    here.zim("bob", &["user", "self"]).await.ok();
    here.zim("ann", &["send", "bob", "one"]).await.ok();
    here.zim("ann", &["send", "bob", "two"]).await.ok();
    let heard = listener.finish().await.ok();
    let texts: Vec<Value> = heard.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(texts.iter().all(|event| event["name"] == "peerMessageReceived"), "{texts:?}");
    let all = heard.stdout;
    assert!(all.contains("\"two\"") || all.contains("\"one\""), "{all}");
    here.end().await;
}

#[tokio::test]
async fn a_second_program_of_the_same_profile_disturbs_nobody() {
    let here = Here::new().await;
    here.login("ann").await;
    here.login("bob").await;
    let mut listener =
        here.start("bob", &["listen", "--event", "peerMessageReceived", "--count", "1", "--timeout", "30"]);
    here.until(async || {
        here.zim("bob", &["admin", "sessions", "bob", "--server-data", here.data()]).await.lines().len() == 1
    })
    .await;
    // Both want the local database; the second one does without.
    here.zim_with("bob", &["chat", "ann"], "hello\n").await.ok();
    here.zim("ann", &["send", "bob", "hello yourself"]).await.ok();
    assert!(listener.finish().await.ok().stdout.contains("hello"));
    here.end().await;
}

#[tokio::test]
async fn chat_takes_lines_from_a_pipe() {
    let here = Here::new().await;
    here.login("ann").await;
    here.login("bob").await;
    here.zim("bob", &["send", "ann", "are you there?"]).await.ok();
    let chat = here.zim_with("ann", &["chat", "bob"], "yes\n/quit is no command here\n").await.ok();
    let said: Vec<Value> = chat.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let texts: Vec<_> = said.iter().map(|message| message["message"].as_str().unwrap()).collect();
    assert_eq!(texts, ["are you there?", "yes", "/quit is no command here"]);
    assert_eq!(here.zim("ann", &["conversation", "unread"]).await.json()["unreadMessageCount"], 0);
    here.end().await;
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_reads_what_it_keeps_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt;

    let here = Here::new().await;
    for arguments in [&["login", "ann", "--server-data", here.data()][..], &["profile", "use", "ann"], &["chat", "ann"]]
    {
        here.start_without_umask("ann", arguments).finish().await.ok();
    }
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let (config, mut seen) = (here.folder().join("config"), Vec::new());
    let mut folders = vec![config.clone()];
    while let Some(folder) = folders.pop() {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            assert_eq!(mode(&path), 0o600, "{}", path.display());
            seen.push(path.extension().map_or_else(String::new, |end| end.to_str().unwrap().to_owned()));
        }
    }
    for kind in ["toml", "db", "lock", ""] {
        assert!(seen.iter().any(|seen| seen == kind), "no {kind:?} in {seen:?}");
    }
    // What an older version left open is closed.
    let data = config.join("data/ann");
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    here.zim("ann", &["chat", "ann"]).await.ok();
    assert_eq!(mode(&data), 0o700);
    here.end().await;
}

/// Whoever runs a command in a folder that others write to would log in where they want.
#[cfg(unix)]
#[tokio::test]
async fn the_server_of_this_folder_is_used_only_if_it_is_ones_own() {
    use std::os::unix::fs::PermissionsExt;

    let here = Here::new().await;
    let usual = here.folder().join("zim-data");
    std::os::unix::fs::symlink(here.data(), &usual).unwrap();
    let found = here.zim("ann", &["login", "ann"]).await.ok();
    assert!(
        found.stderr.contains(&format!("using the server on this machine, {}", here.address())),
        "{}",
        found.stderr
    );
    let found = here.zim("ann", &["admin", "sessions"]).await.ok();
    assert!(found.stderr.contains("using the server on this machine"), "{}", found.stderr);

    std::fs::set_permissions(here.data(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let command: [&[&str]; 3] = [&["login", "bob"], &["admin", "sessions"], &["token", "bob"]];
    for arguments in command {
        let said = here.zim("bob", arguments).await.fails(1);
        assert!(said.contains("others can write to zim-data (mode 0777)"), "{said}");
        assert!(said.contains("hint: ") && said.contains("--server-data zim-data"), "{said}");
    }
    here.zim("bob", &["login", "bob", "--server-data", "zim-data"]).await.ok();
    here.end().await;
}

#[tokio::test]
async fn a_secret_can_come_from_a_file_and_from_standard_input() {
    let here = Here::new().await;
    let file = |name: &str, text: &str| {
        let path = here.folder().join(name);
        zim_files::write(&path, text.as_bytes()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (sign, secret) = (file("sign", here.app_sign()), file("secret", here.server_secret()));
    let key = format!("{}/admin.key", here.data());
    let (server, app_id, fingerprint) = (here.address(), here.app_id().to_string(), here.fingerprint());
    let login = ["login", "ann", "--server", &server, "--app-id", &app_id, "--fingerprint", &fingerprint];
    let quiet = here.zim("ann", &[&login[..], &["--app-sign-file", &sign]].concat()).await.ok();
    assert_eq!(quiet.stderr, "");

    let token = here.zim("ann", &["token", "ann", "--app-id", &app_id, "--secret-file", &secret]).await.ok().stdout;
    let token_file = file("token", &token);
    here.zim("ann", &[&login[..], &["--token-file", &token_file]].concat()).await.ok();
    for form in [["--token", "-"], ["--token-file", "-"]] {
        here.zim_with("ann", &[&login[..], &form].concat(), &token).await.ok();
    }
    let sign_piped = here.zim_with("bob", &[&login[..], &["--app-sign-file", "-"]].concat(), here.app_sign()).await;
    sign_piped.ok();

    let url = here.admin_url();
    let admin = ["admin", "--admin-url", &url, "--admin-key-file", &key, "app", "list"];
    here.zim("ann", &admin).await.ok();
    #[cfg(unix)]
    {
        // What others can read is no secret: the command goes on, and says so.
        std::fs::set_permissions(&sign, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let warned = here.zim("ann", &[&login[..], &["--app-sign-file", &sign]].concat()).await.ok();
        assert!(warned.stderr.contains("others can read") && warned.stderr.contains("chmod 600"), "{}", warned.stderr);
    }
    here.end().await;
}

#[tokio::test]
async fn any_method_can_be_called() {
    let here = Here::new().await;
    here.login("ann").await;
    let asked = here.zim("ann", &["call", "User/QueryUsersInfo", r#"{"userIDs":["ann"]}"#]).await.json();
    assert_eq!(asked["userList"][0]["baseInfo"]["userID"], "ann");

    let methods = here.zim("ann", &["call", "--list"]).await.ok();
    assert!(methods.stdout.contains("\"method\":\"Message/SendMessage\""), "{}", methods.stdout);
    assert!(!methods.stdout.contains("Sync/Pull"));

    let slip = here.zim("ann", &["call", "sendMessage"]).await.fails(2);
    assert!(slip.contains("did you mean Message/SendMessage"), "{slip}");
    here.zim("ann", &["call", "User/QueryUsersInfo", "{"]).await.fails(2);
    let refused = here.zim("ann", &["call", "User/QueryUsersInfo", r#"{"userIDs":[]}"#]).await.fails(5);
    assert!(refused.starts_with("error: 6000001 CommonModuleParamsInvalid: "), "{refused}");
    here.end().await;
}

#[tokio::test]
async fn every_failure_has_its_code_and_says_what_to_do() {
    let here = Here::new().await;
    let nobody = here.zim("nobody", &["send", "bob", "hi"]).await.fails(3);
    assert!(nobody.contains("not logged in") && nobody.contains("hint: zim --profile nobody login USER"), "{nobody}");

    here.login("ann").await;
    let unknown = here.zim("ann", &["send", "nobody", "hi"]).await.fails(5);
    assert!(unknown.starts_with("error: 6000204 MessageModuleTargetDoesNotExist: "), "{unknown}");
    assert!(unknown.contains("\nhint: "), "{unknown}");

    here.zim("ann", &["fly"]).await.fails(2);
    here.zim("ann", &["send", "bob"]).await.fails(2);
    here.zim("ann", &["history", "bob", "--count", "0"]).await.fails(2);

    let sign = "0".repeat(64);
    let wrong = here.zim("eve", &["login", "eve", "--server-data", here.data(), "--app-sign", &sign]).await;
    wrong.fails(3);
    assert!(
        here.zim("eve", &["profile", "show"]).await.fails(2).contains("no profile"),
        "a failed login is not remembered"
    );

    let nowhere = ["login", "ann", "--server", "nowhere.invalid:1", "--app-id", "1", "--app-sign", "x"];
    here.zim("lost", &nowhere).await.fails(4);
    let fingerprint = "00".repeat(32);
    let stranger = ["login", "ann", "--server-data", here.data(), "--fingerprint", &fingerprint];
    here.zim("lost", &stranger).await.fails(4);
    here.end().await;
}

#[tokio::test]
async fn what_was_given_once_is_remembered() {
    let here = Here::new().await;
    here.login("ann").await;
    // A second login needs nothing, and a second profile takes the server from the one in use.
    here.zim("ann", &["login", "ann"]).await.ok();
    here.zim("ann", &["profile", "use", "ann"]).await.ok();
    let carol = here.zim("carol", &["login", "carol"]).await.json();
    assert_eq!((&carol["userID"], &carol["profile"]), (&"carol".into(), &"carol".into()));

    let shown = here.zim("carol", &["profile", "show"]).await.ok();
    assert!(!shown.stdout.contains(here.app_sign()), "a secret is shown");
    assert_eq!(here.zim("ann", &["profile", "list"]).await.lines().len(), 2);

    here.zim("carol", &["logout"]).await.ok();
    here.zim("carol", &["send", "ann", "hi"]).await.fails(3);
    here.zim("carol", &["login", "carol", "--app-sign", here.app_sign()]).await.ok();
    here.zim("carol", &["logout", "--forget"]).await.ok();
    assert_eq!(here.zim("ann", &["profile", "list"]).await.lines().len(), 1);
    here.end().await;
}

#[tokio::test]
async fn a_token_is_made_here_or_by_the_server_and_logs_in() {
    let here = Here::new().await;
    let (app_id, secret) = (here.app_id().to_string(), here.server_secret().to_owned());
    let made = here.zim("dan", &["token", "dan", "--app-id", &app_id, "--secret", &secret, "--for", "2h"]).await.ok();
    let token = made.stdout.trim();
    assert!(token.starts_with("04") && !token.contains(char::is_whitespace), "{token}");
    let server = here.address();
    let fingerprint = here.fingerprint();
    let login = ["login", "dan", "--server", &server, "--app-id", &app_id, "--fingerprint", &fingerprint, "--token"];
    here.zim("dan", &[&login[..], &[token]].concat()).await.ok();

    let by_server = here.zim("dan", &["token", "dan", "--server-data", here.data(), "--json"]).await.json();
    here.zim_with("dan", &[&login[..], &["-"]].concat(), by_server["token"].as_str().unwrap()).await.ok();
    // Somebody else's token is no use.
    let foreign = here.zim("eve", &["token", "dan", "--server-data", here.data()]).await.ok();
    let eve = ["login", "eve", "--server", &server, "--app-id", &app_id, "--fingerprint", &fingerprint, "--token"];
    here.zim("eve", &[&eve[..], &[foreign.stdout.trim()]].concat()).await.fails(3);
    here.end().await;
}

#[tokio::test]
async fn the_operator_sees_apps_and_sessions() {
    let here = Here::new().await;
    here.login("ann").await;
    let admin = async |args: &[&str]| here.zim("ann", &[&["admin", "--server-data", here.data()], args].concat()).await;
    let made = admin(&["app", "create", "--name", "shop"]).await.json();
    assert_eq!(made["name"], "shop");
    assert_eq!(made["serverSecret"].as_str().unwrap().len(), 32);
    let apps = admin(&["app", "list"]).await.ok();
    assert_eq!(apps.lines().len(), 2);
    assert!(!apps.stdout.contains(made["serverSecret"].as_str().unwrap()));

    let mut listener = here.start("ann", &["listen", "--timeout", "60"]);
    here.until(async || admin(&["sessions"]).await.lines().len() == 1).await;
    assert_eq!(admin(&["disconnect", "ann"]).await.json()["sessions"], 1);
    let ended = listener.finish().await;
    ended.fails(3);

    let url = here.admin_url();
    let wrong = ["admin", "--admin-url", &url, "--admin-key", "wrong", "app", "list"];
    here.zim("ann", &wrong).await.fails(3);
    here.end().await;
}

#[tokio::test]
async fn the_operator_takes_back_what_was_let_in() {
    let here = Here::new().await;
    here.login("ann").await;
    let admin = async |args: &[&str]| here.zim("ann", &[&["admin", "--server-data", here.data()], args].concat()).await;
    let login = async || here.zim("ann", &["login", "ann"]).await;

    let banned = admin(&["user", "ban", "ann", "--for", "7d"]).await.json();
    assert!(banned["banEndsAt"].as_i64().unwrap() > 0);
    let refused = login().await.fails(3);
    assert!(
        refused.contains("this user is banned") && refused.contains("hint: ") && refused.contains("unban"),
        "{refused}"
    );
    assert_eq!(admin(&["user", "banned"]).await.json()["userID"], "ann");
    assert_eq!(admin(&["user", "show", "ann"]).await.json()["isBanned"], true);
    assert_eq!(admin(&["user", "unban", "ann"]).await.json()["wasBanned"], true);
    assert!(admin(&["user", "banned", "--plain"]).await.ok().stdout.contains("Nobody is banned."));
    login().await.ok();

    // A token that was revoked opens no more; one made afterwards does.
    let token = async || admin(&["token", "ann"]).await.json()["token"].as_str().unwrap().to_owned();
    let old = token().await;
    admin(&["user", "revoke", "ann"]).await.ok();
    let app_id = here.app_id().to_string();
    let (server, fingerprint) = (here.address(), here.fingerprint());
    let with = ["login", "ann", "--server", &server, "--app-id", &app_id, "--fingerprint", &fingerprint, "--token"];
    let refused = here.zim("phone", &[&with[..], &[&old]].concat()).await.fails(3);
    assert!(refused.contains("revoked"), "{refused}");
    let new = token().await;
    here.zim("phone", &[&with[..], &[&new]].concat()).await.ok();

    assert!(admin(&["app", "set"]).await.fails(2).contains("nothing to set"));
    let app = admin(&["app", "set", "--cbc-tokens", "on", "--registration", "operator"]).await.json();
    assert_eq!((&app["cbcTokens"], &app["registration"]), (&"on".into(), &"operator".into()));
    let unknown = here.zim("eve", &["login", "eve", "--server-data", here.data()]).await.fails(5);
    assert!(unknown.contains("zim admin user register"), "{unknown}");
    assert_eq!(admin(&["user", "register", "eve", "--name", "Eve"]).await.json()["isNew"], true);
    here.login("eve").await;

    let rotated = admin(&["app", "rotate", "app-sign", "--overlap", "1h"]).await.json();
    assert!(rotated["oldEndsAt"].as_i64().unwrap() > 0);
    here.zim("eve", &["login", "eve", "--app-sign", rotated["secret"].as_str().unwrap()]).await.ok();
    admin(&["app", "rotate", "app-sign", "--overlap", "31d"]).await.fails(2);
    assert_eq!(admin(&["app", "rotate", "server-secret"]).await.json()["secret"].as_str().unwrap().len(), 32);
    here.zim("phone", &["send", "eve", "hi"]).await.fails(3);
    admin(&["app", "set", "--app-sign", "off"]).await.ok();
    let off = here.zim("eve", &["send", "ann", "hi"]).await.fails(3);
    assert!(off.contains("turned off"), "{off}");
    here.end().await;
}

#[tokio::test]
async fn people_see_text_and_scripts_see_json() {
    let here = Here::new().await;
    here.login("ann").await;
    here.login("bob").await;
    let sent = here.zim("ann", &["send", "bob", "one\u{1b}[2Jtwo", "--plain"]).await.ok();
    assert!(sent.stdout.starts_with("Sent to bob at "), "{}", sent.stdout);
    assert!(!sent.stdout.contains('\u{1b}'), "no colours where nobody looks, and nothing that moves the cursor");
    let list = here.zim("bob", &["--plain", "conversation", "list"]).await.ok();
    assert!(list.stdout.starts_with("UNREAD  WITH"), "{}", list.stdout);
    let help = here.zim("ann", &["--help"]).await.ok();
    assert!(help.stdout.contains("Exit codes:") && help.stdout.contains("Examples:"), "{}", help.stdout);
    let script = here.zim("ann", &["completions", "bash"]).await.ok();
    assert!(script.stdout.contains("_zim"), "no completions");
    here.end().await;
}

#[tokio::test]
async fn the_demo_plays_to_its_end() {
    let here = Here::without_server();
    let binary = server_binary();
    let played = here.zim("x", &["demo", "--server-bin", &binary]).await.ok();
    let lines = played.lines();
    assert!((10..=26).contains(&lines.len()), "{}", played.stdout);
    for said in ["hi bob, pizza at 8?", "1 unread from ann", "0 unread", "came while away", "stopped and removed"] {
        assert!(played.stdout.contains(said), "{said:?} is missing:\n{}", played.stdout);
    }
}

#[tokio::test]
async fn a_bench_measures_and_leaves_nothing() {
    let here = Here::without_server();
    let binary = server_binary();
    for client in [&[][..], &["--sdk"]] {
        let args = [
            "bench",
            "peer",
            "--server-bin",
            &binary,
            "--pairs",
            "2",
            "--window",
            "4",
            "--seconds",
            "1",
            "--warm-up",
            "0",
        ];
        let measured = here.zim("x", &[&args[..], client].concat()).await.json();
        assert!(measured["acknowledgedPerSecond"].as_u64().unwrap() > 0, "{measured}");
        assert!(measured["deliveredPerSecond"].as_u64().unwrap() > 0, "{measured}");
        assert_eq!(measured["errors"], serde_json::json!({}), "{measured}");
        assert_eq!(measured["missing"], 0, "{measured}");
        assert!(measured["ack"]["p50Ms"].as_f64().unwrap() > 0.0, "{measured}");
    }
    let login =
        here.zim("x", &["bench", "login", "--server-bin", &binary, "--clients", "4", "--seconds", "1"]).await.json();
    assert!(login["loginsPerSecond"].as_u64().unwrap() > 0, "{login}");
    let idle = ["bench", "idle", "--server-bin", &binary, "--connections", "20", "--seconds", "1"];
    assert_eq!(here.zim("x", &idle).await.json()["lost"], 0);
    let history = ["bench", "history", "--server-bin", &binary, "--depth", "1000", "--samples", "10"];
    assert!(here.zim("x", &history).await.json()["depth"].as_i64().unwrap() >= 1_000);
    let start = ["bench", "start", "--server-bin", &binary, "--seconds", "0"];
    assert!(here.zim("x", &start).await.json()["readyMs"].as_u64().unwrap() > 0);
    let attack =
        ["bench", "attack", "--server-bin", &binary, "--only", "floods", "--seconds", "1", "--live-pairs", "2"];
    let attack = here.zim("x", &attack).await.json();
    let told = &attack["attacks"][0]["told"];
    assert!(told["6000005 CommonModuleTriggerServerFrequencyLimit"].as_u64().unwrap() >= 1_000, "{attack}");
}

#[tokio::test]
async fn user_changes_and_shows_a_profile() {
    let here = Here::new().await;
    here.login("ann").await;
    here.login("bob").await;
    assert_eq!(here.zim("ann", &["user", "name", "Ann B."]).await.json()["userName"], "Ann B.");
    let named = here.zim("ann", &["user", "avatar", "https://example.org/a.png", "--plain"]).await.ok();
    assert_eq!(named.lines(), ["Your avatar is now https://example.org/a.png"]);
    assert_eq!(here.zim("ann", &["user", "data", "{\"team\":7}"]).await.json()["extendedData"], "{\"team\":7}");

    let seen = here.zim("bob", &["user", "show", "ann"]).await.json();
    assert_eq!(seen["baseInfo"]["userName"], "Ann B.");
    assert_eq!(seen["baseInfo"]["userExtendedData"], "{\"team\":7}");
    let partly = here.zim("bob", &["user", "show", "nobody", "--plain"]).await.fails(5);
    assert!(partly.contains("there is no user nobody"), "{partly}");
    here.zim("bob", &["user", "show"]).await.fails(2);

    let own = here.zim("ann", &["user", "self"]).await.json();
    assert_eq!(own["userFullInfo"]["userAvatarUrl"], "https://example.org/a.png");
    here.zim("ann", &["user", "avatar"]).await.ok();
    let own = here.zim("ann", &["user", "self", "--plain"]).await.ok();
    assert_eq!(own.lines()[..4], ["user       ann", "name       Ann B.", "avatar     -", "data       {\"team\":7}"]);

    let long = "x".repeat(257);
    assert!(here.zim("ann", &["user", "name", &long]).await.fails(5).contains("6000001"));
    here.end().await;
}

#[tokio::test]
async fn user_push_rule_is_set_shown_and_cleared() {
    let here = Here::new().await;
    here.login("ann").await;
    let none = here.zim("ann", &["user", "push-rule", "--plain"]).await.ok();
    assert_eq!(none.lines(), ["There is no rule: every device gets its offline push."]);
    let set = ["user", "push-rule", "--online", "win,macos", "--no-push", "android", "--no-push", "iphone"];
    here.zim("ann", &set).await.ok();
    let rule = here.zim("ann", &["user", "push-rule"]).await.json();
    // As `PlatformType` numbers them.
    let expected = serde_json::json!({ "onlinePlatforms": [1, 4], "notToReceiveOfflinePushPlatforms": [3, 2] });
    assert_eq!(rule["offlinePushRule"], expected);
    let shown = here.zim("ann", &["user", "push-rule", "--plain"]).await.ok();
    assert_eq!(shown.lines(), ["The rule: no offline push to android, iphone while online on win, macos."]);
    // Half a rule is none, and a platform that nobody has is a slip.
    here.zim("ann", &["user", "push-rule", "--online", "win"]).await.fails(2);
    let slip = here.zim("ann", &["user", "push-rule", "--online", "windows", "--no-push", "android"]).await.fails(2);
    assert!(slip.contains("mini-program"), "it does not say what there is: {slip}");
    here.zim("ann", &["user", "push-rule", "--clear"]).await.ok();
    let none = here.zim("ann", &["user", "push-rule"]).await.json();
    assert_eq!(none["offlinePushRule"]["onlinePlatforms"], serde_json::json!([]));
    here.end().await;
}

#[tokio::test]
async fn blacklist_blocks_and_unblocks() {
    let here = Here::new().await;
    here.login("ann").await;
    here.login("bob").await;
    let added = here.zim("ann", &["blacklist", "add", "bob"]).await.json();
    assert_eq!(added, serde_json::json!({ "errorUserList": [] }));
    assert!(here.zim("ann", &["blacklist", "add", "bob"]).await.fails(5).contains("6000804"));
    assert_eq!(here.zim("ann", &["blacklist", "list"]).await.json()["userID"], "bob");
    let plain = here.zim("ann", &["blacklist", "check", "bob", "--plain"]).await.ok();
    assert_eq!(plain.lines(), ["bob is blocked."]);
    assert!(here.zim("bob", &["send", "ann", "hi"]).await.fails(5).contains("6000284"));
    here.zim("ann", &["send", "bob", "I can write to you"]).await.ok();
    // Part of what was asked for could not be done.
    let partly = here.zim("ann", &["blacklist", "remove", "bob", "nobody", "--plain"]).await.fails(5);
    assert!(partly.contains("nobody (6000011)"), "{partly}");
    assert_eq!(here.zim("ann", &["blacklist", "list", "--plain"]).await.ok().lines(), ["Nobody is blocked."]);
    here.zim("bob", &["send", "ann", "at last"]).await.ok();
    here.end().await;
}

#[tokio::test]
async fn friend_commands_ask_accept_name_and_part() {
    let here = Here::new().await;
    here.login("ann").await;
    here.login("bob").await;
    let asked = here.zim("ann", &["friend", "apply", "bob", "--wording", "it's Ann", "--plain"]).await.ok();
    assert_eq!(asked.lines(), ["bob is asked."]);
    let waiting = here.zim("bob", &["friend", "applications"]).await.json();
    assert_eq!((&waiting["applyUser"]["userID"], &waiting["wording"]), (&"ann".into(), &"it's Ann".into()));
    here.zim("bob", &["friend", "reject", "ann"]).await.ok();
    assert!(here.zim("bob", &["friend", "accept", "ann"]).await.fails(5).contains("6000802"));
    here.zim("ann", &["friend", "apply", "bob"]).await.ok();
    let accepted = here.zim("bob", &["friend", "accept", "ann", "--alias", "Annie", "--plain"]).await.ok();
    assert_eq!(accepted.lines(), ["ann (Annie) is your friend now."]);

    let named = here.zim("ann", &["friend", "alias", "bob", "Bobby", "--plain"]).await.ok();
    assert_eq!(named.lines(), ["You call bob Bobby now."]);
    let set = here.zim("ann", &["friend", "attributes", "bob", "k4=x", "k0=school", "--plain"]).await.ok();
    assert_eq!(set.lines(), ["bob has k0=school k4=x now."]);
    here.zim("ann", &["friend", "attributes", "bob", "k4="]).await.ok();
    let shown = here.zim("ann", &["friend", "show", "bob"]).await.json();
    assert_eq!(shown["friendAttributes"], serde_json::json!({ "k0": "school" }));
    assert_eq!((&shown["friendAlias"], &shown["userID"]), (&"Bobby".into(), &"bob".into()));
    assert!(here.zim("ann", &["friend", "attributes", "bob", "k5=x"]).await.fails(5).contains("6000001"));
    here.zim("ann", &["friend", "attributes", "bob", "k0"]).await.fails(2);
    assert!(here.zim("ann", &["friend", "show", "nobody"]).await.fails(5).contains("6000811"));

    assert_eq!(here.zim("bob", &["friend", "list"]).await.json()["friendAlias"], "Annie");
    here.zim("bob", &["friend", "delete", "ann", "--single"]).await.ok();
    let relation = here.zim("ann", &["friend", "check", "bob", "--plain"]).await.ok();
    assert!(relation.stdout.contains("is on your list, and you are not on theirs"), "{}", relation.stdout);
    here.zim("ann", &["friend", "delete", "bob"]).await.ok();
    let none = here.zim("ann", &["friend", "list", "--plain"]).await.ok();
    assert_eq!(none.lines(), ["There are no friends yet: zim friend apply USER asks somebody."]);
    here.end().await;
}

#[tokio::test]
async fn friend_search_finds_by_alias() {
    let here = Here::new().await;
    here.login("ann").await;
    here.login("bob").await;
    here.zim("ann", &["friend", "add", "bob", "--alias", "小张"]).await.ok();
    assert_eq!(here.zim("ann", &["friend", "search", "张"]).await.json()["userID"], "bob");
    let none = here.zim("ann", &["friend", "search", "张", "x", "--plain"]).await.ok();
    assert_eq!(none.lines(), ["No friend is called that."]);
    here.end().await;
}

#[tokio::test]
async fn status_is_set_shown_and_followed() {
    let here = Here::new().await;
    here.login("ann").await;
    here.login("bob").await;
    let set = here.zim("bob", &["status", "set", "busy", "--for", "3600"]).await.json();
    assert_eq!(set["customStatus"], "busy");
    let shown = here.zim("ann", &["status", "show", "bob"]).await.json();
    // He came and went with commands: he was never seen.
    assert_eq!((&shown["customStatus"], &shown["onlineStatus"]), (&"busy".into(), &1.into()));
    assert!(here.zim("ann", &["status", "show", "nobody"]).await.fails(5).contains("6000011"));

    here.zim("ann", &["status", "subscribe", "bob", "--minutes", "5", "--plain"]).await.ok();
    let listed = here.zim("ann", &["status", "list"]).await.json();
    assert_eq!(listed["userStatus"]["userID"], "bob");
    here.zim("ann", &["status", "unsubscribe", "bob"]).await.ok();
    assert!(here.zim("ann", &["status", "unsubscribe", "bob"]).await.fails(5).contains("6000001"));
    let plain = here.zim("ann", &["status", "list", "--plain"]).await.ok();
    assert_eq!(plain.lines(), ["You have subscribed to nobody's status."]);

    let plain = here.zim("bob", &["status", "clear", "--plain"]).await.ok();
    assert_eq!(plain.lines(), ["You say nothing of yourself."]);
    assert!(here.zim("bob", &["status", "set", &"x".repeat(65)]).await.fails(5).contains("64"));
    here.end().await;
}
