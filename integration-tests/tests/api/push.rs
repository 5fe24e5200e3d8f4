//! Where devices get offline push.

use bytes::Bytes;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use zim_client_sdk::{PushToken, ZPNs, ZPNsConfig};
use zim_integration_tests::{Device, World, eventually, refusal, soon};
use zim_protocol::{
    ConnectionState, DisconnectUserRequest, ErrorCode, PushRegistration, PushSource, RegisterRequest,
    UpdateUserBadgeRequest,
};

/// The push IDs of a user's devices, by their services.
async fn registered(device: &Device) -> Vec<PushRegistration> {
    soon(device.query_push_list()).await.unwrap().push_list
}

async fn count(device: &Device) -> usize {
    registered(device).await.len()
}

async fn register(device: &Device, token: &str) -> String {
    soon(device.register_push(PushToken::webhook(token))).await.unwrap().push_id
}

#[tokio::test]
async fn register_binds_the_token_to_the_user_and_the_device() {
    let world = World::new().await;
    let (ann, tablet, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    let first = register(&ann, "one").await;
    let replaced = register(&ann, "two").await;
    assert_ne!(first, replaced);
    assert_eq!(register(&ann, "two").await, replaced, "the same again");
    world.clock.advance(1_000);
    let other = register(&tablet, "three").await;
    let ids: Vec<_> = registered(&ann).await.into_iter().map(|one| (one.push_id, one.is_own_device)).collect();
    assert_eq!(ids, [(other, false), (replaced, true)]);
    // One device has one user's pushes: the token moves with it.
    register(&bob, "two").await;
    assert_eq!((count(&ann).await, count(&bob).await), (1, 1));
    // The same token of another service is another token.
    soon(ann.register_push(PushToken::fcm("two"))).await.unwrap();
    assert_eq!((count(&ann).await, count(&bob).await), (2, 1));
    world.end().await;
}

#[tokio::test]
async fn register_keeps_the_one_that_rings_beside_the_one_for_notifications() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let (token, voip) = ("ab".repeat(32), "cd".repeat(32));
    soon(ann.register_push(PushToken::apns(token).app_type(100))).await.unwrap();
    soon(ann.register_push(PushToken::apns_voip(voip))).await.unwrap();
    let found = registered(&ann).await;
    let sources: Vec<_> = found.iter().map(|one| (one.source(), one.app_type)).collect();
    assert_eq!(sources, [(PushSource::ApnsVoip, 0), (PushSource::Apns, 100)]);
    // Both of them are the device's.
    soon(ann.unregister_push()).await.unwrap();
    assert_eq!(count(&ann).await, 0);
    world.end().await;
}

#[tokio::test]
async fn register_refuses_what_cannot_be_a_token() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let mut raw = world.raw_user("bob", 1).await;
    let request = |source: PushSource, token: &str| RegisterRequest {
        source: source as i32,
        token: token.to_owned(),
        ..RegisterRequest::default()
    };
    let longest = "x".repeat(4_096);
    raw.call(&request(PushSource::Webhook, &longest)).await.unwrap();
    for (source, token) in [
        (PushSource::Webhook, format!("{longest}x")),
        (PushSource::Webhook, String::new()),
        (PushSource::Fcm, "two words".to_owned()),
        (PushSource::Apns, "0".repeat(63)),
        (PushSource::WebPush, "https://push.example/1".to_owned()),
    ] {
        let refused = raw.call(&request(source, &token)).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::ZpnsModulePushIdInvalid as i32, "{source:?} {token}");
        let refused = soon(ann.register_push(PushToken::of(source, token))).await;
        assert_eq!(refusal(refused), ErrorCode::ZpnsModulePushIdInvalid);
    }
    let browser = |endpoint: &str, p256dh: usize, auth: usize| {
        let mut key = vec![7; p256dh];
        key[0] = 4;
        PushToken::web_push(endpoint, key, vec![1; auth])
    };
    for wrong in [
        browser("https://push.example/1", 64, 16),
        browser("https://push.example/1", 65, 15),
        browser("http://push.example/1", 65, 16),
        browser("https://127.0.0.1/1", 65, 16),
        browser("https://[fd00::1]/1", 65, 16),
    ] {
        assert_eq!(refusal(soon(ann.register_push(wrong)).await), ErrorCode::ZpnsModulePushIdInvalid);
    }
    soon(ann.register_push(browser("https://push.example/1", 65, 16))).await.unwrap();
    for (source, app_type) in [(99, 0), (0, 0), (PushSource::Webhook as i32, 101), (PushSource::Webhook as i32, -1)] {
        let request = RegisterRequest { source, app_type, token: "t".to_owned(), ..RegisterRequest::default() };
        let refused = raw.call(&request).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::CommonModuleParamsInvalid as i32, "{source} {app_type}");
    }
    let keys = RegisterRequest { auth: Bytes::from_static(&[1; 16]), ..request(PushSource::Fcm, "t") };
    assert_eq!(raw.call(&keys).await.unwrap_err().code, ErrorCode::ZpnsModulePushIdInvalid as i32);
    raw.end().await;
    let mut one_shot = world.raw_after_hello(2).await;
    one_shot.call(&world.one_shot_request("bob")).await.unwrap();
    let refused = one_shot.call(&request(PushSource::Webhook, "t")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::CommonModuleParamsInvalid as i32);
    one_shot.end().await;
    world.end().await;
}

#[tokio::test]
async fn register_beyond_the_limit_replaces_the_oldest() {
    let world = World::with(|config| config.limits.max_push_ids = 2).await;
    let devices = [world.device("ann").await, world.device("ann").await, world.device("ann").await];
    let mut ids = Vec::new();
    for (number, device) in devices.iter().enumerate() {
        ids.push(register(device, &number.to_string()).await);
        world.clock.advance(1_000);
        assert_eq!(count(device).await, (number + 1).min(2));
    }
    let left: Vec<_> = registered(&devices[0]).await.into_iter().map(|one| one.push_id).collect();
    assert_eq!(left, [ids[2].clone(), ids[1].clone()]);
    world.end().await;
}

#[tokio::test]
async fn unregister_ends_the_pushes_to_this_device_only() {
    let world = World::new().await;
    let (ann, tablet) = (world.user("ann").await, world.device("ann").await);
    register(&ann, "one").await;
    register(&tablet, "two").await;
    soon(ann.unregister_push()).await.unwrap();
    assert!(registered(&tablet).await.iter().all(|one| one.is_own_device));
    // Again: nothing is left to end.
    soon(ann.unregister_push()).await.unwrap();
    assert_eq!(count(&ann).await, 1);
    world.end().await;
}

#[tokio::test]
async fn query_push_list_is_empty_after_every_end_of_a_login_but_a_lost_connection() {
    let world = World::with(|config| config.login.max_native = 2).await;
    let watcher = world.user("ann").await;
    // A logout.
    let phone = world.device("ann").await;
    register(&phone, "logout").await;
    soon(phone.logout()).await;
    assert_eq!(count(&watcher).await, 0);
    // A lost connection.
    let phone = world.device("ann").await;
    let dir = phone.dir();
    register(&phone, "lost").await;
    phone.quit().await;
    assert_eq!(count(&watcher).await, 1);
    // The same user comes back on the device.
    let phone = world.user_at(dir.clone(), "ann").await;
    assert_eq!(count(&watcher).await, 1);
    phone.quit().await;
    // Another user on the device.
    let eve = world.user_at(dir, "eve").await;
    assert_eq!(count(&watcher).await, 0);
    drop(eve);
    // The operator.
    let bob = world.user("bob").await;
    register(&bob, "operator").await;
    let mut operator = world.admin().await;
    let request = DisconnectUserRequest { app_id: world.app_id(), user_id: "bob".to_owned() };
    soon(operator.disconnect_user(request)).await.unwrap();
    assert_eq!(count(&world.user("bob").await).await, 0);
    // A newer login.
    let dan = world.device("dan").await;
    register(&dan, "kicked").await;
    world.clock.advance(1_000);
    let (second, third) = (world.device("dan").await, world.device("dan").await);
    assert_eq!((count(&second).await, count(&third).await), (0, 0));
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn query_push_list_is_empty_after_a_logout_without_a_connection_once_somebody_logs_in() {
    let mut world = World::new().await;
    let phone = world.user("ann").await;
    let dir = phone.dir();
    register(&phone, "phone").await;
    world.stop_server().await;
    soon(phone.logout()).await;
    phone.quit().await;
    world.start_server().await;
    let watcher = world.device("ann").await;
    assert_eq!(count(&watcher).await, 1, "the server does not know of it");
    // What is registered after the login is new.
    let phone = world.user_at(dir.clone(), "ann").await;
    assert_eq!(count(&watcher).await, 0);
    register(&phone, "phone").await;
    phone.quit().await;
    let phone = world.user_at(dir, "ann").await;
    assert_eq!(count(&watcher).await, 1, "it is told once");
    drop(phone);
    world.end().await;
}

/// Stops the server, and lets something happen, until all of these clients are connected again.
async fn without_a_connection(world: &mut World, stays: &[&Device], happens: impl AsyncFnOnce()) {
    world.stop_server().await;
    eventually("all notice", async || {
        world.clock.advance(1_000);
        stays.iter().all(|device| device.connection_state() == ConnectionState::Reconnecting).then_some(())
    })
    .await;
    happens().await;
    world.start_server().await;
    world
        .advance_until("all are back", async || {
            stays.iter().all(|device| device.connection_state() == ConnectionState::Connected).then_some(())
        })
        .await;
}

#[tokio::test]
async fn query_push_list_keeps_another_user_of_the_device_when_a_connection_comes_back() {
    let mut world = World::new().await;
    let ann = world.user("ann").await;
    let bob = world.user_at(ann.dir(), "bob").await;
    for (device, token) in [(&ann, "ann"), (&bob, "bob")] {
        register(device, token).await;
        assert!(registered(device).await[0].is_own_device);
    }
    without_a_connection(&mut world, &[&ann, &bob], async || {}).await;
    assert_eq!((count(&ann).await, count(&bob).await), (1, 1));
    world.end().await;
}

#[tokio::test]
async fn query_push_list_lacks_the_user_alone_who_has_logged_out_without_a_connection() {
    let mut world = World::new().await;
    let ann = world.user("ann").await;
    let bob = world.user_at(ann.dir(), "bob").await;
    register(&ann, "ann").await;
    register(&bob, "bob").await;
    without_a_connection(&mut world, &[&ann], async || soon(bob.logout()).await).await;
    let watcher = world.device("bob").await;
    assert_eq!((count(&ann).await, count(&watcher).await), (1, 0));
    // The server was told once.
    without_a_connection(&mut world, &[&ann, &watcher], async || {}).await;
    assert_eq!(count(&ann).await, 1);
    world.end().await;
}

#[tokio::test]
async fn query_push_list_keeps_what_a_later_login_has_registered_when_an_earlier_logout_is_told_again() {
    let mut world = World::new().await;
    let phone = world.user("ann").await;
    let dir = phone.dir();
    register(&phone, "phone").await;
    world.stop_server().await;
    soon(phone.logout()).await;
    phone.quit().await;
    let notes = || {
        let files = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path());
        let is_note = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("logged-out-");
        files.filter(is_note).collect::<Vec<_>>()
    };
    let note = notes().remove(0);
    world.start_server().await;
    let phone = world.user_at(dir.clone(), "ann").await;
    assert_eq!((count(&phone).await, notes().len()), (0, 0));
    register(&phone, "phone").await;
    // As if it could not be removed.
    std::fs::write(&note, "ann").unwrap();
    without_a_connection(&mut world, &[&phone], async || {}).await;
    assert_eq!((count(&phone).await, notes().len()), (1, 0));
    // The note of an earlier version does not say which login it is of.
    let (unnamed, _) = note.to_str().unwrap().rsplit_once('-').unwrap();
    std::fs::write(unnamed, "ann").unwrap();
    without_a_connection(&mut world, &[&phone], async || {}).await;
    assert_eq!((count(&phone).await, notes().len()), (0, 0));
    // What an earlier login has registered is that of the device.
    register(&phone, "phone").await;
    phone.quit().await;
    let phone = world.user_at(dir.clone(), "ann").await;
    assert_eq!(count(&phone).await, 1);
    world.stop_server().await;
    soon(phone.logout()).await;
    phone.quit().await;
    world.start_server().await;
    assert_eq!(count(&world.user_at(dir.clone(), "ann").await).await, 0);
    world.end().await;
}

#[tokio::test]
async fn update_user_badge_takes_a_million_and_not_one_more() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    for badge in [0, 1_000_000] {
        soon(ann.update_user_badge(badge)).await.unwrap();
    }
    let mut raw = world.raw_user("bob", 1).await;
    for badge in [-1, 1_000_001] {
        assert_eq!(refusal(soon(ann.update_user_badge(badge)).await), ErrorCode::CommonModuleParamsInvalid);
        let refused = raw.call(&UpdateUserBadgeRequest { badge }).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::CommonModuleParamsInvalid as i32);
    }
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn push_get_instance_tells_what_became_of_a_registration() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let zpns = ZPNs::get_instance();
    let listener = Arc::clone(&told);
    zpns.on_registered(move |registered| listener.lock().push(registered.clone()));
    zpns.register(ZPNsConfig::default(), &ann);
    let push_token = Some(PushToken::webhook("token"));
    zpns.register(ZPNsConfig { push_token: push_token.clone(), ..ZPNsConfig::default() }, &ann);
    let told_two = async || (told.lock().len() == 2).then_some(());
    eventually("two results", told_two).await;
    let codes: Vec<_> = told.lock().iter().map(|one| (one.error_code, one.push_id.is_empty())).collect();
    assert_eq!(codes, [(ErrorCode::ZpnsModulePushIdInvalid as i32, true), (0, false)]);
    assert_eq!(registered(&ann).await[0].push_id, told.lock()[1].push_id);
    zpns.unregister();
    eventually("the end of the pushes", async || (count(&ann).await == 0).then_some(())).await;
    zpns.unregister();
    // The client that is registered is not kept alive.
    zpns.register(ZPNsConfig { push_token, ..ZPNsConfig::default() }, &ann);
    eventually("a third result", async || (told.lock().len() == 3).then_some(())).await;
    world.end().await;
}
