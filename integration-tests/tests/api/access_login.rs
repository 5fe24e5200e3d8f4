//! Logins under access control: the allowances for failed ones and for new users, and what a change of the app does to them.

use zim_integration_tests::{DataDir, RawClient, World, eventually, refusal, soon};
use zim_protocol::response::Outcome;
use zim_protocol::server_frame::Frame;
use zim_protocol::token::Token;
use zim_protocol::{
    CbcTokens, ConnectionEvent, ConnectionState, ErrorCode, LoginConfig, LoginRequest, RenewTokenRequest, Response,
    SecretKind, SessionEndReason, UpdateAppRequest,
};

use crate::access::{DAY_S, by_token, disconnected, end_of, rotate, set, token_of, try_login};
use crate::session::{reaches, states};

const INVALID: i32 = ErrorCode::NetworkModuleTokenInvalid as i32;
const EXPIRED: i32 = ErrorCode::NetworkModuleTokenExpired as i32;
const TOO_FAST: i32 = ErrorCode::CommonModuleTriggerServerFrequencyLimit as i32;

#[tokio::test]
async fn login_to_an_unknown_app_is_refused_like_a_wrong_secret() {
    let world = World::new().await;
    let mut raw = world.raw_after_hello(1).await;
    let wrong_sign = LoginRequest { app_sign: "0".repeat(64), ..world.login_request("ann") };
    let wrong_token = by_token(&world, "ann", token_of(&world, "ann", &"x".repeat(32)));
    for request in [wrong_sign, wrong_token] {
        let known = raw.call(&request).await.unwrap_err();
        let unknown = raw.call(&LoginRequest { app_id: world.app_id() ^ 1, ..request }).await.unwrap_err();
        assert_eq!((known.code, &known.message), (INVALID, &unknown.message));
        assert_eq!(known.code, unknown.code);
    }
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn login_beyond_the_allowance_for_failures_hides_the_reason_and_accepts_valid_credentials() {
    let world = World::with(|settings| {
        settings.limits.failed_logins_per_minute_per_address = 10;
        settings.limits.failed_logins_per_minute_per_app = 1_000;
    })
    .await;
    let mut raw = world.raw_after_hello(1).await;
    let wrong_sign = LoginRequest { app_sign: "0".repeat(64), ..world.login_request("ann") };
    let wrong_token = by_token(&world, "ann", token_of(&world, "ann", &"x".repeat(32)));
    for attempt in 0..10 {
        assert_eq!(raw.call(&wrong_sign).await.unwrap_err().code, INVALID, "attempt {attempt}");
    }
    // From now on the reason is hidden, on any connection of the address and for any credentials.
    let mut other = world.raw_after_hello(2).await;
    let mut messages = Vec::new();
    for request in [&wrong_sign, &wrong_token] {
        let refused = other.call(request).await.unwrap_err();
        assert!(refused.details["retry_after_ms"].parse::<i64>().unwrap() <= 6_000);
        // The code for wrong credentials: a client with an old secret must not retry with it.
        assert_eq!(refused.code, INVALID);
        messages.push(refused.message);
    }
    assert!(messages[0] == messages[1] && messages[0].contains("too many"), "{messages:?}");
    // A genuine expired token is no guess: its client must learn that it needs another.
    let (secret, now_s) = (world.server().first_app().server_secret.clone(), world.clock.now_s());
    let expired = Token::generate(world.app_id(), "ann", &secret, now_s - 100, 60).unwrap();
    assert_eq!(other.call(&by_token(&world, "ann", expired)).await.unwrap_err().code, EXPIRED);
    // Valid credentials are accepted.
    other.call(&by_token(&world, "ann", world.token("ann"))).await.unwrap();
    // A renewal is treated like a login.
    assert_eq!(other.call(&RenewTokenRequest { token: "04".repeat(20) }).await.unwrap_err().code, INVALID);
    let guessed = RenewTokenRequest { token: token_of(&world, "ann", &"x".repeat(32)) };
    assert_eq!(other.call(&guessed).await.unwrap_err().message, messages[0]);
    for raw in [raw, other] {
        raw.end().await;
    }
    world.clock.advance(60_000);
    assert_eq!(try_login(&world, &wrong_sign).await.unwrap_err(), INVALID);
    world.end().await;
}

#[tokio::test]
async fn login_beyond_the_allowance_of_an_app_does_not_affect_other_apps() {
    let world = World::with(|settings| settings.limits.failed_logins_per_minute_per_app = 2).await;
    let mut operator = world.admin().await;
    let request = zim_protocol::CreateAppRequest { app_id: 77, name: "other".into() };
    let other = soon(operator.create_app(request)).await.unwrap().into_inner();
    let wrong = LoginRequest { app_sign: "0".repeat(64), ..world.login_request("ann") };
    let mut raw = world.raw_after_hello(1).await;
    let is_hidden = async |raw: &mut RawClient, request: &LoginRequest| {
        let refused = raw.call(request).await.unwrap_err();
        assert_eq!(refused.code, INVALID);
        refused.details.contains_key("retry_after_ms")
    };
    for expected in [false, false, true] {
        assert_eq!(is_hidden(&mut raw, &wrong).await, expected);
    }
    // An unknown app has the same allowance as a known one, so that they cannot be told apart.
    for app_id in [78, 79] {
        let unknown = LoginRequest { app_id, ..wrong.clone() };
        for expected in [false, false, true] {
            assert_eq!(is_hidden(&mut raw, &unknown).await, expected, "{app_id}");
        }
    }
    let elsewhere = LoginRequest { app_id: 77, ..wrong };
    assert!(!is_hidden(&mut raw, &elsewhere).await);
    raw.call(&LoginRequest { app_sign: other.app_sign, ..elsewhere }).await.unwrap();
    raw.end().await;
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn login_with_a_cbc_token_waits_for_the_allowance_and_with_a_gcm_token_does_not() {
    let world = World::with(|settings| settings.limits.failed_logins_per_minute_per_address = 2).await;
    let mut operator = world.admin().await;
    let on = UpdateAppRequest {
        app_id: world.app_id(),
        cbc_tokens: Some(CbcTokens::On as i32),
        ..UpdateAppRequest::default()
    };
    set(&mut operator, on).await;
    let secret = world.server().first_app().server_secret.clone();
    let cbc = |user| Token::generate_cbc(world.app_id(), user, &secret, world.clock.now_s(), DAY_S).unwrap();
    assert!(try_login(&world, &by_token(&world, "ann", cbc("ann"))).await.is_ok());
    for _ in 0..2 {
        // A guess: the token of another user.
        assert_eq!(try_login(&world, &by_token(&world, "ann", cbc("bob"))).await.unwrap_err(), INVALID);
    }
    assert_eq!(try_login(&world, &by_token(&world, "ann", cbc("ann"))).await.unwrap_err(), TOO_FAST);
    assert!(try_login(&world, &by_token(&world, "ann", world.token("ann"))).await.is_ok());
    world.clock.advance(30_000);
    assert!(try_login(&world, &by_token(&world, "ann", cbc("ann"))).await.is_ok());
    drop(operator);
    world.end().await;
}

/// However a login and a change of the app interleave, only sessions that the app allows stay open.
#[tokio::test]
async fn login_that_races_a_change_of_its_app_is_ended() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let to = |on| UpdateAppRequest { app_id: world.app_id(), app_sign_login: Some(on), ..UpdateAppRequest::default() };
    for round in 0..40 {
        let mut raw = world.raw_after_hello(round).await;
        raw.send_request(&world.login_request("ann")).await;
        let (answer, _) = tokio::join!(raw.read(), set(&mut operator, to(false)));
        // A session that ends at once may end before its client is answered.
        let is_refused = matches!(answer, Some(Frame::Response(Response { outcome: Some(Outcome::Error(_)), .. })));
        if !is_refused {
            assert_eq!(end_of(&mut raw).await, SessionEndReason::EndedByOperator, "round {round}");
        }
        raw.end().await;
        set(&mut operator, to(true)).await;
    }
    drop(operator);
    world.end().await;
}

/// A device whose secret is rotated learns that it needs new credentials, however many other logins fail.
#[tokio::test]
async fn login_with_a_rotated_secret_ends_reconnects_even_beyond_the_allowance() {
    let world = World::with(|settings| settings.limits.failed_logins_per_minute_per_address = 1).await;
    let mut operator = world.admin().await;
    let devices = [world.user("ann").await, world.user("bob").await, world.user("cat").await];
    rotate(&mut operator, world.app_id(), SecretKind::ServerSecret, 60).await;
    world.clock.advance(60_000);
    for device in &devices {
        disconnected(device).await;
        let error = soon(device.login("ann", world.with_token("ann"))).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::NetworkModuleTokenInvalid);
    }
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn login_with_the_app_sign_limits_registrations_per_address() {
    let world = World::with(|settings| {
        settings.limits.first_logins_per_second_per_address = 1;
        settings.limits.first_login_burst_per_address = 3;
    })
    .await;
    for user in ["a", "b", "c"] {
        assert!(try_login(&world, &world.login_request(user)).await.is_ok(), "{user}");
    }
    assert_eq!(try_login(&world, &world.login_request("d")).await.unwrap_err(), TOO_FAST);
    // Registered users are not counted, nor are users with a token, whom the back end registers.
    assert!(try_login(&world, &world.login_request("a")).await.is_ok());
    assert!(try_login(&world, &by_token(&world, "e", world.token("e"))).await.is_ok());
    world.clock.advance(1_000);
    assert!(try_login(&world, &world.login_request("d")).await.is_ok());
    assert_eq!(try_login(&world, &world.login_request("f")).await.unwrap_err(), TOO_FAST);
    world.end().await;
}

#[tokio::test]
async fn login_that_is_retried_waits_while_there_are_too_many_new_users() {
    let world = World::with(|settings| {
        settings.limits.first_logins_per_second_per_address = 1;
        settings.limits.first_login_burst_per_address = 1;
    })
    .await;
    let sign = world.server().first_app().app_sign.clone();
    // All log in to one node, which counts.
    let proxy = world.proxy(1).await;
    let [once, again] = [false, true].map(|retries| {
        world.client_via(&proxy, DataDir::default(), |config| config.app_sign(sign.as_str()).retry_login(retries))
    });
    assert!(try_login(&world, &world.login_request("ann")).await.is_ok());
    assert_eq!(refusal(soon(once.login("bob", LoginConfig::default())).await) as i32, TOO_FAST);
    let login = again.login("carl", LoginConfig::default());
    let start = format!("zim_requests_total{{method=\"Session/Login\",code=\"{TOO_FAST}\"}} ");
    eventually("both are refused", async || {
        let metrics = world.metrics().await;
        let count = metrics.lines().find_map(|line| line.strip_prefix(start.as_str())?.parse::<u64>().ok());
        count.filter(|count| *count >= 2)
    })
    .await;
    world.clock.advance(1_000);
    soon(login).await.unwrap();
    reaches(&again, ConnectionState::Connected, ConnectionEvent::Success).await;
    assert_eq!(states(&again).len(), 2, "it was connecting all the time");
    world.end().await;
}

/// A regression test: one character of the app sign was once accepted.
#[tokio::test]
async fn login_with_a_part_of_the_app_sign_is_refused() {
    let world = World::new().await;
    let sign = world.server().first_app().app_sign.clone();
    let mut raw = world.raw_after_hello(1).await;
    for part in [&sign[..1], &sign[..32], &sign[..63], &sign[1..], &format!("{sign}0")] {
        let request = LoginRequest { app_sign: part.to_owned(), ..world.login_request("ann") };
        assert_eq!(raw.call(&request).await.unwrap_err().code, INVALID, "{} characters", part.len());
    }
    raw.call(&world.login_request("ann")).await.unwrap();
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn login_failures_are_logged_once_a_minute_with_count_and_addresses() {
    let world = World::new().await;
    let mut raw = world.raw_after_hello(1).await;
    let wrong = LoginRequest { app_sign: "0".repeat(64), ..world.login_request("ann") };
    for _ in 0..5 {
        raw.call(&wrong).await.unwrap_err();
    }
    let lines = world.warnings();
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(line.contains("count=1") && line.contains("127.0.0.1") && line.contains("app sign"), "{line}");
    raw.end().await;
    // The others are logged together after the minute.
    let line =
        world.advance_until("the line of the other failures", async || world.warnings().into_iter().next()).await;
    assert!(line.contains("count=4") && line.contains("127.0.0.1"), "{line}");
    world.end().await;
}
