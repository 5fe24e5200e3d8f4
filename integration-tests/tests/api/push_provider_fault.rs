//! Push services that refuse for now, or do not answer, and what changes while pushes go on. The servers speak as the real ones do.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;
use zim_client_sdk::PushToken;
use zim_integration_tests::{PushAnswer, PushRequest, PushServer, World, eventually};
use zim_protocol::{MessageSendConfig, PushConfig, PushLogRow, PushOutcome, PushSource};

use crate::push_delivery::{away, becomes, log, send, set_provider, titled};
use crate::push_provider::{RSA_KEY, parts, public_of, web_push_keys};

const DELAY_MS: i64 = 2_000;
const BACK_OFF_MS: i64 = 5_000;
/// What FCM and APNs take at most, bytes.
const MAX_BYTES: usize = 4_096;

/// An FCM, which gives each service account a token.
async fn fcm(world: &World) -> PushServer {
    let server = PushServer::https(&["h2", "http/1.1"]);
    server.answer_at("/token", PushAnswer::status(200).body(r#"{"access_token":"granted","expires_in":3600}"#));
    let settings = json!({
        "project_id": "chess-1",
        "client_email": "push@chess-1.iam.example",
        "private_key": RSA_KEY,
        "token_uri": server.url("/token"),
        "endpoint": server.url(""),
        "ca": server.ca(),
    });
    set_provider(world, PushSource::Fcm, &settings).await;
    server
}

/// Lets pushes go to an APNs with a new key of this name.
async fn set_apns(world: &World, server: &PushServer, key_id: &str) {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let settings = json!({
        "keyId": key_id,
        "teamId": "TEAM1",
        "privateKey": pair.serialize_pem(),
        "topic": "org.example.chat",
        "endpoint": server.url(""),
        "ca": server.ca(),
    });
    set_provider(world, PushSource::Apns, &settings).await;
}

fn apns_token(number: u8) -> PushToken {
    PushToken::apns(format!("{number:02x}").repeat(32))
}

/// The name of the key that a request to APNs is signed with.
fn key_of(request: &PushRequest) -> String {
    let (head, ..) = parts(request.header("authorization").strip_prefix("Bearer ").unwrap());
    head["kid"].as_str().unwrap().to_owned()
}

/// Waits until the only push to a user waits after this many attempts.
async fn waits(world: &World, user: &str, attempts: u32, detail: &str) -> PushLogRow {
    eventually("the answer is noted", async || {
        let row = log(world, user, 1).await.remove(0);
        let is_it = row.attempts == attempts && row.outcome() == PushOutcome::Waiting && row.detail.starts_with(detail);
        is_it.then_some(row)
    })
    .await
}

/// A push outlasts these answers, each with what is noted of it, and the one that does not come.
async fn outlasts(world: &World, server: &PushServer, answers: [(PushAnswer, &str); 3]) {
    let ann = world.user("ann").await;
    let [(first, busy), (second, broken), (third, away)] = answers;
    server.answer([first.header("retry-after", "90"), second, third, PushAnswer::none(), PushAnswer::status(200)]);
    send(&ann, "bob", "hi", titled("hi")).await;
    world.clock.advance(DELAY_MS);
    for (attempts, detail, wait_ms) in
        [(1, busy, 90_000), (2, broken, 20_000), (3, away, 80_000), (4, "no answer in time", 320_000)]
    {
        server.next().await;
        let row = waits(world, "bob", attempts, detail).await;
        assert_eq!(row.next_at - world.clock.now_ms(), wait_ms, "{detail}");
        world.clock.advance(wait_ms);
    }
    server.next().await;
    let row = becomes(world, "bob", PushOutcome::Sent).await;
    assert_eq!((row.attempts, row.push_id.is_empty()), (5, false));
}

#[tokio::test]
async fn fcm_that_is_busy_broken_or_silent_is_asked_again() {
    let world = World::with(|config| config.push.timeout_ms = 2_000).await;
    let server = fcm(&world).await;
    away(&world, "bob", PushToken::fcm("bobs-token")).await;
    let says = |status: u16, code: &str| {
        let body = json!({"error": {"code": status, "message": "why", "details": [{"errorCode": code}]}});
        PushAnswer::status(status).body(&body.to_string())
    };
    let answers = [
        (says(429, "QUOTA_EXCEEDED"), "429 QUOTA_EXCEEDED: why"),
        (says(500, "INTERNAL"), "500 INTERNAL: why"),
        (PushAnswer::status(503).body("<html>"), "503 <html>"),
    ];
    outlasts(&world, &server, answers).await;
    world.end().await;
}

#[tokio::test]
async fn apns_that_is_busy_broken_or_silent_is_asked_again() {
    let world = World::with(|config| config.push.timeout_ms = 2_000).await;
    let server = PushServer::https(&["h2"]);
    set_apns(&world, &server, "KEY1").await;
    away(&world, "bob", apns_token(1)).await;
    let says = |status: u16, reason: &str| PushAnswer::status(status).body(&json!({"reason": reason}).to_string());
    let answers = [
        (says(429, "TooManyRequests"), "429 TooManyRequests"),
        (says(500, "InternalServerError"), "500 InternalServerError"),
        (says(503, "ServiceUnavailable"), "503 ServiceUnavailable"),
    ];
    outlasts(&world, &server, answers).await;
    world.end().await;
}

#[tokio::test]
async fn the_push_service_of_a_browser_that_is_busy_broken_or_silent_is_asked_again() {
    let world = World::with(|config| {
        config.push.timeout_ms = 2_000;
        config.push.allow_private_addresses = true;
    })
    .await;
    let server = PushServer::https(&["h2", "http/1.1"]);
    let ((public, private), (browser, auth)) = web_push_keys();
    let settings = json!({
        "publicKey": public, "privateKey": private, "subject": "mailto:ops@example.org", "ca": server.ca(),
    });
    set_provider(&world, PushSource::WebPush, &settings).await;
    away(&world, "bob", PushToken::web_push(server.url("/send/1"), public_of(&browser), auth)).await;
    let answers = [
        (PushAnswer::status(429), "429"),
        (PushAnswer::status(500).body("why"), "500 why"),
        (PushAnswer::status(503), "503"),
    ];
    outlasts(&world, &server, answers).await;
    world.end().await;
}

#[tokio::test]
async fn set_push_provider_replaces_a_key_while_pushes_go_on() {
    let world = World::with(|config| config.push.timeout_ms = 25_000).await;
    let server = PushServer::https(&["h2"]);
    set_apns(&world, &server, "KEY1").await;
    for (number, user) in [(1, "bob"), (2, "carl")] {
        away(&world, user, apns_token(number)).await;
    }
    let ann = world.user("ann").await;
    let answers = Arc::new(Notify::new());
    // One waits for its next attempt, and one for its answer.
    server.answer([PushAnswer::status(503), PushAnswer::status(200).when(&answers)]);
    for user in ["bob", "carl"] {
        send(&ann, user, "1", titled(user)).await;
        world.clock.advance(DELAY_MS);
        assert_eq!(key_of(&server.next().await), "KEY1", "{user}");
        if user == "bob" {
            waits(&world, "bob", 1, "503").await;
        }
    }
    set_apns(&world, &server, "KEY2").await;
    world.clock.advance(BACK_OFF_MS);
    let again = server.next().await;
    // The other nodes learn of it by a hint, and may be later.
    if world.servers().count() == 1 {
        assert_eq!(key_of(&again), "KEY2");
    }
    becomes(&world, "bob", PushOutcome::Sent).await;
    answers.notify_one();
    becomes(&world, "carl", PushOutcome::Sent).await;
    assert_eq!(server.waiting(), 0);
    world.end().await;
}

/// Returns what a push has on the way that is longer than allowed, with characters that JSON writes with six.
async fn long(world: &World, server: &PushServer) -> Value {
    let ann = world.user("ann").await;
    let push = PushConfig {
        title: "\u{1}".repeat(512),
        content: "\u{2}".repeat(2_048),
        payload: "\u{3}".repeat(2_048),
        ..PushConfig::default()
    };
    send(&ann, "bob", "hi", MessageSendConfig { push_config: Some(push), ..MessageSendConfig::default() }).await;
    world.clock.advance(DELAY_MS);
    let request = server.next().await;
    assert!(request.body.len() <= MAX_BYTES, "{}", request.body.len());
    becomes(world, "bob", PushOutcome::Sent).await;
    request.json()
}

/// What is shown is cut, and the app's own data left out.
fn is_cut(title: &Value, content: &Value, data: &Value) {
    assert_eq!(title, &json!("\u{1}".repeat(512)));
    let content = content.as_str().unwrap();
    assert!(content.chars().all(|letter| letter == '\u{2}') && content.len() < 2_048, "{content:?}");
    assert_eq!((&data["conversationID"], &data["payload"]), (&json!("ann"), &Value::Null));
}

#[tokio::test]
async fn fcm_gets_no_more_than_it_takes_whatever_has_to_be_escaped() {
    let world = World::new().await;
    let server = fcm(&world).await;
    away(&world, "bob", PushToken::fcm("bobs-token")).await;
    let message = &long(&world, &server).await["message"];
    is_cut(&message["notification"]["title"], &message["notification"]["body"], &message["data"]);
    world.end().await;
}

#[tokio::test]
async fn apns_gets_no_more_than_it_takes_whatever_has_to_be_escaped() {
    let world = World::new().await;
    let server = PushServer::https(&["h2"]);
    set_apns(&world, &server, "KEY1").await;
    away(&world, "bob", apns_token(1)).await;
    let sent = long(&world, &server).await;
    is_cut(&sent["aps"]["alert"]["title"], &sent["aps"]["alert"]["body"], &sent["zim"]);
    world.end().await;
}
