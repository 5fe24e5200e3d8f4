//! The server's process is killed. After the restart exactly the acknowledged messages are stored.

use zim_client_sdk::Config as ClientConfig;
use zim_integration_tests::{
    DataDir, Device, ServerInstallation, ServerProcess, TestDatabase, eventually, soon, texts,
};
use zim_protocol::{
    CallInvitationQueryConfig, CallInviteConfig, CallState, CallUserState, EventKind, LoginConfig, Message,
    UserOnlineStatus,
};

pub(super) async fn user(installation: &ServerInstallation, server: &ServerProcess, name: &str) -> Device {
    let app = installation.first_app().unwrap();
    let config = ClientConfig::new(app.app_id, server.address().to_string()).trust(app.trust()).app_sign(app.app_sign);
    let device = Device::with_config(config, DataDir::default());
    soon(device.login(name, LoginConfig::default())).await.unwrap();
    device.caught_up(0).await;
    device
}

#[tokio::test]
async fn acknowledged_messages_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let database = TestDatabase::fresh(dir.path());
    let mut installation =
        ServerInstallation::new(env!("CARGO_BIN_EXE_test-server"), dir.path().join("data"), database.url());
    let mut server = installation.start().await.unwrap();
    let (ann, bob) = (user(&installation, &server, "ann").await, user(&installation, &server, "bob").await);
    let mut expected = Vec::new();
    for round in 0..3 {
        let texts: Vec<String> = (0..100).map(|number| format!("{round}.{number}")).collect();
        let calls: Vec<_> = texts.iter().map(|text| ann.send("bob", Message::text(text.as_str()))).collect();
        // In the middle: some messages are acknowledged, some only stored, some not yet sent.
        bob.receives(&format!("{round}.{}", 20 * round)).await;
        server.kill();
        server = installation.start().await.unwrap();
        for call in calls {
            // The SDK sends unacknowledged messages again.
            soon(call).await.unwrap();
        }
        bob.receives(&format!("{round}.99")).await;
        expected.extend(texts);
    }
    assert_eq!(texts(bob.received_from("ann").iter().map(|(message, _)| message)), expected);
    let fresh = user(&installation, &server, "bob").await;
    eventually("all messages", async || (fresh.history("ann").await.len() >= expected.len()).then_some(())).await;
    assert_eq!(texts(&fresh.history("ann").await), expected);
    assert_eq!(texts(&ann.history("bob").await), expected);
    for device in [ann, bob, fresh] {
        device.quit().await;
    }
    server.kill();
}

/// The server cannot record users who leave while it is down.
#[tokio::test]
async fn a_user_who_left_while_the_server_was_down_goes_offline() {
    let dir = tempfile::tempdir().unwrap();
    let database = TestDatabase::fresh(dir.path());
    let mut installation =
        ServerInstallation::new(env!("CARGO_BIN_EXE_test-server"), dir.path().join("data"), database.url());
    let mut server = installation.start().await.unwrap();
    let (ann, bob) = (user(&installation, &server, "ann").await, user(&installation, &server, "bob").await);
    let online = async |user: &str| {
        let found = ann.query_users_status([user]).await.ok()?;
        found.user_status_list.first().map(zim_protocol::UserStatus::online_status)
    };
    assert_eq!(soon(online("bob")).await, Some(UserOnlineStatus::Online));
    server.kill();
    bob.quit().await;
    server = installation.start().await.unwrap();
    eventually("bob is offline", async || (online("bob").await == Some(UserOnlineStatus::Offline)).then_some(())).await;
    eventually("ann is online", async || (online("ann").await == Some(UserOnlineStatus::Online)).then_some(())).await;
    ann.quit().await;
    server.kill();
}

/// The time of an invitation is over while the server is down: it takes effect once, for everybody.
#[tokio::test]
async fn a_call_times_out_once_although_the_server_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let database = TestDatabase::fresh(dir.path());
    let mut installation =
        ServerInstallation::new(env!("CARGO_BIN_EXE_test-server"), dir.path().join("data"), database.url());
    let mut server = installation.start().await.unwrap();
    let (ann, bob) = (user(&installation, &server, "ann").await, user(&installation, &server, "bob").await);
    let eve = user(&installation, &server, "eve").await;
    let config = CallInviteConfig { timeout: Some(1), ..CallInviteConfig::default() };
    let call_id = soon(ann.call_invite(["bob", "eve"], config)).await.unwrap().call_id;
    // With an answer the call is not taken back because its caller lost the connection.
    soon(eve.call_accept(&call_id, Default::default())).await.unwrap();
    bob.next(EventKind::CallInvitationReceived).await;
    server.kill();
    server = installation.start().await.unwrap();
    bob.next(EventKind::CallInvitationTimeout).await;
    let list = async |device: &Device| {
        let config = CallInvitationQueryConfig { count: 1, next_flag: 0 };
        let found = device.query_call_invitation_list(config).await.ok()?.call_list.pop()?;
        let states: Vec<_> = found.call_user_list.iter().map(|user| (user.user_id.clone(), user.state())).collect();
        (found.state() == CallState::Ended).then_some(states)
    };
    let expected =
        [("ann", CallUserState::Accepted), ("bob", CallUserState::Timeout), ("eve", CallUserState::Accepted)];
    let expected = expected.map(|(user, state)| (user.to_owned(), state));
    for device in [&ann, &bob, &eve] {
        assert_eq!(eventually("the end of the call", async || list(device).await).await, expected);
    }
    assert_eq!(bob.seen_of(EventKind::CallInvitationTimeout).len(), 1);
    for device in [ann, bob, eve] {
        device.quit().await;
    }
    server.kill();
}
