//! Friend applications: sending, accepting and rejecting them.

use zim_integration_tests::{Device, World, refusal, soon};
use zim_protocol::{
    ErrorCode, Event, EventKind, FriendAddConfig, FriendApplicationAcceptConfig, FriendApplicationInfo,
    FriendApplicationListChangeAction, FriendApplicationListQueryConfig, FriendApplicationRejectConfig,
    FriendApplicationSendConfig, FriendApplicationState as State, FriendApplicationType as Kind, FriendDeleteConfig,
    FriendDeleteType, FriendListChangeAction,
};

use crate::friend::{add, attributes, count, friends, list_change, settled};

const STATUS: ErrorCode = ErrorCode::FriendModuleFriendApplicationStatusError;

async fn send(device: &Device, user_id: &str, wording: &str) -> FriendApplicationInfo {
    let config = FriendApplicationSendConfig { wording: wording.to_owned(), ..FriendApplicationSendConfig::default() };
    let sent = soon(device.send_friend_application(user_id, config)).await;
    sent.unwrap_or_else(|error| panic!("{user_id}: {error}")).application_info.unwrap()
}

async fn refused_to_send(device: &Device, user_id: &str) -> ErrorCode {
    refusal(soon(device.send_friend_application(user_id, FriendApplicationSendConfig::default())).await)
}

async fn accept(device: &Device, user_id: &str) {
    soon(device.accept_friend_application(user_id, FriendApplicationAcceptConfig::default())).await.unwrap();
}

async fn refused_to_accept(device: &Device, user_id: &str) -> ErrorCode {
    refusal(soon(device.accept_friend_application(user_id, FriendApplicationAcceptConfig::default())).await)
}

async fn refused_to_reject(device: &Device, user_id: &str) -> ErrorCode {
    refusal(soon(device.reject_friend_application(user_id, FriendApplicationRejectConfig::default())).await)
}

/// Waits for the next application that is added.
async fn added(device: &Device) -> FriendApplicationInfo {
    match device.next(EventKind::FriendApplicationListChanged).await {
        Event::FriendApplicationListChanged(mut event) => {
            assert_eq!(event.action(), FriendApplicationListChangeAction::Added);
            event.application_list.remove(0)
        }
        other => panic!("{other:?}"),
    }
}

/// Waits for the next application that is updated.
async fn updated(device: &Device) -> FriendApplicationInfo {
    match device.next(EventKind::FriendApplicationUpdated).await {
        Event::FriendApplicationUpdated(mut event) => event.application_list.remove(0),
        other => panic!("{other:?}"),
    }
}

fn peer(info: &FriendApplicationInfo) -> &str {
    &info.apply_user.as_ref().unwrap().user_id
}

fn what(info: &FriendApplicationInfo) -> (&str, Kind, State) {
    (peer(info), info.r#type(), info.state())
}

/// Queries all applications in pages of `count`.
async fn applications_by(device: &Device, count: i64) -> Vec<FriendApplicationInfo> {
    let (mut all, mut next_flag) = (Vec::new(), 0);
    loop {
        let config = FriendApplicationListQueryConfig { next_flag, count };
        let page = soon(device.query_friend_application_list(config)).await.unwrap();
        assert!(!page.application_list.is_empty() || all.is_empty(), "an empty page");
        all.extend(page.application_list);
        next_flag = page.next_flag;
        if next_flag == 0 {
            return all;
        }
    }
}

async fn application(device: &Device, user_id: &str) -> FriendApplicationInfo {
    let all = applications_by(device, 100).await;
    all.into_iter().find(|info| peer(info) == user_id).unwrap_or_else(|| panic!("no application of {user_id}"))
}

#[tokio::test]
async fn send_friend_application_reaches_all_devices_of_both_and_nobody_else() {
    let world = World::new().await;
    let (ann, laptop) = (world.user("ann").await, world.device("ann").await);
    let (bob, tablet) = (world.user("bob").await, world.device("bob").await);
    let carl = world.user("carl").await;
    let info = send(&ann, "bob", "please").await;
    assert_eq!(what(&info), ("bob", Kind::Sent, State::Waiting));
    assert_eq!((info.wording.as_str(), info.create_time), ("please", world.clock.now_ms()));
    for device in [&ann, &laptop] {
        assert_eq!(added(device).await, info);
    }
    for device in [&bob, &tablet] {
        let received = added(device).await;
        assert_eq!(what(&received), ("ann", Kind::Received, State::Waiting));
        assert_eq!(received.wording, "please");
    }
    settled(&ann, &[(&carl, "carl"), (&bob, "bob")]).await;
    assert_eq!((count(&ann), count(&laptop), count(&bob), count(&tablet), count(&carl)), (1, 1, 1, 1, 0));
    assert!(friends(&ann).await.is_empty() && friends(&bob).await.is_empty());
    assert_eq!(applications_by(&laptop, 100).await, [info]);
    assert!(applications_by(&carl, 100).await.is_empty());
    world.end().await;
}

#[tokio::test]
async fn send_friend_application_again_updates_the_same_application() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let first = send(&ann, "bob", "please").await;
    added(&ann).await;
    added(&bob).await;
    world.clock.advance(5);
    let again = send(&ann, "bob", "pretty please").await;
    assert_eq!(what(&again), ("bob", Kind::Sent, State::Waiting));
    assert_eq!((again.create_time, again.update_time), (first.create_time, first.update_time + 5));
    assert_eq!(updated(&ann).await, again);
    let received = updated(&bob).await;
    assert_eq!(
        (what(&received), received.wording.as_str()),
        (("ann", Kind::Received, State::Waiting), "pretty please")
    );
    settled(&ann, &[(&bob, "bob")]).await;
    assert_eq!((count(&ann), count(&bob)), (2, 2));
    assert_eq!(applications_by(&bob, 100).await.len(), 1);
    world.end().await;
}

#[tokio::test]
async fn send_friend_application_to_each_other_makes_it_mutual_and_either_may_accept() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let config = FriendApplicationSendConfig { friend_alias: "Bobby".to_owned(), ..Default::default() };
    soon(ann.send_friend_application("bob", config)).await.unwrap();
    let config = FriendApplicationSendConfig {
        friend_alias: "Annie".to_owned(),
        wording: "me too".to_owned(),
        ..Default::default()
    };
    soon(bob.send_friend_application("ann", config)).await.unwrap();
    for (device, other) in [(&ann, "bob"), (&bob, "ann")] {
        added(device).await;
        let info = updated(device).await;
        assert_eq!((what(&info), info.wording.as_str()), ((other, Kind::Both, State::Waiting), "me too"));
        assert_eq!(applications_by(device, 100).await, [info]);
    }
    // The first applicant accepts; the alias of each application is kept.
    let accepted = soon(ann.accept_friend_application("bob", FriendApplicationAcceptConfig::default())).await.unwrap();
    assert_eq!(accepted.friend_info.unwrap().friend_alias, "Bobby");
    assert_eq!(list_change(&bob).await.1[0].friend_alias, "Annie");
    assert_eq!(what(&application(&bob, "ann").await), ("ann", Kind::Both, State::Accepted));
    assert_eq!(refused_to_accept(&bob, "ann").await, STATUS);
    world.end().await;
}

#[tokio::test]
async fn send_friend_application_to_each_other_at_once_is_mutual() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    tokio::join!(Box::pin(send(&ann, "bob", "from ann")), Box::pin(send(&bob, "ann", "from bob")));
    for (device, other) in [(&ann, "bob"), (&bob, "ann")] {
        assert_eq!(what(&updated(device).await), (other, Kind::Both, State::Waiting));
        assert_eq!(applications_by(device, 100).await.len(), 1);
    }
    // Both accept at once: one of them was first.
    let (one, other) = soon(async {
        tokio::join!(
            ann.accept_friend_application("bob", FriendApplicationAcceptConfig::default()),
            bob.accept_friend_application("ann", FriendApplicationAcceptConfig::default())
        )
    })
    .await;
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    assert_eq!(one.err().or_else(|| other.err()).unwrap().code(), STATUS);
    for (device, other) in [(&ann, "bob"), (&bob, "ann")] {
        assert_eq!(list_change(device).await.0, FriendListChangeAction::Added);
        assert_eq!(friends(device).await, [other]);
    }
    settled(&ann, &[(&bob, "bob")]).await;
    assert_eq!((count(&ann), count(&bob)), (4, 4));
    world.end().await;
}

#[tokio::test]
async fn send_friend_application_to_a_user_who_still_lists_the_caller_needs_no_answer() {
    let world = World::new().await;
    let (ann, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    add(&ann, "bob").await;
    let single = FriendDeleteConfig { r#type: FriendDeleteType::Single as i32 };
    soon(ann.delete_friends(["bob"], single)).await.unwrap();
    let config = FriendApplicationSendConfig {
        friend_alias: "Bobby".to_owned(),
        wording: "sorry".to_owned(),
        ..Default::default()
    };
    let sent = soon(ann.send_friend_application("bob", config)).await.unwrap().application_info.unwrap();
    assert_eq!((what(&sent), sent.wording.as_str()), (("bob", Kind::Sent, State::Accepted), "sorry"));
    for device in [&ann, &laptop] {
        for action in [FriendListChangeAction::Added, FriendListChangeAction::Deleted] {
            assert_eq!(list_change(device).await.0, action);
        }
        let (action, list) = list_change(device).await;
        assert_eq!((action, list[0].friend_alias.as_str()), (FriendListChangeAction::Added, "Bobby"));
    }
    settled(&ann, &[(&bob, "bob")]).await;
    assert_eq!((count(&ann), count(&laptop), count(&bob)), (3, 3, 1));
    assert!(applications_by(&ann, 100).await.is_empty() && applications_by(&bob, 100).await.is_empty());
    world.end().await;
}

#[tokio::test]
async fn send_friend_application_is_refused_for_oneself_unknown_users_and_friends() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    add(&ann, "bob").await;
    assert_eq!(refused_to_send(&ann, "ann").await, ErrorCode::FriendModuleCannotAddSelfToFriendList);
    assert_eq!(refused_to_send(&ann, "nobody").await, ErrorCode::FriendModuleFriendAreUnregistered);
    assert_eq!(refused_to_send(&ann, "bob").await, ErrorCode::FriendModuleIsAlreadyYourFriend);
    assert_eq!(refused_to_send(&ann, "").await, ErrorCode::CommonModuleParamsInvalid);
    assert!(applications_by(&ann, 100).await.is_empty());
    world.end().await;
}

#[tokio::test]
async fn send_friend_application_and_add_friend_are_refused_for_blocked_users() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    soon(bob.add_users_to_blacklist(["ann"])).await.unwrap();
    assert_eq!(refused_to_send(&ann, "bob").await, ErrorCode::CommonModuleBlacklistLimit);
    let refused = refusal(soon(ann.add_friend("bob", FriendAddConfig::default())).await);
    assert_eq!(refused, ErrorCode::CommonModuleBlacklistLimit);
    settled(&bob, &[(&ann, "ann")]).await;
    assert_eq!((count(&ann), count(&bob)), (0, 0));
    // The blocker can apply to the blocked user. A blocked friend stays a friend, but cannot be added again.
    send(&bob, "ann", "").await;
    accept(&ann, "bob").await;
    assert_eq!((friends(&ann).await, friends(&bob).await), (vec!["bob".to_owned()], vec!["ann".to_owned()]));
    let single = FriendDeleteConfig { r#type: FriendDeleteType::Single as i32 };
    soon(ann.delete_friends(["bob"], single)).await.unwrap();
    assert_eq!(refused_to_send(&ann, "bob").await, ErrorCode::CommonModuleBlacklistLimit);
    soon(bob.remove_users_from_blacklist(["ann"])).await.unwrap();
    assert_eq!(send(&ann, "bob", "").await.state(), State::Accepted);
    world.end().await;
}

#[tokio::test]
async fn send_friend_application_checks_the_limits_of_its_fields() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let longest = FriendApplicationSendConfig {
        wording: "語".repeat(1_024),
        friend_alias: "é".repeat(256),
        friend_attributes: attributes([("k0", &"x".repeat(1_022))]),
        push_config: None,
    };
    let too_long = [
        FriendApplicationSendConfig { wording: "語".repeat(1_025), ..longest.clone() },
        FriendApplicationSendConfig { friend_alias: "é".repeat(257), ..longest.clone() },
        FriendApplicationSendConfig { friend_attributes: attributes([("k0", &"x".repeat(1_023))]), ..longest.clone() },
    ];
    for config in too_long {
        let refused = soon(ann.send_friend_application("bob", config)).await;
        assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid);
    }
    soon(ann.send_friend_application("bob", longest.clone())).await.unwrap();
    let config = FriendApplicationAcceptConfig { friend_alias: "é".repeat(257), ..Default::default() };
    let refused = soon(bob.accept_friend_application("ann", config)).await;
    assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid);
    accept(&bob, "ann").await;
    let (_, list) = list_change(&ann).await;
    assert_eq!((&list[0].friend_alias, &list[0].wording), (&longest.friend_alias, &longest.wording));
    assert_eq!(list[0].friend_attributes, longest.friend_attributes);
    world.end().await;
}

#[tokio::test]
async fn send_friend_application_is_refused_when_either_list_is_full() {
    let world = World::with(|config| config.limits.max_friends = 1).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (carl, dora) = (world.user("carl").await, world.user("dora").await);
    send(&carl, "ann", "while there is room").await;
    add(&ann, "bob").await;
    let full = ErrorCode::FriendModuleFriendNumsLimit;
    assert_eq!(refused_to_send(&ann, "dora").await, full);
    assert_eq!(refused_to_send(&dora, "ann").await, full);
    assert!(applications_by(&dora, 100).await.is_empty());
    // An earlier application waits until there is a place again.
    assert_eq!(refused_to_accept(&ann, "carl").await, full);
    assert_eq!(what(&application(&carl, "ann").await), ("ann", Kind::Sent, State::Waiting));
    soon(bob.delete_friends(["ann"], FriendDeleteConfig::default())).await.unwrap();
    accept(&ann, "carl").await;
    assert_eq!(friends(&carl).await, ["ann"]);
    world.end().await;
}

#[tokio::test]
async fn accept_friend_application_makes_both_friends_on_all_their_devices() {
    let world = World::new().await;
    let (ann, laptop) = (world.user("ann").await, world.device("ann").await);
    let (bob, tablet) = (world.user("bob").await, world.device("bob").await);
    let carl = world.user("carl").await;
    let config = FriendApplicationSendConfig {
        wording: "please".to_owned(),
        friend_alias: "Bobby".to_owned(),
        friend_attributes: attributes([("k0", "school")]),
        push_config: None,
    };
    soon(ann.send_friend_application("bob", config)).await.unwrap();
    world.clock.advance(7);
    let config = FriendApplicationAcceptConfig {
        friend_alias: "Annie".to_owned(),
        friend_attributes: attributes([("k1", "work")]),
        push_config: None,
    };
    let accepted = soon(bob.accept_friend_application("ann", config)).await.unwrap().friend_info.unwrap();
    assert_eq!((accepted.user_id.as_str(), accepted.friend_alias.as_str()), ("ann", "Annie"));
    assert_eq!((accepted.wording.as_str(), accepted.create_time), ("please", world.clock.now_ms()));
    for (device, other, kind, alias, pairs) in [
        (&ann, "bob", Kind::Sent, "Bobby", attributes([("k0", "school")])),
        (&laptop, "bob", Kind::Sent, "Bobby", attributes([("k0", "school")])),
        (&bob, "ann", Kind::Received, "Annie", attributes([("k1", "work")])),
        (&tablet, "ann", Kind::Received, "Annie", attributes([("k1", "work")])),
    ] {
        added(device).await;
        let info = updated(device).await;
        assert_eq!(what(&info), (other, kind, State::Accepted));
        assert_eq!(info.update_time - info.create_time, 7);
        let (action, list) = list_change(device).await;
        assert_eq!((action, list[0].user_id.as_str()), (FriendListChangeAction::Added, other));
        assert_eq!((list[0].friend_alias.as_str(), &list[0].friend_attributes), (alias, &pairs));
    }
    settled(&ann, &[(&carl, "carl"), (&bob, "bob")]).await;
    assert_eq!((count(&ann), count(&laptop), count(&bob), count(&tablet), count(&carl)), (3, 3, 3, 3, 0));
    assert_eq!((friends(&ann).await, friends(&bob).await), (vec!["bob".to_owned()], vec!["ann".to_owned()]));
    world.end().await;
}

#[tokio::test]
async fn accept_friend_application_is_refused_unless_the_application_is_waiting() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    assert_eq!(refused_to_accept(&bob, "ann").await, STATUS);
    send(&ann, "bob", "").await;
    assert_eq!(refused_to_accept(&ann, "bob").await, STATUS, "one's own");
    assert_eq!(refused_to_accept(&ann, "ann").await, ErrorCode::FriendModuleCannotAddSelfToFriendList);
    assert_eq!(refused_to_accept(&ann, "nobody").await, ErrorCode::FriendModuleFriendAreUnregistered);
    accept(&bob, "ann").await;
    assert_eq!(refused_to_accept(&bob, "ann").await, STATUS, "twice");
    assert_eq!(refused_to_reject(&bob, "ann").await, STATUS, "already accepted");
    world.end().await;
}

#[tokio::test]
async fn accept_friend_application_and_reject_at_once_take_effect_once() {
    let world = World::new().await;
    let (ann, bob, tablet) = (world.user("ann").await, world.user("bob").await, world.device("bob").await);
    send(&ann, "bob", "").await;
    let (yes, no) = soon(async {
        tokio::join!(
            bob.accept_friend_application("ann", FriendApplicationAcceptConfig::default()),
            tablet.reject_friend_application("ann", FriendApplicationRejectConfig::default())
        )
    })
    .await;
    assert!(yes.is_ok() != no.is_ok(), "{yes:?} {no:?}");
    let state = if yes.is_ok() { State::Accepted } else { State::Rejected };
    assert_eq!(yes.as_ref().err().or_else(|| no.as_ref().err()).unwrap().code(), STATUS);
    for device in [&ann, &bob, &tablet] {
        assert_eq!(updated(device).await.state(), state);
        assert_eq!(friends(device).await.len(), usize::from(yes.is_ok()));
    }
    world.end().await;
}

#[tokio::test]
async fn reject_friend_application_reaches_both_and_makes_no_friends() {
    let world = World::new().await;
    let (ann, laptop) = (world.user("ann").await, world.device("ann").await);
    let (bob, tablet, carl) = (world.user("bob").await, world.device("bob").await, world.user("carl").await);
    soon(ann.update_user_name("Ann A.")).await.unwrap();
    send(&ann, "bob", "please").await;
    let rejected = soon(bob.reject_friend_application("ann", FriendApplicationRejectConfig::default())).await.unwrap();
    let user = rejected.user_info.unwrap();
    assert_eq!((user.user_id.as_str(), user.user_name.as_str()), ("ann", "Ann A."));
    for (device, other, kind) in [
        (&ann, "bob", Kind::Sent),
        (&laptop, "bob", Kind::Sent),
        (&bob, "ann", Kind::Received),
        (&tablet, "ann", Kind::Received),
    ] {
        assert_eq!(what(&updated(device).await), (other, kind, State::Rejected));
    }
    settled(&ann, &[(&carl, "carl"), (&bob, "bob")]).await;
    assert_eq!((count(&ann), count(&laptop), count(&bob), count(&tablet), count(&carl)), (2, 2, 2, 2, 0));
    assert!(friends(&ann).await.is_empty() && friends(&bob).await.is_empty());
    // After a rejection either user may apply again.
    assert_eq!(what(&send(&ann, "bob", "once more").await), ("bob", Kind::Sent, State::Waiting));
    assert_eq!(what(&updated(&bob).await), ("ann", Kind::Received, State::Waiting));
    soon(bob.reject_friend_application("ann", FriendApplicationRejectConfig::default())).await.unwrap();
    assert_eq!(what(&send(&bob, "ann", "I thought it over").await), ("ann", Kind::Sent, State::Waiting));
    assert_eq!(what(&application(&ann, "bob").await), ("bob", Kind::Received, State::Waiting));
    world.end().await;
}

#[tokio::test]
async fn reject_friend_application_is_refused_unless_the_application_is_waiting() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    assert_eq!(refused_to_reject(&bob, "ann").await, STATUS);
    send(&ann, "bob", "").await;
    assert_eq!(refused_to_reject(&ann, "bob").await, STATUS);
    assert_eq!(refused_to_reject(&bob, "nobody").await, ErrorCode::FriendModuleFriendAreUnregistered);
    soon(bob.reject_friend_application("ann", FriendApplicationRejectConfig::default())).await.unwrap();
    assert_eq!(refused_to_reject(&bob, "ann").await, STATUS);
    world.end().await;
}

#[tokio::test]
async fn accept_friend_application_is_refused_after_expiry() {
    let world = World::with(|config| config.limits.friend_application_valid_s = 60).await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    send(&ann, "bob", "").await;
    send(&carl, "bob", "").await;
    world.clock.advance(59_999);
    assert_eq!(application(&bob, "ann").await.state(), State::Waiting);
    accept(&bob, "carl").await;
    world.clock.advance(1);
    for (device, other) in [(&bob, "ann"), (&ann, "bob")] {
        assert_eq!(application(device, other).await.state(), State::Expired);
    }
    assert_eq!(refused_to_accept(&bob, "ann").await, ErrorCode::FriendModuleFriendApplicationExpired);
    assert_eq!(refused_to_reject(&bob, "ann").await, ErrorCode::FriendModuleFriendApplicationExpired);
    assert_eq!(refused_to_accept(&ann, "bob").await, STATUS);
    assert_eq!(application(&bob, "carl").await.state(), State::Accepted, "an answered application does not expire");
    assert_eq!(friends(&bob).await, ["carl"]);
    // A new application starts over, whoever sends it.
    let info = send(&bob, "ann", "too late?").await;
    assert_eq!((what(&info), info.create_time), (("ann", Kind::Sent, State::Waiting), world.clock.now_ms()));
    assert_eq!(what(&updated(&ann).await), ("bob", Kind::Received, State::Waiting));
    accept(&ann, "bob").await;
    world.end().await;
}

#[tokio::test]
async fn add_friend_accepts_a_waiting_application() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let config = FriendApplicationSendConfig { friend_alias: "Bobby".to_owned(), ..Default::default() };
    soon(ann.send_friend_application("bob", config)).await.unwrap();
    soon(bob.add_friend("ann", FriendAddConfig::default())).await.unwrap();
    for (device, other, kind) in [(&ann, "bob", Kind::Sent), (&bob, "ann", Kind::Received)] {
        assert_eq!(what(&updated(device).await), (other, kind, State::Accepted));
        assert_eq!(list_change(device).await.1[0].user_id, other);
    }
    assert_eq!(soon(ann.query_friends_info(["bob"])).await.unwrap().friend_infos[0].friend_alias, "Bobby");
    world.end().await;
}

#[tokio::test]
async fn query_friend_application_list_is_latest_change_first_in_pages() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let users = ["bob", "carl", "dora", "emil", "fred"];
    world.register(users).await;
    for user in users {
        send(&ann, user, user).await;
    }
    let order = async |count| {
        let all = applications_by(&ann, count).await;
        all.iter().map(|info| peer(info).to_owned()).collect::<Vec<_>>()
    };
    for count in [1, 2, 4, 5, 6, 100] {
        assert_eq!(order(count).await, ["fred", "emil", "dora", "carl", "bob"], "pages of {count}");
    }
    send(&ann, "carl", "again").await;
    assert_eq!(order(2).await, ["carl", "fred", "emil", "dora", "bob"]);
    for count in [0, 101] {
        let config = FriendApplicationListQueryConfig { next_flag: 0, count };
        let refused = soon(ann.query_friend_application_list(config)).await;
        assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid, "{count}");
    }
    world.end().await;
}
