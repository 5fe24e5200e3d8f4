//! What the operator asks about users, groups and rooms, and what they do with groups, without being a member.

use std::collections::HashMap;

use tonic::Code;
use zim_integration_tests::{Device, OperatorClient, World, eventually, group, refusal, soon, texts};
use zim_protocol::message::Body;
use zim_protocol::{
    BanUserRequest, CreateAppRequest, DismissServerGroupRequest, ErrorCode, Event, EventKind, GetGroupRequest,
    GroupAdvancedConfig, GroupEvent, GroupMemberEvent, GroupMemberQueryConfig, GroupMuteConfig, GroupState,
    KickServerGroupMembersRequest, ListGroupMembersRequest, ListGroupsRequest, ListRoomMembersRequest,
    ListUsersRequest, Message, RegisterUserRequest, TipsMessageEvent, UserRow,
};

use crate::group::{create, info, is_disabled, members, state};
use crate::room;

const NONE: ErrorCode = ErrorCode::GroupModuleGroupDoesNotExist;
const NOT_IN: ErrorCode = ErrorCode::GroupModuleUserIsNotInTheGroup;

async fn register(operator: &mut OperatorClient, app_id: u32, user_ids: &[&str]) {
    for user_id in user_ids {
        let user_name = format!("The {user_id}");
        let request = RegisterUserRequest { app_id, user_id: (*user_id).into(), user_name };
        soon(operator.register_user(request)).await.unwrap();
    }
}

/// Another app of the server.
async fn other_app(operator: &mut OperatorClient) -> u32 {
    let request = CreateAppRequest { app_id: 0, name: "other".into() };
    soon(operator.create_app(request)).await.unwrap().into_inner().app_id
}

fn users(world: &World, prefix: &str, after: &str, count: u32) -> ListUsersRequest {
    ListUsersRequest { app_id: world.app_id(), after: after.into(), count, prefix: prefix.into() }
}

/// All users whose IDs begin like this, and on how many pages of `count` they are.
async fn all_users(world: &World, prefix: &str, count: u32) -> (Vec<UserRow>, usize) {
    let mut operator = world.admin().await;
    let (mut found, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = soon(operator.list_users(users(world, prefix, &after, count))).await.unwrap().into_inner();
        found.extend(page.users);
        (after, pages) = (page.next, pages + 1);
        if after.is_empty() {
            return (found, pages);
        }
    }
}

fn ids(users: &[UserRow]) -> Vec<&str> {
    users.iter().map(|user| user.user_id.as_str()).collect()
}

#[tokio::test]
async fn list_users_pages_in_the_order_of_the_bytes_of_their_ids() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let app_id = world.app_id();
    // A language would sort them without regard to case and punctuation.
    register(&mut operator, app_id, &["ab", "b", "a_c", "A", "a", "aB", "B", "~", "1", "a-b"]).await;
    let other = other_app(&mut operator).await;
    register(&mut operator, other, &["a0", "aa"]).await;
    let sorted = ["1", "A", "B", "a", "a-b", "aB", "a_c", "ab", "b", "~"];
    let (found, pages) = all_users(&world, "", 3).await;
    assert_eq!((ids(&found), pages), (sorted.to_vec(), 4));
    assert_eq!(found[3].user_name, "The a");
    assert!(found.iter().all(|user| user.registered_at == world.clock.now_ms()), "{found:?}");
    let (found, pages) = all_users(&world, "", 5).await;
    assert_eq!((ids(&found), pages), (sorted.to_vec(), 2), "a full page is the last one if nothing is left");
    // The user whose ID is the beginning itself comes first.
    for (prefix, count, expected, pages) in [
        ("a", 2, &["a", "a-b", "aB", "a_c", "ab"][..], 3),
        ("a", 0, &["a", "a-b", "aB", "a_c", "ab"], 1),
        ("ab", 1, &["ab"], 1),
        ("~", 1, &["~"], 1),
        ("x", 1, &[], 1),
    ] {
        let found = all_users(&world, prefix, count).await;
        assert_eq!((ids(&found.0), found.1), (expected.to_vec(), pages), "{prefix}");
    }
    for (bad, code) in [
        (users(&world, "", "", 101), Code::InvalidArgument),
        (users(&world, "", &"x".repeat(33), 1), Code::InvalidArgument),
        (users(&world, &"x".repeat(33), "", 1), Code::InvalidArgument),
        (users(&world, "", "a b", 1), Code::InvalidArgument),
        (users(&world, "a/", "", 1), Code::InvalidArgument),
        (users(&world, "b", "a", 1), Code::InvalidArgument),
        (ListUsersRequest { app_id: 1, ..users(&world, "", "", 1) }, Code::NotFound),
    ] {
        assert_eq!(soon(operator.list_users(bad.clone())).await.unwrap_err().code(), code, "{bad:?}");
    }
    // What is at the limits is accepted, and where a page begins need not exist.
    let longest = "x".repeat(32);
    let page = soon(operator.list_users(users(&world, &longest, &longest, 100))).await.unwrap().into_inner();
    assert!(page.users.is_empty() && page.next.is_empty());
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn list_users_has_a_hundred_on_a_page() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let names: Vec<String> = (0..101).map(|number| format!("u{number:03}")).collect();
    register(&mut operator, world.app_id(), &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for count in [0, 100] {
        let page = soon(operator.list_users(users(&world, "", "", count))).await.unwrap().into_inner();
        assert_eq!((page.users.len(), page.next.as_str()), (100, "u099"));
    }
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn list_users_says_who_is_online_and_who_is_banned() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let app_id = world.app_id();
    register(&mut operator, app_id, &["never"]).await;
    let (_ann, bob) = (world.user("ann").await, world.user("bob").await);
    let row = async |user_id: &str| all_users(&world, user_id, 1).await.0.remove(0);
    assert!(row("ann").await.is_online && row("bob").await.is_online);
    world.clock.advance(60_000);
    soon(bob.logout()).await;
    let gone = eventually("bob is away", async || Some(row("bob").await).filter(|row| !row.is_online)).await;
    assert!(gone.seen_at >= world.clock.now_ms() && row("ann").await.seen_at < gone.seen_at);
    let never = row("never").await;
    assert_eq!((never.is_online, never.seen_at, never.is_banned), (false, 0, false));
    let ban = BanUserRequest { app_id, user_id: "ann".into(), seconds: 60 };
    soon(operator.ban_user(ban)).await.unwrap();
    soon(operator.ban_user(BanUserRequest { app_id, user_id: "bob".into(), seconds: 0 })).await.unwrap();
    let ann = eventually("ann is away", async || Some(row("ann").await).filter(|row| !row.is_online)).await;
    assert!(ann.is_banned && row("bob").await.is_banned);
    // A ban ends by itself.
    world.clock.advance(60_000);
    assert!(!row("ann").await.is_banned && row("bob").await.is_banned);
    drop(operator);
    world.end().await;
}

fn groups(world: &World, after: &str, count: u32) -> ListGroupsRequest {
    ListGroupsRequest { app_id: world.app_id(), after: after.into(), count }
}

#[tokio::test]
async fn list_groups_pages_from_the_newest_without_those_that_were_dismissed() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let mut operator = world.admin().await;
    for (number, group_id) in (1..).zip(["c", "gone", "a", "b", "left", "d"]) {
        create(if number % 2 == 0 { &bob } else { &ann }, group_id, &[]).await;
        world.clock.advance(1_000);
    }
    // A conversation of another kind is no group.
    ann.say("bob", "hi").await;
    soon(bob.dismiss_group("gone")).await.unwrap();
    soon(ann.leave_group("left")).await.unwrap();
    soon(ann.invite_users_into_group(["bob"], "a")).await.unwrap();
    soon(ann.transfer_group_owner("bob", "a")).await.unwrap();
    let (mut found, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = soon(operator.list_groups(groups(&world, &after, 3))).await.unwrap().into_inner();
        found.extend(page.groups);
        (after, pages) = (page.next, pages + 1);
        // A group that is made meanwhile is on no later page.
        create(&ann, &format!("later{pages}"), &[]).await;
        if after.is_empty() {
            break;
        }
    }
    let rows: Vec<_> = found
        .iter()
        .map(|row| (row.group_id.as_str(), row.group_name.as_str(), row.owner_user_id.as_str(), row.members))
        .collect();
    let expected =
        [("d", "The d", "bob", 1), ("b", "The b", "bob", 1), ("a", "The a", "bob", 2), ("c", "The c", "ann", 1)];
    assert_eq!((rows, pages), (expected.to_vec(), 2));
    assert_eq!(found[0].created_at - found[3].created_at, 5_000);
    // A full page is the last one if nothing is left.
    let page = soon(operator.list_groups(groups(&world, "", 6))).await.unwrap().into_inner();
    assert_eq!((page.groups.len(), page.next.as_str()), (6, ""));
    let other = other_app(&mut operator).await;
    let of_other = ListGroupsRequest { app_id: other, ..ListGroupsRequest::default() };
    assert!(soon(operator.list_groups(of_other)).await.unwrap().into_inner().groups.is_empty());
    for (bad, code) in [
        (groups(&world, "", 101), Code::InvalidArgument),
        (groups(&world, &"1".repeat(21), 1), Code::InvalidArgument),
        (groups(&world, "99999999999999999999", 1), Code::InvalidArgument),
        (groups(&world, "c", 1), Code::InvalidArgument),
        (groups(&world, "0", 1), Code::InvalidArgument),
        (groups(&world, "-1", 1), Code::InvalidArgument),
        (ListGroupsRequest { app_id: 1, ..groups(&world, "", 1) }, Code::NotFound),
    ] {
        assert_eq!(soon(operator.list_groups(bad.clone())).await.unwrap_err().code(), code, "{bad:?}");
    }
    assert_eq!(soon(operator.list_groups(groups(&world, "", 100))).await.unwrap().into_inner().groups.len(), 6);
    drop(operator);
    world.end().await;
}

fn named(app_id: u32, group_id: &str) -> GetGroupRequest {
    GetGroupRequest { app_id, group_id: group_id.into() }
}

#[tokio::test]
async fn get_group_says_what_it_is_to_who_is_no_member() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let mut operator = world.admin().await;
    let config = GroupAdvancedConfig {
        group_notice: "be kind".into(),
        group_attributes: HashMap::from([("color".to_owned(), "red".to_owned())]),
        max_member_count: 7,
        join_mode: 2,
        ..GroupAdvancedConfig::default()
    };
    soon(ann.create_group(info("crew"), ["bob"], config)).await.unwrap();
    soon(ann.mute_group(true, "crew", GroupMuteConfig { duration: Some(60), ..Default::default() })).await.unwrap();
    soon(ann.update_group_alias("mine", "crew")).await.unwrap();
    let app_id = world.app_id();
    let found = soon(operator.get_group(named(app_id, "crew"))).await.unwrap().into_inner();
    assert_eq!((found.owner_user_id.as_str(), found.members), ("ann", 2));
    let about = found.group_info.unwrap();
    let base = about.base_info.unwrap();
    assert_eq!((base.group_id.as_str(), base.group_name.as_str()), ("crew", "The crew"));
    assert_eq!((about.group_notice.as_str(), about.group_attributes["color"].as_str()), ("be kind", "red"));
    assert_eq!((about.max_member_count, about.verify_info.unwrap().join_mode), (7, 2));
    assert_eq!((about.group_alias.as_str(), about.create_time > 0), ("", true));
    assert_eq!(about.muted_info.unwrap().expired_time, world.clock.now_ms() + 60_000);
    // The mute has ended.
    world.clock.advance(60_000);
    let found = soon(operator.get_group(named(app_id, "crew"))).await.unwrap().into_inner();
    assert_eq!(found.group_info.unwrap().muted_info.unwrap().expired_time, 0);
    soon(ann.transfer_group_owner("bob", "crew")).await.unwrap();
    let found = soon(operator.get_group(named(app_id, "crew"))).await.unwrap().into_inner();
    assert_eq!(found.owner_user_id, "bob");
    create(&ann, "gone", &[]).await;
    soon(ann.dismiss_group("gone")).await.unwrap();
    let other = other_app(&mut operator).await;
    for (bad, code) in [
        (named(app_id, "none"), Code::FailedPrecondition),
        (named(app_id, "gone"), Code::FailedPrecondition),
        // A user is no group.
        (named(app_id, "ann"), Code::FailedPrecondition),
        (named(other, "crew"), Code::FailedPrecondition),
        (named(app_id, ""), Code::InvalidArgument),
        (named(app_id, &"x".repeat(33)), Code::InvalidArgument),
        (named(1, "crew"), Code::NotFound),
    ] {
        assert_eq!(soon(operator.get_group(bad.clone())).await.unwrap_err().code(), code, "{bad:?}");
    }
    drop(operator);
    world.end().await;
}

fn members_of(world: &World, group_id: &str, after: &str, count: u32) -> ListGroupMembersRequest {
    ListGroupMembersRequest { app_id: world.app_id(), group_id: group_id.into(), after: after.into(), count }
}

#[tokio::test]
async fn list_group_members_pages_in_the_order_in_which_they_entered() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    register(&mut operator, world.app_id(), &["e", "d", "c", "b"]).await;
    let ann = world.user("ann").await;
    create(&ann, "crew", &["e", "d", "c"]).await;
    soon(ann.invite_users_into_group(["b"], "crew")).await.unwrap();
    soon(ann.set_group_member_role(2, "d", "crew")).await.unwrap();
    let (mut found, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = soon(operator.list_group_members(members_of(&world, "crew", &after, 2))).await.unwrap().into_inner();
        // Who leaves meanwhile moves nobody from page to page.
        if pages == 0 {
            soon(ann.kick_group_members(["e"], "crew")).await.unwrap();
        }
        found.extend(page.members);
        (after, pages) = (page.next, pages + 1);
        if after.is_empty() {
            break;
        }
    }
    let roles: Vec<_> = found.iter().map(|member| (member.user_id.as_str(), member.member_role)).collect();
    assert_eq!((roles, pages), (vec![("ann", 1), ("e", 3), ("d", 2), ("c", 3), ("b", 3)], 3));
    assert_eq!(found[4].group_enter_info.as_ref().unwrap().operated_user.as_ref().unwrap().user_id, "ann");
    let page = soon(operator.list_group_members(members_of(&world, "crew", "", 0))).await.unwrap().into_inner();
    assert_eq!((page.members.len(), page.next.as_str()), (4, ""));
    create(&ann, "gone", &[]).await;
    soon(ann.dismiss_group("gone")).await.unwrap();
    for (bad, code) in [
        (members_of(&world, "none", "", 1), Code::FailedPrecondition),
        (members_of(&world, "gone", "", 1), Code::FailedPrecondition),
        (members_of(&world, "", "", 1), Code::InvalidArgument),
        (members_of(&world, "crew", "", 101), Code::InvalidArgument),
        (members_of(&world, "crew", "d", 1), Code::InvalidArgument),
        (members_of(&world, "crew", "-1", 1), Code::InvalidArgument),
        (members_of(&world, "crew", &"1".repeat(21), 1), Code::InvalidArgument),
        (ListGroupMembersRequest { app_id: 1, ..members_of(&world, "crew", "", 1) }, Code::NotFound),
    ] {
        assert_eq!(soon(operator.list_group_members(bad.clone())).await.unwrap_err().code(), code, "{bad:?}");
    }
    assert!(soon(operator.list_group_members(members_of(&world, "crew", "", 100))).await.is_ok());
    drop(operator);
    world.end().await;
}

fn dismissal(app_id: u32, group_id: &str) -> DismissServerGroupRequest {
    DismissServerGroupRequest { app_id, group_id: group_id.into() }
}

#[tokio::test]
async fn dismiss_server_group_tells_all_members_and_those_who_were_away() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    create(&ann, "crew", &["bob", "cai"]).await;
    ann.say(group("crew"), "hi").await;
    for device in [&bob, &cai] {
        device.receives("hi").await;
        assert_eq!(state(device).await.1, GroupEvent::Invited);
    }
    assert_eq!(state(&ann).await.1, GroupEvent::Created);
    let dir = cai.dir();
    cai.quit().await;
    let (mut operator, app_id) = (world.admin().await, world.app_id());
    let done = soon(operator.dismiss_server_group(dismissal(app_id, "crew"))).await.unwrap().into_inner();
    assert_eq!(done.group_id, "crew");
    let cai = world.user_at(dir, "cai").await;
    for device in [&ann, &bob, &cai] {
        // The operator is no user.
        assert_eq!(state(device).await, (GroupState::Quit, GroupEvent::Dismissed, String::new()));
        is_disabled(device, "crew").await;
        assert_eq!(texts(&device.history(group("crew")).await), ["hi"]);
        assert_eq!(refusal(soon(device.send_to(group("crew"), Message::text("?"))).await), NONE);
    }
    // The ID is not free.
    let again = soon(ann.create_group(info("crew"), [""; 0], GroupAdvancedConfig::default())).await;
    assert_eq!(refusal(again), ErrorCode::GroupModuleCreateGroupWithDismissed);
    create(&ann, "other", &[]).await;
    let app = other_app(&mut operator).await;
    for (bad, code) in [
        (dismissal(app_id, "crew"), Code::FailedPrecondition),
        (dismissal(app_id, "none"), Code::FailedPrecondition),
        (dismissal(app, "other"), Code::FailedPrecondition),
        (dismissal(app_id, ""), Code::InvalidArgument),
        (dismissal(app_id, &"x".repeat(33)), Code::InvalidArgument),
        (dismissal(1, "other"), Code::NotFound),
    ] {
        assert_eq!(soon(operator.dismiss_server_group(bad.clone())).await.unwrap_err().code(), code, "{bad:?}");
    }
    ann.say(group("other"), "still here").await;
    drop(operator);
    world.end().await;
}

fn removal(app_id: u32, group_id: &str, user_ids: &[&str]) -> KickServerGroupMembersRequest {
    let user_ids = user_ids.iter().map(|user| (*user).to_owned()).collect();
    KickServerGroupMembersRequest { app_id, group_id: group_id.into(), user_ids }
}

/// Each member's role, in the order in which they entered.
async fn roles(device: &Device) -> Vec<(String, i64)> {
    let config = GroupMemberQueryConfig { next_flag: 0, count: 100 };
    let list = soon(device.query_group_member_list("crew", config)).await.unwrap().user_list;
    list.into_iter().map(|member| (member.user_id, member.member_role)).collect()
}

#[tokio::test]
async fn kick_server_group_members_removes_them_whatever_their_role() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    let (dan, mut operator) = (world.user("dan").await, world.admin().await);
    create(&ann, "crew", &["bob", "cai", "dan"]).await;
    soon(ann.set_group_member_role(2, "bob", "crew")).await.unwrap();
    for device in [&bob, &cai, &dan] {
        assert_eq!(state(device).await.1, GroupEvent::Invited);
        while members(device).await.0 != GroupMemberEvent::Invited {}
    }
    let app_id = world.app_id();
    let request = removal(app_id, "crew", &["bob", "nobody", "bob", "eve"]);
    register(&mut operator, app_id, &["eve"]).await;
    let done = soon(operator.kick_server_group_members(request)).await.unwrap().into_inner();
    assert_eq!((done.group_id.as_str(), done.kicked_user_ids), ("crew", vec!["bob".to_owned()]));
    let failed: Vec<_> = done.error_user_list.iter().map(|user| (user.user_id.as_str(), user.reason)).collect();
    let reason = |code: ErrorCode| i64::from(code as i32);
    let unknown = ErrorCode::CommonModuleUserIsNotExist;
    assert_eq!(failed, [("nobody", reason(unknown)), ("eve", reason(NOT_IN))]);
    assert_eq!(state(&bob).await, (GroupState::Quit, GroupEvent::KickedOut, String::new()));
    for device in [&bob, &cai, &dan] {
        assert_eq!(members(device).await, (GroupMemberEvent::KickedOut, vec!["bob".to_owned()], String::new()));
    }
    assert_eq!(refusal(soon(bob.send_to(group("crew"), Message::text("?"))).await), NOT_IN);
    is_disabled(&bob, "crew").await;
    // Without the owner, the earliest of the others is the owner. One who is away learns of it later.
    let dir = dan.dir();
    dan.quit().await;
    soon(operator.kick_server_group_members(removal(app_id, "crew", &["ann"]))).await.unwrap();
    let dan = world.user_at(dir, "dan").await;
    for device in [&cai, &dan] {
        assert_eq!(members(device).await, (GroupMemberEvent::KickedOut, vec!["ann".to_owned()], String::new()));
        let (heir, operated_by) = loop {
            let Event::GroupMemberInfoUpdated(event) = device.next(EventKind::GroupMemberInfoUpdated).await else {
                panic!("another event")
            };
            if event.user_list[0].member_role == 1 {
                break (event.user_list[0].user_id.clone(), event.operated_info.unwrap().user_id);
            }
        };
        assert_eq!((heir.as_str(), operated_by.as_str()), ("cai", ""));
    }
    assert_eq!(roles(&dan).await, [("cai".to_owned(), 1), ("dan".to_owned(), 3)]);
    soon(cai.update_group_name("Ours", "crew")).await.unwrap();
    // The removed may return, and a group ends with its last members.
    soon(ann.join_group("crew")).await.unwrap();
    soon(operator.kick_server_group_members(removal(app_id, "crew", &["dan", "cai", "ann"]))).await.unwrap();
    for device in [&cai, &dan] {
        assert_eq!(state(device).await, (GroupState::Quit, GroupEvent::KickedOut, String::new()));
    }
    assert_eq!(refusal(soon(ann.join_group("crew")).await), NONE);
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn kick_server_group_members_refuses_what_it_cannot_do() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let mut operator = world.admin().await;
    create(&ann, "crew", &["bob"]).await;
    create(&ann, "gone", &["bob"]).await;
    soon(ann.dismiss_group("gone")).await.unwrap();
    let other = other_app(&mut operator).await;
    register(&mut operator, other, &["bob"]).await;
    register(&mut operator, world.app_id(), &["eve"]).await;
    let app_id = world.app_id();
    let many: Vec<String> = (0..101).map(|number| format!("u{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (bad, code) in [
        (removal(app_id, "none", &["bob"]), Code::FailedPrecondition),
        (removal(app_id, "gone", &["bob"]), Code::FailedPrecondition),
        (removal(other, "crew", &["bob"]), Code::FailedPrecondition),
        (removal(app_id, "crew", &["eve"]), Code::FailedPrecondition),
        (removal(app_id, "crew", &["nobody"]), Code::NotFound),
        // Nobody is left of a hundred, but the number is allowed.
        (removal(app_id, "crew", &many[..100]), Code::NotFound),
        (removal(app_id, "crew", &many), Code::InvalidArgument),
        (removal(app_id, "crew", &[]), Code::InvalidArgument),
        (removal(app_id, "crew", &["b b"]), Code::InvalidArgument),
        (removal(app_id, "", &["bob"]), Code::InvalidArgument),
        (removal(app_id, &"x".repeat(33), &["bob"]), Code::InvalidArgument),
        (removal(1, "crew", &["bob"]), Code::NotFound),
    ] {
        let refused = soon(operator.kick_server_group_members(bad.clone())).await.unwrap_err();
        assert_eq!(refused.code(), code, "{bad:?}: {refused}");
    }
    assert_eq!(roles(&ann).await, [("ann".to_owned(), 1), ("bob".to_owned(), 3)]);
    drop(operator);
    world.end().await;
}

/// The tips of a group that a device has in its history: the event, who sent it, who did it, and to whom.
async fn tips(device: &Device, count: usize) -> Vec<(TipsMessageEvent, String, String, Vec<String>)> {
    let of = |message: Message| match message.body {
        Some(Body::Tips(tip)) => {
            let targets = tip.target_user_list.iter().map(|user| user.user_id.clone()).collect();
            Some((tip.event(), message.sender_user_id, tip.operated_user.clone().unwrap().user_id, targets))
        }
        _ => None,
    };
    eventually("the tips", async || {
        let found: Vec<_> = device.history(group("crew")).await.into_iter().filter_map(of).collect();
        (found.len() == count).then_some(found)
    })
    .await
}

/// A message has a sender, so the tip of what the operator does is the owner's. It says that no user did it.
#[tokio::test]
async fn kick_server_group_members_and_dismiss_server_group_leave_tips() {
    use TipsMessageEvent as Tip;
    let world = World::with(|config| config.groups.tips = true).await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    let (mut operator, app_id) = (world.admin().await, world.app_id());
    create(&ann, "crew", &["bob", "cai"]).await;
    soon(operator.kick_server_group_members(removal(app_id, "crew", &["bob"]))).await.unwrap();
    soon(operator.kick_server_group_members(removal(app_id, "crew", &["ann"]))).await.unwrap();
    soon(operator.dismiss_server_group(dismissal(app_id, "crew"))).await.unwrap();
    let tip = |event, sender: &str, targets: &[&str]| {
        let targets: Vec<String> = targets.iter().map(|user| (*user).to_owned()).collect();
        (event, sender.to_owned(), String::new(), targets)
    };
    let expected = [
        tip(Tip::GroupKickedOut, "ann", &["bob"]),
        tip(Tip::GroupKickedOut, "ann", &["ann"]),
        tip(Tip::GroupMemberInfoChanged, "cai", &["cai"]),
        tip(Tip::GroupDismissed, "cai", &[]),
    ];
    assert_eq!(tips(&cai, 5).await[1..], expected);
    // Who was removed does not see that, and one that was away has the same.
    assert_eq!(tips(&ann, 2).await[1..], expected[..1]);
    assert_eq!(tips(&bob, 1).await[0].0, Tip::GroupCreated);
    assert_eq!(tips(&world.device("cai").await, 5).await[1..], expected);
    drop(operator);
    world.end().await;
}

fn in_room(world: &World, room_id: &str, after: &str, count: u32) -> ListRoomMembersRequest {
    ListRoomMembersRequest { app_id: world.app_id(), room_id: room_id.into(), after: after.into(), count }
}

#[tokio::test]
async fn list_room_members_pages_in_the_order_in_which_they_entered() {
    let world = World::with(|config| config.limits.room_grace_ms = 60_000).await;
    let (zoe, ann, bob) = (world.user("zoe").await, world.user("ann").await, world.user("bob").await);
    let mut operator = world.admin().await;
    soon(ann.update_user_name("Ann")).await.unwrap();
    room::create(&zoe, "stage").await;
    soon(bob.join_room("stage")).await.unwrap();
    soon(ann.join_room("stage")).await.unwrap();
    let (mut found, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = soon(operator.list_room_members(in_room(&world, "stage", &after, 2))).await.unwrap().into_inner();
        found.extend(page.members);
        (after, pages) = (page.next, pages + 1);
        if after.is_empty() {
            break;
        }
    }
    let rows: Vec<_> =
        found.iter().map(|row| (row.user_id.as_str(), row.user_name.as_str(), row.is_connected)).collect();
    assert_eq!((rows, pages), (vec![("zoe", "", true), ("bob", "", true), ("ann", "Ann", true)], 2));
    // One who has lost the connection is still there, for a while.
    bob.quit().await;
    eventually("bob has lost the connection", async || {
        let mut operator = world.admin().await;
        let page = soon(operator.list_room_members(in_room(&world, "stage", "", 0))).await.unwrap().into_inner();
        let rows: Vec<_> = page.members.iter().map(|row| (row.user_id.as_str(), row.is_connected)).collect();
        (rows == [("zoe", true), ("bob", false), ("ann", true)]).then_some(())
    })
    .await;
    for (bad, code) in [
        (in_room(&world, "none", "", 1), Code::FailedPrecondition),
        (in_room(&world, "", "", 1), Code::InvalidArgument),
        (in_room(&world, &"x".repeat(129), "", 1), Code::InvalidArgument),
        (in_room(&world, "stage", "", 101), Code::InvalidArgument),
        (in_room(&world, "stage", "bob", 1), Code::InvalidArgument),
        (in_room(&world, "stage", "-1", 1), Code::InvalidArgument),
        (ListRoomMembersRequest { app_id: 1, ..in_room(&world, "stage", "", 1) }, Code::NotFound),
    ] {
        assert_eq!(soon(operator.list_room_members(bad.clone())).await.unwrap_err().code(), code, "{bad:?}");
    }
    assert!(soon(operator.list_room_members(in_room(&world, "stage", "", 100))).await.is_ok());
    drop(operator);
    world.end().await;
}
