//! The wire protocol, from a client without the SDK: handshakes, refusals, limits and closes.

mod raw;

use raw::{RawClient, TestServer, code, connect, hello, login, request, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zim_protocol::wire::CloseCode;
use zim_protocol::{
    Ack, ErrorCode, Hello, LogoutRequest, QueryUsersInfoRequest, Request, SessionEndReason, SyncRequest,
    UpdateUserNameRequest, client_frame, event_frame,
};
use zim_server::config::Config;
use zim_server::{Server, StartError};

#[tokio::test]
async fn the_welcome_carries_the_servers_settings() {
    let test = TestServer::with(|config| config.limits.max_text_bytes = 77).await;
    let mut raw = RawClient::new(&test).await;
    raw.hello(Hello { versions: vec![1, 9], ..hello() }).await;
    let welcome = raw.welcome().await;
    assert_eq!((welcome.version, welcome.server_time, welcome.epoch.len()), (1, 1_700_000_000_000, 16));
    let limits = welcome.limits.unwrap();
    assert_eq!((limits.max_text_bytes, limits.offline_after_ms), (77, 35_000));
    test.end().await;
}

#[tokio::test]
async fn an_invalid_hello_is_refused() {
    let test = TestServer::new().await;
    for (greeting, expected) in [
        (Hello { versions: vec![9], ..hello() }, CloseCode::Version),
        (Hello { device_id: vec![1; 15].into(), ..hello() }, CloseCode::Protocol),
    ] {
        let mut raw = RawClient::new(&test).await;
        raw.hello(greeting).await;
        assert_eq!(raw.closed().await, expected);
    }
    let mut raw = RawClient::new(&test).await;
    raw.write([client_frame::Frame::Ack(Ack { count: 0, ..Ack::default() })]).await;
    assert_eq!(raw.closed().await, CloseCode::Protocol);
    let mut raw = RawClient::after_hello(&test).await;
    raw.hello(hello()).await;
    assert_eq!(raw.closed().await, CloseCode::Protocol);
    test.end().await;
}

#[tokio::test]
async fn another_alpn_protocol_is_refused() {
    let test = TestServer::new().await;
    assert!(soon(connect(&test, b"h3")).await.is_err());
    test.end().await;
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let test = TestServer::with(|config| config.limits.hello_timeout_ms = 100).await;
    assert_eq!(RawClient::new(&test).await.closed().await, CloseCode::HelloTimeout);
    let raw = RawClient::after_hello(&test).await;
    test.clock.advance(30_000);
    assert_eq!(raw.closed().await, CloseCode::LoginTimeout);
    test.end().await;
}

#[tokio::test]
async fn invalid_frames_close_the_connection() {
    let test = TestServer::new().await;
    // An unterminated length, a frame of 2 MB, and a frame that is not protobuf.
    for bytes in [&[0xff; 8][..], &[0x80, 0x80, 0x80, 0x01], &[0x02, 0xff, 0xff]] {
        let mut raw = RawClient::after_hello(&test).await;
        soon(raw.send.write_all(bytes)).await.unwrap();
        assert_eq!(raw.closed().await, CloseCode::Protocol);
    }
    test.end().await;
}

#[tokio::test]
async fn frames_of_a_later_version_are_skipped() {
    let test = TestServer::new().await;
    let mut raw = RawClient::after_hello(&test).await;
    // Field 15 of a ClientFrame, and an empty frame.
    soon(raw.send.write_all(&[0x03, 0x7a, 0x01, 0x00, 0x00])).await.unwrap();
    assert_eq!(code(&raw.call(&login(&test, "ann")).await), 0);
    test.end().await;
}

#[tokio::test]
async fn an_ack_of_an_unsent_event_closes_the_connection() {
    let test = TestServer::new().await;
    let mut raw = RawClient::logged_in(&test, "ann").await;
    raw.write([client_frame::Frame::Ack(Ack { count: 0, ..Ack::default() })]).await;
    assert_eq!(code(&raw.call(&QueryUsersInfoRequest { user_ids: vec!["ann".into()], ..Default::default() }).await), 0);
    raw.write([client_frame::Frame::Ack(Ack { count: 1, ..Ack::default() })]).await;
    assert_eq!(raw.closed().await, CloseCode::Protocol);
    test.end().await;
}

#[tokio::test]
async fn a_client_has_one_stream() {
    let test = TestServer::new().await;
    let mut raw = RawClient::logged_in(&test, "ann").await;
    let connection = raw.connection.clone();
    let (mut both, mut one) = (Box::pin(connection.open_bi()), Box::pin(connection.open_uni()));
    // Whatever the server allows has arrived before the answer.
    assert_eq!(code(&raw.call(&SyncRequest::default()).await), 0);
    assert!(futures_util::poll!(&mut both).is_pending(), "a second stream was opened");
    assert!(futures_util::poll!(&mut one).is_pending(), "a stream in one direction was opened");
    assert!(raw.connection.max_datagram_size().is_none());
    test.end().await;
}

#[tokio::test]
async fn the_receive_window_is_small_before_login_and_holds_a_frame_after() {
    let test = TestServer::new().await;
    // Empty frames. QUIC sends at once what the receive window allows, whether or not the server reads it.
    let much = vec![0; 2 << 20];
    let mut unauthenticated = RawClient::new(&test).await;
    assert_eq!(soon(unauthenticated.send.write(&much)).await.unwrap(), 32 << 10);
    let mut user = RawClient::logged_in(&test, "ann").await;
    // The larger window arrives independently of the answer to the login.
    soon(async { while user.send.write(&much).await.unwrap() <= 64 << 10 {} }).await;
    test.end().await;
}

#[tokio::test]
async fn calls_are_refused_with_the_references_codes() {
    let test = TestServer::new().await;
    let mut raw = RawClient::after_hello(&test).await;
    let rename = UpdateUserNameRequest { user_name: "Ann".to_owned() };
    assert_eq!(code(&raw.call(&rename).await), 6_000_121);
    assert_eq!(code(&raw.call(&login(&test, "ann")).await), 0);
    assert_eq!(code(&raw.call(&rename).await), 0);
    for (method, payload, expected) in [
        ("No/Such", &[][..], 6_000_013),
        ("", &[], 6_000_013),
        ("User/UpdateUserName", &[0xff, 0xff], 6_000_001),
        ("Session/RenewToken", &[], 6_000_103),
    ] {
        let request = Request { id: 7, method: method.to_owned(), payload: payload.to_vec().into(), ack: 0 };
        raw.write([client_frame::Frame::Request(request)]).await;
        let response = raw.response().await;
        assert_eq!((response.id, code(&response)), (7, expected), "{method}");
    }
    test.end().await;
}

#[tokio::test]
async fn calls_beyond_the_rate_are_refused_until_the_allowance_refills() {
    let test = TestServer::with(|config| (config.limits.request_burst, config.limits.message_burst) = (3, 3)).await;
    let mut raw = RawClient::logged_in(&test, "ann").await;
    let rename = UpdateUserNameRequest { user_name: "Ann".to_owned() };
    raw.write((0..3).map(|id| request(id, &rename))).await;
    let mut codes = Vec::new();
    for _ in 0..3 {
        codes.push(code(&raw.response().await));
    }
    codes.sort_unstable();
    assert_eq!(codes, [0, 0, 6_000_005]);
    test.clock.advance(20);
    assert_eq!(code(&raw.call(&rename).await), 0);
    test.end().await;
}

#[tokio::test]
async fn syncs_have_an_allowance_of_their_own() {
    let test = TestServer::with(|config| (config.limits.pulls_per_second, config.limits.pull_burst) = (40, 30)).await;
    let mut raw = RawClient::logged_in(&test, "ann").await;
    let too_fast = ErrorCode::CommonModuleTriggerServerFrequencyLimit as i32;
    for expected in [0, 0, 0, too_fast] {
        assert_eq!(code(&raw.call(&SyncRequest::default()).await), expected);
    }
    // Two syncs per second.
    test.clock.advance(499);
    assert_eq!(code(&raw.call(&SyncRequest::default()).await), too_fast);
    test.clock.advance(1);
    assert_eq!(code(&raw.call(&SyncRequest::default()).await), 0);
    test.end().await;
}

#[tokio::test]
async fn a_logout_is_answered_before_the_session_ends() {
    let test = TestServer::new().await;
    let mut raw = RawClient::logged_in(&test, "ann").await;
    assert_eq!(code(&raw.call(&LogoutRequest {}).await), 0);
    let events = raw.events().await;
    let Some(event_frame::Frame::End(end)) = events.last() else { panic!("{events:?}") };
    assert_eq!(end.reason(), SessionEndReason::LoggedOut);
    assert_eq!(raw.closed().await, CloseCode::SessionEnded);
    test.end().await;
}

#[tokio::test]
async fn a_stop_is_announced_and_leaves_no_task() {
    let test = TestServer::new().await;
    let (ann, after_hello) = (RawClient::logged_in(&test, "ann").await, RawClient::after_hello(&test).await);
    let (events, closed, _dir) = tokio::join!(ann.events(), after_hello.closed(), test.end());
    let Some(event_frame::Frame::End(end)) = events.last() else { panic!("{events:?}") };
    assert_eq!(end.reason(), SessionEndReason::GoingAway);
    assert_eq!(ann.closed().await, CloseCode::GoingAway);
    assert_eq!(closed, CloseCode::GoingAway);
}

#[tokio::test]
async fn a_second_start_keeps_app_and_keys() {
    let test = TestServer::new().await;
    let (app, fingerprint) = (test.server.first_app().clone(), test.server.fingerprint());
    assert_eq!((app.app_sign.len(), app.server_secret.len()), (64, 32));
    assert!(test.server.banner(false).contains(&app.app_sign), "the first start prints it");
    let taken = Server::start(Config::local(test.dir.path())).await;
    assert!(matches!(taken, Err(StartError::Folder(_))), "{taken:?}");
    let dir = test.end().await;
    let again = Server::start(Config::local(dir.path())).await.unwrap();
    assert_eq!((again.first_app(), again.fingerprint()), (&app, fingerprint));
    // The log of a service contains its output, so the secret is printed at most once.
    assert!(!again.banner(false).contains(&app.app_sign));
    assert!(again.banner(true).contains(&app.app_sign));
    assert!(!again.banner(true).contains(&app.server_secret));
    assert_eq!(again.stop().await, 0);
}

#[tokio::test]
async fn an_address_in_use_has_a_clear_error() {
    let test = TestServer::new().await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::local(dir.path().join("data"));
    config.listen = test.server.local_addr();
    let error = Server::start(config.clone()).await.unwrap_err().to_string();
    assert!(error.contains("the server cannot listen on 127.0.0.1:") && error.contains("--listen"), "{error}");
    config = Config::local(dir.path().join("data"));
    config.http.0 = test.server.http_addr();
    let error = Server::start(config).await.unwrap_err().to_string();
    assert!(error.contains("the HTTP service cannot listen on") && error.contains("--http"), "{error}");
    test.end().await;
}

#[expect(clippy::unwrap_used, reason = "a test helper")]
async fn get(test: &TestServer, path: &str) -> String {
    let mut stream = dial(test).await;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    soon(stream.read_to_string(&mut text)).await.unwrap();
    text
}

#[expect(clippy::unwrap_used, reason = "a test helper")]
async fn dial(test: &TestServer) -> TcpStream {
    soon(TcpStream::connect(test.server.http_addr().unwrap())).await.unwrap()
}

/// Reads until the end of the connection, whether it is closed or reset.
#[expect(clippy::unwrap_used, reason = "a test helper")]
async fn rest(stream: &mut TcpStream) -> String {
    let mut response = Vec::new();
    drop(soon(stream.read_to_end(&mut response)).await);
    String::from_utf8(response).unwrap()
}

/// Sends a request on a persistent connection; false if it is not answered.
async fn is_answered(stream: &mut TcpStream) -> bool {
    let sent = stream.write_all(b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n").await;
    let mut response = [0; 4_096];
    sent.is_ok()
        && soon(stream.read(&mut response)).await.is_ok_and(|length| response[..length].starts_with(b"HTTP/1.1 200"))
}

#[tokio::test]
async fn an_incomplete_http_request_times_out() {
    let test = TestServer::with(|config| config.limits.http_header_timeout_ms = 300).await;
    let began = std::time::Instant::now();
    let (mut silent, mut half, mut whole) = (dial(&test).await, dial(&test).await, dial(&test).await);
    half.write_all(b"GET /health HTTP/1.1\r\nHost: ").await.unwrap();
    assert!(is_answered(&mut whole).await);
    assert_eq!((rest(&mut silent).await, rest(&mut half).await), (String::new(), String::new()));
    assert!(began.elapsed() >= std::time::Duration::from_millis(300), "the connection was closed before its timeout");
    // After a request the next one has the request timeout.
    assert!(is_answered(&mut whole).await);
    test.end().await;
}

#[tokio::test]
async fn an_incomplete_http_request_after_a_complete_one_times_out() {
    let test = TestServer::with(|config| config.limits.http_timeout_ms = 300).await;
    let mut whole = dial(&test).await;
    whole.write_all(b"GET /health HTTP/1.1\r\nHost: here\r\n\r\nGET /health HTTP/1.1\r\n").await.unwrap();
    // The complete request is answered; the incomplete one that follows is not.
    assert_eq!(rest(&mut whole).await.matches("200 OK").count(), 1);
    test.end().await;
}

#[tokio::test]
async fn a_slow_http_request_times_out() {
    let test = TestServer::with(|config| config.limits.http_timeout_ms = 300).await;
    let mut slow = dial(&test).await;
    slow.write_all(b"GET /").await.unwrap();
    let drip = async {
        let pause = std::time::Duration::from_millis(20);
        // Until the server closes the connection.
        while tokio::time::timeout(pause, slow.read(&mut [0])).await.is_err() && slow.write_all(b"x").await.is_ok() {}
    };
    soon(drip).await;
    test.end().await;
}

#[tokio::test]
async fn every_http_request_of_a_connection_has_its_own_timeout() {
    let test = TestServer::with(|config| config.limits.http_timeout_ms = 1_000).await;
    let mut used = dial(&test).await;
    let began = std::time::Instant::now();
    let (mut sent, mut response) = (0, [0; 4_096]);
    while began.elapsed() < std::time::Duration::from_millis(1_200) {
        used.write_all(b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n").await.unwrap();
        sent += 1;
        let length = soon(used.read(&mut response)).await.unwrap();
        assert!(response[..length].starts_with(b"HTTP/1.1 200 OK"), "after {sent}");
    }
    test.end().await;
}

#[tokio::test]
async fn an_http_connection_in_use_is_closed_in_the_end() {
    let test = TestServer::with(|config| config.limits.http_timeout_ms = 100).await;
    let mut used = dial(&test).await;
    let mut response = [0; 4_096];
    let until_it_ends = async {
        // The close may race with a request in flight.
        while used.write_all(b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n").await.is_ok() {
            if !matches!(used.read(&mut response).await, Ok(1..)) {
                break;
            }
        }
    };
    soon(until_it_ends).await;
    test.end().await;
}

#[tokio::test]
async fn an_http_connection_beyond_the_limit_evicts_the_oldest() {
    let test = TestServer::with(|config| config.limits.max_http_connections = 2).await;
    let (mut one, mut two) = (dial(&test).await, dial(&test).await);
    for _ in 0..3 {
        assert!(is_answered(&mut one).await && is_answered(&mut two).await, "two connections are allowed");
    }
    let mut three = dial(&test).await;
    assert!(is_answered(&mut three).await);
    assert_eq!(rest(&mut one).await, "");
    assert!(is_answered(&mut two).await && is_answered(&mut three).await);
    test.end().await;
}

#[tokio::test]
async fn an_incomplete_http_request_does_not_delay_a_stop() {
    let test = TestServer::new().await;
    let mut half = dial(&test).await;
    half.write_all(b"GET /health HTTP/1.1\r\nHost: ").await.unwrap();
    // It was accepted, because a later connection is answered.
    assert!(get(&test, "/health").await.starts_with("HTTP/1.0 200"));
    let began = std::time::Instant::now();
    test.end().await;
    assert!(began.elapsed() < std::time::Duration::from_secs(4), "the stop waited for the request");
    assert_eq!(rest(&mut half).await, "");
}

#[tokio::test]
async fn health_and_metrics_are_served_over_http() {
    let test = TestServer::new().await;
    RawClient::logged_in(&test, "ann").await;
    assert!(get(&test, "/health").await.starts_with("HTTP/1.0 200"));
    assert!(get(&test, "/ready").await.starts_with("HTTP/1.0 200"));
    let metrics = get(&test, "/metrics").await;
    assert!(metrics.contains(r#"zim_requests_total{method="Session/Login",code="0"}"#), "{metrics}");
    assert!(metrics.contains(r#"zim_request_seconds_bucket{method="Session/Login",le="+Inf"}"#), "{metrics}");
    // Before a task has failed, so that its first failure shows. Its worker may not have begun yet.
    let is_counted = async {
        while !get(&test, "/metrics").await.contains(r#"zim_tasks_total{kind="retention",result="failed"} 0"#) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), is_counted).await.expect("failures have no series");
    test.end().await;
}
