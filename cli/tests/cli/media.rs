//! Messages with files: `zim media`.

use crate::common::TestEnv;

#[tokio::test]
async fn a_file_is_sent_and_downloaded() {
    let env = TestEnv::new().await;
    for user in ["ann", "bob"] {
        env.login(user).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let bytes = "notes\n".repeat(50_000);
    std::fs::write(path("notes.txt"), &bytes).unwrap();
    let sent = env.zim("ann", &["media", "send", "bob", &path("notes.txt"), "--plain"]).await.ok().stdout;
    assert!(sent.starts_with("Sent to bob at "), "{sent}");
    assert!(sent.ends_with(", number 1: [file] notes.txt, 300000 bytes\n"), "{sent}");
    let history = env.zim("bob", &["history", "ann", "--plain"]).await.ok().stdout;
    assert!(history.contains("[file] notes.txt, 300000 bytes"), "{history}");

    let to = path("here.txt");
    let download = ["media", "download", "ann", "1", "--to", &to];
    let saved = env.zim("bob", &[&download[..], &["--plain"]].concat()).await.ok().stdout;
    assert_eq!(saved.trim(), format!("Saved 300000 bytes as {to}."));
    assert_eq!(std::fs::read_to_string(&to).unwrap(), bytes);
    // Another file is not replaced by accident.
    let refused = env.zim("bob", &download).await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    let json = env.zim("bob", &[&download[..], &["--force", "--json"]].concat()).await.json();
    assert_eq!(json["fileLocalPath"], to);
    assert_eq!(json["message"]["fileSize"], 300_000);

    let none = env.zim("bob", &["media", "download", "ann", "1", "--version", "thumbnail", "--to", &path("x")]).await;
    assert!(none.stderr.contains("6000219"), "{}", none.stderr);
    let none = env.zim("bob", &["media", "download", "ann", "1", "--version", "first-frame", "--to", &path("x")]).await;
    assert!(none.stderr.contains("6000219"), "{}", none.stderr);
    let lies = env.zim("ann", &["media", "send", "bob", &path("notes.txt"), "--type", "image"]).await;
    assert!(lies.stderr.contains("6000213"), "{}", lies.stderr);
    let missing = env.zim("ann", &["media", "send", "bob", &path("missing")]).await;
    assert_eq!(missing.code, Some(2), "{}", missing.stderr);
}
