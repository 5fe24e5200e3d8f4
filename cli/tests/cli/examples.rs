//! The examples in the help are run as they stand there, by a shell.

use std::collections::{BTreeSet, VecDeque};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

use crate::common::{TestEnv, server_binary};

/// The app of the examples that name one.
const APP: &str = "860873044";

/// The words and the help of all commands.
async fn commands(env: &TestEnv) -> Vec<(Vec<String>, String)> {
    let (mut all, mut next) = (Vec::new(), VecDeque::from([Vec::new()]));
    while let Some(command) = next.pop_front() {
        let words: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let help = env.zim("", &words).await.ok().stdout;
        next.extend(names(&help).into_iter().map(|name| [&command[..], &[name]].concat()));
        all.push((command, help));
    }
    all
}

/// The commands that a help lists.
fn names(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

/// The lines under `Examples:`, without the explanations beside them.
fn examples(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| !matches!(*line, "Examples:" | "Example:")).skip(1);
    let lines = lines.take_while(|line| line.starts_with("  "));
    lines.map(|line| line.trim_start().split("  ").next().unwrap().to_owned()).collect()
}

/// A picture of one point.
const PICTURE: &[u8] = b"\
    \x89\x50\x4e\x47\x0d\x0a\x1a\x0a\x00\x00\x00\x0d\x49\x48\x44\x52\x00\x00\x00\x01\x00\x00\x00\x01\x08\
    \x06\x00\x00\x00\x1f\x15\xc4\x89\x00\x00\x00\x0d\x49\x44\x41\x54\x78\xda\x63\x64\xf8\xcf\x50\x0f\x00\
    \x03\x86\x01\x80\x5a\x34\x7d\x6b\x00\x00\x00\x00\x49\x45\x4e\x44\xae\x42\x60\x82";

/// Four users, ann with the default profile, with what the examples need.
async fn prepared() -> TestEnv {
    let env = TestEnv::new().await;
    env.zim("", &["login", "ann", "--server-data", env.data()]).await.ok();
    for user in ["ann", "bob", "carol", "mallory"] {
        env.login(user).await;
    }
    // A conversation in which message 120 exists and is ann's.
    let lines: String = (1..=120).map(|number| format!("message {number}\n")).collect();
    env.zim_with("", &["send", "bob", "--lines", "-", "--receipt"], &lines).await.ok();
    env.zim("", &["send", "mallory", "hi"]).await.ok();
    env.zim("", &["group", "create", "crew", "bob", "carol"]).await.ok();
    env.zim("", &["group", "create", "old-crew", "bob"]).await.ok();
    env.zim("bob", &["group", "create", "chess", "carol"]).await.ok();
    env.zim("", &["send", "--group", "crew", "hi"]).await.ok();
    env.zim("", &["send", "--group", "crew", "hi again", "--receipt"]).await.ok();
    env.zim("", &["admin", "--server-data", env.data(), "app", "create", "--app-id", APP]).await.ok();
    let app_id = env.app_id().to_string();
    let token = ["token", "ann", "--app-id", &app_id, "--secret", env.server_secret()];
    let token = env.zim("", &token).await.ok().stdout;
    for (name, text) in [
        ("token", token.as_str()),
        ("secret", env.server_secret()),
        ("sign", env.app_sign()),
        ("admin.key", &env.admin_key()),
        ("notes", "one\ntwo\n"),
        ("log", "three\n"),
        ("notes.pdf", "%PDF-1.4\n%%EOF\n"),
        ("song.mp3", "ID3\u{4}\0\0\0\0\0\0"),
    ] {
        let file = env.folder().join(name);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    std::fs::write(env.folder().join("cat.jpg"), PICTURE).unwrap();
    let picture = env.folder().join("cat.jpg");
    // The first message to Carol.
    env.zim("", &["media", "send", "carol", picture.to_str().unwrap()]).await.ok();
    env
}

/// The home of whoever runs the examples, with the programs that these name.
fn home(env: &TestEnv) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    for folder in ["bin", ".local/share/bash-completion/completions", ".config/fish/completions"] {
        std::fs::create_dir_all(home.path().join(folder)).unwrap();
    }
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_zim"), home.path().join("bin/zim")).unwrap();
    // The token generator of somebody's back end.
    let made = home.path().join("bin/make-token");
    std::fs::write(&made, format!("#!/bin/sh\ncat {}/token\n", env.folder().display())).unwrap();
    std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o700)).unwrap();
    home
}

/// Runs a command of the operator of the first app.
async fn operate(env: &TestEnv, words: &[&str]) {
    let app_id = env.app_id().to_string();
    let line = [&["admin", "--server-data", env.data()], words, &["--app-id", &app_id]].concat();
    env.zim("", &line).await.ok();
}

/// Puts this server in the place of the servers that the examples name, and ends what would go on for ever.
fn adapted(env: &TestEnv, example: &str) -> String {
    let (app_id, fingerprint) = (env.app_id(), env.fingerprint());
    let mut line = example
        .replace("chat.example.com:4710", &env.address())
        .replace("10.0.0.5:4710", &env.address())
        .replace("--app-id 1", &format!("--app-id {app_id}"))
        .replace("HEX", &fingerprint)
        .replace("https://chat.example.org:4712", &env.admin_url())
        .replace("zim-data", env.data())
        .replace("tail -f", "cat");
    if line.contains("zim login") && line.contains("--server") && !line.contains("--fingerprint") {
        line.push_str(&format!(" --fingerprint {fingerprint}"));
    }
    if line.contains("zim admin") && !line.contains("--admin-url") {
        line = line.replace("zim admin", &format!("zim admin --server-data {}", env.data()));
        let of_an_app = [
            "rotate",
            "app set",
            "user ",
            "sessions",
            "disconnect",
            "message ",
            "group ",
            "room ",
            "call ",
            "event ",
            "log ",
            "push ",
            "retention ",
        ];
        if of_an_app.iter().any(|word| line.contains(word)) && !line.contains("--app-id") {
            // There are two.
            line.push_str(&format!(" --app-id {app_id}"));
        }
    }
    if line.contains("zim listen") && line.contains("--timeout") {
        line = line.replace("--timeout 60s", "--timeout 30s");
    } else {
        line = line.replace("zim listen", "zim listen --timeout 1s");
    }
    if line.contains("zim room enter") && line.contains("--join") {
        // That it fails before it is interrupted is an error.
        line = format!("timeout 3 {line} > /dev/null || test $? = 124");
    } else if line.contains("zim room enter") && !line.contains("/leave-all") {
        // It lasts until it is interrupted, and the next examples are those of somebody in the room.
        let bob = "(timeout 60 zim --profile bob room enter stage > /dev/null 2>&1 &)";
        line = format!("(timeout 60 {line} > /dev/null 2>&1 &); {bob}; sleep 3");
    }
    if line.contains("zim room create") {
        // It lasts until it is interrupted, too: that it fails before is an error.
        line = format!("timeout 3 {line} > /dev/null || test $? = 124");
    }
    if line.contains("zim media download") {
        // The picture that was sent is here, too.
        line = line.replace("bob 118", "carol 1") + " --force";
    }
    if line.contains("zim bench") {
        // Too long for a test: only the command line is checked.
        line.push_str(" --help");
    }
    line
}

async fn run(env: &TestEnv, home: &Path, line: &str) {
    let mut shell = Command::new("bash");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ZIM_")) {
        shell.env_remove(name);
    }
    // The array of zsh has the folder of completions first.
    let script = format!("set -e -o pipefail; fpath=(- \"$HOME/bin\"); {line}");
    shell.args(["-c", &script]).current_dir(env.folder()).kill_on_drop(true);
    let path = format!("{}:{}", home.join("bin").display(), std::env::var("PATH").unwrap());
    shell.env("PATH", path).env("HOME", home).env("ZIM_CONFIG_DIR", env.folder().join("config"));
    shell.stdin(Stdio::null());
    let output = timeout(Duration::from_secs(60), shell.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{line}: does not end")).unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{line}\n{out}{err}");
    // A filter for a field that does not exist prints null.
    assert!(!line.contains("jq") || !out.lines().any(|line| line == "null"), "{line}\n{out}");
}

/// Whether the examples of a command change the profile in use, or who may log in.
fn changes_logins(command: &[String]) -> bool {
    matches!(command.first().map(String::as_str), Some("profile" | "admin"))
}

/// Returns the commands that have examples and are `chosen`, with their examples.
async fn all_examples(chosen: impl Fn(&[String]) -> bool) -> Vec<(Vec<String>, Vec<String>)> {
    let all = commands(&TestEnv::without_server()).await.into_iter();
    let all = all.map(|(command, help)| (command, examples(&help)));
    all.filter(|(command, examples)| !examples.is_empty() && chosen(command)).collect()
}

async fn run_all(env: &TestEnv, home: &Path, command: &[String], examples: &[String]) {
    for example in examples {
        // A line that is longer than 100 columns is wrapped, and cannot be copied.
        assert!(example.contains("zim "), "{command:?}: {example}");
        if example.contains("friend accept ann") {
            env.zim("", &["friend", "delete", "bob"]).await;
            env.zim("", &["friend", "apply", "bob"]).await;
        }
        if example.contains("group reject crew2 bob") {
            env.zim("bob", &["group", "leave", "crew2"]).await.ok();
            env.zim("bob", &["group", "apply", "crew2"]).await.ok();
        }
        if example.contains("group decline crew2 ann") {
            env.zim("mallory", &["group", "leave", "crew2"]).await.ok();
            env.zim("", &["group", "invite", "crew2", "mallory", "--wording", "again"]).await.ok();
        }
        if example.contains("--from bob") {
            env.zim("bob", &["send", "ann", "hi"]).await.ok();
        }
        run(env, home, &adapted(env, example)).await;
    }
}

#[tokio::test]
async fn the_examples_of_users_run() {
    server_binary();
    let env = prepared().await;
    let (home, mut seen) = (home(&env), BTreeSet::new());
    for (command, examples) in all_examples(|command| !changes_logins(command)).await {
        Box::pin(run_all(&env, home.path(), &command, &examples)).await;
        seen.insert(command.join(" "));
    }
    env.end().await;
    for command in [
        "",
        "login",
        "send",
        "friend",
        "group",
        "group create",
        "listen",
        "status",
        "ping",
        "bench",
        "completions",
        "man",
    ] {
        assert!(seen.contains(command), "{seen:?}");
    }
}

#[tokio::test]
async fn the_examples_of_operators_run() {
    server_binary();
    let first = prepared().await;
    // Those in whose names the operator acts.
    for user in ["support", "host"] {
        operate(&first, &["user", "register", user]).await;
    }
    operate(&first, &["group", "add", "ann", "crew", "support"]).await;
    // The examples of each command begin with the same. To prepare it anew for each would take longer than all of them.
    let left = first.leave().await;
    let mut seen = BTreeSet::new();
    for (command, examples) in all_examples(changes_logins).await {
        let env = TestEnv::of_left(&left).await;
        operate(&env, &["room", "create", "host", "stage"]).await;
        let home = home(&env);
        Box::pin(run_all(&env, home.path(), &command, &examples)).await;
        env.end().await;
        seen.insert(command.join(" "));
    }
    for command in [
        "profile",
        "admin",
        "admin app set",
        "admin app rotate",
        "admin app delete",
        "admin user revoke",
        "admin message",
        "admin group",
        "admin room",
        "admin call",
        "admin push",
    ] {
        assert!(seen.contains(command), "{seen:?}");
    }
}
