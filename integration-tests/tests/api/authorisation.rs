//! Authorisation of every method in the method table. A new method is covered by itself.

use serde_json::json;
use zim_integration_tests::{World, code, refusal, soon};
use zim_protocol::{Access, DisconnectUserRequest, ErrorCode, METHODS, SERVER_METHODS, SessionEndReason, event_frame};

const NOT_LOGGED_IN: i32 = ErrorCode::NetworkModuleUserIsNotLogged as i32;

#[tokio::test]
async fn only_login_is_open_without_a_login() {
    let open: Vec<&str> =
        METHODS.iter().filter(|method| method.access == Access::Anyone).map(|method| method.path).collect();
    assert_eq!(open, ["Session/Login"]);
}

#[tokio::test]
async fn every_method_is_refused_before_a_login() {
    let world = World::new().await;
    let mut raw = world.raw_after_hello(1).await;
    for method in METHODS.iter().filter(|method| method.access == Access::User) {
        // Whether or not the request is valid: the answer reveals nothing.
        for payload in [Vec::new(), vec![0xff; 8]] {
            assert_eq!(code(&raw.call_bytes(method.path, payload).await), NOT_LOGGED_IN, "{}", method.path);
        }
    }
    // A failed login opens nothing.
    let mut request = world.login_request("ann");
    request.app_sign = "0".repeat(64);
    raw.call(&request).await.unwrap_err();
    for method in METHODS.iter().filter(|method| method.access == Access::User) {
        assert_eq!(code(&raw.call_bytes(method.path, Vec::new()).await), NOT_LOGGED_IN, "{}", method.path);
    }
    raw.end().await;
    world.end().await;
}

/// The operator's methods run through the same checks as those of clients. No client can name them.
#[tokio::test]
async fn no_client_can_call_a_method_of_the_server() {
    let world = World::new().await;
    let mut raw = world.raw_after_hello(1).await;
    assert!(SERVER_METHODS.iter().any(|method| method.path == "Admin/BanUser"));
    for has_login in [false, true] {
        if has_login {
            raw.call(&world.login_request("ann")).await.unwrap();
        }
        for method in SERVER_METHODS {
            assert_eq!(method.access, Access::Server, "{}", method.path);
            let refused = code(&raw.call_bytes(method.path, Vec::new()).await);
            assert_eq!(refused, ErrorCode::CommonModuleUnsupportedRequest as i32, "{}", method.path);
        }
    }
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn the_sdk_refuses_every_method_before_a_login_without_a_request() {
    let world = World::new().await;
    let client = world.client();
    for method in METHODS.iter().filter(|method| method.access == Access::User) {
        let refused = soon(client.call_json(method.path, json!({}))).await;
        assert_eq!(refusal(refused), ErrorCode::NetworkModuleUserIsNotLogged, "{}", method.path);
    }
    let ann = world.login(client, "ann").await;
    soon(ann.logout()).await;
    for method in METHODS.iter().filter(|method| method.access == Access::User) {
        let refused = soon(ann.call_json(method.path, json!({}))).await;
        assert_eq!(refusal(refused), ErrorCode::NetworkModuleUserIsNotLogged, "{}", method.path);
    }
    world.end().await;
}

#[tokio::test]
async fn a_disconnected_user_cannot_resume_the_old_session() {
    let world = World::new().await;
    let mut raw = world.raw_after_hello(1).await;
    let login = raw.call(&world.login_request("ann")).await.unwrap();
    let mut admin = world.admin().await;
    let out = DisconnectUserRequest { app_id: world.app_id(), user_id: "ann".into() };
    assert_eq!(admin.disconnect_user(out).await.unwrap().into_inner().sessions, 1);
    match raw.event().await {
        Some(event_frame::Frame::End(end)) => assert_eq!(end.reason(), SessionEndReason::EndedByOperator),
        other => panic!("{other:?}"),
    }
    let mut again = world.raw_after_hello(1).await;
    let resume = zim_protocol::LoginRequest { resume: login.session, ..world.login_request("ann") };
    let refused = again.call(&resume).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NetworkModuleUserHasAlreadyLoggedOut as i32, "{refused}");
    // A login with credentials succeeds.
    again.call(&world.login_request("ann")).await.unwrap();
    drop(admin);
    raw.end().await;
    again.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_session_can_be_resumed_only_by_its_user() {
    let world = World::new().await;
    let mut raw = world.raw_after_hello(1).await;
    let login = raw.call(&world.login_request("ann")).await.unwrap();
    // A ticket of another user is ignored: bob gets a new session, and ann keeps hers.
    let mut bob = world.raw_after_hello(2).await;
    let stolen = zim_protocol::LoginRequest { resume: login.session.clone(), ..world.login_request("bob") };
    let own = bob.call(&stolen).await.unwrap();
    assert_ne!(own.session, login.session);
    assert_eq!(own.user.unwrap().base_info.unwrap().user_id, "bob");
    raw.call(&zim_integration_tests::send_text("bob", "I am still here", 1)).await.unwrap();
    // A ticket without credentials is refused.
    let mut nobody = world.raw_after_hello(3).await;
    let mut bare = zim_protocol::LoginRequest { resume: login.session, ..world.login_request("ann") };
    bare.app_sign.clear();
    assert_eq!(nobody.call(&bare).await.unwrap_err().code, ErrorCode::NetworkModuleTokenInvalid as i32);
    for raw in [raw, bob, nobody] {
        raw.end().await;
    }
    world.end().await;
}

#[tokio::test]
async fn the_server_checks_the_limits_of_every_method() {
    let world = World::new().await;
    let mut raw = world.raw_user("ann", 1).await;
    for method in METHODS.iter().filter(|method| method.path != "Session/Logout") {
        let refused = raw.call_bytes(method.path, vec![0xff; 16]).await;
        assert_eq!(code(&refused), ErrorCode::CommonModuleParamsInvalid as i32, "{}: {refused:?}", method.path);
    }
    raw.end().await;
    world.end().await;
}
