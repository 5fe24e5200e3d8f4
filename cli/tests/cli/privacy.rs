//! Export, retention, erasure and the audit log from the command line.

use serde_json::Value;

use crate::common::TestEnv;

#[tokio::test]
async fn the_operator_exports_and_erases_a_user_and_the_audit_log_says_so() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;
    let admin = async |args: &[&str]| env.zim("", &[&["admin", "--server-data", env.data()], args].concat()).await;
    env.zim("ann", &["send", "bob", "hi", "bob"]).await.ok();

    let exported: Value = serde_json::from_str(&admin(&["user", "export", "ann"]).await.ok().stdout).unwrap();
    assert_eq!(exported["access"]["userID"], "ann");
    assert_eq!(exported["conversations"][0]["conversation"]["conversationID"], "bob");
    assert_eq!(exported["conversations"][0]["messages"][0]["message"], "hi bob");
    assert_eq!(exported["friends"], Value::Array(Vec::new()));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ann.json");
    let path = file.to_str().unwrap();
    admin(&["user", "export", "ann", "--output", path]).await.ok();
    let written: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(written["conversations"], exported["conversations"]);
    admin(&["user", "export", "ann", "--output", path]).await.fails(1);

    let stderr = admin(&["user", "erase", "ann"]).await.fails(2);
    assert!(stderr.contains("zim admin user erase ann --confirm ann"), "{stderr}");
    admin(&["user", "erase", "ann", "--confirm", "bob"]).await.fails(2);
    admin(&["user", "erase", "ann", "--confirm", "ann"]).await.ok();
    env.until(async || !admin(&["user", "export", "ann"]).await.ok().stdout.contains("hi bob")).await;
    // It looks once more, later, for what was on its way.
    assert!(admin(&["outbox", "list", "--all", "--plain"]).await.ok().stdout.contains("erasure"));
    assert!(admin(&["user", "show", "ann"]).await.json()["erasedAt"].as_i64() > Some(0));
    env.zim("ann", &["send", "bob", "again"]).await.fails(3);

    let log = admin(&["audit", "list", "--user", "ann"]).await.ok();
    let log: Vec<Value> = log.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let actions: Vec<&str> = log.iter().filter_map(|row| row["action"].as_str()).collect();
    let before: Vec<&str> = actions.into_iter().skip_while(|action| *action != "EraseUser").collect();
    assert_eq!(before, ["EraseUser", "ExportUser", "ExportUser"]);
    let one = admin(&["audit", "list", "--count", "1", "--plain"]).await.ok().stdout;
    assert!(one.lines().count() == 2 && one.contains("ExportUser"), "{one}");
    env.end().await;
}

#[tokio::test]
async fn the_operator_sets_how_long_messages_are_kept() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;
    let admin =
        async |args: &[&str]| env.zim("", &[&["admin", "--server-data", env.data(), "retention"], args].concat()).await;
    env.zim("ann", &["send", "bob", "hi"]).await.ok();
    assert_eq!(admin(&["set", "90"]).await.json()["days"], 90);
    let of_both = ["--between", "ann", "bob"];
    let shown = admin(&[&["show", "--plain"][..], &of_both].concat()).await.ok().stdout;
    assert_eq!(shown.trim_end(), "Messages of ann and bob are kept for 90 days, as those of the app.");
    let shown = admin(&[&["set", "forever", "--plain"][..], &of_both].concat()).await.ok().stdout;
    assert_eq!(shown.trim_end(), "Messages of ann and bob are kept for ever.");
    let reset = admin(&[&["reset", "--plain"][..], &of_both].concat()).await.ok().stdout;
    assert!(reset.contains("as those of the app"), "{reset}");
    assert!(admin(&["reset"]).await.fails(2).contains("set forever"));
    assert!(admin(&["set", "0"]).await.fails(2).contains("1 to 36500"));
    env.end().await;
}
