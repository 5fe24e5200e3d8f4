//! The local search for friends.

use zim_integration_tests::{DataDir, Device, World, refusal, soon};
use zim_protocol::{
    ConnectionState, ErrorCode, Event, FriendAddConfig, FriendDeleteConfig, FriendSearchConfig, FriendsSearchedResult,
};

use crate::friend::friends;

async fn search(device: &Device, config: FriendSearchConfig) -> FriendsSearchedResult {
    soon(device.search_local_friends(config)).await.unwrap()
}

fn asking(keywords: &[&str], with_alias: bool) -> FriendSearchConfig {
    FriendSearchConfig {
        next_flag: 0,
        count: 30,
        keywords: keywords.iter().map(|keyword| (*keyword).to_owned()).collect(),
        is_also_match_friend_alias: with_alias,
    }
}

/// The ids of the users found.
async fn found(device: &Device, keywords: &[&str], with_alias: bool) -> Vec<String> {
    let found = search(device, asking(keywords, with_alias)).await;
    assert_eq!(found.next_flag, 0);
    found.friend_info_list.into_iter().map(|friend| friend.user_id).collect()
}

/// Registers users with names and adds them as friends with aliases; the last is the newest friend.
async fn add_friends(world: &World, device: &Device, people: &[(&str, &str, &str)]) {
    for (user_id, name, alias) in people {
        let user = world.user(user_id).await;
        soon(user.update_user_name(name)).await.unwrap();
        soon(user.logout()).await;
        let config = FriendAddConfig { friend_alias: (*alias).to_owned(), ..FriendAddConfig::default() };
        soon(device.add_friend(user_id, config)).await.unwrap();
    }
}

#[tokio::test]
async fn search_local_friends_finds_names_and_optionally_aliases() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let people = [("u1", "Robert Straße", "Bob"), ("u2", "張偉", "同事 小张"), ("u3", "BOB", "")];
    add_friends(&world, &ann, &people).await;
    // A user who is not a friend.
    let other = world.user("bob").await;
    soon(other.update_user_name("Bob too")).await.unwrap();
    other.say("ann", "hi").await;
    ann.receives("hi").await;
    assert_eq!(found(&ann, &["bob"], false).await, ["u3"]);
    assert_eq!(found(&ann, &["bob"], true).await, ["u3", "u1"]);
    assert_eq!(found(&ann, &["偉"], false).await, ["u2"]);
    assert_eq!(found(&ann, &["張偉"], false).await, ["u2"]);
    assert_eq!(found(&ann, &["小张"], false).await, [""; 0]);
    assert_eq!(found(&ann, &["小张"], true).await, ["u2"]);
    assert_eq!(found(&ann, &["STRASSE"], false).await, ["u1"]);
    assert_eq!(found(&ann, &["STRAẞE"], false).await, ["u1"]);
    // All keywords must match, each the name or the alias.
    assert_eq!(found(&ann, &["rob", "aße"], false).await, ["u1"]);
    assert_eq!(found(&ann, &["bob", "robert"], true).await, ["u1"]);
    assert_eq!(found(&ann, &["bob", "robert"], false).await, [""; 0]);
    assert_eq!(found(&ann, &["bob\" OR \"a"], true).await, [""; 0]);
    // Results carry all fields.
    let whole = search(&ann, asking(&["bob"], true)).await.friend_info_list.remove(1);
    assert_eq!(
        (whole.user_id.as_str(), whole.user_name.as_str(), whole.friend_alias.as_str()),
        ("u1", "Robert Straße", "Bob")
    );
    world.end().await;
}

#[tokio::test]
async fn search_local_friends_ignores_case_and_the_encoding_of_letters() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    add_friends(&world, &ann, &[("u1", "GROẞ", ""), ("u2", "Zoe\u{308}", ""), ("u3", "Zoë", "각")]).await;
    assert_eq!(found(&ann, &["groß"], false).await, ["u1"]);
    for keyword in ["zoë", "ZOE\u{308}", "ë"] {
        assert_eq!(found(&ann, &[keyword], false).await, ["u3", "u2"], "{keyword:?}");
    }
    assert_eq!(found(&ann, &["\u{1100}\u{1161}\u{11a8}"], true).await, ["u3"]);
    assert_eq!(found(&ann, &["zoe"], false).await, [""; 0]);
    world.end().await;
}

#[tokio::test]
async fn search_local_friends_follows_aliases_and_the_list() {
    let mut world = World::new().await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    add_friends(&world, &phone, &[("u1", "Robert", "Bob"), ("u2", "Roberta", "")]).await;
    soon(phone.update_friend_alias("小张", "u1")).await.unwrap();
    soon(phone.delete_friends(["u2"], FriendDeleteConfig::default())).await.unwrap();
    // A new device finds everything after its login.
    let tablet = world.login(world.client_at(DataDir::default(), |config| config), "ann").await;
    phone.say("u1", "done").await;
    laptop.receives("done").await;
    assert_eq!(friends(&laptop).await, ["u1"]);
    world.stop_server().await;
    for device in [&phone, &laptop, &tablet] {
        device
            .until("the end of the connection", |seen| {
                let is_it = |event: &Event| {
                    matches!(event, Event::ConnectionStateChanged(changed)
                        if changed.state() == ConnectionState::Reconnecting)
                };
                seen.iter().any(is_it).then_some(())
            })
            .await;
        // The search works without a server.
        assert_eq!(found(device, &["小"], true).await, ["u1"]);
        assert_eq!(found(device, &["bob"], true).await, [""; 0]);
        assert_eq!(found(device, &["rob"], true).await, ["u1"]);
    }
    world.end().await;
}

#[tokio::test]
async fn search_local_friends_pages_and_checks_its_limits() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    world.register((0..32).map(|number| format!("u{number:02}"))).await;
    for number in 0..32 {
        let user_id = format!("u{number:02}");
        let config = FriendAddConfig { friend_alias: format!("friend {number}"), ..FriendAddConfig::default() };
        soon(ann.add_friend(&user_id, config)).await.unwrap();
    }
    let mut config = asking(&["friend", "f", "r", "i", "e"], true);
    let first = search(&ann, config.clone()).await;
    assert_eq!(first.friend_info_list.len(), 30);
    config.next_flag = first.next_flag;
    let second = search(&ann, config.clone()).await;
    let all: Vec<String> =
        first.friend_info_list.into_iter().chain(second.friend_info_list).map(|friend| friend.user_id).collect();
    let expected: Vec<String> = (0..32).rev().map(|number| format!("u{number:02}")).collect();
    assert_eq!((all, second.next_flag), (expected, 0));
    config.next_flag = 0;
    let bad = [
        FriendSearchConfig { count: 0, ..config.clone() },
        FriendSearchConfig { count: 31, ..config.clone() },
        FriendSearchConfig { keywords: Vec::new(), ..config.clone() },
        FriendSearchConfig { keywords: vec!["f".to_owned(); 6], ..config.clone() },
        FriendSearchConfig { keywords: vec!["f".to_owned(), String::new()], ..config.clone() },
        FriendSearchConfig { keywords: vec!["x".repeat(257)], ..config.clone() },
    ];
    for config in bad {
        let refused = soon(ann.search_local_friends(config.clone())).await;
        assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid, "{config:?}");
    }
    config.keywords = vec!["x".repeat(256)];
    assert!(search(&ann, config).await.friend_info_list.is_empty());
    world.end().await;
}
