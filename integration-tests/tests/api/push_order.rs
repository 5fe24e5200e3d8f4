//! Pushes whose messages follow one another: none is sent after a later one.

use zim_client_sdk::PushToken;
use zim_integration_tests::{PushAnswer, PushServer, World, eventually, soon};
use zim_protocol::{MessageRevokeConfig, PushOutcome};

use crate::push_delivery::{away, log, send, set_webhook, title, titled};
use crate::push_meanwhile::{ends, is_refused_for_now};

const DELAY_MS: i64 = 2_000;
const BACK_OFF_MS: i64 = 5_000;

#[tokio::test]
async fn an_earlier_push_is_not_sent_after_a_later_one() {
    let server = PushServer::http();
    let world = World::new().await;
    set_webhook(&world, &server).await;
    away(&world, "bob", PushToken::webhook("phone")).await;
    let ann = world.user("ann").await;
    server.answer([PushAnswer::status(503)]);
    send(&ann, "bob", "1", titled("earlier")).await;
    world.clock.advance(DELAY_MS);
    assert_eq!(title(&server.next().await), "earlier");
    is_refused_for_now(&world, "bob").await;
    send(&ann, "bob", "2", titled("later")).await;
    world.clock.advance(DELAY_MS);
    assert_eq!(title(&server.next().await), "later");
    ends(&world, "bob", 2, "later").await;
    world.clock.advance(BACK_OFF_MS);
    let row = ends(&world, "bob", 2, "earlier").await;
    assert_eq!((row.outcome(), row.detail.as_str()), (PushOutcome::Skipped, "followed by a later one"));
    assert_eq!(server.waiting(), 0);
    world.end().await;
}

#[tokio::test]
async fn an_earlier_push_is_sent_if_the_later_one_never_is() {
    let server = PushServer::http();
    let world = World::new().await;
    set_webhook(&world, &server).await;
    away(&world, "bob", PushToken::webhook("phone")).await;
    let ann = world.user("ann").await;
    server.answer([PushAnswer::status(503), PushAnswer::status(503).header("retry-after", "60")]);
    send(&ann, "bob", "1", titled("earlier")).await;
    world.clock.advance(DELAY_MS);
    server.next().await;
    is_refused_for_now(&world, "bob").await;
    let later = send(&ann, "bob", "2", titled("later")).await;
    world.clock.advance(DELAY_MS);
    server.next().await;
    eventually("both wait", async || {
        log(&world, "bob", 2).await.iter().all(|row| row.detail.starts_with("503")).then_some(())
    })
    .await;
    // It waits for what becomes of the later one, and that is revoked.
    world.clock.advance(BACK_OFF_MS);
    eventually("the earlier one waits longer", async || {
        let rows = log(&world, "bob", 2).await;
        rows.iter().all(|row| row.next_at > world.clock.now_ms() + BACK_OFF_MS).then_some(())
    })
    .await;
    assert_eq!(server.waiting(), 0);
    soon(ann.revoke_message(&later, MessageRevokeConfig::default())).await.unwrap();
    world.clock.advance(61_000);
    // It may look before the later one has ended, and again a second later.
    eventually("a request", async || {
        world.clock.advance(1_000);
        (server.waiting() > 0).then_some(())
    })
    .await;
    assert_eq!(title(&server.next().await), "earlier");
    world.end().await;
}

/// A stream of messages, each made before the one ahead of it is sent, would otherwise never be pushed.
#[tokio::test]
async fn an_earlier_push_does_not_wait_for_a_later_one_for_ever() {
    let server = PushServer::http();
    let world = World::new().await;
    set_webhook(&world, &server).await;
    away(&world, "bob", PushToken::webhook("phone")).await;
    let ann = world.user("ann").await;
    server.answer([PushAnswer::status(503), PushAnswer::status(503).header("retry-after", "3600")]);
    send(&ann, "bob", "1", titled("earlier")).await;
    world.clock.advance(DELAY_MS);
    server.next().await;
    is_refused_for_now(&world, "bob").await;
    send(&ann, "bob", "2", titled("later")).await;
    world.clock.advance(DELAY_MS);
    server.next().await;
    eventually("a request", async || {
        world.clock.advance(1_000);
        (server.waiting() > 0).then_some(())
    })
    .await;
    assert_eq!(title(&server.next().await), "earlier");
    // That one waits for an hour.
    assert!(log(&world, "bob", 2).await.iter().any(|row| row.outcome() == PushOutcome::Waiting));
    world.end().await;
}

/// Its times are then later than those of what follows.
#[tokio::test]
async fn a_push_from_before_the_clock_was_set_back_is_no_later_one() {
    let server = PushServer::http();
    let world = World::new().await;
    set_webhook(&world, &server).await;
    away(&world, "bob", PushToken::webhook("phone")).await;
    let ann = world.user("ann").await;
    send(&ann, "bob", "1", titled("before")).await;
    world.clock.advance(DELAY_MS);
    assert_eq!(title(&server.next().await), "before");
    ends(&world, "bob", 1, "before").await;
    world.clock.jump(-3_600_000);
    send(&ann, "bob", "2", titled("after")).await;
    eventually("a request", async || {
        world.clock.advance(DELAY_MS);
        (server.waiting() > 0).then_some(())
    })
    .await;
    assert_eq!(title(&server.next().await), "after");
    world.end().await;
}
