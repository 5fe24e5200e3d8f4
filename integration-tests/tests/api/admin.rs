//! The operator's service, method by method.

use tonic::Code;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;
use zim_integration_tests::{World, eventually, soon};
use zim_protocol::{
    ConnectionEvent, ConnectionState, CreateAppRequest, DisconnectUserRequest, Event, ListAppsRequest,
    ListSessionsRequest, LoginConfig, MintTokenRequest,
};

#[tokio::test]
async fn create_app_returns_credentials_that_work() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let made =
        soon(operator.create_app(CreateAppRequest { app_id: 77, name: "Chess".into() })).await.unwrap().into_inner();
    assert_eq!((made.app_id, made.name.as_str(), made.server_secret.len()), (77, "Chess", 32));
    let mut raw = world.raw_after_hello(1).await;
    let login = zim_protocol::LoginRequest {
        user_id: "ann".into(),
        app_id: 77,
        app_sign: made.app_sign.clone(),
        ..Default::default()
    };
    raw.call(&login).await.unwrap();
    let twice = soon(operator.create_app(CreateAppRequest { app_id: 77, name: "Again".into() })).await.unwrap_err();
    assert!(matches!(twice.code(), Code::AlreadyExists | Code::InvalidArgument), "{twice}");
    let chosen =
        soon(operator.create_app(CreateAppRequest { app_id: 0, name: String::new() })).await.unwrap().into_inner();
    assert!(chosen.app_id != 0 && chosen.app_id != 77);
    raw.end().await;
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn list_apps_shows_no_secrets() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let apps = soon(operator.list_apps(ListAppsRequest {})).await.unwrap().into_inner().apps;
    assert_eq!(apps.len(), 1);
    assert_eq!((apps[0].app_id, apps[0].app_sign.as_str(), apps[0].server_secret.as_str()), (world.app_id(), "", ""));
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn mint_token_makes_a_token_that_logs_in() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let request = MintTokenRequest { app_id: world.app_id(), user_id: "ann".into(), effective_seconds: 60 };
    let minted = soon(operator.mint_token(request)).await.unwrap().into_inner();
    assert_eq!(minted.expires_at, world.clock.now_s() + 60);
    let ann = world.client();
    soon(ann.login("ann", LoginConfig { token: minted.token, ..LoginConfig::default() })).await.unwrap();
    for (app_id, user_id, effective_seconds, code) in [
        (world.app_id() ^ 1, "ann", 60, Code::NotFound),
        (world.app_id(), "", 60, Code::InvalidArgument),
        (world.app_id(), "ann", -1, Code::InvalidArgument),
        (world.app_id(), "ann", 25 * 24 * 3_600, Code::InvalidArgument),
    ] {
        let request = MintTokenRequest { app_id, user_id: user_id.into(), effective_seconds };
        assert_eq!(soon(operator.mint_token(request)).await.unwrap_err().code(), code, "{user_id} {effective_seconds}");
    }
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn list_sessions_shows_connected_users() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let all = ListSessionsRequest { app_id: world.app_id(), user_id: String::new() };
    assert!(soon(operator.list_sessions(all.clone())).await.unwrap().into_inner().sessions.is_empty());
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let sessions = soon(operator.list_sessions(all.clone())).await.unwrap().into_inner().sessions;
    assert_eq!(sessions.iter().map(|one| one.user_id.as_str()).collect::<Vec<_>>(), ["ann", "bob"]);
    assert_eq!(sessions[0].login_at_ms, world.clock.now_ms());
    assert!(sessions[0].address.starts_with("127.0.0.1:"));
    let of_bob = ListSessionsRequest { user_id: "bob".into(), ..all.clone() };
    assert_eq!(soon(operator.list_sessions(of_bob)).await.unwrap().into_inner().sessions.len(), 1);
    soon(ann.logout()).await;
    let sessions = soon(operator.list_sessions(all)).await.unwrap().into_inner().sessions;
    assert_eq!(sessions.iter().map(|one| one.user_id.as_str()).collect::<Vec<_>>(), ["bob"]);
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn disconnect_user_ends_all_sessions_and_allows_a_new_login() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let (phone, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    let out = DisconnectUserRequest { app_id: world.app_id(), user_id: "ann".into() };
    assert_eq!(soon(operator.disconnect_user(out.clone())).await.unwrap().into_inner().sessions, 2);
    for device in [&phone, &laptop] {
        device
            .until("kicked out", |seen| {
                let is_it = |event: &Event| {
                    matches!(event, Event::ConnectionStateChanged(changed)
                        if changed.state() == ConnectionState::Disconnected && changed.event() == ConnectionEvent::KickedOut)
                };
                seen.iter().any(is_it).then_some(())
            })
            .await;
    }
    bob.say("ann", "come back").await;
    let phone = world.login(phone, "ann").await;
    phone.receives("come back").await;
    let nobody = DisconnectUserRequest { user_id: "nobody".into(), ..out };
    assert_eq!(soon(operator.disconnect_user(nobody)).await.unwrap_err().code(), Code::NotFound);
    drop(operator);
    world.end().await;
}

/// The names of all methods of the contract.
fn methods() -> Vec<&'static str> {
    let contract = include_str!("../../../protocol/proto/zim/v1/admin.proto");
    let methods = contract.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next());
    let methods: Vec<_> = methods.collect();
    assert!(methods.len() >= 5, "{methods:?}");
    methods
}

/// Calls a method with an empty request, which every method can decode.
async fn call(channel: &Channel, method: &str, key: Option<&str>) -> Code {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let mut request = tonic::Request::new(());
    if let Some(key) = key {
        request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    }
    let path = format!("/zim.v1.Admin/{method}").parse().unwrap();
    let answer: Result<tonic::Response<()>, _> = soon(client.unary(request, path, ProstCodec::default())).await;
    answer.err().map_or(Code::Ok, |status| status.code())
}

#[tokio::test]
async fn every_admin_method_requires_the_key() {
    let world = World::new().await;
    let keyless = world.admin_channel().await;
    for method in methods() {
        for key in [None, Some("wrong")] {
            let code = call(&keyless, method, key).await;
            // Repeated refusals reach the limit of the address.
            assert!(matches!(code, Code::Unauthenticated | Code::ResourceExhausted), "{method}: {code:?}");
        }
    }
    assert_eq!(world.audit(), Vec::<String>::new(), "calls without the key are logged");
    drop(keyless);
    eventually("no session is open", async || world.server().app().fanout.all().is_empty().then_some(())).await;
    world.end().await;
}

#[tokio::test]
async fn every_admin_method_writes_an_audit_line() {
    let world = World::new().await;
    let (operator, key) = (world.admin_channel().await, world.admin_key());
    for method in methods() {
        let code = call(&operator, method, Some(&key)).await;
        let lines = world.audit();
        let [line] = lines.as_slice() else { panic!("{method}: {lines:?}") };
        let parts = [format!("method={method:?}"), "peer=uid ".into(), format!("code=\"{code:?}\""), "ms=".into()];
        assert!(parts.iter().all(|part| line.contains(part)), "{parts:?}: {line}");
        assert!(!line.contains(&key), "{line}");
    }
    let unknown = call(&operator, "MakeCoffee", Some(&key)).await;
    assert_eq!((unknown, world.audit().len()), (Code::Unimplemented, 1));
    let metrics = world.metrics().await;
    assert!(metrics.contains(r#"zim_admin_calls_total{method="ListApps",code="Ok"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"zim_admin_calls_total{method="unknown",code="Unimplemented"} 1"#), "{metrics}");
    drop(operator);
    world.end().await;
}
