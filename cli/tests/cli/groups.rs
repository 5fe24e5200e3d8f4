//! Groups: `zim group`, and the commands that take `--group`.

use serde_json::{Value, json};

use crate::common::{Ran, Running, TestEnv};

async fn three_users() -> TestEnv {
    let env = TestEnv::new().await;
    for user in ["ann", "bob", "cai"] {
        env.login(user).await;
    }
    env
}

fn all(ran: &Ran) -> Vec<Value> {
    ran.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Starts a listener to these events, and waits until the server has its session.
async fn listening(env: &TestEnv, user: &str, format: &str, count: &str, events: &[&str]) -> Running {
    let mut arguments = vec!["listen", format, "--count", count, "--timeout", "30s"];
    arguments.extend(events.iter().flat_map(|event| ["--event", event]));
    let listener = env.start(user, &arguments);
    let sessions = ["admin", "sessions", user, "--server-data", env.data()];
    env.until(async || env.zim("ann", &sessions).await.lines().len() == 1).await;
    listener
}

/// The lines with a time, without it.
fn said(ran: &Ran) -> Vec<String> {
    ran.lines().iter().filter_map(|line| Some(line.split_once("  ")?.1.to_owned())).collect()
}

#[tokio::test]
async fn members_hear_in_words_what_happens_in_a_group() {
    let env = three_users().await;
    let events = [
        "groupStateChanged",
        "groupMemberStateChanged",
        "groupMemberInfoUpdated",
        "groupMessageReceived",
        "messageRevokeReceived",
    ];
    let mut bob = listening(&env, "bob", "--plain", "10", &events).await;
    let created = ["group", "create", "crew", "bob", "cai", "--name", "The crew", "--plain"];
    let created = env.zim("ann", &created).await.ok().stdout;
    assert_eq!(created.trim(), "You created the group crew (The crew) with bob and cai.");
    let sent = env.zim("ann", &["send", "--group", "crew", "hi", "all", "--plain"]).await.ok().stdout;
    assert!(sent.starts_with("Sent to the group crew at ") && sent.ends_with(", number 1: hi all\n"), "{sent}");
    let revoked = env.zim("ann", &["revoke", "--group", "crew", "1", "--plain"]).await.ok().stdout;
    assert_eq!(revoked.trim(), "Revoked message 1 in the group crew.");
    let kicked = env.zim("ann", &["group", "kick", "crew", "cai", "--plain"]).await.ok().stdout;
    assert_eq!(kicked.trim(), "Removed: cai.");
    env.zim("ann", &["group", "leave", "crew"]).await.ok();
    env.zim("bob", &["group", "dismiss", "crew"]).await.ok();
    env.zim("cai", &["group", "create", "other", "bob"]).await.ok();
    let expected = [
        "ann invited you to the group crew (The crew)",
        "ann invited bob and cai to the group crew",
        "ann in crew  hi all",
        "ann revoked message 1 in the group crew",
        "ann removed cai from the group crew",
        "ann left the group crew",
        "bob is now owner of the group crew",
        "bob dismissed the group crew (The crew)",
        "cai invited you to the group other",
        "cai invited bob to the group other",
    ];
    assert_eq!(said(&bob.finish().await.ok()), expected);
    env.end().await;
}

#[tokio::test]
async fn scripts_get_the_events_and_results_of_groups_as_json() {
    let env = three_users().await;
    let mut bob = listening(&env, "bob", "--json", "2", &["groupMemberStateChanged", "groupMessageReceived"]).await;
    let created =
        ["group", "create", "crew", "bob", "--notice", "be kind", "--attribute", "color=red", "--max-members", "5"];
    let created = env.zim("ann", &created).await.json();
    let group = &created["groupInfo"];
    assert_eq!((&group["baseInfo"]["groupID"], &group["groupNotice"]), (&json!("crew"), &json!("be kind")));
    assert_eq!((&group["groupAttributes"], &group["maxMemberCount"]), (&json!({"color": "red"}), &json!(5)));
    let info = env.zim("bob", &["group", "info", "crew"]).await.json();
    assert_eq!(info["groupInfo"], *group);
    // The attributes are for members.
    let info = env.zim("cai", &["group", "info", "crew"]).await.json();
    assert_eq!(
        (&info["groupInfo"]["groupNotice"], &info["groupInfo"]["groupAttributes"]),
        (&json!("be kind"), &json!({}))
    );
    let joined = env.zim("cai", &["group", "join", "crew"]).await.json();
    assert_eq!(joined["groupInfo"]["baseInfo"]["groupID"], "crew");
    let heard = all(&bob.finish().await.ok());
    assert_eq!((&heard[0]["name"], &heard[0]["groupID"]), (&json!("groupMemberStateChanged"), &json!("crew")));
    assert_eq!((&heard[1]["event"], &heard[1]["userList"][0]["userID"]), (&json!(1), &json!("cai")));

    let members = all(&env.zim("bob", &["group", "members", "crew"]).await.ok());
    let members: Vec<_> = members
        .iter()
        .map(|member| (member["userID"].as_str().unwrap(), member["memberRole"].as_i64().unwrap()))
        .collect();
    assert_eq!(members, [("ann", 1), ("bob", 3), ("cai", 3)]);
    assert_eq!(all(&env.zim("bob", &["group", "members", "crew", "-n", "2"]).await.ok()).len(), 2);
    for (user, text) in [("ann", "one"), ("bob", "two")] {
        let sent = env.zim(user, &["send", "-g", "crew", text]).await.json();
        assert_eq!(
            (&sent["message"]["conversationID"], &sent["message"]["conversationType"]),
            (&json!("crew"), &json!(2))
        );
    }
    let history = all(&env.zim("cai", &["history", "--group", "crew", "--after", "0"]).await.ok());
    let history: Vec<_> = history.iter().map(|message| (&message["senderUserID"], &message["message"])).collect();
    assert_eq!(history, [(&json!("ann"), &json!("one")), (&json!("bob"), &json!("two"))]);
    // A group and a user of the same name are two conversations.
    assert_eq!(env.zim("cai", &["history", "crew"]).await.ok().stdout, "");
    let shown = env.zim("cai", &["conversation", "show", "--group", "crew"]).await.json();
    assert_eq!(
        (&shown["conversation"]["unreadMessageCount"], &shown["conversation"]["isDisabled"]),
        (&json!(2), &json!(false))
    );
    env.zim("cai", &["conversation", "clear", "--group", "crew"]).await.ok();
    assert_eq!(env.zim("cai", &["conversation", "unread"]).await.json()["unreadMessageCount"], 0);

    let kicked = env.zim("ann", &["group", "kick", "crew", "bob"]).await.json();
    assert_eq!(kicked["kickedUserIDs"], json!(["bob"]));
    assert_eq!(env.zim("cai", &["group", "leave", "crew"]).await.json(), json!({"groupID": "crew"}));
    assert_eq!(env.zim("ann", &["group", "dismiss", "crew"]).await.json(), json!({"groupID": "crew"}));
    let given = env.zim("ann", &["group", "create", "--any-id", "bob"]).await.json();
    assert!(given["groupInfo"]["baseInfo"]["groupID"].as_str().unwrap().starts_with('#'), "{given}");
    assert_eq!(given["userList"][1]["userID"], "bob");
    env.end().await;
}

#[tokio::test]
async fn refusals_in_groups_name_the_group_and_the_reason() {
    let env = three_users().await;
    let partly = env.zim("ann", &["group", "create", "crew", "bob", "nobody", "--plain"]).await;
    assert_eq!((partly.code, partly.stdout.trim()), (Some(5), "You created the group crew with bob."));
    assert_eq!(partly.stderr.trim(), "error: not added: nobody (6000011: no such user)");
    env.zim("ann", &["group", "create", "shut", "--join-mode", "forbid"]).await.ok();
    env.zim("ann", &["group", "create", "asks", "--join-mode", "auth"]).await.ok();
    env.zim("ann", &["group", "create", "small", "--max-members", "1"]).await.ok();
    env.zim("ann", &["group", "create", "gone"]).await.ok();
    env.zim("ann", &["send", "--group", "gone", "bye"]).await.ok();
    env.zim("ann", &["group", "dismiss", "gone"]).await.ok();
    for (command, code, message) in [
        (&["send", "--group", "crew", "hi"][..], 6_000_521, "you are not a member of the group crew"),
        (&["group", "leave", "crew"], 6_000_521, "you are not a member of the group crew"),
        (&["group", "members", "crew"], 6_000_521, "you are not a member of the group crew"),
        (&["send", "--group", "none", "hi"], 6_000_523, "there is no group none"),
        (&["group", "info", "none"], 6_000_523, "there is no group none"),
        (&["send", "--group", "gone", "hi"], 6_000_523, "there is no group gone"),
        (&["group", "create", "crew"], 6_000_524, "the group crew exists already"),
        (&["group", "create", "gone"], 6_000_527, "the group gone was dismissed; its ID cannot be used again"),
        (&["group", "join", "small"], 6_000_525, "the group is full: it has at most 1 members"),
        (&["group", "join", "shut"], 6_000_542, "nobody can join this group without an invitation"),
        (
            &["group", "join", "asks"],
            6_000_543,
            "an administrator of this group decides who joins; send an application",
        ),
    ] {
        let refused = env.zim("cai", &[command, &["--json"]].concat()).await.fails(5);
        let error: Value = serde_json::from_str::<Value>(&refused).unwrap()["error"].take();
        assert_eq!((&error["code"], &error["message"]), (&json!(code), &json!(message)), "{command:?}");
    }
    for (command, message) in [
        (&["group", "kick", "crew", "ann"][..], "you may not remove members of this group"),
        (&["group", "dismiss", "crew"], "you may not dismiss this group: you are not its owner"),
        (&["send", "crew", "hi"], "there is no user crew to send to"),
        (&["send", "crew", "hi"], "for a group, use --group"),
    ] {
        let refused = env.zim("bob", command).await.fails(5);
        assert!(refused.contains(message), "{command:?}: {refused}");
    }
    let refused = env.zim("ann", &["group", "kick", "crew", "cai"]).await.fails(5);
    assert!(refused.contains("6000521") && refused.contains("cai is not a member of this group"), "{refused}");
    // What was seen stays readable.
    env.zim("bob", &["send", "--group", "crew", "hi"]).await.ok();
    env.zim("ann", &["group", "kick", "crew", "bob"]).await.ok();
    let stays = env.zim("bob", &["history", "--group", "crew", "--plain"]).await.ok().stdout;
    assert!(stays.contains("bob  hi"), "{stays}");
    let shown = env.zim("bob", &["conversation", "show", "--group", "crew", "--plain"]).await.ok().stdout;
    assert!(shown.contains("with        group crew\n") && shown.contains("you are not a member"), "{shown}");
    env.end().await;
}

#[tokio::test]
async fn people_read_what_a_group_is_and_who_is_in_it() {
    let env = three_users().await;
    let create =
        ["group", "create", "crew", "bob", "--name", "The crew", "--avatar", "a.png", "--invite-mode", "admin"];
    env.zim("ann", &create).await.ok();
    let shown = env.zim("ann", &["group", "info", "crew", "--plain"]).await.ok().stdout;
    let expected =
        ["group        crew\n", "name         The crew\n", "avatar       a.png\n", "who joins    everybody\n"];
    assert!(expected.iter().all(|line| shown.contains(line)), "{shown}");
    assert!(shown.contains("who invites  the owner and administrators\n") && !shown.contains("notice"), "{shown}");
    let members = env.zim("ann", &["group", "members", "crew", "--plain"]).await.ok().lines();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&members[0]), ["MEMBER", "NAME", "ROLE", "SINCE", "INVITED", "BY"]);
    assert_eq!(
        (&words(&members[1])[..2], &words(&members[2])[..2]),
        (&["ann", "owner"].map(str::to_owned)[..], &["bob", "member"].map(str::to_owned)[..])
    );
    assert_eq!(words(&members[2]).last().unwrap(), "ann");
    env.zim("ann", &["send", "--group", "crew", "hi"]).await.ok();
    let listed = env.zim("bob", &["conversation", "list", "--plain"]).await.ok().stdout;
    assert!(listed.contains("group crew (The crew)") && listed.contains("ann: hi"), "{listed}");
    for (command, message) in [
        (&["group", "join", "crew"][..], "You are in the group crew (The crew) now."),
        (&["group", "leave", "crew"], "You have left the group crew."),
        (&["history", "--group", "none"], "There are no messages in the group none."),
    ] {
        let said = env.zim("cai", &[command, &["--plain"]].concat()).await.ok().stdout;
        assert_eq!(said.trim(), message);
    }
    let said = env.zim("ann", &["group", "dismiss", "crew", "--plain"]).await.ok().stdout;
    assert_eq!(said.trim(), "The group crew is dismissed.");
    env.end().await;
}

#[tokio::test]
async fn a_chat_in_a_group_names_the_senders_and_reads_the_messages() {
    let env = three_users().await;
    env.zim("ann", &["group", "create", "crew", "bob", "cai"]).await.ok();
    env.zim("bob", &["send", "--group", "crew", "from bob"]).await.ok();
    env.zim("cai", &["send", "--group", "crew", "from cai"]).await.ok();
    let chat = env.zim_with("ann", &["chat", "--group", "crew", "--plain"], "from ann\n").await.ok();
    assert_eq!(said(&chat), ["bob  from bob", "cai  from cai", "ann  from ann"]);
    assert_eq!(env.zim("ann", &["conversation", "unread"]).await.json()["unreadMessageCount"], 0);
    env.zim("ann", &["group", "kick", "crew", "cai"]).await.ok();
    let refused = env.zim_with("cai", &["chat", "-g", "crew"], "am I in?\n").await;
    assert_eq!(refused.code, Some(5));
    assert!(refused.stderr.contains("you are not a member of the group crew"), "{}", refused.stderr);
    env.end().await;
}

#[tokio::test]
async fn listening_from_a_user_includes_what_they_do_in_groups() {
    let env = three_users().await;
    env.zim("ann", &["group", "create", "crew", "bob"]).await.ok();
    let mut listener = env.start("bob", &["listen", "--plain", "--from", "cai", "--count", "2", "--timeout", "30s"]);
    let sessions = ["admin", "sessions", "bob", "--server-data", env.data()];
    env.until(async || env.zim("ann", &sessions).await.lines().len() == 1).await;
    env.zim("ann", &["send", "--group", "crew", "not this"]).await.ok();
    env.zim("cai", &["group", "join", "crew"]).await.ok();
    env.zim("cai", &["send", "--group", "crew", "this"]).await.ok();
    assert_eq!(said(&listener.finish().await.ok()), ["cai joined the group crew", "cai in crew  this"]);
    env.end().await;
}

#[tokio::test]
async fn people_find_count_and_pick_members_and_attributes() {
    let env = three_users().await;
    let create = ["group", "create", "crew", "bob", "cai", "--attribute", "color=red", "--attribute", "city=Bern"];
    env.zim("ann", &create).await.ok();
    env.zim("bob", &["group", "nickname", "crew", "bob", "Captain"]).await.ok();
    let ids =
        |ran: &Ran| all(ran).iter().map(|member| member["userID"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(ids(&env.zim("ann", &["group", "members", "crew", "cai"]).await.ok()), ["cai"]);
    let refused = env.zim("ann", &["group", "members", "crew", "dan"]).await.fails(5);
    assert!(refused.contains("dan is not a member of this group"), "{refused}");
    // The search knows all members, although this command has just begun.
    assert_eq!(ids(&env.zim("ann", &["group", "members", "crew", "--search", "CAPT"]).await.ok()), ["bob"]);
    for (command, said) in [
        (&["group", "members", "crew", "--search", "captain", "--search", "none"][..], "No member matches."),
        (&["group", "search", "captain"], "No group matches."),
        (&["group", "members", "crew", "--total"], "3 members"),
        (&["group", "attributes", "crew"], "city=Bern color=red"),
        (&["group", "attributes", "crew", "--only", "city"], "city=Bern"),
        (&["group", "attributes", "crew", "--only", "size"], "The group has none of these attributes."),
        (&["group", "attributes", "crew", "--delete", "city", "--delete", "color"], "The group has no attributes."),
    ] {
        assert_eq!(env.zim("ann", &[command, &["--plain"]].concat()).await.ok().stdout.trim(), said, "{command:?}");
    }
    let hit = env.zim("ann", &["group", "search", "captain", "--members"]).await.json();
    assert_eq!((&hit["groupInfo"]["groupID"], &hit["userList"][0]["userID"]), (&json!("crew"), &json!("bob")));
    let total = env.zim("cai", &["group", "members", "crew", "--total"]).await.json();
    assert_eq!(total, json!({"groupID": "crew", "count": 3}));
    env.zim("ann", &["group", "kick", "crew", "bob", "cai"]).await.ok();
    let total = env.zim("ann", &["group", "members", "crew", "--total", "--plain"]).await.ok().stdout;
    assert_eq!(total.trim(), "1 member");
    env.end().await;
}

#[tokio::test]
async fn scripts_change_a_group_and_decide_who_writes() {
    let env = three_users().await;
    env.zim("ann", &["group", "create", "crew", "bob"]).await.ok();
    let set = ["group", "set", "crew", "--name", "Us", "--avatar", "b.png", "--notice", "be kind"];
    let modes = ["--join-mode", "auth", "--invite-mode", "admin", "--be-invite-mode", "auth"];
    let set = env.zim("ann", &[&set[..], &modes].concat()).await.json();
    let info = &set["groupInfo"];
    assert_eq!(info["baseInfo"], json!({"groupID": "crew", "groupName": "Us", "groupAvatarUrl": "b.png"}));
    assert_eq!(info["verifyInfo"], json!({"joinMode": 1, "inviteMode": 1, "beInviteMode": 1}));
    assert_eq!(info["groupNotice"], "be kind");
    let alias = env.zim("bob", &["group", "alias", "crew", "pals"]).await.json();
    assert_eq!(alias, json!({"groupID": "crew", "groupAlias": "pals"}));
    let listed = env.zim("bob", &["group", "list", "--with", "ann"]).await.json();
    assert_eq!((&listed["baseInfo"]["groupID"], &listed["groupAlias"]), (&json!("crew"), &json!("pals")));

    let muted = env.zim("ann", &["group", "mute", "crew", "bob"]).await.json();
    assert_eq!((&muted["mutedUserIDs"], &muted["duration"]), (&json!(["bob"]), &json!(-1)));
    let listed = env.zim("ann", &["group", "muted", "crew"]).await.json();
    assert_eq!((&listed["userID"], &listed["muteExpiredTime"]), (&json!("bob"), &json!(-1)));
    let send = ["send", "--group", "crew", "may I?"];
    let refused = env.zim("bob", &send).await.fails(5);
    assert!(refused.contains("6000541") && refused.contains("you are muted in the group crew"), "{refused}");
    env.zim("ann", &["group", "unmute", "crew", "bob"]).await.ok();
    assert_eq!(env.zim("ann", &["group", "muted", "crew", "--plain"]).await.ok().stdout.trim(), "Nobody is muted.");
    let muted = env.zim("ann", &["group", "mute", "crew", "--role", "member"]).await.json();
    assert_eq!((&muted["mutedInfo"]["mode"], &muted["mutedInfo"]["expiredTime"]), (&json!(1), &json!(-1)));
    env.zim("bob", &send).await.fails(5);
    env.zim("ann", &["group", "unmute", "crew"]).await.ok();
    env.zim("bob", &send).await.ok();
    let given = env.zim("ann", &["group", "transfer", "crew", "bob"]).await.json();
    assert_eq!(given, json!({"groupID": "crew", "toUserID": "bob"}));
    env.zim("bob", &["group", "dismiss", "crew"]).await.ok();
    env.end().await;
}

#[tokio::test]
async fn scripts_decide_who_enters_a_group() {
    let env = three_users().await;
    env.zim("ann", &["group", "create", "crew", "--join-mode", "auth", "--be-invite-mode", "auth"]).await.ok();
    env.zim("cai", &["group", "apply", "crew", "--wording", "let me in"]).await.ok();
    let waiting = env.zim("ann", &["group", "applications"]).await.json();
    assert_eq!((&waiting["type"], &waiting["state"]), (&json!(1), &json!(1)));
    assert_eq!((&waiting["applyUser"]["userID"], &waiting["wording"]), (&json!("cai"), &json!("let me in")));
    env.zim("ann", &["group", "reject", "crew", "cai"]).await.ok();
    assert_eq!(env.zim("cai", &["group", "applications"]).await.json()["state"], 3);
    let refused = env.zim("ann", &["group", "accept", "crew", "cai"]).await.fails(5);
    assert!(refused.contains("6000505"), "{refused}");

    env.zim("ann", &["group", "invite", "crew", "cai", "--wording", "come"]).await.ok();
    env.zim("cai", &["group", "decline", "crew", "ann"]).await.ok();
    let refused = env.zim("cai", &["group", "agree", "crew", "ann"]).await.fails(5);
    assert!(refused.contains("6000508"), "{refused}");
    let asked = env.zim("ann", &["group", "invite", "crew", "cai", "bob", "--plain"]).await.ok().stdout;
    assert!(asked.contains("cai must agree first.") && asked.contains("bob must agree first."), "{asked}");
    for user in ["cai", "bob"] {
        let entered = env.zim(user, &["group", "agree", "crew", "ann"]).await.json();
        assert_eq!(entered["groupInfo"]["baseInfo"]["groupID"], "crew");
    }
    let total = env.zim("ann", &["group", "members", "crew", "--total"]).await.json();
    assert_eq!(total, json!({"groupID": "crew", "count": 3}));
    env.end().await;
}
