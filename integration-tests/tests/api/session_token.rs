//! Logins with tokens: which are accepted, how long they last, and how they are renewed.

use std::sync::Arc;

use parking_lot::Mutex;
use zim_integration_tests::{DataDir, World, eventually, refusal, soon};
use zim_protocol::clock::Clock;
use zim_protocol::token::Token;
use zim_protocol::{ConnectionEvent, ConnectionState, ErrorCode, Event, EventKind, LoginConfig, Message, SecretKind};

use crate::access::{DAY_S, rotate};
use crate::session::{reaches, states};

#[tokio::test]
async fn login_with_an_invalid_token_is_refused_with_the_matching_code() {
    let world = World::new().await;
    let app = world.server().first_app().clone();
    let now = world.clock.now_s();
    let make = |app_id: u32, user: &str, secret: &str, at: i64, for_s: i64| {
        Token::generate(app_id, user, secret, at, for_s).unwrap()
    };
    let good = world.token("ann");
    let (broken, other_secret) = (format!("{}AAAA", &good[..good.len() - 4]), "x".repeat(32));
    let cases = [
        ("another user's", world.token("bob"), ErrorCode::NetworkModuleTokenInvalid),
        (
            "another app's",
            make(app.app_id ^ 1, "ann", &app.server_secret, now, 3_600),
            ErrorCode::NetworkModuleCommonError,
        ),
        ("forged", make(app.app_id, "ann", &other_secret, now, 3_600), ErrorCode::NetworkModuleTokenInvalid),
        ("changed", broken, ErrorCode::NetworkModuleTokenInvalid),
        (
            "expired",
            make(app.app_id, "ann", &app.server_secret, now - 7_200, 3_600),
            ErrorCode::NetworkModuleTokenExpired,
        ),
        (
            "too short",
            make(app.app_id, "ann", &app.server_secret, now, 29),
            ErrorCode::NetworkModuleTokenTimeIsTooShort,
        ),
        (
            "too long",
            make(app.app_id, "ann", &app.server_secret, now + 120, 2_073_600),
            ErrorCode::NetworkModuleRspProtoParseError,
        ),
        ("of another version", format!("03{}", &good[2..]), ErrorCode::NetworkModuleTokenVersionError),
        ("cut", good[..20].to_owned(), ErrorCode::NetworkModuleTokenInvalid),
        ("no base64", format!("04{}", "*".repeat(60)), ErrorCode::NetworkModuleTokenInvalid),
        ("none", String::new(), ErrorCode::NetworkModuleTokenInvalid),
    ];
    for (what, token, expected) in cases {
        // The SDK detects some of these itself …
        let ann = world.client();
        let config = LoginConfig { token: token.clone(), ..LoginConfig::default() };
        assert_eq!(refusal(soon(ann.login("ann", config.clone())).await), expected, "by the SDK: {what}");
        assert_eq!(ann.connection_state(), ConnectionState::Disconnected, "{what}");
        // … and the server all of them.
        let mut raw = world.raw_after_hello(1).await;
        let mut request = world.login_request("ann");
        request.app_sign.clear();
        request.config = Some(config);
        let refused = raw.call(&request).await.unwrap_err();
        assert_eq!(refused.code, expected as i32, "by the server: {what}: {refused}");
        raw.end().await;
    }
    world.assert_serves_others().await;
    world.end().await;
}

#[tokio::test]
async fn login_with_a_cbc_token_is_refused_and_names_the_setting() {
    let world = World::new().await;
    let app = world.server().first_app().clone();
    let token = Token::generate_cbc(app.app_id, "ann", &app.server_secret, world.clock.now_s(), 3_600).unwrap();
    let ann = world.client();
    let refused = soon(ann.login("ann", LoginConfig { token, ..LoginConfig::default() })).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NetworkModuleTokenInvalid);
    assert!(refused.to_string().contains("--cbc-tokens on"), "{refused}");
    world.end().await;
}

#[tokio::test]
async fn renew_token_keeps_the_session_beyond_the_first_token() {
    let world = World::new().await;
    let ann = world.client();
    let config = LoginConfig { token: world.token_for("ann", 100), ..LoginConfig::default() };
    soon(ann.login("ann", config)).await.unwrap();
    world.clock.advance(71_000);
    match ann.next(EventKind::TokenWillExpire).await {
        Event::TokenWillExpire(event) => assert!((1..=30).contains(&event.second), "{event:?}"),
        other => panic!("{other:?}"),
    }
    let fresh = world.token_for("ann", 3_600);
    let renewed = soon(ann.renew_token(&fresh)).await.unwrap();
    assert_eq!(renewed.token, fresh);
    world.clock.advance(60_000);
    let bob = world.user("bob").await;
    ann.say("bob", "still here").await;
    bob.receives("still here").await;
    assert!(!states(&ann).contains(&(ConnectionState::Disconnected, ConnectionEvent::TokenExpired)));
    world.end().await;
}

#[tokio::test]
async fn renew_token_without_a_connection_is_for_the_next_one() {
    let world = World::new().await;
    let proxy = world.proxy(1).await;
    let short = |config: zim_client_sdk::Config| config.request_timeout_ms(1_000).connect_timeout_ms(2_000);
    let ann = world.client_via(&proxy, DataDir::default(), short);
    let config = LoginConfig { token: world.token_for("ann", 100), ..LoginConfig::default() };
    soon(ann.login("ann", config)).await.unwrap();
    proxy.cut();
    // The first attempt also shows the loss of the connection.
    soon(ann.renew_token(&world.token_for("ann", 3_600))).await.unwrap();
    reaches(&ann, ConnectionState::Reconnecting, ConnectionEvent::LoginInterrupted).await;
    soon(ann.renew_token(&world.token_for("ann", 7_200))).await.unwrap();
    world.clock.advance(3_700_000);
    proxy.restore();
    let bob = world.user("bob").await;
    ann.say("bob", "still here").await;
    bob.receives("still here").await;
    world.end().await;
}

#[tokio::test]
async fn login_of_the_same_user_renews_the_token_or_refuses_it() {
    let world = World::new().await;
    let ann = world.client();
    let with = |token| LoginConfig { token, ..LoginConfig::default() };
    soon(ann.login("ann", with(world.token_for("ann", 100)))).await.unwrap();
    for (bad, expected) in [
        (world.token("bob"), ErrorCode::NetworkModuleTokenInvalid),
        (world.token_for("ann", 10), ErrorCode::NetworkModuleTokenTimeIsTooShort),
        ("garbage".to_owned(), ErrorCode::NetworkModuleTokenInvalid),
    ] {
        assert_eq!(refusal(soon(ann.login("ann", with(bad))).await), expected);
    }
    soon(ann.login("ann", with(world.token_for("ann", 3_600)))).await.unwrap();
    world.clock.advance(200_000);
    let bob = world.user("bob").await;
    ann.say("bob", "still here").await;
    bob.receives("still here").await;
    world.end().await;
}

#[tokio::test]
async fn login_with_a_token_provider_lasts_for_ever() {
    let world = World::new().await;
    let proxy = world.proxy(2).await;
    let (app, clock) = (world.server().first_app().clone(), world.clock.clone());
    let calls = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&calls);
    let provider = move |user: String| {
        // The first attempt to replace a token fails.
        let fails = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 1;
        let token = Token::generate(app.app_id, &user, &app.server_secret, clock.now_s(), 100).unwrap();
        async move { if fails { Err("the back end is down".into()) } else { Ok(token) } }
    };
    let ann = world.client_via(&proxy, DataDir::default(), |config| config.token_provider(provider));
    soon(ann.login("ann", LoginConfig::default())).await.unwrap();
    let bob = world.user("bob").await;
    let called = async |times: usize| {
        let calls = || calls.load(std::sync::atomic::Ordering::Relaxed);
        eventually("another token", async || (calls() >= times).then_some(())).await;
    };
    // The token is replaced before it expires, after a failed attempt.
    world.clock.advance(71_000);
    called(3).await;
    ann.say("bob", "renewed").await;
    // It expires while there is no connection.
    proxy.cut();
    world.clock.advance(1_000_000);
    proxy.restore();
    ann.say("bob", "still here").await;
    bob.receives("still here").await;
    assert!(!states(&ann).iter().any(|(state, _)| *state == ConnectionState::Disconnected));
    world.end().await;
}

/// The operator replaces the server secret while a client that has a token of the old one is away.
#[tokio::test]
async fn login_with_a_token_provider_outlasts_the_server_secret() {
    let world = World::new().await;
    world.register(["bob"]).await;
    let proxy = world.proxy(3).await;
    let (app, clock) = (world.server().first_app().clone(), world.clock.clone());
    let secret = Arc::new(Mutex::new(app.server_secret.clone()));
    let current = Arc::clone(&secret);
    let provider = move |user: String| {
        let token = Token::generate(app.app_id, &user, &current.lock(), clock.now_s(), DAY_S).unwrap();
        async move { Ok(token) }
    };
    let ann = world.client_via(&proxy, DataDir::default(), |config| {
        let config = config.request_timeout_ms(1_000).connect_timeout_ms(2_000).resend_window_ms(600_000);
        config.token_provider(provider)
    });
    soon(ann.login("ann", LoginConfig::default())).await.unwrap();
    proxy.cut();
    let call = ann.send("bob", Message::text("hi"));
    reaches(&ann, ConnectionState::Reconnecting, ConnectionEvent::LoginInterrupted).await;
    let mut operator = world.admin().await;
    let new = rotate(&mut operator, world.app_id(), SecretKind::ServerSecret, 60).await;
    drop(operator);
    *secret.lock() = new;
    world.clock.advance(60_000);
    proxy.restore();
    // The server refuses the old token, and the client gets another one.
    soon(call).await.unwrap();
    assert!(!states(&ann).iter().any(|(state, _)| *state == ConnectionState::Disconnected));
    world.end().await;
}

#[tokio::test]
async fn a_session_ends_without_renew_token() {
    let world = World::new().await;
    let ann = world.client();
    let config = LoginConfig { token: world.token_for("ann", 100), ..LoginConfig::default() };
    soon(ann.login("ann", config)).await.unwrap();
    world.clock.advance(100_000);
    reaches(&ann, ConnectionState::Disconnected, ConnectionEvent::TokenExpired).await;
    assert_eq!(refusal(soon(ann.send("bob", Message::text("no"))).await), ErrorCode::NetworkModuleUserIsNotLogged);
    // A new token logs the user in again.
    world.login(ann, "ann").await;
    world.end().await;
}

#[tokio::test]
async fn login_with_a_token_ends_by_the_servers_clock_and_not_the_devices() {
    let world = World::new().await;
    let years = 20 * 365 * 86_400_000;
    for ahead in [-years, years] {
        let theirs = Clock::manual(world.clock.now_ms() + ahead);
        let device = world.client_with(|config| config.clock(theirs.clone()));
        soon(device.login("ann", world.with_token("ann"))).await.unwrap();
        // The clock is set, a day too late.
        theirs.jump(-ahead + 86_400_000);
        soon(device.renew_token(&world.token("ann"))).await.unwrap();
        soon(device.update_user_name("Ann")).await.unwrap();
        // A further day passes on the device: now the token has expired.
        theirs.advance(86_400_000);
        reaches(&device, ConnectionState::Disconnected, ConnectionEvent::TokenExpired).await;
    }
    world.end().await;
}

#[tokio::test]
async fn renew_token_refuses_an_invalid_token_and_keeps_the_old_one() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let app = world.server().first_app().clone();
    let forged = Token::generate(app.app_id, "ann", &"y".repeat(32), world.clock.now_s(), 3_600).unwrap();
    for (token, expected) in [
        (forged, ErrorCode::NetworkModuleTokenInvalid),
        (world.token("bob"), ErrorCode::NetworkModuleTokenInvalid),
        (world.token_for("ann", 10), ErrorCode::NetworkModuleTokenTimeIsTooShort),
        ("nonsense".to_owned(), ErrorCode::NetworkModuleTokenInvalid),
    ] {
        assert_eq!(refusal(soon(ann.renew_token(&token)).await), expected, "{token}");
    }
    let bob = world.user("bob").await;
    ann.say("bob", "still here").await;
    bob.receives("still here").await;
    world.end().await;
}

#[tokio::test]
async fn login_with_a_token_near_its_expiry_warns_at_once() {
    let world = World::new().await;
    let ann = world.client();
    let config = LoginConfig { token: world.token_for("ann", 30), ..LoginConfig::default() };
    soon(ann.login("ann", config)).await.unwrap();
    match ann.next(EventKind::TokenWillExpire).await {
        Event::TokenWillExpire(event) => assert!(event.second <= 30, "{event:?}"),
        other => panic!("{other:?}"),
    }
    world.end().await;
}
