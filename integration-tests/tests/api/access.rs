//! Access control: rotated secrets, settings of apps, bans, and revoked tokens.

use tonic::Code;
use zim_integration_tests::{Device, OperatorClient, RawClient, World, eventually, soon};
use zim_protocol::token::Token;
use zim_protocol::{
    App, BanUserRequest, CbcTokens, ConnectionEvent, ConnectionState, ConnectionStateChangedEvent, ErrorCode, Event,
    GetUserRequest, ListBannedUsersRequest, LoginConfig, LoginRequest, MintTokenRequest, QuerySelfUserInfoRequest,
    RegisterUserRequest, Registration, RenewTokenRequest, RevokeTokensRequest, RotateSecretRequest, SecretKind,
    SessionEndReason, UnbanUserRequest, UpdateAppRequest, event_frame,
};

pub(crate) const DAY_S: i64 = 86_400;
const INVALID: i32 = ErrorCode::NetworkModuleTokenInvalid as i32;
const EXPIRED: i32 = ErrorCode::NetworkModuleTokenExpired as i32;

/// A login with a token and no app sign.
pub(crate) fn by_token(world: &World, user_id: &str, token: String) -> LoginRequest {
    let config = LoginConfig { token, ..LoginConfig::default() };
    LoginRequest { app_sign: String::new(), config: Some(config), ..world.login_request(user_id) }
}

/// A token of the first app, made with the given secret.
pub(crate) fn token_of(world: &World, user_id: &str, secret: &str) -> String {
    Token::generate(world.app_id(), user_id, secret, world.clock.now_s(), DAY_S).unwrap()
}

/// Logs in on a new connection; `Err` is the code.
pub(crate) async fn try_login(world: &World, request: &LoginRequest) -> Result<RawClient, i32> {
    let mut raw = world.raw_after_hello(9).await;
    match raw.call(request).await {
        Ok(_) => Ok(raw),
        Err(error) => {
            raw.end().await;
            Err(error.code)
        }
    }
}

/// Waits until the session on this connection ends; returns the reason.
pub(crate) async fn end_of(raw: &mut RawClient) -> SessionEndReason {
    loop {
        match raw.event().await {
            Some(event_frame::Frame::End(end)) => return end.reason(),
            Some(_) => {}
            None => panic!("the connection ended without an end of the session"),
        }
    }
}

pub(crate) async fn rotate(
    operator: &mut OperatorClient,
    app_id: u32,
    secret: SecretKind,
    overlap_seconds: i64,
) -> String {
    let request = RotateSecretRequest { app_id, secret: secret as i32, overlap_seconds };
    soon(operator.rotate_secret(request)).await.unwrap().into_inner().secret
}

pub(crate) async fn set(operator: &mut OperatorClient, change: UpdateAppRequest) -> App {
    soon(operator.update_app(change)).await.unwrap().into_inner()
}

/// Whether the session answers a call.
async fn is_alive(raw: &mut RawClient) -> bool {
    raw.call(&QuerySelfUserInfoRequest {}).await.is_ok()
}

#[tokio::test]
async fn rotate_secret_of_the_app_sign_ends_sessions_of_the_old_one_at_once() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let mut by_sign = world.raw_user("ann", 1).await;
    let mut with_token = try_login(&world, &by_token(&world, "bob", world.token("bob"))).await.unwrap();
    let new = rotate(&mut operator, world.app_id(), SecretKind::AppSign, 0).await;
    assert_eq!(new.len(), 64);
    assert_eq!(end_of(&mut by_sign).await, SessionEndReason::EndedByOperator);
    assert_eq!(try_login(&world, &world.login_request("ann")).await.unwrap_err(), INVALID);
    let with_new = LoginRequest { app_sign: new, ..world.login_request("ann") };
    let mut ann = try_login(&world, &with_new).await.unwrap();
    assert!(is_alive(&mut ann).await && is_alive(&mut with_token).await);
    for raw in [by_sign, with_token, ann] {
        raw.end().await;
    }
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn rotate_secret_with_an_overlap_accepts_both_until_it_ends() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let old_secret = world.server().first_app().server_secret.clone();
    let old_token = world.token("ann");
    let mut before = try_login(&world, &by_token(&world, "ann", old_token.clone())).await.unwrap();
    let mut signed = world.raw_user("cat", 3).await;
    let new = rotate(&mut operator, world.app_id(), SecretKind::ServerSecret, 3_600).await;
    let new_sign = rotate(&mut operator, world.app_id(), SecretKind::AppSign, 3_600).await;
    // Both secrets and both signs are valid.
    let mut meanwhile =
        try_login(&world, &by_token(&world, "bob", token_of(&world, "bob", &old_secret))).await.unwrap();
    let mut with_new = try_login(&world, &by_token(&world, "dora", token_of(&world, "dora", &new))).await.unwrap();
    let sign = LoginRequest { app_sign: new_sign, ..world.login_request("eve") };
    let mut signed_anew = try_login(&world, &sign).await.unwrap();
    assert!(try_login(&world, &world.login_request("fay")).await.is_ok());
    world.clock.advance(3_599_000);
    assert!(is_alive(&mut before).await && is_alive(&mut signed).await);
    // One session moves to the new secret in time.
    let renewal = RenewTokenRequest { token: token_of(&world, "bob", &new) };
    meanwhile.call(&renewal).await.unwrap();
    world.clock.advance(1_000);
    assert_eq!(end_of(&mut before).await, SessionEndReason::TokenExpired);
    assert_eq!(end_of(&mut signed).await, SessionEndReason::TokenExpired);
    assert!(is_alive(&mut meanwhile).await && is_alive(&mut with_new).await && is_alive(&mut signed_anew).await);
    assert_eq!(try_login(&world, &by_token(&world, "ann", old_token)).await.unwrap_err(), INVALID);
    assert_eq!(try_login(&world, &world.login_request("cat")).await.unwrap_err(), INVALID);
    for raw in [before, signed, meanwhile, with_new, signed_anew] {
        raw.end().await;
    }
    drop(operator);
    world.end().await;
}

/// Also if the server does not run when the overlap ends, and for secrets of one app with different ends.
#[tokio::test]
async fn rotate_secret_deletes_the_old_secret_when_its_overlap_ends() {
    let mut world = World::new().await;
    let mut operator = world.admin().await;
    let app_id = world.app_id();
    let old_token = world.token("ann");
    rotate(&mut operator, app_id, SecretKind::AppSign, 7_200).await;
    rotate(&mut operator, app_id, SecretKind::ServerSecret, 3_600).await;
    drop(operator);
    let kept = async |world: &World| {
        let found = world.server().app().db.read(async |tx| {
            let row = tx.fetch_one("SELECT old_app_sign <> '', old_server_secret <> '' FROM app", &[]).await?.unwrap();
            Ok((row.get::<bool>(0)?, row.get::<bool>(1)?))
        });
        found.await.unwrap()
    };
    assert_eq!(kept(&world).await, (true, true));
    world.clock.advance(3_600_000);
    eventually("one is deleted", async || (kept(&world).await == (true, false)).then_some(())).await;
    let is_kept = |server: &zim_server::Server| {
        server.app().tenants.get(app_id).is_some_and(|app| !app.access().server_secret.old.is_empty())
    };
    eventually("all nodes forget it", async || (!world.servers().any(is_kept)).then_some(())).await;
    // Setting the clock back does not bring it back.
    world.clock.jump(-3_600_000);
    assert_eq!(try_login(&world, &by_token(&world, "ann", old_token)).await.unwrap_err(), INVALID);
    world.clock.jump(3_600_000);
    world.stop_server().await;
    world.clock.advance(3_600_000);
    world.start_server().await;
    eventually("both are deleted", async || (kept(&world).await == (false, false)).then_some(())).await;
    world.end().await;
}

#[tokio::test]
async fn rotate_secret_survives_a_restart_and_a_second_rotation_ends_older_sessions() {
    let mut world = World::new().await;
    let mut operator = world.admin().await;
    let (app_id, first) = (world.app_id(), world.server().first_app().server_secret.clone());
    let second = rotate(&mut operator, app_id, SecretKind::ServerSecret, 3_600).await;
    // The operator's file of the first app is rewritten with the new secret.
    let file = world.data_dir().join("first-app.toml");
    let is_written = async || std::fs::read_to_string(&file).unwrap().contains(&second).then_some(());
    eventually("the file has the new secret", is_written).await;
    assert!(!std::fs::read_to_string(&file).unwrap().contains(&first));
    drop(operator);
    world.stop_server().await;
    world.start_server().await;
    assert_eq!(world.server().first_app().server_secret, second);
    assert!(try_login(&world, &by_token(&world, "ann", token_of(&world, "ann", &first))).await.is_ok());
    let mut of_first = try_login(&world, &by_token(&world, "ann", token_of(&world, "ann", &first))).await.unwrap();
    let mut of_second = try_login(&world, &by_token(&world, "bob", token_of(&world, "bob", &second))).await.unwrap();
    let mut operator = world.admin().await;
    rotate(&mut operator, app_id, SecretKind::ServerSecret, 3_600).await;
    assert_eq!(end_of(&mut of_first).await, SessionEndReason::EndedByOperator);
    assert!(is_alive(&mut of_second).await);
    for (secret, overlap_seconds) in [(0, 0), (3, 0), (1, -1), (1, 30 * DAY_S + 1)] {
        let request = RotateSecretRequest { app_id, secret, overlap_seconds };
        let refused = soon(operator.rotate_secret(request)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{secret} {overlap_seconds}");
    }
    let longest = RotateSecretRequest { app_id, secret: 1, overlap_seconds: 30 * DAY_S };
    soon(operator.rotate_secret(longest)).await.unwrap();
    let nowhere = RotateSecretRequest { app_id: app_id ^ 1, secret: 1, overlap_seconds: 0 };
    assert_eq!(soon(operator.rotate_secret(nowhere)).await.unwrap_err().code(), Code::NotFound);
    for raw in [of_first, of_second] {
        raw.end().await;
    }
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn update_app_disables_logins_by_app_sign() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let mut by_sign = world.raw_user("ann", 1).await;
    let mut with_token = try_login(&world, &by_token(&world, "bob", world.token("bob"))).await.unwrap();
    let off = UpdateAppRequest { app_id: world.app_id(), app_sign_login: Some(false), ..UpdateAppRequest::default() };
    let app = set(&mut operator, off.clone()).await;
    assert!(!app.app_sign_login && app.app_sign.is_empty() && app.server_secret.is_empty());
    assert_eq!(end_of(&mut by_sign).await, SessionEndReason::EndedByOperator);
    let mut raw = world.raw_after_hello(2).await;
    let refused = raw.call(&world.login_request("ann")).await.unwrap_err();
    assert_eq!(refused.code, INVALID);
    assert!(refused.message.contains("turned off"), "{refused}");
    // Logins and renewals with a token still work.
    assert!(is_alive(&mut with_token).await);
    let on = UpdateAppRequest { app_sign_login: Some(true), ..off };
    set(&mut operator, on).await;
    raw.call(&world.login_request("ann")).await.unwrap();
    for raw in [by_sign, with_token, raw] {
        raw.end().await;
    }
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn update_app_enables_and_disables_cbc_tokens() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let secret = world.server().first_app().server_secret.clone();
    let token = Token::generate_cbc(world.app_id(), "ann", &secret, world.clock.now_s(), DAY_S).unwrap();
    let request = by_token(&world, "ann", token);
    let mut raw = world.raw_after_hello(1).await;
    let refused = raw.call(&request).await.unwrap_err();
    assert_eq!(refused.code, INVALID);
    let setting = |app_id: u32| format!("zim admin app set --app-id {app_id} --cbc-tokens on");
    assert!(refused.message.contains(&setting(world.app_id())), "{refused}");
    let lines = world.warnings();
    assert!(
        lines.iter().any(|line| line.contains(&setting(world.app_id()))),
        "the log does not name the setting: {lines:?}"
    );
    // The answer for an unknown app is the same.
    let elsewhere = LoginRequest { app_id: world.app_id() ^ 1, ..request.clone() };
    let unknown = raw.call(&elsewhere).await.unwrap_err();
    assert!(unknown.code == INVALID && unknown.message.contains(&setting(world.app_id() ^ 1)), "{unknown}");
    let to = |cbc: CbcTokens| UpdateAppRequest {
        app_id: world.app_id(),
        cbc_tokens: Some(cbc as i32),
        ..UpdateAppRequest::default()
    };
    assert_eq!(set(&mut operator, to(CbcTokens::On)).await.cbc_tokens(), CbcTokens::On);
    raw.call(&request).await.unwrap();
    assert!(is_alive(&mut raw).await);
    set(&mut operator, to(CbcTokens::Off)).await;
    assert_eq!(end_of(&mut raw).await, SessionEndReason::EndedByOperator);
    assert_eq!(try_login(&world, &request).await.unwrap_err(), INVALID);
    let unknown = UpdateAppRequest { cbc_tokens: Some(3), ..to(CbcTokens::Off) };
    assert_eq!(soon(operator.update_app(unknown)).await.unwrap_err().code(), Code::InvalidArgument);
    raw.end().await;
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn update_app_sets_who_may_register() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let known = world.raw_user("known", 1).await;
    let to = |registration: Registration| UpdateAppRequest {
        app_id: world.app_id(),
        registration: Some(registration as i32),
        ..UpdateAppRequest::default()
    };
    let not_there = ErrorCode::CommonModuleUserIsNotExist as i32;
    set(&mut operator, to(Registration::Token)).await;
    assert_eq!(try_login(&world, &world.login_request("ann")).await.unwrap_err(), not_there);
    assert!(try_login(&world, &by_token(&world, "ann", world.token("ann"))).await.is_ok());
    // Now ann is registered and can log in with the app sign.
    assert!(try_login(&world, &world.login_request("ann")).await.is_ok());
    set(&mut operator, to(Registration::Operator)).await;
    assert_eq!(try_login(&world, &by_token(&world, "bob", world.token("bob"))).await.unwrap_err(), not_there);
    assert!(try_login(&world, &world.login_request("known")).await.is_ok());
    let bob = RegisterUserRequest { app_id: world.app_id(), user_id: "bob".into(), user_name: "Bob".into() };
    assert!(soon(operator.register_user(bob.clone())).await.unwrap().into_inner().is_new);
    assert!(!soon(operator.register_user(bob.clone())).await.unwrap().into_inner().is_new);
    let mut raw = world.raw_after_hello(2).await;
    let login = raw.call(&by_token(&world, "bob", world.token("bob"))).await.unwrap();
    assert_eq!(login.user.unwrap().base_info.unwrap().user_name, "Bob");
    for wrong in ["", &"x".repeat(33), "with space"] {
        let request = RegisterUserRequest { user_id: wrong.into(), ..bob.clone() };
        assert_eq!(soon(operator.register_user(request)).await.unwrap_err().code(), Code::InvalidArgument, "{wrong:?}");
    }
    for raw in [known, raw] {
        raw.end().await;
    }
    drop(operator);
    world.end().await;
}

/// Waits until a device is disconnected for good.
pub(crate) async fn disconnected(device: &Device) -> ConnectionStateChangedEvent {
    device
        .until("disconnected", |seen| {
            seen.iter().find_map(|event| match event {
                Event::ConnectionStateChanged(changed) if changed.state() == ConnectionState::Disconnected => {
                    Some(changed.clone())
                }
                _ => None,
            })
        })
        .await
}

#[tokio::test]
async fn ban_user_ends_all_sessions_and_refuses_logins_until_it_is_lifted() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let (phone, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    let mut raw = world.raw_user("ann", 1).await;
    let login = raw.call(&world.login_request("ann")).await;
    assert!(login.is_err(), "one login a connection");
    let ban = BanUserRequest { app_id: world.app_id(), user_id: "ann".into(), seconds: 0 };
    let done = soon(operator.ban_user(ban.clone())).await.unwrap().into_inner();
    assert_eq!((done.sessions, done.ban_ends_at), (3, 0));
    for device in [&phone, &laptop] {
        let changed = disconnected(device).await;
        assert_eq!(changed.event(), ConnectionEvent::KickedOut);
        assert_eq!(changed.extended_data, r#"{"reason":"endedByOperator"}"#);
    }
    assert_eq!(end_of(&mut raw).await, SessionEndReason::EndedByOperator);
    // All credentials are refused: the token, the app sign, and a one-shot login.
    let mut again = world.raw_after_hello(2).await;
    for request in [
        world.login_request("ann"),
        by_token(&world, "ann", world.token("ann")),
        LoginRequest { one_shot: true, ..world.login_request("ann") },
    ] {
        let refused = again.call(&request).await.unwrap_err();
        assert_eq!((refused.code, refused.details.get("reason").map(String::as_str)), (INVALID, Some("banned")));
    }
    // Other users are unaffected and can write to her.
    bob.say("ann", "where are you?").await;
    let who = GetUserRequest { app_id: world.app_id(), user_id: "ann".into() };
    let known = soon(operator.get_user(who.clone())).await.unwrap().into_inner();
    assert_eq!((known.is_banned, known.banned_at, known.ban_ends_at), (true, world.clock.now_ms(), 0));
    let unban = UnbanUserRequest { app_id: world.app_id(), user_id: "ann".into() };
    assert!(soon(operator.unban_user(unban.clone())).await.unwrap().into_inner().was_banned);
    assert!(!soon(operator.unban_user(unban)).await.unwrap().into_inner().was_banned);
    let phone = world.login(phone, "ann").await;
    phone.receives("where are you?").await;
    again.call(&world.login_request("ann")).await.unwrap();
    let nobody = BanUserRequest { user_id: "nobody".into(), ..ban };
    assert_eq!(soon(operator.ban_user(nobody)).await.unwrap_err().code(), Code::NotFound);
    for raw in [raw, again] {
        raw.end().await;
    }
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn ban_user_for_a_time_ends_by_itself_and_survives_a_restart() {
    let mut world = World::new().await;
    let mut operator = world.admin().await;
    let app_id = world.app_id();
    world.register(["ann", "bob", "cat"]).await;
    let ban = |user: &str, seconds| BanUserRequest { app_id, user_id: user.into(), seconds };
    let ends_at = soon(operator.ban_user(ban("ann", 60))).await.unwrap().into_inner().ban_ends_at;
    assert_eq!(ends_at, world.clock.now_ms() + 60_000);
    soon(operator.ban_user(ban("cat", 0))).await.unwrap();
    let banned = async |operator: &mut OperatorClient, count, next_flag| {
        let request = ListBannedUsersRequest { app_id, next_flag, count };
        let page = soon(operator.list_banned_users(request)).await.unwrap().into_inner();
        (page.users.into_iter().map(|user| user.user_id).collect::<Vec<_>>(), page.next_flag)
    };
    assert_eq!(banned(&mut operator, 0, 0).await, (vec!["ann".to_owned(), "cat".to_owned()], 0));
    let (first, next) = banned(&mut operator, 1, 0).await;
    assert_eq!((first, banned(&mut operator, 1, next).await), (vec!["ann".to_owned()], (vec!["cat".to_owned()], 0)));
    drop(operator);
    world.stop_server().await;
    world.start_server().await;
    world.clock.advance(59_999);
    assert_eq!(try_login(&world, &world.login_request("ann")).await.unwrap_err(), INVALID);
    world.clock.advance(1);
    assert!(try_login(&world, &world.login_request("ann")).await.is_ok());
    assert_eq!(try_login(&world, &world.login_request("cat")).await.unwrap_err(), INVALID);
    let mut operator = world.admin().await;
    assert_eq!(banned(&mut operator, 0, 0).await.0, ["cat"]);
    for seconds in [-1, 3_155_760_001] {
        assert_eq!(soon(operator.ban_user(ban("bob", seconds))).await.unwrap_err().code(), Code::InvalidArgument);
    }
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn revoke_tokens_refuses_older_tokens_and_ends_their_sessions() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let stolen = world.token("ann");
    let mut thief = try_login(&world, &by_token(&world, "ann", stolen.clone())).await.unwrap();
    let mut one_shot =
        try_login(&world, &LoginRequest { one_shot: true, ..by_token(&world, "ann", stolen.clone()) }).await.unwrap();
    let mut bob = try_login(&world, &by_token(&world, "bob", world.token("bob"))).await.unwrap();
    world.clock.advance(1_000);
    let revoke = RevokeTokensRequest { app_id: world.app_id(), user_id: "ann".into(), made_until: 0 };
    let done = soon(operator.revoke_tokens(revoke.clone())).await.unwrap().into_inner();
    assert_eq!((done.sessions, done.tokens_revoked_at), (2, world.clock.now_s()));
    assert_eq!(end_of(&mut thief).await, SessionEndReason::EndedByOperator);
    assert_eq!(end_of(&mut one_shot).await, SessionEndReason::EndedByOperator);
    assert!(is_alive(&mut bob).await, "the token of another user is not revoked");
    let mut raw = world.raw_after_hello(2).await;
    let refused = raw.call(&by_token(&world, "ann", stolen.clone())).await.unwrap_err();
    assert_eq!((refused.code, refused.details.get("reason").map(String::as_str)), (EXPIRED, Some("revoked")));
    // A token that a back end makes in the same second is refused too; one of the operator is accepted.
    assert_eq!(try_login(&world, &by_token(&world, "ann", world.token("ann"))).await.unwrap_err(), EXPIRED);
    let mint = MintTokenRequest { app_id: world.app_id(), user_id: "ann".into(), effective_seconds: 600 };
    let minted = soon(operator.mint_token(mint)).await.unwrap().into_inner().token;
    raw.call(&by_token(&world, "ann", minted.clone())).await.unwrap();
    // A renewal checks the revocation like a login.
    assert_eq!(raw.call(&RenewTokenRequest { token: stolen }).await.unwrap_err().code, EXPIRED);
    assert!(is_alive(&mut raw).await);
    // An earlier time changes nothing and does not affect a later token.
    let earlier = RevokeTokensRequest { made_until: world.clock.now_s() - 100, ..revoke.clone() };
    let done = soon(operator.revoke_tokens(earlier)).await.unwrap().into_inner();
    assert_eq!((done.sessions, done.tokens_revoked_at), (0, world.clock.now_s()));
    assert!(is_alive(&mut raw).await);
    let future = RevokeTokensRequest { made_until: world.clock.now_s() + 1, ..revoke };
    assert_eq!(soon(operator.revoke_tokens(future)).await.unwrap_err().code(), Code::InvalidArgument);
    for raw in [thief, one_shot, bob, raw] {
        raw.end().await;
    }
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn revoke_tokens_keeps_a_session_that_moved_to_a_newer_token() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let mut raw = try_login(&world, &by_token(&world, "ann", world.token("ann"))).await.unwrap();
    let made_until = world.clock.now_s();
    world.clock.advance(5_000);
    raw.call(&RenewTokenRequest { token: world.token("ann") }).await.unwrap();
    let revoke = RevokeTokensRequest { app_id: world.app_id(), user_id: "ann".into(), made_until };
    assert_eq!(soon(operator.revoke_tokens(revoke)).await.unwrap().into_inner().sessions, 0);
    assert!(is_alive(&mut raw).await);
    raw.end().await;
    drop(operator);
    world.end().await;
}

/// A reconnect uses the same token, so it must check revocations that happened meanwhile.
#[tokio::test]
async fn revoke_tokens_applies_to_a_disconnected_device() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let token = world.token("ann");
    let mut raw = world.raw_after_hello(1).await;
    let login = raw.call(&by_token(&world, "ann", token.clone())).await.unwrap();
    raw.end().await;
    eventually("ann is disconnected", async || world.server().app().fanout.is_empty().then_some(())).await;
    let revoke = RevokeTokensRequest { app_id: world.app_id(), user_id: "ann".into(), made_until: 0 };
    soon(operator.revoke_tokens(revoke)).await.unwrap();
    let back = LoginRequest { resume: login.session.clone(), ..by_token(&world, "ann", token) };
    assert_eq!(try_login(&world, &back).await.unwrap_err(), EXPIRED);
    // The login of the token has ended, so the app sign cannot resume it, but it opens a new one.
    let resumed = LoginRequest { resume: login.session, ..world.login_request("ann") };
    let ended = ErrorCode::NetworkModuleUserHasAlreadyLoggedOut as i32;
    assert_eq!(try_login(&world, &resumed).await.unwrap_err(), ended);
    assert!(try_login(&world, &world.login_request("ann")).await.is_ok());
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn operator_calls_are_in_the_audit_log_without_secrets() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    world.raw_user("ann", 1).await.end().await;
    drop(world.audit());
    let ban = BanUserRequest { app_id: world.app_id(), user_id: "ann".into(), seconds: 60 };
    soon(operator.ban_user(ban)).await.unwrap();
    let secret = rotate(&mut operator, world.app_id(), SecretKind::ServerSecret, 60).await;
    let lines = world.audit();
    let [banned, rotated] = lines.as_slice() else { panic!("{lines:?}") };
    // A failed call is logged with its app and user too.
    let nobody = UnbanUserRequest { app_id: world.app_id() ^ 1, user_id: "nobody".into() };
    soon(operator.unban_user(nobody)).await.unwrap_err();
    let refused = world.audit().concat();
    assert!(refused.contains(&format!("app={}", world.app_id() ^ 1)) && refused.contains("nobody"), "{refused}");
    assert!(
        banned.contains(&format!("app={}", world.app_id())) && banned.contains("ann") && banned.contains("for 60 s")
    );
    assert!(rotated.contains("ServerSecret, overlap 60 s") && !rotated.contains(&secret), "{rotated}");
    drop(operator);
    world.end().await;
}
