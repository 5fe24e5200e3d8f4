//! Users and what is between them: `zim user`, `zim friend`, `zim blacklist`, `zim status`.

use crate::common::TestEnv;

#[tokio::test]
async fn user_changes_and_shows_a_profile() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;
    assert_eq!(env.zim("ann", &["user", "name", "Ann B."]).await.json()["userName"], "Ann B.");
    let named = env.zim("ann", &["user", "avatar", "https://example.org/a.png", "--plain"]).await.ok();
    assert_eq!(named.lines(), ["Your avatar is now https://example.org/a.png"]);
    assert_eq!(env.zim("ann", &["user", "data", "{\"team\":7}"]).await.json()["extendedData"], "{\"team\":7}");

    let seen = env.zim("bob", &["user", "show", "ann"]).await.json();
    assert_eq!(seen["baseInfo"]["userName"], "Ann B.");
    assert_eq!(seen["baseInfo"]["userExtendedData"], "{\"team\":7}");
    let partly = env.zim("bob", &["user", "show", "nobody", "--plain"]).await.fails(5);
    assert!(partly.contains("there is no user nobody"), "{partly}");
    env.zim("bob", &["user", "show"]).await.fails(2);

    let own = env.zim("ann", &["user", "self"]).await.json();
    assert_eq!(own["userFullInfo"]["userAvatarUrl"], "https://example.org/a.png");
    env.zim("ann", &["user", "avatar"]).await.ok();
    let own = env.zim("ann", &["user", "self", "--plain"]).await.ok();
    assert_eq!(own.lines()[..4], ["user       ann", "name       Ann B.", "avatar     -", "data       {\"team\":7}"]);

    let long = "x".repeat(257);
    assert!(env.zim("ann", &["user", "name", &long]).await.fails(5).contains("6000001"));
    env.end().await;
}

#[tokio::test]
async fn user_push_rule_is_set_shown_and_cleared() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    let none = env.zim("ann", &["user", "push-rule", "--plain"]).await.ok();
    assert_eq!(none.lines(), ["There is no rule: every device gets offline push."]);
    let set = ["user", "push-rule", "--online", "win,macos", "--no-push", "android", "--no-push", "iphone"];
    env.zim("ann", &set).await.ok();
    let rule = env.zim("ann", &["user", "push-rule"]).await.json();
    // As `PlatformType` numbers them.
    let expected = serde_json::json!({ "onlinePlatforms": [1, 4], "notToReceiveOfflinePushPlatforms": [3, 2] });
    assert_eq!(rule["offlinePushRule"], expected);
    let shown = env.zim("ann", &["user", "push-rule", "--plain"]).await.ok();
    assert_eq!(shown.lines(), ["The rule: no offline push to android, iphone while online on win, macos."]);
    // Half a rule and an unknown platform are refused.
    env.zim("ann", &["user", "push-rule", "--online", "win"]).await.fails(2);
    let misspelt = env.zim("ann", &["user", "push-rule", "--online", "windows", "--no-push", "android"]).await.fails(2);
    assert!(misspelt.contains("mini-program"), "the platforms are not listed: {misspelt}");
    env.zim("ann", &["user", "push-rule", "--clear"]).await.ok();
    let none = env.zim("ann", &["user", "push-rule"]).await.json();
    assert_eq!(none["offlinePushRule"]["onlinePlatforms"], serde_json::json!([]));
    env.end().await;
}

#[tokio::test]
async fn blacklist_blocks_and_unblocks() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;
    let added = env.zim("ann", &["blacklist", "add", "bob"]).await.json();
    assert_eq!(added, serde_json::json!({ "errorUserList": [] }));
    assert!(env.zim("ann", &["blacklist", "add", "bob"]).await.fails(5).contains("6000804"));
    assert_eq!(env.zim("ann", &["blacklist", "list"]).await.json()["userID"], "bob");
    let plain = env.zim("ann", &["blacklist", "check", "bob", "--plain"]).await.ok();
    assert_eq!(plain.lines(), ["bob is blocked."]);
    assert!(env.zim("bob", &["send", "ann", "hi"]).await.fails(5).contains("6000284"));
    env.zim("ann", &["send", "bob", "I can write to you"]).await.ok();
    // One of two users could not be removed.
    let partly = env.zim("ann", &["blacklist", "remove", "bob", "nobody", "--plain"]).await;
    assert_eq!((partly.code, partly.stdout.trim()), (Some(5), "Unblocked: bob."));
    assert!(partly.stderr.contains("nobody (6000011: no such user)"), "{}", partly.stderr);
    assert_eq!(env.zim("ann", &["blacklist", "list", "--plain"]).await.ok().lines(), ["Nobody is blocked."]);
    env.zim("bob", &["send", "ann", "at last"]).await.ok();
    env.end().await;
}

#[tokio::test]
async fn friend_applies_accepts_renames_and_deletes() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;
    let applied = env.zim("ann", &["friend", "apply", "bob", "--wording", "it's Ann", "--plain"]).await.ok();
    assert_eq!(applied.lines(), ["The application to bob is sent."]);
    let waiting = env.zim("bob", &["friend", "applications"]).await.json();
    assert_eq!((&waiting["applyUser"]["userID"], &waiting["wording"]), (&"ann".into(), &"it's Ann".into()));
    env.zim("bob", &["friend", "reject", "ann"]).await.ok();
    assert!(env.zim("bob", &["friend", "accept", "ann"]).await.fails(5).contains("6000802"));
    env.zim("ann", &["friend", "apply", "bob"]).await.ok();
    let accepted = env.zim("bob", &["friend", "accept", "ann", "--alias", "Annie", "--plain"]).await.ok();
    assert_eq!(accepted.lines(), ["ann (Annie) is now your friend."]);

    let named = env.zim("ann", &["friend", "alias", "bob", "Bobby", "--plain"]).await.ok();
    assert_eq!(named.lines(), ["The alias of bob is now Bobby."]);
    let set = env.zim("ann", &["friend", "attributes", "bob", "k4=x", "k0=school", "--plain"]).await.ok();
    assert_eq!(set.lines(), ["The attributes of bob are now k0=school k4=x."]);
    env.zim("ann", &["friend", "attributes", "bob", "k4="]).await.ok();
    let shown = env.zim("ann", &["friend", "show", "bob"]).await.json();
    assert_eq!(shown["friendAttributes"], serde_json::json!({ "k0": "school" }));
    assert_eq!((&shown["friendAlias"], &shown["userID"]), (&"Bobby".into(), &"bob".into()));
    assert!(env.zim("ann", &["friend", "attributes", "bob", "k5=x"]).await.fails(5).contains("6000001"));
    env.zim("ann", &["friend", "attributes", "bob", "k0"]).await.fails(2);
    assert!(env.zim("ann", &["friend", "show", "nobody"]).await.fails(5).contains("6000811"));

    assert_eq!(env.zim("bob", &["friend", "list"]).await.json()["friendAlias"], "Annie");
    env.zim("bob", &["friend", "delete", "ann", "--single"]).await.ok();
    let relation = env.zim("ann", &["friend", "check", "bob", "--plain"]).await.ok();
    assert!(relation.stdout.contains("is on your list, but you are not on theirs"), "{}", relation.stdout);
    env.zim("ann", &["friend", "delete", "bob"]).await.ok();
    let none = env.zim("ann", &["friend", "list", "--plain"]).await.ok();
    assert_eq!(none.lines(), ["You have no friends yet: apply to a user with zim friend apply USER."]);
    env.end().await;
}

#[tokio::test]
async fn friend_search_finds_by_alias() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;
    env.zim("ann", &["friend", "add", "bob", "--alias", "小张"]).await.ok();
    assert_eq!(env.zim("ann", &["friend", "search", "张"]).await.json()["userID"], "bob");
    let none = env.zim("ann", &["friend", "search", "张", "x", "--plain"]).await.ok();
    assert_eq!(none.lines(), ["No friends match."]);
    env.end().await;
}

#[tokio::test]
async fn status_is_set_shown_and_subscribed_to() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;
    let set = env.zim("bob", &["status", "set", "busy", "--for", "1h"]).await.json();
    assert_eq!(set["customStatus"], "busy");
    let shown = env.zim("ann", &["status", "show", "bob"]).await.json();
    // One-shot commands do not count as online.
    assert_eq!((&shown["customStatus"], &shown["onlineStatus"]), (&"busy".into(), &1.into()));
    assert!(env.zim("ann", &["status", "show", "nobody"]).await.fails(5).contains("6000011"));

    env.zim("ann", &["status", "subscribe", "bob", "--for", "5m", "--plain"]).await.ok();
    let listed = env.zim("ann", &["status", "list"]).await.json();
    assert_eq!(listed["userStatus"]["userID"], "bob");
    env.zim("ann", &["status", "unsubscribe", "bob"]).await.ok();
    assert!(env.zim("ann", &["status", "unsubscribe", "bob"]).await.fails(5).contains("6000001"));
    let plain = env.zim("ann", &["status", "list", "--plain"]).await.ok();
    assert_eq!(plain.lines(), ["You have no status subscriptions."]);

    let plain = env.zim("bob", &["status", "clear", "--plain"]).await.ok();
    assert_eq!(plain.lines(), ["You have no custom status now."]);
    assert!(env.zim("bob", &["status", "set", &"x".repeat(65)]).await.fails(5).contains("64"));
    env.end().await;
}
