//! Online states, custom statuses and subscriptions.

use zim_client_sdk::Zim;
use zim_integration_tests::{Device, START_MS, World, eventually, refusal, soon};
use zim_protocol::{
    ErrorCode, ErrorUserInfo, Event, EventKind, Hello, LoginConfig, PlatformType, QueryUsersStatusRequest,
    SubscribeUsersStatusRequest, SubscribedUserStatusQueryConfig, UnsubscribeUsersStatusRequest,
    UpdateUserCustomStatusRequest, UserCustomStatusUpdateConfig, UserOnlineStatus, UserStatus,
    UserStatusSubscribeConfig, UserStatusSubscription,
};
use zim_server::db::{Scope, Tx, params};

const HOUR: UserStatusSubscribeConfig = UserStatusSubscribeConfig { subscription_duration: 60 };
const DAY: UserCustomStatusUpdateConfig = UserCustomStatusUpdateConfig { duration: 0 };
const INVALID: ErrorCode = ErrorCode::CommonModuleParamsInvalid;
const NOBODY: ErrorCode = ErrorCode::CommonModuleUserIsNotExist;
const DAY_MS: i64 = 86_400_000;

pub(crate) async fn subscribe(device: &Device, user: &str) {
    let done = soon(device.subscribe_users_status([user], HOUR)).await.unwrap();
    assert!(done.error_user_list.is_empty());
}

pub(crate) async fn set_custom_status(device: &Device, custom: &str) {
    soon(device.update_user_custom_status(custom, DAY)).await.unwrap();
}

/// The statuses of a user that a device has raised, in order.
pub(crate) fn statuses_of(seen: &[Event], user: &str) -> Vec<UserStatus> {
    let mut all = Vec::new();
    for event in seen {
        if let Event::UserStatusUpdated(event) = event {
            all.extend(event.user_status_list.iter().filter(|status| status.user_id == user).cloned());
        }
    }
    all
}

/// Waits until a device raises a status of a user that fulfils `is`.
pub(crate) async fn sees(device: &Device, user: &str, is: impl Fn(&UserStatus) -> bool) -> UserStatus {
    let what = format!("the status of {user}");
    device.until(&what, |seen| statuses_of(seen, user).into_iter().find(|status| is(status))).await
}

/// Waits until a device raises this online status of a user.
pub(crate) async fn sees_as(device: &Device, user: &str, online: UserOnlineStatus) -> UserStatus {
    sees(device, user, |status| status.online_status() == online).await
}

pub(crate) async fn query(device: &Device, user: &str) -> UserStatus {
    soon(device.query_users_status([user])).await.unwrap().user_status_list.remove(0)
}

pub(crate) async fn subscriptions(device: &Zim) -> Vec<UserStatusSubscription> {
    let config = SubscribedUserStatusQueryConfig::default();
    soon(device.query_subscribed_user_status_list(config)).await.unwrap().user_status_subscription_list
}

pub(crate) async fn subscribed(device: &Zim) -> Vec<String> {
    subscriptions(device).await.into_iter().map(|held| held.user_status.unwrap().user_id).collect()
}

/// The code of a refused call on the wire.
fn refused<T: std::fmt::Debug>(answer: Result<T, zim_protocol::Error>) -> ErrorCode {
    ErrorCode::try_from(answer.unwrap_err().code).unwrap()
}

fn error(user_id: &str, code: ErrorCode) -> ErrorUserInfo {
    ErrorUserInfo { user_id: user_id.to_owned(), reason: i64::from(code as i32) }
}

/// Creates users who have never been online, directly in the database, because many logins take long.
pub(crate) async fn register(world: &World, users: &[String]) {
    let app = world.server().app();
    let rows: Vec<(i64, String)> = users.iter().map(|user| (app.ids.next(), user.clone())).collect();
    let app_id = i64::from(world.app_id());
    let done = app.db.submit(Scope::none(), async move |tx: &mut Tx<'_>| {
        for (id, name) in rows {
            tx.execute(
                "INSERT INTO account (id, app, name, pos, user_name, avatar_url, extended_data, info_at, created_at) \
                 VALUES ($1, $2, $3, 0, '', '', '', 0, 0)",
                &params![id, app_id, name],
            )
            .await?;
        }
        Ok(())
    });
    soon(done).await.unwrap();
}

pub(crate) fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("user{number}")).collect()
}

#[tokio::test]
async fn subscribe_users_status_distinguishes_online_offline_and_logged_out() {
    let world = World::new().await;
    let (ann, carl, bob) = (world.user("ann").await, world.user("carl").await, world.user("bob").await);
    subscribe(&ann, "bob").await;
    let online = sees_as(&ann, "bob", UserOnlineStatus::Online).await;
    assert_eq!((online.online_platforms.len(), online.last_online_status_update_time), (1, START_MS));
    world.clock.advance(1_000);
    soon(bob.logout()).await;
    let left = sees_as(&ann, "bob", UserOnlineStatus::Logout).await;
    assert_eq!((left.online_platforms, left.last_update_time), (vec![], START_MS + 1_000));
    world.clock.advance(1_000);
    let bob = world.login(bob, "bob").await;
    let back = sees(&ann, "bob", |status| status.last_update_time == START_MS + 2_000).await;
    assert_eq!(back.online_status(), UserOnlineStatus::Online);
    world.clock.advance(1_000);
    // Without a logout: the app was closed.
    bob.quit().await;
    let lost = sees_as(&ann, "bob", UserOnlineStatus::Offline).await;
    assert_eq!(lost.last_online_status_update_time, START_MS + 3_000);
    // Users receive only the statuses that they subscribed to.
    ann.say("carl", "done").await;
    carl.receives("done").await;
    assert!(carl.seen_of(EventKind::UserStatusUpdated).is_empty());
    assert!(statuses_of(&ann.seen(), "carl").is_empty());
    assert_eq!(statuses_of(&ann.seen(), "bob").len(), 4);
    world.end().await;
}

#[tokio::test]
async fn subscribe_users_status_reports_a_silent_connection_as_offline() {
    let world = World::with(|settings| settings.limits.offline_after_ms = 1_000).await;
    let ann = world.user("ann").await;
    let proxy = world.proxy(1).await;
    let _bob = world.user_via(&proxy, "bob").await;
    subscribe(&ann, "bob").await;
    sees_as(&ann, "bob", UserOnlineStatus::Online).await;
    proxy.cut();
    sees_as(&ann, "bob", UserOnlineStatus::Offline).await;
    assert_eq!(query(&ann, "bob").await.online_status(), UserOnlineStatus::Offline);
    proxy.restore();
    world
        .advance_until("bob is online again", async || (statuses_of(&ann.seen(), "bob").len() == 3).then_some(()))
        .await;
    assert_eq!(statuses_of(&ann.seen(), "bob")[2].online_status(), UserOnlineStatus::Online);
    world.end().await;
}

#[tokio::test]
async fn subscribe_users_status_is_shared_by_all_devices_and_outlives_a_login() {
    let world = World::new().await;
    let (phone, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    subscribe(&phone, "bob").await;
    for device in [&phone, &laptop] {
        sees_as(device, "bob", UserOnlineStatus::Online).await;
        assert_eq!(subscribed(device).await, ["bob"]);
    }
    soon(laptop.logout()).await;
    world.clock.advance(2_000);
    set_custom_status(&bob, "busy").await;
    sees(&phone, "bob", |status| status.custom_status == "busy").await;
    // After the login it raises the missed status, together with the unchanged ones.
    let before = laptop.seen_of(EventKind::UserStatusUpdated).len();
    let laptop = world.login(laptop, "ann").await;
    sees(&laptop, "bob", |status| status.custom_status == "busy").await;
    assert_eq!(laptop.seen_of(EventKind::UserStatusUpdated).len(), before + 1);
    // A new device has the list too.
    let tablet = world.device("ann").await;
    sees(&tablet, "bob", |status| status.custom_status == "busy").await;
    assert_eq!(subscriptions(&tablet).await, subscriptions(&phone).await);
    world.end().await;
}

#[tokio::test]
async fn subscribe_users_status_takes_at_most_100_users() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let users = names(101);
    register(&world, &users).await;
    assert_eq!(refusal(soon(ann.subscribe_users_status(&users, HOUR)).await), INVALID);
    assert_eq!(refusal(soon(ann.subscribe_users_status(Vec::<String>::new(), HOUR)).await), INVALID);
    assert!(subscribed(&ann).await.is_empty());
    assert!(soon(ann.subscribe_users_status(&users[..100], HOUR)).await.unwrap().error_user_list.is_empty());
    assert_eq!(subscribed(&ann).await, users[..100]);
    // The server refuses it too.
    let mut raw = world.raw_user("carl", 1).await;
    let request = SubscribeUsersStatusRequest { user_ids: users.clone(), config: Some(HOUR) };
    assert_eq!(refused(raw.call(&request).await), INVALID);
    assert_eq!(refused(raw.call(&SubscribeUsersStatusRequest { config: None, ..request }).await), INVALID);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn subscribe_users_status_lasts_1_to_43200_minutes() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let lasting = |subscription_duration| UserStatusSubscribeConfig { subscription_duration };
    for bad in [0, -1, 43_201] {
        assert_eq!(refusal(soon(ann.subscribe_users_status(["bob"], lasting(bad))).await), INVALID);
    }
    soon(ann.subscribe_users_status(["bob"], lasting(43_200))).await.unwrap();
    assert_eq!(subscriptions(&ann).await[0].subscribe_expired_time, START_MS + 43_200 * 60_000);
    // Renewed with an earlier end.
    soon(ann.subscribe_users_status(["bob"], lasting(1))).await.unwrap();
    assert_eq!(subscriptions(&ann).await[0].subscribe_expired_time, START_MS + 60_000);
    world.clock.advance(59_999);
    set_custom_status(&bob, "still").await;
    sees(&ann, "bob", |status| status.custom_status == "still").await;
    assert_eq!(subscribed(&ann).await, ["bob"]);
    world.clock.advance(1_000);
    assert!(subscribed(&ann).await.is_empty());
    set_custom_status(&bob, "unseen").await;
    assert_eq!(query(&ann, "bob").await.custom_status, "unseen");
    // A new subscription raises the present status, although it has not changed since the query.
    soon(ann.subscribe_users_status(["bob"], lasting(1))).await.unwrap();
    sees(&ann, "bob", |status| status.custom_status == "unseen").await;
    let before = statuses_of(&ann.seen(), "bob").len();
    world.clock.advance(60_000);
    soon(ann.subscribe_users_status(["bob"], lasting(1))).await.unwrap();
    assert_eq!(statuses_of(&ann.seen(), "bob").len(), before + 1);
    // Renewing a valid subscription raises nothing.
    soon(ann.subscribe_users_status(["bob"], lasting(1))).await.unwrap();
    assert_eq!(statuses_of(&ann.seen(), "bob").len(), before + 1);
    world.clock.advance(60_000);
    assert_eq!(refusal(soon(ann.unsubscribe_users_status(["bob"])).await), INVALID);
    world.end().await;
}

#[tokio::test]
async fn subscribe_users_status_beyond_the_limit_evicts_the_earliest() {
    let world = World::with(|settings| settings.limits.max_status_subscriptions = 100).await;
    let (ann, laptop) = (world.user("ann").await, world.device("ann").await);
    let users = names(103);
    register(&world, &users).await;
    soon(ann.subscribe_users_status(&users[..50], HOUR)).await.unwrap();
    soon(ann.subscribe_users_status(&users[50..100], HOUR)).await.unwrap();
    assert_eq!(subscribed(&ann).await.len(), 100);
    // The renewed subscription is the latest and is not evicted.
    soon(ann.subscribe_users_status(&users[..1], HOUR)).await.unwrap();
    assert_eq!(subscribed(&ann).await.len(), 100);
    soon(ann.subscribe_users_status(&users[100..], HOUR)).await.unwrap();
    let expected: Vec<String> = [&users[4..100], &users[..1], &users[100..]].concat();
    assert_eq!(subscribed(&ann).await, expected);
    eventually("the other device has the same list", async || (subscribed(&laptop).await == expected).then_some(()))
        .await;
    assert_eq!(subscriptions(&laptop).await, subscriptions(&ann).await);
    world.end().await;
}

#[tokio::test]
async fn subscribe_users_status_reports_users_who_cannot_be_subscribed_to() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let done = soon(ann.subscribe_users_status(["bob", "nobody", "ann", "bob"], HOUR)).await.unwrap();
    assert_eq!(done.error_user_list, [error("nobody", NOBODY), error("ann", INVALID)]);
    assert_eq!(subscribed(&ann).await, ["bob"]);
    assert_eq!(refusal(soon(ann.subscribe_users_status(["ann"], HOUR)).await), INVALID);
    assert_eq!(refusal(soon(ann.subscribe_users_status(["nobody"], HOUR)).await), NOBODY);
    assert_eq!(refusal(soon(ann.subscribe_users_status(["a b"], HOUR)).await), INVALID);
    world.end().await;
}

#[tokio::test]
async fn unsubscribe_users_status_stops_the_events() {
    let world = World::new().await;
    let (ann, laptop, carl) = (world.user("ann").await, world.device("ann").await, world.user("carl").await);
    let bob = world.user("bob").await;
    for device in [&ann, &carl] {
        subscribe(device, "bob").await;
        sees_as(device, "bob", UserOnlineStatus::Online).await;
    }
    sees_as(&laptop, "bob", UserOnlineStatus::Online).await;
    let done = soon(ann.unsubscribe_users_status(["bob", "carl", "nobody"])).await.unwrap();
    assert_eq!(done.error_user_list, [error("nobody", NOBODY), error("carl", INVALID)]);
    assert!(subscribed(&ann).await.is_empty());
    eventually("the other device", async || subscribed(&laptop).await.is_empty().then_some(())).await;
    set_custom_status(&bob, "unseen").await;
    sees(&carl, "bob", |status| status.custom_status == "unseen").await;
    for device in [&ann, &laptop] {
        carl.say("ann", "done").await;
        device.receives("done").await;
        assert!(statuses_of(&device.seen(), "bob").iter().all(|status| status.custom_status.is_empty()));
    }
    assert_eq!(refusal(soon(ann.unsubscribe_users_status(["bob"])).await), INVALID);
    assert_eq!(refusal(soon(ann.unsubscribe_users_status(["nobody"])).await), NOBODY);
    world.end().await;
}

#[tokio::test]
async fn unsubscribe_users_status_takes_at_most_100_users() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let users = names(101);
    register(&world, &users).await;
    soon(ann.subscribe_users_status(&users[..100], HOUR)).await.unwrap();
    assert_eq!(refusal(soon(ann.unsubscribe_users_status(&users)).await), INVALID);
    assert_eq!(refusal(soon(ann.unsubscribe_users_status(Vec::<String>::new())).await), INVALID);
    assert_eq!(subscribed(&ann).await.len(), 100);
    assert!(soon(ann.unsubscribe_users_status(&users[..100])).await.unwrap().error_user_list.is_empty());
    assert!(subscribed(&ann).await.is_empty());
    let mut raw = world.raw_user("carl", 1).await;
    assert_eq!(refused(raw.call(&UnsubscribeUsersStatusRequest { user_ids: users }).await), INVALID);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn query_users_status_takes_at_most_200_users() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let mut users = names(199);
    register(&world, &users).await;
    users.push("bob".to_owned());
    let found = soon(ann.query_users_status(&users)).await.unwrap();
    let ids: Vec<&str> = found.user_status_list.iter().map(|status| status.user_id.as_str()).collect();
    assert_eq!(ids, users);
    assert_eq!(found.user_status_list[199].online_status(), UserOnlineStatus::Online);
    users.push("ann".to_owned());
    assert_eq!(refusal(soon(ann.query_users_status(&users)).await), INVALID);
    assert_eq!(refusal(soon(ann.query_users_status(Vec::<String>::new())).await), INVALID);
    let mut raw = world.raw_user("carl", 1).await;
    assert_eq!(refused(raw.call(&QueryUsersStatusRequest { user_ids: users }).await), INVALID);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn query_users_status_reports_unregistered_users() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    soon(bob.logout()).await;
    let found = soon(ann.query_users_status(["nobody", "bob", "ann", "bob"])).await.unwrap();
    assert_eq!(found.error_user_list, [error("nobody", NOBODY)]);
    let online: Vec<_> = found.user_status_list.iter().map(UserStatus::online_status).collect();
    assert_eq!(online, [UserOnlineStatus::Logout, UserOnlineStatus::Online]);
    assert_eq!(refusal(soon(ann.query_users_status(["nobody"])).await), NOBODY);
    // A query does not subscribe.
    world.login(bob, "bob").await;
    assert_eq!(query(&ann, "bob").await.online_status(), UserOnlineStatus::Online);
    world.user("carl").await.say("ann", "now").await;
    ann.receives("now").await;
    assert!(statuses_of(&ann.seen(), "bob").is_empty());
    world.end().await;
}

#[tokio::test]
async fn update_user_custom_status_reaches_subscribers_and_other_devices() {
    let world = World::new().await;
    let (phone, laptop) = (world.user("ann").await, world.device("ann").await);
    let (bob, carl) = (world.user("bob").await, world.user("carl").await);
    subscribe(&bob, "ann").await;
    sees_as(&bob, "ann", UserOnlineStatus::Online).await;
    let told_before = statuses_of(&phone.seen(), "ann").len();
    let updated = soon(phone.update_user_custom_status("busy", DAY)).await.unwrap();
    assert_eq!(updated.custom_status, "busy");
    for device in [&laptop, &bob] {
        let busy = sees(device, "ann", |status| status.custom_status == "busy").await;
        assert_eq!(busy.online_status(), UserOnlineStatus::Online);
        assert_eq!(busy.custom_status_expired_time, START_MS + DAY_MS);
        assert_eq!((busy.last_custom_status_update_time, busy.last_update_time), (START_MS, START_MS));
    }
    phone.say("carl", "done").await;
    carl.receives("done").await;
    carl.say("ann", "thanks").await;
    phone.receives("thanks").await;
    laptop.receives("done").await;
    assert_eq!(statuses_of(&phone.seen(), "ann").len(), told_before, "the calling device raises no event");
    assert!(carl.seen_of(EventKind::UserStatusUpdated).is_empty());
    for device in [&phone, &laptop] {
        let own = soon(device.query_self_user_info()).await.unwrap().self_user_info.unwrap().user_status.unwrap();
        assert_eq!((own.custom_status.as_str(), own.online_status()), ("busy", UserOnlineStatus::Online));
    }
    // An empty status removes it.
    world.clock.advance(1_000);
    set_custom_status(&phone, "").await;
    let free = sees(&bob, "ann", |status| status.last_custom_status_update_time > START_MS).await;
    assert_eq!((free.custom_status.as_str(), free.custom_status_expired_time), ("", 0));
    world.end().await;
}

#[tokio::test]
async fn update_user_custom_status_takes_64_bytes_once_a_second() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let longest = "é".repeat(32);
    for bad in [format!("{longest}x"), "a\0b".to_owned()] {
        assert_eq!(refusal(soon(ann.update_user_custom_status(&bad, DAY)).await), INVALID);
    }
    assert_eq!(soon(ann.update_user_custom_status(&longest, DAY)).await.unwrap().custom_status, longest);
    world.clock.advance(999);
    let too_soon = refusal(soon(ann.update_user_custom_status("b", DAY)).await);
    assert_eq!(too_soon, ErrorCode::CommonModuleTriggerSdkFrequencyLimit);
    world.clock.advance(1);
    set_custom_status(&ann, "b").await;
    // The server has its own limit.
    let mut raw = world.raw_user("carl", 1).await;
    let says = |text: &str| UpdateUserCustomStatusRequest { custom_status: text.to_owned(), config: None };
    // It allows two at once, because calls that leave a second apart may arrive closer.
    raw.call(&says("a")).await.unwrap();
    raw.call(&says("a")).await.unwrap();
    world.clock.advance(999);
    assert_eq!(refused(raw.call(&says("b")).await), ErrorCode::CommonModuleTriggerServerFrequencyLimit);
    world.clock.advance(1);
    raw.call(&says("b")).await.unwrap();
    world.clock.advance(1_000);
    assert_eq!(refused(raw.call(&says(&"x".repeat(65))).await), INVALID);
    assert_eq!(query(&ann, "carl").await.custom_status, "b");
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn update_user_custom_status_expires() {
    let world = World::new().await;
    let (phone, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    subscribe(&bob, "ann").await;
    for bad in [-2, 3_153_600_001] {
        let config = UserCustomStatusUpdateConfig { duration: bad };
        assert_eq!(refusal(soon(phone.update_user_custom_status("busy", config)).await), INVALID);
    }
    soon(phone.update_user_custom_status("busy", UserCustomStatusUpdateConfig { duration: 60 })).await.unwrap();
    for device in [&bob, &laptop] {
        let busy = sees(device, "ann", |status| status.custom_status == "busy").await;
        assert_eq!(busy.custom_status_expired_time, START_MS + 60_000);
    }
    world.clock.advance(59_999);
    assert_eq!(query(&bob, "ann").await.custom_status, "busy");
    assert_eq!(subscriptions(&bob).await[0].user_status.clone().unwrap().custom_status, "busy");
    world.clock.advance(1);
    assert_eq!(query(&bob, "ann").await.custom_status, "");
    assert_eq!(subscriptions(&bob).await[0].user_status.clone().unwrap().custom_status, "");
    // The server ends it, so all devices of the user raise the change.
    for device in [&bob, &laptop, &phone] {
        sees(device, "ann", |status| status.last_custom_status_update_time == START_MS + 60_000).await;
    }
    // Without an expiry.
    soon(phone.update_user_custom_status("away", UserCustomStatusUpdateConfig { duration: -1 })).await.unwrap();
    let away = sees(&bob, "ann", |status| status.custom_status == "away").await;
    assert_eq!(away.custom_status_expired_time, 0);
    world.clock.advance(400 * DAY_MS);
    let mut raw = world.raw_user("dora", 1).await;
    let found = raw.call(&QueryUsersStatusRequest { user_ids: vec!["ann".to_owned()] }).await.unwrap();
    assert_eq!(found.user_status_list[0].custom_status, "away");
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn login_with_a_custom_status_sets_it_and_without_one_keeps_it() {
    let world = World::new().await;
    let bob = world.user("bob").await;
    let busy = |user: &str, seconds| LoginConfig {
        custom_status: "busy".to_owned(),
        custom_status_duration: seconds,
        ..world.with_token(user)
    };
    let ann = world.client();
    soon(ann.login("ann", busy("ann", 60))).await.unwrap();
    ann.caught_up(0).await;
    let seen = query(&bob, "ann").await;
    assert_eq!((seen.custom_status.as_str(), seen.custom_status_expired_time), ("busy", START_MS + 60_000));
    assert_eq!(seen.online_status(), UserOnlineStatus::Online);
    soon(ann.logout()).await;
    let ann = world.login(ann, "ann").await;
    assert_eq!(query(&bob, "ann").await.custom_status, "busy");
    soon(ann.logout()).await;
    let bad = LoginConfig { custom_status_duration: -2, ..busy("ann", 0) };
    assert_eq!(refusal(soon(ann.login("ann", bad)).await), INVALID);
    let bad = LoginConfig { custom_status: "x".repeat(65), ..busy("ann", 0) };
    assert_eq!(refusal(soon(ann.login("ann", bad)).await), INVALID);
    soon(ann.login("ann", busy("ann", -1))).await.unwrap();
    assert_eq!(query(&bob, "ann").await.custom_status_expired_time, 0);
    soon(ann.logout()).await;
    // It expires like any other.
    subscribe(&bob, "ann").await;
    soon(ann.login("ann", busy("ann", 60))).await.unwrap();
    sees(&bob, "ann", |status| status.custom_status_expired_time == START_MS + 60_000).await;
    world.clock.advance(60_000);
    sees(&bob, "ann", |status| status.last_custom_status_update_time == START_MS + 60_000).await;
    world.end().await;
}

#[tokio::test]
async fn subscribers_see_the_platforms_and_own_devices_the_changed_set() {
    let world = World::new().await;
    let (phone, bob) = (world.user("ann").await, world.user("bob").await);
    subscribe(&bob, "ann").await;
    let native = sees_as(&bob, "ann", UserOnlineStatus::Online).await.online_platforms;
    // A browser.
    let mut web = world.raw().await;
    web.handshake(Hello { platform: PlatformType::Web as i32, ..zim_integration_tests::hello(9) }).await;
    web.call(&world.login_request("ann")).await.unwrap();
    let both = [native.clone(), vec![PlatformType::Web as i32]].concat();
    sees(&bob, "ann", |status| status.online_platforms == both && status.online_status() == UserOnlineStatus::Online)
        .await;
    // As in the reference: own devices are told the platforms and nothing else.
    let own = sees(&phone, "ann", |status| status.online_platforms == both).await;
    assert_eq!((own.online_status(), own.last_update_time), (UserOnlineStatus::Unknown, 0));
    world.clock.advance(1_000);
    web.end().await;
    let alone = sees(&bob, "ann", |status| status.last_online_status_update_time == START_MS + 1_000).await;
    assert_eq!((alone.online_status(), &alone.online_platforms), (UserOnlineStatus::Online, &native));
    sees(&phone, "ann", |status| status.online_platforms == native).await;
    // Another device of the same platform changes nothing for others.
    let laptop = world.device("ann").await;
    soon(laptop.logout()).await;
    world.clock.advance(1_000);
    set_custom_status(&phone, "after").await;
    let after = sees(&bob, "ann", |status| status.custom_status == "after").await;
    assert_eq!(after.last_online_status_update_time, START_MS + 1_000);
    world.end().await;
}

#[tokio::test]
async fn query_subscribed_user_status_list_is_the_local_copy() {
    let mut world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    set_custom_status(&bob, "busy").await;
    subscribe(&ann, "bob").await;
    subscribe(&ann, "carl").await;
    let all = subscriptions(&ann).await;
    assert_eq!(all.len(), 2);
    let of_bob = all[0].user_status.clone().unwrap();
    assert_eq!((of_bob.user_id.as_str(), of_bob.custom_status.as_str()), ("bob", "busy"));
    assert_eq!(all[0].subscribe_expired_time, START_MS + 3_600_000);
    let some = SubscribedUserStatusQueryConfig { user_ids: vec!["carl".to_owned(), "dora".to_owned()] };
    let found = soon(ann.query_subscribed_user_status_list(some)).await.unwrap().user_status_subscription_list;
    assert_eq!(found, all[1..]);
    drop((bob, carl));
    let (dir, config) = (ann.dir(), world.client_config());
    ann.quit().await;
    let token = LoginConfig { is_offline_login: true, ..world.with_token("ann") };
    world.stop_server().await;
    // It answers without a server too.
    let ann = Zim::new(config.data_dir(dir.path())).unwrap();
    soon(ann.login("ann", token)).await.unwrap();
    // Without a connection it is unknown who is online.
    let mut offline = all.clone();
    for status in offline.iter_mut().filter_map(|held| held.user_status.as_mut()) {
        status.online_status = UserOnlineStatus::Unknown as i32;
        status.online_platforms.clear();
    }
    assert_ne!(offline, all);
    assert_eq!(subscriptions(&ann).await, offline);
    assert_eq!(refusal(soon(ann.query_users_status(["bob"])).await), ErrorCode::NetworkModuleNetworkError);
    ann.destroy();
    soon(ann.closed()).await;
    world.end().await;
}
