//! What a group is: its name, its modes, its attributes, and the lists of groups and members.

use std::collections::HashMap;

use zim_integration_tests::{Device, World, group, refusal, soon};
use zim_protocol::{
    ConversationNotificationStatus, ConversationType, ErrorCode, Event, EventKind, GroupAdvancedConfig,
    GroupAttributesUpdateAction, GroupBeInviteMode, GroupEvent, GroupFullInfo, GroupInfo, GroupInviteMode,
    GroupJoinMode, GroupListQueryConfig, GroupMessageNotificationStatus, GroupVerifyInfo, UpdateGroupJoinModeRequest,
    UpdateGroupNameRequest,
};

use crate::group::{create, info};

const NOT_IN: ErrorCode = ErrorCode::GroupModuleUserIsNotInTheGroup;
const NONE: ErrorCode = ErrorCode::GroupModuleGroupDoesNotExist;
const NOT_ALLOWED: ErrorCode = ErrorCode::GroupModuleGroupNoCorrespondingOperationAuthority;
const INVALID: ErrorCode = ErrorCode::CommonModuleParamsInvalid;

async fn full(device: &Device, group_id: &str) -> GroupFullInfo {
    soon(device.query_group_info(group_id)).await.unwrap().group_info.unwrap()
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> HashMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// A group of Ann and Bob, with a stranger, and another group in which all of them meet.
struct Crew {
    world: World,
    ann: Device,
    bob: Device,
    /// Bob's second device.
    tablet: Device,
    stranger: Device,
}

impl Crew {
    async fn new() -> Self {
        let world = World::new().await;
        let (ann, bob, stranger) = (world.user("ann").await, world.user("bob").await, world.user("dan").await);
        let tablet = world.device("bob").await;
        create(&ann, "crew", &["bob"]).await;
        create(&ann, "all", &["bob", "dan"]).await;
        Self { world, ann, bob, tablet, stranger }
    }

    /// What was sent before this has arrived everywhere.
    async fn barrier(&self, text: &str) {
        for id in ["crew", "all"] {
            self.ann.say(group(id), &format!("{text} in {id}")).await;
        }
        for device in [&self.bob, &self.tablet] {
            device.receives(&format!("{text} in crew")).await;
        }
        self.stranger.receives(&format!("{text} in all")).await;
    }

    fn members(&self) -> [&Device; 3] {
        [&self.ann, &self.bob, &self.tablet]
    }
}

/// Nobody but members may do this, and the group must be there.
macro_rules! members_only {
    ($crew:expr, $call:ident($($arg:expr),*)) => {
        assert_eq!(refusal(soon($crew.stranger.$call($($arg,)* "crew")).await), NOT_IN);
        assert_eq!(refusal(soon($crew.ann.$call($($arg,)* "none")).await), NONE);
    };
}

#[tokio::test]
async fn update_group_name_tells_all_members_and_renames_the_conversation() {
    let crew = Crew::new().await;
    let longest = "é".repeat(50);
    let result = soon(crew.bob.update_group_name(&longest, "crew")).await.unwrap();
    assert_eq!((result.group_id.as_str(), &result.group_name), ("crew", &longest));
    // The same name again is no change.
    soon(crew.ann.update_group_name(&longest, "crew")).await.unwrap();
    crew.barrier("named").await;
    for device in crew.members() {
        match &device.seen_of(EventKind::GroupNameUpdated)[..] {
            [Event::GroupNameUpdated(event)] => {
                assert_eq!((event.group_id.as_str(), &event.group_name), ("crew", &longest));
                let by = event.operated_info.clone().unwrap();
                assert_eq!((by.user_id.as_str(), by.member_role), ("bob", 3));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(device.conversation(group("crew")).await.conversation_name, longest);
    }
    assert!(crew.stranger.seen_of(EventKind::GroupNameUpdated).is_empty());
    assert_eq!(full(&crew.stranger, "crew").await.base_info.unwrap().group_name, longest);
    members_only!(crew, update_group_name("x"));
    let mut raw = crew.world.raw_user("bob", 3).await;
    for bad in [format!("{longest}x"), "a\0b".to_owned()] {
        assert_eq!(refusal(soon(crew.bob.update_group_name(&bad, "crew")).await), INVALID);
        let request = UpdateGroupNameRequest { group_name: bad, group_id: "crew".into() };
        assert_eq!(raw.call(&request).await.unwrap_err().code, INVALID as i32);
    }
    raw.end().await;
    crew.world.end().await;
}

#[tokio::test]
async fn update_group_avatar_url_tells_all_members_and_follows_in_the_conversation() {
    let crew = Crew::new().await;
    let longest = "u".repeat(500);
    soon(crew.bob.update_group_avatar_url(&longest, "crew")).await.unwrap();
    crew.barrier("pictured").await;
    for device in crew.members() {
        match &device.seen_of(EventKind::GroupAvatarUrlUpdated)[..] {
            [Event::GroupAvatarUrlUpdated(event)] => {
                assert_eq!((event.group_id.as_str(), &event.group_avatar_url), ("crew", &longest));
                assert_eq!(event.operated_info.clone().unwrap().user_id, "bob");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(device.conversation(group("crew")).await.conversation_avatar_url, longest);
    }
    assert!(crew.stranger.seen_of(EventKind::GroupAvatarUrlUpdated).is_empty());
    members_only!(crew, update_group_avatar_url("x"));
    assert_eq!(refusal(soon(crew.bob.update_group_avatar_url(&format!("{longest}u"), "crew")).await), INVALID);
    crew.world.end().await;
}

#[tokio::test]
async fn update_group_notice_takes_300_bytes_and_tells_all_members() {
    let crew = Crew::new().await;
    let longest = "é".repeat(150);
    soon(crew.bob.update_group_notice(&longest, "crew")).await.unwrap();
    crew.barrier("noticed").await;
    for device in crew.members() {
        match &device.seen_of(EventKind::GroupNoticeUpdated)[..] {
            [Event::GroupNoticeUpdated(event)] => {
                assert_eq!((event.group_id.as_str(), &event.group_notice), ("crew", &longest));
                assert_eq!(event.operated_info.clone().unwrap().user_id, "bob");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(crew.stranger.seen_of(EventKind::GroupNoticeUpdated).is_empty());
    assert_eq!(full(&crew.ann, "crew").await.group_notice, longest);
    members_only!(crew, update_group_notice("x"));
    assert_eq!(refusal(soon(crew.bob.update_group_notice(&format!("{longest}x"), "crew")).await), INVALID);
    crew.world.end().await;
}

/// The modes of a group as the events of a device had them.
fn modes(device: &Device) -> Vec<GroupVerifyInfo> {
    let of = |event: Event| match event {
        Event::GroupVerifyInfoUpdated(event) => {
            assert_eq!((event.group_id.as_str(), event.operated_info.unwrap().user_id.as_str()), ("crew", "ann"));
            event.verify_info.unwrap()
        }
        other => panic!("{other:?}"),
    };
    device.seen_of(EventKind::GroupVerifyInfoUpdated).into_iter().map(of).collect()
}

fn verify(
    join_mode: GroupJoinMode,
    invite_mode: GroupInviteMode,
    be_invite_mode: GroupBeInviteMode,
) -> GroupVerifyInfo {
    GroupVerifyInfo {
        join_mode: join_mode as i32,
        invite_mode: invite_mode as i32,
        be_invite_mode: be_invite_mode as i32,
    }
}

#[tokio::test]
async fn update_group_join_mode_is_for_owner_and_administrators() {
    let crew = Crew::new().await;
    let forbid = soon(crew.ann.update_group_join_mode(GroupJoinMode::Forbid, "crew")).await.unwrap();
    assert_eq!((forbid.group_id.as_str(), forbid.mode()), ("crew", GroupJoinMode::Forbid));
    soon(crew.ann.update_group_join_mode(GroupJoinMode::Forbid, "crew")).await.unwrap();
    crew.barrier("shut").await;
    let expected = [verify(GroupJoinMode::Forbid, GroupInviteMode::Any, GroupBeInviteMode::None)];
    for device in crew.members() {
        assert_eq!(modes(device), expected);
    }
    assert!(modes(&crew.stranger).is_empty());
    assert_eq!(refusal(soon(crew.stranger.join_group("crew")).await), ErrorCode::GroupModuleForbidJoinGroupError);
    assert_eq!(refusal(soon(crew.bob.update_group_join_mode(GroupJoinMode::Any, "crew")).await), NOT_ALLOWED);
    members_only!(crew, update_group_join_mode(GroupJoinMode::Any));
    let mut raw = crew.world.raw_user("ann", 3).await;
    let request = UpdateGroupJoinModeRequest { mode: 9, group_id: "crew".into() };
    assert_eq!(raw.call(&request).await.unwrap_err().code, INVALID as i32);
    raw.end().await;
    crew.world.end().await;
}

#[tokio::test]
async fn update_group_invite_mode_and_be_invite_mode_keep_the_other_modes() {
    let crew = Crew::new().await;
    soon(crew.ann.update_group_invite_mode(GroupInviteMode::Admin, "crew")).await.unwrap();
    let auth = soon(crew.ann.update_group_be_invite_mode(GroupBeInviteMode::Auth, "crew")).await.unwrap();
    assert_eq!(auth.mode(), GroupBeInviteMode::Auth);
    crew.barrier("asked").await;
    let expected = [
        verify(GroupJoinMode::Any, GroupInviteMode::Admin, GroupBeInviteMode::None),
        verify(GroupJoinMode::Any, GroupInviteMode::Admin, GroupBeInviteMode::Auth),
    ];
    for device in crew.members() {
        assert_eq!(modes(device), expected);
    }
    assert_eq!(full(&crew.stranger, "crew").await.verify_info, Some(expected[1]));
    members_only!(crew, update_group_invite_mode(GroupInviteMode::Any));
    assert_eq!(refusal(soon(crew.bob.update_group_invite_mode(GroupInviteMode::Any, "crew")).await), NOT_ALLOWED);
    crew.world.end().await;
}

#[tokio::test]
async fn update_group_be_invite_mode_is_for_owner_and_administrators() {
    let crew = Crew::new().await;
    members_only!(crew, update_group_be_invite_mode(GroupBeInviteMode::Auth));
    let refused = soon(crew.bob.update_group_be_invite_mode(GroupBeInviteMode::Auth, "crew")).await;
    assert_eq!(refusal(refused), NOT_ALLOWED);
    crew.barrier("unchanged").await;
    assert!(modes(&crew.ann).is_empty());
    crew.world.end().await;
}

#[tokio::test]
async fn update_group_alias_is_seen_by_the_own_devices_alone() {
    let crew = Crew::new().await;
    let away = crew.world.device("bob").await;
    let dir = away.dir();
    away.quit().await;
    let longest = "é".repeat(128);
    let result = soon(crew.bob.update_group_alias(&longest, "crew")).await.unwrap();
    assert_eq!((result.group_id.as_str(), &result.group_alias), ("crew", &longest));
    soon(crew.bob.update_group_alias(&longest, "crew")).await.unwrap();
    crew.barrier("called").await;
    crew.world.clock.advance(1_000);
    let away = crew.world.user_at(dir, "bob").await;
    for device in [&crew.bob, &crew.tablet, &away] {
        match device.next(EventKind::GroupAliasUpdated).await {
            Event::GroupAliasUpdated(event) => {
                let said = (event.group_id.as_str(), &event.group_alias, event.operated_user_id.as_str());
                assert_eq!(said, ("crew", &longest, "bob"));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(device.seen_of(EventKind::GroupAliasUpdated).len(), 1);
        assert_eq!(device.conversation(group("crew")).await.conversation_alias, longest);
        assert_eq!(full(device, "crew").await.group_alias, longest);
    }
    crew.bob.say(group("crew"), "nothing, ann").await;
    crew.ann.receives("nothing, ann").await;
    // A fresh device knows it and gets no event.
    let new = crew.world.device("bob").await;
    assert_eq!(new.conversation(group("crew")).await.conversation_alias, longest);
    for device in [&crew.ann, &crew.stranger, &new] {
        assert!(device.seen_of(EventKind::GroupAliasUpdated).is_empty());
    }
    assert_eq!(crew.ann.conversation(group("crew")).await.conversation_alias, "");
    assert_eq!(full(&crew.ann, "crew").await.group_alias, "");
    members_only!(crew, update_group_alias("x"));
    assert_eq!(refusal(soon(crew.bob.update_group_alias(&format!("{longest}x"), "crew")).await), INVALID);
    soon(crew.bob.update_group_alias("", "crew")).await.unwrap();
    assert_eq!(crew.bob.conversation(group("crew")).await.conversation_alias, "");
    crew.world.end().await;
}

/// The changes of attributes that a device saw.
fn updates(device: &Device) -> Vec<(GroupAttributesUpdateAction, HashMap<String, String>, String)> {
    let of = |event: Event| match event {
        Event::GroupAttributesUpdated(event) => {
            assert_eq!((event.group_id.as_str(), event.info_list.len()), ("crew", 1));
            let info = event.info_list[0].clone();
            (info.action(), info.group_attributes, event.operated_info.unwrap().user_id)
        }
        other => panic!("{other:?}"),
    };
    device.seen_of(EventKind::GroupAttributesUpdated).into_iter().map(of).collect()
}

#[tokio::test]
async fn set_group_attributes_adds_and_replaces_and_tells_all_members() {
    let crew = Crew::new().await;
    soon(crew.ann.set_group_attributes(pairs([("a", "1"), ("b", "2")]), "crew")).await.unwrap();
    let set = soon(crew.bob.set_group_attributes(pairs([("b", "3"), ("c", "")]), "crew")).await.unwrap();
    assert_eq!((set.group_id.as_str(), set.error_keys), ("crew", vec![]));
    crew.barrier("set").await;
    let action = GroupAttributesUpdateAction::Set;
    for device in crew.members() {
        assert_eq!(
            updates(device),
            [
                (action, pairs([("a", "1"), ("b", "2")]), "ann".to_owned()),
                (action, pairs([("b", "3"), ("c", "")]), "bob".to_owned())
            ]
        );
    }
    assert!(updates(&crew.stranger).is_empty());
    let all = pairs([("a", "1"), ("b", "3"), ("c", "")]);
    assert_eq!(soon(crew.tablet.query_group_all_attributes("crew")).await.unwrap().group_attributes, all);
    members_only!(crew, set_group_attributes(pairs([("a", "1")])));
    crew.world.end().await;
}

#[tokio::test]
async fn set_group_attributes_has_limits_of_number_and_length() {
    let crew = Crew::new().await;
    let of = |range: std::ops::Range<usize>, key: usize, value: usize| -> HashMap<String, String> {
        range.map(|index| (format!("{index:0>key$}"), "v".repeat(value))).collect()
    };
    soon(crew.bob.set_group_attributes(of(0..9, 16, 1_024), "crew")).await.unwrap();
    let too_many = ErrorCode::GroupModuleTheNumberOfGroupAttributesExceedsLimit;
    let long_key = ErrorCode::GroupModuleTheLengthOfGroupAttributeKeyExceedsLimit;
    let long_value = ErrorCode::GroupModuleTheLengthOfGroupAttributeValueExceedsLimit;
    for (bad, code) in [
        (of(9..11, 16, 1), too_many),
        (of(0..11, 16, 1), too_many),
        (of(9..10, 17, 1), long_key),
        (pairs([("", "x")]), long_key),
        (pairs([("éééééééé1", "x")]), long_key),
        (of(9..10, 16, 1_025), long_value),
        (HashMap::new(), INVALID),
    ] {
        assert_eq!(refusal(soon(crew.bob.set_group_attributes(bad, "crew")).await), code);
    }
    soon(crew.bob.set_group_attributes(of(8..10, 16, 1_024), "crew")).await.unwrap();
    assert_eq!(full(&crew.ann, "crew").await.group_attributes, of(0..10, 16, 1_024));
    crew.world.end().await;
}

#[tokio::test]
async fn delete_group_attributes_names_the_keys_that_are_not_there() {
    let crew = Crew::new().await;
    soon(crew.ann.set_group_attributes(pairs([("a", "1"), ("b", "2"), ("c", "3")]), "crew")).await.unwrap();
    let deleted = soon(crew.bob.delete_group_attributes(["a", "x", "c", "a"], "crew")).await.unwrap();
    assert_eq!(deleted.error_keys, ["x"]);
    let none = ErrorCode::GroupModuleGroupAttributeDoesNotExist;
    assert_eq!(refusal(soon(crew.bob.delete_group_attributes(["a", "x"], "crew")).await), none);
    crew.barrier("deleted").await;
    for device in crew.members() {
        let update = updates(device).remove(1);
        assert_eq!(update, (GroupAttributesUpdateAction::Delete, pairs([("a", "1"), ("c", "3")]), "bob".to_owned()));
        assert_eq!(updates(device).len(), 2);
    }
    assert_eq!(full(&crew.ann, "crew").await.group_attributes, pairs([("b", "2")]));
    members_only!(crew, delete_group_attributes(["b"]));
    assert_eq!(refusal(soon(crew.bob.delete_group_attributes([""; 0], "crew")).await), INVALID);
    crew.world.end().await;
}

#[tokio::test]
async fn query_group_attributes_returns_those_that_are_there() {
    let crew = Crew::new().await;
    soon(crew.ann.set_group_attributes(pairs([("a", "1"), ("b", "2")]), "crew")).await.unwrap();
    let found = soon(crew.bob.query_group_attributes(["b", "x"], "crew")).await.unwrap();
    assert_eq!((found.group_id.as_str(), found.group_attributes), ("crew", pairs([("b", "2")])));
    members_only!(crew, query_group_attributes(["b"]));
    let many = || (0..11).map(|index| index.to_string());
    assert_eq!(refusal(soon(crew.bob.query_group_attributes(many(), "crew")).await), INVALID);
    soon(crew.bob.query_group_attributes(many().take(10), "crew")).await.unwrap();
    crew.world.end().await;
}

#[tokio::test]
async fn query_group_all_attributes_is_for_members() {
    let crew = Crew::new().await;
    assert_eq!(soon(crew.bob.query_group_all_attributes("crew")).await.unwrap().group_attributes, pairs([]));
    members_only!(crew, query_group_all_attributes());
    soon(crew.ann.dismiss_group("crew")).await.unwrap();
    assert_eq!(refusal(soon(crew.bob.query_group_all_attributes("crew")).await), NONE);
    crew.world.end().await;
}

#[tokio::test]
async fn query_group_info_has_the_attributes_for_members_alone() {
    let crew = Crew::new().await;
    soon(crew.ann.update_group_notice("be kind", "crew")).await.unwrap();
    soon(crew.ann.set_group_attributes(pairs([("a", "1")]), "crew")).await.unwrap();
    let attributes = async || {
        let info = full(&crew.stranger, "crew").await;
        // Who thinks of joining reads the notice before.
        assert_eq!(info.group_notice, "be kind");
        info.group_attributes
    };
    assert_eq!(attributes().await, pairs([]));
    soon(crew.stranger.join_group("crew")).await.unwrap();
    assert_eq!(attributes().await, pairs([("a", "1")]));
    soon(crew.stranger.leave_group("crew")).await.unwrap();
    assert_eq!(attributes().await, pairs([]));
    crew.world.end().await;
}

#[tokio::test]
async fn query_group_info_has_the_limit_that_is_in_force() {
    let world = World::with(|config| config.limits.max_group_members = 7).await;
    let ann = world.user("ann").await;
    create(&ann, "crew", &[]).await;
    assert_eq!(full(&ann, "crew").await.max_member_count, 7);
    match ann.next(EventKind::GroupStateChanged).await {
        Event::GroupStateChanged(event) => assert_eq!(event.group_info.unwrap().max_member_count, 7),
        other => panic!("{other:?}"),
    }
    world.end().await;
}

#[tokio::test]
async fn query_group_list_has_the_present_groups_the_last_entered_first() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    assert_eq!(soon(bob.query_group_list()).await.unwrap().group_list, []);
    for id in ["a", "b", "c", "d", "e"] {
        create(&ann, id, &["bob"]).await;
    }
    soon(cai.join_group("c")).await.unwrap();
    soon(cai.join_group("a")).await.unwrap();
    soon(bob.leave_group("b")).await.unwrap();
    soon(bob.update_group_alias("dear", "c")).await.unwrap();
    soon(bob.leave_group("a")).await.unwrap();
    soon(bob.join_group("a")).await.unwrap();
    soon(ann.dismiss_group("e")).await.unwrap();
    let all = soon(bob.query_group_list()).await.unwrap();
    let id = |group: &zim_protocol::Group| group.base_info.clone().unwrap().group_id;
    assert_eq!(all.group_list.iter().map(id).collect::<Vec<_>>(), ["a", "d", "c"]);
    assert_eq!((&all.group_list[2].base_info, all.group_list[2].group_alias.as_str()), (&Some(info("c")), "dear"));
    assert_eq!(all.group_list[0].notification_status, 1);

    let page = async |count, next_flag, users: &[&str]| {
        let user_ids = users.iter().map(|user| (*user).to_owned()).collect();
        let page = soon(bob.query_group_list_page(count, GroupListQueryConfig { next_flag, user_ids })).await;
        page.map(|page| (page.group_list.iter().map(id).collect::<Vec<_>>(), page.next_flag))
    };
    let (first, next) = page(2, 0, &[]).await.unwrap();
    assert_eq!(first, ["a", "d"]);
    assert_eq!(page(2, next, &[]).await.unwrap(), (vec!["c".to_owned()], 0));
    assert_eq!(page(9, 0, &["cai", "ann"]).await.unwrap(), (vec!["a".to_owned(), "c".to_owned()], 0));
    assert_eq!(page(9, 0, &["cai", "nobody"]).await.unwrap(), (vec![], 0));
    for count in [0, 101] {
        assert_eq!(refusal(page(count, 0, &[]).await), INVALID);
    }
    page(100, 0, &[]).await.unwrap();
    // The notification status is the user's own setting of the conversation.
    let quiet = ConversationNotificationStatus::DoNotDisturb;
    soon(bob.set_conversation_notification_status(quiet, "d", ConversationType::Group)).await.unwrap();
    let all = soon(bob.query_group_list()).await.unwrap();
    let status: Vec<i32> = all.group_list.iter().map(|group| group.notification_status).collect();
    assert_eq!(status, [1, 2, 1]);
    let of = async |device: &Device| {
        soon(device.query_group_info("d")).await.unwrap().group_info.unwrap().notification_status()
    };
    assert_eq!(of(&bob).await, GroupMessageNotificationStatus::Disturb);
    assert_eq!(of(&ann).await, GroupMessageNotificationStatus::Notify);
    soon(bob.leave_group("d")).await.unwrap();
    let left = bob.until("leaving d", |seen| {
        seen.iter().rev().find_map(|event| match event {
            Event::GroupStateChanged(event) if event.event() == GroupEvent::Left => {
                event.group_info.clone().filter(|info| info.base_info.as_ref().is_some_and(|base| base.group_id == "d"))
            }
            _ => None,
        })
    });
    assert_eq!(left.await.notification_status(), GroupMessageNotificationStatus::Disturb);
    world.end().await;
}

#[tokio::test]
async fn query_group_list_goes_through_all_pages() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    for index in 0..101 {
        let info = GroupInfo { group_id: format!("g{index}"), ..GroupInfo::default() };
        soon(ann.create_group(info, [""; 0], GroupAdvancedConfig::default())).await.unwrap();
    }
    let all = soon(ann.query_group_list()).await.unwrap();
    assert_eq!((all.group_list.len(), all.next_flag), (101, 0));
    world.end().await;
}

#[tokio::test]
async fn query_group_member_info_is_for_members_and_of_members() {
    let crew = Crew::new().await;
    let found = soon(crew.ann.query_group_member_info("bob", "crew")).await.unwrap();
    let bob = found.user_info.unwrap();
    assert_eq!((found.group_id.as_str(), bob.user_id.as_str(), bob.member_role), ("crew", "bob", 3));
    assert_eq!(bob.group_enter_info.unwrap().operated_user.unwrap().user_id, "ann");
    for other in ["dan", "nobody"] {
        assert_eq!(refusal(soon(crew.ann.query_group_member_info(other, "crew")).await), NOT_IN);
    }
    members_only!(crew, query_group_member_info("bob"));
    crew.world.end().await;
}

#[tokio::test]
async fn query_group_member_count_is_that_of_the_present_members() {
    let crew = Crew::new().await;
    let count = async |device: &Device| soon(device.query_group_member_count("all")).await.map(|found| found.count);
    assert_eq!(count(&crew.bob).await.unwrap(), 3);
    soon(crew.stranger.leave_group("all")).await.unwrap();
    assert_eq!(count(&crew.bob).await.unwrap(), 2);
    assert_eq!(refusal(count(&crew.stranger).await), NOT_IN);
    members_only!(crew, query_group_member_count());
    crew.world.end().await;
}
