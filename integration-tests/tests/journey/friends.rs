//! Friends of somebody who is away, or has more than one device.

use std::collections::BTreeMap;

use zim_integration_tests::{Device, Home, World, eventually, soon};
use zim_protocol::{
    Event, FriendAddConfig, FriendApplicationAcceptConfig, FriendApplicationInfo, FriendApplicationListQueryConfig,
    FriendApplicationSendConfig, FriendApplicationState, FriendDeleteConfig, FriendInfo, FriendListChangeAction,
    FriendListQueryConfig, LoginConfig,
};

/// What the events said last of each friend, `None` if he went; and of each application.
type Told = (BTreeMap<String, Option<FriendInfo>>, BTreeMap<String, FriendApplicationInfo>);

fn told(seen: &[Event]) -> Told {
    let (mut friends, mut applications) = Told::default();
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

fn is_told(device: &Device) -> bool {
    let (friends, applications) = told(&device.seen());
    !friends.is_empty() || !applications.is_empty()
}

/// Both lists, as this device has them.
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
async fn who_was_away_is_told_what_became_of_his_friends() {
    let world = World::new().await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    let (bob, carl) = (world.user("bob").await, world.user("carl").await);
    let (dora, emil) = (world.user("dora").await, world.user("emil").await);
    for friend in ["bob", "carl"] {
        add(&phone, friend).await;
    }
    eventually("both friends", async || (told(&laptop.seen()).0.len() == 2).then_some(())).await;
    let home = laptop.home();
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
    let laptop = world.user_at(home, "ann").await;
    let (friends, applications) = told(&laptop.seen());
    // It is told what is, not what was meanwhile: Carl went and came back.
    let names: Vec<&str> = friends.keys().map(String::as_str).collect();
    assert_eq!(names, ["bob", "carl", "dora"]);
    assert_eq!(applications.keys().map(String::as_str).collect::<Vec<_>>(), ["carl", "emil"]);
    let live = phone
        .until("the same on the phone", |seen| {
            let live = told(&seen[before..]);
            (live.0 == friends && live.1 == applications).then_some(live)
        })
        .await;
    assert_eq!(live.0["bob"].as_ref().unwrap().friend_alias, "Bobby");
    assert_eq!(lists(&phone).await, lists(&laptop).await);
    // A new device knows all of it, and was told none of it.
    let tablet = world.user_at(Home::default(), "ann").await;
    assert!(!is_told(&tablet));
    let online = lists(&tablet).await;
    assert_eq!(online, lists(&phone).await);
    drop((bob, emil));
    world.end().await;
}

#[tokio::test]
async fn without_a_connection_the_own_copy_answers() {
    let mut world = World::with(|config| config.limits.friend_application_valid_s = 60).await;
    let ann = world.user("ann").await;
    for friend in ["bob", "carl", "dora"] {
        world.raw_user(friend, 9).await.end().await;
        add(&ann, friend).await;
    }
    let emil = world.user("emil").await;
    apply(&emil, "ann").await;
    soon(ann.update_friend_alias("Bobby", "bob")).await.unwrap();
    ann.until("the application", |seen| (told(seen).1.len() == 1).then_some(())).await;
    let (friends, applications) = lists(&ann).await;
    assert_eq!((friends.len(), applications[0].state()), (3, FriendApplicationState::Waiting));
    let first = soon(ann.query_friend_list(FriendListQueryConfig { next_flag: 0, count: 2 })).await.unwrap();
    let home = ann.home();
    ann.quit().await;
    soon(emil.logout()).await;
    let (login, config) = (world.with_token("ann"), world.client_config());
    world.stop_server().await;
    let ann = Device::make(config, home);
    soon(ann.login("ann", LoginConfig { is_offline_login: true, ..login })).await.unwrap();
    assert_eq!(lists(&ann).await, (friends.clone(), applications));
    let page = soon(ann.query_friend_list(FriendListQueryConfig { next_flag: 0, count: 2 })).await.unwrap();
    assert_eq!(page, first, "pages mean the same");
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
