//! How a push ends that waits: what it tells of is over, its time is, or it was tried often enough.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::Notify;
use zim_client_sdk::{MessageSendNotification, PushToken};
use zim_integration_tests::{Device, PushAnswer, PushServer, World, eventually, soon};
use zim_protocol::{
    CallAcceptConfig, CallEndConfig, CallInvitationMode, CallInviteConfig, ConversationType, GroupAdvancedConfig,
    GroupInfo, Message, PushConfig, PushLogRow, PushOutcome, PushSource, VoIpConfig,
};

use crate::push_delivery::{away, becomes, log, send, set_provider, set_webhook, title, titled};

const DELAY_MS: i64 = 2_000;
const BACK_OFF_MS: i64 = 5_000;

/// Waits until the only push to a user was refused for now so many times.
async fn is_refused(world: &World, user: &str, attempts: u32) -> PushLogRow {
    // Until the answer is noted, the row says when the attempt ends at the latest.
    let next_at = world.clock.now_ms() + (5_000 << (2 * (attempts - 1))).min(3_600_000);
    eventually("the answer is noted", async || {
        let row = log(world, user, 1).await.remove(0);
        (row.detail.starts_with("503") && row.attempts == attempts && row.next_at == next_at).then_some(row)
    })
    .await
}

fn rings(title: &str) -> CallInviteConfig {
    let push =
        PushConfig { title: title.to_owned(), vo_ip_config: Some(VoIpConfig::default()), ..PushConfig::default() };
    CallInviteConfig {
        mode: CallInvitationMode::Advanced as i32,
        push_config: Some(push),
        ..CallInviteConfig::default()
    }
}

/// Ann invites bob, who is away, and carl, who accepts.
async fn call(ann: &Device, carl: &Device, title: &str) -> String {
    let call = soon(ann.call_invite(["bob", "carl"], rings(title))).await.unwrap().call_id;
    soon(carl.call_accept(&call, CallAcceptConfig::default())).await.unwrap();
    call
}

#[tokio::test]
async fn a_call_that_has_ended_rings_nobody_who_was_asked() {
    let (world, server) = (World::new().await, PushServer::http());
    set_webhook(&world, &server).await;
    away(&world, "bob", PushToken::webhook("phone")).await;
    let (ann, carl) = (world.user("ann").await, world.user("carl").await);
    // It ends before the invitation is pushed.
    let first = call(&ann, &carl, "first").await;
    soon(ann.call_end(&first, CallEndConfig::default())).await.unwrap();
    world.clock.advance(DELAY_MS);
    let row = becomes(&world, "bob", PushOutcome::Skipped).await;
    assert_eq!((row.title.as_str(), row.detail.as_str()), ("first", "the call does not wait any more"));
    // It ends while the invitation waits for the push service.
    server.answer([PushAnswer::status(503)]);
    let second = call(&ann, &carl, "second").await;
    world.clock.advance(DELAY_MS);
    assert_eq!(title(&server.next().await), "second");
    let second_row = async |is: fn(&PushLogRow) -> bool| {
        eventually("what becomes of the second", async || {
            log(&world, "bob", 2).await.into_iter().find(|row| row.title == "second" && is(row))
        })
        .await
    };
    second_row(|row| row.detail.starts_with("503")).await;
    soon(ann.call_end(&second, CallEndConfig::default())).await.unwrap();
    world.clock.advance(BACK_OFF_MS);
    let row = second_row(|row| row.outcome() != PushOutcome::Waiting).await;
    assert_eq!((row.outcome(), row.detail.as_str()), (PushOutcome::Skipped, "the call does not wait any more"));
    assert_eq!(server.waiting(), 0);
    world.end().await;
}

#[tokio::test]
async fn the_end_of_a_call_is_pushed_to_those_who_were_asked() {
    let (world, server) = (World::new().await, PushServer::http());
    set_webhook(&world, &server).await;
    away(&world, "bob", PushToken::webhook("phone")).await;
    let (ann, carl) = (world.user("ann").await, world.user("carl").await);
    let call = call(&ann, &carl, "rings").await;
    world.clock.advance(DELAY_MS);
    assert_eq!(title(&server.next().await), "rings");
    let push = PushConfig { title: "over".to_owned(), ..PushConfig::default() };
    let ends = CallEndConfig { push_config: Some(push), ..CallEndConfig::default() };
    soon(ann.call_end(&call, ends)).await.unwrap();
    world.clock.advance(DELAY_MS);
    let request = server.next().await;
    assert_eq!((title(&request).as_str(), &request.json()["data"]["kind"]), ("over", &json!("callEnd")));
    world.end().await;
}

#[tokio::test]
async fn a_member_who_leaves_while_a_push_waits_gets_none() {
    let (world, server) = (World::new().await, PushServer::http());
    set_webhook(&world, &server).await;
    away(&world, "bob", PushToken::webhook("phone")).await;
    let ann = world.user("ann").await;
    let info = GroupInfo { group_id: "crew".to_owned(), ..GroupInfo::default() };
    soon(ann.create_group(info, ["bob"], GroupAdvancedConfig::default())).await.unwrap();
    server.answer([PushAnswer::status(503)]);
    let (text, kind) = (Message::text("hi"), ConversationType::Group);
    let sent = ann.send_message(text, "crew", kind, titled("crew"), MessageSendNotification::default());
    soon(sent).await.unwrap();
    world.clock.advance(DELAY_MS);
    server.next().await;
    is_refused(&world, "bob", 1).await;
    soon(ann.kick_group_members(["bob"], "crew")).await.unwrap();
    world.clock.advance(BACK_OFF_MS);
    let row = becomes(&world, "bob", PushOutcome::Skipped).await;
    assert_eq!((row.detail.as_str(), server.waiting()), ("no longer a member", 0));
    world.end().await;
}

#[tokio::test]
async fn a_push_that_waits_beyond_its_time_is_too_late() {
    let (world, server) = (World::with(|config| config.push.valid_s = 60).await, PushServer::http());
    set_webhook(&world, &server).await;
    away(&world, "bob", PushToken::webhook("phone")).await;
    let ann = world.user("ann").await;
    server.answer([PushAnswer::status(503)]);
    send(&ann, "bob", "hi", titled("Ann")).await;
    world.clock.advance(DELAY_MS);
    server.next().await;
    is_refused(&world, "bob", 1).await;
    // Nobody comes to it in time.
    world.clock.advance(60_000 - DELAY_MS);
    let row = becomes(&world, "bob", PushOutcome::Skipped).await;
    assert_eq!((row.detail.as_str(), server.waiting()), ("too late", 0));
    world.end().await;
}

#[tokio::test]
async fn the_eighth_attempt_is_the_last() {
    let (world, server) = (World::new().await, PushServer::http());
    set_webhook(&world, &server).await;
    away(&world, "bob", PushToken::webhook("phone")).await;
    let ann = world.user("ann").await;
    server.answer([503; 9].map(PushAnswer::status));
    send(&ann, "bob", "hi", titled("Ann")).await;
    ann.quit().await;
    world.clock.advance(DELAY_MS);
    for attempt in 1..8 {
        server.next().await;
        let row = is_refused(&world, "bob", attempt).await;
        assert_eq!(row.outcome(), PushOutcome::Waiting, "{attempt}");
        world.clock.advance(row.next_at - world.clock.now_ms());
    }
    server.next().await;
    let row = becomes(&world, "bob", PushOutcome::Failed).await;
    assert_eq!((row.attempts, row.detail.as_str(), row.next_at), (8, "503", 0));
    world.end().await;
}

#[tokio::test]
async fn a_late_answer_that_the_device_is_gone_leaves_one_that_has_registered_again() {
    let (world, server) = (World::with(|config| config.push.timeout_ms = 25_000).await, PushServer::http());
    set_webhook(&world, &server).await;
    let phone = world.user("bob").await;
    let dir = phone.dir();
    soon(phone.register_push(PushToken::webhook("phone"))).await.unwrap();
    phone.quit().await;
    let ann = world.user("ann").await;
    let answers = Arc::new(Notify::new());
    server.answer([PushAnswer::status(410).when(&answers)]);
    send(&ann, "bob", "hi", titled("Ann")).await;
    world.clock.advance(DELAY_MS);
    server.next().await;
    world.clock.advance(1);
    let phone = world.user_at(dir, "bob").await;
    soon(phone.register_push(PushToken::webhook("phone"))).await.unwrap();
    answers.notify_one();
    becomes(&world, "bob", PushOutcome::Failed).await;
    assert_eq!(soon(phone.query_push_list()).await.unwrap().push_list.len(), 1);
    world.end().await;
}

#[tokio::test]
async fn remove_push_provider_names_whose_credentials_a_service_uses() {
    let (world, server) = (World::new().await, PushServer::http());
    set_webhook(&world, &server).await;
    let mut operator = world.admin().await;
    let (app_id, settings) = (world.app_id(), json!({"url": server.url("/push"), "secret": "0123456789abcdef"}));
    for (source, by) in [(PushSource::Huawei, "webhook"), (PushSource::ApnsVoip, "apns")] {
        let remove = zim_protocol::RemovePushProviderRequest { app_id, source: source as i32, app_type: 0 };
        let set = zim_protocol::SetPushProviderRequest {
            app_id,
            source: source as i32,
            app_type: 0,
            settings: settings.to_string(),
        };
        let refused = [
            soon(operator.remove_push_provider(remove)).await.unwrap_err(),
            soon(operator.set_push_provider(set)).await.unwrap_err(),
        ];
        for refused in refused {
            assert_eq!(refused.code(), tonic::Code::InvalidArgument);
            assert!(refused.message().contains(&format!("it uses those of {by}")), "{}", refused.message());
        }
    }
    // That of the webhook is still there.
    let list = zim_protocol::ListPushProvidersRequest { app_id };
    assert_eq!(soon(operator.list_push_providers(list)).await.unwrap().into_inner().providers.len(), 1);
    set_provider(&world, PushSource::Webhook, &settings).await;
    drop(operator);
    world.end().await;
}
