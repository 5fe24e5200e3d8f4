//! Apps, sessions and users of the operator: `zim admin`.

use crate::common::TestEnv;

#[tokio::test]
async fn the_operator_lists_apps_and_ends_sessions() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    let admin = async |args: &[&str]| env.zim("ann", &[&["admin", "--server-data", env.data()], args].concat()).await;
    let made = admin(&["app", "create", "--name", "shop"]).await.json();
    assert_eq!(made["name"], "shop");
    assert_eq!(made["serverSecret"].as_str().unwrap().len(), 32);
    let apps = admin(&["app", "list"]).await.ok();
    assert_eq!(apps.lines().len(), 2);
    assert!(!apps.stdout.contains(made["serverSecret"].as_str().unwrap()));

    let app_id = env.app_id().to_string();
    let mut listener = env.start("ann", &["listen", "--timeout", "60s"]);
    env.until(async || admin(&["sessions", "--app-id", &app_id]).await.lines().len() == 1).await;
    assert_eq!(admin(&["disconnect", "ann", "--app-id", &app_id]).await.json()["sessions"], 1);
    let stderr = listener.finish().await.fails(3);
    assert!(stderr.contains("the session has ended: the server's operator ended this login"), "{stderr}");

    assert!(admin(&["task", "list", "--plain"]).await.ok().stdout.contains("Nothing has failed."));
    assert!(admin(&["outbox", "list", "--all", "--plain"]).await.ok().stdout.contains("Nothing is scheduled."));
    let listed = admin(&["task", "list", "--all", "--plain"]).await.ok();
    assert!(listed.lines()[0].starts_with("KIND") && listed.lines()[1].starts_with("lost-logins"), "{}", listed.stdout);
    let listed = admin(&["task", "list", "--all", "--json"]).await.ok();
    assert!(listed.stdout.contains("\"kind\":\"lost-logins\""), "{}", listed.stdout);
    let none = admin(&["task", "retry", "lost-logins", "7"]).await.fails(5);
    assert!(none.contains("no lost-logins 7 has failed"), "{none}");
    assert!(admin(&["task", "drop", "make-coffee", "7"]).await.fails(5).contains("the kinds are"));
    // The task that looks for lost logins may be dropped: the next start schedules it again.
    admin(&["task", "drop", "lost-logins", "0"]).await.ok();
    assert!(!admin(&["task", "list", "--all"]).await.ok().stdout.contains("lost-logins"));

    let url = env.admin_url();
    let wrong = ["admin", "--admin-url", &url, "--admin-key", "wrong", "app", "list"];
    env.zim("ann", &wrong).await.fails(3);
    env.end().await;
}

#[tokio::test]
async fn several_apps_need_an_explicit_choice() {
    let env = TestEnv::new().await;
    let data = ["--server-data", env.data()];
    let zim = async |args: &[&str]| env.zim("ann", &[args, &data[..]].concat()).await;
    zim(&["login", "ann"]).await.ok();
    zim(&["admin", "token", "ann"]).await.ok();
    // An app with a lower ID than the first one.
    zim(&["admin", "app", "create", "--name", "shop", "--app-id", "1"]).await.ok();
    for command in [
        &["login", "ann"][..],
        &["admin", "token", "ann"],
        &["admin", "sessions"],
        &["admin", "disconnect", "ann"],
        &["admin", "user", "show", "ann"],
        &["admin", "app", "set", "--cbc-tokens", "off"],
    ] {
        let stderr = zim(command).await.fails(2);
        assert!(stderr.contains("the server has 2 apps: choose one with --app-id"), "{command:?}: {stderr}");
    }
    let stderr = env.zim("carol", &["token", "carol", "--server-data", env.data()]).await.fails(2);
    assert!(stderr.contains("the server has 2 apps: choose one with --app-id"), "{stderr}");
    // The profile of ann has an app.
    assert_eq!(zim(&["token", "ann", "--json"]).await.json()["appID"], env.app_id());

    let first = env.app_id().to_string();
    assert_eq!(zim(&["login", "ann", "--app-id", &first]).await.json()["appID"], env.app_id());
    // The folder has the app sign of the first app only.
    assert!(
        env.zim("bob", &["login", "bob", "--app-id", "1", data[0], data[1]]).await.fails(2).contains("--app-sign-file")
    );
    let token = zim(&["token", "bob", "--app-id", "1"]).await.ok().stdout;
    let login = ["login", "bob", "--app-id", "1", data[0], data[1], "--token", "-"];
    assert_eq!(env.zim_with("bob", &login, token).await.json()["appID"], 1);
    env.end().await;
}

#[tokio::test]
async fn the_operator_shows_renames_and_deletes_an_app() {
    let env = TestEnv::new().await;
    let admin = async |arguments: &[&str]| {
        env.zim("", &[&["admin", "--server-data", env.data(), "app"][..], arguments].concat()).await
    };
    env.login("ann").await;
    admin(&["rename", "Old shop"]).await.ok();
    let shown = admin(&["show"]).await.json();
    assert_eq!(
        (&shown["name"], &shown["users"], &shown["appID"]),
        (&"Old shop".into(), &1.into(), &env.app_id().into())
    );
    assert!(shown.get("appSign").is_none() && shown["createdAt"].as_i64() > Some(0), "{shown}");
    let first = env.app_id().to_string();
    let stderr = admin(&["delete", &first, "--confirm", &first]).await.fails(5);
    assert!(stderr.contains("last app"), "{stderr}");
    admin(&["create", "--name", "New shop", "--app-id", "77"]).await.ok();
    for confirm in [&[][..], &["--confirm", "77"]] {
        let stderr = admin(&[&["delete", &first][..], confirm].concat()).await.fails(2);
        assert!(
            stderr.contains("\"Old shop\") has 1 users") && stderr.contains(&format!("--confirm {first}")),
            "{stderr}"
        );
    }
    let deleted = admin(&["delete", &first, "--confirm", &first]).await.json();
    assert!(deleted["rows"].as_i64() > Some(1), "{deleted}");
    assert_eq!(admin(&["list"]).await.json()["appID"], 77);
    admin(&["show", "--app-id", &first]).await.fails(5);
    env.zim("ann", &["send", "ann", "gone"]).await.fails(3);
    env.end().await;
}

#[tokio::test]
async fn the_operator_bans_revokes_and_rotates() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    let admin = async |args: &[&str]| env.zim("ann", &[&["admin", "--server-data", env.data()], args].concat()).await;
    let login = async || env.zim("ann", &["login", "ann"]).await;

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

    // A revoked token is refused; a token made afterwards is accepted.
    let token = async || admin(&["token", "ann"]).await.json()["token"].as_str().unwrap().to_owned();
    let old = token().await;
    admin(&["user", "revoke", "ann"]).await.ok();
    let app_id = env.app_id().to_string();
    let (server, fingerprint) = (env.address(), env.fingerprint());
    let with = ["login", "ann", "--server", &server, "--app-id", &app_id, "--fingerprint", &fingerprint, "--token"];
    let refused = env.zim("phone", &[&with[..], &[&old]].concat()).await.fails(3);
    assert!(refused.contains("revoked"), "{refused}");
    let new = token().await;
    env.zim("phone", &[&with[..], &[&new]].concat()).await.ok();

    assert!(admin(&["app", "set"]).await.fails(2).contains("nothing to set"));
    let app = admin(&["app", "set", "--cbc-tokens", "on", "--registration", "operator"]).await.json();
    assert_eq!((&app["cbcTokens"], &app["registration"]), (&"on".into(), &"operator".into()));
    let unknown = env.zim("eve", &["login", "eve", "--server-data", env.data()]).await.fails(5);
    assert!(unknown.contains("zim admin user register"), "{unknown}");
    assert_eq!(admin(&["user", "register", "eve", "--name", "Eve"]).await.json()["isNew"], true);
    env.login("eve").await;

    let rotated = admin(&["app", "rotate", "app-sign", "--overlap", "1h"]).await.json();
    assert!(rotated["oldEndsAt"].as_i64().unwrap() > 0);
    env.zim("eve", &["login", "eve", "--app-sign", rotated["secret"].as_str().unwrap()]).await.ok();
    admin(&["app", "rotate", "app-sign", "--overlap", "31d"]).await.fails(2);
    assert_eq!(admin(&["app", "rotate", "server-secret"]).await.json()["secret"].as_str().unwrap().len(), 32);
    env.zim("phone", &["send", "eve", "hi"]).await.fails(3);
    admin(&["app", "set", "--app-sign", "off"]).await.ok();
    let off = env.zim("eve", &["send", "ann", "hi"]).await.fails(3);
    assert!(off.contains("turned off"), "{off}");
    env.end().await;
}
