//! The local search for groups and their members.

use zim_integration_tests::{Device, World, refusal, soon};
use zim_protocol::{
    ErrorCode, EventKind, GroupAdvancedConfig, GroupInfo, GroupMemberQueryConfig, GroupMemberSearchConfig,
    GroupSearchConfig,
};

const INVALID: ErrorCode = ErrorCode::CommonModuleParamsInvalid;

fn words(keywords: &[&str]) -> Vec<String> {
    keywords.iter().map(|keyword| (*keyword).to_owned()).collect()
}

fn groups(keywords: &[&str], names: (bool, bool)) -> GroupSearchConfig {
    GroupSearchConfig {
        next_flag: 0,
        count: 30,
        keywords: words(keywords),
        is_also_match_group_member_user_name: names.0,
        is_also_match_group_member_nickname: names.1,
    }
}

fn members(keywords: &[&str], with_nickname: bool) -> GroupMemberSearchConfig {
    GroupMemberSearchConfig {
        next_flag: 0,
        count: 30,
        keywords: words(keywords),
        is_also_match_group_member_nickname: with_nickname,
    }
}

/// The groups found, each with its members who match.
async fn found(device: &Device, config: GroupSearchConfig) -> Vec<(String, Vec<String>)> {
    let found = soon(device.search_local_groups(config)).await.unwrap();
    assert_eq!(found.next_flag, 0);
    let hit = |hit: zim_protocol::GroupSearchInfo| {
        (hit.group_info.unwrap().group_id, hit.user_list.into_iter().map(|user| user.user_id).collect())
    };
    found.group_search_info_list.into_iter().map(hit).collect()
}

/// The members found.
async fn found_in(device: &Device, group_id: &str, config: GroupMemberSearchConfig) -> Vec<String> {
    let found = soon(device.search_local_group_members(group_id, config)).await.unwrap();
    assert_eq!((found.group_id.as_str(), found.next_flag), (group_id, 0));
    found.user_list.into_iter().map(|user| user.user_id).collect()
}

fn hits(hits: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
    hits.iter().map(|(group, users)| ((*group).to_owned(), words(users))).collect()
}

async fn create(owner: &Device, group_id: &str, name: &str, users: &[&str]) {
    let info = GroupInfo { group_id: group_id.into(), group_name: name.into(), group_avatar_url: "u".into() };
    soon(owner.create_group(info, users.iter().copied(), GroupAdvancedConfig::default())).await.unwrap();
}

#[tokio::test]
async fn search_local_groups_finds_names_and_members() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    world.user("cai").await;
    soon(bob.update_user_name("Robert Straße")).await.unwrap();
    create(&ann, "g1", "旅行 Crew", &["bob", "cai"]).await;
    create(&ann, "g2", "Crew of Bern", &["bob"]).await;
    create(&ann, "g3", "Chess", &["cai"]).await;
    soon(ann.set_group_member_nickname("Bobby", "bob", "g2")).await.unwrap();
    let only = (false, false);
    assert_eq!(found(&ann, groups(&["CREW"], only)).await, hits(&[("g2", &[]), ("g1", &[])]));
    assert_eq!(found(&ann, groups(&["crew", "bern"], only)).await, hits(&[("g2", &[])]));
    assert_eq!(found(&ann, groups(&["行"], only)).await, hits(&[("g1", &[])]));
    assert_eq!(found(&ann, groups(&["strasse"], only)).await, hits(&[]));
    assert_eq!(found(&ann, groups(&["strasse"], (true, false))).await, hits(&[("g2", &["bob"]), ("g1", &["bob"])]));
    assert_eq!(found(&ann, groups(&["bobby"], (true, false))).await, hits(&[]));
    assert_eq!(found(&ann, groups(&["bobby"], (false, true))).await, hits(&[("g2", &["bob"])]));
    // A changed name, on the device of somebody else; a group that was left.
    soon(ann.update_group_name("Go", "g3")).await.unwrap();
    assert_eq!(found(&ann, groups(&["go"], only)).await, hits(&[("g3", &[])]));
    soon(ann.leave_group("g2")).await.unwrap();
    assert_eq!(found(&ann, groups(&["crew"], only)).await, hits(&[("g1", &[])]));
    // In pages.
    let page = async |next_flag, count| {
        let found =
            soon(ann.search_local_groups(GroupSearchConfig { next_flag, count, ..groups(&["e"], (true, false)) }));
        found.await.map(|found| (found.group_search_info_list.len(), found.next_flag))
    };
    create(&ann, "g4", "Ten", &[]).await;
    let (first, next) = page(0, 1).await.unwrap();
    assert_eq!(first, 1);
    assert_eq!(page(next, 30).await.unwrap(), (1, 0));
    for count in [0, 31] {
        assert_eq!(refusal(page(0, count).await), INVALID);
    }
    let (longest, too_long) = ("x".repeat(256), "x".repeat(257));
    for bad in [&[][..], &["a"; 6], &[" "], &[too_long.as_str()]] {
        assert_eq!(refusal(soon(ann.search_local_groups(groups(bad, only))).await), INVALID);
    }
    assert_eq!(found(&ann, groups(&["c", "r", "e", "w", "crew"], only)).await, hits(&[("g1", &[])]));
    assert_eq!(found(&ann, groups(&[longest.as_str()], only)).await, hits(&[]));
    world.end().await;
}

#[tokio::test]
async fn search_local_group_members_finds_those_whom_the_device_knows() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for (user, name) in [("cai", "Carol"), ("dan", "Carl"), ("eve", "Eva")] {
        let device = world.user(user).await;
        soon(device.update_user_name(name)).await.unwrap();
    }
    create(&ann, "crew", "Crew", &["cai"]).await;
    soon(bob.join_group("crew")).await.unwrap();
    soon(ann.invite_users_into_group(["dan", "eve"], "crew")).await.unwrap();
    bob.until("two arrivals", |seen| {
        let came = seen.iter().filter(|event| event.kind() == EventKind::GroupMemberStateChanged).count();
        (came >= 2).then_some(())
    })
    .await;
    // Bob's device has seen Dan come, and has not loaded Cai.
    assert_eq!(found_in(&bob, "crew", members(&["car"], false)).await, ["dan"]);
    soon(bob.query_group_member_list("crew", GroupMemberQueryConfig { next_flag: 0, count: 100 })).await.unwrap();
    assert_eq!(found_in(&bob, "crew", members(&["car"], false)).await, ["cai", "dan"]);
    assert_eq!(found_in(&bob, "crew", members(&["car", "ol"], false)).await, ["cai"]);
    assert_eq!(found_in(&bob, "none", members(&["car"], false)).await, [""; 0]);
    soon(bob.set_group_member_nickname("Carlos", "bob", "crew")).await.unwrap();
    assert_eq!(found_in(&bob, "crew", members(&["carlos"], false)).await, [""; 0]);
    assert_eq!(found_in(&bob, "crew", members(&["carlos"], true)).await, ["bob"]);
    // Who is out is found no more.
    soon(ann.kick_group_members(["cai"], "crew")).await.unwrap();
    ann.say(zim_integration_tests::group("crew"), "out").await;
    bob.receives("out").await;
    assert_eq!(found_in(&bob, "crew", members(&["car"], false)).await, ["dan"]);
    let page = async |next_flag, count| {
        let config = GroupMemberSearchConfig { next_flag, count, ..members(&["a"], false) };
        let found = soon(bob.search_local_group_members("crew", config)).await;
        found.map(|found| (found.user_list.into_iter().map(|user| user.user_id).collect::<Vec<_>>(), found.next_flag))
    };
    let (first, next) = page(0, 1).await.unwrap();
    assert_eq!(first.len(), 1);
    let (rest, end) = page(next, 30).await.unwrap();
    assert_eq!(([first, rest].concat().last().unwrap().as_str(), end), ("eve", 0));
    for count in [0, 31] {
        assert_eq!(refusal(page(0, count).await), INVALID);
    }
    let (longest, too_long) = ("x".repeat(256), "x".repeat(257));
    for bad in [&[][..], &["a"; 6], &[" "], &[too_long.as_str()]] {
        assert_eq!(refusal(soon(bob.search_local_group_members("crew", members(bad, true))).await), INVALID);
    }
    assert_eq!(found_in(&bob, "crew", members(&["c", "a", "r", "l", "carl"], false)).await, ["dan"]);
    assert_eq!(found_in(&bob, "crew", members(&[longest.as_str()], true)).await, [""; 0]);
    soon(bob.leave_group("crew")).await.unwrap();
    assert_eq!(found_in(&bob, "crew", members(&["car"], true)).await, [""; 0]);
    world.end().await;
}
