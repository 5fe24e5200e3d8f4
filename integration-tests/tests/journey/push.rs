//! Offline push for a user with several devices.

use serde_json::json;
use zim_client_sdk::PushToken;
use zim_integration_tests::{PushServer, World, eventually, soon};
use zim_protocol::{ListPushLogRequest, Message, PushConfig, PushOutcome, PushSource, SetPushProviderRequest};

const DELAY_MS: i64 = 2_000;

/// The user comes back on one device and reads: the other one, which is still away, is not woken.
#[tokio::test]
async fn what_is_read_on_one_device_is_not_pushed_to_the_other() {
    let server = PushServer::http();
    let world = World::new().await;
    let mut operator = world.admin().await;
    let source = PushSource::Webhook;
    let settings = json!({"url": server.url("/push"), "secret": "0123456789abcdef"}).to_string();
    let request = SetPushProviderRequest { app_id: world.app_id(), source: source as i32, app_type: 0, settings };
    soon(operator.set_push_provider(request)).await.unwrap();
    let is_known = || world.servers().all(|server| server.app().pushes_by(world.app_id(), source));
    eventually("all nodes know the push service", async || is_known().then_some(())).await;
    let (phone, tablet) = (world.user("ann").await, world.device("ann").await);
    soon(phone.register_push(PushToken::webhook("phone"))).await.unwrap();
    soon(tablet.register_push(PushToken::webhook("tablet"))).await.unwrap();
    let dir = phone.dir();
    phone.quit().await;
    tablet.quit().await;
    let bob = world.user("bob").await;
    let send = async |text: &str| {
        let push = PushConfig { title: text.to_owned(), ..PushConfig::default() };
        soon(bob.peer("ann").send(Message::text(text)).push_config(push).into_future()).await.unwrap();
    };
    // Both are away: both are woken.
    send("first").await;
    world.clock.advance(DELAY_MS);
    let mut tokens = [server.next().await.json()["token"].clone(), server.next().await.json()["token"].clone()];
    tokens.sort_by_key(ToString::to_string);
    assert_eq!(tokens, [json!("phone"), json!("tablet")]);
    // The user takes the phone, and reads what comes.
    let phone = world.user_at(dir, "ann").await;
    send("second").await;
    phone.receives("second").await;
    phone.read("bob").await;
    phone.has_unread("bob", 0).await;
    world.clock.advance(DELAY_MS);
    let request = ListPushLogRequest { app_id: world.app_id(), user_id: "ann".to_owned(), ..Default::default() };
    let why = async || {
        let rows = soon(operator.clone().list_push_log(request.clone())).await.unwrap().into_inner().rows;
        let second = rows.into_iter().filter(|row| row.title == "second" && row.outcome() == PushOutcome::Skipped);
        let why: Vec<_> = second.map(|row| row.detail).collect();
        (why.len() == 2).then_some(why)
    };
    assert_eq!(eventually("two that are skipped", why).await, ["read", "read"]);
    assert_eq!(server.waiting(), 0);
    drop(operator);
    world.end().await;
}
