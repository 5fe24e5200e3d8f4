//! What a push service answers, what the log says of it, and what the operator does with push services.

use serde_json::json;
use zim_client_sdk::PushToken;
use zim_integration_tests::{PushAnswer, PushServer, World, eventually, soon};
use zim_protocol::{
    ListPushProvidersRequest, PushOutcome, PushSource, RemovePushProviderRequest, SetPushProviderRequest,
    TestPushRequest,
};

use crate::push_delivery::{DELAY_MS, away, becomes, log, send, set_webhook, titled};

const SECRET: &str = "0123456789abcdef";

#[tokio::test]
async fn a_push_that_fails_for_now_is_tried_again_later() {
    let server = PushServer::http();
    let world = World::with(|config| config.push.timeout_ms = 200).await;
    set_webhook(&world, &server).await;
    away(&world, "bob", PushToken::webhook("phone")).await;
    let ann = world.user("ann").await;
    server.answer([
        PushAnswer::status(429).header("retry-after", "90"),
        PushAnswer::status(503).body("busy"),
        PushAnswer::none(),
        PushAnswer::status(202),
    ]);
    send(&ann, "bob", "hi", titled("Ann")).await;
    world.clock.advance(DELAY_MS);
    let first = server.next().await;
    let waits = async |detail: &str| {
        eventually("the answer is noted", async || {
            let row = log(&world, "bob", 1).await.remove(0);
            (row.detail.starts_with(detail) && row.outcome() == PushOutcome::Waiting).then_some(row)
        })
        .await
    };
    let now = || world.clock.now_ms();
    let row = waits("429").await;
    assert_eq!(row.next_at - now(), 90_000, "the push service has said when");
    world.clock.advance(90_000);
    let second = server.next().await;
    assert_eq!(first.json()["data"]["id"], second.json()["data"]["id"], "an attempt is known by its ID");
    let row = waits("503 busy").await;
    assert_eq!((row.attempts, row.next_at - now()), (2, 20_000));
    world.clock.advance(20_000);
    server.next().await;
    let row = waits("no answer in time").await;
    world.clock.advance(row.next_at - now());
    server.next().await;
    let row = becomes(&world, "bob", PushOutcome::Sent).await;
    assert_eq!((row.attempts, row.detail.as_str()), (4, "202"));
    world.end().await;
}

#[tokio::test]
async fn a_final_answer_is_recorded_and_410_removes_the_push_id() {
    let server = PushServer::http();
    let world = World::new().await;
    set_webhook(&world, &server).await;
    away(&world, "bob", PushToken::webhook("phone")).await;
    let ann = world.user("ann").await;
    server.answer([PushAnswer::status(400).body("no"), PushAnswer::status(410)]);
    send(&ann, "bob", "1", titled("1")).await;
    world.clock.advance(DELAY_MS);
    let row = becomes(&world, "bob", PushOutcome::Failed).await;
    assert_eq!((row.detail.as_str(), row.attempts, row.push_id.is_empty()), ("400 no", 1, false));
    send(&ann, "bob", "2", titled("2")).await;
    world.clock.advance(DELAY_MS);
    eventually("the push ID is removed", async || {
        let rows = log(&world, "bob", 2).await;
        rows.iter().all(|row| row.push_id.is_empty() && row.outcome() == PushOutcome::Failed).then_some(())
    })
    .await;
    assert!(soon(world.user("bob").await.query_push_list()).await.unwrap().push_list.is_empty());
    world.end().await;
}

#[tokio::test]
async fn a_server_that_stops_between_the_decision_and_the_answer_sends_again() {
    let server = PushServer::http();
    let mut world = World::with(|config| config.push.timeout_ms = 25_000).await;
    set_webhook(&world, &server).await;
    away(&world, "bob", PushToken::webhook("phone")).await;
    let ann = world.user("ann").await;
    server.answer([PushAnswer::none()]);
    send(&ann, "bob", "hi", titled("Ann")).await;
    world.clock.advance(DELAY_MS);
    let first = server.next().await;
    ann.quit().await;
    world.stop_server().await;
    world.start_server().await;
    // The one who took it is not there to note the answer. Nobody takes it from them at once.
    world.clock.advance(29_000);
    assert_eq!(log(&world, "bob", 1).await[0].outcome(), PushOutcome::Waiting);
    world.clock.advance(1_000);
    let second = server.next().await;
    assert_eq!(first.json()["data"]["id"], second.json()["data"]["id"]);
    let row = becomes(&world, "bob", PushOutcome::Sent).await;
    assert_eq!((row.attempts, row.detail.as_str()), (2, "200"), "the log says that it was tried before");
    assert_eq!(server.waiting(), 0);
    world.end().await;
}

#[tokio::test]
async fn list_push_providers_shows_no_secret_and_remove_ends_the_pushes() {
    let server = PushServer::http();
    let world = World::new().await;
    let mut operator = world.admin().await;
    let app_id = world.app_id();
    let request = |settings: &str| SetPushProviderRequest {
        app_id,
        source: PushSource::Webhook as i32,
        app_type: 0,
        settings: settings.to_owned(),
    };
    for wrong in ["", "{}", "[]", r#"{"url":"https://a.example","secret":"short"}"#] {
        let refused = soon(operator.set_push_provider(request(wrong))).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{wrong}");
    }
    set_webhook(&world, &server).await;
    let list = ListPushProvidersRequest { app_id };
    let found = soon(operator.list_push_providers(list)).await.unwrap().into_inner().providers;
    assert_eq!((found.len(), found[0].source()), (1, PushSource::Webhook));
    assert!(found[0].settings.contains("/push") && !found[0].settings.contains(SECRET), "{}", found[0].settings);
    assert!(world.audit().iter().all(|line| !line.contains(SECRET)));
    away(&world, "bob", PushToken::webhook("phone")).await;
    let ann = world.user("ann").await;
    send(&ann, "bob", "hi", titled("Ann")).await;
    let remove = RemovePushProviderRequest { app_id, source: PushSource::Webhook as i32, app_type: 0 };
    assert!(soon(operator.remove_push_provider(remove)).await.unwrap().into_inner().is_found);
    assert!(!soon(operator.remove_push_provider(remove)).await.unwrap().into_inner().is_found);
    // The other nodes learn of it by a hint.
    eventually("all nodes know", async || {
        world.clock.advance(DELAY_MS);
        let rows = log(&world, "bob", 1).await;
        (rows[0].detail == "the app has no credentials for this push service").then_some(())
    })
    .await;
    assert_eq!(server.waiting(), 0);
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn test_push_says_which_step_fails() {
    let server = PushServer::http();
    let world = World::new().await;
    let mut operator = world.admin().await;
    away(&world, "bob", PushToken::webhook("phone")).await;
    let request = TestPushRequest {
        app_id: world.app_id(),
        user_id: "bob".to_owned(),
        title: "test".to_owned(),
        content: "one".to_owned(),
    };
    let mut tried = async || soon(operator.test_push(request.clone())).await.unwrap().into_inner().tests;
    let first = tried().await;
    assert_eq!((first.len(), first[0].has_provider, first[0].outcome()), (1, false, PushOutcome::Failed));
    set_webhook(&world, &server).await;
    let second = tried().await;
    assert_eq!((second[0].has_provider, second[0].outcome()), (true, PushOutcome::Sent));
    assert_eq!(server.next().await.json()["data"]["kind"], json!("test"));
    server.answer([PushAnswer::status(403).body("forbidden")]);
    let third = tried().await;
    assert_eq!((third[0].outcome(), third[0].detail.as_str()), (PushOutcome::Failed, "403 forbidden"));
    let nobody = TestPushRequest { user_id: "nobody".to_owned(), ..request.clone() };
    assert_eq!(soon(operator.test_push(nobody)).await.unwrap_err().code(), tonic::Code::NotFound);
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn the_log_is_cleared_after_some_days() {
    let server = PushServer::http();
    let world = World::with(|config| config.push.log_days = 2).await;
    set_webhook(&world, &server).await;
    away(&world, "bob", PushToken::webhook("phone")).await;
    let ann = world.user("ann").await;
    send(&ann, "bob", "hi", titled("Ann")).await;
    world.clock.advance(DELAY_MS);
    becomes(&world, "bob", PushOutcome::Sent).await;
    ann.quit().await;
    world.clock.advance(47 * 3_600_000);
    assert_eq!(log(&world, "bob", 1).await.len(), 1);
    world.clock.advance(3_600_000);
    assert!(log(&world, "bob", 0).await.is_empty());
    world.end().await;
}
