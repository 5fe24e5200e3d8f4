//! Members of a group: invitations, roles, nicknames and mutes.

use zim_integration_tests::{Device, World, group, refusal, soon};
use zim_protocol::{
    ErrorCode, Event, EventKind, GroupAdvancedConfig, GroupEnterType, GroupEvent, GroupMemberEvent, GroupMemberInfo,
    GroupMemberMuteConfig, GroupMemberQueryConfig, GroupMuteConfig, GroupMuteInfo, GroupMuteMode, GroupState, Message,
    MuteGroupRequest, SetGroupMemberRoleRequest,
};

use crate::group::{create, info, members, state};

const NOT_IN: ErrorCode = ErrorCode::GroupModuleUserIsNotInTheGroup;
const NONE: ErrorCode = ErrorCode::GroupModuleGroupDoesNotExist;
const NOT_ALLOWED: ErrorCode = ErrorCode::GroupModuleGroupNoCorrespondingOperationAuthority;
const INVALID: ErrorCode = ErrorCode::CommonModuleParamsInvalid;

/// Each member's role, in the order of their IDs.
pub(crate) async fn roles(device: &Device, group_id: &str) -> Vec<(String, i64)> {
    let config = GroupMemberQueryConfig { next_flag: 0, count: 100 };
    let list = soon(device.query_group_member_list(group_id, config)).await.unwrap().user_list;
    let mut roles: Vec<_> = list.into_iter().map(|member| (member.user_id, member.member_role)).collect();
    roles.sort();
    roles
}

/// Who changed, and who did it, in each change of members that a device saw.
fn updates(device: &Device) -> Vec<(Vec<GroupMemberInfo>, String)> {
    let of = |event: Event| match event {
        Event::GroupMemberInfoUpdated(event) => (event.user_list, event.operated_info.unwrap().user_id),
        other => panic!("{other:?}"),
    };
    device.seen_of(EventKind::GroupMemberInfoUpdated).into_iter().map(of).collect()
}

async fn barrier(from: &Device, to: &[&Device], text: &str) {
    from.say(group("all"), text).await;
    for device in to {
        device.receives(text).await;
    }
}

async fn can_write(device: &Device, group_id: &str) -> bool {
    match soon(device.send_to(group(group_id), Message::text("?"))).await {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.code(), NOT_ALLOWED);
            false
        }
    }
}

pub(crate) fn seconds(duration: i64) -> GroupMemberMuteConfig {
    GroupMemberMuteConfig { duration }
}

#[tokio::test]
async fn invite_users_into_group_brings_them_in_at_once() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    let cai_too = world.device("cai").await;
    create(&ann, "crew", &["bob"]).await;
    for device in [&ann, &bob] {
        while members(device).await.0 != GroupMemberEvent::Invited {}
    }
    let invited = soon(bob.invite_users_into_group(["cai", "nobody", "ann"], "crew")).await.unwrap();
    let [new] = &invited.user_list[..] else { panic!("{invited:?}") };
    let enter = new.group_enter_info.clone().unwrap();
    assert_eq!((new.user_id.as_str(), new.member_role, enter.enter_type()), ("cai", 3, GroupEnterType::Invited));
    assert_eq!(enter.operated_user.unwrap().user_id, "bob");
    let failed: Vec<_> = invited.error_user_list.iter().map(|user| (user.user_id.as_str(), user.reason)).collect();
    let already = ErrorCode::GroupModuleMemberIsAlreadyInTheGroup;
    assert_eq!(failed[1], ("ann", i64::from(already as i32)));
    assert_eq!((failed.len(), failed[0].0), (2, "nobody"));
    for device in [&cai, &cai_too] {
        assert_eq!(state(device).await, (GroupState::Enter, GroupEvent::Invited, "bob".into()));
    }
    for device in [&ann, &bob, &cai, &cai_too] {
        assert_eq!(members(device).await, (GroupMemberEvent::Invited, vec!["cai".to_owned()], "bob".into()));
    }
    assert_eq!(refusal(soon(bob.invite_users_into_group(["ann", "cai"], "crew")).await), already);
    let stranger = world.user("dan").await;
    assert_eq!(refusal(soon(stranger.invite_users_into_group(["eve"], "crew")).await), NOT_IN);
    let unknown = refusal(soon(ann.invite_users_into_group(["eve"], "crew")).await);
    assert_eq!(unknown, ErrorCode::CommonModuleUserIsNotExist);
    assert_eq!(refusal(soon(stranger.invite_users_into_group(["dan"], "crew")).await), NOT_IN);
    assert_eq!(refusal(soon(ann.invite_users_into_group(["dan"], "none")).await), NONE);
    for count in [0, 101] {
        let users = (0..count).map(|index| format!("u{index}"));
        assert_eq!(refusal(soon(ann.invite_users_into_group(users, "crew")).await), INVALID);
    }
    world.end().await;
}

#[tokio::test]
async fn invite_users_into_group_stops_at_the_cap_and_at_the_groups_of_a_user() {
    let world = World::with(|config| config.limits.max_groups = 2).await;
    let ann = world.user("ann").await;
    for user in ["bob", "cai", "dan", "eve"] {
        world.user(user).await;
    }
    let config = GroupAdvancedConfig { max_member_count: 3, ..GroupAdvancedConfig::default() };
    soon(ann.create_group(info("crew"), [""; 0], config)).await.unwrap();
    create(&ann, "other", &["bob"]).await;
    let bob = world.device("bob").await;
    create(&bob, "his", &[]).await;
    let invited = soon(ann.invite_users_into_group(["bob", "cai", "dan", "eve"], "crew")).await.unwrap();
    let entered: Vec<_> = invited.user_list.iter().map(|user| user.user_id.as_str()).collect();
    assert_eq!(entered, ["cai", "dan"]);
    let failed: Vec<_> = invited.error_user_list.iter().map(|user| (user.user_id.as_str(), user.reason)).collect();
    let reason = |code: ErrorCode| i64::from(code as i32);
    let full = ErrorCode::GroupModuleGroupMemberHasReachedLimit;
    assert_eq!(failed, [("bob", reason(ErrorCode::GroupModuleJoinGroupError)), ("eve", reason(full))]);
    assert_eq!(refusal(soon(ann.invite_users_into_group(["eve"], "crew")).await), full);
    assert_eq!(soon(ann.query_group_member_count("crew")).await.unwrap().count, 3);
    world.end().await;
}

#[tokio::test]
async fn transfer_group_owner_makes_the_old_owner_a_member() {
    let world = World::new().await;
    let (ann, bob, dan) = (world.user("ann").await, world.user("bob").await, world.user("dan").await);
    let tablet = world.device("bob").await;
    create(&ann, "crew", &["bob"]).await;
    create(&ann, "all", &["bob", "dan"]).await;
    assert_eq!(refusal(soon(bob.transfer_group_owner("bob", "crew")).await), NOT_ALLOWED);
    assert_eq!(refusal(soon(ann.transfer_group_owner("ann", "crew")).await), INVALID);
    for other in ["dan", "nobody"] {
        assert_eq!(refusal(soon(ann.transfer_group_owner(other, "crew")).await), NOT_IN);
    }
    assert_eq!(refusal(soon(dan.transfer_group_owner("bob", "crew")).await), NOT_IN);
    assert_eq!(refusal(soon(ann.transfer_group_owner("bob", "none")).await), NONE);
    let result = soon(ann.transfer_group_owner("bob", "crew")).await.unwrap();
    assert_eq!((result.group_id.as_str(), result.to_user_id.as_str()), ("crew", "bob"));
    barrier(&ann, &[&bob, &tablet, &dan], "given").await;
    for device in [&ann, &bob, &tablet] {
        let [(users, by)] = &updates(device)[..] else { panic!() };
        let users: Vec<_> = users.iter().map(|user| (user.user_id.as_str(), user.member_role)).collect();
        assert_eq!((users, by.as_str()), (vec![("ann", 3), ("bob", 1)], "ann"));
    }
    assert!(updates(&dan).is_empty());
    assert_eq!(roles(&ann, "crew").await, [("ann".to_owned(), 3), ("bob".to_owned(), 1)]);
    assert_eq!(refusal(soon(ann.dismiss_group("crew")).await), NOT_ALLOWED);
    soon(bob.dismiss_group("crew")).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn set_group_member_role_takes_all_roles_but_the_owners() {
    let world = World::new().await;
    let (ann, bob, dan) = (world.user("ann").await, world.user("bob").await, world.user("dan").await);
    let tablet = world.device("bob").await;
    create(&ann, "crew", &["bob"]).await;
    create(&ann, "all", &["bob", "dan"]).await;
    let largest = 9_007_199_254_740_991;
    for role in [2, 2, largest, 3] {
        let result = soon(ann.set_group_member_role(role, "bob", "crew")).await.unwrap();
        assert_eq!((result.group_id.as_str(), result.for_user_id.as_str(), result.role), ("crew", "bob", role));
        assert_eq!(roles(&bob, "crew").await[1].1, role);
    }
    barrier(&ann, &[&bob, &tablet, &dan], "changed").await;
    for device in [&ann, &bob, &tablet] {
        let seen: Vec<_> =
            updates(device).into_iter().map(|(users, by)| (users[0].user_id.clone(), users.len(), by)).collect();
        assert_eq!(seen, vec![("bob".to_owned(), 1, "ann".to_owned()); 3], "the same role again is no change");
    }
    assert!(updates(&dan).is_empty());
    let mut raw = world.raw_user("ann", 2).await;
    for role in [1, 0, -5, largest + 1] {
        assert_eq!(refusal(soon(ann.set_group_member_role(role, "bob", "crew")).await), INVALID);
        let request = SetGroupMemberRoleRequest { role, for_user_id: "bob".into(), group_id: "crew".into() };
        assert_eq!(raw.call(&request).await.unwrap_err().code, INVALID as i32);
    }
    raw.end().await;
    assert_eq!(refusal(soon(ann.set_group_member_role(2, "ann", "crew")).await), NOT_ALLOWED);
    assert_eq!(refusal(soon(ann.set_group_member_role(2, "dan", "crew")).await), NOT_IN);
    assert_eq!(refusal(soon(dan.set_group_member_role(2, "bob", "crew")).await), NOT_IN);
    assert_eq!(refusal(soon(ann.set_group_member_role(2, "bob", "none")).await), NONE);
    world.end().await;
}

#[tokio::test]
async fn set_group_member_nickname_takes_100_characters() {
    let world = World::new().await;
    let (ann, bob, dan) = (world.user("ann").await, world.user("bob").await, world.user("dan").await);
    let tablet = world.device("bob").await;
    create(&ann, "crew", &["bob"]).await;
    create(&ann, "all", &["bob", "dan"]).await;
    let longest = "é".repeat(100);
    let result = soon(bob.set_group_member_nickname(&longest, "bob", "crew")).await.unwrap();
    assert_eq!((result.for_user_id.as_str(), &result.nickname), ("bob", &longest));
    soon(ann.set_group_member_nickname(&longest, "bob", "crew")).await.unwrap();
    barrier(&ann, &[&bob, &tablet, &dan], "named").await;
    for device in [&ann, &bob, &tablet] {
        let [(users, by)] = &updates(device)[..] else { panic!() };
        assert_eq!((users.len(), &users[0].member_nickname, by.as_str()), (1, &longest, "bob"));
    }
    assert!(updates(&dan).is_empty());
    let bad = format!("{longest}x");
    assert_eq!(refusal(soon(bob.set_group_member_nickname(&bad, "bob", "crew")).await), INVALID);
    assert_eq!(refusal(soon(ann.set_group_member_nickname("x", "dan", "crew")).await), NOT_IN);
    assert_eq!(refusal(soon(dan.set_group_member_nickname("x", "bob", "crew")).await), NOT_IN);
    assert_eq!(refusal(soon(ann.set_group_member_nickname("x", "bob", "none")).await), NONE);
    soon(ann.set_group_member_nickname("", "bob", "crew")).await.unwrap();
    let bob_now = soon(ann.query_group_member_info("bob", "crew")).await.unwrap().user_info.unwrap();
    assert_eq!(bob_now.member_nickname, "");
    world.end().await;
}

/// What the user's conversation says about writing.
async fn muted_until(device: &Device) -> i64 {
    device.conversation(group("crew")).await.muted_expired_time
}

#[tokio::test]
async fn mute_group_members_ends_by_itself() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    let (tablet, dan) = (world.device("bob").await, world.user("dan").await);
    create(&ann, "crew", &["bob", "cai"]).await;
    create(&ann, "all", &["bob", "cai", "dan"]).await;
    let minute = 60;
    let end = world.clock.now_ms() + minute * 1_000;
    let users = ["bob", "dan", "ann", "nobody"];
    let muted = soon(ann.mute_group_members(true, users, "crew", seconds(minute))).await.unwrap();
    assert_eq!(
        (muted.is_mute, muted.duration, &muted.muted_user_ids),
        (true, minute, &vec!["bob".into(), "ann".into()])
    );
    let failed: Vec<_> = muted.error_user_list.iter().map(|user| user.user_id.as_str()).collect();
    assert_eq!(failed, ["nobody", "dan"]);
    assert!(!can_write(&bob, "crew").await && !can_write(&ann, "crew").await && can_write(&cai, "crew").await);
    let command = soon(bob.send_to(group("crew"), Message::command(b"?".to_vec()))).await;
    assert_eq!(refusal(command), NOT_ALLOWED);
    barrier(&ann, &[&bob, &tablet, &cai, &dan], "muted").await;
    for device in [&ann, &bob, &tablet, &cai] {
        let [(users, by)] = &updates(device)[..] else { panic!() };
        let users: Vec<_> = users.iter().map(|user| (user.user_id.as_str(), user.mute_expired_time)).collect();
        assert_eq!((users, by.as_str()), (vec![("bob", end), ("ann", end)], "ann"));
    }
    assert!(updates(&dan).is_empty());
    for (device, until) in [(&bob, end), (&tablet, end), (&cai, 0)] {
        assert_eq!(muted_until(device).await, until);
    }
    assert_eq!(muted_until(&world.device("bob").await).await, end, "a fresh device knows it too");
    let list = async |next_flag, count| {
        let config = GroupMemberQueryConfig { next_flag, count };
        soon(cai.query_group_member_muted_list("crew", config)).await.unwrap()
    };
    let first = list(0, 1).await;
    assert_eq!((first.group_id.as_str(), first.user_list[0].user_id.as_str()), ("crew", "ann"));
    let second = list(first.next_flag, 1).await;
    assert_eq!((second.user_list[0].user_id.as_str(), second.next_flag), ("bob", 0));
    // Nothing happens when it ends, and then they may write.
    world.clock.advance(minute * 1_000 - 1);
    assert!(!can_write(&bob, "crew").await);
    world.clock.advance(1);
    assert!(can_write(&bob, "crew").await);
    assert_eq!(list(0, 100).await.user_list, []);
    let bob_now = soon(cai.query_group_member_info("bob", "crew")).await.unwrap().user_info.unwrap();
    assert_eq!(bob_now.mute_expired_time, 0);
    assert_eq!(updates(&cai).len(), 1);
    // For good, and then not any more.
    soon(ann.mute_group_members(true, ["bob"], "crew", seconds(-1))).await.unwrap();
    assert!(!can_write(&bob, "crew").await);
    assert_eq!(muted_until(&bob).await, -1);
    soon(ann.mute_group_members(false, ["bob"], "crew", seconds(0))).await.unwrap();
    assert!(can_write(&bob, "crew").await);
    world.end().await;
}

#[tokio::test]
async fn mute_group_members_has_bounds() {
    let world = World::new().await;
    let (ann, bob, dan) = (world.user("ann").await, world.user("bob").await, world.user("dan").await);
    create(&ann, "crew", &["bob"]).await;
    for bad in [0, -2, 604_801] {
        assert_eq!(refusal(soon(ann.mute_group_members(true, ["bob"], "crew", seconds(bad))).await), INVALID, "{bad}");
    }
    for good in [1, 604_800, -1] {
        soon(ann.mute_group_members(true, ["bob"], "crew", seconds(good))).await.unwrap();
    }
    for count in [0, 101] {
        let users = (0..count).map(|index| format!("u{index}"));
        assert_eq!(refusal(soon(ann.mute_group_members(true, users, "crew", seconds(1))).await), INVALID);
    }
    assert_eq!(refusal(soon(ann.mute_group_members(true, ["dan"], "crew", seconds(1))).await), NOT_IN);
    assert_eq!(refusal(soon(dan.mute_group_members(true, ["bob"], "crew", seconds(1))).await), NOT_IN);
    assert_eq!(refusal(soon(ann.mute_group_members(true, ["bob"], "none", seconds(1))).await), NONE);
    assert_eq!(refusal(soon(bob.mute_group_members(false, ["bob"], "crew", seconds(0))).await), NOT_ALLOWED);
    world.end().await;
}

#[tokio::test]
async fn query_group_member_muted_list_is_for_members() {
    let world = World::new().await;
    let (ann, dan) = (world.user("ann").await, world.user("dan").await);
    create(&ann, "crew", &[]).await;
    let page = |count| GroupMemberQueryConfig { next_flag: 0, count };
    assert_eq!(refusal(soon(dan.query_group_member_muted_list("crew", page(1))).await), NOT_IN);
    assert_eq!(refusal(soon(ann.query_group_member_muted_list("none", page(1))).await), NONE);
    for count in [0, 101] {
        assert_eq!(refusal(soon(ann.query_group_member_muted_list("crew", page(count))).await), INVALID);
    }
    assert_eq!(soon(ann.query_group_member_muted_list("crew", page(100))).await.unwrap().user_list, []);
    world.end().await;
}

pub(crate) fn mute(mode: GroupMuteMode, duration: i64, roles: &[i64]) -> GroupMuteConfig {
    GroupMuteConfig { mode: Some(mode as i32), duration: Some(duration), roles: roles.to_vec() }
}

#[tokio::test]
async fn mute_group_is_for_its_roles_and_ends_by_itself() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    let (kim, dan) = (world.user("kim").await, world.user("dan").await);
    create(&ann, "crew", &["bob", "cai", "kim"]).await;
    create(&ann, "all", &["bob", "cai", "kim", "dan"]).await;
    soon(ann.set_group_member_role(2, "bob", "crew")).await.unwrap();
    soon(ann.set_group_member_role(77, "kim", "crew")).await.unwrap();
    let writers = async || {
        let mut able = Vec::new();
        for (name, device) in [("ann", &ann), ("bob", &bob), ("cai", &cai), ("kim", &kim)] {
            if can_write(device, "crew").await {
                able.push(name);
            }
        }
        able
    };
    assert_eq!(writers().await, ["ann", "bob", "cai", "kim"]);
    let end = world.clock.now_ms() + 60_000;
    let mut expected = Vec::new();
    for (config, able) in [
        (mute(GroupMuteMode::Normal, 60, &[]), vec!["ann", "bob", "kim"]),
        (mute(GroupMuteMode::Custom, 60, &[77, 2]), vec!["ann", "cai"]),
        (mute(GroupMuteMode::All, 60, &[]), vec![]),
    ] {
        let result = soon(ann.mute_group(true, "crew", config.clone())).await.unwrap();
        let mut roles = config.roles.clone();
        roles.sort_unstable();
        let is = GroupMuteInfo { mode: config.mode.unwrap(), expired_time: end, roles };
        assert_eq!((result.group_id.as_str(), result.is_mute, result.muted_info.as_ref()), ("crew", true, Some(&is)));
        expected.push((is, "ann".to_owned()));
        assert_eq!(writers().await, able);
    }
    for device in [&ann, &bob, &cai, &kim] {
        // A refused message does not tell that the mute has arrived.
        device
            .until("three mutes", |seen| {
                let mutes = seen.iter().filter(|event| event.kind() == EventKind::GroupMutedInfoUpdated).count();
                (mutes >= 3).then_some(())
            })
            .await;
        assert_eq!(muted_until(device).await, end);
    }
    barrier(&ann, &[&bob, &cai, &kim, &dan], "muted").await;
    for device in [&ann, &bob, &cai, &kim] {
        let of = |event: Event| match event {
            Event::GroupMutedInfoUpdated(event) => (event.muted_info.unwrap(), event.operated_info.unwrap().user_id),
            other => panic!("{other:?}"),
        };
        let seen: Vec<_> = device.seen_of(EventKind::GroupMutedInfoUpdated).into_iter().map(of).collect();
        assert_eq!(seen, expected);
    }
    assert!(dan.seen_of(EventKind::GroupMutedInfoUpdated).is_empty());
    let muted_info = async || soon(dan.query_group_info("crew")).await.unwrap().group_info.unwrap().muted_info.unwrap();
    assert_eq!(muted_info().await, expected[2].0);
    world.clock.advance(60_000);
    assert_eq!(writers().await, ["ann", "bob", "cai", "kim"]);
    assert_eq!(muted_info().await, GroupMuteInfo::default());

    // Of a mute of the role and one of the member, the later end counts.
    soon(ann.mute_group(true, "crew", mute(GroupMuteMode::Normal, 60, &[]))).await.unwrap();
    soon(ann.mute_group_members(true, ["cai"], "crew", seconds(90))).await.unwrap();
    cai.next(EventKind::GroupMemberInfoUpdated).await;
    let (now, new) = (world.clock.now_ms(), world.device("cai").await);
    assert_eq!(muted_until(&new).await, now + 90_000);
    soon(ann.mute_group(true, "crew", GroupMuteConfig::default())).await.unwrap();
    assert_eq!(
        soon(ann.mute_group(false, "crew", GroupMuteConfig::default())).await.unwrap().muted_info,
        Some(GroupMuteInfo::default())
    );
    assert_eq!(writers().await, ["ann", "bob", "kim"]);
    world.end().await;
}

#[tokio::test]
async fn mute_group_has_bounds() {
    let world = World::new().await;
    let (ann, dan) = (world.user("ann").await, world.user("dan").await);
    create(&ann, "crew", &[]).await;
    let many: Vec<i64> = (100..121).collect();
    for bad in [
        mute(GroupMuteMode::None, 60, &[]),
        mute(GroupMuteMode::All, 0, &[]),
        mute(GroupMuteMode::All, -2, &[]),
        mute(GroupMuteMode::All, 604_801, &[]),
        mute(GroupMuteMode::Custom, 60, &[]),
        mute(GroupMuteMode::Custom, 60, &[3]),
        mute(GroupMuteMode::Custom, 60, &many),
    ] {
        assert_eq!(refusal(soon(ann.mute_group(true, "crew", bad.clone())).await), INVALID, "{bad:?}");
    }
    soon(ann.mute_group(true, "crew", mute(GroupMuteMode::Custom, 604_800, &many[..20]))).await.unwrap();
    let mut raw = world.raw_user("ann", 2).await;
    let config = Some(GroupMuteConfig { mode: Some(9), ..GroupMuteConfig::default() });
    let request = MuteGroupRequest { is_mute: true, group_id: "crew".into(), config };
    assert_eq!(raw.call(&request).await.unwrap_err().code, INVALID as i32);
    raw.end().await;
    assert_eq!(refusal(soon(dan.mute_group(true, "crew", GroupMuteConfig::default())).await), NOT_IN);
    assert_eq!(refusal(soon(ann.mute_group(true, "none", GroupMuteConfig::default())).await), NONE);
    world.end().await;
}
