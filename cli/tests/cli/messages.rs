//! Receipts, mentions, and deleting everything: `zim send`, `zim message`, `zim conversation`.

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
