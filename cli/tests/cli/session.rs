//! The login and what is around it: `zim renew`, `zim log`, `zim login --area`, `--setting`, `zim call zim.diagnostics`.

use crate::common::TestEnv;

async fn token(env: &TestEnv, user: &str) -> String {
    let app_id = env.app_id().to_string();
    let token = ["token", user, "--app-id", &app_id, "--secret", env.server_secret()];
    env.zim("ann", &token).await.ok().stdout.trim().to_owned()
}

#[tokio::test]
async fn a_renewed_token_is_checked_and_replaces_the_present_one() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    let (first, second, of_bob) = (token(&env, "ann").await, token(&env, "ann").await, token(&env, "bob").await);
    env.zim_with("ann", &["login", "ann", "--token", "-"], &first).await.ok();
    let saved = || std::fs::read_to_string(env.folder().join("config/profiles/ann.toml")).unwrap();
    assert!(saved().contains(&first), "the login saves the token");
    for bad in [of_bob.as_str(), "04nonsense"] {
        let refused = env.zim_with("ann", &["renew", "--token", "-"], bad).await;
        assert_ne!(refused.code, Some(0), "{}", refused.stderr);
        assert!(saved().contains(&first) && !saved().contains(bad));
    }
    let renewed = env.zim_with("ann", &["renew", "--token-file", "-", "--plain"], &second).await.ok().stdout;
    assert_eq!(renewed.trim(), "The profile \"ann\" has a new token for ann.");
    assert!(saved().contains(&second) && !saved().contains(&first));
    assert_eq!(env.zim("ann", &["renew", "--token", &second]).await.json()["userID"], "ann");
    env.zim("ann", &["user", "self"]).await.ok();
    env.end().await;
}

#[tokio::test]
async fn the_log_goes_to_files_that_the_operator_gets() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    let (logs, empty) = (env.folder().join("logs"), env.folder().join("empty"));
    let (logs, empty) = (logs.to_str().unwrap(), empty.to_str().unwrap());
    let pinged = env.zim("ann", &["ping", "--log-folder", logs, "-v"]).await.ok();
    assert_eq!(pinged.stderr, "", "what is in the files is not on standard error");
    let written = std::fs::read_to_string(format!("{logs}/zim.log")).unwrap();
    assert!(written.contains("logging in"), "{written}");
    let in_a_file = format!("{logs}/zim.log/logs");
    let refused = env.zim("ann", &["ping", "--log-folder", &in_a_file]).await;
    assert!(refused.code == Some(1) && refused.stderr.contains(&in_a_file), "{}", refused.stderr);
    let said = env.zim("ann", &["log", "upload", logs, "--plain"]).await.ok().stdout;
    assert_eq!(said.trim(), format!("The log in {logs} is uploaded."));
    let listed = env.zim("ann", &["admin", "--server-data", env.data(), "log", "list"]).await.json();
    assert_eq!(listed["userID"], "ann");
    assert_eq!(env.zim("ann", &["log", "upload", empty]).await.code, Some(2), "there is no such folder");
    std::fs::create_dir(empty).unwrap();
    let refused = env.zim("ann", &["log", "upload", empty]).await;
    assert!(refused.stderr.contains("6000010"), "{}", refused.stderr);
    env.end().await;
}

#[tokio::test]
async fn a_server_in_another_area_is_refused() {
    let env = TestEnv::with(|config| config.area = 4).await;
    env.login("ann").await;
    let refused = env.zim("ann", &["login", "ann", "--area", "india"]).await.fails(5);
    assert!(refused.contains("it is in area 4"), "{refused}");
    assert_eq!(env.zim("ann", &["profile", "show"]).await.json()["area"], serde_json::Value::Null);
    env.zim("ann", &["login", "ann", "--area", "europe"]).await.ok();
    assert_eq!(env.zim("ann", &["profile", "show"]).await.json()["area"], "europe");
    env.zim("ann", &["user", "self"]).await.ok();
    let shown = env.zim("ann", &["profile", "show", "--plain"]).await.ok().stdout;
    assert!(shown.ends_with("must be in  europe\n"), "{shown}");
    env.zim("ann", &["login", "ann", "--area", "any"]).await.ok();
    assert_eq!(env.zim("ann", &["profile", "show"]).await.json()["area"], serde_json::Value::Null);
    env.end().await;
}

#[tokio::test]
async fn the_sdk_is_asked_by_name() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    let found = env.zim("ann", &["call", "zim.diagnostics"]).await.json();
    assert_eq!(found["connectionState"], 2);
    let version = env.zim("ann", &["--version"]).await.ok().stdout;
    assert_eq!(version.trim(), format!("zim {}", found["sdkVersion"].as_str().unwrap()));
    let unknown = env.zim("ann", &["call", "zim.nothing"]).await;
    assert!(unknown.stderr.contains("6000013"), "{}", unknown.stderr);
    env.zim("ann", &["ping", "--setting", "connect_timeout_ms=5000", "--setting", "retry_login=false"]).await.ok();
    for bad in ["connect_timeout_ms=1", "colour=red", "connect_timeout_ms"] {
        let refused = env.zim("ann", &["ping", "--setting", bad]).await;
        assert_eq!(refused.code, Some(2), "{bad}: {}", refused.stderr);
    }
    env.end().await;
}
