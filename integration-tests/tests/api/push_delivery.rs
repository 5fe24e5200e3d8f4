//! Who gets an offline push, and what becomes of it.

use serde_json::json;
use zim_client_sdk::{MessageSendNotification, PushToken};
use zim_integration_tests::{Device, PushRequest, PushServer, World, eventually, group, soon};
use zim_protocol::{
    CallCancelConfig, CallInviteConfig, ConversationNotificationStatus, ConversationType, GroupAdvancedConfig,
    GroupInfo, ListPushLogRequest, Message, MessageRevokeConfig, MessageSendConfig, PlatformType, PushConfig,
    PushLogRow, PushOutcome, PushSource, SetPushProviderRequest, UserOfflinePushRule,
};

/// The default delay of a push, milliseconds.
pub(crate) const DELAY_MS: i64 = 2_000;
const SECRET: &str = "0123456789abcdef";

/// A push that says this.
pub(crate) fn titled(title: &str) -> MessageSendConfig {
    let push = PushConfig { title: title.to_owned(), content: "…".to_owned(), ..PushConfig::default() };
    MessageSendConfig { push_config: Some(push), ..MessageSendConfig::default() }
}

/// Stores credentials of the first app.
pub(crate) async fn set_provider(world: &World, source: PushSource, settings: &serde_json::Value) {
    let mut operator = world.admin().await;
    let request = SetPushProviderRequest {
        app_id: world.app_id(),
        source: source as i32,
        app_type: 0,
        settings: settings.to_string(),
    };
    soon(operator.set_push_provider(request)).await.unwrap();
    // The other nodes learn of it by a hint.
    let is_known = || world.servers().all(|server| server.app().pushes_by(world.app_id(), source));
    eventually("all nodes know the push service", async || is_known().then_some(())).await;
}

pub(crate) async fn set_webhook(world: &World, server: &PushServer) {
    set_provider(world, PushSource::Webhook, &json!({"url": server.url("/push"), "secret": SECRET})).await;
}

/// A device of a user that gets pushes and is away.
pub(crate) async fn away(world: &World, user: &str, token: PushToken) {
    let device = world.user(user).await;
    soon(device.register_push(token)).await.unwrap();
    device.quit().await;
    is_offline(world, user).await;
}

/// Waits until the server has noticed that a user is away.
pub(crate) async fn is_offline(world: &World, user: &str) {
    let watcher = world.client();
    let watcher = world.login(watcher, "watcher.of.all").await;
    let user = user.to_owned();
    eventually("the user is away", async || {
        let found = soon(watcher.query_users_status([user.clone()])).await.unwrap();
        found.user_status_list[0].online_platforms.is_empty().then_some(())
    })
    .await;
    soon(watcher.logout()).await;
}

pub(crate) async fn send(from: &Device, to: &str, text: &str, config: MessageSendConfig) -> Message {
    let sent = soon(from.send_message(
        Message::text(text),
        to,
        ConversationType::Peer,
        config,
        MessageSendNotification::default(),
    ))
    .await
    .unwrap();
    sent.message.unwrap()
}

/// Returns what became of the pushes to a user, the oldest first, once there are so many.
pub(crate) async fn log(world: &World, user: &str, count: usize) -> Vec<PushLogRow> {
    let mut operator = world.admin().await;
    let request = ListPushLogRequest { app_id: world.app_id(), user_id: user.to_owned(), ..Default::default() };
    eventually("rows of the log", async || {
        let found = soon(operator.list_push_log(request.clone())).await.unwrap().into_inner();
        let is_decided = found.rows.iter().all(|row| row.outcome() != PushOutcome::Waiting || row.attempts > 0);
        (found.rows.len() == count && is_decided).then(|| found.rows.into_iter().rev().collect())
    })
    .await
}

/// Waits until the only push to a user has this outcome.
pub(crate) async fn becomes(world: &World, user: &str, outcome: PushOutcome) -> PushLogRow {
    eventually(&format!("a push that is {outcome:?}"), async || {
        let rows = log(world, user, 1).await;
        rows.into_iter().find(|row| row.outcome() == outcome)
    })
    .await
}

/// When the only push is decided.
async fn decided_at(world: &World) -> i64 {
    let found = world.server().app().db.read(async |tx: &mut zim_server::db::Tx<'_>| {
        let row = tx.fetch_one("SELECT next_at FROM outbox WHERE kind = 80", &[]).await?;
        Ok(row.unwrap().get::<i64>(0)?)
    });
    soon(found).await.unwrap()
}

/// Waits until nothing is left to decide or to send: then every request to a push service has been made.
pub(crate) async fn all_done(world: &World) {
    eventually("the outbox is empty", async || {
        let count = world.server().app().db.read(async |tx: &mut zim_server::db::Tx<'_>| {
            let row = tx.fetch_one("SELECT COUNT(*) FROM outbox WHERE kind IN (80, 81)", &[]).await?;
            Ok(row.unwrap().get::<i64>(0)?)
        });
        (soon(count).await.unwrap() == 0).then_some(())
    })
    .await;
}

pub(crate) fn title(request: &PushRequest) -> String {
    request.json()["title"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_device_that_is_away_gets_a_push_with_a_signature() {
    let server = PushServer::http();
    let world = World::new().await;
    set_webhook(&world, &server).await;
    away(&world, "bob", PushToken::webhook("bobs-phone")).await;
    let ann = world.user("ann").await;
    let push = PushConfig {
        title: "Ann".to_owned(),
        content: "hi".to_owned(),
        payload: "p".to_owned(),
        resources_id: "loud".to_owned(),
        ..PushConfig::default()
    };
    let config = MessageSendConfig { push_config: Some(push), ..MessageSendConfig::default() };
    let message = send(&ann, "bob", "hi", config).await;
    // Not before.
    assert_eq!(decided_at(&world).await, message.timestamp + DELAY_MS);
    world.clock.advance(DELAY_MS);
    let request = server.next().await;
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/push"));
    let body = request.json();
    assert_eq!((&body["title"], &body["content"], &body["token"]), (&json!("Ann"), &json!("hi"), &json!("bobs-phone")));
    assert_eq!(
        (&body["userID"], &body["source"], &body["resourcesID"]),
        (&json!("bob"), &json!("webhook"), &json!("loud"))
    );
    assert_eq!((&body["badge"], &body["appID"]), (&json!(null), &json!(world.app_id())));
    let data = &body["data"];
    assert_eq!((&data["kind"], &data["conversationID"]), (&json!("message"), &json!("ann")));
    assert_eq!(
        (&data["messageID"], &data["messageSeq"]),
        (&json!(message.message_id), &json!(message.message_seq.to_string()))
    );
    assert_eq!((&data["payload"], &data["senderUserID"]), (&json!("p"), &json!("ann")));
    let (time, signature) = request.header("zim-signature").split_once(",v1=").unwrap();
    let time = time.strip_prefix("t=").unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let signed = [time.as_bytes(), b".", &request.body[..]].concat();
    let signature: Vec<u8> =
        (0..signature.len()).step_by(2).map(|at| u8::from_str_radix(&signature[at..at + 2], 16).unwrap()).collect();
    ring::hmac::verify(&key, &signed, &signature).unwrap();
    let row = becomes(&world, "bob", PushOutcome::Sent).await;
    assert_eq!((row.sender_user_id.as_str(), row.kind.as_str(), row.detail.as_str()), ("ann", "message", "200"));
    world.end().await;
}

#[tokio::test]
async fn a_message_without_a_push_config_or_to_nobody_with_a_device_writes_nothing() {
    let server = PushServer::http();
    let world = World::new().await;
    let ann = world.user("ann").await;
    let rows = async || {
        let app = world.server().app();
        let count = app.db.read(async |tx: &mut zim_server::db::Tx<'_>| {
            let row = tx.fetch_one("SELECT (SELECT COUNT(*) FROM push) + (SELECT COUNT(*) FROM outbox)", &[]).await?;
            Ok(row.unwrap().get::<i64>(0)?)
        });
        soon(count).await.unwrap()
    };
    drop(world.user("carl").await);
    away(&world, "bob", PushToken::webhook("b")).await;
    // The app has no push service.
    send(&ann, "bob", "1", titled("1")).await;
    assert_eq!(rows().await, 0);
    set_webhook(&world, &server).await;
    send(&ann, "bob", "2", MessageSendConfig::default()).await;
    send(&ann, "carl", "3", titled("3")).await;
    assert_eq!(rows().await, 0);
    send(&ann, "bob", "4", titled("4")).await;
    assert_eq!(rows().await, 2);
    world.clock.advance(DELAY_MS);
    assert_eq!(title(&server.next().await), "4");
    world.end().await;
}

#[tokio::test]
async fn a_device_that_has_stored_the_message_gets_no_push() {
    let server = PushServer::http();
    let world = World::new().await;
    set_webhook(&world, &server).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    soon(bob.register_push(PushToken::webhook("online"))).await.unwrap();
    let tablet = world.device("bob").await;
    soon(tablet.register_push(PushToken::webhook("away"))).await.unwrap();
    tablet.quit().await;
    let sent = send(&ann, "bob", "hi", titled("Ann")).await;
    bob.receives("hi").await;
    // The client says so every 100 ms, by the clock of the test.
    let stored = || {
        let name = zim_protocol::ConversationRef { r#type: 0, id: "ann".to_owned() };
        let seq = sent.message_seq.unsigned_abs();
        world.servers().any(|server| {
            let app = server.app();
            app.fanout.all().iter().any(|one| one.has_stored(&name, seq))
        })
    };
    // For less than the delay of a push altogether.
    let turns = std::sync::atomic::AtomicI64::new(DELAY_MS / 200);
    eventually("the acknowledgement", async || {
        if turns.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) > 0 {
            world.clock.advance(100);
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        stored().then_some(())
    })
    .await;
    world.clock.advance(DELAY_MS);
    let request = server.next().await;
    assert_eq!(request.json()["token"], json!("away"));
    let rows = log(&world, "bob", 2).await;
    let why: Vec<_> = rows.iter().map(|row| row.detail.as_str()).collect();
    assert!(why.contains(&"the device has it"), "{why:?}");
    assert_eq!(server.waiting(), 0);
    world.end().await;
}

#[tokio::test]
async fn a_connected_device_that_stores_nothing_gets_a_push() {
    let server = PushServer::http();
    let world = World::new().await;
    set_webhook(&world, &server).await;
    let ann = world.user("ann").await;
    // It reads, and acknowledges nothing: as a phone whose app the system has frozen.
    let mut raw = world.raw_user("bob", 1).await;
    let token = zim_protocol::RegisterRequest {
        source: PushSource::Webhook as i32,
        token: "frozen".to_owned(),
        ..Default::default()
    };
    raw.call(&token).await.unwrap();
    send(&ann, "bob", "hi", titled("Ann")).await;
    world.clock.advance(DELAY_MS);
    assert_eq!(server.next().await.json()["token"], json!("frozen"));
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_message_that_was_read_or_revoked_meanwhile_is_not_pushed() {
    let server = PushServer::http();
    let world = World::new().await;
    set_webhook(&world, &server).await;
    away(&world, "bob", PushToken::webhook("phone")).await;
    let (ann, desktop) = (world.user("ann").await, world.user("bob").await);
    send(&ann, "bob", "read", titled("read")).await;
    desktop.receives("read").await;
    desktop.read("ann").await;
    world.clock.advance(DELAY_MS);
    let rows = log(&world, "bob", 1).await;
    assert_eq!((rows[0].outcome(), rows[0].detail.as_str()), (PushOutcome::Skipped, "read"));
    let revoked = send(&ann, "bob", "revoked", titled("revoked")).await;
    let push = PushConfig { title: "gone".to_owned(), ..PushConfig::default() };
    let config = MessageRevokeConfig { push_config: Some(push), ..MessageRevokeConfig::default() };
    soon(ann.revoke_message(&revoked, config)).await.unwrap();
    world.clock.advance(DELAY_MS);
    let request = server.next().await;
    assert_eq!((title(&request).as_str(), &request.json()["data"]["kind"]), ("gone", &json!("revoke")));
    let rows = log(&world, "bob", 3).await;
    // What it would have said is forgotten.
    assert!(rows.iter().any(|row| row.title.is_empty() && row.detail == "revoked"), "{rows:?}");
    world.end().await;
}

#[tokio::test]
async fn the_revocation_of_a_message_by_the_owner_is_pushed_to_its_sender_and_not_to_the_owner() {
    let server = PushServer::http();
    let world = World::new().await;
    set_webhook(&world, &server).await;
    away(&world, "carl", PushToken::webhook("carl")).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let info = GroupInfo { group_id: "crew".to_owned(), ..GroupInfo::default() };
    soon(ann.create_group(info, ["bob", "carl"], GroupAdvancedConfig::default())).await.unwrap();
    for (user, device) in [("ann", &world.device("ann").await), ("bob", &bob)] {
        soon(device.register_push(PushToken::webhook(user))).await.unwrap();
    }
    // Bob has read the conversation up to what they wrote.
    let sent = bob.say(group("crew"), "mine").await;
    bob.read(group("crew")).await;
    bob.quit().await;
    is_offline(&world, "bob").await;
    ann.receives("mine").await;
    let own = ann.history(group("crew")).await.pop().unwrap();
    assert_eq!(own.message_seq, sent.message_seq);
    let push = PushConfig { title: "gone".to_owned(), ..PushConfig::default() };
    let config = MessageRevokeConfig { push_config: Some(push), ..MessageRevokeConfig::default() };
    soon(ann.revoke_message(&own, config)).await.unwrap();
    world.clock.advance(DELAY_MS);
    let mut told = Vec::new();
    for _ in 0..2 {
        let request = server.next().await;
        assert_eq!((title(&request).as_str(), &request.json()["data"]["kind"]), ("gone", &json!("revoke")));
        told.push(request.json()["token"].as_str().unwrap().to_owned());
    }
    told.sort();
    assert_eq!(told, ["bob", "carl"]);
    all_done(&world).await;
    assert_eq!(server.waiting(), 0);
    world.end().await;
}

#[tokio::test]
async fn do_not_disturb_a_block_and_the_rule_of_the_user_are_respected() {
    let server = PushServer::http();
    let world = World::new().await;
    set_webhook(&world, &server).await;
    let (ann, eve) = (world.user("ann").await, world.user("eve").await);
    let bob = world.user("bob").await;
    send(&ann, "bob", "first", MessageSendConfig::default()).await;
    send(&eve, "bob", "first of eve", MessageSendConfig::default()).await;
    bob.receives("first").await;
    bob.receives("first of eve").await;
    soon(bob.register_push(PushToken::webhook("phone"))).await.unwrap();
    let quiet = ConversationNotificationStatus::DoNotDisturb;
    let mute = bob.set_conversation_notification_status(quiet, "ann", ConversationType::Peer);
    soon(mute).await.unwrap();
    send(&eve, "bob", "before the block", titled("blocked")).await;
    soon(bob.add_users_to_blacklist(["eve"])).await.unwrap();
    bob.quit().await;
    is_offline(&world, "bob").await;
    send(&ann, "bob", "hush", titled("hush")).await;
    world.clock.advance(DELAY_MS);
    let rows = log(&world, "bob", 2).await;
    let why: Vec<_> = rows.iter().map(|row| (row.title.as_str(), row.detail.as_str())).collect();
    assert!(why.contains(&("blocked", "the receiver blocks the sender")), "{why:?}");
    assert!(why.contains(&("hush", "do not disturb")), "{why:?}");
    // A mention passes, unless its sender does not want that.
    let mention = |text: &str| Message { mentioned_user_ids: vec!["bob".to_owned()], ..Message::text(text) };
    let silent = MessageSendConfig { is_notify_mentioned_users: Some(false), ..titled("silent") };
    for (message, config) in [(mention("psst"), silent), (mention("hey"), titled("hey"))] {
        soon(ann.send_message(message, "bob", ConversationType::Peer, config, MessageSendNotification::default()))
            .await
            .unwrap();
    }
    world.clock.advance(DELAY_MS);
    assert_eq!(title(&server.next().await), "hey");
    let rows = log(&world, "bob", 4).await;
    let silent = rows.iter().find(|row| row.title == "silent").unwrap();
    assert_eq!((silent.outcome(), silent.detail.as_str()), (PushOutcome::Skipped, "do not disturb"));
    // The rule: nothing for the telephone while the desktop is online.
    let phone = world.login(world.client_with(|config| config.platform(PlatformType::Android)), "carl").await;
    soon(phone.register_push(PushToken::webhook("carl"))).await.unwrap();
    phone.quit().await;
    is_offline(&world, "carl").await;
    let desktop = world.client_with(|config| config.platform(PlatformType::Win));
    let desktop = world.login(desktop, "carl").await;
    let rule = UserOfflinePushRule {
        online_platforms: vec![PlatformType::Win as i32],
        not_to_receive_offline_push_platforms: vec![PlatformType::Android as i32],
    };
    soon(desktop.update_user_offline_push_rule(rule)).await.unwrap();
    send(&ann, "carl", "desk", titled("desk")).await;
    world.clock.advance(DELAY_MS);
    let rows = log(&world, "carl", 1).await;
    assert_eq!(rows[0].detail, "the receiver's rule: online on another platform");
    assert_eq!(server.waiting(), 0);
    world.end().await;
}

#[tokio::test]
async fn a_burst_is_one_push_and_the_badge_counts_all_of_it() {
    let server = PushServer::http();
    let world = World::new().await;
    set_webhook(&world, &server).await;
    let bob = world.user("bob").await;
    soon(bob.register_push(PushToken::webhook("phone"))).await.unwrap();
    soon(bob.update_user_badge(7)).await.unwrap();
    bob.quit().await;
    is_offline(&world, "bob").await;
    let ann = world.user("ann").await;
    let badged = |title: &str, badge_increment| {
        let config = titled(title);
        let push = PushConfig { enable_badge: true, badge_increment, ..config.push_config.unwrap() };
        MessageSendConfig { push_config: Some(push), ..MessageSendConfig::default() }
    };
    for (text, increment) in [("1", 0), ("2", 5), ("3", 1)] {
        send(&ann, "bob", text, badged(text, increment)).await;
    }
    world.clock.advance(DELAY_MS);
    let first = server.next().await;
    let rows = log(&world, "bob", 3).await;
    let why: Vec<_> = rows.iter().map(|row| (row.title.as_str(), row.outcome())).collect();
    let skipped = PushOutcome::Skipped;
    assert!(why.contains(&("1", skipped)) && why.contains(&("2", skipped)), "{why:?}");
    assert_eq!(title(&first), "3");
    // 7, and 1, 5 and 1.
    eventually("the badge", async || {
        send(&ann, "bob", "4", badged("4", 0)).await;
        world.clock.advance(DELAY_MS);
        let next = server.next().await.json();
        (next["badge"] == json!(15)).then_some(next)
    })
    .await;
    // A later push of the conversation replaces the earlier on the device.
    send(&ann, "bob", "5", badged("5", 0)).await;
    world.clock.advance(DELAY_MS);
    assert_eq!(server.next().await.json()["collapseID"], first.json()["collapseID"]);
    world.end().await;
}

#[tokio::test]
async fn a_group_is_one_entry_of_the_outbox_and_each_member_gets_a_push() {
    let server = PushServer::http();
    let world = World::new().await;
    set_webhook(&world, &server).await;
    let ann = world.user("ann").await;
    for user in ["bob", "carl", "dora", "eve"] {
        away(&world, user, PushToken::webhook(user)).await;
    }
    let info = GroupInfo { group_id: "crew".to_owned(), ..GroupInfo::default() };
    let members = ["bob", "carl", "dora", "eve"];
    soon(ann.create_group(info, members, GroupAdvancedConfig::default())).await.unwrap();
    let to_group = async |text: &str, config| {
        let sent = ann.send_message(
            Message::text(text),
            "crew",
            ConversationType::Group,
            config,
            MessageSendNotification::default(),
        );
        soon(sent).await.unwrap();
    };
    to_group("hi", titled("crew")).await;
    // Who leaves before it is decided gets nothing.
    soon(ann.kick_group_members(["eve"], "crew")).await.unwrap();
    world.clock.advance(DELAY_MS);
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let body = server.next().await.json();
        assert_eq!(
            (&body["data"]["conversationType"], &body["data"]["conversationID"]),
            (&json!("group"), &json!("crew"))
        );
        tokens.push(body["token"].as_str().unwrap().to_owned());
    }
    tokens.sort();
    assert_eq!(tokens, ["bob", "carl", "dora"]);
    assert_eq!((server.waiting(), log(&world, "eve", 0).await.len()), (0, 0));
    assert!(!ann.history(group("crew")).await.is_empty());
    world.end().await;
}

#[tokio::test]
async fn a_call_rings_a_device_that_is_away_until_it_is_over() {
    let server = PushServer::http();
    let world = World::new().await;
    set_webhook(&world, &server).await;
    away(&world, "bob", PushToken::webhook("phone")).await;
    let ann = world.user("ann").await;
    let push = |title: &str| Some(PushConfig { title: title.to_owned(), ..PushConfig::default() });
    let config = CallInviteConfig { push_config: push("rings"), ..CallInviteConfig::default() };
    let call = soon(ann.call_invite(["bob"], config.clone())).await.unwrap().call_id;
    world.clock.advance(DELAY_MS);
    let request = server.next().await;
    let data = &request.json()["data"];
    assert_eq!(
        (title(&request).as_str(), &data["kind"], &data["callID"]),
        ("rings", &json!("callInvitation"), &json!(call))
    );
    let cancelled = CallCancelConfig { push_config: push("missed"), ..CallCancelConfig::default() };
    soon(ann.call_cancel(["bob"], &call, cancelled.clone())).await.unwrap();
    world.clock.advance(DELAY_MS);
    let request = server.next().await;
    assert_eq!((title(&request).as_str(), &request.json()["data"]["kind"]), ("missed", &json!("callCancellation")));
    // What is over before it is pushed is not pushed.
    let call = soon(ann.call_invite(["bob"], config)).await.unwrap().call_id;
    soon(ann.call_cancel(["bob"], &call, CallCancelConfig::default())).await.unwrap();
    world.clock.advance(DELAY_MS);
    let rows = log(&world, "bob", 3).await;
    assert_eq!(rows[2].detail, "the call does not wait any more");
    assert_eq!(server.waiting(), 0);
    world.end().await;
}
