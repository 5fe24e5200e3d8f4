//! Connections to the operator's service.

use serde_json::{Value, json};
use zim_server::AdminAddr;
use zim_server::config::AdminListen;

use crate::common::TestEnv;

#[tokio::test]
async fn another_machine_is_reached_only_with_tls() {
    let env = TestEnv::with(|config| config.admin = AdminListen::Tcp(([0, 0, 0, 0], 0).into())).await;
    let Some(AdminAddr::Tls(address)) = env.admin_addr() else { panic!("no TLS") };
    let url = format!("https://127.0.0.1:{}", address.port());
    let (key, fingerprint) = (env.admin_key(), env.fingerprint());
    let ca = format!("{}/cert.pem", env.data());
    let list = async |url: &str, trust: &[&str]| {
        let args = [&["admin", "--admin-url", url, "--admin-key", &key], trust, &["app", "list"]].concat();
        env.zim("ann", &args).await
    };
    // The start file contains the address and the fingerprint.
    env.zim("ann", &["admin", "--server-data", env.data(), "app", "list"]).await.ok();
    list(&url, &["--admin-fingerprint", &fingerprint]).await.ok();
    list(&url, &["--admin-ca", &ca]).await.ok();
    let another = "ab".repeat(32);
    let stderr = list(&url, &["--admin-fingerprint", &another]).await.fails(4);
    assert!(
        stderr.contains("is not accepted: it has another fingerprint") && stderr.contains("another server answers"),
        "{stderr}"
    );
    // No authority of the system has signed it.
    let stderr = list(&url, &[]).await.fails(4);
    assert!(stderr.contains("fingerprint"), "{stderr}");
    let stderr = list(&url.replace("https", "http"), &[]).await.fails(4);
    assert!(stderr.contains("it requires TLS: https://"), "{stderr}");
    let stderr = list("http://10.0.0.5:4712", &["--admin-fingerprint", &fingerprint]).await.fails(2);
    assert!(stderr.contains("in the clear"), "{stderr}");
    env.end().await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_socket_without_a_server_is_explained() {
    let env = TestEnv::without_server();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let url = format!("unix:{}", socket.display());
    let args = ["admin", "--admin-url", &url, "--admin-key", "key", "app", "list"];
    let stderr = env.zim("ann", &args).await.fails(4);
    assert!(stderr.contains("there is no operator's socket") && stderr.contains("--server-data"), "{stderr}");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let stderr = env.zim("ann", &args).await.fails(4);
    assert!(stderr.contains("no server listens on the operator's socket"), "{stderr}");
    let stderr = env.zim("ann", &["admin", "app", "list"]).await.fails(1);
    assert!(stderr.contains("no server to manage was found") && stderr.contains("--admin-url"), "{stderr}");
}

/// The operator sends, revokes and lists messages, and acts for users.
#[tokio::test]
async fn messages_groups_and_calls_of_the_operator() {
    let env = TestEnv::new().await;
    env.login("ann").await;
    env.login("bob").await;
    let said = async |args: &[&str]| {
        let line = [&["admin", "--server-data", env.data()], args, &["--plain"]].concat();
        env.zim("ann", &line).await.ok().stdout.trim().to_owned()
    };
    let refused = async |args: &[&str], exit| {
        env.zim("ann", &[&["admin", "--server-data", env.data()], args].concat()).await.fails(exit)
    };
    assert_eq!(said(&["message", "send", "ann", "bob", "hello"]).await, "Sent message 1 to bob as ann.");
    assert_eq!(said(&["group", "create", "ann", "crew", "bob"]).await, "Created the group crew, owned by ann.");
    let targeted = ["message", "send", "ann", "--group", "crew", "psst", "--only", "bob"];
    assert_eq!(said(&targeted).await, "Sent message 1 to the group crew as ann.");
    assert!(said(&["message", "list", "bob", "--group", "crew"]).await.contains("psst"));
    assert_eq!(said(&["message", "broadcast", "ann", "hi all"]).await, "Sent to all who are online, as ann.");
    assert_eq!(said(&["event", "{}", "--to", "ann,bob"]).await, "Sent to those who are online.");
    assert_eq!(said(&["message", "revoke", "bob", "ann", "1"]).await, "Revoked message 1 with ann.");
    assert!(said(&["message", "list", "ann", "bob"]).await.contains("revoked"));
    assert_eq!(said(&["message", "list", "ann", "ann"]).await, "There are no messages with ann.");
    let unaware = ["message", "send", "ann", "bob", "unseen", "--unaware"];
    assert_eq!(said(&unaware).await, "Sent message 2 to bob as ann.");
    assert!(said(&["message", "list", "bob", "ann"]).await.contains("unseen"));
    assert!(!said(&["message", "list", "ann", "bob"]).await.contains("unseen"));
    assert_eq!(said(&["message", "send-each", "ann", "hi", "--to", "bob"]).await, "Sent to 1 user as ann.");
    assert_eq!(said(&["message", "edit", "bob", "ann", "3", "hi there"]).await, "Edited message 3 with ann.");
    assert!(said(&["message", "list", "ann", "bob"]).await.contains("hi there"));
    let renamed = said(&["call", "ann", "Group/UpdateGroupName", r#"{"groupName":"Crew","groupID":"crew"}"#]).await;
    assert!(renamed.contains("Crew"), "{renamed}");
    assert_eq!(said(&["group", "kick", "crew", "bob", "--as", "ann"]).await, "Removed bob from the group crew.");
    assert_eq!(said(&["group", "add", "ann", "crew", "bob"]).await, "Added: bob.");
    // What was refused is said, beside what was done.
    for (args, done, failed) in [
        (&["group", "kick", "crew", "bob", "nobody", "--as", "ann"][..], "Removed bob from", "not removed: nobody ("),
        (&["group", "kick", "crew", "nobody", "--as", "ann"], "", "there is no user nobody"),
        (&["group", "create", "ann", "few", "bob", "nobody"], "Created the group few", "not added: nobody ("),
    ] {
        let ran = env.zim("ann", &[&["admin", "--server-data", env.data(), "--plain"], args].concat()).await;
        assert_eq!((ran.code, ran.stdout.is_empty()), (Some(5), done.is_empty()), "{args:?}");
        assert!(ran.stdout.starts_with(done) && ran.stderr.contains(failed), "{}{}", ran.stdout, ran.stderr);
    }
    assert_eq!(said(&["group", "dismiss", "crew", "--as", "ann"]).await, "Dismissed the group crew.");
    assert_eq!(said(&["room", "list"]).await, "There are no rooms.");
    let create = ["room", "create", "ann", "stage", "--name", "The stage", "--keep", "2m", "--attribute", "a=b"];
    assert_eq!(said(&create).await, "Created the room stage.");
    let rooms = said(&["room", "list"]).await;
    assert!(rooms.contains("stage") && rooms.contains("The stage"), "{rooms}");
    assert_eq!(said(&["room", "destroy", "stage"]).await, "Ended the room stage; 0 users were in it.");
    assert_eq!(said(&["log", "list"]).await, "No logs were uploaded.");
    let each = ["admin", "--server-data", env.data(), "message", "send-each", "ann", "x", "--to", "bob,nobody"];
    let each = env.zim("ann", &[&each[..], &["--plain"]].concat()).await;
    assert_eq!((each.code, each.stdout.trim()), (Some(5), "Sent to 1 user as ann."));
    assert!(each.stderr.contains("nobody") && each.stderr.contains("1 of 2 messages"), "{}", each.stderr);
    for (args, exit, message) in [
        (&["message", "send", "nobody", "bob", "x"][..], 5, "there is no user nobody"),
        (&["message", "send", "ann", "bob", ""], 5, ""),
        (&["message", "send", "ann", "bob", "x", "--only", "bob"], 2, "--group"),
        (&["room", "kick", "stage", "bob"], 5, "stage"),
        (&["room", "destroy", "stage"], 5, "stage"),
        (&["room", "create", "ann", "stage", "--keep", "4h"], 5, "10800"),
        (&["message", "send-each", "ann", "", "--to", "bob"], 5, ""),
        (&["message", "send-each", "ann", "x"], 2, "--to"),
        (&["message", "edit", "bob", "ann", "99", "x"], 5, ""),
        (&["group", "add", "ann", "none", "bob"], 5, "none"),
        (&["call", "ann", "Group/Explode"], 2, "there is no method"),
        (&["log", "get", "17"], 5, "there is no such log"),
    ] {
        let stderr = refused(args, exit).await;
        assert!(stderr.contains(message), "{args:?}: {stderr}");
    }
    env.end().await;
}

/// The operator looks at users, groups and rooms, and acts in groups without being a member.
#[tokio::test]
async fn lists_of_the_operator_are_tables_and_lines_of_json() {
    let env = TestEnv::new().await;
    for user in ["ann", "bob", "cai"] {
        env.login(user).await;
    }
    let admin = async |args: &[&str]| env.zim("ann", &[&["admin", "--server-data", env.data()], args].concat()).await;
    let said = async |args: &[&str]| admin(&[args, &["--plain"]].concat()).await.ok().stdout.trim().to_owned();
    let json = async |args: &[&str]| {
        let ran = admin(&[args, &["--json"]].concat()).await.ok();
        ran.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    assert_eq!(said(&["group", "list"]).await, "There are no groups.");
    assert_eq!(said(&["user", "list", "x"]).await, "There are no such users.");
    said(&["user", "register", "dan", "--name", "Daniel"]).await;
    said(&["user", "ban", "cai"]).await;
    let table = said(&["user", "list"]).await;
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["USER", "NAME", "REGISTERED", "SEEN", "BANNED"]);
    assert_eq!((lines[1][0], lines[3][0], *lines[3].last().unwrap()), ("ann", "cai", "yes"));
    assert_eq!((&lines[4][..2], &lines[4][lines[4].len() - 2..]), (&["dan", "Daniel"][..], &["never", "no"][..]));
    let users = json(&["user", "list", "d"]).await;
    assert_eq!((users.len(), &users[0]["userID"], &users[0]["isBanned"]), (1, &json!("dan"), &json!(false)));
    said(&["group", "create", "ann", "crew", "bob", "dan", "--name", "The crew"]).await;
    said(&["group", "create", "bob", "team"]).await;
    let table = said(&["group", "list"]).await;
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["GROUP", "NAME", "OWNER", "MEMBERS", "CREATED"]);
    assert_eq!((lines[1][0], &lines[2][..5]), ("team", &["crew", "The", "crew", "ann", "3"][..]));
    let groups = json(&["group", "list"]).await;
    assert_eq!((groups.len(), &groups[1]["ownerUserID"], &groups[1]["members"]), (2, &json!("ann"), &json!(3)));
    let shown = said(&["group", "show", "crew"]).await;
    assert!(
        shown.starts_with("group        crew\nowner        ann\nmembers      3\nname         The crew\n"),
        "{shown}"
    );
    assert_eq!(json(&["group", "show", "crew"]).await[0]["groupInfo"]["baseInfo"]["groupName"], json!("The crew"));
    let members = said(&["group", "members", "crew"]).await;
    assert!(members.contains("MEMBER") && members.contains("owner") && members.contains("Daniel"), "{members}");
    let members = json(&["group", "members", "crew"]).await;
    assert_eq!((members.len(), &members[1]["userID"]), (3, &json!("bob")));
    // Nobody may do that in their own name, and the operator needs nobody's.
    assert_eq!(said(&["group", "kick", "crew", "ann"]).await, "Removed ann from the group crew.");
    assert_eq!(json(&["group", "show", "crew"]).await[0]["ownerUserID"], json!("bob"));
    let some = admin(&["group", "kick", "crew", "dan", "cai", "--plain"]).await;
    assert_eq!((some.code, some.stdout.trim()), (Some(5), "Removed dan from the group crew."));
    assert!(some.stderr.contains("not removed: cai (6000521: not a member)"), "{}", some.stderr);
    assert_eq!(said(&["group", "dismiss", "crew"]).await, "Dismissed the group crew.");
    said(&["room", "create", "ann", "stage", "--keep", "2m"]).await;
    assert_eq!(said(&["room", "members", "stage"]).await, "Nobody is in the room stage.");
    assert!(json(&["room", "members", "stage"]).await.is_empty());
    for (args, exit, message) in [
        (&["user", "list", "a b"][..], 5, "prefix"),
        (&["group", "show", "crew"], 5, "there is no group crew"),
        (&["group", "members", "none"], 5, "there is no group none"),
        (&["group", "kick", "none", "bob"], 5, "there is no group none"),
        (&["group", "kick", "team", "ann"], 5, "ann is not a member"),
        (&["group", "dismiss", "none"], 5, "there is no group none"),
        (&["group", "dismiss", "team", "--as", "ann"], 5, "not"),
        (&["room", "members", "none"], 5, "there is no room none"),
    ] {
        let stderr = admin(args).await.fails(exit);
        assert!(stderr.contains(message), "{args:?}: {stderr}");
    }
    env.end().await;
}
