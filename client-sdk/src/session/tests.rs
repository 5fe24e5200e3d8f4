//! Logins to a server that never answers. Logins to a real server are in the integration tests.

use crate::store::Length;
use std::net::UdpSocket;
use std::path::Path;

use zim_protocol::token::Token;
use zim_protocol::{
    ConnectionEvent, ConnectionState, ConversationFilterOption, ConversationQueryConfig, ErrorCode, Event, LoginConfig,
};

use crate::config::{Config, Trust};
use crate::events::EventStream;
use crate::zim::Zim;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NOW_S: i64 = 1_800_000_000;

/// A server that never answers.
struct Silent(UdpSocket);

impl Silent {
    fn new() -> Self {
        Self(UdpSocket::bind("127.0.0.1:0").unwrap())
    }

    fn config(&self) -> Config {
        Config::new(1, self.0.local_addr().unwrap().to_string())
            .trust(Trust::Fingerprint([0; 32]))
            .clock(zim_protocol::clock::Clock::manual(NOW_S * 1_000))
    }

    fn client(&self) -> Zim {
        Zim::new(self.config().app_sign("sign").connect_timeout_ms(60_000)).unwrap()
    }
}

fn config() -> LoginConfig {
    LoginConfig::default()
}

async fn state(events: &mut EventStream) -> (ConnectionState, ConnectionEvent) {
    match events.next().await {
        Some(Ok(Event::ConnectionStateChanged(changed))) => (changed.state(), changed.event()),
        other => panic!("{other:?}"),
    }
}

const CONNECTING: (ConnectionState, ConnectionEvent) = (ConnectionState::Connecting, ConnectionEvent::ActiveLogin);

#[tokio::test]
async fn a_login_that_times_out_can_be_retried() {
    let server = Silent::new();
    let zim = Zim::new(server.config().app_sign("sign").connect_timeout_ms(50)).unwrap();
    let mut events = zim.events();
    for _ in 0..2 {
        let refused = zim.login("ann", config()).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::NetworkModuleRequestTimeout, "{refused}");
        assert_eq!(state(&mut events).await, CONNECTING);
        assert_eq!(state(&mut events).await, (ConnectionState::Disconnected, ConnectionEvent::LoginTimeout));
        assert_eq!(zim.connection_state(), ConnectionState::Disconnected);
        assert_eq!(zim.user_id(), None);
    }
}

#[tokio::test]
async fn a_first_login_is_retried_without_a_limit_if_the_app_asks_for_it() {
    let server = Silent::new();
    let config = server.config().app_sign("sign").connect_timeout_ms(10).retry_login(true);
    let zim = Zim::new(config).unwrap();
    let login = Box::pin(zim.login("ann", LoginConfig::default())).await_once().await;
    // Each attempt begins with a packet of its own connection.
    let mut seen = std::collections::HashSet::new();
    server.0.set_nonblocking(true).unwrap();
    let attempts = async {
        while seen.len() < 3 {
            let mut packet = [0; 2_048];
            match server.0.recv(&mut packet) {
                // The id of the connection follows the flags, the version and the length of the id.
                Ok(_) => drop(seen.insert(packet[6..14].to_vec())),
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), attempts).await.unwrap();
    let login = login.await_once().await;
    zim.logout().await;
    assert_eq!(login.await.unwrap_err().code(), ErrorCode::NetworkModuleUserIsNotLogged);
}

#[tokio::test]
async fn during_a_login_the_same_user_can_wait_for_it_and_another_user_is_refused() {
    let server = Silent::new();
    let zim = server.client();
    let mut events = zim.events();
    let one = Box::pin(zim.login("ann", config())).await_once().await;
    let two = Box::pin(zim.login("ann", config())).await_once().await;
    assert_eq!(state(&mut events).await, CONNECTING);
    let refused = zim.login("bob", config()).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NetworkModuleUserHasAlreadyLogged);
    // Not logged in yet: requests fail.
    let refused = zim.query_users_info(["bob"], Default::default()).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NetworkModuleUserIsNotLogged);
    zim.logout().await;
    assert_eq!(state(&mut events).await, (ConnectionState::Disconnected, ConnectionEvent::Success));
    for login in [one, two] {
        let ended = login.await.unwrap_err();
        assert_eq!(ended.code(), ErrorCode::NetworkModuleUserIsNotLogged, "{ended}");
    }
}

#[tokio::test]
async fn a_login_continues_without_its_future_until_a_logout() {
    let server = Silent::new();
    let zim = server.client();
    {
        let mut login = Box::pin(zim.login("ann", config()));
        assert!(futures_util::poll!(&mut login).is_pending());
    }
    assert_eq!(zim.connection_state(), ConnectionState::Connecting);
    zim.logout().await;
    assert_eq!(zim.connection_state(), ConnectionState::Disconnected);
    // A logout without a login.
    zim.logout().await;
}

#[tokio::test]
async fn dropping_the_last_handle_ends_all_tasks() {
    let server = Silent::new();
    let zim = server.client();
    let mut events = zim.events();
    let tasks = zim.client().tasks.clone();
    drop(Box::pin(zim.login("ann", config())).await_once().await);
    assert!(!tasks.is_empty());
    drop(zim);
    tasks.wait().await;
    assert_eq!(state(&mut events).await, CONNECTING);
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_destroyed_client_does_nothing() {
    let server = Silent::new();
    let zim = server.client();
    drop(Box::pin(zim.login("ann", config())).await_once().await);
    zim.destroy();
    zim.destroy();
    zim.closed().await;
    let refused = zim.login("ann", config()).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::CommonModuleNotInit);
    let refused = zim.renew_token("04").await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::CommonModuleNotInit);
    zim.logout().await;
    assert_eq!(zim.events().next().await, None);
}

#[tokio::test]
async fn the_connection_state_is_disconnected_after_the_end() {
    let server = Silent::new();
    let zim = server.client();
    let login = Box::pin(zim.login("ann", config())).await_once().await;
    assert_eq!(zim.connection_state(), ConnectionState::Connecting);
    zim.destroy();
    assert_eq!(zim.connection_state(), ConnectionState::Disconnected);
    zim.closed().await;
    assert!(login.await.is_err());
    assert_eq!(zim.connection_state(), ConnectionState::Disconnected);
}

#[tokio::test]
async fn an_invalid_token_is_refused_without_a_request() {
    let server = Silent::new();
    let zim = Zim::new(server.config()).unwrap();
    let mut events = zim.events();
    let token = |now_s| Token::generate(1, "ann", SECRET, now_s, 100).unwrap();
    for (token, code) in [
        (String::new(), ErrorCode::NetworkModuleTokenInvalid),
        ("04".repeat(20), ErrorCode::NetworkModuleTokenInvalid),
        (token(NOW_S).replacen("04", "05", 1), ErrorCode::NetworkModuleTokenVersionError),
    ] {
        let refused = zim.login("ann", LoginConfig { token, ..config() }).await.unwrap_err();
        assert_eq!(refused.code(), code);
    }
    let refused = zim.login("an n", LoginConfig { token: token(NOW_S), ..config() }).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::CommonModuleParamsInvalid);
    zim.destroy();
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn an_offline_login_is_for_the_last_user_of_the_device() {
    let (server, folder) = (Silent::new(), tempfile::tempdir().unwrap());
    let with = |folder: &Path| Zim::new(server.config().data_dir(folder)).unwrap();
    let token = |user| Token::generate(1, user, SECRET, NOW_S, 100).unwrap();
    let offline = |user| LoginConfig { is_offline_login: true, token: token(user), ..config() };
    let zim = with(folder.path());
    let mut events = zim.events();
    let refused = zim.login("ann", offline("ann")).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NetworkModuleUserIdError);
    crate::last_user::set(&zim.client().config, "ann");
    let refused = zim.login("bob", offline("bob")).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NetworkModuleUserIdError);

    zim.login("ann", offline("ann")).await.unwrap();
    assert_eq!(zim.user_id().as_deref(), Some("ann"));
    assert_eq!(zim.connection_state(), ConnectionState::Connecting);
    assert_eq!(state(&mut events).await, CONNECTING);
    let query = ConversationQueryConfig { count: 10, ..Default::default() };
    let list = zim.query_conversation_list(query, ConversationFilterOption::default()).await.unwrap();
    assert!(list.conversation_list.is_empty());

    // A new token waits for the next connection. Bad ones are refused, and the old one stays.
    let later = |seconds| Token::generate(1, "ann", SECRET, NOW_S, seconds).unwrap();
    let token = || zim.client().login.lock().as_ref().unwrap().token();
    assert_eq!(zim.renew_token(&later(200)).await.unwrap().token, token());
    zim.login("ann", LoginConfig { token: later(150), ..config() }).await.unwrap();
    let expected = token();
    for bad in ["garbage", "04"] {
        let login = zim.login("ann", LoginConfig { token: bad.to_owned(), ..config() }).await;
        assert_eq!(login.unwrap_err().code(), ErrorCode::NetworkModuleTokenInvalid);
        assert_eq!(zim.renew_token(bad).await.unwrap_err().code(), ErrorCode::NetworkModuleTokenInvalid);
    }
    assert_eq!(token(), expected);
    zim.login("ann", config()).await.unwrap();
    assert_eq!(token(), expected, "a login without a token keeps it");

    // The token expires without a network as well.
    zim.client().config.clock.advance(150_000);
    while !matches!(events.next().await, Some(Ok(Event::TokenWillExpire(_)))) {}
    assert_eq!(state(&mut events).await, (ConnectionState::Disconnected, ConnectionEvent::TokenExpired));
    // The next login waits until the database of this one is closed.
    let refused = zim.login("ann", offline("ann")).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NetworkModuleTokenExpired);
}

#[tokio::test]
async fn a_panic_in_the_thread_of_the_database_ends_the_login() {
    let (server, folder) = (Silent::new(), tempfile::tempdir().unwrap());
    let zim = Zim::new(server.config().app_sign("sign").data_dir(folder.path())).unwrap();
    crate::last_user::set(&zim.client().config, "ann");
    let offline = || LoginConfig { is_offline_login: true, ..config() };
    for _ in 0..2 {
        zim.login("ann", offline()).await.unwrap();
        let mut events = zim.events();
        let write = zim
            .account()
            .unwrap()
            .store()
            .write(Length::Short, |_| -> rusqlite::Result<()> { panic!("a bug of the SDK") })
            .await;
        assert_eq!(write.unwrap_err().code(), ErrorCode::DatabaseModuleDbIsNotOpened);
        let Some(Ok(Event::Error(error))) = events.next().await else { panic!("no error") };
        assert_eq!(error.code, ErrorCode::DatabaseModuleDbIsNotOpened as i32);
        let Some(Ok(Event::ConnectionStateChanged(changed))) = events.next().await else { panic!("no state") };
        assert_eq!(changed.state(), ConnectionState::Disconnected);
        assert_eq!(changed.event(), ConnectionEvent::LoginInterrupted);
        assert_eq!(changed.extended_data, r#"{"reason":"panicked"}"#);
        // The next login opens the database again.
        assert_eq!(zim.user_id(), None);
    }
}

#[tokio::test]
async fn invalid_settings_are_refused() {
    let code = |config| Zim::new(config).unwrap_err().code();
    let trust = Trust::Fingerprint([0; 32]);
    assert_eq!(code(Config::new(0, "host:1").trust(trust.clone())), ErrorCode::CommonModuleInvalidAppId);
    assert_eq!(code(Config::new(1, "host").trust(trust)), ErrorCode::CommonModuleParamsInvalid);
    let missing = Trust::CaFile("no/such/file.pem".into());
    assert!(Zim::new(Config::new(1, "host:1").trust(missing)).is_err());
}

#[test]
fn a_client_needs_a_runtime() {
    let config = Config::new(1, "host:1").trust(Trust::Fingerprint([0; 32]));
    assert_eq!(Zim::new(config).unwrap_err().code(), ErrorCode::CommonModuleNotInit);
}

/// Polls a future once, which must be pending, and returns it.
trait AwaitOnce: Future + Unpin + Sized {
    async fn await_once(mut self) -> Self {
        assert!(futures_util::poll!(&mut self).is_pending());
        self
    }
}

impl<F: Future + Unpin> AwaitOnce for F {}
