//! Calls: `zim ring`.

use crate::common::{Ran, TestEnv};

async fn three_users() -> TestEnv {
    let env = TestEnv::new().await;
    for user in ["ann", "bob", "cai"] {
        env.login(user).await;
    }
    env
}

/// The lines with a time, without it.
fn said(ran: &Ran) -> Vec<String> {
    ran.lines().iter().filter_map(|line| Some(line.split_once("  ")?.1.to_owned())).collect()
}

#[tokio::test]
async fn who_listens_hears_in_words_who_rings_and_who_answers() {
    let env = three_users().await;
    let arguments = ["listen", "--plain", "--count", "4", "--timeout", "30s"];
    let events = ["callInvitationReceived", "callUserStateChanged", "callInvitationEnded"];
    let arguments: Vec<&str> =
        arguments.into_iter().chain(events.iter().flat_map(|event| ["--event", event])).collect();
    let mut bob = env.start("bob", &arguments);
    let sessions = ["admin", "sessions", "bob", "--server-data", env.data()];
    env.until(async || env.zim("ann", &sessions).await.lines().len() == 1).await;
    let started = ["ring", "start", "bob", "cai", "--advanced", "--for", "30s", "--data", "video", "--json"];
    let started = env.zim("ann", &started).await.json();
    let call = started["callID"].as_str().unwrap();
    assert_eq!((&started["timeout"], &started["errorUserList"]), (&30.into(), &serde_json::json!([])));
    // Bob's device has stored the invitation before anything else happens.
    let users = async || env.zim("ann", &["ring", "list", "--json"]).await.json()["callUserList"].clone();
    env.until(async || users().await[1]["state"] == 5).await;
    let rejected = env.zim("cai", &["ring", "reject", call, "--plain"]).await.ok().stdout;
    assert_eq!(rejected.trim(), format!("You have rejected the call {call}."));
    let ended = env.zim("ann", &["ring", "end", call, "--data", "bye", "--plain"]).await.ok().stdout;
    assert_eq!(ended.trim(), format!("The call {call} has ended."));
    let expected = [
        format!("ann rings for 30 s, advanced call {call}: video"),
        format!("call {call}: bob is ringing"),
        format!("call {call}: cai has rejected it"),
        format!("ann ended the call {call}: bye"),
    ];
    assert_eq!(said(&bob.finish().await.ok()), expected);
    env.end().await;
}

#[tokio::test]
async fn a_call_goes_from_ringing_to_its_end() {
    let env = three_users().await;
    let rings = env.zim("ann", &["ring", "start", "bob", "nobody", "--plain"]).await;
    assert!(rings.stdout.contains(" rings for 90 s: bob."), "{}", rings.stdout);
    assert!(rings.stderr.contains("not invited: nobody (6000281: no such user)"), "{}", rings.stderr);
    let listed = env.zim("bob", &["ring", "list", "--plain"]).await.ok().stdout;
    assert!(listed.contains("general") && listed.contains("running") && listed.contains("bob is invited"), "{listed}");
    let general = env.zim("bob", &["ring", "list", "--json"]).await.json()["callID"].as_str().unwrap().to_owned();
    let accepted = env.zim("bob", &["ring", "accept", &general, "--plain"]).await.ok().stdout;
    assert_eq!(accepted.trim(), format!("You have accepted the call {general}."));
    let quit = env.zim("bob", &["ring", "quit", &general, "--plain"]).await;
    assert!(quit.stderr.contains("6000286"), "{}", quit.stderr);
    let call = env.zim("ann", &["ring", "start", "bob", "--advanced", "--json"]).await.json();
    let call = call["callID"].as_str().unwrap();
    let cancelled = env.zim("ann", &["ring", "cancel", call, "bob", "--plain"]).await.ok().stdout;
    assert_eq!(cancelled.trim(), format!("The invitations to the call {call} are cancelled: bob."));
    let joined = env.zim("cai", &["ring", "join", call, "--plain"]).await.ok().stdout;
    assert!(joined.starts_with(&format!("You are in the call {call}: ann is in the call, ")), "{joined}");
    let invited = env.zim("cai", &["ring", "invite", call, "bob", "--plain"]).await.ok().stdout;
    assert_eq!(invited.trim(), "Invited: bob.");
    let left = env.zim("ann", &["ring", "quit", call, "--plain"]).await.ok().stdout;
    assert_eq!(left.trim(), format!("You have left the call {call}."));
    let last = env.zim("ann", &["ring", "start", "bob", "--json"]).await.json();
    let last = last["callID"].as_str().unwrap();
    let cancelled = env.zim("ann", &["ring", "cancel", last, "--plain"]).await.ok().stdout;
    assert_eq!(cancelled.trim(), format!("The call {last} is cancelled."));
    let general = env.zim("ann", &["ring", "start", "bob", "cai", "--json"]).await.json();
    let general = general["callID"].as_str().unwrap();
    let cancelled = env.zim("ann", &["ring", "cancel", general, "bob", "--plain"]).await.ok().stdout;
    let expected = format!("The call {general} is cancelled for everybody, because it is in general mode.");
    assert_eq!(cancelled.trim(), expected);
    env.end().await;
}
