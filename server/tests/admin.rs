//! The operator's gRPC service.

use tonic::Request;
use tonic::transport::{Channel, Endpoint};
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
