//! Presence over outages and restarts, and with several devices of a user.

use zim_integration_tests::{Device, World, eventually, soon};
use zim_protocol::{
    Event, SubscribedUserStatusQueryConfig, UserCustomStatusUpdateConfig, UserOnlineStatus, UserStatus,
    UserStatusSubscribeConfig, UserStatusSubscription,
};

const HOUR: UserStatusSubscribeConfig = UserStatusSubscribeConfig { subscription_duration: 60 };
const ALL: SubscribedUserStatusQueryConfig = SubscribedUserStatusQueryConfig { user_ids: Vec::new() };

async fn set_custom_status(device: &Device, custom: &str) {
    let day = UserCustomStatusUpdateConfig::default();
    soon(device.update_user_custom_status(custom, day)).await.unwrap();
}

/// The last status of a user that a device has raised.
fn last(seen: &[Event], user: &str) -> Option<UserStatus> {
    let lists = seen.iter().rev().filter_map(|event| match event {
        Event::UserStatusUpdated(event) => Some(&event.user_status_list),
        _ => None,
    });
    lists.flat_map(|list| list.iter().rev()).find(|status| status.user_id == user).cloned()
}

async fn held(device: &Device) -> Vec<UserStatusSubscription> {
    soon(device.query_subscribed_user_status_list(ALL)).await.unwrap().user_status_subscription_list
}

#[tokio::test]
async fn status_changes_during_an_outage_arrive_after_the_reconnect() {
    let world = World::with(|settings| settings.limits.offline_after_ms = 1_000).await;
    let proxy = world.proxy(3).await;
    let ann = world.user_via(&proxy, "ann").await;
    let (tablet, bob, carl) = (world.device("ann").await, world.user("bob").await, world.user("carl").await);
    soon(ann.subscribe_users_status(["bob", "carl"], HOUR)).await.unwrap();
    let events_of_carl = async || {
        ann.until("carl", |seen| last(seen, "carl")).await;
        let all = ann.seen();
        all.iter().filter(|event| last(std::slice::from_ref(*event), "carl").is_some()).count()
    };
    let before = events_of_carl().await;
    proxy.cut();
    world.clock.advance(2_000);
    set_custom_status(&bob, "busy").await;
    soon(tablet.unsubscribe_users_status(["carl"])).await.unwrap();
    world.clock.advance(2_000);
    set_custom_status(&bob, "away").await;
    set_custom_status(&carl, "unseen").await;
    tablet.until("bob is away", |seen| last(seen, "bob").filter(|status| status.custom_status == "away")).await;
    proxy.restore();
    world
        .advance_until("ann raises the status", async || {
            last(&ann.seen(), "bob").filter(|status| status.custom_status == "away")
        })
        .await;
    eventually("both devices hold the same", async || (held(&ann).await == held(&tablet).await).then_some(())).await;
    assert_eq!(held(&ann).await.len(), 1);
    // It raises nothing of a user without a subscription.
    assert_eq!(events_of_carl().await, before);
    world.end().await;
}

#[tokio::test]
async fn a_restart_of_the_server_keeps_statuses() {
    let mut world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    soon(ann.subscribe_users_status(["bob", "carl"], HOUR)).await.unwrap();
    set_custom_status(&bob, "busy").await;
    soon(carl.logout()).await;
    ann.until("carl is logged out", |seen| {
        last(seen, "carl").filter(|status| status.online_status() == UserOnlineStatus::Logout)
    })
    .await;
    world.stop_server().await;
    world.clock.advance(1_000);
    world.start_server().await;
    let now = world
        .advance_until("bob is online again", async || {
            let found = ann.query_users_status(["bob", "carl"]).await.ok()?.user_status_list;
            (found[0].online_status() == UserOnlineStatus::Online).then_some(found)
        })
        .await;
    assert_eq!(now[0].custom_status, "busy");
    assert_eq!(now[1].online_status(), UserOnlineStatus::Logout);
    // The local copy is updated.
    eventually("the local copy is current", async || {
        let held: Vec<UserStatus> = held(&ann).await.into_iter().filter_map(|held| held.user_status).collect();
        (held == now).then_some(())
    })
    .await;
    world.end().await;
}
