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
