//! Login, logout and the client's life cycle.

use zim_client_sdk::{Config as ClientConfig, LogConfig, LogLevel, Trust, Zim};
use zim_integration_tests::{DataDir, Device, World, code_of, eventually, hello, refusal, soon, texts};
use zim_protocol::{
    ConnectionEvent, ConnectionState, ErrorCode, Event, EventKind, LoginConfig, LogoutConfig, MessageQueryMode,
    PlatformType, SessionEndReason, UserInfo, event_frame,
};
use zim_server::config::MultiDevice;

/// The connection states that a client went through, with their events.
pub(crate) fn states(device: &Device) -> Vec<(ConnectionState, ConnectionEvent)> {
    let of = |event: Event| match event {
        Event::ConnectionStateChanged(event) => (event.state(), event.event()),
        other => panic!("{other:?}"),
    };
    device.seen_of(EventKind::ConnectionStateChanged).into_iter().map(of).collect()
}

async fn quit(zim: &Zim) {
    zim.destroy();
    soon(zim.closed()).await;
}

pub(crate) async fn reaches(device: &Device, state: ConnectionState, event: ConnectionEvent) {
    device
        .until(&format!("{state:?} by {event:?}"), |seen| {
            let is_it = |seen: &Event| {
                matches!(seen, Event::ConnectionStateChanged(changed) if changed.state() == state && changed.event() == event)
            };
            seen.iter().any(is_it).then_some(())
        })
        .await;
}

#[tokio::test]
async fn create_makes_one_instance_until_destroy() {
    let world = World::new().await;
    assert!(Zim::get_instance().is_none());
    let zim = Zim::create(world.client_config()).expect("the first instance");
    assert!(Zim::create(world.client_config()).is_none(), "a second instance");
    assert!(Zim::get_instance().is_some());
    soon(zim.login("ann", world.with_token("ann"))).await.unwrap();
    quit(&zim).await;
    assert!(Zim::get_instance().is_none());
    let again = Zim::create(world.client_config()).expect("another instance");
    quit(&again).await;
    world.end().await;
}

#[tokio::test]
async fn get_instance_is_the_one_that_was_created() {
    let world = World::new().await;
    let zim = Zim::create(world.client_config()).unwrap();
    let same = Zim::get_instance().unwrap();
    soon(same.login("ann", world.with_token("ann"))).await.unwrap();
    assert_eq!(zim.user_id().as_deref(), Some("ann"));
    quit(&zim).await;
    world.end().await;
}

#[tokio::test]
async fn destroy_refuses_later_calls_and_ends_events() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    ann.quit().await;
    assert_eq!(
        refusal(soon(ann.send("bob", zim_protocol::Message::text("too late"))).await),
        ErrorCode::CommonModuleNotInit
    );
    assert_eq!(refusal(soon(ann.login("ann", world.with_token("ann"))).await), ErrorCode::CommonModuleNotInit);
    bob.say("ann", "for later").await;
    let mut events = ann.events();
    assert!(soon(events.next()).await.is_none(), "an event of a destroyed client");
    world.end().await;
}

#[tokio::test]
async fn get_version_is_the_version_of_the_sdk() {
    assert_eq!(Zim::get_version(), env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn login_with_a_token_goes_through_connecting_to_connected() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    assert_eq!(
        states(&ann),
        [
            (ConnectionState::Connecting, ConnectionEvent::ActiveLogin),
            (ConnectionState::Connected, ConnectionEvent::Success)
        ]
    );
    assert_eq!(ann.user_id().as_deref(), Some("ann"));
    assert_eq!(ann.connection_state(), ConnectionState::Connected);
    world.end().await;
}

#[tokio::test]
async fn login_with_user_info_is_the_older_form_and_sets_the_name() {
    let world = World::new().await;
    let ann = world.client();
    let info = UserInfo { user_id: "ann".into(), user_name: "Ann".into(), ..UserInfo::default() };
    #[expect(deprecated, reason = "tests the older form")]
    soon(ann.login_with_user_info(info, &world.token("ann"))).await.unwrap();
    let bob = world.user("bob").await;
    let found = soon(bob.query_users_info(["ann"], Default::default())).await.unwrap();
    assert_eq!(found.user_list[0].base_info.as_ref().unwrap().user_name, "Ann");
    world.end().await;
}

#[tokio::test]
async fn login_with_an_app_sign_needs_no_token() {
    let world = World::new().await;
    let app_sign = world.server().first_app().app_sign.clone();
    let ann = world.client_with(|config| config.app_sign(&app_sign));
    soon(ann.login("ann", LoginConfig::default())).await.unwrap();
    let bob = world.user("bob").await;
    bob.say("ann", "hi").await;
    ann.receives("hi").await;
    world.end().await;
}

#[tokio::test]
async fn login_with_a_wrong_app_sign_and_a_valid_token_succeeds() {
    let world = World::new().await;
    let ann = world.client_with(|config| config.app_sign("0".repeat(64)));
    soon(ann.login("ann", world.with_token("ann"))).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn login_without_a_name_keeps_the_previous_one() {
    let world = World::new().await;
    let ann = world.client();
    let config = LoginConfig { user_name: "Ann".into(), ..world.with_token("ann") };
    soon(ann.login("ann", config)).await.unwrap();
    soon(ann.logout()).await;
    let again = world.user("ann").await;
    let found = soon(again.query_users_info(["ann"], Default::default())).await.unwrap();
    assert_eq!(found.user_list[0].base_info.as_ref().unwrap().user_name, "Ann");
    world.end().await;
}

#[tokio::test]
async fn login_to_an_unknown_app_is_refused() {
    let world = World::new().await;
    let ann = Zim::new(
        ClientConfig::new(world.app_id() ^ 1, world.address().to_string())
            .trust(Trust::Fingerprint(world.server().fingerprint().0))
            .clock(world.clock.clone())
            .app_sign(&world.server().first_app().app_sign),
    )
    .unwrap();
    // As with a wrong sign: the answer does not reveal which apps exist.
    assert_eq!(refusal(soon(ann.login("ann", LoginConfig::default())).await), ErrorCode::NetworkModuleTokenInvalid);
    quit(&ann).await;
    let mut raw = world.raw_after_hello(1).await;
    let mut request = world.login_request("ann");
    request.app_id = 0;
    assert_eq!(raw.call(&request).await.unwrap_err().code, ErrorCode::CommonModuleInvalidAppId as i32);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn login_with_a_wrong_app_sign_is_refused_with_the_event_interrupted() {
    let world = World::new().await;
    let ann = world.client_with(|config| config.app_sign("0".repeat(64)));
    assert_eq!(refusal(soon(ann.login("ann", LoginConfig::default())).await), ErrorCode::NetworkModuleTokenInvalid);
    reaches(&ann, ConnectionState::Disconnected, ConnectionEvent::LoginInterrupted).await;
    world.end().await;
}

#[tokio::test]
async fn login_under_an_id_with_a_forbidden_character_is_refused() {
    let world = World::new().await;
    let longest = "a".repeat(33);
    for id in
        ["", "with space", "a,b", "a'b", "a\"b", "a*b", "a/b", "a\\b", "a`b", "änn", "a\0b", "a\nb", longest.as_str()]
    {
        let ann = world.client();
        let refused = soon(ann.login(id, world.with_token("ann"))).await;
        assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid, "{id:?}");
        let mut raw = world.raw_after_hello(1).await;
        let refused = raw.call(&world.login_request(id)).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::CommonModuleParamsInvalid as i32, "{id:?}");
        raw.end().await;
    }
    world.end().await;
}

#[tokio::test]
async fn login_under_an_id_of_every_allowed_character_works() {
    let world = World::new().await;
    for id in ["!#$%&()+-:;<=.>?@[]^_{}|~", "0123456789", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", &"z".repeat(32)] {
        let user = world.user(id).await;
        assert_eq!(user.user_id().as_deref(), Some(id));
    }
    world.end().await;
}

#[tokio::test]
async fn login_again_is_refused_while_a_user_is_logged_in() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let refused = soon(ann.login("bob", world.with_token("bob"))).await;
    assert_eq!(refusal(refused), ErrorCode::NetworkModuleUserHasAlreadyLogged);
    // The same user may log in again.
    soon(ann.login("ann", world.with_token("ann"))).await.unwrap();
    assert_eq!(ann.user_id().as_deref(), Some("ann"));
    // The server refuses it too.
    let mut raw = world.raw_user("bob", 1).await;
    let refused = raw.call(&world.login_request("bob")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NetworkModuleUserHasAlreadyLogged as i32);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn login_to_a_server_with_another_certificate_is_refused() {
    let world = World::new().await;
    let ann = world.client_with(|config| config.trust(Trust::Fingerprint([7; 32])).connect_timeout_ms(600_000));
    // It is not tried again until the time is over.
    let refused = soon(ann.login("ann", world.with_token("ann"))).await.unwrap_err();
    assert_eq!(code_of(&refused), ErrorCode::NetworkModuleNetworkError);
    assert_eq!(refused.detail("reason"), Some("certificateOtherFingerprint"), "{refused}");
    assert_ne!(ann.connection_state(), ConnectionState::Connected);
    world.end().await;
}

#[tokio::test]
async fn login_after_being_kicked_out_goes_on_with_messages_that_were_not_sent() {
    let slow = |config: &mut zim_server::config::Config| {
        config.login.multi_device = MultiDevice::Single;
        (config.limits.messages_per_second, config.limits.message_burst) = (1, 1);
    };
    let world = World::with(slow).await;
    let (first, bob) = (world.user("ann").await, world.user("bob").await);
    let sending: Vec<_> = ["1", "2", "3"].map(|text| first.send("bob", zim_protocol::Message::text(text))).into();
    bob.receives("1").await;
    let second = world.device("ann").await;
    reaches(&first, ConnectionState::Disconnected, ConnectionEvent::KickedOut).await;
    for refused in sending.into_iter().skip(1) {
        assert_eq!(refusal(soon(refused).await), ErrorCode::NetworkModuleUserIsNotLogged);
    }
    soon(first.login("ann", world.with_token("ann"))).await.unwrap();
    reaches(&second, ConnectionState::Disconnected, ConnectionEvent::KickedOut).await;
    world
        .advance_until("all messages", async || (texts(&bob.history("ann").await) == ["1", "2", "3"]).then_some(()))
        .await;
    world.end().await;
}

#[tokio::test]
async fn login_of_a_second_device_ends_the_first_where_one_is_allowed() {
    let world = World::with(|config| config.login.multi_device = MultiDevice::Single).await;
    // In this order, so that on two nodes the logins are at different ones.
    let (bob, first) = (world.user("bob").await, world.user("ann").await);
    let second = world.device("ann").await;
    reaches(&first, ConnectionState::Disconnected, ConnectionEvent::KickedOut).await;
    assert_eq!(first.connection_state(), ConnectionState::Disconnected);
    assert_eq!(
        refusal(soon(first.send("bob", zim_protocol::Message::text("no"))).await),
        ErrorCode::NetworkModuleUserIsNotLogged
    );
    // It does not reconnect by itself, however long it waits.
    world.clock.advance(600_000);
    second.say("bob", "I am the one").await;
    bob.receives("I am the one").await;
    assert_eq!(states(&first).last(), Some(&(ConnectionState::Disconnected, ConnectionEvent::KickedOut)));
    assert_eq!(second.connection_state(), ConnectionState::Connected);
    world.end().await;
}

#[tokio::test]
async fn login_of_a_browser_leaves_the_native_device_where_both_are_allowed() {
    let world = World::with(|config| config.login.multi_device = MultiDevice::Dual).await;
    let native = world.login(world.client_with(|config| config.platform(PlatformType::Linux)), "ann").await;
    let browser = world.login(world.client_with(|config| config.platform(PlatformType::Web)), "ann").await;
    let other = world.login(world.client_with(|config| config.platform(PlatformType::IPhoneOs)), "ann").await;
    reaches(&native, ConnectionState::Disconnected, ConnectionEvent::KickedOut).await;
    world.user("bob").await.say("ann", "still there?").await;
    browser.receives("still there?").await;
    other.receives("still there?").await;
    assert_eq!(browser.connection_state(), ConnectionState::Connected);
    world.end().await;
}

#[tokio::test]
async fn login_beyond_the_cap_ends_the_earliest() {
    let world = World::with(|config| config.login.max_native = 2).await;
    let mut devices = Vec::new();
    for _ in 0..3 {
        devices.push(world.device("ann").await);
        world.clock.advance(1_000);
    }
    reaches(&devices[0], ConnectionState::Disconnected, ConnectionEvent::KickedOut).await;
    world.user("bob").await.say("ann", "who is there?").await;
    devices[1].receives("who is there?").await;
    devices[2].receives("who is there?").await;
    world.end().await;
}

#[tokio::test]
async fn login_of_the_same_device_replaces_its_old_login() {
    let world = World::with(|config| config.login.max_native = 2).await;
    let (other, dir) = (world.device("ann").await, DataDir::default());
    for _ in 0..3 {
        let device = world.user_at(dir.clone(), "ann").await;
        device.quit().await;
        world.clock.advance(1_000);
    }
    world.user("bob").await.say("ann", "two devices").await;
    other.receives("two devices").await;
    world.end().await;
}

#[tokio::test]
async fn login_of_a_one_shot_client_ends_no_other_login() {
    let world = World::with(|config| config.login.multi_device = MultiDevice::Single).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let shot = world.client_with(|config| config.one_shot(true));
    soon(shot.login("ann", world.with_token("ann"))).await.unwrap();
    shot.say("bob", "in passing").await;
    bob.receives("in passing").await;
    soon(shot.logout()).await;
    bob.say("ann", "still here?").await;
    ann.receives("still here?").await;
    assert_eq!(ann.connection_state(), ConnectionState::Connected);
    world.end().await;
}

#[tokio::test]
async fn login_offline_shows_local_data_and_connects_later() {
    let mut world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    ann.say("bob", "before").await;
    bob.receives("before").await;
    let dir = ann.dir();
    ann.quit().await;
    soon(bob.logout()).await;
    let (token, config) = (world.with_token("ann"), world.client_config());
    world.stop_server().await;
    let ann = {
        let zim = Zim::new(config.data_dir(dir.path())).unwrap();
        soon(zim.login("ann", LoginConfig { is_offline_login: true, ..token.clone() })).await.unwrap();
        zim
    };
    assert_eq!(ann.connection_state(), ConnectionState::Connecting);
    let page = soon(ann.query_history_message(
        "bob",
        zim_protocol::ConversationType::Peer,
        zim_protocol::MessageQueryConfig { count: 10, reverse: true, ..Default::default() },
    ))
    .await
    .unwrap();
    assert_eq!(zim_integration_tests::texts(&page.message_list), ["before"]);
    world.start_server().await;
    world
        .advance_until("a connection", async || (ann.connection_state() == ConnectionState::Connected).then_some(()))
        .await;
    quit(&ann).await;
    world.end().await;
}

#[tokio::test]
async fn login_to_a_server_that_does_not_answer_times_out() {
    let world = World::new().await;
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let ann = world.client_with(|config| config.server(address).connect_timeout_ms(50));
    let refused = soon(ann.login("ann", world.with_token("ann"))).await;
    assert_eq!(refusal(refused), ErrorCode::NetworkModuleRequestTimeout);
    world.end().await;
}

#[tokio::test]
async fn login_offline_of_a_user_unknown_to_the_device_is_refused() {
    let world = World::new().await;
    let ann = world.client();
    let config = LoginConfig { is_offline_login: true, ..world.with_token("ann") };
    assert_eq!(refusal(soon(ann.login("ann", config)).await), ErrorCode::NetworkModuleUserIdError);
    world.end().await;
}

#[tokio::test]
async fn login_with_the_database_of_a_running_client_is_refused() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let second = world.client_at(ann.dir(), |config| config);
    let refused = soon(second.login("ann", world.with_token("ann"))).await;
    assert_eq!(refusal(refused), ErrorCode::DatabaseModuleOpenDatabaseError);
    // The running client is not affected.
    world.user("bob").await.say("ann", "are you there?").await;
    ann.receives("are you there?").await;
    world.end().await;
}

#[tokio::test]
async fn logout_raises_disconnected_and_ends_the_session() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    soon(ann.logout()).await;
    assert_eq!(states(&ann).last(), Some(&(ConnectionState::Disconnected, ConnectionEvent::Success)));
    assert_eq!(ann.connection_state(), ConnectionState::Disconnected);
    assert_eq!(
        refusal(soon(ann.send("bob", zim_protocol::Message::text("no"))).await),
        ErrorCode::NetworkModuleUserIsNotLogged
    );
    assert_eq!(ann.user_id(), None);
    eventually("the server forgets the session", async || (world.server().app().fanout.all().is_empty()).then_some(()))
        .await;
    world.end().await;
}

#[tokio::test]
async fn logout_with_config_deletes_the_local_data_if_asked() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    ann.say("bob", "before").await;
    let dir = ann.dir();
    let databases = || {
        let files = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        files
            .filter(|name| name.contains(".db") || name.contains("last-user"))
            .collect::<std::collections::BTreeSet<_>>()
    };
    soon(ann.logout_with_config(LogoutConfig { is_clear_db: false })).await;
    assert!(databases().iter().any(|name| name.ends_with(".db")), "{:?}", databases());
    let ann = world.login(ann, "ann").await;
    assert_eq!(zim_integration_tests::texts(&ann.history_by("bob", MessageQueryMode::OnlyLocal).await), ["before"]);
    soon(ann.logout_with_config(LogoutConfig { is_clear_db: true })).await;
    assert!(databases().is_empty(), "{:?}", databases());
    // There is nothing to show without a network.
    let offline = LoginConfig { is_offline_login: true, ..world.with_token("ann") };
    assert_eq!(refusal(soon(ann.login("ann", offline)).await), ErrorCode::NetworkModuleUserIdError);
    // The device starts anew, and the server still has everything.
    let ann = world.login(ann, "ann").await;
    assert_eq!(zim_integration_tests::texts(&ann.history("bob").await), ["before"]);
    bob.receives("before").await;
    world.end().await;
}

#[tokio::test]
async fn logout_allows_a_login_of_another_user() {
    let world = World::new().await;
    let device = world.user("ann").await;
    soon(device.logout()).await;
    let device = world.login(device, "bob").await;
    let carl = world.user("carl").await;
    carl.say("bob", "for bob").await;
    device.receives("for bob").await;
    assert_eq!(device.conversations().await.len(), 1);
    world.end().await;
}

#[tokio::test]
async fn logout_is_answered_and_then_the_session_stream_ends() {
    let world = World::new().await;
    let mut raw = world.raw_user("ann", 1).await;
    raw.call(&zim_protocol::LogoutRequest {}).await.unwrap();
    assert_eq!(raw.read().await, None);
    match raw.event().await {
        Some(event_frame::Frame::End(end)) => assert_eq!(end.reason(), SessionEndReason::LoggedOut),
        other => panic!("{other:?}"),
    }
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn on_receives_every_event_of_its_kind_until_off() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let received = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let sink = std::sync::Arc::clone(&received);
    bob.on(EventKind::PeerMessageReceived, move |_, event| sink.lock().push(event.clone()));
    ann.say("bob", "one").await;
    eventually("the handler", async || (received.lock().len() == 1).then_some(())).await;
    assert_eq!(received.lock()[0].kind(), EventKind::PeerMessageReceived);
    bob.off(EventKind::PeerMessageReceived);
    ann.say("bob", "two").await;
    bob.receives("two").await;
    ann.say("bob", "three").await;
    bob.receives("three").await;
    assert_eq!(received.lock().len(), 1);
    world.end().await;
}

#[tokio::test]
async fn off_removes_only_the_given_kind() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let received = std::sync::Arc::new(parking_lot::Mutex::new(0));
    let sink = std::sync::Arc::clone(&received);
    bob.on(EventKind::PeerMessageReceived, move |_, _| *sink.lock() += 1);
    bob.off(EventKind::ConversationChanged);
    ann.say("bob", "one").await;
    eventually("the handler", async || (*received.lock() == 1).then_some(())).await;
    world.end().await;
}

#[tokio::test]
async fn set_log_config_writes_log_files() {
    let dir = tempfile::tempdir().unwrap();
    // Without `World`, which installs its own subscriber. No server listens at this address.
    let zim = Zim::new(ClientConfig::new(1, "127.0.0.1:9").app_sign("x").connect_timeout_ms(50)).unwrap();
    zim.set_log_config(&LogConfig { log_level: LogLevel::Debug, log_path: Some(dir.path().to_owned()) });
    refusal(soon(zim.login("ann", LoginConfig::default())).await);
    quit(&zim).await;
    assert!(std::fs::read_to_string(dir.path().join("zim.log")).is_ok_and(|log| !log.is_empty()));
}

#[tokio::test]
async fn login_with_a_hello_of_no_known_version_closes_the_connection() {
    let world = World::new().await;
    let mut raw = world.raw().await;
    raw.write([zim_protocol::client_frame::Frame::Hello(zim_protocol::Hello { versions: vec![77], ..hello(1) })]).await;
    assert_eq!(raw.closed().await, zim_protocol::wire::CloseCode::Version);
    raw.end().await;
    world.end().await;
}
