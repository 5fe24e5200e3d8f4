//! Friends and applications, with devices that are away and several devices of a user.

use std::collections::BTreeMap;

use zim_integration_tests::{DataDir, Device, World, eventually, soon};
use zim_protocol::{
    ConnectionState, Event, EventKind, FriendAddConfig, FriendApplicationAcceptConfig, FriendApplicationInfo,
    FriendApplicationListQueryConfig, FriendApplicationSendConfig, FriendApplicationState, FriendDeleteConfig,
    FriendInfo, FriendListChangeAction, FriendListQueryConfig, LoginConfig,
};

/// The last event of each friend, `None` if it was deleted, and of each application.
type Changes = (BTreeMap<String, Option<FriendInfo>>, BTreeMap<String, FriendApplicationInfo>);

fn changes(seen: &[Event]) -> Changes {
    let (mut friends, mut applications) = Changes::default();
    let mut applied = |list: &[FriendApplicationInfo]| {
        for info in list {
            applications.insert(info.apply_user.as_ref().unwrap().user_id.clone(), info.clone());
        }
    };
    for event in seen {
        match event {
            Event::FriendListChanged(event) => {
                let is_there = event.action() == FriendListChangeAction::Added;
                let list = event.friend_list.iter();
                friends.extend(list.map(|info| (info.user_id.clone(), is_there.then(|| info.clone()))));
            }
            Event::FriendInfoUpdated(event) => {
                friends.extend(event.friend_list.iter().map(|info| (info.user_id.clone(), Some(info.clone()))));
            }
            Event::FriendApplicationListChanged(event) => applied(&event.application_list),
            Event::FriendApplicationUpdated(event) => applied(&event.application_list),
            _ => {}
        }
    }
    (friends, applications)
}

fn has_events(device: &Device) -> bool {
    let (friends, applications) = changes(&device.seen());
    !friends.is_empty() || !applications.is_empty()
}

/// Both lists, as the device shows them.
async fn lists(device: &Device) -> (Vec<FriendInfo>, Vec<FriendApplicationInfo>) {
    let friends = device.query_friend_list(FriendListQueryConfig { next_flag: 0, count: 100 });
    let friends = soon(friends).await.unwrap().friend_list;
    let config = FriendApplicationListQueryConfig { next_flag: 0, count: 100 };
    let applications = soon(device.query_friend_application_list(config)).await.unwrap().application_list;
    (friends, applications)
}

async fn add(device: &Device, user_id: &str) {
    soon(device.add_friend(user_id, FriendAddConfig::default())).await.unwrap();
}

async fn apply(device: &Device, user_id: &str) {
    soon(device.send_friend_application(user_id, FriendApplicationSendConfig::default())).await.unwrap();
}

#[tokio::test]
async fn a_device_that_was_away_receives_the_changes_of_its_friends() {
    let world = World::new().await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    let (bob, carl) = (world.user("bob").await, world.user("carl").await);
    let (dora, emil) = (world.user("dora").await, world.user("emil").await);
    for friend in ["bob", "carl"] {
        add(&phone, friend).await;
    }
    eventually("both friends", async || (changes(&laptop.seen()).0.len() == 2).then_some(())).await;
    let dir = laptop.dir();
    laptop.quit().await;
    let before = phone.seen().len();
    world.clock.advance(1_000);
    soon(phone.update_friend_alias("Bobby", "bob")).await.unwrap();
    soon(carl.delete_friends(["ann"], FriendDeleteConfig::default())).await.unwrap();
    add(&dora, "ann").await;
    apply(&emil, "ann").await;
    apply(&phone, "carl").await;
    soon(carl.accept_friend_application("ann", FriendApplicationAcceptConfig::default())).await.unwrap();
    soon(dora.delete_friends(["ann"], FriendDeleteConfig::default())).await.unwrap();
    add(&dora, "ann").await;
    let laptop = world.user_at(dir, "ann").await;
    let (friends, applications) = changes(&laptop.seen());
    // It raises the present state, not the steps to it: carl was deleted and added again.
    let names: Vec<&str> = friends.keys().map(String::as_str).collect();
    assert_eq!(names, ["bob", "carl", "dora"]);
    assert_eq!(applications.keys().map(String::as_str).collect::<Vec<_>>(), ["carl", "emil"]);
    let live = phone
        .until("the same on the phone", |seen| {
            let live = changes(&seen[before..]);
            (live.0 == friends && live.1 == applications).then_some(live)
        })
        .await;
    assert_eq!(live.0["bob"].as_ref().unwrap().friend_alias, "Bobby");
    assert_eq!(lists(&phone).await, lists(&laptop).await);
    // A new device has everything and raises no event for it.
    let tablet = world.user_at(DataDir::default(), "ann").await;
    assert!(!has_events(&tablet));
    let online = lists(&tablet).await;
    assert_eq!(online, lists(&phone).await);
    drop((bob, emil));
    world.end().await;
}

#[tokio::test]
async fn an_alias_names_the_conversation_on_every_device_in_any_order() {
    let mut world = World::new().await;
    let (phone, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    let config = FriendAddConfig { friend_alias: "Bobby".to_owned(), ..FriendAddConfig::default() };
    soon(phone.add_friend("bob", config)).await.unwrap();
    // A conversation that is created after the alias has it from the beginning.
    bob.say("ann", "hello").await;
    for device in [&phone, &laptop] {
        device.receives("hello").await;
        assert_eq!(device.conversation("bob").await.conversation_alias, "Bobby");
    }
    let dir = laptop.dir();
    laptop.quit().await;
    soon(phone.update_friend_alias("Robert", "bob")).await.unwrap();
    let laptop = world.user_at(dir, "ann").await;
    let updates = laptop.seen().into_iter().filter_map(|event| match event {
        Event::ConversationChanged(event) => event.info_list.into_iter().find_map(|info| info.conversation),
        _ => None,
    });
    assert_eq!(updates.map(|shown| shown.conversation_alias).collect::<Vec<_>>(), ["Robert"]);
    let tablet = world.user_at(DataDir::default(), "ann").await;
    for device in [&phone, &laptop, &tablet] {
        assert_eq!(device.conversation("bob").await.conversation_alias, "Robert");
    }
    // Without a server, after a restart of the device.
    let dir = tablet.dir();
    tablet.quit().await;
    let (login, config) = (world.with_token("ann"), world.client_config());
    world.stop_server().await;
    let tablet = Device::with_config(config, dir.clone());
    soon(tablet.login("ann", LoginConfig { is_offline_login: true, ..login })).await.unwrap();
    assert_eq!(tablet.conversation("bob").await.conversation_alias, "Robert");
    tablet.quit().await;
    world.start_server().await;
    // Bob ends the friendship while the tablet is away, which removes the alias.
    let deletes = async || soon(bob.delete_friends(["ann"], FriendDeleteConfig::default())).await.ok();
    world.advance_until("the end of a friendship", deletes).await;
    let tablet = world.user_at(dir, "ann").await;
    assert_eq!(tablet.conversation("bob").await.conversation_alias, "");
    assert_eq!(bob.conversation("ann").await.conversation_alias, "");
    world.end().await;
}

#[tokio::test]
async fn a_lost_connection_loses_no_changes_of_friends() {
    let world = World::with(|config| config.limits.offline_after_ms = 2_000).await;
    let proxy = world.proxy(1).await;
    let (laptop, phone) = (world.user_via(&proxy, "ann").await, world.user("ann").await);
    let (bob, carl) = (world.user("bob").await, world.user("carl").await);
    add(&phone, "bob").await;
    laptop.until("a friend", |seen| (changes(seen).0.len() == 1).then_some(())).await;
    let (before, on_phone) = (laptop.seen().len(), phone.seen().len());
    proxy.cut();
    soon(phone.update_friend_alias("Bobby", "bob")).await.unwrap();
    soon(bob.update_user_name("Robert")).await.unwrap();
    add(&carl, "ann").await;
    world.raw_user("dora", 1).await.end().await;
    apply(&phone, "dora").await;
    soon(phone.add_users_to_blacklist(["carl"])).await.unwrap();
    let is_over = |event: &Event| matches!(event, Event::ConnectionStateChanged(changed) if changed.state() == ConnectionState::Reconnecting);
    laptop.until("the end of the connection", |seen| seen.iter().any(is_over).then_some(())).await;
    proxy.restore();
    let is_all = |seen: &[Event]| {
        let (friends, applications) = changes(seen);
        let bob = friends.get("bob").cloned().flatten();
        let is_bob = bob.is_some_and(|bob| bob.friend_alias == "Bobby" && bob.user_name == "Robert");
        let is_blocked = seen.iter().any(|event| matches!(event, Event::BlacklistChanged(_)));
        let is_there = friends.contains_key("carl") && applications.contains_key("dora");
        (is_bob && is_blocked && is_there).then_some((friends, applications))
    };
    let on_laptop = world.advance_until("all changes", async || is_all(&laptop.seen()[before..])).await;
    let on_phone = phone.until("all changes", |seen| is_all(&seen[on_phone..])).await;
    assert_eq!(on_laptop, on_phone);
    assert_eq!(lists(&laptop).await, lists(&phone).await);
    let blocked = |device: &Device| device.seen_of(EventKind::BlacklistChanged).len();
    assert_eq!((blocked(&laptop), blocked(&phone), blocked(&carl), blocked(&bob)), (1, 1, 0, 0));
    world.end().await;
}

#[tokio::test]
async fn without_a_connection_friend_queries_use_the_local_copy() {
    let mut world = World::with(|config| config.limits.friend_application_valid_s = 60).await;
    let ann = world.user("ann").await;
    world.register(["bob", "carl", "dora"]).await;
    for friend in ["bob", "carl", "dora"] {
        add(&ann, friend).await;
    }
    let emil = world.user("emil").await;
    apply(&emil, "ann").await;
    soon(ann.update_friend_alias("Bobby", "bob")).await.unwrap();
    ann.until("the application", |seen| (changes(seen).1.len() == 1).then_some(())).await;
    let (friends, applications) = lists(&ann).await;
    assert_eq!((friends.len(), applications[0].state()), (3, FriendApplicationState::Waiting));
    let first = soon(ann.query_friend_list(FriendListQueryConfig { next_flag: 0, count: 2 })).await.unwrap();
    let dir = ann.dir();
    ann.quit().await;
    soon(emil.logout()).await;
    let (login, config) = (world.with_token("ann"), world.client_config());
    world.stop_server().await;
    let ann = Device::with_config(config, dir);
    soon(ann.login("ann", LoginConfig { is_offline_login: true, ..login })).await.unwrap();
    assert_eq!(lists(&ann).await, (friends.clone(), applications));
    let page = soon(ann.query_friend_list(FriendListQueryConfig { next_flag: 0, count: 2 })).await.unwrap();
    assert_eq!(page, first, "online and offline pages match");
    let config = FriendListQueryConfig { next_flag: page.next_flag, count: 2 };
    let rest = soon(ann.query_friend_list(config)).await.unwrap();
    assert_eq!((rest.friend_list.as_slice(), rest.next_flag), (&friends[2..], 0));
    let found = soon(ann.query_friends_info(["bob", "emil"])).await.unwrap();
    assert_eq!(
        (found.friend_infos[0].friend_alias.as_str(), found.error_user_list[0].user_id.as_str()),
        ("Bobby", "emil")
    );
    world.clock.advance(60_000);
    assert_eq!(lists(&ann).await.1[0].state(), FriendApplicationState::Expired);
    ann.quit().await;
    world.start_server().await;
    world.end().await;
}
