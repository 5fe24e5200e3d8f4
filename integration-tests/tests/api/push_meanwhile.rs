//! What happens to a push while it waits, and what it may wait for.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use prost::Message as _;
use serde_json::json;
use zim_client_sdk::PushToken;
use zim_integration_tests::{Device, PushAnswer, PushServer, RawClient, World, eventually, soon, texts};
use zim_protocol::{
    Ack, CallCancelConfig, CallInviteConfig, ConversationNotificationStatus, ConversationRef, ConversationType,
    EventKind, FriendApplicationSendConfig, MessageDeleteConfig, MessageRevokeConfig, MessageSendConfig, PlatformType,
    PushConfig, PushLogRow, PushOutcome, PushSource, RegisterRequest, SetPushProviderRequest, Stored, StoredPosition,
    UserOfflinePushRule, client_frame, event_frame,
};
use zim_server::connection::Happened;
use zim_server::db::{Scope, Tx, params};

use crate::push_delivery::{away, is_offline, log, send, set_webhook, title, titled};

const DELAY_MS: i64 = 2_000;
const BACK_OFF_MS: i64 = 5_000;

/// Waits until the push service has refused the only push to a user for now.
pub(crate) async fn is_refused_for_now(world: &World, user: &str) {
    eventually("the answer is noted", async || log(world, user, 1).await[0].detail.starts_with("503").then_some(()))
        .await;
}

/// Waits until a push to a user with this title has an outcome other than that it waits.
pub(crate) async fn ends(world: &World, user: &str, count: usize, title: &str) -> PushLogRow {
    eventually("an outcome", async || {
        let rows = log(world, user, count).await;
        rows.into_iter().find(|row| row.title == title && row.outcome() != PushOutcome::Waiting)
    })
    .await
}

/// Lets clients send their acknowledgements, which they do by the clock of the test, until something is so. It takes less than a delay.
async fn ticks_until(world: &World, what: &str, mut is: impl FnMut() -> bool) {
    let turns = AtomicI64::new(DELAY_MS / 200);
    eventually(what, async || {
        if turns.fetch_sub(1, Ordering::Relaxed) > 0 {
            world.clock.advance(100);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        is().then_some(())
    })
    .await;
}

/// Whether a connection has said that it has stored the message of ann at a position.
fn is_stored(world: &World, seq: i64) -> bool {
    let name = ConversationRef { r#type: 0, id: "ann".to_owned() };
    world.servers().any(|server| server.app().fanout.all().iter().any(|one| one.has_stored(&name, seq.unsigned_abs())))
}

/// A device of bob that gets pushes, and says nothing more, as if the system had frozen it.
async fn frozen(world: &World) -> RawClient {
    let mut raw = world.raw_user("bob", 1).await;
    let token = RegisterRequest {
        source: PushSource::Webhook as i32,
        token: "frozen".to_owned(),
        ..RegisterRequest::default()
    };
    raw.call(&token).await.unwrap();
    raw
}

#[tokio::test]
async fn what_has_changed_while_a_push_waits_is_respected() {
    let server = PushServer::http();
    let world = World::new().await;
    set_webhook(&world, &server).await;
    let ann = world.user("ann").await;
    let cases = [
        ("mutes", "do not disturb"),
        ("blocks", "the receiver blocks the sender"),
        ("deletes", "deleted"),
        ("clears", "deleted"),
        ("rules", "the receiver's rule: online on another platform"),
    ];
    let mut desktops = Vec::new();
    for (user, _) in cases {
        let phone = world.client_with(|config| config.platform(PlatformType::Android));
        let phone = world.login(phone, user).await;
        soon(phone.register_push(PushToken::webhook(user))).await.unwrap();
        phone.quit().await;
        is_offline(&world, user).await;
        let desktop = world.client_with(|config| config.platform(PlatformType::Win));
        desktops.push(world.login(desktop, user).await);
    }
    server.answer(cases.map(|_| PushAnswer::status(503)));
    for (user, _) in cases {
        send(&ann, user, "hi", titled(user)).await;
    }
    world.clock.advance(DELAY_MS);
    for ((user, _), desktop) in cases.iter().zip(&desktops) {
        server.next().await;
        is_refused_for_now(&world, user).await;
        desktop.receives("hi").await;
    }
    let quiet = ConversationNotificationStatus::DoNotDisturb;
    soon(desktops[0].set_conversation_notification_status(quiet, "ann", ConversationType::Peer)).await.unwrap();
    soon(desktops[1].add_users_to_blacklist(["ann"])).await.unwrap();
    let config = MessageDeleteConfig { is_also_delete_server_message: Some(true) };
    let messages = desktops[2].history("ann").await;
    soon(desktops[2].delete_messages(&messages, "ann", ConversationType::Peer, config)).await.unwrap();
    soon(desktops[3].delete_all_message("ann", ConversationType::Peer, config)).await.unwrap();
    let rule = UserOfflinePushRule {
        online_platforms: vec![PlatformType::Win as i32],
        not_to_receive_offline_push_platforms: vec![PlatformType::Android as i32],
    };
    soon(desktops[4].update_user_offline_push_rule(rule)).await.unwrap();
    world.clock.advance(BACK_OFF_MS);
    for (user, why) in cases {
        let row = ends(&world, user, 1, user).await;
        assert_eq!((row.outcome(), row.detail.as_str()), (PushOutcome::Skipped, why), "{user}");
    }
    assert_eq!(server.waiting(), 0);
    world.end().await;
}

#[tokio::test]
async fn a_device_that_has_stored_the_message_while_its_push_waits_gets_none() {
    let server = PushServer::http();
    let world = World::new().await;
    set_webhook(&world, &server).await;
    let phone = world.user("bob").await;
    let dir = phone.dir();
    soon(phone.register_push(PushToken::webhook("phone"))).await.unwrap();
    phone.quit().await;
    is_offline(&world, "bob").await;
    let ann = world.user("ann").await;
    server.answer([PushAnswer::status(503)]);
    let sent = send(&ann, "bob", "hi", titled("hi")).await;
    world.clock.advance(DELAY_MS);
    server.next().await;
    is_refused_for_now(&world, "bob").await;
    let phone = world.user_at(dir, "bob").await;
    phone.receives("hi").await;
    ticks_until(&world, "the acknowledgement", || is_stored(&world, sent.message_seq)).await;
    world.clock.advance(BACK_OFF_MS);
    assert_eq!(ends(&world, "bob", 1, "hi").await.detail, "the device has it");
    assert_eq!(server.waiting(), 0);
    world.end().await;
}

#[tokio::test]
async fn a_push_that_is_tried_again_shows_the_badge_as_it_is_then() {
    let server = PushServer::http();
    let world = World::new().await;
    set_webhook(&world, &server).await;
    away(&world, "bob", PushToken::webhook("phone")).await;
    let (ann, carl) = (world.user("ann").await, world.user("carl").await);
    let badged = |title: &str| {
        let push = PushConfig { enable_badge: true, ..titled(title).push_config.unwrap() };
        MessageSendConfig { push_config: Some(push), ..MessageSendConfig::default() }
    };
    server.answer([PushAnswer::status(503)]);
    send(&ann, "bob", "1", badged("ann")).await;
    world.clock.advance(DELAY_MS);
    assert_eq!(server.next().await.json()["badge"], json!(1));
    is_refused_for_now(&world, "bob").await;
    // Another conversation: neither replaces the other.
    send(&carl, "bob", "2", badged("carl")).await;
    world.clock.advance(DELAY_MS);
    assert_eq!(server.next().await.json()["badge"], json!(2));
    world.clock.advance(BACK_OFF_MS);
    let again = server.next().await.json();
    assert_eq!((&again["title"], &again["badge"]), (&json!("ann"), &json!(2)));
    world.end().await;
}

#[tokio::test]
async fn a_burst_whose_last_message_a_receiver_does_not_see_is_pushed_to_them() {
    let server = PushServer::http();
    let world = World::new().await;
    set_webhook(&world, &server).await;
    away(&world, "bob", PushToken::webhook("phone")).await;
    let (ann, desktop) = (world.user("ann").await, world.user("bob").await);
    send(&ann, "bob", "first", titled("first")).await;
    send(&ann, "bob", "last", titled("last")).await;
    desktop.receives("last").await;
    let mut messages = desktop.history("ann").await;
    messages.retain(|message| texts([message]) == ["last"]);
    let config = MessageDeleteConfig { is_also_delete_server_message: Some(true) };
    soon(desktop.delete_messages(&messages, "ann", ConversationType::Peer, config)).await.unwrap();
    world.clock.advance(DELAY_MS);
    // It waits for the last one, until that must have been decided.
    eventually("it is decided", async || {
        let count = world.server().app().db.read(async |tx: &mut Tx<'_>| {
            let row = tx.fetch_one("SELECT COUNT(*) FROM outbox WHERE kind = 80", &[]).await?;
            Ok(row.unwrap().get::<i64>(0)?)
        });
        (soon(count).await.unwrap() == 0).then_some(())
    })
    .await;
    assert_eq!(server.waiting(), 0);
    world.clock.advance(DELAY_MS + 1_000);
    assert_eq!(title(&server.next().await), "first");
    world.end().await;
}

async fn acknowledge(raw: &mut RawClient, count: u64, seq: u64) {
    let conversation = Some(ConversationRef { r#type: 0, id: "ann".to_owned() });
    let stored = Stored { positions: vec![StoredPosition { conversation, seq }], feed: 0 };
    raw.write([client_frame::Frame::Ack(Ack { count, stored: stored.encode_to_vec().into() })]).await;
}

#[tokio::test]
async fn a_revocation_is_pushed_to_a_device_that_has_the_message_and_not_the_revocation() {
    let server = PushServer::http();
    let world = World::new().await;
    set_webhook(&world, &server).await;
    let ann = world.user("ann").await;
    let mut raw = frozen(&world).await;
    let alive = world.device("bob").await;
    soon(alive.register_push(PushToken::webhook("alive"))).await.unwrap();
    let sent = send(&ann, "bob", "hi", MessageSendConfig::default()).await;
    alive.receives("hi").await;
    let mut count = 0;
    loop {
        count += 1;
        match raw.event().await.unwrap() {
            event_frame::Frame::Push(push) if !push.messages.is_empty() => break,
            _ => {}
        }
    }
    acknowledge(&mut raw, count, sent.message_seq.unsigned_abs()).await;
    eventually("it is stored", async || is_stored(&world, sent.message_seq).then_some(())).await;
    let push = PushConfig { title: "gone".to_owned(), ..PushConfig::default() };
    let config = MessageRevokeConfig { push_config: Some(push), ..MessageRevokeConfig::default() };
    soon(ann.revoke_message(&sent, config)).await.unwrap();
    all_but_the_frozen_one_have_it(&world).await;
    world.clock.advance(DELAY_MS);
    let request = server.next().await;
    assert_eq!((title(&request).as_str(), &request.json()["token"]), ("gone", &json!("frozen")));
    let rows = log(&world, "bob", 2).await;
    assert!(rows.iter().any(|row| row.detail == "the device has it"), "{rows:?}");
    assert_eq!(server.waiting(), 0);
    raw.end().await;
    world.end().await;
}

/// Waits until of the devices of bob all but one have handled what they got.
async fn all_but_the_frozen_one_have_it(world: &World) {
    let is_so = || {
        let all: Vec<_> = world.servers().flat_map(|server| server.app().fanout.all()).collect();
        let mut of_bob = all.iter().filter(|one| one.identity().is_some_and(|user| *user.user_id == *"bob"));
        of_bob.clone().count() == 2
            && of_bob.clone().any(|one| one.events_behind() > 0)
            && of_bob.any(|one| one.events_behind() == 0)
    };
    ticks_until(world, "the acknowledgement", is_so).await;
}

#[tokio::test]
async fn a_cancelled_call_is_pushed_to_a_device_whose_connection_is_dead() {
    let server = PushServer::http();
    let world = World::new().await;
    set_webhook(&world, &server).await;
    let ann = world.user("ann").await;
    let raw = frozen(&world).await;
    let alive = world.device("bob").await;
    soon(alive.register_push(PushToken::webhook("alive"))).await.unwrap();
    let call = soon(ann.call_invite(["bob"], CallInviteConfig::default())).await.unwrap().call_id;
    let push = Some(PushConfig { title: "missed".to_owned(), ..PushConfig::default() });
    let config = CallCancelConfig { push_config: push, ..CallCancelConfig::default() };
    soon(ann.call_cancel(["bob"], &call, config)).await.unwrap();
    all_but_the_frozen_one_have_it(&world).await;
    world.clock.advance(DELAY_MS);
    let request = server.next().await;
    assert_eq!((title(&request).as_str(), &request.json()["token"]), ("missed", &json!("frozen")));
    let rows = log(&world, "bob", 2).await;
    assert!(rows.iter().any(|row| row.detail == "the device has it"), "{rows:?}");
    assert_eq!(server.waiting(), 0);
    raw.end().await;
    world.end().await;
}

/// A friend application that is pushed.
fn applies(title: &str) -> FriendApplicationSendConfig {
    let push = PushConfig { title: title.to_owned(), ..PushConfig::default() };
    FriendApplicationSendConfig { push_config: Some(push), ..FriendApplicationSendConfig::default() }
}

/// It got no event, so that it has none to acknowledge.
#[tokio::test]
async fn a_device_that_logs_in_after_the_event_and_asks_for_nothing_gets_a_push() {
    let server = PushServer::http();
    let world = World::new().await;
    set_webhook(&world, &server).await;
    let ann = world.user("ann").await;
    frozen(&world).await.end().await;
    is_offline(&world, "bob").await;
    soon(ann.send_friend_application("bob", applies("new"))).await.unwrap();
    world.clock.advance(1);
    let raw = world.raw_user("bob", 1).await;
    world.clock.advance(DELAY_MS);
    let request = server.next().await;
    assert_eq!((title(&request).as_str(), &request.json()["token"]), ("new", &json!("frozen")));
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_device_that_logs_in_after_the_event_and_stores_it_gets_none() {
    let server = PushServer::http();
    let world = World::new().await;
    set_webhook(&world, &server).await;
    let ann = world.user("ann").await;
    let phone = world.user("bob").await;
    let dir = phone.dir();
    soon(phone.register_push(PushToken::webhook("phone"))).await.unwrap();
    phone.quit().await;
    is_offline(&world, "bob").await;
    soon(ann.send_friend_application("bob", applies("new"))).await.unwrap();
    let applied = Happened { at: world.clock.now_ms(), handled_at: i64::MAX, is_in_feed: true };
    world.clock.advance(1);
    let phone = world.user_at(dir, "bob").await;
    phone.next(EventKind::FriendApplicationListChanged).await;
    let has_it = || {
        let mut all = world.servers().flat_map(|server| server.app().fanout.all());
        let is_bob = |user: &str| user == "bob";
        all.any(|one| one.identity().is_some_and(|user| is_bob(&user.user_id)) && one.has_handled(applied))
    };
    ticks_until(&world, "the acknowledgement", has_it).await;
    world.clock.advance(DELAY_MS);
    assert_eq!(ends(&world, "bob", 1, "new").await.detail, "the device has it");
    assert_eq!(server.waiting(), 0);
    world.end().await;
}

/// What is revoked is not in the feed, so that the feed says nothing about it: a device that has stored its feed may still lose its
/// connection before it has asked for the conversation.
#[tokio::test]
async fn a_revocation_is_pushed_to_a_device_that_logs_in_after_it() {
    let server = PushServer::http();
    let world = World::new().await;
    set_webhook(&world, &server).await;
    let ann = world.user("ann").await;
    let phone = world.user("bob").await;
    let dir = phone.dir();
    soon(phone.register_push(PushToken::webhook("phone"))).await.unwrap();
    let sent = send(&ann, "bob", "hi", MessageSendConfig::default()).await;
    phone.receives("hi").await;
    phone.quit().await;
    is_offline(&world, "bob").await;
    let push = PushConfig { title: "gone".to_owned(), ..PushConfig::default() };
    let config = MessageRevokeConfig { push_config: Some(push), ..MessageRevokeConfig::default() };
    let revoked = Happened { at: world.clock.now_ms(), handled_at: i64::MAX, is_in_feed: true };
    soon(ann.revoke_message(&sent, config)).await.unwrap();
    // Something else is in the feed, which the device acknowledges.
    soon(ann.send_friend_application("bob", FriendApplicationSendConfig::default())).await.unwrap();
    world.clock.advance(1);
    let phone = world.user_at(dir, "bob").await;
    let has_its_feed = || {
        let mut all = world.servers().flat_map(|server| server.app().fanout.all());
        all.any(|one| one.identity().is_some_and(|user| *user.user_id == *"bob") && one.has_handled(revoked))
    };
    ticks_until(&world, "the acknowledgement", has_its_feed).await;
    world.clock.advance(DELAY_MS);
    assert_eq!(title(&server.next().await), "gone");
    phone.quit().await;
    world.end().await;
}

#[tokio::test]
async fn what_a_revoked_message_would_have_said_is_forgotten() {
    let server = PushServer::http();
    let world = World::new().await;
    set_webhook(&world, &server).await;
    away(&world, "bob", PushToken::webhook("phone")).await;
    let ann = world.user("ann").await;
    let kept = send(&ann, "bob", "kept", titled("kept")).await;
    let revoked = send(&ann, "bob", "revoked", titled("revoked")).await;
    soon(ann.revoke_message(&revoked, MessageRevokeConfig::default())).await.unwrap();
    let configs = world.server().app().db.read(async |tx: &mut Tx<'_>| {
        let mut configs = Vec::new();
        for row in tx.fetch("SELECT config FROM push ORDER BY seq", &[]).await? {
            configs.push(row.get::<Vec<u8>>(0)?);
        }
        Ok(configs)
    });
    let configs = soon(configs).await.unwrap();
    let titles: Vec<_> = configs.iter().map(|bytes| PushConfig::decode(&**bytes).unwrap().title).collect();
    assert_eq!(titles, ["kept", ""]);
    assert!(kept.message_seq < revoked.message_seq);
    world.end().await;
}

/// Makes the only push ID of a user so many.
async fn multiply(world: &World, user: &Device, count: i64) {
    let token = soon(user.query_push_list()).await.unwrap().push_list.len();
    assert_eq!(token, 1);
    let multiplied = world.server().app().db.submit(Scope::none(), async move |tx: &mut Tx<'_>| {
        for number in 1..count {
            let sql = "INSERT INTO push_id (id, app, account, device, slot, platform, source, app_type, token, token_hash, \
                       p256dh, auth, registered_at) SELECT id + $1, app, account, device, slot + 1 + $1, platform, source, \
                       app_type, token, $2, p256dh, auth, registered_at FROM push_id WHERE slot = 0 AND app_type = 0";
            tx.execute(sql, &params![number, number.to_be_bytes().to_vec()]).await?;
        }
        Ok(())
    });
    soon(multiplied).await.unwrap();
}

#[tokio::test]
async fn a_push_service_that_does_not_answer_delays_no_other() {
    let (slow, fast) = (PushServer::http(), PushServer::http());
    let world = World::with(|config| config.push.timeout_ms = 25_000).await;
    slow.answer_at("/push", PushAnswer::none());
    set_webhook(&world, &slow).await;
    let mut operator = world.admin().await;
    let settings = json!({"url": fast.url("/push"), "secret": "0123456789abcdef"}).to_string();
    let source = PushSource::Webhook as i32;
    let request = SetPushProviderRequest { app_id: world.app_id(), source, app_type: 1, settings };
    soon(operator.set_push_provider(request)).await.unwrap();
    drop(operator);
    let bob = world.user("bob").await;
    soon(bob.register_push(PushToken::webhook("slow"))).await.unwrap();
    // The test is about many devices, not about how they register.
    multiply(&world, &bob, 300).await;
    bob.quit().await;
    is_offline(&world, "bob").await;
    away(&world, "carl", PushToken::webhook("fast").app_type(1)).await;
    let ann = world.user("ann").await;
    send(&ann, "bob", "hi", titled("slow")).await;
    world.clock.advance(DELAY_MS);
    eventually("the push service is busy", async || {
        let counts = world.server().app().db.read(async |tx: &mut Tx<'_>| {
            let sql = "SELECT COUNT(*), COALESCE(SUM(CASE WHEN attempts > 0 THEN 1 ELSE 0 END), 0) FROM push_log";
            let row = tx.fetch_one(sql, &[]).await?.unwrap();
            Ok((row.get::<i64>(0)?, row.get::<i64>(1)?))
        });
        let (decided, taken) = soon(counts).await.unwrap();
        (decided == 300 && taken >= 32).then_some(())
    })
    .await;
    send(&ann, "carl", "hi", titled("fast")).await;
    world.clock.advance(DELAY_MS);
    assert_eq!(fast.next().await.json()["token"], json!("fast"));
    world.end().await;
}

#[tokio::test]
async fn a_push_that_waits_longer_than_the_log_is_kept_is_sent_and_then_forgotten() {
    let server = PushServer::http();
    let day_ms = 86_400_000;
    let world = World::with(|config| {
        config.push.log_days = 1;
        config.push.valid_s = 3 * 86_400;
    })
    .await;
    set_webhook(&world, &server).await;
    away(&world, "bob", PushToken::webhook("phone")).await;
    let ann = world.user("ann").await;
    let day = PushAnswer::status(503).header("retry-after", "86400");
    server.answer([day.clone(), day]);
    send(&ann, "bob", "hi", titled("hi")).await;
    ann.quit().await;
    world.clock.advance(DELAY_MS);
    for attempts in 1..=2 {
        server.next().await;
        eventually("the answer is noted", async || {
            let row = log(&world, "bob", 1).await.remove(0);
            (row.attempts == attempts && row.detail.starts_with("503")).then_some(())
        })
        .await;
        world.clock.advance(day_ms);
    }
    assert_eq!(title(&server.next().await), "hi");
    ends(&world, "bob", 1, "hi").await;
    let count = async || {
        let rows = world.server().app().db.read(async |tx: &mut Tx<'_>| {
            let sql = "SELECT (SELECT COUNT(*) FROM push) + (SELECT COUNT(*) FROM push_log)";
            Ok(tx.fetch_one(sql, &[]).await?.unwrap().get::<i64>(0)?)
        });
        soon(rows).await.unwrap()
    };
    assert_eq!(count().await, 2);
    world.clock.advance(day_ms);
    eventually("nothing is left", async || {
        world.clock.advance(3_600_000);
        (count().await == 0).then_some(())
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn what_nobody_gets_is_forgotten_as_well() {
    let server = PushServer::http();
    let world = World::with(|config| config.push.log_days = 1).await;
    set_webhook(&world, &server).await;
    away(&world, "bob", PushToken::webhook("phone")).await;
    let (ann, desktop) = (world.user("ann").await, world.user("bob").await);
    send(&ann, "bob", "hi", titled("hi")).await;
    desktop.receives("hi").await;
    let config = MessageDeleteConfig { is_also_delete_server_message: Some(true) };
    soon(desktop.delete_all_message("ann", ConversationType::Peer, config)).await.unwrap();
    ann.quit().await;
    desktop.quit().await;
    world.clock.advance(DELAY_MS);
    let count = async |sql: &'static str| {
        let rows = world
            .server()
            .app()
            .db
            .read(async move |tx: &mut Tx<'_>| Ok(tx.fetch_one(sql, &[]).await?.unwrap().get::<i64>(0)?));
        soon(rows).await.unwrap()
    };
    eventually("it is decided", async || (count("SELECT COUNT(*) FROM outbox").await == 0).then_some(())).await;
    assert_eq!(count("SELECT COUNT(*) FROM push").await, 1);
    world.clock.advance(86_400_000);
    eventually("nothing is left", async || (count("SELECT COUNT(*) FROM push").await == 0).then_some(())).await;
    world.end().await;
}
