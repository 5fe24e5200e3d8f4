//! Who is online: what logins, connections and the clock do to the status that others see.

use zim_integration_tests::{DataDir, START_MS, World, eventually, refusal, soon};
use zim_protocol::clock::Clock;
use zim_protocol::{
    ConnectionState, ErrorCode, Event, EventKind, LoginConfig, SubscribeUsersStatusRequest,
    SubscribedUserStatusQueryConfig, UnsubscribeUsersStatusRequest, UpdateUserCustomStatusRequest,
    UserCustomStatusUpdateConfig, UserOnlineStatus, UserStatus, UserStatusSubscribeConfig, event_frame,
};
use zim_server::config::MultiDevice;
use zim_server::db::{Scope, Tx, params};

use crate::status::{
    names, query, register, sees, sees_as, set_custom_status, statuses_of, subscribe, subscribed, subscriptions,
};

const HOUR: UserStatusSubscribeConfig = UserStatusSubscribeConfig { subscription_duration: 60 };
const DAY: UserCustomStatusUpdateConfig = UserCustomStatusUpdateConfig { duration: 0 };

#[tokio::test]
async fn presence_needs_a_login() {
    let world = World::new().await;
    let nobody = world.client();
    let code = ErrorCode::NetworkModuleUserIsNotLogged;
    assert_eq!(refusal(soon(nobody.subscribe_users_status(["a"], HOUR)).await), code);
    assert_eq!(refusal(soon(nobody.unsubscribe_users_status(["a"])).await), code);
    assert_eq!(refusal(soon(nobody.query_users_status(["a"])).await), code);
    assert_eq!(refusal(soon(nobody.update_user_custom_status("a", DAY)).await), code);
    let config = SubscribedUserStatusQueryConfig::default();
    assert_eq!(refusal(soon(nobody.query_subscribed_user_status_list(config)).await), code);
    world.end().await;
}

/// A stop sets the connected users offline, and a start does not undo that.
#[tokio::test]
async fn a_user_who_does_not_reconnect_after_a_restart_is_offline() {
    let mut world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    subscribe(&ann, "bob").await;
    sees_as(&ann, "bob", UserOnlineStatus::Online).await;
    world.clock.advance(1_000);
    bob.quit().await;
    sees_as(&ann, "bob", UserOnlineStatus::Offline).await;
    world.stop_server().await;
    world.start_server().await;
    world
        .advance_until("ann is back", async || {
            let state = ann.seen_of(EventKind::ConnectionStateChanged).pop()?;
            matches!(state, Event::ConnectionStateChanged(change) if change.state() == ConnectionState::Connected)
                .then_some(())
        })
        .await;
    let found = soon(ann.query_users_status(["ann", "bob"])).await.unwrap().user_status_list;
    let online: Vec<_> = found.iter().map(UserStatus::online_status).collect();
    assert_eq!(online, [UserOnlineStatus::Online, UserOnlineStatus::Offline]);
    world.end().await;
}

/// A login that is resumed on a new connection is not affected by the end of the old connection.
#[tokio::test]
async fn a_new_connection_of_a_login_keeps_it_online() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    register(&world, &["bob".to_owned()]).await;
    world.clock.advance(1_000);
    let mut old = world.raw_after_hello(7).await;
    let ticket = old.call(&world.login_request("bob")).await.unwrap().session;
    subscribe(&ann, "bob").await;
    sees_as(&ann, "bob", UserOnlineStatus::Online).await;
    let mut new = world.raw_after_hello(7).await;
    let resumed = zim_protocol::LoginRequest { resume: ticket, ..world.login_request("bob") };
    new.call(&resumed).await.unwrap();
    old.end().await;
    // Statuses of a user arrive in order: there was none in between.
    let request = UpdateUserCustomStatusRequest { custom_status: "here".to_owned(), config: None };
    new.call(&request).await.unwrap();
    sees(&ann, "bob", |status| status.custom_status == "here").await;
    assert_eq!(query(&ann, "bob").await.online_status(), UserOnlineStatus::Online);
    assert!(statuses_of(&ann.seen(), "bob").iter().all(|status| status.online_status() == UserOnlineStatus::Online));
    new.end().await;
    sees_as(&ann, "bob", UserOnlineStatus::Offline).await;
    world.end().await;
}

#[tokio::test]
async fn a_user_whose_logins_the_operator_ends_is_offline() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    subscribe(&ann, "bob").await;
    sees_as(&ann, "bob", UserOnlineStatus::Online).await;
    let request = zim_protocol::DisconnectUserRequest { app_id: world.app_id(), user_id: "bob".to_owned() };
    soon(world.admin().await.disconnect_user(request)).await.unwrap();
    sees_as(&ann, "bob", UserOnlineStatus::Offline).await;
    drop(bob);
    world.end().await;
}

#[tokio::test]
async fn a_one_shot_login_is_not_visible() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let once = world.client_at(DataDir::default(), |config| config.one_shot(true));
    soon(once.login("bob", world.with_token("bob"))).await.unwrap();
    subscribe(&ann, "bob").await;
    assert_eq!(query(&ann, "bob").await.online_status(), UserOnlineStatus::Offline);
    // It can subscribe and query like any other login.
    subscribe(&once, "ann").await;
    assert_eq!(subscribed(&once).await, ["ann"]);
    soon(once.logout()).await;
    assert_eq!(query(&ann, "bob").await.online_status(), UserOnlineStatus::Offline);
    world.end().await;
}

/// A connection that breaks while its login is being stored leaves a login that is online only in the database.
#[tokio::test]
async fn a_lost_login_without_a_connection_goes_offline() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    register(&world, &["bob".to_owned()]).await;
    subscribe(&ann, "bob").await;
    let app = world.server().app();
    let (login, app_id) = (app.ids.next(), i64::from(world.app_id()));
    let insert = app.db.submit(Scope::none(), async move |tx: &mut Tx<'_>| {
        tx.execute(
            "INSERT INTO session (id, ticket, account, platform, device, login_at, state, connected) \
             SELECT $1, $2, id, 5, $2, 0, 0, 1 FROM account WHERE app = $3 AND name = 'bob'",
            &params![login, login.to_be_bytes().to_vec(), app_id],
        )
        .await?;
        tx.execute(
            "INSERT INTO presence (account, online, platforms, online_at, custom, custom_at, custom_ends_at, changed_at) \
             SELECT id, 0, 32, 1, '', 0, 0, 1 FROM account WHERE app = $1 AND name = 'bob'",
            &params![app_id],
        )
        .await?;
        Ok(())
    });
    soon(insert).await.unwrap();
    assert_eq!(query(&ann, "bob").await.online_status(), UserOnlineStatus::Online);
    eventually("the lost login is reaped", async || {
        // The longest silence of a client. A login seen twice without a connection, this far apart, is lost.
        world.clock.advance(35_000);
        (query(&ann, "bob").await.online_status() == UserOnlineStatus::Offline).then_some(())
    })
    .await;
    sees(&ann, "bob", |status| status.last_online_status_update_time > START_MS).await;
    // A login with a connection is never reaped.
    assert_eq!(query(&ann, "ann").await.online_status(), UserOnlineStatus::Online);
    world.end().await;
}

/// Checks what the server sends, past the SDK.
#[tokio::test]
async fn nothing_is_sent_after_unsubscribing_or_expiry() {
    let world = World::new().await;
    let bob = world.user("bob").await;
    let mut left = world.raw_user("ann", 1).await;
    let mut expired = world.raw_user("carl", 2).await;
    let mut follows = world.raw_user("dora", 3).await;
    let users = vec!["bob".to_owned()];
    for (raw, minutes) in [(&mut left, 60), (&mut expired, 1), (&mut follows, 60)] {
        let config = Some(UserStatusSubscribeConfig { subscription_duration: minutes });
        raw.call(&SubscribeUsersStatusRequest { user_ids: users.clone(), config }).await.unwrap();
    }
    left.call(&UnsubscribeUsersStatusRequest { user_ids: users }).await.unwrap();
    world.clock.advance(60_000);
    set_custom_status(&bob, "unseen").await;
    let statuses = |frame| match frame {
        Some(event_frame::Frame::Snapshot(snapshot)) => snapshot.statuses,
        other => panic!("{other:?}"),
    };
    assert_eq!(statuses(follows.event().await)[0].custom_status, "unseen");
    // The first event is the message, so no status was sent before it.
    for (raw, name) in [(&mut left, "ann"), (&mut expired, "carl")] {
        bob.say(name, "done").await;
        loop {
            match raw.event().await {
                Some(event_frame::Frame::Push(push)) if !push.messages.is_empty() => break,
                // Carl's subscription is deleted when it has expired, and its owner's devices learn it.
                Some(event_frame::Frame::Push(push)) if name == "carl" && !push.feed.is_empty() => {}
                other => panic!("{other:?}"),
            }
        }
    }
    for raw in [left, expired, follows] {
        raw.end().await;
    }
    world.end().await;
}

#[tokio::test]
async fn more_subscribers_than_a_page_receive_the_status() {
    let world = World::new().await;
    let users = names(1_001);
    let bob = world.user("bob").await;
    register(&world, &users).await;
    // Her row comes after all of theirs.
    let ann = world.user("ann").await;
    let app = world.server().app();
    let app_id = i64::from(world.app_id());
    let followed = app.db.submit(Scope::none(), async move |tx: &mut Tx<'_>| {
        tx.execute(
            "INSERT INTO subscription (account, target, place, expires_at) SELECT a.id, b.id, 1, $1 \
             FROM account a CROSS JOIN account b WHERE a.app = $2 AND a.name LIKE 'user%' AND b.app = $2 AND b.name = 'bob'",
            &params![i64::MAX, app_id],
        )
        .await?;
        let count = "UPDATE account SET subscription_count = 1 WHERE app = $1 AND name LIKE 'user%'";
        tx.execute(count, &params![app_id]).await?;
        Ok(())
    });
    soon(followed).await.unwrap();
    subscribe(&ann, "bob").await;
    set_custom_status(&bob, "hello all").await;
    sees(&ann, "bob", |status| status.custom_status == "hello all").await;
    world.end().await;
}

#[tokio::test]
async fn a_kicked_out_user_or_one_with_an_expired_token_is_offline() {
    let world = World::with(|settings| settings.login.multi_device = MultiDevice::Single).await;
    let ann = world.user("ann").await;
    let bob = world.client();
    let short = LoginConfig { token: world.token_for("bob", 60), ..LoginConfig::default() };
    soon(bob.login("bob", short)).await.unwrap();
    subscribe(&ann, "bob").await;
    sees_as(&ann, "bob", UserOnlineStatus::Online).await;
    // A newer login replaces the old one: the user was online all the time.
    let short = LoginConfig { token: world.token_for("bob", 60), ..LoginConfig::default() };
    let newer = world.client();
    soon(newer.login("bob", short)).await.unwrap();
    bob.next(EventKind::ConnectionStateChanged).await;
    bob.until("the end of the old login", |seen| {
        seen.iter().find(|event| {
            matches!(event, Event::ConnectionStateChanged(change) if change.state() == ConnectionState::Disconnected)
        })
        .map(drop)
    })
    .await;
    assert_eq!(query(&ann, "bob").await.online_status(), UserOnlineStatus::Online);
    assert_eq!(statuses_of(&ann.seen(), "bob").len(), 1);
    world.clock.advance(60_000);
    sees_as(&ann, "bob", UserOnlineStatus::Offline).await;
    world.end().await;
}

/// The clocks of the devices are wrong by hours.
#[tokio::test]
async fn a_device_with_a_wrong_clock_receives_statuses() {
    let world = World::new().await;
    let bob = world.user("bob").await;
    let ahead = Clock::manual(START_MS + 7_200_000);
    let ann = world.login(world.client_with(|config| config.clock(ahead.clone())), "ann").await;
    subscribe(&ann, "bob").await;
    sees_as(&ann, "bob", UserOnlineStatus::Online).await;
    assert_eq!(subscribed(&ann).await, ["bob"]);
    soon(bob.update_user_custom_status("busy", UserCustomStatusUpdateConfig { duration: 60 })).await.unwrap();
    sees(&ann, "bob", |status| status.custom_status == "busy").await;
    assert_eq!(subscriptions(&ann).await[0].user_status.clone().unwrap().custom_status, "busy");
    ahead.advance(3_600_000);
    assert!(subscribed(&ann).await.is_empty());
    world.end().await;
}
