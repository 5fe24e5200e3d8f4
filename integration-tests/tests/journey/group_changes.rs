//! What a group is and what its members are changes while a device is away, and on a second device.

use zim_integration_tests::{Device, World, group, soon};
use zim_protocol::{
    Event, EventKind, GroupAdvancedConfig, GroupAttributesUpdateAction, GroupEvent, GroupInfo, GroupMemberEvent,
    GroupMemberMuteConfig, GroupMuteConfig,
};

async fn create(owner: &Device, users: &[&str]) {
    let info = GroupInfo { group_id: "crew".into(), group_name: "The crew".into(), ..GroupInfo::default() };
    soon(owner.create_group(info, users.iter().copied(), GroupAdvancedConfig::default())).await.unwrap();
}

/// What a device was told about the group, in order, in short.
fn told(device: &Device) -> Vec<String> {
    let of = |event: Event| match event {
        Event::GroupNameUpdated(event) => Some(format!("name {}", event.group_name)),
        Event::GroupNoticeUpdated(event) => Some(format!("notice {}", event.group_notice)),
        Event::GroupAttributesUpdated(event) => {
            let is_set = event.info_list[0].action() == GroupAttributesUpdateAction::Set;
            let mut keys: Vec<_> = event.info_list[0].group_attributes.keys().cloned().collect();
            keys.sort();
            Some(format!("{} {}", if is_set { "set" } else { "delete" }, keys.join(",")))
        }
        Event::GroupMutedInfoUpdated(event) => Some(format!("mute {}", event.muted_info.unwrap().mode)),
        Event::GroupMemberInfoUpdated(event) => {
            let of = |user: zim_protocol::GroupMemberInfo| format!("{}={}", user.user_id, user.member_role);
            Some(event.user_list.into_iter().map(of).collect::<Vec<_>>().join(","))
        }
        Event::GroupMessageReceived(event) => Some(format!("{} messages", event.message_list.len())),
        _ => None,
    };
    device.seen().into_iter().filter_map(of).collect()
}

async fn change(ann: &Device) {
    soon(ann.update_group_name("One", "crew")).await.unwrap();
    soon(ann.set_group_attributes([("a", "1"), ("b", "2")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(), "crew"))
        .await
        .unwrap();
    soon(ann.set_group_member_role(2, "bob", "crew")).await.unwrap();
    soon(ann.update_group_name("Two", "crew")).await.unwrap();
    soon(ann.delete_group_attributes(["a"], "crew")).await.unwrap();
    soon(ann.update_group_notice("be kind", "crew")).await.unwrap();
    soon(ann.mute_group(true, "crew", GroupMuteConfig::default())).await.unwrap();
    soon(ann.mute_group(false, "crew", GroupMuteConfig::default())).await.unwrap();
    soon(ann.transfer_group_owner("bob", "crew")).await.unwrap();
}

const CHANGES: [&str; 9] =
    ["name One", "set a,b", "bob=2", "name Two", "delete a", "notice be kind", "mute 2", "mute 0", "ann=3,bob=1"];

#[tokio::test]
async fn a_device_that_was_away_is_told_each_change_in_its_order() {
    let world = World::new().await;
    let (ann, phone, tablet) = (world.user("ann").await, world.user("bob").await, world.device("bob").await);
    create(&ann, &["bob"]).await;
    ann.say(group("crew"), "1").await;
    for device in [&phone, &tablet] {
        device.receives("1").await;
    }
    tablet.quit().await;
    let dir = tablet.dir();
    world.clock.advance(1_000);
    change(&ann).await;
    ann.say(group("crew"), "2").await;
    phone.receives("2").await;
    let live: Vec<String> = CHANGES.iter().map(|change| (*change).to_owned()).collect();
    assert_eq!(told(&phone), [vec!["1 messages".to_owned()], live.clone(), vec!["1 messages".to_owned()]].concat());

    world.clock.advance(1_000);
    let tablet = world.user_at(dir, "bob").await;
    tablet.receives("2").await;
    tablet
        .until("all changes", |seen| {
            let changes = seen.iter().filter(|event| event.kind() == EventKind::GroupMemberInfoUpdated).count();
            (changes >= 2).then_some(())
        })
        .await;
    let roles_are_those_of_now = ["bob=1".to_owned(), "ann=3,bob=1".to_owned()];
    let caught_up: Vec<String> =
        told(&tablet).into_iter().filter(|one| !one.contains("messages") && !one.contains('=')).collect();
    let without_roles: Vec<String> = live.iter().filter(|one| !one.contains('=')).cloned().collect();
    assert_eq!(caught_up, without_roles);
    let roles: Vec<String> = told(&tablet).into_iter().filter(|one| one.contains('=')).collect();
    assert_eq!(roles, roles_are_those_of_now);
    // The copies agree, also that of a fresh device, which is told nothing of the past.
    let new = world.device("bob").await;
    for device in [&phone, &tablet, &new] {
        assert_eq!(device.conversation(group("crew")).await.conversation_name, "Two");
    }
    assert!(told(&new).iter().all(|one| one.contains("messages")), "{:?}", told(&new));
    world.end().await;
}

#[tokio::test]
async fn a_device_that_was_away_knows_that_its_user_may_not_write() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, &["bob"]).await;
    ann.say(group("crew"), "1").await;
    bob.receives("1").await;
    let dir = bob.dir();
    bob.quit().await;
    world.clock.advance(1_000);
    let end = world.clock.now_ms() + 60_000;
    soon(ann.mute_group_members(true, ["bob"], "crew", GroupMemberMuteConfig { duration: 60 })).await.unwrap();
    let bob = world.user_at(dir, "bob").await;
    match bob.next(EventKind::GroupMemberInfoUpdated).await {
        Event::GroupMemberInfoUpdated(event) => assert_eq!(event.user_list[0].mute_expired_time, end),
        other => panic!("{other:?}"),
    }
    assert_eq!(bob.conversation(group("crew")).await.muted_expired_time, end);
    let dir = bob.dir();
    bob.quit().await;
    // The mute ends while the member is away.
    world.clock.advance(60_000);
    let bob = world.user_at(dir, "bob").await;
    bob.say(group("crew"), "2").await;
    assert_eq!(bob.conversation(group("crew")).await.muted_expired_time, 0);
    world.end().await;
}

/// What a role was is not known any more when a device returns.
#[tokio::test]
async fn a_device_that_was_away_is_not_told_of_the_roles_of_those_who_left() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    create(&ann, &["bob", "cai"]).await;
    ann.say(group("crew"), "1").await;
    bob.receives("1").await;
    let dir = bob.dir();
    bob.quit().await;
    world.clock.advance(1_000);
    soon(ann.transfer_group_owner("cai", "crew")).await.unwrap();
    soon(cai.set_group_member_nickname("Cai", "cai", "crew")).await.unwrap();
    soon(cai.leave_group("crew")).await.unwrap();
    let bob = world.user_at(dir, "bob").await;
    // It comes after the changes of Cai.
    bob.until("Cai leaves", |seen| {
        let left = seen.iter().rev().find(|event| event.kind() == EventKind::GroupMemberStateChanged)?;
        matches!(left, Event::GroupMemberStateChanged(left) if left.event() == GroupMemberEvent::Left).then_some(())
    })
    .await;
    let roles: Vec<String> = told(&bob).into_iter().filter(|one| one.contains('=') || one.is_empty()).collect();
    assert!(!roles.is_empty() && roles.iter().all(|one| one == "ann=1"), "{roles:?}");
    world.end().await;
}

/// A user who is out learns nothing of the members that are left, and not what the group became.
#[tokio::test]
async fn a_device_whose_user_was_removed_is_told_of_nobodys_role() {
    let world = World::new().await;
    let (ann, bob, _cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    create(&ann, &["bob", "cai"]).await;
    ann.say(group("crew"), "1").await;
    bob.receives("1").await;
    let dir = bob.dir();
    bob.quit().await;
    world.clock.advance(1_000);
    soon(ann.set_group_member_role(2, "cai", "crew")).await.unwrap();
    soon(ann.kick_group_members(["bob"], "crew")).await.unwrap();
    soon(ann.set_group_attributes([("plan".to_owned(), "without Bob".to_owned())].into(), "crew")).await.unwrap();
    let bob = world.user_at(dir, "bob").await;
    // It comes after the change of the role.
    match bob.next(EventKind::GroupStateChanged).await {
        Event::GroupStateChanged(event) => {
            assert_eq!(event.event(), GroupEvent::KickedOut);
            assert!(event.group_info.unwrap().group_attributes.is_empty());
        }
        other => panic!("{other:?}"),
    }
    assert!(bob.seen_of(EventKind::GroupMemberInfoUpdated).is_empty(), "{:?}", told(&bob));
    world.end().await;
}
