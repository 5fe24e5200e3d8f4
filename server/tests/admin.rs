//! The operator's gRPC service.

use tonic::Request;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use zim_protocol::admin::AdminClient;
use zim_protocol::token::{Cbc, Token};
use zim_protocol::{CreateAppRequest, DisconnectUserRequest, ListAppsRequest, ListSessionsRequest, MintTokenRequest};
use zim_server::Server;
use zim_server::config::Config;

#[expect(clippy::unwrap_used, reason = "a test helper")]
async fn client(server: &Server) -> AdminClient<Channel> {
    let address = server.admin_addr().unwrap().to_string();
    AdminClient::new(Endpoint::from_shared(address).unwrap().connect().await.unwrap())
}

#[expect(clippy::unwrap_used, reason = "a test helper")]
fn with_key<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    request
}

#[tokio::test]
async fn every_call_needs_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(Config::local(dir.path().join("data"))).await.unwrap();
    let mut admin = client(&server).await;
    for request in
        [Request::new(ListAppsRequest {}), with_key("", ListAppsRequest {}), with_key("wrong", ListAppsRequest {})]
    {
        assert_eq!(admin.list_apps(request).await.unwrap_err().code(), tonic::Code::Unauthenticated);
    }
    drop(admin);
    assert_eq!(server.stop().await, 0);
}

#[tokio::test]
async fn apps_are_created_and_tokens_minted() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(Config::local(dir.path().join("data"))).await.unwrap();
    let key = std::fs::read_to_string(dir.path().join("data/admin.key")).unwrap();
    let mut admin = client(&server).await;
    let made = CreateAppRequest { app_id: 4_242, name: "shop".to_owned() };
    let app = admin.create_app(with_key(&key, made.clone())).await.unwrap().into_inner();
    assert_eq!((app.app_id, app.app_sign.len(), app.server_secret.len()), (4_242, 64, 32));
    for name in ["two\nlines".to_owned(), "\x1b[2J".to_owned(), "x".repeat(257)] {
        let bad = admin.create_app(with_key(&key, CreateAppRequest { app_id: 0, name })).await.unwrap_err();
        assert_eq!(bad.code(), tonic::Code::InvalidArgument, "{bad}");
    }
    let twice = admin.create_app(with_key(&key, made)).await.unwrap_err();
    assert_eq!(twice.code(), tonic::Code::InvalidArgument, "{twice}");
    let apps = admin.list_apps(with_key(&key, ListAppsRequest {})).await.unwrap().into_inner().apps;
    assert_eq!(apps.len(), 2);
    assert!(apps.iter().all(|app| app.server_secret.is_empty() && app.app_sign.is_empty()));

    let mint = MintTokenRequest { app_id: 4_242, user_id: "ann".to_owned(), effective_seconds: 60 };
    let minted = admin.mint_token(with_key(&key, mint)).await.unwrap().into_inner();
    let now_s = minted.expires_at - 60;
    assert!(Token::verify(&minted.token, 4_242, "ann", &[&app.server_secret], Cbc::Refused, now_s).is_ok());
    let nobody = MintTokenRequest { app_id: 1, user_id: "ann".to_owned(), effective_seconds: 60 };
    assert_eq!(admin.mint_token(with_key(&key, nobody)).await.unwrap_err().code(), tonic::Code::NotFound);
    let too_long = MintTokenRequest { app_id: 4_242, user_id: "ann".to_owned(), effective_seconds: i64::MAX };
    assert_eq!(admin.mint_token(with_key(&key, too_long)).await.unwrap_err().code(), tonic::Code::InvalidArgument);

    let all = ListSessionsRequest { app_id: 4_242, user_id: String::new() };
    assert!(admin.list_sessions(with_key(&key, all)).await.unwrap().into_inner().sessions.is_empty());
    let ann = DisconnectUserRequest { app_id: 4_242, user_id: "ann".to_owned() };
    assert_eq!(admin.disconnect_user(with_key(&key, ann)).await.unwrap_err().code(), tonic::Code::NotFound);
    drop(admin);
    assert_eq!(server.stop().await, 0);
}

/// gRPC's own tools need the key, too, and learn of the operator's service alone.
#[tokio::test]
async fn health_checks_and_reflection_need_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(Config::local(dir.path().join("data"))).await.unwrap();
    let key = std::fs::read_to_string(dir.path().join("data/admin.key")).unwrap();
    let address = server.admin_addr().unwrap().to_string();
    let channel = Endpoint::from_shared(address).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(channel.clone());
    let check = |service: &str| HealthCheckRequest { service: service.to_owned() };
    let refused = health.check(Request::new(check(""))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    for service in ["", "zim.v1.Admin"] {
        let found = health.check(with_key(&key, check(service))).await.unwrap().into_inner();
        assert_eq!(found.status(), ServingStatus::Serving, "{service:?}");
    }
    assert_eq!(health.check(with_key(&key, check("zim.v1.None"))).await.unwrap_err().code(), tonic::Code::NotFound);
    let mut reflection = ServerReflectionClient::new(channel);
    let list = || {
        let message_request = Some(MessageRequest::ListServices(String::new()));
        futures_util::stream::iter([ServerReflectionRequest { host: String::new(), message_request }])
    };
    let refused = reflection.server_reflection_info(Request::new(list())).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    let mut answers = reflection.server_reflection_info(with_key(&key, list())).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(listed)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("another answer")
    };
    let names: Vec<&str> = listed.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"zim.v1.Admin") && !names.contains(&"zim.v1.MessageService"), "{names:?}");
    drop((health, reflection, answers));
    assert_eq!(server.stop().await, 0);
}
