//! Groups: who may do what, and who hears of it.

use zim_integration_tests::{Device, World, eventually, group, refusal, soon, texts};
use zim_protocol::{
    ConversationEvent, ConversationRef, ConversationType, ErrorCode, Event, EventKind, GroupAdvancedConfig,
    GroupEnterType, GroupEvent, GroupInfo, GroupJoinMode, GroupMemberEvent, GroupMemberInfo, GroupMemberQueryConfig,
    GroupMemberState, GroupState, KickGroupMembersRequest, Message, Page, PullRequest, change_entry::Detail,
};

pub(crate) fn info(group_id: &str) -> GroupInfo {
    GroupInfo { group_id: group_id.into(), group_name: format!("The {group_id}"), group_avatar_url: "a.png".into() }
}

/// Creates a group of these users.
pub(crate) async fn create(owner: &Device, group_id: &str, users: &[&str]) {
    let created = owner.create_group(info(group_id), users.iter().copied(), GroupAdvancedConfig::default());
    let created = soon(created).await.unwrap();
    assert_eq!((created.user_list.len(), created.error_user_list), (users.len() + 1, vec![]));
}

/// Returns the next change of the device's own membership: the state, the event and who caused it.
pub(crate) async fn state(device: &Device) -> (GroupState, GroupEvent, String) {
    match device.next(EventKind::GroupStateChanged).await {
        Event::GroupStateChanged(event) => {
            let operator = event.operated_info.clone().unwrap().user_id;
            (event.state(), event.event(), operator)
        }
        other => panic!("{other:?}"),
    }
}

/// Returns the next change of members: the event, who they are, and who caused it.
pub(crate) async fn members(device: &Device) -> (GroupMemberEvent, Vec<String>, String) {
    match device.next(EventKind::GroupMemberStateChanged).await {
        Event::GroupMemberStateChanged(event) => {
            let is_in = event.state() == GroupMemberState::Enter;
            assert_eq!(is_in, matches!(event.event(), GroupMemberEvent::Joined | GroupMemberEvent::Invited));
            let users = event.user_list.iter().map(|member| member.user_id.clone()).collect();
            (event.event(), users, event.operated_info.clone().unwrap().user_id)
        }
        other => panic!("{other:?}"),
    }
}

fn named<const N: usize>(users: [&str; N]) -> Vec<String> {
    users.map(str::to_owned).to_vec()
}

async fn list(device: &Device, group_id: &str) -> Vec<GroupMemberInfo> {
    let config = GroupMemberQueryConfig { next_flag: 0, count: 100 };
    soon(device.query_group_member_list(group_id, config)).await.unwrap().user_list
}

/// Waits until the device may not write to the group.
pub(crate) async fn is_disabled(device: &Device, group_id: &str) {
    eventually("a disabled conversation", async || {
        let found = device.query_conversation(group_id, ConversationType::Group).await.ok()?;
        found.conversation?.is_disabled.then_some(())
    })
    .await;
}

#[tokio::test]
async fn create_group_tells_the_owner_and_the_members() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    let config = GroupAdvancedConfig {
        group_notice: "be kind".into(),
        group_attributes: [("color".to_owned(), "red".to_owned())].into(),
        max_member_count: 20,
        join_mode: GroupJoinMode::Auth as i32,
        ..GroupAdvancedConfig::default()
    };
    let created = soon(ann.create_group(info("crew"), ["bob", "nobody", "cai", "ann"], config)).await.unwrap();
    let full = created.group_info.unwrap();
    assert_eq!(full.base_info, Some(info("crew")));
    assert_eq!(
        (full.group_notice.as_str(), full.max_member_count, full.create_time),
        ("be kind", 20, world.clock.now_ms())
    );
    assert_eq!(full.group_attributes, [("color".to_owned(), "red".to_owned())].into());
    assert_eq!(full.verify_info.unwrap().join_mode(), GroupJoinMode::Auth);
    let member = |user_id: &str, role, enter_type: GroupEnterType, operator: Option<&str>| {
        (user_id.to_owned(), role, enter_type, operator.map(str::to_owned))
    };
    let expected = [
        member("ann", 1, GroupEnterType::Created, None),
        member("bob", 3, GroupEnterType::Invited, Some("ann")),
        member("cai", 3, GroupEnterType::Invited, Some("ann")),
    ];
    for users in [&created.user_list, &list(&cai, "crew").await] {
        let found: Vec<_> = users
            .iter()
            .map(|user| {
                let enter = user.group_enter_info.clone().unwrap();
                assert_eq!(enter.enter_time, world.clock.now_ms());
                let operator = enter.operated_user.clone().map(|user| user.user_id);
                member(&user.user_id, user.member_role, enter.enter_type(), operator.as_deref())
            })
            .collect();
        assert_eq!(found, expected);
    }
    let failed: Vec<_> = created.error_user_list.iter().map(|user| user.user_id.as_str()).collect();
    assert_eq!(failed, ["nobody", "ann"]);

    assert_eq!(state(&ann).await, (GroupState::Enter, GroupEvent::Created, "ann".into()));
    match ann.next(EventKind::GroupAttributesUpdated).await {
        Event::GroupAttributesUpdated(event) => assert_eq!(event.info_list[0].group_attributes.len(), 1),
        other => panic!("{other:?}"),
    }
    assert_eq!(members(&ann).await, (GroupMemberEvent::Joined, named(["ann"]), "ann".into()));
    for device in [&bob, &cai] {
        assert_eq!(state(device).await, (GroupState::Enter, GroupEvent::Invited, "ann".into()));
    }
    for device in [&ann, &bob, &cai] {
        assert_eq!(members(device).await, (GroupMemberEvent::Invited, named(["bob", "cai"]), "ann".into()));
        let conversation = device.conversation(group("crew")).await;
        assert_eq!((conversation.conversation_name.as_str(), conversation.is_disabled), ("The crew", false));
        assert_eq!(conversation.conversation_avatar_url, "a.png");
    }
    world.end().await;
}

#[tokio::test]
async fn create_group_takes_an_id_once_or_gives_one() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let plain = GroupAdvancedConfig::default;
    let given = soon(ann.create_group(GroupInfo::default(), ["bob"], plain())).await.unwrap();
    let given = given.group_info.unwrap().base_info.unwrap().group_id;
    assert!(given.starts_with('#') && given.len() <= 32, "{given}");
    ann.say(group(&given), "hi").await;
    bob.receives("hi").await;

    let longest = "g".repeat(32);
    create(&ann, &longest, &[]).await;
    let exists = ErrorCode::GroupModuleGroupAlreadyExists;
    assert_eq!(refusal(soon(bob.create_group(info(&longest), ["ann"], plain())).await), exists);
    let nobody: [&str; 0] = [];
    for bad in [format!("{longest}g"), "#own".into(), "a b".into()] {
        let refused =
            soon(ann.create_group(GroupInfo { group_name: String::new(), ..info(&bad) }, nobody, plain())).await;
        assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid, "{bad}");
    }
    // Only the name and the URL are too long here.
    for (name, url, is_allowed) in [(100, 500, true), (101, 1, false), (1, 501, false)] {
        let info =
            GroupInfo { group_id: String::new(), group_name: "n".repeat(name), group_avatar_url: "u".repeat(url) };
        assert_eq!(soon(ann.create_group(info, nobody, plain())).await.is_ok(), is_allowed, "{name} {url}");
    }
    // An ID is not used again.
    soon(ann.leave_group(&longest)).await.unwrap();
    let dismissed = ErrorCode::GroupModuleCreateGroupWithDismissed;
    assert_eq!(refusal(soon(ann.create_group(info(&longest), ["bob"], plain())).await), dismissed);
    world.end().await;
}

#[tokio::test]
async fn create_group_has_limits_of_attributes_and_members() {
    let world = World::with(|config| {
        config.limits.max_group_members = 3;
        config.limits.max_groups = 2;
    })
    .await;
    let (ann, _bob, _cai, _dan) =
        (world.user("ann").await, world.user("bob").await, world.user("cai").await, world.user("dan").await);
    let create = async |group_id: &str, users: &[&str], config: GroupAdvancedConfig| {
        soon(ann.create_group(info(group_id), users.iter().copied(), config)).await
    };
    let attributes = |count: usize, key: usize, value: usize| GroupAdvancedConfig {
        group_attributes: (0..count).map(|index| (format!("{index:0>key$}"), "v".repeat(value))).collect(),
        ..GroupAdvancedConfig::default()
    };
    for (config, code) in [
        (attributes(11, 2, 1), ErrorCode::GroupModuleTheNumberOfGroupAttributesExceedsLimit),
        (attributes(1, 17, 1), ErrorCode::GroupModuleTheLengthOfGroupAttributeKeyExceedsLimit),
        (attributes(1, 1, 1_025), ErrorCode::GroupModuleTheLengthOfGroupAttributeValueExceedsLimit),
        (
            GroupAdvancedConfig { group_notice: "n".repeat(301), ..Default::default() },
            ErrorCode::CommonModuleParamsInvalid,
        ),
        (GroupAdvancedConfig { max_member_count: 4, ..Default::default() }, ErrorCode::CommonModuleParamsInvalid),
        (GroupAdvancedConfig { join_mode: 9, ..Default::default() }, ErrorCode::CommonModuleParamsInvalid),
    ] {
        assert_eq!(refusal(create("g", &[], config).await), code);
    }
    let full = ErrorCode::GroupModuleGroupMemberHasReachedLimit;
    assert_eq!(refusal(create("g", &["bob", "cai", "dan"], GroupAdvancedConfig::default()).await), full);
    let two = GroupAdvancedConfig { max_member_count: 2, ..attributes(10, 16, 1_024) };
    assert_eq!(refusal(create("g", &["bob", "cai"], two.clone()).await), full);
    create("g", &["bob"], GroupAdvancedConfig { group_notice: "ä".repeat(150), ..two }).await.unwrap();
    create("h", &["bob", "cai"], GroupAdvancedConfig::default()).await.unwrap();
    // Both are in two groups now.
    let refused = create("i", &[], GroupAdvancedConfig::default()).await;
    assert_eq!(refusal(refused), ErrorCode::GroupModuleCreateGroupError);
    let many = ErrorCode::GroupModuleJoinGroupError;
    let cai = world.device("cai").await;
    let created = soon(cai.create_group(info("i"), ["bob", "dan"], GroupAdvancedConfig::default())).await.unwrap();
    let failed = &created.error_user_list[0];
    assert_eq!((failed.user_id.as_str(), failed.reason), ("bob", i64::from(many as i32)));
    world.end().await;
}

#[tokio::test]
async fn join_group_depends_on_its_mode_and_its_room() {
    let world = World::with(|config| config.limits.max_groups = 3).await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    let open = async |group_id: &str, mode: GroupJoinMode, most: i64| {
        let config =
            GroupAdvancedConfig { join_mode: mode as i32, max_member_count: most, ..GroupAdvancedConfig::default() };
        soon(ann.create_group(info(group_id), [""; 0], config)).await.unwrap();
    };
    open("open", GroupJoinMode::Any, 2).await;
    open("asks", GroupJoinMode::Auth, 0).await;
    open("shut", GroupJoinMode::Forbid, 0).await;
    let code = async |device: &Device, group_id: &str| refusal(soon(device.join_group(group_id)).await);
    assert_eq!(code(&bob, "none").await, ErrorCode::GroupModuleGroupDoesNotExist);
    assert_eq!(code(&bob, "asks").await, ErrorCode::GroupModuleNeedApplyJoinGroupError);
    assert_eq!(code(&bob, "shut").await, ErrorCode::GroupModuleForbidJoinGroupError);
    let joined = soon(bob.join_group("open")).await.unwrap();
    assert_eq!(joined.group_info.unwrap().base_info, Some(info("open")));
    assert_eq!(state(&bob).await, (GroupState::Enter, GroupEvent::Joined, "bob".into()));
    assert_eq!(members(&bob).await, (GroupMemberEvent::Joined, named(["bob"]), "bob".into()));
    for _ in 0..3 {
        members(&ann).await;
    }
    assert_eq!(members(&ann).await, (GroupMemberEvent::Joined, named(["bob"]), "bob".into()));
    assert_eq!(code(&cai, "open").await, ErrorCode::GroupModuleGroupMemberHasReachedLimit);
    // For a member it changes nothing, whatever the mode: nobody hears of it.
    soon(bob.join_group("open")).await.unwrap();
    soon(ann.join_group("shut")).await.unwrap();
    bob.say(group("open"), "after").await;
    ann.receives("after").await;
    assert_eq!(ann.seen_of(EventKind::GroupMemberStateChanged).len(), 4);
    // Ann is in three groups.
    create(&bob, "other", &[]).await;
    assert_eq!(code(&ann, "other").await, ErrorCode::GroupModuleJoinGroupError);
    soon(ann.leave_group("asks")).await.unwrap();
    soon(ann.join_group("other")).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn leave_group_passes_the_group_on_and_ends_it_at_last() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    create(&ann, "crew", &["bob", "cai"]).await;
    ann.say(group("crew"), "bye").await;
    cai.receives("bye").await;
    soon(ann.leave_group("crew")).await.unwrap();
    state(&ann).await;
    assert_eq!(state(&ann).await, (GroupState::Quit, GroupEvent::Left, "ann".into()));
    is_disabled(&ann, "crew").await;
    for device in [&ann, &bob, &cai] {
        while members(device).await != (GroupMemberEvent::Left, named(["ann"]), "ann".into()) {}
    }
    // The one who entered first is the owner now.
    for device in [&bob, &cai] {
        match device.next(EventKind::GroupMemberInfoUpdated).await {
            Event::GroupMemberInfoUpdated(event) => {
                let users: Vec<_> =
                    event.user_list.iter().map(|user| (user.user_id.as_str(), user.member_role)).collect();
                assert_eq!(users, [("bob", 1)]);
            }
            other => panic!("{other:?}"),
        }
    }
    let not_in = ErrorCode::GroupModuleUserIsNotInTheGroup;
    assert_eq!(refusal(soon(ann.leave_group("crew")).await), not_in);
    assert_eq!(refusal(soon(ann.send_to(group("crew"), Message::text("?"))).await), not_in);
    assert_eq!(refusal(soon(ann.leave_group("none")).await), ErrorCode::GroupModuleGroupDoesNotExist);
    // What was said stays readable.
    assert_eq!(texts(&ann.history(group("crew")).await), ["bye", "?"]);
    soon(bob.leave_group("crew")).await.unwrap();
    soon(cai.leave_group("crew")).await.unwrap();
    let gone = ErrorCode::GroupModuleGroupDoesNotExist;
    assert_eq!(refusal(soon(cai.query_group_info("crew")).await), gone);
    assert_eq!(refusal(soon(cai.join_group("crew")).await), gone);
    assert_eq!(texts(&world.device("cai").await.history(group("crew")).await), ["bye"]);
    world.end().await;
}

#[tokio::test]
async fn dismiss_group_is_the_owners_and_for_good() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "crew", &["bob"]).await;
    ann.say(group("crew"), "hi").await;
    bob.receives("hi").await;
    let not_allowed = ErrorCode::GroupModuleGroupNoCorrespondingOperationAuthority;
    assert_eq!(refusal(soon(bob.dismiss_group("crew")).await), not_allowed);
    soon(ann.dismiss_group("crew")).await.unwrap();
    for device in [&ann, &bob] {
        state(device).await;
        assert_eq!(state(device).await, (GroupState::Quit, GroupEvent::Dismissed, "ann".into()));
        is_disabled(device, "crew").await;
        let disabled = device.until("conversationChanged, disabled", |seen| {
            seen.iter().find_map(|event| match event {
                Event::ConversationChanged(event) => event
                    .info_list
                    .iter()
                    .find(|info| info.event() == ConversationEvent::Disabled)
                    .map(|info| info.conversation.clone().unwrap().conversation_id),
                _ => None,
            })
        });
        assert_eq!(disabled.await, "crew");
        assert_eq!(texts(&device.history(group("crew")).await), ["hi"]);
    }
    let gone = ErrorCode::GroupModuleGroupDoesNotExist;
    assert_eq!(refusal(soon(ann.dismiss_group("crew")).await), gone);
    assert_eq!(refusal(soon(ann.kick_group_members(["bob"], "crew")).await), gone);
    for device in [&ann, &bob] {
        assert_eq!(refusal(soon(device.send_to(group("crew"), Message::text("?"))).await), gone);
    }
    // The lists are the same on a new device.
    let new = world.device("bob").await;
    assert!(new.conversation(group("crew")).await.is_disabled);
    assert_eq!(texts(&new.history(group("crew")).await), ["hi"]);
    world.end().await;
}

#[tokio::test]
async fn kick_group_members_removes_those_below() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    let _dan = world.user("dan").await;
    create(&ann, "crew", &["bob", "cai"]).await;
    let not_allowed = ErrorCode::GroupModuleGroupNoCorrespondingOperationAuthority;
    assert_eq!(refusal(soon(bob.kick_group_members(["cai"], "crew")).await), not_allowed);
    let not_in = ErrorCode::GroupModuleUserIsNotInTheGroup;
    assert_eq!(refusal(soon(ann.kick_group_members(["dan"], "crew")).await), not_in);
    assert_eq!(refusal(soon(ann.kick_group_members(["ann"], "crew")).await), ErrorCode::CommonModuleParamsInvalid);
    let kicked = soon(ann.kick_group_members(["bob", "dan", "nobody", "ann", "bob"], "crew")).await.unwrap();
    assert_eq!(kicked.kicked_user_ids, ["bob"]);
    let reasons: Vec<_> = kicked.error_user_list.iter().map(|user| (user.user_id.as_str(), user.reason)).collect();
    assert_eq!(reasons.len(), 3);
    assert!(
        reasons.contains(&("dan", i64::from(not_in as i32))) && reasons.contains(&("ann", 6_000_001)),
        "{reasons:?}"
    );

    state(&bob).await;
    assert_eq!(state(&bob).await, (GroupState::Quit, GroupEvent::KickedOut, "ann".into()));
    is_disabled(&bob, "crew").await;
    for device in [&ann, &bob, &cai] {
        while members(device).await != (GroupMemberEvent::KickedOut, named(["bob"]), "ann".into()) {}
    }
    assert_eq!(refusal(soon(bob.send_to(group("crew"), Message::text("?"))).await), not_in);
    assert_eq!(refusal(soon(bob.kick_group_members(["cai"], "crew")).await), not_in);
    let left: Vec<_> = list(&ann, "crew").await.into_iter().map(|user| user.user_id).collect();
    assert_eq!(left, ["ann", "cai"]);
    // 100 at once, and not one more.
    let many = |count: usize| (0..count).map(|index| format!("user-{index}")).collect::<Vec<_>>();
    assert_eq!(refusal(soon(ann.kick_group_members(many(101), "crew")).await), ErrorCode::CommonModuleParamsInvalid);
    assert_ne!(refusal(soon(ann.kick_group_members(many(100), "crew")).await), ErrorCode::CommonModuleParamsInvalid);
    let mut raw = world.raw_user("dan", 4).await;
    let request = KickGroupMembersRequest { user_ids: many(101), group_id: "crew".into() };
    assert_eq!(raw.call(&request).await.unwrap_err().code, ErrorCode::CommonModuleParamsInvalid as i32);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn query_group_member_list_is_in_pages_and_for_members() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (_cai, dan) = (world.user("cai").await, world.user("dan").await);
    create(&ann, "crew", &["cai", "bob"]).await;
    let (mut next_flag, mut found) = (0, Vec::new());
    loop {
        let config = GroupMemberQueryConfig { next_flag, count: 2 };
        let page = soon(bob.query_group_member_list("crew", config)).await.unwrap();
        assert!(page.user_list.len() <= 2);
        found.extend(page.user_list.into_iter().map(|user| user.user_id));
        next_flag = page.next_flag;
        if next_flag == 0 {
            break;
        }
    }
    assert_eq!(found, ["ann", "cai", "bob"]);
    for count in [0, 101] {
        let config = GroupMemberQueryConfig { next_flag: 0, count };
        assert_eq!(
            refusal(soon(bob.query_group_member_list("crew", config)).await),
            ErrorCode::CommonModuleParamsInvalid
        );
    }
    let config = GroupMemberQueryConfig { next_flag: 0, count: 100 };
    let not_in = ErrorCode::GroupModuleUserIsNotInTheGroup;
    assert_eq!(refusal(soon(dan.query_group_member_list("crew", config)).await), not_in);
    world.end().await;
}

#[tokio::test]
async fn query_group_info_is_also_for_those_who_think_of_joining() {
    let world = World::new().await;
    let (ann, dan) = (world.user("ann").await, world.user("dan").await);
    create(&ann, "crew", &[]).await;
    let found = soon(dan.query_group_info("crew")).await.unwrap().group_info.unwrap();
    assert_eq!(found.base_info, Some(info("crew")));
    assert_eq!(refusal(soon(dan.query_group_info("none")).await), ErrorCode::GroupModuleGroupDoesNotExist);
    world.end().await;
}

/// The positions that a device stores are never beyond those that the server has for its user: the next login would start over.
#[tokio::test]
async fn leave_group_tells_the_owner_nothing_of_what_follows() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "crew", &["bob"]).await;
    ann.say(group("crew"), "bye").await;
    soon(ann.leave_group("crew")).await.unwrap();
    bob.next(EventKind::GroupMemberInfoUpdated).await;
    is_disabled(&ann, "crew").await;
    let dir = ann.dir();
    ann.quit().await;
    assert!(ann.seen_of(EventKind::GroupMemberInfoUpdated).is_empty());
    let ann = world.user_at(dir, "ann").await;
    assert!(ann.seen_of(EventKind::EpochChanged).is_empty());
    assert_eq!(texts(&ann.history(group("crew")).await), ["bye"]);
    world.end().await;
}

#[tokio::test]
async fn pull_tells_somebody_who_has_left_nothing_of_the_present_members() {
    let world = World::new().await;
    let (ann, _cai) = (world.user("ann").await, world.user("cai").await);
    let mut bob = world.raw_user("bob", 2).await;
    create(&ann, "crew", &["bob", "cai"]).await;
    let crew = ConversationRef { r#type: ConversationType::Group as i32, id: "crew".into() };
    let request = PullRequest { conversation: Some(crew), ..PullRequest::default() };
    let roles = |page: Page| {
        let changes = page.changes.into_iter().filter_map(|change| match change.detail {
            Some(Detail::Roster(change)) => Some(change.user_list),
            _ => None,
        });
        let roles = changes.flatten().map(|user| (user.user_id, user.member_role, user.group_enter_info.is_some()));
        roles.collect::<Vec<_>>()
    };
    let before = roles(bob.call(&request).await.unwrap());
    assert_eq!(before, [("bob".to_owned(), 3, true), ("cai".to_owned(), 3, true)]);
    soon(ann.kick_group_members(["bob"], "crew")).await.unwrap();
    let after = roles(bob.call(&request).await.unwrap());
    let unknown = ["bob", "cai", "bob"].map(|user| (user.to_owned(), 0, false));
    assert_eq!(after, unknown);
    bob.end().await;
    world.end().await;
}

#[tokio::test]
async fn join_group_is_news_to_a_device_that_wrote_to_the_group_before() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "crew", &[]).await;
    let refused = soon(bob.send_to(group("crew"), Message::text("?"))).await;
    assert_eq!(refusal(refused), ErrorCode::GroupModuleUserIsNotInTheGroup);
    soon(bob.join_group("crew")).await.unwrap();
    assert_eq!(state(&bob).await, (GroupState::Enter, GroupEvent::Joined, "bob".into()));
    assert_eq!(members(&bob).await, (GroupMemberEvent::Joined, named(["bob"]), "bob".into()));
    world.end().await;
}
