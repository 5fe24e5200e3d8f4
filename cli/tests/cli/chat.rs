//! What `zim chat` shows and does: receipts, replies, reactions, edits, files, mentions, rooms.

use serde_json::{Value, json};

use crate::common::TestEnv;
use crate::terminal::Terminal;

async fn users(names: &[&str]) -> TestEnv {
    let env = TestEnv::new().await;
    for name in names {
        env.login(name).await;
    }
    env
}

async fn open(env: &TestEnv, user: &str, arguments: &[&str]) -> Terminal {
    let mut chat = Terminal::start(env, "xterm", 100, user, &[&["chat"], arguments].concat());
    chat.until("nothing new").await;
    chat
}

#[tokio::test]
async fn two_users_see_what_the_other_does() {
    let env = users(&["ann", "bob"]).await;
    let (mut ann, mut bob) = (open(&env, "ann", &["bob"]).await, open(&env, "bob", &["ann"]).await);
    ann.press("hi");
    bob.until("ann is writing …").await;
    ann.press("\n");
    bob.until("1  ").await;
    bob.until("ann  hi").await;
    ann.until("ann  hi ✓").await;
    ann.until("bob has read message 1").await;
    bob.press("/reply 1 hello\n");
    for chat in [&mut ann, &mut bob] {
        chat.until("↪ ann: hi").await;
        chat.until("bob  hello").await;
    }
    bob.until("ann has read message 2").await;
    ann.press("/react 2 👍\n");
    for chat in [&mut ann, &mut bob] {
        chat.until("ann reacted with 👍 to message 2").await;
    }
    ann.press("/unreact 2 👍\n");
    for chat in [&mut ann, &mut bob] {
        chat.until("ann took 👍 back from message 2").await;
    }
    // The message has arrived, so the other one is no longer writing. Commands are not told.
    assert!(!bob.shown().contains("is writing"), "{}", bob.shown());
    ann.press("/edit 1 hi there\n");
    ann.until("you edited message 1: hi there").await;
    bob.until("ann edited message 1: hi there").await;
    ann.press("/revoke 1\n");
    ann.until("you revoked message 1").await;
    bob.until("ann revoked message 1").await;
    ann.press("/edit 9 x\n");
    ann.until("there is no message 9 with bob").await;
    ann.press("/reply 2\n");
    ann.until("it is written /reply N TEXT").await;
    ann.press("/revoke 2\n");
    ann.until("you can revoke your own messages only").await;
    ann.end().await;
    bob.end().await;
    let history = env.zim("ann", &["history", "bob"]).await.ok().lines();
    let types: Vec<Value> =
        history.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()["type"].clone()).collect();
    assert_eq!(types, [json!(31), json!(1)], "no command became a message");
    env.end().await;
}

#[tokio::test]
async fn earlier_messages_show_what_became_of_them() {
    let env = users(&["ann", "bob"]).await;
    env.zim("ann", &["send", "bob", "hi", "--receipt"]).await.ok();
    // The chat of bob sends the receipt.
    let shown = env.zim("bob", &["chat", "ann", "--plain"]).await.ok().stdout;
    assert!(shown.ends_with("ann  hi\n"), "{shown}");
    env.zim("bob", &["message", "reply", "ann", "1", "yes"]).await.ok();
    env.zim("ann", &["message", "react", "bob", "2", "like"]).await.ok();
    env.zim("ann", &["message", "edit", "bob", "1", "hi there"]).await.ok();
    let shown = env.zim("ann", &["chat", "bob", "--plain"]).await.ok().stdout;
    for part in ["ann  hi there (edited) (read)\n", "↪ ann: hi there\n", "bob  yes\n", "  like 1\n"] {
        assert!(shown.contains(part), "{part:?} is missing: {shown}");
    }
    // With the line above what is new.
    assert_eq!(shown.lines().count(), 5, "{shown}");
    env.end().await;
}

#[tokio::test]
async fn a_group_sees_mentions_and_how_many_have_read() {
    let env = users(&["ann", "bob", "cai"]).await;
    env.zim("ann", &["group", "create", "crew", "bob", "cai"]).await.ok();
    let mut ann = Terminal::start(&env, "xterm", 100, "ann", &["chat", "--group", "crew"]);
    let mut bob = Terminal::start(&env, "xterm", 100, "bob", &["chat", "--group", "crew"]);
    ann.until("ann in the group crew").await;
    bob.until("bob in the group crew").await;
    ann.press("plain words\n");
    bob.until("ann  plain words").await;
    assert!(!bob.shown().contains("mentions you"), "{}", bob.shown());
    ann.until("1 of 2 have read message").await;
    ann.press("@bob, look\n");
    bob.until("ann  @bob, look (mentions you)").await;
    let newest = env.zim("cai", &["history", "--group", "crew", "-n", "1"]).await.json();
    assert_eq!((&newest["mentionedUserIDs"], &newest["isMentionAll"]), (&json!(["bob"]), &json!(false)));
    ann.press("@all too\n");
    bob.until("ann  @all too (mentions you)").await;
    env.zim("cai", &["chat", "--group", "crew"]).await.ok();
    ann.until("all 2 have read message").await;
    ann.end().await;
    bob.end().await;
    env.end().await;
}

#[tokio::test]
async fn a_group_sees_replies_reactions_edits_and_files() {
    let env = users(&["ann", "bob"]).await;
    env.zim("ann", &["group", "create", "crew", "bob"]).await.ok();
    std::fs::write(env.folder().join("notes.txt"), b"notes\n").unwrap();
    let mut ann = Terminal::start(&env, "xterm", 100, "ann", &["chat", "--group", "crew"]);
    let mut bob = Terminal::start(&env, "xterm", 100, "bob", &["chat", "--group", "crew"]);
    ann.until("ann in the group crew").await;
    bob.until("bob in the group crew").await;
    ann.press("lunch?\n");
    bob.until("ann  lunch?").await;
    bob.press("/reply 1 yes\n");
    for chat in [&mut ann, &mut bob] {
        chat.until("↪ ann: lunch?").await;
        chat.until("bob  yes").await;
    }
    ann.press("/react 2 👍\n");
    for chat in [&mut ann, &mut bob] {
        chat.until("ann reacted with 👍 to message 2").await;
    }
    bob.press("/edit 2 yes, at noon\n");
    ann.until("bob edited message 2: yes, at noon").await;
    ann.press("/file notes.txt\n");
    ann.until("ann  [file] notes.txt, 6 bytes ✓").await;
    bob.until("ann  [file] notes.txt, 6 bytes").await;
    bob.press("/revoke 2\n");
    ann.until("bob revoked message 2").await;
    ann.end().await;
    bob.end().await;
    let history = env.zim("ann", &["history", "--group", "crew"]).await.ok().lines();
    let types: Vec<Value> =
        history.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()["type"].clone()).collect();
    assert_eq!(types, [json!(1), json!(31), json!(12)], "no command became a message");
    env.end().await;
}

#[tokio::test]
async fn a_room_is_entered_for_a_chat_and_left_after_it() {
    let env = users(&["ann", "bob"]).await;
    let mut ann = open(&env, "ann", &["--room", "stage"]).await;
    let mut bob = open(&env, "bob", &["--room", "stage"]).await;
    ann.until("room stage: bob entered").await;
    bob.press("hi all\n");
    ann.until("bob  hi all").await;
    bob.until("bob  hi all ✓").await;
    bob.press("/reply 1 x\n");
    bob.until("messages of a room have no numbers").await;
    ann.press("to you\n");
    bob.until("ann  to you").await;
    std::fs::write(env.folder().join("notes.txt"), b"notes\n").unwrap();
    ann.press("/file notes.txt\n");
    bob.until("ann  [file] notes.txt, 6 bytes").await;
    bob.end().await;
    ann.until("room stage: bob left").await;
    ann.end().await;
    assert_eq!(env.zim("ann", &["room", "count", "stage"]).await.code, Some(5), "the room has ended");
    // Lines of a pipe, and who is not alone hears them.
    let mut ann = open(&env, "ann", &["--room", "stage"]).await;
    let sent = env.zim_with("bob", &["chat", "--room", "stage"], "one\ntwo\n").await.ok();
    assert_eq!(sent.lines().len(), 2, "{}", sent.stdout);
    ann.until("bob  one").await;
    ann.until("bob  two").await;
    ann.end().await;
    let both = env.zim("ann", &["chat", "--room", "--group", "stage"]).await;
    assert_eq!(both.code, Some(2), "{}", both.stderr);
    env.end().await;
}

#[tokio::test]
async fn files_are_sent_stopped_and_saved() {
    let env = users(&["ann", "bob"]).await;
    std::fs::write(env.folder().join("notes.txt"), b"notes\n").unwrap();
    let (mut ann, mut bob) = (open(&env, "ann", &["bob"]).await, open(&env, "bob", &["ann"]).await);
    ann.press("/file notes.txt\n");
    ann.until("ann  [file] notes.txt, 6 bytes ✓").await;
    bob.until("ann  [file] notes.txt, 6 bytes").await;
    bob.press("/save 1\n");
    bob.until("notes.txt is saved as").await;
    bob.end().await;
    assert_eq!(env.zim("bob", &["media", "cache"]).await.json()["totalFileSize"], 6);
    ann.press("/file missing.txt\n");
    ann.until("the file missing.txt cannot be read").await;
    ann.press("/cancel\n");
    ann.until("no file is being sent").await;
    // So large that its upload has not ended when it is stopped.
    std::fs::File::create(env.folder().join("big.bin")).unwrap().set_len(90 << 20).unwrap();
    ann.press("/file big.bin\n");
    ann.until("… /file big.bin").await;
    ann.press("/cancel\n");
    ann.until("not sent: /file big.bin").await;
    ann.until("MessageModuleSendMessageFailedForCancelled").await;
    ann.press("after it\n");
    ann.until("ann  after it ✓").await;
    ann.end().await;
    let texts = env.zim("bob", &["history", "ann"]).await.ok().lines();
    assert_eq!(texts.len(), 2, "{texts:?}");
    env.end().await;
}
