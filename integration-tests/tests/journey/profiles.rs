//! Profile changes while devices are away.

use zim_integration_tests::{DataDir, Device, World, eventually, soon};
use zim_protocol::{
    ConversationEvent, Event, EventKind, FriendAddConfig, FriendDeleteConfig, FriendDeleteType, FriendSearchConfig,
    PlatformType, UpdateUserExtendedDataRequest, UpdateUserNameRequest, UserFullInfo, UserOfflinePushRule,
    UsersInfoQueryConfig,
};

use crate::assert_same;

/// The profile of a user that the device holds.
async fn known(device: &Device, user: &str) -> UserFullInfo {
    let held = soon(device.query_users_info([user], UsersInfoQueryConfig::default())).await.unwrap();
    held.user_list[0].clone()
}

fn rule() -> UserOfflinePushRule {
    UserOfflinePushRule {
        online_platforms: vec![PlatformType::Win as i32],
        not_to_receive_offline_push_platforms: vec![PlatformType::Android as i32],
    }
}

/// How often a device has raised a change of a conversation.
fn updates(device: &Device, peer: &str) -> usize {
    let infos = device.seen().into_iter().filter_map(|event| match event {
        Event::ConversationChanged(event) => Some(event.info_list),
        _ => None,
    });
    let is_it = |info: &zim_protocol::ConversationChangeInfo| {
        info.event() == ConversationEvent::Updated
            && info.conversation.as_ref().is_some_and(|conversation| conversation.conversation_id == peer)
    };
    infos.flatten().filter(is_it).count()
}

#[tokio::test]
async fn a_device_that_was_away_sees_new_names_without_a_message() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    ann.say("bob", "hello").await;
    carl.say("bob", "hello too").await;
    bob.receives("hello").await;
    bob.receives("hello too").await;
    let dir = bob.dir();
    bob.quit().await;
    // Longer than the margin within which changes are sent again.
    world.clock.advance(3_600_000);
    soon(ann.update_user_name("Ann")).await.unwrap();
    soon(ann.update_user_avatar_url("https://a/1.png")).await.unwrap();
    world.clock.advance(3_600_000);
    let bob = world.user_at(dir, "bob").await;
    let shown = bob.conversation("ann").await;
    assert_eq!((shown.conversation_name.as_str(), shown.conversation_avatar_url.as_str()), ("Ann", "https://a/1.png"));
    assert_eq!((updates(&bob, "ann"), updates(&bob, "carl")), (1, 0));
    // It is raised once, and not again at the next login.
    let dir = bob.dir();
    bob.quit().await;
    world.clock.advance(3_600_000);
    let bob = world.user_at(dir, "bob").await;
    assert_eq!((updates(&bob, "ann"), updates(&bob, "carl")), (0, 0));
    let tablet = world.user_at(DataDir::default(), "bob").await;
    assert_same(&bob, &tablet).await;
    world.end().await;
}

#[tokio::test]
async fn a_device_that_was_away_sees_a_new_name_after_the_servers_clock_was_set_back() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    ann.say("bob", "hello").await;
    bob.receives("hello").await;
    let dir = bob.dir();
    bob.quit().await;
    world.clock.jump(-7_200_000);
    soon(ann.update_user_name("Ann")).await.unwrap();
    world.clock.advance(3_600_000);
    let bob = world.user_at(dir, "bob").await;
    assert_eq!(bob.conversation("ann").await.conversation_name, "Ann");
    world.end().await;
}

/// The friends in `friendInfoUpdated` events of a device.
fn friends_seen(device: &Device) -> Vec<zim_protocol::FriendInfo> {
    let lists = device.seen().into_iter().filter_map(|event| match event {
        Event::FriendInfoUpdated(event) => Some(event.friend_list),
        _ => None,
    });
    lists.flatten().collect()
}

#[tokio::test]
async fn a_friends_profile_is_current_at_once_and_after_being_away() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    // Ann is on bob's friend list, bob is not on hers, and they have no conversation.
    soon(bob.add_friend("ann", FriendAddConfig::default())).await.unwrap();
    let both = FriendDeleteConfig { r#type: FriendDeleteType::Single as i32 };
    soon(ann.delete_friends(["bob"], both)).await.unwrap();
    soon(ann.update_user_name("Ann")).await.unwrap();
    bob.next(EventKind::FriendInfoUpdated).await;
    assert_eq!(friends_seen(&bob)[0].user_name, "Ann");
    let dir = bob.dir();
    bob.quit().await;
    world.clock.advance(3_600_000);
    soon(ann.update_user_avatar_url("https://a/1.png")).await.unwrap();
    soon(bob_renames(&world)).await;
    let bob = world.user_at(dir, "bob").await;
    let seen = friends_seen(&bob);
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].user_name.as_str(), seen[0].user_avatar_url.as_str()), ("Ann", "https://a/1.png"));
    assert!(friends_seen(&ann).is_empty(), "bob is not her friend");
    world.end().await;
}

/// Changes bob's name over a short connection.
async fn bob_renames(world: &World) {
    let mut bob = world.raw_user("bob", 9).await;
    bob.call(&UpdateUserNameRequest { user_name: "Bob".to_owned() }).await.unwrap();
    bob.end().await;
}

#[tokio::test]
async fn many_large_profiles_arrive_in_pages() {
    let world = World::with(|config| config.limits.max_user_extended_data_bytes = 32_768).await;
    let bob = world.user("bob").await;
    let names: Vec<String> = (0..25).map(|number| format!("peer{number}")).collect();
    for name in &names {
        world.user(name).await.say("bob", name).await;
        bob.receives(name).await;
    }
    let dir = bob.dir();
    bob.quit().await;
    world.clock.advance(3_600_000);
    for (number, name) in names.iter().enumerate() {
        let mut peer = world.raw_user(name, 1).await;
        let extended_data = format!("{number} {}", "x".repeat(32_000));
        peer.call(&UpdateUserExtendedDataRequest { extended_data }).await.unwrap();
        peer.end().await;
    }
    let bob = world.user_at(dir, "bob").await;
    for (number, name) in names.iter().enumerate() {
        let info = known(&bob, name).await;
        assert!(info.extended_data.starts_with(&format!("{number} x")), "{name}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_second_device_that_was_away_receives_changes_of_the_first() {
    let world = World::new().await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    let dir = laptop.dir();
    laptop.quit().await;
    soon(phone.update_user_name("Ann")).await.unwrap();
    soon(phone.update_user_name("Ann B.")).await.unwrap();
    soon(phone.update_user_offline_push_rule(rule())).await.unwrap();
    let laptop = world.user_at(dir, "ann").await;
    // The present state is raised once.
    let (infos, rules) = (laptop.seen_of(EventKind::UserInfoUpdated), laptop.seen_of(EventKind::UserRuleUpdated));
    assert_eq!((infos.len(), rules.len()), (1, 1));
    let Event::UserInfoUpdated(event) = &infos[0] else { panic!("{infos:?}") };
    assert_eq!(event.info.as_ref().unwrap().base_info.as_ref().unwrap().user_name, "Ann B.");
    let Event::UserRuleUpdated(event) = &rules[0] else { panic!("{rules:?}") };
    assert_eq!(event.user_rule.as_ref().unwrap().offline_push_rule, Some(rule()));
    // A new device holds it and raises nothing: it has no earlier state.
    let tablet = world.user_at(DataDir::default(), "ann").await;
    assert!(tablet.seen_of(EventKind::UserInfoUpdated).is_empty());
    assert!(tablet.seen_of(EventKind::UserRuleUpdated).is_empty());
    assert_eq!(known(&tablet, "ann").await, known(&phone, "ann").await);
    world.end().await;
}

#[tokio::test]
async fn a_lost_connection_loses_no_profile() {
    let world = World::with(|config| config.limits.offline_after_ms = 2_000).await;
    let proxy = world.proxy(1).await;
    let (bob, phone) = (world.user_via(&proxy, "bob").await, world.user("bob").await);
    let ann = world.user("ann").await;
    ann.say("bob", "hello").await;
    bob.receives("hello").await;
    proxy.cut();
    soon(ann.update_user_name("Ann")).await.unwrap();
    soon(phone.update_user_name("Bob")).await.unwrap();
    soon(phone.update_user_offline_push_rule(rule())).await.unwrap();
    proxy.restore();
    eventually("the profiles", async || {
        let names = [known(&bob, "ann").await, known(&bob, "bob").await];
        let names = names.map(|info| info.base_info.unwrap().user_name);
        (names == ["Ann", "Bob"]).then_some(())
    })
    .await;
    bob.next(EventKind::UserInfoUpdated).await;
    bob.next(EventKind::UserRuleUpdated).await;
    assert_eq!(bob.conversation("ann").await.conversation_name, "Ann");
    world.end().await;
}

#[tokio::test]
async fn a_call_whose_future_is_dropped_takes_effect_here_as_well() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    // The server does not push to the device that made the change: the device has it from the answer alone.
    drop(ann.update_user_name("Ann"));
    drop(ann.add_friend("bob", FriendAddConfig { friend_alias: "Bobby".to_owned(), ..FriendAddConfig::default() }));
    eventually("the friend is in the local copy", async || {
        let keywords = vec!["bobby".to_owned()];
        let config = FriendSearchConfig { keywords, count: 10, is_also_match_friend_alias: true, next_flag: 0 };
        (ann.search_local_friends(config).await.unwrap().friend_info_list.len() == 1).then_some(())
    })
    .await;
    assert_eq!(known(&ann, "ann").await.base_info.unwrap().user_name, "Ann");
    world.end().await;
}
