//! User profiles.

use zim_client_sdk::Zim;
use zim_integration_tests::{Device, World, refusal, soon};
use zim_protocol::{
    Conversation, ConversationEvent, ErrorCode, Event, EventKind, LoginConfig, PlatformType, QueryUsersInfoRequest,
    SelfUserInfo, UpdateUserAvatarUrlRequest, UpdateUserExtendedDataRequest, UpdateUserNameRequest,
    UpdateUserOfflinePushRuleRequest, UserFullInfo, UserInfo, UserOfflinePushRule, UserOnlineStatus, UserRule,
    UsersInfoQueryConfig,
};

fn name(info: &UserFullInfo) -> &str {
    &info.base_info.as_ref().unwrap().user_name
}

const FRESH: UsersInfoQueryConfig = UsersInfoQueryConfig { is_query_from_server: true };

#[tokio::test]
async fn query_users_info_finds_registered_users_and_reports_the_others() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    soon(bob.update_user_name("Bob")).await.unwrap();
    let found = soon(ann.query_users_info(["bob", "nobody", "ann"], FRESH)).await.unwrap();
    let ids: Vec<&str> = found.user_list.iter().map(|info| info.base_info.as_ref().unwrap().user_id.as_str()).collect();
    assert_eq!((ids.len(), ids.contains(&"ann"), ids.contains(&"bob")), (2, true, true));
    assert!(found.user_list.iter().any(|info| name(info) == "Bob"));
    assert_eq!(found.error_user_list.len(), 1);
    assert_eq!(found.error_user_list[0].user_id, "nobody");
    assert_eq!(found.error_user_list[0].reason, i64::from(ErrorCode::CommonModuleUserIsNotExist as i32));
    world.end().await;
}

#[tokio::test]
async fn query_users_info_is_refused_for_0_or_11_users_and_invalid_ids() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let eleven: Vec<String> = (0..11).map(|number| format!("user{number}")).collect();
    let eleven: Vec<&str> = eleven.iter().map(String::as_str).collect();
    let (longest, too_long) = ("x".repeat(32), "x".repeat(33));
    for ids in [vec![], eleven, vec!["b ob"], vec![""], vec![too_long.as_str()]] {
        let code = match ids.len() {
            11 => ErrorCode::CommonModuleUserInfoQueriedLimit,
            _ => ErrorCode::CommonModuleParamsInvalid,
        };
        let refused = soon(ann.query_users_info(ids.clone(), FRESH)).await;
        assert_eq!(refusal(refused), code, "{ids:?}");
        let mut raw = world.raw_user("ann", 1).await;
        let user_ids = ids.iter().map(|id| (*id).to_owned()).collect();
        let refused = raw.call(&QueryUsersInfoRequest { user_ids, config: None }).await.unwrap_err();
        assert_eq!(refused.code, code as i32, "{ids:?}");
        raw.end().await;
    }
    let found = soon(ann.query_users_info([longest.as_str()], FRESH)).await.unwrap();
    assert_eq!(found.error_user_list[0].user_id, longest);
    world.end().await;
}

#[tokio::test]
async fn query_users_info_is_limited_to_ten_ids_in_ten_seconds() {
    let world = World::new().await;
    let mut raw = world.raw_user("ann", 1).await;
    let ask =
        |count: usize| QueryUsersInfoRequest { user_ids: (0..count).map(|n| format!("u{n}")).collect(), config: None };
    raw.call(&ask(6)).await.unwrap();
    raw.call(&ask(4)).await.unwrap();
    let refused = raw.call(&ask(1)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::CommonModuleUserInfoQueriedLimit as i32);
    world.clock.advance(9_999);
    assert!(raw.call(&ask(1)).await.is_err());
    world.clock.advance(1);
    raw.call(&ask(10)).await.unwrap();
    raw.end().await;
    // The SDK checks the limit itself.
    let bob = world.user("bob").await;
    let ten: Vec<String> = (0..10).map(|number| format!("u{number}")).collect();
    soon(bob.query_users_info(ten.iter().map(String::as_str), FRESH)).await.unwrap();
    assert_eq!(refusal(soon(bob.query_users_info(["ann"], FRESH)).await), ErrorCode::CommonModuleUserInfoQueriedLimit);
    world.end().await;
}

#[tokio::test]
async fn query_users_info_of_a_known_user_needs_no_server() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    soon(bob.update_user_name("Bob")).await.unwrap();
    soon(ann.query_users_info(["bob"], FRESH)).await.unwrap();
    soon(bob.update_user_name("Robert")).await.unwrap();
    let held = soon(ann.query_users_info(["bob"], UsersInfoQueryConfig::default())).await.unwrap();
    assert_eq!(name(&held.user_list[0]), "Bob");
    let fresh = soon(ann.query_users_info(["bob"], FRESH)).await.unwrap();
    assert_eq!(name(&fresh.user_list[0]), "Robert");
    world.end().await;
}

#[tokio::test]
async fn update_user_name_reaches_the_other_devices_only() {
    let world = World::new().await;
    let (phone, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    let updated = soon(phone.update_user_name("Ann the Great")).await.unwrap();
    assert_eq!(updated.user_name, "Ann the Great");
    match laptop.next(EventKind::UserInfoUpdated).await {
        Event::UserInfoUpdated(event) => assert_eq!(name(event.info.as_ref().unwrap()), "Ann the Great"),
        other => panic!("{other:?}"),
    }
    // A later message has arrived everywhere, and nobody else has raised an event.
    phone.say("bob", "done").await;
    bob.receives("done").await;
    bob.say("ann", "thanks").await;
    phone.receives("thanks").await;
    assert!(phone.seen_of(EventKind::UserInfoUpdated).is_empty());
    assert!(bob.seen_of(EventKind::UserInfoUpdated).is_empty());
    let found = soon(bob.query_users_info(["ann"], FRESH)).await.unwrap();
    assert_eq!(name(&found.user_list[0]), "Ann the Great");
    world.end().await;
}

#[tokio::test]
async fn update_user_name_takes_256_bytes_and_not_one_more() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let longest = "é".repeat(128);
    assert_eq!(soon(ann.update_user_name(&longest)).await.unwrap().user_name, longest);
    let mut raw = world.raw_user("bob", 1).await;
    raw.call(&UpdateUserNameRequest { user_name: longest.clone() }).await.unwrap();
    for bad in [format!("{longest}x"), "a\0b".to_owned()] {
        assert_eq!(refusal(soon(ann.update_user_name(&bad)).await), ErrorCode::CommonModuleParamsInvalid);
        let refused = raw.call(&UpdateUserNameRequest { user_name: bad }).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::CommonModuleParamsInvalid as i32);
    }
    raw.end().await;
    let found = soon(ann.query_users_info(["ann"], FRESH)).await.unwrap();
    assert_eq!(name(&found.user_list[0]), longest);
    world.end().await;
}

#[tokio::test]
async fn update_user_name_twice_ends_with_the_second() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let (first, second) = (ann.update_user_name("first"), ann.update_user_name("second"));
    let (first, second) = soon(async { tokio::join!(first, second) }).await;
    first.unwrap();
    second.unwrap();
    let found = soon(ann.query_users_info(["ann"], FRESH)).await.unwrap();
    assert_eq!(name(&found.user_list[0]), "second");
    world.end().await;
}

/// A full profile.
fn profile(id: &str, name: &str, avatar: &str, data: &str) -> UserFullInfo {
    UserFullInfo {
        base_info: Some(UserInfo {
            user_id: id.to_owned(),
            user_name: name.to_owned(),
            user_avatar_url: avatar.to_owned(),
            user_extended_data: data.to_owned(),
        }),
        // The deprecated fields have the same values.
        user_avatar_url: avatar.to_owned(),
        extended_data: data.to_owned(),
    }
}

fn rule(online: &[PlatformType], quiet: &[PlatformType]) -> UserOfflinePushRule {
    let numbers = |platforms: &[PlatformType]| platforms.iter().map(|platform| *platform as i32).collect();
    UserOfflinePushRule { online_platforms: numbers(online), not_to_receive_offline_push_platforms: numbers(quiet) }
}

async fn oneself(device: &Zim) -> SelfUserInfo {
    soon(device.query_self_user_info()).await.unwrap().self_user_info.unwrap()
}

/// Waits for the next `userInfoUpdated`; returns the profile.
async fn next_profile(device: &Device) -> UserFullInfo {
    match device.next(EventKind::UserInfoUpdated).await {
        Event::UserInfoUpdated(event) => event.info.unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Waits for the next `userRuleUpdated`; returns the rule.
async fn next_rule(device: &Device) -> UserOfflinePushRule {
    match device.next(EventKind::UserRuleUpdated).await {
        Event::UserRuleUpdated(event) => event.user_rule.unwrap().offline_push_rule.unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Waits for a `conversationChanged` of the conversation with `peer` that fulfils `is_it`.
async fn shown_as(device: &Device, peer: &str, is_it: impl Fn(&Conversation) -> bool) -> Conversation {
    device
        .until(&format!("a change of the conversation with {peer}"), |seen| {
            let changes = seen.iter().filter_map(|event| match event {
                Event::ConversationChanged(event) => Some(event.info_list.clone()),
                _ => None,
            });
            let mut updates = changes.flatten().filter(|info| info.event() == ConversationEvent::Updated);
            updates.find_map(|info| {
                info.conversation.filter(|conversation| conversation.conversation_id == peer && is_it(conversation))
            })
        })
        .await
}

#[tokio::test]
async fn query_users_info_of_known_users_is_unlimited_and_an_id_counts_once() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let twice = soon(ann.query_users_info(["bob"; 10], FRESH)).await.unwrap();
    assert_eq!(twice.user_list.len(), 1);
    // Nine queries are left.
    let nine: Vec<String> = (0..9).map(|number| format!("u{number}")).collect();
    soon(ann.query_users_info(nine, FRESH)).await.unwrap();
    for _ in 0..50 {
        let held = soon(ann.query_users_info(["bob", "bob", "ann"], UsersInfoQueryConfig::default())).await.unwrap();
        let ids: Vec<_> = held.user_list.iter().map(|info| info.base_info.as_ref().unwrap().user_id.as_str()).collect();
        assert_eq!(ids, ["bob", "ann"]);
    }
    let unknown = soon(ann.query_users_info(["carl"], UsersInfoQueryConfig::default())).await;
    assert_eq!(refusal(unknown), ErrorCode::CommonModuleUserInfoQueriedLimit);
    world.clock.advance(10_000);
    let unknown = soon(ann.query_users_info(["carl"], UsersInfoQueryConfig::default())).await.unwrap();
    assert_eq!(unknown.error_user_list[0].user_id, "carl");
    world.end().await;
}

#[tokio::test]
async fn update_user_name_reaches_conversation_peers_and_nobody_else() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    ann.say("bob", "hello").await;
    bob.receives("hello").await;
    assert_eq!(bob.conversation("ann").await.conversation_name, "");
    soon(ann.update_user_name("Ann")).await.unwrap();
    shown_as(&bob, "ann", |conversation| conversation.conversation_name == "Ann").await;
    soon(ann.update_user_avatar_url("https://a/1.png")).await.unwrap();
    let shown = shown_as(&bob, "ann", |conversation| !conversation.conversation_avatar_url.is_empty()).await;
    assert_eq!((shown.conversation_name.as_str(), shown.conversation_avatar_url.as_str()), ("Ann", "https://a/1.png"));
    assert_eq!(bob.conversation("ann").await, shown);
    // The known profile of this device changes too, without a query.
    let held = soon(bob.query_users_info(["ann"], UsersInfoQueryConfig::default())).await.unwrap();
    assert_eq!(held.user_list, [profile("ann", "Ann", "https://a/1.png", "")]);
    // A profile change is sent to all peers at once, so what arrives at carl and bob now comes after it.
    bob.say("carl", "anything new?").await;
    carl.receives("anything new?").await;
    carl.say("bob", "no").await;
    bob.receives("no").await;
    assert_eq!(carl.conversations().await.len(), 1);
    for other in [&bob, &carl] {
        assert!(other.seen_of(EventKind::UserInfoUpdated).is_empty());
    }
    // A later conversation has the new name from the beginning.
    carl.say("ann", "hello").await;
    ann.receives("hello").await;
    soon(ann.update_user_name("Ann B.")).await.unwrap();
    shown_as(&carl, "ann", |conversation| conversation.conversation_name == "Ann B.").await;
    shown_as(&bob, "ann", |conversation| conversation.conversation_name == "Ann B.").await;
    world.end().await;
}

#[tokio::test]
async fn update_user_avatar_url_reaches_the_other_devices_only() {
    let world = World::new().await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    let updated = soon(phone.update_user_avatar_url("https://a/1.png")).await.unwrap();
    assert_eq!(updated.user_avatar_url, "https://a/1.png");
    assert_eq!(next_profile(&laptop).await, profile("ann", "", "https://a/1.png", ""));
    // An empty URL removes the avatar.
    soon(laptop.update_user_avatar_url("")).await.unwrap();
    assert_eq!(next_profile(&phone).await, profile("ann", "", "", ""));
    assert_eq!(laptop.seen_of(EventKind::UserInfoUpdated).len(), 1);
    assert_eq!(phone.seen_of(EventKind::UserInfoUpdated).len(), 1);
    world.end().await;
}

#[tokio::test]
async fn update_user_avatar_url_takes_at_most_500_bytes() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let mut raw = world.raw_user("bob", 1).await;
    let longest = "é".repeat(250);
    assert_eq!(soon(ann.update_user_avatar_url(&longest)).await.unwrap().user_avatar_url, longest);
    raw.call(&UpdateUserAvatarUrlRequest { user_avatar_url: longest.clone() }).await.unwrap();
    for bad in [format!("{longest}x"), "a\0b".to_owned()] {
        assert_eq!(refusal(soon(ann.update_user_avatar_url(&bad)).await), ErrorCode::CommonModuleParamsInvalid);
        let refused = raw.call(&UpdateUserAvatarUrlRequest { user_avatar_url: bad }).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::CommonModuleParamsInvalid as i32);
    }
    assert_eq!(oneself(&ann).await.user_full_info.unwrap(), profile("ann", "", &longest, ""));
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn update_user_extended_data_reaches_the_other_devices_only() {
    let world = World::new().await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    let updated = soon(phone.update_user_extended_data("{\"mood\":\"good\"}")).await.unwrap();
    assert_eq!(updated.extended_data, "{\"mood\":\"good\"}");
    assert_eq!(next_profile(&laptop).await, profile("ann", "", "", "{\"mood\":\"good\"}"));
    soon(laptop.update_user_extended_data("")).await.unwrap();
    next_profile(&phone).await;
    assert_eq!(laptop.seen_of(EventKind::UserInfoUpdated).len(), 1);
    world.end().await;
}

#[tokio::test]
async fn update_user_extended_data_takes_what_the_server_is_configured_for() {
    // The default is 2 KB, the maximum 32 KB.
    for (set, most) in [(None, 2_048), (Some(32_768), 32_768)] {
        let world =
            World::with(|config| set.into_iter().for_each(|bytes| config.limits.max_user_extended_data_bytes = bytes))
                .await;
        let ann = world.user("ann").await;
        let mut raw = world.raw_user("bob", 1).await;
        let longest = "é".repeat(most / 2);
        assert_eq!(soon(ann.update_user_extended_data(&longest)).await.unwrap().extended_data, longest);
        raw.call(&UpdateUserExtendedDataRequest { extended_data: longest.clone() }).await.unwrap();
        for bad in [format!("{longest}x"), "a\0b".to_owned()] {
            assert_eq!(refusal(soon(ann.update_user_extended_data(&bad)).await), ErrorCode::CommonModuleParamsInvalid);
            let refused = raw.call(&UpdateUserExtendedDataRequest { extended_data: bad }).await.unwrap_err();
            assert_eq!(refused.code, ErrorCode::CommonModuleParamsInvalid as i32);
        }
        assert_eq!(oneself(&ann).await.user_full_info.unwrap(), profile("ann", "", "", &longest));
        raw.end().await;
        world.end().await;
    }
}

#[tokio::test]
async fn update_user_offline_push_rule_reaches_all_own_devices_and_nobody_else() {
    let world = World::new().await;
    let (phone, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    let first = rule(&[PlatformType::Win, PlatformType::MacOs], &[PlatformType::IPhoneOs]);
    let updated = soon(phone.update_user_offline_push_rule(first.clone())).await.unwrap();
    assert_eq!(updated.offline_push_rule.unwrap(), first);
    assert_eq!(next_rule(&phone).await, first);
    assert_eq!(next_rule(&laptop).await, first);
    // The new rule replaces the old one as a whole.
    let second = rule(&[], &[PlatformType::Android]);
    soon(laptop.update_user_offline_push_rule(second.clone())).await.unwrap();
    assert_eq!(next_rule(&phone).await, second);
    assert_eq!(next_rule(&laptop).await, second);
    assert_eq!(oneself(&phone).await.user_rule, Some(UserRule { offline_push_rule: Some(second) }));
    phone.say("bob", "done").await;
    bob.receives("done").await;
    assert!(bob.seen_of(EventKind::UserRuleUpdated).is_empty());
    assert!(phone.seen_of(EventKind::UserInfoUpdated).is_empty());
    for device in [&phone, &laptop] {
        assert_eq!(device.seen_of(EventKind::UserRuleUpdated).len(), 2);
    }
    world.end().await;
}

#[tokio::test]
async fn update_user_offline_push_rule_takes_at_most_16_known_platforms() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let mut raw = world.raw_user("bob", 1).await;
    let of = |online: Vec<i32>, quiet: Vec<i32>| UserOfflinePushRule {
        online_platforms: online,
        not_to_receive_offline_push_platforms: quiet,
    };
    let all = vec![1, 2, 3, 4, 5, 6, 7, 9, 10, 32];
    let good = [of(vec![], vec![]), of(all.clone(), all), of(vec![1; 16], vec![2; 16])];
    for rule in good {
        let updated = soon(ann.update_user_offline_push_rule(rule.clone())).await.unwrap();
        assert_eq!(updated.offline_push_rule.unwrap(), rule);
    }
    let bad = [
        of(vec![8], vec![]),
        of(vec![], vec![-1]),
        of(vec![0], vec![]),
        of(vec![1; 17], vec![]),
        of(vec![], vec![1; 17]),
    ];
    for rule in bad {
        let refused = soon(ann.update_user_offline_push_rule(rule.clone())).await;
        assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid, "{rule:?}");
        let request = UpdateUserOfflinePushRuleRequest { offline_push_rule: Some(rule) };
        assert_eq!(raw.call(&request).await.unwrap_err().code, ErrorCode::CommonModuleParamsInvalid as i32);
    }
    let refused = raw.call(&UpdateUserOfflinePushRuleRequest { offline_push_rule: None }).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::CommonModuleParamsInvalid as i32);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn query_self_user_info_returns_profile_rules_and_platforms() {
    let world = World::new().await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    let mine = oneself(&phone).await;
    assert_eq!(mine.user_full_info.unwrap(), profile("ann", "", "", ""));
    assert_eq!(mine.user_rule.unwrap().offline_push_rule.unwrap(), UserOfflinePushRule::default());
    let quiet = rule(&[PlatformType::Linux], &[PlatformType::Ohos]);
    soon(phone.update_user_name("Ann")).await.unwrap();
    soon(phone.update_user_avatar_url("https://a/1.png")).await.unwrap();
    soon(phone.update_user_extended_data("data")).await.unwrap();
    soon(phone.update_user_offline_push_rule(quiet.clone())).await.unwrap();
    for device in [&phone, &laptop] {
        let mine = oneself(device).await;
        assert_eq!(mine.user_full_info.unwrap(), profile("ann", "Ann", "https://a/1.png", "data"));
        assert_eq!(mine.user_rule.unwrap().offline_push_rule.unwrap(), quiet);
        let status = mine.user_status.unwrap();
        assert_eq!((status.user_id.as_str(), status.online_status()), ("ann", UserOnlineStatus::Online));
        assert_eq!(status.online_platforms.len(), 1, "two devices of one platform");
    }
    world.end().await;
}

#[tokio::test]
async fn query_self_user_info_without_a_connection_returns_local_data() {
    let mut world = World::new().await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    let quiet = rule(&[PlatformType::Linux], &[PlatformType::Android]);
    soon(phone.update_user_name("Ann")).await.unwrap();
    soon(phone.update_user_avatar_url("https://a/1.png")).await.unwrap();
    soon(phone.update_user_extended_data("data")).await.unwrap();
    soon(phone.update_user_offline_push_rule(quiet.clone())).await.unwrap();
    // The device never queried it: the server pushed it.
    next_rule(&laptop).await;
    let (dir, config) = (laptop.dir(), world.client_config());
    laptop.quit().await;
    let token = LoginConfig { is_offline_login: true, ..world.with_token("ann") };
    world.stop_server().await;
    let laptop = Zim::new(config.data_dir(dir.path())).unwrap();
    soon(laptop.login("ann", token)).await.unwrap();
    let mine = oneself(&laptop).await;
    assert_eq!(mine.user_full_info.unwrap(), profile("ann", "Ann", "https://a/1.png", "data"));
    assert_eq!(mine.user_rule.unwrap().offline_push_rule.unwrap(), quiet);
    let status = mine.user_status.unwrap();
    assert_eq!((status.user_id.as_str(), status.online_status()), ("ann", UserOnlineStatus::Unknown));
    laptop.destroy();
    soon(laptop.closed()).await;
    world.end().await;
}

#[tokio::test]
async fn own_profile_calls_need_a_login() {
    let world = World::new().await;
    let nobody = world.client();
    let code = ErrorCode::NetworkModuleUserIsNotLogged;
    assert_eq!(refusal(soon(nobody.update_user_name("a")).await), code);
    assert_eq!(refusal(soon(nobody.update_user_avatar_url("a")).await), code);
    assert_eq!(refusal(soon(nobody.update_user_extended_data("a")).await), code);
    assert_eq!(refusal(soon(nobody.update_user_offline_push_rule(UserOfflinePushRule::default())).await), code);
    assert_eq!(refusal(soon(nobody.query_self_user_info()).await), code);
    assert_eq!(refusal(soon(nobody.query_users_info(["a"], FRESH)).await), code);
    world.end().await;
}

#[tokio::test]
async fn login_with_a_name_sets_it_and_without_one_keeps_it() {
    let world = World::new().await;
    let (laptop, bob) = (world.user("ann").await, world.user("bob").await);
    laptop.say("bob", "hello").await;
    bob.receives("hello").await;
    let named = LoginConfig { user_name: "Ann".to_owned(), ..world.with_token("ann") };
    let phone = world.client();
    soon(phone.login("ann", named.clone())).await.unwrap();
    phone.caught_up(0).await;
    assert_eq!(next_profile(&laptop).await, profile("ann", "Ann", "", ""));
    shown_as(&bob, "ann", |conversation| conversation.conversation_name == "Ann").await;
    assert_eq!(oneself(&phone).await.user_full_info.unwrap(), profile("ann", "Ann", "", ""));
    // A login with a new name raises no event on the device itself; one without a name keeps it.
    soon(phone.logout()).await;
    let before = phone.times_caught_up();
    let named = LoginConfig { user_name: "Ann B.".to_owned(), ..named };
    soon(phone.login("ann", named)).await.unwrap();
    phone.caught_up(before).await;
    assert_eq!(next_profile(&laptop).await, profile("ann", "Ann B.", "", ""));
    soon(phone.logout()).await;
    let phone = world.login(phone, "ann").await;
    assert_eq!(oneself(&phone).await.user_full_info.unwrap(), profile("ann", "Ann B.", "", ""));
    assert!(phone.seen_of(EventKind::UserInfoUpdated).is_empty());
    assert_eq!(laptop.seen_of(EventKind::UserInfoUpdated).len(), 2);
    let too_long = LoginConfig { user_name: "x".repeat(257), ..world.with_token("carl") };
    assert_eq!(refusal(soon(world.client().login("carl", too_long)).await), ErrorCode::CommonModuleParamsInvalid);
    let longest = LoginConfig { user_name: "x".repeat(256), ..world.with_token("carl") };
    let carl = world.client();
    soon(carl.login("carl", longest)).await.unwrap();
    assert_eq!(name(&oneself(&carl).await.user_full_info.unwrap()), "x".repeat(256));
    world.end().await;
}
