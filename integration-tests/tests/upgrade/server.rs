//! Upgrades of the server's data folder and database.

use serde_json::{Value, json};
use zim_integration_tests::{
    DataDir, World, assert_same, eventually, hello, soon, to_json, view, without_device_state,
};
use zim_protocol::token::Token;
use zim_protocol::{
    CbcTokens, ErrorCode, FriendApplicationState, ListAppsRequest, LoginConfig, LoginRequest, UpdateAppRequest,
    UserStatus, UsersInfoQueryConfig,
};

use crate::FIXTURE;

#[tokio::test]
async fn every_user_sees_the_same_as_before() {
    let world = World::of_fixture(FIXTURE).await;
    let users = world.fixture().users("first").clone();
    // One-shot clients, so that no user appears online.
    let watcher = world.login(world.client_with(|config| config.one_shot(true)), "gil").await;
    for (user, expected) in &users {
        let device = world.login(world.client_with(|config| config.one_shot(true)), user).await;
        assert_same(user, &view(&device).await, expected);
        soon(device.logout()).await;
    }
    let statuses = soon(watcher.query_users_status(users.keys().cloned())).await.unwrap();
    assert_same("statuses", &to_json(&statuses.user_status_list), &world.fixture().manifest()["statuses"]);
    let fresh = UsersInfoQueryConfig { is_query_from_server: true };
    let profiles = soon(watcher.query_users_info(users.keys().cloned(), fresh)).await.unwrap();
    assert_same("profiles", &to_json(&profiles.user_list), &world.fixture().manifest()["profiles"]);
    world.end().await;
}

#[tokio::test]
async fn a_new_device_receives_everything() {
    let world = World::of_fixture(FIXTURE).await;
    for (user, expected) in world.fixture().users("first") {
        // One after the other, so that the users they subscribe to are offline.
        let device = world.user(user).await;
        let mut seen = without_device_state(view(&device).await);
        let mut expected = without_device_state(expected.clone());
        for view in [&mut seen, &mut expected] {
            without_presence(&mut view["subscriptions"]);
        }
        assert_same(user, &seen, &expected);
        soon(device.logout()).await;
    }
    world.end().await;
}

/// Removes the online state from subscriptions.
fn without_presence(subscriptions: &mut Value) {
    for subscription in subscriptions.as_array_mut().into_iter().flatten() {
        let status = subscription["userStatus"].as_object_mut().unwrap();
        status.retain(|name, _| ["userID", "customStatus", "customStatusExpiredTime"].contains(&name.as_str()));
    }
}

#[tokio::test]
async fn the_second_app_keeps_its_users() {
    let world = World::of_fixture(FIXTURE).await;
    let app = world.fixture().app("second");
    for (user, expected) in world.fixture().users("second") {
        let device = world.client_of(&app, DataDir::default(), |config| config.one_shot(true));
        soon(device.login(user, app.with_token(user, &world.clock))).await.unwrap();
        device.caught_up(0).await;
        assert_same(user, &view(&device).await, expected);
    }
    world.end().await;
}

#[tokio::test]
async fn the_server_keeps_its_identity() {
    let world = World::of_fixture(FIXTURE).await;
    let manifest = world.fixture().manifest();
    assert_eq!(json!(world.server().fingerprint().to_string()), manifest["fingerprint"]);
    let (first, second) = (world.fixture().app("first"), world.fixture().app("second"));
    let now = world.server().first_app();
    assert_eq!((now.app_id, &now.app_sign, &now.server_secret), (first.app_id, &first.app_sign, &first.server_secret));
    // The operator's key is unchanged.
    let apps = soon(world.admin().await.list_apps(ListAppsRequest {})).await.unwrap().into_inner().apps;
    let mut apps: Vec<_> = apps.into_iter().map(|app| (app.name, app.app_id)).collect();
    apps.sort();
    assert_eq!(apps, [("first".to_owned(), first.app_id), ("second".to_owned(), second.app_id)]);
    // Logins by app sign and by token still work.
    soon(world.raw_user("ann", 9).await.end()).await;
    drop(world.user("ann").await);
    world.end().await;
}

#[tokio::test]
async fn a_login_is_resumed_unless_it_was_replaced() {
    let world = World::of_fixture(FIXTURE).await;
    let sessions = &world.fixture().manifest()["sessions"];
    let user = sessions["user"].as_str().unwrap();
    let resume = |session: &Value| {
        let ticket: [u8; 16] = zim_protocol::id::from_hex(session["ticket"].as_str().unwrap()).unwrap();
        let device = u8::try_from(session["device"].as_u64().unwrap()).unwrap();
        (device, LoginRequest { resume: ticket.to_vec().into(), ..world.login_request(user) })
    };
    for session in sessions["good"].as_array().unwrap() {
        let (device, request) = resume(session);
        let mut raw = world.raw().await;
        raw.handshake(hello(device)).await;
        let result = raw.call(&request).await.unwrap();
        assert_eq!(result.session, request.resume, "a new login was created");
        raw.end().await;
    }
    let (device, request) = resume(&sessions["pushedOut"]);
    let mut raw = world.raw().await;
    raw.handshake(hello(device)).await;
    let error = raw.call(&request).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NetworkModuleUserHasAlreadyLoggedOut as i32);
    assert_eq!(error.details.get("reason").map(String::as_str), Some("kickedOut"));
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn users_can_go_on_chatting() {
    let world = World::of_fixture(FIXTURE).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let last = ann.conversation("bob").await.last_message.unwrap();
    let sent = ann.say("bob", "after the upgrade").await;
    assert_eq!(sent.message_seq, last.message_seq + 1);
    assert_eq!(bob.receives("after the upgrade").await.message_id, sent.message_id);
    let before = ann.conversation("bob").await.unread_message_count;
    bob.say("ann", "and back").await;
    ann.receives("and back").await;
    ann.has_unread("bob", before + 1).await;
    ann.read("bob").await;
    assert_eq!(ann.conversation("bob").await.unread_message_count, 0);
    // The block still applies.
    assert_eq!(
        zim_integration_tests::refusal(soon(ann.send("cat", zim_protocol::Message::text("hello?"))).await),
        ErrorCode::MessageModuleSenderInBlacklist
    );
    world.end().await;
}

#[tokio::test]
async fn statuses_subscriptions_and_applications_expire_in_time() {
    let world = World::of_fixture(FIXTURE).await;
    // By the app sign, which does not expire as tokens do.
    let sign = world.fixture().app("first").app_sign;
    let watcher = async |user| {
        let client = world.client_with(|config| config.one_shot(true).app_sign(sign.clone()));
        world.login(client, user).await
    };
    let (gil, ann) = (watcher("gil").await, watcher("ann").await);
    let custom = async || -> Vec<String> {
        let found = soon(gil.query_users_status(["bob", "cat"])).await.unwrap().user_status_list;
        found.into_iter().map(|status: UserStatus| status.custom_status).collect()
    };
    let expected = |index: usize| world.fixture().manifest()["statuses"][index]["customStatusExpiredTime"].as_i64();
    let (bobs_end, cats_end) = (expected(1).unwrap(), expected(2));
    assert_eq!((custom().await, cats_end), (vec!["out to lunch".to_owned(), "always".to_owned()], None));
    world.clock.advance(bobs_end - world.clock.now_ms());
    eventually("bob's status expires", async || (custom().await == ["", "always"]).then_some(())).await;
    // An application expires seven days after it was sent.
    let state_of_cats = async || {
        let seen = view(&ann).await;
        let list = seen["applications"].as_array().unwrap().clone();
        let of_cat = list.into_iter().find(|info| info["applyUser"]["userID"] == "cat").unwrap();
        (of_cat["state"].clone(), of_cat["createTime"].as_i64().unwrap())
    };
    let (state, sent_at) = state_of_cats().await;
    assert_eq!(state, json!(FriendApplicationState::Waiting as i32));
    world.clock.advance(sent_at + 7 * 86_400_000 + 1_000 - world.clock.now_ms());
    assert_eq!(state_of_cats().await.0, json!(FriendApplicationState::Expired as i32));
    world.end().await;
}

/// The build that wrote the fixture accepted tokens of the AES-CBC form, with which a user could forge tokens of
/// others.
#[tokio::test]
async fn cbc_tokens_are_off_after_the_upgrade_until_the_operator_turns_them_on() {
    let world = World::of_fixture(FIXTURE).await;
    let app = world.fixture().app("first");
    let now_s = world.clock.now_s();
    let token = Token::generate_cbc(app.app_id, "ann", &app.server_secret, now_s, 3_600).unwrap();
    let request = LoginRequest {
        user_id: "ann".into(),
        app_id: app.app_id,
        config: Some(LoginConfig { token, ..LoginConfig::default() }),
        ..LoginRequest::default()
    };
    let mut raw = world.raw_after_hello(9).await;
    let refused = raw.call(&request).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NetworkModuleTokenInvalid as i32);
    assert!(refused.message.contains("--cbc-tokens on"), "{refused}");
    let mut operator = world.admin().await;
    let on =
        UpdateAppRequest { app_id: app.app_id, cbc_tokens: Some(CbcTokens::On as i32), ..UpdateAppRequest::default() };
    soon(operator.update_app(on)).await.unwrap();
    raw.call(&request).await.unwrap();
    drop(operator);
    raw.end().await;
    world.end().await;
}
