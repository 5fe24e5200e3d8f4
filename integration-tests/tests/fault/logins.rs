//! Conflicting logins: two on one connection, and one that was replaced and does not read its end.

use zim_integration_tests::{World, code, hello, request, send_text, soon};
use zim_protocol::{ErrorCode, Hello, LoginConfig, LoginRequest, SessionEndReason, SyncRequest, event_frame};
use zim_server::config::MultiDevice;

#[tokio::test]
async fn a_second_login_on_a_connection_ends_no_other_login() {
    let world = World::with(|config| config.login.multi_device = MultiDevice::Single).await;
    let mut bob = world.raw_user("bob", 2).await;
    let mut raw = world.raw_after_hello(1).await;
    raw.write([request(1, &world.login_request("ann")), request(2, &world.login_request("bob"))]).await;
    let answers = raw.responses(2).await;
    assert_eq!(answers.iter().map(code).collect::<Vec<_>>(), [0, ErrorCode::NetworkModuleUserHasAlreadyLogged as i32]);
    bob.call(&SyncRequest::default()).await.unwrap();
    assert_eq!(world.server().app().fanout.len(), 2);
    raw.end().await;
    bob.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_session_that_was_replaced_is_refused_even_if_its_client_does_not_read() {
    let world = World::with(|config| config.login.multi_device = MultiDevice::Single).await;
    let ann = world.user("ann").await;
    let narrow = |quic: &mut quinn::TransportConfig| {
        quic.stream_receive_window((64u32 << 10).into());
    };
    let mut replaced = world.raw_with(narrow).await;
    replaced.handshake(hello(1)).await;
    replaced.call(&world.login_request("bob")).await.unwrap();
    // More than the event stream takes, so that the end of the session waits behind it.
    let text = "x".repeat(2_000);
    let calls: Vec<_> = (0..200).map(|_| ann.send("bob", zim_protocol::Message::text(&*text))).collect();
    for call in calls {
        soon(call).await.unwrap();
    }
    assert_eq!(code(&replaced.call_bytes("Sync/Sync", Vec::new()).await), 0);
    let mut newer = world.raw_user("bob", 2).await;
    let late = replaced.call(&send_text("ann", "I am still here", 1)).await.unwrap_err();
    assert_eq!(late.code, ErrorCode::NetworkModuleUserIsNotLogged as i32);
    assert_eq!(world.server().app().fanout.len(), 2, "ann, and one session of bob");
    newer.call(&send_text("ann", "so am I", 2)).await.unwrap();
    replaced.end().await;
    newer.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_session_ends_with_its_token_although_its_client_does_nothing() {
    let world = World::new().await;
    let config = LoginConfig { token: world.token_for("ann", 60), ..LoginConfig::default() };
    let login = LoginRequest { app_sign: String::new(), config: Some(config), ..world.login_request("ann") };
    let mut raw = world.raw_after_hello(1).await;
    raw.call(&login).await.unwrap();
    world.clock.advance(59_000);
    raw.call(&SyncRequest::default()).await.unwrap();
    world.clock.advance(1_000);
    let reason = loop {
        if let event_frame::Frame::End(end) = raw.event().await.expect("the end of the session") {
            break end.reason();
        }
    };
    assert_eq!(reason, SessionEndReason::TokenExpired);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_platform_of_a_later_version_logs_in() {
    let world = World::new().await;
    for (device, platform) in [(1, i32::MAX), (2, i32::MIN), (3, 70_000)] {
        let mut raw = world.raw().await;
        raw.handshake(Hello { platform, ..hello(device) }).await;
        raw.call(&world.login_request("ann")).await.unwrap();
        raw.end().await;
    }
    world.end().await;
}
