//! Messages: `zim send`, `zim chat`, `zim message`, `zim conversation`.

use serde_json::Value;

use crate::common::TestEnv;

async fn three_users() -> TestEnv {
    let env = TestEnv::new().await;
    for user in ["ann", "bob", "cai"] {
        env.login(user).await;
    }
    env
}

#[tokio::test]
async fn a_receipt_is_asked_for_sent_and_shown() {
    let env = three_users().await;
    env.zim("ann", &["send", "bob", "please read", "--receipt"]).await.ok();
    let info = env.zim("ann", &["message", "receipts", "bob", "1"]).await.json();
    assert_eq!((&info["readMemberCount"], &info["unreadMemberCount"]), (&0.into(), &1.into()));
    let said = env.zim("bob", &["message", "receipt", "ann", "1", "--plain"]).await.ok().stdout;
    assert_eq!(said.trim(), "Told ann that you have read message 1.");
    let said = env.zim("ann", &["message", "receipts", "bob", "1", "--plain"]).await.ok().stdout;
    assert_eq!(said.trim(), "1 have read it, 0 have not.");

    env.zim("ann", &["group", "create", "crew", "bob", "cai"]).await.ok();
    env.zim("ann", &["send", "--group", "crew", "all of you", "--receipt"]).await.ok();
    let newest = env.zim("ann", &["history", "--group", "crew", "-n", "1"]).await.json();
    let seq = newest["messageSeq"].to_string();
    env.zim("cai", &["message", "receipt", "--group", "crew", &seq]).await.ok();
    let read = env.zim("ann", &["message", "receipts", "--group", "crew", &seq, "--plain"]).await.ok().lines();
    assert_eq!(read, ["1 have read it, 1 have not.", "cai"]);
    let unread = ["message", "receipts", "--group", "crew", &seq, "--unread", "--plain"];
    assert_eq!(env.zim("ann", &unread).await.ok().lines(), ["1 have read it, 1 have not.", "bob"]);
    env.end().await;
}

#[tokio::test]
async fn a_receipt_for_a_conversation_says_that_everything_is_read() {
    let env = three_users().await;
    env.zim("ann", &["send", "bob", "hi", "--receipt"]).await.ok();
    let listen = ["listen", "--event", "conversationMessageReceiptChanged", "--count", "1", "--timeout", "60s"];
    let mut listener = env.start("ann", &listen);
    let sessions = ["admin", "sessions", "ann", "--server-data", env.data()];
    env.until(async || env.zim("ann", &sessions).await.lines().len() == 1).await;
    let said = env.zim("bob", &["conversation", "receipt", "ann", "--plain"]).await.ok().stdout;
    assert_eq!(said.trim(), "ann is told that you have read everything.");
    let heard = listener.finish().await.json();
    assert_eq!(heard["infos"][0]["conversationID"], "bob");
    env.zim("ann", &["group", "create", "crew", "bob"]).await.ok();
    let refused = env.zim("bob", &["conversation", "receipt", "--group", "crew"]).await;
    assert_eq!(refused.code, Some(5), "groups have no such receipt: {}", refused.stderr);
    env.end().await;
}

#[tokio::test]
async fn a_message_mentions_users() {
    let env = three_users().await;
    env.zim("ann", &["group", "create", "crew", "bob", "cai"]).await.ok();
    env.zim("ann", &["send", "--group", "crew", "look", "--mention", "bob", "--mention", "cai"]).await.ok();
    let newest = async |user: &str| env.zim(user, &["history", "--group", "crew", "-n", "1"]).await.json();
    let mentioned = newest("bob").await;
    assert_eq!(mentioned["mentionedUserIDs"], serde_json::json!(["bob", "cai"]));
    assert_eq!(mentioned["isMentionAll"], false);
    env.zim("ann", &["send", "--group", "crew", "all", "--mention-all"]).await.ok();
    assert_eq!(newest("bob").await["isMentionAll"], true);
    env.end().await;
}

#[tokio::test]
async fn all_messages_of_all_conversations_are_deleted_for_oneself() {
    let env = three_users().await;
    for user in ["bob", "cai"] {
        env.zim("ann", &["send", user, "hi"]).await.ok();
    }
    let said = env.zim("ann", &["message", "delete-everywhere", "--plain"]).await.ok().stdout;
    assert_eq!(said.trim(), "Deleted all messages of all conversations, for you alone.");
    for user in ["bob", "cai"] {
        assert_eq!(env.zim("ann", &["history", user]).await.ok().lines(), Vec::<String>::new());
        let kept: Value = env.zim(user, &["history", "ann"]).await.json();
        assert_eq!(kept["message"], "hi");
    }
    env.end().await;
}

#[tokio::test]
async fn two_users_exchange_messages() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;

    let sent = env.zim("ann", &["send", "bob", "hi", "bob"]).await.json();
    assert_eq!(sent["message"]["message"], "hi bob");
    assert_eq!(sent["message"]["messageSeq"], 1);
    assert_eq!(sent["message"]["conversationID"], "bob");

    let listed = env.zim("bob", &["conversation", "list"]).await.json();
    assert_eq!(listed["conversationID"], "ann");
    assert_eq!(listed["unreadMessageCount"], 1);
    assert_eq!(listed["lastMessage"]["message"], "hi bob");

    env.zim("bob", &["conversation", "clear", "ann"]).await.ok();
    assert_eq!(env.zim("bob", &["conversation", "unread"]).await.json()["unreadMessageCount"], 0);
    assert_eq!(env.zim("bob", &["conversation", "list", "--unread"]).await.lines(), Vec::<String>::new());

    let history = env.zim("bob", &["history", "ann"]).await.json();
    assert_eq!(history["senderUserID"], "ann");
    env.end().await;
}

#[tokio::test]
async fn message_edits_answers_reacts_pins_and_deletes() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;
    env.zim("ann", &["send", "bob", "oops", "--extended-data", "of the app"]).await.ok();
    let said = async |user: &str, args: &[&str]| {
        let line = [&["message"], args, &["--plain"]].concat();
        env.zim(user, &line).await.ok().stdout.trim().to_owned()
    };
    assert_eq!(said("ann", &["edit", "bob", "1", "hello"]).await, "Edited message 1 with bob.");
    assert_eq!(env.zim("bob", &["history", "ann"]).await.json()["extendedData"], "of the app");
    assert_eq!(said("bob", &["reply", "ann", "1", "yes"]).await, "Sent message 2, a reply to message 1.");
    assert!(said("ann", &["replies", "bob", "1"]).await.ends_with("bob  yes"));
    assert_eq!(said("bob", &["react", "ann", "1", "like"]).await, "Reacted with like to message 1.");
    assert_eq!(said("ann", &["reactions", "bob", "1", "like"]).await, "bob");
    assert_eq!(said("bob", &["unreact", "ann", "1", "like"]).await, "Took like back from message 1.");
    assert_eq!(said("bob", &["unreact", "ann", "1", "--all"]).await, "Took all your reactions back from message 1.");
    assert_eq!(said("bob", &["pin", "ann", "1"]).await, "Pinned message 1 with ann.");
    assert!(said("ann", &["pinned", "bob"]).await.ends_with("ann  hello"));
    assert_eq!(said("ann", &["unpin", "bob", "1"]).await, "Unpinned message 1 with bob.");
    let refused = env.zim("ann", &["message", "unpin", "bob", "1"]).await;
    assert!(refused.stderr.contains("the message is not pinned"), "{}", refused.stderr);
    let refused = env.zim("ann", &["message", "receipts", "bob", "1"]).await;
    assert!(refused.stderr.contains("message 1 was sent without a receipt"), "{}", refused.stderr);
    let refused = env.zim("bob", &["message", "receipts", "ann", "1"]).await;
    assert!(refused.stderr.contains("only the sender of a message learns who has read it"), "{}", refused.stderr);
    let shown = said("bob", &["show", "ann", "2", "1"]).await;
    let shown: Vec<&str> = shown.lines().map(|line| line.split_once("  ").unwrap().1).collect();
    assert_eq!(shown, ["ann  hello", "bob  yes"], "as they stand in the history");
    let refused = env.zim("bob", &["message", "show", "ann", "1", "9"]).await;
    assert!(refused.stderr.contains("there is no message 9 with ann"), "{}", refused.stderr);
    // Two levels of what bob forwards to ann, oldest first.
    let combine = ["combine", "ann", "2", "1", "--title", "talk", "--to", "ann"];
    assert_eq!(said("bob", &combine).await, "Sent message 3 to ann, which combines 2 messages.");
    let around = ["combine", "bob", "3", "1", "--title", "all", "--summary", "it", "--to", "bob"];
    assert_eq!(said("ann", &around).await, "Sent message 4 to bob, which combines 2 messages.");
    let inner = said("bob", &["detail", "ann", "4", "--inner", "1"]).await;
    assert!(inner.lines().next().unwrap().ends_with("bob  yes"), "{inner}");
    assert!(inner.lines().last().unwrap().ends_with("ann  hello"), "{inner}");
    let refused = env.zim("bob", &["message", "detail", "ann", "4", "--inner", "3"]).await;
    assert!(refused.stderr.contains("it combines no message at place 3"), "{}", refused.stderr);
    let refused = env.zim("bob", &["message", "delete", "ann", "1", "9"]).await;
    assert!(refused.stderr.contains("there is no message 9 with ann"), "{}", refused.stderr);
    assert_eq!(said("bob", &["delete", "ann", "1"]).await, "Deleted message 1 with ann, for you alone.");
    assert_eq!(said("bob", &["delete", "ann", "--all"]).await, "Deleted all messages with ann, for you alone.");
    let history = env.zim("ann", &["history", "bob", "--plain"]).await.ok().stdout;
    assert!(history.contains("hello") && history.contains("yes"), "{history}");
    env.end().await;
}

/// A request takes ten of them.
#[tokio::test]
async fn more_messages_than_a_request_takes_are_shown_and_combined() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;
    let text: String = (1..=21).map(|number| format!("n {number}\n")).collect();
    env.zim_with("ann", &["send", "bob", "--lines", "-"], &text).await.ok();
    let seqs: Vec<String> = (1..=21).map(|seq: i64| seq.to_string()).collect();
    let seqs: Vec<&str> = seqs.iter().map(String::as_str).collect();
    let shown = env.zim("bob", &[&["message", "show", "ann"], &seqs[..], &["--json"]].concat()).await.ok().lines();
    let texts: Vec<Value> =
        shown.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()["message"].clone()).collect();
    assert_eq!(texts, (1..=21).map(|number| Value::from(format!("n {number}"))).collect::<Vec<_>>());
    let combine = [&["message", "combine", "bob"], &seqs[..], &["--title", "all", "--to", "bob", "--plain"]].concat();
    let said = env.zim("ann", &combine).await.ok().stdout;
    assert_eq!(said.trim(), "Sent message 22 to bob, which combines 21 messages.");
    let inner = env.zim("bob", &["message", "detail", "ann", "22", "--plain"]).await.ok().lines();
    assert_eq!((inner.len(), inner[20].ends_with("ann  n 21")), (21, true), "{inner:?}");
    env.end().await;
}

#[tokio::test]
async fn revoke_takes_back_a_message() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;
    env.zim("ann", &["send", "bob", "oops"]).await.ok();
    let refused = env.zim("bob", &["revoke", "ann", "1"]).await;
    assert!(refused.stderr.contains("you can revoke your own messages only"), "{}", refused.stderr);
    let revoked = env.zim("ann", &["revoke", "bob", "1", "--extended-data", "typo"]).await.json();
    assert_eq!((&revoked["message"]["type"], &revoked["message"]["revokeExtendedData"]), (&31.into(), &"typo".into()));
    let history = env.zim("bob", &["history", "ann"]).await.json();
    assert_eq!((&history["type"], &history["operatedUserID"]), (&31.into(), &"ann".into()));
    let shown = env.zim("bob", &["history", "ann", "--plain"]).await.ok().stdout;
    assert!(shown.contains("revoked"), "{shown}");
    env.zim("ann", &["send", "bob", "again"]).await.ok();
    let said = env.zim("ann", &["revoke", "bob", "2", "--plain"]).await.ok().stdout;
    assert!(said.contains("Revoked message 2 to bob."), "{said}");
    env.end().await;
}

#[tokio::test]
async fn history_beyond_the_end_shows_the_newest_messages_or_says_that_nothing_is_newer() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;
    for text in ["one", "two", "three"] {
        env.zim("ann", &["send", "bob", text]).await.ok();
    }
    for seq in ["4", "5", "1000", "9223372036854775807"] {
        let shown = env.zim("ann", &["history", "bob", "--before", seq, "-n", "2", "--plain"]).await.ok().stdout;
        assert!(shown.contains("two") && shown.contains("three") && !shown.contains("one"), "{seq}: {shown}");
        let shown = env.zim("ann", &["history", "bob", "--after", seq, "--plain"]).await.ok().stdout;
        assert_eq!(shown.trim(), format!("There is nothing newer than message {seq} with bob."));
    }
    let shown = env.zim("ann", &["history", "bob", "--before", "1", "--plain"]).await.ok().stdout;
    assert_eq!(shown.trim(), "There is nothing older than message 1 with bob.");
    let shown = env.zim("bob", &["history", "carl", "--plain"]).await.ok().stdout;
    assert_eq!(shown.trim(), "There are no messages with carl.");
    env.end().await;
}

#[tokio::test]
async fn text_of_other_users_is_escaped_on_a_terminal() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;
    let hostile = "left \u{202e}thgir\u{9b}2J\u{200d}";
    env.zim("bob", &["send", "ann", hostile]).await.ok();
    let request = r#"{"conversationID":"bob","conversationType":0,"messageSeqs":[1]}"#;
    for arguments in [
        &["history", "bob", "--json"][..],
        &["history", "bob", "--plain"],
        &["call", "Message/QueryMessages", request, "--plain"],
    ] {
        let shown = env.zim("ann", arguments).await.ok().stdout;
        assert!(shown.contains("left ") && shown.contains("202e"), "{shown}");
        assert!(!shown.contains(['\u{202e}', '\u{9b}', '\u{200d}']), "{arguments:?}: {shown:?}");
    }
    // Readers that split at every line break of Unicode see one object a line.
    let breaks = "a\u{2028}b\u{2029}c\u{85}d";
    let sent = env.zim("bob", &["send", "ann", breaks]).await.ok();
    assert!(sent.stdout.contains(r"a\u2028b\u2029c\u0085d"), "{}", sent.stdout);
    assert_eq!(sent.json()["message"]["message"], breaks);
    // The JSON has the original text.
    assert_eq!(env.zim("ann", &["history", "bob", "--before", "2"]).await.json()["message"], hostile);
    env.end().await;
}

#[tokio::test]
async fn history_is_shown_in_pages() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;
    let text: String = (1..=45).map(|number| format!("message {number}\n")).collect();
    let sent = env.zim_with("ann", &["send", "bob", "--lines", "-"], &text).await.ok();
    assert_eq!(sent.lines().len(), 45);

    let seqs = |run: &crate::common::Ran| -> Vec<i64> {
        run.lines()
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["messageSeq"].as_i64().unwrap())
            .collect()
    };
    assert_eq!(seqs(&env.zim("bob", &["history", "ann"]).await), (26..=45).collect::<Vec<_>>());
    assert_eq!(seqs(&env.zim("bob", &["history", "ann", "--before", "4"]).await), [1, 2, 3]);
    assert_eq!(seqs(&env.zim("bob", &["history", "ann", "--after", "43"]).await), [44, 45]);
    assert_eq!(seqs(&env.zim("bob", &["history", "ann", "--all"]).await), (1..=45).collect::<Vec<_>>());
    let plain = env.zim("bob", &["history", "ann", "--count", "1", "--plain"]).await.ok();
    assert!(plain.stdout.contains("ann  message 45"), "{}", plain.stdout);
    env.end().await;
}
