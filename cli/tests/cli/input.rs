//! Lines of standard input, sent by `zim send` and `zim chat`.

use serde_json::Value;
use zim_server::config::Config;

use crate::common::{Ran, TestEnv};

const SEND: [&str; 4] = ["send", "bob", "--lines", "-"];
const CHAT: [&str; 4] = ["chat", "bob", "--count", "0"];

/// Returns the texts of messages that a command printed.
fn texts(ran: &Ran) -> Vec<String> {
    let text = |line: &String| {
        let printed: Value = serde_json::from_str(line).unwrap();
        let message = printed.get("message").filter(|message| message.is_object()).unwrap_or(&printed);
        message["message"].as_str().unwrap().to_owned()
    };
    ran.lines().iter().map(text).collect()
}

async fn two_users() -> TestEnv {
    two_users_with(|_| {}).await
}

async fn two_users_with(edit: impl FnOnce(&mut Config)) -> TestEnv {
    let env = TestEnv::with(edit).await;
    env.login("ann").await;
    env.login("bob").await;
    env
}

#[tokio::test]
async fn nothing_is_sent_after_a_line_that_fails() {
    let env = two_users().await;
    let too_long = [b'x'; 2_049];
    let mut stored = Vec::new();
    for (bad, code, why) in [
        (
            &too_long[..],
            5,
            "6000001 CommonModuleParamsInvalid: line 3: message is 2049 bytes long; at most 2048 are allowed",
        ),
        (b"a\0b", 5, "U+0000"),
        (b"\xff", 2, "line 3: is not text in UTF-8"),
        (&[b'x'; 40_000], 5, "line 3: message is "),
    ] {
        let input = [b"one\n\n", bad, b"\ntwo\n"].concat();
        for command in [SEND, CHAT] {
            // A pipe is sent as it is read.
            let ran = env.zim_with("ann", &command, &input).await;
            assert_eq!((ran.code, texts(&ran)), (Some(code), vec!["one".to_owned()]), "{}", ran.stderr);
            assert!(ran.stderr.contains(why) && ran.stderr.contains("line 3: "), "{}", ran.stderr);
            assert!(ran.stderr.contains("1 message was sent before it, none after it"), "{}", ran.stderr);
            stored.push("one".to_owned());
            // A file is checked first.
            let stderr = env.zim_with_file("ann", &command, &input).await.fails(code);
            assert!(stderr.contains(why) && stderr.contains("(nothing was sent)"), "{stderr}");
        }
    }
    assert_eq!(texts(&env.zim("bob", &["history", "ann", "--all"]).await.ok()), stored);
    env.end().await;
}

#[tokio::test]
async fn a_line_that_the_server_refuses_is_named() {
    let env = two_users().await;
    env.zim("bob", &["blacklist", "add", "ann"]).await.ok();
    for command in [SEND, CHAT] {
        let stderr = env.zim_with_file("ann", &command, "\none\ntwo\n").await.fails(5);
        assert!(stderr.contains("line 2: ") && stderr.contains("(nothing was sent)"), "{stderr}");
    }
    env.end().await;
}

#[tokio::test]
async fn input_faster_than_the_server_allows_is_sent_in_order_and_once() {
    let env = two_users_with(|config| (config.limits.messages_per_second, config.limits.message_burst) = (50, 5)).await;
    let mut expected = Vec::new();
    for command in [SEND, CHAT] {
        let lines: Vec<String> = (1..=20).map(|number| format!("{} {number}", command[0])).collect();
        let input = lines.join("\n");
        assert_eq!(texts(&env.zim_with("ann", &command, &input).await.ok()), lines);
        assert_eq!(texts(&env.zim_with_file("ann", &command, &input).await.ok()), lines);
        expected.extend([&lines[..], &lines].concat());
    }
    assert_eq!(texts(&env.zim("bob", &["history", "ann", "--all"]).await.ok()), expected);
    // The local copy of the sender has no message that failed.
    assert_eq!(texts(&env.zim_with("ann", &["chat", "bob", "--count", "40"], "").await.ok()), expected[40..]);
    // Commands are not stored, and wait as well.
    let sent = env.zim_with("ann", &[&SEND[..], &["--type", "command"]].concat(), "a\n".repeat(10)).await.ok();
    assert_eq!(sent.lines().len(), 10);
    env.end().await;
}

#[tokio::test]
async fn a_byte_order_mark_is_not_part_of_the_input() {
    let env = two_users().await;
    for command in [&SEND[..], &CHAT, &["send", "bob", "-"]] {
        let input = "\u{feff}hi\n";
        assert_eq!(texts(&env.zim_with("ann", command, input).await.ok()), ["hi"], "{command:?}");
        assert_eq!(texts(&env.zim_with_file("ann", command, input).await.ok()), ["hi"], "{command:?}");
    }
    env.zim_with("ann", &["call", "User/QuerySelfUserInfo", "-"], "\u{feff}{}").await.ok();
    env.zim_with("ann", &["login", "ann", "--app-sign-file", "-"], format!("\u{feff}{}", env.app_sign())).await.ok();
    env.end().await;
}
