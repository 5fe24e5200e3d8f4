//! Conversations: `zim conversation`, and `zim search`.

use serde_json::Value;

use crate::common::TestEnv;

async fn two_users() -> TestEnv {
    let env = TestEnv::new().await;
    for user in ["ann", "bob"] {
        env.login(user).await;
    }
    env
}

async fn said(env: &TestEnv, arguments: &[&str]) -> String {
    let arguments = [arguments, &["--plain"]].concat();
    env.zim("ann", &arguments).await.ok().stdout.trim().to_owned()
}

#[tokio::test]
async fn a_conversation_is_pinned_muted_marked_and_deleted() {
    let env = two_users().await;
    env.zim("bob", &["send", "ann", "hi"]).await.ok();
    for (command, expected) in [
        (&["pin", "bob"][..], "The conversation with bob is pinned."),
        (&["mute", "bob"], "The conversation with bob is muted."),
        (&["mark", "bob", "3"], "The conversation with bob has the mark 3."),
    ] {
        assert_eq!(said(&env, &[&["conversation"], command].concat()).await, expected);
    }
    let shown = said(&env, &["conversation", "show", "bob"]).await;
    for line in ["pinned ", "muted  ", "marks       3"] {
        assert!(shown.contains(line), "{shown}");
    }
    assert_eq!(said(&env, &["conversation", "unread"]).await, "0 unread");
    for (filter, expected) in [(&["--pinned"][..], 1), (&["--mark", "3"], 1), (&["--mark", "4"], 0)] {
        let listed = env.zim("ann", &[&["conversation", "list"], filter].concat()).await.ok();
        assert_eq!(listed.lines().len(), expected, "{filter:?}");
    }
    assert_eq!(said(&env, &["conversation", "list", "--mark", "4"]).await, "There are no such conversations.");
    for (command, expected) in [
        (&["unpin", "bob"][..], "The conversation with bob is no longer pinned."),
        (&["unmute", "bob"], "The conversation with bob is no longer muted."),
        (&["unmark", "bob", "3"], "The conversation with bob no longer has the mark 3."),
    ] {
        assert_eq!(said(&env, &[&["conversation"], command].concat()).await, expected);
    }
    assert_eq!(said(&env, &["conversation", "unread"]).await, "1 unread");
    assert_eq!(said(&env, &["conversation", "clear", "--all"]).await, "All messages are marked as read.");
    assert_eq!(said(&env, &["conversation", "unread"]).await, "0 unread");
    let deleted = "The conversation with bob is deleted from the list. Its messages stay.";
    assert_eq!(said(&env, &["conversation", "delete", "bob"]).await, deleted);
    let list = ["conversation", "list"];
    assert!(said(&env, &list).await.starts_with("There are no conversations yet"));
    env.zim("bob", &["send", "ann", "again"]).await.ok();
    assert!(said(&env, &list).await.contains("again"));
    let deleted = "All conversations are deleted from the list. Their messages stay.";
    assert_eq!(said(&env, &["conversation", "delete", "--all"]).await, deleted);
    assert!(said(&env, &list).await.starts_with("There are no conversations yet"));
    for wrong in
        [&["delete"][..], &["clear"], &["clear", "bob", "--all"], &["mark", "bob", "21"], &["mark", "bob", "0"]]
    {
        let refused = env.zim("ann", &[&["conversation"], wrong].concat()).await;
        assert_eq!(refused.code, Some(2), "{wrong:?}");
    }
    env.end().await;
}

#[tokio::test]
async fn a_list_is_filtered_and_says_that_there_are_more() {
    let env = two_users().await;
    env.login("carol").await;
    for user in ["bob", "carol"] {
        env.zim(user, &["send", "ann", "hi"]).await.ok();
    }
    env.zim("ann", &["group", "create", "crew", "bob"]).await.ok();
    env.zim("ann", &["conversation", "pin", "bob"]).await.ok();
    env.zim("ann", &["conversation", "mark", "carol", "3"]).await.ok();
    let listed = async |arguments: &[&str]| -> Vec<String> {
        let ran = env.zim("ann", &[&["conversation"], arguments, &["--json"]].concat()).await.ok();
        let id =
            |line: &String| serde_json::from_str::<Value>(line).unwrap()["conversationID"].as_str().unwrap().to_owned();
        let mut ids: Vec<String> = ran.lines().iter().map(id).collect();
        ids.sort();
        ids
    };
    for (arguments, expected) in [
        (&["list", "--type", "group"][..], &["crew"][..]),
        (&["list", "--type", "peer"], &["bob", "carol"]),
        (&["list", "--unpinned"], &["carol", "crew"]),
        (&["list", "--mark", "-1"], &["carol"]),
        (&["list", "--mark", "0"], &["bob", "crew"]),
        (&["list", "--mark", "0,3"], &["bob", "carol", "crew"]),
        (&["list", "--mark", "4", "--type", "peer"], &[]),
        (&["pinned"], &["bob"]),
    ] {
        assert_eq!(listed(arguments).await, expected, "{arguments:?}");
    }
    let page = env.zim("ann", &["conversation", "list", "-n", "2", "--plain"]).await.ok();
    assert_eq!(page.lines().len(), 3, "{}", page.stdout);
    assert!(page.stderr.contains("There are more than 2: --count N lists more."), "{}", page.stderr);
    let all = env.zim("ann", &["conversation", "list", "-n", "3", "--plain"]).await.ok();
    assert_eq!((all.lines().len(), all.stderr.as_str()), (4, ""));
    assert_eq!(
        said(&env, &["conversation", "list", "--type", "peer", "--mark", "7"]).await,
        "There are no such conversations."
    );
    env.zim("ann", &["conversation", "unpin", "bob"]).await.ok();
    assert_eq!(said(&env, &["conversation", "pinned"]).await, "There are no pinned conversations.");
    for wrong in [&["--type", "room"][..], &["--pinned", "--unpinned"], &["--mark", "-2"], &["--mark", "21"]] {
        assert_eq!(env.zim("ann", &[&["conversation", "list"], wrong].concat()).await.code, Some(2), "{wrong:?}");
    }
    env.end().await;
}

#[tokio::test]
async fn a_draft_stays_on_the_device() {
    let env = two_users().await;
    let draft = async |arguments: &[&str]| said(&env, &[&["conversation", "draft", "bob"], arguments].concat()).await;
    assert_eq!(draft(&[]).await, "There is no draft with bob.");
    assert_eq!(draft(&["see you\nat"]).await, "The draft with bob is kept on this device: see you at");
    assert_eq!(draft(&[]).await, "see you\nat");
    let json = env.zim("ann", &["conversation", "draft", "bob", "--json"]).await.json();
    assert_eq!(json, serde_json::json!({ "draft": "see you\nat" }));
    assert_eq!(draft(&["--clear"]).await, "There is no draft with bob any more.");
    assert_eq!(draft(&[]).await, "There is no draft with bob.");
    // Bob never sees any of it.
    assert!(env.zim("bob", &["conversation", "list"]).await.ok().lines().is_empty());
    let wrong = env.zim("ann", &["conversation", "draft", "bob", "x", "--clear"]).await;
    assert_eq!(wrong.code, Some(2));
    env.end().await;
}

#[tokio::test]
async fn all_conversations_are_searched() {
    let env = two_users().await;
    env.login("carol").await;
    env.zim("ann", &["group", "create", "crew", "bob", "carol", "--name", "The crew"]).await.ok();
    for (user, line) in [
        ("bob", &["send", "ann", "lunch on Monday"][..]),
        ("carol", &["send", "--group", "crew", "lunch?"]),
        ("carol", &["send", "ann", "--type", "custom", "--custom-type", "7", "lunch"]),
        ("bob", &["send", "--group", "crew", "no lunch"]),
    ] {
        env.zim(user, line).await.ok();
    }
    let json = async |arguments: &[&str], field: &str| -> Vec<Value> {
        let ran = env.zim("ann", &[&["search", "--json"], arguments].concat()).await.ok();
        ran.lines().iter().map(|line| serde_json::from_str::<Value>(line).unwrap()[field].clone()).collect()
    };
    for (arguments, expected) in [
        (&["--everywhere", "lunch"][..], &["lunch on Monday", "lunch?", "no lunch"][..]),
        (&["--everywhere", "lunch", "-n", "1"], &["no lunch"]),
        (&["--everywhere", "lunch", "-n", "1", "--oldest"], &["lunch on Monday"]),
        (&["--everywhere", "lunch", "--from", "carol"], &["lunch?"]),
        (&["--everywhere", "lunch", "--since", "1h"], &["lunch on Monday", "lunch?", "no lunch"]),
        (&["--everywhere", "lunch", "--until", "1h"], &[]),
        (&["-g", "crew", "--from", "carol,bob", "--type", "text"], &["lunch?", "no lunch"]),
        (&["carol", "--type", "text"], &[]),
        (&["carol", "--type", "custom", "--subtype", "8"], &[]),
    ] {
        assert_eq!(json(arguments, "message").await, expected, "{arguments:?}");
    }
    let custom = json(&["carol", "--type", "custom", "--subtype", "7"], "senderUserID").await;
    assert_eq!(custom, ["carol"]);
    let found = json(&["--conversations", "lunch"], "totalMessageCount").await;
    assert_eq!(found, [2, 1]);
    assert_eq!(json(&["--names", "the", "CREW"], "conversationID").await, ["crew"]);
    let table = said(&env, &["search", "--everywhere", "no"]).await;
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().skip(1).collect();
    assert_eq!(row, ["group", "crew", "2", "bob", "no", "lunch"], "{table}");
    let table = said(&env, &["search", "--conversations", "lunch"]).await;
    assert!(table.lines().nth(1).unwrap().trim_start().starts_with("2  group crew"), "{table}");
    assert_eq!(said(&env, &["search", "--everywhere", "zebra"]).await, "There is no such message.");
    assert_eq!(said(&env, &["search", "--names", "zebra"]).await, "There is no such conversation.");
    env.end().await;
}

#[tokio::test]
async fn a_search_says_that_it_has_not_looked_at_everything() {
    let env = two_users().await;
    for text in ["first", "second", "third"] {
        env.zim("bob", &["send", "ann", text]).await.ok();
    }
    let notice = "Only the newest 2 messages of a conversation were looked at: --among N looks at more.";
    for (arguments, is_cut) in [
        (&["bob", "first", "--among", "2"][..], true),
        (&["bob", "first", "--among", "3"], false),
        (&["--everywhere", "first", "--among", "2"], true),
        (&["--conversations", "third", "--among", "2"], true),
        // As many as were wanted: what is older would not be shown.
        (&["bob", "third", "--among", "2", "-n", "1"], false),
    ] {
        let ran = env.zim("ann", &[&["search", "--plain"], arguments].concat()).await.ok();
        assert_eq!(ran.stderr.contains(notice), is_cut, "{arguments:?}: {}", ran.stderr);
    }
    env.end().await;
}

#[tokio::test]
async fn messages_are_found_by_what_they_say() {
    let env = two_users().await;
    for text in ["lunch on Monday", "no", "Monday, after LUNCH", "明天见"] {
        env.zim("bob", &["send", "ann", text]).await.ok();
    }
    let found = async |arguments: &[&str]| -> Vec<String> {
        let ran = env.zim("ann", &[&["search", "bob", "--json"], arguments].concat()).await.ok();
        let text = |line: &String| serde_json::from_str::<Value>(line).unwrap()["message"].as_str().unwrap().to_owned();
        ran.lines().iter().map(text).collect()
    };
    assert_eq!(found(&["monday", "lunch"]).await, ["lunch on Monday", "Monday, after LUNCH"]);
    assert_eq!(found(&["lunch", "-n", "1"]).await, ["Monday, after LUNCH"]);
    assert_eq!(found(&["天"]).await, ["明天见"]);
    assert_eq!(found(&["lunch", "--among", "2"]).await, ["Monday, after LUNCH"]);
    assert_eq!(said(&env, &["search", "bob", "zebra"]).await, "There is no such message with bob.");
    env.end().await;
}

#[tokio::test]
async fn a_message_that_combines_long_ones_has_a_summary_that_the_server_takes() {
    let env = two_users().await;
    for text in ["a word ".repeat(40), "größer ".repeat(40), "你好👨‍👩‍👧".repeat(20)] {
        env.zim("ann", &["send", "bob", text.trim()]).await.ok();
    }
    let combine = ["message", "combine", "bob", "1", "2", "3", "--title", "talk", "--to", "bob"];
    let sent = env.zim("ann", &combine).await.json();
    let summary = sent["message"]["summary"].as_str().unwrap().to_owned();
    assert!(summary.len() <= 100, "{summary}");
    for (line, start) in summary.lines().zip(["ann: a word a", "ann: größer g", "ann: 你好"]) {
        assert!(line.starts_with(start) && line.ends_with('…'), "{summary}");
    }
    assert_eq!(summary.lines().count(), 3);
    assert_eq!(env.zim("bob", &["history", "ann"]).await.ok().lines().len(), 4);
    env.end().await;
}
