//! Rooms: `zim room`.

use serde_json::{Value, json};

use crate::common::{Ran, TestEnv};

fn all(ran: &Ran) -> Vec<Value> {
    ran.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until so many are online in the room, as a member of it sees it.
async fn online(env: &TestEnv, user: &str, count: i64) {
    env.until(async || {
        let ran = env.zim(user, &["room", "count", "stage", "--json"]).await;
        ran.lines().first().is_some_and(|line| line.contains(&format!("\"count\":{count}")))
    })
    .await;
}

#[tokio::test]
async fn a_room_is_entered_talked_in_and_left() {
    let env = TestEnv::new().await;
    for user in ["bob", "cai"] {
        env.login(user).await;
    }
    let enter = ["room", "enter", "stage", "--name", "The stage", "--plain", "--count", "7", "--timeout", "60s"];
    let mut bob = env.start("bob", &enter);
    online(&env, "bob", 1).await;
    let mut cai = env.start("cai", &["room", "enter", "stage", "--join", "--json", "--timeout", "60s"]);
    online(&env, "bob", 2).await;
    let sent = env.zim("cai", &["room", "send", "stage", "hi", "all", "--plain"]).await.ok().stdout;
    assert_eq!(sent.trim(), "Sent to the room stage: hi all");
    env.zim("cai", &["room", "send", "stage", "--type", "barrage", "--priority", "high", "wow"]).await.ok();
    let shown = env.zim("cai", &["room", "attributes", "stage", "song=Blackbird", "--plain"]).await.ok().stdout;
    assert_eq!(shown.trim(), "song=Blackbird");
    let members = all(&env.zim("bob", &["room", "members", "stage"]).await.ok());
    let members: Vec<_> = members.iter().map(|member| member["userID"].as_str().unwrap()).collect();
    assert_eq!(members, ["bob", "cai"]);
    let some = all(&env.zim("bob", &["room", "members", "stage", "cai", "bob"]).await.ok());
    let mut some: Vec<_> = some.iter().map(|member| member["userID"].as_str().unwrap()).collect();
    some.sort_unstable();
    assert_eq!(some, ["bob", "cai"]);
    let missing = env.zim("bob", &["room", "members", "stage", "dan", "--plain"]).await;
    assert_eq!((missing.code, missing.stdout.as_str()), (Some(5), ""), "{}", missing.stderr);
    assert!(missing.stderr.contains("none of these users is in the room"), "{}", missing.stderr);
    let partly = env.zim("bob", &["room", "members", "stage", "cai", "dan", "--plain"]).await;
    assert!(partly.code == Some(5) && partly.stdout.contains("cai"), "{}", partly.stderr);
    assert!(partly.stderr.contains("not in the room: dan"), "{}", partly.stderr);
    // The command of Bob ends with this event, and then Bob is not in the room any more.
    let of = env.zim("cai", &["room", "of", "stage", "cai", "--set", "seat=1", "--plain"]).await.ok().stdout;
    assert!(of.ends_with("cai   seat=1\n"), "{of}");
    let of = env.zim("cai", &["room", "of", "stage", "--plain"]).await.ok().stdout;
    assert!(of.ends_with("cai   seat=1\n") && !of.contains("bob"), "{of}");
    let nobody = env.zim("cai", &["room", "of", "stage", "--set", "seat=1"]).await;
    assert_eq!(nobody.code, Some(2), "{}", nobody.stderr);
    let said: Vec<_> = bob.finish().await.ok().lines();
    let said: Vec<_> = said.iter().filter_map(|line| Some(line.split_once("  ")?.1)).collect();
    let expected = [
        "room stage: entering",
        "room stage: you are in it",
        "room stage: cai entered",
        "cai  hi all",
        "cai  [barrage] wow",
        "room stage: set song=Blackbird",
        "room stage: cai has seat=1",
    ];
    assert_eq!(said, expected);
    // Bob has left with the command.
    online(&env, "cai", 1).await;
    let refused = env.zim("bob", &["room", "members", "stage"]).await.fails(5);
    assert!(refused.contains("6000321"), "{refused}");
    let left = env.zim("cai", &["room", "leave", "stage"]).await.json();
    assert_eq!(left["roomID"], "stage");
    let ended = cai.finish().await;
    let heard = all(&ended);
    assert_eq!((&heard[0]["name"], &heard[0]["event"]), (&json!("roomStateChanged"), &json!(6)));
    let last = heard.last().unwrap();
    assert_eq!((&last["name"], &last["state"], &last["event"]), (&json!("roomStateChanged"), &json!(0), &json!(0)));
    env.end().await;
}

#[tokio::test]
async fn attributes_of_others_need_force() {
    let env = TestEnv::new().await;
    for user in ["bob", "cai"] {
        env.login(user).await;
    }
    let enter = ["room", "enter", "stage", "--attribute", "host=bob", "--delay", "1m", "--timeout", "60s"];
    let mut bob = env.start("bob", &enter);
    online(&env, "bob", 1).await;
    let mut cai = env.start("cai", &["room", "enter", "stage", "--join", "--timeout", "60s"]);
    online(&env, "bob", 2).await;
    let partly = env.zim("cai", &["room", "attributes", "stage", "host=cai", "seat=1", "--plain"]).await;
    assert_eq!((partly.code, partly.stdout.trim()), (Some(5), "host=bob seat=1"));
    assert!(partly.stderr.contains("not changed: host"), "{}", partly.stderr);
    let force = ["room", "attributes", "stage", "host=cai", "--force", "--own", "--until-left", "--delete", "seat"];
    let forced = env.zim("cai", &force).await.json();
    assert_eq!(forced["roomAttributes"], json!({"host": "cai"}));
    for running in [&mut bob, &mut cai] {
        running.signal(rustix::process::Signal::INT);
        running.finish().await;
    }
    // Who interrupts the command leaves. The room waits for its end, and cai is not in it.
    let refused = env.zim("cai", &["room", "count", "stage"]).await.fails(5);
    assert!(refused.contains("6000321"), "{refused}");
    env.end().await;
}

#[tokio::test]
async fn the_history_of_a_room_is_shown_to_those_who_are_in_it() {
    let env = TestEnv::with(|config| config.rooms.history = true).await;
    for user in ["bob", "cai"] {
        env.login(user).await;
    }
    let mut bob = env.start("bob", &["room", "enter", "stage", "--timeout", "60s"]);
    online(&env, "bob", 1).await;
    let shown = env.zim("bob", &["room", "history", "stage", "--plain"]).await.ok().stdout;
    assert_eq!(shown.trim(), "There are no messages in the room stage.");
    for text in ["one", "two", "three"] {
        env.zim("bob", &["room", "send", "stage", text]).await.ok();
    }
    let texts = async |arguments: &[&str]| -> Vec<String> {
        let ran = env.zim("bob", &[&["room", "history", "stage", "--json"], arguments].concat()).await.ok();
        all(&ran).iter().map(|message| message["message"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(texts(&[]).await, ["one", "two", "three"]);
    assert_eq!(texts(&["-n", "2"]).await, ["two", "three"]);
    assert_eq!(texts(&["--before", "3", "-n", "1"]).await, ["two"]);
    assert_eq!(texts(&["--after", "1"]).await, ["two", "three"]);
    let refused = env.zim("cai", &["room", "history", "stage"]).await.fails(5);
    assert!(refused.contains("6000321"), "{refused}");
    bob.signal(rustix::process::Signal::INT);
    bob.finish().await;
    env.end().await;
}

#[tokio::test]
async fn a_device_in_a_room_takes_commands() {
    let env = TestEnv::new().await;
    for user in ["bob", "cai"] {
        env.login(user).await;
    }
    let mut bob = env.start("bob", &["room", "enter", "stage", "--commands", "--plain", "--timeout", "60s"]);
    online(&env, "bob", 1).await;
    // It ends with the second change, which is one event.
    let mut cai = env.start("cai", &["room", "enter", "stage", "--join", "--json", "--count", "4", "--timeout", "60s"]);
    online(&env, "bob", 2).await;
    bob.write("/set song=Blackbird seat=bob\n\n/nonsense\n/set song=Yesterday -seat\n").await;
    let heard = all(&cai.finish().await.ok());
    assert_eq!(heard[2]["name"], "roomAttributesUpdated");
    assert_eq!(heard[3]["name"], "roomAttributesBatchUpdated");
    let infos = heard[3]["infos"].as_array().unwrap();
    assert_eq!(infos[0]["roomAttributes"], json!({"song": "Yesterday"}));
    assert_eq!(infos[1]["roomAttributes"], json!({"seat": "bob"}));
    bob.write("/switch hall\n").await;
    env.until(async || env.zim("bob", &["room", "count", "hall"]).await.code == Some(0)).await;
    bob.write("/leave-all\n").await;
    let bob = bob.finish_with_open_input().await.ok();
    assert!(bob.stderr.contains("\"/nonsense\" is no command"), "{}", bob.stderr);
    let is_state =
        |line: &&String| ["entering", "you are in it", "you have left"].iter().any(|end| line.ends_with(end));
    let lines = bob.lines();
    let states: Vec<&str> = lines.iter().filter(is_state).filter_map(|line| Some(line.split_once("  ")?.1)).collect();
    let expected = [
        "room stage: entering",
        "room stage: you are in it",
        "room hall: entering",
        "room hall: you are in it",
        "room stage: you have left",
        "room hall: you have left",
    ];
    assert_eq!(states, expected);
    // Who leaves has not seen as many events as they wanted.
    let arguments = ["room", "enter", "stage", "--commands", "--count", "99", "--timeout", "60s"];
    let mut bob = env.start("bob", &arguments);
    online(&env, "bob", 1).await;
    bob.write("/leave-all\n").await;
    let failed = bob.finish_with_open_input().await;
    assert!(failed.code != Some(0) && failed.stderr.contains("has left all rooms after"), "{}", failed.stderr);
    // Another command leaves all rooms of the user.
    let mut cai = env.start("cai", &["room", "enter", "hall", "--timeout", "60s"]);
    env.until(async || env.zim("cai", &["room", "count", "hall"]).await.code == Some(0)).await;
    let left = env.zim("cai", &["room", "leave", "--all", "--plain"]).await.ok().stdout;
    assert_eq!(left.trim(), "You have left: hall.");
    cai.finish().await;
    let none = env.zim("cai", &["room", "leave", "--all", "--plain"]).await.ok().stdout;
    assert_eq!(none.trim(), "You are in no room.");
    env.end().await;
}

#[tokio::test]
async fn a_room_is_created_only_if_there_is_none() {
    let env = TestEnv::new().await;
    for user in ["bob", "cai"] {
        env.login(user).await;
    }
    let create = ["room", "create", "stage", "--name", "The stage", "--attribute", "host=bob", "--timeout", "60s"];
    let mut bob = env.start("bob", &create);
    online(&env, "bob", 1).await;
    let shown = env.zim("bob", &["room", "attributes", "stage", "--plain"]).await.ok().stdout;
    assert_eq!(shown.trim(), "host=bob");
    let refused = env.zim("cai", &["room", "create", "stage", "--timeout", "60s"]).await.fails(5);
    assert!(refused.contains("6000323"), "{refused}");
    // Who enters does not mind.
    let mut cai = env.start("cai", &["room", "enter", "stage", "--timeout", "60s"]);
    online(&env, "bob", 2).await;
    for running in [&mut bob, &mut cai] {
        running.signal(rustix::process::Signal::INT);
        running.finish().await;
    }
    env.end().await;
}
