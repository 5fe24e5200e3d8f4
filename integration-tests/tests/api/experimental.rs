//! Settings and methods by name, and experimental events.

use serde_json::{Value, json};
use tonic::Code;
use zim_client_sdk::Zim;
use zim_integration_tests::{Device, World, refusal, soon};
use zim_protocol::{ConnectionState, ErrorCode, Event, EventKind, SendExperimentalEventRequest};

#[tokio::test]
async fn set_advanced_config_holds_for_clients_that_are_created_later() {
    let mut world = World::new().await;
    let _bob = world.user("bob").await;
    Zim::set_advanced_config("resend_window_ms", "9000").unwrap();
    Zim::set_advanced_config("resend_window_ms", "1000").unwrap();
    let ann = world.user("ann").await;
    Zim::set_advanced_config("resend_window_ms", "30000").unwrap();
    world.stop_server().await;
    let sending = ann.send("bob", zim_protocol::Message::text("hi"));
    // By default a message waits for 30 seconds.
    world.clock.advance(1_000);
    assert!(soon(sending).await.is_err());
    for (key, value) in [("resend_window_ms", "99"), ("resend_window_ms", "x"), ("retry_login", ""), ("colour", "blue")]
    {
        assert_eq!(refusal(Zim::set_advanced_config(key, value)), ErrorCode::CommonModuleParamsInvalid, "{key}");
    }
    world.start_server().await;
    world.end().await;
}

async fn call(device: &Device, call: &Value) -> Result<Value, zim_client_sdk::Error> {
    let answer = soon(device.call_experimental_api(&call.to_string())).await?;
    Ok(serde_json::from_str(&answer).unwrap())
}

#[tokio::test]
async fn call_experimental_api_has_methods_with_names() {
    let world = World::with(|config| config.area = 4).await;
    let client = world.client();
    let diagnostics = json!({ "method": "zim.diagnostics" });
    let before = call(&client, &diagnostics).await.unwrap();
    assert_eq!(
        (&before["connectionState"], &before["server"]),
        (&json!(ConnectionState::Disconnected as i32), &Value::Null)
    );
    let ann = world.login(client, "ann").await;
    let found = call(&ann, &diagnostics).await.unwrap();
    assert_eq!(found["connectionState"], json!(ConnectionState::Connected as i32));
    assert_eq!((&found["server"]["area"], &found["server"]["clockAheadMs"]), (&json!(4), &json!(0)));
    assert_eq!(found["server"]["epoch"], json!(ann.epoch().await.unwrap()));
    let users = json!({ "path": "User/QueryUsersInfo", "request": { "userIDs": ["ann"] } });
    let users = call(&ann, &json!({ "method": "zim.call", "params": users })).await.unwrap();
    assert_eq!(users["userList"][0]["baseInfo"]["userID"], "ann");
    assert_eq!(call(&ann, &json!({ "method": "zim.networkChanged", "params": {} })).await.unwrap(), json!({}));
    let invalid = ErrorCode::CommonModuleParamsInvalid;
    for (bad, code) in [
        (json!({ "method": "zim.explode" }), ErrorCode::CommonModuleUnsupportedRequest),
        (json!({ "method": "" }), ErrorCode::CommonModuleUnsupportedRequest),
        (json!({}), invalid),
        (json!([]), invalid),
        (json!({ "method": "zim.diagnostics", "params": { "x": 1 } }), invalid),
        (json!({ "method": "zim.call", "params": {} }), invalid),
        (
            json!({ "method": "zim.call", "params": { "path": "User/Explode" } }),
            ErrorCode::CommonModuleUnsupportedRequest,
        ),
        (json!({ "method": "zim.call", "params": { "path": "User/QueryUsersInfo" } }), invalid),
    ] {
        assert_eq!(refusal(call(&ann, &bad).await), code, "{bad}");
    }
    assert_eq!(refusal(soon(ann.call_experimental_api("{")).await), invalid);
    ann.quit().await;
    assert_eq!(refusal(call(&ann, &diagnostics).await), ErrorCode::CommonModuleNotInit);
    world.end().await;
}

async fn told(device: &Device) -> String {
    match device.next(EventKind::ExperimentalEventReceived).await {
        Event::ExperimentalEventReceived(event) => event.content,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn send_experimental_event_tells_those_who_are_online() {
    let world = World::new().await;
    let (ann, bob, phone) = (world.user("ann").await, world.user("bob").await, world.device("ann").await);
    let away = world.user("cai").await;
    let dir = away.dir();
    away.quit().await;
    let mut operator = world.admin().await;
    let request = |users: &[&str], content: &str| SendExperimentalEventRequest {
        app_id: world.app_id(),
        user_ids: users.iter().map(|user| (*user).into()).collect(),
        content: content.into(),
    };
    let longest = "x".repeat(4_096);
    for (users, content) in [(&["ann", "cai", "ann"][..], "{\"dark\":true}"), (&[], &longest)] {
        soon(operator.send_experimental_event(request(users, content))).await.unwrap();
    }
    for device in [&ann, &phone] {
        assert_eq!((told(device).await, told(device).await), ("{\"dark\":true}".to_owned(), longest.clone()));
    }
    assert_eq!(told(&bob).await, longest, "the first was not for Bob");
    // It is not kept for those who come later.
    let cai = world.user_at(dir, "cai").await;
    soon(operator.send_experimental_event(request(&["cai"], "now"))).await.unwrap();
    assert_eq!(told(&cai).await, "now");
    for (bad, code) in [
        (request(&["nobody"], "x"), Code::NotFound),
        (request(&[], ""), Code::InvalidArgument),
        (request(&[], &"x".repeat(4_097)), Code::InvalidArgument),
        (SendExperimentalEventRequest { app_id: 1, ..request(&[], "x") }, Code::NotFound),
    ] {
        assert_eq!(soon(operator.send_experimental_event(bad)).await.unwrap_err().code(), code);
    }
    drop(operator);
    world.end().await;
}
