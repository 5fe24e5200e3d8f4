//! Friends and their attributes.

use std::collections::HashMap;

use zim_integration_tests::{Device, World, refusal, soon};
use zim_protocol::{
    ConversationType, ErrorCode, Event, EventKind, FriendAddConfig, FriendDeleteConfig, FriendDeleteType, FriendInfo,
    FriendListChangeAction, FriendListQueryConfig, FriendRelationCheckConfig, FriendRelationCheckType,
    UserRelationType, UsersInfoQueryConfig,
};

pub(crate) const KINDS: [EventKind; 4] = [
    EventKind::FriendListChanged,
    EventKind::FriendInfoUpdated,
    EventKind::FriendApplicationListChanged,
    EventKind::FriendApplicationUpdated,
];

/// Builds the attributes of a friend.
pub(crate) fn attributes<const N: usize>(pairs: [(&str, &str); N]) -> HashMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Waits for the next change of the friend list.
pub(crate) async fn list_change(device: &Device) -> (FriendListChangeAction, Vec<FriendInfo>) {
    match device.next(EventKind::FriendListChanged).await {
        Event::FriendListChanged(event) => (event.action(), event.friend_list),
        other => panic!("{other:?}"),
    }
}

async fn info_update(device: &Device) -> Vec<FriendInfo> {
    match device.next(EventKind::FriendInfoUpdated).await {
        Event::FriendInfoUpdated(event) => event.friend_list,
        other => panic!("{other:?}"),
    }
}

/// Returns the next `count` updates. Updates that a device learns together are in one event.
async fn info_updates(device: &Device, count: usize) -> Vec<FriendInfo> {
    let mut updates = Vec::new();
    while updates.len() < count {
        updates.extend(info_update(device).await);
    }
    updates
}

/// The number of friend events that a device has raised.
pub(crate) fn count(device: &Device) -> usize {
    KINDS.iter().map(|kind| device.seen_of(*kind).len()).sum()
}

/// Waits until everything from before has arrived at `others`, because a later message has.
pub(crate) async fn settled(from: &Device, others: &[(&Device, &str)]) {
    for (number, (device, user_id)) in others.iter().enumerate() {
        let text = format!("settled {number} {}", device.seen().len());
        from.say(user_id, &text).await;
        device.receives(&text).await;
    }
}

pub(crate) async fn add(device: &Device, user_id: &str) -> FriendInfo {
    let added = soon(device.add_friend(user_id, FriendAddConfig::default())).await;
    added.unwrap_or_else(|error| panic!("{user_id}: {error}")).friend_info.unwrap()
}

async fn delete(device: &Device, user_id: &str, kind: FriendDeleteType) {
    let deleted = soon(device.delete_friends([user_id], FriendDeleteConfig { r#type: kind as i32 })).await.unwrap();
    assert!(deleted.error_user_list.is_empty());
}

/// Queries the ids of the friend list in pages of `count`.
pub(crate) async fn friends_by(device: &Device, count: i64) -> Vec<String> {
    let (mut all, mut next_flag) = (Vec::new(), 0);
    loop {
        let config = FriendListQueryConfig { next_flag, count };
        let page = soon(device.query_friend_list(config)).await.unwrap();
        assert!(!page.friend_list.is_empty() || all.is_empty(), "an empty page");
        all.extend(page.friend_list.into_iter().map(|friend| friend.user_id));
        next_flag = page.next_flag;
        if next_flag == 0 {
            return all;
        }
    }
}

pub(crate) async fn friends(device: &Device) -> Vec<String> {
    friends_by(device, 100).await
}

async fn relation(device: &Device, user_id: &str, check: FriendRelationCheckType) -> UserRelationType {
    let config = FriendRelationCheckConfig { r#type: check as i32 };
    let checked = soon(device.check_friends_relation([user_id], config)).await.unwrap();
    assert_eq!(checked.relation_infos[0].user_id, user_id);
    checked.relation_infos[0].r#type()
}

fn ids(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}

#[tokio::test]
async fn add_friend_reaches_all_devices_of_both_and_nobody_else() {
    let world = World::new().await;
    let (ann, laptop) = (world.user("ann").await, world.device("ann").await);
    let (bob, tablet) = (world.user("bob").await, world.device("bob").await);
    let carl = world.user("carl").await;
    soon(bob.update_user_name("Robert")).await.unwrap();
    let config = FriendAddConfig {
        friend_alias: "Bobby".to_owned(),
        friend_attributes: attributes([("k0", "school"), ("k4", "")]),
        wording: "hi, it's Ann".to_owned(),
    };
    let added = soon(ann.add_friend("bob", config)).await.unwrap().friend_info.unwrap();
    let expected = FriendInfo {
        user_id: "bob".to_owned(),
        user_name: "Robert".to_owned(),
        friend_alias: "Bobby".to_owned(),
        friend_attributes: attributes([("k0", "school")]),
        create_time: world.clock.now_ms(),
        wording: "hi, it's Ann".to_owned(),
        ..FriendInfo::default()
    };
    assert_eq!(added, expected);
    for device in [&ann, &laptop] {
        assert_eq!(list_change(device).await, (FriendListChangeAction::Added, vec![expected.clone()]));
    }
    // Alias and attributes are visible to ann only.
    let of_ann = FriendInfo {
        user_id: "ann".to_owned(),
        create_time: expected.create_time,
        wording: expected.wording.clone(),
        ..FriendInfo::default()
    };
    for device in [&bob, &tablet] {
        assert_eq!(list_change(device).await, (FriendListChangeAction::Added, vec![of_ann.clone()]));
    }
    settled(&ann, &[(&carl, "carl"), (&bob, "bob")]).await;
    assert_eq!((count(&ann), count(&laptop), count(&bob), count(&tablet), count(&carl)), (1, 1, 1, 1, 0));
    assert_eq!((friends(&laptop).await, friends(&tablet).await), (vec!["bob".to_owned()], vec!["ann".to_owned()]));
    assert!(friends(&carl).await.is_empty());
    world.end().await;
}

#[tokio::test]
async fn add_friend_is_refused_for_oneself_unknown_users_and_friends() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let refused = async |user_id: &str| refusal(soon(ann.add_friend(user_id, FriendAddConfig::default())).await);
    assert_eq!(refused("ann").await, ErrorCode::FriendModuleCannotAddSelfToFriendList);
    assert_eq!(refused("nobody").await, ErrorCode::FriendModuleFriendAreUnregistered);
    assert_eq!(refused("no body").await, ErrorCode::CommonModuleParamsInvalid);
    add(&ann, "bob").await;
    assert_eq!(refused("bob").await, ErrorCode::FriendModuleIsAlreadyYourFriend);
    let back = soon(bob.add_friend("ann", FriendAddConfig::default())).await;
    assert_eq!(refusal(back), ErrorCode::FriendModuleIsAlreadyYourFriend);
    world.end().await;
}

#[tokio::test]
async fn add_friend_of_a_user_who_still_lists_the_caller_changes_one_list() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    add(&ann, "bob").await;
    delete(&ann, "bob", FriendDeleteType::Single).await;
    add(&ann, "bob").await;
    let actions = [list_change(&ann).await.0, list_change(&ann).await.0, list_change(&ann).await.0];
    let (added, deleted) = (FriendListChangeAction::Added, FriendListChangeAction::Deleted);
    assert_eq!(actions, [added, deleted, added]);
    settled(&ann, &[(&bob, "bob")]).await;
    assert_eq!(count(&bob), 1, "ann was on the list all the time");
    world.end().await;
}

#[tokio::test]
async fn add_friend_checks_the_limits_of_alias_and_attributes() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let longest = FriendAddConfig {
        friend_alias: "é".repeat(256),
        friend_attributes: attributes([("k3", &"x".repeat(1_022))]),
        wording: "語".repeat(1_024),
    };
    let too_long = [
        FriendAddConfig { friend_alias: "é".repeat(257), ..longest.clone() },
        FriendAddConfig { friend_attributes: attributes([("k3", &"x".repeat(1_023))]), ..longest.clone() },
        FriendAddConfig { friend_attributes: attributes([("k5", "x")]), ..longest.clone() },
        FriendAddConfig { wording: "語".repeat(1_025), ..longest.clone() },
    ];
    for config in too_long {
        let refused = soon(ann.add_friend("bob", config)).await;
        assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid);
    }
    let added = soon(ann.add_friend("bob", longest.clone())).await.unwrap().friend_info.unwrap();
    assert_eq!((added.friend_alias, added.wording), (longest.friend_alias, longest.wording));
    assert_eq!(added.friend_attributes, longest.friend_attributes);
    world.end().await;
}

#[tokio::test]
async fn add_friend_is_refused_when_either_list_is_full() {
    let world = World::with(|config| config.limits.max_friends = 2).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (carl, dora) = (world.user("carl").await, world.user("dora").await);
    add(&ann, "bob").await;
    add(&ann, "carl").await;
    let full = ErrorCode::FriendModuleFriendNumsLimit;
    assert_eq!(refusal(soon(ann.add_friend("dora", FriendAddConfig::default())).await), full);
    assert_eq!(refusal(soon(dora.add_friend("ann", FriendAddConfig::default())).await), full);
    assert!(friends(&dora).await.is_empty(), "a refusal changes neither list");
    // A deleted friend frees a place.
    delete(&bob, "ann", FriendDeleteType::Both).await;
    add(&dora, "ann").await;
    assert_eq!(friends(&ann).await, ["dora", "carl"]);
    assert_eq!(friends(&carl).await, ["ann"]);
    world.end().await;
}

#[tokio::test]
async fn add_friend_by_two_at_once_gives_the_last_place_to_one() {
    let world = World::with(|config| config.limits.max_friends = 1).await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    let (one, other) = soon(async {
        tokio::join!(
            bob.add_friend("ann", FriendAddConfig::default()),
            carl.add_friend("ann", FriendAddConfig::default())
        )
    })
    .await;
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    let winner = if one.is_ok() { "bob" } else { "carl" };
    let refused = one.err().or_else(|| other.err()).unwrap();
    assert_eq!(refused.code(), ErrorCode::FriendModuleFriendNumsLimit);
    assert_eq!(friends(&ann).await, [winner]);
    world.end().await;
}

#[tokio::test]
async fn add_friend_by_both_at_once_makes_one_friendship() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (one, other) = soon(async {
        tokio::join!(
            ann.add_friend("bob", FriendAddConfig::default()),
            bob.add_friend("ann", FriendAddConfig::default())
        )
    })
    .await;
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    let refused = one.err().or_else(|| other.err()).unwrap();
    assert_eq!(refused.code(), ErrorCode::FriendModuleIsAlreadyYourFriend);
    for device in [&ann, &bob] {
        assert_eq!(list_change(device).await.0, FriendListChangeAction::Added);
        assert_eq!(friends(device).await.len(), 1);
    }
    settled(&ann, &[(&bob, "bob")]).await;
    assert_eq!((count(&ann), count(&bob)), (1, 1));
    world.end().await;
}

#[tokio::test]
async fn delete_friends_changes_both_lists_or_one() {
    let world = World::new().await;
    let (ann, laptop) = (world.user("ann").await, world.device("ann").await);
    let (bob, tablet, carl) = (world.user("bob").await, world.device("bob").await, world.user("carl").await);
    add(&ann, "bob").await;
    // Changes of the list that arrive together are one event.
    for device in [&ann, &laptop, &bob, &tablet] {
        assert_eq!(list_change(device).await.0, FriendListChangeAction::Added);
    }
    add(&ann, "carl").await;
    for device in [&ann, &laptop] {
        assert_eq!(list_change(device).await.1[0].user_id, "carl");
    }
    delete(&ann, "bob", FriendDeleteType::Both).await;
    for (device, deleted) in [(&ann, "bob"), (&laptop, "bob"), (&bob, "ann"), (&tablet, "ann")] {
        let (action, list) = list_change(device).await;
        assert_eq!((action, list[0].user_id.as_str()), (FriendListChangeAction::Deleted, deleted));
    }
    delete(&ann, "carl", FriendDeleteType::Single).await;
    for device in [&ann, &laptop] {
        let (action, list) = list_change(device).await;
        assert_eq!((action, list[0].user_id.as_str()), (FriendListChangeAction::Deleted, "carl"));
    }
    settled(&ann, &[(&carl, "carl"), (&bob, "bob")]).await;
    assert_eq!((count(&carl), count(&bob), count(&tablet)), (1, 2, 2), "carl has no event");
    assert_eq!(friends(&carl).await, ["ann"]);
    assert!(friends(&ann).await.is_empty() && friends(&bob).await.is_empty());
    world.end().await;
}

#[tokio::test]
async fn delete_friends_reports_non_friends_and_fails_if_there_is_no_friend() {
    let world = World::new().await;
    let (ann, _bob, _carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    add(&ann, "bob").await;
    let config = FriendDeleteConfig::default();
    let users = ["carl", "bob", "nobody", "ann", "bob", "carl"];
    let deleted = soon(ann.delete_friends(users, config)).await.unwrap();
    let mut left_out: Vec<_> =
        deleted.error_user_list.iter().map(|error| (error.user_id.as_str(), error.reason)).collect();
    left_out.sort_unstable();
    let code = |code: ErrorCode| i64::from(code as i32);
    assert_eq!(
        left_out,
        [
            ("ann", code(ErrorCode::FriendModuleCannotDeleteSelf)),
            ("carl", code(ErrorCode::FriendModuleNotYourFriend)),
            ("nobody", code(ErrorCode::FriendModuleFriendAreUnregistered)),
        ]
    );
    assert!(friends(&ann).await.is_empty());
    for (user_id, why) in [
        ("ann", ErrorCode::FriendModuleCannotDeleteSelf),
        ("bob", ErrorCode::FriendModuleNotYourFriend),
        ("nobody", ErrorCode::FriendModuleFriendAreUnregistered),
    ] {
        assert_eq!(refusal(soon(ann.delete_friends([user_id], config)).await), why, "{user_id}");
    }
    world.end().await;
}

#[tokio::test]
async fn delete_friends_takes_at_most_20() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let friends_of = ids("friend", 20);
    world.register(&friends_of).await;
    for friend in &friends_of {
        add(&ann, friend).await;
    }
    let config = FriendDeleteConfig::default();
    let too_many = friends_of.iter().cloned().chain(["one.more".to_owned()]);
    assert_eq!(
        refusal(soon(ann.delete_friends(too_many, config)).await),
        ErrorCode::FriendModuleFriendOperationLimitExceeded
    );
    assert_eq!(refusal(soon(ann.delete_friends([""; 0], config)).await), ErrorCode::CommonModuleParamsInvalid);
    assert_eq!(refusal(soon(ann.delete_friends(["b ob"], config)).await), ErrorCode::CommonModuleParamsInvalid);
    assert_eq!(friends(&ann).await.len(), 20);
    soon(ann.delete_friends(friends_of, config)).await.unwrap();
    assert!(friends(&ann).await.is_empty());
    let deleted: Vec<usize> = ann
        .seen_of(EventKind::FriendListChanged)
        .into_iter()
        .filter_map(|event| match event {
            Event::FriendListChanged(event) if event.action() == FriendListChangeAction::Deleted => {
                Some(event.friend_list.len())
            }
            _ => None,
        })
        .collect();
    assert_eq!(deleted, [20], "one event for one call");
    world.end().await;
}

#[tokio::test]
async fn check_friends_relation_has_six_answers() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (single, both) = (FriendRelationCheckType::Single, FriendRelationCheckType::Both);
    assert_eq!(relation(&ann, "bob", single).await, UserRelationType::SingleNo);
    assert_eq!(relation(&ann, "bob", both).await, UserRelationType::BothAllNo);
    add(&ann, "bob").await;
    assert_eq!(relation(&ann, "bob", single).await, UserRelationType::SingleHave);
    assert_eq!(relation(&ann, "bob", both).await, UserRelationType::BothAllHave);
    delete(&bob, "ann", FriendDeleteType::Single).await;
    assert_eq!(relation(&ann, "bob", both).await, UserRelationType::BothSelfHave);
    assert_eq!(relation(&bob, "ann", both).await, UserRelationType::BothOtherHave);
    assert_eq!(relation(&bob, "ann", single).await, UserRelationType::SingleNo);
    world.end().await;
}

#[tokio::test]
async fn check_friends_relation_takes_at_most_20_and_reports_unknown_users() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let config = FriendRelationCheckConfig::default();
    let mut users = ids("nobody", 19);
    users.push("bob".to_owned());
    let checked = soon(ann.check_friends_relation(users.clone(), config)).await.unwrap();
    assert_eq!((checked.relation_infos.len(), checked.error_user_list.len()), (1, 19));
    let unregistered = i64::from(ErrorCode::FriendModuleFriendAreUnregistered as i32);
    assert!(checked.error_user_list.iter().all(|error| error.reason == unregistered));
    users.push("ann".to_owned());
    let refused = refusal(soon(ann.check_friends_relation(users, config)).await);
    assert_eq!(refused, ErrorCode::FriendModuleFriendOperationLimitExceeded);
    let refused = refusal(soon(ann.check_friends_relation(["nobody"], config)).await);
    assert_eq!(refused, ErrorCode::FriendModuleFriendAreUnregistered);
    world.end().await;
}

#[tokio::test]
async fn update_friend_alias_names_the_conversation_on_own_devices_only() {
    let world = World::new().await;
    let (ann, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    add(&ann, "bob").await;
    bob.say("ann", "hi").await;
    for device in [&ann, &laptop] {
        device.receives("hi").await;
    }
    let updated = soon(ann.update_friend_alias("Bobby", "bob")).await.unwrap().friend_info.unwrap();
    assert_eq!(updated.friend_alias, "Bobby");
    for device in [&ann, &laptop] {
        assert_eq!(info_update(device).await, std::slice::from_ref(&updated));
        device
            .until("a conversation with an alias", |seen| {
                seen.iter().rev().find_map(|event| match event {
                    Event::ConversationChanged(event) => event.info_list.iter().find_map(|info| {
                        info.conversation.as_ref().filter(|one| one.conversation_alias == "Bobby").cloned()
                    }),
                    _ => None,
                })
            })
            .await;
        assert_eq!(device.conversation("bob").await.conversation_alias, "Bobby");
    }
    // The same alias again is no change.
    soon(ann.update_friend_alias("Bobby", "bob")).await.unwrap();
    settled(&ann, &[(&bob, "bob")]).await;
    assert_eq!(ann.seen_of(EventKind::FriendInfoUpdated).len(), 1);
    assert!(bob.seen_of(EventKind::FriendInfoUpdated).is_empty());
    assert_eq!(bob.conversation("ann").await.conversation_alias, "");
    // A former friend has no alias.
    delete(&ann, "bob", FriendDeleteType::Both).await;
    assert_eq!(ann.conversation("bob").await.conversation_alias, "");
    world.end().await;
}

#[tokio::test]
async fn update_friend_alias_takes_256_characters_and_only_of_friends() {
    let world = World::new().await;
    let (ann, _bob, _carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    add(&ann, "bob").await;
    let longest = "語".repeat(256);
    let updated = soon(ann.update_friend_alias(&longest, "bob")).await.unwrap();
    assert_eq!(updated.friend_info.unwrap().friend_alias, longest);
    let refused = refusal(soon(ann.update_friend_alias(&format!("{longest}x"), "bob")).await);
    assert_eq!(refused, ErrorCode::CommonModuleParamsInvalid);
    assert_eq!(soon(ann.update_friend_alias("", "bob")).await.unwrap().friend_info.unwrap().friend_alias, "");
    for (user_id, why) in [
        ("carl", ErrorCode::FriendModuleNotYourFriend),
        ("ann", ErrorCode::FriendModuleNotYourFriend),
        ("nobody", ErrorCode::FriendModuleFriendAreUnregistered),
    ] {
        assert_eq!(refusal(soon(ann.update_friend_alias("x", user_id)).await), why, "{user_id}");
    }
    world.end().await;
}

#[tokio::test]
async fn update_friend_attributes_sets_the_given_keys_and_keeps_the_rest() {
    let world = World::new().await;
    let (ann, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    add(&ann, "bob").await;
    let update = async |pairs| soon(ann.update_friend_attributes(pairs, "bob")).await;
    update(attributes([("k0", "a"), ("k1", "b"), ("k4", "c")])).await.unwrap();
    let updated = update(attributes([("k1", ""), ("k2", "d")])).await.unwrap().friend_info.unwrap();
    let expected = attributes([("k0", "a"), ("k2", "d"), ("k4", "c")]);
    assert_eq!(updated.friend_attributes, expected);
    for device in [&ann, &laptop] {
        assert_eq!(&info_updates(device, 2).await[1..], std::slice::from_ref(&updated));
    }
    settled(&ann, &[(&bob, "bob")]).await;
    assert!(bob.seen_of(EventKind::FriendInfoUpdated).is_empty());
    // The limit is 1,024 bytes in total; "k0 a", "k2 d" and "k4 c" take 9.
    let rest = 1_024 - 9 - 2;
    let refused = refusal(update(attributes([("k3", &"x".repeat(rest + 1))])).await);
    assert_eq!(refused, ErrorCode::CommonModuleParamsInvalid);
    update(attributes([("k3", &"x".repeat(rest))])).await.unwrap();
    for bad in [attributes([]), attributes([("k5", "x")]), attributes([("k0", "a\0")])] {
        assert_eq!(refusal(update(bad).await), ErrorCode::CommonModuleParamsInvalid);
    }
    let refused = refusal(soon(bob.update_friend_attributes(attributes([("k0", "x")]), "bob")).await);
    assert_eq!(refused, ErrorCode::FriendModuleNotYourFriend);
    world.end().await;
}

#[tokio::test]
async fn query_friends_info_keeps_the_order_and_reports_non_friends() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    world.register(["bob", "carl", "dora"]).await;
    add(&ann, "bob").await;
    add(&ann, "dora").await;
    let users = ["dora", "carl", "bob", "nobody", "dora"];
    let found = soon(ann.query_friends_info(users)).await.unwrap();
    let infos: Vec<&str> = found.friend_infos.iter().map(|info| info.user_id.as_str()).collect();
    assert_eq!(infos, ["dora", "bob"]);
    let mut errors: Vec<_> = found.error_user_list.iter().map(|error| (error.user_id.as_str(), error.reason)).collect();
    errors.sort_unstable();
    let code = |code: ErrorCode| i64::from(code as i32);
    assert_eq!(
        errors,
        [
            ("carl", code(ErrorCode::FriendModuleNotYourFriend)),
            ("nobody", code(ErrorCode::FriendModuleFriendAreUnregistered)),
        ]
    );
    assert_eq!(refusal(soon(ann.query_friends_info(["carl"])).await), ErrorCode::FriendModuleNotYourFriend);
    let mut twenty = ids("nobody", 19);
    twenty.push("bob".to_owned());
    assert_eq!(soon(ann.query_friends_info(twenty.clone())).await.unwrap().friend_infos.len(), 1);
    twenty.push("carl".to_owned());
    let refused = refusal(soon(ann.query_friends_info(twenty)).await);
    assert_eq!(refused, ErrorCode::FriendModuleFriendOperationLimitExceeded);
    world.end().await;
}

#[tokio::test]
async fn query_friend_list_is_newest_first_in_pages_of_at_most_100() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    world.register(ids("friend", 7)).await;
    for friend in ids("friend", 7) {
        add(&ann, &friend).await;
    }
    let newest_first: Vec<String> = ids("friend", 7).into_iter().rev().collect();
    for count in [1, 2, 3, 6, 7, 8, 100] {
        assert_eq!(friends_by(&ann, count).await, newest_first, "pages of {count}");
    }
    // A change of a friend does not change the order.
    soon(ann.update_friend_alias("first", "friend0")).await.unwrap();
    assert_eq!(friends(&ann).await, newest_first);
    for count in [0, -1, 101] {
        let refused = soon(ann.query_friend_list(FriendListQueryConfig { next_flag: 0, count })).await;
        assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid, "{count}");
    }
    world.end().await;
}

#[tokio::test]
async fn friend_info_is_updated_when_the_friends_profile_changes() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    add(&ann, "bob").await;
    soon(ann.update_friend_alias("Bobby", "bob")).await.unwrap();
    info_update(&ann).await;
    soon(bob.update_user_name("Robert")).await.unwrap();
    let fresh = UsersInfoQueryConfig { is_query_from_server: true };
    soon(ann.query_users_info(["bob"], fresh)).await.unwrap();
    let updated = info_update(&ann).await;
    assert_eq!((updated[0].user_name.as_str(), updated[0].friend_alias.as_str()), ("Robert", "Bobby"));
    ann.say("bob", "hi").await;
    assert_eq!(
        soon(ann.query_conversation("bob", ConversationType::Peer))
            .await
            .unwrap()
            .conversation
            .unwrap()
            .conversation_name,
        "Robert"
    );
    world.end().await;
}
